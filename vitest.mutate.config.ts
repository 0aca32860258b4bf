import { defineConfig } from 'vitest/config';
import base from './vitest.config.ts';

/** For `npm run mutate`: the tests of the rules by themselves, or those that MUTATE_TESTS names. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: (
      process.env['MUTATE_TESTS'] ??
      'src/consent/rules.test.ts,src/consent/ledger/lines.test.ts,src/consent/ledger/merkle.test.ts'
    ).split(','),
    maxWorkers: 1,
  },
});
