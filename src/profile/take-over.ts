/** Taking over what the loyalty provider has of a person, where the setting says that theirs holds. */
import type { Account } from '../accounts/accounts.ts';
import type { TakeOver } from '../loyalty/comparing.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { type FieldRule, readFields } from '../platform/drf.ts';
import { Failure } from '../platform/failure.ts';
import { textFault } from '../platform/json.ts';
import { profileRules } from './fields.ts';
import { changeProfile } from './profile.ts';

/** A value as a PATCH with it would take it; undefined: it would refuse it. */
function read(rules: readonly FieldRule[], name: string, value: unknown): unknown {
  if (textFault(value) !== undefined) return undefined;
  try {
    return readFields({ kind: 'json', value: { [name]: value } }, rules, true)[name];
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

type Person = Pick<Account, 'first_name' | 'last_name' | 'gender' | 'date_of_birth'>;

const lockPerson = (ctx: Ctx, account: number): Promise<Person | undefined> =>
  ctx.db.one<Person>(sql`
    select first_name, last_name, gender, date_of_birth from account
     where id = ${account} and is_active for no key update`);

/**
 * Changes the profile as its owner could, by the same rules; a value that these refuse is left.
 * @returns undefined when the account changed since it was compared: then the customer's word is the newer one
 */
export const takeOver: TakeOver = async (root, truth, theirs, write) => {
  const rules = profileRules(root.settings);
  const columns: Record<string, unknown> = {};
  const refused: string[] = [];
  for (const [name, value] of Object.entries(theirs)) {
    const taken = read(rules, name, value);
    if (taken === undefined) refused.push(name);
    // `2001-2-3` and spaces around a name are no other value: ours is sent as it is.
    else if (taken !== truth[name as keyof Person]) columns[name] = taken;
  }
  const result = { taken: Object.keys(columns), refused };
  if (!write || result.taken.length === 0) return result;
  return transaction(root, async (ctx) => {
    const person = await lockPerson(ctx, truth.id);
    const same = (Object.keys(person ?? {}) as (keyof Person)[]).every((name) => person![name] === truth[name]);
    if (person === undefined || !same) return undefined;
    await changeProfile(ctx, {
      account: truth.id,
      columns,
      flags: {},
      reader: 'everything',
      source: 'system',
      evidence: {},
    });
    return result;
  });
};
