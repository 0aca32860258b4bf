/** How loyalty is doing, for the command, /metrics and the doctor. Numbers and reasons, nothing about a person. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Gauge } from '../platform/metrics.ts';
import { type Gap, gapOf } from './gaps.ts';
import { configured } from './members.ts';

export interface LoyaltyStatus {
  /** Name of the connector; `none` when nobody is told. */
  readonly connector: string;
  /** Changes that were noticed and not taken up yet. */
  readonly noticed: number;
  /** Accounts that are to be delivered. */
  readonly waiting: number;
  readonly parked: number;
  /** Why most of the parked ones are. */
  readonly parked_reason: string | null;
  /** Age of the oldest change that waits, in seconds; null: none does. */
  readonly oldest_seconds: number | null;
  /** Erased accounts that a former provider may still know. */
  readonly by_hand: number;
  /** Changes in between may be missing at the provider, until a sweep; null: none are. */
  readonly not_followed: { readonly from: string; readonly to: string } | null;
  readonly breaker: {
    /** `half_open`: it was open, and nothing is due with which to ask; the next delivery asks. */
    readonly state: 'closed' | 'open' | 'half_open';
    /** Its state is `open`. */
    readonly open: boolean;
    readonly failures: number;
    readonly since: string | null;
    readonly until: string | null;
    readonly reason: string | null;
  };
  /** Attempts of all time, by what came of them. */
  readonly attempts: Readonly<Record<string, number>>;
}

interface Row {
  readonly noticed: number;
  readonly waiting: number;
  readonly parked: number;
  readonly parked_reason: string | null;
  readonly oldest: Date | null;
  readonly by_hand: number;
  readonly due: boolean;
  readonly failures: number | null;
  readonly opened_at: Date | null;
  readonly open_until: Date | null;
  readonly reason: string | null;
  readonly attempts: Record<string, number> | null;
}

/** Nobody can ask whether it is back until something is to be delivered: that is no fault to be mended. */
function breakerState({ opened_at, open_until, due }: Row, now: Date): LoyaltyStatus['breaker']['state'] {
  if (opened_at === null) return 'closed';
  return due || (open_until !== null && open_until > now) ? 'open' : 'half_open';
}

const inWords = (gap: Gap | undefined): LoyaltyStatus['not_followed'] =>
  gap === undefined ? null : { from: gap.from.toISOString(), to: gap.to.toISOString() };

/** How it stands at this moment. */
export async function loyaltyStatus(ctx: Ctx): Promise<LoyaltyStatus> {
  const provider = configured(ctx);
  const connector = provider?.name ?? 'none';
  const now = ctx.clock.now();
  const row = await ctx.db.one<Row>(sql`
    select (select count(*) from loyalty_mark) as noticed, w.waiting, w.oldest,
           (select count(*) from loyalty_member where status = 'parked') as parked,
           (select mode() within group (order by reason) from loyalty_member where status = 'parked') as parked_reason,
           (select count(distinct account) from loyalty_left l
             where not exists (select from account a where a.id = l.account)) as by_hand,
           exists (select from loyalty_mark)
             or exists (select from loyalty_member where status = 'waiting' and next_at <= ${now})
             or exists (select from loyalty_member where status = 'settled' and check_at <= ${now}) as due,
           b.failures, b.opened_at, b.open_until, b.reason,
           (select jsonb_object_agg(outcome, count order by outcome) from loyalty_attempt where connector = ${connector})
             as attempts
      from (select count(*) as waiting, min(waiting_since) as oldest from loyalty_member where status = 'waiting') w
      left join loyalty_breaker b on b.connector = ${connector}`);
  const { noticed, waiting, parked, parked_reason, oldest, failures, opened_at, open_until, reason, attempts } = row!;
  const age = oldest === null ? null : Math.max(0, Math.round((now.getTime() - oldest.getTime()) / 1000));
  const state = breakerState(row!, now);
  return {
    connector,
    noticed,
    waiting,
    parked,
    parked_reason,
    oldest_seconds: age,
    by_hand: row!.by_hand,
    not_followed: provider === undefined ? null : inWords(await gapOf(ctx, provider)),
    breaker: {
      state,
      open: state === 'open',
      failures: failures ?? 0,
      since: opened_at?.toISOString() ?? null,
      until: open_until?.toISOString() ?? null,
      reason,
    },
    attempts: attempts ?? {},
  };
}

