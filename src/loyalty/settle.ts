/** What came of a delivery, and what becomes of the account then: decided by a pure function, written in one transaction. */
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { closeBreaker, countFailure, holdBreaker } from './breaker.ts';
import type { Provider } from './members.ts';

/** Seconds until the next attempt, after each failure; the last for all further ones. */
const schedule: readonly number[] = [5, 15, 60, 300, 900, 3600];
/** A tenth more or less, so that what failed together does not come back together. */
const jitter = (seconds: number): number => seconds * (0.9 + Math.random() / 5);
/** How long a request without an answer may still arrive at the provider, in milliseconds. */
export const LATE = 60_000;

/** An account at which a job is. */
export interface Work {
  readonly provider: Provider;
  readonly account: number;
  /** The claim it holds: its end. */
  readonly claim: Date;
  readonly probe: boolean;
  readonly begun: Date;
  readonly status: 'waiting' | 'parked' | 'settled';
  /** As far as changes were noticed when it began. */
  readonly marks: number;
  readonly attempts: number;
  readonly request_key: string | null;
  readonly request_sum: Buffer | null;
  readonly request_sequence: number | null;
  readonly check_at: Date | null;
  readonly connector: string | null;
  readonly delivered_sum: Buffer | null;
}

/** The provider did not do what it was asked, this time. */
export interface Again {
  readonly kind: 'again';
  readonly reason: string;
  /** Seconds it asks us to wait. */
  readonly after?: number | undefined;
  /** `all`: it is down or lets nobody in; `any`: perhaps, or it is this account; `one`: it is there, and this account waits. */
  readonly about: 'all' | 'any' | 'one';
  /** It may have done it all the same, and may yet. */
  readonly doubtful: boolean;
  /** An attempt of this account, although nobody knows whether the provider is there. */
  readonly counts?: boolean;
}

export type Outcome =
  | { readonly kind: 'delivered'; readonly sum: Buffer }
  /** The provider has it already, so it was not asked. */
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'forgotten' }
  /** The account is gone, and the provider never heard of it. */
  | { readonly kind: 'nobody' }
  | { readonly kind: 'refused'; readonly reason: string /** It was asked. */; readonly asked: boolean }
  | Again
  /** It was asked what it has: the truth; something else; no answer that says. */
  | { readonly kind: 'equal' }
  | { readonly kind: 'differs'; readonly asked: boolean }
  | { readonly kind: 'unclear'; readonly again: Again };

interface Now {
  readonly status: Work['status'];
  readonly marks: number;
  readonly waiting_since: Date | null;
  readonly claimed_until: Date | null;
}

interface Next {
  readonly status: Work['status'];
  readonly waiting_since: Date | null;
  readonly next_at: Date;
  readonly attempts: number;
  readonly reason: string | null;
  /** The request's fate is still unknown. */
  readonly keep: boolean;
  readonly check_at: Date | null;
}

interface Circumstances {
  readonly now: Date;
  /** Until when the breaker is open; null: closed. */
  readonly open: Date | null;
  /** LOYALTY_ATTEMPTS */
  readonly limit: number;
}

const later = (now: Date, seconds: number): Date => new Date(now.getTime() + seconds * 1000);

/** Once more, or parked: attempts count while others get through, or the provider is known to be there. */
function afterAgain(work: Work, row: Now, again: Again, { now, open, limit }: Circumstances): Next {
  const counts = again.counts === true || (again.about !== 'all' && open === null);
  const attempts = work.attempts + (counts ? 1 : 0);
  const planned = later(now, again.after ?? jitter(schedule[Math.min(work.attempts, schedule.length - 1)]!));
  const parked = counts && attempts >= limit;
  return {
    // Dropped meanwhile: then it stays so.
    status: row.status === 'waiting' && parked ? 'parked' : row.status,
    waiting_since: row.waiting_since,
    next_at: open !== null && open > planned ? open : planned,
    attempts,
    reason: again.reason,
    keep: true,
    // Also of one that was dropped: what may yet arrive is looked at.
    check_at: again.doubtful ? later(now, LATE / 1000) : work.check_at,
  };
}

