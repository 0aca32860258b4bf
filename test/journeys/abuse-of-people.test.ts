/** Who wants to be somebody else: other people's invitations and addresses, and keys that outlive their reason. */
import { describe, expect, test } from 'vitest';
import { accountForRights } from '../../src/accounts/invitations.ts';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { sql } from '../../src/platform/db.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { openBakery } from '../bakery.ts';
import { type Client, PASSWORD, type Reply } from '../kit.ts';
import {
  accept,
  advance,
  bakery,
  type Colleague,
  entriesOf,
  family,
  form,
  grantOf,
  hire,
  inVain,
  json,
  key,
  kit,
  linkTo,
  logIn,
  newAddress,
  openRivals,
  pairs,
  told,
} from '../rivals.ts';

openRivals();

describe('invitations of others', () => {
  test('an invited address cannot be registered, signed in to or reset by somebody else', async () => {
    const email = newAddress();
    const entry = await bakery.invite(email);
    await bakery.grant(entry, bakery.shops, ['products', 'permissions']);
    const link = await linkTo(email);
    const person = { first_name: 'A', last_name: 'B', firstname: 'A', lastname: 'B' };
    await inVain(async () => {
      for (const spelling of [
        email,
        email.toUpperCase(),
        ` ${email} `,
        email.replace('i', 'İ'),
        email.replace('@', '＠'),
      ]) {
        const akinon = await kit.send(
          'POST',
          '/users/registration/',
          json({ email: spelling, password: PASSWORD, ...person }),
        );
        expect([akinon.status, Object.keys(akinon.body)], spelling).toEqual([400, ['email']]);
        const baker = await kit.send(
          'POST',
          '/api/register',
          json({ client_id: 'kit', username: spelling, password: PASSWORD, ...person }),
        );
        expect([...told(baker), baker.body.errors?.[0]?.pointer], spelling).toEqual([
          422,
          'unprocessable',
          '/username',
        ]);
      }
      expect((await logIn(email)).status).toBe(400);
      for (const password of ['', 'null', PASSWORD]) expect((await grantOf(email, password)).status).not.toBe(200);
    });
    // Whoever asks for a reset has it mailed to the person whose address it is.
    const asked = await kit.send('POST', '/api/forgot-password', json({ client_id: 'kit', username: email }));
    expect(asked.status).toBe(200);
    await kit.jobs();
    const mails = (await kit.outbox('mail')).slice(-1);
    expect(mails.map(({ recipient }) => recipient)).toEqual([email]);
    // That link proves the address as well; the invitation is then used up.
    expect((await accept(await linkTo(email), 'a-password-of-mine')).status).toBe(200);
    await inVain(async () => expect((await accept(link)).status).toBe(410));
    expect((await grantOf(email, 'a-password-of-mine')).status).toBe(200);
    expect((await grantOf(email)).status).toBe(400);
  });

  test('whoever registered the address before loses every key, and gets none of the rights', async () => {
    const email = newAddress();
    const thief = await kit.signUp({ email, unproven: true });
    const tokens = (await grantOf(email)).body;
    const entry = await bakery.invite(email);
    await bakery.grant(entry, bakery.shops, ['products', 'permissions']);
    const bearer = { authorization: `Bearer ${tokens.access_token}` };
    const cookie = { cookie: `sessionid=${thief.cookies.get('sessionid')}` };
    const token = { authorization: `Token ${thief.key}` };
    const forward = `/v1/decisions/forward-auth?permission=products&shop=${bakery.shops[0]}`;
    await inVain(async () => {
      for (const [path, headers] of [
        [family(), bearer],
        [entriesOf(bakery), bearer],
        [forward, bearer],
        [forward, cookie],
        ['/current_user/', cookie],
        ['/current_user/', token],
      ] as const)
        expect((await kit.send('GET', path, { headers })).status, path).toBe(401);
      const again = await kit.send(
        'POST',
        '/api/token',
        json({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token }),
      );
      expect(told(again)).toEqual([400, 'invalid_grant']);
      expect((await logIn(email)).status).toBe(400);
      expect(told(await grantOf(email))).toEqual([400, 'invalid_grant']);
    });
    expect((await accept(await linkTo(email), 'the-real-one-accepts')).status).toBe(200);
    expect((await logIn(email)).status).toBe(400);
    const real = await kit.bearer(email, 'the-real-one-accepts');
    expect((await real('GET', forward)).status).toBe(204);
  });

  test('a registration that the invitation overtakes signs nobody in', async () => {
    const email = newAddress();
    let registered: Promise<Reply> | undefined;
    await kit.database.transaction(async (db) => {
      // Nobody can sign in while this is held; the account can be made.
      await db.run(sql`lock table session in share mode`);
      const body = { email, password: PASSWORD, first_name: 'A', last_name: 'B' };
      registered = kit.send('POST', '/users/registration/', json(body));
      while ((await kit.rows('select from account where email = $1', email)).length === 0);
      await accountForRights({ ...kit.ctx, db }, email, 'en', bakery.id);
    });
    const { status, headers } = await registered!;
    expect([status, headers['set-cookie']]).toEqual([400, undefined]);
    const left = await kit.rows(
      'select s.kind from session s join account a on a.id = s.account where a.email = $1',
      email,
    );
    expect(left).toEqual([]);
    expect((await accept(await linkTo(email), 'the-real-one-accepts')).status).toBe(200);
  });

  test('a key of an account whose address is not proven opens no right, however it came about', async () => {
    const { access, wire, v1, id, cookies } = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const forward = `/v1/decisions/forward-auth?permission=products&shop=${bakery.shops[0]}`;
    expect([(await access('GET', wire)).status, (await access('GET', forward)).status]).toEqual([200, 204]);
    await kit.rows('update account set email_verified_at = null where id = $1', id);
    await inVain(async () => {
      for (const [method, path, body] of [
        ['GET', family()],
        ['GET', wire],
        ['GET', v1],
        ['GET', entriesOf(bakery)],
        ['GET', `/v1/companies/${bakery.id}/history`],
        ['POST', family(), { email: 'x@example.com' }],
        ['PATCH', wire, { permissions: { products: false } }],
        ['DELETE', wire],
        ['PATCH', v1, { revoke: pairs(bakery.shops, 'products') }],
      ] as const)
        expect(told(await access(method, path, body === undefined ? {} : json(body))), path).toEqual([
          403,
          'missing_permission',
        ]);
      expect((await access('GET', '/v1/companies')).body.items).toEqual([]);
      for (const headers of [{}, { cookie: `sessionid=${cookies.get('sessionid')}` }]) {
        const send = 'cookie' in headers ? kit.send : access;
        const reply = await send('GET', forward, { headers });
        expect([reply.status, reply.headers['assent-reason']]).toEqual([403, 'invited']);
      }
    });
  });

  test('the link of a colleague who was removed, of a resent and of an expired invitation opens nothing', async () => {
    const email = newAddress();
    const entry = await bakery.invite(email);
    const removed = await linkTo(email);
    expect((await bakery.manager('DELETE', bakery.path(entry))).status).toBe(200);
    const dead = async (token: string): Promise<void> => {
      expect([(await kit.send('GET', `/links/${token}`)).status, (await accept(token)).status]).toEqual([410, 410]);
      expect((await kit.send('POST', '/api/reset-password', json({ token, password: PASSWORD }))).status).toBe(422);
      const confirm = { uid: 'x', token, new_password1: PASSWORD, new_password2: PASSWORD };
      expect((await kit.send('POST', '/users/password/reset/confirm/', json(confirm))).status).toBe(400);
      const change = await kit.send('POST', '/users/email-change/confirm/', json({ token }));
      expect(change.status).toBe(400);
    };
    await inVain(() => dead(removed));
    advance(61_000);
    const again = await bakery.invite(email);
    const second = await linkTo(email);
    expect(second).not.toBe(removed);
    await inVain(() => dead(removed));
    advance(61_000);
    expect((await key('POST', `${entriesOf(bakery)}/${again}/invitation`)).status).toBe(204);
    const third = await linkTo(email);
    await inVain(() => dead(second));
    advance(kit.ctx.settings.get('INVITATION_AGE') * 1000);
    await inVain(() => dead(third));
    expect((await logIn(email)).status).toBe(400);
  });

  test('an invitation is good for one of those who use it at once', async () => {
    const email = newAddress();
    await bakery.invite(email);
    const token = await linkTo(email);
    const passwords = Array.from({ length: 6 }, (_, n) => `password-number-${n}`);
    const replies = await Promise.all(passwords.map((password) => accept(token, password)));
    const taken = replies.map(({ status }) => status);
    expect(taken.filter((status) => status === 200)).toHaveLength(1);
    expect(taken.filter((status) => status !== 200 && status !== 400 && status !== 410)).toEqual([]);
    const works = await Promise.all(passwords.map((password) => grantOf(email, password)));
    expect(works.map(({ status }) => status === 200)).toEqual(taken.map((status) => status === 200));
  });
});

