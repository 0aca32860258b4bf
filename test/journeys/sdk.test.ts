/** The guards of sdk/ in a real Express and a real Fastify, against a service that really listens. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import Fastify, { type FastifyRequest } from 'fastify';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { expressGuard, fastifyGuard, type Options } from '../../sdk/assent-staff.js';
import { authorization, type Bakery, openBakery } from '../bakery.ts';
import { type Client, createKit, type Kit, PASSWORD } from '../kit.ts';

let kit: Kit;
let bakery: Bakery;
let ada: Client;
let entry: number;
let token: { authorization: string };
/** Where Assent listens. */
let url: string;

beforeAll(async () => {
  kit = await createKit();
  bakery = await openBakery(kit, 2);
  ada = await kit.signUp();
  entry = await bakery.invite(ada.email);
  await bakery.grant(entry, [bakery.shops[0]!], ['products']);
  token = await authorization(kit, ada.email, PASSWORD);
  url = await kit.http.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(() => kit.close());

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function listen(handler: RequestListener): Promise<{ server: Server; origin: string }> {
  const server = createServer(handler);
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () =>
      resolve({ server, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }),
    );
  });
}

/** How often the back office itself was reached. */
let reached = 0;
type More = Partial<Options> & { shop?: number };

/** A back office with a guarded page, of either framework; answers what the guard put on the request. */
const offices: Record<string, (more?: More) => Promise<string>> = {
  async Express(more = {}) {
    const app = express();
    const guard = expressGuard<express.Request>({
      url,
      permission: 'products',
      shop: (request) => request.params['shop'],
      ...more,
    });
    app.all('/shops/:shop/products', guard, (request, response) => {
      reached += 1;
      response.json((request as { assent?: object }).assent);
    });
    return (await listen(app)).origin;
  },
  async Fastify(more = {}) {
    const app = Fastify();
    const guard = fastifyGuard<FastifyRequest>({
      url,
      permission: 'products',
      shop: (request) => (request.params as { shop: string }).shop,
      ...more,
    });
    app.all('/shops/:shop/products', { preHandler: guard }, async (request) => {
      reached += 1;
      return (request as { assent?: object }).assent;
    });
    closing.push(() => app.close());
    return app.listen({ host: '127.0.0.1', port: 0 });
  },
};

