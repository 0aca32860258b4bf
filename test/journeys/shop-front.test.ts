/** A customer of a shop front: signing up and in, the profile and its picture, passwords and the e-mail address. */
import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Client, createKit, type Kit, PASSWORD, type Reply } from '../kit.ts';

const PROFILE = '/users/profile/';
const EMAIL_CHANGE = '/users/email-change/';
const RESET = '/users/password/reset/';
const BAD_LINK = 'This link was used already or has expired. Ask for a new one.';

let kit: Kit;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { login: null, register: null, 'profile-update': null });
});
afterAll(() => kit.close());

const who = (client: Client): Promise<Reply> => client.send('GET', '/current_user/');
const byKey = (key: string): Promise<Reply> =>
  kit.send('GET', '/current_user/', { headers: { authorization: `Token ${key}` } });
const login = (email: string, password: string): Promise<Reply> =>
  kit.send('POST', '/users/login/', { body: { email, password } });

interface Mail {
  recipient: string;
  subject: string | null;
  body: string;
}

/** Mails that this work led to, after the jobs that wait. */
async function mailsOf(work: () => Promise<unknown>): Promise<Mail[]> {
  await kit.jobs();
  const before = (await kit.outbox('mail')).length;
  await work();
  await kit.jobs();
  return (await kit.outbox('mail')).slice(before);
}

const tokenOf = (mail: Mail | undefined): string => /\/links\/(\w+)/.exec(mail!.body)![1]!;

async function resetToken(email: string): Promise<string> {
  const mails = await mailsOf(() => kit.send('POST', RESET, { body: { email } }));
  expect(mails.map(({ recipient, subject }) => [recipient, subject])).toEqual([[email, 'Set a new password']]);
  return tokenOf(mails[0]);
}

const confirmReset = (token: string, password: string): Promise<Reply> =>
  kit.send('POST', `${RESET}confirm/`, { body: { token, new_password1: password, new_password2: password } });

test('signing up makes an account, signs it in by cookie and key, and shows what was sent', async () => {
  const reply = await kit.send('POST', '/users/registration/', {
    body: {
      email: 'Deniz@Example.com',
      password1: PASSWORD,
      password2: PASSWORD,
      first_name: 'Deniz',
      last_name: 'Kaya',
      phone: '0532 111 22 33',
      email_allowed: true,
      call_allowed: false,
    },
    headers: { 'accept-language': 'tr' },
  });
  expect([reply.status, reply.body]).toEqual([201, { key: expect.stringMatching(/^\w{40}$/), redirect_url: null }]);
  const cookies = reply.headers['set-cookie'] as string[];
  expect(cookies).toEqual([
    expect.stringMatching(/^sessionid=\w{40}; expires=[^;]+; HttpOnly; Max-Age=1209600; Path=\/; SameSite=Lax$/),
    expect.stringMatching(/^csrftoken=\w{64}; Max-Age=31449600; Path=\/; SameSite=Lax$/),
    expect.stringMatching(/^known_device=[\w-]{72}; HttpOnly; Max-Age=15552000; Path=\/; SameSite=Lax$/),
  ]);
  const profile = await kit.send('GET', PROFILE, { headers: { authorization: `Token ${reply.body.key}` } });
  expect(profile.body).toMatchObject({
    first_name: 'Deniz',
    last_name: 'Kaya',
    email: 'Deniz@Example.com',
    phone: '0532 111 22 33',
    language_code: 'tr',
    email_allowed: true,
    sms_allowed: false,
    call_allowed: false,
  });
  const again = await kit.send('POST', '/users/registration/', {
    body: { email: 'deniz@example.COM', password: PASSWORD },
  });
  expect([again.status, again.body]).toEqual([
    400,
    { email: ['A user is already registered with this e-mail address.'] },
  ]);
});

test('of ten registrations with one address at once, one makes the account', async () => {
  const replies = await Promise.all(
    Array.from({ length: 10 }, () =>
      kit.send('POST', '/users/registration/', { body: { email: 'only@example.com', password: PASSWORD } }),
    ),
  );
  expect(replies.map(({ status }) => status).sort()).toEqual([201, ...Array(9).fill(400)]);
  expect(
    await kit.rows(`select count(*)::int as accounts from account where lower(email) = 'only@example.com'`),
  ).toEqual([{ accounts: 1 }]);
});

