/** What codes may cost: per number, account, client address and country. Every limit is checked before any is spent. */
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { countedAddress } from '../platform/throttle.ts';

const HOUR = 3600;
const DAY = 86_400;

/**
 * Spends one code.
 * @throws throttled with `Retry-After` when a limit is reached, invalid when codes do not go to that country
 */
export async function spendCode(
  ctx: Ctx,
  { account, ip, e164, country }: { account: number; ip: string; e164: string; country: string | undefined },
): Promise<void> {
  const countries = ctx.settings.get('SMS_COUNTRIES');
  if (countries !== null && (country === undefined || !countries.includes(country))) {
    throw new Failure('invalid', { complaints: [{ path: ['phone'], key: 'phone.country' }] });
  }
  const budget = ctx.settings.get('SMS_BUDGET');
  const gap = ctx.settings.get('OTP_RESEND_SECONDS');
  const rows = (
    [
      { scope: 'pair_gap', holder: `${account} ${e164}`, seconds: gap, limit: gap === 0 ? null : 1 },
      { scope: 'number_hour', holder: e164, seconds: HOUR, limit: budget.number_hour },
      { scope: 'account_day', holder: String(account), seconds: DAY, limit: budget.account_day },
      { scope: 'address_hour', holder: countedAddress(ip), seconds: HOUR, limit: budget.address_hour },
      { scope: 'country_day', holder: country ?? 'unknown', seconds: DAY, limit: budget.country_day },
    ] as const
  )
    .map((row) => ({ ...row, key: ctx.keys.hash('throttle', row.scope, row.holder) }))
    .filter((row) => row.limit !== null);
  const now = ctx.clock.now();
  await transaction(ctx, async ({ db }) => {
    const counts = await db.rows<{ scope: string; count: number; ends_at: Date }>(sql`
      insert into sms_budget as b (scope, holder, ends_at, count)
      select scope, holder, ${now}::timestamptz + make_interval(secs => seconds), 1
        from unnest(${rows.map(({ scope }) => scope)}::text[], ${rows.map(({ key }) => key)}::bytea[],
                    ${rows.map(({ seconds }) => seconds)}::int[]) as r (scope, holder, seconds)
       order by scope, holder
      on conflict (scope, holder) do update
         set count = case when b.ends_at <= ${now} then 1 else b.count + 1 end,
             ends_at = case when b.ends_at <= ${now} then excluded.ends_at else b.ends_at end
      returning scope, count, ends_at`);
    const over = counts.filter(({ scope, count }) => count > rows.find((row) => row.scope === scope)!.limit!);
    if (over.length > 0) {
      // Thrown inside: the rollback gives back what the other limits were charged.
      const until = Math.max(...over.map(({ ends_at }) => ends_at.getTime()));
      const seconds = Math.max(1, Math.ceil((until - now.getTime()) / 1000));
      throw new Failure('throttled', { values: { seconds }, headers: { 'retry-after': String(seconds) } });
    }
  });
}

/** Forgets windows that are over. */
export const sweepBudgets = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from sms_budget where ends_at < ${ctx.clock.now()}`);
