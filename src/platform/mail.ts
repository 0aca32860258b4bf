/** Mail: SMTP when SMTP_URL is set, else printed and kept for `GET /v1/outbox/mail`. Only jobs send. */
import { createTransport } from 'nodemailer';
import type { Ctx } from './ctx.ts';
import { sql } from './db.ts';

export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
}

/** Hands one mail over. Throws when it was not taken; the job then tries again. */
export type Mailer = (ctx: Ctx, mail: Mail) => Promise<void>;

const printed: Mailer = async (ctx, { to, subject, text }) => {
  await ctx.db.run(sql`
    insert into console_message (medium, recipient, subject, body, sent_at)
    values ('mail', ${to}, ${subject}, ${text}, ${ctx.clock.now()})`);
  process.stderr.write(`mail to ${to}: ${subject}\n${text}\n`);
};

/** Mail servers name the address they refuse, and what a job failed with is logged and stays with the job. */
const withoutAddresses = (text: string): string => text.slice(0, 500).replaceAll(/\S+@\S+/g, '…');

/** @param smtpUrl smtp://user:password@host:port, or smtps://; undefined prints */
export function createMailer(smtpUrl: string | undefined): Mailer {
  if (smtpUrl === undefined) return printed;
  const transport = createTransport(smtpUrl, {
    connectionTimeout: 10_000,
    greetingTimeout: 10_000,
    socketTimeout: 20_000,
  } as object);
  return async (ctx, mail) => {
    await transport.sendMail({ from: ctx.settings.get('MAIL_FROM'), ...mail }).catch((error: Error) => {
      throw new Error(withoutAddresses(error.message));
    });
  };
}

/** Forgets what the console providers kept: codes and links are worth nothing after an hour, but to a thief. */
export const sweepMessages = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from console_message where sent_at < ${ctx.clock.now()}::timestamptz - interval '1 hour'`);
