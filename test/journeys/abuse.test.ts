/** What somebody who means harm tries: old passwords, many guesses, other people's letter boxes. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { foldEmail } from '../../src/accounts/accounts.ts';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { hashPassword } from '../../src/accounts/passwords.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { spendCode } from '../../src/phone/budget.ts';
import { sql } from '../../src/platform/db.ts';
import { countedAddress } from '../../src/platform/throttle.ts';
import { throttleScopes } from '../../src/settings.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';

let kit: Kit;
beforeAll(async () => {
  kit = await createKit();
  await createClient(kit.ctx, { id: 'till', name: 'Till', password_grant: true }, atTheMachine);
});
beforeEach(async () => {
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  await kit.rows('delete from throttle');
});
afterAll(() => kit.close());

const LOGIN = '/users/login/';
const RESET = '/users/password/reset/';
const login = (email: string, password: string): Promise<Reply> =>
  kit.send('POST', LOGIN, { body: { email, password } });
const grant = (username: string, password: string): Promise<Reply> =>
  kit.send('POST', '/api/token', { body: { grant_type: 'password', client_id: 'till', username, password } });
const askFor = (client: Client, email: string): Promise<Reply> =>
  client.send('POST', '/users/email-change/', { body: { email, password: PASSWORD } });
const askReset = (email: string): Promise<Reply> => kit.send('POST', RESET, { body: { email } });
/** Recipients and subjects of what was mailed since the last call. */
let seen = 0;
async function mailed(): Promise<string[]> {
  await kit.jobs();
  const all = (await kit.outbox('mail')).map(({ recipient, subject }) => `${recipient}: ${subject}`);
  const fresh = all.slice(seen);
  seen = all.length;
  return fresh;
}

test.each([
  ['login', login, [400, 'Unable to log in with provided credentials.']],
  ['token', grant, [400, 'invalid_grant']],
] as const)(
  'a %s with the old password ends with the change that overtakes it',
  async (_door, enter, [status, text]) => {
    const ada = await kit.signUp();
    const next = await hashPassword('another-good-password');
    let answer: Promise<Reply> | undefined;
    await kit.database.transaction(async (db) => {
      await db.run(sql`update account set password = ${next} where id = ${ada.id}`);
      let answered = false;
      answer = enter(ada.email, PASSWORD).finally(() => {
        answered = true;
      });
      // Until it has compared the password and waits for the account, or has not waited at all.
      for (let waits = false; !waits && !answered; ) {
        const [row] = await kit.rows<{ waits: boolean }>(
          `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') as waits`,
        );
        waits = row!.waits;
      }
      await db.run(sql`delete from session where account = ${ada.id}`);
    });
    const reply = await answer!;
    expect([reply.status, reply.text.includes(text)], reply.text).toEqual([status, true]);
    expect(await kit.rows('select kind from session where account = $1', ada.id)).toEqual([]);
  },
);

test('an address is one account and one counter, however it is written', async () => {
  for (const form of ['cirak@example.com', 'CIRAK@example.com', 'cİrak@example.com', 'ｃirak@example.com'])
    expect(foldEmail(form)).toBe('cirak@example.com');
  await kit.signUp({ email: 'cirak@example.com' });
  const taken = await kit.send('POST', '/users/registration/', {
    body: { email: 'CİRAK@example.com', password: PASSWORD, first_name: 'A', last_name: 'B' },
  });
  expect([taken.status, Object.keys(taken.body)]).toEqual([400, ['email']]);
  expect((await login('cİrak@example.com', PASSWORD)).status).toBe(200);
  await kit.rows('delete from throttle');
  // The client's own address counts as well, and is left out of this.
  await kit.set('THROTTLING_SETTINGS', { login: null, token: { count: 2, duration: 60 } });
  const statuses: number[] = [];
  for (const form of ['cirak@example.com', 'cİrak@example.com', 'CIRAK@example.com']) {
    await kit.rows(
      `delete from throttle where caller = $1`,
      kit.ctx.keys.hash('throttle', 'ip:127.0.0.1').subarray(0, 16),
    );
    statuses.push((await grant(form, 'wrong-password')).status);
  }
  expect(statuses).toEqual([400, 400, 429]);
});

