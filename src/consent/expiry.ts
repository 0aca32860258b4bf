/** What ends by itself: consents older than they last, questions nobody answered. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { sayAll } from './statements.ts';

const STEP = 1000;

/** Writes the lines that end what is due. A decision does not wait for it: it reckons with the time by itself. */
export async function expireConsents(ctx: Ctx): Promise<void> {
  const validity = ctx.settings.get('CONSENT_VALIDITY');
  const patience = ctx.settings.get('DOUBLE_OPT_IN_AGE');
  for (;;) {
    const now = ctx.clock.now();
    const due = await ctx.db.rows<{ contact_point: number; channel: string; purpose: string; event: string }>(sql`
      select contact_point, channel, purpose, request as event from consent_state
       where request is not null and latest <= ${now}::timestamptz - make_interval(secs => ${patience})
      union all
      select contact_point, channel, purpose, event from consent_state
       where state = 'granted' and since <= ${now}::timestamptz - make_interval(secs => ${validity ?? null}::double precision)
       limit ${STEP}`);
    if (due.length === 0) return;
    const said = await sayAll(
      ctx,
      due.map(({ contact_point, channel, purpose, event }) => ({
        about: { point: contact_point },
        channel,
        purpose,
        intent: 'expire',
        by: { voice: 'person', proven: false },
        source: 'system',
        actor: 'system',
        evidence: {},
        whileEvent: event,
      })),
    );
    // Nothing came of a whole step: somebody else is at the same addresses, and the next turn finds what is left.
    if (due.length < STEP || !said.some((one) => !(one instanceof Error) && one.written)) return;
  }
}
