/** The rules of consent by themselves. The number of a rule is that of docs/consent.md. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decide,
  decideConfirm,
  decideEnd,
  decideErasure,
  decideRestoration,
  decideSuppression,
  type Edge,
  type EventKind,
  eventKinds,
  foldOrder,
  follow,
  isSilent,
  maySpeakFor,
  type Outcome,
  type Speaker,
  type Standing,
  type State,
  type Statement,
} from './rules.ts';

const at = (minute: number, milliseconds = 0): Date => new Date(Date.UTC(2026, 10, 21, 8, minute, 0, milliseconds));

/** What is on record: a state since 08:10, unless told otherwise. */
const standing = (state: State, more: Partial<Standing> = {}): Standing => ({
  state,
  since: at(10),
  event: 'line-1',
  account: 7,
  proven: true,
  latest: at(10),
  request: state === 'pending' ? 'line-1' : null,
  beneath: null,
  beneath_since: null,
  ...more,
});

const person = (more: Partial<Extract<Speaker, { voice: 'person' }>> = {}): Speaker => ({
  voice: 'person',
  maySpeak: true,
  heard: true,
  ...more,
});
const stranger: Speaker = { voice: 'guest', ofMember: false };
const guestOfMember: Speaker = { voice: 'guest', ofMember: true };
const shop: Speaker = { voice: 'shop', evidenced: false };
const evidencedShop: Speaker = { voice: 'shop', evidenced: true };

const say = (
  granted: boolean,
  speaker: Speaker = person(),
  more: { at?: Date; doubleOptIn?: boolean } = {},
): Statement => ({ granted, speaker, doubleOptIn: false, ...more });
const edge = (kind: EventKind, occurredAt: Date = at(20), outcome: Outcome = 'applied'): Edge => ({
  kind,
  occurredAt,
  outcome,
});
const now = at(20);

const states: readonly (State | undefined)[] = [
  undefined,
  'unknown',
  'pending',
  'granted',
  'withdrawn',
  'expired',
  'refused',
  'suppressed',
];
const known = (state: State | undefined): Standing | undefined => (state === undefined ? undefined : standing(state));

describe('follow: what each kind of line makes of what was on record', () => {
  const line = (kind: EventKind, more: { account?: number | null; proven?: boolean } = {}) => ({
    id: 'line-2',
    kind,
    occurredAt: at(20),
    account: 8,
    proven: false,
    ...more,
  });
  const fresh = (state: State, more: Partial<Standing> = {}): Standing => ({
    state,
    since: at(20),
    event: 'line-2',
    account: 8,
    proven: false,
    latest: at(20),
    request: null,
    beneath: null,
    beneath_since: null,
    ...more,
  });

  test.each(states)(
    'a grant and a confirmation make %s granted, a withdrawal withdrawn, an erasure suppressed',
    (state) => {
      expect(follow(known(state), line('grant'))).toEqual(fresh('granted'));
      expect(follow(known(state), line('confirm'))).toEqual(fresh('granted'));
      expect(follow(known(state), line('erase'))).toEqual(fresh('suppressed'));
      if (state !== 'suppressed') expect(follow(known(state), line('withdraw'))).toEqual(fresh('withdrawn'));
    },
  );

  test.each(states.filter((state) => state !== 'withdrawn' && state !== 'suppressed'))(
    'a request, a refusal and an end make %s pending, refused, expired',
    (state) => {
      expect(follow(known(state), line('request'))).toEqual(fresh('pending', { request: 'line-2' }));
      expect(follow(known(state), line('refuse'))).toEqual(fresh('refused'));
      expect(follow(known(state), line('expire'))).toEqual(fresh('expired'));
    },
  );

  test.each(['withdrawn', 'suppressed'] as const)('a question leaves %s as it is, and so does its end', (state) => {
    const asked = follow(standing(state), line('request'));
    expect(asked).toEqual(standing(state, { latest: at(20), request: 'line-2' }));
    for (const kind of ['refuse', 'expire'] as const)
      expect(follow(asked, { ...line(kind), id: 'line-3', occurredAt: at(30) })).toEqual(
        standing(state, { latest: at(30), request: null }),
      );
  });

  test('who said it and whether they had proven the address is kept with the state', () => {
    expect(follow(undefined, line('grant', { account: null, proven: true }))).toEqual(
      fresh('granted', { account: null, proven: true }),
    );
  });

  test.each([
    [undefined, 'unknown'],
    ['unknown', 'unknown'],
    ['pending', 'unknown'],
    ['granted', 'granted'],
    ['withdrawn', 'withdrawn'],
    ['expired', 'expired'],
    ['refused', 'refused'],
  ] as const)('a suppression covers %s, and its lifting shows %s again', (state, again) => {
    const whose = state === undefined ? { account: null, proven: false } : { account: 7, proven: true };
    const suppressed = follow(known(state), line('suppress'));
    const since = state === undefined ? null : at(10);
    expect(suppressed).toEqual(fresh('suppressed', { ...whose, beneath: again, beneath_since: since }));
    expect(follow(suppressed, { ...line('restore'), id: 'line-3', occurredAt: at(30) })).toEqual(
      // It is no younger than before: how long a consent lasts is counted from when it was given.
      fresh(again, { ...whose, since: since ?? at(30), event: 'line-3', latest: at(30) }),
    );
  });

  test('rule 9: a withdrawal during a suppression is what shows after it', () => {
    const suppressed = standing('suppressed', { beneath: 'granted' });
    const withdrawn = follow(suppressed, line('withdraw'));
    expect(withdrawn).toEqual(fresh('suppressed', { since: at(10), beneath: 'withdrawn', beneath_since: at(20) }));
    expect(follow(withdrawn, { ...line('restore'), id: 'line-3', occurredAt: at(30) }).state).toBe('withdrawn');
  });

  test('rule 5: an address that is left during a suppression allows nothing after it', () => {
    const left = follow(standing('suppressed', { beneath: 'granted' }), line('expire'));
    expect(left).toEqual(standing('suppressed', { latest: at(20), beneath: 'expired', beneath_since: at(20) }));
  });

  test('rule 10: nothing lies beneath an erasure', () => {
    const erased = follow(standing('suppressed', { beneath: 'granted' }), line('erase'));
    expect(erased).toEqual(fresh('suppressed'));
    expect(follow(undefined, line('restore')).state).toBe('unknown');
  });
});

