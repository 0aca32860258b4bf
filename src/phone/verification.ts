/**
 * Proving that a phone number is held. A code is bound to account, number and purpose. It is derived from a random nonce
 * under SECRET_KEY: what is stored opens nothing, and the job that sends it derives it again.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { type PhoneNumber, readPhone } from '../accounts/phone-numbers.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';
import { enqueue } from '../platform/jobs.ts';
import { spendCode, withBudget } from './budget.ts';

interface Pending {
  phone_e164: string;
  submissions: number;
  sent_at: Date;
  expires_at: Date | null;
}

/**
 * Lane of an account: its codes go out one after the other. Of few lanes, because the library keeps the row of each for
 * ever. By a hash (Fibonacci's), as neighbours often come at the same time.
 */
const laneOf = (account: number): number => Math.imul(account, 0x9e3779b1) >>> 28;

/**
 * Puts the job that sends an account's code, in place of one that waits for it already.
 * @param after seconds until it may start
 */
export const planCode = (ctx: Ctx, account: number, after = 0): Promise<void> =>
  enqueue(ctx, 'send_code', { account }, { queue: `sms:${laneOf(account)}`, key: `code:${account}`, after });

/** Six digits from 64 bits of HMAC: the bias of the remainder is below 2^-44. */
function codeOf(ctx: Ctx, account: number, e164: string, nonce: Buffer): string {
  const mac = ctx.keys.hash('code', 'phone_change', String(account), e164, nonce);
  return String(mac.readBigUInt64BE() % 1_000_000n).padStart(6, '0');
}

/**
 * Sends a code for a number somebody wants on their profile, within the budget. A repeated request finds the code that
 * is under way instead of paying for another, unless it asks for one.
 * @param resend asks for a new code even though one is under way
 * @throws throttled (30 s between codes, budgets), invalid (country)
 */
export async function requestCode(
  ctx: Ctx,
  { account, phone, ip, resend }: { account: number; phone: PhoneNumber; ip: string; resend: boolean },
): Promise<void> {
  const now = ctx.clock.now();
  const gap = ctx.settings.get('OTP_RESEND_SECONDS') * 1000;
  await withBudget(ctx, async (tx) => {
    const { db } = tx;
    // The account's row is the lock: two requests of one account send one code.
    await db.one(sql`select id from account where id = ${account} for no key update`);
    const pending = await db.one<Pending>(sql`
      select phone_e164, submissions, sent_at, expires_at from phone_change where account = ${account}`);
    if (pending?.phone_e164 === phone.e164) {
      const wait = pending.sent_at.getTime() + gap - now.getTime();
      const dead =
        (pending.expires_at !== null && pending.expires_at <= now) ||
        pending.submissions >= ctx.settings.get('OTP_MAX_SUBMISSIONS');
      // Too early for another: the budget says so, and writes it down.
      if (wait > 0 && !resend && !dead) return;
    }
    await spendCode(tx, { account, ip, e164: phone.e164, country: phone.country });
    const life = ctx.settings.get('SMS_OTP_EXPIRE_TIME');
    await db.run(sql`
      insert into phone_change (account, phone, phone_e164, nonce, submissions, sent_at, expires_at)
      values (${account}, ${phone.text}, ${phone.e164}, ${randomBytes(16)}, 0, ${now},
              ${life === 0 ? null : new Date(now.getTime() + life * 1000)})
      on conflict (account) do update
         set phone = excluded.phone, phone_e164 = excluded.phone_e164, nonce = excluded.nonce, submissions = 0,
             sent_at = excluded.sent_at, expires_at = excluded.expires_at`);
    await planCode(tx, account);
  });
}

/**
 * Checks a code, counting the try whatever comes of it; committed by itself, so that no refusal takes the count back.
 * @returns the nonce of the code that fits: `spendCodes` spends it
 * @throws invalid on `code`: wrong, expired, tried too often, or none was sent for this number
 */
