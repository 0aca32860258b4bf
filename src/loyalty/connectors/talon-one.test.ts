/** Talon.One as its Integration API and its notification schemas describe it. */
import Compile from 'typebox/compile';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Answering, type Asked, type FakeProvider, fakeProvider } from '../../../test/fake-provider.ts';
import type { Attempt, Incoming, Member, Verdict } from './connector.ts';
import { talonOne } from './talon-one.ts';

const member: Member = {
  id: 7,
  email: 'ada@example.com',
  first_name: 'Ada',
  last_name: 'Yılmaz',
  phone: null,
  gender: null,
  date_of_birth: '1990-12-10',
  language: 'tr',
  active: true,
  attributes: { club: 'Moda' },
  consents: { email: true, sms: false, call: false, whatsapp: false },
  joined_at: '2026-11-21T08:00:00.000Z',
};
const attempt: Attempt = { key: '0b7b2a52-9d8e-4d4c-a4a0-5d3c5a1f2e77', sequence: 1, at: new Date() };
const TOKEN = 'a-token-of-our-own-choice';

let provider: FakeProvider;
let setting: Record<string, unknown>;
/** Attributes of profiles, by integration id. */
let profiles: Map<string, Record<string, unknown>>;
/** Attributes that were made in the Campaign Manager. */
const defined = ['Name', 'Email', 'Phone', 'SmsAllowed', 'Club', 'Source'];

function talonOneAnswers({ line, headers, body }: Asked): Answering {
  const [method, path] = line.split(' ');
  if (headers['authorization'] !== 'ApiKey-v1 0a1b2c')
    return { status: 401, body: { message: 'Invalid API key', StatusCode: 401 } };
  const put = /^\/v2\/customer_profiles\/(\w+)\?runRuleEngine=false$/.exec(path!);
  if (method === 'PUT' && put !== null) {
    const { attributes } = JSON.parse(body);
    const unknown = Object.keys(attributes).filter((name) => !defined.includes(name));
    if (unknown.length > 0)
      return {
        status: 400,
        body: {
          message: 'The submitted data was invalid',
          errors: unknown.map((name) => ({
            title: 'Unknown',
            details: `The attribute "${name}" is not defined on CustomerProfile entities.`,
            source: { pointer: `/attributes/${name}` },
          })),
        },
      };
    profiles.set(put[1]!, { ...profiles.get(put[1]!), ...attributes });
    return { status: 200, body: { effects: [], createdCoupons: [], createdReferrals: [] } };
  }
  const id = /^\/v1\/customer_(?:profiles|data)\/(\w+)/.exec(path!)?.[1] ?? '';
  if (!profiles.has(id)) return { status: 404, body: { message: 'Not found', StatusCode: 404 } };
  if (method === 'DELETE') {
    profiles.set(id, {});
    return { status: 204 };
  }
  return { status: 200, body: { profile: { id: 6, integrationId: id, attributes: profiles.get(id), accountId: 31 } } };
}

beforeAll(async () => {
  provider = await fakeProvider();
});
afterAll(() => provider.close());
beforeEach(() => {
  provider.asked.length = 0;
  provider.answers(talonOneAnswers);
  profiles = new Map();
  setting = {
    connector: 'talon_one',
    url: provider.base,
    key: '0a1b2c',
    attributes: {
      Name: 'first_name',
      Email: 'email',
      Phone: 'phone',
      SmsAllowed: 'consents.sms',
      Club: 'attributes.club',
      Source: '=shop',
    },
    incoming_token: TOKEN,
  };
});

const put = async (): Promise<Verdict> =>
  talonOne.judge(await provider.ask(talonOne.put(setting as never, member, attempt)), 'put');
const known = async (): Promise<unknown> =>
  talonOne.known(setting as never, await provider.ask(talonOne.ask(setting as never, 7)!));

