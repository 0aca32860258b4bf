/** Programs in a browser on another origin: what they may read, what browsers are told first, and who gets nothing of it. */
import { globSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { apiDocument, apiRoutes, createHttp } from '../../src/app.ts';
import { createClient } from '../../src/oauth/clients.ts';
import type { Db } from '../../src/platform/db.ts';
import { throttleScopes } from '../../src/settings.ts';
import { BACK, codeFor, verifier } from '../authorizing.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

const SHOP = 'https://shop.example';
const OTHER = 'https://other.example';
/** As Vite serves a program that is being written. */
const LOCAL = 'http://localhost:5173';
const SHOWN =
  'ETag, Allow, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, Content-Disposition, X-VERSION, X-Request-Id, Assent-Ignored, Assent-Uneven, Assent-Reason, Assent-Account, Assent-Entry, Assent-Event, Assent-Until';
const READABLE =
  'Authorization, Content-Type, Accept-Language, If-Match, Idempotency-Key, X-VERSION, X-Request-Id, Assent-Dry-Run, Assent-Notice, Assent-Change-Reason';
const SHARED = { 'access-control-allow-origin': SHOP, 'access-control-expose-headers': SHOWN };

const { paths } = apiDocument() as { paths: Record<string, Record<string, unknown>> };
/** Every documented path, with something in the place of its parameters, and its methods. */
const api = Object.entries(paths).map(
  ([path, entries]) =>
    [path.replaceAll(/\{\w+\}/g, '1'), Object.keys(entries).map((method) => method.toUpperCase())] as const,
);
const hidden = apiRoutes
  .filter((route) => route.hidden === true)
  .map(({ path }) => path.replaceAll(/\{\w+\}/g, '1'))
  .concat('/', '/docs', '/openapi.json', '/healthz', '/metrics');

let kit: Kit;
let ada: Client;
let operator: Client;
let decide: Send;

beforeAll(async () => {
  kit = await createKit();
  await free();
  await createClient(kit.ctx, { id: 'app', name: 'An app', redirect_uris: [BACK] }, atTheMachine);
  ada = await kit.signUp();
  operator = await kit.operator();
  decide = await kit.apiKey('decisions');
});
beforeEach(() => kit.set('ALLOWED_ORIGINS', [SHOP, LOCAL]));
afterAll(() => kit.close());

const free = (): Promise<void> =>
  kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));

/** The headers of an answer that are about other origins; `credentials` would be among them. */
const cors = ({ headers }: Reply): Record<string, unknown> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('access-control-')));

const varies = ({ headers }: Reply): string[] => String(headers['vary'] ?? '').split(', ');

/** A whole answer but for its moment, and what is in it about other origins. */
const gist = (reply: Reply): unknown[] => {
  const vary = varies(reply).filter((name) => name !== 'Origin');
  const told = Object.entries({ ...reply.headers, vary: vary.join(', '), date: '' });
  return [reply.status, reply.text, told.filter(([name]) => !name.startsWith('access-control-')).sort()];
};

const ask = (path: string, origin: string | undefined, method?: string): Promise<Reply> =>
  kit.send('OPTIONS', path, {
    headers: {
      'x-request-id': 'the-same-each-time',
      ...(origin === undefined ? {} : { origin }),
      ...(method === undefined ? {} : { 'access-control-request-method': method }),
    },
  });

