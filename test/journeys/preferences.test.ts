/** Signed links: the preference page, one-click unsubscribe, and the question that double opt-in asks. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { contactPoints } from '../../src/accounts/contact-points.ts';
import { addNotice, type NewNotice } from '../../src/consent/notices.ts';
import { masked } from '../../src/consent/pages/preferences.ts';
import type { State } from '../../src/consent/rules.ts';
import { sayOne } from '../../src/consent/statements.ts';
import { transaction } from '../../src/platform/ctx.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

const DAY = 86_400_000;
const PURPOSES = {
  marketing: {
    title: { en: 'Offers and news', tr: 'Kampanyalar ve haberler' },
    channels: ['email', 'sms', 'whatsapp', 'call'],
  },
  birthday: { title: { en: 'Birthday gift', tr: 'Doğum günü hediyesi' }, channels: ['email', 'sms'] },
};

let kit: Kit;
let key: Send;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
  key = await kit.apiKey('consents');
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, preferences: null });
});
afterAll(() => kit?.close());
beforeEach(async () => {
  await kit.set('CONSENT_PURPOSES', PURPOSES);
  await kit.set('DOUBLE_OPT_IN', []);
});

const newVersion = (): string => {
  numbers += 1;
  return `v${numbers}`;
};
const newPhone = (): string => {
  numbers += 1;
  return `0532${3_000_000 + numbers}`;
};

interface Line {
  channel: string;
  purpose: string;
  kind: string;
  outcome: string;
  source: string;
  actor: string;
  notice: number | null;
  account: number | null;
  proven: boolean;
  evidence: Record<string, unknown>;
}

/** Lines about the addresses an account has now, in the order they were written. */
const linesOf = (account: number): Promise<Line[]> =>
  kit.rows(
    `select e.channel, e.purpose, e.kind, e.outcome, e.source, e.actor, e.notice, e.account, e.proven, v.evidence
       from consent_event e join account a on e.contact_point in (a.email_point, a.phone_point)
       join consent_evidence v on v.event = e.id where a.id = $1 order by e.id`,
    account,
  );
const brief = (lines: readonly Line[]): string[] =>
  lines.map(
    ({ channel, purpose, kind, outcome, source }) =>
      `${purpose} ${channel} ${kind}${outcome === 'applied' ? '' : ` (${outcome})`} ${source}`,
  );
const pointOf = async (value: string): Promise<number> =>
  (await kit.rows<{ id: number }>('select id from contact_point where value = $1', value))[0]!.id;
const stateOf = async (value: string, channel: string, purpose = 'marketing'): Promise<State | undefined> =>
  (
    await kit.rows<{ state: State }>(
      `select s.state from consent_state s join contact_point p on p.id = s.contact_point
        where p.value = $1 and s.channel = $2 and s.purpose = $3`,
      value,
      channel,
      purpose,
    )
  )[0]?.state;

const path = (url: string): string => new URL(url).pathname;
const linkFor = async ({ id }: { id: number }): Promise<string> => {
  const reply = await key('POST', `/v1/accounts/${id}/preference-link`);
  expect(reply.status).toBe(201);
  return path(reply.body.url);
};
async function headersFor({ id }: { id: number }, query = ''): Promise<{ unsubscribe: string; preferences: string }> {
  const { status, body } = await key('GET', `/v1/accounts/${id}/unsubscribe-headers${query}`);
  expect(status).toBe(200);
  return { unsubscribe: path(body['List-Unsubscribe'].slice(1, -1)), preferences: path(body.preferences) };
}

/** The switches of a page, by `purpose.channel`, and what the form would send. */
function formOf({ text }: Reply): { on: Record<string, boolean>; shown: Record<string, string> } {
  const on: Record<string, boolean> = {};
  for (const [, place, more] of text.matchAll(
    /<input type="checkbox" role="switch" name="on\.([\w.]+)" value="1"( checked)?/g,
  ))
    on[place!] = more !== undefined;
  const shown = [...text.matchAll(/name="shown\.([\w.]+)" value="([^"]*)"/g)].map(([, place, value]) => [
    place!,
    value!,
  ]);
  return { on, shown: Object.fromEntries(shown) };
}

/** Sends a page's form back with some switches moved, as a browser without script does. */
function save(link: string, page: Reply, moved: Record<string, boolean> = {}): Promise<Reply> {
  const { on, shown } = formOf(page);
  const fields = new URLSearchParams();
  for (const [place, value] of Object.entries(shown)) fields.set(`shown.${place}`, value);
  for (const [place, is] of Object.entries({ ...on, ...moved })) if (is) fields.set(`on.${place}`, '1');
  return kit.send('POST', link, { form: fields.toString() });
}

/** The words of a page, without its markup. */
const wordsOf = ({ text }: Reply): string =>
  text
    .replace(/^.*<body>/s, '')
    .replaceAll(/<[^>]+>/g, ' ')
    .replaceAll('&#39;', '’')
    .replaceAll(/\s+/g, ' ');
/** The row of a channel. */
const rowOf = ({ text }: Reply, place: string): string => {
  const row = text.split(/<\/?li>/).find((part) => part.includes(`id="state.${place}"`));
  return row === undefined ? '' : wordsOf({ text: `<body>${row}` } as Reply).trim();
};

/** Lines of the history in words, newest first. */
const historyOf = ({ text }: Reply): string[] =>
  text
    .split(/<\/?ol/)
    .filter((_part, index) => index % 2 === 1)
    .flatMap((list) => list.split('<li>').slice(1))
    .map((line) => wordsOf({ text: `<body>${line}` } as Reply).trim());

const notice = (more: Partial<NewNotice> = {}): ReturnType<typeof addNotice> =>
  addNotice(
    kit.ctx,
    {
      purpose: 'marketing',
      channels: ['email', 'sms'],
      language: 'en',
      version: newVersion(),
      text: 'We write to you about <offers> & news.',
      withdrawal: 'By the link in every message.',
      ...more,
    },
    'test',
  );

