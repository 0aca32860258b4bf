/** Companies, shops and owners: operators make and change them, whoever manages one looks at it. */
import { Command, CommanderError } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { staffCommands } from '../../src/staff/commands.ts';
import { verifyHistory } from '../../src/staff/history/verify.ts';
import { permissionKeys } from '../../src/staff/permissions.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

let kit: Kit;
let operator: Client;
let key: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  operator = await kit.operator();
  key = await kit.apiKey('companies');
});
afterAll(async () => {
  expect(await verifyHistory(kit.ctx)).toMatchObject({ faults: [] });
  await kit.close();
});

let made = 0;
async function company(owner: string, shops = 2): Promise<{ id: number; shops: number[]; path: string }> {
  made += 1;
  const names = Array.from({ length: shops }, (_, n) => ({ en: `Shop ${n + 1}` }));
  const { body } = await key('POST', '/v1/companies', {
    body: { name: { en: `Bakery ${made}` }, owner, shops: names },
  });
  return { id: body.id, shops: body.shops.map(({ id }: { id: number }) => id), path: `/v1/companies/${body.id}` };
}

/** Lines as the history tells them, oldest first, without ids and times. */
async function told(path: string): Promise<Record<string, unknown>[]> {
  const { body } = await key('GET', `${path}/history`);
  return body.items.reverse().map((line: Record<string, unknown>) => {
    const { id, at, origin, email, ...rest } = line;
    return Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null));
  });
}

const everything = (shops: readonly number[]): object[] =>
  shops.flatMap((shop) =>
    permissionKeys.map((permission) => ({ shop, permission, before: null, after: { until: null } })),
  );

describe('making a company', () => {
  test('writes what was made, by whom and why, and gives its owner everything', async () => {
    const owner = await kit.signUp();
    const name = { en: 'Usta Bakery', nl: 'Bakkerij Usta' };
    const reply = await operator.send('POST', '/v1/companies', {
      body: { name, owner: owner.email.toUpperCase(), shops: [{ en: 'Moda' }, { en: 'Levent' }], reason: 'Contract 7' },
    });
    const { id, shops } = reply.body;
    const ids = shops.map((shop: { id: number }) => shop.id);
    expect([reply.status, reply.body]).toEqual([
      201,
      {
        id: expect.any(Number),
        name,
        active: true,
        owner: expect.stringMatching(new RegExp(owner.email, 'i')),
        shops: [
          { id: ids[0], name: { en: 'Moda' }, active: true },
          { id: ids[1], name: { en: 'Levent' }, active: true },
        ],
      },
    ]);
    const { entry } = (await told(`/v1/companies/${id}`))[1]!;
    const actor = `operator:${operator.id}`;
    expect(await told(`/v1/companies/${id}`)).toEqual([
      {
        number: 1,
        kind: 'company_made',
        actor,
        reason: 'Contract 7',
        owner: [null, owner.id],
        shops: ids,
        shown: [null, { id, name, active: true }],
      },
      {
        number: 2,
        kind: 'entry_made',
        entry,
        account: owner.id,
        actor,
        reason: 'Contract 7',
        shop_ids: [[], ids],
        permissions: [[], permissionKeys],
        rights: everything(ids),
      },
    ]);
    expect(await kit.rows('select count(*)::int from entry_right where entry = $1', entry)).toEqual([{ count: 22 }]);
  });

  test('happens once for an Idempotency-Key, also when both requests come at once', async () => {
    const owner = await kit.signUp();
    const send = (body: object): Promise<Reply> =>
      key('POST', '/v1/companies', { body, headers: { 'idempotency-key': 'contract-8' } });
    const body = { name: { en: 'Once' }, owner: owner.email };
    const both = await Promise.all([send(body), send(body)]);
    const third = await send(body);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 201]);
    expect(third.status).toBe(200);
    expect(new Set([...both, third].map((reply) => reply.body.id)).size).toBe(1);
    expect(await kit.rows(`select count(*)::int from company where name->>'en' = 'Once'`)).toEqual([{ count: 1 }]);
    const other = await send({ ...body, name: { en: 'Twice' } });
    expect([other.status, other.body.code]).toEqual([409, 'idempotency_mismatch']);
    // Another caller's key is another key.
    const theirs = await operator.send('POST', '/v1/companies', { body, headers: { 'idempotency-key': 'contract-8' } });
    expect(theirs.status).toBe(201);
  });

  test('invites an owner whose address nobody has proven', async () => {
    const before = (await kit.outbox('mail')).length;
    const reply = await key('POST', '/v1/companies', {
      body: { name: { en: 'New' }, owner: 'nobody.yet@example.com' },
    });
    expect(reply.status).toBe(201);
    await kit.jobs();
    const mails = (await kit.outbox('mail')).slice(before);
    expect(mails.map(({ recipient }) => recipient)).toEqual(['nobody.yet@example.com']);
    const { body } = await key('GET', `/v1/companies/${reply.body.id}/entries`);
    expect(body.items).toMatchObject([
      {
        email: 'nobody.yet@example.com',
        state: 'invited',
        owner: true,
        shop_ids: [],
        permissions: [...permissionKeys],
        rights: [],
      },
    ]);
  });
});

