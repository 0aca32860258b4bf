/** `assent key …` and what `assent operator …` does besides making operators. */
import type { Command } from 'commander';
import { apiScopes } from '../accounts/callers.ts';
import type { Ctx } from '../platform/ctx.ts';
import { CommandError } from '../platform/failure.ts';
import type { Terminal } from '../platform/terminal.ts';
import { listOperators } from './accounts.ts';
import { revokeOperator } from './acts.ts';
import { accountOf, type Chosen, doer, tellKeys, WHY } from './commands.ts';
import { KEY_NAME } from './key-routes.ts';
import { createApiKey, listApiKeys, revokeApiKey, workingKey } from './keys.ts';

async function makeKey(ctx: Ctx, name: string, chosen: Chosen & { scopes: string[] }): Promise<string> {
  const { scopes } = chosen;
  if (name.trim() === '' || name.length > KEY_NAME)
    throw new CommandError(`The name must be between 1 and ${KEY_NAME} characters long.`);
  const unknown = scopes.filter((scope) => scope !== '*' && !(apiScopes as readonly string[]).includes(scope));
  if (unknown.length > 0)
    throw new CommandError(`Unknown scope ${unknown.join(', ')}. Known: ${apiScopes.join(', ')}, or * for all.`);
  return (await createApiKey(ctx, { name, scopes }, doer(chosen))).key;
}

async function showKeys(ctx: Ctx, { say, print }: Terminal): Promise<void> {
  let after: number | null = null;
  do {
    const { items, next } = await listApiKeys(ctx, { after, limit: 500 });
    for (const key of items) print(key);
    if (items.length === 0 && after === null) say('There is no API key.');
    after = next === null ? null : Number(next);
  } while (after !== null);
}

/** Adds `assent key …` to the program. */
export function keyCommands(program: Command, terminal: Terminal): void {
  const { say, print, withCtx } = terminal;
  const group = program.command('key').description('API keys for programs');
  group
    .command('create <name>')
    .description('make an API key; it is shown once')
    .requiredOption('--scopes <list>', 'comma separated scopes, or *', (list: string) =>
      list.split(',').map((scope) => scope.trim()),
    )
    .option(...WHY)
    .action((name: string, chosen: Chosen & { scopes: string[] }) =>
      withCtx(async (ctx) => print(await makeKey(ctx, name, chosen))),
    );
  group
    .command('list')
    .description('all keys without the key itself, newest first, one JSON object a line; revoked ones too')
    .action(() => withCtx((ctx) => showKeys(ctx, terminal)));
  group
    .command('revoke <name>')
    .description('revoke a key for good: no process takes it any more')
    .option(...WHY)
    .action((name: string, chosen: Chosen) =>
      withCtx(async (ctx) => {
        const id = await workingKey(ctx, name);
        if (id === undefined || !(await revokeApiKey(ctx, id, doer(chosen))))
          throw new CommandError(`No key of the name ${name} works.`);
        say(`The key ${name} is revoked.`);
      }),
    );
}

/** Adds to `assent operator …`. */
export function operatorCommands(group: Command, { say, print, withCtx }: Terminal): void {
  group
    .command('list')
    .description('all operators, one JSON object a line; those that are switched off too')
    .action(() =>
      withCtx(async (ctx) => {
        const all = await listOperators(ctx);
        for (const one of all) print(one);
        if (all.length === 0) say('There is no operator: npm run assent -- operator create you@example.com');
      }),
    );
  group
    .command('revoke <email>')
    .description('take the role away; the account stays, and its sign-ins end')
    .option(...WHY)
    .action((email: string, chosen: Chosen) =>
      withCtx(async (ctx) => {
        const id = await accountOf(ctx, email);
        const { changed, ended, keys_made } = await revokeOperator(ctx, id, doer(chosen));
        if (!changed) throw new CommandError(`${email} is no operator.`);
        say(`${email} is no operator any more; sign-ins ended: ${ended}.`);
        tellKeys(say, keys_made);
        print({ id, keys_made });
      }),
    );
}
