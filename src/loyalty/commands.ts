/** `assent loyalty …`: how deliveries are doing, what is parked, and whether the provider can be reached. */

import { type Command, InvalidArgumentError } from 'commander';
import type { Ctx } from '../platform/ctx.ts';
import { CallError, call } from '../platform/outgoing.ts';
import type { Terminal } from '../platform/terminal.ts';
import { closeBreaker } from './breaker.ts';
import { configured } from './members.ts';
import { dropChanges, listParked, retryParked } from './parked.ts';
import { loyaltyStatus } from './state.ts';

interface Json {
  readonly json?: boolean;
}

/** Characters of a provider's answer that are shown. */
const SHOWN = 300;
/** Nothing of it may move the cursor of a terminal or rewrite what stands there. */
const control = /[\u0000-\u001f\u007f-\u009f]+/g;

function accountId(text: string, before: number[] = []): number[] {
  const id = Number(text);
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidArgumentError('Name accounts by their id.');
  return [...before, id];
}

const list = (accounts: readonly number[]): string => accounts.join(', ');

async function showStatus(ctx: Ctx, { print }: Terminal, { json }: Json): Promise<void> {
  const status = await loyaltyStatus(ctx);
  if (json) return print(status);
  const { connector, noticed, waiting, parked, parked_reason, oldest_seconds, breaker, attempts } = status;
  const { by_hand, not_followed } = status;
  const oldest = oldest_seconds === null ? '' : `, the oldest change ${oldest_seconds} s old`;
  const counts = Object.entries(attempts).map(([outcome, count]) => `${count} ${outcome}`);
  print(`connector  ${connector}`);
  print(`waiting    ${waiting}${oldest}${noticed === 0 ? '' : `, and ${noticed} changes not taken up yet`}`);
  print(`parked     ${parked}${parked_reason === null ? '' : `, most often: ${parked_reason}`}`);
  print(`attempts   ${counts.length === 0 ? 'none' : counts.join(', ')}`);
  if (by_hand > 0) print(`by hand    ${by_hand} erased here that a former provider may know: see loyalty parked`);
  if (not_followed !== null)
    print(
      `missing    changes between ${not_followed.from} and ${not_followed.to} were not followed: run loyalty reconcile`,
    );
  print(
    breaker.state !== 'closed'
      ? `breaker    ${breaker.open ? `open since ${breaker.since}, asks again at ${breaker.until}` : 'half-open, will be tried with the next change'}: ${breaker.reason}`
      : `breaker    closed${breaker.failures === 0 ? '' : `, ${breaker.failures} failures in a row: ${breaker.reason}`}`,
  );
}

async function showParked(ctx: Ctx, { say, print }: Terminal, { json }: Json): Promise<void> {
  const parked = await listParked(ctx);
  if (json) return print(parked);
  if (parked.length === 0) say('Nothing is parked.');
  for (const { account, since, attempts, reason } of parked)
    print(`${String(account).padEnd(10)} since ${since}  attempts ${attempts}  ${reason}`);
}

/** Says for which accounts a command did what it does, and for which there was nothing to do. */
function tell({ say, print }: Terminal, json: boolean | undefined, verb: string, did: number[], asked: number[]): void {
  const nothing = asked.filter((account) => !did.includes(account));
  if (json) print({ [verb]: did, nothing_to_do: nothing });
  else if (did.length > 0) print(`${verb}: ${list(did)}`);
  if (nothing.length > 0) {
    say(`Neither waiting nor parked: ${list(nothing)}`);
    process.exitCode = 1;
  }
}

async function retry(ctx: Ctx, terminal: Terminal, accounts: number[], json?: boolean, all?: boolean): Promise<void> {
  if (!all && accounts.length === 0) {
    terminal.say('Name accounts, or take --all that are parked.');
    process.exitCode = 1;
    return;
  }
  const did = await retryParked(ctx, all ? 'all' : accounts);
  if (all && did.length === 0) terminal.say('Nothing is parked.');
  tell(terminal, json, 'retried', did, all ? [] : accounts);
}

async function drop(ctx: Ctx, terminal: Terminal, accounts: number[], json?: boolean): Promise<void> {
  const did = await dropChanges(ctx, accounts);
  tell(terminal, json, 'dropped', did, accounts);
  if (did.length > 0) terminal.say('The provider is not told of these until something changes again.');
}

interface Test {
  readonly connector: string;
  readonly ok: boolean;
  /** What the provider answered, or why it did not. */
  readonly detail: string;
}

/** Asks for an account that nobody has: whether the connection and its secrets are right. Nothing is changed. */
async function testProvider(ctx: Ctx): Promise<Test> {
  const provider = configured(ctx);
  if (provider === undefined) return { connector: 'none', ok: false, detail: 'no connector is configured' };
  const { name, connector, setting } = provider;
  const asked = connector.ask(setting as never, 0);
  if (asked === null)
    return { connector: name, ok: false, detail: 'this provider cannot be asked, so nothing was tried' };
  try {
    const answer = await call(asked, ctx.settings.get('LOYALTY_TIMEOUT') * 1000);
    const known = connector.known(setting as never, answer);
    const said = `HTTP ${answer.status}`;
    if ('again' in known) {
      const words = answer.body.slice(0, SHOWN).replaceAll(control, ' ');
      return { connector: name, ok: false, detail: `${known.again}; it said: ${words}` };
    }
    // It answers: deliveries need not wait for the next probe.
    await closeBreaker(ctx, name);
    return { connector: name, ok: true, detail: `it answers as it should (${said})` };
  } catch (error) {
    return {
      connector: name,
      ok: false,
      detail: error instanceof CallError ? error.message : 'the answer is not readable',
    };
  }
}

async function test(ctx: Ctx, { print }: Terminal, { json }: Json): Promise<void> {
  const result = await testProvider(ctx);
  print(json ? result : `${result.connector}: ${result.detail}`);
  if (!result.ok) process.exitCode = 1;
}

/** Adds them to the program. @returns the group, for more of them */
export function loyaltyCommands(program: Command, terminal: Terminal): Command {
  const { withCtx } = terminal;
  const group = program.command('loyalty').description('what the loyalty provider is told');
  group
    .command('status')
    .description('how deliveries are doing')
    .option('--json', 'as JSON')
    .action((options: Json) => withCtx((ctx) => showStatus(ctx, terminal, options)));
  group
    .command('parked')
    .description('accounts that could not be delivered, each with its reason (the first 1000)')
    .option('--json', 'as JSON')
    .action((options: Json) => withCtx((ctx) => showParked(ctx, terminal, options)));
  group
    .command('retry')
    .description('try these accounts again at once')
    .argument('[account...]', 'their ids', accountId, [])
    .option('--all', 'all that are parked')
    .option('--json', 'as JSON')
    .action((accounts: number[], { json, all }: Json & { all?: boolean }) =>
      withCtx((ctx) => retry(ctx, terminal, accounts, json, all)),
    );
  group
    .command('drop')
    .description('give up what changed: the provider is not told until the next change')
    .argument('<account...>', 'their ids', accountId)
    .option('--json', 'as JSON')
    .action((accounts: number[], { json }: Json) => withCtx((ctx) => drop(ctx, terminal, accounts, json)));
  group
    .command('test')
    .description('ask the provider something harmless: connection and secrets are right')
    .option('--json', 'as JSON')
    .action((options: Json) => withCtx((ctx) => test(ctx, terminal, options)));
  return group;
}
