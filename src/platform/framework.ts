/** What the web framework leaves to us: names for requests, and what it refuses by itself in terms of our own failures. */
import type { IncomingMessage } from 'node:http';
import { Failure } from './failure.ts';

/** `X-Request-Id` of a caller is kept when it is harmless, so that one id runs through all logs. */
const harmlessId = /^[\w.:-]{8,64}$/;
const instance = Math.random().toString(36).slice(2, 8);
let counter = 0;

/** The id of a request. */
export function requestId({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers['x-request-id'];
  if (typeof given === 'string' && harmlessId.test(given)) return given;
  counter += 1;
  return `${instance}-${counter.toString(36)}`;
}

/** An error that ended a request, as a failure: ours as it is, the framework's by its code, anything else is `internal`. */
export function failureOf(error: unknown, contentType: string | undefined): Failure {
  if (error instanceof Failure) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Failure('too_large', { values: { limit: '1 MiB' } });
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new Failure('malformed', { values: { detail: 'Content-Length' } });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new Failure('unsupported_media_type', { values: { type: contentType ?? '' } });
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new Failure('not_found');
    case 'ECONNRESET':
      // The client went away in the middle of its body (then the framework has set a status): nobody reads the answer.
      if ('statusCode' in (error as Error))
        return new Failure('malformed', { values: { detail: 'The body ends early.' } });
  }
  if (typeof code === 'string' && code.startsWith('FST_') && 'statusCode' in (error as Error)) {
    const { statusCode } = error as Error & { statusCode: number };
    if (statusCode >= 400 && statusCode < 500)
      return new Failure('malformed', { values: { detail: 'The request cannot be read.' } });
  }
  return new Failure('internal', { cause: error });
}

/** A path that exists, with the methods it knows. */
export interface Place {
  readonly shape: RegExp;
  readonly allow: string;
}

/** @param path with its parameters in braces */
export const placeOf = (path: string, allow: string): Place => ({
  shape: new RegExp(
    `^${path
      .replaceAll('.', '\\.')
      .replaceAll(/\{\w+\}/g, '[^/]+')
      .replace(/\/$/, '')}/?$`,
  ),
  allow,
});

/** Methods that some route somewhere has. */
export const served: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Why no route was found: nothing lies there, or no route anywhere has the method (PROPFIND, TRACE, …). */
export function strayFailure(
  { method, url }: { readonly method: string; readonly url: string },
  places: readonly Place[],
): Failure {
  const path = url.split('?', 1)[0]!;
  const place = served.includes(method) ? undefined : places.find(({ shape }) => shape.test(path));
  return place === undefined
    ? new Failure('not_found')
    : new Failure('method_not_allowed', { values: { method }, headers: { allow: place.allow } });
}
