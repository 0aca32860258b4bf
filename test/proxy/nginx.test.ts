/** A real nginx in front of a toy back office that knows nothing of rights, asking Assent by `auth_request`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { authorization, type Bakery, openBakery } from '../bakery.ts';
import { type Client, createKit, type Kit, PASSWORD } from '../kit.ts';

const program = process.env['NGINX'] ?? '/usr/sbin/nginx';
let kit: Kit;
let bakery: Bakery;
let ada: Client;
let entry: number;
let token: { authorization: string };
let office: Server;
let nginx: ChildProcess;
let folder: string;
let port: number;
/** What the back office saw, one a request. */
const seen: { url: string; method: string; headers: IncomingHttpHeaders; body: string }[] = [];

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const free = portOf(server);
  server.close();
  await once(server, 'close');
  return free;
}

/** The configuration of the guide, once for each page. @param assent port of the Assent that is asked */
function page(path: string, permission: string, shop: number, assent: number): string {
  return `
    location = /assent${path} {
      internal;
      proxy_pass http://127.0.0.1:${assent}/v1/decisions/forward-auth?permission=${permission}&shop=${shop};
      proxy_method GET;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_cache off;
      proxy_connect_timeout 1s;
      proxy_read_timeout 2s;
    }
    location ${path} {
      auth_request /assent${path};
      auth_request_set $assent_account $upstream_http_assent_account;
      auth_request_set $assent_entry $upstream_http_assent_entry;
      auth_request_set $assent_event $upstream_http_assent_event;
      auth_request_set $assent_until $upstream_http_assent_until;
      auth_request_set $assent_reason $upstream_http_assent_reason;
      add_header Assent-Reason $assent_reason always;
      proxy_set_header Assent-Account $assent_account;
      proxy_set_header Assent-Entry $assent_entry;
      proxy_set_header Assent-Event $assent_event;
      proxy_set_header Assent-Until $assent_until;
      proxy_pass http://127.0.0.1:${portOf(office)};
    }`;
}

beforeAll(async () => {
  if (!existsSync(program)) throw new Error(`there is no nginx at ${program}; set NGINX to one`);
  kit = await createKit();
  bakery = await openBakery(kit, 2);
  ada = await kit.signUp();
  entry = await bakery.invite(ada.email);
  await bakery.grant(entry, [bakery.shops[0]!], ['products']);
  token = await authorization(kit, ada.email, PASSWORD);
  const assent = Number(new URL(await kit.http.listen({ host: '127.0.0.1', port: 0 })).port);
  office = createServer(async (asked, answer) => {
    let body = '';
    for await (const chunk of asked) body += chunk;
    seen.push({ url: asked.url!, method: asked.method!, headers: asked.headers, body });
    answer.end('the back office');
  }).listen(0, '127.0.0.1');
  await once(office, 'listening');
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  closing.push(() => {
    silent.closeAllConnections();
    silent.close();
  });
  [port, folder] = [await freePort(), mkdtempSync(join(tmpdir(), 'assent-nginx-'))];
  const [first, second] = bakery.shops;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  );
  writeFileSync(
    join(folder, 'nginx.conf'),
    `${process.getuid?.() === 0 ? 'user root;\n' : ''}worker_processes 2;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log warn;
events { worker_connections 128; }
http {
  access_log off;
  ${temporary.join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    ${page('/first/products/', 'products', first!, assent)}
    ${page('/second/products/', 'products', second!, assent)}
    ${page('/first/holidays/', 'holidays', first!, assent)}
    ${page('/misspelt/', 'product', first!, assent)}
    ${page('/away/', 'products', first!, await freePort())}
    ${page('/silent/', 'products', first!, portOf(silent))}
  }
}
`,
  );
  nginx = spawn(
    program,
    ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', join(folder, 'error.log'), '-g', 'daemon off;'],
    {
      stdio: 'ignore',
    },
  );
  nginx.once('exit', (code) => {
    ended = code;
  });
  await vi.waitFor(() => {
    if (ended !== undefined) throw new Error(`nginx ended: ${readFileSync(join(folder, 'error.log'), 'utf8')}`);
    return visit('/');
  }, 10_000);
});

let ended: number | null | undefined;
const closing: (() => unknown)[] = [];

