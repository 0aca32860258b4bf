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

/** What a PATCH says, not yet known to make sense: absent keeps; keys of `permissions` merge, `shop_ids` replaces. */
export type AskedChange = Readonly<Record<string, unknown>>;

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

function holdingOf(company: CompanyState, account: number): Holding | undefined {
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

/**
 * Whether a change leaves the company, or a shop of it, without anybody who manages it. An owner always does; without one
 * a holder of the managing permission must stay, and one in each shop that had one: nobody else could ever bring it back.
 */
function orphans(company: CompanyState, before: Entry, after: Entry): boolean {
  if (company.owner !== null || !before.permissions.includes(MANAGING)) return false;
  const stays = after.permissions.includes(MANAGING);
  const others = company.entries.filter(({ id, permissions }) => id !== before.id && permissions.includes(MANAGING));
  const left = before.shop_ids.filter((shop) => !stays || !after.shop_ids.includes(shop));
  return (
    (!stays && others.length === 0) || left.some((shop) => !others.some(({ shop_ids }) => shop_ids.includes(shop)))
  );
}

/** Pairs of shop and permission that `entry` gives, as `shop:permission`. */
const pairs = (shops: readonly number[], held: readonly Permission[]): Set<string> =>
  new Set(shops.flatMap((shop) => held.map((permission) => `${shop}:${permission}`)));

/** One body cannot ask for an answer many times its size. */
const MAX_COMPLAINTS = 10_000;

/** Everything in a change that cannot be, each with its place: wrong types, unknown keys, shops of other companies. */
function impossible(company: CompanyState, asked: AskedChange): Complaint[] {
  const { shop_ids = [], permissions = {}, ...stray } = asked;
  const complaints = Object.keys(stray).map((key): Complaint => ({ path: [key], key: 'field.unknown' }));
  const wrongType = (key: string, type: string): number =>
    complaints.push({ path: [key], key: 'field.type', values: { type } });
  if (!Array.isArray(shop_ids)) wrongType('shop_ids', 'array');
  else {
    for (const [index, shop] of shop_ids.entries()) {
      const path = ['shop_ids', index];
      if (!Number.isSafeInteger(shop)) complaints.push({ path, key: 'field.integer' });
      else if (!company.shops.has(shop))
        complaints.push({ path, key: 'staff.foreign_shop', values: { shop: String(shop) } });
    }
  }
  if (typeof permissions !== 'object' || permissions === null || Array.isArray(permissions))
    wrongType('permissions', 'object');
  else {
    for (const [key, value] of Object.entries(permissions)) {
      const path = ['permissions', key];
      if (!isPermission(key)) complaints.push({ path, key: 'staff.unknown_permission' });
      else if (typeof value !== 'boolean') complaints.push({ path, key: 'field.boolean' });
    }
  }
  return complaints.slice(0, MAX_COMPLAINTS);
}

/** The first right somebody lacks for a change: each pair of shop and permission that opens or closes must be held there. */
function lacking(
  company: CompanyState,
  { permissions, shops }: Holding,
  before: Entry,
  after: Entry,
): Failure | undefined {
  const [had, has] = [pairs(before.shop_ids, before.permissions), pairs(after.shop_ids, after.permissions)];
  for (const pair of had.symmetricDifference(has)) {
    const [shop, permission] = pair.split(':') as [string, Permission];
    if (!permissions.has(permission) || !shops.has(Number(shop))) {
      return new Failure('missing_permission_in_shop', { values: { permission, shop } });
    }
  }
  // A key without a shop, or a shop without a key, opens nothing yet but is the promise of it: it must be held all the same.
  const key = permissionKeys.find(
    (k) => before.permissions.includes(k) !== after.permissions.includes(k) && !permissions.has(k),
  );
  if (key !== undefined) return new Failure('missing_permission', { values: { permission: key } });
  const shop = [...company.shops].find(
    (s) => before.shop_ids.includes(s) !== after.shop_ids.includes(s) && !shops.has(s),
  );
  return shop === undefined
    ? undefined
    : new Failure('missing_permission_in_shop', { values: { permission: MANAGING, shop: String(shop) } });
}

/**
 * Decides the change of an entry.
 * @param caller account that asks
 * @returns the entry as it will be, the same object when nothing changes
 */
export function decideEntry(
  company: CompanyState,
  caller: number,
  target: number,
  asked: AskedChange,
): Entry | Failure {
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
  const added =
    permissions.some((key) => !entry.permissions.includes(key)) ||
    shop_ids.some((shop) => !entry.shop_ids.includes(shop));
  const taken =
    entry.permissions.some((key) => !permissions.includes(key)) ||
    entry.shop_ids.some((shop) => !shop_ids.includes(shop));
  const moved =
    shop_ids.length !== entry.shop_ids.length || shop_ids.some((shop, index) => shop !== entry.shop_ids[index]);
  if (!added && !taken && !moved) return entry;

  if (entry.account === company.owner && taken) return new Failure('owner_entry');
  if (entry.account === caller && !holding.owner && added) return new Failure('own_entry');
  const changed = { ...entry, shop_ids, permissions, version: entry.version + 1 };
  const lack = holding.owner ? undefined : lacking(company, holding, entry, changed);
  if (lack !== undefined) return lack;
  return orphans(company, entry, changed) ? new Failure('last_manager') : changed;
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
