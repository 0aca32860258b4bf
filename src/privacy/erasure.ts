/**
 * Erasure: what identifies a person goes from every table, the no they are owed stays (rule 10). The lines of the ledger
 * stand, so that it still verifies; their evidence, which is personal, does not.
 */
import { contactPoints } from '../accounts/contact-points.ts';
import type { Doer } from '../accounts/operator-events.ts';
import { guardOperator, holdOperators, keepOperator, stillMay } from '../accounts/operators.ts';
import { channels } from '../consent/channels.ts';
import { readStandings } from '../consent/ledger/book.ts';
import type { Recipient } from '../consent/recipients.ts';
import { sayAll } from '../consent/statements.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure, fail, refuse } from '../platform/failure.ts';
import { announceContactPoint } from '../webhooks/dispatch.ts';

export interface Erased {
  /** Lines that say so from now on. */
  readonly events: number;
  /** Addresses that are known by their keyed hash alone now. */
  readonly addresses: number;
}

/**
 * Erases an account and every address that is nobody else's.
 * @throws not_found; last_operator; in_person for an API key that means an operator; not_authenticated; still_needed while a company counts on the account
 */
export function eraseAccount(root: Ctx, account: number, by: Doer): Promise<Erased> {
  return transaction(root, async (ctx) => {
    await holdOperators(ctx);
    await stillMay(ctx, by);
    const found = await ctx.db.one<{
      email_point: number;
      phone_point: number | null;
      email_proven: boolean;
      phone_proven: boolean;
      avatar: string | null;
      is_operator: boolean;
      is_active: boolean;
    }>(sql`
      select email_point, phone_point, avatar, email_verified_at is not null as email_proven,
             phone_verified_at is not null as phone_proven, is_operator, is_active
        from account where id = ${account} for update`);
    if (found === undefined) fail('not_found');
    if (found.is_operator) guardOperator(by);
    if (found.is_operator && found.is_active) await keepOperator(ctx, account);
    const company = await ctx.db.one<{ company: number }>(sql`
      select id as company from company where owner = ${account}
      union all select company from entry where account = ${account} order by company limit 1`);
    if (company !== undefined)
      throw new Failure('still_needed', {
        complaints: [{ path: ['account'], key: 'erasure.company', values: { company: company.company } }],
      });
    // Numbers and addresses they had once are theirs to be forgotten too, unless somebody else holds them now.
    const points = await ctx.db.rows<{ id: number; kind: 'phone' | 'email' }>(sql`
      select id, kind from contact_point p
       where (id = any (${[found.email_point, found.phone_point]}::bigint[])
              or id in (select contact_point from consent_event where account = ${account}))
         and not exists (select from account o
                          where o.id <> ${account} and o.is_active and (o.email_point = p.id or o.phone_point = p.id))
         -- What others have said about an address that this account only typed is not its to take away.
         and (p.id = ${found.email_point} and ${found.email_proven} or p.id = ${found.phone_point} and ${found.phone_proven}
              or not exists (select from consent_event e where e.contact_point = p.id and e.account <> ${account}))
       order by id for no key update`);
    const held = points.filter(({ id }) => id === found.email_point || id === found.phone_point);
    const events = await forget(ctx, { points: points.map(({ id }) => id), silenced: held, account, by: by.name });
    // From where they changed what others may do; the lines of it stay, with the id of an account that is nobody's any more.
    await ctx.db.run(sql`
      delete from staff_evidence where event in (
        select id from staff_event where actor = any (${[`account:${account}`, `operator:${account}`]}::text[]))`);
    await announceContactPoint(
      ctx,
      held.map(({ id, kind }) => ({ account, kind, change: 'erased', contactPoint: id, previous: null })),
    );
    // Its sign-ins, links and number changes go with it.
    await ctx.db.run(sql`delete from account where id = ${account}`);
    await ctx.db.run(sql`
      delete from avatar where hash = ${found.avatar} and not exists (select from account where avatar = ${found.avatar})`);
    return { events, addresses: points.length };
  });
}

/**
 * Erases an address that no account holds: a guest's.
 * @throws still_needed when an account holds it: then that is to be erased
 */
export function eraseRecipient(root: Ctx, recipient: Recipient, by: string): Promise<Erased> {
  return transaction(root, async (ctx) => {
    // One that nobody knew is made, so that nobody brings it in later. An account that is not active holds it too.
    const [point] = await contactPoints(ctx, [recipient], { by: 'shop' });
    const holder = await ctx.db.one<{ id: number }>(sql`
      select id from account where email_point = ${point!.id} or phone_point = ${point!.id} order by id limit 1`);
    if (holder !== undefined) refuse({ path: ['recipient'], key: 'erasure.held', values: { account: holder.id } });
    const events = await forget(ctx, { points: [point!.id], silenced: [point!], account: null, by });
    return { events, addresses: 1 };
  });
}

/** Takes the addresses and evidence away and writes the lines that stand for them. */
async function forget(
  ctx: Ctx,
  {
    points,
    silenced,
    account,
    by,
  }: {
    points: readonly number[];
    /** Points that nothing may be sent to any more. */
    silenced: readonly { readonly id: number; readonly kind: 'phone' | 'email' }[];
    account: number | null;
    by: string;
  },
): Promise<number> {
  const now = ctx.clock.now();
  // Also what was sent to addresses they were only about to have.
  await ctx.db.run(sql`
    delete from console_message where recipient in (
      select value from contact_point where id = any (${points}::bigint[])
      union all select email from account where id = ${account}
      union all select phone_e164 from phone_change where account = ${account}
      union all select phone_e164 from phone_undo where account = ${account}
      union all select unnest(array[new_email, previous_email]) from mail_link where account = ${account})`);
  // A number that was somebody's once is not kept for them either.
  await ctx.db.run(sql`
    delete from phone_undo where phone_e164 in (select value from contact_point where id = any (${points}::bigint[]))`);
  await ctx.db.run(sql`
    update contact_point set value = null, verified_at = null, retired_at = null, erased_at = ${now},
           link_generation = link_generation + 1
     where id = any (${points}::bigint[])`);
  // An address without a hash was never one.
  const purposes = Object.keys(ctx.settings.get('CONSENT_PURPOSES'));
  const places = new Map<string, { point: number; channel: string; purpose: string }>();
  const add = (point: number, channel: string, purpose: string): void => {
    places.set(`${point} ${channel} ${purpose}`, { point, channel, purpose });
  };
  for (const { id, kind } of silenced)
    for (const channel of channels)
      if (channel.kind === kind) for (const purpose of purposes) add(id, channel.name, purpose);
  // Also what was said for purposes that the shop asks for no more, and every yes that would outlive the address.
  for (const { contact_point: point, channel, purpose, state } of await readStandings(ctx, points))
    if (state === 'granted' || state === 'pending' || silenced.some(({ id }) => id === point))
      add(point, channel, purpose);
  const said = await sayAll(
    ctx,
    [...places.values()].map(({ point, channel, purpose }) => ({
      about: { point },
      account,
      channel,
      purpose,
      intent: 'erase' as const,
      // Whoever comes with this address next has to prove it before they can say yes.
      by: { voice: 'person' as const, proven: true },
      source: 'staff' as const,
      actor: by,
      evidence: {},
    })),
  );
  await ctx.db.run(sql`
    delete from consent_evidence where event in (
      select id from consent_event where account = ${account} or contact_point = any (${points}::bigint[]))`);
  return said.filter((one) => !(one instanceof Error) && one.written).length;
}
