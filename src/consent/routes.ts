/** `POST /users/permissions/` of the Akinon Users API, and the ledger's own calls. */
import { guest, operator } from '../accounts/callers.ts';
import { akinon, boolean, char, type FieldRule, integer, readFields, refusals } from '../platform/drf.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { empty, ok, type Route, route } from '../platform/http.ts';
import { own, problems, queryInteger, queryText, queryTime } from '../platform/problem.ts';
import { object, page } from '../platform/schema.ts';
import { stateForBasket } from './baskets.ts';
import { channels, type Flags } from './channels.ts';
import { eventExample, eventFields, listEvents } from './events.ts';
import { ledgerHead } from './ledger/seals.ts';

/** Largest bigint of PostgreSQL: what a basket's number may be. */
export const MAX_BIGINT = 2n ** 63n - 1n;

const rules: readonly FieldRule[] = [
  { name: 'uid', kind: char(128), required: true },
  { name: 'basket', kind: integer(1n, MAX_BIGINT), required: true },
  ...channels.map(({ flag }) => ({ name: flag, kind: boolean })),
];

export const consentRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/users/permissions/',
    dialect: akinon,
    who: guest,
    throttle: 'user-permissions',
    tag: 'Permissions',
    operationId: 'updateUserPermissions',
    summary: 'State communication consents for a basket',
    description:
      'Throttling scope: `user-permissions`. Held for the basket until an order or a registration; changes no profile and no decision before.',
    body: {
      required: true,
      schema: {
        title: 'UserPermissionRequest',
        type: 'object',
        required: ['uid', 'basket'],
        properties: {
          uid: { type: 'string', description: 'Identifier of the guest', maxLength: 128 },
          basket: { type: 'integer', description: 'Number of the basket', minimum: 1 },
          ...Object.fromEntries(
            channels.map(({ name, flag }) => [flag, { type: 'boolean', description: `Consent for ${name}` }]),
          ),
        },
      },
      example: { uid: '0b0e4c8e-7d2f-4a6e-9a51-3f2f6a1c9d10', basket: 77, sms_allowed: true, email_allowed: true },
    },
    answers: { 200: { description: 'Kept' }, ...refusals(400, 401, 403, 413, 415, 429) },
    async run(ctx, request) {
      const { uid, basket, ...flags } = readFields(request.body, rules);
      await stateForBasket(ctx, {
        uid: uid as string,
        basket: basket as bigint,
        flags: flags as Flags,
        evidence: evidenceOf(request),
      });
      return empty(200);
    },
  }),
  route({
    method: 'GET',
    path: '/v1/consents/events',
    dialect: own,
    who: operator('consents'),
    tag: 'Ledger',
    operationId: 'listConsentEvents',
    summary: 'Lines of the consent ledger, newest first',
    query: {
      account: { description: 'Events of this account', schema: { type: 'integer', minimum: 1 } },
      recipient: { description: 'Events of this phone number (E.164) or e-mail address', schema: { type: 'string' } },
      channel: {
        description: 'Events of this channel',
        schema: { type: 'string', enum: channels.map(({ name }) => name) },
      },
      after: { description: '`next` of the page before', schema: { type: 'string' } },
      limit: { description: 'Lines a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: {
        description: 'A page of lines; `next` is null on the last',
        schema: page(object(eventFields, 'ConsentEvent'), 'ConsentEvents'),
        example: { items: [eventExample], next: null },
      },
      ...problems(400, 401, 403),
    },
    async run(ctx, { query }) {
      const account = queryInteger(query, 'account', 1, Number.MAX_SAFE_INTEGER);
      const recipient = queryText(query, 'recipient');
      const channel = queryText(
        query,
        'channel',
        channels.map(({ name }) => name),
      );
      const after = queryText(query, 'after');
      return ok(
        await listEvents(ctx, {
          account,
          recipient,
          channel,
          after,
          limit: queryInteger(query, 'limit', 1, 500) ?? 50,
        }),
      );
    },
  }),
  route({
    method: 'GET',
    path: '/v1/ledger/head',
    dialect: own,
    who: operator('consents'),
    tag: 'Ledger',
    operationId: 'getLedgerHead',
    summary: 'The newest signed head of the ledger',
    description:
      'Kept elsewhere by date, it proves later that nothing before it was rewritten: `assent ledger verify --head HASH`. It is also written into the log every ten minutes.',
    query: {
      at: { description: 'The newest head of this moment', schema: { type: 'string', format: 'date-time' } },
    },
    answers: {
      200: {
        description: 'The head; nulls while nothing is sealed',
        schema: {
          title: 'LedgerHead',
          type: 'object',
          required: ['count', 'hash', 'at', 'signature'],
          properties: {
            count: { type: 'integer' },
            hash: { type: ['string', 'null'] },
            at: { type: ['string', 'null'], format: 'date-time' },
            signature: { type: ['string', 'null'], description: 'Ed25519 over the hash, base64' },
          },
        },
        example: { count: 17, hash: '9f86…', at: '2026-11-21T08:00:01.000Z', signature: 'q0m…' },
      },
      ...problems(400, 401, 403),
    },
    run: async (ctx, { query }) => ok(await ledgerHead(ctx, queryTime(query, 'at'))),
  }),
];
