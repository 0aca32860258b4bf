/** What a change of a profile does, decided in plain code on what was loaded: no statement, no clock. */
import type { Account } from '../accounts/accounts.ts';
import type { ContactPoint } from '../accounts/contact-points.ts';
import { channels, type Flags } from '../consent/channels.ts';
import type { Draft, Evidence, Source } from '../consent/ledger.ts';
import { decideFlag, decideLeaving, type Edge, maySpeakFor, type State } from '../consent/rules.ts';
import type { PhoneNumber } from '../phone/numbers.ts';
import { Failure } from '../platform/failure.ts';
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
  /** Name of a stored picture, null removes, absent keeps. */
  readonly avatar?: string | null;
  /** ETags of If-Match; the change is refused when the profile has none of them any more. */
  readonly ifMatch?: readonly string[];
  readonly source: Source;
  readonly evidence: Evidence;
}

/** Standings of one point by channel. */
type Standings = Map<string, { state: State; since: Date; event: string; account: number | null; proven: boolean }>;

/** Everything a batch has locked and read. Decisions write their outcome back, so that the next one sees it. */
export interface Loaded {
  readonly accounts: Map<number, Account>;
  readonly points: Map<number, ContactPoint>;
  readonly standings: Map<number, Standings>;
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
  readonly drafts: Draft[];
  readonly changed: boolean;
  readonly retired?: number;
  readonly verified?: number;
}

export interface StateRow {
  readonly contact_point: number;
  readonly channel: string;
  readonly state: State;
  readonly since: Date;
  readonly event: string;
  /** Whose word it was, and whether they had proven the address. */
  readonly account: number | null;
  readonly proven: boolean;
}

/** Adds standings of points to those that are known. */
export function keep(all: Map<number, Standings>, rows: readonly StateRow[]): void {
  for (const { contact_point, channel, ...standing } of rows) {
    const standings: Standings = all.get(contact_point) ?? new Map();
    all.set(contact_point, standings.set(channel, standing));
  }
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

/** The account's consents as `sms=granted,call=refused`, from the points it now has. */
export function consentsOf(account: Account, standings: Map<number, Standings>): Pick<Account, 'consents' | 'events'> {
  const pairs: string[] = [];
  let events = 0;
  for (const { name, kind } of channels) {
    const point = kind === 'email' ? account.email_point : account.phone_point;
    const standing = point === null ? undefined : standings.get(point)?.get(name);
    if (standing === undefined) continue;
    pairs.push(`${name}=${standing.state}`);
    // The same fold as in SQL (`signedIn`): the order of the channels does not matter.
    events ^= Number.parseInt(standing.event.slice(-7), 16);
  }
  return { consents: pairs.length === 0 ? null : pairs.join(','), events };
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
  if (account.phone_point === null) account.phone_point = loaded.placeholders.get(change.account)?.id ?? null;

  const drafts: Draft[] = [];
  const write = (point: ContactPoint, channel: string, edge: Edge | undefined, more: Evidence = {}): void => {
    if (edge === undefined) return;
    drafts.push({
      point,
      proven: provenBy(account, point.kind),
      account: before.id,
      channel,
      purpose: 'marketing',
      edge,
      source: change.source,
      actor: `account:${before.id}`,
      evidence: { ...change.evidence, ...more },
    });
  };

  // What the old number allowed ends with it, unless somebody else still holds it. Flags stated before there was any
  // number were about whichever number would come: they move to the first one.
  const carried = new Map<string, { stated: boolean; from: string }>();
  let retired: number | undefined;
  if (moves && oldPoint !== null && oldPoint !== account.phone_point) {
    const old = loaded.points.get(oldPoint)!;
    const placeholder = old.address_hash === null;
    const others = loaded.shared.get(oldPoint)?.some((holder) => holder !== before.id) ?? false;
    if (!others) retired = oldPoint;
    for (const { name } of phoneChannels) {
      const standing = loaded.standings.get(oldPoint)?.get(name);
      if (placeholder && standing !== undefined)
        carried.set(name, { stated: standing.state === 'granted', from: standing.event });
      else if (!others) write(old, name, decideLeaving(standing, now));
    }
  }
  for (const { name, flag, kind, unknown } of channels) {
    const pointId = kind === 'email' ? account.email_point : account.phone_point;
    if (pointId === null) continue;
    const point =
      loaded.points.get(pointId) ??
      (kind === 'phone' && number !== undefined ? loaded.numbers.get(number) : undefined) ??
      loaded.placeholders.get(change.account);
    if (point === undefined) continue;
    const standing = loaded.standings.get(pointId)?.get(name);
    const shown = standing === undefined ? unknown : standing.state === 'granted';
    const stated = change.flags[flag];
    const carry = typeof stated === 'boolean' || standing !== undefined ? undefined : carried.get(name);
    const maySpeak = maySpeakFor(standing, before.id, provenBy(account, kind));
    if (carry === undefined) write(point, name, decideFlag(standing, shown, stated, maySpeak, now));
    else write(point, name, decideFlag(undefined, null, carry.stated, maySpeak, now), { carried_from: carry.from });
  }
  const changed = profileRow.some((column) => account[column as keyof Account] !== before[column as keyof Account]);
  return {
    account: changed ? { ...account, version: before.version + 1 } : account,
    drafts,
    changed,
    ...(retired === undefined ? {} : { retired }),
    ...(change.proof === undefined || account.phone_point === null ? {} : { verified: account.phone_point }),
  };
}
