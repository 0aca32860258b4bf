/** What reverse proxies ask about whoever is calling. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { authorization, type Bakery, openBakery } from '../bakery.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';

let kit: Kit;
let bakery: Bakery;
let ada: Client;
let entry: number;
let token: { authorization: string };

beforeAll(async () => {
  kit = await createKit();
  bakery = await openBakery(kit, 2);
  ada = await kit.signUp();
  entry = await bakery.invite(ada.email);
  await bakery.grant(entry, [bakery.shops[0]!], ['products']);
  token = await authorization(kit, ada.email, PASSWORD);
});
afterAll(() => kit.close());

const PATH = '/v1/decisions/forward-auth';
const asked = (permission = 'products', shop: unknown = bakery.shops[0]): string =>
  `${PATH}?permission=${permission}&shop=${shop}`;
const ask = (query = asked(), headers: Record<string, string> = token, method = 'GET'): Promise<Reply> =>
  kit.send(method, query, { headers });

/** The headers that say who was let in and by what. */
const told = ({ headers }: Reply): object =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('assent-')));
const right = async (): Promise<string> =>
  (await kit.rows<{ event: string }>('select event from entry_right where entry = $1', entry))[0]!.event;

describe('allowed', () => {
  test('204 with account, entry and line of the history, by token or cookie, GET or HEAD, never to be kept', async () => {
    const cookie = { cookie: [...ada.cookies].map(([key, value]) => `${key}=${value}`).join('; ') };
    const expected = { 'assent-account': String(ada.id), 'assent-entry': String(entry), 'assent-event': await right() };
    for (const headers of [token, cookie])
      for (const method of ['GET', 'HEAD']) {
        const reply = await ask(asked(), headers as Record<string, string>, method);
        expect([reply.status, reply.text, reply.headers['cache-control'], told(reply)]).toEqual([
          204,
          '',
          'no-store',
          expected,
        ]);
      }
    expect((await ask(`${asked()}&company=${bakery.id}`)).status).toBe(204);
  });

  test('the end of a right is told, and after it 403', async () => {
    const until = new Date(kit.ctx.clock.now().getTime() + 60_000);
    await kit.rows('update entry_right set until = $2 where entry = $1', entry, until);
    expect(told(await ask())).toMatchObject({ 'assent-until': until.toISOString() });
    kit.advance(60_000);
    const after = await ask();
    expect([after.status, told(after)]).toEqual([403, { 'assent-reason': 'ended' }]);
    kit.advance(-60_000);
    await kit.rows('update entry_right set until = null where entry = $1', entry);
  });

  test('an owner without an entry is let in, and no entry is made up', async () => {
    const { id, shops } = await openBakery(kit, 1);
    const heir = await kit.signUp();
    await kit.rows('update company set owner = $2 where id = $1', id, heir.id);
    const reply = await ask(asked('permissions', shops[0]), await authorization(kit, heir.email, PASSWORD));
    expect([reply.status, told(reply)]).toEqual([204, { 'assent-account': String(heir.id) }]);
  });

  test('whatever the browser wants of the back office: types, bodies, codings', async () => {
    const headers = {
      ...token,
      accept: 'image/avif',
      'content-type': 'application/x-ndjson',
      'content-encoding': 'gzip',
      'x-forwarded-method': 'DELETE',
    };
    expect((await ask(asked(), headers)).status).toBe(204);
  });
});

