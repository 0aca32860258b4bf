/** Companies and shops: what colleagues see of them, and the verbs by which operators make them. */
import { accountForRights } from '../accounts/invitations.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import { fail } from '../platform/failure.ts';
import { permissionKeys } from './permissions.ts';

/** Texts by language: {"nl":"…","en":"…"} */
export type Texts = Readonly<Record<string, string>>;

export interface CompanyView {
  readonly id: number;
  readonly name: Texts;
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
  await companyOf(ctx, account, company);
  return ctx.db.rows<ShopView>(sql`
    select s.id, s.name, s.active from shop s join company c on c.id = s.company
     where s.company = ${company}
       and (c.owner = ${account} or exists (select from entry e where e.company = c.id and e.account = ${account} and s.id = any (e.shop_ids)))
     order by s.id`);
}

/** Own rights, one row a company, in order of entry. */
export const ownEntries = (
  ctx: Ctx,
  account: number,
): Promise<{ id: number; company: number; shop_ids: number[]; permissions: string[] }[]> =>
  ctx.db.rows(sql`select id, company, shop_ids, permissions from entry where account = ${account} order by id`);

/** All companies, for operators. */
export const allCompanies = (ctx: Ctx): Promise<(CompanyView & { owner: string | null; shops: ShopView[] })[]> =>
  ctx.db.rows(sql`
    select c.id, c.name, c.active, a.email as owner,
           coalesce((select jsonb_agg(jsonb_build_object('id', s.id, 'name', s.name, 'active', s.active) order by s.id)
                       from shop s where s.company = c.id), '[]') as shops
      from company c left join account a on a.id = c.owner order by c.id`);

/**
 * Makes a company with its shops. Its owner gets an entry with everything; an address that nobody has proven is invited by mail.
 * @param ids fixed ids, for the demo
 * @throws conflict when a fixed id is taken
 */
export function createCompany(
  root: Ctx,
  company: {
    name: Texts;
    owner: string;
    shops: readonly Texts[];
    language: string;
    ids?: { company: number; shops: readonly number[]; entry: number };
  },
): Promise<CompanyView & { shops: ShopView[]; owner: string }> {
  return transaction(root, async (ctx) => {
    const now = ctx.clock.now();
    const { name, owner, shops, language, ids } = company;
    const { id: account } = await accountForRights(ctx, owner, language);
    try {
      const made = await ctx.db.one<CompanyView>(sql`
        insert into company (id, name, owner, created_at)
        values (coalesce(${ids?.company ?? null}, nextval(pg_get_serial_sequence('company', 'id'))), ${JSON.stringify(name)}, ${account}, ${now})
        returning id, name, active`);
      const opened: ShopView[] = [];
      for (const [index, shop] of shops.entries()) {
        opened.push(
          (await ctx.db.one<ShopView>(sql`
            insert into shop (id, company, name, created_at)
            values (coalesce(${ids?.shops[index] ?? null}, nextval(pg_get_serial_sequence('shop', 'id'))), ${made!.id}, ${JSON.stringify(shop)}, ${now})
            returning id, name, active`))!,
        );
      }
      await ctx.db.run(sql`
        insert into entry (id, company, account, shop_ids, permissions, created_at)
        values (coalesce(${ids?.entry ?? null}, nextval(pg_get_serial_sequence('entry', 'id'))), ${made!.id}, ${account},
                ${opened.map(({ id }) => id)}::bigint[], ${permissionKeys}::text[], ${now})`);
      return { ...made!, shops: opened, owner };
    } catch (error) {
      if (violated(error) !== undefined) fail('conflict');
      throw error;
    }
  });
}
