/** What a message says, read from the database when it goes out: an address that was erased meanwhile is not in it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { POINT_CHANGED, stateAfter } from './types.ts';

/** A message about to be sent, with where to. */
export interface Outgoing {
  readonly number: number;
  readonly id: string;
  readonly endpoint: number;
  readonly url: string;
  /** The body, as Standard Webhooks lays it out: `type`, `timestamp`, `data`. */
  readonly body: string;
}

interface Row extends Omit<Outgoing, 'body'> {
  type: string;
  created_at: Date;
  event: string | null;
  kind: string;
  channel: string;
  purpose: string;
  recipient: string | null;
  account: number | null;
  source: string;
  occurred_at: Date;
  recorded_at: Date;
  state: string | null;
  change: { account: number; kind: string; change: string; at: string };
  address: string | null;
  previous: string | null;
}

function compose(row: Row): object {
  if (row.event !== null) {
    return {
      type: row.type,
      timestamp: row.recorded_at.toISOString(),
      data: {
        id: row.event,
        kind: row.kind,
        channel: row.channel,
        purpose: row.purpose,
        recipient: row.recipient,
        account: row.account,
        source: row.source,
        occurred_at: row.occurred_at.toISOString(),
        recorded_at: row.recorded_at.toISOString(),
        state: row.state ?? stateAfter(row.kind),
      },
    };
  }
  if (row.type === POINT_CHANGED) {
    const { account, kind, change, at } = row.change;
    return {
      type: row.type,
      timestamp: at,
      data: { account, kind, change, address: row.address, previous: row.previous },
    };
  }
  return { type: row.type, timestamp: row.created_at.toISOString(), data: { endpoint: row.endpoint } };
}

/** The message as it goes out now; undefined when it is not to be sent: paused, delivered, given up, gone. */
export async function outgoing(ctx: Ctx, number: number): Promise<Outgoing | undefined> {
  const row = await ctx.db.one<Row>(sql`
    select m.number, m.id, m.endpoint, w.url, m.type, m.created_at, m.event, m.change,
           e.kind, e.channel, e.purpose, p.value as recipient, e.account, e.source, e.occurred_at, e.recorded_at,
           -- Only of the line that decided it, or asked: later ones are messages of their own.
           case when e.id in (s.event, s.request) then s.state end as state,
           n.value as address, b.value as previous
      from webhook_message m
      join webhook_endpoint w on w.id = m.endpoint
      left join consent_event e on e.id = m.event
      left join contact_point p on p.id = e.contact_point
      left join consent_state s on s.contact_point = e.contact_point and s.channel = e.channel and s.purpose = e.purpose
      left join contact_point n on n.id = (m.change ->> 'contact_point')::bigint
      left join contact_point b on b.id = (m.change ->> 'previous')::bigint
     where m.number = ${number} and m.status = 'waiting' and w.paused_at is null`);
  if (row === undefined) return undefined;
  const { id, endpoint, url } = row;
  return { number, id, endpoint, url, body: JSON.stringify(compose(row)) };
}
