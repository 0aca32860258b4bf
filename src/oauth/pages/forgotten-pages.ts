/** `/account/forgotten`: a link that resets the password, by mail. Whether an address has an account shows in nothing. */
import { setTimeout } from 'node:timers/promises';
import { foldEmail } from '../../accounts/accounts.ts';
import { RESET_MILLISECONDS } from '../../accounts/routes.ts';
import { requestReset } from '../../accounts/sign-in.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { email as emailKind } from '../../platform/drf.ts';
import { Failure, refuse } from '../../platform/failure.ts';
import { type Answer, type Request, type Route, route } from '../../platform/http.ts';
import { html, type Markup } from '../../platform/pages.ts';
import { throttle } from '../../platform/throttle.ts';
import { common, problemBox, readForm, textOf, type View, viewOf } from './page-parts.ts';
import { HOME, localPath } from './sign-in-pages.ts';

const query = (next: string): Record<string, string> => (next === HOME ? {} : { next });

const backLink = ({ words, to }: View, next: string): Markup =>
  html`<p><a href="${to('/account/sign-in', query(next))}">${words('page.forgotten.back')}</a></p>`;

/** @param email as it was typed */
function forgottenPage(view: View, next: string, email = '', failure?: Failure): Answer {
  const { words, csrf, to, language } = view;
  const content = html`${problemBox(failure === undefined ? undefined : textOf(language, failure))}
<p>${words('page.forgotten.text')}</p>
<form method="post" action="${to('/account/forgotten')}">${csrf}<input type="hidden" name="next" value="${next}">
<label for="email">${words('page.sign_in.email')}</label>
<input id="email" name="email" type="email" autocomplete="username" required maxlength="320" value="${email}">
<button>${words('page.forgotten.button')}</button></form>${backLink(view, next)}`;
  return view.show(words('page.forgotten.title'), content, {
    query: query(next),
    ...(failure === undefined ? {} : { status: failure.status, headers: failure.headers }),
  });
}

async function request(ctx: Ctx, incoming: Request<object>): Promise<Answer> {
  const field = readForm(ctx, incoming);
  const view = viewOf(ctx, incoming);
  const next = localPath(field('next'));
  const typed = field('email').trim();
  try {
    const email = emailKind.read(typed, true);
    if ('problem' in email) {
      const { problem: key, values } = email;
      refuse({ path: ['email'], key, ...(values === undefined ? {} : { values }) });
    }
    await throttle(ctx, 'login', `reset:${foldEmail(email.value)}`);
    // The answer takes its time either way: whether a mail is written must not show in it.
    await Promise.all([requestReset(ctx, email.value), setTimeout(RESET_MILLISECONDS)]);
  } catch (error) {
    if (!(error instanceof Failure) || !['invalid', 'throttled'].includes(error.code)) throw error;
    return forgottenPage(view, next, typed, error);
  }
  const content = html`<p role="status">${view.words('page.forgotten.sent')}</p>${backLink(view, next)}`;
  return view.show(view.words('page.forgotten.sent_title'), content);
}

const atForgotten = { ...common, path: '/account/forgotten' } as const;

export const forgottenPages: readonly Route[] = [
  route({
    ...atForgotten,
    method: 'GET',
    operationId: 'showForgotten',
    summary: 'The page for a forgotten password',
    run: async (ctx, request) => forgottenPage(viewOf(ctx, request), localPath(request.query['next'])),
  }),
  route({
    ...atForgotten,
    method: 'POST',
    throttle: 'login',
    operationId: 'requestResetByForm',
    summary: 'Mails a link that resets the password',
    run: request,
  }),
];
