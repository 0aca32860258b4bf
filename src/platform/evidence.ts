/** What a request itself tells of who speaks, kept apart from the line of a ledger that rests on it. */
import type { Incoming } from './http.ts';
import { sha256 } from './keys.ts';

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

/** The evidence of a request. @param more what the caller knows beside it */
export function evidenceOf(incoming: Incoming, more: Evidence = {}): Evidence {
  const agent = incoming.headers['user-agent'];
  return {
    ip: incoming.ip,
    ...(agent === undefined ? {} : { user_agent: agent.slice(0, 500) }),
    request: incoming.id,
    ...more,
  };
}
