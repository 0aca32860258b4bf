/** The profile against a model of it: whatever is sent in whatever order, through however many processes. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Client, createKit, type Kit, type Send } from '../../test/kit.ts';

const PROFILE = '/users/profile/';

let kit: Kit;
let twin: Kit;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null });
  twin = await kit.twin();
});
afterAll(() => kit.close());

function newNumber(): string {
  numbers += 1;
  return `+90532${3_000_000 + numbers}`;
}

/** The same sign-in, talking to the second process. */
function throughTwin(client: Client): Send {
  const cookie = [...client.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const headers = { cookie, 'x-csrftoken': client.cookies.get('csrftoken')! };
  return (method, path, sent = {}) => twin.send(method, path, { ...sent, headers: { ...headers, ...sent.headers } });
}

// The model: a profile is its last word on every field, and what was said about a number stays with the number.

type Said = boolean | undefined;
const phoneFlags = ['sms_allowed', 'whatsapp_allowed', 'call_allowed'] as const;
type PhoneFlag = (typeof phoneFlags)[number];

interface Model {
  fields: Record<string, unknown>;
  email: Said;
  /** Index of the number, null without one. */
  phone: number | null;
  numbers: Map<number, Partial<Record<PhoneFlag, boolean>>>;
  /** What was said before there was a number. */
  waiting: Partial<Record<PhoneFlag, boolean>>;
}

/** One step: fields of the body; `phone` is the index of one of the run's numbers. */
type Step = Record<string, unknown>;

const spaces = fc.constantFrom('', ' ', '  ');
const name = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(spaces, fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }), spaces)
      .map((parts) => parts.join('')),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '',
      '   ',
      null,
      'x'.repeat(50),
      'x'.repeat(51),
      '𝒳'.repeat(50),
      '𝒳'.repeat(51),
      17,
      true,
      [],
    ),
  },
);
const flag = fc.oneof(
  { weight: 6, arbitrary: fc.boolean() },
  { weight: 1, arbitrary: fc.constantFrom<unknown>('true', 0, 1, 'off', 'perhaps', 2, null) },
);
const phone = fc.constantFrom<unknown>(0, 1, 2, 0, 1, 2, null, '', 'wrong');
const day = fc.oneof(
  fc
    .date({ min: new Date('0100-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
    .map((date) => date.toISOString().slice(0, 10)),
  fc.constantFrom<unknown>(null, '1990-2-3', '1990-02-30', '03.02.1990', ''),
);
const attributes = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.dictionary(
      fc.string({ maxLength: 5 }).filter((key) => key !== '__proto__'),
      fc.jsonValue({ maxDepth: 2, noUnicodeString: false }),
      { maxKeys: 4 },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<unknown>(
      null,
      [],
      'text',
      { a: { b: { c: { d: { e: {} } } } } },
      { big: 'x'.repeat(16_384) },
    ),
  },
);
const step: fc.Arbitrary<Step> = fc.record(
  {
    first_name: name,
    last_name: name,
    gender: fc.constantFrom('male', 'female', null, 'other'),
    date_of_birth: day,
    language_code: fc.constantFrom('en', 'tr', 'pt_BR', 'de-AT', '', 'x y', null),
    attributes,
    email_allowed: flag,
    sms_allowed: flag,
    whatsapp_allowed: flag,
    call_allowed: flag,
    phone,
    id: fc.integer(),
    email: fc.constant('other@example.com'),
    genders: fc.constant([]),
    unknown: fc.anything({ maxDepth: 0, withBigInt: false }),
  },
  { requiredKeys: [] },
);

const truths: readonly unknown[] = [true, 'true', 1];
const lies: readonly unknown[] = [false, 'off', 0];
const isText = (value: unknown): boolean => typeof value === 'string' && value.isWellFormed() && !value.includes('\0');
/** True when no text in a value holds what no text may hold. */
const clean = (value: unknown): boolean => {
  if (typeof value === 'string') return isText(value);
  if (typeof value !== 'object' || value === null) return true;
  return Object.entries(value).every(([key, inner]) => isText(key) && clean(inner));
};
const depth = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depth)) : 0;

