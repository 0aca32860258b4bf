/** The one exception of the domain. What it means on the wire is the row of its code in `errors.ts` and the dialect's business. */
import { type ErrorCode, errors } from '../errors.ts';

/** A message by its key in the catalogues, with the values to put into it. */
export interface Message {
  readonly key: string;
  readonly values?: Record<string, string | number>;
}

/** One complaint about one place in the input: `path` is `['permissions', 'products']`, empty for the whole. */
export interface Complaint extends Message {
  readonly path: readonly (string | number)[];
}

interface FailureOptions {
  readonly values?: Record<string, string | number>;
  readonly complaints?: readonly Complaint[];
  readonly headers?: Record<string, string>;
  readonly cause?: unknown;
}

export class Failure extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly values: Record<string, string | number>;
  readonly complaints: readonly Complaint[];
  readonly headers: Record<string, string>;

  constructor(code: ErrorCode, options: FailureOptions = {}) {
    super(code, { cause: options.cause });
    this.code = code;
    this.status = errors[code].status;
    this.values = options.values ?? {};
    this.complaints = options.complaints ?? [];
    this.headers = options.headers ?? {};
  }
}

/** Throws the failure of this code: `fail('not_found')`. */
export function fail(code: ErrorCode, options: FailureOptions = {}): never {
  throw new Failure(code, options);
}

/** Throws `invalid` with one complaint per place. */
export function refuse(...complaints: Complaint[]): never {
  throw new Failure('invalid', { complaints });
}

/** Something asked for at the machine cannot be. The message is a whole sentence. */
export class CommandError extends Error {}
