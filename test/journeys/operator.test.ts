/** What an operator changes and looks up while the service runs, and who may do it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { settings as catalogue, settingNames } from '../../src/settings.ts';
import { permissionKeys } from '../../src/staff/permissions.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';

const SETTINGS = '/v1/settings';
const PROFILE = '/users/profile/';

let kit: Kit;
let operator: Client;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null });
  operator = await kit.operator();
});
afterAll(() => kit.close());

const put = (name: string, value: unknown): Promise<Reply> =>
  operator.send('PUT', `${SETTINGS}/${name}`, { body: { value } });

/** Status, code and the places of a problem, each once. */
function problem(reply: Reply): unknown[] {
  const { body, headers } = reply;
  expect(headers['content-type']).toBe('application/problem+json');
  expect(body).toMatchObject({
    type: `urn:assent:error:${body.code}`,
    status: reply.status,
    request_id: headers['x-request-id'],
  });
  return [reply.status, body.code, ...new Set((body.errors ?? []).map(({ pointer }: { pointer: string }) => pointer))];
}

test('every setting of the catalogue is listed with value, default and description', async () => {
  const { status, body } = await operator.send('GET', SETTINGS);
  expect([status, body.next]).toEqual([200, null]);
  expect(body.items.map(({ name }: { name: string }) => name)).toEqual(settingNames);
  const age = body.items.find(({ name }: { name: string }) => name === 'PASSWORD_RESET_AGE');
  const { description } = catalogue.PASSWORD_RESET_AGE;
  expect(age).toEqual({
    name: 'PASSWORD_RESET_AGE',
    value: 3600,
    default: 3600,
    description,
    changed_at: null,
    changed_by: null,
  });
  expect((await operator.send('GET', `${SETTINGS}/PASSWORD_RESET_AGE`)).body).toEqual(age);
});

test('a setting is changed, reset, and its history says who did what', async () => {
  const name = 'PASSWORD_MIN_LENGTH';
  const { description } = catalogue[name];
  const by = `operator:${operator.id}`;
  const changed = await put(name, 12);
  expect([changed.status, changed.body]).toEqual([
    200,
    { name, value: 12, default: 8, description, changed_at: expect.stringMatching(/^\d{4}-.*Z$/), changed_by: by },
  ]);
  expect((await operator.send('GET', `${SETTINGS}/${name}`)).body).toEqual(changed.body);
  const send = await kit.apiKey('settings');
  const byKey = await send('PUT', `${SETTINGS}/${name}`, { body: { value: 10 } });
  expect([byKey.status, byKey.body.changed_by]).toEqual([200, expect.stringMatching(/^key:\d+$/)]);
  const reset = await operator.send('DELETE', `${SETTINGS}/${name}`);
  expect([reset.status, reset.body]).toEqual([
    200,
    { name, value: 8, default: 8, description, changed_at: null, changed_by: null },
  ]);
  const history = await operator.send('GET', `${SETTINGS}/${name}/history`);
  const at = expect.stringMatching(/^\d{4}-.*Z$/);
  expect(history.body).toEqual({
    items: [
      { value: null, previous: 10, changed_at: at, changed_by: by },
      { value: 10, previous: 12, changed_at: at, changed_by: byKey.body.changed_by },
      { value: 12, previous: null, changed_at: at, changed_by: by },
    ],
    next: null,
  });
});

test.each([
  ['PASSWORD_MIN_LENGTH', 'long', ['/value']],
  ['PASSWORD_MIN_LENGTH', 7, ['/value']],
  ['PASSWORD_MIN_LENGTH', 8.5, ['/value']],
  ['PASSWORD_MIN_LENGTH', null, ['/value']],
  ['SESSION_COOKIE_NAME', 'PHPSESSID', ['/value']],
  ['USER_PHONE_REGEX', '([', ['/value']],
  ['GENDERS_AS_OBJECTS', 'true', ['/value']],
  ['PHONE_DEFAULT_REGION', 'tr', ['/value']],
  ['USER_REQUIRED_FIELDS', ['first_name', 'shoe_size'], ['/value/1']],
  ['CSRF_TRUSTED_ORIGINS', ['https://shop.example', 'shop.example'], ['/value/1']],
  ['THROTTLING_SETTINGS', { login: { count: 0, duration: 60 } }, ['/value/login/count']],
])('a wrong value for %s is refused with its place: %j', async (name, value, places) => {
  const now = async () => [
    (await operator.send('GET', `${SETTINGS}/${name}`)).body,
    (await operator.send('GET', `${SETTINGS}/${name}/history`)).body,
  ];
  const before = await now();
  const reply = await put(name, value);
  const [status, code, ...pointers] = problem(reply);
  expect([status, code]).toEqual([400, 'invalid']);
  expect(pointers).toEqual(expect.arrayContaining(places));
  expect(await now()).toEqual(before);
});