test('a hundred wrong passwords an hour close both doors of an account; a right one before opens the count anew', async () => {
  const ada = await kit.signUp();
  const caller = kit.ctx.keys.hash('throttle', foldEmail(ada.email)).subarray(0, 16);
  const counted = (): Promise<unknown> =>
    kit.rows(`select count from throttle where scope = 'failed-sign-in' and caller = $1`, caller);
  expect([(await login(ada.email, 'wrong')).status, (await grant(ada.email, 'wrong')).status]).toEqual([400, 400]);
  expect(await counted()).toEqual([{ count: 2 }]);
  expect((await grant(ada.email, PASSWORD)).status).toBe(200);
  expect(await counted()).toEqual([]);
  await login(ada.email, 'wrong');
  await kit.rows(`update throttle set count = 99 where scope = 'failed-sign-in' and caller = $1`, caller);
  expect((await grant(ada.email.toUpperCase(), 'wrong')).status).toBe(400);
  expect([(await login(ada.email, PASSWORD)).status, (await grant(ada.email, PASSWORD)).status]).toEqual([429, 429]);
  kit.advance(3_600_000);
  expect((await login(ada.email, PASSWORD)).status).toBe(200);
});

test('a stolen key guesses the password twenty times an hour, wherever it asks; outside doors do not fill that count', async () => {
  const { email, send } = await kit.signUp();
  const other = await kit.signUp();
  const next = 'another-horse-battery';
  const change = async (client: Client['send'], old_password: string): Promise<number> =>
    (
      await client('POST', '/users/password/change/', {
        body: { old_password, new_password1: next, new_password2: next },
      })
    ).status;
  const move = async (password: string): Promise<number> =>
    (await send('POST', '/users/email-change/', { body: { email: 'new@example.com', password } })).status;
  await Promise.all(Array.from({ length: 30 }, (_, n) => login(email, `wrong-horse-${n}`)));
  for (let n = 0; n < 10; n += 1)
    expect([await change(send, `wrong-${n}`), await move(`wrong-${n}`)]).toEqual([400, 400]);
  expect([await change(send, PASSWORD), await move(PASSWORD)]).toEqual([429, 429]);
  expect([(await login(email, PASSWORD)).status, await change(other.send, PASSWORD)]).toEqual([200, 200]);
  kit.advance(3_600_000);
  // Right ones are no guesses.
  for (let n = 0; n < 21; n += 1) expect(await move(PASSWORD)).toBe(200);
  expect(await change(send, PASSWORD)).toBe(200);
  await mailed();
});

test('a reset is mailed once a minute and five times an hour; the answer never tells', async () => {
  const ada = await kit.signUp();
  const replies = await Promise.all(Array.from({ length: 4 }, () => askReset(ada.email)));
  const mails = [(await mailed()).length];
  for (let minute = 0; minute < 6; minute += 1) {
    kit.advance(60_000);
    replies.push(await askReset(ada.email));
    mails.push((await mailed()).length);
  }
  expect(replies.map(({ status, body }) => [status, body])).toEqual(
    Array(10).fill([200, { detail: 'Password reset e-mail has been sent.' }]),
  );
  expect(mails).toEqual([1, 1, 1, 1, 1, 0, 0]);
});

test('a change of address mails each address once a minute and five times an hour, taken or not', async () => {
  const bora = await kit.signUp();
  for (const address of ['free@example.com', bora.email]) {
    const ada = await kit.signUp();
    const statuses = [(await askFor(ada, address)).status, (await askFor(ada, address.toUpperCase())).status];
    const mails = await mailed();
    expect(mails.map((mail) => mail.split(':')[0])).toEqual(address === bora.email ? [] : [address, ada.email]);
    for (let minute = 0; minute < 5; minute += 1) {
      kit.advance(60_000);
      statuses.push((await askFor(ada, address)).status);
    }
    expect(statuses).toEqual([200, 200, 200, 200, 200, 200, 429]);
    // Four notices, and the one link that was not replaced before it went out.
    expect(await mailed()).toHaveLength(address === bora.email ? 0 : 5);
    // Nor any number of addresses.
    expect((await askFor(ada, 'yet.another@example.com')).status).toBe(429);
  }
});

