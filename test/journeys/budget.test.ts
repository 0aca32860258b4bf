/** What codes may cost holds under attack, whoever pretends to be whom, and customers get theirs meanwhile. */
import { execFile } from 'node:child_process';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createHttp } from '../../src/app.ts';
import { spendText } from '../../src/phone/budget.ts';
import { transaction } from '../../src/platform/ctx.ts';
import { prepared } from '../../src/platform/db.ts';
import { type Client, createKit, type Kit } from '../kit.ts';

const LOYALTY = '/users/profile-with-loyalty/';
const DAY = 86_400_000;
const none = {
  number_hour: null,
  number_day: null,
  account_day: null,
  address_hour: null,
  country_day: null,
  installation_day: null,
  newcomers_share: 1,
};

let kit: Kit;
let twin: Kit;
let numbers = 0;
let addresses = 0;

beforeAll(async () => {
  kit = await createKit();
  twin = await kit.twin();
  await set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, otp: null });
});
beforeEach(async () => {
  await kit.owner('delete from sms_request');
  await kit.owner('delete from sms_budget');
  await kit.owner('delete from phone_change');
  await kit.owner('delete from throttle');
  await kit.jobs();
  await kit.owner('delete from console_message');
  await set('SMS_COUNTRIES', null);
  await set('SMS_BUDGET', none);
  await set('DOUBLE_OPT_IN', []);
});
afterAll(() => kit.close());

async function set(name: Parameters<Kit['set']>[0], value: unknown): Promise<void> {
  await kit.set(name, value);
  await twin.ctx.settings.refresh(twin.ctx.db);
}

/** Numbers nobody has used in this file. */
function turkish(): string {
  numbers += 1;
  return `+90532${2_000_000 + numbers}`;
}
function dutch(): string {
  numbers += 1;
  return `+31612${300_000 + numbers}`;
}
/** An address nobody has used in this file. */
function newAddress(): string {
  addresses += 1;
  return `198.51.${addresses >> 8}.${addresses & 255}`;
}

const customers = (count: number): Promise<Client[]> => Promise.all(Array.from({ length: count }, () => kit.signUp()));

/** Customers of a month, whose mail address is proven. */
async function knownCustomers(count: number): Promise<Client[]> {
  const clients = await customers(count);
  const ids = clients.map(({ id }) => id);
  await kit.rows(`update account set date_joined = date_joined - interval '30 days' where id = any ($1)`, ids);
  return clients;
}

interface Asking {
  readonly phone: string;
  /** Address of the other end of the connection. */
  readonly from?: string;
  readonly headers?: Record<string, string>;
  readonly through?: FastifyInstance;
  readonly resend?: boolean;
}

/** Asks for a code. */
async function ask(
  client: Client,
  { phone, from = newAddress(), headers = {}, through = kit.http, resend = false }: Asking,
): Promise<{ status: number; body: string; retryAfter: string | undefined }> {
  const {
    statusCode,
    body,
    headers: told,
  } = await through.inject({
    method: 'PATCH',
    url: LOYALTY,
    remoteAddress: from,
    headers: {
      cookie: [...client.cookies].map(([name, value]) => `${name}=${value}`).join('; '),
      'x-csrftoken': client.cookies.get('csrftoken')!,
      ...headers,
    },
    payload: { phone, resend },
  });
  return { status: statusCode, body, retryAfter: told['retry-after'] as string | undefined };
}

/** Headers that claim to come from somewhere else. */
function spoofed(claimed = newAddress()): Record<string, string> {
  return {
    'x-forwarded-for': `${claimed}, 10.1.2.3`,
    forwarded: `for=${claimed};proto=https`,
    'x-real-ip': claimed,
    'x-client-ip': claimed,
    'cf-connecting-ip': claimed,
    'true-client-ip': claimed,
  };
}