test('a change says `value` and nothing else', async () => {
  const path = `${SETTINGS}/PASSWORD_MIN_LENGTH`;
  expect(problem(await operator.send('PUT', path, { body: {} }))).toEqual([400, 'invalid', '/value']);
  expect(problem(await operator.send('PUT', path))).toEqual([400, 'invalid', '/value']);
  expect(problem(await operator.send('PUT', path, { body: { value: 9, reason: 'because' } }))).toEqual([
    400,
    'invalid',
    '/reason',
  ]);
  expect(problem(await operator.send('PUT', path, { body: '{"value":' }))).toEqual([400, 'malformed']);
  expect(problem(await operator.send('PUT', path, { form: 'value=9' }))).toEqual([415, 'unsupported_media_type']);
  expect((await operator.send('GET', path)).body.value).toBe(8);
});

test.each(['SHOE_SIZE', 'constructor', '__proto__', 'password_min_length'])('there is no setting %s', async (name) => {
  const path = `${SETTINGS}/${name}`;
  const replies = [
    await operator.send('GET', path),
    await operator.send('PUT', path, { body: { value: 1 } }),
    await operator.send('DELETE', path),
    await operator.send('GET', `${path}/history`),
  ];
  expect(replies.map(problem)).toEqual(Array(4).fill([404, 'not_found']));
});

test('a parameter that is not known is refused, and a method names those that are', async () => {
  for (const path of [SETTINGS, `${SETTINGS}/PASSWORD_MIN_LENGTH`, '/v1/companies', '/v1/outbox/sms']) {
    expect(problem(await operator.send('GET', `${path}?page=2`))).toEqual([400, 'invalid', '/page']);
  }
  expect(problem(await operator.send('DELETE', `${SETTINGS}/PASSWORD_MIN_LENGTH?page=2`))).toEqual([
    400,
    'invalid',
    '/page',
  ]);
  const post = await operator.send('POST', SETTINGS, { body: {} });
  expect([problem(post), post.headers['allow']]).toEqual([[405, 'method_not_allowed'], 'GET, HEAD, OPTIONS']);
});

test('a change counts at once, and in another process once it looks', async () => {
  const twin = await kit.twin();
  const ada = await kit.signUp();
  const genders = async (at: Kit): Promise<unknown> =>
    (await at.send('GET', PROFILE, { headers: { authorization: `Token ${ada.key}` } })).body.genders;
  const objects = [
    { value: 'male', label: 'male' },
    { value: 'female', label: 'female' },
  ];
  await put('GENDERS_AS_OBJECTS', true);
  expect([await genders(kit), await genders(twin)]).toEqual([objects, ['male', 'female']]);
  await twin.ctx.settings.refresh(twin.ctx.db);
  expect(await genders(twin)).toEqual(objects);
  await operator.send('DELETE', `${SETTINGS}/GENDERS_AS_OBJECTS`);
  await twin.ctx.settings.refresh(twin.ctx.db);
  expect([await genders(kit), await genders(twin)]).toEqual([
    ['male', 'female'],
    ['male', 'female'],
  ]);
});

