/**
 * The HTTP server: routes are data, and a route says who may call it or it does not exist. Three dialects share it; what
 * differs between them (accepted types, error shapes, headers) is a `Dialect`.
 */
import { parseCookie } from 'cookie';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import type { Scope } from '../settings.ts';
import { type Body, readBody } from './body.ts';
import type { Ctx } from './ctx.ts';
import { Failure, fail } from './failure.ts';
import { failureOf, type Place, placeOf, served, strayFailure } from './framework.ts';
import { chooseLanguage, type Language } from './language.ts';
import type { Settings } from './settings.ts';
import { allowanceHeaders, throttleRequest } from './throttle.ts';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** Who is calling, as far as the server itself must know. */
export interface Actor {
  /** Under what name requests are counted, e.g. `account:7`; undefined counts by client address. */
  readonly caller?: string;
}

/** What is known of a request before its body is read. */
export interface Incoming {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string | string[] | undefined>>;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly cookies: Readonly<Record<string, string | undefined>>;
  /** Client address; behind a proxy only if the proxy is trusted. */
  readonly ip: string;
  /** True when it came over HTTPS. */
  readonly secure: boolean;
  /** Scheme and host under which people reach us: PUBLIC_URL's, else as the client used them. */
  readonly origin: string;
  /** Scheme and host of this very request. */
  readonly ownOrigin: string;
  readonly language: Language;
  /** Adds a header to whatever the answer will be. */
  setHeader(name: string, value: string): void;
}

export interface Request<A extends Actor> extends Incoming {
  readonly actor: A;
  readonly body: Body;
}

/** Who may call a route: a name for people, the OpenAPI security for programs, and the function that lets in or throws. */
export interface Who<A extends Actor> {
  readonly name: string;
  /** Security requirements as OpenAPI lists them; an empty object among them: also without. */
  readonly security: readonly Record<string, string[]>[];
  /** Names or refuses the caller: not_authenticated, invalid_token, csrf_failed, forbidden. */
  admit(ctx: Ctx, incoming: Incoming): Promise<A>;
}

