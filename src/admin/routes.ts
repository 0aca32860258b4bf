/** What operators do over HTTP: settings, and the messages of the console providers. */
import Type from 'typebox';
import { type Operator, operator } from '../accounts/callers.ts';
import { stillMay } from '../accounts/operators.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { checkSchema, own, problems } from '../platform/problem.ts';
import { object, page, text, time } from '../platform/schema.ts';
import { changeSetting, listSettings, readSetting, type SettingView, settingHistory } from '../platform/settings.ts';

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

const settingRoute = { dialect: own, who: operator('settings'), tag: 'Settings' } as const;

/** Changes a setting for whoever may still, and takes it over here. @throws not_authenticated; what `changeSetting` does */
async function change(root: Ctx, name: string, value: unknown, by: Operator): Promise<SettingView> {
  const changed = await transaction(root, async (tx) => {
    await stillMay(tx, by);
    return changeSetting(tx, name, value, by.name);
  });
  await root.settings.refresh(root.db);
  return changed;
}

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
      return ok(await change(ctx, params['name']!, value, actor));
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
    run: async (ctx, { params, actor }) => ok(await change(ctx, params['name']!, undefined, actor)),
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
];