test.each([
  [{ password: 'short' }, { password: ['This password is too short. It must contain at least 8 characters.'] }],
  [{ password: '73829104658' }, { password: ['This password is entirely numeric.'] }],
  [{ password: 'iloveyou1' }, { password: ['This password is too common.'] }],
  [{ password1: PASSWORD, password2: `${PASSWORD}!` }, { password2: ["The two password fields didn't match."] }],
  [{}, { password1: ['This field is required.'] }],
  [{ email: 'nobody', password: PASSWORD }, { email: ['Enter a valid email address.'] }],
  [{ password: PASSWORD, phone: '12' }, { phone: ['Enter a valid phone number.'] }],
])('a registration with %j is refused with its reason', async (more, body) => {
  const reply = await kit.send('POST', '/users/registration/', { body: { email: 'refused@example.com', ...more } });
  expect([reply.status, reply.body]).toEqual([400, body]);
  expect(await kit.rows(`select id from account where email = 'refused@example.com'`)).toEqual([]);
});

test('signing in gives the same answer for a wrong password and an unknown address', async () => {
  const ada = await kit.signUp();
  const wrong = await login(ada.email, 'not-the-password');
  const unknown = await login('nobody@example.com', 'not-the-password');
  expect([wrong.status, wrong.body]).toEqual([
    400,
    { non_field_errors: ['Unable to log in with provided credentials.'] },
  ]);
  expect([unknown.status, unknown.body]).toEqual([wrong.status, wrong.body]);
  const right = await login(ada.email.toUpperCase(), PASSWORD);
  expect([right.status, (await byKey(right.body.key)).body.pk]).toEqual([200, ada.id]);
});

test('signing out ends this sign-in, its key too, and no other', async () => {
  const ada = await kit.signUp();
  const elsewhere = await kit.signIn(ada.email);
  const cookie = `sessionid=${ada.cookies.get('sessionid')}`;
  const out = await ada.send('POST', '/users/logout/');
  expect([out.status, out.body]).toEqual([200, { detail: 'Successfully logged out.' }]);
  expect(ada.cookies.has('sessionid')).toBe(false);
  expect((await kit.send('GET', PROFILE, { headers: { cookie } })).status).toBe(401);
  expect((await byKey(ada.key)).status).toBe(401);
  expect((await who(elsewhere)).status).toBe(200);
});

test('a profile is read as it was written, field by field', async () => {
  const ada = await kit.signUp({ phone: '05321234501' });
  const fresh = (await ada.send('GET', PROFILE)).body;
  expect(fresh).toEqual({
    id: ada.id,
    first_name: 'Ada',
    last_name: 'Yılmaz',
    email_allowed: false,
    sms_allowed: false,
    whatsapp_allowed: false,
    call_allowed: null,
    avatar: null,
    email: ada.email,
    phone: '05321234501',
    date_of_birth: null,
    gender: null,
    genders: ['male', 'female'],
    language_code: 'en',
    attributes: {},
    date_joined: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
  });
  const wanted = {
    first_name: 'Grace',
    last_name: 'Hopper',
    email_allowed: true,
    sms_allowed: true,
    whatsapp_allowed: true,
    call_allowed: true,
    phone: '+90 532 123 45 02',
    date_of_birth: '1990-12-09',
    gender: 'female',
    language_code: 'tr',
    attributes: { size: 'm', tags: ['a', { deep: null }], count: 3, half: 0.5 },
  };
  const put = await ada.send('PUT', PROFILE, { body: wanted });
  expect([put.status, put.body]).toEqual([200, { ...fresh, ...wanted }]);
  expect((await ada.send('GET', PROFILE)).body).toEqual(put.body);

  // One at a time, each leaves the others alone.
  let expected = put.body;
  for (const [name, value] of Object.entries({
    ...fresh,
    language_code: 'de-AT',
    attributes: { only: 'this' },
    call_allowed: false,
    phone: '05321234501',
  })) {
    if (
      ['id', 'avatar', 'email', 'genders', 'date_joined', 'email_allowed', 'sms_allowed', 'whatsapp_allowed'].includes(
        name,
      )
    )
      continue;
    const patched = await ada.send('PATCH', PROFILE, { body: { [name]: value } });
    expected = {
      ...expected,
      [name]: value,
      ...(name === 'phone' ? { sms_allowed: false, whatsapp_allowed: false, call_allowed: null } : {}),
    };
    expect([name, patched.status, patched.body]).toEqual([name, 200, expected]);
  }
  // What cannot be written is passed over.
  const ignored = await ada.send('PATCH', PROFILE, {
    body: { id: 1, email: 'other@example.com', genders: [], date_joined: '2000-01-01', nonsense: true },
  });
  expect([ignored.status, ignored.body, ignored.headers['assent-ignored']]).toEqual([200, expected, 'nonsense']);
  // Null clears what may be empty.
  const cleared = await ada.send('PATCH', PROFILE, { body: { phone: null, date_of_birth: null, gender: null } });
  expect(cleared.body).toEqual({ ...expected, phone: null, date_of_birth: null, gender: null, call_allowed: null });
});

