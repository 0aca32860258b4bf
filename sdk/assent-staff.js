/**
 * "May whoever is calling do this, in this shop?", asked of Assent for each request. Plain ESM, no dependencies. Nothing is
 * kept, and no answer is a no.
 */

/** A problem (RFC 9457) of our own, where Assent had no say. */
const problem = (status, title) => ({
  status,
  headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store' },
  body: JSON.stringify({ type: 'about:blank', title, status }),
});

const number = (text) => (text === undefined ? undefined : Number(text));

/**
 * @returns {allowed: {account, entry?, event?, until?}}, or {refused: {status, headers, body}}: 401 and 403 as Assent said
 *   them, 404 for a shop that can be none, 503 when Assent is away, slow or says anything else
 */
export async function askAssent(
  { url, permission, company, cookies = false, timeout = 2000, fetch = globalThis.fetch },
  shop,
  sent,
) {
  // A path parameter is text; what is no plain number goes into no address.
  const id = typeof shop === 'string' && /^[1-9]\d{0,15}$/.test(shop) ? Number(shop) : shop;
  if (!Number.isSafeInteger(id) || id < 1) return { refused: problem(404, 'There is no such shop') };
  const asked = new URLSearchParams({ permission, shop: id, ...(company === undefined ? {} : { company }) });
  const headers = { 'accept-language': sent['accept-language'] ?? '' };
  if (typeof sent.authorization === 'string') headers.authorization = sent.authorization;
  if (cookies && typeof sent.cookie === 'string') headers.cookie = sent.cookie;
  try {
    const signal = AbortSignal.timeout(timeout);
    const answer = await fetch(`${url}/v1/decisions/forward-auth?${asked}`, { headers, signal, redirect: 'error' });
    const body = await answer.text();
    const told = (name) => answer.headers.get(name) ?? undefined;
    if (answer.status === 204 && told('assent-account') !== undefined) {
      const [account, entry] = [number(told('assent-account')), number(told('assent-entry'))];
      return { allowed: { account, entry, event: told('assent-event'), until: told('assent-until') } };
    }
    if (answer.status === 401 || answer.status === 403) {
      const names = ['content-type', 'content-language', 'www-authenticate', 'assent-reason', 'cache-control'];
      const kept = names.filter((name) => told(name) !== undefined).map((name) => [name, told(name)]);
      return { refused: { status: answer.status, headers: Object.fromEntries(kept), body } };
    }
  } catch {
    // Away, slow, or a header that cannot be sent.
  }
  return { refused: problem(503, 'Rights cannot be checked for the moment') };
}

/** The shop of a request; a function that throws names none. */
function shopOf({ shop }, request) {
  try {
    return typeof shop === 'function' ? shop(request) : shop;
  } catch {
    return undefined;
  }
}

/** Middleware for Express 4 and 5: `app.put('/shops/:shop/prices', expressGuard({url, permission, shop}), handler)`. */
export const expressGuard = (options) => async (request, response, next) => {
  delete request.assent;
  const { allowed, refused } = await askAssent(options, shopOf(options, request), request.headers);
  if (refused !== undefined) return void response.writeHead(refused.status, refused.headers).end(refused.body);
  request.assent = allowed;
  next();
};

/** A `preHandler` for Fastify 5: `app.put('/shops/:shop/prices', { preHandler: fastifyGuard({url, permission, shop}) }, handler)`. */
export const fastifyGuard = (options) => async (request, reply) => {
  delete request.assent;
  const { allowed, refused } = await askAssent(options, shopOf(options, request), request.headers);
  if (refused !== undefined) return reply.code(refused.status).headers(refused.headers).send(refused.body);
  request.assent = allowed;
};
