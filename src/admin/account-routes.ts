/** Accounts over HTTP: finding one, and what operators do when it is in the wrong hands. */
import Type from 'typebox';
import { type Operator, operator } from '../accounts/callers.ts';
import type { Doer } from '../accounts/operator-events.ts';
import { ownSessions } from '../accounts/sessions.ts';
import { channels } from '../consent/channels.ts';
import type { Ctx } from '../platform/ctx.ts';
import { fail, refuse } from '../platform/failure.ts';
import { empty, type Incoming, ok, type Request, type Route, route } from '../platform/http.ts';
import { changeReason, own, pathId, problems, queryInteger, queryText, readBody } from '../platform/problem.ts';
import { flag, flagOrNull, integer, object, page, text, textOrNull, time, timeOrNull } from '../platform/schema.ts';
import { reason } from '../staff/requests.ts';
import { accountExists, findAccounts, readAccount } from './accounts.ts';
import {
  endSignIns,
  outsideIdentities,
  switchAccount,
  takeSecondFactor,
  unlinkIdentity,
  voidPassword,
} from './acts.ts';

const accountProperties = {
  id: integer,
  email: text,
  first_name: text,
  last_name: text,
  phone: textOrNull,
  is_active: flag,
  is_operator: flag,
  invited: flag,
  date_joined: time,
  consents: object(Object.fromEntries(channels.map(({ flag: name }) => [name, flagOrNull]))),
};
const accountSchema = object(accountProperties, 'Account');
const inFull = {
  ...accountProperties,
  second_factor: flag,
  identities: { ...integer, description: 'Outside identities that are linked to it' },
  loyalty: {
    ...object(
      {
        card_number: textOrNull,
        tier: textOrNull,
        points: { type: ['number', 'null'] },
        delivered_at: timeOrNull,
        status: { type: 'string', enum: ['waiting', 'parked', 'settled'] },
        reason: { ...textOrNull, description: 'Why it was parked, or failed last' },
      },
      'LoyaltyStanding',
    ),
    type: ['object', 'null'],
    description: 'How the account stands with the loyalty provider; null: it never had to do with one',
  },
};
const accountInFullSchema = object(inFull, 'AccountInFull');
/** In the answers of calls that take an operator away. */
export const keysMade = {
  type: 'array',
  items: object({ id: integer, name: text }),
  description: 'API keys that they made as an operator and that work: revoke what they may know',
};
const switchedSchema = object(
  {
    ...inFull,
    unmanaged_companies: {
      type: 'array',
      items: integer,
      description: 'Companies they own or manage in which nobody is left who can manage: name another owner',
    },
    keys_made: keysMade,
  },
  'SwitchedAccount',
);
const accountExample = {
  id: 1042,
  email: 'ada@example.com',
  first_name: 'Ada',
  last_name: 'Yılmaz',
  phone: '+905321234567',
  is_active: true,
  is_operator: false,
  invited: false,
  date_joined: '2026-11-21T08:00:00.000Z',
  consents: { email_allowed: true, sms_allowed: false, whatsapp_allowed: false, call_allowed: null },
};
const inFullExample = {
  ...accountExample,
  second_factor: true,
  identities: 0,
  loyalty: {
    card_number: 'L-7730',
    tier: 'Gold',
    points: 1250,
    delivered_at: '2026-11-21T08:00:01.000Z',
    status: 'settled',
    reason: null,
  },
};

const sessionSchema = object(
  {
    id: text,
    client_id: { ...textOrNull, description: 'The program that asked for tokens; null for a browser' },
    client_name: textOrNull,
    device_id: { ...textOrNull, description: 'As the program named it' },
    device_name: { ...textOrNull, description: 'As the program named it' },
    user_agent: { ...textOrNull, description: 'Header of the request that signed in' },
    created_at: time,
    renewed_at: time,
    expires_at: time,
  },
  'AccountSession',
);
const sessionExample = {
  id: '5f1d8d0e-0c8b-4c3a-9d51-2a1f6f0a7c11',
  client_id: 'till',
  client_name: 'Till',
  device_id: 'till-1',
  device_name: 'Till 1',
  user_agent: null,
  created_at: '2026-11-21T08:00:00.000Z',
  renewed_at: '2026-11-21T10:00:00.000Z',
  expires_at: '2027-02-19T10:00:00.000Z',
};

