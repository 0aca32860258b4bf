/** What the pages behind signed links have in common. */
import { anyone } from '../../accounts/callers.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { fail } from '../../platform/failure.ts';
import type { Incoming } from '../../platform/http.ts';
import type { Words } from '../../platform/language.ts';
import { html, type Markup, pages } from '../../platform/pages.ts';
import { channelWords } from '../words.ts';
import { readToken, type SignedLink } from './links.ts';
import type { NoticeView } from './preferences.ts';

export const common = { dialect: pages, who: anyone, tag: 'Pages', hidden: true, answers: {} } as const;

/** A message with markup in the place of one of its values. */
export function around(words: Words, key: string, name: string, value: Markup): Markup {
  const hole = '\u0001';
  const [before = '', after = ''] = words(key, { [name]: hole }).split(hole);
  return html`${before}${value}${after}`;
}

/** The link of the path. @throws not_found unless we wrote it, as one of these kinds */
export function linkOf<K extends SignedLink['kind']>(
  ctx: Ctx,
  { params }: Incoming,
  ...kinds: readonly K[]
): Extract<SignedLink, { kind: K }> {
  const link = readToken(ctx, params['token']!);
  return link !== undefined && (kinds as readonly string[]).includes(link.kind)
    ? (link as Extract<SignedLink, { kind: K }>)
    : fail('not_found');
}

/** One button that has a new link sent to where the old one went. */
export const newLink = (words: Words, token: string, query: string, key: string): Markup => html`
<form method="post" action="/preferences/${token}/link${query === '' ? '' : `?${query}`}"><button class="quiet">${words(key)}</button></form>`;

/** A notice word for word, with its version and how it is taken back. */
export const noticeBlock = (
  words: Words,
  notice: NoticeView,
  among: number,
): Markup => html`<figure class="notice"><blockquote lang="${notice.language}">${notice.text}</blockquote>
<figcaption class="soft">${among > 1 ? `${notice.channels.map((name) => words(channelWords[name]!)).join(', ')} · ` : ''}${words('preferences.version', { version: notice.version })}
<span lang="${notice.language}">${notice.withdrawal === '' ? '' : html` · ${notice.withdrawal}`}</span></figcaption></figure>`;
