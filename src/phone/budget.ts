/**
 * What codes may cost: per number, account, client address, country and for the whole installation. Every limit is checked
 * before any is spent. Each request is written down, the refused ones too: to replay a week against other limits.
 */
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { countedAddress } from '../platform/throttle.ts';
import {
  type Asked,
  codeWindows,
  firstNamed,
  type LimitName,
  type Limits,
  limitsOf,
  NO_COUNTRY,
  reaches,
  takesMessages,
  type Window,
  wideWindows,
} from './limits.ts';

/** A week to replay, and the day before it, from which windows reach into it. */
const KEPT_DAYS = 8;
/** Refusals of an account written down in a day: more tell nothing new, and an attack must not fill the disk. */
const NOTED = 200;
/** Rows forgotten by one statement: after an attack there may be more than one statement can do in its time. */
const SWEPT = 20_000;

/** A request as it is written down. */
interface Noted {
  readonly at: Date;
  readonly account: number;
  readonly asked: Asked;
}

/** A code that was refused, and what is to be written down of it once its transaction is rolled back. */
class Refused extends Failure {
  readonly limit: LimitName;
  readonly noted: Noted;

  constructor(limit: LimitName, noted: Noted, options: ConstructorParameters<typeof Failure>[1]) {
    super(limit === 'country' || limit === 'number_type' ? 'invalid' : 'throttled', options);
    this.limit = limit;
    this.noted = noted;
  }
}

/** The limits in force. */
export const limitsInForce = ({ settings }: Pick<Ctx, 'settings'>): Limits =>
  limitsOf(settings.get('SMS_BUDGET'), settings.get('OTP_RESEND_SECONDS'));

/**
 * Runs `work` in a transaction in which `spendCode` is called. A refusal rolls everything back and is then written down by
 * itself, for one insert.
 */
export async function withBudget<T>(ctx: Ctx, work: (ctx: Ctx) => Promise<T>): Promise<T> {
  try {
    return await transaction(ctx, work);
  } catch (error) {
    if (error instanceof Refused) {
      // What cannot be written down is refused all the same.
      await note(ctx, error.noted, error.limit).catch((why: unknown) =>
        ctx.log.error({ err: why, limit: error.limit }, 'a refused request for a code was not written down'),
      );
    }
    throw error;
  }
}

/**
 * Spends one code and writes the request down; inside `withBudget`.
 * @throws throttled with `Retry-After` when a limit is reached, invalid when codes do not go to that country or number
 */
export async function spendCode(
  ctx: Ctx,
  { account, ip, e164, country }: { account: number; ip: string; e164: string; country: string | undefined },
): Promise<void> {
  const asked: Asked = {
    account: String(account),
    number: e164,
    address: countedAddress(ip),
    country: country ?? NO_COUNTRY,
    barred: !takesMessages(e164),
    newcomer: await isNewcomer(ctx, account),
  };
  const noted = { at: ctx.clock.now(), account, asked };
  // Before the country: a replay has no numbers, and must know by this refusal that no limits would have let it pass.
  if (asked.barred) {
    throw new Refused('number_type', noted, { complaints: [{ path: ['phone'], key: 'phone.number_type' }] });
  }
  if (!reaches(ctx.settings.get('SMS_COUNTRIES'), asked.country)) {
    throw new Refused('country', noted, { complaints: [{ path: ['phone'], key: 'phone.country' }] });
  }
  await transaction(ctx, async (tx) => {
    const full = await spend(tx, codeWindows(limitsInForce(ctx), asked), noted.at);
    if (full !== undefined) {
      // Thrown inside: the rollback gives back what the other limits were charged.
      const { limit, seconds } = full;
      throw new Refused(limit, noted, { values: { seconds }, headers: { 'retry-after': String(seconds) } });
    }
    await note(tx, noted, null);
  });
}

/**
 * Spends a message that is no code from what country and installation have for both. Not inside a transaction: a refusal
 * rolls its own back.
 * @param account who caused it; whom nobody knows is a newcomer
 * @param country ISO 3166 region, undefined for numbers without one
 * @returns the limit that is full; undefined: it may be sent
 */