describe('a program on an allowed origin', () => {
  test('exchanges its code for tokens and calls the company API', async () => {
    const code = await codeFor(ada);
    const before = await ask('/api/token', SHOP, 'POST');
    expect([before.status, cors(before)['access-control-allow-methods']]).toEqual([204, 'POST']);
    const tokens = await kit.send('POST', '/api/token', {
      body: { grant_type: 'authorization_code', client_id: 'app', code, code_verifier: verifier, redirect_uri: BACK },
      headers: { origin: SHOP },
    });
    expect([tokens.status, cors(tokens)]).toEqual([200, SHARED]);
    expect(tokens.headers['vary']).toBe('Accept-Language, Authorization, X-VERSION, Accept, Origin');
    const companies = await kit.send('GET', '/company/companies', {
      headers: { origin: SHOP, authorization: `Bearer ${tokens.body.access_token}` },
    });
    expect([companies.status, companies.body, cors(companies)]).toEqual([200, [], SHARED]);
    expect(companies.headers['vary']).toBe('Accept-Language, Authorization, X-VERSION, Origin');
  });

  test('reads every answer of every documented path, whatever it is', async () => {
    const withheld: unknown[] = [];
    const statuses = new Set<number>();
    for (const [path, methods] of api) {
      for (const method of new Set([...methods, 'GET', 'HEAD', 'DELETE', 'OPTIONS'])) {
        const reply = await kit.send(method, path, { headers: { origin: SHOP } });
        statuses.add(reply.status);
        if (JSON.stringify(cors(reply)) !== JSON.stringify(SHARED) || varies(reply).at(-1) !== 'Origin')
          withheld.push([method, path, reply.status, reply.headers]);
      }
    }
    expect(withheld).toEqual([]);
    expect([...statuses].sort()).toEqual(expect.arrayContaining([200, 204, 400, 401, 404, 405]));
    expect(api.length).toBeGreaterThan(40);
  });

  test('reads what it did wrong, how long to wait, and that we broke', async () => {
    const headers = { origin: SHOP };
    const bearer = await kit.bearer(ada.email);
    const replies = [
      await bearer('GET', '/company/companies/999', { headers }),
      await kit.send('GET', '/user', { headers: { ...headers, authorization: 'Bearer nothing' } }),
      await kit.send('GET', '/user', { headers: { ...headers, accept: 'image/png' } }),
      await kit.send('GET', '/user', { headers: { ...headers, 'x-version': '7' } }),
      await kit.send('POST', '/api/token', { headers, body: '{"grant' }),
      await kit.send('POST', '/api/token', { headers: { ...headers, 'content-type': 'text/csv' }, body: 'a' }),
      await kit.send('POST', '/api/token', { headers: { ...headers, 'content-type': 'nonsense' }, body: 'a' }),
      await kit.send('POST', '/api/token', { headers, body: JSON.stringify('x'.repeat(1_100_000)) }),
    ];
    await kit.set('THROTTLING_SETTINGS', { token: { count: 1, duration: 60 } });
    await kit.send('POST', '/api/token', { headers });
    const throttled = await kit.send('POST', '/api/token', { headers });
    await free();
    await kit.owner('alter table session rename to session_away');
    replies.push(throttled, await bearer('GET', '/user', { headers }));
    await kit.owner('alter table session_away rename to session');
    expect(replies.map(({ status }) => status)).toEqual([404, 401, 406, 400, 400, 415, 415, 413, 429, 500]);
    expect(replies.map(cors)).toEqual(replies.map(() => SHARED));
    expect(replies.map((reply) => varies(reply).filter((name) => name === 'Origin'))).toEqual(
      replies.map(() => ['Origin']),
    );
    expect(throttled.headers['retry-after']).toMatch(/^\d+$/);
  });

  test('reads an answer that is written while it is made', async () => {
    const reply = await decide('POST', '/v1/decisions/staff', {
      body: `${JSON.stringify({ email: ada.email, shop: 999, permission: 'products' })}\n`,
      headers: { origin: LOCAL, 'content-type': 'application/x-ndjson' },
    });
    expect([reply.status, reply.headers['content-type'], cors(reply)]).toEqual([
      200,
      'application/x-ndjson',
      { ...SHARED, 'access-control-allow-origin': LOCAL },
    ]);
    expect(JSON.parse(reply.text)).toMatchObject({ allowed: false, code: 'no_shop' });
    expect(reply.headers['vary']).toBe('Accept-Language, Authorization, Cookie, Origin');
  });

  test('an answer that varies by more than its dialect keeps all of it', async () => {
    const consents = await kit.apiKey('consents');
    const reply = await consents('GET', `/v1/accounts/${ada.id}/proof`, { headers: { origin: SHOP } });
    expect([reply.status, reply.headers['vary'], cors(reply)]).toEqual([
      200,
      'Accept, Accept-Language, Authorization, Cookie, Origin',
      SHARED,
    ]);
  });

  test('brings no cookies: with one the answer says nothing of credentials, and CSRF holds as ever', async () => {
    const read = (headers: Record<string, string>) =>
      ada.send('GET', '/users/profile/', { headers: { 'x-request-id': 'the-same-each-time', ...headers } });
    const usual = await read({});
    const shared = await read({ origin: SHOP });
    expect([usual.status, cors(usual), cors(shared)]).toEqual([200, {}, SHARED]);
    expect(gist(shared)).toEqual(gist(usual));
    const write = (origin: string) =>
      ada.send('PATCH', '/users/profile/', { body: { first_name: 'Eve' }, headers: { origin } });
    const [refused, stranger] = [await write(SHOP), await write(OTHER)];
    expect([refused.status, refused.text]).toEqual([403, stranger.text.replaceAll(OTHER, SHOP)]);
    expect(refused.body.detail).toMatch(/^CSRF Failed: Origin checking failed/);
    expect(cors(stranger)).toEqual({});
    expect((await read({})).body.first_name).toBe('Ada');
  });
});

