/** API keys: programs call with them. A key is shown once and kept as a hash; one that is revoked stays as a row, histories name it. */
import { type Doer, recordOperatorEvent } from '../accounts/operator-events.ts';
import { holdOperators, stillMay } from '../accounts/operators.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import { Failure, fail } from '../platform/failure.ts';
import { randomKey, sha256 } from '../platform/keys.ts';

export interface ApiKey {
  readonly id: number;
  /** Of the keys that work no two have the same. */
  readonly name: string;
  /** Of `apiScopes`, or `*`. */
  readonly scopes: string[];
  readonly created_at: Date;
  /** `operator:7` or `command`. */
  readonly created_by: string;
  readonly revoked_at: Date | null;
}

/**
 * Makes an API key.
 * @param wish `scopes` of `apiScopes`, or `*`; `key` to choose it, for the demo
 * @returns the key itself, which nobody can read again
 * @throws conflict: a key that works has the name; not_authenticated for an operator who was switched off meanwhile
 */
export async function createApiKey(
  ctx: Ctx,
  { name, scopes, key = `assent_${randomKey()}` }: { name: string; scopes: readonly string[]; key?: string },
  by: Doer,
): Promise<ApiKey & { readonly key: string }> {
  try {
    return await transaction(ctx, async (tx) => {
      // A key outlives the sign-in it was made with: whoever is being switched off makes none any more.
      await stillMay(tx, by);
      const made = await tx.db.one<ApiKey>(sql`
        insert into api_key (name, key_hash, scopes, created_at, created_by)
        values (${name}, ${sha256(key)}, ${[...new Set(scopes)]}::text[], ${tx.clock.now()}, ${by.name})
        returning id, name, scopes, created_at, created_by, revoked_at`);
      const detail = { after: { key: made!.id, scopes: made!.scopes } };
      await recordOperatorEvent(tx, by, { kind: 'key_made', subject: name, detail });
      return { ...made!, key };
    });
  } catch (error) {
    if (violated(error) !== 'api_key_name') throw error;
    throw new Failure('conflict', { complaints: [{ path: ['name'], key: 'key.taken', values: { name } }] });
  }
}

/** A page of keys, newest first, revoked ones too. @param page `after`: the last id of the page before */
export async function listApiKeys(
  ctx: Ctx,
  { after = null, limit }: { after?: number | null; limit: number },
): Promise<{ items: ApiKey[]; next: string | null }> {
  const rows = await ctx.db.rows<ApiKey>(sql`
    select id, name, scopes, created_at, created_by, revoked_at from api_key
     where ${after}::bigint is null or id < ${after} order by id desc limit ${limit + 1}`);
  const items = rows.slice(0, limit);
  return { items, next: rows.length > limit ? String(items.at(-1)!.id) : null };
}

/** The id of the key of this name that works; undefined when there is none. */
export const workingKey = async (ctx: Ctx, name: string): Promise<number | undefined> =>
  (await ctx.db.one<{ id: number }>(sql`select id from api_key where name = ${name} and revoked_at is null`))?.id;

/** A key by what people know it by. */
export type MadeKey = Pick<ApiKey, 'id' | 'name'>;

/** Keys that an operator made and that work, in the order of their ids: they outlive the role and the account. */
export const keysMadeBy = (ctx: Ctx, account: number): Promise<MadeKey[]> =>
  ctx.db.rows<MadeKey>(sql`
    select id, name from api_key where created_by = ${`operator:${account}`} and revoked_at is null order by id`);

/**
 * Revokes a key for good: every request reads it afresh, so that no process takes it from now on. Its name is free again.
 * @returns whether it worked until now; otherwise nothing is written
 * @throws not_found; not_authenticated for a doer who may not any more, a key that was revoked itself
 */
export function revokeApiKey(root: Ctx, id: number, by: Doer): Promise<boolean> {
  return transaction(root, async (tx) => {
    await holdOperators(tx);
    await stillMay(tx, by);
    const revoked = await tx.db.one<Pick<ApiKey, 'name' | 'scopes'>>(sql`
      update api_key set revoked_at = ${tx.clock.now()} where id = ${id} and revoked_at is null returning name, scopes`);
    if (revoked === undefined) {
      if ((await tx.db.one(sql`select from api_key where id = ${id}`)) === undefined) fail('not_found');
      return false;
    }
    const { name, scopes } = revoked;
    await recordOperatorEvent(tx, by, {
      kind: 'key_revoked',
      subject: name,
      detail: { before: { key: id, scopes }, after: null },
    });
    return true;
  });
}
