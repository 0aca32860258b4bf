/**
 * The one way in for everything that is said about an address outside of a profile: pages, links, programs, imports,
 * promotions, the clock. Written for many: lock the points, read what is on record, decide each by the rules, write all.
 */
import { type ContactPoint, contactPoints, type PointKind } from '../accounts/contact-points.ts';
import { type Outcome as BatchOutcome, batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Evidence } from '../platform/evidence.ts';
import { Failure } from '../platform/failure.ts';
import { enqueue } from '../platform/jobs.ts';
import { type Book, type NoticeRef, openBook, readStandings, record } from './ledger/book.ts';
import { type NoticeInForce, noticeFor, noticesInForce } from './notices.ts';
import {
  decide,
  decideConfirm,
  decideEnd,
  decideErasure,
  decideRestoration,
  decideSuppression,
  type Edge,
  type EventKind,
  maySpeakFor,
  type Outcome,
  type Standing,
  type State,
} from './rules.ts';
import { asksToConfirm, type Source } from './sources.ts';
import { accountOf, type Holder, holdersOf, isEvidenced, isTraced } from './speakers.ts';

/** What is said. `grant`, `refuse` and `withdraw` (also of a yes given elsewhere) are the person's words, the others happen to an address. */
export type Intent = 'grant' | 'refuse' | 'withdraw' | 'confirm' | 'expire' | 'suppress' | 'restore' | 'erase';

/** Who says it; `rules.ts` has what each may do. */
export type Voice =
  /** The holder of the address: a signed-in account, or whoever holds a link that was sent there. */
  | { readonly voice: 'person'; readonly proven: boolean }
  /** Somebody at checkout who is not signed in. */
  | { readonly voice: 'guest' }
  /** The shop. A notice or a document in the evidence makes it the person's fresh word (rule 4). */
  | { readonly voice: 'shop' };

export interface ConsentStatement {
  /** An address, or a point that is known already. */
  readonly about: { readonly kind: PointKind; readonly value: string } | { readonly point: number };
  /** Whose word it is; absent: of the account that holds the address, if there is one. */
  readonly account?: number | null;
  readonly channel: string;
  readonly purpose: string;
  readonly intent: Intent;
  readonly by: Voice;
  /** When it was said; absent: now. */
  readonly at?: Date;
  readonly source: Source;
  readonly actor: string;
  readonly evidence: Evidence;
  /** The text that was shown; absent: the one in force in `language` when it was said now. */
  readonly notice?: NoticeRef;
  readonly language?: string;
  /** Unique in the ledger: the same key again is the same event, whatever became of it. */
  readonly key?: string;
  /** A yes that came from the address itself, by a link that was sent there: nobody has to confirm it again. */
  readonly confirmed?: boolean;
  /** Whether the person has read the no that stands (rule 3); absent: yes. */
  readonly heard?: boolean;
  /** Said only while this account holds the address. */
  readonly heldBy?: number;
  /** Said only while this line decides, or asks: what was due a moment ago may not be any more. */
  readonly whileEvent?: string;
}

/** What became of a statement. */
export interface Said {
  /** The line it made or had made before, else the one that decides now; null where nothing was ever said. */
  readonly event: string | null;
  readonly written: boolean;
  /** Of that line; undefined where nothing was to be written. */
  readonly outcome: Outcome | undefined;
  readonly state: State;
}

function decideOne(
  ctx: Ctx,
  statement: ConsentStatement,
  {
    point,
    standing,
    holders,
    account,
    now,
  }: {
    point: ContactPoint;
    standing: Standing | undefined;
    holders: readonly Holder[];
    account: number | null;
    now: Date;
  },
): Edge | undefined {
  const { intent, by, at, channel, source } = statement;
  switch (intent) {
    case 'confirm':
      return decideConfirm(standing, now);
    case 'expire':
      return decideEnd(standing, now);
    case 'suppress':
      return decideSuppression(standing, now);
    case 'restore':
      return decideRestoration(standing, now);
    case 'erase':
      return decideErasure(standing, now);
  }
  // Erased: nobody brings it back by naming it, for whichever purpose, and its person has no more to say (rule 10).
  if (point.value === null && point.address_hash !== null) {
    if (intent === 'grant' && by.voice !== 'person')
      return { kind: by.voice === 'guest' ? 'request' : 'grant', occurredAt: at ?? now, outcome: 'not_lifted' };
    if (intent === 'grant' || (standing?.state !== 'granted' && standing?.state !== 'pending')) return undefined;
  }
  const doubleOptIn =
    statement.confirmed !== true && (by.voice !== 'shop' || asksToConfirm(source))
      ? (ctx.settings.get('DOUBLE_OPT_IN') as readonly string[]).includes(channel)
      : false;
  return decide(
    standing,
    {
      granted: intent === 'grant',
      withdrawn: intent === 'withdraw',
      speaker:
        by.voice === 'person'
          ? {
              voice: 'person',
              maySpeak: account === null ? by.proven : maySpeakFor(standing, account, by.proven),
              // Said of this very channel, on a page that shows what is on record.
              heard: statement.heard !== false,
            }
          : by.voice === 'guest'
            ? { voice: 'guest', ofMember: holders.some(({ id }) => id !== statement.account) }
            : { voice: 'shop', evidenced: isEvidenced(statement) },
      doubleOptIn,
      ...(at === undefined ? {} : { at }),
    },
    now,
  );
}

