/**
 * Import: many statements of the shop out of a file, by the same verb and rules as one. Each row that is wrong costs
 * itself only; a row that was written is not written again, so an import that ended early is simply run once more.
 */
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { Failure } from '../../platform/failure.ts';
import { say } from '../../platform/language.ts';
import type { Outcome } from '../rules.ts';
import { type ConsentStatement, type Said, sayAll } from '../statements.ts';
import { openPiles } from './piles.ts';
import { FileError, type FileRecord, type Format, type Head, readRecords } from './records.ts';
import { columnsFault, openRows, type RowOptions } from './rows.ts';

/** Batches under way at once: PostgreSQL writes one while we prepare the other. */
const LANES = 2;
/** Rows of one address lie in one pile; a pile of a million rows is some 4,000. */
const PILES = 256;

export interface ImportSummary {
  /** Rows in the file, as far as it was read. */
  read: number;
  /** Events that count. */
  written: number;
  /** Among them: questions to the address, where its channel has double opt-in. */
  asked: number;
  /** Said before or so already. */
  unchanged: number;
  /** Written as evidence that changes nothing, by the rule that kept them from it. */
  kept: Partial<Record<Exclude<Outcome, 'applied'>, number>>;
  /** Rows that are wrong. */
  refused: number;
  /** It ended early because somebody asked for it. */
  interrupted: boolean;
}

export interface ImportOptions extends RowOptions {
  readonly format?: Format | undefined;
  /** Rows of one transaction. */
  readonly batch: number;
  /** Decides everything and writes nothing. */
  readonly dryRun: boolean;
  /** Told of each row that is wrong. */
  readonly refused: (head: Head, record: FileRecord, why: string) => Promise<void> | void;
  /** Told now and then how far it is. */
  readonly progress?: (summary: Readonly<ImportSummary>) => void;
  /** Ends it after the rows that were read. */
  readonly signal?: AbortSignal;
}

interface Row {
  readonly record: FileRecord;
  readonly statement: ConsentStatement;
}

/** What becomes of rows: written now, or decided at the end. */
interface Writer {
  /** A promise when the next row has to wait. */
  add(row: Row): Promise<void> | undefined;
  finish(): Promise<void>;
  /** Lets go of what it holds; nothing is under way any more after it. */
  close(): Promise<void>;
}

/**
 * Imports a file of consents.
 * @throws FileError, before anything is written, for a file that cannot be read or whose columns are not known
 */
export async function importConsents(
  ctx: Ctx,
  source: AsyncIterable<Buffer | string>,
  options: ImportOptions,
): Promise<ImportSummary> {
  const { format, batch, dryRun, refused, progress = () => {}, signal } = options;
  const summary: ImportSummary = {
    read: 0,
    written: 0,
    asked: 0,
    unchanged: 0,
    kept: {},
    refused: 0,
    interrupted: false,
  };
  const { head, records } = await readRecords(source, format);
  const fault = head.format === 'csv' ? columnsFault(head.columns) : undefined;
  if (fault !== undefined) throw new FileError(fault);
  const rows = await openRows(ctx, options);
  const refuse = async (record: FileRecord, why: string): Promise<void> => {
    summary.refused += 1;
    await refused(head, record, why);
  };
  const settle = async (batch: readonly Row[], said: readonly (Said | Error)[]): Promise<void> => {
    for (const [index, one] of said.entries()) {
      if (one instanceof Error) await refuse(batch[index]!.record, reasonOf(one));
      else count(summary, one);
    }
    progress(summary);
  };
  const writer = dryRun ? rehearsal(ctx, batch, settle, signal) : lanes(ctx, batch, settle);
  try {
    for await (const some of records) {
      for (const record of some) {
        summary.read += 1;
        const statement = rows.read(record);
        if (typeof statement === 'string') await refuse(record, statement);
        else if (statement === null) summary.unchanged += 1;
        else {
          const wait = writer.add({ record, statement });
          if (wait !== undefined) await wait;
        }
      }
      progress(summary);
      if (signal?.aborted === true) break;
    }
    await writer.finish();
  } finally {
    await writer.close();
  }
  return { ...summary, interrupted: signal?.aborted === true };
}

