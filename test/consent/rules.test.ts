/** The ten rules of docs/consent.md through the front door, by their numbers. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSession } from '../../src/accounts/sessions.ts';
import { findDrift } from '../../src/consent/ledger/projection.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

const PROFILE = '/users/profile/';
const LOYALTY = '/users/profile-with-loyalty/';
const flagNames = ['email_allowed', 'sms_allowed', 'whatsapp_allowed', 'call_allowed'] as const;

let kit: Kit;
let shop: Send;
let numbers = 0;
let baskets = 0;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', {
    login: null,
    register: null,
    'profile-update': null,
    'user-permissions': null,
  });
  await kit.set('OTP_RESEND_SECONDS', 0);
  shop = await kit.apiKey('consents', 'baskets', 'decisions', 'privacy');
});
afterAll(() => kit.close());

function newNumber(): string {
  numbers += 1;
  return `+90532${6_000_000 + numbers}`;
}
function newEmail(): string {
  numbers += 1;
  return `guest${numbers}@example.com`;
}

const flags = ({ body }: Reply): unknown[] => flagNames.map((name) => body[name]);
const ok = (reply: Reply): Reply => {
  expect([reply.status, reply.status < 300 || reply.body]).toEqual([reply.status < 300 ? reply.status : 200, true]);
  return reply;
};
const patch = async (send: Send, body: object, headers: Record<string, string> = {}, path = PROFILE): Promise<Reply> =>
  ok(await send('PATCH', path, { body, headers }));
const read = async (send: Send): Promise<unknown[]> => flags(ok(await send('GET', PROFILE)));

/** Lines about an address, as `kind` or `kind: outcome` where a rule kept them from counting, with channel and source. */
async function lines(address: string): Promise<string[]> {
  const rows = await kit.rows<{ channel: string; kind: string; outcome: string; source: string }>(
    `select e.channel, e.kind, e.outcome, e.source from consent_event e join contact_point p on p.id = e.contact_point
      where p.value = $1 or p.address_hash = $2 order by e.id`,
    address,
    kit.ctx.keys.hash('contact_point', address.includes('@') ? 'email' : 'phone', address),
  );
  return rows.map(
    ({ channel, kind, outcome, source }) =>
      `${channel} ${kind}${outcome === 'applied' ? '' : `: ${outcome}`} (${source})`,
  );
}

/** Another sign-in of an account, with a browser’s cookies; `forgetful` keeps none but the session’s. */
async function device(client: Client, kind: 'browser' | 'forgetful' | 'token' = 'browser'): Promise<Send> {
  if (kind === 'browser') return (await kit.signIn(client.email)).send;
  const family = randomUUID();
  if (kind === 'token') {
    const { token } = await openSession(kit.ctx, client.id, { token: { seconds: 3600 } }, { family });
    return withHeaders({ authorization: `Token ${token}` });
  }
  const { cookie } = await openSession(kit.ctx, client.id, { cookie: { seconds: 3600 } }, { family });
  const csrf = 'a'.repeat(32);
  return withHeaders({ cookie: `sessionid=${cookie}; csrftoken=${csrf}`, 'x-csrftoken': csrf });
}
const withHeaders =
  (headers: Record<string, string>): Send =>
  (method, path, sent = {}) =>
    kit.send(method, path, { ...sent, headers: { ...headers, ...sent.headers } });

/** A program tells what somebody said. */
const tell = async (body: object): Promise<Reply> => shop('POST', '/v1/consents', { body });
const ago = (seconds: number): string => new Date(kit.ctx.clock.now().getTime() - seconds * 1000).toISOString();
const decision = async (recipient: string, channel = 'sms'): Promise<[boolean, string]> => {
  const { body } = ok(
    await shop('POST', '/v1/decisions/contact', { body: { recipient, channel, purpose: 'marketing' } }),
  );
  return [body.allowed, body.state];
};

const tick = async (body: object): Promise<{ basket: number; uid: string }> => {
  baskets += 1;
  const known = { basket: baskets, uid: `guest-${baskets}` };
  ok(await kit.send('POST', '/users/permissions/', { body: { ...known, ...body } }));
  return known;
};
const promote = async ({ basket, uid }: { basket: number; uid: string }, body: object): Promise<Reply['body']> =>
  ok(await shop('POST', `/v1/baskets/${basket}/promote`, { body: { uid, order: 'A-1', ...body } })).body;
const proveNumber = (client: Client): Promise<unknown> =>
  kit.rows('update account set phone_verified_at = date_joined where id = $1', client.id);

