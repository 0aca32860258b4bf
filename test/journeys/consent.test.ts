/** What people say, as the ledger keeps it: edges with their evidence, and nothing that can be rewritten unseen. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Line, lineHash } from '../../src/consent/ledger/lines.ts';
import { seal, sealAll } from '../../src/consent/ledger/seals.ts';
import { sql } from '../../src/platform/db.ts';
import { type Client, createKit, type Kit, PASSWORD, type Send } from '../kit.ts';

const PROFILE = '/users/profile/';
const PERMISSIONS = '/users/permissions/';
const EVENTS = '/v1/consents/events';
const NO_LIMITS = { login: null, register: null, 'profile-update': null, 'user-permissions': null };

let kit: Kit;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', NO_LIMITS);
});
afterAll(() => kit.close());

function newNumber(): { text: string; e164: string } {
  numbers += 1;
  const rest = String(2_000_000 + numbers);
  return { text: `0532${rest}`, e164: `+90532${rest}` };
}

interface Event {
  value: string | null;
  channel: string;
  kind: string;
  source: string;
}

/** What an account's people said, in the order it was said. */
const eventsOf = (id: number): Promise<Event[]> =>
  kit.rows(
    `select p.value, e.channel, e.kind, e.source from consent_event e join contact_point p on p.id = e.contact_point
      where e.account = $1 order by e.id`,
    id,
  );

const said = (value: string | null, channel: string, kind: string, source = 'account'): Event => ({
  value,
  channel,
  kind,
  source,
});
const flags = ({ email_allowed, sms_allowed, whatsapp_allowed, call_allowed }: Record<string, unknown>): unknown[] => [
  email_allowed,
  sms_allowed,
  whatsapp_allowed,
  call_allowed,
];

async function patch(client: Client, body: object): Promise<Record<string, unknown>> {
  const reply = await client.send('PATCH', PROFILE, { body });
  expect([reply.status, reply.status === 200 || reply.body]).toEqual([200, true]);
  return reply.body as Record<string, unknown>;
}

const read = async (client: Client): Promise<Record<string, unknown>> => (await client.send('GET', PROFILE)).body;

test('an event says who, about which address, on which channel, when, and how we know', async () => {
  const { text, e164 } = newNumber();
  const ada = await kit.signUp({ phone: text });
  const from = Date.now();
  const reply = await ada.send('PATCH', PROFILE, {
    body: { sms_allowed: true },
    headers: { 'user-agent': 'Shop/1.0 (test)', 'x-request-id': 'evidence-0001' },
  });
  expect(reply.status).toBe(200);
  const [row, ...more] = await kit.rows<Record<string, unknown> & { occurred_at: Date; recorded_at: Date }>(
    `select e.account, e.channel, e.purpose, e.kind, e.source, e.actor, e.occurred_at, e.recorded_at, p.kind as point, p.value, v.evidence
       from consent_event e join contact_point p on p.id = e.contact_point join consent_evidence v on v.event = e.id where e.account = $1`,
    ada.id,
  );
  expect(more).toEqual([]);
  const [session] = await kit.rows<{ family: string }>(
    `select distinct family from session where account = $1`,
    ada.id,
  );
  const { occurred_at, recorded_at, ...said } = row!;
  expect(said).toEqual({
    account: ada.id,
    channel: 'sms',
    purpose: 'marketing',
    kind: 'grant',
    source: 'account',
    actor: `account:${ada.id}`,
    point: 'phone',
    value: e164,
    evidence: {
      address: e164,
      ip: '127.0.0.1',
      user_agent: 'Shop/1.0 (test)',
      request: 'evidence-0001',
      session: session!.family,
    },
  });
  expect(recorded_at.getTime() >= occurred_at.getTime()).toBe(true);
  expect(occurred_at.getTime() >= from && occurred_at.getTime() <= Date.now()).toBe(true);
});

test('a flag that is absent, equal or null is no event; a refusal before and after a grant are told apart', async () => {
  const { text, e164 } = newNumber();
  const ada = await kit.signUp({ phone: text });
  expect(
    flags(await patch(ada, { email_allowed: false, sms_allowed: false, whatsapp_allowed: false, call_allowed: null })),
  ).toEqual([false, false, false, null]);
  expect(await eventsOf(ada.id)).toEqual([]);
  expect(flags(await patch(ada, { call_allowed: false }))).toEqual([false, false, false, false]);
  expect(flags(await patch(ada, { sms_allowed: true, call_allowed: null }))).toEqual([false, true, false, false]);
  await patch(ada, { sms_allowed: true, first_name: 'Grace' });
  expect(flags(await patch(ada, { sms_allowed: false }))).toEqual([false, false, false, false]);
  await patch(ada, { sms_allowed: false });
  expect(flags(await patch(ada, { sms_allowed: true }))).toEqual([false, true, false, false]);
  expect(await eventsOf(ada.id)).toEqual([
    said(e164, 'call', 'refuse'),
    said(e164, 'sms', 'grant'),
    said(e164, 'sms', 'withdraw'),
    said(e164, 'sms', 'grant'),
  ]);
});

