/**
 * The profile as clients of the Akinon Users API know it: what is answered, what is taken, and how wrong input is named.
 * What the documents say stands in akinon.json; the texts are those of Django REST Framework's own catalogues.
 */
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { apiDocument } from '../../src/app.ts';
import { type Client, createKit, type Kit, type Reply, type Sent } from '../kit.ts';
import contract from './akinon.json' with { type: 'json' };

type Json = Record<string, unknown>;

interface Field {
  readonly name: string;
  readonly types: readonly string[];
  readonly required: boolean;
  readonly maxLength?: number;
  readonly format?: string;
  readonly values?: readonly string[];
}

const PROFILE = '/users/profile/';
const LOYALTY = '/users/profile-with-loyalty/';
const profileFields: readonly Field[] = contract.schemas.UserProfile.fields;
const loyaltyFields: readonly Field[] = [...profileFields, ...contract.schemas.UserProfileWithLoyalty.fields];
const fieldsOf: Record<string, readonly Field[]> = {
  UserProfile: profileFields,
  UserProfileWithLoyalty: loyaltyFields,
  UserPermissionRequest: contract.schemas.UserPermissionRequest.fields,
};
const names = (fields: readonly Field[]): string[] => fields.map(({ name }) => name);

let kit: Kit;
let ada: Client;

beforeAll(async () => {
  kit = await createKit();
  // What is asked here is asked often; the limits themselves are tested in akinon-permissions.test.ts.
  await kit.set('THROTTLING_SETTINGS', { 'profile-update': null, register: null, login: null });
  ada = await kit.signUp();
});
afterAll(() => kit.close());

const typeOf = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'array'
      : typeof value === 'number'
        ? Number.isInteger(value)
          ? 'integer'
          : 'number'
        : typeof value;

function expectShape(body: Json, fields: readonly Field[]): void {
  expect(Object.keys(body)).toEqual(names(fields));
  for (const { name, types } of fields) {
    expect(types, `${name}: ${JSON.stringify(body[name])}`).toContain(typeOf(body[name]));
  }
}

const patch = (body: unknown, sent: Sent = {}): Promise<Reply> => ada.send('PATCH', PROFILE, { body, ...sent });
const read = async (client: Client = ada): Promise<Json> => (await client.send('GET', PROFILE)).body;

/** What an account is before anybody said anything. */
const fresh = (client: Client): Json => ({
  id: client.id,
  first_name: 'Ada',
  last_name: 'Yılmaz',
  email_allowed: false,
  sms_allowed: false,
  whatsapp_allowed: false,
  call_allowed: null,
  avatar: null,
  email: client.email,
  phone: null,
  date_of_birth: null,
  gender: null,
  genders: ['male', 'female'],
  language_code: 'en',
  attributes: {},
});

/** A multipart body, as a browser writes it. */
function multipart(parts: Record<string, string | Buffer>): Sent {
  const boundary = 'x-boundary-x';
  const chunks = Object.entries(parts).flatMap(([name, value]) => [
    Buffer.from(
      typeof value === 'string'
        ? `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n`
        : `--${boundary}\r\nContent-Disposition: form-data; name="${name}"; filename="../../a.png"\r\nContent-Type: image/png\r\n\r\n`,
    ),
    Buffer.from(value),
    Buffer.from('\r\n'),
  ]);
  return {
    body: Buffer.concat([...chunks, Buffer.from(`--${boundary}--\r\n`)]),
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
  };
}

describe('the documented operations', () => {
  const document = apiDocument() as {
    paths: Record<string, Record<string, Json>>;
    components: { schemas: Record<string, Json> };
  };
  const resolve = (schema: unknown): Json => {
    const reference = (schema as Json)['$ref'];
    return typeof reference === 'string'
      ? document.components.schemas[reference.split('/').at(-1)!]!
      : (schema as Json);
  };
  const jsonSchema = (part: unknown): Json =>
    resolve((part as { content: Record<string, Json> }).content['application/json']!['schema']);

  test.each(contract.operations)('$operationId is in our own document with what theirs says', (operation) => {
    const ours = document.paths[operation.path]![operation.method.toLowerCase()]!;
    expect(ours['operationId']).toBe(operation.operationId);
    const answers = ours['responses'] as Record<string, unknown>;
    expect(Object.keys(answers)).toEqual(expect.arrayContaining(operation.statuses.map(String)));
    const successes = (statuses: readonly (string | number)[]): string[] =>
      statuses.map(String).filter((status) => status.startsWith('2'));
    expect(successes(Object.keys(answers))).toEqual(successes(operation.statuses));
    if (operation.answer !== undefined) {
      const fields = fieldsOf[operation.answer]!;
      const schema = jsonSchema(answers['200']);
      const properties = schema['properties'] as Record<string, Json>;
      expect(Object.keys(properties)).toEqual(names(fields));
      expect(schema['required']).toEqual(names(fields.filter(({ required }) => required)));
      for (const { name, types, maxLength, format } of fields) {
        expect([properties[name]!['type']].flat(), name).toEqual(types);
        expect(properties[name]!['maxLength'], name).toBe(maxLength);
        expect(properties[name]!['format'], name).toBe(format);
      }
    }
    if (operation.body !== undefined) {
      const schema = jsonSchema(ours['requestBody']);
      const fields = fieldsOf[operation.body]!;
      expect(Object.keys(schema['properties'] as Json).sort()).toEqual(names(fields).sort());
    }
  });
});

