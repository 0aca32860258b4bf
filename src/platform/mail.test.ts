import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Ctx } from './ctx.ts';
import { createMailer } from './mail.ts';

/** A mail server of a shop: takes what it is given, or refuses a recipient. */
const refusals = new Map([
  ['full@example.com', 'mailbox full'],
  ['Moved@example.com', 'no <Moved@example.com> here, try new.moved@example.com'],
]);
const taken: { from: string; to: string[]; user: string | undefined; text: string }[] = [];
const server = new SMTPServer({
  hideSTARTTLS: true,
  allowInsecureAuth: true,
  onAuth: ({ username, password }, _session, done) =>
    password === 'p@ss' && username !== undefined ? done(null, { user: username }) : done(new Error('wrong password')),
  onRcptTo: ({ address }, _session, done) => done(refusals.has(address) ? new Error(refusals.get(address)) : null),
  onData(stream, session, done) {
    let text = '';
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      text += chunk;
    });
    stream.on('end', () => {
      const { mailFrom, rcptTo } = session.envelope;
      const from = mailFrom === false ? '' : mailFrom.address;
      taken.push({ from, to: rcptTo.map(({ address }) => address), user: session.user as string | undefined, text });
      done();
    });
  },
});
let port: number;

beforeAll(async () => {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  port = (server.server.address() as AddressInfo).port;
});
beforeEach(() => {
  taken.length = 0;
});
afterAll(() => new Promise<void>((resolve) => void server.close(() => resolve())));

/** All a mailer looks at. */
const ctx = { settings: { get: () => 'Usta Bakery <post@usta.example>' } } as unknown as Ctx;
const mailer = (credentials: string) => createMailer(`smtp://${credentials}@127.0.0.1:${port}`);

test('a mail goes out over SMTP, from MAIL_FROM, with the credentials of the address', async () => {
  await mailer('shop:p%40ss')(ctx, { to: 'ada@example.com', subject: 'Şifre', text: 'Kod: 123456\n.\nSon' });
  expect(taken).toHaveLength(1);
  const [{ text, ...envelope }] = taken as [(typeof taken)[number]];
  expect(envelope).toEqual({ from: 'post@usta.example', to: ['ada@example.com'], user: 'shop' });
  expect(text).toContain('From: Usta Bakery <post@usta.example>\r\n');
  expect(text).toContain(`Subject: =?UTF-8?Q?=C5=9Eifre?=\r\n`);
  // A line of one dot ends a mail in SMTP; it must come through as text.
  expect(text).toContain('\r\n\r\nKod: 123456\r\n.\r\nSon');
});

test('a line break in a subject makes no header', async () => {
  await mailer('shop:p%40ss')(ctx, { to: 'ada@example.com', subject: 'Hello\r\nBcc: eve@example.com', text: 'x' });
  expect(taken.map(({ to }) => to)).toEqual([['ada@example.com']]);
  expect(taken[0]!.text).not.toMatch(/^Bcc:/m);
});

test.each([
  ['a refused recipient', 'shop:p%40ss', 'full@example.com', /mailbox full/],
  ['a wrong password', 'shop:guess', 'ada@example.com', /wrong password/],
])('%s is an error, so that the job tries again', async (_name, credentials, to, reason) => {
  await expect(mailer(credentials)(ctx, { to, subject: 's', text: 't' })).rejects.toThrow(reason);
  expect(taken).toEqual([]);
});

test('what it failed with names nobody: it is logged and kept with the job', async () => {
  const failed = await mailer('shop:p%40ss')(ctx, { to: 'Moved@example.com', subject: 's', text: 't' }).catch((e) => e);
  expect(failed.message).toBe("Can't send mail - all recipients were rejected: 550 no … here, try …");
  expect(String(failed.stack) + String(failed.cause)).not.toMatch(/moved|example\.com/i);
});

test('a mail server that is away is an error', async () => {
  const away = createMailer('smtp://127.0.0.1:1');
  await expect(away(ctx, { to: 'ada@example.com', subject: 's', text: 't' })).rejects.toThrow(/ECONNREFUSED/);
});
