/** Webhooks over HTTP: endpoints, their secrets, and what became of each message. */

import { operator } from '../accounts/callers.ts';

import { fail, refuse } from '../platform/failure.ts';
import { empty, ok, type Route, route } from '../platform/http.ts';
import { own, pathId, problems, queryInteger, queryText, readBody } from '../platform/problem.ts';
import { integer, object, page } from '../platform/schema.ts';
import {
  changeEndpoint,
  createEndpoint,
  deleteEndpoint,
  listEndpoints,
  readEndpoint,
  rotateSecret,
} from './endpoints.ts';
import { listMessages, readMessage, resendFailed, resendMessage, sendTest, statuses } from './messages.ts';
import {
  endpointChange,
  endpointExample,
  endpointSchema,
  historyExample,
  historySchema,
  messageExample,
  messageSchema,
  newEndpoint,
  newEndpointSchema,
  resending,
  rotation,
  secretExample,
  secretSchema,
} from './shapes.ts';
import { webhookTypes } from './types.ts';

const DAY = 86_400;

/** The id of a message in a path. @throws not_found: what is no id names nothing */
const messageId = ({ message = '' }: Readonly<Record<string, string>>): string =>
  /^msg_[0-9a-f]{32}$/.test(message) ? message : fail('not_found');

const here = { dialect: own, who: operator('webhooks'), tag: 'Webhooks' } as const;

