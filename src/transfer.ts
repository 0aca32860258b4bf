/** The commands that carry consents in and out as files. Data goes to stdout, everything said about it to stderr. */

import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { channels } from './consent/channels.ts';
import { type Source, toldSources } from './consent/sources.ts';
import { eventColumns, exportEvents, exportStates, type StateFilter, stateColumns } from './consent/transfer/export.ts';
import { type ImportSummary, importConsents } from './consent/transfer/import.ts';
import {
  FileError,
  type FileRecord,
  type Format,
  type Head,
  writeHeader,
  writeRecords,
} from './consent/transfer/records.ts';
import type { Ctx } from './platform/ctx.ts';
import { CommandError } from './platform/failure.ts';
import { randomKey } from './platform/keys.ts';
import type { Terminal } from './platform/terminal.ts';

/** Rows that are wrong and named one by one where no file takes them. */
const NAMED = 20;
const states = ['granted', 'withdrawn', 'refused', 'suppressed', 'pending', 'expired', 'unknown'];

const format = (): Option => new Option('--format <format>', 'how the file is written').choices(['csv', 'ndjson']);

function whole(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 10_000)
    throw new InvalidArgumentError('A whole number from 1 to 10000.');
  return number;
}

/** What the name of a file says of its format. */
const formatOf = (file: string): Format | undefined =>
  /\.(ndjson|jsonl)$/i.test(file) ? 'ndjson' : /\.(csv|tsv|txt)$/i.test(file) ? 'csv' : undefined;

/** A line of progress: rewritten on a terminal, else a new one, at most once a second. */
function progressLine(stream: NodeJS.WriteStream): { show(line: () => string): void; end(): void } {
  const terminal = stream.isTTY === true;
  let last = performance.now();
  let shown = false;
  return {
    show(line) {
      const now = performance.now();
      if (now - last < 1000) return;
      last = now;
      shown = true;
      stream.write(terminal ? `\r\u001b[K${line()}` : `${line()}\n`);
    },
    end() {
      if (terminal && shown) stream.write('\r\u001b[K');
    },
  };
}

/** Rows that are wrong, in the format they came in, to be put right and imported by themselves. */
function errorFile(path: string | undefined, say: (line: string) => void) {
  let file: FileHandle | undefined;
  let named = 0;
  return {
    async add(head: Head, record: FileRecord, why: string): Promise<void> {
      if (path === undefined) {
        named += 1;
        if (named <= NAMED) say(`line ${record.line}: ${why}`);
        else if (named === NAMED + 1) say('… and more: --errors FILE keeps them all.');
        return;
      }
      const columns = [...head.columns.filter((name) => name !== 'line' && name !== 'error'), 'line', 'error'];
      const whole = { ...head, columns };
      if (file === undefined) {
        file = await open(path, 'w', 0o600);
        await file.write(writeHeader(whole));
      }
      const readable = head.format === 'csv' || Object.keys(record.fields).length > 0;
      const text = readable ? {} : { text: record.text.slice(0, 1000) };
      await file.write(writeRecords(whole, [{ ...record.fields, ...text, line: record.line, error: why }]));
    },
    /** A file of an earlier run would be taken for one of this. */
    async close(): Promise<void> {
      if (file === undefined && path !== undefined) await rm(path, { force: true });
      await file?.close();
    },
  };
}

interface ImportChoices {
  format?: Format;
  dryRun?: boolean;
  errors?: string;
  source: Source;
  batch: number;
  json?: boolean;
}

const number = (value: number): string => value.toLocaleString('en');

function inWords(summary: ImportSummary, dryRun: boolean, seconds: number): string {
  const { read, written, asked, unchanged, kept, refused } = summary;
  const reasons = Object.entries(kept).map(([reason, count]) => `${number(count)} ${reason}`);
  return [
    `${dryRun ? 'Would write' : 'Wrote'} ${number(written)} of ${number(read)} rows in ${seconds.toFixed(1)} s.`,
    `  unchanged         ${number(unchanged)}`,
    ...(asked > 0 ? [`  asked to confirm  ${number(asked)} of those written`] : []),
    ...(reasons.length > 0 ? [`  kept as evidence  ${reasons.join(', ')}`] : []),
    `  refused           ${number(refused)}`,
  ].join('\n');
}

async function importFile(ctx: Ctx, file: string, choices: ImportChoices, { say, print }: Terminal): Promise<void> {
  const { errors, source, batch, json = false, dryRun = false } = choices;
  const fromStdin = file === '-';
  if (errors !== undefined && errors === file) throw new CommandError('--errors names the file that is read.');
  const stop = new AbortController();
  const interrupt = (): void => {
    // A second Ctrl-C is somebody who does not want to wait.
    if (stop.signal.aborted) process.exit(1);
    stop.abort();
    say('Ending after the rows under way …');
  };
  process.on('SIGINT', interrupt);
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  const refusals = errorFile(errors, say);
  const progress = progressLine(process.stderr);
  try {
    const summary = await importConsents(ctx, fromStdin ? process.stdin : await openFile(file), {
      format: choices.format ?? formatOf(file),
      source,
      batch,
      dryRun,
      file: fromStdin ? undefined : basename(file),
      actor: 'command',
      refused: refusals.add,
      progress: ({ read, refused }) =>
        progress.show(
          () => `${number(read)} rows, ${number(Math.round(read / seconds()))} rows/s, ${number(refused)} refused`,
        ),
      signal: stop.signal,
    });
    progress.end();
    if (json) print({ ...summary, dry_run: dryRun, seconds: Math.round(seconds() * 1000) / 1000 });
    else say(inWords(summary, dryRun, seconds()));
    if (summary.refused > 0) {
      process.exitCode = 2;
      if (errors !== undefined) say(`The rows that were refused are in ${errors}, each with its reason.`);
    }
    if (summary.interrupted) {
      process.exitCode = 1;
      say('Interrupted. Run the same command again to go on: what is written is not written twice.');
    }
  } catch (error) {
    progress.end();
    if (error instanceof FileError) throw new CommandError(`${fromStdin ? 'stdin' : file}: ${error.message}`);
    throw error;
  } finally {
    process.off('SIGINT', interrupt);
    await refusals.close();
  }
}

