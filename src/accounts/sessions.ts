/** The keys people are signed in with, and the one read that tells who a key belongs to. */
import { randomUUID } from 'node:crypto';
import { batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { randomKey, sha256 } from '../platform/keys.ts';
import type { Account } from './accounts.ts';

export type SessionKind = 'cookie' | 'token' | 'access' | 'refresh';

/** A signed-in account as every request finds it: read afresh, never cached. */
export interface SignedIn {
  readonly account: Account;
  readonly kind: SessionKind;
  readonly family: string;
  /** When they signed in. */
  readonly since: Date;
}

interface Row extends Account {
  n: number;
  session_kind: SessionKind;
  session_family: string;
  session_since: Date;
}

/**
 * Who a key belongs to, with the account and its marketing consents, in one statement for all that ask at once: a
 * signed-in request needs no second read.
 * @returns undefined for a key that is unknown, expired, of another kind, or of an account that was switched off
 */
export const signedIn = batched<{ key: string; kinds: readonly SessionKind[] }, SignedIn | undefined>({
  async run(ctx, items) {
    const rows = await ctx.db.rows<Row>(sql`
      select q.n::int as n, s.kind as session_kind, s.family as session_family, s.created_at as session_since,
             a.id, a.email, a.first_name, a.last_name, a.phone, a.phone_e164, a.gender, a.date_of_birth, a.language_code,
             a.attributes, a.avatar, a.is_operator, a.second_factor, a.date_joined, a.last_login, a.email_verified_at, a.phone_verified_at,
             a.email_point, a.phone_point, a.version, c.consents
        from unnest(${items.map(({ key }) => sha256(key))}::bytea[]) with ordinality as q (key_hash, n)
        join session s on s.key_hash = q.key_hash and s.expires_at > ${ctx.clock.now()}
        join account a on a.id = s.account and a.is_active
       cross join lateral (
         select string_agg(st.channel || '=' || st.state || ':' || right(st.event::text, 7), ',') as consents
           from consent_state st
          where st.contact_point = any (array[a.email_point, a.phone_point]) and st.purpose = 'marketing') c`);
    const found = new Array<SignedIn | undefined>(items.length).fill(undefined);
    for (const row of rows) {
      if (!items[row.n - 1]!.kinds.includes(row.session_kind)) continue;
      found[row.n - 1] = { account: row, kind: row.session_kind, family: row.session_family, since: row.session_since };
    }
    return found as SignedIn[];
  },
});

/** What a sign-in is known by, to its owner and to the next renewal. */
export interface AboutSession {
  /** Id of the program that asked, where it is one of `oauth_client`. */
  readonly client?: string | undefined;
  /** The program's own id for the device. */
  readonly device?: string | undefined;
  readonly deviceName?: string | undefined;
  /** Header of the request that signed in. */
  readonly userAgent?: string | undefined;
  /** A sign-in that goes on: what is not told anew stays as it was. */
  readonly family?: string;
}

const cut = (text: string | undefined, length: number): string | null => text?.slice(0, length) ?? null;

/** A new sign-in: its keys are told once and kept as hashes. All keys of one call end together. */
export async function openSession<K extends SessionKind>(
  ctx: Ctx,
  account: number,
  keys: Record<K, { seconds: number }>,
  { client, device, deviceName, userAgent, family = randomUUID() }: AboutSession = {},
): Promise<Record<K, string>> {
  const now = ctx.clock.now();
  const issued = Object.fromEntries(Object.keys(keys).map((kind) => [kind, randomKey()])) as Record<K, string>;
  const kinds = Object.keys(keys) as K[];
  await ctx.db.run(sql`
    insert into session (key_hash, kind, account, family, client, device, device_name, user_agent, signed_in_at, created_at, expires_at)
    select key_hash, kind, ${account}, ${family}, coalesce(${client ?? null}, before.client), coalesce(${device ?? null}, before.device),
           coalesce(${cut(deviceName, 200)}, before.device_name), coalesce(${cut(userAgent, 500)}, before.user_agent),
           coalesce(before.signed_in_at, ${now}), ${now}, ${now}::timestamptz + make_interval(secs => seconds)
      from unnest(${kinds.map((kind) => sha256(issued[kind]))}::bytea[], ${kinds}::text[],
                  ${kinds.map((kind) => keys[kind].seconds)}::int[]) as k (key_hash, kind, seconds)
      left join (select client, device, device_name, user_agent, signed_in_at from session
                  where family = ${family} and account = ${account} order by created_at desc limit 1) before on true`);
  return issued;
}

/** Ends one sign-in. */
export const closeFamily = (ctx: Ctx, family: string): Promise<number> =>
  ctx.db.run(sql`delete from session where family = ${family}`);

/** Ends every sign-in of an account, but the one named, and the codes that were on their way to become one. */
export async function closeOthers(ctx: Ctx, account: number, keep?: string): Promise<number> {
  await ctx.db.run(sql`delete from authorization_code where account = ${account} and used_at is null`);
  return ctx.db.run(
    sql`delete from session where account = ${account} and family is distinct from ${keep ?? null}::uuid`,
  );
}

/**
 * Exchanges a refresh token: it works once. Seeing a used one again means that somebody has a copy, so the whole family
 * ends (RFC 9700, 4.14.2).
 * @throws invalid_grant
 */
export async function useRefreshToken(
  ctx: Ctx,
  key: string,
): Promise<{ account: number; family: string; client: string | null; device: string | null }> {
  const now = ctx.clock.now();
  const used = await ctx.db.one<{ account: number; family: string; client: string | null; device: string | null }>(sql`
    update session s set used_at = ${now}
      from account a
     where s.key_hash = ${sha256(key)} and s.kind = 'refresh' and s.used_at is null and s.expires_at > ${now}
       and a.id = s.account and a.is_active
    returning s.account, s.family, s.client, s.device`);
  if (used !== undefined) {
    // The old access token goes with its refresh token.
    await ctx.db.run(sql`delete from session where family = ${used.family} and kind = 'access'`);
    return used;
  }
  await ctx.db.run(sql`
    delete from session where family in (select family from session where key_hash = ${sha256(key)} and kind = 'refresh')`);
  throw new Failure('invalid_grant');
}

/** A sign-in as its owner sees it. */
export interface OwnSession {
  /** Its family. */
  readonly id: string;
  readonly client_id: string | null;
  readonly client_name: string | null;
  readonly device_id: string | null;
  readonly device_name: string | null;
  readonly user_agent: string | null;
  readonly created_at: Date;
  /** When its newest key was made. */
  readonly renewed_at: Date;
  readonly expires_at: Date;
}

/** Sign-ins of an account that are not over, the newest first. */
export const ownSessions = (ctx: Ctx, account: number): Promise<OwnSession[]> =>
  ctx.db.rows<OwnSession>(sql`
    select s.family as id, max(s.client) as client_id, max(c.name) as client_name, max(s.device) as device_id,
           max(s.device_name) as device_name, max(s.user_agent) as user_agent, min(s.signed_in_at) as created_at,
           max(s.created_at) as renewed_at, max(s.expires_at) as expires_at
      from session s left join oauth_client c on c.id = s.client
     where s.account = ${account} and s.expires_at > ${ctx.clock.now()} and s.used_at is null
     group by s.family
     order by max(s.created_at) desc, s.family`);

/**
 * Ends sign-ins of an account, under the lock of its row: a renewal that is under way ends as well.
 * @param which the family to end, or the one that alone may stay
 * @returns whether there was one to end
 */
export const endSessions = (
  root: Ctx,
  account: number,
  which: { readonly only: string } | { readonly but: string },
): Promise<boolean> =>
  transaction(root, async (ctx) => {
    await ctx.db.run(sql`select from account where id = ${account} for no key update`);
    if ('but' in which) return (await closeOthers(ctx, account, which.but)) > 0;
    // Codes do not say from which sign-in they are; one of this could come back as a new sign-in.
    await ctx.db.run(sql`delete from authorization_code where account = ${account} and used_at is null`);
    return (await ctx.db.run(sql`delete from session where account = ${account} and family = ${which.only}`)) > 0;
  });

/** Forgets sessions that are over. */
export const sweepSessions = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from session where expires_at < ${ctx.clock.now()}`);
