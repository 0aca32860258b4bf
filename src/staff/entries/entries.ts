/** Entries of companies: listing, making, changing, removing. Check and write happen under one lock, the company's row. */
import { findByEmail } from '../../accounts/accounts.ts';
import { accountForRights, againIfTaken, endInvitation, invite } from '../../accounts/invitations.ts';
import { batched } from '../../platform/batch.ts';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { Failure, fail } from '../../platform/failure.ts';
import { type Author, nextLines, storeLines } from '../history/lines.ts';
import type { Wish } from './changes.ts';
import { requireUnchanged } from './merge.ts';
import { atTime, changesBetween, type Entry } from './rights.ts';
import { type Caller, type Decided, decide, requireManager } from './rules.ts';
import {
  type Change,
  type Company,
  type EntryView,
  entryOf,
  loadCompanies,
  lockCompanies,
  lookAt,
  type Scope,
  storeChanges,
} from './state.ts';

/** Strong ETag of an entry (RFC 9110, 8.8.3): a right that ends changes the entry, though nobody wrote. */
export const entryTag = ({ version, rights }: Entry): string => `"${version}.${rights.length}"`;

/** A company whose entries the caller may see. @throws not_found, missing_permission, second_factor_required */
async function managed(ctx: Ctx, caller: Caller, scope: Omit<Scope, 'caller'>): Promise<Company> {
  const found = (await lookAt(ctx, { ...scope, caller: caller.account })) ?? fail('not_found');
  requireManager(found, caller, ctx.clock.now().getTime());
  return found;
}

/** All entries of a company in the documented shape, oldest first. @throws as `readEntry` */
export async function listEntries(ctx: Ctx, caller: Caller, company: number): Promise<Omit<EntryView, 'rights'>[]> {
  await managed(ctx, caller, { company });
  const now = ctx.clock.now();
  // The shape alone says it, unless a right ended that nobody swept: a thousand shops have millions of rights.
  const rows = await ctx.db.rows<Parameters<typeof entryOf>[0]>(sql`
    select e.id, e.company, e.account, e.shop_ids, e.permissions, e.version, a.email,
           a.is_active and a.email_verified_at is not null as acts,
           coalesce((select jsonb_agg(in_short(r)) from entry_right r where r.entry = e.id
                        and exists (select from entry_right o where o.entry = e.id and o.until <= ${now})), '[]') as rights
      from entry e join account a on a.id = e.account where e.company = ${company} order by e.id`);
  return rows.map((row) => atTime(entryOf(row), now.getTime()));
}

/** Own rights, one entry a company, in order of entry. */
export async function ownEntries(ctx: Ctx, account: number): Promise<(EntryView & { readonly company: number })[]> {
  const rows = await ctx.db.rows<Parameters<typeof entryOf>[0]>(sql`
    select e.id, e.company, e.account, e.shop_ids, e.permissions, e.version, a.email,
           a.is_active and a.email_verified_at is not null as acts,
           coalesce((select jsonb_agg(in_short(r)) from entry_right r where r.entry = e.id), '[]') as rights
      from entry e join account a on a.id = e.account where e.account = ${account} order by e.id`);
  const now = ctx.clock.now().getTime();
  return rows.map((row) => ({ ...atTime(entryOf(row), now), company: row.company }));
}

/** One entry. @throws not_found, missing_permission, second_factor_required */
export async function readEntry(ctx: Ctx, caller: Caller, company: number, target: number): Promise<EntryView> {
  const { entries } = await managed(ctx, caller, { company, target });
  const found = entries.find(({ id }) => id === target) ?? fail('not_found');
  return atTime(found, ctx.clock.now().getTime());
}

/** Takes an invitation back when nothing is left that it is for. */
async function uninvite(ctx: Ctx, account: number): Promise<void> {
  // Whoever invites them at this moment holds the row, and is counted after that.
  await ctx.db.run(sql`select from account where id = ${account} for no key update`);
  const still = await ctx.db.one(sql`
    select from entry where account = ${account} union all select from company where owner = ${account} limit 1`);
  if (still === undefined) await endInvitation(ctx, account);
}

/**
 * Mails an invitation again; the link of the one before it ends. Within a minute of the last one nothing is sent.
 * @throws not_found, missing_permission, second_factor_required, throttled; conflict when it was accepted, or the account
 * is switched off
 */
