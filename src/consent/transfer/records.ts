/**
 * Files of records: a stream of bytes cut into records, one at a time, whatever one of them does. A record that is no
 * UTF-8, too long or left open costs that record and not the ones after it, and memory is flat whatever the length.
 */
import { isUtf8 } from 'node:buffer';
import { parse } from 'csv-parse/sync';
import { stringify } from 'csv-stringify/sync';
import { JsonError, parseJson, textFault } from '../../platform/json.ts';

export type Format = 'csv' | 'ndjson';

/** Longest record in bytes, as of the NDJSON calls. */
const RECORD_LIMIT = 65_536;
const LF = 10;
const CR = 13;
const QUOTE = 34;
/** Byte order mark. */
const MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/** A file that cannot be read as records at all. The message is a whole sentence. */
export class FileError extends Error {}

interface Cut {
  /** Line of the file it begins in, from 1. */
  readonly line: number;
  /** Its text, without the end of the line; cut short where it is too long. */
  readonly text: string;
  /** What is wrong with it before anybody looks inside. */
  readonly fault?: string;
}

/** One record: its fields by name, or what is wrong with it. */
export interface FileRecord {
  readonly line: number;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly fault?: string;
  /** What it looked like, where there are no fields. */
  readonly text: string;
}

/** What a file says of itself, known before its first record is looked at. */
export interface Head {
  readonly format: Format;
  /** Of CSV. */
  readonly delimiter: string;
  readonly columns: readonly string[];
}

/** Where a record ends: the index of its LF, or -1. */
interface End {
  readonly at: number;
  /** Lines it takes. */
  readonly lines: number;
  /** Not ended, and in the middle of a quoted cell. */
  readonly open: boolean;
}

/** Quotes count at the beginning of a cell only, as RFC 4180 has it: 5" in the middle of one is text. */
function quotedEnd(bytes: Buffer, from: number, delimiter: number): End {
  let open = false;
  let first = true;
  let lines = 1;
  for (let at = from; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (open) {
      if (byte === LF) lines += 1;
      else if (byte === QUOTE) {
        if (bytes[at + 1] === QUOTE) at += 1;
        else open = false;
      }
      continue;
    }
    if (byte === LF) return { at, lines, open };
    if (byte === QUOTE && first) open = true;
    first = byte === delimiter;
  }
  return { at: -1, lines, open };
}

/**
 * Cuts a stream into records; empty lines are passed over. The first comes alone: it says how the others are cut.
 * @param delimiter of CSV, whose cells may hold line ends; undefined: every line is a record
 */
