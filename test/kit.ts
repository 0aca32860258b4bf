/** A whole installation for a test file: its own database, a clock that can be moved, and clients that behave like browsers. */
import type { FastifyInstance } from 'fastify';
import { Logger, runOnce } from 'graphile-worker';
import pg from 'pg';
import { inject } from 'vitest';
import { atTheMachine } from '../src/accounts/operator-events.ts';
import { createApiKey } from '../src/admin/keys.ts';
import { createHttp, createTasks } from '../src/app.ts';
import { type Verification, verifyLedger } from '../src/consent/ledger/audit.ts';
import { sealAll } from '../src/consent/ledger/seals.ts';
import { createClient } from '../src/oauth/clients.ts';
import { createOperator } from '../src/operators.ts';
import type { Ctx } from '../src/platform/ctx.ts';
import { type Connection, type Database, openDatabase, prepared } from '../src/platform/db.ts';
import type { EngineRoles } from '../src/platform/engine/engine.ts';
import { deriveKeys } from '../src/platform/keys.ts';
import { createLog } from '../src/platform/log.ts';
import { createMailer } from '../src/platform/mail.ts';
import { changeSetting, openSettings } from '../src/platform/settings.ts';
import type { SettingName } from '../src/settings.ts';
import { SECRET, TEMPLATE } from './engine.ts';

export interface Reply {
  readonly status: number;
  readonly headers: Record<string, string | string[] | number | undefined>;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test reads what it expects out of an answer
  readonly body: any;
}

export interface Sent {
  /** Sent as JSON, unless it is a string or Buffer. */
  readonly body?: unknown;
  readonly form?: string;
  readonly headers?: Record<string, string>;
}

/** Sends one request through the front door. */
export type Send = (method: string, path: string, sent?: Sent) => Promise<Reply>;

/** A browser: keeps cookies, sends them and the CSRF token. */
export interface Client {
  readonly send: Send;
  readonly cookies: Map<string, string>;
  /** The `key` of the sign-in, for `Authorization: Token`. */
  readonly key: string;
  /** Id of the account. */
  readonly id: number;
  readonly email: string;
}

export const PASSWORD = 'correct-horse-battery';
let people = 0;
let keysMade = 0;
let databases = 0;

export interface Kit {
  readonly ctx: Ctx;
  readonly http: FastifyInstance;
  readonly database: Database;
  readonly connection: Connection;
  /** Without cookies. */
  readonly send: Send;
  /** Every line that was logged. */
  readonly logged: string[];
  /** Moves the clock of the service. */
  advance(milliseconds: number): void;
  /** Registers somebody over the wire and signs them in; their address counts as proven, unless `unproven` says otherwise. */
  signUp(more?: Record<string, unknown>): Promise<Client>;
  /** Signs an existing account in over the wire. */
  signIn(email: string, password?: string): Promise<Client>;
  /** A caller of the BakerOnline dialect: an access token by the password grant, in the header of every request. */
  bearer(email: string, password?: string): Promise<Send>;
  /** Sends with an API key that holds these scopes. */
  apiKey(...scopes: string[]): Promise<Send>;
  /** Makes an operator and signs them in. */
  operator(): Promise<Client>;
  set(name: SettingName, value: unknown): Promise<void>;
  /** Does all jobs that wait. */
  jobs(): Promise<void>;
  /** What the console providers would have sent, oldest first. */
  outbox(medium: 'sms' | 'mail'): Promise<{ recipient: string; subject: string | null; body: string }[]>;
  /** Rows of any SQL, for saying exactly what is stored; as the service's role. */
  rows<T = Record<string, unknown>>(text: string, ...values: unknown[]): Promise<T[]>;
  /** Rows of any SQL as a superuser, for what the service's role may not do. */
  owner<T = Record<string, unknown>>(text: string, ...values: unknown[]): Promise<T[]>;
  /** Seals what waits and checks the whole ledger. */
  verify(): Promise<Verification>;
  /** A second process on the same database: its own pool, settings, batchers and server. */
  twin(): Promise<Kit>;
  close(): Promise<void>;
}

/** A kit with a database of its own; call `close` in `afterAll`. */
export async function createKit(options: { level?: string } = {}): Promise<Kit> {
  const engine = inject('engine');
  databases += 1;
  const name = `t_${process.pid}_${databases}_${Date.now().toString(36)}`;
  const root = openDatabase({ connection: engine.connection, max: 1 });
  await root.run(prepared(`create database ${name} template ${TEMPLATE}`));
  await root.close();
  const shared = { offset: 0 };
  const roles = {
    connection: { ...engine.connection, database: name },
    application: { ...engine.application, database: name },
  };
  return openKit(roles, shared, options.level ?? 'info', async () => {
    const again = openDatabase({ connection: engine.connection, max: 1 });
    await again.run(prepared(`drop database ${name} with (force)`));
    await again.close();
  });
}

