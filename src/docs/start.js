/**
 * Runs in the browser, before Scalar's script: makes calls from the page work with the session cookie, then draws the
 * reference. A file of its own because the page's policy allows no script in the page itself.
 */

// Scalar's validators would compile themselves with `Function`, which the policy forbids and the console would report.
globalThis.__zod_globalConfig = { jitless: true };

const safe = ['GET', 'HEAD', 'OPTIONS', 'TRACE'];
const plainFetch = globalThis.fetch.bind(globalThis);

const csrfCookie = () => /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1];

/** The token of this browser; asks for one when there is none yet. */
async function csrfToken() {
  if (csrfCookie() === undefined) await plainFetch('/csrf_token/');
  return csrfCookie();
}

/** `fetch` that adds `X-CSRFToken` to what a session may change here, and to nothing that leaves for elsewhere. */
globalThis.fetch = async (input, init) => {
  const request = new Request(input, init);
  const ours = new URL(request.url).origin === location.origin;
  if (ours && !safe.includes(request.method) && !request.headers.get('X-CSRFToken')) {
    const token = await csrfToken();
    if (token !== undefined) request.headers.set('X-CSRFToken', token);
  }
  return plainFetch(request);
};

document.addEventListener('DOMContentLoaded', () => {
  globalThis.Scalar.createApiReference('#reference', {
    url: '/openapi.json',
    // Nothing of this page leaves this server.
    agent: { disabled: true },
    mcp: { disabled: true },
    telemetry: false,
    proxyUrl: '',
    externalUrls: { dashboardUrl: '', registryUrl: '', proxyUrl: '', apiBaseUrl: '' },
    hideClientButton: true,
    showDeveloperTools: 'never',
    withDefaultFonts: false,
    theme: 'none',
  });
});
