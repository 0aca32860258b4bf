/** The job that mails. A payload names the mail and its link; addresses and tokens are looked up and derived here. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Task } from '../platform/jobs.ts';
import { languageOf, say } from '../platform/language.ts';
import type { Mailer } from '../platform/mail.ts';
import { linkToken, type MailLink } from './links.ts';

interface Row extends MailLink {
  email: string;
  /** Name of the company an invitation is from, by language. */
  company: Readonly<Record<string, string>> | null;
}

/** Which address a mail goes to. */
const recipients: Record<string, (row: Row) => string | null> = {
  password_reset: ({ email }) => email,
  invitation: ({ email }) => email,
  email_change: ({ new_email }) => new_email,
  email_change_notice: ({ previous_email }) => previous_email,
};

/** Where a link leads: the shop front's own page where one is set, else ours. */
function linkUrl(ctx: Ctx, publicUrl: string, row: MailLink): string {
  const token = linkToken(ctx, row);
  const page = row.purpose === 'password_reset' ? ctx.settings.get('PASSWORD_RESET_URL') : null;
  if (page !== null) return page.replace('{uid}', String(row.account)).replace('{token}', token);
  return `${publicUrl}/links/${token}`;
}

/** @param publicUrl address under which people reach this service */
export function sendMail(mailer: Mailer, publicUrl: string): Task {
  return async (ctx, { mail, link }) => {
    const row = await ctx.db.one<Row>(sql`
      select l.id, l.purpose, l.account, l.new_email, l.previous_email, l.language, a.email, c.name as company
        from mail_link l join account a on a.id = l.account left join company c on c.id = l.company
       where l.id = ${String(link)}
         and (${mail === 'email_change_notice'} or (l.used_at is null and l.expires_at > ${ctx.clock.now()}))`);
    // Used, replaced or over meanwhile: nobody waits for it. A notice is no link: the old address is told in any case.
    if (row === undefined) return;
    const to = recipients[String(mail)]?.(row);
    if (to == null) throw new Error(`no mail is called ${String(mail)}`);
    const language = languageOf(row.language);
    const names = row.company ?? {};
    const company = names[language] ?? Object.values(names)[0];
    const values = {
      url: linkUrl(ctx, publicUrl, row),
      address: row.new_email ?? row.email,
      company: company ?? '',
      named: company === undefined ? 'no' : 'yes',
    };
    await mailer(ctx, {
      to,
      subject: say(language, { key: `mail.${mail}.subject`, values }),
      text: say(language, { key: `mail.${mail}.text`, values }),
    });
  };
}
