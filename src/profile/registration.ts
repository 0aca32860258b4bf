/** Registration: account, phone, consents and the basket's flags in one transaction. */
import { createAccount } from '../accounts/accounts.ts';
import { type ContactPoint, placeholderPoint } from '../accounts/contact-points.ts';
import { takeBasket } from '../consent/baskets.ts';
import { channels, type Flags } from '../consent/channels.ts';
import { type Draft, type Evidence, record } from '../consent/ledger.ts';
import { decidePromotion } from '../consent/rules.ts';
import type { PhoneNumber } from '../phone/numbers.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
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
  readonly evidence: Evidence;
}

/**
 * Makes an account.
 * @returns its id
 * @throws invalid: address or number taken
 */
export function register(root: Ctx, registration: Registration): Promise<number> {
  return transaction(root, async (ctx) => {
    const { email, password, first_name, last_name, language_code, phone, flags, basket, evidence } = registration;
    const account = await createAccount(ctx, { email, password, first_name, last_name, language_code });
    await changeProfile(ctx, {
      account,
      columns: {},
      flags,
      ...(phone == null ? {} : { phone }),
      source: 'registration',
      evidence,
    });
    if (basket !== undefined) await promote(ctx, account, basket);
    return account;
  });
}

/**
 * Turns a basket's flags into consent events of the account that was just made, once. An address that somebody else
 * holds is left alone: a guest cannot speak for a member.
 */
async function promote(ctx: Ctx, account: number, { basket, uid }: { basket: bigint; uid: string }): Promise<void> {
  const stated = await takeBasket(ctx, basket, uid);
  if (stated.length === 0) return;
  // A basket is promoted once: what was ticked about the phone waits for the number where there is none yet.
  const aboutPhone = channels.some(
    ({ name, kind }) => kind === 'phone' && stated.some(({ channel }) => channel === name),
  );
  const none = await ctx.db.one(sql`select from account where id = ${account} and phone_point is null`);
  if (aboutPhone && none !== undefined) {
    const { id } = await placeholderPoint(ctx);
    await ctx.db.run(sql`update account set phone_point = ${id} where id = ${account}`);
  }
  const points = await ctx.db.rows<ContactPoint & { shared: boolean }>(sql`
    select p.id, p.kind, encode(p.address_hash, 'hex') as address_hash,
           exists (select from account o where (o.phone_point = p.id or o.email_point = p.id) and o.id <> a.id) as shared
      from account a join contact_point p on p.id in (a.email_point, a.phone_point)
     where a.id = ${account} order by p.id for no key update of p`);
  const known = await ctx.db.rows<{ contact_point: number; channel: string; state: 'granted'; since: Date }>(sql`
    select contact_point, channel, state, since from consent_state
     where contact_point = any (${points.map(({ id }) => id)}::bigint[]) and purpose = 'marketing'`);
  const drafts: Draft[] = [];
  for (const { name, kind } of channels) {
    const flag = stated.find(({ channel }) => channel === name);
    const point = points.find((candidate) => candidate.kind === kind);
    if (flag === undefined || point === undefined || point.shared) continue;
    const standing = known.find((row) => row.contact_point === point.id && row.channel === name);
    const edge = decidePromotion(standing, flag.value, flag.stated_at);
    if (edge === undefined) continue;
    drafts.push({
      point,
      account,
      channel: name,
      purpose: 'marketing',
      edge,
      source: 'checkout',
      actor: `account:${account}`,
      evidence: { ...flag.evidence, basket: String(basket) },
    });
  }
  await record(ctx, drafts);
}
