/** Authorization codes: made when somebody allows a client, exchanged once for tokens (RFC 6749, 4.1; RFC 7636). */
import { randomUUID, timingSafeEqual } from 'node:crypto';
import { closeFamily, type SignedIn } from '../accounts/sessions.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { randomKey, sha256 } from '../platform/keys.ts';
import { holdClient } from './clients.ts';
import { askingClient, type Device, grantTokens, lockTokens, type Tokens } from './tokens.ts';

/** From our redirect to the client's call; RFC 6749 allows ten minutes, a program needs seconds. */
const CODE_SECONDS = 60;

/**
 * The challenge as it is kept: base64url of 32 bytes. Clients of the documented API may write it in the other alphabet,
 * and a `+` that was not encoded comes as a blank.
 * @returns undefined for what is none
 */
export function readChallenge(text: string): string | undefined {
  return /^[\w\-+/ ]{43}=?$/.test(text)
    ? Buffer.from(text.replaceAll(' ', '+'), 'base64').toString('base64url')
    : undefined;
}

/** A verifier as RFC 7636, 4.1 writes it. */
export const VERIFIER = '^[A-Za-z0-9._~-]{43,128}$';

const fits = (verifier: string, challenge: string): boolean =>
  timingSafeEqual(sha256(verifier), Buffer.from(challenge, 'base64url'));

/** What a code is good for. */
export interface Allowed {
  readonly client: string;
  readonly redirectUri: string;
  readonly challenge: string;
}

/**
 * Makes a code for a signed-in account.
 * @returns it, for the only time; undefined when the sign-in has ended meanwhile, by a new password for instance
 */
export async function makeCode(ctx: Ctx, { account, family }: SignedIn, allowed: Allowed): Promise<string | undefined> {
  const code = randomKey();
  const now = ctx.clock.now();
  const made = await transaction(ctx, async (tx) => {
    // Whoever ends sign-ins ends codes too, under the same lock: of this one they must know.
    if (!(await lockTokens(tx, account.id))) return 0;
    return tx.db.run(sql`
      insert into authorization_code (code_hash, client, account, redirect_uri, challenge, created_at, expires_at)
      select ${sha256(code)}, ${allowed.client}, ${account.id}, ${allowed.redirectUri}, ${allowed.challenge}, ${now},
             ${new Date(now.getTime() + CODE_SECONDS * 1000)}
       where exists (select from session where family = ${family} and account = ${account.id} and expires_at > ${now})`);
  });
  return made === 1 ? code : undefined;
}

export interface CodeRequest extends Device {
  readonly client_id: string;
  readonly code: string;
  readonly code_verifier: string;
  readonly redirect_uri?: string | undefined;
}

interface Row {
  client: string;
  redirect_uri: string;
  challenge: string;
  expires_at: Date;
  used_at: Date | null;
  family: string | null;
}

/**
 * Tokens for a code, once. A used one that comes back means that somebody has a copy: what it was exchanged for ends
 * (RFC 6749, 4.1.2).
 * @throws invalid_client, invalid_grant
 */
export async function codeGrant(ctx: Ctx, request: CodeRequest): Promise<Tokens> {
  await askingClient(ctx, request.client_id);
  const hash = sha256(request.code);
  const outcome = await transaction(ctx, async (tx) => {
    const refused = new Failure('invalid_grant');
    const known = await tx.db.one<{ account: number }>(sql`
      select account from authorization_code where code_hash = ${hash}`);
    if (known === undefined || !(await lockTokens(tx, known.account))) return refused;
    await holdClient(tx, request.client_id);
    const code = await tx.db.one<Row>(sql`
      select client, redirect_uri, challenge, expires_at, used_at, family from authorization_code
       where code_hash = ${hash} for update`);
    if (code === undefined) return refused;
    if (code.used_at !== null) {
      if (code.family !== null) await closeFamily(tx, code.family);
      return refused;
    }
    const now = tx.clock.now();
    const asGiven =
      code.expires_at > now &&
      code.client === request.client_id &&
      (request.redirect_uri === undefined || code.redirect_uri === request.redirect_uri) &&
      fits(request.code_verifier, code.challenge);
    if (!asGiven) return refused;
    const family = randomUUID();
    await tx.db.run(sql`
      update authorization_code set used_at = ${now}, family = ${family} where code_hash = ${hash}`);
    return grantTokens(tx, known.account, request.client_id, request, family);
  });
  // Thrown inside, it would roll back the end of what a code was exchanged for.
  if (outcome instanceof Failure) throw outcome;
  return outcome;
}

/** Forgets codes that are over; used ones a day later, so that one that comes back is known. */
export const sweepCodes = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`
    delete from authorization_code
     where expires_at < ${ctx.clock.now()}
       and (used_at is null or expires_at < ${ctx.clock.now()}::timestamptz - interval '1 day')`);
