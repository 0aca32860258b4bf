/** Messages as operators see them: what came of each, and sending it again. */
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { type Planned, plan } from './dispatch.ts';
import { readEndpoint } from './endpoints.ts';
import { TEST } from './types.ts';

export const statuses = ['waiting', 'delivered', 'failed'] as const;

export interface MessageView {
  /** The `webhook-id` under which the receiver knows it. */
  id: string;
  type: string;
  /** The line of the ledger that it tells of. */
  event: string | null;
  status: (typeof statuses)[number];
  created_at: Date;
  next_at: Date | null;
  ended_at: Date | null;
  /** How often it was sent, whatever came of it. */
  attempts: number;
  last_error: string | null;
}

export interface AttemptView {
  at: Date;
  status: number | null;
  milliseconds: number;
  error: string | null;
}

export interface MessageFilter {
  readonly status?: string | undefined;
  /** `next` of the page before. */
  readonly after?: number | undefined;
  readonly limit: number;
}

/** A page of an endpoint's messages, newest first. @throws not_found */
export async function listMessages(
  ctx: Ctx,
  endpoint: number,
  { status, after, limit }: MessageFilter,
): Promise<{ items: MessageView[]; next: string | null }> {
  await readEndpoint(ctx, endpoint);
  const rows = await ctx.db.rows<MessageView & { number: number }>(sql`
    select m.number, m.id, m.type, m.event, m.status, m.created_at, case when w.paused_at is null then m.next_at end as next_at, m.ended_at,
           (select count(*) from webhook_attempt a where a.message = m.number) as attempts,
           (select a.error from webhook_attempt a where a.message = m.number order by a.id desc limit 1) as last_error
      from webhook_message m join webhook_endpoint w on w.id = m.endpoint
     where m.endpoint = ${endpoint}
       and (${status ?? null}::text is null or m.status = ${status ?? null})
       and (${after ?? null}::bigint is null or m.number < ${after ?? null})
     order by m.number desc limit ${limit + 1}`);
  const page = rows.slice(0, limit);
  return {
    items: page.map(({ number: _, ...message }) => message),
    next: rows.length > limit ? String(page.at(-1)!.number) : null,
  };
}

/** One message with all attempts, oldest first. @throws not_found */
export async function readMessage(
  ctx: Ctx,
  endpoint: number,
  id: string,
): Promise<Omit<MessageView, 'attempts' | 'last_error'> & { attempts: AttemptView[] }> {
  const row = await ctx.db.one<MessageView & { number: number }>(sql`
    select m.number, m.id, m.type, m.event, m.status, m.created_at, case when w.paused_at is null then m.next_at end as next_at, m.ended_at
      from webhook_message m join webhook_endpoint w on w.id = m.endpoint
     where m.endpoint = ${endpoint} and m.id = ${id}`);
  if (row === undefined) fail('not_found');
  const { number, ...message } = row;
  const attempts = await ctx.db.rows<AttemptView>(
    sql`select at, status, milliseconds, error from webhook_attempt where message = ${number} order by id`,
  );
  return { ...message, attempts };
}

/** Puts their jobs. Those of a paused endpoint wait for it to be resumed. */
const planAgain = (ctx: Ctx, messages: readonly (Planned & { paused: boolean })[]): Promise<void> =>
  plan(
    ctx,
    messages.filter(({ paused }) => !paused).sort((a, b) => a.number - b.number),
  );

/** Starts the schedule anew of the message of this id, or of all that were given up and made since then. */
async function again(ctx: Ctx, endpoint: number, { id, since }: { id?: string; since?: Date }): Promise<number> {
  // Shared lock: whoever resumes the endpoint comes before this and is seen, or after it and sees what waits.
  const messages = await ctx.db.rows<Planned & { paused: boolean }>(sql`
    with w as materialized (select * from webhook_endpoint where id = ${endpoint} for share)
    update webhook_message m set status = 'waiting', tries = 0, next_at = ${ctx.clock.now()}, ended_at = null
      from w
     where m.endpoint = w.id
       and (${id ?? null}::text is null or m.id = ${id ?? null})
       and (${since ?? null}::timestamptz is null or (m.status = 'failed' and m.created_at >= ${since ?? null}))
    returning m.number, m.endpoint, w.failing_since is not null as failing, w.paused_at is not null as paused`);
  await planAgain(ctx, messages);
  return messages.length;
}

/** Sends a message again, whatever has come of it. The receiver sees the same `webhook-id`. @throws not_found */
export function resendMessage(ctx: Ctx, endpoint: number, id: string): ReturnType<typeof readMessage> {
  return transaction(ctx, async (tx) => {
    await again(tx, endpoint, { id });
    return readMessage(tx, endpoint, id);
  });
}

/** Sends all again that were given up and were made since then. @returns how many. @throws not_found */
export function resendFailed(ctx: Ctx, endpoint: number, since: Date): Promise<number> {
  return transaction(ctx, async (tx) => {
    await readEndpoint(tx, endpoint);
    return again(tx, endpoint, { since });
  });
}

/** Sends a message that tells of nothing, so that a receiver can be tried. @throws not_found */
export function sendTest(ctx: Ctx, endpoint: number): ReturnType<typeof readMessage> {
  return transaction(ctx, async (tx) => {
    const now = tx.clock.now();
    const made = await tx.db.rows<Planned & { id: string; paused: boolean }>(sql`
      with w as (select * from webhook_endpoint where id = ${endpoint} for share), made as (
        insert into webhook_message (endpoint, type, created_at, next_at)
        select id, ${TEST}, ${now}, ${now} from w returning number, id, endpoint)
      select m.number, m.id, m.endpoint, w.failing_since is not null as failing, w.paused_at is not null as paused
        from made m join w on w.id = m.endpoint`);
    await planAgain(tx, made);
    return readMessage(tx, endpoint, made[0]?.id ?? fail('not_found'));
  });
}

/** Messages a statement removes at most: one that removes too many is stopped by its time limit and removes none. */
const BATCH = 5000;

/** Forgets what ended longer ago than WEBHOOK_MESSAGE_AGE, delivered or given up. What waits stays. */
export async function sweepWebhooks(ctx: Ctx): Promise<void> {
  const before = new Date(ctx.clock.now().getTime() - ctx.settings.get('WEBHOOK_MESSAGE_AGE') * 1000);
  let gone: number;
  do {
    gone = await ctx.db.run(sql`
      delete from webhook_message where number in
        (select number from webhook_message where ended_at < ${before} order by ended_at limit ${BATCH})`);
  } while (gone === BATCH);
  await ctx.db.run(sql`delete from webhook_secret where expires_at < ${ctx.clock.now()}`);
}
