/**
 * `npm run bench -- staff`: PATCH of a colleague's entry at 64 connections, interleaved with the same verb one by one and
 * with pgbench sending the statements of one such change.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Database, prepared, sql } from '../src/platform/db.ts';
import { type Bed, onBed, say } from './bed.ts';
import { CONNECTIONS, drive, generator, type Result } from './load.ts';
import { findPgbench, pgbench } from './pgbench.ts';
import { report } from './report.ts';

/** Entries of a company: the colleague who changes (number 1 of each), the manager, and others. */
const COLLEAGUES = 6;
const SHOPS = 4;
const ALL =
  '{company_info,holidays,newsletters,translations,permissions,email_settings,products,shop_info,checkout_settings,time_settings,discounts}';

/**
 * Companies of four shops and six entries: entry N of company N is the colleague's, its manager holds everything, the
 * owner sleeps. Session N is the manager's of company N.
 */
async function seed({ db }: Pick<Bed, 'db'>, companies: number): Promise<void> {
  const statements = [
    `insert into contact_point (kind, value, address_hash, created_at)
     select 'email', 'email' || n, sha256(('email' || n)::bytea), now() from generate_series(1, $1::int * ${COLLEAGUES}) n`,
    `insert into account (id, email, email_key, language_code, email_point, email_verified_at, date_joined)
     select n, 'person' || n || '@example.com', 'person' || n || '@example.com', 'nl', p.id, now(), now()
       from generate_series(1, $1::int * ${COLLEAGUES}) n join contact_point p on p.value = 'email' || n`,
    `insert into company (id, name, owner, created_at) select n, '{"nl":"Bakkerij"}', n * ${COLLEAGUES}, now() from generate_series(1, $1::int) n`,
    `insert into shop (id, company, name, created_at)
     select (n - 1) * ${SHOPS} + s, n, '{"nl":"Winkel"}', now() from generate_series(1, $1::int) n, generate_series(1, ${SHOPS}) s`,
    `insert into entry (id, company, account, shop_ids, permissions, created_at)
     select (k - 1) * $1::int + n, n, (n - 1) * ${COLLEAGUES} + k, array(select id from shop where company = n order by id),
            case k when 1 then '{products}' else '${ALL}' end::text[], now()
       from generate_series(1, ${COLLEAGUES}) k, generate_series(1, $1::int) n order by 1`,
    `insert into entry_right (entry, shop, permission, event)
     select e.id, s, p, gen_random_uuid() from entry e, unnest(shop_ids) s, unnest(permissions) p where $1 > 0`,
    `insert into session (key_hash, kind, account, family, signed_in_at, created_at, expires_at)
     select sha256(('bench' || lpad(n::text, 20, '0'))::bytea), 'access', (n - 1) * ${COLLEAGUES} + 2, gen_random_uuid(), now(), now(), now() + interval '1 day'
       from generate_series(1, $1::int) n`,
  ];
  for (const statement of statements) await db.run(prepared(statement, companies));
  for (const table of ['account', 'company', 'shop', 'entry', 'entry_right', 'session'])
    await db.run(prepared(`vacuum analyze ${table}`));
}

/** The statements of one PATCH: session, lock, state, then entry, rights, line, evidence and end of the chain, and a commit. */
const pgbenchScript = (companies: number): string => `
\\set n random(1, ${companies})
\\set holidays random(0, 1)
\\set discounts random(0, 1)
select a.id, a.email, a.is_operator from session s join account a on a.id = s.account and a.is_active
 where s.key_hash = sha256(('bench' || lpad(:n::text, 20, '0'))::bytea) and s.expires_at > now();
begin;
select from company where id = :n::bigint for no key update;
select c.owner, c.events, c.head, l.at, array(select s.id from shop s where s.company = c.id order by s.id)
  from company c left join account o on o.id = c.owner left join staff_event l on l.company = c.id and l.number = c.events where c.id = :n;
select jsonb_agg(to_jsonb(x)) as entries, max(x.turns) as turns from (
  select e.id, e.account, e.shop_ids, e.permissions, e.version, a.email,
         (select jsonb_agg(in_short(r)) from entry_right r where r.entry = e.id) as rights,
         case e.id when :n then (('holidays' = any (permissions)) <> (:holidays::int = 1)
                                 or ('discounts' = any (permissions)) <> (:discounts::int = 1))::int end as turns
    from entry e join account a on a.id = e.account
   where e.company = :n and (e.id = :n or e.account = (:n - 1) * ${COLLEAGUES} + 2)) x \\gset
\\if :turns
update entry set version = version + 1,
       permissions = array_remove(array[case :holidays::int when 1 then 'holidays' end, 'products', case :discounts::int when 1 then 'discounts' end], null)
 where id = :n;
delete from entry_right where entry = :n and (permission = 'holidays' and :holidays::int = 0 or permission = 'discounts' and :discounts::int = 0);
insert into entry_right (entry, shop, permission, event)
select e.id, s, p, gen_random_uuid() from entry e, unnest(shop_ids) s, unnest(permissions) p where e.id = :n
on conflict (entry, shop, permission) do nothing;
with event as (
  insert into staff_event (id, company, number, kind, entry, account, actor, at, line, hash)
  select gen_random_uuid(), id, events + 1, 'rights_changed', :n, :n, 'account:' || :n, now(), repeat('x', 600), sha256(head || :n::text::bytea)
    from company where id = :n returning id, number, hash
), known as (
  insert into staff_evidence select id, '\\x00112233445566778899aabbccddeeff', '{"ip":"127.0.0.1","request":"bench"}' from event
)
update company c set events = event.number, head = event.hash from event where c.id = :n;
\\endif
commit;
`;

