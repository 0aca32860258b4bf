/** `assent loyalty reconcile`. Accounts and names of fields go to stdout, never a value; what is said about it to stderr. */

import { type Command, InvalidArgumentError } from 'commander';
import type { Ctx } from '../platform/ctx.ts';
import type { Terminal } from '../platform/terminal.ts';
import type { Finding, Sweep, TakeOver } from './comparing.ts';
import { reconcile } from './reconcile.ts';

interface Choices {
  dryRun?: boolean;
  restart?: boolean;
  parked?: boolean;
  account?: number;
  rate: number;
  json?: boolean;
}

/** Findings at most, in the JSON and as lines: the provider may have lost everybody, or know nobody yet. */
const LISTED = 1000;
const LINES = 50;
/** Characters of the bar. */
const WIDE = 30;

const number = (value: number): string => value.toLocaleString('en');

function whole(most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
    throw new InvalidArgumentError(`A whole number from 1 to ${most}.`);
  };
}

const comeTo = ({ compared, waiting, parked, failed }: Sweep): number => compared + waiting + parked + failed;

/** A bar that is rewritten on a terminal, else a new line, at most once a second. */
function progressBar(stream: NodeJS.WriteStream) {
  const terminal = stream.isTTY === true;
  let last = performance.now();
  let shown = false;
  const clear = (): void => {
    if (terminal && shown) stream.write('\r\u001b[K');
    shown = false;
  };
  return {
    clear,
    show(sweep: Sweep, total: number): void {
      const now = performance.now();
      if (now - last < 1000) return;
      last = now;
      shown = true;
      const part = Math.min(1, comeTo(sweep) / Math.max(1, total));
      const filled = Math.round(part * WIDE);
      const bar = `[${'#'.repeat(filled)}${'.'.repeat(WIDE - filled)}] `;
      const line = `${number(comeTo(sweep))} of ${number(total)} accounts, ${Math.floor(part * 100)} %, ${number(sweep.differing)} differ, at account ${sweep.after}`;
      stream.write(terminal ? `\r\u001b[K${bar}${line}` : `${line}\n`);
    },
  };
}

const kinds: Readonly<Record<Finding['kind'], string>> = {
  differs: 'differs',
  unknown: 'the provider does not know it',
  erased: 'erased here and not there',
  parked: 'parked',
  failed: 'could not be compared',
};

/** `1042  differs: first_name, phone; taken over: first_name` */
function line({ account, kind, fields, taken, left, reason }: Finding, dryRun: boolean): string {
  const what = [
    fields.length === 0 ? kinds[kind] : `${kinds[kind]}: ${fields.join(', ')}`,
    ...(taken.length > 0 ? [`${dryRun ? 'to be taken over' : 'taken over'}: ${taken.join(', ')}`] : []),
    ...(left.length > 0 ? [`not valid there: ${left.join(', ')}`] : []),
    ...(reason === null ? [] : [reason]),
  ];
  return `${String(account).padEnd(10)} ${what.join('; ')}`;
}

function inWords(sweep: Sweep, seconds: number): string {
  const { compared, equal, differing, repaired, taken_over, left, waiting, parked, failed, dry_run } = sweep;
  const row = (name: string, count: number, words = ''): string[] =>
    count === 0 && words !== '' ? [] : [`  ${name.padEnd(12)} ${number(count)}${words === '' ? '' : `  ${words}`}`];
  return [
    `${dry_run ? 'A dry run: compared' : 'Compared'} ${number(compared)} accounts with ${sweep.connector} in ${seconds.toFixed(1)} s.`,
    ...row('equal', equal),
    ...row('differ', differing),
    ...(dry_run ? [] : row('repaired', repaired)),
    ...row('taken over', taken_over, 'profiles that follow the provider'),
    ...row('not valid', left, 'have a value at the provider that no profile may have; ours is sent'),
    ...row('waiting', waiting, 'not compared: their newest change is on its way'),
    ...row('parked', parked, 'not compared: loyalty parked says why, --parked sends them again'),
    ...row('failed', failed, 'the provider gave no answer about them'),
  ].join('\n');
}

/** What to do next, in a sentence; undefined: nothing. */
function afterwards({ finished, stopped, dry_run, after, repaired }: Sweep, account?: number): string | undefined {
  if (finished)
    return repaired > 0 ? 'What differed is sent by the service, or by assent worker, as all changes are.' : undefined;
  const again =
    dry_run || account !== undefined ? '' : ` The same command goes on after account ${after}, --restart begins anew.`;
  return `Not finished: ${stopped}.${again}`;
}

async function run(ctx: Ctx, { say, print }: Terminal, takeOver: TakeOver, choices: Choices): Promise<void> {
  const { json = false, dryRun = false, account, ...rest } = choices;
  const stop = new AbortController();
  const progress = progressBar(process.stderr);
  const tell = (sentence: string): void => {
    progress.clear();
    say(sentence);
  };
  const interrupt = (): void => {
    // A second Ctrl-C is somebody who does not want to wait.
    if (stop.signal.aborted) process.exit(1);
    stop.abort();
    tell('Ending after the accounts under way …');
  };
  process.on('SIGINT', interrupt);
  const started = performance.now();
  const findings: Finding[] = [];
  let found = 0;
  try {
    const sweep = await reconcile(ctx, {
      ...rest,
      takeOver,
      dryRun,
      account,
      signal: stop.signal,
      progress: progress.show,
      note: tell,
      found(finding) {
        found += 1;
        if (json && findings.length < LISTED) findings.push(finding);
        progress.clear();
        if (!json && found <= LINES) print(line(finding, dryRun));
      },
    });
    progress.clear();
    if ('cannot' in sweep) {
      say(sweep.cannot);
      process.exitCode = 1;
      return;
    }
    const seconds = (performance.now() - started) / 1000;
    if (json)
      print({ ...sweep, seconds: Math.round(seconds * 1000) / 1000, findings, more_findings: found - findings.length });
    else {
      if (found > LINES) say(`… and ${number(found - LINES)} more that differ.`);
      say(inWords(sweep, seconds));
    }
    const next = afterwards(sweep, account);
    if (next !== undefined) say(next);
    const nobody = account !== undefined && comeTo(sweep) === 0 && sweep.finished;
    if (nobody) say(`There is no account ${account}, and the provider was told of none.`);
    if (sweep.failed > 0) process.exitCode = 2;
    if (!sweep.finished || nobody) process.exitCode = 1;
  } finally {
    progress.clear();
    process.off('SIGINT', interrupt);
  }
}

/**
 * Adds `reconcile` to the command `loyalty`.
 * @param takeOver how what the provider is right about comes into profiles, which are none of loyalty's
 */
export function reconcileCommand(loyalty: Command, terminal: Terminal, takeOver: TakeOver): void {
  loyalty
    .command('reconcile')
    .description('compare all accounts with the provider and repair what differs, as LOYALTY_TRUTH says')
    .option('--dry-run', 'compare, write nothing')
    .option('--restart', 'from the first account, also when the last sweep did not finish')
    .option('--parked', 'also those that could not be delivered: they are sent again')
    .option('--account <id>', 'only this one', whole(Number.MAX_SAFE_INTEGER))
    .option('--rate <number>', 'questions a second at most', whole(1000), 20)
    .option('--json', 'one object at the end, on stdout')
    .action((choices: Choices) => terminal.withCtx((ctx) => run(ctx, terminal, takeOver, choices)));
}
