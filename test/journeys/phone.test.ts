/** The way to a new phone number: 202, a code, the same body again. */
import { createHash } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Client, createKit, type Kit, type Reply } from '../kit.ts';

const LOYALTY = '/users/profile-with-loyalty/';
const PROFILE = '/users/profile/';
const GONE = { code: ['This code has expired or was used up. Ask for a new one.'] };
const WRONG = { code: ['This code is not right.'] };
const NO_BUDGET = { number_hour: null, account_day: null, address_hour: null, country_day: null };

let kit: Kit;
let twin: Kit;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, otp: null });
  twin = await kit.twin();
});
beforeEach(async () => {
  await kit.set('SMS_BUDGET', NO_BUDGET);
  await kit.set('OTP_RESEND_SECONDS', 30);
  await kit.set('SMS_OTP_EXPIRE_TIME', 180);
  await kit.set('SMS_COUNTRIES', null);
  await kit.set('USER_PHONE_REGEX', null);
  await kit.set('PHONE_CHANGE_REQUIRES_CODE', false);
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', false);
  await twin.ctx.settings.refresh(twin.ctx.db);
});
afterAll(() => kit.close());

/** A number nobody has used in this file. */
function newNumber(): { text: string; e164: string } {
  numbers += 1;
  const rest = String(1_000_000 + numbers);
  return { text: `0532${rest}`, e164: `+90532${rest}` };
}

const messagesTo = async (e164: string): Promise<string[]> =>
  (await kit.outbox('sms')).filter(({ recipient }) => recipient === e164).map(({ body }) => body);

/** The code of the newest message to a number, after the jobs that wait. */
async function codeFor(e164: string): Promise<string> {
  await kit.jobs();
  return /\b\d{6}\b/.exec((await messagesTo(e164)).at(-1)!)![0];
}

const otherThan = (code: string): string => (code === '000000' ? '000001' : '000000');

/** Everything an account's requests can change. */
const stored = async (id: number): Promise<unknown> => ({
  account: await kit.rows('select * from account where id = $1', id),
  events: await kit.rows('select * from consent_event where account = $1 order by id', id),
});

const pending = (id: number): Promise<{ phone_e164: string; submissions: number }[]> =>
  kit.rows('select phone_e164, submissions from phone_change where account = $1', id);

/** Sends as a client, to the second process. */
function throughTwin(client: Client): Client['send'] {
  const cookie = [...client.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const headers = { cookie, 'x-csrftoken': client.cookies.get('csrftoken')! };
  return (method, path, sent = {}) => twin.send(method, path, { ...sent, headers: { ...headers, ...sent.headers } });
}

const nothingYet = (reply: Reply): void => {
  expect([reply.status, reply.text, reply.headers['content-type'], reply.headers['content-length']]).toEqual([
    202,
    '',
    undefined,
    '0',
  ]);
};

test.each(['PATCH', 'PUT'])(
  '%s with a new number saves nothing until it comes again with its code, then everything',
  async (method) => {
    const ada = await kit.signUp();
    const { text, e164 } = newNumber();
    const body = {
      first_name: 'Grace',
      last_name: 'Hopper',
      phone: text,
      sms_allowed: true,
      email_allowed: true,
      attributes: { size: 'm' },
    };
    const before = await stored(ada.id);
    const read = (await ada.send('GET', LOYALTY)).body;
    expect(read).toMatchObject({ phone: null, code: null, resend: false });

    nothingYet(await ada.send(method, LOYALTY, { body }));
    expect(await stored(ada.id)).toEqual(before);
    expect((await ada.send('GET', LOYALTY)).body).toEqual(read);
    expect(await messagesTo(e164)).toEqual([]);

    const code = await codeFor(e164);
    expect(await messagesTo(e164)).toEqual([`Your code is ${code}. Do not give it to anybody.`]);
    const done = await ada.send(method, LOYALTY, { body: { ...body, code } });
    expect([done.status, done.body]).toEqual([200, { ...read, ...body, code: null, resend: false }]);
    expect(Object.keys(done.body)).toEqual(Object.keys(read));
    const [row] = await kit.rows<Record<string, unknown>>(
      `select a.phone, a.phone_e164, a.phone_verified_at is not null as account_verified, p.verified_at is not null as point_verified, p.value
       from account a join contact_point p on p.id = a.phone_point where a.id = $1`,
      ada.id,
    );
    expect(row).toEqual({ phone: text, phone_e164: e164, account_verified: true, point_verified: true, value: e164 });
    expect(
      await kit.rows('select kind, channel, source from consent_event where account = $1 order by channel', ada.id),
    ).toEqual([
      { kind: 'grant', channel: 'email', source: 'account' },
      { kind: 'grant', channel: 'sms', source: 'account' },
    ]);
    expect(await pending(ada.id)).toEqual([]);
  },
);

test('the same body once more after it was saved changes nothing and is fine', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const body = { phone: text, code: await codeFor(e164) };
  const first = await ada.send('PATCH', LOYALTY, { body });
  const before = await stored(ada.id);
  const second = await ada.send('PATCH', LOYALTY, { body });
  expect([first.status, second.status]).toEqual([200, 200]);
  expect(second.body).toEqual(first.body);
  expect(await stored(ada.id)).toEqual(before);
  expect(await messagesTo(e164)).toHaveLength(1);
});

