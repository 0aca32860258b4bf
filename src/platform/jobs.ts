/** Jobs in PostgreSQL (graphile-worker): put there in the caller's transaction, done by whichever process is free. */
import { type Logger as WorkerLogger, Logger, parseCronItems, run, runMigrations, type Runner } from 'graphile-worker';
import pg from 'pg';
import type { Ctx } from './ctx.ts';
import { type Connection, sql } from './db.ts';

/** A payload carries ids, never data or codes: it is kept in a table and may show up in a log. */
export type Payload = Readonly<Record<string, string | number>>;

export type Task = (ctx: Ctx, payload: Payload) => Promise<void>;

/**
 * Puts a job beside whatever else the caller's transaction writes.
 * @param options `queue`: jobs of one queue run one after the other; `key`: a job of the same key that has not started is replaced
 */
export async function enqueue(
  ctx: Ctx,
  task: string,
  payload: Payload,
  { queue, key }: { queue?: string; key?: string } = {},
): Promise<void> {
  await ctx.db.one(sql`
    select graphile_worker.add_job(${task}, ${JSON.stringify(payload)}::json, queue_name => ${queue ?? null}, job_key => ${key ?? null},
                                   max_attempts => 12)`);
}

const poolFor = (connection: Connection, max: number): pg.Pool => {
  const pool = new pg.Pool({
    ...(typeof connection === 'string' ? { connectionString: connection } : connection),
    max,
    application_name: 'assent worker',
  });
  // A connection that breaks is replaced; what it was doing hears of it by itself.
  pool.on('error', () => {});
  pool.on('connect', (client) => void client.on('error', () => {}));
  return pool;
};

/** The library's lines become ours; its chatter about each job stays at debug. */
function quiet(ctx: Ctx): WorkerLogger {
  return new Logger(() => (level, message) => {
    if (level === 'error') ctx.log.error({ worker: message }, 'job failed');
    else if (level === 'warning') ctx.log.warn({ worker: message }, 'worker');
    else ctx.log.debug({ worker: message }, 'worker');
  });
}

/** Creates or brings up to date the library's own tables. */
export async function migrateJobs(ctx: Ctx, connection: Connection): Promise<void> {
  const pool = poolFor(connection, 2);
  try {
    await runMigrations({ pgPool: pool, logger: quiet(ctx) });
  } finally {
    await pool.end();
  }
}

export interface Worker {
  stop(): Promise<void>;
}

/**
 * Starts doing jobs.
 * @param crontab tasks by the clock, in crontab syntax (UTC): `a task and when`
 */
export async function startWorker(
  ctx: Ctx,
  connection: Connection,
  tasks: Readonly<Record<string, Task>>,
  crontab: readonly { task: string; match: string }[],
): Promise<Worker> {
  // One connection listens, the others work.
  const pool = poolFor(connection, 4);
  const runner: Runner = await run({
    pgPool: pool,
    concurrency: 3,
    pollInterval: 2000,
    noHandleSignals: true,
    logger: quiet(ctx),
    taskList: Object.fromEntries(
      Object.entries(tasks).map(([name, task]) => [name, (payload: unknown) => task(ctx, payload as Payload)]),
    ),
    parsedCronItems: parseCronItems(crontab.map((item) => ({ ...item, options: { backfillPeriod: 0 } }))),
  });
  // A runner that dies (database away for long) rejects here; the process goes on answering and says so.
  runner.promise.catch((error: unknown) => ctx.log.error({ err: error }, 'worker stopped'));
  return {
    async stop() {
      await runner.stop().catch(() => {});
      await pool.end();
    },
  };
}
