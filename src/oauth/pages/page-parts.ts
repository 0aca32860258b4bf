/** What the pages around signing in have in common. */
import { type Anyone, visitor } from '../../accounts/callers.ts';
import { csrfForm, guardForm } from '../../accounts/csrf.ts';
import type { SignedIn } from '../../accounts/sessions.ts';
import type { Ctx } from '../../platform/ctx.ts';
import type { Failure } from '../../platform/failure.ts';
import type { Answer, Incoming, Request } from '../../platform/http.ts';
import { type Language, say, type Words, wordsIn } from '../../platform/language.ts';
import {
  chosen,
  fieldsOf,
  html,
  languageFor,
  languageLinks,
  type Markup,
  page,
  pages,
  policy,
} from '../../platform/pages.ts';
import { mayRedirectTo, sourceOf } from '../redirects.ts';

export const common = { dialect: pages, who: visitor, tag: 'Pages', hidden: true, answers: {} } as const;

/** A page in the language of its reader, with what its forms need. */
export interface View {
  readonly ctx: Ctx;
  readonly language: Language;
  readonly words: Words;
  /** The hidden field of every form. */
  readonly csrf: Markup;
  /** An address of ours that goes on in the language somebody chose. */
  to(path: string, query?: Readonly<Record<string, string>>): string;
  /** The whole page. */
  show(title: string, content: Markup, more?: Shown): Answer;
}

interface Shown {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Besides the language, what the address of this page has; absent: a page that cannot be asked for again. */
  readonly query?: Readonly<Record<string, string>>;
  /** Where people go after its form. */
  readonly next?: string;
  /** `Set-Cookie` lines besides the one of the form. */
  readonly cookies?: readonly string[];
}

/** @param theirs language of the account, where one is known */
export function viewOf(ctx: Ctx, incoming: Incoming, theirs?: string): View {
  const language = languageFor(ctx, incoming, theirs);
  const words = wordsIn(language);
  const { field, cookie } = csrfForm(incoming);
  return {
    ctx,
    language,
    words,
    csrf: field,
    to: (path, query = {}) => addressIn(incoming, path, query),
    show(title, content, { status, headers, query, next, cookies = [] } = {}) {
      const above =
        query === undefined
          ? html``
          : languageLinks(language, words('preferences.languages'), new URLSearchParams(query).toString());
      const answer = page(language, title, content, status, above);
      const target = next === undefined ? undefined : leavesFor(next);
      return {
        ...answer,
        headers: {
          ...answer.headers,
          ...(target === undefined ? {} : { 'content-security-policy': policy(target) }),
          ...headers,
          'set-cookie': [cookie, ...cookies],
        },
      };
    },
  };
}

/** An address of ours that goes on in the language somebody chose. */
export function addressIn(incoming: Incoming, path: string, query: Readonly<Record<string, string>> = {}): string {
  const all = [new URLSearchParams(query).toString(), chosen(incoming)].filter((part) => part !== '').join('&');
  return all === '' ? path : `${path}?${all}`;
}

/** Where `/oauth/authorize` may send people on to at once, as a source of `form-action`. */
function leavesFor(next: string): string | undefined {
  if (!next.startsWith('/oauth/authorize?')) return undefined;
  const uri = new URL(next, 'http://localhost').searchParams.get('redirect_uri') ?? '';
  return mayRedirectTo(uri) ? sourceOf(uri) : undefined;
}

/** The fields of a form of ours, as texts. @throws csrf_failed */
export function readForm(ctx: Ctx, request: Request<object>): (name: string) => string {
  const fields = fieldsOf(request);
  guardForm(request, ctx.settings.get('CSRF_TRUSTED_ORIGINS'), fields['csrfmiddlewaretoken']);
  return (name) => (typeof fields[name] === 'string' ? fields[name] : '');
}

/** To a page of ours, after something was done. */
export const seeOther = (location: string, cookies: readonly string[] = []): Answer => ({
  status: 303,
  headers: { location, ...(cookies.length === 0 ? {} : { 'set-cookie': [...cookies] }) },
});

/** What went wrong, over the form it went wrong in. */
export const problemBox = (text: string | undefined): Markup =>
  text === undefined ? html`` : html`<p class="problem" role="alert">${text}</p>`;

/** The text of a failure in the reader's language. */
export function textOf(language: Language, { code, complaints, values }: Failure): string {
  return say(language, complaints[0] ?? { key: `error.${code}`, values });
}

/** The field for a code of the second factor, or a recovery code: both are digits. */
export const codeField = (words: Words, label: string, autofocus = false): Markup => html`
<label for="otp">${label}</label>
<input id="otp" name="otp" inputmode="numeric" autocomplete="one-time-code" required maxlength="40" aria-describedby="otp-help"${autofocus ? html` autofocus` : ''}>
<p class="soft" id="otp-help">${words('page.code.help')}</p>`;

export const passwordField = (words: Words): Markup => html`
<label for="password">${words('page.sign_in.password')}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="128">`;

/** What a page does for somebody who is signed in; others are sent to sign in, and come back to it. */
export const signedInPage =
  (run: (ctx: Ctx, request: Request<Anyone>, me: SignedIn) => Promise<Answer>) =>
  async (ctx: Ctx, request: Request<Anyone>): Promise<Answer> => {
    const me = request.actor.signedIn;
    if (me !== undefined) return run(ctx, request, me);
    const next = request.method === 'GET' ? request.path : '/account';
    return seeOther(addressIn(request, '/account/sign-in', { next }));
  };

/** Back to `/account`. @param done what it says was done */
export const atHome = (incoming: Incoming, done?: string): Answer =>
  seeOther(addressIn(incoming, '/account', done === undefined ? {} : { done }));
