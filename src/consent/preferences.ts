/**
 * What a person sees and says by a signed link: every purpose and channel of the addresses the link speaks for, and their
 * history. The link was sent to one of them, which proves that one.
 */
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import type { PointKind } from '../accounts/contact-points.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { channels, tailOf } from './channels.ts';
import { isAllowed } from './decisions.ts';
import type { NoticeRef } from './ledger.ts';
import { readStandings } from './ledger.ts';
import type { Evidence } from './lines.ts';
import type { PreferenceLink } from './links.ts';
import { type Notice, noticeFor, noticesInForce } from './notices.ts';
import type { EventKind, Outcome, Standing, State } from './rules.ts';
import type { Source } from './sources.ts';
import { type ConsentStatement, sayAll } from './statements.ts';

interface ReaderPoint {
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
  /** Erased or complained: nothing is sent whatever is allowed. */
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
interface Current {
  readonly state: State;
  readonly since: Date | null;
  /** The line that asks, while it can be answered. */
  readonly request: string | null;
  /** Granted once, and over by CONSENT_VALIDITY. */
  readonly lapsed: boolean;
  readonly shown: string;
}

function currentOf(ctx: Ctx, standing: Standing | undefined): Current {
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
      lapsed: false,
      shown,
    };
  }
  return { state, since, request, lapsed: false, shown };
}

/** The switch as a page draws it: a yes that waits for a message elsewhere is on, one that can be given here is not yet. */
const isOn = ({ state, request }: Current, here: boolean): boolean =>
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

const pointsOf = ({ points }: Reader): ReaderPoint[] => Object.values(points);

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
  const drafts = Object.entries(ctx.settings.get('CONSENT_PURPOSES')).map(([name, purpose]) => {
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

/** What a form says of one switch. */
export interface Wish {
  readonly purpose: string;
  readonly channel: string;
  readonly on: boolean;
  /** `shown` of what its reader saw. */
  readonly shown: string;
  /** The notice its reader saw. */
  readonly notice: number | null;
}

/** What became of a form: all as it says; `stale`: a yes was left out, because the no is newer; `asked`: a yes waits for its confirmation. */
export type Saved = 'saved' | 'asked' | 'stale';

interface SavedBy {
  readonly evidence: Evidence;
  readonly language: string;
}

/** Says what a form asks for, in one transaction: of its switches those that were moved, and every no. */
export function savePreferences(root: Ctx, reader: Reader, wishes: readonly Wish[], by: SavedBy): Promise<Saved> {
  return transaction(root, async (ctx) => {
    const standings = await lock(ctx, reader);
    const notices = await noticeTexts(ctx, [...new Set(wishes.flatMap(({ notice }) => notice ?? []))]);
    const statements = wishes.flatMap((wish): ConsentStatement[] => {
      const { purpose, channel } = wish;
      const kind = channels.find(({ name }) => name === channel)?.kind;
      const point = kind === undefined ? undefined : reader.points[kind];
      if (point === undefined) return [];
      const current = currentOf(ctx, standings(point.id, channel, purpose));
      const intent = intentOf(wish, current, { here: point.id === reader.via, addressed: point.value !== null });
      if (intent === undefined) return [];
      const seen = notices.find(({ id }) => id === wish.notice);
      const notice: NoticeRef | undefined =
        seen !== undefined && seen.purpose === purpose && seen.channels.includes(channel)
          ? { id: seen.id, sha256: seen.text_sha256 }
          : undefined;
      const statement = said(reader, point, { purpose, channel, intent, ...by });
      const heard = wish.shown === current.shown;
      return [
        // Over by the clock: its end is written before the new beginning.
        ...(current.lapsed
          ? [{ ...statement, intent: 'expire', source: 'system', actor: 'system', evidence: {} } as const]
          : []),
        { ...statement, heard, ...(notice === undefined ? {} : { notice }) },
      ];
    });
    return whatBecame(await sayAll(ctx, statements), statements);
  });
}

/** What a switch says beside what is on record; undefined: nothing. */
function intentOf(
  { on, shown }: Wish,
  current: Current,
  { here, addressed }: { here: boolean; addressed: boolean },
): 'grant' | 'confirm' | 'refuse' | undefined {
  const moved = on !== isOn(current, here);
  if (shown === current.shown && !moved) return undefined;
  // A no counts however old the page is, where there is anything to say no to.
  if (!on) return current.state === 'granted' || current.request !== null ? 'refuse' : undefined;
  if (current.state === 'granted' || !addressed) return undefined;
  return current.request !== null && here && shown === current.shown ? 'confirm' : 'grant';
}

/** Says no to everything: what the shop asks for, and whatever else anybody ever asked these addresses. */
export function refuseEverything(root: Ctx, reader: Reader, by: SavedBy): Promise<Saved> {
  return transaction(root, async (ctx) => {
    await lock(ctx, reader);
    const rows = await readStandings(
      ctx,
      pointsOf(reader).map(({ id }) => id),
    );
    const places = new Map<string, ConsentStatement>();
    const add = (point: ReaderPoint, channel: string, purpose: string): void => {
      places.set(
        `${point.id} ${channel} ${purpose}`,
        said(reader, point, { channel, purpose, intent: 'refuse', ...by }),
      );
    };
    for (const [purpose, { channels: names }] of Object.entries(ctx.settings.get('CONSENT_PURPOSES'))) {
      for (const { name, kind } of channels) {
        const point = reader.points[kind];
        if (names.includes(name) && point !== undefined && point.value !== null) add(point, name, purpose);
      }
    }
    for (const row of rows) add(pointsOf(reader).find(({ id }) => id === row.contact_point)!, row.channel, row.purpose);
    const statements = [...places.values()];
    return whatBecame(await sayAll(ctx, statements), statements);
  });
}

/** Locks the reader's addresses, in the order of their ids as everybody does, and reads what is on record. */
async function lock(
  ctx: Ctx,
  reader: Reader,
): Promise<(point: number, channel: string, purpose: string) => Standing | undefined> {
  const ids = pointsOf(reader).map(({ id }) => id);
  await ctx.db.run(sql`select from contact_point where id = any (${ids}::bigint[]) order by id for no key update`);
  const rows = await readStandings(ctx, ids);
  return (point, channel, purpose) =>
    rows.find((row) => row.contact_point === point && row.channel === channel && row.purpose === purpose);
}

const said = (
  { account, via }: Reader,
  point: ReaderPoint,
  { evidence, language, ...what }: SavedBy & Pick<ConsentStatement, 'purpose' | 'channel' | 'intent'>,
): ConsentStatement => ({
  ...what,
  about: { point: point.id },
  ...(account === null ? {} : { account }),
  by: { voice: 'person', proven: point.proven },
  source: 'preference_page',
  actor: account === null ? 'address' : `account:${account}`,
  confirmed: point.id === via,
  evidence,
  language,
});

function whatBecame(results: Awaited<ReturnType<typeof sayAll>>, statements: readonly ConsentStatement[]): Saved {
  let saved: Saved = 'saved';
  for (const [index, result] of results.entries()) {
    if (result instanceof Error) throw result;
    if (statements[index]!.intent !== 'grant') continue;
    if (result.written && result.outcome !== 'applied') return 'stale';
    if (result.state !== 'granted') saved = 'asked';
  }
  return saved;
}
