/** What a colleague may do: pairs of shop and permission, and what the documented wire shows of them. No database, no clock. */
import { MANAGING, type Permission, permissionKeys } from '../permissions.ts';

/** One right: this permission in this shop. */
export interface Right {
  readonly shop: number;
  readonly permission: Permission;
  /** It holds until then, in milliseconds since 1970; null: without end. */
  readonly until: number | null;
  /** The line of the history that gave it; null: the one that is being written. */
  readonly event: string | null;
}

/**
 * One colleague in one company. `shop_ids` and `permissions` are the documented shape: every shop and every key of the
 * rights, and besides them shops without a key and keys without a shop, which open nothing yet.
 */
export interface Entry {
  readonly id: number;
  readonly account: number;
  readonly shop_ids: readonly number[];
  readonly permissions: readonly Permission[];
  readonly rights: readonly Right[];
  readonly version: number;
  /** Its account can use it: switched on, and the address is proven. */
  readonly acts: boolean;
}

/** How a right changes; null: not held. */
export interface RightChange {
  readonly shop: number;
  readonly permission: Permission;
  readonly before: { readonly until: number | null } | null;
  readonly after: { readonly until: number | null } | null;
}

export const pairOf = ({ shop, permission }: { shop: number; permission: Permission }): string =>
  `${shop}:${permission}`;

/** Whether an end comes before another; no end comes last. */
export const endsBefore = (one: number | null, other: number | null): boolean =>
  one !== null && (other === null || one < other);

/**
 * Shops and keys for a set of rights: those there were, in their order, less those whose last right went, and the new ones.
 * What had no right before stays: it was a promise and still is.
 */
function shapeOf(before: Entry, rights: readonly Right[]): Pick<Entry, 'shop_ids' | 'permissions'> {
  const had = { shops: new Set(before.rights.map(({ shop }) => shop)), keys: new Set<string>() };
  const has = { shops: new Set(rights.map(({ shop }) => shop)), keys: new Set<string>() };
  for (const { permission } of before.rights) had.keys.add(permission);
  for (const { permission } of rights) has.keys.add(permission);
  const kept = before.shop_ids.filter((shop) => has.shops.has(shop) || !had.shops.has(shop));
  return {
    shop_ids: [...new Set([...kept, ...has.shops])],
    permissions: permissionKeys.filter(
      (key) => has.keys.has(key) || (before.permissions.includes(key) && !had.keys.has(key)),
    ),
  };
}

/** The entry with these rights instead. */
export const withRights = (entry: Entry, rights: readonly Right[]): Entry => ({
  ...entry,
  ...shapeOf(entry, rights),
  rights,
});

/** The entry as it is at a moment: rights that ended are gone from it, swept or not. The same object when none did. */
export function atTime<E extends Entry>(entry: E, now: number): E {
  if (!entry.rights.some(({ until }) => until !== null && until <= now)) return entry;
  return {
    ...entry,
    ...withRights(
      entry,
      entry.rights.filter(({ until }) => until === null || until > now),
    ),
  };
}

/** What differs between two states of an entry, pair by pair. */
export function changesBetween(before: readonly Right[], after: readonly Right[]): RightChange[] {
  const had = new Map(before.map((right) => [pairOf(right), right]));
  const changes: RightChange[] = [];
  for (const right of after) {
    const old = had.get(pairOf(right));
    had.delete(pairOf(right));
    if (old?.until === right.until) continue;
    const { shop, permission, until } = right;
    changes.push({ shop, permission, before: old === undefined ? null : { until: old.until }, after: { until } });
  }
  for (const { shop, permission, until } of had.values())
    changes.push({ shop, permission, before: { until }, after: null });
  return changes;
}

/**
 * Keys and shops that an entry promises after a change, and before held until a date or not at all. A promise has no end, so
 * it is more than a right that ends: it must not be what is left of one.
 */
export function newPromises(before: Entry, after: Entry): { keys: Permission[]; shops: number[] } {
  const index = ({ rights }: Entry) => ({
    keys: new Set(rights.map(({ permission }) => permission)),
    shops: new Set(rights.map(({ shop }) => shop)),
  });
  const [had, has] = [index(before), index(after)];
  const lasting = index({ ...before, rights: before.rights.filter(({ until }) => until === null) });
  const kept = {
    keys: new Set(before.permissions.filter((key) => !had.keys.has(key) || lasting.keys.has(key))),
    shops: new Set(before.shop_ids.filter((shop) => !had.shops.has(shop) || lasting.shops.has(shop))),
  };
  return {
    keys: after.permissions.filter((key) => !has.keys.has(key) && !kept.keys.has(key)),
    shops: after.shop_ids.filter((shop) => !has.shops.has(shop) && !kept.shops.has(shop)),
  };
}

/** Shops in which the entry manages colleagues without end: a right that ends leaves nobody one day. */
export const lastingShops = ({ acts, rights }: Entry): Set<number> =>
  new Set(acts ? rights.filter((r) => r.permission === MANAGING && r.until === null).map(({ shop }) => shop) : []);

/** Whether the entry manages the company without end, in a shop or, as long as it has none, by its key alone. */
export function managesForGood(entry: Entry): boolean {
  if (!entry.acts || !entry.permissions.includes(MANAGING)) return false;
  const managing = entry.rights.filter(({ permission }) => permission === MANAGING);
  return managing.length === 0 || managing.some(({ until }) => until === null);
}

/** Keys that an entry shows and that do not hold in every shop it shows: the documented shape cannot say where. */
export const unevenKeys = ({ shop_ids, permissions, rights }: Entry): Permission[] => {
  const count = new Map<Permission, number>();
  for (const { permission } of rights) count.set(permission, (count.get(permission) ?? 0) + 1);
  return permissions.filter((key) => (count.get(key) ?? 0) < shop_ids.length);
};
