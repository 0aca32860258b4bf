/** Another e-mail address: it counts once it is proven by a link, and what the old one allowed ends there. */

import { type Account, findByEmail, foldEmail } from '../accounts/accounts.ts';
import { contactPoints } from '../accounts/contact-points.ts';
import { endLinks, openLink, sendLink, spendLink } from '../accounts/links.ts';
import { comparePassword } from '../accounts/sign-in.ts';
import { leavePoint } from '../consent/statements.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import type { Evidence } from '../platform/evidence.ts';
import { refuse } from '../platform/failure.ts';
import { languageOf } from '../platform/language.ts';
import { announceContactPoint } from '../webhooks/dispatch.ts';

/**
 * Mails a link to the new address and a notice to the old one. An address that has an account already gets no link; the
 * asker is told the same either way.
 * @throws invalid on `password`, or on `email` when it is the present one; throttled
 */
export async function requestEmailChange(ctx: Ctx, account: Account, email: string, password: string): Promise<void> {
  const { fits } = await comparePassword(ctx, account.id, password);
  if (!fits) refuse({ path: ['password'], key: 'password.wrong' });
  if (foldEmail(email) === foldEmail(account.email)) refuse({ path: ['email'], key: 'account.email_same' });
  await sendLink(ctx, {
    purpose: 'email_change',
    account: account.id,
    language: languageOf(account.language_code),
    seconds: ctx.settings.get('EMAIL_CHANGE_AGE'),
    newEmail: email,
    previousEmail: account.email,
    // Counted and replaced like any other, so that no limit tells a taken address from a free one.
    unsent: (await findByEmail(ctx, email)) !== undefined,
  });
}

/**
 * Makes a proven address the account's. Consents given under the old one end with it; the new one starts from its own
 * record.
 * @throws invalid on `token`: forged, used, over, or the address was taken meanwhile
 */
export async function confirmEmail(root: Ctx, token: string, evidence: Evidence): Promise<void> {
  const link = await openLink(root, token, 'email_change');
  if (link === undefined || link.new_email === null) refuse({ path: ['token'], key: 'link.invalid' });
  const email = link.new_email;
  await transaction(root, async (ctx) => {
    const now = ctx.clock.now();
    if (!(await spendLink(ctx, link))) refuse({ path: ['token'], key: 'link.invalid' });
    const before = await ctx.db.one<{ email_point: number }>(sql`
      select email_point from account where id = ${link.account} for no key update`);
    const [point] = await contactPoints(ctx, [{ kind: 'email', value: foldEmail(email) }], { by: 'person' });
    const old = before!.email_point;
    await leavePoint(ctx, old, { account: link.account, actor: `account:${link.account}`, evidence });
    await ctx.db.run(sql`update contact_point set retired_at = ${now} where id = ${old}`);
    await ctx.db.run(sql`update contact_point set verified_at = ${now} where id = ${point!.id}`);
    try {
      await ctx.db.run(sql`
        update account set email = ${email}, email_key = ${foldEmail(email)}, email_point = ${point!.id}, email_verified_at = ${now}, version = version + 1,
               link_generation = link_generation + 1
         where id = ${link.account}`);
    } catch (error) {
      if (violated(error) === 'account_email') refuse({ path: ['token'], key: 'account.email_taken' });
      throw error;
    }
    await announceContactPoint(ctx, [
      { account: link.account, kind: 'email', change: 'changed', contactPoint: point!.id, previous: old },
    ]);
    // A link that was mailed to the old address opens this account no more.
    await endLinks(ctx, link.account);
  });
}