test('changes made at the same time all stand in the history, each on the one before', async () => {
  const twin = await kit.twin();
  const send = await kit.apiKey('settings');
  const cookie = {
    cookie: `sessionid=${operator.cookies.get('sessionid')}; csrftoken=${operator.cookies.get('csrftoken')}`,
    'x-csrftoken': operator.cookies.get('csrftoken')!,
  };
  const values = Array.from({ length: 12 }, (_, i) => 20 + i);
  const replies = await Promise.all(
    values.map((value, i) =>
      i % 2 === 0
        ? send('PUT', `${SETTINGS}/OTP_RESEND_SECONDS`, { body: { value } })
        : twin.send('PUT', `${SETTINGS}/OTP_RESEND_SECONDS`, { body: { value }, headers: cookie }),
    ),
  );
  expect(replies.map(({ status }) => status)).toEqual(Array(12).fill(200));
  const { items } = (await send('GET', `${SETTINGS}/OTP_RESEND_SECONDS/history`)).body as {
    items: { value: number; previous: number | null }[];
  };
  expect(items.map(({ value }) => value).sort()).toEqual(values);
  expect(items.slice(0, -1).map(({ previous }) => previous)).toEqual(items.slice(1).map(({ value }) => value));
  expect(items.at(-1)!.previous).toBe(null);
  await twin.ctx.settings.refresh(twin.ctx.db);
  await kit.ctx.settings.refresh(kit.ctx.db);
  expect([kit.ctx.settings.get('OTP_RESEND_SECONDS'), twin.ctx.settings.get('OTP_RESEND_SECONDS')]).toEqual([
    items[0]!.value,
    items[0]!.value,
  ]);
});

test('required fields, read-only attributes, the language, the cookie and the password rule do what they say', async () => {
  const ada = await kit.signUp();
  await put('USER_REQUIRED_FIELDS', ['phone', 'gender']);
  expect((await ada.send('PUT', PROFILE, { body: { first_name: '', last_name: '' } })).body).toEqual({
    phone: ['This field is required.'],
    gender: ['This field is required.'],
  });
  expect((await ada.send('PATCH', PROFILE, { body: { first_name: '', phone: null, gender: null } })).body).toEqual({
    phone: ['This field may not be null.'],
    gender: ['This field may not be null.'],
  });
  expect((await ada.send('PATCH', PROFILE, { body: { first_name: '' } })).body.first_name).toBe('');
  await operator.send('DELETE', `${SETTINGS}/USER_REQUIRED_FIELDS`);
  expect((await ada.send('PATCH', PROFILE, { body: { first_name: '' } })).body).toEqual({
    first_name: ['This field may not be blank.'],
  });

  await ada.send('PATCH', PROFILE, { body: { attributes: { tier: 'gold', size: 'm' } } });
  await put('ATTRIBUTES_READ_ONLY_KEYS', ['tier', 'credit']);
  const kept = await ada.send('PATCH', PROFILE, {
    body: { attributes: { tier: 'platinum', credit: 100, colour: 'red' } },
  });
  expect(kept.body.attributes).toEqual({ colour: 'red', tier: 'gold' });

  await put('DEFAULT_LANGUAGE', 'tr');
  const turkish = await kit.send('GET', PROFILE);
  expect([turkish.status, turkish.headers['content-language']]).toEqual([401, 'tr']);
  await operator.send('DELETE', `${SETTINGS}/DEFAULT_LANGUAGE`);

  await put('SESSION_COOKIE_NAME', 'osessionid');
  const bora = await kit.signUp();
  expect([bora.cookies.has('osessionid'), bora.cookies.has('sessionid')]).toEqual([true, false]);
  expect((await bora.send('GET', PROFILE)).status).toBe(200);
  expect((await ada.send('GET', PROFILE)).status).toBe(200);
  await operator.send('DELETE', `${SETTINGS}/SESSION_COOKIE_NAME`);

  await put('PASSWORD_MIN_LENGTH', 40);
  const short = await kit.send('POST', '/users/registration/', {
    body: { email: 'short@example.com', password: PASSWORD },
  });
  expect([short.status, short.body]).toEqual([
    400,
    { password: ['This password is too short. It must contain at least 40 characters.'] },
  ]);
  await operator.send('DELETE', `${SETTINGS}/PASSWORD_MIN_LENGTH`);
});

test('a throttle is what its setting says, from the next request on', async () => {
  const ada = await kit.signUp();
  const patch = (): Promise<Reply> => ada.send('PATCH', PROFILE, { body: { first_name: 'Grace' } });
  expect((await patch()).headers['ratelimit']).toBe(undefined);
  await put('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': { count: 2, duration: 60 } });
  const replies = [await patch(), await patch(), await patch()];
  expect(replies.map(({ status, headers }) => [status, headers['ratelimit-policy']])).toEqual([
    [200, '"profile-update";q=2;w=60'],
    [200, '"profile-update";q=2;w=60'],
    [429, '"profile-update";q=2;w=60'],
  ]);
  expect(Number(replies[2]!.headers['retry-after'])).toBeGreaterThan(0);
  await put('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null });
  expect((await patch()).status).toBe(200);
});