describe('rule 1: the larger time decides, on a tie the withdrawal', () => {
  test('a yes from before the withdrawal is kept and changes nothing, at any distance', () => {
    for (const when of [at(9), at(9, 59_999), new Date(0)])
      expect(decide(standing('withdrawn'), say(true, person(), { at: when }), now)).toEqual(
        edge('grant', when, 'older'),
      );
  });

  test('a yes of the very moment of a withdrawal loses, one a millisecond later counts', () => {
    expect(decide(standing('withdrawn'), say(true, person(), { at: at(10) }), now)).toEqual(
      edge('grant', at(10), 'older'),
    );
    expect(decide(standing('withdrawn'), say(true, person(), { at: at(10, 1) }), now)).toEqual(
      edge('grant', at(10, 1)),
    );
  });

  test.each([
    ['granted', 'withdraw'],
    ['pending', 'refuse'],
  ] as const)('a no of the very moment %s began wins, one of before is kept', (state, kind) => {
    expect(decide(standing(state), say(false, person(), { at: at(10) }), now)).toEqual(edge(kind, at(10)));
    expect(decide(standing(state), say(false, person(), { at: at(9) }), now)).toEqual(edge(kind, at(9), 'older'));
  });

  test('what counts is the newest line, also where an open question left the state as it was', () => {
    const asked = standing('withdrawn', { latest: at(15), request: 'line-2' });
    expect(decide(asked, say(true, person(), { at: at(12) }), now)).toEqual(edge('grant', at(12), 'older'));
    expect(decide(asked, say(true, person(), { at: at(16) }), now)).toEqual(edge('grant', at(16)));
    expect(decide(asked, say(false, person(), { at: at(12) }), now)).toEqual(edge('refuse', at(12), 'older'));
    expect(decide(asked, say(false, person(), { at: at(16) }), now)).toEqual(edge('refuse', at(16)));
  });

  test('what is said now comes after what is on record, also where another clock ran ahead', () => {
    const ahead = standing('granted', { latest: at(25), since: at(25) });
    expect(decide(ahead, say(false), now)).toEqual(edge('withdraw', at(25, 1)));
    expect(decide(standing('withdrawn', { latest: now }), say(true), now)).toEqual(edge('grant', at(20, 1)));
    expect(decide(standing('withdrawn'), say(true), now)).toEqual(edge('grant', at(20)));
    expect(decideEnd(ahead, now)).toEqual(edge('expire', at(25, 1)));
    expect(decideSuppression(ahead, now)).toEqual(edge('suppress', at(25, 1)));
    expect(decideErasure(ahead, now)).toEqual(edge('erase', at(25, 1)));
    expect(decideConfirm(standing('pending', { latest: at(25) }), now)).toEqual(edge('confirm', at(25, 1)));
    expect(decideRestoration(standing('suppressed', { latest: at(25), beneath: 'granted' }), now)).toEqual(
      edge('restore', at(25, 1)),
    );
  });

  test('on a tie a rebuild follows what allows first and what ends last', () => {
    expect(eventKinds.filter((kind) => foldOrder(kind) === 0)).toEqual(['request', 'grant', 'confirm', 'restore']);
    expect(eventKinds.filter((kind) => foldOrder(kind) === 1)).toEqual([
      'refuse',
      'withdraw',
      'expire',
      'suppress',
      'erase',
    ]);
  });
});

