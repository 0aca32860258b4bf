/** Who wants rights that nobody gave them: other companies, friends, stale keys, other people's invitations, odd requests. */
import net from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accountForRights } from '../../src/accounts/invitations.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { sql } from '../../src/platform/db.ts';
import { throttleScopes } from '../../src/settings.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { verifyHistory } from '../../src/staff/history/verify.ts';
import { permissionKeys } from '../../src/staff/permissions.ts';
import { authorization, type Bakery, openBakery } from '../bakery.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply, type Send } from '../kit.ts';

let kit: Kit;
/** Ours, with two shops, and one of somebody else. */
let bakery: Bakery;
let rival: Bakery;
let rivalEntry: number;
let key: Send;
/** Their owners' tokens are over. */
let stale = true;
const advance = (milliseconds: number): void => {
  kit.advance(milliseconds);
  stale = true;
};

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  key = await kit.apiKey('companies', 'decisions', 'clients');
});
beforeEach(async () => {
  await kit.rows('delete from throttle');
  if (!stale) return;
  bakery = await openBakery(kit, 2);
  rival = await openBakery(kit, 2);
  rivalEntry = await rival.invite((await kit.signUp()).email);
  stale = false;
});
afterAll(async () => {
  expect(await verifyHistory(kit.ctx)).toMatchObject({ faults: [] });
  await kit.close();
});

/** Everything that rights hang on. */
const everything = (): Promise<unknown[]> =>
  kit.rows(`select (select jsonb_agg(to_jsonb(e) order by id) from entry e) as entries,
                   (select jsonb_agg(to_jsonb(r) order by entry, shop, permission) from entry_right r) as rights,
                   (select count(*) from staff_event) as lines, (select count(*) from staff_evidence) as evidence,
                   (select jsonb_agg(to_jsonb(c) order by id) from company c) as companies,
                   (select jsonb_agg(to_jsonb(s) order by id) from shop s) as shops,
                   (select jsonb_agg(jsonb_build_object('id', id, 'email', email, 'operator', is_operator, 'active', is_active,
                                                        'proven', email_verified_at, 'password', password) order by id)
                      from account) as accounts,
                   (select jsonb_agg(to_jsonb(l) order by id) from mail_link l) as links,
                   (select count(*) from graphile_worker.jobs) as jobs`);

/** Does something, and checks that nothing came of it. */
async function inVain<T>(work: () => Promise<T>): Promise<T> {
  const before = await everything();
  const outcome = await work();
  expect(await everything()).toEqual(before);
  return outcome;
}

const told = ({ status, body }: Reply): [number, string] => [status, body.code];

interface Colleague extends Client {
  readonly entry: number;
  readonly wire: string;
  readonly v1: string;
  readonly access: Send;
}

interface Pair {
  readonly shop: number;
  readonly permission: string;
  readonly until?: string;
}

const entriesOf = ({ id }: Bakery): string => `/v1/companies/${id}/entries`;
const pairs = (shops: readonly number[], ...permissions: string[]): Pair[] =>
  shops.flatMap((shop) => permissions.map((permission) => ({ shop, permission })));

/** Somebody who works in a bakery. */
async function hire(where: Bakery, grant: readonly Pair[] = []): Promise<Colleague> {
  const person = await kit.signUp();
  const made = await key('POST', entriesOf(where), { body: { email: person.email, grant } });
  if (made.status !== 201) throw new Error(made.text);
  const entry = made.body.id as number;
  const access = await kit.bearer(person.email);
  return { ...person, entry, access, wire: where.path(entry), v1: `${entriesOf(where)}/${entry}` };
}

const rightsOf = ({ entry }: { entry: number }): Promise<unknown[]> =>
  kit.rows('select shop, permission, until from entry_right where entry = $1 order by shop, permission', entry);

const form = (text: string) => ({ form: text });
const json = (body: unknown) => ({ body });

