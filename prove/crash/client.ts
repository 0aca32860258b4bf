/** What every client of the load has: a connection, a memory, and a way to find out what became of a request. */
import { type Answer, Connection, type Outcome } from '../http.ts';
import { companies } from './demo.ts';
import type { Load } from './load.ts';
import * as model from './model.ts';

export const PASSWORD = 'crash-proof-horse';

/** A number somebody is about to prove. */
export interface Moving {
  readonly person: model.Person;
  readonly number: string;
  refusals: number;
  /** No new try before this moment, by `performance.now`. */
  notBefore: number;
}

export class Client {
  readonly load: Load;
  readonly index: number;
  /** Those it acts for: few, so that each has a long history. */
  people: model.Person[] = [];
  moving: Moving | undefined;
  entry: model.Entry | undefined;
  /** Finds out what became of the last request; false while nobody answers. */
  unsure: (() => Promise<boolean>) | undefined;
  requests = 0;
  baskets = 0;
  /** Who ordered last without an account. */
  guest: model.Guest | undefined;
  /** The address another system tells us about, and what it knows of it. */
  readonly told = new Map<model.Channel, model.Told>();
  readonly #connection = new Connection();

  constructor(load: Load, index: number) {
    this.load = load;
    this.index = index;
  }

  close(): void {
    this.#connection.close();
  }

  /** The company whose owner it is. */
  get company(): (typeof companies)[number] {
    return companies[this.index % companies.length]!;
  }

  get owner(): Record<string, string> {
    return { authorization: `Bearer ${this.load.tokens.get(this.company.id)}` };
  }

  chance(of: number): boolean {
    return this.load.random() < of;
  }

  /** Somebody it will not act for any more, where there are enough left. */
  dismiss(): model.Person | undefined {
    const last = this.people.at(-1);
    if (last === undefined || this.people.length === 1 || last === this.moving?.person) return undefined;
    this.people.pop();
    return last;
  }

  anybody(): model.Person {
    return this.people[Math.floor(this.load.random() * this.people.length)]!;
  }

  /** One to four flags. */
  flags(): model.Flags {
    const stated = model.flagNames.filter(() => this.chance(0.5));
    const some = stated.length > 0 ? stated : [model.flagNames[0]!];
    return Object.fromEntries(some.map((flag) => [flag, this.chance(0.5)]));
  }

  /** Opens the book for a request. Its tag travels as User-Agent, which the ledger keeps. */
  deed(what: string, lines: (tag: string) => readonly model.Line[] = () => []): model.Deed {
    this.requests += 1;
    const tag = `crash-${this.index}-${this.requests}`;
    const deed: model.Deed = { tag, what: `${tag} ${what}`, lines: lines(tag), fate: 'unknown' };
    this.load.book.deeds.set(tag, deed);
    return deed;
  }

  ask(method: string, path: string, body: unknown, headers: Record<string, string> = {}): Promise<Outcome> {
    return this.load.ask(this.#connection, method, path, { ...(body === undefined ? {} : { body }), headers });
  }

  /** Asks again what a request has led to, as soon as somebody answers. */
  wonder(method: string, path: string, headers: Record<string, string>, look: (answer: Answer) => void): void {
    this.unsure = async () => {
      const outcome = await this.ask(method, path, undefined, headers);
      if (outcome.kind !== 'answer' || outcome.status !== 200) return false;
      look(outcome);
      return true;
    };
  }

  /** The profile of somebody must show what was acknowledged before, nothing less and nothing else. */
  compare(person: model.Person, { body, headers }: Answer): void {
    const expected = { first_name: person.name, phone: person.number, ...model.shownFlags(person.standing) };
    for (const [field, value] of Object.entries(expected)) {
      if (body[field] === value) continue;
      this.load.book.fault(
        `lost: ${person.email} has ${field} ${JSON.stringify(body[field])} instead of ${JSON.stringify(value)}`,
      );
    }
    person.id = body.id;
    const version = Number(/^"(\d+)/.exec(String(headers.etag))?.[1]);
    this.load.book.version(`the profile of ${person.email}`, version, person.version);
    person.version = version;
  }

  /** Finds out what is unknown, and whether everybody still has what they were told. */
  async settle(): Promise<void> {
    for (const end = performance.now() + 15_000; this.unsure !== undefined; ) {
      if (await this.unsure()) this.unsure = undefined;
      else if (performance.now() > end) throw new Error('the service does not answer what became of a request');
      else await this.load.pause();
    }
    for (const person of this.people) {
      const answer = await this.ask('GET', '/users/profile/', undefined, { authorization: `Token ${person.key}` });
      if (answer.kind === 'answer' && answer.status === 200) this.compare(person, answer);
      else this.load.book.fault(`lost: ${person.email} cannot read the profile any more`);
    }
  }
}
