/** The preference page and its neighbours in a real browser, without script, in every language and both schemes. */
import { join } from 'node:path';
import axe from 'axe-core';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Service } from '../service.ts';
import { openStage, type Stage } from './stage.ts';

let stage: Stage;
let service: Service;
let browser: Browser;
let account: number;

/** One call of the API with the key of the demo. */
async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(service.url + path, {
    method,
    headers: { authorization: 'Bearer assent_demo_key_2026', 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${text}`);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

const notices = {
  en: [
    'We write to you about offers, new products and news of our shops, at most twice a week. We give your address to nobody.',
    'By the link in every message, or here.',
  ],
  tr: [
    'Size kampanyalar, yeni ürünler ve mağazalarımızdan haberler hakkında haftada en fazla iki kez yazarız. Adresinizi kimseyle paylaşmayız.',
    'Her mesajdaki bağlantıyla ya da buradan.',
  ],
  nl: [
    'Wij schrijven u over aanbiedingen, nieuwe producten en nieuws van onze winkels, hooguit twee keer per week. Uw adres geven wij aan niemand.',
    'Via de link in elk bericht, of hier.',
  ],
  fr: [
    'Nous vous écrivons au sujet d’offres, de nouveaux produits et de nos boutiques, deux fois par semaine au plus. Nous ne donnons votre adresse à personne.',
    'Par le lien de chaque message, ou ici.',
  ],
} as const;

beforeAll(async () => {
  stage = await openStage();
  ({ service, browser } = stage);
  for (const [language, [text, withdrawal]] of Object.entries(notices)) {
    await call('POST', '/v1/notices', {
      purpose: 'marketing',
      channels: ['email', 'sms', 'whatsapp', 'call'],
      language,
      version: 'winter',
      text,
      withdrawal,
    });
  }
  const set = (name: string, value: unknown): Promise<unknown> => call('PUT', `/v1/settings/${name}`, { value });
  await set('CONSENT_CONTROLLER', {
    name: 'Çınar Fırın',
    address: 'Moda Caddesi 1, Kadıköy',
    contact: 'merhaba@cinar.example',
    jurisdiction: 'TR',
    storage: 'EU',
    retention: '',
    recipients: [],
  });
  await set('CONSENT_PURPOSES', {
    marketing: {
      title: {
        en: 'Offers and news',
        tr: 'Kampanyalar ve haberler',
        nl: 'Aanbiedingen en nieuws',
        fr: 'Offres et nouveautés',
      },
      channels: ['email', 'sms', 'whatsapp', 'call'],
    },
    birthday: {
      title: {
        en: 'A gift on your birthday',
        tr: 'Doğum günü hediyesi',
        nl: 'Een verjaardagscadeau',
        fr: 'Un cadeau d’anniversaire',
      },
      channels: ['email', 'sms'],
    },
  });
  await set('DOUBLE_OPT_IN', ['whatsapp', 'email']);
  const { items } = await call<{ items: { id: number }[] }>('GET', '/v1/accounts?email=ada@example.com');
  account = items[0]!.id;
});

afterAll(async () => {
  await stage?.close();
});

/** Addresses that were asked for beyond our own, and every complaint of the browser. */
const elsewhere: string[] = [];
const complaints: string[] = [];

afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  elsewhere.length = 0;
  complaints.length = 0;
});

async function open(path: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ baseURL: service.url, javaScriptEnabled: false, ...options });
  const page = await context.newPage();
  page.on('request', (request) => {
    if (!request.url().startsWith(`${service.url}/`)) elsewhere.push(request.url());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  await page.goto(path);
  return page;
}

const preferences = async (): Promise<string> =>
  new URL((await call<{ url: string }>('POST', `/v1/accounts/${account}/preference-link`)).url).pathname;
const unsubscribe = async (): Promise<string> => {
  const headers = await call<Record<string, string>>('GET', `/v1/accounts/${account}/unsubscribe-headers`);
  return new URL(headers['List-Unsubscribe']!.slice(1, -1)).pathname;
};
/** The link in the newest message to somebody. */
const messaged = (medium: 'sms' | 'mail', to: string, link: RegExp): Promise<string> =>
  vi.waitFor(
    async () => {
      const messages = await call<{ to: string; text: string }[]>('GET', `/v1/outbox/${medium}`);
      return link.exec(messages.findLast((message) => message.to === to)!.text)![0];
    },
    { timeout: 30_000 },
  );

/** Pictures for whoever works on the pages: set SHOTS to a folder. */
async function picture(page: Page, name: string): Promise<void> {
  const shots = process.env['SHOTS'];
  if (shots !== undefined) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

/** What axe has against a page, all of it unfolded. */
async function faultsOf(page: Page): Promise<unknown[]> {
  await page.evaluate(`for (const it of document.querySelectorAll('details')) it.open = true`);
  await page.evaluate(axe.source);
  const { violations } = (await page.evaluate('axe.run()')) as axe.AxeResults;
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
}

const titles = { en: 'Your preferences', tr: 'Tercihleriniz', nl: 'Uw voorkeuren', fr: 'Vos préférences' } as const;
const languages = ['en', 'tr', 'nl', 'fr'] as const;

test('a switch is moved and saved without script, and what was said is on the page', async () => {
  const page = await open(await preferences(), { locale: 'en-GB', viewport: { width: 1100, height: 900 } });
  await page.getByRole('heading', { name: 'Your preferences', level: 1 }).waitFor();
  const call = page.getByRole('switch', { name: 'Phone call' });
  const email = page.getByRole('group', { name: 'Offers and news' }).getByRole('switch', { name: 'E-mail' });
  await call.setChecked(true);
  await email.setChecked(false);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('status').filter({ hasText: 'Saved.' }).waitFor();
  expect([await call.isChecked(), await email.isChecked()]).toEqual([true, false]);
  await picture(page, 'saved');
  // The link proves the address it went to: a yes for it waits for nothing.
  await email.setChecked(true);
  await page.getByRole('switch', { name: 'WhatsApp' }).setChecked(true);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('status').filter({ hasText: 'A message is on its way' }).waitFor();
  expect(await email.isChecked()).toBe(true);
  await page.getByText('Waiting for your confirmation, by the message that was sent to this address.').waitFor();
  // Another language keeps the page and its form.
  await page.getByRole('link', { name: 'Türkçe' }).click();
  await page.getByRole('heading', { name: 'Tercihleriniz', level: 1 }).waitFor();
  await page.getByRole('button', { name: 'Kaydet' }).click();
  await page.getByRole('status').filter({ hasText: 'Kaydedildi.' }).waitFor();
  expect([elsewhere, complaints]).toEqual([[], []]);
});

test('everything ends by one button, and by one in a mail', async () => {
  const page = await open(await preferences(), { locale: 'en-GB' });
  await page.getByRole('button', { name: 'Unsubscribe from everything' }).click();
  await page.getByRole('status').waitFor();
  for (const box of await page.getByRole('switch').all()) expect(await box.isChecked()).toBe(false);
  await page.goto(await unsubscribe());
  await picture(page, 'unsubscribe');
  await page.getByRole('button', { name: 'Unsubscribe' }).click();
  await page.getByRole('heading', { name: 'You are unsubscribed.' }).waitFor();
  await picture(page, 'unsubscribed');
  await page.getByRole('button', { name: 'Send me the link' }).click();
  await page.getByRole('heading', { name: 'Look into your messages.' }).waitFor();
  const link = await messaged('mail', 'ada@example.com', /\/preferences\/[\w-]+/);
  await page.goto(link);
  await page.getByRole('heading', { name: 'Your preferences' }).waitFor();
  expect([elsewhere, complaints]).toEqual([[], []]);
});

test('everything can be done with the keyboard alone, and one sees where one is', async () => {
  const page = await open(await preferences(), { locale: 'en-GB', javaScriptEnabled: true });
  const focused = (): Promise<string> =>
    page.evaluate('document.activeElement.name || document.activeElement.textContent.trim()');
  const reached: string[] = [];
  for (let step = 0; step < 12; step += 1) {
    await page.keyboard.press('Tab');
    const at = await focused();
    reached.push(at);
    expect([at, await page.evaluate('getComputedStyle(document.activeElement).outlineStyle')]).toEqual([at, 'solid']);
  }
  expect(reached).toEqual([
    'English',
    'Türkçe',
    'Nederlands',
    'Français',
    'on.marketing.email',
    'on.marketing.sms',
    'on.marketing.whatsapp',
    'on.marketing.call',
    'on.birthday.email',
    'on.birthday.sms',
    'Save',
    'Unsubscribe from everything',
  ]);
  const sms = page.getByRole('group', { name: 'Offers and news' }).getByRole('switch', { name: 'SMS' });
  const before = await sms.isChecked();
  await sms.focus();
  await page.keyboard.press('Space');
  await page.keyboard.press('Enter');
  await page.getByRole('status').waitFor();
  expect(await sms.isChecked()).toBe(!before);
});

test('all pages are whole in every language, in light and dark, on a small phone and a desk', async () => {
  const page = await open(await preferences(), { locale: 'en-GB' });
  for (const name of ['WhatsApp', 'Phone call']) await page.getByRole('switch', { name }).setChecked(false);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('switch', { name: 'WhatsApp' }).setChecked(true);
  await page.getByRole('button', { name: 'Save' }).click();
  const { phone } = await call<{ phone: string }>('GET', `/v1/accounts/${account}`);
  const confirm = await messaged('sms', phone, /\/preferences\/confirm\/[\w-]+/);
  await call('POST', '/v1/links/unsubscribe-headers', { recipient: 'ada@example.com' });
  const dead = await preferences();
  await call('DELETE', `/v1/accounts/${account}/preference-link`);
  const paths: [string, string][] = [
    ['preferences', await preferences()],
    ['confirm', confirm],
    ['unsubscribe', await unsubscribe()],
    ['over', dead],
    ['forged', '/preferences/x'],
  ];
  for (const language of languages) {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [320, 1100]) {
        const options = { colorScheme, viewport: { width, height: 800 }, locale: language, javaScriptEnabled: true };
        const looked = await open(paths[0]![1], options);
        for (const [name, path] of paths) {
          const place = [name, language, colorScheme, width];
          await looked.goto(path);
          await picture(looked, place.join('-'));
          expect([place, await looked.evaluate('document.documentElement.scrollWidth')]).toEqual([place, width]);
          expect([place, await looked.evaluate('document.documentElement.lang')]).toEqual([place, language]);
          expect([place, await faultsOf(looked)]).toEqual([place, []]);
          // What is touched is as tall as a thumb needs it.
          const small = await looked.evaluate(
            `[...document.querySelectorAll('main button, label.switch, summary, nav a')].filter((it) => it.getBoundingClientRect().height < 44).map((it) => it.textContent.trim())`,
          );
          expect([place, small]).toEqual([place, []]);
          if (name === 'preferences')
            expect(await looked.getByRole('heading', { level: 1 }).textContent()).toBe(titles[language]);
        }
        await looked.context().close();
      }
    }
  }
  expect(elsewhere).toEqual([]);
  expect(complaints.filter((complaint) => !/status of (404|410)/.test(complaint))).toEqual([]);
}, 240_000);
