/**
 * The sweep: asks the provider for every member, compares the sum of what it shows with the sum of our truth, and repairs
 * drift. What it repairs goes out by the normal way, with its rules; what is on its way already is no drift. It keeps its
 * place, so that one that was stopped goes on.
 */
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { type Answers, asker, type Wait, waitReally } from './asking.ts';
import {
  type Finding,
  type Judged,
  judge,
  type Standing,
  type Step,
  type Sweep,
  standingsOf,
  type TakeOver,
  takeAll,
} from './comparing.ts';
import { gapOf } from './gaps.ts';
import { configured, noteSeen, type Provider, redeliver } from './members.ts';

/** Accounts of one step: its repairs and the place are one transaction. */
const STEP = 40;
/** How often the connection that holds the lock says something, in milliseconds: PostgreSQL ends idle ones after 30 s. */
const PULSE = 10_000;

export interface SweepOptions {
  readonly takeOver: TakeOver;
  /** Compares and writes nothing. */
  readonly dryRun?: boolean | undefined;
  /** From the first account, also when the last sweep did not finish. */
  readonly restart?: boolean | undefined;
  /** Also those that are parked: they are delivered once more. */
  readonly parked?: boolean | undefined;
  /** Only this one; no place is kept. */
  readonly account?: number | undefined;
  /** Questions a second: 20. */
  readonly rate?: number | undefined;
  /** Ends it after the questions that are under way. */
  readonly signal?: AbortSignal | undefined;
  readonly found?: ((finding: Finding) => void) | undefined;
  /** @param total accounts there were when it began */
  readonly progress?: ((sweep: Readonly<Sweep>, total: number) => void) | undefined;
  /** Told what whoever waits should know, in sentences. */
  readonly note?: ((sentence: string) => void) | undefined;
  readonly wait?: Wait | undefined;
}

/** The next accounts in order, erased ones too. */
async function accountsAfter(ctx: Ctx, after: number, last: number): Promise<number[]> {
  const rows = await ctx.db.rows<{ id: number }>(sql`
    (select id from account where id > ${after} and id <= ${last} order by id limit ${STEP})
    union
    (select account from loyalty_member where account > ${after} and account <= ${last} order by account limit ${STEP})
    order by 1 limit ${STEP}`);
  return rows.map(({ id }) => id);
}

async function countAfter(ctx: Ctx, after: number, last: number): Promise<number> {
  const row = await ctx.db.one<{ total: number }>(sql`
    select (select count(*) from account where id > ${after} and id <= ${last})
         + (select count(*) from loyalty_member m where account > ${after} and account <= ${last}
               and not exists (select from account a where a.id = m.account)) as total`);
  return row!.total;
}

type Ask = ReturnType<typeof asker>;
/** Null: it has not. */
type Ended = 'finished' | string | null;

/** A change is on its way, or may be. */
const moves = (status: Standing['status'], moving: boolean): boolean => status === 'waiting' || moving;

/** Those at the beginning that were asked about, or need not be: the place must not pass anybody who was not. */
function done(before: readonly Standing[], due: ReadonlySet<number>, { shown, failed }: Answers): readonly Standing[] {
  const open = before.findIndex(({ account }) => due.has(account) && !shown.has(account) && !failed.has(account));
  return open < 0 ? before : before.slice(0, open);
}

/** The next accounts; what is to be done about them and the place are one transaction. @returns why there are no more */
async function step(ctx: Ctx, provider: Provider, ask: Ask, sweep: Sweep, options: SweepOptions): Promise<Ended> {
  const { dryRun, parked, found, account, takeOver } = options;
  const write = dryRun !== true;
  const before = await standingsOf(ctx, await accountsAfter(ctx, sweep.after, account ?? Number.MAX_SAFE_INTEGER));
  if (before.length === 0) return 'finished';
  const isDue = ({ status, moving }: Standing): boolean =>
    status === 'parked' ? parked === true : !moves(status, moving);
  const due = before.filter(isDue).map((one) => one.account);
  const answers = await ask(due);
  const asked = { ...answers, provider, before: done(before, new Set(due), answers) };
  const theirs = ctx.settings.get('LOYALTY_TRUTH') === 'provider';
  const taken: Step['taken'] = theirs ? await takeAll(ctx, asked, takeOver, write) : new Map();
  const finish = async (tx: Ctx): Promise<[Sweep, Judged]> => {
    const now = { ...sweep, after: asked.before.at(-1)?.account ?? sweep.after };
    const judged = await judge(tx, { ...asked, taken }, { parked, write }, now);
    if (!write) return [now, judged];
    await noteSeen(tx, provider, judged.seen);
    await redeliver(tx, judged.again);
    if (account === undefined) await keepPlace(tx, provider, now, sweep);
    return [now, judged];
  };
  const [now, { findings }] = write ? await transaction(ctx, finish) : await finish(ctx);
  Object.assign(sweep, now);
  for (const finding of findings) found?.(finding);
  return answers.gaveUp === undefined ? null : `the provider gives no answer (${answers.gaveUp})`;
}

