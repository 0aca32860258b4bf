/** NDJSON answered line by line: what is wrong with a line is said in its place and stops no other. */
import { inOrder } from './ahead.ts';
import { Failure, fail } from './failure.ts';
import type { Answer, Request } from './http.ts';
import { type Lines, NDJSON } from './ndjson.ts';
import { problem } from './problem.ts';

/** What is done with the lines. */
export interface LineWork<Q, A> {
  /** Makes a question of a line's JSON. What it throws as a Failure is the answer of that line. */
  readonly read: (value: unknown) => Q;
  /** Answers the questions of a batch, in their order. */
  readonly answer: (questions: Q[]) => Promise<readonly A[]>;
  /** An answer as JSON without line feeds: a million of them pass here, and who knows the fields writes them fastest. */
  readonly write: (answer: A) => string;
}

/** The answer to a body of lines: one line each, in their order, streamed while they come. */
export const answerLines = <Q, A>(request: Request<object>, lines: Lines, work: LineWork<Q, A>): Answer => ({
  status: 200,
  body: inOrder(lines, (batch) => answerBatch(request, batch, work)),
  headers: { 'content-type': NDJSON },
});

async function answerBatch<Q, A>(
  request: Request<object>,
  lines: readonly string[],
  { read, answer, write }: LineWork<Q, A>,
): Promise<string> {
  // A sender may keep a stream open for days.
  await request.stillAdmitted();
  const answers = new Array<string>(lines.length);
  const questions: Q[] = [];
  const places: number[] = [];
  for (const [index, line] of lines.entries()) {
    try {
      questions.push(read(parse(line)));
      places.push(index);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      answers[index] = JSON.stringify({ error: problem(error, request).body });
    }
  }
  const made = questions.length === 0 ? [] : await answer(questions);
  for (const [index, one] of made.entries()) answers[places[index]!] = write(one);
  return `${answers.join('\n')}\n`;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    fail('malformed', { values: { detail: `JSON parse error - ${(error as Error).message}` } });
  }
}