test('a wrong code is named, in the language of the request, and saves nothing', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text, first_name: 'Grace' } });
  const code = await codeFor(e164);
  const before = await stored(ada.id);
  for (const wrong of [otherThan(code), `${code}0`, code.slice(1), 'abcdef']) {
    const reply = await ada.send('PATCH', LOYALTY, { body: { phone: text, first_name: 'Grace', code: wrong } });
    expect([reply.status, reply.body]).toEqual([400, WRONG]);
  }
  expect(await stored(ada.id)).toEqual(before);
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 4 }]);
  const turkish = await ada.send('PATCH', LOYALTY, {
    body: { phone: text, code: otherThan(code) },
    headers: { 'accept-language': 'tr' },
  });
  expect(turkish.status).toBe(400);
  expect(Object.keys(turkish.body)).toEqual(['code']);
  expect(turkish.body).not.toEqual(WRONG);
});

test('after five tries the right code is refused too, and a new one starts afresh', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  for (let i = 0; i < 5; i += 1) {
    expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: otherThan(code) } })).body).toEqual(WRONG);
  }
  const before = await stored(ada.id);
  const right = await ada.send('PATCH', LOYALTY, { body: { phone: text, code } });
  expect([right.status, right.body]).toEqual([400, GONE]);
  expect(await stored(ada.id)).toEqual(before);

  kit.advance(30_000);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  const saved = await ada.send('PATCH', LOYALTY, { body: { phone: text, code: await codeFor(e164) } });
  expect([saved.status, saved.body.phone]).toEqual([200, text]);
});

test('a code that is used up is not promised again before the next one may be sent', async () => {
  await kit.set('SMS_OTP_EXPIRE_TIME', 10);
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  kit.advance(12_000);
  const dead = await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  expect([dead.status, Number(dead.headers['retry-after']) <= 18]).toEqual([429, true]);
  await kit.jobs();
  expect(await messagesTo(e164)).toEqual([]);
});

test('forty wrong codes at once, through two processes, count as five', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  const before = await stored(ada.id);
  const again = throughTwin(ada);
  const replies = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      (i % 2 === 0 ? ada.send : again)('PATCH', LOYALTY, { body: { phone: text, code: otherThan(code) } }),
    ),
  );
  expect(replies.every(({ status }) => status === 400)).toBe(true);
  const texts = replies.map(({ body }) => JSON.stringify(body));
  expect(texts.filter((body) => body === JSON.stringify(WRONG))).toHaveLength(5);
  expect(texts.filter((body) => body === JSON.stringify(GONE))).toHaveLength(35);
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 5 }]);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code } })).body).toEqual(GONE);
  expect(await stored(ada.id)).toEqual(before);
});

test('a hundred redemptions of the right code at once save it once', async () => {
  const old = newNumber();
  const ada = await kit.signUp({ phone: old.text, sms_allowed: true, call_allowed: false });
  const { text, e164 } = newNumber();
  const body = { phone: text, first_name: 'Grace', sms_allowed: true, whatsapp_allowed: true };
  await ada.send('PATCH', LOYALTY, { body });
  const code = await codeFor(e164);
  const [{ version }] = (await kit.rows<{ version: number }>('select version from account where id = $1', ada.id)) as [
    { version: number },
  ];
  const again = throughTwin(ada);
  const replies = await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      (i % 2 === 0 ? ada.send : again)('PATCH', LOYALTY, { body: { ...body, code } }),
    ),
  );
  expect(replies.filter(({ status }) => status === 200).length).toBeGreaterThan(0);
  for (const reply of replies) {
    if (reply.status === 200) expect(reply.body).toMatchObject({ ...body, call_allowed: null });
    else expect([reply.status, reply.body]).toEqual([400, GONE]);
  }
  expect(await kit.rows('select version, phone_e164 from account where id = $1', ada.id)).toEqual([
    { version: version + 1, phone_e164: e164 },
  ]);
  expect(
    await kit.rows(
      `select p.value, e.channel, e.kind, e.source from consent_event e join contact_point p on p.id = e.contact_point
        where e.account = $1 order by p.value, e.channel, e.id`,
      ada.id,
    ),
  ).toEqual([
    { value: old.e164, channel: 'call', kind: 'refuse', source: 'registration' },
    { value: old.e164, channel: 'sms', kind: 'grant', source: 'registration' },
    { value: old.e164, channel: 'sms', kind: 'expire', source: 'account' },
    { value: e164, channel: 'sms', kind: 'grant', source: 'account' },
    { value: e164, channel: 'whatsapp', kind: 'grant', source: 'account' },
  ]);
  expect(await pending(ada.id)).toEqual([]);
});