describe('changing a company', () => {
  test('renames and closes it, says so in one line, and nothing when nothing changes', async () => {
    const owner = await kit.signUp();
    const { id, path } = await company(owner.email);
    const { body: before } = await key('GET', path);
    const changed = await key('PATCH', path, { body: { name: { tr: 'Usta' }, active: false, reason: 'Sold' } });
    expect([changed.status, changed.body]).toEqual([200, { ...before, name: { tr: 'Usta' }, active: false }]);
    expect((await key('PATCH', path, { body: { name: { tr: 'Usta' }, active: false } })).status).toBe(200);
    expect((await key('PATCH', path, { body: {} })).body).toEqual(changed.body);
    expect((await told(path)).slice(2)).toEqual([
      {
        number: 3,
        kind: 'company_changed',
        actor: expect.stringMatching(/^key:/),
        reason: 'Sold',
        shown: [
          { id, name: before.name, active: true },
          { id, name: { tr: 'Usta' }, active: false },
        ],
      },
    ]);
    // What customers see is not what colleagues may do.
    const bearer = await kit.bearer(owner.email);
    expect((await bearer('GET', `${path}/entries`)).status).toBe(200);
  });

  test('opens shops, in which the owner’s entry holds everything at once', async () => {
    const owner = await kit.signUp();
    const { path, shops, id } = await company(owner.email, 1);
    const opened = await key('POST', `${path}/shops`, { body: { name: { en: 'Second' }, reason: 'Growth' } });
    const second = opened.body.id;
    expect([opened.status, opened.body]).toEqual([201, { id: second, name: { en: 'Second' }, active: true }]);
    const lines = await told(path);
    expect(lines.slice(2)).toMatchObject([
      { number: 3, kind: 'shop_made', shops: [second], shown: [null, opened.body], reason: 'Growth' },
      {
        number: 4,
        kind: 'rights_changed',
        account: owner.id,
        shop_ids: [shops, [...shops, second]],
        rights: everything([second]),
      },
    ]);
    const wire = await (await kit.bearer(owner.email))('GET', `/company/companies/${id}/permissions/users`);
    expect(wire.body[0]).toMatchObject({ shop_ids: [...shops, second], user: { id: owner.id } });

    const closed = await key('PATCH', `${path}/shops/${second}`, { body: { active: false, name: { en: 'Annex' } } });
    expect([closed.status, closed.body]).toEqual([200, { id: second, name: { en: 'Annex' }, active: false }]);
    expect((await told(path)).at(-1)).toMatchObject({ kind: 'shop_changed', shown: [opened.body, closed.body] });
    expect((await key('GET', `${path}/shops`)).body).toEqual({
      items: [{ id: shops[0], name: { en: 'Shop 1' }, active: true }, closed.body],
      next: null,
    });
    const other = await company(owner.email);
    expect((await key('PATCH', `${other.path}/shops/${second}`, { body: { active: true } })).status).toBe(404);
  });
});

