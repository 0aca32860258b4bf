/** Whatever is said in whatever order by whichever way in: the service does what the document's model does. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createAccount } from '../../src/accounts/accounts.ts';
import { linkToken } from '../../src/accounts/links.ts';
import { openSession } from '../../src/accounts/sessions.ts';
import { findDrift, rebuildStates } from '../../src/consent/ledger/projection.ts';
import { type ConsentStatement, sayOne } from '../../src/consent/statements.ts';
import { codeToSend } from '../../src/phone/verification.ts';
import { transaction } from '../../src/platform/ctx.ts';
import { createKit, type Kit, type Reply, type Send } from '../kit.ts';
import { Oracle, type Said, type Speaker } from './oracle.ts';

const PROFILE = '/users/profile/';
const LOYALTY = '/users/profile-with-loyalty/';
const YEARS = 300_000_000;
const channels = ['email', 'sms', 'whatsapp', 'call'] as const;
type Channel = (typeof channels)[number];
const flagOf = (channel: Channel): string => `${channel}_allowed`;
type Flags = Partial<Record<Channel, boolean | null>>;

let kit: Kit;
let twin: Kit;
let order: Send;
let time = Date.parse('2027-01-04T08:00:00Z');
let histories = 0;
const counts = new Map<string, number>();
const count = (name: string): void => void counts.set(name, (counts.get(name) ?? 0) + 1);

beforeAll(async () => {
  kit = await createKit();
  twin = await kit.twin();
  // Time stands still between steps, so that ties are as common as they can be.
  for (const { ctx } of [kit, twin]) Object.assign(ctx, { clock: { now: () => new Date(time) } });
  await set('THROTTLING_SETTINGS', {
    login: null,
    register: null,
    'profile-update': null,
    'user-permissions': null,
    otp: null,
  });
  await set('SMS_BUDGET', { number_hour: null, account_day: null, address_hour: null, country_day: null });
  await set('SMS_OTP_EXPIRE_TIME', 0);
  await set('OTP_RESEND_SECONDS', 0);
  await set('OTP_MAX_SUBMISSIONS', 20);
  order = await kit.apiKey('baskets');
});
afterAll(() => kit.close());

async function set(name: Parameters<Kit['set']>[0], value: unknown): Promise<void> {
  await kit.set(name, value);
  await twin.ctx.settings.refresh(twin.ctx.db);
}

type DeviceKind = 'cookie' | 'forgetful' | 'token';

/** A client of an account: what it has read last, and the cookies it keeps. */
interface Device {
  readonly kind: DeviceKind;
  readonly account: Account;
  family: string;
  since: number;
  key: string;
  cookie: string | undefined;
  /** What the cookie stands for: the number of the line behind each flag, as the model counts. */
  read: Map<Channel, number> | undefined;
  etag: string | undefined;
  body: Record<string, unknown>;
}
interface Account {
  readonly id: number;
  email: number;
  phone: number;
  emailProven: boolean;
  phoneProven: boolean;
  readonly devices: Device[];
}

/** One history: its people, their addresses, and the model of what was said. */
class World {
  readonly oracle = new Oracle();
  readonly emails: string[];
  readonly phones: string[];
  readonly accounts: Account[] = [];
  readonly basket: number;
  readonly ticked = new Map<Channel, { value: boolean; at: number; consumed: boolean }>();
  doubleOptIn: readonly Channel[] = [];
  n = 0;

  constructor(number: number) {
    this.basket = number;
    this.emails = [0, 1, 2].map((index) => `h${number}.${index}@example.com`);
    this.phones = [0, 1].map((index) => `+90532${4_000_000 + number * 2 + index}`);
  }