describe('the links', () => {
  test('are short, fit for a mail header, and stored nowhere', async () => {
    const ada = await kit.signUp();
    const before = await kit.rows('select count(*) from mail_link');
    const { status, body, headers } = await key('GET', `/v1/accounts/${ada.id}/unsubscribe-headers`, {
      headers: { host: 'accounts.example' },
    });
    expect([status, headers['content-type']]).toEqual([200, 'application/json']);
    expect(Object.keys(body)).toEqual(['List-Unsubscribe', 'List-Unsubscribe-Post', 'preferences']);
    expect(body['List-Unsubscribe']).toMatch(/^<http:\/\/accounts\.example\/unsubscribe\/[\w-]{40,148}a>$/);
    expect(body['List-Unsubscribe-Post']).toBe('List-Unsubscribe=One-Click');
    expect(body.preferences).toMatch(/^http:\/\/accounts\.example\/preferences\/[\w-]{36,60}a$/);
    expect(await kit.rows('select count(*) from mail_link')).toEqual(before);
  });

  test('are given to programs that may, for accounts, addresses, channels and purposes that are', async () => {
    const ada = await kit.signUp({ phone: newPhone() });
    const without = await kit.signUp();
    const status = async (path: string, send: Send = key): Promise<number> => (await send('GET', path)).status;
    const headers = `/v1/accounts/${ada.id}/unsubscribe-headers`;
    expect(await status(`${headers}?channel=sms&purpose=birthday`)).toBe(200);
    expect(await status(`${headers}?channel=fax`)).toBe(400);
    expect(await status(`${headers}?purpose=nothing`)).toBe(400);
    expect(await status(`${headers}?channel=call&purpose=birthday`)).toBe(400);
    expect(await status(`/v1/accounts/${without.id}/unsubscribe-headers?channel=sms`)).toBe(404);
    expect(await status('/v1/accounts/999999999/unsubscribe-headers')).toBe(404);
    expect(await status(headers, kit.send)).toBe(401);
    expect(await status(headers, await kit.apiKey('settings'))).toBe(403);
    expect((await key('POST', '/v1/accounts/999999999/preference-link')).status).toBe(404);
    expect((await key('DELETE', '/v1/accounts/999999999/preference-link')).status).toBe(404);
    const address = async (body: object): Promise<[number, string | undefined]> => {
      const reply = await key('POST', '/v1/links/unsubscribe-headers', { body });
      return [reply.status, reply.body.errors?.[0]?.pointer];
    };
    expect(await address({ recipient: ada.email.toUpperCase() })).toEqual([200, undefined]);
    expect(await address({ recipient: 'nobody.knows@example.com' })).toEqual([404, undefined]);
    expect(await address({ recipient: 'nobody' })).toEqual([400, '/recipient']);
    expect(await address({ recipient: ada.email, channel: 'sms' })).toEqual([400, '/recipient']);
    expect(await address({ recipient: ada.email, purpose: 'nothing' })).toEqual([400, '/purpose']);
    expect(await address({})).toEqual([400, '/recipient']);
  });

  test('open nothing when a letter is changed, dropped, added, or taken from another kind', async () => {
    const ada = await kit.signUp();
    const { unsubscribe, preferences } = await headersFor(ada);
    const status = async (method: string, at: string): Promise<number> => (await kit.send(method, at)).status;
    expect([await status('GET', unsubscribe), await status('GET', preferences)]).toEqual([200, 200]);
    const other = (letter: string): string => (letter === 'A' ? 'B' : 'A');
    for (const [prefix, token] of [
      ['/unsubscribe/', unsubscribe.split('/').at(-1)!],
      ['/preferences/', preferences.split('/').at(-1)!],
    ] as const) {
      for (let index = 0; index < token.length; index += 1) {
        const altered = token.slice(0, index) + other(token[index]!) + token.slice(index + 1);
        expect([index, await status('GET', prefix + altered)]).toEqual([index, 404]);
      }
      for (const broken of [
        token.slice(1),
        token.slice(0, -1),
        token.slice(0, 20),
        `${token}A`,
        `${token}=`,
        `${token}.`,
        'x',
      ])
        expect([broken, await status('GET', prefix + broken)]).toEqual([broken, 404]);
    }
    const strays = [
      unsubscribe.replace('/unsubscribe/', '/preferences/'),
      preferences.replace('/preferences/', '/unsubscribe/'),
      preferences.replace('/preferences/', '/preferences/confirm/'),
      unsubscribe.replace('/unsubscribe/', '/preferences/confirm/'),
    ];
    for (const stray of strays)
      expect([stray, await status('GET', stray), await status('POST', stray)]).toEqual([stray, 404, 404]);
    // The first letters say what a link opens: none can be made into another.
    for (const token of [unsubscribe, preferences].map((link) => link.split('/').at(-1)!)) {
      for (const kind of ['AQ', 'Ag', 'Aw', 'BA'].filter((letters) => !token.startsWith(letters))) {
        for (const prefix of ['/preferences/', '/preferences/confirm/', '/unsubscribe/']) {
          const other = `${prefix}${kind}${token.slice(2)}`;
          expect([other, await status('GET', other)]).toEqual([other, 404]);
        }
      }
    }
    expect(await linesOf(ada.id)).toEqual([]);
  });

  test('of another installation open nothing', async () => {
    const other = await createKit();
    try {
      const bora = await other.signUp();
      const send = await other.apiKey('consents');
      const { body } = await send('POST', `/v1/accounts/${bora.id}/preference-link`);
      // Same secret in every test: what differs here is only who is asked.
      expect((await other.send('GET', path(body.url))).status).toBe(200);
    } finally {
      await other.close();
    }
    const { deriveKeys } = await import('../../src/platform/keys.ts');
    const { tokenOf } = await import('../../src/consent/pages/links.ts');
    const ada = await kit.signUp();
    const forged = tokenOf(
      { ...kit.ctx, keys: deriveKeys('another secret key, of somebody who has read our code') },
      { kind: 'account', account: ada.id, generation: 1, expiresAt: new Date(Date.now() + DAY) },
    );
    expect((await kit.send('GET', `/preferences/${forged}`)).status).toBe(404);
  });

  test('to preferences end after their time and say where to get a new one', async () => {
    const ada = await kit.signUp();
    await kit.set('PREFERENCE_LINK_AGE', 7 * 86_400);
    const { body } = await key('POST', `/v1/accounts/${ada.id}/preference-link`);
    const { unsubscribe } = await headersFor(ada);
    const link = path(body.url);
    const lasts = Date.parse(body.expires_at) - kit.ctx.clock.now().getTime();
    expect(Math.abs(lasts - 7 * DAY)).toBeLessThan(60_000);
    kit.advance(7 * DAY - 120_000);
    const page = await kit.send('GET', link);
    expect(page.status).toBe(200);
    kit.advance(180_000);
    const dead = await kit.send('GET', link);
    expect([dead.status, wordsOf(dead)]).toEqual([410, expect.stringContaining('This link is no longer valid.')]);
    expect((await save(link, page, { 'marketing.email': true })).status).toBe(410);
    expect(await linesOf(ada.id)).toEqual([]);
    // The new one goes to the address the old one went to, and to nobody else.
    const sent = await kit.send('POST', `${link}/link`);
    expect([sent.status, wordsOf(sent)]).toEqual([200, expect.stringContaining('Look into your messages.')]);
    expect(dead.text).toContain(`action="${link}/link"`);
    await kit.jobs();
    const mail = (await kit.outbox('mail')).at(-1)!;
    expect([mail.recipient, mail.subject]).toEqual([ada.email, 'Your preferences at The shop']);
    const [fresh] = /\/preferences\/[\w-]+/.exec(mail.body)!;
    expect((await kit.send('GET', fresh)).status).toBe(200);
    // Years later the unsubscribe link works as on its first day.
    kit.advance(3 * 365 * DAY);
    expect((await kit.send('POST', unsubscribe)).status).toBe(200);
    expect(brief(await linesOf(ada.id))).toEqual(['marketing email withdraw one_click']);
    await kit.set('PREFERENCE_LINK_AGE', 7_776_000);
  });

  test('to preferences end when they are revoked, for the account and its addresses; unsubscribing does not', async () => {
    const ada = await kit.signUp({ phone: newPhone() });
    const byMail = await headersFor(ada);
    const bySms = await headersFor(ada, '?channel=sms');
    const links = [await linkFor(ada), byMail.preferences, bySms.preferences];
    for (const link of links) expect((await kit.send('GET', link)).status).toBe(200);
    const revoked = await key('DELETE', `/v1/accounts/${ada.id}/preference-link`);
    expect([revoked.status, revoked.text]).toEqual([204, '']);
    for (const link of links) expect((await kit.send('GET', link)).status).toBe(410);
    for (const { unsubscribe } of [byMail, bySms]) expect((await kit.send('GET', unsubscribe)).status).toBe(200);
    expect((await kit.send('GET', await linkFor(ada))).status).toBe(200);
  });

  test('end with the account', async () => {
    const ada = await kit.signUp();
    const link = await linkFor(ada);
    await kit.rows('update account set is_active = false where id = $1', ada.id);
    expect((await kit.send('GET', link)).status).toBe(410);
    expect((await key('POST', `/v1/accounts/${ada.id}/preference-link`)).status).toBe(404);
  });

  test('are sent anew a few times a day, whoever asks for them, and never to an address that was erased', async () => {
    const ada = await kit.signUp();
    const { unsubscribe, preferences } = await headersFor(ada);
    const mails = async (): Promise<number> =>
      (await kit.outbox('mail')).filter(({ recipient }) => recipient === ada.email).length;
    const before = await mails();
    for (const link of [
      unsubscribe.replace('/unsubscribe/', '/preferences/'),
      preferences,
      preferences,
      preferences,
      preferences,
    ]) {
      expect((await kit.send('POST', `${link}/link`)).status).toBe(200);
      await kit.jobs();
    }
    expect((await mails()) - before).toBe(3);
    kit.advance(DAY + 1000);
    await kit.rows('update contact_point set value = null, erased_at = now() where id = $1', await pointOf(ada.email));
    expect((await kit.send('POST', `${preferences}/link`)).status).toBe(200);
    await kit.jobs();
    expect((await mails()) - before).toBe(3);
  });
});

