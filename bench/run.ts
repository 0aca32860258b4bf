/** `npm run bench -- NAME [options]`: each benchmark prints medians and the ratios of one run. */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

interface Benchmark {
  load(): Promise<{ run(args: string[]): Promise<void> }>;
  /**
   * Ratios compare servers, so the server gets a core of its own; this process, the database and the load share the other.
   * Rows a second are what a machine does: there the kernel deals out the cores, as it does for a shop.
   */
  readonly divided: boolean;
}

const benchmarks: Record<string, Benchmark> = {
  profile: { load: () => import('./profile.ts'), divided: true },
  decisions: { load: () => import('./decisions.ts'), divided: false },
  staff: { load: () => import('./staff.ts'), divided: true },
  'staff-decisions': { load: () => import('./staff-decisions.ts'), divided: false },
};

const [name, ...args] = process.argv.slice(2);
const benchmark = name === undefined ? undefined : benchmarks[name];
if (benchmark === undefined) {
  process.stderr.write(`usage: npm run bench -- NAME\nbenchmarks: ${Object.keys(benchmarks).join(', ')}\n`);
  process.exit(2);
}

const pinned = process.env['ASSENT_BENCH_PINNED'] !== undefined;
if (benchmark.divided && process.platform === 'linux' && availableParallelism() > 1 && !pinned) {
  const again = spawnSync('taskset', ['-c', '1', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, ASSENT_BENCH_PINNED: '1' },
  });
  if (again.error === undefined) process.exit(again.status ?? 1);
  process.stderr.write('taskset is missing: cores are shared, ratios will be noisier\n');
}
await (await benchmark.load()).run(args);
