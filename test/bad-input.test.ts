/**
 * Bad input, generated from the OpenAPI document: whatever is sent to whichever operation by whomever, the answer is a
 * documented one in the dialect's shape, never a 5xx, and a refused request leaves every row as it was.
 */

import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { apiDocument } from '../src/app.ts';
import { errors } from '../src/errors.ts';
import { stringifyJson } from '../src/platform/json.ts';
import { throttleScopes } from '../src/settings.ts';
import { createCompany } from '../src/staff/companies.ts';
import { permissionKeys } from '../src/staff/permissions.ts';
import { answerSchema, compiler, type Json, type Operation, operationsOf } from './contract/document.ts';
import { bodyFaults, type Fault, headerFaults, MIB, queryFaults, segmentFaults } from './contract/faults.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply, type Send, type Sent } from './kit.ts';

const document = JSON.parse(stringifyJson(apiDocument())) as Json;
const operations = operationsOf(document);
const ajv = compiler(document);
const each = operations.map((operation) => [operation.name, operation] as const);
const operationOf = (id: string): Operation => operations.find((operation) => operation.id === id)!;

type Actor = 'guest' | 'customer' | 'bearer' | 'key';
const actors: readonly Actor[] = ['guest', 'customer', 'bearer', 'key'];

let kit: Kit;
let customer: Client;
let colleague: string;
const send = {} as Record<Actor, Send>;
let made: Awaited<ReturnType<typeof createCompany>>;
let entry: number;

beforeAll(async () => {
  kit = await createKit({ level: 'warn' });
  // Limits are tested elsewhere; here each request must reach what it is about.
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  customer = await kit.signUp();
  const owner = await kit.signUp();
  made = await createCompany(kit.ctx, {
    name: { en: 'Usta' },
    owner: owner.email,
    shops: [{ en: 'One' }, { en: 'Two' }],
    language: 'en',
  });
  send.guest = kit.send;
  send.customer = (...request) => customer.send(...request);
  send.bearer = await kit.bearer(owner.email);
  send.key = await kit.apiKey('*');
  colleague = (await kit.signUp()).email;
  const { body } = await send.bearer('POST', `/company/companies/${made.id}/permissions/users`, {
    body: { email: colleague },
  });
  entry = body.id;
});

afterAll(async () => {
  await kit?.close();
});

/** Who is let in by an operation. */
function allowed({ security }: Operation): Actor {
  const schemes = security.flatMap((item) => Object.keys(item));
  if (schemes.includes('ApiKey')) return 'key';
  if (schemes.includes('Bearer')) return 'bearer';
  return security.some((item) => 'SessionCookie' in item) ? 'customer' : 'guest';
}

/** A path that names what exists; removing is aimed at nothing, because a removed entry would be missed by the next request. */
const pathOf = ({ path, id }: Operation): string => {
  const values: Record<string, string | number> = {
    id: path.startsWith('/company') ? made.id : customer.id,
    user_permission_id: id === 'deleteUserPermission' ? 999_999 : entry,
    name: 'SMS_OTP_EXPIRE_TIME',
  };
  return path.replaceAll(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? 1));
};

/** A body that is right; absent for operations without one. Others than these start from the document's example. */
function baseOf({ id, body }: Operation): Json {
  const bases: Record<string, Json> = {
    login: { email: customer.email, password: PASSWORD },
    changePassword: { old_password: PASSWORD, new_password1: PASSWORD, new_password2: PASSWORD },
    requestEmailChange: { email: 'somewhere.else@example.com', password: PASSWORD },
    createUserPermission: { email: colleague },
    updateUserPermission: { shop_ids: made.shops.map((shop) => shop.id), permissions: { products: true } },
    createToken: { grant_type: 'password', client_id: 'kit', username: made.owner, password: PASSWORD },
    changeSetting: { value: 180 },
  };
  return bases[id] ?? (body?.content['application/json']?.example as Json | undefined) ?? {};
}

