/** Who may change whose rights, as a pure function: no database, no clock. See docs/decisions/0011-last-manager-and-owners.md. */
import { Failure } from '../../platform/failure.ts';
import { MANAGING, type Permission, permissionKeys } from '../permissions.ts';
import { type Wish, wished } from './changes.ts';
import {
  atTime,
  changesBetween,
  type Entry,
  endsBefore,
  lastingShops,
  managesForGood,
  newPromises,
  pairOf,
  type RightChange,
} from './rights.ts';

/** A company as a change finds it, under its lock. */
export interface CompanyState {
  readonly owner: number | null;
  /** The owner can act: an account that is switched on, with a proven address. */
  readonly ownerActs: boolean;
  readonly shops: ReadonlySet<number>;
  /** Those of the caller and of the change; all that manage, where no owner can act. */
  readonly entries: readonly Entry[];
}

/** Who asks. */
export interface Caller {
  /** As the history names them: `account:7`, `operator:1`, `key:3`, `command`. */
  readonly name: string;
  /** Null: an operator, who needs no rights of their own. */
  readonly account: number | null;
  /** Nobody has proven the address, so whoever is signed in may be somebody else: rights wait. */
  readonly unproven?: boolean;
  /** An owner who has to have a second factor, and has none. */
  readonly lacksSecondFactor?: boolean;
}

/** What somebody holds in a company. */
interface Holding {
  /** Everything, everywhere: the owner, or an operator. */
  readonly all: boolean;
  readonly permissions: ReadonlySet<Permission>;
  /** End of each pair that is held. */
  readonly ends: ReadonlyMap<string, number | null>;
}

function holdingOf(
  company: CompanyState,
  { account, unproven, lacksSecondFactor }: Caller,
  now: number,
): Holding | undefined {
  const everything = { all: true, permissions: new Set(permissionKeys), ends: new Map() };
  if (account === null) return everything;
  if (company.owner === account && !unproven) {
    if (!company.ownerActs) throw new Failure('not_authenticated');
    if (lacksSecondFactor) throw new Failure('second_factor_required');
    return everything;
  }
  const found = company.entries.find((candidate) => candidate.account === account);
  if (found === undefined) return undefined;
  if (unproven) return { all: false, permissions: new Set(), ends: new Map() };
  if (!found.acts) throw new Failure('not_authenticated');
  const entry = atTime(found, now);
  return {
    all: false,
    permissions: new Set(entry.permissions),
    ends: new Map(entry.rights.map((right) => [pairOf(right), right.until])),
  };
}

/**
 * What a caller who may look at entries holds.
 * @throws not_found for an outsider: a company is not shown to those without an entry; missing_permission for a colleague
 *   who does not manage; second_factor_required; not_authenticated for one who was switched off a moment ago
 */
export function requireManager(company: CompanyState, caller: Caller, now: number): Holding {
  const holding = holdingOf(company, caller, now);
  if (holding === undefined) throw new Failure('not_found');
  if (!holding.permissions.has(MANAGING)) throw new Failure('missing_permission', { values: { permission: MANAGING } });
  return holding;
}

/**
 * Whether a change leaves the company, or a shop of it, without anybody who manages it. An owner always does; where none
 * can act, whoever manages without end must stay: nobody else could ever bring it back.
 */
function orphans(company: CompanyState, before: Entry, after: Entry): boolean {
  if (company.owner !== null && company.ownerActs) return false;
  const others = company.entries.filter(({ id }) => id !== before.id);
  if (managesForGood(before) && !managesForGood(after) && !others.some(managesForGood)) return true;
  const left = lastingShops(before).difference(lastingShops(after));
  if (left.size === 0) return false;
  // All at once: shop by shop, a thousand shops and managers would take minutes.
  return !left.isSubsetOf(new Set(others.flatMap((other) => [...lastingShops(other)])));
}

const missingIn = (permission: string, shop: number): Failure =>
  new Failure('missing_permission_in_shop', { values: { permission, shop: String(shop) } });

