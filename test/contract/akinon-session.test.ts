/** Signing in and out in the Akinon dialect: CSRF, cookies, keys, and in which order a request is judged. */
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createHttp } from '../../src/app.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';

const PROFILE = '/users/profile/';
const LOGIN = '/users/login/';
/** Cookies of a client are taken back in these words. */
const forgotten = (name: string): string =>
  `${name}=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`;

let kit: Kit;
let ada: Client;

beforeAll(async () => {
  kit = await createKit();
  ada = await kit.signUp();
});
beforeEach(() => kit.set('THROTTLING_SETTINGS', { 'profile-update': null, register: null, login: null }));
afterAll(() => kit.close());

const cookiesOf = (reply: Reply): string[] => [reply.headers['set-cookie'] ?? []].flat() as string[];
const session = (client: Client): string => client.cookies.get('sessionid')!;
const answer = (reply: Reply): [number, unknown] => [reply.status, reply.body];
const notSignedIn = [401, { detail: 'Authentication credentials were not provided.' }];

const alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const shift = (text: string, pad: string, sign: 1 | -1): string =>
  [...text].map((c, i) => alphabet[(62 + alphabet.indexOf(c) + sign * alphabet.indexOf(pad[i]!)) % 62]).join('');
/** Django's masking: a pad, and the secret moved by it. */
const mask = (secret: string, pad: string): string => pad + shift(secret, pad, 1);
const unmask = (token: string): string => shift(token.slice(32), token.slice(0, 32), -1);

const SECRET = 'aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0iL';
const PAD = 'Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2Rr1Qq0Pp';

describe('GET /csrf_token/', () => {
  test('gives a token in the body and another text of the same secret in the cookie', async () => {
    const reply = await kit.send('GET', '/csrf_token/');
    expect(reply.status).toBe(200);
    expect(Object.keys(reply.body)).toEqual(['csrf_token']);
    expect(reply.body.csrf_token).toMatch(/^[A-Za-z0-9]{64}$/);
    const [cookie, ...others] = cookiesOf(reply);
    expect(others).toEqual([]);
    const token = /^csrftoken=([A-Za-z0-9]{64}); Max-Age=31449600; Path=\/; SameSite=Lax$/.exec(cookie!)![1]!;
    expect(token).not.toBe(reply.body.csrf_token);
    expect(unmask(token)).toBe(unmask(reply.body.csrf_token));
    const other = await kit.send('GET', '/csrf_token/');
    expect(unmask(other.body.csrf_token)).not.toBe(unmask(token));
  });

  test.each([
    ['masked', mask(SECRET, PAD)],
    ['bare', SECRET],
  ])('keeps the secret of a %s cookie the client has', async (_what, token) => {
    const reply = await kit.send('GET', '/csrf_token', { headers: { cookie: `csrftoken=${token}` } });
    expect(unmask(reply.body.csrf_token)).toBe(SECRET);
    expect(unmask(/csrftoken=(\w+)/.exec(cookiesOf(reply)[0]!)![1]!)).toBe(SECRET);
  });

  test('replaces a cookie that is no token', async () => {
    for (const token of ['short', `${SECRET.slice(1)}-`, 'x'.repeat(65)]) {
      const reply = await kit.send('GET', '/csrf_token/', { headers: { cookie: `csrftoken=${token}` } });
      expect(reply.body.csrf_token).toMatch(/^[A-Za-z0-9]{64}$/);
    }
  });
});

