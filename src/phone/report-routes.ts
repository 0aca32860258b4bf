/** What providers tell us about messages, and the test message of an operator. */
import Type from 'typebox';
import { anyone, operator } from '../accounts/callers.ts';
import { fail } from '../platform/failure.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { checkSchema, own, problems } from '../platform/problem.ts';
import { flag, object, text, textOrNull } from '../platform/schema.ts';
import { countHit, throttled } from '../platform/throttle.ts';
import { smsProviders } from './providers/catalogue.ts';
import { applyReports } from './reports.ts';
import { providerName } from './sms.ts';
import { sendTest } from './test-message.ts';

/** Test messages of one operator or key: they cost, and a stolen session must not pay for a thousand. */
const TESTS = { count: 10, duration: 3600 };

const testBody = Type.Object({ to: Type.String({ minLength: 3, maxLength: 40 }) }, { additionalProperties: false });

const reportSchema = object(
  {
    id: {
      type: 'string',
      description: 'The `webhook-id` the message came with, or what `id_field` of the answer said',
    },
    state: { type: 'string', enum: ['sent', 'delivered', 'failed'] },
    reason: { type: 'string', description: 'A code, for `failed`: letters, digits, `.`, `-`, `_`; at most 20' },
  },
  'SmsReport',
);

export const smsRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/sms/reports/{provider}',
    dialect: own,
    who: anyone,
    tag: 'SMS',
    operationId: 'reportSms',
    summary: 'Take in delivery reports of the SMS provider',
    description:
      'For the provider that SMS_PROVIDER names, in its own form and with its own signature. `http` sends the body shown here with the headers of Standard Webhooks: `webhook-id`, `webhook-timestamp` (not older than five minutes) and `webhook-signature`, `v1,` and the base64 of HMAC-SHA-256 under `signing_secret` over `id.timestamp.body`. Repeated and late reports are harmless, and so are those of messages nobody knows.',
    query: { message: { description: 'Id of the message, as we told it to the provider', schema: { type: 'string' } } },
    body: {
      schema: { ...reportSchema, required: ['id', 'state'] },
      example: { id: '0b7b2a52-9d8e-8d4c-a4a0-5d3c5a1f2e77', state: 'delivered' },
    },
    rawBody: true,
    bodyLimit: 64 * 1024,
    answers: { 200: { description: 'Taken in. No body.' }, ...problems(401, 404, 413) },
    async run(ctx, request) {
      const { provider = '' } = request.params;
      const known = Object.hasOwn(smsProviders, provider) ? smsProviders[provider]! : undefined;
      if (known?.reports === undefined || provider !== providerName(ctx)) fail('not_found');
      const { message } = request.query;
      const url = `${request.origin}${request.path}${message === undefined ? '' : `?message=${String(message)}`}`;
      // The signature first: what is forged costs no statement.
      const reports = known.reports(ctx.settings.get('SMS_PROVIDER') as never, {
        url,
        headers: request.headers,
        body: String(request.body.value),
        at: ctx.clock.now(),
      });
      if (reports === undefined) fail('not_signed');
      if (reports.length > 0) await applyReports(ctx, provider, reports);
      return { status: 200 };
    },
  }),
  route({
    method: 'POST',
    path: '/v1/sms/test',
    dialect: own,
    who: operator('settings'),
    tag: 'SMS',
    operationId: 'testSms',
    summary: 'Send a test message',
    description:
      'Sends a message by the configured provider while the caller waits, and says what the provider said. Ten an hour.',
    body: { schema: testBody, example: { to: '+905321234567' }, required: true },
    answers: {
      200: {
        description: 'What the provider said',
        schema: object({ taken: flag, reason: textOrNull, id: text }, 'SmsTest'),
        example: { taken: false, reason: 'HTTP 401, code 20003', id: '6f4c2d4e-52a7-4a0b-8d4f-0a6a1b8a3a11' },
      },
      ...problems(400, 401, 403, 429),
    },
    async run(ctx, { actor, body, origin }) {
      checkSchema(testBody, body.value);
      const hit = await countHit(ctx, 'sms-test', actor.caller, TESTS);
      if (hit.over) throw throttled(hit.resetSeconds);
      const { to } = body.value as { to: string };
      // Without TLS it is this machine or a network of the operator's own, which no provider reaches.
      return ok(await sendTest(ctx, to, origin.startsWith('https:') ? origin : undefined));
    },
  }),
];
