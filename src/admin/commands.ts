/** `assent account …`: find an account, and what to do when it is in the wrong hands. */

import type { Command } from 'commander';
import { findByEmail } from '../accounts/accounts.ts';
import { atTheMachine, type Doer, listOperatorEvents } from '../accounts/operator-events.ts';
import { ownSessions } from '../accounts/sessions.ts';
import type { Ctx } from '../platform/ctx.ts';
import { CommandError } from '../platform/failure.ts';
import { MAX_REASON } from '../platform/problem.ts';
import type { Terminal } from '../platform/terminal.ts';
import { accountExists, findAccounts, readAccount } from './accounts.ts';
import { endSignIns, outsideIdentities, switchAccount, unlinkIdentity, voidPassword } from './acts.ts';
import type { MadeKey } from './keys.ts';

export interface Chosen {
  readonly reason?: string;
}

const FOUND = 50;
/** The option that tells the reason. */
export const WHY = ['--reason <text>', 'why, for the history'] as const;

/** Whoever sits at the machine, and why. @throws CommandError */
export function doer({ reason }: Chosen): Doer {
  if (reason !== undefined && (reason.trim() === '' || reason.length > MAX_REASON))
    throw new CommandError(`The reason must be between 1 and ${MAX_REASON} characters long.`);
  return { ...atTheMachine, reason };
}

/** The account of an address. @throws CommandError */
export async function accountOf(ctx: Ctx, email: string): Promise<number> {
  const known = await findByEmail(ctx, email);
  if (known === undefined) throw new CommandError(`${email} has no account.`);
  return known.id;
}

async function find(ctx: Ctx, { say, print }: Terminal, text: string): Promise<void> {
  const by = text.includes('@') ? { email: text } : text.startsWith('+') ? { phone: text } : { q: text };
  const exact = await findAccounts(ctx, { ...by, limit: FOUND });
  // An address may be known by its beginning alone.
  const { items, next } =
    exact.items.length === 0 && 'email' in by ? await findAccounts(ctx, { q: text, limit: FOUND }) : exact;
  for (const account of items) print(account);
  if (items.length === 0) say('Nobody is found by that.');
  if (next !== null) say(`These are the newest ${FOUND}; there are more.`);
}

async function show(ctx: Ctx, { print }: Terminal, email: string): Promise<void> {
  const id = await accountOf(ctx, email);
  const [identities, sessions] = [await outsideIdentities(ctx, id), await ownSessions(ctx, id)];
  print({ ...(await readAccount(ctx, id)), identities, sessions });
}

/** Says which API keys they made, so that nobody forgets them. */
export function tellKeys(say: Terminal['say'], keys: readonly MadeKey[]): void {
  if (keys.length === 0) return;
  const all = keys.map(({ id, name }) => `${name} (key ${id})`).join(', ');
  say(`API keys they made go on working: ${all}. To revoke one: npm run assent -- key revoke NAME`);
}

async function switchTo(ctx: Ctx, { say, print }: Terminal, email: string, active: boolean, by: Doer): Promise<void> {
  const id = await accountOf(ctx, email);
  const { changed, ended, unmanaged_companies, keys_made } = await switchAccount(ctx, id, active, by);
  const state = active ? 'on' : 'off';
  if (!changed) say(`${email} was switched ${state} already; nothing was changed.`);
  else say(active ? `${email} can sign in again.` : `${email} is switched off; sign-ins ended: ${ended}.`);
  if (unmanaged_companies.length > 0)
    say(
      `Nobody is left who can manage the companies ${unmanaged_companies.join(', ')}: npm run assent -- company owner ID EMAIL`,
    );
  tellKeys(say, keys_made);
  print({ id, is_active: active, changed, unmanaged_companies, keys_made });
}

/** The lines of an account; by its id, also of one that was erased. */
async function history(ctx: Ctx, { print }: Terminal, who: string): Promise<void> {
  const account = /^[1-9]\d{0,14}$/.test(who) ? Number(who) : await accountOf(ctx, who);
  let after: string | undefined;
  do {
    const { items, next } = await listOperatorEvents(ctx, { account, after, limit: 500 });
    for (const line of items) print(line);
    if (items.length === 0 && after === undefined && !(await accountExists(ctx, account)))
      throw new CommandError(`There is no account ${who}.`);
    after = next ?? undefined;
  } while (after !== undefined);
}

/** Adds them to the program. */
export function accountCommands(program: Command, terminal: Terminal): void {
  const { say, withCtx } = terminal;
  const group = program.command('account').description('accounts, and what to do when one is in the wrong hands');
  group
    .command('find <text>')
    .description(
      'by e-mail address, by number (+90…), or by the beginning of a name or address; one JSON object a line',
    )
    .action((text: string) => withCtx((ctx) => find(ctx, terminal, text)));
  group
    .command('show <email>')
    .description('an account with its sign-ins and outside identities')
    .action((email: string) => withCtx((ctx) => show(ctx, terminal, email)));
  group
    .command('off <email>')
    .description('switch an account off: its sign-ins, tokens, codes and mailed links end')
    .option(...WHY)
    .action((email: string, chosen: Chosen) => withCtx((ctx) => switchTo(ctx, terminal, email, false, doer(chosen))));
  group
    .command('on <email>')
    .description('switch an account on; nothing that ended comes back')
    .option(...WHY)
    .action((email: string, chosen: Chosen) => withCtx((ctx) => switchTo(ctx, terminal, email, true, doer(chosen))));
  group
    .command('sign-out <email>')
    .description('end every sign-in of an account, which may sign in again')
    .option(...WHY)
    .action((email: string, chosen: Chosen) =>
      withCtx(async (ctx) => {
        const ended = await endSignIns(ctx, await accountOf(ctx, email), doer(chosen));
        say(`Sign-ins of ${email} that ended: ${ended}.`);
      }),
    );
  group
    .command('reset-password <email>')
    .description(
      'make a password worthless that others know: every sign-in ends, and a link to set a new one is mailed',
    )
    .option(...WHY)
    .action((email: string, chosen: Chosen) =>
      withCtx(async (ctx) => {
        const { ended, mailed } = await voidPassword(ctx, await accountOf(ctx, email), doer(chosen));
        say(`The password of ${email} is void; sign-ins ended: ${ended}.`);
        say(
          mailed
            ? 'A link to set a new one is mailed.'
            : 'No link is mailed while the account is switched off: switch it on, and let its owner ask for one.',
        );
      }),
    );
  group
    .command('unlink <email> <issuer>')
    .description('unlink the identity of an outside issuer; every sign-in of the account ends')
    .option(...WHY)
    .action((email: string, issuer: string, chosen: Chosen) =>
      withCtx(async (ctx) => {
        if (!(await unlinkIdentity(ctx, await accountOf(ctx, email), issuer, doer(chosen))))
          throw new CommandError(`${email} is not linked to ${issuer}.`);
        say(`${email} is not linked to ${issuer} any more; all its sign-ins have ended.`);
      }),
    );
  group
    .command('history <email>')
    .description('what operators did with an account, newest first, one JSON object a line; by id if it was erased')
    .action((email: string) => withCtx((ctx) => history(ctx, terminal, email)));
}