async function openKit(
  roles: EngineRoles,
  shared: { offset: number },
  level: string,
  drop: () => Promise<void>,
): Promise<Kit> {
  const logged: string[] = [];
  const log = createLog(level, { write: (line: string) => void logged.push(line) });
  const connection = roles.application;
  const database = openDatabase({ connection, max: 12 });
  // Connects when it is first asked.
  const owner = openDatabase({ connection: roles.connection, max: 1 });
  const keys = deriveKeys(SECRET);
  const ctx: Ctx = {
    db: database,
    clock: { now: () => new Date(Date.now() + shared.offset) },
    settings: openSettings(log, keys),
    keys,
    log,
  };
  await ctx.settings.reload(database);
  const http = await createHttp(ctx, { trustedProxies: [] });
  await http.ready();
  const twins: Kit[] = [];

  const sender =
    (prepare: (method: string) => Record<string, string>, after: (reply: Reply) => void = () => {}): Send =>
    async (method, path, sent = {}) => {
      const payload =
        sent.form ??
        (sent.body === undefined || typeof sent.body === 'string' || Buffer.isBuffer(sent.body)
          ? sent.body
          : JSON.stringify(sent.body));
      const type =
        sent.form !== undefined
          ? 'application/x-www-form-urlencoded'
          : payload !== undefined
            ? 'application/json'
            : undefined;
      const response = await http.inject({
        method: method as 'GET',
        url: path,
        ...(payload === undefined ? {} : { payload: payload as string }),
        headers: { ...(type === undefined ? {} : { 'content-type': type }), ...prepare(method), ...sent.headers },
      });
      const text = response.body;
      const json = /[/+]json\b/.test(String(response.headers['content-type'] ?? ''));
      const reply: Reply = {
        status: response.statusCode,
        headers: response.headers,
        text,
        body: json && text !== '' ? JSON.parse(text) : text,
      };
      after(reply);
      return reply;
    };

  const browser = (): { send: Send; cookies: Map<string, string> } => {
    const cookies = new Map<string, string>();
    const send = sender(
      () => ({
        ...(cookies.size > 0 ? { cookie: [...cookies].map(([key, value]) => `${key}=${value}`).join('; ') } : {}),
        ...(cookies.has('csrftoken') ? { 'x-csrftoken': cookies.get('csrftoken')! } : {}),
      }),
      ({ headers }) => {
        for (const line of [headers['set-cookie'] ?? []].flat() as string[]) {
          const [, key, value] = /^([^=]+)="?([^;"]*)/.exec(line)!;
          if (/max-age=0/i.test(line)) cookies.delete(key!);
          else cookies.set(key!, value!);
        }
      },
    );
    return { send, cookies };
  };

  const signedIn = async (path: string, body: object, email: string): Promise<Client> => {
    const { send, cookies } = browser();
    const reply = await send('POST', path, { body });
    if (reply.status >= 300) throw new Error(`${path} answered ${reply.status}: ${reply.text}`);
    const { body: me } = await send('GET', '/current_user/');
    return { send, cookies, key: reply.body.key, id: me.pk, email };
  };

  const kit: Kit = {
    ctx,
    http,
    database,
    connection,
    logged,
    send: sender(() => ({})),
    advance: (milliseconds) => {
      shared.offset += milliseconds;
    },
    async signUp({ unproven, ...more } = {}) {
      people += 1;
      const email = (more['email'] as string | undefined) ?? `person${people}.${process.pid}@example.com`;
      const client = await signedIn(
        '/users/registration/',
        { email, password: PASSWORD, first_name: 'Ada', last_name: 'Yılmaz', ...more },
        email,
      );
      if (unproven !== true)
        await kit.rows('update account set email_verified_at = date_joined where id = $1', client.id);
      return client;
    },
    signIn: (email, password = PASSWORD) => signedIn('/users/login/', { email, password }, email),
    async bearer(email, password = PASSWORD) {
      await createClient(ctx, { id: 'kit', name: 'Kit', password_grant: true }, atTheMachine).catch(() => {});
      const { body } = await kit.send('POST', '/api/token', {
        body: { grant_type: 'password', client_id: 'kit', username: email, password },
      });
      return sender(() => ({ authorization: `Bearer ${body.access_token}` }));
    },
    async apiKey(...scopes) {
      keysMade += 1;
      const { key } = await createApiKey(ctx, { name: `kit ${keysMade}`, scopes }, atTheMachine);
      return sender(() => ({ authorization: `Bearer ${key}` }));
    },
    async operator() {
      people += 1;
      const email = `operator${people}.${process.pid}@example.com`;
      await createOperator(ctx, email, PASSWORD);
      return kit.signIn(email);
    },
    async set(name, value) {
      await changeSetting(ctx, name, value, 'test');
      await ctx.settings.refresh(ctx.db);
    },
    async jobs() {
      const pool = new pg.Pool({ ...connection, max: 3 });
      pool.on('error', () => {});
      pool.on('connect', (client) => void client.on('error', () => {}));
      const tasks = createTasks(createMailer(undefined), 'https://assent.example');
      // The console providers print; a test run should not.
      const write = process.stderr.write.bind(process.stderr);
      process.stderr.write = (() => true) as typeof process.stderr.write;
      try {
        await runOnce({
          pgPool: pool,
          noHandleSignals: true,
          logger: new Logger(() => () => {}),
          taskList: Object.fromEntries(
            Object.entries(tasks).map(([name, task]) => [
              name,
              (payload) => task(ctx, payload as Record<string, string>),
            ]),
          ),
        });
      } finally {
        process.stderr.write = write;
        await pool.end();
      }
    },
    outbox: (medium) =>
      kit.rows('select recipient, subject, body from console_message where medium = $1 order by id', medium),
    rows: (text, ...values) => database.rows(prepared(text, ...values)),
    owner: (text, ...values) => owner.rows(prepared(text, ...values)),
    async verify() {
      await sealAll(ctx);
      return verifyLedger(ctx);
    },
    async twin() {
      const twin = await openKit(roles, shared, level, async () => {});
      twins.push(twin);
      return twin;
    },
    async close() {
      for (const twin of twins) await twin.close();
      await http.close();
      await database.close();
      await owner.close();
      await drop();
    },
  };
  return kit;
}