export interface Answer {
  readonly status: number;
  /** An object is sent as JSON, a string or Buffer as it is, absent: no body and no type. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string | string[]>>;
}

/** How a family of paths speaks. */
export interface Dialect {
  readonly name: string;
  readonly languages: readonly Language[];
  /** Content-Type of its JSON answers. */
  readonly jsonType: string;
  /** Path prefixes of this dialect: unknown paths below them are answered in its shape. */
  readonly prefixes: readonly string[];
  /** Content types of bodies it reads. */
  readonly reads: readonly ('json' | 'form' | 'multipart')[];
  /** What it answers for OPTIONS on a known path. */
  describe(route: { summary: string; allow: string; reads: readonly string[] }): Answer;
  /** Throws not_acceptable when the client wants no type of ours. */
  accept(incoming: Incoming): void;
  /** Headers of every answer. */
  headers(incoming: Incoming): Record<string, string>;
  /** The answer that says what went wrong. */
  refuse(failure: Failure, incoming: Incoming): Answer;
  /** Refuses query parameters that the route does not know; absent: they are passed over. */
  checkQuery?(query: Incoming['query'], known: NonNullable<Route['query']>): void;
  /** The value as it goes on the wire. */
  stringify(value: unknown): string;
}

/** Documentation of one answer of a route, for OpenAPI. */
export interface Answers {
  readonly [status: number]: {
    readonly description: string;
    readonly schema?: TSchema | object;
    readonly example?: unknown;
    readonly media?: string;
  };
}

export interface Route<A extends Actor = Actor> {
  readonly method: Method;
  /** `/company/companies/{id}`: `{x}` is a parameter; digits only where `ids` names it. */
  readonly path: string;
  readonly dialect: Dialect;
  readonly who: Who<A>;
  readonly throttle?: Scope;
  readonly summary: string;
  readonly description?: string;
  readonly operationId: string;
  readonly tag: string;
  /** Query parameters it knows. */
  readonly query?: Readonly<Record<string, { description: string; schema: object }>>;
  readonly body?: { readonly schema: object; readonly example?: unknown; readonly required?: boolean };
  readonly answers: Answers;
  /** Types of bodies, where they are fewer or more than the dialect's. */
  readonly reads?: Dialect['reads'];
  /** Largest body in bytes; 1 MiB when absent. */
  readonly bodyLimit?: number;
  /** Left out of /openapi.json: pages and pictures. */
  readonly hidden?: boolean;
  run(ctx: Ctx, request: Request<A>): Promise<Answer>;
}

/** Lets TypeScript carry the actor's type from `who` to `run`. */
export const route = <A extends Actor>(definition: Route<A>): Route => definition as unknown as Route;

export interface HttpOptions {
  readonly ctx: Ctx;
  readonly routes: readonly Route[];
  readonly dialects: readonly Dialect[];
  /** The dialect of paths that belong to none. */
  readonly fallback: Dialect;
  readonly trustedProxies: readonly string[];
  /** PUBLIC_URL: behind a proxy that is not trusted it says what address and scheme people really use. */
  readonly publicUrl?: string | undefined;
  /** Called once per answered request. */
  readonly observe?: (route: string, method: string, status: number, milliseconds: number) => void;
}

declare module 'fastify' {
  interface FastifyRequest {
    exchange: Exchange | null;
  }
}

const MIB = 1024 * 1024;
const methods: readonly Method[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

/** Languages by dialect and header: a handful of headers make nearly all requests. */
const languages = new Map<string, Language>();

/** One request and what is known of it so far. What most routes never ask for is worked out when it is asked for. */
class Exchange implements Request<Actor> {
  readonly id: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly started = performance.now();
  readonly dialect: Dialect;
  /** Headers of the answer, whatever it will be. */
  readonly answerHeaders: Record<string, string | string[]>;
  actor: Actor = {};
  body: Body = { kind: 'none', value: undefined };
  readonly #request: FastifyRequest;
  readonly #settings: Settings;
  readonly #publicOrigin: string | undefined;
  #cookies: Readonly<Record<string, string | undefined>> | undefined;
  #language: Language | undefined;

  constructor(request: FastifyRequest, dialect: Dialect, settings: Settings, publicOrigin: string | undefined) {
    this.#request = request;
    this.#publicOrigin = publicOrigin;
    this.#settings = settings;
    this.id = request.id;
    this.method = request.method;
    this.headers = request.headers as Record<string, string | undefined>;
    this.dialect = dialect;
    this.answerHeaders = dialect.headers(this);
    this.answerHeaders['x-request-id'] = this.id;
  }

  get path(): string {
    return this.#request.url.split('?', 1)[0]!;
  }
  get params(): Readonly<Record<string, string>> {
    return this.#request.params as Record<string, string>;
  }
  get query(): Incoming['query'] {
    return this.#request.query as Incoming['query'];
  }
  get ip(): string {
    // The socket of a client that has gone knows no address any more.
    return (this.#request.ip as string | undefined) ?? 'unknown';
  }
  get secure(): boolean {
    return this.#request.protocol === 'https' || this.#publicOrigin?.startsWith('https:') === true;
  }
  get origin(): string {
    return this.#publicOrigin ?? this.ownOrigin;
  }
  get ownOrigin(): string {
    return `${this.#request.protocol}://${this.#request.host}`;
  }
  get cookies(): Readonly<Record<string, string | undefined>> {
    this.#cookies ??= parseCookie(this.headers['cookie'] ?? '');
    return this.#cookies;
  }
  get language(): Language {
    this.#language ??= this.#chooseLanguage();
    return this.#language;
  }
  setHeader(name: string, value: string): void {
    this.answerHeaders[name] = value;
  }

  #chooseLanguage(): Language {
    const set = this.#settings.get('DEFAULT_LANGUAGE') as Language;
    const fallback = this.dialect.languages.includes(set) ? set : 'en';
    const header = this.headers['accept-language'];
    if (header === undefined) return fallback;
    const key = `${this.dialect.name} ${fallback} ${header}`;
    let language = languages.get(key);
    if (language === undefined) {
      if (languages.size > 1000) languages.clear();
      language = chooseLanguage(header, this.dialect.languages, fallback);
      languages.set(key, language);
    }
    return language;
  }
}

/** `X-Request-Id` of a caller is kept when it is harmless, so that one id runs through all logs. */
const harmlessId = /^[\w.:-]{8,64}$/;
const instance = Math.random().toString(36).slice(2, 8);
let counter = 0;

/**
 * Builds the server without listening.
 * @throws Error when a route does not say who may call it, or two routes share method and path
 */
export async function createServer(options: HttpOptions): Promise<FastifyInstance> {
  const { ctx, routes, dialects, fallback, observe } = options;
  const publicOrigin = options.publicUrl === undefined ? undefined : new URL(options.publicUrl).origin;
  const app = Fastify({
    logger: false,
    trustProxy: options.trustedProxies.length > 0 ? [...options.trustedProxies] : false,
    bodyLimit: MIB,
    requestTimeout: 30_000,
    keepAliveTimeout: 72_000,
    forceCloseConnections: 'idle',
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 300 },
    genReqId(request) {
      const given = request.headers['x-request-id'];
      if (typeof given === 'string' && harmlessId.test(given)) return given;
      counter += 1;
      return `${instance}-${counter.toString(36)}`;
    },
    frameworkErrors: (error, request, reply) => {
      // A path that cannot be decoded, or one with too long a parameter: nothing lies there.
      void answerFailure(error, request, reply);
    },
  });
  app.decorateRequest('exchange', null);

  const dialectOf = (path: string): Dialect =>
    dialects.find((dialect) => dialect.prefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) ??
    fallback;

  const begin = (request: FastifyRequest, dialect: Dialect): Exchange => {
    const exchange = new Exchange(request, dialect, ctx.settings, publicOrigin);
    request.exchange = exchange;
    return exchange;
  };

  /** Writes the answer in one piece, past the framework's own sending: head and body in one packet, no header twice. */
  const send = (
    reply: FastifyReply,
    { dialect, answerHeaders }: Exchange,
    { status, headers, body }: Answer,
  ): FastifyReply => {
    if (headers !== undefined) Object.assign(answerHeaders, headers);
    let payload: string | Buffer = '';
    if (typeof body === 'string' || Buffer.isBuffer(body)) {
      payload = body;
    } else if (body !== undefined) {
      answerHeaders['content-type'] ??= dialect.jsonType;
      payload = dialect.stringify(body);
    }
    // 204 and 304 have no body to measure (RFC 9110, 8.6).
    if (status !== 204 && status !== 304) answerHeaders['content-length'] = String(Buffer.byteLength(payload));
    reply.hijack();
    reply.raw.writeHead(status, answerHeaders);
    reply.raw.end(payload);
    return reply;
  };

  const answerFailure = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const exchange = request.exchange ?? begin(request, dialectOf(request.url.split('?', 1)[0]!));
    // The framework stumbles over methods that it knows and no route has (QUERY) before it finds that nothing is there.
    const failure =
      error instanceof Failure || served.includes(request.method)
        ? failureOf(error, request.headers['content-type'])
        : strayFailure(request, places);
    if (failure.status >= 500) {
      const cause = failure.cause ?? failure;
      const level = failure.code === 'internal' ? 'error' : 'warn';
      ctx.log[level]({ request: request.id, code: failure.code, err: cause }, 'request failed');
    }
    // A body that was not read to its end leaves the connection unusable: the framework asks to close it then.
    const connection = reply.getHeader('connection');
    if (typeof connection === 'string') exchange.setHeader('connection', connection);
    const answer = exchange.dialect.refuse(failure, exchange);
    return send(reply, exchange, { ...answer, headers: { ...failure.headers, ...answer.headers } });
  };

