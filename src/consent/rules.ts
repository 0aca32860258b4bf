/**
 * The rules of consent as pure functions: what is on record and what somebody says in, what happens out. No database, no
 * clock. The numbers are those of docs/consent.md; each rule has a test that carries its number.
 */

export type State = 'unknown' | 'pending' | 'granted' | 'withdrawn' | 'expired' | 'refused' | 'suppressed';

export const eventKinds = [
  'request',
  'grant',
  'confirm',
  'refuse',
  'withdraw',
  'expire',
  'suppress',
  'restore',
  'erase',
] as const;
export type EventKind = (typeof eventKinds)[number];

/**
 * What a line did: `applied`, or the rule that kept it from changing anything: `older` than what is on record (1), a
 * `stale` form (3), not the person's own word (4: `not_lifted`), not the holder's (8: `not_theirs`).
 */
export type Outcome = 'applied' | 'older' | 'stale' | 'not_lifted' | 'not_theirs';

/** What is on record for one address, channel and purpose; undefined: nothing was ever said. */
export interface Standing {
  readonly state: State;
  readonly since: Date;
  /** The line that decided it. */
  readonly event: string;
  /** Whose word that was, and whether they had proven the address. */
  readonly account: number | null;
  readonly proven: boolean;
  /** When the newest line that counts was said: an open request may be newer than the state. */
  readonly latest: Date;
  /** The line that asked for a confirmation nobody has given or refused yet. */
  readonly request: string | null;
  /** What a suppression covers and its lifting brings back; null where it cannot be lifted (erasure). */
  readonly beneath: State | null;
  /** Since when that held: a bounce in between makes no consent younger. */
  readonly beneath_since: Date | null;
}

/** A line about to be written. */
export interface Edge {
  readonly kind: EventKind;
  readonly occurredAt: Date;
  readonly outcome: Outcome;
}

/** States that nobody but the person lifts (rule 4), and that an unanswered question leaves as they are. */
const kept: ReadonlySet<State> = new Set(['withdrawn', 'suppressed']);

/** What shows as "yes, or about to be": a no against it is an edge, and wins a tie (rule 1). */
const open: ReadonlySet<State> = new Set(['granted', 'pending']);

const stateOf = (standing: Standing | undefined): State => standing?.state ?? 'unknown';

/** Whether a yes would show again when the suppression is lifted: whatever ends a yes ends that one too. */
const coversYes = (standing: Standing | undefined): boolean => standing?.beneath === 'granted';

/** A suppression is nobody's word: whose stood before is who may speak for the address after it. */
const wordOf = (standing: Standing | undefined): Pick<Standing, 'account' | 'proven'> => ({
  account: standing?.account ?? null,
  proven: standing?.proven ?? false,
});

/** What a line that counts makes of what was on record: the one place where events become states, live and in a rebuild. */
export function follow(
  standing: Standing | undefined,
  event: {
    readonly id: string;
    readonly kind: EventKind;
    readonly occurredAt: Date;
    readonly account: number | null;
    readonly proven: boolean;
  },
): Standing {
  const { id, kind, occurredAt, account, proven } = event;
  const before = stateOf(standing);
  const become = (state: State, more: Partial<Standing> = {}): Standing => ({
    state,
    since: occurredAt,
    event: id,
    account,
    proven,
    latest: occurredAt,
    request: null,
    beneath: null,
    beneath_since: null,
    ...more,
  });
  switch (kind) {
    case 'grant':
    case 'confirm':
      return become('granted');
    case 'withdraw':
      // Said while nothing is sent anyway, it is about what shows again after the suppression, and what a form has to have read.
      return before === 'suppressed'
        ? become('suppressed', { since: standing!.since, beneath: 'withdrawn', beneath_since: occurredAt })
        : become('withdrawn');
    case 'request':
      return kept.has(before) ? { ...standing!, latest: occurredAt, request: id } : become('pending', { request: id });
    case 'refuse':
    case 'expire':
      if (!kept.has(before)) return become(kind === 'refuse' ? 'refused' : 'expired');
      return {
        ...standing!,
        latest: occurredAt,
        request: null,
        ...(coversYes(standing) ? { beneath: 'expired', beneath_since: occurredAt } : {}),
      };
    case 'suppress':
      return become('suppressed', {
        ...wordOf(standing),
        beneath: before === 'pending' ? 'unknown' : before,
        beneath_since: standing?.since ?? null,
      });
    case 'erase':
      return become('suppressed');
    case 'restore':
      return become(standing?.beneath ?? 'unknown', {
        ...wordOf(standing),
        since: standing?.beneath_since ?? occurredAt,
      });
  }
}

/** The time of something said now: after whatever is on record, also where another process's clock runs ahead. */
const after = (standing: Standing | undefined, now: Date): Date =>
  standing === undefined || standing.latest < now ? now : new Date(standing.latest.getTime() + 1);

/** Rule 1: the larger time decides, and on a tie the no. */
function isOlder(standing: Standing | undefined, granted: boolean, at: Date): boolean {
  if (standing === undefined || at > standing.latest) return false;
  return at < standing.latest || granted || !open.has(standing.state);
}

/** Who says it, as far as the rules care. */
export type Speaker =
  /** The person: signed in, or holding a link that was sent to the address. */
  | {
      readonly voice: 'person';
      /** Whether they may say yes for this address (`maySpeakFor`); anybody may say no. */
      readonly maySpeak: boolean;
      /** Whether they have read the no that stands (rule 3). */
      readonly heard: boolean;
    }
  /** Somebody who typed the address at checkout (rule 8). */
  | { readonly voice: 'guest'; readonly ofMember: boolean }
  /** The shop: import, staff, another system (rule 4). */
  | { readonly voice: 'shop'; readonly evidenced: boolean };

