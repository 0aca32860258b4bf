/** Errors as problem+json (RFC 9457), spoken by the BakerOnline dialect and by our own `/v1`. */
import type { Static, TSchema } from 'typebox';
import Compile from 'typebox/compile';
import type { Body } from './body.ts';
import { acceptsJson } from './drf.ts';
import { type Complaint, type Failure, fail, refuse } from './failure.ts';
import type { Answer, Answers, Dialect, Incoming } from './http.ts';
import { stringifyJson } from './json.ts';
import { say } from './language.ts';
import { ndjsonTypes } from './ndjson.ts';

/** JSON Pointer (RFC 6901) of a place in the body. */
const pointer = (path: readonly (string | number)[]): string =>
  path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');

/** The answer for a failure, in the reader's language. */
export function problem(failure: Failure, incoming: Incoming): Answer {
  const { language } = incoming;
  const title = say(language, { key: `title.${failure.status}` });
  const detail =
    failure.complaints.length > 0
      ? say(language, { key: 'error.see_errors', values: { count: failure.complaints.length } })
      : say(language, { key: `error.${failure.code}`, values: failure.values });
  return {
    status: failure.status,
    headers: {
      'content-type': 'application/problem+json',
      ...(failure.status === 503 ? { 'retry-after': '1' } : {}),
      ...(failure.status === 401
        ? { 'www-authenticate': `Bearer${failure.code === 'invalid_token' ? ' error="invalid_token"' : ''}` }
        : {}),
    },
    body: {
      type: `urn:assent:error:${failure.code}`,
      title,
      status: failure.status,
      detail,
      code: failure.code,
      request_id: incoming.id,
      ...(failure.complaints.length > 0
        ? {
            errors: failure.complaints.map((complaint) => ({
              pointer: pointer(complaint.path),
              code: complaint.key.split('.').at(-1),
              detail: say(language, complaint),
            })),
          }
        : {}),
    },
  };
}

/** Our own API. */
export const own: Dialect = {
  name: 'v1',
  jsonType: 'application/json',
  languages: ['en', 'tr', 'nl', 'fr'],
  prefixes: ['/v1'],
  reads: ['json'],
  describe: ({ allow }) => ({ status: 204, headers: { allow } }),
  accept(incoming, reads) {
    const { accept } = incoming.headers;
    if (acceptsJson(accept)) return;
    // A route that reads lines answers in lines; whoever asks for them alone has said so by the body's type.
    const types = accept!.toLowerCase().split(/[,;]/);
    if (!reads.includes('ndjson') || !types.some((type) => ndjsonTypes.includes(type.trim()))) fail('not_acceptable');
  },
  headers: (incoming) => ({
    vary: 'Accept-Language, Authorization, Cookie',
    'content-language': incoming.language,
    'cache-control': 'private, no-store',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'same-origin',
  }),
  refuse: problem,
  checkQuery: onlyKnown,
  stringify: stringifyJson,
};

const validators = new WeakMap<object, ReturnType<typeof Compile>>();

/** Which message says what a JSON Schema keyword found. */
function complain(error: { keyword: string; instancePath: string; params: object; message: string }): Complaint[] {
  const path = error.instancePath
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'required':
      return (params['requiredProperties'] as string[]).map((name) => ({
        path: [...path, name],
        key: 'field.required',
      }));
    case 'additionalProperties':
      return (params['additionalProperties'] as string[]).map((name) => ({
        path: [...path, name],
        key: 'field.unknown',
      }));
    case 'type':
      return [{ path, key: 'field.type', values: { type: String(params['type']) } }];
    case 'boolean':
      // TypeBox's own word for a key that `additionalProperties` has named already.
      return [];
    default:
      return [{ path, key: 'invalid.as_told', values: { detail: error.message } }];
  }
}

/**
 * Checks a value against its schema.
 * @param code what to fail with: `invalid` (400), or `unprocessable` (422) in the BakerOnline dialect
 * @throws that, with one complaint per place
 */
export function checkSchema(
  schema: TSchema | object,
  value: unknown,
  code: 'invalid' | 'unprocessable' = 'invalid',
): void {
  let validator = validators.get(schema);
  if (validator === undefined) {
    validator = Compile(schema as TSchema);
    validators.set(schema, validator);
  }
  if (validator.Check(value)) return;
  const complaints = validator.Errors(value).flatMap(complain);
  // A branch of a union complains for each of its members; the places are what the caller needs, once each.
  const places = new Map(complaints.map((complaint) => [`${pointer(complaint.path)} ${complaint.key}`, complaint]));
  fail(code, { complaints: [...places.values()].slice(0, 50) });
}

/** The body as its schema has it; no body is an empty one. @throws invalid */
export function readBody<S extends TSchema>(schema: S, { value }: Body): Static<S> {
  const given = value === undefined ? {} : value;
  checkSchema(schema, given);
  return given as Static<S>;
}

type Query = Incoming['query'];

