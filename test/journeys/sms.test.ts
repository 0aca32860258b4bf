/** Messages and their providers: whatever a gateway does, nobody waits for it, and no code is anywhere but on its way. */
import { execFile } from 'node:child_process';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { Webhook } from 'standardwebhooks';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createHttp, crews } from '../../src/app.ts';
import { basic, signedHeaders } from '../../src/calls.ts';
import { twilioSignature } from '../../src/phone/providers/twilio.ts';
import { mayText, sendTextBy } from '../../src/phone/texts.ts';
import { SECRET } from '../engine.ts';
import { type Client, createKit, type Kit, type Reply } from '../kit.ts';

interface Received {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

const LOYALTY = '/users/profile-with-loyalty/';
const SIGNING = 'a signing secret of the tests';
const ACCOUNT_SID = `AC${'0'.repeat(32)}`;

let kit: Kit;
/** The same service as it is reached under its public address. */
let open: FastifyInstance;
let gateway: Server;
let base: string;
let received: Received[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let numbers = 0;

const says =
  (status: number, body: unknown = {}) =>
  (_request: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  };
/** Answers one after the other; the last one for ever. */
const inTurn = (...answers: (typeof answer)[]): typeof answer => {
  let turn = 0;
  return (request, response) => answers[Math.min(turn++, answers.length - 1)]!(request, response);
};
const silence = (): void => {};

const ours = (): Record<string, unknown> => ({
  provider: 'http',
  url: `${base}/send?key={secret}`,
  headers: { 'X-Key': '{secret}' },
  body: '{"to":"{to}","text":"{text}","id":"{id}","reports":"{reports}"}',
  secret: 'the secret of a gateway',
  signing_secret: SIGNING,
  id_field: 'message.id',
});
const twilio = (): Record<string, unknown> => ({
  provider: 'twilio',
  account_sid: ACCOUNT_SID,
  auth_token: 'a token of twilio',
  from: '+15005550006',
  url: base,
});
const netgsm = (): Record<string, unknown> => ({
  provider: 'netgsm',
  usercode: '8501112233',
  password: 'a password of netgsm',
  msgheader: 'ASSENT',
  otp: true,
  url: base,
});

beforeAll(async () => {
  kit = await createKit();
  open = await createHttp(kit.ctx, { trustedProxies: [], publicUrl: 'https://assent.example' });
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null, otp: null });
  await kit.set('SMS_BUDGET', {
    number_hour: null,
    number_day: null,
    account_day: null,
    address_hour: null,
    country_day: null,
    installation_day: null,
  });
  await kit.set('OTP_RESEND_SECONDS', 0);
  gateway = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (piece: string) => {
      body += piece;
    });
    request.on('end', () => {
      received.push({ path: request.url!, headers: request.headers as Record<string, string>, body });
      answer(request, response);
    });
  });
  await new Promise<void>((done) => gateway.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`;
});
afterAll(async () => {
  gateway.closeAllConnections();
  await new Promise((done) => gateway.close(done));
  await open.close();
  await kit.close();
});
beforeEach(async () => {
  received = [];
  answer = says(200, { message: { id: 'g-1' } });
  await kit.set('SMS_PROVIDER', ours());
  await kit.set('SMS_TIMEOUT', 10);
});
afterEach(async () => {
  await kit.rows('delete from graphile_worker._private_jobs');
  await kit.rows('delete from sms_message');
});

const newNumber = (): string => `+90532${2_000_000 + numbers++}`;

/** Somebody who has asked for a code, and the answer they got before any job ran. */
async function asking(): Promise<{ client: Client; phone: string }> {
  const client = await kit.signUp();
  const phone = newNumber();
  const reply = await client.send('PATCH', LOYALTY, { body: { phone } });
  expect([reply.status, reply.text]).toEqual([202, '']);
  return { client, phone };
}

const messages = (): Promise<Record<string, unknown>[]> =>
  kit.rows('select status, attempts, unanswered, reason from sms_message order by created_at, id');

/** Jobs that wait, with the seconds each was put off. */
const planned = (task: string): Promise<{ payload: unknown; delay: number }[]> =>
  kit.rows(
    `select j.payload, round(extract(epoch from j.run_at - j.created_at))::int as delay
       from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
      where t.identifier = $1 order by j.id`,
    task,
  );

/** Has what is planned for later be due, and does it. */
async function later(): Promise<void> {
  await kit.rows(`update graphile_worker._private_jobs set run_at = now() - interval '1 second'`);
  await kit.jobs();
}

const codeIn = (body: string): string => /\b\d{6}\b/.exec(JSON.parse(body).text)![0];

/** Everything a code, a number or a secret could have been left in, without the fractions of seconds, which have six digits too. */
async function traces(): Promise<string> {
  const tables = await kit.rows<{ row: string }>(`
    select to_jsonb(j)::text as row from graphile_worker._private_jobs j
    union all select to_jsonb(m)::text from sms_message m
    union all select to_jsonb(s)::text from setting s
    union all select to_jsonb(c)::text from setting_change c`);
  return [...kit.logged, ...tables.map(({ row }) => row)].join('\n').replaceAll(/(:\d\d)\.\d+/g, '$1');
}

describe('a code', () => {
  test('goes to the gateway once, signed, by a job, and proves the number; nothing else knows it', async () => {
    const { client, phone } = await asking();
    expect(received).toEqual([]);
    expect(await planned('send_code')).toEqual([{ payload: { account: client.id }, delay: 0 }]);
    await kit.jobs();
    expect(received.map(({ path }) => path)).toEqual(['/send?key=the%20secret%20of%20a%20gateway']);
    const [{ headers, body }] = received as [Received];
    expect(headers['x-key']).toBe('the secret of a gateway');
    const code = codeIn(body);
    const id = headers['webhook-id'];
    expect(new Webhook(Buffer.from(SIGNING).toString('base64')).verify(body, headers)).toEqual({
      to: phone,
      text: `Your code is ${code}. Do not give it to anybody.`,
      id,
      reports: `https://assent.example/v1/sms/reports/http?message=${id}`,
    });
    expect(
      await kit.rows('select id, purpose, account, provider, provider_id, status, attempts from sms_message'),
    ).toEqual([
      { id, purpose: 'code', account: client.id, provider: 'http', provider_id: 'g-1', status: 'sent', attempts: 1 },
    ]);
    const left = await traces();
    for (const secret of [code, phone.slice(3), 'the secret of a gateway', SIGNING])
      expect(left).not.toMatch(new RegExp(`(?<![0-9])${secret}(?![0-9])`));
    const done = await client.send('PATCH', LOYALTY, { body: { phone, code } });
    expect([done.status, done.body.phone]).toEqual([200, phone]);
  });

  test('is tried again by a schedule of seconds while the gateway is down, with one id, and works when it is up', async () => {
    answer = inTurn(says(503), says(429), says(500), says(200));
    const { client, phone } = await asking();
    await kit.jobs();
    const delays: number[] = [];
    for (let n = 0; n < 3; n++) {
      const [job, ...more] = await planned('send_code');
      expect([job!.payload, more]).toEqual([{ account: client.id }, []]);
      delays.push(job!.delay);
      await later();
    }
    expect(delays).toEqual([2, 5, 10]);
    expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(new Set(received.map(({ body }) => body)).size).toBe(1);
    expect(await messages()).toEqual([{ status: 'sent', attempts: 4, unanswered: 0, reason: null }]);
    expect(await planned('send_code')).toEqual([]);
    const code = codeIn(received[3]!.body);
    expect((await client.send('PATCH', LOYALTY, { body: { phone, code } })).status).toBe(200);
  });

  test('is given up after eight attempts, and leaves neither code nor number nor secret behind', async () => {
    answer = says(503, 'no gateway today');
    await kit.set('SMS_PROVIDER', { ...ours(), method: 'GET', url: `${base}/?to={to}&text={text}&key={secret}` });
    const { phone } = await asking();
    const before = kit.logged.length;
    await kit.jobs();
    const text = decodeURIComponent(received[0]!.path);
    const code = /\b\d{6}\b/.exec(text.slice(text.indexOf('text=')))![0];
    expect(received[0]!.body).toBe('');
    for (let n = 0; n < 8; n++) {
      for (const secret of [code, phone.slice(3), 'the secret of a gateway', 'no gateway today'])
        expect(await traces()).not.toMatch(new RegExp(`(?<![0-9])${secret}(?![0-9])`));
      await later();
    }
    expect(received).toHaveLength(8);
    expect(await messages()).toEqual([{ status: 'failed', attempts: 8, unanswered: 0, reason: 'HTTP 503' }]);
    expect(await planned('send_code')).toEqual([]);
    expect(kit.logged.slice(before).filter((line) => line.includes('given up'))).toHaveLength(1);
  });

  test('that nobody can use any more is not sent', async () => {
    answer = says(503);
    await asking();
    await kit.jobs();
    kit.advance(181_000);
    await later();
    expect(received).toHaveLength(1);
    expect(await messages()).toEqual([
      { status: 'failed', attempts: 1, unanswered: 0, reason: 'HTTP 503; the code is spent or expired' },
    ]);
    expect(await planned('send_code')).toEqual([]);
  });

  test('is not planned for after its end', async () => {
    await kit.set('SMS_OTP_EXPIRE_TIME', 30);
    answer = says(503);
    await asking();
    await kit.jobs();
    for (let n = 0; n < 4; n++) await later();
    // The sixth would come 40 seconds later.
    expect(await messages()).toEqual([{ status: 'failed', attempts: 5, unanswered: 0, reason: 'HTTP 503' }]);
    expect(await planned('send_code')).toEqual([]);
    await kit.set('SMS_OTP_EXPIRE_TIME', 180);
  });

  test('that the gateway will never take is not tried again', async () => {
    answer = says(422);
    await asking();
    await kit.jobs();
    expect(await messages()).toEqual([{ status: 'failed', attempts: 1, unanswered: 0, reason: 'HTTP 422' }]);
    expect(await planned('send_code')).toEqual([]);
  });

  test('whose connection is refused was not heard of: it is tried as often as one that was refused', async () => {
    const deaf = createServer();
    await new Promise<void>((done) => deaf.listen(0, '127.0.0.1', done));
    const { port } = deaf.address() as AddressInfo;
    await new Promise((done) => deaf.close(done));
    await kit.set('SMS_PROVIDER', { ...ours(), url: `http://127.0.0.1:${port}/` });
    await asking();
    await kit.jobs();
    await later();
    await later();
    expect(await messages()).toEqual([{ status: 'sending', attempts: 3, unanswered: 0, reason: 'connection refused' }]);
    await kit.set('SMS_PROVIDER', ours());
    await later();
    expect(await messages()).toEqual([{ status: 'sent', attempts: 4, unanswered: 0, reason: null }]);
  });

  test('without an answer in time is repeated once under the same id', async () => {
    await kit.set('SMS_TIMEOUT', 1);
    answer = inTurn(silence, says(200, { message: { id: 17 } }));
    const { client, phone } = await asking();
    await kit.jobs();
    expect(await messages()).toEqual([{ status: 'sending', attempts: 1, unanswered: 1, reason: 'no answer in time' }]);
    // The customer is not told, and can read and change everything else meanwhile.
    expect((await client.send('GET', LOYALTY)).body).toMatchObject({ phone: null, code: null });
    expect((await client.send('PATCH', LOYALTY, { body: { first_name: 'Grace' } })).status).toBe(200);
    await kit.set('SMS_TIMEOUT', 10);
    await later();
    expect(await messages()).toEqual([{ status: 'sent', attempts: 2, unanswered: 1, reason: null }]);
    expect(received[1]!.headers['webhook-id']).toBe(received[0]!.headers['webhook-id']);
    expect(received[1]!.body).toBe(received[0]!.body);
    const code = codeIn(received[0]!.body);
    expect((await client.send('PATCH', LOYALTY, { body: { phone, code } })).status).toBe(200);
  });

  test('that was taken twice without a word goes out no third time', async () => {
    answer = (request) => void request.socket.destroy();
    await asking();
    await kit.jobs();
    expect(await planned('send_code')).toMatchObject([{ delay: 2 }]);
    await later();
    expect(received).toHaveLength(2);
    expect(await messages()).toEqual([{ status: 'failed', attempts: 2, unanswered: 2, reason: 'connection lost' }]);
    expect(await planned('send_code')).toEqual([]);
  });

  test('whose process died between asking and writing down counts as without an answer', async () => {
    answer = says(503);
    await asking();
    await kit.jobs();
    await kit.rows('update sms_message set unanswered = 2');
    await later();
    expect(received).toHaveLength(1);
    expect(await messages()).toEqual([{ status: 'failed', attempts: 1, unanswered: 2, reason: 'HTTP 503' }]);
  });

  test('to which the gateway answers garbage may have been taken: once more, and never a third time', async () => {
    await kit.set('SMS_PROVIDER', { ...ours(), taken: { field: 'status', value: 'ok', never: ['no such number'] } });
    answer = says(200, '<html>please sign in</html>');
    await asking();
    await kit.jobs();
    expect(await messages()).toEqual([
      { status: 'sending', attempts: 1, unanswered: 1, reason: 'answer not understood' },
    ]);
    await later();
    expect(received).toHaveLength(2);
    expect(await messages()).toEqual([
      { status: 'failed', attempts: 2, unanswered: 2, reason: 'answer not understood' },
    ]);
    expect(await planned('send_code')).toEqual([]);
  });

  test('is ended by a newer one, which is not put off by it', async () => {
    answer = inTurn(says(503), says(200));
    const { client, phone } = await asking();
    await kit.jobs();
    expect(await planned('send_code')).toMatchObject([{ delay: 2 }]);
    expect((await client.send('PATCH', LOYALTY, { body: { phone, resend: true } })).status).toBe(202);
    expect(await planned('send_code')).toMatchObject([{ delay: expect.toSatisfy((delay: number) => delay <= 0) }]);
    await kit.jobs();
    expect(received).toHaveLength(2);
    expect(codeIn(received[1]!.body)).not.toBe(codeIn(received[0]!.body));
    expect(await messages()).toEqual([
      { status: 'failed', attempts: 1, unanswered: 0, reason: 'HTTP 503; a newer code took its place' },
      { status: 'sent', attempts: 1, unanswered: 0, reason: null },
    ]);
  });

  test('that was asked for while the older one waited for its answer is sent at once and alone', async () => {
    let client: Client | undefined;
    let phone = '';
    answer = inTurn((request, response) => {
      void client!.send('PATCH', LOYALTY, { body: { phone, resend: true } }).then(() => says(503)(request, response));
    }, says(200));
    ({ client, phone } = await asking());
    await kit.jobs();
    await kit.jobs();
    expect(received).toHaveLength(2);
    expect(await messages()).toEqual([
      { status: 'failed', attempts: 1, unanswered: 0, reason: 'HTTP 503; a newer code took its place' },
      { status: 'sent', attempts: 1, unanswered: 0, reason: null },
    ]);
    expect(await planned('send_code')).toEqual([]);
  });
});

