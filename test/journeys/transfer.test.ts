/** Consents in and out as files: the commands as processes of their own, and the verbs on a kit. */
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addNotice } from '../../src/consent/notices.ts';
import { sayAll } from '../../src/consent/statements.ts';
import { exportEvents, exportStates, type StateFilter } from '../../src/consent/transfer/export.ts';
import { type ImportOptions, type ImportSummary, importConsents } from '../../src/consent/transfer/import.ts';
import type { FileRecord } from '../../src/consent/transfer/records.ts';
import { createKit, type Kit } from '../kit.ts';

let kit: Kit;
let address: string;
let folder: string;
let numbers = 0;

beforeAll(async () => {
  kit = await createKit();
  address = addressOf(kit);
  folder = await mkdtemp(join(tmpdir(), 'assent-transfer-'));
});
afterAll(async () => {
  await kit.close();
  await rm(folder, { recursive: true, force: true });
});

function addressOf({ connection }: Kit): string {
  const { host, port, user, password, database } = connection as unknown as Record<string, string>;
  return `postgres:///${database}?host=${encodeURIComponent(host!)}&port=${port}&user=${user}${password ? `&password=${password}` : ''}`;
}

const environment = (database: string): Record<string, string | undefined> => ({
  PATH: process.env['PATH'],
  DATABASE_URL: database,
  SECRET_KEY: 'a secret key of the tests, and of nothing else',
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const assent = (args: string[], { input = '', database = address } = {}): Promise<Ran> =>
  new Promise((done) => {
    const child = execFile(
      process.execPath,
      ['src/main.ts', ...args],
      { env: environment(database) },
      (error, out, err) => done({ code: error === null ? 0 : Number(error.code), out, err }),
    );
    child.stdin!.on('error', () => {});
    child.stdin!.end(input);
  });

async function file(name: string, text: string | Buffer): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

/** Addresses nobody has used yet. */
const newPhone = (): string => `+90532${3_000_000 + ++numbers}`;
const newEmail = (): string => `import${++numbers}@example.com`;

const HEADER = 'recipient,channel,granted,occurred_at\n';
const AT = '2025-03-01T10:00:00.000Z';

interface Imported {
  readonly summary: ImportSummary;
  readonly refused: { line: number; why: string }[];
}

/** Imports a text with the verb itself. */
async function take(text: string | Buffer, options: Partial<ImportOptions> = {}, on = kit): Promise<Imported> {
  const refused: { line: number; why: string }[] = [];
  async function* source(): AsyncGenerator<Buffer> {
    yield Buffer.from(text);
  }
  const summary = await importConsents(on.ctx, source(), {
    batch: 1000,
    dryRun: false,
    source: 'import',
    actor: 'command',
    refused: (_head, { line }: FileRecord, why) => void refused.push({ line, why }),
    ...options,
  });
  return { summary, refused: refused.sort((a, b) => a.line - b.line) };
}

const linesOf = (recipient: string, on = kit): Promise<Record<string, unknown>[]> =>
  on.rows(
    `select e.channel, e.purpose, e.kind, e.outcome, e.occurred_at, e.source, e.actor, e.account, e.notice, v.evidence
       from consent_event e join contact_point p on p.id = e.contact_point join consent_evidence v on v.event = e.id
      where p.value = $1 order by e.id`,
    recipient,
  );

const stateOf = async (recipient: string): Promise<unknown> =>
  (
    await kit.rows<{ states: unknown }>(
      `select string_agg(s.channel || ' ' || s.state, ', ' order by s.channel) as states
         from consent_state s join contact_point p on p.id = s.contact_point where p.value = $1`,
      recipient,
    )
  )[0]!.states;

/** How many rows every table has. */
async function counts(): Promise<Record<string, number>> {
  const tables = await kit.owner<{ name: string }>(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
      where table_type = 'BASE TABLE' and table_schema in ('public', 'graphile_worker') order by 1`,
  );
  const found: Record<string, number> = {};
  for (const { name } of tables)
    found[name] = (await kit.owner<{ count: number }>(`select count(*)::int as count from ${name}`))[0]!.count;
  return found;
}

const nothing = { asked: 0, unchanged: 0, kept: {}, refused: 0, interrupted: false };

describe('import', () => {
  test('a file of a CRM becomes lines of the ledger, each with where it came from', async () => {
    const [phone, email] = [newPhone(), newEmail()];
    const local = `0${phone.slice(3)}`;
    const path = await file(
      'crm.csv',
      'recipient,channel,granted,occurred_at,source,language,document,note,evidence.form\n' +
        `${local},sms,yes,2025-03-01T13:00:00+03:00,checkout,tr,,till 4,paper\n` +
        `${email.toUpperCase()},email,0,2025-03-01T10:00:00Z,,,scan-7.pdf,,\n`,
    );
    const ran = await assent(['import', path, '--json']);
    expect([ran.code, ran.err]).toEqual([0, '']);
    expect(JSON.parse(ran.out)).toEqual({
      ...nothing,
      read: 2,
      written: 2,
      dry_run: false,
      seconds: expect.any(Number) as number,
    });
    const line = {
      purpose: 'marketing',
      outcome: 'applied',
      occurred_at: new Date(AT),
      actor: 'command',
      account: null,
      notice: null,
    };
    expect(await linesOf(phone)).toEqual([
      {
        ...line,
        channel: 'sms',
        kind: 'grant',
        source: 'checkout',
        evidence: { address: phone, form: 'paper', note: 'till 4', language: 'tr', file: 'crm.csv', line: 2 },
      },
    ]);
    expect(await linesOf(email)).toEqual([
      {
        ...line,
        channel: 'email',
        kind: 'refuse',
        source: 'import',
        evidence: { address: email, document: 'scan-7.pdf', file: 'crm.csv', line: 3 },
      },
    ]);
    expect((await kit.verify()).fault).toBeUndefined();
  });

  test('the same file again writes nothing, also where a person has spoken since', async () => {
    const [a, b] = [newPhone(), newPhone()];
    const text = `${HEADER}${a},sms,true,${AT}\n${b},sms,true,${AT}\n${b},sms,false,2025-03-02T10:00:00Z\n`;
    expect((await take(text)).summary).toEqual({ ...nothing, read: 3, written: 3 });
    const before = await counts();
    expect((await take(text)).summary).toEqual({ ...nothing, read: 3, written: 0, unchanged: 3 });
    expect(await counts()).toEqual(before);
    expect((await linesOf(b)).map(({ kind }) => kind)).toEqual(['grant', 'withdraw']);
  });

  test('rows that are wrong are named with everything wrong about them, and cost only themselves', async () => {
    const [good, phone] = [newEmail(), newPhone()];
    const rows = [
      'nobody,email,true,2025-03-01T10:00:00Z,,,',
      `${good},sms,true,2025-03-01T10:00:00Z,,,`,
      `${phone},pigeon,maybe,2025-02-30T10:00:00Z,,,`,
      `${phone},sms,true,2025-03-01T10:00:00,,,`,
      `${phone},sms,true,2999-03-01T10:00:00Z,,,`,
      `${phone},sms,true,1999-12-31T23:59:59Z,,,`,
      `${phone},sms,true,${AT},newsletter,,`,
      `${phone},sms,true,${AT},,system,`,
      `${phone},sms,true,${AT},,staff,`,
      `${phone},sms,true,${AT},,,4711`,
      `${phone},sms,true`,
      `${phone},"sms"x,true,${AT},,,`,
      `${good},email,true,${AT},,,`,
      `,,,,,,`,
    ];
    const { summary, refused } = await take(
      `recipient,channel,granted,occurred_at,purpose,source,notice\n${rows.join('\n')}\n`,
    );
    expect(summary).toEqual({ ...nothing, read: 13, written: 1, refused: 12 });
    const moment = 'a moment of ISO 8601 with its offset, as 2026-11-21T08:00:00Z or 2026-11-21T11:00:00+03:00';
    expect(refused).toEqual([
      { line: 2, why: 'recipient: This is no phone number. Write it with its country code, such as +905321234567.' },
      { line: 3, why: 'recipient: sms goes to a phone' },
      {
        line: 4,
        why: `channel: pigeon; one of email, sms, whatsapp, call; granted: maybe; true or false; occurred_at: 2025-02-30T10:00:00Z; ${moment}`,
      },
      { line: 5, why: `occurred_at: 2025-03-01T10:00:00; ${moment}` },
      { line: 6, why: 'occurred_at: 2999-03-01T10:00:00Z is in the future' },
      { line: 7, why: 'occurred_at: 1999-12-31T23:59:59Z is before 2000' },
      { line: 8, why: 'purpose: newsletter is not one of CONSENT_PURPOSES' },
      {
        line: 9,
        why: 'source: system; one of checkout, registration, account, preference_page, one_click, sms_keyword, staff, import, register',
      },
      { line: 10, why: 'note: missing; what staff says needs a reason' },
      { line: 11, why: 'notice: there is no notice 4711' },
      { line: 12, why: '3 cells instead of 7' },
      { line: 13, why: 'a quote is not where it belongs' },
    ]);
    expect(await linesOf(phone)).toEqual([]);
    expect(await stateOf(good)).toBe('email granted');
  });

  test('a clock that is a little ahead is believed, not more than now', async () => {
    const phone = newPhone();
    const ahead = new Date(Date.now() + 240_000).toISOString();
    const before = new Date();
    expect((await take(`${HEADER}${phone},sms,true,${ahead}\n`)).summary.written).toBe(1);
    const [line] = await linesOf(phone);
    const at = (line!['occurred_at'] as Date).getTime();
    expect(at >= before.getTime() - 1000 && at <= Date.now()).toBe(true);
    expect((await take(`${HEADER}${phone},sms,true,${ahead}\n`)).summary).toMatchObject({ written: 0, unchanged: 1 });
  });

  test('the file of errors holds the rows as they came, and can be imported once it is put right', async () => {
    const [a, b] = [newPhone(), newPhone()];
    const path = await file(
      'half.csv',
      `recipient;channel;granted;occurred_at;note\n${a};sms;true;${AT};"x; y"\n${b};sms;perhaps;${AT};'=1+1\n`,
    );
    const errors = join(folder, 'half.errors.csv');
    const ran = await assent(['import', path, '--errors', errors]);
    expect([ran.code, ran.out]).toEqual([2, '']);
    expect(ran.err.replace(/in \d+\.\d s/, 'in N s')).toBe(
      'Wrote 1 of 2 rows in N s.\n  unchanged         0\n  refused           1\n' +
        `The rows that were refused are in ${errors}, each with its reason.\n`,
    );
    const text = await readFile(errors, 'utf8');
    expect(text).toBe(
      'recipient;channel;granted;occurred_at;note;line;error\n' +
        `${b};sms;perhaps;${AT};'=1+1;3;"granted: perhaps; true or false"\n`,
    );
    await writeFile(path, text.replace('perhaps', 'false'));
    const again = await assent(['import', path, '--errors', errors]);
    expect(again.code).toBe(0);
    expect((await linesOf(b)).map(({ kind, evidence }) => [kind, (evidence as { note: string }).note])).toEqual([
      ['refuse', '=1+1'],
    ]);
    // What a run before left would be taken for an error of this one.
    await expect(readFile(errors)).rejects.toThrow('ENOENT');
  });

  test('without a file the first twenty are named on the terminal', async () => {
    const { code, out, err } = await assent(['import', '-'], {
      input: `${HEADER}${Array.from({ length: 25 }, () => `x,sms,true,${AT}\n`).join('')}`,
    });
    expect([code, out]).toEqual([2, '']);
    const lines = err.split('\n');
    expect(lines.slice(0, 2)).toEqual(
      [2, 3].map(
        (n) => `line ${n}: recipient: This is no phone number. Write it with its country code, such as +905321234567.`,
      ),
    );
    expect(lines.slice(19, 22)).toEqual([
      'line 21: recipient: This is no phone number. Write it with its country code, such as +905321234567.',
      '… and more: --errors FILE keeps them all.',
      expect.stringMatching(/^Wrote 0 of 25 rows in /) as string,
    ]);
  });

  test('unknown columns, missing ones and doubled ones are named before anything is written', async () => {
    const row = `${newPhone()},sms,true,${AT},x`;
    const before = await counts();
    const unknown = await assent([
      'import',
      await file('wrong.csv', `recipient,channel,granted,occurred_at,colour\n${row}\n`),
    ]);
    expect([unknown.code, unknown.out]).toEqual([1, '']);
    expect(unknown.err).toMatch(/^\S+wrong\.csv: Unknown columns: colour\. Known: recipient, channel, granted, /);
    await expect(take(`recipient,channel,evidence.address\n`)).rejects.toThrow('Unknown columns: evidence.address.');
    await expect(take(`recipient,channel\n`)).rejects.toThrow('The header lacks granted, occurred_at.');
    await expect(take(`recipient,recipient\n`)).rejects.toThrow('The header names recipient twice.');
    const { summary, refused } = await take(
      `{"recipient":"${newPhone()}","channel":"sms","granted":true,"occurred_at":"${AT}","colour":"red"}\n`,
    );
    expect([summary.refused, refused]).toEqual([1, [{ line: 1, why: 'unknown: colour' }]]);
    expect(await counts()).toEqual(before);
  });

  test('an empty file is a mistake, a header alone is not', async () => {
    const empty = await assent(['import', await file('empty.csv', '')]);
    expect(empty).toMatchObject({ code: 1, out: '' });
    expect(empty.err).toMatch(/^\S+empty\.csv: The file is empty: not even a header is in it\.\n$/);
    expect((await take(HEADER)).summary).toEqual({ ...nothing, read: 0, written: 0 });
    expect((await take('', { format: 'ndjson' })).summary).toEqual({ ...nothing, read: 0, written: 0 });
    expect((await assent(['import', folder])).err).toBe(`${folder} is a folder.\n`);
  });

  test('byte order mark, CR LF, tabs, quoted line ends and upper case are read as they are meant', async () => {
    const [a, b] = [newPhone(), newPhone()];
    const text = `\ufeffRecipient\tChannel\tGranted\tOccurred_At\tNote\r\n${a}\tSMS\tTRUE\t${AT}\t"two\r\nlines, ""quoted"""\r\n\r\n${b}\tsms\t1\t${AT}\t5" screen\r\n`;
    const { summary, refused } = await take(text);
    // A quote in the middle of a cell is no CSV: that row is named, by the line it begins in.
    expect([summary.written, refused]).toEqual([1, [{ line: 5, why: 'a quote is not where it belongs' }]]);
    expect((await linesOf(a)).map(({ evidence }) => evidence)).toEqual([
      { address: a, note: 'two\r\nlines, "quoted"', line: 2 },
    ]);
  });

  test.each([1, 7, 64])('a file that comes in pieces of %i bytes is the same file', async (size) => {
    const [a, b] = [newPhone(), newPhone()];
    const bytes = Buffer.from(`\ufeff${HEADER.trim()},note\r\n${a},sms,true,${AT},"é\n""ü"""\r\n${b},sms,false,${AT},`);
    async function* pieces(): AsyncGenerator<Buffer> {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    }
    const summary = await importConsents(kit.ctx, pieces(), {
      batch: 10,
      dryRun: false,
      source: 'import',
      actor: 'command',
      refused: (_head, { line }, why) => expect.unreachable(`${line}: ${why}`),
    });
    expect(summary.written).toBe(2);
    expect((await linesOf(a))[0]!['evidence']).toEqual({ address: a, note: 'é\n"ü"', line: 2 });
    expect((await linesOf(b))[0]!['evidence']).toEqual({ address: b, line: 4 });
  });

  test('what is no UTF-8, too long or not to be stored is named by its line, and the rest goes on', async () => {
    const [a, b] = [newPhone(), newPhone()];
    const text = Buffer.concat([
      Buffer.from(`recipient,channel,granted,occurred_at,note\n${a},sms,true,${AT},caf`),
      Buffer.from([0xe9]),
      Buffer.from(`\n${a},sms,true,${AT},${'x'.repeat(200_000)}\n${a},sms,true,${AT},nul\0\n`),
      Buffer.from(`${a},sms,true,${AT},"${'y\n'.repeat(20_000)}"\n${b},sms,true,${AT},fine\n`),
    ]);
    const { summary, refused } = await take(text);
    expect(refused).toEqual([
      { line: 2, why: 'not UTF-8' },
      { line: 3, why: 'longer than 64 KiB' },
      { line: 4, why: 'text with a null character or half a character' },
      { line: 5, why: 'evidence: longer than 8 KiB' },
    ]);
    expect(summary).toMatchObject({ read: 5, written: 1, refused: 4 });
    expect((await linesOf(b))[0]!['evidence']).toEqual({ address: b, note: 'fine', line: 20_006 });
    expect(await linesOf(a)).toEqual([]);
  });

  test('a quote that nobody closes ends the import: what looks like rows may be text', async () => {
    const [a, b] = [newPhone(), newPhone()];
    const row = `${b},sms,true,${AT},x\n`;
    await expect(take(`recipient,channel,granted,occurred_at,note\n${a},sms,true,${AT},"open\n${row}`)).rejects.toThrow(
      'Line 2 opens a quote that is not closed.',
    );
    await expect(
      take(`recipient,channel,granted,occurred_at,note\n${a},sms,true,${AT},"open\n${row.repeat(2000)}`),
    ).rejects.toThrow('Line 2 opens a quote that is not closed within 64 KiB.');
    expect(await linesOf(b)).toEqual([]);
  });

  test('NDJSON with evidence comes by stdin, and broken lines are kept as they were', async () => {
    const phone = newPhone();
    const errors = join(folder, 'lines.ndjson');
    const good = { recipient: phone, channel: 'call', granted: true, occurred_at: AT, evidence: { till: 4 } };
    const { code, out } = await assent(['import', '-', '--errors', errors, '--source', 'register', '--json'], {
      input: `${JSON.stringify(good)}\n{"recipient":\n[1]\n${JSON.stringify({ ...good, granted: 'no', evidence: { address: 'x' } })}`,
    });
    expect([code, JSON.parse(out)]).toMatchObject([2, { read: 4, written: 1, refused: 3 }]);
    expect(await linesOf(phone)).toMatchObject([
      { channel: 'call', kind: 'grant', source: 'register', evidence: { address: phone, till: 4, line: 1 } },
    ]);
    const lines = (await readFile(errors, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    expect(lines).toEqual([
      { text: '{"recipient":', line: 2, error: expect.stringMatching(/^not JSON: /) as string },
      { text: '[1]', line: 3, error: 'not a JSON object' },
      { ...good, granted: 'no', evidence: { address: 'x' }, line: 4, error: 'unknown: evidence.address' },
    ]);
  });

  test('an import does not lift a no, unless it brings what the person saw or signed', async () => {
    const [phone, other, third] = [newPhone(), newPhone(), newPhone()];
    await take(`${HEADER}${phone},sms,true,${AT}\n${phone},sms,false,2025-04-01T00:00:00Z\n`);
    await sayAll(kit.ctx, [
      {
        about: { kind: 'phone', value: other },
        channel: 'sms',
        purpose: 'marketing',
        intent: 'suppress',
        by: { voice: 'shop' },
        source: 'import',
        actor: 'command',
        evidence: { reason: 'complaint' },
      },
    ]);
    await take(`recipient,channel,state,occurred_at\n${third},sms,withdrawn,2025-04-01T00:00:00Z\n`);
    const late = new Date(Date.now() + 1000).toISOString();
    const text =
      `recipient,channel,granted,occurred_at,document\n${phone},sms,true,2025-02-01T00:00:00Z,\n${phone},sms,true,2025-05-01T00:00:00Z,\n` +
      `${other},sms,true,${late},\n${third},sms,true,2025-05-01T00:00:00Z,\n`;
    const { summary } = await take(text);
    expect(summary).toEqual({ ...nothing, read: 4, written: 0, kept: { older: 1, not_lifted: 3 } });
    expect((await linesOf(phone)).map(({ kind, outcome }) => `${String(kind)} ${String(outcome)}`)).toEqual([
      'grant applied',
      'withdraw applied',
      'grant older',
      'grant not_lifted',
    ]);
    expect([await stateOf(phone), await stateOf(other), await stateOf(third)]).toEqual([
      'sms withdrawn',
      'sms suppressed',
      'sms withdrawn',
    ]);
    // Told again with the paper it is another statement.
    const proven = text.replace('2025-05-01T00:00:00Z,\n', '2025-05-01T00:00:00Z,letter.pdf\n');
    expect((await take(proven)).summary).toEqual({ ...nothing, read: 4, written: 1, unchanged: 3 });
    expect(await stateOf(phone)).toBe('sms granted');
  });

  test('a notice is named by its number, and only where it speaks of this', async () => {
    const [phone, email] = [newPhone(), newEmail()];
    const notice = await addNotice(
      kit.ctx,
      {
        purpose: 'marketing',
        channels: ['sms'],
        language: 'en',
        version: 'import',
        text: 'May we text you?',
        withdrawal: 'STOP',
      },
      'test',
    );
    const { summary, refused } = await take(
      `recipient,channel,granted,occurred_at,notice\n${phone},sms,true,${AT},${notice.id}\n${email},email,true,${AT},${notice.id}\n`,
    );
    expect(summary.written).toBe(1);
    expect(refused).toEqual([{ line: 3, why: `notice: notice ${notice.id} is not about email for marketing` }]);
    expect(await linesOf(phone)).toMatchObject([{ kind: 'grant', notice: notice.id }]);
  });

  test('where a channel has double opt-in, rows of the shop front are asked, and those the shop vouches for are not', async () => {
    const [a, b] = [newEmail(), newEmail()];
    await kit.set('DOUBLE_OPT_IN', ['email']);
    const { summary } = await take(
      `recipient,channel,granted,occurred_at,source\n${a},email,true,${AT},checkout\n${b},email,true,${AT},import\n`,
    );
    await kit.set('DOUBLE_OPT_IN', []);
    expect(summary).toEqual({ ...nothing, read: 2, written: 2, asked: 1 });
    expect([await stateOf(a), await stateOf(b)]).toEqual(['email pending', 'email granted']);
  });

  test('rows of one address are said in their order, however the file is cut into batches', async () => {
    const phones = Array.from({ length: 20 }, newPhone);
    const rows = ['01', '02', '03', '04', '05'].flatMap((month, index) =>
      phones.map((phone) => `${phone},sms,${index % 2 === 0},2025-${month}-01T00:00:00Z,letter-${month}.pdf\n`),
    );
    const { summary } = await take(`recipient,channel,granted,occurred_at,document\n${rows.join('')}`, { batch: 3 });
    expect(summary).toEqual({ ...nothing, read: 100, written: 100 });
    const expected = ['grant', 'withdraw', 'grant', 'withdraw', 'grant'];
    for (const phone of phones) expect((await linesOf(phone)).map(({ kind }) => kind)).toEqual(expected);
    // Dealt out by their lines, the second word would be written while the first still waits for company.
    const [early, ...others] = Array.from({ length: 9 }, newPhone);
    const row = (phone: string | undefined, granted: boolean, month: number): string =>
      `${phone},sms,${granted},2025-0${month}-01T00:00:00Z\n`;
    const company = others.map((phone) => `${row(phone, true, 1)}\n`);
    company.splice(2, 0, `${row(early, false, 2)}\n`);
    await take(`${HEADER}${row(early, true, 1)}${company.join('')}`, { batch: 3 });
    expect((await linesOf(early!)).map(({ kind }) => kind)).toEqual(['grant', 'withdraw']);
  });

  test('what the database refuses of a batch costs only itself', async () => {
    const [a, b] = [newPhone(), newPhone()];
    const limit = `alter table consent_evidence add constraint no_poison check (evidence->>'note' is distinct from 'poison')`;
    await kit.owner(limit);
    const { summary, refused } = await take(
      `recipient,channel,granted,occurred_at,note\n${a},sms,true,${AT},fine\n${b},sms,true,${AT},poison\n${a},call,true,${AT},\n`,
    );
    await kit.owner('alter table consent_evidence drop constraint no_poison');
    expect(summary).toEqual({ ...nothing, read: 3, written: 2, refused: 1 });
    expect(refused).toEqual([{ line: 3, why: expect.stringContaining('no_poison') as string }]);
    expect(await stateOf(a)).toBe('call granted, sms granted');
  });
});

describe('a rehearsal', () => {
  test('says exactly what the import will do, and leaves every table as it was', async () => {
    const phones = Array.from({ length: 30 }, newPhone);
    await take(`${HEADER}${phones[0]},sms,true,${AT}\n${phones[0]},sms,false,2025-04-01T00:00:00Z\n`);
    // Later rows of an address depend on what became of the earlier ones, far apart in the file.
    const rows = ['true', 'false', 'true', 'maybe'].flatMap((granted, index) =>
      phones.map((phone) => `${phone},sms,${granted},2025-03-0${index + 1}T00:00:00Z\n`),
    );
    const text = `${HEADER}${rows.join('')}`;
    await kit.set('DOUBLE_OPT_IN', ['sms']);
    const before = await counts();
    const asked = await take(text, { dryRun: true, batch: 7, source: 'checkout' });
    expect(asked.summary).toMatchObject({ read: 120, written: 87, asked: 58, refused: 30 });
    const path = await file('rehearsal.csv', text);
    const tried = await assent(['import', path, '--dry-run', '--batch', '7', '--json']);
    expect(await counts()).toEqual(before);
    await kit.set('DOUBLE_OPT_IN', []);
    const done = await take(text, { batch: 11 });
    expect(done.summary).toEqual({
      read: 120,
      written: 58,
      asked: 0,
      // A no where a no stands is no edge, whenever it was said.
      unchanged: 1,
      kept: { older: 2, not_lifted: 29 },
      refused: 30,
      interrupted: false,
    });
    expect([tried.code, JSON.parse(tried.out)]).toMatchObject([2, { ...done.summary, dry_run: true }]);
    expect((await take(text, { dryRun: true })).summary).toMatchObject({ written: 0, unchanged: 90 });
  });

  test('is as exact where its rows no longer fit in memory', async () => {
    const phone = newPhone();
    const rows = Array.from({ length: 60 }, (_, index) => {
      const at = new Date(Date.UTC(2025, 0, 1 + index)).toISOString();
      return `${phone},sms,${index < 59},${at},${'z'.repeat(4000)}\n`;
    });
    const { summary } = await take(`recipient,channel,granted,occurred_at,note\n${rows.join('')}`, {
      dryRun: true,
      batch: 10,
    });
    expect(summary).toEqual({ ...nothing, read: 60, written: 2, unchanged: 58 });
    expect(await linesOf(phone)).toEqual([]);
  });
});

describe('an import that ends early', () => {
  const count = 4000;
  const csv = (): string => {
    numbers += count;
    const first = 6_000_000 + numbers;
    return `${HEADER}${Array.from({ length: count }, (_, n) => `+90533${first + n},sms,${n % 3 > 0},${AT}\n`).join('')}`;
  };
  const recorded = async (): Promise<number> =>
    (await kit.rows<{ count: number }>(`select count(*)::int as count from consent_event`))[0]!.count;

  /** Starts an import of stdin, gives it half of the file and waits until some of it is written. */
  async function halfway(
    text: string,
  ): Promise<{ child: ReturnType<typeof spawn>; err: () => string; ended: Promise<number | null> }> {
    const before = await recorded();
    const child = spawn(process.execPath, ['src/main.ts', 'import', '-', '--batch', '100'], {
      env: environment(address) as NodeJS.ProcessEnv,
    });
    let err = '';
    child.stderr.on('data', (chunk) => {
      err += String(chunk);
    });
    child.stdin.on('error', () => {});
    const ended = new Promise<number | null>((done) => child.once('close', done));
    child.stdin.write(text.slice(0, text.length / 2));
    while ((await recorded()) === before) expect(child.exitCode).toBe(null);
    return { child, err: () => err, ended };
  }

  test('killed in the middle, it is run again and nothing is there twice', async () => {
    const text = csv();
    const before = await recorded();
    const { child, ended } = await halfway(text);
    child.kill('SIGKILL');
    await ended;
    const there = (await recorded()) - before;
    expect(there).toBeLessThan(count);
    const path = await file('resumed.csv', text);
    const { code, out } = await assent(['import', path, '--json']);
    expect([code, JSON.parse(out)]).toMatchObject([0, { read: count, written: count - there, unchanged: there }]);
    expect((await recorded()) - before).toBe(count);
  });

  test('interrupted, it ends with what it has read, and says how to go on', async () => {
    const text = csv();
    const before = await recorded();
    const { child, err, ended } = await halfway(text);
    child.kill('SIGINT');
    (child.stdin as NodeJS.WritableStream).write(text.slice(text.length / 2, text.length - 1000));
    expect(await ended).toBe(1);
    const [, written, read] = /Wrote ([\d,]+) of ([\d,]+) rows/
      .exec(err())!
      .map((part) => Number(part.replace(',', '')));
    expect(err()).toMatch(
      /Interrupted\. Run the same command again to go on: what is written is not written twice\.\n$/,
    );
    expect([written, (await recorded()) - before]).toEqual([read, read]);
    expect(read).toBeLessThan(count);
    const { out } = await assent(['import', '-', '--json'], { input: text });
    expect(JSON.parse(out)).toMatchObject({ read: count, written: count - read!, unchanged: read });
  });
});

describe('export', () => {
  test('gives one line for each address, channel and purpose, as decisions see them', async () => {
    const own = await createKit();
    const { ctx } = own;
    try {
      await take(
        `recipient,channel,granted,occurred_at\n+905321110001,sms,true,${AT}\n+905321110001,call,false,${AT}\n=cmd@example.com,email,true,${AT}\n`,
        {},
        own,
      );
      const ada = await own.signUp({ email: 'ada@example.com', email_allowed: true });
      const key = await own.apiKey('*');
      const { out, code } = await assent(['export'], { database: addressOf(own) });
      expect(code).toBe(0);
      const [header, ...rows] = out.trimEnd().split('\n');
      expect(header).toBe('recipient,account,channel,purpose,state,allowed,since,source,notice,notice_sha256,event');
      expect(rows.map((row) => row.split(',').slice(0, 6).join(',')).sort()).toEqual([
        "'=cmd@example.com,,email,marketing,granted,true",
        '+905321110001,,call,marketing,refused,false',
        '+905321110001,,sms,marketing,granted,true',
        `ada@example.com,${ada.id},email,marketing,granted,true`,
      ]);

      const lines = async (filter: Partial<StateFilter> = {}): Promise<Record<string, unknown>[]> => {
        const found: Record<string, unknown>[] = [];
        const count = await exportStates(
          ctx,
          { allowed: false, all: false, ...filter },
          async (some) => void found.push(...some),
        );
        expect(count).toBe(found.length);
        return found;
      };
      expect((await lines({ channel: 'call' })).map(({ recipient }) => recipient)).toEqual(['+905321110001']);
      expect((await lines({ state: 'refused' })).map(({ channel }) => channel)).toEqual(['call']);
      expect(await lines({ purpose: 'other' })).toEqual([]);
      expect((await lines({ allowed: true, channel: 'sms' })).map(({ allowed }) => allowed)).toEqual([true]);

      // A consent that is over is allowed nowhere, also before its end is written.
      await own.set('CONSENT_VALIDITY', 86_400);
      for (const { recipient, channel, purpose, allowed, state, since, event } of await lines()) {
        const { body } = await key('POST', '/v1/decisions/contact', { body: { recipient, channel, purpose } });
        expect({ allowed, state, since, event }).toEqual({
          allowed: body.allowed,
          state: body.state,
          since: body.since,
          event: body.event,
        });
      }
      expect((await lines({ allowed: true })).map(({ recipient }) => recipient)).toEqual(['ada@example.com']);
      expect((await lines({ state: 'expired' })).length).toBe(2);
      expect((await lines({ state: 'granted' })).length).toBe(1);

      const rowsOf: unknown[] = [];
      expect(await exportEvents(ctx, {}, async (some) => void rowsOf.push(...some))).toBe(4);
      expect(rowsOf[0]).toEqual({
        event: expect.any(String) as string,
        recipient: expect.any(String) as string,
        account: null,
        channel: expect.any(String) as string,
        purpose: 'marketing',
        kind: expect.any(String) as string,
        outcome: 'applied',
        occurred_at: AT,
        recorded_at: expect.any(String) as string,
        source: 'import',
        actor: 'command',
        notice: null,
        notice_sha256: null,
        evidence: expect.objectContaining({ line: expect.any(Number) as number }) as object,
      });
      const args = ['export', '--events', '--channel', 'email', '--format', 'ndjson'];
      const events = (await assent(args, { database: addressOf(own) })).out.trimEnd().split('\n');
      expect(events.map((line) => (JSON.parse(line) as { kind: string }).kind)).toEqual(['grant', 'grant']);
    } finally {
      await own.close();
    }
  });

  test('basket consents are never in it', async () => {
    const count = (): Promise<number> => exportStates(kit.ctx, { allowed: false, all: true }, async () => {});
    const before = await count();
    await kit.send('POST', '/users/permissions/', { body: { uid: 'guest', basket: 77, sms_allowed: true } });
    expect(await kit.rows('select from basket_consent')).toHaveLength(1);
    expect(await count()).toBe(before);
  });

  test('erased addresses are left out, unless all are asked for', async () => {
    const phone = newPhone();
    await take(`${HEADER}${phone},sms,true,${AT}\n`);
    await kit.rows('update contact_point set value = null, erased_at = now() where value = $1', phone);
    const found = async (all: boolean): Promise<number> => {
      const rows: Record<string, unknown>[] = [];
      await exportStates(kit.ctx, { allowed: false, all }, async (some) => void rows.push(...some));
      return rows.filter(({ recipient }) => recipient === null).length;
    };
    expect([await found(false), await found(true)]).toEqual([0, 1]);
  });

  test('a file has its name once it is whole, and nothing is left where it cannot be', async () => {
    const path = join(folder, 'out.ndjson');
    const { code, out, err } = await assent(['export', '--output', path, '--channel', 'call']);
    const text = await readFile(path, 'utf8');
    const rows = text.trimEnd().split('\n');
    expect([code, out, err]).toEqual([0, '', `Wrote ${rows.length} rows to ${path}.\n`]);
    expect(rows.every((row) => (JSON.parse(row) as { channel: string }).channel === 'call')).toBe(true);
    expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
    const nowhere = await assent(['export', '--output', join(folder, 'no', 'such.csv')]);
    expect([nowhere.code, nowhere.err]).toEqual([1, expect.stringContaining('cannot be written') as string]);
  });

  test('options that contradict each other are refused', async () => {
    expect(await assent(['export', '--events', '--allowed'])).toEqual({
      code: 1,
      out: '',
      err: '--events gives every line: --state, --allowed and --all are for states.\n',
    });
    expect((await assent(['import', 'x.csv', '--batch', '0'])).err).toContain('A whole number from 1 to 10000.');
  });

  test.each(['csv', 'ndjson'])(
    'what was exported as %s gives the same states in an empty installation',
    async (format) => {
      const [from, to] = [await createKit(), await createKit()];
      try {
        const notice = (on: Kit, text: string): Promise<{ id: number }> =>
          addNotice(
            on.ctx,
            { purpose: 'marketing', channels: ['sms'], language: 'en', version: text, text, withdrawal: 'STOP' },
            'test',
          );
        const shown = await notice(from, 'May we?');
        await take(
          `recipient,channel,granted,occurred_at,notice\n+905321110001,sms,true,${AT},${shown.id}\n+905321110002,sms,true,${AT},\n` +
            `+905321110002,sms,false,2025-05-01T00:00:00Z,\n+905321110003,sms,false,${AT},\n+tag@example.com,email,true,${AT},\n`,
          {},
          from,
        );
        await take(`recipient,channel,state,since\nbounced@example.com,email,suppressed,${AT}\n`, {}, from);
        await from.signUp({ email: 'ada@example.com', email_allowed: true });
        const path = join(folder, `trip.${format}`);
        await assent(['export', '--output', path], { database: addressOf(from) });

        const missing = await assent(['import', path, '--json'], { database: addressOf(to) });
        expect([missing.code, missing.err]).toMatchObject([
          2,
          expect.stringContaining('notice: there is no notice with this text; add it first') as string,
        ]);
        // Numbers differ, texts do not.
        await notice(to, 'Another');
        const same = await notice(to, 'May we?');
        expect(same.id).not.toBe(shown.id);
        const again = await assent(['import', path, '--json'], { database: addressOf(to) });
        expect([again.code, JSON.parse(again.out)]).toMatchObject([0, { read: 6, written: 1, unchanged: 5 }]);

        const states = (on: Kit): Promise<unknown[]> =>
          on.rows(
            `select p.value, s.channel, s.purpose, s.state, s.beneath, case when s.state <> 'suppressed' then s.since end as since,
                  encode(n.text_sha256, 'hex') as notice
             from consent_state s join contact_point p on p.id = s.contact_point join consent_event e on e.id = s.event
             left join notice n on n.id = e.notice order by p.value, s.channel`,
          );
        const expected = await states(from);
        expect(expected).toHaveLength(6);
        expect(await states(to)).toEqual(expected);
        expect((await linesOf('+905321110002', to)).map(({ kind }) => kind)).toEqual(['withdraw']);
        expect((await to.verify()).fault).toBeUndefined();
        expect((await assent(['import', path, '--json'], { database: addressOf(to) })).out).toContain('"written":0,');
      } finally {
        await from.close();
        await to.close();
      }
    },
  );
});