  static async begin(): Promise<World> {
    histories += 1;
    time += 1000;
    const world = new World(histories);
    world.doubleOptIn = histories % 2 === 0 ? ['sms'] : [];
    await set('DOUBLE_OPT_IN', world.doubleOptIn);
    for (const index of [0, 1]) {
      const id = await transaction(kit.ctx, (ctx) =>
        createAccount(ctx, {
          email: world.emails[index]!,
          password: null,
          first_name: 'Ada',
          last_name: 'Yılmaz',
          language_code: 'tr',
        }),
      );
      // The first has proven her addresses, the second has typed the first one's number.
      const [emailProven, phoneProven] = [true, index === 0];
      const account: Account = { id, email: index, phone: 0, emailProven, phoneProven, devices: [] };
      world.accounts.push(account);
      for (const kind of index === 0 ? (['cookie', 'cookie', 'token'] as const) : (['cookie', 'forgetful'] as const))
        account.devices.push(await world.signIn({ kind, account } as Device));
      const reply = await kit.send('PATCH', PROFILE, {
        body: { phone: world.phones[0] },
        headers: { authorization: `Token ${await tokenOf(id)}` },
      });
      expect(reply.status).toBe(200);
      await kit.rows('update account set email_verified_at = date_joined where id = $1', id);
      if (phoneProven) await kit.rows('update account set phone_verified_at = date_joined where id = $1', id);
    }
    time += 1000;
    world.oracle.now = time;
    return world;
  }

  get devices(): Device[] {
    return this.accounts.flatMap(({ devices }) => devices);
  }

  async signIn(device: Device): Promise<Device> {
    const family = randomUUID();
    const kind = device.kind === 'token' ? 'token' : 'cookie';
    const keys = await openSession(
      kit.ctx,
      device.account.id,
      { [kind]: { seconds: YEARS } } as { cookie: { seconds: number } },
      { family },
    );
    return Object.assign(device, {
      family,
      since: time,
      key: Object.values(keys)[0]!,
      cookie: undefined,
      read: undefined,
      etag: undefined,
      body: {},
    });
  }

  async send(
    device: Device,
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    this.n += 1;
    const send = this.n % 2 === 0 ? kit.send : twin.send;
    const csrf = 'a'.repeat(32);
    const version =
      device.cookie === undefined || device.kind === 'forgetful' ? '' : `; consent_version=${device.cookie}`;
    const reply = await send(method, path, {
      ...(body === undefined ? {} : { body }),
      headers: {
        ...(device.kind === 'token'
          ? { authorization: `Token ${device.key}` }
          : { cookie: `sessionid=${device.key}; csrftoken=${csrf}${version}`, 'x-csrftoken': csrf }),
        ...headers,
      },
    });
    for (const line of [reply.headers['set-cookie'] ?? []].flat() as string[]) {
      const [, value] = /^consent_version="?([^;"]*)/.exec(line) ?? [];
      if (value !== undefined) device.cookie = value;
    }
    if (reply.status === 200) {
      device.etag = reply.headers['etag'] as string;
      device.body = reply.body;
      const lines = channels.map((channel) => this.oracle.stand(this.key(device.account, channel)).line?.n);
      // Of an account that nothing was ever said about there is nothing to read, and no cookie says so.
      if (device.kind === 'cookie' && (device.read !== undefined || lines.some((line) => line !== undefined)))
        device.read = new Map(channels.map((channel, place) => [channel, lines[place] ?? -1]));
    }
    return reply;
  }

  point = (kind: 'email' | 'phone', index: number): string => `${kind}-${index}`;
  key(account: Account, channel: Channel): string {
    return `${channel === 'email' ? this.point('email', account.email) : this.point('phone', account.phone)} ${channel}`;
  }
  asks = (channel: Channel): { doubleOptIn: boolean } => ({ doubleOptIn: this.doubleOptIn.includes(channel) });
  address(point: string): { kind: 'email' | 'phone'; value: string } {
    const [kind, index] = point.split('-') as ['email' | 'phone', string];
    return { kind, value: (kind === 'email' ? this.emails : this.phones)[Number(index)]! };
  }
  holders = (point: string): Account[] =>
    this.accounts.filter(
      ({ email, phone }) => point === this.point('email', email) || point === this.point('phone', phone),
    );

  /**
   * Whose word it is when nobody says whose: that of a holder who has proven the address, else of one who had spoken for it
   * before, unless it came from the address itself.
   */
  wordOf(key: string, { addressed }: { addressed: boolean }): number | null {
    const [point] = key.split(' ') as [string];
    const holders = this.holders(point);
    const proven = holders.find((holder) => (point.startsWith('email') ? holder.emailProven : holder.phoneProven));
    if (proven !== undefined) return proven.id;
    const { account } = this.oracle.stand(key);
    return !addressed && holders.some(({ id }) => id === account) ? account : null;
  }

  /** What an account's request says, in the model: the move first, then the flags about the addresses it then has. */
  change(
    device: Device,
    { flags, phone, proven, matched }: { flags: Flags; phone: number; proven: boolean; matched: boolean },
  ): void {
    const { account, family, read, since, kind } = device;
    const moved = phone !== account.phone;
    if (moved) {
      const old = account.phone;
      const wasProven = account.phoneProven;
      account.phone = phone;
      account.phoneProven = false;
      if (!this.holders(this.point('phone', old)).some((holder) => holder !== account))
        for (const channel of channels.slice(1)) {
          const key = `${this.point('phone', old)} ${channel}`;
          // What the holder said without an account is not ended by somebody who merely typed the number.
          if (wasProven || this.oracle.stand(key).account !== null)
            this.oracle.happen(key, 'expire', this.person(account.id, wasProven, family));
        }
    }
    if (proven) account.phoneProven = true;
    for (const channel of channels) {
      const key = this.key(account, channel);
      const stated = flags[channel];
      // Rule 2: null and what is shown already say nothing.
      if (typeof stated !== 'boolean' || stated === this.oracle.flag(key)) continue;
      const elsewhere = moved && channel !== 'email';
      const hears = (line: Said): boolean => {
        if (line.session === family) return true;
        if (matched && !elsewhere) return true;
        if (kind === 'cookie' && read !== undefined && !elsewhere) return read.get(channel) === line.n;
        return line.recorded < since;
      };
      const isProven = channel === 'email' ? account.emailProven : account.phoneProven;
      const who: Speaker = { voice: 'person', account: account.id, proven: isProven, hears, session: family };
      this.oracle.say(key, stated, who, this.asks(channel));
    }
  }

  person = (account: number | null, proven: boolean, session?: string): Speaker => ({
    voice: 'person',
    account,
    proven,
    hears: () => true,
    ...(session === undefined ? {} : { session }),
  });
}

