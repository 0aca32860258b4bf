/** Signing in by an outside issuer: who gets in, who does not, and every lie an issuer can tell. */
import { createHmac } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createHttp } from '../../src/app.ts';
import { issuerButton, issuerFinding } from '../../src/oauth/issuer/issuer.ts';
import { prepared } from '../../src/platform/db.ts';
import { CLIENT, type Lie, type LyingIssuer, lyingIssuer, type RealIssuer, realIssuer } from '../fake-issuer.ts';
import { createKit, type Kit, type Reply } from '../kit.ts';
import { codeOf, enrol, visitorOf } from '../visitor.ts';

const CALLBACK = '/account/sign-in/issuer/callback';
const GONE = 'assent_issuer=""; Max-Age=0; Path=/account/sign-in/issuer; HttpOnly; SameSite=Lax';

let kit: Kit;
let real: RealIssuer;
let lying: LyingIssuer;
/** Whom the lying issuer speaks of: an operator, whom a true word would let in. */
let usta: number;

const setting = (issuer: string, more: object = {}): object => ({
  ...{ protocol: 'oidc', issuer, ...CLIENT, name: 'Bakery ID' },
  ...{ for: ['operators', 'staff'], domains: ['shop.example', 'xn--bckerei-5wa.example'], ...more },
});
const use = (issuer: { readonly issuer: string }, more: object = {}): Promise<void> =>
  kit.set('SIGN_IN_ISSUER', setting(issuer.issuer, more));

beforeAll(async () => {
  kit = await createKit();
  // It says at length that its pages are for tests.
  vi.spyOn(console, 'warn').mockImplementation(() => {});
  vi.spyOn(console, 'info').mockImplementation(() => {});
  real = await realIssuer([`http://localhost${CALLBACK}`, `https://id.shop.example${CALLBACK}`]);
  lying = await lyingIssuer(() => Math.floor(kit.ctx.clock.now().getTime() / 1000));
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null });
  usta = await person('usta@shop.example', { operator: true });
});
afterAll(async () => {
  await real.close();
  await lying.close();
  await kit.close();
});
beforeEach(() => {
  kit.logged.length = 0;
});
afterEach(() => {
  lying.lie = {};
  lying.asked.length = 0;
  vi.restoreAllMocks();
});

/** An account with this address; `rights` in a company makes it staff. */
async function person(
  email: string,
  { operator = false, rights = false, proven = true }: { operator?: boolean; rights?: boolean; proven?: boolean } = {},
): Promise<number> {
  const { id } = await kit.signUp({ email, unproven: !proven });
  if (operator) await kit.rows('update account set is_operator = true where id = $1', id);
  if (rights) {
    await kit.rows(
      `with made as (insert into company (name, created_at) values ('{"en":"Bakery"}', now()) returning id)
       insert into entry (company, account, created_at) select id, $1, now() from made`,
      id,
    );
  }
  return id;
}

interface Begun {
  readonly location: string;
  readonly cookie: string;
}

/** Leaves for the issuer. */
async function leave(next?: string): Promise<Begun> {
  const reply = await kit.send('GET', `/account/sign-in/issuer${next === undefined ? '' : `?next=${next}`}`);
  expect(reply.status, reply.text).toBe(302);
  const location = reply.headers['location'] as string;
  return { location, cookie: /^assent_issuer=[^;]+/.exec(reply.headers['set-cookie'] as string)![0] };
}

const comeBack = (to: URL | string, cookie: string, headers: Record<string, string> = {}): Promise<Reply> => {
  const { pathname, search } = new URL(to, 'http://localhost');
  return kit.send('GET', pathname + search, { headers: { cookie, ...headers } });
};

/** All of it at the real issuer. */
async function signIn(login: string, next?: string): Promise<Reply> {
  const { location, cookie } = await leave(next);
  return comeBack(await real.signIn(location, login), cookie);
}

/** All of it at the issuer that lies. @param more what it adds to the address it sends the browser to; null leaves out */
async function signInWith(lie: Lie, more: Record<string, string | null> = {}): Promise<Reply> {
  lying.lie = lie;
  const { location, cookie } = await leave();
  lying.begin(location);
  const state = new URL(location).searchParams.get('state');
  const answer = Object.entries({ code: 'a-code', state, iss: lying.issuer, ...more });
  const told = answer.filter((entry): entry is [string, string] => entry[1] !== null);
  return comeBack(`${CALLBACK}?${new URLSearchParams(told)}`, cookie);
}

const cookies = ({ headers }: Reply): string[] => [headers['set-cookie'] ?? []].flat() as string[];
const sessionOf = (reply: Reply): string | undefined =>
  cookies(reply).flatMap((line) => /^sessionid=(\w+)/.exec(line)?.[1] ?? [])[0];

/** Who the browser is now. */
async function me(reply: Reply): Promise<number | undefined> {
  const key = sessionOf(reply);
  const { body } = await kit.send('GET', '/current_user/', { headers: { cookie: `sessionid=${key}` } });
  return body.pk;
}

const reasons = (): string[] =>
  kit.logged.map((line) => JSON.parse(line)).flatMap(({ msg, reason }) => (/issuer failed/.test(msg) ? [reason] : []));

/** All that a sign-in could change. */
const everything = async (): Promise<unknown> => ({
  accounts: await kit.rows('select id, email_verified_at, is_operator, last_login, password from account order by id'),
  identities: await kit.rows('select * from outside_identity order by issuer, subject'),
  sessions: await kit.rows('select key_hash from session order by key_hash'),
});

