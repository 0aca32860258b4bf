/** Proofs of consent: what they hold, what they keep to themselves, and that nothing in one can be changed unseen. */
import { execFile } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { lineHash } from '../../src/consent/ledger/lines.ts';
import { headHash, sealAll } from '../../src/consent/ledger/seals.ts';
import { addNotice, type Notice } from '../../src/consent/notices.ts';
import { checkProof, describeCheck } from '../../src/consent/proof/check.ts';
import { describeKey, type FullLine, type Proof, signedText } from '../../src/consent/proof/file.ts';
import { sayOne } from '../../src/consent/statements.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

const PHONE = '+905321234567';
const controller = {
  name: 'Usta <Bakery>',
  address: 'Moda Caddesi 1',
  contact: 'privacy@usta.example',
  jurisdiction: 'TR',
  storage: 'İstanbul',
  retention: 'Three years',
  recipients: ['Mailer Ltd'],
};
/** What could end the element a document stands in. */
const TEXT = 'I want <b>offers</b> by e-mail & text. </script><script>alert(1)</script> $& İ';

let kit: Kit;
let folder: string;
let crm: Send;
let ada: Client;
let eve: Client;
let notice: Notice;
/** Ada's proof as JSON and as a page. */
let reply: Reply;
let page: string;

beforeAll(async () => {
  kit = await createKit();
  folder = mkdtempSync(join(tmpdir(), 'assent-proof-'));
  crm = await kit.apiKey('consents');
  await kit.set('CONSENT_CONTROLLER', controller);
  notice = await addNotice(
    kit.ctx,
    {
      purpose: 'marketing',
      channels: ['email', 'sms'],
      language: 'en',
      version: '2026-11',
      text: TEXT,
      withdrawal: 'In your account, or by one click in any mail',
    },
    'test',
  );
  kit.advance(1000);
  ada = await kit.signUp({ email: 'ada.proof@example.com', email_allowed: true });
  await sealAll(kit.ctx);
  const patch = (client: Client, body: object): Promise<Reply> =>
    client.send('PATCH', '/users/profile/', { body, headers: { 'user-agent': `browser of ${client.email}` } });
  await patch(ada, { email_allowed: false });
  await patch(ada, { phone: PHONE, sms_allowed: true, whatsapp_allowed: true });
  await kit.rows('update account set phone_verified_at = now() where id = $1', ada.id);
  await sealAll(kit.ctx);
  // Somebody else's word about the same number.
  eve = await kit.signUp({ email: 'eve.proof@example.com', phone: PHONE, call_allowed: false });
  // The shop's word, older than what stands.
  await sayOne(kit.ctx, {
    about: { kind: 'phone', value: PHONE },
    account: null,
    channel: 'sms',
    purpose: 'marketing',
    intent: 'refuse',
    by: { voice: 'shop' },
    at: new Date('2020-01-01T00:00:00Z'),
    source: 'import',
    actor: 'key:9',
    evidence: { file: 'old.csv' },
    key: 'old.csv:1',
  });
  reply = await crm('GET', `/v1/accounts/${ada.id}/proof`);
  page = (await crm('GET', `/v1/accounts/${ada.id}/proof?format=html`)).text;
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await kit?.close();
});

const proof = (): Proof => JSON.parse(reply.text) as Proof;
const faultOf = (document: unknown): string | undefined => checkProof(JSON.stringify(document)).fault;
/** The fault of Ada's proof with one thing done to it. */
const spoiled = (change: (document: Proof) => void): string | undefined => {
  const document = proof();
  change(document);
  return faultOf(document);
};
/** The fault of Ada's proof with one value of it another; a function is given the value that was there. */
const put = (path: string, value: unknown): string | undefined =>
  spoiled((document) => {
    const keys = path.split('.');
    const last = keys.pop()!;
    const place = keys.reduce((at, key) => at[key] as Record<string, unknown>, document as Record<string, unknown>);
    place[last] = typeof value === 'function' ? (value as (before: unknown) => unknown)(place[last]) : value;
  });
const full = (document: Proof, n: number): FullLine => {
  const line = document.lines[n]!;
  if (line.withheld) throw new Error(`line ${n} is withheld`);
  return line;
};
/** As `line 3 (event …)`. */
const named = (n: number): string => {
  const { id, position } = proof().lines[n]!;
  return `line ${position} (event ${id})`;
};

/** Signs a document as it is now. */
const signed = (document: Proof, key: KeyObject): Proof => {
  const { signature: _, ...unsigned } = document;
  return { ...unsigned, signature: sign(null, Buffer.from(signedText(unsigned)), key).toString('base64') };
};

/** What the last character of a hex or base64 text becomes. */
const flip = (text: string): string => (text.startsWith('0') ? `1${text.slice(1)}` : `0${text.slice(1)}`);

