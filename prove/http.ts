/** A client that knows the difference between an answer, a request that never left, and one whose fate is unknown. */
import { Agent, request } from 'node:http';

export interface Answer {
  readonly kind: 'answer';
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  // biome-ignore lint/suspicious/noExplicitAny: a proof reads what it expects out of an answer
  readonly body: any;
  readonly milliseconds: number;
}

/** `unsent`: nobody listened, so nothing can have happened. `broken`: it was sent and no whole answer came. */
export type Outcome = Answer | { readonly kind: 'unsent' } | { readonly kind: 'broken'; readonly why: string };

export interface Asked {
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** Longer than any statement may take (20 s). */
const TIMEOUT = 25_000;

/** Keep-alive connections: one, or as many as are asked for at once. */
export class Connection {
  readonly #agent: Agent;

  /** @param sockets to each origin at most */
  constructor(sockets = 1) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: sockets });
  }

  send(origin: string, method: string, path: string, { body, headers = {} }: Asked = {}): Promise<Outcome> {
    const started = performance.now();
    const payload = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((done) => {
      const sent = request(`${origin}${path}`, {
        method,
        agent: this.#agent,
        timeout: TIMEOUT,
        headers: {
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
          ...headers,
        },
      });
      const broken = (error: NodeJS.ErrnoException): void =>
        done(error.code === 'ECONNREFUSED' ? { kind: 'unsent' } : { kind: 'broken', why: error.message });
      sent.on('error', broken);
      sent.on('timeout', () => sent.destroy(new Error('timeout')));
      sent.on('response', (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', broken);
        response.on('end', () => {
          const text = Buffer.concat(parts).toString();
          const json = String(response.headers['content-type'] ?? '').includes('json') && text !== '';
          done({
            kind: 'answer',
            status: response.statusCode!,
            headers: response.headers,
            body: json ? JSON.parse(text) : text,
            milliseconds: performance.now() - started,
          });
        });
      });
      sent.end(payload);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
