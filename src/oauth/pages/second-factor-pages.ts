/** The pages that switch the second factor on and off. Each asks for the password anew: an open browser is not a person. */

import { encode } from 'uqr';
import { knownDevice } from '../../accounts/known-devices.ts';
import {
  beginSecondFactor,
  confirmSecondFactor,
  newRecoveryCodes,
  pendingSecondFactor,
  removeSecondFactor,
  takeCode,
} from '../../accounts/second-factor.ts';
import type { SignedIn } from '../../accounts/sessions.ts';
import { checkPassword, type Proof, signInBy } from '../../accounts/sign-in.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { Failure, fail } from '../../platform/failure.ts';
import { type Answer, type Incoming, type Route, route } from '../../platform/http.ts';
import { html, type Markup } from '../../platform/pages.ts';
import {
  addressIn,
  atHome,
  codeField,
  common,
  passwordField,
  problemBox,
  readForm,
  seeOther,
  signedInPage,
  textOf,
  type View,
  viewOf,
} from './page-parts.ts';

const START = '/account/second-factor';
const SET_UP = '/account/second-factor/set-up';
const OFF = '/account/second-factor/off';
const CODES = '/account/second-factor/recovery-codes';

/** Without a password a sign-in this young says as much: the issuer has just asked them. */
const FRESH_MILLISECONDS = 10 * 60_000;

/** How somebody shows that it is them at the browser. */
type Way = 'password' | 'fresh' | 'again';

async function wayOf(ctx: Ctx, me: SignedIn): Promise<Way> {
  const row = await ctx.db.one<{ has: boolean }>(sql`
    select password is not null as has from account where id = ${me.account.id}`);
  if (row?.has === true) return 'password';
  return ctx.clock.now().getTime() - me.since.getTime() < FRESH_MILLISECONDS ? 'fresh' : 'again';
}

/** @throws invalid_credentials, throttled */
async function provePresence(ctx: Ctx, request: Incoming, me: SignedIn, password: string): Promise<Proof> {
  const way = await wayOf(ctx, me);
  if (way === 'again' || password.length > 128) fail('invalid_credentials');
  if (way === 'fresh') return { id: me.account.id, hash: null, secondFactor: false };
  const device = await knownDevice(ctx, request, me.account.email);
  const { id, hash } = await checkPassword(ctx, me.account.email, password, device);
  return id === me.account.id ? { id, hash, secondFactor: false } : fail('invalid_credentials');
}

interface Asking {
  readonly path: string;
  readonly title: string;
  readonly text: string;
  readonly button: string;
  readonly withCode: boolean;
}

const asking: Readonly<Record<'start' | 'off' | 'codes', Asking>> = {
  start: {
    path: START,
    title: 'account.factor.set_up',
    text: 'account.start.text',
    button: 'account.start.button',
    withCode: false,
  },
  off: {
    path: OFF,
    title: 'account.off.title',
    text: 'account.off.text',
    button: 'account.factor.switch_off',
    withCode: true,
  },
  codes: {
    path: CODES,
    title: 'account.codes.new_title',
    text: 'account.codes.new_text',
    button: 'account.codes.new_button',
    withCode: true,
  },
};

/** The page that asks who is there before it does something. */
async function ask(ctx: Ctx, incoming: Incoming, me: SignedIn, what: Asking, failure?: Failure): Promise<Answer> {
  const view = viewOf(ctx, incoming, me.account.language_code);
  const { words, csrf, to, language } = view;
  const way = await wayOf(ctx, me);
  const problem =
    failure === undefined
      ? undefined
      : failure.code === 'invalid_credentials' && way === 'password'
        ? words('account.wrong_password')
        : textOf(language, failure);
  const form =
    way === 'again'
      ? html`<p>${words('account.again.text')}</p>
<p><a class="button" href="${to('/account/sign-in', { next: what.path })}">${words('account.again.button')}</a></p>`
      : html`<form method="post" action="${to(what.path)}">${csrf}
${way === 'password' ? passwordField(words) : ''}${what.withCode ? codeField(words, words('page.code.label')) : ''}
<button>${words(what.button)}</button></form>`;
  const content = html`${problemBox(problem)}<p>${words(what.text)}</p>${form}${backLink(view)}`;
  return view.show(words(what.title), content, {
    query: {},
    ...(failure === undefined ? {} : { status: failure.status, headers: failure.headers }),
  });
}

const backLink = ({ words, to }: View): Markup => html`<p><a href="${to('/account')}">${words('account.back')}</a></p>`;

/** Anybody can register anybody's address, and would keep them out of it for good. */
function unproven(ctx: Ctx, incoming: Incoming, me: SignedIn): Answer {
  const view = viewOf(ctx, incoming, me.account.language_code);
  const { words, to } = view;
  const content = html`<p>${words('account.unproven.text')}</p>
<p><a class="button" href="${to('/account/forgotten', { next: START })}">${words('account.unproven.button')}</a></p>${backLink(view)}`;
  return view.show(words('account.factor.set_up'), content, { query: {} });
}

/** Failures that are told over the form they came from. */
const answerable = new Set(['invalid_credentials', 'throttled', 'second_factor_needed', 'second_factor_wrong']);

const inPlace = async (work: () => Promise<Answer>, show: (failure: Failure) => Promise<Answer>): Promise<Answer> => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure && answerable.has(error.code)) return show(error);
    throw error;
  }
};

/** A picture of black squares on white, in the dark too: cameras want it so. One path, so that no style is needed. */
function qrCode(text: string, label: string): Markup {
  const { size, data } = encode(text, { ecc: 'M', border: 3 });
  const squares = data.flatMap((line, y) => line.flatMap((black, x) => (black ? [`M${x} ${y}h1v1h-1z`] : []))).join('');
  return html`<svg class="qr" role="img" aria-label="${label}" viewBox="0 0 ${size} ${size}" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h${size}v${size}h-${size}z"/><path fill="#000" d="${squares}"/></svg>`;
}

