/** `/account`: who is signed in, the second factor, and every sign-in of the account with a button that ends it. */

import { gone } from '../../accounts/routes.ts';
import { recoveryCodesLeft } from '../../accounts/second-factor.ts';
import { endSessions, type OwnSession, ownSessions, type SignedIn } from '../../accounts/sessions.ts';
import { type Route, route } from '../../platform/http.ts';
import type { Words } from '../../platform/language.ts';
import { html, type Markup, time } from '../../platform/pages.ts';
import { agentOf } from './agents.ts';
import { addressIn, atHome, common, readForm, seeOther, signedInPage, type View, viewOf } from './page-parts.ts';

/** What was done, said once over the page. */
const notices: Readonly<Record<string, string>> = {
  ended: 'account.done.ended',
  others: 'account.done.others',
  off: 'account.done.off',
};

/** Ids of sessions are UUIDs; whatever else a form brings is none. */
export const looksLikeId = (id: string): boolean =>
  /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/.test(id);

/** The program of a sign-in in plain words: a client by its name, a browser by its header. */
function programOf(words: Words, { client_name, client_id, user_agent }: OwnSession): string {
  if (client_name !== null || client_id !== null) return client_name ?? client_id!;
  const { browser, system } = agentOf(user_agent);
  if (browser !== undefined && system !== undefined) return words('account.session.browser', { browser, system });
  return browser ?? system ?? words('account.session.unknown');
}

function sessionItem({ words, language, csrf, to }: View, session: OwnSession, index: number, own: boolean): Markup {
  const renewed =
    session.renewed_at.getTime() - session.created_at.getTime() < 60_000
      ? ''
      : html`<br>${words('account.session.renewed')} ${time(language, session.renewed_at, true)}`;
  const end = own
    ? html`<p><b>${words('account.session.this')}</b></p>`
    : html`<form method="post" action="${to('/account/sessions/end')}">${csrf}<input type="hidden" name="session" value="${session.id}">
<button class="quiet" id="end-${index}" aria-labelledby="end-${index} session-${index}">${words('account.session.end')}</button></form>`;
  return html`<li><div><p id="session-${index}"><b>${programOf(words, session)}</b>${session.device_name === null ? '' : ` · ${session.device_name}`}</p>
<p class="soft">${words('account.session.since')} ${time(language, session.created_at, true)}${renewed}</p></div>${end}</li>`;
}

function secondFactorBlock({ words, to }: View, on: boolean, left: number): Markup {
  if (!on)
    return html`<p>${words('account.factor.is_off')}</p>
<p><a class="button" href="${to('/account/second-factor')}">${words('account.factor.set_up')}</a></p>`;
  return html`<p>${words('account.factor.is_on')} ${words('account.factor.left', { count: left })}</p>
<p class="actions"><a class="button quiet" href="${to('/account/second-factor/recovery-codes')}">${words('account.factor.new_codes')}</a>
<a class="button quiet" href="${to('/account/second-factor/off')}">${words('account.factor.switch_off')}</a></p>`;
}

const nameOf = ({ account }: SignedIn): string => `${account.first_name} ${account.last_name}`.trim();

function overview(view: View, me: SignedIn, sessions: readonly OwnSession[], left: number, done: unknown): Markup {
  const { words, csrf, to } = view;
  const said = typeof done === 'string' && Object.hasOwn(notices, done) ? notices[done]! : undefined;
  const others = sessions.filter(({ id }) => id !== me.family);
  // This one first: it is what people look for.
  const listed = [...sessions.filter(({ id }) => id === me.family), ...others];
  const name = nameOf(me);
  return html`${said === undefined ? '' : html`<p class="done" role="status">${words(said)}</p>`}
<p>${name === '' ? '' : html`<b>${name}</b><br>`}${me.account.email}</p>
<form method="post" action="${to('/account/sign-out')}">${csrf}<button class="quiet">${words('account.sign_out')}</button></form>
<h2>${words('account.factor.title')}</h2>
${secondFactorBlock(view, me.account.second_factor, left)}
<h2>${words('account.sessions.title')}</h2>
<p class="soft">${words('account.sessions.text')}</p>
<ul class="history sessions">${listed.map((session, index) => sessionItem(view, session, index + 1, session.id === me.family))}</ul>
${
  others.length === 0
    ? ''
    : html`<form method="post" action="${to('/account/sessions/end-others')}">${csrf}<button>${words('account.sessions.end_others')}</button></form>`
}`;
}

export const accountPages: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/account',
    operationId: 'showAccount',
    summary: 'The own account: second factor and sign-ins',
    run: signedInPage(async (ctx, request, me) => {
      const view = viewOf(ctx, request, me.account.language_code);
      const sessions = await ownSessions(ctx, me.account.id);
      const left = me.account.second_factor ? await recoveryCodesLeft(ctx, me.account.id) : 0;
      const content = overview(view, me, sessions, left, request.query['done']);
      return view.show(view.words('account.title'), content, { query: {} });
    }),
  }),
  route({
    ...common,
    method: 'POST',
    path: '/account/sign-out',
    operationId: 'signOut',
    summary: 'Signs out',
    run: signedInPage(async (ctx, request, me) => {
      readForm(ctx, request);
      await endSessions(ctx, me.account.id, { only: me.family });
      return seeOther(addressIn(request, '/account/sign-in'), gone);
    }),
  }),
  route({
    ...common,
    method: 'POST',
    path: '/account/sessions/end',
    throttle: 'profile-update',
    operationId: 'endSessionByForm',
    summary: 'Ends one sign-in',
    run: signedInPage(async (ctx, request, me) => {
      const id = readForm(ctx, request)('session');
      // One that is none of theirs, or over, is ended as well as it can be.
      if (looksLikeId(id)) await endSessions(ctx, me.account.id, { only: id });
      return atHome(request, 'ended');
    }),
  }),
  route({
    ...common,
    method: 'POST',
    path: '/account/sessions/end-others',
    throttle: 'profile-update',
    operationId: 'endOtherSessionsByForm',
    summary: 'Ends every other sign-in',
    run: signedInPage(async (ctx, request, me) => {
      readForm(ctx, request);
      await endSessions(ctx, me.account.id, { but: me.family });
      return atHome(request, 'others');
    }),
  }),
];
