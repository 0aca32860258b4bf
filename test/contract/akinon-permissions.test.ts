/** What a guest or a customer ticks at checkout, as clients of the Akinon Users API send it, and the limit of its scope. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, createKit, type Kit, type Reply, type Sent } from '../kit.ts';
import contract from './akinon.json' with { type: 'json' };

const operation = contract.operations.find(({ operationId }) => operationId === 'updateUserPermissions')!;
const { path: PATH, throttle: SCOPE } = operation;
const flags = contract.schemas.UserPermissionRequest.fields
  .filter(({ types }) => types.includes('boolean'))
  .map(({ name }) => name);
const UID = '5a0f1c3e-9f2b-4c55-8d13-2f0f8f3d1e77';

let kit: Kit;
let ada: Client;

beforeAll(async () => {
  kit = await createKit();
  ada = await kit.signUp();
});
beforeEach(async () => {
  await kit.set('THROTTLING_SETTINGS', { [SCOPE!]: null, register: null, login: null, 'profile-update': null });
  await kit.rows('delete from basket_consent');
  await kit.rows('delete from throttle');
});
afterAll(() => kit.close());

const state = (body: unknown, sent: Sent = {}): Promise<Reply> => kit.send('POST', PATH, { body, ...sent });
const kept = (): Promise<unknown[]> =>
  kit.rows('select basket::text as basket, channel, value from basket_consent order by basket, channel');

describe('what is taken', () => {
  test('a guest states flags and gets 200 without a body or a type', async () => {
    const reply = await state({ uid: UID, basket: 77, sms_allowed: true, email_allowed: false });
    expect([reply.status, reply.text]).toEqual([200, '']);
    expect(reply.headers['content-length']).toBe('0');
    expect(reply.headers['content-type']).toBeUndefined();
    expect(reply.headers).toMatchObject({ allow: 'POST, OPTIONS', vary: 'Accept-Language, Cookie' });
    expect(reply.headers['set-cookie']).toBeUndefined();
    expect(await kept()).toEqual([
      { basket: '77', channel: 'email', value: false },
      { basket: '77', channel: 'sms', value: true },
    ]);
  });

  test('each of the four flags, and an absent one leaves what was stated before', async () => {
    expect(flags).toEqual(['sms_allowed', 'call_allowed', 'email_allowed', 'whatsapp_allowed']);
    for (const flag of flags) expect((await state({ uid: UID, basket: 1, [flag]: true })).status).toBe(200);
    await state({ uid: UID, basket: 1, call_allowed: false });
    await state({ uid: UID, basket: 1 });
    expect(await kept()).toEqual([
      { basket: '1', channel: 'call', value: false },
      { basket: '1', channel: 'email', value: true },
      { basket: '1', channel: 'sms', value: true },
      { basket: '1', channel: 'whatsapp', value: true },
    ]);
  });

  test('another basket and another uid are other statements', async () => {
    await state({ uid: UID, basket: 1, sms_allowed: true });
    await state({ uid: UID, basket: 2, sms_allowed: false });
    await state({ uid: 'somebody-else', basket: 1, sms_allowed: false });
    expect(await kit.rows('select basket::text as basket, value from basket_consent order by basket, value')).toEqual([
      { basket: '1', value: false },
      { basket: '1', value: true },
      { basket: '2', value: false },
    ]);
  });

  test.each([
    ['1', '1'],
    ['"1"', '1'],
    ['" 42 "', '42'],
    ['1.0', '1'],
    ['9007199254740993', '9007199254740993'],
    ['"9007199254740993"', '9007199254740993'],
    ['9223372036854775807', '9223372036854775807'],
    ['"9223372036854775807"', '9223372036854775807'],
  ])('basket %s is kept exactly', async (written, stored) => {
    const reply = await state(`{"uid":"${UID}","basket":${written},"sms_allowed":true}`);
    expect([reply.status, reply.text]).toEqual([200, '']);
    expect(await kept()).toEqual([{ basket: stored, channel: 'sms', value: true }]);
  });

  test.each([
    ['one character', '"x"'],
    ['128 characters', JSON.stringify('x'.repeat(128))],
    ['128 characters beyond the first plane', JSON.stringify('😀'.repeat(128))],
    ['a number', '12345'],
  ])('a uid of %s', async (_what, uid) => {
    expect((await state(`{"uid":${uid},"basket":1,"sms_allowed":true}`)).status).toBe(200);
    expect(await kept()).toEqual([{ basket: '1', channel: 'sms', value: true }]);
  });

  test('booleans as DRF takes them, forms, and keys nobody knows', async () => {
    expect((await state({ uid: UID, basket: '3', sms_allowed: 'true', call_allowed: 0, x: 1 })).status).toBe(200);
    const form = `uid=${UID}&basket=4&email_allowed=on&whatsapp_allowed=off`;
    expect((await kit.send('POST', PATH, { form })).status).toBe(200);
    expect(
      (await kit.send('POST', '/users/permissions', { body: { uid: UID, basket: 5, sms_allowed: true } })).status,
    ).toBe(200);
    expect(await kept()).toEqual([
      { basket: '3', channel: 'call', value: false },
      { basket: '3', channel: 'sms', value: true },
      { basket: '4', channel: 'email', value: true },
      { basket: '4', channel: 'whatsapp', value: false },
      { basket: '5', channel: 'sms', value: true },
    ]);
  });

  test('a customer may state too, and no profile, decision or ledger line follows', async () => {
    const before = await ada.send('GET', '/users/profile/');
    const body = Object.fromEntries(flags.map((flag) => [flag, true]));
    const reply = await ada.send('POST', PATH, { body: { uid: UID, basket: 9, ...body } });
    expect([reply.status, reply.text]).toEqual([200, '']);
    const after = await ada.send('GET', '/users/profile/');
    expect(after.body).toEqual(before.body);
    expect(after.headers['etag']).toBe(before.headers['etag']);
    expect(await kit.rows('select kind from consent_event')).toEqual([]);
    expect(await kit.rows('select state from consent_state')).toEqual([]);
  });

  test('the uid is stored as a hash and never logged', async () => {
    await state({ uid: UID, basket: 9, sms_allowed: true });
    await state({ uid: UID, basket: 0 });
    const rows = await kit.rows<{ text: string }>('select b::text as text from basket_consent b');
    expect(rows).toHaveLength(1);
    const traces = [rows[0]!.text, ...kit.logged];
    expect(traces.filter((text) => text.includes(UID) || text.includes(Buffer.from(UID).toString('hex')))).toEqual([]);
    expect(kit.logged.length).toBeGreaterThan(0);
  });
});

describe('what is refused', () => {
  const texts: Record<string, readonly [string, string]> = {
    required: ['This field is required.', 'Bu alan zorunlu.'],
    null: ['This field may not be null.', 'Bu alan boş bırakılmamalı.'],
    blank: ['This field may not be blank.', 'Bu alan boş bırakılmamalı.'],
    string: ['Not a valid string.', 'Geçerli bir string değil.'],
    long: [
      'Ensure this field has no more than 128 characters.',
      'Bu alanın 128 karakterden fazla karakter barındırmadığından emin olun.',
    ],
    integer: ['A valid integer is required.', 'Geçerli bir tam sayı girin.'],
    least: [
      'Ensure this value is greater than or equal to 1.',
      'Değerin 1 değerinden büyük ya da eşit olduğundan emin olun.',
    ],
    most: [
      'Ensure this value is less than or equal to 9223372036854775807.',
      'Değerin 9223372036854775807 değerinden küçük ya da eşit olduğundan emin olun.',
    ],
    boolean: ['Must be a valid boolean.', 'Geçerli bir boolean olmalı.'],
  };

  test.each([
    ['{"basket":1}', { uid: 'required' }],
    [`{"uid":"${UID}"}`, { basket: 'required' }],
    ['{}', { uid: 'required', basket: 'required' }],
    ['', { uid: 'required', basket: 'required' }],
    ['{"basket":null,"uid":null}', { uid: 'null', basket: 'null' }],
    ['{"uid":"","basket":1}', { uid: 'blank' }],
    ['{"uid":"   ","basket":1}', { uid: 'blank' }],
    [`{"uid":"${'x'.repeat(129)}","basket":1}`, { uid: 'long' }],
    ['{"uid":true,"basket":1}', { uid: 'string' }],
    ['{"uid":["a"],"basket":1}', { uid: 'string' }],
    ['{"uid":"a","basket":0}', { basket: 'least' }],
    ['{"uid":"a","basket":-1}', { basket: 'least' }],
    ['{"uid":"a","basket":"-9223372036854775809"}', { basket: 'least' }],
    ['{"uid":"a","basket":9223372036854775808}', { basket: 'most' }],
    ['{"uid":"a","basket":"9223372036854775808"}', { basket: 'most' }],
    ['{"uid":"a","basket":1e30}', { basket: 'most' }],
    [`{"uid":"a","basket":"${'9'.repeat(60)}"}`, { basket: 'most' }],
    [`{"uid":"a","basket":${'9'.repeat(60)}}`, { basket: 'most' }],
    ['{"uid":"a","basket":1.5}', { basket: 'integer' }],
    ['{"uid":"a","basket":"1.5"}', { basket: 'integer' }],
    ['{"uid":"a","basket":true}', { basket: 'integer' }],
    ['{"uid":"a","basket":""}', { basket: 'integer' }],
    ['{"uid":"a","basket":"x"}', { basket: 'integer' }],
    ['{"uid":"a","basket":[1]}', { basket: 'integer' }],
    ['{"uid":"a","basket":{"id":1}}', { basket: 'integer' }],
    [
      '{"call_allowed":"x","whatsapp_allowed":null,"sms_allowed":2,"email_allowed":"maybe","basket":"x","uid":[]}',
      {
        uid: 'string',
        basket: 'integer',
        email_allowed: 'boolean',
        sms_allowed: 'boolean',
        whatsapp_allowed: 'null',
        call_allowed: 'boolean',
      },
    ],
  ] as [string, Record<string, string>][])('%s', async (body, expected) => {
    for (const [index, language] of ['en', 'tr'].entries()) {
      const reply = await state(body, { headers: { 'accept-language': language } });
      const wanted = Object.fromEntries(Object.entries(expected).map(([name, text]) => [name, [texts[text]![index]]]));
      expect([reply.status, reply.body]).toEqual([400, wanted]);
      expect(Object.keys(reply.body).slice(0, 2)).toEqual(Object.keys(expected).slice(0, 2));
    }
    expect(await kept()).toEqual([]);
  });

  test('no JSON, another type, another root, another method', async () => {
    const answer = async (reply: Promise<Reply>): Promise<unknown[]> => [(await reply).status, (await reply).body];
    expect(await answer(state('{'))).toEqual([
      400,
      { detail: 'JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)' },
    ]);
    expect(await answer(state('x', { headers: { 'content-type': 'text/plain' } }))).toEqual([
      415,
      { detail: 'Unsupported media type "text/plain" in request.' },
    ]);
    expect(await answer(state([]))).toEqual([
      400,
      { non_field_errors: ['Invalid data. Expected a dictionary, but got list.'] },
    ]);
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
      const reply = await kit.send(method, PATH);
      expect([reply.status, reply.body]).toEqual([405, { detail: `Method "${method}" not allowed.` }]);
      expect(reply.headers['allow']).toBe('POST, OPTIONS');
    }
    expect((await kit.send('OPTIONS', PATH)).status).toBe(200);
    expect(await kept()).toEqual([]);
  });
});

describe('its throttle', () => {
  const limit = (count: number, duration = 60): Promise<void> =>
    kit.set('THROTTLING_SETTINGS', { [SCOPE!]: { count, duration }, register: null, login: null });
  const once = (): Promise<Reply> => state({ uid: UID, basket: 1, sms_allowed: true });

  test('is the documented scope: exactly its count passes, however parallel and over however many processes', async () => {
    await limit(25);
    const twin = await kit.twin();
    const replies = await Promise.all(
      Array.from({ length: 80 }, (_, n) =>
        (n % 2 === 0 ? kit : twin).send('POST', PATH, { body: { uid: UID, basket: n + 1, sms_allowed: true } }),
      ),
    );
    const passed = replies.filter(({ status }) => status === 200);
    const stopped = replies.filter(({ status }) => status === 429);
    expect([passed.length, stopped.length]).toEqual([25, 55]);
    expect(await kept()).toHaveLength(25);
    const left = passed.map(({ headers }) =>
      Number(/^"user-permissions";r=(\d+);t=\d+$/.exec(String(headers['ratelimit']))![1]),
    );
    expect(left.sort((a, b) => a - b)).toEqual(Array.from({ length: 25 }, (_, n) => n));
  });

  test('429 is told as DRF tells it, with when to come back', async () => {
    await limit(1);
    expect((await once()).headers).toMatchObject({
      'ratelimit-policy': '"user-permissions";q=1;w=60',
      ratelimit: '"user-permissions";r=0;t=60',
    });
    const told = async (language: string): Promise<[number, number, string]> => {
      const reply = await state({}, { headers: { 'accept-language': language } });
      expect(reply.headers).toMatchObject({ allow: 'POST, OPTIONS', 'content-type': 'application/json' });
      expect(reply.headers['ratelimit']).toBe(`"user-permissions";r=0;t=${reply.headers['retry-after']}`);
      return [reply.status, Number(reply.headers['retry-after']), reply.text];
    };
    const [status, seconds, text] = await told('en');
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
    expect([status, text]).toEqual([
      429,
      `{"detail":"Request was throttled. Expected available in ${seconds} seconds."}`,
    ]);
    const [, saniye, metin] = await told('tr');
    expect(metin).toBe(
      `{"detail":"Üst üste çok fazla istek yapıldı. ${saniye} saniye içinde erişilebilir olması bekleniyor."}`,
    );
  });

  test('seconds are written plainly, one of them in the singular', async () => {
    await limit(1, 86_400);
    await once();
    expect((await once()).body.detail).toMatch(/^Request was throttled\. Expected available in 8[56]\d{3} seconds\.$/);
    await kit.rows('delete from throttle');
    await limit(1, 1);
    // A long window that is full: a limit of one second shortens it to one second from now.
    await kit.rows(
      `insert into throttle (scope, caller, starts_at, ends_at, count)
       select 'user-permissions', $1, $2, $2::timestamptz + interval '1 hour', 5`,
      kit.ctx.keys.hash('throttle', 'ip:127.0.0.1').subarray(0, 16),
      kit.ctx.clock.now(),
    );
    expect((await once()).body).toEqual({ detail: 'Request was throttled. Expected available in 1 second.' });
  });

  test('the window ends by itself', async () => {
    await limit(2);
    expect([(await once()).status, (await once()).status, (await once()).status]).toEqual([200, 200, 429]);
    kit.advance(60_000);
    expect([(await once()).status, (await once()).status, (await once()).status]).toEqual([200, 200, 429]);
  });

  test('wrong bodies and wrong methods count, and a full window is told before either', async () => {
    await limit(3);
    expect((await state({})).status).toBe(400);
    expect((await state('{')).status).toBe(400);
    expect((await kit.send('GET', PATH)).status).toBe(405);
    expect((await state({})).status).toBe(429);
    expect((await state('x', { headers: { 'content-type': 'text/plain' } })).status).toBe(429);
    expect((await kit.send('GET', PATH)).status).toBe(429);
    expect((await kit.send('GET', PATH, { headers: { accept: 'text/html' } })).status).toBe(406);
  });

  test('customers are counted by account, guests by address, other scopes not at all', async () => {
    await limit(1);
    const bora = await kit.signUp();
    const by = (client: Client): Promise<Reply> => client.send('POST', PATH, { body: { uid: UID, basket: 1 } });
    expect([(await once()).status, (await by(ada)).status, (await by(bora)).status]).toEqual([200, 200, 200]);
    expect([(await once()).status, (await by(ada)).status, (await by(bora)).status]).toEqual([429, 429, 429]);
    const token = await kit.send('POST', PATH, {
      body: { uid: UID, basket: 1 },
      headers: { authorization: `Token ${ada.key}` },
    });
    expect(token.status).toBe(429);
    expect((await ada.send('PATCH', '/users/profile/', { body: {} })).status).toBe(200);
  });

  test('what CSRF stops is not counted', async () => {
    await limit(1);
    const forged = (): Promise<Reply> =>
      ada.send('POST', PATH, { body: { uid: UID, basket: 1 }, headers: { 'x-csrftoken': 'x'.repeat(32) } });
    expect([(await forged()).status, (await forged()).status]).toEqual([403, 403]);
    const put = (headers: Record<string, string>): Promise<Reply> => ada.send('PUT', PATH, { body: {}, headers });
    expect((await put({})).status).toBe(405);
    expect((await put({})).status).toBe(429);
    expect((await put({ 'x-csrftoken': '' })).status).toBe(403);
  });
});