const statuses = (replies: readonly { status: number }[]): Record<string, number> =>
  Object.fromEntries(
    [...Map.groupBy(replies, ({ status }) => String(status))].map(([status, { length }]) => [status, length]),
  );

/** What was written down, by what became of it. */
const log = async (): Promise<Record<string, number>> =>
  Object.fromEntries(
    (
      await kit.rows<{ outcome: string; count: number }>(
        `select coalesce(refused_by, 'sent') as outcome, count(*)::int from sms_request group by 1 order by 1`,
      )
    ).map(({ outcome, count }) => [outcome, count]),
  );

const recipients = async (): Promise<string[]> => {
  await kit.jobs();
  return (await kit.outbox('sms')).map(({ recipient }) => recipient).sort();
};

describe('under attack', () => {
  test('pumping from many new accounts and addresses, through two processes, costs the newcomers’ share; known customers get their codes there and elsewhere', async () => {
    const [attackers, known, abroad] = [await customers(30), await knownCustomers(5), await knownCustomers(5)];
    await set('SMS_BUDGET', {
      ...{ number_hour: 5, account_day: 3, address_hour: 20 },
      ...{ country_day: 40, installation_day: 60, newcomers_share: 0.5 },
    });
    const ways = [kit.http, twin.http];
    const attack = attackers.flatMap((attacker) =>
      Array.from({ length: 6 }, (_, i) =>
        ask(attacker, { phone: turkish(), headers: spoofed(), through: ways[i % 2]! }),
      ),
    );
    const mine = known.map((client, i) => ({ client, phone: turkish(), through: ways[i % 2]! }));
    const theirs = abroad.map((client, i) => ({ client, phone: dutch(), through: ways[i % 2]! }));
    const honest = [...mine, ...theirs].map(({ client, ...asking }) => ask(client, asking));
    const [attacked, served] = await Promise.all([Promise.all(attack), Promise.all(honest)]);

    expect(statuses(attacked)).toEqual({ 202: 20, 429: 160 });
    expect(statuses(served)).toEqual({ 202: 10 });
    expect(
      await kit.rows(
        `select country, newcomer, count(*)::int from sms_request where refused_by is null group by 1, 2 order by 1, 2`,
      ),
    ).toEqual([
      { country: 'NL', newcomer: false, count: 5 },
      { country: 'TR', newcomer: false, count: 5 },
      { country: 'TR', newcomer: true, count: 20 },
    ]);
    expect(await kit.rows('select count(*)::int as refused from sms_request where refused_by is not null')).toEqual([
      { refused: 160 },
    ]);
    const counters = await kit.rows(
      `select scope, count from sms_budget where scope ~ 'newcomers|country|installation' order by scope, count`,
    );
    expect(counters).toEqual([
      { scope: 'country_day', count: 5 },
      { scope: 'country_day', count: 25 },
      { scope: 'installation_day', count: 30 },
      { scope: 'newcomers_country', count: 20 },
      { scope: 'newcomers_installation', count: 20 },
    ]);
    // An account that asked for several numbers is sent the last one's code.
    const spenders = await kit.rows('select distinct account from sms_request where newcomer and refused_by is null');
    const sent = await recipients();
    expect(sent).toHaveLength(10 + spenders.length);
    expect(sent).toEqual(expect.arrayContaining([...mine, ...theirs].map(({ phone }) => phone)));
  });

  test('once newcomers have used up their part, another wave costs nothing, and leaves nothing behind', async () => {
    const [attackers, [known]] = [await customers(4), await knownCustomers(1)];
    await set('SMS_BUDGET', { ...none, country_day: 4, installation_day: 100, newcomers_share: 0.5 });
    for (const attacker of attackers) await ask(attacker, { phone: turkish(), headers: spoofed() });
    expect(await log()).toEqual({ newcomers_country: 2, sent: 2 });
    const state = () =>
      Promise.all([
        kit.rows('select scope, encode(holder, $1) as holder, count, ends_at from sms_budget order by 1, 2', 'hex'),
        kit.rows('select * from phone_change order by account'),
        kit.owner('select id, updated_at from graphile_worker._private_jobs order by id'),
      ]);
    const before = await state();
    const wave = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        ask(attackers[i % 4]!, { phone: turkish(), headers: spoofed(), through: [kit.http, twin.http][i % 2]! }),
      ),
    );
    expect(statuses(wave)).toEqual({ 429: 40 });
    expect(await state()).toEqual(before);
    expect(await log()).toEqual({ newcomers_country: 42, sent: 2 });
    expect((await ask(known!, { phone: turkish() })).status).toBe(202);
    // Others have their own countries.
    expect((await ask(attackers[0]!, { phone: dutch() })).status).toBe(202);
    kit.advance(DAY);
    await kit.rows('update account set date_joined = $1', kit.ctx.clock.now());
    expect((await ask(attackers[0]!, { phone: turkish() })).status).toBe(202);
  });

  test.each(['country_day', 'installation_day'] as const)(
    '%s holds to the message for known customers at once, through two processes',
    async (limit) => {
      const known = await knownCustomers(20);
      await set('SMS_BUDGET', { ...none, [limit]: 7, newcomers_share: 0 });
      const replies = await Promise.all(
        known.map((client, i) => ask(client, { phone: turkish(), through: [kit.http, twin.http][i % 2]! })),
      );
      expect(statuses(replies)).toEqual({ 202: 7, 429: 13 });
      expect(await log()).toEqual({ [limit]: 13, sent: 7 });
      expect(await recipients()).toHaveLength(7);
    },
  );

  test('headers that claim another address change nothing', async () => {
    const known = await knownCustomers(12);
    await set('SMS_BUDGET', { ...none, address_hour: 5 });
    const replies = await Promise.all(
      known.map((client, i) =>
        ask(client, {
          phone: turkish(),
          from: '203.0.113.9',
          headers: spoofed(),
          through: [kit.http, twin.http][i % 2]!,
        }),
      ),
    );
    expect(statuses(replies)).toEqual({ 202: 5, 429: 7 });
    expect(await log()).toEqual({ address_hour: 7, sent: 5 });
    expect(await kit.rows('select distinct address from sms_request')).toHaveLength(1);
    expect((await ask(known[0]!, { phone: turkish(), from: '203.0.113.10' })).status).toBe(202);
  });

  test('behind a proxy that is trusted the address it saw counts, not what its client wrote before it', async () => {
    const [one] = await knownCustomers(1);
    await set('SMS_BUDGET', { ...none, address_hour: 2 });
    const through = await createHttp(kit.ctx, { trustedProxies: ['10.0.0.0/8'] });
    try {
      const seen = async (from: string, headers: Record<string, string>): Promise<number> =>
        (await ask(one!, { phone: turkish(), from, headers, through })).status;
      const client = (address: string): Record<string, string> => ({
        ...spoofed(),
        'x-forwarded-for': `${newAddress()}, ${address}`,
      });
      expect(await seen('10.0.0.1', client('192.0.2.77'))).toBe(202);
      expect(await seen('10.9.9.9', client('192.0.2.77'))).toBe(202);
      expect(await seen('10.0.0.1', client('192.0.2.77'))).toBe(429);
      expect(await seen('10.0.0.1', client('192.0.2.78'))).toBe(202);
      // From elsewhere the same header is talk.
      expect(await seen('192.0.2.77', client('192.0.2.79'))).toBe(429);
      expect(await seen('203.0.113.50', client('192.0.2.77'))).toBe(202);
    } finally {
      await through.close();
    }
  });

  test('a number counts as one however it is written, by whoever and from wherever', async () => {
    const known = await knownCustomers(6);
    await set('SMS_BUDGET', { ...none, number_hour: 2 });
    const spellings = ['05321234599', '+90 532 123 45 99', '0090 532 123 45 99', '(0532) 123-4599', '5321234599'];
    const replies = [];
    for (const [i, phone] of spellings.entries()) replies.push((await ask(known[i]!, { phone })).status);
    expect(replies).toEqual([202, 202, 429, 429, 429]);
    expect(await log()).toEqual({ number_hour: 3, sent: 2 });
    expect(await kit.rows('select distinct number, country from sms_request')).toHaveLength(1);
    expect((await ask(known[5]!, { phone: '05321234598' })).status).toBe(202);
  });

  test('a number has a limit of its own for the day', async () => {
    const [one, two] = await knownCustomers(2);
    await set('SMS_BUDGET', { ...none, number_day: 2 });
    const phone = turkish();
    const replies = [];
    for (const client of [one!, two!, one!]) {
      replies.push((await ask(client, { phone })).status);
      kit.advance(2 * 3_600_000);
    }
    expect(replies).toEqual([202, 202, 429]);
    expect(await log()).toEqual({ number_day: 1, sent: 2 });
    expect((await ask(one!, { phone: turkish() })).status).toBe(202);
    kit.advance(DAY);
    expect((await ask(two!, { phone })).status).toBe(202);
  });

  test('numbers that cost extra, that nobody reads, or that are of no country get neither codes nor questions', async () => {
    const [ada] = await knownCustomers(1);
    await set('DOUBLE_OPT_IN', ['sms']);
    // Premium, shared cost, company-wide, voicemail, pager, two of satellites.
    const numbers = [
      ...['+909001234567', '+33810123456', '+904441444', '+41860123456789', '+447640123456'],
      ...['+870773111632', '+881612345678'],
    ];
    for (const phone of numbers) {
      const { status, body } = await ask(ada!, { phone });
      expect([phone, status, JSON.parse(body)]).toEqual([
        phone,
        400,
        { phone: ['Codes are not sent to numbers of this kind.'] },
      ]);
      await kit.signUp({ phone, sms_allowed: true });
    }
    expect(await recipients()).toEqual([]);
    expect(await log()).toEqual({ number_type: 7 });
    expect(await kit.rows('select * from sms_budget')).toEqual([]);
    expect(await kit.rows('select country, count(*)::int from sms_request group by 1 order by 1')).toEqual([
      { country: 'CH', count: 1 },
      { country: 'FR', count: 1 },
      { country: 'GB', count: 1 },
      { country: 'TR', count: 2 },
      { country: 'unknown', count: 2 },
    ]);
  });

  test('an IPv6 network counts as one address', async () => {
    const [one] = await knownCustomers(1);
    await set('SMS_BUDGET', { ...none, address_hour: 2 });
    const from = async (address: string): Promise<number> =>
      (await ask(one!, { phone: turkish(), from: address })).status;
    expect(await from('2001:db8:a:b::1')).toBe(202);
    expect(await from('2001:db8:a:b:ffff:1:2:3')).toBe(202);
    expect(await from('2001:db8:a:b::2')).toBe(429);
    expect(await from('2001:db8:a:c::1')).toBe(202);
  });
});

