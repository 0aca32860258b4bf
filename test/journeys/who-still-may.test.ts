/** Who acts as an operator, or by an API key, may do so until the end of it; and operators are out of the reach of keys. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { switchAccount, voidPassword } from '../../src/admin/acts.ts';
import { createApiKey } from '../../src/admin/keys.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { throttleScopes } from '../../src/settings.ts';
import { type Client, createKit, type Kit, type Reply } from '../kit.ts';
import { enrol, visitorOf } from '../visitor.ts';

const ISSUER = 'https://login.shop.example';
const BACK = 'https://app.example/back';

let kit: Kit;
/** A second process. */
let twin: Kit;
let boss: Client;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  twin = await kit.twin();
  boss = await kit.operator();
  await createClient(kit.ctx, { id: 'app', name: 'App', redirect_uris: [BACK] }, atTheMachine);
});
beforeEach(async () => {
  // Calls that make a password void are counted.
  await kit.rows('delete from throttle');
});
afterAll(() => kit.close());

type Headers = Readonly<Record<string, string>>;

/** Headers of a browser, for another process than its own. */
const headersOf = ({ cookies }: Client): Headers => ({
  cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; '),
  'x-csrftoken': cookies.get('csrftoken')!,
});

let made = 0;
/** A key, with its id. */
async function program(...scopes: string[]): Promise<{ id: number; headers: Headers }> {
  made += 1;
  const { id, key } = await createApiKey(kit.ctx, { name: `program ${made}`, scopes }, atTheMachine);
  return { id, headers: { authorization: `Bearer ${key}` } };
}

/** Somebody with all that can be taken from them. */
async function person(): Promise<Client> {
  const ada = await kit.signUp();
  await enrol(kit, visitorOf(kit, ada.cookies));
  await kit.rows(
    `insert into outside_identity (issuer, subject, account, created_at, last_used_at) values ($1, $2, $3, now(), now())`,
    ISSUER,
    `subject ${ada.id}`,
    ada.id,
  );
  return ada;
}

/** All that stands about somebody, and in the lists of clients, keys and settings. */
const everything = (account: number): Promise<unknown[]> =>
  kit.rows(
    `select (select to_jsonb(a) from account a where id = $1) as account,
            (select count(*) from session where account = $1) as sessions,
            (select count(*) from outside_identity where account = $1) as identities,
            (select count(*) from mail_link where account = $1) as links,
            (select jsonb_agg(to_jsonb(c) order by id) from oauth_client c) as clients,
            (select jsonb_agg(to_jsonb(k) order by id) from api_key k where id <> $2) as keys,
            (select jsonb_agg(to_jsonb(s) order by name) from setting s) as settings,
            (select count(*) from setting_change) as changes,
            (select count(*) from operator_event) as events`,
    account,
    acting,
  );
/** Of the key that acts, which is revoked meanwhile. */
let acting = 0;

interface Act {
  readonly method: string;
  readonly path: string;
  readonly body?: object;
}

const onAccount = (id: number): Act[] => [
  { method: 'PATCH', path: `/v1/accounts/${id}`, body: { active: false } },
  { method: 'DELETE', path: `/v1/accounts/${id}/sessions` },
  { method: 'DELETE', path: `/v1/accounts/${id}/identities?issuer=${ISSUER}` },
  { method: 'DELETE', path: `/v1/accounts/${id}/second-factor` },
  { method: 'POST', path: `/v1/accounts/${id}/password-reset`, body: {} },
];

/** What an operator's browser, or a program, can do. */
const acts = (id: number, key: number): Act[] => [
  ...onAccount(id),
  {
    method: 'POST',
    path: '/v1/clients',
    body: { id: 'thief', name: 'Thief', redirect_uris: ['https://thief.example/'] },
  },
  { method: 'PATCH', path: '/v1/clients/app', body: { redirect_uris: ['https://thief.example/'] } },
  { method: 'DELETE', path: `/v1/keys/${key}` },
  { method: 'PUT', path: '/v1/settings/SMS_OTP_EXPIRE_TIME', body: { value: 300 } },
  { method: 'DELETE', path: '/v1/settings/THROTTLING_SETTINGS' },
];

