/**
 * The history of companies: every change of who may do what, as a chain of lines. Each has a number of its own in its
 * company and the SHA-256 of the hash before it and of its text, so a line that is changed, left out or slipped in shows.
 * Lines are written under the lock of the company's row, by `historyOf`'s caller, in the transaction of the change.
 */
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { commitment, type Evidence } from '../../platform/evidence.ts';
import { chance, uuidv7 } from '../../platform/ids.ts';
import { sha256 } from '../../platform/keys.ts';
import type { Permission } from '../permissions.ts';

/** What can happen; `recorded` is what was there before there was a history. */
export const eventKinds = [
  'recorded',
  'company_made',
  'company_changed',
  'shop_made',
  'shop_changed',
  'owner_changed',
  'entry_made',
  'rights_changed',
  'rights_ended',
  'entry_removed',
] as const;
export type EventKind = (typeof eventKinds)[number];

/** End of a right, ISO 8601; null: without end. */
interface Held {
  readonly until: string | null;
}

/** A right that changed; null: not held. */
export interface LoggedRight {
  readonly shop: number;
  readonly permission: Permission;
  readonly before: Held | null;
  readonly after: Held | null;
}

/** Before and after of something; a pair, so that a line says both. */
type Change<T> = readonly [before: T | null, after: T | null];

/** What a line says, in this order. Absent: not touched. */
export interface Happening {
  readonly kind: EventKind;
  readonly entry?: number;
  /** Whose entry it is. */
  readonly account?: number;
  /** The entry's version from now on. */
  readonly version?: number;
  readonly shop_ids?: Change<readonly number[]>;
  readonly permissions?: Change<readonly Permission[]>;
  readonly rights?: readonly LoggedRight[];
  /** Shops that the company has from now on, beside those it had. */
  readonly shops?: readonly number[];
  readonly owner?: Change<number>;
  /** A company or shop as it was shown and is shown now. */
  readonly shown?: Change<{ readonly id: number; readonly name: unknown; readonly active: boolean }>;
}

/** Who did it, from where, and why. */
export interface Author {
  readonly name: string;
  readonly evidence: Evidence;
  readonly reason?: string | undefined;
}

/** The text of a line. */
export interface StaffEvent extends Happening {
  readonly id: string;
  readonly company: number;
  readonly number: number;
  readonly actor: string;
  readonly at: string;
  readonly reason: string | null;
  /** SHA-256 of salt and evidence, hex; null: there is none. */
  readonly evidence: string | null;
}

/** End of a company's chain, as read under its lock. */
export interface Head {
  readonly company: number;
  /** Number of its last line. */
  readonly events: number;
  /** Hash of its last line. */
  readonly head: Buffer;
  /** Milliseconds since 1970 of its last line; null: there is none. */
  readonly last: number | null;
}

/** A line ready to be stored. */
export interface Line {
  readonly event: StaffEvent;
  readonly line: string;
  readonly hash: Buffer;
  readonly salt: Buffer;
  readonly evidence: Evidence;
}

/** Hash of a line, given the one before it. */
export const chainHash = (previous: Buffer, line: string): Buffer => sha256(previous, line);

/**
 * The next lines of a company. Their times never go back, whatever this machine's clock says.
 * @param now milliseconds since 1970
 */
export function nextLines(
  { company, events, head, last }: Head,
  author: Author,
  happenings: readonly Happening[],
  now: number,
): Line[] {
  const at = new Date(Math.max(now, last ?? 0));
  let previous = head;
  return happenings.map(({ kind, entry, account, ...what }, index) => {
    const salt = chance();
    const event: StaffEvent = {
      id: uuidv7(at),
      company,
      number: events + index + 1,
      kind,
      ...(entry === undefined ? {} : { entry }),
      ...(account === undefined ? {} : { account }),
      actor: author.name,
      at: at.toISOString(),
      reason: author.reason ?? null,
      ...what,
      evidence: commitment(salt, author.evidence).toString('hex'),
    };
    const line = JSON.stringify(event);
    previous = chainHash(previous, line);
    return { event, line, hash: previous, salt, evidence: author.evidence };
  });
}

/** Stores lines and moves the ends of their chains; in the transaction that holds the companies' rows. */
export async function storeLines(ctx: Ctx, lines: readonly Line[]): Promise<void> {
  if (lines.length === 0) return;
  const rows = lines.map(({ event, line, hash, salt, evidence }) => ({
    id: event.id,
    company: event.company,
    number: event.number,
    kind: event.kind,
    entry: event.entry ?? null,
    account: event.account ?? null,
    actor: event.actor,
    at: event.at,
    line,
    hash: hash.toString('hex'),
    salt: salt.toString('hex'),
    evidence,
  }));
  await ctx.db.run(sql`
    with new as (
      select * from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
        as r (id uuid, company bigint, number bigint, kind text, entry bigint, account bigint, actor text, at timestamptz,
              line text, hash text, salt text, evidence jsonb)
    ), event as (
      insert into staff_event (id, company, number, kind, entry, account, actor, at, line, hash)
      select id, company, number, kind, entry, account, actor, at, line, decode(hash, 'hex') from new
    ), unsealed as (
      insert into staff_unsealed (event, company) select id, company from new
    ), evidence as (
      insert into staff_evidence (event, salt, evidence) select id, decode(salt, 'hex'), evidence from new
    )
    update company c set events = n.number, head = decode(n.hash, 'hex')
      from (select distinct on (company) company, number, hash from new order by company, number desc) n
     where c.id = n.company`);
}
