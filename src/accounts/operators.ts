/** That somebody is left who runs the installation, and that who acts still does. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import type { Doer } from './operator-events.ts';

/**
 * Lets one transaction at a time take operators away: two who take each other away must not both find the other one left.
 * Comes before any row is locked.
 */
export const holdOperators = (tx: Ctx): Promise<unknown> =>
  tx.db.one(sql`select pg_advisory_xact_lock(hashtext('assent.operators'))`);

/** Makes sure that somebody else can sign in as an operator; after `holdOperators`. @throws last_operator */
export async function keepOperator(tx: Ctx, account: number): Promise<void> {
  const other = await tx.db.one(sql`
    select from account where is_operator and is_active and id <> ${account} limit 1`);
  if (other === undefined) fail('last_operator');
}

/**
 * Makes sure that an operator who was admitted a moment ago is one still, and is one until the transaction ends. Programs
 * and commands pass.
 * @throws not_authenticated
 */
export async function stillOperator(tx: Ctx, { name }: Doer): Promise<void> {
  const doer = /^operator:(\d+)$/.exec(name)?.[1];
  if (doer === undefined) return;
  const still = await tx.db.one(sql`select from account where id = ${doer} and is_active and is_operator for share`);
  if (still === undefined) fail('not_authenticated');
}
