/**
 * What would have become of requests for codes under other limits: the same fixed windows as live, without a database. A
 * customer who is refused asks again, and one who is not does not: what followed a refusal that others would not have met
 * is counted as it was. Of an account's refusals no more than a couple of hundred a day are known (`budget.ts`).
 */
import { type Asked, codeWindows, firstNamed, type LimitName, type Limits, reaches } from './limits.ts';

/** A row of `sms_request`. */
export interface LoggedRequest extends Asked {
  readonly at: Date;
  /** Its code came back right: an honest customer, most likely. */
  readonly proven: boolean;
}

/** What became of some requests. */
export interface Tally {
  requests: number;
  sent: number;
  /** By the limit that refused them. */
  refused: Partial<Record<LimitName, number>>;
  /** Requests whose code came back right. */
  honest: number;
  /** Of these, refused. */
  honest_refused: number;
}

export interface Report extends Tally {
  /** By day in UTC, `2026-11-21`. */
  days: Record<string, Tally>;
  /** By ISO 3166 region. */
  countries: Record<string, Tally>;
}

/** Counters kept before those that are over are thrown out. */
const COUNTERS = 100_000;

/** The limits as live keeps them. @returns for each request in turn the limit that refuses it; undefined: it is sent */
export function openWindows(
  limits: Limits,
  countries: readonly string[] | null,
): (request: LoggedRequest) => LimitName | undefined {
  const counters = new Map<string, { count: number; endsAt: number }>();
  let room = COUNTERS;
  return (request) => {
    if (request.barred) return 'number_type';
    if (!reaches(countries, request.country)) return 'country';
    const now = request.at.getTime();
    const counted = codeWindows(limits, request).map((window) => {
      const key = `${window.limit} ${window.holder}`;
      const open = counters.get(key);
      return { ...window, key, open: open !== undefined && open.endsAt > now ? open : undefined };
    });
    const full = firstNamed(counted.filter(({ open, most }) => (open?.count ?? 0) >= most).map(({ limit }) => limit));
    if (full !== undefined) return full;
    for (const { key, open, seconds } of counted) {
      if (open === undefined) counters.set(key, { count: 1, endsAt: now + seconds * 1000 });
      else open.count += 1;
    }
    if (counters.size > room) {
      for (const [key, { endsAt }] of counters) if (endsAt <= now) counters.delete(key);
      room = 2 * counters.size + COUNTERS;
    }
    return undefined;
  };
}

const nothing = (): Tally => ({ requests: 0, sent: 0, refused: {}, honest: 0, honest_refused: 0 });

function count(tally: Tally, proven: boolean, refusedBy: LimitName | undefined): void {
  tally.requests += 1;
  if (refusedBy === undefined) tally.sent += 1;
  else tally.refused[refusedBy] = (tally.refused[refusedBy] ?? 0) + 1;
  if (proven) tally.honest += 1;
  if (proven && refusedBy !== undefined) tally.honest_refused += 1;
}

/** A report that grows by one request at a time. */
export function openReport(): { report: Report; add(request: LoggedRequest, refusedBy: LimitName | undefined): void } {
  const report: Report = { ...nothing(), days: {}, countries: {} };
  return {
    report,
    add({ at, country, proven }, refusedBy) {
      const day = at.toISOString().slice(0, 10);
      report.days[day] ??= nothing();
      report.countries[country] ??= nothing();
      for (const tally of [report, report.days[day], report.countries[country]]) count(tally, proven, refusedBy);
    },
  };
}

/**
 * Replays requests.
 * @param requests in the order they came
 * @param countries SMS_COUNTRIES; null: all
 * @param from requests before it fill the windows and are not reported
 */
export function replay(
  requests: Iterable<LoggedRequest>,
  limits: Limits,
  countries: readonly string[] | null,
  from?: Date,
): Report {
  const decide = openWindows(limits, countries);
  const { report, add } = openReport();
  for (const request of requests) {
    const refusedBy = decide(request);
    if (from === undefined || request.at >= from) add(request, refusedBy);
  }
  return report;
}