const tokens = new Map<number, string>();
async function tokenOf(account: number): Promise<string> {
  const known = tokens.get(account);
  if (known !== undefined) return known;
  const { token } = await openSession(kit.ctx, account, { token: { seconds: YEARS } });
  tokens.set(account, token);
  return token;
}

// Steps: what somebody does, to the service and to the model.

const keys = [0, 1, 2]
  .map((n) => `email-${n} email`)
  .concat([0, 1].flatMap((n) => channels.slice(1).map((c) => `phone-${n} ${c}`)));

type Step = { name: string; run(world: World): Promise<void> };

const channel = fc.constantFrom<Channel>('sms', 'sms', 'sms', 'call', 'email');
const flags = fc
  .record(
    { sms: fc.boolean(), call: fc.option(fc.boolean(), { nil: null }), email: fc.boolean(), whatsapp: fc.boolean() },
    { requiredKeys: [] },
  )
  .map((record): Flags => record as Flags);
const index = fc.nat(1);
/** An address that fits a channel. */
const pointOf = (channel: Channel, index: number): string => `${channel === 'email' ? 'email' : 'phone'}-${index}`;

const step = <T>(
  name: string,
  arbitrary: fc.Arbitrary<T>,
  run: (world: World, input: T) => Promise<void>,
): fc.Arbitrary<Step> =>
  arbitrary.map((input) => ({
    name,
    run: (world: World) => run(world, input),
    [fc.toStringMethod]: () => `${name} ${JSON.stringify(input)}`,
  }));

const read = step('read', fc.nat(4), async (world, device) => {
  expect((await world.send(world.devices[device]!, 'GET', PROFILE)).status).toBe(200);
});

const signIn = step(
  'sign in again',
  fc.nat(4),
  async (world, device) => void (await world.signIn(world.devices[device]!)),
);