/** Goes on until nobody is left, or something stops it. */
async function walk(ctx: Ctx, provider: Provider, sweep: Sweep, options: SweepOptions): Promise<void> {
  const { progress, note = () => {}, wait = waitReally, rate = 20, account } = options;
  const signal = options.signal ?? new AbortController().signal;
  const ask = asker(ctx, provider, { rate, signal, wait, note });
  const total = await countAfter(ctx, sweep.after, account ?? Number.MAX_SAFE_INTEGER);
  let ended: Ended = null;
  while (ended === null) {
    await ctx.settings.refresh(ctx.db);
    ended = signal.aborted
      ? 'interrupted'
      : configured(ctx)?.id !== provider.id
        ? 'the connector was changed meanwhile'
        : await step(ctx, provider, ask, sweep, options);
    progress?.(sweep, total);
  }
  sweep.finished = ended === 'finished';
  if (!sweep.finished) sweep.stopped = ended;
}

/** With what a step added to the counters. */
const keepPlace = (ctx: Ctx, { id }: Provider, now: Sweep, before: Sweep): Promise<number> =>
  ctx.db.run(sql`
    update loyalty_sweep
       set after = ${now.after}, compared = compared + ${now.compared - before.compared},
           repaired = repaired + ${now.repaired - before.repaired}, failed = failed + ${now.failed - before.failed}
     where connector = ${id}`);

/**
 * Where to begin: behind the last account of a sweep that did not finish, unless changes were missed since; else a new
 * one. @returns null: at the first
 */
async function beginAt(ctx: Ctx, provider: Provider, restart: boolean): Promise<{ after: number; since: Date } | null> {
  const { id } = provider;
  const row = await ctx.db.one<{ after: number; since: Date }>(sql`
    select after, started_at as since from loyalty_sweep where connector = ${id} and finished_at is null and after > 0`);
  const gap = row === undefined || restart ? undefined : await gapOf(ctx, provider);
  if (row !== undefined && !restart && (gap === undefined || gap.to < row.since)) return row;
  await ctx.db.run(sql`
    insert into loyalty_sweep (connector, started_at) values (${id}, ${ctx.clock.now()})
    on conflict (connector) do update
       set started_at = excluded.started_at, after = 0, compared = 0, repaired = 0, failed = 0, finished_at = null`);
  return null;
}

async function sweepFrom(ctx: Ctx, provider: Provider, options: SweepOptions): Promise<Sweep> {
  const { dryRun = false, restart = false, account, note } = options;
  const place = !dryRun && account === undefined;
  const from = place ? await beginAt(ctx, provider, restart) : null;
  if (from !== null)
    note?.(`Going on after account ${from.after}: the sweep of ${from.since.toISOString()} did not finish.`);
  const sweep: Sweep = {
    connector: provider.name,
    truth: ctx.settings.get('LOYALTY_TRUTH'),
    dry_run: dryRun,
    resumed_after: from?.after ?? null,
    after: from?.after ?? (account === undefined ? 0 : account - 1),
    finished: false,
    stopped: null,
    compared: 0,
    equal: 0,
    differing: 0,
    repaired: 0,
    taken_over: 0,
    left: 0,
    waiting: 0,
    parked: 0,
    failed: 0,
  };
  await walk(ctx, provider, sweep, options);
  if (place && sweep.finished)
    await ctx.db.run(sql`
      update loyalty_sweep set finished_at = ${ctx.clock.now()}, complete_from = started_at where connector = ${provider.id}`);
  return sweep;
}

/** Alone: a second one is not begun. The lock ends with its connection, whatever becomes of the process. */
function alone<T>(root: Ctx, work: () => Promise<T>): Promise<T | undefined> {
  return transaction(root, async (ctx) => {
    const lock = await ctx.db.one<{ mine: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtext('assent.loyalty_sweep')) as mine`,
    );
    if (!lock!.mine) return undefined;
    const pulse = setInterval(() => void ctx.db.one(sql`select 1`).catch(() => {}), PULSE);
    try {
      return await work();
    } finally {
      clearInterval(pulse);
    }
  });
}

/**
 * Sweeps over all members, in the order of their ids. Each step is whole: whatever ends it, it can be gone on from.
 * @returns what came of it, or a sentence that says why there was nothing to do
 */
export async function reconcile(ctx: Ctx, options: SweepOptions): Promise<Sweep | { readonly cannot: string }> {
  const provider = configured(ctx);
  if (provider === undefined) return { cannot: 'No loyalty connector is configured: there is nobody to compare with.' };
  if (provider.connector.ask(provider.setting as never, 1) === null)
    return {
      cannot: `The connector ${provider.name}, as it is set, cannot be asked what it has: nothing was compared.`,
    };
  if (options.dryRun) return sweepFrom(ctx, provider, options);
  const sweep = await alone(ctx, () => sweepFrom(ctx, provider, options));
  return sweep ?? { cannot: 'A sweep is running already.' };
}
