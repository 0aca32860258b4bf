/** Companies and shops: what colleagues see of them, and the verbs by which operators make and change them. */
import { accountForRights, againIfTaken } from '../../accounts/invitations.ts';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql, violated } from '../../platform/db.ts';
import { canonical } from '../../platform/evidence.ts';
import { fail } from '../../platform/failure.ts';
import { ownEntries } from '../entries/entries.ts';
import { atTime, changesBetween, lastingShops, managesForGood, pairOf, type Right } from '../entries/rights.ts';
import { type Company, loadCompanies, lockCompanies, storeChanges } from '../entries/state.ts';
import { type Author, type Happening, type Head, nextLines, storeLines } from '../history/lines.ts';
import { permissionKeys } from '../permissions.ts';

/** Texts by language: {"nl":"…","en":"…"} */
export type Texts = Readonly<Record<string, string>>;

export interface CompanyView {
  readonly id: number;
  readonly name: Texts;
  /** What customers see; rights hold in a company or shop that is closed too. */
  readonly active: boolean;
}

export type ShopView = CompanyView;

/** Companies in which an account has an entry, or which it owns. */
export const companiesOf = (ctx: Ctx, account: number): Promise<CompanyView[]> =>
  ctx.db.rows(sql`
    select c.id, c.name, c.active from company c
     where c.owner = ${account} or exists (select from entry e where e.company = c.id and e.account = ${account}) order by c.id`);

/** One of them. @throws not_found, also for a company that exists but is none of the caller's business */
export const companyOf = async (ctx: Ctx, account: number, company: number): Promise<CompanyView> =>
  (await companiesOf(ctx, account)).find(({ id }) => id === company) ?? fail('not_found');

/** Shops of a company; a colleague sees those of the entry, the owner all. @throws not_found */
export async function shopsOf(ctx: Ctx, account: number, company: number): Promise<ShopView[]> {
  const [own] = await Promise.all([ownEntries(ctx, account), companyOf(ctx, account, company)]);
  const shops = own.find((entry) => entry.company === company)?.shop_ids ?? [];
  return ctx.db.rows<ShopView>(sql`
    select s.id, s.name, s.active from shop s join company c on c.id = s.company
     where s.company = ${company} and (c.owner = ${account} or s.id = any (${shops}::bigint[])) order by s.id`);
}

/** A company as those see it who look after it. */
export interface CompanyRecord extends CompanyView {
  /** Address of the owner; null: there is none. */
  readonly owner: string | null;
  readonly shops: ShopView[];
}

/** Which companies. */
interface CompanyFilter {
  readonly company?: number | undefined;
  /** Those that this account owns or manages at this moment; null: whoever's. */
  readonly manager?: number | null | undefined;
  /** Id of the last company of the page before. */
  readonly after?: number | undefined;
  /** Absent: all of them. */
  readonly limit?: number | undefined;
}

/** Companies in full, in order of id. */
export const companyRecords = (
  ctx: Ctx,
  { company, manager = null, after, limit }: CompanyFilter = {},
): Promise<CompanyRecord[]> =>
  ctx.db.rows(sql`
    select c.id, c.name, c.active, a.email as owner,
           coalesce((select jsonb_agg(jsonb_build_object('id', s.id, 'name', s.name, 'active', s.active) order by s.id)
                       from shop s where s.company = c.id), '[]') as shops
      from company c left join account a on a.id = c.owner
     where (${company ?? null}::bigint is null or c.id = ${company ?? null}) and c.id > ${after ?? 0}
       and (${manager}::bigint is null or c.owner = ${manager}
            or exists (select from entry e left join entry_right r on r.entry = e.id and r.permission = 'permissions'
                        where e.company = c.id and e.account = ${manager} and 'permissions' = any (e.permissions)
                          and (r.entry is null or r.until is null or r.until > ${ctx.clock.now()})))
     order by c.id limit ${limit ?? null}::bigint`);

/** One of them. @throws not_found */
export const companyRecord = async (ctx: Ctx, company: number): Promise<CompanyRecord> =>
  (await companyRecords(ctx, { company }))[0] ?? fail('not_found');

const command: Author = { name: 'command', evidence: {} };

/** Writes lines of a company. @returns the end of its history after them */
async function tell(ctx: Ctx, head: Head, author: Author, ...happenings: Happening[]): Promise<Head> {
  const lines = nextLines(head, author, happenings, ctx.clock.now().getTime());
  await storeLines(ctx, lines);
  const { event, hash } = lines.at(-1)!;
  return { company: head.company, events: event.number, head: hash, last: Date.parse(event.at) };
}

/** A company in the transaction that holds its row, with the entry of an account. */
const stateOf = async (ctx: Ctx, company: number, account?: number): Promise<Company> =>
  (await loadCompanies(ctx, [{ company, caller: null, ...(account === undefined ? {} : { account }) }])).get(company)!;