describe('rule 2: a write is an edge', () => {
  test('a yes to what is granted is no event, whoever says it and whenever', () => {
    for (const speaker of [
      person(),
      person({ maySpeak: false, heard: false }),
      stranger,
      guestOfMember,
      shop,
      evidencedShop,
    ])
      for (const more of [{}, { at: at(1) }, { doubleOptIn: true }])
        expect(decide(standing('granted'), say(true, speaker, more), now)).toBe(undefined);
  });

  test.each(['withdrawn', 'refused', 'suppressed'] as const)('a no to what is %s is no event', (state) => {
    for (const speaker of [person(), stranger, guestOfMember, shop, evidencedShop])
      for (const more of [{}, { at: at(1) }])
        expect(decide(standing(state), say(false, speaker, more), now)).toBe(undefined);
  });

  test.each([
    [undefined, 'refuse'],
    ['unknown', 'refuse'],
    ['pending', 'refuse'],
    ['expired', 'refuse'],
    ['granted', 'withdraw'],
  ] as const)('a no to %s is a line of the kind %s', (state, kind) => {
    expect(decide(known(state), say(false), now)).toEqual(edge(kind));
    expect(decide(known(state), say(false, shop), now)).toEqual(edge(kind));
  });

  test('a yes we do not know of is taken back as a withdrawal, where a mere no would be a refusal', () => {
    const back = { ...say(false, shop), withdrawn: true };
    for (const state of [undefined, 'unknown', 'pending', 'granted', 'expired'] as const)
      expect(decide(known(state), back, now)).toEqual(edge('withdraw'));
    for (const state of ['withdrawn', 'refused', 'suppressed'] as const)
      expect(decide(known(state), back, now)).toBe(undefined);
    expect(decide(undefined, { ...back, withdrawn: false }, now)).toEqual(edge('refuse'));
  });

  test('a no answers an open question, whatever stands beside it', () => {
    for (const state of ['withdrawn', 'suppressed'] as const)
      expect(decide(standing(state, { request: 'line-2' }), say(false), now)).toEqual(edge('refuse'));
  });

  test.each([
    [undefined, false, true],
    [undefined, null, true],
    [null, false, true],
    [null, true, true],
    [false, false, true],
    [true, true, true],
    [false, null, false],
    [true, null, false],
    [true, false, false],
    [false, true, false],
  ])('a flag %s where %s is shown says nothing: %s', (stated, shown, silent) => {
    expect(isSilent(stated, shown)).toBe(silent);
  });
});

describe('rule 3: a stale form', () => {
  test.each(['withdrawn', 'suppressed'] as const)('a yes against %s that was not read is kept as stale', (state) => {
    expect(decide(standing(state), say(true, person({ heard: false })), now)).toEqual(edge('grant', at(20), 'stale'));
    expect(decide(standing(state), say(true, person({ heard: false }), { doubleOptIn: true }), now)).toEqual(
      edge('grant', at(20), 'stale'),
    );
    expect(decide(standing(state), say(true), now)).toEqual(edge('grant'));
  });

  test.each([undefined, 'unknown', 'pending', 'expired', 'refused'] as const)(
    'a yes to %s needs nothing read',
    (state) => {
      expect(decide(known(state), say(true, person({ heard: false })), now)).toEqual(edge('grant'));
    },
  );

  test('a stale no is applied', () => {
    expect(decide(standing('granted'), say(false, person({ heard: false, maySpeak: false })), now)).toEqual(
      edge('withdraw'),
    );
  });
});

