/** The commands, each as a process of its own, beside the service of the kit on the same database. */
import { execFile } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createKit, type Kit, PASSWORD } from '../kit.ts';
import { enrol, visitorOf } from '../visitor.ts';

let kit: Kit;
let address: string;

beforeAll(async () => {
  kit = await createKit();
  const { host, port, user, password, database } = kit.connection as unknown as Record<string, string>;
  address = `postgres:///${database}?host=${encodeURIComponent(host!)}&port=${port}&user=${user}${password ? `&password=${password}` : ''}`;
});
afterAll(() => kit.close());

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const assent = (args: string[], env: Record<string, string> = {}, input = ''): Promise<Ran> =>
  new Promise((done) => {
    const secret = 'a secret key of the tests, and of nothing else';
    const child = execFile(
      process.execPath,
      ['src/main.ts', ...args],
      { env: { PATH: process.env['PATH'], DATABASE_URL: address, SECRET_KEY: secret, ...env } },
      (error, out, err) => done({ code: error === null ? 0 : Number(error.code), out, err }),
    );
    child.stdin!.end(input);
  });

describe('commands', () => {
  test('operator create makes an operator who can sign in, shows a random password once, and lifts an existing account', async () => {
    const made = await assent(['operator', 'create', 'first@example.com']);
    expect(made).toMatchObject({ code: 0, err: 'Made the operator first@example.com.\n' });
    const password = /^password: ([0-9a-f]{24})\n$/.exec(made.out)![1]!;
    const first = await kit.signIn('first@example.com', password);
    expect((await first.send('GET', '/v1/settings')).status).toBe(200);

    const ada = await kit.signUp();
    expect((await ada.send('GET', '/v1/settings')).status).toBe(403);
    const lifted = await assent(['operator', 'create', ada.email]);
    expect(lifted).toEqual({
      code: 0,
      out: '',
      err: `${ada.email} is an operator now; the account was there already.\n`,
    });
    expect((await ada.send('GET', '/v1/settings')).status).toBe(200);
    expect(await kit.signIn(ada.email, PASSWORD)).toBeDefined();
  });

  test('operator create refuses what is no address and a password that is too short', async () => {
    expect(await assent(['operator', 'create', 'nobody'])).toEqual({
      code: 1,
      out: '',
      err: 'nobody is not an e-mail address.\n',
    });
    expect(await assent(['operator', 'create', 'x@example.com', '--password', 'short'])).toEqual({
      code: 1,
      out: '',
      err: 'This password is too short. It must contain at least 8 characters.\n',
    });
    expect(await kit.rows('select id from account where email = $1', 'x@example.com')).toEqual([]);
  });

  test('key create prints a key that works within its scopes, and only there', async () => {
    const { code, out } = await assent(['key', 'create', 'crm', '--scopes', 'settings']);
    expect(code).toBe(0);
    const headers = { authorization: `Bearer ${out.trim()}` };
    expect((await kit.send('GET', '/v1/settings', { headers })).status).toBe(200);
    expect((await kit.send('GET', '/v1/accounts', { headers })).status).toBe(403);
    const { code: bad, err } = await assent(['key', 'create', 'crm', '--scopes', 'everything']);
    expect([bad, err]).toEqual([
      1,
      'Unknown scope everything. Known: settings, outbox, consents, decisions, baskets, privacy, accounts, manage_accounts, operator_events, companies, webhooks, clients, keys, or * for all.\n',
    ]);
  });

  test('key list shows keys without the key itself, and key revoke ends one by its name', async () => {
    const { out } = await assent(['key', 'create', 'till', '--scopes', 'settings, outbox', '--reason', 'the new till']);
    const headers = { authorization: `Bearer ${out.trim()}` };
    expect(await assent(['key', 'create', 'till', '--scopes', 'settings'])).toEqual({
      code: 1,
      out: '',
      err: 'name: The key till is there already. Revoke it first, or take another name.\n',
    });
    const list = await assent(['key', 'list']);
    const [newest] = list.out.split('\n');
    expect([list.code, list.out.includes(out.trim()), JSON.parse(newest!)]).toEqual([
      0,
      false,
      {
        id: expect.any(Number),
        name: 'till',
        scopes: ['settings', 'outbox'],
        created_at: expect.any(String),
        created_by: 'command',
        revoked_at: null,
      },
    ]);
    expect((await kit.send('GET', '/v1/settings', { headers })).status).toBe(200);
    expect(await assent(['key', 'revoke', 'till', '--reason', 'stolen'])).toEqual({
      code: 0,
      out: '',
      err: 'The key till is revoked.\n',
    });
    expect((await kit.send('GET', '/v1/settings', { headers })).status).toBe(401);
    expect(await assent(['key', 'revoke', 'till'])).toEqual({
      code: 1,
      out: '',
      err: 'No key of the name till works.\n',
    });
    expect(await kit.rows(`select actor, kind, reason from operator_event where subject = 'till' order by id`)).toEqual(
      [
        { actor: 'command', kind: 'key_made', reason: 'the new till' },
        { actor: 'command', kind: 'key_revoked', reason: 'stolen' },
      ],
    );
    expect((await assent(['key', 'create', ' ', '--scopes', '*'])).err).toBe(
      'The name must be between 1 and 200 characters long.\n',
    );
  });

  test('operator list shows them, operator revoke takes the role, and reset-second-factor says why', async () => {
    const [one, two] = [await kit.operator(), await kit.operator()];
    const { out } = await assent(['operator', 'list']);
    const shown = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).email);
    expect(shown).toEqual(expect.arrayContaining([one.email, two.email]));
    const made = (await two.send('POST', '/v1/keys', { body: { name: 'of two', scopes: ['keys'] } })).body;
    const left = await assent(['operator', 'revoke', two.email, '--reason', 'left']);
    const stay = `API keys they made go on working: of two (key ${made.id}). To revoke one: npm run assent -- key revoke NAME\n`;
    const keys_made = [{ id: made.id, name: 'of two' }];
    expect([left.code, left.err, JSON.parse(left.out)]).toEqual([
      0,
      `${two.email} is no operator any more; sign-ins ended: 1.\n${stay}`,
      { id: two.id, keys_made },
    ]);
    const off = await assent(['account', 'off', two.email]);
    expect([off.err, JSON.parse(off.out)]).toEqual([
      `${two.email} is switched off; sign-ins ended: 0.\n${stay}`,
      { id: two.id, is_active: false, changed: true, unmanaged_companies: [], keys_made },
    ]);
    await assent(['account', 'on', two.email]);
    expect((await two.send('GET', '/v1/settings')).status).toBe(401);
    expect((await assent(['operator', 'revoke', two.email])).err).toBe(`${two.email} is no operator.\n`);
    const others = await kit.rows<{ id: number }>('select id from account where is_operator and id <> $1', one.id);
    await kit.rows('update account set is_operator = id = $1', one.id);
    expect(await assent(['operator', 'revoke', one.email])).toEqual({
      code: 1,
      out: '',
      err: 'This is the last operator who can sign in. Make another one first.\n',
    });
    await kit.rows(
      'update account set is_operator = true where id = any ($1::bigint[])',
      others.map(({ id }) => id),
    );
    await enrol(kit, visitorOf(kit, one.cookies));
    expect((await assent(['operator', 'reset-second-factor', one.email, '--reason', 'lost phone'])).err).toBe(
      `${one.email} signs in by password alone now.\n`,
    );
    expect(
      await kit.rows(
        `select kind, reason from operator_event where account = any ($1::bigint[]) and kind <> 'operator_made' order by id`,
        [one.id, two.id],
      ),
    ).toEqual([
      { kind: 'operator_revoked', reason: 'left' },
      { kind: 'account_off', reason: null },
      { kind: 'account_on', reason: null },
      { kind: 'second_factor_removed', reason: 'lost phone' },
    ]);
  });

  test('settings set takes a secret from standard input, and shows it to nobody', async () => {
    const setting = {
      provider: 'twilio',
      account_sid: `AC${'0'.repeat(32)}`,
      auth_token: 'whispered',
      from: '+15005550006',
    };
    const set = await assent(['settings', 'set', 'SMS_PROVIDER', '-'], {}, `${JSON.stringify(setting)}\n`);
    expect([set.code, JSON.parse(set.out).value]).toEqual([0, { ...setting, auth_token: '********' }]);
    await kit.ctx.settings.refresh(kit.ctx.db);
    expect(kit.ctx.settings.get('SMS_PROVIDER')).toEqual(setting);
    const shown = await assent(['settings', 'list']);
    expect([shown.code, shown.out.includes('whispered')]).toEqual([0, false]);
    await assent(['settings', 'reset', 'SMS_PROVIDER']);
  });

  test('settings set changes, refuses with the reason, keeps the history', async () => {
    expect(JSON.parse((await assent(['settings', 'set', 'SMS_OTP_EXPIRE_TIME', '240'])).out)).toMatchObject({
      name: 'SMS_OTP_EXPIRE_TIME',
      value: 240,
      default: 180,
      changed_by: 'command',
    });
    const refused = await assent(['settings', 'set', 'SMS_OTP_EXPIRE_TIME', '"soon"']);
    expect([refused.code, refused.out]).toEqual([1, '']);
    expect(refused.err).toContain('value');
    expect(await assent(['settings', 'get', 'NO_SUCH'])).toMatchObject({ code: 1, err: 'Not found.\n' });
    await assent(['settings', 'reset', 'SMS_OTP_EXPIRE_TIME']);
    expect(JSON.parse((await assent(['settings', 'history', 'SMS_OTP_EXPIRE_TIME'])).out)).toMatchObject([
      { value: null, previous: 240 },
      { value: 240, previous: null },
    ]);
  });

  test('company and client create what the back office needs', async () => {
    const company = JSON.parse(
      (await assent(['company', 'create', 'Usta Bakery', '--owner', 'owner@example.com', '--shop', 'Moda'])).out,
    );
    expect(company).toMatchObject({
      name: { en: 'Usta Bakery' },
      owner: 'owner@example.com',
      shops: [{ name: { en: 'Moda' } }],
    });
    expect(await assent(['client', 'create', 'till', '--password-grant'])).toMatchObject({
      code: 0,
      err: 'Made the client till.\n',
    });
    expect(await assent(['client', 'create', 'till'])).toMatchObject({
      code: 1,
      err: 'id: There is a client till already.\n',
    });
    const uris = ['https://a.example/cb', 'com.example.a:/cb'];
    const options = uris.flatMap((uri) => ['--redirect-uri', uri]);
    expect((await assent(['client', 'create', 'app', '--first-party', ...options])).code).toBe(0);
    expect(await assent(['client', 'create', 'bad', '--redirect-uri', 'http://a.example/'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('redirect_uris.0: This cannot be a redirect address.'),
    });
    const changed = await assent(['client', 'change', 'app', '--no-first-party', '--name', 'An app']);
    const app = { id: 'app', name: 'An app', redirect_uris: uris, first_party: false, password_grant: false };
    expect(JSON.parse(changed.out)).toMatchObject({ ...app, disabled_at: null });
    expect((await assent(['client', 'disable', 'app'])).err).toBe(
      'The client app is disabled; its tokens have ended.\n',
    );
    const listed = (await assent(['client', 'list'])).out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(listed).toMatchObject([
      { ...app, disabled_at: expect.any(String) },
      { id: 'till', password_grant: true, disabled_at: null },
    ]);
    expect((await assent(['client', 'enable', 'app'])).err).toBe('The client app is enabled.\n');
    expect(await assent(['client', 'enable', 'nobody'])).toMatchObject({ code: 1, err: 'Not found.\n' });
  });

  test('account finds, shows, switches off and on, signs out, unlinks and tells its history', async () => {
    const ada = await kit.signUp({ email: 'ada.command@example.com', first_name: 'Commandine' });
    const issuer = 'https://login.example';
    const link = (): Promise<unknown> =>
      kit.rows(
        `insert into outside_identity (issuer, subject, account, created_at, last_used_at) values ($1, 'a', $2, now(), now())`,
        issuer,
        ada.id,
      );
    await link();
    for (const text of ['commandine', ada.email.toUpperCase(), 'ada.command@']) {
      const found = await assent(['account', 'find', text]);
      expect([found.code, found.err, JSON.parse(found.out)]).toEqual([0, '', expect.objectContaining({ id: ada.id })]);
    }
    expect(await assent(['account', 'find', '+905550000000'])).toEqual({
      code: 0,
      out: '',
      err: 'Nobody is found by that.\n',
    });
    expect(JSON.parse((await assent(['account', 'show', ada.email])).out)).toMatchObject({
      id: ada.id,
      is_active: true,
      identities: [{ issuer, subject: 'a' }],
      sessions: [{ client_id: null }],
    });

    const off = await assent(['account', 'off', ada.email, '--reason', 'stolen']);
    expect([off.code, off.err, JSON.parse(off.out)]).toEqual([
      0,
      `${ada.email} is switched off; sign-ins ended: 1.\n`,
      { id: ada.id, is_active: false, changed: true, unmanaged_companies: [], keys_made: [] },
    ]);
    expect((await ada.send('GET', '/users/profile/')).status).toBe(401);
    expect((await assent(['account', 'off', ada.email])).err).toBe(
      `${ada.email} was switched off already; nothing was changed.\n`,
    );
    expect((await assent(['account', 'on', ada.email])).err).toBe(`${ada.email} can sign in again.\n`);
    const again = await kit.signIn(ada.email);
    expect(await assent(['account', 'sign-out', ada.email])).toEqual({
      code: 0,
      out: '',
      err: `Sign-ins of ${ada.email} that ended: 1.\n`,
    });
    expect((await again.send('GET', '/users/profile/')).status).toBe(401);
    expect((await assent(['account', 'unlink', ada.email, issuer, '--reason', 'left'])).err).toBe(
      `${ada.email} is not linked to ${issuer} any more; all its sign-ins have ended.\n`,
    );
    expect(await assent(['account', 'unlink', ada.email, issuer])).toEqual({
      code: 1,
      out: '',
      err: `${ada.email} is not linked to ${issuer}.\n`,
    });
    const { out } = await assent(['account', 'history', ada.email]);
    const lines = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.map(({ actor, kind, subject, reason }) => [actor, kind, subject, reason])).toEqual([
      ['command', 'identity_unlinked', issuer, 'left'],
      ['command', 'sign_ins_ended', null, null],
      ['command', 'account_on', null, null],
      ['command', 'account_off', null, 'stolen'],
    ]);
    // Whoever was erased has no address any more, and is asked for by id.
    expect((await assent(['account', 'history', String(ada.id)])).out).toBe(out);
  });

  test('account reset-password voids a password and mails a link, unless the account is off or has none', async () => {
    const ada = await kit.signUp();
    const reset = (): Promise<Ran> => assent(['account', 'reset-password', ada.email, '--reason', 'leaked']);
    expect(await reset()).toEqual({
      code: 0,
      out: '',
      err: `The password of ${ada.email} is void; sign-ins ended: 1.\nA link to set a new one is mailed.\n`,
    });
    expect((await ada.send('GET', '/users/profile/')).status).toBe(401);
    await expect(kit.signIn(ada.email)).rejects.toThrow('answered 400');
    await assent(['account', 'off', ada.email]);
    expect((await reset()).err).toBe(
      `The password of ${ada.email} is void; sign-ins ended: 0.\nNo link is mailed while the account is switched off: switch it on, and let its owner ask for one.\n`,
    );
    await kit.rows('update account set password = null where id = $1', ada.id);
    expect(await reset()).toEqual({
      code: 1,
      out: '',
      err: 'This account has no password: it signs in elsewhere, or its invitation was never accepted.\n',
    });
    expect(await kit.rows('select kind, reason from operator_event where account = $1 order by id', ada.id)).toEqual([
      { kind: 'password_voided', reason: 'leaked' },
      { kind: 'account_off', reason: null },
      { kind: 'password_voided', reason: 'leaked' },
    ]);
  });

  test('account says in words what cannot be', async () => {
    const nobody = 'nobody.at.all@example.com';
    for (const args of [
      ['show', nobody],
      ['off', nobody],
      ['history', nobody],
    ])
      expect(await assent(['account', ...args])).toEqual({ code: 1, out: '', err: `${nobody} has no account.\n` });
    expect((await assent(['account', 'history', '999999'])).err).toBe('There is no account 999999.\n');
    const ada = await kit.signUp();
    expect((await assent(['account', 'off', ada.email, '--reason', ' '])).err).toBe(
      'The reason must be between 1 and 500 characters long.\n',
    );
    await kit.rows('update account set is_operator = false');
    await kit.rows('update account set is_operator = true where id = $1', ada.id);
    expect(await assent(['account', 'off', ada.email])).toEqual({
      code: 1,
      out: '',
      err: 'This is the last operator who can sign in. Make another one first.\n',
    });
  });

  test('doctor finds what is right and what is not', async () => {
    const good = await assent(['doctor', '--json']);
    const findings = JSON.parse(good.out) as { name: string; ok: boolean }[];
    expect(Object.fromEntries(findings.map(({ name, ok }) => [name, ok]))).toMatchObject({
      node: true,
      environment: true,
      database: true,
      clock: true,
      operators: true,
      jobs: true,
      ledger: true,
    });
    const other = await assent(['doctor'], { SECRET_KEY: 'another key of more than thirty-two characters' });
    expect(other.code).toBe(1);
    expect(other.out).toMatch(/FAIL {2}database +SECRET_KEY is not the one this database was made with/);
    const half = await assent(['doctor'], { DATABASE_URL: '' });
    expect(half.out).toMatch(/FAIL {2}environment +DATABASE_URL is set but empty/);
  });

  test('doctor finds lines that wait for their seal for longer than a minute', async () => {
    const sealing = async (): Promise<object> =>
      (JSON.parse((await assent(['doctor', '--json'])).out) as { name: string }[]).find(
        ({ name }) => name === 'sealing',
      )!;
    await kit.verify();
    kit.advance(-120_000);
    await kit.signUp({ email_allowed: true });
    kit.advance(120_000);
    const [waiting] = await kit.rows<{ since: Date }>(
      'select min(recorded_at) as since from consent_event where id in (select event from ledger_unsealed)',
    );
    expect(await sealing()).toMatchObject({
      ok: false,
      detail: `lines wait for their seal since ${waiting!.since.toISOString()}`,
      remedy: expect.any(String),
    });
    await kit.verify();
    expect(await sealing()).toEqual({ name: 'sealing', ok: true, detail: 'no line waits for its seal' });
  });

  test('ledger verify holds, and names the line that was changed', async () => {
    const ada = await kit.signUp({ email_allowed: true });
    await kit.verify();
    expect((await assent(['ledger', 'verify'])).out).toMatch(
      /^The ledger holds: \d+ lines in \d+ seals, 0 not yet sealed\.\n$/,
    );
    await kit.owner('alter table consent_event disable trigger append_only');
    await kit.owner('update consent_event set channel = $1 where account = $2', 'sms', ada.id);
    const broken = await assent(['ledger', 'verify']);
    expect([broken.code, broken.out]).toEqual([
      1,
      expect.stringMatching(/^line \d+ \(event [0-9a-f-]{36}\) was changed\n$/),
    ]);
  });

  test('migrate says that nothing is missing, and a newer schema is refused', async () => {
    expect(await assent(['migrate'])).toMatchObject({ code: 0, err: 'The schema is up to date.\n' });
    await kit.owner("insert into migration (number, name) values (9999, '9999_from_the_future.sql')");
    const { code, err } = await assent(['migrate']);
    expect(code).toBe(1);
    expect(err).toMatch(
      /^The database is at migration 9999_from_the_future\.sql, which this version of Assent does not know/,
    );
    await kit.owner('delete from migration where number = 9999');
  });
});
