/** NDJSON through a real server and real sockets: both ways at once, with clients that are simple, slow, rude or gone. */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { openapi } from '../../src/openapi.ts';
import type { Ctx } from '../../src/platform/ctx.ts';
import { fail } from '../../src/platform/failure.ts';
import { type Answer, type Request, type Route, route } from '../../src/platform/http.ts';
import { deriveKeys } from '../../src/platform/keys.ts';
import { createLog } from '../../src/platform/log.ts';
import { Patience } from '../../src/platform/patience.ts';
import { own } from '../../src/platform/problem.ts';
import { createServer } from '../../src/platform/server.ts';
import { openSettings } from '../../src/platform/settings.ts';
import { SECRET } from '../engine.ts';

const MIB = 1024 * 1024;
const NDJSON = { 'content-type': 'application/x-ndjson' };

const logged: { level: number; msg: string; route?: string; status?: number; fate?: string; err?: object }[] = [];
/** Called with each line of the log. */
let hear: (line: (typeof logged)[number]) => void = () => {};
let server: FastifyInstance;
/** The same with little patience. */
let hasty: FastifyInstance;

/** What the endless route has made, and how often it was let go. */
const endless = { made: 0, over: 0 };
let released: () => void = () => {};

const anybody = { name: 'anybody', security: [{}], admit: async () => ({}) };
const define = (more: Pick<Route, 'path' | 'run'> & Partial<Route>): Route =>
  route({
    method: 'POST',
    dialect: own,
    who: anybody,
    summary: 'For the test',
    tag: 'Test',
    operationId: 'test',
    reads: ['json', 'ndjson'],
    answers: {},
    ...more,
  });

/** Answers each line with its number and what came, some 160 bytes. */
async function* echo({ body }: Request<object>): AsyncGenerator<string> {
  if (body.kind !== 'ndjson') fail('invalid');
  let count = 0;
  for await (const batch of body.lines) {
    let piece = '';
    for (const line of batch) {
      const came: unknown = JSON.parse(line);
      if (came === 'broken') throw new Error('a defect');
      if (came === 'refused') fail('conflict');
      count += 1;
      piece += `${JSON.stringify({ count, came, filler: '.'.repeat(110) })}\n`;
    }
    yield piece;
  }
}

const routes = [
  define({
    path: '/v1/echo',
    run: async (_ctx, asked): Promise<Answer> =>
      asked.body.kind === 'ndjson'
        ? { status: 200, body: echo(asked) }
        : { status: 200, body: { value: asked.body.value } },
  }),
  define({
    path: '/v1/count',
    async run(_ctx, { body }) {
      let count = 0;
      if (body.kind === 'ndjson') for await (const batch of body.lines) count += batch.length;
      return { status: 200, body: { count } };
    },
  }),
  define({
    path: '/v1/endless',
    method: 'GET',
    run: async () => ({
      status: 200,
      body: (async function* () {
        try {
          for (;;) {
            endless.made += 65_536;
            yield Buffer.alloc(65_536, '.');
            await new Promise((resolve) => void setImmediate(resolve));
          }
        } finally {
          endless.over += 1;
          released();
        }
      })(),
    }),
  }),
  define({ path: '/v1/json', reads: ['json'], run: async () => ({ status: 200, body: {} }) }),
];

async function serve(patience?: number): Promise<FastifyInstance> {
  const log = createLog('info', {
    write(text: string) {
      const line = JSON.parse(text) as (typeof logged)[number];
      logged.push(line);
      hear(line);
    },
  });
  const made = await createServer({
    ctx: { settings: openSettings(log, deriveKeys(SECRET)), log } as unknown as Ctx,
    routes,
    dialects: [own],
    fallback: own,
    trustedProxies: [],
    ...(patience === undefined ? {} : { patience }),
  });
  await made.listen({ port: 0, host: '127.0.0.1' });
  return made;
}

beforeAll(async () => {
  server = await serve();
  hasty = await serve(60);
});
afterAll(async () => {
  await server.close();
  await hasty.close();
});

