/** May this colleague do this, in this shop? Asked one by one and by the stream, of two processes, while rights come and go. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StaffDecision } from '../../src/staff/decisions/decisions.ts';
import { permissionKeys } from '../../src/staff/permissions.ts';
import { authorization, type Bakery, openBakery } from '../bakery.ts';
import { type Client, createKit, type Kit, PASSWORD, type Send } from '../kit.ts';

let kit: Kit;
let twin: Kit;
let api: Send;
let elsewhere: Send;
let bakery: Bakery;
let other: Bakery;
/** A colleague with `products` and `discounts` in the first shop. */
let ada: Client;
let entry: number;

const NDJSON = { 'content-type': 'application/x-ndjson' };

beforeAll(async () => {
  kit = await createKit();
  twin = await kit.twin();
  api = await kit.apiKey('decisions');
  elsewhere = await twin.apiKey('decisions');
  bakery = await openBakery(kit, 3);
  other = await openBakery(kit, 1);
  ada = await kit.signUp();
  entry = await bakery.invite(ada.email);
  await bakery.grant(entry, [bakery.shops[0]!], ['products', 'discounts']);
});
afterAll(() => kit.close());

const ask = (body: object, headers: Record<string, string> = {}, send = api) =>
  send('POST', '/v1/decisions/staff', { body, headers });
const decide = async (body: object, headers: Record<string, string> = {}): Promise<StaffDecision> =>
  (await ask(body, headers)).body;
const about = (more: object = {}): object => ({
  account: ada.id,
  shop: bakery.shops[0],
  permission: 'products',
  ...more,
});

async function stream(
  lines: readonly string[],
  send = api,
): Promise<{ status: number; type: unknown; lines: unknown[] }> {
  const { status, headers, text } = await send('POST', '/v1/decisions/staff', {
    body: lines.join('\n'),
    headers: NDJSON,
  });
  return {
    status,
    type: headers['content-type'],
    lines: text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  };
}

/** The line of the history that a right hangs on. */
const lineOf = async (permission: string): Promise<string> =>
  (
    await kit.rows<{ event: string }>(
      'select event from entry_right where entry = $1 and shop = $2 and permission = $3',
      entry,
      bakery.shops[0],
      permission,
    )
  )[0]!.event;

