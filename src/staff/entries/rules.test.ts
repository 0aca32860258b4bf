import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Failure } from '../../platform/failure.ts';
import { type Permission, permissionKeys } from '../permissions.ts';
import type { AskedChange } from './changes.ts';
import type { Entry } from './rights.ts';
import { type CompanyState, decide as decideWish } from './rules.ts';

const entry = (id: number, account: number, shop_ids: number[], permissions: Permission[]): Entry => ({
  id,
  account,
  shop_ids,
  permissions,
  rights: [...new Set(shop_ids)].flatMap((shop) =>
    permissions.map((permission) => ({ shop, permission, until: null, event: 'given' })),
  ),
  version: 1,
  acts: true,
});

const after = (state: CompanyState, caller: number, target: number, asked: AskedChange | null): Entry | Failure => {
  const wish = asked === null ? ({ by: 'removal' } as const) : ({ by: 'shape', change: asked } as const);
  const decided = decideWish(state, { name: `account:${caller}`, account: caller }, target, wish, 0);
  return decided instanceof Failure ? decided : decided.after;
};
const decideEntry = after;
const decideRemoval = (state: CompanyState, caller: number, target: number): Entry | Failure =>
  after(state, caller, target, null);

const OWNER = 1;
const MANAGER = 2;
const BAKER = 3;
const STRANGER = 9;
const all = [...permissionKeys];

/** Shops 11, 18, 19; the manager manages 11 and 18 with four permissions; the baker bakes in 11. */
const company = (more: Partial<CompanyState> = {}): CompanyState => ({
  owner: OWNER,
  ownerActs: true,
  shops: new Set([11, 18, 19]),
  entries: [
    entry(101, OWNER, [11, 18, 19], all),
    entry(102, MANAGER, [11, 18], ['holidays', 'permissions', 'products', 'discounts']),
    entry(103, BAKER, [11], ['products']),
  ],
  ...more,
});

/** What a decision says: the failure with its values, or shops and permissions as they will be. */
const told = (outcome: Entry | Failure): unknown =>
  outcome instanceof Failure
    ? [outcome.code, outcome.values]
    : { shop_ids: outcome.shop_ids, permissions: outcome.permissions };

const change = (state: CompanyState, caller: number, target: number, asked: AskedChange): unknown =>
  told(decideEntry(state, caller, target, asked));

const everyKey = (held: readonly Permission[]): Record<string, boolean> =>
  Object.fromEntries(permissionKeys.map((key) => [key, held.includes(key)]));

describe('who may change entries', () => {
  test('the company of a stranger is not there, and a colleague who does not manage learns which permission it takes', () => {
    expect(change(company(), STRANGER, 103, {})).toEqual(['not_found', {}]);
    expect(change(company(), BAKER, 103, {})).toEqual(['missing_permission', { permission: 'permissions' }]);
    // Nothing is said about entries, shops or values to somebody who may not look.
    expect(change(company(), BAKER, 999, { shop_ids: [99], nonsense: 1 })).toEqual([
      'missing_permission',
      { permission: 'permissions' },
    ]);
    expect(change(company(), STRANGER, 999, { shop_ids: [99] })).toEqual(['not_found', {}]);
  });

  test('an owner needs no entry', () => {
    const state = company({ entries: company().entries.slice(1) });
    expect(change(state, OWNER, 103, { shop_ids: [19] })).toEqual({ shop_ids: [19], permissions: ['products'] });
    expect(told(decideRemoval(state, OWNER, 103))).toEqual({ shop_ids: [], permissions: [] });
  });
});

