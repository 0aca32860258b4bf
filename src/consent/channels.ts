/** The catalogue of channels: one row each. The wire flag, the kind of address and every list follow from it. */
import type { PointKind } from '../accounts/contact-points.ts';

export interface Channel {
  readonly name: 'sms' | 'call' | 'email' | 'whatsapp';
  /** Its flag on the Akinon wire. */
  readonly flag: string;
  readonly kind: PointKind;
  /** What the flag shows while nothing was ever said: false, or null where the seed knows null. */
  readonly unknown: false | null;
}

export const channels = [
  { name: 'email', flag: 'email_allowed', kind: 'email', unknown: false },
  { name: 'sms', flag: 'sms_allowed', kind: 'phone', unknown: false },
  { name: 'whatsapp', flag: 'whatsapp_allowed', kind: 'phone', unknown: false },
  { name: 'call', flag: 'call_allowed', kind: 'phone', unknown: null },
] as const satisfies readonly Channel[];

export type Flag = (typeof channels)[number]['flag'];
/** What a person states in one request; absent says nothing, and so does null. */
export type Flags = Partial<Record<Flag, boolean | null>>;

const places = new Map<string, number>(channels.map(({ name }, index) => [name, index]));

/** In the catalogue's order. */
interface Parsed {
  readonly text: string | null;
  readonly states: readonly (string | undefined)[];
  /** Names the line behind each flag. */
  readonly version: string;
}

const nothing: Parsed = { text: null, states: [], version: channels.map(() => '0').join('.') };
let last: Parsed = nothing;

/**
 * An account's consents as a request finds them: `sms=granted:1f2e3d4,call=refused:0a1b2c3`, the last part of the deciding
 * line. An answer asks three times for the same text: the last one is kept.
 */
function parse(text: string | null): Parsed {
  if (text === null) return nothing;
  if (last.text === text) return last;
  const states = new Array<string | undefined>(channels.length).fill(undefined);
  const tails = new Array<string>(channels.length).fill('0');
  for (let start = 0; start < text.length; ) {
    const equals = text.indexOf('=', start);
    const colon = text.indexOf(':', equals);
    const comma = text.indexOf(',', colon);
    const end = comma === -1 ? text.length : comma;
    const place = places.get(text.slice(start, equals));
    if (place !== undefined) {
      states[place] = text.slice(equals + 1, colon);
      tails[place] = text.slice(colon + 1, end);
    }
    start = end + 1;
  }
  last = { text, states, version: tails.join('.') };
  return last;
}

/** What a flag shows of a state. */
export const shownFlag = ({ unknown }: Channel, state: string | undefined): boolean | null =>
  state === undefined || state === 'unknown' ? unknown : state === 'granted';

/** The flags as clients see them. */
export function shownFlags(consents: string | null): Record<Flag, boolean | null> {
  const { states } = parse(consents);
  const flags = {} as Record<Flag, boolean | null>;
  for (const [index, channel] of channels.entries()) flags[channel.flag] = shownFlag(channel, states[index]);
  return flags;
}

/** Names the line behind each flag, in the catalogue's order: whoever sends it back has read those (rule 3). */
export const consentVersion = (consents: string | null): string => parse(consents).version;

/** How a line is named there. */
export const tailOf = (event: string): string => event.slice(-7);
