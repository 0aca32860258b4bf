/**
 * The examples of the BakerOnline documents, replayed: requests as they are printed there, with four spaces and in both
 * encodings, answers compared with the printed ones letter by letter. Where an example is filler that no service could
 * answer (a shop named twice, an address of three dots), the test says what stands in for it.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { codeFor, exchange, verifier } from '../authorizing.ts';
import { createKit, type Kit, PASSWORD, type Send } from '../kit.ts';
import contract from './bakeronline.json' with { type: 'json' };

const asPrinted = { 'X-VERSION': '1.9.0', 'Accept-Language': 'en-US,en;q=0.5', 'Content-Type': 'application/json' };
const printed = (body: object): string => JSON.stringify(body, null, 4);
const TOKEN_KEYS = ['access_token', 'token_type', 'expires_in', 'refresh_token'];

let kit: Kit;
let owner: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  const { email } = await kit.signUp();
  await createCompany(kit.ctx, {
    name: { nl: 'Bakkerij' },
    owner: email,
    shops: [{ nl: 'A' }, { nl: 'B' }, { nl: 'C' }, { nl: 'D' }, { nl: 'E' }],
    language: 'nl',
    ids: { company: 12, shops: [10, 12, 14, 18, 19], entry: 900 },
  });
  owner = await kit.bearer(email);
  await createClient(kit.ctx, { id: 'own', name: 'Own', password_grant: true, first_party: true }, atTheMachine);
  await createClient(
    kit.ctx,
    {
      id: 'app',
      name: 'App',
      redirect_uris: ['https://app.example/signed-in?from=assent'],
    },
    atTheMachine,
  );
});
afterAll(() => kit.close());

describe('entries', () => {
  test('the answer to a PATCH and the list are the printed ones', async () => {
    const { body: example } = contract.examples.updateAnswer;
    await kit.owner(`alter table account alter column id restart with ${example.user.id}`);
    const { email } = await kit.signUp({ email: 'colleague@example.com' });
    await kit.owner('alter table account alter column id restart with 1000');
    await kit.owner(`alter table entry alter column id restart with ${example.id}`);
    const family = '/company/companies/12/permissions/users';
    // The printed request has `{"email": "..."}`, 22 characters with its indents.
    expect(printed({ email: '...' })).toHaveLength(22);
    const made = await owner('POST', family, { body: printed({ email }), headers: asPrinted });
    const nothing = Object.fromEntries(Object.keys(example.permissions).map((key) => [key, false]));
    const user = { id: example.user.id, email };
    expect([made.status, made.text]).toEqual([
      200,
      JSON.stringify({ shop_ids: [], permissions: nothing, id: example.id, user }),
    ]);
    const { shop_ids, permissions } = example;
    const whole = JSON.stringify({ ...example, user });
    const path = `${family}/${example.id}`;
    const changed = await owner('PATCH', path, { body: printed({ shop_ids, permissions }), headers: asPrinted });
    expect([changed.status, changed.headers['content-type'], changed.text]).toEqual([
      200,
      'application/json; charset=utf-8',
      whole,
    ]);
    // The same as a form, in the syntax that stands in for the one nobody printed.
    const form = [
      ...shop_ids.map((shop) => `shop_ids[]=${shop}`),
      ...Object.entries(permissions).map(([key, value]) => `permissions[${key}]=${value ? 1 : 0}`),
    ].join('&');
    await owner('PATCH', path, { body: { shop_ids: [], permissions: nothing } });
    expect((await owner('PATCH', path, { form })).text).toBe(whole);
    for (const version of contract.versions.served) {
      const list = await owner('GET', family, { headers: { ...asPrinted, 'X-VERSION': version } });
      expect(list.text.startsWith(`[${whole},`)).toBe(true);
      expect(list.headers['x-version']).toBe(version);
    }
  });

  test('own rights are the printed ones, with a shop that is named twice counted once', async () => {
    const example = {
      shop_ids: [10, 12],
      permissions: {
        company_info: false,
        holidays: false,
        newsletters: true,
        translations: false,
        email_settings: true,
        products: true,
        shop_info: true,
        checkout_settings: true,
        time_settings: true,
        discounts: false,
      },
      id: 13,
      company_id: 12,
    };
    const { email } = await kit.signUp();
    await kit.owner('alter table entry alter column id restart with 13');
    const path = '/company/companies/12/permissions/users';
    await owner('POST', path, { body: { email } });
    await owner('PATCH', `${path}/13`, { body: { shop_ids: [10, 10, 12], permissions: example.permissions } });
    const mine = await kit.bearer(email);
    for (const version of contract.versions.served) {
      const headers = { ...asPrinted, 'X-VERSION': version };
      const { text } = await mine('GET', '/user?include=company_permissions', { headers });
      expect(text.endsWith(`"company_permissions":[${JSON.stringify(example)}]}`)).toBe(true);
    }
  });
});

/** Sends the same body as printed JSON and as a form. */
async function both(path: string, body: () => Record<string, string> | Promise<Record<string, string>>) {
  return [
    await kit.send('POST', path, { body: printed(await body()), headers: asPrinted }),
    await kit.send('POST', path, {
      form: String(new URLSearchParams(await body())),
      headers: { 'X-VERSION': '1.9.0' },
    }),
  ];
}