describe('what a proof holds', () => {
  test('is handed out as a file that nobody keeps, and it holds', () => {
    const day = proof().generated_at.slice(0, 10);
    expect(reply.status).toBe(200);
    expect(reply.headers).toMatchObject({
      'content-type': 'application/json',
      'content-disposition': `attachment; filename="consent-proof-account-${ada.id}-${day}.json"`,
      'cache-control': 'private, no-store',
    });
    const check = checkProof(reply.text);
    expect(check).toEqual({
      generated_at: proof().generated_at,
      account: ada.id,
      addresses: ['ada.proof@example.com', PHONE],
      lines: 6,
      unsealed: 0,
      withheld: 1,
      erased: 0,
      seals: 3,
      key: describeKey(kit.ctx.keys.sealing.public).sha256,
    });
  });

  test('every line in the order of the ledger, with who, how and what became of it', () => {
    expect(
      proof().lines.map((line) => [
        line.channel,
        line.kind,
        line.outcome,
        line.withheld ? 'withheld' : [line.source, line.actor, line.notice === null ? null : line.notice_sha256],
      ]),
    ).toEqual([
      ['email', 'grant', 'applied', ['registration', `account:${ada.id}`, notice.text_sha256]],
      ['email', 'withdraw', 'applied', ['account', `account:${ada.id}`, notice.text_sha256]],
      ['sms', 'grant', 'applied', ['account', `account:${ada.id}`, notice.text_sha256]],
      ['whatsapp', 'grant', 'applied', ['account', `account:${ada.id}`, null]],
      ['call', 'refuse', 'applied', 'withheld'],
      ['sms', 'withdraw', 'older', ['import', 'key:9', null]],
    ]);
    expect(proof().contents).toEqual(proof().lines.map(({ id, position }) => ({ event: id, position })));
    expect(full(proof(), 2).evidence).toMatchObject({
      address: PHONE,
      user_agent: 'browser of ada.proof@example.com',
    });
    expect(full(proof(), 5)).toMatchObject({
      evidence: { file: 'old.csv', address: PHONE },
      idempotency_key: 'old.csv:1',
    });
  });

  test('the states now with the lines that decided them, the texts in full, the head', async () => {
    const { lines, states, notices, head, subject } = proof();
    const [email, phone] = subject.addresses;
    const at = (n: number): object => ({ since: lines[n]!.occurred_at, event: lines[n]!.id, valid_until: null });
    const marketing = { purpose: 'marketing', contact_point: phone!.contact_point };
    expect(states).toEqual([
      { ...at(1), ...marketing, contact_point: email!.contact_point, channel: 'email', state: 'withdrawn' },
      { ...at(4), ...marketing, channel: 'call', state: 'refused' },
      { ...at(2), ...marketing, channel: 'sms', state: 'granted' },
      { ...at(3), ...marketing, channel: 'whatsapp', state: 'granted' },
    ]);
    expect(notices.map(({ version, text, text_sha256 }) => [version, text, text_sha256])).toEqual([
      ['2026-11', TEXT, notice.text_sha256],
    ]);
    expect((await crm('GET', '/v1/ledger/head')).body).toEqual(head);
    const [row] = await kit.rows<{ id: string }>('select id from installation');
    expect(proof()).toMatchObject({ controller, consent_validity: null, installation: row!.id });
  });

  test('each line is also a record with the fields of ISO/IEC TS 27560', () => {
    expect(full(proof(), 2).receipt).toEqual({
      schema_version: 'ISO/IEC TS 27560:2023',
      record_id: proof().lines[2]!.id,
      pii_principal_id: `account:${ada.id}`,
      pii_processing: {
        privacy_notice: { version: '2026-11', sha256: notice.text_sha256 },
        language: 'en',
        purpose: 'marketing',
        channel: 'sms',
        pii_information: [{ pii_type: 'phone number' }],
        pii_controllers: ['controller'],
        storage_locations: ['İstanbul'],
        retention_period: 'Three years',
        jurisdiction: 'TR',
        recipient_third_parties: ['Mailer Ltd'],
        withdrawal_method: 'In your account, or by one click in any mail',
      },
      party_identification: [
        {
          party_id: 'controller',
          party_name: 'Usta <Bakery>',
          party_address: 'Moda Caddesi 1',
          party_contact: 'privacy@usta.example',
          party_type: 'controller',
        },
      ],
      event: {
        event_time: proof().lines[2]!.occurred_at,
        validity_duration: 'until withdrawn',
        entity_id: `account:${ada.id}`,
        event_type: 'grant',
        event_state: 'given',
      },
    });
    const states = [0, 1, 3, 5].map((n) => full(proof(), n).receipt.event);
    expect(states.map(({ event_state, validity_duration }) => [event_state, validity_duration])).toEqual([
      ['given', 'until withdrawn'],
      ['withdrawn', null],
      ['given', 'until withdrawn'],
      ['without effect', null],
    ]);
  });

  test('a consent that lasts for a time says until when', async () => {
    await kit.set('CONSENT_VALIDITY', 86_400);
    const { text } = await crm('GET', `/v1/accounts/${ada.id}/proof`);
    await kit.set('CONSENT_VALIDITY', null);
    const document = JSON.parse(text) as Proof;
    const until = (n: number): string =>
      new Date(Date.parse(document.lines[n]!.occurred_at) + 86_400_000).toISOString();
    expect(document.states.map(({ channel, valid_until }) => [channel, valid_until])).toEqual([
      ['email', null],
      ['call', null],
      ['sms', until(2)],
      ['whatsapp', until(3)],
    ]);
    expect(full(document, 2).receipt.event.validity_duration).toBe('PT86400S');
    expect(checkProof(text).fault).toBeUndefined();
  });

  test('of somebody else at the same address it shows that something was said, and nothing of them', async () => {
    const line = proof().lines[4]!;
    expect(Object.keys(line).sort()).toEqual(
      [
        ...['withheld', 'id', 'contact_point', 'address_kind', 'address_hash', 'channel', 'purpose', 'kind'],
        ...['occurred_at', 'recorded_at', 'outcome', 'hash', 'position', 'seal', 'index', 'path'],
      ].sort(),
    );
    for (const text of [reply.text, page]) {
      expect(text).not.toContain('eve.proof');
      expect(text).not.toContain(`account:${eve.id}`);
    }
    // She has a proof of her own, in which Ada's lines are outlines; the number is not proven to be hers.
    const hers = (await crm('GET', `/v1/accounts/${eve.id}/proof`)).body as Proof;
    expect(hers.lines.map(({ channel, withheld }) => [channel, withheld])).toEqual([
      ['sms', true],
      ['whatsapp', true],
      ['call', false],
      ['sms', true],
    ]);
    expect(faultOf(hers)).toBeUndefined();
  });

  test('lines that came too late for a seal are told apart', async () => {
    // Another process is sealing just now.
    const client = await kit.database.pool.connect();
    await client.query("begin; select pg_advisory_xact_lock(hashtext('assent.sealer'))");
    const young = await kit.signUp({ email_allowed: true });
    const { text } = await crm('GET', `/v1/accounts/${young.id}/proof`);
    await client.query('rollback');
    client.release();
    const document = JSON.parse(text) as Proof;
    expect(document.contents).toEqual([{ event: document.lines[0]!.id, position: null }]);
    expect(document.lines[0]).toMatchObject({ position: null, seal: null, index: null, path: [] });
    expect(document.seals).toEqual([]);
    expect(checkProof(text)).toMatchObject({ lines: 1, unsealed: 1 });
    expect(checkProof(text).fault).toBeUndefined();
    full(document, 0).kind = 'withdraw';
    expect(faultOf(document)).toBe(`event ${document.lines[0]!.id}, not yet sealed, was changed`);
    const later = (await crm('GET', `/v1/accounts/${young.id}/proof`)).body as Proof;
    expect(later.lines[0]!.position).toBeGreaterThan(0);
  });

  test('an account of which nothing was ever said has an empty proof that holds', async () => {
    const silent = await kit.signUp();
    const { status, body } = await crm('GET', `/v1/accounts/${silent.id}/proof`);
    expect([status, body.lines, body.states, body.seals, body.contents]).toEqual([200, [], [], [], []]);
    expect(faultOf(body)).toBeUndefined();
  });

  test('an address left behind stays in the proof of the account that spoke of it', async () => {
    const moved = await kit.signUp({ phone: '+905329998877', sms_allowed: true });
    await moved.send('PATCH', '/users/profile/', { body: { phone: '+905329998866' } });
    const body = (await crm('GET', `/v1/accounts/${moved.id}/proof`)).body as Proof;
    expect(body.lines.map(({ channel, kind }) => `${channel} ${kind}`)).toEqual(['sms grant', 'sms expire']);
    expect(body.subject.addresses.map(({ value }) => value)).toEqual([moved.email, '+905329998866']);
    expect(body.states).toEqual([]);
    expect(faultOf(body)).toBeUndefined();
  });
});

