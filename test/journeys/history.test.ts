/** The history of rights: it leads to the rights in force, at every moment, and names the line that somebody tampered with. */
import { verify } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { openDatabase, prepared } from '../../src/platform/db.ts';
import { Failure } from '../../src/platform/failure.ts';
import { migrate } from '../../src/platform/migrate.ts';
import { addShop, changeCompany, createCompany } from '../../src/staff/companies/companies.ts';
import { changeEntry, sweepRights } from '../../src/staff/entries/entries.ts';
import { giveEntry } from '../../src/staff/entries/pairs.ts';
import type { Author, StaffEvent } from '../../src/staff/history/lines.ts';
import { holdersIn, replay, whoCould } from '../../src/staff/history/past.ts';
import { historyUnsealedSince, sealHistory, sealWholeHistory } from '../../src/staff/history/seals.ts';
import { verifyHistory } from '../../src/staff/history/verify.ts';
import { permissionKeys } from '../../src/staff/permissions.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

let kit: Kit;
let operator: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  operator = await kit.apiKey('companies', 'privacy');
});
afterAll(() => kit.close());

const author: Author = { name: 'operator:1', evidence: { ip: '203.0.113.9' } };

/** The same choices in every run. */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Pairs in force, of all companies or one: `entry shop:permission until event`. */
const inForce = async (company?: number): Promise<string[]> => {
  const rows = await kit.rows<{ pair: string }>(
    `select format('%s %s:%s %s %s', r.entry, r.shop, r.permission, coalesce((extract(epoch from r.until) * 1000)::bigint::text, 'null'), r.event) as pair
       from entry_right r join entry e on e.id = r.entry where $1::bigint is null or e.company = $1`,
    company ?? null,
  );
  return rows.map(({ pair }) => pair).sort();
};

const linesOf = async (company: number): Promise<StaffEvent[]> =>
  (await kit.rows<{ line: string }>('select line from staff_event where company = $1 order by number', company)).map(
    ({ line }) => JSON.parse(line) as StaffEvent,
  );

const replayed = async (companies: readonly number[], until?: number): Promise<string[]> => {
  const pairs: string[] = [];
  for (const company of companies)
    for (const { entry, rights } of replay(await linesOf(company), until).entries.values())
      for (const { shop, permission, until: end, event } of rights.values())
        pairs.push(`${entry} ${shop}:${permission} ${end} ${event}`);
  return pairs.sort();
};

interface Place {
  readonly id: number;
  readonly shops: number[];
  readonly people: Client[];
}

async function place(): Promise<Place> {
  const people: Client[] = [];
  for (let n = 0; n < 4; n += 1) people.push(await kit.signUp());
  const { id, shops } = await createCompany(
    kit.ctx,
    { name: { en: 'Bakery' }, owner: people[0]!.email, shops: [{ en: 'Moda' }, { en: 'Levent' }], language: 'en' },
    author,
  );
  return { id, shops: shops.map((shop) => shop.id), people };
}

/** The code of a refusal, or `done`. */
const outcome = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => {
      if (error instanceof Failure) return error.code;
      throw error;
    },
  );

