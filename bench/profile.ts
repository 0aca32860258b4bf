/**
 * `npm run bench -- profile`: GET and PATCH of /users/profile/ at 64 connections, interleaved with fixed JSON from the
 * same Fastify, with the same verbs one by one, and with pgbench making the same change in one statement.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Database, prepared, sql } from '../src/platform/db.ts';
import { onBed, say } from './bed.ts';
import { CONNECTIONS, CSRF, drive, generator, type Result, sessionKey } from './load.ts';
import { findPgbench, pgbench } from './pgbench.ts';
import { report } from './report.ts';

/** Accounts with a number, a session, and two consents each, their events sealed like any others. */
async function seed(db: Database, accounts: number): Promise<void> {
  const statements = [
    `insert into contact_point (kind, value, address_hash, created_at)
     select kind, kind || n, sha256((kind || n)::bytea), now() from generate_series(1, $1) n, (values ('email'), ('phone')) k (kind) order by n, kind`,
    `insert into account (id, email, email_key, first_name, last_name, phone, phone_e164, language_code, email_point, phone_point, date_joined)
     select n, 'person' || n || '@example.com', 'person' || n || '@example.com', 'Ada', 'Yılmaz', '0532' || lpad(n::text, 7, '0'), '+90532' || lpad(n::text, 7, '0'), 'tr', e.id, p.id, now()
       from generate_series(1, $1) n join contact_point e on e.value = 'email' || n join contact_point p on p.value = 'phone' || n`,
    `insert into session (key_hash, kind, account, family, signed_in_at, created_at, expires_at)
     select sha256(('bench' || lpad(n::text, 20, '0'))::bytea), 'cookie', n, gen_random_uuid(), now(), now(), now() + interval '1 day' from generate_series(1, $1) n`,
    `insert into consent_event (id, contact_point, account, channel, purpose, kind, occurred_at, recorded_at, source, actor, commitment, hash)
     select gen_random_uuid(), case channel when 'email' then email_point else phone_point end, id, channel, 'marketing', 'grant', now(), now(), 'import', 'bench',
            sha256('e'), sha256((id || channel)::bytea) from account, (values ('email'), ('sms')) c (channel) where id <= $1`,
    `insert into consent_state (contact_point, channel, purpose, state, since, event, account, proven, latest, kind, source)
     select contact_point, channel, purpose, 'granted', occurred_at, id, account, false, occurred_at, kind, source from consent_event where $1 > 0`,
  ];
  for (const statement of statements) await db.run(prepared(statement, accounts));
  for (const table of ['contact_point', 'account', 'session', 'consent_event', 'consent_state'])
    await db.run(prepared(`vacuum analyze ${table}`));
}

/** The same change as a PATCH makes: session, row, event, evidence, queue and state, in one statement. */
const pgbenchScript = (accounts: number): string => `
\\set n random(1, ${accounts})
\\set name random(1, 1000000)
\\set allowed random(0, 1)
with me as (
  select a.id, a.phone_point, case :allowed::int when 1 then 'granted' else 'withdrawn' end as next,
         (s2.state is not distinct from 'granted') <> (:allowed::int = 1) as turns
    from session s join account a on a.id = s.account and a.is_active
    left join consent_state s2 on s2.contact_point = a.phone_point and s2.channel = 'sms' and s2.purpose = 'marketing'
   where s.key_hash = sha256(('bench' || lpad(:n::text, 20, '0'))::bytea) and s.expires_at > now()
), saved as (
  update account a set first_name = 'Ada ' || :name, version = a.version + 1 from me where a.id = me.id
), event as (
  insert into consent_event (id, contact_point, account, channel, purpose, kind, occurred_at, recorded_at, source, actor, commitment, hash)
  select gen_random_uuid(), phone_point, id, 'sms', 'marketing', case next when 'granted' then 'grant' else 'withdraw' end, now(), now(), 'account',
         'account:' || id, sha256('evidence'), sha256('line') from me where turns returning id, contact_point, occurred_at
), known as (
  insert into consent_evidence select id, '\\x00112233445566778899aabbccddeeff', '{"ip":"127.0.0.1","request":"bench","session":"bench"}' from event
), queued as (
  insert into ledger_unsealed select id from event
)
insert into consent_state as s (contact_point, channel, purpose, state, since, event, account, proven, latest, kind, source)
select e.contact_point, 'sms', 'marketing', me.next, e.occurred_at, e.id, me.id, false, e.occurred_at, case me.next when 'granted' then 'grant' else 'withdraw' end, 'account' from event e, me
on conflict (contact_point, channel, purpose) do update set state = excluded.state, since = excluded.since, event = excluded.event, account = excluded.account, latest = excluded.latest;
`;

