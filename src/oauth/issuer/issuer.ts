/**
 * Asking an outside issuer who somebody is: OpenID Connect Core 1.0, authorization code with PKCE, by `openid-client`. The
 * only calls to others that a request waits for (decision 23): to what the issuer's discovery document names, without
 * following redirects, ten seconds in all.
 */
import * as oidc from 'openid-client';
import type { Static } from 'typebox';
import type { Ctx } from '../../platform/ctx.ts';
import { CallError, call } from '../../platform/outgoing.ts';
import type { oidcIssuer } from '../../settings/issuer.ts';

/** The setting SIGN_IN_ISSUER when there is an issuer. */
export type Issuer = Static<typeof oidcIssuer>;

/** Which page says what went wrong. */
export type Trouble = 'stale' | 'denied' | 'away' | 'untrusted' | 'address' | 'nobody';

/** A sign-in that came to nothing. The message is for the log: a few words of ours, nothing of what was sent. */
export class IssuerRefusal extends Error {
  override readonly name = 'IssuerRefusal';
  readonly trouble: Trouble;

  constructor(trouble: Trouble, reason: string) {
    super(reason);
    this.trouble = trouble;
  }
}

/** What a browser keeps while its person is at the issuer. */
export interface Begun {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
}

/** Somebody as the issuer knows them. */
export interface Outsider {
  readonly issuer: string;
  readonly subject: string;
  /** Only if the issuer says that it is verified. */
  readonly email?: string;
}

export const START = '/account/sign-in/issuer';
export const CALLBACK = `${START}/callback`;

/** Milliseconds for all calls of one request together. */
const LIMIT = 10_000;
/** Milliseconds for which a discovery document is believed. It names addresses and gives no rights; keys are read each time. */
const DISCOVERY_AGE = 300_000;
/** Seconds, unless the setting has `clock_skew`. */
const SKEW = 60;

/** The issuer that is trusted; undefined when none is. */
export function trustedIssuer(ctx: Ctx): Issuer | undefined {
  const value = ctx.settings.get('SIGN_IN_ISSUER');
  return value['protocol'] === 'oidc' ? (value as Issuer) : undefined;
}

/** What the sign-in page shows: the issuer's name and where its button leads; `?next=` may follow. Undefined: no button. */
export function issuerButton(ctx: Ctx): { name: string; href: string } | undefined {
  const issuer = trustedIssuer(ctx);
  return issuer === undefined ? undefined : { name: issuer.name, href: START };
}

const isLoopback = ({ hostname }: URL): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);

/** https, or both the issuer and the address on this machine. @throws CallError */
function guardAddress(issuer: Issuer, url: string): void {
  const address = new URL(url);
  if (address.protocol === 'https:') return;
  if (address.protocol === 'http:' && isLoopback(address) && isLoopback(new URL(issuer.issuer))) return;
  throw new CallError('an address without https');
}

/** `fetch` for the library: no redirects, 64 KiB an answer, one end for all calls made with it. */
function caller(issuer: Issuer): oidc.CustomFetch {
  const end = performance.now() + LIMIT;
  return async (url, { method, headers, body }) => {
    guardAddress(issuer, url);
    const left = Math.ceil(end - performance.now());
    if (left <= 0) throw new CallError('no answer in time');
    const answer = await call(
      { method: method === 'POST' ? 'POST' : 'GET', url, headers, ...(body == null ? {} : { body: String(body) }) },
      left,
    );
    const told = Object.entries(answer.headers).filter((entry): entry is [string, string] => entry[1] !== undefined);
    // A Response of these must not have a body, and one of a status below 200 cannot be.
    const bodiless = answer.status < 200 || [204, 205, 304].includes(answer.status);
    return new Response(bodiless ? null : answer.body, { status: bodiless ? 204 : answer.status, headers: told });
  };
}

/** By the setting's value itself: a changed setting is another object, and so takes effect at once. */
const discovered = new WeakMap<Issuer, { readonly at: number; readonly metadata: oidc.ServerMetadata }>();

