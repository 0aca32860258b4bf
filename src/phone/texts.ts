/** Messages to a number that are no codes, such as the question of a double opt-in. */
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import type { Ctx } from '../platform/ctx.ts';
import { countHit } from '../platform/throttle.ts';
import { smsProvider } from './providers.ts';

const DAY = 86_400;

/**
 * Whether one may go there: where codes do not go, questions do not either, and a country has as many of them a day as it
 * has codes. Anybody can tick a box beside a number that costs.
 */
export async function mayText(ctx: Ctx, e164: string): Promise<boolean> {
  const country = parsePhoneNumberFromString(e164)?.country;
  const countries: readonly string[] | null = ctx.settings.get('SMS_COUNTRIES');
  if (countries !== null && (country === undefined || !countries.includes(country))) return false;
  const count = ctx.settings.get('SMS_BUDGET').country_day;
  if (count === null) return true;
  const { over } = await countHit(ctx, 'text-country', country ?? 'unknown', { count, duration: DAY });
  if (over) ctx.log.warn({ country }, 'no message is sent: the day’s budget of this country is spent');
  return !over;
}

/** Hands one over to the provider. Throws when it was not taken. */
export const sendText = (ctx: Ctx, message: { to: string; text: string }): Promise<void> =>
  smsProvider(ctx).send(ctx, message);
