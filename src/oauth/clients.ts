/** Clients: the programs that may ask for tokens. Operators register them; there is no secret, PKCE takes its place. */
import { type Doer, recordOperatorEvent } from '../accounts/operator-events.ts';
import { stillMay } from '../accounts/operators.ts';
import type { Ctx } from '../platform/ctx.ts';
import { transaction } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import { Failure, fail, refuse } from '../platform/failure.ts';
import { randomKey } from '../platform/keys.ts';
import { mayRedirectTo } from './redirects.ts';

/** What an id can be: it is part of paths and forms. */
export const CLIENT_ID = '^[A-Za-z0-9._~-]{1,100}$';

export interface Client {
  readonly id: string;
  readonly name: string;
  readonly redirect_uris: string[];
  /** The shop's own program: people are not asked whether it may act for them. */
  readonly first_party: boolean;
  /** It may exchange names and passwords for tokens. */
  readonly password_grant: boolean;
  readonly created_at: Date;
  readonly disabled_at: Date | null;
}

export interface ClientChange {
  readonly name?: string;
  readonly redirect_uris?: readonly string[];
  readonly first_party?: boolean;
  readonly password_grant?: boolean;
  readonly disabled?: boolean;
}

function checkRedirects(uris: readonly string[]): void {
  const wrong = uris.flatMap((uri, index) => (mayRedirectTo(uri) ? [] : [index]));
  if (wrong.length > 0) refuse(...wrong.map((index) => ({ path: ['redirect_uris', index], key: 'client.redirect' })));
}

/** What the history says of a client. */
const told = ({ name, redirect_uris, first_party, password_grant, disabled_at }: Client): Record<string, unknown> => ({
  name,
  redirect_uris,
  first_party,
  password_grant,
  disabled: disabled_at !== null,
});

/** What a change made of a client; undefined when it is as it was. */
function difference(before: Client, after: Client): Record<'before' | 'after', object> | undefined {
  const [had, has] = [told(before), told(after)];
  const names = Object.keys(has).filter((name) => JSON.stringify(had[name]) !== JSON.stringify(has[name]));
  const of = (all: Record<string, unknown>): object => Object.fromEntries(names.map((name) => [name, all[name]]));
  return names.length === 0 ? undefined : { before: of(had), after: of(has) };
}

/**
 * Registers a client.
 * @param client absent `id`: a random one
 * @param by who does it, for the history
 * @throws invalid: a redirect address that cannot be; conflict: the id is taken; not_authenticated for a doer who may not any more
 */
export async function createClient(
  ctx: Ctx,
  client: Omit<ClientChange, 'disabled'> & { readonly id?: string; readonly name: string },
  by: Doer,
): Promise<Client> {
  const { id = randomKey(40), name, redirect_uris = [], first_party = false, password_grant = false } = client;
  if (!new RegExp(CLIENT_ID).test(id)) refuse({ path: ['id'], key: 'client.id' });
  checkRedirects(redirect_uris);
  try {
    return await transaction(ctx, async (tx) => {
      await stillMay(tx, by);
      await tx.db.run(sql`
        insert into oauth_client (id, name, redirect_uris, first_party, password_grant, created_at)
        values (${id}, ${name}, ${[...new Set(redirect_uris)]}::text[], ${first_party}, ${password_grant}, ${tx.clock.now()})`);
      const made = await readClient(tx, id);
      await recordOperatorEvent(tx, by, { kind: 'client_made', subject: id, detail: { after: told(made) } });
      return made;
    });
  } catch (error) {
    if (violated(error) !== 'oauth_client_pkey') throw error;
    throw new Failure('conflict', { complaints: [{ path: ['id'], key: 'client.taken', values: { id } }] });
  }
}

/** A page of clients in the order of their ids. @param after the last id of the page before */
export async function listClients(
  ctx: Ctx,
  { after, limit }: { after?: string | undefined; limit: number },
): Promise<{ items: Client[]; next: string | null }> {
  const rows = await ctx.db.rows<Client>(sql`
    select id, name, redirect_uris, first_party, password_grant, created_at, disabled_at from oauth_client
     where ${after ?? null}::text is null or id > ${after ?? null} order by id limit ${limit + 1}`);
  const items = rows.slice(0, limit);
  return { items, next: rows.length > limit ? items.at(-1)!.id : null };
}

const find = (ctx: Ctx, id: string): Promise<Client | undefined> =>
  ctx.db.one<Client>(sql`
    select id, name, redirect_uris, first_party, password_grant, created_at, disabled_at from oauth_client where id = ${id}`);

/** @throws not_found */
export const readClient = async (ctx: Ctx, id: string): Promise<Client> => (await find(ctx, id)) ?? fail('not_found');

/** The client of this id, unless it is disabled; undefined otherwise. */
export async function usableClient(ctx: Ctx, id: string): Promise<Client | undefined> {
  const client = await find(ctx, id);
  return client?.disabled_at === null ? client : undefined;
}

/**
 * Changes what is given. Disabling ends every token of the client, and codes under way, in the same transaction; enabling
 * brings none back.
 * @param by who does it, for the history
 * @throws not_found; invalid: a redirect address that cannot be; not_authenticated for a doer who may not any more
 */
export function changeClient(ctx: Ctx, id: string, change: ClientChange, by: Doer): Promise<Client> {
  const { name, redirect_uris, first_party, password_grant, disabled } = change;
  checkRedirects(redirect_uris ?? []);
  return transaction(ctx, async (tx) => {
    await stillMay(tx, by);
    // Whoever gives tokens holds this row for share: they come before, and end here, or come after and see it.
    await tx.db.run(sql`select from oauth_client where id = ${id} for no key update`);
    const before = await readClient(tx, id);
    await tx.db.run(sql`
      update oauth_client
         set name = coalesce(${name ?? null}, name),
             redirect_uris = coalesce(${redirect_uris === undefined ? null : [...new Set(redirect_uris)]}::text[], redirect_uris),
             first_party = coalesce(${first_party ?? null}, first_party),
             password_grant = coalesce(${password_grant ?? null}, password_grant),
             disabled_at = case ${disabled ?? null}::boolean when true then coalesce(disabled_at, ${tx.clock.now()})
                                                             when false then null else disabled_at end
       where id = ${id}`);
    // A code may be on its way to an address that was taken off because it is in wrong hands.
    if (disabled === true || redirect_uris !== undefined)
      await tx.db.run(sql`delete from authorization_code where client = ${id} and used_at is null`);
    if (disabled === true)
      await tx.db.run(sql`delete from session where client = ${id} and kind in ('access', 'refresh')`);
    const after = await readClient(tx, id);
    const detail = difference(before, after);
    if (detail !== undefined) await recordOperatorEvent(tx, by, { kind: 'client_changed', subject: id, detail });
    return after;
  });
}

/**
 * Holds a client as it is until the transaction ends. After the account, before any token: everybody locks in this order.
 * @throws invalid_client when it is unknown or disabled
 */
export async function holdClient(tx: Ctx, id: string): Promise<void> {
  const held = await tx.db.one(sql`select id from oauth_client where id = ${id} and disabled_at is null for share`);
  if (held === undefined) fail('invalid_client');
}
