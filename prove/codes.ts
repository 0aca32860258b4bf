/**
 * Codes are counted, spent and paid for once, however many processes there are: two servers of one installation, each with
 * its workers, are asked at the same time, and what they answered is compared with what is stored and with what was sent.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { API_KEY } from './crash/demo.ts';
import { type Answer, Connection } from './http.ts';
import { Service } from './service.ts';

const PROFILE = '/users/profile-with-loyalty/';
const ROUNDS = 3;
const REDEEMS = 100;
const GUESSES = 40;
const TRIES = 5;
const NUMBER_HOUR = 7;
const ACCOUNT_DAY = 9;
/** Codes that are left for the last check. */
const LAST = 15;
/** One each for the locked ones, for those who redeem and for the one who asks often; the two budgets; the rest. */
const INSTALLATION_DAY = 2 + ROUNDS + 1 + NUMBER_HOUR + ACCOUNT_DAY + LAST;

/** Faults that the proof must find, each a module in `codes/plants/` that is loaded into both services. */
const plants: Readonly<Record<string, { readonly what: string; readonly shows: string }>> = {
  uncounted: { what: 'codes that are tried are not counted', shows: 'lock' },
  unspent: { what: 'a code that was redeemed is still good', shows: 'redeem' },
  unbudgeted: { what: 'budgets are looked at and not spent', shows: 'budget' },
  twice: { what: 'each message is handed over twice', shows: 'queue' },
};

const settings = [
  'THROTTLING_SETTINGS={"login":null,"register":null,"profile-update":null,"otp":null}',
  `SMS_BUDGET=${JSON.stringify({
    number_hour: NUMBER_HOUR,
    account_day: ACCOUNT_DAY,
    // Everybody comes from this machine.
    address_hour: null,
    country_day: null,
    installation_day: INSTALLATION_DAY,
    newcomers_share: 1,
  })}`,
  'SMS_OTP_EXPIRE_TIME=0',
].flatMap((setting) => ['--set', setting]);

const print = (line: string): void => void process.stdout.write(`${line}\n`);

interface Person {
  readonly id: number;
  readonly headers: Record<string, string>;
}

interface Bench {
  readonly service: Service;
  readonly db: pg.Client;
  readonly connection: Connection;
  readonly faults: string[];
}

let named = 0;
const newNumber = (): string => {
  named += 1;
  return `+9053${String(40_000_000 + named)}`;
};

/** Sends to one of the two. */
async function ask(
  { service, connection }: Bench,
  turn: number,
  method: string,
  path: string,
  body: unknown,
  headers: Record<string, string>,
): Promise<Answer> {
  const origin = turn % 2 === 0 ? service.url : service.twinUrl;
  const outcome = await connection.send(origin, method, path, { ...(body === undefined ? {} : { body }), headers });
  if (outcome.kind !== 'answer') throw new Error(`${method} ${path} had no answer: ${JSON.stringify(outcome)}`);
  if (outcome.status >= 500) throw new Error(`${method} ${path}: ${outcome.status} ${JSON.stringify(outcome.body)}`);
  return outcome;
}

const patch = (bench: Bench, turn: number, { headers }: Person, body: object): Promise<Answer> =>
  ask(bench, turn, 'PATCH', PROFILE, body, headers);

async function register(bench: Bench, turn: number): Promise<Person> {
  named += 1;
  const body = { email: `codes-${named}@example.com`, password: 'codes-proof-horse' };
  const made = await ask(bench, turn, 'POST', '/users/registration/', body, {});
  if (made.status !== 201) throw new Error(`no account: ${made.status} ${JSON.stringify(made.body)}`);
  const headers = { authorization: `Token ${made.body.key}` };
  return { headers, id: (await ask(bench, turn, 'GET', '/current_user/', undefined, headers)).body.pk };
}

/** What went out to these numbers, when no worker has anything to do any more. */
async function sentTo(bench: Bench, numbers: readonly string[]): Promise<string[]> {
  for (let waited = 0; ; waited += 50) {
    const { rows } = await bench.db.query(
      `select from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
        where t.identifier = 'send_code'`,
    );
    if (rows.length === 0) break;
    if (waited > 30_000) throw new Error(`${rows.length} codes were not sent within 30 s\n${bench.service.said}`);
    await sleep(50);
  }
  const outbox = await ask(bench, 0, 'GET', '/v1/outbox/sms', undefined, API_KEY);
  return (outbox.body as { to: string; text: string }[])
    .filter(({ to }) => numbers.includes(to))
    .map(({ text }) => text);
}

