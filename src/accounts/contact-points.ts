/** Contact points: the addresses consent belongs to. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';

export type PointKind = 'phone' | 'email';

export interface ContactPoint {
  readonly id: number;
  readonly kind: PointKind;
  /** Keyed hash of the address, hex; null for the placeholder of an account without a number. */
  readonly address_hash: string | null;
}

/** The keyed hash under which an address is known, also after its erasure. */
export const addressHash = (ctx: Ctx, kind: PointKind, value: string): Buffer =>
  ctx.keys.hash('contact_point', kind, value);

/**
 * The points of these addresses, made where they are new, locked until the transaction ends. In the order asked for.
 * @param addresses e-mails as `foldEmail` folds them, phone numbers in E.164
 */
export async function contactPoints(
  ctx: Ctx,
  addresses: readonly { kind: PointKind; value: string }[],
): Promise<ContactPoint[]> {
  // One row an address, in key order: two transactions take their locks in the same order.
  const wanted = new Map(
    addresses.map(({ kind, value }) => [`${kind} ${value}`, { kind, value, hash: addressHash(ctx, kind, value) }]),
  );
  const sorted = [...wanted.values()].sort((a, b) => Buffer.compare(a.hash, b.hash));
  const rows = await ctx.db.rows<ContactPoint & { value: string }>(sql`
    insert into contact_point as p (kind, value, address_hash, created_at)
    select kind, value, address_hash, ${ctx.clock.now()}
      from unnest(${sorted.map(({ kind }) => kind)}::text[], ${sorted.map(({ value }) => value)}::text[],
                  ${sorted.map(({ hash }) => hash)}::bytea[]) as a (kind, value, address_hash)
    on conflict (kind, address_hash) do update set value = excluded.value, retired_at = null
    returning p.id, p.kind, p.value, encode(p.address_hash, 'hex') as address_hash`);
  const found = new Map(
    rows.map(({ id, kind, address_hash, value }) => [`${kind} ${value}`, { id, kind, address_hash }]),
  );
  return addresses.map(({ kind, value }) => found.get(`${kind} ${value}`)!);
}

/** The point that stands for "my phone" of an account without a number. */
export async function placeholderPoint(ctx: Ctx): Promise<ContactPoint> {
  const row = await ctx.db.one<{ id: number }>(sql`
    insert into contact_point (kind, created_at) values ('phone', ${ctx.clock.now()}) returning id`);
  return { id: row!.id, kind: 'phone', address_hash: null };
}
