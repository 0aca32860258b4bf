/** Whom rights are given to: an address that somebody has proven, or an invitation that proves it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { createAccount, foldEmail } from './accounts.ts';
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

/** An account that rights are given to. */
export interface Entitled {
  readonly id: number;
  readonly email: string;
  /** It can use them: switched on, and the address is proven. */
  readonly acts: boolean;
  /** A mail with a link goes out. */
  readonly invited: boolean;
}

/**
 * The account of an address that is about to get rights, in the caller's transaction. Whoever registered it without
 * proving the address loses it to the person the mail reaches: anybody can register anybody's address.
 * @param company from which the invitation is, where it exists already
 * @returns the account, invited by mail unless its address is proven, or it is switched off
 * @throws throttled when the address was mailed too often; invalid when it became somebody's meanwhile, see `againIfTaken`
 */
export async function accountForRights(ctx: Ctx, email: string, language: string, company?: number): Promise<Entitled> {
  // Locked, so that nobody proves or erases it before the rights are there.
  const known = await ctx.db.one<
    Omit<Entitled, 'invited'> & { password: string | null; off: boolean; proven: boolean }
  >(sql`
    select id, email, password, not is_active as off, email_verified_at is not null as proven,
           is_active and email_verified_at is not null as acts
      from account where email_key = ${foldEmail(email)} for no key update`);
  const id = known?.id ?? (await createAccount(ctx, { email, password: null, language_code: language }));
  const invited = known === undefined || !(known.proven || known.off);
  if (known !== undefined && !known.proven && known.password !== null) await disown(ctx, id, null);
  // Nobody is called to an account that is switched off.
  if (invited) await invite(ctx, id, language, company);
  return { id, email: known?.email ?? email, acts: known?.acts ?? false, invited };
}

/**
 * Runs a verb that calls `accountForRights`, and once more when the address became somebody's between the look and the
 * account: another company invited it, or its owner registered. Not within a transaction: that one is lost.
 */
export const againIfTaken = <T>(ctx: Ctx, verb: (ctx: Ctx) => Promise<T>): Promise<T> =>
  verb(ctx).catch((error: unknown) => {
    const taken = error instanceof Failure && error.complaints.some(({ key }) => key === 'account.email_taken');
    if (!taken || ctx.db.inTransaction) throw error;
    return verb(ctx);
  });

/**
 * Mails an invitation; the one before it ends. Within a minute of the last one nothing is sent.
 * @throws throttled
 */
export const invite = (ctx: Ctx, account: number, language: string, company?: number): Promise<boolean> =>
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
