/**
 * A loyalty provider as the world has them: it takes members under idempotency keys, drops what is older than what it has,
 * and does to its callers whatever the mode says.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export type Content = Readonly<Record<string, unknown>>;

interface Effect {
  readonly key: string;
  readonly sequence: number;
  readonly content: string;
}

interface Asked {
  readonly account: number;
  readonly key: string;
  readonly sequence: number;
  readonly content: string;
}

type Deed = (provider: Provider, asked: Asked, response: ServerResponse) => void | Promise<void>;

const answer = (response: ServerResponse, status: number, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end('{}');
};
const cut = (response: ServerResponse): void => void response.socket?.destroy();

/** Longer than anybody waits here. */
const HANG = 30_000;

/** What may happen to a request, and how often, out of a hundred. */
const misdeeds: readonly (readonly [name: string, often: number, deed: Deed])[] = [
  [
    'taken, no answer',
    8,
    async (provider, asked, response) => {
      provider.take(asked);
      await sleep(HANG, undefined, { ref: false });
      cut(response);
    },
  ],
  [
    'taken, connection cut',
    5,
    (provider, asked, response) => {
      provider.take(asked);
      cut(response);
    },
  ],
  ['connection cut', 5, (_provider, _asked, response) => cut(response)],
  [
    'cut, taken later',
    5,
    async (provider, asked, response) => {
      cut(response);
      await sleep(300 + Math.random() * 2500, undefined, { ref: false });
      provider.take(asked);
    },
  ],
  [
    'taken twice',
    5,
    async (provider, asked, response) => {
      provider.take(asked);
      answer(response, 200);
      await sleep(200, undefined, { ref: false });
      provider.take(asked);
    },
  ],
  ['409', 4, (_provider, _asked, response) => answer(response, 409)],
  ['429', 4, (_provider, _asked, response) => answer(response, 429, { 'retry-after': '1' })],
  ['500', 5, (_provider, _asked, response) => answer(response, 500)],
  ['garbage', 4, (_provider, _asked, response) => void response.socket?.end('\u0000HTTP? no\r\n\r\n')],
  [
    'no answer',
    3,
    async (_provider, _asked, response) => {
      await sleep(HANG, undefined, { ref: false });
      cut(response);
    },
  ],
];

export class Provider {
  /** `down`: nobody listens. */
  mode: 'well' | 'chaos' = 'well';
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #sockets = new Set<Socket>();
  readonly #keys = new Map<string, string>();
  readonly #effects = new Map<number, Effect[]>();
  readonly #random: () => number;
  #port = 0;
  /** What happened to requests, by name. */
  readonly deeds = new Map<string, number>();
  readonly faults: string[] = [];

  constructor(random: () => number) {
    this.#random = random;
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => {});
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async up(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async down(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** What it has of a member. */
  member(account: number): Content | undefined {
    const last = this.#effects.get(account)?.at(-1);
    return last === undefined ? undefined : (JSON.parse(last.content) as Content);
  }

  get effects(): number {
    return [...this.#effects.values()].reduce((sum, { length }) => sum + length, 0);
  }

  /** Members that were given the same twice in a row, under two keys. */
  get doubled(): string[] {
    return [...this.#effects].flatMap(([account, effects]) =>
      effects.flatMap(({ content, sequence }, index) =>
        index > 0 && effects[index - 1]!.content === content ? [`account ${account}, sequence ${sequence}`] : [],
      ),
    );
  }

  /** Takes what it was asked: once for each key, and nothing that is older than what it has. */
  take({ account, key, sequence, content }: Asked): void {
    const before = this.#keys.get(key);
    if (before !== undefined) {
      if (before !== `${account} ${content}`) this.faults.push(`key ${key} came with other content`);
      return;
    }
    this.#keys.set(key, `${account} ${content}`);
    let effects = this.#effects.get(account);
    if (effects === undefined) {
      effects = [];
      this.#effects.set(account, effects);
    }
    if (sequence < (effects.at(-1)?.sequence ?? 0)) return;
    effects.push({ key, sequence, content });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    try {
      for await (const part of request) parts.push(part as Buffer);
    } catch {
      return;
    }
    const account = Number(/^\/members\/(\d+)$/.exec(request.url!)?.[1]);
    if (request.method === 'GET') {
      const known = this.member(account);
      response.writeHead(known === undefined ? 404 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(known ?? {}));
      return;
    }
    const asked = {
      account,
      key: String(request.headers['idempotency-key']),
      sequence: Number(request.headers['assent-sequence']),
      content: Buffer.concat(parts).toString(),
    };
    if (this.mode === 'chaos') {
      let left = this.#random() * 100;
      for (const [name, often, deed] of misdeeds) {
        left -= often;
        if (left >= 0) continue;
        this.deeds.set(name, (this.deeds.get(name) ?? 0) + 1);
        await deed(this, asked, response);
        return;
      }
    }
    this.deeds.set('taken', (this.deeds.get('taken') ?? 0) + 1);
    this.take(asked);
    answer(response, 200);
  }
}
