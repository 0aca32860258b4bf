/** `phone test`: whether messages go out at all, with what the provider says. */

import type { Command } from 'commander';
import type { Terminal } from '../platform/terminal.ts';
import { providerName } from './sms.ts';
import { sendTest } from './test-message.ts';

/** Adds `phone test <number>`; it ends with 1 when the provider did not take the message. */
export const testCommand = (phone: Command, { say, print, withCtx }: Terminal): void =>
  void phone
    .command('test <number>')
    .description('send a test message with the configured provider and say what it answered')
    .option('--json', 'as JSON')
    .action((number: string, { json }: { json?: boolean }) =>
      withCtx(async (ctx, publicUrl) => {
        const tested = await sendTest(ctx, number, publicUrl);
        if (json) print(tested);
        else if (tested.taken) say(`${providerName(ctx)} took the message ${tested.id}.`);
        else say(`${providerName(ctx)} did not take the message: ${tested.reason}`);
        if (!tested.taken) process.exitCode = 1;
      }),
    );