test('several flags of one request are several events of one moment', async () => {
  const ada = await kit.signUp({ phone: newNumber().text });
  await patch(ada, { email_allowed: true, sms_allowed: true, whatsapp_allowed: true, call_allowed: true });
  expect(await kit.rows('select channel, kind from consent_event where account = $1 order by channel', ada.id)).toEqual(
    ['call', 'email', 'sms', 'whatsapp'].map((channel) => ({ channel, kind: 'grant' })),
  );
  expect(
    await kit.rows('select count(distinct occurred_at)::int as moments from consent_event where account = $1', ada.id),
  ).toEqual([{ moments: 1 }]);
});

test('a request that is refused says nothing', async () => {
  const ada = await kit.signUp({ phone: newNumber().text });
  const refused = await ada.send('PATCH', PROFILE, { body: { sms_allowed: true, gender: 'other' } });
  expect(refused.status).toBe(400);
  const stale = await ada.send('PATCH', PROFILE, { body: { sms_allowed: true }, headers: { 'if-match': '"0"' } });
  expect(stale.status).toBe(412);
  expect((await ada.send('PATCH', PROFILE, { body: { sms_allowed: 'perhaps' } })).body).toEqual({
    sms_allowed: ['Must be a valid boolean.'],
  });
  expect(await eventsOf(ada.id)).toEqual([]);
});

test('the tag of a profile changes with a flag, so that a form of before is refused', async () => {
  const ada = await kit.signUp({ phone: newNumber().text });
  const before = (await ada.send('GET', PROFILE)).headers['etag'] as string;
  const granted = await ada.send('PATCH', PROFILE, { body: { sms_allowed: true }, headers: { 'if-match': before } });
  expect([granted.status, granted.headers['etag'] === before]).toEqual([200, false]);
  expect((await ada.send('GET', PROFILE)).headers['etag']).toBe(granted.headers['etag']);
  const late = await ada.send('PATCH', PROFILE, { body: { sms_allowed: false }, headers: { 'if-match': before } });
  expect([late.status, (await read(ada))['sms_allowed']]).toEqual([412, true]);
});

test('consent stays with the number: a new one starts unknown and the old one ends', async () => {
  const [one, two] = [newNumber(), newNumber()];
  const ada = await kit.signUp({ phone: one.text });
  await patch(ada, { sms_allowed: true, call_allowed: true, whatsapp_allowed: true, email_allowed: true });
  await patch(ada, { whatsapp_allowed: false });
  expect(flags(await patch(ada, { phone: two.text }))).toEqual([true, false, false, null]);
  expect((await eventsOf(ada.id)).slice(5)).toEqual([
    said(one.e164, 'sms', 'expire'),
    said(one.e164, 'call', 'expire'),
  ]);
  expect(
    await kit.rows(
      `select s.channel, s.state from consent_state s join contact_point p on p.id = s.contact_point where p.value = $1 order by s.channel`,
      one.e164,
    ),
  ).toEqual([
    { channel: 'call', state: 'expired' },
    { channel: 'sms', state: 'expired' },
    { channel: 'whatsapp', state: 'withdrawn' },
  ]);
  const retired = (value: string) =>
    kit.rows('select retired_at is not null as retired from contact_point where value = $1', value);
  expect(await retired(one.e164)).toEqual([{ retired: true }]);
  expect(await retired(two.e164)).toEqual([{ retired: false }]);
  // Going back revives nothing.
  expect(flags(await patch(ada, { phone: one.text }))).toEqual([true, false, false, false]);
  expect(await retired(one.e164)).toEqual([{ retired: false }]);
});

test('flags of the request that brings the number are about the new one', async () => {
  const [one, two] = [newNumber(), newNumber()];
  const ada = await kit.signUp({ phone: one.text, sms_allowed: true });
  expect(flags(await patch(ada, { phone: two.text, sms_allowed: true, call_allowed: false }))).toEqual([
    false,
    true,
    false,
    false,
  ]);
  expect(await eventsOf(ada.id)).toEqual([
    said(one.e164, 'sms', 'grant', 'registration'),
    said(one.e164, 'sms', 'expire'),
    said(two.e164, 'sms', 'grant'),
    said(two.e164, 'call', 'refuse'),
  ]);
  // No number, no consent.
  expect(flags(await patch(ada, { phone: null }))).toEqual([false, false, false, null]);
  expect((await eventsOf(ada.id)).slice(4)).toEqual([said(two.e164, 'sms', 'expire')]);
});