test('300 changes at random: the history leads to the rights in force, now and at 20 moments of the past', async () => {
  const pick = chance(5);
  const places = [await place(), await place(), await place()];
  const one = <T>(items: readonly T[]): T => items[pick(items.length)]!;
  const remembered: { at: number; pairs: string[]; holders: unknown }[] = [];
  const asked = { shop: places[1]!.shops[0]!, permission: 'products' } as const;
  /** Everybody who holds `products` in the first shop of the second company, told by the tables. */
  const holdersNow = async (): Promise<unknown> =>
    kit.rows(
      `select account::int, "as" from (
         select owner as account, 'owner' as "as", 0 as id from company where id = $1 and owner is not null
         union all
         select e.account, 'entry', e.id from entry e join entry_right r on r.entry = e.id join company c on c.id = e.company
          where e.company = $1 and c.owner is distinct from e.account and r.shop = $2 and r.permission = 'products'
            and (r.until is null or r.until > $3)) h order by id`,
      places[1]!.id,
      asked.shop,
      kit.ctx.clock.now(),
    );
  const tally: Record<string, number> = {};
  for (let n = 0; n < 300; n += 1) {
    kit.advance(1000 * (1 + pick(4000)));
    const { id: company, shops, people } = one(places);
    const who = one(people);
    const by = pick(2) === 0 ? null : one(people).id;
    const caller = { name: by === null ? 'operator:1' : `account:${by}`, account: by };
    const base = { caller, author: { ...author, name: caller.name, reason: `change ${n}` }, company };
    const until =
      pick(2) === 0 ? null : new Date(kit.ctx.clock.now().getTime() + 1000 * pick(40_000) + 1000).toISOString();
    const pairs = Array.from({ length: 1 + pick(4) }, () => ({ shop: one(shops), permission: one(permissionKeys) }));
    const entries = await kit.rows<{ id: number }>('select id from entry where company = $1 order by id', company);
    const entry = one(entries).id;
    const kind = pick(20);
    let came: string;
    if (kind < 6) {
      const edit = { grant: pairs.map((pair) => ({ ...pair, until })) };
      const wish = { by: 'pairs', edit, roles: {} } as const;
      came = await outcome(giveEntry(kit.ctx, { ...base, email: who.email, language: 'en', wish }));
    } else if (kind < 10) {
      came = await outcome(
        changeEntry(kit.ctx, { ...base, entry, wish: { by: 'pairs', edit: { revoke: pairs }, roles: {} } }),
      );
    } else if (kind < 13) {
      const change = {
        shop_ids: shops.filter(() => pick(2) === 0),
        permissions: { [one(permissionKeys)]: pick(2) === 0 },
      };
      came = await outcome(changeEntry(kit.ctx, { ...base, entry, wish: { by: 'shape', change } }));
    } else if (kind < 16) came = await outcome(changeEntry(kit.ctx, { ...base, entry, wish: { by: 'removal' } }));
    else if (kind < 17) {
      const shop = await addShop(kit.ctx, company, { en: `Shop ${n}` }, author);
      shops.push(shop.id);
      came = 'shop';
    } else if (kind < 18) {
      const owner = pick(3) === 0 ? null : who.email;
      came = await outcome(changeCompany(kit.ctx, company, { owner, language: 'en' }, author));
    } else {
      await sweepRights(kit.ctx);
      came = 'swept';
    }
    tally[came] = (tally[came] ?? 0) + 1;
    if (n % 15 === 14)
      remembered.push({ at: kit.ctx.clock.now().getTime(), pairs: await inForce(), holders: await holdersNow() });
  }
  // The loop did what it is there for.
  expect(tally['done']).toBeGreaterThan(80);
  const refused = ['last_manager', 'owner_entry', 'own_entry', 'missing_permission_in_shop'];
  expect(refused.filter((code) => tally[code] === undefined)).toEqual([]);
  const kinds = await kit.rows<{ kind: string }>('select distinct kind from staff_event order by kind');
  expect(kinds.map(({ kind }) => kind)).toEqual([
    'company_made',
    'entry_made',
    'entry_removed',
    'owner_changed',
    'rights_changed',
    'rights_ended',
    'shop_made',
  ]);

  const companies = places.map(({ id }) => id);
  expect(await replayed(companies)).toEqual(await inForce());
  expect(remembered).toHaveLength(20);
  for (const { at, pairs, holders } of remembered) {
    expect(await replayed(companies, at)).toEqual(pairs);
    const past = replay(await linesOf(companies[1]!), at);
    expect(holdersIn(past, asked, at).map(({ account, as }) => ({ account, as }))).toEqual(holders);
    const told = await whoCould(kit.ctx, companies[1]!, { ...asked, at: new Date(at) });
    expect(told.map(({ account, as }) => ({ account, as }))).toEqual(holders);
  }
  const [{ count }] = (await kit.rows<{ count: number }>('select count(*)::int from staff_event')) as [
    { count: number },
  ];
  await sealWholeHistory(kit.ctx);
  expect(await verifyHistory(kit.ctx)).toEqual({ companies: 3, lines: count, seals: 1, unsealed: 0, faults: [] });
});