export async function submitCode(ctx: Ctx, account: number, e164: string, code: string): Promise<Buffer> {
  const pending = await ctx.db.one<{ nonce: Buffer }>(sql`
    update phone_change set submissions = submissions + 1
     where account = ${account} and phone_e164 = ${e164} and submissions < ${ctx.settings.get('OTP_MAX_SUBMISSIONS')}
       and (expires_at is null or expires_at > ${ctx.clock.now()})
    returning nonce`);
  if (pending === undefined) refuse({ path: ['code'], key: 'code.expired' });
  const expected = Buffer.from(codeOf(ctx, account, e164, pending.nonce));
  const given = Buffer.from(code);
  if (given.length !== expected.length || !timingSafeEqual(given, expected))
    refuse({ path: ['code'], key: 'code.wrong' });
  return pending.nonce;
}

/** The number that is under way for an account. Once its code has expired it is not `live`: it can be asked for again. */
export async function pendingNumber(ctx: Ctx, account: number): Promise<(PhoneNumber & { live: boolean }) | undefined> {
  const row = await ctx.db.one<{ phone: string; phone_e164: string; live: boolean }>(sql`
    select phone, phone_e164, expires_at is null or expires_at > ${ctx.clock.now()} as live
      from phone_change where account = ${account}`);
  if (row === undefined) return undefined;
  const read = readPhone(ctx.settings, row.phone);
  const country = 'problem' in read ? undefined : read.country;
  return { text: row.phone, e164: row.phone_e164, country, live: row.live };
}

/** Which of these codes are still unspent; the accounts must be locked. */
export const unspentCodes = (
  ctx: Ctx,
  codes: readonly { account: number; nonce: Buffer }[],
): Promise<{ account: number }[]> =>
  ctx.db.rows(sql`
    select p.account from phone_change p
      join unnest(${codes.map(({ account }) => account)}::bigint[],
                  ${codes.map(({ nonce }) => nonce)}::bytea[]) as c (account, nonce)
        on p.account = c.account and p.nonce = c.nonce`);

/**
 * Spends codes in the transaction that saves their numbers: of many that submitted one, one spends it. The request for it,
 * the account's last that was not refused, counts as an honest customer's.
 */
export const spendCodes = (ctx: Ctx, codes: readonly { account: number; nonce: Buffer }[]): Promise<number> =>
  ctx.db.run(sql`
    with spent as (
      delete from phone_change p using unnest(${codes.map(({ account }) => account)}::bigint[],
                                              ${codes.map(({ nonce }) => nonce)}::bytea[]) as c (account, nonce)
       where p.account = c.account and p.nonce = c.nonce
      returning p.account
    ), honest as (
      update sms_request set proven_at = ${ctx.clock.now()}
       where id in (select (select r.id from sms_request r where r.account = s.account and r.refused_by is null
                             order by r.at desc, r.id desc limit 1) from spent s)
    )
    select account from spent`);

/** Ends what is under way for these accounts. */
export const endPhoneChange = (ctx: Ctx, accounts: readonly number[]): Promise<number> =>
  ctx.db.run(sql`delete from phone_change where account = any (${accounts}::bigint[])`);

/** A code that is under way, as the job that sends it needs it. */
export interface CodeToSend {
  /** Different for every code and the same for one: what the message's id is made of. */
  readonly key: Buffer;
  readonly to: string;
  readonly code: string;
  readonly language: string;
  /** Null: it does not expire. */
  readonly expiresAt: Date | null;
}

/**
 * The code that is under way for an account, for the job that sends it; undefined when it is spent, used up or expired. In
 * a transaction no other code takes its place until that ends.
 */
export async function codeToSend(ctx: Ctx, account: number): Promise<CodeToSend | undefined> {
  const row = await ctx.db.one<{
    phone_e164: string;
    nonce: Buffer;
    expires_at: Date | null;
    language_code: string;
  }>(sql`
    select p.phone_e164, p.nonce, p.expires_at, a.language_code
      from phone_change p join account a on a.id = p.account
     where p.account = ${account} and (p.expires_at is null or p.expires_at > ${ctx.clock.now()})
       and p.submissions < ${ctx.settings.get('OTP_MAX_SUBMISSIONS')}
       for share of p`);
  if (row === undefined) return undefined;
  const { phone_e164: to, nonce, expires_at: expiresAt, language_code: language } = row;
  const key = ctx.keys.hash('code', 'message', String(account), nonce);
  return { key, to, code: codeOf(ctx, account, to, nonce), language, expiresAt };
}

/** Forgets changes whose code has been dead for a day. */
export const sweepPhoneChanges = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from phone_change where expires_at < ${ctx.clock.now()}::timestamptz - interval '1 day'`);
