/**
 * From what happened to messages. The ledger is the outbox of consents: sealing has put its lines in one order without
 * gaps, so a cursor is enough, and no request pays for anybody being told. Changes of addresses have a queue of their own.
 */
import type { PointKind } from '../accounts/contact-points.ts';
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { enqueueAll } from '../platform/jobs.ts';
import { lineKinds, POINT_CHANGED, typeOfLine } from './types.ts';

/** Lines, and changes, of one turn. */
const MOST = 5000;
/**
 * One of the four lanes of an endpoint: so many of its messages are under way at a time. By a hash (Fibonacci's), because
 * the numbers of one endpoint's messages are as far apart as there are endpoints.
 */
const laneOf = (number: number): number => Math.imul(number, 0x9e3779b1) >>> 30;

/** A message as far as its job is concerned. */
export interface Planned {
  readonly number: number;
  readonly endpoint: number;
  /** The endpoint's last attempt failed. */
  readonly failing: boolean;
}

/**
 * Puts the job that sends each of these messages, in place of one that waits for it already. An endpoint that fails has
 * one lane: waiting for it holds up its own messages and one of the workers, never all of them.
 * @param after seconds until it may start
 */
export const plan = (ctx: Ctx, messages: readonly Planned[], after = 0): Promise<void> =>
  enqueueAll(
    ctx,
    'deliver_webhook',
    messages.map(({ number, endpoint, failing }) => ({
      payload: { message: number },
      queue: `webhook:${endpoint}:${failing ? 0 : laneOf(number)}`,
      key: `webhook:${number}`,
      after,
    })),
  );

export interface PointChange {
  readonly account: number;
  readonly kind: PointKind;
  /** `changed`: another address than before, or the first; `removed`: none any more; `erased`: the address itself is gone. */
  readonly change: 'changed' | 'verified' | 'removed' | 'erased';
  /** Id of the point the account has now; null when it has none. */
  readonly contactPoint: number | null;
  /** Id of the point it had before, where that was another. */
  readonly previous: number | null;
}

/**
 * Has `contact_point.changed` told to all who want to know, once the caller's transaction commits. One statement for
 * any number of changes; addresses are looked up when the message goes out, so give ids and nothing else.
 */
export async function announceContactPoint(ctx: Ctx, changes: readonly PointChange[]): Promise<void> {
  if (changes.length === 0) return;
  await ctx.db.run(sql`
    insert into contact_point_change (account, kind, change, contact_point, previous, at)
    select account, kind, change, contact_point, previous, ${ctx.clock.now()}
      from unnest(${changes.map(({ account }) => account)}::bigint[], ${changes.map(({ kind }) => kind)}::text[],
                  ${changes.map(({ change }) => change)}::text[],
                  ${changes.map(({ contactPoint }) => contactPoint)}::bigint[],
                  ${changes.map(({ previous }) => previous)}::bigint[])
                  with ordinality as c (account, kind, change, contact_point, previous, n)
     order by n`);
}

interface Made extends Planned {
  readonly paused: boolean;
}

/** Those of a paused endpoint wait without a job: resuming puts it. */
const planMade = (ctx: Ctx, made: readonly Made[]): Promise<void> =>
  plan(
    ctx,
    made.filter(({ paused }) => !paused),
  );

/** Messages for the lines beyond the cursor. @returns how many lines */
async function dispatchLines(ctx: Ctx): Promise<number> {
  const next = await ctx.db.one<{ position: number | null; lines: number }>(sql`
    select max(position) as position, count(*) as lines from (
      select position from ledger_line where position > (select position from webhook_cursor)
       order by position limit ${MOST}) beyond`);
  if (next!.position === null) return 0;
  const now = ctx.clock.now();
  // Shared locks: whoever resumes an endpoint comes before this and is seen, or after it and sees what was made.
  const made = await ctx.db.rows<Made>(sql`
    with endpoint as materialized (select * from webhook_endpoint for share), made as (
      insert into webhook_message (endpoint, type, event, created_at, next_at)
      select w.id, t.type, e.id, ${now}, ${now}
        from ledger_line l
        join consent_event e on e.id = l.event
        join unnest(${lineKinds}::text[], ${lineKinds.map(typeOfLine)}::text[]) as t (kind, type) on t.kind = e.kind
        join endpoint w on w.types is null or t.type = any (w.types)
       where l.position > (select position from webhook_cursor) and l.position <= ${next!.position}
         and e.outcome = 'applied'
       order by l.position, w.id
      on conflict (endpoint, event) do nothing
      returning number, endpoint)
    select m.number, m.endpoint, w.paused_at is not null as paused, w.failing_since is not null as failing
      from made m join endpoint w on w.id = m.endpoint order by m.number`);
  await planMade(ctx, made);
  await ctx.db.run(sql`update webhook_cursor set position = ${next!.position}`);
  return next!.lines;
}

/** Messages for the changes of addresses that wait. @returns how many changes */
async function dispatchChanges(ctx: Ctx): Promise<number> {
  const taken = await ctx.db.rows<{ id: number }>(sql`
    delete from contact_point_change where id in (select id from contact_point_change order by id limit ${MOST})
    returning id, account, kind, change, contact_point, previous, at`);
  if (taken.length === 0) return 0;
  const now = ctx.clock.now();
  const changes = taken.sort((a, b) => a.id - b.id).map(({ id: _, ...change }) => JSON.stringify(change));
  const made = await ctx.db.rows<Made>(sql`
    with endpoint as materialized (select * from webhook_endpoint for share), made as (
      insert into webhook_message (endpoint, type, change, created_at, next_at)
      select w.id, ${POINT_CHANGED}, c.change, ${now}, ${now}
        from unnest(${changes}::jsonb[]) with ordinality as c (change, n)
        join endpoint w on w.types is null or ${POINT_CHANGED} = any (w.types)
       order by c.n, w.id
      returning number, endpoint)
    select m.number, m.endpoint, w.paused_at is not null as paused, w.failing_since is not null as failing
      from made m join endpoint w on w.id = m.endpoint order by m.number`);
  await planMade(ctx, made);
  return taken.length;
}

/**
 * Makes messages of what was sealed and of what waits, for every endpoint that wants them, and puts the jobs that send
 * them; if no other process is at it.
 * @returns how many lines and changes were taken; up to 5000 of each in one call
 */
export async function dispatchWebhooks(ctx: Ctx): Promise<number> {
  const waiting = await ctx.db.one<{ any: boolean }>(sql`
    select exists (select from contact_point_change)
        or exists (select from ledger_line where position > (select position from webhook_cursor)) as any`);
  if (!waiting!.any) return 0;
  return transaction(ctx, async (tx) => {
    const lock = await tx.db.one<{ mine: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtext('assent.webhooks')) as mine`,
    );
    if (!lock!.mine) return 0;
    return (await dispatchLines(tx)) + (await dispatchChanges(tx));
  });
}
