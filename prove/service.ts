/** The service as it is shipped, in a process of its own, and the ways to end it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { clusterPath } from '../src/platform/engine/cluster.ts';
import { runningEngine } from '../src/platform/engine/engine.ts';
import { clusterProcesses, postmasterPid, tell } from '../src/platform/engine/lock.ts';

const MAIN = resolve(import.meta.dirname, '../src/main.ts');
const PATIENCE = 60_000;

export type Victim = 'server' | 'engine' | 'both';

const isRunning = (child: ChildProcess | undefined): boolean =>
  child !== undefined && child.exitCode === null && child.signalCode === null;

export interface Verified {
  readonly lines: number;
  readonly seals: number;
  readonly unsealed: number;
  readonly fault?: string;
}

export class Service {
  readonly folder: string;
  /** Module that is loaded before the service: a planted fault. */
  readonly #plant: string | undefined;
  #process: ChildProcess | undefined;
  /** A second server on the same data, as behind a load balancer. */
  #twin: ChildProcess | undefined;
  #url = '';
  #twinUrl = '';
  /** What it told the terminal last, without the codes. */
  readonly #said: string[] = [];

  private constructor(folder: string, plant: string | undefined) {
    this.folder = folder;
    this.#plant = plant;
  }

  /** @param plant path of a module to load before the service; `arm` tells it to begin */
  static async create(plant: string | undefined): Promise<Service> {
    const home = await mkdtemp(join(tmpdir(), 'assent-prove-'));
    // As root the engine runs as another user, who must be able to pass through.
    await chmod(home, 0o755);
    return new Service(join(home, 'data'), plant);
  }

  get url(): string {
    return this.#url;
  }

  get twinUrl(): string {
    return this.#twinUrl;
  }

  get running(): boolean {
    return isRunning(this.#process);
  }

  get twinRunning(): boolean {
    return isRunning(this.#twin);
  }

  /** The last lines it told the terminal. */
  get said(): string {
    return this.#said.slice(-40).join('\n');
  }

  get #environment(): NodeJS.ProcessEnv {
    const { PATH, HOME } = process.env;
    return { PATH, HOME, DATA_DIR: this.folder, PORT: '0', LOG_LEVEL: 'warn' };
  }

  /** Resolves when its processes have gone. */
  async gone(): Promise<void> {
    await Promise.all(
      [this.#process, this.#twin].map((child) => (isRunning(child) ? once(child!, 'exit') : undefined)),
    );
  }

  /** Starts it. @returns seconds until it said that it is ready @throws when it does not come up by itself */
  async start(...options: string[]): Promise<number> {
    const before = performance.now();
    this.#process = this.#spawn(this.#environment, options);
    this.#url = await this.#ready(this.#process);
    return (performance.now() - before) / 1000;
  }

  /** Starts a second server on the database of the first, which owns the engine. */
  async startTwin(): Promise<void> {
    const { host, port, user, database } = (await runningEngine(this.folder))!.application;
    this.#twin = this.#spawn(
      {
        ...this.#environment,
        DATABASE_URL: `postgres://${user}@localhost:${port}/${database}?host=${encodeURIComponent(host)}`,
        SECRET_KEY: (await readFile(join(this.folder, 'secret.key'), 'utf8')).trim(),
      },
      [],
    );
    this.#twinUrl = await this.#ready(this.#twin);
  }

  #spawn(env: NodeJS.ProcessEnv, options: readonly string[]): ChildProcess {
    const preload = this.#plant === undefined ? [] : ['--import', this.#plant];
    return spawn(process.execPath, [...preload, MAIN, 'serve', ...options], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }

  /** @returns where it listens, as soon as it says so */
  #ready(child: ChildProcess): Promise<string> {
    const ready = new Promise<string>((done, failed) => {
      child.once('exit', (code, signal) =>
        failed(new Error(`the service ended with ${signal ?? code} instead of starting\n${this.said}`)),
      );
      const listen = (line: string): void => {
        const url = /Assent is ready: (http:\S+)/.exec(line)?.[1];
        if (url !== undefined) done(url);
      };
      this.#hear(child.stderr!, listen);
    });
    return Promise.race([
      ready,
      sleep(PATIENCE, undefined, { ref: false }).then(() =>
        Promise.reject(new Error(`the service was not ready after ${PATIENCE / 1000} s\n${this.said}`)),
      ),
    ]);
  }

  /** Tells a planted fault to begin. */
  arm(): void {
    if (this.#plant === undefined) return;
    this.#process!.kill('SIGUSR2');
    this.#twin?.kill('SIGUSR2');
  }

  #hear(stream: NodeJS.ReadableStream, listen: (line: string) => void): void {
    let rest = '';
    stream.on('data', (data: Buffer) => {
      const lines = `${rest}${data.toString()}`.split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (/^(sms|mail) to /.test(line)) continue;
        this.#said.push(line);
        listen(line);
      }
      this.#said.splice(0, Math.max(0, this.#said.length - 50));
    });
  }

  /** Process id of its postmaster. */
  async engine(): Promise<number> {
    return postmasterPid((await clusterPath(this.folder))!);
  }

  /** kill -9, at once. @param engine the postmaster: its children find out by themselves */
  kill(victim: Victim, engine: number): void {
    if (victim !== 'engine') {
      this.#process!.kill('SIGKILL');
      this.#twin?.kill('SIGKILL');
    }
    if (victim !== 'server') tell(engine, 'SIGKILL');
  }

  /** SIGTERM, to the one with the engine last. @returns exit code, the worse of two, and seconds */
  async stop(): Promise<{ code: number | null; seconds: number }> {
    const before = performance.now();
    const codes: (number | null)[] = [];
    for (const child of [this.#twin, this.#process]) {
      if (!isRunning(child)) continue;
      const gone = once(child!, 'exit');
      child!.kill('SIGTERM');
      codes.push(((await gone) as [number | null])[0]);
    }
    const code = codes.find((each) => each !== 0);
    return { code: code === undefined ? 0 : code, seconds: (performance.now() - before) / 1000 };
  }

  /** A client of its database, as the owner; the caller ends it. */
  async database(): Promise<pg.Client> {
    const roles = await runningEngine(this.folder);
    if (roles === undefined) throw new Error('the database of the service does not answer');
    const client = new pg.Client({ ...roles.connection, options: '-c timezone=UTC' });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** `assent ledger verify --json`, beside the running service or alone. */
  async verify(): Promise<Verified> {
    const verdict = await promisify(execFile)(process.execPath, [MAIN, 'ledger', 'verify', '--json'], {
      env: this.#environment,
    }).catch((error: { stdout: string; stderr: string }) => {
      if (!error.stdout?.startsWith('{')) throw new Error(`ledger verify failed: ${error.stderr}`);
      return error;
    });
    return JSON.parse(verdict.stdout) as Verified;
  }

  /** Leaves nothing running and nothing behind. */
  async remove(): Promise<void> {
    for (const child of [this.#process, this.#twin]) if (isRunning(child)) child!.kill('SIGKILL');
    const cluster = await clusterPath(this.folder).catch(() => undefined);
    if (cluster !== undefined) {
      for (let left = await clusterProcesses(cluster); left.length > 0; left = await clusterProcesses(cluster)) {
        for (const pid of left) tell(pid, 'SIGKILL');
        await sleep(50);
      }
    }
    await rm(dirname(this.folder), { recursive: true, force: true });
  }
}
