/**
 * Nothing acknowledged is lost, nothing is done twice: the service is killed hard (kill -9 of the server, of its engine, of
 * both) at random moments under mixed writes, and what its clients remember is compared with what is stored. A second server
 * on the same data dies with the first; those who promote baskets and tell consents call both.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { compare } from './crash/ledger.ts';
import { Load, type Outage } from './crash/load.ts';
import { Book, sequence } from './crash/model.ts';
import { Service, type Victim } from './service.ts';

const CLIENTS = 32;
const victims: readonly Victim[] = ['server', 'engine', 'both'];

/** Faults that the proof must find, each a module in `crash/plants/` that is loaded into the service. */
const plants: Readonly<Record<string, { readonly what: string; readonly shows: 'lost' | 'doubled' | 'differs' }>> = {
  'skip-commit': { what: 'every 20th commit is a rollback that says COMMIT', shows: 'lost' },
  double: { what: 'every 20th statement that records consents records them twice', shows: 'doubled' },
  unsync: { what: 'commits are answered before they are on the disk', shows: 'lost' },
  unlocked: { what: 'callers who promote the same basket do not wait for each other', shows: 'differs' },
  again: { what: 'every 5th promotion of a basket takes it for the first one', shows: 'doubled' },
};

/** Limits of requests are not what is proven here. Codes do not expire, because a cycle takes its time. */
const settings = [
  'THROTTLING_SETTINGS={"login":null,"register":null,"user-permissions":null,"profile-update":null,"otp":null,"token":null,"invite":null}',
  'SMS_BUDGET={"number_hour":null,"account_day":null,"address_hour":null,"country_day":null}',
  'SMS_OTP_EXPIRE_TIME=0',
].flatMap((setting) => ['--set', setting]);

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const round = (seconds: number): string => seconds.toFixed(2);

interface Figures {
  cycles: number;
  /** Seconds to the ready line, after a kill. */
  readonly starts: number[];
  readonly outages: Outage[];
  seals: number;
}

async function cycle(
  number: number,
  victim: Victim,
  service: Service,
  load: Load,
  random: () => number,
  figures: Figures,
): Promise<void> {
  const { book } = load;
  const before = book.acknowledged;
  await load.prepare(service.url, service.twinUrl);
  service.arm();
  const writing = load.run();
  await sleep(300 + random() * 1700);
  const engine = await service.engine();
  const outage: Outage = { killedAt: performance.now(), recovered: undefined, shed: 0, slowest: 0 };
  load.outage = outage;
  service.kill(victim, engine);
  let came: string;
  if (victim === 'engine') {
    await load.recovery(outage);
    load.stop();
    await writing;
    if (!service.running || !service.twinRunning) throw new Error(`a server ended with its engine\n${service.said}`);
    if (outage.shed === 0) book.fault('no request was answered 503 while the engine was away');
    figures.outages.push(outage);
    came = `${round((outage.recovered ?? Number.NaN) / 1000)} s until the next write, ${outage.shed} × 503, slowest answer ${round(outage.slowest / 1000)} s`;
  } else {
    load.stop();
    await Promise.all([writing, service.gone()]);
    const seconds = await service.start(...settings);
    figures.starts.push(seconds);
    await service.startTwin();
    came = `${round(seconds)} s until ready`;
  }
  await load.settle(service.url, service.twinUrl);
  const db = await service.database();
  await compare(db, book).finally(() => db.end());
  const { fault, seals, lines } = await service.verify();
  if (fault !== undefined) book.fault(`ledger verify: ${fault}`);
  figures.seals = seals;
  figures.cycles = number;
  print(
    `${String(number).padStart(3)}  kill -9 ${victim.padEnd(6)}  ${came}; ${book.acknowledged - before} writes acknowledged, ${lines} lines`,
  );
}

/** SIGTERM: nothing may wait for a seal afterwards. */
async function cleanStop(service: Service, book: Book, figures: Figures): Promise<void> {
  const { code, seconds } = await service.stop();
  if (code !== 0) book.fault(`SIGTERM ended the service with ${code}\n${service.said}`);
  const { fault, unsealed, seals } = await service.verify();
  if (fault !== undefined) book.fault(`ledger verify after the stop: ${fault}`);
  if (unsealed > 0) book.fault(`${unsealed} lines are not sealed after a clean stop`);
  figures.seals = seals;
  print(`     SIGTERM         ${round(seconds)} s; ${unsealed} lines unsealed`);
}

