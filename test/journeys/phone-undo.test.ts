/** A proven number that is replaced or removed can be brought back for a time, by its holder and by the mail address. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Client, createKit, type Kit, type Reply } from '../kit.ts';

const LOYALTY = '/users/profile-with-loyalty/';
const PROFILE = '/users/profile/';
const WEEK = 604_800_000;

let kit: Kit;
let twin: Kit;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, otp: null });
  await kit.set('OTP_RESEND_SECONDS', 0);
  twin = await kit.twin();
});
beforeEach(async () => {
  await kit.set('SMS_BUDGET', { number_hour: null, account_day: null, address_hour: null, country_day: null });
  await kit.set('PHONE_UNDO_AGE', WEEK / 1000);
  await kit.set('SMS_COUNTRIES', null);
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', false);
  await twin.ctx.settings.refresh(twin.ctx.db);
});
afterAll(() => kit.close());

function newNumber(): string {
  numbers += 1;
  return `+90533${2_000_000 + numbers}`;
}

async function messagesTo(recipient: string): Promise<string[]> {
  await kit.jobs();
  const all = [...(await kit.outbox('sms')), ...(await kit.outbox('mail'))];
  return all.filter((message) => message.recipient === recipient).map(({ body }) => body);
}

/** Gives the account this number, by its code. */
async function prove(client: Client, number: string, more: object = {}): Promise<void> {
  const body = { ...more, phone: number };
  expect((await client.send('PATCH', LOYALTY, { body })).status).toBe(202);
  const code = (await messagesTo(number)).flatMap((text) => /\b\d{6}\b/.exec(text)?.[0] ?? []).at(-1);
  const reply = await client.send('PATCH', LOYALTY, { body: { ...body, code } });
  expect([reply.status, reply.body.phone]).toEqual([200, number]);
}

const linkIn = (text: string | undefined): string | undefined => /\/phone\/undo\/[0-9a-f]{64}/.exec(text ?? '')?.[0];
const linksTo = async (recipient: string): Promise<string[]> =>
  (await messagesTo(recipient)).flatMap((text) => linkIn(text) ?? []);
/** The newest link to a number or mail address. */
const linkTo = async (recipient: string): Promise<string> => (await linksTo(recipient)).at(-1)!;

const phoneOf = async (id: number): Promise<unknown> =>
  (
    await kit.rows('select phone, phone_e164, phone_verified_at is not null as proven from account where id = $1', id)
  )[0];
const has = (number: string): object => ({ phone: number, phone_e164: number, proven: true });
const heading = (reply: Reply): [number, string | undefined] => [reply.status, /<h1>(.*?)<\/h1>/.exec(reply.text)?.[1]];
const BACK = [200, 'Your phone number is back.'];
const OVER = [410, 'This link was used already or has expired.'];

const stored = async (id: number): Promise<unknown> => ({
  account: await kit.rows('select * from account where id = $1', id),
  undos: await kit.rows('select * from phone_undo where account = $1 order by created_at', id),
  events: await kit.rows('select * from consent_event where account = $1 order by id', id),
  sessions: await kit.rows('select * from session where account = $1 order by key_hash', id),
  links: await kit.rows('select * from mail_link where account = $1 order by id', id),
  changes: await kit.rows('select * from phone_change where account = $1', id),
});

const consents = (id: number): Promise<unknown> =>
  kit.rows(
    `select p.value, e.channel, e.kind from consent_event e join contact_point p on p.id = e.contact_point
      where e.account = $1 order by e.recorded_at, p.id, e.channel, e.id`,
    id,
  );

