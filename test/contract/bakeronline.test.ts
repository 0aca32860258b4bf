/**
 * Company permissions as clients of the BakerOnline API know them. What its documents say stands in bakeronline.json;
 * errors are not documented there, so theirs are our own choice, kept here word for word.
 */
import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { apiDocument } from '../../src/app.ts';
import { createClient } from '../../src/oauth/clients.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { createKit, type Kit, PASSWORD, type Reply, type Send } from '../kit.ts';
import contract from './bakeronline.json' with { type: 'json' };

type Json = Record<string, unknown>;

const FAMILY = '/company/companies/15/permissions/users';
const THEIRS = '/company/companies/16/permissions/users';
const KEYS = contract.structs['UserPermission.permissions']['1.9.0'];
const OWN_KEYS = contract.structs['UserCompanyPermission.permissions']['1.9.0'];

let kit: Kit;
let twin: Kit;
/** Owner of company 15 with the shops 11, 18, 19. */
let usta: Send;
/** Owner of company 16 with the shops 21, 22, whose entry is 27. */
let rakip: Send;
let people = 0;

const ustasBakery = {
  name: { nl: 'Bakkerij Usta', en: 'Usta Bakery' },
  owner: 'usta@example.com',
  shops: [{ nl: 'Moda' }, { nl: 'Kadıköy' }, { nl: 'Beşiktaş' }],
  language: 'nl',
  ids: { company: 15, shops: [11, 18, 19], entry: 16 },
};
const rakipsBakery = {
  name: { nl: 'Bakkerij Rakip' },
  owner: 'rakip@example.com',
  shops: [{ nl: 'Şişli' }, { nl: 'Levent' }],
  language: 'nl',
  ids: { company: 16, shops: [21, 22], entry: 27 },
};

beforeAll(async () => {
  kit = await createKit();
  // What is asked here is asked often.
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  twin = await kit.twin();
  for (const { owner } of [ustasBakery, rakipsBakery]) await kit.signUp({ email: owner });
  await createCompany(kit.ctx, ustasBakery);
  await createCompany(kit.ctx, rakipsBakery);
  usta = await kit.bearer(ustasBakery.owner);
  rakip = await kit.bearer(rakipsBakery.owner);
  await kit.owner('alter table entry alter column id restart with 1000');
});
afterAll(() => kit.close());

interface Colleague {
  readonly id: number;
  readonly account: number;
  readonly email: string;
  readonly send: Send;
  readonly path: string;
}

/** Somebody with an entry of their own in company 15, as the owner gives it. */
async function colleague(given: { shop_ids?: number[]; permissions?: Json } = {}): Promise<Colleague> {
  people += 1;
  const { email, id: account } = await kit.signUp({ email: `colleague${people}@example.com` });
  const { id } = (await usta('POST', FAMILY, { body: { email } })).body;
  const path = `${FAMILY}/${id}`;
  if (Object.keys(given).length > 0) {
    expect((await usta('PATCH', path, { body: given })).status).toBe(200);
  }
  return { id, account, email, path, send: await kit.bearer(email) };
}

/** The text of an object whose keys come in this order. */
const text = (keys: readonly string[], values: Json): string =>
  `{${keys.map((key) => `"${key}":${typeof values[key] === 'string' ? values[key] : JSON.stringify(values[key])}`).join(',')}}`;
const booleans = (keys: readonly string[], held: readonly string[]): string =>
  text(keys, Object.fromEntries(keys.map((key) => [key, held.includes(key)])));

/** A UserPermission, byte by byte. */
const entryText = (
  { id, account, email }: { id: number; account: number; email: string },
  shop_ids: readonly number[],
  held: readonly string[],
): string =>
  text(contract.structs.UserPermission['1.9.0'], {
    shop_ids,
    permissions: booleans(KEYS, held),
    id,
    user: text(contract.structs['UserPermission.user']['1.9.0'], { id: account, email: JSON.stringify(email) }),
  });

function expectText(reply: Reply, expected: string): void {
  expect(reply.text).toBe(expected);
  expect(reply.status).toBe(200);
  expect(reply.headers['content-type']).toBe(contract.contentType);
}

function expectEmpty(reply: Reply): void {
  expect(reply.status, reply.text).toBe(200);
  expect(reply.text).toBe('');
  expect(reply.headers['content-type']).toBeUndefined();
  expect(reply.headers['content-length']).toBe('0');
}

/** A problem (RFC 9457) with exactly these members besides the id of the request. */
function expectProblem(
  reply: Reply,
  status: number,
  code: string,
  title: string,
  detail: string,
  more: Json = {},
): void {
  expect(reply.body).toEqual({
    type: `urn:assent:error:${code}`,
    title,
    status,
    detail,
    code,
    request_id: reply.headers['x-request-id'],
    ...more,
  });
  expect(reply.status).toBe(status);
  expect(reply.headers['content-type']).toBe('application/problem+json');
}

const expectMissing = (reply: Reply): void => expectProblem(reply, 404, 'not_found', 'Not found', 'Not found.');

const pointers = ({ body }: Reply): unknown => body.errors?.map((error: Json) => [error.pointer, error.code]);

const rowsOf = (id: number): Promise<Json[]> =>
  kit.rows('select shop_ids, permissions, version from entry where id = $1', id);

describe('the documented facts', () => {
  test('the examples have the length their documents give', () => {
    for (const { body, contentLength } of Object.values(contract.examples)) {
      expect(Buffer.byteLength(JSON.stringify(body, null, 4))).toBe(contentLength);
    }
  });

  test('every documented operation is served, and 200 is its only success', () => {
    const paths = apiDocument().paths as Record<string, Record<string, { responses: Json }>>;
    for (const { method, path, statuses } of contract.operations) {
      const served = paths[path.replaceAll(/@(\w+)/g, '{$1}')]?.[method.toLowerCase()];
      const successes = Object.keys(served?.responses ?? {}).filter((status) => Number(status) < 400);
      expect(successes.map(Number), `${method} ${path}`).toEqual(statuses);
    }
  });
});

describe('the example of the document', () => {
  test('is answered with the whole entry, and kept', async () => {
    await kit.owner('alter table entry alter column id restart with 17');
    const cirak = await colleague();
    await kit.owner('alter table entry alter column id restart with 2000');
    const { path, headers, body } = contract.examples.updateRequest;
    expect(cirak.path).toBe(path);
    const held = ['newsletters', 'translations', 'email_settings', 'products', 'checkout_settings', 'time_settings'];

    const reply = await usta('PATCH', path, { body: JSON.stringify(body, null, 4), headers });
    expectText(reply, entryText(cirak, [11, 19], held));
    expect(await rowsOf(17)).toEqual([{ shop_ids: [11, 19], permissions: held, version: 2 }]);

    expectText(await usta('GET', path), entryText(cirak, [11, 19], held));
    const list = (await usta('GET', FAMILY)).body as Json[];
    expect(list.find(({ id }) => id === 17)).toEqual(reply.body);
    expectEmpty(await usta('DELETE', path));
    expectMissing(await usta('GET', path));
  });
});

