/** What a benchmark prints: medians, and ratios of pairs from one run. */
import { median, say } from './bed.ts';
import type { Result } from './load.ts';

/** A ratio to print, by the names of its contestants. */
export interface Ratio {
  readonly title: string;
  readonly of: string;
  readonly to: string;
  readonly goal?: number;
}

/** Prints it. @param machine what was measured on, and how */
export function report(results: Map<string, Result[]>, machine: string, ratios: readonly Ratio[]): void {
  say(`\n${machine}\n`);
  say('                       median/s   p50 ms   p99 ms');
  const rate = (name: string): number => median((results.get(name) ?? []).map((result) => result.rate));
  for (const [name, rounds] of results) {
    const [p50, p99] = [median(rounds.map((r) => r.p50)), median(rounds.map((r) => r.p99))];
    say(
      `${name.padEnd(20)} ${rate(name).toFixed(0).padStart(10)} ${p50.toFixed(1).padStart(8)} ${(Number.isNaN(p99) ? '–' : p99.toFixed(1)).padStart(8)}`,
    );
  }
  say('');
  for (const { title, of, to, goal } of ratios) {
    if (!results.has(of) || !results.has(to)) continue;
    // Pairs of one round, so that a slow minute of the machine hits both.
    const pairs = results.get(of)!.map((result, index) => result.rate / results.get(to)![index]!.rate);
    const value = median(pairs);
    say(
      `${title.padEnd(32)} ${value.toFixed(2)}${goal === undefined ? '' : `   goal ${goal.toFixed(2)}: ${value >= goal ? 'reached' : 'missed'}`}`,
    );
  }
}