/** Points of the statements, in their order, locked. */
async function lockPoints(ctx: Ctx, statements: readonly ConsentStatement[]): Promise<(ContactPoint | undefined)[]> {
  const addresses = statements.flatMap(({ about }) => ('value' in about ? [about] : []));
  const ids = statements.flatMap(({ about }) => ('point' in about ? [about.point] : []));
  const byAddress = await contactPoints(ctx, addresses, { by: 'shop' });
  const byId =
    ids.length === 0
      ? []
      : await ctx.db.rows<ContactPoint>(sql`
          select id, kind, encode(address_hash, 'hex') as address_hash, value
            from contact_point where id = any (${ids}::bigint[]) order by id for no key update`);
  const known = new Map(byId.map((point) => [point.id, point]));
  let next = 0;
  return statements.map(({ about }) => ('point' in about ? known.get(about.point) : byAddress[next++]));
}

interface Known {
  readonly idempotency_key: string;
  readonly id: string;
  readonly contact_point: number;
  readonly channel: string;
  readonly purpose: string;
  readonly kind: EventKind;
  readonly outcome: Outcome;
}

/** Whether a line can be what a repeated statement made the first time. */
const isRepeat = ({ intent, channel, purpose }: ConsentStatement, point: number, known: Known): boolean =>
  known.contact_point === point &&
  known.channel === channel &&
  known.purpose === purpose &&
  made[intent].includes(known.kind);

/** The lines an intent can lead to. */
const made: Readonly<Record<Intent, readonly EventKind[]>> = {
  grant: ['grant', 'request'],
  refuse: ['refuse', 'withdraw'],
  withdraw: ['refuse', 'withdraw'],
  confirm: ['confirm'],
  expire: ['expire'],
  suppress: ['suppress'],
  restore: ['restore'],
  erase: ['erase'],
};

const knownEvents = (ctx: Ctx, keys: readonly string[]): Promise<Known[]> =>
  keys.length === 0
    ? Promise.resolve([])
    : ctx.db.rows(sql`
        select idempotency_key, id, contact_point, channel, purpose, kind, outcome
          from consent_event where idempotency_key = any (${keys}::text[])`);

/** Which notice a statement made now was made under, when nobody names one. */
function assumedNotice(
  ctx: Ctx,
  notices: readonly NoticeInForce[],
  statement: ConsentStatement,
): NoticeRef | undefined {
  const { intent, at, by, channel, purpose, language } = statement;
  if ((intent !== 'grant' && intent !== 'refuse' && intent !== 'confirm') || at !== undefined || by.voice === 'shop')
    return undefined;
  const fallback = ctx.settings.get('DEFAULT_LANGUAGE');
  return noticeFor(notices, { purpose, channel, language: language ?? fallback, fallback });
}

/**
 * Says many things at once, in the order given, in one transaction.
 * @returns for each what became of it, or the failure that is its alone (`conflict`: its key was used for something else)
 */
