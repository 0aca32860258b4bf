/** The job that sends a code. It derives the code itself: none is ever in a payload. */

import type { Task } from '../platform/jobs.ts';
import { type Language, say } from '../platform/language.ts';
import { handOver } from './sms.ts';
import { codeToSend } from './verification.ts';

export const sendCode: Task = async (ctx, { account }) => {
  const message = await codeToSend(ctx, Number(account));
  // Spent or expired meanwhile: nobody waits for it.
  if (message === undefined) return;
  const language =
    (['en', 'tr', 'nl', 'fr'] as const).find((l) => message.language.toLowerCase().startsWith(l)) ??
    ('en' satisfies Language);
  const text = say(language, { key: 'sms.code', values: { code: message.code } });
  const handed = await handOver(ctx, { to: message.to, text });
  if (!handed.taken) throw new Error(`no code was sent: ${handed.reason}`);
};