/** Changes written so far, once what was under way when the load ended is written too. */
async function total(db: Database): Promise<number> {
  for (let last = -1; ; ) {
    const { sum } = (await db.one<{ sum: number }>(sql`select sum(version)::bigint as sum from account`))!;
    if (sum === last) return sum;
    last = sum;
    await new Promise((done) => setTimeout(done, 250));
  }
}

/** Options: --accounts N, --rounds N, --seconds N, --only NAME (repeatable) */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      accounts: { type: 'string', default: '100000' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
      only: { type: 'string', multiple: true },
    },
  });
  const [accounts, rounds, seconds] = [Number(values.accounts), Number(values.rounds), Number(values.seconds)];
  await onBed(async ({ db, socket, folder, start }) => {
    say(`Making ${accounts} accounts …`);
    await seed(db, accounts);
    const probe = await start();
    const cookie = `sessionid=${sessionKey(1)}; csrftoken=${CSRF}`;
    const example = await (await fetch(`${probe.origin}/users/profile/`, { headers: { cookie } })).text();
    if (JSON.parse(example).id !== 1) throw new Error(`the first profile is wrong: ${example}`);
    probe.child.kill('SIGTERM');
    const batched = await start({ FIXED: example });
    const alone = await start({ ONE_BY_ONE: '1' });

    const program = findPgbench();
    const script = join(folder, 'change.sql');
    writeFileSync(script, pgbenchScript(accounts));
    const profile = '/users/profile/';
    const change = '{"first_name":"Ada NUMBER","sms_allowed":FLAG}';
    const everybody: Record<string, () => Promise<Result>> = {
      'fixed JSON': () => drive(batched.origin, { path: '/bench/fixed', sessions: accounts }, seconds),
      GET: () => drive(batched.origin, { path: profile, sessions: accounts }, seconds),
      'GET one by one': () => drive(alone.origin, { path: profile, sessions: accounts }, seconds),
      PATCH: () => drive(batched.origin, { path: profile, sessions: accounts, change }, seconds),
      'PATCH one by one': () => drive(alone.origin, { path: profile, sessions: accounts, change }, seconds),
      ...(program === undefined ? {} : { pgbench: () => pgbench(program, socket, script, seconds) }),
    };
    const contestants = Object.fromEntries(
      Object.entries(everybody).filter(([name]) => values.only?.includes(name) ?? true),
    );
    const results = new Map<string, Result[]>(Object.keys(contestants).map((name) => [name, []]));
    // Once unmeasured: code is compiled, plans are made, pages are in memory.
    for (const contest of Object.values(contestants)) await contest();
    for (let round = 1; round <= rounds; round += 1) {
      for (const [name, contest] of Object.entries(contestants)) {
        const before = await total(db);
        const result = await contest();
        const written = (await total(db)) - before;
        if (result.bad > 0) throw new Error(`${name}: ${result.bad} answers were not 2xx`);
        // What was acknowledged is stored; what was under way at the end may be stored too.
        const expected = name.startsWith('PATCH') || name === 'pgbench' ? result.answers : 0;
        if (written < expected || written > expected + CONNECTIONS)
          throw new Error(`${name}: ${expected} acknowledged, ${written} written`);
        results.get(name)!.push(result);
      }
    }
    await checkAnswers(batched.origin, db, accounts);
    report(
      results,
      `${cpus().length} × ${cpus()[0]!.model}, Node ${process.versions.node}, PostgreSQL 18 embedded, ${generator}, ${accounts} accounts, ${rounds} × ${seconds} s`,
      [
        { title: 'GET / fixed JSON', of: 'GET', to: 'fixed JSON', goal: 0.6 },
        { title: 'GET / GET one by one', of: 'GET', to: 'GET one by one' },
        { title: 'PATCH / pgbench', of: 'PATCH', to: 'pgbench', goal: 2 },
        { title: 'PATCH / PATCH one by one', of: 'PATCH', to: 'PATCH one by one' },
      ],
    );
    if (program === undefined) say('pgbench is not installed (Debian: postgresql-contrib): no ratio for PATCH.');
  });
}

/** After all that, answers are those of the database. */
async function checkAnswers(origin: string, db: Database, accounts: number): Promise<void> {
  for (let i = 0; i < 200; i += 1) {
    const n = 1 + Math.floor(Math.random() * accounts);
    const answer = (await (
      await fetch(`${origin}/users/profile/`, { headers: { cookie: `sessionid=${sessionKey(n)}` } })
    ).json()) as Record<string, unknown>;
    const row = await db.one<{ first_name: string; sms: boolean }>(sql`
      select first_name, exists (select from consent_state s where s.contact_point = phone_point and channel = 'sms' and state = 'granted') as sms
        from account where id = ${n}`);
    if (answer['id'] !== n || answer['first_name'] !== row!.first_name || answer['sms_allowed'] !== row!.sms)
      throw new Error(`profile ${n} is wrong`);
  }
}
