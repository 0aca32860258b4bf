import { createHmac } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import Compile from 'typebox/compile';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type FakeProvider, fakeProvider } from '../../../test/fake-provider.ts';
import type { Attempt, Incoming, Member } from './connector.ts';
import { http } from './http.ts';

const member: Member = {
  id: 7,
  email: 'ada"@example.com',
  first_name: 'Ada',
  last_name: 'Yılmaz',
  phone: null,
  gender: 'female',
  date_of_birth: '1990-12-10',
  language: 'tr',
  active: true,
  attributes: { club: { b: 2, a: [1] }, size: 38 },
  consents: { email: true, sms: false, call: false, whatsapp: false },
  joined_at: '2026-11-21T08:00:00.000Z',
};
const attempt: Attempt = {
  key: '0b7b2a52-9d8e-4d4c-a4a0-5d3c5a1f2e77',
  sequence: 12,
  at: new Date('2026-11-21T08:00:00.500Z'),
};
const SIGNING = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAECAwQFBgc=';

let provider: FakeProvider;
let setting: Record<string, unknown>;

beforeAll(async () => {
  provider = await fakeProvider();
});
afterAll(() => provider.close());
beforeEach(() => {
  provider.asked.length = 0;
  provider.answers(() => ({ status: 204 }));
  setting = {
    connector: 'http',
    url: `${provider.base}/members/{account}?of=shop`,
    headers: { Authorization: 'Bearer {secret}', 'X-Try': '{key}/{sequence}' },
    secret: 's3cret',
    fields: {
      mail: 'email',
      'name.first': 'first_name',
      'name.last': 'last_name',
      phone: 'phone',
      sms: 'consents.sms',
      club: 'attributes.club',
      none: 'attributes.none',
      source: '=web shop',
      version: '=2',
      constructor: 'id',
      __proto__x: 'active',
    },
  };
});

const put = (): ReturnType<FakeProvider['ask']> => provider.ask(http.put(setting as never, member, attempt));