/** Somebody with a number of their own. */
async function person(
  more: Record<string, unknown> = {},
): Promise<{ client: Client; send: Send; phone: string; email: string }> {
  const phone = newNumber();
  const client = await kit.signUp({ phone, ...more });
  await proveNumber(client);
  return { client, send: client.send, phone, email: client.email };
}

describe('rule 1: the larger time decides, and on a tie the withdrawal', () => {
  test('what arrives late counts by the time it was said', async () => {
    const phone = newNumber();
    const say = (granted: boolean, seconds: number) =>
      tell({ recipient: phone, channel: 'sms', granted, source: 'checkout', occurred_at: ago(seconds) });
    ok(await say(true, 100));
    ok(await say(false, 50));
    const late = await say(true, 75);
    expect([late.status, late.body.outcome, late.body.state]).toEqual([201, 'older', 'withdrawn']);
    expect(await decision(phone)).toEqual([false, 'withdrawn']);
    expect(await lines(phone)).toEqual([
      'sms grant (checkout)',
      'sms withdraw (checkout)',
      'sms grant: older (checkout)',
    ]);
  });

  test.each([[[true, false]], [[false, true]]])(
    'of a yes and a no of one moment, told in the order %j, the no stands',
    async (order) => {
      const phone = newNumber();
      const when = ago(10);
      for (const granted of order)
        ok(await tell({ recipient: phone, channel: 'sms', granted, source: 'checkout', occurred_at: when }));
      expect(await decision(phone)).toEqual([false, order[0] === true ? 'withdrawn' : 'refused']);
    },
  );

  test('a no from before the yes is kept and changes nothing', async () => {
    const { send, phone } = await person();
    await patch(send, { sms_allowed: true });
    const old = await tell({
      recipient: phone,
      channel: 'sms',
      granted: false,
      source: 'import',
      occurred_at: ago(3600),
    });
    expect([old.status, old.body.outcome, await decision(phone)]).toEqual([201, 'older', [true, 'granted']]);
  });
});

describe('rule 2: a write is an edge', () => {
  test('an absent or equal flag and a null about calls are no event', async () => {
    const { send, phone } = await person();
    await patch(send, { sms_allowed: false, whatsapp_allowed: false, call_allowed: null, email_allowed: false });
    expect(await lines(phone)).toEqual([]);
    await patch(send, { call_allowed: false });
    await patch(send, { call_allowed: false });
    await patch(send, { call_allowed: null });
    await patch(send, { first_name: 'Grace' });
    expect(await lines(phone)).toEqual(['call refuse (account)']);
    await patch(send, { call_allowed: true });
    await patch(send, { call_allowed: true });
    await patch(send, { call_allowed: null });
    expect([await read(send), await lines(phone)]).toEqual([
      [false, false, false, true],
      ['call refuse (account)', 'call grant (account)'],
    ]);
  });
});

