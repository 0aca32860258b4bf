/** Migrations: numbered plain SQL, forward only, each in a transaction of its own; racing processes take turns. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Db } from './db.ts';
import { isDenied, prepared, sql } from './db.ts';

/** The schema cannot be used by this program. The message is a whole sentence. */
export class SchemaError extends Error {}

const folder = join(import.meta.dirname, '../../migrations');

interface Migration {
  readonly number: number;
  readonly name: string;
}

const files = (): Migration[] =>
  readdirSync(folder)
    .filter((name) => /^\d{4}_\w+\.sql$/.test(name))
    .sort()
    .map((name) => ({ number: Number(name.slice(0, 4)), name }));

/** Oldest and newest PostgreSQL this release is tried with. */
const OLDEST = 150_000;

async function refuseUnfit(db: Db): Promise<void> {
  const found = await db.one<{ version: number; name: string; fsync: string; commit: string; encoding: string }>(sql`
    select current_setting('server_version_num')::int as version, current_setting('server_version') as name,
           current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit, current_setting('server_encoding') as encoding`);
  if (found!.version < OLDEST) throw new SchemaError(`PostgreSQL ${found!.name} is too old; 15 to 18 are supported.`);
  if (found!.encoding !== 'UTF8')
    throw new SchemaError(`The database is encoded in ${found!.encoding}; make one with ENCODING 'UTF8'.`);
}

/**
 * Applies what is missing. When nothing is, it needs no right but to read.
 * @returns the names applied, in order
 * @throws SchemaError when the database is newer than this program, unfit, or not this role's to change
 */
export async function migrate(db: Db): Promise<string[]> {
  await refuseUnfit(db);
  return db.transaction(async (tx) => {
    // One process at a time; the next finds the work done.
    await tx.one(sql`select pg_advisory_xact_lock(hashtext('assent.migrate'))`);
    const found = await tx.one<{ exists: boolean }>(sql`select to_regclass('migration') is not null as exists`);
    const applied = found!.exists
      ? await tx.rows<Migration>(sql`select number, name from migration order by number`)
      : [];
    const known = files();
    const newest = known.at(-1)!.number;
    const ahead = applied.filter(({ number }) => number > newest);
    if (ahead.length > 0) {
      throw new SchemaError(
        `The database is at migration ${ahead.at(-1)!.name}, which this version of Assent does not know (it ends at ${newest}). ` +
          'Run the version that made it, or a newer one.',
      );
    }
    const missing = known.filter(({ number }) => !applied.some((done) => done.number === number));
    try {
      if (!found!.exists) {
        await tx.run(sql`
          create table migration (number integer primary key, name text not null, applied_at timestamptz not null default now())`);
      }
      for (const { number, name } of missing) {
        for (const statement of statements(readFileSync(join(folder, name), 'utf8'))) await tx.run(prepared(statement));
        await tx.run(sql`insert into migration (number, name) values (${number}, ${name})`);
      }
    } catch (error) {
      if (!isDenied(error)) throw error;
      throw new SchemaError(
        `The schema lacks ${missing.map(({ name }) => name).join(', ')}, and the database does not let this role make it ` +
          `(${error.message}). Set DATABASE_OWNER_URL to the role that owns the tables, or may create them.`,
      );
    }
    return missing.map(({ name }) => name);
  });
}

/** Splits a file at semicolons that end a line outside of $$ bodies: the driver sends one statement at a time. */
function statements(text: string): string[] {
  const parts: string[] = [];
  let current = '';
  let inBody = false;
  for (const line of text.split('\n')) {
    if (line.trimStart().startsWith('--') && !inBody) continue;
    current += `${line}\n`;
    if ((line.match(/\$\$/g)?.length ?? 0) % 2 === 1) inBody = !inBody;
    if (!inBody && line.trimEnd().endsWith(';')) {
      parts.push(current.trim().slice(0, -1));
      current = '';
    }
  }
  if (current.trim() !== '') parts.push(current.trim());
  return parts;
}
