/** Server-rendered pages: an escaping `html` tag, one layout, and the dialect whose errors are pages. They work without script. */
import { createHash } from 'node:crypto';
import type { Ctx } from './ctx.ts';
import type { Failure } from './failure.ts';
import type { Answer, Dialect, Incoming, Request } from './http.ts';
import { stringifyJson } from './json.ts';
import { chooseLanguage, type Language, languageOf, say } from './language.ts';

/** Markup that is safe to put into a page as it is. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escapeText = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character]!);
const render = (value: unknown): string =>
  value instanceof Markup
    ? value.text
    : Array.isArray(value)
      ? value.map(render).join('')
      : escapeText(String(value ?? ''));

/** Markup from a template: values are escaped, markup and lists of it are kept. */
export const html = (strings: TemplateStringsArray, ...values: unknown[]): Markup =>
  new Markup(strings.reduce((all, part, index) => all + render(values[index - 1]) + part));

const style = `
:root{color-scheme:light dark;--ink:#1d1a16;--soft:#5f564b;--paper:#f4f0e8;--sheet:#fffdf9;--line:#e2dace;--edge:#8f8474;--accent:#8a3b12;--good:#3f7a3a}
@media (prefers-color-scheme:dark){:root{--ink:#efeae2;--soft:#b3a899;--paper:#161310;--sheet:#1f1b17;--line:#3a332b;--edge:#857a6b;--accent:#f0a26f;--good:#8cc084}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:1.0625rem/1.6 system-ui,sans-serif;overflow-wrap:break-word}
main{max-width:42rem;margin:clamp(0rem,8vh,5rem) auto;padding:clamp(1.5rem,6vw,3rem);background:var(--sheet);border-block:1px solid var(--line)}
@media (min-width:42rem){main{border:1px solid var(--line);border-radius:1rem}}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .75rem;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:1.1rem;margin:2.25rem 0 .5rem}p{margin:.5rem 0}time,code{white-space:nowrap}a{color:var(--accent);text-underline-offset:.2em}.soft{color:var(--soft)}
form{max-width:24rem}label{display:block;margin:1.25rem 0 .3rem;font-weight:600}
input{width:100%;font:inherit;padding:.6rem .75rem;border:1px solid var(--edge);border-radius:.5rem;background:transparent;color:inherit}
button{font:inherit;font-weight:600;margin-top:1.5rem;padding:.65rem 1.25rem;border:0;border-radius:.5rem;background:var(--accent);color:var(--sheet);cursor:pointer}
button:hover{filter:brightness(1.1)}:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
dl{margin:1.25rem 0 0}dl>div{padding:.6rem 0;border-top:1px solid var(--line)}dt{color:var(--soft)}dd{margin:0}
@media (min-width:34rem){dl>div{display:grid;grid-template-columns:12rem 1fr;gap:1rem}}
code{font:.92em ui-monospace,monospace;background:color-mix(in srgb,var(--line) 50%,transparent);padding:.1em .35em;border-radius:.3em}
.problem,.done{border-left:4px solid var(--accent);padding-left:.9rem}.done{border-color:var(--good);margin-bottom:1rem}
button{min-height:2.75rem}.quiet{background:transparent;color:var(--accent);box-shadow:inset 0 0 0 1px var(--edge)}
nav{max-width:42rem;margin:0 auto;padding:.5rem clamp(.75rem,4vw,2.25rem);display:flex;flex-wrap:wrap;gap:.25rem}nav+main{margin-top:0}
nav a{padding:.55rem .75rem;border-radius:.5rem;color:var(--soft)}nav [aria-current]{color:var(--ink);font-weight:600;text-decoration:none}
.preferences{max-width:none}.preferences+.preferences{margin-top:2rem;padding-top:1rem;border-top:1px solid var(--line)}.preferences+p{margin-top:1.25rem}fieldset{border:0;margin:0;padding:0;min-width:0}legend{padding:0}
.notice{margin:.5rem 0 0}.notice blockquote{margin:0;padding-left:.9rem;border-left:4px solid var(--line);white-space:pre-line}
.notice figcaption{margin:.35rem 0 0;padding-left:calc(.9rem + 4px)}figcaption::first-letter{text-transform:uppercase}figcaption,.switches p,.history,summary,.foot{font-size:.9375rem}
.switches,.history{list-style:none;margin:1rem 0 0;padding:0}.switches>li,.history>li{border-top:1px solid var(--line);padding:.4rem 0 .8rem}
.switch{display:flex;align-items:center;justify-content:space-between;gap:1rem;min-height:2.75rem;margin:0;font-weight:400}label.switch{cursor:pointer}
.switch b{margin-inline-end:.35rem}.switch span span{display:inline-block}.switches p{margin:0}.switches p b{color:var(--ink);font-weight:400}
[role=switch]{appearance:none;flex:none;width:3.25rem;height:1.9rem;margin:0;padding:0;border:2px solid var(--edge);border-radius:1rem;cursor:pointer;background:radial-gradient(circle at .8rem 50%,var(--edge) .5rem,transparent .55rem)}
[role=switch]:checked{border-color:var(--accent);background:radial-gradient(circle at calc(100% - .8rem) 50%,var(--sheet) .55rem,transparent .6rem) var(--accent)}
@media (forced-colors:active){[role=switch]{appearance:auto;width:1.5rem;height:1.5rem}}
.history p{margin:.15rem 0}summary{padding:.65rem 0;border-top:1px solid var(--line);color:var(--accent);cursor:pointer}details .history{margin:0}.foot{margin-top:2.5rem;padding-top:1rem;border-top:1px solid var(--line)}
.button{display:inline-block;margin:.5rem .35rem .5rem 0;padding:.55rem 1.1rem;min-height:2.75rem;border-radius:.5rem;background:var(--accent);color:var(--sheet);font-weight:600;text-decoration:none}.button.quiet{background:transparent;color:var(--accent)}
.sessions>li{display:flex;flex-wrap:wrap;gap:.25rem 1rem;justify-content:space-between;align-items:center}.sessions>li>div{flex:1 1 16rem}.sessions button{margin:.25rem 0}
.qr{display:block;width:min(100%,15rem);margin:1rem 0;border-radius:.5rem}.secret{white-space:normal;font-size:1.05rem}.codes{columns:2 11rem;margin:1rem 0;padding-inline-start:2rem}.codes li{break-inside:avoid;padding:.15rem 0}`;

