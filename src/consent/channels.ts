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

/** The flags as clients see them, from `sms=granted,call=refused`. */
export function shownFlags(consents: string | null): Record<Flag, boolean | null> {
  const states = new Map(
    consents === null ? [] : consents.split(',').map((pair) => pair.split('=') as [string, string]),
  );
  return Object.fromEntries(
    channels.map(({ name, flag, unknown }) => {
      const state = states.get(name);
      return [flag, state === undefined ? unknown : state === 'granted'];
    }),
  ) as Record<Flag, boolean | null>;
}