const call = (on: Kit, { method, path, body }: Act, headers: Headers): Promise<Reply> =>
  on.send(method, path, { headers, ...(body === undefined ? {} : { body }) });

/** What answers requests that were admitted, and then waited for a transaction in which these statements ran. */
async function held(statements: readonly string[], ...asked: (() => Promise<Reply>)[]): Promise<Reply[]> {
  let waiting: Promise<Reply>[] = [];
  await kit.database.transaction(async (db) => {
    for (const text of statements) await db.run({ name: '', text, values: [] });
    waiting = asked.map((ask) => ask());
    await expect
      .poll(() =>
        kit.rows(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`),
      )
      .toHaveLength(asked.length);
  });
  return Promise.all(waiting);
}

/** What holds who takes operators or keys away. */
const TAKING = `select pg_advisory_xact_lock(hashtext('assent.operators'))`;

async function meanwhile(asked: Act, headers: Headers, ...statements: string[]): Promise<unknown[]> {
  const [reply] = await held([TAKING, ...statements], () => call(twin, asked, headers));
  return [`${asked.method} ${asked.path}`, reply!.status, reply!.body.code];
}

describe('who was admitted a moment before they were taken away', () => {
  test('does nothing any more: an operator who is switched off', async () => {
    const [second, ada, till] = [await kit.operator(), await person(), await program('consents')];
    acting = 0;
    const before = await everything(ada.id);
    for (const act of [
      ...acts(ada.id, till.id),
      { method: 'POST', path: '/v1/keys', body: { name: 'late', scopes: ['keys'] } },
      { method: 'DELETE', path: `/v1/operators/${boss.id}` },
    ]) {
      const off = `update account set is_active = false where id = ${second.id}`;
      expect(await meanwhile(act, headersOf(second), off)).toEqual([
        `${act.method} ${act.path}`,
        401,
        'not_authenticated',
      ]);
      await kit.rows('update account set is_active = true where id = $1', second.id);
    }
    expect(await everything(ada.id)).toEqual(before);
    expect(await kit.rows('select is_operator from account where id = $1', boss.id)).toEqual([{ is_operator: true }]);
  });

  test('nor one whose role was taken', async () => {
    const [second, ada, till] = [await kit.operator(), await person(), await program('consents')];
    acting = 0;
    const before = await everything(ada.id);
    for (const act of acts(ada.id, till.id)) {
      const revoked = `update account set is_operator = false where id = ${second.id}`;
      expect(await meanwhile(act, headersOf(second), revoked)).toEqual([
        `${act.method} ${act.path}`,
        401,
        'not_authenticated',
      ]);
      await kit.rows('update account set is_operator = true where id = $1', second.id);
    }
    expect(await everything(ada.id)).toEqual(before);
  });

  test('nor a program whose key was revoked', async () => {
    const [ada, till] = [await person(), await program('consents')];
    const { id, headers } = await program('manage_accounts', 'clients', 'keys', 'settings');
    acting = id;
    const before = await everything(ada.id);
    for (const act of acts(ada.id, till.id)) {
      const revoked = `update api_key set revoked_at = now() where id = ${id}`;
      expect(await meanwhile(act, headers, revoked)).toEqual([`${act.method} ${act.path}`, 401, 'not_authenticated']);
      await kit.rows('update api_key set revoked_at = null where id = $1', id);
    }
    expect(await everything(ada.id)).toEqual(before);
    // What waited for nothing that concerns it goes through.
    expect(await meanwhile(onAccount(ada.id)[4]!, headers)).toEqual([expect.any(String), 200, undefined]);
  });

  test('and does not switch themselves on again', async () => {
    const second = await kit.operator();
    const on = { method: 'PATCH', path: `/v1/accounts/${second.id}`, body: { active: true } };
    const off = `update account set is_active = false where id = ${second.id}`;
    expect(await meanwhile(on, headersOf(second), off)).toEqual([expect.any(String), 401, 'not_authenticated']);
    expect(await kit.rows('select is_active from account where id = $1', second.id)).toEqual([{ is_active: false }]);
    expect(await kit.rows(`select from operator_event where account = $1 and kind = 'account_on'`, second.id)).toEqual(
      [],
    );
  });

  test('two operators who act on each other at once both come through; of two keys that revoke each other one goes on working', async () => {
    const [one, two] = [await kit.operator(), await kit.operator()];
    const ends = ({ id }: Client): Act => ({ method: 'DELETE', path: `/v1/accounts/${id}/sessions` });
    const ended = await held(
      [`select from account where id in (${one.id}, ${two.id}) for no key update`],
      () => call(kit, ends(two), headersOf(one)),
      () => call(twin, ends(one), headersOf(two)),
    );
    expect(ended.map(({ status }) => status)).toEqual([204, 204]);
    expect(await kit.rows('select from session where account = any ($1::bigint[])', [one.id, two.id])).toEqual([]);

    const [a, b] = [await program('keys'), await program('keys')];
    const revokes = ({ id }: { id: number }): Act => ({ method: 'DELETE', path: `/v1/keys/${id}` });
    const revoked = await held(
      [TAKING],
      () => call(kit, revokes(b), a.headers),
      () => call(twin, revokes(a), b.headers),
    );
    expect(revoked.map(({ status }) => status).sort()).toEqual([204, 401]);
    const working = 'select from api_key where id = any ($1::bigint[]) and revoked_at is null';
    expect(await kit.rows(working, [a.id, b.id])).toHaveLength(1);
  });
});

describe('an operator’s account', () => {
  test('is out of the reach of every key, on or off; operators in person and the command line reach it', async () => {
    const second = await kit.operator();
    await enrol(kit, visitorOf(kit, second.cookies));
    const { id, headers } = await program('*');
    acting = id;
    const refusals = async (): Promise<void> => {
      const before = await everything(second.id);
      for (const act of [
        ...onAccount(second.id),
        { method: 'PATCH', path: `/v1/accounts/${second.id}`, body: { active: true } },
        { method: 'DELETE', path: `/v1/operators/${second.id}` },
      ]) {
        const { status, body } = await call(kit, act, headers);
        expect([act.path, status, body.code, body.detail]).toEqual([
          act.path,
          403,
          'in_person',
          'This is for operators who are signed in themselves, not for API keys.',
        ]);
      }
      expect(await everything(second.id)).toEqual(before);
    };
    await refusals();
    await switchAccount(kit.ctx, second.id, false, atTheMachine);
    await refusals();
    expect(
      (await call(kit, { method: 'PATCH', path: `/v1/accounts/${second.id}`, body: { active: true } }, headersOf(boss)))
        .status,
    ).toBe(200);
    const statuses = [];
    for (const act of onAccount(second.id).reverse()) statuses.push((await call(kit, act, headersOf(boss))).status);
    expect(statuses).toEqual([200, 204, 204, 204, 200]);
    // Once the role is taken it is an account like any other.
    expect((await call(kit, { method: 'DELETE', path: `/v1/operators/${second.id}` }, headersOf(boss))).status).toBe(
      200,
    );
    expect(
      (await call(kit, { method: 'PATCH', path: `/v1/accounts/${second.id}`, body: { active: true } }, headers)).status,
    ).toBe(200);
  });

  test('is not weakened by whoever sits at its own browser; its own sign-ins it may end', async () => {
    const second = await kit.operator();
    await enrol(kit, visitorOf(kit, second.cookies));
    acting = 0;
    const before = await everything(second.id);
    const [off, ends, ...rest] = onAccount(second.id);
    for (const act of [off!, { ...off!, body: { active: true } }, ...rest]) {
      const { status, body } = await call(kit, act, headersOf(second));
      expect([act.path, status, body.code]).toEqual([act.path, 409, 'own_account']);
    }
    expect(await everything(second.id)).toEqual(before);
    expect((await call(kit, ends!, headersOf(second))).status).toBe(204);
    expect((await second.send('GET', '/v1/accounts')).status).toBe(401);
  });

  test('leaves API keys behind, which the answers name as long as they work', async () => {
    const second = await kit.operator();
    const ids: number[] = [];
    for (const name of ['crm of second', 'till of second', 'old of second']) {
      const { body } = await second.send('POST', '/v1/keys', { body: { name, scopes: ['consents'] } });
      ids.push(body.id);
    }
    await boss.send('DELETE', `/v1/keys/${ids[2]}`);
    const keys_made = [
      { id: ids[0], name: 'crm of second' },
      { id: ids[1], name: 'till of second' },
    ];
    const off = await boss.send('PATCH', `/v1/accounts/${second.id}`, { body: { active: false } });
    expect([off.status, off.body.keys_made]).toEqual([200, keys_made]);
    const taken = await boss.send('DELETE', `/v1/operators/${second.id}`);
    expect([taken.status, taken.body]).toEqual([200, { keys_made }]);
    await boss.send('DELETE', `/v1/keys/${ids[0]}`);
    const again = await boss.send('DELETE', `/v1/operators/${second.id}`);
    expect([again.status, again.body]).toEqual([200, { keys_made: [keys_made[1]] }]);
    const { id } = await kit.signUp();
    expect((await boss.send('PATCH', `/v1/accounts/${id}`, { body: { active: false } })).body.keys_made).toEqual([]);
  });
});

describe('passwords that are made void', () => {
  test('are five of an account within an hour by calls of all processes together, and any number at the machine', async () => {
    const [ada, other] = [await kit.signUp(), await kit.signUp()];
    const { headers } = await program('manage_accounts');
    const act = (id: number): Act => ({ method: 'POST', path: `/v1/accounts/${id}/password-reset`, body: {} });
    const atOnce = await Promise.all(
      Array.from({ length: 8 }, (_, n) => call(n % 2 ? kit : twin, act(ada.id), headers)),
    );
    expect(atOnce.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 200, 429, 429, 429]);
    const [stored] = await kit.rows<{ password: string }>('select password from account where id = $1', ada.id);
    const full = await call(kit, act(ada.id), headersOf(boss));
    expect([full.status, full.body.code, Number(full.headers['retry-after']) > 3500]).toEqual([429, 'throttled', true]);
    expect(await kit.rows('select password from account where id = $1', ada.id)).toEqual([stored]);
    await kit.jobs();
    expect(await kit.rows('select from mail_link where account = $1', ada.id)).toHaveLength(5);
    // Of links that were replaced before their mail went out nothing is mailed.
    expect((await kit.outbox('mail')).filter(({ recipient }) => recipient === ada.email)).toHaveLength(1);
    expect((await call(kit, act(other.id), headers)).status).toBe(200);
    expect(await voidPassword(kit.ctx, ada.id, atTheMachine)).toEqual({ ended: 0, mailed: true });
    kit.advance(3_600_000);
    expect((await call(kit, act(ada.id), headers)).status).toBe(200);
  });

  test('are not counted for who is refused: a key cannot use up those of an operator', async () => {
    const second = await kit.operator();
    const { headers } = await program('manage_accounts');
    const act = { method: 'POST', path: `/v1/accounts/${second.id}/password-reset`, body: {} };
    for (let n = 0; n < 6; n += 1) {
      expect((await call(kit, act, headers)).body.code).toBe('in_person');
      expect((await call(kit, act, headersOf(second))).body.code).toBe('own_account');
    }
    expect((await call(kit, act, headersOf(boss))).status).toBe(200);
  });
});
