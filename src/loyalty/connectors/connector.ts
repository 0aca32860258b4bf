/** What a loyalty connector is: a file that says what to send and what an answer means. It knows no database and no clock. */
import type { Static, TObject } from 'typebox';
import type { HttpAnswer, HttpCall } from '../../calls.ts';

/** A customer as providers are told of them: the newest truth, read when it is delivered. */
export interface Member {
  /** Id of the account. */
  readonly id: number;
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  /** E.164, and only when it is proven. */
  readonly phone: string | null;
  readonly gender: 'male' | 'female' | null;
  /** YYYY-MM-DD */
  readonly date_of_birth: string | null;
  readonly language: string;
  /** Switched-off accounts are members too, but not active. */
  readonly active: boolean;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** By channel: whether marketing may be sent there now. */
  readonly consents: Readonly<Record<'email' | 'sms' | 'call' | 'whatsapp', boolean>>;
  readonly joined_at: string;
}

export interface Attempt {
  /** The same for the same content until its fate is known. */
  readonly key: string;
  /** Grows with every change of the account: whatever comes with a smaller one is older. */
  readonly sequence: number;
  readonly at: Date;
}

/** What an answer means for what was asked. */
export type Verdict =
  | 'done'
  /** Not now: down, busy, limited. Counts against the connector. */
  | { readonly again: string /** Seconds the provider asks us to wait. */; readonly after?: number }
  /** Not this record, however often: counts against the record alone. */
  | { readonly refused: string };

/** What a provider tells us of a member. Absent: nothing about that. */
export interface Told {
  readonly account: number;
  readonly card_number?: string | null;
  readonly tier?: string | null;
  readonly points?: number | null;
  /** When it was so, by the provider's clock; what is older than what we know is dropped. */
  readonly at: Date;
}

export interface Incoming {
  readonly url: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
  readonly at: Date;
}

/** Something a provider sent us: its id, so that it counts once, and what it says. */
export interface Taken {
  readonly id: string;
  readonly told: readonly Told[];
}

/** The part of a member that a provider stores, in words of ours, for comparing. */
export type Shown = Readonly<Record<string, string | boolean | null>>;

/** A value of a message that cannot be what it stands for. */
export interface Wrong {
  readonly path: readonly string[];
  /** In few words, e.g. `must be a number or null`. */
  readonly detail: string;
}

/** It is the provider's own, but not what it is documented to be: nothing of it counts. */
export interface Malformed {
  readonly wrong: readonly Wrong[];
}

export interface LoyaltyConnector<S extends TObject = TObject> {
  readonly label: string;
  /** Its part of the setting CUSTOMER_LOYALTY_CARD_SERVICE, `connector` included. */
  readonly schema: S;
  /** Properties that are encrypted at rest and never shown again. */
  readonly secrets: readonly string[];
  /** Properties that say where members are: with other values it is another provider, which knows nobody. */
  readonly connection: readonly string[];
  /** The part of a member that is told to the provider: what changes outside it is no change. */
  readonly shows: (setting: Static<S>, member: Member) => Shown;
  /** Makes or changes the member at the provider. */
  readonly put: (setting: Static<S>, member: Member, attempt: Attempt) => HttpCall;
  /**
   * A second call, where the answer to `put` says that nobody is there and members are made elsewhere than changed. Its
   * answer is the one that is judged. Null: the first one is. Absent: never needed.
   */
  readonly otherwise?: (setting: Static<S>, member: Member, attempt: Attempt, answer: HttpAnswer) => HttpCall | null;
  /** Has the provider forget an account that was erased; null: it cannot, and somebody has to do it by hand. */
  readonly forget: (setting: Static<S>, account: number, attempt: Attempt) => HttpCall | null;
  /** What an answer to `put` or `forget` means; `judge` of this file fits most. */
  readonly judge: (answer: HttpAnswer, to: 'put' | 'forget') => Verdict;
  /** Asks for a member as the provider has it. Null: it cannot be asked, and is never compared. */
  readonly ask: (setting: Static<S>, account: number) => HttpCall | null;
  /** Its answer: what it shows, null when it does not know the member, or why it could not be told. */
  readonly known: (setting: Static<S>, answer: HttpAnswer) => { shown: Shown | null } | { again: string };
  /**
   * Reads what the provider sends by itself; undefined when it is not the provider's own, or too old; null when its
   * setting has nothing to tell that by. Null in its place: it sends nothing.
   */
  readonly take: ((setting: Static<S>, incoming: Incoming) => Taken | Malformed | undefined | null) | null;
}

/** Keeps what the parts of a connector know of its setting, and forgets it for the catalogue. */
export const connector = <S extends TObject>(definition: LoyaltyConnector<S>): LoyaltyConnector =>
  definition as unknown as LoyaltyConnector;

/** Seconds of a Retry-After header; dates are for browsers. */
const retryAfter = ({ headers }: HttpAnswer): number | undefined => {
  const seconds = Number(headers['retry-after']);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) : undefined;
};

/**
 * By status alone: 2xx is done; 408, 409, 423, 425, 429 and 5xx are for later; other 4xx mean that this record will never
 * be taken as it is. 404 and 410 when forgetting: nobody is there, as it should be.
 */
export function judge(answer: HttpAnswer, to: 'put' | 'forget'): Verdict {
  const { status } = answer;
  if (status >= 200 && status < 300) return 'done';
  if (to === 'forget' && (status === 404 || status === 410)) return 'done';
  const after = retryAfter(answer);
  if (status >= 500 || [401, 403, 408, 409, 423, 425, 429].includes(status) || status < 400)
    return { again: `HTTP ${status}`, ...(after === undefined ? {} : { after }) };
  return { refused: `HTTP ${status}` };
}
