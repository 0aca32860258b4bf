/** What customers do: names and flags, and a new phone number proven by its code. */
import type { Answer, Outcome } from '../http.ts';
import type { Client, Moving } from './client.ts';
import * as model from './model.ts';

const WITH_LOYALTY = '/users/profile-with-loyalty/';

/** A PATCH of somebody's profile. Its name becomes the tag, so that the profile tells which change was the last. */
async function patch(
  client: Client,
  person: model.Person,
  path: string,
  body: Readonly<Record<string, string | boolean>>,
  number: string | null,
  effect: (tag: string) => model.Effect,
): Promise<[model.Fate, Outcome]> {
  const deed = client.deed(`PATCH ${path} ${JSON.stringify(body)}`, (tag) => effect(tag).lines);
  const authorization = { authorization: `Token ${person.key}` };
  const outcome = await client.ask(
    'PATCH',
    path,
    { ...body, first_name: deed.tag },
    { ...authorization, 'user-agent': deed.tag },
  );
  if (outcome.kind === 'answer' && outcome.status === 400 && body['code'] !== undefined) {
    deed.fate = 'undone';
    return ['undone', outcome];
  }
  deed.fate = client.load.judge(outcome, deed, 200);
  const done = (answer: Answer): void => {
    deed.fate = 'done';
    Object.assign(person, { name: deed.tag, number, standing: effect(deed.tag).standing });
    if (person.version !== undefined) person.version += 1;
    client.compare(person, answer);
    if (client.moving?.number === number) client.moving = undefined;
  };
  if (deed.fate === 'done') done(outcome as Answer);
  if (deed.fate === 'unknown') {
    client.wonder('GET', '/users/profile/', authorization, (answer) => {
      if (answer.body.first_name === deed.tag) {
        done(answer);
      } else {
        deed.fate = 'undone';
        client.compare(person, answer);
      }
    });
  }
  return [deed.fate, outcome];
}

/** Changes a name and, mostly, flags. */
export async function change(client: Client): Promise<model.Fate> {
  const person = client.anybody();
  const stated = client.chance(0.8) ? client.flags() : {};
  const effect = (tag: string): model.Effect => model.stateFlags(person.standing, stated, tag);
  return (await patch(client, person, '/users/profile/', stated, person.number, effect))[0];
}

/** Asks for a code. The same number again until it was promised: an answer that was lost may have been a promise. */
export async function move(client: Client): Promise<model.Fate> {
  const { load } = client;
  client.moving ??= { person: client.anybody(), number: load.nextNumber(), refusals: 0, notBefore: 0 };
  const { person, number } = client.moving;
  const promise = load.book.promises.get(number) ?? { asked: 0, promised: false };
  load.book.promises.set(number, promise);
  if (promise.promised) return change(client);
  const deed = client.deed(`PATCH ${WITH_LOYALTY} ${number}`);
  const headers = { authorization: `Token ${person.key}`, 'user-agent': deed.tag };
  const outcome = await client.ask('PATCH', WITH_LOYALTY, { phone: number }, headers);
  deed.fate = load.judge(outcome, deed, 202);
  if (outcome.kind !== 'unsent') promise.asked += 1;
  if (deed.fate === 'done') promise.promised = true;
  return deed.fate;
}

/** Proves the number with the code that came. */
export async function prove(client: Client, moving: Moving, code: string): Promise<model.Fate> {
  const { person, number } = moving;
  const effect = (tag: string): model.Effect => model.moveNumber(person, tag);
  const [fate, outcome] = await patch(client, person, WITH_LOYALTY, { phone: number, code }, number, effect);
  if (outcome.kind === 'answer' && outcome.status === 400) {
    // A newer code may be on its way, because an unanswered request for one was repeated.
    moving.refusals += 1;
    moving.notBefore = performance.now() + 300;
    if (moving.refusals === 3) {
      client.load.book.fault(`the code for ${number} is refused: ${JSON.stringify(outcome.body)}`);
      client.moving = undefined;
    }
  }
  return fate;
}