const write = step(
  'write',
  fc.record({
    device: fc.nat(4),
    flags,
    whole: fc.boolean(),
    phone: fc.option(index, { nil: undefined, freq: 5 }),
    loyalty: fc.boolean(),
    ifMatch: fc.constantFrom('none', 'none', 'read', 'star'),
  }),
  async (world, input) => {
    const device = world.devices[input.device]!;
    const { account, etag } = device;
    const shown = device.body;
    const body: Record<string, unknown> = Object.fromEntries(
      Object.entries(input.flags).map(([channel, value]) => [flagOf(channel as Channel), value]),
    );
    if (input.phone !== undefined) body['phone'] = world.phones[input.phone];
    // A form that sends back everything it has read, however long ago.
    const whole = input.whole && shown['first_name'] !== undefined;
    const sent = whole ? { ...shown, ...body } : body;
    const meant = Object.fromEntries(channels.map((channel) => [channel, sent[flagOf(channel)]])) as Flags;
    const phone = sent['phone'] === undefined ? account.phone : world.phones.indexOf(sent['phone'] as string);
    const moved = phone !== account.phone;
    const tagged = input.ifMatch === 'read' && etag !== undefined;
    const headers: Record<string, string> = tagged
      ? { 'if-match': etag }
      : input.ifMatch === 'star'
        ? { 'if-match': '*' }
        : {};
    const now = await kit.send('GET', PROFILE, { headers: { authorization: `Token ${await tokenOf(account.id)}` } });
    const late = tagged && now.headers['etag'] !== etag;
    const method = whole ? 'PUT' : 'PATCH';
    const path = input.loyalty ? LOYALTY : PROFILE;
    let reply: Reply;
    if (input.loyalty && moved) {
      expect((await world.send(device, method, path, { ...sent, code: null, resend: false }, headers)).status).toBe(
        202,
      );
      const { code } = (await codeToSend(kit.ctx, account.id))!;
      if (!late) world.change(device, { flags: meant, phone, proven: true, matched: tagged });
      reply = await world.send(device, method, path, { ...sent, code }, headers);
    } else {
      if (!late) world.change(device, { flags: meant, phone, proven: false, matched: tagged });
      reply = await world.send(device, method, path, sent, headers);
    }
    expect([reply.status, reply.status === 200 || reply.status === 412 || reply.body]).toEqual([
      late ? 412 : 200,
      true,
    ]);
    count(`write ${reply.status}${moved && !late ? ' moved' : ''}`);
  },
);

/** Says something outside of a profile, and tells the model. */
async function tell(
  world: World,
  channel: Channel,
  point: string,
  statement: Partial<ConsentStatement> & Pick<ConsentStatement, 'intent' | 'by' | 'source'>,
) {
  world.n += 1;
  return sayOne((world.n % 2 === 0 ? kit : twin).ctx, {
    about: world.address(point),
    channel,
    purpose: 'marketing',
    actor: 'test',
    evidence: {},
    ...statement,
  });
}

const person = step(
  'person',
  fc.record({ channel, index, granted: fc.boolean(), source: fc.constantFrom('preference_page', 'one_click') }),
  async (world, { channel, index, granted, source }) => {
    const point = pointOf(channel, index);
    const yes = granted && source === 'preference_page';
    const key = `${point} ${channel}`;
    const speaker = world.wordOf(key, { addressed: source === 'one_click' });
    world.oracle.say(key, yes, world.person(speaker, true), world.asks(channel));
    await tell(world, channel, point, {
      intent: yes ? 'grant' : 'refuse',
      by: { voice: 'person', proven: true },
      source: source as 'one_click',
    });
  },
);

