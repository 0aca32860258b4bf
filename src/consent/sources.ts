/**
 * The catalogue of sources: where a statement came in. Its words in the reasons of decisions and on pages are
 * `source.<name>` in the messages.
 */
export const sources = {
  checkout: { told: true, asks: true, own: true },
  registration: { told: true, asks: true, own: true },
  account: { told: true, asks: true, own: true },
  preference_page: { told: true, asks: true, own: true },
  one_click: { told: true, addressed: true },
  confirmation: { addressed: true },
  sms_keyword: { told: true, own: true, addressed: true },
  staff: { told: true, needsReason: true },
  import: { told: true },
  register: { told: true },
  system: {},
  demo: {},
} as const satisfies Record<
  string,
  {
    /** Other systems may name it in `POST /v1/consents` and imports. */
    readonly told?: true;
    /** A yes from here has to be confirmed where the channel has double opt-in: the shop vouches for the others itself. */
    readonly asks?: true;
    /** The person acts themselves: where from is evidence of it (rule 4). */
    readonly own?: true;
    /** It came from the address itself, whoever may have typed that address into an account. */
    readonly addressed?: true;
    /** Somebody of the shop acts for the person and has to say why. */
    readonly needsReason?: true;
  }
>;

export type Source = keyof typeof sources;

const rows: Record<Source, { told?: true; asks?: true; own?: true; addressed?: true; needsReason?: true }> = sources;
export const toldSources = (Object.keys(sources) as Source[]).filter((name) => rows[name].told === true);
export const isFromAddress = (source: Source): boolean => rows[source].addressed === true;
export const isOwnAct = (source: Source): boolean => rows[source].own === true;
export const asksToConfirm = (source: Source): boolean => rows[source].asks === true;
export const needsReason = (source: Source): boolean => rows[source].needsReason === true;
