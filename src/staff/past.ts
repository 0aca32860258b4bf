/** What the history of a company says: its lines, who held what at any moment, by going through them again. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';
import type { EventKind, StaffEvent } from './history.ts';
import type { Permission } from './permissions.ts';
import { pairOf, type Right } from './rights.ts';

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

/** Lines that are read at once. */
const PAGE = 2000;

/** All lines of a company, first to last, read in pieces; in a transaction of one snapshot they are those of one moment. */
export async function* linesOf(ctx: Ctx, company: number): AsyncGenerator<StoredLine> {
  let after = 0;
  for (;;) {
    const rows = await ctx.db.rows<StoredLine>(sql`
      select s.id, s.company, s.number, s.kind, s.entry, s.account, s.actor, s.at, s.line, s.hash, e.salt, e.evidence
        from staff_event s left join staff_evidence e on e.event = s.id
       where s.company = ${company} and s.number > ${after} order by s.number limit ${PAGE}`);
    yield* rows;
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
}

/**
 * Who could do something in a shop at a moment, by replay of the lines up to then. Whether their account was switched on,
 * and its address proven, the history does not say.
 * @throws invalid for a shop that is none of the company's
 */
export async function whoCould(
  ctx: Ctx,
  company: number,
  { shop, permission, at }: { shop: number; permission: Permission; at: Date },
): Promise<(Holder & { email: string | null })[]> {
  const known = await ctx.db.one(sql`select from shop where id = ${shop} and company = ${company}`);
  if (known === undefined) refuse({ path: ['shop'], key: 'staff.foreign_shop', values: { shop: String(shop) } });
  const past = nothing();
  for await (const { line } of linesOf(ctx, company)) {
    const event = JSON.parse(line) as StaffEvent;
    if (Date.parse(event.at) > at.getTime()) break;
    follow(past, event);
  }
  const holders = holdersIn(past, { shop, permission }, at.getTime());
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

/** Lines as they are shown: everything they say, null where they say nothing. */
export async function listHistory(ctx: Ctx, company: number, filter: HistoryFilter): Promise<ShownLine[]> {
  const { entry = null, account = null, kind = null, after = null, limit } = filter;
  const rows = await ctx.db.rows<{ line: string; email: string | null; evidence: StoredLine['evidence'] }>(sql`
    select s.line, a.email, e.evidence
      from staff_event s left join account a on a.id = s.account left join staff_evidence e on e.event = s.id
     where s.company = ${company}
       and (${after}::bigint is null or s.number < ${after})
       and (${entry}::bigint is null or s.entry = ${entry})
       and (${account}::bigint is null or s.account = ${account})
       and (${kind}::text is null or s.kind = ${kind})
     order by s.number desc limit ${limit}`);
  return rows.map(({ line, email, evidence }) => {
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
}
