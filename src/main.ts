#!/usr/bin/env node
/** The commands. Progress and words go to stderr, data to stdout. */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { accountCommands, type Chosen, doer, WHY } from './admin/commands.ts';
import { keyCommands, operatorCommands } from './admin/operator-commands.ts';
import { apiDocument } from './app.ts';
import { type Config, ConfigError, configRows, readConfig } from './config.ts';
import { verifyLedger } from './consent/ledger/audit.ts';
import { rebuildStates } from './consent/ledger/projection.ts';
import { checkProof, describeCheck } from './consent/proof/check.ts';
import { doctor } from './doctor.ts';
import { type Installation, openInstallation } from './installation.ts';
import { loyaltyCommands } from './loyalty/commands.ts';
import { reconcileCommand } from './loyalty/reconcile-command.ts';
import { clientCommands } from './oauth/commands.ts';
import { createOperator, resetSecondFactor } from './operators.ts';
import { budgetCommand } from './phone/budget-command.ts';
import { testCommand } from './phone/test-command.ts';
import { sql } from './platform/db.ts';
import { EngineError } from './platform/engine/engine.ts';
import { CommandError, Failure } from './platform/failure.ts';
import { stringifyJson } from './platform/json.ts';
import { say as text } from './platform/language.ts';
import { createLog } from './platform/log.ts';
import { SchemaError } from './platform/migrate.ts';
import { changeSetting, listSettings, readSetting, settingHistory } from './platform/settings.ts';
import type { Terminal } from './platform/terminal.ts';
import { takeOver } from './profile/take-over.ts';
import { serve } from './serve.ts';
import { staffCommands } from './staff/commands.ts';
import { transferCommands } from './transfer.ts';

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const print = (value: unknown): void =>
  void process.stdout.write(`${typeof value === 'string' ? value : stringifyJson(value)}\n`);

// A terminal or pipe that went away must not end the service.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

/** What went wrong as a sentence, where it is the operator's to put right; undefined for defects of ours. */
function sentence(error: unknown): string | undefined {
  if (
    error instanceof ConfigError ||
    error instanceof EngineError ||
    error instanceof SchemaError ||
    error instanceof CommandError
  )
    return error.message;
  if (error instanceof Failure) {
    const complaints = error.complaints.map((complaint) => `${complaint.path.join('.')}: ${text('en', complaint)}`);
    return complaints.length > 0
      ? complaints.join('\n')
      : text('en', { key: `error.${error.code}`, values: error.values });
  }
  return undefined;
}

function die(error: unknown): never {
  say(sentence(error) ?? (error instanceof Error ? (error.stack ?? error.message) : String(error)));
  process.exit(1);
}

/** Runs a command on an opened installation, beside a running server too, and closes it. */
async function withInstallation(work: (installation: Installation, config: Config) => Promise<void>): Promise<void> {
  const config = readConfig(process.env);
  const installation = await openInstallation({ config, log: createLog('silent'), say, join: true });
  try {
    await work(installation, config);
  } finally {
    await installation.close();
  }
}

const terminal: Terminal = {
  say,
  print,
  withCtx: (work) => withInstallation(({ ctx }, { PUBLIC_URL }) => work(ctx, PUBLIC_URL)),
};

/** Checks a proof file: offline, and without an installation. */
function verifyFile(file: string, { head, key, json }: { head?: string; key?: string; json?: boolean }): void {
  if (head !== undefined) throw new CommandError('--head is for the database; a proof file is checked with --key.');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  const check = checkProof(text, { key });
  print(json ? check : describeCheck(check));
  if (check.fault !== undefined) process.exitCode = 1;
}

/** `NAME=JSON`; what is no JSON is taken as text. */
function nameAndValue(argument: string, before: [string, unknown][]): [string, unknown][] {
  const at = argument.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Write NAME=JSON.');
  return [...before, [argument.slice(0, at), parseValue(argument.slice(at + 1))]];
}

