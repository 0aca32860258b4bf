/**
 * The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for the day the app is lost. Both
 * are digits and are taken in the same field.
 */
import { randomInt } from 'node:crypto';
import { Secret, TOTP } from 'otpauth';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { type Failure, fail } from '../platform/failure.ts';
import { enqueue } from '../platform/jobs.ts';
import { decrypt, encrypt } from '../platform/secrets.ts';
import { countHit, returnHit, throttled } from '../platform/throttle.ts';
import type { Account } from './accounts.ts';
import { closeOthers, type SignedIn } from './sessions.ts';

/** What every authenticator app does unless told otherwise, and some do whatever they are told. */
const WAY = { algorithm: 'SHA1', digits: 6, period: 30 } as const;
/** Steps that a phone's clock may be off, each way (RFC 6238, 5.2). */
const WINDOW = 1;
/** 160 bits, as long as the hash (RFC 4226, 4). */
const SECRET_BYTES = 20;
/** 16 digits are 53 bits. */
const RECOVERY_DIGITS = 16;
const RECOVERY_CODES = 10;

interface Limit {
  readonly name: string;
  readonly count: number;
  /** Seconds. */
  readonly duration: number;
}

/** Wrong codes of one account, from wherever they come: whoever tries them knows the password already. */
const WRONG: Limit = { name: 'second-factor', count: 10, duration: 600 };
/**
 * Wrong codes of the app: three of a million are right at any moment, so that who only kept the pace above would find one
 * within a year. Recovery codes cannot be guessed, are not counted here, and let the owner in when this is full.
 */
const WRONG_A_DAY: Limit = { name: 'second-factor-day', count: 50, duration: 86_400 };
/** Mails that tell of them. */
const WARNINGS: Limit = { name: 'second-factor-warning', count: 1, duration: 86_400 };
/** How long somebody has to bring the secret into their app. */
const PENDING_MILLISECONDS = 15 * 60_000;

/** Whether the setting asks this account, as an operator or an owner, for a second factor that it does not have. */
export const needsSecondFactor = (
  ctx: Ctx,
  as: 'operators' | 'owners',
  account: Pick<Account, 'second_factor'>,
): boolean => !account.second_factor && ctx.settings.get('SECOND_FACTOR_REQUIRED').includes(as);

/** What is told by mail. */
export type SecondFactorNews = 'on' | 'off' | 'recovery' | 'guessed';

const tell = (ctx: Ctx, account: number, news: SecondFactorNews): Promise<void> =>
  enqueue(ctx, 'tell_second_factor', { account, news });

/** The failure of a code, at the field that all doors take it in. */
export function failCode(code: 'second_factor_needed' | 'second_factor_wrong'): never {
  const key = code === 'second_factor_needed' ? 'error.second_factor_needed' : 'error.second_factor_wrong';
  return fail(code, { complaints: [{ path: ['otp'], key }] });
}

const isSecret = (account: number): string => `second factor of ${account}`;
/** Readable in the session that asked for it alone: another one, perhaps stolen, cannot look on. */
const isPending = (account: number, family: string): string => `second factor of ${account}, asked for in ${family}`;

/** The time step a code is of, of those that may be now; undefined when it is of none. */
function stepOf(base32: string, code: string, now: Date): number | undefined {
  const timestamp = now.getTime();
  const secret = Secret.fromBase32(base32);
  const delta = TOTP.validate({ ...WAY, secret, token: code, timestamp, window: WINDOW });
  return delta === null ? undefined : TOTP.counter({ period: WAY.period, timestamp }) + delta;
}

/** A code as people type it: apps and we show digits in groups. */
const digits = (code: string): string => code.replaceAll(/[\s-]/g, '');

/**
 * Counts a code before it is compared: codes tried all at once are no more than codes tried in turn.
 * @param full called once a limit is reached
 */
async function counted<T>(
  ctx: Ctx,
  account: number,
  limits: readonly Limit[],
  check: () => Promise<T | undefined>,
  full?: () => Promise<void>,
): Promise<T> {
  const caller = String(account);
  const giveBack = async (some: readonly Limit[]): Promise<void> => {
    for (const { name } of some) await returnHit(ctx, name, caller);
  };
  let last = false;
  for (const [index, limit] of limits.entries()) {
    const { over, remaining, resetSeconds } = await countHit(ctx, limit.name, caller, limit);
    if (over) {
      // Not compared, so no guess: what a full day refuses takes no room from recovery codes.
      await giveBack(limits.slice(0, index));
      throw throttled(resetSeconds);
    }
    last ||= remaining === 0;
  }
  const found = await check();
  if (found === undefined) {
    if (last) await full?.();
    failCode('second_factor_wrong');
  }
  // Its own count only: a right code of the owner opens no room for the guesses of somebody else.
  await giveBack(limits);
  return found;
}

