/** What operators do over HTTP: settings, the messages of the console providers, accounts. */
import Type from 'typebox';
import { operator } from '../accounts/callers.ts';
import { channels } from '../consent/channels.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { checkSchema, own, pathId, problems, queryInteger, queryText } from '../platform/problem.ts';
import { flag, flagOrNull, integer, object, page, text, textOrNull, time, timeOrNull } from '../platform/schema.ts';
import { changeSetting, listSettings, readSetting, settingHistory } from '../platform/settings.ts';
import { findAccounts, readAccount } from './accounts.ts';

const settingSchema = {
  title: 'Setting',
  type: 'object',
  required: ['name', 'value', 'default', 'description', 'changed_at', 'changed_by'],
  properties: {
    name: { type: 'string' },
    value: {},
    default: {},
    description: { type: 'string' },
    changed_at: { type: ['string', 'null'], format: 'date-time' },
    changed_by: { type: ['string', 'null'] },
  },
};
const settingExample = {
  name: 'SMS_OTP_EXPIRE_TIME',
  value: 180,
  default: 180,
  description: 'Life of a code, in seconds; 0: it does not expire.',
  changed_at: null,
  changed_by: null,
};

const newValue = Type.Object({ value: Type.Unknown() }, { additionalProperties: false });

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
const accountInFullSchema = object(
  {
    ...accountProperties,
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
  },
  'AccountInFull',
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

const settingRoute = { dialect: own, who: operator('settings'), tag: 'Settings' } as const;
const accountRoute = { dialect: own, who: operator('accounts'), tag: 'Accounts' } as const;

/** Messages that a console provider kept, oldest first. */
const outbox = (medium: 'sms' | 'mail'): Route =>
  route({
    dialect: own,
    who: operator('outbox'),
    tag: 'Outbox',
    method: 'GET',
    path: `/v1/outbox/${medium}`,
    operationId: medium === 'sms' ? 'listSmsOutbox' : 'listMailOutbox',
    summary: `What the console ${medium} provider would have sent`,
    description: 'Development and demo only: real providers keep nothing here.',
    answers: {
      200: {
        description: 'Messages, newest last',
        schema: {
          type: 'array',
          items: {
            type: 'object',
            required: ['to', 'text', 'at'],
            properties: {
              to: { type: 'string' },
              subject: { type: 'string' },
              text: { type: 'string' },
              at: { type: 'string', format: 'date-time' },
            },
          },
        },
        example: [{ to: '+905321234567', text: 'Your code is 123456.', at: '2026-11-21T08:00:00.000Z' }],
      },
      ...problems(401, 403),
    },
    run: async (ctx) => ok(await listOutbox(ctx, medium)),
  });

async function listOutbox(ctx: Ctx, medium: 'sms' | 'mail'): Promise<object[]> {
  const rows = await ctx.db.rows<{ recipient: string; subject: string | null; body: string; sent_at: Date }>(sql`
    select recipient, subject, body, sent_at from
      (select * from console_message where medium = ${medium} order by id desc limit 500) newest order by id`);
  return rows.map(({ recipient, subject, body, sent_at }) => ({
    to: recipient,
    ...(subject === null ? {} : { subject }),
    text: body,
    at: sent_at.toISOString(),
  }));
}

export const adminRoutes: readonly Route[] = [
  route({
    ...settingRoute,
    method: 'GET',
    path: '/v1/settings',
    operationId: 'listSettings',
    summary: 'All settings with their values, defaults and descriptions',
    answers: {
      200: { description: 'Settings', schema: page(settingSchema), example: { items: [settingExample], next: null } },
      ...problems(401, 403),
    },
    run: async (ctx) => ok({ items: await listSettings(ctx.db), next: null }),
  }),
  route({
    ...settingRoute,
    method: 'GET',
    path: '/v1/settings/{name}',
    operationId: 'readSetting',
    summary: 'One setting',
    answers: {
      200: { description: 'The setting', schema: settingSchema, example: settingExample },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ok(await readSetting(ctx.db, params['name']!)),
  }),
  route({
    ...settingRoute,
    method: 'PUT',
    path: '/v1/settings/{name}',
    operationId: 'changeSetting',
    summary: 'Change a setting',
    description: 'Takes effect in every process at once, and is kept in the history.',
    body: {
      required: true,
      schema: {
        title: 'SettingChange',
        type: 'object',
        required: ['value'],
        additionalProperties: false,
        properties: { value: {} },
      },
      example: { value: 300 },
    },
    answers: {
      200: {
        description: 'The setting as it is now',
        schema: settingSchema,
        example: { ...settingExample, value: 300 },
      },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, { params, body, actor }) {
      checkSchema(newValue, body.value ?? {});
      const { value } = body.value as { value: unknown };
      const changed = await changeSetting(ctx, params['name']!, value, actor.name);
      await ctx.settings.refresh(ctx.db);
      return ok(changed);
    },
  }),
  route({
    ...settingRoute,
    method: 'DELETE',
    path: '/v1/settings/{name}',
    operationId: 'resetSetting',
    summary: 'Return a setting to its default',
    answers: {
      200: { description: 'The setting as it is now', schema: settingSchema, example: settingExample },
      ...problems(401, 403, 404),
    },
    async run(ctx, { params, actor }) {
      const changed = await changeSetting(ctx, params['name']!, undefined, actor.name);
      await ctx.settings.refresh(ctx.db);
      return ok(changed);
    },
  }),
  route({
    ...settingRoute,
    method: 'GET',
    path: '/v1/settings/{name}/history',
    operationId: 'listSettingHistory',
    summary: 'Who changed a setting from what to what, newest first',
    answers: {
      200: {
        description: 'Changes',
        // A value is whatever the setting's own type is; null is its default.
        schema: page(object({ value: {}, previous: {}, changed_at: time, changed_by: text })),
        example: {
          items: [{ value: 300, previous: 180, changed_at: '2026-11-21T08:00:00.000Z', changed_by: 'operator:1' }],
          next: null,
        },
      },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ok({ items: await settingHistory(ctx.db, params['name']!), next: null }),
  }),
  outbox('sms'),
  outbox('mail'),
  route({
    ...accountRoute,
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
    ...accountRoute,
    method: 'GET',
    path: '/v1/accounts/{id}',
    operationId: 'readAccount',
    summary: 'One account',
    answers: {
      200: {
        description: 'The account',
        schema: accountInFullSchema,
        example: {
          ...accountExample,
          loyalty: {
            card_number: 'L-7730',
            tier: 'Gold',
            points: 1250,
            delivered_at: '2026-11-21T08:00:01.000Z',
            status: 'settled',
            reason: null,
          },
        },
      },
      ...problems(401, 403, 404),
    },
    run: async (ctx, { params }) => ok((await readAccount(ctx, pathId(params, 'id'))) ?? fail('not_found')),
  }),
];
