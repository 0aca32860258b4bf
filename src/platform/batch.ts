/**
 * The batcher: a verb written for many, called with one. Whatever arrived while the previous statement was under way
 * travels together in the next one, so one statement and one commit serve many callers and nothing is cached.
 */
import type { Ctx } from './ctx.ts';
import type { Db } from './db.ts';
import { Failure } from './failure.ts';

/** What a verb written for many gives back for each item, in order: its result, or the error that is its alone. */
export type Outcome<O> = O | Error;

export interface BatchOptions<I, O> {
  /** Handles all items at once. When it throws, the items are tried one by one so that an error hits only its owner. */
  readonly run: (ctx: Ctx, items: I[]) => Promise<Outcome<O>[]>;
  /** Two items of one key never travel in the same batch nor at the same time; absent: any two may. */
  readonly key?: (item: I) => string | number;
  /** Items in a batch at most. */
  readonly max?: number;
  /** Batches under way at once. Two keep PostgreSQL busy while Node reads the other's answer. */
  readonly inFlight?: number;
}

interface Waiting<I, O> {
  readonly item: I;
  readonly resolve: (value: O) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Turns a verb for many into a verb for one that gathers its callers by itself.
 * In a transaction (`ctx.db.inTransaction`) it gathers nothing: the caller's transaction is its own.
 */
export function batched<I, O>(options: BatchOptions<I, O>): (ctx: Ctx, item: I) => Promise<O> {
  const { run, key, max = 256, inFlight = 2 } = options;
  const gatherers = new WeakMap<Db, (ctx: Ctx, item: I) => Promise<O>>();

  const alone = async (ctx: Ctx, item: I): Promise<O> => {
    const [outcome] = await run(ctx, [item]);
    if (outcome instanceof Error) throw outcome;
    return outcome as O;
  };

  const gatherer = (): ((ctx: Ctx, item: I) => Promise<O>) => {
    let waiting: Waiting<I, O>[] = [];
    const busy = new Set<string | number>();
    let running = 0;
    let scheduled = false;

    const take = (): Waiting<I, O>[] => {
      if (key === undefined) return waiting.splice(0, max);
      const batch: Waiting<I, O>[] = [];
      const left: Waiting<I, O>[] = [];
      for (const caller of waiting) {
        const k = key(caller.item);
        if (batch.length < max && !busy.has(k)) {
          busy.add(k);
          batch.push(caller);
        } else {
          left.push(caller);
        }
      }
      waiting = left;
      return batch;
    };

    const flush = (ctx: Ctx): void => {
      scheduled = false;
      while (running < inFlight && waiting.length > 0) {
        const batch = take();
        if (batch.length === 0) return;
        running += 1;
        void settle(ctx, batch).finally(() => {
          running -= 1;
          if (key !== undefined) for (const caller of batch) busy.delete(key(caller.item));
          flush(ctx);
        });
      }
    };

    const settle = async (ctx: Ctx, batch: Waiting<I, O>[]): Promise<void> => {
      try {
        const outcomes = await run(
          ctx,
          batch.map((caller) => caller.item),
        );
        for (const [index, caller] of batch.entries()) {
          const outcome = outcomes[index];
          if (outcome instanceof Error) caller.reject(outcome);
          else caller.resolve(outcome as O);
        }
      } catch (error) {
        // The database being away, or a commit whose outcome is unknown, is everybody's error; repeating could do it twice.
        if (batch.length === 1 || error instanceof Failure) {
          for (const caller of batch) caller.reject(error);
          return;
        }
        for (const caller of batch) await alone(ctx, caller.item).then(caller.resolve, caller.reject);
      }
    };

    return (ctx, item) =>
      new Promise((resolve, reject) => {
        waiting.push({ item, resolve, reject });
        if (scheduled || running >= inFlight) return;
        scheduled = true;
        // Not a microtask: sockets are read one by one, and each read is a turn of its own.
        setImmediate(flush, ctx);
      });
  };

  return (ctx, item) => {
    if (ctx.db.inTransaction) return alone(ctx, item);
    let gather = gatherers.get(ctx.db);
    if (gather === undefined) {
      gather = gatherer();
      gatherers.set(ctx.db, gather);
    }
    return gather(ctx, item);
  };
}