test('a form changes what a JSON body changes', async () => {
  const ada = await kit.signUp({ phone: '05321234503' });
  const before = (await ada.send('GET', PROFILE)).body;
  const form = await ada.send('PATCH', PROFILE, {
    form: `first_name=Grace&sms_allowed=true&gender=&attributes=${encodeURIComponent('{"a":[1]}')}`,
  });
  expect([form.status, form.body]).toEqual([
    200,
    { ...before, first_name: 'Grace', sms_allowed: true, attributes: { a: [1] } },
  ]);
});

test.each([
  ['{"a":"\\u0000"}', 'Null characters are not allowed.'],
  ['{"a":"\\ud800"}', 'This text contains half of a surrogate pair; send whole characters.'],
  ['{"a":12345678901234567890}', 'A number is too large to be kept exactly; send it as text.'],
  ['{"a":{"b":{"c":{"d":{"e":{}}}}}}', 'Ensure this field is nested no deeper than 5 levels.'],
  ['{"__proto__":{"a":1}}', 'The key "__proto__" cannot be used.'],
  ['{"a":', 'Expected a dictionary of items but got type "str".'],
  ['[1]', 'Expected a dictionary of items but got type "list".'],
])('attributes are looked at in a form as in JSON: %s', async (text, complaint) => {
  const ada = await kit.signUp();
  const form = await ada.send('PATCH', PROFILE, { form: `first_name=Grace&attributes=${encodeURIComponent(text)}` });
  expect([form.status, form.body]).toEqual([400, { attributes: [complaint] }]);
  expect((await ada.send('GET', PROFILE)).body.first_name).toBe('Ada');
});

test('all that is wrong with a body is told at once, and nothing of it is saved', async () => {
  const ada = await kit.signUp();
  const before = (await ada.send('GET', PROFILE)).body;
  const reply = await ada.send('PUT', PROFILE, {
    body: {
      first_name: 'x'.repeat(51),
      email_allowed: 'perhaps',
      phone: '12',
      date_of_birth: '1990-02-30',
      gender: 'other',
      language_code: '',
      attributes: [],
    },
  });
  expect([reply.status, reply.body]).toEqual([
    400,
    {
      first_name: ['Ensure this field has no more than 50 characters.'],
      last_name: ['This field is required.'],
      email_allowed: ['Must be a valid boolean.'],
      phone: ['Enter a valid phone number.'],
      date_of_birth: ['Date has wrong format. Use one of these formats instead: YYYY-MM-DD.'],
      gender: ['"other" is not a valid choice.'],
      language_code: ['This field may not be blank.'],
      attributes: ['Expected a dictionary of items but got type "list".'],
    },
  ]);
  expect((await ada.send('GET', PROFILE)).body).toEqual(before);
});

// Pictures

const BOUNDARY = 'a-boundary-of-this-test';

/** A multipart body (RFC 7578) with texts and one file. */
function multipart(
  file: Buffer,
  fields: Record<string, string> = {},
  fileName = 'me.jpg',
): { body: Buffer; headers: Record<string, string> } {
  const texts = Object.entries(fields).map(
    ([name, value]) => `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  const head = `${texts.join('')}--${BOUNDARY}\r\nContent-Disposition: form-data; name="avatar"; filename="${fileName}"\r\nContent-Type: image/jpeg\r\n\r\n`;
  return {
    body: Buffer.concat([Buffer.from(head), file, Buffer.from(`\r\n--${BOUNDARY}--\r\n`)]),
    headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` },
  };
}

