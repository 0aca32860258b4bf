/**
 * What operators do with the account of somebody: switch it off and on, end its sign-ins, unlink outside identities, take
 * the second factor away. Each is one transaction under the lock of the account's row, with its line in the history; from
 * its end on no process honours what it took.
 */
import { endLinks } from '../accounts/links.ts';
import { type Doer, recordOperatorEvent } from '../accounts/operator-events.ts';
import { removeSecondFactor } from '../accounts/second-factor.ts';
import { closeOthers } from '../accounts/sessions.ts';
import { endPhoneChange } from '../phone/verification.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { unmanagedCompanies } from '../staff/companies/unmanaged.ts';

interface Held {
  readonly is_active: boolean;
  readonly is_operator: boolean;
}

/** The account as it is until the transaction ends. Whoever gives or ends its sign-ins, codes and links waits. @throws not_found */
const hold = async (tx: Ctx, account: number): Promise<Held> =>
  (await tx.db.one<Held>(sql`select is_active, is_operator from account where id = ${account} for no key update`)) ??
  fail('not_found');

/** Ends every sign-in, and the codes on their way to become one. @returns how many sign-ins there were */
async function endAll(tx: Ctx, account: number): Promise<number> {
  const open = await tx.db.one<{ count: number }>(sql`
    select count(distinct family)::int as count from session where account = ${account} and expires_at > ${tx.clock.now()}`);
  await closeOthers(tx, account);
  return open!.count;
}

/** @throws own_account, last_operator, not_authenticated */
async function guardOff(tx: Ctx, account: number, { is_operator }: Held, by: Doer): Promise<void> {
  if (by.name === `operator:${account}`) fail('own_account');
  const doer = /^operator:(\d+)$/.exec(by.name)?.[1];
  if (doer !== undefined) {
    // Admitted a moment ago, and switched off since by the very colleague they mean.
    const still = await tx.db.one(sql`select from account where id = ${doer} and is_active and is_operator`);
    if (still === undefined) fail('not_authenticated');
  }
  if (!is_operator) return;
  const other = await tx.db.one(sql`
    select from account where is_operator and is_active and id <> ${account} limit 1`);
  if (other === undefined) fail('last_operator');
}

/**
 * Switches an account off or on. Off ends its sign-ins, tokens, codes and mailed links, so that switching on brings none of
 * them back. What is so already is left as it is, and nothing is written.
 * @returns whether it changed anything, how many sign-ins ended, and the companies of theirs that nobody can manage now
 * @throws not_found; own_account for an operator who means themselves; last_operator; not_authenticated for one who was
 *   switched off meanwhile
 */
export function switchAccount(
  root: Ctx,
  account: number,
  active: boolean,
  by: Doer,
): Promise<{ changed: boolean; ended: number; unmanaged_companies: number[] }> {
  return transaction(root, async (tx) => {
    // One at a time, before any row: two operators who switch each other off must not both find the other one left.
    if (!active) await tx.db.one(sql`select pg_advisory_xact_lock(hashtext('assent.operators'))`);
    const held = await hold(tx, account);
    const changed = held.is_active !== active;
    let ended = 0;
    if (changed && !active) {
      await guardOff(tx, account, held, by);
      ended = await endAll(tx, account);
      await endLinks(tx, account);
      await endPhoneChange(tx, [account]);
    }
    if (changed) await tx.db.run(sql`update account set is_active = ${active} where id = ${account}`);
    const unmanaged = await unmanagedCompanies(tx, account);
    if (changed)
      await recordOperatorEvent(tx, by, {
        kind: active ? 'account_on' : 'account_off',
        account,
        detail: {
          before: { active: !active },
          after: { active },
          ...(active ? {} : { sign_ins: ended, unmanaged_companies: unmanaged }),
        },
      });
    return { changed, ended, unmanaged_companies: unmanaged };
  });
}

/**
 * Ends every sign-in of an account, which may sign in again.
 * @returns how many there were; of none there is no line
 * @throws not_found
 */
export function endSignIns(root: Ctx, account: number, by: Doer): Promise<number> {
  return transaction(root, async (tx) => {
    await hold(tx, account);
    const ended = await endAll(tx, account);
    if (ended > 0) await recordOperatorEvent(tx, by, { kind: 'sign_ins_ended', account, detail: { sign_ins: ended } });
    return ended;
  });
}

/** Somebody as an outside issuer knows them, linked to an account. */
export interface OutsideIdentity {
  readonly issuer: string;
  readonly subject: string;
  readonly created_at: Date;
  readonly last_used_at: Date;
}

/** Outside identities of an account, in order of their issuers. */
export const outsideIdentities = (ctx: Ctx, account: number): Promise<OutsideIdentity[]> =>
  ctx.db.rows<OutsideIdentity>(sql`
    select issuer, subject, created_at, last_used_at from outside_identity where account = ${account} order by issuer`);

/**
 * Unlinks the identity of an issuer from an account. Every sign-in of the account ends: which of them came by it is not
 * known. As long as the issuer vouches for the address of the account, its next sign-in there links it anew.
 * @returns whether there was one
 * @throws not_found
 */
export function unlinkIdentity(root: Ctx, account: number, issuer: string, by: Doer): Promise<boolean> {
  return transaction(root, async (tx) => {
    await hold(tx, account);
    const unlinked = await tx.db.run(
      sql`delete from outside_identity where account = ${account} and issuer = ${issuer}`,
    );
    if (unlinked === 0) return false;
    const ended = await endAll(tx, account);
    await recordOperatorEvent(tx, by, {
      kind: 'identity_unlinked',
      account,
      subject: issuer,
      detail: { sign_ins: ended },
    });
    return true;
  });
}

/**
 * Takes the second factor of somebody away who lost app and recovery codes, and ends their sign-ins: whoever found the
 * phone may be in them. They are told by mail. Make sure first that it is them who ask.
 * @returns whether there was one
 * @throws not_found
 */
export function takeSecondFactor(root: Ctx, account: number, by: Doer): Promise<boolean> {
  return transaction(root, async (tx) => {
    await hold(tx, account);
    if (!(await removeSecondFactor(tx, account))) return false;
    const ended = await endAll(tx, account);
    await recordOperatorEvent(tx, by, {
      kind: 'second_factor_removed',
      account,
      detail: { before: { second_factor: true }, after: { second_factor: false }, sign_ins: ended },
    });
    return true;
  });
}