test('the same number written otherwise keeps its consents', async () => {
  const { text, e164 } = newNumber();
  const ada = await kit.signUp({ phone: text, sms_allowed: true });
  const after = await patch(ada, { phone: e164 });
  expect([after['phone'], after['sms_allowed']]).toEqual([e164, true]);
  expect(await eventsOf(ada.id)).toEqual([said(e164, 'sms', 'grant', 'registration')]);
});

test('flags stated before there is a number move to the first one, a no as much as a yes', async () => {
  const ada = await kit.signUp();
  expect(flags(await patch(ada, { sms_allowed: true, whatsapp_allowed: true, call_allowed: false }))).toEqual([
    false,
    true,
    true,
    false,
  ]);
  expect(flags(await patch(ada, { whatsapp_allowed: false }))).toEqual([false, true, false, false]);
  const { text, e164 } = newNumber();
  expect(flags(await patch(ada, { phone: text }))).toEqual([false, true, false, false]);
  expect(await eventsOf(ada.id)).toEqual([
    said(null, 'sms', 'grant'),
    said(null, 'whatsapp', 'grant'),
    said(null, 'call', 'refuse'),
    said(null, 'whatsapp', 'withdraw'),
    said(e164, 'sms', 'grant'),
    said(e164, 'whatsapp', 'refuse'),
    said(e164, 'call', 'refuse'),
  ]);
  // Each names the statement it was carried from.
  expect(
    await kit.rows(
      `select e.channel, o.channel as from_channel, o.contact_point <> e.contact_point as elsewhere
         from consent_event e join consent_evidence v on v.event = e.id join consent_event o on o.id = (v.evidence->>'carried_from')::uuid
        where e.account = $1 order by e.id`,
      ada.id,
    ),
  ).toEqual(['sms', 'whatsapp', 'call'].map((channel) => ({ channel, from_channel: channel, elsewhere: true })));
  // Only to the first one.
  expect(flags(await patch(ada, { phone: newNumber().text }))).toEqual([false, false, false, null]);
});

/** As a code would have proven it. */
const proveNumber = (client: Client): Promise<unknown> =>
  kit.rows('update account set phone_verified_at = date_joined where id = $1', client.id);

test('whoever merely types a number does not lift what its proven holder has withdrawn', async () => {
  const { text } = newNumber();
  const ada = await kit.signUp({ phone: text });
  await proveNumber(ada);
  await patch(ada, { sms_allowed: true });
  await patch(ada, { sms_allowed: false });
  const mallory = await kit.signUp();
  expect(flags(await patch(mallory, { phone: text, sms_allowed: true }))).toEqual([false, false, false, null]);
  expect(flags(await patch(mallory, { sms_allowed: true }))).toEqual([false, false, false, null]);
  expect(flags(await read(ada))).toEqual([false, false, false, null]);
  // The holder left; the no is still hers until the number is proven by somebody else.
  await patch(ada, { phone: newNumber().text });
  expect(flags(await patch(mallory, { sms_allowed: true, call_allowed: true }))).toEqual([false, false, false, true]);
  await proveNumber(mallory);
  expect(flags(await patch(mallory, { sms_allowed: true }))).toEqual([false, true, false, true]);
  expect(
    await kit.rows(
      'select kind, outcome from consent_event where account = $1 and channel = $2 order by id',
      mallory.id,
      'sms',
    ),
  ).toEqual([
    { kind: 'grant', outcome: 'not_theirs' },
    { kind: 'grant', outcome: 'not_theirs' },
    { kind: 'grant', outcome: 'not_theirs' },
    { kind: 'grant', outcome: 'applied' },
  ]);
});

test('somebody whose number is proven changes their own mind as often as they like', async () => {
  const ada = await kit.signUp({ phone: newNumber().text });
  for (const allowed of [true, false, true]) expect(flags(await patch(ada, { sms_allowed: allowed }))[1]).toBe(allowed);
});

