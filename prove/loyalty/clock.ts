/**
 * Loaded before the service: its clock goes ahead by a quarter of a minute with every SIGUSR2, the database's does not. How
 * far ahead it is lies beside the data, so that a service that starts again does not fall back into the past.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const STEP = 15_000;
const file = join(process.env['DATA_DIR']!, '../clock');
const Real = Date;
let ahead = 0;
try {
  ahead = Number(readFileSync(file, 'utf8'));
} catch {
  // The first start.
}
process.on('SIGUSR2', () => {
  ahead += STEP;
  writeFileSync(file, String(ahead));
});

globalThis.Date = class extends Real {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(Real.now() + ahead);
    else super(...(args as [number]));
  }
  static override now(): number {
    return Real.now() + ahead;
  }
} as DateConstructor;
