/**
 * Sealing the history: the ends of the companies' chains, in a chain of signed heads. A company's own chain shows what was
 * changed in it; that its end was cut off shows here. One sealer at a time, at most a second behind.
 */
import { sign, verify } from 'node:crypto';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { type Head, headOf, publish } from '../../platform/heads.ts';
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

const isOurs = (ctx: Ctx, seal: Seal): boolean =>
  headHash(seal).equals(seal.head) && verify(null, seal.head, ctx.keys.sealing.public, seal.signature);

/**
 * The newest seal, or the newest of a moment in the past.
 * @throws Error when it is not one of ours: nothing is built on it, and it is published to nobody
 */
async function newestSeal(ctx: Ctx, at: Date | null = null): Promise<Seal | undefined> {
  const seal = await ctx.db.one<Seal>(sql`
    select * from staff_seal where ${at}::timestamptz is null or sealed_at <= ${at} order by number desc limit 1`);
  if (seal !== undefined && !isOurs(ctx, seal)) throw new Error(`seal ${seal.number} of the history is not ours`);
  return seal;
}

/**
 * Seals the companies that went on, if no other process is at it.
 * @returns how many lines were waiting for it; as many as it takes at once when there may be more
 * @throws Error when the last seal is not ours
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
    // Of the lines themselves, which nobody can change, and read after they were taken: what was committed since is sealed
    // too, and once more when its own turn comes.
    const lines = await tx.db.rows<{ company: number; number: number; hash: Buffer }>(sql`
      select q.company, e.number, e.hash
        from (select distinct company from unnest(${taken.map(({ company }) => company)}::bigint[]) as company) q
       cross join lateral (select number, hash from staff_event where company = q.company order by number desc limit 1) e
       order by q.company`);
    const ends = lines.map(({ company, number, hash }): End => [company, number, hash.toString('hex')]);
    const last = await newestSeal(tx);
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

/** The newest head, or the newest of a moment in the past. @throws Error when it is not ours */
export async function historyHead(ctx: Ctx, at?: Date): Promise<Head> {
  const last = await newestSeal(ctx, at);
  return headOf(last, last?.number ?? 0);
}

/** Since when the line has waited that has waited longest for the sealer; null: none does. */
export async function historyUnsealedSince(ctx: Ctx): Promise<Date | null> {
  const { since } = (await ctx.db.one<{ since: Date | null }>(sql`
    select min(e.at) as since from staff_unsealed u join staff_event e on e.id = u.event`))!;
  return since;
}

/** Writes the newest head into the log, and whether lines wait for too long. */
export const publishHistoryHead = async (ctx: Ctx): Promise<void> =>
  publish(ctx, 'history', await historyHead(ctx), await historyUnsealedSince(ctx));

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
  return isOurs(ctx, seal) ? undefined : `the signature of ${name} is not ours`;
}

/** Seals that are checked at once. */
const PAGE = 500;

/** The first line of each company that these seals end with and that is gone or another. @param only of one company */
const goneLines = (ctx: Ctx, seals: readonly Seal[], only: number | null): Promise<HistoryFault[]> =>
  ctx.db.rows<HistoryFault>(sql`
    select distinct on (o.company) o.company, o.line,
           'line ' || o.line || case when s.id is null then ' is missing, and was sealed' else ' is not the one that was sealed' end as what
      from unnest(${seals.map(({ ends }) => ends)}::text[]) as t (ends)
     cross join jsonb_array_elements(t.ends::jsonb) as e
     cross join lateral (select (e ->> 0)::bigint as company, (e ->> 1)::bigint as line) o
      left join staff_event s on s.company = o.company and s.number = o.line
     where (s.id is null or s.hash <> decode(e ->> 2, 'hex')) and (${only}::bigint is null or o.company = ${only})
     order by o.company, o.line`);

/** The last line of each company that never came to the sealer. @param only of one company */
const passedLines = (ctx: Ctx, only: number | null): Promise<HistoryFault[]> =>
  ctx.db.rows<HistoryFault>(sql`
    select e.company, e.line, 'line ' || e.line || ' was neither sealed nor is it waiting for it' as what
      from (select company, max(number) as line from staff_event group by company) e
      left join (select (o ->> 0)::bigint as company, max((o ->> 1)::bigint) as line
                   from staff_seal cross join jsonb_array_elements(ends::jsonb) as o group by 1) s on s.company = e.company
     where e.line > coalesce(s.line, 0) and not exists (select from staff_unsealed u where u.company = e.company)
       and (${only}::bigint is null or e.company = ${only})
     order by 1`);

/**
 * Checks every seal, and that each line a seal ends with is still there and the same.
 * @param options `company`: lines of one alone; `head`: hash of a head that was kept elsewhere, in hex: a history that does
 *   not lead through it was cut or rewritten
 * @returns how many seals there are, lines that wait for one, and the first fault of each company and of the seals
 */
export async function checkSeals(
  ctx: Ctx,
  { company = null, head }: { company?: number | null | undefined; head?: string | undefined },
): Promise<{ seals: number; unsealed: number; faults: HistoryFault[] }> {
  // As text: a number that somebody made up may be larger than ours can be.
  const start = await ctx.db.one<{ unsealed: number; newest: string | null }>(sql`
    select (select count(*) from staff_unsealed where ${company}::bigint is null or company = ${company})::int as unsealed,
           (select max(number)::text from staff_seal) as newest`);
  const faults = new Map<number | null, HistoryFault>();
  const note = (fault: HistoryFault): void => void (faults.has(fault.company) || faults.set(fault.company, fault));
  const noteSeal = (what: string): void => note({ company: null, line: null, what });
  let previous = { number: 0, head: beginning as Buffer };
  let seals = 0;
  let kept = head === undefined;
  for (;;) {
    const page = await ctx.db.rows<Seal>(sql`
      select * from staff_seal where number > ${previous.number} and number <= ${start!.newest}::bigint order by number limit ${PAGE}`);
    // A seal that is not ours says nothing about lines; the ones after it still do.
    const sound: Seal[] = [];
    for (const seal of page) {
      const what = faultOf(ctx, seal, previous);
      if (what !== undefined) noteSeal(what);
      if (isOurs(ctx, seal)) sound.push(seal);
      previous = { number: seal.number, head: seal.head };
    }
    seals += page.length;
    kept ||= sound.some((seal) => seal.head.toString('hex') === head!.toLowerCase());
    for (const fault of await goneLines(ctx, sound, company)) note(fault);
    if (page.length < PAGE) break;
  }
  for (const fault of await passedLines(ctx, company)) note(fault);
  if (!kept) noteSeal(`no seal has the head ${head}: the history was cut or rewritten since that head was kept`);
  return { seals, unsealed: start!.unsealed, faults: [...faults.values()] };
}
