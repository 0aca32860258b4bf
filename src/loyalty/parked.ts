/** What could not be delivered, and what an operator decides about it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';

export interface Parked {
  readonly account: number;
  readonly reason: string | null;
  readonly attempts: number;
  /** Of the oldest change that was not delivered. */
  readonly since: string | null;
}

const LEFT =
  'the account was erased, and this provider was told of it before: erase it there by hand, then drop it here';

/**
 * Accounts that were parked, by id; also erased ones that a provider may know which is not the present one any more.
 * @param most of them, after the account `after`
 */
export async function listParked(ctx: Ctx, { most = 1000, after = 0 } = {}): Promise<Parked[]> {
  const rows = await ctx.db.rows<Omit<Parked, 'since'> & { since: Date | null }>(sql`
    (select account, reason, attempts, waiting_since as since from loyalty_member
      where status = 'parked' and account > ${after} order by account limit ${most})
    union all
    (select account, place || ': ' || ${LEFT}, 0, left_at from loyalty_left l
      where account > ${after} and not exists (select from account a where a.id = l.account)
      order by account, place limit ${most})
    order by account, attempts desc limit ${most}`);
  return rows.map((row) => ({ ...row, since: row.since?.toISOString() ?? null }));
}

const ids = (rows: readonly { account: number }[]): number[] =>
  rows.map(({ account }) => account).sort((a, b) => a - b);

/**
 * Has accounts tried again at once, with all attempts before them: those named, also when they only wait for their next
 * attempt; or all that are parked.
 * @returns those for which that was so
 */
export async function retryParked(ctx: Ctx, accounts: readonly number[] | 'all'): Promise<number[]> {
  const all = accounts === 'all';
  return ids(
    await ctx.db.rows<{ account: number }>(sql`
      with meant as (
        select account from loyalty_member
         where case when ${all} then status = 'parked'
                    else account = any (${all ? [] : accounts}::bigint[]) and status in ('parked', 'waiting') end
         order by account for update)
      update loyalty_member m set status = 'waiting', attempts = 0, next_at = ${ctx.clock.now()}
        from meant where m.account = meant.account returning m.account`),
  );
}

/**
 * Gives up the changes of accounts that are parked or wait: the provider is not told until the next one. One that was
 * erased here is taken for erased there, at former providers too; a request that may yet arrive is looked at once more.
 * @returns those for which that was so
 */
export async function dropChanges(ctx: Ctx, accounts: readonly number[]): Promise<number[]> {
  const dropped = await ctx.db.rows<{ account: number }>(sql`
    with meant as (
      select account from loyalty_member where account = any (${accounts}::bigint[]) and status in ('parked', 'waiting')
       order by account for update)
    update loyalty_member m
       set status = 'settled', waiting_since = null, attempts = 0, reason = null
      from meant where m.account = meant.account returning m.account`);
  await ctx.db.run(sql`
    delete from loyalty_member m where account = any (${ids(dropped)}::bigint[]) and status = 'settled'
       and check_at is null and not exists (select from account a where a.id = m.account)`);
  const left = await ctx.db.rows<{ account: number }>(sql`
    delete from loyalty_left l where account = any (${accounts}::bigint[])
       and not exists (select from account a where a.id = l.account) returning account`);
  return [...new Set(ids([...dropped, ...left]))];
}