describe('rule 3: a stale form', () => {
  /** Two browsers of one person who have both read a yes to sms. */
  async function two(kind: 'browser' | 'forgetful' | 'token' = 'browser') {
    const ada = await person({ sms_allowed: true });
    const phone = await device(ada.client, kind);
    kit.advance(10);
    const form = ok(await phone('GET', PROFILE));
    await read(ada.send);
    return { ...ada, other: phone, form };
  }
  const granted = 'sms grant (registration)';
  const withdrawn = 'sms withdraw (account)';
  const stale = 'sms grant: stale (account)';

  test('a yes from a form older than the withdrawal is answered 200 with the truth and kept as an attempt', async () => {
    const { send, other, phone } = await two();
    await patch(send, { sms_allowed: false });
    expect(flags(await patch(other, { sms_allowed: true }))).toEqual([false, false, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, stale]);
    // That answer was read: the next yes is meant.
    expect(flags(await patch(other, { sms_allowed: true }))).toEqual([false, true, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, stale, 'sms grant (account)']);
  });

  test('the whole form of before sent back with another name in it saves the name', async () => {
    const { send, other, form, phone } = await two();
    await patch(send, { sms_allowed: false });
    const reply = ok(await other('PUT', PROFILE, { body: { ...form.body, first_name: 'Grace' } }));
    expect([reply.body.first_name, ...flags(reply)]).toEqual(['Grace', false, false, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, stale]);
  });

  test('the same by way of the profile with loyalty', async () => {
    const { send, other, form, phone } = await two();
    await patch(send, { sms_allowed: false }, {}, LOYALTY);
    const reply = ok(await other('PUT', LOYALTY, { body: { ...form.body, code: null, resend: false } }));
    expect([reply.status, ...flags(reply), reply.body.code]).toEqual([200, false, false, false, null, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, stale]);
  });

  test('a stale no is applied', async () => {
    const { send, other, phone } = await two();
    await patch(send, { sms_allowed: false });
    await patch(send, { sms_allowed: true });
    expect(flags(await patch(other, { sms_allowed: false }))).toEqual([false, false, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, 'sms grant (account)', withdrawn]);
  });

  test('whoever has read the withdrawal changes their mind, by reading it or by the tag of what they read', async () => {
    for (const how of ['cookie', 'tag'] as const) {
      const { send, other, phone } = await two(how === 'cookie' ? 'browser' : 'forgetful');
      await patch(send, { sms_allowed: false });
      const tag = ok(await other('GET', PROFILE)).headers['etag'] as string;
      const reply = await patch(other, { sms_allowed: true }, how === 'tag' ? { 'if-match': tag } : {});
      expect([how, ...flags(reply)]).toEqual([how, false, true, false, null]);
      expect(await lines(phone)).toEqual([granted, withdrawn, 'sms grant (account)']);
    }
  });

  test('a tag of before the withdrawal is refused with 412 and leaves no line; any tag says nothing', async () => {
    const { send, other, form, phone } = await two('forgetful');
    await patch(send, { sms_allowed: false });
    const late = await other('PATCH', PROFILE, {
      body: { sms_allowed: true },
      headers: { 'if-match': form.headers['etag'] as string },
    });
    expect([late.status, await lines(phone)]).toEqual([412, [granted, withdrawn]]);
    expect(flags(await patch(other, { sms_allowed: true }, { 'if-match': '*' }))).toEqual([false, false, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, stale]);
  });

  test('the cookie speaks line by line: having read one withdrawal is not having read another', async () => {
    const { send, other, phone } = await two();
    await patch(send, { sms_allowed: false, call_allowed: true });
    await read(other);
    await patch(send, { call_allowed: false });
    expect(flags(await patch(other, { sms_allowed: true, call_allowed: true }))).toEqual([false, true, false, false]);
    expect((await lines(phone)).slice(-2)).toEqual(['sms grant (account)', 'call grant: stale (account)']);
  });

  test('reading sets the cookie when it changed and never otherwise', async () => {
    const { send, other } = await two();
    const version = (reply: Reply): string[] =>
      ([reply.headers['set-cookie'] ?? []].flat() as string[]).filter((line) => line.startsWith('consent_version='));
    expect(version(await other('GET', PROFILE))).toEqual([]);
    await patch(send, { sms_allowed: false });
    const [changed, ...more] = version(await other('GET', PROFILE));
    expect([/^consent_version=0\.[0-9a-f]{7}\.0\.0; HttpOnly; Path=\/; SameSite=Lax$/.test(changed!), more]).toEqual([
      true,
      [],
    ]);
    expect(version(await other('GET', PROFILE))).toEqual([]);
    expect(version(await (await device((await person()).client, 'token'))('GET', PROFILE))).toEqual([]);
  });

  test.each(['forgetful', 'token'] as const)('a %s client has read what its own sign-in wrote', async (kind) => {
    const { other, phone } = await two(kind);
    await patch(other, { sms_allowed: false });
    expect(flags(await patch(other, { sms_allowed: true }))).toEqual([false, true, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, 'sms grant (account)']);
  });

  test.each(['forgetful', 'token'] as const)('a %s client has read what is older than its sign-in', async (kind) => {
    const { send, client, phone } = await two();
    await patch(send, { sms_allowed: false });
    kit.advance(10);
    const later = await device(client, kind);
    expect(flags(await patch(later, { sms_allowed: true }))).toEqual([false, true, false, null]);
    expect(await lines(phone)).toEqual([granted, withdrawn, 'sms grant (account)']);
  });

  test.each(['forgetful', 'token'] as const)(
    'a %s client has not read what another sign-in wrote since, even if it has asked',
    async (kind) => {
      const { send, other, phone } = await two(kind);
      await patch(send, { sms_allowed: false });
      await read(other);
      expect(flags(await patch(other, { sms_allowed: true }))).toEqual([false, false, false, null]);
      expect(await lines(phone)).toEqual([granted, withdrawn, stale]);
    },
  );

  test('a withdrawal outside of the profile is as good as one in it', async () => {
    const { other, phone } = await two();
    ok(await tell({ recipient: phone, channel: 'sms', granted: false, source: 'one_click' }));
    expect(flags(await patch(other, { sms_allowed: true }))).toEqual([false, false, false, null]);
    expect(await lines(phone)).toEqual([granted, 'sms withdraw (one_click)', stale]);
  });

  test('a fresh sign-in in the same browser forgets what the one before had read', async () => {
    const { client, send, other, phone } = await two();
    const browser = await kit.signIn(client.email);
    await read(browser.send);
    expect(browser.cookies.has('consent_version')).toBe(true);
    await patch(send, { sms_allowed: false });
    kit.advance(10);
    ok(
      await browser.send('POST', '/users/login/', { body: { email: client.email, password: 'correct-horse-battery' } }),
    );
    expect(browser.cookies.has('consent_version')).toBe(false);
    // It knows everything from before it, and nothing from after it.
    expect(flags(await patch(browser.send, { sms_allowed: true }))).toEqual([false, true, false, null]);
    await patch(other, { sms_allowed: false });
    expect(flags(await patch(browser.send, { sms_allowed: true }))).toEqual([false, false, false, null]);
    expect((await lines(phone)).slice(2)).toEqual(['sms grant (account)', withdrawn, stale]);
  });

  test('a yes that comes with a number says nothing against what was withdrawn there', async () => {
    const ada = await person({ sms_allowed: true });
    await patch(ada.send, { sms_allowed: false });
    await patch(ada.send, { phone: newNumber() });
    const { client, send } = await person();
    kit.advance(10);
    const tag = ok(await send('GET', PROFILE)).headers['etag'] as string;
    const reply = await patch(send, { phone: ada.phone, sms_allowed: true }, { 'if-match': tag });
    expect(flags(reply)).toEqual([false, false, false, null]);
    expect((await lines(ada.phone)).slice(-1)).toEqual(['sms grant: not_theirs (account)']);
    await proveNumber(client);
    expect(flags(await patch(send, { sms_allowed: true }))).toEqual([false, true, false, null]);
  });

  test('what was read of the old number is not read of the one an account proves instead', async () => {
    const next = newNumber();
    const { send } = await person({ sms_allowed: true });
    kit.advance(10);
    ok(await tell({ recipient: next, channel: 'sms', granted: true, source: 'import' }));
    ok(await tell({ recipient: next, channel: 'sms', granted: false, source: 'one_click' }));
    const tag = ok(await send('GET', PROFILE)).headers['etag'] as string;
    const form = { phone: next, sms_allowed: true };
    await patch(send, form, { 'if-match': tag }, LOYALTY);
    await kit.jobs();
    const code = /\d{6}/.exec((await kit.outbox('sms')).findLast(({ recipient }) => recipient === next)!.body)![0];
    const reply = await patch(send, { ...form, code }, { 'if-match': tag }, LOYALTY);
    expect([reply.body.phone, ...flags(reply)]).toEqual([next, false, false, false, null]);
    expect((await lines(next)).slice(-2)).toEqual(['sms withdraw (one_click)', stale]);
  });

  test('three forms at once cannot undo a withdrawal, in whatever order they are taken', async () => {
    for (let round = 0; round < 10; round += 1) {
      const { send, other, client, phone } = await two();
      const third = await device(client, 'token');
      const sent: (() => Promise<Reply>)[] = [
        () => patch(other, { sms_allowed: true }),
        () => patch(send, { sms_allowed: false }),
        () => patch(third, { sms_allowed: true }),
      ];
      await Promise.all([...sent.slice(round % 3), ...sent.slice(0, round % 3)].map((one) => one()));
      expect([await read(send), (await lines(phone)).filter((line) => !line.includes('stale'))]).toEqual([
        [false, false, false, null],
        [granted, withdrawn],
      ]);
    }
  });
});