const shop = step(
  'shop',
  fc.record({
    channel,
    index,
    granted: fc.boolean(),
    evidenced: fc.boolean(),
    /** Looks for an address whose holder has said no, or where nothing may be sent. */
    aimed: fc.option(fc.nat(8), { nil: undefined, freq: 1 }),
    source: fc.constantFrom('staff', 'import', 'register'),
    ago: fc.constantFrom(undefined, 0, 1, 1000, 600_000, 700_000_000),
  }),
  async (world, { index, granted, evidenced, aimed, source, ago, ...input }) => {
    const noes = keys.filter((key) => ['withdrawn', 'suppressed'].includes(world.oracle.stand(key).shows));
    const key =
      (aimed === undefined ? undefined : noes[aimed % noes.length]) ??
      `${pointOf(input.channel, index)} ${input.channel}`;
    const [point, channel] = key.split(' ') as [string, Channel];
    const at = ago === undefined ? undefined : time - ago;
    const account = world.wordOf(key, { addressed: false });
    world.oracle.say(
      key,
      granted,
      { voice: 'shop', account, evidenced },
      {
        doubleOptIn: false,
        ...(at === undefined ? {} : { at }),
      },
    );
    await tell(world, channel, point, {
      intent: granted ? 'grant' : 'refuse',
      by: { voice: 'shop' },
      source: source as 'staff',
      evidence: evidenced ? { document: 'form 17' } : {},
      ...(at === undefined ? {} : { at: new Date(at) }),
    });
  },
);

const happening = step(
  'happening',
  fc.record({
    channel,
    index,
    which: fc.nat(8),
    what: fc.constantFrom('confirm', 'confirm', 'answer no', 'expire', 'suppress', 'suppress', 'restore', 'erase'),
  }),
  async (world, { channel, index, which, what }) => {
    // What can happen to one address in a hundred is looked for, so that it does happen.
    const due = keys.filter((key) => {
      const { question, block } = world.oracle.stand(key);
      return what === 'restore'
        ? block !== undefined
        : what !== 'suppress' && what !== 'erase' && question !== undefined;
    });
    const key = due[which % due.length] ?? `${pointOf(channel, index)} ${channel}`;
    const [point, name] = key.split(' ') as [string, Channel];
    const byPerson = what === 'confirm' || what === 'answer no';
    const speaker = world.wordOf(key, { addressed: byPerson });
    const who: Speaker = byPerson ? world.person(speaker, true) : { voice: 'shop', account: speaker, evidenced: false };
    if (what === 'answer no') world.oracle.say(key, false, who, world.asks(name));
    else world.oracle.happen(key, what as 'confirm', who);
    await tell(world, name, point, {
      intent: what === 'answer no' ? 'refuse' : (what as 'confirm'),
      by: byPerson ? { voice: 'person', proven: true } : { voice: 'shop' },
      source: byPerson ? 'confirmation' : 'system',
    });
  },
);

const tick = step('tick', flags, async (world, ticked) => {
  const said = Object.entries(ticked).filter(([, value]) => value !== null) as [Channel, boolean][];
  const body = Object.fromEntries(said.map(([channel, value]) => [flagOf(channel), value]));
  const reply = await kit.send('POST', '/users/permissions/', {
    body: { uid: `u${world.basket}`, basket: world.basket, ...body },
  });
  expect([reply.status, reply.text]).toEqual([200, '']);
  for (const [channel, value] of said) {
    const before = world.ticked.get(channel);
    if (before?.consumed && before.value === value) continue;
    world.ticked.set(channel, { value, at: time, consumed: false });
  }
});

const promote = step(
  'promote',
  fc.record({
    email: fc.nat(2),
    phone: index,
    account: fc.option(index, { nil: undefined, freq: 2 }),
    own: fc.boolean(),
  }),
  async (world, input) => {
    const account = input.account === undefined ? undefined : world.accounts[input.account]!;
    const own = account !== undefined && input.own;
    const [email, phone] = own ? [account.email, account.phone] : [input.email, input.phone];
    for (const channel of channels) {
      const row = world.ticked.get(channel);
      if (row === undefined || row.consumed) continue;
      row.consumed = true;
      const point = pointOf(channel, channel === 'email' ? email : phone);
      const holders = world.holders(point);
      const theirs = account !== undefined && holders.includes(account);
      const who: Speaker = theirs
        ? world.person(account.id, channel === 'email' ? account.emailProven : account.phoneProven)
        : {
            voice: 'guest',
            account: account?.id ?? world.wordOf(`${point} ${channel}`, { addressed: false }),
            ofMember: holders.length > 0,
          };
      const said = world.oracle.say(`${point} ${channel}`, row.value, who, { at: row.at, ...world.asks(channel) });
      count(
        `promoted ${theirs ? 'own' : who.voice === 'guest' && who.ofMember ? 'member' : 'nobody'} ${row.value} ${said?.kind ?? 'nothing'}`,
      );
    }
    const recipient = { email: world.emails[email], phone: world.phones[phone] };
    const reply = await order('POST', `/v1/baskets/${world.basket}/promote`, {
      body: {
        uid: `u${world.basket}`,
        order: 'A-1',
        ...(own ? {} : { recipient }),
        ...(account === undefined ? {} : { account: account.id }),
      },
    });
    expect([reply.status, reply.status === 200 || reply.body]).toEqual([200, true]);
  },
);