export async function spendText(
  ctx: Ctx,
  { account, country }: { account: number | null; country: string | undefined },
): Promise<LimitName | undefined> {
  const newcomer = account === null || (await isNewcomer(ctx, account));
  const windows = wideWindows(limitsInForce(ctx), { country: country ?? NO_COUNTRY, newcomer });
  let limit: LimitName | undefined;
  try {
    await transaction(ctx, async (tx) => {
      limit = (await spend(tx, windows, ctx.clock.now()))?.limit;
      if (limit !== undefined) throw new Failure('throttled');
    });
  } catch (error) {
    if (limit === undefined) throw error;
  }
  return limit;
}

/** Whether an account shares a part of the wide budgets: it is younger than a day, or has proven nothing yet. */
async function isNewcomer(ctx: Ctx, account: number): Promise<boolean> {
  const row = await ctx.db.one<{ newcomer: boolean }>(sql`
    select date_joined > ${ctx.clock.now()}::timestamptz - interval '1 day'
           or (email_verified_at is null and phone_verified_at is null) as newcomer
      from account where id = ${account}`);
  return row?.newcomer ?? true;
}

/**
 * Counts one message in all these windows, or tells what is full: then the caller rolls back. A window that was full
 * before is only read, so that an attack that is refused holds up nobody who waits for the same counters.
 */
async function spend(
  ctx: Ctx,
  windows: readonly Window[],
  now: Date,
): Promise<{ limit: LimitName; seconds: number } | undefined> {
  const counts = await ctx.db.rows<{ scope: LimitName; count: number; ends_at: Date }>(sql`
    with w as (
      select * from unnest(${windows.map(({ limit }) => limit)}::text[],
                           ${windows.map(({ limit, holder }) => ctx.keys.hash('throttle', limit, holder))}::bytea[],
                           ${windows.map(({ seconds }) => seconds)}::int[], ${windows.map(({ most }) => most)}::int[])
                    as w (scope, holder, seconds, most)
    ), full_before as (
      select scope, w.most + 1 as count,
             case when b.ends_at > ${now} then b.ends_at else ${now}::timestamptz + make_interval(secs => seconds) end as ends_at
        from w left join sms_budget b using (scope, holder)
       where w.most = 0 or (b.ends_at > ${now} and b.count >= w.most)
    ), spent as (
      insert into sms_budget as b (scope, holder, ends_at, count)
      select scope, holder, ${now}::timestamptz + make_interval(secs => seconds), 1
        from w where not exists (select from full_before) order by scope, holder
      on conflict (scope, holder) do update
         set count = case when b.ends_at <= ${now} then 1 else b.count + 1 end,
             ends_at = case when b.ends_at <= ${now} then excluded.ends_at else b.ends_at end
      returning b.scope, b.count, b.ends_at
    )
    select scope, count, ends_at from full_before union all select scope, count, ends_at from spent`);
  const full = counts.filter(({ scope, count }) => count > windows.find(({ limit }) => limit === scope)!.most);
  const limit = firstNamed(full.map(({ scope }) => scope));
  if (limit === undefined) return undefined;
  const until = Math.max(...full.map(({ ends_at }) => ends_at.getTime()));
  return { limit, seconds: Math.max(1, Math.ceil((until - now.getTime()) / 1000)) };
}

/** Writes a request down, but not the last of very many refusals, nor for an account that was erased meanwhile. */
const note = (ctx: Ctx, { at, account, asked }: Noted, refusedBy: LimitName | null): Promise<number> =>
  ctx.db.run(sql`
    insert into sms_request (at, account, number, address, country, newcomer, refused_by)
    select ${at}, id, ${ctx.keys.hash('throttle', 'number', asked.number)},
           ${ctx.keys.hash('throttle', 'address', asked.address)}, ${asked.country}, ${asked.newcomer}, ${refusedBy}
      from account where id = ${account}
       and (${refusedBy}::text is null
            or (select count(*) from (select from sms_request r
                                       where r.account = ${account} and r.refused_by is not null
                                         and r.at > ${at}::timestamptz - interval '1 day' limit ${NOTED}) n) < ${NOTED})`);

/** Forgets windows that are over, and requests after eight days. */
export async function sweepBudgets(ctx: Ctx): Promise<number> {
  const now = ctx.clock.now();
  let swept = await ctx.db.run(sql`delete from sms_budget where ends_at < ${now}`);
  for (let gone = SWEPT; gone === SWEPT; swept += gone) {
    gone = await ctx.db.run(sql`
      delete from sms_request where id in (
        select id from sms_request where at < ${now}::timestamptz - make_interval(days => ${KEPT_DAYS})
         order by at limit ${SWEPT})`);
  }
  return swept;
}