const portOf = (one: FastifyInstance): number => (one.server.address() as AddressInfo).port;
const urlOf = (path: string): string => `http://127.0.0.1:${portOf(server)}${path}`;
const open = (path: string, headers: Record<string, string | number>, method = 'POST'): ClientRequest =>
  request(urlOf(path), { method, headers });
const answerTo = (sent: ClientRequest): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => void sent.once('response', resolve).once('error', reject));
/** The log line of the next request to this route that has ended. */
const ended = (path: string): Promise<(typeof logged)[number]> =>
  new Promise((resolve) => {
    hear = (line) => {
      if (line.msg === 'request' && line.route === path) resolve(line);
    };
  });
const inputOf = (lines: number): string =>
  Array.from(
    { length: lines },
    (_, index) => `{"recipient":"person${index + 1}@example.com","channel":"email"}\n`,
  ).join('');
/** That every line was answered, in order. */
function expectWhole(text: string, lines: number): void {
  const answers = text.trimEnd().split('\n');
  expect(answers.length).toBe(lines);
  for (const [index, answer] of answers.entries())
    if (!answer.startsWith(`{"count":${index + 1},"came":{"recipient":"person${index + 1}@example.com"`))
      expect.unreachable(`line ${index + 1} is ${answer}`);
}

test('a line is answered before the next is sent', async () => {
  const sent = open('/v1/echo', NDJSON);
  sent.write('1\n');
  const answer = await answerTo(sent);
  expect([answer.statusCode, answer.headers['content-type'], answer.headers['transfer-encoding']]).toEqual([
    200,
    'application/x-ndjson',
    'chunked',
  ]);
  expect(answer.headers['content-length']).toBeUndefined();
  const came: unknown[] = [];
  for await (const piece of answer) {
    came.push((JSON.parse(String(piece)) as { came: unknown }).came);
    if (came.length < 4) sent.write(`${came.length + 1}\n`);
    else sent.end();
  }
  expect(came).toEqual([1, 2, 3, 4]);
});

test.each([10_000, 100_000])('fetch with a text of %d lines just works', async (lines) => {
  const reply = await fetch(urlOf('/v1/echo'), { method: 'POST', headers: NDJSON, body: inputOf(lines) });
  expect(reply.status).toBe(200);
  expectWhole(await reply.text(), lines);
});

/** A client that reads nothing before all is sent. */
const sendThenRead = (text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(portOf(server), '127.0.0.1');
    socket.pause();
    const pieces: Buffer[] = [];
    socket.on('error', reject).on('close', () => resolve(Buffer.concat(pieces).toString('latin1')));
    const head = `POST /v1/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/jsonl\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n`;
    socket.write(head + text, () => {
      socket.on('data', (piece: Buffer) => pieces.push(piece));
      socket.resume();
    });
  });
/** The body of an answer in chunks; undefined when its end is missing. */
function unchunk(answer: string): string | undefined {
  let at = answer.indexOf('\r\n\r\n') + 4;
  let text = '';
  for (;;) {
    const end = answer.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const length = Number.parseInt(answer.slice(at, end), 16);
    if (length === 0) return text;
    text += answer.slice(end + 2, end + 2 + length);
    at = end + 4 + length;
  }
}

test.each([10_000, 100_000])('a client that sends all of %d lines before it reads just works', async (lines) => {
  const answer = await sendThenRead(inputOf(lines));
  expect(answer.slice(0, 15)).toBe('HTTP/1.1 200 OK');
  expectWhole(unchunk(answer)!, lines);
});

test('a body can be a stream although the answer is none', async () => {
  // Else it would be cut off after thirty seconds, as any other body.
  const streamed = vi.spyOn(Patience.prototype, 'stream');
  const reply = await fetch(urlOf('/v1/count'), { method: 'POST', headers: NDJSON, body: inputOf(50_000) });
  expect([reply.status, reply.headers.get('content-type'), await reply.json()]).toEqual([
    200,
    'application/json',
    { count: 50_000 },
  ]);
  expect(streamed).toHaveBeenCalledOnce();
  streamed.mockRestore();
});

