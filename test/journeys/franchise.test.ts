/** What the documented calls gain over the documents: tags, previews, reasons, shops that differ, and rights that end. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { sweepRights } from '../../src/staff/entries/entries.ts';
import { createKit, type Kit, type Send } from '../kit.ts';

let kit: Kit;
/** Owner of a company with two shops. */
let owner: Send;
let operator: Send;
let company: number;
let shops: [number, number];
let path: string;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  const { email } = await kit.signUp();
  const made = await createCompany(kit.ctx, {
    name: { nl: 'Bakkerij' },
    owner: email,
    shops: [{ nl: 'Moda' }, { nl: 'Levent' }],
    language: 'nl',
  });
  company = made.id;
  shops = made.shops.map(({ id }) => id) as [number, number];
  path = `/company/companies/${company}/permissions/users`;
  owner = await kit.bearer(email);
  operator = await kit.apiKey('companies');
});
afterAll(() => kit.close());

interface Colleague {
  readonly id: number;
  readonly account: number;
  readonly email: string;
  readonly send: Send;
  readonly at: string;
}

async function colleague(given: object = {}): Promise<Colleague> {
  const { email, id: account } = await kit.signUp();
  const { body } = await owner('POST', path, { body: { email } });
  const at = `${path}/${body.id}`;
  expect((await owner('PATCH', at, { body: given })).status).toBe(200);
  return { id: body.id, account, email, send: await kit.bearer(email), at };
}

/** Everything that a change of rights could write. */
const everything = (): Promise<unknown[]> =>
  kit.rows(`select (select jsonb_agg(to_jsonb(e) order by id) from entry e) as entries,
                   (select jsonb_agg(to_jsonb(r) order by entry, shop, permission) from entry_right r) as rights,
                   (select count(*) from staff_event) as lines, (select count(*) from staff_evidence) as evidence,
                   (select jsonb_agg(to_jsonb(c) order by id) from company c) as companies,
                   (select count(*) from account) as accounts, (select count(*) from mail_link) as links,
                   (select count(*) from graphile_worker.jobs) as jobs`);

test('an entry has a tag, and a change that rests on an older one is refused', async () => {
  const { at } = await colleague({ shop_ids: shops, permissions: { products: true } });
  const first = (await owner('GET', at)).headers['etag'] as string;
  expect(first).toMatch(/^"\d+\.\d+"$/);
  expect((await owner('GET', at)).headers['etag']).toBe(first);

  const changed = await owner('PATCH', at, {
    body: { permissions: { discounts: true } },
    headers: { 'if-match': first },
  });
  expect(changed.status).toBe(200);
  const second = changed.headers['etag'] as string;
  expect(second).not.toBe(first);
  expect((await owner('GET', at)).headers['etag']).toBe(second);

  for (const [method, body] of [
    ['PATCH', { permissions: { discounts: false } }],
    ['DELETE', undefined],
  ] as const) {
    const late = await owner(method, at, { ...(body && { body }), headers: { 'if-match': first } });
    expect([late.status, late.body.code]).toEqual([412, 'precondition_failed']);
  }
  // Weak tags never match; a list and a star do.
  const tags: [string, number][] = [
    [`W/${second}`, 412],
    [`"x", ${second}`, 200],
    ['*', 200],
  ];
  for (const [tag, status] of tags)
    expect((await owner('PATCH', at, { body: {}, headers: { 'if-match': tag } })).status).toBe(status);
  expect((await owner('GET', at)).body.permissions).toMatchObject({ products: true, discounts: true });
});

test('of a hundred changes that rest on the same tag, one is made', async () => {
  const { at } = await colleague();
  const tag = (await owner('GET', at)).headers['etag'] as string;
  const twin = await kit.twin();
  const { email } = (
    await kit.rows<{ email: string }>(
      'select email from account a join company c on c.owner = a.id where c.id = $1',
      company,
    )
  )[0]!;
  const there = await twin.bearer(email);
  const replies = await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      (index % 2 === 0 ? owner : there)('PATCH', at, {
        body: { shop_ids: [shops[index % 2]!], permissions: { products: index % 3 === 0, discounts: true } },
        headers: { 'if-match': tag },
      }),
    ),
  );
  expect(replies.map(({ status }) => status).sort()).toEqual([200, ...Array(99).fill(412)]);
});

