/** What only an operator at the machine can do: make operators and API keys. */
import { createAccount, findByEmail } from './accounts/accounts.ts';
import { apiScopes } from './accounts/callers.ts';
import { disown } from './accounts/invitations.ts';
import { atTheMachine, recordOperatorEvent } from './accounts/operator-events.ts';
import { hashPassword, passwordComplaints } from './accounts/passwords.ts';
import { takeSecondFactor } from './admin/acts.ts';
import { type Ctx, transaction } from './platform/ctx.ts';
import { sql } from './platform/db.ts';
import { email as emailKind } from './platform/drf.ts';
import { CommandError } from './platform/failure.ts';
import { randomKey, sha256 } from './platform/keys.ts';
import { say } from './platform/language.ts';

/**
 * Makes an operator: a new account, or an existing one that gets the rights.
 * @param password chosen by the operator; absent: a random one, returned to be shown once
 */
export async function createOperator(
  ctx: Ctx,
  address: string,
  password?: string,
): Promise<{ email: string; password: string | undefined; existed: boolean }> {
  const email = emailKind.read(address, false);
  if ('problem' in email) throw new CommandError(`${address} is not an e-mail address.`);
  if (password !== undefined) {
    const [complaint] = passwordComplaints(ctx, 'password', password);
    if (complaint !== undefined) throw new CommandError(say('en', complaint));
  }
  const known = await findByEmail(ctx, email.value);
  if (known !== undefined) {
    // Anybody can have registered the address: unless it is proven, its password is set anew.
    const chosen = password ?? (known.proven ? undefined : randomKey(12));
    const hash = chosen === undefined ? undefined : await hashPassword(chosen);
    await transaction(ctx, async (tx) => {
      const before = await tx.db.one<{ operator: boolean; active: boolean }>(sql`
        select is_operator as operator, is_active as active from account where id = ${known.id} for no key update`);
      if (hash !== undefined) await disown(tx, known.id, hash);
      await tx.db.run(sql`
        update account set is_operator = true, is_active = true, email_verified_at = coalesce(email_verified_at, ${ctx.clock.now()})
         where id = ${known.id}`);
      if (hash === undefined && before!.operator && before!.active) return;
      await recordOperatorEvent(tx, atTheMachine, {
        kind: 'operator_made',
        account: known.id,
        detail: { before, after: { operator: true, active: true }, password_set: hash !== undefined },
      });
    });
    return { email: known.email, password: password === undefined ? chosen : undefined, existed: true };
  }
  const chosen = password ?? randomKey(12);
  const passwordHash = await hashPassword(chosen);
  await transaction(ctx, async (tx) => {
    const account = await createAccount(tx, {
      email: email.value,
      password: passwordHash,
      language_code: 'en',
      is_operator: true,
      proven: true,
    });
    const detail = { before: null, after: { operator: true, active: true }, password_set: true };
    await recordOperatorEvent(tx, atTheMachine, { kind: 'operator_made', account, detail });
  });
  return { email: email.value, password: password === undefined ? chosen : undefined, existed: false };
}

/**
 * Takes the second factor of somebody away who lost app and recovery codes, and ends their sign-ins: whoever found the
 * phone may be in them. Make sure first that it is them who ask.
 * @throws CommandError when the address has no account, or the account no second factor
 */
export async function resetSecondFactor(ctx: Ctx, address: string): Promise<string> {
  const known = await findByEmail(ctx, address);
  if (known === undefined) throw new CommandError(`${address} has no account.`);
  if (!(await takeSecondFactor(ctx, known.id, atTheMachine)))
    throw new CommandError(`${known.email} has no second factor.`);
  return known.email;
}

/** Makes an API key; the key itself is returned once and kept as a hash. @param scopes of `apiScopes`, or `*` */
export async function createApiKey(
  ctx: Ctx,
  name: string,
  scopes: readonly string[],
  key = `assent_${randomKey()}`,
): Promise<string> {
  const unknown = scopes.filter((scope) => scope !== '*' && !(apiScopes as readonly string[]).includes(scope));
  if (unknown.length > 0)
    throw new CommandError(`Unknown scope ${unknown.join(', ')}. Known: ${apiScopes.join(', ')}, or * for all.`);
  await transaction(ctx, async (tx) => {
    const made = await tx.db.one<{ id: number }>(sql`
      insert into api_key (name, key_hash, scopes, created_at)
      values (${name}, ${sha256(key)}, ${scopes}::text[], ${tx.clock.now()}) returning id`);
    const detail = { after: { key: made!.id, scopes } };
    await recordOperatorEvent(tx, atTheMachine, { kind: 'key_made', subject: name, detail });
  });
  return key;
}