describe('entries', () => {
  test('a list is a bare array of all entries, oldest first, without paging', async () => {
    const yeni = await colleague({ shop_ids: [19, 11] });
    const reply = await usta('GET', FAMILY);
    const list = reply.body as { id: number; shop_ids: number[]; user: { id: number; email: string } }[];
    expect(list.map(({ id }) => id)).toEqual(list.map(({ id }) => id).sort((a, b) => a - b));
    expect(list[0]).toMatchObject({ id: 16, shop_ids: [11, 18, 19], user: { email: 'usta@example.com' } });
    const texts = list.map(({ id, shop_ids, user }) =>
      entryText({ id, account: user.id, email: user.email }, shop_ids, id === 16 ? KEYS : []),
    );
    expectText(reply, `[${texts.join(',')}]`);
    expect(texts.at(-1)).toBe(entryText(yeni, [19, 11], []));
  });

  test('POST gives an entry that holds nothing, and an existing one back unchanged', async () => {
    const { email, id: account } = await kit.signUp();
    const made = await usta('POST', FAMILY, { body: { email } });
    expectText(made, entryText({ id: made.body.id, account, email }, [], []));
    expect(await rowsOf(made.body.id)).toEqual([{ shop_ids: [], permissions: [], version: 1 }]);

    await usta('PATCH', `${FAMILY}/${made.body.id}`, { body: { shop_ids: [18], permissions: { products: true } } });
    for (const sent of [
      { body: { email } },
      { body: { email: ` ${email.toUpperCase()} ` } },
      { form: `email=${email}` },
    ]) {
      expectText(await usta('POST', FAMILY, sent), entryText({ id: made.body.id, account, email }, [18], ['products']));
    }
    expect(await rowsOf(made.body.id)).toEqual([{ shop_ids: [18], permissions: ['products'], version: 2 }]);
  });

  test('POST without an address that can be one, or with more than an address, is refused at what is wrong', async () => {
    const before = await kit.rows('select count(*) from entry');
    for (const [body, code] of [
      [{}, 'required'],
      [{ email: 'usta' }, 'email'],
      [{ email: 7 }, 'type'],
      [{ email: null }, 'type'],
      [{ email: ['usta@example.com'] }, 'type'],
      [{ email: '   ' }, 'blank'],
    ] as const) {
      const reply = await usta('POST', FAMILY, { body });
      expect(reply.status).toBe(422);
      expect(pointers(reply), JSON.stringify(body)).toEqual([['/email', code]]);
    }
    // Rights sent along would be given to nobody.
    const rights = { email: 'yeni@example.com', shop_ids: [18], permissions: { products: true } };
    const reply = await usta('POST', FAMILY, { body: rights });
    expect([reply.status, pointers(reply)]).toEqual([
      422,
      [
        ['/shop_ids', 'unknown'],
        ['/permissions', 'unknown'],
      ],
    ]);
    expect(await kit.rows('select count(*) from entry')).toEqual(before);
  });

  test('DELETE answers 200 without body and without type, once', async () => {
    const gone = await colleague({ shop_ids: [11], permissions: { products: true } });
    expectEmpty(await usta('DELETE', gone.path));
    expect(await rowsOf(gone.id)).toEqual([]);
    expectMissing(await usta('DELETE', gone.path));
    expectMissing(await usta('PATCH', gone.path, { body: { shop_ids: [] } }));
    // Without the entry the company is not there either.
    expectMissing(await gone.send('GET', '/company/companies/15'));
  });
});