describe('rule 4: imports, staff and syncs', () => {
  test.each(['import', 'staff', 'register'])(
    '%s does not lift a withdrawal, and lifts it with fresh evidence',
    async (source) => {
      const { send, phone } = await person({ sms_allowed: true });
      await patch(send, { sms_allowed: false });
      const yes = (evidence: object, more: object = {}) =>
        tell({
          recipient: phone,
          channel: 'sms',
          granted: true,
          source,
          evidence: { reason: 'asked', ...evidence },
          ...more,
        });
      const bare = await yes({});
      expect([bare.status, bare.body.outcome, bare.body.state]).toEqual([201, 'not_lifted', 'withdrawn']);
      const old = await yes({ document: 'form of last year' }, { occurred_at: ago(86_400) });
      expect([old.status, old.body.outcome, old.body.state]).toEqual([201, 'older', 'withdrawn']);
      const fresh = await yes({ document: 'form of today' });
      expect([fresh.status, fresh.body.outcome, fresh.body.state]).toEqual([201, 'applied', 'granted']);
      expect((await lines(phone)).slice(2)).toEqual([
        `sms grant: not_lifted (${source})`,
        `sms grant: older (${source})`,
        `sms grant (${source})`,
      ]);
    },
  );

  test('a suppression is lifted neither by an import nor by a guest, and by the person', async () => {
    const { send, phone } = await person({ sms_allowed: true });
    ok(
      await tell({
        recipient: phone,
        channel: 'sms',
        suppressed: true,
        source: 'import',
        evidence: { reason: 'complaint' },
      }),
    );
    expect(await decision(phone)).toEqual([false, 'suppressed']);
    expect((await tell({ recipient: phone, channel: 'sms', granted: true, source: 'import' })).body.outcome).toBe(
      'not_lifted',
    );
    await promote(await tick({ sms_allowed: true }), { recipient: { phone } });
    expect(await decision(phone)).toEqual([false, 'suppressed']);
    await read(send);
    await patch(send, { sms_allowed: true });
    expect(await decision(phone)).toEqual([true, 'granted']);
    expect((await lines(phone)).slice(1)).toEqual([
      'sms suppress (import)',
      'sms grant: not_lifted (import)',
      'sms request: not_lifted (checkout)',
      'sms grant (account)',
    ]);
  });
});

