/** A proof as people read it: one page that prints, runs nothing and asks nothing of any server. The document is in it. */
import { createHash } from 'node:crypto';
import { type Language, say } from '../../platform/language.ts';
import { html, Markup } from '../../platform/pages.ts';
import type { EventKind, Outcome, State } from '../rules.ts';
import type { Source } from '../sources.ts';
import { CLOSING, OPENING, type Proof, type ProofLine } from './file.ts';

const style = `
:root{color-scheme:light;--ink:#1d1a16;--soft:#5f564b;--line:#d8d0c4;--accent:#8a3b12}
*{box-sizing:border-box}body{margin:0;background:#fff;color:var(--ink);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:break-word}
main{max-width:80rem;margin:0 auto;padding:2rem clamp(1rem,4vw,3rem)}
h1{font-size:1.8rem;line-height:1.2;margin:0 0 1rem}h2{font-size:1.2rem;margin:2.5rem 0 .75rem}p{margin:.5rem 0;max-width:50rem}
dl{display:grid;grid-template-columns:minmax(9rem,14rem) 1fr;gap:.35rem 1.5rem;margin:0}dt{color:var(--soft)}dd{margin:0}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .9rem .5rem 0;border-top:1px solid var(--line)}th{color:var(--soft);font-weight:600}
th{white-space:nowrap}td:last-child:nth-child(8){min-width:15rem}code,li{overflow-wrap:anywhere}time{white-space:nowrap}.soft{color:var(--soft)}ul{list-style:none;margin:0;padding:0}
blockquote{margin:.5rem 0 0;padding:.75rem 1rem;border-left:3px solid var(--accent);white-space:pre-wrap;max-width:50rem}
code,pre{font:.88em ui-monospace,monospace}pre{white-space:pre-wrap}
@media (max-width:75rem){table{font-size:.85rem}table time{white-space:normal}th,td{padding-right:.6rem}td:last-child:nth-child(8){min-width:12rem}}
@media print{@page{size:landscape;margin:1.2cm}main{max-width:none;padding:0}body{font-size:9pt}.wide{overflow:visible}tr,blockquote{break-inside:avoid}h2{break-after:avoid}}`;

