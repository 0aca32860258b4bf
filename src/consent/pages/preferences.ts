/**
 * What a person sees and says by a signed link: every purpose and channel of the addresses the link speaks for, and their
 * history. The link was sent to one of them, which proves that one.
 */
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import type { PointKind } from '../../accounts/contact-points.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { channels, tailOf } from '../channels.ts';
import { isAllowed } from '../decisions.ts';
import { readStandings } from '../ledger/book.ts';
import { type Notice, noticeFor, noticesInForce } from '../notices.ts';
import type { EventKind, Outcome, Standing, State } from '../rules.ts';
import type { Source } from '../sources.ts';
import type { PreferenceLink } from './links.ts';

export interface ReaderPoint {
  readonly id: number;
  /** Null where an account has no number. */
  readonly value: string | null;
  /** The reader has shown that the address is theirs, by this very link or before. */
  readonly proven: boolean;
}

/** Whoever holds a preference link. */
export interface Reader {
  readonly account: number | null;
  /** Language of the account; null where there is none. */
  readonly language: string | null;
  /** The address the link was sent to: a yes for it needs no further message. */
  readonly via: number;
  readonly points: Readonly<Partial<Record<PointKind, ReaderPoint>>>;
}

/** Who holds this link; undefined when it is over, was taken back, or the address has gone. */
export async function openPreferences(ctx: Ctx, link: PreferenceLink): Promise<Reader | undefined> {
  if (link.expiresAt <= ctx.clock.now()) return undefined;
  if (link.kind === 'address') {
    const row = await ctx.db.one<{ id: number; kind: PointKind; value: string }>(sql`
      select id, kind, value from contact_point
       where id = ${link.point} and link_generation = ${link.generation} and value is not null and erased_at is null`);
    if (row === undefined) return undefined;
    const { id, kind, value } = row;
    return { account: null, language: null, via: id, points: { [kind]: { id, value, proven: true } } };
  }
  const row = await ctx.db.one<{
    language_code: string;
    email_point: number;
    email: string | null;
    phone_point: number | null;
    phone: string | null;
    phone_proven: boolean;
  }>(sql`
    select a.language_code, a.email_point, e.value as email, a.phone_point, p.value as phone,
           a.phone_verified_at is not null as phone_proven
      from account a join contact_point e on e.id = a.email_point left join contact_point p on p.id = a.phone_point
     where a.id = ${link.account} and a.is_active and a.link_generation = ${link.generation}`);
  if (row === undefined) return undefined;
  return {
    account: link.account,
    language: row.language_code,
    via: row.email_point,
    points: {
      email: { id: row.email_point, value: row.email, proven: true },
      ...(row.phone_point === null
        ? {}
        : { phone: { id: row.phone_point, value: row.phone, proven: row.phone_proven } }),
    },
  };
}

/** An address as a page shows it: enough to know one’s own by, too little to learn one. Links are passed on. */
export function masked(kind: PointKind, value: string): string {
  if (kind === 'email') return `${[...value][0]}***@${value.slice(value.lastIndexOf('@') + 1)}`;
  const number = parsePhoneNumberFromString(value);
  const shown = number?.formatInternational() ?? value;
  const code = number?.countryCallingCode.length ?? 0;
  const digits = shown.replaceAll(/\D/g, '').length;
  // Five digits at least stay hidden, however short the country's numbers are.
  const head = code + Math.max(0, Math.min(3, digits - code - 2 - 5));
  let place = 0;
  return shown.replaceAll(/\d/g, (digit) => {
    place += 1;
    return place <= head || place > digits - 2 ? digit : '*';
  });
}

export interface ChannelView {
  readonly name: string;
  readonly kind: PointKind;
  /** Masked; null where the account has no such address. */
  readonly address: string | null;
  readonly state: State;
  readonly since: Date | null;
  /** A yes waits to be confirmed: by a message that was sent, or here, where this link was sent to the same address. */
  readonly waits: 'elsewhere' | 'here' | null;
  /** How its switch stands. */
  readonly on: boolean;
  /** There is an address to speak of, or something to take back. */
  readonly changeable: boolean;
  /** Names what the page shows, so that a form says later what its reader had read. */
  readonly shown: string;
  readonly notice: number | null;
}

export interface NoticeView extends Pick<Notice, 'id' | 'version' | 'language' | 'text' | 'withdrawal'> {
  /** Which of the channels on the page it speaks of. */
  readonly channels: readonly string[];
}

export interface PurposeView {
  readonly name: string;
  readonly title: string;
  readonly channels: readonly ChannelView[];
  readonly notices: readonly NoticeView[];
}

export interface HistoryLine {
  readonly id: string;
  readonly kind: EventKind;
  readonly outcome: Outcome;
  readonly channel: string;
  /** In the page's language; its name where the shop asks for it no more. */
  readonly purpose: string;
  readonly occurred_at: Date;
  readonly source: Source;
  readonly version: string | null;
}

export interface Preferences {
  readonly purposes: readonly PurposeView[];
  /** Newest first. */
  readonly history: readonly HistoryLine[];
  /** There are older lines than these. */
  readonly more: boolean;
}

/** Lines of history a page shows. */
export const HISTORY = 50;

/** What is on record as of now: what has run out by the clock is over, though its line is not written yet. */
export interface Current {
  readonly state: State;
  readonly since: Date | null;
  /** The line that asks, while it can be answered. */
  readonly request: string | null;
  /** The end by the clock has yet to be written. */
  readonly lapsed: boolean;
  readonly shown: string;
}