/** Has a code sent. @returns it */
async function codeFor(bench: Bench, person: Person, number: string): Promise<string> {
  const { status, body } = await patch(bench, 0, person, { phone: number });
  if (status !== 202) throw new Error(`no code was promised: ${status} ${JSON.stringify(body)}`);
  return /\b\d{6}\b/.exec((await sentTo(bench, [number])).at(-1)!)![0];
}

const otherThan = (code: string): string => (code === '000000' ? '000001' : '000000');

/** How many answers were what. */
const tally = (answers: readonly Answer[]): string =>
  Object.entries(Object.groupBy(answers, ({ status, body }) => `${status}${body?.code ? ' on code' : ''}`))
    .map(([what, some]) => `${some!.length} × ${what}`)
    .sort()
    .join(', ');

function check({ faults }: Bench, name: string, figures: string, holds: boolean): void {
  print(`${holds ? 'holds ' : 'FAILS '} ${name.padEnd(8)} ${figures}`);
  if (!holds) faults.push(`${name}: ${figures}`);
}

/** Wrong codes lock it; then the right one is refused, by both. */
async function lock(bench: Bench, wrongs: number, together: boolean): Promise<void> {
  const person = await register(bench, 0);
  const phone = newNumber();
  const code = await codeFor(bench, person, phone);
  const guess = (turn: number): Promise<Answer> => patch(bench, turn, person, { phone, code: otherThan(code) });
  const answers: Answer[] = [];
  if (together) answers.push(...(await Promise.all(Array.from({ length: wrongs }, (_, turn) => guess(turn)))));
  else for (let turn = 0; turn < wrongs; turn += 1) answers.push(await guess(turn));
  const right = [await patch(bench, 0, person, { phone, code }), await patch(bench, 1, person, { phone, code })];
  const counted = await bench.db.query<{ submissions: number }>(
    'select submissions from phone_change where account = $1',
    [person.id],
  );
  const submissions = counted.rows[0]?.submissions;
  const refused = answers.every(({ status }) => status === 400) && right.every(({ status }) => status === 400);
  const compared = answers.filter(({ body }) => JSON.stringify(body) !== JSON.stringify(right[0]!.body)).length;
  check(
    bench,
    'lock',
    `${wrongs} wrong codes ${together ? 'at once' : 'in turn'}: ${compared} compared, ${submissions} counted; the right code then: ${tally(right)}`,
    refused && compared === TRIES && submissions === TRIES,
  );
}

/** The right code, by many at once. */
async function redeem(bench: Bench): Promise<void> {
  const person = await register(bench, 1);
  const phone = newNumber();
  const code = await codeFor(bench, person, phone);
  const read = async (): Promise<{ version: number; phone: string | null; lines: number }> => {
    const found = await bench.db.query(
      `select version, phone_e164 as phone, (select count(*)::int from consent_event where account = a.id) as lines
         from account a where id = $1`,
      [person.id],
    );
    return found.rows[0];
  };
  const before = await read();
  const answers = await Promise.all(
    Array.from({ length: REDEEMS }, (_, turn) =>
      patch(bench, turn, person, { phone, code, sms_allowed: true, first_name: 'Ada' }),
    ),
  );
  const after = await read();
  const effects = after.version - before.version;
  check(
    bench,
    'redeem',
    `${REDEEMS} at once: ${effects} took effect, ${after.lines - before.lines} line in the ledger; answers: ${tally(answers)}`,
    effects === 1 &&
      after.lines - before.lines === 1 &&
      after.phone === phone &&
      answers.some(({ status }) => status === 200) &&
      answers.every(({ status, body }) => status === 200 || (status === 400 && body.code !== undefined)),
  );
}

/** Everybody asks at once. @returns who was promised a code, and whether every other was told when to come again */
async function askAll(
  bench: Bench,
  wishes: readonly { person: Person; phone: string }[],
): Promise<{ promised: string[]; refused: number; sound: boolean }> {
  const answers = await Promise.all(wishes.map(({ person, phone }, turn) => patch(bench, turn, person, { phone })));
  const refused = answers.filter(({ status }) => status === 429);
  const promised = wishes.filter((_, index) => answers[index]!.status === 202).map(({ phone }) => phone);
  const sound = promised.length + refused.length === wishes.length;
  return {
    promised,
    refused: refused.length,
    sound: sound && refused.every(({ headers }) => Number(headers['retry-after']) > 0),
  };
}

const people = async (bench: Bench, count: number): Promise<Person[]> =>
  Promise.all(Array.from({ length: count }, (_, turn) => register(bench, turn)));