describe('addresses without an account', () => {
  const say = (value: string, intent: 'grant' | 'refuse' | 'erase', key: string): ReturnType<typeof sayOne> =>
    sayOne(kit.ctx, {
      about: { kind: 'email', value },
      channel: 'email',
      purpose: 'marketing',
      intent,
      by: { voice: 'guest' },
      source: 'checkout',
      actor: 'key:1',
      evidence: { ip: '203.0.113.9', basket: '77' },
      key,
    });

  test('a guest has a proof by their address, however it is written, with the evidence of the checkout', async () => {
    await say('guest.proof@example.com', 'grant', 'guest 1');
    const { status, headers, text } = await crm('GET', '/v1/consents/proof?recipient=Guest.Proof%40example.com');
    const document = JSON.parse(text) as Proof;
    expect([status, document.subject.account, document.subject.addresses[0]!.value]).toEqual([
      200,
      null,
      'guest.proof@example.com',
    ]);
    expect(headers['content-disposition']).toMatch(/^attachment; filename="consent-proof-address-\d+-[\d-]+\.json"$/);
    expect(document.lines.map(({ kind }) => kind)).toEqual(['grant']);
    expect(full(document, 0)).toMatchObject({
      account: null,
      source: 'checkout',
      evidence: { ip: '203.0.113.9', basket: '77', address: 'guest.proof@example.com' },
      receipt: { pii_principal_id: `address:${document.lines[0]!.address_hash}` },
    });
    expect(checkProof(text).fault).toBeUndefined();
  });

  test('erased: the lines still prove themselves, the evidence and the address have gone', async () => {
    await say('gone.proof@example.com', 'grant', 'gone 1');
    await say('gone.proof@example.com', 'erase', 'gone 2');
    await kit.rows(
      `delete from consent_evidence where event in (select e.id from consent_event e join contact_point p on p.id = e.contact_point where p.value = $1)`,
      'gone.proof@example.com',
    );
    await kit.rows(
      'update contact_point set value = null, erased_at = now() where value = $1',
      'gone.proof@example.com',
    );
    const { status, text } = await crm('GET', '/v1/consents/proof?recipient=gone.proof@example.com');
    const document = JSON.parse(text) as Proof;
    expect(status).toBe(200);
    expect(text).not.toContain('gone.proof');
    expect(document.lines.map(({ kind }) => kind)).toEqual(['grant', 'erase']);
    expect(full(document, 0)).toMatchObject({ evidence: null, salt: null });
    expect(document.states).toMatchObject([{ state: 'suppressed' }]);
    const check = checkProof(text);
    expect(check).toMatchObject({ lines: 2, erased: 2, addresses: [document.lines[0]!.address_hash] });
    expect(describeCheck(check)).toContain('\nEvidence erased: 2.\n');
    full(document, 0).kind = 'refuse';
    expect(faultOf(document)).toBe(`line ${document.lines[0]!.position} (event ${document.lines[0]!.id}) was changed`);
    const shown = await crm('GET', '/v1/consents/proof?recipient=gone.proof@example.com&format=html');
    expect(shown.text).toContain('The evidence has been erased.');
    expect(checkProof(shown.text).fault).toBeUndefined();
  });

  test('an erased account still proves what it said, by its number and by its address, without a word of who it was', async () => {
    const leaving = await kit.signUp({ email: 'leaving.proof@example.com', email_allowed: true });
    await sealAll(kit.ctx);
    const erased = await (await kit.apiKey('*'))('POST', '/v1/erasures', { body: { account: leaving.id } });
    expect(erased.status).toBe(200);
    for (const path of [`/v1/accounts/${leaving.id}/proof`, '/v1/consents/proof?recipient=leaving.proof@example.com']) {
      const { status, text } = await crm('GET', path);
      const { lines } = JSON.parse(text) as Proof;
      expect([status, text.includes('leaving.proof'), text.includes('Yılmaz')]).toEqual([200, false, false]);
      expect(lines.map((line) => [line.kind, line.withheld, !line.withheld && line.evidence])).toEqual([
        ['grant', false, null],
        ['erase', false, null],
      ]);
      expect(checkProof(text)).toMatchObject({ account: leaving.id, lines: 2, erased: 2, withheld: 0 });
      expect(checkProof(text).fault).toBeUndefined();
    }
  });

  test('an address that two accounts hold shows outlines of both; one that has a single holder shows theirs', async () => {
    const shared = (await crm('GET', `/v1/consents/proof?recipient=${encodeURIComponent(PHONE)}`)).body as Proof;
    expect(shared.subject.account).toBe(null);
    expect(shared.lines.map(({ channel, withheld }) => [channel, withheld])).toEqual([
      ['sms', true],
      ['whatsapp', true],
      ['call', true],
      ['sms', false],
    ]);
    expect(faultOf(shared)).toBeUndefined();
    const own = (await crm('GET', '/v1/consents/proof?recipient=ada.proof@example.com')).body as Proof;
    expect(own.subject.account).toBe(ada.id);
    expect(own.lines.map(({ channel, withheld }) => [channel, withheld])).toEqual([
      ['email', false],
      ['email', false],
    ]);
  });

  test('a plus that nobody encoded is still a plus', async () => {
    const { status, body } = await crm('GET', `/v1/consents/proof?recipient=${PHONE}`);
    expect([status, body.subject.addresses[0].value]).toEqual([200, PHONE]);
  });
});

