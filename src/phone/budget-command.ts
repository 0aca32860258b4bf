/** `phone budget`: what last week's requests for codes would have come to under other limits. Reads, and writes nothing. */

import { type Command, InvalidArgumentError } from 'commander';
import Compile from 'typebox/compile';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Terminal } from '../platform/terminal.ts';
import { type SmsBudget, settings } from '../settings.ts';
import { limitsInForce } from './budget.ts';
import { type LimitName, type Limits, limitNames, limitsOf } from './limits.ts';
import { type LoggedRequest, openReport, openWindows, type Report, type Tally } from './replay.ts';

interface Options {
  readonly limits?: Partial<SmsBudget>;
  readonly countries?: readonly string[] | 'all';
  readonly days: number;
  readonly json?: boolean;
}

/** What was asked and what it comes to under each set of limits. */
interface BudgetComparison {
  readonly from: string;
  readonly to: string;
  readonly limits: { readonly in_force: Limits; readonly proposed: Limits };
  /** Countries codes go to; null: all. */
  readonly countries: { readonly in_force: readonly string[] | null; readonly proposed: readonly string[] | null };
  /** As it was decided at the time. */
  readonly happened: Report;
  readonly in_force: Report;
  readonly proposed: Report;
}

const DAY = 86_400_000;
const PAGE = 10_000;
const BUSIEST = 10;

const budgetSchema = settings.SMS_BUDGET.schema;
const parts = Object.keys(budgetSchema.properties) as (keyof typeof budgetSchema.properties)[];

/** `{"country_day":500}`: any part of SMS_BUDGET. */
function readLimits(text: string): Partial<SmsBudget> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('It is no JSON. Write it like {"country_day":500}.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InvalidArgumentError('It must be a JSON object, like {"country_day":500}.');
  for (const [name, limit] of Object.entries(value)) {
    const part = parts.find((known) => known === name);
    if (part === undefined)
      throw new InvalidArgumentError(`There is no limit called ${name}. Known: ${parts.join(', ')}.`);
    if (!Compile(budgetSchema.properties[part]).Check(limit))
      throw new InvalidArgumentError(
        part === 'newcomers_share'
          ? `${part} must be a number from 0 to 1.`
          : `${part} must be a whole number from 1, or null for no limit.`,
      );
  }
  return value;
}

/** `TR,NL`, or `all`, which stays a word: the library would make an empty text of null. */
function readCountries(text: string): readonly string[] | 'all' {
  if (text === 'all') return text;
  const countries = text.split(',').map((country) => country.trim());
  const wrong = countries.find((country) => !/^[A-Z]{2}$/.test(country));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`“${wrong}” is no ISO 3166 region. Write them like TR,NL, or all.`);
  return countries;
}

function readDays(text: string): number {
  if (!/^[1-7]$/.test(text)) throw new InvalidArgumentError('A whole number from 1 to 7: requests are kept no longer.');
  return Number(text);
}

/** The requests of some time, oldest first, and what became of them. */
async function* loggedRequests(
  ctx: Ctx,
  from: Date,
  to: Date,
): AsyncGenerator<{ request: LoggedRequest; refusedBy: LimitName | undefined }> {
  for (let at = from, id = 0; ; ) {
    const rows = await ctx.db.rows<
      Omit<LoggedRequest, 'at' | 'account'> & { id: number; at: Date; account: number; refused_by: LimitName | null }
    >(sql`
      select id, at, account, encode(number, 'hex') as number, encode(address, 'hex') as address, country, newcomer,
             proven_at is not null as proven, refused_by is not distinct from 'number_type' as barred, refused_by
        from sms_request
       where (at, id) > (${at}::timestamptz, ${id}::bigint) and at >= ${from} and at <= ${to}
       order by at, id limit ${PAGE}`);
    for (const { account, refused_by, ...row } of rows)
      yield { request: { ...row, account: String(account) }, refusedBy: refused_by ?? undefined };
    const last = rows.at(-1);
    if (rows.length < PAGE || last === undefined) return;
    ({ at, id } = last);
  }
}

/**
 * Replays the requests of the last days against other limits than those in force, and against those. The day before them
 * fills the windows that reach into them.
 * @param options `days` from 1 to 7; what `limits` does not name is as it is in force; no `countries`: those in force
 */
