/**
 * The loyalty provider ends up with the truth, whatever it does meanwhile: it takes things without saying so, twice, late,
 * in another order, answers nonsense, hangs, and is away for an hour of the service's clock. And customers do not notice.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { compare, play, print, rest, type Stage } from './loyalty/stage.ts';

const HANDS = 8;
/** Pairs of a time in which the provider is well and one in which it is not: a slow minute of the machine hits both. */
const PAIRS = 6;

const p95 = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)] ?? 0;
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

/** Makes so many changes. @returns milliseconds of each */
function some({ customers, service }: Stage, count: number): Promise<number[]> {
  let made = 0;
  return customers.change(service.url, HANDS, () => {
    made += 1;
    return made <= count;
  });
}

async function story(stage: Stage, changes: number): Promise<void> {
  const { provider, customers, service } = stage;
  const each = Math.floor((changes * 0.72) / (2 * PAIRS));
  const last = Math.floor(changes * 0.12);
  await some(stage, 300);
  const ratios: number[] = [];
  for (let pair = 1; pair <= PAIRS; pair += 1) {
    provider.mode = 'well';
    await rest(stage);
    const well = p95(await some(stage, each));
    provider.mode = 'chaos';
    const ticking = setInterval(() => service.arm(), 1000);
    const chaos = p95(await some(stage, each));
    clearInterval(ticking);
    ratios.push(chaos / well);
    print(`${pair}  p95 of customers: provider well ${well.toFixed(1)} ms, misbehaving ${chaos.toFixed(1)} ms`);
  }
  print('provider away for an hour …');
  await provider.down();
  let hour = 240;
  const away = some(stage, changes - last - each * 2 * PAIRS);
  while (hour > 0) {
    hour -= 1;
    service.arm();
    await sleep(50);
  }
  const times = await away;
  await provider.up();
  provider.mode = 'chaos';
  const chaotic = await rest(stage);
  provider.mode = 'well';
  print(`back: all delivered after ${chaotic.toFixed(1)} s, misbehaving all the while`);
  print(`p95 of customers while it was away ${p95(times).toFixed(1)} ms`);
  // What waits is told of whatever came after it too. These do not wait: one that goes unnoticed now stays so.
  await some(stage, last);
  await rest(stage);
  await compare(stage);
  print('');
  for (const [name, value] of [
    ['changes acknowledged', customers.acknowledged],
    ['effects at the provider', provider.effects],
    ['p95 misbehaving / well', `${median(ratios).toFixed(2)} (goal at most 1.10)`],
    ...provider.deeds,
  ] as const)
    print(`${name.padEnd(28)}${value}`);
}

/** `npm run prove -- loyalty [--changes N] [--people N] [--seed N] [--plant NAME]` */
export const run = (args: string[]): Promise<void> => play(args, ['changes', 10000], 500, story);