export function currentOf(ctx: Ctx, standing: Standing | undefined): Current {
  if (standing === undefined) return { state: 'unknown', since: null, request: null, lapsed: false, shown: '0' };
  const { state, since, latest, request, event } = standing;
  const now = ctx.clock.now().getTime();
  const validity = ctx.settings.get('CONSENT_VALIDITY');
  const shown = tailOf(request ?? event);
  if (state === 'granted' && !isAllowed(state, since.getTime(), validity, now)) {
    const end = new Date(since.getTime() + validity! * 1000);
    return { state: 'expired', since: end, request: null, lapsed: true, shown };
  }
  const end = latest.getTime() + ctx.settings.get('DOUBLE_OPT_IN_AGE') * 1000;
  if (request !== null && end <= now) {
    const over = state === 'pending';
    return {
      state: over ? 'expired' : state,
      since: over ? new Date(end) : since,
      request: null,
      lapsed: true,
      shown,
    };
  }
  return { state, since, request, lapsed: false, shown };
}

/** The switch as a page draws it: a yes that waits for a message elsewhere is on, one that can be given here is not yet. */
export const isOn = ({ state, request }: Current, here: boolean): boolean =>
  state === 'granted' || (request !== null && !here);

/** A purpose in somebody's language, else the shop's, else whatever there is. */
export function purposeTitle(ctx: Ctx, name: string, language: string): string {
  const title = ctx.settings.get('CONSENT_PURPOSES')[name]?.title;
  return title === undefined
    ? name
    : (title[language] ?? title[ctx.settings.get('DEFAULT_LANGUAGE')] ?? Object.values(title)[0]!);
}

/** The texts of these notices. */
export const noticeTexts = (
  ctx: Ctx,
  ids: readonly number[],
): Promise<
  Pick<Notice, 'id' | 'purpose' | 'channels' | 'version' | 'language' | 'text' | 'text_sha256' | 'withdrawal'>[]
> =>
  ids.length === 0
    ? Promise.resolve([])
    : ctx.db.rows(sql`
        select id, purpose, channels, version, language, text, encode(text_sha256, 'hex') as text_sha256, withdrawal
          from notice where id = any (${ids}::bigint[]) order by id`);

export const pointsOf = ({ points }: Reader): ReaderPoint[] => Object.values(points);

/** Everything the page shows. */
export async function readPreferences(ctx: Ctx, reader: Reader, language: string): Promise<Preferences> {
  const ids = pointsOf(reader).map(({ id }) => id);
  // Of an address nobody has proven to be theirs, a reader sees what they said themselves and nothing of others.
  const proven = pointsOf(reader).flatMap((point) => (point.proven ? point.id : []));
  const [standings, notices, lines] = await Promise.all([
    readStandings(ctx, ids),
    noticesInForce(ctx),
    ctx.db.rows<HistoryLine>(sql`
      select e.id, e.kind, e.outcome, e.channel, e.purpose, e.occurred_at, e.source, n.version
        from consent_event e left join notice n on n.id = e.notice
       where e.contact_point = any (${ids}::bigint[])
         and (e.contact_point = any (${proven}::bigint[]) or e.account = ${reader.account}::bigint)
       order by e.id desc limit ${HISTORY + 1}`),
  ]);
  const fallback = ctx.settings.get('DEFAULT_LANGUAGE');
  const purposes = Object.entries(ctx.settings.get('CONSENT_PURPOSES'))
    // Settings keep no order of their own: what every shop has comes first.
    .sort(([a], [b]) => Number(b === 'marketing') - Number(a === 'marketing'));
  const drafts = purposes.map(([name, purpose]) => {
    const views = channels
      // A link to an address speaks for that address alone.
      .filter(
        (channel) =>
          purpose.channels.includes(channel.name) && (reader.account !== null || reader.points[channel.kind]),
      )
      .map((channel): ChannelView => {
        const point = reader.points[channel.kind];
        const current = currentOf(
          ctx,
          standings.find(
            (row) => row.contact_point === point?.id && row.channel === channel.name && row.purpose === name,
          ),
        );
        const here = point?.id === reader.via;
        const on = isOn(current, here);
        const notice = noticeFor(notices, { purpose: name, channel: channel.name, language, fallback });
        return {
          name: channel.name,
          kind: channel.kind,
          address: point == null || point.value === null ? null : masked(channel.kind, point.value),
          state: current.state,
          since: current.since,
          waits: current.request === null ? null : here ? 'here' : 'elsewhere',
          on,
          changeable: point !== undefined && (point.value !== null || on),
          shown: current.shown,
          notice: notice?.id ?? null,
        };
      });
    return { name, title: purposeTitle(ctx, name, language), views };
  });
  const texts = await noticeTexts(ctx, [
    ...new Set(drafts.flatMap(({ views }) => views.flatMap((view) => view.notice ?? []))),
  ]);
  return {
    purposes: drafts
      .filter(({ views }) => views.length > 0)
      .map(({ name, title, views }) => ({
        name,
        title,
        channels: views,
        notices: texts.flatMap((text) => {
          const speaksOf = views.filter(({ notice }) => notice === text.id).map((view) => view.name);
          return speaksOf.length === 0 ? [] : [{ ...text, channels: speaksOf }];
        }),
      })),
    history: lines.slice(0, HISTORY).map((line) => ({ ...line, purpose: purposeTitle(ctx, line.purpose, language) })),
    more: lines.length > HISTORY,
  };
}
