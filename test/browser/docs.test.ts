/** The API reference and the pages in a real browser, on a service started as its users start it. */
import axe from 'axe-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Service } from '../service.ts';
import { openStage, type Stage } from './stage.ts';

const PASSWORD = 'demo-assent-2026';
let stage: Stage;
let service: Service;
let browser: Browser;

beforeAll(async () => {
  stage = await openStage();
  ({ service, browser } = stage);
});

afterAll(async () => {
  await stage?.close();
});

/** Every address the open pages asked for, and every complaint of the browser: errors, warnings, refusals of the policy. */
const asked: string[] = [];
const complaints: string[] = [];

afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  asked.length = 0;
  complaints.length = 0;
});

/** A browser of its own: no cookies, nothing cached. */
async function open(path: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ baseURL: service.url, ...options });
  const page = await context.newPage();
  page.on('request', (request) => asked.push(request.url()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  await page.goto(path);
  return page;
}

/** Addresses that were asked for, without our own. `data:` and `blob:` are made in the page and go nowhere. */
const elsewhere = (): string[] =>
  asked.filter((address) => !address.startsWith(`${service.url}/`) && !/^(data|blob):/.test(address));

/** Opens the form of an operation, puts a body into its editor and sends it. Answers what came back, and the header sent. */
async function tryOut(page: Page, method: string, path: string, body: object) {
  await page.getByRole('button', { name: `Test Request (${method} ${path})` }).click();
  const client = page.getByRole('dialog');
  await client.locator('.cm-content[data-language=json]').fill(JSON.stringify(body));
  const answer = page.waitForResponse((response) => response.url() === `${service.url}${path}`);
  await client
    .getByRole('button', { name: /^Send POST|^Send PATCH|^Send Request/ })
    .last()
    .click();
  const response = await answer;
  await client.getByText(new RegExp(`^${response.status()} `)).waitFor();
  const headers = await response.request().allHeaders();
  return { status: response.status(), body: await response.json(), token: headers['x-csrftoken'] };
}

describe('the API reference', () => {
  for (const [colorScheme, background] of [
    ['light', 'rgb(255, 253, 249)'],
    ['dark', 'rgb(22, 19, 16)'],
  ] as const) {
    test(`is drawn in ${colorScheme} from this server alone, without a complaint of the browser`, async () => {
      const page = await open('/docs', { colorScheme });
      await page.getByRole('heading', { name: 'Assent', level: 1 }).waitFor();
      await page.getByRole('button', { name: 'Test Request (get /users/profile/)' }).waitFor();
      await page.waitForLoadState('networkidle');
      expect(await page.title()).toBe('Assent API');
      expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe(background);
      expect(elsewhere()).toEqual([]);
      expect(complaints).toEqual([]);
      expect(asked.map((address) => new URL(address).pathname).sort()).toEqual([
        '/docs',
        '/docs/scalar.js',
        '/docs/start.js',
        '/icon.svg',
        '/openapi.json',
      ]);
    });
  }

  test('lets its reader sign in and change the profile: the CSRF token goes along by itself', async () => {
    const page = await open('/docs#tag/sign-in/POST/users/login/');
    const signedIn = await tryOut(page, 'post', '/users/login/', { email: 'ada@example.com', password: PASSWORD });
    expect(signedIn).toMatchObject({ status: 200, body: { redirect_url: null } });

    await page.goto('/docs#tag/profile/PATCH/users/profile/');
    await page.reload();
    const changed = await tryOut(page, 'patch', '/users/profile/', { first_name: 'Ada Nur', call_allowed: false });
    expect(changed).toMatchObject({ status: 200, body: { first_name: 'Ada Nur', call_allowed: false } });
    const cookies = await page.context().cookies();
    expect(changed.token).toBe(cookies.find(({ name }) => name === 'csrftoken')!.value);

    const profile = await page.context().request.get('/users/profile/');
    expect(await profile.json()).toMatchObject({
      email: 'ada@example.com',
      first_name: 'Ada Nur',
      call_allowed: false,
    });
    expect(elsewhere()).toEqual([]);
    expect(complaints).toEqual([]);
  });

  test('asks for a CSRF token before the first change, and keeps one that its reader gave', async () => {
    const page = await open('/docs');
    const login = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"email":"nobody"}' };
    const sent = async (init: object): Promise<string | undefined> => {
      const request = page.waitForRequest((candidate) => candidate.url() === `${service.url}/users/login/`);
      await page.evaluate(({ init }) => fetch('/users/login/', init), { init });
      return (await request).headers()['x-csrftoken'];
    };
    expect(asked).not.toContain(`${service.url}/csrf_token/`);
    const token = await sent(login);
    expect(token).toMatch(/^[A-Za-z0-9]{64}$/);
    expect(asked.filter((address) => address === `${service.url}/csrf_token/`)).toHaveLength(1);
    expect(await sent({ ...login, headers: { ...login.headers, 'X-CSRFToken': 'mine' } })).toBe('mine');
    expect(await sent(login)).toBe(token);
    expect(asked.filter((address) => address === `${service.url}/csrf_token/`)).toHaveLength(1);
  });

  test('cannot send anything to another host', async () => {
    const page = await open('/docs');
    const other = 'http://127.0.0.1:9/';
    expect(await page.evaluate((address) => fetch(address).catch((error) => String(error)), other)).toBe(
      'TypeError: Failed to fetch',
    );
    // The browser names the policy as its reason: nothing listens there, so the fetch alone would fail in any case.
    expect(complaints[0]).toMatch(/^Connecting to 'http:\/\/127\.0\.0\.1:9\/' violates .*connect-src 'self'/);
  });

  test('says where the document is to a browser without scripts', async () => {
    const page = await open('/docs', { javaScriptEnabled: false });
    await page.getByRole('heading', { name: 'Assent API' }).waitFor();
    expect(await page.getByRole('link').getAttribute('href')).toBe('/openapi.json');
    expect(complaints).toEqual([]);
  });
});