export const webhookRoutes: readonly Route[] = [
  route({
    ...here,
    method: 'GET',
    path: '/v1/webhooks',
    operationId: 'listWebhooks',
    summary: 'All endpoints',
    answers: {
      200: {
        description: 'Endpoints, in the order they were made',
        schema: page(endpointSchema),
        example: { items: [endpointExample], next: null },
      },
      ...problems(401, 403),
    },
    run: async (ctx) => ok({ items: await listEndpoints(ctx), next: null }),
  }),
  route({
    ...here,
    method: 'POST',
    path: '/v1/webhooks',
    operationId: 'createWebhook',
    summary: 'Have an endpoint told of changes',
    description: `Signed as Standard Webhooks says; the secret is shown in this answer and never again. It is told of what happens from now on, at least once each: repetitions carry the same \`webhook-id\`. The order may differ from that of the events. \`types\`: ${webhookTypes.map((type) => `\`${type}\``).join(', ')}; null or absent: all, also those of later releases. An https address of the open internet, unless WEBHOOK_PRIVATE_ADDRESSES is set.`,
    body: {
      required: true,
      schema: newEndpoint,
      example: {
        url: endpointExample.url,
        types: endpointExample.types,
        description: endpointExample.description,
      },
    },
    answers: {
      201: {
        description: 'The endpoint with its secret',
        schema: newEndpointSchema,
        example: { ...endpointExample, secret: secretExample },
      },
      ...problems(400, 401, 403, 413, 415),
    },
    async run(ctx, { body, actor }) {
      return { status: 201, body: await createEndpoint(ctx, readBody(newEndpoint, body), actor.name) };
    },
  }),
  route({
    ...here,
    method: 'GET',
    path: '/v1/webhooks/{id}',
    operationId: 'readWebhook',
    summary: 'One endpoint',
    answers: {
      200: { description: 'The endpoint', schema: endpointSchema, example: endpointExample },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ok(await readEndpoint(ctx, pathId(params, 'id'))),
  }),
  route({
    ...here,
    method: 'PATCH',
    path: '/v1/webhooks/{id}',
    operationId: 'changeWebhook',
    summary: 'Change, pause or resume an endpoint',
    description:
      'While paused nothing is sent and messages wait; resuming sends them. An endpoint that answers 410 Gone is paused by itself.',
    body: { required: true, schema: endpointChange, example: { paused: true } },
    answers: {
      200: {
        description: 'The endpoint as it is now',
        schema: endpointSchema,
        example: { ...endpointExample, paused_at: '2026-11-21T09:00:00.000Z', pause_reason: 'operator' },
      },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, { params, body }) {
      const id = pathId(params, 'id');
      return ok(await changeEndpoint(ctx, id, readBody(endpointChange, body)));
    },
  }),
  route({
    ...here,
    method: 'DELETE',
    path: '/v1/webhooks/{id}',
    operationId: 'deleteWebhook',
    summary: 'Remove an endpoint with its messages',
    answers: { 204: { description: 'Removed' }, ...problems(401, 403, 404) },
    async run(ctx, { params }) {
      await deleteEndpoint(ctx, pathId(params, 'id'));
      return empty(204);
    },
  }),
  route({
    ...here,
    method: 'POST',
    path: '/v1/webhooks/{id}/secret',
    operationId: 'rotateWebhookSecret',
    summary: 'Give an endpoint a new secret',
    description:
      'Until the one before ends, messages are signed with both, so that the receiver can change over in its own time. Shown in this answer and never again.',
    body: { schema: rotation, example: { overlap_seconds: DAY } },
    answers: {
      200: {
        description: 'The new secret, and when the one before ends',
        schema: secretSchema,
        example: { secret: secretExample, previous_expires_at: '2026-11-22T08:00:00.000Z' },
      },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, { params, body }) {
      const id = pathId(params, 'id');
      const { overlap_seconds = DAY } = readBody(rotation, body);
      return ok(await rotateSecret(ctx, id, overlap_seconds));
    },
  }),
  route({
    ...here,
    method: 'GET',
    path: '/v1/webhooks/{id}/messages',
    operationId: 'listWebhookMessages',
    summary: 'What an endpoint was told, and what became of it',
    query: {
      status: { description: 'Only these', schema: { type: 'string', enum: [...statuses] } },
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: { description: 'Messages a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: {
        description: 'A page, newest first',
        schema: page(messageSchema),
        example: { items: [{ ...messageExample, attempts: 1, last_error: 'HTTP 503' }], next: null },
      },
      ...problems(400, 401, 403, 404),
    },
    async run(ctx, { params, query }) {
      const filter = {
        status: queryText(query, 'status', statuses),
        after: queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER),
        limit: queryInteger(query, 'limit', 1, 500) ?? 50,
      };
      return ok(await listMessages(ctx, pathId(params, 'id'), filter));
    },
  }),
  route({
    ...here,
    method: 'GET',
    path: '/v1/webhooks/{id}/messages/{message}',
    operationId: 'readWebhookMessage',
    summary: 'One message with its attempts',
    answers: {
      200: { description: 'Attempts, oldest first', schema: historySchema, example: historyExample },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ok(await readMessage(ctx, pathId(params, 'id'), messageId(params))),
  }),
  route({
    ...here,
    method: 'POST',
    path: '/v1/webhooks/{id}/messages/{message}/resend',
    operationId: 'resendWebhookMessage',
    summary: 'Send a message again',
    description: 'Whatever became of it, from the beginning of the schedule, with the same `webhook-id`.',
    answers: {
      202: { description: 'It is on its way', schema: historySchema, example: historyExample },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ({
      status: 202,
      body: await resendMessage(ctx, pathId(params, 'id'), messageId(params)),
    }),
  }),
  route({
    ...here,
    method: 'POST',
    path: '/v1/webhooks/{id}/resend',
    operationId: 'resendWebhookMessages',
    summary: 'Send all messages again that were given up',
    body: { required: true, schema: resending, example: { since: '2026-11-21T08:00:00Z' } },
    answers: {
      202: {
        description: 'How many are on their way',
        schema: object({ messages: integer }, 'WebhookResend'),
        example: { messages: 12 },
      },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, { params, body }) {
      const id = pathId(params, 'id');
      const { since } = readBody(resending, body);
      const at = new Date(since);
      // Without an offset it would be the time of wherever the server stands.
      if (
        !/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/.test(since) ||
        Number.isNaN(at.getTime())
      )
        refuse({ path: ['since'], key: 'invalid.time' });
      return { status: 202, body: { messages: await resendFailed(ctx, id, at) } };
    },
  }),
  route({
    ...here,
    method: 'POST',
    path: '/v1/webhooks/{id}/test',
    operationId: 'testWebhook',
    summary: 'Send a `webhook.test` message',
    description: 'To an endpoint of whatever types. What became of it: read the message by its id.',
    answers: {
      202: {
        description: 'It is on its way',
        schema: historySchema,
        example: { ...historyExample, type: 'webhook.test', event: null, attempts: [] },
      },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ({ status: 202, body: await sendTest(ctx, pathId(params, 'id')) }),
  }),
];
