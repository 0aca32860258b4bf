/**
 * What a client of the service remembers: what it asked for, what it was told, and what must therefore be stored. The
 * rules of consent are written here a second time, so that the proof does not believe the code it judges.
 */

export const flags = {
  email_allowed: 'email',
  sms_allowed: 'sms',
  whatsapp_allowed: 'whatsapp',
  call_allowed: 'call',
} as const;
export type Flag = keyof typeof flags;
export type Channel = (typeof flags)[Flag];
/** What somebody states in one request. */
export type Flags = Partial<Record<Flag, boolean>>;
export const flagNames = Object.keys(flags) as Flag[];
const phoneChannels = ['sms', 'whatsapp', 'call'] as const;

export type State = 'granted' | 'withdrawn' | 'refused' | 'expired' | 'pending';
export type Kind = 'grant' | 'withdraw' | 'refuse' | 'expire' | 'request';
/** The rules that keep a line from changing anything. */
export type Kept = 'older' | 'not_lifted';

/** Which state a kind of line leads to. */
export const leadsTo: Readonly<Record<string, State>> = {
  grant: 'granted',
  withdraw: 'withdrawn',
  refuse: 'refused',
  expire: 'expired',
  request: 'pending',
};

/** Which state a line that counts leads to: a question to somebody who took a yes back changes nothing yet. */
export const follow = (before: State | undefined, kind: string): State | undefined =>
  kind === 'request' && before === 'withdrawn' ? before : leadsTo[kind];

/** A line the ledger must have: channel, kind, and the request it came from. */
export interface Line {
  readonly channel: Channel;
  readonly kind: Kind;
  readonly tag: string;
  /** Why it changes nothing; absent: it counts. */
  readonly kept?: Kept;
}

/** `done`: acknowledged, or found done afterwards. `undone`: never heard, or its fate was unknown and it was found not done. */
export type Fate = 'unknown' | 'done' | 'undone';

/** One request that changes something. `tag` is its User-Agent, which the ledger keeps as evidence. */
export interface Deed {
  readonly tag: string;
  /** For people: `PATCH /users/profile/`. */
  readonly what: string;
  readonly lines: readonly Line[];
  fate: Fate;
}

export interface Person {
  readonly email: string;
  /** Undefined until a profile told it. */
  id: number | undefined;
  /** For `Authorization: Token`. */
  key: string;
  /** First name: the tag of the last change that counts. */
  name: string;
  /** Version of the profile, which every change raises by one; undefined until an answer told it. */
  version: number | undefined;
  number: string | null;
  /** By channel, about the addresses the account has now. */
  standing: ReadonlyMap<Channel, State>;
}

/** What a change leads to. */
export interface Effect {
  readonly standing: ReadonlyMap<Channel, State>;
  readonly lines: readonly Line[];
}

/** What clients see of a channel. */
const shown = (standing: ReadonlyMap<Channel, State>, channel: Channel): boolean | null => {
  const state = standing.get(channel);
  return state === undefined ? (channel === 'call' ? null : false) : state === 'granted';
};

/** The flags a profile must show. */
export const shownFlags = (standing: ReadonlyMap<Channel, State>): Record<Flag, boolean | null> =>
  Object.fromEntries(flagNames.map((flag) => [flag, shown(standing, flags[flag])])) as Record<Flag, boolean | null>;

/** Flags stated by somebody who is signed in: only what differs from what shows is a line. */
export function stateFlags(standing: ReadonlyMap<Channel, State>, stated: Flags, tag: string): Effect {
  const next = new Map(standing);
  const lines: Line[] = [];
  for (const flag of flagNames) {
    const value = stated[flag];
    const channel = flags[flag];
    if (value === undefined || value === shown(standing, channel)) continue;
    const kind = value ? 'grant' : standing.get(channel) === 'granted' ? 'withdraw' : 'refuse';
    next.set(channel, leadsTo[kind]!);
    lines.push({ channel, kind, tag });
  }
  return { standing: next, lines };
}

/** A new number: what the old one allowed ends; what was stated before there was a number moves to the first one. */
export function moveNumber({ standing, number }: Person, tag: string): Effect {
  const next = new Map(standing);
  const lines: Line[] = [];
  for (const channel of phoneChannels) {
    const state = standing.get(channel);
    if (number !== null) next.delete(channel);
    if (number !== null && state === 'granted') lines.push({ channel, kind: 'expire', tag });
    if (number === null && state !== undefined) {
      const kind = state === 'granted' ? 'grant' : 'refuse';
      next.set(channel, leadsTo[kind]!);
      lines.push({ channel, kind, tag });
    }
  }
  return { standing: next, lines };
}

/** A basket promoted by the registration of somebody unknown so far: every flag is a line, and its request is the basket's. */
export function promote(stated: Flags, basketTag: string): Effect {
  const standing = new Map<Channel, State>();
  const lines: Line[] = [];
  for (const flag of flagNames) {
    const value = stated[flag];
    if (value === undefined) continue;
    const kind = value ? 'grant' : 'refuse';
    standing.set(flags[flag], leadsTo[kind]!);
    lines.push({ channel: flags[flag], kind, tag: basketTag });
  }
  return { standing, lines };
}

/** Who orders: somebody without an account, somebody who types the address of a member, or the member, signed in. */
export type Customer = 'guest' | 'stranger' | 'holder';
/** Why a flag of an order led to no line. */
export type Unchanged = 'no_change' | 'no_address';