describe('rule 5: consent belongs to the address', () => {
  test('a proven change of the number ends the old one, and the new one starts unknown', async () => {
    const { client, send, phone } = await person({
      sms_allowed: true,
      call_allowed: true,
      whatsapp_allowed: true,
      email_allowed: true,
    });
    const next = newNumber();
    expect((await send('PATCH', LOYALTY, { body: { phone: next } })).status).toBe(202);
    expect(await decision(phone)).toEqual([true, 'granted']);
    await kit.jobs();
    const code = /\d{6}/.exec((await kit.outbox('sms')).findLast(({ recipient }) => recipient === next)!.body)![0];
    expect(flags(await patch(send, { phone: next, code }, {}, LOYALTY))).toEqual([true, false, false, null]);
    for (const channel of ['sms', 'call', 'whatsapp']) {
      expect(await decision(phone, channel)).toEqual([false, 'expired']);
      expect(await decision(next, channel)).toEqual([false, 'unknown']);
    }
    expect((await lines(phone)).slice(3)).toEqual([
      'sms expire (account)',
      'whatsapp expire (account)',
      'call expire (account)',
    ]);
    expect(
      await kit.rows('select retired_at is not null as retired from contact_point where value = $1', phone),
    ).toEqual([{ retired: true }]);
    // Each of these lines says that the number it is about was proven when it was left.
    expect(
      await kit.rows("select distinct proven from consent_event where account = $1 and kind = 'expire'", client.id),
    ).toEqual([{ proven: true }]);
  });

  test('flags of the same request are about the new number', async () => {
    const { send, phone } = await person({ sms_allowed: true });
    const next = newNumber();
    expect(flags(await patch(send, { phone: next, sms_allowed: true, call_allowed: false }))).toEqual([
      false,
      true,
      false,
      false,
    ]);
    expect([await decision(phone), await decision(next), await decision(next, 'call')]).toEqual([
      [false, 'expired'],
      [true, 'granted'],
      [false, 'refused'],
    ]);
  });

  test('another e-mail address likewise', async () => {
    const { send, email } = await person({ email_allowed: true });
    const next = newEmail();
    ok(await send('POST', '/users/email-change/', { body: { email: next, password: 'correct-horse-battery' } }));
    await kit.jobs();
    const token = /[0-9a-f]{64}/.exec(
      (await kit.outbox('mail')).findLast(({ recipient }) => recipient === next)!.body,
    )![0];
    ok(await kit.send('POST', '/users/email-change/confirm/', { body: { token } }));
    expect([await read(send), await decision(email, 'email'), await decision(next, 'email')]).toEqual([
      [false, false, false, null],
      [false, 'expired'],
      [false, 'unknown'],
    ]);
  });

  test('a withdrawal by either who share a number counts for both', async () => {
    const ada = await person({ sms_allowed: true });
    const bora = await kit.signUp({ phone: ada.phone });
    expect(await read(bora.send)).toEqual([false, true, false, null]);
    await patch(bora.send, { sms_allowed: false });
    expect([await read(ada.send), await decision(ada.phone)]).toEqual([
      [false, false, false, null],
      [false, 'withdrawn'],
    ]);
  });

  test('a number left while it was suppressed allows nothing once that is lifted', async () => {
    const { send, phone } = await person({ sms_allowed: true });
    const suppressed = (value: boolean) =>
      tell({ recipient: phone, channel: 'sms', suppressed: value, source: 'staff', evidence: { reason: 'bounced' } });
    ok(await suppressed(true));
    await patch(send, { phone: newNumber() });
    ok(await suppressed(false));
    expect(await decision(phone)).toEqual([false, 'expired']);
  });

  test('a suppression that was lifted lets nobody speak for somebody else’s number', async () => {
    const ada = await person({ sms_allowed: true });
    await patch(ada.send, { sms_allowed: false });
    const mallory = await kit.signUp({ phone: ada.phone });
    for (const suppressed of [true, false]) {
      ok(
        await tell({
          recipient: ada.phone,
          channel: 'sms',
          suppressed,
          source: 'staff',
          evidence: { reason: 'bounced' },
        }),
      );
      await read(mallory.send);
      expect(flags(await patch(mallory.send, { sms_allowed: true }))).toEqual([false, false, false, null]);
      expect((await lines(ada.phone)).at(-1)).toBe('sms grant: not_theirs (account)');
    }
  });
});