describe('what is asked wrongly', () => {
  test.each([
    ['/v1/accounts/999999/proof', 404, 'not_found'],
    ['/v1/accounts/0/proof', 404, 'not_found'],
    ['/v1/accounts/abc/proof', 404, 'not_found'],
    ['/v1/consents/proof?recipient=nobody.ever@example.com', 404, 'not_found'],
    ['/v1/accounts/1/proof?format=pdf', 400, '/format one_of'],
    ['/v1/accounts/1/proof?format=', 400, '/format empty_or_long'],
    ['/v1/accounts/1/proof?recipient=a@example.com', 400, '/recipient unknown'],
    ['/v1/consents/proof', 400, '/recipient required'],
    ['/v1/consents/proof?recipient=nobody', 400, '/recipient phone'],
    ['/v1/consents/proof?recipient=a@b', 400, '/recipient email'],
    ['/v1/consents/proof?recipient=a@example.com&recipient=b@example.com', 400, '/recipient repeated'],
  ])('%s is %i', async (path, status, what) => {
    const { body, status: answered } = await crm('GET', path);
    const [place] = body.errors ?? [];
    expect([answered, place === undefined ? body.code : `${place.pointer} ${place.code}`]).toEqual([status, what]);
  });

  test('only operators and keys of the scope see proofs; each look is in the log without the address', async () => {
    const path = `/v1/accounts/${ada.id}/proof`;
    expect((await kit.send('GET', path)).status).toBe(401);
    expect((await ada.send('GET', path)).status).toBe(403);
    expect((await (await kit.apiKey('settings'))('GET', path)).status).toBe(403);
    const operator = await kit.operator();
    kit.logged.length = 0;
    expect((await operator.send('GET', path)).status).toBe(200);
    const looks = kit.logged.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'proof handed out');
    expect(looks).toMatchObject([
      { caller: `operator:${operator.id}`, file: expect.stringMatching(`^consent-proof-account-${ada.id}-`) },
    ]);
    expect(kit.logged.join('\n')).not.toContain('ada.proof');
  });

  test('the key of the seals is public', async () => {
    const { status, body } = await kit.send('GET', '/v1/ledger/key');
    expect([status, body]).toEqual([200, describeKey(kit.ctx.keys.sealing.public)]);
    expect(proof().key).toEqual(body);
  });
});