test('two accounts with one number share what was said about it, and it ends when the last one leaves', async () => {
  const { text, e164 } = newNumber();
  const [ada, bora] = [await kit.signUp({ phone: text }), await kit.signUp({ phone: text })];
  await proveNumber(ada);
  await patch(ada, { sms_allowed: true, whatsapp_allowed: true });
  expect(flags(await read(bora))).toEqual([false, true, true, null]);
  await patch(bora, { sms_allowed: false });
  expect(flags(await read(ada))).toEqual([false, false, true, null]);
  expect(flags(await patch(ada, { phone: newNumber().text }))).toEqual([false, false, false, null]);
  expect(flags(await read(bora))).toEqual([false, false, true, null]);
  await patch(bora, { phone: null });
  expect(
    await kit.rows(
      `select e.account, e.channel, e.kind from consent_event e join contact_point p on p.id = e.contact_point where p.value = $1 order by e.id`,
      e164,
    ),
  ).toEqual([
    { account: ada.id, channel: 'sms', kind: 'grant' },
    { account: ada.id, channel: 'whatsapp', kind: 'grant' },
    { account: bora.id, channel: 'sms', kind: 'withdraw' },
    { account: bora.id, channel: 'whatsapp', kind: 'expire' },
  ]);
});

test('when all who share a number leave it at once, its consents end once', async () => {
  const { text, e164 } = newNumber();
  const clients = await Promise.all(Array.from({ length: 6 }, () => kit.signUp({ phone: text })));
  await proveNumber(clients[0]!);
  await patch(clients[0]!, { sms_allowed: true });
  await Promise.all(clients.map((client) => patch(client, { phone: newNumber().text })));
  expect(
    await kit.rows(
      `select e.kind from consent_event e join contact_point p on p.id = e.contact_point where p.value = $1 order by e.id`,
      e164,
    ),
  ).toEqual([{ kind: 'grant' }, { kind: 'expire' }]);
  expect(await kit.rows('select retired_at is not null as retired from contact_point where value = $1', e164)).toEqual([
    { retired: true },
  ]);
});

const state = (basket: number, uid: string, body: object, send: Send = kit.send) =>
  send('POST', PERMISSIONS, { body: { basket, uid, ...body } });

test('a basket’s flags are no consent until a registration, which promotes them once', async () => {
  const { text, e164 } = newNumber();
  const stated = await state(
    71,
    'guest-71',
    { sms_allowed: true, email_allowed: true, call_allowed: false },
    (method, path, sent) =>
      kit.send(method, path, { ...sent, headers: { 'user-agent': 'Checkout/2', 'x-request-id': 'checkout-0071' } }),
  );
  expect([stated.status, stated.text]).toEqual([200, '']);
  await state(71, 'guest-71', { whatsapp_allowed: true });
  await state(71, 'guest-71', { email_allowed: false });
  expect(await kit.rows(`select count(*)::int as events from consent_event where source = 'checkout'`)).toEqual([
    { events: 0 },
  ]);
  kit.advance(60_000);

  const ada = await kit.signUp({ phone: text, basket: 71, uid: 'guest-71' });
  expect(flags(await read(ada))).toEqual([false, true, true, false]);
  expect(await eventsOf(ada.id)).toEqual([
    said(ada.email, 'email', 'refuse', 'checkout'),
    said(e164, 'sms', 'grant', 'checkout'),
    said(e164, 'whatsapp', 'grant', 'checkout'),
    said(e164, 'call', 'refuse', 'checkout'),
  ]);
  const [sms] = await kit.rows<{ evidence: object; minutes: number }>(
    `select v.evidence, extract(epoch from e.recorded_at - e.occurred_at)::int / 60 as minutes
       from consent_event e join consent_evidence v on v.event = e.id where e.account = $1 and e.channel = 'sms'`,
    ada.id,
  );
  // Said at the checkout, written down at the registration.
  expect(sms).toEqual({
    minutes: 1,
    evidence: {
      address: e164,
      ip: '127.0.0.1',
      user_agent: 'Checkout/2',
      request: 'checkout-0071',
      basket: '71',
      uid: expect.stringMatching(/^[0-9a-f]{64}$/),
      occasion: 'registration',
    },
  });

  const bora = await kit.signUp({ phone: newNumber().text, basket: 71, uid: 'guest-71' });
  expect(await eventsOf(bora.id)).toEqual([]);
});

test('a basket is opened by its own identifier only, while it is held, and kept without it', async () => {
  await state(72, 'guest-72', { email_allowed: true });
  for (const other of [
    { basket: 72, uid: 'guest-73' },
    { basket: 73, uid: 'guest-72' },
  ]) {
    const client = await kit.signUp(other);
    expect(await eventsOf(client.id)).toEqual([]);
  }
  expect(JSON.stringify(await kit.rows('select row_to_json(b)::text as row from basket_consent b'))).not.toContain(
    'guest-72',
  );
  expect(kit.logged.some((line) => line.includes('guest-7'))).toBe(false);
  kit.advance(2_592_000_000);
  const late = await kit.signUp({ basket: 72, uid: 'guest-72' });
  expect(await eventsOf(late.id)).toEqual([]);
});

