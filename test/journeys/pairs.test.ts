/** Entries as pairs over /v1: giving, taking, ends, roles, previews, and two people at once. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { sweepRights } from '../../src/staff/entries/entries.ts';
import { verifyHistory } from '../../src/staff/history/verify.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

let kit: Kit;
let key: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  key = await kit.apiKey('companies');
});
afterAll(async () => {
  expect(await verifyHistory(kit.ctx)).toMatchObject({ faults: [] });
  await kit.close();
});

interface Place {
  readonly id: number;
  readonly moda: number;
  readonly levent: number;
  readonly path: string;
  readonly owner: Client;
}

async function place(): Promise<Place> {
  const owner = await kit.signUp();
  const { id, shops } = await createCompany(kit.ctx, {
    name: { en: 'Bakery' },
    owner: owner.email,
    shops: [{ en: 'Moda' }, { en: 'Levent' }],
    language: 'en',
  });
  return { id, moda: shops[0]!.id, levent: shops[1]!.id, path: `/v1/companies/${id}/entries`, owner };
}

const inHours = (hours: number): string => new Date(kit.ctx.clock.now().getTime() + hours * 3_600_000).toISOString();
const event = expect.stringMatching(/^[0-9a-f-]{36}$/);
const DRY = { 'assent-dry-run': '1' };

/** Rights of an answer in short: `11 products 2026-…`. */
const short = ({ body }: Reply, names: Record<number, string>): string[] =>
  body.rights.map(
    ({ shop, permission, until }: { shop: number; permission: string; until: string | null }) =>
      `${names[shop]} ${permission}${until === null ? '' : ` ${until}`}`,
  );
const code = ({ status, body }: Reply): string => `${status} ${body.code}`;

/** Everything that a preview must not touch. */
const traces = async (): Promise<unknown> =>
  kit.rows(`
    select (select count(*)::int from account) as accounts, (select coalesce(sum(version), 0)::int from entry) as entries,
           (select count(*)::int from entry_right) as rights, (select count(*)::int from staff_event) as lines,
           (select count(*)::int from mail_link) as links, (select count(*)::int from graphile_worker.jobs) as jobs,
           (select count(*)::int from contact_point) as points, (select sum(events)::int from company) as events`);

test('an entry is made with its rights at once, shown with its ETag, and made again only changes it', async () => {
  const { path, moda, levent } = await place();
  const who = await kit.signUp();
  const until = inHours(5);
  const body = {
    email: who.email,
    grant: [{ shop: levent, permission: 'products', until }],
    roles: [{ role: 'marketing', shops: [moda] }],
    reason: 'Season',
  };
  const made = await key('POST', path, { body });
  expect([made.status, made.body]).toEqual([
    201,
    {
      id: expect.any(Number),
      account: who.id,
      email: who.email,
      state: 'active',
      owner: false,
      shop_ids: [moda, levent],
      permissions: ['newsletters', 'translations', 'products', 'discounts'],
      rights: [
        { shop: moda, permission: 'discounts', until: null, event },
        { shop: moda, permission: 'newsletters', until: null, event },
        { shop: moda, permission: 'translations', until: null, event },
        { shop: levent, permission: 'products', until, event },
      ],
      invitation: null,
      version: 2,
    },
  ]);
  expect(made.headers['etag']).toBe('"2.4"');
  const one = await key('GET', `${path}/${made.body.id}`);
  expect([one.status, one.body, one.headers['etag']]).toEqual([200, made.body, '"2.4"']);
  const again = await key('POST', path, { body });
  expect([again.status, again.body]).toEqual([200, made.body]);
  const more = await key('POST', path, { body: { email: who.email, grant: [{ shop: moda, permission: 'holidays' }] } });
  expect([more.status, more.body.version, more.body.rights.length]).toEqual([200, 3, 5]);
  expect(await kit.rows('select kind from staff_event where entry = $1 order by number', made.body.id)).toEqual([
    { kind: 'entry_made' },
    { kind: 'rights_changed' },
    { kind: 'rights_changed' },
  ]);
});

