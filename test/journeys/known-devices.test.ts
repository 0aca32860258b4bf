/** Browsers an account has signed in with: strangers who fill the count of an address do not keep them out. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { createHttp } from '../../src/app.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { deriveKeys } from '../../src/platform/keys.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';
import { codeOf, enrol, visitorOf } from '../visitor.ts';

let kit: Kit;
beforeAll(async () => {
  kit = await createKit();
  await createClient(kit.ctx, { id: 'till', name: 'Till', password_grant: true }, atTheMachine);
});
beforeEach(async () => {
  // The limits of requests would hide those of passwords.
  await kit.set('THROTTLING_SETTINGS', { login: null, token: null, register: null, 'profile-update': null });
  await kit.rows('delete from throttle');
});
afterAll(() => kit.close());

const LOGIN = '/users/login/';
const SIGN_IN = '/account/sign-in';
const NEXT = 'another-horse-battery';
const DAY = 86_400_000;
const WRONG = { non_field_errors: ['Unable to log in with provided credentials.'] };
const FULL = { detail: expect.stringMatching(/^Request was throttled\. Expected available in \d+ seconds\.$/) };
const IN = { key: expect.stringMatching(/^\w{40}$/), redirect_url: null };

const held = (cookie?: string): Record<string, string> =>
  cookie === undefined ? {} : { cookie: `known_device=${cookie}` };
const login = (email: string, password: string, cookie?: string, on = kit): Promise<Reply> =>
  on.send('POST', LOGIN, { body: { email, password }, headers: held(cookie) });
const grant = (username: string, password: string, cookie?: string): Promise<Reply> =>
  kit.send('POST', '/api/token', {
    body: { grant_type: 'password', client_id: 'till', username, password },
    headers: held(cookie),
  });
const told = ({ status, body }: Reply): [number, unknown] => [status, body];
const linesOf = (reply: Reply): string[] => [reply.headers['set-cookie'] ?? []].flat() as string[];
/** What an answer sets for known browsers; undefined when it leaves them as they are. */
const givenBy = (reply: Reply): string | undefined =>
  linesOf(reply).flatMap((line) => /^known_device=([^;]+)/.exec(line)?.[1] ?? [])[0];
const knownOf = ({ cookies }: Client): string => cookies.get('known_device')!;

const counted = (scope: string, caller: string): Promise<{ count: number }[]> =>
  kit.rows(
    'select count from throttle where scope = $1 and caller = $2',
    scope,
    kit.ctx.keys.hash('throttle', caller).subarray(0, 16),
  );
/** Wrong passwords that stand against an address. */
const ofAddress = (email: string): Promise<{ count: number }[]> => counted('failed-sign-in', email);
/** Wrong passwords that stand against the browser of a cookie. */
const ofDevice = ({ id }: Client, cookie: string): Promise<{ count: number }[]> =>
  counted('failed-on-device', `${id} ${Buffer.from(cookie, 'base64url').toString('hex', 0, 16)}`);

/** Strangers have guessed all that an hour allows. */
async function fill(email: string): Promise<void> {
  expect(told(await login(email, 'wrong'))).toEqual([400, WRONG]);
  await kit.rows(
    `update throttle set count = 100 where scope = 'failed-sign-in' and caller = $1`,
    kit.ctx.keys.hash('throttle', email).subarray(0, 16),
  );
  expect(told(await login(email, PASSWORD))).toEqual([429, FULL]);
}

async function resetPath(email: string): Promise<string> {
  await kit.send('POST', '/users/password/reset/', { body: { email } });
  await kit.jobs();
  const mail = (await kit.outbox('mail')).findLast(({ recipient }) => recipient === email)!;
  return /\/links\/[0-9a-f]{64}/.exec(mail.body)![0];
}

// ---- Strangers, and the browser that is known ----