const upload = (client: Client, file: Buffer, fields: Record<string, string> = {}, fileName?: string): Promise<Reply> =>
  client.send('PATCH', PROFILE, multipart(file, fields, fileName));

const drawn = (width: number, height: number): ReturnType<typeof sharp> =>
  sharp({ create: { width, height, channels: 3, background: { r: 200, g: 30, b: 90 } } });

/** What is served under the address of a picture. */
async function served(url: string): Promise<{ status: number; headers: Record<string, unknown>; bytes: Buffer }> {
  const response = await kit.http.inject({ method: 'GET', url: new URL(url).pathname });
  return { status: response.statusCode, headers: response.headers, bytes: response.rawPayload };
}

test.each(['jpeg', 'png', 'webp'] as const)(
  'a %s is taken, shrunk to 512, stripped of what it says of its maker, and served for good',
  async (format) => {
    const ada = await kit.signUp();
    const file = await drawn(1000, 600)
      .withExif({
        IFD0: { Copyright: 'the maker of this picture' },
        IFD3: { GPSLatitudeRef: 'N', GPSLatitude: '41/1 0/1 0/1' },
      })
      .toFormat(format)
      .toBuffer();
    expect(file.includes('the maker of this picture')).toBe(true);
    const reply = await upload(ada, file, { first_name: 'Grace' }, '../../etc/passwd');
    expect([reply.status, reply.body.first_name]).toEqual([200, 'Grace']);
    expect(reply.body.avatar).toMatch(/^http:\/\/[^/]+\/media\/avatars\/[0-9a-f]{64}\.webp$/);

    const picture = await served(reply.body.avatar);
    expect(picture.status).toBe(200);
    expect(picture.headers).toMatchObject({
      'content-type': 'image/webp',
      'cache-control': 'public, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; sandbox",
    });
    expect(picture.bytes.includes('the maker of this picture')).toBe(false);
    const { format: now, width, height, exif } = await sharp(picture.bytes).metadata();
    expect([now, width, height, exif]).toEqual(['webp', 512, 307, undefined]);
  },
);

test('a small picture stays as small as it is, and a turned one is turned upright', async () => {
  const ada = await kit.signUp();
  const small = (await upload(ada, await drawn(40, 20).png().toBuffer())).body.avatar;
  const turned = (await upload(ada, await drawn(60, 20).jpeg().withMetadata({ orientation: 6 }).toBuffer())).body
    .avatar;
  const size = async (url: string): Promise<unknown[]> => {
    const { width, height } = await sharp((await served(url)).bytes).metadata();
    return [width, height];
  };
  expect([await size(small), await size(turned)]).toEqual([
    [40, 20],
    [20, 60],
  ]);
});

test('a picture stays until it is replaced or removed, also when a client sends back what it read', async () => {
  const ada = await kit.signUp();
  const first = (await upload(ada, await drawn(30, 30).png().toBuffer())).body;
  expect((await ada.send('PATCH', PROFILE, { body: { first_name: 'Grace' } })).body.avatar).toBe(first.avatar);
  const { body: read } = await ada.send('GET', PROFILE);
  for (const path of [PROFILE, '/users/profile-with-loyalty/']) {
    const back = await ada.send('PUT', path, { body: (await ada.send('GET', path)).body });
    expect([back.status, back.body.avatar]).toEqual([200, first.avatar]);
  }
  const foreign = await ada.send('PATCH', PROFILE, {
    body: { avatar: 'https://elsewhere.example/media/avatars/me.webp', first_name: 'Ada' },
  });
  expect([foreign.status, foreign.body]).toEqual([
    400,
    { avatar: ['The submitted data was not a file. Check the encoding type on the form.'] },
  ]);
  const second = (await upload(ada, await drawn(31, 30).png().toBuffer())).body;
  expect(second.avatar).not.toBe(first.avatar);
  const removed = await ada.send('PATCH', PROFILE, { body: { avatar: null } });
  expect([removed.status, removed.body]).toEqual([200, { ...read, avatar: null }]);
});

