/**
 * What order systems do: promote baskets, and tell what a person said, many callers at once through two processes, again
 * and again until they are answered.
 */
import type { Answer, Outcome } from '../http.ts';
import type { Client } from './client.ts';
import { API_KEY } from './demo.ts';
import { register, tickBasket, uidOf } from './guest.ts';
import * as model from './model.ts';

/** Callers of one promotion at once, and calls of each in all. */
const CALLERS = 20;
const CALLS = 100;
/** Callers who tell the same thing. */
const TELLERS = 3;

interface Call {
  readonly path: string;
  readonly body: unknown;
  readonly headers?: Record<string, string>;
}

/** Calls of which every one must be answered, and every one the same. */
interface Insistence {
  readonly call: Call;
  readonly callers: number;
  readonly calls: number;
  /** Told of each call that may have been heard. */
  readonly count: (answered: boolean) => void;
  readonly look: (answer: Answer) => void;
  /** Every caller has its answer. */
  readonly done: () => void;
}

/** Whether it was answered; 503 is no answer. */
const isAnswer = (outcome: Outcome): outcome is Answer => outcome.kind === 'answer' && outcome.status < 500;

/** Calls until nobody waits for an answer any more. */
async function insist(
  client: Client,
  deed: model.Deed,
  { call, callers, calls, count, look, done }: Insistence,
): Promise<model.Fate> {
  const { load } = client;
  const { path, body, headers = {} } = call;
  let heard = 0;
  const round = async (): Promise<boolean> => {
    const outcomes = await Promise.all(
      Array.from({ length: callers }, (_, n) =>
        load.ask(
          load.orderSystems,
          'POST',
          path,
          { body, headers: { ...API_KEY, 'user-agent': deed.tag, ...headers } },
          n % 2 === 0 ? load.origin : load.twin,
        ),
      ),
    );
    for (const outcome of outcomes) {
      if (outcome.kind === 'unsent') continue;
      heard += 1;
      count(isAnswer(outcome));
      if (!isAnswer(outcome)) continue;
      if (outcome.status < 300) look(outcome);
      else load.book.fault(`${deed.what} was refused: ${outcome.status} ${JSON.stringify(outcome.body)}`);
    }
    if (!outcomes.every(isAnswer)) return false;
    if (heard < calls) return round();
    deed.fate = 'done';
    done();
    return true;
  };
  if (!(await round())) client.unsure = round;
  return deed.fate;
}

/** Ticks flags for a new basket and orders it: as a guest, or about a member who will do nothing else any more. */
export async function order(client: Client): Promise<model.Fate> {
  const { load } = client;
  const { book } = load;
  // Members are needed whom orders can be about.
  if (client.people.length === 1 && client.chance(0.6)) return register(client, client.flags());
  client.baskets += 1;
  const basket = 400_000_000 + (client.index + 1) * 1_000_000 + client.baskets;
  const stated = client.flags();
  const { fate, tag } = await tickBasket(client, basket, stated);
  if (fate !== 'done') return fate;
  const member = client.chance(0.7) ? client.dismiss() : undefined;
  const signedIn = member?.id !== undefined && member.number !== null && client.chance(0.6);
  const customer = member === undefined ? 'guest' : signedIn ? 'holder' : 'stranger';
  const guest = client.guest !== undefined && client.chance(0.6) ? client.guest : someGuest(client, basket);
  const { email, number: phone } = member ?? { email: guest.email, number: guest.phone };
  const known =
    member?.standing ??
    new Map([...(book.addresses.get(email) ?? []), ...(phone === null ? [] : (book.addresses.get(phone) ?? []))]);
  const { standing, lines, becomes } = model.placeOrder(known, stated, {
    customer,
    addressed: (channel) => channel === 'email' || phone !== null,
    tag,
  });
  const deed = client.deed(`POST /v1/baskets/${basket}/promote of a ${customer}`, () => lines);
  const placed: model.Order = { basket, customer, becomes, answer: undefined };
  const body = {
    uid: uidOf(basket),
    occasion: 'order',
    order: deed.tag,
    ...(customer === 'holder'
      ? { account: member!.id }
      : { recipient: { email, ...(phone === null ? {} : { phone }) } }),
  };
  return insist(client, deed, {
    call: { path: `/v1/baskets/${basket}/promote`, body },
    callers: CALLERS,
    calls: CALLS,
    count(answered) {
      book.promotions += 1;
      if (answered) book.promoted += 1;
    },
    look(answer) {
      if (placed.answer === undefined) {
        placed.answer = answer.body as model.Promoted;
        const found = readAnswer(placed.answer);
        const expected = readBecomes(becomes);
        if (found !== expected) book.fault(`${deed.what} was answered ${found} instead of ${expected}`);
      } else if (JSON.stringify(answer.body) !== JSON.stringify(placed.answer)) {
        book.fault(
          `differs: ${deed.what} was answered ${JSON.stringify(answer.body)} and before ${JSON.stringify(placed.answer)}`,
        );
      }
    },
    done() {
      book.orders.push(placed);
      for (const [channel, became] of becomes)
        book.ticked.get(`${basket} ${channel}`)!.consumed = became !== 'no_address';
      if (member !== undefined) {
        member.standing = standing;
        return;
      }
      client.guest = guest;
      const of = (mine: (channel: model.Channel) => boolean): ReadonlyMap<model.Channel, model.State> =>
        new Map([...standing].filter(([channel]) => mine(channel)));
      book.addresses.set(
        email,
        of((channel) => channel === 'email'),
      );
      if (phone !== null)
        book.addresses.set(
          phone,
          of((channel) => channel !== 'email'),
        );
    },
  });
}