test('a dry run says what would change, writes nothing, and the real call does exactly that', async () => {
  const { at, account, id, email } = await colleague({ shop_ids: [shops[0]], permissions: { products: true } });
  const dry = { headers: { 'assent-dry-run': '1' } };
  const body = { shop_ids: [shops[0], shops[1]], permissions: { products: false, holidays: true } };
  const before = await everything();
  const { headers, body: shown } = await owner('GET', at);

  const preview = await owner('PATCH', at, { body, ...dry });
  expect(preview.status).toBe(200);
  expect(preview.body).toEqual({
    dry_run: true,
    before: shown,
    after: {
      shop_ids: shops,
      permissions: { ...shown.permissions, products: false, holidays: true },
      id,
      user: { id: account, email },
    },
    changes: expect.arrayContaining([
      { shop: shops[0], permission: 'holidays', before: null, after: { until: null } },
      { shop: shops[1], permission: 'holidays', before: null, after: { until: null } },
      { shop: shops[0], permission: 'products', before: { until: null }, after: null },
    ]),
    invited: false,
  });
  expect(preview.body.changes).toHaveLength(3);

  const gone = await owner('DELETE', at, dry);
  expect([gone.status, gone.body.before, gone.body.after]).toEqual([200, shown, null]);

  const unknown = await owner('POST', path, { body: { email: 'nobody-yet@example.com' }, ...dry });
  expect([unknown.status, unknown.body]).toEqual([
    200,
    {
      dry_run: true,
      before: null,
      after: {
        shop_ids: [],
        permissions: Object.fromEntries(Object.keys(shown.permissions).map((key) => [key, false])),
        id: null,
        user: { id: null, email: 'nobody-yet@example.com' },
      },
      changes: [],
      invited: true,
    },
  ]);
  const known = await owner('POST', path, { body: { email }, ...dry });
  expect([known.body.before, known.body.after, known.body.invited]).toEqual([shown, shown, false]);
  for (const value of ['0', 'true', '']) {
    const odd = await owner('PATCH', at, { body, headers: { 'assent-dry-run': value } });
    expect([odd.status, odd.body.errors[0].pointer]).toEqual([400, '/Assent-Dry-Run']);
  }
  expect(await everything()).toEqual(before);

  const real = await owner('PATCH', at, { body, headers: { 'if-match': headers['etag'] as string } });
  expect([real.status, real.body]).toEqual([200, preview.body.after]);
});

test('a dry run is refused as the real call would be', async () => {
  const { at } = await colleague({ shop_ids: [shops[0]], permissions: { permissions: true } });
  const other = await colleague({ shop_ids: shops, permissions: { products: true } });
  const before = await everything();
  const dry = { 'assent-dry-run': '1' };
  const refusals = await Promise.all([
    other.send('PATCH', at, { body: {}, headers: dry }),
    owner('PATCH', at, { body: { shop_ids: [99] }, headers: dry }),
    owner('PATCH', at, { body: {}, headers: { ...dry, 'if-match': '"0.0"' } }),
    owner('PATCH', `${path}/999999`, { body: {}, headers: dry }),
    other.send('POST', path, { body: { email: 'x@example.com' }, headers: dry }),
  ]);
  expect(refusals.map(({ status, body }) => [status, body.code])).toEqual([
    [403, 'missing_permission'],
    [422, 'unprocessable'],
    [412, 'precondition_failed'],
    [404, 'not_found'],
    [403, 'missing_permission'],
  ]);
  expect(await everything()).toEqual(before);
});

test('a call without a preview refuses to be asked for one, and does nothing', async () => {
  const { id } = await colleague();
  const headers = { 'assent-dry-run': '1' };
  const before = await everything();
  const replies = await Promise.all([
    operator('POST', '/v1/companies', { body: { name: { en: 'X' }, owner: 'x@example.com' }, headers }),
    operator('PATCH', `/v1/companies/${company}`, { body: { active: false }, headers }),
    operator('POST', `/v1/companies/${company}/shops`, { body: { name: { en: 'X' } }, headers }),
    operator('POST', `/v1/companies/${company}/entries/${id}/invitation`, { headers }),
    owner('DELETE', '/api/sessions', { headers }),
    kit.send('POST', '/users/permissions/', { body: { basket: 1, uid: 'u' }, headers }),
  ]);
  expect(replies.map(({ status }) => status)).toEqual(Array(6).fill(400));
  expect(replies[0]!.body.errors).toEqual([
    { pointer: '/Assent-Dry-Run', code: 'no_preview', detail: 'This call has no preview: it would be done.' },
  ]);
  expect(await everything()).toEqual(before);
  // A look is a look.
  expect((await operator('GET', `/v1/companies/${company}`, { headers })).status).toBe(200);
});

