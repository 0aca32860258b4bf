/** What is given by operators can be taken by them: API keys, the role of an operator, a password that others know. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { revokeOperator } from '../../src/admin/acts.ts';
import { throttleScopes } from '../../src/settings.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply, type Send } from '../kit.ts';
import { enrol, visitorOf } from '../visitor.ts';

let kit: Kit;
/** A second process. */
let twin: Kit;
let boss: Client;
/** A program that may do all of it. */
let key: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  twin = await kit.twin();
  boss = await kit.operator();
  key = await kit.apiKey('*');
});
afterAll(() => kit.close());

/** Headers of a browser, for another process than its own. */
const headersOf = ({ cookies }: Client): Record<string, string> => ({
  cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
  'x-csrftoken': cookies.get('csrftoken')!,
});

/** What both processes answer. */
const both = async (path: string, headers: Record<string, string>): Promise<number[]> =>
  (await Promise.all([kit, twin].map(({ send }) => send('GET', path, { headers })))).map(({ status }) => status);

const because = (reason: string): { headers: Record<string, string> } => ({
  headers: { 'assent-change-reason': Buffer.from(reason).toString('latin1') },
});

/** Lines about a key or an account, oldest first. */
const lines = (about: string | number): Promise<Record<string, unknown>[]> =>
  kit.rows(
    `select actor, kind, subject, detail, reason from operator_event
      where ${typeof about === 'string' ? 'subject' : 'account'} = $1 order by id`,
    about,
  );

