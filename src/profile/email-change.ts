/** Another e-mail address: it counts once it is proven by a link, and what the old one allowed ends there. */
import { type Account, foldEmail } from '../accounts/accounts.ts';
import { type ContactPoint, contactPoints } from '../accounts/contact-points.ts';
import { endLinks, openLink, sendLink, spendLink } from '../accounts/links.ts';
import { languageOf } from '../accounts/mails.ts';
import { verifyPassword } from '../accounts/passwords.ts';
import { channels } from '../consent/channels.ts';
import { type Draft, type Evidence, record } from '../consent/ledger.ts';
import { decideLeaving, type State } from '../consent/rules.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';

/**
 * Mails a link to the new address and a notice to the old one. An address that has an account already gets no link; the
 * asker is told the same either way.
 * @throws invalid on `password`, or on `email` when it is the present one
 */
export async function requestEmailChange(ctx: Ctx, account: Account, email: string, password: string): Promise<void> {
  const stored = await ctx.db.one<{ password: string | null; taken: boolean }>(sql`
    select password, exists (select from account o where o.email_key = ${foldEmail(email)}) as taken from account where id = ${account.id}`);
  const { fits } = await verifyPassword(stored?.password ?? null, password);
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
    unsent: stored!.taken,
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
    const [old] = await ctx.db.rows<ContactPoint>(sql`
      select id, kind, encode(address_hash, 'hex') as address_hash from contact_point where id = ${before!.email_point} for no key update`);
    const [point] = await contactPoints(ctx, [{ kind: 'email', value: foldEmail(email) }]);
    const standings = await ctx.db.rows<{ channel: string; state: State; since: Date }>(sql`
      select channel, state, since from consent_state where contact_point = ${old!.id} and purpose = 'marketing'`);
    const drafts = channels
      .filter(({ kind }) => kind === 'email')
      .flatMap(({ name }): Draft[] => {
        const edge = decideLeaving(
          standings.find(({ channel }) => channel === name),
          now,
        );
        if (edge === undefined) return [];
        const { account } = link;
        return [
          {
            point: old!,
            account,
            channel: name,
            purpose: 'marketing',
            edge,
            source: 'account',
            actor: `account:${account}`,
            evidence,
          },
        ];
      });
    await record(ctx, drafts);
    await ctx.db.run(sql`update contact_point set retired_at = ${now} where id = ${old!.id}`);
    await ctx.db.run(sql`update contact_point set verified_at = ${now} where id = ${point!.id}`);
    try {
      await ctx.db.run(sql`
        update account set email = ${email}, email_key = ${foldEmail(email)}, email_point = ${point!.id}, email_verified_at = ${now}, version = version + 1
         where id = ${link.account}`);
    } catch (error) {
      if (violated(error) === 'account_email') refuse({ path: ['token'], key: 'account.email_taken' });
      throw error;
    }
    // A link that was mailed to the old address opens this account no more.
    await endLinks(ctx, link.account);
  });
}