test('Expect: 100-continue is continued', async () => {
  const sent = open('/v1/echo', { ...NDJSON, expect: '100-continue' });
  const answer = answerTo(sent);
  await new Promise<void>((resolve) => {
    sent.once('continue', resolve);
    sent.flushHeaders();
  });
  sent.end('17');
  const pieces = await (await answer).toArray();
  expect(JSON.parse(String(Buffer.concat(pieces)))).toMatchObject({ count: 1, came: 17 });
});

test('a slow reader is not written ahead of: what is under way stays small', async () => {
  const sent = open('/v1/endless', {}, 'GET').end();
  const answer = await answerTo(sent);
  const over = new Promise<void>((resolve) => {
    released = resolve;
  });
  const first = endless.made;
  let read = 0;
  let most = 0;
  for await (const piece of answer) {
    read += (piece as Buffer).length;
    most = Math.max(most, endless.made - first - read);
    if (read > 128 * MIB) break;
    await new Promise((resolve) => void setImmediate(resolve));
  }
  // What the two kernels hold between them is theirs.
  expect(most).toBeLessThan(24 * MIB);
  await over;
});

test('a reader that leaves ends the work for it', async () => {
  const over = new Promise<void>((resolve) => {
    released = resolve;
  });
  const line = ended('/v1/endless');
  const sent = open('/v1/endless', {}, 'GET').end();
  (await answerTo(sent)).destroy();
  await over;
  expect(await line).toMatchObject({ level: 30, status: 200, fate: 'left' });
});

test('HEAD of a streamed answer has no body and makes none', async () => {
  const over = endless.over;
  const reply = await fetch(urlOf('/v1/endless'), { method: 'HEAD' });
  expect([reply.status, reply.headers.get('content-type'), await reply.text(), endless.over]).toEqual([
    200,
    'application/x-ndjson',
    '',
    over + 1,
  ]);
});

test('a sender that leaves in the middle is not a failure of ours', async () => {
  const from = logged.length;
  const line = ended('/v1/echo');
  const sent = open('/v1/echo', NDJSON);
  sent.on('error', () => {});
  sent.write('1\n2');
  (await answerTo(sent)).destroy();
  expect(await line).toMatchObject({ level: 30, fate: 'left' });
  expect(logged.slice(from).map(({ msg }) => msg)).toEqual(['request']);
});

test.each([
  ['which answer cannot be made', '"broken"', 'internal', 1],
  ['that is refused', '"refused"', 'conflict', 0],
])('after a line %s comes a problem, and the answer has no end', async (_what, bad, code, failures) => {
  const from = logged.length;
  const line = ended('/v1/echo');
  const sent = open('/v1/echo', NDJSON);
  sent.on('error', () => {});
  sent.write('1\n');
  const answer = await answerTo(sent);
  let text = '';
  const over = new Promise<unknown>((resolve) => void answer.once('error', resolve));
  answer.on('data', (piece: Buffer) => {
    if (text === '') sent.write(`${bad}\n${'2\n'.repeat(1000)}`);
    text += String(piece);
  });
  expect(await over).toMatchObject({ code: 'ECONNRESET' });
  expect(answer.complete).toBe(false);
  const lines = text.trimEnd().split('\n');
  expect(lines.map((one) => Object.keys(JSON.parse(one) as object))).toEqual([['count', 'came', 'filler'], ['error']]);
  expect(JSON.parse(lines[1]!)).toMatchObject({ error: { code, type: `urn:assent:error:${code}` } });
  expect(await line).toMatchObject({ status: 200, fate: 'cut' });
  expect(logged.slice(from).filter(({ msg }) => msg === 'request failed').length).toBe(failures);
});

