/** A back office that is a program in the browser, on another origin: what a real browser lets it do, and what not. */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Service } from '../service.ts';
import { openStage, type Stage } from './stage.ts';

const KEY = { authorization: 'Bearer assent_demo_key_2026' };
const JSON_BODY = { 'content-type': 'application/json' };
const ENTRY = '/company/companies/15/permissions/users/17';
const verifier = randomBytes(32).toString('base64url');
const code_challenge = createHash('sha256').update(verifier).digest('base64url');

let stage: Stage;
let service: Service;
/** Serves the program's one page, which does nothing by itself. */
let program: Server;
let port: number;
let origin: string;

beforeAll(async () => {
  program = createServer(({ url }, response) => {
    // A page in a sandbox has no origin: it sends `Origin: null`.
    if (url === '/sandboxed') response.setHeader('content-security-policy', 'sandbox allow-scripts');
    response.setHeader('content-type', 'text/html');
    response.end('<title>Back office</title><link rel="icon" href="data:,">');
  });
  await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve));
  ({ port } = program.address() as AddressInfo);
  origin = `http://127.0.0.1:${port}`;
  stage = await openStage();
  ({ service } = stage);
  const registered = await fetch(`${service.url}/v1/clients`, {
    method: 'POST',
    headers: { ...KEY, ...JSON_BODY },
    body: JSON.stringify({ id: 'spa', name: 'Back office', redirect_uris: ['http://127.0.0.1/'], first_party: true }),
  });
  expect(registered.status).toBe(201);
});

beforeEach(() => allow(origin));
afterEach(async () => {
  for (const context of stage.browser.contexts()) await context.close();
  stage.complaints.length = 0;
});
afterAll(async () => {
  await stage?.close();
  program?.close();
});

async function allow(...value: string[]): Promise<void> {
  const stored = await fetch(`${service.url}/v1/settings/ALLOWED_ORIGINS`, {
    method: 'PUT',
    headers: { ...KEY, ...JSON_BODY },
    body: JSON.stringify({ value }),
  });
  expect(stored.status).toBe(200);
}

interface Seen {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly text: string;
}

/** What a program in the page sees of an answer, or the error that the browser gives it in place of one. */
const call = (page: Page, path: string, init: object = {}): Promise<Seen | string> =>
  page.evaluate(`fetch(${JSON.stringify(service.url + path)}, ${JSON.stringify(init)}).then(
    async (answer) => ({ status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() }),
    String)`);

const seen = async (page: Page, path: string, init?: object): Promise<Seen> => {
  const answer = await call(page, path, init);
  if (typeof answer === 'string') throw new Error(`${path}: ${answer}; ${stage.complaints.join('; ')}`);
  return answer;
};

/** Expects that the browser keeps an answer to itself, and says that it was for this. */
async function expectKept(page: Page, why: RegExp, path: string, init: object): Promise<void> {
  expect(await call(page, path, init)).toBe('TypeError: Failed to fetch');
  const [complaint] = stage.complaints.splice(0);
  expect(complaint).toMatch(/ has been blocked by CORS policy: /);
  expect(complaint).toMatch(why);
}

const NOT_ALLOWED = /No 'Access-Control-Allow-Origin' header is present/;

/** The rights of the entry, as the service itself has them. */
async function rights(token: string): Promise<unknown> {
  return (await fetch(service.url + ENTRY, { headers: { authorization: token } })).json();
}

/** An access token by the password grant, outside of any browser. */
async function ownToken(): Promise<string> {
  const answer = await fetch(`${service.url}/api/token`, {
    method: 'POST',
    headers: JSON_BODY,
    body: JSON.stringify({
      grant_type: 'password',
      client_id: 'demo',
      username: 'usta@example.com',
      password: 'demo-assent-2026',
    }),
  });
  return `Bearer ${((await answer.json()) as { access_token: string }).access_token}`;
}

