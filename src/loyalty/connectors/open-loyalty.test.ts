/** Open Loyalty as its API document describes it: requests to the letter, answers in its shapes. */
import { createHash, createHmac } from 'node:crypto';
import Compile from 'typebox/compile';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Answering, type Asked, type FakeProvider, fakeProvider } from '../../../test/fake-provider.ts';
import type { Attempt, Incoming, Member, Verdict } from './connector.ts';
import { openLoyalty } from './open-loyalty.ts';

const member: Member = {
  id: 7,
  email: 'ada@example.com',
  first_name: 'Ada',
  last_name: 'Yılmaz',
  phone: '+905321234567',
  gender: 'female',
  date_of_birth: '1990-12-10',
  language: 'tr',
  active: true,
  attributes: {},
  consents: { email: true, sms: false, call: false, whatsapp: false },
  joined_at: '2026-11-21T08:00:00.000Z',
};
const attempt: Attempt = { key: '0b7b2a52-9d8e-4d4c-a4a0-5d3c5a1f2e77', sequence: 1, at: new Date() };
const SECRET = `whsec_${'f0'.repeat(32)}`;

let provider: FakeProvider;
let setting: Record<string, unknown>;
/** Members of the fake, by loyalty card number. */
let members: Map<string, Record<string, unknown>>;

const notFound: Answering = { status: 404, body: { code: 404, message: 'Not Found' } };
const invalid = (...paths: string[]): Answering => ({
  status: 400,
  body: {
    code: 400,
    message: 'Validation failed',
    errors: paths.map((path) => ({
      message: 'ada@example.com is taken',
      parameters: {},
      plural: null,
      code: 'x',
      path,
    })),
  },
});

/** The part of their API that is asked. */
function openLoyaltyAnswers({ line, headers, body }: Asked): Answering {
  const [method, path] = line.split(' ');
  if (headers['x-auth-token'] !== 'permanent')
    return { status: 401, body: { code: 401, message: 'Authentication Required' } };
  const card = /^\/api\/DEFAULT\/member\/loyaltyCardNumber=([0-9a-zA-Z._-]+)$/.exec(path!)?.[1];
  const { customer } = body === '' ? {} : JSON.parse(body);
  if (method === 'POST' && path === '/api/DEFAULT/member') {
    const taken = [...members.values()].filter((one) => one['email'] === customer.email);
    if (taken.length > 0) return invalid('customer.email');
    members.set(customer.loyaltyCardNumber, customer);
    const { email, phone = null, loyaltyCardNumber } = customer;
    return {
      status: 200,
      body: { customerId: 'b1e82242-9b73-48dc-ad5e-bfe8a3fb47f5', email, phone, loyaltyCardNumber },
    };
  }
  if (card === undefined || !members.has(card)) return notFound;
  if (method === 'PUT') {
    members.set(card, customer);
    return { status: 200, body: { customerId: 'b1e82242-9b73-48dc-ad5e-bfe8a3fb47f5' } };
  }
  if (method === 'GET') return { status: 200, body: { customerId: 'b1e82242', active: true, ...members.get(card) } };
  members.delete(card);
  return { status: 204 };
}

beforeAll(async () => {
  provider = await fakeProvider();
});
afterAll(() => provider.close());
beforeEach(() => {
  provider.asked.length = 0;
  provider.answers(openLoyaltyAnswers);
  members = new Map();
  setting = {
    connector: 'open_loyalty',
    url: provider.base,
    store_code: 'DEFAULT',
    token: 'permanent',
    card_prefix: 'shop-',
    incoming_secret: SECRET,
  };
});

/** Puts as a delivery does: the second call where the first answer asks for it. */
async function put(who: Member = member): Promise<Verdict> {
  let answer = await provider.ask(openLoyalty.put(setting as never, who, attempt));
  const other = openLoyalty.otherwise!(setting as never, who, attempt, answer);
  if (other !== null) answer = await provider.ask(other);
  return openLoyalty.judge(answer, 'put');
}
const known = async (): Promise<unknown> =>
  openLoyalty.known(setting as never, await provider.ask(openLoyalty.ask(setting as never, 7)!));

