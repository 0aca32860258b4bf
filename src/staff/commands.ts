/** `assent company …`, `assent shop …` and `assent staff …`: businesses, their shops, and the history of rights. */

import { type Command, InvalidArgumentError } from 'commander';
import type { Ctx } from '../platform/ctx.ts';
import type { Terminal } from '../platform/terminal.ts';
import {
  addShop,
  type CompanyChange,
  changeCompany,
  changeShop,
  companyRecords,
  createCompany,
} from './companies/companies.ts';
import type { Author } from './history/lines.ts';
import { listHistory, whoCould } from './history/past.ts';
import { verifyHistory } from './history/verify.ts';
import { isPermission, type Permission, permissionKeys } from './permissions.ts';

interface Chosen {
  readonly name?: string;
  readonly language: string;
  readonly active?: boolean;
  readonly reason?: string;
}

function id(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('Name it by its id.');
  return value;
}

function permission(text: string): Permission {
  if (!isPermission(text)) throw new InvalidArgumentError(`Known: ${permissionKeys.join(', ')}.`);
  return text;
}

function moment(text: string): Date {
  const value = new Date(text);
  if (Number.isNaN(value.getTime())) throw new InvalidArgumentError('Write it as 2026-11-21T08:00:00Z.');
  return value;
}

/** Whoever sits at the machine. */
const author = (reason?: string): Author => ({ name: 'command', evidence: {}, reason });

const shown = ({ name, language, active }: Chosen): { name?: Record<string, string>; active?: boolean } => ({
  ...(name === undefined ? {} : { name: { [language]: name } }),
  ...(active === undefined ? {} : { active }),
});

const another = (value: string, before: readonly string[]): string[] => [...before, value];

function companies(program: Command, { print, withCtx }: Terminal): void {
  const group = program.command('company').description('businesses and their owners');
  const change = (company: number, what: CompanyChange, reason?: string): Promise<void> =>
    withCtx(async (ctx) => print(await changeCompany(ctx, company, what, author(reason))));
  group
    .command('create <name>')
    .description('make a company; an owner without an account is invited by mail')
    .requiredOption('--owner <email>', 'e-mail address of the owner')
    .option('--shop <name>', 'a shop; repeatable', another, [])
    .option('--language <code>', 'language of the names', 'en')
    .option('--reason <text>', 'why, for the history')
    .action((name: string, { owner, shop, language, reason }: Chosen & { owner: string; shop: string[] }) =>
      withCtx(async (ctx) => {
        const shops = shop.map((title) => ({ [language]: title }));
        print(await createCompany(ctx, { name: { [language]: name }, owner, shops, language }, author(reason)));
      }),
    );
  group
    .command('list')
    .description('all companies, one JSON object a line')
    .action(() =>
      withCtx(async (ctx) => {
        for (const company of await companyRecords(ctx)) print(company);
      }),
    );
  group
    .command('change')
    .argument('<company>', 'its id', id)
    .description('rename, open or close a company; rights do not depend on whether it is open')
    .option('--name <name>', 'the new name, instead of all names')
    .option('--language <code>', 'language of the name', 'en')
    .option('--active', 'customers see it')
    .option('--no-active', 'customers do not see it')
    .option('--reason <text>', 'why, for the history')
    .action((company: number, options: Chosen) =>
      change(company, { ...shown(options), language: options.language }, options.reason),
    );
  group
    .command('owner')
    .argument('<company>', 'its id', id)
    .argument('[email]', 'address of the new owner')
    .description('make somebody else the owner; they are invited when nobody has proven the address')
    .option('--none', 'the company goes without an owner: colleagues must manage it')
    .option('--language <code>', 'language of the invitation', 'en')
    .option('--reason <text>', 'why, for the history')
    .action((company: number, email: string | undefined, options: Chosen & { none?: boolean }, self: Command) =>
      (email === undefined) === (options.none === true)
        ? change(company, { owner: email ?? null, language: options.language }, options.reason)
        : self.error('error: name the owner by e-mail address, or say --none'),
    );
}