export async function resendInvitation(
  ctx: Ctx,
  { caller, company, entry, language }: { caller: Caller; company: number; entry: number; language: string },
): Promise<void> {
  const { account } = await readEntry(ctx, caller, company, entry);
  const waits = await ctx.db.one(
    sql`select from account where id = ${account} and is_active and email_verified_at is null`,
  );
  if (waits === undefined) fail('conflict');
  await invite(ctx, account, language, company);
}

interface NewEntry {
  readonly caller: Caller;
  readonly author: Author;
  readonly company: number;
  readonly email: string;
  /** Of the invitation. */
  readonly language: string;
  /** Nothing is made and nobody invited: the answer says what would be. */
  readonly dry?: boolean;
}

/** An entry as it was made, or was there. */
export interface Made {
  /** Null: it would be made, and was not. */
  readonly entry: EntryView | null;
  readonly existed: boolean;
  /** A mail with a link goes out, because nobody has proven the address. */
  readonly invited: boolean;
}

/** Whether somebody would be mailed: an address that is nobody's, or that nobody has proven and whose account is not off. */
const wouldInvite = (known: { readonly proven: boolean; readonly is_active: boolean } | undefined): boolean =>
  known === undefined || (known.is_active && !known.proven);

async function makeEntry(root: Ctx, { caller, author, company, email, language, dry }: NewEntry): Promise<Made> {
  return transaction(root, async (ctx) => {
    if (!dry) await lockCompanies(ctx, [company]);
    const known = await findByEmail(ctx, email);
    const scope = { company, caller: caller.account, ...(known === undefined ? {} : { account: known.id }) };
    const state = (await loadCompanies(ctx, [scope])).get(company) ?? fail('not_found');
    const now = ctx.clock.now();
    requireManager(state, caller, now.getTime());
    const existing = state.entries.find(({ account }) => account === known?.id);
    if (existing !== undefined) return { entry: atTime(existing, now.getTime()), existed: true, invited: false };
    if (dry) return { entry: null, existed: false, invited: wouldInvite(known) };
    const { invited, ...account } = await accountForRights(ctx, email, language, company);
    const made = await ctx.db.one<{ id: number }>(sql`
      insert into entry (company, account, created_at) values (${company}, ${account.id}, ${now}) returning id`);
    const entry = { id: made!.id, account: account.id, shop_ids: [], permissions: [], rights: [], version: 1 };
    await storeLines(
      ctx,
      nextLines(
        state,
        author,
        [{ kind: 'entry_made', entry: entry.id, account: account.id, version: 1 }],
        now.getTime(),
      ),
    );
    return { entry: { ...entry, email: account.email, acts: account.acts }, existed: false, invited };
  });
}

/**
 * Gives a colleague an entry without rights; an existing one is answered unchanged. An address that nobody has proven is
 * invited by mail.
 * @throws not_found, missing_permission, second_factor_required, throttled
 */
export const createEntry = (ctx: Ctx, asked: NewEntry): Promise<Made> =>
  againIfTaken(ctx, (again) => makeEntry(again, asked));

/** A change that is asked for. */
export interface Asked {
  readonly caller: Caller;
  readonly author: Author;
  readonly company: number;
  readonly entry: number;
  readonly wish: Wish;
  /** ETags of If-Match; the change is refused when the entry has none of them any more. */
  readonly ifMatch?: readonly string[] | undefined;
  /** The version the caller had read: whoever changed the same pairs since is not overwritten. */
  readonly seen?: number | undefined;
}

/** What came of it, or would. */
export interface Outcome extends Decided {
  readonly email: string;
}

const checkTag =
  (ifMatch: readonly string[] | undefined) =>
  (entry: Entry): void => {
    if (ifMatch !== undefined && !ifMatch.includes('*') && !ifMatch.includes(entryTag(entry)))
      throw new Failure('precondition_failed');
  };

/** Decides what is asked, against its company as it was loaded. */
async function judge(ctx: Ctx, state: Company | undefined, asked: Asked, now: number): Promise<Outcome | Failure> {
  if (state === undefined) return new Failure('not_found');
  const { caller, entry, wish, ifMatch, seen } = asked;
  const decided = decide(state, caller, entry, wish, now, checkTag(ifMatch));
  if (decided instanceof Failure) return decided;
  if (seen !== undefined && decided.after !== decided.before && seen !== decided.before.version) {
    const conflict = await requireUnchanged(ctx, decided, seen);
    if (conflict !== undefined) return conflict;
  }
  return { ...decided, email: state.entries.find(({ id }) => id === entry)!.email };
}

