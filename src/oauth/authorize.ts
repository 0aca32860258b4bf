/** `GET /oauth/authorize`: what a client asks for, and the answer its redirect address gets (RFC 6749, 4.1; RFC 9700). */
import type { SignedIn } from '../accounts/sessions.ts';
import type { Ctx } from '../platform/ctx.ts';
import { fail } from '../platform/failure.ts';
import type { Incoming } from '../platform/http.ts';
import { say } from '../platform/language.ts';
import { type Client, usableClient } from './clients.ts';
import { makeCode, readChallenge } from './codes.ts';
import { addressIn } from './pages/page-parts.ts';
import { isRegistered, withAnswer } from './redirects.ts';

export const AUTHORIZE = '/oauth/authorize';

/** What is read of the query; everything else is passed over (RFC 6749, 3.1). */
const known = [
  'response_type',
  'client_id',
  'redirect_uri',
  'scope',
  'state',
  'code_challenge',
  'code_challenge_method',
  'response_mode',
] as const;
type Name = (typeof known)[number];

/** A token of scope: what stands between blanks (RFC 6749, 3.3). */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$/;
/** Characters of a request as a path of ours: it travels inside another on the way through signing in. */
const LONGEST = 3500;

/** Errors of the redirect (RFC 6749, 4.1.2.1). */
type AuthorizeError = 'invalid_request' | 'unsupported_response_type' | 'invalid_scope' | 'access_denied';

/** A request that may go on. */
export interface Asked {
  readonly client: Client;
  readonly redirectUri: string;
  readonly state: string | undefined;
  readonly challenge: string;
}

/** A parameter as text; without a value it counts as absent (RFC 6749, 3.1). */
const one = ({ query }: Incoming, name: Name): string | undefined => {
  const value = query[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
};
const repeated = ({ query }: Incoming, name: Name): boolean => Array.isArray(query[name]);

/**
 * Where an answer goes, and from whom. Nothing is ever sent to an address that is not this client's.
 * @throws invalid_request, for a page
 */
async function whereTo(ctx: Ctx, incoming: Incoming): Promise<{ client: Client; redirectUri: string }> {
  const id = one(incoming, 'client_id');
  const client = id === undefined || id.length > 100 || id.includes('\0') ? undefined : await usableClient(ctx, id);
  if (client === undefined) fail('invalid_request', { complaints: [{ path: [], key: 'oauth.unknown_client' }] });
  const redirectUri = one(incoming, 'redirect_uri');
  if (redirectUri === undefined || !isRegistered(client.redirect_uris, redirectUri))
    fail('invalid_request', {
      complaints: [{ path: [], key: 'oauth.unknown_redirect', values: { name: client.name } }],
    });
  return { client, redirectUri };
}

/** The first thing that is wrong, as the error and the key of its text; undefined when nothing is. */
function wrong(incoming: Incoming): [AuthorizeError, string] | undefined {
  if (known.some((name) => repeated(incoming, name))) return ['invalid_request', 'oauth.repeated'];
  const type = one(incoming, 'response_type');
  if (type === undefined) return ['invalid_request', 'oauth.response_type'];
  if (type !== 'code') return ['unsupported_response_type', 'oauth.response_type'];
  // Silently answering in another way than was asked for would put the code where it is not looked for.
  if ((one(incoming, 'response_mode') ?? 'query') !== 'query') return ['invalid_request', 'oauth.response_mode'];
  if (pathOf(incoming).length > LONGEST) return ['invalid_request', 'oauth.long'];
  const scope = one(incoming, 'scope');
  if (scope !== undefined && !SCOPE.test(scope)) return ['invalid_scope', 'oauth.scope'];
  // `plain` shows the verifier to whoever sees the request, and no challenge at all protects nobody.
  if ((one(incoming, 'code_challenge_method') ?? 'S256') !== 'S256') return ['invalid_request', 'oauth.method'];
  if (readChallenge(one(incoming, 'code_challenge') ?? '') === undefined) return ['invalid_request', 'oauth.challenge'];
  return undefined;
}

/** The address that tells a client why it gets no code. */
export function refusal(
  { redirectUri, state }: { readonly redirectUri: string; readonly state: string | undefined },
  error: AuthorizeError,
  key: string,
): string {
  // English, whatever the reader speaks: it is for the program's log, and of few characters (RFC 6749, 4.1.2.1).
  const answer = { error, error_description: say('en', { key }) };
  return withAnswer(redirectUri, state === undefined ? answer : { ...answer, state });
}

/**
 * Reads a request of a client.
 * @returns it, or the address to send the browser to with what is wrong
 * @throws invalid_request, for a page: the client or its redirect address is not known
 */
export async function readAsked(ctx: Ctx, incoming: Incoming): Promise<Asked | { readonly back: string }> {
  const { client, redirectUri } = await whereTo(ctx, incoming);
  const state = one(incoming, 'state');
  const problem = wrong(incoming);
  if (problem !== undefined) return { back: refusal({ redirectUri, state }, ...problem) };
  return { client, redirectUri, state, challenge: readChallenge(one(incoming, 'code_challenge')!)! };
}

/** What is read of the request: for the form, for the way back from signing in, and for the page in other languages. */
export const parametersOf = (incoming: Incoming): Record<string, string> =>
  Object.fromEntries(
    known.flatMap((name) => {
      const value = one(incoming, name);
      return value === undefined ? [] : [[name, value]];
    }),
  );

/** The request again, as a path of ours. */
export const pathOf = (incoming: Incoming): string => addressIn(incoming, AUTHORIZE, parametersOf(incoming));

/** The address that brings a client its code; undefined when the sign-in has ended meanwhile. */
export async function allow(ctx: Ctx, signedIn: SignedIn, asked: Asked): Promise<string | undefined> {
  const { client, redirectUri, challenge, state } = asked;
  const code = await makeCode(ctx, signedIn, { client: client.id, redirectUri, challenge });
  if (code === undefined) return undefined;
  return withAnswer(redirectUri, state === undefined ? { code } : { code, state });
}
