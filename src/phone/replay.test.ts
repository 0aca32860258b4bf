/** A replay decides as the service did; and what it reports, request by request. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKit, type Kit } from '../../test/kit.ts';
import { spendCode, sweepBudgets, withBudget } from './budget.ts';
import { type Limits, limitsOf } from './limits.ts';
import { type LoggedRequest, openWindows, replay } from './replay.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.parse('2027-03-01T00:00:00Z');
const none: Limits = {
  pair_gap: 0,
  number_hour: null,
  number_day: null,
  account_day: null,
  address_hour: null,
  country_day: null,
  installation_day: null,
  newcomers_share: 1,
};

let people = 0;
/** A request of somebody else each time, unless said otherwise. */
function asked(ms: number, more: Partial<LoggedRequest> = {}): LoggedRequest {
  people += 1;
  return {
    at: new Date(START + ms),
    account: `account ${people}`,
    number: `number ${people}`,
    address: `address ${people}`,
    country: 'TR',
    barred: false,
    newcomer: false,
    proven: false,
    ...more,
  };
}

/** What refuses each, undefined where it is sent. */
function outcomes(
  requests: LoggedRequest[],
  limits: Partial<Limits>,
  countries: string[] | null = null,
): (string | undefined)[] {
  const decide = openWindows({ ...none, ...limits }, countries);
  return requests.map(decide);
}

test('a window begins with the first request it counts, and lasts its time to the millisecond', () => {
  const to = (ms: number): LoggedRequest => asked(ms, { number: 'n' });
  expect(outcomes([to(0), to(1), to(HOUR - 1), to(HOUR), to(2 * HOUR - 1), to(2 * HOUR)], { number_hour: 1 })).toEqual([
    undefined,
    'number_hour',
    'number_hour',
    undefined,
    'number_hour',
    undefined,
  ]);
});

test('each limit counts what it is named after, and no other', () => {
  const twice = (more: Partial<LoggedRequest>): LoggedRequest[] => [asked(0, more), asked(1, more)];
  expect(outcomes(twice({ account: 'a', number: 'n' }), { pair_gap: 30 })).toEqual([undefined, 'pair_gap']);
  expect(outcomes(twice({ account: 'a' }), { pair_gap: 30, number_hour: 1, address_hour: 1 })).toEqual([
    undefined,
    undefined,
  ]);
  expect(outcomes(twice({ number: 'n' }), { number_hour: 1 })).toEqual([undefined, 'number_hour']);
  const [early, late] = [asked(0, { number: 'n' }), asked(DAY - 1, { number: 'n' })];
  expect(outcomes([early, late, { ...early, at: new Date(START + DAY) }], { number_day: 1 })).toEqual([
    undefined,
    'number_day',
    undefined,
  ]);
  // Whatever the limits and countries, and for nothing that others could have had.
  expect(outcomes([asked(0, { barred: true }), asked(1)], { country_day: 1 }, ['TR'])).toEqual([
    'number_type',
    undefined,
  ]);
  expect(outcomes(twice({ account: 'a' }), { account_day: 1 })).toEqual([undefined, 'account_day']);
  expect(outcomes(twice({ address: 'i' }), { address_hour: 1 })).toEqual([undefined, 'address_hour']);
  expect(outcomes([asked(0), asked(1, { country: 'NL' }), asked(2)], { country_day: 1 })).toEqual([
    undefined,
    undefined,
    'country_day',
  ]);
  expect(outcomes([asked(0), asked(1, { country: 'NL' })], { installation_day: 1 })).toEqual([
    undefined,
    'installation_day',
  ]);
  expect(outcomes([asked(0), asked(1, { country: 'NL' }), asked(2, { country: 'unknown' })], {}, ['NL'])).toEqual([
    'country',
    undefined,
    'country',
  ]);
});

test('newcomers have their share, known customers the rest and what newcomers leave', () => {
  const fresh = (country: string): LoggedRequest => asked(0, { newcomer: true, country });
  const known = (country: string): LoggedRequest => asked(0, { country });
  const limits = { country_day: 4, installation_day: 6, newcomers_share: 0.5 };
  expect(outcomes([fresh('TR'), fresh('TR'), fresh('TR'), known('TR'), known('TR'), known('TR')], limits)).toEqual([
    undefined,
    undefined,
    'newcomers_country',
    undefined,
    undefined,
    'country_day',
  ]);
  expect(
    outcomes([fresh('TR'), fresh('TR'), fresh('NL'), fresh('NL'), known('NL'), known('NL'), known('FR')], limits),
  ).toEqual([undefined, undefined, undefined, 'newcomers_installation', undefined, undefined, undefined]);
  // A part of a message is none.
  expect(outcomes([fresh('TR')], { country_day: 1, newcomers_share: 0.5 })).toEqual(['newcomers_country']);
  // 0.29 × 100 is a little less than 29 for a computer.
  const many = Array.from({ length: 30 }, () => fresh('TR'));
  const sent = outcomes(many, { country_day: 100, newcomers_share: 0.29 }).filter((limit) => limit === undefined);
  expect(sent).toHaveLength(29);
});