describe('delivery reports', () => {
  /** Sends a report as the gateway of a template does. */
  function report(body: object, { secret = SIGNING, at = kit.ctx.clock.now(), path = '/v1/sms/reports/http' } = {}) {
    const text = JSON.stringify(body);
    return kit.send('POST', path, { body: text, headers: signedHeaders(secret, 'report-1', at, text) });
  }
  const state = (): Promise<{ status: string; reason: string | null; ended: boolean }[]> =>
    kit.rows('select status, reason, ended_at is not null as ended from sms_message');
  const refusal = ({ status, headers, body }: Reply): unknown[] => [status, headers['content-type'], body.code];

  beforeEach(async () => {
    await asking();
    await kit.jobs();
  });

  test('are believed by their signature, harmless when they come twice, late or for nobody', async () => {
    const taken = await report({ id: 'g-1', state: 'delivered' });
    expect([taken.status, taken.text]).toEqual([200, '']);
    expect(await state()).toEqual([{ status: 'delivered', reason: null, ended: true }]);
    expect((await report({ id: 'g-1', state: 'delivered' })).status).toBe(200);
    expect((await report({ id: 'g-1', state: 'failed', reason: 'expired' })).status).toBe(200);
    expect((await report({ id: 'g-1', state: 'sent' })).status).toBe(200);
    expect((await report({ id: 'somebody else’s', state: 'failed' })).status).toBe(200);
    expect((await report({ id: 'g-1', state: 'lost in space' })).status).toBe(200);
    expect((await report(['what is this'])).status).toBe(200);
    expect(await state()).toEqual([{ status: 'delivered', reason: null, ended: true }]);
  });

  test('name a message by our id too, keep a code as the reason and no text, and failed turns to delivered', async () => {
    const id = received[0]!.headers['webhook-id']!;
    expect((await report({ id, state: 'failed', reason: 'call me at +905321112233' })).status).toBe(200);
    expect(await state()).toEqual([{ status: 'failed', reason: 'told by the gateway', ended: true }]);
    expect((await report({ id, state: 'delivered' })).status).toBe(200);
    expect(await state()).toEqual([{ status: 'delivered', reason: null, ended: true }]);
  });

  test('that are forged, old, or of a provider that is not the one in force, change nothing', async () => {
    const body = { id: 'g-1', state: 'delivered' };
    const forged = [401, 'application/problem+json', 'not_signed'];
    const now = kit.ctx.clock.now().getTime();
    expect(refusal(await report(body, { secret: 'another secret of somebody' }))).toEqual(forged);
    expect(refusal(await report(body, { at: new Date(now - 301_000) }))).toEqual(forged);
    expect(refusal(await report(body, { at: new Date(now + 310_000) }))).toEqual(forged);
    expect(refusal(await kit.send('POST', '/v1/sms/reports/http', { body }))).toEqual(forged);
    const moved = { 'webhook-id': 'x', 'webhook-timestamp': 'soon', 'webhook-signature': 'v1,AAAA' };
    expect(refusal(await kit.send('POST', '/v1/sms/reports/http', { body, headers: moved }))).toEqual(forged);
    const nobody = [404, 'application/problem+json', 'not_found'];
    for (const provider of ['twilio', 'console', 'netgsm', 'nobody', '__proto__', 'constructor'])
      expect(refusal(await report(body, { path: `/v1/sms/reports/${provider}` }))).toEqual(nobody);
    expect(await state()).toEqual([{ status: 'sent', reason: null, ended: false }]);
    await kit.set('SMS_PROVIDER', { provider: 'console' });
    expect(refusal(await report(body))).toEqual(nobody);
  });

  test('that name what no message can be called are passed over', async () => {
    for (const id of ['g-1\0', '\0']) expect((await report({ id, state: 'delivered' })).status).toBe(200);
    expect(await state()).toEqual([{ status: 'sent', reason: null, ended: false }]);
    await kit.rows('delete from sms_message');
    answer = says(200, { message: { id: 'g\0' } });
    await asking();
    await kit.jobs();
    expect(await kit.rows('select status, provider_id from sms_message')).toEqual([
      { status: 'sent', provider_id: null },
    ]);
  });

  test('end the repeating of a message whose answer got lost', async () => {
    await kit.rows('delete from sms_message');
    received = [];
    answer = (request) => void request.socket.destroy();
    await asking();
    await kit.jobs();
    expect((await report({ id: received[0]!.headers['webhook-id'], state: 'sent' })).status).toBe(200);
    await later();
    expect(received).toHaveLength(1);
    expect(await messages()).toEqual([{ status: 'sent', attempts: 1, unanswered: 1, reason: null }]);
  });
});

