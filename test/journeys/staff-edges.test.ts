/** Rights at their edges: ends, addresses and accounts that change in the same moment, clocks that disagree, and great size. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { againIfTaken } from '../../src/accounts/invitations.ts';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { transaction } from '../../src/platform/ctx.ts';
import { Failure } from '../../src/platform/failure.ts';
import { eraseAccount } from '../../src/privacy/erasure.ts';
import { sweepRights } from '../../src/staff/entries/entries.ts';
import { verifyHistory } from '../../src/staff/history/verify.ts';
import { type Client, createKit, type Kit, type Reply, type Send } from '../kit.ts';

let kit: Kit;
let key: Send;

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', { token: null, login: null, register: null, invite: null });
  key = await kit.apiKey('companies', 'decisions');
});
afterAll(async () => {
  expect(await verifyHistory(kit.ctx)).toMatchObject({ faults: [] });
  await kit.close();
});

interface Place {
  readonly id: number;
  readonly shops: number[];
  readonly moda: number;
  readonly path: string;
  readonly wire: string;
  readonly owner: Client;
}

async function place(count = 1): Promise<Place> {
  const owner = await kit.signUp();
  const names = Array.from({ length: count }, () => ({ en: 'Moda' }));
  const { body } = await key('POST', '/v1/companies', {
    body: { name: { en: 'Bakery' }, owner: owner.email, shops: names },
  });
  const shops = body.shops.map(({ id }: { id: number }) => id) as number[];
  const [path, wire] = [`/v1/companies/${body.id}/entries`, `/company/companies/${body.id}/permissions/users`];
  return { id: body.id, shops, moda: shops[0]!, path, wire, owner };
}

const inSeconds = (seconds: number): string => new Date(kit.ctx.clock.now().getTime() + seconds * 1000).toISOString();
const code = ({ status, body }: Reply): string => `${status} ${body.code}`;

describe('ends', () => {
  test('what is promised after a right ended stays, though nobody had swept', async () => {
    const { path, wire, moda, owner } = await place();
    const send = await kit.bearer(owner.email);
    const { email, id: account } = await kit.signUp();
    const grant = [{ shop: moda, permission: 'products', until: inSeconds(60) }];
    const { body: made } = await key('POST', path, { body: { email, grant } });
    kit.advance(61_000);
    const at = `${wire}/${made.id}`;
    const promised = await send('PATCH', at, { body: { shop_ids: [moda] } });
    expect([promised.status, promised.body.shop_ids]).toEqual([200, [moda]]);
    expect((await send('GET', at)).body.shop_ids).toEqual([moda]);
    await sweepRights(kit.ctx);
    expect((await send('GET', at)).body.shop_ids).toEqual([moda]);
    await send('PATCH', at, { body: { permissions: { products: true } } });
    const asked = { body: { account, shop: moda, permission: 'products' } };
    expect((await key('POST', '/v1/decisions/staff', asked)).body).toMatchObject({ code: 'held', until: null });
  });

  test('a promise, which has no end, is nothing that a right with an end can be turned into', async () => {
    const { path, wire, moda } = await place();
    const { email } = await kit.signUp();
    const grant = ['permissions', 'products'].map((permission) => ({ shop: moda, permission, until: inSeconds(60) }));
    const manager = await key('POST', path, { body: { email, grant } });
    const friend = await key('POST', path, { body: { email: (await kit.signUp()).email } });
    const send = await kit.bearer(email);
    const patch = async ({ body: { id } }: Reply, body: object): Promise<string> =>
      code(await send('PATCH', `${wire}/${id}`, { body }));
    // Without the shop the key alone would be left, and it would let them look and invite for good.
    expect(await patch(manager, { shop_ids: [] })).toBe('403 own_entry');
    expect(await patch(manager, { permissions: { permissions: false, products: false } })).toBe('403 own_entry');
    expect(await patch(friend, { permissions: { permissions: true } })).toBe('403 beyond_own_end');
    expect(await patch(friend, { shop_ids: [moda] })).toBe('403 beyond_own_end');
    const shared = { body: { grant: [{ shop: moda, permission: 'permissions', until: inSeconds(60) }] } };
    expect((await key('PATCH', `${path}/${friend.body.id}`, shared)).status).toBe(200);
    expect(await patch(friend, { shop_ids: [] })).toBe('403 beyond_own_end');
    // To give all of it up is no promise.
    expect(await patch(friend, { shop_ids: [], permissions: { permissions: false } })).toBe('200 undefined');
    kit.advance(61_000);
    expect(code(await send('GET', wire))).toBe('403 missing_permission');
    expect(code(await send('GET', path))).toBe('403 missing_permission');
  });

  test('a time that is none, or past the year 9999, is refused at its place', async () => {
    const { path, moda } = await place();
    const { email } = await kit.signUp();
    const give = (until: string): Promise<Reply> =>
      key('POST', path, { body: { email, grant: [{ shop: moda, permission: 'products', until }] } });
    for (const until of ['2099-02-30T00:00:00Z', '2099-13-01T00:00:00Z', '9999-12-31T23:59:59-23:59']) {
      const { status, body } = await give(until);
      expect([status, body.errors.map(({ pointer, code: why }: Record<string, string>) => [pointer, why])]).toEqual([
        422,
        [['/grant/0/until', 'time']],
      ]);
    }
    const last = await give('9999-12-31T23:59:59.999Z');
    expect([last.status, last.body.rights[0].until]).toEqual([201, '9999-12-31T23:59:59.999Z']);
    const asked = { body: { email, shop: moda, permission: 'products' } };
    expect((await key('POST', '/v1/decisions/staff', asked)).body).toMatchObject({
      code: 'held',
      until: '9999-12-31T23:59:59.999Z',
    });
  });

  test('who could now is asked of all lines, though the clock of another machine was ahead', async () => {
    const { id, path, moda } = await place();
    const { email } = await kit.signUp();
    const { body } = await key('POST', path, { body: { email, grant: [{ shop: moda, permission: 'products' }] } });
    const holders = async (): Promise<string[]> =>
      (await key('GET', `/v1/companies/${id}/access?shop=${moda}&permission=products`)).body.items.map(
        (holder: { as: string }) => holder.as,
      );
    kit.advance(600_000);
    await key('PATCH', `${path}/${body.id}`, { body: { grant: [{ shop: moda, permission: 'holidays' }] } });
    kit.advance(-600_000);
    expect(await holders()).toEqual(['owner', 'entry']);
    expect((await key('DELETE', `${path}/${body.id}`)).status).toBe(204);
    expect(await holders()).toEqual(['owner']);
  });
});

describe('an account that is switched off', () => {
  test('is told as such, and nobody is called to it', async () => {
    const { path } = await place();
    for (const unproven of [false, true]) {
      const { email, id } = await kit.signUp({ unproven });
      await kit.rows('update account set is_active = false where id = $1', id);
      const dry = await key('POST', path, { body: { email }, headers: { 'assent-dry-run': '1' } });
      expect([dry.body.invited, dry.body.after.state]).toEqual([false, 'off']);
      const made = await key('POST', path, { body: { email } });
      expect([made.status, made.body.state, made.body.invitation]).toEqual([201, 'off', null]);
      expect(code(await key('POST', `${path}/${made.body.id}/invitation`))).toBe('409 conflict');
      expect(await kit.rows('select 1 from mail_link where account = $1', id)).toEqual([]);
    }
  });
});

describe('in the same moment', () => {
  test('an account that is erased is not the one that gets the entry', async () => {
    const { path } = await place();
    for (let round = 1; round <= 8; round += 1) {
      const { email, id } = await kit.signUp();
      const [erased, given] = await Promise.all([
        eraseAccount(kit.ctx, id, atTheMachine).then(
          () => 'erased',
          (error: Failure) => error.code,
        ),
        key('POST', path, { body: { email } }),
      ]);
      const state = given.body.account === id ? 'active' : 'invited';
      expect([given.status, given.body.state]).toEqual([201, state]);
      expect(erased).toBe(state === 'active' ? 'still_needed' : 'erased');
    }
  });

  test('an owner becomes known to two companies at once, which are made or change hands', async () => {
    const [here, there] = [await place(), await place()];
    for (let round = 1; round <= 6; round += 1) {
      const owner = `owner${round}@elsewhere.example`;
      const replies = await Promise.all(
        round % 2 === 0
          ? [1, 2].map(() => key('POST', '/v1/companies', { body: { name: { en: 'Both' }, owner } }))
          : [here, there].map(({ id }) => key('PATCH', `/v1/companies/${id}`, { body: { owner } })),
      );
      expect(replies.map(({ status, body }) => [status, body.owner])).toEqual(
        Array(2).fill([round % 2 === 0 ? 201 : 200, owner]),
      );
    }
  });

  test('a verb whose address was taken is tried once more, but not in a transaction, which is lost', async () => {
    let tries = 0;
    const verb = async (): Promise<void> => {
      tries += 1;
      throw new Failure('invalid', { complaints: [{ path: ['email'], key: 'account.email_taken' }] });
    };
    await expect(againIfTaken(kit.ctx, verb)).rejects.toMatchObject({ code: 'invalid' });
    expect(tries).toBe(2);
    await expect(transaction(kit.ctx, (ctx) => againIfTaken(ctx, verb))).rejects.toMatchObject({ code: 'invalid' });
    expect(tries).toBe(3);
  });

  test('one company removes somebody invited while another invites them: the invitation stays', async () => {
    const [here, there] = [await place(), await place()];
    for (let round = 1; round <= 10; round += 1) {
      const body = { email: `between${round}@elsewhere.example` };
      const first = await key('POST', here.path, { body });
      const [removed, given] = await Promise.all([
        key('DELETE', `${here.path}/${first.body.id}`),
        key('POST', there.path, { body }),
      ]);
      expect([removed.status, given.status]).toEqual([204, 201]);
      const { body: entry } = await key('GET', `${there.path}/${given.body.id}`);
      expect([entry.state, entry.invitation === null]).toEqual(['invited', false]);
    }
  });
});

test('with a thousand shops a page ends before it is too large, and pages follow each other', {
  timeout: 60_000,
}, async () => {
  const { id, shops, path } = await place(1000);
  const roles = [{ role: 'manager', shops }];
  const made = [];
  for (let n = 1; n <= 3; n += 1)
    made.push((await key('POST', path, { body: { email: (await kit.signUp()).email, roles } })).body.id);
  /** Ids on each page. */
  const pages = async (of: string, name: string): Promise<number[][]> => {
    const all: number[][] = [];
    for (let after: string | null = ''; after !== null; ) {
      const { body }: Reply = await key('GET', `${of}?limit=500${after === '' ? '' : `&after=${after}`}`);
      all.push(body.items.map((item: Record<string, number>) => item[name]));
      after = body.next;
    }
    return all;
  };
  const [owner] = await kit.rows<{ id: number }>('select min(id)::int as id from entry where company = $1', id);
  expect(await pages(path, 'id')).toEqual([
    [owner!.id, made[0]],
    [made[1], made[2]],
  ]);
  expect(await pages(`/v1/companies/${id}/history`, 'number')).toEqual([
    [8, 7, 6, 5, 4],
    [3, 2, 1],
  ]);
});