describe('PATCH', () => {
  test('keys merge, shops replace, and what is absent stays', async () => {
    const one = await colleague();
    const steps: [Json, number[], string[]][] = [
      [{ permissions: { products: true, holidays: true } }, [], ['holidays', 'products']],
      [{ shop_ids: [19, 11] }, [19, 11], ['holidays', 'products']],
      [{ permissions: { holidays: false, discounts: true } }, [19, 11], ['products', 'discounts']],
      [{ shop_ids: [18] }, [18], ['products', 'discounts']],
      [{ shop_ids: [18], permissions: {} }, [18], ['products', 'discounts']],
      [{}, [18], ['products', 'discounts']],
      [{ shop_ids: [] }, [], ['products', 'discounts']],
    ];
    for (const [body, shops, held] of steps) {
      expectText(await usta('PATCH', one.path, { body }), entryText(one, shops, held));
    }
    // Two of the seven changed nothing, and count as nothing.
    expect(await rowsOf(one.id)).toEqual([{ shop_ids: [], permissions: ['products', 'discounts'], version: 6 }]);
  });

  test('a request without a body changes nothing', async () => {
    const one = await colleague({ shop_ids: [11] });
    expectText(await usta('PATCH', one.path), entryText(one, [11], []));
    expectText(await usta('PATCH', one.path, { form: '' }), entryText(one, [11], []));
  });

  test('a shop that is named twice counts once, where it was named first', async () => {
    const one = await colleague();
    const reply = await usta('PATCH', one.path, { body: { shop_ids: [19, 11, 19, 18, 11] } });
    expectText(reply, entryText(one, [19, 11, 18], []));
  });

  test('a form says the same with brackets, and booleans as true, false, 1 and 0', async () => {
    const one = await colleague({ permissions: { holidays: true, newsletters: true } });
    const forms: [string, number[], string[]][] = [
      ['shop_ids[]=11&permissions[products]=1', [11], ['holidays', 'newsletters', 'products']],
      ['permissions[holidays]=0&permissions[newsletters]=false', [11], ['products']],
      [
        'permissions%5Bdiscounts%5D=true&shop_ids%5B%5D=19&shop_ids%5B%5D=18&shop_ids%5B%5D=19',
        [19, 18],
        ['products', 'discounts'],
      ],
      ['shop_ids[0]=18&shop_ids[1]=11', [18, 11], ['products', 'discounts']],
      ['shop_ids=19&shop_ids=18', [19, 18], ['products', 'discounts']],
      ['shop_ids[]=', [], ['products', 'discounts']],
    ];
    for (const [form, shops, held] of forms) {
      expectText(await usta('PATCH', one.path, { form }), entryText(one, shops, held));
    }
  });

  test('every wrong place is named at once, and nothing is saved', async () => {
    const one = await colleague({ shop_ids: [11], permissions: { products: true } });
    const before = await rowsOf(one.id);
    const reply = await usta('PATCH', one.path, {
      body: `{"shop_ids":[19,21,"18",1.5,null,true,99999999999999999999,-3,[11]],"colour":"red","a/b~c":1,"permissions":
        {"discounts":true,"bakery":true,"products":1,"holidays":"true","newsletters":null,"translations":[],"Products":true}}`,
    });
    expect(reply.status).toBe(422);
    expect(reply.headers['content-type']).toBe('application/problem+json');
    expect(Object.keys(reply.body)).toEqual(['type', 'title', 'status', 'detail', 'code', 'request_id', 'errors']);
    expect(reply.body).toMatchObject({ code: 'unprocessable', title: 'Cannot be processed', status: 422 });
    expect(reply.body.detail).toBe('16 places in the request must be put right: see `errors`.');
    expect(new Map(pointers(reply) as [string, string][])).toEqual(
      new Map([
        ['/colour', 'unknown'],
        ['/a~1b~0c', 'unknown'],
        ['/shop_ids/1', 'foreign_shop'],
        ['/shop_ids/2', 'integer'],
        ['/shop_ids/3', 'integer'],
        ['/shop_ids/4', 'integer'],
        ['/shop_ids/5', 'integer'],
        ['/shop_ids/6', 'integer'],
        ['/shop_ids/7', 'foreign_shop'],
        ['/shop_ids/8', 'integer'],
        ['/permissions/bakery', 'unknown_permission'],
        ['/permissions/products', 'boolean'],
        ['/permissions/holidays', 'boolean'],
        ['/permissions/newsletters', 'boolean'],
        ['/permissions/translations', 'boolean'],
        ['/permissions/Products', 'unknown_permission'],
      ]),
    );
    expect(reply.body.errors[2]).toEqual({
      pointer: '/shop_ids/1',
      code: 'foreign_shop',
      detail: 'Shop 21 is none of this company.',
    });
    expect(await rowsOf(one.id)).toEqual(before);
  });

  test('more wrong places than fit a screen are named all the same', async () => {
    const one = await colleague();
    const permissions = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`key${index}`, true]));
    const reply = await usta('PATCH', one.path, { body: { shop_ids: Array(200).fill(0), permissions } });
    expect(reply.status).toBe(422);
    expect(reply.body.errors).toHaveLength(500);
  });

  test('a form with wrong places is refused the same way', async () => {
    const one = await colleague();
    const form =
      'colour=red&shop_ids[]=21&shop_ids[]=x&shop_ids[]=-11&shop_ids[]=11&permissions[products]=yes&permissions[bakery]=1' +
      '&permissions[holidays][]=1&permissions[discounts]=1&permissions[discounts]=0&permissions[newsletters]=&permissions[shop_info]=True';
    const reply = await usta('PATCH', one.path, { form });
    expect(reply.status).toBe(422);
    expect(pointers(reply)).toEqual([
      ['/colour', 'unknown'],
      ['/shop_ids/0', 'foreign_shop'],
      ['/shop_ids/1', 'integer'],
      ['/shop_ids/2', 'integer'],
      ['/permissions/products', 'boolean'],
      ['/permissions/bakery', 'unknown_permission'],
      ['/permissions/holidays', 'boolean'],
      ['/permissions/discounts', 'boolean'],
      ['/permissions/newsletters', 'boolean'],
      ['/permissions/shop_info', 'boolean'],
    ]);
    expect(await rowsOf(one.id)).toEqual([{ shop_ids: [], permissions: [], version: 1 }]);
  });

  test('a body or a part of it that has another shape is named where it stands', async () => {
    const one = await colleague();
    for (const [body, expected] of [
      ['[]', [['', 'type']]],
      ['null', [['', 'type']]],
      ['"x"', [['', 'type']]],
      [
        '{"shop_ids":11,"permissions":["products"]}',
        [
          ['/shop_ids', 'type'],
          ['/permissions', 'type'],
        ],
      ],
      [
        '{"shop_ids":null,"permissions":null}',
        [
          ['/shop_ids', 'type'],
          ['/permissions', 'type'],
        ],
      ],
      [
        '{"shop_ids":{"0":11},"permissions":"products"}',
        [
          ['/shop_ids', 'type'],
          ['/permissions', 'type'],
        ],
      ],
      [
        '{"__proto__":{"shop_ids":[11]},"permissions":{"__proto__":true}}',
        [
          ['/__proto__', 'unknown'],
          ['/permissions/__proto__', 'unknown_permission'],
        ],
      ],
    ] as const) {
      const reply = await usta('PATCH', one.path, { body });
      expect(reply.status, body).toBe(422);
      expect(pointers(reply), body).toEqual(expected);
    }
    for (const [form, expected] of [
      ['shop_ids=11', [['/shop_ids', 'type']]],
      ['shop_ids[first]=11', [['/shop_ids', 'type']]],
      ['permissions[]=products', [['/permissions', 'type']]],
      ['permissions=products', [['/permissions', 'type']]],
    ] as const) {
      const reply = await usta('PATCH', one.path, { form });
      expect(reply.status, form).toBe(422);
      expect(pointers(reply), form).toEqual(expected);
    }
    expect(await rowsOf(one.id)).toEqual([{ shop_ids: [], permissions: [], version: 1 }]);
  });

  test('JSON, forms and texts that cannot be read at all are 400', async () => {
    const one = await colleague();
    for (const sent of [
      { body: '{"shop_ids":[11}' },
      { body: '{"shop_ids":NaN}' },
      { body: `${'['.repeat(30)}${']'.repeat(30)}` },
      { body: '{"permissions":{"\\u0000":true}}' },
      { body: '{"permissions":{"\\ud800":true}}' },
      { form: 'shop_ids[]=%zz' },
    ]) {
      const reply = await usta('PATCH', one.path, sent);
      expect(reply.status, reply.text).toBe(400);
      expect(reply.headers['content-type']).toBe('application/problem+json');
    }
    expect(await rowsOf(one.id)).toEqual([{ shop_ids: [], permissions: [], version: 1 }]);
  });
});

