/** Heads of chains of seals, as they are published: whoever keeps one can show later that nothing before it was rewritten. */
import type { Ctx } from './ctx.ts';

export interface Head {
  /** What it covers: lines of the ledger, seals of the history. */
  readonly count: number;
  readonly hash: string | null;
  readonly at: string | null;
  /** Ed25519 over the hash, base64. */
  readonly signature: string | null;
}

/** The head of a seal; before the first one there is nothing. */
export const headOf = (
  seal: { readonly head: Buffer; readonly sealed_at: Date; readonly signature: Buffer } | undefined,
  count: number,
): Head =>
  seal === undefined
    ? { count: 0, hash: null, at: null, signature: null }
    : {
        count,
        hash: seal.head.toString('hex'),
        at: seal.sealed_at.toISOString(),
        signature: seal.signature.toString('base64'),
      };

/** Whether a line has waited for its seal for longer than a sealer that works takes. @param since null: none waits */
export const isOverdue = (ctx: Ctx, since: Date | null): since is Date =>
  since !== null && ctx.clock.now().getTime() - since.getTime() > 60_000;

/**
 * Writes a head into the log: wherever logs are kept, it can be held against the chain later. Lines that wait for too long
 * are told of too, as they could be cut off unseen.
 */
export function publish(ctx: Ctx, name: 'ledger' | 'history', head: Head, unsealedSince: Date | null): void {
  if (head.count > 0) ctx.log.info({ head }, `${name} head`);
  if (isOverdue(ctx, unsealedSince)) ctx.log.warn({ since: unsealedSince }, `lines of the ${name} wait for their seal`);
}
