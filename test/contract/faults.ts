/** Ways to be wrong: requests that a client of an operation might send by mistake or on purpose. */
import { gzipSync } from 'node:zlib';
import type { Sent } from '../kit.ts';
import type { Json, Operation } from './document.ts';

export interface Fault extends Sent {
  /** What is wrong, for the message of a failing test. */
  readonly what: string;
  readonly path?: string;
  /** Must not be taken from a caller who may call; the others may be mended by the dialect (DRF takes a number for a text). */
  readonly refused?: boolean;
  /** The exact status that a caller who may call gets. */
  readonly status?: number;
}

export const MIB = 1024 * 1024;
const json = { 'content-type': 'application/json' };
const form = { 'content-type': 'application/x-www-form-urlencoded' };
const deep = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`;

/** JSON of a body in which one field has this JSON text. */
const withField = (base: Json, name: string, text: string): string =>
  JSON.stringify({ ...base, [name]: '@@here@@' }).replace('"@@here@@"', () => text);

/** JSON texts that a field of this schema cannot have, in any dialect. */
function impossible(schema: Json): string[] {
  const types = [schema['type'] ?? []].flat() as string[];
  if (types.includes('string')) return ['{}', '[]', '[1]', '{"a":"b"}'];
  if (types.includes('boolean')) return ['{}', '[]', '"maybe"', '17', '1.5'];
  if (types.includes('integer')) return ['{}', '[]', '"twelve"', '1.5', 'true'];
  if (types.includes('array')) return ['{"a":1}', '"text"', '17', 'true'];
  if (types.includes('object')) return ['[1]', '"text"', '17', 'true'];
  return [];
}

/** What can be wrong with one field. */
function ofField(name: string, schema: Json, base: Json): Fault[] {
  const types = [schema['type'] ?? []].flat() as string[];
  const fault = (what: string, text: string, refused: boolean): Fault => ({
    what: `${name}: ${what}`,
    body: withField(base, name, text),
    headers: json,
    ...(refused ? { refused } : {}),
  });
  return [
    ...impossible(schema).map((text) => fault(`is ${text}`, text, true)),
    ...[
      'null',
      '""',
      '0',
      '-1',
      '17',
      'true',
      '1e308',
      '9007199254740993',
      '99999999999999999999999999',
      '" "',
      '"💥"',
    ].map((text) => fault(`is ${text}`, text, false)),
    fault('is 5000 digits long', '9'.repeat(5000), true),
    fault('is infinite', '1e400', true),
    fault('is NaN', 'NaN', true),
    fault('is nested 30 deep', deep(30), true),
    fault('is nested 100,000 deep', deep(100_000), true),
    fault('has NUL', '"a\\u0000b"', true),
    fault('has half a surrogate pair', '"\\ud800"', true),
    fault('has the other half', '["\\udc00x"]', true),
    ...(types.includes('string') ? [fault('is 20,000 characters long', JSON.stringify('x'.repeat(20_000)), true)] : []),
    { what: `${name}: comes twice in a form`, body: `${name}=1&${name}=2`, headers: form },
    { what: `${name}: is nested in a form`, body: `${name}[a][b]=1`, headers: form },
    { what: `${name}: is NUL in a form`, body: `${name}=%00`, headers: form, refused: true },
  ];
}

const boundary = { 'content-type': 'multipart/form-data; boundary=xyz' };
const part = (name: string, text: string): string =>
  `--xyz\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${text}\r\n`;

/** What can be wrong with a body as a whole, whatever its fields. */
function ofBody(base: Json, kinds: readonly string[]): Fault[] {
  const text = JSON.stringify(base);
  const malformed = [
    '{',
    '}',
    text.slice(0, -1),
    `${text},`,
    "{'a':1}",
    '{"a":}',
    '{"a":1,}',
    '{"a" 1}',
    '{"a":01}',
    '{"a":"\t"}',
    '{"a":"\\x"}',
    '\ufeff{}',
    'undefined',
    '   ',
  ];
  const takes = (kind: string): boolean => kinds.includes(kind);
  return [
    ...malformed.map(
      (body): Fault => ({ what: `malformed JSON ${body.slice(0, 20)}`, body, headers: json, status: 400 }),
    ),
    ...['null', '[]', '[{}]', '"text"', '17', 'true'].map(
      (body): Fault => ({ what: `the body is ${body}`, body, headers: json, refused: true }),
    ),
    { what: 'the body is nested 100,000 deep', body: deep(100_000), headers: json, status: 400 },
    { what: 'no body, JSON type', body: '', headers: json },
    { what: 'no body, no type' },
    { what: 'a key __proto__', body: `{"__proto__":{"polluted":1},${text.slice(1)}`, headers: json },
    { what: 'a key constructor', body: `{"constructor":{"prototype":{"polluted":1}},${text.slice(1)}`, headers: json },
    { what: 'a key with NUL', body: `{"a\\u0000":1,${text.slice(1)}`, headers: json, status: 400 },
    { what: 'a key of half a surrogate pair', body: `{"\\ud83d":1,${text.slice(1)}`, headers: json, status: 400 },
    { what: 'an unknown key', body: `{"no_such_field":1,${text.slice(1)}`, headers: json },
    { what: 'every key twice', body: `${text.slice(0, -1)},${text.slice(1)}`, headers: json },
    { what: '1 MiB and more', body: JSON.stringify({ ...base, padding: 'x'.repeat(MIB) }), headers: json, status: 413 },
    {
      what: 'bytes that are not UTF-8',
      body: Buffer.concat([Buffer.from('{"first_name":"'), Buffer.from([0xc3, 0x28, 0xff]), Buffer.from('"}')]),
      headers: json,
      status: 400,
    },
    { what: 'compressed', body: gzipSync(text), headers: { ...json, 'content-encoding': 'gzip' }, status: 415 },
    ...[
      'text/plain',
      'application/xml',
      'application/octet-stream',
      'nonsense',
      'a/b/c',
      '*/*',
      'application/json,text/html',
    ].map((type): Fault => ({ what: `type ${type}`, body: text, headers: { 'content-type': type }, status: 415 })),
    { what: 'an empty type', body: text, headers: { 'content-type': '' }, status: 415 },
    { what: 'UTF-16 promised', body: text, headers: { 'content-type': 'application/json; charset=utf-16' } },
    ...(takes('application/x-www-form-urlencoded')
      ? [
          'a=%zz',
          'a=%',
          'a=%ff%fe',
          'a[b][c][d][e][f][g][h]=1',
          Array.from({ length: 2000 }, (_, n) => `a${n}=1`).join('&'),
          '&'.repeat(5000),
        ].map(
          (body): Fault => ({
            what: `form ${body.slice(0, 20)}`,
            body,
            headers: form,
            ...(body.startsWith('&') ? {} : { refused: true }),
          }),
        )
      : [{ what: 'a form', body: 'a=1', headers: form, status: 415 }]),
    ...[
      '=',
      '[]=1',
      '[a]=1',
      'a[',
      'a]b[c=1',
      '__proto__[polluted]=1',
      'constructor[prototype][polluted]=1',
      'a[__proto__][polluted]=1',
      'a[constructor][prototype][polluted]=1',
      'a=1&a[b]=2',
      'a[99999999]=1',
    ].map((body): Fault => ({ what: `form ${body}`, body, headers: form })),
    ...(takes('multipart/form-data')
      ? [
          ['no boundary', { 'content-type': 'multipart/form-data' }, part('a', '1')],
          ['an empty body', boundary, ''],
          ['no part at all', boundary, 'nonsense'],
          ['a part without its end', boundary, part('first_name', 'Ada').slice(0, -4)],
          ['the last boundary cut off', boundary, `${part('first_name', 'Ada')}--xy`],
          [
            'a file without its end',
            boundary,
            '--xyz\r\nContent-Disposition: form-data; name="avatar"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG',
          ],
          ['300 parts', boundary, `${Array.from({ length: 300 }, (_, n) => part(`a${n}`, '1')).join('')}--xyz--\r\n`],
          ['a field of 100 KB', boundary, `${part('first_name', 'x'.repeat(100_000))}--xyz--\r\n`],
          ['NUL in a field', boundary, `${part('first_name', 'a\0b')}--xyz--\r\n`],
        ].map(
          ([what, headers, body]): Fault => ({
            what: `multipart: ${what as string}`,
            headers: headers as Record<string, string>,
            body,
            status: 400,
          }),
        )
      : [{ what: 'multipart', body: `${part('a', '1')}--xyz--\r\n`, headers: boundary, status: 415 }]),
    {
      what: 'multipart: a key __proto__',
      headers: boundary,
      body: `${part('__proto__', '1')}${part('constructor', '1')}--xyz--\r\n`,
    },
  ];
}

/** Headers that nobody should send, with an otherwise fine request. */
export const headerFaults: readonly Fault[] = [
  { what: 'a cookie that does not decode', headers: { cookie: 'sessionid=%zz; csrftoken=%' } },
  { what: 'a cookie header of nonsense', headers: { cookie: ';;==;__proto__=1; sessionid' } },
  { what: 'a long session', headers: { cookie: `sessionid=${'a'.repeat(5000)}` } },
  { what: 'Authorization without a key', headers: { authorization: 'Bearer' } },
  { what: 'Authorization with too many', headers: { authorization: 'Bearer a b c' } },
  { what: 'a token of nobody', headers: { authorization: 'Token aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' } },
  { what: 'a bearer of nobody', headers: { authorization: `Bearer ${'b'.repeat(40)}` } },
  { what: 'basic', headers: { authorization: 'Basic YTpi' } },
  { what: 'Accept: text/html', headers: { accept: 'text/html' } },
  { what: 'Accept of nonsense', headers: { accept: ';;,/,q=x' } },
  { what: 'Accept-Language of nonsense', headers: { 'accept-language': `undefined,${'x-'.repeat(400)};q=nonsense` } },
  { what: 'X-VERSION of nonsense', headers: { 'x-version': '__proto__' } },
  { what: 'If-Match of nonsense', headers: { 'if-match': 'W/"1", nonsense' } },
  { what: 'a foreign Origin', headers: { origin: 'https://evil.example' } },
  { what: 'X-Request-Id with a line', headers: { 'x-request-id': '<script>' } },
  { what: 'X-Forwarded of nonsense', headers: { 'x-forwarded-for': ',,,', 'x-forwarded-proto': 'gopher' } },
];

/** Queries that no route knows, or not like this. */
export const queryFaults: readonly string[] = [
  '?',
  '?=',
  '?&&',
  '?%zz=1',
  '?a=%',
  '?a=%ff',
  '?%00=%00',
  '?__proto__=1',
  '?constructor[prototype]=1',
  '?limit=1&limit=2',
  '?limit=abc',
  '?limit=0',
  '?limit=501',
  '?limit=99999999999999999999',
  '?limit=1e2',
  '?limit=',
  '?limit=-1',
  '?limit=1.5',
  '?after=abc',
  '?after=%00',
  '?after=0',
  '?account=abc',
  '?account=99999999999999999999',
  '?channel=fax',
  '?channel=',
  '?recipient=%00',
  '?email=%00',
  '?email=%f0%9f',
  '?phone=%',
  '?q=%27%3B--',
  '?q=%25',
  '?q=%5C',
  '?include=',
  '?include=nonsense',
  '?include=company_permissions&include=a',
  '?include[a]=b',
  `?q=${'x'.repeat(5000)}`,
  `?${'a=1&'.repeat(2000)}`,
];

/** What stands where an id or a name should. */
export const segmentFaults: readonly string[] = [
  '0',
  '-1',
  '1.0',
  '1e3',
  '01',
  '+1',
  'abc',
  '9'.repeat(30),
  '9223372036854775808',
  '9007199254740993',
  '%31%30%30%30%30%30%30',
  '%00',
  '%ff',
  '%zz',
  '%',
  '%D9%A1',
  '__proto__',
  'constructor',
  '..%2f..',
  '%2e%2e',
  '%20',
  '1%20',
  "1'--",
  '1;2',
  '💥',
  'x'.repeat(250),
  'x'.repeat(400),
  '%F0%9F%92',
  ':id',
  '{id}',
  '*',
];

/** Everything that can be wrong with the body of an operation. */
export function bodyFaults(
  operation: Operation,
  base: Json,
  properties: Readonly<Record<string, Json>>,
  readOnly: ReadonlySet<string>,
): Fault[] {
  const kinds = Object.keys(operation.body?.content ?? {});
  const fields = Object.entries(properties).flatMap(([name, schema]) => {
    const faults = ofField(name, schema, base).filter(
      ({ headers }) => headers === json || kinds.includes(headers!['content-type']!),
    );
    // Read-only ones are ignored, whatever they hold; what breaks a whole body still breaks it.
    return readOnly.has(name) ? faults.map(({ refused: _, ...fault }) => fault) : faults;
  });
  return [...fields, ...ofBody(base, kinds)];
}
