/** What the loyalty provider tells us: taken in once, signed, in any order, and shown where there is room for it. */
import { createHash, createHmac } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { sweepLoyaltyMessages } from '../../src/loyalty/told.ts';
import { eraseAccount } from '../../src/privacy/erasure.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

const SECRET = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAECAwQFBgc=';
const URL_ = '/v1/loyalty/messages';
const WITH = '/users/profile-with-loyalty/';
const SETTING = {
  connector: 'http',
  url: 'http://127.0.0.1:9/members/{account}',
  fields: { mail: 'email' },
  incoming_secret: SECRET,
};

let kit: Kit;
let twin: Kit;
let ada: Client;
let messages = 0;

beforeAll(async () => {
  kit = await createKit();
  twin = await kit.twin();
});
afterAll(() => kit.close());

async function configure(value: object): Promise<void> {
  await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', value);
  await twin.ctx.settings.refresh(twin.ctx.db);
}

beforeEach(async () => {
  await configure(SETTING);
  ada = await kit.signUp();
});

interface Message {
  readonly id?: string;
  /** When it was signed; now when absent. */
  readonly at?: Date;
  readonly secret?: string;
  readonly send?: Send;
  readonly headers?: Record<string, string>;
}

/** Sends what the provider would, signed. */
function tell(
  content: unknown,
  { id, at, secret = SECRET, send = kit.send, headers = {} }: Message = {},
): Promise<Reply> {
  messages += 1;
  const name = id ?? `m${messages}`;
  const body = typeof content === 'string' ? content : JSON.stringify(content);
  const time = at ?? kit.ctx.clock.now();
  return send('POST', URL_, {
    body,
    headers: {
      'webhook-id': name,
      'webhook-timestamp': String(Math.floor(time.getTime() / 1000)),
      'webhook-signature': new Webhook(secret).sign(name, time, body),
      ...headers,
    },
  });
}

const ago = (seconds: number): string => new Date(kit.ctx.clock.now().getTime() - seconds * 1000).toISOString();
const stored = (account = ada.id): Promise<object[]> =>
  kit.rows(
    'select card_number, tier, points::float8 as points, status from loyalty_member where account = $1',
    account,
  );
const part = async (send: Send = ada.send): Promise<unknown> => (await send('GET', WITH)).body.attributes.loyalty;