describe('a decision', () => {
  test('says yes with entry, line of the history and no end, in this order of keys', async () => {
    const event = await lineOf('products');
    const { status, text, body } = await ask(about());
    expect([status, text]).toEqual([
      200,
      `{"allowed":true,"code":"held","reason":${JSON.stringify(body.reason)},"entry":${entry},"event":"${event}","until":null}`,
    ]);
    expect(body.reason).toMatch(
      new RegExp(`^Holds products in shop ${bakery.shops[0]}, given on \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d UTC\\.$`),
    );
  });

  test('is the same by number, by address in any spelling, and with the company of the shop', async () => {
    const expected = await decide(about());
    for (const who of [
      { email: ada.email },
      { email: ada.email.toUpperCase() },
      { company: bakery.id },
      { email: ada.email, company: bakery.id },
    ]) {
      const question = 'email' in who ? { ...about(), account: undefined, ...who } : about(who);
      expect(await decide(question)).toEqual(expected);
    }
  });

  test('names the one rule that stands against it', async () => {
    const [first, second] = bakery.shops;
    const off = await kit.signUp();
    const invited = await kit.signUp({ unproven: true });
    const stranger = await kit.signUp();
    const none = { entry: null, event: null, until: null };
    const cases: [string, object, object][] = [
      ['no_account', about({ account: 999_999 }), none],
      ['no_account', { ...about(), account: undefined, email: 'nobody@example.com' }, none],
      ['account_off', about({ account: off.id }), none],
      ['invited', about({ account: invited.id }), none],
      ['no_company', about({ company: 999_999 }), none],
      ['no_shop', about({ shop: 999_999 }), none],
      ['no_shop', about({ company: other.id }), none],
      ['no_entry', about({ account: stranger.id }), none],
      ['no_entry', about({ shop: other.shops[0] }), none],
      ['no_entry', about({ account: other.owner.id }), none],
      ['other_shop', about({ shop: second }), { entry, event: null, until: null }],
      ['not_held', about({ permission: 'holidays' }), { entry, event: null, until: null }],
    ];
    await kit.rows('update account set is_active = false where id = $1', off.id);
    for (const [code, question, expected] of cases) {
      const answer = await decide(question);
      expect(answer, JSON.stringify(question)).toEqual({ allowed: false, code, reason: answer.reason, ...expected });
      expect(answer.reason).not.toMatch(/[{}\u0001]|staff_reason|undefined|null/);
    }
    expect((await decide(about({ shop: second }))).reason).toBe(
      `Holds products in another shop, not in shop ${second}.`,
    );
    expect((await decide(about({ permission: 'holidays' }))).reason).toBe(`Does not hold holidays in shop ${first}.`);
  });

  test('an owner holds everything in every shop of the company, with an entry or without; but nowhere else', async () => {
    const { owner, shops } = bakery;
    for (const shop of shops)
      for (const permission of permissionKeys)
        expect(await decide({ account: owner.id, shop, permission })).toMatchObject({
          allowed: true,
          code: 'owner',
          entry: bakery.ownerEntry,
          event: null,
          until: null,
        });
    expect(await decide({ account: owner.id, shop: other.shops[0], permission: 'products' })).toMatchObject({
      allowed: false,
      code: 'no_entry',
    });
    const { id, shops: bare } = await openBakery(kit, 1);
    const heir = await kit.signUp();
    await kit.rows('update company set owner = $2 where id = $1', id, heir.id);
    expect(await decide({ account: heir.id, shop: bare[0], permission: 'permissions' })).toEqual({
      allowed: true,
      code: 'owner',
      reason: `Owns the company of shop ${bare[0]}, and so holds everything there.`,
      entry: null,
      event: null,
      until: null,
    });
  });

  test('a right of an account that is off or whose address is not proven is no right, not even an owner’s', async () => {
    const { owner, shops, id } = await openBakery(kit, 1);
    const question = { account: owner.id, company: id, shop: shops[0], permission: 'products' };
    const codes: string[] = [];
    for (const change of [
      'is_active = is_active',
      'is_active = false',
      'is_active = true, email_verified_at = null',
      'email_verified_at = date_joined',
    ]) {
      await kit.rows(`update account set ${change} where id = $1`, owner.id);
      const { allowed, code } = await decide(question);
      codes.push(`${allowed} ${code}`);
    }
    expect(codes).toEqual(['true owner', 'false account_off', 'false invited', 'true owner']);
  });

  test('says why in the reader’s language', async () => {
    const shop = bakery.shops[1];
    const reasons = [];
    for (const language of ['en', 'tr', 'nl', 'fr-BE'])
      reasons.push((await decide(about({ shop }), { 'accept-language': language })).reason);
    expect(reasons).toEqual([
      `Holds products in another shop, not in shop ${shop}.`,
      `products yetkisi başka bir mağazada var, ${shop} mağazasında yok.`,
      `Heeft de bevoegdheid products in een andere winkel, niet in winkel ${shop}.`,
      `A la permission products dans une autre boutique, pas dans la boutique ${shop}.`,
    ]);
  });

  test('needs a key with the scope decisions, or an operator', async () => {
    const key = await kit.apiKey('companies');
    const token = await kit.bearer(ada.email);
    const operator = await kit.operator();
    const statuses = [];
    for (const send of [key, kit.send, token, ada.send, operator.send])
      statuses.push((await ask(about(), {}, send)).status);
    expect(statuses).toEqual([403, 401, 401, 403, 200]);
  });
});

