/** The projection as a replay of the ledger: what `consent_state` has to be, and how it is made anew. */
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { type EventKind, foldOrder } from '../rules.ts';
import { nextState, type StateRow } from './book.ts';

/** Points a step looks at. */
const STEP = 5000;

interface FoldLine {
  readonly contact_point: number;
  readonly channel: string;
  readonly purpose: string;
  readonly id: string;
  readonly kind: EventKind;
  readonly source: string;
  readonly occurred_at: Date;
  readonly account: number | null;
  readonly proven: boolean | null;
}

const keyOf = ({
  contact_point,
  channel,
  purpose,
}: {
  contact_point: number;
  channel: string;
  purpose: string;
}): string => `${contact_point} ${channel} ${purpose}`;

/** What the lines that count lead to, whatever order they come in. */
function replay(lines: readonly FoldLine[]): Map<string, StateRow> {
  const sorted = [...lines].sort(
    (a, b) => a.occurred_at.getTime() - b.occurred_at.getTime() || foldOrder(a.kind) - foldOrder(b.kind),
  );
  const states = new Map<string, StateRow>();
  for (const { contact_point, channel, purpose, occurred_at: occurredAt, proven, ...line } of sorted) {
    const place = { contact_point, channel, purpose };
    const key = keyOf(place);
    // Lines from before it was recorded do not say whether the address was proven.
    states.set(key, nextState(states.get(key), place, { ...line, occurredAt, proven: proven ?? false }));
  }
  return states;
}

const columns = [
  'state',
  'since',
  'event',
  'account',
  'proven',
  'latest',
  'request',
  'beneath',
  'beneath_since',
  'kind',
  'source',
] as const;
const same = (a: StateRow, b: StateRow): boolean =>
  columns.every((column) => {
    const [left, right] = [a[column], b[column]];
    return left instanceof Date && right instanceof Date ? left.getTime() === right.getTime() : left === right;
  });

/** A place where the projection is not what the ledger says. */
export interface Drift {
  readonly contact_point: number;
  readonly channel: string;
  readonly purpose: string;
  readonly shown: StateRow | undefined;
  readonly said: StateRow | undefined;
}

/** Compares what is stored for points after `from` with a replay of their lines. */
async function compare(ctx: Ctx, from: number): Promise<{ last: number | undefined; states: number; drifts: Drift[] }> {
  const points = await ctx.db.rows<{ id: number }>(sql`
    select id from contact_point where id > ${from} order by id limit ${STEP}`);
  const last = points.at(-1)?.id;
  if (last === undefined) return { last, states: 0, drifts: [] };
  const lines = await ctx.db.rows<FoldLine>(sql`
    select contact_point, channel, purpose, id, kind, source, occurred_at, account, proven from consent_event
     where contact_point > ${from} and contact_point <= ${last} and outcome = 'applied'`);
  const stored = await ctx.db.rows<StateRow>(sql`
    select contact_point, channel, purpose, state, since, event, account, proven, latest, request, beneath, beneath_since,
           kind, source
      from consent_state where contact_point > ${from} and contact_point <= ${last}`);
  const said = replay(lines);
  const shown = new Map(stored.map((row) => [keyOf(row), row]));
  const drifts = [...new Set([...said.keys(), ...shown.keys()])].flatMap((key): Drift[] => {
    const [a, b] = [shown.get(key), said.get(key)];
    if (a !== undefined && b !== undefined && same(a, b)) return [];
    const { contact_point, channel, purpose } = (a ?? b)!;
    return [{ contact_point, channel, purpose, shown: a, said: b }];
  });
  return { last, states: said.size, drifts };
}

/** The first place where the projection is not a replay of the ledger; undefined when it is one, bit for bit. */
export async function findDrift(ctx: Ctx): Promise<Drift | undefined> {
  for (let from = 0; ; ) {
    // One picture of both tables: the service may be writing.
    const { last, drifts } = await transaction(ctx, async (tx) => {
      await tx.db.run(sql`set transaction isolation level repeatable read, read only`);
      return compare(tx, from);
    });
    const first = drifts.sort((a, b) => a.contact_point - b.contact_point || (a.channel < b.channel ? -1 : 1))[0];
    if (first !== undefined) return first;
    if (last === undefined) return undefined;
    from = last;
  }
}

/**
 * Makes the projection what the ledger says, a few thousand addresses at a time, beside a running service.
 * @param progress told how many states were made
 * @returns how many states there are and how many were not what they should have been
 */
export async function rebuildStates(
  ctx: Ctx,
  progress: (states: number) => void = () => {},
): Promise<{ states: number; repaired: number }> {
  let [states, repaired] = [0, 0];
  for (let from = 0; ; ) {
    const done = await transaction(ctx, async (tx) => {
      // Whoever writes about a point locks it first.
      await tx.db.run(sql`
        select from contact_point where id > ${from} and id <= (
          select max(id) from (select id from contact_point where id > ${from} order by id limit ${STEP}) as step)
         order by id for no key update`);
      const found = await compare(tx, from);
      const { drifts } = found;
      if (drifts.length > 0) {
        await tx.db.run(sql`
          delete from consent_state s
           using unnest(${drifts.map((drift) => drift.contact_point)}::bigint[], ${drifts.map(({ channel }) => channel)}::text[],
                        ${drifts.map(({ purpose }) => purpose)}::text[]) as d (contact_point, channel, purpose)
           where s.contact_point = d.contact_point and s.channel = d.channel and s.purpose = d.purpose`);
        const said = drifts.flatMap((drift) => drift.said ?? []);
        await tx.db.run(sql`
          insert into consent_state select * from jsonb_populate_recordset(null::consent_state, ${JSON.stringify(said)}::jsonb)`);
      }
      return found;
    });
    states += done.states;
    repaired += done.drifts.length;
    if (done.last === undefined) return { states, repaired };
    progress(states);
    from = done.last;
  }
}
