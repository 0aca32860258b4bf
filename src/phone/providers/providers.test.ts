/** What each provider makes of messages and answers; what happens with them is in `test/journeys/sms.test.ts`. */
import { createHmac } from 'node:crypto';
import Type from 'typebox';
import Compile from 'typebox/compile';
import { describe, expect, test } from 'vitest';
import { type HttpAnswer, signedHeaders } from '../../calls.ts';
import { smsProviders } from './catalogue.ts';
import { type Message, objectOf } from './provider.ts';
import { twilioSignature } from './twilio.ts';

const at = new Date('2026-11-21T12:00:00.000Z');
const message: Message = {
  id: '0b7b2a52-9d8e-8d4c-a4a0-5d3c5a1f2e77',
  purpose: 'code',
  to: '+905321234567',
  text: 'Çok "güzel" & {secret}\n',
  at,
  reports: undefined,
};
const answers = (status: number, body: unknown = ''): HttpAnswer => ({
  status,
  headers: {},
  body: typeof body === 'string' ? body : JSON.stringify(body),
});
const {
  http,
  twilio,
  netgsm,
  console: printing,
} = smsProviders as Record<string, NonNullable<(typeof smsProviders)['http']>>;

const gateway = { provider: 'http', url: 'https://gateway.example/send' };
const account = { provider: 'twilio', account_sid: `AC${'0'.repeat(32)}`, auth_token: '12345', from: 'Shop' };
const subscriber = { provider: 'netgsm', usercode: '850', password: 'p', msgheader: 'SHOP' };

test('every provider says what it is, refuses what it does not know, and names secrets that it has', () => {
  for (const [name, { label, schema, secrets }] of Object.entries(smsProviders)) {
    expect(label.length, name).toBeGreaterThan(5);
    expect((schema as { additionalProperties?: unknown }).additionalProperties, name).toBe(false);
    expect(schema.properties['provider'], name).toEqual(Type.Literal(name));
    for (const secret of secrets) expect(Object.keys(schema.properties), name).toContain(secret);
  }
  expect(printing!.call).toBeUndefined();
});