test('when the rights are refused nobody gets an entry, an account or a mail', async () => {
  const { path, moda } = await place();
  const manager = await kit.signUp();
  await key('POST', path, { body: { email: manager.email, grant: [{ shop: moda, permission: 'permissions' }] } });
  const send = await kit.bearer(manager.email);
  const before = await traces();
  const refused = await send('POST', path, {
    body: { email: 'friend@elsewhere.example', grant: [{ shop: moda, permission: 'discounts' }] },
  });
  expect(code(refused)).toBe('403 missing_permission_in_shop');
  expect(await traces()).toEqual(before);
  expect(
    code(await send('POST', path, { body: { email: manager.email, grant: [{ shop: moda, permission: 'products' }] } })),
  ).toBe('403 own_entry');
});

test('pairs are given and taken one by one, and everything else stays', async () => {
  const { path, moda, levent } = await place();
  const names = { [moda]: 'moda', [levent]: 'levent' };
  const who = await kit.signUp();
  const { body: entry } = await key('POST', path, {
    body: { email: who.email, roles: [{ role: 'marketing', shops: [moda, levent] }] },
  });
  const at = `${path}/${entry.id}`;
  const until = inHours(2);
  const changed = await key('PATCH', at, {
    body: {
      revoke: [{ shop: levent, permission: 'discounts' }],
      grant: [{ shop: moda, permission: 'discounts', until }],
      reason: 'Only Moda sells off',
    },
  });
  expect(changed.status).toBe(200);
  expect(short(changed, names)).toEqual([
    `moda discounts ${until}`,
    'moda newsletters',
    'moda translations',
    'levent newsletters',
    'levent translations',
  ]);
  // What stayed is still given by the line that gave it.
  const events = changed.body.rights.map((right: { event: string }) => right.event);
  expect(new Set(events).size).toBe(2);
  expect(events[0]).not.toBe(entry.rights[0].event);
  expect(events[1]).toBe(entry.rights[1].event);
  // Two hours later the right is gone, swept or not.
  kit.advance(2 * 3_600_000);
  const later = await key('GET', at);
  expect(short(later, names)).toHaveLength(4);
  expect(later.headers['etag']).not.toBe(changed.headers['etag']);
  await sweepRights(kit.ctx);
  expect((await key('GET', at)).body).toEqual({ ...later.body, version: later.body.version + 1 });
  const { body } = await key('GET', `${path.replace('entries', 'history')}?entry=${entry.id}&limit=1`);
  expect(body.items).toMatchObject([
    {
      kind: 'rights_ended',
      actor: 'system',
      rights: [{ shop: moda, permission: 'discounts', before: { until }, after: null }],
      origin: null,
    },
  ]);
});

test.each([
  ['a shop of another company', () => ({ grant: [{ shop: 1, permission: 'products' }] }), '/grant/0/shop'],
  [
    'a permission that is none',
    (p: Place) => ({ revoke: [{ shop: p.moda, permission: 'gossip' }] }),
    '/revoke/0/permission',
  ],
  [
    'an end in the past',
    (p: Place) => ({ grant: [{ shop: p.moda, permission: 'products', until: '2020-01-01T00:00:00Z' }] }),
    '/grant/0/until',
  ],
  ['a role that is none', (p: Place) => ({ roles: [{ role: 'king', shops: [p.moda] }] }), '/roles/0/role'],
  [
    'a right given and taken',
    (p: Place) => ({
      grant: [{ shop: p.moda, permission: 'products' }],
      revoke: [{ shop: p.moda, permission: 'products' }],
    }),
    '/grant/0',
  ],
  [
    'a version that never was',
    (p: Place) => ({ seen: 99, grant: [{ shop: p.moda, permission: 'products' }] }),
    '/seen',
  ],
] as const)('%s is refused by its place', async (_what, body, pointer) => {
  const here = await place();
  const { body: entry } = await key('POST', here.path, { body: { email: (await kit.signUp()).email } });
  const before = await traces();
  const reply = await key('PATCH', `${here.path}/${entry.id}`, { body: body(here) });
  expect([code(reply), reply.body.errors.map((error: { pointer: string }) => error.pointer)]).toEqual([
    '422 unprocessable',
    [pointer],
  ]);
  expect(await traces()).toEqual(before);
});