test('pictures nobody shows are forgotten after a day, those somebody shows are not', async () => {
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const file = await drawn(33, 33).png().toBuffer();
  const shared = (await upload(ada, file)).body.avatar;
  expect((await upload(bora, file)).body.avatar).toBe(shared);
  const lost = (await upload(ada, await drawn(34, 33).png().toBuffer())).body.avatar;
  await ada.send('PATCH', PROFILE, { body: { avatar: null } });
  const sweep = async (): Promise<void> => {
    await kit.rows(`select graphile_worker.add_job('sweep')`);
    await kit.jobs();
  };
  await sweep();
  expect((await served(lost)).status).toBe(200);
  kit.advance(86_400_001);
  await sweep();
  expect([(await served(lost)).status, (await served(shared)).status]).toEqual([404, 200]);
});

/** A grey PNG of one bit a pixel: a few kilobytes, however many pixels. */
function flatPng(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 1;
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const rows = deflateSync(Buffer.alloc((1 + Math.ceil(width / 8)) * height));
  return Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', rows), chunk('IEND', Buffer.alloc(0))]);
}

test('what is no picture of ours is refused, and nothing else of the body is saved', async () => {
  const ada = await kit.signUp();
  const jpeg = await drawn(50, 50).jpeg().toBuffer();
  const unreadable = 'Upload a valid image. JPEG, PNG and WebP can be read.';
  const page = Buffer.from('<html><script>alert(1)</script></html>');
  const files: [string, Buffer, string][] = [
    [
      'SVG',
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'),
      unreadable,
    ],
    ['HTML', Buffer.from('<!doctype html><html><body>hello</body></html>'), unreadable],
    ['a page that continues as a picture', Buffer.concat([page, jpeg]), unreadable],
    ['a picture that continues as a page', Buffer.concat([jpeg, page]), unreadable],
    [
      'a picture with a page in its comment',
      await drawn(50, 50)
        .withExif({ IFD0: { ImageDescription: '<script>alert(1)</script>' } })
        .jpeg()
        .toBuffer(),
      unreadable,
    ],
    ['a GIF', await drawn(50, 50).gif().toBuffer(), unreadable],
    ['a TIFF', await drawn(50, 50).tiff().toBuffer(), unreadable],
    ['half a picture', jpeg.subarray(0, jpeg.length / 2), unreadable],
    ['chance', Buffer.alloc(3000, 7), unreadable],
    ['more pixels than a camera has', flatPng(8000, 6000), unreadable],
    ['an empty file', Buffer.alloc(0), 'The submitted file is empty.'],
    ['6 MB', Buffer.concat([jpeg, Buffer.alloc(6_000_000 - jpeg.length)]), 'The picture is larger than 5 MB.'],
  ];
  const before = (await ada.send('GET', PROFILE)).body;
  const pictures = () => kit.rows('select hash from avatar order by hash');
  const kept = await pictures();
  for (const [what, file, complaint] of files) {
    const reply = await upload(ada, file, { first_name: 'Grace' });
    expect([what, reply.status, reply.body]).toEqual([what, 400, { avatar: [complaint] }]);
  }
  expect((await ada.send('GET', PROFILE)).body).toEqual(before);
  expect(await pictures()).toEqual(kept);
  // It was the number of pixels: as many as are allowed pass.
  expect((await upload(ada, flatPng(7000, 5000))).status).toBe(200);
  const huge = await upload(ada, Buffer.alloc(7 * 1024 * 1024));
  expect(huge.status).toBe(413);
  for (const path of ['nothing', `${'0'.repeat(64)}.webp`, `${'0'.repeat(64)}.png`, '..%2f..%2fetc%2fpasswd']) {
    expect([path, (await kit.send('GET', `/media/avatars/${path}`)).status]).toEqual([path, 404]);
  }
});

// Passwords