// ---- Keys that outlive their reason ----

describe('stale keys', () => {
  const forward = (): string => `/v1/decisions/forward-auth?permission=products&shop=${bakery.shops[0]}`;
  /** What a key opens: the wire, pairs, a change, the proxy. */
  async function opens(headers: Record<string, string>, { wire }: Colleague): Promise<(string | number)[]> {
    const replies = [
      await kit.send('GET', family(), { headers }),
      await kit.send('GET', entriesOf(bakery), { headers }),
      await kit.send('PATCH', wire, { headers, body: { permissions: { products: true } } }),
      await kit.send('GET', forward(), { headers }),
    ];
    return replies.map(({ status }) => status);
  }
  const ready = async (): Promise<{ person: Colleague; headers: Record<string, string>; refresh: string }> => {
    const person = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const { body } = await grantOf(person.email);
    const headers = { authorization: `Bearer ${body.access_token}` };
    expect(await opens(headers, person)).toEqual([200, 200, 200, 204]);
    return { person, headers, refresh: body.refresh_token };
  };
  const renew = (refresh_token: string): Promise<Reply> =>
    kit.send('POST', '/api/token', json({ grant_type: 'refresh_token', refresh_token }));
  const decided = async ({ id }: Colleague): Promise<string> =>
    (await key('POST', '/v1/decisions/staff', json({ account: id, shop: bakery.shops[0], permission: 'products' })))
      .body.code;

  test('of a colleague who was removed open nothing, renewed or not, on any process', async () => {
    const { person, headers, refresh } = await ready();
    const twin = await kit.twin();
    expect((await bakery.manager('DELETE', person.wire)).status).toBe(200);
    expect((await twin.send('GET', forward(), { headers })).status).toBe(403);
    await inVain(async () => {
      expect(await opens(headers, person)).toEqual([404, 404, 404, 403]);
      const { body } = await renew(refresh);
      expect(await opens({ authorization: `Bearer ${body.access_token}` }, person)).toEqual([404, 404, 404, 403]);
    });
    expect(await decided(person)).toBe('no_entry');
  });

  test('of an account that was switched off open nothing and are not renewed', async () => {
    const { person, headers, refresh } = await ready();
    await kit.rows('update account set is_active = false where id = $1', person.id);
    await inVain(async () => {
      expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
      expect(told(await renew(refresh))).toEqual([400, 'invalid_grant']);
      const cookie = `sessionid=${person.cookies.get('sessionid')}`;
      expect((await kit.send('GET', forward(), { headers: { cookie } })).status).toBe(401);
    });
    expect(await decided(person)).toBe('account_off');
  });

  test('from before a change of password open nothing and are not renewed', async () => {
    const { person, headers, refresh } = await ready();
    const body = { old_password: PASSWORD, new_password1: 'a-much-better-one', new_password2: 'a-much-better-one' };
    expect((await person.send('POST', '/users/password/change/', { body })).status).toBe(200);
    await inVain(async () => {
      expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
      expect(told(await renew(refresh))).toEqual([400, 'invalid_grant']);
    });
  });

  test('of others are ended by nobody, by whatever way', async () => {
    const { person, headers } = await ready();
    const [{ family: id }] = (await kit.rows<{ family: string }>(
      `select family from session where account = $1 and kind = 'access' order by created_at desc limit 1`,
      person.id,
    )) as [{ family: string }];
    const thief = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const sessions = (): Promise<unknown[]> =>
      kit.rows('select kind from session where account = $1 order by 1', person.id);
    const before = await sessions();
    const page = await thief.send('GET', '/account');
    const csrfmiddlewaretoken = /name="csrfmiddlewaretoken" value="(\w+)"/.exec(page.text)![1]!;
    await thief.send(
      'POST',
      '/account/sessions/end',
      form(String(new URLSearchParams({ csrfmiddlewaretoken, session: id }))),
    );
    await thief.send(
      'POST',
      '/account/sessions/end-others',
      form(String(new URLSearchParams({ csrfmiddlewaretoken }))),
    );
    // Their own were ended by that.
    const access = await kit.bearer(thief.email);
    expect(told(await access('DELETE', `/api/sessions/${id}`))).toEqual([404, 'not_found']);
    expect((await access('DELETE', '/api/sessions')).status).toBe(200);
    expect(await sessions()).toEqual(before);
    expect(await opens(headers, person)).toEqual([200, 200, 200, 204]);
  });

  test('that were revoked open nothing and are not renewed, whichever of the two was handed in', async () => {
    for (const which of ['access', 'refresh']) {
      const { person, headers, refresh } = await ready();
      const token = which === 'access' ? headers['authorization']!.slice(7) : refresh;
      expect((await kit.send('POST', '/oauth/revoke', json({ token }))).status).toBe(200);
      await inVain(async () => {
        expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
        expect(told(await renew(refresh))).toEqual([400, 'invalid_grant']);
      });
    }
  });

  test('of a client that was disabled open nothing and are not renewed, also when it is enabled again', async () => {
    await createClient(kit.ctx, { id: 'shady', name: 'Shady', password_grant: true }, atTheMachine);
    const person = await hire(bakery, pairs(bakery.shops, 'products', 'permissions'));
    const { body } = await kit.send(
      'POST',
      '/api/token',
      json({ grant_type: 'password', client_id: 'shady', username: person.email, password: PASSWORD }),
    );
    const headers = { authorization: `Bearer ${body.access_token}` };
    expect(await opens(headers, person)).toEqual([200, 200, 200, 204]);
    for (const disabled of [true, false]) {
      expect((await key('PATCH', '/v1/clients/shady', json({ disabled }))).status).toBe(200);
      await inVain(async () => {
        expect(await opens(headers, person)).toEqual([401, 401, 401, 401]);
        expect((await renew(body.refresh_token)).status).not.toBe(200);
      });
    }
  });

  test('an owner who was replaced is a colleague like others from the answer on', async () => {
    const own = await openBakery(kit, 1);
    const next = await kit.signUp();
    expect((await key('PATCH', `/v1/companies/${own.id}`, json({ owner: next.email }))).status).toBe(200);
    const [{ id }] = (await kit.rows<{ id: number }>(
      'select id from entry where company = $1 and account = $2',
      own.id,
      next.id,
    )) as [{ id: number }];
    await inVain(async () =>
      expect(told(await own.manager('PATCH', own.path(id), json({ permissions: { products: false } })))).toEqual([
        403,
        'owner_entry',
      ]),
    );
    expect((await key('DELETE', `${entriesOf(own)}/${own.ownerEntry}`)).status).toBe(204);
    expect(told(await own.manager('GET', own.path(id)))).toEqual([404, 'not_found']);
  });
});

