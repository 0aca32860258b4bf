/** What a form of the preference page says, and what becomes of it. */
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import type { Evidence } from '../../platform/evidence.ts';
import { channels } from '../channels.ts';
import { type NoticeRef, readStandings } from '../ledger/book.ts';
import type { Standing } from '../rules.ts';
import { type ConsentStatement, sayAll } from '../statements.ts';
import { type Current, currentOf, isOn, noticeTexts, pointsOf, type Reader, type ReaderPoint } from './preferences.ts';

/** What a form says of one switch. */
export interface Wish {
  readonly purpose: string;
  readonly channel: string;
  readonly on: boolean;
  /** `shown` of what its reader saw. */
  readonly shown: string;
  /** The notice its reader saw. */
  readonly notice: number | null;
}

/** What became of a form: all as it says; `stale`: a yes was left out, because the no is newer; `asked`: a yes waits for its confirmation. */
export type Saved = 'saved' | 'asked' | 'stale';

interface SavedBy {
  readonly evidence: Evidence;
  readonly language: string;
}

/** Says what a form asks for, in one transaction: of its switches those that were moved, and every no. */
export function savePreferences(root: Ctx, reader: Reader, wishes: readonly Wish[], by: SavedBy): Promise<Saved> {
  return transaction(root, async (ctx) => {
    const standings = await lock(ctx, reader);
    const notices = await noticeTexts(ctx, [...new Set(wishes.flatMap(({ notice }) => notice ?? []))]);
    const statements = wishes.flatMap((wish): ConsentStatement[] => {
      const { purpose, channel } = wish;
      const kind = channels.find(({ name }) => name === channel)?.kind;
      const point = kind === undefined ? undefined : reader.points[kind];
      if (point === undefined) return [];
      const current = currentOf(ctx, standings(point.id, channel, purpose));
      const intent = intentOf(wish, current, { here: point.id === reader.via, addressed: point.value !== null });
      if (intent === undefined) return [];
      const seen = notices.find(({ id }) => id === wish.notice);
      const notice: NoticeRef | undefined =
        seen !== undefined && seen.purpose === purpose && seen.channels.includes(channel)
          ? { id: seen.id, sha256: seen.text_sha256 }
          : undefined;
      const statement = said(reader, point, { purpose, channel, intent, ...by });
      const heard = wish.shown === current.shown;
      return [
        // Over by the clock: its end is written before the new beginning.
        ...(current.lapsed
          ? [{ ...statement, intent: 'expire', source: 'system', actor: 'system', evidence: {} } as const]
          : []),
        { ...statement, heard, ...(notice === undefined ? {} : { notice }) },
      ];
    });
    return whatBecame(await sayAll(ctx, statements), statements);
  });
}

/** What a switch says beside what is on record; undefined: nothing. */
function intentOf(
  { on, shown }: Wish,
  current: Current,
  { here, addressed }: { here: boolean; addressed: boolean },
): 'grant' | 'confirm' | 'refuse' | undefined {
  const moved = on !== isOn(current, here);
  if (shown === current.shown && !moved) return undefined;
  // A no counts however old the page is, where there is anything to say no to.
  if (!on) return current.state === 'granted' || current.request !== null ? 'refuse' : undefined;
  if (current.state === 'granted' || !addressed) return undefined;
  return current.request !== null && here && shown === current.shown ? 'confirm' : 'grant';
}

/** Says no to everything: what the shop asks for, and whatever else anybody ever asked these addresses. */
export function refuseEverything(root: Ctx, reader: Reader, by: SavedBy): Promise<Saved> {
  return transaction(root, async (ctx) => {
    await lock(ctx, reader);
    const rows = await readStandings(
      ctx,
      pointsOf(reader).map(({ id }) => id),
    );
    const places = new Map<string, ConsentStatement>();
    const add = (point: ReaderPoint, channel: string, purpose: string): void => {
      places.set(
        `${point.id} ${channel} ${purpose}`,
        said(reader, point, { channel, purpose, intent: 'withdraw', ...by }),
      );
    };
    for (const [purpose, { channels: names }] of Object.entries(ctx.settings.get('CONSENT_PURPOSES'))) {
      for (const { name, kind } of channels) {
        const point = reader.points[kind];
        if (names.includes(name) && point !== undefined && point.value !== null) add(point, name, purpose);
      }
    }
    for (const row of rows) add(pointsOf(reader).find(({ id }) => id === row.contact_point)!, row.channel, row.purpose);
    const statements = [...places.values()];
    return whatBecame(await sayAll(ctx, statements), statements);
  });
}

/** Locks the reader's addresses, in the order of their ids as everybody does, and reads what is on record. */
async function lock(
  ctx: Ctx,
  reader: Reader,
): Promise<(point: number, channel: string, purpose: string) => Standing | undefined> {
  const ids = pointsOf(reader).map(({ id }) => id);
  await ctx.db.run(sql`select from contact_point where id = any (${ids}::bigint[]) order by id for no key update`);
  const rows = await readStandings(ctx, ids);
  return (point, channel, purpose) =>
    rows.find((row) => row.contact_point === point && row.channel === channel && row.purpose === purpose);
}

const said = (
  { account, via }: Reader,
  point: ReaderPoint,
  { evidence, language, ...what }: SavedBy & Pick<ConsentStatement, 'purpose' | 'channel' | 'intent'>,
): ConsentStatement => ({
  ...what,
  about: { point: point.id },
  ...(account === null ? {} : { account, heldBy: account }),
  by: { voice: 'person', proven: point.proven },
  source: 'preference_page',
  actor: account === null ? 'address' : `account:${account}`,
  confirmed: point.id === via,
  evidence,
  language,
});

function whatBecame(results: Awaited<ReturnType<typeof sayAll>>, statements: readonly ConsentStatement[]): Saved {
  let saved: Saved = 'saved';
  for (const [index, result] of results.entries()) {
    if (result instanceof Error) throw result;
    if (statements[index]!.intent !== 'grant') continue;
    if (result.written && result.outcome !== 'applied') return 'stale';
    if (result.state !== 'granted') saved = 'asked';
  }
  return saved;
}