/** Tells the owner that somebody who got as far as the code keeps guessing; once a day is enough. */
const warn = (root: Ctx, account: number): Promise<void> =>
  transaction(root, async (ctx) => {
    const { over } = await countHit(ctx, WARNINGS.name, String(account), WARNINGS);
    if (!over) await tell(ctx, account, 'guessed');
  });

/**
 * Takes a code of an account that has a second factor. Each is taken once: a time step and all before it, a recovery code
 * for good.
 * @param ctx in no transaction: what was taken stays so whatever the caller then does
 * @throws second_factor_wrong; throttled after ten wrong ones in ten minutes or fifty of the app in a day, of which the
 *   owner is told
 */
export async function takeCode(ctx: Ctx, account: number, code: string): Promise<void> {
  const typed = digits(code);
  const ofApp = new RegExp(`^\\d{${WAY.digits}}$`).test(typed);
  await counted(
    ctx,
    account,
    ofApp ? [WRONG, WRONG_A_DAY] : [WRONG],
    () => (ofApp ? takeStep(ctx, account, typed) : takeRecovery(ctx, account, typed)),
    () => warn(ctx, account),
  );
}

async function takeStep(ctx: Ctx, account: number, code: string): Promise<true | undefined> {
  const row = await ctx.db.one<{ secret: Buffer }>(sql`
    select secret from second_factor where account = ${account} and confirmed_at is not null`);
  if (row === undefined) return undefined;
  const secret = decrypt(ctx.keys.encryption('second_factor'), row.secret, isSecret(account));
  const step = stepOf(secret, code, ctx.clock.now());
  if (step === undefined) return undefined;
  // Of many that send it at once the row's lock lets one be the first.
  const taken = await ctx.db.run(sql`
    update second_factor set last_step = ${step}
     where account = ${account} and secret = ${row.secret} and confirmed_at is not null and last_step < ${step}`);
  return taken === 1 ? true : undefined;
}

const recoveryHash = (ctx: Ctx, account: number, code: string): Buffer =>
  ctx.keys.hash('recovery_code', String(account), code);

async function takeRecovery(root: Ctx, account: number, code: string): Promise<true | undefined> {
  if (!new RegExp(`^\\d{${RECOVERY_DIGITS}}$`).test(code)) return undefined;
  return transaction(root, async (ctx) => {
    const taken = await ctx.db.run(sql`
      update recovery_code set used_at = ${ctx.clock.now()}
       where account = ${account} and code_hash = ${recoveryHash(ctx, account, code)} and used_at is null
         and exists (select from account a where a.id = ${account} and a.second_factor)`);
    if (taken === 0) return undefined;
    await tell(ctx, account, 'recovery');
    return true;
  });
}

/**
 * Makes a secret that waits for its first code, in place of one that waited before; in the caller's transaction, which has
 * proven who asks and holds the account's row.
 * @param family of the session that asks: it alone can read the secret and confirm it
 * @returns false when a second factor is on already, or the address is not proven: it would keep out whoever can prove it
 */
export async function beginSecondFactor(ctx: Ctx, account: number, family: string): Promise<boolean> {
  const secret = new Secret({ size: SECRET_BYTES }).base32;
  const sealed = encrypt(ctx.keys.encryption('second_factor'), secret, isPending(account, family));
  const made = await ctx.db.run(sql`
    insert into second_factor (account, secret, created_at)
    select id, ${sealed}, ${ctx.clock.now()} from account where id = ${account} and email_verified_at is not null
    on conflict (account) do update set secret = excluded.secret, created_at = excluded.created_at
     where second_factor.confirmed_at is null`);
  return made === 1;
}

/**
 * The secret that waits, in Base32, and the address by which apps take it over (`otpauth:`, Google's key URI format).
 * @returns undefined when none waits, or not for this session, or for longer than fifteen minutes
 */
