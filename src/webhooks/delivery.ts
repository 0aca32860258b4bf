/** Sending a message (Standard Webhooks): signed, and again by a schedule until it is taken or given up. */
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Task } from '../platform/jobs.ts';
import { inWords } from '../platform/outgoing.ts';
import { dispatcherFor, urlProblem } from './addresses.ts';
import { plan } from './dispatch.ts';
import { validSecrets } from './endpoints.ts';
import { type Outgoing, outgoing } from './payload.ts';

const MINUTE = 60;
const HOUR = 3600;
/** Seconds after each failure; after the last the message is given up, three days after the first attempt. */
export const schedule: readonly number[] = [
  5,
  MINUTE,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
];
/** A tenth more or less, so that what failed together does not come back together. */
const jitter = (seconds: number): number => seconds * (0.9 + Math.random() / 5);

/** Bytes of an answer that are read, so that its connection can be used again; they are dropped. */
const ANSWER_LIMIT = 16 * 1024;

interface Attempt {
  readonly at: Date;
  readonly status: number | null;
  readonly milliseconds: number;
  /** In words of ours; null when the receiver took the message. */
  readonly error: string | null;
}

async function send(ctx: Ctx, { id, url, body }: Outgoing, secrets: readonly string[]): Promise<Attempt> {
  const at = ctx.clock.now();
  const started = performance.now();
  const done = (status: number | null, error: string | null): Attempt => ({
    at,
    status,
    milliseconds: Math.round(performance.now() - started),
    error,
  });
  const privateAddresses = ctx.settings.get('WEBHOOK_PRIVATE_ADDRESSES');
  // The setting may have changed since the address was taken.
  if (urlProblem(url, privateAddresses) !== undefined) return done(null, 'address refused');
  try {
    const answer = await request(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'Assent',
        'webhook-id': id,
        'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
        'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(id, at, body)).join(' '),
      },
      body,
      dispatcher: dispatcherFor(privateAddresses),
      signal: AbortSignal.timeout(ctx.settings.get('WEBHOOK_TIMEOUT') * 1000),
    });
    // The status is the answer; a body that breaks off changes nothing of it.
    await answer.body.dump({ limit: ANSWER_LIMIT }).catch(() => {});
    const { statusCode: status } = answer;
    return done(status, status >= 200 && status < 300 ? null : `HTTP ${status}`);
  } catch (error) {
    return done(null, inWords(error));
  }
}

/** Writes down what came of it, and plans the next attempt. Locks in the order endpoint, message, job, as all do. */
function settle(ctx: Ctx, { number, endpoint }: Outgoing, attempt: Attempt): Promise<void> {
  const { at, status, milliseconds, error } = attempt;
  return transaction(ctx, async (tx) => {
    const now = tx.clock.now();
    if (error === null) {
      await tx.db.run(
        sql`update webhook_endpoint set failing_since = null where id = ${endpoint} and failing_since is not null`,
      );
    } else if (status === 410) {
      // Gone: the receiver wants no more of them.
      await tx.db.run(sql`
        update webhook_endpoint set failing_since = coalesce(failing_since, ${now}), paused_at = ${now}, pause_reason = 'gone'
         where id = ${endpoint} and paused_at is null`);
    } else {
      await tx.db.run(
        sql`update webhook_endpoint set failing_since = ${now} where id = ${endpoint} and failing_since is null`,
      );
    }
    const message = await tx.db.one<{ status: string; tries: number }>(
      sql`select status, tries from webhook_message where number = ${number} for update`,
    );
    // Its endpoint was deleted meanwhile.
    if (message === undefined) return;
    await tx.db.run(sql`
      insert into webhook_attempt (message, at, status, milliseconds, error)
      values (${number}, ${at}, ${status}, ${milliseconds}, ${error})`);
    if (message.status !== 'waiting') return;
    const delay = error === null ? undefined : schedule[message.tries];
    const after = delay === undefined ? 0 : jitter(delay);
    const outcome = error === null ? 'delivered' : delay === undefined && status !== 410 ? 'failed' : 'waiting';
    const waits = outcome === 'waiting' && status !== 410;
    await tx.db.run(sql`
      update webhook_message
         set status = ${outcome}, tries = tries + 1,
             next_at = ${waits ? new Date(now.getTime() + after * 1000) : null},
             ended_at = ${outcome === 'waiting' ? null : now}
       where number = ${number}`);
    if (waits) await plan(tx, [{ number, endpoint, failing: true }], after);
  });
}

/** The job that sends one message. A receiver that fails is expected: only our own failures are the job's. */
export const deliverWebhook: Task = async (ctx, { message }) => {
  const out = await outgoing(ctx, Number(message));
  if (out === undefined) return;
  const secrets = await validSecrets(ctx, out.endpoint);
  await settle(ctx, out, await send(ctx, out, secrets));
};
