/** Messages to a number that are no codes, such as the question of a double opt-in. */
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import type { Ctx } from '../platform/ctx.ts';
import { countedAddress, countHit } from '../platform/throttle.ts';
import { handOver } from './sms.ts';

const HOUR = 3600;
const DAY = 86_400;

/** Who caused a message: the account that ticked the box, and the client address it came from, as far as they are known. */
export interface Cause {
  readonly account: number | null;
  readonly ip: string | null;
}

/**
 * Whether one may go there: where codes do not go, questions do not either, and an account, a client address and a country
 * have as many of them as they have codes. Anybody can tick a box beside a number that costs.
 */
export async function mayText(ctx: Ctx, e164: string, { account, ip }: Cause): Promise<boolean> {
  const country = parsePhoneNumberFromString(e164)?.country;
  const countries: readonly string[] | null = ctx.settings.get('SMS_COUNTRIES');
  if (countries !== null && (country === undefined || !countries.includes(country))) return false;
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
    { scope: 'text-country', holder: country ?? 'unknown', count: budget.country_day, duration: DAY },
  ];
  for (const { scope, holder, count, duration } of limits) {
    if (holder === null || count === null) continue;
    if ((await countHit(ctx, scope, holder, { count, duration })).over) {
      ctx.log.warn({ scope, country }, 'no message is sent: a budget is spent');
      return false;
    }
  }
  return true;
}

/** Hands one over to the provider. Throws when it was not taken. */
export async function sendText(ctx: Ctx, message: { to: string; text: string }): Promise<void> {
  const handed = await handOver(ctx, message);
  if (!handed.taken) throw new Error(`no message was sent: ${handed.reason}`);
}
