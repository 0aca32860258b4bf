/** What a route is: who may call it, what it reads, what it answers. `server.ts` serves them. */
import type { TSchema } from 'typebox';
import type { Scope } from '../settings.ts';
import type { Body, Kind } from './body.ts';
import type { Ctx } from './ctx.ts';
import type { Failure } from './failure.ts';
import type { Language } from './language.ts';

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
  /** Asked what would happen, by `Assent-Dry-Run: 1`. */
  readonly dryRun: boolean;
  /**
   * Asks once more whether the caller may be here, when that was last asked a while ago: whoever is slow to send may have
   * been signed out or switched off since. @throws as `Who.admit`
   */
  stillAdmitted(): Promise<void>;
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
  /** An object is sent as JSON, a string or Buffer as it is, pieces while they are made (NDJSON), absent: no body, no type. */
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
  readonly reads: readonly Kind[];
  /** What it answers for OPTIONS on a known path. */
  describe(route: { summary: string; allow: string; reads: readonly string[] }): Answer;
  /** Throws not_acceptable when the client wants no type of a route that reads these. */
  accept(incoming: Incoming, reads: readonly Kind[]): void;
  /** Headers of every answer. */
  headers(incoming: Incoming): Record<string, string>;
  /** The answer that says what went wrong. */
  refuse(failure: Failure, incoming: Incoming): Answer;
  /** Refuses query parameters that the route does not know; absent: they are passed over. */
  checkQuery?(query: Incoming['query'], known: NonNullable<Route['query']>): void;
  /** The value as it goes on the wire. */
  stringify(value: unknown): string;
}

interface Documented {
  readonly schema: TSchema | object;
  readonly example: unknown;
}

/** Documentation of one answer of a route, for OpenAPI. */
export interface Answers {
  readonly [status: number]: {
    readonly description: string;
    readonly schema?: TSchema | object;
    readonly example?: unknown;
    readonly media?: string;
    /** Other types the same answer comes in, where the client asks for them. */
    readonly also?: Readonly<Record<string, Documented>>;
    /** A line of the answer to NDJSON, where it is another than `schema`. */
    readonly line?: Documented;
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
  readonly body?: {
    readonly schema: object;
    readonly example?: unknown;
    readonly required?: boolean;
    /** A line of NDJSON, where it is another than `schema`. */
    readonly line?: Documented;
  };
  readonly answers: Answers;
  /** Types of bodies, where they are fewer or more than the dialect's. */
  readonly reads?: Dialect['reads'];
  /** Whatever is in a body, of whatever type, is taken and not looked at: the request alone says everything. */
  readonly anyBody?: true;
  /** The body is handed on as it was sent, of whatever type, as text: a signature is over it. */
  readonly rawBody?: true;
  /** Largest body in bytes; 1 MiB when absent. */
  readonly bodyLimit?: number;
  /** Knows `Assent-Dry-Run`. Where a call that changes things does not, the header is refused: nobody takes the real thing for a preview. */
  readonly previews?: true;
  /** Left out of /openapi.json: pages and pictures. */
  readonly hidden?: boolean;
  run(ctx: Ctx, request: Request<A>): Promise<Answer>;
}

/** Lets TypeScript carry the actor's type from `who` to `run`. */
export const route = <A extends Actor>(definition: Route<A>): Route => definition as unknown as Route;

/** 200 with a JSON body. */
export const ok = (body: unknown, headers: Record<string, string | string[]> = {}): Answer => ({
  status: 200,
  body,
  headers,
});
/** A status without a body. */
export const empty = (status: number, headers: Record<string, string | string[]> = {}): Answer => ({ status, headers });

/** ETags of an If-Match header; undefined without one. */
export function ifMatch(incoming: Incoming): string[] | undefined {
  const header = incoming.headers['if-match'];
  // Weak tags never match (RFC 9110, 13.1.1): left as they are, they equal none of ours.
  return header?.split(',').map((tag) => tag.trim());
}
