/** Contact points: the addresses consent belongs to. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';

export type PointKind = 'phone' | 'email';

/** Kind and value: an e-mail as `foldEmail` folds it, or a phone number in E.164. */
export interface Address {
  readonly kind: PointKind;
  readonly value: string;
}

export interface ContactPoint {
  readonly id: number;
  readonly kind: PointKind;
  /** Keyed hash of the address, hex; null for the placeholder of an account without a number. */
  readonly address_hash: string | null;
  /** The address; null for a placeholder, and once it is erased. */
  readonly value: string | null;
}

/** The keyed hash under which an address is known, also after its erasure. */
export const addressHash = (ctx: Ctx, kind: PointKind, value: string): Buffer =>
  ctx.keys.hash('contact_point', kind, value);

/** Each address once with its hash, in the order of hashes: two transactions that make the same points never wait crosswise. */
function hashed(ctx: Ctx, addresses: readonly Address[]): (Address & { hash: Buffer })[] {
  const wanted = new Map(
    addresses.map(({ kind, value }) => [`${kind} ${value}`, { kind, value, hash: addressHash(ctx, kind, value) }]),
  );
  return [...wanted.values()].sort((a, b) => Buffer.compare(a.hash, b.hash));
}

/**
 * Makes the points that are new. Whoever is to lock others too makes all of them first and then locks all, in the order of
 * their ids.
 * @returns the hashes of all
 */
export async function makePoints(ctx: Ctx, addresses: readonly Address[]): Promise<Buffer[]> {
  if (addresses.length === 0) return [];
  const all = hashed(ctx, addresses);
  const hashes = all.map(({ hash }) => hash);
  await ctx.db.run(sql`
    insert into contact_point (kind, value, address_hash, created_at)
    select kind, value, address_hash, ${ctx.clock.now()}
      from unnest(${all.map(({ kind }) => kind)}::text[], ${all.map(({ value }) => value)}::text[],
                  ${hashes}::bytea[]) as a (kind, value, address_hash)
    on conflict (address_hash) do nothing`);
  return hashes;
}

/**
 * The points of these addresses, made where they are new, locked until the transaction ends. In the order asked for.
 * @param addresses e-mails as `foldEmail` folds them, phone numbers in E.164
 * @param options `by`: the person whose address it is takes it into use again, also after an erasure; the shop does not
 */
export async function contactPoints(
  ctx: Ctx,
  addresses: readonly Address[],
  { by }: { by: 'person' | 'shop' },
): Promise<ContactPoint[]> {
  if (addresses.length === 0) return [];
  const sorted = hashed(ctx, addresses);
  const hashes = sorted.map(({ hash }) => hash);
  const [, rows] = await Promise.all([
    makePoints(ctx, addresses),
    ctx.db.rows<ContactPoint & { retired: boolean }>(sql`
      select id, kind, encode(address_hash, 'hex') as address_hash, value, retired_at is not null as retired
        from contact_point where address_hash = any (${hashes}::bytea[]) order by id for no key update`),
  ]);
  const byHash = new Map(rows.map((row) => [`${row.kind} ${row.address_hash}`, row]));
  const found = new Map(
    sorted.map(({ kind, value, hash }) => {
      const { retired, ...point } = byHash.get(`${kind} ${hash.toString('hex')}`)!;
      return [`${kind} ${value}`, { point, value, asleep: retired || point.value === null }];
    }),
  );
  if (by === 'person') {
    const asleep = [...found.values()].filter((entry) => entry.asleep);
    if (asleep.length > 0) {
      await ctx.db.run(sql`
        update contact_point p set value = a.value, retired_at = null, erased_at = null
          from unnest(${asleep.map(({ point }) => point.id)}::bigint[], ${asleep.map(({ value }) => value)}::text[]) as a (id, value)
         where p.id = a.id`);
    }
    for (const entry of asleep) entry.point = { ...entry.point, value: entry.value };
  }
  return addresses.map(({ kind, value }) => found.get(`${kind} ${value}`)!.point);
}

/** The point that stands for "my phone" of an account without a number. */
export async function placeholderPoint(ctx: Ctx): Promise<ContactPoint> {
  const row = await ctx.db.one<{ id: number }>(sql`
    insert into contact_point (kind, created_at) values ('phone', ${ctx.clock.now()}) returning id`);
  return { id: row!.id, kind: 'phone', address_hash: null, value: null };
}
