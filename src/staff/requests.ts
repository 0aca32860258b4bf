/** What requests about rights have in common: who asks, from where and why, and about whom. */
import Type from 'typebox';
import type { Keeper } from '../accounts/callers.ts';
import { needsSecondFactor } from '../accounts/second-factor.ts';
import type { Ctx } from '../platform/ctx.ts';
import { email as emailKind } from '../platform/drf.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { refuse } from '../platform/failure.ts';
import type { Incoming } from '../platform/http.ts';
import { MAX_REASON } from '../platform/problem.ts';
import type { Caller } from './entries/rules.ts';
import type { Author } from './history/lines.ts';

/** Who asks, as the rules know them: an account with its access token, or an operator or a program of theirs. */
export function callerOf(ctx: Ctx, actor: Keeper): Caller {
  if (actor.account === null) return { name: actor.name, account: null };
  const { account } = actor;
  return {
    name: `account:${account.id}`,
    account: account.id,
    unproven: account.email_verified_at === null,
    lacksSecondFactor: needsSecondFactor(ctx, 'owners', account),
  };
}

/** Who a line of the history names, from where they came, and why they say they did it. */
export const authorOf = (caller: Caller, incoming: Incoming, reason?: string): Author => ({
  name: caller.name,
  evidence: evidenceOf(incoming),
  reason,
});

/** Why somebody changes something, for the history. */
export const reason = Type.Optional(
  Type.String({ minLength: 1, maxLength: MAX_REASON, description: 'Why, for the history; it is kept for good' }),
);

/** An address of a body. @throws invalid */
export function readEmail(given: string, name: string): string {
  const found = emailKind.read(given, false);
  if ('problem' in found) refuse({ path: [name], key: found.problem });
  return found.value;
}