describe('the change itself', () => {
  test('keys merge into the documented order, shops replace, and each change counts one version', () => {
    const outcome = decideEntry(company(), MANAGER, 103, {
      shop_ids: [18, 11],
      permissions: { discounts: true, holidays: true, products: false },
    });
    expect(outcome).toMatchObject({
      id: 103,
      account: BAKER,
      shop_ids: [18, 11],
      permissions: ['holidays', 'discounts'],
      version: 2,
    });
  });

  test('a shop that is named twice counts once, where it was named first', () => {
    expect(change(company(), OWNER, 103, { shop_ids: [19, 11, 19, 11] })).toEqual({
      shop_ids: [19, 11],
      permissions: ['products'],
    });
  });

  test('duplicates that were stored before collapse with the next change of shops', () => {
    const state = company({ entries: [company().entries[0]!, entry(103, BAKER, [11, 18, 18], ['products'])] });
    expect(change(state, OWNER, 103, { shop_ids: [11, 18, 18] })).toEqual({
      shop_ids: [11, 18],
      permissions: ['products'],
    });
  });

  test('what changes nothing gives back the entry that was there, for anybody who manages', () => {
    const state = company();
    const [owners, managers, bakers] = state.entries;
    for (const asked of [
      {},
      { shop_ids: [11, 11] },
      { permissions: { products: true, discounts: false } },
      { permissions: {} },
    ]) {
      expect(decideEntry(state, MANAGER, 103, asked)).toBe(bakers);
    }
    // The whole form sent back as it was read, by a manager without shop 19 and without most of the keys.
    expect(decideEntry(state, MANAGER, 101, { shop_ids: [11, 18, 19], permissions: everyKey(all) })).toBe(owners);
    expect(decideEntry(state, MANAGER, 102, { shop_ids: [11, 18], permissions: everyKey(managers!.permissions) })).toBe(
      managers,
    );
  });

  test('everything that cannot be is named at once, each at its place', () => {
    const outcome = decideEntry(company(), MANAGER, 103, {
      colour: 'red',
      shop_ids: [11, 99, '18', 1.5, null, 12345678901234567890n],
      permissions: { products: 'yes', bakery: true, discounts: 1, holidays: null, newsletters: true },
    });
    expect(outcome instanceof Failure && [outcome.code, outcome.complaints]).toEqual([
      'unprocessable',
      [
        { path: ['colour'], key: 'field.unknown' },
        { path: ['shop_ids', 1], key: 'staff.foreign_shop', values: { shop: '99' } },
        { path: ['shop_ids', 2], key: 'field.integer' },
        { path: ['shop_ids', 3], key: 'field.integer' },
        { path: ['shop_ids', 4], key: 'field.integer' },
        { path: ['shop_ids', 5], key: 'field.integer' },
        { path: ['permissions', 'products'], key: 'field.boolean' },
        { path: ['permissions', 'bakery'], key: 'staff.unknown_permission' },
        { path: ['permissions', 'discounts'], key: 'field.boolean' },
        { path: ['permissions', 'holidays'], key: 'field.boolean' },
      ],
    ]);
    const shapes = decideEntry(company(), MANAGER, 103, { shop_ids: null, permissions: [true] });
    expect(shapes instanceof Failure && shapes.complaints).toEqual([
      { path: ['shop_ids'], key: 'field.type', values: { type: 'array' } },
      { path: ['permissions'], key: 'field.type', values: { type: 'object' } },
    ]);
  });

  test('keys that every object inherits are unknown keys like any other', () => {
    const outcome = decideEntry(
      company(),
      MANAGER,
      103,
      JSON.parse('{"__proto__":1,"permissions":{"__proto__":true,"constructor":true}}'),
    );
    expect(outcome instanceof Failure && outcome.complaints).toEqual([
      { path: ['__proto__'], key: 'field.unknown' },
      { path: ['permissions', '__proto__'], key: 'staff.unknown_permission' },
      { path: ['permissions', 'constructor'], key: 'staff.unknown_permission' },
    ]);
  });
});

