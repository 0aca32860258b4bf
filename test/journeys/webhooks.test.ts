/** Webhooks: what happens to consents and addresses is told, signed, once each, to whoever is listening. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { sealAll } from '../../src/consent/ledger/seals.ts';
import { startWorker } from '../../src/platform/jobs.ts';
import { decrypt, encrypt } from '../../src/platform/secrets.ts';
import { dispatcherFor, isPrivate } from '../../src/webhooks/addresses.ts';
import { deliverWebhook, schedule } from '../../src/webhooks/delivery.ts';
import { announceContactPoint, dispatchWebhooks } from '../../src/webhooks/dispatch.ts';
import { changeEndpoint } from '../../src/webhooks/endpoints.ts';
import { sweepWebhooks } from '../../src/webhooks/messages.ts';
import { createKit, type Kit, type Send } from '../kit.ts';

interface Received {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

let kit: Kit;
let send: Send;
let receiver: Server;
let base: string;
/** What reached the receiver, in order. */
let received: Received[];
/** How the receiver answers; by default it takes everything. */
let answer: (request: IncomingMessage, response: ServerResponse) => void;

const status =
  (code: number, headers: Record<string, string> = {}) =>
  (_request: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(code, headers).end('an answer that is of no interest');
  };

beforeAll(async () => {
  kit = await createKit();
  send = await kit.apiKey('webhooks');
  receiver = createServer((incoming, response) => {
    let body = '';
    incoming.setEncoding('utf8');
    incoming.on('data', (chunk: string) => {
      body += chunk;
    });
    incoming.on('end', () => {
      received.push({ path: incoming.url!, headers: incoming.headers as Record<string, string>, body });
      answer(incoming, response);
    });
  });
  await new Promise<void>((done) => receiver.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
});

afterAll(async () => {
  receiver.closeAllConnections();
  await new Promise((done) => receiver.close(done));
  await kit.close();
});

beforeEach(async () => {
  await kit.set('WEBHOOK_PRIVATE_ADDRESSES', true);
  received = [];
  answer = status(204);
});

afterEach(async () => {
  await kit.rows('delete from webhook_endpoint');
  await kit.rows('delete from graphile_worker._private_jobs');
  await kit.set('WEBHOOK_TIMEOUT', 15);
});

const consentTypes = ['consent.granted', 'consent.refused', 'consent.withdrawn', 'consent.expired'];

/** Makes an endpoint at the receiver. */
async function endpoint(
  path = '/hook',
  more: object = { types: consentTypes },
): Promise<{ id: number; secret: string }> {
  const { status: code, body } = await send('POST', '/v1/webhooks', { body: { url: base + path, ...more } });
  expect(code).toBe(201);
  return body;
}

/** What the sealer and the dispatcher do twice a second. */
async function announce(): Promise<number> {
  await sealAll(kit.ctx);
  return dispatchWebhooks(kit.ctx);
}

/** The queue of jobs that send, with the seconds each was put off. */
const jobs = (): Promise<{ task: string; payload: { message: number }; queue: string; delay: number }[]> =>
  kit.rows(`
    select t.identifier as task, j.payload, q.queue_name as queue,
           round(extract(epoch from j.run_at - j.created_at))::int as delay
      from graphile_worker._private_jobs j
      join graphile_worker._private_tasks t on t.id = j.task_id
      left join graphile_worker._private_job_queues q on q.id = j.job_queue_id
     where t.identifier = 'deliver_webhook' order by j.id`);

/** Has what is planned for later be due, and does it. */
async function nextAttempt(): Promise<void> {
  await kit.rows(`update graphile_worker._private_jobs set run_at = now() - interval '1 second'`);
  await kit.jobs();
}

const messages = (id: number): Promise<Record<string, unknown>[]> =>
  kit.rows('select type, status, tries from webhook_message where endpoint = $1 order by number', id);

/** Sends a test message and says how the receiver's answer was understood. */
async function tried(id: number): Promise<{ status: number | null; error: string | null }[]> {
  const { body } = await send('POST', `/v1/webhooks/${id}/test`);
  await kit.jobs();
  const reply = await send('GET', `/v1/webhooks/${id}/messages/${body.id}`);
  return reply.body.attempts.map((attempt: { status: number | null; error: string | null }) => ({
    status: attempt.status,
    error: attempt.error,
  }));
}

describe('a consent', () => {
  test('that changes is told, signed, by nobody the customer waits for', async () => {
    const { id, secret } = await endpoint();
    const customer = await kit.signUp();
    await announce();
    await kit.jobs();
    received = [];

    expect((await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true } })).status).toBe(200);
    const [line] = await kit.rows<{ id: string; occurred_at: Date; recorded_at: Date }>(
      'select id, occurred_at, recorded_at from consent_event where account = $1',
      customer.id,
    );
    expect(await messages(id)).toEqual([]);
    expect(await jobs()).toEqual([]);

    expect(await announce()).toBe(1);
    expect(await messages(id)).toEqual([{ type: 'consent.granted', status: 'waiting', tries: 0 }]);
    await kit.jobs();
    expect(received.map(({ path }) => path)).toEqual(['/hook']);
    const { headers, body } = received[0]!;
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'webhook-id': expect.stringMatching(/^msg_[0-9a-f]{32}$/),
      'webhook-timestamp': expect.stringMatching(/^\d{10}$/),
      'webhook-signature': expect.stringMatching(/^v1,[A-Za-z0-9+/]{43}=$/),
    });
    expect(new Webhook(secret).verify(body, headers)).toEqual({
      type: 'consent.granted',
      timestamp: line!.recorded_at.toISOString(),
      data: {
        id: line!.id,
        kind: 'grant',
        channel: 'email',
        purpose: 'marketing',
        recipient: customer.email,
        account: customer.id,
        source: 'account',
        occurred_at: line!.occurred_at.toISOString(),
        recorded_at: line!.recorded_at.toISOString(),
        state: 'granted',
      },
    });
    expect(await messages(id)).toEqual([{ type: 'consent.granted', status: 'delivered', tries: 1 }]);
    expect(await jobs()).toEqual([]);
    // Nothing is told twice.
    expect(await announce()).toBe(0);
    await kit.jobs();
    expect(received).toHaveLength(1);
  });

  test('is told in the state it was left in by that line, with no address once that was erased', async () => {
    await endpoint();
    const customer = await kit.signUp();
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: false } });
    await announce();
    await kit.rows('update contact_point set value = null where value = $1', customer.email);
    await kit.jobs();
    expect(
      received.map(({ body }) => JSON.parse(body).data).map((data) => [data.kind, data.state, data.recipient]),
    ).toEqual([
      ['grant', 'granted', null],
      ['withdraw', 'withdrawn', null],
    ]);
  });

  test('that a rule kept from counting is not told', async () => {
    const { id } = await endpoint();
    const customer = await kit.signUp();
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await kit.rows(
      `with line as (
         insert into consent_event (id, contact_point, account, channel, purpose, kind, occurred_at, recorded_at, source, actor, commitment, hash, outcome)
         select gen_random_uuid(), contact_point, account, channel, purpose, 'withdraw', occurred_at, recorded_at, source, actor, commitment, hash, 'overtaken'
           from consent_event where account = $1 returning id)
       insert into ledger_unsealed select id from line`,
      customer.id,
    );
    expect(await announce()).toBe(2);
    expect(await messages(id)).toEqual([{ type: 'consent.granted', status: 'waiting', tries: 0 }]);
  });

  test('is told to those who asked for its type, and to those who asked for all', async () => {
    const granted = await endpoint('/granted', { types: ['consent.granted'] });
    const all = await endpoint('/all', { types: null });
    const customer = await kit.signUp();
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: false } });
    await announce();
    const told = async (id: number): Promise<unknown[]> =>
      (await messages(id)).map(({ type }) => type).filter((type) => String(type).startsWith('consent.'));
    expect(await told(granted.id)).toEqual(['consent.granted']);
    expect(await told(all.id)).toEqual(['consent.granted', 'consent.withdrawn']);
  });

  test('makes one message per endpoint, in the order of the ledger, with several dispatchers at once', async () => {
    const ids = [(await endpoint('/one')).id, (await endpoint('/two')).id];
    const twin = await kit.twin();
    await announce();
    const customers = await Promise.all([1, 2, 3, 4].map(() => kit.signUp()));
    for (let round = 0; round < 6; round += 1) {
      const value = round % 2 === 0;
      await Promise.all(
        customers.map(({ send: as }) => as('PATCH', '/users/profile/', { body: { email_allowed: value } })),
      );
      await sealAll(kit.ctx);
      const taken = await Promise.all([kit, twin, kit, twin].map(({ ctx }) => dispatchWebhooks(ctx)));
      // Whoever found the lock taken leaves the lines to whoever holds it.
      expect(taken.reduce((sum, lines) => sum + lines)).toBe(4);
    }
    const told = await kit.rows<{ endpoint: number; event: string }>(
      'select endpoint, event from webhook_message order by number',
    );
    const lines = await kit.rows<{ event: string }>(
      `select event from ledger_line join consent_event e on e.id = event where account = any ($1) order by position`,
      customers.map(({ id }) => id),
    );
    expect(lines).toHaveLength(24);
    for (const id of ids)
      expect(told.filter((row) => row.endpoint === id).map(({ event }) => event)).toEqual(
        lines.map(({ event }) => event),
      );
  });
});

