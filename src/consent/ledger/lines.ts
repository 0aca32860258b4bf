/**
 * A line of the ledger by itself: its fields, its hash, its commitment to evidence that is kept apart, its id. Proof files
 * are checked with this and nothing else: no database.
 */
import { sha256 } from '../../platform/keys.ts';
import type { EventKind, Outcome } from '../rules.ts';

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
