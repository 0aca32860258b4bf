/**
 * The Akinon dialect: answers shaped like Django REST Framework's, as measured on a real one (DRF 3.14) and kept by
 * clients: `{"field":["…"]}`, `{"detail":"…"}`, `non_field_errors`.
 */
import { type Body, UploadedFile } from './body.ts';
import { type Complaint, Failure, refuse } from './failure.ts';
import type { Answer, Answers, Dialect } from './http.ts';
import { stringifyJson } from './json.ts';
import { say } from './language.ts';

const media = { json: 'application/json', form: 'application/x-www-form-urlencoded', multipart: 'multipart/form-data' };

/** True when the client takes JSON: absent, `*` or a JSON type; a nonsense header (`undefined`) is no wish at all. */
export function acceptsJson(header: string | undefined): boolean {
  if (header === undefined || !header.includes('/')) return true;
  return header.split(',').some((part) => {
    const [type, ...parameters] = part.trim().toLowerCase().split(';');
    const refused = parameters.some((p) => /^\s*q=0(\.0*)?\s*$/.test(p));
    return (
      !refused &&
      (type === '*/*' || type === 'application/*' || type === 'application/json' || type === 'application/problem+json')
    );
  });
}

export const akinon: Dialect = {
  name: 'akinon',
  jsonType: 'application/json',
  languages: ['en', 'tr'],
  prefixes: ['/users', '/csrf_token', '/current_user'],
  reads: ['json', 'form', 'multipart'],
  describe: ({ summary, reads }) => ({
    status: 200,
    body: {
      name: summary,
      description: '',
      renders: ['application/json'],
      parses: reads.map((kind) => media[kind as keyof typeof media]),
    },
  }),
  accept(incoming) {
    if (!acceptsJson(incoming.headers['accept'])) throw new Failure('not_acceptable');
  },
  headers: (incoming) => ({
    vary: 'Accept-Language, Cookie',
    'content-language': incoming.language,
    'cache-control': 'private, no-store',
    'x-frame-options': 'DENY',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
  }),
  refuse(failure, incoming): Answer {
    const { language } = incoming;
    if (failure.complaints.length > 0) {
      const body: Record<string, string[]> = {};
      for (const complaint of failure.complaints) {
        const field = complaint.path.length === 0 ? 'non_field_errors' : String(complaint.path[0]);
        // Own property even for `__proto__`, which a client may well send.
        if (!Object.hasOwn(body, field)) Object.defineProperty(body, field, { value: [], enumerable: true });
        body[field]!.push(say(language, complaint));
      }
      return { status: failure.status, body };
    }
    const text = say(language, { key: `error.${failure.code}`, values: failure.values });
    if (failure.code === 'invalid_credentials') return { status: 400, body: { non_field_errors: [text] } };
    return {
      status: failure.status,
      body: { detail: text },
      ...(failure.status === 401 ? { headers: { 'www-authenticate': 'Token' } } : {}),
      ...(failure.status === 503 ? { headers: { 'retry-after': '1' } } : {}),
    };
  },
  stringify: stringifyJson,
};

/** The type a Python client would call it, as DRF's messages do. */
function pythonType(value: unknown): string {
  if (Array.isArray(value)) return 'list';
  if (typeof value === 'string') return 'str';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'bigint' || Number.isInteger(value)) return 'int';
  if (typeof value === 'number') return 'float';
  return 'dict';
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Either the value a field takes from the client's, or what is wrong with it. */
export type Reading<T> = { value: T } | { problem: string; values?: Record<string, string | number> };

export interface FieldKind<T> {
  /** JSON Schema of the field, for OpenAPI. */
  readonly schema: Record<string, unknown>;
  /** Takes an uploaded file; every other kind refuses one. */
  readonly file?: true;
  /** Texts that mean null where the field may be null. */
  readonly nulls?: ReadonlySet<string>;
  /** Reads a value that is present and not null. `form`: it came as text. */
  read(value: unknown, form: boolean): Reading<T>;
}

const problem = (key: string, values?: Record<string, string | number>): Reading<never> =>
  values === undefined ? { problem: key } : { problem: key, values };

const truths = new Set(['t', 'y', 'yes', 'true', 'on', '1']);
const lies = new Set(['f', 'n', 'no', 'false', 'off', '0']);