describe('rule 6: what the flags show', () => {
  test('granted is true, unknown is null for calls, everything else is false', async () => {
    const { send, phone } = await person();
    const shown = async () => (await read(send)).slice(1);
    expect(await shown()).toEqual([false, false, null]);
    await patch(send, { sms_allowed: true, whatsapp_allowed: true, call_allowed: true });
    expect(await shown()).toEqual([true, true, true]);
    for (const channel of ['sms', 'whatsapp', 'call'])
      ok(await tell({ recipient: phone, channel, suppressed: true, source: 'staff', evidence: { reason: 'bounced' } }));
    expect(await shown()).toEqual([false, false, false]);
    for (const channel of ['sms', 'whatsapp', 'call'])
      ok(await tell({ recipient: phone, channel, suppressed: false, source: 'staff', evidence: { reason: 'works' } }));
    expect(await shown()).toEqual([true, true, true]);
    await patch(send, { sms_allowed: false, whatsapp_allowed: false, call_allowed: false });
    expect(await shown()).toEqual([false, false, false]);
    // What nobody ever spoke of is unknown again after a suppression, and shows so.
    const silent = await person();
    for (const suppressed of [true, false])
      ok(
        await tell({
          recipient: silent.phone,
          channel: 'call',
          suppressed,
          source: 'staff',
          evidence: { reason: 'bounced' },
        }),
      );
    expect([await read(silent.send), await decision(silent.phone, 'call')]).toEqual([
      [false, false, false, null],
      [false, 'unknown'],
    ]);
    await kit.set('DOUBLE_OPT_IN', ['call']);
    const pending = await person();
    expect(flags(await patch(pending.send, { call_allowed: true }))).toEqual([false, false, false, false]);
    expect(await decision(pending.phone, 'call')).toEqual([false, 'pending']);
    await kit.set('DOUBLE_OPT_IN', []);
  });
});

describe('rule 7: a basket consent is not consent', () => {
  test('no profile, no decision, no line and no job sees it before its promotion', async () => {
    const { send, phone, email } = await person();
    const before = await kit.rows('select count(*)::int from graphile_worker.jobs');
    await tick({ sms_allowed: true, email_allowed: true, call_allowed: false, whatsapp_allowed: true });
    expect(await read(send)).toEqual([false, false, false, null]);
    for (const [recipient, channel] of [
      [phone, 'sms'],
      [phone, 'call'],
      [phone, 'whatsapp'],
      [email, 'email'],
    ] as const)
      expect(await decision(recipient, channel)).toEqual([false, 'unknown']);
    expect([await lines(phone), await lines(email)]).toEqual([[], []]);
    expect(await kit.rows('select count(*)::int from graphile_worker.jobs')).toEqual(before);
  });
});