test('a proven number that is replaced is told by text, and the address by mail, in the language of the account', async () => {
  for (const [language_code, said, subject] of [
    ['en', 'this number was taken off your account', 'The phone number of your account was changed'],
    ['tr', 'Bu numara hesabınızdan çıkarıldı', 'Hesabınızın telefon numarası değişti'],
    ['nl', 'dit nummer is van uw account gehaald', 'Het telefoonnummer van uw account is gewijzigd'],
    ['fr', 'ce numéro a été retiré de votre compte', 'Le numéro de téléphone de votre compte a changé'],
  ] as const) {
    const ada = await kit.signUp();
    await kit.rows('update account set language_code = $2 where id = $1', ada.id, language_code);
    const [old, next] = [newNumber(), newNumber()];
    await prove(ada, old);
    expect(await kit.rows('select id from phone_undo where account = $1', ada.id)).toEqual([]);
    expect((await ada.send('PATCH', PROFILE, { body: { phone: next } })).status).toBe(200);

    const [undo] = await kit.rows<{ id: string; life: number }>(
      `select id, extract(epoch from expires_at - created_at)::int as life from phone_undo where account = $1 and used_at is null`,
      ada.id,
    );
    expect(undo!.life).toBe(604_800);
    expect(
      await kit.rows(
        `select payload from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
          where t.identifier = 'tell_phone_change' order by payload ->> 'by'`,
      ),
    ).toEqual(['mail', 'text'].map((by) => ({ payload: { by, undo: undo!.id } })));
    const text = (await messagesTo(old)).at(-1)!;
    const mail = (await kit.outbox('mail')).at(-1)!;
    expect(text).toContain(said);
    expect([mail.recipient, mail.subject]).toEqual([ada.email, subject]);
    expect(text.length).toBeLessThanOrEqual(320);
    expect(linkIn(text)).toBe(linkIn(mail.body));
    expect(`${text}${mail.body}`).not.toContain(next.slice(-7));
    expect(mail.body).not.toContain(old.slice(-7));
    expect(await messagesTo(next)).toEqual([]);
    const tables = JSON.stringify(await kit.rows('select * from phone_undo'));
    expect(tables).not.toContain(linkIn(text)!.slice(-32));
    expect(kit.logged.join('')).not.toContain(linkIn(text)!.slice(-32));
  }
});

test('what was never proven is told to nobody, nor is anything when PHONE_UNDO_AGE is 0', async () => {
  const ada = await kit.signUp({ phone: newNumber() });
  await ada.send('PATCH', PROFILE, { body: { phone: newNumber() } });
  await ada.send('PATCH', PROFILE, { body: { phone: null } });
  const old = newNumber();
  await prove(ada, old);
  // Another spelling, and another field, leave the number where it is.
  await ada.send('PATCH', PROFILE, { body: { phone: old.replace('+90', '0'), first_name: 'Grace' } });
  await kit.set('PHONE_UNDO_AGE', 0);
  await ada.send('PATCH', PROFILE, { body: { phone: newNumber() } });
  expect(await kit.rows('select id from phone_undo where account = $1', ada.id)).toEqual([]);
  expect(await linksTo(old)).toEqual([]);
  expect(await messagesTo(ada.email)).toEqual([]);
});

