/**
 * Bad input, generated from the OpenAPI document: whatever is sent to whichever operation by whomever, the answer is a
 * documented one in the dialect's shape, never a 5xx, and a refused request leaves every row as it was.
 */

import { type AddressInfo, connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../src/accounts/operator-events.ts';
import { apiDocument } from '../src/app.ts';
import { errors } from '../src/errors.ts';
import { createClient } from '../src/oauth/clients.ts';
import { stringifyJson } from '../src/platform/json.ts';
import { throttleScopes } from '../src/settings.ts';
import { createCompany } from '../src/staff/companies/companies.ts';
import { permissionKeys } from '../src/staff/permissions.ts';
import { answerSchema, compiler, type Json, type Operation, operationsOf } from './contract/document.ts';
import { bodyFaults, type Fault, headerFaults, MIB, queryFaults, segmentFaults } from './contract/faults.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply, type Send, type Sent } from './kit.ts';

const document = JSON.parse(stringifyJson(apiDocument())) as Json;
const operations = operationsOf(document);
const ajv = compiler(document);
const each = operations.map((operation) => [operation.name, operation] as const);
const operationOf = (id: string): Operation => operations.find((operation) => operation.id === id)!;

type Actor = 'guest' | 'customer' | 'bearer' | 'key' | 'operator';
const actors: readonly Actor[] = ['guest', 'customer', 'bearer', 'key', 'operator'];

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
  // Not the browser of the kit: a cookie that an answer takes back is sent again, or all that follows would be a guest's.
  const byCookies =
    (client: () => Client): Send =>
    (method, path, sent = {}) => {
      const { cookies } = client();
      const cookie = [...cookies].map(([key, value]) => `${key}=${value}`).join('; ');
      return kit.send(method, path, {
        ...sent,
        headers: { cookie, 'x-csrftoken': cookies.get('csrftoken')!, ...sent.headers },
      });
    };
  send.customer = byCookies(() => customer);
  let operator = await kit.operator();
  send.operator = async (method, path, sent) => {
    const reply = await byCookies(() => operator)(method, path, sent);
    // A sign-in that one of the requests has ended is missed by the next.
    if (
      reply.status < 400 &&
      (await kit.send('GET', '/current_user/', { headers: { authorization: `Token ${operator.key}` } })).status === 401
    )
      operator = await kit.signIn(operator.email);
    return reply;
  };
  send.bearer = await kit.bearer(owner.email);
  send.key = await kit.apiKey('*');
  await createClient(kit.ctx, { id: 'spare', name: 'Spare' }, atTheMachine);
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
function allowed({ id, security }: Operation): Actor {
  // The document cannot say whose cookie.
  if (id === 'createApiKey' || id === 'revokeOperator') return 'operator';
  const schemes = security.flatMap((item) => Object.keys(item));
  if (schemes.includes('ApiKey')) return 'key';
  if (schemes.includes('Bearer')) return 'bearer';
  return security.some((item) => 'SessionCookie' in item) ? 'customer' : 'guest';
}

/** What ends sign-ins of an account, or a key: the tests need those of theirs. */
const ending = new Set([
  'endAccountSessions',
  'unlinkAccountIdentity',
  'removeAccountSecondFactor',
  'voidAccountPassword',
  'revokeOperator',
  'revokeApiKey',
]);

/** A path that names what exists; removing is aimed at nothing, because a removed entry would be missed by the next request. */
const pathOf = ({ path, id }: Operation): string => {
  const values: Record<string, string | number> = {
    id: path.startsWith('/company') ? made.id : ending.has(id) ? 999_999 : customer.id,
    user_permission_id: id === 'deleteUserPermission' ? 999_999 : entry,
    name: 'SMS_OTP_EXPIRE_TIME',
    client: 'spare',
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
    changeClient: { name: 'Spare' },
    changeAccount: { active: true },
    registerWithTokens: {
      client_id: 'kit',
      username: 'lotte@example.com',
      password: PASSWORD,
      firstname: 'L',
      lastname: 'P',
    },
    forgotPassword: { client_id: 'kit', username: colleague },
    changePasswordWithTokens: {
      grant_type: 'password',
      client_id: 'kit',
      username: colleague,
      password: PASSWORD,
      new_password: PASSWORD,
    },
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
  // What another grant reads.
  createToken: ['refresh_token', 'code', 'code_verifier', 'redirect_uri'],
  confirmPasswordReset: ['uid'],
  changeSetting: ['value'],
};
const readOnlyOf = ({ id, path }: Operation): ReadonlySet<string> =>
  new Set(passedOver[path.startsWith('/users/profile') ? 'profile' : id] ?? []);

/** Each of these hashes a password when its body is right: one slip in five that may be mended is enough. */
const costly = new Set([
  'login',
  'changePassword',
  'requestEmailChange',
  'requestPasswordReset',
  'register',
  'createToken',
  'registerWithTokens',
  'forgotPassword',
  'resetPassword',
  'changePasswordWithTokens',
]);
/** Bodies of whatever type, refused for want of a signature before anybody reads them. */
const signed = new Set(['reportSms', 'takeLoyaltyMessage']);
const faultsOf = (operation: Operation): Fault[] =>
  allFaultsOf(operation).filter(
    ({ refused, status }, index) => refused || status !== undefined || index % 5 === 0 || !costly.has(operation.id),
  );

/** Two dots are taken out of an address before it is sent: what is left is then the address of another operation. */
const leadsElsewhere = ({ method, path }: Operation): boolean => {
  const rest = path.replace(/\/[^/]+\/\{\w+\}$/, '');
  return operations.some((other) => other.method === method && other.path === rest);
};

const allFaultsOf = (operation: Operation): Fault[] => [
  ...(operation.body === undefined
    ? []
    : bodyFaults(operation, baseOf(operation), propertiesOf(operation), readOnlyOf(operation))),
  ...headerFaults.map((fault) => ({ ...(operation.body === undefined ? {} : { body: baseOf(operation) }), ...fault })),
  ...queryFaults.map((query) => ({ what: `query ${query.slice(0, 40)}`, path: pathOf(operation) + query })),
  ...(operation.path.includes('{')
    ? segmentFaults
        .filter((segment) => segment !== '%2e%2e' || !leadsElsewhere(operation))
        .map((segment) => ({
          what: `${segment.slice(0, 40)} in the path`,
          path: pathOf({ ...operation, path: operation.path.replace(/\{\w+\}(?!.*\{)/, '@') }).replace(
            '@',
            () => segment,
          ),
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
    'oauth_client',
    'api_key',
    'operator_event',
    'accepted_policy',
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
  // The last two for clients of OAuth, where tokens are given.
  const keys = Object.keys(body).filter((key) => key !== 'error' && key !== 'error_description');
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
  const type = String(headers['content-type']).split(';')[0]!;
  const medias = Object.keys(documented.content ?? {});
  const media = medias.includes(type) ? type : medias[0];
  if (media === undefined) return text === '' ? [] : ['a body that is not documented'];
  const wrong: string[] = [];
  if (type !== media) wrong.push(`type ${headers['content-type']}`);
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
  if (may && status !== undefined && reply.status !== status && !signed.has(operation.id)) wrong.push(`not ${status}`);
  if (may && refused && reply.status < 400) wrong.push('taken');
  const after = await digest();
  if (after !== before) {
    if (reply.status >= 400 || operation.method === 'GET') wrong.push('rows have changed');
    before = after;
  }
  // Signing in or out, or a new password, ends the session that was used.
  if (reply.status < 400 && actor === 'customer' && /login|logout|Password/.test(operation.id)) {
    customer = await kit.signIn(customer.email);
    before = '';
  }
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
  await fc.assert(property, { numRuns: 500 });
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
  await fc.assert(property, { numRuns: 300 });
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
const newEmail = fc.constant(0).map(() => {
  addresses += 1;
  return `right${addresses}@example.com`;
});
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
  // A number under way waits between two codes.
  resend: fc.constant(false),
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
  shops: fc.array(fc.dictionary(fc.constantFrom('en', 'tr'), words, { minKeys: 1, noNullPrototype: true }), {
    maxLength: 3,
  }),
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

// ---- The nastiest, by name ----

describe('exactly', () => {
  const json = { 'content-type': 'application/json' };
  const patch = (body: string | Buffer, headers: Record<string, string> = json): Promise<Reply> =>
    send.customer('PATCH', '/users/profile/', { body, headers });
  const stored = async (): Promise<unknown> =>
    (await kit.rows('select first_name, attributes, avatar, version from account where id = $1', customer.id))[0];

  test.each([
    [
      '__proto__ in attributes',
      '{"attributes":{"a":{"__proto__":{"polluted":1}}}}',
      { attributes: ['The key "__proto__" cannot be used.'] },
    ],
    ['NUL in attributes', '{"attributes":{"a":["b\\u0000"]}}', { attributes: ['Null characters are not allowed.'] }],
    [
      'half a surrogate pair as a key',
      '{"attributes":{"\\udfff":1}}',
      { attributes: ['This text contains half of a surrogate pair; send whole characters.'] },
    ],
    [
      'an integer that loses digits',
      '{"attributes":{"a":9007199254740993}}',
      { attributes: ['A number is too large to be kept exactly; send it as text.'] },
    ],
    [
      'a number beyond all numbers',
      '{"attributes":{"a":1e400}}',
      { detail: "JSON parse error - Out of range float values are not JSON compliant: '1e400'" },
    ],
    [
      '21 levels',
      `{"a":${'['.repeat(20)}${']'.repeat(20)}}`,
      { detail: 'JSON parse error - Nesting is deeper than 20 levels' },
    ],
    [
      'a body that ends early',
      '{"first_name":"Eve"',
      { detail: "JSON parse error - Expecting ',' delimiter: line 1 column 20 (char 19)" },
    ],
    ['a list', '[]', { non_field_errors: ['Invalid data. Expected a dictionary, but got list.'] }],
    [
      'two fields at once',
      '{"first_name":{},"gender":"none"}',
      { first_name: ['Not a valid string.'], gender: ['"none" is not a valid choice.'] },
    ],
  ])('%s', async (_name, body, answer) => {
    const row = await stored();
    const reply = await patch(body);
    expect([reply.status, reply.body, await stored()]).toEqual([400, answer, row]);
  });

  test('20 levels are read, in an unknown key they are passed over', async () => {
    const reply = await patch(`{"a":${'['.repeat(19)}${']'.repeat(19)}}`);
    expect([reply.status, reply.headers['assent-ignored']]).toEqual([200, 'a']);
  });

  test('of a key that comes twice the last counts, as in Django', async () => {
    expect((await patch('{"first_name":"One","first_name":"Two"}')).body.first_name).toBe('Two');
    const reply = await patch('{"first_name":"Three","first_name":[]}');
    expect([reply.status, reply.body]).toEqual([400, { first_name: ['Not a valid string.'] }]);
    expect(await stored()).toMatchObject({ first_name: 'Two' });
  });

  test('constructor and prototype are keys like any other', async () => {
    const attributes = {
      constructor: { prototype: { polluted: 1 } },
      prototype: 1,
      toString: 'text',
      hasOwnProperty: null,
    };
    expect((await patch(JSON.stringify({ attributes }))).body.attributes).toEqual(attributes);
    expect((await send.customer('GET', '/users/profile/')).body.attributes).toEqual(attributes);
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });

  test('1 MiB is read and one byte more is not, whatever is in it', async () => {
    const padded = (bytes: number): string => `{"first_name":"Big"${' '.repeat(bytes - 20)}}`;
    expect([padded(MIB).length, (await patch(padded(MIB))).status]).toEqual([MIB, 200]);
    const refused = await patch(padded(MIB + 1).replace('Big', 'New'));
    expect([refused.status, refused.body]).toEqual([413, { detail: 'The body is larger than 1 MiB.' }]);
    const own = await send.key('PUT', '/v1/settings/SMS_OTP_EXPIRE_TIME', { body: padded(MIB + 1) });
    expect([own.status, own.body.code]).toEqual([413, 'too_large']);
    const baker = await send.bearer('POST', '/api/token', { form: `grant_type=${'x'.repeat(MIB)}` });
    expect([baker.status, baker.body.code]).toEqual([413, 'too_large']);
    expect(await stored()).toMatchObject({ first_name: 'Big' });
  });

  test('a compressed bomb is not opened', async () => {
    const bomb = gzipSync(Buffer.alloc(50 * MIB, 32));
    const reply = await patch(bomb, { ...json, 'content-encoding': 'gzip' });
    expect([reply.status, reply.body]).toEqual([415, { detail: 'Unsupported media type "gzip" in request.' }]);
  });

  test('a picture cut off in transit leaves the profile as it was', async () => {
    const row = await stored();
    const body =
      '--b\r\nContent-Disposition: form-data; name="first_name"\r\n\r\nEve\r\n--b\r\nContent-Disposition: form-data; name="avatar"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG';
    const reply = await patch(Buffer.from(body, 'latin1'), { 'content-type': 'multipart/form-data; boundary=b' });
    expect([reply.status, Object.keys(reply.body), await stored()]).toEqual([400, ['detail'], row]);
    expect(reply.body.detail).toMatch(/^Multipart form parse error - /);
  });

  test('a basket is a bigint of the database, and no more', async () => {
    const post = (basket: string): Promise<Reply> =>
      send.guest('POST', '/users/permissions/', { body: `{"uid":"u","basket":${basket},"sms_allowed":true}` });
    expect((await post('9223372036854775807')).status).toBe(200);
    expect(await kit.rows('select basket::text, value from basket_consent where basket > 9007199254740993')).toEqual([
      { basket: '9223372036854775807', value: true },
    ]);
    expect([(await post('9223372036854775808')).body, (await post('0')).body, (await post('1.5')).body]).toEqual([
      { basket: ['Ensure this value is less than or equal to 9223372036854775807.'] },
      { basket: ['Ensure this value is greater than or equal to 1.'] },
      { basket: ['A valid integer is required.'] },
    ]);
  });

  test('a form cannot reach the prototype of a permission', async () => {
    const path = pathOf(operationOf('updateUserPermission'));
    const held = await send.bearer('GET', path);
    for (const form of ['permissions[__proto__]=1', 'permissions[constructor]=1', 'permissions[hasOwnProperty]=1']) {
      const reply = await send.bearer('PATCH', path, { form });
      const key = /\[(\w+)\]/.exec(form)![1]!;
      // qs drops __proto__ before anybody can follow it: nothing is left to change.
      if (key === '__proto__') expect([reply.status, reply.body]).toEqual([200, held.body]);
      else
        expect([reply.status, reply.body.errors.map(({ pointer }: { pointer: string }) => pointer)]).toEqual([
          422,
          [`/permissions/${key}`],
        ]);
    }
    expect((await send.bearer('GET', path)).body).toEqual(held.body);
  });

  test('a type that is no type is an unsupported one, in each dialect', async () => {
    const headers = { 'content-type': 'nonsense' };
    const akinon = await patch('{}', headers);
    expect([akinon.status, akinon.body]).toEqual([415, { detail: 'Unsupported media type "nonsense" in request.' }]);
    const own = await send.key('PUT', '/v1/settings/SMS_OTP_EXPIRE_TIME', { body: '{"value":1}', headers });
    expect([own.status, own.body.code]).toEqual([415, 'unsupported_media_type']);
  });
});

describe('over a socket', () => {
  let port: number;
  beforeAll(async () => {
    await kit.http.listen({ port: 0, host: '127.0.0.1' });
    port = (kit.http.server.address() as AddressInfo).port;
  });

  /** Sends bytes as they are, ends, and returns all that comes back. */
  const raw = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      let answer = '';
      const socket = connect(port, '127.0.0.1', () => socket.end(text, 'latin1'));
      socket.setEncoding('utf8');
      socket.on('data', (chunk: string) => {
        answer += chunk;
      });
      socket.on('close', () => resolve(answer));
      socket.on('error', (error: NodeJS.ErrnoException) =>
        error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(answer) : reject(error),
      );
    });
  const head = 'Host: shop.example\r\nConnection: close\r\n';
  const status = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);

  test.each([
    ['a percent sign without digits in the path', `GET /users/%zz/ HTTP/1.1\r\n${head}\r\n`, 404],
    ['a percent sign without digits in the query', `GET /csrf_token/?a=%zz HTTP/1.1\r\n${head}\r\n`, 200],
    ['bytes that are not UTF-8 in the path', `GET /users/%ff%fe/ HTTP/1.1\r\n${head}\r\n`, 404],
    ['an address in absolute form', `GET http://evil.example/csrf_token/ HTTP/1.1\r\n${head}\r\n`, 200],
    ['a method nobody knows', `BREW /users/profile/ HTTP/1.1\r\n${head}\r\n`, 400],
    ['a method we do not serve', `PROPFIND /users/profile/ HTTP/1.1\r\n${head}\r\n`, 405],
    ['a method we do not serve, nowhere', `PROPFIND /users/nothing/ HTTP/1.1\r\n${head}\r\n`, 404],
    [
      'two lengths',
      `POST /users/permissions/ HTTP/1.1\r\n${head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`,
      400,
    ],
    [
      'length and chunks',
      `POST /users/permissions/ HTTP/1.1\r\n${head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ['20 KB of headers', `GET /users/profile/ HTTP/1.1\r\n${head}X-Long: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
  ])('%s', async (_name, text, expected) => {
    expect(status(await raw(text))).toBe(expected);
  });

  test('chunks beyond 1 MiB are refused while they come', async () => {
    const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
    const answer = await raw(
      `POST /users/permissions/ HTTP/1.1\r\n${head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(17)}0\r\n\r\n`,
    );
    expect(status(answer)).toBe(413);
  });

  test('a client that goes away in the middle of its body changes nothing', async () => {
    const row = await digest();
    const cookie = [...customer.cookies].map(([key, value]) => `${key}=${value}`).join('; ');
    const csrf = customer.cookies.get('csrftoken')!;
    await raw(
      `PATCH /users/profile/ HTTP/1.1\r\n${head}Cookie: ${cookie}\r\nX-CSRFToken: ${csrf}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"first_name":"Eve"}`,
    );
    expect(await digest()).toBe(row);
  });
});

test('after all of it nothing was logged as a defect, and no prototype has changed', () => {
  expect(kit.logged.filter((line) => (JSON.parse(line) as { level: number }).level >= 50)).toEqual([]);
  expect(Object.keys(Object.getOwnPropertyDescriptors(Object.prototype)).filter((key) => key === 'polluted')).toEqual(
    [],
  );
});