const scopeOf = ({ company, caller, entry }: Asked): Scope => ({ company, caller: caller.account, target: entry });

async function changeEntries(root: Ctx, asked: Asked[]): Promise<(Outcome | Failure)[]> {
  return transaction(root, async (ctx) => {
    await lockCompanies(
      ctx,
      asked.map(({ company }) => company),
    );
    const companies = await loadCompanies(ctx, asked.map(scopeOf));
    const now = ctx.clock.now().getTime();
    const outcomes: (Outcome | Failure)[] = [];
    const changes: (Change & { readonly index: number })[] = [];
    for (const [index, one] of asked.entries()) {
      const { company, author, wish } = one;
      const outcome = await judge(ctx, companies.get(company), one, now);
      outcomes.push(outcome);
      if (outcome instanceof Failure) continue;
      const kind = wish.by === 'removal' ? 'entry_removed' : 'rights_changed';
      if (kind === 'rights_changed' && outcome.after === outcome.before) continue;
      changes.push({ company: companies.get(company)!, author, kind, decided: outcome, index });
    }
    const stored = await storeChanges(ctx, changes);
    const idle = new Set<number>();
    for (const [place, { kind, decided, index }] of changes.entries()) {
      outcomes[index] = { ...(outcomes[index] as Outcome), after: stored[place]! };
      if (kind === 'entry_removed' && !decided.before.acts) idle.add(decided.before.account);
    }
    // In order, as every lock.
    for (const account of [...idle].sort((one, other) => one - other)) await uninvite(ctx, account);
    return outcomes;
  });
}

/** One company at a time: a decision must see what the one before it did. */
const settle = batched<Asked, Outcome>({ key: ({ company }) => company, run: changeEntries });

/**
 * Changes or removes an entry within the limits of the caller's own rights; committed when it returns.
 * @throws not_found, missing_permission, missing_permission_in_shop, beyond_own_end, own_entry, owner_entry, last_manager,
 * unprocessable, precondition_failed, changed_since, second_factor_required
 */
export const changeEntry = (ctx: Ctx, asked: Asked): Promise<Outcome> => settle(ctx, asked);

/** What `changeEntry` would do, or refuse, at this moment; nothing is written. @throws as `changeEntry` */
export async function previewEntry(ctx: Ctx, asked: Asked): Promise<Outcome> {
  const state = (await loadCompanies(ctx, [scopeOf(asked)])).get(asked.company);
  const outcome = await judge(ctx, state, asked, ctx.clock.now().getTime());
  if (outcome instanceof Failure) throw outcome;
  return outcome;
}

/** Rights that are swept in one transaction. */
const SWEEP = 500;
const sweeper: Author = { name: 'system', evidence: {} };

/** Takes rights that ended out of the tables, with a line each; they have not held since their end. */
export async function sweepRights(root: Ctx): Promise<void> {
  for (;;) {
    const due = await root.db.rows<{ company: number; entry: number }>(sql`
      select distinct on (e.company) e.company, e.id as entry from entry_right r join entry e on e.id = r.entry
       where r.until <= ${root.clock.now()} order by e.company, e.id limit ${SWEEP}`);
    if (due.length === 0) return;
    await transaction(root, async (ctx) => {
      await lockCompanies(
        ctx,
        due.map(({ company }) => company),
      );
      const companies = await loadCompanies(
        ctx,
        due.map(({ company, entry: target }) => ({ company, caller: null, target })),
      );
      const now = ctx.clock.now().getTime();
      const changes = due.flatMap(({ company, entry }): Change[] => {
        const state = companies.get(company)!;
        const before = state.entries.find(({ id }) => id === entry);
        const live = before === undefined ? undefined : atTime(before, now);
        if (before === undefined || live === undefined || live === before) return [];
        const after = { ...live, version: before.version + 1 };
        const decided = { before, after, changes: changesBetween(before.rights, after.rights) };
        return [{ company: state, author: sweeper, kind: 'rights_ended', decided }];
      });
      await storeChanges(ctx, changes);
    });
  }
}
