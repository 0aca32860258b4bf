/**
 * A line of the ledger by itself: its fields, its hash, its commitment to evidence that is kept apart, its id. Proof files
 * are checked with this and nothing else: no database.
 */
import { randomBytes } from 'node:crypto';
import { sha256 } from '../../platform/keys.ts';
import type { EventKind, Outcome } from '../rules.ts';

/** How we know: who asked from where, about which address. Personal, therefore kept apart from the line. */
export interface Evidence {
  /** The address itself: with the line's commitment a proof shows offline whom it is about. */
  readonly address?: string;
  readonly ip?: string;
  readonly user_agent?: string;
  readonly request?: string;
  readonly session?: string;
  readonly [other: string]: unknown;
}

/** The fields a line's hash covers. */
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
  /** Null in lines from before it was recorded: their hash covers neither this nor the two below. */
  readonly proven: boolean | null;
  readonly outcome: Outcome;
  /** SHA-256 of the notice's text, hex. */
  readonly notice_sha256: string | null;
}

/** SHA-256 of a line: of the JSON array of its fields, times in ISO 8601 UTC, bytes in hex. */
export function lineHash(line: Line): Buffer {
  const fields: unknown[] = [
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
  ];
  return sha256(
    JSON.stringify(
      line.proven === null
        ? ['assent line 1', ...fields]
        : ['assent line 2', ...fields, line.proven, line.outcome, line.notice_sha256],
    ),
  );
}

/** JSON with its keys sorted at every level: one text for one value, also after a trip through jsonb. */
export function canonical(value: unknown): string {
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

const POOL = 4096;
let pool = Buffer.alloc(0);
let taken = 0;

/** Sixteen bytes of chance, out of a pool: asking the generator for each cost as much as the hash of a line. */
export function chance(): Buffer {
  if (taken === pool.length) {
    pool = randomBytes(POOL);
    taken = 0;
  }
  taken += 16;
  return pool.subarray(taken - 16, taken);
}

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
  const bytes = chance();
  bytes.writeUIntBE(lastTime, 0, 6);
  bytes.writeUInt16BE(0x7000 | sequence, 6);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
