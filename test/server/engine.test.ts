import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine } from '../../src/platform/engine/engine.ts';
import { EngineError, runningEngine, startEngine } from '../../src/platform/engine/engine.ts';
import { canReach, engineHome, engineUser, findPackage, SYSTEM_FOLDER } from '../../src/platform/engine/files.ts';
import { clusterProcesses, endLeftovers, postmasterPid, tell } from '../../src/platform/engine/lock.ts';
import { run } from '../../src/platform/engine/programs.ts';

const engineFile = new URL('../../src/platform/engine/engine.ts', import.meta.url).pathname;
const asRoot = process.getuid?.() === 0;
/** What is tested is order and repair, not the disk: without fsync a first start takes half the time. */
const settings = { fsync: 'off', shared_buffers: '16MB' };

/** All folders of this file, removed at the end. Others may pass through, as the engine's user must when we are root. */
let base: string;
let folder: string;
let count = 0;
const lines: string[] = [];
const engines: Engine[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'assent-engine-')));
  await chmod(base, 0o755);
  // A server of its own process: starts the engine in the folder, says so, and stays until it is ended.
  await writeFile(
    join(base, 'server.mjs'),
    `import { startEngine } from ${JSON.stringify(engineFile)};
    const [folder, settings] = process.argv.slice(2);
    const say = (what) => process.stdout.write(JSON.stringify(what) + '\\n');
    try {
      const engine = await startEngine({ folder, settings: JSON.parse(settings), log: (line) => say({ line }) });
      say({ connection: engine.connection });
      process.on('SIGTERM', () => engine.stop().then(() => process.exit()));
      setInterval(() => {}, 60_000);
    } catch (error) {
      say({ refused: error.message, kind: error.name });
    }`,
  );
});

beforeEach(() => {
  folder = join(base, `data-${++count}`);
  lines.length = 0;
});

afterEach(async () => {
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
  for (const engine of engines.splice(0)) await engine.stop();
  // A test that failed half way may have left an engine without its server.
  for (const cluster of await clusters()) await endLeftovers(cluster, () => {});
  for (const cluster of await clusters()) {
    if (cluster.startsWith(SYSTEM_FOLDER)) await rm(dirname(cluster), { recursive: true, force: true });
  }
});

afterAll(() => rm(base, { recursive: true, force: true, maxRetries: 5 }));

async function clusters(): Promise<string[]> {
  const note = await readFile(join(folder, 'engine.json'), 'utf8').catch(() => '{}');
  const { cluster = 'postgres' } = JSON.parse(note) as { cluster?: string };
  return [cluster.startsWith('/') ? cluster : join(folder, cluster)];
}

async function start(more: Record<string, string> = {}): Promise<Engine> {
  const log = (line: string) => void lines.push(line);
  const engine = await startEngine({ folder, log, settings: { ...settings, ...more } });
  engines.push(engine);
  return engine;
}

/** The sentence with which a start is refused. */
async function refusal(more: Record<string, string> = {}): Promise<string> {
  const error = await start(more).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(EngineError);
  return (error as EngineError).message;
}

interface Said {
  line?: string;
  connection?: Engine['connection'];
  refused?: string;
  kind?: string;
}

/** Starts a server process; `heard` resolves with its answer: the connection or why it was refused. */
function startServer(user?: { uid: number; gid: number }): { child: ChildProcess; heard: Promise<Said> } {
  const child = spawn(process.execPath, [join(base, 'server.mjs'), folder, JSON.stringify(settings)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: '/',
    ...user,
  });
  children.push(child);
  const heard = new Promise<Said>((done) => {
    createInterface({ input: child.stdout! }).on('line', (text) => {
      const said = JSON.parse(text) as Said;
      if (said.line === undefined) done(said);
    });
    child.once('close', () => done({ refused: 'ended without a word' }));
  });
  return { child, heard };
}

async function query(connection: Engine['connection'], sql: string): Promise<unknown[]> {
  const client = new pg.Client(connection);
  client.on('error', () => {});
  await client.connect();
  return client
    .query(sql)
    .then(
      ({ rows }) => rows,
      (error) => [error],
    )
    .finally(() => client.end());
}

const write = (connection: Engine['connection']) =>
  query(connection, 'CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS one');
const read = (connection: Engine['connection']) => query(connection, 'SELECT one FROM kept');
const kept = [{ one: 1 }];

