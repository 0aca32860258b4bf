/**
 * The circuit breaker of a connector, shared by all processes: a provider that is down is left alone, and asked now and
 * then by one delivery at a time whether it is back.
 */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';

/** Statuses that are about the provider and not about an account: it lets nobody in, is busy or down. */
export const aboutEverybody: ReadonlySet<number> = new Set([401, 403, 429, 502, 503, 504]);

/** Failures in a row that open it. */
const FAILURES = 5;
/** Of so many accounts, where a failure may be about one account alone. */
const ACCOUNTS = 3;
/** Seconds it stays open at first, and at most: each probe that fails doubles them. */
const FIRST = 15;
const LONGEST = 300;

export interface Breaker {
  readonly failures: number;
  readonly accounts: readonly number[];
  /** Null: closed. */
  readonly opened_at: Date | null;
  readonly open_until: Date | null;
  readonly reason: string | null;
}

export interface Trouble {
  readonly account: number;
  readonly reason: string;
  /** The provider said, or it is plain, that it is about everybody: not reached, not let in, too many calls. */
  readonly wide: boolean;
  /** It was the one delivery that asks whether the provider is back. */
  readonly probe: boolean;
  /** Seconds the provider asks us to wait. */
  readonly after?: number | undefined;
}

/** What becomes of it after a failure. Those that were under way when it opened tell nothing new. */
export function afterFailure(breaker: Breaker, trouble: Trouble, now: Date): Breaker {
  const { account, reason, wide, probe, after = 0 } = trouble;
  const { opened_at } = breaker;
  if (opened_at !== null && !probe) return breaker;
  const failures = breaker.failures + 1;
  const accounts = [...new Set([...breaker.accounts, account])].slice(0, ACCOUNTS);
  const opens = opened_at !== null || (failures >= FAILURES && (wide || accounts.length === ACCOUNTS));
  if (!opens) return { failures, accounts, opened_at: null, open_until: null, reason };
  // Counted from the opening on: the exponent of the wait.
  const counted = opened_at === null ? FAILURES : Math.min(failures, FAILURES + 20);
  const wait = Math.max(after, Math.min(LONGEST, FIRST * 2 ** (counted - FAILURES)));
  const open_until = new Date(now.getTime() + wait * 1000);
  return { failures: counted, accounts, opened_at: opened_at ?? now, open_until, reason };
}

const closed: Breaker = { failures: 0, accounts: [], opened_at: null, open_until: null, reason: null };

/** How it stands. */
export const readBreaker = async (ctx: Ctx, connector: string): Promise<Breaker> =>
  (await ctx.db.one<Breaker>(sql`
    select failures, accounts, opened_at, open_until, reason from loyalty_breaker where connector = ${connector}`)) ??
  closed;

/** A provider that answers is there: closes the breaker. */
export async function closeBreaker(ctx: Ctx, connector: string): Promise<void> {
  await ctx.db.run(sql`
    update loyalty_breaker set failures = 0, accounts = '{}', opened_at = null, open_until = null, reason = null
     where connector = ${connector} and failures > 0`);
}

/** Counts a failure. Call it in a transaction. @returns until when nobody asks; null: it is closed */
export async function countFailure(ctx: Ctx, connector: string, trouble: Trouble): Promise<Date | null> {
  await ctx.db.run(sql`insert into loyalty_breaker (connector) values (${connector}) on conflict do nothing`);
  const before = await ctx.db.one<Breaker>(sql`
    select failures, accounts, opened_at, open_until, reason from loyalty_breaker where connector = ${connector} for update`);
  const after = afterFailure(before!, trouble, ctx.clock.now());
  if (after !== before)
    await ctx.db.run(sql`
      update loyalty_breaker
         set failures = ${after.failures}, accounts = ${after.accounts}::bigint[], opened_at = ${after.opened_at},
             open_until = ${after.open_until}, reason = ${after.reason}
       where connector = ${connector}`);
  return after.opened_at === null ? null : after.open_until;
}

/** An open breaker lets nobody ask until then: while a probe is under way, or from now on when none came to be. */
export async function holdBreaker(ctx: Ctx, connector: string, until: Date): Promise<void> {
  await ctx.db.run(sql`
    update loyalty_breaker set open_until = ${until} where connector = ${connector} and opened_at is not null`);
}
