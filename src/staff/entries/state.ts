/** Companies as decisions about them need them: loaded, and stored again with the lines of their history. */
import { batched } from '../../platform/batch.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { type Author, type Happening, type Head, nextLines, storeLines } from '../history/lines.ts';
import { MANAGING, type Permission } from '../permissions.ts';
import { type Entry, pairOf, type Right, type RightChange } from './rights.ts';
import type { CompanyState, Decided } from './rules.ts';

/** An entry with the address of its colleague. */
export interface EntryView extends Entry {
  readonly email: string;
}

/** A company with the end of its history. */
export interface Company extends CompanyState, Head {
  readonly entries: EntryView[];
}

/** What of a company a decision is about. */
export interface Scope {
  readonly company: number;
  /** Account of the caller; null: an operator. */
  readonly caller: number | null;
  /** The entry that is meant. */
  readonly target?: number;
  /** The account whose entry is meant. */
  readonly account?: number;
}

interface EntryRow extends Omit<EntryView, 'rights'> {
  readonly company: number;
  readonly rights: readonly (readonly [number, Permission, number | null, string])[];
}

/** A row of an entry with its rights in short form. */
export const entryOf = ({ rights, id, account, shop_ids, permissions, version, acts, email }: EntryRow): EntryView => ({
  id,
  account,
  shop_ids,
  permissions,
  rights: rights.map(([shop, permission, until, event]): Right => ({ shop, permission, until, event })),
  version,
  acts,
  email,
});

/** Takes the companies' rows until the transaction ends, in order of id: whoever changes rights goes one by one. */
export const lockCompanies = (ctx: Ctx, ids: readonly number[]): Promise<number> =>
  ctx.db.run(sql`select from company where id = any (${ids}::bigint[]) order by id for no key update`);

/**
 * Companies with all that decisions about these entries need, in two statements for any number of them. One scope a
 * company. For a change, `lockCompanies` comes first.
 */
export async function loadCompanies(ctx: Ctx, scopes: readonly Scope[]): Promise<Map<number, Company>> {
  const companies = scopes.map(({ company }) => company);
  const [found, entries] = await Promise.all([
    ctx.db.rows<Omit<Company, 'shops' | 'entries' | 'ownerActs'> & { owner_acts: boolean; shops: number[] }>(sql`
      select c.id as company, c.owner, coalesce(o.is_active and o.email_verified_at is not null, false) as owner_acts,
             c.events, c.head, (extract(epoch from l.at) * 1000)::bigint as last,
             array(select s.id from shop s where s.company = c.id order by s.id) as shops
        from company c left join account o on o.id = c.owner
        left join staff_event l on l.company = c.id and l.number = c.events
       where c.id = any (${companies}::bigint[])`),
    // Of entries that are only there to manage in the end, the managing rights are enough.
    ctx.db.rows<EntryRow>(sql`
      select e.id, e.company, e.account, e.shop_ids, e.permissions, e.version, a.email,
             a.is_active and a.email_verified_at is not null as acts,
             coalesce((select jsonb_agg(in_short(r)) from entry_right r where r.entry = e.id and (e.meant or r.permission = ${MANAGING})), '[]') as rights
        from unnest(${companies}::bigint[], ${scopes.map(({ caller }) => caller)}::bigint[],
                    ${scopes.map(({ target }) => target ?? null)}::bigint[],
                    ${scopes.map(({ account }) => account ?? null)}::bigint[]) as q (company, caller, target, account)
        join company c on c.id = q.company
        left join account o on o.id = c.owner and o.is_active and o.email_verified_at is not null
       cross join lateral (
         select e.*, e.id = q.target or e.account = q.account or (e.account = q.caller and c.owner is distinct from q.caller) as meant
           from entry e where e.company = c.id) e
        join account a on a.id = e.account
       where e.meant or (o.id is null and ${MANAGING} = any (e.permissions))`),
  ]);
  const all = new Map<number, Company>();
  for (const { owner_acts, shops, ...row } of found)
    all.set(row.company, { ...row, ownerActs: owner_acts, shops: new Set(shops), entries: [] });
  for (const row of entries) all.get(row.company)!.entries.push(entryOf(row));
  return all;
}

/** Who manages and what there is, read for those that only look; gathered over callers. */
export const lookAt = batched<Scope, Company | undefined>({
  key: ({ company }) => company,
  run: async (ctx, scopes) => {
    const found = await loadCompanies(ctx, scopes);
    return scopes.map(({ company }) => found.get(company)) as Company[];
  },
});

const ended = (until: number | null): { until: string | null } => ({
  until: until === null ? null : new Date(until).toISOString(),
});