describe('the answer', () => {
  test.each([
    ['GET', PROFILE, profileFields],
    ['PUT', PROFILE, profileFields],
    ['PATCH', PROFILE, profileFields],
    ['GET', LOYALTY, loyaltyFields],
    ['PUT', LOYALTY, loyaltyFields],
    ['PATCH', LOYALTY, loyaltyFields],
  ] as const)('%s %s has all keys in the documented order, of the documented types', async (method, path, fields) => {
    const client = await kit.signUp();
    const body = method === 'GET' ? {} : { body: { first_name: 'Ada', last_name: 'Yılmaz' } };
    const bare = await client.send(method, path, body);
    expect(bare.status).toBe(200);
    expectShape(bare.body, fields);
    const { date_joined, ...rest } = bare.body;
    expect(date_joined).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(rest).toEqual({ ...fresh(client), ...(path === LOYALTY ? { code: null, resend: false } : {}) });

    const filled = {
      email_allowed: true,
      sms_allowed: true,
      whatsapp_allowed: true,
      call_allowed: false,
      phone: '05351231212',
      date_of_birth: '2000-01-01',
      gender: 'male',
      language_code: 'tr',
      attributes: { confirm: true, list: [1, null, 'ş'] },
    };
    await client.send('PATCH', PROFILE, { body: filled });
    const full = await client.send(method, path, body);
    expect(full.status).toBe(200);
    expectShape(full.body, fields);
    expect(full.body).toMatchObject(filled);
  });

  test('is compact JSON in UTF-8 without escapes, its type without a charset', async () => {
    const reply = await ada.send('GET', PROFILE);
    expect(reply.headers['content-type']).toBe('application/json');
    expect(
      reply.text.startsWith(`{"id":${ada.id},"first_name":"Ada","last_name":"Yılmaz","email_allowed":false,`),
    ).toBe(true);
    expect(Number(reply.headers['content-length'])).toBe(Buffer.byteLength(reply.text));
  });

  test('carries the headers clients know, on success and on error', async () => {
    for (const reply of [
      await ada.send('GET', PROFILE),
      await patch({ gender: 'none' }),
      await kit.send('GET', PROFILE),
      await ada.send('DELETE', PROFILE),
    ]) {
      expect(reply.headers).toMatchObject({
        allow: 'GET, PUT, PATCH, HEAD, OPTIONS',
        vary: 'Accept-Language, Cookie',
        'content-language': 'en',
        'content-type': 'application/json',
        'x-frame-options': 'DENY',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'same-origin',
      });
    }
  });

  test('speaks Turkish when asked to, and the default language for nonsense', async () => {
    const language = async (header: string): Promise<unknown> => {
      const reply = await patch({ gender: 'none' }, { headers: { 'accept-language': header } });
      expect(reply.status).toBe(400);
      return [reply.headers['content-language'], reply.body.gender[0]];
    };
    const tr = ['tr', '"none" geçerli bir seçim değil.'];
    const en = ['en', '"none" is not a valid choice.'];
    expect(await language('tr')).toEqual(tr);
    expect(await language('tr-tr')).toEqual(tr);
    expect(await language('TR')).toEqual(tr);
    expect(await language('de, en;q=0.4, tr;q=0.9')).toEqual(tr);
    expect(await language('tr;q=0, en;q=0.1')).toEqual(en);
    expect(await language('en-us')).toEqual(en);
    expect(await language('undefined')).toEqual(en);
    expect(await language('de')).toEqual(en);
    expect(await language(';;,q=,=')).toEqual(en);
    await kit.set('DEFAULT_LANGUAGE', 'tr');
    expect(await language('undefined')).toEqual(tr);
    await kit.set('DEFAULT_LANGUAGE', 'en');
  });

  test('shows genders as texts, or as objects where the setting says so', async () => {
    expect((await read())['genders']).toEqual(['male', 'female']);
    await kit.set('GENDERS_AS_OBJECTS', true);
    expect(JSON.stringify((await read())['genders']).replaceAll(/\s/g, '')).toBe(
      '[{"value":"male","label":"male"},{"value":"female","label":"female"}]',
    );
    await kit.set('GENDERS_AS_OBJECTS', false);
  });

  test('HEAD is GET without the body; OPTIONS tells what the path takes', async () => {
    const got = await ada.send('GET', PROFILE);
    const head = await ada.send('HEAD', PROFILE);
    expect(head.status).toBe(200);
    expect(head.text).toBe('');
    for (const name of ['content-type', 'content-length', 'etag', 'allow', 'vary']) {
      expect(head.headers[name], name).toBe(got.headers[name]);
    }
    expect((await kit.send('HEAD', PROFILE)).status).toBe(401);
    const options = await ada.send('OPTIONS', PROFILE);
    expect(options.status).toBe(200);
    expect(options.headers['allow']).toBe('GET, PUT, PATCH, HEAD, OPTIONS');
    expect(options.body).toMatchObject({
      renders: ['application/json'],
      parses: ['application/json', 'application/x-www-form-urlencoded', 'multipart/form-data'],
    });
    expect(Object.keys(options.body).slice(0, 4)).toEqual(['name', 'description', 'renders', 'parses']);
    expect((await kit.send('OPTIONS', PROFILE)).status).toBe(401);
  });

  test('is the same without the trailing slash, for writes too: no redirect', async () => {
    const client = await kit.signUp();
    expect((await client.send('GET', '/users/profile')).body).toEqual(await read(client));
    const written = await client.send('PATCH', '/users/profile', { body: { first_name: 'Bora' } });
    expect([written.status, written.body.first_name]).toEqual([200, 'Bora']);
    expect((await client.send('GET', '/users/profile?format=json&x=1')).status).toBe(200);
  });

  test('an unknown path below /users/ is told in the same shape', async () => {
    const reply = await ada.send('GET', '/users/nothing/');
    expect([reply.status, reply.text]).toEqual([404, '{"detail":"Not found."}']);
    expect(reply.headers['content-type']).toBe('application/json');
  });
});

