/** Companies that nobody can manage any more. */
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { MANAGING } from '../permissions.ts';

/**
 * Companies that this account owns or manages and that nobody is left to manage: neither an owner nor a colleague with
 * that right whose account is switched on and whose address is proven. An operator can name another owner.
 * @returns their ids, in order
 */
export async function unmanagedCompanies(ctx: Ctx, account: number): Promise<number[]> {
  const now = ctx.clock.now();
  const rows = await ctx.db.rows<{ id: number }>(sql`
    -- Their own alone: how many others there are must not show in the time this takes.
    with mine as (
      select id as company from company where owner = ${account}
      union
      select company from entry where account = ${account}
    ), manager as (
      select c.id as company, c.owner as account from mine join company c on c.id = mine.company where c.owner is not null
      union
      -- A right that is over holds no more, swept or not; the key without a shop is enough to let others in.
      select e.company, e.account from mine join entry e using (company)
       where ${MANAGING} = any (e.permissions)
         and (not exists (select from entry_right r where r.entry = e.id and r.permission = ${MANAGING})
              or exists (select from entry_right r where r.entry = e.id and r.permission = ${MANAGING}
                                                     and (r.until is null or r.until > ${now})))
    )
    select distinct m.company as id from manager m
     where m.account = ${account}
       and not exists (select from manager o join account a on a.id = o.account
                        where o.company = m.company and a.is_active and a.email_verified_at is not null)
     order by m.company`);
  return rows.map(({ id }) => id);
}
