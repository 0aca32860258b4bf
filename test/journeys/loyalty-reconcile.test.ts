/** The sweep that compares all members with the provider: the verb on a kit, and the command as a process of its own. */
import { type ChildProcess, execFile } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createAccount } from '../../src/accounts/accounts.ts';
import type { Finding, Sweep } from '../../src/loyalty/comparing.ts';
import { dispatchLoyalty } from '../../src/loyalty/dispatch.ts';
import { reconcile, type SweepOptions } from '../../src/loyalty/reconcile.ts';
import { loyaltyFindings, loyaltyStatus } from '../../src/loyalty/state.ts';
import { transaction } from '../../src/platform/ctx.ts';
import { takeOver } from '../../src/profile/take-over.ts';
import { type FakeProvider, fakeProvider } from '../fake-provider.ts';
import { createKit, type Kit } from '../kit.ts';

let kit: Kit;
let provider: FakeProvider;
/** What the provider has, by account. */
let members: Map<number, Record<string, unknown>>;
/** Statuses that it answers to GET instead of what it has. */
let trouble: (account: number) => number | undefined;

const fields = {
  first_name: 'first_name',
  last_name: 'last_name',
  gender: 'gender',
  born: 'date_of_birth',
  mail: 'email',
  sms: 'consents.sms',
};

const connect = (more: Record<string, unknown> = {}): Promise<void> =>
  kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', {
    connector: 'http',
    url: `${provider.base}/members/{account}`,
    fields,
    ...more,
  });

beforeEach(async () => {
  kit = await createKit();
  provider = await fakeProvider();
  members = new Map();
  trouble = () => undefined;
  provider.answers(({ line, body }) => {
    const [method, path] = line.split(' ') as [string, string];
    const account = Number(path.split('/').at(-1));
    if (method === 'PUT') members.set(account, JSON.parse(body));
    if (method === 'DELETE') members.delete(account);
    if (method !== 'GET') return { status: 204 };
    const status = trouble(account);
    if (status !== undefined) return { status };
    const found = members.get(account);
    return found === undefined ? { status: 404 } : { status: 200, body: found };
  });
});
afterEach(async () => {
  await kit.close();
  await provider.close();
});

/** Accounts as quickly as they can be made. */
const people = (count: number): Promise<number[]> =>
  transaction(kit.ctx, async (ctx) => {
    const ids: number[] = [];
    for (let index = 1; index <= count; index += 1)
      ids.push(
        await createAccount(ctx, {
          email: `member${index}@example.com`,
          password: null,
          language_code: 'en',
          first_name: `Ada ${index}`,
          last_name: 'Yılmaz',
        }),
      );
    return ids;
  });

/** Delivers until nothing is left to deliver. */
async function deliver(): Promise<void> {
  for (;;) {
    const { noticed, planned } = await dispatchLoyalty(kit.ctx);
    if (noticed === 0 && planned === 0) return;
    await kit.jobs();
  }
}

interface Swept extends Sweep {
  readonly findings: Finding[];
  readonly notes: string[];
}

/** A sweep in which nobody really waits: the clock of the service is moved instead. */
async function sweep(options: Partial<SweepOptions> = {}): Promise<Swept> {
  const findings: Finding[] = [];
  const notes: string[] = [];
  const result = await reconcile(kit.ctx, {
    takeOver,
    found: (finding) => void findings.push(finding),
    note: (sentence) => void notes.push(sentence),
    wait: async (milliseconds) => kit.advance(milliseconds),
    ...options,
  });
  if ('cannot' in result) throw new Error(result.cannot);
  return { ...result, findings, notes };
}

const finding = (account: number, what: Partial<Finding>): Finding => ({
  account,
  kind: 'differs',
  fields: [],
  taken: [],
  left: [],
  reason: null,
  ...what,
});

/** Lines of one method that the provider was asked, since it was last forgotten what it was asked. */
const asked = (method: string): string[] =>
  provider.asked.filter(({ line }) => line.startsWith(`${method} `)).map(({ line }) => line);

const standing = (account: number): Promise<{ status: string }[]> =>
  kit.rows('select status from loyalty_member where account = $1', account);

