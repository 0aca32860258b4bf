/** Writes docs/settings.md from the catalogues; with --check it only says whether it is up to date. */
import { readFileSync, writeFileSync } from 'node:fs';
import { configRows } from '../src/config.ts';
import type { SettingRow } from '../src/settings/row.ts';
import { settings } from '../src/settings.ts';

const file = new URL('../docs/settings.md', import.meta.url);
const cell = (value: unknown): string =>
  value === undefined ? '' : `\`${JSON.stringify(value).replaceAll('|', '\\|')}\``;

const text = `# Settings and configuration

Generated from \`src/settings.ts\` and \`src/config.ts\`; see the [operator's guide](guides/operator.md) for how to change them.

## Settings

Changed while the service runs; in force in every process at once.

| setting | default | what it does |
|---|---|---|
${Object.entries(settings as Record<string, SettingRow>)
  .map(
    ([name, { fallback, description }]) =>
      `| \`${name}\` | ${cell(fallback)} | ${description.replaceAll('|', '\\|')} |`,
  )
  .join('\n')}

## Configuration

Read from the environment when a process starts.

| variable | default | what it is |
|---|---|---|
${configRows.map(({ name, fallback, description }) => `| \`${name}\` | ${cell(fallback)} | ${description} |`).join('\n')}
`;

if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    process.stderr.write('docs/settings.md is out of date: node scripts/docs.ts\n');
    process.exit(1);
  }
} else {
  writeFileSync(file, text);
}
