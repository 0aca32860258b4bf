/** The one way in for what is said outside of a profile: repeats, evidence, questions, and what it answers. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { promoteBasket, stateForBasket, sweepBaskets } from '../../src/consent/baskets.ts';
import { type ConsentStatement, naturalKey, type Said, sayAll, sayOne } from '../../src/consent/statements.ts';
import { createKit, type Kit } from '../kit.ts';

let kit: Kit;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
});
afterAll(() => kit.close());

function newNumber(): string {
  numbers += 1;
  return `+90532${9_000_000 + numbers}`;
}

const statement = (value: string, more: Partial<ConsentStatement> = {}): ConsentStatement => ({
  about: { kind: 'phone', value },
  channel: 'sms',
  purpose: 'marketing',
  intent: 'grant',
  by: { voice: 'shop' },
  source: 'import',
  actor: 'key:1',
  evidence: {},
  ...more,
});
const say = (value: string, more: Partial<ConsentStatement> = {}): Promise<Said> =>
  sayOne(kit.ctx, statement(value, more));
const outcome = async (value: string, more: Partial<ConsentStatement> = {}): Promise<string> => {
  const said = await say(value, more);
  return `${said.outcome} ${said.state}`;
};
const person = { voice: 'person', proven: true } as const;
const kinds = async (value: string): Promise<string[]> =>
  (
    await kit.rows<{ kind: string }>(
      'select e.kind from consent_event e join contact_point p on p.id = e.contact_point where p.value = $1 order by e.id',
      value,
    )
  ).map(({ kind }) => kind);

test('the same key again is the same event, and answers what is so by now', async () => {
  const phone = newNumber();
  const first = await say(phone, { key: `key-${phone}` });
  expect(first).toEqual({ event: first.event, written: true, outcome: 'applied', state: 'granted' });
  await say(phone, { intent: 'refuse' });
  expect(await say(phone, { key: `key-${phone}` })).toEqual({
    event: first.event,
    written: false,
    outcome: 'applied',
    state: 'withdrawn',
  });
  expect(await kinds(phone)).toEqual(['grant', 'withdraw']);
});

test.each<[string, Partial<ConsentStatement>]>([
  ['address', { about: { kind: 'phone', value: '+905329999999' } }],
  ['channel', { channel: 'call' }],
  ['purpose', { purpose: 'research' }],
  ['statement', { intent: 'refuse' }],
])('a key that was used for another %s is a conflict of its own', async (_name, other) => {
  const phone = newNumber();
  const key = `key-${phone}`;
  await say(phone, { key });
  await expect(say(phone, { key, ...other })).rejects.toMatchObject({ code: 'conflict' });
  // In one batch it hits nobody else, and a key is known from one statement to the next.
  const next = newNumber();
  const [fine, again, conflict, fine2] = await sayAll(kit.ctx, [
    statement(next, { key: `key-${next}` }),
    statement(next, { key: `key-${next}` }),
    statement(phone, { key, ...other }),
    statement(next, { channel: 'call' }),
  ]);
  expect([fine, again, conflict, fine2]).toEqual([
    { event: (fine as Said).event, written: true, outcome: 'applied', state: 'granted' },
    { event: (fine as Said).event, written: false, outcome: 'applied', state: 'granted' },
    expect.objectContaining({ code: 'conflict' }),
    expect.objectContaining({ written: true }),
  ]);
});

test('what is so already answers with the line that decides, and nothing where nobody ever spoke', async () => {
  const phone = newNumber();
  const { event } = await say(phone);
  expect(await say(phone)).toEqual({ event, written: false, outcome: undefined, state: 'granted' });
  expect(await say(newNumber(), { intent: 'confirm' })).toEqual({
    event: null,
    written: false,
    outcome: undefined,
    state: 'unknown',
  });
  await expect(say('', { about: { point: 999_999_999 } })).rejects.toMatchObject({ code: 'not_found' });
});

test('a statement about a line is said only while that line decides or asks', async () => {
  const phone = newNumber();
  const { event } = await say(phone);
  const other = await say(newNumber());
  expect((await say(phone, { intent: 'expire', whileEvent: other.event! })).written).toBe(false);
  expect(await outcome(phone, { intent: 'expire', whileEvent: event! })).toBe('applied expired');
  expect((await say(newNumber(), { intent: 'suppress', whileEvent: event! })).written).toBe(false);
});

test('a yes given elsewhere and taken back is a withdrawal, a no to what nobody asked a refusal', async () => {
  expect(await outcome(newNumber(), { intent: 'withdraw' })).toBe('applied withdrawn');
  expect(await outcome(newNumber(), { intent: 'refuse' })).toBe('applied refused');
});

test.each<[string, Partial<ConsentStatement>, string]>([
  ['nothing', {}, 'not_lifted withdrawn'],
  ['an empty document', { evidence: { document: '' } }, 'not_lifted withdrawn'],
  ['some other words', { evidence: { form: 'web', reason: 'asked' } }, 'not_lifted withdrawn'],
  ['a client’s address, told by an import', { evidence: { ip: '203.0.113.7' } }, 'not_lifted withdrawn'],
  ['a document', { evidence: { document: 'form 17' } }, 'applied granted'],
  ['a notice that was shown', { notice: { id: 1, sha256: 'ab' } }, 'applied granted'],
  ['the person’s own act at checkout', { source: 'checkout', evidence: { ip: '203.0.113.7' } }, 'applied granted'],
  ['a checkout nobody saw', { source: 'checkout' }, 'not_lifted withdrawn'],
])('rule 4: against a withdrawal, with %s', async (_name, more, wanted) => {
  const phone = newNumber();
  await say(phone);
  await say(phone, { intent: 'refuse' });
  expect(await outcome(phone, more)).toBe(wanted);
});

test('double opt-in asks persons, guests and checkouts, and takes the word of an import and of a link', async () => {
  await kit.set('DOUBLE_OPT_IN', ['sms']);
  const account = { source: 'account' } as const;
  expect([
    await outcome(newNumber(), { by: person, ...account }),
    await outcome(newNumber(), { by: person, source: 'one_click' }),
    await outcome(newNumber(), { by: { voice: 'guest' }, source: 'checkout' }),
    await outcome(newNumber(), { source: 'checkout' }),
    await outcome(newNumber(), { source: 'import' }),
    await outcome(newNumber(), { source: 'staff' }),
    await outcome(newNumber(), { by: person, ...account, confirmed: true }),
    await outcome(newNumber(), { by: person, ...account, channel: 'call' }),
  ]).toEqual([...Array(4).fill('applied pending'), ...Array(4).fill('applied granted')]);
  // One message for all that is open at an address, and none for what a rule kept from counting.
  const before = await kit.rows('select key from graphile_worker.jobs');
  const [phone, silent] = [newNumber(), newNumber()];
  await say(phone, { by: person, ...account });
  await say(phone, { by: person, ...account, purpose: 'research' });
  await say(silent, { intent: 'suppress' });
  await say(silent, { by: { voice: 'guest' }, source: 'checkout' });
  const [{ id }] = (await kit.rows<{ id: number }>('select id from contact_point where value = $1', phone)) as [
    { id: number },
  ];
  const after = await kit.rows<{ key: string }>(
    "select key from graphile_worker.jobs where key like 'ask_to_confirm%'",
  );
  expect(after.length - before.filter(({ key }) => String(key).startsWith('ask_to_confirm')).length).toBe(1);
  expect(after.some(({ key }) => key === `ask_to_confirm:${id}`)).toBe(true);
  expect(await outcome(phone, { by: person, intent: 'confirm', source: 'confirmation' })).toBe('applied granted');
  await kit.set('DOUBLE_OPT_IN', []);
});

test('rule 3: a page that shows what was on record before the no says nothing against it', async () => {
  const phone = newNumber();
  await say(phone, { by: person });
  await say(phone, { by: person, intent: 'refuse' });
  expect(await outcome(phone, { by: person, heard: false })).toBe('stale withdrawn');
  expect(await outcome(phone, { by: person, heard: true })).toBe('applied granted');
});

test('the key of something told with its time is another for each part of it', () => {
  const at = new Date('2026-11-21T08:00:00Z');
  const told = { ...statement('+905321234567'), at };
  const key = (more: Partial<typeof told> = {}): string => naturalKey(kit.ctx, { ...told, ...more });
  expect([/^said:[0-9a-f]{64}$/.test(key()), key()]).toEqual([true, key()]);
  const others = [
    key({ about: { kind: 'phone', value: '+905321234568' } }),
    key({ about: { kind: 'email', value: '+905321234567' } }),
    key({ about: { point: 1 } }),
    key({ about: { point: 2 } }),
    key({ channel: 'call' }),
    key({ purpose: 'research' }),
    key({ intent: 'refuse' }),
    key({ source: 'staff' }),
    key({ at: new Date('2026-11-21T08:00:01Z') }),
    key({ evidence: { document: 'form 17' } }),
    key({ evidence: { document: 'form 18' } }),
    key({ notice: { id: 1, sha256: 'ab' } }),
    key({ notice: { id: 1, sha256: 'cd' } }),
  ];
  expect(new Set([key(), ...others]).size).toBe(others.length + 1);
});

test('a promotion names what it made of each flag, keeps what has no address, and its lines name the order', async () => {
  const [phone, uid, basket] = [newNumber(), 'guest-1', 4711n];
  await say(phone, { channel: 'call' });
  await stateForBasket(kit.ctx, {
    basket,
    uid,
    flags: { email_allowed: true, sms_allowed: true, call_allowed: true },
    evidence: { ip: '203.0.113.7' },
  });
  const promote = (addresses: Parameters<typeof promoteBasket>[1]['addresses'], order?: string) =>
    promoteBasket(kit.ctx, {
      basket,
      uid,
      addresses,
      voice: () => ({ voice: 'guest' }),
      occasion: 'order',
      order,
      actor: 'key:1',
    });
  const made = await promote({ phone: { kind: 'phone', value: phone } }, 'A-17');
  expect(made).toEqual({
    events: [{ channel: 'sms', event: made.events[0]!.event }],
    pending: [],
    unchanged: [
      { channel: 'call', reason: 'no_change' },
      { channel: 'email', reason: 'no_address' },
    ],
  });
  const [line] = await kit.rows<{ evidence: Record<string, unknown> }>(
    'select evidence from consent_evidence where event = $1',
    made.events[0]!.event,
  );
  const { uid: hashed, ...evidence } = line!.evidence;
  expect([evidence, /^[0-9a-f]{64}$/.test(String(hashed)), hashed === uid]).toEqual([
    { address: phone, ip: '203.0.113.7', basket: '4711', occasion: 'order', order: 'A-17' },
    true,
    false,
  ]);
  // What waited for an address is promoted when there is one; the rest answers as it did.
  const later = await promote({ email: { kind: 'email', value: 'later@example.com' } });
  expect([later.events.map(({ channel }) => channel), later.unchanged]).toEqual([
    ['email', 'sms'],
    [{ channel: 'call', reason: 'no_change' }],
  ]);
  expect(await sweepBaskets(kit.ctx)).toBe(0);
  kit.advance(40 * 86_400_000);
  expect(await sweepBaskets(kit.ctx)).toBe(3);
});
