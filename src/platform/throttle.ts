/**
 * Throttles: fixed windows counted in PostgreSQL, so that all processes of an installation count as one. Own code and
 * not a library, because every throttled request would otherwise cost a statement of its own: here a whole batch is one.
 */
import { isIPv6 } from 'node:net';
import { countsAddresses, type Scope, settings } from '../settings.ts';
import { batched } from './batch.ts';
import type { Ctx } from './ctx.ts';
import { sql } from './db.ts';
import { Failure } from './failure.ts';

interface Hit {
  readonly scope: string;
  readonly caller: Buffer;
  readonly now: Date;
  /** Length of the window in seconds. */
  readonly duration: number;
}

interface Count {
  /** Which request of the window this one is, from 1. */
  readonly count: number;
  readonly endsAt: Date;
}

const hit = batched<Hit, Count>({
  async run(ctx, hits) {
    // Callers in key order, one row each: two processes lock rows in the same order.
    const callers = new Map<string, { hits: number[]; first: Hit }>();
    for (const [index, item] of hits.entries()) {
      const key = `${item.scope} ${item.caller.toString('hex')}`;
      const caller = callers.get(key);
      if (caller === undefined) callers.set(key, { hits: [index], first: item });
      else caller.hits.push(index);
    }
    const sorted = [...callers].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, caller]) => caller);
    const rows = await ctx.db.rows<{ n: number; count: number; ends_at: Date }>(sql`
      with hit as (
        select * from unnest(${sorted.map(({ first }) => first.scope)}::text[], ${sorted.map(({ first }) => first.caller)}::bytea[],
                             ${sorted.map((caller) => caller.hits.length)}::int[], ${sorted.map(({ first }) => first.now)}::timestamptz[],
                             ${sorted.map(({ first }) => first.duration)}::int[]) with ordinality
                      as hit (scope, caller, hits, now, duration, n)
      ), counted as (
        insert into throttle as t (scope, caller, starts_at, ends_at, count)
        select scope, caller, now, now + make_interval(secs => duration), hits from hit order by n
        on conflict (scope, caller) do update
           set count = case when t.ends_at <= excluded.starts_at then excluded.count else t.count + excluded.count end,
               starts_at = case when t.ends_at <= excluded.starts_at then excluded.starts_at else t.starts_at end,
               -- A limit shortened by its setting shortens the window that is under way.
               ends_at = case when t.ends_at <= excluded.starts_at then excluded.ends_at else least(t.ends_at, excluded.ends_at) end
        returning t.scope, t.caller, t.count, t.ends_at
      )
      select hit.n::int as n, counted.count, counted.ends_at from counted join hit using (scope, caller)`);
    const outcomes: Count[] = [];
    for (const row of rows) {
      const indexes = sorted[row.n - 1]!.hits;
      for (const [order, index] of indexes.entries()) {
        outcomes[index] = { count: row.count - indexes.length + order + 1, endsAt: row.ends_at };
      }
    }
    return outcomes;
  },
});

/** What is left of a caller's window, for the RateLimit headers (draft-ietf-httpapi-ratelimit-headers). */
export interface Allowance {
  readonly scope: Scope;
  readonly quota: number;
  readonly window: number;
  readonly remaining: number;
  readonly resetSeconds: number;
}

/**
 * Counts a request of a caller in a scope of THROTTLING_SETTINGS.
 * @param caller who is counted, e.g. `account:7` or `ip:127.0.0.1`; only a keyed hash of it is stored
 * @returns what is left, or undefined when the scope has no limit
 * @throws throttled with `Retry-After` when the window is full
 */
export async function throttle(ctx: Ctx, scope: Scope, caller: string): Promise<Allowance | undefined> {
  const stored = ctx.settings.get('THROTTLING_SETTINGS');
  const limit = stored[scope] === undefined ? settings.THROTTLING_SETTINGS.fallback[scope] : stored[scope];
  if (limit === null || limit === undefined) return undefined;
  const { over, remaining, resetSeconds } = await countHit(ctx, scope, caller, limit);
  const allowance = { scope, quota: limit.count, window: limit.duration, remaining, resetSeconds };
  if (over) throw throttled(resetSeconds, allowanceHeaders(allowance));
  return allowance;
}