/** Does something as a superuser with all triggers off, looks at what is found, and undoes it. */
async function tampered(company: number | undefined, text: string, ...values: unknown[]): Promise<unknown> {
  const { database } = kit.connection as { database: string };
  const connection = { ...inject('engine').connection, database };
  const root = openDatabase({ connection, max: 1 });
  try {
    return await root.transaction(async (db) => {
      // As the check would have it: joined to this transaction, it sees what is then undone.
      await db.run(prepared('set transaction isolation level repeatable read'));
      await db.run(prepared('set local session_replication_role = replica'));
      await db.run(prepared(text, ...values));
      const check = await verifyHistory({ ...kit.ctx, db }, { company });
      throw Object.assign(new Error('undo'), { check });
    });
  } catch (error) {
    if (error instanceof Error && 'check' in error) return (error.check as { faults: unknown[] }).faults;
    throw error;
  } finally {
    await root.close();
  }
}

describe('a tampered history', () => {
  let company: number;
  let entry: number;
  beforeAll(async () => {
    const { id, shops, people } = await place();
    company = id;
    const base = {
      caller: { name: 'operator:1', account: null },
      author,
      company,
      email: people[1]!.email,
      language: 'en',
    };
    for (const permission of ['products', 'holidays', 'discounts']) {
      const wish = { by: 'pairs', edit: { grant: [{ shop: shops[0]!, permission }] }, roles: {} } as const;
      entry = (await giveEntry(kit.ctx, { ...base, wish })).entry;
    }
    await sealWholeHistory(kit.ctx);
  });

  test('is told from one that holds', async () => {
    // company_made, the owner's entry, the colleague's entry, and three rights.
    expect(await verifyHistory(kit.ctx, { company })).toEqual({
      companies: 1,
      lines: 6,
      seals: 2,
      unsealed: 0,
      faults: [],
    });
  });

  test.each([
    [
      'a line that was changed',
      `update staff_event set line = replace(line, 'holidays', 'newsletters') where company = $1 and number = 5`,
      5,
      'line 5 is not what was written, or not where it was written',
    ],
    [
      'a line that was changed together with its hash',
      `update staff_event s set line = replace(line, 'holidays', 'newsletters'), hash = sha256((select hash from staff_event p where p.company = s.company and p.number = s.number - 1) || convert_to(replace(line, 'holidays', 'newsletters'), 'UTF8')) where company = $1 and number = 5`,
      6,
      'line 6 is not what was written, or not where it was written',
    ],
    [
      'the last line changed together with its hash',
      `update staff_event s set line = replace(line, 'discounts', 'newsletters'), hash = sha256((select hash from staff_event p where p.company = s.company and p.number = s.number - 1) || convert_to(replace(line, 'discounts', 'newsletters'), 'UTF8')) where company = $1 and number = 6`,
      6,
      'line 6 does not end the history as it should',
    ],
    ['a line that was taken out', 'delete from staff_event where company = $1 and number = 5', 5, 'line 5 is missing'],
    [
      'the last lines taken out',
      'delete from staff_event where company = $1 and number > 4',
      5,
      'line 5 is missing, at the end',
    ],
    ['all lines taken out', 'delete from staff_event where company = $1', 1, 'line 1 is missing, at the end'],
    [
      'a column that says something else',
      `update staff_event set actor = 'account:1' where company = $1 and number = 5`,
      5,
      'the columns of line 5 are not what it says',
    ],
    [
      'a time that says something else',
      `update staff_event set at = at - interval '1 day' where company = $1 and number = 5`,
      5,
      'the columns of line 5 are not what it says',
    ],
    [
      'evidence that was changed',
      `update staff_evidence set evidence = '{"ip":"198.51.100.1"}' where event = (select id from staff_event where company = $1 and number = 5)`,
      5,
      'the evidence of line 5 is not what was written',
    ],
    [
      'evidence that was taken out',
      'delete from staff_evidence where event = (select id from staff_event where company = $1 and number = 5)',
      5,
      'the evidence of line 5 is missing',
    ],
    [
      'a line that follows the end',
      `insert into staff_event (id, company, number, kind, actor, at, line, hash) select gen_random_uuid(), company, 7, kind, actor, at, line, hash from staff_event where company = $1 and number = 6`,
      7,
      'line 7 is not what was written, or not where it was written',
    ],
    [
      'an end that was set back',
      'update company set events = 5 where id = $1',
      6,
      'line 6 does not end the history as it should',
    ],
    [
      'the last line cut off, with everything as it was before it',
      `with e as (delete from staff_event where company = $1 and number = 6 returning entry),
            r as (delete from entry_right where permission = 'discounts' and entry in (select entry from e)),
            n as (update entry set permissions = array_remove(permissions, 'discounts'), version = version - 1 where id in (select entry from e))
       update company set events = 5, head = (select hash from staff_event where company = $1 and number = 5) where id = $1`,
      6,
      'line 6 is missing, and was sealed',
    ],
    [
      'a company that never came to the sealer',
      `with s as (delete from staff_seal where ends like '%[' || $1::bigint || ',%') select`,
      6,
      'line 6 was neither sealed nor is it waiting for it',
    ],
    [
      'an owner who was put in',
      'update company set owner = null where id = $1',
      null,
      'the owner is not the one the history names',
    ],
    [
      'a shop that was slipped in',
      `insert into shop (company, name, created_at) values ($1, '{}', now())`,
      null,
      'the shops are not those the history names',
    ],
  ])('%s is named', async (_what, text, line, what) => {
    expect(await tampered(company, text, company)).toEqual([{ company, line, what }]);
    expect(await verifyHistory(kit.ctx, { company })).toMatchObject({ faults: [] });
  });

  test.each([
    [
      'a seal that ends elsewhere',
      `update staff_seal set ends = replace(ends, ',6,', ',5,') where number = 2`,
      'seal 2 is not what was written',
    ],
    [
      'a seal at another time',
      `update staff_seal set sealed_at = sealed_at - interval '1 day' where number = 2`,
      'seal 2 is not what was written',
    ],
    [
      'a signature of something else',
      'update staff_seal set signature = (select signature from staff_seal where number = 1) where number = 2',
      'the signature of seal 2 is not ours',
    ],
    ['a seal that was taken out', 'delete from staff_seal where number = 1', 'seal 1 is missing'],
    [
      'a seal that follows another',
      `update staff_seal set previous = sha256('') where number = 2`,
      'seal 2 does not follow the seal before it',
    ],
  ])('%s is named by its seal', async (_what, text, what) => {
    expect(await tampered(undefined, text)).toContainEqual({ company: null, line: null, what });
  });

  test('a history that was cut together with its last seal does not lead to the head that was kept', async () => {
    const { body: kept } = await operator('GET', '/v1/history/head');
    expect(kept).toEqual({
      count: 2,
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      at: expect.any(String),
      signature: expect.any(String),
    });
    expect((await operator('GET', `/v1/history/head?at=${kept.at}`)).body).toEqual(kept);
    expect(
      verify(null, Buffer.from(kept.hash, 'hex'), kit.ctx.keys.sealing.public, Buffer.from(kept.signature, 'base64')),
    ).toBe(true);
    expect((await verifyHistory(kit.ctx, { head: kept.hash })).faults).toEqual([]);
    const head = '0'.repeat(64);
    expect((await verifyHistory(kit.ctx, { head })).faults).toEqual([
      {
        company: null,
        line: null,
        what: `no seal has the head ${head}: the history was cut or rewritten since that head was kept`,
      },
    ]);
  });

  test('two companies that were cut are both named, and the head that was kept besides', async () => {
    const other = (await place()).id;
    await sealWholeHistory(kit.ctx);
    const last = `delete from staff_event s using company c where c.id = s.company and s.number = c.events and c.id = any ($1)`;
    const cut = `with gone as (${last} returning s.company, s.number)
      update company c set events = c.events - 1, head = (select hash from staff_event p where p.company = c.id and p.number = c.events - 1)
        from gone where gone.company = c.id`;
    const faults = (await tampered(undefined, cut, [company, other])) as { company: number; what: string }[];
    expect(faults.map((fault) => fault.company)).toEqual([company, other]);
  });

  test('what two processes seal at once is one chain, and nothing is passed over', async () => {
    const twin = await kit.twin();
    for (let round = 0; round < 5; round += 1) {
      const writes = [1, 2, 3, 4].map((n) => addShop(kit.ctx, company, { en: `Shop ${round}.${n}` }, author));
      await Promise.all([...writes, sealHistory(kit.ctx), sealHistory(twin.ctx)]);
    }
    await Promise.all([sealWholeHistory(kit.ctx), sealWholeHistory(twin.ctx)]);
    await sealWholeHistory(kit.ctx);
    expect(await verifyHistory(kit.ctx)).toMatchObject({ unsealed: 0, faults: [] });
  });

  test.each([
    [
      'a right that was slipped in',
      `insert into entry_right (entry, shop, permission, event) select entry, shop, 'checkout_settings', event from entry_right where entry = $1 limit 1`,
    ],
    ['a right that was taken out', `delete from entry_right where entry = $1 and permission = 'holidays'`],
    [
      'a right that was made to last',
      `update entry_right set until = now() where entry = $1 and permission = 'holidays'`,
    ],
    [
      'a right under another line',
      `update entry_right set event = gen_random_uuid() where entry = $1 and permission = 'holidays'`,
    ],
    ['an entry that shows something else', `update entry set permissions = '{}' where id = $1`],
    ['an entry of somebody else', `update entry set account = (select max(id) from account) where id = $1`],
  ])('%s is named by its entry', async (_what, text) => {
    const what = `entry ${entry} is not what the history says`;
    expect(await tampered(company, text, entry)).toEqual([{ company, line: null, what }]);
  });

  test('an entry that is gone, and one that was put there, are named', async () => {
    expect(
      await tampered(
        company,
        'with r as (delete from entry_right where entry = $1) delete from entry where id = $1',
        entry,
      ),
    ).toEqual([{ company, line: null, what: `entry ${entry} of the history is gone` }]);
    const account = (await kit.signUp()).id;
    expect(
      await tampered(
        company,
        'insert into entry (id, company, account, created_at) values (999999, $1, $2, now())',
        company,
        account,
      ),
    ).toEqual([{ company, line: null, what: 'entry 999999 is not in the history' }]);
  });

  test('neither the service nor a superuser changes or removes a line while the guard is on', async () => {
    for (const text of [`update staff_event set line = ''`, 'delete from staff_event', 'truncate staff_event']) {
      await expect(kit.rows(text)).rejects.toMatchObject({
        code: '42501',
        message: 'permission denied for table staff_event',
      });
      const verb = text.split(' ')[0]!.toUpperCase();
      await expect(kit.owner(text)).rejects.toMatchObject({
        code: '42501',
        message: `the ledger is append-only: ${verb} on staff_event refused`,
      });
    }
  });
});

