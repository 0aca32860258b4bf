/** Compares what clients remember with what is stored: everything acknowledged is there, once, and nothing else is. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Book, type Channel, follow, leadsTo, type State } from './model.ts';

/** How long a promised message may take once the service is up. */
const MESSAGE_PATIENCE = 10_000;

interface StoredEvent {
  id: string;
  contact_point: string;
  channel: string;
  purpose: string;
  kind: string;
  outcome: string;
  occurred_at: Date;
  email: string | null;
  tag: string | null;
}

/** All checks. A fault of each kind is told a few times, not a thousand. */
export async function compare(db: pg.Client, book: Book): Promise<void> {
  const events = await readEvents(db);
  compareLines(book, events);
  await compareReplay(db, book, events);
  await compareAccounts(db, book);
  await compareAddresses(db, book);
  await compareBaskets(db, book);
  await compareOrders(db, book);
  await compareEntries(db, book);
  await compareSettings(db, book);
  await comparePromises(db, book);
}

async function readEvents(db: pg.Client): Promise<StoredEvent[]> {
  const { rows } = await db.query<StoredEvent>(`
    select e.id, e.contact_point, e.channel, e.purpose, e.kind, e.outcome, e.occurred_at, a.email, v.evidence->>'user_agent' as tag
      from consent_event e left join account a on a.id = e.account left join consent_evidence v on v.event = e.id
     order by e.occurred_at, e.id`);
  return rows;
}

/** Each change of a flag has one line, and each line comes from one request. */
function compareLines(book: Book, events: readonly StoredEvent[]): void {
  const stored = new Map<string, number>();
  for (const { channel, kind, outcome, tag, email, id } of events) {
    const key = `${tag} ${channel} ${kind} ${outcome}`;
    if (tag?.startsWith('crash-')) stored.set(key, (stored.get(key) ?? 0) + 1);
    else if (email?.endsWith('@crash.example')) book.fault(`line ${id} of ${email} comes from no request`);
  }
  for (const { fate, lines, what } of book.deeds.values()) {
    for (const { channel, kind, tag, kept = 'applied' } of lines) {
      const key = `${tag} ${channel} ${kind} ${kept}`;
      const count = stored.get(key) ?? 0;
      stored.delete(key);
      if (fate === 'done' && count === 0) book.fault(`lost: no line ${kind} ${channel} of ${what}`);
      if (fate !== 'done' && count > 0)
        book.fault(`half done: line ${kind} ${channel} of ${what}, which left no other trace`);
      if (count > 1) book.fault(`doubled: ${count} lines ${kind} ${channel} of ${what}`);
    }
  }
  for (const key of stored.keys()) book.fault(`line ${key} is none that was asked for`);
}

/** The projection is what a replay of the ledger gives, and no line says what was so already. */
async function compareReplay(db: pg.Client, book: Book, events: readonly StoredEvent[]): Promise<void> {
  const replay = new Map<string, { state: State; since: Date; event: string }>();
  for (const { id, contact_point, channel, purpose, kind, outcome, occurred_at } of events) {
    if (outcome !== 'applied') continue;
    const key = `${contact_point} ${channel} ${purpose}`;
    const before = replay.get(key)?.state;
    const state = follow(before, kind);
    if (state === undefined) book.fault(`line ${id} is of the kind ${kind}`);
    else if (before === leadsTo[kind]) book.fault(`doubled: line ${id} says ${kind} where it was so already`);
    else if (state === before) continue;
    else replay.set(key, { state, since: occurred_at, event: id });
  }
  const { rows } = await db.query<{ key: string; state: string; since: Date; event: string }>(
    `select contact_point || ' ' || channel || ' ' || purpose as key, state, since, event from consent_state`,
  );
  for (const { key, state, since, event } of rows) {
    const expected = replay.get(key);
    replay.delete(key);
    if (expected?.state !== state || expected.event !== event || expected.since.getTime() !== since.getTime()) {
      book.fault(
        `the projection of ${key} is ${state} by ${event}, the replay ${expected?.state} by ${expected?.event}`,
      );
    }
  }
  for (const key of replay.keys()) book.fault(`the projection lacks ${key}`);
}