describe('unsubscribing', () => {
  const grant = (client: Client): Promise<Reply> =>
    client.send('PATCH', '/users/profile/', { body: { email_allowed: true } });

  test('a GET shows one button and writes nothing, however often a scanner opens it', async () => {
    const ada = await kit.signUp();
    await grant(ada);
    const { unsubscribe } = await headersFor(ada);
    for (const method of ['GET', 'HEAD', 'GET']) {
      const page = await kit.send(method, unsubscribe);
      expect([page.status, page.headers['set-cookie']]).toEqual([200, undefined]);
    }
    const page = await kit.send('GET', unsubscribe);
    expect(page.text.match(/<button/g)).toHaveLength(1);
    expect(wordsOf(page)).toContain('The shop will send you nothing more of this kind: Offers and news (E-mail).');
    expect(brief(await linesOf(ada.id))).toEqual(['marketing email grant account']);
  });

  test('a POST withdraws at once, with its evidence, and once', async () => {
    const ada = await kit.signUp();
    await grant(ada);
    const { unsubscribe } = await headersFor(ada);
    const reply = await kit.send('POST', unsubscribe, {
      form: 'List-Unsubscribe=One-Click',
      headers: { 'user-agent': 'Mail Program/1', cookie: 'sessionid=whatever' },
    });
    expect([reply.status, reply.headers['location'], reply.headers['set-cookie']]).toEqual([200, undefined, undefined]);
    expect(wordsOf(reply)).toContain('You are unsubscribed.');
    expect(reply.text).toContain(`action="${unsubscribe.replace('/unsubscribe/', '/preferences/')}/link"`);
    expect((await ada.send('GET', '/users/profile/')).body.email_allowed).toBe(false);
    for (let again = 0; again < 3; again += 1) expect((await kit.send('POST', unsubscribe)).status).toBe(200);
    const lines = await linesOf(ada.id);
    expect(brief(lines)).toEqual(['marketing email grant account', 'marketing email withdraw one_click']);
    expect(lines[1]).toMatchObject({
      actor: `account:${ada.id}`,
      account: ada.id,
      proven: true,
      evidence: { ip: '127.0.0.1', user_agent: 'Mail Program/1', request: expect.any(String), address: ada.email },
    });
  });

  const boundary = 'x'.repeat(20);
  const variants: [string, Parameters<Send>[2]][] = [
    ['a form', { form: 'List-Unsubscribe=One-Click' }],
    ['a form of something else', { form: 'a=%zz' }],
    [
      'multipart',
      {
        body: `--${boundary}\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--${boundary}--\r\n`,
        headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
      },
    ],
    ['multipart without its boundary', { body: 'x', headers: { 'content-type': 'multipart/form-data' } }],
    ['no body and no type', {}],
    ['no body with a type', { headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
    ['a body of no type', { body: 'List-Unsubscribe=One-Click', headers: { 'content-type': '' } }],
    ['text', { body: 'List-Unsubscribe=One-Click', headers: { 'content-type': 'text/plain' } }],
    ['broken JSON', { body: '{', headers: { 'content-type': 'application/json' } }],
    ['lines of JSON', { body: '{}\n', headers: { 'content-type': 'application/x-ndjson' } }],
    ['a type that is none', { body: 'x', headers: { 'content-type': 'nonsense' } }],
    ['bytes that are no text', { body: Buffer.from([0xff, 0, 0xfe]), headers: { 'content-type': 'text/html' } }],
    ['a foreign origin', { form: '', headers: { origin: 'https://mail.example', 'sec-fetch-site': 'cross-site' } }],
    ['a wish for JSON alone', { headers: { accept: 'application/json' } }],
  ];
  test.each(variants)('takes %s', async (_name, sent) => {
    const ada = await kit.signUp();
    await grant(ada);
    const { unsubscribe } = await headersFor(ada);
    const reply = await kit.send('POST', unsubscribe, sent);
    expect([reply.status, reply.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8']);
    expect(await stateOf(ada.email, 'email')).toBe('withdrawn');
  });

  test('does of each state what a no does, for its channel and purpose alone', async () => {
    const phone = newPhone();
    const ada = await kit.signUp({ phone, email_allowed: true, sms_allowed: true });
    const { unsubscribe } = await headersFor(ada, '?channel=sms&purpose=birthday');
    await kit.send('POST', unsubscribe);
    expect(brief(await linesOf(ada.id)).slice(-1)).toEqual(['birthday sms withdraw one_click']);
    await kit.send('POST', unsubscribe);
    expect(brief(await linesOf(ada.id)).filter((line) => line.includes('one_click'))).toHaveLength(1);
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({ email_allowed: true, sms_allowed: true });

    await kit.set('DOUBLE_OPT_IN', ['email']);
    const bora = await kit.signUp({ email_allowed: true });
    expect(await stateOf(bora.email, 'email')).toBe('pending');
    await kit.send('POST', (await headersFor(bora)).unsubscribe);
    expect(await stateOf(bora.email, 'email')).toBe('withdrawn');
  });

  test('is no throttled business: a mail program’s hundreds come from one address', async () => {
    await kit.set('THROTTLING_SETTINGS', { login: null, register: null, preferences: { count: 1, duration: 60 } });
    const ada = await kit.signUp();
    const { unsubscribe } = await headersFor(ada);
    for (let count = 0; count < 5; count += 1) expect((await kit.send('POST', unsubscribe)).status).toBe(200);
    const link = await linkFor(ada);
    const statuses = [(await kit.send('POST', link)).status, (await kit.send('POST', link)).status];
    expect(statuses).toEqual([303, 429]);
    await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, preferences: null });
  });

  test('is one line, however many ask at once and in whichever process', async () => {
    const ada = await kit.signUp({ email_allowed: true });
    const { unsubscribe } = await headersFor(ada);
    const twin = await kit.twin();
    const replies = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? kit : twin).send('POST', unsubscribe)),
    );
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]));
    expect(brief(await linesOf(ada.id))).toEqual([
      'marketing email grant registration',
      'marketing email withdraw one_click',
    ]);
  });

  test('works for an address without an account, and long after its purpose is asked for no more', async () => {
    const recipient = 'guest.of.2026@example.com';
    await transaction(kit.ctx, (ctx) => contactPoints(ctx, [{ kind: 'email', value: recipient }], { by: 'shop' }));
    const { body } = await key('POST', '/v1/links/unsubscribe-headers', { body: { recipient, purpose: 'birthday' } });
    await kit.set('CONSENT_PURPOSES', { marketing: PURPOSES.marketing });
    const unsubscribe = path(body['List-Unsubscribe'].slice(1, -1));
    expect(wordsOf(await kit.send('GET', unsubscribe))).toContain('birthday (E-mail)');
    expect((await kit.send('POST', unsubscribe)).status).toBe(200);
    const [line] = await kit.rows(
      'select e.kind, e.account, e.actor, e.proven from consent_event e join contact_point p on p.id = e.contact_point where p.value = $1',
      recipient,
    );
    expect(line).toEqual({ kind: 'withdraw', account: null, actor: 'address', proven: true });
  });
});