export async function pendingSecondFactor(
  ctx: Ctx,
  { account, family }: SignedIn,
): Promise<{ secret: string; uri: string } | undefined> {
  const row = await ctx.db.one<{ secret: Buffer }>(sql`
    select secret from second_factor
     where account = ${account.id} and confirmed_at is null
       and created_at > ${new Date(ctx.clock.now().getTime() - PENDING_MILLISECONDS)}`);
  if (row === undefined) return undefined;
  let secret: string;
  try {
    secret = decrypt(ctx.keys.encryption('second_factor'), row.secret, isPending(account.id, family));
  } catch {
    return undefined;
  }
  const issuer = ctx.settings.get('CONSENT_CONTROLLER').name;
  const { algorithm, ...rest } = WAY;
  return { secret, uri: new TOTP({ issuer, label: account.email, secret, algorithm, ...rest }).toString() };
}

/**
 * Switches the second factor on with the first code of the app. Every other sign-in of the account ends: it was made
 * without.
 * @returns the recovery codes, told this once; undefined when nothing waits for this session any more
 * @throws second_factor_wrong; throttled
 */
export async function confirmSecondFactor(root: Ctx, by: SignedIn, code: string): Promise<string[] | undefined> {
  const pending = await pendingSecondFactor(root, by);
  if (pending === undefined) return undefined;
  const account = by.account.id;
  const step = await counted(root, account, [WRONG], async () =>
    stepOf(pending.secret, digits(code), root.clock.now()),
  );
  return transaction(root, async (ctx) => {
    await ctx.db.run(sql`select from account where id = ${account} for no key update`);
    // Read again under the lock: it may have been replaced or confirmed meanwhile, or a new password have ended the
    // session, and whoever had the old one must not lock its owner out.
    const still = await pendingSecondFactor(ctx, by);
    const open = await ctx.db.one(
      sql`select from session where family = ${by.family} and account = ${account} limit 1`,
    );
    if (still?.secret !== pending.secret || open === undefined) return undefined;
    const sealed = encrypt(ctx.keys.encryption('second_factor'), pending.secret, isSecret(account));
    await ctx.db.run(sql`
      update second_factor set secret = ${sealed}, confirmed_at = ${ctx.clock.now()}, last_step = ${step} where account = ${account}`);
    await ctx.db.run(sql`update account set second_factor = true where id = ${account}`);
    await closeOthers(ctx, account, by.family);
    await tell(ctx, account, 'on');
    return newRecoveryCodes(ctx, account);
  });
}

const recoveryCode = (): string =>
  Array.from({ length: RECOVERY_DIGITS }, (_, index) => (index > 0 && index % 4 === 0 ? ' ' : '') + randomInt(10)).join(
    '',
  );

/** Ten new recovery codes in groups of four digits; those from before open nothing any more. In the caller's transaction. */
export async function newRecoveryCodes(ctx: Ctx, account: number): Promise<string[]> {
  const codes = Array.from({ length: RECOVERY_CODES }, recoveryCode);
  await ctx.db.run(sql`delete from recovery_code where account = ${account}`);
  await ctx.db.run(sql`
    insert into recovery_code (account, code_hash)
    select ${account}, unnest(${codes.map((code) => recoveryHash(ctx, account, digits(code)))}::bytea[])`);
  return codes;
}

/** How many recovery codes of an account are good. */
export const recoveryCodesLeft = async (ctx: Ctx, account: number): Promise<number> =>
  (await ctx.db.one<{ left: number }>(sql`
    select count(*)::int as left from recovery_code where account = ${account} and used_at is null`))!.left;

/**
 * Takes the second factor and its recovery codes away, in the caller's transaction.
 * @param quiet nobody is told: the address is not known to be theirs
 * @returns whether there was one
 */
export async function removeSecondFactor(ctx: Ctx, account: number, quiet = false): Promise<boolean> {
  // The account first, as everybody locks.
  const removed = await ctx.db.run(sql`
    update account set second_factor = false where id = ${account} and second_factor`);
  await ctx.db.run(sql`delete from second_factor where account = ${account}`);
  await ctx.db.run(sql`delete from recovery_code where account = ${account}`);
  if (removed === 1 && !quiet) await tell(ctx, account, 'off');
  return removed === 1;
}

/** Whether a failure is one that the person in front of a page can put right there. */
export const isCodeFailure = ({ code }: Failure): boolean =>
  code === 'second_factor_needed' || code === 'second_factor_wrong';