test('a changed password ends every other sign-in and gives this one a new key', async () => {
  const ada = await kit.signUp();
  const elsewhere = await kit.signIn(ada.email);
  const cookie = `sessionid=${ada.cookies.get('sessionid')}`;
  const next = 'another-long-password';
  const change = (body: object): Promise<Reply> => ada.send('POST', '/users/password/change/', { body });
  for (const [body, complaint] of [
    [
      { old_password: 'wrong', new_password1: next, new_password2: next },
      { old_password: ['This password is not right.'] },
    ],
    [
      { old_password: PASSWORD, new_password1: next, new_password2: 'x' },
      { new_password2: ["The two password fields didn't match."] },
    ],
    [
      { old_password: PASSWORD, new_password1: 'short', new_password2: 'short' },
      { new_password2: ['This password is too short. It must contain at least 8 characters.'] },
    ],
    [{ new_password1: next, new_password2: next }, { old_password: ['This field is required.'] }],
  ] as const) {
    const refused = await change(body);
    expect([refused.status, refused.body]).toEqual([400, complaint]);
  }
  expect((await who(elsewhere)).status).toBe(200);

  const done = await change({ old_password: PASSWORD, new_password1: next, new_password2: next });
  expect([done.status, done.body]).toEqual([200, { key: expect.stringMatching(/^\w{40}$/), redirect_url: null }]);
  expect(done.body.key).not.toBe(ada.key);
  expect([(await who(ada)).status, (await byKey(done.body.key)).status]).toEqual([200, 200]);
  expect((await who(elsewhere)).status).toBe(401);
  expect((await kit.send('GET', PROFILE, { headers: { cookie } })).status).toBe(401);
  expect([(await byKey(ada.key)).status, (await byKey(elsewhere.key)).status]).toEqual([401, 401]);
  expect([(await login(ada.email, PASSWORD)).status, (await login(ada.email, next)).status]).toEqual([400, 200]);
});

test('a reset is mailed; its page only shows on GET, acts on POST, and ends every sign-in', async () => {
  const ada = await kit.signUp();
  const token = await resetToken(ada.email);
  const path = `/links/${token}`;
  for (let i = 0; i < 3; i += 1) {
    const shown = await kit.send('GET', path);
    expect([shown.status, shown.headers['content-type'], shown.headers['referrer-policy']]).toEqual([
      200,
      'text/html; charset=utf-8',
      'no-referrer',
    ]);
    expect(shown.text).toContain(ada.email);
    expect(shown.text).toContain('name="new_password1"');
    expect(shown.text).not.toContain('<script');
  }
  expect((await who(ada)).status).toBe(200);

  const post = (one: string, two: string): Promise<Reply> =>
    kit.send('POST', path, { form: new URLSearchParams({ new_password1: one, new_password2: two }).toString() });
  const differ = await post('a-new-password', 'a-new-passwort');
  expect([differ.status, differ.text.includes('The two password fields didn&#39;t match.')]).toEqual([400, true]);
  const short = await post('short', 'short');
  expect([short.status, short.text.includes('This password is too short.')]).toEqual([400, true]);
  expect((await login(ada.email, PASSWORD)).status).toBe(200);

  const done = await post('a-new-password', 'a-new-password');
  expect([done.status, done.text.includes('Your password is set.')]).toEqual([200, true]);
  expect([(await who(ada)).status, (await byKey(ada.key)).status]).toEqual([401, 401]);
  expect([(await login(ada.email, PASSWORD)).status, (await login(ada.email, 'a-new-password')).status]).toEqual([
    400, 200,
  ]);
  expect((await kit.send('GET', path)).status).toBe(410);
  expect((await post('yet-another-one', 'yet-another-one')).status).toBe(410);
  expect((await login(ada.email, 'yet-another-one')).status).toBe(400);
  expect(await kit.rows('select email_verified_at is not null as verified from account where id = $1', ada.id)).toEqual(
    [{ verified: true }],
  );
});

