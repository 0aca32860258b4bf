/** BakerOnline's calls around company permissions: companies, shops, and what the signed-in account may do itself. */
import { bearer } from '../../accounts/callers.ts';
import { bakerOnline } from '../../platform/baker.ts';
import { type Answer, ok, type Route, route } from '../../platform/http.ts';
import { pathId, problems } from '../../platform/problem.ts';
import { companiesOf, companyOf, shopsOf } from '../companies/companies.ts';
import { ownEntries } from '../entries/entries.ts';
import { ownKeys } from '../permissions.ts';

const common = { dialect: bakerOnline, who: bearer, tag: 'Companies' } as const;

/** Schema of an object that has each of these keys as a boolean. */
export const booleans = (keys: readonly string[]): object => ({
  type: 'object',
  required: keys,
  properties: Object.fromEntries(keys.map((key) => [key, { type: 'boolean' }])),
});

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

export const documentedCompanyRoutes: readonly Route[] = [
  route({
    ...common,
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
