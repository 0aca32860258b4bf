/** Who wants rights that nobody gave them: of other companies, through friends, by looking around. */
import { describe, expect, test } from 'vitest';
import {
  advance,
  bakery,
  entriesOf,
  family,
  form,
  hire,
  inVain,
  json,
  key,
  kit,
  openRivals,
  type Pair,
  pairs,
  rightsOf,
  rival,
  rivalEntry,
  told,
} from '../rivals.ts';

openRivals();

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