test('Twilio: the request, its callback with its own signature, and nobody else’s', async () => {
  await kit.set('SMS_PROVIDER', twilio());
  answer = says(201, { sid: 'SM1', status: 'queued', error_code: null });
  const { phone } = await asking();
  await kit.jobs();
  const [{ path, headers, body }] = received as [Received];
  expect(path).toBe(`/2010-04-01/Accounts/${ACCOUNT_SID}/Messages.json`);
  expect(headers['authorization']).toBe(basic(ACCOUNT_SID, 'a token of twilio'));
  const form = new URLSearchParams(body);
  const [row] = await kit.rows<{ id: string }>('select id from sms_message');
  expect(Object.fromEntries(form)).toEqual({
    To: phone,
    From: '+15005550006',
    Body: expect.stringMatching(/^Your code is \d{6}\. Do not give it to anybody\.$/),
    StatusCallback: `https://assent.example/v1/sms/reports/twilio?message=${row!.id}`,
  });
  const callback = async (fields: Record<string, string>, token = 'a token of twilio'): Promise<number> => {
    const url = form.get('StatusCallback')!;
    const sent = new URLSearchParams({ AccountSid: ACCOUNT_SID, MessageSid: 'SM1', To: phone, ...fields });
    const { statusCode } = await open.inject({
      method: 'POST',
      url: url.slice('https://assent.example'.length),
      payload: sent.toString(),
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'x-twilio-signature': twilioSignature(token, url, sent).toString('base64'),
      },
    });
    return statusCode;
  };
  const state = (): Promise<unknown[]> => kit.rows('select provider_id, status, reason from sms_message');
  expect(await callback({ MessageStatus: 'undelivered' }, 'another token')).toBe(401);
  expect(await callback({ MessageStatus: 'queued' })).toBe(200);
  expect(await state()).toEqual([{ provider_id: 'SM1', status: 'sent', reason: null }]);
  expect(await callback({ MessageStatus: 'undelivered', ErrorCode: '30005' })).toBe(200);
  expect(await state()).toEqual([{ provider_id: 'SM1', status: 'failed', reason: 'code 30005' }]);
  expect(await callback({ MessageStatus: 'delivered' })).toBe(200);
  expect(await state()).toEqual([{ provider_id: 'SM1', status: 'delivered', reason: null }]);
});

