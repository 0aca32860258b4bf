/** `POST /v1/decisions/contact`: one question as JSON, or as many as there are as NDJSON, streamed both ways. */
import Type from 'typebox';
import { operator } from '../accounts/callers.ts';
import type { Ctx } from '../platform/ctx.ts';
import { ok, type Request, type Route, route } from '../platform/http.ts';
import { answerLines } from '../platform/lines.ts';
import { checkSchema, own, problems } from '../platform/problem.ts';
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

/** The decision as JSON; its texts but the reason need no escaping. */
const line = ({ allowed, state, since, code, reason, event }: Decision): string =>
  `{"allowed":${allowed},"state":"${state}","since":${since === null ? 'null' : `"${since}"`},"code":"${code}","reason":${JSON.stringify(reason)},"event":${event === null ? 'null' : `"${event}"`}}`;

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
        return answerLines(request, body.lines, {
          read: (value) => readQuestion(ctx, value),
          answer: (questions) => decideContacts(ctx, questions, language),
          write: line,
        });
      }
      const [made] = await decideContacts(ctx, [readQuestion(ctx, body.value ?? {})], language);
      return ok(made);
    },
  }),
];
