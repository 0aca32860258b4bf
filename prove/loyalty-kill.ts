/**
 * kill -9 between commit, job and delivery: the service dies at random moments while customers change their profiles and the
 * provider misbehaves, again and again; in the end the provider has the truth, and each change once.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { compare, play, print, rest, type Stage } from './loyalty/stage.ts';

const HANDS = 8;

async function story(stage: Stage, kills: number): Promise<void> {
  const { provider, customers, service, random } = stage;
  provider.mode = 'chaos';
  let slowest = 0;
  for (let kill = 1; kill <= kills; kill += 1) {
    let over = false;
    const changing = customers.change(service.url, HANDS, () => !over);
    await sleep(100 + random() * 900);
    service.kill('server', 0);
    over = true;
    await Promise.all([changing, service.gone()]);
    slowest = Math.max(slowest, await stage.start());
    // So that back-offs and leases of those who died come to their end.
    for (let step = 0; step < 8; step += 1) service.arm();
    if (kill % 10 === 0)
      print(`${kill} kills, ${customers.acknowledged} changes acknowledged, ${provider.effects} effects`);
  }
  const seconds = await rest(stage);
  await compare(stage);
  print('');
  for (const [name, value] of [
    ['kills', kills],
    ['changes acknowledged', customers.acknowledged],
    ['changes of unknown fate', customers.unknown],
    ['effects at the provider', provider.effects],
    ['slowest restart', `${slowest.toFixed(2)} s`],
    ['until all was delivered', `${seconds.toFixed(1)} s`],
    ...provider.deeds,
  ] as const)
    print(`${name.padEnd(28)}${value}`);
}

/** `npm run prove -- loyalty-kill [--kills N] [--people N] [--seed N] [--plant NAME]` */
export const run = (args: string[]): Promise<void> => play(args, ['kills', 100], 100, story);