async function discover(ctx: Ctx, issuer: Issuer, fetch: oidc.CustomFetch): Promise<oidc.ServerMetadata> {
  const at = ctx.clock.now().getTime();
  const before = discovered.get(issuer);
  if (before !== undefined && at - before.at < DISCOVERY_AGE) return before.metadata;
  const address = new URL(issuer.issuer);
  const found = await oidc.discovery(address, issuer.client_id, undefined, undefined, {
    [oidc.customFetch]: fetch,
    timeout: LIMIT / 1000,
    execute: isLoopback(address) ? [oidc.allowInsecureRequests] : [],
  });
  const metadata = found.serverMetadata();
  // The library lets some issuers answer under another name: one that speaks for many organisations.
  if (new URL(metadata.issuer).href !== address.href) throw new IssuerRefusal('away', 'discovery of another issuer');
  discovered.set(issuer, { at, metadata });
  return metadata;
}

/** The library's client, made anew each time: the issuer's keys are then read when they are needed, also after a rotation. */
async function connect(ctx: Ctx, issuer: Issuer): Promise<oidc.Configuration> {
  const fetch = caller(issuer);
  const metadata = await discover(ctx, issuer, fetch);
  const methods = metadata.token_endpoint_auth_methods_supported ?? ['client_secret_basic'];
  const authentication = methods.includes('client_secret_basic') ? oidc.ClientSecretBasic : oidc.ClientSecretPost;
  const skew = Math.round((ctx.clock.now().getTime() - Date.now()) / 1000);
  const client = new oidc.Configuration(
    metadata,
    issuer.client_id,
    { [oidc.clockSkew]: skew, [oidc.clockTolerance]: issuer.clock_skew ?? SKEW },
    authentication(issuer.client_secret),
  );
  client[oidc.customFetch] = fetch;
  client.timeout = LIMIT / 1000;
  if (isLoopback(new URL(issuer.issuer))) oidc.allowInsecureRequests(client);
  // Without it the library takes the connection for proof enough and looks at no signature.
  oidc.enableNonRepudiationChecks(client);
  return client;
}

/** Words that errors may bring into the log: whatever else an issuer or a visitor sends stays out of it. */
const claimNames = ['iss', 'aud', 'azp', 'nonce', 'exp', 'nbf', 'iat', 'sub'];
const errorCodes = [
  'access_denied',
  'login_required',
  'consent_required',
  'interaction_required',
  'server_error',
].concat(
  ['temporarily_unavailable', 'invalid_request', 'invalid_scope', 'unauthorized_client', 'unsupported_response_type'],
  ['invalid_client', 'invalid_grant', 'unsupported_grant_type'],
);
const known = (words: readonly string[], word: unknown): string =>
  typeof word === 'string' && words.includes(word) ? word : 'other';

const property = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;

/** What an error of the library means. */
function refusalOf(error: unknown): IssuerRefusal {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (each instanceof IssuerRefusal) return each;
    if (each instanceof CallError) return new IssuerRefusal('away', each.message);
  }
  if (error instanceof oidc.AuthorizationResponseError) {
    const code = known(errorCodes, error.error);
    return new IssuerRefusal(/denied|required$/.test(code) ? 'denied' : 'away', `the issuer says ${code}`);
  }
  if (error instanceof oidc.ResponseBodyError) {
    // A code that was used, is over, or belongs to another sign-in.
    const trouble = error.error === 'invalid_grant' ? 'stale' : 'away';
    return new IssuerRefusal(trouble, `the issuer's answer is ${known(errorCodes, error.error)}`);
  }
  const claim = known(claimNames, property(property(property(error, 'cause'), 'cause'), 'claim'));
  switch (property(error, 'code')) {
    case 'OAUTH_JWT_CLAIM_COMPARISON_FAILED':
      return new IssuerRefusal('untrusted', `a token with a wrong ${claim}`);
    case 'OAUTH_JWT_TIMESTAMP_CHECK_FAILED':
      return new IssuerRefusal('untrusted', `a token of another time, by its ${claim}`);
    case 'OAUTH_KEY_SELECTION_FAILED':
      return new IssuerRefusal('untrusted', 'a token by an unknown key');
    case 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED':
      return new IssuerRefusal('untrusted', 'an answer about somebody or something else');
    case 'OAUTH_HTTP_REQUEST_FORBIDDEN':
    case 'OAUTH_REQUEST_PROTOCOL_FORBIDDEN':
      return new IssuerRefusal('away', 'an address without https');
    case 'ERR_INVALID_URL':
      return new IssuerRefusal('away', 'an address that is none');
    case 'OAUTH_RESPONSE_IS_NOT_CONFORM':
    case 'OAUTH_RESPONSE_IS_NOT_JSON':
    case 'OAUTH_PARSE_ERROR':
      return new IssuerRefusal('away', 'an answer that is none');
    default:
      return new IssuerRefusal('untrusted', 'an answer that does not hold');
  }
}

