/** Messages to a number that are no codes, such as the question of a double opt-in. */
import { randomUUID } from 'node:crypto';
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { countedAddress, countHit } from '../platform/throttle.ts';
import { spendText } from './budget.ts';
import { NO_COUNTRY, reaches, takesMessages } from './limits.ts';
import { handOver, uuidOf } from './sms.ts';

const HOUR = 3600;
const DAY = 86_400;

/** Who caused a message: the account that ticked the box, and the client address it came from, as far as they are known. */
export interface Cause {
  readonly account: number | null;
  readonly ip: string | null;
}

/** The country of a number, and whether messages go there and to numbers like it. */
function placeOf(ctx: Ctx, e164: string): { country: string | undefined; reached: boolean } {
  const country = parsePhoneNumberFromString(e164)?.country;
  const reached = takesMessages(e164) && reaches(ctx.settings.get('SMS_COUNTRIES'), country ?? NO_COUNTRY);
  return { country, reached };
}

/**
 * Whether one may go there: where codes do not go, questions do not either, and an account, a client address and a country
 * have as many of them as they have codes. Anybody can tick a box beside a number that costs.
 * @param about of the message: one that is under way, and tried again, was counted when it began
 */
export async function mayText(ctx: Ctx, e164: string, { account, ip }: Cause, about: string): Promise<boolean> {
  const { country, reached } = placeOf(ctx, e164);
  if (!reached) return false;
  if ((await slotsOf(ctx, e164, about)).underWay !== undefined) return true;
  const budget = ctx.settings.get('SMS_BUDGET');
  const limits = [
    {
      scope: 'text-account',
      holder: account === null ? null : String(account),
      count: budget.account_day,
      duration: DAY,
    },
    {
      scope: 'text-address',
      holder: ip === null ? null : countedAddress(ip),
      count: budget.address_hour,
      duration: HOUR,
    },
  ];
  for (const { scope, holder, count, duration } of limits) {
    if (holder === null || count === null) continue;
    if ((await countHit(ctx, scope, holder, { count, duration })).over) {
      ctx.log.warn({ scope, country }, 'no message is sent: a budget is spent');
      return false;
    }
  }
  // Last, so that what is not sent takes nothing from what codes share with it.
  const full = await spendText(ctx, { account, country });
  if (full !== undefined) ctx.log.warn({ scope: full, country }, 'no message is sent: a budget is spent');
  return full === undefined;
}

/** Warnings of one account. Each follows a number that was proven and lost, so nobody can cause them from outside. */
const WARNINGS = { count: 3, duration: DAY };

/**
 * Whether the holder of a number may be warned of what happened to an account. From a budget of its own: whoever took the
 * account over, or attacks its country, must not be able to use up what the warning needs.
 * @param about of the message: one that is under way, and tried again, was counted when it began
 */
export async function mayWarn(ctx: Ctx, e164: string, account: number, about: string): Promise<boolean> {
  const { country, reached } = placeOf(ctx, e164);
  if (!reached) return false;
  if ((await slotsOf(ctx, e164, about)).underWay !== undefined) return true;
  const { over } = await countHit(ctx, 'text-warning', String(account), WARNINGS);
  if (over) ctx.log.warn({ scope: 'text-warning', country }, 'no message is sent: a budget is spent');
  return !over;
}

/** Messages to one number about one thing that are kept at a time, and a few more. */
const SLOTS = 64;

/**
 * Ids for messages to a number about something: the one that is under way, and one for the next. Numbered, because the row
 * itself must not know the number.
 */
async function slotsOf(ctx: Ctx, to: string, about: string): Promise<{ underWay: string | undefined; next: string }> {
  const ids = Array.from({ length: SLOTS }, (_, n) => uuidOf(ctx.keys.hash('code', 'text', about, to, String(n))));
  const rows = await ctx.db.rows<{ id: string; status: string }>(
    sql`select id, status from sms_message where id = any (${ids}::uuid[])`,
  );
  const known = new Set(rows.map(({ id }) => id));
  return {
    underWay: rows.find(({ status }) => status === 'sending')?.id,
    next: ids.find((id) => !known.has(id)) ?? randomUUID(),
  };
}

/**
 * Hands messages over to the provider. The function throws when one was not taken and may be the next time; one that
 * never will be, or that may have arrived twice, has ended: repeating it for days would help nobody.
 * @param publicUrl PUBLIC_URL, for delivery reports; undefined: none are asked for
 */
export const sendTextBy =
  (publicUrl: string | undefined) =>
  async (ctx: Ctx, { to, text, about = 'text' }: { to: string; text: string; about?: string }): Promise<void> => {
    const { underWay, next } = await slotsOf(ctx, to, about);
    // A job that tries again sends the same message.
    const attempt = await handOver(ctx, { id: underWay ?? next, purpose: 'text', to, text, publicUrl });
    if (attempt.state === 'later') throw new Error(`no message was sent: ${attempt.reason}`);
  };