test('a code is good for SMS_OTP_EXPIRE_TIME seconds, or for good when that is 0', async () => {
  const ada = await kit.signUp();
  const first = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: first.text } });
  const late = await codeFor(first.e164);
  kit.advance(180_000);
  const expired = await ada.send('PATCH', LOYALTY, { body: { phone: first.text, code: late } });
  expect([expired.status, expired.body]).toEqual([400, GONE]);
  expect((await ada.send('GET', PROFILE)).body.phone).toBe(null);

  await ada.send('PATCH', LOYALTY, { body: { phone: first.text } });
  const inTime = await codeFor(first.e164);
  kit.advance(170_000);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: first.text, code: inTime } })).status).toBe(200);

  await kit.set('SMS_OTP_EXPIRE_TIME', 0);
  const second = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: second.text } });
  const patient = await codeFor(second.e164);
  kit.advance(10 * 86_400_000);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: second.text, code: patient } })).status).toBe(200);
});

test('resend sends another code after thirty seconds, and the one before ends', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  const first = await codeFor(e164);
  const early = await ada.send('PATCH', LOYALTY, { body: { phone: text, resend: true } });
  expect(early.status).toBe(429);
  const wait = Number(early.headers['retry-after']);
  expect(wait > 0 && wait <= 30).toBe(true);
  expect(early.body).toEqual({
    detail: `Request was throttled. Expected available in ${wait} second${wait === 1 ? '' : 's'}.`,
  });
  // Without `resend` a repeated request finds the code that is under way.
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  await kit.jobs();
  expect(await messagesTo(e164)).toHaveLength(1);

  kit.advance(wait * 1000);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { resend: true } }));
  const second = await codeFor(e164);
  expect(await messagesTo(e164)).toHaveLength(2);
  expect(second).not.toBe(first);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: first } })).body).toEqual(WRONG);
  // The code alone speaks of the number that is under way.
  const saved = await ada.send('PATCH', LOYALTY, { body: { code: second } });
  expect([saved.status, saved.body.phone]).toEqual([200, text]);
});

test('a body that names the present number is an ordinary update, whatever else is under way', async () => {
  const present = newNumber();
  const ada = await kit.signUp({ phone: present.text });
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  const reply = await ada.send('PATCH', LOYALTY, { body: { phone: present.text, first_name: 'Grace', code } });
  expect([reply.status, reply.body.phone, reply.body.first_name]).toEqual([200, present.text, 'Grace']);
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 0 }]);
});

test('other edits leave a pending number alone, on either path', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  expect((await ada.send('PATCH', PROFILE, { body: { first_name: 'Grace' } })).status).toBe(200);
  expect((await ada.send('PUT', LOYALTY, { body: { first_name: 'Grace', last_name: 'Hopper' } })).status).toBe(200);
  const read = (await ada.send('GET', LOYALTY)).body;
  expect((await ada.send('PUT', LOYALTY, { body: read })).body).toEqual(read);
  const saved = await ada.send('PATCH', LOYALTY, { body: { phone: text, code } });
  expect([saved.status, saved.body]).toEqual([200, { ...read, phone: text }]);
});

test('a change that is refused for another reason leaves the code good', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  const before = await stored(ada.id);
  const stale = await ada.send('PATCH', LOYALTY, { body: { phone: text, code }, headers: { 'if-match': '"0"' } });
  expect(stale.status).toBe(412);
  const invalid = await ada.send('PATCH', LOYALTY, { body: { phone: text, code, gender: 'other' } });
  expect([invalid.status, invalid.body]).toEqual([400, { gender: ['"other" is not a valid choice.'] }]);
  expect(await stored(ada.id)).toEqual(before);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code } })).status).toBe(200);
});

test('a second number replaces the first, whose code then proves nothing', async () => {
  const ada = await kit.signUp();
  const [one, two] = [newNumber(), newNumber()];
  await ada.send('PATCH', LOYALTY, { body: { phone: one.text } });
  const first = await codeFor(one.e164);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: two.text } }));
  const second = await codeFor(two.e164);
  expect(await pending(ada.id)).toEqual([{ phone_e164: two.e164, submissions: 0 }]);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: one.text, code: first } })).body).toEqual(GONE);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: two.text, code: first } })).body).toEqual(WRONG);
  const saved = await ada.send('PATCH', LOYALTY, { body: { phone: two.text, code: second } });
  expect([saved.status, saved.body.phone]).toEqual([200, two.text]);
});

