/** Errors where tokens are given: our problems, with the members that any OAuth client knows (RFC 6749, 5.2). */
import type { ErrorCode } from '../errors.ts';
import { bakerOnline } from '../platform/baker.ts';
import type { Failure } from '../platform/failure.ts';
import type { Answer, Answers, Dialect, Incoming } from '../platform/http.ts';
import { problem, problems } from '../platform/problem.ts';

/** What OAuth calls our errors; every other of the request is `invalid_request`. */
const names: Partial<Record<ErrorCode, string>> = {
  invalid_grant: 'invalid_grant',
  second_factor_needed: 'invalid_grant',
  second_factor_wrong: 'invalid_grant',
  invalid_client: 'invalid_client',
  unsupported_grant_type: 'unsupported_grant_type',
};

/** Busy and broken have no name there; these two are of the redirect (4.1.2.1) and understood. */
const nameOf = ({ code, status }: Failure): string =>
  names[code] ??
  (status === 429 || status === 503 ? 'temporarily_unavailable' : status >= 500 ? 'server_error' : 'invalid_request');

/** A text of the characters that are allowed there, in English for the program's log. */
const plain = (text: string): string => text.replaceAll(/["\\]/g, "'").replaceAll(/[^\x20-\x7e]/g, '?');

function refuse(failure: Failure, incoming: Incoming): Answer {
  const answer = problem(failure, incoming);
  const english = problem(failure, { ...incoming, language: 'en' });
  const { detail } = english.body as { detail: string };
  // Clients of OAuth ask for JSON, and take problem+json, which is JSON too, for something else (RFC 6749, 5.2).
  const type = /\bapplication\/json\b/i.test(incoming.headers['accept'] ?? '') ? bakerOnline.jsonType : undefined;
  return {
    ...answer,
    headers: { ...answer.headers, ...(type === undefined ? {} : { 'content-type': type }) },
    body: { ...(answer.body as object), error: nameOf(failure), error_description: plain(detail) },
  };
}

/** BakerOnline's dialect with these errors. */
export const tokenDialect: Dialect = {
  ...bakerOnline,
  headers(incoming) {
    const headers = bakerOnline.headers(incoming);
    return { ...headers, vary: `${headers['vary']}, Accept` };
  },
  refuse,
};

/** The error answers of such a route, for OpenAPI. */
export const oauthErrors = (...statuses: number[]): Answers =>
  Object.fromEntries(
    Object.entries(problems(...statuses)).map(([status, answer]) => {
      const {
        title: _title,
        properties,
        required,
        ...schema
      } = answer.schema as {
        title: string;
        properties: Record<string, object>;
        required: string[];
      };
      const example = {
        ...(answer.example as object),
        error: 'invalid_request',
        error_description: 'It is not right.',
      };
      const members = { error: { type: 'string' }, error_description: { type: 'string' } };
      return [
        status,
        {
          ...answer,
          // The same for clients that accept nothing but JSON.
          also: { 'application/json': { schema: { $ref: '#/components/schemas/OAuthProblem' }, example } },
          example,
          schema: {
            title: 'OAuthProblem',
            ...schema,
            required: [...required, ...Object.keys(members)],
            properties: { ...properties, ...members },
          },
        },
      ];
    }),
  );