/** Text of at most `max` characters (code points), trimmed; numbers are taken as text. `blank`: may be empty. */
export const char = (max: number, { blank = false } = {}): FieldKind<string> => ({
  schema: { type: 'string', maxLength: max, ...(blank ? {} : { minLength: 1 }) },
  read(value) {
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'bigint')
      return problem('field.string');
    const text = String(value).trim();
    if (text === '' && !blank) return problem('field.blank');
    // Cheap bound first: a code point is at most two units.
    if (text.length > max && (text.length > 2 * max || [...text].length > max))
      return problem('field.max_length', { max });
    return { value: text };
  },
});

export const boolean: FieldKind<boolean> = {
  schema: { type: 'boolean' },
  nulls: new Set(['', 'null', 'Null', 'NULL']),
  read(value) {
    if (typeof value === 'boolean') return { value };
    if (value === 1 || value === 0) return { value: value === 1 };
    if (typeof value === 'string') {
      const word = value.trim().toLowerCase();
      if (truths.has(word)) return { value: true };
      if (lies.has(word)) return { value: false };
    }
    return problem('field.boolean');
  },
};

/** A calendar day `YYYY-MM-DD`; one-digit months and days are taken. */
export const date: FieldKind<string> = {
  schema: { type: 'string', format: 'date' },
  read(value) {
    const match = typeof value === 'string' ? /^(\d{4})-(\d{1,2})-(\d{1,2})$/.exec(value) : null;
    if (match === null) return problem('field.date');
    const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
    const parsed = new Date(Date.UTC(2000, month - 1, day));
    parsed.setUTCFullYear(year, month - 1, day);
    if (year < 1 || parsed.getUTCMonth() !== month - 1 || parsed.getUTCDate() !== day) return problem('field.date');
    return { value: `${match[1]}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}` };
  },
};

export const choice = <const T extends string>(...values: T[]): FieldKind<T> => ({
  schema: { type: 'string', enum: values },
  read(value) {
    if (values.includes(value as T)) return { value: value as T };
    const shown = typeof value === 'string' ? value : (stringifyJson(value) ?? '');
    return problem('field.choice', { value: shown.slice(0, 100) });
  },
});

/** A whole number between `min` and `max`; digits as text are taken, fractions and booleans are not. */
export const integer = (min: bigint, max: bigint): FieldKind<bigint> => ({
  schema: { type: 'integer', minimum: Number(min), maximum: max },
  read(value) {
    let number: bigint;
    if (typeof value === 'bigint') number = value;
    else if (typeof value === 'number' && Number.isInteger(value)) number = BigInt(value);
    else if (typeof value === 'string' && /^\s*[+-]?\d{1,1000}(\.0+)?\s*$/.test(value))
      number = BigInt(value.trim().replace(/\.0+$/, '').replace(/^\+/, ''));
    else return problem('field.integer');
    if (number < min) return problem('field.min_value', { min: String(min) });
    if (number > max) return problem('field.max_value', { max: String(max) });
    return { value: number };
  },
});

/** An address as people type it; deliberately no stricter than the mail systems are (RFC 5321 lengths). */
export const email: FieldKind<string> = {
  schema: { type: 'string', format: 'email', maxLength: 254 },
  read(value) {
    if (typeof value !== 'string') return problem('field.string');
    const text = value.trim();
    if (text === '') return problem('field.blank');
    if (
      text.length > 254 ||
      // Folded it is compared and indexed: some letters become eighteen.
      text.normalize('NFKC').length > 254 ||
      !/^[^\s@"(),:;<>[\\\]]{1,64}@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.)+[\p{L}\p{N}-]{2,63}$/u.test(
        text,
      )
    ) {
      return problem('field.email');
    }
    return { value: text };
  },
};

/** An object; in a form it may come as JSON text. */
export const dict: FieldKind<Record<string, unknown>> = {
  schema: { type: 'object', additionalProperties: true },
  read(value, form) {
    let given = value;
    if (form && typeof value === 'string') {
      try {
        given = JSON.parse(value);
      } catch {
        return problem('field.dict', { type: 'str' });
      }
    }
    return isObject(given)
      ? { value: given }
      : problem('field.dict', { type: given === null ? 'NoneType' : pythonType(given) });
  },
};

export interface FieldRule {
  readonly name: string;
  readonly kind: FieldKind<unknown>;
  readonly nullable?: boolean;
  readonly required?: boolean;
}

