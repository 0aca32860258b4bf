/** Entries as pairs of shop and permission, with the state of the colleague: what `/v1` shows, and making and filling one at once. */
import { findByEmail, foldEmail } from '../../accounts/accounts.ts';
import { againIfTaken } from '../../accounts/invitations.ts';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { Failure, fail } from '../../platform/failure.ts';
import type { Author } from '../history/lines.ts';
import type { Wish } from './changes.ts';
import { changeEntry, createEntry, entryTag, previewEntry } from './entries.ts';
import type { Foreseen } from './preview.ts';
import { atTime, type Entry, type Right } from './rights.ts';
import { type Caller, decide, requireManager } from './rules.ts';
import { entryOf, loadCompanies, lookAt } from './state.ts';

/** An entry as `/v1` shows it. */
export interface PairsView {
  /** Null: it would be made. */
  readonly id: number | null;
  /** Null: nobody has an account of this address yet. */
  readonly account: number | null;
  readonly email: string;
  /** Invited: nobody has proven the address, so nothing can be used yet. Off: the account is switched off. */
  readonly state: 'active' | 'invited' | 'off';
  readonly owner: boolean;
  readonly shop_ids: readonly number[];
  readonly permissions: readonly string[];
  readonly rights: readonly { shop: number; permission: string; until: string | null; event: string | null }[];
  readonly invitation: { readonly sent_at: string; readonly expires_at: string } | null;
  readonly version: number;
}

/** An entry with its ETag. */
export interface Tagged {
  readonly view: PairsView;
  readonly tag: string;
}

/** What belongs to the colleague, beside the entry. */
export type Colleague = Pick<PairsView, 'email' | 'state' | 'owner' | 'invitation'>;

const order = (one: Right, other: Right): number =>
  one.shop - other.shop || (one.permission < other.permission ? -1 : 1);

/** An entry in the shape of `/v1`. */
export const viewOf = (entry: Entry, { email, state, owner, invitation }: Colleague): PairsView => ({
  id: entry.id === 0 ? null : entry.id,
  account: entry.account === 0 ? null : entry.account,
  email,
  state,
  owner,
  shop_ids: entry.shop_ids,
  permissions: entry.permissions,
  rights: entry.rights.toSorted(order).map(({ shop, permission, until, event }) => ({
    shop,
    permission,
    until: until === null ? null : new Date(until).toISOString(),
    event,
  })),
  invitation,
  version: entry.version,
});

/** Which entries, and how many. */
export interface PairsFilter {
  readonly entry?: number | undefined;
  /** Any case. */
  readonly email?: string | undefined;
  /** Those who hold something there, at this moment; the owner does everywhere. */
  readonly shop?: number | undefined;
  readonly permission?: string | undefined;
  /** Id of the last entry of the page before. */
  readonly after?: number | undefined;
  readonly limit?: number | undefined;
}

interface Row extends Omit<Parameters<typeof entryOf>[0], 'acts'> {
  readonly is_active: boolean;
  readonly proven: boolean;
  readonly owner: boolean;
  readonly sent_at: Date | null;
  readonly expires_at: Date | null;
  readonly found: number;
}

/** Rights on a page, give or take an entry: an entry of a thousand shops has eleven thousand. */
const PAGE_RIGHTS = 20_000;

