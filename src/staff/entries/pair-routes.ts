/** `/v1/companies/{id}/entries`: who may do what, as pairs of shop and permission, with ends, roles and previews. */
import Type from 'typebox';
import { companyKeeper, type Keeper } from '../../accounts/callers.ts';
import type { Ctx } from '../../platform/ctx.ts';
import {
  type Answer,
  empty,
  type Incoming,
  ifMatch,
  ok,
  type Request,
  type Route,
  route,
} from '../../platform/http.ts';
import { own, pathId, problems, queryInteger, queryText, readBody } from '../../platform/problem.ts';
import { flag, integer, object, page, text, textOrNull, time, timeOrNull } from '../../platform/schema.ts';
import { permissionKeys } from '../permissions.ts';
import { authorOf, callerOf, readEmail, reason } from '../requests.ts';
import { rolesOf } from '../roles.ts';
import type { Edit, Wish } from './changes.ts';
import { type Asked, changeEntry, previewEntry, resendInvitation } from './entries.ts';
import { findPairs, giveEntry, onePair, previewGift, requireView, type Tagged, viewOf } from './pairs.ts';
import { DRY_RUN, previewOf, previewSchema } from './preview.ts';
import type { Entry } from './rights.ts';

const id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
const permission = Type.String({ minLength: 1, maxLength: 50 });
const until = Type.Optional(
  Type.Union(
    [
      Type.String({
        pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d(\\.\\d{1,9})?)?(Z|[+-]\\d\\d:\\d\\d)$',
        description: 'From then on it holds no more (RFC 3339)',
      }),
      Type.Null(),
    ],
    { description: 'Absent or null: without end' },
  ),
);
const closed = { additionalProperties: false } as const;
const given = {
  grant: Type.Optional(Type.Array(Type.Object({ shop: id, permission, until }, closed), { maxItems: 5000 })),
  roles: Type.Optional(
    Type.Array(
      Type.Object(
        {
          role: Type.String({ minLength: 1, maxLength: 50 }),
          shops: Type.Array(id, { minItems: 1, maxItems: 1000 }),
          until,
        },
        closed,
      ),
      { maxItems: 100 },
    ),
  ),
};
const newEntry = Type.Object(
  {
    email: Type.String({ minLength: 3, maxLength: 254 }),
    language: Type.Optional(Type.Enum(['en', 'tr', 'nl', 'fr'], { description: 'Of the invitation' })),
    ...given,
    reason,
  },
  { ...closed, title: 'NewEntry' },
);
const entryChange = Type.Object(
  {
    ...given,
    revoke: Type.Optional(Type.Array(Type.Object({ shop: id, permission }, closed), { maxItems: 5000 })),
    seen: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 2_147_483_647,
        description:
          'The `version` this change rests on: pairs that somebody changed since are not overwritten, the others are',
      }),
    ),
    reason,
  },
  { ...closed, title: 'EntryChange' },
);
const removal = Type.Object({ reason }, { ...closed, title: 'EntryRemoval' });

const entryFields = {
  email: text,
  state: {
    type: 'string',
    enum: ['active', 'invited', 'off'],
    description: 'Only an active colleague can use a right: the address is proven, the account switched on',
  },
  owner: { ...flag, description: 'The owner may do everything in every shop, whatever the entry holds' },
  shop_ids: { type: 'array', items: integer },
  permissions: { type: 'array', items: text },
  rights: {
    type: 'array',
    items: object({ shop: integer, permission: text, until: timeOrNull, event: textOrNull }),
    description: 'What holds; `event` is the line of the history that gave it',
  },
  invitation: {
    ...object({ sent_at: time, expires_at: time }),
    type: ['object', 'null'],
  },
  version: integer,
};
const entrySchema = object({ id: integer, account: integer, ...entryFields }, 'Entry');
/** In a preview an entry, and the account of its colleague, need not exist yet. */
const foreseenSchema = object(
  { id: { type: ['integer', 'null'] }, account: { type: ['integer', 'null'] }, ...entryFields },
  'EntryForeseen',
);
const entryExample = {
  id: 17,
  account: 1043,
  email: 'cirak@example.com',
  state: 'active',
  owner: false,
  shop_ids: [11],
  permissions: ['products'],
  rights: [
    {
      shop: 11,
      permission: 'products',
      until: '2027-01-01T00:00:00.000Z',
      event: '019aa5c1-6f00-7000-8000-0123456789ab',
    },
  ],
  invitation: null,
  version: 4,
};
const dryExample = {
  dry_run: true,
  before: { ...entryExample, shop_ids: [], permissions: [], rights: [], version: 3 },
  after: { ...entryExample, rights: [{ ...entryExample.rights[0], event: null }] },
  changes: [{ shop: 11, permission: 'products', before: null, after: { until: '2027-01-01T00:00:00.000Z' } }],
  invited: false,
};
const preview = previewSchema(foreseenSchema, 'EntryPreview');
const either = (schema: object): object => ({ anyOf: [schema, preview] });

