/** Export: what may be done with every address, or every line of the ledger, as it was at one moment. */
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { type Statement, sql } from '../../platform/db.ts';
import { isAllowed } from '../decisions.ts';
import type { State } from '../rules.ts';

const STEP = 2000;

export const stateColumns = [
  'recipient',
  'account',
  'channel',
  'purpose',
  'state',
  'allowed',
  'since',
  'source',
  'notice',
  'notice_sha256',
  'event',
] as const;

export const eventColumns = [
  'event',
  'recipient',
  'account',
  'channel',
  'purpose',
  'kind',
  'outcome',
  'occurred_at',
  'recorded_at',
  'source',
  'actor',
  'notice',
  'notice_sha256',
  'evidence',
] as const;

export interface StateFilter {
  readonly channel?: string | undefined;
  readonly purpose?: string | undefined;
  readonly state?: string | undefined;
  /** Only who may be contacted. */
  readonly allowed: boolean;
  /** Also addresses that were erased, which have no recipient any more. */
  readonly all: boolean;
}

export type ExportRow = Readonly<Record<string, unknown>>;
type Write = (rows: readonly ExportRow[]) => Promise<void>;

/** Goes through a cursor. Everything it reads is as it was when the transaction began. */
async function walk<T>(
  root: Ctx,
  declare: (now: Date) => Statement,
  use: (rows: T[], now: Date) => Promise<void>,
): Promise<void> {
  await transaction(root, async ({ db, clock }) => {
    await db.run(sql`set transaction isolation level repeatable read, read only`);
    // Whoever reads may take their time; a client of the service may not.
    await db.run(sql`set local idle_in_transaction_session_timeout = '10min'`);
    const now = clock.now();
    await db.run(declare(now));
    for (;;) {
      const rows = await db.rows<T>(sql`fetch 2000 from export`);
      await use(rows, now);
      if (rows.length < STEP) return;
    }
  });
}

interface StateView {
  readonly state: State;
  readonly since: Date;
}

/**
 * The state of every address, channel and purpose; `allowed` is what a decision says at this moment. Ordered by address
 * as they came to be known.
 */
export async function exportStates(
  ctx: Ctx,
  { channel, purpose, state, allowed: allowedOnly, all }: StateFilter,
  write: Write,
): Promise<number> {
  const validity = ctx.settings.get('CONSENT_VALIDITY');
  // A consent that is over is shown as expired, as decisions do, also before the job has written so.
  const wanted = state ?? (allowedOnly ? 'granted' : undefined);
  const stored = wanted === undefined ? null : wanted === 'expired' ? ['expired', 'granted'] : [wanted];
  let count = 0;
  await walk<StateView>(
    ctx,
    () => sql`
      declare export no scroll cursor for
      select p.value as recipient,
             case p.kind when 'email' then (select min(a.id) from account a where a.is_active and a.email_point = p.id)
                         else (select min(a.id) from account a where a.is_active and a.phone_point = p.id) end as account,
             s.channel, s.purpose, s.state, s.since, e.source, e.notice, encode(n.text_sha256, 'hex') as notice_sha256, s.event
        from consent_state s
        join contact_point p on p.id = s.contact_point
        left join consent_event e on e.id = s.event
        left join notice n on n.id = e.notice
       where (${channel ?? null}::text is null or s.channel = ${channel ?? null})
         and (${purpose ?? null}::text is null or s.purpose = ${purpose ?? null})
         and (${stored}::text[] is null or s.state = any (${stored}::text[]))
         and (${all}::boolean or p.value is not null)
       order by s.contact_point, s.channel, s.purpose`,
    async (rows, now) => {
      const made = rows.flatMap((row) => {
        const allowed = isAllowed(row.state, row.since.getTime(), validity, now.getTime());
        const over = row.state === 'granted' && !allowed;
        const shown = over ? 'expired' : row.state;
        if (wanted !== undefined && shown !== wanted) return [];
        const since = over ? new Date(row.since.getTime() + validity! * 1000) : row.since;
        return [inOrder(stateColumns, { ...row, state: shown, allowed, since: since.toISOString() })];
      });
      count += made.length;
      if (made.length > 0) await write(made);
    },
  );
  return count;
}

/** Every line of the ledger with its evidence, oldest first. */
export async function exportEvents(
  ctx: Ctx,
  { channel, purpose }: Pick<StateFilter, 'channel' | 'purpose'>,
  write: Write,
): Promise<number> {
  let count = 0;
  await walk<{ occurred_at: Date; recorded_at: Date }>(
    ctx,
    () => sql`
      declare export no scroll cursor for
      select e.id as event, p.value as recipient, e.account, e.channel, e.purpose, e.kind, e.outcome, e.occurred_at, e.recorded_at,
             e.source, e.actor, e.notice, encode(n.text_sha256, 'hex') as notice_sha256, v.evidence
        from consent_event e
        join contact_point p on p.id = e.contact_point
        left join consent_evidence v on v.event = e.id
        left join notice n on n.id = e.notice
       where (${channel ?? null}::text is null or e.channel = ${channel ?? null})
         and (${purpose ?? null}::text is null or e.purpose = ${purpose ?? null})
       order by e.id`,
    async (rows) => {
      count += rows.length;
      const made = rows.map(({ occurred_at, recorded_at, ...row }) =>
        inOrder(eventColumns, {
          ...row,
          occurred_at: occurred_at.toISOString(),
          recorded_at: recorded_at.toISOString(),
        }),
      );
      if (made.length > 0) await write(made);
    },
  );
  return count;
}

const inOrder = (columns: readonly string[], row: ExportRow): ExportRow =>
  Object.fromEntries(columns.map((name) => [name, row[name] ?? null]));
