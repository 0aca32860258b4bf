import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/proxy/**/*.test.ts'],
    globalSetup: ['test/engine.ts'],
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