test('the last line reaches also a client that is still sending and reads late', async () => {
  const text = `1\n${'2\n'.repeat(1999)}"broken"\n${inputOf(100_000)}`;
  const answer = await sendThenRead(text);
  expect(unchunk(answer)).toBeUndefined();
  const last = answer.slice(answer.lastIndexOf('{"error":')).trim();
  expect(JSON.parse(last)).toMatchObject({ error: { code: 'internal', status: 500 } });
});

test('what fails before the first line of the answer has its own status', async () => {
  const post = (body: string | Buffer<ArrayBuffer>, headers: Record<string, string> = NDJSON, path = '/v1/echo') =>
    fetch(urlOf(path), { method: 'POST', headers, body });
  const told = async (reply: Response): Promise<unknown[]> => {
    const { code, detail } = (await reply.json()) as { code: string; detail: string };
    return [reply.status, reply.headers.get('content-type'), code, detail];
  };
  const problem = 'application/problem+json';
  expect((await told(await post('"refused"\n'))).slice(0, 3)).toEqual([409, problem, 'conflict']);
  expect(await told(await post(`${'x'.repeat(70_000)}\n`))).toEqual([
    400,
    problem,
    'malformed',
    'Line 1 is longer than 64 KiB.',
  ]);
  expect(await told(await post(Buffer.from([0x22, 0xff, 0x22])))).toEqual([
    400,
    problem,
    'malformed',
    'Line 1 is not UTF-8.',
  ]);
  // Megabytes that nobody wanted do not stand in the way of the answer.
  expect((await told(await post(`"refused"\n${inputOf(100_000)}`))).slice(0, 3)).toEqual([409, problem, 'conflict']);
  expect((await told(await post(inputOf(100_000), NDJSON, '/v1/json'))).slice(0, 3)).toEqual([
    415,
    problem,
    'unsupported_media_type',
  ]);
  expect((await told(await post(inputOf(10), NDJSON, '/v1/nothing'))).slice(0, 3)).toEqual([404, problem, 'not_found']);
  const zipped = await post(gzipSync('1\n'), { ...NDJSON, 'content-encoding': 'gzip' });
  expect((await told(zipped)).slice(0, 3)).toEqual([415, problem, 'unsupported_media_type']);
});

test('all its names and no others are NDJSON; whoever accepts only that gets it from a route that has it', async () => {
  const ask = async (path: string, type: string, accept: string): Promise<unknown[]> => {
    const reply = await fetch(urlOf(path), {
      method: 'POST',
      headers: { 'content-type': type, accept },
      body: '{"a":1}',
    });
    await reply.text();
    return [reply.status, reply.headers.get('content-type')];
  };
  for (const type of ['application/x-ndjson', 'application/ndjson; charset=utf-8', 'Application/JSONL'])
    expect(await ask('/v1/echo', type, '*/*')).toEqual([200, 'application/x-ndjson']);
  expect(await ask('/v1/echo', 'application/json', '*/*')).toEqual([200, 'application/json']);
  expect(await ask('/v1/echo', 'application/x-ndjson', 'application/x-ndjson')).toEqual([200, 'application/x-ndjson']);
  expect((await ask('/v1/json', 'application/json', 'application/x-ndjson'))[0]).toBe(406);
  expect((await ask('/v1/echo', 'application/x-ndjson', 'text/html'))[0]).toBe(406);
});

test('an empty body has no lines', async () => {
  const reply = await fetch(urlOf('/v1/echo'), { method: 'POST', headers: NDJSON });
  expect([reply.status, await reply.text()]).toEqual([200, '']);
});