test('a registration with half of a basket is refused', async () => {
  const reply = await kit.send('POST', '/users/registration/', {
    body: { email: 'half@example.com', password: PASSWORD, basket: 7 },
  });
  expect([reply.status, reply.body]).toEqual([400, { uid: ['This field is required.'] }]);
  expect(await kit.rows(`select id from account where email = 'half@example.com'`)).toEqual([]);
});

test('what the registration itself states counts before what was ticked at checkout', async () => {
  await state(74, 'guest-74', { sms_allowed: true, email_allowed: true });
  const { text, e164 } = newNumber();
  const ada = await kit.signUp({ phone: text, email_allowed: true, basket: 74, uid: 'guest-74' });
  expect(await eventsOf(ada.id)).toEqual([
    said(ada.email, 'email', 'grant', 'registration'),
    said(e164, 'sms', 'grant', 'checkout'),
  ]);
});

test('a phone’s flags ticked at checkout wait for the number, as any other', async () => {
  await state(75, 'guest-75', { sms_allowed: true });
  const ada = await kit.signUp({ basket: 75, uid: 'guest-75' });
  expect((await read(ada))['sms_allowed']).toBe(true);
  const { text, e164 } = newNumber();
  expect((await patch(ada, { phone: text }))['sms_allowed']).toBe(true);
  expect(await eventsOf(ada.id)).toEqual([said(null, 'sms', 'grant', 'checkout'), said(e164, 'sms', 'grant')]);
});

test('a hundred registrations with one basket promote it once', async () => {
  await state(76, 'guest-76', { email_allowed: true });
  const replies = await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      kit.send('POST', '/users/registration/', {
        body: { email: `race${i}@example.com`, password: PASSWORD, basket: 76, uid: 'guest-76' },
      }),
    ),
  );
  expect(replies.map(({ status }) => status)).toEqual(Array(100).fill(201));
  expect(
    await kit.rows(
      `select e.channel, e.kind from consent_event e join consent_evidence v on v.event = e.id where v.evidence->>'basket' = '76'`,
    ),
  ).toEqual([{ channel: 'email', kind: 'grant' }]);
  expect(
    await kit.rows(
      `select count(*)::int as granted from account a join consent_state s on s.contact_point = a.email_point where a.email like 'race%' and s.state = 'granted'`,
    ),
  ).toEqual([{ granted: 1 }]);
}, 60_000);

test('a no of the registration form takes back what was ticked at checkout before', async () => {
  const { text, e164 } = newNumber();
  expect((await state(78, 'guest-78', { sms_allowed: true, email_allowed: true })).status).toBe(200);
  const ada = await kit.signUp({ phone: text, basket: 78, uid: 'guest-78', sms_allowed: false });
  expect(flags(await read(ada))).toEqual([true, false, false, null]);
  expect(await eventsOf(ada.id)).toEqual([
    said(ada.email, 'email', 'grant', 'checkout'),
    said(e164, 'sms', 'grant', 'checkout'),
    said(e164, 'sms', 'withdraw', 'registration'),
  ]);
});

test('a basket never changes a profile, whoever states it', async () => {
  const { text, e164 } = newNumber();
  const ada = await kit.signUp({ phone: text, email_allowed: true });
  const before = [await read(ada), await eventsOf(ada.id)];
  for (const send of [kit.send, ada.send]) {
    expect(
      (await state(77, 'guest-77', { sms_allowed: true, email_allowed: false, call_allowed: true }, send)).status,
    ).toBe(200);
  }
  expect([await read(ada), await eventsOf(ada.id)]).toEqual(before);
  // Nor does somebody who registers with a member's number and that basket speak for the member: a yes becomes a question.
  const bora = await kit.signUp({ phone: text, basket: 77, uid: 'guest-77' });
  expect([await read(ada), await eventsOf(ada.id)]).toEqual([
    { ...(before[0] as object), call_allowed: false },
    before[1],
  ]);
  expect(await eventsOf(bora.id)).toEqual([
    said(bora.email, 'email', 'refuse', 'checkout'),
    said(e164, 'sms', 'request', 'checkout'),
    said(e164, 'call', 'request', 'checkout'),
  ]);
});

test.each([
  ['update consent_event set kind = kind', 'UPDATE on consent_event'],
  ['delete from consent_event', 'DELETE on consent_event'],
  ['truncate consent_event cascade', 'TRUNCATE on consent_event'],
  ['update ledger_line set position = position', 'UPDATE on ledger_line'],
  ['delete from ledger_line', 'DELETE on ledger_line'],
  ['update ledger_seal set lines = lines', 'UPDATE on ledger_seal'],
  ['delete from ledger_seal', 'DELETE on ledger_seal'],
])('the database refuses even its owner to rewrite the ledger: %s', async (statement, what) => {
  await kit.verify();
  await expect(kit.owner(statement)).rejects.toThrow(what);
});