const common = { dialect: own, who: companyKeeper, tag: 'Entries' } as const;
const entries = '/v1/companies/{id}/entries';

const tagged = ({ view, tag }: Tagged, status = 200): Answer => ({ status, body: view, headers: { etag: tag } });

/** A change by pairs, with the roles as they are defined now. */
const byPairs = (ctx: Ctx, { grant, revoke, roles }: Edit): Wish => ({
  by: 'pairs',
  edit: {
    ...(grant === undefined ? {} : { grant }),
    ...(revoke === undefined ? {} : { revoke }),
    ...(roles === undefined ? {} : { roles }),
  },
  roles: rolesOf(ctx),
});

async function list(ctx: Ctx, { actor, params, query }: Request<Keeper>): Promise<Answer> {
  const company = pathId(params, 'id');
  const limit = queryInteger(query, 'limit', 1, 500) ?? 50;
  const filter = {
    email: queryText(query, 'email'),
    shop: queryInteger(query, 'shop', 1, Number.MAX_SAFE_INTEGER),
    permission: queryText(query, 'permission', permissionKeys),
    after: queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER),
  };
  await requireView(ctx, callerOf(ctx, actor), company);
  const found = await findPairs(ctx, company, { ...filter, limit });
  const items = found.items.map(({ view }) => view);
  return ok({ items, next: found.more ? String(items.at(-1)!.id) : null });
}

async function give(ctx: Ctx, request: Request<Keeper>): Promise<Answer> {
  const { email, language = request.language, reason: why, ...edit } = readBody(newEntry, request.body);
  const company = pathId(request.params, 'id');
  const caller = callerOf(ctx, request.actor);
  const author = authorOf(caller, request, why);
  const gift = { caller, author, company, email: readEmail(email, 'email'), language, wish: byPairs(ctx, edit) };
  if (request.dryRun) {
    const foreseen = await previewGift(ctx, gift);
    return ok(previewOf(foreseen, (entry: Entry) => viewOf(entry, foreseen)));
  }
  const { entry, existed } = await giveEntry(ctx, gift);
  return tagged(await onePair(ctx, company, entry), existed ? 200 : 201);
}

/** What a request asks of the entry in its path. */
function askedOf(ctx: Ctx, request: Request<Keeper>, wish: Wish, why?: string, seen?: number): Asked {
  const caller = callerOf(ctx, request.actor);
  return {
    caller,
    author: authorOf(caller, request, why),
    company: pathId(request.params, 'id'),
    entry: pathId(request.params, 'entry_id'),
    wish,
    ifMatch: ifMatch(request),
    seen,
  };
}

async function foresee(ctx: Ctx, asked: Asked): Promise<Answer> {
  const { before, after, changes } = await previewEntry(ctx, asked);
  const { view } = await onePair(ctx, asked.company, asked.entry);
  const foreseen = { before, after: asked.wish.by === 'removal' ? null : after, changes };
  return ok(previewOf(foreseen, (entry: Entry) => viewOf(entry, view)));
}

async function change(ctx: Ctx, request: Request<Keeper>): Promise<Answer> {
  const { seen, reason: why, ...edit } = readBody(entryChange, request.body);
  const asked = askedOf(ctx, request, byPairs(ctx, edit), why, seen);
  if (request.dryRun) return foresee(ctx, asked);
  await changeEntry(ctx, asked);
  return tagged(await onePair(ctx, asked.company, asked.entry));
}

async function remove(ctx: Ctx, request: Request<Keeper>): Promise<Answer> {
  const { reason: why } = readBody(removal, request.body);
  const asked = askedOf(ctx, request, { by: 'removal' }, why);
  if (request.dryRun) return foresee(ctx, asked);
  await changeEntry(ctx, asked);
  return empty(204);
}

const entryOfPath = ({ params }: Incoming): { company: number; entry: number } => ({
  company: pathId(params, 'id'),
  entry: pathId(params, 'entry_id'),
});

