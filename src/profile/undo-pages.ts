/** The page behind the link that brings an old number back. A GET only shows, because programs open links on their own. */

import { common } from '../consent/pages/page-parts.ts';
import { endOf, openUndo, type PhoneUndo } from '../phone/undo.ts';
import type { Ctx } from '../platform/ctx.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { Failure } from '../platform/failure.ts';
import { type Answer, type Incoming, type Route, route } from '../platform/http.ts';
import { type Language, type Words, wordsIn } from '../platform/language.ts';
import { chosen, html, languageFor, languageLinks, type Markup, page, time } from '../platform/pages.ts';
import { undoPhoneChange } from './phone-undo.ts';

interface View {
  readonly language: Language;
  readonly words: Words;
  readonly undo: PhoneUndo | undefined;
}

async function read(ctx: Ctx, request: Incoming): Promise<View> {
  const undo = await openUndo(ctx, request.params['token']!);
  const language = languageFor(ctx, request, undo?.language_code);
  return { language, words: wordsIn(language), undo };
}

/** Forged, used, over and erased look alike. */
const over = ({ language, words }: View): Answer =>
  page(language, words('page.link.used'), html`<p>${words('page.phone_undo.over_more')}</p>`, 410);

const list = (...lines: string[]): Markup => html`<ul>${lines.map((line) => html`<li>${line}</li>`)}</ul>`;

function question({ language, words }: View, undo: PhoneUndo, query: string): Answer {
  const content = html`<p>${words('page.phone_undo.text', { end: endOf(undo.phone_e164) })} ${time(language, undo.created_at, true)}</p>
<p>${words('page.phone_undo.effects')}</p>
${list(words('page.phone_undo.number'), words('page.phone_undo.sign_ins'), words('page.phone_undo.consents'))}
<form method="post"${query === '' ? '' : html` action="?${query}"`}><button>${words('page.phone_undo.button')}</button></form>
<p class="soft">${words('page.phone_undo.otherwise')} ${time(language, undo.expires_at, true)}</p>`;
  return page(
    language,
    words('page.phone_undo.title'),
    content,
    200,
    languageLinks(language, words('preferences.languages')),
  );
}

const done = ({ language, words }: View): Answer =>
  page(
    language,
    words('page.phone_undo.done'),
    html`<p role="status">${words('page.phone_undo.done_sign_ins')}</p>
${list(words('page.phone_undo.done_password'), words('page.phone_undo.done_consents'))}`,
  );

/** Somebody else holds it: the link stays good, should they give it up. */
const taken = ({ language, words }: View): Answer =>
  page(
    language,
    words('page.phone_undo.taken'),
    html`<p class="problem" role="alert">${words('page.phone_undo.taken_more')}</p>
${list(words('page.phone_undo.done_password'), words('page.phone_undo.taken_shop'))}`,
    409,
  );

const atUndo = { ...common, path: '/phone/undo/{token}' } as const;

export const undoPages: readonly Route[] = [
  route({
    ...atUndo,
    method: 'GET',
    operationId: 'showPhoneUndo',
    summary: 'The page that says a phone number was changed',
    async run(ctx, request) {
      const view = await read(ctx, request);
      return view.undo === undefined ? over(view) : question(view, view.undo, chosen(request));
    },
  }),
  route({
    ...atUndo,
    method: 'POST',
    throttle: 'login',
    operationId: 'undoPhoneChange',
    summary: 'Brings the old number back',
    async run(ctx, request) {
      const view = await read(ctx, request);
      if (view.undo === undefined) return over(view);
      try {
        await undoPhoneChange(ctx, view.undo, evidenceOf(request));
        return done(view);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        if (error.complaints[0]?.key === 'field.unique') return taken(view);
        if (error.complaints[0]?.key === 'link.invalid' || error.code === 'not_authenticated') return over(view);
        throw error;
      }
    },
  }),
];