const identitySchema = object({ issuer: text, subject: text, created_at: time, last_used_at: time }, 'OutsideIdentity');
const identityExample = {
  issuer: 'https://login.shop.example',
  subject: '248289761001',
  created_at: '2026-11-21T08:00:00.000Z',
  last_used_at: '2026-11-21T10:00:00.000Z',
};

const accountChange = Type.Object(
  { active: Type.Boolean(), reason },
  { additionalProperties: false, title: 'AccountChange' },
);

const why = Type.Object({ reason }, { additionalProperties: false, title: 'Reason' });
const OPERATORS = ' With operators this is for those who are signed in, and for no API key.';
const WHY = `${OPERATORS} \`Assent-Change-Reason\` goes to the history.`;

/** Who does it, and why they say they do it. */
const doer = (request: Request<Operator>): Doer => ({ name: request.actor.name, reason: changeReason(request) });

const reading = { dialect: own, who: operator('accounts'), tag: 'Accounts' } as const;
const managing = { dialect: own, who: operator('manage_accounts'), tag: 'Accounts' } as const;

/** The account of the path, which is one. @throws not_found */
async function known(ctx: Ctx, { params }: Incoming): Promise<number> {
  const id = pathId(params, 'id');
  return (await accountExists(ctx, id)) ? id : fail('not_found');
}