test.each([
  [{ grant: [{ shop: 1 }] }, '/grant/0/permission'],
  [{ grant: [{ shop: 'x', permission: 'products' }] }, '/grant/0/shop'],
  [{ grant: [{ shop: 1, permission: 'products', until: 'tomorrow' }] }, '/grant/0/until'],
  [{ shop_ids: [1] }, '/shop_ids'],
  [{ seen: 0 }, '/seen'],
])('a body that is none is refused: %j', async (body, pointer) => {
  const here = await place();
  const { body: entry } = await key('POST', here.path, { body: { email: (await kit.signUp()).email } });
  const reply = await key('PATCH', `${here.path}/${entry.id}`, { body });
  expect(code(reply)).toBe('400 invalid');
  expect(reply.body.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
});

test('a role that names what is no permission is refused by the setting', async () => {
  const reply = await (await kit.apiKey('settings'))('PUT', '/v1/settings/STAFF_ROLES', {
    body: { value: { odd: ['products', 'gossip'], shop: ['products'] } },
  });
  expect([code(reply), reply.body.errors[0].pointer]).toEqual(['400 invalid', '/value/odd/1']);
  expect((await key('GET', '/v1/roles')).body.items.map(({ role }: { role: string }) => role)).toEqual([
    'manager',
    'shop',
    'marketing',
  ]);
});

describe('two people at once', () => {
  test('two companies that invite one unknown address both get their colleague, who is one account', async () => {
    const [here, there] = [await place(), await place()];
    for (let n = 0; n < 5; n += 1) {
      const email = `both${n}@elsewhere.example`;
      const replies = await Promise.all(
        [here, there].map(({ path, moda }) =>
          key('POST', path, { body: { email, grant: [{ shop: moda, permission: 'products' }] } }),
        ),
      );
      expect(replies.map(({ status, body }) => [status, body.rights.length])).toEqual([
        [201, 1],
        [201, 1],
      ]);
      expect(new Set(replies.map(({ body }) => body.account)).size).toBe(1);
    }
  });

  test('If-Match refuses an outdated edit, and takes a current one', async () => {
    const { path, moda } = await place();
    const made = await key('POST', path, { body: { email: (await kit.signUp()).email } });
    const at = `${path}/${made.body.id}`;
    const etag = String(made.headers['etag']);
    const grant = (permission: string, headers: Record<string, string>): Promise<Reply> =>
      key('PATCH', at, { body: { grant: [{ shop: moda, permission }] }, headers });
    const first = await grant('products', { 'if-match': etag });
    expect(first.status).toBe(200);
    expect(code(await grant('holidays', { 'if-match': etag }))).toBe('412 precondition_failed');
    expect(code(await key('DELETE', at, { headers: { 'if-match': etag } }))).toBe('412 precondition_failed');
    expect((await grant('holidays', { 'if-match': `"0.0", ${first.headers['etag']}` })).status).toBe(200);
    expect((await grant('discounts', { 'if-match': '*' })).status).toBe(200);
  });

  test('edits of different pairs merge, and nobody is overwritten unseen', async () => {
    const { path, moda, levent } = await place();
    const made = await key('POST', path, { body: { email: (await kit.signUp()).email } });
    const at = `${path}/${made.body.id}`;
    const seen = made.body.version;
    const grant = (shop: number, permission: string): Promise<Reply> =>
      key('PATCH', at, { body: { seen, grant: [{ shop, permission }] } });
    expect((await grant(moda, 'products')).status).toBe(200);
    expect((await grant(levent, 'products')).status).toBe(200);
    const clash = await key('PATCH', at, { body: { seen, revoke: [{ shop: moda, permission: 'products' }] } });
    expect([code(clash), clash.body.errors[0].pointer]).toEqual(['409 changed_since', `/rights/${moda}/products`]);
    expect((await key('GET', at)).body.rights).toHaveLength(2);
  });
});

describe('Assent-Dry-Run', () => {
  test('tells what a change would do and writes nothing; the change then does exactly that', async () => {
    const { path, moda, levent } = await place();
    const { body: before } = await key('POST', path, {
      body: { email: (await kit.signUp()).email, grant: [{ shop: moda, permission: 'products' }] },
    });
    const at = `${path}/${before.id}`;
    const until = inHours(1);
    const body = {
      grant: [{ shop: levent, permission: 'holidays', until }],
      revoke: [{ shop: moda, permission: 'products' }],
    };
    const untouched = await traces();
    const dry = await key('PATCH', at, { body, headers: DRY });
    expect([dry.status, dry.body]).toEqual([
      200,
      {
        dry_run: true,
        before,
        after: {
          ...before,
          shop_ids: [levent],
          permissions: ['holidays'],
          rights: [{ shop: levent, permission: 'holidays', until, event: null }],
          version: before.version + 1,
        },
        changes: [
          { shop: levent, permission: 'holidays', before: null, after: { until } },
          { shop: moda, permission: 'products', before: { until: null }, after: null },
        ],
        invited: false,
      },
    ]);
    expect(await traces()).toEqual(untouched);
    const { body: after } = await key('PATCH', at, { body });
    expect({ ...after, rights: [{ ...after.rights[0], event: null }] }).toEqual(dry.body.after);

    const still = await traces();
    const removal = await key('DELETE', at, { headers: DRY });
    expect(removal.body).toEqual({
      dry_run: true,
      before: after,
      after: null,
      changes: [{ shop: levent, permission: 'holidays', before: { until }, after: null }],
      invited: false,
    });
    expect(await traces()).toEqual(still);
    const removed = await key('DELETE', at, { body: { reason: 'Left' } });
    expect([removed.status, removed.text]).toEqual([204, '']);
    expect((await key('GET', at)).status).toBe(404);
  });

  test('tells what giving an entry would do, to a stranger, to somebody known, and to a colleague', async () => {
    const { path, moda } = await place();
    const known = await kit.signUp();
    const grant = [{ shop: moda, permission: 'products' }];
    const right = { shop: moda, permission: 'products', until: null };
    const changes = [{ shop: moda, permission: 'products', before: null, after: { until: null } }];
    const untouched = await traces();
    const foreseen = async (email: string): Promise<Reply> =>
      key('POST', path, { body: { email, grant }, headers: DRY });
    const stranger = await foreseen('stranger@elsewhere.example');
    expect([stranger.status, stranger.body]).toEqual([
      200,
      {
        dry_run: true,
        before: null,
        after: {
          id: null,
          account: null,
          email: 'stranger@elsewhere.example',
          state: 'invited',
          owner: false,
          shop_ids: [moda],
          permissions: ['products'],
          rights: [{ ...right, event: null }],
          invitation: null,
          version: 2,
        },
        changes,
        invited: true,
      },
    ]);
    const friend = await foreseen(known.email.toUpperCase());
    expect(friend.body).toMatchObject({
      before: null,
      after: { account: known.id, email: known.email, state: 'active' },
      invited: false,
      changes,
    });
    expect(await traces()).toEqual(untouched);
    const made = await key('POST', path, { body: { email: known.email, grant } });
    const { id, rights, ...rest } = made.body;
    expect(friend.body.after).toEqual({ ...rest, id: null, rights: [{ ...right, event: null }] });
    const again = await foreseen(known.email);
    expect(again.body).toEqual({ dry_run: true, before: made.body, after: made.body, changes: [], invited: false });
  });

  test('is refused like the change itself, and says only 1', async () => {
    const { path, moda, owner } = await place();
    const manager = await kit.signUp();
    const { body: entry } = await key('POST', path, {
      body: { email: manager.email, grant: [{ shop: moda, permission: 'permissions' }] },
    });
    const send = await kit.bearer(manager.email);
    const more = { grant: [{ shop: moda, permission: 'products' }] };
    const untouched = await traces();
    const codes = [
      await send('PATCH', `${path}/${entry.id}`, { body: more, headers: DRY }),
      await send('POST', path, { body: { email: 'a@elsewhere.example', ...more }, headers: DRY }),
      await send('DELETE', `${path}/${(await key('GET', path)).body.items[0].id}`, { headers: DRY }),
      await key('PATCH', `${path}/${entry.id}`, { body: more, headers: { ...DRY, 'if-match': '"0.0"' } }),
      await key('PATCH', `${path}/${entry.id}`, { body: more, headers: { 'assent-dry-run': 'true' } }),
      await key('DELETE', `${path}/${entry.id}`, { headers: { 'assent-dry-run': '0' } }),
      await key('POST', path, { body: { email: owner.email }, headers: { 'assent-dry-run': '' } }),
    ].map(code);
    expect(codes).toEqual([
      '403 own_entry',
      '403 missing_permission_in_shop',
      '403 owner_entry',
      '412 precondition_failed',
      '400 invalid',
      '400 invalid',
      '400 invalid',
    ]);
    expect(await traces()).toEqual(untouched);
  });
});

describe('the list', () => {
  test('is paged and filtered by what holds at this moment', async () => {
    const { path, moda, levent, owner } = await place();
    const people = [await kit.signUp(), await kit.signUp(), await kit.signUp()];
    const [a, b, c] = people.map(({ email }) => email) as [string, string, string];
    await key('POST', path, { body: { email: a, grant: [{ shop: moda, permission: 'products' }] } });
    await key('POST', path, {
      body: { email: b, grant: [{ shop: levent, permission: 'products', until: inHours(1) }] },
    });
    await key('POST', path, { body: { email: c } });
    const list = async (query: string): Promise<string[]> =>
      (await key('GET', `${path}?${query}`)).body.items.map(({ email }: { email: string }) => email);
    const own = owner.email;
    expect(await list('')).toEqual([own, a, b, c]);
    expect(await list(`email=${encodeURIComponent(b.toUpperCase())}`)).toEqual([b]);
    expect(await list(`shop=${moda}`)).toEqual([own, a]);
    expect(await list('permission=products')).toEqual([own, a, b]);
    expect(await list(`permission=products&shop=${levent}`)).toEqual([own, b]);
    kit.advance(3_600_000);
    expect(await list(`permission=products&shop=${levent}`)).toEqual([own]);
    const paged: string[] = [];
    let next: string | null = '';
    while (next !== null) {
      const { body } = await key('GET', `${path}?limit=3${next === '' ? '' : `&after=${next}`}`);
      paged.push(...body.items.map(({ email }: { email: string }) => email));
      next = body.next;
    }
    expect(paged).toEqual([own, a, b, c]);
    for (const query of ['limit=0', 'permission=gossip', 'shop=x', 'colour=red'])
      expect((await key('GET', `${path}?${query}`)).status).toBe(400);
  });

  test('shows who is invited, since when and until when; the invitation is sent again until it is accepted', async () => {
    const { path } = await place();
    const made = await key('POST', path, { body: { email: 'new.colleague@example.com', language: 'tr' } });
    const now = kit.ctx.clock.now().getTime();
    const { sent_at, expires_at } = made.body.invitation;
    expect([made.status, made.body.state]).toEqual([201, 'invited']);
    expect(Math.abs(Date.parse(sent_at) - now)).toBeLessThan(60_000);
    expect(Date.parse(expires_at) - Date.parse(sent_at)).toBe(kit.ctx.settings.get('INVITATION_AGE') * 1000);
    const at = `${path}/${made.body.id}`;
    kit.advance(120_000);
    const again = await key('POST', `${at}/invitation`);
    expect([again.status, again.text]).toEqual([204, '']);
    const { body } = await key('GET', at);
    expect(Date.parse(body.invitation.sent_at) - Date.parse(sent_at)).toBeGreaterThanOrEqual(120_000);
    expect(
      (await kit.rows(`select language from mail_link where account = $1 order by created_at`, body.account))[0],
    ).toEqual({ language: 'tr' });
    await kit.rows('update account set email_verified_at = now() where id = $1', body.account);
    expect((await key('GET', at)).body).toMatchObject({ state: 'active', invitation: null });
    expect(code(await key('POST', `${at}/invitation`))).toBe('409 conflict');
    await kit.rows('update account set is_active = false where id = $1', body.account);
    expect((await key('GET', at)).body).toMatchObject({ state: 'off', invitation: null });
  });
});

test('who may: managers and operators; strangers find nothing, by whatever id they guess', async () => {
  const [here, there] = [await place(), await place()];
  const { body: entry } = await key('POST', here.path, { body: { email: (await kit.signUp()).email } });
  const { body: other } = await key('POST', there.path, { body: { email: (await kit.signUp()).email } });
  const colleague = await kit.signUp();
  await key('POST', here.path, {
    body: { email: colleague.email, grant: [{ shop: here.moda, permission: 'products' }] },
  });
  const callers: Record<string, Send> = {
    operator: (await kit.operator()).send,
    owner: await kit.bearer(here.owner.email),
    colleague: await kit.bearer(colleague.email),
    stranger: await kit.bearer(there.owner.email),
    'key of another scope': await kit.apiKey('accounts'),
    nobody: kit.send,
  };
  const table: Record<string, number[]> = {};
  for (const [name, method, path, body] of [
    ['list', 'GET', here.path],
    ['read', 'GET', `${here.path}/${entry.id}`],
    ['change', 'PATCH', `${here.path}/${entry.id}`, {}],
    ['give', 'POST', here.path, { email: colleague.email }],
    ['resend', 'POST', `${here.path}/${entry.id}/invitation`],
    ['roles', 'GET', '/v1/roles'],
    ['the entry of another company', 'GET', `${here.path}/${other.id}`],
    ['change that', 'PATCH', `${here.path}/${other.id}`, {}],
    ['remove that', 'DELETE', `${here.path}/${other.id}`],
    ['an entry that is not there', 'GET', `${here.path}/999999`],
    ['a company that is not there', 'GET', '/v1/companies/999999/entries'],
    ['no id', 'GET', '/v1/companies/x/entries'],
  ] as const) {
    table[name] = [];
    for (const send of Object.values(callers))
      table[name].push((await send(method, path, body === undefined ? {} : { body })).status);
  }
  expect(table).toEqual({
    list: [200, 200, 403, 404, 403, 401],
    read: [200, 200, 403, 404, 403, 401],
    change: [200, 200, 403, 404, 403, 401],
    give: [200, 200, 403, 404, 403, 401],
    resend: [409, 409, 403, 404, 403, 401],
    roles: [200, 200, 200, 200, 403, 401],
    'the entry of another company': [404, 404, 403, 404, 403, 401],
    'change that': [404, 404, 403, 404, 403, 401],
    'remove that': [404, 404, 403, 404, 403, 401],
    'an entry that is not there': [404, 404, 403, 404, 403, 401],
    'a company that is not there': [404, 404, 404, 404, 403, 401],
    'no id': [404, 404, 404, 404, 403, 401],
  });
});
