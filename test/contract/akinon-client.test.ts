/**
 * The known storefront client against a listening server: what it sends, what it reads out of the answers, and that it
 * repeats every failed call. The shop front is a proxy, so the server sees the proxy's headers and the browser's cookies.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createKit, type Kit, PASSWORD } from '../kit.ts';

/** One call failed and was repeated this often. */
const ATTEMPTS = 4;

let kit: Kit;
let commerce: string;

beforeAll(async () => {
  kit = await createKit();
  commerce = await kit.http.listen({ port: 0, host: '127.0.0.1' });
  // The client finds its session by this name and by no other.
  await kit.set('SESSION_COOKIE_NAME', 'osessionid');
});
beforeEach(() => kit.rows('delete from throttle'));
afterAll(() => kit.close());

interface Seen {
  readonly statuses: number[];
  // biome-ignore lint/suspicious/noExplicitAny: as the shop front reads it
  readonly data: any;
  readonly setCookie: string | null;
  readonly retryAfter: string | null;
}

/** A browser and the shop front behind it. */
class Storefront {
  /** What the browser holds; most of it is the shop front's own. */
  readonly cookies = new Map<string, string>([
    ['pz-external-session-id', 'e1'],
    ['next-auth.callback-url', 'https%3A%2F%2Fshop.example'],
    ['next-auth.csrf-token', '0f%7Cab'],
    ['pz-segment', '%7B%22a%22%3A1%7D'],
    ['_ga', 'GA1.1.1-2.3'],
  ]);
  locale: string | undefined;
  currency: string | undefined;

  /** On the first page view: asked without cookies, the cookie of the answer dropped, its body kept. */
  async visit(): Promise<void> {
    const response = await fetch(`${commerce}/csrf_token/`);
    const { csrf_token } = (await response.json()) as { csrf_token: string };
    expect(csrf_token).toMatch(/^\w+$/);
    this.cookies.set('csrftoken', csrf_token);
  }

  private cookieHeader(): string {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  /** `POST` of the sign-in or registration form: no CSRF token, extra keys, the session found by a pattern. */
  async enter(
    path: string,
    fields: Record<string, unknown>,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const response = await fetch(`${commerce}${path}`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        cookie: this.cookieHeader(),
        'Accept-Language': 'en-us',
        'x-currency': '',
      },
      body: JSON.stringify({
        ...fields,
        formType: 'login',
        locale: 'en',
        captchaValidated: 'false',
        csrfToken: 'x',
        json: 'true',
      }),
    });
    const body = (await response.json()) as Record<string, unknown>;
    const key = response.headers
      .get('set-cookie')
      ?.match(/osessionid=\w+/)?.[0]
      .replace('osessionid=', '');
    if (key !== undefined && key !== '') {
      this.cookies.set('osessionid', key);
      this.cookies.set('sessionid', key);
    }
    return { status: response.status, body };
  }

  /** Who the session belongs to, asked by one cookie alone. */
  async currentUser(): Promise<Record<string, unknown>> {
    const response = await fetch(`${commerce}/current_user/`, {
      headers: {
        'Content-Type': 'application/json',
        Cookie: `osessionid=${this.cookies.get('osessionid')}`,
        'x-currency': '',
      },
    });
    return (await response.json()) as Record<string, unknown>;
  }

  /** A call through the proxy, repeated three times when it fails. */
  async call(method: string, path: string, body?: unknown): Promise<Seen> {
    const statuses: number[] = [];
    for (;;) {
      const csrf = this.cookies.get('csrftoken');
      const response = await fetch(`${commerce}${path}`, {
        method,
        headers: {
          'accept-language': `${this.locale}`,
          'x-currency': `${this.currency}`,
          'user-agent': 'Mozilla/5.0',
          cookie: this.cookieHeader(),
          ...(csrf === undefined ? {} : { 'x-csrftoken': csrf }),
          'X-Requested-With': 'XMLHttpRequest',
          Referer: 'https://commerce.example',
          Accept: 'application/json',
          ...(method === 'GET' ? {} : { 'Content-Type': 'application/json' }),
        },
        ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
      });
      statuses.push(response.status);
      const text = await response.text();
      if (response.ok || statuses.length === ATTEMPTS) {
        const setCookie = response.headers.get('set-cookie');
        return {
          statuses,
          data: text === '' ? {} : JSON.parse(text),
          setCookie,
          retryAfter: response.headers.get('retry-after'),
        };
      }
    }
  }
}

