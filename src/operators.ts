/** What only an operator at the machine can do: make operators. */
import { createAccount, findByEmail } from './accounts/accounts.ts';
import { disown } from './accounts/invitations.ts';
import { atTheMachine, type Doer, recordOperatorEvent } from './accounts/operator-events.ts';
import { hashPassword, passwordComplaints } from './accounts/passwords.ts';
import { takeSecondFactor } from './admin/acts.ts';
import { type Ctx, transaction } from './platform/ctx.ts';
import { sql } from './platform/db.ts';
import { email as emailKind } from './platform/drf.ts';
import { CommandError } from './platform/failure.ts';
import { randomKey } from './platform/keys.ts';
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
export async function resetSecondFactor(ctx: Ctx, address: string, by: Doer = atTheMachine): Promise<string> {
  const known = await findByEmail(ctx, address);
  if (known === undefined) throw new CommandError(`${address} has no account.`);
  if (!(await takeSecondFactor(ctx, known.id, by))) throw new CommandError(`${known.email} has no second factor.`);
  return known.email;
}
