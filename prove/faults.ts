/**
 * The tests of consent, rights and sign-in can fail: each fault of test/faults/ is planted into a copy of the tree, and the
 * tests that name its rule must turn red. The copy lies in a temporary folder; the working tree is only read.
 */
import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const root = resolve(import.meta.dirname, '..');
const tables = ['consent.json', 'staff.json'];
const parts = ['src', 'test', 'migrations', 'package.json', 'tsconfig.json', 'vitest.config.ts'];

interface Fault {
  readonly name: string;
  readonly file: string;
  /** Text that stands once in the file. */
  readonly search: string;
  readonly replacement: string;
  readonly tests: readonly string[];
  /** Which of their tests, by name; absent: all. */
  readonly only?: string;
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);

interface Report {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** Runs tests in the copy. A file that cannot even be loaded is no red test: it throws. */
async function runTests(
  folder: string,
  { tests, only }: Pick<Fault, 'tests' | 'only'>,
  bail: boolean,
): Promise<Report> {
  const file = join(folder, 'report.json');
  await rm(file, { force: true });
  const bin = join(root, 'node_modules', '.bin');
  const args = ['run', ...tests, '--reporter=json', `--outputFile=${file}`];
  if (only !== undefined) args.push('--testNamePattern', `^${only}\\b`);
  if (bail) args.push('--bail=1');
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` };
  await new Promise<void>((done, failed) => {
    const child = spawn(join(bin, 'vitest'), args, { cwd: folder, env, stdio: 'ignore' });
    child.on('error', failed);
    child.on('close', () => done());
  });
  const report = JSON.parse(await readFile(file, 'utf8')) as Report;
  if (report.testResults.some(({ assertionResults }) => assertionResults.length === 0))
    throw new Error(`${tests.join(' ')} could not be loaded`);
  if (report.numPassedTests + report.numFailedTests === 0)
    throw new Error(`no test of ${tests.join(' ')} begins with ${only}`);
  return report;
}

async function plant(folder: string, { name, file, search, replacement }: Fault): Promise<() => Promise<void>> {
  const path = join(folder, file);
  const text = await readFile(path, 'utf8');
  if (text.split(search).length !== 2) throw new Error(`${name}: its text does not stand exactly once in ${file}`);
  await writeFile(
    path,
    text.replace(search, () => replacement),
  );
  return () => writeFile(path, text);
}

export async function run(argv: string[]): Promise<void> {
  const { values } = parseArgs({ args: argv, options: { only: { type: 'string' } } });
  const table = (
    await Promise.all(
      tables.map(async (name) => JSON.parse(await readFile(join(root, 'test/faults', name), 'utf8')) as Fault[]),
    )
  ).flat();
  const faults = table.filter(({ name }) => values.only === undefined || name.includes(values.only));
  const folder = await mkdtemp(join(tmpdir(), 'assent-faults-'));
  let missed = 0;
  try {
    for (const part of parts) await cp(join(root, part), join(folder, part), { recursive: true });
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
    // The code may have moved on under the table: said before anything is run.
    for (const fault of faults) await (await plant(folder, fault))();
    // Red means something only where the tests are green without the fault.
    const all = await runTests(folder, { tests: [...new Set(faults.flatMap(({ tests }) => tests))] }, false);
    const broken = all.testResults.flatMap(({ assertionResults }) =>
      assertionResults.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName),
    );
    if (broken.length > 0) throw new Error(`these fail without any fault:\n${broken.join('\n')}`);
    print(`without a fault: ${all.numPassedTests} tests pass`);
    for (const fault of faults) {
      const heal = await plant(folder, fault);
      const report = await runTests(folder, fault, true);
      await heal();
      if (report.numFailedTests === 0) missed += 1;
      print(`${report.numFailedTests > 0 ? 'caught' : 'MISSED'}  ${fault.name}`);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  print(`\n${faults.length - missed} of ${faults.length} planted faults were caught.`);
  if (missed > 0) process.exitCode = 1;
}