describe('an address', () => {
  test('that changes is told with the one before', async () => {
    const { id, secret } = await endpoint('/points', { types: ['contact_point.changed'] });
    await dispatchWebhooks(kit.ctx);
    const points = await kit.rows<{ id: number }>(
      `insert into contact_point (kind, value, address_hash, created_at)
       values ('phone', '+905321112233', 'a', now()), ('phone', '+905324445566', 'b', now()) returning id`,
    );
    await announceContactPoint(kit.ctx, []);
    await announceContactPoint(kit.ctx, [
      { account: 7, kind: 'phone', change: 'changed', contactPoint: points[1]!.id, previous: points[0]!.id },
      { account: 8, kind: 'phone', change: 'removed', contactPoint: null, previous: points[1]!.id },
    ]);
    expect(await messages(id)).toEqual([]);
    expect(await dispatchWebhooks(kit.ctx)).toBe(2);
    expect(await kit.rows('select * from contact_point_change')).toEqual([]);
    await kit.jobs();
    const told = received.map(({ body, headers }) => new Webhook(secret).verify(body, headers));
    expect(told).toEqual([
      {
        type: 'contact_point.changed',
        timestamp: expect.stringMatching(/^\d{4}-\d{2}-\d{2}T/),
        data: { account: 7, kind: 'phone', change: 'changed', address: '+905324445566', previous: '+905321112233' },
      },
      {
        type: 'contact_point.changed',
        timestamp: expect.stringMatching(/^\d{4}-\d{2}-\d{2}T/),
        data: { account: 8, kind: 'phone', change: 'removed', address: null, previous: '+905324445566' },
      },
    ]);
  });

  test('whose change is committed late is told late, not never', async () => {
    const { id } = await endpoint('/points', { types: ['contact_point.changed'] });
    await dispatchWebhooks(kit.ctx);
    const change = { kind: 'email', change: 'verified', contactPoint: null, previous: null } as const;
    await kit.ctx.db.transaction(async (db) => {
      await announceContactPoint({ ...kit.ctx, db }, [{ ...change, account: 1 }]);
      await announceContactPoint(kit.ctx, [{ ...change, account: 2 }]);
      expect(await dispatchWebhooks(kit.ctx)).toBe(1);
    });
    expect(await dispatchWebhooks(kit.ctx)).toBe(1);
    const told = await kit.rows(
      `select change ->> 'account' as account from webhook_message where endpoint = $1 order by number`,
      id,
    );
    expect(told).toEqual([{ account: '2' }, { account: '1' }]);
  });
});