test('a hundred wrong passwords of strangers close an address for strangers, and not for the browser of its owner', async () => {
  const ada = await kit.signUp();
  const cookie = knownOf(ada);
  const tries = await Promise.all(Array.from({ length: 100 }, (_, n) => login(ada.email, `wrong-${n}`)));
  expect(tries.map(told)).toEqual(Array(100).fill([400, WRONG]));
  expect(told(await login(ada.email, PASSWORD))).toEqual([429, FULL]);
  expect((await grant(ada.email, PASSWORD)).status).toBe(429);

  expect(told(await login(ada.email, PASSWORD, cookie))).toEqual([200, IN]);
  const visitor = visitorOf(kit, new Map([['known_device', cookie]]));
  await visitor.get(SIGN_IN);
  const opened = await visitor.post(SIGN_IN, { email: ada.email, password: PASSWORD });
  expect([opened.status, opened.headers['location']]).toEqual([303, '/account']);
  // For clients without cookies all is as it was, whatever they send.
  expect((await grant(ada.email, PASSWORD, cookie)).status).toBe(429);

  // What strangers have filled stays as full as it was: 100, and three that were refused.
  expect([await ofAddress(ada.email), await ofDevice(ada, cookie)]).toEqual([[{ count: 103 }], [{ count: 0 }]]);
});

test('the own wrong passwords of a browser are counted to twenty an hour, and do not stand against the address', async () => {
  const ada = await kit.signUp();
  const cookie = knownOf(ada);
  for (let n = 0; n < 19; n += 1) expect(told(await login(ada.email, 'wrong', cookie))).toEqual([400, WRONG]);
  // A right one is no guess, and opens no room for guesses.
  expect(told(await login(ada.email, PASSWORD, cookie))).toEqual([200, IN]);
  expect(await ofDevice(ada, cookie)).toEqual([{ count: 19 }]);
  expect(told(await login(ada.email, 'wrong', cookie))).toEqual([400, WRONG]);
  expect([await ofDevice(ada, cookie), await ofAddress(ada.email)]).toEqual([[{ count: 20 }], []]);
});

test('a browser whose own twenty are used up is a stranger: never worse off with the cookie than without', async () => {
  const ada = await kit.signUp();
  const cookie = knownOf(ada);
  for (let n = 0; n < 20; n += 1) expect(told(await login(ada.email, 'wrong', cookie))).toEqual([400, WRONG]);
  // As a thief of the cookie may have done; the address is open.
  expect(told(await login(ada.email, 'wrong', cookie))).toEqual([400, WRONG]);
  expect([await ofDevice(ada, cookie), await ofAddress(ada.email)]).toEqual([[{ count: 21 }], [{ count: 1 }]]);
  expect(told(await login(ada.email, PASSWORD, cookie))).toEqual([200, IN]);
  // That opens the address, as it does for strangers, and no room in the count of the browser.
  expect([await ofDevice(ada, cookie), await ofAddress(ada.email)]).toEqual([[{ count: 22 }], []]);

  kit.advance(1_800_000);
  await fill(ada.email);
  const full = await login(ada.email, PASSWORD, cookie);
  expect(told(full)).toEqual([429, FULL]);
  // The browser's own count is the first to end.
  expect(Number(full.headers['retry-after'])).toBeLessThanOrEqual(1800);
  expect(Number((await login(ada.email, PASSWORD)).headers['retry-after'])).toBeGreaterThan(3500);
  const visitor = visitorOf(kit, new Map([['known_device', cookie]]));
  await visitor.get(SIGN_IN);
  const page = await visitor.post(SIGN_IN, { email: ada.email, password: PASSWORD });
  expect([page.status, visitor.cookies.has('sessionid')]).toEqual([429, false]);
  kit.advance(1_800_000);
  expect(told(await login(ada.email, PASSWORD, cookie))).toEqual([200, IN]);
});

test('of forty wrong passwords at once from one known browser, in two processes, twenty are compared', async () => {
  const ada = await kit.signUp();
  const cookie = knownOf(ada);
  const twin = await kit.twin();
  await fill(ada.email);
  const replies = await Promise.all(
    Array.from({ length: 40 }, (_, n) => login(ada.email, `wrong-${n}`, cookie, n % 2 === 0 ? kit : twin)),
  );
  expect(replies.map(({ status }) => status).sort()).toEqual([...Array(20).fill(400), ...Array(20).fill(429)]);
  expect(await ofDevice(ada, cookie)).toEqual([{ count: 40 }]);
  // The other twenty met the limit of the address, which is full.
  expect(await ofAddress(ada.email)).toEqual([{ count: 121 }]);
});