/** What becomes of the account. @param marks that this delivery spoke for; undefined return: the row goes */
function decide(work: Work, row: Now, outcome: Outcome, marks: number, circumstances: Circumstances): Next | undefined {
  const { now, limit } = circumstances;
  const calm = { next_at: now, attempts: 0, reason: null, keep: false, check_at: work.check_at };
  const waits = { ...calm, status: 'waiting', waiting_since: row.waiting_since ?? work.begun } as const;
  const settled = { ...calm, status: 'settled', waiting_since: null } as const;
  const grew = row.status === 'waiting' && row.marks !== marks;
  switch (outcome.kind) {
    case 'delivered':
    case 'unchanged':
      // What came meanwhile waits since then.
      return grew ? { ...waits, waiting_since: work.begun } : settled;
    case 'forgotten':
      // A request of before may bring it back: then it is forgotten again.
      return work.check_at === null ? undefined : settled;
    case 'nobody':
      return undefined;
    case 'refused':
      if (grew) return waits;
      return {
        ...calm,
        status: row.status === 'waiting' ? 'parked' : row.status,
        waiting_since: row.waiting_since,
        attempts: work.attempts + (outcome.asked ? 1 : 0),
        reason: outcome.reason,
      };
    case 'again':
      return afterAgain(work, row, outcome, circumstances);
    case 'equal':
      return { ...(row.status === 'waiting' ? waits : settled), check_at: null };
    case 'differs':
      return { ...waits, check_at: null };
    case 'unclear': {
      const next = afterAgain(work, row, outcome.again, circumstances);
      // It cannot be asked: telling it again is right in any case.
      if (next.attempts >= limit) return { ...waits, check_at: null };
      return { ...next, next_at: row.status === 'waiting' ? now : next.next_at, keep: false, check_at: next.next_at };
    }
  }
}

/** What the breaker learns. @returns until when it is open; null: closed */
async function tellBreaker(ctx: Ctx, work: Work, outcome: Outcome): Promise<Date | null> {
  const { provider, account, probe } = work;
  const again = outcome.kind === 'again' ? outcome : outcome.kind === 'unclear' ? outcome.again : undefined;
  if (again !== undefined && again.about !== 'one') {
    const { reason, after } = again;
    return countFailure(ctx, provider.name, { account, reason, wide: again.about === 'all', probe, after });
  }
  const asked =
    again === undefined &&
    outcome.kind !== 'unchanged' &&
    outcome.kind !== 'nobody' &&
    (!('asked' in outcome) || outcome.asked);
  if (asked) await closeBreaker(ctx, provider.name);
  // It taught nothing: the next one may ask at once.
  else if (probe) await holdBreaker(ctx, provider.name, ctx.clock.now());
  return null;
}

/** Outcomes as they are counted. */
const counted = (outcome: Outcome): string | undefined =>
  outcome.kind === 'unclear' ? 'again' : ['unchanged', 'nobody'].includes(outcome.kind) ? undefined : outcome.kind;

/**
 * Writes down what came of it. Locks in the order member, breaker, counter, as all do. A job that lost its claim changes
 * nothing of the account: whoever has it now knows, by `check_at`, that another request is on its way.
 * @param marks that were delivered
 */
export function settle(ctx: Ctx, work: Work, outcome: Outcome, marks = work.marks): Promise<void> {
  const { provider, account, claim } = work;
  return transaction(ctx, async (tx) => {
    const row = await tx.db.one<Now>(sql`
      select status, marks, waiting_since, claimed_until from loyalty_member where account = ${account} for update`);
    const open = await tellBreaker(tx, work, outcome);
    if (row !== undefined && row.claimed_until?.getTime() === claim.getTime()) {
      const limit = tx.settings.get('LOYALTY_ATTEMPTS');
      await write(tx, account, decide(work, row, outcome, marks, { now: tx.clock.now(), open, limit }), outcome);
    }
    const name = counted(outcome);
    if (name !== undefined)
      await tx.db.run(sql`
        insert into loyalty_attempt as a (connector, outcome, count) values (${provider.name}, ${name}, 1)
        on conflict (connector, outcome) do update set count = a.count + 1`);
  });
}

async function write(ctx: Ctx, account: number, next: Next | undefined, outcome: Outcome): Promise<void> {
  if (next === undefined) {
    await ctx.db.run(sql`delete from loyalty_member where account = ${account}`);
    return;
  }
  const sum = outcome.kind === 'delivered' ? outcome.sum : null;
  const unknown = outcome.kind === 'differs';
  await ctx.db.run(sql`
    update loyalty_member
       set status = ${next.status}, waiting_since = ${next.waiting_since}, next_at = ${next.next_at}, claimed_until = null,
           attempts = ${next.attempts}, reason = ${next.reason}, check_at = ${next.check_at},
           request_key = case when ${next.keep} then request_key end,
           request_sum = case when ${next.keep} then request_sum end,
           request_sequence = case when ${next.keep} then request_sequence end,
           delivered_sum = case when ${unknown} or not exists (select from account a where a.id = ${account}) then null
                                else coalesce(${sum}, delivered_sum) end,
           delivered_at = case when ${sum}::bytea is null then delivered_at else ${ctx.clock.now()} end
     where account = ${account}`);
}