describe('what is sent', () => {
  test('a member is put where the template says, each value where its name leads', async () => {
    expect(http.judge(await put(), 'put')).toBe('done');
    const [asked] = provider.asked;
    expect(asked!.line).toBe('PUT /members/7?of=shop');
    expect(asked!.headers).toMatchObject({
      'content-type': 'application/json',
      authorization: 'Bearer s3cret',
      'x-try': '0b7b2a52-9d8e-4d4c-a4a0-5d3c5a1f2e77/12',
      'idempotency-key': '0b7b2a52-9d8e-4d4c-a4a0-5d3c5a1f2e77',
      'assent-sequence': '12',
    });
    expect(asked!.headers['webhook-signature']).toBeUndefined();
    expect(JSON.parse(asked!.body)).toEqual({
      mail: 'ada"@example.com',
      name: { first: 'Ada', last: 'Yılmaz' },
      phone: null,
      sms: false,
      club: { b: 2, a: [1] },
      none: null,
      source: 'web shop',
      version: 2,
      constructor: 7,
      __proto__x: true,
    });
  });

  test('a name that others follow is a plain name', async () => {
    setting['fields'] = JSON.parse('{"__proto__.polluted":"first_name","a":"email","a.b":"last_name"}');
    await put();
    expect(provider.asked[0]!.body).toBe('{"__proto__":{"polluted":"Ada"},"a":{"b":"Yılmaz"}}');
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('a method of the setting is used, and a line break in a secret begins no header', async () => {
    const call = http.put({ ...setting, method: 'POST', secret: 'a\r\nx-evil: 1' } as never, member, attempt);
    expect(call.method).toBe('POST');
    expect(call.headers['authorization']).toBe('Bearer a  x-evil: 1');
  });

  test('a signature that libraries of Standard Webhooks accept is over id, time and body', async () => {
    setting['signing_secret'] = SIGNING;
    await put();
    const { headers, body } = provider.asked[0]!;
    expect(headers['webhook-id']).toBe(attempt.key);
    expect(headers['webhook-timestamp']).toBe('1795248000');
    expect(headers['webhook-signature']).toBe(new Webhook(SIGNING).sign(attempt.key, attempt.at, body));
  });

  test('forgetting is a DELETE with a key of its own, or nothing', async () => {
    setting['signing_secret'] = SIGNING;
    const forget = http.forget(setting as never, 7, attempt)!;
    provider.answers(() => ({ status: 404, body: {} }));
    expect(http.judge(await provider.ask(forget), 'forget')).toBe('done');
    expect(provider.asked[0]).toMatchObject({ line: 'DELETE /members/7?of=shop', body: '' });
    expect(provider.asked[0]!.headers).toMatchObject({
      'idempotency-key': attempt.key,
      'assent-sequence': '12',
      'webhook-signature': new Webhook(SIGNING).sign(attempt.key, attempt.at, ''),
    });
    expect(http.forget({ ...setting, forget: 'none' } as never, 7, attempt)).toBeNull();
  });
});

describe('what an answer means', () => {
  test.each([
    [200, 'done'],
    [201, 'done'],
    [301, { again: 'HTTP 301' }],
    [400, { refused: 'HTTP 400' }],
    [401, { again: 'HTTP 401' }],
    [404, { refused: 'HTTP 404' }],
    [409, { again: 'HTTP 409' }],
    [422, { refused: 'HTTP 422' }],
    [429, { again: 'HTTP 429', after: 17 }],
    [500, { again: 'HTTP 500' }],
    [503, { again: 'HTTP 503' }],
  ])('%i', async (status, verdict) => {
    provider.answers(() => ({ status, headers: status === 429 ? { 'retry-after': '17' } : {} }));
    expect(http.judge(await put(), 'put')).toEqual(verdict);
  });
});

describe('reading', () => {
  test('what was put is known as what was shown', async () => {
    await put();
    const stored = provider.asked[0]!.body;
    provider.answers(() => ({ status: 200, body: stored }));
    const ask = http.ask(setting as never, 7)!;
    const known = http.known(setting as never, await provider.ask(ask));
    expect(known).toEqual({ shown: http.shows(setting as never, member) });
    expect(known).toMatchObject({
      shown: {
        email: 'ada"@example.com',
        'consents.sms': false,
        'attributes.club': '{"a":[1],"b":2}',
        '=version': '2',
      },
    });
    expect(provider.asked[1]!.line).toBe('GET /members/7?of=shop');
    expect(provider.asked[1]!.headers['authorization']).toBe('Bearer s3cret');
    // There is no attempt to be named.
    expect(provider.asked[1]!.headers['x-try']).toBeUndefined();
  });

  test('fields that an answer lacks are empty, 404 is nobody, and anything else is asked again', async () => {
    const read = async (status: number, body: unknown): Promise<unknown> => {
      provider.answers(() => ({ status, body }));
      return http.known(setting as never, await provider.ask(http.ask(setting as never, 7)!));
    };
    expect(await read(200, { name: 'Ada' })).toMatchObject({
      shown: { email: null, first_name: null, '=source': null },
    });
    expect(await read(404, {})).toEqual({ shown: null });
    expect(await read(500, {})).toEqual({ again: 'HTTP 500' });
    expect(await read(200, '<html>')).toEqual({ again: 'the answer is no JSON object' });
    expect(http.ask({ ...setting, read: 'none' } as never, 7)).toBeNull();
  });
});

describe('what the provider sends', () => {
  const now = new Date('2026-11-21T08:00:00Z');
  const incoming = (body: string, more: Record<string, string> = {}, at = now): Incoming => ({
    url: 'https://shop.example/v1/loyalty/messages',
    headers: {
      'webhook-id': 'm1',
      'webhook-timestamp': String(now.getTime() / 1000),
      'webhook-signature': new Webhook(SIGNING).sign('m1', now, body),
      ...more,
    },
    body,
    at,
  });
  const take = (message: Incoming): unknown => http.take!({ ...setting, incoming_secret: SIGNING } as never, message);
  const news = { account: 7, card_number: 'L-1', tier: 'Gold', points: 12.5, at: '2026-11-21T07:59:59.5Z' };

  test('a signed message tells of one, or of several', () => {
    const told = { ...news, at: new Date('2026-11-21T07:59:59.500Z') };
    expect(take(incoming(JSON.stringify(news)))).toEqual({ id: 'm1', told: [told] });
    expect(take(incoming(JSON.stringify([news, { account: '8', points: null, at: news.at }])))).toEqual({
      id: 'm1',
      told: [told, { account: 8, points: null, at: told.at }],
    });
  });

  test('one of several signatures is enough, and a secret without whsec_ is the key itself', () => {
    const body = JSON.stringify(news);
    const good = incoming(body).headers['webhook-signature']!;
    expect(take(incoming(body, { 'webhook-signature': `v1,AAAA ${good}` }))).toMatchObject({ id: 'm1' });
    const plain = 'a plain secret of ours';
    const signature = createHmac('sha256', plain)
      .update(`m1.${now.getTime() / 1000}.${body}`)
      .digest('base64');
    expect(
      http.take!(
        { ...setting, incoming_secret: plain } as never,
        incoming(body, { 'webhook-signature': `v1,${signature}` }),
      ),
    ).toMatchObject({ id: 'm1' });
  });

  test('what is not signed so, or too old, is nobody’s', () => {
    const body = JSON.stringify(news);
    const good = incoming(body);
    expect(take({ ...good, body: body.replace('Gold', 'Gild') })).toBeUndefined();
    expect(take(incoming(body, { 'webhook-id': 'm2' }))).toBeUndefined();
    expect(take(incoming(body, { 'webhook-timestamp': '1795247999' }))).toBeUndefined();
    expect(take(incoming(body, { 'webhook-signature': 'v1,' }))).toBeUndefined();
    expect(take({ ...good, headers: {} })).toBeUndefined();
    expect(take({ ...good, at: new Date(now.getTime() + 300_000) })).toMatchObject({ id: 'm1' });
    expect(take({ ...good, at: new Date(now.getTime() + 301_000) })).toBeUndefined();
    expect(take({ ...good, at: new Date(now.getTime() - 301_000) })).toBeUndefined();
    expect(http.take!(setting as never, good)).toBeNull();
  });

  test.each([
    ['{', [], 'must be JSON'],
    ['7', [], 'must be an object'],
    ['[7]', ['0'], 'must be an object'],
    [{ ...news, account: 1.5 }, ['account'], 'must be the id of an account'],
    [{ ...news, account: undefined }, ['account'], 'must be the id of an account'],
    [{ ...news, points: '12' }, ['points'], 'must be a number or null'],
    [{ ...news, points: 1e13 }, ['points'], 'must be between -1000000000000 and 1000000000000'],
    [{ ...news, card_number: 'x'.repeat(101) }, ['card_number'], 'must have 1 to 100 characters'],
    [{ ...news, card_number: 'a\nb' }, ['card_number'], 'must have no control characters'],
    [{ ...news, tier: 3 }, ['tier'], 'must be a text or null'],
    [{ ...news, at: '2026-11-21' }, ['at'], 'must be a time as of RFC 3339'],
    [{ ...news, at: '2026-11-21T08:05:01Z' }, ['at'], 'must not be in the future'],
    [[news, { ...news, tier: '' }], ['1', 'tier'], 'must have 1 to 100 characters'],
  ])('%j is told where it is wrong', (body, path, detail) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    expect(take(incoming(text))).toEqual({ wrong: [{ path, detail }] });
  });

  test('of a thousand and one nothing is taken', () => {
    expect(take(incoming(JSON.stringify(Array(1001).fill(news))))).toEqual({
      wrong: [{ path: [], detail: 'must have at most 1000 members' }],
    });
  });
});

describe('the setting', () => {
  const validator = Compile(http.schema);
  test('is taken whole', () => {
    expect([...validator.Errors({ ...setting, method: 'PATCH', forget: 'none', read: 'GET' })]).toEqual([]);
  });
  test.each([
    ['url', 'https://x.example/members'],
    ['url', 'https://{account}.example/'],
    ['url', 'https://x.example/{account}/{account}'],
    ['url', 'https://user:pw@x.example/{account}'],
    ['url', 'ftp://x.example/{account}'],
    ['method', 'DELETE'],
    ['headers', { 'Content-Length': '1' }],
    ['headers', { 'Idempotency-Key': 'x' }],
    ['headers', { 'a b': 'x' }],
    ['headers', { a: 'x\ny' }],
    ['fields', {}],
    ['fields', { a: 'password' }],
    ['fields', { 'a..b': 'email' }],
    ['fields', { a: 'consents.fax' }],
    ['incoming_secret', 'short'],
    ['more', 1],
  ])('refuses %s %j', (name, value) => {
    expect(validator.Check({ ...setting, [name]: value })).toBe(false);
  });
});
