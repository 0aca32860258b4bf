/** The served document: sound as OpenAPI 3.1, complete for every operation, and true to what the two original APIs document. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { apiDocument } from '../src/app.ts';
import { stringifyJson } from '../src/platform/json.ts';
import { answerSchema, compiler, type Json, type Operation, operationsOf, validator } from './contract/document.ts';

// As it goes over the wire, where a bigint is a number like any other.
const document = JSON.parse(stringifyJson(apiDocument())) as Json;
const operations = operationsOf(document);
const ajv = compiler(document);
const each = operations.map((operation) => [operation.name, operation] as const);

function refsIn(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(refsIn);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => (key === '$ref' ? [inner as string] : refsIn(inner)));
}

/** What a JSON pointer names in the document; undefined when nothing is there. */
const resolve = (ref: string): unknown =>
  ref
    .replace(/^#\//, '')
    .split('/')
    .reduce<unknown>((value, part) => (value as Json | undefined)?.[part], document);

test('the document is OpenAPI 3.1 with the members it must have', () => {
  expect(document['openapi']).toBe('3.1.0');
  expect(document['info']).toMatchObject({ title: 'Assent', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  expect(Object.keys(document)).toEqual(['openapi', 'info', 'servers', 'tags', 'paths', 'components']);
  for (const path of Object.keys(document['paths'] as Json))
    expect(path).toMatch(/^\/([\w.-]+|\{\w+\})(\/([\w.-]+|\{\w+\}))*\/?$/);
  const tags = (document['tags'] as { name: string }[]).map(({ name }) => name);
  expect(new Set(tags).size).toBe(tags.length);
  expect([...new Set(operations.flatMap(({ raw }) => raw['tags'] as string[]))].sort()).toEqual([...tags].sort());
});

test('operationIds are unique and can be names of functions in a client', () => {
  const ids = operations.map(({ id }) => id);
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
  expect(ids.filter((id) => !/^[a-z][A-Za-z0-9]+$/.test(id))).toEqual([]);
});

test('every $ref resolves and every component is used', () => {
  const refs = refsIn(document);
  expect(refs.filter((ref) => resolve(ref) === undefined)).toEqual([]);
  const { schemas, parameters } = document['components'] as { schemas: Json; parameters: Json };
  const named = [
    ...Object.keys(schemas).map((name) => `#/components/schemas/${name}`),
    ...Object.keys(parameters).map((name) => `#/components/parameters/${name}`),
  ];
  expect(named.filter((name) => !refs.includes(name))).toEqual([]);
});

test('every schema of the components compiles as JSON Schema 2020-12', () => {
  for (const name of Object.keys((document['components'] as { schemas: Json }).schemas)) {
    expect(ajv.getSchema(`document#/$defs/${name}`), name).toBeTypeOf('function');
  }
});

test('security schemes that operations name are declared', () => {
  const declared = Object.keys((document['components'] as { securitySchemes: Json }).securitySchemes);
  const used = operations.flatMap(({ security }) => security.flatMap((item) => Object.keys(item)));
  expect([...new Set(used)].sort()).toEqual([...declared].sort());
  expect(operations.filter(({ security }) => security.length === 0).map(({ name }) => name)).toEqual([]);
});

test.each(each)('%s declares the parameters of its path, no more', (_name, { path, parameters }) => {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const declared = parameters.filter((parameter) => parameter['in'] === 'path');
  expect(declared.map(({ name }) => name)).toEqual(inPath);
  for (const parameter of declared)
    expect(parameter).toMatchObject({ required: true, schema: { type: expect.any(String) } });
  const names = parameters.map((parameter) => `${parameter['in']} ${parameter['name']}`);
  expect(new Set(names).size).toBe(names.length);
});

/** Statuses that follow from what an operation is: these the server can give whatever else the operation does. */
function expectedErrors({ method, path, dialect, security, throttled, raw }: Operation): string[] {
  const schemes = security.flatMap((item) => Object.keys(item));
  const unsafe = method !== 'GET';
  return [
    ...(unsafe || dialect !== 'akinon' ? ['400'] : []),
    ...(schemes.length > 0 ? ['401'] : []),
    ...((unsafe && schemes.includes('SessionCookie')) || schemes.includes('ApiKey') ? ['403'] : []),
    ...(path.includes('{') ? ['404'] : []),
    '405',
    '406',
    ...(unsafe ? ['413', '415'] : []),
    ...(raw['requestBody'] !== undefined && dialect === 'bakeronline' ? ['422'] : []),
    ...(throttled ? ['429'] : []),
    '503',
  ];
}

test.each(each)('%s documents a success and every error it can answer, each with an example', (_name, operation) => {
  const statuses = Object.keys(operation.responses);
  expect(statuses.filter((status) => status.startsWith('2')).length).toBeGreaterThan(0);
  expect(expectedErrors(operation).filter((status) => !statuses.includes(status))).toEqual([]);
  expect(statuses.filter((status) => status.startsWith('5') && status !== '503')).toEqual([]);
  for (const [status, response] of Object.entries(operation.responses)) {
    expect(response.description, status).not.toBe('');
    const content = Object.entries(response.content ?? {});
    if (Number(status) >= 400) {
      expect(content.map(([media]) => media)).toEqual([
        operation.dialect === 'akinon' ? 'application/json' : 'application/problem+json',
        // Clients of OAuth know no other type (RFC 6749, 5.2).
        ...(['/api/token', '/oauth/revoke'].includes(operation.path) ? ['application/json'] : []),
      ]);
    }
    for (const [media, { example }] of content) expect(example, `${status} ${media}`).toBeDefined();
  }
  expect(Object.keys(operation.responses['429']?.headers ?? { 'Retry-After': 1 })).toEqual(['Retry-After']);
});

test.each(each)('the examples of %s fit their schemas', (_name, operation) => {
  for (const [status, { content = {} }] of Object.entries(operation.responses)) {
    for (const [media, { example }] of Object.entries(content)) {
      const check = answerSchema(ajv, operation, status, media);
      expect(check(example) || check.errors, `${status}: ${JSON.stringify(example)}`).toBe(true);
      if (Number(status) >= 400 && media === 'application/problem+json')
        expect(example).toMatchObject({ status: Number(status) });
    }
  }
  for (const [media, { schema, example }] of Object.entries(operation.body?.content ?? {})) {
    if (example === undefined) continue;
    const check = validator(ajv, schema);
    expect(check(example) || check.errors, `${media}: ${JSON.stringify(example)}`).toBe(true);
  }
  if (operation.body !== undefined)
    expect(operation.body.content['application/json']?.example, 'a body has an example').toBeDefined();
});

// ---- What the originals document ----

interface Shape {
  readonly required: string[];
  readonly properties: Record<string, Json>;
}
interface SeedOperation {
  readonly operationId: string;
  readonly method: string;
  readonly path: string;
  readonly pathParameters?: Record<string, string>;
  readonly request?: { readonly required?: boolean; readonly media: string[]; readonly schema: Shape };
  readonly responses: Record<string, { readonly media: string[]; readonly schema: Shape } | null>;
}
const seeds = JSON.parse(
  readFileSync(new URL('contract/seed-operations.json', import.meta.url), 'utf8'),
) as SeedOperation[];

/** A schema with its references put in and without what only people read. */
function plain(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(plain);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { $ref } = schema as { $ref?: string };
  if ($ref !== undefined) return plain(resolve($ref));
  const told = (key: string, value: unknown): boolean =>
    (key === 'description' || key === 'title') && typeof value === 'string';
  return Object.fromEntries(
    Object.entries(schema).flatMap(([key, value]) => (told(key, value) ? [] : [[key, plain(value)]])),
  );
}

/** Where two schemas differ, as `place: seed → ours`. Open objects are the default and therefore no difference. */
function differences(seed: unknown, ours: unknown, place: string): string[] {
  const isObject = (value: unknown): value is Json =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (isObject(seed) && isObject(ours)) {
    return [...new Set([...Object.keys(seed), ...Object.keys(ours)])].flatMap((key) => {
      if (key === 'additionalProperties' && seed[key] !== false && ours[key] !== false) return [];
      return differences(seed[key], ours[key], place === '' ? key : `${place}.${key}`);
    });
  }
  const text = (value: unknown): string =>
    JSON.stringify(Array.isArray(value) && place.endsWith('required') ? [...value].sort() : value) ?? 'absent';
  return text(seed) === text(ours) ? [] : [`${place}: ${text(seed)} → ${text(ours)}`];
}

const gender = 'properties.gender.enum: ["male","female"] → ["male","female",null]';
/** The seed's `required` is that of an answer; PUT's required fields are a setting, PATCH has none. */
const partial = (operationId: string): string =>
  `required: ${JSON.stringify([...seeds.find((seed) => seed.operationId === operationId)!.request!.schema.required].sort())} → absent`;

/** Every difference there is, each by a decision. */
const decided: Record<string, { request?: string[]; answer?: string[] }> = {
  getProfile: { answer: [gender] },
  updateProfile: { request: [partial('updateProfile'), gender], answer: [gender] },
  partialUpdateProfile: { request: [partial('partialUpdateProfile'), gender], answer: [gender] },
  getProfileWithLoyalty: { answer: [gender] },
  updateProfileWithLoyalty: { request: [partial('updateProfileWithLoyalty'), gender], answer: [gender] },
  partialUpdateProfileWithLoyalty: { request: [partial('partialUpdateProfileWithLoyalty'), gender], answer: [gender] },
  // Bounds of what can be stored; the original names none.
  updateUserPermissions: {
    request: ['properties.uid.maxLength: absent → 128', 'properties.basket.minimum: absent → 1'],
  },
  // A misspelt permission must not look granted.
  updateUserPermission: {
    request: ['properties.permissions.additionalProperties: absent → false', 'additionalProperties: absent → false'],
  },
};

test('the document holds all operations of the originals', () => {
  expect(seeds.map(({ operationId }) => operationId)).toEqual(Object.keys(decided));
});

test.each(seeds.map((seed) => [seed.operationId, seed] as const))(
  '%s says what the original documents, nothing narrower, nothing wider',
  (id, seed) => {
    const operation = operations.find(
      (candidate) => candidate.path === seed.path && candidate.method === seed.method.toUpperCase(),
    );
    expect(operation?.id).toBe(id);
    const { body, responses, parameters } = operation!;

    for (const [name, type] of Object.entries(seed.pathParameters ?? {})) {
      expect(parameters.find((parameter) => parameter['name'] === name)).toMatchObject({
        in: 'path',
        schema: { type },
      });
    }
    expect(parameters.filter((parameter) => parameter['required'] === true && parameter['in'] !== 'path')).toEqual([]);

    expect(body === undefined).toBe(seed.request === undefined);
    if (seed.request !== undefined) {
      if (seed.request.required !== undefined) expect(body!.required).toBe(seed.request.required);
      expect(Object.keys(body!.content)).toEqual(expect.arrayContaining(seed.request.media));
      for (const media of Object.keys(body!.content)) {
        const { required, ...rest } = seed.request.schema;
        const seedSchema = { type: 'object', ...(required.length > 0 ? { required } : {}), ...rest };
        const ours = plain(body!.content[media]!.schema) as Json;
        expect(differences(seedSchema, ours, '').sort(), media).toEqual([...(decided[id]!.request ?? [])].sort());
      }
    }

    const successes = Object.keys(responses).filter((status) => Number(status) < 400);
    expect(successes).toEqual(Object.keys(seed.responses).filter((status) => Number(status) < 400));
    expect(Object.keys(responses)).toEqual(expect.arrayContaining(Object.keys(seed.responses)));
    for (const [status, answer] of Object.entries(seed.responses)) {
      if (Number(status) >= 400) continue;
      const content = responses[status]!.content;
      expect(Object.keys(content ?? {})).toEqual(answer?.media ?? []);
      if (answer === null) continue;
      const ours = plain(content!['application/json']!.schema) as Json;
      expect(differences({ type: 'object', ...answer.schema }, ours, '').sort(), status).toEqual(
        [...(decided[id]!.answer ?? [])].sort(),
      );
      expect(Object.keys(ours['properties'] as Json), 'in the same order').toEqual(
        Object.keys(answer.schema.properties),
      );
    }
  },
);
