/** What both proofs of loyalty stand on: the service, a provider it follows, customers, and how all of it comes to rest. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { sequence } from '../crash/model.ts';
import { Service } from '../service.ts';
import { Customers } from './customers.ts';
import { Provider } from './provider.ts';

/** Faults that the proofs must find: each is a trigger in the database of the service. */
const plants: Readonly<Record<string, { readonly what: string; readonly sql: string }>> = {
  'lost-mark': {
    what: 'one change in 20 is not noticed',
    sql: `create function planted() returns trigger language plpgsql as $$
            begin if random() < 0.05 then return null; end if; return new; end $$;
          create trigger planted before insert on loyalty_mark for each row execute function planted()`,
  },
  'new-key': {
    what: 'what is repeated goes out under another key',
    sql: `create function planted() returns trigger language plpgsql as $$
            begin
              if new.request_key is not null and new.request_key = old.request_key and new.claimed_until is not null
              then new.request_key = gen_random_uuid(); end if;
              return new;
            end $$;
          create trigger planted before update on loyalty_member for each row execute function planted()`,
  },
  'settled-early': {
    what: 'one failed delivery in 5 counts as delivered',
    sql: `create function planted() returns trigger language plpgsql as $$
            begin
              if new.attempts > old.attempts and random() < 0.2 then
                new.status = 'settled'; new.check_at = null; new.waiting_since = null;
                new.delivered_sum = new.request_sum;
              end if;
              return new;
            end $$;
          create trigger planted before update on loyalty_member for each row execute function planted()`,
  },
};

export const print = (line: string): void => void process.stdout.write(`${line}\n`);

export interface Stage {
  readonly service: Service;
  readonly provider: Provider;
  readonly customers: Customers;
  readonly random: () => number;
  readonly faults: string[];
  /** Starts the service, or starts it again. @returns seconds until it was ready */
  start(): Promise<number>;
}

const settings = (provider: Provider): string[] =>
  [
    'THROTTLING_SETTINGS={"login":null,"register":null,"profile-update":null}',
    // Below what a misbehaving provider makes one wait for, above what a busy machine does.
    'LOYALTY_TIMEOUT=1',
    'LOYALTY_ATTEMPTS=40',
    `CUSTOMER_LOYALTY_CARD_SERVICE=${JSON.stringify({
      connector: 'http',
      url: `${provider.url}/members/{account}`,
      fields: {
        first_name: 'first_name',
        last_name: 'last_name',
        date_of_birth: 'date_of_birth',
        email_allowed: 'consents.email',
      },
    })}`,
  ].flatMap((setting) => ['--set', setting]);

/** Gives `work` a stage with this many customers whom the provider knows, and takes it down afterwards. */
async function onStage(
  { people, seed, plant }: { people: number; seed: number; plant: string | undefined },
  work: (stage: Stage) => Promise<void>,
): Promise<string[]> {
  const random = sequence(seed);
  const provider = new Provider(random);
  await provider.up();
  const service = await Service.create(join(import.meta.dirname, 'clock.ts'));
  const customers = new Customers(random, 64);
  const faults: string[] = [];
  const stage: Stage = {
    service,
    provider,
    customers,
    random,
    faults,
    start: () => service.start(...settings(provider)),
  };
  try {
    await stage.start();
    if (plant !== undefined) {
      const db = await service.database();
      await db.query(plants[plant]!.sql).finally(() => db.end());
    }
    print(`registering ${people} customers …`);
    await customers.register(service.url, people);
    await rest(stage);
    await work(stage);
  } catch (error) {
    faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    customers.close();
    await service.remove();
    await provider.down();
  }
  faults.push(...customers.faults, ...provider.faults);
  return faults;
}

interface Left {
  marks: number;
  waiting: number;
  checks: number;
  parked: number;
}

const left = async (db: pg.Client): Promise<Left> =>
  (
    await db.query<Left>(`
      select (select count(*) from loyalty_mark)::int as marks,
             count(*) filter (where status = 'waiting')::int as waiting,
             count(*) filter (where check_at is not null)::int as checks,
             count(*) filter (where status = 'parked')::int as parked from loyalty_member`)
  ).rows[0]!;

/** Lets time pass until nothing is to be delivered any more. @returns seconds it took */
export async function rest({ service, faults }: Stage): Promise<number> {
  const started = performance.now();
  const db = await service.database();
  try {
    for (let turn = 0; ; turn += 1) {
      const { marks, waiting, checks, parked } = await left(db);
      if (parked > 0) faults.push(`${parked} accounts were parked`);
      if (marks + waiting + checks + parked === 0 || parked > 0) break;
      if (turn > 1200) {
        faults.push(`it never came to rest: ${marks} marks, ${waiting} waiting, ${checks} to be looked at`);
        break;
      }
      // A quarter of a minute each fifth of a second, as long as somebody waits for time to pass.
      service.arm();
      await sleep(200);
    }
  } finally {
    await db.end();
  }
  return (performance.now() - started) / 1000;
}

/** Compares what the provider has with what is true. */
export async function compare({ service, provider, customers, faults }: Stage): Promise<void> {
  for (const [account, truth] of await customers.truth(service.url)) {
    const theirs = provider.member(account);
    const ours = JSON.stringify(truth);
    const shown = theirs === undefined ? undefined : JSON.stringify({ ...truth, ...theirs });
    if (shown !== ours) faults.push(`lost: account ${account} is ${ours}, the provider has ${JSON.stringify(theirs)}`);
  }
  for (const place of provider.doubled) faults.push(`doubled: ${place}`);
}

/** Says what was found. @param plant name of a planted fault */
function verdict(faults: readonly string[], plant: string | undefined): void {
  for (const fault of faults.slice(0, 10)) print(`FAULT  ${fault}`);
  if (faults.length > 10) print(`FAULT  … and ${faults.length - 10} more`);
  if (plant !== undefined)
    print(
      faults.length > 0
        ? 'The planted fault was found.'
        : 'The planted fault was not found: this proof proves nothing.',
    );
  process.exitCode = (plant === undefined ? faults.length === 0 : faults.length > 0) ? 0 : 1;
}

/**
 * Reads the options of a proof, plays its story and says what was found.
 * @param amount name of the option that says how much is done, with its default
 * @param people customers, unless `--people` says otherwise
 */
export async function play(
  args: string[],
  [amount, much]: readonly [string, number],
  people: number,
  story: (stage: Stage, much: number) => Promise<void>,
): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      [amount]: { type: 'string', default: String(much) },
      people: { type: 'string', default: String(people) },
      seed: { type: 'string', default: '1' },
      plant: { type: 'string' },
    },
  }) as { values: Record<string, string | undefined> };
  const { plant } = values;
  if (plant !== undefined && plants[plant] === undefined)
    throw new Error(`There is no plant ${plant}: ${Object.keys(plants).join(', ')}`);
  print(
    `${values[amount]} ${amount}, ${values['people']} customers${plant === undefined ? '' : `, planted: ${plants[plant]!.what}`}`,
  );
  const options = { people: Number(values['people']), seed: Number(values['seed']), plant };
  verdict(await onStage(options, (stage) => story(stage, Number(values[amount]))), plant);
}
