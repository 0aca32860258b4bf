import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Cluster } from './cluster.ts';
import { clusterPath, openCluster, openDataFolder, socketFolder } from './cluster.ts';
import { EngineError } from './error.ts';
import { engineHome, engineUser, findPackage } from './files.ts';
import { endLeftovers, lockFolder } from './lock.ts';
import { asUser, cannotSpawn, explain } from './programs.ts';

export { EngineError };

/** How `pg` reaches an engine. `ssl: false` because PGSSLMODE in the environment must not break a unix socket. */
export interface EngineConnection {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly ssl: false;
}

/** The two roles of an engine. */
export interface EngineRoles {
  /** As the superuser, who owns the tables and migrates: unix socket, no TCP. */
  readonly connection: EngineConnection;
  /** As the role the service works with. It can do nothing that was not granted to it. */
  readonly application: EngineConnection;
}

/** The embedded PostgreSQL, running. */
export interface Engine extends EngineRoles {
  /** Folder of the cluster itself. */
  readonly cluster: string;
  /** Fast shutdown; resolves when the process has gone. */
  stop(): Promise<void>;
  /** Called when the engine dies while we did not ask for it; `stop()` then only gives the folder free for a new start. */
  onExit(listener: (why: string) => void): void;
}

export interface EngineOptions {
  /** Data folder, absolute. */
  folder: string;
  log: (line: string) => void;
  /** Extra values of postgresql.conf, stronger than ours; for example `fsync: 'off'` in tests. */
  settings?: Record<string, string>;
}

/** Part of the socket's name, nothing listens on it. */
const PORT = 5432;

/** Who may connect is decided by the socket's folder, so neither role has a password. */
const rolesAt = (host: string): EngineRoles => {
  const connection = { host, port: PORT, user: 'assent', password: '', database: 'assent', ssl: false } as const;
  return { connection, application: { ...connection, user: 'assent_app' } };
};

/** Fast shutdown may take this long (it writes a checkpoint) before the immediate one, which recovers at next start. */
const STOP_PATIENCE = 10_000;

/** How long we wait for memory that processes unseen by us still hold: they notice the death of their parent alone. */
const SHARED_MEMORY_PATIENCE = 10_000;

/**
 * The engine's settings, with the reasons where they are not PostgreSQL's own. Durable by the book: a consent that was
 * answered with 200 is on the disk.
 */
const DEFAULTS: Record<string, string> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '100',
  shared_buffers: '256MB',
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  wal_level: 'replica', // a base copy of the running cluster stays possible
  max_wal_size: '2GB', // fewer checkpoints, each of which makes the next writes of a page twice as large
  checkpoint_timeout: '15min',
  jit: 'off', // the package has no LLVM, and our statements are short
  timezone: 'UTC',
  log_timezone: 'UTC',
  cluster_name: 'assent',
  // Statements and details of errors carry e-mail addresses and phone numbers: they stay out of the log file.
  log_min_messages: 'warning',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
  log_checkpoints: 'off',
  log_line_prefix: '%m [%p] ',
  // Docker gives a container 64 MB of /dev/shm, which one parallel query can fill; System V memory has no such limit
  // and PostgreSQL needs a piece of it anyway. On macOS it is the other way round (4 MB, kern.sysv.shmmax).
  ...(process.platform === 'linux' && { dynamic_shared_memory_type: 'sysv' }),
};

