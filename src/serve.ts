/** The running service: HTTP, jobs, sealer, settings, and how they start and stop together. */
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import type { Logger } from 'pino';
import { createHttp, createTasks, crews, crontab } from './app.ts';
import { type Config, ConfigError } from './config.ts';
import { seal, sealAll } from './consent/ledger/seals.ts';
import { seedDemo } from './demo.ts';
import { type Installation, openInstallation } from './installation.ts';
import { dispatchLoyalty } from './loyalty/dispatch.ts';
import type { Ctx } from './platform/ctx.ts';
import type { Connection } from './platform/db.ts';
import { startEngine } from './platform/engine/engine.ts';
import { startWorker } from './platform/jobs.ts';
import { createMailer } from './platform/mail.ts';
import { changeSetting } from './platform/settings.ts';
import { sealHistory, sealWholeHistory } from './staff/history/seals.ts';
import { dispatchWebhooks } from './webhooks/dispatch.ts';

export interface Service {
  /** Where it listens; undefined for a worker. */
  readonly url: string | undefined;
  readonly installation: Installation;
  /** Answers what was asked, stops listening, ends jobs and database. */
  stop(): Promise<void>;
}

export interface ServeOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly say: (line: string) => void;
  /** Fill an empty database with the demo shop. */
  readonly demo?: boolean;
  /** NAME and value of settings to store before the start. */
  readonly set?: readonly (readonly [string, unknown])[];
  /** Only jobs and seals, no HTTP. */
  readonly workerOnly?: boolean;
  /** The service cannot go on; its text says why. */
  readonly onFatal: (why: string) => void;
}

/** Runs `work` again and again, never twice at once; an error waits for the next turn. */
function every(milliseconds: number, work: () => Promise<unknown>, log: Logger, name: string): () => Promise<void> {
  let stopped = false;
  let failing = false;
  let timer: NodeJS.Timeout;
  let current: Promise<unknown> = Promise.resolve();
  const turn = (): void => {
    current = work()
      .then(
        () => {
          failing = false;
        },
        (error: unknown) => {
          // Once, not every half second of an outage.
          if (!failing) log.warn({ err: error }, `${name} failed, trying again`);
          failing = true;
        },
      )
      .finally(() => {
        if (!stopped) timer = setTimeout(turn, milliseconds);
      });
  };
  timer = setTimeout(turn, milliseconds);
  return async () => {
    stopped = true;
    clearTimeout(timer);
    await current;
  };
}

/** Reloads settings the moment another process changes one. The two-second poll covers what a lost connection misses. */
function listenForSettings(ctx: Ctx, connection: Connection): () => Promise<void> {
  let client: pg.Client | undefined;
  let stopped = false;
  const connect = async (): Promise<void> => {
    if (stopped || client !== undefined) return;
    const fresh = new pg.Client({
      ...(typeof connection === 'string' ? { connectionString: connection } : connection),
      application_name: 'assent settings',
    });
    client = fresh;
    const lost = (): void => {
      if (client === fresh) client = undefined;
    };
    fresh.on('error', lost);
    fresh.on('end', lost);
    fresh.on('notification', () => void ctx.settings.refresh(ctx.db).catch(() => {}));
    try {
      await fresh.connect();
      await fresh.query('listen assent_setting');
    } catch {
      lost();
      await fresh.end().catch(() => {});
    }
  };
  const stopPolling = every(
    2000,
    async () => {
      await connect();
      await ctx.settings.refresh(ctx.db);
    },
    ctx.log,
    'reading settings',
  );
  void connect();
  return async () => {
    stopped = true;
    await stopPolling();
    await client?.end().catch(() => {});
  };
}

/** Starts an engine again that died while the service lives; gives up when it keeps dying. */
function keepEngine(installation: Installation, { config, log, say, onFatal }: ServeOptions): () => Promise<void> {
  let engine = installation.engine;
  let stopping = false;
  let deaths: number[] = [];
  const watch = (): void => {
    const watched = engine;
    watched?.onExit((why) => {
      if (stopping || engine !== watched) return;
      deaths = [...deaths.filter((at) => at > Date.now() - 60_000), Date.now()];
      log.error({ why }, 'the embedded database ended');
      if (deaths.length > 5) {
        onFatal(`The embedded database keeps ending: ${why}`);
        return;
      }
      void (async () => {
        await watched.stop();
        engine = await startEngine({ folder: config.DATA_DIR, log: say });
        watch();
        log.warn('the embedded database runs again');
      })().catch((error: unknown) => onFatal(error instanceof Error ? error.message : String(error)));
    });
  };
  watch();
  return async () => {
    stopping = true;
    await engine?.stop();
  };
}