// Who may

const calls: [string, string, string][] = [
  ['settings', 'GET', SETTINGS],
  ['settings', 'GET', `${SETTINGS}/PASSWORD_MIN_LENGTH`],
  ['settings', 'PUT', `${SETTINGS}/PASSWORD_MIN_LENGTH`],
  ['settings', 'DELETE', `${SETTINGS}/PASSWORD_MIN_LENGTH`],
  ['settings', 'GET', `${SETTINGS}/PASSWORD_MIN_LENGTH/history`],
  ['outbox', 'GET', '/v1/outbox/sms'],
  ['outbox', 'GET', '/v1/outbox/mail'],
  ['accounts', 'GET', '/v1/accounts'],
  ['accounts', 'GET', '/v1/accounts/1'],
  ['companies', 'GET', '/v1/companies'],
  ['companies', 'POST', '/v1/companies'],
  ['consents', 'GET', '/v1/consents/events'],
  ['consents', 'GET', '/v1/ledger/head'],
];

test.each(calls)('scope %s opens %s %s; guests, customers and other keys stay out', async (scope, method, path) => {
  const sent = method === 'PUT' ? { body: { value: 'wrong' } } : method === 'POST' ? { body: {} } : {};
  const guest = await kit.send(method, path, sent);
  expect([problem(guest), guest.headers['www-authenticate']]).toEqual([[401, 'not_authenticated'], 'Bearer']);
  for (const key of ['assent_nobody', '', 'a b']) {
    const unknown = await kit.send(method, path, { ...sent, headers: { authorization: `Bearer ${key}` } });
    expect([problem(unknown), unknown.headers['www-authenticate']]).toEqual([
      [401, 'invalid_token'],
      'Bearer error="invalid_token"',
    ]);
  }
  const customer = await kit.signUp();
  expect(problem(await customer.send(method, path, sent))).toEqual([403, 'forbidden']);
  // A customer's Token is no API key, and an access token of the other dialect neither.
  expect((await kit.send(method, path, { ...sent, headers: { authorization: `Token ${operator.key}` } })).status).toBe(
    401,
  );
  const bearer = await (await kit.bearer(operator.email))(method, path, sent);
  // Companies are looked after with access tokens too, each within the rights of its account: this one has none.
  if (scope !== 'companies') expect(problem(bearer)).toEqual([401, 'invalid_token']);
  else if (method === 'GET') expect([bearer.status, bearer.body]).toEqual([200, { items: [], next: null }]);
  else expect(problem(bearer)).toEqual([403, 'forbidden']);
  const scopes = ['settings', 'outbox', 'consents', 'accounts', 'companies'].filter((other) => other !== scope);
  expect(problem(await (await kit.apiKey(...scopes))(method, path, sent))).toEqual([403, 'forbidden']);
  for (const opening of [scope, '*']) {
    expect([401, 403]).not.toContain((await (await kit.apiKey(opening))(method, path, sent)).status);
  }
});

test('a key that was revoked opens nothing', async () => {
  const send = await kit.apiKey('settings');
  expect((await send('GET', SETTINGS)).status).toBe(200);
  await kit.rows('update api_key set revoked_at = now() where id = (select max(id) from api_key)');
  expect(problem(await send('GET', SETTINGS))).toEqual([401, 'invalid_token']);
});

test('an operator’s session is held to CSRF, a key is not', async () => {
  const path = `${SETTINGS}/EMAIL_CHANGE_AGE`;
  const body = { value: 600 };
  const attempts: [Record<string, string>, string][] = [
    [{ 'x-csrftoken': '' }, 'CSRF Failed: CSRF token missing.'],
    [{ 'x-csrftoken': 'a'.repeat(64) }, "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect."],
    [
      { origin: 'https://evil.example' },
      'CSRF Failed: Origin checking failed - https://evil.example does not match any trusted origins.',
    ],
    [{ 'sec-fetch-site': 'cross-site' }, 'CSRF Failed: Referer checking failed - no Referer.'],
  ];
  for (const [headers, detail] of attempts) {
    for (const method of ['PUT', 'DELETE']) {
      const reply = await operator.send(method, path, { ...(method === 'PUT' ? { body } : {}), headers });
      expect([problem(reply), reply.body.detail]).toEqual([[403, 'csrf_failed'], detail]);
    }
  }
  expect((await operator.send('GET', path, { headers: { 'x-csrftoken': '' } })).body.value).toBe(86_400);
  await put('CSRF_TRUSTED_ORIGINS', ['https://shop.example']);
  expect((await operator.send('PUT', path, { body, headers: { origin: 'https://shop.example' } })).status).toBe(200);
  const send = await kit.apiKey('settings');
  expect((await send('PUT', path, { body: { value: 700 }, headers: { origin: 'https://evil.example' } })).status).toBe(
    200,
  );
  await operator.send('DELETE', `${SETTINGS}/CSRF_TRUSTED_ORIGINS`);
});

