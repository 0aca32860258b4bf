/** What benchmarks stand on: an engine of their own with a migrated database, and the service in a process of its own. */
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../src/platform/ctx.ts';
import { type Database, openDatabase, prepared, sql } from '../src/platform/db.ts';
import { startEngine } from '../src/platform/engine/engine.ts';
import { migrateJobs } from '../src/platform/jobs.ts';
import { deriveKeys, type Keys } from '../src/platform/keys.ts';
import { createLog } from '../src/platform/log.ts';
import { migrate } from '../src/platform/migrate.ts';
import { grantApplication } from '../src/platform/rights.ts';
import { openSettings } from '../src/platform/settings.ts';

const SECRET = 'a secret key of the benchmarks, and of nothing else';

export const say = (line: string): void => void process.stdout.write(`${line}\n`);
export const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

export interface Bed {
  /** As the owner of the tables: for filling them. */
  readonly db: Database;
  readonly keys: Keys;
  /** Folder of the engine's socket, for programs that connect by themselves. */
  readonly socket: string;
  /** For files of the benchmark. */
  readonly folder: string;
  /** Starts the service, on the core that is kept for it. */
  start(env?: Record<string, string>): Promise<{ child: ChildProcess; origin: string }>;
}

/** Gives `work` an engine and ends everything afterwards. */
export async function onBed(work: (bed: Bed) => Promise<void>): Promise<void> {
  // The engine makes the folder, so that its user can enter also when we are root.
  const folder = join(tmpdir(), `assent-bench-${process.pid}-${Date.now()}`);
  const engine = await startEngine({ folder, log: () => {}, settings: { max_connections: '200' } });
  const children: ChildProcess[] = [];
  const db = openDatabase({ connection: engine.connection, max: 3 });
  const keys = deriveKeys(SECRET);
  const { host } = engine.connection;
  const service = {
    SECRET_KEY: SECRET,
    DATABASE_URL: `postgres:///assent?host=${encodeURIComponent(host)}&user=${engine.application.user}`,
    FIXED: '{}',
  };
  try {
    const log = createLog('silent');
    await migrate(db);
    await migrateJobs({ db, clock: systemClock, settings: openSettings(log, keys), keys, log }, engine.connection);
    await grantApplication(db, engine.application.user);
    await db.run(sql`insert into installation (key_fingerprint, created_at) values (${keys.fingerprint}, now())`);
    await db.run(prepared('set statement_timeout = 0'));
    await work({
      db,
      keys,
      socket: host,
      folder,
      async start(env = {}) {
        const begun = await start({ ...service, ...env });
        children.push(begun.child);
        return begun;
      },
    });
  } finally {
    for (const child of children) {
      child.kill('SIGTERM');
      if (child.exitCode === null)
        await Promise.race([once(child, 'exit'), new Promise((done) => setTimeout(done, 5000))]);
      child.kill('SIGKILL');
    }
    await db.close();
    await engine.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function start(env: Record<string, string>): Promise<{ child: ChildProcess; origin: string }> {
  const child = fork(join(import.meta.dirname, 'server.ts'), {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  if (process.env['ASSENT_BENCH_PINNED'] !== undefined)
    spawnSync('taskset', ['-a', '-p', '-c', '0', String(child.pid)]);
  const ended = once(child, 'exit').then(() => {
    throw new Error('the service ended before it listened');
  });
  const [{ port }] = (await Promise.race([once(child, 'message'), ended])) as [{ port: number }];
  ended.catch(() => {});
  return { child, origin: `http://127.0.0.1:${port}` };
}