describe('the page', () => {
  test.each([
    [{ accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }, 'text/html; charset=utf-8'],
    [{ accept: 'text/html' }, 'text/html; charset=utf-8'],
    [{ accept: 'text/html;q=0' }, 406],
    [{ accept: 'application/json, text/html;q=0.5' }, 'application/json'],
    [{ accept: '*/*' }, 'application/json'],
    [{ accept: 'image/png' }, 406],
  ])('%j is answered with %s', async (headers, expected) => {
    const answer = await crm('GET', `/v1/accounts/${ada.id}/proof`, { headers });
    expect(typeof expected === 'number' ? answer.status : answer.headers['content-type']).toBe(expected);
  });

  test('runs nothing, asks for nothing, and ends where it should', async () => {
    const { headers } = await crm('GET', `/v1/accounts/${ada.id}/proof?format=html`);
    expect(headers['content-disposition']).toMatch(/\.html"$/);
    const policy = /content="(default-src[^"]+)"/.exec(page)![1]!.replaceAll('&#39;', "'");
    expect(headers['content-security-policy']).toBe(policy);
    expect(policy).toMatch(/^default-src 'none'; style-src 'sha256-[\w+/=]+'; base-uri 'none'; form-action 'none'$/);
    expect([...page.matchAll(/<script[^>]*>/g)].map(([tag]) => tag)).toEqual([
      '<script type="application/json" id="proof">',
    ]);
    expect(page.match(/<\/script/g)).toHaveLength(1);
    expect(page).not.toMatch(/<(img|link|iframe|object|form|a)\b|\bon\w+=|url\(|@import/);
    expect(page).toContain('I want &lt;b&gt;offers&lt;/b&gt; by e-mail &amp; text. &lt;/script&gt;');
    expect(page).toContain('Usta &lt;Bakery&gt;, Moda Caddesi 1, privacy@usta.example');
    expect(page).toContain(proof().key.sha256);
  });

  test('tells the story in words, and is checked with everything on it', () => {
    const cells = page
      .replace(/<script[\s\S]*/, '')
      .replaceAll(/<[^>]+>/g, ' ')
      .replaceAll(/\s+/g, ' ');
    for (const words of [
      `Account ${ada.id} ada.proof@example.com ${PHONE}`,
      'Text message, marketing Allowed',
      'E-mail, marketing Taken back',
      'Changed nothing: something newer was on record.',
      'Said by somebody else about the same address: only this is shown.',
      'at registration version 2026-11 (en) It counts.',
      'browser browser of ada.proof@example.com',
    ])
      expect(cells).toContain(words);
    expect(checkProof(page).fault).toBeUndefined();
    expect(checkProof(page)).toMatchObject({ account: ada.id, lines: 6 });
    // What people read must not say another thing than what is proven.
    expect(checkProof(page.replace('Taken back', 'Allowed')).fault).toBe(
      'the page was changed: what it shows is not what was signed',
    );
    const around = `<p>${reply.text}</p>`;
    expect(checkProof(around).fault).toBe('this is no proof file: it holds no JSON that can be read');
    const transplanted = page.replace(
      /(id="proof">)[\s\S]*(<\/script>)/,
      (_, a, b) => a + reply.text.replaceAll('<', '\\u003c') + b,
    );
    expect(checkProof(transplanted).fault).toBe('the page was changed: what it shows is not what was signed');
  });

  test.each([
    ['tr', 'İzin kanıtı', 'kayıt sırasında'],
    ['nl', 'Bewijs van toestemming', 'bij de registratie'],
    ['fr', 'Preuve du consentement', 'à l’inscription'],
  ])('speaks %s, and has no text missing', async (language, title, word) => {
    const { text, headers } = await crm('GET', `/v1/accounts/${ada.id}/proof?format=html`, {
      headers: { 'accept-language': language },
    });
    expect(headers['content-language']).toBe(language);
    expect(text).toContain(`<html lang="${language}">`);
    expect(text).toContain(`<h1>${title}</h1>`);
    expect(text).toContain(word);
    expect(text).not.toMatch(/>(proof|source)\.[\w.]+</);
    expect(checkProof(text).fault).toBeUndefined();
  });
});