// Accounts

test('accounts are found by address, number and the beginning of a name, newest first, page by page', async () => {
  const people: Client[] = [];
  for (const [index, first_name] of ['Zeynep', 'Zehra', 'Ze%ki'].entries()) {
    people.push(
      await kit.signUp({
        email: `zed${index}@example.com`,
        first_name,
        last_name: `Öz${index}`,
        phone: `0535200000${index}`,
        sms_allowed: index === 0,
      }),
    );
  }
  const ids = people.map(({ id }) => id);
  const find = async (query: string): Promise<number[]> => {
    const { status, body } = await operator.send('GET', `/v1/accounts?${query}`);
    expect(status).toBe(200);
    return body.items.map(({ id }: { id: number }) => id);
  };
  expect(await find('q=ze')).toEqual(ids.toReversed());
  expect(await find('q=zeh')).toEqual([ids[1]]);
  expect(await find('q=ZED0')).toEqual([ids[0]]);
  expect(await find(`q=${encodeURIComponent('ÖZ2')}`)).toEqual([ids[2]]);
  // A wildcard is a letter like any other.
  expect(await find(`q=${encodeURIComponent('ze%')}`)).toEqual([ids[2]]);
  expect(await find(`q=${encodeURIComponent('%')}`)).toEqual([]);
  expect(await find('q=eynep')).toEqual([]);
  expect(await find('email=ZED1@EXAMPLE.COM')).toEqual([ids[1]]);
  expect(await find(`phone=${encodeURIComponent('+905352000002')}`)).toEqual([ids[2]]);
  expect(await find(`phone=${encodeURIComponent('+905352000002')}&q=zey`)).toEqual([]);

  const first = (await operator.send('GET', '/v1/accounts?q=ze&limit=2')).body;
  expect([first.items.map(({ id }: { id: number }) => id), first.next]).toEqual([[ids[2], ids[1]], String(ids[1])]);
  const second = (await operator.send('GET', `/v1/accounts?q=ze&limit=2&after=${first.next}`)).body;
  expect([second.items.map(({ id }: { id: number }) => id), second.next]).toEqual([[ids[0]], null]);

  const one = await operator.send('GET', `/v1/accounts/${ids[0]}`);
  expect(one.body).toEqual({
    id: ids[0],
    email: 'zed0@example.com',
    first_name: 'Zeynep',
    last_name: 'Öz0',
    phone: '+905352000000',
    is_active: true,
    is_operator: false,
    invited: false,
    date_joined: expect.stringMatching(/^\d{4}-.*Z$/),
    consents: { email_allowed: false, sms_allowed: true, whatsapp_allowed: false, call_allowed: null },
    second_factor: false,
    identities: 0,
    loyalty: null,
  });
  // What is told of one alone.
  const { loyalty: _, second_factor: __, identities: ___, ...listed } = one.body;
  expect(second.items).toEqual([listed]);
  expect(JSON.stringify(one.body)).not.toContain('argon2');
  for (const id of ['0', '-1', 'x', '999999999', '1.5', '99999999999999999999']) {
    expect([id, problem(await operator.send('GET', `/v1/accounts/${id}`))]).toEqual([id, [404, 'not_found']]);
  }
  for (const [query, pointer] of [
    ['limit=0', '/limit'],
    ['limit=501', '/limit'],
    ['after=x', '/after'],
    ['q=', '/q'],
    ['name=Ada', '/name'],
    ['q=%00', '/q'],
  ] as const) {
    expect([query, problem(await operator.send('GET', `/v1/accounts?${query}`))]).toEqual([
      query,
      [400, 'invalid', pointer],
    ]);
  }
});

// Companies

