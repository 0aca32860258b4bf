/**
 * Consent as docs/consent.md tells it, the slow way: everything that was ever said is a list, and what an address allows is
 * made from that list each time somebody asks. Shares no line with the service.
 */
export type State = 'unknown' | 'pending' | 'granted' | 'withdrawn' | 'expired' | 'refused' | 'suppressed';

/** A line of the ledger, as it should be. Times are milliseconds. */
export interface Said {
  readonly n: number;
  /** Address and channel: `phone-0 sms`. */
  readonly key: string;
  readonly kind: string;
  readonly at: number;
  readonly outcome: string;
  readonly account: number | null;
  readonly proven: boolean;
  readonly session: string | undefined;
  readonly recorded: number;
}

/** Who speaks. `hears` is asked with the number of the line that stands. */
export type Speaker =
  | { voice: 'person'; account: number | null; proven: boolean; hears(line: Said): boolean; session?: string }
  | { voice: 'guest'; account: number | null; ofMember: boolean }
  | { voice: 'shop'; account: number | null; evidenced: boolean };

export interface Stand {
  shows: State;
  /** What the person has last said of it, whatever lies on top. */
  word: 'unknown' | 'granted' | 'withdrawn' | 'expired' | 'refused';
  question?: Said | undefined;
  block?: 'suppressed' | 'erased' | undefined;
  /** The line behind what shows, and whose word it is. */
  line?: Said;
  account: number | null;
  proven: boolean;
  latest: number;
}

const TEN_MINUTES = 600_000;
/** On a tie the no comes last, and so it wins (rule 1). */
const noLast = (kind: string): number => (['grant', 'confirm', 'request', 'restore'].includes(kind) ? 0 : 1);

export class Oracle {
  readonly said: Said[] = [];
  now = 0;

  stand(key: string): Stand {
    const counted = this.said
      .filter((line) => line.key === key && line.outcome === 'applied')
      .sort((a, b) => a.at - b.at || noLast(a.kind) - noLast(b.kind));
    const stand: Stand = { shows: 'unknown', word: 'unknown', account: null, proven: false, latest: -Infinity };
    for (const line of counted) {
      const keeps = stand.block !== undefined || stand.word === 'withdrawn';
      stand.latest = line.at;
      stand.question = line.kind === 'request' ? line : undefined;
      if (line.kind === 'grant' || line.kind === 'confirm') [stand.word, stand.block] = ['granted', undefined];
      if (line.kind === 'withdraw') stand.word = 'withdrawn';
      if (line.kind === 'request' && !keeps) stand.word = 'unknown';
      if (line.kind === 'refuse' && !keeps) stand.word = 'refused';
      if (line.kind === 'expire' && (!keeps || stand.word === 'granted')) stand.word = 'expired';
      if (line.kind === 'suppress') stand.block = 'suppressed';
      if (line.kind === 'restore') stand.block = undefined;
      if (line.kind === 'erase') [stand.word, stand.block] = ['unknown', 'erased'];
      // A question and its end change nothing about what somebody else has said.
      if (keeps && ['request', 'refuse', 'expire'].includes(line.kind)) continue;
      stand.line = line;
      if (line.kind !== 'suppress' && line.kind !== 'restore')
        [stand.account, stand.proven] = [line.account, line.proven];
    }
    if (stand.block !== undefined) stand.shows = 'suppressed';
    else if (stand.word === 'withdrawn') stand.shows = 'withdrawn';
    else stand.shows = stand.question === undefined ? stand.word : 'pending';
    return stand;
  }

  /** What a flag of the profile shows of it (rule 6). */
  flag(key: string): boolean | null {
    const { shows } = this.stand(key);
    if (shows === 'granted') return true;
    return shows === 'unknown' && key.endsWith(' call') ? null : false;
  }

  /** Somebody says yes or no. `doubleOptIn`: a yes on this channel is asked back. */
  say(
    key: string,
    yes: boolean,
    who: Speaker,
    { at, doubleOptIn }: { at?: number; doubleOptIn: boolean },
  ): Said | undefined {
    const stand = this.stand(key);
    const when = at ?? this.after(stand);
    const write = (kind: string, outcome = 'applied'): Said => this.write(key, kind, { at: when, outcome, who });
    const { shows } = stand;
    if (!yes) {
      // Rule 8: a guest's empty box means something only where nobody has ever said anything.
      if (who.voice === 'guest' && (who.ofMember || shows !== 'unknown')) return undefined;
      const late = when < stand.latest || (when === stand.latest && shows !== 'granted' && shows !== 'pending');
      if (stand.word === 'granted') return write('withdraw', late ? 'older' : 'applied');
      if (stand.question === undefined && shows !== 'unknown' && shows !== 'expired') return undefined;
      return write('refuse', late ? 'older' : 'applied');
    }
    if (shows === 'granted') return undefined;
    if (when <= stand.latest) return write('grant', 'older');
    const kept = shows === 'withdrawn' || shows === 'suppressed';
    if (who.voice === 'person' && kept) {
      const typed = stand.account !== null && !stand.proven;
      const theirs = shows === 'withdrawn' && (who.account === stand.account || typed);
      if (!who.proven && !theirs) return write('grant', 'not_theirs');
      if (!who.hears(stand.line!)) return write('grant', 'stale');
    }
    if (who.voice === 'shop' && kept && (stand.block === 'erased' || !who.evidenced))
      return write('grant', 'not_lifted');
    if (who.voice === 'guest' && shows === 'suppressed') return write('request', 'not_lifted');
    if (!doubleOptIn && !(who.voice === 'guest' && (who.ofMember || kept))) return write('grant');
    if (stand.question !== undefined && when - stand.question.at < TEN_MINUTES) return undefined;
    return write('request');
  }

  /** What happens to an address: an answer to a question, its end, a bounce, its lifting, an erasure. */
  happen(key: string, what: 'confirm' | 'expire' | 'suppress' | 'restore' | 'erase', who: Speaker): Said | undefined {
    const stand = this.stand(key);
    const at = this.after(stand);
    const { block, question, word } = stand;
    const due = {
      confirm: question !== undefined,
      expire: question !== undefined || (word === 'granted' && block !== 'erased'),
      suppress: block === undefined,
      restore: block !== undefined,
      erase: block !== 'erased',
    }[what];
    const lifted = what !== 'restore' || block !== 'erased';
    return due ? this.write(key, what, { at, outcome: lifted ? 'applied' : 'not_lifted', who }) : undefined;
  }

  /** What is said now comes after everything on record. */
  private after = ({ latest }: Stand): number => (latest < this.now ? this.now : latest + 1);

  private write(key: string, kind: string, { at, outcome, who }: { at: number; outcome: string; who: Speaker }): Said {
    const proven = who.voice === 'person' && who.proven;
    const session = who.voice === 'person' ? who.session : undefined;
    const [n, account, recorded] = [this.said.length, who.account, this.now];
    const line: Said = { n, key, kind, at, outcome, account, proven, session, recorded };
    this.said.push(line);
    return line;
  }
}
