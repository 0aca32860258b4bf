/** The page that asks whether a program may act for somebody. It works without script; only its form does anything. */
import type { Anyone } from '../../accounts/callers.ts';
import { guardForm } from '../../accounts/csrf.ts';
import type { SignedIn } from '../../accounts/sessions.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { type Answer, type Request, type Route, route } from '../../platform/http.ts';
import { html } from '../../platform/pages.ts';
import { throttle } from '../../platform/throttle.ts';
import { type Asked, AUTHORIZE, allow, parametersOf, pathOf, readAsked, refusal } from '../authorize.ts';
import { isPrivateScheme, leadsTo } from '../redirects.ts';
import { common, viewOf } from './page-parts.ts';

const to = (status: 302 | 303, location: string): Answer => ({ status, headers: { location } });

const signIn = (status: 302 | 303, request: Request<Anyone>): Answer =>
  to(status, `/account/sign-in?next=${encodeURIComponent(pathOf(request))}`);

function ask(ctx: Ctx, request: Request<Anyone>, { account }: SignedIn, { client, redirectUri }: Asked): Answer {
  const view = viewOf(ctx, request, account.language_code);
  const { words } = view;
  const here = pathOf(request);
  const content = html`<p>${words('oauth.allow.text', { name: client.name })}</p>
<dl><div><dt>${words('oauth.allow.account')}</dt><dd>${account.email} · <a href="${view.to('/account/sign-in', { next: here })}">${words('oauth.allow.other')}</a></dd></div>
<div><dt>${words('oauth.allow.leads')}</dt><dd>${leadsTo(redirectUri) ?? words('oauth.allow.device')}</dd></div></dl>
<form method="post" action="${here}">${view.csrf}<input type="hidden" name="account" value="${account.id}">
<button name="answer" value="allow">${words('oauth.allow.yes')}</button>
<button class="quiet" name="answer" value="deny">${words('oauth.allow.no')}</button></form>`;
  return view.show(words('oauth.allow.title', { name: client.name }), content, {
    query: parametersOf(request),
    next: here,
  });
}

/** Sends the browser back with a code. */
async function goBack(
  ctx: Ctx,
  request: Request<Anyone>,
  signedIn: SignedIn,
  asked: Asked,
  status: 302 | 303,
): Promise<Answer> {
  const location = await allow(ctx, signedIn, asked);
  return location === undefined ? signIn(status, request) : to(status, location);
}

const atAuthorize = { ...common, path: AUTHORIZE } as const;

export const authorizePages: readonly Route[] = [
  route({
    ...atAuthorize,
    method: 'GET',
    operationId: 'authorize',
    summary: 'Where a client sends people to allow it to act for them',
    async run(ctx, request) {
      const asked = await readAsked(ctx, request);
      if ('back' in asked) return to(302, asked.back);
      const { signedIn } = request.actor;
      if (signedIn === undefined) return signIn(302, request);
      if (!asked.client.first_party || isPrivateScheme(asked.redirectUri)) return ask(ctx, request, signedIn, asked);
      // Each writes a row; what only shows a page does not.
      await throttle(ctx, 'token', request.actor.caller!);
      return goBack(ctx, request, signedIn, asked, 302);
    },
  }),
  route({
    ...atAuthorize,
    method: 'POST',
    throttle: 'token',
    operationId: 'answerAuthorize',
    summary: 'What the page that asks does',
    async run(ctx, request) {
      const asked = await readAsked(ctx, request);
      const fields = (request.body.value ?? {}) as Record<string, unknown>;
      guardForm(request, ctx.settings.get('CSRF_TRUSTED_ORIGINS'), fields['csrfmiddlewaretoken']);
      if ('back' in asked) return to(303, asked.back);
      const { signedIn } = request.actor;
      if (signedIn === undefined) return signIn(303, request);
      if (fields['answer'] === 'deny') return to(303, refusal(asked, 'access_denied', 'oauth.denied'));
      // Signed in as somebody else since the page was shown: they are asked themselves.
      const same = fields['account'] === String(signedIn.account.id);
      if (fields['answer'] !== 'allow' || !same) return to(303, pathOf(request));
      return goBack(ctx, request, signedIn, asked, 303);
    },
  }),
];