describe('telling', () => {
  test('a profile is made and changed by the same call, without running the rules', async () => {
    expect(await put()).toBe('done');
    expect(await put()).toBe('done');
    expect(provider.asked).toHaveLength(2);
    const [{ line, headers, body }] = provider.asked as [Asked];
    expect(line).toBe('PUT /v2/customer_profiles/7?runRuleEngine=false');
    expect(headers).toMatchObject({
      authorization: 'ApiKey-v1 0a1b2c',
      'content-type': 'application/json',
      'idempotency-key': attempt.key,
    });
    expect(JSON.parse(body)).toEqual({
      attributes: {
        Name: 'Ada',
        Email: 'ada@example.com',
        Phone: null,
        SmsAllowed: false,
        Club: 'Moda',
        Source: 'shop',
      },
    });
  });

  test('an attribute that nobody made is refused by its place', async () => {
    setting['attributes'] = { Name: 'first_name', Surname: 'last_name' };
    expect(await put()).toEqual({ refused: 'HTTP 400 (/attributes/Surname)' });
    provider.answers(() => ({ status: 400, body: { message: 'no', errors: [{ source: { pointer: 'ada @x' } }, 7] } }));
    expect(await put()).toEqual({ refused: 'HTTP 400' });
  });

  test('a wrong key, changes in parallel and too many requests are for later', async () => {
    setting['key'] = 'wrong';
    expect(await put()).toEqual({ again: 'HTTP 401' });
    provider.answers(() => ({
      status: 409,
      body: { message: 'Too many requests are updating this profile at the same time', errors: [], StatusCode: 409 },
    }));
    expect(await put()).toEqual({ again: 'HTTP 409' });
    provider.answers(() => ({ status: 429, headers: { 'retry-after': '3' }, body: { message: 'slow down' } }));
    expect(await put()).toEqual({ again: 'HTTP 429', after: 3 });
    provider.answers(() => ({ status: 404, body: {} }));
    expect(await put()).toEqual({ again: 'HTTP 404' });
    provider.answers(() => ({ status: 500, body: {} }));
    expect(await put()).toEqual({ again: 'HTTP 500' });
  });

  test('the data of an erased customer is deleted; who is not there is forgotten already', async () => {
    const forget = talonOne.forget(setting as never, 7, attempt)!;
    expect(talonOne.judge(await provider.ask(forget), 'forget')).toBe('done');
    await put();
    expect(talonOne.judge(await provider.ask(forget), 'forget')).toBe('done');
    expect(profiles.get('7')).toEqual({});
    expect(provider.asked.at(-1)).toMatchObject({ line: 'DELETE /v1/customer_data/7', body: '' });
  });
});

describe('reading', () => {
  test('what was told is known, by its own names', async () => {
    await put();
    const shown = {
      first_name: 'Ada',
      email: 'ada@example.com',
      phone: null,
      'consents.sms': false,
      'attributes.club': 'Moda',
      '=Source': 'shop',
    };
    expect(talonOne.shows(setting as never, member)).toEqual(shown);
    expect(await known()).toEqual({ shown });
    expect(provider.asked.at(-1)!.line).toBe('GET /v1/customer_profiles/7/inventory?profile=true');
  });

  test('nobody, nothing, and no answer', async () => {
    expect(await known()).toEqual({ shown: null });
    profiles.set('7', {});
    expect(await known()).toMatchObject({ shown: { first_name: null, '=Source': null } });
    provider.answers(() => ({ status: 200, body: { loyalty: {} } }));
    expect(await known()).toEqual({ again: 'HTTP 200' });
    setting['key'] = 'wrong';
    provider.answers(talonOneAnswers);
    expect(await known()).toEqual({ again: 'HTTP 401' });
  });
});