/**
 * Starts the embedded PostgreSQL of a data folder and makes what is missing: the cluster, the database, the service's role.
 * One engine per data folder on the machine, and none left behind: leftovers of a server that was killed are stopped
 * first. About a second the first time (initdb), 0.1 s afterwards, longer only for recovery after a crash.
 * Every failure is an EngineError.
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const locks: (() => void)[] = [];
  const release = () => {
    for (const unlock of locks.splice(0).reverse()) unlock();
  };
  try {
    const engine = await findPackage();
    const user = await engineUser();
    const folder = await openDataFolder(options.folder, user);
    locks.push(lockFolder(folder));
    const programs = await engineHome(engine, user, folder);
    const durable = options.settings?.fsync !== 'off';
    const cluster = await openCluster(folder, engine, programs, user, { log: options.log, durable });
    // A copied data folder points to the same cluster outside of it: the cluster has a lock of its own.
    if (dirname(cluster.path) !== folder) locks.push(lockFolder(dirname(cluster.path)));
    return await startCluster(cluster, programs, options, release);
  } catch (error) {
    release();
    if (error instanceof EngineError) throw error;
    throw new EngineError(explain('The embedded database did not start', (error as Error).message), { cause: error });
  }
}

/**
 * A server that is killed hard leaves its PostgreSQL alive. We stop that one and start our own rather than adopt it:
 * it may run with older settings or an older version, as its parent we learn of its end at once, and there is one way
 * through this code instead of two. The price is a checkpoint, paid only after a kill -9.
 */
async function startCluster(
  cluster: Cluster,
  programs: string,
  options: EngineOptions,
  release: () => void,
): Promise<Engine> {
  const socket = await socketFolder(cluster);
  const settings = { ...DEFAULTS, unix_socket_directories: listItem(socket), ...options.settings };
  const words = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  for (const end = Date.now() + SHARED_MEMORY_PATIENCE; ; await sleep(250)) {
    await endLeftovers(cluster.path, options.log);
    await forgetStalePids(cluster.path, socket);
    const child = await launch(cluster, join(programs, 'bin/postgres'), [
      '-D',
      cluster.path,
      '-p',
      `${PORT}`,
      ...words,
    ]);
    try {
      await untilReady(child, cluster.path, options.log);
      const roles = rolesAt(socket);
      await ensureDatabase(roles);
      return supervise(child, cluster, roles, release);
    } catch (error) {
      await child.stop();
      const said = await child.said();
      if (said.includes('pre-existing shared memory block') && Date.now() < end) continue;
      throw new EngineError(explain('The embedded database did not start', said || (error as Error).message), {
        cause: error,
      });
    }
  }
}

/**
 * The engine that another process runs in this data folder, for commands given beside a running server; undefined when
 * none answers there.
 */
