/** The pages behind mailed links: a GET only shows, because mail programs open links on their own; a POST acts. */
import { anyone } from '../accounts/callers.ts';
import { deviceCookie } from '../accounts/known-devices.ts';
import { openLink } from '../accounts/links.ts';
import { password } from '../accounts/routes.ts';
import { resetPassword } from '../accounts/sign-in.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { readFields } from '../platform/drf.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { Failure, refuse } from '../platform/failure.ts';
import { type Answer, type Incoming, type Route, route } from '../platform/http.ts';
import { type Language, say } from '../platform/language.ts';
import { html, type Markup, page, pages } from '../platform/pages.ts';
import { confirmEmail } from './email-change.ts';

const text = (language: Language, key: string, values: Record<string, string> = {}): string =>
  say(language, { key: `page.${key}`, values });

function form(
  language: Language,
  purpose: string,
  address: string,
  complaint?: string,
): { title: string; content: Markup } {
  const problem = complaint === undefined ? '' : html`<p class="problem" role="alert">${complaint}</p>`;
  if (purpose === 'email_change') {
    return {
      title: text(language, 'email_change.title'),
      content: html`${problem}<p>${text(language, 'email_change.text', { address })}</p>
<form method="post"><button>${text(language, 'email_change.button')}</button></form>`,
    };
  }
  return {
    title: text(language, 'password.title'),
    content: html`${problem}<p>${text(language, 'password.text', { address })}</p>
<form method="post">
<label for="new_password1">${text(language, 'password.first')}</label>
<input id="new_password1" name="new_password1" type="password" autocomplete="new-password" required minlength="8" maxlength="128">
<label for="new_password2">${text(language, 'password.second')}</label>
<input id="new_password2" name="new_password2" type="password" autocomplete="new-password" required minlength="8" maxlength="128">
<button>${text(language, 'password.button')}</button></form>`,
  };
}

const over = (language: Language): Answer =>
  page(language, text(language, 'link.used'), html`<p>${text(language, 'link.used_more')}</p>`, 410);

/** The open link of the path with the address it speaks of. */
async function read(
  ctx: Ctx,
  { params }: Incoming,
): Promise<{ token: string; purpose: string; address: string } | undefined> {
  const token = params['token']!;
  const link = await openLink(ctx, token);
  if (link === undefined) return undefined;
  const account = await ctx.db.one<{ email: string }>(sql`select email from account where id = ${link.account}`);
  return { token, purpose: link.purpose, address: link.new_email ?? account!.email };
}

const common = {
  dialect: pages,
  who: anyone,
  path: '/links/{token}',
  tag: 'Pages',
  hidden: true,
  answers: {},
} as const;

export const linkPages: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    operationId: 'showLink',
    summary: 'The page of a mailed link',
    async run(ctx, request) {
      const link = await read(ctx, request);
      if (link === undefined) return over(request.language);
      const { title, content } = form(request.language, link.purpose, link.address);
      return page(request.language, title, content);
    },
  }),
  route({
    ...common,
    method: 'POST',
    throttle: 'login',
    operationId: 'useLink',
    summary: 'What the page of a mailed link does',
    async run(ctx, request) {
      const { language, body } = request;
      const link = await read(ctx, request);
      if (link === undefined) return over(language);
      try {
        if (link.purpose === 'email_change') {
          await confirmEmail(ctx, link.token, evidenceOf(request));
          return page(language, text(language, 'email_change.done'), html``);
        }
        const values = readFields(body, [
          { name: 'new_password1', kind: password, required: true },
          { name: 'new_password2', kind: password, required: true },
        ]);
        if (values['new_password1'] !== values['new_password2'])
          refuse({ path: ['new_password2'], key: 'password.differ' });
        const holder = await resetPassword(ctx, link.token, values['new_password1'] as string, 'new_password2');
        // Customers have their shop to go back to; whoever was invited knows no door yet.
        const door =
          link.purpose === 'invitation'
            ? html`<p><a href="/account/sign-in">${text(language, 'sign_in.title')}</a></p>`
            : html``;
        const done = page(language, text(language, 'password.done'), door);
        return { ...done, headers: { ...done.headers, 'set-cookie': deviceCookie(ctx, request, holder) } };
      } catch (error) {
        if (!(error instanceof Failure) || error.complaints[0] === undefined) throw error;
        const { title, content } = form(language, link.purpose, link.address, say(language, error.complaints[0]));
        return page(language, title, content, 400);
      }
    },
  }),
];