function parseValue(value: string): unknown {
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

async function run(options: { demo?: boolean; set: [string, unknown][] }, workerOnly = false): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog(config.LOG_LEVEL);
  const onFatal = (why: string): void => die(new ConfigError(why));
  const service = await serve({ config, log, say, onFatal, workerOnly, ...options });
  const { installation, url } = service;

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second Ctrl-C is somebody who does not want to wait.
      if (stopping) process.exit(1);
      stopping = true;
      setTimeout(() => die(new ConfigError('Stopping took longer than 10 s; ended all the same.')), 10_000).unref();
      void service.stop().then(() => {
        log.flush(() => process.exit(0));
        setTimeout(() => process.exit(0), 200).unref();
      }, die);
    });
  }

  const data = installation.engine === undefined ? 'PostgreSQL at DATABASE_URL' : config.DATA_DIR;
  const operators = await installation.ctx.db.one<{ any: boolean }>(
    sql`select exists (select from account where is_operator) as any`,
  );
  say('');
  say(url === undefined ? '  Assent works on jobs and seals.' : `  Assent is ready: ${url}`);
  if (url !== undefined) {
    say(`    what runs here   ${url}/`);
    say(`    API reference    ${url}/docs`);
  }
  say(`    data             ${data}`);
  if (options.demo) {
    say('    demo sign-ins    ada@example.com, usta@example.com, operator@example.com … password demo-assent-2026');
    say('    demo API key     assent_demo_key_2026');
  } else if (!operators!.any) {
    say('    first operator   npm run assent -- operator create you@example.com');
  }
  const open = !['127.0.0.1', 'localhost', '::1'].includes(config.HOST);
  if (
    open &&
    url !== undefined &&
    (config.SMTP_URL === undefined || installation.ctx.settings.get('SMS_PROVIDER').provider === 'console')
  ) {
    say(
      '    WARNING          codes and links are printed here and kept for an hour, yet others can reach this service:',
    );
    say('                     set SMTP_URL and an SMS_PROVIDER');
  }
  say('');
}

const program = new Command('assent')
  .description('Customer accounts, consent and staff permissions of a shop, each answer with its proof.')
  .showHelpAfterError()
  .addHelpText(
    'after',
    `\nEnvironment:\n${configRows.map(({ name, description }) => `  ${name.padEnd(18)} ${description}`).join('\n')}`,
  );

program
  .command('serve', { isDefault: true })
  .description('run the service')
  .option('--demo', 'fill an empty database with the demo shop')
  .option('--set <NAME=JSON>', 'store a setting before the start; repeatable', nameAndValue, [])
  .action((options: { demo?: boolean; set: [string, unknown][] }) => run(options));

program
  .command('worker')
  .description('run jobs and seals without HTTP, beside other processes')
  .action(() => run({ set: [] }, true));

program
  .command('migrate')
  .description('bring the schema up to date')
  .action(() =>
    withInstallation(async ({ migrated }) => {
      say(migrated.length === 0 ? 'The schema is up to date.' : `Applied ${migrated.join(', ')}.`);
    }),
  );

program
  .command('doctor')
  .description('check everything the service depends on, with the remedy for what is wrong')
  .option('--json', 'as JSON')
  .action(async ({ json }: { json?: boolean }) => {
    const findings = await doctor(process.env, say);
    if (json) print(findings);
    else
      for (const { ok, name, detail, remedy } of findings)
        print(
          `${ok ? 'ok  ' : 'FAIL'}  ${name.padEnd(12)} ${detail}${remedy === undefined ? '' : `\n      → ${remedy}`}`,
        );
    if (findings.some(({ ok }) => !ok)) process.exitCode = 1;
  });

const operator = program.command('operator').description('people who run the installation');
operator
  .command('create <email>')
  .description('make an operator; without --password a random one is shown once')
  .option('--password <password>', 'the password to set')
  .action((email: string, { password }: { password?: string }) =>
    withInstallation(async ({ ctx }) => {
      const made = await createOperator(ctx, email, password);
      say(
        made.existed
          ? `${made.email} is an operator now; the account was there already.`
          : `Made the operator ${made.email}.`,
      );
      if (made.password !== undefined) print(`password: ${made.password}`);
    }),
  );

