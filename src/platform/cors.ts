/**
 * Programs in a browser on another origin (CORS, as the Fetch standard has it): answers that their pages may read. Cookies
 * stay with our own origin: no answer ever has Access-Control-Allow-Credentials, and such a program brings a token.
 */
import type { Answer, Incoming } from './http.ts';

/**
 * Headers of requests that we read and that browsers ask about. Without X-CSRFToken: it goes with cookies, which do not come
 * from there.
 */
const readable = [
  'Authorization',
  'Content-Type',
  'Accept-Language',
  'If-Match',
  'Idempotency-Key',
  'X-VERSION',
  'X-Request-Id',
  'Assent-Dry-Run',
  'Assent-Notice',
  'Assent-Change-Reason',
].join(', ');

/** Headers of our answers that browsers show to their own origin only, unless they are named. */
const shown = [
  'ETag',
  'Allow',
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'WWW-Authenticate',
  'Content-Disposition',
  'X-VERSION',
  'X-Request-Id',
  'Assent-Ignored',
  'Assent-Uneven',
  'Assent-Reason',
  'Assent-Account',
  'Assent-Entry',
  'Assent-Event',
  'Assent-Until',
].join(', ');

/** Seconds for which a browser need not ask again; an origin that is taken off the list cannot read answers in any case. */
const MAX_AGE = '600';

/** Letter by letter: what merely looks like an origin of the list, and two Origin headers in one (`a, b`), are none. */
const isAllowed = ({ headers }: Incoming, origins: readonly string[]): boolean =>
  origins.includes(headers['origin'] ?? '');

/**
 * Adds to the headers of a whole answer what lets a page of an allowed origin read it.
 * @param origins the setting ALLOWED_ORIGINS; while it is empty, answers are as if there were no CORS
 */
export function shareAnswer(
  headers: Record<string, string | string[]>,
  request: Incoming,
  origins: readonly string[],
): void {
  if (origins.length === 0) return;
  // Also for those who may not: what they get must not be kept for one who may.
  headers['vary'] = headers['vary'] === undefined ? 'Origin' : `${headers['vary']}, Origin`;
  if (!isAllowed(request, origins)) return;
  headers['access-control-allow-origin'] = request.headers['origin']!;
  headers['access-control-expose-headers'] = shown;
}

/**
 * What a browser is told that asks before it sends; undefined: it is no such question, or not for this origin. It needs
 * nobody's name, no database and no allowance: the request itself will be held to all of them.
 * @param methods of the path, e.g. `GET, POST`
 */
export function preflight(request: Incoming, methods: string, origins: readonly string[]): Answer | undefined {
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return undefined;
  if (!isAllowed(request, origins)) return undefined;
  return {
    status: 204,
    headers: {
      'access-control-allow-methods': methods,
      'access-control-allow-headers': readable,
      'access-control-max-age': MAX_AGE,
    },
  };
}