test('Netgsm: codes by their own road, other texts by the usual one, and reports are fetched', async () => {
  await kit.set('SMS_PROVIDER', netgsm());
  answer = says(200, { code: '00', jobId: '2201', description: 'queued' });
  const { phone } = await asking();
  await kit.jobs();
  expect(received.map(({ path }) => path)).toEqual(['/sms/rest/v2/otp']);
  expect(received[0]!.headers['authorization']).toBe(basic('8501112233', 'a password of netgsm'));
  expect(JSON.parse(received[0]!.body)).toEqual({
    msgheader: 'ASSENT',
    msg: expect.stringMatching(/^Your code is \d{6}\./),
    no: phone.slice(3),
  });
  answer = says(200, { code: '00', jobid: '2202', description: 'queued' });
  await sendTextBy(undefined)(kit.ctx, { to: '+33612345678', text: 'ş' });
  expect(received[1]!.path).toBe('/sms/rest/v2/send');
  expect(JSON.parse(received[1]!.body)).toEqual({
    msgheader: 'ASSENT',
    encoding: 'TR',
    iysfilter: '0',
    messages: [{ msg: 'ş', no: '0033612345678' }],
  });

  answer = says(200, {
    code: '00',
    jobs: [
      { jobid: '2201', status: 1, errorCode: 0 },
      { jobid: '2202', status: 0 },
    ],
  });
  await later();
  expect(received[2]!.path).toBe('/sms/rest/v2/report');
  const question = JSON.parse(received[2]!.body);
  expect({ ...question, jobids: question.jobids.sort() }).toEqual({
    jobids: ['2201', '2202'],
    pagenumber: 0,
    pagesize: 100,
  });
  const states = (): Promise<unknown[]> => kit.rows('select provider_id, status, reason from sms_message order by 1');
  expect(await states()).toEqual([
    { provider_id: '2201', status: 'delivered', reason: null },
    { provider_id: '2202', status: 'sent', reason: null },
  ]);
  answer = says(200, { code: '00', jobs: [{ jobid: '2202', status: 3, errorCode: 102 }] });
  await later();
  expect(JSON.parse(received[3]!.body).jobids).toEqual(['2202']);
  expect((await states())[1]).toEqual({ provider_id: '2202', status: 'failed', reason: 'status 3, error 102' });
  expect(await planned('check_sms')).toEqual([]);
});

