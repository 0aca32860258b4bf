/** BakerOnline's company permissions (v1.9.0), and the calls around them. Success is 200 always. */
import Type from 'typebox';
import { bearer, type Customer } from '../accounts/callers.ts';
import { bakerOnline, readTexts } from '../platform/baker.ts';
import { email as emailKind } from '../platform/drf.ts';
import { Failure } from '../platform/failure.ts';
import { type Answer, empty, ok, type Request, type Route, route } from '../platform/http.ts';
import { checkSchema, pathId, problems } from '../platform/problem.ts';
import { companiesOf, companyOf, ownEntries, shopsOf } from './companies.ts';
import { ownKeys, permissionKeys } from './permissions.ts';
import type { AskedChange } from './rules.ts';
import { changeEntry, createEntry, type EntryView, listEntries, readEntry, removeEntry } from './staff.ts';

const booleans = (keys: readonly string[]): object => ({
  type: 'object',
  required: keys,
  properties: Object.fromEntries(keys.map((key) => [key, { type: 'boolean' }])),
});

const userPermission = {
  title: 'UserPermission',
  type: 'object',
  required: ['shop_ids', 'permissions', 'id', 'user'],
  properties: {
    shop_ids: { type: 'array', items: { type: 'integer' }, description: 'Shops the colleague has access to' },
    permissions: booleans(permissionKeys),
    id: { type: 'integer', description: 'Id of the entry' },
    user: {
      type: 'object',
      required: ['id', 'email'],
      properties: { id: { type: 'integer' }, email: { type: 'string' } },
    },
  },
};

const example = {
  shop_ids: [11, 19],
  permissions: Object.fromEntries(permissionKeys.map((key) => [key, key === 'products'])),
  id: 17,
  user: { id: 1043, email: 'cirak@example.com' },
};

/** Keys in the documented order. */
const show = ({ shop_ids, permissions, id, account, email }: EntryView): object => ({
  shop_ids,
  permissions: Object.fromEntries(permissionKeys.map((key) => [key, permissions.includes(key)])),
  id,
  user: { id: account, email },
});

/** An object; what each place holds is checked where the company is known, so that all complaints come at once. */
const changeSchema = Type.Object({});

const formBooleans: ReadonlyMap<unknown, boolean> = new Map([
  ['true', true],
  ['false', false],
  ['1', true],
  ['0', false],
]);

/** A form has only text: `1`, `0`, `true`, `false` become booleans, digits become numbers; what is neither stays and is refused. */
function fromForm(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { shop_ids, permissions, ...rest } = value as Record<string, unknown>;
  const number = (text: unknown): unknown =>
    typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : text;
  // `shop_ids=` or `shop_ids[]=` is how a form says "none".
  const list = shop_ids === '' ? [] : Array.isArray(shop_ids) ? shop_ids.filter((item) => item !== '') : shop_ids;
  return {
    ...rest,
    ...(shop_ids === undefined ? {} : { shop_ids: Array.isArray(list) ? list.map(number) : list }),
    ...(permissions === undefined
      ? {}
      : {
          permissions:
            typeof permissions === 'object' && permissions !== null && !Array.isArray(permissions)
              ? Object.fromEntries(
                  Object.entries(permissions).map(([key, text]) => [key, formBooleans.get(text) ?? text]),
                )
              : permissions,
        }),
  };
}

/** Body of a PATCH, of either kind; none is an empty change. @throws unprocessable */
function readChange({ body }: Request<object>): AskedChange {
  if (body.kind === 'none') return {};
  const value = body.kind === 'form' ? fromForm(body.value) : body.value;
  checkSchema(changeSchema, value, 'unprocessable');
  return value as AskedChange;
}

const text = Type.String({ minLength: 1, maxLength: 512 });
const withEmail = Type.Object({ email: text });

const family = '/company/companies/{id}/permissions/users';
const common = { dialect: bakerOnline, who: bearer, tag: 'Company permissions' } as const;
const entryAnswer = { 200: { description: 'The entry', schema: userPermission, example } };
const companySchema = {
  title: 'Company',
  type: 'object',
  required: ['id', 'name', 'active'],
  properties: {
    id: { type: 'integer' },
    name: { type: 'object', additionalProperties: { type: 'string' } },
    active: { type: 'boolean' },
  },
};
const companyExample = { id: 15, name: { en: 'Usta Bakery', nl: 'Bakkerij Usta' }, active: true };

const address = (request: Request<Customer>): { caller: number; company: number; entry: number } => ({
  caller: request.actor.account.id,
  company: pathId(request.params, 'id'),
  entry: pathId(request.params, 'user_permission_id'),
});