describe('rule 4: the shop lifts nothing by itself', () => {
  test.each(['withdrawn', 'suppressed'] as const)('its yes against %s counts with evidence alone', (state) => {
    const kept = standing(state, state === 'suppressed' ? { beneath: 'granted' } : {});
    expect(decide(kept, say(true, shop), now)).toEqual(edge('grant', at(20), 'not_lifted'));
    expect(decide(kept, say(true, shop, { at: at(15) }), now)).toEqual(edge('grant', at(15), 'not_lifted'));
    expect(decide(kept, say(true, evidencedShop), now)).toEqual(edge('grant'));
    // Evidence of before the no is not fresh.
    expect(decide(kept, say(true, evidencedShop, { at: at(9) }), now)).toEqual(edge('grant', at(9), 'older'));
  });

  test.each([undefined, 'unknown', 'pending', 'expired', 'refused'] as const)('its yes to %s counts', (state) => {
    expect(decide(known(state), say(true, shop), now)).toEqual(edge('grant'));
  });
});

describe('rule 5: consent belongs to the address', () => {
  test.each(states)('the end of an address ends what %s allows or asks', (state) => {
    const ends = state === 'granted' || state === 'pending';
    expect(decideEnd(known(state), now)).toEqual(ends ? edge('expire') : undefined);
  });

  test('it ends an open question beside a withdrawal, and a yes beneath a suppression', () => {
    expect(decideEnd(standing('withdrawn', { request: 'line-2' }), now)).toEqual(edge('expire'));
    expect(decideEnd(standing('suppressed', { beneath: 'granted' }), now)).toEqual(edge('expire'));
    expect(decideEnd(standing('suppressed', { beneath: 'withdrawn' }), now)).toBe(undefined);
  });

  test('whoever has merely typed an address does not lift what its proven holder has withdrawn', () => {
    const no = standing('withdrawn');
    expect(maySpeakFor(no, 8, false)).toBe(false);
    expect(maySpeakFor(standing('suppressed'), 8, false)).toBe(false);
    expect(maySpeakFor(no, 8, true)).toBe(true);
    expect(maySpeakFor(no, 7, false)).toBe(true);
    // Also where the shop told it: an account that types the address is a stranger to it.
    expect(maySpeakFor(standing('withdrawn', { account: null, proven: false }), 8, false)).toBe(false);
    expect(maySpeakFor(standing('suppressed'), 7, false)).toBe(false);
    // Two accounts that have both only typed it are each other's equals.
    expect(maySpeakFor(standing('withdrawn', { account: 7, proven: false }), 8, false)).toBe(true);
    expect(maySpeakFor(undefined, 8, false)).toBe(true);
    for (const state of ['unknown', 'pending', 'granted', 'expired', 'refused'] as const)
      expect(maySpeakFor(standing(state), 8, false)).toBe(true);
    expect(decide(no, say(true, person({ maySpeak: false })), now)).toEqual(edge('grant', at(20), 'not_theirs'));
    expect(decide(no, say(true, person({ maySpeak: false, heard: false })), now)?.outcome).toBe('not_theirs');
  });

  test('a suppression and its lifting do not make somebody else the holder', () => {
    const line = { id: 'line-2', account: null, proven: false };
    const suppressed = follow(standing('withdrawn'), { ...line, kind: 'suppress', occurredAt: at(20) });
    expect(maySpeakFor(suppressed, 8, false)).toBe(false);
    const restored = follow(suppressed, { ...line, id: 'line-3', kind: 'restore', occurredAt: at(30) });
    expect([restored.state, maySpeakFor(restored, 8, false), maySpeakFor(restored, 7, false)]).toEqual([
      'withdrawn',
      false,
      true,
    ]);
  });
});