/** False where a whole number is too large to be exact, or a key is one that parsers elsewhere follow. */
function keepable(value: unknown): boolean {
  if (typeof value === 'number') return Number.isSafeInteger(value) || !/^-?\d+$/.test(JSON.stringify(value));
  if (typeof value !== 'object' || value === null) return true;
  return !Object.hasOwn(value, '__proto__') && Object.values(value).every(keepable);
}

/** What a field's value becomes, or undefined when it cannot be. */
const reads: Record<string, (value: unknown) => { value: unknown } | undefined> = {
  first_name: (value) => readName(value),
  last_name: (value) => readName(value),
  gender: (value) => (value === 'other' ? undefined : { value }),
  date_of_birth(value) {
    if (value === null) return { value };
    if (value === '1990-2-3') return { value: '1990-02-03' };
    return ['1990-02-30', '03.02.1990', ''].includes(value as string) ? undefined : { value };
  },
  language_code: (value) => (['', 'x y', null].includes(value as string) ? undefined : { value }),
  attributes(value) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || depth(value) > 5 || !keepable(value))
      return undefined;
    return JSON.stringify(value).length > 16_384 ? undefined : { value };
  },
  phone: (value) => (value === 'wrong' ? undefined : { value: value === '' ? null : value }),
};
function readName(value: unknown): { value: unknown } | undefined {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined;
  const text = String(value).trim();
  return text === '' || [...text].length > 50 ? undefined : { value: text };
}
for (const one of ['email_allowed', ...phoneFlags]) {
  reads[one] = (value) => {
    if (value === null) return one === 'call_allowed' ? { value: undefined } : undefined;
    return truths.includes(value) ? { value: true } : lies.includes(value) ? { value: false } : undefined;
  };
}

/** Does a step; false when the body is refused, and then nothing changes. */
function change(model: Model, body: Step): boolean {
  const said: Record<string, unknown> = {};
  // `unknown` is passed over, but a body with broken text is refused as a whole.
  if (!clean(JSON.parse(JSON.stringify(body)))) return false;
  for (const [field, value] of Object.entries(body)) {
    const read = reads[field];
    if (read === undefined) continue;
    const result = read(value);
    if (result === undefined) return false;
    said[field] = result.value;
  }
  const { phone: to, email_allowed, ...rest } = said;
  for (const [field, value] of Object.entries(rest))
    if (!(phoneFlags as readonly string[]).includes(field)) model.fields[field] = value;
  if (typeof email_allowed === 'boolean' && email_allowed !== (model.email ?? false)) model.email = email_allowed;

  let carried: Model['waiting'] = {};
  if (to !== undefined && to !== model.phone) {
    if (model.phone !== null) {
      const record = model.numbers.get(model.phone)!;
      for (const one of phoneFlags) if (record[one] === true) record[one] = false;
    } else if (to !== null) {
      carried = model.waiting;
      model.waiting = {};
    }
    model.phone = to as number | null;
    if (model.phone !== null && !model.numbers.has(model.phone)) model.numbers.set(model.phone, {});
  }
  const record = model.phone === null ? model.waiting : model.numbers.get(model.phone)!;
  for (const one of phoneFlags) {
    const stated = rest[one] as Said;
    if (stated === undefined && record[one] === undefined && carried[one] !== undefined) record[one] = carried[one];
    else if (stated !== undefined && stated !== (record[one] ?? (one === 'call_allowed' ? null : false)))
      record[one] = stated;
  }
  return true;
}

function shown(model: Model, run: readonly string[]): Record<string, unknown> {
  const record = model.phone === null ? model.waiting : model.numbers.get(model.phone)!;
  return {
    ...model.fields,
    phone: model.phone === null ? null : run[model.phone],
    email_allowed: model.email ?? false,
    sms_allowed: record.sms_allowed ?? false,
    whatsapp_allowed: record.whatsapp_allowed ?? false,
    call_allowed: record.call_allowed ?? null,
  };
}