test('a browser known to one process is known to the other', async () => {
  const ada = await kit.signUp();
  const twin = await kit.twin();
  await fill(ada.email);
  expect(told(await login(ada.email, PASSWORD, undefined, twin))).toEqual([429, FULL]);
  const reply = await login(ada.email, PASSWORD, knownOf(ada), twin);
  expect([...told(reply), givenBy(reply)]).toEqual([200, IN, undefined]);
});

test('the limit of sign-ins for an address keeps strangers out, and not the browser of its owner', async () => {
  const ada = await kit.signUp();
  await kit.set('THROTTLING_SETTINGS', { login: { count: 3, duration: 60 } });
  /** From an address of its own each. */
  const from = async (cookie?: string, { email } = ada): Promise<number> => {
    await kit.rows(
      'delete from throttle where caller = $1',
      kit.ctx.keys.hash('throttle', 'ip:127.0.0.1').subarray(0, 16),
    );
    return (await login(email, PASSWORD, cookie)).status;
  };
  expect([await from(), await from(), await from(), await from()]).toEqual([200, 200, 200, 429]);
  const cookie = knownOf(ada);
  expect([await from(cookie), await from(cookie), await from(cookie), await from(cookie)]).toEqual([
    200, 200, 200, 429,
  ]);
  // Its own count full, it is a client like any other.
  const other = await kit.signUp();
  const own = knownOf(other);
  const statuses = [];
  for (let n = 0; n < 7; n += 1) statuses.push(await from(own, other));
  expect([statuses, await from(undefined, other)]).toEqual([[200, 200, 200, 200, 200, 200, 429], 429]);
});

test('who is signed in at a known browser can set up a second factor while strangers guess', async () => {
  const ada = await kit.signUp();
  await fill(ada.email);
  const set = async (cookies: Map<string, string>): Promise<number> => {
    const visitor = visitorOf(kit, cookies);
    await visitor.get('/account/second-factor');
    return (await visitor.post('/account/second-factor', { password: PASSWORD })).status;
  };
  const elsewhere = new Map(ada.cookies);
  elsewhere.delete('known_device');
  expect([await set(elsewhere), await set(ada.cookies)]).toEqual([429, 303]);
});

// ---- What is no cookie of that account ----

test('a cookie of another account, forged, cut, of another installation or nonsense does what none does', async () => {
  const [ada, eve] = [await kit.signUp(), await kit.signUp()];
  const good = knownOf(ada);
  // Nothing but the account itself tells these two apart.
  const twins = 'update account set password = (select password from account where id = $1) where id = $2';
  await kit.rows(twins, ada.id, eve.id);
  const others = givenBy(await login(eve.email, PASSWORD))!;
  const flipped = (at: number): string => {
    const bytes = Buffer.from(good, 'base64url');
    bytes[at]! ^= 1;
    return bytes.toString('base64url');
  };
  const elsewhere = await createHttp(
    { ...kit.ctx, keys: deriveKeys('the secret of quite another installation') },
    { trustedProxies: [] },
  );
  const there = await elsewhere.inject({
    method: 'POST',
    url: LOGIN,
    payload: { email: ada.email, password: PASSWORD },
  });
  await elsewhere.close();
  const foreign = givenBy({ status: 200, headers: there.headers, text: '', body: null })!;
  expect([there.statusCode, foreign]).toEqual([200, expect.stringMatching(/^[\w-]{72}$/)]);

  const none: [string, string | undefined][] = [
    ['no cookie', undefined],
    ['of another account', others],
    ['of another installation', foreign],
    ['another nonce', flipped(0)],
    ['another time', flipped(21)],
    ['another MAC', flipped(53)],
    ['cut', good.slice(0, -1)],
    ['longer', `${good}A`],
    ['empty', ''],
    ['behind three others', `${[others, foreign, flipped(0)].join('.')}.${good}`],
    ['nonsense', '%00.é"..,'],
    ['long nonsense', 'A'.repeat(6000)],
  ];
  await fill(ada.email);
  for (const [what, cookie] of none) {
    expect([what, ...told(await login(ada.email, PASSWORD, cookie))]).toEqual([what, 429, FULL]);
  }
  expect(told(await login(ada.email, PASSWORD, good))).toEqual([200, IN]);

  // While the address is open they are counted against it, as all are.
  await kit.rows('delete from throttle');
  for (const [what, cookie] of none) {
    expect([what, ...told(await login(ada.email, 'wrong', cookie))]).toEqual([what, 400, WRONG]);
  }
  expect(await ofAddress(ada.email)).toEqual([{ count: none.length }]);
  expect(await kit.rows(`select from throttle where scope = 'failed-on-device'`)).toEqual([]);
});

