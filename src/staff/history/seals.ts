/**
 * Sealing the history: the ends of the companies' chains, in a chain of signed heads. A company's own chain shows what was
 * changed in it; that its end was cut off shows here. One sealer at a time, at most a second behind.
 */
import { sign, verify } from 'node:crypto';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { sha256 } from '../../platform/keys.ts';

const MOST = 5000;

/** Number of a company's last line and its hash, in hex. */
type End = readonly [company: number, line: number, hash: string];

interface Seal {
  readonly number: number;
  /** Ends as JSON, the text that is hashed. */
  readonly ends: string;
  readonly previous: Buffer;
  readonly head: Buffer;
  readonly sealed_at: Date;
  readonly signature: Buffer;
}

/** Before the first. */
const beginning = Buffer.alloc(32);

/** What a head says: everything before it, the ends, and when. */
const headHash = ({ number, ends, previous, sealed_at }: Omit<Seal, 'head' | 'signature'>): Buffer =>
  sha256(
    JSON.stringify([
      'assent history seal 1',
      number,
      sha256(ends).toString('hex'),
      previous.toString('hex'),
      sealed_at.toISOString(),
    ]),
  );

/**
 * Seals the companies that went on, if no other process is at it.
 * @returns how many lines were waiting for it; as many as it takes at once when there may be more
 */
export async function sealHistory(ctx: Ctx): Promise<number> {
  const waiting = await ctx.db.one<{ any: boolean }>(sql`select exists (select from staff_unsealed) as any`);
  if (!waiting!.any) return 0;
  return transaction(ctx, async (tx) => {
    const lock = await tx.db.one<{ mine: boolean }>(
      sql`select pg_try_advisory_xact_lock(hashtext('assent.history_sealer')) as mine`,
    );
    if (!lock!.mine) return 0;
    const taken = await tx.db.rows<{ company: number }>(sql`
      delete from staff_unsealed where event in (select event from staff_unsealed order by event limit ${MOST})
      returning company`);
    if (taken.length === 0) return 0;
    // Read after they were taken: what was committed since is sealed too, and once more when its own turn comes.
    const companies = await tx.db.rows<{ id: number; events: number; head: Buffer }>(sql`
      select id, events, head from company where id = any (${taken.map(({ company }) => company)}::bigint[]) order by id`);
    const ends = companies.map(({ id, events, head }): End => [id, events, head.toString('hex')]);
    const last = await tx.db.one<Seal>(sql`select * from staff_seal order by number desc limit 1`);
    const draft = {
      number: (last?.number ?? 0) + 1,
      ends: JSON.stringify(ends),
      previous: last?.head ?? beginning,
      sealed_at: ctx.clock.now(),
    };
    const head = headHash(draft);
    await tx.db.run(sql`
      insert into staff_seal (number, ends, previous, head, sealed_at, signature)
      values (${draft.number}, ${draft.ends}, ${draft.previous}, ${head}, ${draft.sealed_at},
              ${sign(null, head, ctx.keys.sealing.private)})`);
    return taken.length;
  });
}

/** Seals everything that waits; for the end of a process and for tests. */
export async function sealWholeHistory(ctx: Ctx): Promise<void> {
  while ((await sealHistory(ctx)) === MOST) {
    // More may be waiting.
  }
}

/** A head as it is published. */
export interface HistoryHead {
  /** Seals up to here. */
  readonly count: number;
  readonly hash: string | null;
  readonly at: string | null;
  /** Ed25519 over the hash, base64. */
  readonly signature: string | null;
}

/** The newest head, or the newest of a moment in the past. */
export async function historyHead(ctx: Ctx, at?: Date): Promise<HistoryHead> {
  const last = await ctx.db.one<Seal>(sql`
    select * from staff_seal where ${at ?? null}::timestamptz is null or sealed_at <= ${at ?? null} order by number desc limit 1`);
  if (last === undefined) return { count: 0, hash: null, at: null, signature: null };
  return {
    count: last.number,
    hash: last.head.toString('hex'),
    at: last.sealed_at.toISOString(),
    signature: last.signature.toString('base64'),
  };
}

