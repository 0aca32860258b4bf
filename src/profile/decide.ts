/** What a change of a profile does, decided in plain code on what was loaded: no statement, no clock. */
import type { Account } from '../accounts/accounts.ts';
import type { ContactPoint } from '../accounts/contact-points.ts';
import type { PhoneNumber } from '../accounts/phone-numbers.ts';
import { channels, type Flags, shownFlag, tailOf } from '../consent/channels.ts';
import type { Book, NoticeRef } from '../consent/ledger/book.ts';
import { type NoticeInForce, noticeFor } from '../consent/notices.ts';
import { decide as decideConsent, decideEnd, type Edge, isSilent, maySpeakFor } from '../consent/rules.ts';
import type { Source } from '../consent/sources.ts';
import type { LostNumber } from '../phone/undo.ts';
import type { Evidence } from '../platform/evidence.ts';
import { Failure } from '../platform/failure.ts';
import type { PointChange } from '../webhooks/dispatch.ts';
import { profileColumns, profileTag } from './fields.ts';

export interface ProfileChange {
  readonly account: number;
  /** New values of plain columns, by name; absent keeps. */
  readonly columns: Readonly<Record<string, unknown>>;
  readonly flags: Flags;
  /** A number sets, null clears, absent keeps. */
  readonly phone?: PhoneNumber | null;
  /** Nonce of the code that proved the new number. */
  readonly proof?: Buffer;
  /** The number is one the account had: when it was proven. Nobody is asked whether this is to be taken back in turn. */
  readonly restored?: Date;
  /** Name of a stored picture, null removes, absent keeps. */
  readonly avatar?: string | null;
  /** ETags of If-Match; the change is refused when the profile has none of them any more. */
  readonly ifMatch?: readonly string[];
  /** What its author has read of the consents (rule 3): all of them, or what their cookie and their sign-in tell. */
  readonly reader:
    | 'everything'
    | { readonly session: string; readonly since: Date; readonly version: string | undefined };
  /** Notices that the client names as shown, by channel. */
  readonly notices?: ReadonlyMap<string, NoticeRef>;
  readonly source: Source;
  readonly evidence: Evidence;
}

/** Everything a batch has locked and read. Decisions write their outcome back, so that the next one sees it. */
export interface Loaded {
  readonly accounts: Map<number, Account>;
  readonly points: Map<number, ContactPoint>;
  readonly book: Book;
  readonly notices: readonly NoticeInForce[];
  readonly defaultLanguage: string;
  /** Channels on which a yes has to be confirmed. */
  readonly doubleOptIn: readonly string[];
  /** Points of the new numbers, by E.164. */
  readonly numbers: Map<string, ContactPoint>;
  /** Active accounts that hold a new number; undefined where numbers need not be unique. */
  readonly taken: Map<string, number[]> | undefined;
  /** Active accounts that hold an old phone point. */
  readonly shared: Map<number, number[]>;
  /** Points standing for "my phone", made for accounts without a number. */
  readonly placeholders: Map<number, ContactPoint>;
  readonly proven: Set<number>;
}

export interface Decision {
  readonly account: Account;
  /** Points whose holders have to be asked. */
  readonly asked: readonly number[];
  readonly changed: boolean;
  readonly retired?: number;
  /** What others are told of the number. */
  readonly announced?: PointChange;
  readonly verified?: number;
  /** The account has another number than before, or none. */
  readonly moved: boolean;
  /** The proven number it had. */
  readonly lost?: LostNumber;
}

/** Columns a change can write. */
export const profileRow: readonly string[] = [
  ...profileColumns,
  'phone',
  'phone_e164',
  'phone_point',
  'phone_verified_at',
  'avatar',
];
const phoneChannels = channels.filter(({ kind }) => kind === 'phone');
/** Whether a change states something about "my phone" of an account that will have no number, so that a point must stand for it. */
export const needsPlaceholder = (account: Account, { phone, flags }: ProfileChange): boolean =>
  (phone === undefined ? account.phone_point === null : phone === null) &&
  phoneChannels.some(({ flag, unknown }) => typeof flags[flag] === 'boolean' && flags[flag] !== unknown);
/** Whether a change can write consent events about the account's point of this kind, which then must be locked. */
export const touches = ({ phone, flags }: ProfileChange, point: ContactPoint['kind']): boolean =>
  (point === 'phone' && phone !== undefined) ||
  channels.some(({ flag, kind }) => kind === point && typeof flags[flag] === 'boolean');
/** Whether a change gives the account another number, or takes the one it has. */
export const movesTo = (account: Account, { phone }: ProfileChange): boolean =>
  phone !== undefined && (phone?.e164 ?? null) !== account.phone_e164;