/** Gives an account every right in every shop, for good; an entry where it has none. One line, or none. */
async function endow(ctx: Ctx, company: Company, author: Author, account: number, entryId?: number): Promise<void> {
  let entry = company.entries.find((one) => one.account === account);
  const kind = entry === undefined ? 'entry_made' : 'rights_changed';
  if (entry === undefined) {
    const made = await ctx.db.one<{ id: number }>(sql`
      insert into entry (id, company, account, created_at)
      values (coalesce(${entryId ?? null}, nextval(pg_get_serial_sequence('entry', 'id'))), ${company.company}, ${account}, ${ctx.clock.now()})
      returning id`);
    const nothing = { shop_ids: [], permissions: [], rights: [], version: 0, acts: true, email: '' };
    entry = { id: made!.id, account, ...nothing };
  }
  const held = new Map(entry.rights.map((right) => [pairOf(right), right]));
  const rights = [...company.shops].flatMap((shop) =>
    permissionKeys.map((permission): Right => {
      const right = held.get(pairOf({ shop, permission }));
      return right?.until === null ? right : { shop, permission, until: null, event: null };
    }),
  );
  const shop_ids = [...new Set([...entry.shop_ids, ...company.shops])];
  const changes = changesBetween(entry.rights, rights);
  const whole = shop_ids.length === entry.shop_ids.length && permissionKeys.length === entry.permissions.length;
  if (kind === 'rights_changed' && changes.length === 0 && whole) return;
  const after = { ...entry, shop_ids, permissions: permissionKeys, rights, version: entry.version + 1 };
  await storeChanges(ctx, [{ company, author, kind, decided: { before: entry, after, changes } }]);
}

export interface NewCompany {
  readonly name: Texts;
  /** E-mail address; one that nobody has proven is invited. */
  readonly owner: string;
  readonly shops: readonly Texts[];
  /** Of the invitation. */
  readonly language: string;
  /** Fixed ids, for the demo. */
  readonly ids?: { company: number; shops: readonly number[]; entry: number };
  /** Of the request that asks for it, so that the same request makes no second one. */
  readonly key?: string | undefined;
}

/**
 * Makes a company with its shops. Its owner gets an entry with everything; an address that nobody has proven is invited by mail.
 * @throws conflict when a fixed id is taken; throttled when the owner's address was mailed too often
 */
export async function createCompany(
  root: Ctx,
  { name, owner, shops, language, ids, key }: NewCompany,
  author: Author = command,
): Promise<CompanyRecord> {
  try {
    return await againIfTaken(root, (again) =>
      transaction(again, async (ctx) => {
        const now = ctx.clock.now();
        const made = await ctx.db.one<CompanyView>(sql`
          insert into company (id, name, request_key, created_at)
          values (coalesce(${ids?.company ?? null}, nextval(pg_get_serial_sequence('company', 'id'))), ${JSON.stringify(name)}, ${key ?? null}, ${now})
          returning id, name, active`);
        const company = made!.id;
        const { id: account } = await accountForRights(ctx, owner, language, company);
        await ctx.db.run(sql`update company set owner = ${account} where id = ${company}`);
        const opened: ShopView[] = [];
        for (const [index, shop] of shops.entries()) opened.push(await openShop(ctx, company, shop, ids?.shops[index]));
        const state = await stateOf(ctx, company);
        const head = await tell(ctx, state, author, {
          kind: 'company_made',
          shops: opened.map(({ id }) => id),
          owner: [null, account],
          shown: [null, made!],
        });
        await endow(ctx, { ...state, ...head }, author, account, ids?.entry);
        return { ...made!, shops: opened, owner };
      }),
    );
  } catch (error) {
    if (['company_pkey', 'shop_pkey', 'entry_pkey'].includes(violated(error) ?? '')) fail('conflict');
    throw error;
  }
}

/** As `createCompany`, once for a key: asked again, the company that it made is answered. */
export async function createCompanyOnce(
  ctx: Ctx,
  company: NewCompany,
  author: Author,
): Promise<{ company: CompanyRecord; existed: boolean }> {
  const made = async (): Promise<CompanyRecord | undefined> => {
    if (company.key === undefined) return undefined;
    const found = await ctx.db.one<{ id: number }>(sql`select id from company where request_key = ${company.key}`);
    return found === undefined ? undefined : companyRecord(ctx, found.id);
  };
  const before = await made();
  if (before !== undefined) return { company: before, existed: true };
  try {
    return { company: await createCompany(ctx, company, author), existed: false };
  } catch (error) {
    // The same request at the same time was first.
    const other = violated(error) === 'company_request_key' ? await made() : undefined;
    if (other === undefined) throw error;
    return { company: other, existed: true };
  }
}

