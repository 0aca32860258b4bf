/**
 * The job that tells the provider of one account: reads the newest truth, writes down what it is about to ask, asks, and
 * settles. No row is locked while the provider thinks; a job that is killed leaves a claim that runs out.
 */
import { randomUUID } from 'node:crypto';
import type { HttpAnswer, HttpCall } from '../calls.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Payload, Task } from '../platform/jobs.ts';
import { sha256 } from '../platform/keys.ts';
import { CallError, call } from '../platform/outgoing.ts';
import { aboutEverybody, holdBreaker } from './breaker.ts';
import type { Attempt, Member, Shown, Verdict } from './connectors/connector.ts';
import { leaseFrom } from './dispatch.ts';
import { configured, type Provider, readMembers, sumOf, sumOfMember } from './members.ts';
import { type Again, LATE, type Outcome, settle, type Work } from './settle.ts';

/** The provider has no call for it. */
const BY_HAND = 'the account was erased and this provider cannot be told: erase it there by hand, then drop it here';
const NO_WORDS = 'the connector cannot put this account into words: see the log';
/** What being forgotten adds up to. */
const goneSum = sha256('forgotten');

/** Takes the account if the claim of the job still stands. */
async function begin(ctx: Ctx, provider: Provider, payload: Payload): Promise<Work | undefined> {
  const begun = ctx.clock.now();
  const account = Number(payload['account']);
  const probe = payload['probe'] === 1;
  const claim = leaseFrom(ctx, begun, probe);
  const row = await ctx.db.one<Omit<Work, 'provider' | 'account' | 'claim' | 'probe' | 'begun'>>(sql`
    update loyalty_member set claimed_until = ${claim}
     where account = ${account} and claimed_until = ${new Date(Number(payload['claim']))}
    returning status, marks, attempts, request_key, request_sum, request_sequence, check_at, connector, delivered_sum`);
  if (row === undefined) return undefined;
  // Should this process die now, the next probe need not wait as long as a planned one may.
  if (probe) await holdBreaker(ctx, provider.name, claim);
  return { ...row, provider, account, claim, probe, begun };
}

/** Nothing to do, or nobody to tell: whoever comes next may have it. */
const release = (ctx: Ctx, account: number, claim: Date): Promise<number> =>
  ctx.db.run(
    sql`update loyalty_member set claimed_until = null where account = ${account} and claimed_until = ${claim}`,
  );

interface Request extends Attempt {
  /** Changes it speaks for. */
  readonly marks: number;
}

/**
 * Writes down what is about to be asked, before it is: the same content goes out under the same key and number until its
 * fate is known, other content under new ones. @returns undefined when the claim was lost
 */
async function prepare(ctx: Ctx, work: Work, sum: Buffer): Promise<Request | undefined> {
  const same = work.request_key !== null && work.request_sum?.equals(sum) === true;
  const key = same ? work.request_key : randomUUID();
  const at = ctx.clock.now();
  // The account is held: of one that is being erased at this moment no sum is written down.
  const row = await ctx.db.one<{ sequence: number }>(sql`
    with held as materialized (select id from account where id = ${work.account} for key share)
    update loyalty_member
       set request_key = ${key},
           request_sum = case when ${sum.equals(goneSum)} or exists (select from held) then ${sum}::bytea end,
           request_sequence = case when ${same} then request_sequence else marks + 1 end,
           marks = case when ${same} then marks else marks + 1 end,
           check_at = coalesce(check_at, ${new Date(at.getTime() + LATE)}),
           delivered_sum = case when connector = ${work.provider.id} then delivered_sum end,
           connector = ${work.provider.id}, place = ${work.provider.place}
     where account = ${work.account} and claimed_until = ${work.claim} returning request_sequence as sequence`);
  // A number of its own for each content; a change that is noticed in between makes the sum differ from what is stored.
  return row && { key, sequence: row.sequence, at, marks: same ? work.marks : work.marks + 1 };
}

/** Statuses of a provider that is there, and has this account in hand. */
const busy = new Set([408, 409, 423, 425]);

const inDoubt = (error: CallError): Again => ({
  kind: 'again',
  reason: error.message,
  about: error.doubtful ? 'any' : 'all',
  doubtful: error.doubtful,
});

const notNow = ({ status }: HttpAnswer, { again, after }: { again: string; after?: number }): Again => ({
  kind: 'again',
  reason: again,
  after,
  about: aboutEverybody.has(status) ? 'all' : busy.has(status) ? 'one' : 'any',
  doubtful: false,
});

/** Asks, and says what the answer means. @param read may stumble over an answer nobody thought of: that is none */
async function ask<T>(ctx: Ctx, asked: HttpCall, read: (answer: HttpAnswer) => T): Promise<T | Again> {
  try {
    return read(await call(asked, ctx.settings.get('LOYALTY_TIMEOUT') * 1000));
  } catch (error) {
    if (error instanceof CallError) return inDoubt(error);
    // The text of an error may repeat what the provider sent.
    ctx.log.error({ error: error instanceof Error ? error.name : 'unknown' }, 'a loyalty connector failed');
    return { kind: 'again', reason: 'the answer could not be read', about: 'any', doubtful: false };
  }
}

