/** `POST /v1/erasures`: the right to be forgotten, for accounts and for guests. */
import Type from 'typebox';
import { operator } from '../accounts/callers.ts';
import { readRecipient } from '../consent/recipients.ts';
import { refuse } from '../platform/failure.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { checkSchema, own, problems } from '../platform/problem.ts';
import { integer, object } from '../platform/schema.ts';
import { eraseAccount, eraseRecipient } from './erasure.ts';

const erasure = Type.Object(
  {
    account: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })),
    recipient: Type.Optional(
      Type.String({ minLength: 3, maxLength: 320, description: 'An address that no account holds' }),
    ),
  },
  { additionalProperties: false, title: 'Erasure' },
);

export const privacyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/erasures',
    dialect: own,
    who: operator('privacy'),
    tag: 'Privacy',
    operationId: 'erase',
    summary: 'Erase an account, or the address of a guest',
    description:
      'For good: sign-in, profile, addresses and evidence are gone when it returns. The lines of the ledger stay without them, and the keyed hash of each address keeps imports from bringing it back.',
    body: { required: true, schema: erasure, example: { account: 1042 } },
    answers: {
      200: {
        description: 'Erased',
        schema: object({ events: integer, addresses: integer }, 'Erased'),
        example: { events: 4, addresses: 2 },
      },
      ...problems(400, 401, 403, 404, 409, 413, 415),
    },
    async run(ctx, { body, actor }) {
      const asked = body.value ?? {};
      checkSchema(erasure, asked);
      const { account, recipient } = asked as Type.Static<typeof erasure>;
      if ((account === undefined) === (recipient === undefined)) refuse({ path: ['account'], key: 'recipient.one' });
      ctx.log.info({ by: actor.name, account: account ?? 'a guest' }, 'erasing');
      if (account !== undefined) return ok(await eraseAccount(ctx, account, actor));
      const read = readRecipient(ctx.settings, recipient!);
      if ('problem' in read) refuse({ path: ['recipient'], key: read.problem });
      return ok(await eraseRecipient(ctx, read, actor.name));
    },
  }),
];
