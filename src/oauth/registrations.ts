/** Accounts made by a program of the shop in BakerOnline's dialect, and passwords changed there. */
import { hashPassword, passwordComplaints } from '../accounts/passwords.ts';
import { changePassword } from '../accounts/sign-in.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail, refuse } from '../platform/failure.ts';
import { type Registration, register } from '../profile/registration.ts';
import { askingClient, byPassword, type Device, grantTokens, type PasswordRequest, type Tokens } from './tokens.ts';

export interface NewAccount extends Omit<Registration, 'password' | 'flags'> {
  /** As it was typed. */
  readonly password: string;
  /** Revisions of the shop's policies that the person accepted. */
  readonly policies: readonly number[];
  readonly tin_nr?: string | undefined;
}

/**
 * Makes an account and signs it in, in one transaction.
 * @param client one of the shop's own: any other would learn a new account's password
 * @throws invalid: address or number taken, password not good enough; invalid_client, unsupported_grant_type
 */
export async function registerBy(ctx: Ctx, client: string, device: Device, account: NewAccount): Promise<Tokens> {
  const { first_party, password_grant } = await askingClient(ctx, client);
  if (!first_party && !password_grant) fail('unsupported_grant_type', { values: { grant: 'password' } });
  const { policies, tin_nr, password, ...registration } = account;
  const complaints = passwordComplaints(ctx, 'password', password);
  if (complaints.length > 0) refuse(...complaints);
  const hash = await hashPassword(password);
  return transaction(ctx, async (tx) => {
    const id = await register(tx, { ...registration, password: hash, flags: {} });
    if (tin_nr !== undefined) await tx.db.run(sql`update account set tin_nr = ${tin_nr} where id = ${id}`);
    if (policies.length > 0)
      await tx.db.run(sql`
        insert into accepted_policy (account, revision, accepted_at)
        select ${id}, revision, ${tx.clock.now()} from unnest(${[...new Set(policies)]}::bigint[]) as p (revision)`);
    return grantTokens(tx, id, client, device);
  });
}

/**
 * Sets a new password for the present one; every other sign-in of the account ends.
 * @returns a new sign-in
 * @throws as `byPassword`; invalid on `new_password`
 */
export const changePasswordBy = (ctx: Ctx, request: PasswordRequest, next: string): Promise<Tokens> =>
  byPassword(ctx, request, async (tx, account) => {
    await changePassword(tx, account, { next, field: 'new_password' });
    return grantTokens(tx, account, request.client_id, request);
  });
