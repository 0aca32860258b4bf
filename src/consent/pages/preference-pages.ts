/**
 * The preference page. It works without script. A GET only shows, because mail programs and scanners open links on their
 * own; a POST acts, and the link in its path is all it needs.
 */
import type { Ctx } from '../../platform/ctx.ts';
import { evidenceOf } from '../../platform/evidence.ts';
import { type Answer, type Incoming, type Route, route } from '../../platform/http.ts';
import { type Language, type Words, wordsIn } from '../../platform/language.ts';
import { chosen, fieldsOf, html, languageFor, languageLinks, Markup, page, time } from '../../platform/pages.ts';
import { channelWords, kindWords, outcomeWords, sourceWords, stateWords } from '../words.ts';
import { askForLink } from './confirmations.ts';
import { around, common, linkOf, newLink, noticeBlock } from './page-parts.ts';
import {
  type ChannelView,
  HISTORY,
  type HistoryLine,
  openPreferences,
  type Preferences,
  type PurposeView,
  type Reader,
  readPreferences,
} from './preferences.ts';
import { refuseEverything, savePreferences, type Wish } from './wishes.ts';

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

/** A link that was ours and opens nothing any more. */
function over(ctx: Ctx, incoming: Incoming): Answer {
  const language = languageFor(ctx, incoming);
  const words = wordsIn(language);
  return page(
    language,
    words('preferences.over'),
    html`<p>${words('preferences.over_more')}</p>${newLink(words, incoming.params['token']!, chosen(incoming), 'preferences.new_link')}`,
    410,
  );
}

/** The state of a channel in words, and since when; of what waits the waiting is the state. */
function stateLine(words: Words, language: Language, view: ChannelView): Markup {
  if (!view.changeable) return html`${words('preferences.no_address')}`;
  const lines: Markup[] = [];
  if (view.state !== 'pending') {
    const since =
      view.since === null ? '' : html` · ${around(words, 'preferences.since', 'date', time(language, view.since))}`;
    lines.push(html`${words(stateWords[view.state])}${since}`);
  }
  if (view.state === 'suppressed') lines.push(html`${words('preferences.suppressed')}`);
  if (view.waits !== null) {
    const key = view.waits === 'here' ? 'preferences.waits_here' : 'preferences.waits_elsewhere';
    lines.push(html`<b>${words(key)}</b>`);
  }
  return html`${lines.map((line, index) => html`${index === 0 ? '' : html`<br>`}${line}`)}`;
}

function channelRow(words: Words, language: Language, purpose: string, view: ChannelView): Markup {
  const place = `${purpose}.${view.name}`;
  const address = view.address === null ? html`` : html`<span class="soft">${view.address}</span>`;
  const about = html`<p class="soft" id="state.${place}">${stateLine(words, language, view)}</p>`;
  if (!view.changeable)
    return html`<li><div class="switch"><span><b>${words(channelWords[view.name]!)}</b></span></div>${about}</li>`;
  return html`<li><label class="switch"><span><b>${words(channelWords[view.name]!)}</b> ${address}</span>
<input type="checkbox" role="switch" name="on.${place}" value="1"${new Markup(view.on ? ' checked' : '')} aria-describedby="state.${place}"></label>
${about}<input type="hidden" name="shown.${place}" value="${view.shown}${view.notice === null ? '' : `:${view.notice}`}"></li>`;
}

const purposeBlock = (words: Words, language: Language, purpose: PurposeView): Markup => html`
<fieldset><legend><h2>${purpose.title}</h2></legend>
${purpose.notices.map((notice) => noticeBlock(words, notice, purpose.notices.length))}
<ul class="switches">${purpose.channels.map((view) => channelRow(words, language, purpose.name, view))}</ul></fieldset>`;

const historyLine = (words: Words, language: Language, line: HistoryLine): Markup => html`
<li><p><b>${words(kindWords[line.kind])}</b> · ${words(channelWords[line.channel] ?? line.channel)} · ${line.purpose}</p>
<p class="soft">${time(language, line.occurred_at, true)} · ${words(sourceWords[line.source])}${line.version === null ? '' : ` · ${words('preferences.version', { version: line.version })}`}</p>
${line.outcome === 'applied' ? '' : html`<p class="problem">${words(outcomeWords[line.outcome])}</p>`}</li>`;

/** Lines of history that are seen at once; the others are opened. */
const FIRST = 5;

function historyList(words: Words, language: Language, { history, more }: Preferences): Markup {
  if (history.length === 0) return html`<p class="soft">${words('preferences.history_empty')}</p>`;
  const list = (lines: readonly HistoryLine[]): Markup =>
    html`<ol class="history">${lines.map((line) => historyLine(words, language, line))}</ol>`;
  const rest = history.slice(FIRST);
  return html`${list(history.slice(0, FIRST))}${
    rest.length === 0
      ? ''
      : html`<details><summary>${words('preferences.history_older', { count: rest.length })}</summary>${list(rest)}
${more ? html`<p class="soft">${words('preferences.history_more', { count: HISTORY })}</p>` : ''}</details>`
  }`;
}

