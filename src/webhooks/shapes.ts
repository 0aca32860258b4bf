/** What the routes of webhooks take and answer, for checking and for OpenAPI. */
import Type from 'typebox';
import { integer, object, text, textOrNull, time, timeOrNull } from '../platform/schema.ts';
import { statuses } from './messages.ts';
import { webhookTypes } from './types.ts';

const fields = {
  url: Type.String({ minLength: 1, maxLength: 2000 }),
  types: Type.Union([
    Type.Array(Type.Enum([...webhookTypes]), { minItems: 1, maxItems: webhookTypes.length, uniqueItems: true }),
    Type.Null(),
  ]),
  description: Type.String({ maxLength: 500 }),
};
const closed = { additionalProperties: false };
export const newEndpoint = Type.Object(
  { url: fields.url, types: Type.Optional(fields.types), description: Type.Optional(fields.description) },
  closed,
);
export const endpointChange = Type.Object(
  {
    url: Type.Optional(fields.url),
    types: Type.Optional(fields.types),
    description: Type.Optional(fields.description),
    paused: Type.Optional(Type.Boolean()),
  },
  closed,
);
export const rotation = Type.Object(
  { overlap_seconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 2_592_000 })) },
  closed,
);
export const resending = Type.Object({ since: Type.String({ maxLength: 40 }) }, closed);

const endpointFields = {
  id: integer,
  url: text,
  types: { type: ['array', 'null'], items: text },
  description: text,
  paused_at: timeOrNull,
  pause_reason: { type: ['string', 'null'], enum: ['operator', 'gone', null] },
  failing_since: timeOrNull,
  created_at: time,
  created_by: text,
  waiting: integer,
  failed: integer,
};
export const endpointSchema = object(endpointFields, 'WebhookEndpoint');
export const endpointExample = {
  id: 1,
  url: 'https://crm.shop.example/hooks/assent',
  types: ['consent.granted', 'consent.withdrawn', 'contact_point.changed'],
  description: 'CRM',
  paused_at: null,
  pause_reason: null,
  failing_since: null,
  created_at: '2026-11-21T08:00:00.000Z',
  created_by: 'operator:1',
  waiting: 0,
  failed: 0,
};
export const secretExample = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAECAwQFBgc=';

const messageFields = {
  id: text,
  type: text,
  event: textOrNull,
  status: { type: 'string', enum: [...statuses] },
  created_at: time,
  next_at: timeOrNull,
  ended_at: timeOrNull,
};
export const messageSchema = object({ ...messageFields, attempts: integer, last_error: textOrNull }, 'WebhookMessage');
const attemptSchema = object({
  at: time,
  status: { type: ['integer', 'null'] },
  milliseconds: integer,
  error: textOrNull,
});
export const historySchema = object(
  { ...messageFields, attempts: { type: 'array', items: attemptSchema } },
  'WebhookMessageHistory',
);
export const messageExample = {
  id: 'msg_0b7c1d3a5e6f48c29d10a2b3c4d5e6f7',
  type: 'consent.withdrawn',
  event: '019a5f3e-8c00-7000-8000-0123456789ab',
  status: 'waiting',
  created_at: '2026-11-21T08:00:00.000Z',
  next_at: '2026-11-21T08:00:06.000Z',
  ended_at: null,
};
export const historyExample = {
  ...messageExample,
  attempts: [{ at: '2026-11-21T08:00:01.000Z', status: 503, milliseconds: 87, error: 'HTTP 503' }],
};

export const newEndpointSchema = object({ ...endpointFields, secret: text }, 'NewWebhookEndpoint');
export const secretSchema = object({ secret: text, previous_expires_at: time }, 'WebhookSecret');