/** What the page may do, also once it is a file on somebody's disk: bring its one style sheet, nothing else. */
export const pagePolicy = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; base-uri 'none'; form-action 'none'`;

const kinds: Record<EventKind, string> = {
  request: 'proof.kind.request',
  grant: 'proof.kind.grant',
  confirm: 'proof.kind.confirm',
  refuse: 'proof.kind.refuse',
  withdraw: 'proof.kind.withdraw',
  expire: 'proof.kind.expire',
  suppress: 'proof.kind.suppress',
  restore: 'proof.kind.restore',
  erase: 'proof.kind.erase',
};
const outcomes: Record<Outcome, string> = {
  applied: 'proof.outcome.applied',
  older: 'proof.outcome.older',
  stale: 'proof.outcome.stale',
  not_lifted: 'proof.outcome.not_lifted',
  not_theirs: 'proof.outcome.not_theirs',
};
const states: Record<State, string> = {
  unknown: 'proof.state.unknown',
  pending: 'proof.state.pending',
  granted: 'proof.state.granted',
  withdrawn: 'proof.state.withdrawn',
  expired: 'proof.state.expired',
  refused: 'proof.state.refused',
  suppressed: 'proof.state.suppressed',
};
const sources: Record<Source, string> = {
  checkout: 'source.checkout',
  registration: 'source.registration',
  account: 'source.account',
  preference_page: 'source.preference_page',
  one_click: 'source.one_click',
  confirmation: 'source.confirmation',
  sms_keyword: 'source.sms_keyword',
  staff: 'source.staff',
  import: 'source.import',
  register: 'source.register',
  system: 'source.system',
  demo: 'source.demo',
};
const channels: Record<string, string> = {
  sms: 'proof.channel.sms',
  call: 'proof.channel.call',
  email: 'proof.channel.email',
  whatsapp: 'proof.channel.whatsapp',
};

/** What evidence is called; what a shop adds of its own keeps its name. */
const evidences: Record<string, string> = {
  actor: 'proof.evidence.actor',
  ip: 'proof.evidence.ip',
  user_agent: 'proof.evidence.user_agent',
  request: 'proof.evidence.request',
  session: 'proof.evidence.session',
  basket: 'proof.evidence.basket',
  order: 'proof.evidence.order',
  document: 'proof.evidence.document',
  reason: 'proof.evidence.reason',
};

/** `2026-11-21 08:00:00 UTC`: the same for every reader, as a proof should be. */
const moment = (iso: string): Markup =>
  html`<time datetime="${iso}">${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC</time>`;
const plain = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
const rows = (pairs: readonly (readonly [string, unknown])[]): Markup =>
  html`<dl>${pairs.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** @returns the page with an empty place for the document: `OPENING` stands in it once, because all texts are escaped */
export function proofPage(proof: Omit<Proof, 'signature' | 'page'>, language: Language): string {
  const t = (key: string, values?: Record<string, string>): string =>
    say(language, values === undefined ? { key } : { key, values });
  /** The word of a catalogue; a name that has none, such as the shop's own purposes, as it is. */
  const word = (words: Readonly<Record<string, string>>, name: string): string =>
    Object.hasOwn(words, name) ? t(words[name]!) : name;
  const { controller, subject, lines, head } = proof;
  const address = (point: number): string => {
    const found = subject.addresses.find(({ contact_point }) => contact_point === point);
    return found?.value ?? (found === undefined ? t('proof.address.earlier') : t('proof.address.erased'));
  };
  const table = (heads: readonly string[], body: readonly Markup[]): Markup =>
    html`<div class="wide"><table><thead><tr>${heads.map((key) => html`<th scope="col">${t(key)}</th>`)}</tr></thead><tbody>${[...body]}</tbody></table></div>`;

  const shownText = (line: ProofLine): string => {
    if (line.withheld || line.notice === null) return '–';
    const shown = proof.notices.find(({ id }) => id === line.notice);
    return shown === undefined ? '–' : t('proof.text', { version: shown.version, language: shown.language });
  };
  const evidence = (line: ProofLine): Markup => {
    if (line.withheld) return html`<span class="soft">${t('proof.withheld')}</span>`;
    if (line.evidence === null) return html`<span class="soft">${t('proof.evidence.erased')}</span>`;
    const more = Object.entries(line.evidence).filter(([name]) => name !== 'address');
    const pairs: [string, unknown][] = [['actor', line.actor], ...more];
    return html`<ul>${pairs.map(([name, value]) => html`<li><span class="soft">${word(evidences, name)}</span> ${plain(value)}</li>`)}</ul>`;
  };
  const event = (line: ProofLine): Markup => {
    const where =
      !line.withheld && typeof line.evidence?.['address'] === 'string'
        ? line.evidence['address']
        : address(line.contact_point);
    return html`<tr><td>${line.position ?? t('proof.unsealed')}</td>
<td>${moment(line.occurred_at)}<br><span class="soft">${t('proof.recorded')} ${moment(line.recorded_at)}</span></td>
<td>${word(kinds, line.kind)}<br><span class="soft">${word(channels, line.channel)}, ${line.purpose}</span></td>
<td>${where}</td><td>${line.withheld ? '–' : word(sources, line.source)}</td><td>${shownText(line)}</td>
<td>${word(outcomes, line.outcome)}</td><td>${evidence(line)}</td></tr>`;
  };

  const whom = [
    ...(subject.account === null ? [] : [t('proof.account', { id: String(subject.account) })]),
    ...subject.addresses
      .filter(({ hash }) => hash !== null)
      .map(({ value, hash }) => value ?? t('proof.address.hash', { hash: hash! })),
  ];
  const answers = [controller.name, controller.address, controller.contact].filter((part) => part !== '');
  const file = html`<pre>assent ledger verify ${t('proof.check.file')} --key ${proof.key.sha256}</pre>`;
  const title = t('proof.title');
  return html`<!doctype html>
<html lang="${language}"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${pagePolicy}">
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">
<title>${title}</title><style>${new Markup(style)}</style></head>
<body><main><h1>${title}</h1>
${rows([
  [t('proof.answers'), answers.join(', ')],
  [t('proof.whom'), html`<ul>${whom.map((part) => html`<li>${part}</li>`)}</ul>`],
  [t('proof.made'), moment(proof.generated_at)],
  [t('proof.installation'), html`<code>${proof.installation}</code>`],
])}
<h2>${t('proof.states')}</h2>
${
  proof.states.length === 0
    ? html`<p>${t('proof.nothing')}</p>`
    : table(
        [
          'proof.column.address',
          'proof.column.channel',
          'proof.column.state',
          'proof.column.since',
          'proof.column.line',
        ],
        proof.states.map((state) => {
          const line = lines.find(({ id }) => id === state.event);
          const until =
            state.valid_until === null
              ? ''
              : html`<br><span class="soft">${t('proof.until')} ${moment(state.valid_until)}</span>`;
          return html`<tr><td>${address(state.contact_point)}</td><td>${word(channels, state.channel)}, ${state.purpose}</td>
<td>${word(states, state.state)}</td><td>${moment(state.since)}${until}</td><td>${line?.position ?? '–'}</td></tr>`;
        }),
      )
}
<h2>${t('proof.events')}</h2>
${
  lines.length === 0
    ? html`<p>${t('proof.nothing')}</p>`
    : table(
        [
          'proof.column.line',
          'proof.column.said',
          'proof.column.what',
          'proof.column.address',
          'proof.column.source',
          'proof.column.text',
          'proof.column.effect',
          'proof.column.evidence',
        ],
        lines.map(event),
      )
}
<h2>${t('proof.texts')}</h2>
${proof.notices.length === 0 ? html`<p>${t('proof.texts.none')}</p>` : ''}${proof.notices.map(
  (
    notice,
  ) => html`<section lang="${notice.language}"><p lang="${language}">${t('proof.text', { version: notice.version, language: notice.language })} · ${notice.purpose} ·
${notice.channels.map((channel) => word(channels, channel)).join(', ')} · ${t('proof.text.from')} ${moment(notice.valid_from)}</p>
<blockquote>${notice.text}</blockquote><p><span class="soft" lang="${language}">${t('proof.text.withdrawal')}</span> ${notice.withdrawal}</p>
<p class="soft"><code>SHA-256 ${notice.text_sha256}</code></p></section>`,
)}
<h2>${t('proof.check')}</h2>
<p>${t('proof.check.how')}</p>${file}<p>${t('proof.check.key')}</p>
${rows([
  [t('proof.key'), html`<code>${proof.key.sha256}</code>`],
  ...(head.hash === null || head.at === null
    ? []
    : ([
        [t('proof.head'), html`<code>${head.hash}</code>`],
        [t('proof.head.covers'), html`${t('proof.head.lines', { count: String(head.count) })}, ${moment(head.at)}`],
      ] as const)),
])}
</main>${new Markup(OPENING + CLOSING)}</body></html>
`.text;
}
