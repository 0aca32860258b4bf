/** Signing in for a program, in a real browser: browsers hold redirects after a form to the policy of its page. */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import axe from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Service } from '../service.ts';
import { openStage, type Stage } from './stage.ts';

let stage: Stage;
let service: Service;
let browser: Browser;
/** The program: a server of another origin that thanks whoever is sent to it. */
let program: Server;
let back: string;
const complaints: string[] = [];

const verifier = randomBytes(32).toString('base64url');
const code_challenge = createHash('sha256').update(verifier).digest('base64url');

beforeAll(async () => {
  stage = await openStage();
  ({ service, browser } = stage);
  program = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<title>Thank you</title><link rel="icon" href="data:,">');
  });
  await new Promise<void>((resolve) => program.listen(0, '127.0.0.1', resolve));
  back = `http://127.0.0.1:${(program.address() as AddressInfo).port}/cb`;
  for (const [id, first_party] of [
    ['third', false],
    ['own', true],
  ] as const) {
    const response = await fetch(`${service.url}/v1/clients`, {
      method: 'POST',
      headers: { authorization: 'Bearer assent_demo_key_2026', 'content-type': 'application/json' },
      body: JSON.stringify({ id, name: `The ${id} program`, redirect_uris: ['http://127.0.0.1/cb'], first_party }),
    });
    expect(response.status).toBe(201);
  }
});

afterAll(async () => {
  await stage?.close();
  program?.close();
});

async function arrive(client_id: string, more: Record<string, string> = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, locale: 'en' });
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  const asked = { response_type: 'code', client_id, redirect_uri: back, state: 'a b&c', code_challenge, ...more };
  await page.goto(`${service.url}/oauth/authorize?${new URLSearchParams(asked)}`);
  expect(new URL(page.url()).pathname).toBe('/account/sign-in');
  await page.fill('#email', 'usta@example.com');
  await page.fill('#password', 'demo-assent-2026');
  await page.click('main form button');
  return page;
}

/** What the program was told. */
async function told(page: Page): Promise<Record<string, string>> {
  await page.waitForURL(`${back}?*`);
  expect(await page.title()).toBe('Thank you');
  return Object.fromEntries(new URL(page.url()).searchParams);
}

async function tokens(client_id: string, code: string): Promise<number> {
  const body = JSON.stringify({ grant_type: 'code', client_id, code, code_verifier: verifier, redirect_uri: back });
  const headers = { 'content-type': 'application/json' };
  return (await fetch(`${service.url}/api/token`, { method: 'POST', headers, body })).status;
}

test('somebody signs in, is asked, allows it, and the program gets its tokens', async () => {
  const page = await arrive('third');
  await page.waitForSelector('button[value=allow]');
  for (const lang of ['en', 'tr', 'nl', 'fr']) {
    await page.click(`nav a[lang=${lang}]`);
    await page.evaluate(axe.source);
    const { violations } = (await page.evaluate('axe.run()')) as axe.AxeResults;
    expect([lang, violations.map(({ id }) => id)]).toEqual([lang, []]);
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(390);
    expect(await page.textContent('h1')).toContain('The third program');
  }
  await page.click('button[value=allow]');
  const { code, ...rest } = await told(page);
  expect(rest).toEqual({ state: 'a b&c' });
  expect(await tokens('third', code!)).toBe(200);
  await page.context().close();
});

test('somebody does not allow it', async () => {
  const page = await arrive('third');
  await page.click('button[value=deny]');
  expect(await told(page)).toMatchObject({ error: 'access_denied', state: 'a b&c' });
  await page.context().close();
});

test('a program of the shop itself is led on from the sign-in form without another page', async () => {
  const page = await arrive('own');
  const { code } = await told(page);
  expect(await tokens('own', code!)).toBe(200);
  await page.context().close();
});

test('the browser found nothing to complain of', () => {
  expect(complaints).toEqual([]);
});
