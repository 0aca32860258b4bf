import { createHmac, timingSafeEqual } from 'node:crypto';
import Type from 'typebox';
import { basic } from '../../calls.ts';
import { baseAddress, codeOf, joined, objectOf, provider, type Report, refused, unreadable } from './provider.ts';

/**
 * Signature of a request of Twilio's: HMAC-SHA-1 under the auth token over the whole address, then each parameter's name
 * and value, sorted by name (https://www.twilio.com/docs/usage/security#validating-requests).
 */
export function twilioSignature(token: string, url: string, form: URLSearchParams): Buffer {
  // Gathered in one pass: whoever asks is not known yet, and may send thousands of names.
  const parameters = new Map<string, Set<string>>();
  for (const [name, value] of form) {
    const values = parameters.get(name);
    if (values === undefined) parameters.set(name, new Set([value]));
    else values.add(value);
  }
  const text = [...parameters.keys()].sort().map((name) =>
    [...parameters.get(name)!]
      .sort()
      .map((value) => name + value)
      .join(''),
  );
  return createHmac('sha1', token)
    .update(url + text.join(''))
    .digest();
}

/** The address as it was told, and without its port, which Twilio leaves out of some signatures. */
function spellings(url: string): string[] {
  const bare = url.replace(/^(https?:\/\/[^/?#]+?):\d+(?=[/?#]|$)/, '$1');
  return bare === url ? [url] : [url, bare];
}

const states: ReadonlyMap<unknown, Report['state']> = new Map([
  ['sent', 'sent'],
  ['delivered', 'delivered'],
  ['read', 'delivered'],
  ['failed', 'failed'],
  ['undelivered', 'failed'],
]);

/**
 * Twilio's Messages resource (https://www.twilio.com/docs/messaging/api/message-resource). Refusals go by the status
 * alone: Twilio asks that nothing be decided by its error codes, which change.
 */
export const twilio = provider({
  label: 'Twilio',
  schema: Type.Object(
    {
      provider: Type.Literal('twilio'),
      account_sid: Type.String({ pattern: '^AC[0-9a-fA-F]{32}$' }),
      auth_token: Type.String({ minLength: 1, maxLength: 200 }),
      /** A number, a short code, a sender's name, or a messaging service (`MG…`). */
      from: Type.String({ pattern: '^(\\+[1-9][0-9]{6,14}|[0-9]{3,8}|MG[0-9a-fA-F]{32}|[A-Za-z0-9 ]{1,11})$' }),
      url: baseAddress,
    },
    { additionalProperties: false },
  ),
  secrets: ['auth_token'],
  call({ account_sid, auth_token, from, url = 'https://api.twilio.com' }, { to, text, reports }) {
    const form = new URLSearchParams({
      To: to,
      [/^MG[0-9a-fA-F]{32}$/.test(from) ? 'MessagingServiceSid' : 'From']: from,
      Body: text,
      ...(reports === undefined ? {} : { StatusCallback: reports }),
    });
    return {
      method: 'POST',
      url: joined(url, `/2010-04-01/Accounts/${account_sid}/Messages.json`),
      headers: {
        authorization: basic(account_sid, auth_token),
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
      },
      body: form.toString(),
    };
  },
  read(_setting, answer) {
    const said = objectOf(answer);
    if (answer.status < 200 || answer.status > 299) return refused(answer, codeOf(said['code']));
    if (states.get(said['status']) === 'failed')
      return { taken: false, again: false, reason: `code ${codeOf(said['error_code']) ?? 'unknown'}` };
    return typeof said['sid'] === 'string' ? { taken: true, id: said['sid'] } : unreadable;
  },
  reports({ auth_token }, { url, headers, body }) {
    const form = new URLSearchParams(body);
    const given = Buffer.from(headers['x-twilio-signature'] ?? '', 'base64');
    const right = spellings(url).some((spelling) => {
      const expected = twilioSignature(auth_token, spelling, form);
      return given.length === expected.length && timingSafeEqual(given, expected);
    });
    if (!right) return undefined;
    const state = states.get(form.get('MessageStatus'));
    // Our own id, which is in the address: the answer that would have told us Twilio's may have been lost.
    const id = new URL(url).searchParams.get('message') ?? form.get('MessageSid');
    if (state === undefined || id === null) return [];
    const code = codeOf(form.get('ErrorCode'));
    return [{ id, state, ...(state === 'failed' ? { reason: `code ${code ?? 'unknown'}` } : {}) }];
  },
});