test('the reset of a shop front’s own page works by JSON, once', async () => {
  const ada = await kit.signUp();
  await kit.set('PASSWORD_RESET_URL', 'https://shop.example/reset?u={uid}&t={token}');
  const [mail] = await mailsOf(() => kit.send('POST', RESET, { body: { email: ada.email } }));
  await kit.set('PASSWORD_RESET_URL', null);
  const [, uid, token] = /https:\/\/shop\.example\/reset\?u=(\d+)&t=(\w+)/.exec(mail!.body)!;
  expect(Number(uid)).toBe(ada.id);
  const weak = await confirmReset(token!, 'short');
  expect([weak.status, weak.body]).toEqual([
    400,
    { new_password2: ['This password is too short. It must contain at least 8 characters.'] },
  ]);
  const replies = await Promise.all(Array.from({ length: 8 }, (_, i) => confirmReset(token!, `a-new-password-${i}`)));
  expect(replies.filter(({ status }) => status === 200).map(({ body }) => body)).toEqual([
    { detail: 'Password has been reset with the new password.' },
  ]);
  expect(replies.filter(({ status }) => status !== 200).map(({ status, body }) => [status, body])).toEqual(
    Array(7).fill([400, { token: [BAD_LINK] }]),
  );
  const winner = replies.findIndex(({ status }) => status === 200);
  expect((await login(ada.email, `a-new-password-${winner}`)).status).toBe(200);
});

test('a link that is forged, over, replaced or for something else opens nothing', async () => {
  const ada = await kit.signUp();
  const first = await resetToken(ada.email);
  kit.advance(60_000);
  const second = await resetToken(ada.email);
  const refused = [
    first,
    `${second.slice(0, -1)}${second.endsWith('0') ? '1' : '0'}`,
    `${'0'.repeat(32)}${second.slice(32)}`,
    second.toUpperCase(),
    'nonsense',
  ];
  for (const token of refused) {
    const reply = await confirmReset(token, 'a-new-password');
    expect([token, reply.status, reply.body]).toEqual([token, 400, { token: [BAD_LINK] }]);
    expect((await kit.send('GET', `/links/${token}`)).status).toBe(410);
  }
  expect((await kit.send('POST', `${EMAIL_CHANGE}confirm/`, { body: { token: second } })).body).toEqual({
    token: [BAD_LINK],
  });
  kit.advance(3_600_000);
  expect((await confirmReset(second, 'a-new-password')).body).toEqual({ token: [BAD_LINK] });
  expect((await login(ada.email, PASSWORD)).status).toBe(200);
  // Neither a table nor a job holds what a link needs.
  const third = await resetToken(ada.email);
  const rows = await kit.rows<{ row: string }>('select row_to_json(l)::text as row from mail_link l');
  expect(rows.some(({ row }) => row.includes(third.slice(32)))).toBe(false);
  expect(kit.logged.some((line) => line.includes(third))).toBe(false);
});

test('asking for a reset tells nobody whether an address has an account', async () => {
  const ada = await kit.signUp();
  const answers: unknown[] = [];
  const mails = await mailsOf(async () => {
    for (const email of [ada.email, 'nobody@example.com', ada.email.toUpperCase()]) {
      const { status, body } = await kit.send('POST', RESET, { body: { email } });
      answers.push([status, body]);
    }
  });
  expect(answers).toEqual(Array(3).fill([200, { detail: 'Password reset e-mail has been sent.' }]));
  // The link on its way answers the third request too.
  expect(mails.map(({ recipient }) => recipient)).toEqual([ada.email]);
});

// The e-mail address

const askFor = (client: Client, email: string, password = PASSWORD): Promise<Reply> =>
  client.send('POST', EMAIL_CHANGE, { body: { email, password } });