test('of more messages than one question holds, each has its turn: the longest unasked first, and soon', async () => {
  await kit.set('SMS_PROVIDER', netgsm());
  answer = says(200, { code: '00', jobs: [] });
  const now = kit.ctx.clock.now();
  await kit.rows(
    `insert into sms_message (id, purpose, provider, provider_id, status, created_at)
     select gen_random_uuid(), 'code', 'netgsm', n, 'sent', $1::timestamptz - n * interval '1 minute'
       from generate_series(1, 150) n`,
    now,
  );
  const { expectReports } = await import('../../src/phone/reports.ts');
  await expectReports(kit.ctx, 'netgsm');
  const asked = (): number[] =>
    (JSON.parse(received.at(-1)!.body).jobids as string[]).map(Number).sort((a, b) => a - b);
  const from = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
  await later();
  expect(asked()).toEqual(from(51, 150));
  expect(await planned('check_sms')).toMatchObject([{ delay: expect.toSatisfy((delay: number) => delay <= 120) }]);
  kit.advance(60_000);
  await later();
  expect(asked()).toEqual([...from(1, 50), ...asked().filter((n) => n > 50)]);
  expect(received).toHaveLength(2);
});

test('codes of many accounts take sixteen lanes at most, those of one always the same', async () => {
  const { planCode } = await import('../../src/phone/verification.ts');
  const lanes = async (): Promise<string[]> =>
    (
      await kit.rows<{ name: string }>(
        `select q.queue_name as name from graphile_worker._private_jobs j
           join graphile_worker._private_job_queues q on q.id = j.job_queue_id order by j.id`,
      )
    ).map(({ name }) => name);
  for (let account = 1; account <= 200; account++) await planCode(kit.ctx, account);
  const first = await lanes();
  expect([first.length, new Set(first).size]).toEqual([200, 16]);
  for (const name of first) expect(name).toMatch(/^sms:([0-9]|1[0-5])$/);
  await kit.rows('delete from graphile_worker._private_jobs');
  for (let account = 1; account <= 200; account++) await planCode(kit.ctx, account, 5);
  expect(await lanes()).toEqual(first);
});