describe('nobody gives or takes, for a shop, what they do not hold there', () => {
  test('a permission the caller lacks, in the first shop it would open', () => {
    expect(change(company(), MANAGER, 103, { permissions: { newsletters: true } })).toEqual([
      'missing_permission_in_shop',
      { permission: 'newsletters', shop: '11' },
    ]);
    expect(change(company(), MANAGER, 103, { permissions: { products: false } })).toEqual({
      shop_ids: [11],
      permissions: [],
    });
  });

  test('a shop the caller lacks', () => {
    expect(change(company(), MANAGER, 103, { shop_ids: [11, 19] })).toEqual([
      'missing_permission_in_shop',
      { permission: 'products', shop: '19' },
    ]);
    const elsewhere = company({ entries: [...company().entries, entry(104, 4, [11, 19], ['products'])] });
    expect(change(elsewhere, MANAGER, 104, { shop_ids: [11] })).toEqual([
      'missing_permission_in_shop',
      { permission: 'products', shop: '19' },
    ]);
    expect(change(elsewhere, MANAGER, 104, { permissions: { discounts: true } })).toEqual([
      'missing_permission_in_shop',
      { permission: 'discounts', shop: '19' },
    ]);
    // The part within their reach can still be changed.
    expect(change(elsewhere, MANAGER, 104, { shop_ids: [19] })).toEqual({ shop_ids: [19], permissions: ['products'] });
  });

  test('a key without a shop and a shop without a key are promises, and take the same', () => {
    const state = company({
      entries: [
        ...company().entries,
        entry(104, 4, [], ['newsletters']),
        entry(105, 5, [19], []),
        entry(106, 6, [], []),
      ],
    });
    expect(change(state, MANAGER, 106, { permissions: { newsletters: true } })).toEqual([
      'missing_permission',
      { permission: 'newsletters' },
    ]);
    expect(change(state, MANAGER, 104, { permissions: { newsletters: false } })).toEqual([
      'missing_permission',
      { permission: 'newsletters' },
    ]);
    expect(change(state, MANAGER, 106, { shop_ids: [19] })).toEqual([
      'missing_permission_in_shop',
      { permission: 'permissions', shop: '19' },
    ]);
    expect(change(state, MANAGER, 105, { shop_ids: [] })).toEqual([
      'missing_permission_in_shop',
      { permission: 'permissions', shop: '19' },
    ]);
    // The shop is the manager's, but what it would open is not.
    expect(change(state, MANAGER, 104, { shop_ids: [11] })).toEqual([
      'missing_permission_in_shop',
      { permission: 'newsletters', shop: '11' },
    ]);
    expect(change(state, MANAGER, 106, { shop_ids: [18], permissions: { permissions: true } })).toEqual({
      shop_ids: [18],
      permissions: ['permissions'],
    });
  });

  test('a removal takes all that the entry gives', () => {
    const state = company({
      entries: [...company().entries, entry(104, 4, [19], ['products']), entry(105, 5, [], [])],
    });
    expect(told(decideRemoval(state, MANAGER, 104))).toEqual([
      'missing_permission_in_shop',
      { permission: 'products', shop: '19' },
    ]);
    expect(told(decideRemoval(state, MANAGER, 103))).toEqual({ shop_ids: [], permissions: [] });
    expect(told(decideRemoval(state, MANAGER, 105))).toEqual({ shop_ids: [], permissions: [] });
    expect(told(decideRemoval(state, MANAGER, 999))).toEqual(['not_found', {}]);
  });
});

describe('own entries', () => {
  test('nobody raises themselves, be it by a key or by a shop', () => {
    for (const asked of [
      { permissions: { newsletters: true } },
      { shop_ids: [11, 18, 19] },
      { shop_ids: [11], permissions: { newsletters: true, products: false } },
    ]) {
      expect(change(company(), MANAGER, 102, asked)).toEqual(['own_entry', {}]);
    }
  });

  test('whoever manages may give up rights of their own, reorder their shops, and leave', () => {
    expect(change(company(), MANAGER, 102, { shop_ids: [18], permissions: { permissions: false } })).toEqual({
      shop_ids: [18],
      permissions: ['holidays', 'products', 'discounts'],
    });
    expect(change(company(), MANAGER, 102, { shop_ids: [18, 11] })).toMatchObject({ shop_ids: [18, 11] });
    expect(told(decideRemoval(company(), MANAGER, 102))).toEqual({ shop_ids: [], permissions: [] });
  });
});

describe('the owner’s entry', () => {
  test('is reduced by nobody, the owner included', () => {
    const equal = company({
      entries: [company().entries[0]!, entry(102, MANAGER, [11, 18, 19], all)],
    });
    for (const caller of [OWNER, MANAGER]) {
      expect(change(equal, caller, 101, { shop_ids: [11, 18] })).toEqual(['owner_entry', {}]);
      expect(change(equal, caller, 101, { permissions: { discounts: false } })).toEqual(['owner_entry', {}]);
      expect(told(decideRemoval(equal, caller, 101))).toEqual(['owner_entry', {}]);
    }
    const bare = company({ entries: [entry(101, OWNER, [], [])] });
    expect(told(decideRemoval(bare, OWNER, 101))).toEqual(['owner_entry', {}]);
  });

  test('can be reordered, and completed with what was added to the company since', () => {
    expect(change(company(), OWNER, 101, { shop_ids: [19, 11, 19, 18] })).toEqual({
      shop_ids: [19, 11, 18],
      permissions: all,
    });
    const grown = company({ shops: new Set([11, 18, 19, 20]) });
    expect(change(grown, OWNER, 101, { shop_ids: [11, 18, 19, 20] })).toEqual({
      shop_ids: [11, 18, 19, 20],
      permissions: all,
    });
    expect(change(grown, MANAGER, 101, { shop_ids: [11, 18, 19, 20] })).toMatchObject([
      'missing_permission_in_shop',
      { shop: '20' },
    ]);
  });
});

