/** `/v1/keys`: API keys over HTTP. */
import Type from 'typebox';
import { apiScopes, operator, signedInOperator } from '../accounts/callers.ts';
import { empty, ok, type Route, route } from '../platform/http.ts';
import { changeReason, own, pathId, problems, queryInteger, readBody } from '../platform/problem.ts';
import { integer, object, page, text, time, timeOrNull } from '../platform/schema.ts';
import { reason } from '../staff/requests.ts';
import { createApiKey, listApiKeys, revokeApiKey } from './keys.ts';

const properties = {
  id: { ...integer, description: 'Histories name it `key:` and this' },
  name: text,
  scopes: { type: 'array', items: text, description: '`*` holds all' },
  created_at: time,
  created_by: { ...text, description: '`operator:1` or `command`' },
  revoked_at: timeOrNull,
};
const example = {
  id: 3,
  name: 'crm',
  scopes: ['consents', 'decisions'],
  created_at: '2026-11-21T08:00:00.000Z',
  created_by: 'operator:1',
  revoked_at: null,
};

export const KEY_NAME = 200;
const newKey = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: KEY_NAME, pattern: '\\S' }),
    scopes: Type.Array(Type.Union(apiScopes.map((scope) => Type.Literal(scope))), { minItems: 1, uniqueItems: true }),
    reason,
  },
  { additionalProperties: false, title: 'NewApiKey' },
);

const here = { dialect: own, who: operator('keys'), tag: 'API keys' } as const;

export const keyRoutes: readonly Route[] = [
  route({
    ...here,
    method: 'GET',
    path: '/v1/keys',
    operationId: 'listApiKeys',
    summary: 'API keys, revoked ones too, without the key itself',
    query: {
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: { description: 'Keys a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: {
        description: 'A page, newest first',
        schema: page(object(properties, 'ApiKey')),
        example: { items: [example], next: null },
      },
      ...problems(400, 401, 403),
    },
    run: async (ctx, { query }) =>
      ok(
        await listApiKeys(ctx, {
          after: queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER) ?? null,
          limit: queryInteger(query, 'limit', 1, 500) ?? 50,
        }),
      ),
  }),
  route({
    ...here,
    who: signedInOperator,
    method: 'POST',
    path: '/v1/keys',
    operationId: 'createApiKey',
    summary: 'Make an API key',
    description:
      'The answer shows the key, and nothing shows it again. For operators in person: no key makes another, or it could make itself a stronger one. The scope `*`, which holds those of later releases too, is given by `assent key create` only.',
    body: { required: true, schema: newKey, example: { name: example.name, scopes: example.scopes } },
    answers: {
      201: {
        description: 'The key',
        schema: object({ ...properties, key: { ...text, description: 'For `Authorization: Bearer`' } }, 'MadeApiKey'),
        example: { ...example, key: 'assent_…' },
      },
      ...problems(400, 401, 403, 409, 413, 415),
    },
    async run(ctx, { actor, body }) {
      const { reason: why, ...wish } = readBody(newKey, body);
      return { status: 201, body: await createApiKey(ctx, wish, { name: actor.name, reason: why }) };
    },
  }),
  route({
    ...here,
    method: 'DELETE',
    path: '/v1/keys/{id}',
    operationId: 'revokeApiKey',
    summary: 'Revoke an API key',
    description:
      'For good: with this call no process takes it any more. It stays in the list, and its name is free again. `Assent-Change-Reason` goes to the history.',
    answers: { 204: { description: 'It does not work any more' }, ...problems(400, 401, 403, 404) },
    async run(ctx, request) {
      const by = { name: request.actor.name, reason: changeReason(request) };
      await revokeApiKey(ctx, pathId(request.params, 'id'), by);
      return empty(204);
    },
  }),
];
