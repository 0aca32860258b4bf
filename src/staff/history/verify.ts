/** Whether the history of companies is whole, and whether the rights in force are what it says. */
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { commitment } from '../../platform/evidence.ts';
import { fail } from '../../platform/failure.ts';
import { pairOf } from '../entries/rights.ts';
import { chainHash, type StaffEvent } from './lines.ts';
import { follow, linesOf, nothing, type Past, type StoredLine } from './past.ts';
import { checkSeals, type HistoryFault } from './seals.ts';

export interface HistoryCheck {
  readonly companies: number;
  readonly lines: number;
  readonly seals: number;
  /** Lines recorded but not yet sealed. */
  readonly unsealed: number;
  /** The first of each company; none: everything holds. */
  readonly faults: readonly HistoryFault[];
}

interface CompanyRow {
  readonly id: number;
  readonly owner: number | null;
  readonly events: number;
  readonly head: Buffer;
  readonly shops: number[];
}

/** What is wrong with a line, given the ones before it. */
function faultOf(row: StoredLine, previous: { number: number; hash: Buffer; at: number }): string | undefined {
  if (row.number !== previous.number + 1) return `line ${previous.number + 1} is missing`;
  if (!chainHash(previous.hash, row.line).equals(row.hash))
    return `line ${row.number} is not what was written, or not where it was written`;
  let event: StaffEvent;
  try {
    event = JSON.parse(row.line) as StaffEvent;
  } catch {
    return `line ${row.number} cannot be read`;
  }
  const { id, company, number, kind, entry, account, actor, at } = event;
  const said = [id, company, number, kind, entry ?? null, account ?? null, actor, Date.parse(at)];
  const stored = [row.id, row.company, row.number, row.kind, row.entry, row.account, row.actor, row.at.getTime()];
  if (said.some((value, index) => value !== stored[index])) return `the columns of line ${number} are not what it says`;
  if (row.at.getTime() < previous.at) return `line ${number} is earlier than the one before it`;
  if (row.salt === null || row.evidence === null)
    // With the account of whoever did it, their address and browser were erased.
    return event.evidence === null || row.actor_gone ? undefined : `the evidence of line ${number} is missing`;
  return commitment(row.salt, row.evidence).toString('hex') === event.evidence
    ? undefined
    : `the evidence of line ${number} is not what was written`;
}

/** Pairs, versions and shapes as text: one for each entry. */
const written = (past: Past): Map<number, string> =>
  new Map(
    [...past.entries.values()].map(({ entry, account, version, shop_ids, permissions, rights }) => [
      entry,
      JSON.stringify([
        account,
        version,
        shop_ids,
        permissions,
        [...rights.values()].map((right) => `${pairOf(right)} ${right.until} ${right.event}`).sort(),
      ]),
    ]),
  );

async function inForce(ctx: Ctx, company: number): Promise<Map<number, string>> {
  const rows = await ctx.db.rows<{
    id: number;
    account: number;
    version: number;
    shop_ids: number[];
    permissions: string[];
    rights: [shop: number, permission: string, until: number | null, event: string][];
  }>(sql`
    select e.id, e.account, e.version, e.shop_ids, e.permissions,
           coalesce((select jsonb_agg(in_short(r)) from entry_right r where r.entry = e.id), '[]') as rights
      from entry e where e.company = ${company}`);
  return new Map(
    rows.map(({ id, account, version, shop_ids, permissions, rights }) => [
      id,
      JSON.stringify([
        account,
        version,
        shop_ids,
        permissions,
        rights.map(([shop, permission, until, event]) => `${shop}:${permission} ${until} ${event}`).sort(),
      ]),
    ]),
  );
}

/** How the rights in force differ from what the lines say. */
async function difference(ctx: Ctx, { id, owner, shops }: CompanyRow, past: Past): Promise<string | undefined> {
  if (owner !== past.owner) return 'the owner is not the one the history names';
  const own = new Set(shops);
  if (own.symmetricDifference(past.shops).size > 0) return 'the shops are not those the history names';
  const [said, found] = [written(past), await inForce(ctx, id)];
  const odd = [...new Set([...said.keys(), ...found.keys()])].sort((one, other) => one - other);
  const entry = odd.find((key) => said.get(key) !== found.get(key));
  if (entry === undefined) return undefined;
  if (!found.has(entry)) return `entry ${entry} of the history is gone`;
  return said.has(entry) ? `entry ${entry} is not what the history says` : `entry ${entry} is not in the history`;
}

async function checkCompany(ctx: Ctx, company: CompanyRow): Promise<{ lines: number; fault?: HistoryFault }> {
  const past = nothing();
  let previous = { number: 0, hash: Buffer.alloc(0) as Buffer, at: 0 };
  for await (const row of linesOf(ctx, company.id)) {
    const what = faultOf(row, previous);
    if (what !== undefined)
      return { lines: previous.number, fault: { company: company.id, line: previous.number + 1, what } };
    follow(past, JSON.parse(row.line) as StaffEvent);
    previous = { number: row.number, hash: row.hash, at: row.at.getTime() };
  }
  const { number: lines, hash } = previous;
  if (company.events !== lines || !company.head.equals(hash)) {
    const what =
      company.events > lines
        ? `line ${lines + 1} is missing, at the end`
        : `line ${lines} does not end the history as it should`;
    return { lines, fault: { company: company.id, line: company.events > lines ? lines + 1 : lines, what } };
  }
  const what = lines === 0 ? 'there is no history' : await difference(ctx, company, past);
  return what === undefined ? { lines } : { lines, fault: { company: company.id, line: null, what } };
}

/**
 * Checks histories: each line follows the one before it, its columns and evidence are what it says, the last one is the
 * one the company ends with, its rights, owner and shops are what the lines lead to, and what was sealed is still there.
 * Beside a running service.
 * @param options `company`: one of them instead of all; `head`: hash of a head that was kept elsewhere, in hex
 * @throws not_found for a company that does not exist
 */
export async function verifyHistory(
  root: Ctx,
  { company, head }: { company?: number | undefined; head?: string | undefined } = {},
): Promise<HistoryCheck> {
  const ids = await root.db.rows<{ id: number }>(sql`
    select id from company where ${company ?? null}::bigint is null or id = ${company ?? null} order by id`);
  if (company !== undefined && ids.length === 0) fail('not_found');
  const faults: HistoryFault[] = [];
  let lines = 0;
  for (const { id } of ids) {
    // One snapshot a company: what is written meanwhile is no fault.
    const checked = await transaction(root, async (ctx) => {
      await ctx.db.run(sql`set transaction isolation level repeatable read, read only`);
      const row = await ctx.db.one<CompanyRow>(sql`
        select id, owner, events, head, array(select s.id from shop s where s.company = c.id) as shops from company c where id = ${id}`);
      return checkCompany(ctx, row!);
    });
    lines += checked.lines;
    if (checked.fault !== undefined) faults.push(checked.fault);
  }
  if (company === undefined) {
    const stray = await root.db.rows<{ company: number; number: number }>(sql`
      select distinct on (company) company, number from staff_event s
       where not exists (select from company c where c.id = s.company) order by company, number`);
    for (const { company: gone, number } of stray)
      faults.push({ company: gone, line: number, what: 'there are lines of a company that does not exist' });
  }
  const { faults: unlike, ...sealed } = await checkSeals(root, { company, head });
  faults.push(...unlike.filter((fault) => !faults.some((one) => one.company === fault.company)));
  return { companies: ids.length, lines, ...sealed, faults };
}
