/** Whom rights are given to: an address that somebody has proven, or an invitation that proves it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { createAccount, findByEmail } from './accounts.ts';
import { endLinks, sendLink } from './links.ts';
import { closeOthers } from './sessions.ts';

const INVITATION_SECONDS = 7 * 86_400;

/** What somebody knew or had open for an account whose address they never proved is void; in the caller's transaction. */
export async function disown(ctx: Ctx, account: number, password: string | null): Promise<void> {
  await ctx.db.run(sql`update account set password = ${password} where id = ${account}`);
  await closeOthers(ctx, account);
  await endLinks(ctx, account);
}

/**
 * The account of an address that is about to get rights, in the caller's transaction. Whoever registered it without
 * proving the address loses it to the person the mail reaches: anybody can register anybody's address.
 * @returns the account, invited by mail unless its address is proven
 */
export async function accountForRights(
  ctx: Ctx,
  email: string,
  language: string,
): Promise<{ id: number; email: string }> {
  const known = await findByEmail(ctx, email);
  if (known?.proven) return known;
  const id = known?.id ?? (await createAccount(ctx, { email, password: null, language_code: language }));
  if (known !== undefined && known.password !== null) await disown(ctx, id, null);
  await sendLink(ctx, { purpose: 'invitation', account: id, language, seconds: INVITATION_SECONDS });
  return { id, email: known?.email ?? email };
}