/** Refused with this page, for this reason, and nothing was done. */
function expectRefused(reply: Reply, status: number, text: string, reason: string, next = ''): void {
  expect({ status: reply.status, reasons: reasons(), cookies: cookies(reply) }).toEqual({
    status,
    reasons: [reason],
    cookies: [GONE],
  });
  expect(reply.headers['content-type']).toBe('text/html; charset=utf-8');
  expect(reply.text).toContain('<h1>You are not signed in</h1>');
  expect(reply.text).toContain(text);
  expect(reply.text).toContain(`<a href="/account/sign-in${next}">Back to signing in</a>`);
  const said = `${/<main>.*<\/main>/s.exec(reply.text)}\n${kit.logged.join('\n')}`;
  expect(said).not.toMatch(/@|hostile-subject|a-code|an access token|eyJ|the secret of the tests/);
}

const STALE = 'was started in another window, or was used already. Start again.';
const DENIED = 'Bakery ID did not let you in, or you turned back there.';
const AWAY = 'Bakery ID cannot be reached, or does not answer as it should.';
const UNTRUSTED = 'The answer of Bakery ID cannot be trusted, so nothing was done.';
const ADDRESS = 'Bakery ID has not confirmed an e-mail address that is accepted here.';
const NOBODY = 'No account can be opened here with your identity at Bakery ID.';

// ---- Who gets in ----

test('the sign-in page has a button for the issuer, which goes on to where somebody wanted to go', async () => {
  await use(real);
  const { text } = await kit.send('GET', '/account/sign-in?next=/docs/');
  expect(text).toContain('href="/account/sign-in/issuer?next=%2Fdocs%2F"');
  expect(text).toContain('Bakery ID');
  await kit.set('SIGN_IN_ISSUER', { protocol: 'none' });
  expect((await kit.send('GET', '/account/sign-in?next=/docs/')).text).not.toContain('/account/sign-in/issuer');
});

test('nobody is asked anything while no issuer is trusted, and a change of the setting takes effect at once', async () => {
  expect(issuerButton(kit.ctx)).toBeUndefined();
  expect((await kit.send('GET', '/account/sign-in/issuer')).status).toBe(404);
  expect((await kit.send('GET', CALLBACK)).status).toBe(404);
  await use(real);
  expect(issuerButton(kit.ctx)).toEqual({ name: 'Bakery ID', href: '/account/sign-in/issuer' });
  const { cookie, location } = await leave();
  await kit.set('SIGN_IN_ISSUER', { protocol: 'none' });
  expect((await comeBack(await real.signIn(location, 'anybody'), cookie)).status).toBe(404);
  // To another issuer than the one the browser left for.
  await use(lying);
  expectRefused(await comeBack(`${CALLBACK}?code=a-code`, cookie), 400, STALE, 'begun with another issuer');
  expect(lying.asked).toEqual([]);
});

test('an operator signs in at a real issuer, by authorization code with PKCE, state and nonce', async () => {
  await use(real);
  const id = await person('boss@shop.example', { operator: true });
  real.people.set('boss', { email: 'Boss@SHOP.example', email_verified: true });
  const start = await kit.send('GET', '/account/sign-in/issuer?next=/docs/');
  expect(start.status).toBe(302);
  expect(start.headers['set-cookie']).toMatch(
    /^assent_issuer=[\w-]{200,}; Max-Age=600; Path=\/account\/sign-in\/issuer; HttpOnly; SameSite=Lax$/,
  );
  const location = new URL(start.headers['location'] as string);
  expect(location.origin + location.pathname).toBe(`${real.issuer}/auth`);
  expect(Object.fromEntries(location.searchParams)).toEqual({
    client_id: 'assent',
    response_type: 'code',
    redirect_uri: `http://localhost${CALLBACK}`,
    scope: 'openid email',
    state: expect.stringMatching(/^[\w-]{43}$/),
    nonce: expect.stringMatching(/^[\w-]{43}$/),
    code_challenge: expect.stringMatching(/^[\w-]{43}$/),
    code_challenge_method: 'S256',
  });
  const cookie = /^[^;]+/.exec(start.headers['set-cookie'] as string)![0];
  const back = await real.signIn(location.href, 'boss');
  expect([...back.searchParams.keys()].sort()).toEqual(['code', 'iss', 'state']);
  const reply = await comeBack(back, cookie);
  expect({ status: reply.status, location: reply.headers['location'] }).toEqual({ status: 303, location: '/docs/' });
  expect(cookies(reply).map((line) => line.split('=')[0])).toEqual([
    'assent_issuer',
    'sessionid',
    'csrftoken',
    'known_device',
  ]);
  expect(cookies(reply)[0]).toBe(GONE);
  expect(await me(reply)).toBe(id);
  const settings = await kit.send('GET', '/v1/settings', { headers: { cookie: `sessionid=${sessionOf(reply)}` } });
  expect(settings.status).toBe(200);
  expect(await kit.rows('select issuer, subject, account from outside_identity')).toEqual([
    { issuer: real.issuer, subject: 'boss', account: id },
  ]);
  expect(kit.logged.join('\n')).not.toMatch(/@|code=|boss/i);
  expect(kit.logged.map((line) => JSON.parse(line)).filter(({ msg }) => /linked/.test(msg))).toEqual([
    expect.objectContaining({ account: id, msg: 'an identity of the issuer was linked' }),
  ]);

  // The code was used; so was the cookie, unless somebody kept a copy: then the issuer refuses.
  kit.logged.length = 0;
  expectRefused(await comeBack(back, ''), 400, STALE, 'no sign-in was begun here');
  kit.logged.length = 0;
  const replayed = await comeBack(back, cookie);
  expectRefused(replayed, 400, STALE, "the issuer's answer is invalid_grant", '?next=%2Fdocs%2F');
});