describe('shops and companies of others', () => {
  test('no spelling of a shop that is not ours opens it, on the wire or by pairs', async () => {
    const { wire, v1 } = await hire(bakery);
    const [mine] = bakery.shops as [number, number];
    const [theirs] = rival.shops as [number, number];
    const permission = 'products';
    const wrong: unknown[] = [
      theirs,
      `${theirs}`,
      `${mine}`,
      mine + 0.5,
      2 ** 53,
      2 ** 63,
      -mine,
      0,
      999_999,
      `${mine} `,
      true,
      null,
      [mine],
      {},
      '',
      'NaN',
    ];
    await inVain(async () => {
      for (const shop of wrong) {
        const why = JSON.stringify(shop);
        const wireReply = await bakery.manager(
          'PATCH',
          wire,
          json({ shop_ids: [mine, shop], permissions: { products: true } }),
        );
        expect(told(wireReply), why).toEqual([422, 'unprocessable']);
        expect(wireReply.body.errors[0].pointer, why).toMatch(/^\/shop_ids\/1/);
        for (const body of [
          {
            grant: [
              { shop: mine, permission },
              { shop, permission },
            ],
          },
          { revoke: [{ shop, permission }] },
          { roles: [{ role: 'shop', shops: [mine, shop] }] },
        ]) {
          for (const [method, path, more] of [
            ['PATCH', v1, {}],
            ['POST', entriesOf(bakery), { email: 'x@example.com' }],
          ] as const) {
            if (method === 'POST' && 'revoke' in body) continue;
            const reply = await bakery.manager(method, path, json({ ...body, ...more }));
            const known = Number.isSafeInteger(shop) && (shop as number) > 0;
            expect(told(reply), `${method} ${why}`).toEqual(known ? [422, 'unprocessable'] : [400, 'invalid']);
          }
        }
      }
      for (const shop of [
        theirs,
        `${mine}.5`,
        2 ** 53,
        '9223372036854775808',
        -mine,
        `0x${mine.toString(16)}`,
        `+${mine}`,
        `${mine}e0`,
        'true',
      ]) {
        const text = `shop_ids[]=${mine}&shop_ids[]=${encodeURIComponent(shop)}&permissions[products]=1`;
        expect(told(await bakery.manager('PATCH', wire, form(text))), text).toEqual([422, 'unprocessable']);
      }
    });
  });

  test('with the id of another company, or of an entry there, nothing is found and nothing changes', async () => {
    const mine = await hire(bakery, pairs(bakery.shops, 'products'));
    const grant = pairs([bakery.shops[0]!], 'discounts');
    const cross = bakery.path(rivalEntry);
    await inVain(async () => {
      for (const [method, path, body] of [
        ['GET', rival.path(rivalEntry)],
        ['PATCH', rival.path(rivalEntry), { permissions: { products: true } }],
        ['DELETE', rival.path(rivalEntry)],
        ['POST', rival.path(0).replace('/0', ''), { email: 'x@example.com' }],
        ['GET', cross],
        ['PATCH', cross, { permissions: { products: true } }],
        ['DELETE', cross],
        ['PATCH', rival.path(mine.entry), { permissions: { products: false } }],
        ['DELETE', rival.path(mine.entry)],
        ['GET', `${entriesOf(rival)}/${rivalEntry}`],
        ['PATCH', `${entriesOf(bakery)}/${rivalEntry}`, { grant }],
        ['DELETE', `${entriesOf(bakery)}/${rivalEntry}`],
        ['POST', `${entriesOf(bakery)}/${rivalEntry}/invitation`],
        ['PATCH', `${entriesOf(rival)}/${mine.entry}`, { revoke: pairs([rival.shops[0]!], 'products') }],
        ['DELETE', `${entriesOf(rival)}/${mine.entry}`],
        ['POST', entriesOf(rival), { email: 'x@example.com' }],
        ['PATCH', `/v1/companies/${rival.id}`, { owner: bakery.owner.email }],
        ['POST', `/v1/companies/${rival.id}/shops`, { name: { en: 'X' } }],
        ['PATCH', `/v1/companies/${rival.id}/shops/${rival.shops[0]}`, { active: false }],
      ] as const) {
        const reply = await bakery.manager(method, path, body === undefined ? {} : json(body));
        expect(told(reply), `${method} ${path}`).toEqual([404, 'not_found']);
      }
      // An operator's program is held to the path too.
      for (const [method, path, body] of [
        ['PATCH', `${entriesOf(rival)}/${mine.entry}`, { grant: pairs([rival.shops[0]!], 'products') }],
        ['DELETE', `${entriesOf(rival)}/${mine.entry}`],
        ['PATCH', `/v1/companies/${bakery.id}/shops/${rival.shops[0]}`, { active: false }],
      ] as const)
        expect(told(await key(method, path, body === undefined ? {} : json(body))), path).toEqual([404, 'not_found']);
      for (const id of [
        '0',
        '-1',
        '1.5',
        '9007199254740993',
        '18446744073709551617',
        '1e3',
        'null',
        '%00',
        '1%2F..%2F2',
        `0x1`,
        `${bakery.id},${rival.id}`,
      ]) {
        for (const path of [
          `/company/companies/${id}/permissions/users`,
          bakery.path(0).replace('/0', `/${id}`),
          `/v1/companies/${id}/entries`,
          `${entriesOf(bakery)}/${id}`,
        ])
          expect((await bakery.manager('GET', path)).status, path).toBe(404);
      }
    });
  });

  /** What a caller asks about something of others, and about nothing at all. */
  const twins = (): Record<string, [string, string]> => {
    const [shop] = rival.shops;
    const NONE = 999_999;
    return {
      'the company on the wire': [`/company/companies/${rival.id}`, `/company/companies/${NONE}`],
      'its shops on the wire': [`/company/companies/${rival.id}/shops`, `/company/companies/${NONE}/shops`],
      'its entries on the wire': [rival.path(0).replace('/0', ''), `/company/companies/${NONE}/permissions/users`],
      'an entry on the wire': [bakery.path(rivalEntry), bakery.path(NONE)],
      'the company': [`/v1/companies/${rival.id}`, `/v1/companies/${NONE}`],
      'its shops': [`/v1/companies/${rival.id}/shops`, `/v1/companies/${NONE}/shops`],
      'its entries': [entriesOf(rival), `/v1/companies/${NONE}/entries`],
      'an entry': [`${entriesOf(bakery)}/${rivalEntry}`, `${entriesOf(bakery)}/${NONE}`],
      'its history': [`/v1/companies/${rival.id}/history`, `/v1/companies/${NONE}/history`],
      'who could': [
        `/v1/companies/${rival.id}/access?shop=${shop}&permission=products`,
        `/v1/companies/${NONE}/access?shop=${shop}&permission=products`,
      ],
    };
  };

  test.each(
    Object.keys({
      'the company on the wire': 1,
      'its shops on the wire': 1,
      'its entries on the wire': 1,
      'an entry on the wire': 1,
      'the company': 1,
      'its shops': 1,
      'its entries': 1,
      'an entry': 1,
      'its history': 1,
      'who could': 1,
    }),
  )('%s: not there and not yours are one answer, in one time', async (what) => {
    const [theirs, nobodys] = twins()[what]!;
    const shapes = new Set<string>();
    const times: [number[], number[]] = [[], []];
    for (let n = 0; n < 200; n += 1) {
      // In turns, and who begins changes: what slows the machine slows both.
      for (const which of n % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        const begun = performance.now();
        const { status, body, headers } = await bakery.manager('GET', [theirs, nobodys][which]!);
        times[which].push(performance.now() - begun);
        const { request_id, ...rest } = body;
        const { 'x-request-id': _id, date: _date, 'content-length': _length, ...others } = headers;
        shapes.add(JSON.stringify([status, rest, others]));
      }
    }
    expect([...shapes]).toHaveLength(1);
    expect(JSON.parse([...shapes][0]!).slice(0, 2)).toMatchObject([404, { code: 'not_found' }]);
    const [one, other] = times.map((list) => list.toSorted((a, b) => a - b)[100]!) as [number, number];
    expect(Math.max(one, other) / Math.min(one, other)).toBeLessThan(2);
  });

  test('forward-auth and decisions say nothing about shops of others that they do not say about none', async () => {
    const { access, id } = await hire(bakery, pairs(bakery.shops, 'products'));
    const ask = (query: string) => access('GET', `/v1/decisions/forward-auth?permission=products&${query}`);
    const answers = await Promise.all([
      ask(`shop=${rival.shops[0]}&company=${bakery.id}`),
      ask(`shop=999999&company=${bakery.id}`),
    ]);
    expect(answers.map(({ status, headers }) => [status, headers['assent-reason']])).toEqual([
      [403, 'no_shop'],
      [403, 'no_shop'],
    ]);
    expect((await ask(`shop=${rival.shops[0]}`)).status).toBe(403);
    for (const query of [
      `shop=${bakery.shops[0]}&shop=${rival.shops[0]}`,
      `shop=${bakery.shops[0]}&account=${id}`,
      'shop=1.0',
      'shop=-1',
      `shop=${2 ** 53}`,
      `shop[]=${bakery.shops[0]}`,
    ])
      expect(told(await ask(query)), query).toEqual([400, 'invalid']);
  });
});