test('a line is sealed once, however many seal and write at the same time', async () => {
  const own = await createKit();
  try {
    await own.set('THROTTLING_SETTINGS', NO_LIMITS);
    const second = await own.twin();
    const clients = await Promise.all(Array.from({ length: 4 }, (_, i) => own.signUp({ phone: `0533100000${i}` })));
    const writing = clients.map(async (client, i) => {
      for (let n = 0; n < 12; n += 1)
        await client.send('PATCH', PROFILE, { body: { sms_allowed: n % 2 === 0, email_allowed: (n + i) % 3 === 0 } });
    });
    let done = false;
    const sealing = [own, second].map(async ({ ctx }) => {
      while (!done) await sealAll(ctx);
    });
    await Promise.all(writing);
    done = true;
    await Promise.all(sealing);
    await Promise.all([sealAll(own.ctx), sealAll(second.ctx)]);
    const [{ events }] = (await own.rows<{ events: number }>('select count(*)::int as events from consent_event')) as [
      { events: number },
    ];
    expect(events).toBeGreaterThan(60);
    expect(await own.verify()).toEqual({ lines: events, seals: expect.any(Number), unsealed: 0 });
    expect(
      await own.rows(
        'select count(*)::int as lines, count(distinct event)::int as events, max(position)::int as last from ledger_line',
      ),
    ).toEqual([{ lines: events, events, last: events }]);
    expect(
      (await own.rows<{ seals: number }>('select count(*)::int as seals from ledger_seal'))[0]!.seals,
    ).toBeGreaterThan(1);
  } finally {
    await own.close();
  }
});

test('while one process seals, another leaves the lines to it', async () => {
  const own = await createKit();
  try {
    const second = await own.twin();
    await own.signUp({ email_allowed: true });
    await own.database.transaction(async (db) => {
      await db.one(sql`select pg_advisory_xact_lock(hashtext('assent.sealer'))`);
      expect(await seal(second.ctx)).toBe(0);
      expect(await own.rows('select count(*)::int as waiting from ledger_unsealed')).toEqual([{ waiting: 1 }]);
    });
    expect(await seal(second.ctx)).toBe(1);
    expect(await own.verify()).toEqual({ lines: 1, seals: 1, unsealed: 0 });
  } finally {
    await own.close();
  }
});

let tampered: Kit | undefined;
afterEach(async () => {
  await tampered?.close();
  tampered = undefined;
});

/** A ledger of seven lines in two seals, whose guards somebody with the keys of the database has switched off. */
async function withoutGuards(): Promise<{ own: Kit; ids: string[] }> {
  const own = await createKit();
  tampered = own;
  const ada = await own.signUp({ phone: '05334000001' });
  for (const body of [{ sms_allowed: true, email_allowed: true, call_allowed: false }, { sms_allowed: false }])
    await ada.send('PATCH', PROFILE, { body });
  await own.verify();
  for (const body of [{ sms_allowed: true }, { email_allowed: false }, { whatsapp_allowed: true }])
    await ada.send('PATCH', PROFILE, { body });
  expect(await own.verify()).toEqual({ lines: 7, seals: 2, unsealed: 0 });
  for (const table of ['consent_event', 'ledger_line', 'ledger_seal'])
    await own.owner(`alter table ${table} disable trigger all`);
  const rows = await own.rows<{ event: string }>('select event from ledger_line order by position');
  return { own, ids: rows.map(({ event }) => event) };
}

test.each([
  ['its kind', `update consent_event set kind = 'grant' where id = $1`],
  ['its channel', `update consent_event set channel = 'email' where id = $1`],
  ['its account', `update consent_event set account = account + 1 where id = $1`],
  ['its address', `update consent_event set contact_point = (select email_point from account limit 1) where id = $1`],
  ['when it was said', `update consent_event set occurred_at = occurred_at - interval '1 year' where id = $1`],
  [
    'when it was written',
    `update consent_event set recorded_at = recorded_at + interval '1 millisecond' where id = $1`,
  ],
  ['who acted', `update consent_event set actor = 'system' where id = $1`],
  ['where it came in', `update consent_event set source = 'import' where id = $1`],
  ['its purpose', `update consent_event set purpose = 'research' where id = $1`],
  ['its commitment', `update consent_event set commitment = '\\x00' where id = $1`],
])('a line is named when somebody changed %s', async (_what, text) => {
  const { own, ids } = await withoutGuards();
  await own.owner(text, ids[3]);
  expect((await own.verify()).fault).toBe(`line 4 (event ${ids[3]}) was changed`);
});