test('whoever holds the role of the service has nothing false sealed, and no head of their own published', async () => {
  const own = await createKit();
  try {
    const owner = await own.signUp();
    const { id } = await createCompany(own.ctx, {
      name: { en: 'B' },
      owner: owner.email,
      shops: [{ en: 'S' }],
      language: 'en',
    });
    const wait = (): Promise<unknown> => own.rows('insert into staff_unsealed values (gen_random_uuid(), $1)', id);
    await own.rows('update company set events = events + 1000 where id = $1', id);
    await wait();
    await sealWholeHistory(own.ctx);
    await own.rows('update company set events = events - 1000 where id = $1', id);
    expect(await verifyHistory(own.ctx)).toMatchObject({ lines: 2, seals: 1, unsealed: 0, faults: [] });

    const head = await own.apiKey('companies');
    expect((await head('GET', '/v1/history/head')).body).toMatchObject({ count: 1 });
    for (const number of ['2', '9223372036854775807']) {
      await own.rows(
        `insert into staff_seal select $1::bigint, ends, head, sha256($1::text::bytea), sealed_at, signature from staff_seal where number = 1`,
        number,
      );
      await wait();
      await expect(sealHistory(own.ctx)).rejects.toThrow('of the history is not ours');
      expect((await head('GET', '/v1/history/head')).status).toBe(500);
    }
    expect((await verifyHistory(own.ctx)).faults).toEqual([
      { company: null, line: null, what: 'seal 2 is not what was written' },
    ]);
    const since = await own.rows<{ at: Date }>('select at from staff_event order by number limit 1');
    await own.rows('insert into staff_unsealed select id, company from staff_event');
    expect(await historyUnsealedSince(own.ctx)).toEqual(since[0]!.at);
  } finally {
    await own.close();
  }
});