operator
  .command('reset-second-factor <email>')
  .description('take the second factor of anybody away who lost their app and recovery codes; their sign-ins end')
  .option(...WHY)
  .action((email: string, chosen: Chosen) =>
    withInstallation(async ({ ctx }) =>
      say(`${await resetSecondFactor(ctx, email, doer(chosen))} signs in by password alone now.`),
    ),
  );

operatorCommands(operator, terminal);

keyCommands(program, terminal);

accountCommands(program, terminal);

clientCommands(program, terminal);

staffCommands(program, terminal);

const settings = program.command('settings').description('what can be changed while the service runs');
settings
  .command('list')
  .description('all settings')
  .action(() => withInstallation(async ({ ctx }) => print(await listSettings(ctx.db))));
settings
  .command('get <name>')
  .description('one setting')
  .action((name: string) => withInstallation(async ({ ctx }) => print(await readSetting(ctx.db, name))));
settings
  .command('set <name> <value>')
  .description(
    'change a setting; the value is JSON, or - for standard input, which keeps secrets out of the shell’s history',
  )
  .action((name: string, value: string) =>
    withInstallation(async ({ ctx }) =>
      print(await changeSetting(ctx, name, parseValue(value === '-' ? readFileSync(0, 'utf8') : value), 'command')),
    ),
  );
settings
  .command('reset <name>')
  .description('return a setting to its default')
  .action((name: string) =>
    withInstallation(async ({ ctx }) => print(await changeSetting(ctx, name, undefined, 'command'))),
  );
settings
  .command('history <name>')
  .description('who changed a setting from what to what')
  .action((name: string) => withInstallation(async ({ ctx }) => print(await settingHistory(ctx.db, name))));

const ledger = program.command('ledger').description('the consent ledger');
ledger
  .command('verify [file]')
  .description('check every line, seal and signature of the database; with a file, a proof, and no database is opened')
  .option('--head <hash>', 'a head that was kept elsewhere: the ledger must lead through it')
  .option('--key <sha256>', 'SHA-256 of the key a proof file must be signed with')
  .option('--json', 'as JSON')
  .action((file: string | undefined, options: { head?: string; key?: string; json?: boolean }) => {
    if (file !== undefined) return verifyFile(file, options);
    const { head, key, json } = options;
    if (key !== undefined)
      throw new CommandError('--key is for proof files; the database is checked with its own key.');
    return withInstallation(async ({ ctx }) => {
      const result = await verifyLedger(ctx, { head, progress: (lines) => say(`${lines} lines checked`) });
      if (json) print(result);
      else
        print(
          result.fault ??
            `The ledger holds: ${result.lines} lines in ${result.seals} seals, ${result.unsealed} not yet sealed.`,
        );
      if (result.fault !== undefined) process.exitCode = 1;
    });
  });

ledger
  .command('rebuild')
  .description('make the states decisions are made from anew, out of the ledger; beside a running service')
  .option('--json', 'as JSON')
  .action(({ json }: { json?: boolean }) =>
    withInstallation(async ({ ctx }) => {
      const result = await rebuildStates(ctx, (states) => say(`${states} states made`));
      if (json) print(result);
      else
        print(
          `${result.states} states follow from the ledger; ${result.repaired} were not what they should have been.`,
        );
    }),
  );

const phone = program.command('phone').description('phone numbers, and what messages to them may cost');
budgetCommand(phone, terminal);
testCommand(phone, terminal);

reconcileCommand(loyaltyCommands(program, terminal), terminal, takeOver);
transferCommands(program, terminal);

program
  .command('openapi')
  .description('print the OpenAPI document')
  .action(() => print(apiDocument()));

await program.parseAsync().catch(die);
