/** The service as a whole, by the roles it was given: the embedded engine's own two, two of DATABASE_URL's server, or one. */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, inject, test, vi } from 'vitest';
import { type Config, readConfig } from '../../src/config.ts';
import { verifyLedger } from '../../src/consent/ledger/audit.ts';
import { seedDemo } from '../../src/demo.ts';
import { doctor, type Finding } from '../../src/doctor.ts';
import { type Installation, openInstallation } from '../../src/installation.ts';
import { type Connection, type Database, openDatabase, prepared } from '../../src/platform/db.ts';
import { startEngine } from '../../src/platform/engine/engine.ts';
import { createLog } from '../../src/platform/log.ts';
import { type Service, serve } from '../../src/serve.ts';

const SECRET_KEY = 'the secret key of an installation with roles';
const log = createLog('silent');
const say = (): void => {};
const engine = inject('engine').connection;
const tag = `${process.pid}_${Date.now().toString(36)}`;
/** Plain roles of the test's own: one owns a database, the other may only connect. */
const [ownerRole, appRole, password] = [`t_owner_${tag}`, `t_app_${tag}`, randomBytes(8).toString('hex')];

let root: Database;
let count = 0;
let service: Service | undefined;
const databases: string[] = [];

beforeAll(async () => {
  // The service prints its mails.
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  root = openDatabase({ connection: engine, max: 1 });
  for (const role of [ownerRole, appRole]) await root.run(prepared(`create role ${role} login password '${password}'`));
});
afterEach(async () => {
  await service?.stop();
  service = undefined;
});
afterAll(async () => {
  for (const name of databases) await root.run(prepared(`drop database ${name} with (force)`));
  for (const role of [ownerRole, appRole]) await root.run(prepared(`drop role ${role}`));
  await root.close();
  vi.restoreAllMocks();
});

/** An empty database that belongs to a plain role. @returns its address for a role */
async function newDatabase(): Promise<(role: string) => string> {
  const name = `t_roles_${tag}_${++count}`;
  await root.run(prepared(`create database ${name} owner ${ownerRole} encoding 'UTF8' template template0`));
  databases.push(name);
  return (role) =>
    `postgres:///${name}?host=${encodeURIComponent(engine.host)}&port=${engine.port}&user=${role}&password=${password}`;
}

const environment = (more: Record<string, string>): Record<string, string> => ({ PORT: '0', SECRET_KEY, ...more });

const open = (env: Record<string, string>): Promise<Installation> =>
  openInstallation({ config: readConfig(environment(env)), log, say });

async function start(config: Config): Promise<Service> {
  service = await serve({
    config,
    log,
    say,
    onFatal: (why) => {
      throw new Error(why);
    },
  });
  return service;
}

/** A customer registers, allows mails and takes it back, which is sealed; then a job sends one. */
async function live({ url, installation: { ctx } }: Service): Promise<void> {
  const ask = (method: string, path: string, body: object, key?: string): Promise<Response> =>
    fetch(`${url}${path}`, {
      method,
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { authorization: `Token ${key}` }) },
    });
  const person = {
    email: 'ada@example.com',
    password: 'correct-horse-battery',
    first_name: 'Ada',
    last_name: 'Lovelace',
  };
  const registered = await ask('POST', '/users/registration/', { ...person, email_allowed: true });
  expect(registered.status).toBe(201);
  const { key } = (await registered.json()) as { key: string };
  expect((await ask('PATCH', '/users/profile/', { email_allowed: false }, key)).status).toBe(200);
  await expect.poll(async () => (await verifyLedger(ctx)).unsealed, { timeout: 10_000 }).toBe(0);
  expect(await verifyLedger(ctx)).toEqual({ lines: 2, seals: expect.any(Number), unsealed: 0 });
  // Its worker does jobs: none is left.
  expect((await ask('POST', '/users/password/reset/', { email: person.email })).status).toBe(200);
  await expect.poll(() => ctx.db.rows(prepared('select * from graphile_worker.jobs')), { timeout: 10_000 }).toEqual([]);
}

