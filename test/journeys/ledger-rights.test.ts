/** The rights of the service's own role: it adds to the ledger and reads it. Every other test runs as this role too. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { type Database, openDatabase } from '../../src/platform/db.ts';
import { grantApplication, ledgerGuard, ledgerTables } from '../../src/platform/rights.ts';
import { createKit, type Kit } from '../kit.ts';

let kit: Kit;
let owner: Database;
/** The service's role. */
const role = inject('engine').application.user;

beforeAll(async () => {
  kit = await createKit();
  const { database } = kit.connection as { database: string };
  owner = openDatabase({ connection: { ...inject('engine').connection, database }, max: 1 });
  // Lines, so that a statement which is let through would change something.
  await kit.signUp({ email_allowed: true });
  await kit.verify();
  await kit.set('OTP_RESEND_SECONDS', 31);
});
afterAll(async () => {
  await owner.close();
  await kit.close();
});

/** What the database answers: SQLSTATE and words. */
const answer = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => 'done',
    ({ code, message }: { code: string; message: string }) => `${code} ${message}`,
  );

/** A table and a column of it. */
const tables: [string, string][] = [
  ['consent_event', 'kind'],
  ['ledger_seal', 'lines'],
  ['ledger_line', 'position'],
  ['notice', 'text'],
  ['staff_event', 'kind'],
  ['operator_event', 'kind'],
  ['staff_seal', 'ends'],
  ['setting_change', 'name'],
];

describe('the role of the service', () => {
  test.each(tables)('can neither change %s nor switch its guard off', async (table, column) => {
    const asked = {
      // A warning only, so what follows shows that nothing was granted.
      'grant to itself': `grant all on ${table} to current_user`,
      update: `update ${table} set ${column} = ${column}`,
      lock: `select from ${table} for update`,
      delete: `delete from ${table}`,
      truncate: `truncate ${table}`,
      disable: `alter table ${table} disable trigger all`,
      drop: `drop table ${table}`,
      'add a trigger': `create trigger mine before insert on ${table} for each row execute function suppress_redundant_updates_trigger()`,
      'become the owner': `alter table ${table} owner to current_user`,
    };
    const answers: Record<string, string> = {};
    for (const [what, text] of Object.entries(asked)) answers[what] = await answer(kit.rows(text));
    const [denied, foreign] = [`42501 permission denied for table ${table}`, `42501 must be owner of table ${table}`];
    expect(answers).toEqual({
      'grant to itself': 'done',
      update: denied,
      lock: denied,
      delete: denied,
      truncate: denied,
      disable: foreign,
      drop: foreign,
      'add a trigger': denied,
      'become the owner': foreign,
    });
  });

  test('cannot put the guards to sleep, make tables, or say that a migration was applied', async () => {
    expect(await answer(kit.rows('set session_replication_role = replica'))).toBe(
      '42501 permission denied to set parameter "session_replication_role"',
    );
    for (const schema of ['public', 'graphile_worker'])
      expect(await answer(kit.rows(`create table ${schema}.mine (id int)`))).toBe(
        `42501 permission denied for schema ${schema}`,
      );
    for (const table of ['migration', 'graphile_worker.migrations'])
      expect(await answer(kit.rows(`delete from ${table}`))).toMatch(/^42501 permission denied for table migrations?$/);
    expect(
      await kit.rows(`
        select rolsuper, rolcreatedb, rolcreaterole, rolbypassrls,
               exists (select from pg_auth_members where member = r.oid) as member from pg_roles r where rolname = current_user`),
    ).toEqual([{ rolsuper: false, rolcreatedb: false, rolcreaterole: false, rolbypassrls: false, member: false }]);
  });

  test('holds these rights, and no others', async () => {
    const held = await kit.owner<{ name: string; rights: string }>(
      `select c.oid::regclass::text as name, string_agg(privilege_type, ' ' order by privilege_type) as rights
         from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join aclexplode(c.relacl) as acl
        where c.relkind in ('r', 'v') and n.nspname in ('public', 'graphile_worker') and acl.grantee = to_regrole($1)
        group by c.oid order by 1`,
      role,
    );
    const odd = Object.fromEntries(
      held.filter(({ rights }) => rights !== 'DELETE INSERT SELECT UPDATE').map(({ name, rights }) => [name, rights]),
    );
    expect(odd).toEqual({
      ...Object.fromEntries(tables.map(([table]) => [table, 'INSERT SELECT'])),
      migration: 'SELECT',
      'graphile_worker.migrations': 'SELECT',
      'graphile_worker.jobs': 'SELECT',
    });
    const [{ count }] = (await kit.owner<{ count: number }>(
      `select count(*)::int from pg_class where relkind in ('r', 'v') and relnamespace::regnamespace::text in ('public', 'graphile_worker')`,
    )) as [{ count: number }];
    expect(held).toHaveLength(count);
  });

  test('is told apart from a superuser, whom only the triggers stop', async () => {
    expect(await ledgerGuard(kit.database)).toEqual({ role, superuser: false, owner: false, rights: [], open: [] });
    expect(await ledgerGuard(owner)).toMatchObject({ superuser: true, owner: true, open: [] });
  });
});