/** Entries of a company in order of id, whoever asks; fewer than `limit` where they hold much. */
export async function findPairs(
  ctx: Ctx,
  company: number,
  filter: PairsFilter = {},
): Promise<{ readonly items: Tagged[]; readonly more: boolean }> {
  const { entry = null, email = null, shop = null, permission = null, after = null, limit = 1 } = filter;
  const now = ctx.clock.now();
  const rows = await ctx.db.rows<Row>(sql`
    select e.id, e.company, e.account, e.shop_ids, e.permissions, e.version, a.email, a.is_active,
           a.email_verified_at is not null as proven, c.owner is not distinct from e.account as owner,
           l.created_at as sent_at, l.expires_at, p.found,
           coalesce((select jsonb_agg(in_short(r)) from entry_right r where r.entry = e.id), '[]') as rights
      from (
        select f.id, count(*) over ()::int as found,
               coalesce(sum(most) over (order by f.id rows between unbounded preceding and 1 preceding), 0) as before
          from (
            select e.id, cardinality(e.shop_ids) * cardinality(e.permissions) as most
              from entry e join company c on c.id = e.company join account a on a.id = e.account
             where e.company = ${company}
               and (${entry}::bigint is null or e.id = ${entry})
               and (${after}::bigint is null or e.id > ${after})
               and (${email}::text is null or a.email_key = ${email === null ? null : foldEmail(email)})
               and (${shop}::bigint is null and ${permission}::text is null or c.owner = e.account
                    or exists (select from entry_right r where r.entry = e.id and (r.until is null or r.until > ${now})
                                  and (${shop}::bigint is null or r.shop = ${shop})
                                  and (${permission}::text is null or r.permission = ${permission})))
             order by e.id limit ${limit + 1}) f) p
      join entry e on e.id = p.id join company c on c.id = e.company join account a on a.id = e.account
      left join lateral (select created_at, expires_at from mail_link
                          where account = e.account and purpose = 'invitation' and used_at is null and a.email_verified_at is null
                          order by created_at desc limit 1) l on true
     where p.before < ${PAGE_RIGHTS} order by e.id limit ${limit}`);
  const items = rows.map((row): Tagged => {
    const acts = row.is_active && row.proven;
    const found = atTime(entryOf({ ...row, acts }), now.getTime());
    const { sent_at: sent, expires_at: expires } = row;
    const invitation =
      sent === null || expires === null ? null : { sent_at: sent.toISOString(), expires_at: expires.toISOString() };
    const state = row.is_active ? (row.proven ? 'active' : 'invited') : 'off';
    return { view: viewOf(found, { email: row.email, state, owner: row.owner, invitation }), tag: entryTag(found) };
  });
  return { items, more: (rows[0]?.found ?? 0) > rows.length };
}

/** One of them, whoever asks. @throws not_found */
export const onePair = async (ctx: Ctx, company: number, entry: number): Promise<Tagged> =>
  (await findPairs(ctx, company, { entry })).items[0] ?? fail('not_found');

/** Refuses whoever may not look at the entries of a company. @throws not_found, missing_permission, second_factor_required */
export async function requireView(ctx: Ctx, caller: Caller, company: number): Promise<ReadonlySet<number>> {
  const found = (await lookAt(ctx, { company, caller: caller.account })) ?? fail('not_found');
  requireManager(found, caller, ctx.clock.now().getTime());
  return found.shops;
}

/** A colleague who is to be given something. */
export interface Gift {
  readonly caller: Caller;
  readonly author: Author;
  readonly company: number;
  readonly email: string;
  /** Of the invitation. */
  readonly language: string;
  readonly wish: Wish;
}

async function give(root: Ctx, { wish, ...asked }: Gift): Promise<{ entry: number; existed: boolean }> {
  return transaction(root, async (ctx) => {
    const { entry, existed } = await createEntry(ctx, asked);
    await changeEntry(ctx, { ...asked, entry: entry!.id, wish });
    return { entry: entry!.id, existed };
  });
}

/**
 * Makes an entry, unless there is one, and changes it: both or neither.
 * @throws as `createEntry` and `changeEntry`
 */
export const giveEntry = (ctx: Ctx, gift: Gift): Promise<{ entry: number; existed: boolean }> =>
  againIfTaken(ctx, (again) => give(again, gift));

/** What `giveEntry` would do, or refuse, at this moment; nothing is written. @throws as `giveEntry`, but throttled */
export async function previewGift(ctx: Ctx, { wish, ...asked }: Gift): Promise<Foreseen<Entry> & Colleague> {
  const { caller, author, company, email } = asked;
  const { entry, invited } = await createEntry(ctx, { ...asked, dry: true });
  if (entry !== null) {
    const { before, after, changes } = await previewEntry(ctx, { caller, author, company, entry: entry.id, wish });
    const { view } = await onePair(ctx, company, entry.id);
    return { before, after, changes, invited: false, ...view };
  }
  const account = await findByEmail(ctx, email);
  const state = (await loadCompanies(ctx, [{ company, caller: caller.account }])).get(company) ?? fail('not_found');
  const off = account?.is_active === false;
  const blank = { shop_ids: [], permissions: [], rights: [], version: 1, acts: !(invited || off) };
  const fresh = { id: 0, account: account?.id ?? 0, email, ...blank };
  const { entries } = state;
  const decided = decide({ ...state, entries: [...entries, fresh] }, caller, 0, wish, ctx.clock.now().getTime());
  if (decided instanceof Failure) throw decided;
  const owner = state.owner !== null && state.owner === account?.id;
  const { after, changes } = decided;
  return {
    before: null,
    after,
    changes,
    invited,
    email: account?.email ?? email,
    state: off ? 'off' : invited ? 'invited' : 'active',
    owner,
    invitation: null,
  };
}
