/** `/v1/clients`: operators register the programs that may ask for tokens. */
import Type from 'typebox';
import { operator } from '../accounts/callers.ts';
import { fail } from '../platform/failure.ts';
import { type Incoming, ok, type Route, route } from '../platform/http.ts';
import { own, problems, queryInteger, queryText, readBody } from '../platform/problem.ts';
import { flag, object, page, text, time, timeOrNull } from '../platform/schema.ts';
import { CLIENT_ID, changeClient, createClient, listClients, readClient } from './clients.ts';
import { REDIRECT_LENGTH, REDIRECTS } from './redirects.ts';

const clientSchema = object(
  {
    id: text,
    name: text,
    redirect_uris: { type: 'array', items: text },
    first_party: { ...flag, description: 'People are not asked whether it may act for them' },
    password_grant: { ...flag, description: 'It may exchange names and passwords for tokens' },
    created_at: time,
    disabled_at: timeOrNull,
  },
  'Client',
);
const example = {
  id: 'back-office',
  name: 'Back office',
  redirect_uris: ['https://back-office.example.com/signed-in'],
  first_party: false,
  password_grant: false,
  created_at: '2026-11-21T08:00:00.000Z',
  disabled_at: null,
};

const fields = {
  name: Type.String({ minLength: 1, maxLength: 100, pattern: '\\S' }),
  redirect_uris: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: REDIRECT_LENGTH }), { maxItems: REDIRECTS, uniqueItems: true }),
  ),
  first_party: Type.Optional(Type.Boolean()),
  password_grant: Type.Optional(Type.Boolean()),
};
const newClient = Type.Object(
  { id: Type.Optional(Type.String({ pattern: CLIENT_ID })), ...fields },
  { additionalProperties: false, title: 'NewClient' },
);
const clientChange = Type.Object(
  { ...fields, name: Type.Optional(fields.name), disabled: Type.Optional(Type.Boolean()) },
  { additionalProperties: false, title: 'ClientChange' },
);

/** The id of the path. @throws not_found: what is no id names nothing */
function clientId({ params }: Incoming): string {
  const id = params['client'] ?? '';
  return new RegExp(CLIENT_ID).test(id) ? id : fail('not_found');
}

const here = { dialect: own, who: operator('clients'), tag: 'Clients' } as const;
const answer = { 200: { description: 'The client', schema: clientSchema, example } };

export const clientRoutes: readonly Route[] = [
  route({
    ...here,
    method: 'GET',
    path: '/v1/clients',
    operationId: 'listClients',
    summary: 'Programs that may ask for tokens',
    query: {
      after: { description: '`next` of the page before', schema: { type: 'string' } },
      limit: { description: 'Clients a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: {
        description: 'A page, in the order of their ids',
        schema: page(clientSchema),
        example: { items: [example], next: null },
      },
      ...problems(400, 401, 403),
    },
    run: async (ctx, { query }) =>
      ok(
        await listClients(ctx, {
          after: queryText(query, 'after'),
          limit: queryInteger(query, 'limit', 1, 500) ?? 50,
        }),
      ),
  }),
  route({
    ...here,
    method: 'POST',
    path: '/v1/clients',
    operationId: 'createClient',
    summary: 'Register a client',
    description:
      'There is no secret: who asks for tokens proves itself by PKCE and by where the browser is sent. `redirect_uris` are https addresses, http on this computer (`127.0.0.1`, `[::1]`: any port; `localhost`), or schemes of a program’s own with a dot in them; they are compared letter by letter. Without `id` a random one is made.',
    body: {
      required: true,
      schema: newClient,
      example: { id: example.id, name: example.name, redirect_uris: example.redirect_uris },
    },
    answers: {
      201: { description: 'The client', schema: clientSchema, example },
      ...problems(400, 401, 403, 409, 413, 415),
    },
    run: async (ctx, { body, actor }) => ({
      status: 201,
      body: await createClient(ctx, readBody(newClient, body), { name: actor.name }),
    }),
  }),
  route({
    ...here,
    method: 'GET',
    path: '/v1/clients/{client}',
    operationId: 'readClient',
    summary: 'One client',
    answers: { ...answer, ...problems(401, 403, 404) },
    run: async (ctx, request) => ok(await readClient(ctx, clientId(request))),
  }),
  route({
    ...here,
    method: 'PATCH',
    path: '/v1/clients/{client}',
    operationId: 'changeClient',
    summary: 'Change, disable or enable a client',
    description:
      'A disabled client gets no tokens, and all it has end with this call; enabling brings none back. `redirect_uris` replaces the list.',
    body: { required: true, schema: clientChange, example: { disabled: true } },
    answers: {
      200: {
        description: 'The client as it is now',
        schema: clientSchema,
        example: { ...example, disabled_at: '2026-11-21T09:00:00.000Z' },
      },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    run: async (ctx, request) => {
      const change = readBody(clientChange, request.body);
      return ok(await changeClient(ctx, clientId(request), change, { name: request.actor.name }));
    },
  }),
];
