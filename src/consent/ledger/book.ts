/**
 * The consent ledger: append-only lines, and the states they lead to. A transaction locks points, opens a book with what is
 * on record, decides and writes into it, and records it in one statement.
 */
import type { ContactPoint } from '../../accounts/contact-points.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { commitment, type Evidence } from '../../platform/evidence.ts';
import { chance, uuidv7 } from '../../platform/ids.ts';
import { type Edge, type EventKind, follow, type Standing } from '../rules.ts';
import type { Source } from '../sources.ts';
import { type Line, lineHash } from './lines.ts';

/** A notice as a line names it. */
export interface NoticeRef {
  readonly id: number;
  /** SHA-256 of its text, hex. */
  readonly sha256: string;
}

/** An event about to be written: the line of the ledger, with what is kept apart from it. */
export interface Draft {
  readonly id: string;
  readonly point: ContactPoint;
  readonly account: number | null;
  readonly channel: string;
  readonly purpose: string;
  readonly edge: Edge;
  /** The account had proven the address when it said so. */
  readonly proven: boolean;
  readonly source: Source;
  /** Who acted: `account:7`, `operator:1`, `key:3`, `system`. */
  readonly actor: string;
  readonly evidence: Evidence;
  /** The text the person saw, as far as we know. */
  readonly notice: NoticeRef | undefined;
  readonly idempotencyKey: string | null;
}

const hex = (bytes: Buffer): string => `\\x${bytes.toString('hex')}`;

/** A row of the projection. */
export interface StateRow extends Standing {
  readonly contact_point: number;
  readonly channel: string;
  readonly purpose: string;
  /** Of the deciding line. */
  readonly kind: EventKind;
  readonly source: string;
}

/** The row of the projection after a line that counts: what a live transaction writes and a rebuild must find. */
export function nextState(
  before: StateRow | undefined,
  place: { readonly contact_point: number; readonly channel: string; readonly purpose: string },
  line: {
    readonly id: string;
    readonly kind: EventKind;
    readonly source: string;
    readonly occurredAt: Date;
    readonly account: number | null;
    readonly proven: boolean;
  },
): StateRow {
  const next = follow(before, line);
  const { kind, source } = next.event === line.id ? line : before!;
  return { ...next, ...place, kind, source };
}

/** A standing as it was read, with what tells who may know of a no: the session that said it and when it was written. */
export interface ReadStanding extends StateRow {
  readonly said_in: string | null;
  readonly recorded_at: Date | null;
}

type Key = `${number} ${string} ${string}`;
const keyOf = (point: number, channel: string, purpose: string): Key => `${point} ${channel} ${purpose}`;

/**
 * What is on record for the points a transaction has locked, and the lines it is about to write. Each line drafted is
 * followed at once, so that the next decision about the same point sees it.
 */
export interface Book {
  readonly drafts: readonly Draft[];
  standing(point: number, channel: string, purpose: string): (StateRow & Partial<ReadStanding>) | undefined;
  /** Channels and purposes of a point that anything was ever said about. */
  of(point: number): readonly StateRow[];
  /** Adds what was read of further points. */
  enter(rows: readonly StateRow[]): void;
  /** Drafts a line and returns its id. */
  write(draft: Omit<Draft, 'id'>): string;
}

/** @param now time of the transaction, taken after its locks */
export function openBook(now: Date, rows: readonly StateRow[] = []): Book {
  const standings = new Map<number, Map<string, StateRow>>();
  const drafts: Draft[] = [];
  const enter = (row: StateRow): void => {
    let known = standings.get(row.contact_point);
    if (known === undefined) {
      known = new Map();
      standings.set(row.contact_point, known);
    }
    known.set(`${row.channel} ${row.purpose}`, row);
  };
  rows.forEach(enter);
  const standing = (point: number, channel: string, purpose: string): StateRow | undefined =>
    standings.get(point)?.get(`${channel} ${purpose}`);
  return {
    drafts,
    standing,
    of: (point) => [...(standings.get(point)?.values() ?? [])],
    enter: (more) => more.forEach(enter),
    write(draft) {
      const id = uuidv7(now);
      drafts.push({ ...draft, id });
      const { point, channel, purpose, edge, account, proven } = draft;
      if (edge.outcome === 'applied') {
        const place = { contact_point: point.id, channel, purpose };
        const line = { id, ...edge, source: draft.source, account, proven };
        enter(nextState(standing(point.id, channel, purpose), place, line));
      }
      return id;
    },
  };
}

