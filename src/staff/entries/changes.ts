/** What a request asks of an entry, and the entry as it would be: by the documented shape, by pairs, or without anything. */
import { type Complaint, Failure } from '../../platform/failure.ts';
import { isPermission, type Permission, permissionKeys } from '../permissions.ts';
import { type Entry, pairOf, type Right, withRights } from './rights.ts';

/** What a PATCH of the documented wire says, not yet known to make sense: absent keeps; keys merge, `shop_ids` replaces. */
export type AskedChange = Readonly<Record<string, unknown>>;

/** A change by pairs. `until` in ISO 8601; absent or null: without end. */
export interface Edit {
  readonly grant?: readonly { readonly shop: number; readonly permission: string; readonly until?: string | null }[];
  readonly revoke?: readonly { readonly shop: number; readonly permission: string }[];
  readonly roles?: readonly {
    readonly role: string;
    readonly shops: readonly number[];
    readonly until?: string | null;
  }[];
}

export type Wish =
  | { readonly by: 'shape'; readonly change: AskedChange }
  | { readonly by: 'pairs'; readonly edit: Edit; readonly roles: Readonly<Record<string, readonly string[]>> }
  | { readonly by: 'removal' };

/** One body cannot ask for an answer many times its size. */
const MAX_COMPLAINTS = 10_000;

const foreignShop = (path: Complaint['path'], shop: unknown): Complaint => ({
  path,
  key: 'staff.foreign_shop',
  values: { shop: String(shop) },
});

