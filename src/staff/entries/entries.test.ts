/** Entries under concurrency: several callers, two processes, one company. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createKit, type Kit, type Reply, type Send } from '../../../test/kit.ts';
import { Failure } from '../../platform/failure.ts';
import { createCompany } from '../companies/companies.ts';
import { type Permission, permissionKeys } from '../permissions.ts';
import { changeEntry } from './entries.ts';

let kit: Kit;
let twin: Kit;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  twin = await kit.twin();
});
afterAll(() => kit.close());

interface Person {
  readonly id: number;
  readonly email: string;
  /** Sends to the first process, and to the second. */
  readonly on: readonly [Send, Send];
}

async function person(): Promise<Person> {
  const { id, email } = await kit.signUp();
  return { id, email, on: [await kit.bearer(email), await twin.bearer(email)] };
}

interface Company {
  readonly id: number;
  readonly shops: number[];
  readonly owner: Person;
  readonly path: string;
}

/** A company with two shops. */
async function company(): Promise<Company> {
  const owner = await person();
  const { id, shops } = await createCompany(kit.ctx, {
    name: { en: 'Bakery' },
    owner: owner.email,
    shops: [{ en: 'Moda' }, { en: 'Levent' }],
    language: 'en',
  });
  return { id, shops: shops.map((shop) => shop.id), owner, path: `/company/companies/${id}/permissions/users` };
}

interface Stored {
  id: number;
  account: number;
  shop_ids: number[];
  permissions: Permission[];
  version: number;
}

const entriesOf = ({ id }: Company): Promise<Stored[]> =>
  kit.rows('select id, account, shop_ids, permissions, version from entry where company = $1 order by id', id);

/** Writes an entry past all rules. */
async function put(to: Company, who: Person, shops: readonly number[], held: readonly Permission[]): Promise<number> {
  const [row] = await kit.rows<{ id: number }>(
    `insert into entry (company, account, shop_ids, permissions, created_at) values ($1, $2, $3::bigint[], $4::text[], now())
     on conflict (company, account) do update set shop_ids = excluded.shop_ids, permissions = excluded.permissions, version = 1
     returning id`,
    to.id,
    who.id,
    shops,
    held,
  );
  await kit.rows('delete from entry_right where entry = $1', row!.id);
  await kit.rows(
    `insert into entry_right (entry, shop, permission, event)
     select $1, shop, permission, gen_random_uuid() from unnest($2::bigint[]) shop, unnest($3::text[]) permission`,
    row!.id,
    shops,
    held,
  );
  return row!.id;
}

/** A company that lost its owner, left to these. */
async function orphaned(): Promise<Company> {
  const made = await company();
  await kit.rows('update company set owner = null where id = $1', made.id);
  await kit.rows('delete from entry where company = $1', made.id);
  return made;
}

const outcomes = (replies: readonly Reply[]): string[] =>
  replies.map(({ status, body }) => `${status} ${body?.code ?? ''}`.trim()).sort();

describe('a company without an owner', () => {
  test('keeps one of two managers who remove each other at once, also over two processes', async () => {
    const bakery = await orphaned();
    const [ada, bora] = [await person(), await person()];
    for (let round = 1; round <= 50; round += 1) {
      const adas = await put(bakery, ada, bakery.shops, permissionKeys);
      const boras = await put(bakery, bora, bakery.shops, permissionKeys);
      const replies = await Promise.all([
        ada.on[0]('DELETE', `${bakery.path}/${boras}`),
        bora.on[round % 2 === 0 ? 1 : 0]('DELETE', `${bakery.path}/${adas}`),
      ]);
      // Whoever came second is no colleague any more.
      expect(outcomes(replies)).toEqual(['200', '404 not_found']);
      const left = replies[0]!.status === 200 ? ada : bora;
      expect(await entriesOf(bakery)).toMatchObject([
        { account: left.id, shop_ids: bakery.shops, permissions: permissionKeys },
      ]);
    }
  });

  test('keeps one of two managers who take the permission from each other, give it up or leave at once', async () => {
    const bakery = await orphaned();
    const [ada, bora] = [await person(), await person()];
    const none = { body: { permissions: { permissions: false } } };
    for (let round = 1; round <= 36; round += 1) {
      const [adas, boras] = [
        `${bakery.path}/${await put(bakery, ada, bakery.shops, ['permissions', 'products'])}`,
        `${bakery.path}/${await put(bakery, bora, bakery.shops, ['permissions', 'products'])}`,
      ];
      const [first, second] = [ada.on[0], bora.on[round % 2 === 0 ? 1 : 0]];
      const [replies, expected] = await (async (): Promise<[Reply[], string[]]> => {
        switch (round % 3) {
          case 0:
            return [
              await Promise.all([first('PATCH', boras, none), second('PATCH', adas, none)]),
              ['200', '403 missing_permission'],
            ];
          case 1:
            return [
              await Promise.all([first('PATCH', adas, none), second('PATCH', boras, none)]),
              ['200', '409 last_manager'],
            ];
          default:
            return [await Promise.all([first('DELETE', adas), second('DELETE', boras)]), ['200', '409 last_manager']];
        }
      })();
      expect(outcomes(replies)).toEqual(expected);
      const managers = (await entriesOf(bakery)).filter(({ permissions }) => permissions.includes('permissions'));
      expect(managers).toHaveLength(1);
    }
  });

  test('keeps a manager in a shop that both would give up at once', async () => {
    const bakery = await orphaned();
    const [ada, bora] = [await person(), await person()];
    const [kept, given] = bakery.shops as [number, number];
    for (let round = 1; round <= 20; round += 1) {
      const adas = await put(bakery, ada, bakery.shops, ['permissions']);
      const boras = await put(bakery, bora, bakery.shops, ['permissions']);
      const replies = await Promise.all([
        ada.on[0]('PATCH', `${bakery.path}/${adas}`, { body: { shop_ids: [kept] } }),
        bora.on[1]('PATCH', `${bakery.path}/${boras}`, { body: { shop_ids: [kept] } }),
      ]);
      expect(outcomes(replies)).toEqual(['200', '409 last_manager']);
      const entries = await entriesOf(bakery);
      expect(entries.filter(({ shop_ids }) => shop_ids.includes(given))).toHaveLength(1);
    }
  });
});

