/** Notices: the texts people see when they decide. Added, never changed. */
import Type from 'typebox';
import { operator } from '../accounts/callers.ts';
import { fail, refuse } from '../platform/failure.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { checkSchema, own, pathId, problems, queryInteger } from '../platform/problem.ts';
import { integer, object, page, text, time } from '../platform/schema.ts';
import { channels } from './channels.ts';
import { addNotice, listNotices, readNotice } from './notices.ts';

const newNotice = Type.Object(
  {
    purpose: Type.String({ minLength: 1, maxLength: 40, description: 'One of CONSENT_PURPOSES' }),
    channels: Type.Array(Type.Enum(channels.map(({ name }) => name)), { minItems: 1, uniqueItems: true }),
    language: Type.String({ pattern: '^[a-z]{2}$' }),
    version: Type.String({ minLength: 1, maxLength: 100, description: 'Your name of this wording' }),
    text: Type.String({ minLength: 1, maxLength: 20_000, description: 'Exactly what people see' }),
    withdrawal: Type.String({ minLength: 1, maxLength: 2000, description: 'How the consent is taken back, in words' }),
    valid_from: Type.Optional(Type.String({ format: 'date-time', description: 'Now when absent; never in the past' })),
  },
  { additionalProperties: false, title: 'NewNotice' },
);

const notice = object(
  {
    id: integer,
    purpose: text,
    channels: { type: 'array', items: text },
    language: text,
    version: text,
    text,
    text_sha256: text,
    withdrawal: text,
    valid_from: time,
    created_at: time,
    created_by: text,
  },
  'Notice',
);
const example = {
  id: 3,
  purpose: 'marketing',
  channels: ['email', 'sms'],
  language: 'en',
  version: '2026-11',
  text: 'Yes, send me offers by e-mail and text message. I can stop them at any time.',
  text_sha256: '6b3a55e0261b0304143f805a24924d0c1c44524821305f31d9277843b8a10f4e',
  withdrawal: 'By the link in every message, on the preference page, or in the account.',
  valid_from: '2026-11-21T08:00:00.000Z',
  created_at: '2026-11-21T08:00:00.000Z',
  created_by: 'operator:1',
};

const common = { dialect: own, who: operator('consents'), tag: 'Notices' } as const;

export const noticeRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/v1/notices',
    operationId: 'listNotices',
    summary: 'Notices, newest first',
    query: {
      after: { description: '`next` of the page before', schema: { type: 'integer', minimum: 1 } },
      limit: { description: 'Notices a page', schema: { type: 'integer', minimum: 1, maximum: 500, default: 50 } },
    },
    answers: {
      200: {
        description: 'A page of notices',
        schema: page(notice),
        example: { items: [example], next: null },
      },
      ...problems(400, 401, 403),
    },
    async run(ctx, { query }) {
      const after = queryInteger(query, 'after', 1, Number.MAX_SAFE_INTEGER);
      return ok(await listNotices(ctx, { after, limit: queryInteger(query, 'limit', 1, 500) ?? 50 }));
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/v1/notices',
    operationId: 'addNotice',
    summary: 'Add a text, or a new version of one',
    description:
      'In force from `valid_from`: consents given then name it, unless the client says which notice it showed (`Assent-Notice`). A text is never changed; a new version replaces it.',
    body: {
      required: true,
      schema: newNotice,
      example: {
        ...example,
        id: undefined,
        text_sha256: undefined,
        valid_from: undefined,
        created_at: undefined,
        created_by: undefined,
      },
    },
    answers: { 201: { description: 'Kept', schema: notice, example }, ...problems(400, 401, 403, 409, 413, 415) },
    async run(ctx, { body, actor }) {
      checkSchema(newNotice, body.value ?? {});
      const { valid_from, ...given } = body.value as Type.Static<typeof newNotice>;
      const purpose = ctx.settings.get('CONSENT_PURPOSES')[given.purpose];
      if (purpose === undefined) refuse({ path: ['purpose'], key: 'statement.purpose' });
      const stray = given.channels.find((channel) => !purpose.channels.includes(channel));
      if (stray !== undefined)
        refuse({ path: ['channels'], key: 'notice.channel', values: { purpose: given.purpose, channel: stray } });
      const from = valid_from === undefined ? undefined : new Date(valid_from);
      if (from !== undefined && Number.isNaN(from.getTime())) refuse({ path: ['valid_from'], key: 'statement.time' });
      return { status: 201, body: await addNotice(ctx, { ...given, valid_from: from }, actor.name) };
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: '/v1/notices/{id}',
    operationId: 'readNotice',
    summary: 'One notice',
    answers: { 200: { description: 'The notice', schema: notice, example }, ...problems(401, 403, 404) },
    run: async (ctx, { params }) => ok((await readNotice(ctx, pathId(params, 'id'))) ?? fail('not_found')),
  }),
];