describe('raising oneself', () => {
  const TOMORROW = 86_400_000;
  const at = (milliseconds: number): string => new Date(kit.ctx.clock.now().getTime() + milliseconds).toISOString();

  test('a friend who was given all one has can give no more back, nor can the friend of a friend', async () => {
    const [first, second] = bakery.shops as [number, number];
    const held = pairs([first], 'products', 'permissions');
    const [ada, friend, third] = [await hire(bakery, held), await hire(bakery), await hire(bakery)];
    expect((await ada.access('PATCH', friend.v1, json({ grant: held }))).status).toBe(200);
    expect((await friend.access('PATCH', third.v1, json({ grant: held }))).status).toBe(200);
    await kit.set('STAFF_ROLES', { boss: ['products', 'discounts', 'permissions'] });
    for (const [who, refusals] of [
      [ada, 'own_entry'],
      [friend, /^missing_permission(_in_shop)?$/],
      [third, /^missing_permission(_in_shop)?$/],
    ] as const) {
      await inVain(async () => {
        const { headers, body } = await who.access('GET', ada.v1);
        for (const [path, wish, more] of [
          [ada.v1, { grant: pairs([first], 'discounts') }, {}],
          [ada.v1, { grant: pairs([second], 'products') }, {}],
          [ada.v1, { grant: pairs([second], 'permissions') }, {}],
          [ada.v1, { roles: [{ role: 'boss', shops: [first] }] }, {}],
          [ada.v1, { roles: [{ role: 'boss', shops: [second] }], grant: held }, {}],
          [ada.v1, { grant: pairs([first], 'discounts'), seen: body.version }, {}],
          [ada.v1, { grant: pairs([first], 'discounts') }, { 'if-match': '*' }],
          [ada.v1, { grant: pairs([first], 'discounts') }, { 'if-match': String(headers['etag']) }],
          [ada.v1, { grant: pairs([first], 'discounts') }, { 'assent-dry-run': '1' }],
          [ada.wire, { permissions: { discounts: true } }, {}],
          [ada.wire, { shop_ids: [first, second] }, {}],
          [ada.wire, { shop_ids: [], permissions: { discounts: true } }, {}],
          [ada.wire, { permissions: { discounts: true } }, { 'if-match': '*' }],
        ] as const) {
          const reply = await who.access('PATCH', path, { body: wish, headers: more });
          expect([reply.status, reply.body.code], `${who.email} ${JSON.stringify(wish)}`).toEqual([
            403,
            expect.stringMatching(refusals),
          ]);
        }
        // By giving again what is there.
        const again = await who.access(
          'POST',
          entriesOf(bakery),
          json({ email: ada.email, grant: pairs([second], 'products') }),
        );
        expect([again.status, again.body.code]).toEqual([403, expect.stringMatching(refusals)]);
      });
    }
    expect(await rightsOf(ada)).toEqual([
      { shop: first, permission: 'permissions', until: null },
      { shop: first, permission: 'products', until: null },
    ]);
  });

  test('a second address of one’s own is a friend like others', async () => {
    const [first, second] = bakery.shops as [number, number];
    const ada = await hire(bakery, pairs([first], 'products', 'permissions'));
    const other = await kit.signUp();
    const invited = await ada.access('POST', bakery.path(0).replace('/0', ''), json({ email: other.email }));
    expect([invited.status, invited.body.shop_ids]).toEqual([200, []]);
    const path = `${entriesOf(bakery)}/${invited.body.id}`;
    expect((await ada.access('PATCH', path, json({ grant: pairs([first], 'products', 'permissions') }))).status).toBe(
      200,
    );
    const there = await kit.bearer(other.email);
    await inVain(async () => {
      expect(told(await there('PATCH', ada.v1, json({ grant: pairs([second], 'products') })))).toEqual([
        403,
        'missing_permission_in_shop',
      ]);
      expect(told(await there('PATCH', path, json({ grant: pairs([first], 'discounts') })))).toEqual([
        403,
        'own_entry',
      ]);
      expect(told(await ada.access('PATCH', path, json({ grant: pairs([first], 'discounts') })))).toEqual([
        403,
        'missing_permission_in_shop',
      ]);
      expect(
        told(
          await ada.access(
            'POST',
            entriesOf(bakery),
            json({ email: 'third@example.com', grant: pairs([second], 'products') }),
          ),
        ),
      ).toEqual([403, 'missing_permission_in_shop']);
    });
  });

  test('an end is not put off through a friend', async () => {
    const [first] = bakery.shops as [number, number];
    const end = at(TOMORROW);
    const grant: Pair[] = [
      { shop: first, permission: 'products', until: end },
      { shop: first, permission: 'permissions' },
    ];
    const [ada, friend] = [await hire(bakery, grant), await hire(bakery, grant)];
    const forever = { grant: pairs([first], 'products') };
    const later = { grant: [{ shop: first, permission: 'products', until: at(2 * TOMORROW) }] };
    await inVain(async () => {
      for (const wish of [forever, later]) {
        expect(told(await ada.access('PATCH', ada.v1, json(wish)))).toEqual([403, 'own_entry']);
        expect(told(await ada.access('PATCH', friend.v1, json(wish)))).toEqual([403, 'beyond_own_end']);
        expect(told(await friend.access('PATCH', ada.v1, json(wish)))).toEqual([403, 'beyond_own_end']);
        const gift = json({ email: 'fourth@example.com', ...wish });
        expect(told(await ada.access('POST', entriesOf(bakery), gift))).toEqual([403, 'beyond_own_end']);
      }
    });
    // Taken and given anew, which the wire can say without an end only.
    expect((await friend.access('PATCH', ada.wire, json({ permissions: { products: false } }))).status).toBe(200);
    await inVain(async () => {
      expect(told(await friend.access('PATCH', ada.wire, json({ permissions: { products: true } })))).toEqual([
        403,
        'beyond_own_end',
      ]);
      expect(told(await friend.access('PATCH', ada.v1, json(forever)))).toEqual([403, 'beyond_own_end']);
    });
    expect(
      (await friend.access('PATCH', ada.v1, json({ grant: [{ shop: first, permission: 'products', until: end }] })))
        .status,
    ).toBe(200);
    advance(TOMORROW);
    await inVain(async () => {
      const late = json({ grant: pairs([first], 'products') });
      expect(told(await friend.access('PATCH', ada.v1, late))).toEqual([401, 'invalid_token']);
      const fresh = await kit.bearer(friend.email);
      expect(told(await fresh('PATCH', ada.v1, late))).toEqual([403, 'missing_permission_in_shop']);
    });
    const decision = await key(
      'POST',
      '/v1/decisions/staff',
      json({ account: ada.id, shop: first, permission: 'products' }),
    );
    expect(decision.body).toMatchObject({ allowed: false, code: 'ended' });
  });
});

// ---- Invitations ----

/** The token of the last link that was mailed to an address. */
async function linkTo(email: string): Promise<string> {
  await kit.jobs();
  const mail = (await kit.outbox('mail')).filter(({ recipient }) => recipient === email).at(-1);
  return /\/links\/([0-9a-f]{64})/.exec(mail?.body ?? '')?.[1] ?? expect.fail(`no link for ${email}`);
}
const accept = (token: string, password = PASSWORD): Promise<Reply> =>
  kit.send('POST', `/links/${token}`, form(`new_password1=${password}&new_password2=${password}`));
const logIn = (email: string, password = PASSWORD): Promise<Reply> =>
  kit.send('POST', '/users/login/', json({ email, password }));
const grantOf = (email: string, password = PASSWORD): Promise<Reply> =>
  kit.send('POST', '/api/token', json({ grant_type: 'password', client_id: 'kit', username: email, password }));
let addresses = 0;
const newAddress = (): string => {
  addresses += 1;
  return `invited${addresses}@example.com`;
};
const family = (): string => bakery.path(0).replace('/0', '');