test('codes wait for no mail: no job that mails is done by those who send codes', () => {
  expect(crews.messengers.tasks).toEqual(['send_code', 'check_sms']);
  expect(crews.writers.tasks).toEqual(['ask_to_confirm', 'send_preference_link', 'tell_phone_change']);
  expect(crews.messengers.concurrency + crews.writers.concurrency).toBe(8);
});

describe('other texts', () => {
  const send = (): Promise<void> =>
    sendTextBy('https://assent.example')(kit.ctx, { to: '+905320000000', text: 'A question', about: 'question' });

  test('are repeated by their job under one id until they are taken; the next one has its own', async () => {
    answer = inTurn(says(503), says(200));
    await expect(send()).rejects.toThrow('no message was sent: HTTP 503');
    await send();
    await send();
    const ids = received.map(({ headers }) => headers['webhook-id']);
    expect(ids[1]).toBe(ids[0]);
    expect(ids[2]).not.toBe(ids[0]);
    expect(await messages()).toEqual([
      { status: 'sent', attempts: 2, unanswered: 0, reason: null },
      { status: 'sent', attempts: 1, unanswered: 0, reason: null },
    ]);
  });

  test('that will never be taken, or may have arrived twice, are done', async () => {
    answer = says(400);
    await send();
    expect(await messages()).toEqual([{ status: 'failed', attempts: 1, unanswered: 0, reason: 'HTTP 400' }]);
    answer = (request) => void request.socket.destroy();
    await expect(send()).rejects.toThrow('no message was sent: connection lost');
    await send();
    expect(received).toHaveLength(3);
    expect((await messages())[1]).toEqual({ status: 'failed', attempts: 2, unanswered: 2, reason: 'connection lost' });
  });
});

test('a text that is tried again is counted once', async () => {
  const budget = kit.ctx.settings.get('SMS_BUDGET');
  await kit.set('SMS_BUDGET', { ...budget, country_day: 1, newcomers_share: 1 });
  const message = { to: '+46701234567', text: 'hello', about: 'one thing' };
  const may = (about: string): Promise<boolean> => mayText(kit.ctx, message.to, { account: null, ip: null }, about);
  expect(await may('one thing')).toBe(true);
  answer = says(503);
  await expect(sendTextBy(undefined)(kit.ctx, message)).rejects.toThrow('no message was sent: HTTP 503');
  expect([await may('one thing'), await may('another')]).toEqual([true, false]);
  answer = says(200);
  await sendTextBy(undefined)(kit.ctx, message);
  expect(await may('one thing')).toBe(false);
  await kit.set('SMS_BUDGET', budget);
});

describe('secrets of a provider', () => {
  const HIDDEN = '********';
  const shown = (): object => ({ ...ours(), secret: HIDDEN, signing_secret: HIDDEN });

  test('are shown to nobody, are no plain text in the tables, and are kept when they come back as shown', async () => {
    const operator = await kit.operator();
    const put = await operator.send('PUT', '/v1/settings/SMS_PROVIDER', { body: { value: ours() } });
    expect([put.status, put.body.value]).toEqual([200, shown()]);
    expect((await operator.send('GET', '/v1/settings/SMS_PROVIDER')).body.value).toEqual(shown());
    const back = await operator.send('PUT', '/v1/settings/SMS_PROVIDER', {
      body: { value: { ...shown(), id_field: 'other' } },
    });
    expect([back.status, back.body.value]).toEqual([200, { ...shown(), id_field: 'other' }]);
    await kit.ctx.settings.refresh(kit.ctx.db);
    expect(kit.ctx.settings.get('SMS_PROVIDER')).toEqual({ ...ours(), id_field: 'other' });
    const history = await operator.send('GET', '/v1/settings/SMS_PROVIDER/history');
    expect([history.status, history.text.includes('the secret of')]).toEqual([200, false]);
    expect(history.text).toContain(HIDDEN);
    const stored = await traces();
    for (const secret of ['the secret of a gateway', SIGNING])
      expect(stored).not.toMatch(new RegExp(`(?<![0-9])${secret}(?![0-9])`));
    expect(
      await kit.rows(
        `select jsonb_typeof(value -> 'secret' -> 'encrypted') as type from setting where name = 'SMS_PROVIDER'`,
      ),
    ).toEqual([{ type: 'string' }]);
  });

  test('of another provider have to be given', async () => {
    const operator = await kit.operator();
    const put = await operator.send('PUT', '/v1/settings/SMS_PROVIDER', {
      body: { value: { ...twilio(), auth_token: HIDDEN } },
    });
    expect([put.status, put.body.errors]).toEqual([
      400,
      [
        {
          pointer: '/value/auth_token',
          code: 'no_secret',
          detail: 'This secret has to be given: none is stored for this choice and address.',
        },
      ],
    ]);
    expect((await operator.send('GET', '/v1/settings/SMS_PROVIDER')).body.value).toEqual(shown());
  });

  test('stay with their host: at another one they have to be given', async () => {
    const operator = await kit.operator();
    const put = (more: object): Promise<Reply> =>
      operator.send('PUT', '/v1/settings/SMS_PROVIDER', { body: { value: { ...shown(), ...more } } });
    for (const url of ['http://127.0.0.1:9/send', base.replace('127.0.0.1', 'localhost'), `${base}.example/send`]) {
      const moved = await put({ url });
      expect([moved.status, moved.body.errors], url).toMatchObject([
        400,
        [{ pointer: '/value/secret', code: 'no_secret' }],
      ]);
    }
    expect((await put({ url: `${base}/other?key={secret}` })).status).toBe(200);
    await kit.ctx.settings.refresh(kit.ctx.db);
    expect(kit.ctx.settings.get('SMS_PROVIDER')).toEqual({ ...ours(), url: `${base}/other?key={secret}` });
    const given = { url: 'http://127.0.0.1:9/send', secret: 'another', signing_secret: 'another signing secret' };
    expect((await put(given)).status).toBe(200);
  });

  test('and what else is wrong with a choice is named by its place', async () => {
    const operator = await kit.operator();
    const put = (value: unknown): Promise<Reply> =>
      operator.send('PUT', '/v1/settings/SMS_PROVIDER', { body: { value } });
    expect((await put({ provider: 'pigeon' })).body.errors).toMatchObject([
      { pointer: '/value/provider', detail: 'This value must be one of console, http, twilio, netgsm' },
    ]);
    expect((await put({ ...twilio(), account_sid: 'AC1' })).body.errors).toMatchObject([
      { pointer: '/value/account_sid' },
    ]);
    expect((await put({ ...ours(), url: 'ftp://gateway' })).body.errors).toMatchObject([{ pointer: '/value/url' }]);
    for (const url of ['https://{to}.example/', 'https://user:password@gateway.example/'])
      expect((await put({ ...ours(), url })).status, url).toBe(400);
  });
});

