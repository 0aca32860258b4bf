/** Accounts as operators see them. */
import { foldEmail } from '../accounts/accounts.ts';
import { shownFlags } from '../consent/channels.ts';
import { type LoyaltyStanding, loyaltyStanding } from '../loyalty/told.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';

interface Row {
  id: number;
  email: string;
  first_name: string;
  last_name: string;
  phone: string | null;
  is_active: boolean;
  is_operator: boolean;
  invited: boolean;
  date_joined: Date;
  consents: string | null;
}

export interface AccountView extends Omit<Row, 'consents' | 'date_joined'> {
  date_joined: string;
  consents: Record<string, boolean | null>;
}

const view = ({ consents, date_joined, ...row }: Row): AccountView => ({
  ...row,
  date_joined: date_joined.toISOString(),
  consents: shownFlags(consents),
});

/** A page of accounts, newest first, by address, number, or the beginning of a name or address. */
export async function findAccounts(
  ctx: Ctx,
  filter: {
    email?: string | undefined;
    phone?: string | undefined;
    q?: string | undefined;
    after?: number | undefined;
    limit: number;
  },
): Promise<{ items: AccountView[]; next: string | null }> {
  const { email, phone, q, after, limit } = filter;
  const beginning = (text: string): string => `${text.replaceAll(/[\\%_]/g, '\\$&')}%`;
  const like = q === undefined ? null : beginning(q.toLowerCase());
  const likeKey = q === undefined ? null : beginning(foldEmail(q));
  const rows = await ctx.db.rows<Row>(sql`
    select a.id, a.email, a.first_name, a.last_name, a.phone_e164 as phone, a.is_active, a.is_operator, a.password is null as invited,
           a.date_joined,
           (select string_agg(s.channel || '=' || s.state || ':' || right(s.event::text, 7), ',') from consent_state s
             where s.contact_point in (a.email_point, a.phone_point) and s.purpose = 'marketing') as consents
      from account a
     where (${email ?? null}::text is null or a.email_key = ${email === undefined ? null : foldEmail(email)})
       and (${phone ?? null}::text is null or a.phone_e164 = ${phone ?? null})
       and (${like}::text is null or a.email_key like ${likeKey} or lower(a.first_name) like ${like} or lower(a.last_name) like ${like})
       and (${after ?? null}::bigint is null or a.id < ${after ?? null})
     order by a.id desc limit ${limit + 1}`);
  const items = rows.slice(0, limit).map(view);
  return { items, next: rows.length > limit ? String(items.at(-1)!.id) : null };
}

/** An account as it is shown by itself. */
export interface AccountInFull extends AccountView {
  readonly second_factor: boolean;
  /** How many outside identities are linked to it. */
  readonly identities: number;
  readonly loyalty: LoyaltyStanding | null;
}

/** One account, how it is signed in to, and how it stands with the loyalty provider; undefined when there is none of that id. */
export async function readAccount(ctx: Ctx, id: number): Promise<AccountInFull | undefined> {
  const row = await ctx.db.one<Row & Pick<AccountInFull, 'second_factor' | 'identities'>>(sql`
    select a.id, a.email, a.first_name, a.last_name, a.phone_e164 as phone, a.is_active, a.is_operator, a.password is null as invited,
           a.date_joined, a.second_factor,
           (select count(*)::int from outside_identity o where o.account = a.id) as identities,
           (select string_agg(s.channel || '=' || s.state || ':' || right(s.event::text, 7), ',') from consent_state s
             where s.contact_point in (a.email_point, a.phone_point) and s.purpose = 'marketing') as consents
      from account a where a.id = ${id}`);
  if (row === undefined) return undefined;
  const { second_factor, identities } = row;
  return { ...view(row), second_factor, identities, loyalty: await loyaltyStanding(ctx, id) };
}

/** Whether there is an account of this id. */
export const accountExists = async (ctx: Ctx, id: number): Promise<boolean> =>
  (await ctx.db.one(sql`select from account where id = ${id}`)) !== undefined;

/** Who runs the installation. */
export interface OperatorView {
  readonly id: number;
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  readonly is_active: boolean;
  readonly second_factor: boolean;
  readonly last_login: Date | null;
}

/** All operators, those that are switched off too, in the order of their ids. */
export const listOperators = (ctx: Ctx): Promise<OperatorView[]> =>
  ctx.db.rows<OperatorView>(sql`
    select id, email, first_name, last_name, is_active, second_factor, last_login from account where is_operator order by id`);