describe('telling', () => {
  test('a member they do not have is made, under the card number that is theirs from then on', async () => {
    expect(await put()).toBe('done');
    expect(provider.asked.map(({ line }) => line)).toEqual([
      'PUT /api/DEFAULT/member/loyaltyCardNumber=shop-7',
      'POST /api/DEFAULT/member',
    ]);
    const { headers, body } = provider.asked[1]!;
    expect(headers).toMatchObject({ 'x-auth-token': 'permanent', 'content-type': 'application/json' });
    expect(JSON.parse(body)).toEqual({
      customer: {
        firstName: 'Ada',
        lastName: 'Yılmaz',
        gender: 'female',
        email: 'ada@example.com',
        loyaltyCardNumber: 'shop-7',
        agreement2: true,
        phone: '+905321234567',
        birthDate: '1990-12-10',
      },
    });
  });

  test('one they have is changed, and what is gone goes there too', async () => {
    await put();
    provider.asked.length = 0;
    expect(await put({ ...member, phone: null, gender: null, date_of_birth: null })).toBe('done');
    expect(provider.asked.map(({ line }) => line)).toEqual(['PUT /api/DEFAULT/member/loyaltyCardNumber=shop-7']);
    expect(JSON.parse(provider.asked[0]!.body).customer).toMatchObject({
      phone: '',
      gender: 'not_disclosed',
      birthDate: '',
    });
  });

  test('a new one without a number has none', async () => {
    await put({ ...member, phone: null, date_of_birth: null });
    expect(Object.keys(members.get('shop-7')!)).not.toContain('phone');
    expect(Object.keys(members.get('shop-7')!)).not.toContain('birthDate');
  });

  test('the channel of the setting is their marketing agreement', async () => {
    setting['marketing'] = 'sms';
    await put();
    expect(members.get('shop-7')).toMatchObject({ agreement2: false });
  });

  test('an address that another member has is refused by the name of the field, without what it said', async () => {
    members.set('other', { email: 'ada@example.com' });
    expect(await put()).toEqual({ refused: 'HTTP 400 (customer.email)' });
    provider.answers(() => invalid('x'.repeat(61), '<b>'));
    expect(await put()).toEqual({ refused: 'HTTP 400' });
    provider.answers(() => ({ status: 400, body: 'no JSON' }));
    expect(await put()).toEqual({ refused: 'HTTP 400' });
  });

  test('a wrong token, a wrong tenant and too many requests are for later', async () => {
    setting['token'] = 'wrong';
    expect(await put()).toEqual({ again: 'HTTP 401' });
    setting = { ...setting, token: 'permanent', store_code: 'NONE' };
    expect(await put()).toEqual({ again: 'HTTP 404' });
    provider.answers(() => ({
      status: 429,
      headers: { 'retry-after': '30' },
      body: { code: 429, message: 'Too Many' },
    }));
    expect(await put()).toEqual({ again: 'HTTP 429', after: 30 });
    provider.answers(() => ({ status: 500, body: {} }));
    expect(await put()).toEqual({ again: 'HTTP 500' });
    provider.answers(() => ({ status: 403, body: { code: 403, message: 'Forbidden.' } }));
    expect(await put()).toEqual({ again: 'HTTP 403' });
  });

  test('an erased member is deleted; one that is not there is forgotten already', async () => {
    await put();
    provider.asked.length = 0;
    const forget = openLoyalty.forget(setting as never, 7, attempt)!;
    expect(openLoyalty.judge(await provider.ask(forget), 'forget')).toBe('done');
    expect(members.size).toBe(0);
    expect(openLoyalty.judge(await provider.ask(forget), 'forget')).toBe('done');
    expect(provider.asked[0]).toMatchObject({ line: 'DELETE /api/DEFAULT/member/loyaltyCardNumber=shop-7', body: '' });
  });
});

