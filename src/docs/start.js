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

/** The colours of the server's own pages (platform/pages.ts), under Scalar's names. */
const colours = `
.light-mode{--scalar-background-1:#fffdf9;--scalar-background-2:#f4f0e8;--scalar-background-3:#e9e3d8;--scalar-background-accent:#8a3b121a;
--scalar-color-1:#1d1a16;--scalar-color-2:#5f564b;--scalar-color-3:#6b6257;--scalar-color-accent:#8a3b12;--scalar-border-color:#e2dace}
.dark-mode{--scalar-background-1:#161310;--scalar-background-2:#1f1b17;--scalar-background-3:#2e2822;--scalar-background-accent:#f0a26f1f;
--scalar-color-1:#efeae2;--scalar-color-2:#c4baac;--scalar-color-3:#b3a899;--scalar-color-accent:#f0a26f;--scalar-border-color:#3a332b}
:root{--scalar-font:system-ui,sans-serif;--scalar-font-code:ui-monospace,monospace}
section[tabindex='-1']:focus-visible{outline:none}`;

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
    customCss: colours,
    // Fields in the order of the answers.
    orderSchemaPropertiesBy: 'preserve',
    orderRequiredPropertiesFirst: false,
  });
});