afterAll(async () => {
  if (nginx?.exitCode === null) {
    nginx.kill('SIGTERM');
    await once(nginx, 'exit');
  }
  for (const close of closing) close();
  office?.closeAllConnections();
  office?.close();
  await kit?.close();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

interface Visit {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** What the back office saw of it. */
  readonly through: (typeof seen)[number] | undefined;
}

/** One request through nginx, on a connection of its own. */
function visit(path: string, headers: Record<string, string> = {}, method = 'GET', body?: string): Promise<Visit> {
  const before = seen.length;
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, headers, method, agent: false }, async (answer) => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      resolve({ status: answer.statusCode!, headers: answer.headers, body: text, through: seen[before] });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const assentHeaders = ({ through }: Visit): object =>
  Object.fromEntries(Object.entries(through!.headers).filter(([name]) => /^assent/.test(name)));
const right = async (): Promise<string> =>
  (await kit.rows<{ event: string }>('select event from entry_right where entry = $1', entry))[0]!.event;

test('who holds the permission gets through, by token or cookie, with any method; the back office is told who and why', async () => {
  const cookie = [...ada.cookies].map(([key, value]) => `${key}=${value}`).join('; ');
  for (const headers of [token, { cookie }] as Record<string, string>[])
    for (const [method, body] of [['GET'], ['HEAD'], ['POST', '{"price":3}'], ['DELETE']] as const) {
      const reply = await visit('/first/products/7', { ...headers, 'content-type': 'application/json' }, method, body);
      expect([reply.status, reply.through?.method, reply.through?.url, reply.through?.body]).toEqual([
        200,
        method,
        '/first/products/7',
        body ?? '',
      ]);
      expect(assentHeaders(reply)).toEqual({
        'assent-account': String(ada.id),
        'assent-entry': String(entry),
        'assent-event': await right(),
      });
    }
});

test('each page asks for its own shop and permission', async () => {
  const seenStatuses = [];
  for (const path of ['/first/products/', '/second/products/', '/first/holidays/']) {
    const { status, headers, through } = await visit(path, token);
    seenStatuses.push([path, status, headers['assent-reason'], through !== undefined]);
  }
  expect(seenStatuses).toEqual([
    ['/first/products/', 200, undefined, true],
    ['/second/products/', 403, 'other_shop', false],
    ['/first/holidays/', 403, 'not_held', false],
  ]);
});

test('what a visitor adds to the address changes nothing of the question', async () => {
  for (const [path, status] of [
    [`/second/products/?shop=${bakery.shops[0]}&permission=products`, 403],
    [`/first/holidays/?permission=products`, 403],
    ['/first/products/?shop=1&shop=2', 200],
    ['/assent/first/products/', 404],
  ] as const)
    expect([path, (await visit(path, token)).status]).toEqual([path, status]);
});

test('who is not signed in is turned away with the challenge', async () => {
  for (const headers of [
    {},
    { authorization: 'Bearer aaaaaaaaaaaaaaaaaaaaaaaa' },
    { cookie: 'sessionid=aaaaaaaaaaaaaaaaaaaaaaaa' },
  ]) {
    const { status, headers: answered, through } = await visit('/first/products/', headers as Record<string, string>);
    expect([status, answered['www-authenticate']?.split(' ')[0], through]).toEqual([401, 'Bearer', undefined]);
  }
});

test('a right that was lifted is refused at the very next request, one that is given back is honoured', async () => {
  const statuses: string[] = [];
  for (let round = 0; round < 25; round += 1)
    for (const products of [false, true]) {
      await bakery.manager('PATCH', bakery.path(entry), { body: { permissions: { products } } });
      const { status, through } = await visit('/first/products/', token);
      statuses.push(`${products} ${status} ${through !== undefined}`);
    }
  expect([...new Set(statuses)]).toEqual(['false 403 false', 'true 200 true']);
});

test('a visitor’s own Assent headers reach the back office in no spelling', async () => {
  const reply = await visit('/first/products/', {
    ...token,
    'Assent-Account': '1',
    'ASSENT-ENTRY': '2',
    'Assent-Until': '2999-01-01T00:00:00Z',
    Assent_Account: '3',
  });
  expect([reply.status, assentHeaders(reply)]).toEqual([
    200,
    { 'assent-account': String(ada.id), 'assent-entry': String(entry), 'assent-event': await right() },
  ]);
  // An owner without an entry: what Assent does not say is not said by the visitor either.
  await kit.rows('update company set owner = $2 where id = $1', bakery.id, ada.id);
  await kit.rows('delete from entry where id = $1', entry);
  const owner = await visit('/first/products/', { ...token, 'assent-entry': '2', 'assent-event': 'mine' });
  expect([owner.status, assentHeaders(owner)]).toEqual([200, { 'assent-account': String(ada.id) }]);
});

test('nobody is let through when Assent is away, silent, or was asked for nonsense', async () => {
  for (const path of ['/away/', '/silent/', '/misspelt/']) {
    const { status, through } = await visit(path, token);
    expect([path, status, through]).toEqual([path, 500, undefined]);
  }
});