describe('rule 8: promotion', () => {
  const channelsOf = (list: { channel: string }[]): string[] => list.map(({ channel }) => channel).sort();

  test('an address nobody holds: a yes grants, a no refuses what nobody spoke of, and asks where double opt-in is on', async () => {
    const [phone, email] = [newNumber(), newEmail()];
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const basket = await tick({ sms_allowed: true, email_allowed: true, call_allowed: false });
    const made = await promote(basket, { recipient: { phone, email } });
    await kit.set('DOUBLE_OPT_IN', []);
    expect([channelsOf(made.events), channelsOf(made.pending), made.unchanged]).toEqual([
      ['call', 'sms'],
      ['email'],
      [],
    ]);
    expect([await lines(phone), await lines(email)]).toEqual([
      ['sms grant (checkout)', 'call refuse (checkout)'],
      ['email request (checkout)'],
    ]);
    expect([await decision(phone), await decision(email, 'email')]).toEqual([
      [true, 'granted'],
      [false, 'pending'],
    ]);
  });

  test('however often and however parallel it is called, there is one event a channel and one answer', async () => {
    const [phone, email] = [newNumber(), newEmail()];
    const basket = await tick({ sms_allowed: true, email_allowed: true, call_allowed: false, whatsapp_allowed: true });
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => promote(basket, { recipient: { phone, email } })),
    );
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(channelsOf(answers[0].events)).toEqual(['call', 'email', 'sms', 'whatsapp']);
    expect([(await lines(phone)).length, (await lines(email)).length]).toEqual([3, 1]);
  });

  test('a guest neither grants nor withdraws for a member: a yes asks the member, a no is nothing', async () => {
    const ada = await person({ call_allowed: true });
    const made = await promote(await tick({ sms_allowed: true, call_allowed: false, whatsapp_allowed: false }), {
      recipient: { phone: ada.phone },
    });
    expect([made.events, channelsOf(made.pending), channelsOf(made.unchanged)]).toEqual([
      [],
      ['sms'],
      ['call', 'whatsapp'],
    ]);
    expect(await lines(ada.phone)).toEqual(['call grant (registration)', 'sms request (checkout)']);
    expect(await read(ada.send)).toEqual([false, false, false, true]);
    await kit.jobs();
    expect((await kit.outbox('sms')).filter(({ recipient }) => recipient === ada.phone).length).toBe(1);
  });

  test('somebody signed in speaks for their own addresses and for nobody else’s', async () => {
    const ada = await person({ sms_allowed: true, email_allowed: true });
    const bora = await person({ sms_allowed: true });
    const no = { sms_allowed: false, email_allowed: false, call_allowed: true };
    const made = await promote(await tick(no), {
      account: ada.client.id,
      recipient: { phone: bora.phone, email: ada.email },
    });
    expect([channelsOf(made.events), channelsOf(made.pending), channelsOf(made.unchanged)]).toEqual([
      ['email'],
      ['call'],
      ['sms'],
    ]);
    expect([
      await decision(ada.email, 'email'),
      await decision(bora.phone),
      await decision(bora.phone, 'call'),
    ]).toEqual([
      [false, 'withdrawn'],
      [true, 'granted'],
      [false, 'pending'],
    ]);
    await promote(await tick({ sms_allowed: false, call_allowed: true }), { account: ada.client.id });
    expect([await decision(ada.phone), await decision(ada.phone, 'call')]).toEqual([
      [false, 'withdrawn'],
      [true, 'granted'],
    ]);
  });

  test('what was ticked counts by the time it was ticked', async () => {
    const ada = await person({ sms_allowed: true });
    const basket = await tick({ sms_allowed: true });
    kit.advance(1000);
    await patch(ada.send, { sms_allowed: false });
    const made = await promote(basket, { account: ada.client.id });
    expect(made).toEqual({ events: [], pending: [], unchanged: [{ channel: 'sms', reason: 'older' }] });
    expect(await decision(ada.phone)).toEqual([false, 'withdrawn']);
  });

  test('a registration promotes its basket in its own transaction', async () => {
    const [phone, taken] = [newNumber(), (await person()).phone];
    const basket = await tick({ sms_allowed: true, email_allowed: true });
    const email = newEmail();
    const form = { email, password: 'correct-horse-battery', first_name: 'Ada', last_name: 'Yılmaz', ...basket };
    // Refused as a whole: the basket stays as it was.
    const refused = await kit.send('POST', '/users/registration/', {
      body: { ...form, email: (await person()).email, phone },
    });
    expect([refused.status, await lines(phone), await lines(email)]).toEqual([400, [], []]);
    const made = await kit.signUp({ email, phone, ...basket });
    expect(await read(made.send)).toEqual([true, true, false, null]);
    expect([await lines(phone), await lines(email)]).toEqual([['sms grant (checkout)'], ['email grant (checkout)']]);
    // A number that somebody else has: asked, not granted.
    const other = await kit.signUp({ phone: taken, ...(await tick({ sms_allowed: true })) });
    expect([await read(other.send), await lines(taken)]).toEqual([
      [false, false, false, null],
      ['sms request (checkout)'],
    ]);
  });
});