async function* cut(
  source: AsyncIterable<Buffer | string>,
  delimiter: () => number | undefined,
): AsyncGenerator<Cut[]> {
  let rest: Buffer = Buffer.alloc(0);
  let line = 1;
  /** In the middle of a line that is refused already. */
  let skipping = false;

  const piece = (bytes: Buffer): Cut => {
    const end = bytes[bytes.length - 1] === CR ? bytes.length - 1 : bytes.length;
    if (end > RECORD_LIMIT) return { line, text: bytes.toString('utf8', 0, 1000), fault: 'longer than 64 KiB' };
    const text = bytes.toString('utf8', 0, end);
    return isUtf8(bytes) ? { line, text } : { line, text, fault: 'not UTF-8' };
  };

  const take = (last: boolean, most: number): Cut[] => {
    const cuts: Cut[] = [];
    const between = delimiter();
    let from = 0;
    let quote = between === undefined ? -1 : rest.indexOf(QUOTE);
    while (from < rest.length && cuts.length < most) {
      let end: End = { at: rest.indexOf(LF, from), lines: 1, open: false };
      if (skipping) {
        if (end.at < 0) from = rest.length;
        else {
          skipping = false;
          from = end.at + 1;
          line += 1;
        }
        continue;
      }
      if (quote >= 0 && quote < from) quote = rest.indexOf(QUOTE, from);
      if (between !== undefined && quote >= 0 && (end.at < 0 || quote < end.at)) end = quotedEnd(rest, from, between);
      const to = end.at < 0 ? rest.length : end.at;
      if (end.at < 0) {
        // With room for the CR, which is not counted.
        const long = to - from > RECORD_LIMIT + 1;
        if (!last && !long) break;
        // Where it ends nobody can know, and what looks like rows may be somebody's text.
        if (end.open)
          throw new FileError(`Line ${line} opens a quote that is not closed${last ? '' : ' within 64 KiB'}.`);
        skipping = !last;
      }
      const record = piece(rest.subarray(from, to));
      if (record.text !== '') cuts.push(record);
      if (end.at >= 0) line += end.lines;
      from = to + 1;
    }
    rest = rest.subarray(Math.min(from, rest.length));
    return cuts;
  };

  let begun = false;
  let marked = true;
  for await (const chunk of source) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    if (marked) {
      if (rest.length < MARK.length) continue;
      if (rest.subarray(0, MARK.length).equals(MARK)) rest = rest.subarray(MARK.length);
      marked = false;
    }
    if (!begun) {
      const one = take(false, 1);
      if (one.length === 0) continue;
      begun = true;
      yield one;
    }
    const cuts = take(false, Number.POSITIVE_INFINITY);
    if (cuts.length > 0) yield cuts;
  }
  if (!begun) yield take(true, 1);
  const cuts = take(true, Number.POSITIVE_INFINITY);
  if (cuts.length > 0) yield cuts;
}

const cells = (text: string, delimiter: string): string[][] =>
  parse(text, { delimiter, relax_column_count: true, record_delimiter: '\n', max_record_size: 0 });

/** The cells of one record, or what is wrong with it. */
function cellsOf(text: string, delimiter: string): string[] | { fault: string } {
  try {
    const rows = cells(text, delimiter);
    return rows.length === 1 ? rows[0]! : { fault: 'a quote is not where it belongs' };
  } catch {
    return { fault: 'a quote is not where it belongs' };
  }
}

/** Cells of many records at once: the parser's start costs more than a record. */
function cellsOfMany(texts: readonly string[], delimiter: string): (string[] | { fault: string })[] {
  try {
    const rows = cells(texts.join('\n'), delimiter);
    if (rows.length === texts.length) return rows;
  } catch {
    // One of them is wrong.
  }
  return texts.map((text) => cellsOf(text, delimiter));
}

/** Which of the usual delimiters a header has most of. */
function delimiterOf(header: string): string {
  const count = (delimiter: string): number => header.split(delimiter).length;
  return [',', ';', '\t'].reduce((best, other) => (count(other) > count(best) ? other : best));
}

function csvHead({ text, fault }: Cut): Head {
  if (fault !== undefined) throw new FileError(`The header is ${fault}.`);
  const delimiter = delimiterOf(text);
  const row = cellsOf(text, delimiter);
  if ('fault' in row) throw new FileError(`The header cannot be read: ${row.fault}.`);
  const columns = row.map((name) => name.trim().toLowerCase());
  const twice = columns.find((name, index) => columns.indexOf(name) !== index);
  if (twice !== undefined) throw new FileError(`The header names ${twice === '' ? 'no name' : twice} twice.`);
  return { format: 'csv', delimiter, columns };
}

/** What `safeCell` put before a cell goes again. */
const plainCell = (cell: string): string => {
  const text = cell.trim();
  return /^'+[=+\-@\t\r＝＋－＠]/.test(text) ? text.slice(1) : text;
};