describe('a stored provider that cannot be used', () => {
  const REASON = 'the stored setting SMS_PROVIDER is not valid';
  const stored = (change: string): Promise<unknown> =>
    kit.rows(`update setting set value = ${change} where name = 'SMS_PROVIDER'`);
  const broken: [string, string][] = [
    ['of a release that knew another one', `'{"provider":"pigeon"}'`],
    ['with a secret under another key', `jsonb_set(value, '{secret,encrypted}', '"AAAA"')`],
  ];

  test.each(broken)(
    '%s: nothing is sent and no code is printed, and it is repaired by setting it',
    async (_, change) => {
      await stored(change);
      await kit.rows('delete from console_message');
      const before = kit.logged.length;
      await kit.ctx.settings.reload(kit.ctx.db);
      expect(kit.ctx.settings.invalid()).toEqual(['SMS_PROVIDER']);
      expect(kit.logged.slice(before).filter((line) => line.includes('"setting":"SMS_PROVIDER"'))).toHaveLength(1);
      const { client, phone } = await asking();
      await kit.jobs();
      expect([received, await kit.outbox('sms')]).toEqual([[], []]);
      expect(await messages()).toEqual([{ status: 'sending', attempts: 1, unanswered: 0, reason: REASON }]);
      const operator = await kit.operator();
      const tested = await operator.send('POST', '/v1/sms/test', { body: { to: '+905321112233' } });
      expect(tested.body).toMatchObject({ taken: false, reason: REASON });
      for (const provider of ['invalid', 'http'])
        expect((await kit.send('POST', `/v1/sms/reports/${provider}`, { body: {} })).status).toBe(404);
      // What cannot be read cannot be kept.
      const kept = { ...ours(), secret: '********' };
      expect((await operator.send('PUT', '/v1/settings/SMS_PROVIDER', { body: { value: kept } })).status).toBe(400);
      expect((await operator.send('PUT', '/v1/settings/SMS_PROVIDER', { body: { value: ours() } })).status).toBe(200);
      await kit.ctx.settings.refresh(kit.ctx.db);
      expect(kit.ctx.settings.invalid()).toEqual([]);
      await later();
      expect((await client.send('PATCH', LOYALTY, { body: { phone, code: codeIn(received[0]!.body) } })).status).toBe(
        200,
      );
    },
  );

  test('is no choice of operators', async () => {
    const operator = await kit.operator();
    const value = { provider: 'invalid' };
    expect((await operator.send('PUT', '/v1/settings/SMS_PROVIDER', { body: { value } })).status).toBe(400);
  });
});

describe('a test message', () => {
  const tested = (): Promise<unknown[]> => kit.rows('select id, purpose, account, status, reason from sms_message');

  test('is sent while the operator waits, and says what the provider said', async () => {
    const operator = await kit.operator();
    const reply = await operator.send('POST', '/v1/sms/test', { body: { to: '0532 111 22 33' } });
    const id = received[0]!.headers['webhook-id'];
    expect([reply.status, reply.body]).toEqual([200, { taken: true, reason: null, id }]);
    expect(JSON.parse(received[0]!.body)).toMatchObject({
      to: '+905321112233',
      text: 'Test message of The shop: messages arrive.',
      reports: '',
    });
    expect(await tested()).toEqual([{ id, purpose: 'test', account: null, status: 'sent', reason: null }]);
    await kit.rows('delete from sms_message');
    answer = says(401);
    const refused = await operator.send('POST', '/v1/sms/test', { body: { to: '+905321112233' } });
    expect([refused.status, refused.body]).toEqual([
      200,
      { taken: false, reason: 'HTTP 401', id: received[1]!.headers['webhook-id'] },
    ]);
    expect(await tested()).toMatchObject([{ status: 'failed', reason: 'HTTP 401' }]);
  });

  test('is for operators, ten times an hour, and to numbers', async () => {
    const body = { to: '+905321112233' };
    expect((await kit.send('POST', '/v1/sms/test', { body })).status).toBe(401);
    expect((await (await kit.signUp()).send('POST', '/v1/sms/test', { body })).status).toBe(403);
    expect((await (await kit.apiKey('outbox'))('POST', '/v1/sms/test', { body })).status).toBe(403);
    const send = await kit.apiKey('settings');
    const wrong = await send('POST', '/v1/sms/test', { body: { to: 'mother' } });
    expect([wrong.status, wrong.body.errors]).toMatchObject([400, [{ pointer: '/to', code: 'impossible' }]]);
    expect((await send('POST', '/v1/sms/test', { body: { ...body, text: 'Buy!' } })).status).toBe(400);
    expect(received).toEqual([]);
    for (let n = 1; n < 10; n++) expect((await send('POST', '/v1/sms/test', { body })).status).toBe(200);
    const over = await send('POST', '/v1/sms/test', { body });
    expect([over.status, Number(over.headers['retry-after']) > 3000]).toEqual([429, true]);
    expect(received).toHaveLength(9);
  });
});

