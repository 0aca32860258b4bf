/** One step of a sweep: what the provider shows beside what it should, and what is to be done about each account. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Answers } from './asking.ts';
import type { Member, Shown } from './connectors/connector.ts';
import { type Provider, readMembers, sumOf } from './members.ts';

/** What the provider can be right about. Addresses and consents are ours alone. */
const personal = ['first_name', 'last_name', 'gender', 'date_of_birth'];

/**
 * Takes values of the provider over into the profile of an account, by the rules for what customers say.
 * @param truth the account as it was compared
 * @param theirs values by field, as the provider shows them
 * @param write false: only tells what would come of it
 * @returns fields that were taken, and those that no profile may have; undefined when the account changed meanwhile
 */
export type TakeOver = (
  ctx: Ctx,
  truth: Member,
  theirs: Shown,
  write: boolean,
) => Promise<{ readonly taken: readonly string[]; readonly refused: readonly string[] } | undefined>;

/** An account with which something is not as it should be. Names of fields, no values. */
export interface Finding {
  readonly account: number;
  /**
   * `differs`; the provider does not know it: `unknown`; it was erased here and not there: `erased`; its last change could
   * not be delivered: `parked`; it could not be compared: `failed`.
   */
  readonly kind: 'differs' | 'unknown' | 'erased' | 'parked' | 'failed';
  readonly fields: readonly string[];
  /** Fields taken over into the profile. */
  readonly taken: readonly string[];
  /** Fields whose value at the provider no profile may have. */
  readonly left: readonly string[];
  readonly reason: string | null;
}

/** What a sweep did, in accounts. */
export interface Sweep {
  readonly connector: string;
  readonly truth: 'assent' | 'provider';
  readonly dry_run: boolean;
  /** The last account of an earlier sweep that this one went on from. */
  readonly resumed_after: number | null;
  /** The last account this one came to. */
  after: number;
  finished: boolean;
  /** Why it did not come to the end. */
  stopped: string | null;
  compared: number;
  equal: number;
  differing: number;
  /** Made waiting, or taken over. */
  repaired: number;
  /** Of which something was taken over into the profile. */
  taken_over: number;
  /** Of which something was not, as no profile may have it. */
  left: number;
  /** Not compared: their newest change is on its way. */
  waiting: number;
  /** Not compared: their newest change could not be delivered. */
  parked: number;
  /** The provider gave no answer about them. */
  failed: number;
}

/** How an account stands with the provider, as far as we know. */
export interface Standing {
  readonly account: number;
  /** False: it was erased. */
  readonly here: boolean;
  readonly status: 'waiting' | 'parked' | 'settled' | null;
  readonly marks: number;
  /** A change that is noticed and not taken up, or a request that may still arrive. */
  readonly moving: boolean;
  readonly connector: string | null;
  readonly delivered_sum: Buffer | null;
}

/** In the order of their ids. */
export const standingsOf = (ctx: Ctx, accounts: readonly number[]): Promise<Standing[]> =>
  ctx.db.rows<Standing>(sql`
    select i.id as account, a.id is not null as here, m.status, coalesce(m.marks, 0) as marks, m.connector, m.delivered_sum,
           coalesce(m.status = 'settled' and m.check_at is not null, false)
             or exists (select from loyalty_mark k where k.account = i.id) as moving
      from unnest(${accounts}::bigint[]) as i (id)
      left join account a on a.id = i.id
      left join loyalty_member m on m.account = i.id
     order by i.id`);

type Drift = Pick<Finding, 'kind' | 'fields'>;

/** Undefined for a member that a connector cannot put into words. */
function worded<T>(words: () => T): T | undefined {
  try {
    return words();
  } catch {
    return undefined;
  }
}

/** How what the provider shows differs from what it should; undefined: it does not. */
function driftOf({ connector, setting }: Provider, member: Member | undefined, shown: Shown | null): Drift | undefined {
  if (member === undefined) return shown === null ? undefined : { kind: 'erased', fields: [] };
  if (shown === null) return { kind: 'unknown', fields: [] };
  const ours = worded(() => connector.shows(setting as never, member));
  // Its delivery will say so, and park it.
  if (ours === undefined) return { kind: 'differs', fields: [] };
  if (sumOf(ours).equals(sumOf(shown))) return undefined;
  const names = [...new Set([...Object.keys(ours), ...Object.keys(shown)])].sort();
  return { kind: 'differs', fields: names.filter((name) => ours[name] !== shown[name]) };
}

/** Nothing happened to it since it was looked at, and nothing is on its way. */
const isStill = (before: Standing, now: Standing): boolean =>
  now.status === before.status && now.marks === before.marks && !now.moving && now.status !== 'waiting';