function csvRecords(cuts: readonly Cut[], { delimiter, columns }: Head): FileRecord[] {
  const whole = cuts.filter(({ fault }) => fault === undefined);
  const rows = cellsOfMany(
    whole.map(({ text }) => text),
    delimiter,
  );
  let next = 0;
  return cuts.flatMap(({ line, text, fault }): FileRecord[] => {
    if (fault !== undefined) return [{ line, fields: {}, fault, text }];
    const row = rows[next++]!;
    if ('fault' in row) return [{ line, fields: {}, fault: row.fault, text }];
    const values = row.map(plainCell);
    // Spreadsheets end their files with rows of nothing.
    if (values.every((value) => value === '')) return [];
    const fields: Record<string, unknown> = {};
    columns.forEach((name, at) => {
      if (values[at] !== undefined && values[at] !== '') fields[name] = values[at];
    });
    if (row.length === columns.length) return [{ line, fields, text }];
    return [{ line, fields, fault: `${row.length} cells instead of ${columns.length}`, text }];
  });
}

function ndjsonRecord({ line, text, fault }: Cut): FileRecord {
  const broken = (why: string): FileRecord => ({ line, fields: {}, fault: why, text });
  if (fault !== undefined) return broken(fault);
  try {
    const value = parseJson(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return broken('not a JSON object');
    return { line, fields: value as Record<string, unknown>, text };
  } catch (error) {
    if (error instanceof JsonError) return broken(`not JSON: ${error.message}`);
    throw error;
  }
}

/**
 * Reads a file of records.
 * @param format absent: NDJSON when it begins with a brace, else CSV
 * @returns its head, and its records in batches as they come
 * @throws FileError when there is no header to go by
 */
export async function readRecords(
  source: AsyncIterable<Buffer | string>,
  format?: Format,
): Promise<{ head: Head; records: AsyncGenerator<FileRecord[]> }> {
  let head: Head | undefined;
  const pieces = cut(source, () => (head?.format === 'csv' ? head.delimiter.charCodeAt(0) : undefined));
  const begun = await pieces.next();
  const first = begun.done === true ? undefined : begun.value[0];
  const kind = format ?? (first?.text.trimStart().startsWith('{') ? 'ndjson' : 'csv');
  if (kind === 'ndjson') head = { format: kind, delimiter: ',', columns: [] };
  else if (first === undefined) throw new FileError('The file is empty: not even a header is in it.');
  else head = csvHead(first);
  const known = head;

  async function* records(): AsyncGenerator<FileRecord[]> {
    if (known.format === 'ndjson') {
      if (first !== undefined) yield [ndjsonRecord(first)];
      for await (const more of pieces) yield more.map(ndjsonRecord);
      return;
    }
    for await (const more of pieces) yield csvRecords(more, known);
  }
  return { head, records: records() };
}

/** Texts that PostgreSQL cannot keep. */
export function isUnkeepable(fields: Readonly<Record<string, unknown>>): boolean {
  return textFault(fields) !== undefined;
}

const E164 = /^\+\d{5,15}$/;

/**
 * A cell that no spreadsheet takes for a formula: ' is put before what begins like one, and an import takes it off again.
 * Phone numbers in E.164 stay as they are: digits compute nothing, and every other program that reads the file needs them.
 */
const safeCell = (text: string): string =>
  /^'*[=+\-@\t\r＝＋－＠]/.test(text) && !E164.test(text) ? `'${text}` : text;

const asCell = (value: unknown): string =>
  value === null || value === undefined
    ? ''
    : typeof value === 'string'
      ? safeCell(value)
      : value instanceof Date
        ? value.toISOString()
        : typeof value === 'object'
          ? JSON.stringify(value)
          : String(value);

/** Records as text, each with the end of its line; CSV in the order of `columns`. */
export function writeRecords(
  { format, delimiter, columns }: Head,
  records: readonly Readonly<Record<string, unknown>>[],
): string {
  if (format === 'ndjson') return records.map((record) => `${JSON.stringify(record)}\n`).join('');
  return stringify(
    records.map((record) => columns.map((name) => asCell(record[name]))),
    { delimiter },
  );
}

/** The first line of a CSV file. */
export const writeHeader = ({ format, delimiter, columns }: Head): string =>
  format === 'csv' ? stringify([[...columns]], { delimiter }) : '';