test('a connection serves on after a stream, and also after one that was not read to its end', async () => {
  const socket = connect(portOf(server), '127.0.0.1');
  let text = '';
  const until = (count: number): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (text.split('HTTP/1.1 ').length > count) resolve();
        else socket.once('data', look);
      };
      look();
    });
  socket.on('data', (piece: Buffer) => {
    text += String(piece);
  });
  const post = (body: string): string =>
    `POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const bodies = ['1\n', `"refused"\n${inputOf(20_000)}`, '2\n'];
  for (const [index, body] of bodies.entries()) {
    socket.write(post(body));
    await until(index + 1);
  }
  socket.destroy();
  expect([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['200', '409', '200']);
});

test('through inject too: a text of lines in, all lines out', async () => {
  const reply = await server.inject({ method: 'POST', url: '/v1/echo', headers: NDJSON, payload: inputOf(5000) });
  expect([reply.statusCode, reply.headers['content-type']]).toEqual([200, 'application/x-ndjson']);
  expectWhole(reply.body, 5000);
  const refused = await server.inject({ method: 'POST', url: '/v1/echo', headers: NDJSON, payload: '"refused"' });
  expect([refused.statusCode, (refused.json() as { code: string }).code]).toEqual([409, 'conflict']);
});

test('the document shows both types, and of NDJSON one line', () => {
  const [one, answer] = [{ type: 'object' }, { type: 'boolean' }];
  const [line, told] = [{ type: 'integer' }, { type: 'string' }];
  const documented = (more: object) => {
    const path = define({ path: '/v1/both', run: async () => ({ status: 200 }), ...more });
    const { paths } = openapi([path]) as { paths: Record<string, { post: Record<string, never> }> };
    return paths['/v1/both']!.post as unknown as {
      requestBody: { content: object };
      responses: Record<string, { content: object }>;
      description: string;
    };
  };
  const same = documented({
    body: { schema: one, example: {} },
    answers: { 200: { description: 'Told', schema: answer, example: true } },
  });
  expect(same.requestBody.content).toEqual({
    'application/json': { schema: one, example: {} },
    'application/x-ndjson': { schema: one, example: {} },
  });
  expect(same.responses['200']!.content).toEqual({
    'application/json': { schema: answer, example: true },
    'application/x-ndjson': { schema: answer, example: true },
  });
  expect(same.description).toContain('one JSON object a line');
  const other = documented({
    body: { schema: one, example: {}, line: { schema: line, example: 1 } },
    answers: { 200: { description: 'Told', schema: answer, example: true, line: { schema: told, example: '' } } },
  });
  expect(other.requestBody.content).toMatchObject({ 'application/x-ndjson': { schema: line, example: 1 } });
  expect(other.responses['200']!.content).toMatchObject({ 'application/x-ndjson': { schema: told, example: '' } });
  expect(Object.keys(documented({ body: { schema: one }, reads: ['json'] }).requestBody.content)).toEqual([
    'application/json',
  ]);
});

// ---- Patience ----

/** All that comes back for these bytes until the server closes; `drip` is sent again and again. */
const hung = (text: string, drip?: string): Promise<string> =>
  new Promise((resolve) => {
    let answer = '';
    const socket = connect(portOf(hasty), '127.0.0.1', () => socket.write(text));
    const timer = drip === undefined ? undefined : setInterval(() => socket.writable && socket.write(drip), 5);
    socket.on('data', (piece: Buffer) => {
      answer += String(piece);
    });
    socket
      .on('error', () => {})
      .on('close', () => {
        clearInterval(timer);
        resolve(answer);
      });
  });
const head = (path: string, type: string): string =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`;

test.each([
  ['an ordinary body that does not end', '/v1/json', 'application/json', '1\r\n{\r\n', '408'],
  ['a body for a path where nothing lies', '/v1/nothing', 'application/json', '1\r\n{\r\n', '408'],
  ['lines that do not begin', '/v1/echo', 'application/x-ndjson', '', '408'],
  ['lines that stop', '/v1/echo', 'application/x-ndjson', '2\r\n1\n\r\n', '200'],
  ['a body that nobody wants', '/v1/json', 'application/x-ndjson', '1\r\n1\r\n', '415'],
])('%s: the connection is closed when its time is over', async (_what, path, type, chunk, status) => {
  expect((await hung(head(path, type) + chunk)).slice(9, 12)).toBe(status);
});

test('a body that comes drop by drop has no more time', async () => {
  expect((await hung(head('/v1/json', 'application/json'), '1\r\n \r\n')).slice(9, 12)).toBe('408');
});