const moveEmail = step('e-mail change', fc.record({ account: index, email: fc.nat(2) }), async (world, input) => {
  const account = world.accounts[input.account]!;
  const { email } = input;
  if (world.holders(`email-${email}`).length > 0) return;
  const id = randomUUID();
  await kit.rows(
    `insert into mail_link (id, purpose, account, new_email, language, created_at, expires_at)
     values ($1, 'email_change', $2, $3, 'tr', now(), 'infinity')`,
    id,
    account.id,
    world.emails[email],
  );
  world.oracle.happen(`email-${account.email} email`, 'expire', world.person(account.id, true));
  account.email = email;
  account.emailProven = true;
  const reply = await kit.send('POST', '/users/email-change/confirm/', {
    body: { token: linkToken(kit.ctx, { id, purpose: 'email_change' }) },
  });
  expect(reply.status).toBe(200);
});

const doubleOptIn = step('double opt-in', fc.subarray(['sms', 'email'] as Channel[]), async (world, names) => {
  world.doubleOptIn = names;
  await set('DOUBLE_OPT_IN', names);
});

const wait = step('wait', fc.constantFrom(1, 1000, 601_000, 700_000_000), async (world, milliseconds) => {
  time += milliseconds;
  world.oracle.now = time;
});

const steps = fc.oneof(
  { weight: 3, arbitrary: read },
  { weight: 1, arbitrary: signIn },
  { weight: 9, arbitrary: write },
  { weight: 3, arbitrary: person },
  { weight: 5, arbitrary: shop },
  { weight: 5, arbitrary: happening },
  { weight: 2, arbitrary: tick },
  { weight: 2, arbitrary: promote },
  { weight: 1, arbitrary: moveEmail },
  { weight: 2, arbitrary: doubleOptIn },
  { weight: 3, arbitrary: wait },
);

interface StoredState {
  key: string;
  state: string;
}

/** What has to have happened in a run, each some tens of times: steps, and lines with what became of them. */
const everything = [
  ...[
    'read',
    'sign in again',
    'write',
    'write 200 moved',
    'write 412',
    'person',
    'shop',
    'happening',
    'tick',
    'promote',
  ],
  ...['e-mail change', 'double opt-in', 'wait', 'promoted member true request', 'promoted nobody true grant'],
  ...['grant applied', 'grant older', 'grant stale', 'grant not_lifted', 'grant not_theirs', 'request applied'],
  ...['confirm applied', 'refuse applied', 'withdraw applied', 'withdraw older', 'expire applied', 'suppress applied'],
  ...['restore applied', 'erase applied'],
];

/** What the service stores about the addresses of a world, by the model's names. */
async function stored(world: World): Promise<Map<string, string>> {
  const rows = await kit.rows<StoredState>(
    `select p.value || ' ' || s.channel as key, s.state from consent_state s join contact_point p on p.id = s.contact_point
      where p.value = any ($1::text[]) and s.purpose = 'marketing'`,
    [...world.emails, ...world.phones],
  );
  return new Map(rows.map(({ key, state }) => [key, state]));
}
const storedKey = (world: World, key: string): string =>
  `${world.address(key.split(' ')[0]!).value} ${key.split(' ')[1]}`;

