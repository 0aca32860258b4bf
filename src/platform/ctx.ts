/** What every verb is given first. A transaction is the same Ctx with another `db`. */
import type { Logger } from 'pino';
import type { Db } from './db.ts';
import type { Keys } from './keys.ts';
import type { Settings } from './settings.ts';

export interface Clock {
  now(): Date;
}

export interface Ctx {
  readonly db: Db;
  readonly clock: Clock;
  readonly settings: Settings;
  readonly keys: Keys;
  readonly log: Logger;
}

/** Runs `work` with a Ctx whose statements are one transaction. */
export function transaction<T>(ctx: Ctx, work: (ctx: Ctx) => Promise<T>): Promise<T> {
  return ctx.db.transaction((db) => work({ ...ctx, db }));
}

/** The computer's clock. */
export const systemClock: Clock = { now: () => new Date() };