describe.each(Object.keys(offices))('in %s', (name) => {
  const open = (more?: More): Promise<string> => offices[name]!(more);
  const visit = async (
    origin: string,
    shop: unknown = bakery.shops[0],
    headers: Record<string, string> = token,
    method = 'GET',
  ) => {
    const before = reached;
    const answer = await fetch(`${origin}/shops/${shop}/products`, { headers, method });
    const text = await answer.text();
    const body = text === '' ? undefined : JSON.parse(text);
    return { status: answer.status, body, headers: answer.headers, through: reached - before };
  };

  test('who holds the permission there gets through, and the request knows by what', async () => {
    const origin = await open();
    const [right] = await kit.rows<{ event: string }>('select event from entry_right where entry = $1', entry);
    for (const method of ['GET', 'POST', 'DELETE']) {
      const { status, body, through } = await visit(origin, bakery.shops[0], token, method);
      expect([status, body, through]).toEqual([200, { account: ada.id, entry, event: right!.event }, 1]);
    }
    const fixed = await open({ shop: bakery.shops[0]! });
    expect((await visit(fixed, 'any')).status).toBe(200);
  });

  test('a right that was lifted is refused at the next request', async () => {
    const origin = await open();
    const seen = [];
    for (const products of [false, true, false, true]) {
      await bakery.manager('PATCH', bakery.path(entry), { body: { permissions: { products } } });
      const { status, through } = await visit(origin);
      seen.push([products, status, through]);
    }
    expect(seen).toEqual([
      [false, 403, 0],
      [true, 200, 1],
      [false, 403, 0],
      [true, 200, 1],
    ]);
  });

  test('another shop is 403 with the reason as Assent gave it; not signed in is 401 with its challenge', async () => {
    const origin = await open();
    const refused = await visit(origin, bakery.shops[1], { ...token, 'accept-language': 'tr' });
    expect([refused.status, refused.through, refused.body.code, refused.headers.get('assent-reason')]).toEqual([
      403,
      0,
      'not_allowed',
      'other_shop',
    ]);
    expect(refused.body.detail).toContain('mağazasında yok');
    expect(refused.headers.get('content-type')?.split(';')[0]).toBe('application/problem+json');
    for (const headers of [{}, { authorization: 'Bearer aaaaaaaaaaaaaaaaaaaaaaaa' }, { 'assent-account': '1' }]) {
      const {
        status,
        through,
        headers: answered,
      } = await visit(origin, bakery.shops[0], headers as Record<string, string>);
      expect([status, through, answered.get('www-authenticate')?.split(' ')[0]]).toEqual([401, 0, 'Bearer']);
    }
  });

  test('cookies go along only when told so', async () => {
    const cookie = [...ada.cookies].map(([key, value]) => `${key}=${value}`).join('; ');
    const statuses = [];
    for (const cookies of [false, true])
      statuses.push((await visit(await open({ cookies }), bakery.shops[0], { cookie })).status);
    expect(statuses).toEqual([401, 200]);
  });

  test('what is no shop goes into no address', async () => {
    let asked = 0;
    const { origin: watched } = await listen((_request, response) => {
      asked += 1;
      response.writeHead(204, { 'assent-account': '1' }).end();
    });
    const origin = await open({ url: watched });
    for (const shop of [
      '0',
      '-11',
      '1e3',
      '011',
      '11.0',
      '%2011',
      '11%0a',
      '11%26permission=holidays',
      '11%0d%0aAssent-Account:%201',
      '..%2f..',
      '99999999999999999',
      '%D9%A1%D9%A1',
      'constructor',
    ]) {
      const { status, through } = await visit(origin, shop);
      expect([shop, status, through]).toEqual([shop, 404, 0]);
    }
    expect(asked).toBe(0);
    for (const shop of [Number.NaN, 1.5, '11' as unknown as number, -1, Number.POSITIVE_INFINITY]) {
      const { status } = await visit(await open({ url: watched, shop }));
      expect([shop, status]).toEqual([shop, shop === ('11' as unknown) ? 200 : 404]);
    }
    expect(asked).toBe(1);
  });

  test('nobody is let through when Assent is away, slow, or answers something else', async () => {
    const silent = await listen(() => {});
    const gone = await listen(() => {});
    await new Promise((done) => gone.server.close(done));
    const answers: RequestListener[] = [
      (_request, response) => response.writeHead(200, { 'assent-account': '1' }).end('{}'),
      (_request, response) => response.writeHead(204).end(),
      (_request, response) => response.writeHead(302, { location: `${url}/healthz` }).end(),
      (_request, response) => response.writeHead(500).end(),
      (_request, response) => response.writeHead(400).end('{}'),
      (_request, response) => response.writeHead(429).end('{}'),
      (_request, response) => response.destroy(),
      // The head comes, the rest never does.
      (_request, response) => void response.writeHead(403, { 'content-length': '10' }).write('{'),
    ];
    const places = [silent.origin, gone.origin];
    for (const answer of answers) places.push((await listen(answer)).origin);
    const seen = [];
    for (const place of places) {
      const { status, through } = await visit(await open({ url: place, timeout: 300 }));
      seen.push([status, through]);
    }
    expect(seen).toEqual(places.map(() => [503, 0]));
  });

  test('a shop that cannot be found out is none', async () => {
    const shop = (() => {
      throw new Error('no such thing');
    }) as unknown as number;
    expect((await visit(await open({ shop }))).status).toBe(404);
  });
});
