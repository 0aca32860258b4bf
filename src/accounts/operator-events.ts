/** The history of operators: what they, their programs and the commands did with accounts, clients, keys and each other. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { refuse } from '../platform/failure.ts';
import { uuidv7 } from '../platform/ids.ts';

/** The catalogue of what stands in it. */
export const operatorEventKinds = [
  'account_off',
  'account_on',
  'sign_ins_ended',
  'identity_unlinked',
  'second_factor_removed',
  'password_voided',
  'operator_made',
  'operator_revoked',
  'key_made',
  'key_revoked',
  'client_made',
  'client_changed',
] as const;
export type OperatorEventKind = (typeof operatorEventKinds)[number];

/** Who does something, and why they say they do it. */
export interface Doer {
  /** `operator:7`, `key:3` or `command`. */
  readonly name: string;
  /** 500 characters at most. */
  readonly reason?: string | undefined;
}

/** Whoever sits at the machine. */
export const atTheMachine: Doer = { name: 'command' };

/** A line as it is stored and shown. */
export interface OperatorEvent {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  readonly kind: OperatorEventKind;
  /** Whom it was done to; the id stays when they are erased. */
  readonly account: number | null;
  /** Id of a client, name of a key, or an issuer. */
  readonly subject: string | null;
  readonly detail: Record<string, unknown>;
  readonly reason: string | null;
}

/**
 * Adds a line, in the transaction of what it tells.
 * @param event `detail` says what was and is: nothing personal and no secret, the line is kept for good
 */
export async function recordOperatorEvent(
  ctx: Ctx,
  by: Doer,
  event: { kind: OperatorEventKind; account?: number; subject?: string; detail?: Record<string, unknown> },
): Promise<void> {
  const { kind, account = null, subject = null, detail = {} } = event;
  const now = ctx.clock.now();
  await ctx.db.run(sql`
    insert into operator_event (id, at, actor, kind, account, subject, detail, reason)
    values (${uuidv7(now)}, ${now}, ${by.name}, ${kind}, ${account}, ${subject}, ${JSON.stringify(detail)}::jsonb, ${by.reason ?? null})`);
}

/** Which lines, newest first. */
export interface OperatorEventFilter {
  readonly account?: number | undefined;
  readonly kind?: OperatorEventKind | undefined;
  readonly subject?: string | undefined;
  /** Id of the last line of the page before. */
  readonly after?: string | undefined;
  readonly limit: number;
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A page of lines. @throws invalid for an `after` that is no id */
export async function listOperatorEvents(
  ctx: Ctx,
  filter: OperatorEventFilter,
): Promise<{ items: OperatorEvent[]; next: string | null }> {
  const { account = null, kind = null, subject = null, after = null, limit } = filter;
  if (after !== null && !uuid.test(after)) refuse({ path: ['after'], key: 'invalid.cursor' });
  const rows = await ctx.db.rows<OperatorEvent>(sql`
    select id, at, actor, kind, account, subject, detail, reason from operator_event
     where (${account}::bigint is null or account = ${account})
       and (${kind}::text is null or kind = ${kind})
       and (${subject}::text is null or subject = ${subject})
       and (${after}::uuid is null or id < ${after}::uuid)
     order by id desc limit ${limit + 1}`);
  const items = rows.slice(0, limit);
  return { items, next: rows.length > limit ? items.at(-1)!.id : null };
}
