/** Loyalty: whatever happens, and whatever the provider does meanwhile, it ends up with the truth. */
import { execFile } from 'node:child_process';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createHttp } from '../../src/app.ts';
import { importConsents } from '../../src/consent/transfer/import.ts';
import { afterFailure, type Breaker, type Trouble } from '../../src/loyalty/breaker.ts';
import { loyaltyConnectors } from '../../src/loyalty/connectors/catalogue.ts';
import { deliverLoyalty } from '../../src/loyalty/delivery.ts';
import { dispatchLoyalty } from '../../src/loyalty/dispatch.ts';
import { configured, noteSeen, readMembers, redeliver, sumOfMember } from '../../src/loyalty/members.ts';
import { dropChanges, listParked } from '../../src/loyalty/parked.ts';
import { loyaltyFindings, loyaltyStatus } from '../../src/loyalty/state.ts';
import { Failure } from '../../src/platform/failure.ts';
import { type Client, createKit, type Kit, PASSWORD, type Send } from '../kit.ts';

interface Change {
  readonly method: string;
  readonly account: number;
  readonly key: string;
  readonly sequence: number;
  readonly body: Record<string, unknown>;
}

type Deed = (request: IncomingMessage, response: ServerResponse, commit: () => void) => void;

let kit: Kit;
let api: Send;
let provider: Server;
let base: string;
/** Every change that reached the provider. */
let heard: Change[];
/** What it has, by account. */
let members: Map<number, Record<string, unknown>>;
/** Keys it has taken, and how often something changed in it. */
let keys: Set<string>;
let effects: number;
let deed: Deed;
/** What it answers to questions instead of what it has. */
let blind: number | undefined;

const well: Deed = (_request, response, commit) => {
  commit();
  response.writeHead(200).end();
};
const answering =
  (status: number, headers: Record<string, string> = {}): Deed =>
  (_request, response) =>
    void response.writeHead(status, headers).end('an answer of the provider');
const cut: Deed = (_request, response) => void response.socket!.destroy();
const takenAndCut: Deed = (_request, response, commit) => {
  commit();
  response.socket!.destroy();
};

const fields = {
  email: 'email',
  'name.first': 'first_name',
  'name.last': 'last_name',
  phone: 'phone',
  gender: 'gender',
  born: 'date_of_birth',
  language: 'language',
  active: 'active',
  club: 'attributes.club',
  'may.email': 'consents.email',
  'may.sms': 'consents.sms',
  'may.call': 'consents.call',
};
const setting = (): object => ({ connector: 'http', url: `${base}/members/{account}`, fields, secret: 'of-the-test' });