describe('taking in', () => {
  test('what is told is stored and shown, by any process', async () => {
    const reply = await tell({ account: ada.id, card_number: 'L-1', tier: 'Gold', points: 12.5, at: ago(1) });
    expect(reply).toMatchObject({ status: 204, text: '' });
    expect(await stored()).toEqual([{ card_number: 'L-1', tier: 'Gold', points: 12.5, status: 'settled' }]);
    const shown = { card_number: 'L-1', tier: 'Gold', points: 12.5 };
    expect(await part()).toEqual(shown);
    const other = await twin.send('GET', WITH, { headers: { authorization: `Token ${ada.key}` } });
    expect(other.body.attributes).toEqual({ loyalty: shown });
  });

  test('the type of the body does not matter, its bytes do', async () => {
    const body = `{ "account": ${ada.id},\n "tier": "Gümüş", "at": "${ago(1)}" }`;
    expect((await tell(body, { headers: { 'content-type': 'text/plain' } })).status).toBe(204);
    expect(await stored()).toMatchObject([{ tier: 'Gümüş' }]);
  });

  test('a message counts once, at both processes at once', async () => {
    const content = { account: ada.id, points: 5, at: ago(1) };
    const replies = await Promise.all(
      [kit.send, twin.send, kit.send, twin.send].map((send) => tell(content, { id: 'same', send })),
    );
    expect(replies.map(({ status }) => status)).toEqual([204, 204, 204, 204]);
    // Another content under the id of one that was taken in is not looked at.
    expect((await tell({ ...content, points: 6, at: ago(0) }, { id: 'same' })).status).toBe(204);
    expect(await stored()).toMatchObject([{ points: 5 }]);
    expect(await kit.rows("select id from loyalty_message where id like '%same'")).toEqual([{ id: 'http same' }]);
  });

  test('older news do not replace newer ones, each value by itself', async () => {
    await tell({ account: ada.id, points: 200, at: ago(10) });
    await tell({ account: ada.id, points: 100, tier: 'Silver', at: ago(20) });
    expect(await part()).toEqual({ card_number: null, tier: 'Silver', points: 200 });
    await tell({ account: ada.id, tier: 'Bronze', at: ago(30) });
    expect(await part()).toEqual({ card_number: null, tier: 'Silver', points: 200 });
    // As of the same moment: the one that comes later; null clears.
    await tell({ account: ada.id, points: null, at: (await atOf('points_at'))! });
    expect(await part()).toEqual({ card_number: null, tier: 'Silver', points: null });
  });

  const atOf = async (column: string): Promise<string | undefined> =>
    (
      await kit.rows<{ at: Date }>(`select ${column} as at from loyalty_member where account = $1`, ada.id)
    )[0]?.at.toISOString();

  test('one message tells of many, in whatever order, with strangers among them', async () => {
    const bora = await kit.signUp();
    const before = kit.logged.length;
    const list = [
      { account: ada.id, points: 2, at: ago(5) },
      { account: 999_999_999, card_number: 'X-9', points: 1, at: ago(5) },
      { account: bora.id, tier: 'Gold', at: ago(5) },
      { account: ada.id, points: 1, at: ago(6) },
      { account: ada.id, card_number: 'L-2', at: ago(7) },
    ];
    expect((await tell(list)).status).toBe(204);
    expect(await stored()).toMatchObject([{ card_number: 'L-2', tier: null, points: 2 }]);
    expect(await stored(bora.id)).toMatchObject([{ card_number: null, tier: 'Gold', points: null }]);
    expect(await stored(999_999_999)).toEqual([]);
    const lines = kit.logged.slice(before).map((line) => JSON.parse(line));
    expect(lines).toContainEqual(
      expect.objectContaining({
        connector: 'http',
        accounts: 1,
        msg: 'a loyalty message named accounts that are not ours',
      }),
    );
    expect(kit.logged.slice(before).join('\n')).not.toMatch(/X-9|999999999/);
  });

  test('messages about the same accounts in opposite orders, from both processes, all get through', async () => {
    const people = [ada, await kit.signUp(), await kit.signUp()];
    const list = (order: readonly Client[], points: number): object[] =>
      order.map(({ id }) => ({ account: id, points, at: ago(100 - points) }));
    const replies = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        tell(list(n % 2 === 0 ? people : people.toReversed(), n), { send: n % 3 === 0 ? twin.send : kit.send }),
      ),
    );
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([204]));
    for (const { id } of people) expect(await stored(id)).toMatchObject([{ points: 19 }]);
  });

  test('ids are kept for eight days', async () => {
    await tell({ account: ada.id, points: 5, at: ago(1) }, { id: 'kept' });
    const kept = (): Promise<object[]> => kit.rows("select id from loyalty_message where id = 'http kept'");
    const now = kit.ctx.clock.now();
    await kit.rows(
      "update loyalty_message set at = $1::timestamptz - interval '7 days 23 hours' where id = 'http kept'",
      now,
    );
    await sweepLoyaltyMessages(kit.ctx);
    expect(await kept()).toHaveLength(1);
    await kit.rows(
      "update loyalty_message set at = $1::timestamptz - interval '8 days 1 minute' where id = 'http kept'",
      now,
    );
    await sweepLoyaltyMessages(kit.ctx);
    expect(await kept()).toEqual([]);
  });
});