/** Everything on record about these points, any purpose. Read under their locks it is what decides. */
export const readStandings = (ctx: Ctx, points: readonly number[]): Promise<ReadStanding[]> =>
  ctx.db.rows(sql`
    select s.contact_point, s.channel, s.purpose, s.state, s.since, s.event, s.account, s.proven, s.latest, s.request, s.beneath, s.beneath_since,
           s.kind, s.source,
           v.evidence ->> 'session' as said_in, e.recorded_at
      from consent_state s
      left join consent_event e on e.id = s.event and s.state in ('withdrawn', 'suppressed')
      left join consent_evidence v on v.event = e.id
     where s.contact_point = any (${points}::bigint[])`);

/** The same of all points that these accounts have now. */
export const readStandingsOf = (ctx: Ctx, accounts: readonly number[]): Promise<ReadStanding[]> =>
  ctx.db.rows(sql`
    select s.contact_point, s.channel, s.purpose, s.state, s.since, s.event, s.account, s.proven, s.latest, s.request, s.beneath, s.beneath_since,
           s.kind, s.source,
           v.evidence ->> 'session' as said_in, e.recorded_at
      from account a
      join consent_state s on s.contact_point = any (array[a.email_point, a.phone_point])
      left join consent_event e on e.id = s.event and s.state in ('withdrawn', 'suppressed')
      left join consent_evidence v on v.event = e.id
     where a.id = any (${accounts}::bigint[])`);

/**
 * Writes a book's lines, their evidence, their place in the sealer's queue and the states they lead to, in one statement
 * of the caller's transaction. The points must be locked.
 */
export async function record(ctx: Ctx, book: Book): Promise<void> {
  const { drafts } = book;
  if (drafts.length === 0) return;
  const now = ctx.clock.now();
  const events: unknown[] = [];
  const evidence: unknown[] = [];
  const states = new Map<Key, StateRow>();
  for (const draft of drafts) {
    const { id, point, account, channel, purpose, edge, proven, source, actor, notice, idempotencyKey } = draft;
    const salt = chance();
    const known: Evidence = point.value === null ? draft.evidence : { ...draft.evidence, address: point.value };
    const line: Line = {
      id,
      address_kind: point.kind,
      address_hash: point.address_hash,
      contact_point: point.id,
      account,
      channel,
      purpose,
      kind: edge.kind,
      occurred_at: edge.occurredAt,
      recorded_at: now,
      source,
      actor,
      idempotency_key: idempotencyKey,
      commitment: commitment(salt, known),
      proven,
      outcome: edge.outcome,
      notice_sha256: notice?.sha256 ?? null,
    };
    events.push({ ...line, commitment: hex(line.commitment), hash: hex(lineHash(line)), notice: notice?.id ?? null });
    evidence.push({ event: id, salt: hex(salt), evidence: known });
    if (edge.outcome === 'applied') {
      const row = book.standing(point.id, channel, purpose)!;
      states.set(keyOf(point.id, channel, purpose), row);
    }
  }
  await ctx.db.run(sql`
    with written as (
      insert into consent_event select * from jsonb_populate_recordset(null::consent_event, ${JSON.stringify(events)}::jsonb)
    ), known as (
      insert into consent_evidence select * from jsonb_populate_recordset(null::consent_evidence, ${JSON.stringify(evidence)}::jsonb)
    ), queued as (
      insert into ledger_unsealed select unnest(${drafts.map(({ id }) => id)}::uuid[])
    )
    insert into consent_state as s
    select * from jsonb_populate_recordset(null::consent_state, ${JSON.stringify([...states.values()])}::jsonb)
    on conflict (contact_point, channel, purpose) do update
       set state = excluded.state, since = excluded.since, event = excluded.event, account = excluded.account,
           proven = excluded.proven, latest = excluded.latest, request = excluded.request, beneath = excluded.beneath,
           beneath_since = excluded.beneath_since, kind = excluded.kind, source = excluded.source`);
}