describe('a browser that asks before it sends', () => {
  test('is told the methods of the path, the headers we read, and for how long that holds', async () => {
    const reply = await ask('/company/companies/15/permissions/users/17', SHOP, 'PATCH');
    expect([reply.status, reply.text]).toEqual([204, '']);
    const { date: _date, connection: _connection, ...headers } = reply.headers;
    expect(headers).toEqual({
      ...SHARED,
      'access-control-allow-methods': 'GET, PATCH, DELETE',
      'access-control-allow-headers': READABLE,
      'access-control-max-age': '600',
      allow: 'GET, PATCH, DELETE, HEAD, OPTIONS',
      'cache-control': 'private, no-store',
      'content-language': 'en',
      'referrer-policy': 'same-origin',
      vary: 'Accept-Language, Authorization, X-VERSION, Origin',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'x-request-id': 'the-same-each-time',
      'x-version': '1.9.0',
    });
  });

  test('is told so of every documented path', async () => {
    const answers = await Promise.all(
      api.map(async ([path]) => {
        const reply = await ask(path, LOCAL, 'GET');
        return [path, reply.status, cors(reply)['access-control-allow-methods']];
      }),
    );
    expect(answers).toEqual(api.map(([path]) => [path, 204, expect.any(String)]));
    const told = new Map(answers.map(([path, , methods]) => [path, String(methods).split(', ').sort()]));
    expect([...told]).toEqual(api.map(([path, methods]) => [path, [...methods].sort()]));
  });

  test('costs no question to the database, and none of its origin’s allowance', async () => {
    const asked: PropertyKey[] = [];
    const away = new Proxy({} as Db, {
      get(_target, property) {
        asked.push(property);
        throw new Error('the database is away');
      },
    });
    const http = await createHttp({ ...kit.ctx, db: away }, { trustedProxies: [] });
    const headers = { origin: SHOP, 'access-control-request-method': 'POST' };
    await kit.set('THROTTLING_SETTINGS', {});
    for (const url of ['/api/token', '/users/login/', '/company/companies', '/v1/decisions/staff']) {
      const { statusCode } = await http.inject({ method: 'OPTIONS', url, headers });
      expect([url, statusCode, asked]).toEqual([url, 204, []]);
    }
    // The same from elsewhere is counted, as ever.
    const { statusCode } = await http.inject({ method: 'OPTIONS', url: '/users/login/', headers: { origin: OTHER } });
    expect([statusCode, asked.length]).toEqual([500, 1]);
    await http.close();
    await free();
  });

  test('gets the answer of any OPTIONS, byte for byte, when its origin is not allowed or it does not ask for CORS', async () => {
    await kit.set('ALLOWED_ORIGINS', []);
    const usual = new Map<string, unknown[]>();
    for (const [path] of [...api, ['/nothing/here'] as const]) usual.set(path, gist(await ask(path, undefined)));
    for (const [path] of usual) {
      const reply = await ask(path, SHOP, 'GET');
      expect([path, gist(reply), cors(reply)]).toEqual([path, usual.get(path), {}]);
    }
    await kit.set('ALLOWED_ORIGINS', [SHOP]);
    for (const [path] of usual) {
      for (const origin of [OTHER, undefined]) {
        const reply = await ask(path, origin, 'GET');
        expect([path, gist(reply), cors(reply)]).toEqual([path, usual.get(path), {}]);
      }
      expect([path, gist(await ask(path, SHOP))]).toEqual([path, usual.get(path)]);
    }
    expect((await ask('/users/profile/', SHOP)).status).toBe(401);
    expect((await ask('/users/login/', SHOP)).body).toMatchObject({ renders: ['application/json'] });
    expect((await ask('/nothing/here', SHOP, 'GET')).status).toBe(404);
  });
});