test('any sequence of changes does what the model says: absent keeps, null clears, a value sets, wrong changes nothing', async () => {
  let refused = 0;
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 10 }), async (steps) => {
      const ada = await kit.signUp();
      const again = throughTwin(ada);
      const run = [newNumber(), newNumber(), newNumber()];
      const first = (await ada.send('GET', PROFILE)).body;
      const { first_name, last_name, gender, date_of_birth, language_code } = first;
      const model: Model = {
        fields: { first_name, last_name, gender, date_of_birth, language_code, attributes: {} },
        email: undefined,
        phone: null,
        numbers: new Map(),
        waiting: {},
      };
      for (const [index, body] of steps.entries()) {
        const sent = typeof body['phone'] === 'number' ? { ...body, phone: run[body['phone']] } : body;
        const fine = change(model, body);
        const reply = await (index % 2 === 0 ? ada.send : again)('PATCH', PROFILE, { body: sent });
        expect([reply.status, fine || reply.body]).toEqual(fine ? [200, true] : [400, reply.body]);
        const now = await (index % 2 === 0 ? again : ada.send)('GET', PROFILE);
        expect(now.body).toEqual({ ...first, ...shown(model, run) });
        if (fine) expect([reply.body, reply.headers['etag']]).toEqual([now.body, now.headers['etag']]);
        if (fine) taken += 1;
        else refused += 1;
      }
    }),
    { numRuns: 60 },
  );
  // Neither side of the model may be idle.
  expect(taken > 20 && refused > 20).toBe(true);
});

test('ten changes of different fields at once, through two processes, all survive', async () => {
  const values: [string, fc.Arbitrary<unknown>][] = [
    ['first_name', fc.constantFrom('Grace', 'Ada')],
    ['last_name', fc.constantFrom('Hopper', 'Lovelace')],
    ['gender', fc.constantFrom('male', 'female')],
    ['date_of_birth', fc.constantFrom('1990-12-10', '1906-12-09')],
    ['language_code', fc.constantFrom('tr', 'nl')],
    ['attributes', fc.constantFrom({ a: 1 }, { b: [2] })],
    ['email_allowed', fc.boolean()],
    ['sms_allowed', fc.boolean()],
    ['whatsapp_allowed', fc.boolean()],
    ['call_allowed', fc.boolean()],
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(...values.map(([, value]) => value)),
      fc.shuffledSubarray(
        values.map((_, index) => index),
        { minLength: 10, maxLength: 10 },
      ),
      fc.array(fc.boolean(), { minLength: 10, maxLength: 10 }),
      async (chosen, order, processes) => {
        const ada = await kit.signUp({ phone: newNumber() });
        const again = throughTwin(ada);
        const before = (await ada.send('GET', PROFILE)).body;
        const replies = await Promise.all(
          order.map((index, i) =>
            (processes[i] ? again : ada.send)('PATCH', PROFILE, { body: { [values[index]![0]]: chosen[index] } }),
          ),
        );
        expect(replies.map(({ status }) => status)).toEqual(Array(10).fill(200));
        const wanted = Object.fromEntries(values.map(([field], index) => [field, chosen[index]]));
        expect((await ada.send('GET', PROFILE)).body).toEqual({ ...before, ...wanted });
      },
    ),
    { numRuns: 25 },
  );
});

interface Line {
  id: string;
  contact_point: number;
  channel: string;
  kind: string;
  occurred_at: Date;
}

const leadsTo: Record<string, string> = {
  grant: 'granted',
  withdraw: 'withdrawn',
  refuse: 'refused',
  expire: 'expired',
};