// ---- Addresses ----

describe('addresses', () => {
  const askChange = (client: Client, email: string): Promise<Reply> =>
    client.send('POST', '/users/email-change/', json({ email, password: PASSWORD }));

  test('a manager can change no address, of the owner or of a colleague', async () => {
    const [ada, bora] = [await hire(bakery, pairs(bakery.shops, 'products', 'permissions')), await hire(bakery)];
    await inVain(async () => {
      for (const target of [bora.entry, bakery.ownerEntry]) {
        for (const body of [
          { email: ada.email },
          { user: { email: ada.email } },
          { user: { id: ada.id } },
          { account: ada.id },
        ]) {
          expect(told(await ada.access('PATCH', bakery.path(target), json(body)))).toEqual([422, 'unprocessable']);
          expect(told(await ada.access('PATCH', `${entriesOf(bakery)}/${target}`, json(body)))).toEqual([
            400,
            'invalid',
          ]);
        }
      }
      // Nor resend, to somebody whose address is proven, what would set a password.
      for (const target of [bora.entry, bakery.ownerEntry])
        expect(told(await ada.access('POST', `${entriesOf(bakery)}/${target}/invitation`))).toEqual([409, 'conflict']);
    });
    expect((await ada.access('PATCH', '/user', json({ email: bora.email }))).status).toBe(405);
  });

  test('whoever takes the address of somebody invited gets nothing of theirs, asked before or after', async () => {
    const boss = newAddress();
    const helper = newAddress();
    const early = newAddress();
    const thief = await hire(bakery);
    expect((await askChange(thief, early)).status).toBe(200);
    const link = await linkTo(early);
    await createCompany(kit.ctx, { name: { en: 'New' }, owner: boss, shops: [{ en: 'One' }], language: 'en' });
    const entry = await bakery.invite(helper);
    await bakery.grant(entry, bakery.shops, ['products', 'permissions']);
    const earlyEntry = await bakery.invite(early);
    await bakery.grant(earlyEntry, bakery.shops, ['products', 'permissions']);
    await kit.jobs();
    const owners = () =>
      kit.rows(
        `select c.id, c.owner, e.id as entry, e.account, a.email from company c join entry e on e.company = c.id join account a on a.id = e.account order by 1, 3`,
      );
    const before = await owners();
    const mails = (await kit.outbox('mail')).length;
    for (const address of [boss, helper, boss.toUpperCase()]) {
      advance(61_000);
      expect((await askChange(thief, address)).status).toBe(200);
    }
    await kit.jobs();
    expect((await kit.outbox('mail')).slice(mails).map(({ recipient }) => recipient)).toEqual([]);
    // The link from before somebody invited that address.
    expect((await kit.send('POST', '/users/email-change/confirm/', json({ token: link }))).status).toBe(400);
    expect(await owners()).toEqual(before);
    expect((await thief.access('GET', family())).status).toBe(403);
  });

  test('an entry follows its account, and not the address', async () => {
    const shop = bakery.shops[0]!;
    const mover = await hire(bakery, pairs([shop], 'products'));
    const next = newAddress();
    expect((await askChange(mover, next)).status).toBe(200);
    expect((await kit.send('POST', '/users/email-change/confirm/', json({ token: await linkTo(next) }))).status).toBe(
      200,
    );
    const heir = await kit.signUp({ email: mover.email });
    expect(heir.id).not.toBe(mover.id);
    const forward = `/v1/decisions/forward-auth?permission=products&shop=${shop}`;
    expect((await (await kit.bearer(next))('GET', forward)).headers['assent-account']).toBe(String(mover.id));
    const refused = await (await kit.bearer(heir.email))('GET', forward);
    expect([refused.status, refused.headers['assent-reason'], refused.headers['assent-account']]).toEqual([
      403,
      'no_entry',
      undefined,
    ]);
    const asked = { company: bakery.id, shop, permission: 'products' };
    const answers = await Promise.all(
      [mover.email, next].map((email) => key('POST', '/v1/decisions/staff', json({ email, ...asked }))),
    );
    expect(answers.map(({ body }) => [body.allowed, body.entry])).toEqual([
      [false, null],
      [true, mover.entry],
    ]);
  });
});