describe('a receiver', () => {
  test('that fails is tried again by the schedule, then given up, and sent to again by hand', async () => {
    const { id } = await endpoint();
    answer = status(503);
    const { body: message } = await send('POST', `/v1/webhooks/${id}/test`);
    await kit.jobs();
    for (const [index, seconds] of schedule.entries()) {
      expect(await messages(id)).toEqual([{ type: 'webhook.test', status: 'waiting', tries: index + 1 }]);
      const [job, ...others] = await jobs();
      expect(others).toEqual([]);
      expect(job!.queue).toBe(`webhook:${id}:0`);
      expect(job!.delay).toBeGreaterThanOrEqual(Math.floor(seconds * 0.9));
      expect(job!.delay).toBeLessThanOrEqual(Math.ceil(seconds * 1.1));
      // Not before its time.
      await kit.jobs();
      expect(received).toHaveLength(index + 1);
      await nextAttempt();
    }
    expect(await messages(id)).toEqual([{ type: 'webhook.test', status: 'failed', tries: 11 }]);
    expect(await jobs()).toEqual([]);
    expect((await send('GET', `/v1/webhooks/${id}`)).body).toMatchObject({
      waiting: 0,
      failed: 1,
      failing_since: expect.stringMatching(/Z$/),
    });
    const failed = await send('GET', `/v1/webhooks/${id}/messages?status=failed`);
    expect(failed.body).toEqual({
      items: [
        {
          id: message.id,
          type: 'webhook.test',
          event: null,
          status: 'failed',
          created_at: message.created_at,
          next_at: null,
          ended_at: expect.stringMatching(/Z$/),
          attempts: 11,
          last_error: 'HTTP 503',
        },
      ],
      next: null,
    });
    expect((await send('GET', `/v1/webhooks/${id}/messages?status=delivered`)).body.items).toEqual([]);

    answer = status(200);
    const resent = await send('POST', `/v1/webhooks/${id}/messages/${message.id}/resend`);
    expect([resent.status, resent.body.status, resent.body.attempts.length]).toEqual([202, 'waiting', 11]);
    await kit.jobs();
    const read = await send('GET', `/v1/webhooks/${id}/messages/${message.id}`);
    expect([read.body.status, read.body.next_at, read.body.attempts.length]).toEqual(['delivered', null, 12]);
    expect(read.body.attempts.at(-1)).toEqual({
      at: expect.stringMatching(/Z$/),
      status: 200,
      milliseconds: expect.any(Number),
      error: null,
    });
    expect(new Set(received.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([message.id]));
    expect((await send('GET', `/v1/webhooks/${id}`)).body).toMatchObject({ failed: 0, failing_since: null });
  });

  test('gets all again that were given up since a time', async () => {
    const { id } = await endpoint();
    for (let index = 0; index < 3; index += 1) await send('POST', `/v1/webhooks/${id}/test`);
    await kit.rows('delete from graphile_worker._private_jobs');
    const [first] = await kit.rows<{ number: number }>(
      `update webhook_message set status = 'failed', tries = 11, next_at = null, ended_at = now() where endpoint = $1 returning number`,
      id,
    );
    await kit.rows(`update webhook_message set created_at = '2020-01-01Z' where number = $1`, first!.number);
    const resend = (body: object): ReturnType<Send> => send('POST', `/v1/webhooks/${id}/resend`, { body });
    const reply = await resend({ since: '2021-01-01T00:00:00+03:00' });
    expect([reply.status, reply.body]).toEqual([202, { messages: 2 }]);
    await kit.jobs();
    expect((await messages(id)).map((row) => row['status'])).toEqual(['failed', 'delivered', 'delivered']);
    expect((await resend({ since: 'yesterday' })).body.errors).toEqual([
      { pointer: '/since', code: 'time', detail: 'This must be a time with its offset, as in 2026-11-21T08:00:00Z.' },
    ]);
  });

  test('that answers with a redirect is not followed', async () => {
    const { id } = await endpoint();
    answer = status(307, { location: `${base}/elsewhere` });
    expect(await tried(id)).toEqual([{ status: 307, error: 'HTTP 307' }]);
    expect(received.map(({ path }) => path)).toEqual(['/hook']);
  });

  test('that is gone is left alone until somebody resumes it', async () => {
    const { id } = await endpoint();
    answer = status(410);
    expect(await tried(id)).toEqual([{ status: 410, error: 'HTTP 410' }]);
    expect((await send('GET', `/v1/webhooks/${id}`)).body).toMatchObject({
      paused_at: expect.stringMatching(/Z$/),
      pause_reason: 'gone',
      waiting: 1,
    });
    expect(await jobs()).toEqual([]);
    answer = status(200);
    await send('PATCH', `/v1/webhooks/${id}`, { body: { paused: false } });
    await kit.jobs();
    expect(await messages(id)).toEqual([{ type: 'webhook.test', status: 'delivered', tries: 2 }]);
  });

  test('that is paused gets nothing meanwhile, and all of it in order when resumed', async () => {
    const { id } = await endpoint();
    const customer = await kit.signUp();
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await announce();
    // Its job is there already.
    const paused = await send('PATCH', `/v1/webhooks/${id}`, { body: { paused: true } });
    expect([paused.status, paused.body.pause_reason]).toEqual([200, 'operator']);
    await kit.jobs();
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: false } });
    await announce();
    await send('POST', `/v1/webhooks/${id}/test`);
    expect(await jobs()).toEqual([]);
    expect(received).toEqual([]);
    expect(
      (await send('GET', `/v1/webhooks/${id}/messages`)).body.items.map((item: { next_at: null }) => item.next_at),
    ).toEqual([null, null, null]);

    const resumed = await send('PATCH', `/v1/webhooks/${id}`, { body: { paused: false } });
    expect(resumed.body).toMatchObject({ paused_at: null, pause_reason: null, waiting: 3 });
    expect(await jobs()).toHaveLength(3);
    await kit.jobs();
    expect(received.map(({ body }) => JSON.parse(body).type)).toEqual([
      'consent.granted',
      'consent.withdrawn',
      'webhook.test',
    ]);
  });

  test('that is resumed in the very moment a message is made gets it', async () => {
    const { id } = await endpoint();
    const customer = await kit.signUp();
    await send('PATCH', `/v1/webhooks/${id}`, { body: { paused: true } });
    await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await sealAll(kit.ctx);
    let dispatched: Promise<number> | undefined;
    await kit.ctx.db.transaction(async (db) => {
      await changeEndpoint({ ...kit.ctx, db }, id, { paused: false });
      dispatched = dispatchWebhooks(kit.ctx);
      // Until one of the two knows of the other.
      await vi.waitFor(async () => {
        const waiting = await kit.rows(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        expect(waiting).toHaveLength(1);
      });
    });
    expect(await dispatched).toBe(1);
    expect(await jobs()).toHaveLength(1);
  });

  test('that never answers holds up neither another one nor, once it is known, more than one worker', async () => {
    const dead = await endpoint('/dead');
    const alive = await endpoint('/alive');
    const held: ServerResponse[] = [];
    answer = (incoming, response) => {
      if (incoming.url === '/dead') held.push(response);
      else response.end();
    };
    for (let index = 0; index < 8; index += 1) {
      await send('POST', `/v1/webhooks/${dead.id}/test`);
      await send('POST', `/v1/webhooks/${alive.id}/test`);
    }
    const lanes = new Set(
      (await jobs()).map(({ queue }) => queue).filter((queue) => queue.startsWith(`webhook:${dead.id}:`)),
    );
    expect([2, 3, 4]).toContain(lanes.size);
    const crew = { concurrency: 5, pollInterval: 100 };
    const worker = await startWorker(kit.ctx, kit.connection, { deliver_webhook: deliverWebhook }, [], crew);
    try {
      await vi.waitFor(() => expect(received.filter(({ path }) => path === '/alive')).toHaveLength(8), 10_000);
      // One of each lane; the others of it wait.
      await vi.waitFor(() => expect(held).toHaveLength(lanes.size), 10_000);
    } finally {
      for (const response of held) response.destroy();
      answer = (incoming, response) => {
        if (incoming.url === '/dead') response.destroy();
        else response.end();
      };
      await worker.stop();
    }
    await kit.jobs();
    expect(
      await kit.rows(
        'select distinct error from webhook_attempt a join webhook_message m on m.number = a.message where endpoint = $1',
        dead.id,
      ),
    ).toEqual([{ error: 'connection lost' }]);
    await kit.rows('delete from graphile_worker._private_jobs');
    for (let index = 0; index < 8; index += 1) await send('POST', `/v1/webhooks/${dead.id}/test`);
    expect(new Set((await jobs()).map(({ queue }) => queue))).toEqual(new Set([`webhook:${dead.id}:0`]));
  });

  test('that takes longer than allowed, or is not there, has failed', async () => {
    await kit.set('WEBHOOK_TIMEOUT', 1);
    const { id } = await endpoint();
    answer = () => {};
    expect(await tried(id)).toEqual([{ status: null, error: 'no answer in time' }]);
    const nobody = createServer();
    await new Promise<void>((done) => nobody.listen(0, '127.0.0.1', done));
    const { port } = nobody.address() as AddressInfo;
    await new Promise((done) => nobody.close(done));
    await send('PATCH', `/v1/webhooks/${id}`, { body: { url: `http://127.0.0.1:${port}/` } });
    expect(await tried(id)).toEqual([{ status: null, error: 'connection refused' }]);
  });

  test('that begins an answer and never ends it has answered', async () => {
    await kit.set('WEBHOOK_TIMEOUT', 1);
    const { id } = await endpoint();
    answer = (_incoming, response) => void response.writeHead(200).write('a');
    expect(await tried(id)).toEqual([{ status: 200, error: null }]);
  });

  test('that answers without end has answered', async () => {
    const { id } = await endpoint();
    answer = (_incoming, response) => {
      response.writeHead(200);
      const pour = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      };
      response.on('drain', pour);
      pour();
    };
    expect(await tried(id)).toEqual([{ status: 200, error: null }]);
  });
});