describe('on the command line', () => {
  const assent = (args: string[]): Promise<{ code: number; out: string; err: string }> => {
    const { host, port, user, password, database } = kit.connection as unknown as Record<string, string>;
    const login = password ? `&password=${password}` : '';
    const address = `postgres:///${database}?host=${encodeURIComponent(host!)}&port=${port}&user=${user}${login}`;
    return new Promise((done) => {
      execFile(
        process.execPath,
        ['src/main.ts', ...args],
        { env: { PATH: process.env['PATH'], DATABASE_URL: address, SECRET_KEY: SECRET } },
        (error, out, err) => done({ code: error === null ? 0 : Number(error.code), out, err }),
      );
    });
  };

  test('phone test says what the provider said and ends with 1 when it was not taken; settings show no secret', async () => {
    const taken = await assent(['phone', 'test', '05321112233']);
    const id = received[0]!.headers['webhook-id'];
    expect(taken).toEqual({ code: 0, out: '', err: `http took the message ${id}.\n` });
    answer = says(403);
    expect(await assent(['phone', 'test', '05321112233'])).toEqual({
      code: 1,
      out: '',
      err: 'http did not take the message: HTTP 403\n',
    });
    const { code, out } = await assent(['settings', 'get', 'SMS_PROVIDER']);
    expect([code, JSON.parse(out).value.secret, out.includes('the secret of')]).toEqual([0, '********', false]);
  });

  test('doctor names a setting that cannot be used, commands work all the same, and reset repairs it', async () => {
    await kit.rows(
      `update setting set value = jsonb_set(value, '{secret,encrypted}', '"AAAA"') where name = 'SMS_PROVIDER'`,
    );
    const of = async (names: string[]): Promise<unknown[]> =>
      JSON.parse((await assent(['doctor', '--json'])).out).filter(({ name }: { name: string }) => names.includes(name));
    expect(await of(['settings', 'sms'])).toEqual([
      {
        name: 'settings',
        ok: false,
        detail: 'not valid as they are stored, or with a secret that cannot be decrypted: SMS_PROVIDER',
        remedy: 'Set each again, or: npm run assent -- settings reset NAME',
      },
      {
        name: 'sms',
        ok: false,
        detail: 'the stored setting SMS_PROVIDER is not valid: nothing is sent',
        remedy: `Set it again: npm run assent -- settings set SMS_PROVIDER '{"provider":…}'`,
      },
    ]);
    expect((await assent(['settings', 'get', 'SMS_PROVIDER'])).code).toBe(0);
    expect((await assent(['settings', 'reset', 'SMS_PROVIDER'])).code).toBe(0);
    expect(await of(['settings'])).toEqual([]);
  });

  test('doctor names the provider, and what most messages of the last hour failed of', async () => {
    const sms = async (): Promise<unknown> =>
      JSON.parse((await assent(['doctor', '--json'])).out).find(({ name }: { name: string }) => name === 'sms');
    const add = (status: string, reason: string | null, count: number): Promise<unknown> =>
      kit.rows(
        `insert into sms_message (id, purpose, provider, status, reason, created_at)
         select gen_random_uuid(), 'code', 'http', $1, $2, now() from generate_series(1, $3::int)`,
        status,
        reason,
        count,
      );
    await add('sent', null, 2);
    await add('failed', 'HTTP 500', 2);
    await add('sending', 'HTTP 500', 5);
    const fine = {
      name: 'sms',
      ok: true,
      detail: 'provider http, 4 messages in the last hour, 2 of them failed',
    };
    expect(await sms()).toEqual({
      ...fine,
      remedy: 'Codes go to every country: name those of your customers in SMS_COUNTRIES, so that others cost nothing.',
    });
    await kit.set('SMS_COUNTRIES', ['TR']);
    expect(await sms()).toEqual(fine);
    await kit.set('SMS_COUNTRIES', null);
    await add('failed', 'code 30005', 3);
    expect(await sms()).toEqual({
      name: 'sms',
      ok: false,
      detail: 'provider http, 7 messages in the last hour, 5 of them failed, most often: code 30005',
      remedy: 'Look the reason up at the provider, correct SMS_PROVIDER, then try: npm run assent -- phone test NUMBER',
    });
  });
});