/**
 * Begins a sign-in.
 * @param redirectUri absolute address of CALLBACK, as it is registered at the issuer
 * @returns where the browser goes, and what it has to keep
 * @throws IssuerRefusal
 */
export async function beginAt(
  ctx: Ctx,
  issuer: Issuer,
  redirectUri: string,
): Promise<{ location: string; begun: Begun }> {
  try {
    const client = await connect(ctx, issuer);
    const begun = { state: oidc.randomState(), nonce: oidc.randomNonce(), verifier: oidc.randomPKCECodeVerifier() };
    const { href } = oidc.buildAuthorizationUrl(client, {
      redirect_uri: redirectUri,
      scope: 'openid email',
      state: begun.state,
      nonce: begun.nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(begun.verifier),
      code_challenge_method: 'S256',
    });
    guardAddress(issuer, href);
    return { location: href, begun };
  } catch (error) {
    throw refusalOf(error);
  }
}

/**
 * Ends a sign-in: exchanges the code and checks what comes back (OpenID Connect Core 1.0, 3.1.3.7; RFC 9207).
 * @param returned redirect URI with what the issuer added to it
 * @throws IssuerRefusal
 */
export async function endAt(ctx: Ctx, issuer: Issuer, returned: URL, begun: Begun): Promise<Outsider> {
  try {
    const client = await connect(ctx, issuer);
    const tokens = await oidc.authorizationCodeGrant(client, returned, {
      expectedState: begun.state,
      expectedNonce: begun.nonce,
      pkceCodeVerifier: begun.verifier,
      idTokenExpected: true,
    });
    const claims = tokens.claims()!;
    // Two that the library leaves to us: a token of tomorrow, and one made for another client of ours.
    if (claims.iat > ctx.clock.now().getTime() / 1000 + (issuer.clock_skew ?? SKEW))
      throw new IssuerRefusal('untrusted', 'a token of another time, by its iat');
    if (claims.azp !== undefined && claims.azp !== issuer.client_id)
      throw new IssuerRefusal('untrusted', 'a token with a wrong azp');
    if (!/^[\x20-\x7e]{1,255}$/.test(claims.sub)) throw new IssuerRefusal('untrusted', 'a token with a wrong sub');
    const { issuer: name, userinfo_endpoint: more } = client.serverMetadata();
    // Most issuers put the address into the token, some only where the access token leads.
    const asked = claims['email'] === undefined && more !== undefined;
    const told = asked ? await oidc.fetchUserInfo(client, tokens.access_token, claims.sub) : claims;
    const { email, email_verified: verified } = told;
    return { issuer: name, subject: claims.sub, ...(typeof email === 'string' && verified === true ? { email } : {}) };
  } catch (error) {
    throw refusalOf(error);
  }
}

/** How the issuer is, for `doctor`; undefined when there is none. */
export async function issuerFinding(ctx: Ctx): Promise<{ ok: boolean; detail: string; remedy?: string } | undefined> {
  const issuer = trustedIssuer(ctx);
  if (issuer === undefined) return undefined;
  try {
    await beginAt(ctx, issuer, 'http://127.0.0.1/');
    return {
      ok: true,
      detail: `${issuer.issuer} answers, for ${issuer.for.join(' and ')} of ${issuer.domains.join(', ')}`,
    };
  } catch (error) {
    if (!(error instanceof IssuerRefusal)) throw error;
    const remedy = 'Nobody can sign in by it. Look at its address, then correct SIGN_IN_ISSUER.';
    return { ok: false, detail: `${issuer.issuer}: ${error.message}`, remedy };
  }
}
