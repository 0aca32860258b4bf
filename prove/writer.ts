/** One client: it does one thing after the other and never forgets an answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, Connection, type Outcome } from './http.ts';
import { API_KEY, companies, type Load } from './load.ts';
import * as model from './model.ts';

const PASSWORD = 'crash-proof-horse';
const permissionKeys = [
  'company_info',
  'holidays',
  'newsletters',
  'translations',
  'permissions',
  'email_settings',
  'products',
  'shop_info',
  'checkout_settings',
  'time_settings',
  'discounts',
];

/** A number somebody is about to prove. */
interface Moving {
  readonly person: model.Person;
  readonly number: string;
  refusals: number;
  notBefore: number;
}

const entryState = (shops: readonly number[], permissions: Readonly<Record<string, boolean>>): string =>
  JSON.stringify([shops, permissionKeys.filter((key) => permissions[key])]);

export class Writer {
  readonly #load: Load;
  readonly #index: number;
  readonly #setting: string | undefined;
  readonly #connection = new Connection();
  #requests = 0;
  #baskets = 0;
  #people: model.Person[] = [];
  #moving: Moving | undefined;
  #entry: model.Entry | undefined;
  /** Finds out what became of the last request; false while nobody answers. */
  #unsure: (() => Promise<boolean>) | undefined;

  constructor(load: Load, index: number, setting: string | undefined) {
    this.#load = load;
    this.#index = index;
    this.#setting = setting;
  }

  async prepare(): Promise<void> {
    if (this.#people.length === 0) await this.#register({});
    const [person] = this.#people;
    if (person === undefined) throw new Error('a client could not register');
    if (this.#entry !== undefined) return;
    const { id: company } = this.#company;
    const outcome = await this.#ask(
      'POST',
      `/company/companies/${company}/permissions/users`,
      { email: person.email },
      this.#owner(),
    );
    if (outcome.kind !== 'answer' || outcome.status !== 200)
      throw new Error(`a client has no entry: ${JSON.stringify(outcome)}`);
    this.#entry = { id: outcome.body.id, company, state: entryState([], {}), version: 1 };
    this.#load.book.entries.push(this.#entry);
  }

  async run(): Promise<void> {
    while (!this.#load.stopped) {
      if (this.#unsure !== undefined && !(await this.#unsure())) {
        await sleep(50);
        continue;
      }
      this.#unsure = undefined;
      if ((await this.#step()) === 'undone') await sleep(10);
    }
  }

  async settle(): Promise<void> {
    for (const end = performance.now() + 15_000; this.#unsure !== undefined; await sleep(20)) {
      if (await this.#unsure()) this.#unsure = undefined;
      else if (performance.now() > end) throw new Error('the service does not answer what became of a request');
    }
    for (const person of this.#people) {
      const profile = await this.#profile(person);
      if (profile === undefined) this.#load.book.fault(`${person.email} cannot read the profile any more`);
      else this.#compare(person, profile);
    }
  }

  close(): void {
    this.#connection.close();
  }

  async #step(): Promise<model.Deed['fate']> {
    const moving = this.#moving;
    if (moving !== undefined && this.#load.codes.has(moving.number) && performance.now() > moving.notBefore)
      return this.#prove(moving);
    const chance = this.#load.random();
    if (chance < 0.05 && this.#setting !== undefined) return this.#set(this.#setting);
    if (chance < 0.06) return this.#register(this.#flags());
    if (chance < 0.07) return this.#promote();
    if (chance < 0.3) return (await this.#tick()).fate;
    if (chance < 0.45) return this.#permit(this.#entry!);
    if (chance < 0.55) return this.#move();
    return this.#change();
  }

  get #company(): (typeof companies)[number] {
    return companies[this.#index % 2]!;
  }

  #owner(): Record<string, string> {
    return { authorization: `Bearer ${this.#load.tokens.get(this.#company.id)}` };
  }

  #any<T>(list: readonly T[]): T {
    return list[Math.floor(this.#load.random() * list.length)]!;
  }

  /** One to four flags. */
  #flags(): Partial<Record<model.Flag, boolean>> {
    const stated = Object.fromEntries(
      model.flagNames.filter(() => this.#load.random() < 0.5).map((flag) => [flag, this.#load.random() < 0.5]),
    );
    return Object.keys(stated).length > 0 ? stated : { email_allowed: this.#load.random() < 0.5 };
  }

  #tag(): string {
    this.#requests += 1;
    return `crash-${this.#index}-${this.#requests}`;
  }

  #deed(what: string, lines: (tag: string) => readonly model.Line[] = () => []): model.Deed {
    const tag = this.#tag();
    const deed: model.Deed = { tag, what: `${tag} ${what}`, lines: lines(tag), fate: 'unknown' };
    this.#load.book.deeds.set(tag, deed);
    return deed;
  }

  #ask(method: string, path: string, body: unknown, headers: Record<string, string> = {}): Promise<Outcome> {
    return this.#load.ask(this.#connection, method, path, { ...(body === undefined ? {} : { body }), headers });
  }

  async #profile(person: model.Person): Promise<Answer | undefined> {
    const outcome = await this.#ask('GET', '/users/profile/', undefined, { authorization: `Token ${person.key}` });
    return outcome.kind === 'answer' && outcome.status === 200 ? outcome : undefined;
  }

  /** An answer must show what was acknowledged before, nothing less and nothing else. */
  #compare(person: model.Person, { body, headers }: Answer): void {
    const expected = { first_name: person.name, phone: person.number, ...model.shownFlags(person.standing) };
    for (const [field, value] of Object.entries(expected)) {
      if (body[field] !== value)
        this.#load.book.fault(
          `lost: ${person.email} has ${field} ${JSON.stringify(body[field])} instead of ${JSON.stringify(value)}`,
        );
    }
    const version = Number(/^"(\d+)/.exec(String(headers['etag']))?.[1]);
    if (person.version !== undefined && version !== person.version) {
      const word = version > person.version ? 'doubled' : 'lost';
      this.#load.book.fault(
        `${word}: the profile of ${person.email} has version ${version} instead of ${person.version}`,
      );
    }
    person.version = version;
  }

  #apply(person: model.Person, name: string, number: string | null, { standing }: model.Effect): void {
    Object.assign(person, { name, number, standing });
    if (person.version !== undefined) person.version += 1;
  }