describe('what a write means', () => {
  const whole = {
    first_name: 'Ada',
    last_name: 'Lovelace',
    email_allowed: true,
    sms_allowed: true,
    whatsapp_allowed: true,
    call_allowed: true,
    phone: '05321112233',
    date_of_birth: '1990-12-10',
    gender: 'female',
    language_code: 'tr-tr',
    attributes: { a: 1 },
  };

  test('PATCH: absent keeps, a value sets, null clears what can be null', async () => {
    const client = await kit.signUp();
    const change = async (body: Json): Promise<Json> => {
      const reply = await client.send('PATCH', PROFILE, { body });
      expect(reply.status).toBe(200);
      expect(await read(client)).toEqual(reply.body);
      return reply.body;
    };
    expect(await change(whole)).toMatchObject(whole);
    expect(await change({})).toMatchObject(whole);
    expect(await change({ first_name: 'Grace' })).toMatchObject({ ...whole, first_name: 'Grace' });
    expect(await change({ date_of_birth: null, gender: null })).toMatchObject({
      ...whole,
      first_name: 'Grace',
      date_of_birth: null,
      gender: null,
    });
    expect(await change({ attributes: { b: 2 } })).toMatchObject({ attributes: { b: 2 }, phone: whole.phone });
    expect(await change({ avatar: null })).toMatchObject({ avatar: null });
    // Nobody withdraws by null.
    expect(await change({ call_allowed: null })).toMatchObject({ call_allowed: true });
    expect(await change({ call_allowed: false })).toMatchObject({ call_allowed: false });
    expect(await change({ phone: null })).toMatchObject({ phone: null });
    expect(await change({ phone: '05321112233' })).toMatchObject({ phone: '05321112233' });
    expect(await change({ phone: '' })).toMatchObject({ phone: null });
  });

  test('PUT: the required ones must come, the absent others keep their values', async () => {
    const client = await kit.signUp();
    expect((await client.send('PUT', PROFILE, { body: whole })).body).toMatchObject(whole);
    const empty = await client.send('PUT', PROFILE, { body: { gender: 'male' } });
    expect([empty.status, empty.text]).toEqual([
      400,
      '{"first_name":["This field is required."],"last_name":["This field is required."]}',
    ]);
    const turkish = await client.send('PUT', PROFILE, {
      body: { last_name: 'X' },
      headers: { 'accept-language': 'tr' },
    });
    expect(turkish.text).toBe('{"first_name":["Bu alan zorunlu."]}');
    expect(await read(client)).toMatchObject(whole);
    const two = await client.send('PUT', PROFILE, { body: { first_name: 'Grace', last_name: 'Hopper' } });
    expect(two.body).toMatchObject({ ...whole, first_name: 'Grace', last_name: 'Hopper' });
  });

  test('USER_REQUIRED_FIELDS says what PUT must carry and what no write may blank', async () => {
    const client = await kit.signUp(whole);
    const status = async (method: string, body: Json): Promise<unknown[]> => {
      const reply = await client.send(method, PROFILE, { body });
      return reply.status === 200 ? [200] : [reply.status, reply.body];
    };
    await kit.set('USER_REQUIRED_FIELDS', ['phone', 'gender']);
    expect(await status('PUT', {})).toEqual([
      400,
      { phone: ['This field is required.'], gender: ['This field is required.'] },
    ]);
    expect(await status('PATCH', { phone: '', gender: null })).toEqual([
      400,
      { phone: ['This field may not be blank.'], gender: ['This field may not be null.'] },
    ]);
    expect(await status('PATCH', { phone: null })).toEqual([400, { phone: ['This field may not be null.'] }]);
    // What is not required any more may be blank, but never null where the document knows no null.
    expect(await status('PATCH', { first_name: '' })).toEqual([200]);
    expect(await status('PATCH', { first_name: null })).toEqual([400, { first_name: ['This field may not be null.'] }]);
    await kit.set('USER_REQUIRED_FIELDS', []);
    expect(await status('PUT', {})).toEqual([200]);
    await kit.set('USER_REQUIRED_FIELDS', ['first_name', 'last_name']);
    expect(await status('PATCH', { first_name: '' })).toEqual([400, { first_name: ['This field may not be blank.'] }]);
    expect(await status('PUT', { first_name: 'A', last_name: 'B' })).toEqual([200]);
  });

  test('read-only fields are passed over without an error, unknown ones are named in a header', async () => {
    const client = await kit.signUp();
    const before = await read(client);
    const readOnly = { id: 'x', email: ['other@example.com'], genders: 5, date_joined: 'yesterday' };
    const silent = await client.send('PATCH', PROFILE, { body: readOnly });
    expect([silent.status, silent.body]).toEqual([200, before]);
    expect(silent.headers['assent-ignored']).toBeUndefined();
    const body = '{"shoe_size":43,"first_name":"Ada","code":"123456","is_operator":true,"__proto__":{"id":1}}';
    const named = await client.send('PATCH', PROFILE, { body });
    expect([named.status, named.body]).toEqual([200, before]);
    expect(named.headers['assent-ignored']).toBe('shoe_size, code, is_operator, __proto__');
    const strange = await client.send('PATCH', PROFILE, { body: { 'a\r\nset-cookie: b=c': 1 } });
    expect([strange.status, strange.headers['assent-ignored'], strange.headers['set-cookie']]).toEqual([
      200,
      '?',
      undefined,
    ]);
    // On the path that knows them, `code` and `resend` are no strangers.
    const loyalty = await client.send('PATCH', LOYALTY, { body: { code: null, resend: false, first_name: 'Ada' } });
    expect([loyalty.status, loyalty.headers['assent-ignored']]).toEqual([200, undefined]);
  });

  test('the last of two equal keys counts', async () => {
    const reply = await patch('{"first_name":"One","first_name":"Two"}');
    expect([reply.status, reply.body.first_name]).toEqual([200, 'Two']);
    await patch({ first_name: 'Ada' });
  });

  test('two parallel writes of different fields both survive', async () => {
    const client = await kit.signUp();
    const bodies = [{ first_name: 'Left' }, { last_name: 'Right' }, { gender: 'male' }, { sms_allowed: true }];
    const replies = await Promise.all(bodies.map((body) => client.send('PATCH', PROFILE, { body })));
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(await read(client)).toMatchObject(Object.assign({}, ...bodies));
  });

  test('If-Match guards a write, and absent it does not', async () => {
    const client = await kit.signUp();
    const { headers } = await client.send('GET', PROFILE);
    const etag = String(headers['etag']);
    expect(etag).toMatch(/^"[^"]+"$/);
    const write = (first_name: string, tag: string): Promise<Reply> =>
      client.send('PATCH', PROFILE, { body: { first_name }, headers: { 'if-match': tag } });
    const first = await write('One', etag);
    expect([first.status, first.body.first_name]).toEqual([200, 'One']);
    expect(first.headers['etag']).not.toBe(etag);
    const late = await write('Two', etag);
    expect([late.status, Object.keys(late.body)]).toEqual([412, ['detail']]);
    expect((await read(client))['first_name']).toBe('One');
    expect((await write('Three', `"x", ${first.headers['etag']}`)).status).toBe(200);
    expect((await write('Four', '*')).status).toBe(200);
    expect((await write('Five', `W/${etag}`)).status).toBe(412);
  });
});

