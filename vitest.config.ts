import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['test/browser/**', 'test/proxy/**', 'node_modules/**'],
    globalSetup: ['test/engine.ts'],
    // Two cores: more workers only wait for each other, and for the one engine.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