describe('accounts', () => {
  const device = { device_name: 'Firefox', device_id: '6b3c' };

  test('each printed shape of a request for tokens gets the four printed members, in their order', async () => {
    const person = await kit.signUp();
    const password = { client_id: 'own', ...device, username: person.email, password: PASSWORD };
    const shapes: (() => Promise<Record<string, string>>)[] = [
      async () => ({
        grant_type: 'code',
        client_id: 'app',
        ...device,
        code: await codeFor(person),
        code_verifier: verifier,
      }),
      async () => ({
        grant_type: 'refresh_token',
        refresh_token: (await exchange(kit, await codeFor(person))).body.refresh_token,
      }),
      async () => ({ grant_type: 'password', ...password }),
    ];
    for (const shape of shapes) {
      for (const reply of await both('/api/token', shape)) {
        expect([reply.status, Object.keys(reply.body)]).toEqual([200, TOKEN_KEYS]);
        expect([reply.body.token_type, reply.body.expires_in]).toEqual(['Bearer', 3600]);
        // "Hexadecimal string with a maximum length of 256 characters" is what clients were told.
        for (const token of [reply.body.access_token, reply.body.refresh_token])
          expect(token).toMatch(/^[0-9a-f]{1,256}$/);
      }
    }
  });

  test('registering, forgetting, resetting and changing a password answer as printed', async () => {
    let number = 0;
    const registered = await both('/api/register', () => {
      number += 1;
      return {
        client_id: 'own',
        ...device,
        username: `baker${number}@example.com`,
        password: PASSWORD,
        firstname: 'Ada',
        lastname: 'Maes',
        telephone: '+32 475 00 00 00',
      };
    });
    for (const reply of registered) expect([reply.status, Object.keys(reply.body)]).toEqual([200, TOKEN_KEYS]);

    const forgotten = await both('/api/forgot-password', () => ({
      client_id: 'own',
      ...device,
      username: 'baker1@example.com',
    }));
    for (const { status, text, headers } of forgotten)
      expect([status, text, headers['content-type']]).toEqual([200, '', undefined]);
    await kit.jobs();
    const mail = (await kit.outbox('mail')).findLast(({ recipient }) => recipient === 'baker1@example.com');
    const token = /\/links\/([0-9a-f]{64})/.exec(mail!.body)![1]!;
    const reset = await kit.send('POST', '/api/reset-password', {
      body: printed({ token, password: 'a-second-password' }),
      headers: asPrinted,
    });
    expect([reset.status, reset.text, reset.headers['content-type']]).toEqual([200, '', undefined]);

    let [old, next] = ['a-second-password', 'a-third-password-1'];
    const changed = await both('/api/change-password', () => {
      const body = {
        grant_type: 'password',
        client_id: 'own',
        ...device,
        username: 'baker1@example.com',
        password: old,
        new_password: next,
      };
      [old, next] = [next, 'a-fourth-password-1'];
      return body;
    });
    for (const reply of changed) expect([reply.status, Object.keys(reply.body)]).toEqual([200, TOKEN_KEYS]);
  });
});
