/** By what a request was let in. */
export interface Assent {
  /** Id of the account that is calling. */
  readonly account: number;
  /** Its entry in the company of the shop; an owner may have none. */
  readonly entry: number | undefined;
  /** The line of the history that gave the right. */
  readonly event: string | undefined;
  /** When the right ends (RFC 3339). */
  readonly until: string | undefined;
}

export interface Options {
  /** Where Assent is, without a slash at the end: `http://127.0.0.1:8080`. */
  readonly url: string;
  /** The permission that is needed: `products`, `discounts`, … */
  readonly permission: string;
  /** The shop must be one of this company. */
  readonly company?: number;
  /** Also send the caller's cookies to Assent: where it is signed in to on the same site. Off by default. */
  readonly cookies?: boolean;
  /** Milliseconds Assent has to answer; 2,000 by default. Later is a no. */
  readonly timeout?: number;
  /** For tests, and for agents of one's own. */
  readonly fetch?: typeof globalThis.fetch;
}

/** The shop, or how to find it in a request: a number, or the digits of a path parameter. */
export interface Guarded<Request> extends Options {
  readonly shop: number | ((request: Request) => unknown);
}

export interface Refusal {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** Asks about the sender of these headers. Never throws. */
export declare function askAssent(
  options: Options,
  shop: unknown,
  headers: Headers,
): Promise<{ readonly allowed?: Assent; readonly refused?: Refusal }>;

interface NodeResponse {
  writeHead(status: number, headers: Record<string, string>): { end(body: string): unknown };
}

/** Middleware for Express: lets through with `request.assent`, or answers 401, 403, 404 or 503 itself. */
export declare function expressGuard<Request extends { headers: Headers }>(
  options: Guarded<Request>,
): (request: Request & { assent?: Assent }, response: NodeResponse, next: () => void) => Promise<void>;

interface FastifyAnswer {
  code(status: number): { headers(values: Record<string, string>): { send(body: string): unknown } };
}

/** A `preHandler` for Fastify: lets through with `request.assent`, or answers 401, 403, 404 or 503 itself. */
export declare function fastifyGuard<Request extends { headers: Headers }>(
  options: Guarded<Request>,
): (request: Request & { assent?: Assent }, reply: FastifyAnswer) => Promise<unknown>;
