/** Reading the ledger: lines by account, address or channel, newest first. */
import { foldEmail } from '../accounts/accounts.ts';
import { addressHash } from '../accounts/contact-points.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';

export interface EventView {
  id: string;
  kind: string;
  channel: string;
  /** The address, as long as it has not been erased. */
  recipient: string | null;
  purpose: string;
  source: string;
  actor: string;
  account: number | null;
  occurred_at: string;
  recorded_at: string;
  evidence: unknown;
  /** Place in the sealed ledger; null for the second until it is sealed. */
  position: number | null;
}

export interface EventFilter {
  readonly account?: number | undefined;
  /** Phone number in E.164, or e-mail address. */
  readonly recipient?: string | undefined;
  readonly channel?: string | undefined;
  /** `next` of the page before. */
  readonly after?: string | undefined;
  readonly limit: number;
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A page of lines, newest first. @throws invalid for a cursor that none of ours is */
export async function listEvents(
  ctx: Ctx,
  { account, recipient, channel, after, limit }: EventFilter,
): Promise<{ items: EventView[]; next: string | null }> {
  if (after !== undefined && !uuid.test(after)) refuse({ path: ['after'], key: 'invalid.cursor' });
  const address =
    recipient === undefined
      ? null
      : recipient.includes('@')
        ? addressHash(ctx, 'email', foldEmail(recipient))
        : addressHash(ctx, 'phone', recipient);
  const rows = await ctx.db.rows<EventView & { occurred_at: Date; recorded_at: Date }>(sql`
    select e.id, e.kind, e.channel, p.value as recipient, e.purpose, e.source, e.actor, e.account, e.occurred_at, e.recorded_at,
           v.evidence, l.position
      from consent_event e
      join contact_point p on p.id = e.contact_point
      left join consent_evidence v on v.event = e.id
      left join ledger_line l on l.event = e.id
     where (${account ?? null}::bigint is null or e.account = ${account ?? null})
       and (${address}::bytea is null or e.contact_point = (select id from contact_point where address_hash = ${address}))
       and (${channel ?? null}::text is null or e.channel = ${channel ?? null})
       and (${after ?? null}::uuid is null or e.id < ${after ?? null})
     order by e.id desc limit ${limit + 1}`);
  const items = rows
    .slice(0, limit)
    .map((row) => ({ ...row, occurred_at: row.occurred_at.toISOString(), recorded_at: row.recorded_at.toISOString() }));
  return { items, next: rows.length > limit ? items.at(-1)!.id : null };
}