/** The policy names the one style sheet by its hash: markup that slipped through could not even bring a style. */
const styleHash = createHash('sha256').update(style).digest('base64');

/**
 * The policy of a page, which its answer may bring along in place of the dialect's.
 * @param forms sources besides our own where its forms may lead: browsers hold redirects after a form to them too
 */
export const policy = (...forms: string[]): string =>
  `default-src 'none'; style-src 'sha256-${styleHash}'; img-src 'self'; form-action ${["'self'", ...forms].join(' ')}; base-uri 'none'; frame-ancestors 'none'`;

const ownNames: Readonly<Record<Language, string>> = { en: 'English', tr: 'Türkçe', nl: 'Nederlands', fr: 'Français' };

/** A row of links to the same page in each language. @param query what else is in its address, e.g. `next=%2F` */
export const languageLinks = (language: Language, label: string, query = ''): Markup =>
  html`<nav aria-label="${label}">${pages.languages.map(
    (each) =>
      html`<a href="?${query === '' ? '' : `${query}&`}lang=${each}" lang="${each}" hreflang="${each}"${new Markup(each === language ? ' aria-current="true"' : '')}>${ownNames[each]}</a>`,
  )}</nav>`;

/**
 * A whole page in the language of its text. No script, no outside request; the policy says so too.
 * @param above what stands over the sheet
 */
export function page(language: Language, title: string, content: Markup, status = 200, above: Markup = html``): Answer {
  const body = html`<!doctype html>
<html lang="${language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex"><link rel="icon" href="/icon.svg"><title>${title}</title><style>${new Markup(style)}</style></head>
<body>${above}<main><h1>${title}</h1>${content}</main></body></html>`;
  return {
    status,
    body: body.text,
    headers: { 'content-type': 'text/html; charset=utf-8', 'content-language': language },
  };
}

export const pages: Dialect = {
  name: 'pages',
  jsonType: 'application/json',
  languages: ['en', 'tr', 'nl', 'fr'],
  prefixes: ['/links', '/docs', '/console', '/preferences', '/unsubscribe', '/phone', '/account'],
  reads: ['form'],
  describe: ({ allow }) => ({ status: 204, headers: { allow } }),
  accept: () => {},
  headers: (incoming: Incoming) => ({
    'content-language': incoming.language,
    'cache-control': 'private, no-store',
    'content-security-policy': policy(),
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
    return page(
      language,
      say(language, { key: 'page.error.title' }),
      html`<p class="problem">${text}</p>`,
      failure.status,
    );
  },
  stringify: stringifyJson,
};

/** The fields of a form that was sent. */
export const fieldsOf = ({ body }: Request<object>): Record<string, unknown> =>
  (body.value ?? {}) as Record<string, unknown>;

/** `?lang=`, else what the browser asks for, else the account's, else the shop's. */
export function languageFor(ctx: Ctx, { query, headers }: Incoming, theirs?: string | null): Language {
  const asked = pages.languages.find((language) => language === query['lang']);
  const fallback = languageOf(theirs ?? ctx.settings.get('DEFAULT_LANGUAGE'));
  return asked ?? chooseLanguage(headers['accept-language'], pages.languages, fallback);
}

/** What forms add to their address, so that their answer speaks the language somebody chose. */
export const chosen = ({ query }: Incoming): string =>
  pages.languages.some((language) => language === query['lang']) ? `lang=${String(query['lang'])}` : '';

/** Day and minute as this language writes them. Times are UTC: whose clock the reader lives by is not known. */
export function time(language: Language, at: Date, withMinutes = false): Markup {
  const written = new Intl.DateTimeFormat(language === 'en' ? 'en-GB' : language, {
    dateStyle: 'long',
    ...(withMinutes ? { timeStyle: 'short' } : {}),
    timeZone: 'UTC',
  }).format(at);
  return html`<time datetime="${at.toISOString()}">${written}${withMinutes ? ' UTC' : ''}</time>`;
}
