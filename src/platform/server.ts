/**
 * The HTTP server: routes are data, and a route says who may call it or it does not exist. Three dialects share it; what
 * differs between them (accepted types, error shapes, headers) is a `Dialect`.
 */
import type { Readable } from 'node:stream';
import { parseCookie } from 'cookie';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Body, readBody } from './body.ts';
import { preflight, shareAnswer } from './cors.ts';
import type { Ctx } from './ctx.ts';
import { Failure, fail, refuse } from './failure.ts';
import { failureOf, type Place, placeOf, requestId, served, strayFailure } from './framework.ts';
import type { Actor, Answer, Dialect, Incoming, Method, Request, Route } from './http.ts';
import { chooseLanguage, type Language } from './language.ts';
import { isStream, NDJSON, ndjsonTypes, type Pieces, pour } from './ndjson.ts';
import { Patience } from './patience.ts';
import type { Settings } from './settings.ts';
import { allowanceHeaders, throttleRequest } from './throttle.ts';

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
  /** Milliseconds in which a body must have come, and for which a streamed one may be silent; 30 seconds when absent. */
  readonly patience?: number;
}

declare module 'fastify' {
  interface FastifyRequest {
    exchange: Exchange | null;
  }
}

const MIB = 1024 * 1024;

/** Milliseconds for which being let in counts: a body that came with its head costs no second question. */
const ADMITTED_FOR = 100;
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
  /** Whether pages of other origins may be let in on the answer: of the API, where a route is, and of no page. */
  readonly shared: boolean;
  /** Headers of the answer, whatever it will be. */
  readonly answerHeaders: Record<string, string | string[]>;
  actor: Actor = {};
  dryRun = false;
  body: Body = { kind: 'none', value: undefined };
  #admit: () => Promise<Actor> = async () => ({});
  #admitted = 0;
  readonly #request: FastifyRequest;
  readonly #settings: Settings;
  readonly #publicOrigin: string | undefined;
  #cookies: Readonly<Record<string, string | undefined>> | undefined;
  #language: Language | undefined;

  constructor(
    request: FastifyRequest,
    dialect: Dialect,
    shared: boolean,
    settings: Settings,
    publicOrigin: string | undefined,
  ) {
    this.#request = request;
    this.shared = shared;
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
  /** Lets the caller in, by whatever they brought. */
  async admit(by: () => Promise<Actor>): Promise<void> {
    this.#admit = by;
    this.actor = await by();
    this.#admitted = performance.now();
  }
  async stillAdmitted(): Promise<void> {
    if (performance.now() - this.#admitted > ADMITTED_FOR) await this.admit(this.#admit);
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

/**
 * Whether a request only asks what would happen.
 * @throws invalid for any value but 1, and where a call that changes things has no preview
 */
function readDryRun({ headers }: Incoming, { method, previews }: Route): boolean {
  const header = headers['assent-dry-run'];
  if (header === undefined || method === 'GET') return false;
  if (previews !== true) refuse({ path: ['Assent-Dry-Run'], key: 'invalid.no_preview' });
  if (header.trim() !== '1') refuse({ path: ['Assent-Dry-Run'], key: 'invalid.one_of', values: { values: '1' } });
  return true;
}

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
    // Heads are Node's to wait for, bodies `patience`'s.
    requestTimeout: 0,
    http: { headersTimeout: 30_000 },
    keepAliveTimeout: 72_000,
    forceCloseConnections: 'idle',
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 300 },
    genReqId: requestId,
    frameworkErrors: (error, request, reply) => {
      // A path that cannot be decoded, or one with too long a parameter: nothing lies there.
      void answerFailure(error, request, reply);
    },
  });
  app.decorateRequest('exchange', null);
  const patience = new Patience(options.patience ?? 30_000, (socket) => {
    const error = Object.assign(new Error('the body takes too long'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });
    app.server.emit('clientError', error, socket);
  });
  app.server.on('close', () => patience.stop());
  app.addHook('onRequest', (request, reply, done) => {
    patience.begin(request.raw, reply.raw);
    done();
  });

  const dialectOf = (path: string): Dialect =>
    dialects.find((dialect) => dialect.prefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) ??
    fallback;

  const begin = (request: FastifyRequest, dialect: Dialect, shared: boolean): Exchange => {
    const exchange = new Exchange(request, dialect, shared, ctx.settings, publicOrigin);
    request.exchange = exchange;
    return exchange;
  };

  /** The headers of an answer, whole, as they go out. */
  const headersOf = (exchange: Exchange, headers: Answer['headers']): Exchange['answerHeaders'] => {
    const { answerHeaders } = exchange;
    if (headers !== undefined) Object.assign(answerHeaders, headers);
    if (exchange.shared) shareAnswer(answerHeaders, exchange, ctx.settings.get('ALLOWED_ORIGINS'));
    return answerHeaders;
  };

  /** Writes the answer in one piece, past the framework's own sending: head and body in one packet, no header twice. */
  const send = (reply: FastifyReply, exchange: Exchange, { status, headers, body }: Answer): FastifyReply => {
    const { dialect } = exchange;
    const answerHeaders = headersOf(exchange, headers);
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

  /** What an error means for its request; logged when it is ours. */
  const diagnose = (error: unknown, request: FastifyRequest): Failure => {
    const failure = failureOf(error, request.headers['content-type']);
    if (failure.status >= 500) {
      const level = failure.code === 'internal' ? 'error' : 'warn';
      ctx.log[level]({ request: request.id, code: failure.code, err: failure.cause ?? failure }, 'request failed');
    }
    return failure;
  };

  /** Writes the answer while it is made. @throws what fails before its first piece */
  const stream = async (reply: FastifyReply, { status, headers }: Answer, pieces: Pieces): Promise<FastifyReply> => {
    const { request, raw } = reply;
    const exchange = request.exchange!;
    const { dialect } = exchange;
    patience.stream(request.raw, raw);
    const fate = await pour(pieces, request.raw, raw, {
      head() {
        reply.hijack();
        raw.writeHead(status, headersOf(exchange, { 'content-type': NDJSON, ...headers }));
      },
      fault: (error) => `{"error":${dialect.stringify(dialect.refuse(diagnose(error, request), exchange).body)}}\n`,
    });
    if (!reply.sent) reply.hijack();
    if (fate !== 'whole') settle(request, reply, fate);
    return reply;
  };

  const answerFailure = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const exchange = request.exchange ?? begin(request, dialectOf(request.url.split('?', 1)[0]!), false);
    // The framework stumbles over methods that it knows and no route has (QUERY) before it finds that nothing is there.
    const failure =
      error instanceof Failure || served.includes(request.method)
        ? diagnose(error, request)
        : strayFailure(request, places);
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
  app.addContentTypeParser([...ndjsonTypes], (_request, payload, done) => done(null, payload));

  /** @param fate how a streamed answer ended that did not come to its end */
  const settle = (request: FastifyRequest, reply: FastifyReply, fate?: 'cut' | 'left'): void => {
    patience.end(request.raw);
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
        ...(fate === undefined ? {} : { fate }),
      },
      'request',
    );
  };
  app.addHook('onResponse', (request, reply, done) => {
    settle(request, reply);
    done();
  });

  const byPath = Map.groupBy(routes, (entry) => entry.path);
  for (const [path, entries] of byPath) {
    const allowed = [
      ...entries.map((entry) => entry.method),
      ...(entries.some((e) => e.method === 'GET') ? ['HEAD'] : []),
      'OPTIONS',
    ].join(', ');
    places.push(placeOf(path, allowed));
    const open = entries.filter(({ hidden }) => hidden !== true);
    const openMethods = open.map((entry) => entry.method).join(', ');
    const url = path.replaceAll(/\{(\w+)\}/g, ':$1');
    for (const method of [...methods, 'OPTIONS' as const]) {
      const entry = entries.find((candidate) => candidate.method === method);
      // A method without a route still answers in order: who is asking and how often comes before what it may do.
      const rule = entry ?? entries[0]!;
      const reads = rule.reads ?? rule.dialect.reads;
      const shared = entry === undefined ? open.length > 0 : entry.hidden !== true;
      if (rule.who === undefined) throw new Error(`${method} ${path} does not say who may call it`);
      app.route({
        method,
        url,
        exposeHeadRoute: true,
        bodyLimit: entry?.bodyLimit ?? MIB,
        async onRequest(request, reply) {
          // The framework refuses types that are none.
          if (entry?.anyBody === true || entry?.rawBody === true) delete request.headers['content-type'];
          const exchange = begin(request, rule.dialect, shared);
          exchange.answerHeaders['allow'] = allowed;
          const leave = shared ? preflight(exchange, openMethods, ctx.settings.get('ALLOWED_ORIGINS')) : undefined;
          if (leave !== undefined) return send(reply, exchange, leave);
          rule.dialect.accept(exchange, reads);
          await exchange.admit(() => rule.who.admit(ctx, exchange));
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
          if (entry === undefined)
            return send(reply, exchange, dialect.describe({ summary: rule.summary, allow: allowed, reads }));
          dialect.checkQuery?.(exchange.query, entry.query ?? {});
          exchange.dryRun = readDryRun(exchange, entry);
          if (entry.rawBody === true)
            exchange.body = { kind: 'raw', value: Buffer.isBuffer(request.body) ? request.body.toString('utf8') : '' };
          else if (entry.anyBody !== true)
            exchange.body = await readBody(request.body as Buffer | Readable | undefined, exchange, reads);
          // The rest of a body can come half a minute after its head.
          await exchange.stillAdmitted();
          if (exchange.body.kind === 'ndjson') patience.stream(request.raw, reply.raw);
          const answer = await entry.run(ctx, exchange);
          return isStream(answer.body) ? stream(reply, answer, answer.body) : send(reply, exchange, answer);
        },
      });
    }
  }
  return app;
}