/** Changes written so far, once what was under way is written too. */
async function lines(db: Database): Promise<number> {
  for (let last = -1; ; ) {
    const { count } = (await db.one<{ count: number }>(sql`select count(*)::int as count from staff_event`))!;
    if (count === last) return count;
    last = count;
    await new Promise((done) => setTimeout(done, 250));
  }
}

/** Every right in the table stands in the last line about it, and the shape shows what the pairs say. */
async function check(db: Database): Promise<void> {
  const wrong = await db.one<{ wrong: number }>(sql`
    select count(*)::int as wrong from entry e
     where cardinality(e.shop_ids) * cardinality(e.permissions) <> (select count(*) from entry_right r where r.entry = e.id)`);
  if (wrong!.wrong > 0) throw new Error(`${wrong!.wrong} entries show other rights than they have`);
}

/** Options: --companies N, --rounds N, --seconds N */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      companies: { type: 'string', default: '20000' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
    },
  });
  const [companies, rounds, seconds] = [Number(values.companies), Number(values.rounds), Number(values.seconds)];
  await onBed(async ({ db, socket, folder, start }) => {
    say(`Making ${companies} companies …`);
    await seed({ db }, companies);
    const batched = await start();
    const alone = await start({ ONE_BY_ONE: '1' });
    const program = findPgbench();
    const script = join(folder, 'change.sql');
    writeFileSync(script, pgbenchScript(companies));
    const shape = {
      path: '/company/companies/N/permissions/users/N',
      sessions: companies,
      bearer: true,
      change: '{"permissions":{"holidays":FLAG,"discounts":FLAG}}',
    };
    const contestants: Record<string, () => Promise<Result>> = {
      PATCH: () => drive(batched.origin, shape, seconds),
      'PATCH one by one': () => drive(alone.origin, shape, seconds),
      ...(program === undefined ? {} : { pgbench: () => pgbench(program, socket, script, seconds) }),
    };
    const results = new Map<string, Result[]>(Object.keys(contestants).map((name) => [name, []]));
    for (const contest of Object.values(contestants)) await contest();
    for (let round = 1; round <= rounds; round += 1) {
      for (const [name, contest] of Object.entries(contestants)) {
        const before = await lines(db);
        const result = await contest();
        const written = (await lines(db)) - before;
        if (result.bad > 0) throw new Error(`${name}: ${result.bad} answers were not 2xx`);
        // A change that finds everything as it asks writes nothing: on average one in four.
        if (written < result.answers * 0.7 || written > result.answers + CONNECTIONS)
          throw new Error(`${name}: ${result.answers} acknowledged, ${written} written`);
        results.get(name)!.push(result);
      }
    }
    await check(db);
    report(
      results,
      `${cpus().length} × ${cpus()[0]!.model}, Node ${process.versions.node}, PostgreSQL 18 embedded, ${generator}, ${companies} companies, ${companies * COLLEAGUES} entries, ${rounds} × ${seconds} s`,
      [
        { title: 'PATCH / pgbench', of: 'PATCH', to: 'pgbench', goal: 1 },
        { title: 'PATCH / PATCH one by one', of: 'PATCH', to: 'PATCH one by one' },
      ],
    );
    if (program === undefined) say('pgbench is not installed (Debian: postgresql-contrib): no ratio.');
  });
}