/** What the ledger alone says: of each point and channel the event that was said last. */
function replay(lines: readonly Line[]): Map<string, { state: string; since: string; event: string }> {
  const states = new Map<string, { state: string; since: string; event: string }>();
  const times = new Set<string>();
  for (const { id, contact_point, channel, kind, occurred_at } of [...lines].sort(
    (a, b) => a.occurred_at.getTime() - b.occurred_at.getTime(),
  )) {
    const key = `${contact_point} ${channel}`;
    // Nothing was said twice at one moment: the larger time decides alone.
    const time = `${key} ${occurred_at.getTime()}`;
    expect(times.has(time)).toBe(false);
    times.add(time);
    // A write is an edge: a line that changes nothing would be no line.
    const before = states.get(key)?.state;
    const granted = before === 'granted';
    expect([key, kind, kind === 'grant' ? !granted : kind === 'refuse' ? !granted : granted]).toEqual([
      key,
      kind,
      true,
    ]);
    states.set(key, { state: leadsTo[kind]!, since: occurred_at.toISOString(), event: id });
  }
  return states;
}

test('flags written at once by two accounts of one number through two processes: ledger, state and wire agree', async () => {
  const flagNames = ['email_allowed', ...phoneFlags] as const;
  const write = fc.record({
    who: fc.nat(1),
    process: fc.nat(1),
    body: fc.oneof(
      { weight: 6, arbitrary: fc.dictionary(fc.constantFrom(...flagNames), fc.boolean(), { minKeys: 1, maxKeys: 3 }) },
      { weight: 1, arbitrary: fc.record({ phone: fc.nat(1), sms_allowed: fc.boolean() }, { requiredKeys: ['phone'] }) },
    ),
  });
  let events = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(write, { minLength: 5, maxLength: 30 }),
      fc.integer({ min: 1, max: 30 }),
      async (writes, together) => {
        const run = [newNumber(), newNumber()];
        const people = [await kit.signUp({ phone: run[0] }), await kit.signUp({ phone: run[0] })];
        const sends = people.map((client) => [client.send, throughTwin(client)]);
        for (let i = 0; i < writes.length; i += together) {
          const replies = await Promise.all(
            writes.slice(i, i + together).map(({ who, process, body }) => {
              const { phone: to, ...flags } = body as { phone?: number };
              return sends[who]![process]!('PATCH', PROFILE, {
                body: to === undefined ? flags : { ...flags, phone: run[to] },
              });
            }),
          );
          expect(replies.map(({ status, text }) => (status === 200 ? 200 : text))).toEqual(replies.map(() => 200));
        }
        const ids = people.map(({ id }) => id);
        const lines = await kit.rows<Line>(
          "select id, contact_point, channel, kind, occurred_at from consent_event where account = any ($1::bigint[]) and outcome = 'applied'",
          ids,
        );
        events += lines.length;
        const states = replay(lines);
        const stored = await kit.rows<{ key: string; state: string; since: Date; event: string }>(
          `select contact_point || ' ' || channel as key, state, since, event from consent_state
          where event in (select id from consent_event where account = any ($1::bigint[]))`,
          ids,
        );
        expect(
          new Map(stored.map(({ key, state, since, event }) => [key, { state, since: since.toISOString(), event }])),
        ).toEqual(
          new Map(
            [...states].sort(
              ([a], [b]) => stored.findIndex(({ key }) => key === a) - stored.findIndex(({ key }) => key === b),
            ),
          ),
        );
        const points = await kit.rows<{ id: number; email_point: number; phone_point: number }>(
          'select id, email_point, phone_point from account where id = any ($1::bigint[])',
          ids,
        );
        for (const { id, email_point, phone_point } of points) {
          const said = (point: number, channel: string) => states.get(`${point} ${channel}`)?.state;
          const call = said(phone_point, 'call');
          for (const send of sends[ids.indexOf(id)]!) {
            expect((await send('GET', PROFILE)).body).toMatchObject({
              email_allowed: said(email_point, 'email') === 'granted',
              sms_allowed: said(phone_point, 'sms') === 'granted',
              whatsapp_allowed: said(phone_point, 'whatsapp') === 'granted',
              call_allowed: call === undefined ? null : call === 'granted',
            });
          }
        }
      },
    ),
    { numRuns: 40 },
  );
  expect(events).toBeGreaterThan(100);
  expect((await kit.verify()).fault).toBe(undefined);
}, 60_000);
