/** Basket consents: what a guest ticked at checkout, held until the order or the registration. Not consent before that. */
import { batched } from '../platform/batch.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { channels, type Flags } from './channels.ts';
import type { Evidence } from './ledger.ts';

export interface BasketStatement {
  readonly basket: bigint;
  /** The only credential a guest has: kept as a keyed hash. */
  readonly uid: string;
  readonly flags: Flags;
  readonly evidence: Evidence;
}

/** The keyed hash a guest's identifier is stored under. */
const uidHash = (ctx: Ctx, uid: string): Buffer => ctx.keys.hash('basket_uid', uid);

/**
 * Keeps what a guest states for a basket, channel by channel: absent leaves what was stated before. Many in one
 * statement; durable when it returns.
 */
export const stateForBasket = batched<BasketStatement, void>({
  key: ({ basket, uid }) => `${basket} ${uid}`,
  async run(ctx, items) {
    const now = ctx.clock.now();
    const rows = items.flatMap(({ basket, uid, flags, evidence }) =>
      channels
        .filter(({ flag }) => typeof flags[flag] === 'boolean')
        .map(({ name, flag }) => ({
          basket: String(basket),
          uid: uidHash(ctx, uid),
          channel: name,
          value: flags[flag]!,
          evidence,
        })),
    );
    if (rows.length > 0) {
      await ctx.db.run(sql`
        insert into basket_consent as b (basket, uid_hash, channel, value, stated_at, evidence, expires_at)
        select basket, uid_hash, channel, value, ${now}, evidence,
               ${now}::timestamptz + make_interval(secs => ${ctx.settings.get('BASKET_CONSENT_TTL')})
          from unnest(${rows.map(({ basket }) => basket)}::bigint[], ${rows.map(({ uid }) => uid)}::bytea[],
                      ${rows.map(({ channel }) => channel)}::text[], ${rows.map(({ value }) => value)}::boolean[],
                      ${rows.map(({ evidence }) => JSON.stringify(evidence))}::jsonb[]) as r (basket, uid_hash, channel, value, evidence)
         order by basket, uid_hash, channel
        on conflict (basket, uid_hash, channel) do update
           set value = excluded.value, stated_at = excluded.stated_at, evidence = excluded.evidence,
               expires_at = excluded.expires_at, consumed_at = null`);
    }
    return items.map(() => undefined);
  },
});

/**
 * Takes what was stated for a basket, once: a second call, however parallel, finds nothing.
 * @returns per channel the flag, when it was stated and how we know
 */
export function takeBasket(
  ctx: Ctx,
  basket: bigint,
  uid: string,
): Promise<{ channel: string; value: boolean; stated_at: Date; evidence: Evidence }[]> {
  const now = ctx.clock.now();
  return ctx.db.rows(sql`
    update basket_consent set consumed_at = ${now}
     where basket = ${String(basket)} and uid_hash = ${uidHash(ctx, uid)} and consumed_at is null and expires_at > ${now}
    returning channel, value, stated_at, evidence`);
}

/** Forgets what expired. */
export const sweepBaskets = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from basket_consent where expires_at < ${ctx.clock.now()}`);