function meaning(answer: HttpAnswer, verdict: Verdict, done: Outcome): Outcome {
  if (verdict === 'done') return done;
  if ('refused' in verdict) return { kind: 'refused', reason: verdict.refused, asked: true };
  return notNow(answer, verdict);
}

/** A member that a connector cannot put into words is refused, not tried for ever: undefined. */
function worded<T>(ctx: Ctx, words: () => T): T | undefined {
  try {
    return words();
  } catch (error) {
    ctx.log.error({ error: error instanceof Error ? error.name : 'unknown' }, 'a loyalty connector failed');
    return undefined;
  }
}

const callFor = (work: Work, member: Member | undefined, attempt: Attempt): HttpCall | null => {
  const { connector, setting } = work.provider;
  return member === undefined
    ? connector.forget(setting as never, work.account, attempt)
    : connector.put(setting as never, member, attempt);
};

/**
 * A failure of the one that asks whether the provider is back, if the provider has words about this account all the same:
 * then it is this account that fails, and its attempts count. Else bad records alone would keep it waiting for ever.
 */
async function blame(ctx: Ctx, { provider, account, probe }: Work, outcome: Outcome): Promise<Outcome> {
  if (!probe || outcome.kind !== 'again' || outcome.about !== 'any') return outcome;
  const { connector, setting } = provider;
  const asked = worded(ctx, () => connector.ask(setting as never, account));
  // One that cannot be asked may be down all the same: it is left alone longer, but not for ever.
  if (asked === null || asked === undefined) return { ...outcome, counts: true };
  const there = await ask(ctx, asked, (answer) => !('again' in connector.known(setting as never, answer)));
  return there === true ? { ...outcome, about: 'one' } : outcome;
}

async function deliver(ctx: Ctx, work: Work): Promise<void> {
  const { provider, account } = work;
  const member = (await readMembers(ctx, [account])).get(account);
  if (member === undefined && work.connector === null) return settle(ctx, work, { kind: 'nobody' });
  const sum = member === undefined ? goneSum : worded(ctx, () => sumOfMember(provider, member));
  if (sum === undefined) return settle(ctx, work, { kind: 'refused', reason: NO_WORDS, asked: false });
  const told = work.connector === provider.id && work.delivered_sum?.equals(sum) === true;
  // Not while the fate of other content is unknown: it may have come in between.
  if (member !== undefined && told && work.request_key === null) return settle(ctx, work, { kind: 'unchanged' });
  const request = await prepare(ctx, work, sum);
  if (request === undefined) return;
  const asked = worded(ctx, () => callFor(work, member, request));
  if (asked === null || asked === undefined) {
    const reason = asked === null ? BY_HAND : NO_WORDS;
    return settle(ctx, work, { kind: 'refused', reason, asked: false }, request.marks);
  }
  const done: Outcome = member === undefined ? { kind: 'forgotten' } : { kind: 'delivered', sum };
  const to = member === undefined ? 'forget' : 'put';
  const judged = (answer: HttpAnswer): Outcome => meaning(answer, provider.connector.judge(answer, to), done);
  // Some make members elsewhere than they change them.
  const elsewhere = (answer: HttpAnswer): HttpCall | null =>
    (member && provider.connector.otherwise?.(provider.setting as never, member, request, answer)) ?? null;
  const first = await ask(ctx, asked, (answer) => elsewhere(answer) ?? judged(answer));
  const outcome = 'url' in first ? await ask(ctx, first, judged) : first;
  return settle(ctx, work, await blame(ctx, work, outcome), request.marks);
}

/** Whether the provider has what it should have: an attempt without an answer may have arrived after a later one. */
async function check(ctx: Ctx, work: Work): Promise<void> {
  const { provider, account } = work;
  const { connector, setting } = provider;
  const asked = connector.ask(setting as never, account);
  // Telling it once more is the only way to be sure.
  if (asked === null) return settle(ctx, work, { kind: 'differs', asked: false });
  const found = await ask(ctx, asked, (answer): { shown: Shown | null } | Again => {
    const known = connector.known(setting as never, answer);
    return 'again' in known ? notNow(answer, known) : known;
  });
  if ('kind' in found) return settle(ctx, work, { kind: 'unclear', again: found });
  const member = (await readMembers(ctx, [account])).get(account);
  if (member === undefined)
    return settle(ctx, work, found.shown === null ? { kind: 'nobody' } : { kind: 'differs', asked: true });
  // Its delivery will say that there are no words for it.
  const sum = worded(ctx, () => sumOfMember(provider, member));
  const equal = found.shown !== null && sum?.equals(sumOf(found.shown)) === true;
  return settle(ctx, work, equal ? { kind: 'equal' } : { kind: 'differs', asked: true });
}

/** The job. A provider that fails is expected: only our own failures are the job's. */
export const deliverLoyalty: Task = async (ctx, payload) => {
  const provider = configured(ctx);
  if (provider === undefined) {
    await release(ctx, Number(payload['account']), new Date(Number(payload['claim'])));
    return;
  }
  const work = await begin(ctx, provider, payload);
  if (work === undefined) return;
  if (work.status === 'waiting') return deliver(ctx, work);
  if (work.status === 'settled' && work.check_at !== null) return check(ctx, work);
  await release(ctx, work.account, work.claim);
  if (work.probe) await holdBreaker(ctx, provider.name, ctx.clock.now());
};