describe('http', () => {
  test('puts values where they stand, encoded for it, and none of them is a place again', () => {
    const asked = http!.call!(
      {
        ...gateway,
        url: 'https://gateway.example/{id}?to={to}&n={digits}&t={text}&other={other}',
        headers: { 'X-Text': '{text}', Authorization: 'Bearer {secret}' },
        body: '{"a":{"text":"{text}"},"s":"{secret}"}',
        secret: 'a"b',
      },
      message,
    );
    expect(asked.url).toBe(
      `https://gateway.example/${message.id}?to=%2B905321234567&n=905321234567&t=%C3%87ok%20%22g%C3%BCzel%22%20%26%20%7Bsecret%7D%0A&other={other}`,
    );
    expect(asked.headers).toEqual({
      'content-type': 'application/json',
      'x-text': 'Çok "güzel" & {secret} ',
      authorization: 'Bearer a"b',
    });
    expect(JSON.parse(asked.body!)).toEqual({ a: { text: message.text }, s: 'a"b' });
    expect(asked.method).toBe('POST');
  });

  test('writes forms, sends no body with GET, and keeps a content type of the operator’s', () => {
    const form = http!.call!({ ...gateway, format: 'form', body: 'to={to}&text={text}' }, message);
    expect(Object.fromEntries(new URLSearchParams(form.body))).toEqual({ to: message.to, text: message.text });
    expect(form.headers).toEqual({ 'content-type': 'application/x-www-form-urlencoded' });
    const get = http!.call!({ ...gateway, method: 'GET', body: 'never' }, message);
    expect([get.body, get.headers]).toEqual([undefined, {}]);
    const typed = http!.call!(
      { ...gateway, headers: { 'Content-Type': 'application/vnd.x+json' }, body: '{}' },
      message,
    );
    expect(typed.headers).toEqual({ 'content-type': 'application/vnd.x+json' });
  });

  test('takes no header that the connection sets itself, nor a value that no header can hold', () => {
    const fits = (headers: Record<string, string>): boolean => Compile(http!.schema).Check({ ...gateway, headers });
    for (const name of ['Host', 'content-length', 'Connection', 'TRANSFER-ENCODING', 'upgrade', 'a b', 'a:', ''])
      expect([name, fits({ [name]: 'x' })]).toEqual([name, false]);
    for (const name of ['X-Host', 'hosts', 'Authorization', 'Idempotency-Key', 'x_y'])
      expect([name, fits({ [name]: 'Bearer {secret}' })]).toEqual([name, true]);
    for (const value of ['ş', 'a\nb', 'a\r', 'a\0', '\x7f', 'é'])
      expect([value, fits({ a: value })]).toEqual([value, false]);
    // What a place brings along is put into letters that fit.
    const { headers } = http!.call!({ ...gateway, headers: { a: '{text}' } }, { ...message, text: 'aş\x7fb\tc\u2028' });
    expect(headers['a']).toBe('a  b\tc ');
  });

  test('signs what it sends; the signature covers id, time and body', () => {
    const asked = http!.call!({ ...gateway, body: '{text}', signing_secret: 'sixteen letters!' }, message);
    expect(asked.headers).toMatchObject(signedHeaders('sixteen letters!', message.id, at, asked.body!));
  });

  test.each([
    [{}, answers(204), { taken: true, id: null }],
    [{ id_field: 'data.0.id' }, answers(200, { data: [{ id: 7 }] }), { taken: true, id: '7' }],
    [{ id_field: 'id' }, answers(200, 'OK'), { taken: true, id: null }],
    [{ id_field: 'constructor.name' }, answers(200, {}), { taken: true, id: null }],
    [{ taken: { field: 'ok', value: true } }, answers(200, { ok: true }), { taken: true, id: null }],
    [
      { taken: { field: 'ok', value: true } },
      answers(200, { ok: false }),
      { taken: false, again: true, reason: 'answer not as it should be' },
    ],
    [
      { taken: { field: 's', value: 0, never: [4] } },
      answers(200, { s: 4 }),
      { taken: false, again: false, reason: 'answer 4' },
    ],
    [
      { taken: { field: 's', value: 0, never: [4] } },
      answers(200, { s: '+905321234567 is bad' }),
      { taken: false, again: true, reason: 'answer not as it should be' },
    ],
    [
      { taken: { field: 's', value: 0 } },
      answers(200, '<html>'),
      { taken: false, again: true, doubtful: true, reason: 'answer not understood' },
    ],
    [{}, answers(302), { taken: false, again: true, reason: 'HTTP 302' }],
    [{}, answers(400), { taken: false, again: false, reason: 'HTTP 400' }],
    [{}, answers(401), { taken: false, again: true, reason: 'HTTP 401' }],
    [{}, answers(429), { taken: false, again: true, reason: 'HTTP 429' }],
    [{}, answers(503), { taken: false, again: true, reason: 'HTTP 503' }],
    [{}, answers(504), { taken: false, again: true, doubtful: true, reason: 'HTTP 504' }],
  ])('with %j takes %j for %j', (more, answer, handed) => {
    expect(http!.read!({ ...gateway, ...more }, answer)).toEqual(handed);
  });

  test('believes no report without a secret of its own', () => {
    const body = '{"id":"1","state":"delivered"}';
    const headers = signedHeaders('', 'x', at, body);
    expect(http!.reports!(gateway, { url: '', headers, body, at })).toBeUndefined();
    const secret = 'sixteen letters!';
    const signed = signedHeaders(secret, 'x', at, body);
    const read = (more: object): unknown =>
      http!.reports!({ ...gateway, signing_secret: secret }, { url: '', headers: { ...signed, ...more }, body, at });
    expect(read({})).toEqual([{ id: '1', state: 'delivered' }]);
    expect(read({ 'webhook-signature': `v1,AAAA ${signed['webhook-signature']}` })).toEqual([
      { id: '1', state: 'delivered' },
    ]);
    expect(read({ 'webhook-id': 'y' })).toBeUndefined();
    expect(read({ 'webhook-timestamp': undefined })).toBeUndefined();
    expect(read({ 'webhook-timestamp': 'NaN' })).toBeUndefined();
  });
});