test('an address without an account, and one that is switched off, answer a browser with cookies as ever', async () => {
  const [ada, off] = [await kit.signUp(), await kit.signUp()];
  await kit.rows('update account set is_active = false where id = $1', off.id);
  for (const email of ['nobody-at-all@example.com', off.email]) {
    expect(told(await login(email, PASSWORD, knownOf(ada)))).toEqual([400, WRONG]);
    expect(await ofAddress(email)).toEqual([{ count: 1 }]);
  }
});

test('who knew a password cannot stock up on browsers: with a new one the old ones are strangers', async () => {
  const ada = await kit.signUp();
  const stock = [knownOf(ada), givenBy(await login(ada.email, PASSWORD))!, givenBy(await login(ada.email, PASSWORD))!];
  const changed = await ada.send('POST', '/users/password/change/', {
    body: { old_password: PASSWORD, new_password1: NEXT, new_password2: NEXT },
  });
  expect(told(changed)).toEqual([200, IN]);
  await fill(ada.email);
  for (const cookie of stock) expect(told(await login(ada.email, NEXT, cookie))).toEqual([429, FULL]);
  // The browser that changed it is known by the new one.
  expect(told(await login(ada.email, NEXT, knownOf(ada)))).toEqual([200, IN]);
});

// ---- A reset by mail ----

test('a reset by mail opens the address, and makes the browser known that set the new password', async () => {
  const ada = await kit.signUp();
  await fill(ada.email);
  const token = (await resetPath(ada.email)).slice('/links/'.length);
  const confirm = (new_password2: string): Promise<Reply> =>
    kit.send('POST', '/users/password/reset/confirm/', { body: { token, new_password1: NEXT, new_password2 } });
  // One that does nothing opens nothing.
  const wrong = await confirm(PASSWORD);
  expect([wrong.status, wrong.headers['set-cookie']]).toEqual([400, undefined]);
  expect(told(await login(ada.email, PASSWORD))).toEqual([429, FULL]);

  const reply = await confirm(NEXT);
  expect(told(reply)).toEqual([200, { detail: 'Password has been reset with the new password.' }]);
  expect(await ofAddress(ada.email)).toEqual([]);
  expect(told(await login(ada.email, NEXT))).toEqual([200, IN]);
  // And strangers who go on do not close it for them again.
  expect(linesOf(reply)).toEqual([expect.stringMatching(/^known_device=[\w-]{72}; HttpOnly; /)]);
  const cookie = givenBy(reply)!;
  await kit.rows('delete from throttle');
  await fill(ada.email);
  expect(told(await login(ada.email, NEXT, cookie))).toEqual([200, IN]);
});

test('so does our own page of the mailed link', async () => {
  const ada = await kit.signUp();
  await fill(ada.email);
  const path = await resetPath(ada.email);
  const reply = await kit.send('POST', path, { form: `new_password1=${NEXT}&new_password2=${NEXT}` });
  expect([reply.status, linesOf(reply)]).toEqual([200, [expect.stringMatching(/^known_device=[\w-]{72}; HttpOnly; /)]]);
  expect(await ofAddress(ada.email)).toEqual([]);
  await fill(ada.email);
  expect(told(await login(ada.email, NEXT, givenBy(reply)))).toEqual([200, IN]);
});

