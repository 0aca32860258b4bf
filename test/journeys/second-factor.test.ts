/** The second factor: enrolment, the doors that ask for it, and everything somebody who knows the password could try. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { disown } from '../../src/accounts/invitations.ts';
import { beginSecondFactor, confirmSecondFactor, needsSecondFactor } from '../../src/accounts/second-factor.ts';
import { signedIn } from '../../src/accounts/sessions.ts';
import { changePassword, checkCredentials, checkPassword, signInBy, startSession } from '../../src/accounts/sign-in.ts';
import { resetSecondFactor } from '../../src/operators.ts';
import { transaction } from '../../src/platform/ctx.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';
import { codeOf, codesOn, enrol, secretOn, type Visitor, visitorOf } from '../visitor.ts';

let kit: Kit;
beforeAll(async () => {
  kit = await createKit();
  // The limits of requests would hide those of codes.
  await kit.set('THROTTLING_SETTINGS', { login: null, token: null, register: null });
});
afterAll(() => kit.close());

interface Person extends Client {
  readonly visitor: Visitor;
  readonly secret: string;
  readonly codes: string[];
}

async function person(more?: Record<string, unknown>): Promise<Person> {
  const client = await kit.signUp(more);
  const visitor = visitorOf(kit, client.cookies);
  return { ...client, visitor, ...(await enrol(kit, visitor)) };
}

const login = (email: string, otp?: string, from = kit, password = PASSWORD): Promise<Reply> =>
  from.send('POST', '/users/login/', { body: { email, password, ...(otp === undefined ? {} : { otp }) } });

const NEEDED = { otp: ['Enter the code of your authenticator app too.'] };
const WRONG = { otp: ['That code is not right, or was used already.'] };
const wrongCode = (secret: string): string => {
  const near = new Set([-2, -1, 0, 1, 2, 3].map((steps) => codeOf(kit, secret, steps)));
  return ['000000', '111111', '222222', '333333', '444444', '555555', '666666'].find((code) => !near.has(code))!;
};

const factorOf = (id: number): Promise<object[]> =>
  kit.rows(
    `select a.second_factor, f.confirmed_at is not null as confirmed,
            (select count(*)::int from recovery_code r where r.account = a.id and r.used_at is null) as codes
       from account a left join second_factor f on f.account = a.id where a.id = $1`,
    id,
  );
const mailsTo = async (email: string): Promise<(string | null)[]> => {
  await kit.jobs();
  return (await kit.outbox('mail')).filter(({ recipient }) => recipient === email).map(({ subject }) => subject);
};

// ---- Setting up ----

test('a second factor is on after the password and a first right code, and ends every other sign-in', async () => {
  const client = await kit.signUp();
  const other = await kit.signIn(client.email);
  const visitor = visitorOf(kit, client.cookies);
  await visitor.get('/account/second-factor');
  const begun = await visitor.post('/account/second-factor', { password: PASSWORD });
  expect([begun.status, begun.headers['location']]).toEqual([303, '/account/second-factor/set-up']);
  const page = await visitor.get('/account/second-factor/set-up');
  const secret = secretOn(page);
  expect(secret).toMatch(/^[A-Z2-7]{32}$/);
  expect(page.text).toContain('<svg class="qr" role="img"');
  expect(page.text).toContain(`otpauth://totp/The%20shop:${encodeURIComponent(client.email)}?`);
  expect(await factorOf(client.id)).toEqual([{ second_factor: false, confirmed: false, codes: 0 }]);
  expect((await login(client.email)).status).toBe(200);

  const wrong = await visitor.post('/account/second-factor/set-up', { otp: wrongCode(secret) });
  expect([wrong.status, secretOn(wrong)]).toEqual([400, secret]);
  expect(wrong.text).toContain('That code is not right');
  const done = await visitor.post('/account/second-factor/set-up', { otp: codeOf(kit, secret) });
  const codes = codesOn(done);
  expect([done.status, codes.length, new Set(codes).size]).toEqual([200, 10, 10]);
  expect(codes.filter((code) => !/^(\d{4} ){3}\d{4}$/.test(code))).toEqual([]);
  expect(await factorOf(client.id)).toEqual([{ second_factor: true, confirmed: true, codes: 10 }]);
  expect([
    (await other.send('GET', '/current_user/')).status,
    (await client.send('GET', '/current_user/')).status,
  ]).toEqual([401, 200]);
  expect(await mailsTo(client.email)).toEqual(['A second factor protects your account now']);
  // Once: neither a reload nor a second confirmation shows them again.
  expect((await visitor.get('/account/second-factor/set-up')).status).toBe(303);
  await visitor.get('/account');
  expect((await visitor.post('/account/second-factor/set-up', { otp: codeOf(kit, secret, 1) })).status).toBe(303);
});

test('the secret is encrypted and recovery codes are hashed; neither is in a log or a job', async () => {
  const { id, secret, codes } = await person();
  const [row] = await kit.rows<{ secret: Buffer }>('select secret from second_factor where account = $1', id);
  expect(row!.secret.toString('latin1')).not.toContain(secret);
  const hashes = await kit.rows<{ code_hash: Buffer }>('select code_hash from recovery_code where account = $1', id);
  const plain = codes.map((code) => code.replaceAll(' ', ''));
  expect(hashes.every(({ code_hash }) => code_hash.length === 32 && !plain.includes(code_hash.toString()))).toBe(true);
  const payloads = await kit.rows('select payload from graphile_worker._private_jobs');
  const told = kit.logged.join('\n') + JSON.stringify(payloads);
  expect([secret, ...codes, ...plain].filter((text) => told.includes(text))).toEqual([]);
});

test('nobody enrols without the password, however long they are signed in', async () => {
  const client = await kit.signUp();
  const visitor = visitorOf(kit, client.cookies);
  await visitor.get('/account/second-factor');
  for (const fields of [{}, { password: '' }, { password: 'wrong-horse' }, { password: 'x'.repeat(200) }]) {
    const reply = await visitor.post('/account/second-factor', fields as Record<string, string>);
    expect([reply.status, reply.text.includes('That is not your password.')]).toEqual([400, true]);
  }
  expect((await visitor.get('/account/second-factor/set-up')).headers['location']).toBe('/account/second-factor');
  expect((await visitor.post('/account/second-factor/set-up', { otp: '123456' })).status).toBe(303);
  expect(await kit.rows('select from second_factor where account = $1', client.id)).toEqual([]);
});

test('an address that is not proven gets none, until a mailed link proves it: its owner would be kept out', async () => {
  const client = await kit.signUp({ unproven: true });
  const visitor = visitorOf(kit, client.cookies);
  const page = await visitor.get('/account/second-factor');
  expect(page.text).toContain('<a class="button" href="/account/forgotten?next=%2Faccount%2Fsecond-factor">Go on</a>');
  await visitor.get('/account');
  const begun = await visitor.post('/account/second-factor', { password: PASSWORD });
  expect((await visitor.get(String(begun.headers['location']))).headers['location']).toBe('/account/second-factor');
  expect(await kit.rows('select from second_factor where account = $1', client.id)).toEqual([]);
  await visitor.get('/account/forgotten');
  await visitor.post('/account/forgotten', { email: client.email });
  await kit.jobs();
  const mail = (await kit.outbox('mail')).findLast(({ recipient }) => recipient === client.email)!;
  const path = /\/links\/[0-9a-f]{64}/.exec(mail.body)![0];
  await kit.send('POST', path, { form: `new_password1=${PASSWORD}&new_password2=${PASSWORD}` });
  const { cookies } = await kit.signIn(client.email);
  expect((await enrol(kit, visitorOf(kit, cookies))).codes).toHaveLength(10);
});

test('another session of the account sees and confirms nothing of a set-up; after fifteen minutes nobody does', async () => {
  const client = await kit.signUp();
  const thief = visitorOf(kit, (await kit.signIn(client.email)).cookies);
  const visitor = visitorOf(kit, client.cookies);
  await visitor.get('/account/second-factor');
  await visitor.post('/account/second-factor', { password: PASSWORD });
  const secret = secretOn(await visitor.get('/account/second-factor/set-up'));
  expect((await thief.get('/account/second-factor/set-up')).status).toBe(303);
  await thief.get('/account');
  expect((await thief.post('/account/second-factor/set-up', { otp: codeOf(kit, secret) })).status).toBe(303);
  kit.advance(15 * 60_000);
  expect((await visitor.post('/account/second-factor/set-up', { otp: codeOf(kit, secret) })).status).toBe(303);
  expect(await factorOf(client.id)).toEqual([{ second_factor: false, confirmed: false, codes: 0 }]);
});

test('an account without a password needs a sign-in younger than ten minutes', async () => {
  const client = await kit.signUp();
  await kit.rows('update account set password = null where id = $1', client.id);
  const visitor = visitorOf(kit, client.cookies);
  kit.advance(9 * 60_000);
  await visitor.get('/account/second-factor');
  expect((await visitor.post('/account/second-factor')).headers['location']).toBe('/account/second-factor/set-up');
  kit.advance(60_000);
  const page = await visitor.get('/account/second-factor');
  expect(page.text).toContain('href="/account/sign-in?next=%2Faccount%2Fsecond-factor"');
  await visitor.get('/account');
  const late = await visitor.post('/account/second-factor');
  expect([late.status, late.text.includes('sign in again first')]).toEqual([400, true]);
});

test('a session that has ended meanwhile confirms nothing', async () => {
  const client = await kit.signUp();
  const visitor = visitorOf(kit, client.cookies);
  await visitor.get('/account/second-factor');
  await visitor.post('/account/second-factor', { password: PASSWORD });
  const secret = secretOn(await visitor.get('/account/second-factor/set-up'));
  const by = (await signedIn(kit.ctx, { key: client.cookies.get('sessionid')!, kinds: ['cookie'] }))!;
  await kit.rows('delete from session where account = $1', client.id);
  expect(await confirmSecondFactor(kit.ctx, by, codeOf(kit, secret))).toBe(undefined);
  expect(await factorOf(client.id)).toEqual([{ second_factor: false, confirmed: false, codes: 0 }]);
});

// ---- The doors ----

test('no door opens without the code: login, tokens, pages', async () => {
  const { email, secret, id } = await person();
  const none = await login(email);
  expect([none.status, none.body]).toEqual([400, NEEDED]);
  for (const otp of ['', '   ', null]) expect((await login(email, otp as string)).body).toEqual(NEEDED);
  for (const otp of [wrongCode(secret), 'abcdef', '12345', '1234567', '１２３４５６'])
    expect([otp, (await login(email, otp)).body]).toEqual([otp, WRONG]);
  await expect(kit.bearer(email).then((send) => send('GET', '/user'))).resolves.toMatchObject({ status: 401 });
  const asked = { grant_type: 'password', client_id: 'kit', username: email, password: PASSWORD };
  const token = await kit.send('POST', '/api/token', { body: asked });
  expect([token.status, token.body.access_token]).toEqual([400, undefined]);

  const visitor = visitorOf(kit);
  await visitor.get('/account/sign-in');
  const step = await visitor.post('/account/sign-in', { email, password: PASSWORD });
  expect([step.status, step.text.includes('name="otp"'), visitor.cookies.has('sessionid')]).toEqual([200, true, false]);
  await expect(checkCredentials(kit.ctx, email, PASSWORD)).rejects.toMatchObject({ code: 'second_factor_needed' });
  await expect(
    signInBy(kit.ctx, await checkPassword(kit.ctx, email, PASSWORD), async () => 'in'),
  ).rejects.toMatchObject({ code: 'second_factor_needed' });

  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
  kit.advance(600_000);
  const wrong = await visitor.post('/account/sign-in', { email, password: PASSWORD });
  expect(wrong.status).toBe(200);
  const done = await visitor.post('/account/sign-in/code', {
    step: visitor.hidden('step'),
    otp: codeOf(kit, secret).replace(/(...)/, '$1 '),
  });
  expect([done.status, done.headers['location'], visitor.cookies.has('sessionid')]).toEqual([303, '/account', true]);
  expect(await factorOf(id)).toEqual([{ second_factor: true, confirmed: true, codes: 10 }]);
});

test('only a right password hears of the code, and a wrong one spends none', async () => {
  const { email, secret } = await person();
  const reply = await login(email, codeOf(kit, secret), kit, 'wrong-horse-battery');
  expect([reply.status, reply.body]).toEqual([
    400,
    { non_field_errors: ['Unable to log in with provided credentials.'] },
  ]);
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
});

test('one who proved their password before it was switched on is not let in after', async () => {
  const client = await kit.signUp();
  const proof = await checkPassword(kit.ctx, client.email, PASSWORD);
  await enrol(kit, visitorOf(kit, client.cookies));
  await expect(signInBy(kit.ctx, proof, (tx) => startSession(tx, proof.id, undefined))).rejects.toMatchObject({
    code: 'second_factor_needed',
  });
});

// ---- Once ----

test('a sign-in that has ended meanwhile sets no password, and none lives on in a set-up or a new password', async () => {
  const client = await kit.signUp();
  const [session] = await kit.rows<{ family: string }>('select family from session where account = $1', client.id);
  const change = { old: PASSWORD, next: 'another-horse-battery', field: 'new_password2', family: session!.family };
  // Somebody else ends it between the first look at its key and the new password.
  await client.send('POST', '/users/logout/');
  await expect(changePassword(kit.ctx, client.id, change)).rejects.toMatchObject({ code: 'not_authenticated' });
  expect((await login(client.email)).status).toBe(200);
  const { family } = (
    await kit.rows<{ family: string }>('select family from session where account = $1', client.id)
  )[0]!;
  const hash = await changePassword(kit.ctx, client.id, { ...change, family });
  // And the new password is replaced before its session is made.
  await changePassword(kit.ctx, client.id, { next: PASSWORD, field: 'new_password2' });
  const proof = { id: client.id, hash, secondFactor: true };
  await expect(signInBy(kit.ctx, proof, (tx) => startSession(tx, client.id, undefined))).rejects.toMatchObject({
    code: 'invalid_credentials',
  });
  expect(await kit.rows('select from session where account = $1', client.id)).toEqual([]);
});

test('a code is taken once, whichever door and process it comes through next, and so is every older one', async () => {
  const { email, secret } = await person();
  const twin = await kit.twin();
  const [older, code] = [codeOf(kit, secret, -1), codeOf(kit, secret)];
  expect((await login(email, code)).status).toBe(200);
  expect([(await login(email, code)).body, (await login(email, code, twin)).body]).toEqual([WRONG, WRONG]);
  expect((await login(email, older)).body).toEqual(WRONG);
  const visitor = visitorOf(kit);
  await visitor.get('/account/sign-in');
  await visitor.post('/account/sign-in', { email, password: PASSWORD });
  expect((await visitor.post('/account/sign-in/code', { step: visitor.hidden('step'), otp: code })).status).toBe(400);
  kit.advance(30_000);
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
});

test('of many that send one code at once, to two processes, one gets in', async () => {
  const twin = await kit.twin();
  for (const kind of ['app', 'recovery'] as const) {
    const { email, secret, codes } = await person();
    const otp = kind === 'app' ? codeOf(kit, secret) : codes[0]!;
    const replies = await Promise.all(
      Array.from({ length: 10 }, (_, index) => login(email, otp, index % 2 === 0 ? kit : twin)),
    );
    expect([kind, replies.filter(({ status }) => status === 200).length]).toEqual([kind, 1]);
    const others = replies.filter(({ status }) => status !== 200);
    expect(others.every(({ status, body }) => status === 400 && body.otp !== undefined)).toBe(true);
  }
});

test('a code that is a minute off is not taken, half a minute is', async () => {
  const { email, secret } = await person();
  expect((await login(email, codeOf(kit, secret, 3))).body).toEqual(WRONG);
  expect((await login(email, codeOf(kit, secret, -3))).body).toEqual(WRONG);
  expect((await login(email, codeOf(kit, secret, 1))).status).toBe(200);
});

// ---- Recovery codes ----

test('a recovery code opens once, in whatever groups, for its own account, and its owner is told', async () => {
  const one = await person();
  const two = await person();
  expect((await login(two.email, one.codes[0])).body).toEqual(WRONG);
  expect((await login(one.email, one.codes[0]!.replaceAll(' ', '-'))).status).toBe(200);
  expect((await login(one.email, one.codes[0])).body).toEqual(WRONG);
  expect(await mailsTo(one.email)).toEqual([
    'A second factor protects your account now',
    'A recovery code of your account was used',
  ]);
  expect(await factorOf(one.id)).toEqual([{ second_factor: true, confirmed: true, codes: 9 }]);
});

test('a new set takes a password and a code, and ends the old set', async () => {
  const { email, id, secret, codes, visitor } = await person();
  const path = '/account/second-factor/recovery-codes';
  await visitor.get(path);
  expect((await visitor.post(path, { password: PASSWORD })).status).toBe(400);
  expect((await visitor.post(path, { password: 'wrong', otp: codeOf(kit, secret) })).status).toBe(400);
  const made = await visitor.post(path, { password: PASSWORD, otp: codeOf(kit, secret) });
  const fresh = codesOn(made);
  expect([made.status, fresh.length, fresh.filter((code) => codes.includes(code))]).toEqual([200, 10, []]);
  expect((await login(email, codes[3])).body).toEqual(WRONG);
  expect((await login(email, fresh[3])).status).toBe(200);
  expect(await factorOf(id)).toEqual([{ second_factor: true, confirmed: true, codes: 9 }]);
});

// ---- Guessing ----

test('ten wrong codes in ten minutes, then not even the right one, and nobody else notices', async () => {
  const { email, secret } = await person();
  const other = await person();
  for (let n = 0; n < 9; n += 1) expect((await login(email, wrongCode(secret))).status).toBe(400);
  // A right one of the owner opens no room.
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
  expect((await login(email, wrongCode(secret))).status).toBe(400);
  kit.advance(30_000);
  const full = await login(email, codeOf(kit, secret));
  expect([full.status, Number(full.headers['retry-after']) > 400]).toEqual([429, true]);
  const visitor = visitorOf(kit);
  await visitor.get('/account/sign-in');
  await visitor.post('/account/sign-in', { email, password: PASSWORD });
  const page = await visitor.post('/account/sign-in/code', { step: visitor.hidden('step'), otp: codeOf(kit, secret) });
  expect([page.status, page.text.includes('role="alert"')]).toEqual([429, true]);
  expect((await login(other.email, codeOf(kit, other.secret))).status).toBe(200);
  kit.advance(600_000);
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
});

test('forty wrong codes at once, to two processes, are ten', async () => {
  const { email, secret } = await person();
  const twin = await kit.twin();
  const wrong = wrongCode(secret);
  const replies = await Promise.all(
    Array.from({ length: 40 }, (_, index) => login(email, wrong, index % 2 === 0 ? kit : twin)),
  );
  const statuses = Map.groupBy(replies, ({ status }) => status);
  expect([...statuses].map(([status, all]) => [status, all.length]).sort()).toEqual([
    [400, 10],
    [429, 30],
  ]);
  expect((await login(email, codeOf(kit, secret))).status).toBe(429);
});

test('fifty wrong codes in a day, at whatever pace, then none of the app; a recovery code still opens', async () => {
  const { email, id, secret, codes } = await person();
  const statuses: number[] = [];
  const tries = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n += 1) statuses.push((await login(email, wrongCode(secret))).status);
    kit.advance(601_000);
  };
  for (let round = 0; round < 5; round += 1) await tries(9);
  // A right one is none of them.
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
  await tries(5);
  expect(new Set(statuses)).toEqual(new Set([400]));
  const full = await login(email, codeOf(kit, secret));
  expect([full.status, Number(full.headers['retry-after']) > 70_000]).toEqual([429, true]);
  // However many are refused, they take no room from recovery codes; those are held to the short limit.
  for (let n = 0; n < 30; n += 1) statuses.push((await login(email, wrongCode(secret))).status);
  expect(statuses.slice(50)).toEqual(Array.from({ length: 30 }, () => 429));
  for (let n = 0; n < 10; n += 1) expect((await login(email, '1234 5678 1234 5678')).status).toBe(400);
  expect((await login(email, codes[0]!)).status).toBe(429);
  kit.advance(601_000);
  expect((await login(email, codes[0]!)).status).toBe(200);
  kit.advance(86_400_000);
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
  expect(await kit.rows('select second_factor from account where id = $1', id)).toEqual([{ second_factor: true }]);
});

test('the owner is told once a day that somebody guesses, when ten were wrong or the day is full', async () => {
  const { email, secret } = await person();
  const GUESSED = 'Somebody is guessing the codes of your account';
  const told = async (): Promise<number> => (await mailsTo(email)).filter((subject) => subject === GUESSED).length;
  const wrong = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n += 1) await login(email, wrongCode(secret));
  };
  await wrong(9);
  expect(await told()).toBe(0);
  await wrong(1);
  expect(await told()).toBe(1);
  const mail = (await kit.outbox('mail')).findLast(({ recipient }) => recipient === email)!;
  expect(mail.body).toContain('/account/forgotten\n');
  await wrong(5);
  kit.advance(601_000);
  await wrong(10);
  expect(await told()).toBe(1);
  kit.advance(86_400_000);
  // Slowly, so that only the day is full.
  for (let round = 0; round < 10; round += 1) {
    await wrong(5);
    if (round < 9) expect(await told()).toBe(1);
    kit.advance(601_000);
  }
  expect(await told()).toBe(2);
  // Without the password nobody gets so far.
  kit.advance(2 * 86_400_000);
  for (let n = 0; n < 12; n += 1) await login(email, wrongCode(secret), kit, 'wrong-horse-battery');
  expect(await told()).toBe(2);
});

test('wrong codes of a set-up are nobody who guesses', async () => {
  const client = await kit.signUp();
  const visitor = visitorOf(kit, client.cookies);
  await visitor.get('/account/second-factor');
  await visitor.post('/account/second-factor', { password: PASSWORD });
  await visitor.get('/account/second-factor/set-up');
  const statuses = [];
  for (let n = 0; n < 11; n += 1)
    statuses.push((await visitor.post('/account/second-factor/set-up', { otp: 'none' })).status);
  expect(statuses).toEqual([...Array.from({ length: 10 }, () => 400), 429]);
  expect(await mailsTo(client.email)).toEqual([]);
});

// ---- What leaves it, and what takes it away ----

test('neither a new password nor a reset takes it away, and a reset link signs nobody in', async () => {
  const { email, id, secret, send } = await person();
  const next = 'another-horse-battery';
  const changed = await send('POST', '/users/password/change/', {
    body: { old_password: PASSWORD, new_password1: next, new_password2: next },
  });
  expect(changed.status).toBe(200);
  expect((await login(email, undefined, kit, next)).body).toEqual(NEEDED);
  await kit.send('POST', '/users/password/reset/', { body: { email } });
  await kit.jobs();
  const mail = (await kit.outbox('mail')).findLast(({ recipient }) => recipient === email)!;
  const path = /\/links\/[0-9a-f]{64}/.exec(mail.body)![0];
  const reset = await kit.send('POST', path, { form: `new_password1=${PASSWORD}&new_password2=${PASSWORD}` });
  // Known is not signed in.
  expect([reset.status, [reset.headers['set-cookie']].flat()]).toEqual([
    200,
    [expect.stringMatching(/^known_device=[\w-]{72}; /)],
  ]);
  expect((await login(email)).body).toEqual(NEEDED);
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
  expect(await factorOf(id)).toEqual([{ second_factor: true, confirmed: true, codes: 10 }]);
});

test('switching off takes the password and a code', async () => {
  const { email, id, secret, visitor } = await person();
  const path = '/account/second-factor/off';
  await visitor.get(path);
  expect((await visitor.post(path, { password: PASSWORD })).status).toBe(400);
  expect((await visitor.post(path, { otp: codeOf(kit, secret) })).status).toBe(400);
  expect((await visitor.post(path, { password: PASSWORD, otp: wrongCode(secret) })).status).toBe(400);
  expect(await factorOf(id)).toEqual([{ second_factor: true, confirmed: true, codes: 10 }]);
  const off = await visitor.post(path, { password: PASSWORD, otp: codeOf(kit, secret) });
  expect([off.status, off.headers['location']]).toEqual([303, '/account?done=off']);
  expect(await factorOf(id)).toEqual([{ second_factor: false, confirmed: false, codes: 0 }]);
  expect((await mailsTo(email)).at(-1)).toBe('The second factor of your account is off');
  expect((await login(email)).status).toBe(200);
});

test('an operator at the machine takes it away, with the sign-ins of whoever has the phone', async () => {
  const { email, id, send } = await person();
  expect(await resetSecondFactor(kit.ctx, email.toUpperCase())).toBe(email);
  expect(await factorOf(id)).toEqual([{ second_factor: false, confirmed: false, codes: 0 }]);
  expect((await send('GET', '/current_user/')).status).toBe(401);
  expect((await mailsTo(email)).at(-1)).toBe('The second factor of your account is off');
  await expect(resetSecondFactor(kit.ctx, email)).rejects.toThrow(`${email} has no second factor.`);
  await expect(resetSecondFactor(kit.ctx, 'nobody@example.com')).rejects.toThrow('nobody@example.com has no account.');
});

test('whoever registered the address of another keeps them out by no second factor', async () => {
  const { id, email } = await person();
  await kit.rows('update account set email_verified_at = null where id = $1', id);
  await kit.jobs();
  const before = (await kit.outbox('mail')).length;
  await transaction(kit.ctx, (tx) => disown(tx, id, null));
  expect(await factorOf(id)).toEqual([{ second_factor: false, confirmed: false, codes: 0 }]);
  await kit.jobs();
  expect([email, (await kit.outbox('mail')).length]).toEqual([email, before]);
});

test('a set-up does not touch a second factor that is on', async () => {
  const { id, email, secret } = await person();
  expect(await beginSecondFactor(kit.ctx, id, '00000000-0000-4000-8000-000000000000')).toBe(false);
  expect((await login(email, codeOf(kit, secret))).status).toBe(200);
});

// ---- Who must have one ----

test('operators without one are refused once the setting asks for it; keys and those who have one are not', async () => {
  const operator = await kit.operator();
  const key = await kit.apiKey('settings');
  expect((await operator.send('GET', '/v1/settings')).status).toBe(200);
  await kit.set('SECOND_FACTOR_REQUIRED', ['operators']);
  const refused = await operator.send('GET', '/v1/settings');
  expect([refused.status, refused.body.code]).toEqual([403, 'second_factor_required']);
  expect((await key('GET', '/v1/settings')).status).toBe(200);
  expect(needsSecondFactor(kit.ctx, 'owners', { second_factor: false })).toBe(false);
  await enrol(kit, visitorOf(kit, operator.cookies));
  expect((await operator.send('GET', '/v1/settings')).status).toBe(200);
  await kit.set('SECOND_FACTOR_REQUIRED', ['owners']);
  expect(needsSecondFactor(kit.ctx, 'owners', { second_factor: false })).toBe(true);
  expect(needsSecondFactor(kit.ctx, 'owners', { second_factor: true })).toBe(false);
  await kit.set('SECOND_FACTOR_REQUIRED', []);
});