test('a line is named when its evidence was changed, and holds when it was erased', async () => {
  const { own, ids } = await withoutGuards();
  await own.rows('delete from consent_evidence where event = $1', ids[1]);
  expect(await own.verify()).toEqual({ lines: 7, seals: 2, unsealed: 0 });
  await own.rows(`update consent_evidence set evidence = evidence || '{"ip":"192.0.2.1"}' where event = $1`, ids[4]);
  expect((await own.verify()).fault).toBe(`the evidence of line 5 (event ${ids[4]}) was changed`);
});

test('a point that was given another address shows in its first line', async () => {
  const { own } = await withoutGuards();
  const [first] = await own.rows<{ position: number; id: string }>(
    `select l.position, e.id from ledger_line l join consent_event e on e.id = l.event join contact_point p on p.id = e.contact_point
      where p.kind = 'phone' order by l.position limit 1`,
  );
  await own.rows(`update contact_point set address_hash = '\\x01' where kind = 'phone'`);
  expect((await own.verify()).fault).toBe(`line ${first!.position} (event ${first!.id}) was changed`);
});

test.each([2, 4, 7])('line %i is named when it was dropped', async (position) => {
  const { own, ids } = await withoutGuards();
  const id = ids[position - 1];
  await own.owner('delete from consent_evidence where event = $1', id);
  await own.owner('delete from ledger_line where event = $1', id);
  await own.owner('delete from consent_event where id = $1', id);
  expect((await own.verify()).fault).toBe(`line ${position} was dropped`);
});

test('a line whose event alone was dropped is named too', async () => {
  const { own, ids } = await withoutGuards();
  await own.owner('delete from consent_event where id = $1', ids[5]);
  expect((await own.verify()).fault).toBe('line 6 was dropped');
});

const COPY = `
  insert into consent_event select (jsonb_populate_record(e, jsonb_build_object('id', '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a'))).*
    from consent_event e where e.id = $1`;
const FORGED = '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a';

test('a line is named that was inserted without a seal', async () => {
  const { own, ids } = await withoutGuards();
  await own.rows(COPY, ids[0]);
  expect((await own.verify()).fault).toBe(
    `event ${FORGED} was inserted: it was neither sealed nor is it waiting for it`,
  );
});

test('a line is named that was inserted into a seal, with a hash of its own or without', async () => {
  const { own, ids } = await withoutGuards();
  await own.rows(COPY, ids[0]);
  await own.rows('insert into ledger_line (position, event, seal) values (8, $1, 2)', FORGED);
  // Its hash is that of the line it was copied from.
  expect((await own.verify()).fault).toBe(`line 8 (event ${FORGED}) was changed`);
  const [line] = await own.rows<Line & { address_hash: string }>(
    `select e.*, p.kind as address_kind, encode(p.address_hash, 'hex') as address_hash
       from consent_event e join contact_point p on p.id = e.contact_point where e.id = $1`,
    FORGED,
  );
  await own.owner('update consent_event set hash = $2 where id = $1', FORGED, lineHash(line!));
  expect((await own.verify()).fault).toBe(`line 8 (event ${FORGED}) was inserted`);
});

test('two lines that changed places do not fit their seal', async () => {
  const { own, ids } = await withoutGuards();
  for (const [event, position] of [
    [ids[4], 100],
    [ids[5], 5],
    [ids[4], 6],
  ]) {
    await own.owner('update ledger_line set position = $2 where event = $1', event, position);
  }
  expect((await own.verify()).fault).toBe('the lines of seal 2 are not those that were sealed');
});

test('a seal that was changed, dropped or signed by somebody else is named', async () => {
  const { own } = await withoutGuards();
  const seals = await own.rows<{ sealed_at: Date; signature: Buffer }>(
    'select sealed_at, signature from ledger_seal order by number',
  );
  await own.owner(`update ledger_seal set sealed_at = sealed_at - interval '1 day' where number = 1`);
  expect((await own.verify()).fault).toBe('seal 1 was changed');
  await own.owner(
    'update ledger_seal set sealed_at = $1, signature = $2 where number = 1',
    seals[0]!.sealed_at,
    seals[1]!.signature,
  );
  expect((await own.verify()).fault).toBe('the signature of seal 1 is not ours');
  await own.owner('update ledger_seal set signature = $1 where number = 1', seals[0]!.signature);
  expect((await own.verify()).fault).toBe(undefined);
  await own.owner('delete from ledger_seal where number = 1');
  expect((await own.verify()).fault).toBe('seal 2 follows seal 0: one between them was dropped');
});