describe('invitations of others', () => {
  test('an invited address cannot be registered, signed in to or reset by somebody else', async () => {
    const email = newAddress();
    const entry = await bakery.invite(email);
    await bakery.grant(entry, bakery.shops, ['products', 'permissions']);
    const link = await linkTo(email);
    const person = { first_name: 'A', last_name: 'B', firstname: 'A', lastname: 'B' };
    await inVain(async () => {
      for (const spelling of [
        email,
        email.toUpperCase(),
        ` ${email} `,
        email.replace('i', 'İ'),
        email.replace('@', '＠'),
      ]) {
        const akinon = await kit.send(
          'POST',
          '/users/registration/',
          json({ email: spelling, password: PASSWORD, ...person }),
        );
        expect([akinon.status, Object.keys(akinon.body)], spelling).toEqual([400, ['email']]);
        const baker = await kit.send(
          'POST',
          '/api/register',
          json({ client_id: 'kit', username: spelling, password: PASSWORD, ...person }),
        );
        expect([...told(baker), baker.body.errors?.[0]?.pointer], spelling).toEqual([
          422,
          'unprocessable',
          '/username',
        ]);
      }
      expect((await logIn(email)).status).toBe(400);
      for (const password of ['', 'null', PASSWORD]) expect((await grantOf(email, password)).status).not.toBe(200);
    });
    // Whoever asks for a reset has it mailed to the person whose address it is.
    const asked = await kit.send('POST', '/api/forgot-password', json({ client_id: 'kit', username: email }));
    expect(asked.status).toBe(200);
    await kit.jobs();
    const mails = (await kit.outbox('mail')).slice(-1);
    expect(mails.map(({ recipient }) => recipient)).toEqual([email]);
    // That link proves the address as well; the invitation is then used up.
    expect((await accept(await linkTo(email), 'a-password-of-mine')).status).toBe(200);
    await inVain(async () => expect((await accept(link)).status).toBe(410));
    expect((await grantOf(email, 'a-password-of-mine')).status).toBe(200);
    expect((await grantOf(email)).status).toBe(400);
  });

  test('whoever registered the address before loses every key, and gets none of the rights', async () => {
    const email = newAddress();
    const thief = await kit.signUp({ email, unproven: true });
    const tokens = (await grantOf(email)).body;
    const entry = await bakery.invite(email);
    await bakery.grant(entry, bakery.shops, ['products', 'permissions']);
    const bearer = { authorization: `Bearer ${tokens.access_token}` };
    const cookie = { cookie: `sessionid=${thief.cookies.get('sessionid')}` };
    const token = { authorization: `Token ${thief.key}` };
    const forward = `/v1/decisions/forward-auth?permission=products&shop=${bakery.shops[0]}`;
    await inVain(async () => {
      for (const [path, headers] of [
        [family(), bearer],
        [entriesOf(bakery), bearer],
        [forward, bearer],
        [forward, cookie],
        ['/current_user/', cookie],
        ['/current_user/', token],
      ] as const)
        expect((await kit.send('GET', path, { headers })).status, path).toBe(401);
      const again = await kit.send(
        'POST',
        '/api/token',
        json({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token }),
      );
      expect(told(again)).toEqual([400, 'invalid_grant']);
      expect((await logIn(email)).status).toBe(400);
      expect(told(await grantOf(email))).toEqual([400, 'invalid_grant']);
    });
    expect((await accept(await linkTo(email), 'the-real-one-accepts')).status).toBe(200);
    expect((await logIn(email)).status).toBe(400);
    const real = await kit.bearer(email, 'the-real-one-accepts');
    expect((await real('GET', forward)).status).toBe(204);
  });

  test('a registration that the invitation overtakes signs nobody in', async () => {
    const email = newAddress();
    let registered: Promise<Reply> | undefined;
    await kit.database.transaction(async (db) => {
      // Nobody can sign in while this is held; the account can be made.
      await db.run(sql`lock table session in share mode`);
      const body = { email, password: PASSWORD, first_name: 'A', last_name: 'B' };
      registered = kit.send('POST', '/users/registration/', json(body));
      while ((await kit.rows('select from account where email = $1', email)).length === 0);
      await accountForRights({ ...kit.ctx, db }, email, 'en', bakery.id);
    });
    const { status, headers } = await registered!;
    expect([status, headers['set-cookie']]).toEqual([400, undefined]);
    const left = await kit.rows(
      'select s.kind from session s join account a on a.id = s.account where a.email = $1',
      email,
    );
    expect(left).toEqual([]);
    expect((await accept(await linkTo(email), 'the-real-one-accepts')).status).toBe(200);
  });

  test('a key of an account whose address is not proven opens no right, however it came about', async () => {
    const { access, wire, v1, id, cookies } = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const forward = `/v1/decisions/forward-auth?permission=products&shop=${bakery.shops[0]}`;
    expect([(await access('GET', wire)).status, (await access('GET', forward)).status]).toEqual([200, 204]);
    await kit.rows('update account set email_verified_at = null where id = $1', id);
    await inVain(async () => {
      for (const [method, path, body] of [
        ['GET', family()],
        ['GET', wire],
        ['GET', v1],
        ['GET', entriesOf(bakery)],
        ['GET', `/v1/companies/${bakery.id}/history`],
        ['POST', family(), { email: 'x@example.com' }],
        ['PATCH', wire, { permissions: { products: false } }],
        ['DELETE', wire],
        ['PATCH', v1, { revoke: pairs(bakery.shops, 'products') }],
      ] as const)
        expect(told(await access(method, path, body === undefined ? {} : json(body))), path).toEqual([
          403,
          'missing_permission',
        ]);
      expect((await access('GET', '/v1/companies')).body.items).toEqual([]);
      for (const headers of [{}, { cookie: `sessionid=${cookies.get('sessionid')}` }]) {
        const send = 'cookie' in headers ? kit.send : access;
        const reply = await send('GET', forward, { headers });
        expect([reply.status, reply.headers['assent-reason']]).toEqual([403, 'invited']);
      }
    });
  });

  test('the link of a colleague who was removed, of a resent and of an expired invitation opens nothing', async () => {
    const email = newAddress();
    const entry = await bakery.invite(email);
    const removed = await linkTo(email);
    expect((await bakery.manager('DELETE', bakery.path(entry))).status).toBe(200);
    const dead = async (token: string): Promise<void> => {
      expect([(await kit.send('GET', `/links/${token}`)).status, (await accept(token)).status]).toEqual([410, 410]);
      expect((await kit.send('POST', '/api/reset-password', json({ token, password: PASSWORD }))).status).toBe(422);
      const confirm = { uid: 'x', token, new_password1: PASSWORD, new_password2: PASSWORD };
      expect((await kit.send('POST', '/users/password/reset/confirm/', json(confirm))).status).toBe(400);
      const change = await kit.send('POST', '/users/email-change/confirm/', json({ token }));
      expect(change.status).toBe(400);
    };
    await inVain(() => dead(removed));
    advance(61_000);
    const again = await bakery.invite(email);
    const second = await linkTo(email);
    expect(second).not.toBe(removed);
    await inVain(() => dead(removed));
    advance(61_000);
    expect((await key('POST', `${entriesOf(bakery)}/${again}/invitation`)).status).toBe(204);
    const third = await linkTo(email);
    await inVain(() => dead(second));
    advance(kit.ctx.settings.get('INVITATION_AGE') * 1000);
    await inVain(() => dead(third));
    expect((await logIn(email)).status).toBe(400);
  });

  test('an invitation is good for one of those who use it at once', async () => {
    const email = newAddress();
    await bakery.invite(email);
    const token = await linkTo(email);
    const passwords = Array.from({ length: 6 }, (_, n) => `password-number-${n}`);
    const replies = await Promise.all(passwords.map((password) => accept(token, password)));
    const taken = replies.map(({ status }) => status);
    expect(taken.filter((status) => status === 200)).toHaveLength(1);
    expect(taken.filter((status) => status !== 200 && status !== 400 && status !== 410)).toEqual([]);
    const works = await Promise.all(passwords.map((password) => grantOf(email, password)));
    expect(works.map(({ status }) => status === 200)).toEqual(taken.map((status) => status === 200));
  });
});

