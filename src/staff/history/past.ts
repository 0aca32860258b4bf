/** What the history of a company says: its lines, who held what at any moment, by going through them again. */
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { refuse } from '../../platform/failure.ts';
import { pairOf, type Right } from '../entries/rights.ts';
import type { Permission } from '../permissions.ts';
import type { EventKind, StaffEvent } from './lines.ts';

/** An entry as the lines tell it. */
export interface PastEntry {
  readonly entry: number;
  readonly account: number;
  readonly rights: Map<string, Right & { readonly event: string }>;
  version: number;
  shop_ids: readonly number[];
  permissions: readonly string[];
}

/** A company as the lines tell it. */
export interface Past {
  owner: number | null;
  /** The line that made them the owner. */
  ownerEvent: string | null;
  readonly shops: Set<number>;
  readonly entries: Map<number, PastEntry>;
}

/** A company before its first line. */
export const nothing = (): Past => ({ owner: null, ownerEvent: null, shops: new Set(), entries: new Map() });

/** Adds a line to what the ones before it say. */
export function follow(past: Past, event: StaffEvent): void {
  const { id, kind, entry, account, owner, shops = [], rights = [], version, shop_ids, permissions } = event;
  if (owner !== undefined) {
    past.owner = owner[1];
    past.ownerEvent = id;
  }
  for (const shop of shops) past.shops.add(shop);
  if (entry === undefined) return;
  if (kind === 'entry_removed') {
    past.entries.delete(entry);
    return;
  }
  let known = past.entries.get(entry);
  if (known === undefined) {
    known = { entry, account: account!, rights: new Map(), version: 1, shop_ids: [], permissions: [] };
    past.entries.set(entry, known);
  }
  known.version = version ?? known.version;
  known.shop_ids = shop_ids?.[1] ?? known.shop_ids;
  known.permissions = permissions?.[1] ?? known.permissions;
  for (const { shop, permission, after } of rights) {
    const pair = pairOf({ shop, permission });
    if (after === null) known.rights.delete(pair);
    else {
      const until = after.until === null ? null : Date.parse(after.until);
      known.rights.set(pair, { shop, permission, until, event: id });
    }
  }
}

/**
 * The company as it was at a moment: its lines up to then, one after the other.
 * @param lines in order of number; their times never go back
 * @param until milliseconds since 1970; lines of that very moment count
 */
export function replay(lines: Iterable<StaffEvent>, until = Number.POSITIVE_INFINITY): Past {
  const past = nothing();
  for (const line of lines) {
    if (Date.parse(line.at) > until) break;
    follow(past, line);
  }
  return past;
}

/** Somebody who held a right. */
export interface Holder {
  readonly account: number;
  /** Null: an owner without an entry. */
  readonly entry: number | null;
  readonly as: 'owner' | 'entry';
  /** ISO 8601; null: without end, as things stood. */
  readonly until: string | null;
  /** The line that gave it. */
  readonly event: string | null;
}

/** Who held a right in a shop at a moment, the owner first, then in order of entry. @param at milliseconds since 1970 */
export function holdersIn(past: Past, asked: { shop: number; permission: Permission }, at: number): Holder[] {
  if (!past.shops.has(asked.shop)) return [];
  const entries = [...past.entries.values()].sort((one, other) => one.entry - other.entry);
  const holders: Holder[] = [];
  if (past.owner !== null) {
    const own = entries.find(({ account }) => account === past.owner);
    holders.push({
      account: past.owner,
      entry: own?.entry ?? null,
      as: 'owner',
      until: null,
      event: past.ownerEvent,
    });
  }
  for (const { entry, account, rights } of entries) {
    const right = account === past.owner ? undefined : rights.get(pairOf(asked));
    if (right === undefined || (right.until !== null && right.until <= at)) continue;
    const until = right.until === null ? null : new Date(right.until).toISOString();
    holders.push({ account, entry, as: 'entry', until, event: right.event });
  }
  return holders;
}

/** Lines that are read at once: each can be long. */
const PAGE = 500;

/** All lines of a company, first to last, read in pieces; in a transaction of one snapshot they are those of one moment. */
export async function* linesOf(ctx: Ctx, company: number): AsyncGenerator<StoredLine> {
  let after = 0;
  for (;;) {
    const rows = await ctx.db.rows<StoredLine>(sql`
      select s.id, s.company, s.number, s.kind, s.entry, s.account, s.actor, s.at, s.line, s.hash, e.salt, e.evidence,
             a.id is null and s.actor ~ '^(account|operator):' as actor_gone
        from staff_event s
        left join staff_evidence e on e.event = s.id
        left join account a on a.id = substring(s.actor from '^(?:account|operator):([0-9]+)$')::bigint
       where s.company = ${company} and s.number > ${after} order by s.number limit ${PAGE}`);
    yield* rows;
    if (rows.length < PAGE) return;
    after = rows.at(-1)!.number;
  }
}

