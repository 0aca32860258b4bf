/** Proofs over HTTP: of an account, of an address, and the key they are signed with. */
import { anyone, type Operator, operator } from '../../accounts/callers.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { refuse } from '../../platform/failure.ts';
import type { Answer, Dialect, Request, Route } from '../../platform/http.ts';
import { ok, route } from '../../platform/http.ts';
import type { Language } from '../../platform/language.ts';
import { own, pathId, problems, queryText } from '../../platform/problem.ts';
import { readRecipient } from '../recipients.ts';
import { type ProofFile, proveAccount, proveAddress } from './build.ts';
import { keyExample, proofExample } from './example.ts';
import { describeKey, keySchema, proofSchema } from './file.ts';
import { pagePolicy } from './page.ts';

/** The weight that an Accept header gives this very type; 0 when it does not name it. */
const weightOf = (accept: string, type: string): number =>
  Math.max(
    0,
    ...accept.split(',').map((part) => {
      const [name, ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase());
      const weight = Number(parameters.find((piece) => piece.startsWith('q='))?.slice(2) ?? 1);
      return name === type && weight > 0 ? weight : 0;
    }),
  );

/** A browser names HTML first; a program that names nothing, or JSON, gets JSON. */
const wantsPage = (accept = ''): boolean => weightOf(accept, 'text/html') > weightOf(accept, 'application/json');

/** Our own dialect, which for once also answers people. */
const proofs: Dialect = {
  ...own,
  accept: (incoming, reads) => {
    if (!wantsPage(incoming.headers['accept'])) own.accept(incoming, reads);
  },
};

/** The page in the reader's language, when that is what was asked for. */
function pageLanguage({ query, headers, language }: Request<Operator>): Language | undefined {
  const format = queryText(query, 'format', ['json', 'html']);
  return format === 'html' || (format === undefined && wantsPage(headers['accept'])) ? language : undefined;
}

function handOver(page: boolean, { name, body }: ProofFile): Answer {
  return {
    status: 200,
    body,
    headers: {
      'content-type': page ? 'text/html; charset=utf-8' : 'application/json',
      'content-disposition': `attachment; filename="${name}"`,
      vary: 'Accept, Accept-Language, Authorization, Cookie',
      ...(page ? { 'content-security-policy': pagePolicy } : {}),
    },
  };
}

/** Every look is recorded: who looked, at whom; never an address. */
const noteLook = (ctx: Ctx, { actor, id }: Request<Operator>, file: ProofFile): void =>
  ctx.log.info({ request: id, caller: actor.name, file: file.name }, 'proof handed out');

const common = {
  method: 'GET',
  dialect: proofs,
  who: operator('consents'),
  tag: 'Ledger',
} as const;
const format = {
  description:
    '`html`: a page to read and print, with the same document in it. Absent: what `Accept` asks for, else `json`',
  schema: { type: 'string', enum: ['json', 'html'] },
};
const answers = {
  200: {
    description: 'The proof, as a file to keep; `assent ledger verify FILE` checks it anywhere',
    schema: proofSchema,
    example: proofExample,
    also: { 'text/html': { schema: { type: 'string' }, example: '<!doctype html>…' } },
  },
  ...problems(400, 401, 403, 404),
};
const description =
  'Every line with the evidence that is still there, the texts that were shown, the seals with the path from each line to its root, and a signature over all of it. Of what somebody else said about the same address only the outline is shown.';

export const proofRoutes: readonly Route[] = [
  route({
    ...common,
    path: '/v1/accounts/{id}/proof',
    operationId: 'proveAccount',
    summary: 'The proof of an account: everything it said, and everything said about the addresses it holds',
    description,
    query: { format },
    answers,
    async run(ctx, request) {
      const page = pageLanguage(request);
      const file = await proveAccount(ctx, pathId(request.params, 'id'), page);
      noteLook(ctx, request, file);
      return handOver(page !== undefined, file);
    },
  }),
  route({
    ...common,
    path: '/v1/consents/proof',
    operationId: 'proveAddress',
    summary: 'The proof of an address: everything said about it, by guests too',
    description: `${description} An address that was erased still has its lines, without evidence.`,
    query: {
      recipient: { description: 'Phone number in E.164, or e-mail address; needed', schema: { type: 'string' } },
      format,
    },
    answers,
    async run(ctx, request) {
      const page = pageLanguage(request);
      const text = queryText(request.query, 'recipient');
      if (text === undefined) refuse({ path: ['recipient'], key: 'field.required' });
      // A plus that nobody encoded arrives as a space.
      const recipient = readRecipient(ctx.settings, text.replace(/^ /, '+'));
      if ('problem' in recipient) refuse({ path: ['recipient'], key: recipient.problem });
      const file = await proveAddress(ctx, recipient, page);
      noteLook(ctx, request, file);
      return handOver(page !== undefined, file);
    },
  }),
  route({
    method: 'GET',
    path: '/v1/ledger/key',
    dialect: own,
    who: anyone,
    tag: 'Ledger',
    operationId: 'getLedgerKey',
    summary: 'The public key of seals and proofs',
    description: 'Whoever was handed a proof compares its key with this one.',
    answers: {
      200: { description: 'The key, and the SHA-256 of its DER', schema: keySchema, example: keyExample },
      ...problems(400),
    },
    run: async (ctx) => ok(describeKey(ctx.keys.sealing.public)),
  }),
];
