/**
 * The catalogue of start-up values and the only reader of the environment. What an operator may change while the
 * service runs is a setting (`settings.ts`), not a row here.
 */
import { resolve } from 'node:path';

/** One start-up value: how it is read from its variable and what it is when the variable is absent. */
interface Row<T> {
  readonly description: string;
  readonly fallback: T;
  /** Returns the value, or throws a `ConfigError` whose sentence names what would be right. */
  readonly read: (text: string) => T;
}

/** A start-up value that cannot be used. The message is a whole sentence, printed as it is. */
export class ConfigError extends Error {}

const text = (value: string): string => value;

const oneOf =
  <const T extends string>(...values: T[]) =>
  (value: string): T => {
    if ((values as string[]).includes(value)) return value as T;
    throw new ConfigError(`must be one of ${values.join(', ')}`);
  };

const port = (value: string): number => {
  const number = Number(value);
  if (/^\d{1,5}$/.test(value) && number <= 65535) return number;
  throw new ConfigError('must be a port number from 0 to 65535 (0 takes any free one)');
};

const url =
  (...protocols: string[]) =>
  (value: string): string => {
    const parsed = URL.canParse(value) ? new URL(value) : undefined;
    if (parsed !== undefined && protocols.includes(parsed.protocol)) return value.replace(/\/$/, '');
    throw new ConfigError(`must be an address that starts with ${protocols.map((p) => `${p}//`).join(' or ')}`);
  };

const secret = (value: string): string => {
  if (value.length >= 32) return value;
  throw new ConfigError('must have at least 32 characters; make one with: openssl rand -hex 32');
};

const list = (value: string): string[] =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

const rows = {
  PORT: { description: 'TCP port of the API', fallback: 8080, read: port } as Row<number>,
  HOST: { description: 'Address to listen on', fallback: '127.0.0.1', read: text } as Row<string>,
  DATABASE_URL: {
    description: 'PostgreSQL 15 to 18; without it an embedded PostgreSQL runs in DATA_DIR',
    fallback: undefined,
    read: url('postgres:', 'postgresql:'),
  } as Row<string | undefined>,
  DATABASE_OWNER_URL: {
    description:
      'The role that owns the tables and migrates; the role of DATABASE_URL then gets only what the service needs',
    fallback: undefined,
    read: url('postgres:', 'postgresql:'),
  } as Row<string | undefined>,
  DATA_DIR: {
    description: 'Folder of the embedded database and its keys',
    fallback: 'data',
    read: text,
  } as Row<string>,
  SECRET_KEY: {
    description: 'Key of hashes, codes, links and seals; made in DATA_DIR when the database is embedded',
    fallback: undefined,
    read: secret,
  } as Row<string | undefined>,
  PUBLIC_URL: {
    description: 'Address under which people reach the service: links in mails, browsers’ origin, secure cookies',
    fallback: undefined,
    read: url('http:', 'https:'),
  } as Row<string | undefined>,
  TRUSTED_PROXIES: {
    description: 'Comma separated addresses or networks whose X-Forwarded-* headers are believed',
    fallback: [],
    read: list,
  } as Row<string[]>,
  LOG_LEVEL: {
    description: 'fatal, error, warn, info, debug, trace or silent',
    fallback: 'info',
    read: oneOf('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
  } as Row<'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent'>,
  SMTP_URL: {
    description: 'Mail server, smtp://user:password@host:port; without it mails are printed, not sent',
    fallback: undefined,
    read: url('smtp:', 'smtps:'),
  } as Row<string | undefined>,
  METRICS_TOKEN: {
    description: 'Bearer token for /metrics; without it /metrics answers this machine only, and behind a proxy nobody',
    fallback: undefined,
    read: text,
  } as Row<string | undefined>,
  DATABASE_POOL: {
    description: 'Connections to PostgreSQL a process may hold',
    fallback: 10,
    read: (value) => {
      const number = Number(value);
      if (Number.isInteger(number) && number >= 3 && number <= 200) return number;
      throw new ConfigError('must be a whole number from 3 to 200');
    },
  } as Row<number>,
};

export type Config = { readonly [K in keyof typeof rows]: (typeof rows)[K]['fallback'] };

/** The catalogue for the documentation: variable, description, default. */
export const configRows: readonly { name: string; description: string; fallback: unknown }[] = Object.entries(rows).map(
  ([name, row]) => ({ name, description: row.description, fallback: row.fallback }),
);

/** libpq's variables. Set without DATABASE_URL they mean somebody expects an outside database. */
const halfSet = ['PGHOST', 'PGHOSTADDR', 'PGPORT', 'PGDATABASE', 'PGUSER', 'PGPASSWORD', 'PGSERVICE'];

/**
 * Reads the configuration once.
 * @param env the process's environment; a variable that is set but empty is refused, so that a typo in a deployment
 *   file never silently starts an embedded database
 * @throws ConfigError with a sentence that names the variable and the remedy
 */
export function readConfig(env: Record<string, string | undefined>): Config {
  const config: Record<string, unknown> = {};
  for (const [name, row] of Object.entries(rows) as [string, Row<unknown>][]) {
    const value = env[name];
    if (value === undefined) {
      config[name] = row.fallback;
    } else if (value.trim() === '') {
      throw new ConfigError(`${name} is set but empty. Give it a value or remove it.`);
    } else {
      try {
        config[name] = row.read(value);
      } catch (error) {
        if (error instanceof ConfigError) throw new ConfigError(`${name} ${error.message}.`);
        throw error;
      }
    }
  }
  config['DATA_DIR'] = resolve(config['DATA_DIR'] as string);
  const read = config as Config;
  const strays = halfSet.filter((name) => env[name] !== undefined);
  if (read.DATABASE_URL === undefined && strays.length > 0) {
    throw new ConfigError(
      `${strays.join(', ')} set, but DATABASE_URL is not. Set DATABASE_URL=postgres://user:password@host:5432/name to use ` +
        'that database, or unset them to run the embedded one.',
    );
  }
  if (read.DATABASE_URL === undefined && read.DATABASE_OWNER_URL !== undefined) {
    throw new ConfigError(
      'DATABASE_OWNER_URL is set, but DATABASE_URL is not. Set DATABASE_URL to the same database with the role of the service.',
    );
  }
  if (read.DATABASE_URL !== undefined && read.SECRET_KEY === undefined) {
    throw new ConfigError(
      'DATABASE_URL is set, but SECRET_KEY is not. All processes of one database share one key; make it once with: openssl rand -hex 32',
    );
  }
  return read;
}