/**
 * A basket promoted by its order.
 * @param standing what is on record about the addresses of the order
 * @param addressed whether the order has an address for a channel; without one its flag waits
 */
export function placeOrder(
  standing: ReadonlyMap<Channel, State>,
  stated: Flags,
  { customer, addressed, tag }: { customer: Customer; addressed: (channel: Channel) => boolean; tag: string },
): Effect & { readonly becomes: ReadonlyMap<Channel, Kind | Unchanged> } {
  const next = new Map(standing);
  const lines: Line[] = [];
  const becomes = new Map<Channel, Kind | Unchanged>();
  const kindOf = (value: boolean, before: State | undefined): Kind | undefined => {
    // Who is not the member can neither grant nor withdraw for the member, only have the member asked.
    if (customer === 'stranger') return value && before !== 'granted' ? 'request' : undefined;
    if (value) return before === 'granted' ? undefined : 'grant';
    if (customer === 'guest') return before === undefined ? 'refuse' : undefined;
    if (before === 'granted') return 'withdraw';
    return before === undefined || before === 'expired' ? 'refuse' : undefined;
  };
  for (const flag of flagNames) {
    const value = stated[flag];
    if (value === undefined) continue;
    const channel = flags[flag];
    const before = standing.get(channel);
    const kind = addressed(channel) ? kindOf(value, before) : undefined;
    becomes.set(channel, kind ?? (addressed(channel) ? 'no_change' : 'no_address'));
    if (kind === undefined) continue;
    next.set(channel, follow(before, kind)!);
    lines.push({ channel, kind, tag });
  }
  return { standing: next, lines, becomes };
}

/** What another system knows to be on record about an address and channel. */
export interface Told {
  readonly state: State;
  /** When the newest line that counts was said, and its id. */
  readonly latest: Date;
  readonly event: string;
}

/** A consent told by another system. @returns the line it makes; undefined where it says what is so already */
export function tell(
  told: Told | undefined,
  { granted, at, evidenced }: { granted: boolean; at: Date | undefined; evidenced: boolean },
): { readonly kind: Kind; readonly kept?: Kept } | undefined {
  const late = at !== undefined && told !== undefined && at <= told.latest;
  if (granted) {
    if (told?.state === 'granted') return undefined;
    if (late) return { kind: 'grant', kept: 'older' };
    return told?.state === 'withdrawn' && !evidenced ? { kind: 'grant', kept: 'not_lifted' } : { kind: 'grant' };
  }
  if (told !== undefined && told.state !== 'granted') return undefined;
  const kind = told === undefined ? 'refuse' : 'withdraw';
  // On a tie the no wins.
  return late && at < told.latest ? { kind, kept: 'older' } : { kind };
}

/** Somebody without an account who orders. */
export interface Guest {
  readonly email: string;
  readonly phone: string | null;
}

/** A basket that was ordered. */
export interface Order {
  readonly basket: number;
  readonly customer: Customer;
  readonly becomes: ReadonlyMap<Channel, Kind | Unchanged>;
  /** The first answer: every other one must be the same. */
  answer: Promoted | undefined;
}

/** What became of each flag of a basket. */
export interface Promoted {
  readonly events: readonly { readonly channel: Channel; readonly event: string }[];
  readonly pending: readonly { readonly channel: Channel; readonly event: string }[];
  readonly unchanged: readonly { readonly channel: Channel; readonly reason: string }[];
}

/** Flags of one channel of a basket: the last one that counts, and those after it whose fate is unknown. */
export interface Ticked {
  done: { readonly tag: string; readonly value: boolean } | undefined;
  unknown: { readonly tag: string; readonly value: boolean }[];
  /** Whether it must have been promoted. */
  consumed: boolean;
}

export interface Entry {
  readonly id: number;
  readonly company: number;
  state: string;
  version: number;
}

export interface Promised {
  /** Requests for a code that may have been heard. */
  asked: number;
  /** One of them was answered 202. */
  promised: boolean;
}

/** A number that looks random, the same for a seed each time (mulberry32). */
export function sequence(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Everything all clients remember, and what was found wrong. */
export class Book {
  readonly deeds = new Map<string, Deed>();
  readonly people: Person[] = [];
  /** By `basket channel`. */
  readonly ticked = new Map<string, Ticked>();
  readonly orders: Order[] = [];
  /** Addresses no account holds, and where their channels must stand. */
  readonly addresses = new Map<string, ReadonlyMap<Channel, State>>();
  readonly entries: Entry[] = [];
  /** Values each setting must have had, in order. */
  readonly settings = new Map<string, number[]>();
  /** By number. */
  readonly promises = new Map<string, Promised>();
  readonly faults: string[] = [];
  acknowledged = 0;
  unknown = 0;
  /** Codes that were sent twice. */
  resent = 0;
  /** Calls that promote a basket, and those of them that were answered. */
  promotions = 0;
  promoted = 0;

  fault(text: string): void {
    this.faults.push(text);
  }

  /** Every change raises a version by one: less is a change lost, more is one done twice. */
  version(what: string, found: number, expected: number | undefined): void {
    if (expected === undefined || found === expected) return;
    this.fault(`${found > expected ? 'doubled' : 'lost'}: ${what} has version ${found} instead of ${expected}`);
  }
}
