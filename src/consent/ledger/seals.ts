/**
 * Sealing: lines, in order, in batches, into a hash chain of Merkle roots (RFC 9162 is the model), each head signed. One
 * sealer at a time, at most a second behind; a plain chain inside each transaction would make every consent wait for the
 * one before.
 */
import { sign, verify } from 'node:crypto';
import type { Ctx } from '../../platform/ctx.ts';
import { transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { type Head, headOf, publish } from '../../platform/heads.ts';
import { sha256 } from '../../platform/keys.ts';
import { merkleRoot } from './merkle.ts';

const MOST = 5000;

/** A sealed batch: the lines from `first_position` on, and the head that covers them and everything before. */
export interface Seal {
  number: number;
  first_position: number;
  lines: number;
  root: Buffer;
  previous: Buffer;
  head: Buffer;
  sealed_at: Date;
  signature: Buffer;
}

/** What a head says: everything before it, the batch, and when. */
export function headHash(
  seal: Pick<Seal, 'number' | 'first_position' | 'lines' | 'root' | 'previous' | 'sealed_at'>,
): Buffer {
  return sha256(
    JSON.stringify([
      'assent seal 1',
      seal.number,
      seal.first_position,
      seal.lines,
      seal.root.toString('hex'),
      seal.previous.toString('hex'),
      seal.sealed_at.toISOString(),
    ]),
  );
}

/** The head before the first. */
export const beginning = Buffer.alloc(32);

/**
 * The newest seal, or the newest of a moment in the past.
 * @throws Error when it is not one of ours: nothing is built on it, and it is published to nobody
 */
async function newestSeal(ctx: Ctx, at: Date | null = null): Promise<Seal | undefined> {
  const newest = await ctx.db.one<Seal>(sql`
    select * from ledger_seal where ${at}::timestamptz is null or sealed_at <= ${at} order by number desc limit 1`);
  if (newest === undefined) return undefined;
  const { head, signature, number } = newest;
  if (!headHash(newest).equals(head) || !verify(null, head, ctx.keys.sealing.public, signature))
    throw new Error(`seal ${number} of the ledger is not ours`);
  return newest;
}

/**
 * Seals what waits, if no other process is at it.
 * @returns how many lines; fewer than wait when there are more than one batch holds
 * @throws Error when the last seal is not ours
 */
export async function seal(ctx: Ctx): Promise<number> {
  const waiting = await ctx.db.one<{ any: boolean }>(sql`select exists (select from ledger_unsealed) as any`);
  if (!waiting!.any) return 0;
  return transaction(ctx, async (tx) => {
    const lock = await tx.db.one<{ mine: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtext('assent.sealer')) as mine`,
    );
    if (!lock!.mine) return 0;
    const lines = await tx.db.rows<{ event: string; hash: Buffer }>(sql`
      with taken as (
        delete from ledger_unsealed where event in (select event from ledger_unsealed order by event limit ${MOST}) returning event
      )
      select e.id as event, e.hash from taken join consent_event e on e.id = taken.event order by e.id`);
    if (lines.length === 0) return 0;
    const last = await newestSeal(tx);
    const draft = {
      number: (last?.number ?? 0) + 1,
      first_position: last === undefined ? 1 : last.first_position + last.lines,
      lines: lines.length,
      root: merkleRoot(lines.map(({ hash }) => hash)),
      previous: last?.head ?? beginning,
      sealed_at: ctx.clock.now(),
    };
    const head = headHash(draft);
    await tx.db.run(sql`
      insert into ledger_seal (number, first_position, lines, root, previous, head, sealed_at, signature)
      values (${draft.number}, ${draft.first_position}, ${draft.lines}, ${draft.root}, ${draft.previous}, ${head},
              ${draft.sealed_at}, ${sign(null, head, ctx.keys.sealing.private)})`);
    await tx.db.run(sql`
      insert into ledger_line (position, event, seal)
      select ${draft.first_position} + n - 1, event, ${draft.number}
        from unnest(${lines.map(({ event }) => event)}::uuid[]) with ordinality as l (event, n)`);
    return lines.length;
  });
}

/** Seals everything that waits; for the end of a process and for tests. */
export async function sealAll(ctx: Ctx): Promise<void> {
  while ((await seal(ctx)) === MOST) {
    // Another full batch may be waiting.
  }
}

/** The newest head, or the newest of a moment in the past. @throws Error when it is not ours */
export async function ledgerHead(ctx: Ctx, at?: Date): Promise<Head> {
  const last = await newestSeal(ctx, at);
  return headOf(last, last === undefined ? 0 : last.first_position + last.lines - 1);
}

/** Since when the line has waited that has waited longest for the sealer; null: none does. */
export async function ledgerUnsealedSince(ctx: Ctx): Promise<Date | null> {
  const { since } = (await ctx.db.one<{ since: Date | null }>(sql`
    select min(e.recorded_at) as since from ledger_unsealed u join consent_event e on e.id = u.event`))!;
  return since;
}

/** Writes the newest head into the log, and whether lines wait for too long. */
export const publishHead = async (ctx: Ctx): Promise<void> =>
  publish(ctx, 'ledger', await ledgerHead(ctx), await ledgerUnsealedSince(ctx));