async function budgets(bench: Bench): Promise<void> {
  const phone = newNumber();
  const many = await people(bench, 30);
  const number = await askAll(
    bench,
    many.map((person) => ({ person, phone })),
  );
  check(
    bench,
    'budget',
    `30 accounts, one number: ${number.promised.length} of ${NUMBER_HOUR} an hour promised, ${number.refused} × 429`,
    number.sound && number.promised.length === NUMBER_HOUR,
  );
  const texts = await sentTo(bench, [phone]);
  check(bench, 'queue', `messages to it: ${texts.length}`, texts.length === number.promised.length);

  const [person] = (await people(bench, 1)) as [Person];
  const account = await askAll(
    bench,
    Array.from({ length: 30 }, () => ({ person, phone: newNumber() })),
  );
  check(
    bench,
    'budget',
    `one account, 30 numbers: ${account.promised.length} of ${ACCOUNT_DAY} a day promised, ${account.refused} × 429`,
    account.sound && account.promised.length === ACCOUNT_DAY,
  );
}

/** The same request again and again is one request. */
async function repeat(bench: Bench): Promise<void> {
  const [person] = (await people(bench, 1)) as [Person];
  const phone = newNumber();
  const { promised } = await askAll(
    bench,
    Array.from({ length: 20 }, () => ({ person, phone })),
  );
  const texts = await sentTo(bench, [phone]);
  check(
    bench,
    'queue',
    `one request 20 times at once: ${promised.length} × 202, ${texts.length} message`,
    promised.length === 20 && texts.length === 1,
  );
}

async function installation(bench: Bench): Promise<void> {
  const wishes = (await people(bench, 40)).map((person) => ({ person, phone: newNumber() }));
  const { promised, refused, sound } = await askAll(bench, wishes);
  const { rows } = await bench.db.query<{ count: number }>(
    'select count(*)::int as count from sms_request where refused_by is null',
  );
  check(
    bench,
    'budget',
    `40 accounts, 40 numbers: ${promised.length} of the last ${LAST} promised, ${refused} × 429; ${rows[0]!.count} of ${INSTALLATION_DAY} a day in all`,
    sound && promised.length === LAST && rows[0]!.count === INSTALLATION_DAY,
  );
  const texts = await sentTo(
    bench,
    wishes.map(({ phone }) => phone),
  );
  const unpromised = await sentTo(
    bench,
    wishes.map(({ phone }) => phone).filter((phone) => !promised.includes(phone)),
  );
  check(
    bench,
    'queue',
    `messages to them: ${texts.length}, ${unpromised.length} to whom none was promised`,
    texts.length === promised.length && unpromised.length === 0,
  );
}

async function prove(bench: Bench): Promise<void> {
  await lock(bench, TRIES, false);
  await lock(bench, GUESSES, true);
  for (let round = 0; round < ROUNDS; round += 1) await redeem(bench);
  await budgets(bench);
  await repeat(bench);
  await installation(bench);
}

const USAGE = `usage: npm run prove -- codes [--plant NAME]
plants:
${Object.entries(plants)
  .map(([name, { what }]) => `  ${name.padEnd(14)}${what}`)
  .join('\n')}
`;

function readPlant(args: string[]): string | undefined {
  try {
    const { plant } = parseArgs({ args, options: { plant: { type: 'string' } } }).values;
    if (plant === undefined || plants[plant] !== undefined) return plant;
  } catch {
    // an option it does not know: said below
  }
  process.stderr.write(USAGE);
  process.exit(2);
}

/** `npm run prove -- codes [options]` */
export async function run(args: string[]): Promise<void> {
  const plant = readPlant(args);
  const service = await Service.create(plant && join(import.meta.dirname, 'codes/plants', `${plant}.ts`));
  const connection = new Connection(REDEEMS);
  const faults: string[] = [];
  let db: pg.Client | undefined;
  print(`two processes, one database${plant === undefined ? '' : `, planted: ${plants[plant]!.what}`}`);
  try {
    await service.start('--demo', ...settings);
    await service.startTwin();
    service.arm();
    db = await service.database();
    await prove({ service, db, connection, faults });
  } catch (error) {
    faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    await db?.end();
    connection.close();
    await service.remove();
  }
  for (const fault of faults) print(`FAULT  ${fault}`);
  const found = plant !== undefined && faults.some((fault) => fault.startsWith(plants[plant]!.shows));
  if (found) print('The planted fault was found.');
  else if (plant !== undefined) print('The planted fault was not found: this proof proves nothing.');
  process.exitCode = (plant === undefined ? faults.length === 0 : found) ? 0 : 1;
}
