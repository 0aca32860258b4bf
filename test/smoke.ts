/**
 * The first minutes with a fresh copy, with exactly the commands of the README: install, start, the main stories over the
 * wire, stop, the demo; and the starts that must be refused, each with a sentence. Needs the npm registry, so it is no
 * part of `npm test`.
 */
import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { clusterPath } from '../src/platform/engine/cluster.ts';
import { clusterProcesses } from '../src/platform/engine/lock.ts';
import { type Ended, removeData, run, type Service, start } from './service.ts';

const repository = join(import.meta.dirname, '..');
const json = { 'content-type': 'application/json' };

/** Copies what git knows; outside of a checkout, all that is not made by running. */
function copyTo(folder: string): void {
  let files: string[];
  try {
    files = execFileSync('git', ['ls-files', '-z'], { cwd: repository, stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .split('\0')
      .filter((file) => file !== '');
  } catch {
    files = readdirSync(repository).filter((name) => !['node_modules', 'data', '.git'].includes(name));
  }
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(repository, file), join(folder, file), { recursive: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}

/** No process of the cluster of this data folder is left. */
async function assertNoPostgres(data: string): Promise<void> {
  const cluster = await clusterPath(data);
  assert.ok(cluster, `${data} has a cluster`);
  assert.deepEqual(await clusterProcesses(cluster), []);
}

/** A refused start: not zero, and a sentence instead of a stack. */
function assertRefused({ code, output }: Ended, sentence: RegExp): void {
  assert.equal(code, 1, output);
  assert.match(output, sentence);
  assert.doesNotMatch(output, /\n\s+at .+:\d+/);
  assert.doesNotMatch(output, /is ready/);
}

// So that what we started is told to end, too.
process.once('SIGTERM', () => process.exit(1));

let passed = 0;
let failed = 0;
async function step(name: string, work: () => Promise<void>): Promise<void> {
  const started = performance.now();
  try {
    await work();
    passed += 1;
    console.log(`  ok    ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`  FAIL  ${name}\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
}

// mkdtemp makes it 0700: PostgreSQL's own user cannot enter, as in a checkout below /root.
const folder = await mkdtemp(join(tmpdir(), 'assent-smoke-'));
const data = join(folder, 'data');
const otherData = join(folder, 'other-data');
const port = await freePort();
const npm = (words: string[], env: Record<string, string> = {}): Promise<Ended> =>
  run('npm', words, { cwd: folder, env: { PORT: String(port), ...env } });
let service: Service | undefined;

try {
  copyTo(folder);

  await step('npm ci installs a fresh copy', async () => {
    const { code, output } = await run('npm', ['ci'], { cwd: folder });
    assert.equal(code, 0, output);
  });

  await step('DATABASE_URL set but empty is refused', async () =>
    assertRefused(
      await npm(['start'], { DATABASE_URL: '' }),
      /^DATABASE_URL is set but empty\. Give it a value or remove it\.$/m,
    ),
  );
  await step('PGHOST without DATABASE_URL is refused', async () =>
    assertRefused(await npm(['start'], { PGHOST: 'db.example.com' }), /^PGHOST set, but DATABASE_URL is not\. .+/m),
  );

  await step('npm start gets ready', async () => {
    service = await start('npm', ['start'], { cwd: folder, env: { PORT: String(port) } });
    assert.equal(service.url, `http://127.0.0.1:${port}`);
  });

  await step('a customer signs up, signs in, and reads and changes the profile', async () => {
    const url = service!.url;
    const credentials = { email: 'deniz@example.com', password: 'a-good-password' };
    const registration = await fetch(`${url}/users/registration/`, {
      method: 'POST',
      headers: json,
      body: JSON.stringify({ ...credentials, first_name: 'Deniz', last_name: 'Kaya' }),
    });
    assert.equal(registration.status, 201, await registration.text());
    const login = await fetch(`${url}/users/login/`, {
      method: 'POST',
      headers: json,
      body: JSON.stringify(credentials),
    });
    assert.equal(login.status, 200);
    const { key } = (await login.json()) as { key: string };
    const cookies = login.headers.getSetCookie().map((line) => line.split(';')[0]!);
    const token = cookies.find((cookie) => cookie.startsWith('csrftoken='))!.split('=')[1]!;

    const byCookie = { ...json, cookie: cookies.join('; '), 'x-csrftoken': token };
    const patch = await fetch(`${url}/users/profile/`, {
      method: 'PATCH',
      headers: byCookie,
      body: JSON.stringify({ first_name: 'Deniz Can', sms_allowed: true }),
    });
    assert.equal(patch.status, 200, await patch.clone().text());
    const profile = await fetch(`${url}/users/profile/`, { headers: { authorization: `Token ${key}` } });
    const { email, first_name, sms_allowed } = (await profile.json()) as Record<string, unknown>;
    assert.deepEqual(
      { email, first_name, sms_allowed },
      { email: 'deniz@example.com', first_name: 'Deniz Can', sms_allowed: true },
    );
  });

  await step('a guest states consent for a basket', async () => {
    const answer = await fetch(`${service!.url}/users/permissions/`, {
      method: 'POST',
      headers: json,
      body: JSON.stringify({ uid: 'guest-1', basket: 1001, email_allowed: true }),
    });
    assert.deepEqual([answer.status, await answer.text()], [200, '']);
  });

  await step('the first page, the API reference and the OpenAPI document are there', async () => {
    const get = (path: string): Promise<string> => fetch(`${service!.url}${path}`).then((answer) => answer.text());
    assert.match(await get('/'), /<h1>Assent runs here<\/h1>/);
    const docs = await get('/docs');
    assert.match(docs, /<title>Assent API<\/title>/);
    for (const [, address] of docs.matchAll(/<script src="([^"]+)"/g))
      assert.ok((await get(address!)).length > 1000, address);
    const document = JSON.parse(await get('/openapi.json')) as { openapi: string; paths: object };
    assert.equal(document.openapi, '3.1.0');
    assert.ok('/users/profile/' in document.paths);
  });

  await step('a second start on the same data folder is refused', async () => {
    const second = await npm(['start'], { PORT: '0' });
    assertRefused(
      second,
      /^The data folder .+\/data is in use by process \d+\. .*stop that process first, or choose another folder\.$/m,
    );
    assert.equal((await fetch(`${service!.url}/readyz`)).status, 200);
  });

  await step('a taken port is refused, and the database of that start stopped', async () => {
    const second = await npm(['start'], { DATA_DIR: otherData });
    assertRefused(second, new RegExp(`^Port ${port} on 127\\.0\\.0\\.1 is taken\\. .+`, 'm'));
    await assertNoPostgres(otherData);
  });

  await step('SIGTERM ends it with 0 and leaves no PostgreSQL', async () => {
    const { code, output } = await service!.stop();
    assert.equal(code, 0, output);
    service = undefined;
    await assertNoPostgres(data);
  });

  await step('--demo on a database in use is refused', async () => {
    assertRefused(await npm(['start', '--', '--demo']), /^--demo is refused: this database is in use, .+/m);
    await assertNoPostgres(data);
  });

  await step('npm start -- --demo fills a fresh data folder, and its sign-ins work', async () => {
    service = await start('npm', ['start', '--', '--demo'], {
      cwd: folder,
      env: { PORT: String(port), DATA_DIR: otherData },
    });
    const login = await fetch(`${service.url}/users/login/`, {
      method: 'POST',
      headers: json,
      body: JSON.stringify({ email: 'ada@example.com', password: 'demo-assent-2026' }),
    });
    assert.equal(login.status, 200, await login.clone().text());
    assert.match(await (await fetch(`${service.url}/`)).text(), /This is the demo shop/);
    const { code, output } = await service.stop();
    assert.equal(code, 0, output);
    service = undefined;
    await assertNoPostgres(otherData);
  });
} finally {
  await service?.stop();
  for (const made of [data, otherData]) await removeData(made);
  await rm(folder, { recursive: true, force: true });
}

console.log(`smoke: ${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
