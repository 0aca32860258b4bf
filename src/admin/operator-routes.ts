/** `/v1/operators`: who runs the installation. Making operators is for whoever sits at the machine: `assent operator create`. */
import { operator, signedInOperator } from '../accounts/callers.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { changeReason, own, pathId, problems } from '../platform/problem.ts';
import { flag, integer, object, page, text, timeOrNull } from '../platform/schema.ts';
import { keysMade } from './account-routes.ts';
import { listOperators } from './accounts.ts';
import { revokeOperator } from './acts.ts';

const schema = object(
  {
    id: { ...integer, description: 'Of the account; histories name it `operator:` and this' },
    email: text,
    first_name: text,
    last_name: text,
    is_active: flag,
    second_factor: flag,
    last_login: timeOrNull,
  },
  'Operator',
);
const example = {
  id: 1,
  email: 'operator@example.com',
  first_name: 'Grace',
  last_name: 'Demir',
  is_active: true,
  second_factor: true,
  last_login: '2026-11-21T08:00:00.000Z',
};

export const operatorRoutes: readonly Route[] = [
  route({
    dialect: own,
    who: operator('accounts'),
    tag: 'Operators',
    method: 'GET',
    path: '/v1/operators',
    operationId: 'listOperators',
    summary: 'Who runs the installation',
    description: 'New ones are made at the machine: `assent operator create`.',
    answers: {
      200: {
        description: 'All of them, those that are switched off too, in the order of their ids',
        schema: page(schema),
        example: { items: [example], next: null },
      },
      ...problems(401, 403),
    },
    run: async (ctx) => ok({ items: await listOperators(ctx), next: null }),
  }),
  route({
    dialect: own,
    who: signedInOperator,
    tag: 'Operators',
    method: 'DELETE',
    path: '/v1/operators/{id}',
    operationId: 'revokeOperator',
    summary: 'Take the role of an operator away',
    description:
      'For operators in person, and for no API key. The account stays; its sign-ins end with this call. Nobody takes their own role, nor the last operator’s. API keys they made go on working: the answer names them. `Assent-Change-Reason` goes to the history.',
    answers: {
      200: {
        description: 'The account is no operator any more',
        schema: object({ keys_made: keysMade }, 'RevokedOperator'),
        example: { keys_made: [{ id: 3, name: 'crm' }] },
      },
      ...problems(400, 401, 403, 404, 409),
    },
    async run(ctx, request) {
      const by = { name: request.actor.name, reason: changeReason(request) };
      const { keys_made } = await revokeOperator(ctx, pathId(request.params, 'id'), by);
      return ok({ keys_made });
    },
  }),
];