describe('versions', () => {
  test('1.8.0, 1.9.0 and 1.10.0 are served, 1.9.0 when none is asked for, and the answer says which', async () => {
    for (const version of contract.versions.served) {
      const reply = await usta('GET', `${FAMILY}/16`, { headers: { 'x-version': version } });
      expect([reply.status, reply.headers['x-version']]).toEqual([200, version]);
    }
    expect((await usta('GET', `${FAMILY}/16`)).headers['x-version']).toBe(contract.versions.stable);
  });

  test('an entry has the keys its version documents', async () => {
    for (const version of ['1.9.0', '1.10.0'] as const) {
      const { body } = await usta('GET', `${FAMILY}/16`, { headers: { 'x-version': version } });
      expect(Object.keys(body)).toEqual(contract.structs.UserPermission[version]);
      expect(Object.keys(body.permissions)).toEqual(contract.structs['UserPermission.permissions'][version]);
      expect(Object.keys(body.user)).toEqual(contract.structs['UserPermission.user'][version]);
    }
  });

  test('any other version is refused by naming those there are, before anything else is looked at', async () => {
    for (const version of ['1.7.0', '1.9', '2.0.0', '1.9.0-beta', 'latest', '']) {
      const reply = await kit.send('PATCH', `${FAMILY}/16`, { headers: { 'x-version': version } });
      expectProblem(
        reply,
        400,
        'unknown_version',
        'Bad request',
        `X-VERSION ${version} is not known. Known versions: 1.8.0, 1.9.0, 1.10.0.`,
      );
      expect(reply.headers['x-version']).toBe('1.9.0');
    }
  });

  test('a version that is given twice is no version', async () => {
    await kit.http.listen({ port: 0, host: '127.0.0.1' });
    const { port } = kit.http.server.address() as AddressInfo;
    const ask = (versions: string[]): Promise<[number | undefined, string]> =>
      new Promise((resolve, reject) => {
        const asked = httpRequest({
          port,
          host: '127.0.0.1',
          path: '/user',
          headers: { 'X-VERSION': versions, connection: 'close' },
        });
        asked.on('error', reject);
        asked.on('response', (response) => {
          let body = '';
          response.on('data', (chunk) => {
            body += chunk;
          });
          response.on('end', () => resolve([response.statusCode, JSON.parse(body).code]));
        });
        asked.end();
      });
    expect(await ask(['1.9.0'])).toEqual([401, 'not_authenticated']);
    expect(await ask(['1.9.0', '1.10.0'])).toEqual([400, 'unknown_version']);
    expect(await ask(['1.9.0', '1.9.0'])).toEqual([400, 'unknown_version']);
  });
});

describe('languages', () => {
  test('a problem is told in English, Dutch or French', async () => {
    for (const [accepts, language, title, detail] of [
      ['en-US,en;q=0.5', 'en', 'Not found', 'Not found.'],
      ['nl-BE,nl;q=0.9,en;q=0.5', 'nl', 'Niet gevonden', 'Niet gevonden.'],
      ['fr', 'fr', 'Introuvable', 'Introuvable.'],
      ['de,fr;q=0.3,nl;q=0.7', 'nl', 'Niet gevonden', 'Niet gevonden.'],
      ['de', 'en', 'Not found', 'Not found.'],
      ['undefined', 'en', 'Not found', 'Not found.'],
    ] as const) {
      const reply = await usta('GET', `${FAMILY}/999999`, { headers: { 'accept-language': accepts } });
      expectProblem(reply, 404, 'not_found', title, detail);
      expect(reply.headers['content-language']).toBe(language);
    }
  });

  test('so is each place of a refused body', async () => {
    const told = async (language: string): Promise<unknown> => {
      const reply = await usta('PATCH', `${FAMILY}/16`, {
        body: { shop_ids: [21], permissions: { bakery: true } },
        headers: { 'accept-language': language },
      });
      return [reply.body.detail, ...reply.body.errors.map(({ detail }: Json) => detail)];
    };
    expect(await told('en')).toEqual([
      '2 places in the request must be put right: see `errors`.',
      'Shop 21 is none of this company.',
      'There is no permission of this name.',
    ]);
    expect(await told('nl')).toEqual([
      '2 plaatsen in het verzoek moeten worden verbeterd: zie `errors`.',
      'Winkel 21 hoort niet bij dit bedrijf.',
      'Er is geen bevoegdheid met deze naam.',
    ]);
    expect(await told('fr')).toEqual([
      '2 points de la requête doivent être corrigés\u00a0: voir `errors`.',
      'La boutique 21 n’appartient pas à cette entreprise.',
      'Aucune permission ne porte ce nom.',
    ]);
  });
});

