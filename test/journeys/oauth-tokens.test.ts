/** From a code to tokens, and what somebody who means harm tries on the way. */
import { createHash, randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import * as oauth from 'openid-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { changeClient, createClient } from '../../src/oauth/clients.ts';
import { throttleScopes } from '../../src/settings.ts';
import {
  address,
  answer,
  BACK,
  challenge,
  codeFor,
  exchange,
  expectRefused,
  look,
  refresh,
  said,
  type Texts,
  verifier,
  works,
} from '../authorizing.ts';
import { type Client as Browser, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';

const LOCAL = 'http://127.0.0.1/cb';

let kit: Kit;
let twin: Kit;
let ada: Browser;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  twin = await kit.twin();
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

describe('a code', () => {
  test('is exchanged under both names, by JSON and by form, for exactly the documented keys', async () => {
    for (const grant_type of ['code', 'authorization_code']) {
      const asked = { grant_type, client_id: 'app', code: await codeFor(ada), code_verifier: verifier };
      const reply = await kit.send('POST', '/api/token', {
        ...(grant_type === 'code' ? { body: asked } : { form: String(new URLSearchParams(asked)) }),
        headers: { 'user-agent': 'Till/2' },
      });
      expect(reply.status, reply.text).toBe(200);
      expect(Object.keys(reply.body)).toEqual(['access_token', 'token_type', 'expires_in', 'refresh_token']);
      expect(reply.headers['cache-control']).toContain('no-store');
      expect(await works(kit, reply)).toBe(true);
    }
  });

  test('works for each way to write a challenge', async () => {
    // Of this one both alphabets differ, and a padded form is another text.
    let own = '';
    let digest: Buffer;
    do {
      own = randomBytes(32).toString('base64url');
      digest = createHash('sha256').update(own).digest();
    } while (!/\+.*\/|\/.*\+/.test(digest.toString('base64')));
    for (const written of [
      digest.toString('base64url'),
      digest.toString('base64'),
      `${digest.toString('base64url')}=`,
    ]) {
      const code = await codeFor(ada, { code_challenge: written, code_challenge_method: 'S256' });
      expect((await exchange(kit, code, { code_verifier: own })).status, written).toBe(200);
    }
    // A `+` that was not encoded.
    const raw = await ada.send(
      'GET',
      `${address({ client_id: 'own', code_challenge: '' })}&code_challenge=${digest.toString('base64')}`,
    );
    expect((await exchange(kit, said(raw)['code']!, { client_id: 'own', code_verifier: own })).status).toBe(200);
  });

  test('is worth nothing to another client, another verifier, another address, or after a minute', async () => {
    const code = await codeFor(ada);
    expectRefused(await exchange(kit, code, { client_id: 'other' }), 'invalid_grant');
    expectRefused(await exchange(kit, code, { client_id: 'nobody' }), 'invalid_client');
    expectRefused(await exchange(kit, code, { code_verifier: randomBytes(32).toString('hex') }), 'invalid_grant');
    expectRefused(await exchange(kit, code, { code_verifier: challenge }), 'invalid_grant');
    expectRefused(await exchange(kit, code, { redirect_uri: 'https://app.example/signed-in' }), 'invalid_grant');
    expectRefused(await exchange(kit, `${code}0`), 'invalid_grant');
    expect((await exchange(kit, code, { redirect_uri: BACK })).status).toBe(200);
    const late = await codeFor(ada);
    kit.advance(61_000);
    expectRefused(await exchange(kit, late), 'invalid_grant');
  });

  test('needs its verifier, whole', async () => {
    const code = await codeFor(ada);
    for (const code_verifier of ['', 'x'.repeat(42), 'x'.repeat(129), `${verifier.slice(1)}!`]) {
      const { status, body } = await exchange(kit, code, { code_verifier });
      expect([status, body.error, body.errors[0].pointer]).toEqual([422, 'invalid_request', '/code_verifier']);
    }
    expect((await exchange(kit, code)).status).toBe(200);
  });

  test('of somebody else, pushed into a victim’s program, does not fit its challenge', async () => {
    const mallory = await kit.signUp();
    const theirs = createHash('sha256').update('m'.repeat(43)).digest('base64url');
    const injected = await codeFor(mallory, { code_challenge: theirs });
    expectRefused(await exchange(kit, injected), 'invalid_grant');
  });

  test('that comes back ends what it was exchanged for, renewed tokens too, and nothing else', async () => {
    const kept = await exchange(kit, await codeFor(ada));
    const code = await codeFor(ada);
    const first = await exchange(kit, code);
    const second = await refresh(kit, first.body.refresh_token);
    expect([await works(kit, first), await works(kit, second)]).toEqual([false, true]);
    expectRefused(await exchange(kit, code, { code_verifier: 'y'.repeat(43) }), 'invalid_grant');
    expect([await works(kit, second), await works(kit, kept)]).toEqual([false, true]);
    expectRefused(await refresh(kit, second.body.refresh_token), 'invalid_grant');
  });

  test('gives tokens once, also when two processes are asked at once; then even those are over', async () => {
    for (let round = 1; round <= 5; round += 1) {
      const code = await codeFor(ada);
      const replies = await Promise.all([exchange(kit, code), exchange(round % 2 === 0 ? twin : kit, code)]);
      expect(replies.map(({ status }) => status).sort()).toEqual([200, 400]);
      expect(await works(kit, replies.find(({ status }) => status === 200)!)).toBe(false);
    }
  });

  test('dies with the password it was made under', async () => {
    const cem = await kit.signUp();
    const [code, exchanged] = [await codeFor(cem), await exchange(kit, await codeFor(cem))];
    const next = `${PASSWORD}-2`;
    const body = { old_password: PASSWORD, new_password1: next, new_password2: next };
    expect((await cem.send('POST', '/users/password/change/', { body })).status).toBe(200);
    expectRefused(await exchange(kit, code), 'invalid_grant');
    expect(await works(kit, exchanged)).toBe(false);
    expectRefused(await refresh(kit, exchanged.body.refresh_token), 'invalid_grant');
  });

  test('is forgotten by the sweeper: at once when it was not used, after a day when it was', async () => {
    await kit.rows('delete from authorization_code');
    await codeFor(ada);
    await exchange(kit, await codeFor(ada));
    const left = (): Promise<unknown[]> =>
      kit.rows('select used_at is not null as used from authorization_code order by 1');
    const sweep = async (): Promise<unknown[]> => {
      await kit.rows(`select graphile_worker.add_job('sweep')`);
      await kit.jobs();
      return left();
    };
    expect(await sweep()).toEqual([{ used: false }, { used: true }]);
    kit.advance(61_000);
    expect(await sweep()).toEqual([{ used: true }]);
    kit.advance(86_400_000);
    expect(await sweep()).toEqual([]);
    ada = await kit.signIn(ada.email);
  });
});

describe('tokens', () => {
  test('one pair for an account, a client and a device; of more than 20 sign-ins the oldest end', async () => {
    const deniz = await kit.signUp();
    const first = await exchange(kit, await codeFor(deniz), { device_id: 'till', device_name: 'Till 1' });
    const again = await exchange(kit, await codeFor(deniz), { device_id: 'till', device_name: 'Till 1' });
    expect([await works(kit, first), await works(kit, again)]).toEqual([false, true]);
    expect(
      await kit.rows(
        `select distinct client, device, device_name from session where account = $1 and client is not null`,
        deniz.id,
      ),
    ).toEqual([{ client: 'app', device: 'till', device_name: 'Till 1' }]);
    kit.advance(1000);
    const many: Reply[] = [];
    for (let n = 0; n < 20; n += 1) {
      many.push(await exchange(kit, await codeFor(deniz)));
      kit.advance(1000);
    }
    expect(await works(kit, again)).toBe(false);
    // A renewal makes one the newest.
    const renewed = await refresh(kit, many[0]!.body.refresh_token);
    kit.advance(1000);
    await exchange(kit, await codeFor(deniz));
    expect([await works(kit, renewed), await works(kit, many[1]!), await works(kit, many[2]!)]).toEqual([
      true,
      false,
      true,
    ]);
  });

  test('a refresh token is of one client; used twice it ends the family', async () => {
    const first = await exchange(kit, await codeFor(ada));
    expectRefused(await refresh(kit, first.body.refresh_token, { client_id: 'other' }), 'invalid_grant');
    const second = await refresh(kit, first.body.refresh_token, { client_id: 'app' });
    expect(second.status).toBe(200);
    expectRefused(await refresh(kit, first.body.refresh_token), 'invalid_grant');
    expect(await works(kit, second)).toBe(false);
  });

  test('are revoked by either kind, but not by another client', async () => {
    const tokens = await exchange(kit, await codeFor(ada));
    const revoke = (body: Texts): Promise<Reply> => kit.send('POST', '/oauth/revoke', { body });
    expectRefused(await revoke({ token: tokens.body.access_token, client_id: 'other' }), 'invalid_grant');
    expect(await works(kit, tokens)).toBe(true);
    expect((await revoke({ token: tokens.body.access_token, client_id: 'app' })).status).toBe(200);
    expect(await works(kit, tokens)).toBe(false);
    expectRefused(await refresh(kit, tokens.body.refresh_token), 'invalid_grant');
  });

  test('a client that is disabled has none from that moment, on any process, and gets none', async () => {
    await createClient(
      kit.ctx,
      { id: 'brief', name: 'Brief', redirect_uris: [BACK], password_grant: true },
      atTheMachine,
    );
    const more = { client_id: 'brief' };
    const tokens = await exchange(kit, await codeFor(ada, more), more);
    const code = await codeFor(ada, more);
    await changeClient(twin.ctx, 'brief', { disabled: true }, atTheMachine);
    expect(await works(kit, tokens)).toBe(false);
    expectRefused(await refresh(kit, tokens.body.refresh_token), 'invalid_grant');
    expectRefused(await exchange(kit, code, more), 'invalid_client');
    const body = { grant_type: 'password', ...more, username: ada.email, password: PASSWORD };
    expectRefused(await kit.send('POST', '/api/token', { body }), 'invalid_client');
    await changeClient(kit.ctx, 'brief', { disabled: false }, atTheMachine);
    expectRefused(await exchange(kit, code, more), 'invalid_grant');
    expect((await exchange(kit, await codeFor(ada, more), more)).status).toBe(200);
  });

  test('what is disabled while it gets tokens keeps none', async () => {
    await createClient(
      kit.ctx,
      { id: 'racing', name: 'Racing', redirect_uris: [BACK], first_party: true },
      atTheMachine,
    );
    for (let round = 1; round <= 10; round += 1) {
      await changeClient(kit.ctx, 'racing', { disabled: false }, atTheMachine);
      const code = said(await look(ada, { client_id: 'racing' }))['code']!;
      const held = await exchange(kit, said(await look(ada, { client_id: 'racing' }))['code']!, {
        client_id: 'racing',
      });
      await Promise.all([
        exchange(kit, code, { client_id: 'racing' }),
        refresh(kit, held.body.refresh_token),
        changeClient(twin.ctx, 'racing', { disabled: true }, atTheMachine),
      ]);
      expect(await kit.rows(`select kind from session where client = 'racing'`)).toEqual([]);
    }
  });
});

describe('codes under way', () => {
  test('end with any sign-in of the account that is ended: one could come back as a new sign-in', async () => {
    const thief = await kit.signIn(ada.email);
    const till = await exchange(kit, await codeFor(thief));
    const [first, second] = [await codeFor(thief), await codeFor(thief)];
    const [session] = await kit.rows<{ family: string }>(
      `select family from session where account = $1 and kind = 'cookie' order by created_at desc limit 1`,
      ada.id,
    );
    const headers = { authorization: `Bearer ${till.body.access_token}` };
    expect((await kit.send('DELETE', `/api/sessions/${session!.family}`, { headers })).status).toBe(200);
    expectRefused(await exchange(kit, first), 'invalid_grant');
    expectRefused(await exchange(kit, second), 'invalid_grant');
    expect(await works(kit, till)).toBe(true);
  });

  test('are throttled also where nobody is asked', async () => {
    await createClient(kit.ctx, { id: 'ours', name: 'Ours', redirect_uris: [BACK], first_party: true }, atTheMachine);
    await kit.set('THROTTLING_SETTINGS', { token: { count: 2, duration: 60 } });
    const someone = await kit.signUp();
    const statuses = [];
    for (let n = 0; n < 3; n += 1) statuses.push((await look(someone, { client_id: 'ours' })).status);
    expect(statuses).toEqual([302, 302, 429]);
    // What only shows a page is not counted.
    expect((await look(someone)).status).toBe(200);
    expect(await kit.rows('select from authorization_code where account = $1', someone.id)).toHaveLength(2);
    await kit.set('THROTTLING_SETTINGS', { login: null, token: null, register: null });
  });
});

test('a program of the shop is asked about all the same where it is called by a scheme that others can take', async () => {
  const redirect_uris = [BACK, 'com.example.ours:/cb'];
  await createClient(kit.ctx, { id: 'phone', name: 'Phone', redirect_uris, first_party: true }, atTheMachine);
  expect((await look(ada, { client_id: 'phone' })).status).toBe(302);
  const scheme = { client_id: 'phone', redirect_uri: 'com.example.ours:/cb' };
  const page = await look(ada, scheme);
  expect([page.status, page.text.includes('value="allow"')]).toEqual([200, true]);
  const allowed = await answer(ada, 'allow', scheme);
  expect(allowed.headers['location']).toMatch(/^com\.example\.ours:\/cb\?code=/);
});

describe('a client of any library', () => {
  test('finds us, signs somebody in, renews and revokes: openid-client', async () => {
    await kit.http.listen({ port: 0, host: '127.0.0.1' });
    const origin = `http://127.0.0.1:${(kit.http.server.address() as AddressInfo).port}`;
    const config = await oauth.discovery(new URL(origin), 'app', undefined, oauth.None(), {
      algorithm: 'oauth2',
      execute: [oauth.allowInsecureRequests],
    });
    expect(config.serverMetadata()).toMatchObject({ issuer: origin, token_endpoint: `${origin}/api/token` });
    const code_verifier = oauth.randomPKCECodeVerifier();
    const state = oauth.randomState();
    const redirect_uri = 'http://127.0.0.1:49152/cb';
    const url = oauth.buildAuthorizationUrl(config, {
      redirect_uri,
      scope: 'openid',
      state,
      code_challenge: await oauth.calculatePKCECodeChallenge(code_verifier),
      code_challenge_method: 'S256',
    });
    expect(url.origin).toBe(origin);
    const reply = await answer(ada, 'allow', Object.fromEntries(url.searchParams));
    const checks = { pkceCodeVerifier: code_verifier, expectedState: state };
    const tokens = await oauth.authorizationCodeGrant(config, new URL(String(reply.headers['location'])), checks);
    expect([tokens.token_type, tokens.expires_in]).toEqual(['bearer', 3600]);
    const renewed = await oauth.refreshTokenGrant(config, tokens.refresh_token!);
    const user = await oauth.fetchProtectedResource(config, renewed.access_token, new URL(`${origin}/user`), 'GET');
    expect(((await user.json()) as Texts)['email']).toBe(ada.email);
    await oauth.tokenRevocation(config, renewed.access_token);
    await expect(oauth.refreshTokenGrant(config, renewed.refresh_token!)).rejects.toMatchObject({
      error: 'invalid_grant',
      error_description: 'The credentials or the token are not right, or no longer valid.',
    });
    const denied = await answer(ada, 'deny', Object.fromEntries(url.searchParams));
    await expect(
      oauth.authorizationCodeGrant(config, new URL(String(denied.headers['location'])), checks),
    ).rejects.toMatchObject({ error: 'access_denied' });
  });
});