test('opening the link changes nothing; its button brings the number back and ends what somebody else may hold', async () => {
  const ada = await kit.signUp({ phone: newNumber() });
  const [old, next] = [newNumber(), newNumber()];
  await prove(ada, old, { sms_allowed: true, email_allowed: true });
  const [proof] = await kit.rows<{ phone_verified_at: Date }>(
    'select phone_verified_at from account where id = $1',
    ada.id,
  );
  const elsewhere = await kit.signIn(ada.email);
  const bearer = await kit.bearer(ada.email);
  await prove(elsewhere, next, { whatsapp_allowed: true, call_allowed: true });
  await elsewhere.send('PATCH', LOYALTY, { body: { phone: newNumber() } });
  await kit.send('POST', '/users/password/reset/', { body: { email: ada.email } });
  await elsewhere.send('POST', '/users/email-change/', {
    body: { email: `new.${ada.email}`, password: 'correct-horse-battery' },
  });
  const link = await linkTo(old);

  const before = await stored(ada.id);
  for (const method of ['GET', 'HEAD', 'GET']) {
    const shown = await kit.send(method, link);
    expect(shown.status).toBe(200);
    expect(shown.headers).toMatchObject({
      'referrer-policy': 'no-referrer',
      'cache-control': 'private, no-store',
      'content-security-policy': expect.stringMatching(
        /^default-src 'none'; style-src 'sha256-[^']+'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
      ),
    });
    if (method === 'HEAD') continue;
    expect(heading(shown)).toEqual([200, 'Bring your phone number back?']);
    expect(shown.text).toContain(`ends in ${old.slice(-2)}`);
    expect(shown.text).toContain('<form method="post">');
    expect(shown.text).not.toMatch(/<script|\son\w+=/);
    for (const number of [old, next]) expect(shown.text).not.toContain(number.slice(-4));
    expect(shown.text).not.toContain(ada.email);
  }
  expect(await stored(ada.id)).toEqual(before);

  const done = await kit.send('POST', link, { form: '' });
  expect(heading(done)).toEqual(BACK);
  expect(done.text).toContain('stay switched off');
  expect(await kit.rows('select phone, phone_e164, phone_verified_at from account where id = $1', ada.id)).toEqual([
    { phone: old, phone_e164: old, ...proof },
  ]);
  expect(
    await kit.rows(
      `select value, retired_at is null as held, verified_at is not null as proven from contact_point where value = any ($1) order by value`,
      [old, next],
    ),
  ).toEqual([
    { value: old, held: true, proven: true },
    { value: next, held: false, proven: true },
  ]);
  expect(await consents(ada.id)).toEqual([
    { value: ada.email, channel: 'email', kind: 'grant' },
    { value: old, channel: 'sms', kind: 'grant' },
    { value: old, channel: 'sms', kind: 'expire' },
    { value: next, channel: 'call', kind: 'grant' },
    { value: next, channel: 'whatsapp', kind: 'grant' },
    { value: next, channel: 'call', kind: 'expire' },
    { value: next, channel: 'whatsapp', kind: 'expire' },
  ]);
  for (const client of [ada, elsewhere]) expect((await client.send('GET', PROFILE)).status).toBe(401);
  expect((await bearer('GET', '/user')).status).toBe(401);
  expect(await kit.rows('select 1 from phone_change where account = $1', ada.id)).toEqual([]);
  expect(await kit.rows('select purpose from mail_link where account = $1 and used_at is null', ada.id)).toEqual([]);
  const again = await kit.signIn(ada.email);
  expect((await again.send('GET', PROFILE)).body).toMatchObject({
    phone: old,
    sms_allowed: false,
    whatsapp_allowed: false,
    call_allowed: null,
    email_allowed: true,
  });

  await kit.jobs();
  const mail = (await kit.outbox('mail')).filter(({ recipient }) => recipient === ada.email).at(-1)!;
  expect(mail.subject).toBe('Your phone number is back');
  expect(mail.body).toContain('Set a new password');
  // What the undo took away is told to nobody with a link: it came later.
  expect(await linksTo(next)).toEqual([]);
  expect(heading(await kit.send('POST', link, { form: '' }))).toEqual(OVER);
  expect((await kit.verify()).fault).toBe(undefined);
});

test('a number that was removed is brought back too, by the link in the mail', async () => {
  for (const path of [PROFILE, LOYALTY]) {
    const ada = await kit.signUp();
    const old = newNumber();
    await prove(ada, old, { sms_allowed: true });
    expect((await ada.send('PATCH', path, { body: { phone: null } })).body.phone).toBe(null);
    expect(await consents(ada.id)).toEqual([
      { value: old, channel: 'sms', kind: 'grant' },
      { value: old, channel: 'sms', kind: 'expire' },
    ]);
    expect(heading(await kit.send('POST', await linkTo(ada.email), { form: '' }))).toEqual(BACK);
    expect(await phoneOf(ada.id)).toEqual(has(old));
  }
});

test('forged, used, expired and erased links show the same page and do nothing', async () => {
  const [ada, bora, cem] = [await kit.signUp(), await kit.signUp(), await kit.signUp()];
  const links: string[] = [];
  for (const client of [ada, bora, cem]) {
    const old = newNumber();
    await prove(client, old);
    await client.send('PATCH', PROFILE, { body: { phone: null } });
    links.push(await linkTo(old));
  }
  const [expired, erased, used] = links as [string, string, string];
  const forged = [
    `${used.slice(0, -1)}${used.endsWith('0') ? '1' : '0'}`,
    `/phone/undo/${'0'.repeat(64)}`,
    '/phone/undo/x',
    // The token of another row, and one of another purpose.
    `${expired.slice(0, 44)}${used.slice(44)}`,
  ];
  expect(heading(await kit.send('POST', used, { form: '' }))).toEqual(BACK);
  const key = await kit.apiKey('privacy');
  expect((await key('POST', '/v1/erasures', { body: { account: bora.id } })).status).toBe(200);
  expect(await kit.rows('select 1 from phone_undo where account = $1', bora.id)).toEqual([]);
  kit.advance(WEEK);
  const before = [await stored(ada.id), await stored(cem.id)];
  const pages = new Set<string>();
  for (const link of [...forged, used, erased, expired]) {
    for (const method of ['GET', 'POST']) {
      const reply = await kit.send(method, link, method === 'POST' ? { form: '' } : {});
      expect([link, ...heading(reply)]).toEqual([link, ...OVER]);
      pages.add(reply.text);
    }
  }
  expect(pages.size).toBe(1);
  expect([await stored(ada.id), await stored(cem.id)]).toEqual(before);
});

