/**
 * What the application's role may do: everything with rows, except to change or delete what is only ever added to.
 * The tables belong to another role, the owner, who migrates. See docs/decisions/0014-two-database-roles.md.
 */
import { type Db, prepared, sql } from './db.ts';

/** The tables of the ledger, and the histories of rights and of operators. Each has a trigger `append_only` too, which also stands in the way of the owner. */
export const ledgerTables: readonly string[] = [
  'consent_event',
  'ledger_seal',
  'ledger_line',
  'notice',
  'staff_event',
  'staff_seal',
  'operator_event',
];

/** Rows are added and read. Every other table, also one that a later migration makes, may be written freely. */
const appendOnly: readonly string[] = [...ledgerTables, 'setting_change'];

/** Which migrations were applied, ours and those of the jobs: the owner's to write. */
const readOnly: readonly string[] = ['migration', 'migrations'];

/**
 * Gives the application's role its rights and takes away what is more than that. Run by the owner after every
 * migration; when nothing is missing it writes nothing.
 * @param role the application's; when it owns the tables itself, nothing happens
 */
export async function grantApplication(owner: Db, role: string): Promise<void> {
  await owner.transaction(async (tx) => {
    // Two starts that grant the same right at once would fail each other.
    await tx.one(sql`select pg_advisory_xact_lock(hashtext('assent.migrate'))`);
    const statements = await tx.rows<{ text: string }>(sql`
      with app as (select oid, quote_ident(rolname) as name from pg_roles where rolname = ${role}),
      place as (select oid, nspname from pg_namespace where nspname in (current_schema(), 'graphile_worker')),
      ours as (
        select c.oid, c.relkind, c.relrowsecurity,
               format('%s %I.%I', case c.relkind when 'S' then 'sequence' else 'table' end, place.nspname, c.relname) as name,
               format('%I.%I', place.nspname, c.relname) as path,
               array(select privilege_type from aclexplode(c.relacl) where grantee = app.oid order by 1) as held,
               case when c.relkind = 'S' then '{SELECT,UPDATE,USAGE}'::text[]
                    when c.relkind in ('v', 'm') or c.relname = any (${readOnly}::text[]) then '{SELECT}'
                    when c.relname = any (${appendOnly}::text[]) then '{INSERT,SELECT}'
                    else '{DELETE,INSERT,SELECT,UPDATE}' end as rights
          from pg_class c join place on place.oid = c.relnamespace cross join app
         where c.relkind in ('r', 'p', 'v', 'm', 'S') and c.relowner <> app.oid and pg_has_role(c.relowner, 'USAGE')
      )
      select 1 as step, format('grant usage on schema %I to %s', place.nspname, app.name) as text from place, app
       where not has_schema_privilege(app.oid, place.oid, 'USAGE')
      union all
      select 2, format('revoke all on %s from %s', ours.name, app.name) from ours, app
       where held <> rights and held <> '{}'
      union all
      select 3, format('grant %s on %s to %s', array_to_string(rights, ', '), ours.name, app.name) from ours, app
       where held <> rights
      union all
      -- The tables of the jobs show their rows to nobody but their owner, unless a policy says otherwise.
      select 4, format('create policy %s on %s to %1$s using (true) with check (true)', app.name, path) from ours, app
       where relrowsecurity and not exists (select from pg_policy where polrelid = ours.oid and app.oid = any (polroles))
      union all
      select 5, format('grant execute on routine %s to %s', p.oid::regprocedure, app.name)
        from pg_proc p join place on place.oid = p.pronamespace cross join app
       where pg_has_role(p.proowner, 'USAGE') and not has_function_privilege(app.oid, p.oid, 'EXECUTE')
      order by step`);
    for (const { text } of statements) await tx.run(prepared(text));
  });
}

/** What keeps the role of this connection from changing the ledger. */
export interface Guard {
  readonly role: string;
  /** No right of a table binds it. */
  readonly superuser: boolean;
  /** It owns a table of the ledger, or is a member of the role that does: it could give a right back to itself. */
  readonly owner: boolean;
  /** Rights it holds and should not: `UPDATE on consent_event`. */
  readonly rights: readonly string[];
  /** Tables whose trigger is gone or switched off. */
  readonly open: readonly string[];
}

/** Asks the database itself, by whatever way the rights came. */
export async function ledgerGuard(db: Db): Promise<Guard> {
  const guard = await db.one<Guard>(sql`
    with ledger as (select oid, relname, relowner from pg_class where oid = any (${ledgerTables}::regclass[]))
    select rolname::text as role, rolsuper as superuser,
           (select bool_or(pg_has_role(relowner, 'MEMBER')) from ledger) as owner,
           array(select format('%s on %s', privilege, relname) from ledger, unnest('{UPDATE,DELETE,TRUNCATE}'::text[]) as privilege
                  where has_table_privilege(oid, privilege)
                     or privilege = 'UPDATE' and has_any_column_privilege(oid, privilege)
                  order by relname, privilege) as rights,
           array(select relname::text from ledger
                  where not exists (select from pg_trigger t where t.tgrelid = ledger.oid and t.tgname = 'append_only'
                                                               and t.tgenabled in ('O', 'A'))
                  order by relname) as open
      from pg_roles where rolname = current_user`);
  return guard!;
}