describe('what is written down', () => {
  test('a newcomer is who is younger than a day, or has proven neither address', async () => {
    const [known, byPhone, fresh, unproven] = await customers(4);
    const month = `date_joined - interval '30 days'`;
    await kit.rows(`update account set date_joined = ${month} where id = $1`, known!.id);
    await kit.rows(
      `update account set date_joined = ${month}, email_verified_at = null, phone_verified_at = date_joined where id = $1`,
      byPhone!.id,
    );
    await kit.rows(`update account set date_joined = ${month}, email_verified_at = null where id = $1`, unproven!.id);
    await set('SMS_BUDGET', { ...none, installation_day: 100, newcomers_share: 0 });
    const replies = [];
    for (const client of [known, byPhone, fresh, unproven])
      replies.push((await ask(client!, { phone: turkish() })).status);
    expect(replies).toEqual([202, 202, 429, 429]);
    expect(await kit.rows('select newcomer, refused_by from sms_request order by id')).toEqual([
      { newcomer: false, refused_by: null },
      { newcomer: false, refused_by: null },
      { newcomer: true, refused_by: 'newcomers_installation' },
      { newcomer: true, refused_by: 'newcomers_installation' },
    ]);
  });

  test('a refused request is there although its transaction is not, and names no number and no address', async () => {
    const [ada] = await knownCustomers(1);
    const phone = turkish();
    await set('SMS_BUDGET', { ...none, account_day: 1 });
    expect((await ask(ada!, { phone, from: '192.0.2.200' })).status).toBe(202);
    const early = await ask(ada!, { phone, from: '192.0.2.200', resend: true });
    expect([early.status, Number(early.retryAfter) > 86_000]).toEqual([429, true]);
    expect((await ask(ada!, { phone: turkish() })).status).toBe(429);
    await set('SMS_COUNTRIES', ['NL']);
    const nowhere = await ask(ada!, { phone: turkish() });
    expect([nowhere.status, Object.keys(JSON.parse(nowhere.body))]).toEqual([400, ['phone']]);
    expect(await kit.rows('select account, country, refused_by from sms_request order by id')).toEqual([
      { account: ada!.id, country: 'TR', refused_by: null },
      { account: ada!.id, country: 'TR', refused_by: 'pair_gap' },
      { account: ada!.id, country: 'TR', refused_by: 'account_day' },
      { account: ada!.id, country: 'TR', refused_by: 'country' },
    ]);
    expect(await kit.rows('select phone_e164 from phone_change')).toEqual([{ phone_e164: phone }]);
    const [{ text }] = (await kit.rows<{ text: string }>(
      'select string_agg(row_to_json(r)::text, $1) as text from sms_request r',
      '\n',
    )) as [{ text: string }];
    for (const secret of [phone, phone.slice(1), '192.0.2.200'])
      expect(text.includes(secret) || text.includes(Buffer.from(secret).toString('hex'))).toBe(false);
    // A repeated request that finds its code under way asks for none.
    expect((await ask(ada!, { phone })).status).toBe(202);
    expect(await log()).toEqual({ account_day: 1, country: 1, pair_gap: 1, sent: 1 });
  });

  test('a code that came back right marks the request it was sent for, and no other', async () => {
    const [ada, bora] = await knownCustomers(2);
    const phone = turkish();
    await ask(ada!, { phone: turkish() });
    await ask(ada!, { phone });
    await ask(ada!, { phone, resend: true });
    await ask(bora!, { phone: turkish() });
    await kit.jobs();
    const code = /\b\d{6}\b/.exec((await kit.outbox('sms')).find(({ recipient }) => recipient === phone)!.body)![0];
    const wrong = await ada!.send('PATCH', LOYALTY, { body: { phone, code: code === '000000' ? '1' : '000000' } });
    expect(wrong.status).toBe(400);
    expect(await kit.rows('select id from sms_request where proven_at is not null')).toEqual([]);
    const right = await ada!.send('PATCH', LOYALTY, { body: { phone, code } });
    expect([right.status, right.body.phone]).toEqual([200, phone]);
    expect(
      await kit.rows('select account, refused_by, proven_at is not null as proven from sms_request order by id'),
    ).toEqual([
      { account: ada!.id, refused_by: null, proven: false },
      { account: ada!.id, refused_by: null, proven: true },
      { account: ada!.id, refused_by: 'pair_gap', proven: false },
      { account: bora!.id, refused_by: null, proven: false },
    ]);
  });

  test('it goes with the account', async () => {
    const [ada] = await knownCustomers(1);
    await set('SMS_BUDGET', { ...none, account_day: 1 });
    await ask(ada!, { phone: turkish() });
    await ask(ada!, { phone: turkish() });
    expect(await log()).toEqual({ account_day: 1, sent: 1 });
    const api = await kit.apiKey('*');
    expect((await api('POST', '/v1/erasures', { body: { account: ada!.id } })).status).toBe(200);
    expect(await log()).toEqual({});
  });

  test('questions and codes share the budgets of country and installation', async () => {
    const [one, two] = await knownCustomers(2);
    const asked = async (phone: string): Promise<boolean> => {
      await kit.signUp({ phone, sms_allowed: true });
      return (await recipients()).includes(phone);
    };
    await set('DOUBLE_OPT_IN', ['sms']);
    await set('SMS_BUDGET', { ...none, country_day: 2, installation_day: 3 });
    expect(await asked(turkish())).toBe(true);
    expect((await ask(one!, { phone: turkish() })).status).toBe(202);
    expect((await ask(two!, { phone: turkish() })).status).toBe(429);
    expect(await asked(turkish())).toBe(false);
    expect(await asked(dutch())).toBe(true);
    expect((await ask(two!, { phone: dutch() })).status).toBe(429);
    expect(await log()).toEqual({ country_day: 1, installation_day: 1, sent: 1 });
  });

  test('whoever waited for a counter while the last of it was spent is refused, and leaves the other counters alone', async () => {
    const [one, two] = await knownCustomers(2);
    await set('SMS_BUDGET', { ...none, country_day: 2, installation_day: 100 });
    expect((await ask(one!, { phone: turkish() })).status).toBe(202);
    const counters = () => kit.rows('select scope, count from sms_budget order by scope');
    let late: Promise<unknown>[] = [];
    await transaction(kit.ctx, async ({ db }) => {
      await db.run(prepared(`update sms_budget set count = 2 where scope = 'country_day'`));
      late = [
        spendText(twin.ctx, { account: one!.id, country: 'TR' }),
        ask(two!, { phone: turkish(), through: twin.http }).then(({ status }) => status),
      ];
      const waiting = `select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      while ((await kit.owner<{ n: number }>(waiting))[0]!.n < 2);
    });
    expect(await Promise.all(late)).toEqual(['country_day', 429]);
    expect(await counters()).toEqual([
      { scope: 'country_day', count: 2 },
      { scope: 'installation_day', count: 1 },
      { scope: 'pair_gap', count: 1 },
    ]);
    expect(await log()).toEqual({ country_day: 1, sent: 1 });
  });

  test('whoever has only just registered has questions out of the newcomers’ part', async () => {
    const [known] = await knownCustomers(1);
    const phones = [turkish(), turkish(), turkish()];
    await set('DOUBLE_OPT_IN', ['sms']);
    await set('SMS_BUDGET', { ...none, country_day: 4, newcomers_share: 0.5 });
    for (const phone of phones) await kit.signUp({ phone, sms_allowed: true });
    expect(await recipients()).toHaveLength(2);
    expect((await ask(known!, { phone: turkish() })).status).toBe(202);
  });
});

describe('the dry run', () => {
  interface Ran {
    readonly code: number;
    readonly out: string;
    readonly err: string;
  }
  /** The command, as a process of its own beside the kit. */
  const assent = (...args: string[]): Promise<Ran> =>
    new Promise((done) => {
      const { host, port, user, password, database } = kit.connection as unknown as Record<string, string>;
      const address = `postgres:///${database}?host=${encodeURIComponent(host!)}&port=${port}&user=${user}${password ? `&password=${password}` : ''}`;
      const secret = 'a secret key of the tests, and of nothing else';
      execFile(
        process.execPath,
        ['src/main.ts', 'phone', 'budget', ...args],
        { env: { PATH: process.env['PATH'], DATABASE_URL: address, SECRET_KEY: secret } },
        (error, out, err) => done({ code: error === null ? 0 : Number(error.code), out, err }),
      );
    });

  /** Requests of some hours ago: a burst of newcomers in one country, and a customer who proved it in each of two. */
  async function week(): Promise<void> {
    const [ada] = await knownCustomers(1);
    await kit.rows(
      `insert into sms_request (at, account, number, address, country, newcomer, refused_by, proven_at)
       select date_trunc('day', now()) - make_interval(days => days) + make_interval(secs => s), $1,
              decode(lpad(to_hex(days * 1000 + s), 8, '0'), 'hex'), decode(lpad(to_hex(s), 8, '0'), 'hex'),
              country, newcomer, refused_by, case when proven then now() end
         from (select 2 as days, s, 'TR' as country, true as newcomer,
                      case when s > 8 then 'newcomers_country' end as refused_by, false as proven
                 from generate_series(1, 10) s
               union all select 2, 20, 'TR', false, null, true
               union all select 3, 20, 'NL', false, null, true
               union all select 8, 20, 'TR', false, null, true) as r`,
      ada!.id,
    );
  }

  const stored = () =>
    Promise.all([
      kit.rows('select * from sms_request order by id'),
      kit.rows('select * from sms_budget order by scope, holder'),
      kit.rows('select * from setting order by name'),
      kit.rows('select * from setting_change order by id'),
    ]);

  test('a week is replayed against other limits, and nothing is written', async () => {
    await week();
    await set('SMS_BUDGET', { ...none, country_day: 16, newcomers_share: 0.5 });
    const before = await stored();
    const { code, out, err } = await assent('--limits', '{"country_day":5}', '--countries', 'TR,FR', '--json');
    expect([code, err]).toEqual([0, '']);
    const told = JSON.parse(out);
    expect(told.limits).toEqual({
      in_force: { ...none, country_day: 16, newcomers_share: 0.5, pair_gap: 30 },
      proposed: { ...none, country_day: 5, newcomers_share: 0.5, pair_gap: 30 },
    });
    expect(told.countries).toEqual({ in_force: null, proposed: ['TR', 'FR'] });
    const day = (days: number): string =>
      new Date(Math.floor(Date.now() / DAY) * DAY - days * DAY).toISOString().slice(0, 10);
    const nl = { requests: 1, sent: 1, refused: {}, honest: 1, honest_refused: 0 };
    const tr = { requests: 11, sent: 9, refused: { newcomers_country: 2 }, honest: 1, honest_refused: 0 };
    const was = {
      ...{ requests: 12, sent: 10, refused: { newcomers_country: 2 }, honest: 2, honest_refused: 0 },
      days: { [day(3)]: nl, [day(2)]: tr },
      countries: { NL: nl, TR: tr },
    };
    expect(told.happened).toEqual(was);
    expect(told.in_force).toEqual(was);
    const tighter = { requests: 11, sent: 3, refused: { newcomers_country: 8 }, honest: 1, honest_refused: 0 };
    const closed = { requests: 1, sent: 0, refused: { country: 1 }, honest: 1, honest_refused: 1 };
    expect(told.proposed).toEqual({
      ...{ requests: 12, sent: 3, refused: { newcomers_country: 8, country: 1 }, honest: 2, honest_refused: 1 },
      days: { [day(3)]: closed, [day(2)]: tighter },
      countries: { NL: closed, TR: tighter },
    });
    expect(await stored()).toEqual(before);
  });

  test('people read it as tables', async () => {
    await week();
    await set('SMS_BUDGET', { ...none, country_day: 16, newcomers_share: 0.5 });
    const { code, out, err } = await assent('--limits', '{"country_day":5}', '--countries', 'TR');
    expect([code, err]).toEqual([
      0,
      'A dry run: nothing was changed. Messages that are no codes share the wide limits and are not in it.\n',
    ]);
    const [, ...lines] = out.trimEnd().split('\n');
    expect(lines.slice(0, 16)).toEqual([
      'in force  number_hour none, account_day none, address_hour none, country_day 16, number_day none, installation_day none, newcomers_share 0.5; to all countries',
      'proposed  number_hour none, account_day none, address_hour none, country_day 5, number_day none, installation_day none, newcomers_share 0.5; to TR',
      '',
      '                              as it was  in force  proposed',
      'requests                             12        12        12',
      'sent                                 10        10         3',
      'refused                               2         2         9',
      '  country gets no codes               0         0         1',
      '  newcomers, country and day          2         2         8',
      'codes that came back right            2         2         2',
      '  of these refused                    0         0         1',
      '',
      'country  requests  sent  in force  proposed  honest refused',
      'TR             11     9         9         3               0',
      'NL              1     1         1         0               1',
      '',
    ]);
    expect(lines[16]).toBe('day         requests  sent  in force  proposed  honest refused');
    expect(lines).toHaveLength(19);
  });

  test('windows that began before the week reach into it', async () => {
    const [ada] = await knownCustomers(1);
    await kit.rows(
      `insert into sms_request (at, account, number, address, country, newcomer)
       select now() - interval '7 days' + after, $1, '\\x01', '\\x02', 'TR', false
         from unnest('{-1 hour, 1 hour, 30 hours}'::interval[]) as a (after)`,
      ada!.id,
    );
    const { out } = await assent('--limits', '{"account_day":1}', '--json');
    const { in_force, proposed } = JSON.parse(out);
    expect(in_force).toMatchObject({ requests: 2, sent: 2, refused: {} });
    expect(proposed).toMatchObject({ requests: 2, sent: 1, refused: { account_day: 1 } });
  });

  test('a number of a kind that gets no codes gets none under any limits; one’s day can be tried out', async () => {
    const [ada] = await knownCustomers(1);
    await kit.rows(
      `insert into sms_request (at, account, number, address, country, newcomer, refused_by)
       select now() - interval '1 day' + after * interval '1 hour', $1, '\\x01', '\\x02', 'TR', false,
              case after when 3 then 'number_type' end from generate_series(1, 3) as a (after)`,
      ada!.id,
    );
    const { out } = await assent('--limits', '{"number_day":1}', '--countries', 'all', '--json');
    const { happened, in_force, proposed, countries } = JSON.parse(out);
    expect(countries.proposed).toBe(null);
    for (const report of [happened, in_force]) expect(report).toMatchObject({ sent: 2, refused: { number_type: 1 } });
    expect(proposed).toMatchObject({ sent: 1, refused: { number_type: 1, number_day: 1 } });
  });

  test('without requests it says so, and the days can be fewer', async () => {
    expect(await assent()).toEqual({ code: 0, out: '', err: 'No code was asked for in that time.\n' });
    await week();
    expect(await assent('--days', '1')).toEqual({ code: 0, out: '', err: 'No code was asked for in that time.\n' });
  });

  test.each([
    [['--limits', '{country_day:5}'], 'It is no JSON. Write it like {"country_day":500}.'],
    [['--limits', '[5]'], 'It must be a JSON object, like {"country_day":500}.'],
    [
      ['--limits', '{"country_week":5}'],
      'There is no limit called country_week. Known: number_hour, account_day, address_hour, country_day, number_day, installation_day, newcomers_share.',
    ],
    [['--limits', '{"country_day":0}'], 'country_day must be a whole number from 1, or null for no limit.'],
    [['--limits', '{"newcomers_share":2}'], 'newcomers_share must be a number from 0 to 1.'],
    [['--countries', 'TR,turkey'], '“turkey” is no ISO 3166 region. Write them like TR,NL, or all.'],
    [['--days', '30'], 'A whole number from 1 to 7: requests are kept no longer.'],
  ])('%j is refused with a sentence', async (args, sentence) => {
    const { code, out, err } = await assent(...args);
    expect([code, out]).toEqual([1, '']);
    expect(err.split('\n', 1)[0]).toContain(`is invalid. ${sentence}`);
  });
});
