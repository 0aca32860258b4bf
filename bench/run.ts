/** `npm run bench -- NAME [options]`: each benchmark prints medians and the ratios of one run. */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

const benchmarks: Record<string, () => Promise<{ run(args: string[]): Promise<void> }>> = {
  profile: () => import('./profile.ts'),
  decisions: () => import('./decisions.ts'),
  staff: () => import('./staff.ts'),
  'staff-decisions': () => import('./staff-decisions.ts'),
};

const [name, ...args] = process.argv.slice(2);
const load = name === undefined ? undefined : benchmarks[name];
if (load === undefined) {
  process.stderr.write(`usage: npm run bench -- NAME\nbenchmarks: ${Object.keys(benchmarks).join(', ')}\n`);
  process.exit(2);
}

// The server gets a core of its own; this process, the database and the load share the other.
if (process.platform === 'linux' && availableParallelism() > 1 && process.env['ASSENT_BENCH_PINNED'] === undefined) {
  const again = spawnSync('taskset', ['-c', '1', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, ASSENT_BENCH_PINNED: '1' },
  });
  if (again.error === undefined) process.exit(again.status ?? 1);
  process.stderr.write('taskset is missing: cores are shared, ratios will be noisier\n');
}
await (await load()).run(args);
