/** A row of an import, read as a statement of the shop. Two kinds of row: what a person said, and a state of our own export. */
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { say } from '../../platform/language.ts';
import { channels } from '../channels.ts';
import type { NoticeRef } from '../ledger/book.ts';
import { type Recipient, readRecipient } from '../recipients.ts';
import { needsReason, type Source, sources, toldSources } from '../sources.ts';
import { type ConsentStatement, type Intent, naturalKey } from '../statements.ts';
import { type FileRecord, isUnkeepable } from './records.ts';

/** What a row may hold beside `evidence.…`. The first must all be there; of each pair one. */
const needed = ['recipient', 'channel'] as const;
const pairs = [
  ['granted', 'state'],
  ['occurred_at', 'since'],
] as const;
const optional = ['purpose', 'source', 'language', 'notice', 'notice_sha256', 'document', 'note', 'event'] as const;
/** Of our exports and of error files: passed over, so that both can be read again. */
const ignored = ['account', 'allowed', 'line', 'error'] as const;
const known: ReadonlySet<string> = new Set([...needed, ...pairs.flat(), ...optional, ...ignored]);

const kinds: ReadonlyMap<string, string> = new Map(channels.map(({ name, kind }) => [name, kind]));
const EVIDENCE = /^evidence\.[a-z][a-z0-9_]{0,59}$/;
/** Evidence that has a column of its own, or that we write. */
const taken: ReadonlySet<string> = new Set([
  'address',
  'document',
  'note',
  'notice',
  'language',
  'event',
  'file',
  'line',
]);
const EVIDENCE_BYTES = 8192;

const EARLIEST = Date.UTC(2000, 0, 1);
/** Clocks of other systems may run ahead by this much. */
const AHEAD_MILLISECONDS = 300_000;
const MOMENT = /^(\d{4})-(\d\d)-(\d\d)[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)$/i;

/** States of an export that say something. The others are questions and endings: what they leave is no consent either way. */
const intents: Readonly<Record<string, Intent | null>> = {
  granted: 'grant',
  refused: 'refuse',
  withdrawn: 'withdraw',
  suppressed: 'suppress',
  pending: null,
  expired: null,
  unknown: null,
};

const flags: Readonly<Record<string, boolean>> = { true: true, 1: true, yes: true, false: false, 0: false, no: false };

/** What is wrong with the columns of a file; undefined: nothing. */
export function columnsFault(columns: readonly string[]): string | undefined {
  const unknown = columns.filter(
    (name) => !known.has(name) && !(EVIDENCE.test(name) && !taken.has(name.slice('evidence.'.length))),
  );
  if (unknown.length > 0)
    return `Unknown columns: ${unknown.map((name) => (name === '' ? '(no name)' : name)).join(', ')}. Known: ${[...known].join(', ')} and evidence.<name>.`;
  const missing = [
    ...needed.filter((name) => !columns.includes(name)),
    ...pairs.filter((pair) => !pair.some((name) => columns.includes(name))).map(([name]) => name),
  ];
  return missing.length > 0 ? `The header lacks ${missing.join(', ')}.` : undefined;
}

interface NoticeRow extends NoticeRef {
  readonly purpose: string;
  readonly channels: readonly string[];
}

/** Reads rows; made once for a file. */
export interface RowReader {
  /** @returns the statement; null for a row that says nothing; a text that names everything wrong with it */
  read(record: FileRecord): ConsentStatement | string | null;
}

export interface RowOptions {
  /** Where a row names no source. */
  readonly source: Source;
  /** Name of the file, kept as evidence. */
  readonly file?: string | undefined;
  readonly actor: string;
}

