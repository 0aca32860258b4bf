/** Signing in and out, and changing or resetting a password. */
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail, refuse } from '../platform/failure.ts';
import { countHit, forgetHits, returnHit, throttled } from '../platform/throttle.ts';
import { findByEmail, foldEmail } from './accounts.ts';
import type { Holder } from './known-devices.ts';
import { endLinks, openLink, sendLink, spendLink } from './links.ts';
import { hashPassword, passwordComplaints, verifyPassword } from './passwords.ts';
import { failCode, takeCode } from './second-factor.ts';
import { closeOthers, openSession } from './sessions.ts';

/** Wrong passwords for one address, whichever door they came through and whoever tried, but for browsers known to it. */
const FAILED = { name: 'failed-sign-in', count: 100, duration: 3600 };

/** Wrong passwords of one known browser: what somebody gets who steals its cookie. */
const FAILED_ON_DEVICE = { name: 'failed-on-device', count: 20, duration: 3600 };

/** Wrong passwords of whoever is signed in, each account by itself: nobody from outside can fill this one. */
const WRONG = { count: 20, duration: 3600 };

/** That somebody knew the password of an account: true as long as the account still has the hash it was compared with. */
export interface Proof {
  readonly id: number;
  /** Null where an outside issuer said who it is, and no password was asked for. */
  readonly hash: string | null;
  /** They have shown the second factor too. */
  readonly secondFactor: boolean;
}

/**
 * The account of an address and a password, and of a code where the account has a second factor. Unknown, invited and
 * switched-off accounts get the same answer in the same time; only a right password hears of the code. Hand the proof to
 * `signInBy`: the password may change while it is being compared.
 * @param code of the authenticator app, or a recovery code; without a second factor it is not looked at
 * @param device by `knownDevice`, where a browser asks
 * @throws invalid_credentials, second_factor_needed, second_factor_wrong; throttled after too many wrong passwords for the
 *   address, and of the device where it is known, or codes for the account
 */
export async function checkCredentials(
  ctx: Ctx,
  email: string,
  password: string,
  { code, device }: { code?: string | undefined; device?: string | undefined } = {},
): Promise<Proof> {
  const proof = await checkPassword(ctx, email, password, device);
  if (!proof.owes) return proof;
  if (code === undefined || code.trim() === '') failCode('second_factor_needed');
  await takeCode(ctx, proof.id, code);
  return { ...proof, secondFactor: true };
}

/**
 * The first half of `checkCredentials`. A hash of another system is replaced by ours on the way.
 * @param device by `knownDevice`: it is counted instead of the address, which counts again once the device is full. Whoever
 *   has the cookie can leave it out as well, and its owner is never worse off with it than without
 * @returns a proof that signs nobody in while a second factor is owed
 * @throws invalid_credentials; throttled
 */
export async function checkPassword(
  ctx: Ctx,
  email: string,
  password: string,
  device?: string,
): Promise<Proof & { owes: boolean }> {
  const address = foldEmail(email);
  // Counted before it is compared, so that guesses made all at once are no more than guesses made in turn.
  const own = device === undefined ? undefined : await countHit(ctx, FAILED_ON_DEVICE.name, device, FAILED_ON_DEVICE);
  const known = own?.over === false;
  if (!known) {
    const { over, resetSeconds } = await countHit(ctx, FAILED.name, address, FAILED);
    if (over) throw throttled(Math.min(resetSeconds, own?.resetSeconds ?? resetSeconds));
  }
  const proof = await prove(ctx, email, password);
  // Of a device its own only: whoever has a copy of the cookie gets no new guesses by the sign-ins of its owner.
  if (known) await returnHit(ctx, FAILED_ON_DEVICE.name, device!);
  else await forgetHits(ctx, FAILED.name, address);
  return proof;
}

async function prove(ctx: Ctx, email: string, password: string): Promise<Proof & { owes: boolean }> {
  const account = await findByEmail(ctx, email);
  const { fits, renew } = await verifyPassword(account?.is_active ? account.password : null, password);
  if (!fits || account === undefined || account.password === null) fail('invalid_credentials');
  const proof = { id: account.id, secondFactor: false, owes: account.second_factor };
  if (!renew) return { ...proof, hash: account.password };
  const hash = await hashPassword(password);
  const renewed = await ctx.db.run(sql`
    update account set password = ${hash} where id = ${account.id} and password = ${account.password}`);
  // Another sign-in renewed it first, or it was changed: what counts is what is stored now.
  return renewed === 1 ? { ...proof, hash } : prove(ctx, email, password);
}

/**
 * Compares the password of an account that is signed in: a found browser or a stolen key is not a person.
 * @returns the hash it was compared with, and whether it fits
 * @throws throttled after twenty wrong ones in an hour
 */
export async function comparePassword(
  ctx: Ctx,
  account: number,
  password: string,
): Promise<{ hash: string | null; fits: boolean }> {
  const { over, resetSeconds } = await countHit(ctx, 'wrong-password', String(account), WRONG);
  if (over) throw throttled(resetSeconds);
  const row = await ctx.db.one<{ password: string | null }>(sql`select password from account where id = ${account}`);
  const hash = row?.password ?? null;
  const { fits } = await verifyPassword(hash, password);
  // Its own only: a change made again and again by its owner is no guess, and opens no room for guesses.
  if (fits) await returnHit(ctx, 'wrong-password', String(account));
  return { hash, fits };
}