  async #patch(
    person: model.Person,
    path: string,
    body: object,
    number: string | null,
    effect: (tag: string) => model.Effect,
  ): Promise<[model.Deed['fate'], Outcome]> {
    const deed = this.#deed(`PATCH ${path} ${JSON.stringify(body)}`, (tag) => effect(tag).lines);
    const outcome = await this.#ask(
      'PATCH',
      path,
      { ...body, first_name: deed.tag },
      { authorization: `Token ${person.key}`, 'user-agent': deed.tag },
    );
    if (outcome.kind === 'answer' && outcome.status === 400 && 'code' in body) {
      deed.fate = 'undone';
      return ['undone', outcome];
    }
    deed.fate = this.#load.judge(outcome, deed, 200);
    const done = (answer: Answer): void => {
      deed.fate = 'done';
      this.#apply(person, deed.tag, number, effect(deed.tag));
      this.#compare(person, answer);
      if (this.#moving?.number === number) this.#moving = undefined;
    };
    if (deed.fate === 'done') done(outcome as Answer);
    if (deed.fate === 'unknown') {
      this.#unsure = async () => {
        const profile = await this.#profile(person);
        if (profile === undefined) return false;
        if (profile.body.first_name === deed.tag) {
          done(profile);
        } else {
          deed.fate = 'undone';
          this.#compare(person, profile);
        }
        return true;
      };
    }
    return [deed.fate, outcome];
  }

  async #change(): Promise<model.Deed['fate']> {
    const person = this.#any(this.#people);
    const stated = this.#load.random() < 0.8 ? this.#flags() : {};
    const [fate] = await this.#patch(person, '/users/profile/', stated, person.number, (tag) =>
      model.stateFlags(person.standing, stated, tag),
    );
    return fate;
  }

  /** Asks for a code. The same number again until it was promised: an answer that was lost may have been a promise. */
  async #move(): Promise<model.Deed['fate']> {
    const { book } = this.#load;
    this.#moving ??= { person: this.#any(this.#people), number: this.#load.nextNumber(), refusals: 0, notBefore: 0 };
    const { person, number } = this.#moving;
    const promise = book.promises.get(number) ?? { asked: 0, promised: false };
    book.promises.set(number, promise);
    if (promise.promised) return 'done';
    const deed = this.#deed(`PATCH /users/profile-with-loyalty/ ${number}`);
    const outcome = await this.#ask(
      'PATCH',
      '/users/profile-with-loyalty/',
      { phone: number },
      { authorization: `Token ${person.key}`, 'user-agent': deed.tag },
    );
    deed.fate = this.#load.judge(outcome, deed, 202);
    if (outcome.kind !== 'unsent') promise.asked += 1;
    if (deed.fate === 'done') promise.promised = true;
    return deed.fate;
  }

  async #prove(moving: Moving): Promise<model.Deed['fate']> {
    const { person, number } = moving;
    const code = this.#load.codes.get(number)!;
    const [fate, outcome] = await this.#patch(
      person,
      '/users/profile-with-loyalty/',
      { phone: number, code },
      number,
      (tag) => model.moveNumber(person, tag),
    );
    if (outcome.kind === 'answer' && outcome.status === 400) {
      // A newer code may be on its way, because an unanswered request for one was repeated.
      moving.refusals += 1;
      moving.notBefore = performance.now() + 300;
      if (moving.refusals === 3) {
        this.#load.book.fault(`the code for ${number} is refused: ${JSON.stringify(outcome.body)}`);
        this.#moving = undefined;
      }
    }
    return fate;
  }

  /** @param basket flags that were ticked for a basket, to be promoted */
  async #register(
    stated: Partial<Record<model.Flag, boolean>>,
    basket?: { id: number; tag: string },
  ): Promise<model.Deed['fate']> {
    const { book } = this.#load;
    const number = basket === undefined && this.#load.random() < 0.5 ? this.#load.nextNumber() : null;
    const effect = (tag: string): model.Effect =>
      basket === undefined ? model.stateFlags(new Map(), stated, tag) : model.promote(stated, basket.tag);
    const deed = this.#deed('POST /users/registration/', (tag) => effect(tag).lines);
    const email = `${deed.tag}@crash.example`;
    const uid = basket === undefined ? {} : { basket: basket.id, uid: `guest-${basket.id}` };
    const outcome = await this.#ask(
      'POST',
      '/users/registration/',
      {
        email,
        password: PASSWORD,
        first_name: deed.tag,
        last_name: 'Crash',
        ...(number === null ? {} : { phone: number }),
        ...(basket === undefined ? stated : {}),
        ...uid,
      },
      { 'user-agent': deed.tag },
    );
    deed.fate = this.#load.judge(outcome, deed, 201);
    const done = (key: string): void => {
      deed.fate = 'done';
      const person = {
        email,
        tag: deed.tag,
        key,
        name: deed.tag,
        version: undefined,
        number,
        standing: effect(deed.tag).standing,
      };
      book.people.push(person);
      // Few at a time, so that each has a long history.
      this.#people = [person, ...this.#people].slice(0, 3);
      for (const channel of Object.values(model.flags)) {
        const ticked = basket && book.ticked.get(`${basket.id} ${channel}`);
        if (ticked !== undefined) ticked.consumed = true;
      }
    };
    if (deed.fate === 'done') done((outcome as Answer).body.key);
    if (deed.fate === 'unknown') {
      this.#unsure = async () => {
        const answer = await this.#ask('POST', '/users/login/', { email, password: PASSWORD });
        if (answer.kind !== 'answer' || answer.status >= 500) return false;
        if (answer.status === 200) done(answer.body.key);
        else deed.fate = 'undone';
        return true;
      };
    }
    return deed.fate;
  }

  /** Flags of a guest for a basket. */
  async #tick(
    stated = this.#flags(),
    fresh = false,
  ): Promise<{ fate: model.Deed['fate']; basket: number; tag: string }> {
    const { book } = this.#load;
    // A basket is ticked a few times; those to be promoted once.
    this.#baskets += fresh ? 5 : 1;
    const basket = (fresh ? 500_000_000 : 0) + (this.#index + 1) * 1_000_000 + Math.floor(this.#baskets / 5);
    const deed = this.#deed(`POST /users/permissions/ ${basket} ${JSON.stringify(stated)}`);
    const outcome = await this.#ask(
      'POST',
      '/users/permissions/',
      { basket, uid: `guest-${basket}`, ...stated },
      { 'user-agent': deed.tag },
    );
    deed.fate = this.#load.judge(outcome, deed, 200);
    for (const [flag, value] of Object.entries(stated) as [model.Flag, boolean][]) {
      if (deed.fate === 'undone') break;
      const channel = model.flags[flag];
      const key = `${basket} ${channel}`;
      const ticked = book.ticked.get(key) ?? { basket, channel, done: undefined, unknown: [], consumed: false };
      book.ticked.set(key, ticked);
      if (deed.fate === 'unknown') ticked.unknown.push({ tag: deed.tag, value });
      else Object.assign(ticked, { done: { tag: deed.tag, value }, unknown: [] });
    }
    return { fate: deed.fate, basket, tag: deed.tag };
  }

  async #promote(): Promise<model.Deed['fate']> {
    const stated = this.#flags();
    const { fate, basket, tag } = await this.#tick(stated, true);
    return fate === 'done' ? this.#register(stated, { id: basket, tag }) : fate;
  }

  async #permit(entry: model.Entry): Promise<model.Deed['fate']> {
    let shop_ids: number[];
    let permissions: Record<string, boolean>;
    do {
      shop_ids = this.#company.shops.filter(() => this.#load.random() < 0.5);
      permissions = Object.fromEntries(permissionKeys.map((key) => [key, this.#load.random() < 0.5]));
    } while (entryState(shop_ids, permissions) === entry.state);
    const next = entryState(shop_ids, permissions);
    const path = `/company/companies/${entry.company}/permissions/users/${entry.id}`;
    const deed = this.#deed(`PATCH ${path} ${next}`);
    const outcome = await this.#ask('PATCH', path, { shop_ids, permissions }, this.#owner());
    deed.fate = this.#load.judge(outcome, deed, 200);
    const look = ({ body }: Answer): void => {
      const found = entryState(body.shop_ids, body.permissions);
      if (deed.fate === 'unknown') deed.fate = found === next ? 'done' : 'undone';
      if (deed.fate === 'done') Object.assign(entry, { state: next, version: entry.version + 1 });
      if (found !== entry.state) this.#load.book.fault(`lost: entry ${entry.id} is ${found} instead of ${entry.state}`);
    };
    if (deed.fate === 'done') look(outcome as Answer);
    if (deed.fate === 'unknown') {
      this.#unsure = async () => {
        const answer = await this.#ask('GET', path, undefined, this.#owner());
        if (answer.kind !== 'answer' || answer.status !== 200) return false;
        look(answer);
        return true;
      };
    }
    return deed.fate;
  }

  async #set(name: string): Promise<model.Deed['fate']> {
    const { book } = this.#load;
    const setting = book.settings.get(name) ?? { name, values: [] };
    book.settings.set(name, setting);
    const value = 1_000_000 + this.#requests;
    const path = `/v1/settings/${name}`;
    const deed = this.#deed(`PUT ${path} ${value}`);
    const outcome = await this.#ask('PUT', path, { value }, API_KEY);
    deed.fate = this.#load.judge(outcome, deed, 200);
    if (deed.fate === 'done') setting.values.push(value);
    if (deed.fate === 'unknown') {
      this.#unsure = async () => {
        const answer = await this.#ask('GET', path, undefined, API_KEY);
        if (answer.kind !== 'answer' || answer.status !== 200) return false;
        deed.fate = answer.body.value === value ? 'done' : 'undone';
        if (deed.fate === 'done') setting.values.push(value);
        return true;
      };
    }
    return deed.fate;
  }
}
