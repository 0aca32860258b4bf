/** `npm run prove -- NAME [options]`: each proof says what it did and found; exit code 1 when a promise does not hold. */
const proofs: Record<string, () => Promise<{ run(args: string[]): Promise<void> }>> = {
  codes: () => import('./codes.ts'),
  crash: () => import('./crash.ts'),
  faults: () => import('./faults.ts'),
  loyalty: () => import('./loyalty.ts'),
  'loyalty-kill': () => import('./loyalty-kill.ts'),
};

const [name, ...args] = process.argv.slice(2);
const load = name === undefined ? undefined : proofs[name];
if (load === undefined) {
  process.stderr.write(`usage: npm run prove -- NAME\nproofs: ${Object.keys(proofs).join(', ')}\n`);
  process.exit(2);
}
await (await load()).run(args);
