/** What owners and operators do: entries of colleagues, and settings. */
import type { Answer } from '../http.ts';
import type { Client } from './client.ts';
import { API_KEY } from './demo.ts';
import type * as model from './model.ts';

/** The documented keys, in the documented order. */
const permissionKeys = [
  'company_info',
  'holidays',
  'newsletters',
  'translations',
  'permissions',
  'email_settings',
  'products',
  'shop_info',
  'checkout_settings',
  'time_settings',
  'discounts',
];

const stateOf = (shops: readonly number[], permissions: Readonly<Record<string, boolean>>): string =>
  JSON.stringify([shops, permissionKeys.filter((key) => permissions[key])]);

/** Gives somebody an entry in the client's company. */
export async function hire(client: Client): Promise<void> {
  const { id: company } = client.company;
  // Somebody new: an account that has not proven its address would lose its sign-ins with the invitation.
  const body = { email: client.people[0]!.email.replace('@crash.example', '@colleague.example') };
  const outcome = await client.ask('POST', `/company/companies/${company}/permissions/users`, body, client.owner);
  if (outcome.kind !== 'answer' || outcome.status !== 200) throw new Error(`no entry: ${JSON.stringify(outcome)}`);
  client.entry = { id: outcome.body.id, company, state: stateOf([], {}), version: 1 };
  client.load.book.entries.push(client.entry);
}

/** Changes an entry as a whole, always to something else. */
export async function permit(client: Client, entry: model.Entry): Promise<model.Fate> {
  const { load } = client;
  let shop_ids: number[];
  let permissions: Record<string, boolean>;
  do {
    shop_ids = client.company.shops.filter(() => client.chance(0.5));
    permissions = Object.fromEntries(permissionKeys.map((key) => [key, client.chance(0.5)]));
  } while (stateOf(shop_ids, permissions) === entry.state);
  const next = stateOf(shop_ids, permissions);
  const path = `/company/companies/${entry.company}/permissions/users/${entry.id}`;
  const deed = client.deed(`PATCH ${path} ${next}`);
  const outcome = await client.ask('PATCH', path, { shop_ids, permissions }, client.owner);
  deed.fate = load.judge(outcome, deed, 200);
  const look = ({ body }: Answer): void => {
    const found = stateOf(body.shop_ids, body.permissions);
    if (deed.fate === 'unknown') deed.fate = found === next ? 'done' : 'undone';
    if (deed.fate === 'done') Object.assign(entry, { state: next, version: entry.version + 1 });
    if (found !== entry.state) load.book.fault(`lost: entry ${entry.id} is ${found} instead of ${entry.state}`);
  };
  if (deed.fate === 'done') look(outcome as Answer);
  if (deed.fate === 'unknown') client.wonder('GET', path, client.owner, look);
  return deed.fate;
}

/** Changes a setting nobody else writes, to a value it never had. */
export async function set(client: Client, name: string): Promise<model.Fate> {
  const { load } = client;
  const values = load.book.settings.get(name) ?? [];
  load.book.settings.set(name, values);
  const value = 1_000_000 + client.requests;
  const path = `/v1/settings/${name}`;
  const deed = client.deed(`PUT ${path} ${value}`);
  deed.fate = load.judge(await client.ask('PUT', path, { value }, API_KEY), deed, 200);
  if (deed.fate === 'done') values.push(value);
  if (deed.fate === 'unknown') {
    client.wonder('GET', path, API_KEY, ({ body }) => {
      deed.fate = body.value === value ? 'done' : 'undone';
      if (deed.fate === 'done') values.push(value);
    });
  }
  return deed.fate;
}
