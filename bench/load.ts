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

/** What each request is, for session number N, from 1. */
export interface Shape {
  /** `N` in it is the session's number. */
  readonly path: string;
  readonly sessions: number;
  /** Sends an access token instead of a cookie. */
  readonly bearer?: boolean;
  /** Body of a PATCH, in which NUMBER and FLAG are drawn anew each time; absent: a GET. */
  readonly change?: string;
}

/** Key of session number `n`; the seed stores its hash. */
export const sessionKey = (n: number): string => `bench${String(n).padStart(20, '0')}`;
/** The double submit: a bare 32-character secret is a token. */
export const CSRF = 'a'.repeat(32);

export const generator = spawnSync('wrk', ['-v']).error === undefined ? 'wrk' : 'autocannon';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'assent-bench-'));

const script = ({ path, sessions, bearer, change }: Shape): string => `
local seeded = false
request = function()
  if not seeded then math.randomseed(os.time() + tonumber(tostring({}):sub(-6), 16)); seeded = true end
  local n = math.random(1, ${sessions})
  local key = string.format("bench%020d", n)
  local headers = ${bearer ? '{ ["authorization"] = "Bearer " .. key }' : `{ ["cookie"] = "sessionid=" .. key .. "; csrftoken=${CSRF}" }`}
  local path = ([[${path}]]):gsub("N", n)
  ${
    change === undefined
      ? 'return wrk.format("GET", path, headers)'
      : `headers["x-csrftoken"] = "${CSRF}"
  headers["content-type"] = "application/json"
  local flag = function() return math.random(0, 1) == 1 and "true" or "false" end
  local body = ([[${change}]]):gsub("NUMBER", function() return math.random(1, 1000000) end):gsub("FLAG", flag)
  return wrk.format("PATCH", path, headers, body)`
  }
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {"answers":%d,"micros":%d,"p50":%f,"p99":%f,"bad":%d}\\n', summary.requests, summary.duration,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end`;

async function withWrk(origin: string, shape: Shape, seconds: number): Promise<Result> {
  const file = join(folder, `${shape.change === undefined ? 'get' : 'patch'}.lua`);
  writeFileSync(file, script(shape));
  const { stdout } = await run('wrk', ['-t', '1', '-c', String(CONNECTIONS), '-d', `${seconds}s`, '-s', file, origin]);
  const { answers, micros, p50, p99, bad } = JSON.parse(/RESULT (.*)/.exec(stdout)![1]!) as Record<string, number>;
  return { rate: (answers! / micros!) * 1e6, p50: p50!, p99: p99!, answers: answers!, bad: bad! };
}

async function withAutocannon(origin: string, shape: Shape, seconds: number): Promise<Result> {
  const { path, sessions, bearer, change } = shape;
  const result = await autocannon({
    url: origin,
    connections: CONNECTIONS,
    duration: seconds,
    requests: [
      {
        method: change === undefined ? 'GET' : 'PATCH',
        setupRequest(request) {
          const n = 1 + Math.floor(Math.random() * sessions);
          const key = sessionKey(n);
          const body = change
            ?.replaceAll('NUMBER', () => String(Math.floor(Math.random() * 1e6)))
            .replaceAll('FLAG', () => String(Math.random() < 0.5));
          return {
            ...request,
            path: path.replaceAll('N', String(n)),
            headers: {
              ...(bearer ? { authorization: `Bearer ${key}` } : { cookie: `sessionid=${key}; csrftoken=${CSRF}` }),
              ...(body === undefined ? {} : { 'x-csrftoken': CSRF, 'content-type': 'application/json' }),
            },
            ...(body === undefined ? {} : { body }),
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