async function compareAccounts(db: pg.Client, book: Book): Promise<void> {
  const { rows } = await db.query<{
    email: string;
    first_name: string;
    phone_e164: string | null;
    version: number;
    consents: string[];
  }>(`
    select a.email, a.first_name, a.phone_e164, a.version,
           array(select s.channel || '=' || s.state from consent_state s
                  where s.contact_point in (a.email_point, a.phone_point) order by 1) as consents
      from account a where a.email like '%@crash.example'`);
  const stored = new Map(rows.map((row) => [row.email, row]));
  for (const { email, name, number, version, standing } of book.people) {
    const row = stored.get(email);
    stored.delete(email);
    if (row === undefined) {
      book.fault(`lost: the account ${email}`);
      continue;
    }
    const expected = [...standing].map(([channel, state]) => `${channel}=${state}`).sort();
    if (row.first_name !== name) book.fault(`lost: ${email} is named ${row.first_name} instead of ${name}`);
    if (row.phone_e164 !== number) book.fault(`lost: ${email} has the number ${row.phone_e164} instead of ${number}`);
    book.version(email, row.version, version);
    if (row.consents.sort().join() !== expected.join())
      book.fault(`${email} stands at ${row.consents.join()} instead of ${expected.join()}`);
  }
  for (const email of stored.keys()) book.fault(`the account ${email} was made by a request that did not happen`);
}

/** Addresses other systems and guests named, held by no account. */
async function compareAddresses(db: pg.Client, book: Book): Promise<void> {
  const { rows } = await db.query<{ value: string; consents: string[] }>(
    `select p.value, array_agg(s.channel || '=' || s.state order by s.channel) as consents
       from contact_point p join consent_state s on s.contact_point = p.id where p.value = any ($1) group by p.value`,
    [[...book.addresses.keys()]],
  );
  const stored = new Map(rows.map(({ value, consents }) => [value, consents.join()]));
  for (const [address, standing] of book.addresses) {
    const found = stored.get(address) ?? '';
    const expected = [...standing].map(([channel, state]) => `${channel}=${state}`).sort();
    if (found !== expected.join()) book.fault(`${address} stands at ${found} instead of ${expected.join()}`);
  }
}

/** Nobody can read a basket back, so its row tells which of the requests of unknown fate counts; one that was acknowledged does. */
async function compareBaskets(db: pg.Client, book: Book): Promise<void> {
  const { rows } = await db.query<{
    basket: string;
    channel: string;
    value: boolean;
    tag: string | null;
    consumed: boolean;
  }>(`
    select b.basket, b.channel, b.value, coalesce(b.evidence->>'user_agent', v.evidence->>'user_agent') as tag,
           b.consumed_at is not null as consumed
      from basket_consent b left join consent_evidence v on v.event = b.event
     where b.basket >= 1000000`);
  const stored = new Map(rows.map((row) => [`${row.basket} ${row.channel}`, row]));
  for (const [key, ticked] of book.ticked) {
    const row = stored.get(key);
    stored.delete(key);
    const { done, unknown, consumed } = ticked;
    if (row === undefined) {
      if (done !== undefined) book.fault(`lost: ${key} of ${done.tag}`);
      ticked.unknown = [];
      continue;
    }
    // What led to no line keeps no evidence of who ticked it.
    const nameless = row.consumed && consumed && row.tag === null;
    const match = nameless
      ? done
      : [...(done === undefined ? [] : [done]), ...unknown].find(({ tag }) => tag === row.tag);
    if (match === undefined) book.fault(`lost: basket ${key} is as ${row.tag} left it instead of ${done?.tag}`);
    else if (match.value !== row.value)
      book.fault(`basket ${key} is ${row.value} although ${match.tag} said ${match.value}`);
    else Object.assign(ticked, { done: match, unknown: [] });
    if (row.consumed !== consumed) book.fault(`basket ${key} is ${row.consumed ? '' : 'not '}promoted`);
  }
  for (const key of stored.keys()) book.fault(`basket ${key} was ticked by a request that did not happen`);
}