test('the ledger is read by account, address and channel, newest first, page by page', async () => {
  const { text, e164 } = newNumber();
  const ada = await kit.signUp({ phone: text });
  await patch(ada, { sms_allowed: true });
  await patch(ada, { email_allowed: true });
  await patch(ada, { sms_allowed: false });
  await patch(ada, { call_allowed: true });
  const { send } = await kit.operator();
  const kinds = async (query: string): Promise<string[]> =>
    (await send('GET', `${EVENTS}?${query}`)).body.items.map(
      (item: Record<string, string>) => `${item['channel']} ${item['kind']}`,
    );
  const all = ['call grant', 'sms withdraw', 'email grant', 'sms grant'];
  expect(await kinds(`account=${ada.id}`)).toEqual(all);
  expect(await kinds(`account=${ada.id}&channel=sms`)).toEqual(['sms withdraw', 'sms grant']);
  expect(await kinds(`recipient=${encodeURIComponent(e164)}`)).toEqual(['call grant', 'sms withdraw', 'sms grant']);
  expect(await kinds(`recipient=${encodeURIComponent(ada.email.toUpperCase())}`)).toEqual(['email grant']);
  expect(await kinds('recipient=nobody@example.com')).toEqual([]);
  expect(await kinds('account=999999999')).toEqual([]);

  const first = (await send('GET', `${EVENTS}?account=${ada.id}&limit=3`)).body;
  expect([first.items.length, first.next]).toEqual([3, first.items[2].id]);
  const second = (await send('GET', `${EVENTS}?account=${ada.id}&limit=3&after=${first.next}`)).body;
  expect([second.items.map(({ kind }: { kind: string }) => kind), second.next]).toEqual([['grant'], null]);
  const exact = (await send('GET', `${EVENTS}?account=${ada.id}&limit=4`)).body;
  expect([exact.items.length, exact.next]).toEqual([4, null]);

  const waiting = first.items[0];
  expect(waiting).toMatchObject({
    recipient: e164,
    purpose: 'marketing',
    source: 'account',
    actor: `account:${ada.id}`,
    account: ada.id,
    position: null,
  });
  expect(waiting.evidence).toMatchObject({ ip: '127.0.0.1' });
  expect(new Date(waiting.occurred_at).toISOString()).toBe(waiting.occurred_at);
  await kit.verify();
  const sealed = (await send('GET', `${EVENTS}?account=${ada.id}&limit=1`)).body.items[0];
  expect(sealed).toEqual({ ...waiting, position: expect.any(Number) });
});

test('the ledger’s reader says what is wrong with a question, and who may ask', async () => {
  const { send } = await kit.operator();
  for (const [query, pointer] of [
    ['account=x', '/account'],
    ['account=0', '/account'],
    ['limit=0', '/limit'],
    ['limit=501', '/limit'],
    ['channel=fax', '/channel'],
    ['after=yesterday', '/after'],
    ['recipient=', '/recipient'],
    ['recipient=a@example.com&recipient=b@example.com', '/recipient'],
    ['acount=1', '/acount'],
  ] as const) {
    const reply = await send('GET', `${EVENTS}?${query}`);
    expect([
      query,
      reply.status,
      reply.headers['content-type'],
      reply.body.errors?.map((error: { pointer: string }) => error.pointer),
    ]).toEqual([query, 400, 'application/problem+json', [pointer]]);
  }
  const ada = await kit.signUp();
  for (const path of [EVENTS, '/v1/ledger/head']) {
    expect((await kit.send('GET', path)).status).toBe(401);
    expect((await ada.send('GET', path)).status).toBe(403);
    expect((await (await kit.apiKey('settings'))('GET', path)).status).toBe(403);
    expect((await (await kit.apiKey('consents'))('GET', path)).status).toBe(200);
  }
});

test('the head is nothing at first, then what the newest seal says', async () => {
  const own = await createKit();
  tampered = own;
  const send = await own.apiKey('consents');
  expect((await send('GET', '/v1/ledger/head')).body).toEqual({ count: 0, hash: null, at: null, signature: null });
  const ada = await own.signUp();
  await ada.send('PATCH', PROFILE, { body: { email_allowed: true } });
  expect((await send('GET', '/v1/ledger/head')).body.count).toBe(0);
  await own.verify();
  const head = (await send('GET', '/v1/ledger/head')).body;
  const [seal] = await own.rows<{ head: Buffer; sealed_at: Date; signature: Buffer }>(
    'select head, sealed_at, signature from ledger_seal',
  );
  expect(head).toEqual({
    count: 1,
    hash: seal!.head.toString('hex'),
    at: seal!.sealed_at.toISOString(),
    signature: seal!.signature.toString('base64'),
  });
  await ada.send('PATCH', PROFILE, { body: { email_allowed: false } });
  await own.verify();
  const next = (await send('GET', '/v1/ledger/head')).body;
  expect([next.count, next.hash === head.hash]).toEqual([2, false]);
});