export const pairRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: entries,
    operationId: 'listEntries',
    summary: 'Colleagues of a company with their rights',
    description: 'For operators, and for those who manage the company.',
    query: {
      email: { description: 'Address, in any case', schema: { type: 'string' } },
      shop: { description: 'Those who hold something in this shop', schema: { type: 'integer', minimum: 1 } },
      permission: { description: 'Those who hold it somewhere', schema: { type: 'string', enum: permissionKeys } },
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: {
        description: 'Entries a page at most; fewer where they hold thousands of rights',
        schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 },
      },
    },
    answers: {
      200: {
        description: 'A page, oldest first',
        schema: page(entrySchema),
        example: { items: [entryExample], next: null },
      },
      ...problems(400, 401, 403, 404),
    },
    run: list,
  }),
  route({
    ...common,
    method: 'POST',
    path: entries,
    throttle: 'invite',
    previews: true,
    operationId: 'giveEntry',
    summary: 'Give a colleague an entry, with rights',
    description: `A colleague who has an entry keeps it, and gets the rights beside those they hold. An address that nobody has proven is invited by mail. Entry and rights are made both or not at all. ${DRY_RUN}`,
    body: {
      required: true,
      schema: newEntry,
      example: { email: 'cirak@example.com', roles: [{ role: 'shop', shops: [11], until: '2027-01-01T00:00:00Z' }] },
    },
    answers: {
      201: { description: 'Made', schema: entrySchema, example: entryExample },
      200: { description: 'Was there; as it is now', schema: either(entrySchema), example: entryExample },
      ...problems(400, 401, 403, 404, 409, 413, 415, 422),
    },
    run: give,
  }),
  route({
    ...common,
    method: 'GET',
    path: `${entries}/{entry_id}`,
    operationId: 'readEntry',
    summary: 'One colleague with their rights',
    answers: {
      200: { description: 'The entry, with its ETag', schema: entrySchema, example: entryExample },
      ...problems(401, 403, 404),
    },
    async run(ctx, request) {
      const { company, entry } = entryOfPath(request);
      await requireView(ctx, callerOf(ctx, request.actor), company);
      return tagged(await onePair(ctx, company, entry));
    },
  }),
  route({
    ...common,
    method: 'PATCH',
    path: `${entries}/{entry_id}`,
    previews: true,
    operationId: 'changeEntry',
    summary: 'Give and take rights',
    description: `What is named becomes as it is said, everything else stays; a pair beats a role that names it too. Nobody gives or takes what they do not hold in that shop. \`If-Match\` refuses when anything changed since (412), \`seen\` only when the same pairs did (409). ${DRY_RUN}`,
    body: {
      schema: entryChange,
      example: {
        grant: [{ shop: 11, permission: 'products', until: '2027-01-01T00:00:00Z' }],
        revoke: [{ shop: 11, permission: 'discounts' }],
        reason: 'Christmas season',
      },
    },
    answers: {
      200: { description: 'As it is now, with its ETag', schema: either(entrySchema), example: entryExample },
      ...problems(400, 401, 403, 404, 409, 412, 413, 415, 422),
    },
    run: change,
  }),
  route({
    ...common,
    method: 'DELETE',
    path: `${entries}/{entry_id}`,
    previews: true,
    operationId: 'removeEntry',
    summary: 'Take all rights from a colleague',
    description: `An invitation that nobody accepted ends with the last entry it is for. ${DRY_RUN}`,
    body: { schema: removal, example: { reason: 'Left the company' } },
    answers: {
      204: { description: 'Removed' },
      200: { description: 'What would become of it', schema: preview, example: { ...dryExample, after: null } },
      ...problems(400, 401, 403, 404, 409, 412, 413, 415),
    },
    run: remove,
  }),
  route({
    ...common,
    method: 'POST',
    path: `${entries}/{entry_id}/invitation`,
    throttle: 'invite',
    operationId: 'resendInvitation',
    summary: 'Mail the invitation again',
    description: 'The link of the one before it ends. Within a minute of the last one nothing is sent.',
    answers: { 204: { description: 'On its way' }, ...problems(400, 401, 403, 404, 409) },
    async run(ctx, request) {
      const caller = callerOf(ctx, request.actor);
      const { company, entry } = entryOfPath(request);
      await resendInvitation(ctx, { caller, company, entry, language: request.language });
      return empty(204);
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/roles',
    operationId: 'listRoles',
    summary: 'Roles: templates of permissions, of the setting STAFF_ROLES',
    answers: {
      200: {
        description: 'Roles',
        schema: page(object({ role: text, permissions: { type: 'array', items: text } }, 'Role')),
        example: { items: [{ role: 'shop', permissions: ['holidays', 'products', 'shop_info'] }], next: null },
      },
      ...problems(401, 403),
    },
    run: async (ctx) => {
      const roles = Object.entries(rolesOf(ctx));
      return ok({ items: roles.map(([role, permissions]) => ({ role, permissions })), next: null });
    },
  }),
];
