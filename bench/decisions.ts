/**
 * `npm run bench -- decisions`: questions a second through POST /v1/decisions/contact, NDJSON both ways, one process,
 * one connection, answers checked against the database.
 */
import { parseArgs } from 'node:util';
import { type Database, prepared, sql } from '../src/platform/db.ts';
import { type Bed, onBed, say } from './bed.ts';
import { measure } from './questions.ts';

const KEY = 'bench_decisions_key_0000';
const STEP = 20_000;
const phone = (n: number): string => `+90532${String(n).padStart(7, '0')}`;

/** Accounts with a number each; two thirds of them have said yes to text messages, half of those no again. */
async function seed({ db, keys }: Pick<Bed, 'db' | 'keys'>, accounts: number): Promise<void> {
  for (let from = 1; from <= accounts; from += STEP) {
    const numbers = Array.from({ length: Math.min(STEP, accounts - from + 1) }, (_, i) => from + i);
    await db.run(sql`
      insert into contact_point (kind, value, address_hash, created_at)
      select 'phone', value, decode(hash, 'hex'), now()
        from unnest(${numbers.map(phone)}::text[], ${numbers.map((n) => keys.hash('contact_point', 'phone', phone(n)).toString('hex'))}::text[]) as p (value, hash)`);
  }
  for (const statement of [
    `insert into contact_point (kind, value, address_hash, created_at)
     select 'email', 'email' || n, sha256(('email' || n)::bytea), now() from generate_series(1, $1::int) n`,
    `insert into account (id, email, email_key, language_code, email_point, phone_point, phone, phone_e164, date_joined)
     select n, 'person' || n || '@example.com', 'person' || n || '@example.com', 'tr', $1::int + n, n, p.value, p.value, now()
       from generate_series(1, $1::int) n join contact_point p on p.id = n`,
    `insert into consent_event (id, contact_point, account, channel, purpose, kind, occurred_at, recorded_at, source, actor, commitment, hash, proven)
     select gen_random_uuid(), n, n, 'sms', 'marketing', case when n % 3 = 1 then 'grant' else 'withdraw' end, now(), now(), 'account', 'account:' || n,
            sha256('e'), sha256(n::text::bytea), false from generate_series(1, $1::int) n where n % 3 > 0`,
    `insert into consent_state (contact_point, channel, purpose, state, since, event, account, proven, latest, kind, source)
     select contact_point, channel, purpose, case kind when 'grant' then 'granted' else 'withdrawn' end, occurred_at, id, account, false, occurred_at, kind, source
       from consent_event where $1::int > 0`,
    `insert into api_key (name, key_hash, scopes, created_at, created_by) select 'bench', sha256('${KEY}'::bytea), '{decisions}', now(), 'command' where $1::int > 0`,
  ])
    await db.run(prepared(statement, accounts));
  for (const table of ['contact_point', 'account', 'consent_event', 'consent_state'])
    await db.run(prepared(`vacuum analyze ${table}`));
}

async function check(db: Database, numbers: readonly number[], answers: readonly string[]): Promise<void> {
  const rows = await db.rows<{ n: number; state: string; event: string }>(sql`
    select contact_point as n, state, event from consent_state where contact_point = any (${numbers}::bigint[]) and channel = 'sms'`);
  const known = new Map(rows.map((row) => [row.n, row]));
  for (const [index, n] of numbers.entries()) {
    const { allowed, state, event } = JSON.parse(answers[index]!) as {
      allowed: boolean;
      state: string;
      event: string | null;
    };
    const row = known.get(n);
    if (state !== (row?.state ?? 'unknown') || event !== (row?.event ?? null) || allowed !== (state === 'granted'))
      throw new Error(`the decision about ${phone(n)} is wrong: ${answers[index]}`);
  }
}

/** Options: --accounts N, --rounds N, --rows N */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      accounts: { type: 'string', default: '1000000' },
      rounds: { type: 'string', default: '5' },
      rows: { type: 'string', default: '300000' },
    },
  });
  const [accounts, rounds, count] = [Number(values.accounts), Number(values.rounds), Number(values.rows)];
  await onBed(async ({ db, keys, start }) => {
    say(`Making ${accounts} accounts …`);
    await seed({ db, keys }, accounts);
    const { origin } = await start();
    await measure(
      { origin, path: '/v1/decisions/contact', key: KEY },
      {
        kinds: [
          { name: 'recipient', write: (n) => `{"recipient":"${phone(n)}","channel":"sms"}` },
          { name: 'account', write: (n) => `{"account":${n},"channel":"sms","purpose":"marketing"}` },
        ],
        rounds,
        make: () => Array.from({ length: count }, () => 1 + Math.floor(Math.random() * accounts)),
        check: (numbers, answers) => check(db, numbers, answers),
        about: `${accounts} accounts`,
      },
    );
  });
}