test('where shops differ a header names the keys, and the form sent back as it was read levels nothing', async () => {
  const { at, id } = await colleague();
  const pairs = `/v1/companies/${company}/entries/${id}`;
  const given = await operator('PATCH', pairs, {
    body: {
      grant: [
        { shop: shops[0], permission: 'products' },
        { shop: shops[1], permission: 'products' },
        { shop: shops[1], permission: 'discounts' },
      ],
    },
  });
  expect(given.status).toBe(200);
  const shown = await owner('GET', at);
  expect(shown.headers['assent-uneven']).toBe('discounts');
  expect(shown.body).toMatchObject({ shop_ids: shops, permissions: { products: true, discounts: true } });
  const again = await owner('PATCH', at, {
    body: { shop_ids: shown.body.shop_ids, permissions: shown.body.permissions },
  });
  expect([again.status, again.headers['etag']]).toEqual([200, shown.headers['etag']]);
  expect((await operator('GET', pairs)).body.rights).toHaveLength(3);
  // A key that is set to false goes everywhere; set to true again it holds everywhere.
  await owner('PATCH', at, { body: { permissions: { discounts: false } } });
  const even = await owner('PATCH', at, { body: { permissions: { discounts: true } } });
  expect(even.headers['assent-uneven']).toBeUndefined();
  expect((await operator('GET', pairs)).body.rights).toHaveLength(4);
});

test('a right that ends is gone everywhere at its moment, before anybody swept, and sweeping writes it down', async () => {
  const { at, id, send, account } = await colleague({ shop_ids: [shops[0]], permissions: { products: true } });
  const until = new Date(kit.ctx.clock.now().getTime() + 60_000).toISOString();
  const pairs = `/v1/companies/${company}/entries/${id}`;
  await operator('PATCH', pairs, {
    body: { grant: [{ shop: shops[1], permission: 'holidays', until }], reason: 'summer help' },
  });
  const tag = (await owner('GET', at)).headers['etag'];
  const sees = async (): Promise<unknown[]> => [
    (await owner('GET', at)).body.shop_ids,
    (await owner('GET', path)).body.find((entry: { id: number }) => entry.id === id).permissions.holidays,
    (await send('GET', '/user?include=company_permissions')).body.company_permissions.map(
      (own: { shop_ids: number[]; permissions: Record<string, boolean> }) => [
        own.shop_ids,
        own.permissions['holidays'],
      ],
    ),
    (await send('GET', `/company/companies/${company}/shops`)).body.map((shop: { id: number }) => shop.id),
    (await operator('GET', pairs)).body.rights.length,
  ];
  expect(await sees()).toEqual([shops, true, [[shops, true]], shops, 2]);
  kit.advance(60_000);
  const left = [[shops[0]], false, [[[shops[0]], false]], [shops[0]], 1];
  expect(await sees()).toEqual(left);
  expect((await owner('GET', at)).headers['etag']).not.toBe(tag);
  expect((await owner('PATCH', at, { body: {}, headers: { 'if-match': tag as string } })).status).toBe(412);

  await sweepRights(kit.ctx);
  expect(await sees()).toEqual(left);
  const lines = await kit.rows<{ kind: string; actor: string; line: string }>(
    'select kind, actor, line from staff_event where entry = $1 order by number desc limit 1',
    id,
  );
  expect([lines[0]!.kind, lines[0]!.actor, JSON.parse(lines[0]!.line)]).toEqual([
    'rights_ended',
    'system',
    expect.objectContaining({
      account,
      rights: [{ shop: shops[1], permission: 'holidays', before: { until }, after: null }],
    }),
  ]);
  // Nothing is left to sweep.
  const count = (): Promise<unknown[]> => kit.rows('select count(*) from staff_event');
  const before = await count();
  await sweepRights(kit.ctx);
  expect(await count()).toEqual(before);
});