/**
 * Reads an object of fields as a DRF serializer does: all complaints at once, in the order of the rules; unknown keys
 * are passed over; absent optional fields are absent in the result.
 * @param partial PATCH: nothing is required
 * @param more complaints about the values that could be read, told together with the others
 * @throws invalid
 */
export function readFields(
  body: Body,
  rules: readonly FieldRule[],
  partial = false,
  more?: (values: Readonly<Record<string, unknown>>) => Complaint[],
): Record<string, unknown> {
  const given = readObject(body);
  const form = body.kind === 'form' || body.kind === 'multipart';
  const values: Record<string, unknown> = {};
  const complaints: Complaint[] = [];
  for (const { name, kind, nullable, required } of rules) {
    let value = Object.hasOwn(given, name) ? given[name] : undefined;
    if (value === undefined) {
      if (required && !partial) complaints.push({ path: [name], key: 'field.required' });
      continue;
    }
    if (nullable && ((form && value === '') || (typeof value === 'string' && kind.nulls?.has(value)))) value = null;
    if (value === null) {
      if (nullable) values[name] = null;
      else complaints.push({ path: [name], key: 'field.null' });
      continue;
    }
    const reading: Reading<unknown> =
      value instanceof UploadedFile && kind.file === undefined ? problem('field.string') : kind.read(value, form);
    if ('problem' in reading) {
      complaints.push({
        path: [name],
        key: reading.problem,
        ...(reading.values === undefined ? {} : { values: reading.values }),
      });
    } else {
      values[name] = reading.value;
    }
  }
  const found = more?.(values) ?? [];
  if (found.length > 0) {
    const place = new Map<unknown, number>(rules.map(({ name }, index) => [name, index]));
    complaints.push(...found);
    complaints.sort((a, b) => place.get(a.path[0])! - place.get(b.path[0])!);
  }
  if (complaints.length > 0) refuse(...complaints);
  return values;
}

/** The body as an object. @throws invalid under `non_field_errors`, in DRF's words */
function readObject(body: Body): Record<string, unknown> {
  if (body.value === undefined) return {};
  if (body.value === null) refuse({ path: [], key: 'field.no_data' });
  if (!isObject(body.value)) refuse({ path: [], key: 'field.not_object', values: { type: pythonType(body.value) } });
  return body.value;
}

const told: Record<number, string> = {
  400: 'A field or the body is not right; nothing was changed',
  401: 'Nobody is signed in',
  403: 'The CSRF check failed',
  404: 'There is nothing of that name',
  405: 'This path does not know the method; `Allow` names those it knows',
  406: 'No type that the client accepts is one of ours',
  412: 'The profile has changed since the ETag of If-Match; nothing was changed',
  413: 'The body is too large',
  415: 'The content type is none of ours',
  429: 'Too many requests; `Retry-After` says when to try again',
  503: 'The database is away; `Retry-After` says when to try again',
};
const details: Record<number, unknown> = {
  400: { first_name: ['This field may not be blank.'] },
  401: { detail: 'Authentication credentials were not provided.' },
  403: { detail: 'CSRF Failed: CSRF token missing.' },
  404: { detail: 'Not found.' },
  405: { detail: 'Method "DELETE" not allowed.' },
  406: { detail: 'Could not satisfy the request Accept header.' },
  412: { detail: 'The profile has changed meanwhile.' },
  413: { detail: 'The body is larger than 1 MiB.' },
  415: { detail: 'Unsupported media type "text/plain" in request.' },
  429: { detail: 'Request was throttled. Expected available in 60 seconds.' },
  503: { detail: 'The service cannot reach its database for the moment. Try again shortly.' },
};

/** The error answers of a route, for OpenAPI. 405, 406 and 503 are everywhere and added by the generator. */
export const refusals = (...statuses: number[]): Answers =>
  Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: told[status] ?? String(status),
        schema:
          status === 400
            ? {
                title: 'FieldErrors',
                type: 'object',
                description:
                  'Texts by field; `non_field_errors` for the whole, `detail` for a body that cannot be read',
                additionalProperties: { anyOf: [{ type: 'array', items: { type: 'string' } }, { type: 'string' }] },
              }
            : { title: 'Detail', type: 'object', required: ['detail'], properties: { detail: { type: 'string' } } },
        example: details[status],
      },
    ]),
  );
