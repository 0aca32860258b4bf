/** `/v1/companies`: companies and their shops. Operators make and change them; whoever manages one may look at it. */
import Type from 'typebox';
import { companyKeeper, type Keeper } from '../../accounts/callers.ts';
import type { Ctx } from '../../platform/ctx.ts';

import { fail } from '../../platform/failure.ts';
import { type Answer, ok, type Request, type Route, route } from '../../platform/http.ts';
import { takeKey } from '../../platform/idempotency.ts';
import { own, pathId, problems, queryInteger, readBody } from '../../platform/problem.ts';
import { flag, integer, object, page, text, textOrNull } from '../../platform/schema.ts';
import { requireView } from '../entries/pairs.ts';
import { authorOf, callerOf, readEmail, reason } from '../requests.ts';
import {
  addShop,
  changeCompany,
  changeShop,
  companyOf,
  companyRecord,
  companyRecords,
  createCompanyOnce,
} from './companies.ts';

const texts = Type.Record(Type.String({ pattern: '^[a-z]{2}$' }), Type.String({ minLength: 1, maxLength: 200 }), {
  minProperties: 1,
  additionalProperties: false,
});
const address = Type.String({ minLength: 3, maxLength: 254 });
const newCompany = Type.Object(
  { name: texts, owner: address, shops: Type.Optional(Type.Array(texts, { maxItems: 1000 })), reason },
  { additionalProperties: false },
);
const companyChange = Type.Object(
  {
    name: Type.Optional(texts),
    active: Type.Optional(Type.Boolean()),
    owner: Type.Optional(Type.Union([address, Type.Null()])),
    reason,
  },
  { additionalProperties: false },
);
const newShop = Type.Object({ name: texts, reason }, { additionalProperties: false });
const shopChange = Type.Object(
  { name: Type.Optional(texts), active: Type.Optional(Type.Boolean()), reason },
  { additionalProperties: false },
);

const names = { type: 'object', additionalProperties: text };
const shopSchema = object({ id: integer, name: names, active: flag }, 'ShopRecord');
const companySchema = object(
  { id: integer, name: names, active: flag, owner: textOrNull, shops: { type: 'array', items: shopSchema } },
  'CompanyRecord',
);
const shopExample = { id: 11, name: { en: 'Moda' }, active: true };
const companyExample = {
  id: 15,
  name: { en: 'Usta Bakery' },
  active: true,
  owner: 'usta@example.com',
  shops: [shopExample],
};

const common = { dialect: own, who: companyKeeper, tag: 'Companies' } as const;

/** Refuses accounts: not_found for a company that is none of theirs. @throws not_found, forbidden */
async function operatorsOnly(ctx: Ctx, { account }: Keeper, company?: number): Promise<void> {
  if (account === null) return;
  if (company !== undefined) await companyOf(ctx, account.id, company);
  fail('forbidden', { values: { need: 'companies' } });
}

/** Companies that somebody looks after. @throws second_factor_required for an owner who has to have one */
async function list(ctx: Ctx, { actor, query }: Request<Keeper>): Promise<Answer> {
  const { account, unproven, lacksSecondFactor } = callerOf(ctx, actor);
  const after = queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER);
  const limit = queryInteger(query, 'limit', 1, 500) ?? 50;
  // One more than is shown: whether there is another page.
  const found = unproven ? [] : await companyRecords(ctx, { manager: account, after, limit: limit + 1 });
  if (lacksSecondFactor && found.some(({ owner }) => owner === actor.account?.email)) fail('second_factor_required');
  const items = found.slice(0, limit);
  return ok({ items, next: found.length > limit ? String(items.at(-1)!.id) : null });
}

async function make(ctx: Ctx, request: Request<Keeper>): Promise<Answer> {
  const { actor, language, body } = request;
  await operatorsOnly(ctx, actor);
  const { name, owner, shops = [], reason: why } = readBody(newCompany, request.body);
  const asked = { name, owner: readEmail(owner, 'owner'), shops, language };
  const key = await takeKey(ctx, actor.name, request, body.value);
  const author = authorOf(callerOf(ctx, actor), request, why);
  const { company, existed } = await createCompanyOnce(ctx, { ...asked, key }, author);
  return { status: existed ? 200 : 201, body: company };
}

async function change(ctx: Ctx, request: Request<Keeper>): Promise<Answer> {
  const { actor, language, params } = request;
  const company = pathId(params, 'id');
  await operatorsOnly(ctx, actor, company);
  const { owner, reason: why, ...asked } = readBody(companyChange, request.body);
  const address = typeof owner === 'string' ? readEmail(owner, 'owner') : owner;
  const author = authorOf(callerOf(ctx, actor), request, why);
  return ok(await changeCompany(ctx, company, { ...asked, owner: address, language }, author));
}

