/** What an SMS provider is: a file that says what to send and what an answer means. It knows no database and no clock. */
import type { Static, TObject } from 'typebox';
import type { HttpAnswer, HttpCall } from '../../calls.ts';

export interface Message {
  /** The same when it is tried again: for providers that know idempotency keys. */
  readonly id: string;
  /** E.164 */
  readonly to: string;
  readonly text: string;
  /** When this attempt is made. */
  readonly at: Date;
  /** Where reports of its delivery may be sent; undefined when this service has no public address. */
  readonly reports: string | undefined;
}

/** What became of handing a message over. */
export type Handed =
  /** @param id what the provider calls it, for its reports */
  | { readonly taken: true; readonly id: string | null }
  /** @param again trying again may help; otherwise it is lost, e.g. because the number does not exist */
  | { readonly taken: false; readonly again: boolean; readonly reason: string };

/** What a provider tells later about a message it took. */
export interface Report {
  /** As `Handed.id`. */
  readonly id: string;
  readonly state: 'delivered' | 'failed';
  readonly reason?: string;
}

/** A report as it came in. */
export interface Reported {
  /** Whole address that it was sent to, as the provider saw it: signatures are over it. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** As it was sent. */
  readonly body: string;
  readonly at: Date;
}

export interface SmsProvider<S extends TObject = TObject> {
  readonly label: string;
  /** Its part of the setting SMS_PROVIDER, `provider` included. */
  readonly schema: S;
  /** Properties that are encrypted at rest and never shown again. */
  readonly secrets: readonly string[];
  /** Absent for the console, which sends nothing. */
  readonly call?: (setting: Static<S>, message: Message) => HttpCall;
  readonly read?: (answer: HttpAnswer) => Handed;
  /** Reads reports; undefined when they are not the provider's own. Absent where it sends none. */
  readonly reports?: (setting: Static<S>, reported: Reported) => readonly Report[] | undefined;
}

/** Keeps what the parts of a provider know of its setting, and forgets it for the catalogue. */
export const provider = <S extends TObject>(definition: SmsProvider<S>): SmsProvider =>
  definition as unknown as SmsProvider;
