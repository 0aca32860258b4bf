/**
 * Handing messages to the provider that the settings name. Jobs call it, and the test message of an operator. Every
 * message has a row, which knows neither its number nor its text: how often it was tried and what became of it.
 */
import { randomUUID } from 'node:crypto';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { CallError, call } from '../platform/outgoing.ts';
import { smsProviders } from './providers/catalogue.ts';
import type { Handed, Message } from './providers/provider.ts';
import { expectReports, hasNul } from './reports.ts';

/** Attempts without an answer, after which a message may have arrived twice and is not sent a third time. */
const UNANSWERED = 2;

/** Name of the provider in force; `invalid` when the stored one cannot be used: then nothing is sent. */
export const providerName = (ctx: Ctx): string => String(ctx.settings.get('SMS_PROVIDER')['provider']);

/** A UUID (RFC 9562, version 8) made of a keyed hash: the same message has the same one, also after a crash. */
export function uuidOf(hash: Buffer): string {
  const bytes = Buffer.from(hash.subarray(0, 16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Development and demo: printed and kept for `GET /v1/outbox/sms`. */
async function print(ctx: Ctx, { to, text }: { to: string; text: string }): Promise<Handed> {
  await ctx.db.run(sql`
    insert into console_message (medium, recipient, body, sent_at) values ('sms', ${to}, ${text}, ${ctx.clock.now()})`);
  process.stderr.write(`sms to ${to}: ${text}\n`);
  return { taken: true, id: null };
}

async function ask(ctx: Ctx, message: Omit<Message, 'at'>): Promise<Handed> {
  const setting = ctx.settings.get('SMS_PROVIDER');
  const provider = smsProviders[providerName(ctx)];
  if (provider === undefined)
    return { taken: false, again: true, reason: 'the stored setting SMS_PROVIDER is not valid' };
  if (provider.call === undefined || provider.read === undefined) return print(ctx, message);
  try {
    const asked = provider.call(setting as never, { ...message, at: ctx.clock.now() });
    return provider.read(setting as never, await call(asked, ctx.settings.get('SMS_TIMEOUT') * 1000));
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    return { taken: false, again: true, reason: error.message, doubtful: error.doubtful };
  }
}

export interface Outgoing {
  /** Kept over retries; absent: a message of its own. */
  readonly id?: string;
  readonly purpose: Message['purpose'];
  /** Whom it is for, where that is known: the row goes with the account. */
  readonly account?: number | undefined;
  /** E.164 */
  readonly to: string;
  readonly text: string;
  /** PUBLIC_URL, under which reports of its delivery can come in; undefined: none are asked for. */
  readonly publicUrl?: string | undefined;
}

/** What came of one attempt. */
export type Attempt =
  | { readonly state: 'taken'; readonly id: string }
  /** It had ended before: nothing was sent. */
  | { readonly state: 'over'; readonly id: string }
  /** @param attempt which one it was, from 1 */
  | { readonly state: 'later'; readonly id: string; readonly reason: string; readonly attempt: number }
  | { readonly state: 'never'; readonly id: string; readonly reason: string };

/**
 * Begins an attempt. Written down before anybody hears of it: a process that dies in between leaves an attempt without an
 * answer, as a lost connection does.
 * @returns which attempt it is; undefined when the message has ended, or may have arrived twice by now
 */
async function begin(ctx: Ctx, id: string, { purpose, account }: Outgoing): Promise<number | undefined> {
  const row = await ctx.db.one<{ attempts: number }>(sql`
    insert into sms_message as m (id, purpose, account, provider, status, attempts, unanswered, created_at)
    values (${id}, ${purpose}, ${account ?? null}, ${providerName(ctx)}, 'sending', 1, 1, ${ctx.clock.now()})
    on conflict (id) do update
       set attempts = m.attempts + 1, unanswered = m.unanswered + 1, provider = excluded.provider
     where m.status = 'sending' and m.unanswered < ${UNANSWERED}
    returning attempts`);
  return row?.attempts;
}

/** Ends a message that was not taken. A report that says more may still come. */
export const endMessage = (ctx: Ctx, id: string, reason?: string): Promise<number> =>
  ctx.db.run(sql`
    update sms_message set status = 'failed', reason = coalesce(${reason ?? null}, reason), ended_at = ${ctx.clock.now()}
     where id = ${id} and status = 'sending'`);

/** Hands a message over once, and writes down what came of it. Whoever calls decides about the next time. */
export async function handOver(ctx: Ctx, message: Outgoing): Promise<Attempt> {
  const { id = randomUUID(), to, text, purpose, publicUrl } = message;
  const attempt = await begin(ctx, id, message);
  if (attempt === undefined) {
    await endMessage(ctx, id);
    return { state: 'over', id };
  }
  const provider = providerName(ctx);
  const reports =
    publicUrl !== undefined && smsProviders[provider]?.reports !== undefined
      ? `${publicUrl}/v1/sms/reports/${provider}?message=${id}`
      : undefined;
  const handed = await ask(ctx, { id, purpose, to, text, reports });
  if (handed.taken) {
    // A report may have been faster.
    await ctx.db.run(sql`
      update sms_message set status = case status when 'sending' then 'sent' else status end,
             reason = case status when 'failed' then reason end,
             unanswered = unanswered - 1, provider_id = ${handed.id === null || hasNul(handed.id) ? null : handed.id}
       where id = ${id}`);
    await expectReports(ctx, provider);
    return { state: 'taken', id };
  }
  const { again, reason, doubtful = false } = handed;
  const row = await ctx.db.one<{ unanswered: number }>(sql`
    update sms_message set unanswered = unanswered - ${doubtful ? 0 : 1}, reason = ${reason}
     where id = ${id} returning unanswered`);
  if (again && (row?.unanswered ?? 0) < UNANSWERED) return { state: 'later', id, reason, attempt };
  ctx.log.warn({ provider, purpose, reason }, 'a message was not taken');
  await endMessage(ctx, id);
  return { state: 'never', id, reason };
}

/** How the messages of the last so many seconds went: taken or failed, failed, and why most often. */
export async function messagesOf(
  ctx: Ctx,
  seconds: number,
): Promise<{ ended: number; failed: number; reason: string | null }> {
  const row = await ctx.db.one<{ ended: number; failed: number; reason: string | null }>(sql`
    select count(*) filter (where status <> 'sending')::int as ended,
           count(*) filter (where status = 'failed')::int as failed,
           mode() within group (order by reason) filter (where status = 'failed') as reason
      from sms_message where created_at > ${ctx.clock.now()}::timestamptz - make_interval(secs => ${seconds})`);
  return row!;
}

/** Forgets messages after 90 days, and ends those that nobody is at any more. */
export async function sweepSms(ctx: Ctx): Promise<void> {
  const now = ctx.clock.now();
  await ctx.db.run(sql`
    update sms_message set status = 'failed', reason = coalesce(reason, 'given up'), ended_at = ${now}
     where status = 'sending' and created_at < ${now}::timestamptz - interval '2 days'`);
  await ctx.db.run(sql`delete from sms_message where created_at < ${now}::timestamptz - interval '90 days'`);
}
