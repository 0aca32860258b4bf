/** `npm run check`: types, format and lint, dead code, rules of the house. Everything runs, then what failed is shown. */
import { spawn } from 'node:child_process';
import { delimiter, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const bin = join(root, 'node_modules', '.bin');

const steps: readonly { readonly name: string; readonly command: readonly [string, ...string[]] }[] = [
  { name: 'types', command: ['tsc'] },
  { name: 'format and lint', command: ['biome', 'ci', '.', '--colors=off', '--max-diagnostics=50'] },
  { name: 'dead code', command: ['knip', '--no-progress'] },
  { name: 'generated pages', command: ['node', 'scripts/docs.ts', '--check'] },
  { name: 'rules of the house', command: ['vitest', 'run', 'test/house.test.ts', '--reporter=dot'] },
];

interface Outcome {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  readonly output: string;
}

/** Runs one step. What it prints is kept: it matters only when it failed. */
function run({ name, command: [program, ...args] }: (typeof steps)[number]): Promise<Outcome> {
  const started = performance.now();
  return new Promise((resolve) => {
    // The tools' own folder first: it also holds the Node that the project brings along.
    const env = { ...process.env, PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` };
    const child = spawn(program, args, { cwd: root, env, shell: process.platform === 'win32' });
    let output = '';
    const keep = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const end = (ok: boolean): void => resolve({ name, ok, seconds: (performance.now() - started) / 1000, output });
    child.on('error', (error) => {
      output += `${program}: ${error.message}\n`;
      end(false);
    });
    child.on('close', (code) => end(code === 0));
  });
}

const outcomes: Outcome[] = [];
for (const step of steps) {
  const outcome = await run(step);
  outcomes.push(outcome);
  process.stdout.write(
    `${outcome.ok ? 'ok  ' : 'FAIL'}  ${outcome.name.padEnd(20)} ${outcome.seconds.toFixed(1).padStart(5)} s\n`,
  );
}

const failed = outcomes.filter(({ ok }) => !ok);
for (const { name, output } of failed) process.stdout.write(`\n── ${name} ──\n${output.trim()}\n`);
const total = outcomes.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1);
process.stdout.write(
  failed.length === 0
    ? `\nAll of it holds, in ${total} s.\n`
    : `\nFailed: ${failed.map(({ name }) => name).join(', ')}. ${total} s.\n`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
