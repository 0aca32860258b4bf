/** States that are not what the ledger says are found, named and made anew, wherever they are and whatever is wrong. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { findDrift, rebuildStates } from '../../src/consent/ledger/projection.ts';
import { sayOne } from '../../src/consent/statements.ts';
import { createKit, type Kit } from '../kit.ts';

let kit: Kit;
let points: { id: number }[];
/** States as they should be. */
let right: Record<string, unknown>[];

const states = (): Promise<Record<string, unknown>[]> =>
  kit.owner('select * from consent_state order by contact_point, channel, purpose');

beforeAll(async () => {
  kit = await createKit();
  for (const value of ['+905328000001', '+905328000002'])
    for (const channel of ['sms', 'call'])
      for (const intent of ['grant', 'refuse', 'suppress'] as const)
        await sayOne(kit.ctx, {
          about: { kind: 'phone', value },
          channel,
          purpose: 'marketing',
          intent,
          by: { voice: 'person', proven: true },
          source: 'preference_page',
          actor: 'test',
          evidence: {},
        });
  points = await kit.rows("select id from contact_point where kind = 'phone' order by id");
  right = await states();
});
afterAll(() => kit.close());

beforeEach(async () => {
  expect(await findDrift(kit.ctx)).toBe(undefined);
});

/** What is wrong is found, and set right once. */
async function repairs(number: number): Promise<void> {
  expect(await rebuildStates(kit.ctx)).toEqual({ states: 4, repaired: number });
  expect(await states()).toEqual(right);
  expect(await rebuildStates(kit.ctx)).toEqual({ states: 4, repaired: 0 });
}

test.each([
  ['state', "'granted'"],
  ['since', "since + interval '1 millisecond'"],
  ['event', 'gen_random_uuid()'],
  ['account', '7'],
  ['proven', 'not proven'],
  ['latest', "latest - interval '1 millisecond'"],
  ['request', 'gen_random_uuid()'],
  ['beneath', 'null'],
])('another %s is a drift', async (column, value) => {
  const [point] = points;
  await kit.owner(
    `update consent_state set ${column} = ${value} where contact_point = $1 and channel = 'sms'`,
    point!.id,
  );
  const drift = (await findDrift(kit.ctx))!;
  expect([drift.contact_point, drift.channel, drift.purpose]).toEqual([point!.id, 'sms', 'marketing']);
  const { [column as 'state']: shown, ...restShown } = drift.shown!;
  const { [column as 'state']: said, ...restSaid } = drift.said!;
  expect([JSON.stringify(shown) === JSON.stringify(said), restShown]).toEqual([false, restSaid]);
  await repairs(1);
});

test('a state that is missing, and one that nobody ever said, are drifts; the first by address and channel is named', async () => {
  const [first, second] = points;
  await kit.owner("delete from consent_state where contact_point = $1 and channel = 'sms'", first!.id);
  const missing = (await findDrift(kit.ctx))!;
  expect([missing.contact_point, missing.channel, missing.shown, missing.said?.state]).toEqual([
    first!.id,
    'sms',
    undefined,
    'suppressed',
  ]);
  await kit.owner(
    `insert into consent_state (contact_point, channel, purpose, state, since, event, proven, latest, kind, source)
     values ($1, 'whatsapp', 'research', 'granted', now(), gen_random_uuid(), true, now(), 'grant', 'import')`,
    second!.id,
  );
  await kit.owner("update consent_state set state = 'granted' where channel = 'call'");
  const named = (await findDrift(kit.ctx))!;
  expect([named.contact_point, named.channel]).toEqual([first!.id, 'call']);
  await kit.owner(
    "update consent_state set state = 'suppressed' where contact_point = $1 and channel = 'call'",
    first!.id,
  );
  expect((await findDrift(kit.ctx))!.channel).toBe('sms');
  await repairs(3);
  await kit.owner(
    `insert into consent_state (contact_point, channel, purpose, state, since, event, proven, latest, kind, source)
     values ($1, 'whatsapp', 'research', 'granted', now(), gen_random_uuid(), true, now(), 'grant', 'import')`,
    second!.id,
  );
  const invented = (await findDrift(kit.ctx))!;
  expect([invented.contact_point, invented.channel, invented.purpose, invented.shown?.state, invented.said]).toEqual([
    second!.id,
    'whatsapp',
    'research',
    'granted',
    undefined,
  ]);
  await repairs(1);
});

test('a line of before it was recorded whether the address was proven counts as not proven', async () => {
  const [first] = points;
  await kit.owner('alter table consent_event disable trigger user');
  await kit.owner('update consent_event set proven = null where contact_point = $1', first!.id);
  expect((await findDrift(kit.ctx))!.said?.proven).toBe(false);
  await kit.owner('update consent_event set proven = true where contact_point = $1', first!.id);
  await kit.owner('alter table consent_event enable trigger user');
  await repairs(0);
});

test('with more addresses than one step takes, all of them are looked at', async () => {
  await kit.owner("insert into contact_point (kind, created_at) select 'phone', now() from generate_series(1, 12000)");
  await sayOne(kit.ctx, {
    about: { kind: 'email', value: 'last@example.com' },
    channel: 'email',
    purpose: 'marketing',
    intent: 'grant',
    by: { voice: 'guest' },
    source: 'checkout',
    actor: 'test',
    evidence: {},
  });
  await kit.owner("update consent_state set state = 'withdrawn' where channel = 'email'");
  expect((await findDrift(kit.ctx))?.shown?.state).toBe('withdrawn');
  const told: number[] = [];
  expect(await rebuildStates(kit.ctx, (number) => void told.push(number))).toEqual({ states: 5, repaired: 1 });
  expect(told).toEqual([4, 4, 5]);
  expect(await findDrift(kit.ctx)).toBe(undefined);
});