test('only OPTIONS asks first: any other request is done, whatever headers it has', async () => {
  const headers = { origin: SHOP, 'access-control-request-method': 'GET' };
  const reply = await kit.send('GET', '/.well-known/oauth-authorization-server', { headers });
  expect([reply.status, reply.body.token_endpoint, cors(reply)]).toEqual([
    200,
    'http://localhost:80/api/token',
    SHARED,
  ]);
});

describe('who gets nothing of it', () => {
  test.each([
    'null',
    '',
    '*',
    'https://shop.example.evil',
    'https://evil-shop.example',
    'https://evil.shop.example',
    'https://shop.exampl',
    'https://shop.example:443',
    'https://shop.example:8443',
    'https://shop.example.',
    'https://SHOP.example',
    'HTTPS://shop.example',
    'https://shop.example/',
    'https://shop.example/x',
    'https://user@shop.example',
    'http://shop.example',
    '//shop.example',
    'shop.example',
    'http://localhost',
    'http://localhost:5174',
    'http://localhost.evil:5173',
    'http://127.0.0.1:5173',
    `${SHOP}, ${SHOP}`,
    `${SHOP} ${OTHER}`,
    `${SHOP},${LOCAL}`,
  ])('Origin: %s', async (origin) => {
    const read = await kit.send('GET', '/.well-known/oauth-authorization-server', { headers: { origin } });
    expect([read.status, cors(read), varies(read).at(-1)]).toEqual([200, {}, 'Origin']);
    const asked = await ask('/api/token', origin, 'POST');
    expect([asked.status, cors(asked), varies(asked).at(-1)]).toEqual([204, {}, 'Origin']);
  });

  test('a request with two Origin headers', async () => {
    const { port } = new URL(await kit.http.listen({ port: 0, host: '127.0.0.1' }));
    for (const origin of [
      [SHOP, SHOP],
      [SHOP, OTHER],
      [OTHER, SHOP],
    ]) {
      const headers = await new Promise((resolve, reject) => {
        // The type knows one text only; Node sends a list as so many headers.
        const sent = { Origin: origin } as Record<string, string[]>;
        request({ port, path: '/.well-known/oauth-authorization-server', agent: false, headers: sent }, (response) =>
          resolve(response.resume().headers),
        )
          .on('error', reject)
          .end();
      });
      expect([origin, cors({ headers } as Reply)]).toEqual([origin, {}]);
    }
  });

  test('a request without Origin, whose answer still says by what it varies', async () => {
    const reply = await kit.send('GET', '/.well-known/oauth-authorization-server');
    expect([cors(reply), reply.headers['vary']]).toEqual([{}, 'Accept-Language, Authorization, Cookie, Origin']);
  });

  test('pages, pictures, and whatever else is no documented call', async () => {
    const shared: unknown[] = [];
    for (const path of [...hidden, '/nothing/here', '/v1/nothing', '/company/%ZZ']) {
      for (const method of ['GET', 'POST', 'OPTIONS', 'PROPFIND', 'QUERY']) {
        const headers = { origin: SHOP, 'access-control-request-method': 'GET' };
        const reply = await kit.send(method, path, { headers });
        if (Object.keys(cors(reply)).length > 0 || varies(reply).includes('Origin')) shared.push([method, path]);
      }
    }
    expect(shared).toEqual([]);
    expect(hidden.length).toBeGreaterThan(20);
  });
});

