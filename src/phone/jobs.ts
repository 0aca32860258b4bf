/** The job that sends a code. It derives the code itself: none is ever in a payload. */

import type { Task } from '../platform/jobs.ts';
import { type Language, say } from '../platform/language.ts';
import { smsProvider } from './providers.ts';
import { codeToSend } from './verification.ts';

export const sendCode: Task = async (ctx, { account }) => {
  const message = await codeToSend(ctx, Number(account));
  // Spent or expired meanwhile: nobody waits for it.
  if (message === undefined) return;
  const language =
    (['en', 'tr', 'nl', 'fr'] as const).find((l) => message.language.toLowerCase().startsWith(l)) ??
    ('en' satisfies Language);
  await smsProvider(ctx).send(ctx, {
    to: message.to,
    text: say(language, { key: 'sms.code', values: { code: message.code } }),
  });
};