describe('owners', () => {
  test('a new owner gets everything, the one before stays as a colleague like others', async () => {
    const [first, second] = [await kit.signUp(), await kit.signUp()];
    const { path, shops } = await company(first.email);
    const changed = await key('PATCH', path, { body: { owner: second.email, reason: 'Sold' } });
    expect([changed.status, changed.body.owner]).toEqual([200, second.email]);
    expect((await told(path)).slice(2)).toMatchObject([
      { number: 3, kind: 'owner_changed', owner: [first.id, second.id], reason: 'Sold' },
      { number: 4, kind: 'entry_made', account: second.id, rights: everything(shops) },
    ]);
    const { body } = await key('GET', `${path}/entries`);
    const [was, is] = body.items;
    expect([was.owner, was.rights.length, is.owner, is.rights.length]).toEqual([false, 22, true, 22]);
    // Now somebody may take rights from them, and the new owner is untouchable.
    const bearer = await kit.bearer(first.email);
    expect((await bearer('DELETE', `${path}/entries/${is.id}`)).body.code).toBe('owner_entry');
    const by = await kit.bearer(second.email);
    expect((await by('DELETE', `${path}/entries/${was.id}`)).status).toBe(204);
  });

  test('a colleague who becomes the owner keeps the entry, and its rights without end', async () => {
    const [first, second] = [await kit.signUp(), await kit.signUp()];
    const { path, shops } = await company(first.email);
    const until = new Date(kit.ctx.clock.now().getTime() + 3_600_000).toISOString();
    const { body: entry } = await key('POST', `${path}/entries`, {
      body: { email: second.email, grant: [{ shop: shops[1], permission: 'products', until }] },
    });
    expect((await key('PATCH', path, { body: { owner: second.email } })).status).toBe(200);
    const { body } = await key('GET', `${path}/entries/${entry.id}`);
    expect(body).toMatchObject({
      id: entry.id,
      owner: true,
      shop_ids: [shops[1], shops[0]],
      version: entry.version + 1,
    });
    expect(body.rights.filter((right: { until: unknown }) => right.until !== null)).toEqual([]);
    expect((await told(path)).at(-1)).toMatchObject({ kind: 'rights_changed', entry: entry.id });
    // The same again changes nothing.
    const lines = (await told(path)).length;
    expect((await key('PATCH', path, { body: { owner: second.email } })).status).toBe(200);
    expect(await told(path)).toHaveLength(lines);
  });

  test('without an owner somebody must manage each shop for good, and be able to', async () => {
    const [owner, manager] = [await kit.signUp(), await kit.signUp()];
    const { path, shops } = await company(owner.email);
    const { body: made } = await key('GET', `${path}/entries?email=${encodeURIComponent(owner.email)}`);
    const own = made.items[0].id;
    // The owner before is a colleague then; their account must be one that acts.
    await kit.rows('update account set is_active = false where id = $1', owner.id);
    const without = (): Promise<Reply> => key('PATCH', path, { body: { owner: null } });
    expect((await without()).body.code).toBe('last_manager');
    const until = new Date(kit.ctx.clock.now().getTime() + 3_600_000).toISOString();
    const grant = (shop: number, end?: string): object => ({
      shop,
      permission: 'permissions',
      ...(end === undefined ? {} : { until: end }),
    });
    const { body: entry } = await key('POST', `${path}/entries`, {
      body: { email: manager.email, grant: [grant(shops[0]!), grant(shops[1]!, until)] },
    });
    expect((await without()).body.code).toBe('last_manager');
    const before = await kit.rows('select owner, events from company where id = $1', Number(path.split('/').at(-1)));
    expect(before).toEqual([{ owner: owner.id, events: 4 }]);
    expect((await key('PATCH', `${path}/entries/${entry.id}`, { body: { grant: [grant(shops[1]!)] } })).status).toBe(
      200,
    );
    const gone = await without();
    expect([gone.status, gone.body.owner]).toEqual([200, null]);
    expect((await told(path)).at(-1)).toMatchObject({ kind: 'owner_changed', owner: [owner.id, null] });
    // From now on the last manager is the rule's business.
    expect((await key('DELETE', `${path}/entries/${entry.id}`)).body.code).toBe('last_manager');
    expect((await key('DELETE', `${path}/entries/${own}`)).status).toBe(204);
  });
});

