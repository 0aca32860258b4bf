/** Notices: the exact texts people saw when they decided, versioned and never changed. */
import type { Ctx } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import { fail, refuse } from '../platform/failure.ts';
import { sha256 } from '../platform/keys.ts';
import type { NoticeRef } from './ledger/book.ts';

export interface NewNotice {
  readonly purpose: string;
  readonly channels: readonly string[];
  /** ISO 639-1, lower case. */
  readonly language: string;
  /** The shop's own name of this wording, such as `2026-11`. */
  readonly version: string;
  readonly text: string;
  /** How the consent is taken back, in words. */
  readonly withdrawal: string;
  /** Absent: now. Never before now: nobody has seen it yet. */
  readonly valid_from?: Date | undefined;
}

export interface Notice {
  readonly id: number;
  readonly purpose: string;
  readonly channels: readonly string[];
  readonly language: string;
  readonly version: string;
  readonly text: string;
  readonly text_sha256: string;
  readonly withdrawal: string;
  readonly valid_from: Date;
  readonly created_at: Date;
  readonly created_by: string;
}

/** Keeps a text for good. @throws conflict where purpose, language and version have one already, invalid for a date that has passed */
export async function addNotice(ctx: Ctx, notice: NewNotice, createdBy: string): Promise<Notice> {
  const now = ctx.clock.now();
  const validFrom = notice.valid_from ?? now;
  if (validFrom < now) refuse({ path: ['valid_from'], key: 'notice.past' });
  try {
    const row = await ctx.db.one<Notice>(sql`
      insert into notice (purpose, channels, language, version, text, text_sha256, withdrawal, valid_from, created_at, created_by)
      values (${notice.purpose}, ${notice.channels}::text[], ${notice.language}, ${notice.version}, ${notice.text},
              ${sha256(notice.text)}, ${notice.withdrawal}, ${validFrom}, ${now}, ${createdBy})
      returning id, purpose, channels, language, version, text, encode(text_sha256, 'hex') as text_sha256, withdrawal,
                valid_from, created_at, created_by`);
    return row!;
  } catch (error) {
    if (violated(error) === 'notice_purpose_language_version_key') fail('conflict');
    throw error;
  }
}

/** A page of notices, newest first. */
export async function listNotices(
  ctx: Ctx,
  { after, limit }: { after?: number | undefined; limit: number },
): Promise<{ items: Notice[]; next: string | null }> {
  const rows = await ctx.db.rows<Notice>(sql`
    select id, purpose, channels, language, version, text, encode(text_sha256, 'hex') as text_sha256, withdrawal, valid_from,
           created_at, created_by
      from notice where ${after ?? null}::bigint is null or id < ${after ?? null} order by id desc limit ${limit + 1}`);
  const items = rows.slice(0, limit);
  return { items, next: rows.length > limit ? String(items.at(-1)!.id) : null };
}

/** One notice; undefined when there is none. */
export const readNotice = (ctx: Ctx, id: number): Promise<Notice | undefined> =>
  ctx.db.one(sql`
    select id, purpose, channels, language, version, text, encode(text_sha256, 'hex') as text_sha256, withdrawal, valid_from,
           created_at, created_by
      from notice where id = ${id}`);

/** A notice in force for one channel: what lines name. */
export interface NoticeInForce extends NoticeRef {
  readonly purpose: string;
  readonly channel: string;
  readonly language: string;
}

/** The newest valid notice of every purpose, channel and language, without its text. */
export const noticesInForce = (ctx: Ctx): Promise<NoticeInForce[]> =>
  ctx.db.rows(sql`
    select distinct on (purpose, channel, language) id, encode(text_sha256, 'hex') as sha256, purpose, channel, language
      from notice cross join unnest(channels) as channel
     where valid_from <= ${ctx.clock.now()}
     order by purpose, channel, language, valid_from desc, id desc`);

/** Picks the notice somebody of this language sees: their own, else the shop's default, else none. */
export function noticeFor(
  notices: readonly NoticeInForce[],
  { purpose, channel, language, fallback }: { purpose: string; channel: string; language: string; fallback: string },
): NoticeInForce | undefined {
  const fitting = notices.filter((notice) => notice.purpose === purpose && notice.channel === channel);
  if (fitting.length === 0) return undefined;
  const wanted = language.slice(0, 2).toLowerCase();
  return fitting.find((notice) => notice.language === wanted) ?? fitting.find((notice) => notice.language === fallback);
}

/**
 * The notice that somebody names as the one they showed.
 * @throws invalid when there is none, or it speaks of other channels or purposes
 */
export async function namedNotice(
  ctx: Ctx,
  id: number,
  { purpose, channel, path }: { purpose: string; channel: string; path: readonly string[] },
): Promise<NoticeRef> {
  const notice = await readNotice(ctx, id);
  if (notice === undefined) refuse({ path, key: 'notice.none' });
  if (notice.purpose !== purpose || !notice.channels.includes(channel)) refuse({ path, key: 'notice.of_other' });
  return { id: notice.id, sha256: notice.text_sha256 };
}
