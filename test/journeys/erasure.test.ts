/** The right to be forgotten: what identifies a person goes from everywhere, the no they are owed and the seals stand. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKit, type Kit, type Send } from '../kit.ts';

let kit: Kit;
let api: Send;

beforeAll(async () => {
  kit = await createKit();
  api = await kit.apiKey('*');
});
afterAll(() => kit.close());

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

/** Every row of every table, the library's own included, as one text. */
async function everything(): Promise<string> {
  const tables = await kit.rows<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and n.nspname in ('public', 'graphile_worker')`,
  );
  let text = '';
  for (const { name } of tables) {
    const rows = await kit.rows<{ row: string }>(`select t::text as row from ${name} t`);
    text += rows.map(({ row }) => `${name} ${row}\n`).join('');
  }
  return text;
}

test('an erased account leaves no trace of the person in any table, job or log; the suppression and the seals stand', async () => {
  const phone = '+905324440001';
  const old = '+905324440002';
  const email = 'forget.me.1@example.com';
  const agent = 'Forgettable/1.0';
  const ada = await kit.signUp({ email, phone: old, first_name: 'Forgetta', last_name: 'Bley', sms_allowed: true });
  const form = `--x\r\ncontent-disposition: form-data; name="avatar"; filename="me.png"\r\ncontent-type: image/png\r\n\r\n`;
  await ada.send('PATCH', '/users/profile/', {
    body: Buffer.concat([Buffer.from(form), PNG, Buffer.from('\r\n--x--\r\n')]) as never,
    headers: { 'content-type': 'multipart/form-data; boundary=x' },
  });
  await ada.send('PATCH', '/users/profile/', {
    body: { phone, email_allowed: true, attributes: { nick: 'Forgetzilla' } },
    headers: { 'user-agent': agent },
  });
  await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: true, email_allowed: false } });
  await kit.send('POST', '/users/password/reset/', { body: { email } });
  await ada.send('PATCH', '/users/profile-with-loyalty/', { body: { phone: '+905324440003' } });
  await kit.jobs();
  const traces = [phone, old, '+905324440003', email, 'Forgetta', 'Bley', 'Forgetzilla', agent];
  const before = await everything();
  for (const trace of traces) expect([trace, before.includes(trace)]).toEqual([trace, true]);
  expect((await kit.verify()).fault).toBe(undefined);

  const erased = await api('POST', '/v1/erasures', { body: { account: ada.id } });
  // Three channels of the number, one of the address.
  expect([erased.status, erased.body]).toEqual([200, { events: 4, addresses: 3 }]);
  const after = await everything();
  for (const trace of traces) expect([trace, after.includes(trace)]).toEqual([trace, false]);
  for (const trace of traces) expect([trace, kit.logged.some((line) => line.includes(trace))]).toEqual([trace, false]);
  expect(await kit.rows('select from avatar')).toEqual([]);
  expect((await ada.send('GET', '/users/profile/')).status).toBe(401);
  expect((await api('GET', `/v1/accounts/${ada.id}`)).status).toBe(404);
  expect((await api('POST', '/v1/erasures', { body: { account: ada.id } })).status).toBe(404);

  // The ledger still verifies, and still says no.
  expect((await kit.verify()).fault).toBe(undefined);
  for (const [recipient, channel] of [
    [phone, 'sms'],
    [phone, 'whatsapp'],
    [email, 'email'],
  ]) {
    const { body } = await api('POST', '/v1/decisions/contact', { body: { recipient, channel } });
    expect(body).toMatchObject({ allowed: false, state: 'suppressed', code: 'erased' });
  }
  // No import brings it back, nor does a document, nor the address itself into the tables.
  const told = await api('POST', '/v1/consents', {
    body: { recipient: phone, channel: 'sms', granted: true, source: 'import', evidence: { document: 'form 1' } },
  });
  expect([told.status, told.body.outcome, told.body.state, told.body.recipient]).toEqual([
    201,
    'not_lifted',
    'suppressed',
    null,
  ]);
  expect((await everything()).includes(phone)).toBe(false);
  const lifted = await api('POST', '/v1/consents', {
    body: { recipient: phone, channel: 'sms', suppressed: false, source: 'staff', evidence: { reason: 'wanted back' } },
  });
  expect([lifted.body.outcome, lifted.body.state]).toEqual(['not_lifted', 'suppressed']);
  // Somebody who merely types the number cannot either; whoever proves it starts anew.
  const bora = await kit.signUp({ phone });
  const typed = await bora.send('PATCH', '/users/profile/', { body: { sms_allowed: true } });
  expect(typed.body.sms_allowed).toBe(false);
  await kit.rows('update account set phone_verified_at = now() where id = $1', bora.id);
  const proven = await bora.send('PATCH', '/users/profile/', { body: { sms_allowed: true } });
  expect(proven.body.sms_allowed).toBe(true);
  expect((await kit.verify()).fault).toBe(undefined);
});

test('an address that somebody else holds too stays with them', async () => {
  const phone = '+905324440010';
  const ada = await kit.signUp({ phone, email_allowed: true });
  const bora = await kit.signUp({ phone });
  await bora.send('PATCH', '/users/profile/', { body: { sms_allowed: true } });
  const erased = await api('POST', '/v1/erasures', { body: { account: ada.id } });
  expect(erased.body).toEqual({ events: 1, addresses: 1 });
  expect((await bora.send('GET', '/users/profile/')).body).toMatchObject({ phone, sms_allowed: true });
});

test('a guest’s address is erased by itself; one of an account is not; an unknown one is barred', async () => {
  const phone = '+905324440020';
  await api('POST', '/v1/consents', {
    body: { recipient: phone, channel: 'sms', granted: true, source: 'checkout', evidence: { ip: '203.0.113.77' } },
  });
  expect((await api('POST', '/v1/erasures', { body: { recipient: phone } })).body).toEqual({ events: 3, addresses: 1 });
  const left = await everything();
  expect([left.includes(phone), left.includes('203.0.113.77')]).toEqual([false, false]);
  expect((await api('POST', '/v1/erasures', { body: { recipient: phone } })).body).toEqual({ events: 0, addresses: 1 });

  const ada = await kit.signUp({ phone: '+905324440021' });
  const held = await api('POST', '/v1/erasures', { body: { recipient: '+905324440021' } });
  expect([held.status, held.body.errors[0]]).toMatchObject([400, { pointer: '/recipient', code: 'held' }]);
  expect((await ada.send('GET', '/users/profile/')).status).toBe(200);

  expect((await api('POST', '/v1/erasures', { body: { recipient: 'never@seen.example' } })).body.events).toBe(1);
  expect((await everything()).includes('never@seen.example')).toBe(false);
  const told = await api('POST', '/v1/consents', {
    body: { recipient: 'never@seen.example', channel: 'email', granted: true, source: 'import' },
  });
  expect(told.body.state).toBe('suppressed');
});

test('an erased address stays erased for purposes that are dropped or come later, and for a number given up before', async () => {
  const marketing = { title: { en: 'Offers' }, channels: ['email', 'sms', 'whatsapp', 'call'] };
  const email = { title: { en: 'More' }, channels: ['email'] };
  const guest = 'purposes@example.com';
  await kit.set('CONSENT_PURPOSES', { marketing, partners: email });
  const told = (body: object) => api('POST', '/v1/consents', { body: { granted: true, source: 'import', ...body } });
  expect((await told({ recipient: guest, channel: 'email', purpose: 'partners' })).body.state).toBe('granted');
  await kit.set('CONSENT_PURPOSES', { marketing });
  expect((await api('POST', '/v1/erasures', { body: { recipient: guest } })).body).toEqual({ events: 2, addresses: 1 });
  await kit.set('CONSENT_PURPOSES', { marketing, partners: email, news: email });

  const old = '+905324440041';
  const ada = await kit.signUp({ phone: old, sms_allowed: true });
  const { body: links } = await api('GET', `/v1/accounts/${ada.id}/unsubscribe-headers?channel=sms`);
  await ada.send('PATCH', '/users/profile/', { body: { phone: null } });
  await api('POST', '/v1/erasures', { body: { account: ada.id } });

  const evidence = { document: 'form 1' };
  for (const [recipient, channel, purpose, state] of [
    [guest, 'email', 'partners', 'suppressed'],
    [guest, 'email', 'news', 'unknown'],
    [old, 'sms', 'marketing', 'expired'],
  ]) {
    const { status, body } = await told({ recipient, channel, purpose, evidence });
    expect([status, body.outcome, body.state, body.recipient]).toEqual([201, 'not_lifted', state, null]);
    const decision = await api('POST', '/v1/decisions/contact', { body: { recipient, channel, purpose } });
    expect(decision.body).toMatchObject({ allowed: false, state });
  }
  // An old message still lies around: its link does nothing more, and writes down nothing of who opened it.
  const path = /<https?:\/\/[^/]+([^>]+)>/.exec(links['List-Unsubscribe'])![1]!;
  expect((await kit.send('POST', path, { headers: { 'user-agent': 'Erased/2.0' } })).status).toBe(200);
  expect((await everything()).includes('Erased/2.0')).toBe(false);
  expect((await kit.verify()).fault).toBe(undefined);
  await kit.set('CONSENT_PURPOSES', { marketing });
});

test('an address that an account holds is erased with it, also while the account is not active', async () => {
  const ada = await kit.signUp({ email: 'asleep@example.com' });
  await kit.rows('update account set is_active = false where id = $1', ada.id);
  const held = await api('POST', '/v1/erasures', { body: { recipient: 'asleep@example.com' } });
  expect([held.status, held.body.errors[0]]).toMatchObject([400, { pointer: '/recipient', code: 'held' }]);
  expect((await api('POST', '/v1/erasures', { body: { account: ada.id } })).status).toBe(200);
  expect((await everything()).includes('asleep@example.com')).toBe(false);
});

test('who owns or works in a company is not erased under it, and nothing is half-done', async () => {
  const owner = await kit.signUp();
  const made = await api('POST', '/v1/companies', { body: { name: { en: 'Usta' }, owner: owner.email } });
  const refused = await api('POST', '/v1/erasures', { body: { account: owner.id } });
  expect([refused.status, refused.body.code, refused.body.errors[0].detail]).toEqual([
    409,
    'still_needed',
    `This account is owner or colleague of the company ${made.body.id}. Take it out of there first.`,
  ]);
  expect((await owner.send('GET', '/users/profile/')).status).toBe(200);
});

test('needs the scope privacy', async () => {
  const key = await kit.apiKey('accounts', 'consents');
  expect((await key('POST', '/v1/erasures', { body: { account: 1 } })).status).toBe(403);
});