test('what is refused takes nothing from the limits that had room', () => {
  const requests = [asked(0, { number: 'n' }), asked(1, { number: 'n', account: 'a' }), asked(2, { account: 'a' })];
  expect(outcomes(requests, { number_hour: 1, account_day: 1 })).toEqual([undefined, 'number_hour', undefined]);
});

test('the report counts by limit, day and country, and how many honest customers are refused', () => {
  const requests = [
    asked(-1, { number: 'n' }),
    asked(0, { number: 'n', proven: true }),
    asked(1, { proven: true }),
    asked(DAY, { country: 'NL' }),
  ];
  const whole = { requests: 1, sent: 1, refused: {}, honest: 0, honest_refused: 0 };
  const first = { requests: 2, sent: 1, refused: { number_hour: 1 }, honest: 2, honest_refused: 1 };
  // What came before the day that is asked about fills the windows and is not counted.
  expect(replay(requests, { ...none, number_hour: 1 }, null, new Date(START))).toEqual({
    ...{ requests: 3, sent: 2, refused: { number_hour: 1 }, honest: 2, honest_refused: 1 },
    days: { '2027-03-01': first, '2027-03-02': whole },
    countries: { TR: first, NL: whole },
  });
});

// ---- Against the service ----

let kit: Kit;
let time = START;
let accounts: number[] = [];

beforeAll(async () => {
  kit = await createKit();
  const clients = await Promise.all(Array.from({ length: 4 }, () => kit.signUp()));
  accounts = clients.map(({ id }) => id);
  Object.assign(kit.ctx, { clock: { now: () => new Date(time) } });
});
afterAll(() => kit.close());

/** The last one costs extra. */
const number = (i: number): string => (i === 3 ? '+909001234567' : `+90532100000${i}`);
const limit = (max: number): fc.Arbitrary<number | null> => fc.option(fc.integer({ min: 1, max }), { freq: 3 });
const anyLimits = fc.record({
  number_hour: limit(3),
  number_day: limit(4),
  account_day: limit(5),
  address_hour: limit(4),
  country_day: limit(8),
  installation_day: limit(10),
  newcomers_share: fc.constantFrom(0, 0.25, 0.5, 0.75, 1),
});
const anyStep = fc.record({
  // The edges of all windows, and nothing at all.
  after: fc.constantFrom(0, 0, 1, 9_999, 10_000, 600_000, HOUR - 1, HOUR, 5 * HOUR, DAY - 1, DAY),
  account: fc.nat(3),
  number: fc.nat(3),
  ip: fc.constantFrom('192.0.2.1', '::ffff:192.0.2.1', '2001:db8:1:2::1', '2001:db8:1:2:ffff::9', '2001:db8:1:3::1'),
  country: fc.constantFrom('TR', 'TR', 'NL', undefined),
  fails: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
});
const anyWeek = fc.record({
  limits: anyLimits,
  gap: fc.constantFrom(0, 10),
  countries: fc.constantFrom(null, null, ['TR'], ['TR', 'NL']),
  steps: fc.array(anyStep, { minLength: 10, maxLength: 45 }),
});

interface Logged extends LoggedRequest {
  readonly refused_by: string | null;
}
const logged = async (): Promise<Logged[]> =>
  (
    await kit.rows<Omit<Logged, 'account'> & { account: number }>(
      `select at, account, encode(number, 'hex') as number, encode(address, 'hex') as address, country, newcomer,
              proven_at is not null as proven, refused_by = 'number_type' is true as barred, refused_by from sms_request order by id`,
    )
  ).map((row) => ({ ...row, account: String(row.account) }));