export function sayAll(root: Ctx, statements: readonly ConsentStatement[]): Promise<BatchOutcome<Said>[]> {
  return transaction(root, async (ctx) => {
    const points = await lockPoints(ctx, statements);
    const ids = [...new Set(points.flatMap((point) => point?.id ?? []))];
    const [standings, holders, known, notices] = await Promise.all([
      readStandings(ctx, ids),
      holdersOf(ctx, ids),
      knownEvents(
        ctx,
        statements.flatMap(({ key }) => key ?? []),
      ),
      noticesInForce(ctx),
    ]);
    const now = ctx.clock.now();
    const book = openBook(now, standings);
    const keys = new Map(known.map((event) => [event.idempotency_key, event]));
    const asked = new Set<number>();
    const said = statements.map((statement, index): BatchOutcome<Said> => {
      const point = points[index];
      if (point === undefined) return new Failure('not_found');
      const { channel, purpose, key } = statement;
      const standing = book.standing(point.id, channel, purpose);
      const before = key === undefined ? undefined : keys.get(key);
      if (before !== undefined) {
        if (!isRepeat(statement, point.id, before)) return new Failure('conflict');
        return { event: before.id, written: false, outcome: before.outcome, state: standing?.state ?? 'unknown' };
      }
      const holding = holders.get(point.id) ?? [];
      // The address was given up while its lock was waited for.
      if (statement.heldBy !== undefined && !holding.some(({ id }) => id === statement.heldBy))
        return new Failure('precondition_failed');
      const account = accountOf(statement, standing, holding);
      const late =
        statement.whileEvent !== undefined && ![standing?.event, standing?.request].includes(statement.whileEvent);
      const edge = late ? undefined : decideOne(ctx, statement, { point, standing, holders: holding, account, now });
      if (edge === undefined)
        return {
          event: standing?.event ?? null,
          written: false,
          outcome: undefined,
          state: standing?.state ?? 'unknown',
        };
      const event = write(book, statement, {
        point,
        account,
        edge,
        notice: statement.notice ?? assumedNotice(ctx, notices, statement),
      });
      if (key !== undefined)
        keys.set(key, {
          idempotency_key: key,
          id: event,
          contact_point: point.id,
          channel,
          purpose,
          kind: edge.kind,
          outcome: edge.outcome,
        });
      if (edge.kind === 'request' && edge.outcome === 'applied') asked.add(point.id);
      const state = book.standing(point.id, channel, purpose)?.state ?? 'unknown';
      return { event, written: true, outcome: edge.outcome, state };
    });
    await record(ctx, book);
    await askToConfirm(ctx, [...asked]);
    return said;
  });
}

function write(
  book: Book,
  statement: ConsentStatement,
  {
    point,
    account,
    edge,
    notice,
  }: { point: ContactPoint; account: number | null; edge: Edge; notice: NoticeRef | undefined },
): string {
  const { channel, purpose, by, source, actor, evidence, key } = statement;
  return book.write({
    point,
    account,
    channel,
    purpose,
    edge,
    proven: by.voice === 'person' && by.proven,
    source,
    actor,
    evidence,
    notice,
    idempotencyKey: key ?? null,
  });
}

/** Puts in the jobs that ask people to confirm: one message for all that is open at an address. */
export async function askToConfirm(ctx: Ctx, points: readonly number[]): Promise<void> {
  for (const point of points) await enqueue(ctx, 'ask_to_confirm', { point }, { key: `ask_to_confirm:${point}` });
}

/** Says one thing; many callers share a transaction. @throws conflict: the key was used for something else; not_found: no such point */
export const sayOne = batched<ConsentStatement, Said>({
  key: ({ about, key }) => key ?? ('point' in about ? about.point : `${about.kind} ${about.value}`),
  run: sayAll,
});

/** Ends what an address allowed when its account leaves it (rule 5). */
export async function leavePoint(
  ctx: Ctx,
  point: number,
  by: { readonly account: number; readonly actor: string; readonly evidence: Evidence },
): Promise<void> {
  const standings = await readStandings(ctx, [point]);
  await sayAll(
    ctx,
    standings.map(({ channel, purpose }) => ({
      about: { point },
      channel,
      purpose,
      intent: 'expire',
      by: { voice: 'person', proven: true },
      source: 'account',
      ...by,
    })),
  );
}

/**
 * The key of a statement that says by itself when it was said: told again it is the same. Keyed, because it outlives the
 * erasure of the address.
 */
export function naturalKey(
  ctx: Ctx,
  {
    about,
    channel,
    purpose,
    intent,
    source,
    at,
    notice,
    evidence,
  }: Omit<ConsentStatement, 'by' | 'actor'> & { at: Date },
): string {
  const address = 'value' in about ? `${about.kind} ${about.value}` : `point ${about.point}`;
  const { document } = evidence;
  // With proof it is another statement: what was not believed before can be told again.
  const traced = isTraced(source, evidence) ? ['traced'] : [];
  const proof =
    notice === undefined && document === undefined && traced.length === 0
      ? []
      : [notice?.sha256 ?? '', String(document ?? ''), ...traced];
  const parts = [address, channel, purpose, intent, source, at.toISOString(), ...proof];
  return `said:${ctx.keys.hash('idempotency', ...parts).toString('hex')}`;
}
