/** Our own sign-in and account pages, and the list of own sign-ins: what people do there, and what others could try. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { localPath } from '../../src/oauth/pages/sign-in-pages.ts';
import { deriveKeys } from '../../src/platform/keys.ts';
import { encrypt } from '../../src/platform/secrets.ts';
import { createKit, type Kit, PASSWORD, type Send } from '../kit.ts';
import { codeOf, enrol, visitorOf } from '../visitor.ts';

let kit: Kit;
beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { login: null, token: null, register: null, 'profile-update': null });
});
afterAll(() => kit.close());

const SIGN_IN = '/account/sign-in';
const CODE = '/account/sign-in/code';
const families = (id: number): Promise<{ family: string }[]> =>
  kit.rows('select distinct family from session where account = $1', id);

// ---- Signing in ----

test('signing in leads on with a session cookie; a wrong password keeps the address and tells nothing', async () => {
  const { email } = await kit.signUp();
  const visitor = visitorOf(kit);
  const form = await visitor.get(`${SIGN_IN}?next=%2Faccount%3Fx%3D1`);
  expect([form.status, form.headers['content-language'], visitor.hidden('next')]).toEqual([200, 'en', '/account?x=1']);
  expect(form.text).not.toMatch(/<script|javascript:/);
  const answers = [];
  for (const [who, password] of [
    [email, 'wrong-horse-battery'],
    ['nobody@example.com', PASSWORD],
    [email, ''],
    [email, 'x'.repeat(129)],
    ['no address', PASSWORD],
    ['', ''],
  ] as const) {
    const reply = await visitor.post(SIGN_IN, { email: who, password, next: '/account?x=1' });
    expect(reply.text).toContain(`value="${who}"`);
    expect([visitor.hidden('next'), visitor.cookies.has('sessionid')]).toEqual(['/account?x=1', false]);
    answers.push([reply.status, /role="alert">([^<]+)</.exec(reply.text)?.[1]]);
  }
  expect(new Set(answers.map(String))).toEqual(new Set(['400,This address and password do not belong together.']));
  const done = await visitor.post(SIGN_IN, { email: email.toUpperCase(), password: PASSWORD, next: '/account?x=1' });
  expect([done.status, done.headers['location']]).toEqual([303, '/account?x=1']);
  const cookie = ([done.headers['set-cookie']].flat() as string[]).find((line) => line.startsWith('sessionid='))!;
  expect(cookie).toMatch(/^sessionid=[0-9a-f]{40}; expires=[^;]+; HttpOnly; Max-Age=1209600; Path=\/; SameSite=Lax$/);
  expect((await visitor.get('/account')).text).toContain(email);
});

test('next is a path of ours, whatever a link says', async () => {
  const paths = ['/account', '/', '/oauth/authorize?redirect_uri=https://shop.example/cb&state=a%20b', '/a/b?c=//d#e'];
  expect(paths.map(localPath)).toEqual(paths);
  const misses = [
    'https://evil.example',
    'http:evil.example',
    '//evil.example',
    '///evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/\\/evil.example',
    '/a//evil.example',
    '/a\\b',
    '/\t/evil.example',
    '/\n/evil.example',
    '/\r\nlocation: https://evil.example',
    ' /account',
    '/ /evil.example',
    '/\u0000',
    '/é',
    '/\u2028/evil.example',
    'account',
    '',
    'javascript:alert(1)',
    '/\u007f',
    `/${'a'.repeat(4000)}`,
    undefined,
    ['/account', '/b'],
  ];
  expect(misses.map(localPath).filter((path) => path !== '/account')).toEqual([]);
  const { email } = await kit.signUp();
  for (const next of ['//evil.example', '/\\evil.example', 'https://evil.example']) {
    const visitor = visitorOf(kit);
    await visitor.get(`${SIGN_IN}?${new URLSearchParams({ next }).toString()}`);
    expect(visitor.hidden('next')).toBe('/account');
    const done = await visitor.post(SIGN_IN, { email, password: PASSWORD, next });
    expect(done.headers['location']).toBe('/account');
  }
});

test('the form may lead on to the client that asked, and to no other place', async () => {
  const policyFor = async (next: string): Promise<string> => {
    const reply = await kit.send('GET', `${SIGN_IN}?${new URLSearchParams({ next }).toString()}`);
    return /form-action ([^;]+);/.exec(String(reply.headers['content-security-policy']))![1]!;
  };
  const asking = (uri: string): string => `/oauth/authorize?redirect_uri=${encodeURIComponent(uri)}`;
  expect(await policyFor('/account')).toBe("'self'");
  expect(await policyFor(asking('https://shop.example/cb'))).toBe("'self' https://shop.example");
  expect(await policyFor(asking("https://a.example'; script-src *"))).toBe("'self'");
  expect(await policyFor(asking('javascript:alert(1)'))).toBe("'self'");
});

test('a planted session is not continued, and the one of this browser ends', async () => {
  const attacker = await kit.signUp();
  const { email } = await kit.signUp();
  for (const planted of [attacker.cookies.get('sessionid')!, 'a'.repeat(40)]) {
    const visitor = visitorOf(kit, new Map([['sessionid', planted]]));
    await visitor.get(SIGN_IN);
    // One that stands for nobody is taken back.
    expect(visitor.cookies.has('sessionid')).toBe(planted !== 'a'.repeat(40));
    visitor.cookies.set('sessionid', planted);
    expect((await visitor.post(SIGN_IN, { email, password: PASSWORD })).status).toBe(303);
    expect(visitor.cookies.get('sessionid')).not.toBe(planted);
    const still = await kit.send('GET', '/current_user/', { headers: { cookie: `sessionid=${planted}` } });
    expect(still.status).toBe(401);
  }
});

test('signing in is throttled as every login', async () => {
  const { email } = await kit.signUp();
  await kit.set('THROTTLING_SETTINGS', { login: { count: 2, duration: 60 } });
  const visitor = visitorOf(kit);
  await visitor.get(SIGN_IN);
  const statuses = [];
  for (let n = 0; n < 3; n += 1)
    statuses.push((await visitor.post(SIGN_IN, { email, password: 'wrong-horse' })).status);
  expect(statuses).toEqual([400, 400, 429]);
  await kit.set('THROTTLING_SETTINGS', { login: null, token: null, register: null, 'profile-update': null });
});

// ---- A forgotten password ----

const FORGOTTEN = '/account/forgotten';
const mailsTo = async (email: string): Promise<{ subject: string | null; body: string }[]> => {
  await kit.jobs();
  return (await kit.outbox('mail')).filter(({ recipient }) => recipient === email);
};

test('the sign-in page leads to a page that mails a link, by which somebody gets back in', async () => {
  const { email } = await kit.signUp();
  const visitor = visitorOf(kit);
  const signIn = await visitor.get(`${SIGN_IN}?next=%2Faccount%3Fx%3D1`);
  expect(signIn.text).toContain('<a href="/account/forgotten?next=%2Faccount%3Fx%3D1">Forgot your password?</a>');
  const form = await visitor.get(`${FORGOTTEN}?next=%2Faccount%3Fx%3D1`);
  expect([form.status, visitor.hidden('next')]).toEqual([200, '/account?x=1']);
  const sent = await visitor.post(FORGOTTEN, { email: ` ${email.toUpperCase()} `, next: '/account?x=1' });
  expect([sent.status, sent.text.includes('a link is on its way'), sent.text.includes(email)]).toEqual([
    200,
    true,
    false,
  ]);
  expect(sent.text).toContain('<a href="/account/sign-in?next=%2Faccount%3Fx%3D1">Back to signing in</a>');
  const [mail] = await mailsTo(email);
  expect(mail!.subject).toBe('Set a new password');
  const path = /\/links\/[0-9a-f]{64}/.exec(mail!.body)![0];
  const next = 'another-horse-battery';
  const reset = await kit.send('POST', path, { form: `new_password1=${next}&new_password2=${next}` });
  expect(reset.status).toBe(200);
  await visitor.get(SIGN_IN);
  expect((await visitor.post(SIGN_IN, { email, password: next })).status).toBe(303);
});

test('an address without an account, and one that is switched off, get the same answer and no mail', async () => {
  const [known, off] = [await kit.signUp(), await kit.signUp()];
  await kit.rows('update account set is_active = false where id = $1', off.id);
  const answers = [];
  for (const email of [known.email, off.email, 'nobody-at-all@example.com']) {
    const visitor = visitorOf(kit);
    await visitor.get(`${FORGOTTEN}?lang=nl`);
    const reply = await visitor.post(`${FORGOTTEN}?lang=nl`, { email });
    const { date: _date, 'set-cookie': _cookie, 'x-request-id': _id, ...headers } = reply.headers;
    answers.push(JSON.stringify([reply.status, headers, reply.text.replaceAll(/value="[^"]*"/g, '')]));
  }
  expect(new Set(answers).size).toBe(1);
  expect(answers[0]).toContain('Kijk in uw mail');
  expect([
    (await mailsTo(known.email)).length,
    (await mailsTo(off.email)).length,
    (await mailsTo('nobody-at-all@example.com')).length,
  ]).toEqual([1, 0, 0]);
});

test('what is no address is said over the form, and asking is limited for an address wherever it comes from', async () => {
  const visitor = visitorOf(kit);
  await visitor.get(FORGOTTEN);
  const wrong = await visitor.post(FORGOTTEN, { email: '"><b>x', next: '//evil.example' });
  expect([wrong.status, wrong.text.includes('value="&quot;&gt;&lt;b&gt;x"'), visitor.hidden('next')]).toEqual([
    400,
    true,
    '/account',
  ]);
  expect(wrong.text).toContain('role="alert"');
  await kit.set('THROTTLING_SETTINGS', { login: { count: 2, duration: 60 } });
  kit.advance(60_000);
  const csrfmiddlewaretoken = visitor.hidden('csrfmiddlewaretoken');
  const ask = async (email: string, n: number): Promise<number> => {
    const reply = await kit.http.inject({
      method: 'POST',
      url: FORGOTTEN,
      remoteAddress: `198.51.100.${n}`,
      headers: {
        cookie: `csrftoken=${visitor.cookies.get('csrftoken')}`,
        'content-type': 'application/x-www-form-urlencoded',
      },
      payload: String(new URLSearchParams({ email, csrfmiddlewaretoken })),
    });
    return reply.statusCode;
  };
  const statuses = [];
  for (const n of [1, 2, 3]) statuses.push(await ask('much-asked@example.com', n));
  statuses.push(await ask('another@example.com', 4));
  expect(statuses).toEqual([200, 200, 429, 200]);
  await kit.set('THROTTLING_SETTINGS', { login: null, token: null, register: null, 'profile-update': null });
});

// ---- Between the two steps ----

test('a sealed step that was altered, is over or is not ours opens nothing', async () => {
  const client = await kit.signUp();
  const { secret } = await enrol(kit, visitorOf(kit, client.cookies));
  const visitor = visitorOf(kit);
  const begin = async (): Promise<string> => {
    await visitor.get(`${SIGN_IN}?next=%2Faccount%3Fhere`);
    await visitor.post(SIGN_IN, { email: client.email, password: PASSWORD, next: '/account?here' });
    return visitor.hidden('step');
  };
  const sealed = await begin();
  expect(Buffer.from(sealed, 'base64url').toString('latin1')).not.toMatch(/account|next|argon2/);
  const bytes = Buffer.from(sealed, 'base64url');
  const altered = Array.from({ length: 8 }, (_, index) => {
    const copy = Buffer.from(bytes);
    copy[Math.floor((index * bytes.length) / 8)]! ^= 1;
    return copy.toString('base64url');
  });
  const until = kit.ctx.clock.now().getTime() + 60_000;
  const json = JSON.stringify({ account: client.id, proof: null, next: '/account', until });
  const foreign = encrypt(deriveKeys('another secret key of 32 characters').encryption('sign_in_step'), json, 'x');
  for (const step of ['', 'x', sealed.slice(0, -4), ...altered, foreign.toString('base64url')]) {
    const reply = await visitor.post(CODE, { step, otp: codeOf(kit, secret) });
    expect([reply.status, reply.text.includes('That took too long'), visitor.cookies.has('sessionid')]).toEqual([
      400,
      true,
      false,
    ]);
  }
  kit.advance(5 * 60_000);
  await visitor.get(SIGN_IN);
  const late = await visitor.post(CODE, { step: sealed, otp: codeOf(kit, secret) });
  expect([late.status, visitor.hidden('next')]).toEqual([400, '/account?here']);
  const fresh = await begin();
  const done = await visitor.post(CODE, { step: fresh, otp: codeOf(kit, secret) });
  expect([done.status, done.headers['location']]).toEqual([303, '/account?here']);
});

test('the step of one account takes no code of another, and a new password ends it', async () => {
  const [one, two] = [await kit.signUp(), await kit.signUp()];
  const mine = await enrol(kit, visitorOf(kit, one.cookies));
  const theirs = await enrol(kit, visitorOf(kit, two.cookies));
  const visitor = visitorOf(kit);
  await visitor.get(SIGN_IN);
  await visitor.post(SIGN_IN, { email: one.email, password: PASSWORD });
  const step = visitor.hidden('step');
  const wrong = await visitor.post(CODE, { step, otp: codeOf(kit, theirs.secret) });
  expect([wrong.status, visitor.hidden('step'), visitor.cookies.has('sessionid')]).toEqual([400, step, false]);
  const next = 'another-horse-battery';
  await one.send('POST', '/users/password/change/', {
    body: { old_password: PASSWORD, new_password1: next, new_password2: next },
  });
  const over = await visitor.post(CODE, { step, otp: codeOf(kit, mine.secret) });
  expect([over.status, over.text.includes('That took too long'), visitor.cookies.has('sessionid')]).toEqual([
    400,
    true,
    false,
  ]);
  await visitor.post(SIGN_IN, { email: one.email, password: next });
  const kept = visitor.hidden('step');
  await kit.rows('update account set is_active = false where id = $1', one.id);
  expect((await visitor.post(CODE, { step: kept, otp: codeOf(kit, mine.secret) })).status).toBe(400);
  expect((await visitor.get(CODE)).headers['location']).toBe(SIGN_IN);
});

// ---- Forms ----

test('every form is guarded: without its token, with another one, or from another page it does nothing', async () => {
  const client = await kit.signUp();
  const stays = await kit.signIn(client.email);
  const { secret } = await enrol(kit, visitorOf(kit, stays.cookies));
  const other = visitorOf(kit);
  await other.get(SIGN_IN);
  await other.post(SIGN_IN, { email: client.email, password: PASSWORD });
  await other.post(CODE, { step: other.hidden('step'), otp: codeOf(kit, secret) });
  kit.advance(60_000);
  const before = await families(client.id);
  expect(before).toHaveLength(2);
  const visitor = visitorOf(kit, stays.cookies);
  await visitor.get('/account');
  const good = visitor.hidden('csrfmiddlewaretoken');
  const fields = {
    email: client.email,
    password: PASSWORD,
    otp: codeOf(kit, secret),
    session: before[0]!.family,
    step: 'x',
  };
  const forms = [
    SIGN_IN,
    CODE,
    '/account/sign-out',
    '/account/sessions/end',
    '/account/sessions/end-others',
    '/account/second-factor',
    '/account/second-factor/set-up',
    '/account/second-factor/off',
    '/account/second-factor/recovery-codes',
    '/account/forgotten',
  ];
  for (const path of forms) {
    for (const token of [null, '', 'x', 'a'.repeat(64), good.slice(1)]) {
      const reply = await visitor.post(path, fields, { token });
      expect([path, token, reply.status]).toEqual([path, token, 403]);
      expect(reply.text).toContain('This form was open for too long');
    }
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: 'null', 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site', referer: 'https://evil.example/account' },
    ])
      expect([path, headers, (await visitor.post(path, fields, { token: good, headers })).status]).toEqual([
        path,
        headers,
        403,
      ]);
    const cookies = new Map([['sessionid', stays.cookies.get('sessionid')!]]);
    expect([path, (await visitorOf(kit, cookies).post(path, fields, { token: good })).status]).toEqual([path, 403]);
  }
  expect(await families(client.id)).toEqual(before);
  expect(await kit.rows('select second_factor from account where id = $1', client.id)).toEqual([
    { second_factor: true },
  ]);
  // A browser that hides the origin says itself that the page was ours.
  const headers = { origin: 'null', 'sec-fetch-site': 'same-origin' };
  expect((await visitor.post('/account/sessions/end-others', {}, { token: good, headers })).status).toBe(303);
});

test('who is not signed in is sent to sign in, and back', async () => {
  const visitor = visitorOf(kit);
  const shown = await visitor.get('/account/second-factor?lang=nl');
  expect([shown.status, shown.headers['location']]).toEqual([
    303,
    '/account/sign-in?next=%2Faccount%2Fsecond-factor&lang=nl',
  ]);
  const sent = await visitor.post('/account/sessions/end-others');
  expect([sent.status, sent.headers['location']]).toEqual([303, '/account/sign-in?next=%2Faccount']);
  const page = await visitor.get('/account/sign-in?next=%2Faccount%2Fsecond-factor&lang=nl');
  expect([page.headers['content-language'], page.headers['referrer-policy']]).toEqual(['nl', 'same-origin']);
  expect(page.text).toContain('href="?next=%2Faccount%2Fsecond-factor&amp;lang=fr"');
});

// ---- Own sign-ins ----

const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';

/** Somebody with a browser, the tablet of a till and a second browser. */
async function spread(): Promise<{
  id: number;
  email: string;
  visitor: ReturnType<typeof visitorOf>;
  till: Send;
  refresh: string;
}> {
  const { id, email } = await kit.signUp();
  await kit.bearer(email);
  await kit.rows('delete from session where account = $1', id);
  const visitor = visitorOf(kit);
  await visitor.get(SIGN_IN);
  await visitor.post(SIGN_IN, { email, password: PASSWORD }, { headers: { 'user-agent': FIREFOX } });
  await kit.send('POST', '/users/login/', { body: { email, password: PASSWORD }, headers: { 'user-agent': 'curl/8' } });
  const { body } = await kit.send('POST', '/api/token', {
    body: {
      grant_type: 'password',
      client_id: 'kit',
      username: email,
      password: PASSWORD,
      device_id: 'till-1',
      device_name: 'Till <1>',
    },
  });
  const till: Send = (method, path, sent = {}) =>
    kit.send(method, path, { ...sent, headers: { authorization: `Bearer ${body.access_token}`, ...sent.headers } });
  return { id, email, visitor, till, refresh: body.refresh_token };
}