/** Writes the newest head into the log: wherever logs are kept, it can be held against the history later. */
export async function publishHistoryHead(ctx: Ctx): Promise<void> {
  const head = await historyHead(ctx);
  if (head.count > 0) ctx.log.info({ head }, 'history head');
}

/** Something that is not as it was written. */
export interface HistoryFault {
  /** Null: a seal. */
  readonly company: number | null;
  /** Number of the line; null: the seal itself, or the rights in force are not what the lines say. */
  readonly line: number | null;
  /** A sentence. */
  readonly what: string;
}

/** What is wrong with a seal, given the one before it. */
function faultOf(ctx: Ctx, seal: Seal, previous: { number: number; head: Buffer }): string | undefined {
  const name = `seal ${seal.number}`;
  if (seal.number !== previous.number + 1) return `seal ${previous.number + 1} is missing`;
  if (!seal.previous.equals(previous.head)) return `${name} does not follow the seal before it`;
  if (!headHash(seal).equals(seal.head)) return `${name} is not what was written`;
  if (!verify(null, seal.head, ctx.keys.sealing.public, seal.signature)) return `the signature of ${name} is not ours`;
  return undefined;
}

/**
 * Checks every seal, and that each line a seal ends with is still there and the same.
 * @param options `company`: lines of one alone; `head`: hash of a head that was kept elsewhere, in hex: a history that does not lead through it was cut or rewritten
 * @returns how many seals hold, lines that wait for one, and the first fault
 */
export async function checkSeals(
  ctx: Ctx,
  { company: only = null, head }: { company?: number | null | undefined; head?: string | undefined },
): Promise<{ seals: number; unsealed: number; fault?: HistoryFault }> {
  const waiting = await ctx.db.one<{ count: number }>(sql`
    select count(*)::int as count from staff_unsealed where ${only}::bigint is null or company = ${only}`);
  const unsealed = waiting!.count;
  let previous = { number: 0, head: beginning as Buffer };
  let kept = head === undefined;
  for (;;) {
    const seal = await ctx.db.one<Seal>(
      sql`select * from staff_seal where number > ${previous.number} order by number limit 1`,
    );
    if (seal === undefined) break;
    const what = faultOf(ctx, seal, previous);
    if (what !== undefined) return { seals: previous.number, unsealed, fault: { company: null, line: null, what } };
    const gone = await ctx.db.one<{ company: number; line: number; there: boolean }>(sql`
      select (e ->> 0)::bigint as company, (e ->> 1)::bigint as line, s.id is not null as there
        from jsonb_array_elements(${seal.ends}::jsonb) as e
        left join staff_event s on s.company = (e ->> 0)::bigint and s.number = (e ->> 1)::bigint
       where (s.id is null or s.hash <> decode(e ->> 2, 'hex')) and (${only}::bigint is null or (e ->> 0)::bigint = ${only})
       order by 1 limit 1`);
    if (gone !== undefined) {
      const { company, line, there } = gone;
      const said = there ? `line ${line} is not the one that was sealed` : `line ${line} is missing, and was sealed`;
      return { seals: previous.number, unsealed, fault: { company, line, what: said } };
    }
    if (seal.head.toString('hex') === head) kept = true;
    previous = { number: seal.number, head: seal.head };
  }
  const { number: seals } = previous;
  const passed = await ctx.db.one<{ company: number; line: number }>(sql`
    select c.id as company, c.events as line
      from company c
      left join (select (e ->> 0)::bigint as company, max((e ->> 1)::bigint) as line
                   from staff_seal cross join jsonb_array_elements(ends::jsonb) as e group by 1) s on s.company = c.id
     where c.events > coalesce(s.line, 0) and not exists (select from staff_unsealed u where u.company = c.id)
       and (${only}::bigint is null or c.id = ${only})
     order by 1 limit 1`);
  if (passed !== undefined) {
    const what = `line ${passed.line} was neither sealed nor is it waiting for it`;
    return { seals, unsealed, fault: { ...passed, what } };
  }
  if (kept) return { seals, unsealed };
  const what = `no seal has the head ${head}: the history was cut or rewritten since that head was kept`;
  return { seals, unsealed, fault: { company: null, line: null, what } };
}
