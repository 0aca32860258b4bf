/** What pages and messages call the things of consent, in their reader's language. */
import type { EventKind, Outcome, State } from './rules.ts';
import type { Source } from './sources.ts';

export const channelWords: Readonly<Record<string, string>> = {
  email: 'preferences.channel.email',
  sms: 'preferences.channel.sms',
  whatsapp: 'preferences.channel.whatsapp',
  call: 'preferences.channel.call',
};

export const stateWords: Readonly<Record<State, string>> = {
  unknown: 'preferences.state.unknown',
  pending: 'preferences.state.pending',
  granted: 'preferences.state.granted',
  withdrawn: 'preferences.state.withdrawn',
  expired: 'preferences.state.expired',
  refused: 'preferences.state.refused',
  suppressed: 'preferences.state.suppressed',
};

export const kindWords: Readonly<Record<EventKind, string>> = {
  request: 'preferences.kind.request',
  grant: 'preferences.kind.grant',
  confirm: 'preferences.kind.confirm',
  refuse: 'preferences.kind.refuse',
  withdraw: 'preferences.kind.withdraw',
  expire: 'preferences.kind.expire',
  suppress: 'preferences.kind.suppress',
  restore: 'preferences.kind.restore',
  erase: 'preferences.kind.erase',
};

/** Why a line changed nothing. */
export const outcomeWords: Readonly<Record<Exclude<Outcome, 'applied'>, string>> = {
  older: 'preferences.outcome.older',
  stale: 'preferences.outcome.stale',
  not_lifted: 'preferences.outcome.not_lifted',
  not_theirs: 'preferences.outcome.not_theirs',
};

export const sourceWords: Readonly<Record<Source, string>> = {
  checkout: 'preferences.source.checkout',
  registration: 'preferences.source.registration',
  account: 'preferences.source.account',
  preference_page: 'preferences.source.preference_page',
  one_click: 'preferences.source.one_click',
  confirmation: 'preferences.source.confirmation',
  sms_keyword: 'preferences.source.sms_keyword',
  staff: 'preferences.source.staff',
  import: 'preferences.source.import',
  register: 'preferences.source.register',
  system: 'preferences.source.system',
  demo: 'preferences.source.demo',
};