async function until(what: () => Promise<unknown>): Promise<void> {
  for (const end = Date.now() + 5000; !(await what()); await sleep(5)) if (Date.now() > end) throw new Error('in vain');
}

const gone = (child: ChildProcess) => (child.signalCode ?? child.exitCode) !== null || once(child, 'exit');

const names = (path: string): Promise<string[]> => readdir(path).catch(() => []);

describe('engine', () => {
  it('starts, is ours alone, stops, and keeps the data over a restart', async () => {
    const first = await start();
    const [facts] = await query(
      first.connection,
      `SELECT current_setting('server_version_num')::int / 10000 AS major, current_user AS "user", lower('ĞÖ') AS lower,
        current_setting('data_checksums') AS checksums, current_setting('listen_addresses') AS addresses,
        current_setting('synchronous_commit') AS commits, current_setting('jit') AS jit,
        (SELECT datlocale FROM pg_database WHERE datname = current_database()) AS locale`,
    );
    expect(facts).toEqual({
      ...{ major: 18, user: 'assent', lower: 'ğö', checksums: 'on', addresses: '', commits: 'on', jit: 'off' },
      locale: 'C.UTF-8',
    });
    expect((await stat(first.connection.host)).mode & 0o777).toBe(0o700);
    expect((await stat(join(first.connection.host, '.s.PGSQL.5432'))).mode & 0o777).toBe(0o700);
    expect((await stat(first.cluster)).mode & 0o777).toBe(0o700);
    await write(first.connection);
    const pid = await postmasterPid(first.cluster);
    await Promise.all([first.stop(), first.stop()]);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    const before = performance.now();
    const second = await start();
    expect(performance.now() - before).toBeLessThan(2000); // 60 ms on a quiet machine
    expect(await read(second.connection)).toEqual(kept);
    expect(lines).toHaveLength(1); // only the first start has something to say
  });

  it('makes a role for the service that may do nothing by itself, and finds it again or makes it anew', async () => {
    const first = await start();
    await write(first.connection);
    expect(first.application).toEqual({ ...first.connection, user: 'assent_app' });
    const [facts] = await query(
      first.application,
      `SELECT rolname::text AS name, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS more,
        has_schema_privilege('public', 'CREATE') AS creates FROM pg_roles WHERE rolname = current_user`,
    );
    expect(facts).toEqual({ name: 'assent_app', more: false, creates: false });
    expect(await query(first.application, 'SELECT one FROM kept')).toMatchObject([{ code: '42501' }]);
    expect(await runningEngine(folder)).toEqual({ connection: first.connection, application: first.application });
    // A server of an older version made none: a command beside it does, and so does the next start.
    await query(first.connection, 'DROP ROLE assent_app');
    await Promise.all([runningEngine(folder), runningEngine(folder)]);
    expect(await query(first.application, 'SELECT 1 AS one')).toEqual(kept);
    await query(first.connection, 'DROP ROLE assent_app');
    await first.stop();
    expect(await query((await start()).application, 'SELECT 1 AS one')).toEqual(kept);
  });

  it('refuses a second start and names the folder and the process', async () => {
    const { child, heard } = startServer();
    const { connection } = await heard;
    expect(await refusal()).toContain(`The data folder ${folder} is in use by process ${child.pid}.`);
    expect(await query(connection!, 'SELECT 1 AS one')).toEqual(kept);
    child.kill('SIGTERM');
    await gone(child);
    await start();
    expect(await refusal()).toContain(`in use by process ${process.pid}.`);
  });

  it('lets exactly one of several starts at the same time win', async () => {
    const answers = await Promise.all([1, 2, 3].map(() => startServer().heard));
    const refused = answers.filter((answer) => answer.refused);
    expect(refused).toHaveLength(2);
    for (const { refused: why, kind } of refused) {
      expect(kind).toBe('EngineError');
      expect(why).toContain('is in use by');
    }
    await write(answers.find((answer) => answer.connection)!.connection!);
  });

  it('takes over from a server that was killed and left PostgreSQL alive', async () => {
    const { child, heard } = startServer();
    const { connection } = await heard;
    await write(connection!);
    const orphan = await postmasterPid(join(folder, 'postgres'));
    child.kill('SIGKILL');
    await gone(child);
    expect(() => process.kill(orphan, 0)).not.toThrow();
    const engine = await start();
    expect(lines[0]).toContain('An earlier server left PostgreSQL running');
    expect(await postmasterPid(engine.cluster)).not.toBe(orphan);
    expect(await read(engine.connection)).toEqual(kept);
  });

  it('tells when PostgreSQL is killed, and starts again beside a backend that goes on working', async () => {
    const engine = await start();
    await write(engine.connection);
    const why = new Promise<string>((done) => engine.onExit(done));
    // A busy backend does not notice the death of its parent: it holds the shared memory until it is ended.
    const busy = query(engine.connection, 'SELECT count(*) FROM generate_series(1, 1e11)').catch(() => []);
    await until(
      async () =>
        (await query(engine.connection, "SELECT FROM pg_stat_activity WHERE query ~ '^SELECT count'")).length > 0,
    );
    process.kill(await postmasterPid(engine.cluster), 'SIGKILL');
    expect(await why).toContain('PostgreSQL was ended by SIGKILL');
    expect(await new Promise((done) => engine.onExit(done))).toBe(await why); // also for who asks late
    await engine.stop();
    await sleep(200); // the idle ones end by themselves
    expect(await clusterProcesses(engine.cluster)).toHaveLength(1);
    const again = await start();
    expect(await read(again.connection)).toEqual(kept);
    await busy;
  });

  it('is not misled by lock files whose process ids others have now', async () => {
    const engine = await start();
    await write(engine.connection);
    const { cluster, connection } = engine;
    const pidFile = await readFile(join(cluster, 'postmaster.pid'), 'utf8');
    await engine.stop();
    const user = await engineUser();
    const other = spawn('/bin/sleep', ['60'], { cwd: '/', ...(user && { uid: user.uid, gid: user.gid }) });
    children.push(other);
    await once(other, 'spawn');
    await writeFile(join(cluster, 'postmaster.pid'), pidFile.replace(/^\d+/, `${other.pid}`));
    await writeFile(join(connection.host, '.s.PGSQL.5432.lock'), pidFile.replace(/^\d+/, `${other.pid}`));
    await writeFile(join(folder, 'lock.pid'), `${other.pid}\n`);
    expect(await read((await start()).connection)).toEqual(kept);
    expect(other.exitCode ?? other.signalCode).toBeNull();
    await engines.pop()!.stop();
    await writeFile(join(cluster, 'postmaster.pid'), ''); // a disk that was full
    expect(await read((await start()).connection)).toEqual(kept);
  });

  it('repairs a first start that was killed in initdb', async () => {
    const part = async () => (await names(folder)).find((name) => name.includes('.part-')) ?? '';
    // As soon as its folder is there; when its template database grows; and initdb itself together with us.
    const moments = [
      async () => part(),
      async () => part().then(async (name) => name && (await names(join(folder, name, 'base/1'))).length > 20),
      async () => part().then(async (name) => name && (await clusterProcesses(join(folder, name))).length > 1),
    ];
    for (const [which, moment] of moments.entries()) {
      const { child } = startServer();
      await until(moment);
      child.kill('SIGKILL');
      if (which === 2) for (const pid of await clusterProcesses(join(folder, await part()))) tell(pid, 'SIGKILL');
      await gone(child);
      expect(await names(folder)).not.toContain('postgres');
    }
    const engine = await start();
    expect(lines.join()).toContain('interrupted');
    await write(engine.connection);
    expect(await part()).toBe('');
  });

  it('puts the socket elsewhere when its path would be too long', async () => {
    folder = join(base, 'long-'.repeat(30), `data-${count}`); // also: folders on the way are made so that one can pass
    const { connection, cluster, stop } = await start();
    expect(dirname(cluster)).toBe(folder);
    expect(dirname(connection.host)).toBe(tmpdir());
    expect((await stat(connection.host)).mode & 0o777).toBe(0o700);
    await write(connection);
    await stop();
    await chmod(connection.host, 0o755);
    const again = await start();
    expect(again.connection).toEqual(connection);
    expect((await stat(connection.host)).mode & 0o777).toBe(0o700);
    expect(await read(connection)).toEqual(kept);
    await again.stop();
    await rm(connection.host, { recursive: true });
  });

  it('explains what it cannot do', async () => {
    await writeFile(folder, '');
    expect(await refusal()).toContain(`${folder} is not a folder, but a file`);
    folder = join(folder, 'below');
    expect(await refusal()).toContain(folder);
    folder = 'relative/data';
    expect(await refusal()).toContain('must be an absolute path');
    folder = join(base, `data-${++count}`);
    const unknown = await refusal({ work_mem: 'much' });
    expect(unknown).toContain('did not start');
    expect(unknown).toContain('invalid value for parameter "work_mem": "much"');
    const cluster = join(folder, 'postgres');
    await writeFile(join(cluster, 'PG_VERSION'), '17\n');
    expect(await refusal()).toContain(`was made by PostgreSQL 17; this Assent brings PostgreSQL 18`);
    await rm(join(cluster, 'PG_VERSION'));
    expect(await refusal()).toContain('is not a database cluster');
    await rm(cluster, { recursive: true });
    expect(await refusal()).toContain('nothing is there');
    await writeFile(join(folder, 'engine.json'), '{');
    expect(await refusal()).toContain('does not say where the database lies');
    await rm(folder, { recursive: true });
    await write((await start()).connection); // deleting the folder starts afresh
  });

  it('makes its own copy of the programs, with links, when npm ran no install scripts', async () => {
    const engine = await findPackage();
    const native = join(base, 'package/native');
    await cp(engine.native, native, { recursive: true, filter: async (path) => !(await lstat(path)).isSymbolicLink() });
    await mkdir(folder);
    const homes = await Promise.all([1, 2].map(() => engineHome({ ...engine, native }, undefined, folder)));
    expect(homes[0]).toBe(join(folder, `engine-${engine.version}-${process.platform}-${process.arch}`));
    expect(homes[1]).toBe(homes[0]);
    expect(await names(folder)).toHaveLength(1);
    expect((await run(join(native, 'bin/initdb'), ['--version'], undefined)).code).not.toBe(0);
    for (const program of ['initdb', 'postgres']) {
      const { text } = await run(join(homes[0]!, 'bin', program), ['--version'], undefined);
      expect(text).toContain(`(PostgreSQL) ${engine.major}.`);
    }
  });

  it.runIf(asRoot)('as root: keeps the cluster where its user can come, when the data folder is closed', async () => {
    await mkdir(folder, { mode: 0o700 });
    const engine = await start();
    expect(engine.cluster).toMatch(/^\/var\/lib\/assent\/clusters\/[0-9a-f]{16}\/postgres$/);
    expect((await stat(engine.cluster)).uid).toBe((await engineUser())!.uid);
    await write(engine.connection);
    // A copy of the folder points to the same cluster and must not start a second server in it.
    const original = folder;
    folder = `${original}-copy`;
    await cp(original, folder, { recursive: true });
    expect(await refusal()).toContain(`${dirname(engine.cluster)} is in use by process ${process.pid}.`);
    folder = original;
    await engine.stop();
    expect(await read((await start()).connection)).toEqual(kept);
  });

  it.runIf(asRoot)('as root: takes a restored copy whose owner is root, and says when the way was closed', async () => {
    const engine = await start();
    await write(engine.connection);
    await engine.stop();
    const restored = join(base, `data-${++count}`);
    await cp(folder, restored, { recursive: true }); // everything is root's in the copy
    folder = restored;
    await chmod(folder, 0o711);
    await chmod(join(folder, 'postgres'), 0o700);
    expect(await read((await start()).connection)).toEqual(kept);
    await engines.pop()!.stop();
    await chmod(folder, 0o700);
    expect(await refusal()).toContain('can no longer enter');
  });

  it.runIf(asRoot)('runs as a normal user, and root and users do not mix in one folder', async ({ skip }) => {
    const nobody = { name: 'nobody', uid: 65534, gid: 65534 };
    const checkout = dirname(createRequire(engineFile).resolve('pg'));
    if (!(await canReach(nobody, dirname(process.execPath))) || !(await canReach(nobody, checkout))) skip();
    await mkdir(folder);
    await chown(folder, nobody.uid, nobody.gid);
    const { child, heard } = startServer(nobody);
    const { connection, refused } = await heard;
    expect(refused).toBeUndefined();
    await write(connection!);
    const cluster = join(folder, 'postgres');
    expect(await readlink(`/proc/${await postmasterPid(cluster)}/cwd`)).toBe(cluster);
    child.kill('SIGTERM');
    await gone(child);
    expect(await refusal()).toContain(`belongs to user 65534 and this is root`);
    folder = join(base, `data-${++count}`);
    await (await start()).stop();
    const asNobody = await startServer(nobody).heard;
    expect(asNobody.kind).toBe('EngineError');
    expect(asNobody.refused).toContain('belongs to root and this is user 65534');
  });
});
