/** Operators register programs, and the shop's own programs make accounts and change passwords. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { throttleScopes } from '../../src/settings.ts';
import { expectRefused, refresh, type Texts, works } from '../authorizing.ts';
import { createKit, type Kit, PASSWORD, type Reply, type Send } from '../kit.ts';

type Json = Record<string, unknown>;

const CLIENTS = '/v1/clients';
const NEXT = 'another-good-password';

let kit: Kit;
let keeper: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  keeper = await kit.apiKey('clients');
  await createClient(kit.ctx, { id: 'till', name: 'Till', password_grant: true }, atTheMachine);
  await createClient(kit.ctx, { id: 'front', name: 'Shop front', first_party: true }, atTheMachine);
  await createClient(kit.ctx, { id: 'third', name: 'A third party' }, atTheMachine);
});
afterAll(() => kit.close());

const places = ({ body }: Reply): unknown => body.errors?.map((error: Json) => [error['pointer'], error['code']]);

describe('/v1/clients', () => {
  const made = {
    id: 'office',
    name: 'Back office',
    redirect_uris: ['https://office.example/cb', 'http://localhost:3000/', 'com.example.office:/cb'],
    first_party: false,
    password_grant: false,
    created_at: expect.any(String),
    disabled_at: null,
  };

  test('makes, shows, changes, disables and enables a client', async () => {
    const { id, name, redirect_uris } = made;
    const reply = await keeper('POST', CLIENTS, { body: { id, name, redirect_uris } });
    expect([reply.status, reply.body]).toEqual([201, made]);
    expect((await keeper('GET', `${CLIENTS}/office`)).body).toEqual(made);
    const change = { name: 'Office', redirect_uris: [], first_party: true, password_grant: true };
    const changed = await keeper('PATCH', `${CLIENTS}/office`, { body: change });
    expect([changed.status, changed.body]).toEqual([200, { ...made, ...change }]);
    const disabled = await keeper('PATCH', `${CLIENTS}/office`, { body: { disabled: true } });
    expect(disabled.body).toEqual({ ...made, ...change, disabled_at: expect.any(String) });
    kit.advance(1000);
    expect((await keeper('PATCH', `${CLIENTS}/office`, { body: { disabled: true } })).body).toEqual(disabled.body);
    expect((await keeper('PATCH', `${CLIENTS}/office`, { body: { disabled: false } })).body).toEqual({
      ...made,
      ...change,
    });
    expect((await keeper('PATCH', `${CLIENTS}/office`, { body: {} })).body).toEqual({ ...made, ...change });
  });

  test('makes an id where none is given, and takes none twice', async () => {
    const first = await keeper('POST', CLIENTS, { body: { name: 'Nameless' } });
    expect([first.status, first.body.id]).toEqual([201, expect.stringMatching(/^[0-9a-f]{80}$/)]);
    const again = await keeper('POST', CLIENTS, { body: { id: first.body.id, name: 'Thief' } });
    expect([again.status, places(again)]).toEqual([409, [['/id', 'taken']]]);
    expect((await keeper('GET', `${CLIENTS}/${first.body.id}`)).body.name).toBe('Nameless');
  });

  test('lists them page by page', async () => {
    const ids: string[] = [];
    let after = '';
    for (;;) {
      const { body } = await keeper('GET', `${CLIENTS}?limit=2${after}`);
      expect(body.items.length).toBeLessThanOrEqual(2);
      ids.push(...body.items.map(({ id }: { id: string }) => id));
      if (body.next === null) break;
      after = `&after=${encodeURIComponent(body.next)}`;
    }
    expect(ids).toEqual(
      (await kit.rows<{ id: string }>('select id from oauth_client order by id')).map(({ id }) => id),
    );
    expect(ids.length).toBeGreaterThan(4);
  });

  test('is for keys of its scope and for operators', async () => {
    const operator = await kit.operator();
    expect((await operator.send('GET', CLIENTS)).status).toBe(200);
    const customer = await kit.signUp();
    for (const [send, status] of [
      [await kit.apiKey('companies'), 403],
      [customer.send, 403],
      [kit.send, 401],
    ] as const) {
      expect((await send('GET', CLIENTS)).status).toBe(status);
      expect((await send('POST', CLIENTS, { body: { name: 'x' } })).status).toBe(status);
      expect((await send('PATCH', `${CLIENTS}/till`, { body: { disabled: true } })).status).toBe(status);
    }
  });

  test.each([
    'http://app.example/cb',
    'https://app.example/cb#x',
    'https://app.example/cb#',
    'https://me@app.example/cb',
    'https://@app.example/cb',
    'https:app.example/cb',
    'https:///app.example/cb',
    'https://app.example:443/cb',
    'https://APP.example/cb',
    'HTTPS://app.example/cb',
    'https://*.example/cb',
    'https://2130706433/cb',
    'https://ex%61mple.com/cb',
    'https://bücher.example/cb',
    'https://app.example/cb?state=1',
    'https://app.example\\cb',
    'https://app.example/c b',
    'http://127.0.0.1.evil.example/cb',
    'http://127.1/cb',
    'javascript:alert(1)',
    'javascript://app.example/%0aalert(1)',
    'data:text/html,x',
    'blob:https://app.example/1',
    'file:///etc/passwd',
    'myapp:/cb',
    'com.example.app:',
    'com.example.app://me@host/cb',
    '/cb',
    '',
    `https://app.example/${'x'.repeat(500)}`,
  ])('registers no %s', async (uri) => {
    for (const [method, path, body] of [
      ['POST', CLIENTS, { name: 'x', redirect_uris: ['https://good.example/', uri] }],
      ['PATCH', `${CLIENTS}/third`, { redirect_uris: ['https://good.example/', uri] }],
    ] as const) {
      const reply = await keeper(method, path, { body });
      expect([reply.status, reply.body.errors?.[0]?.pointer]).toEqual([400, '/redirect_uris/1']);
    }
    expect((await keeper('GET', `${CLIENTS}/third`)).body.redirect_uris).toEqual([]);
  });

  test.each([
    'https://app.example',
    'https://app.example:8443/cb?tenant=1&x=%2F',
    'http://127.0.0.1/cb',
    'http://127.0.0.1:3000',
    'http://[::1]:3000/cb',
    'http://localhost:3000/cb',
    'com.example.app:/cb',
    'com.example.app://cb',
  ])('registers %s', async (uri) => {
    const reply = await keeper('POST', CLIENTS, { body: { name: 'x', redirect_uris: [uri] } });
    expect([reply.status, reply.body.redirect_uris]).toEqual([201, [uri]]);
  });

  test('names what is wrong, and knows no other ids', async () => {
    for (const [body, place] of [
      [{}, '/name'],
      [{ name: ' ' }, '/name'],
      [{ name: 'x', id: 'a b' }, '/id'],
      [{ name: 'x', secret: 'y' }, '/secret'],
      [{ name: 'x', first_party: 'yes' }, '/first_party'],
      [{ name: 'x', redirect_uris: Array.from({ length: 21 }, (_, n) => `https://a${n}.example/`) }, '/redirect_uris'],
    ] as const) {
      const reply = await keeper('POST', CLIENTS, { body });
      expect([reply.status, reply.body.errors?.[0]?.pointer]).toEqual([400, place]);
    }
    for (const id of ['nobody', 'a%20b', '%00', 'x'.repeat(200)]) {
      expect((await keeper('GET', `${CLIENTS}/${id}`)).status, id).toBe(404);
      expect((await keeper('PATCH', `${CLIENTS}/${id}`, { body: {} })).status, id).toBe(404);
    }
  });
});

test('the server says what it can', async () => {
  const { status, body } = await kit.send('GET', '/.well-known/oauth-authorization-server', {
    headers: { host: 'shop.example' },
  });
  expect(status).toBe(200);
  expect(body).toMatchObject({
    issuer: 'http://shop.example',
    authorization_endpoint: 'http://shop.example/oauth/authorize',
    token_endpoint: 'http://shop.example/api/token',
    response_types_supported: ['code'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: ['none'],
  });
});

let people = 0;
const newcomer = (): string => {
  people += 1;
  return `newcomer${people}@example.com`;
};
const registration = (more: Json = {}): Json => ({
  client_id: 'till',
  device_name: 'Till 1',
  device_id: 'till-1',
  username: newcomer(),
  password: PASSWORD,
  firstname: 'Lotte',
  lastname: 'Peeters',
  telephone: '+32 475 00 00 00',
  policies: [4, 9, 9],
  tin_nr: 'BE0123456789',
  ...more,
});
const post = (path: string, body: Json): Promise<Reply> => kit.send('POST', path, { body });
const token = (username: unknown, password = PASSWORD): Promise<Reply> =>
  post('/api/token', { grant_type: 'password', client_id: 'till', username, password });

describe('POST /api/register', () => {
  test('makes an account with all that was said, and signs it in', async () => {
    const asked = registration();
    const reply = await post('/api/register', asked);
    expect(reply.status, reply.text).toBe(200);
    expect(Object.keys(reply.body)).toEqual(['access_token', 'token_type', 'expires_in', 'refresh_token']);
    expect(await works(kit, reply)).toBe(true);
    const [row] = await kit.rows<{ id: number }>(
      'select id, first_name, last_name, phone, phone_e164, tin_nr, email_verified_at, language_code from account where email = $1',
      asked['username'],
    );
    expect(row).toEqual({
      id: expect.any(Number),
      first_name: 'Lotte',
      last_name: 'Peeters',
      phone: '+32 475 00 00 00',
      phone_e164: '+32475000000',
      tin_nr: 'BE0123456789',
      email_verified_at: null,
      language_code: 'en',
    });
    expect(await kit.rows('select revision from accepted_policy where account = $1 order by 1', row!.id)).toEqual([
      { revision: 4 },
      { revision: 9 },
    ]);
    expect(
      await kit.rows(`select distinct client, device, device_name from session where account = $1`, row!.id),
    ).toEqual([{ client: 'till', device: 'till-1', device_name: 'Till 1' }]);
    expect((await token(asked['username'])).status).toBe(200);
  });

  test('takes a form, and what is optional may be absent', async () => {
    const username = newcomer();
    const form = `client_id=front&username=${encodeURIComponent(username)}&password=${PASSWORD}&firstname=A&lastname=B&policies[]=7`;
    expect((await kit.send('POST', '/api/register', { form })).status).toBe(200);
    expect(
      await kit.rows(
        'select revision from accepted_policy p join account a on a.id = p.account where a.email = $1',
        username,
      ),
    ).toEqual([{ revision: 7 }]);
  });

  test('is for programs of the shop itself', async () => {
    const asked = registration({ client_id: 'third' });
    expect((await post('/api/register', asked)).body.code).toBe('unsupported_grant_type');
    expect((await post('/api/register', { ...asked, client_id: 'nobody' })).body.code).toBe('invalid_client');
    expect(await kit.rows('select 1 from account where email = $1', asked['username'])).toEqual([]);
  });

  test('names what is wrong in its own words, and makes nothing', async () => {
    const known = await kit.signUp();
    const before = await kit.rows('select count(*) from account');
    for (const [more, expected] of [
      [
        { client_id: undefined, username: undefined, password: undefined, firstname: undefined, lastname: undefined },
        ['client_id', 'username', 'password', 'firstname', 'lastname'].map((name) => [`/${name}`, 'required']),
      ],
      [
        { username: 'no address', firstname: '' },
        [
          ['/username', 'email'],
          ['/firstname', 'blank'],
        ],
      ],
      [{ username: known.email.toUpperCase() }, [['/username', 'email_taken']]],
      [{ password: 'short' }, [['/password', 'short']]],
      [{ telephone: '12' }, [['/telephone', expect.any(String)]]],
      [{ policies: 'all' }, [['/policies', 'type']]],
      [{ policies: [1.5] }, [['/policies', 'integer']]],
      [{ policies: Array.from({ length: 51 }, (_, n) => n + 1) }, [['/policies', 'max_value']]],
      [{ tin_nr: 'x'.repeat(51) }, [['/tin_nr', 'max_length']]],
    ] as const) {
      const reply = await post('/api/register', registration(more));
      expect([reply.status, places(reply)], JSON.stringify(more)).toEqual([422, expected]);
    }
    expect(await kit.rows('select count(*) from account')).toEqual(before);
  });
});

describe('passwords', () => {
  test('forgotten: the answer never says whether there is an account; the link sets a new one', async () => {
    const ada = await kit.signUp();
    const tokens = await token(ada.email);
    const ask = (username: string): Promise<Reply> =>
      post('/api/forgot-password', { client_id: 'third', device_name: 'x', device_id: 'y', username });
    for (const reply of [await ask(ada.email), await ask('nobody@example.com')]) {
      expect([reply.status, reply.text, reply.headers['content-type']]).toEqual([200, '', undefined]);
    }
    await kit.jobs();
    const mail = (await kit.outbox('mail')).at(-1)!;
    expect(mail.recipient).toBe(ada.email);
    const link = /[0-9a-f]{64}/.exec(mail.body)![0];
    const set = (body: Texts): Promise<Reply> => post('/api/reset-password', body);
    const short = await set({ token: link, password: 'short' });
    expect([short.status, places(short)]).toEqual([422, [['/password', 'short']]]);
    const forged = await set({ token: `${link.slice(0, 63)}${link.endsWith('0') ? '1' : '0'}`, password: NEXT });
    expect([forged.status, places(forged)]).toEqual([422, [['/token', 'invalid']]]);
    const done = await set({ token: link, password: NEXT });
    expect([done.status, done.text]).toEqual([200, '']);
    expect((await set({ token: link, password: PASSWORD })).status).toBe(422);
    expect(await works(kit, tokens)).toBe(false);
    expectRefused(await refresh(kit, tokens.body.refresh_token), 'invalid_grant');
    expectRefused(await token(ada.email), 'invalid_grant');
    expect((await token(ada.email, NEXT)).status).toBe(200);
    expect((await post('/api/forgot-password', { client_id: 'nobody', username: ada.email })).status).toBe(401);
  });

  test('changed: new tokens, and every other sign-in ends', async () => {
    const ada = await kit.signUp();
    const before = await token(ada.email);
    const change = (more: Texts = {}): Promise<Reply> =>
      post('/api/change-password', {
        grant_type: 'password',
        client_id: 'till',
        username: ada.email,
        password: PASSWORD,
        new_password: NEXT,
        ...more,
      });
    for (const [more, status, code] of [
      [{ password: 'wrong-horse-battery' }, 400, 'invalid_grant'],
      [{ username: 'nobody@example.com' }, 400, 'invalid_grant'],
      [{ client_id: 'front' }, 400, 'unsupported_grant_type'],
      [{ client_id: 'nobody' }, 401, 'invalid_client'],
      [{ grant_type: 'code' }, 400, 'unsupported_grant_type'],
      [{ new_password: 'short' }, 422, 'unprocessable'],
    ] as const) {
      const reply = await change(more);
      expect([reply.status, reply.body.code], JSON.stringify(more)).toEqual([status, code]);
      if (status === 422) expect(places(reply)).toEqual([['/new_password', 'short']]);
    }
    expect([await works(kit, before), (await ada.send('GET', '/users/profile/')).status]).toEqual([true, 200]);
    const reply = await change();
    expect(Object.keys(reply.body)).toEqual(['access_token', 'token_type', 'expires_in', 'refresh_token']);
    expect([await works(kit, reply), await works(kit, before)]).toEqual([true, false]);
    expect((await ada.send('GET', '/users/profile/')).status).toBe(401);
    expectRefused(await token(ada.email), 'invalid_grant');
    expect((await token(ada.email, NEXT)).status).toBe(200);
  });

  test('guesses are counted as they are at the other doors', async () => {
    const { email } = await kit.signUp();
    await kit.set('THROTTLING_SETTINGS', {
      token: { count: 2, duration: 60 },
      login: { count: 1, duration: 60 },
      register: { count: 1, duration: 60 },
    });
    try {
      const guess = { grant_type: 'password', client_id: 'till', username: email, password: 'x', new_password: NEXT };
      const statuses: number[] = [];
      for (const [path, body] of [
        ['/api/token', guess],
        ['/api/change-password', guess],
        ['/api/change-password', guess],
        ['/api/forgot-password', { client_id: 'till', username: email }],
        ['/api/reset-password', { token: 'x', password: NEXT }],
        ['/api/register', registration({ client_id: 'third' })],
        ['/api/register', registration()],
      ] as const)
        statuses.push((await post(path, body)).status);
      expect(statuses).toEqual([400, 400, 429, 200, 429, 400, 429]);
    } finally {
      await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
    }
  });
});

test('an account with a second factor gets tokens with its code alone', async () => {
  const ada = await kit.signUp();
  await kit.rows('update account set second_factor = true where id = $1', ada.id);
  const reply = await token(ada.email);
  expect([reply.status, reply.body.code, reply.body.error]).toEqual([400, 'second_factor_needed', 'invalid_grant']);
  const body = {
    grant_type: 'password',
    client_id: 'till',
    username: ada.email,
    password: PASSWORD,
    new_password: NEXT,
  };
  expect((await post('/api/change-password', body)).body.code).toBe('second_factor_needed');
  expectRefused(await token(ada.email, 'wrong-horse-battery'), 'invalid_grant');
});