describe('a company without an owner', () => {
  const without = (...entries: Entry[]): CompanyState => company({ owner: null, entries });
  const one = entry(102, MANAGER, [11], ['permissions', 'products']);

  test('keeps its last manager', () => {
    const state = without(one, entry(103, BAKER, [11], ['products']));
    expect(change(state, MANAGER, 102, { permissions: { permissions: false } })).toEqual(['last_manager', {}]);
    expect(told(decideRemoval(state, MANAGER, 102))).toEqual(['last_manager', {}]);
    expect(change(state, MANAGER, 102, { permissions: { products: false } })).toEqual({
      shop_ids: [11],
      permissions: ['permissions'],
    });
    const two = without(one, entry(104, 4, [11], ['permissions']));
    expect(told(decideRemoval(two, MANAGER, 102))).toEqual({ shop_ids: [], permissions: [] });
  });

  test('keeps a manager in each shop that has one: nobody could give that shop to anybody again', () => {
    const elsewhere = without(one, entry(104, 4, [18], ['permissions']), entry(105, 5, [], ['permissions']));
    expect(change(elsewhere, MANAGER, 102, { shop_ids: [] })).toEqual(['last_manager', {}]);
    expect(change(elsewhere, MANAGER, 102, { permissions: { permissions: false } })).toEqual(['last_manager', {}]);
    expect(told(decideRemoval(elsewhere, MANAGER, 102))).toEqual(['last_manager', {}]);
    const relieved = without(one, entry(104, 4, [18, 11], ['permissions']));
    expect(told(decideRemoval(relieved, MANAGER, 102))).toEqual({ shop_ids: [], permissions: [] });
  });
});

/**
 * The rule once more, slow and plain: an entry fills cells of a table, shops (and "no shop yet") by keys (and "no key
 * yet"). Cells that change must be the caller's own; own cells never grow; the owner's never shrink; the last managing
 * cell of a row stays.
 */
const cells = ({ shop_ids, permissions }: Pick<Entry, 'shop_ids' | 'permissions'>): string[] =>
  ['-', ...shop_ids].flatMap((shop) => ['-', ...permissions].map((key) => `${shop} ${key}`));
const minus = (some: string[], others: string[]): string[] => some.filter((cell) => !others.includes(cell));
const manages = (cell: string): boolean => cell.endsWith(' permissions');

function oracle(
  { owner, shops, entries }: CompanyState,
  caller: number,
  target: number,
  asked: AskedChange | null,
): unknown {
  const everything = cells({ shop_ids: [...shops], permissions: all });
  const mine = owner === caller ? everything : entries.filter((e) => e.account === caller).flatMap(cells);
  if (mine.length === 0) return 'not_found';
  if (!mine.includes('- permissions')) return 'missing_permission';
  const found = entries.find(({ id }) => id === target);
  if (found === undefined) return 'not_found';
  const wanted = (asked === null ? [] : (asked.shop_ids ?? found.shop_ids)) as number[];
  const keys = (asked === null ? everyKey([]) : (asked.permissions ?? {})) as Record<string, unknown>;
  if (wanted.some((shop) => !shops.has(shop))) return 'unprocessable';
  if (Object.entries(keys).some(([key, value]) => !everything.includes(`- ${key}`) || value !== Boolean(value)))
    return 'unprocessable';
  const before = cells(found);
  const after = cells({
    shop_ids: wanted,
    permissions: all.filter((key) => keys[key] ?? found.permissions.includes(key)),
  });
  const [gained, lost] = [minus(after, before), minus(before, after)];
  if (found.account === owner && (lost.length > 0 || asked === null)) return 'owner_entry';
  if (found.account === caller && caller !== owner && gained.length > 0) return 'own_entry';
  if (minus([...gained, ...lost], mine).length > 0) return 'missing_permission';
  const others = entries.filter((e) => e !== found).flatMap(cells);
  if (owner === null && minus(lost.filter(manages), others).length > 0) return 'last_manager';
  return [...new Set(after)].sort();
}