describe('refusing', () => {
  const count = async (): Promise<unknown> =>
    (
      await kit.rows(
        'select (select count(*)::int from loyalty_message) as messages, (select count(*)::int from loyalty_member) as members',
      )
    )[0];

  test.each([
    ['forged', () => tell({ account: ada.id, tier: 'Gold', at: ago(1) }, { secret: 'whsec_AAAAAAAAAAAAAAAAAAAAAAAA' })],
    ['signed over another id', () => tell({ account: ada.id, at: ago(1) }, { headers: { 'webhook-id': 'another' } })],
    ['not signed', () => kit.send('POST', URL_, { body: { account: ada.id, tier: 'Gold', at: ago(1) } })],
    ['old', () => tell({ account: ada.id, at: ago(1) }, { at: new Date(kit.ctx.clock.now().getTime() - 302_000) })],
    ['without a body', () => kit.send('POST', URL_)],
  ])('a message that is %s is 401, and nothing of it counts', async (_name, sent) => {
    const before = await count();
    const reply = await sent();
    expect(reply.status).toBe(401);
    expect(reply.headers['content-type']).toBe('application/problem+json');
    expect(reply.body).toMatchObject({
      code: 'not_signed',
      detail: 'The message is not signed as it should be, or is older than five minutes.',
    });
    expect(await count()).toEqual(before);
  });

  test('a wrong value is 400 with its place and reason, and nothing of the message counts', async () => {
    const before = await count();
    const fine = { account: ada.id, tier: 'Gold', at: ago(1) };
    const reply = await tell([fine, { ...fine, points: '12', card_number: 'a\u0000b' }], { id: 'wrong' });
    expect(reply.status).toBe(400);
    expect(reply.body.errors).toEqual([
      { pointer: '/1/card_number', code: 'as_told', detail: 'This value must have no control characters' },
      { pointer: '/1/points', code: 'as_told', detail: 'This value must be a number or null' },
    ]);
    expect(await count()).toEqual(before);
    // Its id was not used up: put right, it is taken.
    expect((await tell(fine, { id: 'wrong' })).status).toBe(204);
    expect((await tell('no JSON')).body.errors).toEqual([
      { pointer: '', code: 'as_told', detail: 'This value must be JSON' },
    ]);
  });

  test('without a connector, or one that expects nothing, there is no such place', async () => {
    const news = { account: ada.id, at: ago(1) };
    const { incoming_secret: _, ...silent } = SETTING;
    await configure(silent);
    expect(await tell(news)).toMatchObject({ status: 404, body: { code: 'not_found' } });
    await configure({ connector: 'none' });
    expect((await tell(news)).status).toBe(404);
    expect((await tell(news, { secret: 'whsec_AAAAAAAAAAAAAAAAAAAAAAAA' })).status).toBe(404);
    await configure(SETTING);
    expect((await kit.send('GET', URL_)).status).toBe(405);
  });
});

describe('the real ones', () => {
  test('Open Loyalty signs host and path too', async () => {
    const key = 'ab'.repeat(32);
    await configure({
      connector: 'open_loyalty',
      url: 'http://127.0.0.1:9',
      store_code: 'DEFAULT',
      token: 'permanent',
      incoming_secret: `whsec_${key}`,
    });
    const body = JSON.stringify({
      messageId: 'e5519011',
      eventName: 'CustomerLevelChanged',
      storeCode: 'DEFAULT',
      createdAt: ago(1),
      data: { customer: { loyaltyCardNumber: String(ada.id) }, level: { name: 'Gold' } },
    });
    const time = String(Math.floor(kit.ctx.clock.now().getTime() / 1000));
    const lines = ['POST', '12:shop.example', '20:/v1/loyalty/messages'];
    lines.push(createHash('sha256').update(body).digest('hex'), time, 'r1');
    const headers = {
      host: 'shop.example',
      'x-webhook-signature': createHmac('sha256', key).update(lines.join('\n')).digest('hex'),
      'x-webhook-timestamp': time,
      'x-webhook-request-id': 'r1',
    };
    expect((await kit.send('POST', URL_, { body, headers: { ...headers, host: 'other.example' } })).status).toBe(401);
    expect((await kit.send('POST', URL_, { body, headers })).status).toBe(204);
    expect(await part()).toEqual({ card_number: String(ada.id), tier: 'Gold', points: null });
  });

  test('Talon.One brings its token', async () => {
    await configure({
      connector: 'talon_one',
      url: 'http://127.0.0.1:9',
      key: 'k',
      attributes: { Email: 'email' },
      incoming_token: 'a-token-of-our-own-choice',
    });
    const body = {
      NotificationType: 'LoyaltyAddedDeductedPointsBalances',
      ProfileIntegrationID: String(ada.id),
      LoyaltyProgramID: 5,
      SubledgerID: '',
      CurrentPoints: 10.99,
    };
    const headers = { 'x-uuid': 'u1', authorization: 'Bearer a-token-of-our-own-choice' };
    expect((await kit.send('POST', URL_, { body, headers: { ...headers, authorization: 'Bearer x' } })).status).toBe(
      401,
    );
    expect((await kit.send('POST', URL_, { body, headers })).status).toBe(204);
    expect(await part()).toEqual({ card_number: null, tier: null, points: 10.99 });
  });
});

