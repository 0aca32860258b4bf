/** An installation opened: engine or DATABASE_URL, key, schema, settings. Every command starts here. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Config, ConfigError } from './config.ts';
import { type Clock, type Ctx, systemClock } from './platform/ctx.ts';
import { type Connection, type Database, type Db, isDenied, isTurnedAway, openDatabase, sql } from './platform/db.ts';
import { type Engine, runningEngine, startEngine } from './platform/engine/engine.ts';
import { Failure } from './platform/failure.ts';
import { migrateJobs } from './platform/jobs.ts';
import { deriveKeys, type Keys } from './platform/keys.ts';
import { migrate, SchemaError } from './platform/migrate.ts';
import { grantApplication } from './platform/rights.ts';
import { openSettings } from './platform/settings.ts';

export interface Installation {
  readonly ctx: Ctx;
  readonly database: Database;
  /** As the service's role, like `database`: the owner's connection is closed when the schema is right. */
  readonly connection: Connection;
  /** Present when this process runs the embedded engine. */
  readonly engine: Engine | undefined;
  /** Migrations that were applied on the way. */
  readonly migrated: readonly string[];
  close(): Promise<void>;
}

interface Opening {
  readonly config: Config;
  readonly log: Logger;
  /** Told what takes long, for the terminal. */
  readonly say: (line: string) => void;
  /** Join an engine that another process runs in this folder, instead of failing: for commands beside a server. */
  readonly join?: boolean;
  readonly clock?: Clock;
}

/** The key of an embedded installation lies beside its data, readable by its owner only. */
async function secretOf(config: Config): Promise<string> {
  if (config.SECRET_KEY !== undefined) return config.SECRET_KEY;
  const file = join(config.DATA_DIR, 'secret.key');
  const known = await readFile(file, 'utf8').catch(() => undefined);
  if (known !== undefined) return known.trim();
  const secret = randomBytes(32).toString('hex');
  // 'wx': two first starts cannot overwrite each other's key.
  await writeFile(file, `${secret}\n`, { mode: 0o600, flag: 'wx' });
  return secret;
}

/** Refuses a key that is not the one this database was made with: its hashes and seals would mean nothing. */
async function checkKey(db: Db, keys: Keys, now: Date): Promise<void> {
  await db.run(sql`
    insert into installation (key_fingerprint, created_at) values (${keys.fingerprint}, ${now}) on conflict do nothing`);
  const row = await db.one<{ key_fingerprint: Buffer }>(sql`select key_fingerprint from installation`);
  if (!row!.key_fingerprint.equals(keys.fingerprint)) {
    throw new ConfigError(
      'SECRET_KEY is not the one this database was made with. Start with that key; with another, every code, link, hash and seal in it would be void.',
    );
  }
}

/** Brings the schema up to date, as its owner where that is another role than the service's. */
async function prepareSchema(ctx: Ctx, connection: Connection, owner: Connection | undefined): Promise<string[]> {
  if (owner === undefined) {
    const migrated = await migrate(ctx.db);
    await migrateJobs(ctx, connection);
    return migrated;
  }
  const database = openDatabase({ connection: owner, max: 2 });
  try {
    const here = (db: Db) =>
      db.one<{ place: string; role: string }>(sql`
        select current_user::text as role, (select system_identifier from pg_control_system())::text || ' ' || oid as place
          from pg_database where datname = current_database()`);
    const [ours, theirs] = await Promise.all([here(ctx.db), here(database)]);
    if (ours!.place !== theirs!.place)
      throw new ConfigError('DATABASE_URL and DATABASE_OWNER_URL lead to two databases. Name the same one in both.');
    const migrated = await migrate(database);
    await migrateJobs({ ...ctx, db: database }, owner);
    await grantApplication(database, ours!.role);
    return migrated;
  } finally {
    await database.close();
  }
}

/**
 * Opens an installation.
 * @throws ConfigError, EngineError, SchemaError, each with a sentence for the operator
 */
export async function openInstallation({
  config,
  log,
  say,
  join: mayJoin = false,
  clock = systemClock,
}: Opening): Promise<Installation> {
  let engine: Engine | undefined;
  let connection: Connection | undefined = config.DATABASE_URL;
  let owner: Connection | undefined = config.DATABASE_OWNER_URL;
  if (connection === undefined) {
    let roles = mayJoin ? await runningEngine(config.DATA_DIR) : undefined;
    roles ??= engine = await startEngine({ folder: config.DATA_DIR, log: say });
    connection = roles.application;
    owner = roles.connection;
  }
  const database = openDatabase({ connection, max: config.DATABASE_POOL });
  try {
    const keys = deriveKeys(await secretOf(config));
    const ctx: Ctx = { db: database, clock, settings: openSettings(log, keys), keys, log };
    const migrated = await prepareSchema(ctx, connection, owner);
    await checkKey(database, keys, clock.now());
    await ctx.settings.reload(database);
    return {
      ctx,
      database,
      connection,
      engine,
      migrated,
      async close() {
        await database.close();
        await engine?.stop();
      },
    };
  } catch (error) {
    await database.close().catch(() => {});
    await engine?.stop().catch(() => {});
    const names = config.DATABASE_OWNER_URL === undefined ? 'DATABASE_URL' : 'DATABASE_URL, DATABASE_OWNER_URL';
    if (isTurnedAway(error)) throw new ConfigError(`The database refuses us: ${error.message}. Check ${names}.`);
    if (error instanceof Failure && error.code === 'database_away') {
      const reason = error.cause instanceof Error ? error.cause.message : '';
      throw new ConfigError(
        `The database does not answer${reason === '' ? '' : ` (${reason})`}. Check ${names} and that PostgreSQL runs there.`,
      );
    }
    if (isDenied(error)) {
      throw new SchemaError(
        `The database refuses the role of DATABASE_URL what the service needs (${error.message}). ` +
          'Start once with DATABASE_OWNER_URL, the role that owns the tables: it brings them up to date and grants the rest.',
      );
    }
    throw error;
  }
}