/** The path of the newest mailed link to somebody. */
async function mailedLink(email: string): Promise<string> {
  await fetch(`${service.url}/users/password/reset/`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email }),
  });
  return vi.waitFor(
    async () => {
      const answer = await fetch(`${service.url}/v1/outbox/mail`, {
        headers: { authorization: 'Bearer assent_demo_key_2026' },
      });
      const mails = (await answer.json()) as { to: string; text: string }[];
      return /\/links\/\w+/.exec(mails.findLast(({ to }) => to === email)!.text)![0];
    },
    { timeout: 30_000 },
  );
}

describe('the pages', () => {
  test('fit a phone, in light and dark, and nobody is shut out of them', async () => {
    const paths = ['/', '/links/x', await mailedLink('bora@example.com'), '/console/nothing/here'];
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const path of paths) {
        const page = await open(path, { colorScheme, viewport: { width: 360, height: 740 } });
        expect([path, await page.evaluate('document.documentElement.scrollWidth')]).toEqual([path, 360]);
        await page.evaluate(axe.source);
        const { violations } = (await page.evaluate('axe.run()')) as axe.AxeResults;
        expect([path, colorScheme, violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])]).toEqual([
          path,
          colorScheme,
          [],
        ]);
        const { backgroundColor } = (await page.evaluate('({ ...getComputedStyle(document.body) })')) as Record<
          string,
          string
        >;
        expect(backgroundColor).toBe(colorScheme === 'light' ? 'rgb(244, 240, 232)' : 'rgb(22, 19, 16)');
      }
    }
    expect(elsewhere()).toEqual([]);
    expect(complaints.filter((complaint) => !/status of (404|410)/.test(complaint))).toEqual([]);
  });

  test('let somebody choose a new password by the mailed link, once', async () => {
    const link = await mailedLink('kalfa@example.com');
    const page = await open(link);
    await page.getByLabel('New password', { exact: true }).fill('a-new-password-2026');
    await page.getByLabel('New password, once more').fill('not-the-same-2026');
    await page.getByRole('button').click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('New password', { exact: true }).fill('a-new-password-2026');
    await page.getByLabel('New password, once more').fill('a-new-password-2026');
    await page.getByRole('button').click();
    await page.getByRole('heading', { name: 'Your password is set.' }).waitFor();
    const signIn = await page.context().request.post('/users/login/', {
      data: { email: 'kalfa@example.com', password: 'a-new-password-2026' },
    });
    expect(signIn.status()).toBe(200);
    await page.goto(link);
    await page.getByRole('heading', { name: 'This link was used already or has expired.' }).waitFor();
  });
});
