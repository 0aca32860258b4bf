/** Server-rendered pages: an escaping `html` tag, one layout, and the dialect whose errors are pages. They work without script. */
import type { Failure } from './failure.ts';
import type { Answer, Dialect, Incoming } from './http.ts';
import { stringifyJson } from './json.ts';
import { type Language, say } from './language.ts';

/** Markup that is safe to put into a page as it is. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character]!);
const render = (value: unknown): string =>
  value instanceof Markup ? value.text : Array.isArray(value) ? value.map(render).join('') : escape(String(value ?? ''));

/** Markup from a template: values are escaped, markup and lists of it are kept. */
export const html = (strings: TemplateStringsArray, ...values: unknown[]): Markup =>
  new Markup(strings.reduce((all, part, index) => all + render(values[index - 1]) + part));

const style = `
:root{color-scheme:light dark;--ink:#1d1a16;--paper:#faf8f4;--line:#ddd6ca;--accent:#8a3b12;--soft:#6b6257}
@media (prefers-color-scheme:dark){:root{--ink:#efeae2;--paper:#1b1815;--line:#3d372f;--accent:#f0a26f;--soft:#b3a899}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.6 system-ui,sans-serif}
main{max-width:40rem;margin:0 auto;padding:3rem 1.25rem}h1{font-size:1.7rem;line-height:1.25;margin:0 0 1rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem}a{color:var(--accent)}p{margin:.5rem 0}.soft{color:var(--soft)}
label{display:block;margin:1rem 0 .25rem;font-weight:600}
input{width:100%;font:inherit;padding:.6rem .75rem;border:1px solid var(--line);border-radius:.5rem;background:transparent;color:inherit}
button{font:inherit;font-weight:600;margin-top:1.25rem;padding:.65rem 1.25rem;border:0;border-radius:.5rem;background:var(--accent);color:var(--paper);cursor:pointer}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.25rem;margin:1rem 0}dt{color:var(--soft)}dd{margin:0}
code{font:0.92em ui-monospace,monospace;background:color-mix(in srgb,var(--line) 45%,transparent);padding:.1em .35em;border-radius:.3em}
.problem{border-left:4px solid var(--accent);padding-left:.9rem}`;

/** A whole page. No script, no outside request; the policy says so too. */
export function page(language: Language, title: string, content: Markup, status = 200): Answer {
  const body = html`<!doctype html>
<html lang="${language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex"><title>${title}</title><style>${new Markup(style)}</style></head>
<body><main><h1>${title}</h1>${content}</main></body></html>`;
  return { status, body: body.text, headers: { 'content-type': 'text/html; charset=utf-8' } };
}

export const pages: Dialect = {
  name: 'pages',
  jsonType: 'application/json',
  languages: ['en', 'tr', 'nl', 'fr'],
  prefixes: ['/links', '/docs', '/console', '/preferences', '/unsubscribe'],
  reads: ['form'],
  describe: ({ allow }) => ({ status: 204, headers: { allow } }),
  accept: () => {},
  headers: (incoming: Incoming) => ({
    'content-language': incoming.language,
    'cache-control': 'private, no-store',
    'content-security-policy':
      "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    // A link's token is part of its address: it must not travel on.
    'referrer-policy': 'no-referrer',
  }),
  refuse(failure: Failure, { language }: Incoming): Answer {
    const text =
      failure.complaints[0] === undefined
        ? say(language, { key: `error.${failure.code}`, values: failure.values })
        : say(language, failure.complaints[0]);
    return page(language, say(language, { key: 'page.error.title' }), html`<p class="problem">${text}</p>`, failure.status);
  },
  stringify: stringifyJson,
};