test('the page speaks the language of the account, of the browser, or the one that is chosen', async () => {
  const ada = await kit.signUp();
  await kit.rows(`update account set language_code = 'nl' where id = $1`, ada.id);
  const old = newNumber();
  await prove(ada, old);
  await ada.send('PATCH', PROFILE, { body: { phone: null } });
  const link = await linkTo(old);
  const titles = {
    en: 'Bring your phone number back?',
    tr: 'Telefon numaranız geri alınsın mı?',
    nl: 'Uw telefoonnummer terugzetten?',
    fr: 'Rétablir votre numéro de téléphone\u00a0?',
  };
  expect(heading(await kit.send('GET', link))).toEqual([200, titles.nl]);
  for (const [language, title] of Object.entries(titles)) {
    expect(heading(await kit.send('GET', link, { headers: { 'accept-language': language } }))).toEqual([200, title]);
    const chosen = await kit.send('GET', `${link}?lang=${language}`, { headers: { 'accept-language': 'en' } });
    expect(heading(chosen)).toEqual([200, title]);
    expect(chosen.text).toContain(`<html lang="${language}">`);
    expect(chosen.text).toContain(`<form method="post" action="?lang=${language}">`);
    expect(chosen.text).not.toContain('page.phone_undo');
  }
  expect(heading(await kit.send('POST', `${link}?lang=fr`, { form: '' }))).toEqual([
    200,
    'Votre numéro de téléphone est rétabli.',
  ]);
});

test('a number that another account holds by now is not brought back where numbers are unique, and nothing changes', async () => {
  await kit.set('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE', true);
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const [old, next] = [newNumber(), newNumber()];
  await prove(ada, old);
  await prove(ada, next);
  await prove(bora, old);
  const link = await linkTo(ada.email);
  const before = await stored(ada.id);
  const refused = await kit.send('POST', link, { form: '' });
  expect(heading(refused)).toEqual([409, 'This number cannot be brought back.']);
  expect(refused.text).toContain('Set a new password now');
  expect(await stored(ada.id)).toEqual(before);
  expect((await ada.send('GET', PROFILE)).body.phone).toBe(next);
  await bora.send('PATCH', PROFILE, { body: { phone: null } });
  expect(heading(await kit.send('POST', link, { form: '' }))).toEqual(BACK);
  expect(await phoneOf(ada.id)).toEqual(has(old));
});

test('each number keeps its own link, and the older one wins, whichever is used first', async () => {
  for (const order of [
    ['first', 'second'],
    ['second', 'first'],
  ] as const) {
    const ada = await kit.signUp();
    const [first, second, third] = [newNumber(), newNumber(), newNumber()];
    for (const number of [first, second, third]) {
      await prove(ada, number);
      kit.advance(1000);
    }
    const links = { first: await linkTo(first), second: await linkTo(second) };
    const seen = [];
    for (const name of order) seen.push(heading(await kit.send('POST', links[name], { form: '' })));
    expect(seen).toEqual(order[0] === 'first' ? [BACK, OVER] : [BACK, BACK]);
    expect(await phoneOf(ada.id)).toEqual(has(first));
    expect(await linksTo(third)).toEqual([]);
  }
});

