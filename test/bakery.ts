/** A company with shops for tests, run by its owner over the wire. */
import { createCompany } from '../src/staff/companies/companies.ts';
import type { Client, Kit, Send } from './kit.ts';

export interface Bakery {
  readonly id: number;
  readonly shops: readonly number[];
  readonly owner: Client;
  readonly ownerEntry: number;
  /** Sends with an access token of the owner. */
  readonly manager: Send;
  /** The path of an entry. */
  path(entry: number): string;
  /** Gives an account an entry; returns its id. */
  invite(email: string): Promise<number>;
  /** Makes an entry hold these permissions in these shops. */
  grant(entry: number, shops: readonly number[], permissions: readonly string[]): Promise<void>;
}

export async function openBakery(kit: Kit, shops: number): Promise<Bakery> {
  const owner = await kit.signUp();
  const company = await createCompany(kit.ctx, {
    name: { en: 'Bakery' },
    owner: owner.email,
    shops: Array.from({ length: shops }, (_, n) => ({ en: `Shop ${n}` })),
    language: 'en',
  });
  const manager = await kit.bearer(owner.email);
  const family = `/company/companies/${company.id}/permissions/users`;
  const expectOk = async (method: string, path: string, body?: object) => {
    const reply = await manager(method, path, body === undefined ? {} : { body });
    if (reply.status !== 200) throw new Error(`${method} ${path} answered ${reply.status}: ${reply.text}`);
    return reply.body;
  };
  const [own] = await expectOk('GET', family);
  return {
    id: company.id,
    shops: company.shops.map(({ id }) => id),
    owner,
    ownerEntry: own.id,
    manager,
    path: (entry) => `${family}/${entry}`,
    invite: async (email) => (await expectOk('POST', family, { email })).id,
    async grant(entry, shop_ids, permissions) {
      await expectOk('PATCH', `${family}/${entry}`, {
        shop_ids,
        permissions: Object.fromEntries(permissions.map((key) => [key, true])),
      });
    },
  };
}

/** An Authorization header with an access token of an account. */
export async function authorization(kit: Kit, email: string, password: string): Promise<{ authorization: string }> {
  // Makes the client of the kit.
  await kit.bearer(email, password);
  const { body } = await kit.send('POST', '/api/token', {
    body: { grant_type: 'password', client_id: 'kit', username: email, password },
  });
  return { authorization: `Bearer ${body.access_token}` };
}