/** The first right somebody lacks for a change: each pair that opens, closes or ends otherwise must be held there. */
function lacking(holding: Holding, before: Entry, after: Entry, changes: readonly RightChange[]): Failure | undefined {
  for (const { shop, permission, before: had, after: has } of changes) {
    const end = holding.ends.get(pairOf({ shop, permission }));
    if (end === undefined) return missingIn(permission, shop);
    // Whoever manages one shop only has no say in the others.
    if (!holding.ends.has(pairOf({ shop, permission: MANAGING }))) return missingIn(MANAGING, shop);
    // Else a right that ends could be kept alive through a friend.
    if (has !== null && endsBefore(end, has.until) && (had === null || endsBefore(had.until, has.until)))
      return new Failure('beyond_own_end', { values: { permission, shop: String(shop) } });
  }
  // A key without a shop, or a shop without a key, opens nothing yet but is the promise of it: it must be held all the same.
  const key = permissionKeys.find(
    (k) => before.permissions.includes(k) !== after.permissions.includes(k) && !holding.permissions.has(k),
  );
  if (key !== undefined) return new Failure('missing_permission', { values: { permission: key } });
  const shop = [...new Set(before.shop_ids).symmetricDifference(new Set(after.shop_ids))].find(
    (s) => !holding.ends.has(pairOf({ shop: s, permission: MANAGING })),
  );
  if (shop !== undefined) return missingIn(MANAGING, shop);
  return outliving(holding, before, after);
}

/** A promise that would outlive what its giver holds. */
function outliving(holding: Holding, before: Entry, after: Entry): Failure | undefined {
  const { keys, shops } = newPromises(before, after);
  for (const shop of shops) {
    if (holding.ends.get(pairOf({ shop, permission: MANAGING })) !== null)
      return new Failure('beyond_own_end', { values: { permission: MANAGING, shop: String(shop) } });
  }
  for (const permission of keys) {
    const held = [...holding.ends].filter(([pair]) => pair.endsWith(`:${permission}`));
    if (held.length > 0 && held.every(([, end]) => end !== null))
      return new Failure('beyond_own_end', { values: { permission, shop: held[0]![0].split(':')[0]! } });
  }
  return undefined;
}

const lost = <T>(before: readonly T[], after: readonly T[]): boolean => before.some((item) => !after.includes(item));

/** What a change does to an entry: as it was (without what had ended), as it will be, and the pairs between. */
export interface Decided {
  readonly before: Entry;
  /** The same object when nothing changes. */
  readonly after: Entry;
  readonly changes: readonly RightChange[];
}

/**
 * Decides a change of an entry.
 * @param seen refuses, by throwing, what rests on an outdated view of the entry as it is
 * @param now milliseconds since 1970
 */
export function decide(
  company: CompanyState,
  caller: Caller,
  target: number,
  wish: Wish,
  now: number,
  seen: (entry: Entry) => void = () => {},
): Decided | Failure {
  try {
    const holding = requireManager(company, caller, now);
    const found = company.entries.find(({ id }) => id === target);
    if (found === undefined) return new Failure('not_found');
    const before = atTime(found, now);
    seen(before);
    const asked = wished(before, company.shops, wish, now);
    if (asked instanceof Failure) return asked;
    const owners = before.account === company.owner;
    if (wish.by === 'removal' && owners) return new Failure('owner_entry');
    if (asked === before) return { before, after: before, changes: [] };

    const changes = changesBetween(before.rights, asked.rights);
    const taken =
      changes.some(({ before: b, after: a }) => b !== null && (a === null || endsBefore(a.until, b.until))) ||
      lost(before.permissions, asked.permissions) ||
      lost(before.shop_ids, asked.shop_ids);
    const promises = newPromises(before, asked);
    const added =
      promises.keys.length + promises.shops.length > 0 ||
      changes.some(({ before: b, after: a }) => a !== null && (b === null || endsBefore(b.until, a.until))) ||
      lost(asked.permissions, before.permissions) ||
      lost(asked.shop_ids, before.shop_ids);
    if (owners && taken) return new Failure('owner_entry');
    if (before.account === caller.account && !holding.all && added) return new Failure('own_entry');
    const after = { ...asked, version: before.version + 1 };
    const lack = holding.all ? undefined : lacking(holding, before, after, changes);
    if (lack !== undefined) return lack;
    return orphans(company, before, after) ? new Failure('last_manager') : { before, after, changes };
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}