describe('rule 8: what a guest ticked', () => {
  test.each([undefined, 'unknown', 'expired', 'refused'] as const)(
    'a yes for an address nobody holds grants %s, and asks where the channel has double opt-in',
    (state) => {
      expect(decide(known(state), say(true, stranger), now)).toEqual(edge('grant'));
      expect(decide(known(state), say(true, stranger, { doubleOptIn: true }), now)).toEqual(edge('request'));
    },
  );

  test.each([undefined, 'unknown', 'expired', 'refused', 'withdrawn'] as const)(
    'a yes for a member’s address that is %s asks the member',
    (state) => {
      expect(decide(known(state), say(true, guestOfMember), now)).toEqual(edge('request'));
    },
  );

  test('a yes against a withdrawal asks, also where nobody holds the address; against a suppression it asks nothing', () => {
    expect(decide(standing('withdrawn'), say(true, stranger), now)).toEqual(edge('request'));
    for (const guest of [stranger, guestOfMember])
      expect(decide(standing('suppressed', { beneath: 'granted' }), say(true, guest), now)).toEqual(
        edge('request', at(20), 'not_lifted'),
      );
  });

  test.each(states)('a no about %s: refuses what nobody holds and nobody spoke of, and says nothing else', (state) => {
    const unspoken = state === undefined || state === 'unknown';
    expect(decide(known(state), say(false, stranger), now)).toEqual(unspoken ? edge('refuse') : undefined);
    expect(decide(known(state), say(false, guestOfMember), now)).toBe(undefined);
  });
});

describe('double opt-in', () => {
  test.each([undefined, 'unknown', 'expired', 'refused', 'withdrawn', 'suppressed'] as const)(
    'a person’s yes to %s asks',
    (state) => {
      expect(decide(known(state), say(true, person(), { doubleOptIn: true }), now)).toEqual(edge('request'));
    },
  );

  test('the question is repeated after ten minutes, not before', () => {
    const asked = standing('pending', { latest: at(10) });
    const again = (when: Date) => decide(asked, say(true, person(), { doubleOptIn: true }), when);
    expect(again(at(19, 59_999))).toBe(undefined);
    expect(again(at(20))).toEqual(edge('request', at(20)));
    expect(decide(asked, say(true, guestOfMember), at(11))).toBe(undefined);
    expect(decide(asked, say(true, guestOfMember), at(21))).toEqual(edge('request', at(21)));
    const beside = standing('withdrawn', { latest: at(10), request: 'line-2' });
    expect(decide(beside, say(true, guestOfMember), at(11))).toBe(undefined);
    expect(decide(standing('withdrawn', { latest: at(10) }), say(true, guestOfMember), at(11))).toEqual(
      edge('request', at(11)),
    );
  });

  test('once it is switched off a repeated yes grants what was pending', () => {
    expect(decide(standing('pending'), say(true), now)).toEqual(edge('grant'));
  });

  test('a confirmation answers an open question and nothing else', () => {
    expect(decideConfirm(standing('pending'), now)).toEqual(edge('confirm'));
    expect(decideConfirm(standing('withdrawn', { request: 'line-2' }), now)).toEqual(edge('confirm'));
    for (const state of states.filter((each) => each !== 'pending'))
      expect(decideConfirm(known(state), now)).toBe(undefined);
  });
});

describe('suppression', () => {
  test.each(states)('%s is suppressed once', (state) => {
    expect(decideSuppression(known(state), now)).toEqual(state === 'suppressed' ? undefined : edge('suppress'));
  });

  test.each(states)('nothing is lifted from %s unless it is suppressed', (state) => {
    if (state === 'suppressed') {
      for (const beneath of ['unknown', 'granted', 'withdrawn'] as const)
        expect(decideRestoration(standing(state, { beneath }), now)).toEqual(edge('restore'));
    } else expect(decideRestoration(known(state), now)).toBe(undefined);
  });

  test('rule 9: a no during a suppression withdraws the yes beneath it, and is silent where there is none', () => {
    const covering = (beneath: State) => standing('suppressed', { beneath });
    expect(decide(covering('granted'), say(false), now)).toEqual(edge('withdraw'));
    expect(decide(covering('granted'), say(false, person(), { at: at(9) }), now)).toEqual(
      edge('withdraw', at(9), 'older'),
    );
    for (const beneath of ['unknown', 'withdrawn', 'expired', 'refused'] as const)
      expect(decide(covering(beneath), say(false), now)).toBe(undefined);
  });
});

