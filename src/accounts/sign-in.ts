/** Signing in and out, and changing or resetting a password. */
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail, refuse } from '../platform/failure.ts';
import { findByEmail } from './accounts.ts';
import { endLinks, openLink, sendLink, spendLink } from './links.ts';
import { hashPassword, passwordComplaints, verifyPassword } from './passwords.ts';
import { closeOthers, openSession } from './sessions.ts';

/**
 * The account of an address and a password. Unknown, invited and switched-off accounts get the same answer in the same
 * time. A hash of another system is replaced by ours on the way.
 * @throws invalid_credentials
 */
export async function checkCredentials(ctx: Ctx, email: string, password: string): Promise<number> {
  const account = await findByEmail(ctx, email);
  const { fits, renew } = await verifyPassword(account?.is_active ? account.password : null, password);
  if (!fits || account === undefined) fail('invalid_credentials');
  if (renew) {
    await ctx.db.run(sql`
      update account set password = ${await hashPassword(password)} where id = ${account.id} and password = ${account.password}`);
  }
  return account.id;
}

/** A new sign-in of the Akinon dialect: the session's cookie and a Token for clients without cookies. */
export async function startSession(ctx: Ctx, account: number): Promise<{ cookie: string; token: string }> {
  const seconds = ctx.settings.get('SESSION_AGE');
  const keys = await openSession(ctx, account, { cookie: { seconds }, token: { seconds } });
  await ctx.db.run(sql`update account set last_login = ${ctx.clock.now()} where id = ${account}`);
  return keys;
}

/**
 * Sets a new password; every other sign-in of the account ends.
 * @param old the present password; undefined after a reset link, which proves as much
 * @param keep family of the sign-in that may stay
 * @throws invalid: wrong old password, new one not good enough
 */
export async function changePassword(
  ctx: Ctx,
  account: number,
  { old, next, field, keep }: { old?: string; next: string; field: string; keep?: string },
): Promise<void> {
  const complaints = passwordComplaints(ctx, field, next);
  if (old !== undefined) {
    const row = await ctx.db.one<{ password: string | null }>(sql`select password from account where id = ${account}`);
    const { fits } = await verifyPassword(row?.password ?? null, old);
    if (!fits) complaints.unshift({ path: ['old_password'], key: 'password.wrong' });
  }
  if (complaints.length > 0) refuse(...complaints);
  const hash = await hashPassword(next);
  await transaction(ctx, async (tx) => {
    await tx.db.run(sql`update account set password = ${hash} where id = ${account}`);
    await closeOthers(tx, account, keep);
    // Whoever else knew the password may have asked for a link.
    await endLinks(tx, account);
  });
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
 * by it.
 * @throws invalid on `token`: forged, used or over; on `field`: password not good enough
 */
export async function resetPassword(ctx: Ctx, token: string, next: string, field: string): Promise<void> {
  const link = await openLink(ctx, token);
  if (link === undefined || link.purpose === 'email_change') refuse({ path: ['token'], key: 'link.invalid' });
  const complaints = passwordComplaints(ctx, field, next);
  if (complaints.length > 0) refuse(...complaints);
  const hash = await hashPassword(next);
  await transaction(ctx, async (tx) => {
    if (!(await spendLink(tx, link))) refuse({ path: ['token'], key: 'link.invalid' });
    await tx.db.run(sql`
      update account set password = ${hash}, email_verified_at = coalesce(email_verified_at, ${ctx.clock.now()}) where id = ${link.account}`);
    await closeOthers(tx, link.account);
    await endLinks(tx, link.account);
  });
}
