/** Patterns that settings of connectors share. */
import { headerNames } from '../../calls.ts';

export { headerValue } from '../../calls.ts';

/** Names of headers, without those that the connection or a connector itself sets. */
export const headerName = headerNames('assent-sequence', 'idempotency-key');

/** A secret that goes into a header. */
export const printable = '^[\\x21-\\x7e]+$';

/**
 * An address of http or https whose host is fixed and that has no user and password in it, which would be shown.
 * @param rest pattern of what comes after the host and a slash
 */
export const httpAddress = (rest: string): string => `^https?://[^\\s{}/?#@\\\\]+/${rest}$`;

/** An address without anything after its path: others are built on it. */
export const baseAddress = '^https?://[^\\s{}/?#@\\\\]+(/[^\\s{}?#]*[^\\s{}?#/])?$';