// ---- Keys that outlive their reason ----

describe('stale keys', () => {
  const forward = (): string => `/v1/decisions/forward-auth?permission=products&shop=${bakery.shops[0]}`;
  /** What a key opens: the wire, pairs, a change, the proxy. */
  async function opens(headers: Record<string, string>, { wire }: Colleague): Promise<(string | number)[]> {
    const replies = [
      await kit.send('GET', family(), { headers }),
      await kit.send('GET', entriesOf(bakery), { headers }),
      await kit.send('PATCH', wire, { headers, body: { permissions: { products: true } } }),
      await kit.send('GET', forward(), { headers }),
    ];
    return replies.map(({ status }) => status);
  }
  const ready = async (): Promise<{ person: Colleague; headers: Record<string, string>; refresh: string }> => {
    const person = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const { body } = await grantOf(person.email);
    const headers = { authorization: `Bearer ${body.access_token}` };
    expect(await opens(headers, person)).toEqual([200, 200, 200, 204]);
    return { person, headers, refresh: body.refresh_token };
  };
  const renew = (refresh_token: string): Promise<Reply> =>
    kit.send('POST', '/api/token', json({ grant_type: 'refresh_token', refresh_token }));
  const decided = async ({ id }: Colleague): Promise<string> =>
    (await key('POST', '/v1/decisions/staff', json({ account: id, shop: bakery.shops[0], permission: 'products' })))
      .body.code;

  test('of a colleague who was removed open nothing, renewed or not, on any process', async () => {
    const { person, headers, refresh } = await ready();
    const twin = await kit.twin();
    expect((await bakery.manager('DELETE', person.wire)).status).toBe(200);
    expect((await twin.send('GET', forward(), { headers })).status).toBe(403);
    await inVain(async () => {
      expect(await opens(headers, person)).toEqual([404, 404, 404, 403]);
      const { body } = await renew(refresh);
      expect(await opens({ authorization: `Bearer ${body.access_token}` }, person)).toEqual([404, 404, 404, 403]);
    });
    expect(await decided(person)).toBe('no_entry');
  });

  test('of an account that was switched off open nothing and are not renewed', async () => {
    const { person, headers, refresh } = await ready();
    await kit.rows('update account set is_active = false where id = $1', person.id);
    await inVain(async () => {
      expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
      expect(told(await renew(refresh))).toEqual([400, 'invalid_grant']);
      const cookie = `sessionid=${person.cookies.get('sessionid')}`;
      expect((await kit.send('GET', forward(), { headers: { cookie } })).status).toBe(401);
    });
    expect(await decided(person)).toBe('account_off');
  });

  test('from before a change of password open nothing and are not renewed', async () => {
    const { person, headers, refresh } = await ready();
    const body = { old_password: PASSWORD, new_password1: 'a-much-better-one', new_password2: 'a-much-better-one' };
    expect((await person.send('POST', '/users/password/change/', { body })).status).toBe(200);
    await inVain(async () => {
      expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
      expect(told(await renew(refresh))).toEqual([400, 'invalid_grant']);
    });
  });

  test('of others are ended by nobody, by whatever way', async () => {
    const { person, headers } = await ready();
    const [{ family: id }] = (await kit.rows<{ family: string }>(
      `select family from session where account = $1 and kind = 'access' order by created_at desc limit 1`,
      person.id,
    )) as [{ family: string }];
    const thief = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const sessions = (): Promise<unknown[]> =>
      kit.rows('select kind from session where account = $1 order by 1', person.id);
    const before = await sessions();
    const page = await thief.send('GET', '/account');
    const csrfmiddlewaretoken = /name="csrfmiddlewaretoken" value="(\w+)"/.exec(page.text)![1]!;
    await thief.send(
      'POST',
      '/account/sessions/end',
      form(String(new URLSearchParams({ csrfmiddlewaretoken, session: id }))),
    );
    await thief.send(
      'POST',
      '/account/sessions/end-others',
      form(String(new URLSearchParams({ csrfmiddlewaretoken }))),
    );
    // Their own were ended by that.
    const access = await kit.bearer(thief.email);
    expect(told(await access('DELETE', `/api/sessions/${id}`))).toEqual([404, 'not_found']);
    expect((await access('DELETE', '/api/sessions')).status).toBe(200);
    expect(await sessions()).toEqual(before);
    expect(await opens(headers, person)).toEqual([200, 200, 200, 204]);
  });

  test('that were revoked open nothing and are not renewed, whichever of the two was handed in', async () => {
    for (const which of ['access', 'refresh']) {
      const { person, headers, refresh } = await ready();
      const token = which === 'access' ? headers['authorization']!.slice(7) : refresh;
      expect((await kit.send('POST', '/oauth/revoke', json({ token }))).status).toBe(200);
      await inVain(async () => {
        expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
        expect(told(await renew(refresh))).toEqual([400, 'invalid_grant']);
      });
    }
  });

  test('of a client that was disabled open nothing and are not renewed, also when it is enabled again', async () => {
    await createClient(kit.ctx, { id: 'shady', name: 'Shady', password_grant: true });
    const person = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const { body } = await kit.send(
      'POST',
      '/api/token',
      json({ grant_type: 'password', client_id: 'shady', username: person.email, password: PASSWORD }),
    );
    const headers = { authorization: `Bearer ${body.access_token}` };
    expect(await opens(headers, person)).toEqual([200, 200, 200, 204]);
    for (const disabled of [true, false]) {
      expect((await key('PATCH', '/v1/clients/shady', json({ disabled }))).status).toBe(200);
      await inVain(async () => {
        expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
        expect((await renew(body.refresh_token)).status).not.toBe(200);
      });
    }
  });

  test('an owner who was replaced is a colleague like others from the answer on', async () => {
    const own = await openBakery(kit, 1);
    const next = await kit.signUp();
    expect((await key('PATCH', `/v1/companies/${own.id}`, json({ owner: next.email }))).status).toBe(200);
    const [{ id }] = (await kit.rows<{ id: number }>(
      'select id from entry where company = $1 and account = $2',
      own.id,
      next.id,
    )) as [{ id: number }];
    await inVain(async () =>
      expect(told(await own.manager('PATCH', own.path(id), json({ permissions: { products: false } })))).toEqual([
        403,
        'owner_entry',
      ]),
    );
    expect((await key('DELETE', `${entriesOf(own)}/${own.ownerEntry}`)).status).toBe(204);
    expect(told(await own.manager('GET', own.path(id)))).toEqual([404, 'not_found']);
  });
});

