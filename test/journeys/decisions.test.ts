/** May we contact this person? Asked one by one and by the stream, told by other systems, promoted from baskets. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sweepKeys } from '../../src/platform/idempotency.ts';
import { createKit, type Kit, type Send } from '../kit.ts';

let kit: Kit;
let api: Send;
let numbers = 0;
const newNumber = (): string => {
  numbers += 1;
  return `+90532300${String(numbers).padStart(4, '0')}`;
};

beforeAll(async () => {
  kit = await createKit();
  api = await kit.apiKey('*');
});
afterAll(() => kit.close());

const decide = async (body: object, headers: Record<string, string> = {}) =>
  (await api('POST', '/v1/decisions/contact', { body, headers })).body;
const tell = (body: object, headers: Record<string, string> = {}) =>
  api('POST', '/v1/consents', { body: { channel: 'sms', source: 'checkout', ...body }, headers });
const MINUTE = 60_000;
const ago = (milliseconds: number): string => new Date(kit.ctx.clock.now().getTime() - milliseconds).toISOString();
const eventsAbout = (recipient: string) =>
  kit.rows<{ kind: string; channel: string; outcome: string; source: string }>(
    `select e.kind, e.channel, e.outcome, e.source from consent_event e join contact_point p on p.id = e.contact_point
      where p.value = $1 order by e.id`,
    recipient,
  );

describe('a decision', () => {
  test('says no where nothing was ever said, and that this is why', async () => {
    expect(await decide({ recipient: newNumber(), channel: 'sms' })).toEqual({
      allowed: false,
      state: 'unknown',
      since: null,
      code: 'unknown',
      reason: 'Nothing was ever said about this address and channel.',
      event: null,
    });
  });

  test('follows every change at once, with the deciding event, in words of the reader’s language', async () => {
    const phone = newNumber();
    const ada = await kit.signUp({ phone, sms_allowed: true });
    const [granted] = await kit.rows<{ id: string; occurred_at: Date }>(
      'select id, occurred_at from consent_event where account = $1',
      ada.id,
    );
    const at = granted!.occurred_at.toISOString();
    const minute = `${at.slice(0, 10)} ${at.slice(11, 16)} UTC`;
    for (const who of [{ recipient: phone }, { account: ada.id }, { recipient: phone.replace(/(\d\d)$/, ' $1') }]) {
      expect(await decide({ ...who, channel: 'sms' })).toEqual({
        allowed: true,
        state: 'granted',
        since: at,
        code: 'granted',
        reason: `Granted on ${minute}, at registration.`,
        event: granted!.id,
      });
    }
    await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: false } });
    const [withdrawn] = await kit.rows<{ id: string; occurred_at: Date }>(
      "select id, occurred_at from consent_event where account = $1 and kind = 'withdraw'",
      ada.id,
    );
    expect(
      await decide({ recipient: phone, channel: 'sms', purpose: 'marketing' }, { 'accept-language': 'tr' }),
    ).toMatchObject({
      allowed: false,
      state: 'withdrawn',
      event: withdrawn!.id,
      reason: expect.stringContaining('hesapta geri alındı'),
    });
    expect(await decide({ account: ada.id, channel: 'whatsapp' })).toMatchObject({ allowed: false, code: 'unknown' });
  });

  test('an account without an address and one that is not there are told apart', async () => {
    const ada = await kit.signUp();
    expect(await decide({ account: ada.id, channel: 'sms' })).toMatchObject({ allowed: false, code: 'no_address' });
    expect(await decide({ account: 999_999, channel: 'sms' })).toMatchObject({ allowed: false, code: 'no_account' });
  });

  test('counts the time itself where consents last for a time, before anybody has written that down', async () => {
    const own = await createKit();
    try {
      const key = await own.apiKey('decisions');
      const phone = newNumber();
      await own.signUp({ phone, sms_allowed: true });
      await own.set('CONSENT_VALIDITY', 3600);
      const ask = async () =>
        (await key('POST', '/v1/decisions/contact', { body: { recipient: phone, channel: 'sms' } })).body;
      expect(await ask()).toMatchObject({ allowed: true, code: 'granted' });
      own.advance(3601 * 1000);
      expect(await ask()).toMatchObject({ allowed: false, state: 'expired', code: 'over' });
      const { expireConsents } = await import('../../src/consent/expiry.ts');
      await expireConsents(own.ctx);
      await expireConsents(own.ctx);
      expect(await ask()).toMatchObject({ allowed: false, state: 'expired', code: 'expired' });
      expect(await own.rows('select kind, source, actor from consent_event order by id')).toEqual([
        { kind: 'grant', source: 'registration', actor: expect.stringMatching(/^account:/) },
        { kind: 'expire', source: 'system', actor: 'system' },
      ]);
      expect((await own.verify()).fault).toBe(undefined);
    } finally {
      await own.close();
    }
  });

  test.each([
    [{ channel: 'sms' }, '/recipient', 'one'],
    [{ recipient: '+905321234567', account: 1, channel: 'sms' }, '/recipient', 'one'],
    [{ recipient: '123', channel: 'sms' }, '/recipient', 'phone'],
    [{ recipient: 'nobody@', channel: 'email' }, '/recipient', 'email'],
    [{ recipient: 'ada@example.com', channel: 'sms' }, '/recipient', 'kind'],
    [{ recipient: '+905321234567', channel: 'fax' }, '/channel', 'as_told'],
    [{ recipient: '+905321234567', channel: 'sms', purpose: 'spam' }, '/purpose', 'purpose'],
    [{ recipient: '+905321234567', channel: 'sms', why: 1 }, '/why', 'unknown'],
  ])('refuses %j and names the place', async (body, pointer, code) => {
    const reply = await api('POST', '/v1/decisions/contact', { body });
    expect([reply.status, reply.body.errors?.[0].pointer, reply.body.errors?.[0].code]).toEqual([400, pointer, code]);
  });

  test('needs a key with the scope decisions', async () => {
    const other = await kit.apiKey('accounts');
    expect((await other('POST', '/v1/decisions/contact', { body: {} })).status).toBe(403);
    expect((await kit.send('POST', '/v1/decisions/contact', { body: {} })).status).toBe(401);
  });
});

describe('decisions by the stream', () => {
  const stream = async (lines: string) => {
    const reply = await api('POST', '/v1/decisions/contact', {
      body: lines,
      headers: { 'content-type': 'application/x-ndjson' },
    });
    return {
      ...reply,
      lines: reply.text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    };
  };

  test('one line a question, in order, thousands a call; a wrong line is answered in its place', async () => {
    const phone = newNumber();
    const ada = await kit.signUp({ phone, sms_allowed: true, email_allowed: true });
    const questions = Array.from({ length: 12_345 }, (_, n) =>
      n % 1000 === 7
        ? '{"recipient":"0532","channel":"sms"}'
        : n % 1000 === 8
          ? '{"recipient":'
          : JSON.stringify(
              n % 2 === 0
                ? { recipient: phone, channel: 'sms' }
                : { account: ada.id, channel: n % 3 === 0 ? 'email' : 'whatsapp' },
            ),
    );
    const { status, headers, lines } = await stream(questions.join('\n'));
    expect([status, headers['content-type'], lines.length]).toEqual([200, 'application/x-ndjson', 12_345]);
    for (const [n, line] of lines.entries()) {
      if (n % 1000 === 7)
        expect(line.error).toMatchObject({ status: 400, errors: [{ pointer: '/recipient', code: 'phone' }] });
      else if (n % 1000 === 8) expect(line.error).toMatchObject({ status: 400, code: 'malformed' });
      else expect([n, line.allowed]).toEqual([n, n % 2 === 0 || n % 3 === 0]);
    }
  });

  test('an empty stream has an empty answer', async () => {
    const reply = await api('POST', '/v1/decisions/contact', {
      body: '\n',
      headers: { 'content-type': 'application/x-ndjson' },
    });
    expect([reply.status, reply.text]).toEqual([200, '']);
  });
});

describe('telling a consent', () => {
  test('makes an event; told again it is the same one; what is so already is no event', async () => {
    const phone = newNumber();
    const body = {
      recipient: phone,
      granted: true,
      occurred_at: ago(MINUTE),
      evidence: { ip: '203.0.113.7', order: 'A-1' },
    };
    const first = await tell(body);
    expect([first.status, first.body]).toEqual([
      201,
      {
        id: expect.any(String),
        kind: 'grant',
        channel: 'sms',
        recipient: phone,
        purpose: 'marketing',
        source: 'checkout',
        actor: expect.stringMatching(/^key:\d+$/),
        outcome: 'applied',
        notice: null,
        account: null,
        occurred_at: body.occurred_at,
        recorded_at: expect.any(String),
        evidence: { ip: '203.0.113.7', order: 'A-1', address: phone },
        position: null,
        state: 'granted',
      },
    ]);
    const again = await tell(body);
    expect([again.status, again.body.id]).toEqual([200, first.body.id]);
    const equal = await tell({ recipient: phone, granted: true });
    expect([equal.status, equal.body.id]).toEqual([200, first.body.id]);
    expect(await eventsAbout(phone)).toHaveLength(1);
  });

  test('told by a clock that runs ahead it is the same again, also after a no in between', async () => {
    const phone = newNumber();
    const body = { recipient: phone, granted: true, occurred_at: ago(-2 * MINUTE), evidence: { ip: '203.0.113.7' } };
    const first = await tell(body);
    expect((await tell({ recipient: phone, granted: false })).body.state).toBe('withdrawn');
    const again = await tell(body);
    expect([first.status, again.status, again.body.id, again.body.state]).toEqual([
      201,
      200,
      first.body.id,
      'withdrawn',
    ]);
  });

  test('an Idempotency-Key stands for one request', async () => {
    const phone = newNumber();
    const headers = { 'idempotency-key': `key-${phone}` };
    const first = await tell({ recipient: phone, granted: true }, headers);
    await tell({ recipient: phone, granted: false });
    const again = await tell({ recipient: phone, granted: true }, headers);
    expect([first.status, again.status, again.body.id, again.body.state]).toEqual([
      201,
      200,
      first.body.id,
      'withdrawn',
    ]);
    const other = await tell({ recipient: phone, granted: false }, headers);
    expect([other.status, other.body.code]).toEqual([409, 'idempotency_mismatch']);
    expect((await eventsAbout(phone)).map(({ kind }) => kind)).toEqual(['grant', 'withdraw']);
  });

  test('an Idempotency-Key that was forgotten after a week is a new one: no later no is taken for an old one', async () => {
    const phone = newNumber();
    const headers = { 'idempotency-key': `weekly-${phone}` };
    const first = await tell({ recipient: phone, granted: false }, headers);
    kit.advance(8 * 86_400_000);
    await sweepKeys(kit.ctx);
    await tell({ recipient: phone, granted: true });
    const later = await tell({ recipient: phone, granted: false, source: 'sms_keyword' }, headers);
    expect([first.status, later.status, later.body.id === first.body.id, later.body.state]).toEqual([
      201,
      201,
      false,
      'withdrawn',
    ]);
  });

  test('what was not believed is told again with where the person was when they said it', async () => {
    const phone = newNumber();
    await tell({ recipient: phone, granted: true, occurred_at: ago(3 * MINUTE) });
    await tell({ recipient: phone, granted: false, occurred_at: ago(2 * MINUTE) });
    const said = { recipient: phone, granted: true, occurred_at: ago(MINUTE) };
    const bare = await tell(said);
    expect([bare.status, bare.body.outcome]).toEqual([201, 'not_lifted']);
    const traced = await tell({ ...said, evidence: { ip: '203.0.113.9' } });
    expect([traced.status, traced.body.outcome, traced.body.state]).toEqual([201, 'applied', 'granted']);
    expect((await tell({ ...said, evidence: { ip: '203.0.113.9' } })).body.id).toBe(traced.body.id);
  });

  test('the shop lifts no withdrawal without fresh evidence from the person; the attempt is on record', async () => {
    const phone = newNumber();
    const ada = await kit.signUp({ phone, sms_allowed: true });
    await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: false } });
    const bare = await tell({
      recipient: phone,
      granted: true,
      source: 'staff',
      evidence: { reason: 'asked on the phone' },
    });
    expect([bare.status, bare.body.outcome, bare.body.state]).toEqual([201, 'not_lifted', 'withdrawn']);
    const old = await tell({
      recipient: phone,
      granted: true,
      occurred_at: '2020-01-01T00:00:00Z',
      evidence: { document: 'form 17' },
    });
    expect([old.status, old.body.outcome, old.body.state]).toEqual([201, 'older', 'withdrawn']);
    const signed = await tell({
      recipient: phone,
      granted: true,
      source: 'staff',
      evidence: { reason: 'signed in the shop', document: 'form 18' },
    });
    expect([signed.status, signed.body.outcome, signed.body.state]).toEqual([201, 'applied', 'granted']);
  });

  test('a suppression stops everything and its end brings back what it covered', async () => {
    const phone = newNumber();
    await tell({ recipient: phone, granted: true });
    const bounced = await tell({
      recipient: phone,
      suppressed: true,
      source: 'staff',
      evidence: { reason: 'hard bounce' },
    });
    expect([bounced.status, bounced.body.kind, bounced.body.state]).toEqual([201, 'suppress', 'suppressed']);
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ allowed: false, code: 'suppressed' });
    const lifted = await tell({
      recipient: phone,
      suppressed: false,
      source: 'staff',
      evidence: { reason: 'mailbox is back' },
    });
    expect([lifted.body.kind, lifted.body.state]).toEqual(['restore', 'granted']);
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ allowed: true, code: 'restored' });
    expect(
      (await tell({ recipient: newNumber(), suppressed: false, source: 'staff', evidence: { reason: 'x' } })).status,
    ).toBe(404);
  });

  test('names the notice that was shown', async () => {
    const notice = {
      purpose: 'marketing',
      channels: ['sms', 'email'],
      language: 'en',
      version: '2026-11',
      text: 'Yes, send me offers.',
      withdrawal: 'Reply STOP.',
    };
    const made = await api('POST', '/v1/notices', { body: notice });
    expect([made.status, made.body]).toEqual([
      201,
      {
        ...notice,
        id: expect.any(Number),
        text_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        valid_from: expect.any(String),
        created_at: expect.any(String),
        created_by: expect.stringMatching(/^key:/),
      },
    ]);
    expect((await api('POST', '/v1/notices', { body: notice })).status).toBe(409);
    expect((await api('GET', `/v1/notices/${made.body.id}`)).body).toEqual(made.body);
    expect((await api('GET', '/v1/notices')).body.items[0]).toEqual(made.body);
    const phone = newNumber();
    const told = await tell({ recipient: phone, granted: true, evidence: { notice: made.body.id } });
    expect([told.status, told.body.notice]).toEqual([201, made.body.id]);
    const wrong = await tell({ recipient: phone, channel: 'call', granted: true, evidence: { notice: made.body.id } });
    expect([wrong.status, wrong.body.errors[0]]).toMatchObject([
      400,
      { pointer: '/evidence/notice', code: 'of_other' },
    ]);
    // A profile's flag names the one in force, or the one the client says it showed.
    const ada = await kit.signUp({ phone: newNumber() });
    await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: true } });
    const next = await api('POST', '/v1/notices', {
      body: { ...notice, version: '2026-12', text: 'Yes, send me more offers.' },
    });
    await ada.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await ada.send('PATCH', '/users/profile/', {
      body: { email_allowed: false },
      headers: { 'assent-notice': String(made.body.id) },
    });
    expect(
      await kit.rows('select channel, kind, notice from consent_event where account = $1 order by id', ada.id),
    ).toEqual([
      { channel: 'sms', kind: 'grant', notice: made.body.id },
      { channel: 'email', kind: 'grant', notice: next.body.id },
      { channel: 'email', kind: 'withdraw', notice: made.body.id },
    ]);
    const unknown = await ada.send('PATCH', '/users/profile/', {
      body: { sms_allowed: false },
      headers: { 'assent-notice': '99999' },
    });
    expect([unknown.status, unknown.body]).toEqual([400, { 'Assent-Notice': ['There is no such notice.'] }]);
  });

  test.each([
    [{ granted: true, occurred_at: '2999-01-01T00:00:00Z' }, '/occurred_at', 'future'],
    [{ granted: true, occurred_at: '1999-12-31T23:59:59Z' }, '/occurred_at', 'ancient'],
    [{ granted: true, occurred_at: 'yesterday' }, '/occurred_at', 'as_told'],
    [{ granted: true, channel: 'fax' }, '/channel', 'as_told'],
    [{ granted: true, purpose: 'spam' }, '/purpose', 'purpose'],
    [{ granted: true, source: 'hearsay' }, '/source', 'as_told'],
    [{ granted: true, source: 'staff' }, '/evidence/reason', 'required'],
    [{ granted: true, suppressed: true }, '/granted', 'one'],
    [{}, '/granted', 'one'],
    [{ granted: true, evidence: { notice: 424_242 } }, '/evidence/notice', 'none'],
    [{ granted: true, recipient: 'x' }, '/recipient', 'as_told'],
  ])('refuses %j and writes nothing', async (body, pointer, code) => {
    const recipient = newNumber();
    const reply = await tell({ recipient, ...body });
    expect([reply.status, reply.body.errors?.[0].pointer, reply.body.errors?.[0].code]).toEqual([400, pointer, code]);
    expect(await eventsAbout(recipient)).toEqual([]);
  });
});

describe('somebody who merely typed an address', () => {
  test('lifts neither a STOP nor a complaint of its holder, who may have no account', async () => {
    const phone = newNumber();
    await tell({ recipient: phone, granted: true });
    await tell({ recipient: phone, granted: false, source: 'sms_keyword', evidence: { message: 'STOP' } });
    const mallory = await kit.signUp({ phone, unproven: true });
    const yes = async () =>
      (await mallory.send('PATCH', '/users/profile/', { body: { sms_allowed: true } })).body.sms_allowed;
    expect(await yes()).toBe(false);
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ allowed: false, state: 'withdrawn' });
    await tell({ recipient: phone, suppressed: true, source: 'staff', evidence: { reason: 'complaint' } });
    expect(await yes()).toBe(false);
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ allowed: false, state: 'suppressed' });
    // What is told of the number is not theirs either.
    expect(
      await kit.rows(
        'select account from consent_event e join contact_point p on p.id = e.contact_point where p.value = $1 and source <> $2',
        phone,
        'account',
      ),
    ).toEqual([{ account: null }, { account: null }, { account: null }]);
  });

  test('does not end what its holder said by giving the number up again', async () => {
    const phone = newNumber();
    await tell({ recipient: phone, granted: true });
    const mallory = await kit.signUp({ phone, unproven: true });
    expect((await mallory.send('PATCH', '/users/profile/', { body: { phone: null } })).status).toBe(200);
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ allowed: true });
  });
});

test('a suppression in between makes no consent younger', async () => {
  const own = await createKit();
  try {
    const send = await own.apiKey('consents', 'decisions');
    await own.set('CONSENT_VALIDITY', 365 * 86_400);
    const body = { recipient: '+905323339999', channel: 'sms', source: 'checkout' };
    await send('POST', '/v1/consents', { body: { ...body, granted: true } });
    own.advance(300 * 86_400_000);
    await send('POST', '/v1/consents', { body: { ...body, suppressed: true, evidence: { reason: 'bounce' } } });
    own.advance(300 * 86_400_000);
    await send('POST', '/v1/consents', { body: { ...body, suppressed: false, evidence: { reason: 'back' } } });
    const { body: made } = await send('POST', '/v1/decisions/contact', {
      body: { recipient: body.recipient, channel: 'sms' },
    });
    expect(made).toMatchObject({ allowed: false, state: 'expired', code: 'over' });
    expect((await own.verify()).fault).toBe(undefined);
  } finally {
    await own.close();
  }
});

test('refuses evidence that is too large, and writes nothing', async () => {
  const recipient = newNumber();
  const evidence = { form: 'x'.repeat(3999), page: 'y'.repeat(3999), more: 'z'.repeat(3999) };
  const reply = await tell({ recipient, granted: true, evidence });
  expect([reply.status, reply.body.errors[0]]).toMatchObject([400, { pointer: '/evidence', code: 'evidence' }]);
  expect(await eventsAbout(recipient)).toEqual([]);
});

describe('promotion at the order', () => {
  let baskets = 5000;
  const state = async (flags: object) => {
    baskets += 1;
    const uid = `guest-${baskets}`;
    expect((await kit.send('POST', '/users/permissions/', { body: { uid, basket: baskets, ...flags } })).status).toBe(
      200,
    );
    return { basket: baskets, uid };
  };
  const promote = (basket: number, body: object, headers: Record<string, string> = {}) =>
    api('POST', `/v1/baskets/${basket}/promote`, { body: { occasion: 'order', order: 'A-1', ...body }, headers });

  test('a guest’s flags become consent of the address, once, with their evidence', async () => {
    const phone = newNumber();
    const email = `guest${phone}@example.com`.replace('+', '');
    const { basket, uid } = await state({ sms_allowed: true, email_allowed: true, call_allowed: false });
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ code: 'unknown' });
    const first = await promote(basket, { uid, recipient: { phone, email } });
    expect([first.status, first.body]).toEqual([
      200,
      {
        events: [
          { channel: 'call', event: expect.any(String) },
          { channel: 'email', event: expect.any(String) },
          { channel: 'sms', event: expect.any(String) },
        ],
        pending: [],
        unchanged: [],
      },
    ]);
    expect((await promote(basket, { uid, recipient: { phone, email } }, { 'idempotency-key': 'k1' })).body).toEqual(
      first.body,
    );
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({ allowed: true });
    expect(await decide({ recipient: email, channel: 'email' })).toMatchObject({ allowed: true });
    expect(await eventsAbout(phone)).toEqual([
      { kind: 'grant', channel: 'sms', outcome: 'applied', source: 'checkout' },
      { kind: 'refuse', channel: 'call', outcome: 'applied', source: 'checkout' },
    ]);
    expect(await kit.rows('select evidence from basket_consent where basket = $1', basket)).toEqual([
      { evidence: {} },
      { evidence: {} },
      { evidence: {} },
    ]);
  });

  test('a hundred callers at once, in two processes, get one event per channel', async () => {
    const twin = await kit.twin();
    const key = await twin.apiKey('baskets');
    const phone = newNumber();
    const { basket, uid } = await state({ sms_allowed: true, whatsapp_allowed: true });
    const replies = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        (n % 2 === 0 ? api : key)('POST', `/v1/baskets/${basket}/promote`, { body: { uid, recipient: { phone } } }),
      ),
    );
    expect(new Set(replies.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect((await eventsAbout(phone)).map(({ channel }) => channel).sort()).toEqual(['sms', 'whatsapp']);
  });

  test('for an address a member holds a yes is a question and a no is nothing; signed in, the member speaks', async () => {
    const phone = newNumber();
    const ada = await kit.signUp({ phone, email_allowed: true, sms_allowed: true });
    const guest = await state({ whatsapp_allowed: true, sms_allowed: false, email_allowed: false });
    const asked = await promote(guest.basket, { uid: guest.uid, recipient: { phone, email: ada.email } });
    expect(asked.body).toEqual({
      events: [],
      pending: [{ channel: 'whatsapp', event: expect.any(String) }],
      unchanged: [
        { channel: 'email', reason: 'no_change' },
        { channel: 'sms', reason: 'no_change' },
      ],
    });
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({
      email_allowed: true,
      sms_allowed: true,
      whatsapp_allowed: false,
    });
    const member = await state({ sms_allowed: false, email_allowed: true });
    const said = await promote(member.basket, { uid: member.uid, account: ada.id });
    expect(said.body).toEqual({
      events: [{ channel: 'sms', event: expect.any(String) }],
      pending: [],
      unchanged: [{ channel: 'email', reason: 'no_change' }],
    });
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({ email_allowed: true, sms_allowed: false });
  });

  test('a guest who types a withdrawn address lifts nothing: the holder of the address is asked', async () => {
    const phone = newNumber();
    await tell({ recipient: phone, granted: true });
    await tell({ recipient: phone, granted: false });
    const { basket, uid } = await state({ sms_allowed: true });
    expect((await promote(basket, { uid, recipient: { phone } })).body.pending).toHaveLength(1);
    expect(await decide({ recipient: phone, channel: 'sms' })).toMatchObject({
      allowed: false,
      code: 'withdrawn_asked',
    });
  });

  test('flags wait for an address; another guest’s basket is refused; an unknown one has nothing', async () => {
    const { basket, uid } = await state({ sms_allowed: true });
    expect((await promote(basket, { uid, recipient: { email: 'late@example.com' } })).body).toEqual({
      events: [],
      pending: [],
      unchanged: [{ channel: 'sms', reason: 'no_address' }],
    });
    const foreign = await promote(basket, { uid: 'somebody', recipient: { phone: newNumber() } });
    expect([foreign.status, foreign.body.errors[0].pointer]).toEqual([400, '/uid']);
    expect((await promote(basket, { uid, recipient: { phone: newNumber() } })).body.events).toHaveLength(1);
    expect((await promote(424_242, { uid, recipient: { phone: newNumber() } })).body).toEqual({
      events: [],
      pending: [],
      unchanged: [],
    });
    expect((await promote(basket, { uid, account: 999_999 })).body.errors[0].pointer).toBe('/account');
  });
});