test('the account page lists every sign-in in plain words and ends one, the others, and itself', async () => {
  const { id, visitor, till } = await spread();
  const stranger = await kit.signUp();
  const page = await visitor.get('/account');
  const names = [...page.text.matchAll(/<p id="session-\d+"><b>([^<]+)<\/b>([^<]*)/g)].map(([, ...parts]) => parts);
  expect(names[0]).toEqual(['Firefox on Linux', '']);
  expect(names.slice(1).map(String).sort()).toEqual(['A program that did not say its name,', 'Kit, · Till &lt;1&gt;']);
  expect(page.text.match(/This one/g)).toHaveLength(1);
  const [theirs] = await families(stranger.id);
  for (const session of [theirs!.family, 'x', "' or 1=1", '']) {
    const reply = await visitor.post('/account/sessions/end', { session });
    expect([reply.status, reply.headers['location']]).toEqual([303, '/account?done=ended']);
  }
  expect(await families(stranger.id)).toHaveLength(1);
  expect(await families(id)).toHaveLength(3);
  const [tillRow] = await kit.rows<{ family: string }>(
    `select family from session where account = $1 and client = 'kit' limit 1`,
    id,
  );
  await visitor.post('/account/sessions/end', { session: tillRow!.family });
  expect((await till('GET', '/api/sessions')).status).toBe(401);
  expect((await visitor.get('/account?done=ended')).text).toContain('That sign-in has ended.');
  await visitor.post('/account/sessions/end-others');
  expect(await families(id)).toHaveLength(1);
  expect((await visitor.get('/account?done=others')).text).not.toContain('/account/sessions/end-others');
  const out = await visitor.post('/account/sign-out');
  expect([out.status, out.headers['location'], visitor.cookies.has('sessionid')]).toEqual([303, SIGN_IN, false]);
  expect(await families(id)).toEqual([]);
});