test('changing it back, or on, or removing it leaves the owner their link', async () => {
  const ways: ((thief: Client, old: string) => Promise<void>)[] = [
    async (thief, old) => void (await thief.send('PATCH', PROFILE, { body: { phone: old } })),
    async (thief) => void (await thief.send('PATCH', PROFILE, { body: { phone: null } })),
    async (thief) => prove(thief, newNumber()),
  ];
  for (const way of ways) {
    const ada = await kit.signUp();
    const [old, theirs] = [newNumber(), newNumber()];
    await prove(ada, old);
    const thief = await kit.signIn(ada.email);
    await prove(thief, theirs);
    kit.advance(1000);
    await way(thief, old);
    expect((await thief.send('PATCH', LOYALTY, { body: { phone: newNumber() } })).status).toBe(202);
    const link = await linkTo(old);
    const thiefs = await linkTo(theirs);
    // The mail address was told both times.
    expect(await linksTo(ada.email)).toEqual([link, thiefs]);
    expect(heading(await kit.send('POST', link, { form: '' }))).toEqual(BACK);
    expect(await phoneOf(ada.id)).toEqual(has(old));
    expect((await thief.send('GET', PROFILE)).status).toBe(401);
    expect(await kit.rows('select 1 from phone_change where account = $1', ada.id)).toEqual([]);
    expect(heading(await kit.send('POST', thiefs, { form: '' }))).toEqual(OVER);
    expect(await phoneOf(ada.id)).toEqual(has(old));
  }
});

test('the link of a thief’s own number brings it back once, and never again by text', async () => {
  const ada = await kit.signUp();
  const [theirs, hers] = [newNumber(), newNumber()];
  await prove(ada, theirs);
  await prove(ada, hers);
  expect(heading(await kit.send('POST', await linkTo(theirs), { form: '' }))).toEqual(BACK);
  expect(await phoneOf(ada.id)).toEqual(has(theirs));
  expect((await messagesTo(ada.email)).at(-1)).toContain('was brought back');

  const again = await kit.signIn(ada.email);
  const links = await linksTo(theirs);
  await prove(again, hers);
  const told = await messagesTo(theirs);
  expect(told.at(-1)).toContain('follow the link in the e-mail');
  expect(await linksTo(theirs)).toEqual(links);
  expect(await linksTo(ada.email)).toHaveLength(links.length + 1);
  expect(await phoneOf(ada.id)).toEqual(has(hers));
});

test('what was ticked while the number was away is not carried to it', async () => {
  const ada = await kit.signUp();
  const old = newNumber();
  await prove(ada, old);
  await ada.send('PATCH', PROFILE, { body: { phone: null } });
  expect((await ada.send('PATCH', PROFILE, { body: { sms_allowed: true } })).body.sms_allowed).toBe(true);
  expect(heading(await kit.send('POST', await linkTo(old), { form: '' }))).toEqual(BACK);
  const again = await kit.signIn(ada.email);
  expect((await again.send('GET', PROFILE)).body).toMatchObject({ phone: old, sms_allowed: false });
});

test('of forty who press the button at once, through two processes, one brings it back', async () => {
  const ada = await kit.signUp();
  const [old, next] = [newNumber(), newNumber()];
  await prove(ada, old);
  await prove(ada, next, { sms_allowed: true });
  const link = await linkTo(old);
  const [before] = await kit.rows<{ version: number }>('select version from account where id = $1', ada.id);
  const replies = await Promise.all(
    Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? kit : twin).send('POST', link, { form: '' })),
  );
  expect(replies.map(heading).sort()).toEqual([BACK, ...Array(39).fill(OVER)]);
  expect(await kit.rows('select version, phone from account where id = $1', ada.id)).toEqual([
    { version: before!.version + 1, phone: old },
  ]);
  expect(await consents(ada.id)).toEqual([
    { value: next, channel: 'sms', kind: 'grant' },
    { value: next, channel: 'sms', kind: 'expire' },
  ]);
  expect((await messagesTo(ada.email)).filter((text) => text.includes('was brought back'))).toHaveLength(1);
});

test('an undo, a removal and consents at once, through two processes, leave no consent at a number that went', async () => {
  for (let round = 0; round < 8; round += 1) {
    const ada = await kit.signUp();
    const [old, next] = [newNumber(), newNumber()];
    await prove(ada, old, { sms_allowed: true });
    await prove(ada, next, { sms_allowed: true });
    const link = await linkTo(old);
    const headers = { authorization: `Token ${ada.key}` };
    const patch = (body: object): Promise<Reply> => twin.send('PATCH', PROFILE, { body, headers });
    const [undone, ...others] = await Promise.all([
      kit.send('POST', link, { form: '' }),
      patch({ whatsapp_allowed: true }),
      patch({ phone: null }),
      patch({ sms_allowed: false }),
      patch({ call_allowed: true }),
    ]);
    expect(heading(undone)).toEqual(BACK);
    // Whoever had passed the door before their sign-in ended comes before it or after it, but whole.
    for (const { status } of others) expect([200, 401]).toContain(status);
    const [held] = await kit.rows<{ phone_point: number | null; phone_e164: string | null }>(
      'select phone_point, phone_e164 from account where id = $1',
      ada.id,
    );
    expect([old, null]).toContain(held!.phone_e164);
    expect(
      await kit.rows(
        `select p.value, s.channel, s.state from consent_state s join contact_point p on p.id = s.contact_point
          where p.value = any ($1) and p.id is distinct from $2 and s.state = 'granted'`,
        [old, next],
        held!.phone_point,
      ),
    ).toEqual([]);
  }
  expect((await kit.verify()).fault).toBe(undefined);
}, 30_000);

