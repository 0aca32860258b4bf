/** The job that sends a code. It derives the code itself: none is ever in a payload. */

import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Task } from '../platform/jobs.ts';
import { type Language, say } from '../platform/language.ts';
import { type Attempt, endMessage, handOver, uuidOf } from './sms.ts';
import { codeToSend, planCode } from './verification.ts';

/** Seconds after each failure. A customer waits: quickly at first, and over as long as a code lives by default. */
const codeSchedule: readonly number[] = [2, 5, 10, 20, 40, 40, 40];

/** Ends the messages of codes that are dead. @param but the one that lives; null: none does */
const endCodes = (ctx: Ctx, account: number, but: string | null): Promise<number> =>
  ctx.db.run(sql`
    update sms_message
       set status = 'failed', ended_at = ${ctx.clock.now()},
           reason = concat_ws('; ', reason, ${but === null ? 'the code is spent or expired' : 'a newer code took its place'}::text)
     where account = ${account} and purpose = 'code' and status = 'sending' and id is distinct from ${but}::uuid`);

/** Plans the next attempt, while the code lives; our own schedule, because a job's back-off is made for hours. */
const planAnother = (ctx: Ctx, account: number, { id, attempt }: Attempt & { state: 'later' }): Promise<void> =>
  transaction(ctx, async (tx) => {
    const current = await codeToSend(tx, account);
    const after = codeSchedule[attempt - 1];
    // A newer code has its own job, which this one must not put off.
    if (current === undefined || uuidOf(current.key) !== id) {
      await endCodes(tx, account, current === undefined ? null : uuidOf(current.key));
      return;
    }
    const late =
      current.expiresAt !== null && current.expiresAt.getTime() <= tx.clock.now().getTime() + (after ?? 0) * 1000;
    if (after === undefined || late) {
      tx.log.warn({ purpose: 'code', attempt }, 'a message is given up');
      await endMessage(tx, id);
      return;
    }
    await planCode(tx, account, after);
  });

/**
 * Sends the code of an account, again and again until it is taken or nobody can use it any more.
 * @param publicUrl PUBLIC_URL, for delivery reports; undefined: none are asked for
 */
export const sendCodeBy =
  (publicUrl: string | undefined): Task =>
  async (ctx, payload) => {
    const account = Number(payload['account']);
    const code = await codeToSend(ctx, account);
    const id = code === undefined ? null : uuidOf(code.key);
    await endCodes(ctx, account, id);
    // Spent or expired meanwhile: nobody waits for it.
    if (code === undefined || id === null) return;
    const language =
      (['en', 'tr', 'nl', 'fr'] as const).find((l) => code.language.toLowerCase().startsWith(l)) ??
      ('en' satisfies Language);
    const text = say(language, { key: 'sms.code', values: { code: code.code } });
    const attempt = await handOver(ctx, { id, purpose: 'code', account, to: code.to, text, publicUrl });
    if (attempt.state === 'later') await planAnother(ctx, account, attempt);
  };
