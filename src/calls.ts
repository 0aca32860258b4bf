/**
 * What we ask of others by HTTP, as plain data. SMS providers and loyalty connectors only say what to send and what an
 * answer means; who sends, waits, repeats and gives up is the same for all (`platform/outgoing.ts`).
 */
import { createHmac } from 'node:crypto';

export interface HttpCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case; of repeated ones the first. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The first 64 KiB, as text. */
  readonly body: string;
}

/** An answer's body as JSON; undefined when it is none. */
export function jsonOf({ body }: HttpAnswer): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

export const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

const eitherCase = (word: string): string =>
  word.replaceAll(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);

/**
 * Pattern of the names of headers that a setting may name, without those that the connection itself sets. It knows no flags,
 * so letters of either case are spelt out.
 * @param ours names that we set ourselves, in lower case
 */
export const headerNames = (...ours: readonly string[]): string =>
  `^(?!(${[
    'host',
    'connection',
    'content-length',
    'transfer-encoding',
    'keep-alive',
    'upgrade',
    'expect',
    'te',
    'trailer',
    ...ours,
  ]
    .map(eitherCase)
    .join('|')})$)[A-Za-z0-9!#$%&'*+.^_\`|~-]{1,100}$`;

/** Pattern of a header's value. One line of ASCII: nothing in it can begin another header. */
export const headerValue = '^[\\t\\x20-\\x7e]*$';

export type Encoding = 'json' | 'form' | 'url' | 'none';

const encoders: Readonly<Record<Encoding, (text: string) => string>> = {
  // The quotes around it are the template's.
  json: (text) => JSON.stringify(text).slice(1, -1),
  form: encodeURIComponent,
  url: encodeURIComponent,
  // Of a header: nothing that could begin another one, or that none can hold.
  none: (text) => text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, ' '),
};

/**
 * Fills `{name}` places of a template, each value encoded for where it stands so that none can leave its place. A name
 * that is not known stays as it is: JSON has braces too.
 */
export const fill = (template: string, values: Readonly<Record<string, string>>, encoding: Encoding): string =>
  template.replaceAll(/\{(\w+)\}/g, (place, name: string) =>
    Object.hasOwn(values, name) ? encoders[encoding](values[name]!) : place,
  );

/** The key that a secret stands for: after `whsec_` comes base64, as Standard Webhooks has it; any other is used as it is. */
export const signingKey = (secret: string): Buffer =>
  secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : Buffer.from(secret);

/**
 * Signs a call as Standard Webhooks does: HMAC-SHA-256 over id, time and body, so that a gateway of one's own can tell our
 * calls from others and refuses old ones.
 * @param id of the message; stays the same when it is repeated
 * @param at when this attempt is made
 */
export function signedHeaders(secret: string, id: string, at: Date, body: string): Record<string, string> {
  const timestamp = String(Math.floor(at.getTime() / 1000));
  const signature = createHmac('sha256', signingKey(secret)).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}
