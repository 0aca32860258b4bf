/**
 * The consent ledger: append-only lines, each with the hash of its content and a salted commitment to its evidence, so
 * that the evidence can be erased and the line still proven.
 */
import { randomBytes } from 'node:crypto';
import type { ContactPoint } from '../accounts/contact-points.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { sha256 } from '../platform/keys.ts';
import type { Edge, EventKind } from './rules.ts';

/** How we know: who asked from where. Personal, therefore kept apart from the line. */
export interface Evidence {
  readonly ip?: string;
  readonly user_agent?: string;
  readonly request?: string;
  readonly session?: string;
  readonly [other: string]: unknown;
}

/** Where a statement came in. */
export type Source = 'checkout' | 'registration' | 'account' | 'import' | 'demo';

/** An event about to be written. */
export interface Draft {
  readonly point: ContactPoint;
  readonly account: number | null;
  readonly channel: string;
  readonly purpose: string;
  readonly edge: Edge;
  /** The account had proven the address when it said so. */
  readonly proven?: boolean;
  readonly source: Source;
  /** Who acted: `account:7`, `operator:1`, `system`. */
  readonly actor: string;
  readonly evidence: Evidence;
}

/** The fields a line's hash covers, in this order. */
export interface Line {
  readonly id: string;
  readonly address_kind: string;
  /** Keyed hash of the address in hex: the line is about this address, whatever its row says later. */
  readonly address_hash: string | null;
  readonly contact_point: number;
  readonly account: number | null;
  readonly channel: string;
  readonly purpose: string;
  readonly kind: EventKind;
  readonly occurred_at: Date;
  readonly recorded_at: Date;
  readonly source: string;
  readonly actor: string;
  readonly idempotency_key: string | null;
  readonly commitment: Buffer;
}

/** SHA-256 of a line: of the JSON array of its fields, times in ISO 8601 UTC, bytes in hex. */
export function lineHash(line: Line): Buffer {
  return sha256(
    JSON.stringify([
      'assent line 1',
      line.id,
      line.address_kind,
      line.address_hash,
      line.contact_point,
      line.account,
      line.channel,
      line.purpose,
      line.kind,
      line.occurred_at.toISOString(),
      line.recorded_at.toISOString(),
      line.source,
      line.actor,
      line.idempotency_key,
      line.commitment.toString('hex'),
    ]),
  );
}

/** JSON with its keys sorted at every level: one text for one value, also after a trip through jsonb. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** What a line says of its evidence without revealing it. */
export const commitment = (salt: Buffer, evidence: Evidence): Buffer => sha256(salt, canonical(evidence));

let lastTime = 0;
let sequence = 0;

/** A UUID version 7 (RFC 9562, method 1): milliseconds, then a counter that rises within one, then chance. */
export function uuidv7(now: Date): string {
  const time = Math.max(now.getTime(), lastTime);
  sequence = time === lastTime ? sequence + 1 : 0;
  // 4096 in one millisecond: borrow from the next.
  if (sequence > 0xfff) {
    lastTime = time + 1;
    sequence = 0;
  } else {
    lastTime = time;
  }
  const bytes = randomBytes(16);
  bytes.writeUIntBE(lastTime, 0, 6);
  bytes.writeUInt16BE(0x7000 | sequence, 6);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

const hex = (bytes: Buffer): string => `\\x${bytes.toString('hex')}`;

/**
 * Writes events, their evidence, their place in the sealer's queue and the state they lead to, in one statement of the
 * caller's transaction. The points must be locked.
 * @returns the ids, in order
 */
export async function record(ctx: Ctx, drafts: readonly Draft[]): Promise<string[]> {
  if (drafts.length === 0) return [];
  const now = ctx.clock.now();
  const events: unknown[] = [];
  const evidence: unknown[] = [];
  const states = new Map<string, unknown>();
  const ids = drafts.map(
    ({ point, account, channel, purpose, edge, proven = false, source, actor, evidence: known }) => {
      const salt = randomBytes(16);
      const line: Line = {
        id: uuidv7(now),
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
        idempotency_key: null,
        commitment: commitment(salt, known),
      };
      events.push({ ...line, commitment: hex(line.commitment), hash: hex(lineHash(line)) });
      evidence.push({ event: line.id, salt: hex(salt), evidence: known });
      // The last one of a point and channel decides; earlier ones of the same call are history.
      states.set(`${point.id} ${channel} ${purpose}`, {
        contact_point: point.id,
        channel,
        purpose,
        state: edge.state,
        since: edge.occurredAt,
        event: line.id,
        account,
        proven,
      });
      return line.id;
    },
  );
  await ctx.db.run(sql`
    with written as (
      insert into consent_event select * from jsonb_populate_recordset(null::consent_event, ${JSON.stringify(events)}::jsonb)
    ), known as (
      insert into consent_evidence select * from jsonb_populate_recordset(null::consent_evidence, ${JSON.stringify(evidence)}::jsonb)
    ), queued as (
      insert into ledger_unsealed select unnest(${ids}::uuid[])
    )
    insert into consent_state as s
    select * from jsonb_populate_recordset(null::consent_state, ${JSON.stringify([...states.values()])}::jsonb)
    on conflict (contact_point, channel, purpose) do update
       set state = excluded.state, since = excluded.since, event = excluded.event,
           account = excluded.account, proven = excluded.proven`);
  return ids;
}
