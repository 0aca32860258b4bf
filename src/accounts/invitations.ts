/** Whom rights are given to: an address that somebody has proven, or an invitation that proves it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { createAccount, findByEmail } from './accounts.ts';
import { endLinks, sendLink } from './links.ts';
import { removeSecondFactor } from './second-factor.ts';
import { closeOthers } from './sessions.ts';

/** What somebody knew or had open for an account whose address they never proved is void; in the caller's transaction. */
export async function disown(ctx: Ctx, account: number, password: string | null): Promise<void> {
  await ctx.db.run(sql`update account set password = ${password} where id = ${account}`);
  await closeOthers(ctx, account);
  await endLinks(ctx, account);
  // Theirs would keep out the person whose address it is.
  await removeSecondFactor(ctx, account, true);
}

/**
 * The account of an address that is about to get rights, in the caller's transaction. Whoever registered it without
 * proving the address loses it to the person the mail reaches: anybody can register anybody's address.
 * @param company from which the invitation is, where it exists already
 * @returns the account, invited by mail unless its address is proven
 * @throws throttled when the address was mailed too often
 */
export async function accountForRights(
  ctx: Ctx,
  email: string,
  language: string,
  company?: number,
): Promise<{ id: number; email: string }> {
  const known = await findByEmail(ctx, email);
  if (known?.proven) return known;
  const id = known?.id ?? (await createAccount(ctx, { email, password: null, language_code: language }));
  if (known !== undefined && known.password !== null) await disown(ctx, id, null);
  await invite(ctx, id, language, company);
  return { id, email: known?.email ?? email };
}

/**
 * Mails an invitation; the one before it ends. Within a minute of the last one nothing is sent.
 * @throws throttled
 */
export const invite = (ctx: Ctx, account: number, language: string, company?: number): Promise<void> =>
  sendLink(ctx, {
    purpose: 'invitation',
    account,
    language,
    seconds: ctx.settings.get('INVITATION_AGE'),
    ...(company === undefined ? {} : { company }),
  });

/** Takes back an invitation that nobody accepted. */
export const endInvitation = (ctx: Ctx, account: number): Promise<number> =>
  ctx.db.run(sql`
    update mail_link set used_at = ${ctx.clock.now()} where account = ${account} and purpose = 'invitation' and used_at is null`);