const propertiesOf = ({ body }: Operation): Record<string, Json> => {
  const schema = body?.content['application/json']?.schema as
    | { $ref?: string; properties?: Record<string, Json> }
    | undefined;
  const components = (document['components'] as { schemas: Record<string, { properties?: Record<string, Json> }> })
    .schemas;
  return (schema?.$ref === undefined ? schema : components[schema.$ref.split('/').at(-1)!])?.properties ?? {};
};

/** Named by the document although a body may not set them, or not in this request. */
const passedOver: Record<string, readonly string[]> = {
  profile: ['id', 'email', 'genders', 'date_joined'],
  createToken: ['refresh_token'],
  confirmPasswordReset: ['uid'],
  changeSetting: ['value'],
};
const readOnlyOf = ({ id, path }: Operation): ReadonlySet<string> =>
  new Set(passedOver[path.startsWith('/users/profile') ? 'profile' : id] ?? []);

const faultsOf = (operation: Operation): Fault[] => [
  ...(operation.body === undefined
    ? []
    : bodyFaults(operation, baseOf(operation), propertiesOf(operation), readOnlyOf(operation))),
  ...headerFaults.map((fault) => ({ ...(operation.body === undefined ? {} : { body: baseOf(operation) }), ...fault })),
  ...queryFaults.map((query) => ({ what: `query ${query.slice(0, 40)}`, path: pathOf(operation) + query })),
  ...(operation.path.includes('{')
    ? segmentFaults.map((segment) => ({
        what: `${segment.slice(0, 40)} in the path`,
        path: operation.path.replace(/\{\w+\}(?!.*\{)/, () => segment).replace(/\{\w+\}/, String(made.id)),
        refused: true,
      }))
    : []),
];

// ---- Judging an answer ----

/** One line that changes whenever a row of what people own changes. */
async function digest(): Promise<string> {
  const tables = [
    'account',
    'entry',
    'setting',
    'setting_change',
    'consent_event',
    'consent_state',
    'contact_point',
    'basket_consent',
    'mail_link',
    'company',
    'shop',
  ];
  const all = tables.map((table) => `select '${table} ' || t::text as line from ${table} t`).join(' union all ');
  const [row] = await kit.rows<{ digest: string }>(
    `select md5(coalesce(string_agg(line, '|' order by line), '')) as digest from (${all}) x`,
  );
  return row!.digest;
}

/** What is wrong with the shape of an error; undefined when nothing is. */
function misshapen(dialect: Operation['dialect'], { status, headers, body, text }: Reply): string | undefined {
  if (/node_modules|\.ts:\d|select .* from|\bat (async )?\w+ \(/i.test(text)) return 'it tells about the inside';
  if (dialect === 'akinon') {
    if (headers['content-type'] !== 'application/json') return `type ${headers['content-type']}`;
    const entries = Object.entries(body as object);
    const isDetail = entries.length === 1 && entries[0]![0] === 'detail' && typeof entries[0]![1] === 'string';
    const isFields =
      entries.length > 0 &&
      entries.every(
        ([, texts]) =>
          Array.isArray(texts) && texts.length > 0 && texts.every((item) => typeof item === 'string' && item !== ''),
      );
    return isDetail || (status === 400 && isFields) ? undefined : 'not as DRF answers';
  }
  if (headers['content-type'] !== 'application/problem+json') return `type ${headers['content-type']}`;
  const { type, code, request_id, errors: places, ...rest } = body;
  const keys = Object.keys(body);
  if (
    keys.slice(0, 6).join() !== 'type,title,status,detail,code,request_id' ||
    !['', 'errors'].includes(keys.slice(6).join())
  )
    return `members ${keys}`;
  if (
    rest.status !== status ||
    errors[code as keyof typeof errors]?.status !== status ||
    type !== `urn:assent:error:${code}`
  )
    return 'code and status differ';
  if (request_id !== headers['x-request-id'] || rest.title === '' || rest.detail === '') return 'an empty member';
  if (/^(error|title)\.\w+$/m.test(`${rest.title}\n${rest.detail}`)) return 'a text is missing';
  const complete = (place: Json): boolean =>
    Object.keys(place).join() === 'pointer,code,detail' &&
    /^(\/|$)/.test(place['pointer'] as string) &&
    place['detail'] !== '';
  return places === undefined || (places.length > 0 && places.every(complete)) ? undefined : 'incomplete errors';
}

/** Everything wrong with an answer of an operation; empty when it is as documented. */
function faultsIn(operation: Operation, reply: Reply): string[] {
  const { status, text, headers } = reply;
  if (status >= 500) return ['a 5xx'];
  const documented = operation.responses[status];
  if (documented === undefined) return ['a status that is not documented'];
  const media = Object.keys(documented.content ?? {})[0];
  if (media === undefined) return text === '' ? [] : ['a body that is not documented'];
  const wrong: string[] = [];
  if (String(headers['content-type']).split(';')[0] !== media) wrong.push(`type ${headers['content-type']}`);
  const check = answerSchema(ajv, operation, String(status), media);
  if (!check(reply.body)) wrong.push(`off its schema: ${ajv.errorsText(check.errors)}`);
  if (status >= 400) wrong.push(...[misshapen(operation.dialect, reply) ?? []].flat());
  if (status === 401 && headers['www-authenticate'] === undefined) wrong.push('no WWW-Authenticate');
  if (status === 405 && headers['allow'] === undefined) wrong.push('no Allow');
  return wrong;
}

let before = '';

/** Sends, judges, and says what was wrong in one line a fault; nothing when all is well. */
async function attempt(
  operation: Operation,
  actor: Actor,
  { what, path, refused, status, ...sent }: Fault,
): Promise<string[]> {
  before ||= await digest();
  const reply = await send[actor](operation.method, path ?? pathOf(operation), sent as Sent);
  const wrong = faultsIn(operation, reply);
  const may = actor === allowed(operation);
  if (may && status !== undefined && reply.status !== status) wrong.push(`not ${status}`);
  if (may && refused && reply.status < 400) wrong.push('taken');
  const after = await digest();
  if (after !== before) {
    if (reply.status >= 400 || operation.method === 'GET') wrong.push('rows have changed');
    before = after;
  }
  // Signing in or out, or a new password, ends the session that was used.
  if (reply.status < 400 && actor === 'customer' && /login|logout|Password/.test(operation.id))
    customer = await kit.signIn(customer.email);
  return wrong.map((fault) => `${actor}, ${what}: ${fault} (${reply.status} ${reply.text.slice(0, 300)})`);
}

// ---- Every operation, every fault ----

test.each(each)('%s answers all that is wrong as documented', async (_name, operation) => {
  const wrong: string[] = [];
  for (const fault of faultsOf(operation)) wrong.push(...(await attempt(operation, allowed(operation), fault)));
  expect(wrong).toEqual([]);
});

test('anybody sending anything anywhere gets a documented answer and changes nothing', async () => {
  const attack = fc.constantFrom(...operations).chain((operation) =>
    fc.record({
      operation: fc.constant(operation),
      actor: fc.constantFrom(...actors),
      fault: fc.constantFrom(...faultsOf(operation)),
      // Two mistakes at once: the order of checks must not open a hole.
      headers: fc.option(fc.constantFrom(...headerFaults), { freq: 3, nil: undefined }),
      query: fc.option(fc.constantFrom(...queryFaults), { freq: 3, nil: undefined }),
    }),
  );
  const property = fc.asyncProperty(attack, async ({ operation, actor, fault, headers, query }) => {
    const mixed = {
      ...fault,
      what: [fault.what, headers?.what, query].filter(Boolean).join(' + '),
      path: (fault.path ?? pathOf(operation)) + (query === undefined || fault.path?.includes('?') ? '' : query),
      headers: { ...headers?.headers, ...fault.headers },
      refused: false,
    };
    const { status: _, ...anyStatus } = mixed as Fault;
    expect(await attempt(operation, actor, anyStatus)).toEqual([]);
  });
  await fc.assert(property, { numRuns: 800 });
});

test('any JSON at all in place of a body or a field gets a documented answer', async () => {
  const value = fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' });
  const withBody = operations.filter(({ body }) => body !== undefined);
  const attack = fc.constantFrom(...withBody).chain((operation) => {
    const names = Object.keys(propertiesOf(operation));
    const some = fc.dictionary(names.length > 0 ? fc.constantFrom(...names) : fc.string(), value, {
      maxKeys: 4,
      noNullPrototype: true,
    });
    const mended = some.map((fields) => ({ ...baseOf(operation), ...fields }));
    return fc.record({
      operation: fc.constant(operation),
      actor: fc.constantFrom(...actors),
      body: fc.oneof(mended, mended, some, value),
    });
  });
  const property = fc.asyncProperty(attack, async ({ operation, actor, body }) => {
    const fault = {
      what: JSON.stringify(body),
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    };
    expect(await attempt(operation, actor, fault)).toEqual([]);
  });
  await fc.assert(property, { numRuns: 500 });
});

// ---- Methods and paths ----

const paths = Map.groupBy(operations, ({ path }) => path);

test.each([...paths])('%s answers other methods with 405 and Allow', async (path, known) => {
  const methods = known.map(({ method }) => method);
  const allow = [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ');
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((candidate) => !methods.includes(candidate))) {
    const operation = { ...known[0]!, method };
    const reply = await send[allowed(known[0]!)](method, pathOf(operation), method === 'GET' ? {} : { body: { a: 1 } });
    expect([method, reply.status, reply.headers['allow']]).toEqual([method, 405, allow]);
    expect(faultsIn(operation, reply), `${method} ${path}`).toEqual([]);
  }
  const options = await send[allowed(known[0]!)]('OPTIONS', pathOf(known[0]!));
  expect([options.status < 300, options.headers['allow']]).toEqual([true, allow]);
});

test.each([
  ['/users/nothing/', 'akinon'],
  ['/users/profile/more/', 'akinon'],
  ['/users/profile/%zz', 'akinon'],
  ['/users/%00', 'akinon'],
  ['/csrf_token/x', 'akinon'],
  ['/company/nothing', 'bakeronline'],
  ['/company/companies/1/%ff', 'bakeronline'],
  ['/user/x', 'bakeronline'],
  ['/api/nothing', 'bakeronline'],
  ['/v1/nothing', 'v1'],
  ['/v1/settings/%zz', 'v1'],
  ['/v1/__proto__', 'v1'],
  ['/nothing', 'v1'],
  ['/%', 'v1'],
  ['/..%2f..%2fetc/passwd', 'v1'],
  [`/${'x'.repeat(3000)}`, 'v1'],
] as const)('nothing lies at %s, and it is said as %s says it', async (path, dialect) => {
  for (const method of ['GET', 'POST', 'DELETE']) {
    const reply = await kit.send(method, path, method === 'POST' ? { body: { a: 1 } } : {});
    expect([method, reply.status, misshapen(dialect, reply)]).toEqual([method, 404, undefined]);
  }
});

// ---- What is right is taken ----

const words = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
  .map((text) => text.trim())
  .filter((text) => text !== '');
const attributes = fc.dictionary(
  fc.string({ minLength: 1, maxLength: 10 }).filter((key) => key !== '__proto__'),
  fc.oneof(words, fc.boolean(), fc.integer(), fc.constant(null)),
  {
    maxKeys: 4,
    noNullPrototype: true,
  },
);
let addresses = 0;
const newEmail = fc.constant(0).map(() => `right${(addresses += 1)}@example.com`);
const password = fc.string({ unit: 'grapheme-ascii', minLength: 12, maxLength: 60 }).map((text) => `Zk!${text}`);
const basket = fc.oneof(
  fc.integer({ min: 1 }),
  fc.maxSafeNat().map((number) => number + 1),
);

/** What the schema cannot say of a field: which texts are numbers of phones, which shops are ours. */
const meant: Record<string, fc.Arbitrary<unknown>> = {
  language_code: fc.constantFrom('tr', 'en-us', 'pt_BR', 'nl'),
  phone: fc.constantFrom(null, '', '05321234567', '+31 6 12345678'),
  'updateProfileWithLoyalty.phone': fc.constant(null),
  'partialUpdateProfileWithLoyalty.phone': fc.constant(null),
  code: fc.constant(null),
  avatar: fc.constant(null),
  attributes,
  email: newEmail,
  password,
  token: words,
  basket,
  'register.basket': fc.constant(null),
  'register.uid': fc.constant(null),
  'register.password1': fc.constant(undefined),
  'register.password2': fc.constant(undefined),
  owner: newEmail,
  name: fc.dictionary(fc.constantFrom('en', 'tr', 'nl', 'fr'), words, { minKeys: 1, noNullPrototype: true }),
  shops: fc.array(fc.dictionary(fc.constantFrom('en', 'tr'), words, { noNullPrototype: true }), { maxLength: 3 }),
  shop_ids: fc.array(fc.nat(1), { maxLength: 6 }).map((indexes) => indexes.map((index) => made.shops[index]!.id)),
  permissions: fc.dictionary(fc.constantFrom(...permissionKeys), fc.boolean(), { noNullPrototype: true }),
  'changeSetting.value': fc.integer({ min: 0, max: 86_400 }),
};

function right(schema: Json): fc.Arbitrary<unknown> {
  if (Array.isArray(schema['enum'])) return fc.constantFrom(...(schema['enum'] as unknown[]));
  const of: Record<string, fc.Arbitrary<unknown>> = {
    null: fc.constant(null),
    boolean: fc.boolean(),
    integer: fc.maxSafeInteger(),
    string:
      schema['format'] === 'date'
        ? fc
            .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
            .map((day) => day.toISOString().slice(0, 10))
        : words,
    array: fc.array(fc.jsonValue(), { maxLength: 3 }),
    object: attributes,
  };
  return fc.oneof(...([schema['type'] ?? []].flat() as string[]).map((type) => of[type]!));
}

describe('what the document allows is taken', () => {
  // Operations that need a mailed token or somebody's password have their own tests.
  const taken: readonly (readonly [string, number])[] = [
    ['updateProfile', 40],
    ['partialUpdateProfile', 60],
    ['updateProfileWithLoyalty', 20],
    ['partialUpdateProfileWithLoyalty', 20],
    ['updateUserPermissions', 60],
    ['register', 8],
    ['requestPasswordReset', 4],
    ['createUserPermission', 10],
    ['updateUserPermission', 40],
    ['revokeToken', 10],
    ['changeSetting', 10],
    ['createCompany', 15],
  ];

  test.each(taken)('%s', async (id, numRuns) => {
    const operation = operationOf(id);
    const properties = propertiesOf(operation);
    const schema = operation.body!.content['application/json']!.schema as { $ref?: string; required?: string[] };
    const components = (document['components'] as { schemas: Record<string, { required?: string[] }> }).schemas;
    const required = (schema.$ref === undefined ? schema : components[schema.$ref.split('/').at(-1)!]!).required ?? [];
    // USER_REQUIRED_FIELDS of a fresh installation.
    const must = id.startsWith('updateProfile')
      ? ['first_name', 'last_name']
      : id === 'register'
        ? ['email', 'password']
        : required;
    const fields = Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [
        name,
        meant[`${id}.${name}`] ?? (readOnlyOf(operation).has(name) ? undefined : meant[name]) ?? right(property),
      ]),
    );
    const bodies = fc.record(fields, { requiredKeys: must, noNullPrototype: true });
    await fc.assert(
      fc.asyncProperty(bodies, async (body) => {
        const reply = await send[id === 'register' ? 'guest' : allowed(operation)](
          operation.method,
          pathOf(operation),
          { body: JSON.stringify(body) },
        );
        expect([reply.status < 300, reply.status, reply.text.slice(0, 300)]).toEqual([
          true,
          reply.status,
          expect.any(String),
        ]);
        expect(faultsIn(operation, reply)).toEqual([]);
      }),
      { numRuns },
    );
    before = '';
  });
});
