import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Service } from '../service.ts';
import { look, openStage, type Stage } from './stage.ts';

const PROFILE = '/users/profile-with-loyalty/';
const OLD = '+905338001122';
let stage: Stage;
let service: Service;

beforeAll(async () => {
  stage = await openStage('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE=true');
  ({ service } = stage);
});

afterAll(async () => {
  await stage?.close();
});

async function call<T>(method: string, path: string, body?: object, authorization?: string): Promise<T> {
  const response = await fetch(`${service.url}${path}`, {
    method,
    headers: { authorization: authorization ?? 'Bearer assent_demo_key_2026', 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  expect([path, response.status < 300, text]).toEqual([path, true, text]);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/** What a message to a number has, as soon as it is there. */
const messaged = (to: string, what: RegExp): Promise<string> =>
  vi.waitFor(
    async () => {
      const sent = await call<{ to: string; text: string }[]>('GET', '/v1/outbox/sms');
      return what.exec(sent.findLast((message) => message.to === to && what.test(message.text))!.text)![0];
    },
    { timeout: 30_000 },
  );

const register = async (email: string, more: object = {}): Promise<string> => {
  const body = { email, password: 'correct-horse-battery', ...more };
  const { key } = await call<{ key: string }>('POST', '/users/registration/', body, 'none');
  return `Token ${key}`;
};

/** Somebody who had a number, and the link to it. */
async function lost(): Promise<string> {
  const owner = await register('owner@example.com');
  await call('PATCH', PROFILE, { phone: OLD }, owner);
  await call('PATCH', PROFILE, { phone: OLD, code: await messaged(OLD, /\b\d{6}\b/) }, owner);
  await call('PATCH', PROFILE, { phone: null }, owner);
  return messaged(OLD, /\/phone\/undo\/[0-9a-f]{64}/);
}

test('the question, the refusal and the end are whole in every language, in light and dark, on a phone and a desk', async () => {
  const link = await lost();
  const holder = await register('holder@example.com', { phone: OLD });
  for (const language of ['en', 'tr', 'nl', 'fr']) {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [320, 1100]) {
        const page = await stage.open(link, { colorScheme, locale: language, viewport: { width, height: 800 } });
        expect(await page.evaluate('document.documentElement.lang')).toBe(language);
        await look(page, ['question', language, colorScheme, width], width);
        await page.getByRole('button').click();
        await page.getByRole('alert').waitFor();
        await look(page, ['taken', language, colorScheme, width], width);
        await page.goto('/phone/undo/x');
        await look(page, ['over', language, colorScheme, width], width);
        await page.context().close();
      }
    }
  }
  await call('PATCH', '/users/profile/', { phone: null }, holder);
  const page = await stage.open(link, {
    locale: 'en',
    javaScriptEnabled: false,
    viewport: { width: 320, height: 800 },
  });
  await page.getByRole('link', { name: 'Türkçe' }).click();
  await page.getByRole('button', { name: 'Numarayı geri al' }).click();
  await page.getByRole('heading', { name: 'Telefon numaranız geri geldi.', level: 1 }).waitFor();
  await page.context().close();
  expect(stage.complaints.filter((complaint) => !/status of (409|410)/.test(complaint))).toEqual([]);
}, 120_000);
