/** What guests do: register, tick flags for a basket, and register with what they ticked. */
import type { Answer } from '../http.ts';
import { type Client, PASSWORD } from './client.ts';
import * as model from './model.ts';

/** Flags that were ticked for a basket. */
interface Basket {
  readonly id: number;
  readonly tag: string;
}

/** @param basket the flags are those of this basket and become consents with it */
export async function register(client: Client, stated: model.Flags, basket?: Basket): Promise<model.Fate> {
  const { load } = client;
  const number = basket === undefined && client.chance(0.5) ? load.nextNumber() : null;
  const effect = (tag: string): model.Effect =>
    basket === undefined ? model.stateFlags(new Map(), stated, tag) : model.promote(stated, basket.tag);
  const deed = client.deed('POST /users/registration/', (tag) => effect(tag).lines);
  const email = `${deed.tag}@crash.example`;
  const body = {
    email,
    password: PASSWORD,
    first_name: deed.tag,
    last_name: 'Crash',
    ...(number === null ? {} : { phone: number }),
    ...(basket === undefined ? stated : { basket: basket.id, uid: uidOf(basket.id) }),
  };
  const outcome = await client.ask('POST', '/users/registration/', body, { 'user-agent': deed.tag });
  deed.fate = load.judge(outcome, deed, 201);
  const done = (key: string): void => {
    deed.fate = 'done';
    const { standing } = effect(deed.tag);
    const person: model.Person = { email, id: undefined, key, name: deed.tag, version: undefined, number, standing };
    load.book.people.push(person);
    client.people = [person, ...client.people].slice(0, 3);
    for (const channel of Object.values(model.flags)) {
      const ticked = basket && load.book.ticked.get(`${basket.id} ${channel}`);
      if (ticked !== undefined) ticked.consumed = true;
    }
  };
  if (deed.fate === 'done') done((outcome as Answer).body.key);
  if (deed.fate === 'unknown') {
    // Whether the account was made shows when its owner signs in.
    client.unsure = async () => {
      const answer = await client.ask('POST', '/users/login/', { email, password: PASSWORD });
      if (answer.kind !== 'answer' || answer.status >= 500) return false;
      if (answer.status === 200) done(answer.body.key);
      else deed.fate = 'undone';
      return true;
    };
  }
  return deed.fate;
}

export const uidOf = (basket: number): string => `guest-${basket}`;

/** A basket of this client's own, ticked a few times. */
export function tick(client: Client): Promise<model.Fate> {
  client.baskets += 1;
  return tickBasket(client, (client.index + 1) * 1_000_000 + Math.floor(client.baskets / 5), client.flags()).then(
    ({ fate }) => fate,
  );
}

/** Ticks flags for a new basket and registers with it. */
export async function promote(client: Client): Promise<model.Fate> {
  client.baskets += 1;
  const stated = client.flags();
  const id = 500_000_000 + (client.index + 1) * 1_000_000 + client.baskets;
  const { fate, tag } = await tickBasket(client, id, stated);
  return fate === 'done' ? register(client, stated, { id, tag }) : fate;
}

/** Ticks flags for a basket. */
export async function tickBasket(client: Client, basket: number, stated: model.Flags): Promise<model.Deed> {
  const { book } = client.load;
  const deed = client.deed(`POST /users/permissions/ ${basket} ${JSON.stringify(stated)}`);
  const body = { basket, uid: uidOf(basket), ...stated };
  const outcome = await client.ask('POST', '/users/permissions/', body, { 'user-agent': deed.tag });
  deed.fate = client.load.judge(outcome, deed, 200);
  if (deed.fate === 'undone') return deed;
  for (const [flag, value] of Object.entries(stated) as [model.Flag, boolean][]) {
    const key = `${basket} ${model.flags[flag]}`;
    const ticked = book.ticked.get(key) ?? { done: undefined, unknown: [], consumed: false };
    book.ticked.set(key, ticked);
    if (deed.fate === 'unknown') ticked.unknown.push({ tag: deed.tag, value });
    else Object.assign(ticked, { done: { tag: deed.tag, value }, unknown: [] });
  }
  return deed;
}
