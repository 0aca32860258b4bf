/** Entries of companies: listing, creating, changing, removing. Check and write happen under one lock, the company's row. */
import { findByEmail } from '../accounts/accounts.ts';
import { accountForRights } from '../accounts/invitations.ts';
import { batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure, fail } from '../platform/failure.ts';
import {
  type AskedChange,
  type CompanyState,
  decideEntry,
  decideRemoval,
  type Entry,
  requireManager,
} from './rules.ts';

/** An entry with the address of its colleague. */
export interface EntryView extends Entry {
  readonly email: string;
}

interface Company extends CompanyState {
  readonly entries: EntryView[];
}

/**
 * Companies with all that decisions about their entries need, in two statements for any number of them.
 * @param lock takes the companies' rows, in order of id, until the transaction ends: whoever changes rights goes one by one
 */
async function loadCompanies(ctx: Ctx, ids: readonly number[], lock: boolean): Promise<Map<number, Company>> {
  const locked = lock
    ? ctx.db.rows(sql`select id from company where id = any (${ids}::bigint[]) order by id for no key update`)
    : [];
  const [, companies, entries] = await Promise.all([
    locked,
    ctx.db.rows<{ id: number; owner: number | null; shops: number[] }>(sql`
      select c.id, c.owner, array(select s.id from shop s where s.company = c.id order by s.id) as shops
        from company c where c.id = any (${ids}::bigint[])`),
    ctx.db.rows<EntryView & { company: number }>(sql`
      select e.id, e.company, e.account, e.shop_ids, e.permissions, e.version, a.email
        from entry e join account a on a.id = e.account where e.company = any (${ids}::bigint[]) order by e.id`),
  ]);
  const found = new Map<number, Company>();
  for (const { id, owner, shops } of companies) found.set(id, { owner, shops: new Set(shops), entries: [] });
  for (const { company, ...entry } of entries) found.get(company)!.entries.push(entry);
  return found;
}

/** One company for a reader who manages it. @throws not_found, missing_permission */
async function managedCompany(ctx: Ctx, caller: number, company: number, lock = false): Promise<Company> {
  const found = (await loadCompanies(ctx, [company], lock)).get(company) ?? fail('not_found');
  requireManager(found, caller);
  return found;
}

/** All entries of a company, oldest first. @throws not_found, missing_permission */
export const listEntries = async (ctx: Ctx, caller: number, company: number): Promise<EntryView[]> =>
  (await managedCompany(ctx, caller, company)).entries;

/** One entry. @throws not_found, missing_permission */
export const readEntry = async (ctx: Ctx, caller: number, company: number, entry: number): Promise<EntryView> =>
  (await managedCompany(ctx, caller, company)).entries.find(({ id }) => id === entry) ?? fail('not_found');

async function giveEntry(
  root: Ctx,
  caller: number,
  company: number,
  email: string,
  language: string,
): Promise<EntryView> {
  return transaction(root, async (ctx) => {
    const { entries } = await managedCompany(ctx, caller, company, true);
    const known = await findByEmail(ctx, email);
    const existing = entries.find(({ account }) => account === known?.id);
    if (existing !== undefined) return existing;
    const account = await accountForRights(ctx, email, language);
    const made = await ctx.db.one<Entry>(sql`
      insert into entry (company, account, created_at) values (${company}, ${account.id}, ${ctx.clock.now()})
      returning id, account, shop_ids, permissions, version`);
    return { ...made!, email: account.email };
  });
}

/**
 * Gives a colleague an entry without rights; an existing one is returned unchanged. An address that nobody has
 * proven is invited by mail.
 * @throws not_found, missing_permission
 */
export const createEntry = (...asked: Parameters<typeof giveEntry>): Promise<EntryView> =>
  // An address can become known between the look and the account: another company invites it, or its owner registers.
  giveEntry(...asked).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'invalid') return giveEntry(...asked);
    throw error;
  });

interface Asked {
  readonly caller: number;
  readonly company: number;
  readonly entry: number;
  /** Absent: the entry is to be removed. */
  readonly change?: AskedChange;
}

async function changeEntries(root: Ctx, asked: Asked[]): Promise<(EntryView | Failure)[]> {
  return transaction(root, async (ctx) => {
    const companies = await loadCompanies(
      ctx,
      asked.map(({ company }) => company),
      true,
    );
    const saved: Entry[] = [];
    const removed: number[] = [];
    const outcomes = asked.map(({ caller, company, entry, change }) => {
      const state = companies.get(company);
      if (state === undefined) return new Failure('not_found');
      const decision =
        change === undefined ? decideRemoval(state, caller, entry) : decideEntry(state, caller, entry, change);
      if (decision instanceof Failure) return decision;
      const index = state.entries.findIndex(({ id }) => id === entry);
      const before = state.entries[index]!;
      if (change === undefined) removed.push(entry);
      else if (decision !== before) saved.push(decision);
      return { ...decision, email: before.email };
    });
    await Promise.all([
      saved.length === 0
        ? 0
        : ctx.db.run(sql`
            update entry e set shop_ids = u.shop_ids, permissions = u.permissions, version = u.version
              from jsonb_populate_recordset(null::entry, ${JSON.stringify(saved)}::jsonb) u where e.id = u.id`),
      removed.length === 0 ? 0 : ctx.db.run(sql`delete from entry where id = any (${removed}::bigint[])`),
    ]);
    return outcomes;
  });
}

/** One company at a time: a decision must see what the one before it did. */
const settle = batched<Asked, EntryView>({ key: ({ company }) => company, run: changeEntries });

/**
 * Changes an entry within the limits of the caller's own rights; committed when it returns.
 * @throws not_found, missing_permission, own_entry, owner_entry, last_manager, unprocessable
 */
export const changeEntry = (ctx: Ctx, asked: Required<Asked>): Promise<EntryView> => settle(ctx, asked);

/** Removes an entry. @throws as `changeEntry` */
export const removeEntry = async (ctx: Ctx, asked: Omit<Asked, 'change'>): Promise<void> =>
  void (await settle(ctx, asked));
