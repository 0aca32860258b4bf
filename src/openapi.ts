/** The OpenAPI 3.1 document, generated from the routes: what is served is what is described. */
import { readFileSync } from 'node:fs';
import { versions } from './platform/baker.ts';
import { refusals } from './platform/drf.ts';
import type { Answers, Route } from './platform/http.ts';
import { stringifyJson } from './platform/json.ts';
import { NDJSON } from './platform/ndjson.ts';
import { problems } from './platform/problem.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const media = {
  json: 'application/json',
  form: 'application/x-www-form-urlencoded',
  multipart: 'multipart/form-data',
  ndjson: NDJSON,
};

const ndjsonNote = `With \`Content-Type: ${NDJSON}\` any number of requests in one: one JSON object a line, each at most 64 KiB, answered by one line each in the same order. The answer is streamed while the lines come, so read it while you send. Of this type the schemas show one line. What fails in the middle is told by a last line \`{"error":…}\`, and the answer then ends without its end (a last chunk is missing): it must not be taken for whole.`;

/** The error answers of a dialect, in its shape. */
const errorsOf: Readonly<Record<string, (...statuses: number[]) => Answers>> = {
  akinon: refusals,
  bakeronline: problems,
  v1: problems,
};

/** Errors that follow from what a route is, so that no route has to remember them. */
function inherent({ method, path, dialect, who, throttle, body }: Route): number[] {
  const schemes = who.security.flatMap((item) => Object.keys(item));
  const unsafe = method !== 'GET';
  return [
    405,
    406,
    503,
    // Unknown query parameters (v1), unknown versions (BakerOnline), bodies that cannot be read.
    ...(unsafe || dialect.name !== 'akinon' ? [400] : []),
    ...(unsafe ? [413, 415] : []),
    ...(unsafe && body !== undefined && dialect.name === 'bakeronline' ? [422] : []),
    ...(schemes.length > 0 ? [401] : []),
    ...((unsafe && schemes.includes('SessionCookie')) || schemes.includes('ApiKey') ? [403] : []),
    ...(path.includes('{') ? [404] : []),
    ...(throttle !== undefined ? [429] : []),
  ];
}

type Json = Record<string, unknown>;

/** Schemas with a title become components, so that generated clients have names for them. */
function hoist(schema: unknown, components: Map<string, unknown>): unknown {
  if (Array.isArray(schema)) return schema.map((item) => hoist(item, components));
  if (typeof schema !== 'object' || schema === null) return schema;
  const plain = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, hoist(value, components)]));
  const title = plain['title'];
  if (typeof title !== 'string' || plain['type'] === undefined) return plain;
  const known = components.get(title);
  if (known !== undefined && stringifyJson(known) !== stringifyJson(plain))
    throw new Error(`two schemas are called ${title}`);
  components.set(title, plain);
  return { $ref: `#/components/schemas/${title}` };
}

function operation(route: Route, components: Map<string, unknown>): Json {
  const { who, method, dialect } = route;
  const session = who.security.some((item) => 'SessionCookie' in item);
  const parameters: Json[] = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: name === 'id' || name!.endsWith('_id') ? { type: 'integer', minimum: 1 } : { type: 'string' },
  }));
  for (const [name, { description, schema }] of Object.entries(route.query ?? {})) {
    parameters.push({ name, in: 'query', required: false, description, schema });
  }
  if (session && method !== 'GET') parameters.push({ $ref: '#/components/parameters/CSRFTokenHeader' });
  if (dialect.name === 'bakeronline') parameters.push({ $ref: '#/components/parameters/Version' });
  const answers = { ...errorsOf[dialect.name]?.(...inherent(route)), ...route.answers };
  const reads = route.reads ?? dialect.reads;
  return {
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    description: [
      route.description,
      reads.includes('ndjson') ? ndjsonNote : undefined,
      `Who may call: ${who.name}.`,
      ...(route.throttle === undefined ? [] : [`Throttle scope: \`${route.throttle}\`.`]),
    ]
      .filter((part) => part !== undefined)
      .join('\n\n'),
    security: who.security,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: route.body.required ?? false,
            content: Object.fromEntries(
              reads.map((kind) => [
                media[kind],
                kind === 'ndjson' && route.body!.line !== undefined
                  ? { ...route.body!.line, schema: hoist(route.body!.line.schema, components) }
                  : {
                      schema: hoist(route.body!.schema, components),
                      ...((kind === 'json' || kind === 'ndjson') && route.body!.example !== undefined
                        ? { example: route.body!.example }
                        : {}),
                    },
              ]),
            ),
          },
        }),
    responses: Object.fromEntries(
      Object.entries(answers).map(([status, { description, schema, example, media: type, also, line }]) => [
        status,
        {
          description,
          ...(status === '429' || status === '503'
            ? { headers: { 'Retry-After': { schema: { type: 'integer' }, description: 'Seconds' } } }
            : {}),
          ...(schema === undefined
            ? {}
            : {
                content: {
                  [type ?? 'application/json']: {
                    schema: hoist(schema, components),
                    ...(example === undefined ? {} : { example }),
                  },
                  ...also,
                  ...(status === '200' && reads.includes('ndjson')
                    ? {
                        [NDJSON]: {
                          schema: hoist(line?.schema ?? schema, components),
                          example: line === undefined ? example : line.example,
                        },
                      }
                    : {}),
                },
              }),
        },
      ]),
    ),
  };
}

/** @param routes all routes; pages and pictures are left out */
export function openapi(routes: readonly Route[]): Json {
  const components = new Map<string, unknown>();
  const paths: Record<string, Json> = {};
  for (const route of routes.filter(({ hidden }) => hidden !== true)) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation(route, components) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Assent',
      version,
      description:
        'Customer accounts, consent and staff permissions of a shop. Speaks the Akinon Users API, BakerOnline company permissions, and an API of its own.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(routes.filter(({ hidden }) => hidden !== true).map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        SessionCookie: { type: 'apiKey', in: 'header', name: 'Cookie', description: 'Session cookie: `sessionid=…`' },
        Token: {
          type: 'apiKey',
          in: 'header',
          name: 'Authorization',
          description: '`Token ` and the key of a sign-in',
        },
        Bearer: { type: 'http', scheme: 'bearer', description: 'Access token of `POST /api/token`' },
        ApiKey: { type: 'http', scheme: 'bearer', description: 'API key; its scopes say what it may do' },
      },
      parameters: {
        CSRFTokenHeader: {
          name: 'X-CSRFToken',
          in: 'header',
          required: false,
          description: 'Token of `GET /csrf_token/`; needed with a session cookie, not with a key or token',
          schema: { type: 'string' },
        },
        Version: {
          name: 'X-VERSION',
          in: 'header',
          required: false,
          description: 'Version of the BakerOnline API; 1.9.0 when absent',
          schema: { type: 'string', enum: versions },
        },
      },
      schemas: Object.fromEntries([...components].sort(([a], [b]) => (a < b ? -1 : 1))),
    },
  };
}