/**
 * Counts a request by who is signed in, else by client address; in scopes where being somebody else is cheap, by address
 * in any case: a Token of a throw-away account must not lift the limit of the address.
 * @returns what is left where least is left, or undefined when the scope has no limit
 * @throws throttled
 */
export async function throttleRequest(
  ctx: Ctx,
  scope: Scope,
  { caller, ip }: { caller: string | undefined; ip: string },
): Promise<Allowance | undefined> {
  const address = `ip:${countedAddress(ip)}`;
  const callers = caller === undefined ? [address] : countsAddresses(scope) ? [address, caller] : [caller];
  const allowances = await Promise.all(callers.map((counted) => throttle(ctx, scope, counted)));
  return allowances.reduce((least, other) =>
    least !== undefined && other !== undefined && other.remaining < least.remaining ? other : least,
  );
}

/** The failure of a full window. */
export const throttled = (seconds: number, headers: Record<string, string> = {}): Failure =>
  new Failure('throttled', { values: { seconds }, headers: { 'retry-after': String(seconds), ...headers } });

const keyOf = (ctx: Ctx, caller: string): Buffer => ctx.keys.hash('throttle', caller).subarray(0, 16);

/**
 * Counts something in a window of its own, for limits that are no operator's choice.
 * @param name of the counter; no scope of THROTTLING_SETTINGS
 * @returns whether this one is too many, what is left, and when the window ends
 */
export async function countHit(
  ctx: Ctx,
  name: string,
  caller: string,
  limit: { readonly count: number; readonly duration: number },
): Promise<{ over: boolean; remaining: number; resetSeconds: number }> {
  const now = ctx.clock.now();
  const { count, endsAt } = await hit(ctx, {
    scope: name,
    caller: keyOf(ctx, caller),
    now,
    duration: limit.duration,
  });
  return {
    over: count > limit.count,
    remaining: Math.max(0, limit.count - count),
    resetSeconds: Math.max(1, Math.ceil((endsAt.getTime() - now.getTime()) / 1000)),
  };
}

/** Gives back what was counted for something that then did not happen. */
export const returnHit = (ctx: Ctx, name: string, caller: string): Promise<number> =>
  ctx.db.run(sql`
    update throttle set count = count - 1 where scope = ${name} and caller = ${keyOf(ctx, caller)} and count > 0`);

/** Opens the window of a counter anew. */
export const forgetHits = (ctx: Ctx, name: string, caller: string): Promise<number> =>
  ctx.db.run(sql`delete from throttle where scope = ${name} and caller = ${keyOf(ctx, caller)}`);

/**
 * A client address as limits count it: of IPv6 the /64, because whoever has one address of it has all (RFC 6177); an IPv4
 * address in IPv6 clothes as itself.
 */
export function countedAddress(ip: string): string {
  const bare = ip.split('%', 1)[0]!;
  if (!isIPv6(bare)) return ip;
  const groups = (text: string): number[] =>
    text
      .split(':')
      .filter((group) => group !== '')
      .flatMap((group) => {
        if (!group.includes('.')) return [Number.parseInt(group, 16)];
        const [a, b, c, d] = group.split('.').map(Number) as [number, number, number, number];
        return [a * 256 + b, c * 256 + d];
      });
  const [head, tail = ''] = bare.split('::') as [string, string?];
  const [first, last] = [groups(head), groups(tail)];
  const all = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  if (all.slice(0, 5).every((group) => group === 0) && all[5] === 0xffff) {
    return [all[6]! >> 8, all[6]! & 255, all[7]! >> 8, all[7]! & 255].join('.');
  }
  return `${all
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`;
}

export function allowanceHeaders({ scope, quota, window, remaining, resetSeconds }: Allowance): Record<string, string> {
  return {
    'ratelimit-policy': `"${scope}";q=${quota};w=${window}`,
    ratelimit: `"${scope}";r=${remaining};t=${resetSeconds}`,
  };
}

/** Forgets windows that are over. */
export async function sweepThrottles(ctx: Ctx): Promise<void> {
  await ctx.db.run(sql`delete from throttle where ends_at < ${ctx.clock.now()}`);
}
