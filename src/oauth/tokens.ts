/** `POST /api/token`: opaque access and refresh tokens (RFC 6749; rotation and reuse detection by RFC 9700). */
import { closeFamily, openSession, useRefreshToken } from '../accounts/sessions.ts';
import { checkCredentials, signInBy } from '../accounts/sign-in.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure, fail } from '../platform/failure.ts';
import { sha256 } from '../platform/keys.ts';
import { type Client, holdClient, usableClient } from './clients.ts';

/** One hour, as documented. */
const ACCESS_SECONDS = 3600;
/** "After a long period of inactivity": each use begins it anew. */
const REFRESH_SECONDS = 90 * 86_400;
/** Sign-ins of one account by one client: more end the one that was renewed longest ago. */
const SIGN_INS = 20;

export interface Tokens {
  readonly access_token: string;
  readonly token_type: 'Bearer';
  readonly expires_in: number;
  readonly refresh_token: string;
}

/** What a program says of the device it runs on. */
export interface Device {
  readonly device_id?: string | undefined;
  readonly device_name?: string | undefined;
  readonly user_agent?: string | undefined;
}

/**
 * Until the transaction ends, nobody else gives or ends tokens of this account: what ends them must see those that are
 * just being given. A new password locks the same row.
 * @returns whether it may have any
 */
export const lockTokens = async (tx: Ctx, account: number): Promise<boolean> =>
  (await tx.db.one(sql`select id from account where id = ${account} and is_active for no key update`)) !== undefined;

async function issue(
  ctx: Ctx,
  account: number,
  { client, device, family }: { client?: string; device?: Device; family?: string },
): Promise<Tokens> {
  const keys = await openSession(
    ctx,
    account,
    { access: { seconds: ACCESS_SECONDS }, refresh: { seconds: REFRESH_SECONDS } },
    {
      client,
      device: device?.device_id,
      deviceName: device?.device_name,
      userAgent: device?.user_agent,
      ...(family === undefined ? {} : { family }),
    },
  );
  return { access_token: keys.access, token_type: 'Bearer', expires_in: ACCESS_SECONDS, refresh_token: keys.refresh };
}

/**
 * A new sign-in by a client, in a transaction that holds the account's row. One pair per account, client and device:
 * asking again ends the one before.
 * @throws invalid_client when it was disabled meanwhile
 */
export async function grantTokens(
  tx: Ctx,
  account: number,
  client: string,
  device: Device,
  family?: string,
): Promise<Tokens> {
  await holdClient(tx, client);
  if (device.device_id !== undefined) {
    await tx.db.run(sql`
      delete from session
       where account = ${account} and client = ${client} and device = ${device.device_id} and kind in ('access', 'refresh')`);
  }
  const tokens = await issue(tx, account, { client, device, ...(family === undefined ? {} : { family }) });
  await tx.db.run(sql`
    delete from session where account = ${account} and family in (
      select family from session where account = ${account} and client = ${client} and kind in ('access', 'refresh')
       group by family order by max(created_at) desc, bool_or(key_hash = ${sha256(tokens.refresh_token)}) desc offset ${SIGN_INS})`);
  return tokens;
}

/** The client of a request for tokens. @throws invalid_client when it is unknown or disabled */
export const askingClient = async (ctx: Ctx, id: string): Promise<Client> =>
  (await usableClient(ctx, id)) ?? fail('invalid_client');

/** A client that may see passwords. @throws invalid_client, unsupported_grant_type */
async function passwordClient(ctx: Ctx, id: string): Promise<Client> {
  const client = await askingClient(ctx, id);
  return client.password_grant ? client : fail('unsupported_grant_type', { values: { grant: 'password' } });
}

export interface PasswordRequest extends Device {
  readonly client_id: string;
  readonly username: string;
  readonly password: string;
  /** Code of the second factor. */
  readonly otp?: string | undefined;
}

/**
 * Does what a name and a password entitle a client to, in one transaction that holds the account's row.
 * @param work gets the account
 * @throws invalid_client, unsupported_grant_type, invalid_grant, second_factor_needed, second_factor_wrong
 */
export async function byPassword<T>(
  ctx: Ctx,
  request: PasswordRequest,
  work: (tx: Ctx, account: number) => Promise<T>,
): Promise<T> {
  await passwordClient(ctx, request.client_id);
  try {
    const proof = await checkCredentials(ctx, request.username, request.password, { code: request.otp });
    return await signInBy(ctx, proof, (tx) => work(tx, proof.id));
  } catch (error) {
    throw error instanceof Failure && error.code === 'invalid_credentials' ? new Failure('invalid_grant') : error;
  }
}

/** Tokens for a name and a password: only for the shop's own clients that were allowed it. @throws as `byPassword` */
export const passwordGrant = (ctx: Ctx, request: PasswordRequest): Promise<Tokens> =>
  byPassword(ctx, request, (tx, account) => grantTokens(tx, account, request.client_id, request));

/**
 * New tokens for a refresh token, which works once.
 * @param client when it is given, the token must be its own (RFC 6749, 6)
 * @throws invalid_grant, invalid_client
 */
export async function refreshGrant(
  ctx: Ctx,
  refreshToken: string,
  client?: string,
  userAgent?: string,
): Promise<Tokens> {
  if (!/^\w{16,256}$/.test(refreshToken)) fail('invalid_grant');
  const outcome = await transaction(ctx, async (tx) => {
    const known = await tx.db.one<{ account: number; client: string | null }>(sql`
      select account, client from session where key_hash = ${sha256(refreshToken)} and kind = 'refresh'`);
    if (known === undefined || (client !== undefined && client !== known.client)) return new Failure('invalid_grant');
    await lockTokens(tx, known.account);
    try {
      if (known.client !== null) await holdClient(tx, known.client);
      const { account, family } = await useRefreshToken(tx, refreshToken);
      return await issue(tx, account, { family, device: { user_agent: userAgent } });
    } catch (error) {
      // Thrown on, it would roll back the end of a family whose token was used twice.
      if (error instanceof Failure && error.code === 'invalid_grant') return error;
      throw error;
    }
  });
  if (outcome instanceof Failure) throw outcome;
  return outcome;
}

/**
 * Ends the family of a token, whichever kind it is (RFC 7009); an unknown one is no error.
 * @param client when it is given, the token must be its own
 * @throws invalid_grant for the token of another client
 */
export function revoke(ctx: Ctx, hash: Buffer, client?: string): Promise<void> {
  return transaction(ctx, async (tx) => {
    const found = await tx.db.one<{ account: number; family: string; client: string | null }>(sql`
      select account, family, client from session where key_hash = ${hash} and kind in ('access', 'refresh')`);
    if (found === undefined) return;
    if (client !== undefined && client !== found.client) fail('invalid_grant');
    await lockTokens(tx, found.account);
    await closeFamily(tx, found.family);
  });
}
