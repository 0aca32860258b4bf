/** `POST /api/token` and the end of a token: how programs come to speak for an account in BakerOnline's dialect. */
import Type from 'typebox';
import { foldEmail } from '../accounts/accounts.ts';
import { anyone } from '../accounts/callers.ts';
import { readTexts } from '../platform/baker.ts';
import type { Ctx } from '../platform/ctx.ts';
import { fail } from '../platform/failure.ts';
import { empty, ok, type Request, type Route, route } from '../platform/http.ts';
import { sha256 } from '../platform/keys.ts';
import { own, problems } from '../platform/problem.ts';
import { throttle } from '../platform/throttle.ts';
import { AUTHORIZE } from './authorize.ts';
import { codeGrant, VERIFIER } from './codes.ts';
import { oauthErrors, tokenDialect } from './token-errors.ts';
import { passwordGrant, refreshGrant, revoke, type Tokens } from './tokens.ts';

const text = Type.String({ minLength: 1, maxLength: 512 });
const withGrant = Type.Object({ grant_type: text });
const device = { device_id: Type.Optional(text), device_name: Type.Optional(text) };
const withPassword = Type.Object({
  client_id: text,
  username: text,
  password: text,
  otp: Type.Optional(text),
  ...device,
});
const withCode = Type.Object({
  client_id: text,
  code: text,
  code_verifier: Type.String({ pattern: VERIFIER }),
  redirect_uri: Type.Optional(text),
  ...device,
});
const withRefreshToken = Type.Object({ refresh_token: text, client_id: Type.Optional(text) });
const withToken = Type.Object({ token: text, client_id: Type.Optional(text) });

type Grant = (ctx: Ctx, request: Request<object>, userAgent: string | undefined) => Promise<Tokens>;

const byCode: Grant = (ctx, request, user_agent) => codeGrant(ctx, { ...readTexts(request, withCode), user_agent });

const grants: ReadonlyMap<string, Grant> = new Map<string, Grant>([
  // `code` is what the documented API calls it.
  ['code', byCode],
  ['authorization_code', byCode],
  [
    'refresh_token',
    (ctx, request, userAgent) => {
      const { refresh_token, client_id } = readTexts(request, withRefreshToken);
      return refreshGrant(ctx, refresh_token, client_id, userAgent);
    },
  ],
  [
    'password',
    async (ctx, request, user_agent) => {
      const asked = readTexts(request, withPassword);
      await throttle(ctx, 'token', `email:${foldEmail(asked.username)}`);
      return passwordGrant(ctx, { ...asked, user_agent });
    },
  ],
]);

/** What `POST /api/token` and its relatives answer. */
export const tokensAnswer = {
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
} as const;

export const tokenRoutes: readonly Route[] = [
  route({
    dialect: tokenDialect,
    who: anyone,
    throttle: 'token',
    tag: 'Tokens',
    method: 'POST',
    path: '/api/token',
    operationId: 'createToken',
    summary: 'Get an access token',
    description:
      'Grants: `code` (or `authorization_code`, one and the same) exchanges what `/oauth/authorize` sent to the redirect address, with the verifier of its challenge (RFC 7636); `refresh_token`, which works once; `password` for clients that were allowed it, with `otp` where the account has a second factor. A client, an account and a `device_id` have one pair of tokens: asking again ends the one before. Of more than 20 sign-ins of an account by one client the oldest end. A code or refresh token that comes back ends all tokens that came from it. Errors carry the members of RFC 6749, 5.2 too.',
    body: {
      required: true,
      schema: {
        title: 'TokenRequest',
        type: 'object',
        required: ['grant_type'],
        properties: {
          ...Object.fromEntries(
            [
              'grant_type',
              'client_id',
              'code',
              'redirect_uri',
              'username',
              'password',
              'otp',
              'refresh_token',
              'device_name',
              'device_id',
            ].map((name) => [name, { type: 'string' }]),
          ),
          code_verifier: { type: 'string', pattern: VERIFIER },
        },
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
    answers: { ...tokensAnswer, ...oauthErrors(400, 401, 405, 406, 413, 415, 422, 429, 503) },
    async run(ctx, request) {
      const { grant_type } = readTexts(request, withGrant);
      const grant = grants.get(grant_type);
      if (grant === undefined) fail('unsupported_grant_type', { values: { grant: grant_type.slice(0, 40) } });
      return ok(await grant(ctx, request, request.headers['user-agent']));
    },
  }),
  route({
    dialect: tokenDialect,
    who: anyone,
    throttle: 'token',
    tag: 'Tokens',
    method: 'POST',
    path: '/oauth/revoke',
    operationId: 'revokeToken',
    summary: 'End a token and its family (RFC 7009)',
    description: 'An access or a refresh token. With `client_id` it must be one of that client.',
    body: {
      required: true,
      schema: {
        title: 'Revocation',
        type: 'object',
        required: ['token'],
        properties: { token: { type: 'string' }, client_id: { type: 'string' } },
      },
      example: { token: 'p9…' },
    },
    answers: { 200: { description: 'Ended, or unknown' }, ...oauthErrors(400, 405, 406, 413, 415, 422, 429, 503) },
    async run(ctx, request) {
      const { token, client_id } = readTexts(request, withToken);
      await revoke(ctx, sha256(token), client_id);
      return empty(200);
    },
  }),
  route({
    dialect: own,
    who: anyone,
    tag: 'Tokens',
    method: 'GET',
    path: '/.well-known/oauth-authorization-server',
    operationId: 'readAuthorizationServer',
    summary: 'What a client must know to ask for tokens (RFC 8414)',
    answers: {
      200: {
        description: 'Addresses and abilities',
        schema: {
          title: 'AuthorizationServer',
          type: 'object',
          required: ['issuer', 'authorization_endpoint', 'token_endpoint', 'response_types_supported'],
          properties: Object.fromEntries(
            Object.entries(facts('')).map(([name, value]) => [
              name,
              Array.isArray(value) ? { type: 'array', items: { type: 'string' } } : { type: 'string' },
            ]),
          ),
        },
        example: facts('https://accounts.example.com'),
      },
      ...problems(400),
    },
    run: async (_ctx, { origin }) => ok(facts(origin)),
  }),
];

/** RFC 8414, 2: what is true of us, no more. @param origin the issuer */
function facts(origin: string): Record<string, string | string[]> {
  return {
    issuer: origin,
    authorization_endpoint: `${origin}${AUTHORIZE}`,
    token_endpoint: `${origin}/api/token`,
    revocation_endpoint: `${origin}/oauth/revoke`,
    response_types_supported: ['code'],
    response_modes_supported: ['query'],
    grant_types_supported: ['authorization_code', 'refresh_token', 'password'],
    token_endpoint_auth_methods_supported: ['none'],
    revocation_endpoint_auth_methods_supported: ['none'],
    code_challenge_methods_supported: ['S256'],
    service_documentation: `${origin}/docs`,
  };
}