describe('who may', () => {
  let owner: Client;
  let here: Awaited<ReturnType<typeof company>>;
  let callers: Record<string, Send>;
  beforeAll(async () => {
    owner = await kit.signUp();
    here = await company(owner.email);
    const [manager, colleague] = [await kit.signUp(), await kit.signUp()];
    await key('POST', `${here.path}/entries`, {
      body: { email: manager.email, grant: [{ shop: here.shops[0], permission: 'permissions' }] },
    });
    await key('POST', `${here.path}/entries`, {
      body: { email: colleague.email, grant: [{ shop: here.shops[0], permission: 'products' }] },
    });
    const stranger = await kit.signUp();
    await company(stranger.email);
    callers = {
      operator: operator.send,
      key,
      'key of another scope': await kit.apiKey('accounts'),
      owner: await kit.bearer(owner.email),
      manager: await kit.bearer(manager.email),
      colleague: await kit.bearer(colleague.email),
      'owner of another company': await kit.bearer(stranger.email),
      'a customer with a cookie': owner.send,
      nobody: kit.send,
    };
  });

  test.each([
    ['GET', '', undefined, [200, 200, 403, 200, 200, 403, 404, 403, 401]],
    ['GET', '/shops', undefined, [200, 200, 403, 200, 200, 403, 404, 403, 401]],
    ['PATCH', '', { active: true }, [200, 200, 403, 403, 403, 403, 404, 403, 401]],
    ['PATCH', '', { owner: 'other@example.com' }, [200, 200, 403, 403, 403, 403, 404, 403, 401]],
    ['POST', '/shops', { name: { en: 'Third' } }, [201, 201, 403, 403, 403, 403, 404, 403, 401]],
    ['PATCH', '/shops/SHOP', { active: true }, [200, 200, 403, 403, 403, 403, 404, 403, 401]],
  ] as const)('%s /v1/companies/{id}%s %j', async (method, path, body, expected) => {
    const answers: number[] = [];
    for (const send of Object.values(callers)) {
      // What operators change is put back: the next row starts from here.
      const at = `${here.path}${path.replace('SHOP', String(here.shops[0]))}`;
      answers.push((await send(method, at, body === undefined ? {} : { body })).status);
      if (body !== undefined && 'owner' in body) await key('PATCH', here.path, { body: { owner: owner.email } });
    }
    expect(answers).toEqual(expected);
  });

  test('accounts make no companies, and list those that they own or manage', async () => {
    const body = { name: { en: 'Mine' }, owner: owner.email };
    const refused = await callers['owner']!('POST', '/v1/companies', { body });
    expect([refused.status, refused.body.code]).toEqual([403, 'forbidden']);
    const listed: Record<string, unknown> = {};
    for (const who of ['owner', 'manager', 'colleague', 'owner of another company'] as const)
      listed[who] = (await callers[who]!('GET', '/v1/companies')).body.items.map(
        ({ id }: { id: number }) => id === here.id,
      );
    expect(listed).toEqual({ owner: [true], manager: [true], colleague: [], 'owner of another company': [false] });
    const [{ count }] = (await kit.rows<{ count: number }>('select count(*)::int from company')) as [{ count: number }];
    expect((await key('GET', '/v1/companies?limit=500')).body.items).toHaveLength(count);
    // Page by page it is the same list.
    const ids: number[] = [];
    for (let next: string | null = '0'; next !== null; ) {
      const { status, body }: { status: number; body: { items: { id: number }[]; next: string | null } } = await key(
        'GET',
        `/v1/companies?limit=2${next === '0' ? '' : `&after=${next}`}`,
      );
      expect([status, body.items.length <= 2]).toEqual([200, true]);
      ids.push(...body.items.map(({ id }) => id));
      next = body.next;
    }
    expect(ids).toEqual((await kit.rows<{ id: number }>('select id from company order by id')).map(({ id }) => id));
    expect((await key('GET', '/v1/companies?limit=0')).status).toBe(400);
  });

  test('a manager whose right has ended manages nothing, swept or not', async () => {
    const [brief, { path, shops }] = [await kit.signUp(), await company(owner.email)];
    const until = new Date(kit.ctx.clock.now().getTime() + 3_600_000).toISOString();
    await key('POST', `${path}/entries`, {
      body: { email: brief.email, grant: [{ shop: shops[0], permission: 'permissions', until }] },
    });
    const send = await kit.bearer(brief.email);
    expect([(await send('GET', path)).status, (await send('GET', '/v1/companies')).body.items.length]).toEqual([
      200, 1,
    ]);
    kit.advance(3_600_000);
    const again = await kit.bearer(brief.email);
    expect([(await again('GET', path)).status, (await again('GET', '/v1/companies')).body.items]).toEqual([403, []]);
  });

  test('an owner who has to have a second factor sees nothing without', async () => {
    await kit.set('SECOND_FACTOR_REQUIRED', ['owners']);
    try {
      for (const path of ['/v1/companies', here.path, `${here.path}/entries`, `${here.path}/history`]) {
        const reply = await (await kit.bearer(owner.email))('GET', path);
        expect([path, reply.status, reply.body.code]).toEqual([path, 403, 'second_factor_required']);
      }
    } finally {
      await kit.set('SECOND_FACTOR_REQUIRED', []);
    }
  });
});