async function compare(world: World): Promise<void> {
  const [states, ...replies] = await Promise.all([
    stored(world),
    ...world.accounts.map(async ({ id }) =>
      kit.send('GET', PROFILE, { headers: { authorization: `Token ${await tokenOf(id)}` } }),
    ),
  ]);
  expect(Object.fromEntries(keys.map((key) => [key, states.get(storedKey(world, key)) ?? 'unknown']))).toEqual(
    Object.fromEntries(keys.map((key) => [key, world.oracle.stand(key).shows])),
  );
  for (const [place, account] of world.accounts.entries()) {
    const shown = replies[place]!.body;
    expect(channels.map((channel) => shown[flagOf(channel)])).toEqual(
      channels.map((channel) => world.oracle.flag(world.key(account, channel))),
    );
  }
}

/** Every line there is about the world, as the model writes it. */
async function compareLines(world: World): Promise<void> {
  const lines = await kit.rows<{
    key: string;
    kind: string;
    at: Date;
    outcome: string;
    account: number | null;
    proven: boolean;
  }>(
    `select p.value || ' ' || e.channel as key, e.kind, e.occurred_at as at, e.outcome, e.account, e.proven
       from consent_event e join contact_point p on p.id = e.contact_point where p.value = any ($1::text[]) order by e.recorded_at, e.id`,
    [...world.emails, ...world.phones],
  );
  const byKey = (list: readonly { key: string }[]) => Map.groupBy(list, ({ key }) => key);
  const said = world.oracle.said.map(({ key, kind, at, outcome, account, proven }) => ({
    key: storedKey(world, key),
    kind,
    at,
    outcome,
    account,
    proven,
  }));
  for (const { kind, outcome } of said) count(`${kind} ${outcome}`);
  expect(byKey(lines.map((line) => ({ ...line, at: line.at.getTime() })))).toEqual(byKey(said));
}

async function checkLedger(): Promise<void> {
  expect(await findDrift(kit.ctx)).toBe(undefined);
  expect((await rebuildStates(kit.ctx)).repaired).toBe(0);
  expect((await kit.verify()).fault).toBe(undefined);
}

test('one after the other: every state, every flag and every line are the model’s after each step', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 10, maxLength: 40, size: 'max' }), async (history) => {
      const world = await World.begin();
      for (const one of history) {
        await one.run(world);
        count(one.name);
        await compare(world);
      }
      await compareLines(world);
      await checkLedger();
    }),
    { numRuns: 60 },
  );
  // A history in which something never happens proves nothing about it.
  for (const name of everything) expect([name, counts.get(name) ?? 0]).not.toEqual([name, 0]);
}, 120_000);

/** The last writes of one group run together: through two processes, each from a sign-in of its own that has read a yes. */
const together = fc.record({
  writers: fc.uniqueArray(
    fc.record({
      who: fc.constantFrom(
        'device 0',
        'device 1',
        'device 2',
        'device 3',
        'device 4',
        'import',
        'staff',
        'guest',
        'one-click',
      ),
      granted: fc.boolean(),
      whole: fc.boolean(),
    }),
    { selector: ({ who }) => who, minLength: 3, maxLength: 9 },
  ),
  channel: fc.constantFrom<Channel>('sms', 'call'),
});

test('one no among many yeses from forms of before stands, whoever said it and whichever came last', async () => {
  await fc.assert(
    fc.asyncProperty(together, async ({ writers, channel }) => {
      fc.pre(writers.some(({ who, granted }) => who === 'one-click' || (!granted && who !== 'guest')));
      const world = await World.begin();
      const point = 'phone-0';
      await set('DOUBLE_OPT_IN', []);
      await tell(world, channel, point, {
        intent: 'grant',
        by: { voice: 'person', proven: true },
        source: 'preference_page',
      });
      time += 1000;
      for (const device of world.devices)
        expect((await world.send(device, 'GET', PROFILE)).body[flagOf(channel)]).toBe(true);
      await Promise.all(
        writers.map(async ({ who, granted, whole }) => {
          if (who === 'import' || who === 'staff')
            return tell(world, channel, point, {
              intent: granted ? 'grant' : 'refuse',
              by: { voice: 'shop' },
              source: who,
            });
          if (who === 'guest')
            return tell(world, channel, point, {
              intent: granted ? 'grant' : 'refuse',
              by: { voice: 'guest' },
              source: 'checkout',
            });
          if (who === 'one-click')
            return tell(world, channel, point, {
              intent: 'refuse',
              by: { voice: 'person', proven: true },
              source: 'one_click',
            });
          const device = world.devices[Number(who.slice(-1))]!;
          const body = { ...(whole ? device.body : {}), [flagOf(channel)]: granted };
          expect((await world.send(device, whole ? 'PUT' : 'PATCH', PROFILE, body)).status).toBe(200);
        }),
      );
      expect((await stored(world)).get(storedKey(world, `${point} ${channel}`))).toBe('withdrawn');
    }),
    { numRuns: 60 },
  );
  await checkLedger();
}, 60_000);

