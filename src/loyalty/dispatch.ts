/**
 * From changes to deliveries. Changes are noticed by triggers, in the customer's transaction; here they become accounts
 * that wait, and accounts that are due become jobs, a few at a time. Nothing is planned by the job queue's clock.
 */
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { enqueueAll } from '../platform/jobs.ts';
import { holdBreaker, readBreaker } from './breaker.ts';
import { configured, type Provider } from './members.ts';

/** Marks taken in one turn. */
const MOST = 5000;
/** Accounts that are planned or under way at a time: a slow provider holds up no more of the queue than this. */
const CLAIMS = 128;
/** How long a planned delivery may wait for a worker: all others may each use up the longest LOYALTY_TIMEOUT before it. */
const PATIENCE = 900_000;
/** Calls that a delivery makes at most, one after the other; one more when it asks whether the provider is back. */
const CALLS = 2;
/** What a delivery needs besides the provider's answer, in milliseconds. */
const MARGIN = 30_000;

/**
 * One of eight lanes: so many deliveries are under way at a time, so that a provider that hangs holds up some of the
 * workers and no code for a customer. By a hash (Fibonacci's), as webhooks do.
 */
const laneOf = (account: number): number => Math.imul(account, 0x9e3779b1) >>> 29;

/** Until when a delivery that begins now is the only one at its account; then its process is taken for dead. */
export const leaseFrom = (ctx: Ctx, now: Date, probe: boolean): Date =>
  new Date(now.getTime() + (CALLS + Number(probe)) * ctx.settings.get('LOYALTY_TIMEOUT') * 1000 + MARGIN);

/** Accounts with changes wait from now on. One that was parked gets a new chance: it may be what was wanted. */
const takeMarks = (ctx: Ctx, now: Date): Promise<number> =>
  ctx.db.run(sql`
    with taken as (
      delete from loyalty_mark where id in (select id from loyalty_mark order by id limit ${MOST}) returning account)
    insert into loyalty_member as m (account, status, marks, waiting_since, next_at)
    select account, 'waiting', count(*), ${now}, ${now} from taken group by account order by account
    on conflict (account) do update
       set status = 'waiting', marks = m.marks + excluded.marks, waiting_since = coalesce(m.waiting_since, ${now}),
           next_at = case m.status when 'waiting' then m.next_at else ${now} end,
           attempts = case m.status when 'waiting' then m.attempts else 0 end`);

/** Takes accounts that are due: changes first, then looks at what an earlier attempt may have left behind. */
async function claim(ctx: Ctx, now: Date, until: Date, room: number): Promise<number[]> {
  const changed = await ctx.db.rows<{ account: number }>(sql`
    with due as (
      select account from loyalty_member
       where status = 'waiting' and next_at <= ${now} and (claimed_until is null or claimed_until <= ${now})
       order by next_at limit ${room} for update skip locked)
    update loyalty_member m set claimed_until = ${until} from due where m.account = due.account returning m.account`);
  if (changed.length >= room) return changed.map(({ account }) => account);
  const doubtful = await ctx.db.rows<{ account: number }>(sql`
    with due as (
      select account from loyalty_member
       where check_at <= ${now} and status = 'settled' and (claimed_until is null or claimed_until <= ${now})
       order by check_at limit ${room - changed.length} for update skip locked)
    update loyalty_member m set claimed_until = ${until} from due where m.account = due.account returning m.account`);
  return [...changed, ...doubtful].map(({ account }) => account);
}

/** The account to ask with whether the provider is back: one that has failed least, so that no bad record decides it. */
async function claimProbe(ctx: Ctx, now: Date, until: Date): Promise<number[]> {
  const probe = await ctx.db.one<{ account: number }>(sql`
    with due as (
      select account, attempts, next_at from loyalty_member
       where status = 'waiting' and next_at <= ${now} and (claimed_until is null or claimed_until <= ${now})
       order by next_at limit 1000),
    best as (
      select account from loyalty_member where account = (select account from due order by attempts, next_at limit 1)
         for update skip locked)
    update loyalty_member m set claimed_until = ${until} from best where m.account = best.account returning m.account`);
  return probe === undefined ? claim(ctx, now, until, 1) : [probe.account];
}

async function planDue(ctx: Ctx, provider: Provider, now: Date): Promise<number> {
  const { opened_at, open_until } = await readBreaker(ctx, provider.name);
  const probe = opened_at !== null;
  if (probe && open_until !== null && open_until > now) return 0;
  const { claimed } = (await ctx.db.one<{ claimed: number }>(sql`
    select count(*) as claimed from loyalty_member where claimed_until > ${now}`))!;
  const until = new Date(now.getTime() + PATIENCE);
  const accounts = probe
    ? await claimProbe(ctx, now, until)
    : claimed < CLAIMS
      ? await claim(ctx, now, until, CLAIMS - claimed)
      : [];
  if (probe && accounts.length > 0) await holdBreaker(ctx, provider.name, until);
  await enqueueAll(
    ctx,
    'deliver_loyalty',
    // The claim by its time: whoever comes with an older one comes too late.
    accounts.map((account) => ({
      payload: { account, claim: until.getTime(), probe: Number(probe) },
      queue: `loyalty:${laneOf(account)}`,
      key: `loyalty:${account}`,
    })),
  );
  return accounts.length;
}

/**
 * Takes in what has changed and plans what is due, if no other process is at it. Call it twice a second. Without a
 * connector nothing happens: what waits, waits.
 * @returns accounts that were taken in, and deliveries that were planned
 */
export async function dispatchLoyalty(ctx: Ctx): Promise<{ noticed: number; planned: number }> {
  const provider = configured(ctx);
  const now = ctx.clock.now();
  const none = { noticed: 0, planned: 0 };
  if (provider === undefined) return none;
  const any = await ctx.db.one<{ any: boolean }>(sql`
    select exists (select from loyalty_mark)
        or exists (select from loyalty_member where status = 'waiting' and next_at <= ${now})
        or exists (select from loyalty_member where status = 'settled' and check_at <= ${now}) as any`);
  if (!any!.any) return none;
  return transaction(ctx, async (tx) => {
    const lock = await tx.db.one<{ mine: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtext('assent.loyalty')) as mine`,
    );
    if (!lock!.mine) return none;
    return { noticed: await takeMarks(tx, now), planned: await planDue(tx, provider, now) };
  });
}