const openShop = async (ctx: Ctx, company: number, name: Texts, id?: number): Promise<ShopView> =>
  (await ctx.db.one<ShopView>(sql`
    insert into shop (id, company, name, created_at)
    values (coalesce(${id ?? null}, nextval(pg_get_serial_sequence('shop', 'id'))), ${company}, ${JSON.stringify(name)}, ${ctx.clock.now()})
    returning id, name, active`))!;

/** Somebody who can act manages the company, and each shop of it, without end. */
function isManaged({ entries, shops }: Company, now: number): boolean {
  const live = entries.map((entry) => atTime(entry, now));
  return live.some(managesForGood) && shops.isSubsetOf(new Set(live.flatMap((entry) => [...lastingShops(entry)])));
}

/** Makes somebody else the owner, or nobody. Whoever it was keeps their entry, as a colleague like others. */
async function changeOwner(
  ctx: Ctx,
  company: number,
  before: number | null,
  { owner, language }: { owner: string | null; language: string },
  author: Author,
): Promise<void> {
  const account = owner === null ? null : (await accountForRights(ctx, owner, language, company)).id;
  if (account === before) return;
  await ctx.db.run(sql`update company set owner = ${account} where id = ${company}`);
  const state = await stateOf(ctx, company, account ?? undefined);
  if (account === null && !isManaged(state, ctx.clock.now().getTime())) fail('last_manager');
  const head = await tell(ctx, state, author, { kind: 'owner_changed', owner: [before, account] });
  if (account !== null) await endow(ctx, { ...state, ...head }, author, account);
}

/** What becomes different; absent: stays. */
export interface CompanyChange {
  readonly name?: Texts | undefined;
  readonly active?: boolean | undefined;
  /** E-mail address; null: the company goes without. */
  readonly owner?: string | null | undefined;
  /** Of the invitation of an owner. */
  readonly language: string;
}

/**
 * Changes a company; only operators do. A new owner gets everything, and is invited when nobody has proven the address.
 * @throws not_found; last_manager when without an owner nobody would manage it, or a shop of it, for good; throttled
 */
export function changeCompany(
  root: Ctx,
  company: number,
  { name, active, owner, language }: CompanyChange,
  author: Author = command,
): Promise<CompanyRecord> {
  return againIfTaken(root, (again) =>
    transaction(again, async (ctx) => {
      await lockCompanies(ctx, [company]);
      const found = await ctx.db.one<CompanyView & { owner: number | null }>(
        sql`select id, name, active, owner from company where id = ${company}`,
      );
      const { owner: before, ...shown } = found ?? fail('not_found');
      const next = { ...shown, name: name ?? shown.name, active: active ?? shown.active };
      if (canonical(next) !== canonical(shown)) {
        await ctx.db.run(
          sql`update company set name = ${JSON.stringify(next.name)}, active = ${next.active} where id = ${company}`,
        );
        await tell(ctx, await stateOf(ctx, company), author, { kind: 'company_changed', shown: [shown, next] });
      }
      if (owner !== undefined) await changeOwner(ctx, company, before, { owner, language }, author);
      return companyRecord(ctx, company);
    }),
  );
}

/** Opens a shop; the owner's entry gets every right in it. Only operators do. @throws not_found */
export function addShop(root: Ctx, company: number, name: Texts, author: Author = command): Promise<ShopView> {
  return transaction(root, async (ctx) => {
    await lockCompanies(ctx, [company]);
    const found = await ctx.db.one<{ owner: number | null }>(sql`select owner from company where id = ${company}`);
    const { owner } = found ?? fail('not_found');
    const shop = await openShop(ctx, company, name);
    const state = await stateOf(ctx, company, owner ?? undefined);
    const head = await tell(ctx, state, author, { kind: 'shop_made', shops: [shop.id], shown: [null, shop] });
    if (owner !== null) await endow(ctx, { ...state, ...head }, author, owner);
    return shop;
  });
}

/** Changes what is shown of a shop. Only operators do. @throws not_found, also for a shop of another company */
export function changeShop(
  root: Ctx,
  { company, shop }: { company: number; shop: number },
  { name, active }: { name?: Texts | undefined; active?: boolean | undefined },
  author: Author = command,
): Promise<ShopView> {
  return transaction(root, async (ctx) => {
    await lockCompanies(ctx, [company]);
    const found = await ctx.db.one<ShopView>(
      sql`select id, name, active from shop where id = ${shop} and company = ${company}`,
    );
    const shown = found ?? fail('not_found');
    const next = { ...shown, name: name ?? shown.name, active: active ?? shown.active };
    if (canonical(next) === canonical(shown)) return shown;
    await ctx.db.run(
      sql`update shop set name = ${JSON.stringify(next.name)}, active = ${next.active} where id = ${shop}`,
    );
    await tell(ctx, await stateOf(ctx, company), author, { kind: 'shop_changed', shown: [shown, next] });
    return next;
  });
}