describe('who is asking', () => {
  test('without a token it is 401 with a bare challenge, on every call of the dialect that takes one', async () => {
    for (const [method, path] of [
      ['GET', FAMILY],
      ['POST', FAMILY],
      ['GET', `${FAMILY}/16`],
      ['PATCH', `${FAMILY}/16`],
      ['DELETE', `${FAMILY}/16`],
      ['GET', '/company/companies'],
      ['GET', '/company/companies/15'],
      ['GET', '/company/companies/15/shops'],
      ['GET', '/user'],
    ] as const) {
      const reply = await kit.send(method, path);
      expectProblem(reply, 401, 'not_authenticated', 'Not signed in', 'Authentication credentials were not provided.');
      expect(reply.headers['www-authenticate']).toBe('Bearer');
    }
  });

  test('a token that is none is 401 with error="invalid_token"', async () => {
    const refresh = (await tokens({ username: ustasBakery.owner })).body.refresh_token;
    const { key } = await kit.signIn(ustasBakery.owner);
    for (const token of ['x'.repeat(40), '', 'two words', 'é'.repeat(20), 'a'.repeat(400), refresh, key]) {
      const reply = await kit.send('GET', FAMILY, { headers: { authorization: `Bearer ${token}` } });
      expectProblem(reply, 401, 'invalid_token', 'Not signed in', 'Invalid token.');
      expect(reply.headers['www-authenticate']).toBe('Bearer error="invalid_token"');
    }
  });

  test('a cookie, a Token and another scheme are no token here; the scheme may be written in any case', async () => {
    const browser = await kit.signIn(ustasBakery.owner);
    expect((await browser.send('GET', FAMILY)).body.code).toBe('not_authenticated');
    for (const authorization of [`Token ${browser.key}`, 'Basic dXN0YTp1c3Rh']) {
      expect((await kit.send('GET', FAMILY, { headers: { authorization } })).body.code).toBe('not_authenticated');
    }
    const { access_token } = (await tokens({ username: ustasBakery.owner })).body;
    expect((await kit.send('GET', FAMILY, { headers: { authorization: `bearer ${access_token}` } })).status).toBe(200);
  });

  test('a company without an entry is 404, exactly as one that does not exist', async () => {
    const stranger = await kit.bearer((await kit.signUp()).email);
    for (const send of [stranger, rakip]) {
      for (const path of [
        '/company/companies/15',
        '/company/companies/15/shops',
        FAMILY,
        `${FAMILY}/16`,
        `${FAMILY}/999999`,
      ]) {
        const there = await send('GET', path);
        expectMissing(there);
        const nowhere = await send('GET', path.replace('/15', '/4711'));
        expect({ ...there.body, request_id: 0 }).toEqual({ ...nowhere.body, request_id: 0 });
      }
      expectMissing(await send('POST', FAMILY, { body: { email: 'rakip@example.com' } }));
      expectMissing(await send('PATCH', `${FAMILY}/16`, { body: { shop_ids: [], permissions: { bakery: 1 } } }));
      expectMissing(await send('DELETE', `${FAMILY}/16`));
    }
  });

  test('an entry of another company is 404 under one’s own', async () => {
    for (const [method, path] of [
      ['GET', `${FAMILY}/27`],
      ['PATCH', `${FAMILY}/27`],
      ['DELETE', `${FAMILY}/27`],
      ['GET', `${THEIRS}/27`],
      ['PATCH', `${THEIRS}/16`],
    ] as const) {
      expectMissing(await usta(method, path, method === 'PATCH' ? { body: { permissions: { products: false } } } : {}));
    }
    expect(await rowsOf(27)).toEqual([{ shop_ids: [21, 22], permissions: KEYS, version: 1 }]);
  });

  test('guessed ids are 404, whatever they are', async () => {
    for (const id of [
      '0',
      '-1',
      '-16',
      '016',
      '16.0',
      '1e3',
      '0x10',
      'abc',
      '%20',
      '%00',
      '16%00',
      '9007199254740993',
      '9'.repeat(40),
      '9'.repeat(400),
      '%zz',
      '１６',
    ]) {
      const encoded = encodeURI(id).replaceAll('%25', '%');
      expectMissing(await usta('GET', `${FAMILY}/${encoded}`));
      expectMissing(await usta('PATCH', `${FAMILY}/${encoded}`, { body: { shop_ids: [] } }));
      expectMissing(await usta('DELETE', `${FAMILY}/${encoded}`));
      expectMissing(await usta('GET', `/company/companies/${encoded}`));
      expectMissing(await usta('GET', `/company/companies/${encoded}/permissions/users`));
    }
  });

  test('a colleague without the managing permission learns which one it takes, and nothing of the entries', async () => {
    const one = await colleague({ shop_ids: [11], permissions: { products: true } });
    for (const [method, path] of [
      ['GET', FAMILY],
      ['POST', FAMILY],
      ['GET', one.path],
      ['PATCH', one.path],
      ['DELETE', one.path],
      ['GET', `${FAMILY}/999999`],
      ['PATCH', `${FAMILY}/999999`],
    ] as const) {
      const reply = await one.send(method, path, {
        ...(method === 'POST'
          ? { body: { email: 'somebody@example.com' } }
          : method === 'PATCH'
            ? { body: { shop_ids: [99] } }
            : {}),
      });
      expectProblem(reply, 403, 'missing_permission', 'Not allowed', 'This needs the permission permissions.');
    }
    expect(await kit.rows('select id from account where email = $1', 'somebody@example.com')).toEqual([]);
  });

  test('a manager is told which permission in which shop is missing', async () => {
    const manager = await colleague({ shop_ids: [11, 18], permissions: { permissions: true, products: true } });
    const one = await colleague({ shop_ids: [11, 19], permissions: { products: true } });
    for (const [body, detail] of [
      [
        { permissions: { discounts: true } },
        'This needs the permission discounts in shop 11, which you do not hold there.',
      ],
      [
        { permissions: { products: false } },
        'This needs the permission products in shop 19, which you do not hold there.',
      ],
      [{ shop_ids: [11] }, 'This needs the permission products in shop 19, which you do not hold there.'],
    ] as const) {
      const reply = await manager.send('PATCH', one.path, { body });
      expectProblem(reply, 403, 'missing_permission_in_shop', 'Not allowed', detail);
    }
    const deleted = await manager.send('DELETE', one.path);
    expect([deleted.status, deleted.body.code]).toEqual([403, 'missing_permission_in_shop']);
    expectText(
      await manager.send('PATCH', one.path, { body: { shop_ids: [18, 19] } }),
      entryText(one, [18, 19], ['products']),
    );
  });

  test('a manager without every shop may send a form back as it was read', async () => {
    const manager = await colleague({ shop_ids: [11], permissions: { permissions: true } });
    const one = await colleague({ shop_ids: [19, 11], permissions: { discounts: true, products: true } });
    const { shop_ids, permissions } = (await manager.send('GET', one.path)).body;
    const reply = await manager.send('PATCH', one.path, { body: { shop_ids, permissions } });
    expectText(reply, entryText(one, [19, 11], ['products', 'discounts']));
    const owners = (await manager.send('GET', `${FAMILY}/16`)).body;
    expect((await manager.send('PATCH', `${FAMILY}/16`, { body: { permissions: owners.permissions } })).status).toBe(
      200,
    );
    expect(await rowsOf(one.id)).toEqual([{ shop_ids: [19, 11], permissions: ['products', 'discounts'], version: 2 }]);
  });

  test('nobody raises themselves, and the owner’s entry is not reduced', async () => {
    const manager = await colleague({ shop_ids: [11], permissions: { permissions: true } });
    for (const body of [{ shop_ids: [11, 18] }, { permissions: { products: true } }]) {
      const reply = await manager.send('PATCH', manager.path, { body });
      expectProblem(reply, 403, 'own_entry', 'Not allowed', 'Nobody can add to their own rights. Ask a colleague.');
    }
    for (const send of [manager.send, usta]) {
      for (const [method, body] of [
        ['PATCH', { shop_ids: [11, 18] }],
        ['PATCH', { permissions: { permissions: false } }],
        ['DELETE', undefined],
      ] as const) {
        const reply = await send(method, `${FAMILY}/16`, { body });
        expectProblem(reply, 403, 'owner_entry', 'Not allowed', 'The owner’s entry cannot be reduced or removed.');
      }
    }
    expect((await usta('PATCH', `${FAMILY}/16`, { body: { shop_ids: [19, 18, 11] } })).body.shop_ids).toEqual([
      19, 18, 11,
    ]);
    expect((await usta('PATCH', `${FAMILY}/16`, { body: { shop_ids: [11, 18, 19] } })).body.shop_ids).toEqual([
      11, 18, 19,
    ]);
  });
});