describe('what was changed is named', () => {
  test('a line', () => {
    for (const [field, value] of [
      ['kind', 'grant'],
      ['channel', 'sms'],
      ['purpose', 'news'],
      ['occurred_at', '2026-01-01T00:00:00.000Z'],
      // Of the right form, and no time.
      ['recorded_at', '2026-11-21T23:59:60.000Z'],
      ['account', 999],
      ['source', 'staff'],
      ['actor', 'operator:1'],
      ['proven', (before: boolean) => !before],
      ['proven', null],
      ['outcome', 'stale'],
      ['idempotency_key', 'x'],
      ['address_hash', flip],
      ['contact_point', 900],
      ['commitment', flip],
      ['notice_sha256', null],
      ['notice', null],
      ['hash', flip],
    ] as const)
      expect(put(`lines.1.${field}`, value), field).toBe(`${named(1)} was changed`);
  });

  test('evidence, its salt, or evidence taken away', () => {
    const fault = `the evidence of ${named(1)} was changed`;
    expect(put('lines.1.evidence.user_agent', 'another')).toBe(fault);
    expect(put('lines.1.evidence.more', 1)).toBe(fault);
    expect(spoiled((d) => void delete full(d, 1).evidence!['ip'])).toBe(fault);
    expect(put('lines.1.salt', flip)).toBe(fault);
    expect(put('lines.1.salt', null)).toBe(fault);
    // Both away is what an erasure leaves: then the signature of the file knows.
    expect(
      spoiled((d) => {
        full(d, 1).salt = null;
        full(d, 1).evidence = null;
      }),
    ).toBe('the signature of the file does not hold: something in it was changed');
  });

  test('whom it is about', () => {
    expect(put('subject.addresses.0.value', 'mallory@example.com')).toBe(
      `${named(0)} is about another address than the file says`,
    );
  });

  test('the text of a notice, another text in its place, a text taken out', () => {
    expect(put('notices.0.text', (before: string) => `${before} and by phone`)).toBe(
      `the text of notice ${notice.id} was changed`,
    );
    expect(
      spoiled((d) => {
        d.notices[0]!.text = '';
        d.notices[0]!.text_sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
      }),
    ).toBe(`${named(0)} names another text than notice ${notice.id}`);
    expect(put('notices', [])).toBe(`notice ${notice.id}, which ${named(0)} names, was dropped`);
  });

  test('a record made of a line', () => {
    expect(put('lines.1.receipt.event.event_state', 'given')).toBe(`the record of ${named(1)} was changed`);
  });

  test('a line that was dropped, one that was inserted, one that stands there twice', async () => {
    expect(spoiled((d) => void d.lines.splice(2, 1))).toBe(`${named(2)} was dropped`);
    const other = (await crm('GET', `/v1/accounts/${eve.id}/proof`)).body as Proof;
    const foreign = other.lines.find(({ withheld }) => !withheld)!;
    const inserted = proof();
    inserted.lines = inserted.lines.filter(({ id }) => id !== foreign.id);
    inserted.contents = inserted.contents.filter(({ event }) => event !== foreign.id);
    inserted.lines.push(foreign);
    expect(faultOf(inserted)).toBe(
      `line ${foreign.position} (event ${foreign.id}) was inserted: the contents do not name it`,
    );
    expect(spoiled((d) => void d.lines.push(d.lines[0]!))).toBe(`${named(0)} was inserted: it stands there twice`);
    expect(put('contents.0.position', 900)).toBe(`${named(0)} was moved: the contents name line 900`);
    // Out of the lines and of the contents: the states no longer follow, and where they do, the file's signature knows.
    const drop = (n: number) => (d: Proof) => {
      d.lines.splice(n, 1);
      d.contents.splice(n, 1);
    };
    expect(spoiled(drop(1))).toMatch(
      /^email of contact point \d+ for marketing is shown as withdrawn, but the lines lead to granted$/,
    );
    expect(spoiled(drop(5))).toBe('the signature of the file does not hold: something in it was changed');
  });

  test('a place in a seal and the path that leads from it', () => {
    const { lines, seals } = proof();
    const seal = lines[2]!.seal!;
    const astray = `the path of ${named(2)} does not lead to the root of seal ${seal}`;
    expect(lines[2]!.path.length).toBeGreaterThan(0);
    expect(put('lines.2.path.0', flip)).toBe(astray);
    expect(spoiled((d) => void d.lines[2]!.path.pop())).toBe(astray);
    expect(spoiled((d) => void d.lines[2]!.path.push(seals[0]!.root))).toBe(astray);
    expect(put('lines.2.index', (before: number) => before + 1)).toBe(`${named(2)} has no place in seal ${seal}`);
    expect(put('lines.2.seal', seals[0]!.number)).toBe(`${named(2)} has no place in seal ${seals[0]!.number}`);
    expect(put('lines.2.seal', 900)).toBe(`seal 900, which ${named(2)} is in, was dropped`);
    expect(put('lines.2.seal', null)).toBe(`the place of ${named(2)} was changed`);
    // Of another's line only its hash is shown: it is the tree that holds it.
    expect(put('lines.4.hash', flip)).toBe(
      `the path of ${named(4)} does not lead to the root of seal ${lines[4]!.seal}`,
    );
  });

  test('a seal, its signature, two that were swapped, one that was dropped', () => {
    const [first, second, third] = proof().seals.map(({ number }) => number);
    for (const [field, value] of [
      ['root', flip],
      ['previous', flip],
      ['sealed_at', '2026-01-01T00:00:00.000Z'],
      ['lines', (before: number) => before + 1],
      ['head', flip],
    ] as const)
      expect(put(`seals.1.${field}`, value), field).toBe(`seal ${second} was changed`);
    expect(put('seals.1.signature', flip)).toBe(`the signature of seal ${second} does not hold`);
    expect(put('seals.1.signature', proof().seals[0]!.signature)).toBe(`the signature of seal ${second} does not hold`);
    expect(spoiled((d) => void d.seals.reverse())).toBe(`seal ${second} stands behind seal ${third}`);
    expect(
      spoiled((d) => {
        const [a, b] = [d.seals[0]!, d.seals[1]!];
        [a.number, b.number] = [b.number, a.number];
        d.seals.reverse();
      }),
    ).toMatch(/^seal \d+ (was changed|stands behind seal \d+)$/);
    expect(spoiled((d) => void d.seals.splice(0, 1))).toBe(`seal ${first}, which ${named(0)} is in, was dropped`);
  });

  test('a state, the head, its signature, and the signature of the file', () => {
    expect(put('states.0.state', 'granted')).toMatch(
      /^email of contact point \d+ for marketing is shown as granted, but the lines lead to withdrawn$/,
    );
    expect(spoiled((d) => void d.states.splice(2, 1))).toMatch(
      /^sms of contact point \d+ for marketing is shown as unknown, but the lines lead to granted$/,
    );
    const head = 'the signature of the head does not hold';
    expect(put('head.hash', flip)).toBe(head);
    expect(put('head.signature', null)).toBe(head);
    const file = 'the signature of the file does not hold: something in it was changed';
    expect(put('head.count', (before: number) => before + 1)).toBe(file);
    expect(put('controller.name', 'Somebody else')).toMatch(/^the record of line \d+ \(event .+\) was changed$/);
    expect(put('generated_at', '2026-01-01T00:00:00.000Z')).toBe(file);
    expect(put('notices.0.version', '2020-01')).toMatch(/^the record of line/);
    expect(put('remark', 'trust me')).toBe(file);
    expect(put('signature', flip)).toBe(file);
  });

  test('another key', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const real = proof().key.sha256;
    const forged = describeKey(publicKey);
    expect(put('key.sha256', flip)).toBe(`the key in the file is another than it says: its SHA-256 is ${real}`);
    expect(put('key.public_key', 'none')).toBe('the key in the file is none');
    expect(put('key', forged)).toBe(`the signature of seal ${proof().seals[0]!.number} does not hold`);
    // Forged through and through it holds by itself: only the published key tells it from ours.
    const document = proof();
    document.key = forged;
    for (const row of document.seals)
      row.signature = sign(null, Buffer.from(row.head, 'hex'), privateKey).toString('base64');
    document.head.signature = sign(null, Buffer.from(document.head.hash!, 'hex'), privateKey).toString('base64');
    const text = JSON.stringify(signed(document, privateKey));
    expect(checkProof(text).fault).toBeUndefined();
    expect(checkProof(text).key).toBe(forged.sha256);
    expect(checkProof(text, { key: real }).fault).toBe(`the file is signed with another key: ${forged.sha256}`);
    expect(checkProof(reply.text, { key: real.toUpperCase() }).fault).toBeUndefined();
  });

  test('what only the holder of the key can forge: seals that do not chain, places of another tree, words beside an old line', () => {
    const key = kit.ctx.keys.sealing.private;
    const [first, second] = proof().seals.map(({ number }) => number);
    const resealed = (change: (seal: Proof['seals'][number]) => void): string | undefined =>
      spoiled((d) => {
        const seal = d.seals[1]!;
        change(seal);
        const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
        const dated = {
          ...seal,
          root: bytes(seal.root),
          previous: bytes(seal.previous),
          sealed_at: new Date(seal.sealed_at),
        };
        const head = headHash(dated);
        seal.head = head.toString('hex');
        seal.signature = sign(null, head, key).toString('base64');
        // The seal after it goes: it would tell at once.
        d.seals = d.seals.slice(0, 2);
      });
    expect(resealed((seal) => Object.assign(seal, { previous: flip(seal.previous) }))).toBe(
      `seal ${second} does not follow seal ${first}`,
    );
    expect(resealed((seal) => Object.assign(seal, { first_position: seal.first_position + 1 }))).toBe(
      `seal ${second} does not follow seal ${first}`,
    );
    expect(resealed((seal) => Object.assign(seal, { number: seal.number + 1, first_position: 1 }))).toBe(
      `seal ${second! + 1} does not follow seal ${first}`,
    );
    expect(resealed((seal) => Object.assign(seal, { root: flip(seal.root) }))).toBe(
      `the path of ${named(1)} does not lead to the root of seal ${second}`,
    );
    // Lines from before `proven`, the outcome and the notice were recorded: their hash does not cover them.
    const old = (outcome: 'applied' | 'stale'): string | undefined =>
      spoiled((d) => {
        const line = full(d, 3);
        Object.assign(line, { proven: null, outcome });
        const { occurred_at, recorded_at, commitment } = line;
        line.hash = lineHash({
          ...line,
          occurred_at: new Date(occurred_at),
          recorded_at: new Date(recorded_at),
          commitment: Buffer.from(commitment, 'hex'),
        }).toString('hex');
      });
    expect(old('stale')).toBe(`${named(3)} was changed`);
    expect(old('applied')).toBe(`the path of ${named(3)} does not lead to the root of seal ${second}`);
  });

  test('whatever is changed, wherever: something is named', () => {
    const places: (string | number)[][] = [];
    const walk = (value: unknown, path: (string | number)[]): void => {
      if (typeof value !== 'object' || value === null) places.push(path);
      else
        for (const [key, inner] of Object.entries(value))
          walk(inner, [...path, Array.isArray(value) ? Number(key) : key]);
    };
    walk(proof(), []);
    const other = (value: unknown, by: string): unknown =>
      typeof value === 'number'
        ? value + 1
        : typeof value === 'boolean'
          ? !value
          : value === null
            ? by
            : `${value}${by}`;
    const property = fc.property(fc.constantFrom(...places), fc.constantFrom('0', 'x', ' '), (path, by) => {
      const document = proof();
      let at = document as unknown as Record<string, unknown>;
      for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
      const last = path.at(-1)!;
      // Base64 may end in anything.
      if (last === 'signature') at[last] = `A${String(at[last])}`;
      // A PEM too.
      else if (last === 'public_key') at[last] = String(at[last]).replace('MC', 'MD');
      else at[last] = other(at[last], by);
      expect(faultOf(document), path.join('.')).toBeTypeOf('string');
    });
    fc.assert(property, { numRuns: 400 });
  });

  test('what is no proof, or one that says a thing twice', () => {
    for (const text of ['', 'hello', '{', '<html></html>'])
      expect(checkProof(text).fault).toBe('this is no proof file: it holds no JSON that can be read');
    for (const text of ['{}', '[]', 'null', '{"schema":"assent proof 2"}'])
      expect(checkProof(text).fault).toBe('this is no proof file of a kind that is known here (assent proof 1)');
    expect(checkProof('{"schema":"assent proof 1"}').fault).toMatch(/^the file is not whole: /);
    const twice = reply.text.replace('"kind":"withdraw"', '"kind":"grant","kind":"withdraw"');
    expect(checkProof(twice).fault).toBe('the file is not as it was written: something stands in it twice');
    // Laid out anew it is the same document.
    expect(checkProof(`\ufeff${JSON.stringify(proof(), null, 2)}\r\n`).fault).toBeUndefined();
  });
});