test('programs list and end sign-ins; a foreign or unknown id is 404', async () => {
  const { id, till } = await spread();
  const { body } = await till('GET', '/api/sessions');
  expect(body.map((session: object) => Object.keys(session))).toEqual(
    Array.from({ length: 3 }, () => [
      'id',
      'client_id',
      'client_name',
      'device_id',
      'device_name',
      'user_agent',
      'created_at',
      'renewed_at',
      'expires_at',
      'current',
    ]),
  );
  const current = body.find((session: { current: boolean }) => session.current);
  expect(current).toMatchObject({
    client_id: 'kit',
    client_name: 'Kit',
    device_id: 'till-1',
    device_name: 'Till <1>',
    current: true,
  });
  const browser = body.find((session: { user_agent: string | null }) => session.user_agent === FIREFOX);
  expect(browser).toMatchObject({
    client_id: null,
    client_name: null,
    device_id: null,
    device_name: null,
    current: false,
  });
  const [theirs] = await families((await kit.signUp()).id);
  for (const bad of [theirs!.family, '00000000-0000-4000-8000-000000000000', 'x', '1', '%00', "'"]) {
    const reply = await till('DELETE', `/api/sessions/${bad}`);
    expect([bad, reply.status]).toEqual([bad, 404]);
  }
  const ended = await till('DELETE', `/api/sessions/${browser.id.toUpperCase()}`);
  expect([ended.status, ended.text, await families(id)]).toEqual([200, '', expect.objectContaining({ length: 2 })]);
  expect((await till('DELETE', `/api/sessions/${browser.id}`)).status).toBe(404);
  expect([(await till('DELETE', '/api/sessions')).status, (await families(id)).length]).toEqual([200, 1]);
  expect((await till('GET', '/api/sessions')).body).toHaveLength(1);
  expect((await till('DELETE', `/api/sessions/${current.id}`)).status).toBe(200);
  expect((await till('GET', '/api/sessions')).status).toBe(401);
  expect((await kit.send('GET', '/api/sessions')).status).toBe(401);
});

test('a renewal keeps id, device and day of a sign-in, and ends with it', async () => {
  const { till, refresh, id } = await spread();
  const { body: before } = await till('GET', '/api/sessions');
  const was = before.find((session: { current: boolean }) => session.current);
  kit.advance(600_000);
  const renewed = await kit.send('POST', '/api/token', {
    body: { grant_type: 'refresh_token', refresh_token: refresh },
  });
  const headers = { authorization: `Bearer ${renewed.body.access_token}` };
  const { body: after } = await kit.send('GET', '/api/sessions', { headers });
  const is = after.find((session: { current: boolean }) => session.current);
  expect(is).toMatchObject({ id: was.id, device_name: 'Till <1>', created_at: was.created_at });
  expect(Date.parse(is.renewed_at) - Date.parse(was.renewed_at)).toBeGreaterThanOrEqual(600_000);
  await kit.send('DELETE', `/api/sessions/${is.id}`, { headers });
  const again = await kit.send('POST', '/api/token', {
    body: { grant_type: 'refresh_token', refresh_token: renewed.body.refresh_token },
  });
  expect([again.status, (await families(id)).length]).toEqual([400, 2]);
});