test('a new e-mail address counts once it is proven; the old one is told, and its consent ends', async () => {
  const ada = await kit.signUp({
    email: 'ada.old@example.com',
    email_allowed: true,
    phone: '05321234504',
    sms_allowed: true,
  });
  const asked: Reply[] = [];
  const mails = await mailsOf(async () => asked.push(await askFor(ada, 'Ada.New@example.com')));
  expect([asked[0]!.status, asked[0]!.body]).toEqual([200, { detail: 'Confirmation e-mail sent.' }]);
  expect(mails.map(({ recipient, subject }) => [recipient, subject])).toEqual([
    ['Ada.New@example.com', 'Confirm your new e-mail address'],
    ['ada.old@example.com', 'Your e-mail address is about to change'],
  ]);
  expect(mails[1]!.body).not.toContain('/links/');
  const token = tokenOf(mails[0]);
  expect((await kit.send('GET', `/links/${token}`)).text).toContain('Ada.New@example.com');
  expect((await ada.send('GET', PROFILE)).body).toMatchObject({ email: 'ada.old@example.com', email_allowed: true });
  expect((await login('ada.new@example.com', PASSWORD)).status).toBe(400);
  // A link for a reset, mailed to the old address, must not outlive it.
  const old = await resetToken('ada.old@example.com');

  const done = await kit.send('POST', `/links/${token}`, { form: '' });
  expect([done.status, done.text.includes('Your e-mail address is confirmed.')]).toEqual([200, true]);
  expect((await ada.send('GET', PROFILE)).body).toMatchObject({
    email: 'Ada.New@example.com',
    email_allowed: false,
    sms_allowed: true,
  });
  expect([
    (await login('ada.old@example.com', PASSWORD)).status,
    (await login('ada.new@example.com', PASSWORD)).status,
  ]).toEqual([400, 200]);
  expect(
    await kit.rows(
      `select p.value, e.channel, e.kind, e.source from consent_event e join contact_point p on p.id = e.contact_point
        where e.account = $1 and e.channel = 'email' order by e.id`,
      ada.id,
    ),
  ).toEqual([
    { value: 'ada.old@example.com', channel: 'email', kind: 'grant', source: 'registration' },
    { value: 'ada.old@example.com', channel: 'email', kind: 'expire', source: 'account' },
  ]);
  expect(
    await kit.rows(`select verified_at is not null as verified from contact_point where value = 'ada.new@example.com'`),
  ).toEqual([{ verified: true }]);
  expect((await confirmReset(old, 'a-new-password')).body).toEqual({ token: [BAD_LINK] });
  expect((await kit.send('POST', `/links/${token}`, { form: '' })).status).toBe(410);
  expect((await kit.send('POST', `${EMAIL_CHANGE}confirm/`, { body: { token } })).body).toEqual({ token: [BAD_LINK] });
});

test('an address that is taken looks like any other to the asker, and is mailed nothing', async () => {
  const [ada, bora] = [await kit.signUp(), await kit.signUp()];
  const asked: Reply[] = [];
  const mails = await mailsOf(async () => asked.push(await askFor(ada, bora.email.toUpperCase())));
  expect([asked[0]!.status, asked[0]!.body, mails]).toEqual([200, { detail: 'Confirmation e-mail sent.' }, []]);
  for (const [reply, complaint] of [
    [await askFor(ada, 'fresh@example.com', 'not-the-password'), { password: ['This password is not right.'] }],
    [await askFor(ada, ada.email), { email: ['This is your address already.'] }],
  ] as const) {
    expect([reply.status, reply.body]).toEqual([400, complaint]);
  }
  expect(
    (await kit.send('POST', EMAIL_CHANGE, { body: { email: 'fresh@example.com', password: PASSWORD } })).status,
  ).toBe(401);
});

test('of two who prove one address at once, one gets it', async () => {
  const clients = [await kit.signUp(), await kit.signUp()];
  const tokens: string[] = [];
  for (const client of clients) tokens.push(tokenOf((await mailsOf(() => askFor(client, 'contested@example.com')))[0]));
  const replies = await Promise.all(
    tokens.map((token) => kit.send('POST', `${EMAIL_CHANGE}confirm/`, { body: { token } })),
  );
  expect(replies.map(({ status }) => status).sort()).toEqual([200, 400]);
  expect(replies.find(({ status }) => status === 400)!.body).toEqual({
    token: ['A user is already registered with this e-mail address.'],
  });
  expect(await kit.rows(`select id from account where email = 'contested@example.com'`)).toEqual([
    { id: clients[replies.findIndex(({ status }) => status === 200)]!.id },
  ]);
});

test('a link for an address ends with its day and with the next request', async () => {
  const ada = await kit.signUp();
  const first = tokenOf((await mailsOf(() => askFor(ada, 'first@example.com')))[0]);
  const second = tokenOf((await mailsOf(() => askFor(ada, 'second@example.com')))[0]);
  const confirm = (token: string): Promise<Reply> => kit.send('POST', `${EMAIL_CHANGE}confirm/`, { body: { token } });
  expect((await confirm(first)).body).toEqual({ token: [BAD_LINK] });
  kit.advance(86_400_000);
  expect((await confirm(second)).body).toEqual({ token: [BAD_LINK] });
  expect((await kit.send('GET', `/links/${second}`)).status).toBe(410);
  expect((await ada.send('GET', PROFILE)).body.email).toBe(ada.email);
});