test('a reason travels in a header, in any language, and only a sane one', async () => {
  const { at, id } = await colleague();
  const say = (reason: string): Promise<{ status: number }> =>
    owner('PATCH', at, {
      body: { permissions: { products: true }, shop_ids: [shops[0]] },
      headers: { 'assent-change-reason': Buffer.from(reason).toString('latin1') },
    });
  expect((await say('x'.repeat(501))).status).toBe(400);
  expect((await say('Şubede yardım — ağustos')).status).toBe(200);
  const [line] = await kit.rows<{ line: string }>(
    `select line from staff_event where entry = $1 and kind = 'rights_changed' order by number desc limit 1`,
    id,
  );
  expect(JSON.parse(line!.line).reason).toBe('Şubede yardım — ağustos');
});

test('an edit that rests on an older version is merged pair by pair, and overwrites nobody unseen', async () => {
  const { id } = await colleague({ shop_ids: shops, permissions: { products: true } });
  const pairs = `/v1/companies/${company}/entries/${id}`;
  const seen = (await operator('GET', pairs)).body.version;
  await owner('PATCH', `${path}/${id}`, { body: { permissions: { holidays: true } } });
  await operator('PATCH', pairs, { body: { revoke: [{ shop: shops[0], permission: 'products' }] } });

  // Pairs that nobody touched since are free.
  const merged = await operator('PATCH', pairs, {
    body: { seen, grant: [{ shop: shops[1], permission: 'discounts' }] },
  });
  expect(merged.status).toBe(200);
  const until = new Date(kit.ctx.clock.now().getTime() + 3_600_000).toISOString();
  const clash = await operator('PATCH', pairs, {
    body: {
      seen,
      grant: [
        { shop: shops[0], permission: 'products', until },
        { shop: shops[1], permission: 'translations' },
      ],
    },
  });
  expect([clash.status, clash.body.code, clash.body.errors.map((e: { pointer: string }) => e.pointer)]).toEqual([
    409,
    'changed_since',
    [`/rights/${shops[0]}/products`],
  ]);
  expect(clash.body.errors[0].detail).toContain('key:');
  const now = (await operator('GET', pairs)).body;
  expect(now.rights.map((r: { shop: number; permission: string }) => `${r.shop} ${r.permission}`).sort()).toEqual(
    [`${shops[0]} holidays`, `${shops[1]} discounts`, `${shops[1]} holidays`, `${shops[1]} products`].sort(),
  );
  // Read again, it can be said.
  const said = await operator('PATCH', pairs, {
    body: { seen: now.version, grant: [{ shop: shops[0], permission: 'products', until }] },
  });
  expect(said.status).toBe(200);
  const ahead = await operator('PATCH', pairs, {
    body: { seen: 9999, grant: [{ shop: shops[0], permission: 'time_settings' }] },
  });
  expect([ahead.status, ahead.body.errors[0].pointer]).toEqual([422, '/seen']);
});

test('where owners must have a second factor, one without can look after nothing until they have it', async () => {
  const decisions = await kit.apiKey('decisions');
  const [{ owner: account }] = (await kit.rows('select owner from company where id = $1', company)) as [
    { owner: number },
  ];
  const { at, account: colleaguesAccount } = await colleague({ shop_ids: shops, permissions: { products: true } });
  const asked = async (): Promise<unknown[]> => [
    ...(await Promise.all([
      owner('GET', path),
      owner('PATCH', at, { body: { permissions: { holidays: true } } }),
      owner('GET', `/v1/companies/${company}/entries`),
      owner('GET', `/v1/companies/${company}/history`),
      owner('GET', `/v1/decisions/forward-auth?permission=products&shop=${shops[0]}`),
    ]).then((replies) => replies.map(({ status, body }) => (status < 300 ? 'ok' : body.code)))),
    ...(await Promise.all(
      [account, colleaguesAccount].map((who) =>
        decisions('POST', '/v1/decisions/staff', { body: { account: who, shop: shops[0], permission: 'products' } }),
      ),
    ).then((replies) => replies.map(({ body }) => body.code))),
  ];
  expect(await asked()).toEqual(['ok', 'ok', 'ok', 'ok', 'ok', 'owner', 'held']);
  await kit.set('SECOND_FACTOR_REQUIRED', ['owners']);
  expect(await asked()).toEqual([...Array(4).fill('second_factor_required'), 'not_allowed', 'second_factor', 'held']);
  await kit.rows('update account set second_factor = true where id = $1', account);
  expect(await asked()).toEqual(['ok', 'ok', 'ok', 'ok', 'ok', 'owner', 'held']);
  await kit.rows('update account set second_factor = false where id = $1', account);
  await kit.set('SECOND_FACTOR_REQUIRED', []);
});
