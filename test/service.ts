/** The service as people run it: another process, started by a command, known by what it prints. */
import { type ChildProcess, spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { clusterPath } from '../src/platform/engine/cluster.ts';

export interface Options {
  readonly cwd: string;
  readonly env?: Record<string, string>;
}

/** A process that ended. */
export interface Ended {
  readonly code: number | null;
  /** Both of its outputs, in the order they came. */
  readonly output: string;
}

export interface Service {
  /** The address it said it is ready at. */
  readonly url: string;
  /** Sends SIGTERM and waits for the end. */
  stop(): Promise<Ended>;
}

/** How long a command may take before it is taken for hanging. */
const PATIENCE = 300_000;
/** How long a child may outlive the command that started it. */
const FORGOTTEN = 15_000;

/** What a fresh shell has: nothing of npm, of this checkout, or of a database somebody else uses. */
function freshEnvironment(more: Record<string, string>): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    ([name]) =>
      !/^(npm_(package|lifecycle|command|execpath|node_execpath|config_local_prefix)|INIT_CWD|NODE_ENV$|VITEST|PG|DATABASE_(OWNER_)?URL$|DATA_DIR$|SECRET_KEY$)/.test(
        name,
      ),
  );
  const path = process.env['PATH']!.split(':').filter((folder) => !folder.includes('node_modules'));
  return { ...(Object.fromEntries(kept) as Record<string, string>), PATH: path.join(':'), ...more };
}

function launch(command: string, words: readonly string[], { cwd, env = {} }: Options) {
  // A group of its own, so that nothing it started can outlive it, or us.
  const child = spawn(command, words, {
    cwd,
    env: freshEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const tellGroup = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // All have gone.
    }
  };
  const lastOrder = (): void => tellGroup('SIGTERM');
  process.once('exit', lastOrder);
  let output = '';
  const listeners: (() => void)[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      for (const listener of listeners) listener();
    });
  }
  let deadline = setTimeout(() => tellGroup('SIGKILL'), PATIENCE);
  const ended = new Promise<Ended>((done, failed) => {
    child.once('error', failed);
    child.once('exit', () => {
      // What holds its outputs open now is a child that it forgot.
      clearTimeout(deadline);
      deadline = setTimeout(lastOrder, FORGOTTEN);
    });
    child.once('close', (code) => {
      clearTimeout(deadline);
      process.off('exit', lastOrder);
      done({ code, output });
    });
  });
  return {
    child: child as ChildProcess,
    ended,
    /** It may run as long as it likes now. */
    unlimited: () => clearTimeout(deadline),
    read: () => output,
    onOutput: (listener: () => void) => listeners.push(listener),
  };
}

/** Runs a command to its end. */
export const run = (command: string, words: readonly string[], options: Options): Promise<Ended> =>
  launch(command, words, options).ended;

/** Starts a command and waits until it says that Assent is ready. @throws Error with its output when it ends instead */
export async function start(command: string, words: readonly string[], options: Options): Promise<Service> {
  const { child, ended, unlimited, read, onOutput } = launch(command, words, options);
  const url = await new Promise<string>((done, failed) => {
    const look = (): void => {
      const [, address] = /Assent is ready: (\S+)/.exec(read()) ?? [];
      if (address !== undefined) done(address);
    };
    onOutput(look);
    ended.then(
      ({ code, output }) => failed(new Error(`${command} ended with ${code} before it was ready:\n${output}`)),
      failed,
    );
  });
  unlimited();
  return {
    url,
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

/** Removes a data folder, and the cluster of it that lies elsewhere because a closed folder kept PostgreSQL's user out. */
export async function removeData(folder: string): Promise<void> {
  const cluster = await clusterPath(folder);
  if (cluster !== undefined && !cluster.startsWith(`${folder}/`))
    await rm(dirname(cluster), { recursive: true, force: true });
  await rm(folder, { recursive: true, force: true });
}
