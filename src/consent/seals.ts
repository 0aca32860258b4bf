/**
 * Sealing: lines, in order, in batches, into a hash chain of Merkle roots (RFC 9162 is the model), each head signed. One
 * sealer at a time, at most a second behind; a plain chain inside each transaction would make every consent wait for the
 * one before.
 */
import { sign, verify } from 'node:crypto';
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { sha256 } from '../platform/keys.ts';
import { commitment, type Evidence, type Line, lineHash } from './ledger.ts';

const MOST = 5000;
const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

/** Merkle tree hash of RFC 9162, 2.1.1: leaves and nodes are told apart, so that no node can pose as a line. */
function merkleRoot(hashes: readonly Buffer[]): Buffer {
  let level = hashes.map((hash) => sha256(LEAF, hash));
  while (level.length > 1) {
    const next: Buffer[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const right = level[i + 1];
      next.push(right === undefined ? level[i]! : sha256(NODE, level[i]!, right));
    }
    level = next;
  }
  return level[0] ?? sha256();
}

interface Seal {
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
function headHash(seal: Pick<Seal, 'number' | 'first_position' | 'lines' | 'root' | 'previous' | 'sealed_at'>): Buffer {
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
const beginning = Buffer.alloc(32);

/**
 * Seals what waits, if no other process is at it.
 * @returns how many lines; fewer than wait when there are more than one batch holds
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
    const last = await tx.db.one<Seal>(sql`select * from ledger_seal order by number desc limit 1`);
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

/** The newest head as published: how many lines, their hash, when, signed. */
export async function ledgerHead(
  ctx: Ctx,
): Promise<{ count: number; hash: string | null; at: string | null; signature: string | null }> {
  const last = await ctx.db.one<Seal>(sql`select * from ledger_seal order by number desc limit 1`);
  if (last === undefined) return { count: 0, hash: null, at: null, signature: null };
  return {
    count: last.first_position + last.lines - 1,
    hash: last.head.toString('hex'),
    at: last.sealed_at.toISOString(),
    signature: last.signature.toString('base64'),
  };
}

export interface Verification {
  readonly lines: number;
  readonly seals: number;
  /** Lines recorded but not yet sealed. */
  readonly unsealed: number;
  /** The first thing that does not hold, in words; undefined when everything does. */
  readonly fault?: string;
}

interface StoredLine extends Line {
  position: number;
  hash: Buffer;
  salt: Buffer | null;
  evidence: Evidence | null;
}

/** What does not hold about a line by itself. */
function lineFault(line: StoredLine, name: string): string | undefined {
  if (!lineHash(line).equals(line.hash)) return `${name} was changed`;
  const { salt, evidence } = line;
  if (salt !== null && evidence !== null && !commitment(salt, evidence).equals(line.commitment))
    return `the evidence of ${name} was changed`;
  return undefined;
}

/**
 * Checks the whole ledger: every line against its hash and its evidence, every batch against its root, every head
 * against the one before and its signature, that nothing lies outside, and that the states decisions are made from are
 * those the lines lead to.
 * @returns what was checked and the first fault
 */
export async function verifyLedger(ctx: Ctx, progress: (lines: number) => void = () => {}): Promise<Verification> {
  let previous: Buffer = beginning;
  let position = 1;
  let number = 0;
  const counts = await ctx.db.one<{ unsealed: number; stray: string | null }>(sql`
    select (select count(*) from ledger_unsealed)::int as unsealed,
           (select e.id from consent_event e where not exists (select from ledger_line l where l.event = e.id)
                                               and not exists (select from ledger_unsealed u where u.event = e.id)
             order by e.id limit 1) as stray`);
  const result = (fault?: string): Verification => ({
    lines: position - 1,
    seals: number,
    unsealed: counts!.unsealed,
    ...(fault === undefined ? {} : { fault }),
  });
  for (;;) {
    const stored = await ctx.db.one<Seal>(
      sql`select * from ledger_seal where number > ${number} order by number limit 1`,
    );
    if (stored === undefined) break;
    const name = `seal ${stored.number}`;
    if (stored.number !== number + 1) return result(`${name} follows seal ${number}: one between them was dropped`);
    if (stored.first_position !== position)
      return result(`${name} starts at line ${stored.first_position} instead of ${position}`);
    const lines = await ctx.db.rows<StoredLine>(sql`
      select l.position, e.*, p.kind as address_kind, encode(p.address_hash, 'hex') as address_hash, v.salt, v.evidence
        from ledger_line l
        join consent_event e on e.id = l.event
        join contact_point p on p.id = e.contact_point
        left join consent_evidence v on v.event = e.id
       where l.seal = ${stored.number} order by l.position`);
    for (const [index, line] of lines.entries()) {
      const at = `line ${line.position} (event ${line.id})`;
      if (line.position !== position + index) return result(`line ${position + index} was dropped`);
      const fault = lineFault(line, at);
      if (fault !== undefined) return result(fault);
    }
    if (lines.length < stored.lines) return result(`line ${position + lines.length} was dropped`);
    const extra = lines[stored.lines];
    if (extra !== undefined) return result(`line ${extra.position} (event ${extra.id}) was inserted`);
    if (!merkleRoot(lines.map(({ hash }) => hash)).equals(stored.root))
      return result(`the lines of ${name} are not those that were sealed`);
    if (!stored.previous.equals(previous)) return result(`${name} does not follow the seal before it`);
    if (!headHash(stored).equals(stored.head)) return result(`${name} was changed`);
    if (!verify(null, stored.head, ctx.keys.sealing.public, stored.signature))
      return result(`the signature of ${name} is not ours`);
    previous = stored.head;
    position += lines.length;
    number = stored.number;
    progress(position - 1);
  }
  for (const line of await ctx.db.rows<StoredLine>(sql`
    select e.*, p.kind as address_kind, encode(p.address_hash, 'hex') as address_hash, v.salt, v.evidence
      from ledger_unsealed u
      join consent_event e on e.id = u.event
      join contact_point p on p.id = e.contact_point
      left join consent_evidence v on v.event = e.id`)) {
    const fault = lineFault(line, `event ${line.id}, not yet sealed,`);
    if (fault !== undefined) return result(fault);
  }
  if (counts!.stray !== null)
    return result(`event ${counts!.stray} was inserted: it was neither sealed nor is it waiting for it`);
  // What decides must be what the ledger says: the later word, on a tie the withdrawal (rule 1).
  const astray = await ctx.db.one<{
    contact_point: number;
    channel: string;
    shown: string | null;
    said: string | null;
  }>(sql`
    select contact_point, channel, s.state as shown, l.state as said
      from consent_state s
      full join (
        select distinct on (contact_point, channel, purpose) contact_point, channel, purpose, id,
               case kind when 'request' then 'pending' when 'withdraw' then 'withdrawn' when 'refuse' then 'refused'
                         when 'expire' then 'expired' when 'suppress' then 'suppressed' when 'erase' then 'suppressed'
                         else 'granted' end as state
          from consent_event
         order by contact_point, channel, purpose, occurred_at desc, (kind = 'withdraw') desc, id desc) l
     using (contact_point, channel, purpose)
     where s.event is distinct from l.id or s.state is distinct from l.state
     order by contact_point, channel limit 1`);
  if (astray !== undefined) {
    const { contact_point, channel, shown, said } = astray;
    return result(
      `${channel} of contact point ${contact_point} is ${shown ?? 'unknown'}, but the ledger says ${said ?? 'nothing'}`,
    );
  }
  return result();
}