/** The account's consents as requests find them, from the points it now has. */
export function consentsOf(account: Account, book: Book): string | null {
  const pairs: string[] = [];
  for (const { name, kind } of channels) {
    const point = kind === 'email' ? account.email_point : account.phone_point;
    const standing = point === null ? undefined : book.standing(point, name, 'marketing');
    if (standing !== undefined) pairs.push(`${name}=${standing.state}:${tailOf(standing.event)}`);
  }
  return pairs.length === 0 ? null : pairs.join(',');
}

const places = new Map<string, number>(channels.map(({ name }, index) => [name, index]));

/**
 * Whether the author of a change knows the line that stands for a channel (rule 3): by If-Match, else by the cookie, line
 * by line, else because their own session wrote it, or it was there before they signed in. What is told of the account's
 * own addresses says nothing of a number it only moves to.
 */
function knows(
  { reader, ifMatch }: ProfileChange,
  channel: string,
  standing: NonNullable<ReturnType<Book['standing']>>,
  moved: boolean,
): boolean {
  if (reader === 'everything') return true;
  const { session, since, version } = reader;
  // That it matches is checked before anything is decided; `*` matches whatever there is and says nothing.
  if (!moved && ifMatch !== undefined && !ifMatch.includes('*')) return true;
  if (!moved && version?.split('.')[places.get(channel)!] === tailOf(standing.event)) return true;
  if (standing.said_in === session) return true;
  return (version === undefined || moved) && standing.recorded_at != null && standing.recorded_at < since;
}

/** Keeps who holds what as it will be, so that the next change of the batch finds it so. */
export function enter<K>(holders: Map<K, number[]> | undefined, key: K | null, account: number): void {
  if (key !== null) holders?.set(key, [...(holders.get(key) ?? []), account]);
}
function leave<K>(holders: Map<K, number[]> | undefined, key: K | null, account: number): void {
  if (key !== null) holders?.set(key, holders.get(key)?.filter((holder) => holder !== account) ?? []);
}

const provenBy = (account: Account, kind: ContactPoint['kind']): boolean =>
  (kind === 'email' ? account.email_verified_at : account.phone_verified_at) !== null;

