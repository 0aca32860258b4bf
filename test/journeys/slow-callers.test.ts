/** Callers who are slow to send what they were let in with: what they lost meanwhile counts. */
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { switchAccount } from '../../src/admin/acts.ts';
import { createApiKey, revokeApiKey } from '../../src/admin/keys.ts';
import { throttleScopes } from '../../src/settings.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { type Client, createKit, type Kit, PASSWORD } from '../kit.ts';

let kit: Kit;
let port: number;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  await kit.http.listen({ host: '127.0.0.1', port: 0 });
  port = (kit.http.server.address() as AddressInfo).port;
});
afterAll(() => kit.close());

const cookiesOf = ({ cookies }: Client): Record<string, string> => ({
  cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
  'x-csrftoken': cookies.get('csrftoken')!,
});

const open = (method: string, path: string, headers: Record<string, string | number>): ClientRequest =>
  request({ host: '127.0.0.1', port, path, method, headers });

/** Time itself is what counts here: being let in is good for a tenth of a second. */
const later = (): Promise<void> => new Promise((done) => setTimeout(done, 250));

/** Sends the head and one byte, does something, and sends the rest. @returns `status code` */
async function holding(
  method: string,
  path: string,
  { headers, body }: { headers: Record<string, string>; body: unknown },
  meanwhile: () => Promise<unknown>,
): Promise<string> {
  const text = JSON.stringify(body);
  const sent = open(method, path, {
    ...headers,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  const answered = once(sent, 'response') as Promise<[IncomingMessage]>;
  sent.write(text.slice(0, 1));
  await later();
  await meanwhile();
  sent.end(text.slice(1));
  const [response] = await answered;
  let answer = '';
  for await (const piece of response) answer += String(piece);
  return `${response.statusCode} ${(JSON.parse(answer) as { code?: string }).code}`;
}

test('an operator who is switched off before the body came changes no setting', async () => {
  const bad = await kit.operator();
  await kit.operator();
  const body = { value: ['https://evil.example'] };
  const setting = '/v1/settings/ALLOWED_ORIGINS';
  expect(
    await holding('PUT', setting, { headers: cookiesOf(bad), body }, () =>
      switchAccount(kit.ctx, bad.id, false, atTheMachine),
    ),
  ).toBe('401 not_authenticated');
  expect(kit.ctx.settings.get('ALLOWED_ORIGINS')).toEqual([]);
  expect(await kit.rows(`select * from setting_change where name = 'ALLOWED_ORIGINS'`)).toEqual([]);
});

test('an owner who is switched off before the body came gives nobody a right', async () => {
  const [owner, friend] = [await kit.signUp(), await kit.signUp()];
  const bearer = await kit.bearer(owner.email);
  const { id, shops } = await createCompany(kit.ctx, {
    name: { en: 'Bakery' },
    owner: owner.email,
    shops: [{ en: 'Moda' }],
    language: 'en',
  });
  const family = `/company/companies/${id}/permissions/users`;
  const { body: entry } = await bearer('POST', family, { body: { email: friend.email } });
  const { body: tokens } = await kit.send('POST', '/api/token', {
    body: { grant_type: 'password', client_id: 'kit', username: owner.email, password: PASSWORD },
  });
  const headers = { authorization: `Bearer ${tokens.access_token}` };
  const body = { shop_ids: [shops[0]!.id], permissions: { permissions: true } };
  expect(
    await holding('PATCH', `${family}/${entry.id}`, { headers, body }, () =>
      switchAccount(kit.ctx, owner.id, false, atTheMachine),
    ),
  ).toBe('401 invalid_token');
  expect(await kit.rows('select shop_ids, permissions, version from entry where id = $1', entry.id)).toEqual([
    { shop_ids: [], permissions: [], version: 1 },
  ]);
});

test('a key that is revoked before the body came does nothing', async () => {
  const { email } = await kit.signUp({ email_allowed: true });
  const { id, key } = await createApiKey(kit.ctx, { name: 'slow', scopes: ['decisions'] }, atTheMachine);
  const headers = { authorization: `Bearer ${key}` };
  const body = { recipient: email, channel: 'email' };
  const path = '/v1/decisions/contact';
  expect(await holding('POST', path, { headers, body }, async () => {})).toBe('200 granted');
  expect(await holding('POST', path, { headers, body }, () => revokeApiKey(kit.ctx, id, atTheMachine))).toBe(
    '401 invalid_token',
  );
});

test('a stream ends with an error once its key is revoked', async () => {
  const { email } = await kit.signUp({ email_allowed: true });
  const { id, key } = await createApiKey(kit.ctx, { name: 'stream', scopes: ['decisions'] }, atTheMachine);
  const sent = open('POST', '/v1/decisions/contact', {
    authorization: `Bearer ${key}`,
    'content-type': 'application/x-ndjson',
  });
  const line = `${JSON.stringify({ recipient: email, channel: 'email' })}\n`;
  const answered = once(sent, 'response') as Promise<[IncomingMessage]>;
  sent.write(line);
  const [response] = await answered;
  const pieces = response.setEncoding('utf8')[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => JSON.parse((await pieces.next()).value as string);
  expect(await next()).toMatchObject({ allowed: true });
  await later();
  sent.write(line);
  expect(await next()).toMatchObject({ allowed: true });
  await revokeApiKey(kit.ctx, id, atTheMachine);
  await later();
  sent.write(line);
  expect(await next()).toMatchObject({ error: { code: 'invalid_token', status: 401 } });
  // Cut off: the sender is not waited for to finish.
  await expect(next()).rejects.toMatchObject({ message: 'aborted' });
});
