/** The catalogue of what endpoints can be told. */

/** What the ledger's kinds of lines are called outside. `erase` is a suppression that nobody lifts. */
const lines: Readonly<Record<string, { readonly told: string; readonly state: string | null }>> = {
  request: { told: 'requested', state: 'pending' },
  grant: { told: 'granted', state: 'granted' },
  confirm: { told: 'granted', state: 'granted' },
  refuse: { told: 'refused', state: 'refused' },
  withdraw: { told: 'withdrawn', state: 'withdrawn' },
  expire: { told: 'expired', state: 'expired' },
  suppress: { told: 'suppressed', state: 'suppressed' },
  erase: { told: 'suppressed', state: 'suppressed' },
  // What it restores is what lay beneath the suppression: only the projection knows.
  restore: { told: 'restored', state: null },
};

export const lineKinds: readonly string[] = Object.keys(lines);

/** `consent.granted` for `grant`. */
export const typeOfLine = (kind: string): string => `consent.${lines[kind]!.told}`;

/** The state a line of this kind leads to, where that does not depend on what was before. */
export const stateAfter = (kind: string): string | null => lines[kind]!.state;

export const POINT_CHANGED = 'contact_point.changed';
/** Sent by the operator's hand, to endpoints of whatever types. */
export const TEST = 'webhook.test';

/** Types an endpoint can ask for. */
export const webhookTypes: readonly string[] = [...new Set(lineKinds.map(typeOfLine)), POINT_CHANGED];