test('a company is made with its owner and shops; an owner without an account is invited', async () => {
  const owner = await kit.signUp();
  const made = await operator.send('POST', '/v1/companies', {
    body: {
      name: { en: 'Usta Bakery', tr: 'Usta Fırın' },
      owner: owner.email,
      shops: [{ en: 'Moda' }, { en: 'Pera' }],
    },
  });
  const shop = (en: string) => ({ id: expect.any(Number), name: { en }, active: true });
  expect([made.status, made.body]).toEqual([
    201,
    {
      id: expect.any(Number),
      name: { en: 'Usta Bakery', tr: 'Usta Fırın' },
      active: true,
      owner: owner.email,
      shops: [shop('Moda'), shop('Pera')],
    },
  ]);
  expect((await operator.send('GET', '/v1/companies')).body.items.at(-1)).toEqual(made.body);
  expect(await kit.rows('select shop_ids, permissions from entry where account = $1', owner.id)).toEqual([
    { shop_ids: made.body.shops.map(({ id }: { id: number }) => id), permissions: permissionKeys },
  ]);

  await kit.jobs();
  const before = (await kit.outbox('mail')).length;
  const invited = await operator.send('POST', '/v1/companies', {
    body: { name: { en: 'New Bakery' }, owner: 'Chef@example.com' },
  });
  expect([invited.status, invited.body.shops]).toEqual([201, []]);
  await kit.jobs();
  const mails = (await kit.outbox('mail')).slice(before);
  expect(mails.map(({ recipient, subject }) => [recipient, subject])).toEqual([
    ['Chef@example.com', 'You have been invited'],
  ]);
  const account = (await operator.send('GET', '/v1/accounts?email=chef@example.com')).body.items[0];
  expect([account.invited, account.is_operator]).toEqual([true, false]);
  const token = /\/links\/(\w+)/.exec(mails[0]!.body)![1]!;
  expect(
    (await kit.send('POST', `/links/${token}`, { form: `new_password1=${PASSWORD}&new_password2=${PASSWORD}` })).status,
  ).toBe(200);
  expect((await kit.signIn('chef@example.com')).id).toBe(account.id);
});

test.each([
  [{}, ['/name', '/owner']],
  [{ name: {}, owner: 'a@example.com' }, ['/name']],
  [{ name: 'Bakery', owner: 'a@example.com' }, ['/name']],
  [{ name: { en: '' }, owner: 'a@example.com' }, ['/name/en']],
  [{ name: { english: 'Bakery' }, owner: 'a@example.com' }, ['/name/english']],
  [{ name: { en: 5 }, owner: 'a@example.com' }, ['/name/en']],
  [{ name: { en: 'Bakery' }, owner: 'nobody' }, ['/owner']],
  [{ name: { en: 'Bakery' }, owner: 'a@example.com', shops: [{}] }, ['/shops/0']],
  [{ name: { en: 'Bakery' }, owner: 'a@example.com', shops: [{ en: 'Moda' }, 7] }, ['/shops/1']],
  [{ name: { en: 'Bakery' }, owner: 'a@example.com', shop: [] }, ['/shop']],
])('a company of %j is refused', async (body, places) => {
  const count = () => kit.rows('select count(*)::int as companies from company');
  const before = await count();
  const [status, code, ...pointers] = problem(await operator.send('POST', '/v1/companies', { body }));
  expect([status, code, pointers]).toEqual([400, 'invalid', places]);
  expect(await count()).toEqual(before);
  expect(await kit.rows(`select id from account where email = 'a@example.com'`)).toEqual([]);
});

test('the outbox shows what the console providers kept, newest last', async () => {
  const ada = await kit.signUp();
  await ada.send('PATCH', '/users/profile-with-loyalty/', { body: { phone: '05353000001' } });
  await kit.send('POST', '/users/password/reset/', { body: { email: ada.email } });
  await kit.jobs();
  const sms = (await operator.send('GET', '/v1/outbox/sms')).body;
  expect(sms.at(-1)).toEqual({
    to: '+905353000001',
    text: expect.stringMatching(/^Your code is \d{6}\./),
    at: expect.stringMatching(/Z$/),
  });
  const mail = (await operator.send('GET', '/v1/outbox/mail')).body;
  expect(mail.at(-1)).toEqual({
    to: ada.email,
    subject: 'Set a new password',
    text: expect.stringContaining('/links/'),
    at: expect.stringMatching(/Z$/),
  });
});
