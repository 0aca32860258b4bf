/** The page that asks whether a yes was meant: one question for all that is open at an address, a yes and a no. */

import type { Ctx } from '../../platform/ctx.ts';
import { evidenceOf } from '../../platform/evidence.ts';
import { type Answer, type Incoming, type Route, route } from '../../platform/http.ts';
import { wordsIn } from '../../platform/language.ts';
import { chosen, fieldsOf, html, languageFor, languageLinks, page } from '../../platform/pages.ts';
import { noticeFor, noticesInForce } from '../notices.ts';
import { channelWords } from '../words.ts';
import { answerRequests, askedFor, type OpenRequest, openRequests } from './confirmations.ts';
import { common, linkOf, noticeBlock } from './page-parts.ts';
import { masked, noticeTexts, purposeTitle } from './preferences.ts';

async function question(
  ctx: Ctx,
  request: Incoming,
  { requests, complaint }: { requests: readonly OpenRequest[]; complaint?: true },
): Promise<Answer> {
  const language = languageFor(ctx, request, requests[0]?.language);
  const words = wordsIn(language);
  const fallback = ctx.settings.get('DEFAULT_LANGUAGE');
  const inForce = await noticesInForce(ctx);
  const purposes = await Promise.all(
    [...Map.groupBy(requests, ({ purpose }) => purpose)].map(async ([purpose, asked]) => {
      const ids = asked.map(({ channel }) => noticeFor(inForce, { purpose, channel, language, fallback })?.id);
      const texts = await noticeTexts(ctx, [...new Set(ids.filter((id) => id !== undefined))]);
      const notices = texts.map((found) => ({
        ...found,
        channels: asked.flatMap(({ channel }, index) => (ids[index] === found.id ? [channel] : [])),
      }));
      return html`<h2>${purposeTitle(ctx, purpose, language)}</h2>
${notices.map((found) => noticeBlock(words, found, notices.length))}
<ul>${asked.map(({ channel }) => html`<li>${words(channelWords[channel]!)}</li>`)}</ul>`;
    }),
  );
  const chose = chosen(request);
  const content = html`${complaint ? html`<p class="problem" role="alert">${words('confirm.choose')}</p>` : ''}
<p>${words('confirm.intro', { shop: ctx.settings.get('CONSENT_CONTROLLER').name })}</p>
<p class="soft">${masked(requests[0]!.kind, requests[0]!.value)}</p>${purposes}
<form class="preferences answers" method="post" action="/preferences/confirm/${request.params['token']!}${chose === '' ? '' : `?${chose}`}">
${requests.map(({ request: id }) => html`<input type="hidden" name="request" value="${id}">`)}
<button name="answer" value="yes">${words('confirm.yes')}</button> <button class="quiet" name="answer" value="no">${words('confirm.no')}</button></form>
<p class="soft">${words('confirm.otherwise')}</p>`;
  return page(
    language,
    words('confirm.title'),
    content,
    complaint ? 400 : 200,
    languageLinks(language, words('preferences.languages')),
  );
}

/** The requests that can still be answered by this link; undefined when it is over or all are answered. */
async function waiting(ctx: Ctx, request: Incoming): Promise<{ point: number; requests: OpenRequest[] } | undefined> {
  const link = linkOf(ctx, request, 'confirm');
  if (link.expiresAt <= ctx.clock.now()) return undefined;
  const requests = await openRequests(ctx, link.point);
  return requests.length === 0 ? undefined : { point: link.point, requests };
}

function answered(ctx: Ctx, request: Incoming): Answer {
  const language = languageFor(ctx, request);
  const words = wordsIn(language);
  return page(language, words('confirm.over'), html`<p>${words('confirm.over_more')}</p>`, 410);
}

const atConfirmation = { ...common, path: '/preferences/confirm/{token}' } as const;

export const confirmationPages: readonly Route[] = [
  route({
    ...atConfirmation,
    method: 'GET',
    operationId: 'showConfirmation',
    summary: 'The page that asks whether a yes was meant',
    async run(ctx, request) {
      const found = await waiting(ctx, request);
      return found === undefined ? answered(ctx, request) : question(ctx, request, found);
    },
  }),
  route({
    ...atConfirmation,
    method: 'POST',
    throttle: 'preferences',
    operationId: 'answerConfirmation',
    summary: 'The answer to it',
    async run(ctx, request) {
      const found = await waiting(ctx, request);
      if (found === undefined) return answered(ctx, request);
      const { answer, request: shown } = fieldsOf(request);
      // What was asked after the page was opened has not been answered by it.
      const requests = found.requests.filter(({ request: id }) => [shown].flat().includes(id));
      if ((answer !== 'yes' && answer !== 'no') || requests.length === 0)
        return question(ctx, request, { ...found, complaint: true });
      const language = languageFor(ctx, request, requests[0]?.language);
      const words = wordsIn(language);
      const confirmed = answer === 'yes';
      await answerRequests(ctx, { ...found, requests, confirmed }, { evidence: evidenceOf(request), language });
      return page(
        language,
        words(confirmed ? 'confirm.done_yes' : 'confirm.done_no'),
        html`<ul role="status">${askedFor(ctx, words, language, requests).map((line) => html`<li>${line}</li>`)}</ul><p>${words(confirmed ? 'confirm.done_yes_more' : 'confirm.done_no_more')}</p>`,
      );
    },
  }),
];