/**
 * Does what a proof entitles to, in one transaction that holds the account's row: a new password either comes later and
 * ends what was done here, or came first and nothing is done.
 * @throws invalid_credentials when the password was changed, or the account switched off, since it was compared;
 *   second_factor_needed when the account has one that was not shown
 */
export function signInBy<T>(ctx: Ctx, { id, hash, secondFactor }: Proof, work: (tx: Ctx) => Promise<T>): Promise<T> {
  return transaction(ctx, async (tx) => {
    const held = await tx.db.one<{ second_factor: boolean }>(sql`
      select second_factor from account
       where id = ${id} and (${hash === null} or password = ${hash}) and is_active for no key update`);
    if (held === undefined) fail('invalid_credentials');
    // Here and not only where codes are checked: no door can forget it, and it may have been switched on a moment ago.
    if (held.second_factor && !secondFactor) failCode('second_factor_needed');
    return work(tx);
  });
}

/** What the answer to a new sign-in of a browser is made of. */
export interface Opened {
  /** Key of the session. */
  readonly cookie: string;
  /** For clients of the Akinon dialect without cookies. */
  readonly token: string;
  /** Whom the browser is known to from now on. */
  readonly holder: Holder;
}

/** A new sign-in of a browser; in the transaction of `signInBy`. */
export async function startSession(ctx: Ctx, account: number, userAgent: string | undefined): Promise<Opened> {
  const seconds = ctx.settings.get('SESSION_AGE');
  const keys = await openSession(ctx, account, { cookie: { seconds }, token: { seconds } }, { userAgent });
  const holder = await ctx.db.one<Holder>(sql`
    update account set last_login = ${ctx.clock.now()} where id = ${account} returning id, password`);
  return { ...keys, holder: holder! };
}

/**
 * Sets a new password; every sign-in of the account ends.
 * @param old the present password; undefined where it was just proven
 * @param family of the sign-in that asks: one that has ended meanwhile changes nothing
 * @returns hash of the new password, for `signInBy`
 * @throws invalid: wrong old password, new one not good enough; not_authenticated; throttled
 */
export async function changePassword(
  ctx: Ctx,
  account: number,
  { old, next, field, family }: { old?: string; next: string; field: string; family?: string },
): Promise<string> {
  const complaints = passwordComplaints(ctx, field, next);
  let verified: string | null = null;
  if (old !== undefined) {
    const { hash, fits } = await comparePassword(ctx, account, old);
    verified = hash;
    if (!fits) complaints.unshift({ path: ['old_password'], key: 'password.wrong' });
  }
  if (complaints.length > 0) refuse(...complaints);
  const hash = await hashPassword(next);
  await transaction(ctx, async (tx) => {
    // The row first: a sign-in with the old password waits for it, and then finds it changed.
    const changed = await tx.db.run(sql`
      update account set password = ${hash}
       where id = ${account} and (${old === undefined} or password is not distinct from ${verified})`);
    if (changed === 0) refuse({ path: ['old_password'], key: 'password.wrong' });
    const ended =
      family !== undefined &&
      (await tx.db.one(sql`select from session where family = ${family} and account = ${account} limit 1`)) ===
        undefined;
    if (ended) fail('not_authenticated');
    await closeOthers(tx, account);
    // Whoever else knew the password may have asked for a link.
    await endLinks(tx, account);
  });
  return hash;
}

/** Mails a reset link, if the address has an account. The answer never says which. */
export async function requestReset(ctx: Ctx, email: string): Promise<void> {
  const account = await findByEmail(ctx, email);
  if (account === undefined || !account.is_active) return;
  await sendLink(ctx, {
    purpose: 'password_reset',
    account: account.id,
    language: account.language_code,
    seconds: ctx.settings.get('PASSWORD_RESET_AGE'),
  });
}

/**
 * Sets a password by a mailed link: a reset, or the acceptance of an invitation. Proves the address, as the link came
 * by it, and so ends the count of wrong passwords for it.
 * @returns whom the browser that had the link may be known to
 * @throws invalid on `token`: forged, used or over; on `field`: password not good enough
 */
export async function resetPassword(ctx: Ctx, token: string, next: string, field: string): Promise<Holder> {
  const link = await openLink(ctx, token);
  if (link === undefined || link.purpose === 'email_change') refuse({ path: ['token'], key: 'link.invalid' });
  const complaints = passwordComplaints(ctx, field, next);
  if (complaints.length > 0) refuse(...complaints);
  const hash = await hashPassword(next);
  const address = await transaction(ctx, async (tx) => {
    if (!(await spendLink(tx, link))) refuse({ path: ['token'], key: 'link.invalid' });
    const account = await tx.db.one<{ email_key: string }>(sql`
      update account set password = ${hash}, email_verified_at = coalesce(email_verified_at, ${ctx.clock.now()}) where id = ${link.account}
      returning email_key`);
    await closeOthers(tx, link.account);
    await endLinks(tx, link.account);
    return account!.email_key;
  });
  await forgetHits(ctx, FAILED.name, address);
  return { id: link.account, password: hash };
}
