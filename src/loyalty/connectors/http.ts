/**
 * Any provider by template: an address with `{account}` in it, headers, and a map from their names to our fields. What we
 * send can be signed as Standard Webhooks (https://www.standardwebhooks.com) does, and what they send has to be.
 */
import Type, { type Static } from 'typebox';
import { fill, type HttpAnswer, jsonOf, signedHeaders } from '../../calls.ts';
import { type Attempt, connector, judge, type Member, type Shown } from './connector.ts';
import { headerName, headerValue, httpAddress, printable } from './patterns.ts';
import { mappable, mapped, shownBy } from './shown.ts';
import { readTold, standardWebhook } from './told.ts';

const schema = Type.Object(
  {
    connector: Type.Literal('http'),
    url: Type.String({
      maxLength: 1000,
      pattern: httpAddress('[^\\s{}#]*\\{account\\}[^\\s{}#]*'),
      description: 'Address of a member at the provider; `{account}` stands for the id of the account.',
    }),
    method: Type.Optional(
      Type.Enum(['PUT', 'POST', 'PATCH'], { description: 'How a member is made or changed: PUT.' }),
    ),
    headers: Type.Optional(
      Type.Record(Type.String({ pattern: headerName }), Type.String({ maxLength: 1000, pattern: headerValue }), {
        additionalProperties: false,
        description: 'Values may hold `{secret}`, and in changes `{key}` and `{sequence}`.',
      }),
    ),
    secret: Type.Optional(Type.String({ minLength: 1, maxLength: 1000, pattern: printable })),
    fields: Type.Record(
      Type.String({ pattern: '^[^.\\s]{1,100}(\\.[^.\\s]{1,100}){0,4}$' }),
      Type.String({ maxLength: 300, pattern: mappable }),
      {
        additionalProperties: false,
        minProperties: 1,
        description:
          'Their name (dots lead into objects) to our field: `first_name`, `consents.sms`, `attributes.club`; after `=` a constant.',
      },
    ),
    signing_secret: Type.Optional(Type.String({ minLength: 16, maxLength: 200, description: 'Signs what we send.' })),
    forget: Type.Optional(Type.Enum(['DELETE', 'none'], { description: 'How a member is forgotten: DELETE.' })),
    read: Type.Optional(Type.Enum(['GET', 'none'], { description: 'How a member is read, for comparing: GET.' })),
    incoming_secret: Type.Optional(
      Type.String({ minLength: 16, maxLength: 200, description: 'Signs what the provider sends us.' }),
    ),
  },
  { additionalProperties: false },
);
type Setting = Static<typeof schema>;

const urlOf = ({ url }: Setting, account: number): string => fill(url, { account: String(account) }, 'url');

/** The headers of the setting. What only a change has is left out where nothing is changed. */
function headersOf({ headers = {}, secret }: Setting, attempt: Attempt | undefined): Record<string, string> {
  const values = {
    ...(secret === undefined ? {} : { secret }),
    ...(attempt === undefined ? {} : { key: attempt.key, sequence: String(attempt.sequence) }),
  };
  return Object.fromEntries(
    Object.entries(headers)
      .filter(([, value]) => attempt !== undefined || !/\{(key|sequence)\}/.test(value))
      .map(([name, value]) => [name.toLowerCase(), fill(value, values, 'none')]),
  );
}

/** Every change says which one it is, so that the provider can drop what it has had or what is older. */
const changeHeaders = (setting: Setting, attempt: Attempt, body: string): Record<string, string> => ({
  ...headersOf(setting, attempt),
  'idempotency-key': attempt.key,
  'assent-sequence': String(attempt.sequence),
  ...(setting.signing_secret === undefined ? {} : signedHeaders(setting.signing_secret, attempt.key, attempt.at, body)),
});

type Tree = { [name: string]: unknown };
const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The body: each value where the dots of its name lead. Without prototypes, so that every name is a plain one. */
function bodyOf(setting: Setting, member: Member): string {
  const body = Object.create(null) as Tree;
  for (const [theirs, ours] of Object.entries(setting.fields)) {
    const path = theirs.split('.');
    let place = body;
    for (const step of path.slice(0, -1)) {
      if (!isTree(place[step])) place[step] = Object.create(null) as Tree;
      place = place[step] as Tree;
    }
    place[path.at(-1)!] = mapped(ours, member);
  }
  return JSON.stringify(body);
}

/** What stands at a dotted name of their answer. */
const foundAt = (answer: Tree, theirs: string): unknown =>
  theirs
    .split('.')
    .reduce<unknown>((place, step) => (isTree(place) && Object.hasOwn(place, step) ? place[step] : undefined), answer);

/** What their answer to GET shows. */
function known(setting: Setting, answer: HttpAnswer): { shown: Shown | null } | { again: string } {
  if (answer.status === 404 || answer.status === 410) return { shown: null };
  if (answer.status !== 200) return { again: `HTTP ${answer.status}` };
  const body = jsonOf(answer);
  if (!isTree(body)) return { again: 'the answer is no JSON object' };
  return { shown: shownBy(setting.fields, (theirs) => foundAt(body, theirs)) };
}

export const http = connector({
  label: 'HTTP: any provider by template',
  schema,
  secrets: ['secret', 'signing_secret', 'incoming_secret'],
  // A header may name the tenant.
  connection: ['url', 'headers'],
  shows: (setting, member) => shownBy(setting.fields, (_theirs, ours) => mapped(ours, member)),
  put(setting, member, attempt) {
    const body = bodyOf(setting, member);
    return {
      method: setting.method ?? 'PUT',
      url: urlOf(setting, member.id),
      headers: { 'content-type': 'application/json', ...changeHeaders(setting, attempt, body) },
      body,
    };
  },
  forget: (setting, account, attempt) =>
    setting.forget === 'none'
      ? null
      : { method: 'DELETE', url: urlOf(setting, account), headers: changeHeaders(setting, attempt, '') },
  judge,
  ask: (setting, account) =>
    setting.read === 'none'
      ? null
      : {
          method: 'GET',
          url: urlOf(setting, account),
          headers: { accept: 'application/json', ...headersOf(setting, undefined) },
        },
  known,
  take: ({ incoming_secret: secret }, incoming) => {
    if (secret === undefined) return null;
    const message = standardWebhook(secret, incoming);
    return message === undefined ? undefined : readTold(message, incoming);
  },
});
