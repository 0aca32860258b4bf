/** What browser tests stand on: the demo shop, started as its users start it, and a Chromium. */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { removeData, type Service, start } from '../service.ts';

export interface Stage {
  readonly service: Service;
  readonly browser: Browser;
  /** What pages of `open` complained of: errors, warnings, whatever their policy refused. */
  readonly complaints: string[];
  /** A page of the service, in a context of its own. */
  open(path: string, options: BrowserContextOptions): Promise<Page>;
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
  const complaints: string[] = [];
  return {
    service,
    browser,
    complaints,
    async open(path, options) {
      const page = await (await browser.newContext({ baseURL: service.url, ...options })).newPage();
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
      });
      await page.goto(path);
      return page;
    },
    async close() {
      await browser.close();
      await service.stop();
      await removeData(folder);
    },
  };
}

/**
 * Checks that a page is whole: nobody is shut out of it (axe), and it fits its width. With SHOTS a picture is kept there.
 * @param place names the page in what fails
 * @param width of the window in pixels
 */
export async function look(page: Page, place: readonly unknown[], width: number): Promise<void> {
  const shots = process.env['SHOTS'];
  if (shots !== undefined) await page.screenshot({ path: join(shots, `${place.join('-')}.png`), fullPage: true });
  await page.evaluate(axe.source);
  const { violations } = (await page.evaluate('axe.run()')) as axe.AxeResults;
  const faults = violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
  expect([place, faults, await page.evaluate('document.documentElement.scrollWidth')]).toEqual([place, [], width]);
}