describe('what is taken', () => {
  const truths = [true, 1, 'true', 'True', 'TRUE', 't', 'T', 'on', 'On', 'yes', 'YES', 'y', '1'];
  const lies = [false, 0, 'false', 'False', 'FALSE', 'f', 'F', 'off', 'OFF', 'no', 'No', 'n', '0'];

  test.each(truths.map((truth, n) => [truth, lies[n]!] as const))('%j is true and %j is false', async (truth, lie) => {
    for (const [value, shown] of [
      [truth, true],
      [lie, false],
    ] as const) {
      const body = { email_allowed: value, sms_allowed: value, whatsapp_allowed: value, call_allowed: value };
      const reply = await patch(body);
      expect([reply.status, reply.body]).toEqual([
        200,
        expect.objectContaining({
          email_allowed: shown,
          sms_allowed: shown,
          whatsapp_allowed: shown,
          call_allowed: shown,
        }),
      ]);
    }
  });

  test('an empty text and the word null are null for the one flag that can be null', async () => {
    const client = await kit.signUp();
    for (const value of ['', 'null', 'Null', 'NULL', null]) {
      const reply = await client.send('PATCH', PROFILE, { body: { call_allowed: value } });
      expect([reply.status, reply.body.call_allowed], JSON.stringify(value)).toEqual([200, null]);
      const refused = await client.send('PATCH', PROFILE, { body: { sms_allowed: value } });
      expect([refused.status, refused.body], JSON.stringify(value)).toEqual([
        400,
        { sms_allowed: [value === null ? 'This field may not be null.' : 'Must be a valid boolean.'] },
      ]);
    }
  });

  test.each([
    ['a number as text', { first_name: 12345 }, '12345'],
    ['a fraction as text', { first_name: 1.5 }, '1.5'],
    ['a negative number', { first_name: -7 }, '-7'],
    ['text without its outer spaces', { first_name: ' \t\n Ada  Marie \u00a0\r\n ' }, 'Ada  Marie'],
    ['letters of any script', { first_name: 'İıŞşĞğ 雅 ア' }, 'İıŞşĞğ 雅 ア'],
    ['markup as the text it is', { first_name: '<b>&amp;</b>' }, '<b>&amp;</b>'],
    ['50 characters', { first_name: 'x'.repeat(50) }, 'x'.repeat(50)],
    ['50 characters and spaces around them', { first_name: `  ${'x'.repeat(50)}  ` }, 'x'.repeat(50)],
    ['50 characters beyond the first plane', { first_name: '😀'.repeat(50) }, '😀'.repeat(50)],
  ])('a name takes %s', async (_what, body, shown) => {
    const reply = await patch(body);
    expect([reply.status, reply.body.first_name]).toEqual([200, shown]);
    expect((await read())['first_name']).toBe(shown);
  });

  test('a number beyond what a double holds keeps its digits', async () => {
    const reply = await patch('{"first_name":12345678901234567890123}');
    expect([reply.status, reply.body.first_name]).toEqual([200, '12345678901234567890123']);
  });

  test('a day with one-digit parts is answered with two', async () => {
    const reply = await patch({ date_of_birth: '1990-1-5' });
    expect([reply.status, reply.body.date_of_birth]).toEqual([200, '1990-01-05']);
    expect((await patch({ date_of_birth: '2024-02-29' })).body.date_of_birth).toBe('2024-02-29');
  });

  test('a phone is answered as it was written', async () => {
    const client = await kit.signUp();
    for (const phone of ['05355555555', '+966512345679', '0 (532) 111 22 33', '905551234567']) {
      const reply = await client.send('PATCH', PROFILE, { body: { phone } });
      expect([reply.status, reply.body.phone]).toEqual([200, phone]);
    }
  });

  test('attributes are answered as they were sent', async () => {
    const attributes = {
      b: [1, 2.5, null, { c: 'ş' }],
      a: true,
      '': '',
      constructor: 'x',
      nested: { a: { b: { c: 1 } } },
    };
    const reply = await patch({ attributes });
    expect(reply.status).toBe(200);
    expect(reply.body.attributes).toEqual(attributes);
    await patch({ attributes: {} });
  });

  test.each(['application/json', 'application/json; charset=utf-8', 'Application/JSON'])(
    'a JSON body of type %s',
    async (type) => {
      const reply = await patch({ first_name: 'Ada' }, { headers: { 'content-type': type } });
      expect([reply.status, reply.body.first_name]).toEqual([200, 'Ada']);
    },
  );

  test('nothing at all is an empty change for PATCH and lacks the required for PUT', async () => {
    const client = await kit.signUp();
    const before = await read(client);
    for (const headers of [
      {},
      { 'content-type': 'application/json' },
      { 'content-type': 'application/x-www-form-urlencoded' },
    ]) {
      const patched = await client.send('PATCH', PROFILE, { headers });
      expect([patched.status, patched.body]).toEqual([200, before]);
      const put = await client.send('PUT', PROFILE, { headers });
      expect([put.status, put.text]).toEqual([
        400,
        '{"first_name":["This field is required."],"last_name":["This field is required."]}',
      ]);
    }
  });

  test('a form: text is read, an empty value is null where there is null, what is absent stays', async () => {
    const client = await kit.signUp();
    const form =
      'first_name=+Ay%C5%9Fe+&last_name=Y%C4%B1lmaz&sms_allowed=on&call_allowed=1&gender=female&date_of_birth=1990-2-3&attributes=%7B%22a%22%3A1%7D';
    const put = await client.send('PUT', PROFILE, { form });
    expect([put.status, put.body]).toEqual([
      200,
      expect.objectContaining({
        first_name: 'Ayşe',
        last_name: 'Yılmaz',
        sms_allowed: true,
        call_allowed: true,
        email_allowed: false,
        gender: 'female',
        date_of_birth: '1990-02-03',
        attributes: { a: 1 },
      }),
    ]);
    // Consent is never withdrawn by silence, not even by a form in which an unticked box is silent.
    const again = await client.send('PUT', PROFILE, { form: 'first_name=A&last_name=B&gender=&date_of_birth=' });
    expect([again.status, again.body]).toEqual([
      200,
      expect.objectContaining({ sms_allowed: true, call_allowed: true, gender: null, date_of_birth: null }),
    ]);
    const blank = await client.send('PATCH', PROFILE, { form: 'first_name=&email_allowed=' });
    expect([blank.status, blank.text]).toEqual([
      400,
      '{"first_name":["This field may not be blank."],"email_allowed":["Must be a valid boolean."]}',
    ]);
  });

  test('multipart: text, a picture, and its removal by null', async () => {
    const client = await kit.signUp();
    const png = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#c00' } })
      .png()
      .toBuffer();
    const up = await client.send('PATCH', PROFILE, multipart({ first_name: 'Ayşe', sms_allowed: 'true', avatar: png }));
    expect(up.status).toBe(200);
    expect(up.body).toMatchObject({ first_name: 'Ayşe', sms_allowed: true });
    expect(up.body.avatar).toMatch(/^https?:\/\/[^/]+\/media\/avatars\/[0-9a-f]{64}\.webp$/);
    const kept = await client.send('PUT', PROFILE, multipart({ first_name: 'A', last_name: 'B' }));
    expect([kept.status, kept.body.avatar, kept.body.sms_allowed]).toEqual([200, up.body.avatar, true]);
    // A client that sends back what it read changes nothing.
    const same = await client.send('PATCH', PROFILE, { body: { avatar: up.body.avatar } });
    expect([same.status, same.body.avatar]).toEqual([200, up.body.avatar]);
    const gone = await client.send('PATCH', PROFILE, { body: { avatar: null } });
    expect([gone.status, gone.body.avatar]).toEqual([200, null]);
    const bad = await client.send('PATCH', PROFILE, multipart({ avatar: Buffer.from('<svg/>') }));
    expect([bad.status, Object.keys(bad.body)]).toEqual([400, ['avatar']]);
  });
});