describe('the setting', () => {
  test('is empty at first: answers are as if there were no CORS', async () => {
    const reset = await operator.send('DELETE', '/v1/settings/ALLOWED_ORIGINS');
    await kit.ctx.settings.refresh(kit.ctx.db);
    expect([reset.status, reset.body.value]).toEqual([200, []]);
    const reply = await kit.send('GET', '/.well-known/oauth-authorization-server', { headers: { origin: SHOP } });
    expect([cors(reply), reply.headers['vary']]).toEqual([{}, 'Accept-Language, Authorization, Cookie']);
  });

  test('counts in another process as soon as that has heard of it, both ways', async () => {
    const twin = await kit.twin();
    const look = async (): Promise<unknown[]> => {
      await twin.ctx.settings.refresh(twin.ctx.db);
      const read = await twin.send('GET', '/.well-known/oauth-authorization-server', { headers: { origin: OTHER } });
      const asked = await twin.send('OPTIONS', '/user', {
        headers: { origin: OTHER, 'access-control-request-method': 'GET' },
      });
      return [read, asked].map((reply) => cors(reply)['access-control-allow-origin']);
    };
    expect(await look()).toEqual([undefined, undefined]);
    await kit.set('ALLOWED_ORIGINS', [SHOP, OTHER]);
    expect(await look()).toEqual([OTHER, OTHER]);
    await kit.set('ALLOWED_ORIGINS', [SHOP]);
    expect(await look()).toEqual([undefined, undefined]);
  });

  test('takes origins as browsers send them', async () => {
    const value = [
      SHOP,
      'https://shop.example:8443',
      'https://xn--frn-juab.example',
      'https://192.0.2.7',
      'https://[2001:db8::7]',
      'http://localhost',
      'http://127.0.0.1:5173',
      'http://[::1]:3000',
    ];
    const reply = await operator.send('PUT', '/v1/settings/ALLOWED_ORIGINS', { body: { value } });
    expect([reply.status, reply.body.value]).toEqual([200, value]);
  });

  const NO_ORIGIN = 'must be an origin, such as https://shop.example';
  const ONE = 'must name one origin; wildcards are not known here';
  const TLS = 'must begin with https://; http:// is for localhost, 127.0.0.1, [::1] alone';
  const written = (origin: string): string => `must be written as browsers send it: ${origin}`;
  test.each([
    ['null', NO_ORIGIN],
    ['', NO_ORIGIN],
    ['shop.example', NO_ORIGIN],
    ['localhost:5173', NO_ORIGIN],
    ['//shop.example', NO_ORIGIN],
    ['ftp://shop.example', NO_ORIGIN],
    ['file:///', NO_ORIGIN],
    ['com.example.app://x', NO_ORIGIN],
    ['https://', NO_ORIGIN],
    ['https://shop.example:99999', NO_ORIGIN],
    ['*', ONE],
    ['https://*', ONE],
    ['https://*.shop.example', ONE],
    ['http://shop.example', TLS],
    ['http://127.0.0.1.evil.example', TLS],
    ['http://127.0.0.2', TLS],
    ['http://app.localhost', TLS],
    ['https://shop.example/', written(SHOP)],
    ['https://shop.example/x?y#z', written(SHOP)],
    ['https://user:word@shop.example', written(SHOP)],
    ['https://SHOP.example', written(SHOP)],
    ['HTTPS://shop.example', written(SHOP)],
    [' https://shop.example', written(SHOP)],
    ['https://shop.example:443', written(SHOP)],
    ['https:shop.example', written(SHOP)],
    ['https://fırın.example', written('https://xn--frn-juab.example')],
    ['http://127.1:5173', written('http://127.0.0.1:5173')],
  ])('refuses %j, and says why', async (entry, why) => {
    const value = [LOCAL, entry, OTHER, 'http://evil.example'];
    const reply = await operator.send('PUT', '/v1/settings/ALLOWED_ORIGINS', { body: { value } });
    expect([reply.status, reply.body.errors]).toEqual([
      400,
      [
        { pointer: '/value/1', code: 'as_told', detail: `This value ${why}` },
        { pointer: '/value/3', code: 'as_told', detail: `This value ${TLS}` },
      ],
    ]);
    expect(kit.ctx.settings.get('ALLOWED_ORIGINS')).toEqual([SHOP, LOCAL]);
  });
});

test('no header of ours is forgotten', () => {
  const root = join(import.meta.dirname, '../..');
  // What connectors send to their providers is no business of browsers.
  const source = globSync('src/**/*.ts', { cwd: root })
    .filter((file) => !/^src\/loyalty\/|\.test\.ts$/.test(file))
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n');
  const known = `${SHOWN}, ${READABLE}`.toLowerCase().split(', ');
  const ours = new Set([...source.matchAll(/'(assent-[a-z-]+)'/g)].map(([, name]) => name!));
  expect([...ours].filter((name) => !known.includes(name))).toEqual([]);
  expect(known.filter((name) => name.startsWith('assent-') && !ours.has(name))).toEqual([]);
});
