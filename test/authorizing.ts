/** What a program does to speak for somebody, for the tests of it. */
import { createHash, randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import type { Client as Browser, Kit, Reply } from './kit.ts';

export type Texts = Record<string, string>;

export const BACK = 'https://app.example/signed-in?from=assent';
export const STATE = 'a state, & more=1';
export const verifier = randomBytes(32).toString('base64url');
export const challenge = createHash('sha256').update(verifier).digest('base64url');
export const right = {
  response_type: 'code',
  client_id: 'app',
  redirect_uri: BACK,
  state: STATE,
  code_challenge: challenge,
};

/** @param more replaces parameters; an empty text leaves one out */
export function address(more: Texts = {}): string {
  const all = Object.entries({ ...right, ...more }).filter(([, value]) => value !== '');
  return `/oauth/authorize?${new URLSearchParams(all)}`;
}

export const fieldOf = ({ text }: Reply, name: string): string =>
  new RegExp(`name="${name}" value="([^"]*)"`).exec(text)?.[1] ?? '';

export const look = (who: Browser, more?: Texts): Promise<Reply> => who.send('GET', address(more));

/** Looks at the page and presses one of its buttons. @param by replaces fields of the form */
export async function answer(who: Browser, pressed: string, more: Texts = {}, by: Texts = {}): Promise<Reply> {
  const page = await look(who, more);
  expect(page.status, page.text).toBe(200);
  const form = { csrfmiddlewaretoken: fieldOf(page, 'csrfmiddlewaretoken'), account: fieldOf(page, 'account') };
  return who.send('POST', address(more), { form: String(new URLSearchParams({ ...form, answer: pressed, ...by })) });
}

/** What an address says in its query. */
export const said = (reply: Reply): Texts =>
  Object.fromEntries(new URL(String(reply.headers['location'])).searchParams.entries());

export async function codeFor(who: Browser, more: Texts = {}): Promise<string> {
  const reply = await answer(who, 'allow', more);
  expect(reply.status, reply.text).toBe(303);
  return said(reply)['code']!;
}

/** @param more replaces members of the body; an empty text leaves one out */
export const exchange = (kit: Kit, code: string, more: Texts = {}): Promise<Reply> =>
  kit.send('POST', '/api/token', {
    body: Object.fromEntries(
      Object.entries({ grant_type: 'code', client_id: 'app', code, code_verifier: verifier, ...more }).filter(
        ([, value]) => value !== '',
      ),
    ),
  });

export const refresh = (kit: Kit, refresh_token: string, more: Texts = {}): Promise<Reply> =>
  kit.send('POST', '/api/token', { body: { grant_type: 'refresh_token', refresh_token, ...more } });

/** Whether the access token of an answer opens anything. */
export const works = async (kit: Kit, { body }: Reply): Promise<boolean> => {
  const headers = { authorization: `Bearer ${body.access_token}` };
  return (await kit.send('GET', '/user', { headers })).status === 200;
};

export const expectRefused = ({ status, body }: Reply, expected: string): void =>
  expect([status, body.code, body.error]).toEqual([expected === 'invalid_client' ? 401 : 400, expected, expected]);