export interface Statement {
  readonly granted: boolean;
  readonly speaker: Speaker;
  /** When it was said; absent: now, under the lock of the address. */
  readonly at?: Date;
  /** A no that takes back a yes we do not know of: what was granted elsewhere and withdrawn there (imports). */
  readonly withdrawn?: boolean;
  /** A yes on this channel has to be confirmed from the address itself. */
  readonly doubleOptIn: boolean;
}

/** How soon a person who asks again is sent the question again. */
const REPEAT_MILLISECONDS = 600_000;

/**
 * What a statement does to what is on record. A write is an edge, not a state (rule 2): what is so already is no event.
 * @returns the line to write, also when a rule keeps it from changing anything; undefined: nothing to write
 */
export function decide(standing: Standing | undefined, statement: Statement, now: Date): Edge | undefined {
  const { granted, speaker, doubleOptIn } = statement;
  const state = stateOf(standing);
  const at = statement.at ?? after(standing, now);
  const write = (kind: EventKind, outcome: Outcome = 'applied'): Edge => ({ kind, occurredAt: at, outcome });

  if (!granted) {
    if (speaker.voice === 'guest' && (speaker.ofMember || state !== 'unknown')) return undefined;
    const asked = standing !== undefined && standing.request !== null;
    const covered = coversYes(standing);
    if (!open.has(state) && !asked && !covered && state !== 'unknown' && state !== 'expired') return undefined;
    const kind = state === 'granted' || covered || statement.withdrawn === true ? 'withdraw' : 'refuse';
    return write(kind, isOlder(standing, granted, at) ? 'older' : 'applied');
  }

  if (state === 'granted') return undefined;
  if (isOlder(standing, granted, at)) return write('grant', 'older');
  if (speaker.voice === 'person') {
    if (!speaker.maySpeak) return write('grant', 'not_theirs');
    if (kept.has(state) && !speaker.heard) return write('grant', 'stale');
  }
  if (speaker.voice === 'shop' && kept.has(state)) {
    const erased = state === 'suppressed' && standing!.beneath === null;
    if (erased || !speaker.evidenced) return write('grant', 'not_lifted');
  }
  // A question is no consent, but who complained of mails must not be mailed a question either.
  if (speaker.voice === 'guest' && state === 'suppressed') return write('request', 'not_lifted');
  const asks = doubleOptIn || (speaker.voice === 'guest' && (speaker.ofMember || state === 'withdrawn'));
  if (!asks) return write('grant');
  const waiting = standing !== undefined && standing.request !== null;
  return waiting && at.getTime() - standing.latest.getTime() < REPEAT_MILLISECONDS ? undefined : write('request');
}

/**
 * What a flag of a profile says beside what its client sees: equal is silence, and so is null.
 * @param shown the flag as this client would read it now
 */
export const isSilent = (stated: boolean | null | undefined, shown: boolean | null): boolean =>
  stated === undefined || stated === null || stated === shown;

/**
 * Whether an account may say yes for an address. Typing an address proves nothing: who has not proven it lifts no
 * suppression, and no withdrawal by its proven holder or from the address itself. One by an account that has proven it as
 * little stands on the same footing.
 */
export const maySpeakFor = (standing: Standing | undefined, account: number, proven: boolean): boolean =>
  proven ||
  standing === undefined ||
  !kept.has(standing.state) ||
  (standing.state === 'withdrawn' && (standing.account === account || (standing.account !== null && !standing.proven)));

/** The answer to an open request, given from the address itself. */
export const decideConfirm = (standing: Standing | undefined, now: Date): Edge | undefined =>
  standing === undefined || standing.request === null
    ? undefined
    : { kind: 'confirm', occurredAt: after(standing, now), outcome: 'applied' };

/** What ends by itself: a consent whose address is left (rule 5) or whose time is over, a request nobody answered. */
export const decideEnd = (standing: Standing | undefined, now: Date): Edge | undefined =>
  standing === undefined || (!open.has(standing.state) && standing.request === null && !coversYes(standing))
    ? undefined
    : { kind: 'expire', occurredAt: after(standing, now), outcome: 'applied' };

/** Bounce or complaint: nothing is sent, whatever was granted. Sooner than `latest` it is still the shop's newest word. */
export const decideSuppression = (standing: Standing | undefined, now: Date): Edge | undefined =>
  standing?.state === 'suppressed'
    ? undefined
    : { kind: 'suppress', occurredAt: after(standing, now), outcome: 'applied' };

/** The end of a suppression: what it covered shows again. An erased address stays suppressed (rule 10). */
export function decideRestoration(standing: Standing | undefined, now: Date): Edge | undefined {
  if (standing?.state !== 'suppressed') return undefined;
  return {
    kind: 'restore',
    occurredAt: after(standing, now),
    outcome: standing.beneath === null ? 'not_lifted' : 'applied',
  };
}

/** Erasure: the address has gone, the no stays (rule 10). */
export const decideErasure = (standing: Standing | undefined, now: Date): Edge | undefined =>
  standing?.state === 'suppressed' && standing.beneath === null
    ? undefined
    : { kind: 'erase', occurredAt: after(standing, now), outcome: 'applied' };

/** Order in which lines that count are followed: by time, on a tie the no last (rule 1). */
export const foldOrder = (kind: EventKind): number =>
  ['grant', 'confirm', 'request', 'restore'].includes(kind) ? 0 : 1;