describe('CSRF', () => {
  const masked = mask(SECRET, PAD);
  const headerSays = (what: string): string => `CSRF token from the 'X-Csrftoken' HTTP header ${what}.`;

  /** A write of Ada's with exactly these CSRF parts. */
  const write = (cookie: string | undefined, headers: Record<string, string> = {}): Promise<Reply> =>
    kit.send('PATCH', PROFILE, {
      body: { first_name: 'Ada' },
      headers: {
        cookie: `sessionid=${session(ada)}${cookie === undefined ? '' : `; csrftoken=${cookie}`}`,
        ...headers,
      },
    });
  const refused = (reason: string): unknown => [403, { detail: `CSRF Failed: ${reason}` }];

  test.each([
    ['the same masked text twice', masked, masked],
    ['the same bare secret twice', SECRET, SECRET],
    ['two maskings of one secret', masked, mask(SECRET, SECRET)],
    ['a bare cookie and a masked header', SECRET, masked],
    ['a masked cookie and a bare header', masked, SECRET],
  ])('takes %s', async (_what, cookie, header) => {
    expect((await write(cookie, { 'x-csrftoken': header })).status).toBe(200);
  });

  test.each([
    ['no cookie', undefined, { 'x-csrftoken': masked }, 'CSRF cookie not set.'],
    ['an empty cookie', '', { 'x-csrftoken': masked }, 'CSRF cookie not set.'],
    ['no header', masked, {}, 'CSRF token missing.'],
    ['an empty header', masked, { 'x-csrftoken': '' }, 'CSRF token missing.'],
    ['a short header', masked, { 'x-csrftoken': SECRET.slice(1) }, headerSays('has incorrect length')],
    ['a long header', masked, { 'x-csrftoken': `${masked}a` }, headerSays('has incorrect length')],
    [
      'a header of other characters',
      masked,
      { 'x-csrftoken': `${SECRET.slice(1)}-` },
      headerSays('has invalid characters'),
    ],
    ['another secret', masked, { 'x-csrftoken': mask(SECRET, PAD).replace(/^Z/, 'Y') }, headerSays('incorrect')],
    ['another bare secret', SECRET, { 'x-csrftoken': PAD }, headerSays('incorrect')],
    ['a cookie that is no token', 'nonsense', { 'x-csrftoken': masked }, headerSays('incorrect')],
  ] as [string, string | undefined, Record<string, string>, string][])(
    'refuses %s',
    async (_what, cookie, headers, reason) => {
      const reply = await write(cookie, headers);
      expect(answer(reply)).toEqual(refused(reason));
      expect(reply.headers['www-authenticate']).toBeUndefined();
      expect(cookiesOf(reply)).toEqual([]);
    },
  );

  const good = { 'x-csrftoken': masked };
  const host = { host: 'shop.example' };
  const foreign = (origin: string): string => `Origin checking failed - ${origin} does not match any trusted origins.`;
  const referer = (what: string): string => `Referer checking failed - ${what}`;

  test.each([
    ['our own origin', { ...host, origin: 'http://shop.example' }],
    ['no origin at all', host],
    ['a foreign Referer alone, as programs send it', { referer: 'https://elsewhere.example' }],
    ['a browser on our own page', { ...host, 'sec-fetch-site': 'same-origin' }],
    ['an address typed by hand', { 'sec-fetch-site': 'none' }],
    [
      'a page of ours by its Referer',
      { ...host, 'sec-fetch-site': 'same-site', referer: 'http://shop.example/account' },
    ],
  ] as [string, Record<string, string>][])('lets %s pass', async (_what, headers) => {
    expect((await write(masked, { ...good, ...headers })).status).toBe(200);
  });

  test.each([
    ['a foreign origin', { ...host, origin: 'https://evil.example' }, foreign('https://evil.example')],
    ['our host under another scheme', { ...host, origin: 'https://shop.example' }, foreign('https://shop.example')],
    ['our host at another port', { ...host, origin: 'http://shop.example:81' }, foreign('http://shop.example:81')],
    [
      'a host that begins like ours',
      { ...host, origin: 'http://shop.example.evil' },
      foreign('http://shop.example.evil'),
    ],
    ['an opaque origin', { origin: 'null' }, foreign('null')],
    [
      'a foreign origin whatever else the browser says',
      { origin: 'https://evil.example', 'sec-fetch-site': 'same-origin' },
      foreign('https://evil.example'),
    ],
    ['another site without a Referer', { 'sec-fetch-site': 'cross-site' }, referer('no Referer.')],
    [
      'a Referer that is none',
      { 'sec-fetch-site': 'cross-site', referer: 'nonsense' },
      referer('Referer is malformed.'),
    ],
    [
      'another site by its Referer',
      { ...host, 'sec-fetch-site': 'same-site', referer: 'https://evil.example/' },
      referer('https://evil.example/ does not match any trusted origins.'),
    ],
  ] as [string, Record<string, string>, string][])('stops %s', async (_what, headers, reason) => {
    expect(answer(await write(masked, { ...good, ...headers }))).toEqual(refused(reason));
  });

  test('trusts the origins that a setting names, by Origin and by Referer', async () => {
    const shop = 'https://front.example';
    const byReferer = { ...good, 'sec-fetch-site': 'cross-site', referer: `${shop}/a?b` };
    expect((await write(masked, { ...good, origin: shop })).status).toBe(403);
    expect((await write(masked, byReferer)).status).toBe(403);
    await kit.set('CSRF_TRUSTED_ORIGINS', [shop]);
    expect((await write(masked, { ...good, origin: shop })).status).toBe(200);
    expect((await write(masked, byReferer)).status).toBe(200);
    expect((await write(masked, { ...good, origin: `${shop}:8443` })).status).toBe(403);
    await kit.set('CSRF_TRUSTED_ORIGINS', []);
  });

  test('is not asked of reads, of Tokens, and of nobody in particular', async () => {
    const evil = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };
    for (const method of ['GET', 'HEAD', 'OPTIONS']) {
      expect((await ada.send(method, PROFILE, { headers: { ...evil, 'x-csrftoken': '' } })).status).toBe(200);
    }
    const token = { authorization: `Token ${ada.key}`, ...evil };
    expect((await kit.send('PATCH', PROFILE, { body: {}, headers: token })).status).toBe(200);
    const both = { ...token, cookie: `sessionid=${session(ada)}` };
    expect((await kit.send('PATCH', PROFILE, { body: {}, headers: both })).status).toBe(200);
    const guest = { body: { uid: 'u', basket: 1 }, headers: evil };
    expect((await kit.send('POST', '/users/permissions/', guest)).status).toBe(200);
  });

  test('guards every unsafe call of a session, also where guests may come', async () => {
    for (const [method, path] of [
      ['PUT', PROFILE],
      ['PATCH', PROFILE],
      ['DELETE', PROFILE],
      ['PUT', '/users/profile-with-loyalty/'],
      ['PATCH', '/users/profile-with-loyalty/'],
      ['POST', '/users/permissions/'],
      ['POST', LOGIN],
      ['POST', '/users/logout/'],
      ['POST', '/users/registration/'],
      ['POST', '/users/password/change/'],
      ['POST', '/users/email-change/'],
    ] as const) {
      for (const name of ['sessionid', 'osessionid']) {
        const reply = await kit.send(method, path, { body: {}, headers: { cookie: `${name}=${session(ada)}` } });
        expect(answer(reply), `${method} ${path}`).toEqual(refused('CSRF cookie not set.'));
      }
    }
    expect((await ada.send('GET', PROFILE)).status).toBe(200);
  });

  test('is told in English in Turkish too, as Django does', async () => {
    const reply = await write(masked, { 'accept-language': 'tr' });
    expect([answer(reply), reply.headers['content-language']]).toEqual([refused('CSRF token missing.'), 'tr']);
  });

  test('a token is bound to no session: one asked for by nobody serves everybody', async () => {
    const { body } = await kit.send('GET', '/csrf_token/');
    const bora = await kit.signUp();
    for (const client of [ada, bora]) {
      const headers = {
        cookie: `sessionid=${session(client)}; csrftoken=${body.csrf_token}`,
        'x-csrftoken': body.csrf_token,
      };
      expect((await kit.send('PATCH', PROFILE, { body: {}, headers })).status).toBe(200);
    }
  });
});