describe('what they send', () => {
  const now = new Date('2026-11-21T08:00:00Z');
  const incoming = (content: unknown, headers: Record<string, string | undefined> = {}): Incoming => ({
    url: 'https://shop.example/v1/loyalty/messages',
    headers: { authorization: `Bearer ${TOKEN}`, 'x-uuid': '9aa05ee1', ...headers },
    body: typeof content === 'string' ? content : JSON.stringify(content),
    at: now,
  });
  const take = (message: Incoming): unknown => talonOne.take!(setting as never, message);
  const balance = {
    ProfileIntegrationID: '7',
    LoyaltyProgramID: 5,
    SubledgerID: '',
    TypeOfChange: 'rule_engine',
    NotificationType: 'LoyaltyAddedDeductedPointsBalances',
    CurrentPoints: 10.99,
    Actions: [{ Amount: 10.99, Operation: 'addition' }],
  };
  const card = {
    ...balance,
    NotificationType: 'LoyaltyCardAddedDeductedPointsBalances',
    CardIdentifier: '123-456-789ATBC',
    ProfileIntegrationIDs: ['7', 'guest', '8'],
  };
  const upgrade = {
    TotalResultSize: 1,
    Data: [
      {
        CustomerProfileID: '7',
        LoyaltyProgramID: 5,
        SubledgerID: '',
        CurrentTier: 'Silver',
        CurrentPoints: 120.55,
        OldTier: 'Bronze',
        TimestampOfTierChange: '2026-11-21T09:59:00+02:00',
      },
    ],
    NotificationType: 'TierUpgrade',
  };

  test('balances count from when they came in', () => {
    expect(take(incoming(balance))).toEqual({ id: '9aa05ee1', told: [{ account: 7, points: 10.99, at: now }] });
    expect(take(incoming(card))).toEqual({
      id: '9aa05ee1',
      told: [
        { account: 7, card_number: '123-456-789ATBC', points: 10.99, at: now },
        { account: 8, card_number: '123-456-789ATBC', points: 10.99, at: now },
      ],
    });
  });

  test('a tier counts from its change', () => {
    const told = [{ account: 7, tier: 'Silver', points: 120.55, at: new Date('2026-11-21T07:59:00Z') }];
    expect(take(incoming(upgrade))).toEqual({ id: '9aa05ee1', told });
    expect(take(incoming({ ...upgrade, NotificationType: 'TierDowngrade' }))).toEqual({ id: '9aa05ee1', told });
  });

  test('other programs, subledgers, notifications and guests say nothing', () => {
    const nothing = { id: '9aa05ee1', told: [] };
    expect(take(incoming({ ...balance, SubledgerID: 'sub-123' }))).toEqual(nothing);
    expect(take(incoming({ ...balance, ProfileIntegrationID: 'guest' }))).toEqual(nothing);
    expect(take(incoming({ NotificationType: 'TierWillDowngrade', Data: 7 }))).toEqual(nothing);
    setting['loyalty_program'] = 6;
    expect(take(incoming(balance))).toEqual(nothing);
    expect(take(incoming(upgrade))).toEqual(nothing);
    setting = { ...setting, loyalty_program: 5, subledger: 'sub-123' };
    expect(take(incoming({ ...balance, SubledgerID: 'sub-123' }))).toMatchObject({ told: [{ points: 10.99 }] });
  });

  test('without the token it is nobody’s', () => {
    expect(take(incoming(balance, { authorization: undefined }))).toBeUndefined();
    expect(take(incoming(balance, { authorization: `Bearer ${TOKEN}x` }))).toBeUndefined();
    expect(take(incoming(balance, { authorization: TOKEN }))).toBeUndefined();
    delete setting['incoming_token'];
    expect(take(incoming(balance))).toBeNull();
  });

  test.each([
    [{ ...balance, CurrentPoints: '10' }, ['CurrentPoints'], 'must be a number or null'],
    [{ ...card, ProfileIntegrationIDs: '7' }, ['ProfileIntegrationIDs'], 'must be a list of at most 1000'],
    [{ ...upgrade, Data: [7] }, ['Data', '0'], 'must be an object'],
    ['no JSON', [], 'must be an object'],
  ])('%j is told where it is wrong', (content, path, detail) => {
    expect(take(incoming(content))).toEqual({ wrong: [{ path, detail }] });
  });

  test('a notification without its id is not taken', () => {
    expect(take(incoming(balance, { 'x-uuid': undefined }))).toEqual({
      wrong: [{ path: ['X-UUID'], detail: 'must be the id of the message' }],
    });
  });
});

describe('the setting', () => {
  const validator = Compile(talonOne.schema);
  test('is taken whole, and refused in parts', () => {
    expect([...validator.Errors({ ...setting, loyalty_program: 5, subledger: 'a' })]).toEqual([]);
    for (const wrong of [
      { url: 'http://x.example/' },
      { key: 'a b' },
      { attributes: {} },
      { attributes: { Name: 'password' } },
      { incoming_token: 'short' },
      { loyalty_program: 0 },
      { more: 1 },
    ])
      expect({ wrong, taken: validator.Check({ ...setting, ...wrong }) }).toEqual({ wrong, taken: false });
  });
});
