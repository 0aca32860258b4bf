/**
 * One engine for the whole run, with a migrated template that each test file clones (30–50 ms, rights included): the
 * embedded one, or with TEST_DATABASE_URL (a superuser's) any PostgreSQL from 15 on, where it makes a role of its own.
 */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { systemClock } from '../src/platform/ctx.ts';
import { openDatabase, prepared, sql } from '../src/platform/db.ts';
import { type EngineConnection, type EngineRoles, startEngine } from '../src/platform/engine/engine.ts';
import { migrateJobs } from '../src/platform/jobs.ts';
import { deriveKeys } from '../src/platform/keys.ts';
import { createLog } from '../src/platform/log.ts';
import { migrate } from '../src/platform/migrate.ts';
import { grantApplication } from '../src/platform/rights.ts';
import { openSettings } from '../src/platform/settings.ts';

declare module 'vitest' {
  interface ProvidedContext {
    engine: EngineRoles;
  }
}

export const TEMPLATE = 'assent_template';
export const SECRET = 'a secret key of the tests, and of nothing else';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const outside = process.env['TEST_DATABASE_URL'];
  const engine = outside === undefined ? await embedded() : outsideEngine(outside);
  const root = openDatabase({ connection: engine.connection, max: 2 });
  const { user, password } = engine.application;
  if ((await root.one(sql`select from pg_roles where rolname = ${user}`)) === undefined)
    await root.run(prepared(`create role ${user} login password '${password}'`));
  await root.run(prepared(`drop database if exists ${TEMPLATE}`));
  await root.run(prepared(`create database ${TEMPLATE} encoding 'UTF8' template template0`));
  await root.close();
  const connection = { ...engine.connection, database: TEMPLATE };
  const database = openDatabase({ connection, max: 2 });
  const log = createLog('silent');
  const keys = deriveKeys(SECRET);
  await migrate(database);
  await migrateJobs({ db: database, clock: systemClock, settings: openSettings(log, keys), keys, log }, connection);
  await grantApplication(database, user);
  await database.run(
    sql`insert into installation (key_fingerprint, created_at) values (${keys.fingerprint}, ${new Date()})`,
  );
  await database.close();
  project.provide('engine', { connection: engine.connection, application: engine.application });
  return () => engine.stop();
}

interface TestEngine extends EngineRoles {
  stop(): Promise<void>;
}

async function embedded(): Promise<TestEngine> {
  // The engine makes the folder, so that its user can enter also when we are root.
  const folder = join(tmpdir(), `assent-test-${process.pid}-${Date.now()}`);
  const engine = await startEngine({
    folder,
    log: () => {},
    // Durability is proven elsewhere (`npm run prove`); here it would only cost time.
    settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '200' },
  });
  return {
    connection: engine.connection,
    application: engine.application,
    async stop() {
      await engine.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function outsideEngine(address: string): TestEngine {
  const { hostname: host, port, username: user, password, pathname } = new URL(address);
  const connection: EngineConnection = {
    host,
    port: Number(port || 5432),
    user,
    password,
    database: pathname.slice(1) || 'postgres',
    ssl: false,
  };
  return {
    connection,
    application: { ...connection, user: 'assent_test_app', password: 'of the tests' },
    stop: async () => {},
  };
}