test('a number where messages do not go is not texted, and the mail is sent all the same', async () => {
  const ada = await kit.signUp();
  const old = newNumber();
  await prove(ada, old);
  await kit.set('SMS_COUNTRIES', ['DE']);
  await ada.send('PATCH', PROFILE, { body: { phone: null } });
  expect(await linksTo(old)).toEqual([]);
  expect(heading(await kit.send('POST', await linkTo(ada.email), { form: '' }))).toEqual(BACK);
});

test('the warning comes though every budget of account, country and installation is used up, three times a day', async () => {
  const ada = await kit.signUp();
  const old = [newNumber(), newNumber(), newNumber(), newNumber()];
  await prove(ada, old[0]!);
  await kit.set('SMS_BUDGET', {
    ...{ number_hour: null, account_day: 1, address_hour: 1, country_day: 1, installation_day: 1 },
    newcomers_share: 0,
  });
  const { mayText } = await import('../../src/phone/texts.ts');
  const cause = { account: ada.id, ip: null };
  for (const about of ['one', 'two']) await mayText(kit.ctx, newNumber(), cause, about);
  expect(await mayText(kit.ctx, newNumber(), cause, 'three')).toBe(false);
  for (const [i, number] of old.entries()) {
    if (i > 0)
      await kit.rows(
        'update account set phone = $2, phone_e164 = $2, phone_verified_at = now() where id = $1',
        ada.id,
        number,
      );
    await ada.send('PATCH', PROFILE, { body: { phone: null } });
    expect([i, (await linksTo(number)).length]).toEqual([i, i < 3 ? 1 : 0]);
  }
  // The mail address hears of each.
  expect(await linksTo(ada.email)).toHaveLength(4);
  kit.advance(86_400_000);
  await kit.rows(
    'update account set phone = $2, phone_e164 = $2, phone_verified_at = now() where id = $1',
    ada.id,
    old[3],
  );
  await ada.send('PATCH', PROFILE, { body: { phone: null } });
  expect(await linksTo(old[3]!)).toHaveLength(1);
});

test('links are forgotten a month after their end', async () => {
  const ada = await kit.signUp();
  await prove(ada, newNumber());
  await ada.send('PATCH', PROFILE, { body: { phone: null } });
  const { sweepPhoneUndos } = await import('../../src/phone/undo.ts');
  const left = () => kit.rows('select account from phone_undo where account = $1', ada.id);
  kit.advance(WEEK + 29 * 86_400_000);
  await sweepPhoneUndos(kit.ctx);
  expect(await left()).toEqual([{ account: ada.id }]);
  kit.advance(86_400_000 + 1000);
  await sweepPhoneUndos(kit.ctx);
  expect(await left()).toEqual([]);
});

test('an erasure, of the account or of the number, takes what was kept to bring it back', async () => {
  const key = await kit.apiKey('privacy');
  for (const what of ['account', 'recipient'] as const) {
    const ada = await kit.signUp();
    const old = newNumber();
    await prove(ada, old);
    await ada.send('PATCH', PROFILE, { body: { phone: null } });
    const link = await linkTo(old);
    const body = what === 'account' ? { account: ada.id } : { recipient: old };
    expect((await key('POST', '/v1/erasures', { body })).status).toBe(200);
    expect(await kit.rows('select 1 from phone_undo where phone_e164 = $1', old)).toEqual([]);
    expect(await kit.rows('select 1 from console_message where recipient = $1', old)).toEqual([]);
    expect(heading(await kit.send('POST', link, { form: '' }))).toEqual(OVER);
  }
});