describe('rule 9: a withdrawal is possible by every way in', () => {
  test.each(['one_click', 'preference_page', 'sms_keyword', 'staff', 'import', 'register', 'account'])(
    'told by %s it stops the next decision',
    async (source) => {
      const { phone } = await person({ sms_allowed: true });
      const told = await tell({
        recipient: phone,
        channel: 'sms',
        granted: false,
        source,
        evidence: { reason: 'asked to stop' },
      });
      expect([told.status, told.body.kind, told.body.outcome]).toEqual([201, 'withdraw', 'applied']);
      expect(await decision(phone)).toEqual([false, 'withdrawn']);
    },
  );

  test('staff has to say why', async () => {
    const { phone } = await person({ sms_allowed: true });
    const told = await tell({ recipient: phone, channel: 'sms', granted: false, source: 'staff' });
    expect([told.status, told.body.errors[0].pointer]).toEqual([400, '/evidence/reason']);
    expect(await decision(phone)).toEqual([true, 'granted']);
  });

  test('a no during a suppression holds after it', async () => {
    const { phone, send } = await person({ sms_allowed: true });
    const suppressed = (value: boolean) =>
      tell({ recipient: phone, channel: 'sms', suppressed: value, source: 'staff', evidence: { reason: 'bounced' } });
    ok(await suppressed(true));
    await read(send);
    const told = await tell({ recipient: phone, channel: 'sms', granted: false, source: 'one_click' });
    expect([told.status, told.body.kind, told.body.state]).toEqual([201, 'withdraw', 'suppressed']);
    // The form that has read the suppression has not read this.
    expect(flags(await patch(send, { sms_allowed: true }))).toEqual([false, false, false, null]);
    ok(await suppressed(false));
    expect(await decision(phone)).toEqual([false, 'withdrawn']);
    expect((await lines(phone)).slice(1)).toEqual([
      'sms suppress (staff)',
      'sms withdraw (one_click)',
      'sms grant: stale (account)',
      'sms restore (staff)',
    ]);
  });
});

describe('rule 10: erasure keeps the no', () => {
  test('nobody brings an erased address back but whoever proves it, and the chain still verifies', async () => {
    const { client, phone, email } = await person({ sms_allowed: true, email_allowed: true });
    const erased = await shop('POST', '/v1/erasures', { body: { account: client.id } });
    expect([erased.status < 300, erased.status < 300 || erased.body]).toEqual([true, true]);
    expect(await kit.rows('select 1 from contact_point where value = any ($1::text[])', [phone, email])).toEqual([]);
    for (const [recipient, channel] of [
      [phone, 'sms'],
      [phone, 'call'],
      [phone, 'whatsapp'],
      [email, 'email'],
    ] as const) {
      expect(await decision(recipient, channel)).toEqual([false, 'suppressed']);
      for (const evidence of [{}, { document: 'form' }]) {
        const told = await tell({ recipient, channel, granted: true, source: 'import', evidence });
        expect([told.status, told.body.outcome, told.body.state]).toEqual([201, 'not_lifted', 'suppressed']);
      }
      const lifted = await tell({
        recipient,
        channel,
        suppressed: false,
        source: 'staff',
        evidence: { reason: 'please' },
      });
      expect([lifted.status, lifted.body.outcome]).toEqual([201, 'not_lifted']);
    }
    await promote(await tick({ sms_allowed: true, email_allowed: true }), { recipient: { phone, email } });
    expect([await decision(phone), await decision(email, 'email')]).toEqual([
      [false, 'suppressed'],
      [false, 'suppressed'],
    ]);
    const typed = await kit.signUp({ email, phone, sms_allowed: true, email_allowed: true, unproven: true });
    expect(await read(typed.send)).toEqual([false, false, false, false]);
    expect((await kit.verify()).fault).toBe(undefined);
    expect(await findDrift(kit.ctx)).toBe(undefined);
    await kit.rows(
      'update account set email_verified_at = date_joined, phone_verified_at = date_joined where id = $1',
      typed.id,
    );
    expect(flags(await patch(typed.send, { sms_allowed: true, email_allowed: true }))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

test('afterwards the states are a replay of the ledger, and its chain verifies', async () => {
  expect(await findDrift(kit.ctx)).toBe(undefined);
  expect((await kit.verify()).fault).toBe(undefined);
});
