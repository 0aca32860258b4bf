/** Checking the ledger of a database: every line, seal and signature, and that what decides is what the lines say. */
import { verify } from 'node:crypto';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { commitment, type Evidence } from '../../platform/evidence.ts';
import { type Line, lineHash } from './lines.ts';
import { merkleRoot } from './merkle.ts';
import { findDrift } from './projection.ts';
import { beginning, headHash, type Seal } from './seals.ts';

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
 * @param options `head`: hash of a head that was kept elsewhere, in hex; a ledger that does not lead through it was cut or rewritten
 * @returns what was checked and the first fault
 */
export async function verifyLedger(
  ctx: Ctx,
  { head, progress = () => {} }: { head?: string | undefined; progress?: (lines: number) => void } = {},
): Promise<Verification> {
  let previous: Buffer = beginning;
  let position = 1;
  let number = 0;
  let kept = head === undefined;
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
      select l.position, e.*, p.kind as address_kind, encode(p.address_hash, 'hex') as address_hash, v.salt, v.evidence,
             encode(n.text_sha256, 'hex') as notice_sha256
        from ledger_line l
        join consent_event e on e.id = l.event
        join contact_point p on p.id = e.contact_point
        left join consent_evidence v on v.event = e.id
        left join notice n on n.id = e.notice
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
    if (stored.head.toString('hex') === head) kept = true;
    previous = stored.head;
    position += lines.length;
    number = stored.number;
    progress(position - 1);
  }
  if (!kept) return result(`no seal has the head ${head}: the ledger was cut or rewritten since that head was kept`);
  const altered = await ctx.db.one<{ id: number }>(sql`
    select id from notice where text_sha256 <> sha256(convert_to(text, 'UTF8')) order by id limit 1`);
  if (altered !== undefined) return result(`the text of notice ${altered.id} was changed`);
  for (const line of await ctx.db.rows<StoredLine>(sql`
    select e.*, p.kind as address_kind, encode(p.address_hash, 'hex') as address_hash, v.salt, v.evidence,
             encode(n.text_sha256, 'hex') as notice_sha256
      from ledger_unsealed u
      join consent_event e on e.id = u.event
      join contact_point p on p.id = e.contact_point
      left join consent_evidence v on v.event = e.id
      left join notice n on n.id = e.notice`)) {
    const fault = lineFault(line, `event ${line.id}, not yet sealed,`);
    if (fault !== undefined) return result(fault);
  }
  if (counts!.stray !== null)
    return result(`event ${counts!.stray} was inserted: it was neither sealed nor is it waiting for it`);
  const drift = await findDrift(ctx);
  if (drift !== undefined) {
    const { contact_point, channel, purpose, shown, said } = drift;
    const name = `${channel} of contact point ${contact_point}${purpose === 'marketing' ? '' : ` for ${purpose}`}`;
    return result(
      shown?.state === said?.state
        ? `${name} is ${shown?.state ?? 'unknown'} in other words than the ledger's`
        : `${name} is ${shown?.state ?? 'unknown'}, but the ledger says ${said?.state ?? 'nothing'}`,
    );
  }
  return result();
}
