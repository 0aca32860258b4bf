/** What a request itself tells of who speaks: kept with each line of the ledger, apart from it. */
import type { Incoming } from '../platform/http.ts';
import type { Evidence } from './ledger/lines.ts';

/** @param more what the caller knows beside it */
export function evidenceOf(incoming: Incoming, more: Evidence = {}): Evidence {
  const agent = incoming.headers['user-agent'];
  return {
    ip: incoming.ip,
    ...(agent === undefined ? {} : { user_agent: agent.slice(0, 500) }),
    request: incoming.id,
    ...more,
  };
}