/** Pairs as a line of the history says them. */
const loggedRights = (changes: readonly RightChange[]): NonNullable<Happening['rights']> =>
  changes.map(({ shop, permission, before, after }) => ({
    shop,
    permission,
    before: before === null ? null : ended(before.until),
    after: after === null ? null : ended(after.until),
  }));

/** What happened to an entry, for the history. */
const happeningOf = (
  { before, after, changes }: Decided,
  kind: 'entry_made' | 'rights_changed' | 'rights_ended' | 'entry_removed',
): Happening => ({
  kind,
  entry: before.id,
  account: before.account,
  version: after.version,
  shop_ids: [before.shop_ids, after.shop_ids],
  permissions: [before.permissions, after.permissions],
  rights: loggedRights(changes),
});

/** Rights of an entry that had ended before it was changed and still stand in the tables: they go with the change. */
function leftovers({ entries }: Company, { before, changes }: Decided, now: number): RightChange[] {
  const found = entries.find(({ id }) => id === before.id)?.rights ?? [];
  const over = found.filter(({ until }) => until !== null && until <= now);
  if (over.length === 0) return [];
  const named = new Set(changes.map(pairOf));
  return over
    .filter((right) => !named.has(pairOf(right)))
    .map(({ shop, permission, until }) => ({ shop, permission, before: { until }, after: null }));
}

/** A change that was decided, with who asked for it. */
export interface Change {
  readonly company: Company;
  readonly author: Author;
  readonly kind: 'entry_made' | 'rights_changed' | 'rights_ended' | 'entry_removed';
  readonly decided: Decided;
}

/**
 * Stores changes of entries with their lines, in the transaction that holds their companies; one change a company.
 * @returns the entries as they are now, each right with the line that gave it
 */
export async function storeChanges(ctx: Ctx, asked: readonly Change[]): Promise<Entry[]> {
  const now = ctx.clock.now().getTime();
  // Else sweeping them later would take a shop or key along that was promised since.
  const changes = asked.map((one): Change => {
    const over = one.kind === 'rights_changed' ? leftovers(one.company, one.decided, now) : [];
    return over.length === 0
      ? one
      : { ...one, decided: { ...one.decided, changes: [...over, ...one.decided.changes] } };
  });
  const lines = changes.map(
    ({ company, author, kind, decided }) => nextLines(company, author, [happeningOf(decided, kind)], now)[0]!,
  );
  const stored = changes.map(({ decided: { after } }, index) => ({
    ...after,
    rights: after.rights.map((right) => (right.event === null ? { ...right, event: lines[index]!.event.id } : right)),
  }));
  const gone = changes.flatMap(({ kind, decided: { before } }) => (kind === 'entry_removed' ? [before.id] : []));
  const kept = stored.filter(({ id }) => !gone.includes(id));
  const written = new Set(lines.map(({ event }) => event.id));
  const opened = kept.flatMap(({ id, rights }) =>
    rights.filter(({ event }) => written.has(event!)).map((right) => ({ entry: id, ...right })),
  );
  const closed = changes.flatMap(({ decided: { before, changes: pairs } }) =>
    gone.includes(before.id)
      ? []
      : pairs
          .filter(({ after }) => after === null)
          .map(({ shop, permission }) => ({ entry: before.id, shop, permission })),
  );
  await Promise.all([
    kept.length === 0
      ? 0
      : ctx.db.run(sql`
          with closed as (
            delete from entry_right r using jsonb_to_recordset(${JSON.stringify(closed)}::jsonb) as p (entry bigint, shop bigint, permission text)
             where r.entry = p.entry and r.shop = p.shop and r.permission = p.permission
          ), opened as (
            insert into entry_right (entry, shop, permission, until, event)
            select entry, shop, permission, to_timestamp(until / 1000.0), event
              from jsonb_to_recordset(${JSON.stringify(opened)}::jsonb)
                as p (entry bigint, shop bigint, permission text, until bigint, event uuid)
            on conflict (entry, shop, permission) do update set until = excluded.until, event = excluded.event
          )
          update entry e set shop_ids = u.shop_ids, permissions = u.permissions, version = u.version
            from jsonb_populate_recordset(null::entry, ${JSON.stringify(
              kept.map(({ id, shop_ids, permissions, version }) => ({ id, shop_ids, permissions, version })),
            )}::jsonb) u where e.id = u.id`),
    gone.length === 0 ? 0 : ctx.db.run(sql`delete from entry where id = any (${gone}::bigint[])`),
    storeLines(ctx, lines),
  ]);
  return stored;
}