describe('rule 10: erasure keeps the no', () => {
  const erased = standing('suppressed', { beneath: null });

  test('whatever stands is erased once', () => {
    for (const state of states.filter((each) => each !== 'suppressed'))
      expect(decideErasure(known(state), now)).toEqual(edge('erase'));
    expect(decideErasure(standing('suppressed', { beneath: 'granted' }), now)).toEqual(edge('erase'));
    expect(decideErasure(erased, now)).toBe(undefined);
  });

  test('no import revives it, with evidence or without, and no operator lifts it', () => {
    for (const speaker of [shop, evidencedShop])
      expect(decide(erased, say(true, speaker), now)).toEqual(edge('grant', at(20), 'not_lifted'));
    expect(decide(erased, say(true, stranger), now)).toEqual(edge('request', at(20), 'not_lifted'));
    expect(decideRestoration(erased, now)).toEqual(edge('restore', at(20), 'not_lifted'));
    expect(decideSuppression(erased, now)).toBe(undefined);
  });
});

test('lines that count lead to one state, in whatever order they are handed to a rebuild', () => {
  const speaker = fc.oneof(
    fc.record({ voice: fc.constant('person' as const), maySpeak: fc.boolean(), heard: fc.boolean() }),
    fc.record({ voice: fc.constant('guest' as const), ofMember: fc.boolean() }),
    fc.record({ voice: fc.constant('shop' as const), evidenced: fc.boolean() }),
  );
  const said = fc.oneof(
    fc.record({
      what: fc.constant('say' as const),
      granted: fc.boolean(),
      speaker,
      doubleOptIn: fc.boolean(),
      // Few moments, so that ties and what came too late are common.
      minute: fc.option(fc.nat(12), { nil: undefined }),
    }),
    fc.record({ what: fc.constantFrom('confirm', 'end', 'suppress', 'restore', 'erase') }),
  );
  const verbs = {
    confirm: decideConfirm,
    end: decideEnd,
    suppress: decideSuppression,
    restore: decideRestoration,
    erase: decideErasure,
  };
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(fc.array(said, { minLength: 2, maxLength: 14 }), fc.infiniteStream(fc.nat()), (sayings, chance) => {
      let live: Standing | undefined;
      const lines: { id: string; kind: EventKind; occurredAt: Date; account: number | null; proven: boolean }[] = [];
      for (const [index, saying] of sayings.entries()) {
        const moment = at(index);
        const line =
          'speaker' in saying
            ? decide(
                live,
                {
                  granted: saying.granted,
                  speaker: saying.speaker,
                  doubleOptIn: saying.doubleOptIn,
                  ...(saying.minute === undefined ? {} : { at: at(saying.minute) }),
                },
                moment,
              )
            : verbs[saying.what as keyof typeof verbs](live, moment);
        if (line === undefined) continue;
        seen.set(`${line.kind} ${line.outcome}`, (seen.get(`${line.kind} ${line.outcome}`) ?? 0) + 1);
        if (line.outcome !== 'applied') continue;
        const event = { id: `line-${index}`, ...line, account: index % 3, proven: index % 2 === 0 };
        lines.push(event);
        live = follow(live, event);
      }
      const shuffled = lines
        .map((event) => ({ event, place: chance.next().value as number }))
        .sort((a, b) => a.place - b.place)
        .map(({ event }) => event);
      const rebuilt = shuffled
        .sort((a, b) => a.occurredAt.getTime() - b.occurredAt.getTime() || foldOrder(a.kind) - foldOrder(b.kind))
        .reduce<Standing | undefined>((before, event) => follow(before, event), undefined);
      expect(rebuilt).toEqual(live);
    }),
    { numRuns: 3000 },
  );
  // Every kind of line and every outcome took part.
  expect([...seen.keys()].sort()).toEqual([
    'confirm applied',
    'erase applied',
    'expire applied',
    'grant applied',
    'grant not_lifted',
    'grant not_theirs',
    'grant older',
    'grant stale',
    'refuse applied',
    'refuse older',
    'request applied',
    'request not_lifted',
    'restore applied',
    'restore not_lifted',
    'suppress applied',
    'withdraw applied',
    'withdraw older',
  ]);
});