// ---- Addresses ----

describe('addresses', () => {
  const askChange = (client: Client, email: string): Promise<Reply> =>
    client.send('POST', '/users/email-change/', json({ email, password: PASSWORD }));

  test('a manager can change no address, of the owner or of a colleague', async () => {
    const [ada, bora] = [await hire(bakery, pairs(bakery.shops, 'products', 'permissions')), await hire(bakery)];
    await inVain(async () => {
      for (const target of [bora.entry, bakery.ownerEntry]) {
        for (const body of [
          { email: ada.email },
          { user: { email: ada.email } },
          { user: { id: ada.id } },
          { account: ada.id },
        ]) {
          expect(told(await ada.access('PATCH', bakery.path(target), json(body)))).toEqual([422, 'unprocessable']);
          expect(told(await ada.access('PATCH', `${entriesOf(bakery)}/${target}`, json(body)))).toEqual([
            400,
            'invalid',
          ]);
        }
      }
      // Nor resend, to somebody whose address is proven, what would set a password.
      for (const target of [bora.entry, bakery.ownerEntry])
        expect(told(await ada.access('POST', `${entriesOf(bakery)}/${target}/invitation`))).toEqual([409, 'conflict']);
    });
    expect((await ada.access('PATCH', '/user', json({ email: bora.email }))).status).toBe(405);
  });

  test('whoever takes the address of somebody invited gets nothing of theirs, asked before or after', async () => {
    const boss = newAddress();
    const helper = newAddress();
    const early = newAddress();
    const thief = await hire(bakery);
    expect((await askChange(thief, early)).status).toBe(200);
    const link = await linkTo(early);
    await createCompany(kit.ctx, { name: { en: 'New' }, owner: boss, shops: [{ en: 'One' }], language: 'en' });
    const entry = await bakery.invite(helper);
    await bakery.grant(entry, bakery.shops, ['products', 'permissions']);
    const earlyEntry = await bakery.invite(early);
    await bakery.grant(earlyEntry, bakery.shops, ['products', 'permissions']);
    await kit.jobs();
    const owners = () =>
      kit.rows(
        `select c.id, c.owner, e.id as entry, e.account, a.email from company c join entry e on e.company = c.id join account a on a.id = e.account order by 1, 3`,
      );
    const before = await owners();
    const mails = (await kit.outbox('mail')).length;
    for (const address of [boss, helper, boss.toUpperCase()]) {
      advance(61_000);
      expect((await askChange(thief, address)).status).toBe(200);
    }
    await kit.jobs();
    expect((await kit.outbox('mail')).slice(mails).map(({ recipient }) => recipient)).toEqual([]);
    // The link from before somebody invited that address.
    expect((await kit.send('POST', '/users/email-change/confirm/', json({ token: link }))).status).toBe(400);
    expect(await owners()).toEqual(before);
    expect((await thief.access('GET', family())).status).toBe(403);
  });

  test('an entry follows its account, and not the address', async () => {
    const shop = bakery.shops[0]!;
    const mover = await hire(bakery, pairs([shop], 'products'));
    const next = newAddress();
    expect((await askChange(mover, next)).status).toBe(200);
    expect((await kit.send('POST', '/users/email-change/confirm/', json({ token: await linkTo(next) }))).status).toBe(
      200,
    );
    const heir = await kit.signUp({ email: mover.email });
    expect(heir.id).not.toBe(mover.id);
    const forward = `/v1/decisions/forward-auth?permission=products&shop=${shop}`;
    expect((await (await kit.bearer(next))('GET', forward)).headers['assent-account']).toBe(String(mover.id));
    const refused = await (await kit.bearer(heir.email))('GET', forward);
    expect([refused.status, refused.headers['assent-reason'], refused.headers['assent-account']]).toEqual([
      403,
      'no_entry',
      undefined,
    ]);
    const asked = { company: bakery.id, shop, permission: 'products' };
    const answers = await Promise.all(
      [mover.email, next].map((email) => key('POST', '/v1/decisions/staff', json({ email, ...asked }))),
    );
    expect(answers.map(({ body }) => [body.allowed, body.entry])).toEqual([
      [false, null],
      [true, mover.entry],
    ]);
  });
});

// ---- Odd requests ----