// Few shops, few people and four keys, so that they meet often.
const someKeys: Permission[] = ['permissions', 'products', 'discounts', 'holidays'];
const shopList = fc.subarray([11, 18, 19]).chain((shops) => fc.shuffledSubarray(shops, { minLength: shops.length }));
// Half of all people manage: else most questions would end at the first line.
const keyList = fc.oneof(
  fc.subarray(someKeys),
  fc.subarray(someKeys.slice(1)).map((keys): Permission[] => ['permissions', ...keys]),
);
const companies: fc.Arbitrary<CompanyState> = fc
  .record({
    owner: fc.option(fc.constantFrom(1, 2, 3), { nil: null }),
    shops: fc.constantFrom(new Set([11, 18, 19]), new Set([11, 18, 19, 20])),
    held: fc.array(fc.tuple(shopList, keyList), { minLength: 1, maxLength: 4 }),
  })
  .map(({ held, ...rest }) => ({
    ...rest,
    ownerActs: true,
    entries: held.map(([shops, keys], index) =>
      entry(
        101 + index,
        1 + index,
        shops,
        permissionKeys.filter((key) => keys.includes(key)),
      ),
    ),
  }));
const people = fc.integer({ min: 1, max: 5 });
const targets = fc.integer({ min: 101, max: 105 });
const changes: fc.Arbitrary<AskedChange | null> = fc.option(
  fc.record(
    {
      shop_ids: fc.array(
        fc.oneof(
          { weight: 40, arbitrary: fc.constantFrom(11, 18, 19) },
          { weight: 1, arbitrary: fc.constantFrom(20, 99) },
        ),
        { maxLength: 4 },
      ),
      permissions: fc.dictionary(
        fc.oneof(
          { weight: 40, arbitrary: fc.constantFrom<string>(...someKeys) },
          { weight: 1, arbitrary: fc.constant('bakery') },
        ),
        fc.oneof({ weight: 40, arbitrary: fc.boolean() }, { weight: 1, arbitrary: fc.constantFrom('true', 1, null) }),
        { maxKeys: 3 },
      ),
    },
    { requiredKeys: [] },
  ),
  { freq: 5 },
);

const decide = (state: CompanyState, caller: number, target: number, asked: AskedChange | null): Entry | Failure =>
  asked === null ? decideRemoval(state, caller, target) : decideEntry(state, caller, target, asked);

describe('for any company', () => {
  test('a decision is what the table of cells says', () => {
    const seen = new Set<unknown>();
    fc.assert(
      fc.property(companies, people, targets, changes, (state, caller, target, asked) => {
        const outcome = decide(state, caller, target, asked);
        const said =
          outcome instanceof Failure
            ? outcome.code.replace('_in_shop', '')
            : asked === null
              ? cells({ shop_ids: [], permissions: [] })
              : cells(outcome).sort();
        seen.add(typeof said === 'string' ? said : 'changed');
        expect(said).toEqual(oracle(state, caller, target, asked));
      }),
      { numRuns: 10_000 },
    );
    // A comparison that never met one of the rules would prove nothing about it.
    expect([...seen].sort()).toEqual([
      'changed',
      'last_manager',
      'missing_permission',
      'not_found',
      'own_entry',
      'owner_entry',
      'unprocessable',
    ]);
  });

  test('no history of changes raises anybody by their own hand, adds a right nobody held, or leaves a shop without its manager', () => {
    fc.assert(
      fc.property(companies, fc.array(fc.tuple(people, targets, changes), { maxLength: 40 }), (start, history) => {
        let state = start;
        for (const [caller, target, asked] of history) {
          const outcome = decide(state, caller, target, asked);
          if (outcome instanceof Failure) continue;
          const entries = state.entries.flatMap((e) => (e.id !== target ? [e] : asked === null ? [] : [outcome]));
          const [had, has] = [state.entries.flatMap(cells), entries.flatMap(cells)];
          const own = (list: readonly Entry[], account: number | null): string[] =>
            list.filter((e) => e.account === account).flatMap(cells);
          if (caller !== state.owner) {
            expect(minus(own(entries, caller), own(state.entries, caller))).toEqual([]);
            expect(minus(has, had)).toEqual([]);
          }
          if (state.owner === null) expect(minus(had.filter(manages), has)).toEqual([]);
          else expect(minus(own(state.entries, state.owner), own(entries, state.owner))).toEqual([]);
          state = { ...state, entries };
        }
      }),
      { numRuns: 1000 },
    );
  });
});
