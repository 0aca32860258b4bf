/** Handing messages to the provider that the settings name. Only jobs call it. */
import { randomUUID } from 'node:crypto';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { CallError, call } from '../platform/outgoing.ts';
import { smsProviders } from './providers/catalogue.ts';
import type { Handed } from './providers/provider.ts';

/** Name of the provider in force. */
export const providerName = (ctx: Ctx): string => String(ctx.settings.get('SMS_PROVIDER')['provider']);

/** Development and demo: printed and kept for `GET /v1/outbox/sms`. */
async function print(ctx: Ctx, { to, text }: { to: string; text: string }): Promise<Handed> {
  await ctx.db.run(sql`
    insert into console_message (medium, recipient, body, sent_at) values ('sms', ${to}, ${text}, ${ctx.clock.now()})`);
  process.stderr.write(`sms to ${to}: ${text}\n`);
  return { taken: true, id: null };
}

/** Hands one message over. */
export async function handOver(
  ctx: Ctx,
  message: { readonly id?: string; readonly to: string; readonly text: string; readonly reports?: string | undefined },
): Promise<Handed> {
  const setting = ctx.settings.get('SMS_PROVIDER');
  const provider = smsProviders[providerName(ctx)]!;
  if (provider.call === undefined || provider.read === undefined) return print(ctx, message);
  const { id = randomUUID(), to, text, reports } = message;
  try {
    const asked = provider.call(setting as never, { id, to, text, at: ctx.clock.now(), reports });
    return provider.read(await call(asked, ctx.settings.get('SMS_TIMEOUT') * 1000));
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    return { taken: false, again: true, reason: error.message };
  }
}