interface Counted {
  key: string;
  kind: string;
  at: Date;
  source: string;
  evidenced: boolean;
}

test('whatever is said at once through two processes, the states are a replay and nobody but the person lifts a no', async () => {
  const deed = fc.oneof(
    fc.record({
      by: fc.constant('device' as const),
      device: fc.nat(4),
      flags,
      phone: fc.option(index, { nil: undefined, freq: 6 }),
    }),
    fc.record({
      by: fc.constantFrom('person' as const, 'shop' as const, 'proven shop' as const, 'guest' as const),
      channel,
      index,
      what: fc.constantFrom<ConsentStatement['intent']>('grant', 'refuse'),
    }),
    fc.record({
      by: fc.constant('shop' as const),
      channel,
      index,
      what: fc.constantFrom<ConsentStatement['intent']>('expire', 'suppress', 'restore', 'confirm', 'erase'),
    }),
  );
  let lifted = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(deed, { minLength: 2, maxLength: 8 }), { minLength: 2, maxLength: 6 }),
      async (groups) => {
        const world = await World.begin();
        for (const group of groups) {
          await Promise.all(
            group.map(async (one) => {
              if (one.by === 'device') {
                const body: Record<string, unknown> = Object.fromEntries(
                  Object.entries(one.flags).map(([channel, value]) => [flagOf(channel as Channel), value]),
                );
                if (one.phone !== undefined) body['phone'] = world.phones[one.phone];
                expect((await world.send(world.devices[one.device]!, 'PATCH', PROFILE, body)).status).toBe(200);
                return;
              }
              const { by, channel, index, what } = one;
              await tell(world, channel, pointOf(channel, index), {
                intent: what,
                by:
                  by === 'person'
                    ? { voice: 'person', proven: true }
                    : by === 'guest'
                      ? { voice: 'guest' }
                      : { voice: 'shop' },
                source:
                  by === 'person'
                    ? 'preference_page'
                    : by === 'guest'
                      ? 'checkout'
                      : what === 'confirm'
                        ? 'confirmation'
                        : 'import',
                evidence: by === 'proven shop' ? { document: 'form 17' } : {},
              });
            }),
          );
          time += 1;
        }
        await checkLedger();
        const lines = await kit.rows<Counted>(
          `select p.value || ' ' || e.channel as key, e.kind, e.occurred_at as at, e.source, v.evidence ? 'document' as evidenced
           from consent_event e join contact_point p on p.id = e.contact_point join consent_evidence v on v.event = e.id
          where p.value = any ($1::text[]) and e.outcome = 'applied' order by e.occurred_at`,
          [...world.emails, ...world.phones],
        );
        for (const said of Map.groupBy(lines, ({ key }) => key).values()) {
          let withdrawn = false;
          let blocked = false;
          for (const { kind, source, evidenced } of said) {
            if (kind === 'withdraw') withdrawn = true;
            if (kind === 'suppress' || kind === 'erase') blocked = true;
            if (kind === 'restore') blocked = false;
            if (kind !== 'grant' && kind !== 'confirm') continue;
            if (withdrawn || blocked) {
              expect([source, evidenced || ['account', 'preference_page', 'confirmation'].includes(source)]).toEqual([
                source,
                true,
              ]);
              lifted += 1;
            }
            [withdrawn, blocked] = [false, false];
          }
          // Nothing was said twice at one moment.
          expect(new Set(said.map(({ at }) => at.getTime())).size).toBe(said.length);
        }
      },
    ),
    { numRuns: 25 },
  );
  // The rule is not idle: somebody did lift something.
  expect(lifted).toBeGreaterThan(0);
}, 60_000);
