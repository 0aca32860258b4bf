/**
 * `npm run test:guides`: runs the shell blocks of the guides against a demo shop and compares what they print with the
 * blocks that follow them (`…` stands for anything). Needs bash and curl.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MARK = '--- end of block ---';
const folder = new URL('../docs/guides', import.meta.url).pathname;
const blocks = /```(\w*)\n([\s\S]*?)```/g;

interface Step {
  readonly script: string;
  /** What the guide says it prints; undefined when it does not say. */
  readonly expected: string | undefined;
}

function steps(text: string): Step[] {
  const all = [...text.matchAll(blocks)].map(([, language, body]) => ({ language, body: body! }));
  return all.flatMap(({ language, body }, index) => {
    if (language !== 'sh') return [];
    const next = all[index + 1];
    return [
      {
        script: body,
        expected: next !== undefined && next.language !== 'sh' && next.language !== '' ? next.body.trim() : undefined,
      },
    ];
  });
}

const pattern = (text: string): RegExp =>
  new RegExp(
    `^${text
      .split('…')
      .map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('[\\s\\S]*')}$`,
  );

async function start(): Promise<{ child: ChildProcess; url: string; data: string }> {
  const data = join(tmpdir(), `assent-guides-${process.pid}`);
  const child = spawn(process.execPath, ['src/main.ts', 'serve', '--demo'], {
    env: { ...process.env, PORT: '0', DATA_DIR: data, LOG_LEVEL: 'warn' },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const url = await new Promise<string>((resolve, reject) => {
    let said = '';
    child.stderr!.on('data', (chunk) => {
      said += String(chunk);
      const ready = /ready: (\S+)/.exec(said)?.[1];
      if (ready !== undefined) resolve(ready);
    });
    child.once('exit', () => reject(new Error(`the service did not start:\n${said}`)));
  });
  return { child, url, data };
}

const { child, url, data } = await start();
let [passed, failed] = [0, 0];
try {
  for (const guide of readdirSync(folder).sort()) {
    const all = steps(readFileSync(join(folder, guide), 'utf8'));
    // One shell for the whole guide, as a reader would have; a line of its own ends what each block prints.
    const script = all
      .map((step) => `${step.script}\nprintf '\\n%s\\n' '${MARK}'`)
      .join('\n')
      .replaceAll('http://127.0.0.1:8080', url);
    const { stdout, stderr } = spawnSync('bash', ['-euo', 'pipefail', '-c', script], {
      encoding: 'utf8',
      timeout: 60_000,
      // Commands of a guide work on the shop that is running.
      env: { ...process.env, DATA_DIR: data },
    });
    const printed = stdout.split(`\n${MARK}\n`);
    for (const [index, { script: block, expected }] of all.entries()) {
      const text = printed[index]?.trim();
      // The part behind the last mark belongs to a block that did not come to its end.
      const good = index < printed.length - 1 && (expected === undefined || pattern(expected).test(text ?? ''));
      if (good) passed += 1;
      else failed += 1;
      if (!good)
        process.stdout.write(
          `${guide}: this block\n${block}\nprinted\n${text ?? '(nothing: a block before failed)'}\n${stderr}\nexpected\n${expected ?? '(no failure)'}\n\n`,
        );
    }
  }
} finally {
  child.kill('SIGTERM');
  await once(child, 'exit');
  rmSync(data, { recursive: true, force: true });
}
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
