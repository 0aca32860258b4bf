/** What benchmarks of decisions share: questions through one connection as NDJSON, checked in a first round, then measured. */
import { request } from 'node:http';
import { cpus } from 'node:os';
import { median, say } from './bed.ts';

/** Questions a second that are asked for: see the README. */
const GOAL = 50_000;

export interface Asking {
  readonly origin: string;
  readonly path: string;
  readonly key: string;
}

interface Run {
  readonly seconds: number;
  readonly lines: number;
  readonly answers: string[];
}

/** Sends all questions through one connection, reading while sending. */
function ask({ origin, path, key }: Asking, questions: readonly string[], keep: boolean): Promise<Run> {
  const pieces: Buffer[] = [];
  for (let i = 0; i < questions.length; i += 500)
    pieces.push(Buffer.from(`${questions.slice(i, i + 500).join('\n')}\n`));
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const sent = request(`${origin}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/x-ndjson' },
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      let lines = 0;
      const kept: Buffer[] = [];
      response.on('data', (chunk: Buffer) => {
        for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines += 1;
        if (keep) kept.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) reject(new Error(`answered ${response.statusCode}`));
        const answers = keep ? Buffer.concat(kept).toString().trimEnd().split('\n') : [];
        resolve({ seconds: (performance.now() - begun) / 1000, lines, answers });
      });
    });
    let next = 0;
    const send = (): void => {
      while (next < pieces.length) if (!sent.write(pieces[next++])) return void sent.once('drain', send);
      sent.end();
    };
    send();
  });
}

/** One way to ask the same. */
export interface Kind<Q> {
  readonly name: string;
  write(question: Q): string;
}

/**
 * Measures each kind of question in turn, `rounds` times, and prints the medians.
 * @param make questions of one round
 * @param check throws when an answer is wrong
 * @param about what there is, for the heading
 */
export async function measure<Q>(
  asking: Asking,
  options: {
    readonly kinds: readonly Kind<Q>[];
    readonly rounds: number;
    readonly make: () => Q[];
    readonly check: (questions: readonly Q[], answers: readonly string[]) => Promise<void>;
    readonly about: string;
  },
): Promise<void> {
  const { kinds, rounds, make, check, about } = options;
  const rates = new Map<string, number[]>(kinds.map(({ name }) => [name, []]));
  let count = 0;
  for (let round = 0; round <= rounds; round += 1) {
    for (const { name, write } of kinds) {
      const questions = make();
      count = questions.length;
      const { seconds, lines, answers } = await ask(asking, questions.map(write), round === 0);
      if (lines !== count) throw new Error(`${count} questions, ${lines} answers`);
      // The first round is unmeasured: code is compiled, pages are in memory, and every answer is checked.
      if (round === 0) await check(questions, answers);
      else rates.get(name)!.push(count / seconds);
    }
  }
  say(
    `\n${cpus().length} × ${cpus()[0]!.model}, Node ${process.versions.node}, PostgreSQL 18 embedded, ${about}, ${rounds} × ${count} questions\n`,
  );
  for (const [name, all] of rates) {
    const rate = median(all);
    say(
      `by ${name.padEnd(12)} ${rate.toFixed(0).padStart(8)} rows/s   goal ${GOAL}: ${rate >= GOAL ? 'reached' : 'missed'}`,
    );
  }
}