/** Prepares the reading of a file: notices and purposes are read once. */
export async function openRows(ctx: Ctx, { source: fallback, file, actor }: RowOptions): Promise<RowReader> {
  const purposes = ctx.settings.get('CONSENT_PURPOSES');
  const notices = await ctx.db.rows<NoticeRow>(sql`
    select id, encode(text_sha256, 'hex') as sha256, purpose, channels from notice order by id`);
  const byId = new Map(notices.map((notice) => [notice.id, notice]));

  const address = (text: string): Recipient | string => {
    const read = readRecipient(ctx.settings, text);
    return 'problem' in read ? say('en', { key: read.problem }) : read;
  };

  const noticeOf = (
    { notice, notice_sha256: sha }: Readonly<Record<string, unknown>>,
    purpose: string,
    channel: string,
  ): NoticeRef | string => {
    // Numbers differ between installations, texts do not.
    const found =
      sha === undefined
        ? byId.get(Number(notice))
        : notices.find((row) => row.sha256 === sha && row.purpose === purpose && row.channels.includes(channel));
    if (found === undefined)
      return sha === undefined
        ? `there is no notice ${String(notice)}`
        : 'there is no notice with this text; add it first';
    if (found.purpose !== purpose || !found.channels.includes(channel))
      return `notice ${found.id} is not about ${channel} for ${purpose}`;
    return { id: found.id, sha256: found.sha256 };
  };

  return {
    read(record) {
      if (record.fault !== undefined) return record.fault;
      const problems: string[] = [];
      const { fields, evidence, unknown } = sort(record.fields);
      if (unknown.length > 0) problems.push(`unknown: ${unknown.join(', ')}`);
      if (isUnkeepable(record.fields)) problems.push('text with a null character or half a character');
      const text = (name: string): string | undefined => {
        const value = fields[name];
        if (value === undefined || value === null || value === '') return undefined;
        if (typeof value === 'string') return value.trim() === '' ? undefined : value.trim();
        if (typeof value === 'number' || typeof value === 'boolean') return String(value);
        problems.push(`${name}: not a text`);
        return undefined;
      };

      const recipient = text('recipient');
      const read = recipient === undefined ? 'missing' : address(recipient);
      const about = typeof read === 'string' ? undefined : read;
      if (typeof read === 'string') problems.push(`recipient: ${read}`);
      const channel = text('channel')?.toLowerCase();
      const kind = channel === undefined ? undefined : kinds.get(channel);
      if (kind === undefined) problems.push(`channel: ${channel ?? 'missing'}; one of ${[...kinds.keys()].join(', ')}`);
      else if (about !== undefined && about.kind !== kind) problems.push(`recipient: ${channel} goes to a ${kind}`);
      const purpose = text('purpose') ?? 'marketing';
      if (!Object.hasOwn(purposes, purpose)) problems.push(`purpose: ${purpose} is not one of CONSENT_PURPOSES`);
      else if (kind !== undefined && !(purposes[purpose]!.channels as readonly string[]).includes(channel!))
        problems.push(`purpose: ${purpose} is not asked for on ${channel}`);

      const intent = intentOf(text('granted'), text('state'), problems);
      const at = momentOf(text('occurred_at') ?? text('since'), ctx.clock.now().getTime(), problems);
      const event = text('event');
      const told = text('source') ?? fallback;
      let source = told as Source;
      if (!toldSources.includes(source)) {
        // Our own words for what happened inside another installation: here it came by a file.
        if (event !== undefined && Object.hasOwn(sources, told)) source = 'import';
        else problems.push(`source: ${told}; one of ${toldSources.join(', ')}`);
      }
      const note = text('note');
      if (needsReason(source) && (note ?? evidence['reason'] ?? event) === undefined)
        problems.push(`note: missing; what ${source} says needs a reason`);
      const language = text('language');
      if (language !== undefined && !/^[a-z]{2}$/.test(language))
        problems.push(`language: ${language}; two letters, as tr`);
      const document = text('document');
      if (JSON.stringify(evidence).length + (note?.length ?? 0) + (document?.length ?? 0) > EVIDENCE_BYTES)
        problems.push('evidence: longer than 8 KiB');
      const names = { notice: text('notice'), notice_sha256: text('notice_sha256') };
      const notice =
        (names.notice ?? names.notice_sha256) === undefined || channel === undefined
          ? undefined
          : noticeOf(names, purpose, channel);
      if (typeof notice === 'string') problems.push(`notice: ${notice}`);

      if (problems.length > 0) return problems.join('; ');
      if (intent === null) return null;
      const ref = notice as NoticeRef | undefined;
      const statement = {
        about: about!,
        channel: channel!,
        purpose,
        intent: intent!,
        by: { voice: 'shop' },
        source,
        actor,
        evidence: {
          ...evidence,
          ...(document === undefined ? {} : { document }),
          ...(note === undefined ? {} : { note }),
          ...(language === undefined ? {} : { language }),
          ...(event === undefined ? {} : { event, ...(source === told ? {} : { source: told }) }),
          ...(file === undefined ? {} : { file }),
          line: record.line,
        },
        ...(ref === undefined ? {} : { notice: ref }),
        ...(language === undefined ? {} : { language }),
        // Another installation had it confirmed.
        ...(event === undefined ? {} : { confirmed: true }),
      } as const;
      const now = ctx.clock.now();
      return { ...statement, at: at! > now ? now : at!, key: naturalKey(ctx, { ...statement, at: at! }) };
    },
  };
}

