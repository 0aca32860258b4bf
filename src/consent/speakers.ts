/** Whose word a statement is, and whether the shop can show that it was the person's. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Evidence } from '../platform/evidence.ts';
import type { NoticeRef } from './ledger/book.ts';
import type { Standing } from './rules.ts';
import { isFromAddress, isOwnAct, type Source } from './sources.ts';

/** What a statement tells of who makes it. */
export interface Told {
  /** Whose word it is; absent: of the account that holds the address, as far as it is theirs. */
  readonly account?: number | null;
  readonly source: Source;
  readonly evidence: Evidence;
  /** The text that was shown. */
  readonly notice?: NoticeRef;
}

/** What shows that a person acted themselves. */
const traces = ['ip', 'user_agent', 'session', 'message'] as const;

/**
 * A yes that the shop tells is the person's fresh word (rule 4) when it says which text they saw or where the paper lies,
 * or where they were when they acted themselves.
 */
export const isEvidenced = ({ evidence, notice, source }: Told): boolean =>
  notice !== undefined || Boolean(evidence['document']) || isTraced(source, evidence);

/** The person acted themselves, and it is known from where. */
export const isTraced = (source: Source, evidence: Evidence): boolean =>
  isOwnAct(source) && traces.some((name) => Boolean(evidence[name]));

/** An active account that holds a point. */
export interface Holder {
  readonly id: number;
  readonly proven: boolean;
}

/** Active accounts that hold each point, oldest first. */
export async function holdersOf(ctx: Ctx, points: readonly number[]): Promise<Map<number, Holder[]>> {
  const rows = await ctx.db.rows<{
    id: number;
    email_point: number;
    phone_point: number | null;
    email_proven: boolean;
    phone_proven: boolean;
  }>(sql`
    select id, email_point, phone_point, email_verified_at is not null as email_proven,
           phone_verified_at is not null as phone_proven
      from account
     where is_active and (email_point = any (${points}::bigint[]) or phone_point = any (${points}::bigint[])) order by id`);
  const holders = new Map<number, Holder[]>();
  for (const { id, email_point, phone_point, email_proven, phone_proven } of rows) {
    for (const [point, proven] of [
      [email_point, email_proven],
      [phone_point, phone_proven],
    ] as const) {
      if (point !== null) holders.set(point, [...(holders.get(point) ?? []), { id, proven }]);
    }
  }
  return holders;
}

/**
 * Whose word a statement is. What is told of an address is its holder's if they have proven it; of one that is only
 * typed, the holder's as far as they had spoken for it before, and not where the address itself has spoken.
 */
export function accountOf(
  { account, source }: Told,
  standing: Standing | undefined,
  holding: readonly Holder[],
): number | null {
  if (account !== undefined) return account;
  const proven = holding.find((holder) => holder.proven);
  if (proven !== undefined) return proven.id;
  const before = standing?.account ?? null;
  return !isFromAddress(source) && holding.some(({ id }) => id === before) ? before : null;
}
