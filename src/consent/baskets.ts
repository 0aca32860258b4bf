/** Basket consents: what a guest ticked at checkout, held until the order or the registration. Not consent before that. */
import type { PointKind } from '../accounts/contact-points.ts';
import { batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Evidence } from '../platform/evidence.ts';
import { channels, type Flags } from './channels.ts';
import { type ConsentStatement, sayAll, type Voice } from './statements.ts';

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
 * statement; durable when it returns. What was promoted stays promoted, until another mind is told.
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
               expires_at = excluded.expires_at, consumed_at = null, event = null, outcome = null
         where b.consumed_at is null or b.value is distinct from excluded.value`);
    }
    return items.map(() => undefined);
  },
});

/** Whether flags about this kind of address wait in a basket. */
export async function basketSpeaksOf(ctx: Ctx, basket: bigint, uid: string, kind: PointKind): Promise<boolean> {
  const names = channels.filter((channel) => channel.kind === kind).map(({ name }) => name);
  const row = await ctx.db.one(sql`
    select from basket_consent
     where basket = ${String(basket)} and uid_hash = ${uidHash(ctx, uid)} and channel = any (${names}::text[])
       and consumed_at is null and expires_at > ${ctx.clock.now()} limit 1`);
  return row !== undefined;
}

/** Whether a basket is known under other names than this one: then the caller has mixed something up. */
export async function isForeignBasket(ctx: Ctx, basket: bigint, uid: string): Promise<boolean> {
  const row = await ctx.db.one<{ foreign: boolean }>(sql`
    select count(*) > 0 and bool_and(uid_hash <> ${uidHash(ctx, uid)}) as foreign
      from basket_consent where basket = ${String(basket)}`);
  return row!.foreign;
}

interface BasketRow {
  readonly channel: string;
  readonly value: boolean;
  readonly stated_at: Date;
  readonly evidence: Evidence;
  readonly consumed_at: Date | null;
  readonly event: string | null;
  readonly outcome: string | null;
}

/** Where the flags of a basket lead. */
export interface Promotion {
  readonly basket: bigint;
  readonly uid: string;
  /** The addresses of the order or the new account; a kind without one leaves its flags waiting. */
  readonly addresses: Readonly<Partial<Record<PointKind, ConsentStatement['about']>>>;
  /** The account of whoever ordered, if they were signed in, or the one that has just been made. */
  readonly account?: number | undefined;
  /** Who speaks for each kind of address: its signed-in holder, or a guest. */
  readonly voice: (kind: PointKind) => Voice;
  readonly occasion: 'order' | 'registration';
  readonly order?: string | undefined;
  readonly actor: string;
}

/** What promotion made of each flag: an event, a question to the holder of the address, or nothing. */
export interface Promoted {
  readonly events: { channel: string; event: string }[];
  readonly pending: { channel: string; event: string }[];
  readonly unchanged: { channel: string; reason: string }[];
}

/**
 * Turns a basket's flags into consent events, once (rule 8): however often and however parallel it is called, there is one
 * event per channel, and every call gets the same answer. Callers of one basket wait here and not each with a connection
 * of the pool on its lock.
 */
export const promoteBasket = batched<Promotion, Promoted>({
  key: ({ basket, uid }) => `${basket} ${uid}`,
  run: async (ctx, promotions) => Promise.all(promotions.map((promotion) => promote(ctx, promotion))),
  max: 1,
  inFlight: 4,
});

function promote(root: Ctx, promotion: Promotion): Promise<Promoted> {
  return transaction(root, async (ctx) => {
    const { basket, uid, addresses, account, voice, occasion, order, actor } = promotion;
    const now = ctx.clock.now();
    const hash = uidHash(ctx, uid);
    // The lock makes a second caller wait for the first one's answer.
    const rows = await ctx.db.rows<BasketRow>(sql`
      select channel, value, stated_at, evidence, consumed_at, event, outcome from basket_consent
       where basket = ${String(basket)} and uid_hash = ${hash} and (expires_at > ${now} or consumed_at is not null)
       order by channel for update`);
    const waiting = channels.flatMap(({ name, kind }) => {
      const row = rows.find(({ channel, consumed_at }) => channel === name && consumed_at === null);
      const about = addresses[kind];
      return row === undefined || about === undefined ? [] : [{ row, kind, about }];
    });
    const said = await sayAll(
      ctx,
      waiting.map(({ row, kind, about }): ConsentStatement => {
        const by = voice(kind);
        return {
          about,
          ...(account === undefined ? {} : { account }),
          channel: row.channel,
          purpose: 'marketing',
          intent: row.value ? 'grant' : 'refuse',
          by,
          at: row.stated_at,
          source: 'checkout',
          actor,
          evidence: {
            ...row.evidence,
            basket: String(basket),
            uid: hash.toString('hex'),
            occasion,
            ...(order === undefined ? {} : { order }),
          },
        };
      }),
    );
    const results = waiting.map(({ row }, index) => {
      const outcome = said[index]!;
      if (outcome instanceof Error) throw outcome;
      const { event, written, state } = outcome;
      const became = !written
        ? 'unchanged'
        : outcome.outcome !== 'applied'
          ? outcome.outcome!
          : row.value && state !== 'granted'
            ? 'pending'
            : 'applied';
      return { channel: row.channel, event: written ? event : null, became };
    });
    if (results.length > 0) {
      // What was said went into the ledger with its evidence: nothing personal stays here.
      await ctx.db.run(sql`
        update basket_consent b set consumed_at = ${now}, event = r.event, outcome = r.outcome, evidence = '{}'
          from unnest(${results.map(({ channel }) => channel)}::text[], ${results.map(({ event }) => event)}::uuid[],
                      ${results.map(({ became }) => became)}::text[]) as r (channel, event, outcome)
         where b.basket = ${String(basket)} and b.uid_hash = ${hash} and b.channel = r.channel`);
    }
    const promoted: Promoted = { events: [], pending: [], unchanged: [] };
    for (const row of rows) {
      const fresh = results.find(({ channel }) => channel === row.channel);
      const event = fresh === undefined ? row.event : fresh.event;
      const became = fresh === undefined ? row.outcome : fresh.became;
      const { channel } = row;
      if (became === null) promoted.unchanged.push({ channel, reason: 'no_address' });
      else if (became === 'applied') promoted.events.push({ channel, event: event! });
      else if (became === 'pending') promoted.pending.push({ channel, event: event! });
      else promoted.unchanged.push({ channel, reason: became === 'unchanged' ? 'no_change' : became });
    }
    return promoted;
  });
}

/** Forgets what expired. */
export const sweepBaskets = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from basket_consent where expires_at < ${ctx.clock.now()}`);
