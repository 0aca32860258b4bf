/** Times in which nobody followed: what changed while no connector was set was noticed by nobody. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Provider } from './members.ts';

/** From the first to the last moment at which changes were not followed. */
export interface Gap {
  readonly from: Date;
  readonly to: Date;
}

/**
 * Whether changes may be missing at this provider: it knows accounts since before a time without a connector, and no
 * sweep that began after that has finished. By the history of the setting, which nobody can rewrite.
 */
export async function gapOf(ctx: Ctx, { id }: Provider): Promise<Gap | undefined> {
  const row = await ctx.db.one<{ from: Date | null; to: Date | null }>(sql`
    with history as (
      select coalesce(value ->> 'connector', 'none') = 'none' as off, changed_at as began,
             lead(changed_at) over (order by id) as ended
        from setting_change where name = 'CUSTOMER_LOYALTY_CARD_SERVICE')
    select min(began) as "from", max(ended) as "to" from history
     where off and ended > coalesce((select complete_from from loyalty_sweep where connector = ${id}), '-infinity')`);
  const { from, to } = row!;
  if (from === null || to === null) return undefined;
  const known = await ctx.db.one<{ known: boolean }>(sql`
    select exists (select from loyalty_member
      where connector = ${id} and delivered_sum is not null and (delivered_at is null or delivered_at < ${to})) as known`);
  return known!.known ? { from, to } : undefined;
}
