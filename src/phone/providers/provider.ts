/** What an SMS provider is: a file that says what to send and what an answer means. It knows no database and no clock. */
import Type, { type Static, type TObject } from 'typebox';
import { type HttpAnswer, type HttpCall, jsonOf } from '../../calls.ts';

export interface Message {
  /** A UUID, the same when it is tried again: for providers that know idempotency keys. */
  readonly id: string;
  /** Some providers have a faster road for codes. */
  readonly purpose: 'code' | 'text' | 'test';
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
  /**
   * @param again trying again may help; otherwise it is lost, e.g. because the number does not exist
   * @param doubtful it may have been taken all the same: tried again once, so that nobody gets it a third time
   */
  | { readonly taken: false; readonly again: boolean; readonly reason: string; readonly doubtful?: boolean };

/** What a provider tells later about a message it took. */
export interface Report {
  /** As `Handed.id`, or `Message.id`. */
  readonly id: string;
  /** `sent`: it was taken and is on its way. */
  readonly state: 'sent' | 'delivered' | 'failed';
  /** In words of ours or a code; nothing that could carry a number or a text. */
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
  readonly read?: (setting: Static<S>, answer: HttpAnswer) => Handed;
  /** Reads reports; undefined when they are not the provider's own, or too old. Absent where it sends none. */
  readonly reports?: (setting: Static<S>, reported: Reported) => readonly Report[] | undefined;
  /** Asks for reports of these messages, at most 100 `Handed.id`s. Absent where the provider tells by itself, or never. */
  readonly ask?: (setting: Static<S>, ids: readonly string[]) => HttpCall;
  /** Its answer. Messages whose end is not known yet are left out. */
  readonly told?: (answer: HttpAnswer) => readonly Report[];
}

/** Keeps what the parts of a provider know of its setting, and forgets it for the catalogue. */
export const provider = <S extends TObject>(definition: SmsProvider<S>): SmsProvider =>
  definition as unknown as SmsProvider;

/** Where a provider's API lives, for proxies and tests: nothing after the path. */
export const baseAddress = Type.Optional(Type.String({ pattern: '^https?://[^\\s?#@{}]+$', maxLength: 500 }));

export const joined = (base: string, path: string): string => base.replace(/\/$/, '') + path;

/** An answer's body as an object; empty when it is none. */
export function objectOf(answer: HttpAnswer): Readonly<Record<string, unknown>> {
  const value = jsonOf(answer);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

/** The number or short word that a provider uses as a code; undefined for everything else, which could be anything. */
export const codeOf = (value: unknown): string | undefined =>
  (typeof value === 'number' || typeof value === 'string') && /^[\w.-]{1,20}$/.test(String(value))
    ? String(value)
    : undefined;

/** An answer that says yes and cannot be read: the message may be on its way. */
export const unreadable: Handed = { taken: false, again: true, doubtful: true, reason: 'answer not understood' };

/**
 * What a status that is not 2xx means. Wrong credentials and a spent account are not the message's fault, and can be put
 * right while it waits; a gateway that waited in vain for those behind it (504, 408) does not know what they did.
 * @param detail the provider's own code
 */
export function refused({ status }: HttpAnswer, detail?: string): Handed {
  const again = status >= 500 || status < 400 || [401, 402, 403, 408, 409, 423, 425, 429].includes(status);
  const reason = `HTTP ${status}${detail === undefined ? '' : `, code ${detail}`}`;
  return { taken: false, again, reason, ...(status === 504 || status === 408 ? { doubtful: true } : {}) };
}