/** The lines up to a moment that have a say in who holds one pair: those that name it, and those of owners, shops and removals. */
async function* linesAbout(
  ctx: Ctx,
  company: number,
  { shop, permission, at = null }: { shop: number; permission: Permission; at?: Date | null | undefined },
): AsyncGenerator<string> {
  // As `JSON.stringify` writes it. The lines of the migration have spaces, and are all of the kind `recorded`.
  const pair = `%"shop":${shop},"permission":"${permission.replaceAll('_', '\\_')}",%`;
  let after = 0;
  for (;;) {
    const rows = await ctx.db.rows<{ number: number; line: string }>(sql`
      select number, line from staff_event
       where company = ${company} and number > ${after} and (${at}::timestamptz is null or at <= ${at})
         and (kind in ('recorded', 'company_made', 'shop_made', 'owner_changed', 'entry_removed') or line like ${pair})
       order by number limit ${PAGE}`);
    for (const { line } of rows) yield line;
    if (rows.length < PAGE) return;
    after = rows.at(-1)!.number;
  }
}

/** A line as it is stored, with its evidence as long as that is kept. */
export interface StoredLine {
  readonly id: string;
  readonly company: number;
  readonly number: number;
  readonly kind: string;
  readonly entry: number | null;
  readonly account: number | null;
  readonly actor: string;
  readonly at: Date;
  readonly line: string;
  readonly hash: Buffer;
  readonly salt: Buffer | null;
  readonly evidence: Record<string, unknown> | null;
  /** Whoever did it was erased. */
  readonly actor_gone: boolean;
}

/**
 * Who could do something in a shop at a moment, by replay of the lines up to then. Whether their account was switched on,
 * and its address proven, the history does not say.
 * @param at absent: now, whatever the clock of the machine that wrote the last line said
 * @throws invalid for a shop that is none of the company's
 */
export async function whoCould(
  ctx: Ctx,
  company: number,
  { shop, permission, at }: { shop: number; permission: Permission; at?: Date | undefined },
): Promise<(Holder & { email: string | null })[]> {
  const known = await ctx.db.one(sql`select from shop where id = ${shop} and company = ${company}`);
  if (known === undefined) refuse({ path: ['shop'], key: 'staff.foreign_shop', values: { shop: String(shop) } });
  const past = nothing();
  for await (const line of linesAbout(ctx, company, { shop, permission, at }))
    follow(past, JSON.parse(line) as StaffEvent);
  const holders = holdersIn(past, { shop, permission }, (at ?? ctx.clock.now()).getTime());
  const accounts = await ctx.db.rows<{ id: number; email: string }>(
    sql`select id, email from account where id = any (${holders.map(({ account }) => account)}::bigint[])`,
  );
  const addresses = new Map(accounts.map(({ id, email }) => [id, email]));
  return holders.map((holder) => ({ ...holder, email: addresses.get(holder.account) ?? null }));
}

/** A line as it is shown. */
export interface ShownLine {
  readonly id: string;
  readonly number: number;
  readonly kind: EventKind;
  readonly actor: string;
  readonly at: string;
  readonly reason: string | null;
  readonly entry: number | null;
  readonly account: number | null;
  /** Address of the account today; null: it was erased. */
  readonly email: string | null;
  readonly [more: string]: unknown;
}

/** Which lines, newest first. */
export interface HistoryFilter {
  readonly entry?: number | undefined;
  readonly account?: number | undefined;
  readonly kind?: EventKind | undefined;
  /** Number of the last line of the page before. */
  readonly after?: number | undefined;
  readonly limit: number;
}

/** Bytes of lines on a page, give or take a line: one that gives everything in a thousand shops has a million. */
const PAGE_BYTES = 2_000_000;

/** Lines as they are shown: everything they say, null where they say nothing. Fewer than `limit` where they are long. */
export async function listHistory(
  ctx: Ctx,
  company: number,
  filter: HistoryFilter,
): Promise<{ readonly items: ShownLine[]; readonly more: boolean }> {
  const { entry = null, account = null, kind = null, after = null, limit } = filter;
  const rows = await ctx.db.rows<{
    line: string;
    email: string | null;
    evidence: StoredLine['evidence'];
    found: number;
  }>(sql`
    select s.line, a.email, e.evidence, p.found
      from (
        select f.id, count(*) over ()::int as found,
               coalesce(sum(bytes) over (order by number desc rows between unbounded preceding and 1 preceding), 0) as before
          from (
            select s.id, s.number, octet_length(s.line) as bytes from staff_event s
             where s.company = ${company}
               and (${after}::bigint is null or s.number < ${after})
               and (${entry}::bigint is null or s.entry = ${entry})
               and (${account}::bigint is null or s.account = ${account})
               and (${kind}::text is null or s.kind = ${kind})
             order by s.number desc limit ${limit + 1}) f) p
      join staff_event s on s.id = p.id
      left join account a on a.id = s.account left join staff_evidence e on e.event = s.id
     where p.before < ${PAGE_BYTES} order by s.number desc limit ${limit}`);
  const items = rows.map(({ line, email, evidence }) => {
    const event = JSON.parse(line) as StaffEvent;
    return {
      id: event.id,
      number: event.number,
      kind: event.kind,
      entry: event.entry ?? null,
      account: event.account ?? null,
      email,
      actor: event.actor,
      at: event.at,
      reason: event.reason,
      shop_ids: event.shop_ids ?? null,
      permissions: event.permissions ?? null,
      rights: event.rights ?? null,
      owner: event.owner ?? null,
      shops: event.shops ?? null,
      shown: event.shown ?? null,
      origin:
        evidence === null || evidence['ip'] === undefined
          ? null
          : { ip: evidence['ip'], user_agent: evidence['user_agent'] ?? null },
    };
  });
  return { items, more: (rows[0]?.found ?? 0) > rows.length };
}