describe('showing', () => {
  const gold = { card_number: 'L-1', tier: 'Gold', points: 7 };
  const told = (): Promise<Reply> => tell({ account: ada.id, ...gold, at: ago(1) });

  test('only on the path with loyalty, only while a connector is configured, only when something was told', async () => {
    await ada.send('PATCH', WITH, { body: { attributes: { club: 'Moda' } } });
    expect((await ada.send('GET', WITH)).body.attributes).toEqual({ club: 'Moda' });
    await told();
    expect((await ada.send('GET', WITH)).body.attributes).toEqual({ club: 'Moda', loyalty: gold });
    expect((await ada.send('GET', '/users/profile/')).body.attributes).toEqual({ club: 'Moda' });
    for (const method of ['PUT', 'PATCH']) {
      const { status, body } = await ada.send(method, WITH, { body: { first_name: 'Ada', last_name: 'Y' } });
      expect({ status, attributes: body.attributes }).toEqual({
        status: 200,
        attributes: { club: 'Moda', loyalty: gold },
      });
    }
    await configure({ connector: 'none' });
    expect((await ada.send('GET', WITH)).body.attributes).toEqual({ club: 'Moda' });
  });

  test('a client that sends back what it read stores nothing by that, on either path', async () => {
    await told();
    const read = (await ada.send('GET', WITH)).body;
    for (const path of [WITH, '/users/profile/']) {
      const sent = { attributes: { ...read.attributes, club: 'Moda' } };
      expect((await ada.send('PATCH', path, { body: sent })).status).toBe(200);
      expect(await kit.rows('select attributes from account where id = $1', ada.id)).toEqual([
        { attributes: { club: 'Moda' } },
      ]);
    }
    await ada.send('PATCH', WITH, { body: { attributes: { loyalty: { tier: 'Platinum' } } } });
    expect(await part()).toEqual(gold);
  });

  test('a key of that name which the shop had stays as it was, and is its own again without a connector', async () => {
    await configure({ connector: 'none' });
    await ada.send('PATCH', WITH, { body: { attributes: { loyalty: 'old' } } });
    await configure(SETTING);
    expect(await part()).toBe('old');
    await told();
    expect(await part()).toEqual(gold);
    await ada.send('PATCH', WITH, { body: { attributes: { loyalty: 'new', club: 'Moda' } } });
    await ada.send('PATCH', '/users/profile/', { body: { attributes: {} } });
    expect((await ada.send('GET', '/users/profile/')).body.attributes).toEqual({ loyalty: 'old' });
    await configure({ connector: 'none' });
    await ada.send('PATCH', WITH, { body: { attributes: { loyalty: 'new' } } });
    expect(await part()).toBe('new');
  });

  test('no second statement is made while there is no connector', async () => {
    const statements = async (): Promise<string[]> => {
      const seen: string[] = [];
      const { db } = kit.ctx;
      const rows = db.rows.bind(db);
      db.rows = ((query: { text: string }) => {
        seen.push(query.text);
        return rows(query as never);
      }) as typeof db.rows;
      await ada.send('GET', WITH);
      db.rows = rows;
      return seen.filter((text) => text.includes('loyalty_member'));
    };
    expect(await statements()).toHaveLength(1);
    await configure({ connector: 'none' });
    expect(await statements()).toEqual([]);
  });

  test('what another provider told is not shown, and goes when the present one tells anything', async () => {
    await told();
    await configure({
      connector: 'talon_one',
      url: 'http://127.0.0.1:9',
      key: 'k',
      attributes: { Email: 'email' },
      incoming_token: 'a-token-of-our-own-choice',
    });
    const operator = await kit.apiKey('accounts');
    expect(await part()).toBeUndefined();
    expect((await operator('GET', `/v1/accounts/${ada.id}`)).body.loyalty).toMatchObject({ tier: null, points: null });
    const tier = { CustomerProfileID: String(ada.id), CurrentTier: 'Silver', TimestampOfTierChange: ago(3600) };
    await kit.send('POST', URL_, {
      body: { NotificationType: 'TierUpgrade', Data: [{ ...tier, CurrentPoints: 1 }] },
      headers: { 'x-uuid': `t${ada.id}`, authorization: 'Bearer a-token-of-our-own-choice' },
    });
    expect(await part()).toEqual({ card_number: null, tier: 'Silver', points: 1 });
  });

  test('what another tenant of the same connector told is not shown; other fields are the same tenant', async () => {
    await told();
    await configure({ ...SETTING, fields: { mail: 'email', first: 'first_name' } });
    expect(await part()).toEqual(gold);
    await configure({ ...SETTING, url: 'http://127.0.0.1:9/tenant-2/{account}' });
    expect(await part()).toBeUndefined();
    const operator = await kit.apiKey('accounts');
    expect((await operator('GET', `/v1/accounts/${ada.id}`)).body.loyalty).toMatchObject({ tier: null, points: null });
    await configure(SETTING);
    expect(await part()).toEqual(gold);
  });

  test('operators see how an account stands', async () => {
    const operator = await kit.apiKey('accounts');
    const seen = async (): Promise<unknown> => (await operator('GET', `/v1/accounts/${ada.id}`)).body.loyalty;
    expect(await seen()).toBeNull();
    await told();
    expect(await seen()).toEqual({ ...gold, delivered_at: null, status: 'settled', reason: null });
    await kit.rows("update loyalty_member set status = 'parked', reason = 'HTTP 422' where account = $1", ada.id);
    expect(await seen()).toMatchObject({ status: 'parked', reason: 'HTTP 422' });
    expect((await operator('GET', `/v1/accounts?email=${ada.email}`)).body.items[0]).not.toHaveProperty('loyalty');
  });

  test('erasure takes what was told at once, and nothing is told of an erased account afterwards', async () => {
    await told();
    const privacy = await kit.apiKey('privacy');
    expect((await privacy('POST', '/v1/erasures', { body: { account: ada.id } })).status).toBe(200);
    expect(await stored()).toMatchObject([{ card_number: null, tier: null, points: null }]);
    expect((await tell({ account: ada.id, ...gold, at: ago(0) })).status).toBe(204);
    expect(await stored()).toMatchObject([{ card_number: null, tier: null, points: null }]);
  });

  test('a message that comes in during the erasure waits for it, and tells nothing', async () => {
    await told();
    const waiting = (): Promise<object[]> =>
      kit.rows(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%told_by%'",
      );
    const coming = await kit.database.transaction(async (db) => {
      await eraseAccount({ ...kit.ctx, db }, ada.id, atTheMachine);
      const reply = tell({ account: ada.id, ...gold, at: ago(0) });
      await expect.poll(waiting, { timeout: 10_000 }).toHaveLength(1);
      return [reply];
    });
    expect((await coming[0]!).status).toBe(204);
    expect(await stored()).toMatchObject([{ card_number: null, tier: null, points: null }]);
  });
});