describe('secrets', () => {
  const verifies = (secret: string, { body, headers }: Received): boolean => {
    try {
      new Webhook(secret).verify(body, headers);
      return true;
    } catch {
      return false;
    }
  };

  test('the old one signs beside the new until the overlap ends', async () => {
    const { id, secret: first } = await endpoint();
    const rotated = await send('POST', `/v1/webhooks/${id}/secret`, { body: { overlap_seconds: 60 } });
    expect([rotated.status, Object.keys(rotated.body)]).toEqual([200, ['secret', 'previous_expires_at']]);
    const second: string = rotated.body.secret;
    expect(second).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(second).not.toBe(first);
    await tried(id);
    expect([first, second].map((secret) => verifies(secret, received[0]!))).toEqual([true, true]);
    expect(received[0]!.headers['webhook-signature']).toMatch(/^v1,\S{44} v1,\S{44}$/);

    kit.advance(61_000);
    await tried(id);
    expect([first, second].map((secret) => verifies(secret, received[1]!))).toEqual([false, true]);
    expect(received[1]!.headers['webhook-signature']).toMatch(/^v1,\S{44}$/);

    const { body } = await send('POST', `/v1/webhooks/${id}/secret`, { body: { overlap_seconds: 0 } });
    await tried(id);
    expect([second, body.secret].map((secret) => verifies(secret, received[2]!))).toEqual([false, true]);
  });

  test('the overlap is a day when nothing is said, and at most four sign', async () => {
    const { id } = await endpoint();
    const before = kit.ctx.clock.now().getTime();
    const { body } = await send('POST', `/v1/webhooks/${id}/secret`);
    const ends = new Date(body.previous_expires_at).getTime();
    expect(ends - before).toBeGreaterThanOrEqual(86_400_000);
    expect(ends - kit.ctx.clock.now().getTime()).toBeLessThanOrEqual(86_400_000);
    for (let index = 0; index < 6; index += 1) await send('POST', `/v1/webhooks/${id}/secret`);
    await tried(id);
    expect(received[0]!.headers['webhook-signature']!.split(' ')).toHaveLength(4);
  });

  test('are shown once and kept encrypted, each for its own endpoint', async () => {
    const { id, secret } = await endpoint();
    for (const path of ['/v1/webhooks', `/v1/webhooks/${id}`, `/v1/webhooks/${id}/messages`])
      expect((await send('GET', path)).text).not.toContain('whsec_');
    const [row] = await kit.rows<{ secret: Buffer }>('select secret from webhook_secret where endpoint = $1', id);
    expect(row!.secret.toString('latin1')).not.toContain(secret.slice(6, 20));
    expect(kit.logged.join('\n')).not.toContain(secret.slice(6));

    const key = kit.ctx.keys.encryption('webhook_secret');
    expect(decrypt(key, row!.secret, `endpoint ${id}`)).toBe(secret);
    expect(() => decrypt(key, row!.secret, `endpoint ${id + 1}`)).toThrow();
    const twice = [encrypt(key, 'text', 'a'), encrypt(key, 'text', 'a')];
    expect(twice[0]!.equals(twice[1]!)).toBe(false);
    twice[0]![20]! ^= 1;
    expect(() => decrypt(key, twice[0]!, 'a')).toThrow();
    expect(() => decrypt(key, Buffer.from('short'), 'a')).toThrow('this is no secret of ours');
  });
});

