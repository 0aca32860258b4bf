/** Mailed links: single use, expiring, derived from their id under SECRET_KEY so that the database alone opens none. */
import { randomUUID, timingSafeEqual } from 'node:crypto';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { enqueue } from '../platform/jobs.ts';
import { countHit, throttled } from '../platform/throttle.ts';
import { foldEmail } from './accounts.ts';

export type LinkPurpose = 'password_reset' | 'email_change' | 'invitation';

export interface MailLink {
  readonly id: string;
  readonly purpose: LinkPurpose;
  readonly account: number;
  readonly new_email: string | null;
  readonly previous_email: string | null;
  readonly language: string;
}

/** 32 hex digits of id, 32 of HMAC: `\w+`, so that it survives every mail program and client. */
export function linkToken(ctx: Ctx, { id, purpose }: { readonly id: string; readonly purpose: string }): string {
  return id.replaceAll('-', '') + ctx.keys.hash('link', purpose, id).subarray(0, 16).toString('hex');
}

/** The id a token names; whether we made the token is another question. */
function namedId(token: string): string | undefined {
  if (!/^[0-9a-f]{64}$/.test(token)) return undefined;
  return `${token.slice(0, 8)}-${token.slice(8, 12)}-${token.slice(12, 16)}-${token.slice(16, 20)}-${token.slice(20, 32)}`;
}

/** The id of a token that we made for this purpose; undefined when it is forged. */
export function idOfToken(ctx: Ctx, purpose: string, token: string): string | undefined {
  const id = namedId(token);
  if (id === undefined) return undefined;
  return timingSafeEqual(Buffer.from(linkToken(ctx, { id, purpose })), Buffer.from(token)) ? id : undefined;
}

/** Asked for again so soon, the link that is on its way is the answer. */
const REPEAT_MILLISECONDS = 60_000;
/** Mails that one address, or one account's wish for another address, can cause. */
const MAILS = { count: 5, duration: 3600 };

/**
 * Makes a link and the job that mails it, in the caller's transaction. An older unused link of the same purpose ends; one
 * of the last minute, for the same address, stays and nothing is mailed. An account that is switched off gets none.
 * @param seconds life of the link
 * @param unsent makes the link and counts it, but mails nothing: nobody can ever open it
 * @param uncounted an operator wants it: strangers who used the hour's mails up do not stop it
 * @returns whether a mail goes out
 * @throws throttled when the address was mailed five times within the hour; a reset is passed over in silence instead
 */
export async function sendLink(
  ctx: Ctx,
  link: {
    purpose: LinkPurpose;
    account: number;
    language: string;
    seconds: number;
    newEmail?: string;
    previousEmail?: string;
    unsent?: boolean;
    uncounted?: boolean;
    /** From which an invitation is. */
    company?: number;
  },
): Promise<boolean> {
  const now = ctx.clock.now();
  const id = randomUUID();
  return ctx.db.transaction(async (db) => {
    const tx = { ...ctx, db };
    // Locked: of two requests at once the second sees the first one's link.
    const account = await db.one<{ email_key: string }>(
      sql`select email_key from account where id = ${link.account} and is_active for no key update`,
    );
    // Switched off meanwhile: its links have ended, and no new one may wait for the day it is switched on.
    if (account === undefined) return false;
    const recent = await db.rows<{ new_email: string | null }>(sql`
      select new_email from mail_link
       where account = ${link.account} and purpose = ${link.purpose} and used_at is null and expires_at > ${now}
         and created_at > ${new Date(now.getTime() - REPEAT_MILLISECONDS)}`);
    const address = link.newEmail === undefined ? account.email_key : foldEmail(link.newEmail);
    if (recent.some(({ new_email }) => new_email === null || foldEmail(new_email) === address)) return false;
    // A counter for each purpose: shared, a reset's silence could be read from the answer to a change of address.
    const counts = link.uncounted ? [] : [await countHit(tx, `mail-${link.purpose}`, address, MAILS)];
    // Whoever asks for a change names the address: without this they could name any number of them.
    if (link.purpose === 'email_change') {
      counts.push(await countHit(tx, 'mail-email_change-account', String(link.account), MAILS));
    }
    const full = counts.filter(({ over }) => over);
    if (full.length > 0) {
      if (link.purpose === 'password_reset') return false;
      throw throttled(Math.max(...full.map(({ resetSeconds }) => resetSeconds)));
    }
    // Marked and not deleted: the notice to the old address goes out whatever became of its link.
    await db.run(sql`
      update mail_link set used_at = ${now} where account = ${link.account} and purpose = ${link.purpose} and used_at is null`);
    await db.run(sql`
      insert into mail_link (id, purpose, account, new_email, previous_email, company, language, created_at, expires_at)
      values (${id}, ${link.purpose}, ${link.account}, ${link.newEmail ?? null}, ${link.previousEmail ?? null}, ${link.company ?? null}, ${link.language},
              ${now}, ${new Date(now.getTime() + link.seconds * 1000)})`);
    if (link.unsent) return false;
    await enqueue(tx, 'send_mail', { mail: link.purpose, link: id });
    if (link.purpose === 'email_change') await enqueue(tx, 'send_mail', { mail: 'email_change_notice', link: id });
    return true;
  });
}

/** The open link of a token; undefined when it is forged, used or over. */
export async function openLink(ctx: Ctx, token: string, purpose?: LinkPurpose): Promise<MailLink | undefined> {
  const id = namedId(token);
  if (id === undefined) return undefined;
  const link = await ctx.db.one<MailLink>(sql`
    select id, purpose, account, new_email, previous_email, language from mail_link
     where id = ${id} and used_at is null and expires_at > ${ctx.clock.now()}`);
  if (link === undefined || (purpose !== undefined && link.purpose !== purpose)) return undefined;
  return idOfToken(ctx, link.purpose, token) === undefined ? undefined : link;
}

/**
 * Spends a link in the caller's transaction: of many that hold it, one does. The account's row is locked first, as
 * everybody does who ends links or sign-ins.
 */
export async function spendLink(ctx: Ctx, link: MailLink): Promise<boolean> {
  await ctx.db.run(sql`select from account where id = ${link.account} for no key update`);
  const spent = await ctx.db.run(sql`
    update mail_link set used_at = ${ctx.clock.now()} where id = ${link.id} and used_at is null`);
  return spent === 1;
}

/** Ends what was mailed to an account and not used yet. */
export const endLinks = (ctx: Ctx, account: number): Promise<number> =>
  ctx.db.run(sql`update mail_link set used_at = ${ctx.clock.now()} where account = ${account} and used_at is null`);

/** Forgets links a week after their end. */
export const sweepLinks = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from mail_link where expires_at < ${ctx.clock.now()}::timestamptz - interval '7 days'`);
