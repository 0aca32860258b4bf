/** Decisions about colleagues: asked by programs with a key, and by reverse proxies with what the browser sent them. */
import Type from 'typebox';
import { foldEmail } from '../../accounts/accounts.ts';
import { type Customer, colleague, operator } from '../../accounts/callers.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { email as emailKind } from '../../platform/drf.ts';
import { fail, refuse } from '../../platform/failure.ts';
import { type Dialect, empty, ok, type Request, type Route, route } from '../../platform/http.ts';
import { answerLines } from '../../platform/lines.ts';
import { checkSchema, own, problems, queryInteger, queryText } from '../../platform/problem.ts';
import { flag, object, text, textOrNull, timeOrNull } from '../../platform/schema.ts';
import { type Permission, permissionKeys } from '../permissions.ts';
import { decideColleague, decideStaff, type StaffDecision, type StaffQuestion } from './decisions.ts';

const MAX = Number.MAX_SAFE_INTEGER;
const id = (description: string) => Type.Integer({ minimum: 1, maximum: MAX, description });

const question = Type.Object(
  {
    account: Type.Optional(id('Id of the account of the colleague')),
    email: Type.Optional(
      Type.String({ minLength: 3, maxLength: 254, description: 'Instead of an account: its address' }),
    ),
    company: Type.Optional(id('The shop must be one of this company; when absent, any shop may be asked about')),
    shop: id('Id of the shop'),
    permission: Type.Enum([...permissionKeys]),
  },
  { additionalProperties: false, title: 'StaffQuestion' },
);

const decision = object(
  {
    allowed: flag,
    code: text,
    reason: text,
    entry: { type: ['integer', 'null'] },
    event: textOrNull,
    until: timeOrNull,
  },
  'StaffDecision',
);

/** @throws invalid with every place that is wrong */
function readQuestion(value: unknown): StaffQuestion {
  checkSchema(question, value);
  const { account = null, email, company = null, shop, permission } = value as Type.Static<typeof question>;
  if ((account === null) === (email === undefined)) refuse({ path: ['account'], key: 'staff.who' });
  return { account, email: email === undefined ? null : readEmail(email), company, shop, permission };
}

function readEmail(value: string): string {
  // Of a line nobody has looked for these yet; the database takes no NUL.
  const whole = value.isWellFormed() && !value.includes('\0');
  const reading = whole ? emailKind.read(value, false) : { problem: 'field.email' };
  if ('problem' in reading) refuse({ path: ['email'], key: reading.problem });
  return foldEmail(reading.value);
}

/** The decision as JSON; its texts but the reason need no escaping. */
const line = ({ allowed, code, reason, entry, event, until }: StaffDecision): string =>
  `{"allowed":${allowed},"code":"${code}","reason":${JSON.stringify(reason)},"entry":${entry},"event":${quoted(event)},"until":${quoted(until)}}`;

const quoted = (text: string | null): string => (text === null ? 'null' : `"${text}"`);

/** A proxy passes on what the browser wants of the back office: pictures, styles. What we answer is for the proxy. */
const toProxies: Dialect = {
  ...own,
  accept() {},
  headers: (incoming) => ({ ...own.headers(incoming), 'cache-control': 'no-store' }),
};

/** A query parameter that must be there. @throws invalid */
const needed = <T>(name: string, value: T | undefined): T => value ?? refuse({ path: [name], key: 'field.required' });

/** What a proxy asks, about whoever is calling. @throws invalid, also for a parameter that is given twice: proxies differ in which they mean */
function readQuery({ query, actor }: Request<Customer>): StaffQuestion {
  return {
    account: actor.account.id,
    email: null,
    company: queryInteger(query, 'company', 1, MAX) ?? null,
    shop: needed('shop', queryInteger(query, 'shop', 1, MAX)),
    permission: needed('permission', queryText(query, 'permission', permissionKeys)) as Permission,
  };
}

export const staffDecisionRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/decisions/staff',
    dialect: own,
    who: operator('decisions'),
    tag: 'Decisions',
    operationId: 'decideStaff',
    summary: 'May this colleague do this, in this shop, now?',
    description:
      'As NDJSON one question a line and one answer a line, in the same order, for as many as there are: read while you send. A line that cannot be answered has `error` instead, and stops no other. Answers are not to be kept: a right can be lifted in the next moment.',
    reads: ['json', 'ndjson'],
    body: {
      required: true,
      schema: question,
      example: { account: 1043, company: 15, shop: 11, permission: 'products' },
    },
    answers: {
      200: {
        description: 'The decision, with the entry and the line of the history that gave the right',
        schema: decision,
        example: {
          allowed: true,
          code: 'held',
          reason: 'Holds products in shop 11, given on 2026-11-21 08:00 UTC.',
          entry: 17,
          event: '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a',
          until: null,
        },
      },
      ...problems(400, 401, 403, 413, 415),
    },
    async run(ctx: Ctx, request: Request<{ caller?: string }>) {
      const { body, language } = request;
      if (body.kind === 'ndjson') {
        return answerLines(request, body.lines, {
          read: readQuestion,
          answer: (questions) => decideStaff(ctx, questions, language),
          write: line,
        });
      }
      return ok(await decideColleague(ctx, readQuestion(body.value ?? {}), language));
    },
  }),
  route({
    method: 'GET',
    path: '/v1/decisions/forward-auth',
    dialect: toProxies,
    who: colleague,
    tag: 'Decisions',
    operationId: 'forwardAuth',
    summary: 'May whoever is calling do this, in this shop, now? For reverse proxies',
    description:
      'For `auth_request` of nginx, ForwardAuth of Traefik, `forward_auth` of Caddy and the like: the proxy sends the caller’s Authorization header or cookies along. `Accept` and any body are not looked at.',
    anyBody: true,
    query: {
      permission: { description: 'The permission that is needed', schema: { type: 'string', enum: permissionKeys } },
      shop: { description: 'Id of the shop', schema: { type: 'integer', minimum: 1 } },
      company: { description: 'The shop must be one of this company', schema: { type: 'integer', minimum: 1 } },
    },
    answers: {
      204: {
        description:
          'Allowed. The headers say by what: `Assent-Account`, `Assent-Entry`, `Assent-Event`, and `Assent-Until` of a right that ends; without entry or line they are absent',
      },
      ...problems(400, 401, 403),
    },
    async run(ctx, request) {
      const asked = readQuery(request);
      const { allowed, code, reason, entry, event, until } = await decideColleague(ctx, asked, request.language);
      if (!allowed) fail('not_allowed', { values: { reason }, headers: { 'assent-reason': code } });
      return empty(204, {
        'assent-account': String(asked.account),
        ...(entry === null ? {} : { 'assent-entry': String(entry) }),
        ...(event === null ? {} : { 'assent-event': event }),
        ...(until === null ? {} : { 'assent-until': until }),
      });
    },
  }),
];