test('a thousand removals crossing each other, over two processes, always leave a manager in each shop', async () => {
  for (let round = 1; round <= 4; round += 1) {
    const bakery = await orphaned();
    const managers = await Promise.all(
      Array.from({ length: 16 }, async () => {
        const who = await person();
        return { who, entry: await put(bakery, who, bakery.shops, ['permissions', 'products']) };
      }),
    );
    // Everybody removes everybody, themselves included, about 256 at once.
    const replies = await Promise.all(
      managers.flatMap(({ who }, from) =>
        managers.map(({ entry }, to) => who.on[(from + to) % 2]!('DELETE', `${bakery.path}/${entry}`)),
      ),
    );
    const left = await entriesOf(bakery);
    const removed = replies.filter(({ status }) => status === 200).length;
    expect([left.length, removed]).toEqual([1, managers.length - 1]);
    expect(left[0]).toMatchObject({ shop_ids: bakery.shops, permissions: ['permissions', 'products'] });
    expect(await kit.rows('select count(*)::int as rights from entry_right where entry = $1', left[0]!.id)).toEqual([
      { rights: bakery.shops.length * 2 },
    ]);
    const [{ lines }] = (await kit.rows(
      `select count(*)::int as lines from staff_event where company = $1 and kind = 'entry_removed'`,
      bakery.id,
    )) as [{ lines: number }];
    expect(lines).toBe(removed);
  }
});

describe('changes of one entry', () => {
  test('a hundred at once, each of a key of its own, all survive', async () => {
    const bakery = await company();
    const baker = await person();
    const entry = await put(bakery, baker, bakery.shops, []);
    const keys = permissionKeys.filter((key) => key !== 'permissions');
    let version = 1;
    for (const value of [true, false]) {
      const replies = await Promise.all(
        Array.from({ length: 100 }, async (_, index) => {
          const key = keys[index % keys.length]!;
          const reply = await bakery.owner.on[index < 50 ? 0 : 1]('PATCH', `${bakery.path}/${entry}`, {
            body: { permissions: { [key]: value } },
          });
          return [reply.status, reply.body.permissions[key]];
        }),
      );
      expect(replies).toEqual(Array(100).fill([200, value]));
      // Ten of the hundred changed something: each key once.
      version += keys.length;
      const [, stored] = await entriesOf(bakery);
      expect(stored).toMatchObject({ id: entry, permissions: value ? keys : [], version });
    }
  });

  test('a change and a removal at once leave no entry, whichever came first', async () => {
    const bakery = await company();
    const baker = await person();
    for (let round = 1; round <= 20; round += 1) {
      const path = `${bakery.path}/${await put(bakery, baker, bakery.shops, [])}`;
      const [changed, removed] = await Promise.all([
        bakery.owner.on[round % 2 === 0 ? 1 : 0]('PATCH', path, { body: { permissions: { products: true } } }),
        bakery.owner.on[0]('DELETE', path),
      ]);
      expect(removed.status).toBe(200);
      expect(['200', '404 not_found']).toContain(outcomes([changed])[0]);
      expect((await entriesOf(bakery)).map(({ account }) => account)).toEqual([bakery.owner.id]);
    }
  });

  test('an address that is given an entry twice at once gets one', async () => {
    const bakery = await company();
    for (let round = 1; round <= 10; round += 1) {
      const body = { email: round % 2 === 0 ? (await kit.signUp()).email : `invited${round}@example.com` };
      const replies = await Promise.all(bakery.owner.on.map((send) => send('POST', bakery.path, { body })));
      expect(outcomes(replies)).toEqual(['200', '200']);
      expect(replies[0]!.text).toBe(replies[1]!.text);
      expect(await entriesOf(bakery)).toHaveLength(1 + round);
    }
  });
});