describe('private addresses', () => {
  test.each([
    ['0.0.0.0', true],
    ['10.1.2.3', true],
    ['100.64.0.1', true],
    ['100.128.0.1', false],
    ['127.0.0.1', true],
    ['169.254.169.254', true],
    ['172.15.0.1', false],
    ['172.31.255.255', true],
    ['172.32.0.1', false],
    ['192.0.0.8', true],
    ['192.168.1.1', true],
    ['198.19.0.1', true],
    ['224.0.0.1', true],
    ['255.255.255.255', true],
    ['8.8.8.8', false],
    ['::', true],
    ['::1', true],
    ['[::1]', true],
    ['::ffff:127.0.0.1', true],
    ['::ffff:8.8.8.8', true],
    ['::127.0.0.1', true],
    ['64:ff9b::7f00:1', true],
    ['fc00::1', true],
    ['fd12:3456::1', true],
    ['fe80::1', true],
    ['fe80::1%eth0', true],
    ['ff02::1', true],
    ['2001::1', true],
    ['2001:db8::1', true],
    ['2002:7f00:1::', true],
    ['2606:4700::1111', false],
    ['2a00:1450:4001::1', false],
    ['no address', true],
  ])('%s: %s', (address, expected) => {
    expect(isPrivate(address)).toBe(expected);
  });

  test('are not connected to, however they are written', async () => {
    const port = new URL(base).port;
    const hosts = ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '[::1]', '2130706433', '0x7f.1', '127.0.0.1.'];
    for (const host of hosts) {
      const sent = request(`http://${host}:${port}/`, { method: 'POST', dispatcher: dispatcherFor(false) });
      await expect(sent, host).rejects.toMatchObject({ code: 'PRIVATE_ADDRESS' });
    }
    expect(received).toEqual([]);
    // They would have been there.
    const reply = await request(`http://localhost:${port}/`, { method: 'POST', dispatcher: dispatcherFor(true) });
    await reply.body.dump();
    expect(received).toHaveLength(1);
  });

  test('are refused as endpoints where they are written out, and at each attempt where a name leads there', async () => {
    const { id } = await endpoint();
    await kit.set('WEBHOOK_PRIVATE_ADDRESSES', false);
    const port = new URL(base).port;
    const https = 'This must be an https address without user name or password.';
    const closed = 'This address is private; only those of the open internet are called.';
    for (const [url, code, detail] of [
      ['http://shop.example/', 'https', https],
      ['https://user:secret@shop.example/', 'https', https],
      ['https://user@shop.example/', 'https', https],
      ['ftp://shop.example/', 'https', https],
      ['shop.example', 'https', https],
      ['https://127.0.0.1/', 'private', closed],
      ['https://[::ffff:10.0.0.1]/', 'private', closed],
      ['https://[::1]/', 'private', closed],
      ['https://0x7f000001/', 'private', closed],
    ]) {
      const reply = await send('POST', '/v1/webhooks', { body: { url } });
      expect([url, reply.status, reply.body.errors]).toEqual([url, 400, [{ pointer: '/url', code, detail }]]);
    }
    expect((await send('PATCH', `/v1/webhooks/${id}`, { body: { url: 'https://10.0.0.1/' } })).status).toBe(400);

    const { body } = await send('POST', '/v1/webhooks', { body: { url: `https://localhost:${port}/` } });
    expect(await tried(body.id)).toEqual([{ status: null, error: 'private address refused' }]);
    // Taken while it was allowed.
    expect(await tried(id)).toEqual([{ status: null, error: 'address refused' }]);
    expect(received).toEqual([]);
  });

  test('allowed, they may be called by http, but never with a password', async () => {
    const reply = await send('POST', '/v1/webhooks', { body: { url: 'http://a:b@127.0.0.1/' } });
    expect([reply.status, reply.body.errors[0].code]).toEqual([400, 'http']);
  });
});