export const staffRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: family,
    operationId: 'listUserPermissions',
    summary: 'List the entries of a company',
    answers: {
      200: { description: 'All entries', schema: { type: 'array', items: userPermission }, example: [example] },
      ...problems(400, 401, 403, 404),
    },
    run: async (ctx, request) =>
      ok((await listEntries(ctx, request.actor.account.id, pathId(request.params, 'id'))).map(show)),
  }),
  route({
    ...common,
    method: 'POST',
    path: family,
    throttle: 'invite',
    operationId: 'createUserPermission',
    summary: 'Give a colleague an entry',
    description:
      'A new entry holds nothing; an existing one is answered unchanged. An unknown address is invited by mail.',
    body: {
      required: true,
      schema: {
        title: 'UserPermissionCreate',
        type: 'object',
        required: ['email'],
        properties: { email: { type: 'string', format: 'email' } },
      },
      example: { email: 'cirak@example.com' },
    },
    answers: { ...entryAnswer, ...problems(400, 401, 403, 404, 413, 415, 422, 429) },
    async run(ctx, request) {
      const reading = emailKind.read(readTexts(request, withEmail).email, false);
      if ('problem' in reading)
        throw new Failure('unprocessable', { complaints: [{ path: ['email'], key: reading.problem }] });
      return ok(
        show(
          await createEntry(
            ctx,
            request.actor.account.id,
            pathId(request.params, 'id'),
            reading.value,
            request.language,
          ),
        ),
      );
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: `${family}/{user_permission_id}`,
    operationId: 'readUserPermission',
    summary: 'Read an entry',
    answers: { ...entryAnswer, ...problems(400, 401, 403, 404) },
    async run(ctx, request) {
      const { caller, company, entry } = address(request);
      return ok(show(await readEntry(ctx, caller, company, entry)));
    },
  }),
  route({
    ...common,
    method: 'PATCH',
    path: `${family}/{user_permission_id}`,
    operationId: 'updateUserPermission',
    summary: 'Update user permissions',
    description:
      'Permission keys merge, `shop_ids` replaces. Nobody grants or takes, for a shop, what they do not hold there; nobody raises themselves; the last manager stays.',
    body: {
      required: true,
      schema: {
        title: 'UserPermissionUpdate',
        type: 'object',
        additionalProperties: false,
        properties: {
          shop_ids: { type: 'array', items: { type: 'integer' }, description: 'Shops the colleague has access to' },
          permissions: {
            type: 'object',
            additionalProperties: false,
            properties: Object.fromEntries(permissionKeys.map((key) => [key, { type: 'boolean' }])),
          },
        },
      },
      example: { shop_ids: [11, 19], permissions: { products: true, discounts: false } },
    },
    answers: { ...entryAnswer, ...problems(400, 401, 403, 404, 409, 413, 415, 422) },
    run: async (ctx, request) => ok(show(await changeEntry(ctx, { ...address(request), change: readChange(request) }))),
  }),
  route({
    ...common,
    method: 'DELETE',
    path: `${family}/{user_permission_id}`,
    operationId: 'deleteUserPermission',
    summary: 'Remove an entry',
    answers: { 200: { description: 'Removed' }, ...problems(400, 401, 403, 404, 409) },
    async run(ctx, request) {
      await removeEntry(ctx, address(request));
      return empty(200);
    },
  }),
  route({
    ...common,
    tag: 'Companies',
    method: 'GET',
    path: '/company/companies',
    operationId: 'listCompanies',
    summary: 'Companies of the signed-in account',
    answers: {
      200: { description: 'Companies', schema: { type: 'array', items: companySchema }, example: [companyExample] },
      ...problems(400, 401),
    },
    run: async (ctx, request) => ok(await companiesOf(ctx, request.actor.account.id)),
  }),
  route({
    ...common,
    tag: 'Companies',
    method: 'GET',
    path: '/company/companies/{id}',
    operationId: 'readCompany',
    summary: 'One company',
    answers: {
      200: { description: 'The company', schema: companySchema, example: companyExample },
      ...problems(400, 401, 404),
    },
    run: async (ctx, request) => ok(await companyOf(ctx, request.actor.account.id, pathId(request.params, 'id'))),
  }),
  route({
    ...common,
    tag: 'Companies',
    method: 'GET',
    path: '/company/companies/{id}/shops',
    operationId: 'listShops',
    summary: 'Shops of a company the account has access to',
    answers: {
      200: {
        description: 'Shops',
        schema: { type: 'array', items: { ...companySchema, title: 'Shop' } },
        example: [{ id: 11, name: { en: 'Moda' }, active: true }],
      },
      ...problems(400, 401, 404),
    },
    run: async (ctx, request) => ok(await shopsOf(ctx, request.actor.account.id, pathId(request.params, 'id'))),
  }),
  route({
    ...common,
    tag: 'Companies',
    method: 'GET',
    path: '/user',
    operationId: 'readUser',
    summary: 'The signed-in account, with its own rights when asked for',
    query: {
      include: { description: '`company_permissions` adds the account’s own entries', schema: { type: 'string' } },
    },
    answers: {
      200: {
        description: 'The account',
        schema: {
          title: 'User',
          type: 'object',
          required: ['firstname', 'lastname', 'email', 'telephone', 'id'],
          properties: {
            firstname: { type: 'string' },
            lastname: { type: 'string' },
            email: { type: 'string' },
            telephone: { type: ['string', 'null'] },
            id: { type: 'integer' },
            company_permissions: {
              type: 'array',
              items: {
                title: 'UserCompanyPermission',
                type: 'object',
                required: ['shop_ids', 'permissions', 'id', 'company_id'],
                properties: {
                  shop_ids: { type: 'array', items: { type: 'integer' } },
                  permissions: booleans(ownKeys),
                  id: { type: 'integer' },
                  company_id: { type: 'integer' },
                },
              },
            },
          },
        },
        example: { firstname: 'Çırak', lastname: 'Demir', email: 'cirak@example.com', telephone: null, id: 1043 },
      },
      ...problems(400, 401),
    },
    async run(ctx, { actor: { account }, query }): Promise<Answer> {
      const include = [query['include'] ?? []].flat().flatMap((names) => names.split(','));
      return ok({
        firstname: account.first_name,
        lastname: account.last_name,
        email: account.email,
        telephone: account.phone,
        id: account.id,
        ...(include.includes('company_permissions')
          ? {
              company_permissions: (await ownEntries(ctx, account.id)).map(
                ({ shop_ids, permissions, id, company }) => ({
                  shop_ids,
                  permissions: Object.fromEntries(ownKeys.map((key) => [key, permissions.includes(key)])),
                  id,
                  company_id: company,
                }),
              ),
            }
          : {}),
      });
    },
  }),
];