describe('signing in', () => {
  const login = (body: unknown, headers: Record<string, string> = {}): Promise<Reply> =>
    kit.send('POST', LOGIN, { body, headers });

  test('gives a key and two cookies beside the one of known devices, and stores neither key', async () => {
    const reply = await login({ email: ada.email, password: PASSWORD });
    expect(reply.status).toBe(200);
    expect(Object.keys(reply.body)).toEqual(['key', 'redirect_url']);
    expect(reply.body.redirect_url).toBeNull();
    expect(reply.body.key).toMatch(/^[A-Za-z0-9]{32,}$/);
    const [first, second, ...others] = cookiesOf(reply);
    expect(others.map((cookie) => cookie.split('=', 1)[0])).toEqual(['known_device']);
    const found =
      /^sessionid=([A-Za-z0-9]{32,}); expires=(\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT); HttpOnly; Max-Age=1209600; Path=\/; SameSite=Lax$/.exec(
        first!,
      )!;
    expect(second).toMatch(/^csrftoken=[A-Za-z0-9]{64}; Max-Age=31449600; Path=\/; SameSite=Lax$/);
    expect(new Date(found[2]!).getTime()).toBeGreaterThan(kit.ctx.clock.now().getTime() + 1_209_000_000);
    expect(found[1]).not.toBe(reply.body.key);
    const rows = await kit.rows<{ text: string }>('select s::text as text from session s');
    expect(rows.length).toBeGreaterThan(1);
    const told = [found[1]!, reply.body.key as string].flatMap((key) => [key, Buffer.from(key).toString('hex')]);
    const traces = [...rows.map(({ text }) => text), ...kit.logged];
    expect(traces.filter((trace) => told.some((key) => trace.includes(key)))).toEqual([]);
  });

  test('passes over keys it does not know, and the case of the address', async () => {
    const extras = {
      formType: 'login',
      locale: 'en',
      captchaValidated: false,
      csrfToken: 'x',
      callbackUrl: '/',
      json: 'true',
    };
    expect((await login({ ...extras, email: ada.email.toUpperCase(), password: PASSWORD })).status).toBe(200);
    const form = await kit.send('POST', LOGIN, { form: `email=${encodeURIComponent(ada.email)}&password=${PASSWORD}` });
    expect(form.status).toBe(200);
    expect((await kit.send('POST', '/users/login', { body: { email: ada.email, password: PASSWORD } })).status).toBe(
      200,
    );
  });

  test('says the same of a wrong password, an unknown address and an account that cannot sign in', async () => {
    const off = await kit.signUp();
    await kit.rows('update account set is_active = false where id = $1', off.id);
    const invited = await kit.signUp();
    await kit.rows('update account set password = null where id = $1', invited.id);
    const attempts = [
      { email: ada.email, password: `${PASSWORD}x` },
      { email: 'nobody@example.com', password: PASSWORD },
      { email: off.email, password: PASSWORD },
      { email: invited.email, password: PASSWORD },
    ];
    const texts = { en: 'Unable to log in with provided credentials.', tr: 'Verilen bilgiler ile giriş sağlanamadı.' };
    for (const [language, text] of Object.entries(texts)) {
      const seen: object[] = [];
      for (const attempt of attempts) {
        const reply = await login(attempt, { 'accept-language': language });
        expect([reply.status, reply.text]).toEqual([400, JSON.stringify({ non_field_errors: [text] })]);
        const { date: _date, 'x-request-id': _id, ...headers } = reply.headers;
        seen.push(headers);
      }
      expect(seen).toEqual(attempts.map(() => seen[0]));
      expect(seen[0]).not.toHaveProperty('set-cookie');
    }
  });

  test('names wrong fields as lists, all at once', async () => {
    expect(answer(await login({}))).toEqual([
      400,
      { email: ['This field is required.'], password: ['This field is required.'] },
    ]);
    expect(answer(await login({ email: 'x', password: '' }, { 'accept-language': 'tr' }))).toEqual([
      400,
      { email: ['Geçerli bir e-posta adresi girin.'], password: ['Bu alan boş bırakılmamalı.'] },
    ]);
    expect(answer(await login({ email: ['x'], password: 5 }))).toEqual([
      400,
      { email: ['Not a valid string.'], password: ['Not a valid string.'] },
    ]);
    expect((await login('{')).status).toBe(400);
    expect((await kit.send('GET', LOGIN)).headers['allow']).toBe('POST, OPTIONS');
  });

  test('gives a new key each time, and ends the session this browser had', async () => {
    const bora = await kit.signUp();
    const old = session(bora);
    const csrf = bora.cookies.get('csrftoken');
    expect((await bora.send('POST', LOGIN, { body: { email: bora.email, password: PASSWORD } })).status).toBe(200);
    expect(session(bora)).not.toBe(old);
    expect(bora.cookies.get('csrftoken')).not.toBe(csrf);
    expect(answer(await kit.send('GET', PROFILE, { headers: { cookie: `sessionid=${old}` } }))).toEqual(notSignedIn);
    expect(answer(await kit.send('GET', PROFILE, { headers: { authorization: `Token ${bora.key}` } }))).toEqual([
      401,
      { detail: 'Invalid token.' },
    ]);
    expect((await bora.send('GET', PROFILE)).status).toBe(200);
  });

  test('takes as many wrong tries as its scope, then says when to come back, also with the right password', async () => {
    await kit.set('THROTTLING_SETTINGS', { login: { count: 4, duration: 60 } });
    const cem = `cem.${process.pid}@example.com`;
    await kit.signUp({ email: cem });
    await kit.rows('delete from throttle');
    for (let tries = 0; tries < 4; tries += 1)
      expect((await login({ email: cem, password: 'wrong' })).status).toBe(400);
    const stopped = await login({ email: cem, password: PASSWORD });
    const seconds = Number(stopped.headers['retry-after']);
    expect(answer(stopped)).toEqual([
      429,
      { detail: `Request was throttled. Expected available in ${seconds} seconds.` },
    ]);
    kit.advance(60_000);
    expect((await login({ email: cem, password: PASSWORD })).status).toBe(200);
  });

  test('names the cookie as the setting says; both names are always taken', async () => {
    await kit.set('SESSION_COOKIE_NAME', 'osessionid');
    const reply = await login({ email: ada.email, password: PASSWORD });
    const key = /^osessionid=([A-Za-z0-9]+);/.exec(cookiesOf(reply)[0]!)![1]!;
    await kit.set('SESSION_COOKIE_NAME', 'sessionid');
    for (const cookie of [
      `osessionid=${key}`,
      `sessionid=${key}`,
      `sessionid=${key}; osessionid=${key}`,
      `sessionid=overoveroveroverover; osessionid=${key}`,
      `sessionid=${key}; osessionid=overoveroveroverover`,
    ]) {
      const seen = await kit.send('GET', PROFILE, { headers: { cookie } });
      expect([seen.status, seen.body.email], cookie).toEqual([200, ada.email]);
    }
  });

  test('registration answers alike, 201, and signs in', async () => {
    const email = `yeni.${process.pid}@example.com`;
    const body = {
      email,
      password1: PASSWORD,
      password2: PASSWORD,
      first_name: 'Yeni',
      last_name: 'Üye',
      phone: '05321110000',
    };
    const reply = await kit.send('POST', '/users/registration/', { body: { ...body, sms_allowed: true } });
    expect(reply.status).toBe(201);
    expect(Object.keys(reply.body)).toEqual(['key', 'redirect_url']);
    expect(cookiesOf(reply).map((cookie) => cookie.split('=', 1)[0])).toEqual([
      'sessionid',
      'csrftoken',
      'known_device',
    ]);
    const me = await kit.send('GET', PROFILE, { headers: { authorization: `Token ${reply.body.key}` } });
    expect(me.body).toMatchObject({
      email,
      first_name: 'Yeni',
      last_name: 'Üye',
      phone: '05321110000',
      sms_allowed: true,
    });
    const again = await kit.send('POST', '/users/registration/', { body });
    expect([again.status, Object.keys(again.body)]).toEqual([400, ['email']]);
    const empty = await kit.send('POST', '/users/registration/', { body: {} });
    expect(empty.body).toMatchObject({ email: ['This field is required.'] });
    const differ = await kit.send('POST', '/users/registration/', {
      body: { ...body, email: `x${email}`, password2: `${PASSWORD}x` },
    });
    expect([differ.status, Object.keys(differ.body)]).toEqual([400, ['password2']]);
  });

  test('GET /current_user/ has the keys clients read', async () => {
    const reply = await ada.send('GET', '/current_user/');
    expect(reply.status).toBe(200);
    expect(Object.keys(reply.body)).toEqual([
      'pk',
      'first_name',
      'last_name',
      'phone',
      'email',
      'email_allowed',
      'sms_allowed',
      'call_allowed',
      'attributes',
      'hashed_email',
      'date_joined',
      'last_login',
      'gender',
      'date_of_birth',
      'is_email_verified',
      'segment',
      'client_type',
      'selected_address',
    ]);
    expect(reply.body).toMatchObject({ pk: ada.id, email: ada.email, first_name: 'Ada', is_email_verified: true });
    expect(answer(await kit.send('GET', '/current_user/'))).toEqual(notSignedIn);
  });
});