describe('reading it', () => {
  let here: Place;
  let manager: Client;
  let bearer: Send;
  let entry: number;
  beforeAll(async () => {
    here = await place();
    manager = here.people[1]!;
    bearer = await kit.bearer(manager.email);
    const path = `/v1/companies/${here.id}/entries`;
    const [moda, levent] = here.shops;
    const made = await operator('POST', path, {
      body: {
        email: manager.email,
        grant: [
          { shop: moda, permission: 'permissions' },
          { shop: moda, permission: 'products' },
        ],
        reason: 'Runs Moda',
      },
      headers: { 'user-agent': 'Back office/1' },
    });
    expect(made.status).toBe(201);
    entry = made.body.id;
    kit.advance(60_000);
    const until = new Date(kit.ctx.clock.now().getTime() + 3_600_000).toISOString();
    const more = await operator('PATCH', `${path}/${entry}`, {
      body: { grant: [{ shop: levent, permission: 'products', until }] },
    });
    expect(more.status).toBe(200);
  });

  test('lines are told newest first, with who, why and from where', async () => {
    const { status, body } = await operator('GET', `/v1/companies/${here.id}/history?entry=${entry}`);
    expect([status, body.next]).toEqual([200, null]);
    const [ended, given, made] = body.items;
    expect([ended.kind, given.kind, made.kind]).toEqual(['rights_changed', 'rights_changed', 'entry_made']);
    expect(given).toEqual({
      id: expect.any(String),
      number: 4,
      kind: 'rights_changed',
      entry,
      account: manager.id,
      email: manager.email,
      actor: expect.stringMatching(/^key:\d+$/),
      at: expect.stringMatching(/Z$/),
      reason: 'Runs Moda',
      shop_ids: [[], [here.shops[0]]],
      permissions: [[], ['permissions', 'products']],
      rights: [
        { shop: here.shops[0], permission: 'permissions', before: null, after: { until: null } },
        { shop: here.shops[0], permission: 'products', before: null, after: { until: null } },
      ],
      owner: null,
      shops: null,
      shown: null,
      origin: { ip: '127.0.0.1', user_agent: 'Back office/1' },
    });
  });

  test('pages follow each other without a gap', async () => {
    const numbers: number[] = [];
    let next: string | null = '';
    while (next !== null) {
      const { body } = await bearer(
        'GET',
        `/v1/companies/${here.id}/history?limit=2${next === '' ? '' : `&after=${next}`}`,
      );
      numbers.push(...body.items.map(({ number }: { number: number }) => number));
      next = body.next;
    }
    expect(numbers).toEqual([5, 4, 3, 2, 1]);
    const filtered = async (query: string): Promise<number[]> =>
      (await operator('GET', `/v1/companies/${here.id}/history?${query}`)).body.items.map(
        ({ number }: { number: number }) => number,
      );
    expect(await filtered('kind=company_made')).toEqual([1]);
    expect(await filtered(`account=${manager.id}&kind=rights_changed`)).toEqual([5, 4]);
    expect((await operator('GET', `/v1/companies/${here.id}/history?kind=gossip`)).status).toBe(400);
  });

  test('who could is answered for now, for the past, and for after the end of a right', async () => {
    const [, levent] = here.shops;
    const ask = async (query: string): Promise<unknown> =>
      (
        await bearer('GET', `/v1/companies/${here.id}/access?shop=${levent}&permission=products${query}`)
      ).body.items.map(({ account, email, entry: which, as, until, event }: Record<string, unknown>) => [
        account,
        email,
        which,
        as,
        typeof until,
        typeof event,
      ]);
    const owner = here.people[0]!;
    const ownEntry = expect.any(Number);
    const first = [owner.id, owner.email, ownEntry, 'owner', 'object', 'string'];
    expect(await ask('')).toEqual([first, [manager.id, manager.email, entry, 'entry', 'string', 'string']]);
    const now = kit.ctx.clock.now().getTime();
    expect(await ask(`&at=${new Date(now - 30_000).toISOString()}`)).toEqual([first]);
    expect(await ask(`&at=${new Date(now + 4_000_000).toISOString()}`)).toEqual([first]);
    expect(await ask(`&at=${new Date(now - 86_400_000).toISOString()}`)).toEqual([]);
    const foreign = await bearer('GET', `/v1/companies/${here.id}/access?shop=1000000&permission=products`);
    expect([foreign.status, foreign.body.errors[0].pointer]).toEqual([400, '/shop']);
    for (const query of [
      'shop=1',
      'permission=products',
      'shop=1&permission=gossip',
      'shop=1&permission=products&at=then',
    ])
      expect((await bearer('GET', `/v1/companies/${here.id}/access?${query}`)).status).toBe(400);
  });

  test('managers of other companies find nothing, guests must sign in, colleagues without the right are refused', async () => {
    const other = await place();
    const stranger = await kit.bearer(other.people[0]!.email);
    const colleague = here.people[2]!;
    await operator('POST', `/v1/companies/${here.id}/entries`, { body: { email: colleague.email } });
    for (const path of ['history', `access?shop=${here.shops[0]}&permission=products`]) {
      const at = `/v1/companies/${here.id}/${path}`;
      expect((await stranger('GET', at)).status).toBe(404);
      expect((await kit.send('GET', at)).status).toBe(401);
      expect((await (await kit.bearer(colleague.email))('GET', at)).body.code).toBe('missing_permission');
      expect((await (await kit.apiKey('settings'))('GET', at)).status).toBe(403);
    }
  });

  test('erasure takes from where somebody acted, and leaves their lines', async () => {
    const path = `/v1/companies/${here.id}/entries`;
    const friend = here.people[3]!;
    const given = await bearer('POST', path, {
      body: { email: friend.email, grant: [{ shop: here.shops[0], permission: 'products' }] },
    });
    expect(given.status).toBe(201);
    const origins = async (): Promise<unknown[]> =>
      (await operator('GET', `/v1/companies/${here.id}/history?entry=${given.body.id}`)).body.items.map(
        ({ actor, origin, email }: Record<string, unknown>) => [actor, origin === null, email],
      );
    expect(await origins()).toEqual([
      [`account:${manager.id}`, false, friend.email],
      [`account:${manager.id}`, false, friend.email],
    ]);
    const erase = (): Promise<Reply> => operator('POST', '/v1/erasures', { body: { account: manager.id } });
    const still = await erase();
    expect([still.status, still.body.code]).toEqual([409, 'still_needed']);
    expect((await operator('DELETE', `${path}/${entry}`)).status).toBe(204);
    expect((await erase()).status).toBe(200);
    expect(await origins()).toEqual([
      [`account:${manager.id}`, true, friend.email],
      [`account:${manager.id}`, true, friend.email],
    ]);
    const gone = (await operator('GET', `/v1/companies/${here.id}/history?entry=${entry}`)).body.items;
    expect(gone.map(({ kind, email }: Record<string, unknown>) => [kind, email])).toEqual([
      ['entry_removed', null],
      ['rights_changed', null],
      ['rights_changed', null],
      ['entry_made', null],
    ]);
    expect(await verifyHistory(kit.ctx)).toMatchObject({ faults: [] });
  });
});