describe('reconcile', () => {
  test('finds nothing where the provider has what it should: it is only looked at', async () => {
    await connect();
    const ids = await people(3);
    await deliver();
    provider.asked.length = 0;
    expect(await sweep()).toMatchObject({
      connector: 'http',
      truth: 'assent',
      dry_run: false,
      resumed_after: null,
      after: ids.at(-1),
      finished: true,
      stopped: null,
      compared: 3,
      equal: 3,
      differing: 0,
      repaired: 0,
      waiting: 0,
      parked: 0,
      failed: 0,
      findings: [],
      notes: [],
    });
    expect(provider.asked.map(({ line }) => line).sort()).toEqual(ids.map((id) => `GET /members/${id}`));
    expect(await dispatchLoyalty(kit.ctx)).toEqual({ noticed: 0, planned: 0 });
    expect(
      await kit.rows('select after, compared, repaired, failed, finished_at is not null as done from loyalty_sweep'),
    ).toEqual([{ after: ids.at(-1), compared: 3, repaired: 0, failed: 0, done: true }]);
  });

  test('accounts from before the connector: those the provider has already are noted, the others are sent', async () => {
    const [known, unknown] = await people(2);
    await connect();
    members.set(known!, {
      first_name: 'Ada 1',
      last_name: 'Yılmaz',
      gender: null,
      born: null,
      mail: 'member1@example.com',
      sms: false,
    });
    expect(await sweep()).toMatchObject({
      compared: 2,
      equal: 1,
      repaired: 1,
      findings: [finding(unknown!, { kind: 'unknown' })],
    });
    expect(await standing(known!)).toEqual([{ status: 'settled' }]);
    await deliver();
    expect(asked('PUT')).toEqual([`PUT /members/${unknown}`]);
    expect(members.get(unknown!)).toMatchObject({ first_name: 'Ada 2', mail: 'member2@example.com' });
    // A change of the one that was only noted goes out as any other.
    await kit.rows("update account set last_name = 'Kaya' where id = $1", known);
    await deliver();
    expect(members.get(known!)).toMatchObject({ last_name: 'Kaya' });
  });

  test('a member that the provider lost is made again', async () => {
    await connect();
    const [lost] = await people(2);
    await deliver();
    const before = members.get(lost!);
    members.delete(lost!);
    expect(await sweep()).toMatchObject({
      equal: 1,
      differing: 1,
      repaired: 1,
      findings: [finding(lost!, { kind: 'unknown' })],
    });
    await deliver();
    expect(members.get(lost!)).toEqual(before);
    expect(await sweep()).toMatchObject({ equal: 2, differing: 0 });
  });

  test('old content at the provider is replaced, although what we wrote down says that all is delivered', async () => {
    await connect();
    const [id] = await people(1);
    await deliver();
    const [before] = await kit.rows('select delivered_sum, status from loyalty_member');
    members.set(id!, { ...members.get(id!), last_name: 'Demir', mail: 'old@example.com' });
    expect(await sweep()).toMatchObject({
      repaired: 1,
      taken_over: 0,
      findings: [finding(id!, { fields: ['email', 'last_name'] })],
    });
    await deliver();
    expect(members.get(id!)).toMatchObject({ last_name: 'Yılmaz', mail: 'member1@example.com' });
    expect(await kit.rows('select delivered_sum, status from loyalty_member')).toEqual([before]);
    expect(await kit.rows('select last_name, version from account')).toEqual([{ last_name: 'Yılmaz', version: 1 }]);
  });

  test('accounts that were erased here and not there are forgotten, also where nothing says that the provider was told', async () => {
    await connect();
    const [gone, silent, stays] = await people(3);
    await deliver();
    await kit.owner('delete from account where id = any ($1)', [gone, silent]);
    // As if it had never been noticed.
    await kit.owner('delete from loyalty_mark');
    await kit.rows('update loyalty_member set connector = null, delivered_sum = null where account = $1', silent);
    expect(await sweep()).toMatchObject({
      compared: 3,
      equal: 1,
      findings: [finding(gone!, { kind: 'erased' }), finding(silent!, { kind: 'erased' })],
    });
    await deliver();
    expect([...members.keys()]).toEqual([stays]);
    expect(await kit.rows('select account from loyalty_member')).toEqual([{ account: stays }]);
  });

  test('direction provider: names, gender and birth date come into the profile, addresses and consents go out again', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp({ sms_allowed: false });
    await deliver();
    members.set(ada.id, {
      first_name: 'Augusta',
      last_name: 'Yılmaz',
      gender: 'female',
      born: '1990-12-10',
      mail: 'theirs@example.com',
      sms: true,
    });
    expect(await sweep()).toMatchObject({
      truth: 'provider',
      differing: 1,
      repaired: 1,
      taken_over: 1,
      left: 0,
      findings: [
        finding(ada.id, {
          fields: ['consents.sms', 'date_of_birth', 'email', 'first_name', 'gender'],
          taken: ['first_name', 'gender', 'date_of_birth'],
        }),
      ],
    });
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({
      email: ada.email,
      first_name: 'Augusta',
      last_name: 'Yılmaz',
      gender: 'female',
      date_of_birth: '1990-12-10',
      sms_allowed: false,
    });
    await deliver();
    expect(members.get(ada.id)).toEqual({
      first_name: 'Augusta',
      last_name: 'Yılmaz',
      gender: 'female',
      born: '1990-12-10',
      mail: ada.email,
      sms: false,
    });
    expect(await kit.rows("select 1 from consent_event where source = 'system'")).toEqual([]);
  });

  test('direction provider: where nothing is left to send, nothing is sent', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp();
    await deliver();
    members.set(ada.id, { ...members.get(ada.id), first_name: 'Augusta' });
    provider.asked.length = 0;
    expect(await sweep()).toMatchObject({ repaired: 1, taken_over: 1 });
    await deliver();
    expect(asked('PUT')).toEqual([]);
    expect(await standing(ada.id)).toEqual([{ status: 'settled' }]);
  });

  test('direction provider: what no profile may have is left, and ours is sent', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp();
    await deliver();
    const before = members.get(ada.id);
    members.set(ada.id, {
      ...before,
      first_name: 'A'.repeat(51),
      last_name: 'De\u0000mir',
      gender: 'f',
      born: '2001-02-30',
    });
    expect(await sweep()).toMatchObject({
      repaired: 1,
      taken_over: 0,
      left: 1,
      findings: [
        finding(ada.id, {
          fields: ['date_of_birth', 'first_name', 'gender', 'last_name'],
          left: ['first_name', 'last_name', 'gender', 'date_of_birth'],
        }),
      ],
    });
    await deliver();
    expect(members.get(ada.id)).toEqual(before);
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({
      first_name: 'Ada',
      last_name: 'Yılmaz',
      gender: null,
      date_of_birth: null,
    });
    // One that passes is taken all the same; a name is not taken away.
    members.set(ada.id, { ...before, first_name: ' Augusta ', last_name: null });
    expect(await sweep()).toMatchObject({
      taken_over: 1,
      left: 1,
      findings: [finding(ada.id, { fields: ['first_name', 'last_name'], taken: ['first_name'], left: ['last_name'] })],
    });
    await deliver();
    expect(members.get(ada.id)).toMatchObject({ first_name: 'Augusta', last_name: 'Yılmaz' });
  });

  test('direction provider: a customer who changes the profile in that moment has the last word', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp();
    await deliver();
    members.set(ada.id, { ...members.get(ada.id), first_name: 'Augusta' });
    const swept = await sweep({
      async takeOver(...all) {
        await ada.send('PATCH', '/users/profile/', { body: { first_name: 'Adelheid' } });
        return takeOver(...all);
      },
    });
    expect(swept).toMatchObject({ compared: 0, taken_over: 0, waiting: 1, findings: [] });
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({ first_name: 'Adelheid' });
    await deliver();
    expect(members.get(ada.id)).toMatchObject({ first_name: 'Adelheid' });
  });

  test('direction provider: what was changed and delivered after the provider was asked is not taken back', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp();
    await people(1);
    await deliver();
    members.set(ada.id, { ...members.get(ada.id), first_name: 'Augusta' });
    let heard = (): void => {};
    const asking = new Promise<void>((done) => {
      heard = done;
    });
    trouble = (account) => void (account === ada.id && heard());
    let changed: Promise<void> | undefined;
    const swept = await sweep({
      // The second account has to wait for its turn.
      wait: () => {
        changed ??= asking.then(async () => {
          await ada.send('PATCH', '/users/profile/', { body: { first_name: 'Adelheid' } });
          await deliver();
        });
        return changed;
      },
    });
    expect(swept).toMatchObject({ compared: 1, equal: 1, waiting: 1, taken_over: 0, findings: [] });
    expect(members.get(ada.id)).toMatchObject({ first_name: 'Adelheid' });
    expect((await ada.send('GET', '/users/profile/')).body).toMatchObject({ first_name: 'Adelheid' });
    expect(await standing(ada.id)).toEqual([{ status: 'settled' }]);
  });

  test('direction provider: an account that is switched off is not changed, and ours is sent', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const [id] = await people(1);
    await kit.rows('update account set is_active = false where id = $1', id);
    await deliver();
    const before = members.get(id!);
    members.set(id!, { ...before, first_name: 'Augusta' });
    expect(await sweep()).toMatchObject({ repaired: 1, taken_over: 0 });
    await deliver();
    expect(members.get(id!)).toEqual(before);
  });

  test('an earlier request that may still arrive is waited for: what the provider shows until then says nothing', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp();
    await deliver();
    members.set(ada.id, { ...members.get(ada.id), first_name: 'Augusta' });
    await kit.rows('update loyalty_member set check_at = $1', kit.ctx.clock.now());
    expect(await sweep()).toMatchObject({ compared: 0, waiting: 1, taken_over: 0 });
    await deliver();
    expect(members.get(ada.id)).toMatchObject({ first_name: 'Ada' });
  });

  test('it ends when the connection is changed meanwhile: another provider is another sweep', async () => {
    await connect();
    const ids = await people(60);
    await deliver();
    let changed: Promise<void> | undefined;
    const wait = (milliseconds: number): Promise<void> => {
      kit.advance(milliseconds);
      changed ??= connect({ url: `${provider.base}/others/{account}` });
      return changed;
    };
    expect(await sweep({ wait })).toMatchObject({
      finished: false,
      stopped: 'the connector was changed meanwhile',
      after: ids[39],
    });
    expect(await sweep({ dryRun: true })).toMatchObject({ compared: 60, finished: true });
    expect(await sweep()).toMatchObject({ resumed_after: null, compared: 60, finished: true });
    expect(
      await kit.rows('select after, finished_at is not null as done from loyalty_sweep order by started_at'),
    ).toEqual([
      { after: ids[39], done: false },
      { after: ids[59], done: true },
    ]);
  });

  test('what waits is no drift; what is parked is named, and sent again only when that is asked for', async () => {
    await connect();
    const [noticed, waits, parked] = await people(3);
    await deliver();
    members.clear();
    await kit.rows("update account set last_name = 'Kaya' where id = $1", noticed);
    await kit.rows("update loyalty_member set status = 'waiting', waiting_since = now() where account = $1", waits);
    await kit.rows("update loyalty_member set status = 'parked', reason = 'HTTP 422' where account = $1", parked);
    provider.asked.length = 0;
    expect(await sweep()).toMatchObject({
      compared: 0,
      waiting: 2,
      parked: 1,
      repaired: 0,
      findings: [finding(parked!, { kind: 'parked' })],
    });
    expect(provider.asked).toEqual([]);
    expect(await standing(parked!)).toEqual([{ status: 'parked' }]);
    expect(await sweep({ parked: true })).toMatchObject({
      compared: 1,
      waiting: 2,
      parked: 0,
      repaired: 1,
      findings: [finding(parked!, { kind: 'unknown' })],
    });
    expect(await standing(parked!)).toEqual([{ status: 'waiting' }]);
    await deliver();
    expect(members.size).toBe(2);
    expect(members.has(parked!)).toBe(true);
  });

  test('a provider that goes down is waited for some minutes, and the next sweep goes on where this one stopped', async () => {
    await connect();
    const ids = await people(90);
    await kit.owner('delete from loyalty_mark');
    for (const [index, id] of ids.entries())
      members.set(id, {
        first_name: `Ada ${index + 1}`,
        last_name: 'Yılmaz',
        gender: null,
        born: null,
        mail: `member${index + 1}@example.com`,
        sms: false,
      });
    members.delete(ids[84]!);
    let answered = 0;
    trouble = (account) => {
      if (account > ids[49]! || answered === 50) return 503;
      answered += 1;
      return undefined;
    };
    const began = kit.ctx.clock.now().getTime();
    const first = await sweep();
    expect(first).toMatchObject({
      finished: false,
      stopped: 'the provider gives no answer (HTTP 503)',
      after: ids[49],
      compared: 50,
      equal: 50,
      failed: 0,
      notes: ['The provider is not to be asked now (HTTP 503): waiting.'],
    });
    const waited = (kit.ctx.clock.now().getTime() - began) / 1000;
    expect(waited).toBeGreaterThan(300);
    expect(waited).toBeLessThan(360);
    expect(await kit.rows('select after, compared, finished_at from loyalty_sweep')).toEqual([
      { after: ids[49], compared: 50, finished_at: null },
    ]);
    trouble = () => undefined;
    provider.asked.length = 0;
    const { notes, ...second } = await sweep();
    expect(second).toMatchObject({ resumed_after: ids[49], finished: true, compared: 40, equal: 39, repaired: 1 });
    expect(notes).toEqual([
      expect.stringMatching(new RegExp(`^Going on after account ${ids[49]}: the sweep of \\S+Z did not finish\\.$`)),
    ]);
    expect(asked('GET').sort()).toEqual(
      ids
        .slice(50)
        .map((id) => `GET /members/${id}`)
        .sort(),
    );
    expect(
      await kit.rows('select after, compared, repaired, finished_at is not null as done from loyalty_sweep'),
    ).toEqual([{ after: ids[89], compared: 90, repaired: 1, done: true }]);
    // That one finished: the next is a new one.
    expect(await sweep()).toMatchObject({ resumed_after: null, compared: 89, equal: 89, waiting: 1 });
  });

  test('one that was stopped keeps its place; restart begins anew, one account and a dry run know no place', async () => {
    await connect();
    const ids = await people(60);
    await deliver();
    const stop = new AbortController();
    const stopped = await sweep({ signal: stop.signal, progress: () => stop.abort() });
    expect(stopped).toMatchObject({ finished: false, stopped: 'interrupted', after: ids[39], compared: 40 });
    const place = await kit.rows('select * from loyalty_sweep');
    expect(await sweep({ account: ids[0]! })).toMatchObject({ compared: 1, after: ids[0], finished: true });
    expect(await sweep({ dryRun: true })).toMatchObject({ compared: 60, resumed_after: null });
    expect(await kit.rows('select * from loyalty_sweep')).toEqual(place);
    expect(await sweep({ restart: true })).toMatchObject({ compared: 60, resumed_after: null, notes: [] });
  });

  test('an open breaker is respected: nobody is asked until it may be', async () => {
    await connect();
    await people(1);
    await deliver();
    const until = new Date(kit.ctx.clock.now().getTime() + 60_000);
    await kit.rows(
      `insert into loyalty_breaker (connector, failures, opened_at, open_until, reason) values ('http', 5, $1, $2, 'HTTP 500')
       on conflict (connector) do update set failures = 5, opened_at = $1, open_until = $2, reason = 'HTTP 500'`,
      kit.ctx.clock.now(),
      until,
    );
    provider.asked.length = 0;
    const askedAt: Date[] = [];
    trouble = () => void askedAt.push(kit.ctx.clock.now());
    expect(await sweep()).toMatchObject({
      equal: 1,
      notes: ['The provider is not to be asked now (HTTP 500): waiting.'],
    });
    expect(askedAt).toHaveLength(1);
    expect(askedAt[0]!.getTime()).toBeGreaterThanOrEqual(until.getTime());
  });

  test('an account that alone gets no answer holds up nobody', async () => {
    await connect();
    const [bad] = await people(3);
    await deliver();
    trouble = (account) => (account === bad ? 500 : undefined);
    provider.asked.length = 0;
    expect(await sweep()).toMatchObject({
      finished: true,
      compared: 2,
      equal: 2,
      failed: 1,
      findings: [finding(bad!, { kind: 'failed', reason: 'HTTP 500' })],
    });
    expect(asked('GET').filter((line) => line === `GET /members/${bad}`)).toHaveLength(5);
    expect(await standing(bad!)).toEqual([{ status: 'settled' }]);
  });

  test('a dry run says what it would do, and changes nothing', async () => {
    await connect();
    await kit.set('LOYALTY_TRUTH', 'provider');
    const ada = await kit.signUp();
    const [lost] = await people(1);
    await deliver();
    members.set(ada.id, { ...members.get(ada.id), first_name: 'Augusta', gender: 'f' });
    members.delete(lost!);
    const state = (): Promise<unknown[]> =>
      Promise.all([
        kit.rows('select * from loyalty_member order by account'),
        kit.rows('select * from loyalty_mark'),
        kit.rows('select * from loyalty_sweep'),
        kit.rows('select id, first_name, version from account order by id'),
      ]);
    const before = await state();
    expect(await sweep({ dryRun: true })).toMatchObject({
      dry_run: true,
      finished: true,
      compared: 2,
      differing: 2,
      repaired: 0,
      findings: [
        finding(ada.id, { fields: ['first_name', 'gender'], taken: ['first_name'], left: ['gender'] }),
        finding(lost!, { kind: 'unknown' }),
      ],
    });
    expect(await state()).toEqual(before);
  });

  test('what changed while no connector was set is pointed out until a sweep that began afterwards has finished', async () => {
    await connect();
    const ids = await people(41);
    await deliver();
    const missing = async (): Promise<unknown[]> => {
      const details = (await loyaltyFindings(kit.ctx)).map(({ detail }) => detail);
      return [(await loyaltyStatus(kit.ctx)).not_followed, details.filter((detail) => detail.includes('not followed'))];
    };
    expect(await missing()).toEqual([null, []]);
    // One that was begun before says nothing about what is changed now.
    await sweep();
    const stop = new AbortController();
    await sweep({ signal: stop.signal, progress: () => stop.abort() });
    kit.advance(1000);
    await kit.set('CUSTOMER_LOYALTY_CARD_SERVICE', { connector: 'none' });
    const from = kit.ctx.clock.now().toISOString().slice(0, 16);
    kit.advance(60_000);
    await kit.rows("update account set last_name = 'Kaya' where id = $1", ids[0]);
    expect(await missing()).toEqual([null, []]);
    await connect();
    const to = kit.ctx.clock.now().toISOString().slice(0, 16);
    kit.advance(1000);
    await deliver();
    expect(members.get(ids[0]!)).toMatchObject({ last_name: 'Yılmaz' });
    const [gap, [detail]] = (await missing()) as [{ from: string; to: string }, string[]];
    expect([gap.from.slice(0, 16), gap.to.slice(0, 16)]).toEqual([from, to]);
    expect(detail).toBe(`changes between ${gap.from} and ${gap.to} were not followed`);
    expect(await sweep({ dryRun: true })).toMatchObject({ differing: 1 });
    expect((await missing())[0]).toEqual(gap);
    // It does not go on behind accounts that changed since.
    expect(await sweep()).toMatchObject({ resumed_after: null, differing: 1, repaired: 1, finished: true });
    await deliver();
    expect(members.get(ids[0]!)).toMatchObject({ last_name: 'Kaya' });
    expect(await missing()).toEqual([null, []]);
  });

  test('of two at once the second is not begun; a dry run may look beside it', async () => {
    await connect();
    await people(2);
    await deliver();
    const twin = await kit.twin();
    let open = (): void => {};
    const gate = new Promise<void>((done) => {
      open = done;
    });
    let came = (): void => {};
    const waiting = new Promise<void>((done) => {
      came = done;
    });
    const first = sweep({
      wait: () => {
        came();
        return gate;
      },
    });
    await waiting;
    const wait = async (milliseconds: number): Promise<void> => kit.advance(milliseconds);
    expect(await reconcile(twin.ctx, { takeOver, wait })).toEqual({ cannot: 'A sweep is running already.' });
    expect(await reconcile(twin.ctx, { takeOver, wait, dryRun: true })).toMatchObject({ compared: 2, finished: true });
    open();
    expect(await first).toMatchObject({ compared: 2, finished: true });
    expect(await reconcile(twin.ctx, { takeOver, wait })).toMatchObject({ compared: 2, finished: true });
  });

  test('without a connector, or with one that cannot be asked, it says so', async () => {
    expect(await reconcile(kit.ctx, { takeOver })).toEqual({
      cannot: 'No loyalty connector is configured: there is nobody to compare with.',
    });
    await connect({ read: 'none' });
    expect(await reconcile(kit.ctx, { takeOver })).toEqual({
      cannot: 'The connector http, as it is set, cannot be asked what it has: nothing was compared.',
    });
    expect(provider.asked).toEqual([]);
  });
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function command(args: string[]): { child: ChildProcess; ran: Promise<Ran> } {
  const { host, port, user, password, database } = kit.connection as unknown as Record<string, string>;
  const address = `postgres:///${database}?host=${encodeURIComponent(host!)}&port=${port}&user=${user}${password ? `&password=${password}` : ''}`;
  const env = {
    PATH: process.env['PATH'],
    DATABASE_URL: address,
    SECRET_KEY: 'a secret key of the tests, and of nothing else',
  };
  let ended: (ran: Ran) => void;
  const ran = new Promise<Ran>((done) => {
    ended = done;
  });
  const child = execFile(
    process.execPath,
    ['src/main.ts', 'loyalty', 'reconcile', ...args],
    { env },
    (error, out, err) => ended({ code: error === null ? 0 : Number(error.code), out, err }),
  );
  return { child, ran };
}
const assent = (...args: string[]): Promise<Ran> => command(args).ran;