/** What a page says first, after its form was sent. */
function notice(words: Words, saved: unknown): Markup {
  if (saved === '1') return html`<p class="done" role="status">${words('preferences.saved')}</p>`;
  if (saved === 'asked') return html`<p class="done" role="status">${words('preferences.saved_asked')}</p>`;
  if (saved === 'stale') return html`<p class="problem" role="alert">${words('preferences.saved_stale')}</p>`;
  return html``;
}

async function show(ctx: Ctx, request: Incoming, reader: Reader): Promise<Answer> {
  const language = languageFor(ctx, request, reader.language);
  const words = wordsIn(language);
  const preferences = await readPreferences(ctx, reader, language);
  const { name, contact, address } = ctx.settings.get('CONSENT_CONTROLLER');
  const chose = chosen(request);
  const target = `/preferences/${request.params['token']!}${chose === '' ? '' : `?${chose}`}`;
  const content = html`${notice(words, request.query['saved'])}
<p>${words('preferences.intro', { shop: name })}</p>
<form class="preferences" method="post" action="${target}">${preferences.purposes.map((purpose) => purposeBlock(words, language, purpose))}
<button>${words('preferences.save')}</button></form>
<form class="preferences" method="post" action="${target}"><input type="hidden" name="everything" value="no">
<p class="soft">${words('preferences.everything_more')}</p><button class="quiet">${words('preferences.everything')}</button></form>
<h2>${words('preferences.history')}</h2>
${historyList(words, language, preferences)}
<p class="soft foot">${[name, address, contact].filter((part) => part !== '').join(' · ')}</p>`;
  return page(
    language,
    words('preferences.title'),
    content,
    200,
    languageLinks(language, words('preferences.languages')),
  );
}

/** What a form says of each switch it has: an unticked box sends nothing, so the hidden field beside it says that it is there. */
function wishesOf(fields: Record<string, unknown>): Wish[] {
  return Object.keys(fields).flatMap((name): Wish[] => {
    const [, purpose, channel] = /^shown\.([a-z][a-z0-9_]{0,39})\.([a-z]+)$/.exec(name) ?? [];
    if (purpose === undefined || channel === undefined) return [];
    const [shown = '', notice] = (text(fields[name]) ?? '').split(':');
    const id = /^[1-9]\d{0,14}$/.test(notice ?? '') ? Number(notice) : null;
    return [{ purpose, channel, on: fields[`on.${purpose}.${channel}`] !== undefined, shown, notice: id }];
  });
}

/** Only what the shop asks for on its page can be said there. */
const known = (ctx: Ctx, { purpose, channel }: Wish): boolean => {
  const purposes: Record<string, { channels: readonly string[] }> = ctx.settings.get('CONSENT_PURPOSES');
  return Object.hasOwn(purposes, purpose) && purposes[purpose]!.channels.includes(channel);
};

const atPage = { ...common, path: '/preferences/{token}' } as const;

export const preferencePages: readonly Route[] = [
  route({
    ...atPage,
    method: 'GET',
    operationId: 'showPreferences',
    summary: 'The preference page',
    async run(ctx, request) {
      const reader = await openPreferences(ctx, linkOf(ctx, request, 'account', 'address'));
      return reader === undefined ? over(ctx, request) : show(ctx, request, reader);
    },
  }),
  route({
    ...atPage,
    method: 'POST',
    throttle: 'preferences',
    operationId: 'savePreferences',
    summary: 'What the preference page does',
    async run(ctx, request) {
      const reader = await openPreferences(ctx, linkOf(ctx, request, 'account', 'address'));
      if (reader === undefined) return over(ctx, request);
      const fields = fieldsOf(request);
      const by = { evidence: evidenceOf(request), language: languageFor(ctx, request, reader.language) };
      const wishes = wishesOf(fields).filter((wish) => known(ctx, wish));
      const saved =
        fields['everything'] === undefined
          ? await savePreferences(ctx, reader, wishes, by)
          : await refuseEverything(ctx, reader, by);
      const query = [chosen(request), `saved=${saved === 'saved' ? '1' : saved}`]
        .filter((part) => part !== '')
        .join('&');
      return { status: 303, headers: { location: `/preferences/${request.params['token']!}?${query}` } };
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/preferences/{token}/link',
    throttle: 'preferences',
    operationId: 'askForPreferenceLink',
    summary: 'Have a new preference link sent to where the old one went',
    async run(ctx, request) {
      await askForLink(ctx, linkOf(ctx, request, 'account', 'address', 'unsubscribe'));
      const language = languageFor(ctx, request);
      const words = wordsIn(language);
      return page(language, words('preferences.sent'), html`<p>${words('preferences.sent_more')}</p>`);
    },
  }),
];