describe('how a request must look', () => {
  test('a method the path does not know is 405 and names those it knows', async () => {
    for (const [method, path, allow] of [
      ['PUT', FAMILY, 'GET, POST, HEAD, OPTIONS'],
      ['DELETE', FAMILY, 'GET, POST, HEAD, OPTIONS'],
      ['POST', `${FAMILY}/16`, 'GET, PATCH, DELETE, HEAD, OPTIONS'],
      ['PUT', `${FAMILY}/16`, 'GET, PATCH, DELETE, HEAD, OPTIONS'],
      ['PATCH', '/company/companies/15', 'GET, HEAD, OPTIONS'],
      ['DELETE', '/user', 'GET, HEAD, OPTIONS'],
      ['GET', '/api/token', 'POST, OPTIONS'],
    ] as const) {
      const reply = await usta(method, path);
      // Where tokens are given, every error says it in OAuth's words too.
      const oauth = { error: 'invalid_request', error_description: `Method '${method}' not allowed.` };
      const more = path === '/api/token' ? oauth : {};
      expectProblem(reply, 405, 'method_not_allowed', 'Method not allowed', `Method "${method}" not allowed.`, more);
      expect(reply.headers.allow).toBe(allow);
    }
  });

  test('an unknown path is 404 in the same shape', async () => {
    for (const path of [
      '/company',
      '/company/companies/15/permissions',
      `${FAMILY}/16/shops`,
      '/user/me',
      '/api/tokens',
    ]) {
      expectMissing(await usta('GET', path));
    }
  });

  test('a client that takes no JSON is told 406', async () => {
    const reply = await usta('GET', FAMILY, { headers: { accept: 'text/html' } });
    expectProblem(reply, 406, 'not_acceptable', 'Not acceptable', 'Could not satisfy the request Accept header.');
    for (const accept of ['*/*', 'application/json', 'text/html, application/json;q=0.5']) {
      expect((await usta('GET', `${FAMILY}/16`, { headers: { accept } })).status).toBe(200);
    }
  });

  test('a body of another type is 415, one over 1 MiB 413', async () => {
    for (const type of ['text/plain', 'application/xml', 'multipart/form-data; boundary=x', 'application/jsonx']) {
      const reply = await usta('PATCH', `${FAMILY}/16`, { body: '{}', headers: { 'content-type': type } });
      expectProblem(
        reply,
        415,
        'unsupported_media_type',
        'Unsupported media type',
        `Unsupported media type "${type}" in request.`,
      );
    }
    for (const sent of [
      { body: `{"shop_ids":[${'11,'.repeat(400_000)}11]}` },
      { form: `email=${'a'.repeat(1_100_000)}` },
    ]) {
      const reply = await usta('PATCH', `${FAMILY}/16`, sent);
      expectProblem(reply, 413, 'too_large', 'Too large', 'The body is larger than 1 MiB.');
    }
    const fits = await usta('PATCH', `${FAMILY}/16`, { body: `{"shop_ids":[${'11,18,'.repeat(150_000)}19]}` });
    expect(fits.status).toBe(200);
    expect(fits.body.shop_ids).toEqual([11, 18, 19]);
  });
});

describe('own rights', () => {
  test('GET /user lists own entries when asked for, ten keys each and without the managing one', async () => {
    const one = await colleague({ shop_ids: [19, 11], permissions: { permissions: true, discounts: true } });
    const { body: second } = await rakip('POST', THEIRS, { body: { email: one.email } });
    for (const version of contract.versions.served as (keyof typeof contract.structs.UserCompanyPermission)[]) {
      const keys = contract.structs.UserCompanyPermission[version];
      const permissions = contract.structs['UserCompanyPermission.permissions'][version];
      const reply = await one.send('GET', '/user?include=company_permissions', { headers: { 'x-version': version } });
      const entries = [
        text(keys, {
          shop_ids: [19, 11],
          permissions: booleans(permissions, ['discounts']),
          id: one.id,
          company_id: 15,
        }),
        text(keys, { shop_ids: [], permissions: booleans(permissions, []), id: second.id, company_id: 16 }),
      ];
      expectText(
        reply,
        `{"firstname":"Ada","lastname":"Yılmaz","email":"${one.email}","telephone":null,"id":${one.account},"company_permissions":[${entries.join(',')}]}`,
      );
    }
    expect(OWN_KEYS).toEqual(KEYS.filter((key) => key !== 'permissions'));
  });

  test('they are left out unless asked for, and empty for somebody without entries', async () => {
    const { email, id } = await kit.signUp({ phone: '05321234567' });
    const send = await kit.bearer(email);
    const bare = { firstname: 'Ada', lastname: 'Yılmaz', email, telephone: '05321234567', id };
    expect((await send('GET', '/user')).body).toEqual(bare);
    expect((await send('GET', '/user?include=addresses')).body).toEqual(bare);
    expect((await send('GET', '/user?include=addresses,company_permissions')).body).toEqual({
      ...bare,
      company_permissions: [],
    });
  });
});

describe('companies and shops', () => {
  const company = '{"id":15,"name":{"en":"Usta Bakery","nl":"Bakkerij Usta"},"active":true}';
  const shops: Record<number, string> = {
    11: '{"id":11,"name":{"nl":"Moda"},"active":true}',
    18: '{"id":18,"name":{"nl":"Kadıköy"},"active":true}',
    19: '{"id":19,"name":{"nl":"Beşiktaş"},"active":true}',
  };

  test('the owner sees the company with all its shops', async () => {
    expectText(await usta('GET', '/company/companies'), `[${company}]`);
    expectText(await usta('GET', '/company/companies/15'), company);
    expectText(await usta('GET', '/company/companies/15/shops'), `[${shops[11]},${shops[18]},${shops[19]}]`);
  });

  test('a colleague sees the company with the shops of the entry', async () => {
    const one = await colleague({ shop_ids: [19, 11] });
    expectText(await one.send('GET', '/company/companies'), `[${company}]`);
    expectText(await one.send('GET', '/company/companies/15'), company);
    expectText(await one.send('GET', '/company/companies/15/shops'), `[${shops[11]},${shops[19]}]`);
    await usta('PATCH', one.path, { body: { shop_ids: [] } });
    expectText(await one.send('GET', '/company/companies/15/shops'), '[]');
  });

  test('a stranger sees neither', async () => {
    const send = await kit.bearer((await kit.signUp()).email);
    expectText(await send('GET', '/company/companies'), '[]');
    expectMissing(await send('GET', '/company/companies/15'));
    expectMissing(await send('GET', '/company/companies/15/shops'));
    expectText(await rakip('GET', '/company/companies'), '[{"id":16,"name":{"nl":"Bakkerij Rakip"},"active":true}]');
  });
});

describe('an address that nobody has yet', () => {
  test('becomes an invited account, whose mailed link takes a password once', async () => {
    const email = 'yeni.cirak@example.com';
    const made = await usta('POST', FAMILY, { body: { email }, headers: { 'accept-language': 'nl' } });
    const [account] = await kit.rows<{ id: number; password: null; language_code: string }>(
      'select id, password, language_code, email_verified_at from account where email = $1',
      email,
    );
    expect(account).toMatchObject({ password: null, language_code: 'nl', email_verified_at: null });
    expectText(made, entryText({ id: made.body.id, account: account!.id, email }, [], []));
    expect((await tokens({ username: email })).body.code).toBe('invalid_grant');

    // Asked again, nothing happens again.
    expectText(await usta('POST', FAMILY, { body: { email } }), made.text);
    await kit.jobs();
    const mails = (await kit.outbox('mail')).filter(({ recipient }) => recipient === email);
    expect(mails).toHaveLength(1);
    expect(mails[0]!.subject).toBe('U bent uitgenodigd');
    const [, token] = /https:\/\/assent\.example\/links\/(\w+)/.exec(mails[0]!.body)!;

    const form = 'new_password1=kruimel-en-korst&new_password2=kruimel-en-korst';
    expect((await kit.send('GET', `/links/${token}`)).status).toBe(200);
    expect((await kit.send('POST', `/links/${token}`, { form: form.replace('korst', 'korsten') })).status).toBe(400);
    expect((await kit.send('POST', `/links/${token}`, { form })).status).toBe(200);
    expect((await kit.send('POST', `/links/${token}`, { form })).status).toBe(410);

    const send = await kit.bearer(email, 'kruimel-en-korst');
    expect((await send('GET', '/user?include=company_permissions')).body).toMatchObject({
      email,
      company_permissions: [{ id: made.body.id, company_id: 15, shop_ids: [] }],
    });
  });

  test('is invited once when two companies give it an entry at the same moment', async () => {
    const theirs = async (path: string, owner: string): Promise<Send> => {
      const { access_token } = (await tokens({ username: owner })).body;
      return (method, _path, sent) =>
        twin.send(method, path, { ...sent, headers: { authorization: `Bearer ${access_token}` } });
    };
    const second = await theirs(THEIRS, rakipsBakery.owner);
    for (let round = 1; round <= 10; round += 1) {
      const email = `both${round}@example.com`;
      const replies = await Promise.all([
        usta('POST', FAMILY, { body: { email } }),
        second('POST', THEIRS, { body: { email } }),
      ]);
      expect(
        replies.map(({ status }) => status),
        replies.map(({ text: t }) => t).join(),
      ).toEqual([200, 200]);
      expect(replies[0]!.body.user).toEqual(replies[1]!.body.user);
      expect(
        await kit.rows(
          'select 1 from mail_link l join account a on a.id = l.account where a.email = $1 and l.used_at is null',
          email,
        ),
      ).toHaveLength(1);
    }
  });
});