describe('a right that was taken away', () => {
  test('is not honoured by the next call, on neither process', async () => {
    const bakery = await company();
    const manager = await person();
    const baker = await person();
    const path = `${bakery.path}/${await put(bakery, manager, bakery.shops, [])}`;
    const bakers = `${bakery.path}/${await put(bakery, baker, bakery.shops, [])}`;
    const ask = async (): Promise<string[]> =>
      outcomes(
        await Promise.all(
          manager.on.flatMap((send, index) => [
            send('GET', bakery.path),
            send('PATCH', bakers, { body: { permissions: { [index === 0 ? 'products' : 'discounts']: true } } }),
          ]),
        ),
      );
    for (let round = 1; round <= 10; round += 1) {
      const [here, there] = [bakery.owner.on[round % 2]!, bakery.owner.on[(round + 1) % 2]!];
      const rights = { permissions: { permissions: true, products: true, discounts: true } };
      expect((await here('PATCH', path, { body: rights })).status).toBe(200);
      expect(await ask()).toEqual(['200', '200', '200', '200']);

      expect(
        (await there('PATCH', bakers, { body: { permissions: { products: false, discounts: false } } })).status,
      ).toBe(200);
      expect((await there('PATCH', path, { body: { permissions: { products: false } } })).status).toBe(200);
      expect(await ask()).toEqual(['200', '200', '200', '403 missing_permission_in_shop']);

      expect((await here('PATCH', path, { body: { permissions: { permissions: false } } })).status).toBe(200);
      expect(await ask()).toEqual(Array(4).fill('403 missing_permission'));
      expect((await there('PATCH', bakers, { body: { permissions: { discounts: false } } })).status).toBe(200);
    }
    expect((await bakery.owner.on[0]('DELETE', path)).status).toBe(200);
    expect(await ask()).toEqual(Array(4).fill('404 not_found'));
  });
});

describe('changes that travel in one batch', () => {
  /** Changes an entry in each of three companies at once; the second is asked for `bad`. */
  async function three(
    bad: Record<string, unknown>,
  ): Promise<{ companies: Company[]; results: unknown[]; stored: Stored[] }> {
    const companies = [await company(), await company(), await company()];
    const asked: Parameters<typeof changeEntry>[1][] = [];
    for (const [index, made] of companies.entries()) {
      const entry = await put(made, baker, [], []);
      const change = index === 1 ? bad : { shop_ids: made.shops };
      const caller = { name: `account:${made.owner.id}`, account: made.owner.id };
      asked.push({
        company: made.id,
        entry,
        caller,
        author: { ...caller, evidence: {} },
        wish: { by: 'shape', change },
      });
    }
    // In one turn, so that they are gathered together.
    const results = await Promise.allSettled(asked.map((one) => changeEntry(kit.ctx, one)));
    return {
      companies,
      results: results.map((result) => (result.status === 'fulfilled' ? result.value.after.shop_ids : result.reason)),
      stored: await kit.rows(
        'select shop_ids, version, xmin::text from entry where account = $1 order by company',
        baker.id,
      ),
    };
  }
  let baker: Person;

  test('are one transaction, and one that is refused hurts only itself', async () => {
    baker = await person();
    const { companies, results, stored } = await three({ shop_ids: [1], permissions: { bakery: true } });
    expect(results[0]).toEqual(companies[0]!.shops);
    expect(results[1]).toBeInstanceOf(Failure);
    expect((results[1] as Failure).complaints.map(({ path }) => path)).toEqual([
      ['shop_ids', 0],
      ['permissions', 'bakery'],
    ]);
    expect(results[2]).toEqual(companies[2]!.shops);
    expect(stored).toMatchObject([
      { shop_ids: companies[0]!.shops, version: 2 },
      { shop_ids: [], version: 1 },
      { shop_ids: companies[2]!.shops, version: 2 },
    ]);
    const [first, , third] = stored as unknown as { xmin: string }[];
    expect(first!.xmin).toBe(third!.xmin);
  });

  test('are tried one by one when the database will not have one of them', async () => {
    baker = await person();
    await kit.owner('create sequence attempts');
    await kit.owner(`create function refuse() returns trigger language plpgsql security definer as $$
      begin perform nextval('attempts'); raise exception 'not this one'; end $$`);
    await kit.owner(
      `create trigger refuse before update on entry for each row when (new.permissions = '{products}') execute function refuse()`,
    );
    try {
      const { companies, results, stored } = await three({ permissions: { products: true } });
      expect(results[0]).toEqual(companies[0]!.shops);
      expect(results[1]).toMatchObject({ message: 'not this one' });
      expect(results[2]).toEqual(companies[2]!.shops);
      expect(stored).toMatchObject([
        { shop_ids: companies[0]!.shops, version: 2 },
        { shop_ids: [], version: 1 },
        { shop_ids: companies[2]!.shops, version: 2 },
      ]);
      // Once with the others, once alone.
      expect(await kit.owner('select last_value from attempts')).toEqual([{ last_value: 2 }]);
    } finally {
      await kit.owner('drop trigger refuse on entry');
    }
  });
});