/** Each flag of a basket was promoted as a whole or not at all, by one line at most, and every caller was told of that line. */
async function compareOrders(db: pg.Client, book: Book): Promise<void> {
  const { rows } = await db.query<{
    basket: string;
    channel: Channel;
    consumed: boolean;
    event: string | null;
    outcome: string | null;
    kind: string | null;
    lines: number;
  }>(`
    with line as (
      select v.evidence->>'basket' as basket, e.channel, count(*)::int as lines
        from consent_evidence v join consent_event e on e.id = v.event where v.evidence ? 'basket' group by 1, 2
    )
    select b.basket, b.channel, b.consumed_at is not null as consumed, b.event, b.outcome, e.kind,
           coalesce(line.lines, 0) as lines
      from basket_consent b
      left join consent_event e on e.id = b.event
      left join line on line.basket = b.basket::text and line.channel = b.channel
     where b.basket >= 1000000`);
  const stored = new Map(rows.map((row) => [`${row.basket} ${row.channel}`, row]));
  for (const [key, { consumed, event, outcome, kind, lines }] of stored) {
    if (lines > 1) book.fault(`doubled: basket ${key} has ${lines} lines`);
    const silent = event === null && lines === 0;
    const whole = consumed
      ? outcome === 'unchanged'
        ? silent
        : outcome !== null && kind !== null && lines > 0
      : silent && outcome === null;
    if (!whole) book.fault(`half done: basket ${key} is ${JSON.stringify({ consumed, event, outcome, kind, lines })}`);
  }
  for (const { basket, becomes, answer } of book.orders) {
    const told = new Map([...answer!.events, ...answer!.pending].map(({ channel, event }) => [channel, event]));
    for (const [channel, became] of becomes) {
      const row = stored.get(`${basket} ${channel}`);
      const event = told.get(channel) ?? null;
      const kind = event === null ? null : became;
      if (row === undefined || row.event !== event || row.kind !== kind)
        book.fault(
          `lost: basket ${basket} ${channel} is ${row?.kind} by ${row?.event}, callers were told ${kind} by ${event}`,
        );
    }
  }
}

async function compareEntries(db: pg.Client, book: Book): Promise<void> {
  const { rows } = await db.query<{ id: string; shop_ids: string[]; permissions: string[]; version: number }>(
    'select id, shop_ids, permissions, version from entry where id = any ($1)',
    [book.entries.map(({ id }) => id)],
  );
  const stored = new Map(rows.map((row) => [Number(row.id), row]));
  for (const { id, state, version } of book.entries) {
    const row = stored.get(id);
    const found = row === undefined ? 'gone' : JSON.stringify([row.shop_ids.map(Number), row.permissions]);
    if (found !== state) book.fault(`lost: entry ${id} is ${found} instead of ${state}`);
    else book.version(`entry ${id}`, row!.version, version);
  }
}

/** The history of a setting has every change once, in order. */
async function compareSettings(db: pg.Client, book: Book): Promise<void> {
  for (const [name, values] of book.settings) {
    const { rows } = await db.query<{ value: number }>('select value from setting_change where name = $1 order by id', [
      name,
    ]);
    const found = rows.map(({ value }) => value);
    if (found.join() === values.join()) continue;
    const lost = values.filter((value) => !found.includes(value));
    book.fault(
      `the history of ${name} has ${found.length} changes instead of ${values.length}${lost.length > 0 ? `; lost: ${lost.join()}` : ''}`,
    );
  }
}

/** A code that was promised (202) is sent; a crash between sending and writing that down may send it once more. */
async function comparePromises(db: pg.Client, book: Book): Promise<void> {
  const waiting = [...book.promises].filter(([, { promised }]) => promised).map(([number]) => number);
  for (const end = performance.now() + MESSAGE_PATIENCE; ; await sleep(50)) {
    const { rows } = await db.query<{ recipient: string; count: string }>(
      `select recipient, count(*) from console_message where medium = 'sms' and recipient like '+9053%' and body !~ '://' group by recipient`,
    );
    const sent = new Map(rows.map(({ recipient, count }) => [recipient, Number(count)]));
    const missing = waiting.filter((number) => !sent.has(number));
    if (missing.length > 0 && performance.now() < end) continue;
    for (const number of missing)
      book.fault(`lost: the code for ${number}, promised by 202, was not sent within ${MESSAGE_PATIENCE / 1000} s`);
    book.resent = 0;
    for (const [number, { asked }] of book.promises) {
      const count = sent.get(number) ?? 0;
      if (count > asked + 1) book.fault(`doubled: ${count} codes for ${number}, asked for ${asked} times`);
      if (count > 1) book.resent += 1;
    }
    return;
  }
}
