/**
 * CSRF as Django's clients do it: a stateless double submit. The token of the cookie and the one of the header carry the
 * same secret once unmasked; neither is bound to a session, because a known client asks for it without one.
 */
import { randomInt, timingSafeEqual } from 'node:crypto';
import { Failure } from '../platform/failure.ts';
import type { Incoming } from '../platform/http.ts';
import { html, type Markup } from '../platform/pages.ts';

const alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
const SECRET = 32;

const random = (length: number): string => Array.from({ length }, () => alphabet[randomInt(62)]).join('');

/** Masks a secret: 32 random letters, then the secret added to them letter by letter (mod 62). */
function mask(secret: string): string {
  const pad = random(SECRET);
  let cipher = '';
  for (let i = 0; i < SECRET; i += 1)
    cipher += alphabet[(alphabet.indexOf(pad[i]!) + alphabet.indexOf(secret[i]!)) % 62];
  return pad + cipher;
}

/** The secret of a token, masked (64 characters) or bare (32); undefined for anything else. */
function unmask(token: string): string | undefined {
  if (!/^[A-Za-z0-9]+$/.test(token)) return undefined;
  if (token.length === SECRET) return token;
  if (token.length !== 2 * SECRET) return undefined;
  let secret = '';
  for (let i = 0; i < SECRET; i += 1) {
    secret += alphabet[(62 + alphabet.indexOf(token[SECRET + i]!) - alphabet.indexOf(token[i]!)) % 62];
  }
  return secret;
}

/** A pair for `GET /csrf_token/`: different texts, one secret. Keeps the secret of a cookie the client already has. */
export function csrfPair(cookie: string | undefined): { cookie: string; token: string } {
  const secret = (cookie !== undefined && unmask(cookie)) || random(SECRET);
  return { cookie: mask(secret), token: mask(secret) };
}

/** One year less a day, as Django. */
export const csrfCookie = (token: string, secure: boolean): string =>
  `csrftoken=${token}; Max-Age=31449600; Path=/; SameSite=Lax${secure ? '; Secure' : ''}`;

const safe = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/** True when the page that sent the request is ours: asked only of browsers, which say so by Origin or Sec-Fetch-Site. */
function originProblem(incoming: Incoming, trusted: readonly string[]): string | undefined {
  const { headers } = incoming;
  const known = (origin: string): boolean =>
    origin === incoming.ownOrigin || origin === incoming.origin || trusted.includes(origin);
  const origin = headers['origin'];
  if (origin !== undefined) {
    return known(origin)
      ? undefined
      : `Origin checking failed - ${origin.slice(0, 200)} does not match any trusted origins.`;
  }
  const site = headers['sec-fetch-site'];
  if (site === undefined || site === 'same-origin' || site === 'none') return undefined;
  const referer = headers['referer'];
  if (referer === undefined) return 'Referer checking failed - no Referer.';
  if (!URL.canParse(referer)) return 'Referer checking failed - Referer is malformed.';
  const from = new URL(referer).origin;
  return known(from)
    ? undefined
    : `Referer checking failed - ${referer.slice(0, 200)} does not match any trusted origins.`;
}

/**
 * Guards an unsafe request that carries the session of a signed-in account.
 * @param trusted origins besides our own host
 * @throws csrf_failed with Django's reason
 */
export function guardCsrf(incoming: Incoming, trusted: readonly string[]): void {
  if (safe.has(incoming.method)) return;
  const refuse = (reason: string): never => {
    throw new Failure('csrf_failed', { values: { reason } });
  };
  const problem = originProblem(incoming, trusted);
  if (problem !== undefined) refuse(problem);
  const cookie = incoming.cookies['csrftoken'];
  if (cookie === undefined || cookie === '') refuse('CSRF cookie not set.');
  const header = incoming.headers['x-csrftoken'];
  if (header === undefined || header === '') refuse('CSRF token missing.');
  const [mine, theirs] = [unmask(cookie!), unmask(header!)];
  if (header!.length !== SECRET && header!.length !== 2 * SECRET) {
    refuse("CSRF token from the 'X-Csrftoken' HTTP header has incorrect length.");
  }
  if (theirs === undefined) refuse("CSRF token from the 'X-Csrftoken' HTTP header has invalid characters.");
  if (mine === undefined || !timingSafeEqual(Buffer.from(mine), Buffer.from(theirs!))) {
    refuse("CSRF token from the 'X-Csrftoken' HTTP header incorrect.");
  }
}

/** Name of the form field that carries the token, as Django calls it. */
const CSRF_FIELD = 'csrfmiddlewaretoken';

/**
 * What a page with a form needs: the hidden field for each of its forms, and the `Set-Cookie` line for its answer.
 * @param incoming the request for the page; the secret of a cookie the browser already has is kept, so that forms of
 *   other tabs stay good
 */
export function csrfForm(incoming: Incoming): { field: Markup; cookie: string } {
  const { cookie, token } = csrfPair(incoming.cookies['csrftoken']);
  // With no referrer at all browsers name no origin either when the form is sent.
  incoming.setHeader('referrer-policy', 'same-origin');
  return {
    field: html`<input type="hidden" name="${CSRF_FIELD}" value="${token}">`,
    cookie: csrfCookie(cookie, incoming.secure),
  };
}

/**
 * Guards a form of our own pages, whoever sends it, signed in or not: signing somebody in as somebody else is an attack
 * too (login CSRF).
 * @param trusted origins besides our own host
 * @param token what came in the field `csrfmiddlewaretoken`
 * @throws csrf_failed, with a text for people
 */
export function guardForm(incoming: Incoming, trusted: readonly string[], token: unknown): void {
  const { origin, 'sec-fetch-site': site } = incoming.headers;
  // A page that lets no referrer out hides its origin from itself as well; that it is the same one the browser still says.
  const ours = origin === 'null' ? site === 'same-origin' : originProblem(incoming, trusted) === undefined;
  const mine = unmask(incoming.cookies['csrftoken'] ?? '');
  const theirs = typeof token === 'string' ? unmask(token) : undefined;
  const same = mine !== undefined && theirs !== undefined && timingSafeEqual(Buffer.from(mine), Buffer.from(theirs));
  if (!ours || !same) throw new Failure('csrf_failed', { complaints: [{ path: [], key: 'page.csrf' }] });
}
