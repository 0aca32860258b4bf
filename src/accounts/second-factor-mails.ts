/** The mails that tell of somebody's second factor: if it was not them, they want to know today. */
import { sql } from '../platform/db.ts';
import type { Task } from '../platform/jobs.ts';
import { languageOf, say } from '../platform/language.ts';
import type { Mailer } from '../platform/mail.ts';
import type { SecondFactorNews } from './second-factor.ts';

const mails: Readonly<Record<SecondFactorNews, { subject: string; text: string }>> = {
  on: { subject: 'mail.second_factor_on.subject', text: 'mail.second_factor_on.text' },
  off: { subject: 'mail.second_factor_off.subject', text: 'mail.second_factor_off.text' },
  recovery: { subject: 'mail.recovery_code_used.subject', text: 'mail.recovery_code_used.text' },
  guessed: { subject: 'mail.codes_guessed.subject', text: 'mail.codes_guessed.text' },
};

/** The job `tell_second_factor`: a payload names the account and what happened. @param publicUrl where /account is */
export function tellSecondFactor(mailer: Mailer, publicUrl: string): Task {
  return async (ctx, { account, news }) => {
    const row = await ctx.db.one<{ email: string; language_code: string; left: number }>(sql`
      select email, language_code,
             (select count(*)::int from recovery_code r where r.account = a.id and r.used_at is null) as left
        from account a where id = ${Number(account)}`);
    // Erased meanwhile.
    if (row === undefined) return;
    const language = languageOf(row.language_code);
    const values = {
      shop: ctx.settings.get('CONSENT_CONTROLLER').name,
      url: `${publicUrl}/account${news === 'guessed' ? '/forgotten' : ''}`,
      left: row.left,
    };
    const { subject, text } = mails[news as SecondFactorNews];
    await mailer(ctx, {
      to: row.email,
      subject: say(language, { key: subject, values }),
      text: say(language, { key: text, values }),
    });
  };
}
