/** `POST /api/token` and the end of a token: how programs come to speak for an account in BakerOnline's dialect. */
import Type from 'typebox';
import { foldEmail } from '../accounts/accounts.ts';
import { anyone } from '../accounts/callers.ts';
import { bakerOnline, readTexts } from '../platform/baker.ts';
import { fail } from '../platform/failure.ts';
import { empty, ok, type Route, route } from '../platform/http.ts';
import { sha256 } from '../platform/keys.ts';
import { problems } from '../platform/problem.ts';
import { throttle } from '../platform/throttle.ts';
import { passwordGrant, refreshGrant, revoke } from './tokens.ts';

const text = Type.String({ minLength: 1, maxLength: 512 });
const withGrant = Type.Object({ grant_type: text });
const withPassword = Type.Object({
  client_id: text,
  username: text,
  password: text,
  device_id: Type.Optional(text),
  device_name: Type.Optional(text),
});
const withRefreshToken = Type.Object({ refresh_token: text });
const withToken = Type.Object({ token: text });

export const tokenRoutes: readonly Route[] = [
  route({
    dialect: bakerOnline,
    who: anyone,
    throttle: 'token',
    tag: 'Tokens',
    method: 'POST',
    path: '/api/token',
    operationId: 'createToken',
    summary: 'Get an access token',
    description:
      'Grants: `refresh_token`, and `password` for clients that were allowed it. A refresh token works once.',
    body: {
      required: true,
      schema: {
        title: 'TokenRequest',
        type: 'object',
        required: ['grant_type'],
        properties: Object.fromEntries(
          ['grant_type', 'client_id', 'username', 'password', 'refresh_token', 'device_name', 'device_id'].map(
            (name) => [name, { type: 'string' }],
          ),
        ),
      },
      example: {
        grant_type: 'password',
        client_id: 'demo',
        device_name: 'Till 1',
        device_id: 'till-1',
        username: 'usta@example.com',
        password: 'demo-assent-2026',
      },
    },
    answers: {
      200: {
        description: 'Tokens',
        schema: {
          title: 'Tokens',
          type: 'object',
          required: ['access_token', 'token_type', 'expires_in', 'refresh_token'],
          properties: {
            access_token: { type: 'string' },
            token_type: { type: 'string', const: 'Bearer' },
            expires_in: { type: 'integer', description: 'Seconds' },
            refresh_token: { type: 'string' },
          },
        },
        example: { access_token: 'h2…', token_type: 'Bearer', expires_in: 3600, refresh_token: 'p9…' },
      },
      ...problems(400, 401, 413, 415, 422, 429),
    },
    async run(ctx, request) {
      const { grant_type } = readTexts(request, withGrant);
      if (grant_type === 'refresh_token')
        return ok(await refreshGrant(ctx, readTexts(request, withRefreshToken).refresh_token));
      if (grant_type !== 'password') fail('unsupported_grant_type', { values: { grant: grant_type.slice(0, 40) } });
      const asked = readTexts(request, withPassword);
      await throttle(ctx, 'token', `email:${foldEmail(asked.username)}`);
      return ok(await passwordGrant(ctx, asked));
    },
  }),
  route({
    dialect: bakerOnline,
    who: anyone,
    throttle: 'token',
    tag: 'Tokens',
    method: 'POST',
    path: '/oauth/revoke',
    operationId: 'revokeToken',
    summary: 'End a token and its family (RFC 7009)',
    body: {
      required: true,
      schema: { title: 'Revocation', type: 'object', required: ['token'], properties: { token: { type: 'string' } } },
      example: { token: 'p9…' },
    },
    answers: { 200: { description: 'Ended, or unknown' }, ...problems(400, 413, 415, 422, 429) },
    async run(ctx, request) {
      await revoke(ctx, sha256(readTexts(request, withToken).token));
      return empty(200);
    },
  }),
];
