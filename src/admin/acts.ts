/**
 * What operators do with the account of somebody: switch it off and on, end its sign-ins, unlink outside identities, take
 * the second factor away, void its password, take the role of an operator. Each is one transaction under the lock of the account's row, with its line in the history; from
 * its end on no process honours what it took.
 */
import { endLinks, sendLink } from '../accounts/links.ts';
import { type Doer, recordOperatorEvent } from '../accounts/operator-events.ts';
import { holdOperators, keepOperator, stillOperator } from '../accounts/operators.ts';
import { hashPassword } from '../accounts/passwords.ts';
import { removeSecondFactor } from '../accounts/second-factor.ts';
import { closeOthers } from '../accounts/sessions.ts';
import { endPhoneChange } from '../phone/verification.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { randomKey } from '../platform/keys.ts';
import { unmanagedCompanies } from '../staff/companies/unmanaged.ts';

interface Held {
  readonly is_active: boolean;
  readonly is_operator: boolean;
  readonly has_password: boolean;
  readonly language_code: string;
}

/** The account as it is until the transaction ends. Whoever gives or ends its sign-ins, codes and links waits. @throws not_found */
const hold = async (tx: Ctx, account: number): Promise<Held> =>
  (await tx.db.one<Held>(sql`
    select is_active, is_operator, password is not null as has_password, language_code
      from account where id = ${account} for no key update`)) ?? fail('not_found');

/** Ends every sign-in, and the codes on their way to become one. @returns how many sign-ins there were */
async function endAll(tx: Ctx, account: number): Promise<number> {
  const open = await tx.db.one<{ count: number }>(sql`
    select count(distinct family)::int as count from session where account = ${account} and expires_at > ${tx.clock.now()}`);
  await closeOthers(tx, account);
  return open!.count;
}

/** Whether somebody may keep an account from acting as an operator. @throws own_account, last_operator, not_authenticated */
async function guard(tx: Ctx, account: number, { is_operator, is_active }: Held, by: Doer): Promise<void> {
  if (by.name === `operator:${account}`) fail('own_account');
  // Admitted a moment ago, they may have been switched off since by the very colleague they mean.
  await stillOperator(tx, by);
  if (is_operator && is_active) await keepOperator(tx, account);
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
    if (!active) await holdOperators(tx);
    const held = await hold(tx, account);
    const changed = held.is_active !== active;
    let ended = 0;
    if (changed && !active) {
      await guard(tx, account, held, by);
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

/**
 * Makes the password of an account worthless, whoever knows it, ends its sign-ins and mailed links, and mails a link to
 * set a new one. An account that is switched off gets no mail.
 * @returns how many sign-ins ended, and whether the mail goes out
 * @throws not_found; no_password for an account that has none
 */
export async function voidPassword(root: Ctx, account: number, by: Doer): Promise<{ ended: number; mailed: boolean }> {
  // A hash like any other, so that it is compared in the same time, of a password that nobody has ever seen.
  const hash = await hashPassword(randomKey());
  return transaction(root, async (tx) => {
    const { has_password, language_code: language } = await hold(tx, account);
    if (!has_password) fail('no_password');
    await tx.db.run(sql`update account set password = ${hash} where id = ${account}`);
    const ended = await endAll(tx, account);
    await endLinks(tx, account);
    const seconds = tx.settings.get('PASSWORD_RESET_AGE');
    const mailed = await sendLink(tx, { purpose: 'password_reset', account, language, seconds, uncounted: true });
    await recordOperatorEvent(tx, by, { kind: 'password_voided', account, detail: { sign_ins: ended, mailed } });
    return { ended, mailed };
  });
}

/**
 * Takes the role of an operator away and ends their sign-ins. The account stays.
 * @returns whether it had the role, and how many sign-ins ended
 * @throws not_found; own_account for an operator who means themselves; last_operator; not_authenticated for one who is
 *   none any more
 */
export function revokeOperator(root: Ctx, account: number, by: Doer): Promise<{ changed: boolean; ended: number }> {
  return transaction(root, async (tx) => {
    await holdOperators(tx);
    const held = await hold(tx, account);
    if (!held.is_operator) return { changed: false, ended: 0 };
    await guard(tx, account, held, by);
    await tx.db.run(sql`update account set is_operator = false where id = ${account}`);
    const ended = await endAll(tx, account);
    const detail = { before: { operator: true }, after: { operator: false }, sign_ins: ended };
    await recordOperatorEvent(tx, by, { kind: 'operator_revoked', account, detail });
    return { changed: true, ended };
  });
}