describe('twilio', () => {
  test('signs as its documentation’s example does', () => {
    // The example of "Validating requests".
    const form = new URLSearchParams({
      CallSid: 'CA1234567890ABCDE',
      Caller: '+12349013030',
      Digits: '1234',
      From: '+12349013030',
      To: '+18005551212',
    });
    expect(twilioSignature('12345', 'https://mycompany.com/myapp.php?foo=1&bar=2', form).toString('base64')).toBe(
      '0/KCTR6DLpKmkAf8muzZqo1nDgQ=',
    );
  });

  test('signs thousands of parameters in one pass, each value of a name once', () => {
    const form = new URLSearchParams(
      Array.from({ length: 5000 }, (_, n): [string, string] => [`p${n % 2500}`, String(n % 2)]),
    );
    form.append('p1', '0');
    form.getAll = () => {
      throw new Error('looks through all of them for each');
    };
    const names = Array.from({ length: 2500 }, (_, n) => `p${n}`).sort();
    const text = names.map((name) => (name === 'p1' ? 'p10p11' : `${name}${Number(name.slice(1)) % 2}`));
    const expected = createHmac('sha1', '12345')
      .update(`https://assent.example/${text.join('')}`)
      .digest('base64');
    expect(twilioSignature('12345', 'https://assent.example/', form).toString('base64')).toBe(expected);
  });

  test('names a sender, or a messaging service; asks for reports only where they can come in', () => {
    const form = (from: string, more: object = {}): object =>
      Object.fromEntries(new URLSearchParams(twilio!.call!({ ...account, from }, { ...message, ...more }).body));
    const service = `MG${'a'.repeat(32)}`;
    expect(form('Shop')).toEqual({ To: message.to, From: 'Shop', Body: message.text });
    expect(form(service)).toEqual({ To: message.to, MessagingServiceSid: service, Body: message.text });
    expect(form('Shop', { reports: 'https://a.example/x' })).toMatchObject({ StatusCallback: 'https://a.example/x' });
    expect(twilio!.call!({ ...account, url: 'http://proxy.example/twilio/' }, message).url).toBe(
      `http://proxy.example/twilio/2010-04-01/Accounts/${account.account_sid}/Messages.json`,
    );
    expect(twilio!.call!(account, message).url).toMatch(/^https:\/\/api\.twilio\.com\/2010-04-01\//);
  });

  test.each([
    [answers(201, { sid: 'SM1', status: 'queued' }), { taken: true, id: 'SM1' }],
    [
      answers(201, { sid: 'SM1', status: 'failed', error_code: 30008 }),
      { taken: false, again: false, reason: 'code 30008' },
    ],
    [answers(200, 'ok'), { taken: false, again: true, doubtful: true, reason: 'answer not understood' }],
    [
      answers(400, { code: 21211, message: 'The number +905321234567 is not valid' }),
      { taken: false, again: false, reason: 'HTTP 400, code 21211' },
    ],
    [answers(401, { code: 20003 }), { taken: false, again: true, reason: 'HTTP 401, code 20003' }],
    [answers(429, { code: 20429 }), { taken: false, again: true, reason: 'HTTP 429, code 20429' }],
    [answers(500, '<html>'), { taken: false, again: true, reason: 'HTTP 500' }],
  ])('takes %j for %j', (answer, handed) => {
    expect(twilio!.read!(account, answer)).toEqual(handed);
  });

  test('reads a callback that was signed without the port, and none that was signed for another address', () => {
    const body = 'MessageSid=SM1&MessageStatus=delivered';
    const read = (told: string, signed: string): unknown =>
      twilio!.reports!(account, {
        url: told,
        headers: {
          'x-twilio-signature': twilioSignature('12345', signed, new URLSearchParams(body)).toString('base64'),
        },
        body,
        at,
      });
    const delivered = [{ id: 'SM1', state: 'delivered' }];
    expect(read('https://a.example:8443/r', 'https://a.example:8443/r')).toEqual(delivered);
    expect(read('https://a.example:8443/r', 'https://a.example/r')).toEqual(delivered);
    expect(read('https://a.example/r', 'https://b.example/r')).toBeUndefined();
    expect(read('https://a.example/r?message=1', 'https://a.example/r?message=2')).toBeUndefined();
  });
});

describe('netgsm', () => {
  test('sends codes by the road for codes only where it is bought, and without Turkish letters', () => {
    const sent = (more: object, purpose: Message['purpose']): [string, object] => {
      const { url, body } = netgsm!.call!(
        { ...subscriber, ...more },
        { ...message, purpose, text: 'Kodunuz ğüşİöçı: é' },
      );
      return [url, JSON.parse(body!)];
    };
    expect(sent({ otp: true }, 'code')).toEqual([
      'https://api.netgsm.com.tr/sms/rest/v2/otp',
      { msgheader: 'SHOP', msg: 'Kodunuz gusIoci: e', no: '5321234567' },
    ]);
    const usual = [
      'https://api.netgsm.com.tr/sms/rest/v2/send',
      {
        msgheader: 'SHOP',
        encoding: 'TR',
        iysfilter: '0',
        messages: [{ msg: 'Kodunuz ğüşİöçı: é', no: '5321234567' }],
      },
    ];
    expect(sent({ otp: true }, 'text')).toEqual(usual);
    expect(sent({}, 'code')).toEqual(usual);
  });

  test.each([
    [answers(200, { code: '00', jobid: '1' }), { taken: true, id: '1' }],
    [answers(200, { code: '00', jobId: 2 }), { taken: true, id: '2' }],
    [answers(200, { code: '00', jobid: '9'.repeat(26) }), { taken: true, id: '9'.repeat(26) }],
    [answers(200, { code: '00' }), { taken: false, again: true, doubtful: true, reason: 'answer not understood' }],
    [answers(406, { code: '70', description: 'no: 5321234567' }), { taken: false, again: false, reason: 'code 70' }],
    [answers(200, { code: '50' }), { taken: false, again: false, reason: 'code 50' }],
    [answers(406, { code: '30' }), { taken: false, again: true, reason: 'code 30' }],
    [answers(406, { code: '80' }), { taken: false, again: true, reason: 'code 80' }],
    [answers(200, { code: '100' }), { taken: false, again: true, reason: 'code 100' }],
    [answers(200, 'bakım'), { taken: false, again: true, doubtful: true, reason: 'answer not understood' }],
    [answers(502, 'bakım'), { taken: false, again: true, reason: 'HTTP 502' }],
  ])('takes %j for %j', (answer, handed) => {
    expect(netgsm!.read!(subscriber, answer)).toEqual(handed);
  });

  test('hears of ends only, and of no other than it knows', () => {
    const jobs = [
      { jobid: 1, status: 1, errorCode: 0 },
      { jobid: '2', status: 0 },
      { jobid: '3', status: 13 },
      { jobid: '4', status: 15 },
      { jobid: '9'.repeat(26), status: 1 },
      { jobid: '5', status: 'constructor' },
      null,
    ];
    expect(netgsm!.told!(answers(200, { code: '00', jobs }))).toEqual([
      { id: '1', state: 'delivered' },
      { id: '4', state: 'failed', reason: 'status 15' },
      { id: '9'.repeat(26), state: 'delivered' },
    ]);
    expect(netgsm!.told!(answers(406, { code: '60' }))).toEqual([]);
    expect(netgsm!.told!(answers(200, 'bakım'))).toEqual([]);
  });
});

test('an answer that is no object has no properties', () => {
  for (const body of ['null', '[1]', '"x"', '', '{'])
    expect(objectOf({ status: 200, headers: {}, body }), body).toEqual({});
});
