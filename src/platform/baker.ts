/** The BakerOnline dialect: versions by X-VERSION, bearer tokens, JSON or form bodies, errors as problem+json (its own are not documented). */
import type Type from 'typebox';
import { acceptsJson } from './drf.ts';
import { Failure, fail } from './failure.ts';
import type { Dialect, Request } from './http.ts';
import { stringifyJson } from './json.ts';
import { checkSchema, problem } from './problem.ts';

export const versions = ['1.8.0', '1.9.0', '1.10.0'] as const;
/** The latest stable one on every documented page: what a request without the header gets. */
const defaultVersion = '1.9.0';

export const bakerOnline: Dialect = {
  name: 'bakeronline',
  jsonType: 'application/json; charset=utf-8',
  languages: ['en', 'nl', 'fr'],
  prefixes: ['/company', '/user', '/oauth', '/api'],
  reads: ['json', 'form'],
  describe: ({ allow }) => ({ status: 204, headers: { allow } }),
  accept(incoming) {
    if (!acceptsJson(incoming.headers['accept'])) throw new Failure('not_acceptable');
    const version = incoming.headers['x-version'];
    if (version !== undefined && !(versions as readonly string[]).includes(version.trim())) {
      fail('unknown_version', { values: { version: version.slice(0, 40), versions: versions.join(', ') } });
    }
  },
  headers(incoming) {
    const asked = incoming.headers['x-version']?.trim();
    return {
      'x-version': asked !== undefined && (versions as readonly string[]).includes(asked) ? asked : defaultVersion,
      vary: 'Accept-Language, Authorization, X-VERSION',
      'content-language': incoming.language,
      'cache-control': 'private, no-store',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'same-origin',
    };
  },
  refuse: problem,
  stringify: stringifyJson,
};

/** A body of texts, whatever its kind; keys it does not name are passed over. @throws unprocessable */
export function readTexts<S extends Type.TObject>({ body }: Request<object>, schema: S): Type.Static<S> {
  checkSchema(schema, body.value ?? {}, 'unprocessable');
  return body.value as Type.Static<S>;
}