describe('what is refused', () => {
  const texts = {
    null: ['This field may not be null.', 'Bu alan boş bırakılmamalı.'],
    blank: ['This field may not be blank.', 'Bu alan boş bırakılmamalı.'],
    string: ['Not a valid string.', 'Geçerli bir string değil.'],
    boolean: ['Must be a valid boolean.', 'Geçerli bir boolean olmalı.'],
    date: [
      'Date has wrong format. Use one of these formats instead: YYYY-MM-DD.',
      'Tarih biçimi yanlış. YYYY-MM-DD biçimlerinden birini kullanın.',
    ],
    file: [
      'The submitted data was not a file. Check the encoding type on the form.',
      'Gönderilen veri dosya değil. Formdaki kodlama tipini kontrol edin.',
    ],
    nul: ['Null characters are not allowed.', 'Boş karakterlere izin verilmiyor.'],
  } as const;
  const longer = (max: number): readonly [string, string] => [
    `Ensure this field has no more than ${max} characters.`,
    `Bu alanın ${max} karakterden fazla karakter barındırmadığından emin olun.`,
  ];
  const choice = (value: string): readonly [string, string] => [
    `"${value}" is not a valid choice.`,
    `"${value}" geçerli bir seçim değil.`,
  ];
  const dict = (type: string): readonly [string, string] => [
    `Expected a dictionary of items but got type "${type}".`,
    `Sözlük tipi bir değişken beklenirken "${type}" tipi bir değişken alındı.`,
  ];
  const cases: [string, unknown, readonly [string, string]][] = [
    ...['first_name', 'last_name'].flatMap((name): [string, unknown, readonly [string, string]][] => [
      [name, null, texts.null],
      [name, '', texts.blank],
      [name, ' \t\n ', texts.blank],
      [name, 'x'.repeat(51), longer(50)],
      [name, '😀'.repeat(51), longer(50)],
      [name, true, texts.string],
      [name, ['Ada'], texts.string],
      [name, { a: 1 }, texts.string],
      [name, 'a\0b', texts.nul],
    ]),
    ...['email_allowed', 'sms_allowed', 'whatsapp_allowed'].flatMap(
      (name): [string, unknown, readonly [string, string]][] => [
        [name, null, texts.null],
        [name, 'maybe', texts.boolean],
        [name, 2, texts.boolean],
        [name, '', texts.boolean],
        [name, [], texts.boolean],
        [name, {}, texts.boolean],
      ],
    ),
    ['call_allowed', 'maybe', texts.boolean],
    ['call_allowed', -1, texts.boolean],
    ['call_allowed', [true], texts.boolean],
    ['avatar', 'a.png', texts.file],
    ['avatar', '', texts.file],
    ['avatar', 5, texts.file],
    ['avatar', true, texts.file],
    ['avatar', {}, texts.file],
    ['phone', true, texts.string],
    ['phone', ['05321112233'], texts.string],
    ['phone', '5'.repeat(61), longer(60)],
    ['date_of_birth', '', texts.date],
    ['date_of_birth', '10.12.1990', texts.date],
    ['date_of_birth', '1990-02-30', texts.date],
    ['date_of_birth', '2023-02-29', texts.date],
    ['date_of_birth', '1990-13-01', texts.date],
    ['date_of_birth', '1990-12-10T00:00:00Z', texts.date],
    ['date_of_birth', 19901210, texts.date],
    ['date_of_birth', true, texts.date],
    ['gender', 'none', choice('none')],
    ['gender', 'Male', choice('Male')],
    ['gender', '', choice('')],
    ['gender', 1, choice('1')],
    ['language_code', null, texts.null],
    ['language_code', '', texts.blank],
    ['language_code', true, texts.string],
    ['attributes', null, texts.null],
    ['attributes', [], dict('list')],
    ['attributes', 'x', dict('str')],
    ['attributes', 5, dict('int')],
    ['attributes', 1.5, dict('float')],
    ['attributes', false, dict('bool')],
  ];

  test.each(cases)('%s: %j', async (name, value, [english, turkish]) => {
    const before = await read();
    for (const [language, text] of [
      ['en', english],
      ['tr', turkish],
    ] as const) {
      const reply = await patch({ [name]: value }, { headers: { 'accept-language': language } });
      expect([reply.status, reply.text]).toEqual([400, JSON.stringify({ [name]: [text] })]);
    }
    expect(await read()).toEqual(before);
  });

  test('a phone that is none, and one of another form than the shop wants', async () => {
    const refused = async (phone: string): Promise<unknown> => {
      const reply = await patch({ phone });
      return [reply.status, Object.keys(reply.body), reply.body.phone?.length];
    };
    const named = [400, ['phone'], 1];
    expect(await refused('abc')).toEqual(named);
    expect(await refused('123')).toEqual(named);
    expect(await refused('0'.repeat(40))).toEqual(named);
    await kit.set('USER_PHONE_REGEX', '^05\\d{9}$');
    expect(await refused('+905321112233')).toEqual(named);
    expect((await patch({ phone: '05321112299' })).status).toBe(200);
    await kit.set('USER_PHONE_REGEX', null);
  });

  test('a number that somebody else holds, where numbers are unique', async () => {
    const [one, two] = [await kit.signUp({ phone: '05329990011' }), await kit.signUp()];
    const take = (language: string): Promise<Reply> =>
      two.send('PATCH', PROFILE, { body: { phone: '+90 532 999 00 11' }, headers: { 'accept-language': language } });
    await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
    expect((await take('en')).text).toBe('{"phone":["This field must be unique."]}');
    expect((await take('tr')).text).toBe('{"phone":["Bu alan eşsiz olmalı."]}');
    expect((await one.send('PATCH', PROFILE, { body: { phone: '05329990011' } })).status).toBe(200);
    await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', false);
    expect((await take('en')).status).toBe(200);
  });

  test('everything wrong is told at once, in the order of the fields, and nothing is saved', async () => {
    const client = await kit.signUp();
    const before = await read(client);
    const body = {
      attributes: [],
      language_code: '',
      gender: 'none',
      date_of_birth: 'x',
      phone: 'abc',
      avatar: 'a.png',
      call_allowed: 'x',
      whatsapp_allowed: null,
      sms_allowed: 'x',
      email_allowed: true,
      last_name: '',
      first_name: 'x'.repeat(51),
    };
    const wrong = [
      'first_name',
      'last_name',
      'sms_allowed',
      'whatsapp_allowed',
      'call_allowed',
      'avatar',
      'phone',
      'date_of_birth',
      'gender',
      'language_code',
      'attributes',
    ];
    for (const method of ['PUT', 'PATCH']) {
      const reply = await client.send(method, PROFILE, { body });
      expect(reply.status).toBe(400);
      expect(Object.keys(reply.body)).toEqual(wrong);
      for (const name of wrong) expect(reply.body[name], name).toEqual([expect.any(String)]);
    }
    const loyalty = await client.send('PATCH', LOYALTY, { body: { ...body, code: [], resend: 'x' } });
    expect([loyalty.status, Object.keys(loyalty.body)]).toEqual([400, [...wrong, 'code', 'resend']]);
    expect(loyalty.body).toMatchObject({ code: ['Not a valid string.'], resend: ['Must be a valid boolean.'] });
    expect(await read(client)).toEqual(before);
    expect(await kit.rows('select kind from consent_event where account = $1', client.id)).toEqual([]);
  });

  test.each([
    ['a NUL in a key', '{"attributes":{"a\\u0000b":1}}', 'attributes'],
    ['a NUL deep inside', '{"attributes":{"a":[{"b":"\\u0000"}]}}', 'attributes'],
    ['half a surrogate pair', '{"first_name":"\\ud83d"}', 'first_name'],
    ['half a surrogate pair inside', '{"attributes":{"a":"x\\udc00"}}', 'attributes'],
    ['too deep attributes', JSON.stringify({ attributes: { a: { b: { c: { d: { e: {} } } } } } }), 'attributes'],
    ['too large attributes', JSON.stringify({ attributes: { a: 'x'.repeat(16 * 1024) } }), 'attributes'],
    ['the key __proto__', '{"attributes":{"__proto__":{"polluted":1}}}', 'attributes'],
    ['a number nobody could read back', '{"attributes":{"a":12345678901234567890}}', 'attributes'],
    ['a language of no shape', '{"language_code":"a b"}', 'language_code'],
  ])('%s', async (_what, body, name) => {
    const before = await read();
    const reply = await patch(body);
    expect([reply.status, Object.keys(reply.body), typeof reply.body[name]?.[0]]).toEqual([400, [name], 'string']);
    expect(await read()).toEqual(before);
    expect(({} as Json)['polluted']).toBeUndefined();
  });

  test.each([
    ['{', 'Expecting property name enclosed in double quotes: line 1 column 2 (char 1)'],
    ['{"a":}', 'Expecting value: line 1 column 6 (char 5)'],
    ['{"a":1,}', 'Expecting property name enclosed in double quotes: line 1 column 8 (char 7)'],
    ['{"a" 1}', "Expecting ':' delimiter: line 1 column 6 (char 5)"],
    ['{"a":1} x', 'Extra data: line 1 column 9 (char 8)'],
    ['{"a":"b', 'Unterminated string starting at: line 1 column 6 (char 5)'],
    ['{\n"😀": 1\n"b": 2}', "Expecting ',' delimiter: line 3 column 1 (char 9)"],
    ['first_name=Ada', 'Expecting value: line 1 column 1 (char 0)'],
    ['{"a":NaN}', "Out of range float values are not JSON compliant: 'NaN'"],
    ['{"a":-Infinity}', "Out of range float values are not JSON compliant: '-Infinity'"],
  ])('%j is no JSON, in the words of Python', async (body, reason) => {
    for (const method of ['PUT', 'PATCH']) {
      const reply = await ada.send(method, PROFILE, { body });
      expect([reply.status, reply.text]).toEqual([400, JSON.stringify({ detail: `JSON parse error - ${reason}` })]);
    }
  });

  test.each([
    [
      '[]',
      'Invalid data. Expected a dictionary, but got list.',
      'Geçersiz veri. Sözlük bekleniyordu fakat list geldi.',
    ],
    ['"x"', 'Invalid data. Expected a dictionary, but got str.', 'Geçersiz veri. Sözlük bekleniyordu fakat str geldi.'],
    ['5', 'Invalid data. Expected a dictionary, but got int.', 'Geçersiz veri. Sözlük bekleniyordu fakat int geldi.'],
    [
      '1.5',
      'Invalid data. Expected a dictionary, but got float.',
      'Geçersiz veri. Sözlük bekleniyordu fakat float geldi.',
    ],
    [
      'true',
      'Invalid data. Expected a dictionary, but got bool.',
      'Geçersiz veri. Sözlük bekleniyordu fakat bool geldi.',
    ],
    ['null', 'No data provided', 'No data provided'],
  ])('%s at the root', async (body, english, turkish) => {
    for (const [language, text] of [
      ['en', english],
      ['tr', turkish],
    ] as const) {
      const reply = await patch(body, { headers: { 'accept-language': language } });
      expect([reply.status, reply.text]).toEqual([400, JSON.stringify({ non_field_errors: [text] })]);
    }
  });

  test('a type that is not read, and a body without one', async () => {
    const typed = (type: string, language: string): Promise<Reply> =>
      patch('{"first_name":"X"}', { headers: { 'content-type': type, 'accept-language': language } });
    const plain = await typed('text/plain;charset=UTF-8', 'en');
    expect([plain.status, plain.text]).toEqual([
      415,
      '{"detail":"Unsupported media type \\"text/plain;charset=UTF-8\\" in request."}',
    ]);
    expect(plain.headers['allow']).toBe('GET, PUT, PATCH, HEAD, OPTIONS');
    expect((await typed('text/plain', 'tr')).body).toEqual({
      detail: 'İstekte desteklenmeyen medya tipi: "text/plain".',
    });
    const bare = await kit.http.inject({
      method: 'PATCH',
      url: PROFILE,
      headers: { authorization: `Token ${ada.key}` },
      payload: '{"first_name":"X"}',
    });
    expect([bare.statusCode, bare.body]).toEqual([415, '{"detail":"Unsupported media type \\"\\" in request."}']);
  });

  test.each(['text/html', 'application/xml', 'image/*, text/html;q=0.5', 'application/json;q=0'])(
    'a client that accepts %s only',
    async (accept) => {
      const reply = await ada.send('GET', PROFILE, { headers: { accept } });
      expect([reply.status, reply.text]).toEqual([406, '{"detail":"Could not satisfy the request Accept header."}']);
      const turkish = await ada.send('GET', PROFILE, { headers: { accept, 'accept-language': 'tr' } });
      expect(turkish.body).toEqual({
        detail: 'İsteğe ait Accept başlık bilgisi yanıt verilecek başlık bilgileri arasında değil.',
      });
    },
  );

  test.each(['*/*', 'application/*', 'text/html, application/json;q=0.9', 'undefined', ''])(
    'but a client that accepts %j is served',
    async (accept) => {
      expect((await ada.send('GET', PROFILE, { headers: { accept } })).status).toBe(200);
    },
  );

  test('a method the path does not know', async () => {
    for (const method of ['DELETE', 'POST']) {
      const reply = await ada.send(method, PROFILE);
      expect([reply.status, reply.text]).toEqual([405, `{"detail":"Method \\"${method}\\" not allowed."}`]);
      expect(reply.headers['allow']).toBe('GET, PUT, PATCH, HEAD, OPTIONS');
    }
    const turkish = await ada.send('DELETE', PROFILE, { headers: { 'accept-language': 'tr' } });
    expect(turkish.body).toEqual({ detail: '"DELETE" metoduna izin verilmiyor.' });
  });

  test.each(contract.operations.filter(({ statuses }) => statuses.includes(401)))(
    '$operationId without a sign-in is 401, never 403',
    async ({ method, path }) => {
      const reply = await kit.send(method, path, method === 'GET' ? {} : { body: { first_name: 'X' } });
      expect([reply.status, reply.text]).toEqual([401, '{"detail":"Authentication credentials were not provided."}']);
      expect(reply.headers['www-authenticate']).toBe('Token');
      const turkish = await kit.send(method, path, { headers: { 'accept-language': 'tr' } });
      expect(turkish.body).toEqual({ detail: 'Giriş bilgileri verilmedi.' });
    },
  );

  test('a body of more than 1 MiB', async () => {
    const reply = await patch(JSON.stringify({ attributes: { a: 'x'.repeat(1024 * 1024) } }));
    expect([reply.status, Object.keys(reply.body)]).toEqual([413, ['detail']]);
  });

  test('bodies that break in the middle', async () => {
    for (const [type, body] of [
      ['multipart/form-data; boundary=x', '--x\r\nContent-Disposition: form-data; name="first_name"\r\n\r\nAda'],
      ['multipart/form-data', 'first_name=Ada'],
      ['multipart/form-data; boundary=x', ''],
      ['application/x-www-form-urlencoded', 'first_name=%E0%A4'],
      ['application/json', Buffer.from([0x22, 0xff, 0x22])],
    ] as const) {
      const reply = await patch(body, { headers: { 'content-type': type } });
      expect([reply.status, Object.keys(reply.body)], type).toEqual([400, ['detail']]);
    }
  });
});
