import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { EngineError } from './error.ts';

/** SQLite's answer when another connection holds the lock: SQLITE_BUSY, https://sqlite.org/rescode.html#busy */
const SQLITE_BUSY = 5;

/**
 * One server per data folder. Returns the function that gives the folder free again.
 *
 * Node has no flock. A pid file needs a guess about which pid is still the same process and has a race when two
 * starts find the same stale file; a lock of the kernel has neither. Node carries one: SQLite takes `BEGIN EXCLUSIVE`
 * as an fcntl lock, which dies with the process (also by kill -9), is refused within one process too, and holds between
 * two containers that share a volume although their pids mean nothing to each other. Nothing is ever stored in the file,
 * and it stays when the lock is given back: deleting it would let a third start lock a file that nobody sees.
 * Nothing else in this process may open `lock`: closing any descriptor of a file drops its fcntl locks, so the pid
 * for the message lies in a file of its own.
 */
export function lockFolder(folder: string): () => void {
  const pidFile = join(folder, 'lock.pid');
  let lock: DatabaseSync | undefined;
  try {
    // The wait is for two starts at the same time: SQLite may refuse both at first sight, a retry lets one win.
    lock = new DatabaseSync(join(folder, 'lock'), { timeout: 500 });
    // Without the first word SQLite would keep an empty journal file beside the lock.
    lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    lock?.close();
    if ((error as { errcode?: number }).errcode === SQLITE_BUSY) throw inUse(folder, pidFile);
    throw new EngineError(
      `Assent cannot write in its data folder ${folder} (${(error as Error).message}). ` +
        `Free some space if the disk is full; otherwise make the folder writable.`,
      { cause: error },
    );
  }
  return () => {
    if (lock === undefined) return;
    rmSync(pidFile, { force: true });
    lock.close();
    lock = undefined;
  };
}

function inUse(folder: string, pidFile: string): EngineError {
  let holder = 'another process';
  try {
    const pid = readFileSync(pidFile, 'utf8').trim();
    if (pid !== '') holder = `process ${pid}`;
  } catch {
    // The holder is between its lock and its pid file, a few microseconds: the sentence is right without the number.
  }
  return new EngineError(
    `The data folder ${folder} is in use by ${holder}. One server at a time may use a data folder: ` +
      `stop that process first, or choose another folder.`,
  );
}

/**
 * The processes of PostgreSQL that work in this cluster, or that build it: children of a postmaster included, zombies
 * not. On Linux by what the kernel says (program and working folder: every PostgreSQL process stands in its cluster),
 * so neither a reused pid nor a shell that stands in the folder is mistaken for one. About 5 ms for 300 processes.
 */
export async function clusterProcesses(cluster: string): Promise<number[]> {
  if (process.platform !== 'linux') return processesByCommand(cluster);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      try {
        const program = basename((await readlink(`/proc/${pid}/exe`)).replace(/ \(deleted\)$/, ''));
        if (program !== 'postgres' && program !== 'initdb') return [];
        const standsIn = (await readlink(`/proc/${pid}/cwd`)).replace(/ \(deleted\)$/, '');
        const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
        return standsIn === cluster || words.includes(cluster) ? [Number(pid)] : [];
      } catch {
        return []; // gone meanwhile, a zombie, or another user's: another user cannot run this cluster
      }
    }),
  );
  return found.flat();
}

/** Where there is no /proc (macOS) only the postmaster can be told: its children rewrite their command line. */
async function processesByCommand(cluster: string): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-axww', '-o', 'pid=,command=']);
  return stdout
    .split('\n')
    .filter((line) => line.includes(` ${cluster} `) && /bin\/(postgres|initdb) /.test(line))
    .map((line) => Number.parseInt(line, 10));
}

/**
 * Ends what an earlier server left running in this cluster and resolves when nothing is left. Fast shutdown first
 * (clients are cut, a checkpoint is written: 10 s), then immediate shutdown, then the kernel's.
 */
export async function endLeftovers(cluster: string, log: (line: string) => void): Promise<void> {
  const steps = [
    { signal: 'SIGINT', patience: 10_000 },
    { signal: 'SIGQUIT', patience: 3_000 },
    { signal: 'SIGKILL', patience: 3_000 },
  ] as const;
  let left = await clusterProcesses(cluster);
  if (left.length > 0)
    log(`An earlier server left PostgreSQL running (process ${left.join(', ')}); stopping it first.`);
  for (const { signal, patience } of steps) {
    const postmaster = await postmasterPid(cluster);
    // SIGINT goes to the postmaster alone, it tells its children in the right order. Without one they get it directly.
    const targets = signal === 'SIGINT' && left.includes(postmaster) ? [postmaster] : left;
    for (const pid of targets) tell(pid, signal);
    for (const end = Date.now() + patience; left.length > 0 && Date.now() < end; ) {
      await sleep(20);
      left = await clusterProcesses(cluster);
    }
    if (left.length === 0) return;
  }
  throw new EngineError(
    `PostgreSQL of an earlier server still runs in ${cluster} (process ${left.join(', ')}) and does not end. ` +
      `End it by hand (kill -9 ${left.join(' ')}) and start again.`,
  );
}

/** The pid in postmaster.pid, 0 without one. */
export async function postmasterPid(cluster: string): Promise<number> {
  return Number.parseInt(await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '0'), 10) || 0;
}

/** Sends a signal; a process that has gone meanwhile is no error. */
export function tell(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
