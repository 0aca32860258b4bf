import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Client, createKit, type Kit } from '../../test/kit.ts';

let kit: Kit;
let ada: Client;

beforeAll(async () => {
  kit = await createKit();
  ada = await kit.signUp({ phone: '05321234567' });
});
afterAll(() => kit.close());

test('a flag that changes is one event, a flag that does not is none', async () => {
  const events = () => kit.rows('select kind, channel from consent_event where account = $1 order by id', ada.id);
  expect(await events()).toEqual([]);
  const granted = await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: true } });
  expect(granted.status).toBe(200);
  expect(granted.body.sms_allowed).toBe(true);
  await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: true, email_allowed: false } });
  await ada.send('PATCH', '/users/profile/', { body: { sms_allowed: false } });
  expect(await events()).toEqual([
    { kind: 'grant', channel: 'sms' },
    { kind: 'withdraw', channel: 'sms' },
  ]);
  expect(await kit.verify()).toEqual({ lines: 2, seals: 1, unsealed: 0 });
});