export const accountsRoutes: readonly Route[] = [
  route({
    ...reading,
    method: 'GET',
    path: '/v1/accounts',
    operationId: 'findAccounts',
    summary: 'Find accounts',
    query: {
      email: { description: 'Address, in any case', schema: { type: 'string' } },
      phone: { description: 'Phone number in E.164', schema: { type: 'string' } },
      q: { description: 'Beginning of a name or an address', schema: { type: 'string' } },
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: { description: 'Accounts a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: {
        description: 'A page, newest first',
        schema: page(accountSchema),
        example: { items: [accountExample], next: null },
      },
      ...problems(400, 401, 403),
    },
    async run(ctx, { query }) {
      const after = queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER);
      const filter = { email: queryText(query, 'email'), phone: queryText(query, 'phone'), q: queryText(query, 'q') };
      return ok(await findAccounts(ctx, { ...filter, after, limit: queryInteger(query, 'limit', 1, 500) ?? 50 }));
    },
  }),
  route({
    ...reading,
    method: 'GET',
    path: '/v1/accounts/{id}',
    operationId: 'readAccount',
    summary: 'One account',
    answers: {
      200: {
        description: 'The account',
        schema: accountInFullSchema,
        example: inFullExample,
      },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ok((await readAccount(ctx, pathId(params, 'id'))) ?? fail('not_found')),
  }),
  route({
    ...managing,
    method: 'PATCH',
    path: '/v1/accounts/{id}',
    operationId: 'changeAccount',
    summary: 'Switch an account off or on',
    description:
      'Off ends every sign-in, token, code and mailed link of it with this call; on brings none back. What the account holds stays, its rights in companies too; they are of no use while it is off. Nobody switches their own account, nor the last operator off.' +
      OPERATORS,
    body: { required: true, schema: accountChange, example: { active: false, reason: 'The phone was stolen' } },
    answers: {
      200: {
        description: 'The account as it is now',
        schema: switchedSchema,
        example: { ...inFullExample, is_active: false, unmanaged_companies: [10], keys_made: [] },
      },
      ...problems(400, 401, 403, 404, 409, 413, 415),
    },
    async run(ctx, { actor, params, body }) {
      const id = pathId(params, 'id');
      const { active, reason: told } = readBody(accountChange, body);
      const by = { name: actor.name, reason: told };
      const { unmanaged_companies, keys_made } = await switchAccount(ctx, id, active, by);
      return ok({ ...((await readAccount(ctx, id)) ?? fail('not_found')), unmanaged_companies, keys_made });
    },
  }),
  route({
    ...reading,
    method: 'GET',
    path: '/v1/accounts/{id}/sessions',
    operationId: 'listAccountSessions',
    summary: 'Sign-ins of an account',
    answers: {
      200: {
        description: 'Those that are not over, the most recently renewed first',
        schema: page(sessionSchema),
        example: { items: [sessionExample], next: null },
      },
      ...problems(401, 403, 404),
    },
    run: async (ctx, request) => ok({ items: await ownSessions(ctx, await known(ctx, request)), next: null }),
  }),
  route({
    ...managing,
    method: 'DELETE',
    path: '/v1/accounts/{id}/sessions',
    operationId: 'endAccountSessions',
    summary: 'End every sign-in of an account',
    description: `Its tokens and the codes under way end with this call. It may sign in again.${WHY}`,
    answers: { 204: { description: 'There is none any more' }, ...problems(400, 401, 403, 404) },
    async run(ctx, request) {
      await endSignIns(ctx, pathId(request.params, 'id'), doer(request));
      return empty(204);
    },
  }),
  route({
    ...reading,
    method: 'GET',
    path: '/v1/accounts/{id}/identities',
    operationId: 'listAccountIdentities',
    summary: 'Outside identities that are linked to an account',
    answers: {
      200: {
        description: 'In the order of their issuers',
        schema: page(identitySchema),
        example: { items: [identityExample], next: null },
      },
      ...problems(401, 403, 404),
    },
    run: async (ctx, request) => ok({ items: await outsideIdentities(ctx, await known(ctx, request)), next: null }),
  }),
  route({
    ...managing,
    method: 'DELETE',
    path: '/v1/accounts/{id}/identities',
    operationId: 'unlinkAccountIdentity',
    summary: 'Unlink an outside identity from an account',
    description: `Every sign-in of the account ends with this call: which of them came by the issuer is not known. While the issuer vouches for the address of the account, the next sign-in there links it anew.${WHY}`,
    query: { issuer: { description: 'Required: `issuer` of the identity', schema: { type: 'string' } } },
    answers: { 204: { description: 'It is not linked any more' }, ...problems(400, 401, 403, 404, 409) },
    async run(ctx, request) {
      const id = pathId(request.params, 'id');
      const issuer = queryText(request.query, 'issuer') ?? refuse({ path: ['issuer'], key: 'field.required' });
      await unlinkIdentity(ctx, id, issuer, doer(request));
      return empty(204);
    },
  }),
  route({
    ...managing,
    method: 'DELETE',
    path: '/v1/accounts/{id}/second-factor',
    operationId: 'removeAccountSecondFactor',
    summary: 'Take the second factor of an account away',
    description: `For somebody who lost app and recovery codes: make sure that it is them who ask. Every sign-in of the account ends with this call, and its owner is told by mail.${WHY}`,
    answers: { 204: { description: 'There is none any more' }, ...problems(400, 401, 403, 404, 409) },
    async run(ctx, request) {
      await takeSecondFactor(ctx, pathId(request.params, 'id'), doer(request));
      return empty(204);
    },
  }),
  route({
    ...managing,
    method: 'POST',
    path: '/v1/accounts/{id}/password-reset',
    operationId: 'voidAccountPassword',
    summary: 'Make the password of an account worthless, and mail a link to set a new one',
    description:
      'For a password that others know. Every sign-in and mailed link of the account ends with this call. One that is switched off gets no mail: its owner asks for the link when it is on. Five times an hour at most.' +
      OPERATORS,
    body: { required: false, schema: why, example: { reason: 'She used it elsewhere too, and it leaked there' } },
    answers: {
      200: {
        description: 'The password is void',
        schema: object(
          {
            sign_ins: { ...integer, description: 'That ended' },
            mailed: { ...flag, description: 'The mail with the link goes out' },
          },
          'VoidedPassword',
        ),
        example: { sign_ins: 3, mailed: true },
      },
      ...problems(400, 401, 403, 404, 409, 413, 415, 429),
    },
    async run(ctx, { actor, params, body }) {
      const by = { name: actor.name, reason: readBody(why, body).reason };
      const { ended, mailed } = await voidPassword(ctx, pathId(params, 'id'), by);
      return ok({ sign_ins: ended, mailed });
    },
  }),
];
