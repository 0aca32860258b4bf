/** Customers who change their profiles all the time, and remember what was acknowledged. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection, type Outcome } from '../http.ts';

const PASSWORD = 'correct-horse-battery';
const PROFILE = '/users/profile/';

interface Customer {
  readonly id: number;
  readonly authorization: string;
  /** The last name that was acknowledged. */
  name: string;
  /** Names of changes without an answer: each may have been made. */
  doubtful: string[];
  busy: boolean;
}

export class Customers {
  readonly #connection: Connection;
  readonly #random: () => number;
  readonly #people: Customer[] = [];
  #tags = 0;
  acknowledged = 0;
  unknown = 0;
  readonly faults: string[] = [];

  constructor(random: () => number, sockets: number) {
    this.#random = random;
    this.#connection = new Connection(sockets);
  }

  async register(origin: string, count: number): Promise<void> {
    let next = 0;
    const one = async (): Promise<void> => {
      while (next < count) {
        next += 1;
        const body = { email: `member${next}@example.com`, password: PASSWORD, first_name: 'n0', last_name: 'Yılmaz' };
        const made = await this.#connection.send(origin, 'POST', '/users/registration/', { body });
        if (made.kind !== 'answer' || made.status !== 201) throw new Error(`registration: ${JSON.stringify(made)}`);
        const authorization = `Token ${made.body.key as string}`;
        const me = await this.#connection.send(origin, 'GET', '/current_user/', { headers: { authorization } });
        if (me.kind !== 'answer') throw new Error(`current_user: ${JSON.stringify(me)}`);
        this.#people.push({ id: me.body.pk as number, authorization, name: 'n0', doubtful: [], busy: false });
      }
    };
    await Promise.all([one(), one(), one(), one()]);
  }

  #anybody(): Customer {
    for (;;) {
      const customer = this.#people[Math.floor(this.#random() * this.#people.length)]!;
      if (!customer.busy) return customer;
    }
  }

  async #change(origin: string): Promise<Outcome> {
    const customer = this.#anybody();
    customer.busy = true;
    this.#tags += 1;
    const first_name = `n${this.#tags}`;
    const body = {
      first_name,
      ...(this.#random() < 0.3 ? { email_allowed: this.#random() < 0.5 } : {}),
      ...(this.#random() < 0.2 ? { date_of_birth: `19${10 + Math.floor(this.#random() * 90)}-05-17` } : {}),
    };
    const { authorization } = customer;
    const outcome = await this.#connection.send(origin, 'PATCH', PROFILE, { body, headers: { authorization } });
    if (outcome.kind === 'answer' && outcome.status === 200) {
      this.acknowledged += 1;
      customer.name = first_name;
      customer.doubtful = [];
    } else if (outcome.kind !== 'unsent') {
      this.unknown += 1;
      customer.doubtful.push(first_name);
      if (outcome.kind === 'answer' && outcome.status !== 503)
        this.faults.push(`a change was answered ${outcome.status}`);
    }
    customer.busy = false;
    return outcome;
  }

  /**
   * Makes changes, some at a time, each hand with a short rest in between.
   * @param until more are made as long as this says so
   * @returns milliseconds of each that was answered
   */
  async change(origin: string, hands: number, until: () => boolean): Promise<number[]> {
    const times: number[] = [];
    const hand = async (): Promise<void> => {
      while (until()) {
        const outcome = await this.#change(origin);
        if (outcome.kind === 'answer') times.push(outcome.milliseconds);
        await sleep(this.#random() * 40);
      }
    };
    await Promise.all(Array.from({ length: hands }, hand));
    return times;
  }

  /** What the service says of each now. @throws Error where it is not what was acknowledged */
  async truth(origin: string): Promise<Map<number, Record<string, unknown>>> {
    const found = new Map<number, Record<string, unknown>>();
    for (const { id, authorization, name, doubtful } of this.#people) {
      const read = await this.#connection.send(origin, 'GET', PROFILE, { headers: { authorization } });
      if (read.kind !== 'answer' || read.status !== 200) throw new Error(`profile: ${JSON.stringify(read)}`);
      const { first_name, last_name, email_allowed, date_of_birth } = read.body as Record<string, unknown>;
      if (first_name !== name && !doubtful.includes(first_name as string))
        this.faults.push(`account ${id} is called ${String(first_name)}, acknowledged was ${name}`);
      found.set(id, { first_name, last_name, email_allowed, date_of_birth });
    }
    return found;
  }

  close(): void {
    this.#connection.close();
  }
}
