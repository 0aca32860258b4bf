/** Whom we know as the somebody an outside issuer speaks of. No account and no operator is made by its word. */
import { domainToASCII } from 'node:url';
import { foldEmail } from '../../accounts/accounts.ts';
import { disown } from '../../accounts/invitations.ts';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { type Issuer, IssuerRefusal, type Outsider } from './issuer.ts';

interface Known {
  readonly id: number;
  readonly email: string;
  readonly is_active: boolean;
  readonly is_operator: boolean;
  readonly proven: boolean;
}

/** The part before the @, letters A to Z in lower case. Nothing else is folded: another letter is another mailbox. */
const mailboxOf = (email: string): string =>
  email.slice(0, email.lastIndexOf('@')).replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());

/** The domain as the DNS knows it (IDNA); empty when it is none. */
const domainOf = (email: string): string => domainToASCII(email.slice(email.lastIndexOf('@') + 1));

/** Whether an address, folded, is of a domain for which the issuer may speak. Subdomains are other domains. */
function isNamed(issuer: Issuer, email: string): boolean {
  const folded = foldEmail(email);
  if (!/^[^\s@\p{Cc}]{1,100}@[^\s@\p{Cc}]{1,253}$/u.test(folded) || !folded.isWellFormed()) return false;
  return issuer.domains.some((domain) => domainToASCII(domain) === domainOf(folded));
}

/** The account a linked identity belongs to, its row locked. */
const byLink = (ctx: Ctx, { issuer, subject }: Outsider): Promise<Known | undefined> =>
  ctx.db.one(sql`
    select a.id, a.email, a.is_active, a.is_operator, a.email_verified_at is not null as proven
      from account a join outside_identity o on o.account = a.id
     where o.issuer = ${issuer} and o.subject = ${subject} for no key update of a`);

/** The account of a verified address, its row locked. @throws IssuerRefusal */
async function byAddress(ctx: Ctx, issuer: Issuer, { email }: Outsider): Promise<Known> {
  if (email === undefined) throw new IssuerRefusal('address', 'no verified address');
  if (!isNamed(issuer, email)) throw new IssuerRefusal('address', 'an address of another domain');
  const known = await ctx.db.one<Known>(sql`
    select id, email, is_active, is_operator, email_verified_at is not null as proven
      from account where email_key = ${foldEmail(email)} for no key update`);
  // Our fold takes letters that look alike for one, so that nobody registers beside somebody. Mail servers do not.
  if (known === undefined || mailboxOf(known.email) !== mailboxOf(email) || domainOf(known.email) !== domainOf(email))
    throw new IssuerRefusal('nobody', 'no account');
  return known;
}

/** @throws IssuerRefusal unless the issuer may speak for this account, now */
async function guardAccount(ctx: Ctx, issuer: Issuer, { id, email, is_active, is_operator }: Known): Promise<void> {
  if (!is_active) throw new IssuerRefusal('nobody', 'the account is switched off');
  if (!isNamed(issuer, email)) throw new IssuerRefusal('nobody', 'the account has an address of another domain');
  // An operator who also works in a company can do what operators can, so must be let in as one.
  const staff = await ctx.db.one(sql`
    select from entry where account = ${id} union all select from company where owner = ${id} limit 1`);
  if (is_operator ? !issuer.for.includes('operators') : staff === undefined || !issuer.for.includes('staff'))
    throw new IssuerRefusal('nobody', 'the issuer does not speak for such accounts');
}

/**
 * Ties an identity to an account, for good: somebody else to whom the same address was given later is not who had it.
 * @returns whether it is new
 * @throws IssuerRefusal
 */
async function link(ctx: Ctx, { issuer, subject }: Outsider, account: number): Promise<boolean> {
  const now = ctx.clock.now();
  const mine = await ctx.db.one<{ subject: string }>(sql`
    select subject from outside_identity where issuer = ${issuer} and account = ${account}`);
  if (mine !== undefined && mine.subject !== subject)
    throw new IssuerRefusal('nobody', 'the account belongs to another identity');
  const linked = await ctx.db.one<{ account: number; created_at: Date }>(sql`
    insert into outside_identity (issuer, subject, account, created_at, last_used_at)
    values (${issuer}, ${subject}, ${account}, ${now}, ${now})
    on conflict (issuer, subject) do update set last_used_at = excluded.last_used_at
    returning account, created_at`);
  if (linked!.account !== account) throw new IssuerRefusal('nobody', 'the identity belongs to another account');
  return mine === undefined;
}

/** Whether an identity is linked to an account; asked under the lock of the account's row. */
export const isLinked = async (ctx: Ctx, { issuer, subject }: Outsider, account: number): Promise<boolean> =>
  (await ctx.db.one(sql`
    select from outside_identity where issuer = ${issuer} and subject = ${subject} and account = ${account}`)) !==
  undefined;

/** Takes the issuer's word for an address: whoever had the account without proving it loses what they had there. */
async function prove(ctx: Ctx, account: number): Promise<void> {
  await disown(ctx, account, null);
  await ctx.db.run(sql`update account set email_verified_at = ${ctx.clock.now()} where id = ${account}`);
}

/**
 * The account of somebody whom the issuer vouches for: the one this identity is linked to, else the one of its verified
 * address, which is linked from then on. An invitation to it is thereby accepted.
 * @returns id of the account, and whether it was linked just now
 * @throws IssuerRefusal, and nothing is changed
 */
export function accountOf(root: Ctx, issuer: Issuer, outsider: Outsider): Promise<{ id: number; linked: boolean }> {
  return transaction(root, async (ctx) => {
    const before = await byLink(ctx, outsider);
    const account = before ?? (await byAddress(ctx, issuer, outsider));
    await guardAccount(ctx, issuer, account);
    const linked = await link(ctx, outsider, account.id);
    if (before === undefined && !account.proven) await prove(ctx, account.id);
    return { id: account.id, linked };
  });
}