describe('the preference page', () => {
  test('shows every purpose and channel with state, date, notice and version, in the reader’s language', async () => {
    const en = await notice({ version: 'en-1' });
    const tr = await notice({ language: 'tr', version: 'tr-1', text: 'Size kampanyaları yazarız.', withdrawal: '' });
    const ada = await kit.signUp({ phone: newPhone(), email_allowed: true });
    await ada.send('PATCH', '/users/profile/', { body: { call_allowed: false } });
    const link = await linkFor(ada);
    const page = await kit.send('GET', link, { headers: { 'accept-language': 'en' } });
    const today = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' }).format(kit.ctx.clock.now());
    expect([page.status, page.headers['content-language'], page.headers['cache-control']]).toEqual([
      200,
      'en',
      'private, no-store',
    ]);
    expect(formOf(page).on).toEqual({
      'marketing.email': true,
      'marketing.sms': false,
      'marketing.whatsapp': false,
      'marketing.call': false,
      'birthday.email': false,
      'birthday.sms': false,
    });
    expect(rowOf(page, 'marketing.email')).toBe(`E-mail ${ada.email[0]}***@example.com Allowed · since ${today}`);
    expect(rowOf(page, 'marketing.call')).toMatch(
      /^Phone call \+90 532 \*\*\* \*\* \d\d Not allowed: declined · since /,
    );
    expect(rowOf(page, 'birthday.sms')).toMatch(/ Not allowed: you have not been asked yet$/);
    expect(page.text).toContain('<blockquote lang="en">We write to you about &lt;offers&gt; &amp; news.</blockquote>');
    expect(wordsOf(page)).toContain('version en-1 · By the link in every message.');
    expect(page.text).not.toContain(ada.email);
    expect(formOf(page).shown['marketing.email']).toMatch(new RegExp(`^[0-9a-f]{7}:${en.id}$`));

    for (const asked of [`${link}?lang=tr`, link]) {
      const turkish = await kit.send('GET', asked, { headers: { 'accept-language': asked === link ? 'tr-TR' : 'en' } });
      expect(turkish.headers['content-language']).toBe('tr');
      expect(turkish.text).toContain('<html lang="tr">');
      expect(turkish.text).toContain('<blockquote lang="tr">Size kampanyaları yazarız.</blockquote>');
      expect(formOf(turkish).shown['marketing.email']).toMatch(new RegExp(`:${tr.id}$`));
      expect(wordsOf(turkish)).toContain('Doğum günü hediyesi');
    }
    // The account's own where the browser names none, or none we speak.
    await ada.send('PATCH', '/users/profile/', { body: { language_code: 'nl-nl' } });
    const language = async (header?: string): Promise<unknown> =>
      (await kit.send('GET', link, header === undefined ? {} : { headers: { 'accept-language': header } })).headers[
        'content-language'
      ];
    expect([await language(), await language('ja'), await language('fr')]).toEqual(['nl', 'nl', 'fr']);
  });

  test('writes what was moved and nothing else, naming the notice that was shown', async () => {
    const shown = await notice();
    const ada = await kit.signUp({ phone: newPhone(), email_allowed: true });
    const link = await linkFor(ada);
    const page = await kit.send('GET', link);
    // Another text comes into force while the page lies open.
    await notice();
    const before = (await linesOf(ada.id)).length;
    const reply = await save(`${link}?lang=fr`, page, { 'marketing.sms': true, 'birthday.email': true });
    expect([reply.status, reply.headers['location']]).toEqual([303, `${link}?lang=fr&saved=1`]);
    const lines = (await linesOf(ada.id)).slice(before);
    expect(brief(lines)).toEqual(['marketing sms grant preference_page', 'birthday email grant preference_page']);
    expect(lines[0]).toMatchObject({ actor: `account:${ada.id}`, account: ada.id, notice: shown.id, proven: false });
    expect(lines[1]).toMatchObject({ notice: null, proven: true, evidence: { address: ada.email, ip: '127.0.0.1' } });

    const after = await kit.send('GET', reply.headers['location'] as string);
    expect(after.text).toContain('<p class="done" role="status">C’est enregistré.</p>');
    expect(formOf(after).on).toMatchObject({ 'marketing.sms': true, 'birthday.email': true, 'marketing.call': false });
    // The same form again is no news.
    await save(link, after);
    expect(await linesOf(ada.id)).toHaveLength(before + 2);
    await save(link, after, { 'marketing.email': false });
    expect(brief(await linesOf(ada.id)).at(-1)).toBe('marketing email withdraw preference_page');
  });

  test('an old page lifts no withdrawal that came after it, and its no is taken', async () => {
    const ada = await kit.signUp({ email_allowed: true, phone: newPhone(), sms_allowed: true });
    const link = await linkFor(ada);
    const old = await kit.send('GET', link);
    await kit.send('POST', (await headersFor(ada)).unsubscribe);
    const before = (await linesOf(ada.id)).length;
    // The page still has e-mail switched on; SMS is switched off on it.
    const reply = await save(link, old, { 'marketing.sms': false });
    expect(reply.headers['location']).toBe(`${link}?saved=stale`);
    expect(brief((await linesOf(ada.id)).slice(before))).toEqual([
      'marketing email grant (stale) preference_page',
      'marketing sms withdraw preference_page',
    ]);
    const now = await kit.send('GET', reply.headers['location'] as string);
    expect(now.text).toContain('role="alert"');
    expect(formOf(now).on).toMatchObject({ 'marketing.email': false, 'marketing.sms': false });
    expect(wordsOf(now)).toContain('Changed nothing: it came from a page that did not know of the withdrawal.');
    // Having read it, they may.
    await save(link, now, { 'marketing.email': true });
    expect(await stateOf(ada.email, 'email')).toBe('granted');
    // A page from before a yes that was given elsewhere says no to it by saying nothing.
    await save(link, now);
    expect(await stateOf(ada.email, 'email')).toBe('withdrawn');
  });

  test('a form speaks of the switches it has, and of nothing the shop does not ask for', async () => {
    const ada = await kit.signUp({ email_allowed: true });
    const link = await linkFor(ada);
    const before = await linesOf(ada.id);
    for (const form of [
      '',
      'on.marketing.email=1',
      'shown.secret.email=0&on.secret.email=1',
      'shown.__proto__.email=0&on.__proto__.email=1&shown.constructor.email=0&on.constructor.email=1',
      'shown.birthday.call=0&on.birthday.call=1',
      'shown.birthday.fax=0&on.birthday.fax=1',
      // An account without a number has no switch for it.
      'shown.marketing.sms=0&on.marketing.sms=1',
      'x[y]=1&shown.marketing[email]=0',
    ]) {
      const reply = await kit.send('POST', link, { form });
      expect([form, reply.status]).toEqual([form, 303]);
    }
    expect(await linesOf(ada.id)).toEqual(before);
    // A notice that is none of this purpose's is not named.
    for (const other of [await notice({ purpose: 'birthday', channels: ['sms'] }), await notice()]) {
      const { shown } = formOf(await kit.send('GET', link));
      const state = shown['birthday.email']!.split(':')[0];
      await kit.send('POST', link, { form: `shown.birthday.email=${state}:${other.id}&on.birthday.email=1` });
      expect((await linesOf(ada.id)).at(-1)).toMatchObject({ purpose: 'birthday', kind: 'grant', notice: null });
      await kit.send('POST', link, { form: 'shown.birthday.email=0' });
    }
    // Bodies that are no form are refused, and change nothing.
    const count = (await linesOf(ada.id)).length;
    expect((await kit.send('POST', link, { body: { everything: 'no' } })).status).toBe(415);
    expect((await kit.send('POST', link, { form: 'everything=%00' })).status).toBe(400);
    expect(await linesOf(ada.id)).toHaveLength(count);
  });

  test('an account without a number can take back what it said for one, and say nothing new', async () => {
    const ada = await kit.signUp();
    const link = await linkFor(ada);
    expect(rowOf(await kit.send('GET', link), 'marketing.sms')).toBe('SMS Your account has no number for this.');
    await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: true } });
    const page = await kit.send('GET', link);
    expect(formOf(page).on).toEqual({ 'marketing.email': false, 'marketing.sms': true, 'birthday.email': false });
    await save(link, page, { 'marketing.sms': false });
    const after = await kit.send('GET', link);
    expect(rowOf(after, 'marketing.sms')).toBe('SMS Your account has no number for this.');
    await save(link, page, { 'marketing.sms': true });
    await kit.send('POST', link, { form: 'shown.marketing.call=0&on.marketing.call=1' });
    expect(brief(await linesOf(ada.id))).toEqual([
      'marketing sms grant account',
      'marketing sms withdraw preference_page',
    ]);
  });

  test('one button says no to everything, also to what the shop asks for no more', async () => {
    const ada = await kit.signUp({ email_allowed: true, phone: newPhone(), sms_allowed: true });
    const link = await linkFor(ada);
    await save(link, await kit.send('GET', link), { 'birthday.email': true });
    await kit.set('CONSENT_PURPOSES', { marketing: PURPOSES.marketing });
    const before = (await linesOf(ada.id)).length;
    const reply = await kit.send('POST', link, { form: 'everything=no' });
    expect([reply.status, reply.headers['location']]).toEqual([303, `${link}?saved=1`]);
    expect(brief((await linesOf(ada.id)).slice(before)).sort()).toEqual([
      'birthday email withdraw preference_page',
      'marketing call withdraw preference_page',
      'marketing email withdraw preference_page',
      'marketing sms withdraw preference_page',
      'marketing whatsapp withdraw preference_page',
    ]);
    const count = (await linesOf(ada.id)).length;
    await kit.send('POST', link, { form: 'everything=no' });
    expect(await linesOf(ada.id)).toHaveLength(count);
  });

  test('the link of a number speaks for the number alone', async () => {
    const phone = newPhone();
    const ada = await kit.signUp({ phone, email_allowed: true, sms_allowed: true });
    const { preferences } = await headersFor(ada, '?channel=sms');
    const page = await kit.send('GET', preferences);
    expect(Object.keys(formOf(page).on)).toEqual([
      'marketing.sms',
      'marketing.whatsapp',
      'marketing.call',
      'birthday.sms',
    ]);
    expect(wordsOf(page)).not.toContain('@');
    await save(preferences, page, { 'marketing.sms': false });
    const line = (await linesOf(ada.id)).at(-1)!;
    expect(line).toMatchObject({ kind: 'withdraw', channel: 'sms', actor: 'address', proven: true });
    expect(await stateOf(ada.email, 'email')).toBe('granted');
  });

  test('of a number that nobody has proven it shows no history but the reader’s own', async () => {
    const phone = newPhone();
    const ada = await kit.signUp({ phone, sms_allowed: true });
    await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: false } });
    const eve = await kit.signUp({ phone });
    const history = async (client: Client): Promise<number> =>
      historyOf(await kit.send('GET', await linkFor(client))).length;
    expect([await history(ada), await history(eve)]).toEqual([2, 0]);
    await kit.rows('update account set phone_verified_at = now() where id = $1', eve.id);
    expect(await history(eve)).toBe(2);
  });

  test('the history has every line with its source and stops at the newest fifty', async () => {
    const ada = await kit.signUp();
    for (let round = 0; round < 26; round += 1) {
      for (const email_allowed of [true, false])
        await ada.send('PATCH', '/users/profile/', { body: { email_allowed } });
    }
    const page = await kit.send('GET', await linkFor(ada));
    const history = historyOf(page);
    expect(history).toHaveLength(50);
    expect(wordsOf(page)).toContain('45 older entries');
    expect(wordsOf(page)).toContain('These are the newest 50 entries.');
    expect(history.slice(0, 2)).toEqual([
      expect.stringMatching(/^Withdrawn · E-mail · Offers and news \d+ \w+ \d{4} at \d\d:\d\d UTC · In the account/),
      expect.stringMatching(/^Allowed · E-mail · Offers and news /),
    ]);
  });

  test('what has run out by the clock shows as over, and can be said again', async () => {
    const ada = await kit.signUp({ email_allowed: true });
    await kit.set('CONSENT_VALIDITY', 3600);
    kit.advance(3_700_000);
    const link = await linkFor(ada);
    const page = await kit.send('GET', link);
    expect(rowOf(page, 'marketing.email')).toMatch(/Not allowed: expired · since /);
    await save(link, page, { 'marketing.email': true });
    expect(brief(await linesOf(ada.id))).toEqual([
      'marketing email grant registration',
      'marketing email expire system',
      'marketing email grant preference_page',
    ]);
    await kit.set('CONSENT_VALIDITY', null);
  });

  test('an address that messages came back from is shown as such, and its holder can lift that', async () => {
    const ada = await kit.signUp({ email_allowed: true });
    await sayOne(kit.ctx, {
      about: { point: await pointOf(ada.email) },
      channel: 'email',
      purpose: 'marketing',
      intent: 'suppress',
      by: { voice: 'shop' },
      source: 'system',
      actor: 'system',
      evidence: {},
    });
    const link = await linkFor(ada);
    const page = await kit.send('GET', link);
    expect(rowOf(page, 'marketing.email')).toMatch(/Blocked · since .* Nothing is sent here: a message came back/);
    expect(formOf(page).on['marketing.email']).toBe(false);
    await save(link, page);
    expect(await stateOf(ada.email, 'email')).toBe('suppressed');
    await save(link, page, { 'marketing.email': true });
    expect(await stateOf(ada.email, 'email')).toBe('granted');
  });

  test.each([
    ['email', 'ada@example.com', 'a***@example.com'],
    ['email', 'ö@example.com', 'ö***@example.com'],
    ['email', '😀x@a.example', '😀***@a.example'],
    ['phone', '+905321234567', '+90 532 *** ** 67'],
    ['phone', '+31612345678', '+31 6 1*****78'],
    ['phone', '+3545812345', '+354 *** **45'],
  ] as const)('an address of kind %s, %s, is shown as %s', (kind, value, shown) => {
    expect(masked(kind, value)).toBe(shown);
  });
});

