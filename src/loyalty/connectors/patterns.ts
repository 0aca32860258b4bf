/** Patterns that settings of connectors share. They know no flags, so letters of either case are spelt out. */

const eitherCase = (word: string): string =>
  word.replaceAll(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`);

/** Names of headers, without those that the connection itself sets. */
export const headerName = `^(?!(${[
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'keep-alive',
  'upgrade',
  'expect',
  'te',
  'trailer',
  'assent-sequence',
  'idempotency-key',
]
  .map(eitherCase)
  .join('|')})$)[A-Za-z0-9!#$%&'*+.^_\`|~-]{1,100}$`;

/** One line of ASCII: nothing in it can begin another header. */
export const headerValue = '^[\\t\\x20-\\x7e]*$';

/** A secret that goes into a header. */
export const printable = '^[\\x21-\\x7e]+$';

/**
 * An address of http or https whose host is fixed and that has no user and password in it, which would be shown.
 * @param rest pattern of what comes after the host and a slash
 */
export const httpAddress = (rest: string): string => `^https?://[^\\s{}/?#@\\\\]+/${rest}$`;

/** An address without anything after its path: others are built on it. */
export const baseAddress = '^https?://[^\\s{}/?#@\\\\]+(/[^\\s{}?#]*[^\\s{}?#/])?$';