test('a pending number reserves nothing, and that a number is taken is told only to whoever holds it', async () => {
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const { text, e164 } = newNumber();
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  const code = await codeFor(e164);
  expect((await bora.send('PATCH', PROFILE, { body: { phone: text } })).status).toBe(200);

  const before = await stored(ada.id);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: otherThan(code) } })).body).toEqual(WRONG);
  const proven = await ada.send('PATCH', LOYALTY, { body: { phone: text, code } });
  expect([proven.status, proven.body]).toEqual([400, { phone: ['This field must be unique.'] }]);
  expect(await stored(ada.id)).toEqual(before);
  // Asking for a taken number looks like asking for any other.
  const cem = await kit.signUp();
  nothingYet(await cem.send('PATCH', LOYALTY, { body: { phone: text } }));
});

test('a code belongs to its account and its number', async () => {
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const hers = await codeFor(e164);
  await bora.send('PATCH', LOYALTY, { body: { phone: text } });
  const his = await codeFor(e164);
  expect(his).not.toBe(hers);
  expect((await bora.send('PATCH', LOYALTY, { body: { phone: text, code: hers } })).body).toEqual(WRONG);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text, code: hers } })).body).toEqual(GONE);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: his } })).body).toEqual(WRONG);
  const stranger = await kit.signUp();
  expect((await stranger.send('PATCH', LOYALTY, { body: { phone: text, code: hers } })).body).toEqual(GONE);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: hers } })).status).toBe(200);
});