describe('double opt-in', () => {
  const CONFIRM = /https:\/\/assent\.example(\/preferences\/confirm\/[\w-]{36}a)\s*/;
  const messagesTo = async (medium: 'sms' | 'mail', recipient: string) =>
    (await kit.outbox(medium)).filter((message) => message.recipient === recipient);
  const requestsOf = ({ text }: Reply): string[] =>
    [...text.matchAll(/name="request" value="([\w-]+)"/g)].map(([, id]) => id!);
  const answer = (link: string, page: Reply, said: string): Promise<Reply> =>
    kit.send('POST', link, { form: [...requestsOf(page).map((id) => `request=${id}`), `answer=${said}`].join('&') });

  test('by mail: one message for all that is open, and a yes there is a consent', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const text = await notice();
    const ada = await kit.signUp({ email_allowed: true });
    await sayOne(kit.ctx, {
      about: { point: await pointOf(ada.email) },
      account: ada.id,
      channel: 'email',
      purpose: 'birthday',
      intent: 'grant',
      by: { voice: 'person', proven: true },
      source: 'account',
      actor: `account:${ada.id}`,
      evidence: {},
    });
    await kit.jobs();
    const mails = await messagesTo('mail', ada.email);
    expect(mails.map(({ subject }) => subject)).toEqual(['Please confirm: messages from The shop']);
    expect(mails[0]!.body).toContain('– Birthday gift: E-mail\n– Offers and news: E-mail\n');
    const link = CONFIRM.exec(mails[0]!.body)![1]!;
    const page = await kit.send('GET', link);
    expect(page.status).toBe(200);
    expect(wordsOf(page)).toContain('We write to you about &lt;offers&gt; &amp; news.');
    expect(page.text.match(/<button/g)).toHaveLength(2);
    expect(requestsOf(page)).toHaveLength(2);
    expect((await ada.send('GET', '/users/profile/')).body.email_allowed).toBe(false);

    const reply = await answer(link, page, 'yes');
    expect([reply.status, wordsOf(reply)]).toEqual([200, expect.stringContaining('Thank you, it is confirmed.')]);
    const lines = await linesOf(ada.id);
    expect(brief(lines)).toEqual([
      'marketing email request registration',
      'birthday email request account',
      'birthday email confirm confirmation',
      'marketing email confirm confirmation',
    ]);
    expect(lines[3]).toMatchObject({ actor: 'address', account: ada.id, proven: true, notice: text.id });
    expect((await ada.send('GET', '/users/profile/')).body.email_allowed).toBe(true);
    // Answered is answered: neither the page nor a replayed form does anything more.
    expect((await kit.send('GET', link)).status).toBe(410);
    expect((await answer(link, page, 'no')).status).toBe(410);
    expect(await linesOf(ada.id)).toHaveLength(4);
    await kit.rows(
      `select graphile_worker.add_job('ask_to_confirm', json_build_object('point', $1::bigint))`,
      await pointOf(ada.email),
    );
    await kit.jobs();
    expect(await messagesTo('mail', ada.email)).toHaveLength(1);
  });

  test('by SMS, in the language of the account, and a no there is a refusal', async () => {
    await kit.set('DOUBLE_OPT_IN', ['sms', 'whatsapp']);
    const phone = newPhone();
    const ada = await kit.signUp({ phone });
    await ada.send('PATCH', '/users/profile/', { body: { language_code: 'tr-tr' } });
    await ada.send('PATCH', '/users/profile/', {
      body: { sms_allowed: true, whatsapp_allowed: true, call_allowed: true },
    });
    await kit.jobs();
    const e164 = `+90${phone.slice(1)}`;
    const [sms, ...more] = await messagesTo('sms', e164);
    expect([sms!.body, more]).toEqual([
      expect.stringMatching(/^The shop: bu numaraya mesaj almak istiyor musunuz\?/),
      [],
    ]);
    const link = CONFIRM.exec(sms!.body)![1]!;
    const page = await kit.send('GET', link);
    expect([page.headers['content-language'], requestsOf(page).length]).toEqual(['tr', 2]);
    expect(wordsOf(page)).toMatch(/\+90 532 \*\*\* \*\* \d\d/);
    const undecided = await answer(link, page, 'maybe');
    expect([undecided.status, undecided.text.includes('role="alert"')]).toEqual([400, true]);
    const nothing = await kit.send('POST', link, { form: 'answer=yes' });
    expect(nothing.status).toBe(400);
    expect((await answer(link, page, 'no')).status).toBe(200);
    expect(brief(await linesOf(ada.id)).slice(-2)).toEqual([
      'marketing sms refuse confirmation',
      'marketing whatsapp refuse confirmation',
    ]);
    expect(await stateOf(e164, 'call')).toBe('granted');
  });

  test('a page confirms what it showed, not what was asked after it', async () => {
    await kit.set('DOUBLE_OPT_IN', ['sms', 'whatsapp']);
    const phone = newPhone();
    const ada = await kit.signUp({ phone, sms_allowed: true });
    await kit.jobs();
    const e164 = `+90${phone.slice(1)}`;
    const link = CONFIRM.exec((await messagesTo('sms', e164))[0]!.body)![1]!;
    const page = await kit.send('GET', link);
    await ada.send('PATCH', '/users/profile/', { body: { whatsapp_allowed: true } });
    await answer(link, page, 'yes');
    expect([await stateOf(e164, 'sms'), await stateOf(e164, 'whatsapp')]).toEqual(['granted', 'pending']);
  });

  test('a question ends after its time', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email']);
    await kit.set('DOUBLE_OPT_IN_AGE', 3600);
    const ada = await kit.signUp({ email_allowed: true });
    await kit.jobs();
    const link = CONFIRM.exec((await messagesTo('mail', ada.email))[0]!.body)![1]!;
    const page = await kit.send('GET', link);
    expect(page.status).toBe(200);
    kit.advance(3_700_000);
    expect((await kit.send('GET', link)).status).toBe(410);
    expect((await answer(link, page, 'yes')).status).toBe(410);
    expect(await stateOf(ada.email, 'email')).not.toBe('granted');
    // The question's own time counts too: a link of today's message opens none of last month's.
    expect(brief(await linesOf(ada.id))).toEqual(['marketing email request registration']);
    await kit.set('DOUBLE_OPT_IN_AGE', 604_800);
  });

  test('three messages an address and day, whoever asks for more', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const ada = await kit.signUp();
    for (let round = 0; round < 5; round += 1) {
      await ada.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
      await kit.jobs();
      kit.advance(700_000);
    }
    expect(await messagesTo('mail', ada.email)).toHaveLength(3);
    kit.advance(DAY);
    await ada.send('PATCH', '/users/profile/', { body: { email_allowed: true } });
    await kit.jobs();
    expect(await messagesTo('mail', ada.email)).toHaveLength(4);
  });

  test('a message that was not taken is counted once, however often its job tries', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const { createTasks } = await import('../../src/app.ts');
    const ada = await kit.signUp({ email_allowed: true });
    const point = await pointOf(ada.email);
    let fails = 5;
    const sent: string[] = [];
    const tasks = createTasks(async (_ctx, { to }) => {
      fails -= 1;
      if (fails >= 0) throw new Error('421 try again');
      sent.push(to);
    }, 'https://assent.example');
    for (let round = 0; round < 5; round += 1)
      await expect(tasks['ask_to_confirm']!(kit.ctx, { point })).rejects.toThrow('421');
    await tasks['ask_to_confirm']!(kit.ctx, { point });
    expect(sent).toEqual([ada.email]);
  });

  test('numbers in countries that get no codes get no questions either, and a country’s day has its budget', async () => {
    await kit.set('DOUBLE_OPT_IN', ['sms']);
    const asked = async (): Promise<number> => {
      const phone = newPhone();
      await kit.signUp({ phone, sms_allowed: true });
      await kit.jobs();
      return (await messagesTo('sms', `+90${phone.slice(1)}`)).length;
    };
    kit.advance(DAY);
    await kit.set('SMS_COUNTRIES', ['NL']);
    expect(await asked()).toBe(0);
    await kit.set('SMS_COUNTRIES', null);
    await kit.set('SMS_BUDGET', {
      number_hour: null,
      account_day: null,
      address_hour: null,
      country_day: 2,
      newcomers_share: 1,
    });
    expect([await asked(), await asked(), await asked()]).toEqual([1, 1, 0]);
    kit.advance(DAY + 1000);
    expect(await asked()).toBe(1);
    await kit.set('SMS_BUDGET', { number_hour: 5, account_day: 10, address_hour: 20, country_day: 1000 });
  });

  test('nothing is asked of an address that was erased', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const ada = await kit.signUp({ email_allowed: true });
    await kit.rows('update contact_point set erased_at = now() where id = $1', await pointOf(ada.email));
    await kit.jobs();
    expect(await messagesTo('mail', ada.email)).toEqual([]);
  });

  test('the link itself proves its address: a yes on the page asks again only where the address is another', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email', 'sms']);
    const phone = newPhone();
    const e164 = `+90${phone.slice(1)}`;
    const ada = await kit.signUp({ phone });
    const link = await linkFor(ada);
    const reply = await save(link, await kit.send('GET', link), { 'marketing.email': true, 'marketing.sms': true });
    expect(reply.headers['location']).toBe(`${link}?saved=asked`);
    expect([await stateOf(ada.email, 'email'), await stateOf(e164, 'sms')]).toEqual(['granted', 'pending']);
    await kit.jobs();
    expect([(await messagesTo('mail', ada.email)).length, (await messagesTo('sms', e164)).length]).toEqual([0, 1]);

    const page = await kit.send('GET', reply.headers['location'] as string);
    expect(rowOf(page, 'marketing.sms')).toMatch(/Waiting for your confirmation, by the message/);
    expect(formOf(page).on['marketing.sms']).toBe(true);
    // Left alone it goes on waiting, without another message; switched off it is over.
    kit.advance(700_000);
    await save(link, page);
    await kit.jobs();
    expect(await messagesTo('sms', e164)).toHaveLength(1);
    await save(link, page, { 'marketing.sms': false });
    expect(brief(await linesOf(ada.id)).at(-1)).toBe('marketing sms refuse preference_page');
    const confirm = CONFIRM.exec((await messagesTo('sms', e164))[0]!.body)![1]!;
    expect((await kit.send('GET', confirm)).status).toBe(410);
  });

  test('what somebody else asked for waits on the page of the address, and is left waiting until its holder says so', async () => {
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const ada = await kit.signUp({ email_allowed: true });
    const link = await linkFor(ada);
    const page = await kit.send('GET', link);
    expect(rowOf(page, 'marketing.email')).toMatch(/Waiting for your confirmation: switch it on and save/);
    expect(formOf(page).on['marketing.email']).toBe(false);
    await save(link, page);
    expect(await stateOf(ada.email, 'email')).toBe('pending');
    await save(link, page, { 'marketing.email': true });
    expect(brief(await linesOf(ada.id))).toEqual([
      'marketing email request registration',
      'marketing email confirm preference_page',
    ]);
  });
});

test('all of it leaves the ledger whole, and no token in the log', async () => {
  expect((await kit.verify()).fault).toBeUndefined();
  expect(kit.logged.filter((line) => /\/(preferences|unsubscribe)\/[\w-]{30}/.test(line))).toEqual([]);
  expect(kit.logged.filter((line) => line.includes('"level":50'))).toEqual([]);
});
