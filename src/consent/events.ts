/** Reading the ledger: lines by account, address or channel, newest first. */
import { foldEmail } from '../accounts/accounts.ts';
import { addressHash } from '../accounts/contact-points.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';
import { text, textOrNull, time } from '../platform/schema.ts';

export interface EventView {
  id: string;
  kind: string;
  channel: string;
  /** The address, as long as it has not been erased. */
  recipient: string | null;
  purpose: string;
  source: string;
  actor: string;
  /** `applied`, or the rule that kept it from changing anything. */
  outcome: string;
  /** Number of the notice the person saw, as far as we know. */
  notice: number | null;
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

interface Row extends Omit<EventView, 'occurred_at' | 'recorded_at'> {
  occurred_at: Date;
  recorded_at: Date;
}
const view = (row: Row): EventView => ({
  ...row,
  occurred_at: row.occurred_at.toISOString(),
  recorded_at: row.recorded_at.toISOString(),
});

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
  const rows = await ctx.db.rows<Row>(sql`
    select e.id, e.kind, e.channel, p.value as recipient, e.purpose, e.source, e.actor, e.outcome, e.notice, e.account,
           e.occurred_at, e.recorded_at, v.evidence, l.position
      from consent_event e
      join contact_point p on p.id = e.contact_point
      left join consent_evidence v on v.event = e.id
      left join ledger_line l on l.event = e.id
     where (${account ?? null}::bigint is null or e.account = ${account ?? null})
       and (${address}::bytea is null or e.contact_point = (select id from contact_point where address_hash = ${address}))
       and (${channel ?? null}::text is null or e.channel = ${channel ?? null})
       and (${after ?? null}::uuid is null or e.id < ${after ?? null})
     order by e.id desc limit ${limit + 1}`);
  const items = rows.slice(0, limit).map(view);
  return { items, next: rows.length > limit ? items.at(-1)!.id : null };
}

/** One line. */
export async function readEvent(ctx: Ctx, id: string): Promise<EventView> {
  const row = await ctx.db.one<Row>(sql`
    select e.id, e.kind, e.channel, p.value as recipient, e.purpose, e.source, e.actor, e.outcome, e.notice, e.account,
           e.occurred_at, e.recorded_at, v.evidence, l.position
      from consent_event e
      join contact_point p on p.id = e.contact_point
      left join consent_evidence v on v.event = e.id
      left join ledger_line l on l.event = e.id
     where e.id = ${id}`);
  return view(row!);
}

/** A line as answers show it. */
export const eventFields = {
  id: text,
  kind: text,
  channel: text,
  recipient: textOrNull,
  purpose: text,
  source: text,
  actor: text,
  outcome: text,
  notice: { type: ['integer', 'null'] },
  account: { type: ['integer', 'null'] },
  occurred_at: time,
  recorded_at: time,
  evidence: { type: ['object', 'null'] },
  position: { type: ['integer', 'null'] },
};

export const eventExample = {
  id: '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a',
  kind: 'grant',
  channel: 'sms',
  recipient: '+905321234567',
  purpose: 'marketing',
  source: 'account',
  actor: 'account:1042',
  outcome: 'applied',
  notice: 3,
  account: 1042,
  occurred_at: '2026-11-21T08:00:00.000Z',
  recorded_at: '2026-11-21T08:00:00.000Z',
  evidence: { address: '+905321234567', ip: '203.0.113.7', user_agent: 'Mozilla/5.0', request: 'k2f9-3' },
  position: 17,
};
