/** What operators do with accounts in the wrong hands: nothing of them is honoured any more, by no process, and it stands in a history. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { switchAccount } from '../../src/admin/acts.ts';
import { createApiKey } from '../../src/admin/keys.ts';
import { changeClient, createClient } from '../../src/oauth/clients.ts';
import { createOperator } from '../../src/operators.ts';
import { throttleScopes } from '../../src/settings.ts';
import { BACK, codeFor, exchange, expectRefused, look, refresh, said, works } from '../authorizing.ts';
import { openBakery } from '../bakery.ts';
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
  await createClient(kit.ctx, { id: 'app', name: 'App', redirect_uris: [BACK] }, atTheMachine);
  await createClient(kit.ctx, { id: 'own', name: 'Our own', redirect_uris: [BACK], first_party: true }, atTheMachine);
  boss = await kit.operator();
  key = await kit.apiKey('accounts', 'manage_accounts', 'operator_events', 'clients', 'privacy');
});
afterAll(() => kit.close());

const path = (id: number, rest = ''): string => `/v1/accounts/${id}${rest}`;
const switchTo = (id: number, active: boolean, send: Send = boss.send, reason?: string): Promise<Reply> =>
  send('PATCH', path(id), { body: { active, ...(reason === undefined ? {} : { reason }) } });

/** Lines about an account, oldest first. */
const lines = (id: number): Promise<Record<string, unknown>[]> =>
  kit.rows('select actor, kind, subject, detail, reason from operator_event where account = $1 order by id', id);

const signInsOf = (id: number): Promise<unknown[]> => kit.rows('select kind from session where account = $1', id);

/** Whether a browser or Token of theirs opens anything, at either process. */
async function opens({ cookies, key: token }: Client): Promise<number[]> {
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const all = [kit, twin].flatMap(({ send }) =>
    [{ cookie }, { authorization: `Token ${token}` }].map((headers) => send('GET', '/users/profile/', { headers })),
  );
  return (await Promise.all(all)).map(({ status }) => status);
}

const bothWork = async (tokens: Reply): Promise<boolean[]> => [await works(kit, tokens), await works(twin, tokens)];