export interface Step {
  readonly provider: Provider;
  /** As they were before the provider was asked; only as far as it was asked. */
  readonly before: readonly Standing[];
  readonly shown: Answers['shown'];
  readonly failed: Answers['failed'];
  /** By account what was taken over, and how it differed before. */
  readonly taken: ReadonlyMap<number, Drift & Pick<Finding, 'taken' | 'left'>>;
}

/** Takes over what the provider is right about, in accounts of which no change is on its way. */
export async function takeAll(
  ctx: Ctx,
  { provider, before, shown }: Omit<Step, 'taken'>,
  takeOver: TakeOver,
  write: boolean,
): Promise<Step['taken']> {
  const taken: Map<number, Drift & Pick<Finding, 'taken' | 'left'>> = new Map();
  const settled = before.filter(({ account, here, status }) => here && status !== 'parked' && shown.get(account));
  const ids = settled.map(({ account }) => account);
  if (ids.length === 0) return taken;
  const members = await readMembers(ctx, ids);
  // After the members: a change that these have would be seen here.
  const now = new Map((await standingsOf(ctx, ids)).map((standing) => [standing.account, standing]));
  for (const standing of settled) {
    const { account } = standing;
    const [member, theirs] = [members.get(account), shown.get(account)!];
    if (member === undefined || !member.active || !isStill(standing, now.get(account)!)) continue;
    const drift = driftOf(provider, member, theirs);
    const names = personal.filter((name) => drift?.fields.includes(name) && theirs[name] !== undefined);
    if (drift === undefined || names.length === 0) continue;
    const values = Object.fromEntries(names.map((name) => [name, theirs[name]!]));
    const result = await takeOver(ctx, member, values, write);
    if (result !== undefined) taken.set(account, { ...drift, taken: result.taken, left: result.refused });
  }
  return taken;
}

export interface Judged {
  /** Accounts that are to be delivered again. */
  readonly again: number[];
  /** What the provider has, where we did not know. */
  readonly seen: { account: number; sum: Buffer }[];
  readonly findings: Finding[];
}

/**
 * What is to be done about each account, counted into `sweep`. Holds their rows, where something is written afterwards.
 * @param parked whether parked ones are delivered again
 */
export async function judge(
  ctx: Ctx,
  { provider, before, shown, failed, taken }: Step,
  { parked = false, write }: { readonly parked?: boolean | undefined; readonly write: boolean },
  sweep: Sweep,
): Promise<Judged> {
  const ids = before.map(({ account }) => account);
  if (write)
    await ctx.db.rows(
      sql`select from loyalty_member where account = any (${ids}::bigint[]) order by account for update`,
    );
  const members = await readMembers(ctx, ids);
  const now = new Map((await standingsOf(ctx, ids)).map((standing) => [standing.account, standing]));
  const judged: Judged = { again: [], seen: [], findings: [] };
  const find = (account: number, what: Partial<Finding> & Pick<Finding, 'kind'>): void =>
    void judged.findings.push({ account, fields: [], taken: [], left: [], reason: null, ...what });
  for (const standing of before) {
    const { account, status } = standing;
    const [theirs, changed] = [shown.get(account), taken.get(account)];
    if (status === 'parked' && !parked) {
      sweep.parked += 1;
      find(account, { kind: 'parked' });
    } else if (failed.has(account)) {
      sweep.failed += 1;
      find(account, { kind: 'failed', reason: failed.get(account)! });
    } else if (theirs === undefined || (changed === undefined && !isStill(standing, now.get(account)!))) {
      sweep.waiting += 1;
    } else {
      const rest = driftOf(provider, members.get(account), theirs);
      const drift = changed ?? rest;
      sweep.compared += 1;
      sweep[drift === undefined ? 'equal' : 'differing'] += 1;
      if (changed !== undefined && changed.taken.length > 0) sweep.taken_over += 1;
      if (changed !== undefined && changed.left.length > 0) sweep.left += 1;
      if (drift !== undefined) find(account, changed ?? drift);
      const known = standing.connector === provider.id && theirs && standing.delivered_sum?.equals(sumOf(theirs));
      // Also what is to be forgotten: nobody is told to forget what no provider was told of.
      if (theirs && !known && (rest === undefined || rest.kind === 'erased'))
        judged.seen.push({ account, sum: sumOf(theirs) });
      if (rest !== undefined || status === 'parked') judged.again.push(account);
      if (write && (drift !== undefined || status === 'parked')) sweep.repaired += 1;
    }
  }
  return judged;
}