describe('odd requests', () => {
  const strays = {
    owner: true,
    is_operator: true,
    is_owner: true,
    account: 1,
    company: 1,
    version: 99,
    id: 1,
    event: '019aa5c1-6f00-7000-8000-0123456789ab',
    acts: true,
    proven: true,
    email_verified_at: '2026-01-01T00:00:00Z',
    rights: [],
    scopes: ['*'],
    user: { id: 1 },
    all: true,
  };

  test('no body takes what it does not know', async () => {
    const { wire, v1 } = await hire(bakery);
    const shop = bakery.shops[0]!;
    await inVain(async () => {
      for (const [name, value] of Object.entries(strays)) {
        const stray = { [name]: value };
        const grant = [{ shop, permission: 'products' }];
        for (const [method, path, body, expected] of [
          ['PATCH', wire, { permissions: { products: true }, ...stray }, [422, 'unprocessable']],
          ['PATCH', wire, { permissions: { products: true, ...stray } }, [422, 'unprocessable']],
          ['PATCH', v1, { grant, ...stray }, [400, 'invalid']],
          ['PATCH', v1, { grant: [{ ...grant[0], ...stray }] }, [400, 'invalid']],
          ['PATCH', v1, { roles: [{ role: 'shop', shops: [shop], ...stray }] }, [400, 'invalid']],
          ['DELETE', v1, stray, [400, 'invalid']],
          ['POST', entriesOf(bakery), { email: 'x@example.com', grant, ...stray }, [400, 'invalid']],
        ] as const)
          expect(told(await bakery.manager(method, path, json(body))), `${method} ${name}`).toEqual(expected);
        for (const [method, path, body] of [
          [
            'POST',
            '/v1/companies',
            { name: { en: 'X' }, owner: 'x@example.com', ...(name === 'owner' ? { owner: true } : stray) },
          ],
          ['PATCH', `/v1/companies/${bakery.id}`, stray],
          ['POST', `/v1/companies/${bakery.id}/shops`, { name: { en: 'X' }, ...stray }],
          ['PATCH', `/v1/companies/${bakery.id}/shops/${shop}`, stray],
        ] as const)
          expect(told(await key(method, path, json(body))), `${method} ${path} ${name}`).toEqual([400, 'invalid']);
      }
    });
    const made = await bakery.manager(
      'POST',
      family(),
      json({ email: newAddress(), ...strays, permissions: { products: true }, shop_ids: [shop] }),
    );
    expect(made.body).toMatchObject({ shop_ids: [], permissions: { products: false, permissions: false } });
  });

  test('nobody makes an operator of themselves, or a proven address, by what they send', async () => {
    const ada = await kit.signUp({ ...strays, user: undefined, is_staff: true, is_superuser: true, unproven: true });
    const more = { client_id: 'kit', username: newAddress(), password: PASSWORD, firstname: 'A', lastname: 'B' };
    const baker = await kit.send('POST', '/api/register', json({ ...strays, ...more }));
    expect(baker.status).toBe(200);
    for (const path of ['/users/profile/', '/users/profile-with-loyalty/']) {
      expect((await ada.send('PATCH', path, json(strays))).status).toBe(200);
      await ada.send('PATCH', path, json({ attributes: strays }));
    }
    const rows = await kit.rows('select is_operator, email_verified_at from account where email = any ($1)', [
      ada.email,
      more.username,
    ]);
    expect(rows).toEqual(Array(2).fill({ is_operator: false, email_verified_at: null }));
    expect((await ada.send('GET', '/v1/companies')).status).toBe(403);
  });

  test('keys that objects are born with are refused or plain, and change no object', async () => {
    const { wire, v1 } = await hire(bakery);
    const shop = bakery.shops[0]!;
    await inVain(async () => {
      for (const name of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
        for (const text of [
          `{"shop_ids":[${shop}],"permissions":{"${name}":true}}`,
          `{"shop_ids":[${shop}],"permissions":{"${name}":{"products":true}}}`,
          `{"${name}":{"permissions":{"products":true},"shop_ids":[${shop}]}}`,
        ])
          expect(told(await bakery.manager('PATCH', wire, json(text))), text).toEqual([422, 'unprocessable']);
        // The reader of forms drops this one; nothing comes of it.
        const text = `permissions[${name}]=1`;
        expect((await bakery.manager('PATCH', wire, form(text))).status, text).toBe(name === '__proto__' ? 200 : 422);
        const role = `{"roles":[{"role":"${name}","shops":[${shop}]}]}`;
        expect(told(await bakery.manager('PATCH', v1, json(role))), role).toEqual([422, 'unprocessable']);
        const pair = `{"grant":[{"shop":${shop},"permission":"${name}"}]}`;
        expect(told(await bakery.manager('PATCH', v1, json(pair))), pair).toEqual([422, 'unprocessable']);
        const stray = `{"grant":[],"${name}":{"reason":"x"}}`;
        expect(told(await bakery.manager('PATCH', v1, json(stray))), stray).toEqual([400, 'invalid']);
      }
    });
    expect(({} as Record<string, unknown>)['products']).toBeUndefined();
  });

  test('a preview is no way around a rule, and what is nearly one changes nothing', async () => {
    const { wire, v1 } = await hire(bakery);
    const shop = bakery.shops[0]!;
    await inVain(async () => {
      for (const value of ['0', 'true', 'yes', '1, 1', '1,0', '', '٢', '1.0', '-1']) {
        const headers = { 'assent-dry-run': value };
        for (const [method, path, body] of [
          ['PATCH', wire, { shop_ids: [shop], permissions: { products: true } }],
          ['DELETE', wire],
          ['POST', family(), { email: 'x@example.com' }],
          ['PATCH', v1, { grant: pairs([shop], 'products') }],
          ['DELETE', v1],
          ['POST', entriesOf(bakery), { email: 'x@example.com' }],
        ] as const)
          expect((await bakery.manager(method, path, { headers, body })).status, `${method} ${value}`).toBe(400);
      }
    });
    // A preview sees no more than its caller may.
    const colleague = await hire(bakery, pairs([shop], 'products'));
    const headers = { 'assent-dry-run': '1' };
    await inVain(async () => {
      for (const [method, path] of [
        ['PATCH', wire],
        ['DELETE', wire],
        ['PATCH', v1],
        ['DELETE', v1],
      ] as const) {
        expect(told(await colleague.access(method, path, { headers, body: {} }))).toEqual([403, 'missing_permission']);
        expect(told(await rival.manager(method, path, { headers, body: {} }))).toEqual([404, 'not_found']);
      }
      // It does not tell who has an account either: a manager hears whether a mail would go out, others nothing.
      const reply = await colleague.access('POST', entriesOf(bakery), { headers, body: { email: rival.owner.email } });
      expect(told(reply)).toEqual([403, 'missing_permission']);
    });
  });

  test('a method is what the request line says', async () => {
    const { wire, v1 } = await hire(bakery);
    await inVain(async () => {
      for (const name of ['x-http-method-override', 'x-http-method', 'x-method-override']) {
        for (const path of [wire, v1]) {
          expect((await bakery.manager('GET', path, { headers: { [name]: 'DELETE' } })).status).toBe(200);
          expect((await bakery.manager('POST', path, { headers: { [name]: 'DELETE' }, body: {} })).status).toBe(405);
        }
      }
      expect((await bakery.manager('POST', wire, form('_method=DELETE'))).status).toBe(405);
      expect((await bakery.manager('GET', `${wire}?_method=DELETE`)).status).toBe(200);
    });
  });

  test('where a change came from is where it came from', async () => {
    const { wire, entry } = await hire(bakery);
    const forged = {
      'x-forwarded-for': '203.0.113.9',
      'x-real-ip': '203.0.113.9',
      forwarded: 'for=203.0.113.9',
      'x-forwarded-host': 'evil.example',
    };
    const reply = await bakery.manager('PATCH', wire, { body: { permissions: { products: true } }, headers: forged });
    expect(reply.status).toBe(200);
    const { body } = await key('GET', `/v1/companies/${bakery.id}/history?entry=${entry}`);
    expect(body.items[0].origin.ip).toBe('127.0.0.1');
  });

  test('what a client says in our own headers comes back from us only', async () => {
    const ada = await hire(bakery, pairs([bakery.shops[0]!], 'products'));
    const forged = {
      'assent-account': '1',
      'assent-entry': '1',
      'assent-event': 'x',
      'assent-until': 'x',
      'assent-reason': 'owner',
      'x-assent-account': '1',
    };
    const ask = (shop: number) =>
      ada.access('GET', `/v1/decisions/forward-auth?permission=products&shop=${shop}`, { headers: forged });
    const ours = ({ headers }: Reply) =>
      Object.fromEntries(Object.entries(headers).filter(([name]) => name.includes('assent')));
    expect(ours(await ask(bakery.shops[0]!))).toEqual({
      'assent-account': String(ada.id),
      'assent-entry': String(ada.entry),
      'assent-event': expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(ours(await ask(bakery.shops[1]!))).toEqual({ 'assent-reason': 'other_shop' });
    expect(
      ours(await kit.send('GET', `/v1/decisions/forward-auth?permission=products&shop=1`, { headers: forged })),
    ).toEqual({});
  });

  test('a reason is a text in the history, whatever is in it', async () => {
    const { wire, entry } = await hire(bakery);
    const bytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
    const change = (reason: string, products: boolean) =>
      bakery.manager('PATCH', wire, {
        body: { permissions: { products } },
        headers: { 'assent-change-reason': reason },
      });
    const last = async () =>
      (await key('GET', `/v1/companies/${bakery.id}/history?entry=${entry}`)).body.items[0].reason;
    for (const [index, text] of [
      '<script>alert(1)</script>',
      `"},"actor":"operator:1"`,
      '%{jndi:ldap://x}',
      "'; drop table entry; --",
      'Kışlık ürünler',
    ].entries()) {
      const reply = await change(bytes(text), index % 2 === 0);
      expect([reply.status, await last()], text).toEqual([200, text]);
      expect(JSON.stringify(reply.headers)).not.toContain(text);
    }
    await inVain(async () => {
      for (const text of [
        'x'.repeat(501),
        '\xff\xfe',
        bytes('\u0085next line'),
        'a\r\nassent-x: 1',
        'a\nb',
        'a\u0000b',
        'a\u001b[2Jb',
        'a\u007fb',

        bytes('a\u2028b'),
      ])
        expect((await change(text, true)).status, JSON.stringify(text)).toBe(400);
    });
    expect(kit.logged.filter((line) => line.includes('jndi') || line.includes('Kışlık'))).toEqual([]);
  });

  test('a line break within a header is refused before anybody is asked', async () => {
    const { wire } = await hire(bakery);
    const { authorization: bearer } = await authorization(kit, bakery.owner.email, PASSWORD);
    const address = new URL(await kit.http.listen({ port: 0, host: '127.0.0.1' }));
    const say = (reason: string): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = net.connect(Number(address.port), address.hostname);
        let answer = '';
        socket.on('data', (data) => {
          answer += data.toString();
        });
        socket.on('end', () => resolve(answer.split('\r\n', 1)[0]!));
        socket.on('error', reject);
        const body = '{"permissions":{"products":true}}';
        socket.write(
          `PATCH ${wire} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: ${bearer}\r\nContent-Type: application/json\r\nAssent-Change-Reason: ${reason}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
          'latin1',
        );
      });
    await inVain(async () => {
      for (const reason of ['a\nb', 'a\rb', 'a\0b', 'a\x1bb', 'a\x7fb'])
        expect(await say(reason), JSON.stringify(reason)).toMatch(/^HTTP\/1.1 400 /);
    });
    expect(await say('plain')).toMatch(/^HTTP\/1.1 200 /);
  });
});

// ---- Size ----

describe('size', () => {
  /** Does something, and counts what others were answered before it was done. */
  async function meanwhile(work: () => Promise<Reply>): Promise<{ reply: Reply; answered: number }> {
    let done = false;
    let answered = 0;
    const reply = work().finally(() => {
      done = true;
    });
    while (!done) {
      expect((await kit.send('GET', '/healthz')).status).toBe(200);
      answered += 1;
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { reply: await reply, answered };
  }
  const times = <T>(count: number, item: T): T[] => Array(count).fill(item);
  const unknown = Object.fromEntries(Array.from({ length: 50_000 }, (_, n) => [`k${n}`, true]));

  test('bodies of any size are refused or done, and others are answered meanwhile', async () => {
    const { wire, v1, entry } = await hire(bakery);
    const [shop, foreign] = [bakery.shops[0]!, rival.shops[0]!];
    await kit.set('STAFF_ROLES', { boss: permissionKeys });
    const pair = { shop, permission: 'products' };
    const role = (where: number) => ({ role: 'boss', shops: times(1000, where) });
    for (const [what, path, body, status] of [
      ['10,000 grants', v1, { grant: times(10_000, pair) }, 400],
      ['5,000 grants of a foreign shop', v1, { grant: times(5000, { ...pair, shop: foreign }) }, 422],
      ['5,000 grants of one pair', v1, { grant: times(5000, pair) }, 200],
      ['4 roles in a foreign shop, 1,000 times', v1, { roles: times(4, role(foreign)) }, 422],
      ['4 roles in one shop, 1,000 times', v1, { roles: times(4, role(shop)) }, 200],
      ['100,000 foreign shops', wire, { shop_ids: times(100_000, foreign) }, 422],
      ['one shop 100,000 times', wire, { shop_ids: times(100_000, shop) }, 200],
      ['50,000 unknown keys', wire, { permissions: unknown }, 422],
      ['50,000 unknown fields', v1, unknown, 400],
      ['more than a mebibyte', v1, { reason: 'x'.repeat(1_100_000) }, 413],
    ] as const) {
      const { answered, reply } = await meanwhile(() => bakery.manager('PATCH', path, json(body)));
      expect(reply.status, what).toBe(status);
      expect(answered, what).toBeGreaterThan(1);
      // A small request does not ask for a huge answer.
      expect(reply.text.length, what).toBeLessThan(1_500_000);
    }
    expect(await rightsOf({ entry })).toEqual(
      [...permissionKeys].sort().map((permission) => ({ shop, permission, until: null })),
    );
  });

  test('a body that names a million rights is refused before they are spelt out', async () => {
    const { v1 } = await hire(bakery);
    await kit.set('STAFF_ROLES', { boss: permissionKeys });
    for (const where of [bakery.shops[0]!, rival.shops[0]!]) {
      const body = { roles: times(100, { role: 'boss', shops: times(1000, where) }) };
      for (const [method, path, more] of [
        ['PATCH', v1, {}],
        ['POST', entriesOf(bakery), { email: newAddress() }],
      ] as const) {
        const reply = await inVain(() => bakery.manager(method, path, json({ ...body, ...more })));
        expect([...told(reply), reply.body.errors]).toEqual([
          422,
          'unprocessable',
          [{ pointer: '/roles', code: 'too_many', detail: 'One request gives at most 50000 rights.' }],
        ]);
      }
    }
  });
});

// ---- What others hear ----

test('addresses of colleagues are told to those who manage, and to nobody else', async () => {
  const ada = await hire(bakery, pairs([bakery.shops[0]!], 'products'));
  const stranger = await kit.bearer((await kit.signUp()).email);
  const without = await kit.apiKey('decisions', 'accounts');
  const [, second] = bakery.shops;
  for (const path of [
    `/v1/companies/${bakery.id}/history`,
    `/v1/companies/${bakery.id}/access?shop=${second}&permission=products`,
    `/v1/companies/${bakery.id}/entries`,
    `/v1/companies/${bakery.id}/entries?email=${encodeURIComponent(bakery.owner.email)}`,
    `/v1/companies/${bakery.id}`,
    family(),
    bakery.path(bakery.ownerEntry),
  ]) {
    for (const [who, send] of Object.entries({ colleague: ada.access, stranger, other: rival.manager, without })) {
      const reply = await send('GET', path);
      expect(reply.status, `${who} ${path}`).toBeGreaterThan(399);
      expect(reply.text, `${who} ${path}`).not.toContain('@');
    }
  }
  expect((await ada.access('GET', '/v1/companies')).body.items).toEqual([]);
  const keyless = await kit.apiKey('companies', 'accounts');
  const question = json({ email: bakery.owner.email, shop: second, permission: 'products' });
  expect(told(await keyless('POST', '/v1/decisions/staff', question))).toEqual([403, 'forbidden']);
  expect(told(await ada.access('POST', '/v1/decisions/staff', question))).toEqual([401, 'invalid_token']);
});
