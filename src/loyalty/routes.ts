/** The one address at which the loyalty provider tells us things. */
import { anyone } from '../accounts/callers.ts';
import { fail, refuse } from '../platform/failure.ts';
import { empty, type Route, route } from '../platform/http.ts';
import { own, problems } from '../platform/problem.ts';
import { configured } from './members.ts';
import { takeIn } from './told.ts';

const newsSchema = {
  title: 'LoyaltyNews',
  type: 'object',
  required: ['account', 'at'],
  properties: {
    account: { type: 'integer', description: 'Id of the account' },
    card_number: { type: ['string', 'null'], maxLength: 100 },
    tier: { type: ['string', 'null'], maxLength: 100 },
    points: { type: ['number', 'null'] },
    at: { type: 'string', format: 'date-time', description: 'Since when it is so, by the clock of the sender' },
  },
};

export const loyaltyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/loyalty/messages',
    dialect: own,
    who: anyone,
    tag: 'Loyalty',
    operationId: 'takeLoyaltyMessage',
    summary: 'Take in what the loyalty provider tells',
    description:
      'For the provider that CUSTOMER_LOYALTY_CARD_SERVICE names, in its own form and with its own signature. `http` sends the body shown here, one or a list of at most 1000, with the headers of Standard Webhooks under `incoming_secret`. A message counts once, by its id; a value gives way only to one that is as new or newer; one that is absent stays, null clears it. Accounts that are not known are passed over.',
    body: {
      required: true,
      schema: { oneOf: [newsSchema, { type: 'array', maxItems: 1000, items: newsSchema }] },
      example: { account: 1042, card_number: 'L-7730', tier: 'Gold', points: 1250, at: '2026-11-21T08:00:00Z' },
    },
    rawBody: true,
    answers: { 204: { description: 'Taken in, now or before' }, ...problems(400, 401, 404, 413) },
    async run(ctx, { origin, path, headers, body }) {
      const provider = configured(ctx);
      if (provider === undefined || provider.connector.take === null) fail('not_found');
      // Before any statement: what is forged costs next to nothing.
      const taken = provider.connector.take(provider.setting as never, {
        url: `${origin}${path}`,
        headers,
        body: String(body.value),
        at: ctx.clock.now(),
      });
      if (taken === null) fail('not_found');
      if (taken === undefined) fail('not_signed');
      if ('wrong' in taken)
        refuse(
          ...taken.wrong.map(({ path: place, detail }) => ({
            path: place,
            key: 'invalid.as_told',
            values: { detail },
          })),
        );
      await takeIn(ctx, provider, taken);
      return empty(204);
    },
  }),
];
