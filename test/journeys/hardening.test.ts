/** What operators, proxies and hostile clients can do wrong without harm. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createHttp } from '../../src/app.ts';
import { createKit, type Kit } from '../kit.ts';

let kit: Kit;

beforeAll(async () => {
  kit = await createKit();
});
afterAll(() => kit.close());

test('verifying names a state that the ledger does not lead to', async () => {
  const ada = await kit.signUp({ email_allowed: true });
  expect((await kit.verify()).fault).toBeUndefined();
  await kit.rows("update consent_state set state = 'withdrawn' where account = $1", ada.id);
  expect((await kit.verify()).fault).toMatch(/^email of contact point \d+ is withdrawn, but the ledger says granted$/);
  await kit.rows('delete from consent_state where account = $1', ada.id);
  expect((await kit.verify()).fault).toMatch(/^email of contact point \d+ is unknown, but the ledger says granted$/);
  await kit.rows(
    `insert into consent_state (contact_point, channel, purpose, state, since, event, account, proven, latest, kind, source)
     select contact_point, channel, purpose, 'granted', occurred_at, id, account, true, occurred_at, kind, source from consent_event where account = $1`,
    ada.id,
  );
  // Whether the address was proven is in the line too.
  expect((await kit.verify()).fault).toMatch(
    /^email of contact point \d+ is granted in other words than the ledger's$/,
  );
  await kit.rows('update consent_state set proven = false where account = $1', ada.id);
  expect((await kit.verify()).fault).toBeUndefined();
});

test('a pattern for phone numbers that takes for ever is refused, and one that slips in stops nobody', async () => {
  const send = await kit.apiKey('settings');
  const slow = '^(\\d+ ?)+$';
  const refused = await send('PUT', '/v1/settings/USER_PHONE_REGEX', { body: { value: slow } });
  expect([refused.status, refused.body.errors]).toEqual([
    400,
    [{ pointer: '/value', code: 'as_told', detail: 'This value takes too long on some numbers' }],
  ]);
  await kit.rows("insert into setting values ('USER_PHONE_REGEX', $1, now(), 'test')", JSON.stringify('^(\\d+\\d+)+$'));
  expect((await send('PUT', '/v1/settings/USER_PHONE_REGEX', { body: { value: '^05\\d{9}$' } })).status).toBe(200);
  const ada = await kit.signUp();
  const status = async (phone: string): Promise<number> =>
    (await ada.send('PATCH', '/users/profile/', { body: { phone } })).status;
  expect([await status('05321234567'), await status('+905321234567')]).toEqual([200, 400]);
  await kit.set('USER_PHONE_REGEX', null);
});

test('a method that HTTP knows and no route has is refused like any other', async () => {
  const known = await kit.send('QUERY', '/users/profile/', { body: {} });
  expect([known.status, known.headers['allow'], known.body]).toEqual([
    405,
    'GET, PUT, PATCH, HEAD, OPTIONS',
    { detail: 'Method "QUERY" not allowed.' },
  ]);
  expect((await kit.send('QUERY', '/users/nothing/')).status).toBe(404);
});

test('behind a proxy that is not trusted, PUBLIC_URL says which origin is ours and that cookies are secure', async () => {
  const http = await createHttp(kit.ctx, { trustedProxies: [], publicUrl: 'https://id.shop.example' });
  const ada = await kit.signUp();
  const patch = (origin: string) =>
    http.inject({
      method: 'PATCH',
      url: '/users/profile/',
      headers: {
        host: '10.0.0.5:8080',
        origin,
        cookie: [...ada.cookies].map(([name, value]) => `${name}=${value}`).join('; '),
        'x-csrftoken': ada.cookies.get('csrftoken')!,
      },
      payload: { first_name: 'Ada' },
    });
  expect((await patch('https://id.shop.example')).statusCode).toBe(200);
  expect((await patch('http://10.0.0.5:8080')).statusCode).toBe(200);
  expect((await patch('https://evil.example')).statusCode).toBe(403);
  const cookie = (await http.inject({ url: '/csrf_token/' })).headers['set-cookie'];
  expect(cookie).toMatch(/; Secure$/);
  expect((await http.inject({ url: '/metrics' })).statusCode).toBe(404);
  await http.close();
});

test('a file where text is expected is refused by its field', async () => {
  const ada = await kit.signUp();
  const body = [
    '--x',
    'Content-Disposition: form-data; name="gender"; filename="g.txt"',
    'Content-Type: text/plain',
    '',
    'male',
    '--x--',
    '',
  ].join('\r\n');
  const reply = await ada.send('PATCH', '/users/profile/', {
    body,
    headers: { 'content-type': 'multipart/form-data; boundary=x' },
  });
  expect([reply.status, reply.body]).toEqual([400, { gender: ['Not a valid string.'] }]);
});

test('what the console providers kept is forgotten after an hour', async () => {
  await kit.rows(
    "insert into console_message (medium, recipient, body, sent_at) values ('sms', '+905321234567', '123456', now() - interval '2 hours')",
  );
  await kit.rows("select graphile_worker.add_job('sweep')");
  await kit.jobs();
  expect(await kit.outbox('sms')).toEqual([]);
});