const customers = ({ orders }: Book): string =>
  (['guest', 'stranger', 'holder'] as const)
    .map((who) => `${orders.filter(({ customer }) => customer === who).length} ${who}`)
    .join(', ');

function summary(book: Book, { cycles, starts, outages, seals }: Figures): void {
  const count = (word: string): number => book.faults.filter((fault) => fault.startsWith(word)).length;
  const slowest = (values: readonly number[]): string =>
    values.length === 0 ? '-' : `${round(Math.max(...values))} s`;
  print('');
  for (const [name, value] of [
    ['cycles', cycles],
    ['writes acknowledged', book.acknowledged],
    ['writes of unknown fate', book.unknown],
    ['baskets ordered', `${book.orders.length} (${customers(book)})`],
    ['calls to promote them', book.promotions],
    ['of these answered', book.promoted],
    ['lost', count('lost')],
    ['doubled', count('doubled')],
    ['answered differently', count('differs')],
    ['other faults', book.faults.length - count('lost') - count('doubled') - count('differs')],
    ['codes sent once more', book.resent],
    ['seals', seals],
    ['slowest restart', slowest(starts)],
    ['slowest recovery of engine', slowest(outages.map(({ recovered }) => (recovered ?? Number.NaN) / 1000))],
    ['slowest answer meanwhile', slowest(outages.map((outage) => outage.slowest / 1000))],
  ] as const) {
    print(`${name.padEnd(28)}${value}`);
  }
}

interface Options {
  readonly cycles: number;
  readonly seed: number;
  readonly victims: readonly Victim[];
  readonly plant: string | undefined;
}

const USAGE = `usage: npm run prove -- crash [--cycles N] [--seed N] [--only server|engine|both] [--plant NAME]
The service gives up on purpose when its engine dies six times in a minute: with --only engine, keep to 5 cycles.
plants:
${Object.entries(plants)
  .map(([name, { what }]) => `  ${name.padEnd(12)} ${what}`)
  .join('\n')}
`;

function readOptions(args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: {
        cycles: { type: 'string', default: '20' },
        seed: { type: 'string', default: '1' },
        only: { type: 'string' },
        plant: { type: 'string' },
      },
    });
    const { only, plant } = values;
    const [cycles, seed] = [Number(values.cycles), Number(values.seed)];
    const chosen = victims.filter((victim) => only === undefined || victim === only);
    const whole = Number.isInteger(cycles) && cycles > 0 && Number.isInteger(seed);
    if (whole && chosen.length > 0 && (plant === undefined || plants[plant] !== undefined)) {
      return { cycles, seed, victims: chosen, plant };
    }
  } catch {
    // an option it does not know: said below
  }
  process.stderr.write(USAGE);
  process.exit(2);
}

/** `npm run prove -- crash [options]` */
export async function run(args: string[]): Promise<void> {
  const { cycles, seed, victims: chosen, plant } = readOptions(args);
  const book = new Book();
  const figures: Figures = { cycles: 0, starts: [], outages: [], seals: 0 };
  const random = sequence(seed);
  const service = await Service.create(plant && join(import.meta.dirname, 'crash/plants', `${plant}.ts`));
  const load = new Load(book, seed + 1, CLIENTS);
  const planted = plant === undefined ? '' : `, planted: ${plants[plant]!.what}`;
  print(`${cycles} cycles, ${CLIENTS} clients, seed ${seed}${planted}`);
  try {
    await service.start('--demo', ...settings);
    await service.startTwin();
    for (let number = 1; number <= cycles && book.faults.length === 0; number += 1) {
      await cycle(number, chosen[(number - 1) % chosen.length]!, service, load, random, figures);
    }
    if (book.faults.length === 0) await cleanStop(service, book, figures);
  } catch (error) {
    book.fault(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    load.stop();
    load.close();
    await service.remove();
  }
  summary(book, figures);
  for (const fault of book.faults.slice(0, 10)) print(`FAULT  ${fault}`);
  if (book.faults.length > 10) print(`FAULT  … and ${book.faults.length - 10} more`);
  const shows = plant === undefined ? undefined : plants[plant]!.shows;
  const found = book.faults.find((fault) => shows !== undefined && fault.startsWith(shows));
  if (found !== undefined) print(`The planted fault was found in cycle ${figures.cycles}: ${found}`);
  else if (plant !== undefined) print('The planted fault was not found: this proof proves nothing.');
  process.exitCode = (plant === undefined ? book.faults.length === 0 : found !== undefined) ? 0 : 1;
}