export const companyRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/v1/companies',
    operationId: 'listAllCompanies',
    summary: 'Companies with owners and shops',
    description: 'All of them for operators; for an account those that it owns or manages.',
    query: {
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: { description: 'Companies a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: { description: 'Companies', schema: page(companySchema), example: { items: [companyExample], next: null } },
      ...problems(400, 401, 403),
    },
    run: list,
  }),
  route({
    ...common,
    method: 'POST',
    path: '/v1/companies',
    operationId: 'createCompany',
    summary: 'Make a company with its owner and shops',
    description:
      'Operators only. An owner without an account is invited by mail. The owner’s entry holds everything in every shop. Of one `Idempotency-Key` only one company is made, for a week.',
    body: {
      required: true,
      schema: newCompany,
      example: { name: { en: 'Usta Bakery' }, owner: 'usta@example.com', shops: [{ en: 'Moda' }] },
    },
    answers: {
      201: { description: 'Made', schema: companySchema, example: companyExample },
      200: {
        description: 'A request of the same Idempotency-Key made it; as it is now',
        schema: companySchema,
        example: companyExample,
      },
      ...problems(400, 401, 403, 409, 413, 415, 429),
    },
    run: make,
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/companies/{id}',
    operationId: 'readCompanyRecord',
    summary: 'One company with owner and shops',
    answers: {
      200: { description: 'The company', schema: companySchema, example: companyExample },
      ...problems(401, 403, 404),
    },
    async run(ctx, { actor, params }) {
      const company = pathId(params, 'id');
      await requireView(ctx, callerOf(ctx, actor), company);
      return ok(await companyRecord(ctx, company));
    },
  }),
  route({
    ...common,
    method: 'PATCH',
    path: '/v1/companies/{id}',
    operationId: 'changeCompany',
    summary: 'Rename, open or close a company, or change its owner',
    description:
      'Operators only. `active` is what customers see; rights do not depend on it. A new owner gets every right in every shop and is invited when nobody has proven the address; the one before keeps their entry, as a colleague like others. `owner: null` leaves the company to its colleagues: 409 `last_manager` unless some who can act manage it, and each shop, without end.',
    body: {
      schema: companyChange,
      example: { owner: 'cirak@example.com', reason: 'The business was sold' },
    },
    answers: {
      200: {
        description: 'As it is now',
        schema: companySchema,
        example: { ...companyExample, owner: 'cirak@example.com' },
      },
      ...problems(400, 401, 403, 404, 409, 413, 415, 429),
    },
    run: change,
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/companies/{id}/shops',
    operationId: 'listCompanyShops',
    summary: 'Shops of a company',
    answers: {
      200: { description: 'Shops', schema: page(shopSchema), example: { items: [shopExample], next: null } },
      ...problems(401, 403, 404),
    },
    async run(ctx, { actor, params }) {
      const company = pathId(params, 'id');
      await requireView(ctx, callerOf(ctx, actor), company);
      return ok({ items: (await companyRecord(ctx, company)).shops, next: null });
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/v1/companies/{id}/shops',
    operationId: 'addShop',
    summary: 'Open a shop',
    description: 'Operators only. The owner’s entry gets every right in it; colleagues get none by themselves.',
    body: { required: true, schema: newShop, example: { name: { en: 'Moda' } } },
    answers: {
      201: { description: 'Opened', schema: shopSchema, example: shopExample },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, request) {
      const company = pathId(request.params, 'id');
      await operatorsOnly(ctx, request.actor, company);
      const { name, reason: why } = readBody(newShop, request.body);
      const author = authorOf(callerOf(ctx, request.actor), request, why);
      return { status: 201, body: await addShop(ctx, company, name, author) };
    },
  }),
  route({
    ...common,
    method: 'PATCH',
    path: '/v1/companies/{id}/shops/{shop_id}',
    operationId: 'changeShop',
    summary: 'Rename, open or close a shop',
    description: 'Operators only. `active` is what customers see; rights do not depend on it.',
    body: { schema: shopChange, example: { active: false } },
    answers: {
      200: { description: 'As it is now', schema: shopSchema, example: { ...shopExample, active: false } },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, request) {
      const company = pathId(request.params, 'id');
      await operatorsOnly(ctx, request.actor, company);
      const shop = pathId(request.params, 'shop_id');
      const { reason: why, ...asked } = readBody(shopChange, request.body);
      const author = authorOf(callerOf(ctx, request.actor), request, why);
      return ok(await changeShop(ctx, { company, shop }, asked, author));
    },
  }),
];