const someGuest = ({ load }: Client, basket: number): model.Guest => ({
  email: `order-${basket}@guest.example`,
  phone: load.random() < 0.7 ? load.nextNumber(54) : null,
});

/** An answer and what it should be, in the same words. */
const readAnswer = ({ events, pending, unchanged }: model.Promoted): string =>
  [
    ...events.map(({ channel }) => `${channel}: event`),
    ...pending.map(({ channel }) => `${channel}: pending`),
    ...unchanged.map(({ channel, reason }) => `${channel}: ${reason}`),
  ]
    .sort()
    .join(', ');
const readBecomes = (becomes: model.Order['becomes']): string =>
  [...becomes]
    .map(([channel, became]) => {
      const word =
        became === 'no_change' || became === 'no_address' ? became : became === 'request' ? 'pending' : 'event';
      return `${channel}: ${word}`;
    })
    .sort()
    .join(', ');

/** Tells what a person said about an address of this client's own: with a key, with the time it was said, or with both. */
export async function tell(client: Client): Promise<model.Fate> {
  const { load, told, index } = client;
  const { book } = load;
  const channel = model.flags[model.flagNames[Math.floor(load.random() * model.flagNames.length)]!];
  const recipient = channel === 'email' ? `told-${index}@guest.example` : `+9055${10_000_000 + index}`;
  const before = told.get(channel);
  const granted = client.chance(0.5);
  const evidenced = client.chance(0.5);
  const keyed = client.chance(0.5);
  const at = keyed && client.chance(0.5) ? undefined : moment(client, before, granted);
  const line = model.tell(before, { granted, at, evidenced });
  const way = keyed ? (at === undefined ? 'a key' : 'a key and a time') : 'a time';
  const deed = client.deed(`POST /v1/consents ${recipient} ${channel}=${granted} with ${way}`, (tag) =>
    line === undefined ? [] : [{ channel, tag, ...line }],
  );
  const body = {
    recipient,
    channel,
    granted,
    // At checkout the browser shows that the person was there; a file says so with a document alone.
    source: evidenced ? 'checkout' : 'import',
    ...(at === undefined ? {} : { occurred_at: at.toISOString() }),
    evidence: { user_agent: deed.tag },
  };
  const applied = line !== undefined && line.kept === undefined;
  const state = applied ? model.follow(before?.state, line.kind) : before?.state;
  let first: Answer['body'];
  let lost = false;
  return insist(client, deed, {
    call: {
      path: '/v1/consents',
      body,
      ...(keyed ? { headers: { 'idempotency-key': deed.tag } } : {}),
    },
    callers: TELLERS,
    calls: TELLERS,
    count(answered) {
      lost ||= !answered;
    },
    look(answer) {
      if (first !== undefined) {
        if (answer.body.id !== first.id)
          book.fault(`doubled: ${deed.what} was answered with event ${answer.body.id}, before with ${first.id}`);
        return;
      }
      first = answer.body;
      const found = [first.state, ...(line === undefined ? [first.id] : [first.kind, first.outcome])].join();
      const expected = [state, ...(line === undefined ? [before!.event] : [line.kind, line.kept ?? 'applied'])].join();
      if (found !== expected) book.fault(`${deed.what} was answered ${found} instead of ${expected}`);
    },
    done() {
      book.acknowledged += 1;
      if (lost) book.unknown += 1;
      if (!applied) return;
      told.set(channel, { state: state!, latest: new Date(first.occurred_at), event: first.id });
      book.addresses.set(recipient, new Map(book.addresses.get(recipient)).set(channel, state!));
    },
  });
}

/** When it was said: now, long before what is on record, or in the very moment of a yes that it takes back. */
function moment(client: Client, before: model.Told | undefined, granted: boolean): Date {
  // Clocks of other systems may run ahead: then it was said now.
  if (client.chance(0.1)) return new Date(Date.now() + 60_000);
  const now = Date.now() - 1;
  if (before === undefined) return new Date(now);
  const { latest, state } = before;
  if (!granted && state === 'granted' && client.chance(0.2)) return latest;
  return new Date(
    client.chance(0.4)
      ? latest.getTime() - 1 - Math.floor(client.load.random() * 1e9)
      : Math.max(now, latest.getTime() + 1),
  );
}