test('the old address is told of every change that was asked for, whatever became of its link', async () => {
  const ada = await kit.signUp();
  await askFor(ada, 'one@example.com');
  await askFor(ada, 'two@example.com');
  await ada.send('POST', '/users/password/change/', {
    body: { old_password: PASSWORD, new_password1: 'a-much-better-one', new_password2: 'a-much-better-one' },
  });
  const notice = `${ada.email}: Your e-mail address is about to change`;
  expect(await mailed()).toEqual([notice, notice]);
});

test('a company invites as often as its scope allows, and reading is not counted', async () => {
  const owner = await kit.signUp();
  await kit.rows('update account set email_verified_at = now() where id = $1', owner.id);
  const { id } = await createCompany(kit.ctx, { name: { en: 'A' }, owner: owner.email, shops: [], language: 'en' });
  const usta = await kit.bearer(owner.email);
  await kit.set('THROTTLING_SETTINGS', { invite: { count: 2, duration: 3600 } });
  const path = `/company/companies/${id}/permissions/users`;
  const statuses: number[] = [];
  for (let n = 0; n < 3; n += 1)
    statuses.push((await usta('POST', path, { body: { email: `new${n}@example.com` } })).status);
  expect(statuses).toEqual([200, 200, 429]);
  expect((await usta('GET', path)).status).toBe(200);
});

test('a Token does not lift what its address may do', async () => {
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  await kit.set('THROTTLING_SETTINGS', { login: { count: 3, duration: 60 } });
  const statuses: number[] = [];
  for (const [n, client] of [ada, bora, ada, bora].entries()) {
    const headers = { authorization: `Token ${client.key}` };
    const body = { email: `guess${n}@example.com`, password: 'wrong' };
    statuses.push((await kit.send('POST', LOGIN, { body, headers })).status);
  }
  expect(statuses).toEqual([400, 400, 400, 429]);
});

test('IPv6 is counted by its /64, IPv4 as itself', async () => {
  expect(
    [
      '203.0.113.7',
      '::ffff:203.0.113.7',
      '::FFFF:cb00:7107',
      '2001:db8:1:2::1',
      '2001:DB8:1:2:3:4:5:6',
      '::1',
      'fe80::1%eth0',
      'x',
    ].map(countedAddress),
  ).toEqual([
    '203.0.113.7',
    '203.0.113.7',
    '203.0.113.7',
    '2001:db8:1:2::/64',
    '2001:db8:1:2::/64',
    '0:0:0:0::/64',
    'fe80:0:0:0::/64',
    'x',
  ]);
  const ask = (remoteAddress: string): Promise<number> =>
    kit.http
      .inject({ method: 'POST', url: LOGIN, remoteAddress, payload: { email: 'x@example.com', password: 'wrong' } })
      .then(({ statusCode }) => statusCode);
  await kit.set('THROTTLING_SETTINGS', { login: { count: 1, duration: 60 } });
  await kit.rows('delete from throttle');
  expect(await ask('2001:db8:1:2::1')).toBe(400);
  await kit.rows(
    `delete from throttle where caller = $1`,
    kit.ctx.keys.hash('throttle', 'email:x@example.com').subarray(0, 16),
  );
  expect(await ask('2001:db8:1:2:ffff::9')).toBe(429);
  await kit.set('SMS_BUDGET', { number_hour: null, account_day: null, address_hour: 1, country_day: null });
  const code = { account: 1, e164: '+905321234567', country: 'TR' };
  await spendCode(kit.ctx, { ...code, ip: '2001:db8:9::1' });
  await expect(spendCode(kit.ctx, { ...code, ip: '2001:db8:9::2' })).rejects.toMatchObject({ code: 'throttled' });
});
