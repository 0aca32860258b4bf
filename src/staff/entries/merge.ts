/** Edits that rest on an older version of an entry: merged pair by pair, so that nobody is overwritten unseen. */
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { Failure } from '../../platform/failure.ts';
import type { StaffEvent } from '../history/lines.ts';
import { pairOf } from './rights.ts';
import type { Decided } from './rules.ts';

/**
 * Whether pairs that a change touches were changed by somebody since the version its author had read; every other pair is
 * free. Under the lock of the company.
 * @returns changed_since with each such pair and who changed it; unprocessable for a version that never was
 */
export async function requireUnchanged(
  ctx: Ctx,
  { before, changes }: Decided,
  seen: number,
): Promise<Failure | undefined> {
  if (seen > before.version)
    return new Failure('unprocessable', { complaints: [{ path: ['seen'], key: 'staff.unknown_version' }] });
  const lines = await ctx.db.rows<{ line: string }>(sql`
    select line from staff_event where entry = ${before.id} and kind in ('rights_changed', 'rights_ended')
     order by number desc limit ${before.version - seen}`);
  const touched = new Map<string, StaffEvent>();
  // A line for each version; the newest of a pair says who.
  for (const { line } of lines.reverse()) {
    const event = JSON.parse(line) as StaffEvent;
    if ((event.version ?? 0) > seen) for (const right of event.rights ?? []) touched.set(pairOf(right), event);
  }
  const conflicts = changes.filter((change) => touched.has(pairOf(change)));
  if (conflicts.length === 0) return undefined;
  return new Failure('changed_since', {
    complaints: conflicts.slice(0, 1000).map((change) => {
      const { actor, at } = touched.get(pairOf(change))!;
      return {
        path: ['rights', change.shop, change.permission],
        key: 'staff.changed_since',
        values: { who: actor, when: `${at.slice(0, 10)} ${at.slice(11, 16)} UTC` },
      };
    }),
  });
}
