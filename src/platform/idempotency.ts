/**
 * `Idempotency-Key` for calls that can be repeated by their nature: the key only guards against being used for two
 * different requests. Kept for a week.
 */
import type { Ctx } from './ctx.ts';
import { sql } from './db.ts';
import { fail, refuse } from './failure.ts';
import type { Incoming } from './http.ts';
import { stringifyJson } from './json.ts';

/**
 * Takes a request's key for what it asks.
 * @param caller whose keys: two callers may use the same
 * @param request what is asked, path and body
 * @returns the keyed hash that stands for it while it is known, hex; undefined without a key
 * @throws invalid for a key that is none, idempotency_mismatch where it was used for something else
 */
export async function takeKey(
  ctx: Ctx,
  caller: string,
  incoming: Incoming,
  request: unknown,
): Promise<string | undefined> {
  const key = incoming.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) refuse({ path: ['Idempotency-Key'], key: 'idempotency.format' });
  const hash = ctx.keys.hash('idempotency', 'key', caller, key);
  const asked = ctx.keys.hash('idempotency', 'request', incoming.path, stringifyJson(request));
  await ctx.db.run(sql`
    insert into idempotency_key (key_hash, request_hash, created_at) values (${hash}, ${asked}, ${ctx.clock.now()}) on conflict do nothing`);
  const known = await ctx.db.one<{ request_hash: Buffer; created_at: Date }>(
    sql`select request_hash, created_at from idempotency_key where key_hash = ${hash}`,
  );
  if (known !== undefined && !known.request_hash.equals(asked)) fail('idempotency_mismatch');
  // The ledger keeps it for good: with its time, so that a key used again when it was forgotten is a new one there too.
  const since = (known?.created_at ?? ctx.clock.now()).toISOString();
  return ctx.keys.hash('idempotency', 'taken', hash, since).toString('hex');
}

/** Forgets keys after a week. */
export const sweepKeys = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from idempotency_key where created_at < ${ctx.clock.now()}::timestamptz - interval '7 days'`);
