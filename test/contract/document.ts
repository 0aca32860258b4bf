/** The OpenAPI document as tests read it: operations with their references put in, and compiled schemas. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

export type Json = Record<string, unknown>;

interface Media {
  readonly schema: unknown;
  readonly example?: unknown;
}

interface Response {
  readonly description: string;
  readonly headers?: Json;
  readonly content?: Record<string, Media>;
}

export interface Operation {
  /** `PATCH /users/profile/` */
  readonly name: string;
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly dialect: 'akinon' | 'bakeronline' | 'v1';
  readonly parameters: readonly Json[];
  readonly security: readonly Record<string, string[]>[];
  readonly throttled: boolean;
  readonly body: { readonly required: boolean; readonly content: Record<string, Media> } | undefined;
  readonly responses: Record<string, Response>;
  /** As it stands in the document. */
  readonly raw: Json;
}

const dialectOf = (path: string): Operation['dialect'] =>
  /^\/(v1|\.well-known)\//.test(path)
    ? 'v1'
    : /^\/(company|user|oauth|api)(\/|$)/.test(path)
      ? 'bakeronline'
      : 'akinon';

/** All operations, in the order of the document. */
export function operationsOf(document: Json): Operation[] {
  const { parameters: known } = document['components'] as { parameters: Record<string, Json> };
  return Object.entries(document['paths'] as Record<string, Record<string, Json>>).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, raw]): Operation => {
      const parameters = ((raw['parameters'] ?? []) as Json[]).map((parameter) => {
        const ref = parameter['$ref'] as string | undefined;
        return ref === undefined ? parameter : known[ref.split('/').at(-1)!]!;
      });
      return {
        name: `${method.toUpperCase()} ${path}`,
        id: raw['operationId'] as string,
        method: method.toUpperCase(),
        path,
        dialect: dialectOf(path),
        parameters,
        security: raw['security'] as Record<string, string[]>[],
        throttled: String(raw['description']).includes('Throttle scope:'),
        body: raw['requestBody'] as Operation['body'],
        responses: raw['responses'] as Record<string, Response>,
        raw,
      };
    }),
  );
}

/** A compiler that knows the document, so that `#/components/…` resolves. Strict: a keyword that means nothing is a mistake. */
export function compiler(document: Json): Ajv2020 {
  const ajv = new Ajv2020({
    strict: true,
    allowUnionTypes: true,
    strictRequired: true,
    allErrors: true,
    validateFormats: true,
  });
  ajv.addFormat('email', /^[^\s@]+@[^\s@]+$/);
  ajv.addFormat('date', /^\d{4}-\d{2}-\d{2}$/);
  ajv.addFormat('date-time', {
    validate: (text: string) =>
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) && !Number.isNaN(Date.parse(text)),
  });
  // Said to people and to form builders; any text fits.
  for (const format of ['binary', 'password']) ajv.addFormat(format, true);
  ajv.addSchema(
    { $id: 'document', $defs: absolute((document['components'] as Json)['schemas']) } as object,
    'document',
    true,
    false,
  );
  return ajv;
}

const absolute = (schema: unknown): unknown =>
  JSON.parse(JSON.stringify(schema).replaceAll('"#/components/schemas/', '"document#/$defs/')) as unknown;
const compiled = new WeakMap<object, ValidateFunction>();

/** Validates against a schema that stands in the document. */
export function validator(ajv: Ajv2020, schema: unknown): ValidateFunction {
  const known = compiled.get(schema as object);
  if (known !== undefined) return known;
  const made = ajv.compile(absolute(schema) as object);
  compiled.set(schema as object, made);
  return made;
}

/** Validates an answer of an operation. */
export const answerSchema = (ajv: Ajv2020, operation: Operation, status: string, media: string): ValidateFunction =>
  validator(ajv, operation.responses[status]!.content![media]!.schema);
