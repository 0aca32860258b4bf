/** What ends by itself: consents older than they last, questions nobody answered. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { sayAll } from './statements.ts';

const STEP = 1000;

interface Due {
  readonly contact_point: number;
  readonly channel: string;
  readonly purpose: string;
  /** The line that asked, or granted. */
  readonly event: string;
}

/** Ends questions that nobody answered in time. */
export async function expireRequests(ctx: Ctx): Promise<void> {
  const patience = ctx.settings.get('DOUBLE_OPT_IN_AGE');
  await endAll(ctx, () =>
    ctx.db.rows<Due>(sql`
      select contact_point, channel, purpose, request as event from consent_state
       where request is not null and latest <= ${ctx.clock.now()}::timestamptz - make_interval(secs => ${patience})
       limit ${STEP}`),
  );
}

/**
 * Ends consents whose time is over. Looks at every state, because an index on what changes with each consent would cost
 * more: decisions reckon with the time by themselves and do not wait for this.
 */
export async function expireConsents(ctx: Ctx): Promise<void> {
  const validity = ctx.settings.get('CONSENT_VALIDITY');
  if (validity === null) return;
  await endAll(ctx, () =>
    ctx.db.rows<Due>(sql`
      select contact_point, channel, purpose, event from consent_state
       where state = 'granted' and since <= ${ctx.clock.now()}::timestamptz - make_interval(secs => ${validity})
       limit ${STEP}`),
  );
}

async function endAll(ctx: Ctx, next: () => Promise<Due[]>): Promise<void> {
  for (;;) {
    const due = await next();
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
