/** `POST /api/token`: opaque access and refresh tokens (RFC 6749; rotation and reuse detection by RFC 9700). */
import { closeFamily, openSession, useRefreshToken } from '../accounts/sessions.ts';
import { checkCredentials, signInBy } from '../accounts/sign-in.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure, fail } from '../platform/failure.ts';
import { sha256 } from '../platform/keys.ts';

/** One hour, as documented. */
const ACCESS_SECONDS = 3600;
/** "After a long period of inactivity": each use begins it anew. */
const REFRESH_SECONDS = 90 * 86_400;

export interface Tokens {
  readonly access_token: string;
  readonly token_type: 'Bearer';
  readonly expires_in: number;
  readonly refresh_token: string;
}

/**
 * Until the transaction ends, nobody else gives or ends tokens of this account: what ends them must see those that are
 * just being given. A new password locks the same row.
 */
const lockTokens = (tx: Ctx, account: number): Promise<number> =>
  tx.db.run(sql`select from account where id = ${account} for no key update`);

async function issue(
  ctx: Ctx,
  account: number,
  about: { client?: string; device?: string; family?: string },
): Promise<Tokens> {
  const keys = await openSession(
    ctx,
    account,
    { access: { seconds: ACCESS_SECONDS }, refresh: { seconds: REFRESH_SECONDS } },
    about,
  );
  return { access_token: keys.access, token_type: 'Bearer', expires_in: ACCESS_SECONDS, refresh_token: keys.refresh };
}

/**
 * Tokens for a name and a password: only for the shop's own clients that were allowed it. One pair per account, client
 * and device: asking again ends the one before.
 * @throws invalid_client, invalid_grant
 */
export async function passwordGrant(
  ctx: Ctx,
  request: { client_id: string; username: string; password: string; device_id?: string; device_name?: string },
): Promise<Tokens> {
  const client = await ctx.db.one<{ password_grant: boolean }>(sql`
    select password_grant from oauth_client where id = ${request.client_id}`);
  if (client === undefined) fail('invalid_client');
  if (!client.password_grant) fail('unsupported_grant_type', { values: { grant: 'password' } });
  const { client_id, username, password, device_id: device } = request;
  const grant = async (tx: Ctx, account: number): Promise<Tokens> => {
    if (device !== undefined) {
      await tx.db.run(sql`
        delete from session where account = ${account} and client = ${client_id} and device = ${device} and kind in ('access', 'refresh')`);
    }
    return issue(tx, account, { client: client_id, ...(device === undefined ? {} : { device }) });
  };
  try {
    const proof = await checkCredentials(ctx, username, password);
    return await signInBy(ctx, proof, (tx) => grant(tx, proof.id));
  } catch (error) {
    throw error instanceof Failure && error.code === 'invalid_credentials' ? new Failure('invalid_grant') : error;
  }
}

/** New tokens for a refresh token, which works once. @throws invalid_grant */
export async function refreshGrant(ctx: Ctx, refreshToken: string): Promise<Tokens> {
  if (!/^\w{16,256}$/.test(refreshToken)) fail('invalid_grant');
  const outcome = await transaction(ctx, async (tx) => {
    const known = await tx.db.one<{ account: number }>(sql`
      select account from session where key_hash = ${sha256(refreshToken)} and kind = 'refresh'`);
    if (known === undefined) return new Failure('invalid_grant');
    await lockTokens(tx, known.account);
    try {
      const { account, family, client, device } = await useRefreshToken(tx, refreshToken);
      return await issue(tx, account, {
        family,
        ...(client === null ? {} : { client }),
        ...(device === null ? {} : { device }),
      });
    } catch (error) {
      // Thrown on, it would roll back the end of a family whose token was used twice.
      if (error instanceof Failure && error.code === 'invalid_grant') return error;
      throw error;
    }
  });
  if (outcome instanceof Failure) throw outcome;
  return outcome;
}

/** Ends the family of a token, whichever kind it is (RFC 7009); an unknown one is no error. */
export function revoke(ctx: Ctx, hash: Buffer): Promise<void> {
  return transaction(ctx, async (tx) => {
    const found = await tx.db.one<{ account: number; family: string }>(sql`
      select account, family from session where key_hash = ${hash} and kind in ('access', 'refresh')`);
    if (found === undefined) return;
    await lockTokens(tx, found.account);
    await closeFamily(tx, found.family);
  });
}
