/** Reading what providers send us: whether it is theirs, and what it says, held to the same bounds whoever sends it. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { signingKey } from '../../calls.ts';
import type { Incoming, Malformed, Taken, Told, Wrong } from './connector.ts';

/** Seconds a message may be old, or ahead of our clock. */
const TOLERANCE = 300;
const MEMBERS = 1000;
/** Above it a number is no longer exact, and no balance either. */
const POINTS = 1_000_000_000_000;
const control = /[\u0000-\u001f\u007f-\u009f]/;

/** Whether two texts are the same, in a time that does not depend on where they differ. */
export function sameText(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Whether seconds of a clock of theirs are recent. */
export const isRecent = (seconds: string, { at }: Incoming): boolean =>
  /^\d{1,12}$/.test(seconds) && Math.abs(at.getTime() / 1000 - Number(seconds)) <= TOLERANCE;

/** Id of a message with a good Standard Webhooks signature; undefined for any other. */
export function standardWebhook(secret: string, incoming: Incoming): string | undefined {
  const { headers, body } = incoming;
  const [id, time, signatures] = [headers['webhook-id'], headers['webhook-timestamp'], headers['webhook-signature']];
  if (id === undefined || !/^[\x21-\x7e]{1,200}$/.test(id)) return undefined;
  if (time === undefined || signatures === undefined || !isRecent(time, incoming)) return undefined;
  const good = `v1,${createHmac('sha256', signingKey(secret)).update(`${id}.${time}.${body}`).digest('base64')}`;
  return signatures.split(' ', 10).some((signature) => sameText(signature, good)) ? id : undefined;
}

export type Values = Readonly<Record<string, unknown>>;
export const isValues = (value: unknown): value is Values =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Collects what is wrong while values are read. */
export class Reading {
  readonly wrong: Wrong[] = [];

  #refuse(path: readonly string[], detail: string): undefined {
    this.wrong.push({ path, detail });
    return undefined;
  }

  object(value: unknown, path: readonly string[]): Values {
    if (isValues(value)) return value;
    this.#refuse(path, 'must be an object');
    return {};
  }

  /** What a message is called, so that it counts once. */
  id(value: unknown, path: readonly string[]): string {
    if (typeof value === 'string' && /^[\x21-\x7e]{1,200}$/.test(value)) return value;
    this.#refuse(path, 'must be the id of the message');
    return '';
  }

  /** A list of at most a thousand. */
  list(value: unknown, path: readonly string[]): readonly unknown[] {
    if (Array.isArray(value) && value.length <= MEMBERS) return value;
    this.#refuse(path, `must be a list of at most ${MEMBERS}`);
    return [];
  }

  /** An account's id, as a number or as its digits. */
  account(value: unknown, path: readonly string[]): number {
    const id = typeof value === 'string' && /^[1-9]\d{0,15}$/.test(value) ? Number(value) : value;
    if (typeof id === 'number' && Number.isSafeInteger(id) && id > 0) return id;
    this.#refuse(path, 'must be the id of an account');
    return 0;
  }

  /** A short text without control characters; undefined when absent. */
  text(value: unknown, path: readonly string[]): string | null | undefined {
    if (value === undefined || value === null) return value;
    if (typeof value !== 'string') return this.#refuse(path, 'must be a text or null');
    if (value === '' || value.length > 100) return this.#refuse(path, 'must have 1 to 100 characters');
    if (control.test(value) || !value.isWellFormed()) return this.#refuse(path, 'must have no control characters');
    return value;
  }

  /** A number within bounds; undefined when absent. */
  points(value: unknown, path: readonly string[]): number | null | undefined {
    if (value === undefined || value === null) return value;
    if (typeof value !== 'number' || !Number.isFinite(value)) return this.#refuse(path, 'must be a number or null');
    if (Math.abs(value) > POINTS) return this.#refuse(path, `must be between -${POINTS} and ${POINTS}`);
    return value;
  }

  /** A moment with its offset. A clock that is ahead is not believed: what it says would stand for ever. */
  moment(value: unknown, path: readonly string[], now: Date): Date {
    const at =
      typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)$/i.test(value)
        ? new Date(value)
        : undefined;
    if (at === undefined || Number.isNaN(at.getTime())) {
      this.#refuse(path, 'must be a time as of RFC 3339');
      return now;
    }
    if (at.getTime() > now.getTime() + TOLERANCE * 1000) this.#refuse(path, 'must not be in the future');
    return at;
  }
}

/** A body as JSON; undefined when it is none. */
export function jsonBody({ body }: Incoming): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** What was read, or what is wrong with it. */
export const taken = (id: string, told: readonly Told[], { wrong }: Reading): Taken | Malformed =>
  wrong.length > 0 ? { wrong: wrong.slice(0, 20) } : { id, told };

/** Reads one member as our own format has it, or a list of up to 1000 of them. */
export function readTold(id: string, incoming: Incoming): Taken | Malformed {
  const reading = new Reading();
  const body = jsonBody(incoming);
  if (body === undefined) return { wrong: [{ path: [], detail: 'must be JSON' }] };
  if (Array.isArray(body) && body.length > MEMBERS)
    return { wrong: [{ path: [], detail: `must have at most ${MEMBERS} members` }] };
  const told = (Array.isArray(body) ? (body as unknown[]) : [body]).map((value, index): Told => {
    const at = (name?: string): string[] => [
      ...(Array.isArray(body) ? [String(index)] : []),
      ...(name === undefined ? [] : [name]),
    ];
    const member = reading.object(value, at());
    if (!isValues(value)) return { account: 0, at: incoming.at };
    const [card, tier, points] = [
      reading.text(member['card_number'], at('card_number')),
      reading.text(member['tier'], at('tier')),
      reading.points(member['points'], at('points')),
    ];
    return {
      account: reading.account(member['account'], at('account')),
      at: reading.moment(member['at'], at('at'), incoming.at),
      ...(card === undefined ? {} : { card_number: card }),
      ...(tier === undefined ? {} : { tier }),
      ...(points === undefined ? {} : { points }),
    };
  });
  return taken(id, told, reading);
}