/** The port that a listen error is about, in words. */
function listenError(error: unknown, { HOST, PORT }: Config): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE')
    return new ConfigError(
      `Port ${PORT} on ${HOST} is taken. Stop what listens there, or choose another: PORT=8081 npm start`,
    );
  if (code === 'EACCES')
    return new ConfigError(`Port ${PORT} needs more rights than this user has. Choose one above 1023.`);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new ConfigError(`HOST ${HOST} is none of this machine's addresses.`);
  return error;
}

/**
 * Starts the service.
 * @throws ConfigError, EngineError, SchemaError with a sentence for the operator; nothing is left running then
 */
export async function serve(options: ServeOptions): Promise<Service> {
  const { config, log, say } = options;
  const installation = await openInstallation({ config, log, say });
  const { ctx, connection } = installation;
  const stops: (() => Promise<unknown>)[] = [keepEngine(installation, options), () => installation.database.close()];
  const stop = async (): Promise<void> => {
    for (const end of stops.splice(0).reverse())
      await end().catch((error: unknown) => log.error({ err: error }, 'stopping'));
  };
  try {
    for (const [name, value] of options.set ?? []) {
      await changeSetting(ctx, name, value, '--set');
    }
    if (options.demo) await seedDemo(ctx, say);
    await ctx.settings.reload(ctx.db);
    stops.push(listenForSettings(ctx, connection));

    let url: string | undefined;
    if (!options.workerOnly) {
      const http = await createHttp(ctx, {
        trustedProxies: config.TRUSTED_PROXIES,
        publicUrl: config.PUBLIC_URL,
        metricsToken: config.METRICS_TOKEN,
      });
      await http.listen({ host: config.HOST, port: config.PORT }).catch((error: unknown) => {
        throw listenError(error, config);
      });
      const { port } = http.server.address() as AddressInfo;
      const host = ['0.0.0.0', '::'].includes(config.HOST)
        ? 'localhost'
        : config.HOST.includes(':')
          ? `[${config.HOST}]`
          : config.HOST;
      url = `http://${host}:${port}`;
      stops.push(() => http.close());
    }
    const publicUrl = config.PUBLIC_URL ?? url ?? `http://${config.HOST}:${config.PORT}`;
    const tasks = createTasks(createMailer(config.SMTP_URL), publicUrl, config.PUBLIC_URL !== undefined);
    const tasksOf = (names: readonly string[]): typeof tasks =>
      Object.fromEntries(Object.entries(tasks).filter(([name]) => names.includes(name)));
    const elsewhere: readonly string[] = Object.values(crews).flatMap((crew) => crew.tasks);
    const others = Object.keys(tasks).filter((name) => !elsewhere.includes(name));
    const worker = await startWorker(ctx, connection, tasksOf(others), crontab);
    // Pushed below HTTP: requests end first, then the jobs they put in, then the seals.
    const workers = [worker];
    // Each by itself: none waits for what another stumbles over.
    const stopSealing = every(500, () => seal(ctx), log, 'sealing the ledger');
    const stopSealingHistory = every(500, () => sealHistory(ctx), log, 'sealing the history');
    const stopAnnouncing = every(500, () => dispatchWebhooks(ctx), log, 'announcing');
    const stopLoyalty = every(500, () => dispatchLoyalty(ctx), log, 'telling the loyalty provider');
    stops.splice(2, 0, async () => {
      await Promise.all([stopSealing(), stopSealingHistory(), stopAnnouncing(), stopLoyalty()]);
      await Promise.all(workers.map((each) => each.stop()));
      await sealAll(ctx);
      await sealWholeHistory(ctx);
    });
    for (const { tasks: names, ...crew } of Object.values(crews))
      workers.push(await startWorker(ctx, connection, tasksOf(names), [], crew));
    return { url, installation, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
