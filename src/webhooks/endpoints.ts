/** Endpoints: who is told, of what, and the secrets that sign it. */
import { randomBytes } from 'node:crypto';
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail, refuse } from '../platform/failure.ts';
import { decrypt, encrypt } from '../platform/secrets.ts';
import { urlProblem } from './addresses.ts';
import { type Planned, plan } from './dispatch.ts';

/** Secrets of one endpoint that are valid together: signatures of more would outgrow what servers take as a header. */
const SECRETS = 4;

export interface EndpointView {
  id: number;
  url: string;
  types: string[] | null;
  description: string;
  paused_at: Date | null;
  pause_reason: 'operator' | 'gone' | null;
  failing_since: Date | null;
  created_at: Date;
  created_by: string;
  /** Messages under way or held back by a pause. */
  waiting: number;
  /** Messages given up. */
  failed: number;
}

export interface EndpointChange {
  readonly url?: string;
  readonly types?: readonly string[] | null;
  readonly description?: string;
  readonly paused?: boolean;
}

/** The address as it is kept. @throws invalid when nothing may be sent there */
function checkUrl(ctx: Ctx, url: string): string {
  const key = urlProblem(url, ctx.settings.get('WEBHOOK_PRIVATE_ADDRESSES'));
  if (key !== undefined) refuse({ path: ['url'], key });
  return new URL(url).href;
}

const place = (endpoint: number): string => `endpoint ${endpoint}`;

/** Makes and keeps a new secret. @returns it, for the only time */
async function addSecret(ctx: Ctx, endpoint: number): Promise<string> {
  const secret = `whsec_${randomBytes(32).toString('base64')}`;
  await ctx.db.run(sql`
    insert into webhook_secret (endpoint, secret, created_at)
    values (${endpoint}, ${encrypt(ctx.keys.encryption('webhook_secret'), secret, place(endpoint))}, ${ctx.clock.now()})`);
  return secret;
}

/** The secrets that sign now, newest first. */
export async function validSecrets(ctx: Ctx, endpoint: number): Promise<string[]> {
  const rows = await ctx.db.rows<{ secret: Buffer }>(sql`
    select secret from webhook_secret
     where endpoint = ${endpoint} and (expires_at is null or expires_at > ${ctx.clock.now()}) order by id desc`);
  return rows.map(({ secret }) => decrypt(ctx.keys.encryption('webhook_secret'), secret, place(endpoint)));
}

/** All endpoints, or the one of this id, in the order they were made. */
export const listEndpoints = (ctx: Ctx, id: number | null = null): Promise<EndpointView[]> =>
  ctx.db.rows<EndpointView>(sql`
    select w.id, w.url, w.types, w.description, w.paused_at, w.pause_reason, w.failing_since, w.created_at, w.created_by,
           (select count(*) from webhook_message m where m.endpoint = w.id and m.status = 'waiting') as waiting,
           (select count(*) from webhook_message m where m.endpoint = w.id and m.status = 'failed') as failed
      from webhook_endpoint w where ${id}::bigint is null or w.id = ${id} order by w.id`);

/** @throws not_found */
export const readEndpoint = async (ctx: Ctx, id: number): Promise<EndpointView> =>
  (await listEndpoints(ctx, id))[0] ?? fail('not_found');

/** Makes an endpoint; it is told of what happens from now on. @returns it with its secret, which is never shown again */
export function createEndpoint(
  ctx: Ctx,
  { url, types = null, description = '' }: EndpointChange & { readonly url: string },
  createdBy: string,
): Promise<EndpointView & { secret: string }> {
  const address = checkUrl(ctx, url);
  return transaction(ctx, async (tx) => {
    const row = await tx.db.one<{ id: number }>(sql`
      insert into webhook_endpoint (url, types, description, created_at, created_by)
      values (${address}, ${types}::text[], ${description}, ${tx.clock.now()}, ${createdBy}) returning id`);
    const secret = await addSecret(tx, row!.id);
    return { ...(await readEndpoint(tx, row!.id)), secret };
  });
}

/** Changes what is given. Resuming sends all that waited. @throws not_found, invalid */
export function changeEndpoint(ctx: Ctx, id: number, change: EndpointChange): Promise<EndpointView> {
  const { types, description, paused } = change;
  return transaction(ctx, async (tx) => {
    const known = await tx.db.one<{ url: string; paused: boolean }>(
      sql`select url, paused_at is not null as paused from webhook_endpoint where id = ${id} for update`,
    );
    if (known === undefined) fail('not_found');
    const url = change.url === undefined ? known.url : checkUrl(tx, change.url);
    const now = tx.clock.now();
    await tx.db.run(sql`
      update webhook_endpoint
         set url = ${url},
             types = case when ${types === undefined} then types else ${types ?? null}::text[] end,
             description = coalesce(${description ?? null}, description),
             paused_at = case ${paused ?? null}::boolean when true then coalesce(paused_at, ${now}) when false then null else paused_at end,
             pause_reason = case ${paused ?? null}::boolean when true then coalesce(pause_reason, 'operator') when false then null else pause_reason end,
             -- Another receiver has not failed yet.
             failing_since = case when ${url === known.url} then failing_since end
       where id = ${id}`);
    if (known.paused && paused === false) {
      const waiting = await tx.db.rows<Planned>(sql`
        update webhook_message m set next_at = ${now}
          from webhook_endpoint w
         where m.endpoint = ${id} and m.status = 'waiting' and w.id = m.endpoint
        returning m.number, m.endpoint, w.failing_since is not null as failing`);
      await plan(
        tx,
        waiting.sort((a, b) => a.number - b.number),
      );
    }
    return readEndpoint(tx, id);
  });
}

/** Removes an endpoint with its messages. @throws not_found */
export async function deleteEndpoint(ctx: Ctx, id: number): Promise<void> {
  const gone = await ctx.db.run(sql`delete from webhook_endpoint where id = ${id}`);
  if (gone === 0) fail('not_found');
}

/**
 * Gives an endpoint a new secret. The one before signs beside it for `overlap` seconds, so that the receiver can change
 * over in its own time.
 * @returns the new secret, for the only time, and when the one before ends
 * @throws not_found
 */
export function rotateSecret(
  ctx: Ctx,
  id: number,
  overlap: number,
): Promise<{ secret: string; previous_expires_at: Date }> {
  return transaction(ctx, async (tx) => {
    const found = await tx.db.one(sql`select from webhook_endpoint where id = ${id} for update`);
    if (found === undefined) fail('not_found');
    const now = tx.clock.now();
    const ends = new Date(now.getTime() + overlap * 1000);
    // One that is ending already ends no later than it was told.
    await tx.db.run(sql`
      update webhook_secret set expires_at = least(expires_at, ${ends}::timestamptz) where endpoint = ${id}`);
    await tx.db.run(sql`
      delete from webhook_secret
       where endpoint = ${id}
         and (expires_at <= ${now}
              or id not in (select id from webhook_secret where endpoint = ${id} order by id desc limit ${SECRETS - 1}))`);
    return { secret: await addSecret(tx, id), previous_expires_at: ends };
  });
}
