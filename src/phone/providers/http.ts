import { timingSafeEqual } from 'node:crypto';
import Type, { type Static } from 'typebox';
import { fill, type HttpCall, headerNames, headerValue, jsonOf, signedHeaders } from '../../calls.ts';
import { codeOf, type Message, objectOf, provider, type Report, refused, unreadable } from './provider.ts';

/** Seconds that a report's time may be off: what is older may be somebody's recording. */
const FRESH = 300;

const schema = Type.Object(
  {
    provider: Type.Literal('http'),
    method: Type.Optional(Type.Enum(['GET', 'POST', 'PUT', 'PATCH'])),
    // No user and password in it, which would be shown.
    url: Type.String({ pattern: '^https?://[^\\s/?#@{}\\\\]+([/?][^\\s#]*)?$', maxLength: 2000 }),
    headers: Type.Optional(
      Type.Record(Type.String({ pattern: headerNames() }), Type.String({ maxLength: 2000, pattern: headerValue }), {
        additionalProperties: false,
        maxProperties: 30,
      }),
    ),
    /** How values are put into the body: inside quotes of JSON, or as values of a form. */
    format: Type.Optional(Type.Enum(['json', 'form'])),
    body: Type.Optional(Type.String({ maxLength: 10_000 })),
    secret: Type.Optional(Type.String({ minLength: 1, maxLength: 1000 })),
    /** Signs what we send, and proves the reports that come back. */
    signing_secret: Type.Optional(Type.String({ minLength: 16, maxLength: 200 })),
    /** What an answer of 2xx must say for the message to be taken: a field, by dots, and its value. */
    taken: Type.Optional(
      Type.Object(
        {
          field: Type.String({ minLength: 1, maxLength: 200 }),
          value: Type.Union([Type.String({ maxLength: 200 }), Type.Number(), Type.Boolean()]),
          /** Values of the field that mean: never. */
          never: Type.Optional(Type.Array(Type.Union([Type.String({ maxLength: 200 }), Type.Number()]))),
        },
        { additionalProperties: false },
      ),
    ),
    /** Field of the answer, by dots, that holds the gateway's own name of the message. */
    id_field: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
  },
  { additionalProperties: false },
);

/** `data.0.id`: what lies there; undefined where nothing does. */
const at = (value: unknown, path: string): unknown =>
  path
    .split('.')
    .reduce<unknown>(
      (inner, name) =>
        typeof inner === 'object' && inner !== null && Object.hasOwn(inner, name)
          ? (inner as Record<string, unknown>)[name]
          : undefined,
      value,
    );

/** Fills the templates, each value encoded for where it stands. */
function filled(setting: Static<typeof schema>, { id, to, text, at: now, reports = '' }: Message): HttpCall {
  const { method = 'POST', format = 'json', signing_secret } = setting;
  const values = { to, digits: to.slice(1), text, id, reports, secret: setting.secret ?? '' };
  const body = method === 'GET' ? undefined : fill(setting.body ?? '', values, format);
  const type = format === 'json' ? 'application/json' : 'application/x-www-form-urlencoded';
  return {
    method,
    url: fill(setting.url, values, 'url'),
    headers: {
      ...(body === undefined ? {} : { 'content-type': type }),
      ...Object.fromEntries(
        Object.entries(setting.headers ?? {}).map(([name, value]) => [name.toLowerCase(), fill(value, values, 'none')]),
      ),
      ...(signing_secret === undefined ? {} : signedHeaders(signing_secret, id, now, body ?? '')),
    },
    ...(body === undefined ? {} : { body }),
  };
}

/** Whether a report is signed as `signedHeaders` signs, and fresh. */
function proven(secret: string, headers: Readonly<Record<string, string | undefined>>, body: string, now: Date) {
  const seconds = Number(headers['webhook-timestamp']);
  if (!(Math.abs(now.getTime() / 1000 - seconds) <= FRESH)) return false;
  const right = signedHeaders(secret, headers['webhook-id'] ?? '', new Date(seconds * 1000), body);
  const expected = Buffer.from(right['webhook-signature']!);
  // Several, while a secret is being replaced.
  return (headers['webhook-signature'] ?? '').split(' ').some((signature) => {
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

/**
 * Any gateway: a request by templates with the places {to} (E.164), {digits} (without the plus), {text}, {id} (the same
 * when it is repeated), {secret} and {reports} (address for delivery reports). Reports are ours to define:
 * `{"id","state":"sent|delivered|failed","reason"}`, signed with Standard Webhooks' headers.
 */
export const http = provider({
  label: 'HTTP: any gateway, by a template',
  schema,
  secrets: ['secret', 'signing_secret'],
  call: filled,
  read({ taken, id_field }, answer) {
    if (answer.status < 200 || answer.status > 299) return refused(answer);
    const said = jsonOf(answer);
    if (taken !== undefined) {
      const value = at(said, taken.field);
      if (value === undefined) return unreadable;
      const reason = `answer ${codeOf(value) ?? 'not as it should be'}`;
      if (value !== taken.value)
        return { taken: false, again: taken.never?.some((never) => never === value) !== true, reason };
    }
    const id = id_field === undefined ? undefined : at(said, id_field);
    return { taken: true, id: typeof id === 'string' || typeof id === 'number' ? String(id).slice(0, 200) : null };
  },
  reports({ signing_secret }, { headers, body, at: now }) {
    if (signing_secret === undefined || !proven(signing_secret, headers, body, now)) return undefined;
    const { id, state, reason } = objectOf({ status: 200, headers: {}, body });
    if (typeof id !== 'string' || (state !== 'sent' && state !== 'delivered' && state !== 'failed')) return [];
    const report: Report = { id, state };
    return [state === 'failed' ? { ...report, reason: codeOf(reason) ?? 'told by the gateway' } : report];
  },
});