/** Decides one change. Pure but for `loaded`, into which it writes what it decided. */
export function decide(change: ProfileChange, loaded: Loaded, now: Date): Decision | Failure {
  const before = loaded.accounts.get(change.account);
  if (before === undefined) return new Failure('not_authenticated');
  if (change.ifMatch !== undefined && !change.ifMatch.includes('*') && !change.ifMatch.includes(profileTag(before))) {
    return new Failure('precondition_failed');
  }
  if (change.proof !== undefined && !loaded.proven.has(change.account)) {
    return new Failure('invalid', { complaints: [{ path: ['code'], key: 'code.expired' }] });
  }
  const moves = movesTo(before, change);
  const number = change.phone?.e164;
  if (moves && number !== undefined && loaded.taken?.get(number)?.some((holder) => holder !== before.id)) {
    return new Failure('invalid', { complaints: [{ path: ['phone'], key: 'field.unique' }] });
  }

  const account = { ...before, ...change.columns } as { -readonly [K in keyof Account]: Account[K] };
  if (change.avatar !== undefined) account.avatar = change.avatar;
  if (change.phone !== undefined) account.phone = change.phone === null ? null : change.phone.text;
  const oldPoint = before.phone_point;
  if (moves) {
    account.phone_e164 = number ?? null;
    account.phone_point = number === undefined ? null : loaded.numbers.get(number)!.id;
    account.phone_verified_at = null;
    leave(loaded.shared, oldPoint, before.id);
    leave(loaded.taken, before.phone_e164, before.id);
    enter(loaded.shared, account.phone_point, before.id);
    enter(loaded.taken, account.phone_e164, before.id);
  }
  if (change.proof !== undefined) account.phone_verified_at = now;
  if (change.restored !== undefined) account.phone_verified_at ??= change.restored;
  if (account.phone_point === null) account.phone_point = loaded.placeholders.get(change.account)?.id ?? null;

  const asked: number[] = [];
  const { book } = loaded;
  const write = (
    point: ContactPoint,
    channel: string,
    purpose: string,
    edge: Edge | undefined,
    more: Evidence = {},
  ): void => {
    if (edge === undefined) return;
    const said = edge.kind === 'grant' || edge.kind === 'request' || edge.kind === 'refuse' || edge.kind === 'withdraw';
    const language = account.language_code;
    const notice = said
      ? (change.notices?.get(channel) ??
        noticeFor(loaded.notices, { purpose, channel, language, fallback: loaded.defaultLanguage }))
      : undefined;
    book.write({
      point,
      // The number that is left was proven, or not, before the move.
      proven: provenBy(moves && point.id === oldPoint ? before : account, point.kind),
      account: before.id,
      channel,
      purpose,
      edge,
      source: change.source,
      actor: `account:${before.id}`,
      evidence: { ...change.evidence, ...more },
      notice,
      idempotencyKey: null,
    });
    if (edge.kind === 'request' && edge.outcome === 'applied') asked.push(point.id);
  };
  const say = (point: ContactPoint, channel: string, purpose: string, granted: boolean, more?: Evidence): void => {
    const standing = book.standing(point.id, channel, purpose);
    const maySpeak = maySpeakFor(standing, before.id, provenBy(account, point.kind));
    const heard = standing === undefined || knows(change, channel, standing, moves && point.kind === 'phone');
    const doubleOptIn = loaded.doubleOptIn.includes(channel);
    const statement = { granted, speaker: { voice: 'person', maySpeak, heard }, doubleOptIn } as const;
    write(point, channel, purpose, decideConsent(standing, statement, now), more);
  };
  const pointOf = (kind: ContactPoint['kind']): ContactPoint | undefined => {
    const id = kind === 'email' ? account.email_point : account.phone_point;
    if (id === null) return undefined;
    const moved = kind === 'phone' && number !== undefined ? loaded.numbers.get(number) : undefined;
    return moved ?? loaded.points.get(id) ?? loaded.placeholders.get(change.account);
  };

  // What the old number allowed ends with it, unless somebody else still holds it (rule 5). Flags stated before there was
  // any number were about whichever number would come: they move to the first one.
  let retired: number | undefined;
  if (moves && oldPoint !== null && oldPoint !== account.phone_point) {
    const old = loaded.points.get(oldPoint)!;
    const others = loaded.shared.get(oldPoint)?.some((holder) => holder !== before.id) ?? false;
    if (!others) retired = oldPoint;
    const next = pointOf('phone');
    const known = phoneChannels.flatMap(({ name }) => book.of(oldPoint).filter(({ channel }) => channel === name));
    for (const { channel, purpose, state, event, account: speaker } of known) {
      if (old.address_hash !== null) {
        // Who only typed a number does not end what its holder said without an account.
        const theirs = provenBy(before, 'phone') || speaker !== null;
        if (!others && theirs) write(old, channel, purpose, decideEnd(book.standing(oldPoint, channel, purpose), now));
        continue;
      }
      const stated =
        purpose === 'marketing' &&
        phoneChannels.some(({ name, flag }) => name === channel && typeof change.flags[flag] === 'boolean');
      // Whoever was in the account when its number was brought back does not speak for that number.
      if (
        next === undefined ||
        stated ||
        change.restored !== undefined ||
        book.standing(next.id, channel, purpose) !== undefined
      )
        continue;
      say(next, channel, purpose, state === 'granted' || state === 'pending', { carried_from: event });
    }
  }
  for (const channel of channels) {
    const point = pointOf(channel.kind);
    if (point === undefined) continue;
    const shown = shownFlag(channel, book.standing(point.id, channel.name, 'marketing')?.state);
    const stated = change.flags[channel.flag];
    if (!isSilent(stated, shown)) say(point, channel.name, 'marketing', stated === true);
  }
  const proves = account.phone_verified_at !== null && account.phone_verified_at !== before.phone_verified_at;
  const changed = profileRow.some((column) => account[column as keyof Account] !== before[column as keyof Account]);
  return {
    account: changed ? { ...account, version: before.version + 1 } : account,
    asked,
    changed,
    moved: moves,
    ...lostBy(before, moves && change.restored === undefined),
    ...(retired === undefined ? {} : { retired }),
    ...(proves && account.phone_point !== null ? { verified: account.phone_point } : {}),
    ...(moves || proves ? { announced: tellOf(before, account) } : {}),
  };
}

/** The proven number that goes with a move. */
function lostBy({ id: account, phone, phone_e164, phone_verified_at }: Account, moves: boolean): { lost?: LostNumber } {
  if (!moves || phone === null || phone_e164 === null || phone_verified_at === null) return {};
  return { lost: { account, phone, phone_e164, phone_verified_at } };
}

/** How a number changed, for webhooks. */
function tellOf(before: Account, account: Account): PointChange {
  const { id, phone_point: contactPoint, phone_e164: number } = account;
  const moved = number !== before.phone_e164;
  return {
    account: id,
    kind: 'phone',
    change: number === null ? 'removed' : moved ? 'changed' : 'verified',
    contactPoint,
    previous: moved ? before.phone_point : null,
  };
}