describe('a right with an end', () => {
  const HOUR = 3_600_000;

  test('holds to its end and not a millisecond longer, swept or not, in both processes; the answer says the end', async () => {
    const until = new Date(kit.ctx.clock.now().getTime() + HOUR);
    await kit.rows('update entry_right set until = $2 where entry = $1 and permission = $3', entry, until, 'discounts');
    const event = await lineOf('discounts');
    const question = about({ permission: 'discounts' });
    const minute = `${until.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
    for (const send of [api, elsewhere]) {
      const { body } = await ask(question, {}, send);
      expect(body).toMatchObject({ allowed: true, code: 'held', entry, event, until: until.toISOString() });
      expect(body.reason.endsWith(`, until ${minute}.`)).toBe(true);
    }
    kit.advance(HOUR);
    for (const send of [api, elsewhere])
      expect((await ask(question, {}, send)).body).toEqual({
        allowed: false,
        code: 'ended',
        reason: `Held discounts in shop ${bakery.shops[0]}; that ended on ${minute}.`,
        entry,
        event,
        until: until.toISOString(),
      });
    // What ended is held nowhere: another shop has nothing to point to.
    expect((await decide(about({ permission: 'discounts', shop: bakery.shops[1] }))).code).toBe('not_held');
    kit.advance(-HOUR);
    expect((await decide(question)).code).toBe('held');
    await kit.rows('update entry_right set until = null where entry = $1', entry);
  });

  test('ends in the millisecond it names', async () => {
    const now = kit.ctx.clock.now;
    const at = now();
    await kit.rows('update entry_right set until = $2 where entry = $1 and permission = $3', entry, at, 'products');
    const codes = [];
    try {
      for (const shift of [-1, 0, 1]) {
        (kit.ctx.clock as { now: () => Date }).now = () => new Date(at.getTime() + shift);
        codes.push((await decide(about())).code);
      }
    } finally {
      (kit.ctx.clock as { now: () => Date }).now = now;
    }
    expect(codes).toEqual(['held', 'ended', 'ended']);
    await kit.rows('update entry_right set until = null where entry = $1', entry);
  });
});

describe('decisions by the stream', () => {
  test('one line a question, in order, thousands a call, the same as one by one; a wrong line is answered in its place', async () => {
    const [first, second] = bakery.shops;
    const kinds = [
      about(),
      about({ shop: second }),
      { email: ada.email, company: bakery.id, shop: first, permission: 'discounts' },
      { email: 'nobody@example.com', shop: first, permission: 'discounts' },
      about({ account: bakery.owner.id, company: bakery.id }),
      about({ company: 999_999 }),
      about({ shop: other.shops[0] }),
    ];
    const single = [];
    for (const question of kinds) single.push(await decide(question));
    const wrong = ['{"account":', JSON.stringify(about({ permission: 'fly' })), '[]', '{}'];
    const questions = Array.from({ length: 9_001 }, (_, n) =>
      n % 100 === 50 ? wrong[((n / 50) % 4) | 0]! : JSON.stringify(kinds[n % 7]),
    );
    const { status, type, lines } = await stream(questions);
    expect([status, type, lines.length]).toEqual([200, 'application/x-ndjson', 9_001]);
    for (const [n, line] of lines.entries()) {
      if (n % 100 === 50) expect((line as { error: object }).error, questions[n]).toMatchObject({ status: 400 });
      else expect(line, questions[n]).toEqual(single[n % 7]);
    }
  });

  test('a line in the same text as the answer to the one question', async () => {
    const { text } = await ask(about());
    const reply = await api('POST', '/v1/decisions/staff', { body: JSON.stringify(about()), headers: NDJSON });
    expect(reply.text).toBe(`${text}\n`);
  });

  test('an empty stream has an empty answer', async () => {
    const reply = await api('POST', '/v1/decisions/staff', { body: '\n\n', headers: NDJSON });
    expect([reply.status, reply.text]).toEqual([200, '']);
  });
});

interface Problem {
  readonly errors?: readonly { readonly pointer: string }[];
}
/** The places a problem names, once each. */
const placesOf = ({ errors = [] }: Problem): string[] => [...new Set(errors.map(({ pointer }) => pointer))];

test('what is wrong with a question is named by its place, alone and in a line, and nothing is asked', async () => {
  const cases: [string, object | string][] = [
    ['/account', { shop: 1, permission: 'products' }],
    ['/account', about({ email: ada.email })],
    ['/account', about({ account: '17' })],
    ['/account', about({ account: 0 })],
    ['/account', about({ account: 1.5 })],
    ['/account', about({ account: null })],
    ['/account', `{"account":99999999999999999999,"shop":1,"permission":"products"}`],
    ['/email', { ...about(), account: undefined, email: 'no address' }],
    ['/email', { ...about(), account: undefined, email: 'nul\0@example.com' }],
    ['/email', { ...about(), account: undefined, email: 'half\ud800@example.com' }],
    ['/shop', about({ shop: undefined })],
    ['/shop', about({ shop: -1 })],
    ['/shop', about({ shop: [11] })],
    ['/company', about({ company: '{15}' })],
    ['/permission', about({ permission: 'fly' })],
    ['/permission', about({ permission: undefined })],
    ['/permission', about({ permission: 'constructor' })],
    ['/colour', about({ colour: 'red' })],
    ['', '[]'],
    ['', '5'],
  ];
  for (const [pointer, question] of cases) {
    const text = typeof question === 'string' ? question : JSON.stringify(question);
    const { status, body } = await api('POST', '/v1/decisions/staff', { body: text });
    expect([text, status, placesOf(body)]).toEqual([text, 400, [pointer]]);
    const { lines } = await stream([text, JSON.stringify(about())]);
    const [refused, answered] = lines as [{ error: Problem }, StaffDecision];
    expect([text, placesOf(refused.error)]).toEqual([text, [pointer]]);
    expect(answered.allowed).toBe(true);
  }
});

test('a lifted right is honoured by no process, asked in any way, from the answer of the call that lifted it', async () => {
  const { shops, manager } = bakery;
  const eve = await kit.signUp();
  const evesEntry = await bakery.invite(eve.email);
  const [shop] = shops;
  await bakery.grant(evesEntry, [shop!], []);
  const question = { account: eve.id, shop, permission: 'newsletters' };
  const headers = await authorization(kit, eve.email, PASSWORD);
  const wrong: string[] = [];
  for (let round = 0; round < 200; round += 1) {
    for (const held of [true, false]) {
      const { status } = await manager('PATCH', bakery.path(evesEntry), {
        body: { permissions: { newsletters: held } },
      });
      const [one, many, proxy] = await Promise.all([
        ask(question, {}, elsewhere),
        stream([JSON.stringify(question)], elsewhere),
        twin.send('GET', `/v1/decisions/forward-auth?permission=newsletters&shop=${shop}`, { headers }),
      ]);
      const line = many.lines[0]! as StaffDecision;
      const seen = [status, one.body.code, line.code, proxy.status].join();
      if (seen !== (held ? '200,held,held,204' : '200,not_held,not_held,403')) wrong.push(`${round} ${held}: ${seen}`);
    }
  }
  expect(wrong).toEqual([]);
});
