/** `POST /v1/decisions/contact`: one question as JSON, or as many as there are as NDJSON, streamed both ways. */
import Type from 'typebox';
import { operator } from '../accounts/callers.ts';
import { inOrder } from '../platform/ahead.ts';
import type { Ctx } from '../platform/ctx.ts';
import { Failure, fail } from '../platform/failure.ts';
import { type Incoming, ok, type Request, type Route, route } from '../platform/http.ts';
import type { Language } from '../platform/language.ts';
import { checkSchema, own, problem, problems } from '../platform/problem.ts';
import { flag, object, text, textOrNull, timeOrNull } from '../platform/schema.ts';
import { type Decision, decideContacts, type Question } from './decisions.ts';
import { readSubject, subjectFields } from './subject.ts';

const question = Type.Object(subjectFields, { additionalProperties: false, title: 'ContactQuestion' });

const decision = object(
  { allowed: flag, state: text, since: timeOrNull, code: text, reason: text, event: textOrNull },
  'ContactDecision',
);

/** @throws invalid with every place that is wrong */
function readQuestion(ctx: Ctx, value: unknown): Question {
  checkSchema(question, value);
  return readSubject(ctx, value as Type.Static<typeof question>);
}

/** Answers of a batch of lines, one line each: what is wrong with a line is said in its place and stops no other. */
async function answerLines(
  ctx: Ctx,
  lines: readonly string[],
  incoming: Incoming,
  language: Language,
): Promise<string> {
  const answers = new Array<string>(lines.length);
  const questions: Question[] = [];
  const places: number[] = [];
  for (const [index, line] of lines.entries()) {
    try {
      questions.push(readQuestion(ctx, parse(line)));
      places.push(index);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      answers[index] = JSON.stringify({ error: problem(error, incoming).body });
    }
  }
  const decisions = questions.length === 0 ? [] : await decideContacts(ctx, questions, language);
  for (const [index, made] of decisions.entries()) answers[places[index]!] = line(made);
  return `${answers.join('\n')}\n`;
}

/** The decision as JSON; its texts but the reason need no escaping. */
const line = ({ allowed, state, since, code, reason, event }: Decision): string =>
  `{"allowed":${allowed},"state":"${state}","since":${since === null ? 'null' : `"${since}"`},"code":"${code}","reason":${JSON.stringify(reason)},"event":${event === null ? 'null' : `"${event}"`}}`;

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    fail('malformed', { values: { detail: `JSON parse error - ${(error as Error).message}` } });
  }
}

export const decisionRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/decisions/contact',
    dialect: own,
    who: operator('decisions'),
    tag: 'Decisions',
    operationId: 'decideContact',
    summary: 'May we contact this person, on this channel, now?',
    description:
      'As NDJSON one question a line and one answer a line, in the same order, for as many as there are: read while you send. A line that cannot be answered has `error` instead, and stops no other.',
    reads: ['json', 'ndjson'],
    body: {
      required: true,
      schema: question,
      example: { recipient: '+905321234567', channel: 'sms', purpose: 'marketing' },
    },
    answers: {
      200: {
        description: 'The decision, with the line of the ledger that decides',
        schema: decision,
        example: {
          allowed: false,
          state: 'withdrawn',
          since: '2026-11-21T08:00:00.000Z',
          code: 'withdrawn',
          reason: 'Taken back on 2026-11-21 08:00 UTC, by the account.',
          event: '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a',
        },
      },
      ...problems(400, 401, 403, 413, 415),
    },
    async run(ctx: Ctx, request: Request<{ caller?: string }>) {
      const { body, language } = request;
      if (body.kind === 'ndjson') {
        const work = (lines: string[]): Promise<string> => answerLines(ctx, lines, request, language);
        return { status: 200, body: inOrder(body.lines, work), headers: { 'content-type': 'application/x-ndjson' } };
      }
      const [made] = await decideContacts(ctx, [readQuestion(ctx, body.value ?? {})], language);
      return ok(made);
    },
  }),
];
