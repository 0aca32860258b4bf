/**
 * A proven number that was replaced or removed. Whoever holds it and the mail address of the account are told, and each has
 * a link that brings it back for a time: the one who changed it may not have been the one whose account it is.
 */
import { randomUUID } from 'node:crypto';
import { idOfToken, linkToken } from '../accounts/links.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { enqueueAll, type Task } from '../platform/jobs.ts';
import { languageOf, say } from '../platform/language.ts';
import type { Mailer } from '../platform/mail.ts';
import { mayWarn, type sendTextBy } from './texts.ts';

const PURPOSE = 'phone_undo';

/** A proven number that an account had until now. */
export interface LostNumber {
  readonly account: number;
  /** As the client wrote it. */
  readonly phone: string;
  readonly phone_e164: string;
  readonly phone_verified_at: Date;
}

export interface PhoneUndo extends LostNumber {
  readonly id: string;
  readonly created_at: Date;
  readonly expires_at: Date;
  readonly language_code: string;
}

/** The last two digits: enough to know one's own number by. */
export const endOf = (e164: string): string => e164.slice(-2);

/**
 * Has both told of numbers that are lost by the caller's transaction, for PHONE_UNDO_AGE seconds. One statement for the
 * rows and one for the jobs, however many there are.
 */
export async function offerUndo(ctx: Ctx, lost: readonly LostNumber[]): Promise<void> {
  const seconds = ctx.settings.get('PHONE_UNDO_AGE');
  if (lost.length === 0 || seconds === 0) return;
  const now = ctx.clock.now();
  const rows = lost.map((number) => ({
    ...number,
    id: randomUUID(),
    created_at: now,
    expires_at: new Date(now.getTime() + seconds * 1000),
  }));
  await ctx.db.run(sql`
    insert into phone_undo select * from jsonb_populate_recordset(null::phone_undo, ${JSON.stringify(rows)}::jsonb)`);
  await tell(ctx, ...rows.flatMap(({ id }) => [{ undo: id, by: 'mail' } as const, { undo: id, by: 'text' } as const]));
}

/** A mail and a text are jobs of their own: one that fails and is tried again does not repeat the other. */
const tell = (ctx: Ctx, ...payloads: { undo: string; by: 'mail' | 'text' | 'done' }[]): Promise<void> =>
  enqueueAll(
    ctx,
    'tell_phone_change',
    payloads.map((payload) => ({ payload })),
  );

/** What a link can bring back; undefined when it is forged, used or over, or its account has gone. */
export async function openUndo(ctx: Ctx, token: string): Promise<PhoneUndo | undefined> {
  const id = idOfToken(ctx, PURPOSE, token);
  if (id === undefined || ctx.settings.get('PHONE_UNDO_AGE') === 0) return undefined;
  return ctx.db.one<PhoneUndo>(sql`
    select u.id, u.account, u.phone, u.phone_e164, u.phone_verified_at, u.created_at, u.expires_at, a.language_code
      from phone_undo u join account a on a.id = u.account and a.is_active
     where u.id = ${id} and u.used_at is null and u.expires_at > ${ctx.clock.now()}`);
}

/**
 * Spends one in the caller's transaction, and with it those of later changes: the older one wins, as whoever took an account
 * over came after its owner. Puts the job that mails about it. The account's row is locked first.
 * @returns whether it was still there to spend
 */
export async function spendUndo(ctx: Ctx, { id, account, created_at }: PhoneUndo): Promise<boolean> {
  const now = ctx.clock.now();
  await ctx.db.run(sql`select from account where id = ${account} for no key update`);
  const spent = await ctx.db.run(sql`update phone_undo set used_at = ${now} where id = ${id} and used_at is null`);
  if (spent === 0) return false;
  await ctx.db.run(sql`
    update phone_undo set used_at = ${now} where account = ${account} and used_at is null and created_at >= ${created_at}`);
  await tell(ctx, { undo: id, by: 'done' });
  return true;
}

interface Told extends PhoneUndo {
  readonly email: string;
  readonly open: boolean;
  /** This number was brought back to this account lately, or a link to it was ended. */
  readonly again: boolean;
}

/**
 * Tells the mail address or the old number. A number that has been brought back once is told without a link from then on:
 * somebody who only held it for a while could bring it back for ever. The mail address always has one.
 * @param publicUrl address under which people reach this service
 */
export function tellPhoneChange({
  mail: mailer,
  sms,
  publicUrl,
}: {
  mail: Mailer;
  sms: ReturnType<typeof sendTextBy>;
  publicUrl: string;
}): Task {
  return async (ctx, { undo, by }) => {
    const row = await ctx.db.one<Told>(sql`
      select u.id, u.account, u.phone, u.phone_e164, u.phone_verified_at, u.created_at, u.expires_at, a.language_code, a.email,
             u.used_at is null and u.expires_at > ${ctx.clock.now()} as open,
             exists (select from phone_undo o
                      where o.account = u.account and o.phone_e164 = u.phone_e164 and o.id <> u.id and o.used_at is not null) as again
        from phone_undo u join account a on a.id = u.account and a.is_active where u.id = ${String(undo)}`);
    // Erased meanwhile; or brought back, of which a mail of its own tells.
    if (row === undefined || row.open === (by === 'done')) return;
    const language = languageOf(row.language_code);
    const until = new Intl.DateTimeFormat(language === 'en' ? 'en-GB' : language, {
      dateStyle: 'long',
      timeZone: 'UTC',
    });
    const values = {
      shop: ctx.settings.get('CONSENT_CONTROLLER').name,
      end: endOf(row.phone_e164),
      until: until.format(row.expires_at),
      url: `${publicUrl}/phone/undo/${linkToken(ctx, { id: row.id, purpose: PURPOSE })}`,
    };
    if (by === 'text') {
      const text = say(language, { key: row.again ? 'sms.phone_changed' : 'sms.phone_undo', values });
      if (!(await mayWarn(ctx, row.phone_e164, row.account, row.id))) return;
      return sms(ctx, { to: row.phone_e164, text, about: row.id });
    }
    const [subject, body] =
      by === 'done'
        ? ['mail.phone_undone.subject', 'mail.phone_undone.text']
        : ['mail.phone_undo.subject', 'mail.phone_undo.text'];
    await mailer(ctx, {
      to: row.email,
      subject: say(language, { key: subject, values }),
      text: say(language, { key: body, values }),
    });
  };
}

/** Forgets them a month after their end: until then a number that was brought back is known. */
export const sweepPhoneUndos = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`delete from phone_undo where expires_at < ${ctx.clock.now()}::timestamptz - interval '30 days'`);