test('so does the back office’s call, without a cookie', async () => {
  const ada = await kit.signUp();
  await fill(ada.email);
  const token = (await resetPath(ada.email)).slice('/links/'.length);
  const reply = await kit.send('POST', '/api/reset-password', { body: { token, password: NEXT } });
  expect([reply.status < 300, linesOf(reply), await ofAddress(ada.email)]).toEqual([true, [], []]);
  expect((await grant(ada.email, NEXT)).status).toBe(200);
});

// ---- The cookie ----

test('a sign-in sets it beside the cookies it always set; nothing in it says whose it is', async () => {
  const ada = await kit.signUp();
  const plain = [
    expect.stringMatching(/^sessionid=\w{40}; expires=[^;]+; HttpOnly; Max-Age=1209600; Path=\/; SameSite=Lax$/),
    expect.stringMatching(/^csrftoken=\w{64}; Max-Age=31449600; Path=\/; SameSite=Lax$/),
  ];
  const device = expect.stringMatching(/^known_device=[\w-]{72}; HttpOnly; Max-Age=15552000; Path=\/; SameSite=Lax$/);
  const reply = await login(ada.email, PASSWORD);
  expect(linesOf(reply)).toEqual([...plain, device]);
  const visitor = visitorOf(kit);
  await visitor.get(SIGN_IN);
  expect(linesOf(await visitor.post(SIGN_IN, { email: ada.email, password: PASSWORD }))).toEqual([...plain, device]);
  // Known, it is not given again.
  expect(linesOf(await login(ada.email, PASSWORD, givenBy(reply)))).toEqual(plain);

  // A random nonce, the time, and a MAC: no two have a nonce in common.
  const made = [knownOf(ada), givenBy(reply)!, visitor.cookies.get('known_device')!];
  const bytes = made.map((value) => Buffer.from(value, 'base64url'));
  expect(bytes.map(({ length }) => length)).toEqual([54, 54, 54]);
  expect(new Set(bytes.map((value) => value.toString('hex', 0, 16))).size).toBe(3);
  const now = Math.floor(kit.ctx.clock.now().getTime() / 1000);
  for (const value of bytes) expect(Math.abs(value.readUIntBE(16, 6) - now)).toBeLessThan(60);

  const said = kit.logged.join('\n');
  expect(said).not.toContain(ada.email);
  for (const value of made) expect(said).not.toContain(value);

  // Signing out leaves it.
  const out = await ada.send('POST', '/users/logout/');
  expect([out.status, givenBy(out), knownOf(ada)]).toEqual([200, undefined, made[0]]);
});

test('it is Secure exactly when the request is', async () => {
  const ada = await kit.signUp();
  const http = await createHttp(kit.ctx, { trustedProxies: ['127.0.0.1'] });
  const payload = { email: ada.email, password: PASSWORD };
  const lines = async (proto: string): Promise<string[]> => {
    const headers = { 'x-forwarded-proto': proto };
    const reply = await http.inject({ method: 'POST', url: LOGIN, payload, headers });
    return [reply.headers['set-cookie'] ?? []].flat().filter((line) => line.startsWith('known_device='));
  };
  const attributes = (line: string | undefined): string => line!.replace(/^[^;]+; /, '');
  const [plain, secure] = [await lines('http'), await lines('https')];
  await http.close();
  expect([...plain, ...secure].map(attributes)).toEqual([
    'HttpOnly; Max-Age=15552000; Path=/; SameSite=Lax',
    'HttpOnly; Max-Age=15552000; Path=/; SameSite=Lax; Secure',
  ]);
});

