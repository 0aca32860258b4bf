/** Registration: account, phone, consents and the basket's flags in one transaction. */
import { createAccount } from '../accounts/accounts.ts';
import { placeholderPoint } from '../accounts/contact-points.ts';
import type { PhoneNumber } from '../accounts/phone-numbers.ts';
import { basketSpeaksOf, promoteBasket } from '../consent/baskets.ts';
import type { Flags } from '../consent/channels.ts';
import type { NoticeRef } from '../consent/ledger/book.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Evidence } from '../platform/evidence.ts';
import { changeProfile } from './profile.ts';

export interface Registration {
  readonly email: string;
  /** Hash of the password. */
  readonly password: string;
  readonly first_name: string;
  readonly last_name: string;
  readonly language_code: string;
  readonly phone?: PhoneNumber | null;
  readonly flags: Flags;
  /** Flags ticked at checkout, to be promoted. */
  readonly basket?: { readonly basket: bigint; readonly uid: string };
  /** Notices the client says it showed, by channel. */
  readonly notices?: ReadonlyMap<string, NoticeRef> | undefined;
  readonly evidence: Evidence;
}

/**
 * Makes an account.
 * @returns its id
 * @throws invalid: address or number taken
 */
export function register(root: Ctx, registration: Registration): Promise<number> {
  return transaction(root, async (ctx) => {
    const { email, password, first_name, last_name, language_code, phone, flags, basket, notices, evidence } =
      registration;
    const account = await createAccount(ctx, { email, password, first_name, last_name, language_code });
    const change = (flagged: Flags): Promise<unknown> =>
      changeProfile(ctx, {
        account,
        columns: {},
        flags: flagged,
        ...(phone == null ? {} : { phone }),
        // Whoever makes an account has seen nothing of before and ticks with their own hand.
        reader: 'everything',
        ...(notices === undefined ? {} : { notices }),
        source: 'registration',
        evidence,
      });
    await change(flags);
    if (basket !== undefined) {
      await promote(ctx, account, basket);
      // A no of this form was silent while nothing was granted; what was ticked at checkout came before it.
      await change(Object.fromEntries(Object.entries(flags).filter(([, flag]) => flag === false)));
    }
    return account;
  });
}

/** Promotes a basket for the account that was just made. Its addresses are typed, not proven: it speaks as a guest does. */
async function promote(ctx: Ctx, account: number, { basket, uid }: { basket: bigint; uid: string }): Promise<void> {
  const points = await ctx.db.one<{ email_point: number; phone_point: number | null }>(sql`
    select email_point, phone_point from account where id = ${account}`);
  let phone = points!.phone_point;
  if (phone === null && (await basketSpeaksOf(ctx, basket, uid, 'phone'))) {
    // A basket is promoted once: what was ticked about the phone waits for the number where there is none yet.
    phone = (await placeholderPoint(ctx)).id;
    await ctx.db.run(sql`update account set phone_point = ${phone} where id = ${account}`);
  }
  await promoteBasket(ctx, {
    basket,
    uid,
    addresses: { email: { point: points!.email_point }, ...(phone === null ? {} : { phone: { point: phone } }) },
    account,
    voice: () => ({ voice: 'guest' }),
    occasion: 'registration',
    actor: `account:${account}`,
  });
}
