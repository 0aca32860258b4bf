/** `assent client …`: register the programs that may ask for tokens. */

import type { Command } from 'commander';
import { atTheMachine } from '../accounts/operator-events.ts';
import type { Ctx } from '../platform/ctx.ts';
import type { Terminal } from '../platform/terminal.ts';
import { type ClientChange, changeClient, createClient, listClients } from './clients.ts';

interface Chosen {
  readonly name?: string;
  readonly redirectUri?: readonly string[];
  readonly firstParty?: boolean;
  readonly passwordGrant?: boolean;
}

const another = (value: string, before: readonly string[] | undefined): string[] => [...(before ?? []), value];

/** What the options say; what they do not name is absent. */
const changeOf = ({ name, redirectUri, firstParty, passwordGrant }: Chosen): ClientChange => ({
  ...(name === undefined ? {} : { name }),
  ...(redirectUri === undefined ? {} : { redirect_uris: redirectUri }),
  ...(firstParty === undefined ? {} : { first_party: firstParty }),
  ...(passwordGrant === undefined ? {} : { password_grant: passwordGrant }),
});

async function showClients(ctx: Ctx, print: Terminal['print']): Promise<void> {
  let after: string | undefined;
  do {
    const { items, next } = await listClients(ctx, { after, limit: 500 });
    for (const client of items) print(client);
    after = next ?? undefined;
  } while (after !== undefined);
}

/** Adds them to the program. */
export function clientCommands(program: Command, { say, print, withCtx }: Terminal): void {
  const group = program.command('client').description('programs that may ask for tokens');
  group
    .command('create <id>')
    .description('register a client of /oauth/authorize and POST /api/token')
    .option('--name <name>', 'what people call it')
    .option('--redirect-uri <uri>', 'where people are sent back to; repeatable', another)
    .option('--first-party', 'your own program: people are not asked whether it may act for them')
    .option('--password-grant', 'it may exchange names and passwords for tokens: only for your own programs')
    .action((id: string, options: Chosen) =>
      withCtx(async (ctx) => {
        await createClient(ctx, { ...changeOf(options), id, name: options.name ?? id }, atTheMachine);
        say(`Made the client ${id}.`);
      }),
    );
  group
    .command('list')
    .description('all clients, one JSON object a line')
    .action(() => withCtx((ctx) => showClients(ctx, print)));
  group
    .command('change <id>')
    .description('change what is named; the redirect addresses replace those before')
    .option('--name <name>', 'what people call it')
    .option('--redirect-uri <uri>', 'where people are sent back to; repeatable', another)
    .option('--first-party', 'people are not asked')
    .option('--no-first-party', 'people are asked')
    .option('--password-grant', 'it may exchange names and passwords for tokens')
    .option('--no-password-grant', 'it may not')
    .action((id: string, options: Chosen) =>
      withCtx(async (ctx) => print(await changeClient(ctx, id, changeOf(options), atTheMachine))),
    );
  group
    .command('disable <id>')
    .description('it gets no tokens any more, and all it has end')
    .action((id: string) =>
      withCtx(async (ctx) => {
        await changeClient(ctx, id, { disabled: true }, atTheMachine);
        say(`The client ${id} is disabled; its tokens have ended.`);
      }),
    );
  group
    .command('enable <id>')
    .description('it may ask for tokens again')
    .action((id: string) =>
      withCtx(async (ctx) => {
        await changeClient(ctx, id, { disabled: false }, atTheMachine);
        say(`The client ${id} is enabled.`);
      }),
    );
}