test('replaying the log of what was decided, under the limits it was decided by, decides the same', async () => {
  const seen = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(anyWeek, async ({ limits, gap, countries, steps }) => {
      await kit.owner('delete from sms_budget');
      await kit.owner('delete from sms_request');
      await kit.set('SMS_BUDGET', limits);
      await kit.set('OTP_RESEND_SECONDS', gap);
      await kit.set('SMS_COUNTRIES', countries);
      // One known for long, one known by a phone, one of today, one who has proven nothing.
      for (const [i, [joined, email, phone]] of [
        ['10 days', true, false],
        ['1 day', false, true],
        ['23 hours', true, true],
        ['10 days', false, false],
      ].entries())
        await kit.rows(
          `update account set date_joined = $2::timestamptz - $3::interval,
                  email_verified_at = case when $4::bool then $2::timestamptz end,
                  phone_verified_at = case when $5::bool then $2::timestamptz end where id = $1`,
          ...[accounts[i], new Date(time), joined, email, phone],
        );
      const live: (string | null)[] = [];
      for (const step of steps) {
        time += step.after;
        const { ip, country } = step;
        const request = { account: accounts[step.account]!, ip, e164: number(step.number), country };
        const outcome = await withBudget(kit.ctx, async (tx) => {
          await spendCode(tx, request);
          // Something else goes wrong after it: neither spent nor written down.
          if (step.fails) throw new Error('nothing came of it');
          return 'sent';
        }).catch((error: Error) => error.message);
        if (outcome === 'sent') live.push(null);
        else if (outcome !== 'nothing came of it') live.push(outcome);
      }
      const log = await logged();
      // Each is in the log, as what the caller was told.
      const told = log.map(({ refused_by: by }) =>
        by === null ? null : by === 'country' || by === 'number_type' ? 'invalid' : 'throttled',
      );
      expect(told).toEqual(live);
      const decide = openWindows(limitsOf(limits, gap), countries);
      expect(log.map((request) => decide(request) ?? null)).toEqual(log.map(({ refused_by: by }) => by));
      for (const { refused_by: by } of log) seen.set(by ?? 'sent', (seen.get(by ?? 'sent') ?? 0) + 1);
      time += 2 * DAY;
    }),
    { numRuns: 120, seed: 4 },
  );
  // The weeks had something of everything in them.
  expect([...seen.keys()].sort()).toEqual([
    'account_day',
    'address_hour',
    'country',
    'country_day',
    'installation_day',
    'newcomers_country',
    'newcomers_installation',
    'number_day',
    'number_hour',
    'number_type',
    'pair_gap',
    'sent',
  ]);
}, 120_000);

test('requests are forgotten after eight days, counters when they are over', async () => {
  await kit.owner('delete from sms_budget');
  await kit.owner('delete from sms_request');
  await kit.set('SMS_COUNTRIES', null);
  await kit.set('OTP_RESEND_SECONDS', 30);
  await kit.set('SMS_BUDGET', { number_hour: 5, account_day: 10, address_hour: 20, country_day: 1000 });
  const spend = (i: number): Promise<void> =>
    withBudget(kit.ctx, (tx) =>
      spendCode(tx, { account: accounts[0]!, ip: '192.0.2.1', e164: number(i), country: 'TR' }),
    );
  const first = new Date(time);
  await spend(1);
  time += 8 * DAY;
  await spend(2);
  await sweepBudgets(kit.ctx);
  expect(await kit.rows('select at from sms_request order by id')).toEqual([{ at: first }, { at: new Date(time) }]);
  time += 1;
  await sweepBudgets(kit.ctx);
  expect(await kit.rows('select at from sms_request')).toEqual([{ at: new Date(time - 1) }]);
  expect(await kit.rows('select count(*)::int as n from sms_budget')).toEqual([{ n: 7 }]);
  time += DAY + 1;
  await sweepBudgets(kit.ctx);
  expect(await kit.rows('select scope from sms_budget')).toEqual([]);
});

test('of very many refusals of an account two hundred a day are written down', async () => {
  await kit.owner('delete from sms_budget');
  await kit.owner('delete from sms_request');
  await kit.set('SMS_BUDGET', { number_hour: null, account_day: 1, address_hour: null, country_day: null });
  const spend = (account: number): Promise<void> =>
    withBudget(kit.ctx, (tx) =>
      spendCode(tx, { account: accounts[account]!, ip: '192.0.2.1', e164: number(1), country: 'TR' }),
    ).catch(() => {});
  const refusals = (): Promise<unknown[]> =>
    kit.rows(
      `select account, count(*)::int as sent_and_refused from sms_request group by 1 order by account = $1 desc`,
      accounts[0],
    );
  for (let i = 0; i < 205; i += 1) await spend(0);
  for (let i = 0; i < 3; i += 1) await spend(1);
  expect(await refusals()).toEqual([
    { account: accounts[0], sent_and_refused: 201 },
    { account: accounts[1], sent_and_refused: 3 },
  ]);
  time += DAY;
  await spend(0);
  await spend(0);
  expect(await refusals()).toEqual([
    { account: accounts[0], sent_and_refused: 203 },
    { account: accounts[1], sent_and_refused: 3 },
  ]);
});

test('a share and a limit that were stored before they existed have their defaults', async () => {
  expect(limitsOf({ number_hour: null, account_day: 1, address_hour: 2, country_day: 3 }, 30)).toEqual({
    number_hour: null,
    account_day: 1,
    address_hour: 2,
    country_day: 3,
    number_day: 10,
    installation_day: 10_000,
    newcomers_share: 0.5,
    pair_gap: 30,
  });
});
