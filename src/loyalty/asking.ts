/**
 * Asking the provider what it has of many members: several at a time, no faster than agreed, and not at all while
 * deliveries leave it alone. It only looks; that a look failed is no word about deliveries.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { HttpAnswer } from '../calls.ts';
import type { Ctx } from '../platform/ctx.ts';
import { CallError, call } from '../platform/outgoing.ts';
import { aboutEverybody, readBreaker } from './breaker.ts';
import type { Shown } from './connectors/connector.ts';
import type { Provider } from './members.ts';

/** Questions under way at a time. */
const PARALLEL = 8;
/** Tries of one account while others get their answer. */
const TRIES = 5;
/** How long nobody may get an answer, in milliseconds. */
const PATIENCE = 300_000;
/** Pauses after failures, in milliseconds: doubled each time. */
const FIRST = 1000;
const LONGEST = 30_000;
/** How often an open breaker is looked at, in milliseconds. */
const LOOK = 5000;

/** Waits so many milliseconds, or until the signal. */
export type Wait = (milliseconds: number, signal: AbortSignal) => Promise<void>;

/** By the timers of the process. */
export const waitReally: Wait = (milliseconds, signal) => sleep(milliseconds, undefined, { signal }).catch(() => {});

export interface Manners {
  /** Questions a second. */
  readonly rate: number;
  /** Begins no further question; those under way are answered. */
  readonly signal: AbortSignal;
  readonly wait: Wait;
  /** Told why it waits, as a sentence. */
  readonly note: (sentence: string) => void;
}

export interface Answers {
  /** What the provider shows; null: it does not know the member. */
  readonly shown: Map<number, Shown | null>;
  /** Accounts about which it never gave an answer while it did about others: why. */
  readonly failed: Map<number, string>;
  /** Why it asks no more: nobody got an answer for minutes. */
  readonly gaveUp?: string;
}

interface Round {
  readonly shown: Map<number, Shown | null>;
  readonly troubles: Map<number, Trouble>;
}

interface Trouble {
  readonly trouble: string;
  /** It is about everybody: not reached, not let in, too many calls. */
  readonly wide: boolean;
  /** Milliseconds the provider asks us to wait. */
  readonly after: number;
}

function troubleOf({ status, headers }: HttpAnswer, trouble: string): Trouble {
  const seconds = Number(headers['retry-after']);
  const after = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, 2 * LONGEST) : 0;
  return { trouble, wide: aboutEverybody.has(status), after };
}

async function askOne(
  ctx: Ctx,
  { connector, setting }: Provider,
  account: number,
): Promise<{ shown: Shown | null } | Trouble> {
  try {
    const asked = connector.ask(setting as never, account);
    if (asked === null) return { trouble: 'this provider cannot be asked', wide: false, after: 0 };
    const answer = await call(asked, ctx.settings.get('LOYALTY_TIMEOUT') * 1000);
    const known = connector.known(setting as never, answer);
    return 'again' in known ? troubleOf(answer, known.again) : known;
  } catch (error) {
    if (error instanceof CallError) return { trouble: error.message, wide: true, after: 0 };
    // The text of an error may repeat what the provider sent.
    return { trouble: 'the answer could not be read', wide: false, after: 0 };
  }
}

/** Lets through at most so many a second, without making up for time in which nobody came. */
function pacer(ctx: Ctx, { rate, signal, wait }: Manners): () => Promise<void> {
  const gap = 1000 / rate;
  let next = 0;
  return async () => {
    const now = ctx.clock.now().getTime();
    // A clock that was set back must not make anybody wait for it.
    const turn = Math.min(Math.max(now, next), now + PARALLEL * gap);
    next = turn + gap;
    if (turn > now) await wait(turn - now, signal);
  };
}

/**
 * A way to ask for members, in the order given. An account that alone gets no answer is given up after some tries; when
 * nobody gets one, it waits longer and longer, and gives up after five minutes.
 */
export function asker(
  ctx: Ctx,
  provider: Provider,
  manners: Manners,
): (accounts: readonly number[]) => Promise<Answers> {
  const { signal, wait, note } = manners;
  const now = (): number => ctx.clock.now().getTime();
  const pace = pacer(ctx, manners);

  /** Each once. Nobody goes on asking a provider that only fails. */
  const round = async (accounts: readonly number[]): Promise<Round> => {
    const shown: Round['shown'] = new Map();
    const troubles: Round['troubles'] = new Map();
    let at = 0;
    let wide = 0;
    const lane = async (): Promise<void> => {
      while (at < accounts.length && !signal.aborted && (shown.size > 0 || wide < PARALLEL)) {
        const account = accounts[at]!;
        at += 1;
        await pace();
        if (signal.aborted) return;
        const answer = await askOne(ctx, provider, account);
        if ('trouble' in answer) troubles.set(account, answer);
        else shown.set(account, answer.shown);
        if ('trouble' in answer && answer.wide) wide += 1;
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, lane));
    return { shown, troubles };
  };

  /** @returns why it should not be asked now, and how long that is so at least; undefined: it may be */
  const leftAlone = async (): Promise<Trouble | undefined> => {
    const { opened_at, open_until, reason } = await readBreaker(ctx, provider.name);
    const left = opened_at === null || open_until === null ? 0 : open_until.getTime() - now();
    return left > 0 ? { trouble: reason ?? 'deliveries fail', wide: true, after: Math.min(left, LOOK) } : undefined;
  };

  /** Whether the failures of a round are about the accounts: then others get through. */
  const isThere = async (got: Round, known: Iterable<number>): Promise<boolean> => {
    if (got.shown.size > 0) return true;
    // One that was answered before, or one that nobody has: it is the answer that counts.
    const [someone = 0] = known;
    await pace();
    return !('trouble' in (await askOne(ctx, provider, someone)));
  };

  return async (accounts) => {
    const shown: Answers['shown'] = new Map();
    const failed: Answers['failed'] = new Map();
    const tries = new Map<number, number>();
    let pending = accounts;
    let heard = now();
    let pause = FIRST;
    let noted = false;
    while (pending.length > 0 && !signal.aborted) {
      const alone = await leftAlone();
      const got: Round = alone === undefined ? await round(pending) : { shown: new Map(), troubles: new Map() };
      for (const [account, what] of got.shown) shown.set(account, what);
      pending = pending.filter((account) => !shown.has(account));
      if (pending.length === 0 || signal.aborted) break;
      const last = alone ?? [...got.troubles.values()].at(-1);
      if (alone === undefined && (await isThere(got, shown.keys()))) {
        heard = now();
        for (const [account, { trouble }] of got.troubles) {
          tries.set(account, (tries.get(account) ?? 0) + 1);
          if (tries.get(account)! >= TRIES) failed.set(account, trouble);
        }
        pending = pending.filter((account) => !failed.has(account));
      } else if (now() - heard >= PATIENCE) {
        return { shown, failed, gaveUp: last?.trouble ?? 'no answer' };
      } else if (!noted) {
        note(`The provider is not to be asked now (${last?.trouble ?? 'no answer'}): waiting.`);
        noted = true;
      }
      if (pending.length === 0) break;
      if (got.shown.size > 0) pause = FIRST;
      await wait(alone === undefined ? Math.max(pause, last?.after ?? 0) : alone.after, signal);
      if (alone === undefined) pause = Math.min(2 * pause, LONGEST);
    }
    return { shown, failed };
  };
}
