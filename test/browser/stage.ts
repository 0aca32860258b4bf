/** What browser tests stand on: the demo shop, started as its users start it, and a Chromium. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { removeData, type Service, start } from '../service.ts';

export interface Stage {
  readonly service: Service;
  readonly browser: Browser;
  close(): Promise<void>;
}

/** @param settings stored before the start, as `NAME=JSON` */
export async function openStage(...settings: string[]): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), 'assent-browser-'));
  const service = await start(
    process.execPath,
    ['src/main.ts', 'serve', '--demo', ...settings.flatMap((setting) => ['--set', setting])],
    { cwd: join(import.meta.dirname, '../..'), env: { PORT: '0', DATA_DIR: folder, LOG_LEVEL: 'error' } },
  );
  const browser = await chromium.launch({
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    args: [
      // Chromium refuses to run as root with its sandbox, and the only pages it opens are ours.
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  return {
    service,
    browser,
    async close() {
      await browser.close();
      await service.stop();
      await removeData(folder);
    },
  };
}