const inGroups = (text: string): string => text.replaceAll(/.{4}(?=.)/g, '$& ');

function setUpPage(view: View, { secret, uri }: { secret: string; uri: string }, failure?: Failure): Answer {
  const { words, csrf, to, language } = view;
  const content = html`${problemBox(failure === undefined ? undefined : textOf(language, failure))}
<p>${words('account.set_up.scan')}</p>
${qrCode(uri, words('account.set_up.picture'))}
<p><a href="${uri}">${words('account.set_up.open')}</a></p>
<p>${words('account.set_up.type')}</p><p><code class="secret">${inGroups(secret)}</code></p>
<form method="post" action="${to(SET_UP)}">${csrf}
<label for="otp">${words('account.set_up.code')}</label>
<input id="otp" name="otp" inputmode="numeric" autocomplete="one-time-code" required maxlength="40">
<button>${words('account.set_up.button')}</button></form>${backLink(view)}`;
  return view.show(words('account.set_up.title'), content, {
    query: {},
    ...(failure === undefined ? {} : { status: failure.status, headers: failure.headers }),
  });
}

/** The one answer that is no redirect: the codes are nowhere but in it. */
function codesPage(view: View, codes: readonly string[]): Answer {
  const { words, to } = view;
  return view.show(
    words('account.codes.title'),
    html`<p>${words('account.codes.text')}</p>
<ol class="codes">${codes.map((code) => html`<li><code>${code}</code></li>`)}</ol>
<p>${words('account.codes.once')}</p>
<p><a class="button" href="${to('/account')}">${words('account.codes.kept')}</a></p>`,
  );
}

const get = (path: string, operationId: string, summary: string, run: Parameters<typeof signedInPage>[0]): Route =>
  route({ ...common, method: 'GET', path, operationId, summary, run: signedInPage(run) });
const post = (path: string, operationId: string, summary: string, run: Parameters<typeof signedInPage>[0]): Route =>
  route({ ...common, method: 'POST', path, operationId, summary, throttle: 'login', run: signedInPage(run) });

export const secondFactorPages: readonly Route[] = [
  get(START, 'showSecondFactor', 'Before a second factor is set up', async (ctx, request, me) => {
    if (me.account.second_factor) return atHome(request);
    return me.account.email_verified_at === null ? unproven(ctx, request, me) : ask(ctx, request, me, asking.start);
  }),
  post(START, 'beginSecondFactor', 'Makes a secret for the app', async (ctx, request, me) => {
    const field = readForm(ctx, request);
    if (me.account.second_factor) return atHome(request);
    return inPlace(
      async () => {
        const proof = await provePresence(ctx, request, me, field('password'));
        await signInBy(ctx, proof, (tx) => beginSecondFactor(tx, proof.id, me.family));
        return seeOther(addressIn(request, SET_UP));
      },
      (failure) => ask(ctx, request, me, asking.start, failure),
    );
  }),
  get(
    SET_UP,
    'showSecondFactorSecret',
    'The secret for the app, as a picture and as text',
    async (ctx, request, me) => {
      const pending = await pendingSecondFactor(ctx, me);
      return pending === undefined
        ? seeOther(addressIn(request, START))
        : setUpPage(viewOf(ctx, request, me.account.language_code), pending);
    },
  ),
  post(SET_UP, 'confirmSecondFactor', 'Switches the second factor on', async (ctx, request, me) => {
    const field = readForm(ctx, request);
    const view = viewOf(ctx, request, me.account.language_code);
    return inPlace(
      async () => {
        const codes = await confirmSecondFactor(ctx, me, field('otp'));
        return codes === undefined ? seeOther(addressIn(request, START)) : codesPage(view, codes);
      },
      async (failure) => {
        const pending = await pendingSecondFactor(ctx, me);
        return pending === undefined ? seeOther(addressIn(request, START)) : setUpPage(view, pending, failure);
      },
    );
  }),
  get(OFF, 'showSecondFactorOff', 'Before the second factor is switched off', async (ctx, request, me) =>
    me.account.second_factor ? ask(ctx, request, me, asking.off) : atHome(request),
  ),
  post(OFF, 'switchSecondFactorOff', 'Switches the second factor off', async (ctx, request, me) => {
    const field = readForm(ctx, request);
    return inPlace(
      async () => {
        const proof = await provePresence(ctx, request, me, field('password'));
        await takeCode(ctx, proof.id, field('otp'));
        await signInBy(ctx, { ...proof, secondFactor: true }, (tx) => removeSecondFactor(tx, proof.id));
        return atHome(request, 'off');
      },
      (failure) => ask(ctx, request, me, asking.off, failure),
    );
  }),
  get(CODES, 'showRecoveryCodes', 'Before recovery codes are made anew', async (ctx, request, me) =>
    me.account.second_factor ? ask(ctx, request, me, asking.codes) : atHome(request),
  ),
  post(CODES, 'makeRecoveryCodes', 'Makes recovery codes anew', async (ctx, request, me) => {
    const field = readForm(ctx, request);
    return inPlace(
      async () => {
        const proof = await provePresence(ctx, request, me, field('password'));
        await takeCode(ctx, proof.id, field('otp'));
        const codes = await signInBy(ctx, { ...proof, secondFactor: true }, (tx) => newRecoveryCodes(tx, proof.id));
        return codesPage(viewOf(ctx, request, me.account.language_code), codes);
      },
      (failure) => ask(ctx, request, me, asking.codes, failure),
    );
  }),
];