/** Fields, evidence and what is neither. */
function sort(all: Readonly<Record<string, unknown>>): {
  fields: Record<string, unknown>;
  evidence: Record<string, unknown>;
  unknown: string[];
} {
  const fields: Record<string, unknown> = {};
  const evidence: Record<string, unknown> = {};
  const unknown: string[] = [];
  const keep = (name: string, value: unknown): void => {
    const key = name.slice('evidence.'.length);
    const plain = value === null || ['string', 'number', 'boolean'].includes(typeof value);
    if (!EVIDENCE.test(name) || taken.has(key) || !plain) unknown.push(name);
    else if (value !== null && value !== '') evidence[key] = value;
  };
  for (const [name, value] of Object.entries(all)) {
    if (known.has(name)) fields[name] = value;
    else if (name === 'evidence' && typeof value === 'object' && value !== null && !Array.isArray(value))
      for (const [key, inner] of Object.entries(value)) keep(`evidence.${key}`, inner);
    else keep(name, value);
  }
  return { fields, evidence, unknown };
}

function intentOf(
  granted: string | undefined,
  state: string | undefined,
  problems: string[],
): Intent | null | undefined {
  if (granted !== undefined && state !== undefined) {
    problems.push('granted, state: one of them, not both');
    return undefined;
  }
  if (state !== undefined) {
    if (Object.hasOwn(intents, state)) return intents[state];
    problems.push(`state: ${state}; one of ${Object.keys(intents).join(', ')}`);
    return undefined;
  }
  const flag = granted === undefined ? undefined : flags[granted.toLowerCase()];
  if (flag === undefined) problems.push(`granted: ${granted ?? 'missing'}; true or false`);
  return flag ? 'grant' : 'refuse';
}

/** A moment, exact: the larger one decides. */
function momentOf(text: string | undefined, now: number, problems: string[]): Date | undefined {
  const problem = (why: string): undefined => void problems.push(`occurred_at: ${why}`);
  if (text === undefined) return problem('missing');
  const parts = MOMENT.exec(text);
  const time = parts === null ? Number.NaN : Date.parse(text.replace(' ', 'T'));
  // V8 takes 31 April for 1 May.
  const days = parts === null ? 0 : new Date(Date.UTC(Number(parts[1]), Number(parts[2]), 0)).getUTCDate();
  if (Number.isNaN(time) || Number(parts![3]) > days)
    return problem(
      `${text}; a moment of ISO 8601 with its offset, as 2026-11-21T08:00:00Z or 2026-11-21T11:00:00+03:00`,
    );
  if (time > now + AHEAD_MILLISECONDS) return problem(`${text} is in the future`);
  if (time < EARLIEST) return problem(`${text} is before 2000`);
  return new Date(time);
}
