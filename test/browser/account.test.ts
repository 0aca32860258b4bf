import { TOTP } from 'otpauth';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Service } from '../service.ts';
import { look, openStage, type Stage } from './stage.ts';

const PASSWORD = 'demo-assent-2026';
let stage: Stage;
let service: Service;

beforeAll(async () => {
  stage = await openStage('THROTTLING_SETTINGS={"login":null,"profile-update":null}');
  ({ service } = stage);
});

afterAll(async () => {
  await stage?.close();
});

const byId = (page: Page, id: string) => page.locator(`#${id}`);
const send = (page: Page): Promise<void> => page.locator('main form button').last().click();

async function signIn(page: Page, email: string): Promise<void> {
  await byId(page, 'email').fill(email);
  await byId(page, 'password').fill(PASSWORD);
  await send(page);
}

/** Another sign-in of the account, as a till has. */
async function otherSignIn(email: string): Promise<void> {
  const response = await fetch(`${service.url}/api/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      grant_type: 'password',
      client_id: 'demo',
      device_id: 'till',
      device_name: 'A till with a name that is quite long, behind the counter',
      username: email,
      password: PASSWORD,
    }),
  });
  expect(response.status).toBe(200);
}

// Every look has its own account, so that none waits for the next code of another.
const people = [
  'ada@example.com',
  'bora@example.com',
  'usta@example.com',
  'cirak@example.com',
  'rakip@example.com',
  'operator@example.com',
];

test('every page is whole in every language, in light and dark, on a phone and a desk', async () => {
  const kinds = [
    ['en', 'light', 320],
    ['tr', 'dark', 320],
    ['nl', 'light', 1100],
    ['fr', 'dark', 320],
    ['fr', 'light', 1100],
  ] as const;
  for (const [index, [language, colorScheme, width]] of kinds.entries()) {
    const email = people[index]!;
    const place = (name: string): unknown[] => [name, language, colorScheme, width];
    await otherSignIn(email);
    const page = await stage.open('/account', { colorScheme, locale: language, viewport: { width, height: 800 } });
    expect([await page.evaluate('document.documentElement.lang'), new URL(page.url()).pathname]).toEqual([
      language,
      '/account/sign-in',
    ]);
    await look(page, place('sign-in'), width);
    await page.locator('main a[href^="/account/forgotten"]').click();
    await byId(page, 'password').waitFor({ state: 'detached' });
    await look(page, place('forgotten'), width);
    await byId(page, 'email').fill(email);
    await send(page);
    await page.getByRole('status').waitFor();
    await look(page, place('forgotten-sent'), width);
    await page.locator('main a[href^="/account/sign-in"]').click();
    await byId(page, 'password').waitFor();
    await byId(page, 'email').fill(email);
    await byId(page, 'password').fill('wrong-horse-battery');
    await send(page);
    await page.getByRole('alert').waitFor();
    expect(await byId(page, 'email').inputValue()).toBe(email);
    await look(page, place('sign-in-wrong'), width);
    await byId(page, 'password').fill(PASSWORD);
    await send(page);
    await page.waitForURL('**/account');
    await look(page, place('account'), width);
    await page.goto('/account/second-factor');
    await look(page, place('start'), width);
    await byId(page, 'password').fill(PASSWORD);
    await send(page);
    await page.waitForURL('**/set-up');
    await look(page, place('set-up'), width);
    const secret = (await page.locator('.secret').innerText()).replaceAll(' ', '');
    await byId(page, 'otp').fill('000 000');
    await send(page);
    await page.getByRole('alert').waitFor();
    await look(page, place('set-up-wrong'), width);
    await byId(page, 'otp').fill(new TOTP({ secret }).generate());
    await send(page);
    await page.locator('.codes').waitFor();
    expect(await page.locator('.codes li').count()).toBe(10);
    await look(page, place('codes'), width);
    const code = (await page.locator('.codes li').first().innerText()).trim();
    await page.locator('main a.button').click();
    await look(page, place('account-on'), width);
    await page.goto('/account/second-factor/off');
    await look(page, place('off'), width);
    await page.goto('/account/second-factor/recovery-codes');
    await look(page, place('new-codes'), width);
    await page.goto('/account');
    await page.locator('main form button').first().click();
    await page.waitForURL('**/account/sign-in**');
    await signIn(page, email);
    await byId(page, 'otp').waitFor();
    await look(page, place('code'), width);
    await byId(page, 'otp').fill('111111');
    await send(page);
    await page.getByRole('alert').waitFor();
    await look(page, place('code-wrong'), width);
    await byId(page, 'otp').fill(code);
    await send(page);
    await page.waitForURL('**/account');
    await page.context().close();
  }
  expect(stage.complaints.filter((complaint) => !/status of 400/.test(complaint))).toEqual([]);
}, 240_000);

test('all of it works by keyboard, without script, in the language somebody chose', async () => {
  const email = people[5]!;
  const page = await stage.open('/account', {
    javaScriptEnabled: false,
    locale: 'en',
    viewport: { width: 320, height: 800 },
  });
  await page.getByRole('link', { name: 'Türkçe' }).press('Enter');
  await page.getByLabel('E-posta adresi').fill(email);
  await page.keyboard.press('Tab');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Hesabınız', level: 1 }).waitFor();
  const second = await stage.open('/account/sign-in', { locale: 'en' });
  await signIn(second, email);
  await second.getByRole('heading', { name: 'Your account' }).waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Sonlandır Chrome (Linux)' }).press('Enter');
  await page.getByRole('status').filter({ hasText: 'O oturum sonlandırıldı.' }).waitFor();
  await second.reload();
  expect(new URL(second.url()).pathname).toBe('/account/sign-in');
  await page.getByRole('button', { name: 'Oturumu kapat' }).press('Enter');
  await page.getByRole('heading', { name: 'Oturum açın', level: 1 }).waitFor();
  await page.context().close();
  await second.context().close();
}, 60_000);
