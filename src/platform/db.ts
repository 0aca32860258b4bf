/**
 * PostgreSQL behind four verbs: `rows`, `one`, `run`, `transaction`. SQL is written in full with the `sql` tag beside the
 * rule it serves; every statement is a named prepared one (measured at 16 clients: 13,800/s named, 5,600/s unnamed).
 */
import pg from 'pg';
import { Failure } from './failure.ts';

/** A statement and its values, made by the `sql` tag. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: unknown[];
}

const known = new WeakMap<TemplateStringsArray, { name: string; text: string }>();
let count = 0;

/**
 * Plain SQL with its values in place: sql`select 1 where ${id} = 1`. Each value becomes a parameter, never text. A call
 * site is one prepared statement, so do not build SQL from pieces.
 */
export function sql(strings: TemplateStringsArray, ...values: unknown[]): Statement {
  let statement = known.get(strings);
  if (statement === undefined) {
    const text = strings.reduce((all, part, index) => `${all}$${index}${part}`);
    count += 1;
    statement = { name: `s${count}`, text };
    known.set(strings, statement);
  }
  return { name: statement.name, text: statement.text, values };
}

/** A database, or a transaction of one: both have the same face, so a verb does not know which it was given. */
export interface Db {
  /** All rows of the answer. */
  rows<T>(statement: Statement): Promise<T[]>;
  /** The first row, or undefined. */
  one<T>(statement: Statement): Promise<T | undefined>;
  /** The number of rows changed. */
  run(statement: Statement): Promise<number>;
  /** True inside a transaction. */
  readonly inTransaction: boolean;
  /** Runs `work` in a transaction; inside one already it simply joins it. Rolls back when `work` throws. */
  transaction<T>(work: (db: Db) => Promise<T>): Promise<T>;
}

/** The root database: what the composition root opens and closes. */
export interface Database extends Db {
  readonly pool: pg.Pool;
  close(): Promise<void>;
}

/** How to reach a database: a postgres:// address, or the embedded engine's settings. */
export type Connection =
  | string
  | { host: string; port: number; user: string; password: string; database: string; ssl: false };

export interface DatabaseOptions {
  readonly connection: Connection;
  /** Connections at most. */
  readonly max: number;
  /** Off for transaction poolers that keep no prepared statements (PgBouncer before 1.21). */
  readonly prepared?: boolean;
}

// bigint ids fit a double up to 2^53; dates stay the text PostgreSQL writes; timestamps become Date.
const int8 = (text: string): number => Number(text);
// The session's time zone is UTC: `2026-11-21 05:12:24.123456+00` becomes ISO 8601, which V8 parses ten times as fast.
const timestamptz = (text: string): Date => new Date(`${text.slice(0, 10)}T${text.slice(11, -3)}Z`);
const int8List = (text: string): number[] => (text === '{}' ? [] : text.slice(1, -1).split(',').map(Number));

const parsers = new Map<number, (text: string) => unknown>([
  [20, int8],
  [1016, int8List],
  [1082, (text) => text],
  [1184, timestamptz],
]);

const types = {
  getTypeParser(oid: number, format?: string): unknown {
    return (
      (format !== 'binary' && parsers.get(oid)) ||
      (pg.types.getTypeParser as (o: number, f?: string) => unknown)(oid, format)
    );
  },
};

/** SQLSTATEs and system errors that mean the database is away or going, not that the statement is wrong. */
const away = new Set(['57P01', '57P02', '57P03', '53300', '08000', '08003', '08006', '08001', '08004']);
const awaySystem = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
/** Worth one more try as a whole: serialization failure, deadlock. */
const again = new Set(['40001', '40P01']);

