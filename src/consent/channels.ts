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

/** An account's consents as a request finds them: `sms=granted:1f2e3d4,call=refused:0a1b2c3`, the last part of the deciding line. */
function parse(consents: string | null): Map<string, { state: string; tail: string }> {
  if (consents === null) return new Map();
  return new Map(
    consents.split(',').map((text) => {
      const [name, rest] = text.split('=') as [string, string];
      const colon = rest.indexOf(':');
      return [name, { state: rest.slice(0, colon), tail: rest.slice(colon + 1) }];
    }),
  );
}

/** What a flag shows of a state. */
export const shownFlag = ({ unknown }: Channel, state: string | undefined): boolean | null =>
  state === undefined || state === 'unknown' ? unknown : state === 'granted';

/** The flags as clients see them. */
export function shownFlags(consents: string | null): Record<Flag, boolean | null> {
  const known = parse(consents);
  return Object.fromEntries(
    channels.map((channel) => [channel.flag, shownFlag(channel, known.get(channel.name)?.state)]),
  ) as Record<Flag, boolean | null>;
}

/** Names the line behind each flag, in the catalogue's order: whoever sends it back has read those (rule 3). */
export function consentVersion(consents: string | null): string {
  const known = parse(consents);
  return channels.map(({ name }) => known.get(name)?.tail ?? '0').join('.');
}

/** How a line is named there. */
export const tailOf = (event: string): string => event.slice(-7);
