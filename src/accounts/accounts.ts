/** The account itself: its row, and the verbs that make and find one. */
import type { Ctx } from '../platform/ctx.ts';
import { sql, violated } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';
import { contactPoints } from './contact-points.ts';

/** A row of `account` with its marketing consents (`sms=granted:1f2e3d4,call=refused:0a1b2c3`, each with the end of its line's id) as far as requests need it. */
export interface Account {
  readonly id: number;
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  readonly phone: string | null;
  readonly phone_e164: string | null;
  readonly gender: 'male' | 'female' | null;
  /** YYYY-MM-DD */
  readonly date_of_birth: string | null;
  readonly language_code: string;
  readonly attributes: Record<string, unknown>;
  /** Name of the picture under /media/avatars/. */
  readonly avatar: string | null;
  readonly is_operator: boolean;
  /** They sign in with a code of an app as well. */
  readonly second_factor: boolean;
  readonly date_joined: Date;
  readonly last_login: Date | null;
  readonly email_verified_at: Date | null;
  readonly phone_verified_at: Date | null;
  readonly email_point: number;
  readonly phone_point: number | null;
  readonly version: number;
  readonly consents: string | null;
}

export interface NewAccount {
  readonly email: string;
  /** Hash, or null for an invited account that has yet to choose one. */
  readonly password: string | null;
  readonly language_code: string;
  readonly first_name?: string;
  readonly last_name?: string;
  readonly is_operator?: boolean;
  /** The address is known to be theirs: an operator's word, or the demo's. */
  readonly proven?: boolean;
}

/**
 * An e-mail address as everything compares it: lookups, contact points and throttles. One fold, because two that differ
 * in a letter let somebody guess at one account under many names. No locale; İ is an i.
 */
export const foldEmail = (email: string): string => email.normalize('NFKC').toLowerCase().replaceAll('\u0307', '');

/**
 * Makes an account with its e-mail contact point.
 * @returns its id
 * @throws invalid when the address has one already
 */
export async function createAccount(ctx: Ctx, account: NewAccount): Promise<number> {
  const now = ctx.clock.now();
  const key = foldEmail(account.email);
  const [point] = await contactPoints(ctx, [{ kind: 'email', value: key }], { by: 'person' });
  try {
    const row = await ctx.db.one<{ id: number }>(sql`
      insert into account (email, email_key, password, first_name, last_name, language_code, email_point, is_operator, email_verified_at, date_joined)
      values (${account.email}, ${key}, ${account.password}, ${account.first_name ?? ''}, ${account.last_name ?? ''},
              ${account.language_code}, ${point!.id}, ${account.is_operator ?? false}, ${account.proven ? now : null}, ${now})
      returning id`);
    return row!.id;
  } catch (error) {
    if (violated(error) === 'account_email') refuse({ path: ['email'], key: 'account.email_taken' });
    throw error;
  }
}

/** The account of an address, however its letters are cased. */
export const findByEmail = (
  ctx: Ctx,
  email: string,
): Promise<
  | {
      id: number;
      email: string;
      password: string | null;
      is_active: boolean;
      language_code: string;
      second_factor: boolean;
      proven: boolean;
    }
  | undefined
> =>
  ctx.db.one(
    sql`select id, email, password, is_active, language_code, second_factor, email_verified_at is not null as proven from account where email_key = ${foldEmail(email)}`,
  );