/** Everything in a change of the documented shape that cannot be, each with its place. */
function faultsOfShape(shops: ReadonlySet<number>, asked: AskedChange): Complaint[] {
  const { shop_ids = [], permissions = {}, ...stray } = asked;
  const complaints = Object.keys(stray).map((key): Complaint => ({ path: [key], key: 'field.unknown' }));
  const wrongType = (key: string, type: string): number =>
    complaints.push({ path: [key], key: 'field.type', values: { type } });
  if (!Array.isArray(shop_ids)) wrongType('shop_ids', 'array');
  else {
    for (const [index, shop] of shop_ids.entries()) {
      const path = ['shop_ids', index];
      if (!Number.isSafeInteger(shop)) complaints.push({ path, key: 'field.integer' });
      else if (!shops.has(shop)) complaints.push(foreignShop(path, shop));
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
  return complaints;
}

/**
 * Applies a change of the documented shape. A key that becomes true opens in every shop, a shop that is added opens for
 * every key; where both were there already nothing is levelled: what a colleague holds in one shop only stays so.
 */
function byShape(entry: Entry, asked: AskedChange): Entry {
  const change = asked as { shop_ids?: readonly number[]; permissions?: Readonly<Record<string, boolean>> };
  const shop_ids = change.shop_ids === undefined ? entry.shop_ids : [...new Set(change.shop_ids)];
  const permissions = permissionKeys.filter((key) => change.permissions?.[key] ?? entry.permissions.includes(key));
  const [oldShops, oldKeys] = [new Set(entry.shop_ids), new Set(entry.permissions)];
  const [newShops, newKeys] = [new Set(shop_ids), new Set(permissions)];
  const rights: Right[] = entry.rights.filter(({ shop, permission }) => newShops.has(shop) && newKeys.has(permission));
  const held = new Set(rights.map(pairOf));
  for (const shop of newShops) {
    for (const permission of newKeys) {
      if (oldShops.has(shop) && oldKeys.has(permission)) continue;
      if (!held.has(pairOf({ shop, permission }))) rights.push({ shop, permission, until: null, event: null });
    }
  }
  return { ...entry, shop_ids, permissions, rights };
}

/** Pairs that an edit gives, roles spelt out, each with its place in the body. */
function given(
  { grant = [], roles: asked = [] }: Edit,
  roles: Readonly<Record<string, readonly string[]>>,
): { path: (string | number)[]; shop: number; permission: string; until: string | null }[] {
  const single = grant.map(({ shop, permission, until = null }, index) => ({
    path: ['grant', index],
    shop,
    permission,
    until,
  }));
  const byRole = asked.flatMap(({ role, shops, until = null }, index) =>
    shops.flatMap((shop) =>
      (Object.hasOwn(roles, role) ? roles[role]! : []).map((permission) => ({
        path: ['roles', index],
        shop,
        permission,
        until,
      })),
    ),
  );
  return [...byRole, ...single];
}

/** Rights that one edit may name, roles spelt out: every permission in a thousand shops, several times over. */
const MAX_PAIRS = 50_000;

/** How many rights an edit gives, without spelling them out: a small body can name a million. */
const countGiven = (
  { grant = [], roles: asked = [] }: Edit,
  roles: Readonly<Record<string, readonly string[]>>,
): number =>
  asked.reduce(
    (sum, { role, shops }) => sum + shops.length * (Object.hasOwn(roles, role) ? roles[role]!.length : 0),
    grant.length,
  );

/** Nothing later can be written in four digits of year. */
const LAST_MOMENT = Date.parse('9999-12-31T23:59:59.999Z');

/** A time in milliseconds since 1970; NaN where it is none, as on a 30th of February, and after the year 9999. */
function momentOf(text: string): number {
  const at = Date.parse(text);
  const day = text.slice(0, 10);
  const midnight = Date.parse(`${day}T00:00:00Z`);
  // Date.parse makes a 2nd of March of that day.
  const exists = !Number.isNaN(midnight) && new Date(midnight).toISOString().startsWith(day);
  return exists && at <= LAST_MOMENT ? at : Number.NaN;
}

function faultsOfPairs(
  shops: ReadonlySet<number>,
  edit: Edit,
  roles: Readonly<Record<string, readonly string[]>>,
  now: number,
): Complaint[] {
  if (countGiven(edit, roles) > MAX_PAIRS)
    return [{ path: ['roles'], key: 'staff.too_many', values: { max: MAX_PAIRS } }];
  const complaints: Complaint[] = [];
  const unknownRoles = new Set<number>();
  for (const [index, { role }] of (edit.roles ?? []).entries()) {
    if (Object.hasOwn(roles, role)) continue;
    unknownRoles.add(index);
    complaints.push({ path: ['roles', index, 'role'], key: 'staff.unknown_role' });
  }
  const taken = new Set(
    (edit.revoke ?? []).map(({ shop, permission }) => pairOf({ shop, permission: permission as Permission })),
  );
  const places = [
    ...given(edit, roles),
    ...(edit.revoke ?? []).map((pair, index) => ({ path: ['revoke', index], until: null, ...pair })),
  ];
  for (const { path, shop, permission, until } of places) {
    if (!shops.has(shop)) complaints.push(foreignShop([...path, 'shop'], shop));
    if (!isPermission(permission)) complaints.push({ path: [...path, 'permission'], key: 'staff.unknown_permission' });
    else if (path[0] !== 'revoke' && taken.has(pairOf({ shop, permission })))
      complaints.push({ path, key: 'staff.given_and_taken' });
    if (until === null) continue;
    const end = momentOf(until);
    if (Number.isNaN(end)) complaints.push({ path: [...path, 'until'], key: 'invalid.time' });
    else if (end <= now) complaints.push({ path: [...path, 'until'], key: 'staff.ended' });
  }
  const seen = new Set<string>();
  return complaints.filter(({ path, key }) => {
    const place = `${path.join('/')} ${key}`;
    return !seen.has(place) && seen.add(place);
  });
}

/** Applies a change by pairs: what it names is as it says, everything else stays. A pair beats a role that names it too. */
function byPairs(entry: Entry, edit: Edit, roles: Readonly<Record<string, readonly string[]>>): Entry {
  const rights = new Map(entry.rights.map((right) => [pairOf(right), right]));
  for (const pair of edit.revoke ?? []) rights.delete(pairOf(pair as Right));
  for (const { shop, permission, until: text } of given(edit, roles)) {
    const until = text === null ? null : Date.parse(text);
    const right = { shop, permission: permission as Permission, until, event: null };
    if (rights.get(pairOf(right))?.until !== until || !rights.has(pairOf(right))) rights.set(pairOf(right), right);
  }
  return withRights(entry, [...rights.values()]);
}

const sameList = (one: readonly unknown[], other: readonly unknown[]): boolean =>
  one.length === other.length && one.every((item, index) => item === other[index]);

/**
 * The entry as a wish would have it, whoever asks.
 * @param shops of the company
 * @param now milliseconds since 1970
 * @returns the same object when nothing changes; unprocessable with every place that cannot be
 */
export function wished(entry: Entry, shops: ReadonlySet<number>, wish: Wish, now: number): Entry | Failure {
  if (wish.by === 'removal') return { ...entry, shop_ids: [], permissions: [], rights: [] };
  const faults =
    wish.by === 'shape' ? faultsOfShape(shops, wish.change) : faultsOfPairs(shops, wish.edit, wish.roles, now);
  if (faults.length > 0) return new Failure('unprocessable', { complaints: faults.slice(0, MAX_COMPLAINTS) });
  const after = wish.by === 'shape' ? byShape(entry, wish.change) : byPairs(entry, wish.edit, wish.roles);
  const same =
    sameList(entry.shop_ids, after.shop_ids) &&
    sameList(entry.permissions, after.permissions) &&
    entry.rights.length === after.rights.length &&
    after.rights.every(({ event }) => event !== null);
  return same ? entry : after;
}