test.each([
  ['POST', '', { name: {}, owner: 'a@example.com' }, '/name'],
  ['POST', '', { name: { en: 'A' } }, '/owner'],
  ['POST', '', { name: { en: 'A' }, owner: 'nobody' }, '/owner'],
  ['POST', '', { name: { en: 'A' }, owner: 'a@example.com', colour: 'red' }, '/colour'],
  ['PATCH', '/ID', { owner: 'nobody' }, '/owner'],
  ['PATCH', '/ID', { owner: 7 }, '/owner'],
  ['PATCH', '/ID', { active: 'yes' }, '/active'],
  ['PATCH', '/ID', { reason: '' }, '/reason'],
  ['POST', '/ID/shops', {}, '/name'],
  ['PATCH', '/ID/shops/SHOP', { name: { english: 'A' } }, '/name/english'],
])('%s /v1/companies%s refuses %j and changes nothing', async (method, path, body, pointer) => {
  const { id, shops } = await company((await kit.signUp()).email);
  const state = (): Promise<unknown[]> =>
    kit.rows(
      'select (select count(*) from company)::int, (select count(*) from shop)::int, (select count(*) from staff_event)::int',
    );
  const before = await state();
  const at = `/v1/companies${path.replace('ID', String(id)).replace('SHOP', String(shops[0]))}`;
  const reply = await key(method, at, { body });
  expect([reply.status, reply.body.code]).toEqual([400, 'invalid']);
  expect(reply.body.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
  expect(await state()).toEqual(before);
});

describe('commands', () => {
  /** Runs a command in this process: what it prints, a value a line, and how it ends. */
  async function assent(...args: string[]): Promise<{ code: number; out: unknown[]; err: string }> {
    const out: unknown[] = [];
    let err = '';
    const program = new Command('assent').exitOverride().configureOutput({
      writeErr: (text) => {
        err += text;
      },
    });
    const terminal = { say: () => {}, print: (value: unknown) => void out.push(value) };
    staffCommands(program, { ...terminal, withCtx: (work) => work(kit.ctx, undefined) });
    for (const command of program.commands) for (const each of command.commands) each.copyInheritedSettings(program);
    const before = process.exitCode;
    try {
      await program.parseAsync(args, { from: 'user' });
      return { code: Number(process.exitCode ?? 0), out, err };
    } catch (error) {
      if (error instanceof CommanderError) return { code: error.exitCode, out, err };
      throw error;
    } finally {
      process.exitCode = before;
    }
  }

  test('make and change companies and shops, tell who could what, and check the history', async () => {
    const [owner, next] = [await kit.signUp(), await kit.signUp()];
    const created = await assent(
      'company',
      'create',
      'Komut',
      '--owner',
      owner.email,
      '--shop',
      'Moda',
      '--reason',
      'By hand',
    );
    const { id, shops } = created.out[0] as { id: number; shops: { id: number }[] };
    const shop = shops[0]!.id;
    expect(created).toEqual({
      code: 0,
      out: [
        {
          id,
          name: { en: 'Komut' },
          active: true,
          owner: owner.email,
          shops: [{ id: shop, name: { en: 'Moda' }, active: true }],
        },
      ],
      err: '',
    });
    const changed = await assent('company', 'change', `${id}`, '--name', 'Komut 2', '--no-active');
    expect(changed.out).toMatchObject([{ id, name: { en: 'Komut 2' }, active: false }]);
    const opened = await assent('shop', 'add', `${id}`, 'Levent');
    expect(opened.out).toMatchObject([{ name: { en: 'Levent' }, active: true }]);
    const closed = await assent('shop', 'change', `${id}`, `${shop}`, '--no-active');
    expect(closed.out).toMatchObject([{ id: shop, name: { en: 'Moda' }, active: false }]);
    expect((await assent('company', 'owner', `${id}`, next.email)).out).toMatchObject([{ owner: next.email }]);
    expect((await assent('company', 'owner', `${id}`, '--none')).out).toMatchObject([{ owner: null }]);
    expect((await assent('company', 'list')).out.at(-1)).toMatchObject({ id, owner: null });

    const lines = (await assent('staff', 'history', `${id}`)).out as {
      kind: string;
      actor: string;
      at: string;
      entry: number;
    }[];
    expect(lines.map(({ kind }) => kind)).toEqual([
      'owner_changed',
      'entry_made',
      'owner_changed',
      'shop_changed',
      'rights_changed',
      'shop_made',
      'company_changed',
      'entry_made',
      'company_made',
    ]);
    expect(new Set(lines.map(({ actor }) => actor))).toEqual(new Set(['command']));
    const who = ['staff', 'who', `${id}`, '--shop', `${shop}`, '--permission', 'products'];
    expect((await assent(...who)).out).toMatchObject([
      { email: owner.email, as: 'entry' },
      { email: next.email, as: 'entry' },
    ]);
    expect((await assent(...who, '--at', lines.at(-2)!.at)).out).toMatchObject([{ email: owner.email, as: 'owner' }]);

    const holds = 'The history holds: 9 lines of 1 companies, and the rights are what it says.';
    expect(await assent('staff', 'verify', `${id}`)).toEqual({
      code: 0,
      out: [holds, '0 seals hold, 9 lines are not yet sealed.'],
      err: '',
    });
    await kit.rows(`update entry_right set until = now() where shop = $1 and permission = 'products'`, shop);
    const what = `entry ${lines.at(-2)!.entry} is not what the history says`;
    expect(await assent('staff', 'verify')).toEqual({ code: 1, out: [`company ${id}: ${what}`], err: '' });
    expect(await assent('staff', 'verify', `${id}`, '--json')).toEqual({
      code: 1,
      out: [{ companies: 1, lines: 9, seals: 0, unsealed: 9, faults: [{ company: id, line: null, what }] }],
      err: '',
    });
    await kit.rows(`update entry_right set until = null where shop = $1 and permission = 'products'`, shop);
  });

  test.each([
    [['company', 'owner', '1'], /--none/],
    [['company', 'owner', '1', 'a@example.com', '--none'], /--none/],
    [['staff', 'who', '1', '--shop', '1', '--permission', 'gossip'], /Known: company_info/],
    [['staff', 'who', '1', '--shop', '1', '--permission', 'products', '--at', 'then'], /2026-11-21T08:00:00Z/],
    [['shop', 'add', 'x', 'Moda'], /Name it by its id/],
  ])('%j makes no sense, and says why', async (args, why) => {
    expect(await assent(...args)).toEqual({ code: 1, out: [], err: expect.stringMatching(why) });
  });

  test('a company that is not there is not found', async () => {
    for (const args of [
      ['staff', 'verify', '999999'],
      ['company', 'change', '999999', '--active'],
      ['shop', 'add', '999999', 'Moda'],
    ])
      await expect(assent(...args)).rejects.toMatchObject({ code: 'not_found' });
  });
});
