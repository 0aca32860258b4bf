/**
 * `npm run bench -- staff-decisions`: questions a second through POST /v1/decisions/staff, NDJSON both ways, one process,
 * one connection, answers checked against the database.
 */
import { parseArgs } from 'node:util';
import { type Database, prepared, sql } from '../src/platform/db.ts';
import { permissionKeys } from '../src/staff/permissions.ts';
import { onBed, say } from './bed.ts';
import { measure } from './questions.ts';

const KEY = 'bench_staff_key_00000000';
/** Shops of a company. */
const SHOPS = 5;
const STEP = 20_000;
const address = (n: number): string => `colleague${n}@example.com`;

/**
 * Account and entry n, shops in rows of five: company c has the shops 5c-4 … 5c. Each colleague holds four to eight keys in
 * two shops; one right in ten has ended, one in ten will.
 */
async function seed(db: Database, entries: number, companies: number): Promise<void> {
  const statements = [
    `insert into contact_point (kind, value, address_hash, created_at)
     select 'email', 'colleague' || n || '@example.com', sha256(('email' || n)::bytea), now() from generate_series($1::int, $2::int) n`,
    `insert into account (id, email, email_key, language_code, email_point, email_verified_at, date_joined)
     select n, p.value, p.value, 'en', p.id, now(), now() from generate_series($1::int, $2::int) n
       join contact_point p on p.kind = 'email' and p.value = 'colleague' || n || '@example.com'`,
  ];
  for (let from = 1; from <= entries; from += STEP)
    for (const statement of statements) await db.run(prepared(statement, from, Math.min(entries, from + STEP - 1)));
  await db.run(sql`
    insert into company (id, name, owner, created_at)
    select n, '{"en":"Bakery"}', n, now() from generate_series(1, ${companies}::int) n`);
  await db.run(sql`
    insert into shop (id, company, name, created_at)
    select n, (n - 1) / ${SHOPS}::int + 1, '{"en":"Shop"}', now() from generate_series(1, ${companies * SHOPS}::int) n`);
  for (const statement of [
    `insert into entry (id, company, account, created_at)
     select n, n % $2::int + 1, n, now() from generate_series(1, $1::int) n`,
    `insert into staff_event (id, company, number, kind, entry, account, actor, at, line, hash)
     select uuidv7(), n % $2::int + 1, n, 'changed', n, n, 'bench', now(), repeat('x', 400), sha256(n::text::bytea)
       from generate_series(1, $1::int) n`,
    `insert into entry_right (entry, shop, permission, until, event)
     select e.id, (e.company - 1) * ${SHOPS} + s, keys[k],
            case (e.id + k) % 10 when 0 then now() - interval '1 day' when 1 then now() + interval '1 year' end, g.id
       from entry e join staff_event g on g.entry = e.id cross join (select $3::text[] as keys) all_keys
       cross join generate_series(1, 11) k cross join lateral (values (e.id % 5 + 1), ((e.id + 2) % 5 + 1)) as w (s)
      where (e.id + k) % 11 < 4 + e.id % 5 and $1::int + $2::int > 0`,
  ])
    await db.run(
      prepared(statement, ...(statement.includes('$3') ? [entries, companies, permissionKeys] : [entries, companies])),
    );
  await db.run(sql`
    insert into api_key (name, key_hash, scopes, created_at, created_by)
    values ('bench', sha256(${KEY}::text::bytea), '{decisions}', now(), 'command')`);
  for (const table of ['account', 'company', 'shop', 'entry', 'entry_right', 'staff_event'])
    await db.run(prepared(`vacuum analyze ${table}`));
}

interface Question {
  /** Number of the account and of the entry. */
  readonly colleague: number;
  readonly shop: number;
  readonly permission: string;
}

/** Answers as plain SQL over whole tables gives them, by sets and joins that the service does not use. */
async function check(db: Database, questions: readonly Question[], answers: readonly string[]): Promise<void> {
  const rows = await db.rows<{ key: string; event: string; holds: boolean }>(sql`
    select entry || ' ' || shop || ' ' || permission as key, event, until is null or until > now() as holds from entry_right`);
  const rights = new Map(rows.map((row) => [row.key, row]));
  const companies = await db.rows<{ id: number; owner: number; shops: number[]; entries: number[] }>(sql`
    select c.id, c.owner, array(select id from shop where company = c.id) as shops,
           array(select id from entry where company = c.id) as entries from company c`);
  const ofShop = new Map(companies.flatMap((company) => company.shops.map((shop) => [shop, company])));
  const members = new Map(companies.map(({ id, entries }) => [id, new Set(entries)]));
  let yes = 0;
  for (const [index, { colleague, shop, permission }] of questions.entries()) {
    const { allowed, entry, event } = JSON.parse(answers[index]!) as {
      allowed: boolean;
      entry: number | null;
      event: string | null;
    };
    const company = ofShop.get(shop)!;
    const right = rights.get(`${colleague} ${shop} ${permission}`);
    const owner = company.owner === colleague;
    const expected = {
      allowed: owner || right?.holds === true,
      entry: members.get(company.id)!.has(colleague) ? colleague : null,
      event: owner ? null : (right?.event ?? null),
    };
    if (allowed !== expected.allowed || entry !== expected.entry || event !== expected.event)
      throw new Error(`the decision about ${JSON.stringify(questions[index])} is wrong: ${answers[index]}`);
    if (allowed) yes += 1;
  }
  say(`${questions.length} answers are those of the tables, ${yes} of them yes.`);
}

/** Options: --entries N, --companies N, --rounds N, --rows N */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      entries: { type: 'string', default: '200000' },
      companies: { type: 'string', default: '2000' },
      rounds: { type: 'string', default: '5' },
      rows: { type: 'string', default: '300000' },
    },
  });
  const entries = Number(values.entries);
  const companies = Number(values.companies);
  const below = (limit: number): number => Math.floor(Math.random() * limit);
  // Half of the questions are about the colleague's own shops, where they mostly hold what is asked; the rest about anything.
  const anything = (): Question => {
    const colleague = 1 + below(entries);
    const company = (colleague % companies) + 1;
    if (Math.random() < 0.5)
      return { colleague, shop: 1 + below(companies * SHOPS), permission: permissionKeys[below(11)]! };
    const shop = (company - 1) * SHOPS + ((colleague + 2 * below(2)) % SHOPS) + 1;
    const key = (4 + (colleague % 5) + 11 * 1000 - (colleague % 11) - 1 - below(4 + (colleague % 5))) % 11;
    return { colleague, shop, permission: permissionKeys[key === 0 ? 10 : key - 1]! };
  };
  await onBed(async ({ db, start }) => {
    say(`Making ${entries} entries in ${companies} companies …`);
    await seed(db, entries, companies);
    const { origin } = await start();
    await measure(
      { origin, path: '/v1/decisions/staff', key: KEY },
      {
        kinds: [
          {
            name: 'account',
            write: ({ colleague, shop, permission }) =>
              `{"account":${colleague},"company":${Math.ceil(shop / SHOPS)},"shop":${shop},"permission":"${permission}"}`,
          },
          {
            name: 'e-mail',
            write: ({ colleague, shop, permission }) =>
              `{"email":"${address(colleague)}","shop":${shop},"permission":"${permission}"}`,
          },
        ],
        rounds: Number(values.rounds),
        make: () => Array.from({ length: Number(values.rows) }, anything),
        check: (questions, answers) => check(db, questions, answers),
        about: `${entries} entries in ${companies} companies`,
      },
    );
  });
}
