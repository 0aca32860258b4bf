/** The rules of the house that a program can check; the rest is in CONTRIBUTING.md. */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { apiDocument } from '../src/app.ts';
import { configRows } from '../src/config.ts';
import { reasonCodes } from '../src/consent/decisions.ts';
import { sources } from '../src/consent/sources.ts';
import { errors } from '../src/errors.ts';
import type { Route } from '../src/platform/http.ts';
import { catalogues } from '../src/platform/language.ts';
import { own } from '../src/platform/problem.ts';
import { createServer } from '../src/platform/server.ts';
import { profileFields } from '../src/profile/fields.ts';
import { settingNames, settings } from '../src/settings.ts';
import { staffReasonCodes } from '../src/staff/decisions/decisions.ts';

const root = join(import.meta.dirname, '..');
const files = globSync('src/**/*.ts', { cwd: root })
  .filter((file) => !file.endsWith('.test.ts'))
  .sort();
const source = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));

/** What a file imports of ours, types included: a type is knowledge too. */
function importsOf(file: string): string[] {
  const found = source.get(file)!.matchAll(/\bfrom '(\.[^']+)'|^import '(\.[^']+)'|\bimport\('(\.[^']+)'\)/gm);
  return [...found].map((match) => normalize(join(dirname(file), (match[1] ?? match[2] ?? match[3])!)));
}

/** `src/profile/fields.ts` is of `profile`, `src/app.ts` is `app`. Who is outside is described apart from who calls them, and what settings name apart from who uses it. */
const memberOf = (file: string): string =>
  /^src\/(phone\/providers|loyalty\/connectors|staff\/permissions)(?:\/|\.ts$)/.exec(file)?.[1] ??
  file.split('/')[1]!.replace(/\.ts$/, '');

/** Downwards only: a file imports from floors below its own and from its own folder. */
const floors: readonly (readonly string[])[] = [
  ['calls', 'messages'],
  ['phone/providers', 'loyalty/connectors', 'staff/permissions'],
  ['config', 'settings', 'errors'],
  ['platform'],
  ['accounts'],
  ['consent', 'phone', 'loyalty', 'staff', 'webhooks'],
  ['profile'],
  ['privacy', 'admin', 'docs', 'oauth'],
  ['status', 'openapi', 'operators'],
  ['app'],
  ['installation', 'demo', 'doctor', 'serve', 'transfer'],
  ['main'],
];
const floorOf = (member: string): number => floors.findIndex((floor) => floor.includes(member));

/** Imports between neighbours on one floor. Each is a decision: none between consent, phone, loyalty and staff so far. */
const sideways = ['doctor → installation', 'serve → demo', 'serve → installation'];

test('every folder and file of src has its floor', () => {
  expect(files.map(memberOf).filter((member) => floorOf(member) < 0)).toEqual([]);
});

test('imports go downwards', () => {
  const used = new Set<string>();
  const upwards: string[] = [];
  for (const file of files) {
    for (const target of importsOf(file)) {
      const [from, to] = [memberOf(file), memberOf(target)];
      if (from === to || floorOf(to) < floorOf(from)) continue;
      if (floorOf(to) === floorOf(from)) used.add(`${from} → ${to}`);
      else upwards.push(`${file} → ${target}`);
    }
  }
  expect(upwards).toEqual([]);
  expect([...used].sort()).toEqual(sideways);
});

test('no import leads back to its own file', () => {
  const done = new Set<string>();
  const cycles: string[] = [];
  const walk = (file: string, trail: readonly string[]): void => {
    if (trail.includes(file)) cycles.push([...trail.slice(trail.indexOf(file)), file].join(' → '));
    if (done.has(file) || trail.includes(file)) return;
    for (const target of importsOf(file)) if (source.has(target)) walk(target, [...trail, file]);
    done.add(file);
  };
  for (const file of files) walk(file, []);
  expect(cycles).toEqual([]);
});

test('the walk sees imports at all', () => {
  expect(importsOf('src/main.ts')).toContain('src/app.ts');
  expect(files.flatMap(importsOf).filter((target) => !target.endsWith('.json') && !source.has(target))).toEqual([]);
});

test('the environment is read by src/config.ts alone; main hands it over whole', () => {
  const readers = [...source].flatMap(([file, text]) =>
    [...text.matchAll(/^.*\bprocess\s*(?:\.\s*env|\[\s*'env').*$|^.*\{[^}]*\benv\b[^}]*\} = process\b.*$/gm)].map(
      ([line]) => `${file}: ${line.trim()}`,
    ),
  );
  expect(
    readers.filter(
      (line) => !/^src\/main\.ts: .*\b(readConfig\(process\.env\)|doctor\(process\.env, say\))/.test(line),
    ),
  ).toEqual([]);
  expect(readers.length).toBeGreaterThan(0);
});

test('no file of src is longer than 400 lines', () => {
  const long = [...source].filter(([, text]) => text.split('\n').length > 401).map(([file]) => file);
  expect(long).toEqual([]);
});

test('every documented route says who may call it', () => {
  const { paths } = apiDocument() as {
    paths: Record<string, Record<string, { description: string; security: object[] }>>;
  };
  const silent = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { description, security }]) => !/Who may call: .+\./.test(description) || security.length === 0)
      .map(([method]) => `${method} ${path}`),
  );
  expect(silent).toEqual([]);
  expect(Object.keys(paths).length).toBeGreaterThan(20);
});