test('nothing personal is in the tables of webhooks or in the jobs', async () => {
  await endpoint('/hook', { types: null });
  const customer = await kit.signUp({ phone: '+905329876543' });
  await customer.send('PATCH', '/users/profile/', { body: { email_allowed: true, sms_allowed: true } });
  const [points] = await kit.rows<{ email_point: number; phone_point: number }>(
    'select email_point, phone_point from account where id = $1',
    customer.id,
  );
  const change = { account: customer.id, kind: 'phone', change: 'changed' } as const;
  await announceContactPoint(kit.ctx, [{ ...change, contactPoint: points!.phone_point, previous: null }]);
  const tables = ['contact_point_change', 'webhook_message', 'webhook_attempt', 'webhook_endpoint'];
  const stored = async (): Promise<string> => {
    const rows = await Promise.all(tables.map((table) => kit.rows(`select t::text from ${table} t`)));
    const waiting = await kit.rows(
      `select j::text from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id where identifier = 'deliver_webhook'`,
    );
    return JSON.stringify([rows, waiting]);
  };
  const before = await stored();
  await announce();
  const planned = await stored();
  answer = (_incoming, response) => void response.writeHead(500).end(customer.email);
  await kit.jobs();
  const afterwards = await stored();
  expect(received.map(({ body }) => body).join()).toContain('+905329876543');
  for (const text of [before, planned, afterwards, kit.logged.join()]) {
    expect(text).not.toContain('905329876543');
    expect(text).not.toContain(customer.email);
  }
});