test('signs somebody in with PKCE, gets its tokens and works with them, on an origin that is allowed', async () => {
  const asked = { response_type: 'code', client_id: 'spa', redirect_uri: `${origin}/`, state: 'x', code_challenge };
  const page = await stage.open(`/oauth/authorize?${new URLSearchParams(asked)}`, { locale: 'en' });
  await page.fill('#email', 'usta@example.com');
  await page.fill('#password', 'demo-assent-2026');
  await page.click('main form button');
  await page.waitForURL(`${origin}/?*`);

  const facts = JSON.parse((await seen(page, '/.well-known/oauth-authorization-server')).text);
  expect(facts.token_endpoint).toBe(`${service.url}/api/token`);
  const code = new URL(page.url()).searchParams.get('code');
  const tokens = await seen(page, '/api/token', {
    method: 'POST',
    headers: JSON_BODY,
    body: JSON.stringify({
      grant_type: 'authorization_code',
      client_id: 'spa',
      code,
      code_verifier: verifier,
      redirect_uri: `${origin}/`,
    }),
  });
  expect([tokens.status, tokens.headers['x-version']]).toEqual([200, '1.9.0']);
  const authorization = `Bearer ${JSON.parse(tokens.text).access_token}`;

  const entry = await seen(page, ENTRY, { headers: { authorization, 'x-version': '1.10.0' } });
  expect([entry.status, JSON.parse(entry.text).id, entry.headers['x-version']]).toEqual([200, 17, '1.10.0']);
  const { shop_info } = JSON.parse(entry.text).permissions;
  const change = { method: 'PATCH', body: JSON.stringify({ permissions: { shop_info: !shop_info } }) };
  const changed = await seen(page, ENTRY, { ...change, headers: { authorization, ...JSON_BODY } });
  expect([changed.status, JSON.parse(changed.text).permissions.shop_info]).toEqual([200, !shop_info]);
  expect(await rights(authorization)).toEqual(JSON.parse(changed.text));
  expect(stage.complaints).toEqual([]);

  const missing = await seen(page, '/company/companies/999', { headers: { authorization } });
  expect([missing.status, JSON.parse(missing.text).code]).toEqual([404, 'not_found']);
  const nobody = await seen(page, '/user', { headers: { authorization: 'Bearer nothing' } });
  expect([nobody.status, nobody.headers['www-authenticate']]).toEqual([401, 'Bearer error="invalid_token"']);
  expect(nobody.headers['x-request-id']).toBe(JSON.parse(nobody.text).request_id);
});

test('reads lines of a streamed answer, and may send every header that we read', async () => {
  const page = await stage.open(`${origin}/`, {});
  const answer = await seen(page, '/v1/decisions/staff', {
    method: 'POST',
    headers: { ...KEY, 'content-type': 'application/x-ndjson', 'x-request-id': 'seen-by-the-shop' },
    body: '{"email":"usta@example.com","shop":18,"permission":"holidays"}\n',
  });
  expect([answer.status, JSON.parse(answer.text).code, answer.headers['x-request-id']]).toEqual([
    200,
    'owner',
    'seen-by-the-shop',
  ]);
  const authorization = await ownToken();
  // One that asks for Dutch and for an entry that has changed gets to read just that.
  const late = await seen(page, ENTRY, {
    method: 'PATCH',
    headers: {
      ...JSON_BODY,
      authorization,
      'accept-language': 'nl',
      'if-match': '"none"',
      'idempotency-key': 'x',
      'x-version': '1.9.0',
      'assent-dry-run': '1',
      'assent-notice': '1',
      'assent-change-reason': 'Because',
    },
    body: '{}',
  });
  expect([late.status, JSON.parse(late.text).title]).toEqual([412, 'Intussen gewijzigd']);
  expect(stage.complaints.filter((complaint) => complaint.includes('CORS'))).toEqual([]);
});

test('sees nothing, and changes nothing, on an origin that is not allowed', async () => {
  const authorization = await ownToken();
  const before = await rights(authorization);
  const change = {
    method: 'PATCH',
    headers: { authorization, ...JSON_BODY },
    body: '{"permissions":{"products":false}}',
  };
  for (const address of [`http://localhost:${port}/`, `${origin}/sandboxed`]) {
    const page = await stage.open(address, {});
    await expectKept(page, NOT_ALLOWED, '/.well-known/oauth-authorization-server', {});
    await expectKept(page, NOT_ALLOWED, '/company/companies', { headers: { authorization } });
    await expectKept(page, NOT_ALLOWED, ENTRY, change);
  }
  expect(await rights(authorization)).toEqual(before);
});

test('sees nothing more from the moment its origin is taken off the list', async () => {
  const authorization = await ownToken();
  const page = await stage.open(`${origin}/`, {});
  expect((await seen(page, '/company/companies', { headers: { authorization } })).status).toBe(200);
  await allow(`http://localhost:${port}`);
  await expectKept(page, NOT_ALLOWED, '/company/companies', { headers: { authorization } });
});

test('cannot use the cookie of whoever is signed in with us, although its origin is allowed', async () => {
  const page = await stage.open('/account/sign-in', { locale: 'en' });
  await page.fill('#email', 'usta@example.com');
  await page.fill('#password', 'demo-assent-2026');
  await page.click('main form button');
  await page.waitForURL(`${service.url}/account`);
  await page.goto(`${origin}/`);
  const wire = await page.context().newCDPSession(page);
  const came = new Promise<number>((resolve) => {
    wire.once('Network.responseReceivedExtraInfo', ({ statusCode }) => resolve(statusCode));
  });
  await wire.send('Network.enable');
  await expectKept(page, /'Access-Control-Allow-Credentials' header .* must be 'true'/, '/users/profile/', {
    credentials: 'include',
  });
  // Two ports of one host are one site: the cookie did go along, and an answer came that the page was not shown.
  expect(await came).toBe(200);
  expect((await seen(page, '/users/profile/')).status).toBe(401);
});