test('once linked, an identity is known by its subject alone: its address may change, another gets no second account', async () => {
  await use(real);
  const id = await person('bora@shop.example', { rights: true });
  await person('taken@shop.example', { rights: true });
  real.people.set('bora', { email: 'bora@shop.example', email_verified: true });
  expect(await me(await signIn('bora'))).toBe(id);
  for (const changed of [{ email: 'taken@shop.example', email_verified: true }, { email_verified: false }, {}]) {
    real.people.set('bora', changed);
    expect(await me(await signIn('bora'))).toBe(id);
  }
  expect(await kit.rows("select account from outside_identity where subject = 'bora'")).toEqual([{ account: id }]);
});

test('an account with a second factor is asked for its code: the issuer’s word is the first factor only', async () => {
  await use(real);
  const id = await person('careful@shop.example', { operator: true });
  await kit.rows('update account set second_factor = true where id = $1', id);
  real.people.set('careful', { email: 'careful@shop.example', email_verified: true });
  const reply = await signIn('careful');
  expect(reply.status).toBe(200);
  expect(reply.text).toContain('<h1>Enter your code</h1>');
  expect(cookies(reply)[0]).toBe(GONE);
  expect(sessionOf(reply)).toBeUndefined();
  expect(
    await kit.rows(
      'select count(*)::int as count from session where account = $1 and created_at > (select created_at from outside_identity where account = $1)',
      id,
    ),
  ).toEqual([{ count: 0 }]);
});

test('an identity that is unlinked before the code is entered signs nobody in', async () => {
  await use(real);
  const id = await person('between@shop.example', { operator: true });
  const cookies = (await kit.signIn('between@shop.example')).cookies;
  const { secret } = await enrol(kit, visitorOf(kit, cookies));
  real.people.set('between', { email: 'between@shop.example', email_verified: true });
  const stepOf = ({ text }: Reply): string => /name="step" value="([^"]*)"/.exec(text)![1]!;
  const visitor = visitorOf(kit);
  const enter = async (step: string): Promise<number> => {
    // For the token of a form.
    await visitor.get('/account/sign-in');
    return (await visitor.post('/account/sign-in/code', { step, otp: codeOf(kit, secret) })).status;
  };
  expect(await enter(stepOf(await signIn('between')))).toBe(303);
  kit.advance(60_000);
  const step = stepOf(await signIn('between'));
  const boss = await kit.operator();
  const issuer = encodeURIComponent(real.issuer);
  expect((await boss.send('DELETE', `/v1/accounts/${id}/identities?issuer=${issuer}`)).status).toBe(204);
  expect(await enter(step)).toBe(400);
  expect(await kit.rows('select kind from session where account = $1', id)).toEqual([]);
});

test('behind https the cookie is for https only, and the issuer sends people back to PUBLIC_URL', async () => {
  await use(real);
  const http = await createHttp(kit.ctx, { trustedProxies: [], publicUrl: 'https://id.shop.example/' });
  const reply = await http.inject({ url: '/account/sign-in/issuer', headers: { host: 'evil.example' } });
  expect(reply.headers['set-cookie']).toMatch(/; HttpOnly; SameSite=Lax; Secure$/);
  const { searchParams } = new URL(reply.headers.location!);
  expect(searchParams.get('redirect_uri')).toBe(`https://id.shop.example${CALLBACK}`);
  await http.close();
});

test.each(['//evil.example', 'https://evil.example/', '/\\evil.example', 'javascript:alert(1)', '/\r\nX:1'])(
  'nobody is sent on to %s',
  async (next) => {
    await use(lying);
    const { location, cookie } = await leave(encodeURIComponent(next));
    lying.begin(location);
    const state = new URL(location).searchParams.get('state')!;
    const told = new URLSearchParams({ code: 'a-code', state, iss: lying.issuer });
    const reply = await comeBack(`${CALLBACK}?${told}`, cookie);
    expect({ status: reply.status, location: reply.headers['location'] }).toEqual({
      status: 303,
      location: '/account',
    });
  },
);

// ---- Who does not ----

test('an invited colleague accepts by signing in: the address is proven and open links end', async () => {
  await use(real);
  const owner = await kit.signUp();
  const [company] = await kit.rows<{ id: number }>(
    `insert into company (name, owner, created_at) values ('{"en":"Bakery"}', $1, now()) returning id`,
    owner.id,
  );
  const [invited] = await kit.rows<{ id: number }>(
    `with point as (insert into contact_point (kind, value, address_hash, created_at) values ('email', 'new@shop.example', 'x', now()) returning id)
     insert into account (email, email_key, language_code, email_point, date_joined)
     select 'new@shop.example', 'new@shop.example', 'en', id, now() from point returning id`,
  );
  await kit.rows('insert into entry (company, account, created_at) values ($1, $2, now())', company!.id, invited!.id);
  await kit.rows(
    `insert into mail_link (id, purpose, account, language, created_at, expires_at)
     values (gen_random_uuid(), 'invitation', $1, 'en', now(), now() + interval '7 days')`,
    invited!.id,
  );
  real.people.set('new', { email: 'new@shop.example', email_verified: true });
  expect(await me(await signIn('new'))).toBe(invited!.id);
  expect(
    await kit.rows(
      `select email_verified_at is not null as proven, password,
              (select count(*)::int from mail_link where account = a.id and used_at is null) as links
         from account a where id = $1`,
      invited!.id,
    ),
  ).toEqual([{ proven: true, password: null, links: 0 }]);
});