/** Waits until a statement waits for a row. */
const somebodyWaits = (): Promise<void> =>
  expect
    .poll(() =>
      kit.rows(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`),
    )
    .toHaveLength(1);

const make = (name: string, scopes: readonly string[] = ['consents'], send: Send = boss.send): Promise<Reply> =>
  send('POST', '/v1/keys', { body: { name, scopes } });

describe('an API key', () => {
  test('is made by an operator over the wire, works in every process, and is shown once', async () => {
    const asked = { name: 'crm', scopes: ['consents', 'accounts'], reason: 'The new CRM' };
    const made = await boss.send('POST', '/v1/keys', { body: asked });
    const shown = {
      id: expect.any(Number),
      name: 'crm',
      scopes: ['consents', 'accounts'],
      created_at: expect.any(String),
      created_by: `operator:${boss.id}`,
      revoked_at: null,
    };
    expect([made.status, made.body, made.headers['cache-control']]).toEqual([
      201,
      { ...shown, key: expect.stringMatching(/^assent_[0-9a-f]{40,}$/) },
      'private, no-store',
    ]);
    const headers = { authorization: `Bearer ${made.body.key}` };
    expect([await both('/v1/accounts', headers), await both('/v1/settings', headers)]).toEqual([
      [200, 200],
      [403, 403],
    ]);
    const listed = await key('GET', '/v1/keys');
    expect([listed.status, listed.body.items[0], listed.body.next]).toEqual([200, shown, null]);
    expect(await lines('crm')).toEqual([
      {
        actor: `operator:${boss.id}`,
        kind: 'key_made',
        subject: 'crm',
        detail: { after: { key: made.body.id, scopes: ['consents', 'accounts'] } },
        reason: 'The new CRM',
      },
    ]);
    const [stored] = await kit.rows<{ text: string }>(
      `select (select string_agg(k::text, ' ') from api_key k) || (select string_agg(e::text, ' ') from operator_event e) as text`,
    );
    expect([stored!.text, listed.text, ...kit.logged].filter((text) => text.includes(made.body.key))).toEqual([]);
  });

  test('that is revoked is refused by every process from the answer on; its row and its name’s past stay', async () => {
    const { body: first } = await make('till');
    const headers = { authorization: `Bearer ${first.key}` };
    expect(await both('/v1/notices', headers)).toEqual([200, 200]);
    const revoke = (): Promise<Reply> => boss.send('DELETE', `/v1/keys/${first.id}`, because('Sızdı'));
    const revoked = await revoke();
    expect([revoked.status, revoked.text]).toEqual([204, '']);
    expect(await both('/v1/notices', headers)).toEqual([401, 401]);
    expect((await kit.send('GET', '/v1/notices', { headers })).body.code).toBe('invalid_token');
    // Once more it is as it was, and nothing is written.
    expect((await revoke()).status).toBe(204);
    const { body: second } = await make('till', ['decisions']);
    expect(await both('/v1/notices', headers)).toEqual([401, 401]);
    const listed = (await boss.send('GET', '/v1/keys?limit=2')).body;
    expect(listed.items).toMatchObject([
      { id: second.id, name: 'till', revoked_at: null },
      { id: first.id, name: 'till', revoked_at: expect.any(String) },
    ]);
    const next = (await boss.send('GET', `/v1/keys?limit=1&after=${listed.next}`)).body.items;
    expect(next[0].id).toBeLessThan(first.id);
    expect((await lines('till')).map(({ kind, detail, reason }) => ({ kind, detail, reason }))).toEqual([
      { kind: 'key_made', detail: { after: { key: first.id, scopes: ['consents'] } }, reason: null },
      {
        kind: 'key_revoked',
        detail: { before: { key: first.id, scopes: ['consents'] }, after: null },
        reason: 'Sızdı',
      },
      { kind: 'key_made', detail: { after: { key: second.id, scopes: ['decisions'] } }, reason: null },
    ]);
  });

  test('can revoke itself, and needs the scope keys for it', async () => {
    const [blind, own] = [(await make('blind', ['accounts'])).body, (await make('own', ['keys'])).body];
    const revoke = (id: number, secret: string): Promise<Reply> =>
      kit.send('DELETE', `/v1/keys/${id}`, { headers: { authorization: `Bearer ${secret}` } });
    expect((await revoke(blind.id, blind.key)).status).toBe(403);
    expect((await revoke(own.id, own.key)).status).toBe(204);
    expect((await lines('own')).map(({ actor, kind }) => [actor, kind])).toEqual([
      [`operator:${boss.id}`, 'key_made'],
      [`key:${own.id}`, 'key_revoked'],
    ]);
  });

  test('has a name no other working key has', async () => {
    expect((await make('front')).status).toBe(201);
    const taken = await make('front', ['decisions']);
    expect([taken.status, taken.body.code, taken.body.errors]).toEqual([
      409,
      'conflict',
      [
        {
          pointer: '/name',
          code: 'taken',
          detail: 'The key front is there already. Revoke it first, or take another name.',
        },
      ],
    ]);
    const atOnce = await Promise.all([1, 2, 3, 4].map(() => make('at once')));
    expect(atOnce.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409]);
    expect((await lines('at once')).map(({ kind }) => kind)).toEqual(['key_made']);
  });

  test('makes no other key, whatever it may do; nor does anybody but an operator in person', async () => {
    const before = await kit.rows('select id from api_key order by id');
    const refusal = async (send: Send, headers = {}): Promise<unknown[]> => {
      const { status, body } = await send('POST', '/v1/keys', { body: { name: 'more', scopes: ['keys'] }, headers });
      return [status, body.code];
    };
    expect(await refusal(key)).toEqual([403, 'in_person']);
    // A browser that sends a key along is not in person either: whose wish it is would be a guess.
    const sent = (await make('along', ['keys'])).body;
    expect(await refusal(boss.send, { authorization: `Bearer ${sent.key}` })).toEqual([403, 'in_person']);
    expect(await refusal((await kit.signUp()).send)).toEqual([403, 'in_person']);
    expect(await refusal(await kit.bearer(boss.email))).toEqual([403, 'in_person']);
    expect(await refusal(boss.send, { 'x-csrftoken': 'wrong' })).toEqual([403, 'csrf_failed']);
    expect(await refusal(kit.send)).toEqual([401, 'not_authenticated']);
    await kit.set('SECOND_FACTOR_REQUIRED', ['operators']);
    expect(await refusal(boss.send)).toEqual([403, 'second_factor_required']);
    await kit.set('SECOND_FACTOR_REQUIRED', []);
    for (const body of [
      {},
      { name: 'more', scopes: [] },
      { name: 'more', scopes: ['*'] },
      { name: 'more', scopes: ['everything'] },
      { name: ' ', scopes: ['keys'] },
      { name: 'x'.repeat(201), scopes: ['keys'] },
      { name: 'more', scopes: ['keys'], key: 'assent_chosen' },
    ]) {
      const { status, body: answer } = await boss.send('POST', '/v1/keys', { body });
      expect([body, status, answer.code]).toEqual([body, 400, 'invalid']);
    }
    expect(await kit.rows('select id from api_key order by id')).toEqual([...before, { id: sent.id }]);
  });

  test('is not made by an operator who is being switched off', async () => {
    const second = await kit.operator();
    let asked: Promise<Reply> | undefined;
    // Holds what somebody holds who switches an operator off, until the request waits for it.
    await kit.database.transaction(async (db) => {
      const run = (text: string): Promise<number> => db.run({ name: '', text, values: [] });
      await run(`select pg_advisory_xact_lock(hashtext('assent.operators'))`);
      await run(`update account set is_active = false where id = ${second.id}`);
      asked = twin.send('POST', '/v1/keys', {
        body: { name: 'late', scopes: ['keys'] },
        headers: headersOf(second),
      });
      await somebodyWaits();
    });
    const { status, body } = await asked!;
    expect([status, body.code, await lines('late')]).toEqual([401, 'not_authenticated', []]);
    expect(await kit.rows(`select from api_key where name = 'late'`)).toEqual([]);
  });

  test('that shared its name before names were unique is told apart by its id', async () => {
    const sql = readFileSync(join(import.meta.dirname, '../../migrations/0012_api_keys.sql'), 'utf8');
    const unique = sql.slice(sql.indexOf('update api_key'));
    await kit.owner('drop index api_key_name');
    await kit.owner(
      `insert into api_key (name, key_hash, scopes, created_at, created_by, revoked_at)
       select 'twice', sha256(n::text::bytea), '{}', now(), 'command', case n when 1 then now() end
         from generate_series(1, 4) n`,
    );
    for (const statement of unique.split(';').filter((text) => text.trim() !== '')) await kit.owner(statement);
    const named = await kit.rows<{ id: number; name: string }>(
      `select id, name from api_key where name like 'twice%' order by id`,
    );
    const [revoked, first, second, third] = named.map(({ id }) => id);
    expect(named).toEqual([
      { id: revoked, name: 'twice' },
      { id: first, name: 'twice' },
      { id: second, name: `twice (key ${second})` },
      { id: third, name: `twice (key ${third})` },
    ]);
  });
});

const revoke = (id: number, send: Send = boss.send, sent = {}): Promise<Reply> =>
  send('DELETE', `/v1/operators/${id}`, sent);

describe('an operator', () => {
  test('is listed, and has nothing to do with the installation once the role is taken away', async () => {
    const second = await kit.operator();
    const [shown] = (await key('GET', '/v1/operators')).body.items.filter(({ id }: Client) => id === second.id);
    expect(shown).toEqual({
      id: second.id,
      email: second.email,
      first_name: '',
      last_name: '',
      is_active: true,
      second_factor: false,
      last_login: expect.any(String),
    });
    expect(await both('/v1/settings', headersOf(second))).toEqual([200, 200]);
    const taken = await revoke(second.id, boss.send, because('She left'));
    expect([taken.status, taken.body]).toEqual([200, { keys_made: [] }]);
    expect(await both('/v1/settings', headersOf(second))).toEqual([401, 401]);
    expect(await kit.rows('select from session where account = $1', second.id)).toEqual([]);
    // The account is a customer’s now.
    const again = await kit.signIn(second.email);
    expect(await both('/users/profile/', headersOf(again))).toEqual([200, 200]);
    expect(await both('/v1/settings', headersOf(again))).toEqual([403, 403]);
    expect((await revoke(second.id)).status).toBe(200);
    expect(await both('/users/profile/', headersOf(again))).toEqual([200, 200]);
    expect((await revoke(999_999)).status).toBe(404);
    const ids = (await key('GET', '/v1/operators')).body.items.map(({ id }: Client) => id);
    expect(ids).not.toContain(second.id);
    expect(await lines(second.id)).toEqual([
      expect.objectContaining({ kind: 'operator_made' }),
      {
        actor: `operator:${boss.id}`,
        kind: 'operator_revoked',
        subject: null,
        detail: { before: { operator: true }, after: { operator: false }, sign_ins: 1 },
        reason: 'She left',
      },
    ]);
  });

  test('does not take their own role, and the last one keeps it; one who is switched off counts for nobody', async () => {
    const own = await revoke(boss.id);
    expect([own.status, own.body.code, own.body.detail]).toEqual([
      409,
      'own_account',
      'Nobody does this to their own account. Ask another operator.',
    ]);
    const second = await kit.operator();
    await boss.send('PATCH', `/v1/accounts/${second.id}`, { body: { active: false } });
    await expect(revokeOperator(kit.ctx, boss.id, atTheMachine)).rejects.toMatchObject({ code: 'last_operator' });
    // Nobody is lost with one who could not sign in anyway.
    expect((await revoke(second.id)).status).toBe(200);
    expect((await lines(boss.id)).map(({ kind }) => kind)).toEqual(['operator_made']);
    expect(await both('/v1/settings', headersOf(boss))).toEqual([200, 200]);
    const byKey = await revoke(boss.id, key);
    expect([byKey.status, byKey.body.code]).toEqual([403, 'in_person']);
  });

  test('of two who take each other’s role or switch each other off at once one stays', async () => {
    for (let round = 1; round <= 6; round += 1) {
      const [one, two] = [await kit.operator(), await kit.operator()];
      const sent = { headers: headersOf(two) };
      const other =
        round % 2 === 0
          ? twin.send('DELETE', `/v1/operators/${one.id}`, sent)
          : twin.send('PATCH', `/v1/accounts/${one.id}`, { body: { active: false }, ...sent });
      const statuses = (await Promise.all([revoke(two.id, one.send), other])).map(({ status }) => status);
      expect(statuses.filter((status) => status < 300)).toHaveLength(1);
      expect(statuses.filter((status) => status === 401)).toHaveLength(1);
      const left = await kit.rows('select from account where is_active and is_operator and id = any ($1::bigint[])', [
        one.id,
        two.id,
      ]);
      expect(left).toHaveLength(1);
      await kit.rows('update account set is_operator = false where id = any ($1::bigint[])', [one.id, two.id]);
    }
  });

  test('who is the last cannot be erased, nor can the last two erase each other', async () => {
    const erase = (account: number, send: Send): Promise<Reply> => send('POST', '/v1/erasures', { body: { account } });
    const refused = await erase(boss.id, boss.send);
    expect([refused.status, refused.body.code]).toEqual([409, 'last_operator']);
    const program = await erase(boss.id, key);
    expect([program.status, program.body.code]).toEqual([403, 'in_person']);
    expect(await both('/v1/settings', headersOf(boss))).toEqual([200, 200]);
    for (let round = 1; round <= 3; round += 1) {
      const [one, two] = [await kit.operator(), await kit.operator()];
      await kit.rows('update account set is_operator = false where id = $1', boss.id);
      const replies = await Promise.all([erase(one.id, two.send), erase(two.id, one.send)]);
      expect(replies.map(({ status, body }) => [status, body.code]).sort()).toEqual([
        [200, undefined],
        [401, 'not_authenticated'],
      ]);
      await kit.rows('update account set is_operator = id = $1', boss.id);
    }
  });
});

const voidOf = (id: number, body?: object, send: Send = boss.send): Promise<Reply> =>
  send('POST', `/v1/accounts/${id}/password-reset`, body === undefined ? {} : { body });

const login = async (email: string, password = PASSWORD): Promise<number[]> =>
  (await Promise.all([kit, twin].map(({ send }) => send('POST', '/users/login/', { body: { email, password } })))).map(
    ({ status }) => status,
  );

/** Links that were mailed to somebody, oldest first. */
async function mailed(email: string): Promise<string[]> {
  await kit.jobs();
  const mails = (await kit.outbox('mail')).filter(({ recipient }) => recipient === email);
  return mails.flatMap(({ body }) => /\/links\/([0-9a-f]{64})/.exec(body)?.[1] ?? []);
}

const forget = (email: string): Promise<Reply> => kit.send('POST', '/users/password/reset/', { body: { email } });

describe('a password that others know', () => {
  test('is worthless at every process from the answer on, with all that it opened; its owner gets a link for a new one', async () => {
    const ada = await kit.signUp();
    await forget(ada.email);
    const [old] = await mailed(ada.email);
    const reset = await voidOf(ada.id, { reason: 'It leaked elsewhere' });
    expect([reset.status, reset.body]).toEqual([200, { sign_ins: 1, mailed: true }]);
    expect(await both('/users/profile/', headersOf(ada))).toEqual([401, 401]);
    expect(await login(ada.email)).toEqual([400, 400]);
    // The link that somebody may have asked for before is over: within the minute, too.
    expect((await kit.send('GET', `/links/${old}`)).status).toBe(410);
    const links = await mailed(ada.email);
    expect(links).toHaveLength(2);
    const [stored] = await kit.rows<{ password: string }>('select password from account where id = $1', ada.id);
    // Compared like any other, in the same time.
    expect(stored!.password).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect((await boss.send('GET', `/v1/accounts/${ada.id}`)).body).toMatchObject({ is_active: true, invited: false });
    const next = 'a-password-nobody-read';
    const set = await kit.send('POST', '/users/password/reset/confirm/', {
      body: { token: links[1], new_password1: next, new_password2: next },
    });
    expect([set.status, await login(ada.email, next), await login(ada.email)]).toEqual([200, [200, 200], [400, 400]]);
    expect(await lines(ada.id)).toEqual([
      {
        actor: `operator:${boss.id}`,
        kind: 'password_voided',
        subject: null,
        detail: { sign_ins: 1, mailed: true },
        reason: 'It leaked elsewhere',
      },
    ]);
  });

  test('is void also where strangers have used up the mails of the hour', async () => {
    const ada = await kit.signUp();
    for (let asked = 1; asked <= 6; asked += 1) {
      await forget(ada.email);
      kit.advance(61_000);
    }
    const links = (): Promise<unknown[]> => kit.rows('select from mail_link where account = $1', ada.id);
    expect(await links()).toHaveLength(5);
    const before = await mailed(ada.email);
    expect((await voidOf(ada.id)).body).toEqual({ sign_ins: 1, mailed: true });
    expect([await links(), await mailed(ada.email)]).toEqual([
      expect.objectContaining({ length: 6 }),
      [...before, expect.any(String)],
    ]);
  });

  test('does not come back with the account that is switched on', async () => {
    const ada = await kit.signUp();
    const switchTo = (active: boolean): Promise<Reply> =>
      boss.send('PATCH', `/v1/accounts/${ada.id}`, { body: { active } });
    await switchTo(false);
    expect((await voidOf(ada.id, undefined, key)).body).toEqual({ sign_ins: 0, mailed: false });
    await switchTo(true);
    expect([await login(ada.email), await mailed(ada.email)]).toEqual([[400, 400], []]);
    await forget(ada.email);
    expect(await mailed(ada.email)).toHaveLength(1);
  });

  test('is none of an account that has none: it is refused, and nothing happens to it', async () => {
    const ada = await kit.signUp();
    // As the sign-in by an outside issuer, or an invitation, leaves them.
    await kit.rows('update account set password = null where id = $1', ada.id);
    const { status, body } = await voidOf(ada.id);
    expect([status, body.code, body.detail]).toEqual([
      409,
      'no_password',
      'This account has no password: it signs in elsewhere, or its invitation was never accepted.',
    ]);
    expect(await both('/users/profile/', headersOf(ada))).toEqual([200, 200]);
    expect([await lines(ada.id), await mailed(ada.email)]).toEqual([[], []]);
    expect((await kit.rows('select password from account where id = $1', ada.id))[0]).toEqual({ password: null });
    expect((await voidOf(999_999)).status).toBe(404);
    expect((await voidOf(ada.id, { why: 'so' })).status).toBe(400);
  });

  test('signs nobody in who was typing it meanwhile', async () => {
    const ada = await kit.signUp();
    for (let round = 1; round <= 5; round += 1) {
      const body = { email: ada.email, password: PASSWORD };
      const [reset] = await Promise.all([
        voidOf(ada.id),
        kit.send('POST', '/users/login/', { body }),
        twin.send('POST', '/users/login/', { body }),
      ]);
      expect(reset.status).toBe(200);
      expect(await kit.rows('select from session where account = $1', ada.id)).toEqual([]);
      const [link] = (await mailed(ada.email)).slice(-1);
      const set = { token: link, new_password1: PASSWORD, new_password2: PASSWORD };
      expect((await kit.send('POST', '/users/password/reset/confirm/', { body: set })).status).toBe(200);
    }
  });
});

describe('why something was taken', () => {
  test('stands in the history where the call has no body for it, and is refused when it is no line', async () => {
    const ada = await kit.signUp();
    await enrol(kit, visitorOf(kit, ada.cookies));
    const issuer = 'https://login.shop.example';
    await kit.rows(
      `insert into outside_identity (issuer, subject, account, created_at, last_used_at) values ($1, 'a', $2, now(), now())`,
      issuer,
      ada.id,
    );
    const { body: till } = await make('for a reason');
    const calls = [
      `/v1/accounts/${ada.id}/identities?issuer=${issuer}`,
      `/v1/accounts/${ada.id}/second-factor`,
      `/v1/accounts/${ada.id}/sessions`,
      `/v1/keys/${till.id}`,
      `/v1/operators/${ada.id}`,
    ];
    await kit.rows('update account set is_operator = true where id = $1', ada.id);
    for (const path of calls)
      for (const reason of ['x'.repeat(501), 'one\u0085two', '\uFFFD']) {
        const { status, body } = await boss.send('DELETE', path, because(reason));
        expect([path, status, body.errors]).toEqual([
          path,
          400,
          [
            {
              pointer: '/Assent-Change-Reason',
              code: 'reason',
              detail: 'This must be one line of at most 500 characters.',
            },
          ],
        ]);
      }
    expect(await lines(ada.id)).toEqual([]);
    for (const path of calls) {
      // Each of them ends sign-ins: there is one to end.
      if (path.endsWith('sessions')) await kit.signIn(ada.email);
      const { status } = await boss.send('DELETE', path, because(`Çünkü ${path}`));
      expect([path, status]).toEqual([path, path.includes('operators') ? 200 : 204]);
    }
    const told = [...(await lines(ada.id)), ...(await lines('for a reason')).slice(1)];
    expect(told.map(({ kind, reason }) => [kind, reason])).toEqual([
      ['identity_unlinked', `Çünkü ${calls[0]}`],
      ['second_factor_removed', `Çünkü ${calls[1]}`],
      ['sign_ins_ended', `Çünkü ${calls[2]}`],
      ['operator_revoked', `Çünkü ${calls[4]}`],
      ['key_revoked', `Çünkü ${calls[3]}`],
    ]);
  });
});
