/**
 * A test message. The rule is that only jobs talk to the network, so that no customer ever waits for others: here an
 * operator waits for exactly that answer, on the command line or at a button, and a job could not give it.
 */
import { readPhone } from '../accounts/phone-numbers.ts';
import type { Ctx } from '../platform/ctx.ts';
import { refuse } from '../platform/failure.ts';
import { say } from '../platform/language.ts';
import { endMessage, handOver } from './sms.ts';

export interface Tested {
  readonly taken: boolean;
  /** What the provider said against it, in words of ours; null when it was taken. */
  readonly reason: string | null;
  /** Of the message, as it goes to the provider. */
  readonly id: string;
}

/**
 * Sends a test message once and waits for the provider.
 * @param to a number in any spelling
 * @param publicUrl where delivery reports can come in; undefined: none are asked for
 * @throws invalid on `to` when it is no number
 */
export async function sendTest(ctx: Ctx, to: string, publicUrl: string | undefined): Promise<Tested> {
  const phone = readPhone(ctx.settings, to);
  if ('problem' in phone) refuse({ path: ['to'], key: phone.problem });
  const text = say(ctx.settings.get('DEFAULT_LANGUAGE'), {
    key: 'sms.test',
    values: { shop: ctx.settings.get('CONSENT_CONTROLLER').name },
  });
  const attempt = await handOver(ctx, { purpose: 'test', to: phone.e164, text, publicUrl });
  const reason = 'reason' in attempt ? attempt.reason : null;
  if (attempt.state === 'later') await endMessage(ctx, attempt.id);
  return { taken: attempt.state === 'taken', reason, id: attempt.id };
}
