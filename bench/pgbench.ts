/** pgbench, PostgreSQL's own load generator, where it is installed: the same change without a service in between. */
import { execFile, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { CONNECTIONS, type Result } from './load.ts';

/** Where it is; undefined where it is not. */
export function findPgbench(): string | undefined {
  const places = ['pgbench'];
  try {
    for (const version of readdirSync('/usr/lib/postgresql').sort().reverse())
      places.push(`/usr/lib/postgresql/${version}/bin/pgbench`);
  } catch {
    // Not Debian.
  }
  return places.find((place) => spawnSync(place, ['--version']).status === 0);
}

/** Runs a script with as many clients as the load has connections. */
export async function pgbench(program: string, socket: string, file: string, seconds: number): Promise<Result> {
  const args = [
    '-h',
    socket,
    '-p',
    '5432',
    '-U',
    'assent_app',
    '-n',
    '-M',
    'prepared',
    '-c',
    String(CONNECTIONS),
    '-j',
    '1',
    '-T',
    String(seconds),
    '-f',
    file,
    'assent',
  ];
  const { stdout } = await promisify(execFile)(program, args);
  const rate = Number(/tps = ([\d.]+)/.exec(stdout)![1]);
  const answers = Number(/actually processed: (\d+)/.exec(stdout)![1]);
  const average = Number(/latency average = ([\d.]+)/.exec(stdout)![1]);
  return {
    rate,
    p50: average,
    p99: Number.NaN,
    answers,
    bad: Number(/failed transactions: (\d+)/.exec(stdout)?.[1] ?? 0),
  };
}
