/** A program asks to speak for somebody: the page, and where nobody may be sent. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { changeClient, createClient } from '../../src/oauth/clients.ts';
import { sql } from '../../src/platform/db.ts';
import { throttleScopes } from '../../src/settings.ts';
import {
  address,
  answer,
  BACK,
  challenge,
  exchange,
  expectRefused,
  fieldOf,
  look,
  right,
  STATE,
  said,
  type Texts,
  verifier,
} from '../authorizing.ts';
import { type Client as Browser, createKit, type Kit, type Reply } from '../kit.ts';

const LOCAL = 'http://127.0.0.1/cb';

let kit: Kit;
let ada: Browser;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  await createClient(
    kit.ctx,
    { id: 'app', name: 'An <app>', redirect_uris: [BACK, LOCAL, 'com.example.app:/cb'] },
    atTheMachine,
  );
  await createClient(kit.ctx, { id: 'other', name: 'Another', redirect_uris: [BACK] }, atTheMachine);
  await createClient(kit.ctx, { id: 'own', name: 'Our own', redirect_uris: [BACK], first_party: true }, atTheMachine);
  ada = await kit.signUp();
});
afterAll(() => kit.close());

describe('the page that asks', () => {
  test('names the program, the account and where it leads, and lets no other site frame, follow or keep it', async () => {
    const page = await look(ada);
    expect(page.text).toContain('An &lt;app&gt;');
    expect(page.text).toContain(ada.email);
    expect(page.text).toContain('<dd>app.example</dd>');
    expect(page.headers).toMatchObject({
      'x-frame-options': 'DENY',
      'referrer-policy': 'same-origin',
      'cache-control': 'private, no-store',
      'content-security-policy': expect.stringMatching(
        /form-action 'self' https:\/\/app\.example; .*frame-ancestors 'none'/,
      ),
    });
    const local = await look(ada, { redirect_uri: 'http://127.0.0.1:51234/cb' });
    expect(local.text).toContain('<dd>a program on this device</dd>');
    expect(local.headers['content-security-policy']).toContain("form-action 'self' http://127.0.0.1:51234;");
    const scheme = await look(ada, { redirect_uri: 'com.example.app:/cb' });
    expect(scheme.headers['content-security-policy']).toContain("form-action 'self' com.example.app:;");
  });

  test('Allow brings a code and the state, letter by letter, to the registered address', async () => {
    const reply = await answer(ada, 'allow');
    expect(reply.status).toBe(303);
    expect(String(reply.headers['location']).startsWith(`${BACK}&code=`)).toBe(true);
    expect(said(reply)).toEqual({ from: 'assent', code: expect.stringMatching(/^[0-9a-f]{40}$/), state: STATE });
    expect(
      await kit.rows(
        `select 1 from authorization_code where authorization_code::text like '%' || $1 || '%'`,
        said(reply)['code'],
      ),
    ).toEqual([]);
  });

  test('Deny brings access_denied and the state, and makes no code', async () => {
    const before = await kit.rows('select code_hash from authorization_code');
    const reply = await answer(ada, 'deny');
    expect([reply.status, said(reply)]).toEqual([
      303,
      { from: 'assent', error: 'access_denied', error_description: expect.any(String), state: STATE },
    ]);
    expect(await kit.rows('select code_hash from authorization_code')).toEqual(before);
  });

  test('a program of the shop itself asks nobody', async () => {
    const reply = await look(ada, { client_id: 'own' });
    expect([reply.status, Object.keys(said(reply))]).toEqual([302, ['from', 'code', 'state']]);
  });

  test('who is not signed in signs in first, and comes back to the same request', async () => {
    for (const client_id of ['app', 'own']) {
      const reply = await kit.send('GET', address({ client_id }));
      expect(reply.status).toBe(302);
      const [path, query] = String(reply.headers['location']).split('?');
      expect(path).toBe('/account/sign-in');
      const next = new URLSearchParams(query).get('next')!;
      expect(Object.fromEntries(new URL(next, 'http://x').searchParams)).toEqual({ ...right, client_id });
      expect(next.startsWith('/oauth/authorize?')).toBe(true);
    }
    // A Token or an access token is no browser.
    const token = await kit.send('GET', address(), { headers: { authorization: `Token ${ada.key}` } });
    expect(token.status).toBe(302);
  });

  test('a press on Allow without the token of the form does nothing', async () => {
    const before = await kit.rows('select code_hash from authorization_code');
    const other = await kit.signUp();
    const theirs = fieldOf(await look(other), 'csrfmiddlewaretoken');
    const page = await look(ada);
    const form = (token: string): string =>
      String(new URLSearchParams({ csrfmiddlewaretoken: token, account: String(ada.id), answer: 'allow' }));
    for (const [body, headers] of [
      ['answer=allow', {}],
      [form(''), {}],
      [form(theirs), {}],
      [form(fieldOf(page, 'csrfmiddlewaretoken')), { origin: 'https://evil.example' }],
    ] as const) {
      const reply = await ada.send('POST', address(), { form: body, headers: { ...headers } });
      expect([reply.status, reply.headers['location']], body).toEqual([403, undefined]);
    }
    expect(await kit.rows('select code_hash from authorization_code')).toEqual(before);
  });

  test('whoever signed in as somebody else since the page was shown is asked again', async () => {
    const reply = await answer(ada, 'allow', {}, { account: '999999' });
    expect([reply.status, reply.headers['location']]).toEqual([303, address()]);
  });

  test('a code is not made for a sign-in that ended while the page was open, or in that very moment', async () => {
    for (const when of ['before', 'meanwhile']) {
      const bora = await kit.signUp();
      const page = await look(bora);
      const form = {
        csrfmiddlewaretoken: fieldOf(page, 'csrfmiddlewaretoken'),
        account: String(bora.id),
        answer: 'allow',
      };
      const press = (): Promise<Reply> => bora.send('POST', address(), { form: String(new URLSearchParams(form)) });
      const end = sql`delete from session where account = ${bora.id}`;
      let pressed: Promise<Reply> | undefined;
      if (when === 'before') await kit.database.run(end);
      await kit.database.transaction(async (db) => {
        await db.run(sql`select from account where id = ${bora.id} for no key update`);
        let answered = false;
        pressed = press().finally(() => {
          answered = true;
        });
        // Until it was let in and waits for the account, or has not waited at all.
        for (let waits = false; !waits && !answered; ) {
          const [row] = await kit.rows<{ waits: boolean }>(
            `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') as waits`,
          );
          waits = row!.waits;
        }
        await db.run(end);
      });
      const reply = await pressed!;
      expect([when, reply.status, String(reply.headers['location']).split('?')[0]]).toEqual([
        when,
        303,
        '/account/sign-in',
      ]);
      expect(await kit.rows('select 1 from authorization_code where account = $1', bora.id)).toEqual([]);
    }
  });
});

describe('where nobody is sent', () => {
  test.each([
    'https://app.example/signed-in',
    'https://app.example/signed-in?from=assent&x=1',
    'https://app.example/signed-in?from=assent#',
    'https://app.example/signed-in/?from=assent',
    'https://app.example/signed-in%3Ffrom=assent',
    'https://app.example/Signed-in?from=assent',
    'https://app.example/x/../signed-in?from=assent',
    'https://APP.example/signed-in?from=assent',
    'https://app.example:443/signed-in?from=assent',
    'https://app.example./signed-in?from=assent',
    'https://app.example@evil.example/signed-in?from=assent',
    'https://evil.example/https://app.example/signed-in?from=assent',
    'https://app.example.evil.example/signed-in?from=assent',
    'https://app.example\\.evil.example/signed-in?from=assent',
    'http://app.example/signed-in?from=assent',
    '//app.example/signed-in?from=assent',
    ' https://app.example/signed-in?from=assent',
    'https://app.example/signed-in?from=assent\r\nSet-Cookie: a=b',
    'https://app.example/signed-in?from=assent\0',
    'javascript:alert(1)//https://app.example/signed-in?from=assent',
    'data:text/html,x',
    'http://127.0.0.1:8080/cb2',
    'http://127.0.0.1:8080@evil.example/cb',
    'http://127.0.0.1.evil.example/cb',
    'http://127.0.0.1:99999/cb',
    'http://127.0.0.1:*/cb',
    'http://127.0.0.2/cb',
    'http://localhost/cb',
    'http://2130706433/cb',
    'https://127.0.0.1/cb',
    'com.example.app:/cb2',
    'com.example.app://cb',
    '',
  ])('%s', async (redirect_uri) => {
    for (const who of [ada.send, kit.send]) {
      const reply = await who('GET', address({ redirect_uri }));
      expect([reply.status, reply.headers['location']]).toEqual([400, undefined]);
      expect(reply.headers['content-type']).toContain('text/html');
      expect(reply.text).not.toContain('evil.example');
    }
  });

  test('for an unknown, repeated or disabled client, whatever the address', async () => {
    await createClient(kit.ctx, { id: 'gone', name: 'Gone', redirect_uris: [BACK] }, atTheMachine);
    await changeClient(kit.ctx, 'gone', { disabled: true }, atTheMachine);
    for (const path of [
      address({ client_id: 'nobody' }),
      address({ client_id: 'gone' }),
      address({ client_id: 'app\0' }),
      address({ client_id: '' }),
      `${address()}&client_id=app`,
      `${address()}&redirect_uri=https%3A%2F%2Fevil.example`,
    ]) {
      for (const method of ['GET', 'POST']) {
        const reply = await ada.send(method, path, method === 'POST' ? { form: 'answer=allow' } : {});
        expect([reply.status, reply.headers['location']], path).toEqual([400, undefined]);
      }
    }
  });

  test('a loopback address may have any port, and the code is bound to the one that was asked for', async () => {
    const redirect_uri = 'http://127.0.0.1:51234/cb';
    const reply = await answer(ada, 'allow', { redirect_uri });
    expect(String(reply.headers['location']).startsWith(`${redirect_uri}?code=`)).toBe(true);
    expectRefused(await exchange(kit, said(reply)['code']!, { redirect_uri: LOCAL }), 'invalid_grant');
    expect((await exchange(kit, said(reply)['code']!, { redirect_uri })).status).toBe(200);
  });
});