/** Who is connected, by what for; asked as a superuser. */
async function connected(connection: Connection): Promise<string[]> {
  const client = new pg.Client(connection as pg.ClientConfig);
  await client.connect();
  const { rows } = await client.query<{ line: string }>(
    `select distinct application_name || ': ' || usename as line from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
  );
  await client.end();
  return rows.map(({ line }) => line).sort();
}

const guard = async (env: Record<string, string>): Promise<Finding> =>
  (await doctor(environment(env), say)).find(({ name }) => name === 'guard')!;

const everything = (role: string): string[] =>
  ['assent', 'assent settings', 'assent worker', 'assent worker presence'].map((name) => `${name}: ${role}`).sort();

test('an embedded service works as assent_app, also on data of a version that had one role', async () => {
  const folder = join(tmpdir(), `assent-roles-${tag}`);
  try {
    const env = { DATA_DIR: folder };
    await (await open(env)).close();
    // As an older version left it: all tables there, and not a word of the role.
    const before = await startEngine({ folder, log: say });
    const client = new pg.Client(before.connection);
    await client.connect();
    await client.query('drop owned by assent_app; drop role assent_app');
    await client.end();
    await before.stop();

    const running = await start(readConfig(environment(env)));
    await live(running);
    expect(await connected(running.installation.engine!.connection)).toEqual(everything('assent_app'));
    // A command beside it: the same role.
    expect(await guard(env)).toEqual({
      name: 'guard',
      ok: true,
      detail: 'role assent_app can add to the ledger and read it, nothing else',
    });
  } finally {
    await service?.stop();
    service = undefined;
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
});

test('with DATABASE_OWNER_URL the owner migrates and grants, and the service works as the role of DATABASE_URL', async () => {
  const at = await newDatabase();
  const env = { DATABASE_URL: at(appRole), DATABASE_OWNER_URL: at(ownerRole) };
  const running = await start(readConfig(environment(env)));
  await live(running);
  expect(await connected({ ...engine, database: databases.at(-1)! })).toEqual(everything(appRole));
  expect(await guard(env)).toEqual({
    name: 'guard',
    ok: true,
    detail: `role ${appRole} can add to the ledger and read it, nothing else`,
  });
  // Once that is done, processes start without the owner.
  const second = await open({ DATABASE_URL: at(appRole) });
  expect(second.migrated).toEqual([]);
  await second.close();
});

test('with DATABASE_URL alone its plain role does both, and has given up the right to change the ledger', async () => {
  const at = await newDatabase();
  const env = { DATABASE_URL: at(ownerRole) };
  const running = await start(readConfig(environment(env)));
  await live(running);
  await expect(running.installation.database.run(prepared('delete from consent_event'))).rejects.toThrow(
    'permission denied for table consent_event',
  );
  // Nor what the ledger speaks of: the check of the key locks lines, as their owner.
  const { database } = running.installation;
  await database.run(prepared(`insert into contact_point (kind, created_at) values ('phone', now())`));
  await expect(database.run(prepared('delete from contact_point where value is null'))).rejects.toThrow(
    'permission denied for table consent_event',
  );
  expect(await guard(env)).toEqual({
    name: 'guard',
    ok: true,
    detail: `role ${ownerRole} owns the ledger and has given up the right to change it`,
    remedy: 'Give DATABASE_URL a role of its own, and DATABASE_OWNER_URL the one that owns the tables.',
  });
  await service!.stop();
  // What one role made, two can go on with.
  const two = await open({ DATABASE_URL: at(appRole), DATABASE_OWNER_URL: at(ownerRole) });
  expect(await verifyLedger(two.ctx)).toMatchObject({ lines: 2, unsealed: 0 });
  await two.close();
});

test('a role that may not make what is missing is told which variable helps', async () => {
  const at = await newDatabase();
  const alone = { DATABASE_URL: at(appRole) };
  await expect(open(alone)).rejects.toThrow(
    /^The schema lacks 0001_platform\.sql, .+ \(permission denied for schema public\)\. Set DATABASE_OWNER_URL to the role that owns the tables, or may create them\.$/,
  );
  await (await open({ DATABASE_URL: at(ownerRole) })).close();
  await expect(open(alone)).rejects.toThrow(
    /^The database refuses the role of DATABASE_URL what the service needs \(permission denied for table migration\)\. Start once with DATABASE_OWNER_URL/,
  );
  const both = { ...alone, DATABASE_OWNER_URL: at(ownerRole) };
  await (await open(both)).close();
  const owner = openDatabase({ connection: at(ownerRole), max: 1 });
  // A new version brings migrations, of the jobs or of ours.
  await owner.run(prepared('delete from graphile_worker.migrations where id = 19'));
  await expect(open(alone)).rejects.toThrow(
    /\(permission denied for table migrations\)\. Start once with DATABASE_OWNER_URL/,
  );
  await owner.run(prepared('delete from migration where number = (select max(number) from migration)'));
  await expect(open(alone)).rejects.toThrow(
    /^The schema lacks 0\d{3}_\w+\.sql, and the database does not let this role/,
  );
  await owner.close();
});

test('the demo shop is made by the role of the service', async () => {
  const at = await newDatabase();
  const { ctx, close } = await open({ DATABASE_URL: at(appRole), DATABASE_OWNER_URL: at(ownerRole) });
  await seedDemo(ctx, say);
  expect(await ctx.db.rows(prepared('select demo from installation'))).toEqual([{ demo: true }]);
  expect((await verifyLedger(ctx)).fault).toBeUndefined();
  await close();
});

test('a role that the server does not know is an error of configuration', async () => {
  const at = await newDatabase();
  await expect(open({ DATABASE_URL: at(appRole), DATABASE_OWNER_URL: at('nobody_here') })).rejects.toThrow(
    /^The database refuses us: .*"nobody_here".*\. Check DATABASE_URL, DATABASE_OWNER_URL\.$/,
  );
  await expect(open({ DATABASE_URL: at('nobody_here') })).rejects.toThrow(/"nobody_here".*\. Check DATABASE_URL\.$/);
});

test('two addresses of two databases are refused', async () => {
  const [one, other] = [await newDatabase(), await newDatabase()];
  await expect(open({ DATABASE_URL: one(appRole), DATABASE_OWNER_URL: other(ownerRole) })).rejects.toThrow(
    'DATABASE_URL and DATABASE_OWNER_URL lead to two databases. Name the same one in both.',
  );
  expect(() => readConfig(environment({ DATABASE_OWNER_URL: one(ownerRole) }))).toThrow(
    'DATABASE_OWNER_URL is set, but DATABASE_URL is not. Set DATABASE_URL to the same database with the role of the service.',
  );
});