export async function runningEngine(folder: string): Promise<EngineRoles | undefined> {
  const cluster = await clusterPath(folder).catch(() => undefined);
  if (cluster === undefined) return undefined;
  // Line 5 of postmaster.pid is the socket's folder.
  const host = (await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[4]?.trim();
  if (!host) return undefined;
  const roles = rolesAt(host);
  const client = new pg.Client({ ...roles.connection, connectionTimeoutMillis: 2000 });
  client.on('error', () => {});
  try {
    await client.connect();
    // The server may be of a version that had one role.
    await ensureRole(client, roles.application.user);
    return roles;
  } catch {
    return undefined;
  } finally {
    await client.end().catch(() => {});
  }
}

/** An item of a list setting: quoted, for a comma or a space would end it. */
function listItem(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

/**
 * PostgreSQL takes a lock file seriously when any process of the same user has its pid, as after a reboot or in a new
 * container, where pids begin anew; so does it with a zombie. No process of this cluster runs (`endLeftovers`), so the
 * pid goes. In postmaster.pid it is replaced by one that cannot exist (pid_max is 2^22): the rest of the file leads
 * PostgreSQL to its old shared memory, and its own check whether somebody is still attached stays alive.
 */
async function forgetStalePids(cluster: string, socket: string): Promise<void> {
  const file = join(cluster, 'postmaster.pid');
  const lines = (await readFile(file, 'utf8').catch(() => '')).split('\n');
  if (lines.length > 1) await writeFile(file, ['2147483646', ...lines.slice(1)].join('\n'));
  else await rm(file, { force: true });
  for (const name of [`.s.PGSQL.${PORT}`, `.s.PGSQL.${PORT}.lock`]) await rm(join(socket, name), { force: true });
}

/** A postmaster we started. */
interface Postmaster {
  process: ChildProcess;
  /** Resolves with a sentence when it has gone. */
  gone: Promise<string>;
  hasGone: () => boolean;
  stop: () => Promise<void>;
  /** What it wrote into its log since it was started. */
  said: () => Promise<string>;
}

async function launch(cluster: Cluster, program: string, words: string[]): Promise<Postmaster> {
  const size = await stat(cluster.log).then(
    ({ size }) => size,
    () => 0,
  );
  // One old file of at most 10 MB is kept: at log level `warning` years of a healthy server.
  if (size > 10_000_000) await rename(cluster.log, `${cluster.log}.1`);
  const log = await open(cluster.log, 'a', 0o600);
  const { size: start } = await log.stat();
  // Its own session: Ctrl-C in the terminal goes to us alone, and we stop it when the last request is answered.
  const child = spawn(program, words, { ...asUser(cluster.user), detached: true, stdio: ['ignore', log.fd, log.fd] });
  // When the server ends without stop(), as on an error nobody caught, the engine still gets its order.
  const lastOrder = () => child.kill('SIGINT');
  process.once('exit', lastOrder);
  let ended = false;
  const gone = new Promise<string>((done) => {
    child.once('exit', (code, signal) => {
      ended = true;
      process.off('exit', lastOrder);
      done(signal ? `PostgreSQL was ended by ${signal}` : `PostgreSQL ended with code ${code}`);
    });
  });
  await new Promise<void>((done, failed) => {
    child.once('spawn', done);
    child.once('error', (error) => failed(cannotSpawn(program, error)));
  }).finally(() => log.close());
  const hasGone = () => ended;
  const said = async () => (await readFile(cluster.log)).subarray(start).toString();
  const stop = async () => {
    for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
      if (ended) return;
      child.kill(signal);
      await Promise.race([gone, sleep(STOP_PATIENCE, undefined, { ref: false })]);
    }
    await gone;
  };
  return { process: child, gone, hasGone, stop, said };
}

/** Waits for the status line in postmaster.pid (line 8, "ready"). A recovery takes its time, so only its end ends this. */
async function untilReady(child: Postmaster, cluster: string, log: (line: string) => void): Promise<void> {
  let reminder = Date.now() + 10_000;
  while (!child.hasGone()) {
    const lines = (await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
    if (Number(lines[0]) === child.process.pid && lines[7]?.trim() === 'ready') return;
    if (Date.now() > reminder) {
      log('PostgreSQL is still starting: it repeats what was written before a crash.');
      reminder += 10_000;
    }
    await Promise.race([sleep(5), child.gone]);
  }
  throw new EngineError(await child.gone);
}

/** Connects, which proves that it answers, and makes what a first start, or an older version, did not make. */
async function ensureDatabase({ connection, application }: EngineRoles): Promise<void> {
  const client = new pg.Client({ ...connection, database: 'postgres' });
  client.on('error', () => {}); // its end while it is idle; the next query says it
  await client.connect();
  try {
    const { rows } = await client.query('SELECT FROM pg_database WHERE datname = $1', [connection.database]);
    if (rows.length === 0) await client.query(`CREATE DATABASE ${connection.database}`);
    await ensureRole(client, application.user);
  } finally {
    await client.end();
  }
}

async function ensureRole(client: pg.Client, role: string): Promise<void> {
  const { rows } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [role]);
  if (rows.length > 0) return;
  await client
    .query(`CREATE ROLE ${role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE`)
    .catch((error: { code?: string }) => {
      // A server and a command beside it may both find it missing: duplicate_object, or a moment earlier unique_violation.
      if (!['42710', '23505'].includes(error.code ?? '')) throw error;
    });
}

function supervise(child: Postmaster, cluster: Cluster, roles: EngineRoles, release: () => void): Engine {
  const listeners: ((why: string) => void)[] = [];
  let stopping: Promise<void> | undefined;
  let died: string | undefined;
  void child.gone.then(async (why) => {
    if (stopping) return;
    died = explain(why, await child.said().catch(() => ''));
    for (const listener of listeners) listener(died);
  });
  return {
    ...roles,
    cluster: cluster.path,
    stop: () => (stopping ??= child.stop().finally(release)),
    onExit(listener) {
      listeners.push(listener);
      if (died !== undefined) listener(died);
    },
  };
}