/** A visitor with an account, signed in as the client does it. */
async function shopper(more: Record<string, unknown> = {}): Promise<Storefront & { email: string }> {
  const front = new Storefront();
  await front.visit();
  const { email } = await kit.signUp(more);
  const { status, body } = await front.enter('/users/login/', { email, password: PASSWORD });
  expect([status, Object.keys(body), body['redirect_url']]).toEqual([200, ['key', 'redirect_url'], null]);
  return Object.assign(front, { email });
}

describe('the storefront client', () => {
  test('visits, signs in, reads and changes the profile', async () => {
    const front = await shopper();
    expect(await front.currentUser()).toMatchObject({ email: front.email, first_name: 'Ada', sms_allowed: false });
    const options = encodeURIComponent(JSON.stringify({ accept: 'application/json' }));
    const got = await front.call('GET', `/users/profile/?options=${options}`);
    expect([got.statuses, got.data.email, got.setCookie]).toEqual([[200], front.email, null]);
    const form = {
      first_name: 'Deniz',
      last_name: 'Kaya',
      phone: '05351231212',
      date_of_birth: '1990-01-05',
      gender: 'female',
      sms_allowed: true,
      email_allowed: false,
    };
    const saved = await front.call('PATCH', '/users/profile/', form);
    // The one cookie a profile sets: which consents were read. The client hands it on as it does the others.
    expect([saved.statuses, saved.setCookie]).toEqual([
      [200],
      expect.stringMatching(/^consent_version=0\.[0-9a-f]{7}\.0\.0;/),
    ]);
    expect((await front.call('GET', '/users/profile/')).data).toMatchObject(form);
  });

  test('its first calls name no language and no currency, in words', async () => {
    const front = await shopper();
    expect([front.locale, front.currency]).toEqual([undefined, undefined]);
    expect((await front.call('GET', '/users/profile/')).statuses).toEqual([200]);
    const wrong = await front.call('PATCH', '/users/profile/', { gender: 'none' });
    expect(wrong.data).toEqual({ gender: ['"none" is not a valid choice.'] });
    front.locale = 'tr';
    front.currency = 'try';
    const turkish = await front.call('PATCH', '/users/profile/', { gender: 'none' });
    expect(turkish.data).toEqual({ gender: ['"none" geçerli bir seçim değil.'] });
  });

  test('registers, and is signed in by what it reads out of the answer', async () => {
    const front = new Storefront();
    await front.visit();
    const email = `front.${process.pid}@example.com`;
    const fields = {
      email,
      password: PASSWORD,
      first_name: 'Efe',
      last_name: 'Ak',
      email_allowed: true,
      sms_allowed: false,
    };
    const { status, body } = await front.enter('/users/registration/', fields);
    expect([status, typeof body['key'], body['redirect_url']]).toEqual([201, 'string', null]);
    expect(await front.currentUser()).toMatchObject({ email, email_allowed: true });
    expect((await front.call('PATCH', '/users/profile/', { first_name: 'Ege' })).statuses).toEqual([200]);
  });

  test('every error it shows is a list of texts under its field', async () => {
    const front = new Storefront();
    for (const [path, fields, keys] of [
      ['/users/login/', { email: 'nobody@example.com', password: 'wrong' }, ['non_field_errors']],
      ['/users/login/', { email: 'x', password: '' }, ['email', 'password']],
      ['/users/registration/', { email: 'x', password: PASSWORD, phone: true }, ['email', 'phone']],
    ] as const) {
      const { status, body } = await front.enter(path, fields);
      expect([status, Object.keys(body)]).toEqual([400, keys]);
      for (const value of Object.values(body)) expect((value as string[]).join(', ')).toMatch(/\.$/);
    }
    expect(front.cookies.has('osessionid')).toBe(false);
  });

  test('a failed change is repeated three times and changes nothing', async () => {
    const front = await shopper();
    const before = (await front.call('GET', '/users/profile/')).data;
    const wrong = await front.call('PATCH', '/users/profile/', { first_name: '', sms_allowed: true });
    expect([wrong.statuses, wrong.data]).toEqual([
      [400, 400, 400, 400],
      { first_name: ['This field may not be blank.'] },
    ]);
    expect((await front.call('GET', '/users/profile/')).data).toEqual(before);
    expect(await kit.rows('select kind from consent_event where account = $1', before.id)).toEqual([]);
  });

  test('whoever is not signed in is told 401, whoever forgot the token 403: only the first signs the visitor out', async () => {
    const guest = new Storefront();
    const unknown = await guest.call('GET', '/users/profile/');
    expect([unknown.statuses, unknown.data]).toEqual([
      [401, 401, 401, 401],
      { detail: 'Authentication credentials were not provided.' },
    ]);
    const front = await shopper();
    const token = front.cookies.get('csrftoken')!;
    front.cookies.delete('csrftoken');
    expect((await front.call('PATCH', '/users/profile/', {})).statuses).toEqual([403, 403, 403, 403]);
    front.cookies.set('csrftoken', token);
    expect((await front.call('PATCH', '/users/profile/', {})).statuses).toEqual([200]);
    // A token asked for long before, by nobody, still serves; so does a new one.
    await front.visit();
    expect((await front.call('PATCH', '/users/profile/', {})).statuses).toEqual([200]);
  });

  test('one stale session is taken back by one cookie line', async () => {
    const front = new Storefront();
    await front.visit();
    for (const name of ['osessionid', 'sessionid']) front.cookies.set(name, 'a'.repeat(32));
    const { statuses, setCookie } = await front.call('GET', '/users/profile/');
    expect(statuses).toEqual([401, 401, 401, 401]);
    expect(setCookie).toMatch(
      /^o?sessionid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=\/; SameSite=Lax$/,
    );
    const { status } = await front.enter('/users/login/', { email: (await kit.signUp()).email, password: PASSWORD });
    expect(status).toBe(200);
    expect((await front.call('GET', '/users/profile/')).statuses).toEqual([200]);
  });

  test('the default limits leave room for its repetitions', async () => {
    const front = await shopper();
    for (let mistakes = 0; mistakes < 10; mistakes += 1) {
      const { statuses } = await front.call('PATCH', '/users/profile/', { gender: 'none' });
      expect(statuses).toEqual([400, 400, 400, 400]);
    }
    expect((await front.call('PATCH', '/users/profile/', { gender: 'male' })).statuses).toEqual([200]);
    for (let mistakes = 0; mistakes < 10; mistakes += 1) {
      expect((await front.call('POST', '/users/permissions/', {})).statuses).toEqual([400, 400, 400, 400]);
    }
    const stated = await front.call('POST', '/users/permissions/', { uid: 'u', basket: 7, sms_allowed: true });
    expect([stated.statuses, stated.data]).toEqual([[200], {}]);
  });

  test('a full window is told four times, each with when to come back', async () => {
    const front = await shopper();
    await kit.set('THROTTLING_SETTINGS', { 'profile-update': { count: 1, duration: 60 } });
    expect((await front.call('PATCH', '/users/profile/', {})).statuses).toEqual([200]);
    const { statuses, data, retryAfter } = await front.call('PATCH', '/users/profile/', { first_name: 'X' });
    expect(statuses).toEqual([429, 429, 429, 429]);
    expect(data).toEqual({ detail: `Request was throttled. Expected available in ${retryAfter} seconds.` });
    expect((await front.call('GET', '/users/profile/')).data.first_name).toBe('Ada');
    await kit.set('THROTTLING_SETTINGS', {});
  });

  test('a new phone: 202 reads like success, the code makes it so, a mistyped code can be typed again', async () => {
    const front = await shopper({ phone: '05321000001' });
    const path = '/users/profile-with-loyalty/';
    const body = { phone: '05321000002', first_name: 'Ece' };
    const asked = await front.call('PATCH', path, body);
    expect([asked.statuses, asked.data]).toEqual([[202], {}]);
    expect((await front.call('GET', path)).data).toMatchObject({
      phone: '05321000001',
      first_name: 'Ada',
      code: null,
      resend: false,
    });
    await kit.jobs();
    const code = /\d{6}/.exec((await kit.outbox('sms')).at(-1)!.body)![0];
    const mistyped = code === '000000' ? '000001' : '000000';
    const wrong = await front.call('PATCH', path, { ...body, code: mistyped });
    expect([wrong.statuses, Object.keys(wrong.data)]).toEqual([[400, 400, 400, 400], ['code']]);
    const right = await front.call('PATCH', path, { ...body, code });
    expect([right.statuses, right.data.phone, right.data.first_name]).toEqual([[200], '05321000002', 'Ece']);
  });

  test('signs out at the server with the token it has', async () => {
    const front = await shopper();
    expect((await front.call('POST', '/users/logout')).statuses).toEqual([200]);
    expect((await front.call('GET', '/users/profile/')).statuses).toEqual([401, 401, 401, 401]);
    expect((await front.call('POST', '/users/logout')).statuses).toEqual([200]);
  });
});
