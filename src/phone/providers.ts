/** The catalogue of SMS providers: one row each. A provider is one function; only jobs call it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';

export interface SmsProvider {
  readonly label: string;
  /** Hands one message over. Throws when it was not taken; the job then tries again. */
  send(ctx: Ctx, message: { to: string; text: string }): Promise<void>;
}

/** Development and demo: the message is printed and kept for `GET /v1/outbox/sms`; nothing leaves the machine. */
const printed: SmsProvider = {
  label: 'Console: prints messages, sends nothing',
  async send(ctx, { to, text }) {
    await ctx.db.run(sql`
      insert into console_message (medium, recipient, body, sent_at) values ('sms', ${to}, ${text}, ${ctx.clock.now()})`);
    process.stderr.write(`sms to ${to}: ${text}\n`);
  },
};

const smsProviders: Readonly<Record<string, SmsProvider>> = { console: printed };

/** The provider that the settings name. */
export const smsProvider = (ctx: Ctx): SmsProvider =>
  smsProviders[ctx.settings.get('SMS_PROVIDER').provider] ?? printed;