describe('reading', () => {
  test('what was told is known, made or changed', async () => {
    const shown = openLoyalty.shows(setting as never, member);
    expect(shown).toEqual({
      first_name: 'Ada',
      last_name: 'Yılmaz',
      gender: 'female',
      email: 'ada@example.com',
      phone: '+905321234567',
      date_of_birth: '1990-12-10',
      'consents.email': true,
    });
    await put();
    expect(await known()).toEqual({ shown });
    const bare = { ...member, phone: null, gender: null, date_of_birth: null };
    await put(bare);
    expect(await known()).toEqual({ shown: openLoyalty.shows(setting as never, bare) });
    expect(provider.asked.at(-1)).toMatchObject({ line: 'GET /api/DEFAULT/member/loyaltyCardNumber=shop-7' });
  });

  test('nobody, and no answer', async () => {
    expect(await known()).toEqual({ shown: null });
    setting['token'] = 'wrong';
    expect(await known()).toEqual({ again: 'HTTP 401' });
    provider.answers(() => ({ status: 200, body: '<html>' }));
    expect(await known()).toEqual({ again: 'HTTP 200' });
  });
});

describe('what they send', () => {
  const now = new Date('2026-11-21T08:00:00Z');
  const customer = { customerId: '436587bb', email: 'ada@example.com', loyaltyCardNumber: 'shop-7' };
  const event = (eventName: string, data: object, more: object = {}): object => ({
    eventName,
    messageId: 'e5519011-fbc3-4bde-851a-5b51df91a9a4',
    storeCode: 'DEFAULT',
    createdAt: '2026-11-21T07:59:58+00:00',
    data,
    requestId: '8aaaabcd',
    ...more,
  });
  const level = event('CustomerLevelChanged', {
    customer,
    level: { levelId: 'e82c', name: 'Gold', levelMoveUp: true },
  });

  function incoming(content: object | string, url = 'https://shop.example:8443/v1/loyalty/messages?x=1'): Incoming {
    const body = typeof content === 'string' ? content : JSON.stringify(content);
    const time = String(now.getTime() / 1000);
    const path = new URL(url).pathname;
    const canonical = ['POST', '12:shop.example', `${path.length}:${path}`];
    canonical.push(createHash('sha256').update(body).digest('hex'), time, 'r-1');
    return {
      url,
      headers: {
        'x-webhook-signature': createHmac('sha256', 'f0'.repeat(32)).update(canonical.join('\n')).digest('hex'),
        'x-webhook-signature-algorithm': 'hmac-sha256',
        'x-webhook-timestamp': time,
        'x-webhook-request-id': 'r-1',
        'x-webhook-signature-version': '1',
      },
      body,
      at: now,
    };
  }
  const take = (message: Incoming): unknown => openLoyalty.take!(setting as never, message);
  const told = (content: object): unknown => (take(incoming(content)) as { told: unknown }).told;

  test('their own test vector is accepted, five minutes long', () => {
    const body =
      '{"eventName":"CustomerLevelChanged","messageId":"e5519011-fbc3-4bde-851a-5b51df91a9a4","storeCode":"DEFAULT","createdAt":"2026-03-03T10:04:58+00:00","data":{"customer":{"customerId":"436587bb-6128-4582-b1f1-7f905630a372","email":"asd@asd.czxc"},"level":{"levelId":"e82c96cf-32a3-43bd-9034-4df343e50000","name":"level0","levelMoveUp":true,"levelMoveDown":false}},"requestId":"8aaaabcd-0f85-46b6-bec3-e343b2f71037"}';
    const vector: Incoming = {
      url: 'https://webhook.site/abc123',
      headers: {
        'x-webhook-signature': '2603ad057b8ee0de08cf1f2ba5559c443f6c84022db5b2d1116ee781bdea5c79',
        'x-webhook-timestamp': '1709467498',
        'x-webhook-request-id': '8aaaabcd-0f85-46b6-bec3-e343b2f71037',
      },
      body,
      at: new Date(1_709_467_498_000),
    };
    setting['incoming_secret'] = 'whsec_f06313e4068b38862f59af8efcfa4bbdf7c726ae67a41e6fb008870c2fe5b8de';
    // Their clock of 2026 is ahead of the signature's, and of a card number there is nothing.
    expect(take(vector)).toEqual({ wrong: [{ path: ['createdAt'], detail: 'must not be in the future' }] });
    expect(take({ ...vector, at: new Date(1_709_467_799_000) })).toBeUndefined();
    expect(take({ ...vector, body: `${body} ` })).toBeUndefined();
    expect(take({ ...vector, url: 'https://webhook.site/abc124' })).toBeUndefined();
    expect(take({ ...vector, url: 'https://webhook.sites/abc123' })).toBeUndefined();
    setting['incoming_secret'] = SECRET;
    expect(take(vector)).toBeUndefined();
    delete setting['incoming_secret'];
    expect(take(vector)).toBeNull();
  });

  test('a tier is told as of its time', () => {
    expect(take(incoming(level))).toEqual({
      id: 'e5519011-fbc3-4bde-851a-5b51df91a9a4',
      told: [{ account: 7, card_number: 'shop-7', tier: 'Gold', at: new Date('2026-11-21T07:59:58Z') }],
    });
  });

  test('points are units of the wallet that the setting names, by either of their events', () => {
    const points = (code: string): object =>
      event('AvailablePointsAmountChanged', {
        customer,
        amount: 120.5,
        amountChange: 20,
        wallet: { walletId: 'w', walletType: { code, name: 'Default' } },
      });
    const at = new Date('2026-11-21T07:59:58Z');
    expect(told(points('default'))).toEqual([{ account: 7, card_number: 'shop-7', points: 120.5, at }]);
    expect(told(points('stars'))).toEqual([]);
    const balance = event('WalletBalanceUpdated', {
      member: customer,
      wallet: { walletCode: 'stars', balance: { reason: 'added', after: { pending: 1, active: 3, burned: 0 } } },
    });
    expect(told(balance)).toEqual([]);
    setting['wallet'] = 'stars';
    expect(told(points('stars'))).toMatchObject([{ points: 120.5 }]);
    expect(told(balance)).toEqual([{ account: 7, card_number: 'shop-7', points: 3, at }]);
  });

  test('other events, other tenants and cards that are not of our making say nothing', () => {
    const with_ = (loyaltyCardNumber: unknown): object =>
      event('CustomerLevelChanged', { customer: { ...customer, loyaltyCardNumber }, level: { name: 'Gold' } });
    expect(told(event('CustomerRegistered', { customer }))).toEqual([]);
    expect(told({ ...level, storeCode: 'OTHER' })).toEqual([]);
    expect(told(with_('7'))).toEqual([]);
    expect(told(with_('shop-007'))).toEqual([]);
    expect(told(with_('shop-x'))).toEqual([]);
    expect(told(with_(undefined))).toEqual([]);
  });

  test.each([
    [
      event('CustomerLevelChanged', { customer, level: { name: 7 } }),
      ['data', 'level', 'name'],
      'must be a text or null',
    ],
    [event('CustomerLevelChanged', { customer }), ['data', 'level'], 'must be an object'],
    [{ ...level, messageId: undefined }, ['messageId'], 'must be the id of the message'],
    [{ ...level, createdAt: 'yesterday' }, ['createdAt'], 'must be a time as of RFC 3339'],
    ['[', [], 'must be an object'],
  ])('%j is told where it is wrong', (content, path, detail) => {
    expect(take(incoming(content))).toEqual({ wrong: [{ path, detail }] });
  });
});

describe('the setting', () => {
  const validator = Compile(openLoyalty.schema);
  test('is taken whole, and refused in parts', () => {
    expect([...validator.Errors({ ...setting, marketing: 'sms', wallet: 'stars' })]).toEqual([]);
    for (const wrong of [
      { url: 'https://x.example/' },
      { url: 'https://x.example/api?x' },
      { store_code: 'a/b' },
      { token: 'a b' },
      { card_prefix: 'a/' },
      { marketing: 'fax' },
      { incoming_secret: 'f0'.repeat(32) },
      { more: 1 },
    ])
      expect({ wrong, taken: validator.Check({ ...setting, ...wrong }) }).toEqual({ wrong, taken: false });
  });
});