describe('not signed in', () => {
  test('401 with a challenge, whatever is wrong with token or cookie', async () => {
    const gone = await authorization(kit, ada.email, PASSWORD);
    await kit.rows("delete from session where account = $1 and kind = 'access'", ada.id);
    for (const [headers, code] of [
      [{}, 'not_authenticated'],
      [{ cookie: 'sessionid=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }, 'not_authenticated'],
      [{ cookie: 'sessionid=%00; osessionid=' }, 'not_authenticated'],
      [{ authorization: 'Basic YTpi' }, 'not_authenticated'],
      [{ authorization: `Token ${ada.key}` }, 'not_authenticated'],
      [{ authorization: `Bearer ${ada.key}` }, 'invalid_token'],
      [{ authorization: 'Bearer' }, 'invalid_token'],
      [{ authorization: 'Bearer a b' }, 'invalid_token'],
      [gone, 'invalid_token'],
    ] as [Record<string, string>, string][]) {
      const { status, body, headers: answered } = await ask(asked(), headers);
      expect([headers, status, body.code, answered['cache-control'], answered['content-type']]).toEqual([
        headers,
        401,
        code,
        'no-store',
        'application/problem+json',
      ]);
      expect(answered['www-authenticate']).toBe(code === 'invalid_token' ? 'Bearer error="invalid_token"' : 'Bearer');
    }
    token = await authorization(kit, ada.email, PASSWORD);
  });

  test('a wrong token is not made good by a cookie beside it', async () => {
    const cookie = [...ada.cookies].map(([key, value]) => `${key}=${value}`).join('; ');
    expect((await ask(asked(), { cookie, authorization: 'Bearer aaaaaaaaaaaaaaaaaaaaaaaa' })).status).toBe(401);
  });

  test('an account that was switched off is not signed in', async () => {
    const gone = await kit.signUp();
    const headers = await authorization(kit, gone.email, PASSWORD);
    expect((await ask(asked(), headers)).status).toBe(403);
    await kit.rows('update account set is_active = false where id = $1', gone.id);
    expect((await ask(asked(), headers)).status).toBe(401);
  });
});

test('403 with the reason as code and in words, and nothing about who asks', async () => {
  const shop = bakery.shops[1];
  const reply = await ask(asked('products', shop), { ...token, 'accept-language': 'nl' });
  expect([reply.status, reply.headers['content-type'], reply.headers['cache-control']]).toEqual([
    403,
    'application/problem+json',
    'no-store',
  ]);
  expect(told(reply)).toEqual({ 'assent-reason': 'other_shop' });
  expect(reply.body).toEqual({
    type: 'urn:assent:error:not_allowed',
    title: expect.any(String),
    status: 403,
    detail: `Heeft de bevoegdheid products in een andere winkel, niet in winkel ${shop}.`,
    code: 'not_allowed',
    request_id: expect.any(String),
  });
  const codes = [];
  for (const query of [asked('holidays'), asked('products', 999_999), `${asked()}&company=999999`])
    codes.push(told(await ask(query)));
  expect(codes).toEqual([
    { 'assent-reason': 'not_held' },
    { 'assent-reason': 'no_shop' },
    { 'assent-reason': 'no_company' },
  ]);
});

test('parameters that are missing, twice, unknown or none are refused: nobody is let in by one that was misread', async () => {
  const shop = bakery.shops[0];
  for (const [query, pointer] of [
    ['', '/shop'],
    [`shop=${shop}`, '/permission'],
    ['permission=products', '/shop'],
    [`permission=fly&shop=${shop}`, '/permission'],
    [`permission=products&permission=holidays&shop=${shop}`, '/permission'],
    [`permission=products&permission=products&shop=${shop}`, '/permission'],
    [`permission=holidays&shop=${shop}&shop=${bakery.shops[1]}`, '/shop'],
    [`permission=products&shop=${shop}&company=${bakery.id}&company=${bakery.id}`, '/company'],
    [`permission=products&shop=${shop}&company=`, '/company'],
    [`permission=products&shop[]=${shop}`, '/shop[]'],
    [`permission=products&shop=${shop}&Shop=12`, '/Shop'],
    [`permission=products&shop=${shop}.0`, '/shop'],
    ['permission=products&shop=0', '/shop'],
    ['permission=products&shop=-11', '/shop'],
    ['permission=products&shop=0x0b', '/shop'],
    ['permission=products&shop=99999999999999999999', '/shop'],
    [`permission=products%00&shop=${shop}`, '/permission'],
    [`permission=PRODUCTS&shop=${shop}`, '/permission'],
  ] as const) {
    const { status, body } = await ask(`${PATH}?${query}`);
    expect([query, status, body.errors?.map((error: { pointer: string }) => error.pointer)]).toEqual([
      query,
      400,
      [pointer],
    ]);
  }
});

test('other methods are not known here', async () => {
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
    const { status, headers } = await ask(asked(), token, method);
    expect([method, status, headers['allow']]).toEqual([method, 405, 'GET, HEAD, OPTIONS']);
  }
});

test('neither tokens nor cookies nor what was asked are logged', async () => {
  await ask();
  const lines = kit.logged.join('\n');
  expect(lines).toContain(PATH);
  for (const secret of [token.authorization.slice(7), ada.key, ada.email, 'permission='])
    expect(lines).not.toContain(secret);
});
