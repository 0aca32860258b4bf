/** Requests that are odd, or too large, about rights. */
import net from 'node:net';
import { describe, expect, test } from 'vitest';
import { permissionKeys } from '../../src/staff/permissions.ts';
import { authorization } from '../bakery.ts';
import { PASSWORD, type Reply } from '../kit.ts';
import {
  bakery,
  entriesOf,
  family,
  form,
  hire,
  inVain,
  json,
  key,
  kit,
  newAddress,
  openRivals,
  pairs,
  rightsOf,
  rival,
  told,
} from '../rivals.ts';

openRivals();

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
          ['POST', family(), { email: 'x@example.com', ...stray }, [422, 'unprocessable']],
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