  app.setErrorHandler(answerFailure);
  const places: Place[] = [];
  app.setNotFoundHandler((request, reply) => answerFailure(strayFailure(request, places), request, reply));

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

  app.addHook('onResponse', async (request, reply) => {
    const milliseconds = request.exchange === null ? 0 : performance.now() - request.exchange.started;
    const path = request.routeOptions.url ?? 'unknown';
    observe?.(path, request.method, reply.statusCode, milliseconds);
    ctx.log.info(
      {
        request: request.id,
        method: request.method,
        route: path,
        status: reply.statusCode,
        ms: Math.round(milliseconds * 10) / 10,
      },
      'request',
    );
  });

  const byPath = Map.groupBy(routes, (entry) => entry.path);
  for (const [path, entries] of byPath) {
    const allowed = [
      ...entries.map((entry) => entry.method),
      ...(entries.some((e) => e.method === 'GET') ? ['HEAD'] : []),
      'OPTIONS',
    ].join(', ');
    places.push(placeOf(path, allowed));
    const url = path.replaceAll(/\{(\w+)\}/g, ':$1');
    for (const method of [...methods, 'OPTIONS' as const]) {
      const entry = entries.find((candidate) => candidate.method === method);
      // A method without a route still answers in order: who is asking and how often comes before what it may do.
      const rule = entry ?? entries[0]!;
      if (rule.who === undefined) throw new Error(`${method} ${path} does not say who may call it`);
      app.route({
        method,
        url,
        exposeHeadRoute: true,
        bodyLimit: entry?.bodyLimit ?? MIB,
        async onRequest(request) {
          const exchange = begin(request, rule.dialect);
          exchange.answerHeaders['allow'] = allowed;
          rule.dialect.accept(exchange);
          exchange.actor = await rule.who.admit(ctx, exchange);
          if (rule.throttle !== undefined) {
            const allowance = await throttleRequest(ctx, rule.throttle, {
              caller: exchange.actor.caller,
              ip: exchange.ip,
            });
            if (allowance !== undefined) Object.assign(exchange.answerHeaders, allowanceHeaders(allowance));
          }
          if (entry === undefined && method !== 'OPTIONS') fail('method_not_allowed', { values: { method } });
        },
        async handler(request, reply) {
          const exchange = request.exchange!;
          const { dialect } = exchange;
          const reads = rule.reads ?? dialect.reads;
          if (entry === undefined)
            return send(reply, exchange, dialect.describe({ summary: rule.summary, allow: allowed, reads }));
          dialect.checkQuery?.(exchange.query, entry.query ?? {});
          exchange.body = await readBody(request.body as Buffer | undefined, exchange, reads);
          return send(reply, exchange, await entry.run(ctx, exchange));
        },
      });
    }
  }
  return app;
}

/** 200 with a JSON body. */
export const ok = (body: unknown, headers: Record<string, string | string[]> = {}): Answer => ({
  status: 200,
  body,
  headers,
});
/** A status without a body. */
export const empty = (status: number, headers: Record<string, string | string[]> = {}): Answer => ({ status, headers });
