/** The page behind an unsubscribe link, and the one-click POST of mail programs (RFC 8058). It withdraws and does nothing else. */

import type { Ctx } from '../../platform/ctx.ts';
import { evidenceOf } from '../../platform/evidence.ts';
import { type Answer, type Incoming, type Route, route } from '../../platform/http.ts';
import { wordsIn } from '../../platform/language.ts';
import { chosen, html, languageFor, languageLinks, page } from '../../platform/pages.ts';
import { sayOne } from '../statements.ts';
import { channelWords } from '../words.ts';
import type { UnsubscribeLink } from './links.ts';
import { common, linkOf, newLink } from './page-parts.ts';
import { purposeTitle } from './preferences.ts';

const unsubscribePage = (ctx: Ctx, request: Incoming, link: UnsubscribeLink, done: boolean): Answer => {
  const language = languageFor(ctx, request);
  const words = wordsIn(language);
  const values = {
    purpose: purposeTitle(ctx, link.purpose, language),
    channel: words(channelWords[link.channel] ?? link.channel),
    shop: ctx.settings.get('CONSENT_CONTROLLER').name,
  };
  const token = request.params['token']!;
  const chose = chosen(request);
  const content = done
    ? html`<p class="done" role="status">${words('unsubscribe.done', values)}</p><p>${words('unsubscribe.more')}</p>${newLink(words, token, chose, 'unsubscribe.link')}`
    : html`<p>${words('unsubscribe.text', values)}</p>
<form class="preferences" method="post" action="/unsubscribe/${token}${chose === '' ? '' : `?${chose}`}"><button>${words('unsubscribe.button')}</button></form>`;
  return page(
    language,
    words(done ? 'unsubscribe.done_title' : 'unsubscribe.title'),
    content,
    200,
    // What was done by a POST is not shown again by a link.
    done ? undefined : languageLinks(language, words('preferences.languages')),
  );
};

const atUnsubscribe = { ...common, path: '/unsubscribe/{token}' } as const;

export const unsubscribePages: readonly Route[] = [
  route({
    ...atUnsubscribe,
    method: 'GET',
    operationId: 'showUnsubscribe',
    summary: 'The page behind an unsubscribe link',
    run: async (ctx, request) => unsubscribePage(ctx, request, linkOf(ctx, request, 'unsubscribe'), false),
  }),
  route({
    ...atUnsubscribe,
    method: 'POST',
    // No throttle: mail programs send these for all their people from a few addresses, and a no must always get through.
    // RFC 8058 has a body of one line; what is really sent is that, something else, or nothing.
    anyBody: true,
    operationId: 'unsubscribe',
    summary: 'One-click unsubscribe (RFC 8058)',
    async run(ctx, request) {
      const link = linkOf(ctx, request, 'unsubscribe');
      const { point, account, channel, purpose } = link;
      await sayOne(ctx, {
        about: { point },
        ...(account === null ? {} : { account }),
        channel,
        purpose,
        // Whether or not a yes is on record: who clicks this wants nothing more, whatever an import may know.
        intent: 'withdraw',
        by: { voice: 'person', proven: true },
        source: 'one_click',
        actor: account === null ? 'address' : `account:${account}`,
        evidence: evidenceOf(request),
        language: languageFor(ctx, request),
      });
      return unsubscribePage(ctx, request, link, true);
    },
  }),
];