describe('what is wrong with a request is told to the program', () => {
  test.each<[string, Texts, string]>([
    ['no response_type', { response_type: '' }, 'invalid_request'],
    ['the implicit grant', { response_type: 'token' }, 'unsupported_response_type'],
    ['a hybrid', { response_type: 'code token' }, 'unsupported_response_type'],
    ['no challenge', { code_challenge: '' }, 'invalid_request'],
    ['the method plain', { code_challenge_method: 'plain', code_challenge: verifier }, 'invalid_request'],
    ['a method in small letters', { code_challenge_method: 's256' }, 'invalid_request'],
    ['a short challenge', { code_challenge: challenge.slice(1) }, 'invalid_request'],
    ['a long challenge', { code_challenge: `${challenge}A` }, 'invalid_request'],
    ['a challenge of other characters', { code_challenge: `${challenge.slice(1)}!` }, 'invalid_request'],
    ['a scope with a quote', { scope: 'openid "x"' }, 'invalid_scope'],
    ['a scope with two blanks', { scope: 'openid  email' }, 'invalid_scope'],
    ['response_mode fragment', { response_mode: 'fragment' }, 'invalid_request'],
    ['response_mode form_post', { response_mode: 'form_post' }, 'invalid_request'],
    ['a request too long', { scope: 'x'.repeat(3500) }, 'invalid_request'],
  ])('%s', async (_what, more, error) => {
    const reply = await look(ada, more);
    expect([reply.status, said(reply)]).toEqual([
      302,
      { from: 'assent', error, error_description: expect.stringMatching(/^[\x20-\x7e]+$/), state: STATE },
    ]);
  });

  test('a repeated parameter, and a repeated state without any', async () => {
    const reply = await ada.send('GET', `${address()}&code_challenge=${challenge}`);
    expect(said(reply)).toMatchObject({ error: 'invalid_request', state: STATE });
    const twice = await ada.send('GET', `${address()}&state=another`);
    expect(said(twice)).toEqual({ from: 'assent', error: 'invalid_request', error_description: expect.any(String) });
  });

  test('a state comes back as it was and can add neither header nor parameter', async () => {
    for (const state of ['x\r\nSet-Cookie: a=b\r\n\r\n<script>', 'x&code=mine#frag', 'Ö%0d%0aX: y', '\u2028\0"\'<']) {
      const reply = await answer(ada, 'allow', { state });
      expect(String(reply.headers['location'])).toMatch(/^[\x21-\x7e]+$/);
      expect(said(reply)).toEqual({ from: 'assent', code: expect.stringMatching(/^[0-9a-f]{40}$/), state });
      expect(String(reply.headers['set-cookie'] ?? '')).not.toContain('a=b');
      const page = await look(ada, { state });
      expect(page.text).not.toContain('<script>');
    }
  });

  test('what it does not know it passes over: prompt, nonce, unknown ones twice', async () => {
    const reply = await ada.send('GET', `${address()}&prompt=none&nonce=n&resource=a&resource=b&scope=openid%20email`);
    expect(reply.status).toBe(200);
  });
});