/** The SQLSTATE of a driver error, if it is one. */
function sqlState(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Whether the database refused for want of a right: insufficient_privilege. */
export function isDenied(error: unknown): error is Error {
  return sqlState(error) === '42501';
}

/** Whether the server turned us away at its door: a role, password or database that is not right. */
export function isTurnedAway(error: unknown): error is Error {
  return /^(28|3D)/.test(sqlState(error) ?? '');
}

/** Name of the violated constraint, if that is what went wrong. */
export function violated(error: unknown): string | undefined {
  return error instanceof Error && 'constraint' in error && typeof error.constraint === 'string'
    ? error.constraint
    : undefined;
}

function translate(error: unknown): unknown {
  const code = sqlState(error);
  const message = error instanceof Error ? error.message : '';
  if (
    (code !== undefined && (away.has(code) || awaySystem.has(code))) ||
    /^Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error/.test(
      message,
    )
  ) {
    return new Failure('database_away', { cause: error });
  }
  // statement_timeout and lock_timeout: busy, not broken.
  if (code === '57014' || code === '55P03') return new Failure('busy', { cause: error });
  return error;
}

/** Opens a pool. Connects lazily: the first statement finds out whether the database is there. */
export function openDatabase(options: DatabaseOptions): Database {
  const { connection, max } = options;
  const prepared = options.prepared ?? true;
  const pool = new pg.Pool({
    ...(typeof connection === 'string' ? { connectionString: connection } : connection),
    max,
    types,
    // A pipelining client sends BEGIN and the first statement in one go.
    pipeline: true,
    application_name: 'assent',
    // Away must be known within a second, so that callers get their 503 instead of a hang.
    connectionTimeoutMillis: 1000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    options:
      '-c timezone=UTC -c statement_timeout=20000 -c lock_timeout=8000 -c idle_in_transaction_session_timeout=30000',
  } as pg.PoolConfig);
  // A connection that breaks while idle is simply replaced.
  pool.on('error', () => {});
  // On its way from the pool to a transaction a connection has no other listener, and may break in that very moment.
  pool.on('connect', (client) => void client.on('error', () => {}));

  const ask = async (client: pg.Pool | pg.PoolClient, statement: Statement): Promise<pg.QueryResult> => {
    try {
      return await client.query(prepared ? statement : { text: statement.text, values: statement.values });
    } catch (error) {
      throw translate(error);
    }
  };

  const face = (client: pg.Pool | pg.PoolClient): Omit<Db, 'transaction' | 'inTransaction'> => ({
    rows: async <T>(statement: Statement) => (await ask(client, statement)).rows as T[],
    one: async <T>(statement: Statement) => (await ask(client, statement)).rows[0] as T | undefined,
    run: async (statement: Statement) => (await ask(client, statement)).rowCount ?? 0,
  });

  const once = async <T>(work: (db: Db) => Promise<T>): Promise<T> => {
    let client: pg.PoolClient;
    try {
      client = await pool.connect();
    } catch (error) {
      throw translate(error);
    }
    let broken: Error | undefined;
    const onError = (error: Error): void => {
      broken = error;
    };
    client.on('error', onError);
    try {
      // Not awaited: it travels together with the first statement.
      const begun = client.query('begin').catch((error: unknown) => error);
      const db: Db = { ...face(client), inTransaction: true, transaction: (inner) => inner(db) };
      const result = await work(db);
      const failed = await begun;
      if (failed instanceof Error) throw failed;
      const committed = await client.query('commit');
      // A failed statement whose error somebody swallowed turns COMMIT into ROLLBACK without an error.
      if (committed.command !== 'COMMIT') throw new Error('the transaction was rolled back by the database');
      return result;
    } catch (error) {
      try {
        await client.query('rollback');
      } catch (second) {
        broken = second instanceof Error ? second : new Error(String(second));
      }
      throw translate(error);
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  };

  return {
    pool,
    ...face(pool),
    inTransaction: false,
    async transaction(work) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await once(work);
        } catch (error) {
          if (attempt === 3 || !again.has(sqlState(error) ?? '')) throw error;
        }
      }
    },
    close: () => pool.end(),
  };
}

const generated = new Map<string, string>();

/**
 * A statement whose text is built once from a catalogue of ours (never from input); values are $1, $2 …
 */
export function prepared(text: string, ...values: unknown[]): Statement {
  let name = generated.get(text);
  if (name === undefined) {
    name = `g${generated.size}`;
    generated.set(text, name);
  }
  return { name, text, values };
}
