/** What the provider tells us of members by itself, and how it is shown. */
import { batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { prepared, sql } from '../platform/db.ts';
import type { Taken, Told } from './connectors/connector.ts';
import { configured, type Provider } from './members.ts';

/** The loyalty part of a profile. */
export interface LoyaltyPart {
  readonly card_number: string | null;
  readonly tier: string | null;
  readonly points: number | null;
}

/** What of a member each value was told at. */
const fields = ['card_number', 'tier', 'points'] as const;
type Field = (typeof fields)[number];

interface News {
  readonly account: number;
  readonly told_at: Date;
  readonly card_number?: string | null;
  readonly card_at?: Date;
  readonly tier?: string | null;
  readonly tier_at?: Date;
  readonly points?: number | null;
  readonly points_at?: Date;
}

const momentOf = { card_number: 'card_at', tier: 'tier_at', points: 'points_at' } as const satisfies Record<
  Field,
  string
>;

/** One line an account: of each value the newest; of two of the same moment the later one in the message. */
function newest(told: readonly Told[]): News[] {
  const news = new Map<number, News>();
  for (const one of told) {
    let line: News = news.get(one.account) ?? { account: one.account, told_at: one.at };
    if (one.at > line.told_at) line = { ...line, told_at: one.at };
    for (const field of fields) {
      const known = line[momentOf[field]];
      if (one[field] !== undefined && (known === undefined || known <= one.at))
        line = { ...line, [field]: one[field], [momentOf[field]]: one.at };
    }
    news.set(one.account, line);
  }
  // In one order everywhere, so that no two transactions wait for each other.
  return [...news.values()].sort((a, b) => a.account - b.account);
}

const changed = 'm.told_by is distinct from excluded.told_by';

/**
 * A value gives way to one that is told as of a later moment, or of the same; one that is not told says nothing. Of
 * another provider than the present one nothing stays.
 */
const newer = (field: Field): string => {
  const at = momentOf[field];
  const wins = `excluded.${at} is not null and (m.${at} is null or m.${at} <= excluded.${at})`;
  return `${field} = case when ${changed} or ${wins} then excluded.${field} else m.${field} end,
    ${at} = case when ${changed} then excluded.${at} else greatest(m.${at}, excluded.${at}) end`;
};

// The accounts are held: one that is being erased at this moment is told nothing any more.
const save = `
  with news as (
    select * from jsonb_to_recordset($1::jsonb) as t(account bigint, told_at timestamptz, card_number text,
      card_at timestamptz, tier text, tier_at timestamptz, points numeric, points_at timestamptz)),
  held as materialized (
    select id from account where id in (select account from news) order by id for key share)
  insert into loyalty_member as m
    (account, status, next_at, told_by, told_at, card_number, card_at, tier, tier_at, points, points_at)
  select account, 'settled', $2, $3, told_at, card_number, card_at, tier, tier_at, points, points_at
    from news where account in (select id from held) order by account
  on conflict (account) do update set
    told_at = case when ${changed} then excluded.told_at else greatest(m.told_at, excluded.told_at) end, ${fields.map(newer).join(', ')},
    told_by = excluded.told_by`;

/**
 * Takes in a message of the provider: once, whatever how often it comes; older news never replace newer ones.
 * @returns how many of the accounts it names are ours; undefined for a message that was taken in before
 */
export function takeIn(root: Ctx, { name, place }: Provider, { id, told }: Taken): Promise<number | undefined> {
  return transaction(root, async (ctx) => {
    const now = ctx.clock.now();
    const first = await ctx.db.run(sql`
      insert into loyalty_message (id, at) values (${`${name} ${id}`}, ${now}) on conflict (id) do nothing`);
    if (first === 0) return undefined;
    const news = newest(told);
    if (news.length === 0) return 0;
    const ours = await ctx.db.run(prepared(save, JSON.stringify(news), now, place));
    // How many, not which: who shops where is nobody's to read in a log.
    if (ours < news.length)
      ctx.log.info(
        { connector: name, accounts: news.length - ours },
        'a loyalty message named accounts that are not ours',
      );
    return ours;
  });
}

/** Forgets which messages were taken in: one that comes again after eight days is too old to be believed anyway. */
export const sweepLoyaltyMessages = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from loyalty_message where at < ${ctx.clock.now()}::timestamptz - interval '8 days'`);

/** Where the provider in force has its members: another tenant of the same connector told of other cards. */
const presentPlace = (ctx: Ctx): string => configured(ctx)?.place ?? 'none';

/** Whether there is a provider that may tell us things. */
export const hasProvider = (ctx: Ctx): boolean =>
  String(ctx.settings.get('CUSTOMER_LOYALTY_CARD_SERVICE')['connector']) !== 'none';

interface PartRow extends LoyaltyPart {
  readonly account: number;
}

/** What the present provider told of an account; undefined when it told nothing. Gathers its callers. */
export const toldOf = batched<number, LoyaltyPart | undefined>({
  async run(ctx, accounts) {
    const rows = await ctx.db.rows<PartRow>(sql`
      select account, card_number, tier, points::float8 as points from loyalty_member
       where account = any (${accounts}::bigint[]) and told_by = ${presentPlace(ctx)}`);
    const parts = new Map(rows.map(({ account, ...part }) => [account, part]));
    return accounts.map((account) => parts.get(account));
  },
});

/** How an account stands with the provider, as operators see it. */
export interface LoyaltyStanding extends LoyaltyPart {
  readonly delivered_at: string | null;
  readonly status: 'waiting' | 'parked' | 'settled';
  readonly reason: string | null;
}

/** How an account stands with the provider; null when it never had to do with one. */
export async function loyaltyStanding(ctx: Ctx, account: number): Promise<LoyaltyStanding | null> {
  const row = await ctx.db.one<Omit<LoyaltyStanding, 'delivered_at'> & { delivered_at: Date | null }>(sql`
    select t.card_number, t.tier, t.points::float8 as points, m.delivered_at, m.status, m.reason
      from loyalty_member m left join loyalty_member t on t.account = m.account and t.told_by = ${presentPlace(ctx)}
     where m.account = ${account}`);
  return row === undefined ? null : { ...row, delivered_at: row.delivered_at?.toISOString() ?? null };
}