/** All rows of all tables, as text, but those of the provider that stands in for a phone. */
async function everything(): Promise<{ table: string; text: string }[]> {
  const tables = await kit.rows<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables
      where schemaname in ('public', 'graphile_worker') and tablename <> 'console_message'`,
  );
  const all = await Promise.all(
    tables.map(async ({ name }) =>
      (await kit.rows<{ text: string }>(`select row_to_json(t)::text as text from ${name} t`)).map(({ text }) => ({
        table: name,
        text,
      })),
    ),
  );
  return all.flat();
}

test('no code, and no plain hash of one, is in a log line, a job or a table', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const waiting = await everything();
  expect(waiting.filter(({ table }) => table === 'graphile_worker._private_jobs')).toHaveLength(1);
  const code = await codeFor(e164);
  const sent = await everything();
  await ada.send('PATCH', LOYALTY, { body: { phone: text, code: otherThan(code) } });
  await ada.send('PATCH', LOYALTY, { body: { phone: text, code } });
  const saved = await everything();
  // Digits and hex around it: a timestamp or a hash may hold any six digits by chance.
  const hashes = ['sha256', 'sha1', 'md5'].map((name) => createHash(name).update(code).digest('hex'));
  const leak = new RegExp(`(?<![0-9a-f.])${code}(?![0-9a-f])|${hashes.join('|')}`);
  const lines = [...waiting, ...sent, ...saved].map((row) => row.text).concat(kit.logged, twin.logged);
  expect(lines.length).toBeGreaterThan(10);
  expect(lines.filter((line) => leak.test(line))).toEqual([]);
  expect(lines.filter((line) => /"send_code"/.test(line)).length).toBeGreaterThan(0);
});

test('a number gets so many codes an hour, whoever asks', async () => {
  await kit.set('OTP_RESEND_SECONDS', 0);
  await kit.set('SMS_BUDGET', { ...NO_BUDGET, number_hour: 2 });
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const { text, e164 } = newNumber();
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  nothingYet(await bora.send('PATCH', LOYALTY, { body: { phone: text } }));
  await kit.jobs();
  for (const client of [ada, bora]) {
    const over = await client.send('PATCH', LOYALTY, { body: { phone: text, resend: true } });
    expect(over.status).toBe(429);
    const wait = Number(over.headers['retry-after']);
    expect(wait > 3500 && wait <= 3600).toBe(true);
    expect(over.body).toEqual({ detail: expect.stringContaining('throttled') });
  }
  await kit.jobs();
  expect(await messagesTo(e164)).toHaveLength(2);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
  kit.advance(3_600_000);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
});

test('an account gets so many codes a day, and what is refused charges nobody', async () => {
  await kit.set('SMS_BUDGET', { ...NO_BUDGET, account_day: 2, number_hour: 1 });
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
  const third = newNumber();
  const before = await pending(ada.id);
  const over = await ada.send('PATCH', LOYALTY, { body: { phone: third.text } });
  const wait = Number(over.headers['retry-after']);
  expect([over.status, wait > 86_000 && wait <= 86_400]).toEqual([429, true]);
  expect(await pending(ada.id)).toEqual(before);
  nothingYet(await bora.send('PATCH', LOYALTY, { body: { phone: third.text } }));
  kit.advance(86_400_000);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
});

test('a client address asks for so many codes an hour, in whatever names', async () => {
  await kit.set('SMS_BUDGET', { ...NO_BUDGET, address_hour: 2 });
  const clients = [await kit.signUp(), await kit.signUp(), await kit.signUp()];
  const replies: Reply[] = [];
  for (const client of clients)
    replies.push(await client.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
  expect(replies.map(({ status }) => status)).toEqual([202, 202, 429]);
  kit.advance(3_600_000);
  nothingYet(await clients[2]!.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
});

test('a budget holds when everybody asks at once, through two processes', async () => {
  const clients = await Promise.all(Array.from({ length: 12 }, () => kit.signUp()));
  await kit.set('SMS_BUDGET', { ...NO_BUDGET, address_hour: 5, country_day: 1000 });
  await twin.ctx.settings.refresh(twin.ctx.db);
  kit.advance(3_600_000);
  const replies = await Promise.all(
    clients.map((client, i) =>
      (i % 2 === 0 ? client.send : throughTwin(client))('PATCH', LOYALTY, { body: { phone: newNumber().text } }),
    ),
  );
  expect(replies.map(({ status }) => status).sort()).toEqual([...Array(5).fill(202), ...Array(7).fill(429)]);
});

test('a country gets so many codes a day, and may be closed', async () => {
  await kit.set('SMS_BUDGET', { ...NO_BUDGET, country_day: 1 });
  const ada = await kit.signUp();
  const german = '+4915112345678';
  kit.advance(86_400_000);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text } }));
  const over = await ada.send('PATCH', LOYALTY, { body: { phone: newNumber().text } });
  expect([over.status, Number(over.headers['retry-after']) > 0]).toEqual([429, true]);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: german } }));

  await kit.set('SMS_BUDGET', NO_BUDGET);
  await kit.set('SMS_COUNTRIES', ['DE']);
  const bora = await kit.signUp();
  const closed = await bora.send('PATCH', LOYALTY, { body: { phone: newNumber().text } });
  expect([closed.status, closed.body]).toEqual([400, { phone: ['Codes are not sent to this country.'] }]);
  expect(await pending(bora.id)).toEqual([]);
  nothingYet(await bora.send('PATCH', LOYALTY, { body: { phone: german } }));
});

test('the scope `otp` limits asking for codes and trying them, and nothing else', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await kit.set('THROTTLING_SETTINGS', {
    login: null,
    register: null,
    'profile-update': null,
    otp: { count: 2, duration: 60 },
  });
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: text } }));
  const code = await codeFor(e164);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: otherThan(code) } })).status).toBe(400);
  const over = await ada.send('PATCH', LOYALTY, { body: { phone: text, code } });
  expect([over.status, Number(over.headers['retry-after']) > 0]).toEqual([429, true]);
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 1 }]);
  expect((await ada.send('PATCH', LOYALTY, { body: { first_name: 'Grace' } })).status).toBe(200);
  kit.advance(60_000);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code } })).status).toBe(200);
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, otp: null });
});

test('the plain profile takes a number unproven, unless PHONE_CHANGE_REQUIRES_CODE', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  const plain = await ada.send('PATCH', PROFILE, { body: { phone: text } });
  expect([plain.status, plain.body.phone]).toEqual([200, text]);
  expect(await kit.rows('select phone_e164, phone_verified_at from account where id = $1', ada.id)).toEqual([
    { phone_e164: e164, phone_verified_at: null },
  ]);

  await kit.set('PHONE_CHANGE_REQUIRES_CODE', true);
  const before = await stored(ada.id);
  const other = newNumber();
  const refused = await ada.send('PATCH', PROFILE, { body: { phone: other.text, first_name: 'Grace' } });
  expect([refused.status, refused.body]).toEqual([
    400,
    { phone: ['A new phone number must be proven by a code. Use /users/profile-with-loyalty/.'] },
  ]);
  expect(await stored(ada.id)).toEqual(before);
  // The same number in other letters is no new number, and none at all needs no proof.
  const respelt = await ada.send('PATCH', PROFILE, { body: { phone: e164 } });
  expect([respelt.status, respelt.body.phone]).toEqual([200, e164]);
  expect((await ada.send('PATCH', PROFILE, { body: { phone: null } })).body.phone).toBe(null);
  await ada.send('PATCH', LOYALTY, { body: { phone: other.text } });
  expect(
    (await ada.send('PATCH', LOYALTY, { body: { phone: other.text, code: await codeFor(other.e164) } })).body.phone,
  ).toBe(other.text);
});

test('a proof ends with the number it was for', async () => {
  const ada = await kit.signUp();
  const one = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: one.text } });
  await ada.send('PATCH', LOYALTY, { body: { phone: one.text, code: await codeFor(one.e164) } });
  const verified = () =>
    kit.rows('select phone_verified_at is not null as verified from account where id = $1', ada.id);
  expect(await verified()).toEqual([{ verified: true }]);
  await ada.send('PATCH', PROFILE, { body: { phone: newNumber().text } });
  expect(await verified()).toEqual([{ verified: false }]);
});

test('USER_PHONE_REGEX judges new numbers as they are written, and leaves stored ones alone', async () => {
  const stored0 = newNumber();
  const ada = await kit.signUp({ phone: stored0.text });
  await kit.set('USER_PHONE_REGEX', '^5\\d{9}$');
  for (const path of [PROFILE, LOYALTY]) {
    const refused = await ada.send('PATCH', path, { body: { phone: newNumber().text } });
    expect([refused.status, refused.body]).toEqual([
      400,
      { phone: ['This phone number does not have the expected format.'] },
    ]);
    const back = await ada.send('PATCH', path, { body: { phone: stored0.text, first_name: 'Grace' } });
    expect([back.status, back.body.first_name]).toEqual([200, 'Grace']);
  }
  const fitting = newNumber();
  const taken = await ada.send('PATCH', PROFILE, { body: { phone: fitting.text.slice(1) } });
  expect([taken.status, taken.body.phone]).toEqual([200, fitting.text.slice(1)]);
  await kit.set('USER_PHONE_REGEX', null);
  for (const nonsense of ['12', 'call me', '0532 123 45 67 ext. 8', '+999123456789']) {
    const reply = await ada.send('PATCH', PROFILE, { body: { phone: nonsense } });
    expect([nonsense, reply.status, reply.body]).toEqual([nonsense, 400, { phone: ['Enter a valid phone number.'] }]);
  }
});

test('where numbers are unique, of ten accounts that take one at once exactly one gets it', async () => {
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
  await twin.ctx.settings.refresh(twin.ctx.db);
  const clients = await Promise.all(Array.from({ length: 10 }, () => kit.signUp()));
  const { text, e164 } = newNumber();
  const replies = await Promise.all(
    clients.map((client, i) =>
      (i % 3 === 0 ? throughTwin(client) : client.send)('PATCH', PROFILE, {
        body: { phone: text, first_name: 'Grace' },
      }),
    ),
  );
  const refused = replies.filter(({ status }) => status !== 200);
  expect(refused.map(({ status, body }) => [status, body])).toEqual(
    Array(9).fill([400, { phone: ['This field must be unique.'] }]),
  );
  expect(await kit.rows('select id, first_name from account where phone_e164 = $1', e164)).toEqual([
    { id: clients[replies.findIndex(({ status }) => status === 200)]!.id, first_name: 'Grace' },
  ]);
  const registered = await kit.send('POST', '/users/registration/', {
    body: { email: 'late@example.com', password: 'correct-horse-battery', phone: e164 },
  });
  expect([registered.status, registered.body]).toEqual([400, { phone: ['This field must be unique.'] }]);
  expect(await kit.rows(`select id from account where email = 'late@example.com'`)).toEqual([]);
});

test('one that leaves a unique number makes room for another', async () => {
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
  const { text } = newNumber();
  const [ada, bora] = [await kit.signUp({ phone: text }), await kit.signUp()];
  expect((await bora.send('PATCH', PROFILE, { body: { phone: text } })).status).toBe(400);
  expect((await ada.send('PATCH', PROFILE, { body: { phone: null } })).status).toBe(200);
  expect((await bora.send('PATCH', PROFILE, { body: { phone: text } })).status).toBe(200);
});

test('a code is made of account, number and purpose under the key of the installation', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  const [row] = await kit.rows<{ nonce: Buffer }>('select nonce from phone_change where account = $1', ada.id);
  const made = (purpose: string, account: number, number: string): string => {
    const mac = kit.ctx.keys.hash('code', purpose, String(account), number, row!.nonce);
    return String(mac.readBigUInt64BE() % 1_000_000n).padStart(6, '0');
  };
  expect(made('phone_change', ada.id, e164)).toBe(code);
  for (const other of [
    made('sign_in', ada.id, e164),
    made('phone_change', ada.id + 1, e164),
    made('phone_change', ada.id, text),
  ])
    expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code: other } })).body).toEqual(WRONG);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code } })).status).toBe(200);
});

test('a code counts as it was sent, as text or number; other spellings are wrong, and other types are no code', async () => {
  await kit.set('OTP_RESEND_SECONDS', 0);
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  const next = async (): Promise<string> => {
    await ada.send('PATCH', LOYALTY, { body: { phone: text, resend: true } });
    return codeFor(e164);
  };
  const other = (zero: number): string => [...code].map((digit) => String.fromCodePoint(zero + Number(digit))).join('');
  let code = await next();
  // As a number it would lose a zero in front, and with it be another.
  while (code.startsWith('0')) code = await next();
  for (const type of [true, [code], { code }]) {
    const reply = await ada.send('PATCH', LOYALTY, { body: { phone: text, code: type } });
    expect([reply.status, reply.body]).toEqual([400, { code: ['Not a valid string.'] }]);
  }
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 0 }]);
  for (const spelt of [`${code.slice(0, 3)} ${code.slice(3)}`, other(0x660), other(0xff10), `${code}.0`]) {
    const reply = await ada.send('PATCH', LOYALTY, { body: { phone: text, code: spelt } });
    expect([spelt, reply.status, reply.body]).toEqual([spelt, 400, WRONG]);
  }
  const saved = await ada.send('PATCH', LOYALTY, { body: { phone: text, code: Number(code) } });
  expect([saved.status, saved.body.phone]).toEqual([200, text]);
  // Space around it is not of it, as in any other field.
  const bora = await kit.signUp();
  await bora.send('PATCH', LOYALTY, { body: { phone: text } });
  expect((await bora.send('PATCH', LOYALTY, { body: { phone: text, code: ` ${await codeFor(e164)}\n` } })).status).toBe(
    200,
  );
});

test('removing the number, or setting another one unproven, ends the one that is under way', async () => {
  for (const [path, body] of [
    [LOYALTY, { phone: null }],
    [PROFILE, { phone: null }],
    [PROFILE, { phone: newNumber().text }],
  ] as const) {
    const ada = await kit.signUp({ phone: newNumber().text });
    const { text, e164 } = newNumber();
    await ada.send('PATCH', LOYALTY, { body: { phone: text } });
    const code = await codeFor(e164);
    expect((await ada.send('PATCH', path, { body })).body.phone).toBe(body.phone);
    expect(await pending(ada.id)).toEqual([]);
    expect((await ada.send('PATCH', LOYALTY, { body: { phone: text, code } })).body).toEqual(GONE);
    expect((await ada.send('GET', PROFILE)).body.phone).toBe(body.phone);
  }
});

test('once its code has expired a number is no longer in the way of the present one', async () => {
  const present = newNumber();
  const ada = await kit.signUp({ phone: present.text });
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  expect((await ada.send('PATCH', LOYALTY, { body: { phone: present.text, resend: true } })).status).toBe(200);
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 0 }]);
  kit.advance(180_000);
  // The code alone still speaks of it, and is told what it is.
  expect((await ada.send('PATCH', LOYALTY, { body: { code } })).body).toEqual(GONE);
  nothingYet(await ada.send('PATCH', LOYALTY, { body: { phone: present.text, resend: true } }));
  expect(await pending(ada.id)).toEqual([{ phone_e164: present.e164, submissions: 0 }]);
  const proven = await ada.send('PATCH', LOYALTY, { body: { code: await codeFor(present.e164) } });
  expect([proven.status, proven.body.phone]).toEqual([200, present.text]);
});

test('a rule for numbers that is made meanwhile holds for the one that is under way', async () => {
  const ada = await kit.signUp();
  const { text, e164 } = newNumber();
  await ada.send('PATCH', LOYALTY, { body: { phone: text } });
  const code = await codeFor(e164);
  await kit.set('USER_PHONE_REGEX', '^5\\d{9}$');
  for (const body of [{ phone: text, code }, { code }, { resend: true }]) {
    const refused = await ada.send('PATCH', LOYALTY, { body });
    expect([refused.status, refused.body]).toEqual([
      400,
      { phone: ['This phone number does not have the expected format.'] },
    ]);
  }
  expect(await pending(ada.id)).toEqual([{ phone_e164: e164, submissions: 0 }]);
  await kit.set('USER_PHONE_REGEX', null);
  expect((await ada.send('PATCH', LOYALTY, { body: { code } })).body.phone).toBe(text);
});

/** What the installation asks of its database meanwhile. */
async function statements(work: () => Promise<unknown>): Promise<string[]> {
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const { query } = prototype;
  const said: string[] = [];
  prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const statement = args[0] as string | { text: string };
    said.push(typeof statement === 'string' ? statement : statement.text);
    return query.apply(this, args);
  };
  try {
    await work();
  } finally {
    prototype.query = query;
  }
  return said;
}

test('until its code is proven nothing tells a number that is taken from one that is free', async () => {
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
  await kit.set('OTP_RESEND_SECONDS', 0);
  await kit.set('SMS_BUDGET', { ...NO_BUDGET, number_hour: 3 });
  const [taken, proven, free] = [newNumber(), newNumber(), newNumber()];
  await kit.signUp({ phone: taken.text });
  const bora = await kit.signUp();
  await bora.send('PATCH', LOYALTY, { body: { phone: proven.text } });
  await bora.send('PATCH', LOYALTY, { body: { phone: proven.text, code: await codeFor(proven.e164) } });
  kit.advance(3_600_000);
  const ada = await kit.signUp();
  const probe = async (number: { text: string; e164: string }) => {
    const seen: unknown[] = [];
    const wrong = { phone: number.text, first_name: 'Eve', code: '' };
    for (const body of [
      { phone: number.text },
      { phone: number.text },
      () => wrong,
      { phone: number.text, resend: true },
      { phone: number.text, resend: true, first_name: 'Eve' },
    ]) {
      if (typeof body === 'function') wrong.code = otherThan(await codeFor(number.e164));
      let reply: Reply;
      const said = await statements(async () => {
        reply = await ada.send('PATCH', LOYALTY, { body: typeof body === 'function' ? body() : body });
      });
      const { 'x-request-id': id, date, ...headers } = reply!.headers;
      // Seconds run on between two probes.
      const steady = JSON.stringify(headers).replaceAll(/\d{4}\b/g, 'N');
      seen.push([reply!.status, reply!.text.replace(/\d{4}/, 'N'), steady, said]);
    }
    return seen;
  };
  // The first request of all prepares what later ones find prepared.
  await probe(newNumber());
  const [one, two, three] = [await probe(free), await probe(taken), await probe(proven)];
  expect(one.map((reply) => (reply as unknown[])[0])).toEqual([202, 202, 400, 202, 429]);
  expect(two).toEqual(one);
  expect(three).toEqual(one);
  expect(((one[0] as unknown[])[3] as string[]).length).toBeGreaterThan(5);
});

test('two accounts may prove one number at the same time, and where it must be unique one of them gets it', async () => {
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
  await kit.set('OTP_RESEND_SECONDS', 0);
  await twin.ctx.settings.refresh(twin.ctx.db);
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const { text, e164 } = newNumber();
  const codes: string[] = [];
  for (const client of [ada, bora]) {
    nothingYet(await client.send('PATCH', LOYALTY, { body: { phone: text } }));
    codes.push(await codeFor(e164));
  }
  const replies = await Promise.all([
    ada.send('PATCH', LOYALTY, { body: { phone: text, code: codes[0] } }),
    throughTwin(bora)('PATCH', LOYALTY, { body: { phone: text, code: codes[1] } }),
  ]);
  expect(replies.map(({ status }) => status).sort()).toEqual([200, 400]);
  expect(replies.find(({ status }) => status === 400)!.body).toEqual({ phone: ['This field must be unique.'] });
  expect(await kit.rows('select id from account where phone_e164 = $1', e164)).toHaveLength(1);
});

test('consents end with a number that a proven one replaces, whatever is said meanwhile in another process', async () => {
  await kit.set('OTP_RESEND_SECONDS', 0);
  for (let round = 0; round < 6; round += 1) {
    const old = newNumber();
    const ada = await kit.signUp({ phone: old.text, sms_allowed: true, call_allowed: true });
    const { text, e164 } = newNumber();
    await ada.send('PATCH', LOYALTY, { body: { phone: text } });
    const code = await codeFor(e164);
    const again = throughTwin(ada);
    const replies = await Promise.all([
      again('PATCH', PROFILE, { body: { whatsapp_allowed: true } }),
      ada.send('PATCH', LOYALTY, { body: { phone: text, code } }),
      again('PATCH', PROFILE, { body: { call_allowed: false } }),
      again('PATCH', LOYALTY, { body: { sms_allowed: false } }),
    ]);
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    const states = await kit.rows<{ value: string; channel: string; state: string }>(
      `select p.value, s.channel, s.state from consent_state s join contact_point p on p.id = s.contact_point
        where p.value = any ($1)`,
      [old.e164, e164],
    );
    expect(states.filter(({ value, state }) => value === old.e164 && state === 'granted')).toEqual([]);
    // Only the one that was said after the move can stand at the new number.
    expect(
      states.filter(({ value, channel, state }) => value === e164 && state === 'granted' && channel !== 'whatsapp'),
    ).toEqual([]);
  }
  expect((await kit.verify()).fault).toBe(undefined);
});
