/** Jobs in PostgreSQL (graphile-worker): put there in the caller's transaction, done by whichever process is free. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, parseCronItems, type Runner, run, runMigrations, type Logger as WorkerLogger } from 'graphile-worker';
import pg from 'pg';
import type { Ctx } from './ctx.ts';
import { type Connection, sql } from './db.ts';

/** A payload carries ids, never data or codes: it is kept in a table and may show up in a log. */
export type Payload = Readonly<Record<string, string | number>>;

export type Task = (ctx: Ctx, payload: Payload) => Promise<void>;

export interface JobOptions {
  /** Jobs of one queue run one after the other. */
  readonly queue?: string;
  /** A job of the same key that has not started is replaced. */
  readonly key?: string;
  /** Seconds from now until it may start, by the database's clock. */
  readonly after?: number;
}

/** Puts a job beside whatever else the caller's transaction writes. */
export const enqueue = (ctx: Ctx, task: string, payload: Payload, options: JobOptions = {}): Promise<void> =>
  enqueueAll(ctx, task, [{ payload, ...options }]);

/**
 * Puts many jobs of one task, in one statement. They are begun in this order: the library goes by the time alone, so each
 * but the last is put a microsecond before the next. No two may have the same key.
 */
export async function enqueueAll(
  ctx: Ctx,
  task: string,
  jobs: readonly (JobOptions & { readonly payload: Payload })[],
): Promise<void> {
  if (jobs.length === 0) return;
  await ctx.db.one(sql`
    select count(*) from graphile_worker.add_jobs(array(
      select row(${task}, payload, queue, now() + make_interval(secs => after) - (${jobs.length} - n) * interval '1 microsecond', 12, key, null, null)::graphile_worker.job_spec
        from unnest(${jobs.map(({ payload }) => JSON.stringify(payload))}::json[],
                    ${jobs.map(({ queue }) => queue ?? null)}::text[], ${jobs.map(({ key }) => key ?? null)}::text[],
                    ${jobs.map(({ after }) => after ?? 0)}::float8[]) with ordinality as j (payload, queue, key, after, n)))`);
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
  // The library's listener gives a client back twice when its connection breaks while it stops, and leaves the error of
  // that to nobody, which ends the process.
  const connect = pool.connect.bind(pool);
  const patient = (callback?: Parameters<typeof pool.connect>[0]): unknown => {
    if (callback === undefined) return connect();
    return connect((error, client, release) => {
      let released = false;
      callback(error, client, (how) => {
        if (!released) release(how);
        released = true;
      });
    });
  };
  return Object.assign(pool, { connect: patient as typeof pool.connect });
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

/** One run of the library, until its connection to the database breaks. */
interface Shift {
  /** Resolves when the run is over, whatever the reason. */
  readonly over: Promise<void>;
  /** Lets the jobs in hand finish. */
  end(): Promise<void>;
}

/** How often the jobs of processes that died are looked for. */
const ROUNDS = 10_000;
/** How long jobs in hand may hold up a new shift: a job that waits for an answer from outside may take longer. */
const FAREWELL = 5000;

/**
 * Gives back the jobs of workers that are gone. The library says which pool of workers holds a job, not whether that pool
 * still lives, and would wait four hours: a code for a customer is worth nothing by then. Here a living pool holds an
 * advisory lock under its name, which ends with its process and with the database.
 */
const releaseOrphans = `
  select graphile_worker.force_unlock_workers(array_agg(holder)) from (
    select locked_by as holder from graphile_worker._private_jobs where locked_by is not null
    union
    select locked_by from graphile_worker._private_job_queues where locked_by is not null) as held
   where not exists (
     select from pg_locks l
      where l.locktype = 'advisory' and l.granted
        and l.database = (select oid from pg_database where datname = current_database())
        and l.classid = hashtext('assent.worker')::oid and l.objid = hashtext(holder)::oid)`;

/** How many jobs one process does at a time, and how often it looks for those whose time has come, in milliseconds. */
export interface Crew {
  readonly concurrency: number;
  readonly pollInterval: number;
}

const usual: Crew = { concurrency: 3, pollInterval: 2000 };

async function beginShift(
  ctx: Ctx,
  connection: Connection,
  tasks: Readonly<Record<string, Task>>,
  crontab: readonly { task: string; match: string }[],
  crew: Crew,
): Promise<Shift> {
  const presence = new pg.Client({
    ...(typeof connection === 'string' ? { connectionString: connection } : connection),
    application_name: 'assent worker presence',
    connectionTimeoutMillis: 5000,
    keepAlive: true,
  });
  const broken = new Promise<void>((done) => {
    presence.on('error', () => done());
    presence.on('end', () => done());
  });
  await presence.connect();
  // One connection listens, the others work; they are opened as they are needed.
  const pool = poolFor(connection, crew.concurrency + 1);
  let absent = (): void => {};
  const absence = new Promise<void>((done) => {
    absent = done;
  });
  // Before its first job, so that nobody takes a living worker for a dead one.
  const present = (name: string): Promise<unknown> =>
    presence
      .query("select pg_advisory_lock(hashtext('assent.worker'), hashtext($1))", [name])
      .then(() => presence.query(releaseOrphans))
      .catch((error: unknown) => {
        absent();
        throw error;
      });
  let presented: Promise<unknown> | undefined;
  let runner: Runner;
  try {
    runner = await run({
      pgPool: pool,
      ...crew,
      noHandleSignals: true,
      logger: quiet(ctx),
      taskList: Object.fromEntries(
        Object.entries(tasks).map(([name, task]) => [name, (payload: unknown) => task(ctx, payload as Payload)]),
      ),
      parsedCronItems: parseCronItems(crontab.map((item) => ({ ...item, options: { backfillPeriod: 0 } }))),
      preset: {
        // Without a delay the library leaves the error of a lost connection to nobody, which ends the process.
        worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 },
        plugins: [
          {
            name: 'presence',
            version: '1.0.0',
            worker: {
              hooks: {
                startWorker: async (_context, { worker }) => {
                  presented ??= present(worker.workerPool.id);
                  await presented;
                },
              },
            },
          },
        ],
      },
    });
  } catch (error) {
    await Promise.allSettled([presence.end(), pool.end()]);
    throw error;
  }
  const rounds = setInterval(() => void presence.query(releaseOrphans).catch(absent), ROUNDS);
  const settled = runner.promise.then(
    () => {},
    (error: unknown) => ctx.log.warn({ err: error }, 'worker stopped'),
  );
  return {
    over: Promise.race([broken, absence, settled]),
    async end() {
      clearInterval(rounds);
      const gone = (async () => {
        // Rejects when the run is over already.
        await runner.stop().catch(() => {});
        await settled;
        await Promise.allSettled([presence.end(), pool.end()]);
      })();
      await Promise.race([gone, sleep(FAREWELL, undefined, { ref: false })]);
    },
  };
}