/** What /metrics says of it. */
export async function loyaltyGauges(ctx: Ctx): Promise<Gauge[]> {
  const { connector, waiting, parked, oldest_seconds, breaker, attempts } = await loyaltyStatus(ctx);
  const one = (name: string, help: string, value: number, labels = {}): Gauge => ({
    name,
    help,
    values: [{ labels, value }],
  });
  return [
    one('assent_loyalty_waiting', 'Accounts the loyalty provider is still to be told of.', waiting),
    one('assent_loyalty_parked', 'Accounts that could not be delivered.', parked),
    one('assent_loyalty_oldest_seconds', 'Age of the oldest change that waits.', oldest_seconds ?? 0),
    one('assent_loyalty_breaker_open', 'The provider is left alone because it fails.', Number(breaker.open), {
      connector,
    }),
    {
      name: 'assent_loyalty_attempts_total',
      help: 'Deliveries and looks by what came of them.',
      type: 'counter',
      values: Object.entries(attempts).map(([outcome, value]) => ({ labels: { connector, outcome }, value })),
    },
  ];
}

/** A queue older than this is a finding, in seconds. */
const OLD = 600;
const accounts = (count: number): string => (count === 1 ? '1 account' : `${count} accounts`);

/** Accounts that this provider, at this connection, was never told of. */
async function neverDelivered(ctx: Ctx, id: string): Promise<number> {
  const row = await ctx.db.one<{ count: number }>(sql`
    select count(*) as count from account a
     where not exists (select from loyalty_member m where m.account = a.id and (m.connector = ${id} or m.status <> 'settled'))`);
  return row!.count;
}

export interface LoyaltyFinding {
  readonly ok: boolean;
  readonly detail: string;
  readonly remedy?: string;
}

/** What the doctor has to say; the first is how it is as a whole. */
export async function loyaltyFindings(ctx: Ctx): Promise<LoyaltyFinding[]> {
  const provider = configured(ctx);
  const { waiting, parked, parked_reason, oldest_seconds, by_hand, not_followed, breaker } = await loyaltyStatus(ctx);
  const wrong: LoyaltyFinding[] = [];
  const bad = (detail: string, remedy: string): void => void wrong.push({ ok: false, detail, remedy });
  if (by_hand > 0)
    bad(
      `${accounts(by_hand)} erased here may still be known to a former provider`,
      'Erase what this names there by hand: npm run assent -- loyalty parked; then: npm run assent -- loyalty drop',
    );
  if (provider === undefined) return wrong.length > 0 ? wrong : [{ ok: true, detail: 'no connector: nobody is told' }];
  if (breaker.open)
    bad(
      `the provider is left alone since ${breaker.since}: ${breaker.reason}`,
      'See that it runs and that its address and secrets are right: npm run assent -- loyalty test. Deliveries go on by themselves.',
    );
  else if (oldest_seconds !== null && oldest_seconds > OLD)
    bad(
      `${accounts(waiting)} waiting, the oldest for ${Math.round(oldest_seconds / 60)} minutes`,
      'See that a server or worker runs, and why deliveries fail: npm run assent -- loyalty status',
    );
  if (parked > 0)
    bad(
      `${accounts(parked)} could not be delivered, most often: ${parked_reason}`,
      'Put right what is named, then: npm run assent -- loyalty retry --all (or give a change up with loyalty drop)',
    );
  if (not_followed !== null)
    bad(
      `changes between ${not_followed.from} and ${not_followed.to} were not followed`,
      'Nobody noticed them while no connector was set: npm run assent -- loyalty reconcile',
    );
  const never = await neverDelivered(ctx, provider.id);
  if (never > 0)
    bad(
      `${provider.name} was never told of ${accounts(never)}`,
      'Accounts from before the connector was set: npm run assent -- loyalty reconcile',
    );
  const half = breaker.state === 'half_open' ? '; its last answers were failures, the next change is tried' : '';
  return wrong.length > 0 ? wrong : [{ ok: true, detail: `connector ${provider.name}, ${waiting} waiting${half}` }];
}