describe('assent loyalty reconcile', () => {
  test('names accounts and fields on stdout, sums up on stderr, and no value of a person in either', async () => {
    await connect();
    const [changed, lost] = await people(3);
    await deliver();
    members.set(changed!, { ...members.get(changed!), last_name: 'Demir', mail: 'old@example.com' });
    members.delete(lost!);
    const dry = await assent('--dry-run', '--json');
    expect(dry).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(dry.out)).toEqual({
      connector: 'http',
      truth: 'assent',
      dry_run: true,
      resumed_after: null,
      after: expect.any(Number),
      finished: true,
      stopped: null,
      compared: 3,
      equal: 1,
      differing: 2,
      repaired: 0,
      taken_over: 0,
      left: 0,
      waiting: 0,
      parked: 0,
      failed: 0,
      seconds: expect.any(Number),
      findings: [finding(changed!, { fields: ['email', 'last_name'] }), finding(lost!, { kind: 'unknown' })],
      more_findings: 0,
    });
    const { code, out, err } = await assent();
    expect([code, out]).toEqual([
      0,
      `${String(changed).padEnd(10)} differs: email, last_name\n${String(lost).padEnd(10)} the provider does not know it\n`,
    ]);
    expect(err.replace(/\d+\.\d s/, 'N s')).toBe(
      [
        'Compared 3 accounts with http in N s.',
        '  equal        1',
        '  differ       2',
        '  repaired     2',
        'What differed is sent by the service, or by assent worker, as all changes are.',
        '',
      ].join('\n'),
    );
    await deliver();
    expect(members.get(changed!)).toMatchObject({ last_name: 'Yılmaz', mail: 'member1@example.com' });
    expect(members.has(lost!)).toBe(true);
    trouble = (account) => (account === lost ? 404 : undefined);
    expect(await assent('--account', String(changed))).toMatchObject({ code: 0, out: '' });
    expect(await assent('--account', '999999')).toMatchObject({
      code: 1,
      err: expect.stringContaining('There is no account 999999, and the provider was told of none.'),
    });
  });

  test('Ctrl-C ends it after the questions under way and keeps the place', async () => {
    await connect();
    const ids = await people(3);
    await deliver();
    provider.asked.length = 0;
    const { child, ran } = command(['--rate', '1']);
    trouble = () => void child.kill('SIGINT');
    const { code, out, err } = await ran;
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/^Ending after the accounts under way …\nCompared 1 accounts with http in /);
    expect(err).toContain(
      `Not finished: interrupted. The same command goes on after account ${ids[0]}, --restart begins anew.\n`,
    );
    expect(asked('GET')).toEqual([`GET /members/${ids[0]}`]);
    trouble = () => undefined;
    const again = await assent('--json');
    expect(again.err).toMatch(new RegExp(`^Going on after account ${ids[0]}: the sweep of `));
    expect(JSON.parse(again.out)).toMatchObject({ resumed_after: ids[0], compared: 2, finished: true });
  });

  test('says what is in its way, with exit code 1', async () => {
    expect(await assent()).toEqual({
      code: 1,
      out: '',
      err: 'No loyalty connector is configured: there is nobody to compare with.\n',
    });
    expect((await assent('--rate', 'fast')).code).toBe(1);
  });
});