test.each(tables.filter(([table]) => ledgerTables.includes(table)))(
  'the trigger of %s refuses its owner too',
  async (table, column) => {
    const refused = (what: string): string => `42501 the ledger is append-only: ${what} on ${table} refused`;
    expect(await answer(kit.owner(`update ${table} set ${column} = ${column}`))).toBe(refused('UPDATE'));
    expect(await answer(kit.owner(`delete from ${table}`))).toBe(refused('DELETE'));
    expect(await answer(kit.owner(`truncate ${table} cascade`))).toBe(refused('TRUNCATE'));
  },
);

test('every table with such a trigger is in the list that the rights follow', async () => {
  const guarded = await kit.owner<{ name: string }>(
    `select tgrelid::regclass::text as name from pg_trigger where tgname = 'append_only'`,
  );
  expect(guarded.map(({ name }) => name).sort()).toEqual([...ledgerTables].sort());
});

describe('granting', () => {
  const rightsOn = async (table: string): Promise<unknown[]> =>
    kit.owner(
      `select privilege_type from pg_class, aclexplode(relacl) where oid = $1::regclass and grantee = to_regrole($2) order by 1`,
      table,
      role,
    );

  test('gives a table of a later migration all rights to its rows, and takes away what somebody gave too much', async () => {
    await kit.owner('create table later (id bigint generated always as identity primary key, word text)');
    expect(await answer(kit.rows('select from later'))).toBe('42501 permission denied for table later');
    await kit.owner(`grant update, truncate on consent_event to ${role}`);
    expect((await ledgerGuard(kit.database)).rights).toEqual(['TRUNCATE on consent_event', 'UPDATE on consent_event']);

    await grantApplication(owner, role);
    expect(await kit.rows(`insert into later (word) values ('one') returning id, word`)).toEqual([
      { id: 1, word: 'one' },
    ]);
    expect(await kit.rows(`update later set word = 'two' returning word`)).toEqual([{ word: 'two' }]);
    expect(await kit.rows('delete from later returning id')).toEqual([{ id: 1 }]);
    expect((await ledgerGuard(kit.database)).rights).toEqual([]);
    expect(await rightsOn('consent_event')).toEqual([{ privilege_type: 'INSERT' }, { privilege_type: 'SELECT' }]);
  });

  test('writes nothing when nothing is missing', async () => {
    await grantApplication(owner, role);
    const versions = (): Promise<unknown[]> =>
      kit.owner(`
        select c.oid, c.xmin::text, n.xmin::text as of_schema, (select max(p.oid) from pg_policy p) as policy
          from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'graphile_worker') order by 1`);
    const before = await versions();
    await grantApplication(owner, role);
    expect(await versions()).toEqual(before);
  });

  test('finds a column that may be written, and a guard that is switched off', async () => {
    await kit.owner(`grant update (kind) on consent_event to ${role}`);
    await kit.owner('alter table ledger_line disable trigger append_only');
    await kit.owner('alter table ledger_seal enable replica trigger append_only');
    expect(await ledgerGuard(kit.database)).toMatchObject({
      rights: ['UPDATE on consent_event'],
      open: ['ledger_line', 'ledger_seal'],
    });
  });
});