/** Asks for tokens by the password grant, as the kit's own client. */
function tokens(more: Json): Promise<Reply> {
  return kit.send('POST', '/api/token', {
    body: { grant_type: 'password', client_id: 'kit', password: PASSWORD, ...more },
  });
}
const refresh = (refresh_token: string, by: Kit = kit): Promise<Reply> =>
  by.send('POST', '/api/token', { body: { grant_type: 'refresh_token', refresh_token } });
const statusWith = async (access_token: string, by: Kit = kit): Promise<number> =>
  (await by.send('GET', '/user', { headers: { authorization: `Bearer ${access_token}` } })).status;
const liveTokens = (account: number): Promise<Json[]> =>
  kit.rows(
    `select kind from session where account = $1 and kind in ('access', 'refresh') and used_at is null order by kind`,
    account,
  );

/** A refusal where tokens are given: a problem with the members that any OAuth client reads (RFC 6749, 5.2). */
const expectRefused = (reply: Reply, status: number, code: string, title: string, detail: string): void =>
  expectProblem(reply, status, code, title, detail, { error: code, error_description: detail });

describe('tokens', () => {
  const { token: documented } = contract;

  test('the password grant answers the documented keys, to JSON and to a form', async () => {
    const { email } = await kit.signUp();
    const asked: Record<string, string> = {
      grant_type: 'password',
      client_id: 'kit',
      device_name: 'Till 1',
      device_id: 'till-1',
      username: email,
      password: PASSWORD,
    };
    expect(Object.keys(asked)).toEqual(documented.passwordGrant);
    for (const sent of [{ body: asked }, { form: new URLSearchParams(asked).toString() }]) {
      const reply = await kit.send('POST', '/api/token', sent);
      const { access_token, refresh_token } = reply.body;
      for (const token of [access_token, refresh_token]) {
        expect(token).toMatch(/^\w{40,}$/);
        expect(token.length).toBeLessThanOrEqual(documented.maxLength);
      }
      expectText(
        reply,
        text(contract.structs.Token['1.9.0'], {
          access_token: JSON.stringify(access_token),
          token_type: JSON.stringify(documented.type),
          expires_in: documented.seconds,
          refresh_token: JSON.stringify(refresh_token),
        }),
      );
      expect(reply.headers['cache-control']).toContain('no-store');
      expect(await statusWith(access_token)).toBe(200);
      // Only hashes are kept.
      expect(await kit.rows(`select 1 from session where session::text like '%' || $1 || '%'`, access_token)).toEqual(
        [],
      );
    }
  });

  test('the password grant is off for a client unless it was allowed it', async () => {
    await createClient(kit.ctx, { id: 'web', name: 'A third party' }, atTheMachine);
    const reply = await tokens({ username: ustasBakery.owner, client_id: 'web' });
    expectRefused(
      reply,
      400,
      'unsupported_grant_type',
      'Bad request',
      'The grant type password is not available to this client.',
    );
    const nobody = await tokens({ username: ustasBakery.owner, client_id: 'nobody' });
    expectRefused(nobody, 401, 'invalid_client', 'Not signed in', 'There is no client of this id.');
  });

  test('a wrong password, an unknown address and one that was never proven answer alike', async () => {
    await usta('POST', FAMILY, { body: { email: 'invited@example.com' } });
    for (const more of [
      { username: ustasBakery.owner, password: 'wrong-horse-battery' },
      { username: 'nobody@example.com' },
      { username: 'invited@example.com' },
    ]) {
      const reply = await tokens(more);
      expectRefused(
        reply,
        400,
        'invalid_grant',
        'Bad request',
        'The credentials or the token are not right, or no longer valid.',
      );
    }
  });

  test('what is missing in a request for tokens is named, and other grants are refused', async () => {
    for (const [body, expected] of [
      [{}, [['/grant_type', 'required']]],
      [
        { grant_type: 'password' },
        [
          ['/client_id', 'required'],
          ['/username', 'required'],
          ['/password', 'required'],
        ],
      ],
      [
        { grant_type: 'password', client_id: 'kit', username: 7, password: ['x'] },
        [
          ['/username', 'type'],
          ['/password', 'type'],
        ],
      ],
      [{ grant_type: 'refresh_token' }, [['/refresh_token', 'required']]],
    ] as const) {
      const reply = await kit.send('POST', '/api/token', { body });
      expect(reply.status).toBe(422);
      expect(pointers(reply), JSON.stringify(body)).toEqual(expected);
    }
    const other = await kit.send('POST', '/api/token', {
      body: { grant_type: 'client_credentials', client_id: 'kit' },
    });
    expect([other.status, other.body.code]).toEqual([400, 'unsupported_grant_type']);
  });

  test('a refresh token works once: both tokens are new, the old access token ends', async () => {
    const { email, id } = await kit.signUp();
    const first = (await tokens({ username: email })).body;
    const second = (await refresh(first.refresh_token)).body;
    expect(Object.keys(second)).toEqual(contract.structs.Token['1.9.0']);
    expect(new Set([first.access_token, first.refresh_token, second.access_token, second.refresh_token]).size).toBe(4);
    expect([await statusWith(first.access_token), await statusWith(second.access_token)]).toEqual([401, 200]);
    expect(await liveTokens(id)).toEqual([{ kind: 'access' }, { kind: 'refresh' }]);
    // An access token is no refresh token.
    expect((await refresh(second.access_token)).body.code).toBe('invalid_grant');
    expect(await statusWith(second.access_token)).toBe(200);
  });

  test('a refresh token that comes back ends everything that came from it, and nothing else', async () => {
    const { email, id } = await kit.signUp();
    const other = (await tokens({ username: email })).body;
    const first = (await tokens({ username: email })).body;
    const second = (await refresh(first.refresh_token)).body;
    const third = (await refresh(second.refresh_token)).body;
    expectRefused(
      await refresh(first.refresh_token),
      400,
      'invalid_grant',
      'Bad request',
      'The credentials or the token are not right, or no longer valid.',
    );
    expect(await statusWith(third.access_token)).toBe(401);
    expect((await refresh(third.refresh_token)).body.code).toBe('invalid_grant');
    expect(await statusWith(other.access_token)).toBe(200);
    expect(await liveTokens(id)).toEqual([{ kind: 'access' }, { kind: 'refresh' }]);
  });

  test('two refreshes that race are a reuse too: one is answered, and then both are over', async () => {
    const { email, id } = await kit.signUp();
    for (let round = 1; round <= 20; round += 1) {
      const { refresh_token } = (await tokens({ username: email })).body;
      const replies = await Promise.all([refresh(refresh_token), refresh(refresh_token, round % 2 === 0 ? twin : kit)]);
      expect(replies.map(({ status }) => status).sort()).toEqual([200, 400]);
      const won = replies.find(({ status }) => status === 200)!.body;
      expect(await statusWith(won.access_token)).toBe(401);
      expect((await refresh(won.refresh_token)).status).toBe(400);
      expect(await liveTokens(id)).toEqual([]);
    }
  });

  test('a revoked token takes its family with it; an unknown one is no error', async () => {
    const { email, id } = await kit.signUp();
    for (const kind of ['access_token', 'refresh_token'] as const) {
      const first = (await tokens({ username: email })).body;
      const kept = (await tokens({ username: email })).body;
      expectEmpty(await kit.send('POST', '/oauth/revoke', { form: `token=${first[kind]}` }));
      expect(await statusWith(first.access_token)).toBe(401);
      expect((await refresh(first.refresh_token)).body.code).toBe('invalid_grant');
      expect(await statusWith(kept.access_token)).toBe(200);
      expectEmpty(await kit.send('POST', '/oauth/revoke', { body: { token: kept[kind] } }));
    }
    expect(await liveTokens(id)).toEqual([]);
    expectEmpty(await kit.send('POST', '/oauth/revoke', { body: { token: 'nobody-has-this-one' } }));
  });

  test('what ends tokens also ends those that are being given at that moment', async () => {
    const browser = await kit.signUp();
    let password = PASSWORD;
    for (let round = 1; round <= 10; round += 1) {
      const first = (await tokens({ username: browser.email, password })).body;
      const [renewed] = await Promise.all([
        refresh(first.refresh_token),
        twin.send('POST', '/oauth/revoke', { body: { token: first.refresh_token } }),
      ]);
      expect([200, 400]).toContain(renewed.status);
      expect(await liveTokens(browser.id)).toEqual([]);

      const second = (await tokens({ username: browser.email, password })).body;
      const next = `${PASSWORD}-${round}`;
      const body = { old_password: password, new_password1: next, new_password2: next };
      const [changed] = await Promise.all([
        browser.send('POST', '/users/password/change/', { body }),
        refresh(second.refresh_token, twin),
      ]);
      expect(changed.status, changed.text).toBe(200);
      password = next;
      expect(await liveTokens(browser.id)).toEqual([]);
    }
  });

  test('a device has one pair: asking again ends the one before, also when both ask at once', async () => {
    const { email, id } = await kit.signUp();
    const first = (await tokens({ username: email, device_id: 'till-1' })).body;
    const other = (await tokens({ username: email, device_id: 'till-2' })).body;
    const again = (await tokens({ username: email, device_id: 'till-1' })).body;
    expect(await Promise.all([first, other, again].map(({ access_token }) => statusWith(access_token)))).toEqual([
      401, 200, 200,
    ]);
    expect((await refresh(first.refresh_token)).status).toBe(400);

    const renewed = (await refresh(again.refresh_token)).body;
    const last = (await tokens({ username: email, device_id: 'till-1' })).body;
    expect(await Promise.all([renewed, other, last].map(({ access_token }) => statusWith(access_token)))).toEqual([
      401, 200, 200,
    ]);

    await Promise.all(
      [kit, twin, kit, twin, kit, twin].map((by) =>
        by.send('POST', '/api/token', {
          body: { grant_type: 'password', client_id: 'kit', username: email, password: PASSWORD, device_id: 'till-1' },
        }),
      ),
    );
    expect(
      await kit.rows(
        `select device, kind from session where account = $1 and kind in ('access', 'refresh') order by 1, 2`,
        id,
      ),
    ).toEqual(['till-1', 'till-2'].flatMap((device) => ['access', 'refresh'].map((kind) => ({ device, kind }))));
  });

  test('requests for tokens are throttled by address and by who is signing in', async () => {
    await kit.set('THROTTLING_SETTINGS', { token: { count: 2, duration: 60 } });
    try {
      const replies = [await refresh('x'.repeat(40)), await refresh('x'.repeat(40)), await refresh('x'.repeat(40))];
      expect(replies.map(({ status }) => status)).toEqual([400, 400, 429]);
      expect(replies[2]!.headers['retry-after']).toMatch(/^\d+$/);
      expect(replies[2]!.body.code).toBe('throttled');
    } finally {
      await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
    }
  });
});

