/** What systems that send messages ask for: the headers and links that go with a message. */
import Type from 'typebox';
import { operator } from '../../accounts/callers.ts';
import { addressHash } from '../../accounts/contact-points.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { fail, refuse } from '../../platform/failure.ts';
import { empty, ok, type Route, route } from '../../platform/http.ts';
import { checkSchema, own, pathId, problems, queryText } from '../../platform/problem.ts';
import { object, text, time } from '../../platform/schema.ts';
import { channels } from '../channels.ts';
import { readRecipient } from '../recipients.ts';
import { accountLink, addressLink, revokeLinks, type SignedLink, tokenOf } from './links.ts';

const names = channels.map(({ name }) => name);

const headersSchema = object(
  { 'List-Unsubscribe': text, 'List-Unsubscribe-Post': text, preferences: text },
  'UnsubscribeHeaders',
);
const headersExample = {
  'List-Unsubscribe': '<https://accounts.example.com/unsubscribe/BAAAAAAAEQ…>',
  'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
  preferences: 'https://accounts.example.com/preferences/AgAAAAAAEQ…',
};
const headersNote =
  'Put both headers on every message and have them signed by DKIM: mail programs then offer to unsubscribe by themselves (RFC 8058). The unsubscribe link never ends; the link to the preference page lasts for PREFERENCE_LINK_AGE. Nothing is stored for either, so ask for every recipient.';

const headers = (ctx: Ctx, origin: string, unsubscribe: SignedLink, preferences: SignedLink): object => ({
  'List-Unsubscribe': `<${origin}/unsubscribe/${tokenOf(ctx, unsubscribe)}>`,
  'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
  preferences: `${origin}/preferences/${tokenOf(ctx, preferences)}`,
});

const kindOf = (channel: string) => channels.find(({ name }) => name === channel)!.kind;

/** @throws invalid unless this purpose is asked for on this channel */
function checkPurpose(ctx: Ctx, channel: string, purpose: string): void {
  const purposes: Record<string, { channels: readonly string[] }> = ctx.settings.get('CONSENT_PURPOSES');
  const values = Object.keys(purposes).filter((name) => purposes[name]!.channels.includes(channel));
  if (!values.includes(purpose))
    refuse({ path: ['purpose'], key: 'invalid.one_of', values: { values: values.join(', ') } });
}

const addressed = Type.Object(
  {
    recipient: Type.String({ minLength: 3, maxLength: 320 }),
    channel: Type.Optional(Type.Enum(names)),
    purpose: Type.Optional(Type.String({ minLength: 1, maxLength: 40 })),
  },
  { additionalProperties: false },
);

const common = { dialect: own, who: operator('consents'), tag: 'Preference links' } as const;

export const linkRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/v1/accounts/{id}/unsubscribe-headers',
    operationId: 'readUnsubscribeHeaders',
    summary: 'Unsubscribe headers for a message to an account',
    description: `${headersNote} For the channels of a phone number the preference page is that of the number alone.`,
    query: {
      channel: {
        description: 'What the message goes by; `email` when absent',
        schema: { type: 'string', enum: names },
      },
      purpose: {
        description: 'What it is sent for, of CONSENT_PURPOSES; `marketing` when absent',
        schema: { type: 'string' },
      },
    },
    answers: {
      200: { description: 'The headers', schema: headersSchema, example: headersExample },
      ...problems(400, 401, 403, 404),
    },
    async run(ctx, { params, query, origin }) {
      const id = pathId(params, 'id');
      const channel = queryText(query, 'channel', names) ?? 'email';
      const purpose = queryText(query, 'purpose') ?? 'marketing';
      checkPurpose(ctx, channel, purpose);
      const account = await ctx.db.one<{ email: number; phone: number | null }>(sql`
        select a.email_point as email, p.id as phone
          from account a left join contact_point p on p.id = a.phone_point and p.value is not null
         where a.id = ${id} and a.is_active`);
      const point = account?.[kindOf(channel)] ?? fail('not_found');
      // A link that goes to a number must not open what belongs to the e-mail address: the two may be different people's.
      const preferences = kindOf(channel) === 'email' ? await accountLink(ctx, id) : await addressLink(ctx, point);
      const unsubscribe = { kind: 'unsubscribe', point, account: id, channel, purpose } as const;
      return ok(headers(ctx, origin, unsubscribe, preferences ?? fail('not_found')));
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/v1/links/unsubscribe-headers',
    operationId: 'makeUnsubscribeHeaders',
    summary: 'Unsubscribe headers for a message to an address',
    description: `${headersNote} For addresses with and without an account: the links speak for the address.`,
    body: {
      required: true,
      schema: addressed,
      example: { recipient: 'ada@example.com', channel: 'email', purpose: 'marketing' },
    },
    answers: {
      200: { description: 'The headers', schema: headersSchema, example: headersExample },
      ...problems(400, 401, 403, 404, 413, 415),
    },
    async run(ctx, { body, origin }) {
      checkSchema(addressed, body.value ?? {});
      const { recipient, channel: given, purpose = 'marketing' } = body.value as Type.Static<typeof addressed>;
      const about = readRecipient(ctx.settings, recipient);
      if ('problem' in about) refuse({ path: ['recipient'], key: about.problem });
      const channel = given ?? (about.kind === 'email' ? 'email' : 'sms');
      if (about.kind !== kindOf(channel)) refuse({ path: ['recipient'], key: 'recipient.kind', values: { channel } });
      checkPurpose(ctx, channel, purpose);
      const row = await ctx.db.one<{ id: number }>(sql`
        select id from contact_point where address_hash = ${addressHash(ctx, about.kind, about.value)}`);
      const preferences = row === undefined ? undefined : await addressLink(ctx, row.id);
      if (row === undefined || preferences === undefined) fail('not_found');
      const unsubscribe = { kind: 'unsubscribe', point: row.id, account: null, channel, purpose } as const;
      return ok(headers(ctx, origin, unsubscribe, preferences));
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/v1/accounts/{id}/preference-link',
    operationId: 'createPreferenceLink',
    summary: 'Make a link to the preference page of an account',
    description:
      'Whoever holds it sees and changes what the account allows, without signing in: send it to the account’s e-mail address and nowhere else. It lasts for PREFERENCE_LINK_AGE, until the address changes, or until it is revoked.',
    answers: {
      201: {
        description: 'The link',
        schema: object({ url: text, expires_at: time }, 'PreferenceLink'),
        example: {
          url: 'https://accounts.example.com/preferences/AQAAAAAEEg…',
          expires_at: '2027-02-19T08:00:00.000Z',
        },
      },
      ...problems(401, 403, 404),
    },
    async run(ctx, { params, origin }) {
      const link = (await accountLink(ctx, pathId(params, 'id'))) ?? fail('not_found');
      return {
        status: 201,
        body: { url: `${origin}/preferences/${tokenOf(ctx, link)}`, expires_at: link.expiresAt.toISOString() },
      };
    },
  }),
  route({
    ...common,
    method: 'DELETE',
    path: '/v1/accounts/{id}/preference-link',
    operationId: 'revokePreferenceLinks',
    summary: 'End every preference link of an account and of its addresses',
    description: 'Unsubscribe links are not touched: they can only ever withdraw.',
    answers: { 204: { description: 'None of them opens anything any more' }, ...problems(401, 403, 404) },
    async run(ctx, { params }) {
      if (!(await revokeLinks(ctx, pathId(params, 'id')))) fail('not_found');
      return empty(204);
    },
  }),
];