/** A query parameter as text; absent is undefined. @throws invalid when it is repeated, empty or none of `values` */
export function queryText(query: Query, name: string, values?: readonly string[]): string | undefined {
  const value = query[name];
  if (value === undefined) return undefined;
  if (typeof value !== 'string') refuse({ path: [name], key: 'invalid.repeated' });
  if (value === '' || value.length > 1000) refuse({ path: [name], key: 'invalid.empty_or_long' });
  if (!value.isWellFormed() || value.includes('\0')) refuse({ path: [name], key: 'invalid.null_character' });
  if (values !== undefined && !values.includes(value))
    refuse({ path: [name], key: 'invalid.one_of', values: { values: values.join(', ') } });
  return value;
}

/** A query parameter as a whole number; absent is undefined. @throws invalid */
export function queryInteger(query: Query, name: string, min: number, max: number): number | undefined {
  const text = queryText(query, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d{1,16}$/.test(text) || value < min || value > max)
    refuse({ path: [name], key: 'invalid.between', values: { min: String(min), max: String(max) } });
  return value;
}

/** A query parameter as a moment (RFC 3339); absent is undefined. @throws invalid */
export function queryTime(query: Query, name: string): Date | undefined {
  const text = queryText(query, name);
  if (text === undefined) return undefined;
  const value = new Date(text);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text) || Number.isNaN(value.getTime()))
    refuse({ path: [name], key: 'invalid.time' });
  return value;
}

/** Refuses query parameters that a route does not know: a filter that is misspelt must not be a filter that is missing. */
function onlyKnown(query: Query, known: Readonly<Record<string, unknown>>): void {
  const stray = Object.keys(query).filter((name) => !Object.hasOwn(known, name));
  if (stray.length > 0) refuse(...stray.map((name) => ({ path: [name], key: 'field.unknown' })));
}

/** Characters of a reason. */
export const MAX_REASON = 500;

/**
 * Why somebody changes something, for the history: `Assent-Change-Reason`, where a call has no place for it in a body.
 * UTF-8; absent or blank is undefined.
 * @throws invalid: longer than 500 characters, or more than one line
 */
export function changeReason({ headers }: Incoming): string | undefined {
  const header = headers['assent-change-reason'];
  if (header === undefined || header.trim() === '') return undefined;
  const text = Buffer.from(header, 'latin1').toString('utf8').trim();
  if (text.length > MAX_REASON || /[\p{Cc}\u2028\u2029\uFFFD]/u.test(text))
    refuse({ path: ['Assent-Change-Reason'], key: 'field.reason', values: { max: MAX_REASON } });
  return text;
}

/** The id in a path. @throws not_found: what is no id names nothing */
export function pathId(params: Readonly<Record<string, string>>, name: string): number {
  const text = params[name] ?? '';
  const value = Number(text);
  return /^[1-9]\d{0,15}$/.test(text) && Number.isSafeInteger(value) ? value : fail('not_found');
}

const told: Record<number, string> = {
  400: 'A field or the body is not right; nothing was changed',
  401: 'The key or token is missing, wrong or over',
  403: 'Not allowed; the detail names what is missing',
  404: 'There is nothing of that id, or not for this caller',
  409: 'A rule stands against it; nothing was changed',
  412: 'It has changed since the ETag of If-Match; nothing was changed',
  413: 'The body is too large',
  415: 'The content type is none of ours',
  405: 'This path does not know the method; `Allow` names those it knows',
  406: 'No type that the client accepts is one of ours',
  422: 'Values that cannot be; each is named by its pointer, nothing was changed',
  429: 'Too many requests; `Retry-After` says when to try again',
  503: 'The database is away; `Retry-After` says when to try again',
};

const problemSchema = {
  title: 'Problem',
  type: 'object',
  description: 'RFC 9457',
  required: ['type', 'title', 'status', 'detail', 'code', 'request_id'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    code: { type: 'string' },
    request_id: { type: 'string' },
    errors: {
      type: 'array',
      items: {
        type: 'object',
        required: ['pointer', 'code', 'detail'],
        properties: { pointer: { type: 'string' }, code: { type: 'string' }, detail: { type: 'string' } },
      },
    },
  },
};

const exampleCodes: Record<number, string> = {
  400: 'invalid',
  401: 'invalid_token',
  403: 'missing_permission',
  404: 'not_found',
  405: 'method_not_allowed',
  406: 'not_acceptable',
  409: 'last_manager',
  412: 'precondition_failed',
  413: 'too_large',
  415: 'unsupported_media_type',
  422: 'unprocessable',
  429: 'throttled',
  503: 'database_away',
};

const problemExample = (status: number): object => {
  const code = exampleCodes[status] ?? 'internal';
  return {
    type: `urn:assent:error:${code}`,
    title: say('en', { key: `title.${status}` }),
    status,
    detail: told[status] ?? '',
    code,
    request_id: 'k2f9-3',
    ...(status === 422
      ? { errors: [{ pointer: '/shop_ids/1', code: 'foreign_shop', detail: 'Shop 99 is none of this company.' }] }
      : {}),
  };
};

/** The error answers of a route, for OpenAPI. */
export const problems = (...statuses: number[]): Answers =>
  Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: told[status] ?? String(status),
        schema: problemSchema,
        media: 'application/problem+json',
        example: problemExample(status),
      },
    ]),
  );
