/**
 * What operators do with the account of somebody: switch it off and on, end its sign-ins, unlink outside identities, take
 * the second factor away, void its password, take the role of an operator. Each is one transaction under the lock of the
 * account's row, with its line in the history; from its end on no process honours what it took. Each begins with `begin`,
 * so that whoever may not act any more, or not on this account, does not.
 */
import { endLinks, sendLink } from '../accounts/links.ts';
import { atTheMachine, type Doer, recordOperatorEvent } from '../accounts/operator-events.ts';
import { guardOperator, holdOperators, keepOperator, stillMay } from '../accounts/operators.ts';
import { hashPassword } from '../accounts/passwords.ts';
import { removeSecondFactor } from '../accounts/second-factor.ts';
import { closeOthers } from '../accounts/sessions.ts';
import { endPhoneChange } from '../phone/verification.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { randomKey } from '../platform/keys.ts';
import { countHit, throttled } from '../platform/throttle.ts';
import { unmanagedCompanies } from '../staff/companies/unmanaged.ts';
import { keysMadeBy, type MadeKey } from './keys.ts';

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

/**
 * The first thing of every act: who does it may still, and the account is as it is until the transaction ends.
 * @param own what an operator may do to their own account
 * @throws not_authenticated; not_found; own_account for an operator who means themselves: an open browser is not a person,
 *   and their own pages ask for the password; in_person for an API key that means an operator
 */
async function begin(tx: Ctx, account: number, by: Doer, own = false): Promise<Held> {
  await stillMay(tx, by);
  const held = await hold(tx, account);
  if (!own && by.name === `operator:${account}`) fail('own_account');
  if (held.is_operator) guardOperator(by);
  return held;
}

/**
 * Switches an account off or on. Off ends its sign-ins, tokens, codes and mailed links, so that switching on brings none of
 * them back. What is so already is left as it is, and nothing is written.
 * @returns whether it changed anything, how many sign-ins ended, the companies of theirs that nobody can manage now, and
 *   the API keys they made, which go on working
 * @throws what `begin` does; last_operator
 */
export function switchAccount(
  root: Ctx,
  account: number,
  active: boolean,
  by: Doer,
): Promise<{ changed: boolean; ended: number; unmanaged_companies: number[]; keys_made: MadeKey[] }> {
  return transaction(root, async (tx) => {
    if (!active) await holdOperators(tx);
    const held = await begin(tx, account, by);
    const changed = held.is_active !== active;
    let ended = 0;
    if (changed && !active) {
      if (held.is_operator) await keepOperator(tx, account);
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
    return { changed, ended, unmanaged_companies: unmanaged, keys_made: await keysMadeBy(tx, account) };
  });
}

/**
 * Ends every sign-in of an account, which may sign in again.
 * @returns how many there were; of none there is no line
 * @throws what `begin` does, but nobody is kept from ending their own
 */
export function endSignIns(root: Ctx, account: number, by: Doer): Promise<number> {
  return transaction(root, async (tx) => {
    await begin(tx, account, by, true);
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
 * @throws what `begin` does
 */
export function unlinkIdentity(root: Ctx, account: number, issuer: string, by: Doer): Promise<boolean> {
  return transaction(root, async (tx) => {
    await begin(tx, account, by);
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
 * @throws what `begin` does
 */
export function takeSecondFactor(root: Ctx, account: number, by: Doer): Promise<boolean> {
  return transaction(root, async (tx) => {
    await begin(tx, account, by);
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

/** Passwords of one account that are made void by calls: each costs a hash and mails a link. */
const VOIDED = { name: 'password-voided', count: 5, duration: 3600 };

/**
 * Makes the password of an account worthless, whoever knows it, ends its sign-ins and mailed links, and mails a link to
 * set a new one. An account that is switched off gets no mail.
 * @returns how many sign-ins ended, and whether the mail goes out
 * @throws what `begin` does; no_password for an account that has none; throttled after five within the hour, but not at the
 *   command line
 */
export async function voidPassword(root: Ctx, account: number, by: Doer): Promise<{ ended: number; mailed: boolean }> {
  const start = async (tx: Ctx): Promise<Held> => {
    const held = await begin(tx, account, by);
    return held.has_password ? held : fail('no_password');
  };
  // Before the hash, which costs, and before the count, which whoever is refused must not fill.
  await transaction(root, start);
  if (by.name !== atTheMachine.name) {
    const { over, resetSeconds } = await countHit(root, VOIDED.name, String(account), VOIDED);
    if (over) throw throttled(resetSeconds);
  }
  // A hash like any other, so that it is compared in the same time, of a password that nobody has ever seen.
  const hash = await hashPassword(randomKey());
  return transaction(root, async (tx) => {
    const { language_code: language } = await start(tx);
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
 * Takes the role of an operator away and ends their sign-ins. The account stays, and so do the API keys they made.
 * @returns whether it had the role, how many sign-ins ended, and those keys
 * @throws what `begin` does; last_operator
 */
export function revokeOperator(
  root: Ctx,
  account: number,
  by: Doer,
): Promise<{ changed: boolean; ended: number; keys_made: MadeKey[] }> {
  return transaction(root, async (tx) => {
    await holdOperators(tx);
    const held = await begin(tx, account, by);
    const keys_made = await keysMadeBy(tx, account);
    if (!held.is_operator) return { changed: false, ended: 0, keys_made };
    if (held.is_active) await keepOperator(tx, account);
    await tx.db.run(sql`update account set is_operator = false where id = ${account}`);
    const ended = await endAll(tx, account);
    const detail = { before: { operator: true }, after: { operator: false }, sign_ins: ended };
    await recordOperatorEvent(tx, by, { kind: 'operator_revoked', account, detail });
    return { changed: true, ended, keys_made };
  });
}