describe('being signed in', () => {
  test('a cookie that stands for nobody is nobody, and is taken back', async () => {
    for (const name of ['sessionid', 'osessionid']) {
      for (const key of ['a'.repeat(32), 'x', 'a-b.c%20d', 'x'.repeat(5000)]) {
        const reply = await kit.send('GET', PROFILE, { headers: { cookie: `other=1; ${name}=${key}` } });
        expect(answer(reply)).toEqual(notSignedIn);
        expect(cookiesOf(reply)).toEqual([forgotten(name)]);
      }
      const guest = await kit.send('POST', '/users/permissions/', {
        body: { uid: 'u', basket: 1 },
        headers: { cookie: `${name}=${'a'.repeat(32)}` },
      });
      expect([guest.status, cookiesOf(guest)]).toEqual([200, [forgotten(name)]]);
    }
    expect(cookiesOf(await ada.send('GET', PROFILE))).toEqual([]);
    expect(cookiesOf(await kit.send('GET', PROFILE))).toEqual([]);
  });

  test('a session ends by age', async () => {
    await kit.set('SESSION_AGE', 60);
    const bora = await kit.signUp();
    await kit.set('SESSION_AGE', 1_209_600);
    const cookie = `sessionid=${session(bora)}`;
    expect((await bora.send('GET', PROFILE)).status).toBe(200);
    kit.advance(60_000);
    const reply = await kit.send('GET', PROFILE, { headers: { cookie } });
    expect([answer(reply), cookiesOf(reply)]).toEqual([notSignedIn, [forgotten('sessionid')]]);
  });

  test('a Token in the header is enough, and a wrong one is told even beside a good cookie', async () => {
    const get = (authorization: string, cookie?: string): Promise<Reply> =>
      kit.send('GET', PROFILE, { headers: { authorization, ...(cookie === undefined ? {} : { cookie }) } });
    expect((await get(`Token ${ada.key}`)).body.email).toBe(ada.email);
    expect((await get(`token  ${ada.key}`)).status).toBe(200);
    const good = `sessionid=${session(ada)}`;
    for (const wrong of ['Token aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'Token', 'Token a b', `Token ${session(ada)}`]) {
      for (const cookie of [undefined, good]) {
        const reply = await get(wrong, cookie);
        expect(answer(reply)).toEqual([401, { detail: 'Invalid token.' }]);
        expect(reply.headers['www-authenticate']).toBe('Token');
      }
    }
    // Another scheme is not for us: the cookie speaks.
    expect((await get('Basic YTpi', good)).status).toBe(200);
    expect(answer(await get('Basic YTpi'))).toEqual(notSignedIn);
    const asCookie = await kit.send('GET', PROFILE, { headers: { cookie: `sessionid=${ada.key}` } });
    expect(answer(asCookie)).toEqual(notSignedIn);
    const turkish = await kit.send('GET', PROFILE, { headers: { authorization: 'Token x', 'accept-language': 'tr' } });
    expect(turkish.body).toEqual({ detail: 'Geçersiz token.' });
  });

  test('signing out ends cookie and key, with and without the slash, and again does no harm', async () => {
    for (const path of ['/users/logout/', '/users/logout']) {
      const bora = await kit.signUp();
      const cookie = `sessionid=${session(bora)}`;
      const reply = await bora.send('POST', path);
      expect([reply.status, Object.keys(reply.body)]).toEqual([200, ['detail']]);
      expect(cookiesOf(reply)).toEqual([forgotten('sessionid'), forgotten('osessionid')]);
      expect(answer(await kit.send('GET', PROFILE, { headers: { cookie } }))).toEqual(notSignedIn);
      expect((await kit.send('GET', PROFILE, { headers: { authorization: `Token ${bora.key}` } })).status).toBe(401);
      expect((await kit.send('POST', path)).status).toBe(200);
    }
    expect((await ada.send('GET', PROFILE)).status).toBe(200);
  });

  test('changing the password gives this browser a new key and ends all others', async () => {
    const bora = await kit.signUp();
    const elsewhere = await kit.signIn(bora.email);
    const old = session(bora);
    const next = 'an-entirely-other-one';
    const change = (old_password: string): Promise<Reply> =>
      bora.send('POST', '/users/password/change/', {
        body: { old_password, new_password1: next, new_password2: next },
      });
    const wrong = await change('not-it');
    expect([wrong.status, Object.keys(wrong.body)]).toEqual([400, ['old_password']]);
    expect((await elsewhere.send('GET', PROFILE)).status).toBe(200);
    expect((await change(PASSWORD)).status).toBe(200);
    expect(session(bora)).not.toBe(old);
    expect((await bora.send('GET', PROFILE)).status).toBe(200);
    expect((await elsewhere.send('GET', PROFILE)).status).toBe(401);
    expect((await kit.send('GET', PROFILE, { headers: { cookie: `sessionid=${old}` } })).status).toBe(401);
    const again = await kit.send('POST', LOGIN, { body: { email: bora.email, password: PASSWORD } });
    expect(again.status).toBe(400);
    expect((await kit.signIn(bora.email, next)).id).toBe(bora.id);
  });

  test('cookies are Secure exactly when a trusted proxy says HTTPS', async () => {
    const body = { email: ada.email, password: PASSWORD };
    const headers = { 'x-forwarded-proto': 'https' };
    const flagged = (cookies: string[]): boolean[] => cookies.map((cookie) => cookie.endsWith('; Secure'));
    expect(flagged(cookiesOf(await kit.send('POST', LOGIN, { body, headers })))).toEqual([false, false, false]);
    let behind: FastifyInstance | undefined;
    try {
      behind = await createHttp(kit.ctx, { trustedProxies: ['127.0.0.1'] });
      const reply = await behind.inject({ method: 'POST', url: LOGIN, payload: body, headers });
      expect(reply.statusCode).toBe(200);
      expect(flagged([reply.headers['set-cookie'] ?? []].flat())).toEqual([true, true, true]);
      const token = await behind.inject({ url: '/csrf_token/', headers });
      expect(flagged([token.headers['set-cookie'] ?? []].flat())).toEqual([true]);
    } finally {
      await behind?.close();
    }
  });
});

describe('the order in which a request is judged', () => {
  const nothing = { accept: 'text/html' };
  const plain = { 'content-type': 'text/plain' };
  /** Everything is wrong with it, from the type it wants to the fields it has. */
  const send = (
    client: Pick<Client, 'send'>,
    method: string,
    path: string,
    headers: Record<string, string>,
  ): Promise<number> => client.send(method, path, { body: '{"gender":', headers }).then(({ status }) => status);

  test('406, 401, 403, 429, 405, 415, 400 of the text, 400 of the fields, 200', async () => {
    const bora = await kit.signUp();
    const bad = { 'x-csrftoken': 'x' };
    await kit.set('THROTTLING_SETTINGS', {
      'user-permissions': { count: 3, duration: 60 },
      register: null,
      login: null,
    });
    expect(await send(kit, 'DELETE', PROFILE, { ...nothing, ...plain })).toBe(406);
    expect(await send(kit, 'DELETE', PROFILE, plain)).toBe(401);
    expect(await send(bora, 'DELETE', PROFILE, { ...bad, ...plain })).toBe(403);
    expect(await send(bora, 'DELETE', PROFILE, plain)).toBe(405);
    const path = '/users/permissions/';
    for (let count = 0; count < 5; count += 1) expect(await send(bora, 'PUT', path, { ...bad, ...plain })).toBe(403);
    expect(await send(bora, 'PUT', path, plain)).toBe(405);
    expect(await send(bora, 'POST', path, plain)).toBe(415);
    expect(await send(bora, 'POST', path, {})).toBe(400);
    expect(await send(bora, 'PUT', path, plain)).toBe(429);
    expect(await send(bora, 'POST', path, plain)).toBe(429);
    expect(await send(bora, 'POST', path, { ...bad, ...plain })).toBe(403);
    expect(await send(bora, 'POST', path, { ...bad, ...nothing })).toBe(406);
    expect(await send(bora, 'PATCH', PROFILE, plain)).toBe(415);
    const unreadable = await bora.send('PATCH', PROFILE, { body: '{"gender":"none"' });
    expect([unreadable.status, Object.keys(unreadable.body)]).toEqual([400, ['detail']]);
    const fields = await bora.send('PATCH', PROFILE, { body: '{"gender":"none"}' });
    expect([fields.status, Object.keys(fields.body)]).toEqual([400, ['gender']]);
    expect((await bora.send('PATCH', PROFILE, { body: '{"gender":null}' })).status).toBe(200);
  });

  test('an invalid Token comes before CSRF, and the profile keeps to its own scope', async () => {
    const headers = { authorization: 'Token x', cookie: `sessionid=${session(ada)}` };
    expect((await kit.send('PATCH', PROFILE, { body: '{', headers })).status).toBe(401);
    const bora = await kit.signUp();
    await kit.set('THROTTLING_SETTINGS', { 'profile-update': { count: 2, duration: 60 }, register: null, login: null });
    expect((await bora.send('PATCH', PROFILE, { body: '{' })).status).toBe(400);
    expect((await bora.send('PUT', '/users/profile-with-loyalty/', { body: {} })).status).toBe(400);
    const stopped = await bora.send('PATCH', PROFILE, { body: {} });
    expect([stopped.status, stopped.headers['ratelimit-policy']]).toEqual([429, '"profile-update";q=2;w=60']);
    expect((await bora.send('GET', PROFILE)).status).toBe(200);
  });
});