test('it is given once the second factor has been shown, not before', async () => {
  const bora = await kit.signUp();
  const { secret } = await enrol(kit, visitorOf(kit, bora.cookies));
  expect([knownOf(bora)]).toEqual([expect.stringMatching(/^[\w-]{72}$/)]);
  const half = await login(bora.email, PASSWORD);
  expect([half.status, linesOf(half)]).toEqual([400, []]);
  const visitor = visitorOf(kit);
  await visitor.get(SIGN_IN);
  const step = await visitor.post(SIGN_IN, { email: bora.email, password: PASSWORD });
  expect([step.status, givenBy(step)]).toEqual([200, undefined]);
  const done = await visitor.post('/account/sign-in/code', {
    step: visitor.hidden('step'),
    otp: codeOf(kit, secret),
  });
  expect([done.status, givenBy(done)]).toEqual([303, expect.stringMatching(/^[\w-]{72}$/)]);
  await fill(bora.email);
  // Known is not signed in: the code is asked for as ever.
  const reply = await login(bora.email, PASSWORD, givenBy(done));
  expect(told(reply)).toEqual([400, { otp: ['Enter the code of your authenticator app too.'] }]);
});

test('it is kept for half of its 180 days, then made anew, and at their end it is no more than none', async () => {
  const ada = await kit.signUp();
  const first = knownOf(ada);
  kit.advance(90 * DAY - 60_000);
  expect(givenBy(await login(ada.email, PASSWORD, first))).toBeUndefined();
  kit.advance(60_000);
  const second = givenBy(await login(ada.email, PASSWORD, first))!;
  // Instead of the old one, not beside it.
  expect(second).toMatch(/^[\w-]{72}$/);
  expect(second).not.toBe(first);
  kit.advance(90 * DAY - 120_000);
  await fill(ada.email);
  expect(told(await login(ada.email, PASSWORD, first))).toEqual([200, IN]);
  kit.advance(120_000);
  expect(told(await login(ada.email, PASSWORD, first))).toEqual([429, FULL]);
  expect(told(await login(ada.email, PASSWORD, second))).toEqual([200, IN]);
});

test('a family of three shares a browser; a fourth takes the place of whoever became known first', async () => {
  const [ada, bora, can, deniz] = [await kit.signUp(), await kit.signUp(), await kit.signUp(), await kit.signUp()];
  const visitor = visitorOf(kit);
  const enter = async ({ email }: Client): Promise<void> => {
    await visitor.get(SIGN_IN);
    expect((await visitor.post(SIGN_IN, { email, password: PASSWORD })).status).toBe(303);
  };
  for (const client of [ada, bora, can]) await enter(client);
  for (const { email } of [ada, bora, can, deniz]) await fill(email);
  const statuses = async (): Promise<number[]> => {
    const cookie = visitor.cookies.get('known_device');
    const replies = [];
    for (const { email } of [ada, bora, can, deniz]) replies.push((await login(email, PASSWORD, cookie)).status);
    return replies;
  };
  expect(await statuses()).toEqual([200, 200, 200, 429]);
  const before = visitor.cookies.get('known_device');
  await enter(ada);
  expect(visitor.cookies.get('known_device')).toBe(before);
  await kit.rows('delete from throttle');
  await enter(deniz);
  expect(visitor.cookies.get('known_device')).toMatch(/^[\w-]{72}\.[\w-]{72}\.[\w-]{72}$/);
  for (const { email } of [ada, bora, can, deniz]) await fill(email);
  expect(await statuses()).toEqual([429, 200, 200, 200]);
});

test('a form on another site, which signs somebody in as the attacker, does not replace what the browser holds', async () => {
  const eve = await kit.signUp();
  const given = async (site: string): Promise<unknown> => {
    const body = { email: eve.email, password: PASSWORD };
    const reply = await kit.send('POST', LOGIN, { body, headers: { 'sec-fetch-site': site } });
    return [reply.status, givenBy(reply)];
  };
  expect(await given('cross-site')).toEqual([200, undefined]);
  for (const site of ['same-origin', 'same-site', 'none']) {
    expect(await given(site)).toEqual([200, expect.stringMatching(/^[\w-]{72}$/)]);
  }
});