describe('the command', () => {
  const assent = (...args: string[]): Promise<{ code: number; out: string; err: string }> =>
    new Promise((done) => {
      // A folder in which nothing may come to be: no database is opened.
      const env = { PATH: process.env['PATH'], DATA_DIR: join(folder, 'data'), SECRET_KEY: 'too short' };
      execFile(process.execPath, ['src/main.ts', 'ledger', 'verify', ...args], { env }, (error, out, err) =>
        done({ code: error === null ? 0 : Number(error.code), out, err }),
      );
    });
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };

  test('checks a file offline, tells the key to compare, and opens no database', async () => {
    const key = proof().key.sha256;
    const expected = [
      `The proof holds: 6 lines in 3 seals about account ${ada.id}, ada.proof@example.com, ${PHONE}, made ${proof().generated_at}.`,
      'Shown in outline, said by somebody else: 1.',
      `Signed with the key ${key}.`,
      'Compare it with the `sha256` that the installation publishes at /v1/ledger/key, or give it with --key.',
      '',
    ].join('\n');
    expect(await assent(write('ada', reply.text))).toEqual({ code: 0, out: expected, err: '' });
    const json = await assent(write('page', page), '--json', '--key', key);
    expect([json.code, JSON.parse(json.out)]).toEqual([0, checkProof(page)]);
    expect(existsSync(join(folder, 'data'))).toBe(false);
  });

  test('fails with the first thing that does not hold', async () => {
    const document = proof();
    full(document, 1).kind = 'grant';
    const file = write('changed', JSON.stringify(document));
    expect(await assent(file)).toEqual({ code: 1, out: `${named(1)} was changed\n`, err: '' });
    const json = await assent(file, '--json');
    expect([json.code, JSON.parse(json.out)]).toMatchObject([1, { fault: `${named(1)} was changed`, lines: 6 }]);
    expect(await assent(write('other', reply.text), '--key', 'ab'.repeat(32))).toEqual({
      code: 1,
      out: `the file is signed with another key: ${proof().key.sha256}\n`,
      err: '',
    });
  });

  test('refuses a file that is not there, and options that belong to the other kind of check', async () => {
    const nowhere = join(folder, 'nowhere');
    expect(await assent(nowhere)).toEqual({ code: 1, out: '', err: `${nowhere} cannot be read: ENOENT\n` });
    expect(await assent(nowhere, '--head', 'ab')).toEqual({
      code: 1,
      out: '',
      err: '--head is for the database; a proof file is checked with --key.\n',
    });
    expect(await assent('--key', 'ab')).toEqual({
      code: 1,
      out: '',
      err: '--key is for proof files; the database is checked with its own key.\n',
    });
  });
});
