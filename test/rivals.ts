/** Two companies that want each other's rights, for the tests of abuse. */
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { throttleScopes } from '../src/settings.ts';
import { verifyHistory } from '../src/staff/history/verify.ts';
import { type Bakery, openBakery } from './bakery.ts';
import { type Client, createKit, type Kit, PASSWORD, type Reply, type Send } from './kit.ts';

export let kit: Kit;
/** Ours, with two shops, and one of somebody else. */
export let bakery: Bakery;
export let rival: Bakery;
export let rivalEntry: number;
export let key: Send;
/** Their owners' tokens are over. */
let stale = true;
export const advance = (milliseconds: number): void => {
  kit.advance(milliseconds);
  stale = true;
};

/** Two bakeries for a file of tests, and at its end a look at the whole history. */
export function openRivals(): void {
  beforeAll(async () => {
    kit = await createKit();
    await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
    key = await kit.apiKey('companies', 'decisions', 'clients');
  });
  beforeEach(async () => {
    await kit.rows('delete from throttle');
    if (!stale) return;
    bakery = await openBakery(kit, 2);
    rival = await openBakery(kit, 2);
    rivalEntry = await rival.invite((await kit.signUp()).email);
    stale = false;
  });
  afterAll(async () => {
    expect(await verifyHistory(kit.ctx)).toMatchObject({ faults: [] });
    await kit.close();
  });
}

/** Everything that rights hang on. */
const everything = (): Promise<unknown[]> =>
  kit.rows(`select (select jsonb_agg(to_jsonb(e) order by id) from entry e) as entries,
                   (select jsonb_agg(to_jsonb(r) order by entry, shop, permission) from entry_right r) as rights,
                   (select count(*) from staff_event) as lines, (select count(*) from staff_evidence) as evidence,
                   (select jsonb_agg(to_jsonb(c) order by id) from company c) as companies,
                   (select jsonb_agg(to_jsonb(s) order by id) from shop s) as shops,
                   (select jsonb_agg(jsonb_build_object('id', id, 'email', email, 'operator', is_operator, 'active', is_active,
                                                        'proven', email_verified_at, 'password', password) order by id)
                      from account) as accounts,
                   (select jsonb_agg(to_jsonb(l) order by id) from mail_link l) as links,
                   (select count(*) from graphile_worker.jobs) as jobs`);

/** Does something, and checks that nothing came of it. */
export async function inVain<T>(work: () => Promise<T>): Promise<T> {
  const before = await everything();
  const outcome = await work();
  expect(await everything()).toEqual(before);
  return outcome;
}

export const told = ({ status, body }: Reply): [number, string] => [status, body.code];

export interface Colleague extends Client {
  readonly entry: number;
  readonly wire: string;
  readonly v1: string;
  readonly access: Send;
}

export interface Pair {
  readonly shop: number;
  readonly permission: string;
  readonly until?: string;
}

export const entriesOf = ({ id }: Bakery): string => `/v1/companies/${id}/entries`;
export const pairs = (shops: readonly number[], ...permissions: string[]): Pair[] =>
  shops.flatMap((shop) => permissions.map((permission) => ({ shop, permission })));

/** Somebody who works in a bakery. */
export async function hire(where: Bakery, grant: readonly Pair[] = []): Promise<Colleague> {
  const person = await kit.signUp();
  const made = await key('POST', entriesOf(where), { body: { email: person.email, grant } });
  if (made.status !== 201) throw new Error(made.text);
  const entry = made.body.id as number;
  const access = await kit.bearer(person.email);
  return { ...person, entry, access, wire: where.path(entry), v1: `${entriesOf(where)}/${entry}` };
}

export const rightsOf = ({ entry }: { entry: number }): Promise<unknown[]> =>
  kit.rows('select shop, permission, until from entry_right where entry = $1 order by shop, permission', entry);

export const form = (text: string) => ({ form: text });
export const json = (body: unknown) => ({ body });
/** The token of the last link that was mailed to an address. */
export async function linkTo(email: string): Promise<string> {
  await kit.jobs();
  const mail = (await kit.outbox('mail')).filter(({ recipient }) => recipient === email).at(-1);
  return /\/links\/([0-9a-f]{64})/.exec(mail?.body ?? '')?.[1] ?? expect.fail(`no link for ${email}`);
}
export const accept = (token: string, password = PASSWORD): Promise<Reply> =>
  kit.send('POST', `/links/${token}`, form(`new_password1=${password}&new_password2=${password}`));
export const logIn = (email: string, password = PASSWORD): Promise<Reply> =>
  kit.send('POST', '/users/login/', json({ email, password }));
export const grantOf = (email: string, password = PASSWORD): Promise<Reply> =>
  kit.send('POST', '/api/token', json({ grant_type: 'password', client_id: 'kit', username: email, password }));
let addresses = 0;
export const newAddress = (): string => {
  addresses += 1;
  return `invited${addresses}@example.com`;
};
export const family = (): string => bakery.path(0).replace('/0', '');