describe('time', () => {
  let later: Kit;
  beforeAll(async () => {
    later = await createKit();
  });
  afterAll(() => later.close());

  test('an access token is over after an hour, a refresh token after a long time without use', async () => {
    const { email } = await later.signUp();
    const send = await later.bearer(email);
    const ask = (body: Json): Promise<Reply> => later.send('POST', '/api/token', { body });
    const first = await ask({ grant_type: 'password', client_id: 'kit', username: email, password: PASSWORD });
    later.advance(3500_000);
    expect((await send('GET', '/user')).status).toBe(200);
    later.advance(200_000);
    const over = await send('GET', '/user');
    expectProblem(over, 401, 'invalid_token', 'Not signed in', 'Invalid token.');
    expect(over.headers['www-authenticate']).toBe('Bearer error="invalid_token"');

    let { refresh_token } = first.body;
    for (let month = 1; month <= 5; month += 1) {
      later.advance(30 * 86_400_000);
      const renewed = await ask({ grant_type: 'refresh_token', refresh_token });
      expect(renewed.status).toBe(200);
      expect(await statusWith(renewed.body.access_token, later)).toBe(200);
      refresh_token = renewed.body.refresh_token;
    }
    later.advance(91 * 86_400_000);
    expect((await ask({ grant_type: 'refresh_token', refresh_token })).body.code).toBe('invalid_grant');
  });
});
