/**
 * The HTTP server: routes are data, and a route says who may call it or it does not exist. Three dialects share it; what
 * differs between them (accepted types, error shapes, headers) is a `Dialect`.
 */
import fastifyCookie from '@fastify/cookie';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { TSchema } from 'typebox';
import type { Scope } from '../settings.ts';
import { type Body, readBody } from './body.ts';
import type { Ctx } from './ctx.ts';
import { Failure, fail } from './failure.ts';
import { chooseLanguage, type Language } from './language.ts';
import { allowanceHeaders, throttle } from './throttle.ts';

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
  /** Scheme and host as the client used them. */
  readonly origin: string;
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
  readonly [status: number]: { readonly description: string; readonly schema?: TSchema | object; readonly example?: unknown; readonly media?: string };
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
  /** Called once per answered request. */
  readonly observe?: (route: string, method: string, status: number, milliseconds: number) => void;
}

const MIB = 1024 * 1024;
const methods: readonly Method[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

interface State {
  incoming: Incoming;
  dialect: Dialect;
  actor?: Actor;
  started: number;
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
  await app.register(fastifyCookie);
  const states = new WeakMap<FastifyRequest, State>();

  const dialectOf = (path: string): Dialect =>
    dialects.find((dialect) => dialect.prefixes.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) ?? fallback;

  const begin = (request: FastifyRequest, reply: FastifyReply, dialect: Dialect): State => {
    const headers = request.headers as Record<string, string | undefined>;
    const incoming: Incoming = {
      id: request.id,
      method: request.method,
      path: request.url.split('?', 1)[0]!,
      params: request.params as Record<string, string>,
      query: request.query as Record<string, string | string[] | undefined>,
      headers,
      cookies: request.cookies ?? {},
      ip: request.ip,
      secure: request.protocol === 'https',
      get origin() {
        return `${request.protocol}://${request.host}`;
      },
      language: chooseLanguage(headers['accept-language'], dialect.languages, defaultLanguage(dialect)),
      setHeader: (name, value) => void reply.header(name, value),
    };
    const state = { incoming, dialect, started: performance.now() };
    states.set(request, state);
    reply.headers(dialect.headers(incoming));
    reply.header('x-request-id', request.id);
    return state;
  };

  const defaultLanguage = (dialect: Dialect): Language => {
    const set = ctx.settings.get('DEFAULT_LANGUAGE') as Language;
    return dialect.languages.includes(set) ? set : 'en';
  };

  const send = (reply: FastifyReply, dialect: Dialect, answer: Answer): FastifyReply => {
    reply.code(answer.status);
    if (answer.headers !== undefined) reply.headers(answer.headers);
    if (answer.body === undefined) return reply.header('content-length', '0').send();
    if (typeof answer.body === 'string' || Buffer.isBuffer(answer.body)) return reply.send(answer.body);
    if (!reply.hasHeader('content-type')) reply.header('content-type', dialect.jsonType);
    // Bytes, because the framework adds a charset to the type of a text.
    return reply.send(Buffer.from(dialect.stringify(answer.body)));
  };

  const toFailure = (error: unknown): Failure => {
    if (error instanceof Failure) return error;
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new Failure('too_large', { values: { limit: '1 MiB' } });
    if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH') return new Failure('malformed', { values: { detail: 'Content-Length' } });
    if (code === 'FST_ERR_BAD_URL' || code === 'FST_ERR_MAX_PARAM_LENGTH') return new Failure('not_found');
    return new Failure('internal', { cause: error });
  };

  const answerFailure = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const state = states.get(request) ?? begin(request, reply, dialectOf(request.url.split('?', 1)[0]!));
    const failure = toFailure(error);
    if (failure.status >= 500) {
      const cause = failure.cause ?? failure;
      const level = failure.code === 'internal' ? 'error' : 'warn';
      ctx.log[level]({ request: request.id, code: failure.code, err: cause }, 'request failed');
    }
    const answer = state.dialect.refuse(failure, state.incoming);
    return send(reply, state.dialect, { ...answer, headers: { ...failure.headers, ...answer.headers } });
  };

  app.setErrorHandler(answerFailure);
  app.setNotFoundHandler((request, reply) => answerFailure(new Failure('not_found'), request, reply));

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

  app.addHook('onResponse', async (request, reply) => {
    const state = states.get(request);
    const milliseconds = state === undefined ? 0 : performance.now() - state.started;
    const path = request.routeOptions.url ?? 'unknown';
    observe?.(path, request.method, reply.statusCode, milliseconds);
    ctx.log.info(
      { request: request.id, method: request.method, route: path, status: reply.statusCode, ms: Math.round(milliseconds * 10) / 10 },
      'request',
    );
  });

  const byPath = Map.groupBy(routes, (entry) => entry.path);
  for (const [path, entries] of byPath) {
    const allow = [...entries.map((entry) => entry.method), ...(entries.some((e) => e.method === 'GET') ? ['HEAD'] : []), 'OPTIONS'];
    const url = path.replaceAll(/\{(\w+)\}/g, ':$1');
    for (const method of [...methods, 'OPTIONS' as const]) {
      const entry = entries.find((candidate) => candidate.method === method);
      // A method without a route still answers in order: who is asking and how often comes before what it may do.
      const rule = entry ?? entries[0]!;
      if (rule.who === undefined) throw new Error(`${method} ${path} does not say who may call it`);
      const allowed = allow.join(', ');
      app.route({
        method,
        url,
        exposeHeadRoute: true,
        bodyLimit: entry?.bodyLimit ?? MIB,
        async onRequest(request, reply) {
          const state = begin(request, reply, rule.dialect);
          reply.header('allow', allowed);
          rule.dialect.accept(state.incoming);
          state.actor = await rule.who.admit(ctx, state.incoming);
          if (rule.throttle !== undefined) {
            const caller = state.actor.caller ?? `ip:${state.incoming.ip}`;
            const allowance = await throttle(ctx, rule.throttle, caller);
            if (allowance !== undefined) reply.headers(allowanceHeaders(allowance));
          }
          if (entry === undefined && method !== 'OPTIONS') fail('method_not_allowed', { values: { method } });
        },
        async handler(request, reply) {
          const { incoming, actor, dialect } = states.get(request)!;
          const reads = rule.reads ?? dialect.reads;
          if (entry === undefined) return send(reply, dialect, dialect.describe({ summary: rule.summary, allow: allowed, reads }));
          dialect.checkQuery?.(incoming.query, entry.query ?? {});
          const body = await readBody(request.body as Buffer | undefined, incoming, reads);
          // Assigned, not spread: spreading would run the getter of `origin` for every request.
          const full = Object.assign(Object.create(incoming) as Request<Actor>, { actor, body });
          return send(reply, dialect, await entry.run(ctx, full));
        },
      });
    }
  }
  return app;
}

/** 200 with a JSON body. */
export const ok = (body: unknown, headers: Record<string, string | string[]> = {}): Answer => ({ status: 200, body, headers });
/** A status without a body. */
export const empty = (status: number, headers: Record<string, string | string[]> = {}): Answer => ({ status, headers });