describe('an account that is switched off', () => {
  test('has nothing any process honours from the answer on, and gets nothing of it back when it is switched on', async () => {
    const ada = await kit.signUp();
    const tokens = await exchange(kit, await codeFor(ada));
    const [code, link] = [
      await codeFor(ada),
      'select purpose, used_at is null as open from mail_link where account = $1',
    ];
    await kit.send('POST', '/users/password/reset/', { body: { email: ada.email } });
    await ada.send('POST', '/users/email-change/', { body: { email: 'elsewhere@example.com', password: PASSWORD } });
    await ada.send('PATCH', '/users/profile-with-loyalty/', { body: { phone: '+905324447701' } });
    expect(await kit.rows('select account from phone_change where account = $1', ada.id)).toHaveLength(1);
    await kit.jobs();
    const mails = (await kit.outbox('mail')).filter(({ recipient }) => recipient === ada.email);
    const [token] = mails.flatMap(({ body }) => /\/links\/([0-9a-f]{64})/.exec(body)?.[1] ?? []);
    expect((await kit.send('GET', `/links/${token}`)).status).toBe(200);
    expect([await opens(ada), await bothWork(tokens)]).toEqual([
      [200, 200, 200, 200],
      [true, true],
    ]);

    const off = await switchTo(ada.id, false, boss.send, 'The phone was stolen');
    expect([off.status, off.body]).toEqual([
      200,
      expect.objectContaining({ id: ada.id, is_active: false, second_factor: false, unmanaged_companies: [] }),
    ]);
    const nothing = async (): Promise<void> => {
      expect([await opens(ada), await bothWork(tokens)]).toEqual([
        [401, 401, 401, 401],
        [false, false],
      ]);
      expectRefused(await refresh(twin, tokens.body.refresh_token), 'invalid_grant');
      expectRefused(await exchange(twin, code), 'invalid_grant');
      expect((await kit.send('GET', `/links/${token}`)).status).toBe(410);
      expect(await signInsOf(ada.id)).toEqual([]);
      expect(await kit.rows('select from authorization_code where account = $1 and used_at is null', ada.id)).toEqual(
        [],
      );
      expect(await kit.rows('select from phone_change where account = $1', ada.id)).toEqual([]);
    };
    await nothing();
    expect((await kit.rows<{ open: boolean }>(link, ada.id)).map(({ open }) => open)).not.toContain(true);
    const body = { email: ada.email, password: PASSWORD };
    expect((await twin.send('POST', '/users/login/', { body })).status).toBe(400);

    const on = await switchTo(ada.id, true);
    expect([on.status, on.body.is_active]).toEqual([200, true]);
    await nothing();
    expect((await kit.rows<{ open: boolean }>(link, ada.id)).map(({ open }) => open)).not.toContain(true);
    expect((await twin.send('POST', '/users/login/', { body })).status).toBe(200);
    expect(await lines(ada.id)).toEqual([
      {
        actor: `operator:${boss.id}`,
        kind: 'account_off',
        subject: null,
        detail: { before: { active: true }, after: { active: false }, sign_ins: 2, unmanaged_companies: [] },
        reason: 'The phone was stolen',
      },
      {
        actor: `operator:${boss.id}`,
        kind: 'account_on',
        subject: null,
        detail: { before: { active: false }, after: { active: true } },
        reason: null,
      },
    ]);
  });

  test('is left as it is when it is switched off again, and so is one that is on', async () => {
    const { id } = await kit.signUp();
    expect((await switchTo(id, true)).status).toBe(200);
    expect(await lines(id)).toEqual([]);
    await switchTo(id, false, key);
    const again = await switchTo(id, false, key, 'twice');
    expect([again.status, again.body.is_active]).toEqual([200, false]);
    expect((await lines(id)).map(({ kind }) => kind)).toEqual(['account_off']);
    expect(await opens(boss)).toEqual([200, 200, 200, 200]);
  });

  test('says which companies nobody is left to manage', async () => {
    const bakery = await openBakery(kit, 1);
    const other = await openBakery(kit, 1);
    const manager = await kit.signUp();
    await bakery.grant(await bakery.invite(manager.email), bakery.shops, ['permissions']);
    await other.grant(await other.invite(manager.email), other.shops, ['permissions']);
    const unmanaged = async (id: number, active: boolean): Promise<number[]> =>
      (await switchTo(id, active)).body.unmanaged_companies;
    expect(await unmanaged(bakery.owner.id, false)).toEqual([]);
    expect(await unmanaged(manager.id, false)).toEqual([bakery.id]);
    expect((await lines(manager.id))[0]!['detail']).toMatchObject({ unmanaged_companies: [bakery.id] });
    // Asked again, the same is true.
    expect(await unmanaged(manager.id, false)).toEqual([bakery.id]);
    expect(await unmanaged(other.owner.id, false)).toEqual([other.id]);
    expect(await unmanaged(manager.id, true)).toEqual([]);
    // A right that is over manages nothing.
    await kit.rows(
      `update entry_right r set until = $2 from entry e where e.id = r.entry and e.account = $1 and r.permission = 'permissions'`,
      manager.id,
      new Date(kit.ctx.clock.now().getTime() - 1000),
    );
    await unmanaged(bakery.owner.id, true);
    expect(await unmanaged(bakery.owner.id, false)).toEqual([bakery.id]);
    // An address that nobody has proven manages nothing either.
    await kit.rows('update account set email_verified_at = null where id = $1', other.owner.id);
    expect(await unmanaged(other.owner.id, true)).toEqual([other.id]);
  });

  test('can still say no: its unsubscribe links go on working', async () => {
    const ada = await kit.signUp({ email_allowed: true });
    const crm = await kit.apiKey('consents', 'decisions');
    const { body } = await crm('GET', path(ada.id, '/unsubscribe-headers'));
    const link = new URL(/<(https?:[^>]+)>/.exec(body['List-Unsubscribe'])![1]!).pathname;
    await switchTo(ada.id, false, key);
    const clicked = await kit.send('POST', link, { form: 'List-Unsubscribe=One-Click' });
    expect(clicked.status).toBe(200);
    expect(
      await kit.rows(
        `select s.state from consent_state s join account a on a.email_point = s.contact_point where a.id = $1 and s.channel = 'email'`,
        ada.id,
      ),
    ).toEqual([{ state: 'withdrawn' }]);
  });

  test('cannot be one’s own, or the last operator’s', async () => {
    const own = await switchTo(boss.id, false);
    expect([own.status, own.body.code]).toEqual([409, 'own_account']);
    const atMachine = (): Promise<string> =>
      switchAccount(kit.ctx, boss.id, false, atTheMachine).then(
        () => 'done',
        ({ code }) => code,
      );
    expect(await atMachine()).toBe('last_operator');
    const second = await kit.operator();
    expect((await switchTo(second.id, false)).status).toBe(200);
    // One that is switched off keeps nobody in.
    expect(await atMachine()).toBe('last_operator');
    expect((await second.send('GET', '/v1/accounts')).status).toBe(401);
    expect((await lines(boss.id)).map(({ kind }) => kind)).toEqual(['operator_made']);
    expect((await lines(second.id)).map(({ kind, actor }) => `${kind} ${actor}`)).toEqual([
      'operator_made command',
      `account_off operator:${boss.id}`,
    ]);
    await createOperator(kit.ctx, second.email);
    expect((await lines(second.id)).at(-1)).toEqual({
      actor: 'command',
      kind: 'operator_made',
      subject: null,
      detail: {
        before: { operator: true, active: false },
        after: { operator: true, active: true },
        password_set: false,
      },
      reason: null,
    });
    await switchTo(second.id, false);
  });

  test('of two operators who switch each other off at once one stays', async () => {
    for (let round = 1; round <= 5; round += 1) {
      const [one, two] = [await kit.operator(), await kit.operator()];
      const cookie = [...two.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const headers = { cookie, 'x-csrftoken': two.cookies.get('csrftoken')! };
      const replies = await Promise.all([
        switchTo(two.id, false, one.send),
        twin.send('PATCH', path(one.id), { body: { active: false }, headers }),
      ]);
      expect(replies.map(({ status }) => status).sort()).toEqual([200, 401]);
      const [left] = await kit.rows<{ count: number }>(
        'select count(*)::int from account where is_active and id = any ($1::bigint[])',
        [one.id, two.id],
      );
      expect(left).toEqual({ count: 1 });
      await kit.rows('update account set is_operator = false where id = any ($1::bigint[])', [one.id, two.id]);
    }
  });

  test('refuses what is no change and what is no account', async () => {
    const { id } = await kit.signUp();
    for (const body of [
      {},
      { active: 'no' },
      { active: false, reason: '' },
      { active: false, reason: 'x'.repeat(501) },
    ]) {
      const { status, body: answer } = await boss.send('PATCH', path(id), { body });
      expect([status, answer.code]).toEqual([400, 'invalid']);
    }
    const gone: [string, string, object?][] = [
      ['PATCH', '', { active: false }],
      ['GET', '/sessions'],
      ['DELETE', '/sessions'],
      ['GET', '/identities'],
      ['DELETE', '/identities?issuer=https://a.example'],
      ['DELETE', '/second-factor'],
      ['GET', '/history'],
    ];
    for (const [method, rest, body] of gone) {
      const reply = await key(method, path(999_999, rest), body === undefined ? {} : { body });
      expect([method, rest, reply.status]).toEqual([method, rest, 404]);
    }
    expect(await lines(id)).toEqual([]);
  });

  test('reading and managing are two scopes', async () => {
    const { id } = await kit.signUp();
    const [reader, manager] = [await kit.apiKey('accounts'), await kit.apiKey('manage_accounts')];
    expect((await switchTo(id, false, reader)).status).toBe(403);
    expect((await reader('GET', path(id, '/history'))).status).toBe(200);
    expect((await reader('GET', '/v1/operator-events')).status).toBe(403);
    expect((await manager('GET', path(id))).status).toBe(403);
    expect((await switchTo(id, false, manager)).status).toBe(200);
  });
});

describe('what is under way while an account is switched off', () => {
  test('leaves nothing behind: renewals, sign-ins, exchanges, codes and links at two processes', async () => {
    const ada = await kit.signUp();
    const login = { body: { email: ada.email, password: PASSWORD } };
    for (let round = 1; round <= 10; round += 1) {
      await switchTo(ada.id, true, key);
      const browser = await kit.signIn(ada.email);
      const code = said(await look(browser, { client_id: 'own' }))['code']!;
      const held = await exchange(kit, said(await look(browser, { client_id: 'own' }))['code']!, { client_id: 'own' });
      expect(held.status).toBe(200);
      const [off] = await Promise.all([
        switchTo(ada.id, false, key),
        exchange(twin, code, { client_id: 'own' }),
        refresh(twin, held.body.refresh_token),
        look(browser, { client_id: 'own' }),
        kit.send('POST', '/users/login/', login),
        twin.send('POST', '/users/login/', login),
        twin.send('POST', '/users/password/reset/', { body: { email: ada.email } }),
      ]);
      expect(off.status).toBe(200);
      expect(await signInsOf(ada.id)).toEqual([]);
      expect(await kit.rows('select from authorization_code where account = $1 and used_at is null', ada.id)).toEqual(
        [],
      );
      expect(await kit.rows('select from mail_link where account = $1 and used_at is null', ada.id)).toEqual([]);
      kit.advance(61_000);
    }
  });

  test('a link that is asked for just before is not made after', async () => {
    const ada = await kit.signUp();
    // Holds the row as somebody does who switches the account off, until the request has looked at it and waits.
    let asked: Promise<Reply> | undefined;
    await kit.database.transaction(async (db) => {
      const run = (text: string): Promise<number> => db.run({ name: '', text, values: [] });
      await run(`update account set is_active = false where id = ${ada.id}`);
      asked = twin.send('POST', '/users/password/reset/', { body: { email: ada.email } });
      await expect
        .poll(() =>
          kit.rows(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`),
        )
        .toHaveLength(1);
    });
    expect((await asked!).status).toBe(200);
    expect(await kit.rows('select from mail_link where account = $1', ada.id)).toEqual([]);
  });
});

describe('sign-ins of somebody', () => {
  test('are listed, and all end without the account being switched off', async () => {
    const ada = await kit.signUp();
    const tokens = await exchange(kit, await codeFor(ada), { device_id: 'till', device_name: 'Till 1' });
    const code = await codeFor(ada);
    const { status, body } = await boss.send('GET', path(ada.id, '/sessions'));
    expect([status, body.next]).toEqual([200, null]);
    expect(body.items).toMatchObject([
      { client_id: 'app', client_name: 'App', device_id: 'till', device_name: 'Till 1' },
      { client_id: null, device_id: null },
    ]);
    expect(JSON.stringify(body)).not.toContain(ada.key);

    const ended = await boss.send('DELETE', path(ada.id, '/sessions'));
    expect([ended.status, ended.text]).toEqual([204, '']);
    expect([await opens(ada), await bothWork(tokens)]).toEqual([
      [401, 401, 401, 401],
      [false, false],
    ]);
    expectRefused(await exchange(twin, code), 'invalid_grant');
    expect((await boss.send('GET', path(ada.id, '/sessions'))).body).toEqual({ items: [], next: null });
    // Of none there is no line.
    expect((await boss.send('DELETE', path(ada.id, '/sessions'))).status).toBe(204);
    expect(await lines(ada.id)).toEqual([
      {
        actor: `operator:${boss.id}`,
        kind: 'sign_ins_ended',
        subject: null,
        detail: { sign_ins: 2 },
        reason: null,
      },
    ]);
    expect(await opens(await kit.signIn(ada.email))).toEqual([200, 200, 200, 200]);
  });

  test('end with the identity that is unlinked, once', async () => {
    const ada = await kit.signUp();
    const [one, two] = ['https://one.example/realm?a=b&c', 'https://two.example'];
    for (const issuer of [two, one])
      await kit.rows(
        `insert into outside_identity (issuer, subject, account, created_at, last_used_at) values ($1, 'ada-1', $2, now(), now())`,
        issuer,
        ada.id,
      );
    const times = { created_at: expect.any(String), last_used_at: expect.any(String) };
    expect((await boss.send('GET', path(ada.id, '/identities'))).body).toEqual({
      items: [one, two].map((issuer) => ({ issuer, subject: 'ada-1', ...times })),
      next: null,
    });
    expect((await boss.send('GET', path(ada.id))).body.identities).toBe(2);
    const missing = await boss.send('DELETE', path(ada.id, '/identities'));
    expect([missing.status, missing.body.errors[0]]).toEqual([400, expect.objectContaining({ code: 'required' })]);
    const unlink = (issuer: string): Promise<Reply> =>
      boss.send('DELETE', `${path(ada.id, '/identities')}?${new URLSearchParams({ issuer })}`);
    expect((await unlink('https://three.example')).status).toBe(204);
    expect(await opens(ada)).toEqual([200, 200, 200, 200]);
    expect((await unlink(one)).status).toBe(204);
    expect(await opens(ada)).toEqual([401, 401, 401, 401]);
    const again = await kit.signIn(ada.email);
    expect((await unlink(one)).status).toBe(204);
    expect(await opens(again)).toEqual([200, 200, 200, 200]);
    expect((await boss.send('GET', path(ada.id, '/identities'))).body.items).toMatchObject([{ issuer: two }]);
    const told = await lines(ada.id);
    expect(told).toMatchObject([{ kind: 'identity_unlinked', subject: one, detail: { sign_ins: 1 } }]);
    // Who they are at the issuer is nobody's business once it is unlinked.
    expect(JSON.stringify(told)).not.toContain('ada-1');
  });

  test('end with the second factor that is taken away, and its owner is told', async () => {
    const ada = await kit.signUp();
    await enrol(kit, visitorOf(kit, ada.cookies));
    expect((await boss.send('GET', path(ada.id))).body.second_factor).toBe(true);
    expect((await boss.send('DELETE', path(ada.id, '/second-factor'))).status).toBe(204);
    expect((await opens(ada)).slice(0, 2)).toEqual([401, 401]);
    expect((await boss.send('DELETE', path(ada.id, '/second-factor'))).status).toBe(204);
    expect((await boss.send('GET', path(ada.id))).body.second_factor).toBe(false);
    await kit.jobs();
    const mails = (await kit.outbox('mail')).filter(({ recipient }) => recipient === ada.email);
    expect(mails.map(({ subject }) => subject)).toEqual([
      'A second factor protects your account now',
      'The second factor of your account is off',
    ]);
    expect(await lines(ada.id)).toMatchObject([
      {
        kind: 'second_factor_removed',
        detail: { before: { second_factor: true }, after: { second_factor: false }, sign_ins: 1 },
      },
    ]);
    expect(await opens(await kit.signIn(ada.email))).toEqual([200, 200, 200, 200]);
  });
});

describe('the history', () => {
  test('of an account comes in pages, newest first, and outlives it', async () => {
    const { id } = await kit.signUp();
    for (const active of [false, true, false]) await switchTo(id, active, key);
    const first = await key('GET', path(id, '/history?limit=2'));
    expect(first.body.items.map(({ kind }: { kind: string }) => kind)).toEqual(['account_off', 'account_on']);
    const rest = await key('GET', path(id, `/history?limit=2&after=${first.body.next}`));
    expect(rest.body).toEqual({
      items: [
        {
          id: expect.any(String),
          at: expect.any(String),
          actor: expect.stringMatching(/^key:\d+$/),
          kind: 'account_off',
          account: id,
          subject: null,
          detail: { before: { active: true }, after: { active: false }, sign_ins: 1, unmanaged_companies: [] },
          reason: null,
        },
      ],
      next: null,
    });
    const filtered = await key('GET', path(id, '/history?kind=account_on'));
    expect(filtered.body.items).toHaveLength(1);
    expect((await key('GET', path(id, '/history?after=nothing'))).status).toBe(400);
    expect((await key('POST', '/v1/erasures', { body: { account: id } })).status).toBe(200);
    expect((await key('GET', path(id))).status).toBe(404);
    expect((await key('GET', path(id, '/history'))).body.items).toHaveLength(3);
  });

  test('tells of clients what was before and after, and nothing where nothing changed', async () => {
    const made = await key('POST', '/v1/clients', { body: { id: 'till', name: 'Till', redirect_uris: [BACK] } });
    expect(made.status).toBe(201);
    const taken = await key('POST', '/v1/clients', { body: { id: 'till', name: 'Another' } });
    expect([taken.status, taken.body.code]).toEqual([409, 'conflict']);
    await boss.send('PATCH', '/v1/clients/till', { body: { name: 'Till 1', first_party: true } });
    await boss.send('PATCH', '/v1/clients/till', { body: { name: 'Till 1' } });
    await boss.send('PATCH', '/v1/clients/till', { body: { redirect_uris: [BACK, 'https://thief.example/'] } });
    await changeClient(kit.ctx, 'till', { disabled: true }, atTheMachine);
    expect((await boss.send('PATCH', '/v1/clients/nobody', { body: { disabled: true } })).status).toBe(404);
    const { status, body } = await key('GET', '/v1/operator-events?subject=till');
    expect([status, body.next]).toEqual([200, null]);
    const shown = body.items.map(({ actor, kind, detail }: Record<string, unknown>) => ({ actor, kind, detail }));
    const actor = `operator:${boss.id}`;
    const facts = { name: 'Till', redirect_uris: [BACK], first_party: false, password_grant: false, disabled: false };
    expect(shown.reverse()).toEqual([
      { actor: expect.stringMatching(/^key:\d+$/), kind: 'client_made', detail: { after: facts } },
      {
        actor,
        kind: 'client_changed',
        detail: { before: { name: 'Till', first_party: false }, after: { name: 'Till 1', first_party: true } },
      },
      {
        actor,
        kind: 'client_changed',
        detail: { before: { redirect_uris: [BACK] }, after: { redirect_uris: [BACK, 'https://thief.example/'] } },
      },
      { actor: 'command', kind: 'client_changed', detail: { before: { disabled: false }, after: { disabled: true } } },
    ]);
  });

  test('tells of keys their scopes and not the key, and of new operators', async () => {
    const { key: secret } = await createApiKey(
      kit.ctx,
      { name: 'crm', scopes: ['consents', 'accounts'] },
      atTheMachine,
    );
    const keys = await key('GET', '/v1/operator-events?kind=key_made&limit=1');
    expect(keys.body.items).toMatchObject([
      {
        actor: 'command',
        account: null,
        subject: 'crm',
        detail: { after: { key: expect.any(Number), scopes: ['consents', 'accounts'] } },
      },
    ]);
    await createOperator(kit.ctx, 'new.operator@example.com', PASSWORD);
    // Who is one already is not made one.
    await createOperator(kit.ctx, 'new.operator@example.com');
    const operators = await key('GET', '/v1/operator-events?kind=operator_made&limit=1');
    const [known] = await kit.rows<{ id: number }>(`select id from account where email = 'new.operator@example.com'`);
    expect(operators.body.items).toMatchObject([
      { account: known!.id, detail: { before: null, after: { operator: true, active: true }, password_set: true } },
    ]);
    expect(await lines(known!.id)).toHaveLength(1);
    const [all] = await kit.rows<{ text: string }>(`select string_agg(e::text, ' ') as text from operator_event e`);
    expect([all!.text.includes(secret), all!.text.includes('@')]).toEqual([false, false]);
    await kit.rows('update account set is_operator = false where id = $1', known!.id);
  });

  test('comes in pages as a whole, and refuses filters that are none', async () => {
    const found: string[] = [];
    let after = '';
    do {
      const { body } = await boss.send('GET', `/v1/operator-events?limit=7${after}`);
      found.push(...body.items.map(({ id }: { id: string }) => id));
      after = body.next === null ? '' : `&after=${body.next}`;
    } while (after !== '');
    const all = await kit.rows<{ id: string }>('select id from operator_event order by id desc');
    expect(found).toEqual(all.map(({ id }) => id));
    for (const query of ['kind=nothing', 'after=1', 'limit=0', 'account=1'])
      expect([query, (await boss.send('GET', `/v1/operator-events?${query}`)).status]).toEqual([query, 400]);
  });

  test('is refused to change and to delete by the database, to the service and to the owner of the table', async () => {
    const refused = async (asked: Promise<unknown>): Promise<string> =>
      asked.then(
        () => 'done',
        ({ code, message }) => `${code} ${message}`,
      );
    const before = await kit.rows('select id from operator_event order by id');
    for (const text of [
      `update operator_event set reason = 'x'`,
      'delete from operator_event',
      'truncate operator_event',
    ]) {
      expect(await refused(kit.rows(text))).toBe('42501 permission denied for table operator_event');
      expect(await refused(kit.owner(text))).toMatch(
        /^42501 the ledger is append-only: \w+ on operator_event refused$/,
      );
    }
    expect(await kit.rows('select id from operator_event order by id')).toEqual(before);
  });
});