async function compareBudgets(ctx: Ctx, options: Omit<Options, 'json'>): Promise<BudgetComparison> {
  const inForce = limitsInForce(ctx);
  const proposed = limitsOf({ ...inForce, ...options.limits }, inForce.pair_gap);
  const reached = ctx.settings.get('SMS_COUNTRIES');
  const countries = {
    in_force: reached,
    proposed: options.countries === undefined ? reached : options.countries === 'all' ? null : options.countries,
  };
  const to = ctx.clock.now();
  const from = new Date(to.getTime() - options.days * DAY);
  const [was, now, then] = [openReport(), openReport(), openReport()];
  const decideNow = openWindows(inForce, countries.in_force);
  const decideThen = openWindows(proposed, countries.proposed);
  for await (const { request, refusedBy } of loggedRequests(ctx, new Date(from.getTime() - DAY), to)) {
    const decided = [refusedBy, decideNow(request), decideThen(request)] as const;
    if (request.at < from) continue;
    for (const [index, { add }] of [was, now, then].entries()) add(request, decided[index]);
  }
  return {
    from: from.toISOString(),
    to: to.toISOString(),
    limits: { in_force: inForce, proposed },
    countries,
    happened: was.report,
    in_force: now.report,
    proposed: then.report,
  };
}

const named: Readonly<Record<LimitName, string>> = {
  number_type: 'number of a kind that gets no codes',
  country: 'country gets no codes',
  pair_gap: 'same customer and number, too soon',
  number_hour: 'number, hour',
  number_day: 'number, day',
  account_day: 'account, day',
  address_hour: 'client address, hour',
  newcomers_country: 'newcomers, country and day',
  newcomers_installation: 'newcomers, day',
  country_day: 'country, day',
  installation_day: 'installation, day',
};

/** Columns as wide as their widest cell, numbers to the right. */
function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? String(cell).padEnd(widths[0]!) : String(cell).padStart(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The same figure of all three. */
const line = (name: string, reports: readonly Tally[], figure: (tally: Tally) => number): (string | number)[] => [
  name,
  ...reports.map(figure),
];

/** The limits of one column, as a person says them. */
function limitsLine(limits: Limits, countries: readonly string[] | null): string {
  const shown = parts.map((part) => `${part} ${limits[part] ?? 'none'}`);
  return `${shown.join(', ')}; to ${countries === null ? 'all countries' : countries.join(', ') || 'no country'}`;
}

function describe({ from, to, limits, countries, happened, in_force, proposed }: BudgetComparison): string {
  const all = [happened, in_force, proposed];
  const refusing = limitNames.filter((name) => all.some(({ refused }) => (refused[name] ?? 0) > 0));
  const totals = [
    ['', 'as it was', 'in force', 'proposed'],
    line('requests', all, ({ requests }) => requests),
    line('sent', all, ({ sent }) => sent),
    line('refused', all, ({ requests, sent }) => requests - sent),
    ...refusing.map((name) => line(`  ${named[name]}`, all, ({ refused }) => refused[name] ?? 0)),
    line('codes that came back right', all, ({ honest }) => honest),
    line('  of these refused', all, ({ honest_refused }) => honest_refused),
  ];
  const places = (of: 'days' | 'countries', names: readonly string[]): (string | number)[][] =>
    names.map((name) => {
      const [was, now, then] = all.map((report) => report[of][name]!) as [Tally, Tally, Tally];
      return [name, was.requests, was.sent, now.sent, then.sent, then.honest_refused];
    });
  const head = ['requests', 'sent', 'in force', 'proposed', 'honest refused'];
  const busiest = Object.entries(happened.countries)
    .sort(([a, x], [b, y]) => y.requests - x.requests || (a < b ? -1 : 1))
    .map(([country]) => country);
  return [
    `Requests for codes from ${from.slice(0, 16)} to ${to.slice(0, 16)} UTC`,
    `in force  ${limitsLine(limits.in_force, countries.in_force)}`,
    `proposed  ${limitsLine(limits.proposed, countries.proposed)}`,
    '',
    table(totals),
    '',
    table([['country', ...head], ...places('countries', busiest.slice(0, BUSIEST))]),
    ...(busiest.length > BUSIEST ? [`and ${busiest.length - BUSIEST} more: --json has them all`] : []),
    '',
    table([['day', ...head], ...places('days', Object.keys(happened.days).sort())]),
  ].join('\n');
}

/** Adds `budget` to the command `phone`. */
export function budgetCommand(phone: Command, { say, print, withCtx }: Terminal): void {
  phone
    .command('budget')
    .description('replay last week’s requests for codes against other limits; changes nothing')
    .option('--limits <json>', 'parts of SMS_BUDGET as they might be; the others stay', readLimits)
    .option('--countries <list>', 'SMS_COUNTRIES as it might be, comma separated, or all', readCountries)
    .option('--days <number>', 'how far back, 1 to 7', readDays, 7)
    .option('--json', 'as JSON')
    .action(({ json, ...options }: Options) =>
      withCtx(async (ctx) => {
        const comparison = await compareBudgets(ctx, options);
        if (json) return print(comparison);
        if (comparison.happened.requests === 0) return say('No code was asked for in that time.');
        print(describe(comparison));
        say('A dry run: nothing was changed. Messages that are no codes share the wide limits and are not in it.');
      }),
    );
}