test('a route without "who may" stops the start', async () => {
  const route = {
    method: 'GET',
    path: '/v1/nobody',
    dialect: own,
    operationId: 'nobody',
    answers: {},
    run: async () => ({ status: 200 }),
  };
  const start = createServer({
    ctx: {} as Parameters<typeof createServer>[0]['ctx'],
    routes: [route as unknown as Route],
    dialects: [own],
    fallback: own,
    trustedProxies: [],
  });
  await expect(start).rejects.toThrow('GET /v1/nobody does not say who may call it');
});

test('every setting and every start-up value is described', () => {
  expect(settingNames.filter((name) => !/^.{12,}[.?]$/.test(settings[name].description))).toEqual([]);
  expect(settingNames.filter((name) => !/^[A-Z][A-Z_]+$/.test(name))).toEqual([]);
  expect(configRows.filter(({ description }) => description.length < 15).map(({ name }) => name)).toEqual([]);
});

test('the reference of settings and start-up values names them all', () => {
  const text = readFileSync(join(root, 'docs/settings.md'), 'utf8');
  const names = [...settingNames, ...configRows.map(({ name }) => name)];
  expect(names.filter((name) => !text.includes(`| \`${name}\` |`))).toEqual([]);
});

// ---- Messages ----

/** Keys that are put together, and with what. A new kind of key is a new row here. */
const composed: Readonly<Record<string, readonly string[]>> = {
  'error.{}': Object.keys(errors),
  'title.{}': [...new Set(Object.values(errors).map(({ status }) => String(status)))],
  'invalid.{}': ['null_character', 'surrogate'],
  'mail.{}.subject': ['password_reset', 'invitation', 'email_change', 'email_change_notice'],
  'reason.{}': reasonCodes,
  'staff_reason.{}': staffReasonCodes,
  'source.{}': Object.keys(sources),
  'mail.{}.text': ['password_reset', 'invitation', 'email_change', 'email_change_notice'],
  'page.{}': [...source.get('src/profile/link-pages.ts')!.matchAll(/\btext\(language, '([\w.]+)'/g)].map(
    ([, key]) => key!,
  ),
};

const known = Object.keys(catalogues.en);
const all = [...source.values()].join('\n');

test('keys that are put together are listed', () => {
  const templates = [...all.matchAll(/\bkey: `([^`]+)`/g)].map(([, template]) =>
    template!.replaceAll(/\$\{[^}]+\}/g, '{}'),
  );
  // A key of the job queue is no message.
  expect([...new Set(templates)].filter((template) => template.includes('.') && !(template in composed))).toEqual([]);
});

const puttogether = Object.entries(composed).flatMap(([template, values]) =>
  values.map((value) => template.replace('{}', value)),
);

test('every message that src names is in the catalogue', () => {
  const prefixes = new Set(known.map((key) => key.split('.')[0]!));
  const literals = [...all.matchAll(/'([a-z_]+)\.([a-z0-9_.]+)'/g)]
    .filter(([, prefix]) => prefixes.has(prefix!))
    .map(([, prefix, rest]) => `${prefix}.${rest}`)
    .filter((key) => !puttogether.includes(`page.${key}`));
  const said = [...all.matchAll(/(?:\bkey: |\bproblem: |\bproblem\()'(\w+\.[\w.]+)'/g)].map(([, key]) => key!);
  const named = [...new Set([...literals, ...said, ...puttogether])];
  expect(named.filter((key) => !known.includes(key))).toEqual([]);
  expect(named.length).toBeGreaterThan(50);
});

test('every message of the catalogue is said somewhere', () => {
  expect(known.filter((key) => !all.includes(`'${key}'`) && !puttogether.includes(key))).toEqual([]);
});

// ---- Two lists that must be one ----

test('USER_REQUIRED_FIELDS offers exactly the profile fields that can be left blank', () => {
  const offered = (settings.USER_REQUIRED_FIELDS.schema as unknown as { items: { enum: string[] } }).items.enum;
  const blankable = profileFields
    .filter(({ kind }) => kind?.schema['type'] === 'string' && kind.schema['format'] !== 'binary')
    .map(({ name }) => name);
  expect([...offered].sort()).toEqual([...blankable].sort());
});

test('every planted fault of `npm run prove -- faults` finds its place in the code', () => {
  const faults = globSync('test/faults/*.json', { cwd: root }).flatMap(
    (table) => JSON.parse(readFileSync(join(root, table), 'utf8')) as { name: string; file: string; search: string }[],
  );
  expect(faults.length).toBeGreaterThan(50);
  expect(
    faults.filter(({ file, search }) => source.get(file)?.split(search).length !== 2).map(({ name }) => name),
  ).toEqual([]);
});

// ---- The lock ----

test('the lock has every optional dependency that it names', () => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { optionalDependencies?: Record<string, string> }>;
  };
  // As Node looks: beside the package, then in every folder above it. `npm ci` refuses a lock with a hole.
  const missing = Object.entries(packages).flatMap(([place, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => {
        const parts = place === '' ? [] : place.split(/\/(?=node_modules\/)/);
        return !parts
          .concat('')
          .some(
            (_part, index) => [...parts.slice(0, parts.length - index), `node_modules/${name}`].join('/') in packages,
          );
      })
      .map((name) => `${place || 'this project'}: ${name}`),
  );
  expect(missing).toEqual([]);
});

test('package.json and its lock name the same dependencies', () => {
  const kinds = ['dependencies', 'devDependencies', 'optionalDependencies'] as const;
  const read = (file: string): Record<string, never> =>
    JSON.parse(readFileSync(join(root, file), 'utf8')) as Record<string, never>;
  const lock = (read('package-lock.json') as unknown as { packages: Record<string, Record<string, object>> }).packages[
    ''
  ]!;
  for (const kind of kinds) expect(lock[kind], kind).toEqual((read('package.json') as Record<string, object>)[kind]);
});