/**
 * Starts doing jobs, and starts again whenever the database was away.
 * @param tasks jobs of other tasks are left to other workers
 * @param crontab tasks by the clock, in crontab syntax (UTC): `a task and when`
 */
export async function startWorker(
  ctx: Ctx,
  connection: Connection,
  tasks: Readonly<Record<string, Task>>,
  crontab: readonly { task: string; match: string }[],
  crew: Crew = usual,
): Promise<Worker> {
  const stopping = new AbortController();
  const stopped = new Promise<void>((done) => stopping.signal.addEventListener('abort', () => done()));
  let shift: Shift | undefined = await beginShift(ctx, connection, tasks, crontab, crew);
  const working = (async () => {
    for (let failing = false; !stopping.signal.aborted; ) {
      try {
        shift ??= await beginShift(ctx, connection, tasks, crontab, crew);
        failing = false;
        await Promise.race([shift.over, stopped]);
        await shift.end();
        shift = undefined;
      } catch (error) {
        // Once, not twice a second of an outage.
        if (!failing) ctx.log.warn({ err: error }, 'jobs wait for the database');
        failing = true;
      }
      await sleep(500, undefined, { signal: stopping.signal }).catch(() => {});
    }
  })();
  return {
    async stop() {
      stopping.abort();
      await working;
    },
  };
}