async function openFile(file: string): Promise<AsyncIterable<Buffer>> {
  const handle = await open(file, 'r').catch((error: Error) => {
    throw new CommandError(`${file} cannot be read: ${error.message}`);
  });
  if ((await handle.stat()).isDirectory()) {
    await handle.close();
    throw new CommandError(`${file} is a folder.`);
  }
  return handle.createReadStream({ highWaterMark: 262_144 });
}

interface ExportChoices extends Omit<StateFilter, 'allowed' | 'all'> {
  format?: Format;
  output?: string;
  allowed?: boolean;
  all?: boolean;
  events?: boolean;
}

/** Where an export goes: stdout, or a file that has its name once it is whole. */
async function target(output: string | undefined) {
  if (output === undefined) {
    return {
      write: (text: string) =>
        new Promise<void>((done, fail) => process.stdout.write(text, (error) => (error ? fail(error) : done()))),
      keep: async () => {},
      drop: async () => {},
    };
  }
  const temporary = join(dirname(output), `.${basename(output)}.${randomKey(4)}`);
  const file = await open(temporary, 'wx', 0o600).catch((error: Error) => {
    throw new CommandError(`${output} cannot be written: ${error.message}`);
  });
  return {
    write: async (text: string) => void (await file.writeFile(text)),
    async keep() {
      await file.sync();
      await file.close();
      await rename(temporary, output);
    },
    async drop() {
      await file.close();
      await rm(temporary, { force: true });
    },
  };
}

async function exportFile(ctx: Ctx, choices: ExportChoices, { say }: Terminal): Promise<void> {
  const { output, events = false, allowed = false, all = false, channel, purpose, state } = choices;
  if (events && (state !== undefined || allowed || all))
    throw new CommandError('--events gives every line: --state, --allowed and --all are for states.');
  if (state !== undefined && allowed && state !== 'granted')
    throw new CommandError(`Nobody whose state is ${state} may be contacted: leave out --allowed or --state.`);
  const head: Head = {
    format: choices.format ?? (output === undefined ? undefined : formatOf(output)) ?? 'csv',
    delimiter: ',',
    columns: events ? eventColumns : stateColumns,
  };
  const progress = progressLine(process.stderr);
  const file = await target(output);
  let rows = 0;
  try {
    await file.write(writeHeader(head));
    const write = async (some: readonly Readonly<Record<string, unknown>>[]): Promise<void> => {
      await file.write(writeRecords(head, some));
      rows += some.length;
      progress.show(() => `${number(rows)} rows`);
    };
    if (events) await exportEvents(ctx, { channel, purpose }, write);
    else await exportStates(ctx, { channel, purpose, state, allowed, all }, write);
    await file.keep();
  } catch (error) {
    progress.end();
    await file.drop();
    // Whoever read it has had enough: `… | head`.
    if (output === undefined && (error as NodeJS.ErrnoException).code === 'EPIPE') return;
    throw error;
  }
  progress.end();
  if (output !== undefined) say(`Wrote ${number(rows)} rows to ${output}.`);
}

/** Adds `import` and `export` to the program. */
export function transferCommands(program: Command, terminal: Terminal): void {
  program
    .command('import <file>')
    .description('take over consents from a CSV or NDJSON file; - reads stdin')
    .addOption(format())
    .option('--dry-run', 'decide everything and write nothing')
    .option('--errors <file>', 'where rows that are wrong go, each with its line and reason')
    .addOption(
      new Option('--source <source>', 'where rows that do not say so come from').choices(toldSources).default('import'),
    )
    .option('--batch <rows>', 'rows of one transaction', whole, 1000)
    .option('--json', 'the summary as JSON, on stdout')
    .action((file: string, choices: ImportChoices) =>
      terminal.withCtx((ctx) => importFile(ctx, file, choices, terminal)),
    );
  program
    .command('export')
    .description('consents as a file: one line for each address, channel and purpose')
    .addOption(format())
    .addOption(new Option('--channel <channel>', 'only this channel').choices(channels.map(({ name }) => name)))
    .option('--purpose <purpose>', 'only this purpose')
    .addOption(new Option('--state <state>', 'only this state').choices(states))
    .option('--allowed', 'only who may be contacted now')
    .option('--all', 'also addresses that were erased, which have no recipient')
    .option('--events', 'every line of the ledger instead of the states')
    .option('--output <file>', 'into a file, which appears when it is whole')
    .action((choices: ExportChoices) => terminal.withCtx((ctx) => exportFile(ctx, choices, terminal)));
}