beforeAll(async () => {
  kit = await createKit();
  api = await kit.apiKey('*');
  provider = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => {
      body += chunk;
    });
    request.on('end', () => {
      const account = Number(request.url!.split('/').at(-1));
      const method = request.method!;
      if (method === 'GET') {
        const known = members.get(account);
        if (blind !== undefined) return void response.writeHead(blind).end();
        response.writeHead(known === undefined ? 404 : 200).end(JSON.stringify(known));
        return;
      }
      const key = String(request.headers['idempotency-key']);
      const change = {
        method,
        account,
        key,
        sequence: Number(request.headers['assent-sequence']),
        body: body === '' ? {} : (JSON.parse(body) as Record<string, unknown>),
      };
      heard.push(change);
      deed(request, response, () => {
        if (keys.has(key)) return;
        keys.add(key);
        effects += 1;
        if (method === 'DELETE') members.delete(account);
        else members.set(account, change.body);
      });
    });
  });
  await new Promise<void>((done) => provider.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`;
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, otp: null });
});

afterAll(async () => {
  provider.closeAllConnections();
  await new Promise((done) => provider.close(done));
  await kit.close();
});

beforeEach(async () => {
  heard = [];
  members = new Map();
  keys = new Set();
  effects = 0;
  deed = well;
  blind = undefined;
  await kit.rows('delete from loyalty_mark');
  await kit.rows('delete from loyalty_left');
  await kit.rows('delete from loyalty_sweep');
  await kit.rows('delete from loyalty_member');
  await kit.rows('delete from loyalty_breaker');
  await kit.rows('delete from loyalty_attempt');
  await kit.rows('delete from graphile_worker._private_jobs');
  await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', setting());
  await kit.set('LOYALTY_ATTEMPTS', 10);
});

/** One turn of the dispatcher, and what it planned. */
async function turn(): Promise<{ noticed: number; planned: number }> {
  const done = await dispatchLoyalty(kit.ctx);
  await kit.jobs();
  return done;
}

/** Until nothing is to be done now. */
async function calm(): Promise<void> {
  for (let turns = 0; turns < 50; turns += 1) {
    const { noticed, planned } = await turn();
    if (noticed + planned === 0) return;
  }
  throw new Error('it never comes to rest');
}

const marks = async (): Promise<number[]> =>
  (await kit.rows<{ account: number }>('select account from loyalty_mark order by id')).map(({ account }) => account);
const rowOf = async (account: number): Promise<Record<string, unknown> | undefined> =>
  (
    await kit.rows(
      'select status, attempts, reason, waiting_since is not null as waits, claimed_until, request_key from loyalty_member where account = $1',
      account,
    )
  )[0];
const SETTLED = {
  status: 'settled',
  attempts: 0,
  reason: null,
  waits: false,
  claimed_until: null,
  request_key: null,
};

/** A customer whom the provider knows. */
async function known(more: Record<string, unknown> = {}): Promise<Client> {
  const client = await kit.signUp(more);
  await calm();
  heard = [];
  return client;
}

const patch = async (client: Client, body: object): Promise<void> => {
  expect((await client.send('PATCH', '/users/profile/', { body })).status).toBe(200);
};

describe('a change', () => {
  test('is noticed in the customer’s transaction and told by a job, and an account that settles has nothing left over', async () => {
    const ada = await kit.signUp({ first_name: 'Ada', phone: '05327770001', sms_allowed: true });
    expect(new Set(await marks())).toEqual(new Set([ada.id]));
    expect(heard).toEqual([]);
    await calm();
    expect(heard.length).toBe(1);
    expect(members.get(ada.id)).toEqual({
      email: ada.email,
      name: { first: 'Ada', last: 'Yılmaz' },
      phone: null,
      gender: null,
      born: null,
      language: 'en',
      active: true,
      club: null,
      may: { email: false, sms: true, call: false },
    });
    expect(heard[0]!.key).toMatch(/^[0-9a-f-]{36}$/);
    expect(await marks()).toEqual([]);
    expect(await rowOf(ada.id)).toEqual(SETTLED);
    expect(await kit.rows('select connector, outcome, count from loyalty_attempt')).toEqual([
      { connector: 'http', outcome: 'delivered', count: 1 },
    ]);
  });

  test.each([
    ['first_name', { first_name: 'Grace' }, { name: { first: 'Grace', last: 'Yılmaz' } }],
    ['last_name', { last_name: 'Hopper' }, { name: { first: 'Ada', last: 'Hopper' } }],
    ['gender', { gender: 'female' }, { gender: 'female' }],
    ['date_of_birth', { date_of_birth: '1990-05-01' }, { born: '1990-05-01' }],
    ['language_code', { language_code: 'tr-tr' }, { language: 'tr-tr' }],
    ['attributes', { attributes: { club: 'gold' } }, { club: 'gold' }],
    ['email_allowed', { email_allowed: true }, { may: { email: true, sms: false, call: false } }],
  ])('of %s by the profile arrives', async (_field, body, shown) => {
    const ada = await known();
    await patch(ada, body);
    await calm();
    expect(heard.length).toBe(1);
    expect(members.get(ada.id)).toMatchObject(shown);
  });

  test('of a phone number arrives when it is proven, with what may be sent to it', async () => {
    const ada = await known();
    const phone = '+905327770002';
    await ada.send('PATCH', '/users/profile-with-loyalty/', { body: { phone, sms_allowed: true } });
    await calm();
    expect(heard).toEqual([]);
    await kit.jobs();
    const code = /\d{6}/.exec((await kit.outbox('sms')).findLast(({ recipient }) => recipient === phone)!.body)![0];
    const saved = await ada.send('PATCH', '/users/profile-with-loyalty/', { body: { phone, sms_allowed: true, code } });
    expect(saved.status).toBe(200);
    await calm();
    expect(members.get(ada.id)).toMatchObject({ phone, may: { email: false, sms: true, call: false } });
    await patch(ada, { phone: null });
    await calm();
    expect(members.get(ada.id)).toMatchObject({ phone: null, may: { email: false, sms: false, call: false } });
  });

  test('of the e-mail address arrives when it is proven', async () => {
    const ada = await known({ email_allowed: true });
    const email = `fresh.${ada.email}`;
    await ada.send('POST', '/users/email-change/', { body: { email, password: PASSWORD } });
    await calm();
    expect(heard).toEqual([]);
    const mail = (await kit.outbox('mail')).findLast(({ recipient }) => recipient === email)!;
    const token = /token=([\w-]+)/.exec(mail.body)?.[1] ?? /([0-9a-f]{32}[\w-]{20,})/.exec(mail.body)![1]!;
    expect((await kit.send('POST', '/users/email-change/confirm/', { body: { token } })).status).toBe(200);
    await calm();
    expect(members.get(ada.id)).toMatchObject({ email, may: { email: false } });
  });

  test('of a consent arrives from the API, a file, one click and the preference page', async () => {
    const ada = await known();
    const may = (): unknown => (members.get(ada.id)!['may'] as { email: boolean }).email;
    const said = await api('POST', '/v1/consents', {
      body: { recipient: ada.email, channel: 'email', granted: true, source: 'checkout' },
    });
    expect(said.status).toBe(201);
    await calm();
    expect(may()).toBe(true);

    const { body } = await api('GET', `/v1/accounts/${ada.id}/unsubscribe-headers`);
    const path = (link: string): string => new URL(link.replace(/[<>]/g, '')).pathname;
    const click = await kit.send('POST', path(body['List-Unsubscribe']), { form: 'List-Unsubscribe=One-Click' });
    expect(click.status).toBe(200);
    await calm();
    expect(may()).toBe(false);

    const page = path(body.preferences);
    const shown = Object.fromEntries(
      [...(await kit.send('GET', page)).text.matchAll(/name="(shown\.[\w.]+)"\s+value="([^"]*)"/g)].map(
        ([, name, value]) => [name!, value!],
      ),
    );
    const form = new URLSearchParams({ ...shown, 'on.marketing.email': '1' }).toString();
    expect((await kit.send('POST', page, { form })).status).toBeLessThan(400);
    await calm();
    expect(may()).toBe(true);

    async function* file(): AsyncGenerator<Buffer> {
      yield Buffer.from(
        `recipient,channel,granted,occurred_at\n${ada.email},email,false,${kit.ctx.clock.now().toISOString()}\n`,
      );
    }
    const summary = await importConsents(kit.ctx, file(), {
      batch: 1000,
      dryRun: false,
      source: 'import',
      actor: 'command',
      refused: (_head, _record, why) => {
        throw new Error(why);
      },
    });
    expect(summary.written).toBe(1);
    await calm();
    expect(may()).toBe(false);
  });

  test('of an account that is switched off arrives: not active, and nothing may be sent', async () => {
    const ada = await known({ email_allowed: true });
    await kit.rows('update account set is_active = false where id = $1', ada.id);
    await calm();
    expect(members.get(ada.id)).toMatchObject({ active: false, may: { email: false } });
  });

  test('that nobody is told of marks nothing; one that is taken back before it was told is not told', async () => {
    const ada = await known();
    await kit.rows('update account set last_login = now(), version = version + 1 where id = $1', ada.id);
    await kit.signIn(ada.email);
    expect(await marks()).toEqual([]);
    await patch(ada, { first_name: 'Grace' });
    await patch(ada, { first_name: 'Ada' });
    await calm();
    expect(heard).toEqual([]);
    expect(await rowOf(ada.id)).toEqual(SETTLED);
  });

  test('marks nothing and moves nothing while no connector is configured', async () => {
    const ada = await kit.signUp();
    await dispatchLoyalty(kit.ctx);
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { connector: 'none' });
    await kit.jobs();
    await patch(ada, { first_name: 'Grace' });
    expect(await marks()).toEqual([]);
    expect(await turn()).toEqual({ noticed: 0, planned: 0 });
    expect([heard, (await rowOf(ada.id))!['status']]).toEqual([[], 'waiting']);
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', setting());
    await calm();
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Grace' } });
  });

  test('that comes while another is told is told after it, in order and with a higher number', async () => {
    const ada = await known();
    await patch(ada, { first_name: 'First' });
    let second: Promise<void> | undefined;
    deed = (request, response, commit) => {
      if (second !== undefined) return well(request, response, commit);
      second = patch(ada, { first_name: 'Second' }).then(async () => {
        // Noticed while the call is under way, and nobody else begins.
        expect(await dispatchLoyalty(kit.ctx)).toEqual({ noticed: 1, planned: 0 });
        well(request, response, commit);
      });
    };
    await turn();
    await second;
    expect(await rowOf(ada.id)).toMatchObject({ status: 'waiting', waits: true, attempts: 0 });
    await calm();
    expect(heard.map(({ body }) => (body['name'] as { first: string }).first)).toEqual(['First', 'Second']);
    expect(heard[1]!.sequence).toBeGreaterThan(heard[0]!.sequence);
    expect(heard[1]!.key).not.toBe(heard[0]!.key);
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Second' } });
  });

  test('is one of many: only the newest is told', async () => {
    const ada = await known();
    for (const first_name of ['One', 'Two', 'Three']) await patch(ada, { first_name });
    await calm();
    expect(heard.map(({ body }) => body['name'])).toEqual([{ first: 'Three', last: 'Yılmaz' }]);
  });

  test('after the provider was changed is told to the new one, whatever the old one had', async () => {
    const ada = await known();
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { ...setting(), url: `${base}/other/{account}` });
    await patch(ada, { first_name: 'Grace' });
    await patch(ada, { first_name: 'Ada' });
    await calm();
    expect(heard.length).toBe(1);
  });
});

describe('an erased account', () => {
  test('is forgotten by the provider, and here', async () => {
    const ada = await known();
    await kit.rows(
      `update loyalty_member set card_number = 'C-1', tier = 'gold', points = 5 where account = $1`,
      ada.id,
    );
    expect((await api('POST', '/v1/erasures', { body: { account: ada.id } })).status).toBe(200);
    expect(await kit.rows('select card_number, tier, points from loyalty_member where account = $1', ada.id)).toEqual([
      { card_number: null, tier: null, points: null },
    ]);
    await calm();
    expect(heard.map(({ method, account }) => [method, account])).toEqual([['DELETE', ada.id]]);
    expect([members.has(ada.id), await rowOf(ada.id)]).toEqual([false, undefined]);
  });

  test('that was never told is not told either', async () => {
    const ada = await kit.signUp();
    await dispatchLoyalty(kit.ctx);
    await api('POST', '/v1/erasures', { body: { account: ada.id } });
    await calm();
    expect([heard, await rowOf(ada.id)]).toEqual([[], undefined]);
  });

  test('is parked where the provider cannot be told, and dropped once it was done by hand', async () => {
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { ...setting(), forget: 'none' });
    const ada = await known();
    await api('POST', '/v1/erasures', { body: { account: ada.id } });
    await calm();
    expect(await rowOf(ada.id)).toMatchObject({
      status: 'parked',
      reason: 'the account was erased and this provider cannot be told: erase it there by hand, then drop it here',
    });
    expect((await assent(['loyalty', 'drop', String(ada.id)])).code).toBe(0);
    expect(await rowOf(ada.id)).toBe(undefined);
  });

  test('that another provider was told of is named until it was erased there by hand', async () => {
    const ada = await known();
    const there = { ...setting(), url: `${base}/other/{account}` };
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', there);
    const place = configured(kit.ctx)!.place;
    await patch(ada, { first_name: 'Grace' });
    await calm();
    // Told in other words, it is the same provider.
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { ...there, fields: { mail: 'email' } });
    await patch(ada, { email_allowed: true });
    await calm();
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', setting());
    expect(await listParked(kit.ctx)).toEqual([]);
    await api('POST', '/v1/erasures', { body: { account: ada.id } });
    await calm();
    expect([members.has(ada.id), await rowOf(ada.id)]).toEqual([false, undefined]);
    expect(await listParked(kit.ctx)).toEqual([
      {
        account: ada.id,
        attempts: 0,
        since: expect.any(String),
        reason: `${place}: the account was erased, and this provider was told of it before: erase it there by hand, then drop it here`,
      },
    ]);
    expect((await loyaltyFindings(kit.ctx)).map(({ detail }) => detail)).toContain(
      '1 account erased here may still be known to a former provider',
    );
    // Nothing else of what is left over is a fault while nobody is to be told.
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { connector: 'none' });
    await kit.rows("insert into loyalty_member (account, status, next_at) values (900000001, 'parked', now())");
    expect((await loyaltyFindings(kit.ctx)).map(({ detail }) => detail)).toEqual([
      '1 account erased here may still be known to a former provider',
    ]);
    await kit.rows('delete from loyalty_member');
    expect(await assent(['loyalty', 'drop', String(ada.id)])).toMatchObject({ code: 0, out: `dropped: ${ada.id}\n` });
    expect([await listParked(kit.ctx), (await loyaltyStatus(kit.ctx)).by_hand]).toEqual([[], 0]);
  });

  test('leaves no sum of what was told behind, also when a call was under way', async () => {
    const ada = await known();
    const sums = (): Promise<unknown[]> =>
      kit.rows('select delivered_sum, request_sum from loyalty_member where account = $1', ada.id);
    expect(await sums()).toEqual([{ delivered_sum: expect.any(Buffer), request_sum: null }]);
    await patch(ada, { first_name: 'Grace' });
    let erased: unknown[] | undefined;
    let under: unknown[] | undefined;
    deed = (request, response, commit) =>
      void (async () => {
        under = await sums();
        await api('POST', '/v1/erasures', { body: { account: ada.id } });
        erased = await sums();
        well(request, response, commit);
      })();
    await turn();
    expect(under).toEqual([{ delivered_sum: expect.any(Buffer), request_sum: expect.any(Buffer) }]);
    expect(erased).toEqual([{ delivered_sum: null, request_sum: null }]);
    expect(await sums()).toEqual([{ delivered_sum: null, request_sum: null }]);
    deed = well;
    await calm();
    expect([members.has(ada.id), await rowOf(ada.id)]).toEqual([false, undefined]);
  });

  test('is not missed while no connector is configured', async () => {
    const ada = await known();
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { connector: 'none' });
    await api('POST', '/v1/erasures', { body: { account: ada.id } });
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', setting());
    await calm();
    expect([heard.map(({ method }) => method), await rowOf(ada.id)]).toEqual([['DELETE'], undefined]);
  });
});

describe('a provider that does not do what it should', () => {
  test('takes a change without saying so: asked again with the same key, it has one effect', async () => {
    const ada = await known();
    effects = 0;
    deed = takenAndCut;
    await patch(ada, { first_name: 'Grace' });
    await turn();
    expect(await rowOf(ada.id)).toMatchObject({ status: 'waiting', attempts: 1, reason: 'connection lost' });
    deed = well;
    expect(await turn()).toEqual({ noticed: 0, planned: 0 });
    kit.advance(6000);
    await calm();
    expect(new Set(heard.map(({ key }) => key)).size).toBe(1);
    expect(new Set(heard.map(({ sequence }) => sequence)).size).toBe(1);
    expect([heard.length, effects]).toEqual([2, 1]);
    expect(await rowOf(ada.id)).toEqual(SETTLED);
  });

  test('does not answer: other content goes out under another key, and one that arrives late is put right', async () => {
    const ada = await known();
    await kit.set('LOYALTY_TIMEOUT', 1);
    let late: (() => void) | undefined;
    deed = (_request, _response, commit) => {
      late = commit;
    };
    await patch(ada, { first_name: 'Late' });
    await turn();
    await kit.set('LOYALTY_TIMEOUT', 10);
    expect(await rowOf(ada.id)).toMatchObject({ status: 'waiting', reason: 'no answer in time' });
    deed = well;
    await patch(ada, { first_name: 'Grace' });
    kit.advance(6000);
    await calm();
    expect(heard[1]!.key).not.toBe(heard[0]!.key);
    expect(heard[1]!.sequence).toBeGreaterThan(heard[0]!.sequence);
    late!();
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Late' } });
    kit.advance(61_000);
    await calm();
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Grace' } });
    expect(await kit.rows('select check_at, status from loyalty_member where account = $1', ada.id)).toEqual([
      { check_at: null, status: 'settled' },
    ]);
  });

  test('takes a change without saying so that is then taken back: it is told of that', async () => {
    const ada = await known();
    deed = takenAndCut;
    await patch(ada, { first_name: 'Grace' });
    await turn();
    deed = well;
    await patch(ada, { first_name: 'Ada' });
    kit.advance(6000);
    await calm();
    expect(heard.map(({ body }) => (body['name'] as { first: string }).first)).toEqual(['Grace', 'Ada']);
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Ada' } });
  });

  test('brings an erased account back, because an earlier request arrives late: it is forgotten again', async () => {
    const ada = await known();
    await kit.set('LOYALTY_TIMEOUT', 1);
    let late: (() => void) | undefined;
    deed = (_request, _response, commit) => {
      late = commit;
    };
    await patch(ada, { first_name: 'Late' });
    await turn();
    await kit.set('LOYALTY_TIMEOUT', 10);
    deed = well;
    await api('POST', '/v1/erasures', { body: { account: ada.id } });
    kit.advance(6000);
    await calm();
    expect([members.has(ada.id), (await rowOf(ada.id))!['status']]).toEqual([false, 'settled']);
    late!();
    kit.advance(61_000);
    await calm();
    expect([members.has(ada.id), await rowOf(ada.id)]).toEqual([false, undefined]);
    expect(heard.map(({ method }) => method)).toEqual(['PUT', 'DELETE', 'DELETE']);
  });

  test('asks us to wait: not a moment earlier, and it costs no attempt', async () => {
    const ada = await known();
    deed = answering(429, { 'retry-after': '120' });
    await patch(ada, { first_name: 'Grace' });
    await calm();
    deed = well;
    kit.advance(118_000);
    expect((await turn()).planned).toBe(0);
    expect(await rowOf(ada.id)).toMatchObject({ status: 'waiting', attempts: 0, reason: 'HTTP 429' });
    kit.advance(3000);
    await calm();
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Grace' } });
  });

  test('refuses a record: it is parked with its reason, others go on, and its next change is a new chance', async () => {
    const [ada, bora] = [await known(), await known()];
    deed = (request, response, commit) =>
      request.url!.endsWith(`/${ada.id}`) ? answering(422)(request, response, commit) : well(request, response, commit);
    await patch(ada, { first_name: 'Bad' });
    await patch(bora, { first_name: 'Good' });
    await calm();
    expect(await rowOf(ada.id)).toEqual({ ...SETTLED, status: 'parked', attempts: 1, reason: 'HTTP 422', waits: true });
    expect(members.get(bora.id)).toMatchObject({ name: { first: 'Good' } });
    deed = well;
    await patch(ada, { first_name: 'Better' });
    await calm();
    expect(await rowOf(ada.id)).toEqual(SETTLED);
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Better' } });
  });

  test('fails for one record for ever: it is parked after its attempts, with the breaker closed and others delivered', async () => {
    await kit.set('LOYALTY_ATTEMPTS', 6);
    const [ada, bora] = [await known(), await known()];
    deed = (request, response, commit) =>
      request.url!.endsWith(`/${ada.id}`) ? answering(500)(request, response, commit) : well(request, response, commit);
    await patch(ada, { first_name: 'Bad' });
    for (let attempt = 1; attempt <= 6; attempt += 1) {
      await calm();
      expect(await rowOf(ada.id)).toMatchObject({ status: attempt < 6 ? 'waiting' : 'parked', attempts: attempt });
      kit.advance(4_000_000);
    }
    await patch(bora, { first_name: 'Good' });
    await calm();
    expect(members.get(bora.id)).toMatchObject({ name: { first: 'Good' } });
    expect(heard.filter(({ account }) => account === ada.id).length).toBe(6);
    expect(await rowOf(ada.id)).toMatchObject({ status: 'parked', reason: 'HTTP 500' });
  });

  test('is down: left alone after five failures, asked by one now and then, nobody is parked, customers do not notice', async () => {
    await kit.set('LOYALTY_ATTEMPTS', 2);
    const customers = [];
    for (let count = 0; count < 8; count += 1) customers.push(await known());
    deed = answering(503);
    for (const client of customers) await patch(client, { first_name: 'Grace' });
    await turn();
    const [breaker] = await kit.rows<{ failures: number; reason: string }>(
      'select failures, reason, opened_at is not null as open from loyalty_breaker',
    );
    expect(breaker).toEqual({ failures: 5, reason: 'HTTP 503', open: true });
    heard = [];
    const probes: number[] = [];
    for (let seconds = 0; seconds < 3600; seconds += 5) {
      kit.advance(5000);
      await dispatchLoyalty(kit.ctx);
      if ((await kit.rows('select from graphile_worker._private_jobs')).length === 0) continue;
      await kit.jobs();
      probes.push(heard.length);
      heard = [];
      if (probes.length === 6) break;
    }
    expect(probes).toEqual([1, 1, 1, 1, 1, 1]);
    await patch(customers[0]!, { last_name: 'Hopper' });
    expect((await kit.send('GET', '/readyz')).status).toBe(200);
    expect(await kit.rows(`select distinct status, attempts from loyalty_member where status <> 'settled'`)).toEqual([
      { status: 'waiting', attempts: 0 },
    ]);
    deed = well;
    kit.advance(301_000);
    await calm();
    kit.advance(301_000);
    await calm();
    expect(await kit.rows('select failures, opened_at from loyalty_breaker')).toEqual([
      { failures: 0, opened_at: null },
    ]);
    for (const { id } of customers) expect(members.get(id)).toMatchObject({ name: { first: 'Grace' } });
    expect(members.get(customers[0]!.id)).toMatchObject({ name: { last: 'Hopper' } });
  });

  test('fails for everybody: attempts while it is left alone count for nobody', async () => {
    await kit.set('LOYALTY_ATTEMPTS', 3);
    const customers = [await known(), await known(), await known()];
    deed = answering(500);
    blind = 500;
    for (const client of customers) await patch(client, { first_name: 'Grace' });
    for (let probes = 0; probes < 15; probes += 1) {
      await turn();
      kit.advance(301_000);
    }
    expect(heard.length).toBeGreaterThan(12);
    expect(await kit.rows('select distinct status, attempts < 3 as few from loyalty_member')).toEqual([
      { status: 'waiting', few: true },
    ]);
    deed = well;
    for (let turns = 0; turns < 3; turns += 1) {
      await calm();
      kit.advance(301_000);
    }
    for (const { id } of customers) expect(members.get(id)).toMatchObject({ name: { first: 'Grace' } });
  });

  test.each([
    ['answers questions about them', {}],
    ['cannot be asked', { read: 'none' }],
  ])(
    'fails for three records alone and %s: they are parked after their attempts, and nothing stays open',
    async (_how, more) => {
      await kit.set('LOYALTY_ATTEMPTS', 3);
      await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { ...setting(), ...more });
      const customers = [await known(), await known(), await known()];
      deed = answering(500);
      for (const client of customers) await patch(client, { first_name: 'Bad' });
      for (let times = 0; times < 15; times += 1) {
        await calm();
        kit.advance(4_000_000);
      }
      expect(await kit.rows('select status, attempts, reason from loyalty_member')).toEqual(
        customers.map(() => ({ status: 'parked', attempts: 3, reason: 'HTTP 500' })),
      );
      expect((await loyaltyStatus(kit.ctx)).breaker).toMatchObject({ state: 'half_open', open: false });
    },
  );

  test('was left alone and nothing is due: that is half-open and no finding, and the next change closes it', async () => {
    const ada = await known();
    await kit.rows(
      "insert into loyalty_breaker (connector, failures, opened_at, open_until, reason) values ('http', 5, $1, $2, 'HTTP 503')",
      kit.ctx.clock.now(),
      new Date(kit.ctx.clock.now().getTime() + 15_000),
    );
    const open = async (): Promise<string[]> => {
      const { text } = await kit.send('GET', '/metrics');
      const line = /^assent_loyalty_breaker_open.*$/m.exec(text)![0];
      const details = (await loyaltyFindings(kit.ctx)).map(({ detail }) => detail);
      return [line.slice(-1), (await loyaltyStatus(kit.ctx)).breaker.state, details[0]!.replace(/ since .*:/, ':')];
    };
    expect(await open()).toEqual(['1', 'open', 'the provider is left alone: HTTP 503']);
    kit.advance(16_000);
    expect((await open()).slice(0, 2)).toEqual(['0', 'half_open']);
    expect(await loyaltyFindings(kit.ctx)).not.toContainEqual(
      expect.objectContaining({ detail: expect.stringContaining('left alone') }),
    );
    // A command goes by the clock of the machine.
    await kit.rows("update loyalty_breaker set open_until = '2000-01-01'");
    expect((await assent(['loyalty', 'status'])).out).toContain(
      'breaker    half-open, will be tried with the next change: HTTP 503\n',
    );
    await patch(ada, { first_name: 'Grace' });
    expect((await open()).slice(0, 2)).toEqual(['1', 'open']);
    await calm();
    expect((await loyaltyStatus(kit.ctx)).breaker.state).toBe('closed');
  });

  test('has an account for which there are no words any more when it is looked at: it is parked, and no job fails', async () => {
    const ada = await known();
    await kit.rows("update loyalty_member set check_at = '2000-01-01' where account = $1", ada.id);
    const { http } = loyaltyConnectors;
    const shows = vi.spyOn(http!, 'shows').mockImplementation(() => {
      throw new Error('no words');
    });
    await calm();
    shows.mockRestore();
    expect(await rowOf(ada.id)).toMatchObject({
      status: 'parked',
      reason: 'the connector cannot put this account into words: see the log',
    });
  });

  test('cuts the connection of one account: that may be about the account, so the others are asked as ever', async () => {
    const ada = await known();
    deed = cut;
    await patch(ada, { first_name: 'Grace' });
    for (let attempt = 1; attempt <= 7; attempt += 1) {
      await calm();
      kit.advance(4_000_000);
    }
    expect(await kit.rows('select failures, accounts, opened_at, reason from loyalty_breaker')).toEqual([
      { failures: 7, accounts: [ada.id], opened_at: null, reason: 'connection lost' },
    ]);
  });
});

describe('processes', () => {
  test('two of them tell each change once', async () => {
    const twin = await kit.twin();
    await twin.ctx.settings.refresh(twin.ctx.db);
    const customers = [];
    for (let count = 0; count < 6; count += 1) customers.push(await known());
    for (const client of customers) await patch(client, { first_name: 'Grace' });
    for (let turns = 0; turns < 3; turns += 1) {
      await Promise.all([dispatchLoyalty(kit.ctx), dispatchLoyalty(twin.ctx)]);
      await Promise.all([kit.jobs(), twin.jobs()]);
    }
    expect(heard.map(({ account }) => account).sort((a, b) => a - b)).toEqual(customers.map(({ id }) => id));
  });

  test('one that is killed between asking and settling: its claim runs out, and the same key goes out again', async () => {
    const ada = await known();
    effects = 0;
    await patch(ada, { first_name: 'Grace' });
    await dispatchLoyalty(kit.ctx);
    const [job] = await kit.rows<{ payload: Record<string, number> }>(
      'select payload from graphile_worker._private_jobs',
    );
    // Its database goes away with the answer on its way.
    const killed = {
      ...kit.ctx,
      db: {
        ...kit.ctx.db,
        transaction: () => Promise.reject(new Error('killed')),
      },
    };
    await expect(deliverLoyalty(killed, job!.payload)).rejects.toThrow('killed');
    expect([heard.length, effects]).toEqual([1, 1]);
    // The job is begun again by whoever finds it, and leaves the account to the claim.
    await calm();
    expect(heard.length).toBe(1);
    kit.advance(51_000);
    await calm();
    expect([heard.length, effects, new Set(heard.map(({ key }) => key)).size]).toEqual([2, 1, 1]);
    expect(await rowOf(ada.id)).toEqual(SETTLED);
  });
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A command, as a process of its own beside the service. */
function assent(args: string[]): Promise<Ran> {
  const { host, port, user, password, database } = kit.connection as unknown as Record<string, string>;
  const address = `postgres:///${database}?host=${encodeURIComponent(host!)}&port=${port}&user=${user}${password ? `&password=${password}` : ''}`;
  const secret = 'a secret key of the tests, and of nothing else';
  return new Promise((done) => {
    execFile(
      process.execPath,
      ['src/main.ts', ...args],
      { env: { PATH: process.env['PATH'], DATABASE_URL: address, SECRET_KEY: secret } },
      (error, out, err) => done({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

describe('an operator', () => {
  test('sees what is parked, tries it again or gives it up', async () => {
    const [ada, bora] = [await known(), await known()];
    deed = answering(422);
    for (const client of [ada, bora]) await patch(client, { first_name: 'Bad' });
    await calm();
    const parked = await assent(['loyalty', 'parked', '--json']);
    expect(JSON.parse(parked.out)).toEqual(
      [ada, bora].map(({ id }) => ({ account: id, reason: 'HTTP 422', attempts: 1, since: expect.any(String) })),
    );
    const status = await assent(['loyalty', 'status', '--json']);
    expect(JSON.parse(status.out)).toMatchObject({
      connector: 'http',
      waiting: 0,
      parked: 2,
      parked_reason: 'HTTP 422',
      oldest_seconds: null,
      breaker: { open: false },
      attempts: { delivered: 2, refused: 2 },
    });
    expect(await assent(['loyalty', 'drop', String(bora.id)])).toEqual({
      code: 0,
      out: `dropped: ${bora.id}\n`,
      err: 'The provider is not told of these until something changes again.\n',
    });
    deed = well;
    expect(await assent(['loyalty', 'retry', '--all'])).toEqual({ code: 0, out: `retried: ${ada.id}\n`, err: '' });
    expect(await assent(['loyalty', 'retry', '999999999'])).toEqual({
      code: 1,
      out: '',
      err: 'Neither waiting nor parked: 999999999\n',
    });
    await calm();
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Bad' } });
    expect(members.get(bora.id)).toMatchObject({ name: { first: 'Ada' } });
    await patch(bora, { last_name: 'Hopper' });
    await calm();
    expect(members.get(bora.id)).toMatchObject({ name: { first: 'Bad', last: 'Hopper' } });
  });

  test('gives up a change whose call is under way: what it may still do is looked at', async () => {
    const ada = await known();
    await kit.set('LOYALTY_TIMEOUT', 1);
    let late: (() => void) | undefined;
    deed = (_request, _response, commit) => {
      void dropChanges(kit.ctx, [ada.id]);
      late = commit;
    };
    await patch(ada, { first_name: 'Late' });
    await turn();
    await kit.set('LOYALTY_TIMEOUT', 10);
    expect(await rowOf(ada.id)).toMatchObject({ status: 'settled' });
    late!();
    // Meanwhile it was taken back, and the provider is not told of that.
    await kit.rows("update account set first_name = 'Ada' where id = $1", ada.id);
    await kit.rows('delete from loyalty_mark');
    deed = well;
    kit.advance(61_000);
    await calm();
    expect(members.get(ada.id)).toMatchObject({ name: { first: 'Ada' } });
    expect(await kit.rows('select status, check_at from loyalty_member')).toEqual([
      { status: 'settled', check_at: null },
    ]);
  });

  test('can try the connection, and a provider that answers is asked again at once', async () => {
    await kit.rows(
      `insert into loyalty_breaker (connector, failures, opened_at, open_until, reason) values ('http', 5, now(), now() + interval '1 day', 'HTTP 503')`,
    );
    expect(await assent(['loyalty', 'test'])).toEqual({
      code: 0,
      out: 'http: it answers as it should (HTTP 404)\n',
      err: '',
    });
    expect(await kit.rows('select failures, opened_at from loyalty_breaker')).toEqual([
      { failures: 0, opened_at: null },
    ]);
    // A terminal would obey it (CSI 2 J).
    members.set(0, ['\u009b2J'] as never);
    expect(await assent(['loyalty', 'test'])).toEqual({
      code: 1,
      out: 'http: the answer is no JSON object; it said: [" 2J"]\n',
      err: '',
    });
    members.delete(0);
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { ...setting(), url: 'http://127.0.0.1:1/{account}' });
    expect(await assent(['loyalty', 'test', '--json'])).toMatchObject({
      code: 1,
      out: expect.stringContaining('connection refused'),
    });
  });

  test('reads in the metrics and from the doctor what is wrong, and nothing about a person', async () => {
    const ada = await known();
    deed = answering(422);
    await patch(ada, { first_name: 'Bad' });
    await calm();
    await kit.rows(
      `insert into loyalty_breaker (connector, failures, opened_at, open_until, reason) values ('http', 5, '2026-01-02T03:04:05Z', '2126-01-02T03:05:05Z', 'HTTP 401')
       on conflict (connector) do update set failures = 5, opened_at = excluded.opened_at, open_until = excluded.open_until, reason = excluded.reason`,
    );
    const { text } = await kit.send('GET', '/metrics');
    for (const line of [
      'assent_loyalty_waiting 0',
      'assent_loyalty_parked 1',
      'assent_loyalty_oldest_seconds 0',
      'assent_loyalty_breaker_open{connector="http"} 1',
      'assent_loyalty_attempts_total{connector="http",outcome="delivered"} 1',
      'assent_loyalty_attempts_total{connector="http",outcome="refused"} 1',
      '# TYPE assent_sms_messages gauge',
      'assent_jobs_waiting 0',
    ])
      expect(text.split('\n')).toContain(line);
    expect(text).not.toContain(ada.email);
    const findings = JSON.parse((await assent(['doctor', '--json'])).out) as { name: string; detail: string }[];
    const details = findings.filter(({ name }) => name === 'loyalty').map(({ detail }) => detail);
    expect(details[0]).toBe('the provider is left alone since 2026-01-02T03:04:05.000Z: HTTP 401');
    expect(details[1]).toBe('1 account could not be delivered, most often: HTTP 422');
    expect(details[2]).toMatch(/^http was never told of \d+ accounts$/);
  });
});

test('a breaker stays open for 15 seconds, twice as long after each probe that fails, five minutes at most', () => {
  const at = new Date('2026-01-01T00:00:00Z');
  let breaker: Breaker = { failures: 0, accounts: [], opened_at: null, open_until: null, reason: null };
  const seconds = (): number | null => breaker.open_until && (breaker.open_until.getTime() - at.getTime()) / 1000;
  const fail = (account: number, more: Partial<Trouble> = {}): number | null => {
    breaker = afterFailure(breaker, { account, reason: 'HTTP 500', wide: false, probe: false, ...more }, at);
    return seconds();
  };
  // Five in a row, of three accounts at least.
  expect([1, 1, 2, 2, 1, 1].map((account) => fail(account))).toEqual([null, null, null, null, null, null]);
  expect(fail(3)).toBe(15);
  // Those that were under way tell nothing new.
  expect([fail(4), fail(5)]).toEqual([15, 15]);
  expect([1, 2, 3, 4, 5, 6].map((account) => fail(account, { probe: true }))).toEqual([30, 60, 120, 240, 300, 300]);
  expect(fail(1, { probe: true, after: 900 })).toBe(900);
  breaker = { failures: 4, accounts: [1], opened_at: null, open_until: null, reason: null };
  expect(fail(1, { wide: true })).toBe(15);
});

test('the metrics answer without a database, with what the process knows', async () => {
  const away = (): Promise<never> => Promise.reject(new Failure('database_away'));
  const http = await createHttp({ ...kit.ctx, db: { ...kit.ctx.db, one: away, rows: away } }, { trustedProxies: [] });
  const { statusCode, body } = await http.inject({ method: 'GET', url: '/metrics' });
  expect([statusCode, body.includes('process_uptime_seconds'), body.includes('assent_loyalty')]).toEqual([
    200,
    true,
    false,
  ]);
  await http.close();
});

test('what a sweep finds is noted or told again', async () => {
  const ada = await known();
  const own = configured(kit.ctx)!;
  const sum = sumOfMember(own, (await readMembers(kit.ctx, [ada.id])).get(ada.id)!);
  await kit.rows('delete from loyalty_member');
  await noteSeen(kit.ctx, own, [{ account: ada.id, sum }]);
  await patch(ada, { first_name: 'Grace' });
  await patch(ada, { first_name: 'Ada' });
  await calm();
  expect(heard).toEqual([]);
  members.delete(ada.id);
  await redeliver(kit.ctx, [ada.id]);
  await calm();
  expect(members.has(ada.id)).toBe(true);
  expect(await rowOf(ada.id)).toEqual(SETTLED);
});
