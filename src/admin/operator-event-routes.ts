/** The history of operators over HTTP: of one account, and all of it. */
import { operator } from '../accounts/callers.ts';
import { listOperatorEvents, type OperatorEventKind, operatorEventKinds } from '../accounts/operator-events.ts';
import { fail } from '../platform/failure.ts';
import { type Incoming, ok, type Route, route } from '../platform/http.ts';
import { own, pathId, problems, queryInteger, queryText } from '../platform/problem.ts';
import { object, page, text, textOrNull, time } from '../platform/schema.ts';
import { accountExists } from './accounts.ts';

const eventSchema = object(
  {
    id: text,
    at: time,
    actor: { ...text, description: '`operator:1`, `key:3`, `command`' },
    kind: { type: 'string', enum: operatorEventKinds },
    account: { type: ['integer', 'null'], description: 'Whom it was done to; the id stays when they are erased' },
    subject: { ...textOrNull, description: 'Id of a client, name of a key, or an issuer' },
    detail: { type: 'object', description: 'What was before and after' },
    reason: textOrNull,
  },
  'OperatorEvent',
);
const example = {
  id: '019aa5c1-6f00-7000-8000-0123456789ab',
  at: '2026-11-21T08:00:00.000Z',
  actor: 'operator:1',
  kind: 'account_off',
  account: 1042,
  subject: null,
  detail: { before: { active: true }, after: { active: false }, sign_ins: 3, unmanaged_companies: [] },
  reason: 'The phone was stolen',
};

const paging = {
  kind: { description: 'Of this kind', schema: { type: 'string', enum: operatorEventKinds } },
  after: { description: '`next` of the page before', schema: { type: 'string', format: 'uuid' } },
  limit: { description: 'Lines a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
};
const pageAsked = ({
  query,
}: Incoming): { kind: OperatorEventKind | undefined; after: string | undefined; limit: number } => ({
  kind: queryText(query, 'kind', operatorEventKinds) as OperatorEventKind | undefined,
  after: queryText(query, 'after'),
  limit: queryInteger(query, 'limit', 1, 500) ?? 50,
});

const common = { dialect: own, method: 'GET' } as const;
const answer = {
  200: { description: 'A page, newest first', schema: page(eventSchema), example: { items: [example], next: null } },
};

export const operatorEventRoutes: readonly Route[] = [
  route({
    ...common,
    who: operator('accounts'),
    tag: 'Accounts',
    path: '/v1/accounts/{id}/history',
    operationId: 'listAccountHistory',
    summary: 'What operators did with an account, newest first',
    description: 'Lines are never changed and never removed: those of an erased account are still there.',
    query: paging,
    answers: { ...answer, ...problems(400, 401, 403, 404) },
    async run(ctx, request) {
      const account = pathId(request.params, 'id');
      const found = await listOperatorEvents(ctx, { ...pageAsked(request), account });
      if (found.items.length === 0 && !(await accountExists(ctx, account))) fail('not_found');
      return ok(found);
    },
  }),
  route({
    ...common,
    who: operator('operator_events'),
    tag: 'Operators',
    path: '/v1/operator-events',
    operationId: 'listOperatorEvents',
    summary:
      'What operators, their programs and the commands did with accounts, clients, keys and each other, newest first',
    description: 'Lines are never changed and never removed. Changes of settings have a history of their own.',
    query: {
      ...paging,
      subject: { description: 'About this client, key or issuer', schema: { type: 'string' } },
    },
    answers: { ...answer, ...problems(400, 401, 403) },
    run: async (ctx, request) =>
      ok(await listOperatorEvents(ctx, { ...pageAsked(request), subject: queryText(request.query, 'subject') })),
  }),
];
