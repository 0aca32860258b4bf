/** Load from 64 connections: wrk where it is installed, else autocannon. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import autocannon from 'autocannon';

export const CONNECTIONS = 64;

export interface Result {
  /** Requests a second. */
  readonly rate: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Answers that came. */
  readonly answers: number;
  /** Answers other than 2xx, and broken connections. */
  readonly bad: number;
}

/** What each request is: a path for everybody, and how session number `n` (from 1) asks. */
export interface Shape {
  readonly method: 'GET' | 'PATCH';
  readonly path: string;
  readonly sessions: number;
}

/** Key of session number `n`; the seed stores its hash. */
export const sessionKey = (n: number): string => `bench${String(n).padStart(20, '0')}`;
/** The double submit: a bare 32-character secret is a token. */
export const CSRF = 'a'.repeat(32);

export const generator = spawnSync('wrk', ['-v']).error === undefined ? 'wrk' : 'autocannon';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'assent-bench-'));

const script = ({ method, path, sessions }: Shape): string => `
local seeded = false
request = function()
  if not seeded then math.randomseed(os.time() + tonumber(tostring({}):sub(-6), 16)); seeded = true end
  local n = math.random(1, ${sessions})
  local headers = { ["cookie"] = string.format("sessionid=bench%020d; csrftoken=${CSRF}", n) }
  ${
    method === 'GET'
      ? `return wrk.format("GET", "${path}", headers)`
      : `headers["x-csrftoken"] = "${CSRF}"
  headers["content-type"] = "application/json"
  local allowed = math.random(0, 1) == 1 and "true" or "false"
  return wrk.format("PATCH", "${path}", headers, string.format('{"first_name":"Ada %d","sms_allowed":%s}', math.random(1, 1000000), allowed))`
  }
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {"answers":%d,"micros":%d,"p50":%f,"p99":%f,"bad":%d}\\n', summary.requests, summary.duration,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end`;

async function withWrk(origin: string, shape: Shape, seconds: number): Promise<Result> {
  const file = join(folder, `${shape.method}.lua`);
  writeFileSync(file, script(shape));
  const { stdout } = await run('wrk', ['-t', '1', '-c', String(CONNECTIONS), '-d', `${seconds}s`, '-s', file, origin]);
  const { answers, micros, p50, p99, bad } = JSON.parse(/RESULT (.*)/.exec(stdout)![1]!) as Record<string, number>;
  return { rate: (answers! / micros!) * 1e6, p50: p50!, p99: p99!, answers: answers!, bad: bad! };
}

async function withAutocannon(origin: string, { method, path, sessions }: Shape, seconds: number): Promise<Result> {
  const result = await autocannon({
    url: origin,
    connections: CONNECTIONS,
    duration: seconds,
    requests: [
      {
        method,
        path,
        setupRequest(request) {
          const n = 1 + Math.floor(Math.random() * sessions);
          const body = JSON.stringify({
            first_name: `Ada ${Math.floor(Math.random() * 1e6)}`,
            sms_allowed: Math.random() < 0.5,
          });
          return {
            ...request,
            headers: {
              cookie: `sessionid=${sessionKey(n)}; csrftoken=${CSRF}`,
              ...(method === 'PATCH' ? { 'x-csrftoken': CSRF, 'content-type': 'application/json' } : {}),
            },
            ...(method === 'PATCH' ? { body } : {}),
          };
        },
      },
    ],
  });
  return {
    rate: result.requests.average,
    p50: result.latency.p50,
    p99: result.latency.p99,
    answers: result.requests.total,
    bad: result.non2xx + result.errors,
  };
}

/** Drives `origin` for some seconds. */
export const drive = (origin: string, shape: Shape, seconds: number): Promise<Result> =>
  generator === 'wrk' ? withWrk(origin, shape, seconds) : withAutocannon(origin, shape, seconds);