test('whoever registered somebody’s address without proving it loses the account to them', async () => {
  await use(real);
  const squatter = await kit.signUp({ email: 'wanted@shop.example', unproven: true });
  await kit.rows(
    `with made as (insert into company (name, created_at) values ('{"en":"Bakery"}', now()) returning id)
     insert into entry (company, account, created_at) select id, $1, now() from made`,
    squatter.id,
  );
  await kit.rows(
    `insert into mail_link (id, purpose, account, new_email, language, created_at, expires_at)
     values (gen_random_uuid(), 'email_change', $1, 'evil@evil.example', 'en', now(), now() + interval '1 day')`,
    squatter.id,
  );
  await kit.rows(
    "insert into second_factor (account, secret, created_at, confirmed_at) values ($1, 'x', now(), now())",
    squatter.id,
  );
  await kit.rows("insert into recovery_code (account, code_hash) values ($1, 'x')", squatter.id);
  await kit.rows('update account set second_factor = true where id = $1', squatter.id);
  real.people.set('wanted', { email: 'wanted@shop.example', email_verified: true });
  const reply = await signIn('wanted');
  expect(await me(reply)).toBe(squatter.id);
  expect((await squatter.send('GET', '/users/profile/')).status).toBe(401);
  expect(
    await kit.rows(
      `select email_verified_at is not null as proven, password, second_factor,
              (select count(*)::int from mail_link where account = a.id and used_at is null) as links,
              (select count(*)::int from second_factor where account = a.id) as factors,
              (select count(*)::int from recovery_code where account = a.id) as codes
         from account a where id = $1`,
      squatter.id,
    ),
  ).toEqual([{ proven: true, password: null, second_factor: false, links: 0, factors: 0, codes: 0 }]);
});

/** People at the real issuer, what they are here, and why they do not get in. */
const strangers: readonly {
  who: string;
  at: object;
  here?: { email: string } & Parameters<typeof person>[1];
  more?: object;
  page?: string;
  reason: string;
}[] = [
  {
    who: 'somebody without an account',
    at: { email: 'nobody@shop.example', email_verified: true },
    reason: 'no account',
  },
  {
    who: 'a customer',
    at: { email: 'customer@shop.example', email_verified: true },
    here: { email: 'customer@shop.example' },
    reason: 'the issuer does not speak for such accounts',
  },
  {
    who: 'staff, where the issuer speaks for operators only',
    at: { email: 'staff@shop.example', email_verified: true },
    here: { email: 'staff@shop.example', rights: true },
    more: { for: ['operators'] },
    reason: 'the issuer does not speak for such accounts',
  },
  {
    who: 'an operator, where it speaks for staff only, though they are staff as well',
    at: { email: 'both@shop.example', email_verified: true },
    here: { email: 'both@shop.example', rights: true, operator: true },
    more: { for: ['staff'] },
    reason: 'the issuer does not speak for such accounts',
  },
  {
    who: 'an address that is not verified',
    at: { email: 'loose@shop.example', email_verified: false },
    here: { email: 'loose@shop.example', operator: true },
    page: ADDRESS,
    reason: 'no verified address',
  },
  { who: 'no address at all', at: {}, page: ADDRESS, reason: 'no verified address' },
  {
    who: 'an address of a foreign domain',
    at: { email: 'far@elsewhere.example', email_verified: true },
    here: { email: 'far@elsewhere.example', operator: true },
    page: ADDRESS,
    reason: 'an address of another domain',
  },
  {
    who: 'an address of a subdomain',
    at: { email: 'far@sub.shop.example', email_verified: true },
    here: { email: 'far@sub.shop.example', operator: true },
    page: ADDRESS,
    reason: 'an address of another domain',
  },
  {
    who: 'an address that ends like a named domain',
    at: { email: 'far@notshop.example', email_verified: true },
    here: { email: 'far@notshop.example', operator: true },
    page: ADDRESS,
    reason: 'an address of another domain',
  },
  {
    who: 'a letter that only looks like the operator’s',
    at: { email: 'ﬁona@shop.example', email_verified: true },
    here: { email: 'fiona@shop.example', operator: true },
    reason: 'no account',
  },
  {
    who: 'two domains',
    at: { email: 'fiona@evil.example＠shop.example', email_verified: true },
    page: ADDRESS,
    reason: 'an address of another domain',
  },
];

test.each(strangers)('$who: is not let in, and nobody is made', async ({ at, here, more, page = NOBODY, reason }) => {
  await use(real, more);
  if (here !== undefined) await person(here.email, here);
  const login = `stranger ${strangers.findIndex((each) => each.at === at)}`;
  real.people.set(login, at);
  const before = await everything();
  expectRefused(await signIn(login), 403, page, reason);
  expect(await everything()).toEqual(before);
});

