/** Mixed writes from many clients at once, each remembering what it was told. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, type Asked, Connection, type Outcome } from '../http.ts';
import { Client } from './client.ts';
import { API_KEY, companies, OWNER_PASSWORD } from './demo.ts';
import { promote, register, tick } from './guest.ts';
import { type Book, type Deed, type Fate, sequence } from './model.ts';
import { order, tell } from './orders.ts';
import { change, move, prove } from './shopper.ts';
import { hire, permit, set } from './staff.ts';

/** Settings that change nothing the load depends on, each written by one client. */
const settingNames = ['BASKET_CONSENT_TTL', 'PASSWORD_RESET_AGE', 'EMAIL_CHANGE_AGE', 'SESSION_AGE'];

/** How long the service may take to answer again once its engine has died. */
const RECOVERY = 10_000;
/** No 503 for so long, and it is well. */
const WELL = 700;

/** What was seen since the engine was killed. */
export interface Outage {
  readonly killedAt: number;
  /** Milliseconds until a write was acknowledged and no answer was 503 any more. */
  recovered: number | undefined;
  /** Answers of 503. */
  shed: number;
  /** Milliseconds the slowest answer took. */
  slowest: number;
}

export class Load {
  readonly book: Book;
  readonly random: () => number;
  readonly #clients: Client[];
  readonly #connection = new Connection();
  /** What order systems call through. */
  readonly orderSystems = new Connection(200);
  readonly tokens = new Map<number, string>();
  /** Newest code by number. */
  readonly codes = new Map<string, string>();
  origin = '';
  /** The second process on the same data. */
  twin = '';
  outage: Outage | undefined;
  #stopped = true;
  #numbers = 0;

  constructor(book: Book, seed: number, clients: number) {
    this.book = book;
    this.random = sequence(seed);
    this.#clients = Array.from({ length: clients }, (_, index) => new Client(this, index));
  }

  /** A phone number nobody has yet. @param range of accounts: only those are sent codes */
  nextNumber(range: 53 | 54 = 53): string {
    this.#numbers += 1;
    return `+90${range}${10_000_000 + this.#numbers}`;
  }

  /** Sends, and notes what no answer may ever be. */
  async ask(
    connection: Connection,
    method: string,
    path: string,
    asked: Asked,
    origin = this.origin,
  ): Promise<Outcome> {
    const outcome = await connection.send(origin, method, path, asked);
    if (outcome.kind === 'broken' && outcome.why === 'timeout')
      this.book.fault(`${method} ${path} had no answer for 25 s`);
    if (outcome.kind !== 'answer') return outcome;
    const { status, headers } = outcome;
    if (status === 503 && headers['retry-after'] === undefined)
      this.book.fault(`${method} ${path}: 503 without Retry-After`);
    if (status === 503 && this.outage === undefined) this.book.fault(`${method} ${path}: 503 while everything ran`);
    if (status >= 500 && status !== 503)
      this.book.fault(`${method} ${path}: ${status} ${JSON.stringify(outcome.body)}`);
    if (this.outage !== undefined) this.#watch(this.outage, method, outcome);
    return outcome;
  }