function shops(program: Command, { print, withCtx }: Terminal): void {
  const group = program.command('shop').description('shops of companies');
  group
    .command('add')
    .argument('<company>', 'its id', id)
    .argument('<name>', 'of the shop')
    .description('open a shop; the owner gets every right in it')
    .option('--language <code>', 'language of the name', 'en')
    .option('--reason <text>', 'why, for the history')
    .action((company: number, name: string, { language, reason }: Chosen) =>
      withCtx(async (ctx) => print(await addShop(ctx, company, { [language]: name }, author(reason)))),
    );
  group
    .command('change')
    .argument('<company>', 'its id', id)
    .argument('<shop>', 'its id', id)
    .description('rename, open or close a shop; rights do not depend on whether it is open')
    .option('--name <name>', 'the new name, instead of all names')
    .option('--language <code>', 'language of the name', 'en')
    .option('--active', 'customers see it')
    .option('--no-active', 'customers do not see it')
    .option('--reason <text>', 'why, for the history')
    .action((company: number, shop: number, options: Chosen) =>
      withCtx(async (ctx) => {
        print(await changeShop(ctx, { company, shop }, shown(options), author(options.reason)));
      }),
    );
}

async function verify(
  ctx: Ctx,
  { print }: Terminal,
  { company, head, json }: { company: number | undefined; head?: string; json?: boolean },
): Promise<void> {
  const check = await verifyHistory(ctx, { company, head });
  const { lines, companies, seals, unsealed, faults } = check;
  if (json) print(check);
  else if (faults.length === 0) {
    print(`The history holds: ${lines} lines of ${companies} companies, and the rights are what it says.`);
    print(`${seals} seals hold, ${unsealed} lines are not yet sealed.`);
  } else for (const { company: where, what } of faults) print(where === null ? what : `company ${where}: ${what}`);
  if (faults.length > 0) process.exitCode = 1;
}

async function history(ctx: Ctx, { print }: Terminal, company: number): Promise<void> {
  let after: number | undefined;
  for (;;) {
    const { items, more } = await listHistory(ctx, company, { after, limit: 500 });
    for (const line of items) print(line);
    if (!more) return;
    after = items.at(-1)!.number;
  }
}

function staff(program: Command, terminal: Terminal): void {
  const { print, withCtx } = terminal;
  const group = program.command('staff').description('who may do what, and who changed it');
  group
    .command('verify')
    .argument('[company]', 'its id; absent: all', id)
    .description('check every line of the history, its seals, and the rights in force against it')
    .option('--head <hash>', 'a head that was kept elsewhere: the history must lead through it')
    .option('--json', 'as JSON')
    .action((company: number | undefined, options: { head?: string; json?: boolean }) =>
      withCtx((ctx) => verify(ctx, terminal, { company, ...options })),
    );
  group
    .command('history')
    .argument('<company>', 'its id', id)
    .description('who changed what for whom, newest first, one JSON object a line')
    .action((company: number) => withCtx((ctx) => history(ctx, terminal, company)));
  group
    .command('who')
    .argument('<company>', 'its id', id)
    .description('who holds a right in a shop, or held it at a moment, one JSON object a line')
    .requiredOption('--shop <id>', 'the shop', id)
    .requiredOption('--permission <key>', 'the right', permission)
    .option('--at <time>', 'the moment; absent: now', moment)
    .action((company: number, { at, ...asked }: { shop: number; permission: Permission; at?: Date }) =>
      withCtx(async (ctx) => {
        const holders = await whoCould(ctx, company, { ...asked, at });
        for (const holder of holders) print(holder);
      }),
    );
}

/** Adds them to the program. */
export function staffCommands(program: Command, terminal: Terminal): void {
  companies(program, terminal);
  shops(program, terminal);
  staff(program, terminal);
}