test('an internationalised domain is one however it is written', async () => {
  await use(real);
  const id = await person('ida@xn--bckerei-5wa.example', { operator: true });
  real.people.set('ida', { email: 'ida@XN--BCKEREI-5WA.example', email_verified: true });
  expect(await me(await signIn('ida'))).toBe(id);
});

test('a mail address that was given to somebody else later opens nothing', async () => {
  await use(real);
  const id = await person('desk@shop.example', { rights: true });
  real.people.set('first holder', { email: 'desk@shop.example', email_verified: true });
  real.people.set('second holder', { email: 'desk@shop.example', email_verified: true });
  expect(await me(await signIn('first holder'))).toBe(id);
  kit.logged.length = 0;
  const before = await everything();
  expectRefused(await signIn('second holder'), 403, NOBODY, 'the account belongs to another identity');
  expect(await everything()).toEqual(before);
});

test('of two identities that come with one address at once, one gets the account', async () => {
  await use(real);
  const id = await person('race@shop.example', { operator: true });
  const logins = ['racer 1', 'racer 2', 'racer 3', 'racer 4'];
  for (const login of logins) real.people.set(login, { email: 'race@shop.example', email_verified: true });
  const ready = await Promise.all(
    logins.map(async (login) => {
      const { location, cookie } = await leave();
      return { to: await real.signIn(location, login), cookie };
    }),
  );
  // Held until all of them are at the account, so that they are there at once.
  const held = await kit.database.transaction(async (db) => {
    await db.run(prepared('select from account where id = $1 for update', id));
    const coming = ready.map(({ to, cookie }) => comeBack(to, cookie));
    await vi.waitFor(async () => {
      const [row] = await kit.owner(
        "select count(*)::int as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      expect(row).toEqual({ waiting: 4 });
    }, 10_000);
    return { coming };
  });
  const answers = await Promise.all(held.coming);
  expect(answers.map(({ status }) => status).sort()).toEqual([303, 403, 403, 403]);
  expect(await kit.rows('select count(*)::int as count from outside_identity where account = $1', id)).toEqual([
    { count: 1 },
  ]);
});

test('a linked identity gets in only while its account may: on, an operator or staff, of a named domain, not erased', async () => {
  await use(real);
  const id = await person('leaver@shop.example', { operator: true });
  real.people.set('leaver', { email: 'leaver@shop.example', email_verified: true });
  expect(await me(await signIn('leaver'))).toBe(id);
  const refusedFor = async (reason: string): Promise<void> => {
    kit.logged.length = 0;
    expectRefused(await signIn('leaver'), 403, NOBODY, reason);
  };
  await use(real, { domains: ['other.example'] });
  await refusedFor('the account has an address of another domain');
  await use(real);
  await kit.rows('update account set is_operator = false where id = $1', id);
  await refusedFor('the issuer does not speak for such accounts');
  await kit.rows('update account set is_operator = true, is_active = false where id = $1', id);
  await refusedFor('the account is switched off');
  const { send: erase } = await kit.operator();
  expect((await erase('POST', '/v1/erasures', { body: { account: id } })).status).toBe(200);
  expect(await kit.rows('select from outside_identity where account = $1', id)).toEqual([]);
  await refusedFor('no account');
});

// ---- What goes wrong on the way ----

test('whoever turns back at the issuer is told so, and can still go where they wanted', async () => {
  await use(real);
  const { location, cookie } = await leave('/oauth/authorize%3Fclient_id=a');
  const reply = await comeBack(await real.turnBack(location), cookie);
  expectRefused(reply, 403, DENIED, 'the issuer says access_denied', '?next=%2Foauth%2Fauthorize%3Fclient_id%3Da');
});

test('a callback that does not belong to this browser is refused before the issuer hears of it', async () => {
  await use(lying);
  const { location, cookie } = await leave();
  lying.asked.length = 0;
  const state = new URL(location).searchParams.get('state')!;
  const again = async (query: string, jar: string, reason: string): Promise<void> => {
    kit.logged.length = 0;
    expectRefused(await comeBack(`${CALLBACK}?${query}`, jar), 400, STALE, reason);
  };
  await again(`code=a-code&state=${state}`, '', 'no sign-in was begun here');
  await again('code=a-code', cookie, 'another state');
  await again('code=a-code&state=other', cookie, 'another state');
  await again(`code=a-code&state=${state}&state=${state}`, cookie, 'another state');
  await again(`code=a-code&state=${state}`, `${cookie.slice(0, -2)}AA`, 'a cookie that is none of ours');
  await again(`code=a-code&state=${state}`, 'assent_issuer=x', 'a cookie that is none of ours');
  const other = await leave();
  await again(`code=a-code&state=${state}`, other.cookie, 'another state');
  kit.advance(600_000);
  await again(`code=a-code&state=${state}`, cookie, 'begun too long ago');
  expect(lying.asked.filter((line) => line.includes('/token'))).toEqual([]);
});

test.each([
  ['en', 'You are not signed in'],
  ['tr', 'Giriş yapılmadı'],
  ['nl', 'U bent niet ingelogd'],
  ['fr', 'Vous n’êtes pas connecté'],
])('the page speaks %s', async (language, title) => {
  await use(lying);
  const reply = await kit.send('GET', CALLBACK, { headers: { 'accept-language': language } });
  expect(reply.status).toBe(400);
  expect(reply.text).toContain(`<html lang="${language}">`);
  expect(reply.text).toContain(`<h1>${title}</h1>`);
});

// ---- Lies ----

const seconds = (): number => Math.floor(kit.ctx.clock.now().getTime() / 1000);
const hs256 = (secret: () => string | Buffer) => (input: string) =>
  createHmac('sha256', secret()).update(input).digest('base64url');
const send =
  (status: number, headers: Record<string, string>, body = '') =>
  (_request: unknown, response: import('node:http').ServerResponse): void =>
    void response.writeHead(status, headers).end(body);
const json = { 'content-type': 'application/json' };

/** Each a function, because the keys and the time are known only when it is told. */
const lies: readonly [
  name: string,
  lie: () => Lie,
  page: string,
  reason: string,
  more?: Record<string, string | null>,
][] = [
  ['a token for another audience', () => ({ claims: { aud: 'somebody' } }), UNTRUSTED, 'a token with a wrong aud'],
  ['a token for several', () => ({ claims: { aud: ['assent', 'evil'] } }), UNTRUSTED, 'a token with a wrong aud'],
  [
    'a token for several, made for another',
    () => ({ claims: { aud: ['assent', 'evil'], azp: 'evil' } }),
    UNTRUSTED,
    'a token with a wrong azp',
  ],
  ['a token made for another', () => ({ claims: { azp: 'evil' } }), UNTRUSTED, 'a token with a wrong azp'],
  [
    'a token of another issuer',
    () => ({ claims: { iss: 'https://evil.example' } }),
    UNTRUSTED,
    'a token with a wrong iss',
  ],
  ['a token of another sign-in', () => ({ claims: { nonce: 'other' } }), UNTRUSTED, 'a token with a wrong nonce'],
  ['a token without nonce', () => ({ claims: { nonce: undefined } }), UNTRUSTED, 'an answer that does not hold'],
  ['a token without subject', () => ({ claims: { sub: undefined } }), UNTRUSTED, 'an answer that does not hold'],
  ['a subject that is no text', () => ({ claims: { sub: 7 } }), UNTRUSTED, 'an answer that does not hold'],
  ['a subject without end', () => ({ claims: { sub: 'x'.repeat(256) } }), UNTRUSTED, 'a token with a wrong sub'],
  ['a subject with a null', () => ({ claims: { sub: 'x\0y' } }), UNTRUSTED, 'a token with a wrong sub'],
  [
    'a token that is over',
    () => ({ claims: { exp: seconds() - 62, iat: seconds() - 400 } }),
    UNTRUSTED,
    'a token of another time, by its exp',
  ],
  ['a token without end', () => ({ claims: { exp: undefined } }), UNTRUSTED, 'an answer that does not hold'],
  [
    'a token that is not yet good',
    () => ({ claims: { nbf: seconds() + 90 } }),
    UNTRUSTED,
    'a token of another time, by its nbf',
  ],
  [
    'a token of the future',
    () => ({ claims: { iat: seconds() + 90, exp: seconds() + 900 } }),
    UNTRUSTED,
    'a token of another time, by its iat',
  ],
  ['no signature', () => ({ header: { alg: 'none' }, by: () => '' }), UNTRUSTED, 'an answer that does not hold'],
  [
    'the public key as a secret',
    () => ({
      header: { alg: 'HS256' },
      by: hs256(() => lying.key.public.export({ format: 'pem', type: 'spki' })),
    }),
    UNTRUSTED,
    'an answer that does not hold',
  ],
  [
    'the client secret as a key',
    () => ({ header: { alg: 'HS256' }, by: hs256(() => CLIENT.client_secret) }),
    UNTRUSTED,
    'an answer that does not hold',
  ],
  [
    'another key under the same name',
    () => ({ by: { ...lying.other, kid: 'one' } }),
    UNTRUSTED,
    'an answer that does not hold',
  ],
  ['a key it does not publish', () => ({ by: lying.other }), UNTRUSTED, 'a token by an unknown key'],
  [
    'a key that the token brings along',
    () => ({
      by: { ...lying.other, kid: 'one' },
      header: { jwk: lying.other.public.export({ format: 'jwk' }), jku: `${lying.issuer}/elsewhere` },
    }),
    UNTRUSTED,
    'an answer that does not hold',
  ],
  ['a critical header', () => ({ header: { crit: ['x'], x: 1 } }), UNTRUSTED, 'an answer that does not hold'],
  ['no ID token', () => ({ tokens: { id_token: undefined } }), UNTRUSTED, 'an answer that does not hold'],
  ['an ID token that is none', () => ({ tokens: { id_token: 'a.b.c' } }), AWAY, 'an answer that is none'],
  ['the word "true" for an address', () => ({ claims: { email_verified: 'true' } }), ADDRESS, 'no verified address'],
  ['an address that is none', () => ({ claims: { email: ['usta@shop.example'] } }), ADDRESS, 'no verified address'],
  [
    'an address with a null',
    () => ({ claims: { email: 'usta\0@shop.example' } }),
    ADDRESS,
    'an address of another domain',
  ],
  ['half an address', () => ({ claims: { email: '@shop.example' } }), ADDRESS, 'an address of another domain'],
  [
    'somebody else’s address beside the token',
    () => ({ claims: { email: undefined }, userinfo: { sub: 'another' } }),
    UNTRUSTED,
    'an answer about somebody or something else',
  ],
  [
    'an unverified address beside the token',
    () => ({ claims: { email: undefined, email_verified: true }, userinfo: { email_verified: undefined } }),
    ADDRESS,
    'no verified address',
  ],
  [
    'an answer of another issuer',
    () => ({}),
    UNTRUSTED,
    'an answer that does not hold',
    { iss: 'https://evil.example' },
  ],
  ['an answer of no issuer', () => ({}), UNTRUSTED, 'an answer that does not hold', { iss: null }],
  ['no code', () => ({}), UNTRUSTED, 'an answer that does not hold', { code: null }],
  ['a token in the address', () => ({}), UNTRUSTED, 'an answer that does not hold', { id_token: 'eyJ' }],
  ['an error of its own invention', () => ({}), AWAY, 'the issuer says other', { error: '<script>usta@shop.example' }],
  [
    'a token endpoint that fails',
    () => ({ instead: { '/token': send(500, json, '{"error":"usta@shop.example"}') } }),
    AWAY,
    'an answer that is none',
  ],
  [
    'a client it does not know',
    () => ({ instead: { '/token': send(401, json, '{"error":"invalid_client"}') } }),
    AWAY,
    "the issuer's answer is invalid_client",
  ],
  [
    'a token endpoint that leads away',
    () => ({ instead: { '/token': send(307, { location: `${lying.issuer}/elsewhere` }) } }),
    AWAY,
    'an answer that is none',
  ],
  [
    'a page instead of tokens',
    () => ({ instead: { '/token': send(200, { 'content-type': 'text/html' }, '<p>eyJ') } }),
    AWAY,
    'an answer that is none',
  ],
  ['no keys', () => ({ instead: { '/jwks': send(404, json, '{}') } }), AWAY, 'an answer that is none'],
  [
    'keys elsewhere',
    () => ({ instead: { '/jwks': send(302, { location: `${lying.issuer}/elsewhere` }) } }),
    AWAY,
    'an answer that is none',
  ],
  [
    'keys that are none',
    () => ({ instead: { '/jwks': send(200, json, '{"keys":[{"kty":"RSA","kid":"one","n":"!","e":"!"}]}') } }),
    UNTRUSTED,
    'an answer that does not hold',
  ],
  [
    'a connection that ends',
    () => ({ instead: { '/jwks': (request) => void request.socket.destroy() } }),
    AWAY,
    'connection lost',
  ],
];

test.each(lies)('the issuer sends %s: nothing is done', async (_name, lie, page, reason, more) => {
  await use(lying);
  await kit.rows('delete from outside_identity where issuer = $1', lying.issuer);
  const before = await everything();
  expectRefused(await signInWith(lie(), more), page === AWAY ? 503 : 403, page, reason);
  expect(await everything()).toEqual(before);
  expect(lying.asked).not.toContain('GET /elsewhere');
});

test('without a lie it lets in: the rows above fail for their lie alone', async () => {
  await use(lying);
  expect(await me(await signInWith({}))).toBe(usta);
  expect(await me(await signInWith({ claims: { email: undefined } }))).toBe(usta);
  expect(await me(await signInWith({ claims: { aud: ['assent', 'other'], azp: 'assent' } }))).toBe(usta);
  await use(lying);
  const post = { token_endpoint_auth_methods_supported: ['client_secret_post'] };
  expect(await me(await signInWith({ discovery: post }))).toBe(usta);
  await use(lying);
  // Clocks may differ by a minute, or by what the setting says.
  expect(await me(await signInWith({ claims: { exp: seconds() - 50, iat: seconds() - 300 } }))).toBe(usta);
  expect(await me(await signInWith({ claims: { iat: seconds() + 50, nbf: seconds() + 50 } }))).toBe(usta);
  await use(lying, { clock_skew: 0 });
  kit.logged.length = 0;
  expectRefused(
    await signInWith({ claims: { exp: seconds() - 5, iat: seconds() - 300 } }),
    403,
    UNTRUSTED,
    'a token of another time, by its exp',
  );
  await use(lying, { clock_skew: 300 });
  expect(await me(await signInWith({ claims: { iat: seconds() + 250, exp: seconds() + 900 } }))).toBe(usta);
});

test('a new key of the issuer counts at once, and so does the end of an old one', async () => {
  await use(lying);
  expect((await signInWith({})).status).toBe(303);
  expect((await signInWith({ by: lying.other, keys: [lying.key, lying.other] })).status).toBe(303);
  expect((await signInWith({ by: lying.other, keys: [lying.other] })).status).toBe(303);
  kit.logged.length = 0;
  expectRefused(await signInWith({ keys: [lying.other] }), 403, UNTRUSTED, 'a token by an unknown key');
});

test('the discovery document is read again after five minutes, the keys each time', async () => {
  await use(lying);
  await signInWith({});
  await signInWith({});
  kit.advance(300_000);
  await signInWith({});
  const once = ['POST /token', 'GET /jwks'];
  const discovery = 'GET /.well-known/openid-configuration';
  expect(lying.asked).toEqual([discovery, ...once, ...once, discovery, ...once]);
});

/** What is wrong before anybody leaves. */
const starts: readonly [name: string, lie: () => Lie, reason: string, trouble?: string][] = [
  [
    'another issuer',
    () => ({ discovery: { issuer: 'https://evil.example' } }),
    'an answer about somebody or something else',
    UNTRUSTED,
  ],
  [
    'nothing',
    () => ({ instead: { '/.well-known/openid-configuration': send(404, json, '{}') } }),
    'an answer that is none',
  ],
  [
    'text',
    () => ({ instead: { '/.well-known/openid-configuration': send(200, json, 'hello') } }),
    'an answer that is none',
  ],
  [
    'another place',
    () => ({ instead: { '/.well-known/openid-configuration': send(302, { location: '/elsewhere' }) } }),
    'an answer that is none',
  ],
  [
    'more than anybody reads',
    () => ({
      instead: {
        '/.well-known/openid-configuration': (_request, response) => {
          response.writeHead(200, json).write(`{"issuer":"${lying.issuer}","x":"`);
          const more = (): void => {
            while (response.write('x'.repeat(16_384)));
          };
          response.on('drain', more);
          more();
        },
      },
    }),
    'an answer that is none',
  ],
  [
    'a sign-in page without https',
    () => ({ discovery: { authorization_endpoint: 'http://192.0.2.1/authorize' } }),
    'an address without https',
  ],
  [
    'a script as its sign-in page',
    () => ({ discovery: { authorization_endpoint: 'javascript:alert(1)' } }),
    'an address without https',
  ],
];

test.each(starts)(
  'an issuer whose discovery document says %s is not gone to',
  async (_name, lie, reason, page = AWAY) => {
    await use(lying);
    lying.lie = lie();
    const reply = await kit.send('GET', '/account/sign-in/issuer');
    expect({ status: reply.status, reasons: reasons(), cookies: cookies(reply) }).toEqual({
      status: page === AWAY ? 503 : 403,
      reasons: [reason],
      cookies: [],
    });
    expect(reply.text).toContain(page);
    expect(reply.headers['location']).toBeUndefined();
    expect(lying.asked).toEqual(['GET /.well-known/openid-configuration']);
  },
);

test.each(['token_endpoint', 'jwks_uri', 'userinfo_endpoint'])(
  'a %s without https, or on another machine, is not called',
  async (endpoint) => {
    await use(lying);
    const lie = { discovery: { [endpoint]: 'http://192.0.2.1/' }, claims: { email: undefined } };
    expectRefused(await signInWith(lie), 503, AWAY, 'an address without https');
  },
);

test('the address of a discovery document is no issuer', async () => {
  await use({ issuer: `${lying.issuer}/.well-known/openid-configuration` });
  const reply = await kit.send('GET', '/account/sign-in/issuer');
  expect({ status: reply.status, reasons: reasons() }).toEqual({
    status: 503,
    reasons: ['discovery of another issuer'],
  });
});

test('an issuer on another machine is asked by https only, and one that is gone is said to be', async () => {
  await use({ issuer: 'http://192.0.2.1' });
  const refused = async (reason: string): Promise<void> => {
    kit.logged.length = 0;
    const reply = await kit.send('GET', '/account/sign-in/issuer');
    expect({ status: reply.status, reasons: reasons() }).toEqual({ status: 503, reasons: [reason] });
    expect(reply.text).toContain(AWAY);
  };
  await refused('an address without https');
  await use({ issuer: 'https://[' });
  await refused('an address that is none');
  const gone = await lyingIssuer(seconds);
  await gone.close();
  await use(gone);
  await refused('connection refused');
  expect(await issuerFinding(kit.ctx)).toEqual({
    ok: false,
    detail: `${gone.issuer}: connection refused`,
    remedy: 'Nobody can sign in by it. Look at its address, then correct SIGN_IN_ISSUER.',
  });
});

test('an issuer that does not answer is given up after ten seconds', async () => {
  await use(lying);
  const waits: number[] = [];
  const ends: AbortController[] = [];
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((milliseconds) => {
    waits.push(milliseconds);
    const end = new AbortController();
    ends.push(end);
    return end.signal;
  });
  const over = (): void => {
    for (const end of ends) end.abort(new DOMException('over', 'TimeoutError'));
  };
  expectRefused(await signInWith({ instead: { '/token': over } }), 503, AWAY, 'no answer in time');
  expect(Math.max(...waits)).toBeLessThanOrEqual(10_000);
});

// ---- The setting ----

test('the secret is never shown, and does not move to another issuer', async () => {
  const admin = await kit.operator();
  await use(real);
  const shown = await admin.send('GET', '/v1/settings/SIGN_IN_ISSUER');
  expect(shown.body.value).toEqual(setting(real.issuer, { client_secret: '********' }));
  const put = (value: object): Promise<Reply> => admin.send('PUT', '/v1/settings/SIGN_IN_ISSUER', { body: { value } });
  expect((await put(setting(real.issuer, { client_secret: '********', name: 'New' }))).status).toBe(200);
  const moved = await put(setting('https://evil.example', { client_secret: '********' }));
  expect({ status: moved.status, errors: moved.body.errors }).toEqual({
    status: 400,
    errors: [expect.objectContaining({ pointer: '/value/client_secret', code: 'no_secret' })],
  });
});

test('the doctor says how the issuer is', async () => {
  await use(real);
  expect(await issuerFinding(kit.ctx)).toEqual({
    ok: true,
    detail: `${real.issuer} answers, for operators and staff of shop.example, xn--bckerei-5wa.example`,
  });
  await kit.set('SIGN_IN_ISSUER', { protocol: 'none' });
  expect(await issuerFinding(kit.ctx)).toBeUndefined();
});
