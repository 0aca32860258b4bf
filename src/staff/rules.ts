/** Who may change whose rights, as a pure function: no database, no clock. */
import { type Complaint, Failure } from '../platform/failure.ts';
import { isPermission, MANAGING, type Permission, permissionKeys } from './permissions.ts';

export interface Entry {
  readonly id: number;
  readonly account: number;
  readonly shop_ids: readonly number[];
  readonly permissions: readonly Permission[];
  readonly version: number;
}

/** A company as a change finds it, under its lock. */
export interface CompanyState {
  readonly owner: number | null;
  readonly shops: ReadonlySet<number>;
  readonly entries: readonly Entry[];
}

/** What a PATCH says, not yet known to make sense: absent keeps; permission keys merge, `shop_ids` replaces. */
export interface AskedChange {
  readonly shop_ids?: readonly unknown[];
  readonly permissions?: Readonly<Record<string, unknown>>;
}

interface EntryChange {
  readonly shop_ids?: readonly number[];
  readonly permissions?: Readonly<Record<string, boolean>>;
}

/** What somebody holds in a company. The owner holds everything, everywhere. */
export interface Holding {
  readonly owner: boolean;
  readonly permissions: ReadonlySet<Permission>;
  readonly shops: ReadonlySet<number>;
}

export function holdingOf(company: CompanyState, account: number): Holding | undefined {
  if (company.owner === account) return { owner: true, permissions: new Set(permissionKeys), shops: company.shops };
  const entry = company.entries.find((candidate) => candidate.account === account);
  return entry === undefined
    ? undefined
    : { owner: false, permissions: new Set(entry.permissions), shops: new Set(entry.shop_ids) };
}

/** @throws not_found for an outsider: a company is not shown to those without an entry; missing_permission for a colleague who may not manage */
export function requireManager(company: CompanyState, account: number): Holding {
  const holding = holdingOf(company, account);
  if (holding === undefined) throw new Failure('not_found');
  if (!holding.permissions.has(MANAGING)) throw new Failure('missing_permission', { values: { permission: MANAGING } });
  return holding;
}

/** Somebody besides `without` still manages the company: its owner, or a holder of the managing permission. */
const managed = (company: CompanyState, without: Entry): boolean =>
  company.owner !== null || company.entries.some((entry) => entry.id !== without.id && entry.permissions.includes(MANAGING));

/** Pairs of shop and permission that `entry` gives, as `shop:permission`. */
const pairs = (shops: readonly number[], held: readonly Permission[]): Set<string> =>
  new Set(shops.flatMap((shop) => held.map((permission) => `${shop}:${permission}`)));

/** Everything in a change that cannot be, each with its place: wrong types, unknown keys, shops of other companies. */
function impossible(company: CompanyState, { shop_ids = [], permissions = {} }: AskedChange): Complaint[] {
  return [
    ...shop_ids.flatMap((shop, index): Complaint[] => {
      const path = ['shop_ids', index];
      if (!Number.isSafeInteger(shop)) return [{ path, key: 'field.integer' }];
      return company.shops.has(shop as number) ? [] : [{ path, key: 'staff.foreign_shop', values: { shop: String(shop) } }];
    }),
    ...Object.entries(permissions).flatMap(([key, value]): Complaint[] => {
      const path = ['permissions', key];
      if (!isPermission(key)) return [{ path, key: 'staff.unknown_permission' }];
      return typeof value === 'boolean' ? [] : [{ path, key: 'field.boolean' }];
    }),
  ];
}

/**
 * Decides the change of an entry.
 * @param caller account that asks
 * @returns the entry as it will be, the same object when nothing changes
 */
export function decideEntry(company: CompanyState, caller: number, target: number, asked: AskedChange): Entry | Failure {
  let holding: Holding;
  try {
    holding = requireManager(company, caller);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  const entry = company.entries.find(({ id }) => id === target);
  if (entry === undefined) return new Failure('not_found');
  const complaints = impossible(company, asked);
  if (complaints.length > 0) return new Failure('unprocessable', { complaints });
  const change = asked as EntryChange;

  const shop_ids = change.shop_ids === undefined ? entry.shop_ids : [...new Set(change.shop_ids)];
  const permissions = permissionKeys.filter((key) => change.permissions?.[key] ?? entry.permissions.includes(key));
  const sameKeys = permissions.length === entry.permissions.length && permissions.every((key) => entry.permissions.includes(key));
  const sameShops = shop_ids.length === entry.shop_ids.length && shop_ids.every((shop, index) => shop === entry.shop_ids[index]);
  if (sameKeys && sameShops) return entry;

  if (entry.account === company.owner) return new Failure('owner_entry');
  const before = pairs(entry.shop_ids, entry.permissions);
  const after = pairs(shop_ids, permissions);
  const gained = [...after].filter((pair) => !before.has(pair));
  const newKeys = permissions.filter((key) => !entry.permissions.includes(key));
  const newShops = shop_ids.filter((shop) => !entry.shop_ids.includes(shop));
  if (entry.account === caller && !holding.owner && (gained.length > 0 || newKeys.length > 0 || newShops.length > 0)) {
    return new Failure('own_entry');
  }
  if (!holding.owner) {
    // A key or a shop that opens no pair yet is a promise of one: it must be held all the same.
    const changedKeys = permissionKeys.filter((key) => permissions.includes(key) !== entry.permissions.includes(key));
    const changedShops = [...company.shops].filter((shop) => shop_ids.includes(shop) !== entry.shop_ids.includes(shop));
    const lost = [...before].filter((pair) => !after.has(pair));
    const missing = [...gained, ...lost].filter((pair) => {
      const [shop, permission] = pair.split(':') as [string, Permission];
      return !holding.permissions.has(permission) || !holding.shops.has(Number(shop));
    });
    if (missing[0] !== undefined) {
      const [shop, permission] = missing[0].split(':') as [string, Permission];
      return new Failure('missing_permission_in_shop', { values: { permission, shop } });
    }
    const key = changedKeys.find((candidate) => !holding.permissions.has(candidate));
    if (key !== undefined) return new Failure('missing_permission', { values: { permission: key } });
    const shop = changedShops.find((candidate) => !holding.shops.has(candidate));
    if (shop !== undefined) return new Failure('missing_permission_in_shop', { values: { permission: MANAGING, shop: String(shop) } });
  }
  const changed = { ...entry, shop_ids, permissions, version: entry.version + 1 };
  if (!permissions.includes(MANAGING) && entry.permissions.includes(MANAGING) && !managed(company, entry)) {
    return new Failure('last_manager');
  }
  return changed;
}

/** Decides the removal of an entry: the same limits as taking everything it gives. */
export function decideRemoval(company: CompanyState, caller: number, target: number): Entry | Failure {
  const outcome = decideEntry(company, caller, target, {
    shop_ids: [],
    permissions: Object.fromEntries(permissionKeys.map((key) => [key, false])),
  });
  if (!(outcome instanceof Failure)) {
    const entry = company.entries.find(({ id }) => id === target);
    if (entry?.account === company.owner) return new Failure('owner_entry');
  }
  return outcome;
}
