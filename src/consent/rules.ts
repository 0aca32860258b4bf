/** The rules of consent as pure functions: state and statement in, what happens out. No database, no clock. */

export type State = 'pending' | 'granted' | 'withdrawn' | 'expired' | 'refused' | 'suppressed';
export type EventKind =
  | 'request'
  | 'grant'
  | 'confirm'
  | 'refuse'
  | 'withdraw'
  | 'expire'
  | 'suppress'
  | 'restore'
  | 'erase';

/** What is on record for one address, channel and purpose; undefined: nothing was ever said. */
export interface Standing {
  readonly state: State;
  readonly since: Date;
}

export interface Edge {
  readonly kind: EventKind;
  readonly state: State;
  readonly occurredAt: Date;
}

/**
 * What a signed-in person's flag does to what is on record. A flag that says what already shows is no event: a write is
 * an edge, not a state.
 * @param stated null says nothing
 * @param shown what the client sees now
 * @param maySpeak whether this person may say yes for the address (`maySpeakFor`); anybody may say no
 * @param now the moment of the request; moved past the record's own time where a clock runs behind, so that the person's
 *   newest word, said under the row's lock, is also the one with the larger time
 */
export function decideFlag(
  standing: Standing | undefined,
  shown: boolean | null,
  stated: boolean | null | undefined,
  maySpeak: boolean,
  now: Date,
): Edge | undefined {
  if (stated === undefined || stated === null || stated === shown || (stated && !maySpeak)) return undefined;
  const occurredAt = standing === undefined || standing.since < now ? now : new Date(standing.since.getTime() + 1);
  if (stated) return { kind: 'grant', state: 'granted', occurredAt };
  return standing?.state === 'granted'
    ? { kind: 'withdraw', state: 'withdrawn', occurredAt }
    : { kind: 'refuse', state: 'refused', occurredAt };
}

/** States that only the person themselves lifts (rule 4). */
const kept: ReadonlySet<State> = new Set(['withdrawn', 'suppressed']);

/**
 * Whether an account may say yes for an address. Typing an address proves nothing: a yes from somebody who has not proven
 * it does not lift what its proven holder has withdrawn.
 */
export function maySpeakFor(
  standing: { readonly state: State; readonly account: number | null; readonly proven: boolean } | undefined,
  account: number,
  proven: boolean,
): boolean {
  return proven || !standing?.proven || standing.account === account || !kept.has(standing.state);
}

/** What leaving an address does to a consent given there: it ends, because the next holder never gave it. */
export function decideLeaving(standing: Standing | undefined, now: Date): Edge | undefined {
  if (standing?.state !== 'granted' && standing?.state !== 'pending') return undefined;
  const occurredAt = standing.since < now ? now : new Date(standing.since.getTime() + 1);
  return { kind: 'expire', state: 'expired', occurredAt };
}

/**
 * What a flag ticked at checkout does when its basket is promoted for the account that has just been made with this
 * address (rule 8). What the address already has on record stays: a guest cannot speak for whoever said it.
 */
export function decidePromotion(standing: Standing | undefined, stated: boolean, statedAt: Date): Edge | undefined {
  if (standing !== undefined) return undefined;
  return stated
    ? { kind: 'grant', state: 'granted', occurredAt: statedAt }
    : { kind: 'refuse', state: 'refused', occurredAt: statedAt };
}
