/** `/v1/companies/{id}/history` and `…/access`: who changed what, and who could do what when; `/v1/history/head` to prove it by. */
import { companyKeeper, operator } from '../../accounts/callers.ts';
import { refuse } from '../../platform/failure.ts';
import { ok, type Route, route } from '../../platform/http.ts';
import { own, pathId, problems, queryInteger, queryText, queryTime } from '../../platform/problem.ts';
import { integer, object, page, text, textOrNull, time, timeOrNull } from '../../platform/schema.ts';
import { requireView } from '../entries/pairs.ts';
import { type Permission, permissionKeys } from '../permissions.ts';
import { callerOf } from '../requests.ts';
import { type EventKind, eventKinds } from './lines.ts';
import { listHistory, whoCould } from './past.ts';
import { historyHead } from './seals.ts';

const common = { dialect: own, who: companyKeeper, tag: 'Entries' } as const;
const idOrNull = { type: ['integer', 'null'] };
/** Before and after of something. */
const change = (item: object, description: string): object => ({
  type: ['array', 'null'],
  minItems: 2,
  maxItems: 2,
  items: { anyOf: [item, { type: 'null' }] },
  description,
});
const held = { ...object({ until: timeOrNull }), type: ['object', 'null'] };

const eventSchema = object(
  {
    id: text,
    number: { ...integer, description: 'Lines of a company are numbered from 1' },
    kind: { type: 'string', enum: eventKinds },
    entry: idOrNull,
    account: { ...idOrNull, description: 'Whose entry it is' },
    email: { ...textOrNull, description: 'Their address today; null when they were erased' },
    actor: { ...text, description: '`account:7`, `operator:1`, `key:3`, `command`, `system`, `migration`' },
    at: time,
    reason: textOrNull,
    shop_ids: change({ type: 'array', items: integer }, 'Before and after'),
    permissions: change({ type: 'array', items: text }, 'Before and after'),
    rights: {
      type: ['array', 'null'],
      items: object({ shop: integer, permission: text, before: held, after: held }),
      description: 'Pairs that changed; null: not held',
    },
    owner: change(integer, 'Account of the owner before and after'),
    shops: { type: ['array', 'null'], items: integer, description: 'Shops that were added' },
    shown: change({ type: 'object' }, 'A company or shop as it was shown and is shown'),
    origin: {
      ...object({ ip: text, user_agent: textOrNull }),
      type: ['object', 'null'],
      description: 'From where it came; null when it came from nowhere, or was erased',
    },
  },
  'StaffEvent',
);
const eventExample = {
  id: '019aa5c1-6f00-7000-8000-0123456789ab',
  number: 12,
  kind: 'rights_changed',
  entry: 17,
  account: 1043,
  email: 'cirak@example.com',
  actor: 'account:1042',
  at: '2026-11-21T08:00:00.000Z',
  reason: 'Christmas season',
  shop_ids: [[], [11]],
  permissions: [[], ['products']],
  rights: [{ shop: 11, permission: 'products', before: null, after: { until: '2027-01-01T00:00:00.000Z' } }],
  owner: null,
  shops: null,
  shown: null,
  origin: { ip: '203.0.113.9', user_agent: 'Mozilla/5.0' },
};

const holderSchema = object(
  {
    account: integer,
    email: textOrNull,
    entry: idOrNull,
    as: { type: 'string', enum: ['owner', 'entry'] },
    until: timeOrNull,
    event: { ...textOrNull, description: 'The line that gave it' },
  },
  'RightHolder',
);

export const historyRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/v1/companies/{id}/history',
    operationId: 'listStaffHistory',
    summary: 'Who changed what for whom, newest first',
    description: 'For operators, and for those who manage the company. Lines are never changed and never removed.',
    query: {
      entry: { description: 'Of this entry', schema: { type: 'integer', minimum: 1 } },
      account: { description: 'Of this colleague', schema: { type: 'integer', minimum: 1 } },
      kind: { description: 'Of this kind', schema: { type: 'string', enum: eventKinds } },
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: {
        description: 'Lines a page at most; fewer where they are long',
        schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 },
      },
    },
    answers: {
      200: { description: 'A page', schema: page(eventSchema), example: { items: [eventExample], next: null } },
      ...problems(400, 401, 403, 404),
    },
    async run(ctx, { actor, params, query }) {
      const company = pathId(params, 'id');
      const limit = queryInteger(query, 'limit', 1, 500) ?? 50;
      const filter = {
        entry: queryInteger(query, 'entry', 1, Number.MAX_SAFE_INTEGER),
        account: queryInteger(query, 'account', 1, Number.MAX_SAFE_INTEGER),
        kind: queryText(query, 'kind', eventKinds) as EventKind | undefined,
        after: queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER),
      };
      await requireView(ctx, callerOf(ctx, actor), company);
      const { items, more } = await listHistory(ctx, company, { ...filter, limit });
      return ok({ items, next: more ? String(items.at(-1)!.number) : null });
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/companies/{id}/access',
    operationId: 'whoCould',
    summary: 'Who held a right in a shop at a moment',
    description:
      'By going through the history up to then, line by line. Whether an account was switched on, and its address proven, the history does not say.',
    query: {
      shop: { description: 'Required', schema: { type: 'integer', minimum: 1 } },
      permission: { description: 'Required', schema: { type: 'string', enum: permissionKeys } },
      at: { description: 'Absent: now', schema: { type: 'string', format: 'date-time' } },
    },
    answers: {
      200: {
        description: 'The owner first, then in order of entry',
        schema: page(holderSchema),
        example: {
          items: [
            {
              account: 1043,
              email: 'cirak@example.com',
              entry: 17,
              as: 'entry',
              until: '2027-01-01T00:00:00.000Z',
              event: eventExample.id,
            },
          ],
          next: null,
        },
      },
      ...problems(400, 401, 403, 404),
    },
    async run(ctx, { actor, params, query }) {
      const company = pathId(params, 'id');
      const shop = queryInteger(query, 'shop', 1, Number.MAX_SAFE_INTEGER);
      const permission = queryText(query, 'permission', permissionKeys) as Permission | undefined;
      const at = queryTime(query, 'at');
      await requireView(ctx, callerOf(ctx, actor), company);
      if (shop === undefined) refuse({ path: ['shop'], key: 'field.required' });
      if (permission === undefined) refuse({ path: ['permission'], key: 'field.required' });
      return ok({ items: await whoCould(ctx, company, { shop, permission, at }), next: null });
    },
  }),
  route({
    ...common,
    who: operator('companies'),
    method: 'GET',
    path: '/v1/history/head',
    operationId: 'getHistoryHead',
    summary: 'The newest signed head of the history of all companies',
    description:
      'Kept elsewhere by date, it proves later that no line before it was cut off or rewritten: `assent staff verify --head HASH`. It is also written into the log every ten minutes. The key is that of the ledger.',
    query: {
      at: { description: 'The newest head of this moment', schema: { type: 'string', format: 'date-time' } },
    },
    answers: {
      200: {
        description: 'The head; nulls while nothing is sealed',
        schema: object(
          {
            count: { ...integer, description: 'Seals up to here' },
            hash: textOrNull,
            at: timeOrNull,
            signature: { ...textOrNull, description: 'Ed25519 over the hash, base64' },
          },
          'HistoryHead',
        ),
        example: { count: 17, hash: '9f86…', at: '2026-11-21T08:00:01.000Z', signature: 'q0m…' },
      },
      ...problems(400, 401, 403),
    },
    run: async (ctx, { query }) => ok(await historyHead(ctx, queryTime(query, 'at'))),
  }),
];