function count(summary: ImportSummary, { written, outcome, state }: Said): void {
  if (!written) summary.unchanged += 1;
  else if (outcome === 'applied') {
    summary.written += 1;
    if (state === 'pending') summary.asked += 1;
  } else if (outcome !== undefined) summary.kept[outcome] = (summary.kept[outcome] ?? 0) + 1;
}

const reasonOf = (error: Error): string =>
  error instanceof Failure ? say('en', { key: `error.${error.code}`, values: error.values }) : error.message;

/** Says a batch. What the database refuses of it is searched for, so that it costs only itself. */
async function sayBatch(ctx: Ctx, batch: readonly Row[]): Promise<(Said | Error)[]> {
  try {
    return await sayAll(
      ctx,
      batch.map(({ statement }) => statement),
    );
  } catch (error) {
    // A database that is away or busy is no fault of a row.
    if (error instanceof Failure || !(error instanceof Error) || ctx.db.inTransaction) throw error;
    if (batch.length === 1) return [error];
    const half = Math.ceil(batch.length / 2);
    return [...(await sayBatch(ctx, batch.slice(0, half))), ...(await sayBatch(ctx, batch.slice(half)))];
  }
}

/** The address of a row: rows of one are said in their order. */
const addressOf = ({ statement: { about } }: Row): string => ('value' in about ? about.value : String(about.point));

/** Any number that spreads addresses evenly. */
function spread(text: string, over: number): number {
  let sum = 0;
  for (let at = 0; at < text.length; at += 1) sum = (sum * 31 + text.charCodeAt(at)) | 0;
  return (sum >>> 0) % over;
}

/** Writes batches, two at a time, each of its own addresses. */
function lanes(
  ctx: Ctx,
  size: number,
  settle: (batch: readonly Row[], said: readonly (Said | Error)[]) => Promise<void>,
): Writer {
  const all = Array.from({ length: LANES }, () => ({ waiting: [] as Row[], running: Promise.resolve() }));
  const start = async (lane: (typeof all)[number]): Promise<void> => {
    await lane.running;
    const batch = lane.waiting;
    lane.waiting = [];
    if (batch.length === 0) return;
    lane.running = sayBatch(ctx, batch).then((said) => settle(batch, said));
    // Whoever waits for it next hears of a failure.
    lane.running.catch(() => {});
  };
  return {
    add(row) {
      const lane = all[spread(addressOf(row), LANES)]!;
      lane.waiting.push(row);
      return lane.waiting.length < size ? undefined : start(lane);
    },
    async finish() {
      await Promise.all(all.map(start));
      await Promise.all(all.map(({ running }) => running));
    },
    async close() {
      await Promise.allSettled(all.map(({ running }) => running));
    },
  };
}

const back = new Error('taken back');

/**
 * Decides without writing: each transaction is rolled back. Rows of one address depend on each other and on no others, so
 * they are gathered, and those of some addresses decided at a time: exact, and no customer waits behind a rehearsal of
 * minutes for an address it has locked.
 */
function rehearsal(
  ctx: Ctx,
  size: number,
  settle: (batch: readonly Row[], said: readonly (Said | Error)[]) => Promise<void>,
  signal: AbortSignal | undefined,
): Writer {
  const piles = openPiles(PILES);
  const decide = async (batch: readonly Row[]): Promise<void> => {
    let said: (Said | Error)[] = [];
    try {
      await transaction(ctx, async (tx) => {
        said = await sayBatch(tx, batch);
        throw back;
      });
    } catch (error) {
      if (error !== back) throw error;
    }
    await settle(batch, said);
  };
  return {
    add: (row) => {
      const { line, fields } = row.record;
      return piles.add(
        spread(addressOf(row), PILES),
        JSON.stringify({ record: { line, fields, text: '' }, statement: row.statement }),
      );
    },
    async finish() {
      let batch: Row[] = [];
      for (let pile = 0; pile < PILES && signal?.aborted !== true; pile += 1) {
        for (const line of await piles.read(pile)) batch.push(revive(JSON.parse(line) as Row));
        if (batch.length < size && pile < PILES - 1) continue;
        if (batch.length > 0) await decide(batch);
        batch = [];
      }
    },
    close: () => piles.close(),
  };
}

/** JSON has no dates. */
const revive = ({ record, statement }: Row): Row => ({
  record,
  statement: { ...statement, ...(statement.at === undefined ? {} : { at: new Date(statement.at) }) },
});