test('what ended a month ago is forgotten, what waits is not', async () => {
  const { id } = await endpoint();
  for (let index = 0; index < 3; index += 1) await send('POST', `/v1/webhooks/${id}/test`);
  const numbers = (await kit.rows<{ number: number }>('select number from webhook_message order by number')).map(
    ({ number }) => number,
  );
  const age = (days: number, state: string, number: number): Promise<unknown> =>
    kit.rows(
      `update webhook_message set status = $1, ended_at = $2, created_at = '2020-01-01Z' where number = $3`,
      state,
      state === 'waiting' ? null : new Date(kit.ctx.clock.now().getTime() - days * 86_400_000),
      number,
    );
  await age(31, 'delivered', numbers[0]!);
  await age(29, 'failed', numbers[1]!);
  await age(0, 'waiting', numbers[2]!);
  await sweepWebhooks(kit.ctx);
  expect((await messages(id)).map((row) => row['status'])).toEqual(['failed', 'waiting']);
  kit.advance(2 * 86_400_000);
  await sweepWebhooks(kit.ctx);
  expect((await messages(id)).map((row) => row['status'])).toEqual(['waiting']);
  kit.advance(-2 * 86_400_000);
});

describe('the API', () => {
  test('needs an operator or a key with the scope webhooks', async () => {
    const operator = await kit.operator();
    const other = await kit.apiKey('consents');
    const statuses = await Promise.all(
      [kit.send, other, (await kit.signUp()).send, operator.send, send].map(
        async (as) => (await as('GET', '/v1/webhooks')).status,
      ),
    );
    expect(statuses).toEqual([401, 403, 403, 200, 200]);
  });

  test('makes, lists, changes and removes endpoints', async () => {
    const reply = await send('POST', '/v1/webhooks', {
      body: { url: `${base}/a b`, types: ['consent.granted'], description: 'CRM' },
    });
    const { secret, ...view } = reply.body;
    expect([reply.status, view, secret]).toEqual([
      201,
      {
        id: expect.any(Number),
        url: `${base}/a%20b`,
        types: ['consent.granted'],
        description: 'CRM',
        paused_at: null,
        pause_reason: null,
        failing_since: null,
        created_at: expect.stringMatching(/Z$/),
        created_by: expect.stringMatching(/^key:\d+$/),
        waiting: 0,
        failed: 0,
      },
      expect.stringMatching(/^whsec_[A-Za-z0-9+/]{43}=$/),
    ]);
    const path = `/v1/webhooks/${view.id}`;
    expect((await send('GET', '/v1/webhooks')).body).toEqual({ items: [view], next: null });
    expect((await send('GET', path)).body).toEqual(view);
    const changed = await send('PATCH', path, { body: { types: null, description: '' } });
    expect([changed.status, changed.body]).toEqual([200, { ...view, types: null, description: '' }]);
    expect((await send('PATCH', path)).body).toEqual(changed.body);
    expect((await send('DELETE', path)).status).toBe(204);
    for (const [method, more] of [
      ['GET', ''],
      ['PATCH', ''],
      ['DELETE', ''],
      ['POST', '/secret'],
      ['POST', '/test'],
      ['GET', '/messages'],
      ['GET', '/messages/msg_0'],
      ['POST', '/messages/msg_0/resend'],
    ] as const)
      expect([method, more, (await send(method, path + more)).status]).toEqual([method, more, 404]);
    const resend = await send('POST', `${path}/resend`, { body: { since: '2026-01-01T00:00:00Z' } });
    expect(resend.status).toBe(404);
  });

  test('refuses what it does not know', async () => {
    const { id } = await endpoint();
    const pointers = async (method: string, path: string, body: object): Promise<unknown> => {
      const reply = await send(method, path, { body });
      return [reply.status, reply.body.errors.map((each: { pointer: string }) => each.pointer)];
    };
    expect(await pointers('POST', '/v1/webhooks', {})).toEqual([400, ['/url']]);
    expect(await pointers('POST', '/v1/webhooks', { url: base, types: ['consent.eaten'] })).toEqual([
      400,
      expect.arrayContaining(['/types/0']),
    ]);
    expect(await pointers('POST', '/v1/webhooks', { url: base, types: [] })).toEqual([
      400,
      expect.arrayContaining(['/types']),
    ]);
    expect(await pointers('PATCH', `/v1/webhooks/${id}`, { secret: 'mine' })).toEqual([400, ['/secret']]);
    expect(await pointers('POST', `/v1/webhooks/${id}/secret`, { overlap_seconds: -1 })).toEqual([
      400,
      ['/overlap_seconds'],
    ]);
    expect((await send('GET', `/v1/webhooks/${id}/messages?status=lost`)).status).toBe(400);
  });

  test('pages through messages, newest first', async () => {
    const { id } = await endpoint();
    const made: string[] = [];
    for (let index = 0; index < 3; index += 1) made.push((await send('POST', `/v1/webhooks/${id}/test`)).body.id);
    const first = await send('GET', `/v1/webhooks/${id}/messages?limit=2`);
    const second = await send('GET', `/v1/webhooks/${id}/messages?limit=2&after=${first.body.next}`);
    const ids = [...first.body.items, ...second.body.items].map((item: { id: string }) => item.id);
    expect([ids, second.body.next]).toEqual([[...made].reverse(), null]);
    // A message is found under its own endpoint only.
    const other = await endpoint('/other');
    expect((await send('GET', `/v1/webhooks/${other.id}/messages/${made[0]}`)).status).toBe(404);
  });
});
