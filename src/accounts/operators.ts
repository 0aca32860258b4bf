/** That somebody is left who runs the installation, and that who acts still does. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { atTheMachine, type Doer } from './operator-events.ts';

/**
 * Lets one transaction at a time take operators or keys away: two who take each other away must not both find the other one
 * left, and nobody acts while they are taken away. Comes before `stillMay` and before any row is locked.
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
 * Operators are for operators who are signed in, and for the command line: a program that manages customers does not weaken
 * them.
 * @throws in_person for an API key
 */
export function guardOperator({ name }: Doer): void {
  if (name.startsWith('key:')) fail('in_person');
}

/**
 * Makes sure that who was admitted a moment ago may act still, and may until the transaction ends: an operator who is
 * switched on and has the role, a key that works. The command line passes. First in every transaction of an act.
 *
 * Not their row is held but what `holdOperators` takes, together with all others who act: two operators who act on each
 * other would hold the own row and wait for the other one.
 * @throws not_authenticated
 */
export async function stillMay(tx: Ctx, { name }: Doer): Promise<void> {
  if (name === atTheMachine.name) return;
  await tx.db.one(sql`select pg_advisory_xact_lock_shared(hashtext('assent.operators'))`);
  const [, kind, id] = /^(operator|key):(\d+)$/.exec(name) ?? [];
  // Another statement: it sees what those have done who were waited for.
  const still = await tx.db.one(sql`
    select from account where ${kind ?? ''} = 'operator' and id = ${id ?? 0} and is_active and is_operator
    union all
    select from api_key where ${kind ?? ''} = 'key' and id = ${id ?? 0} and revoked_at is null`);
  if (still === undefined) fail('not_authenticated');
}