  #watch(outage: Outage, method: string, { status, milliseconds }: Answer): void {
    const now = performance.now();
    outage.slowest = Math.max(outage.slowest, milliseconds);
    if (status === 503) {
      outage.shed += 1;
      outage.recovered = undefined;
    } else if (outage.shed > 0 && method !== 'GET' && status < 300) {
      outage.recovered ??= now - outage.killedAt;
    }
  }

  /** Writes down what became of a request: `done`, `unknown` or (nobody listened, or it was refused) `undone`. */
  judge(outcome: Outcome, deed: Deed, expected: number): Fate {
    if (outcome.kind === 'unsent') return 'undone';
    if (outcome.kind === 'broken' || outcome.status >= 500) {
      this.book.unknown += 1;
      return 'unknown';
    }
    if (outcome.status === expected) {
      this.book.acknowledged += 1;
      return 'done';
    }
    this.book.fault(`${deed.what} was refused: ${outcome.status} ${JSON.stringify(outcome.body)}`);
    return 'undone';
  }

  /** Signs the owners in and gives every client an account and an entry, where it has none yet. */
  async prepare(origin: string, twin: string): Promise<void> {
    Object.assign(this, { origin, twin });
    this.outage = undefined;
    for (const { id, owner } of companies) {
      const body = { grant_type: 'password', client_id: 'demo', username: owner, password: OWNER_PASSWORD };
      const outcome = await this.ask(this.#connection, 'POST', '/api/token', { body });
      if (outcome.kind !== 'answer' || outcome.status !== 200)
        throw new Error(`no token for ${owner}: ${JSON.stringify(outcome)}`);
      this.tokens.set(id, outcome.body.access_token);
    }
    await Promise.all(this.#clients.map((client) => this.#welcome(client)));
  }

  async #welcome(client: Client): Promise<void> {
    if (client.people.length === 0) await register(client, {});
    if (client.people.length === 0) throw new Error('a client could not register');
    if (client.entry === undefined) await hire(client);
  }

  /** Writes until `stop`. */
  async run(): Promise<void> {
    this.#stopped = false;
    await Promise.all([this.#readCodes(), ...this.#clients.map((client) => this.#write(client))]);
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Resolves when the service has been well again for a while; notes a fault when that takes too long. */
  async recovery(outage: Outage): Promise<void> {
    for (;;) {
      const since = performance.now() - outage.killedAt;
      if (outage.recovered !== undefined && since > outage.recovered + WELL) return;
      if (outage.recovered === undefined && since > RECOVERY) {
        this.book.fault(`no write was acknowledged within ${RECOVERY / 1000} s after the engine died`);
        return;
      }
      await sleep(10);
    }
  }

  /** Asks the service what became of requests whose fate is unknown, and whether everybody still has what they were told. */
  async settle(origin: string, twin: string): Promise<void> {
    Object.assign(this, { origin, twin });
    await Promise.all(this.#clients.map((client) => client.settle()));
  }

  async #write(client: Client): Promise<void> {
    while (!this.#stopped) {
      if (client.unsure !== undefined) {
        if (await client.unsure()) client.unsure = undefined;
        else await this.pause();
      } else if ((await this.#step(client)) !== 'done') {
        await this.pause();
      }
    }
  }

  #step(client: Client): Promise<Fate> {
    const { moving, index } = client;
    const code = moving && this.codes.get(moving.number);
    if (moving !== undefined && code !== undefined && performance.now() > moving.notBefore)
      return prove(client, moving, code);
    const chance = this.random();
    const setting = settingNames[index];
    if (chance < 0.05 && setting !== undefined) return set(client, setting);
    if (chance < 0.07) return register(client, client.flags());
    if (chance < 0.08) return promote(client);
    if (chance < 0.11) return order(client);
    if (chance < 0.15) return tell(client);
    if (chance < 0.3) return tick(client);
    if (chance < 0.45) return permit(client, client.entry!);
    if (chance < 0.55) return move(client);
    return change(client);
  }

  /** Between two tries while nobody answers. */
  pause(): Promise<void> {
    return sleep(50);
  }

  async #readCodes(): Promise<void> {
    while (!this.#stopped) {
      const outcome = await this.ask(this.#connection, 'GET', '/v1/outbox/sms', { headers: API_KEY });
      if (outcome.kind === 'answer' && outcome.status === 200) {
        for (const { to, text } of outcome.body as { to: string; text: string }[]) {
          // A question whether somebody consents has a link, no code.
          if (!text.includes('://')) this.codes.set(to, /\b\d{6}\b/.exec(text)![0]);
        }
      }
      await sleep(100);
    }
  }

  close(): void {
    this.#connection.close();
    this.orderSystems.close();
    for (const client of this.#clients) client.close();
  }
}