test('companies from before there was a history begin it with what they are', async () => {
  const engine = inject('engine');
  const root = openDatabase({ connection: engine.connection, max: 1 });
  const name = `t_upgrade_${process.pid}`;
  await root.run(prepared(`create database ${name} encoding 'UTF8' template template0`));
  const old = openDatabase({ connection: { ...engine.connection, database: name }, max: 2 });
  try {
    // The schema as it was: all of ours is there but the newest.
    const folder = join(import.meta.dirname, '../../migrations');
    await old.run(
      prepared(
        'create table migration (number integer primary key, name text not null, applied_at timestamptz not null default now())',
      ),
    );
    for (const file of readdirSync(folder)
      .filter((each) => /^000[1-8]_/.test(each))
      .sort()) {
      // As one text; the driver takes several statements when there are no values.
      await old.pool.query(readFileSync(join(folder, file), 'utf8'));
      await old.run(prepared('insert into migration (number, name) values ($1, $2)', Number(file.slice(0, 4)), file));
    }
    await old.pool.query(`
      insert into contact_point (kind, value, created_at) select 'email', n || '@example.com', now() from generate_series(1, 3) n;
      insert into account (id, email, email_key, language_code, email_point, email_verified_at, date_joined)
        select id, value, value, 'en', id, now(), now() from contact_point;
      insert into company (id, name, owner, created_at) values (15, '{"en":"Usta"}', 1, now()), (16, '{"en":"Rakip"}', null, now()),
        (17, '{"en":"Yeni"}', 3, now());
      insert into shop (id, company, name, created_at) select id, 15 + id / 20, '{"en":"Shop"}', now() from unnest('{11,18,21}'::int[]) id;
      -- One with a right of every kind, one with a shop and no right, one with a shop twice and one that is another company's.
      insert into entry (id, company, account, shop_ids, permissions, version, created_at) values
        (1, 15, 1, '{18,11}', '{products,permissions}', 4, now()), (2, 15, 2, '{11}', '{}', 2, now()),
        (3, 16, 2, '{21,21,11}', '{permissions}', 1, now());
      select setval(pg_get_serial_sequence(t, 'id'), 100) from unnest('{company,shop,entry}'::text[]) t;
    `);
    expect((await migrate(old))[0]).toBe('0009_staff_rights.sql');
    const ctx = { ...kit.ctx, db: old };
    expect(await verifyHistory(ctx)).toEqual({ companies: 3, lines: 6, seals: 0, unsealed: 3, faults: [] });
    const rights = `select entry, shop, permission, until, (select number from staff_event s where s.id = r.event) as line from entry_right r order by 1, 2, 3`;
    expect(await old.rows(prepared(rights))).toEqual([
      { entry: 1, shop: 11, permission: 'permissions', until: null, line: 2 },
      { entry: 1, shop: 11, permission: 'products', until: null, line: 2 },
      { entry: 1, shop: 18, permission: 'permissions', until: null, line: 2 },
      { entry: 1, shop: 18, permission: 'products', until: null, line: 2 },
      { entry: 3, shop: 21, permission: 'permissions', until: null, line: 2 },
    ]);
    const holders = async (company: number, shop: number): Promise<unknown> =>
      (await whoCould(ctx, company, { shop, permission: 'permissions', at: ctx.clock.now() })).map(
        ({ account, entry, as, email }) => [account, entry, as, email],
      );
    expect(await holders(15, 11)).toEqual([[1, 1, 'owner', '1@example.com']]);
    expect(await holders(16, 21)).toEqual([[2, 3, 'entry', '2@example.com']]);
    await expect(holders(16, 11)).rejects.toMatchObject({ code: 'invalid' });

    // It goes on from there; an owner without an entry gets one with the first shop.
    await addShop(ctx, 17, { en: 'First' }, author);
    await changeCompany(ctx, 15, { owner: '2@example.com', language: 'en' }, author);
    await sealWholeHistory(ctx);
    expect(await verifyHistory(ctx)).toEqual({ companies: 3, lines: 10, seals: 1, unsealed: 0, faults: [] });
    const [first] = await old.rows<{ id: number }>(prepared('select id from shop where company = 17'));
    expect(await holders(17, first!.id)).toEqual([[3, expect.any(Number), 'owner', '3@example.com']]);
    expect(await holders(15, 11)).toEqual([
      [2, 2, 'owner', '2@example.com'],
      [1, 1, 'entry', '1@example.com'],
    ]);
  } finally {
    await old.close();
    await root.run(prepared(`drop database ${name} with (force)`));
    await root.close();
  }
});
