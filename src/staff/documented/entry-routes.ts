/** BakerOnline's company permissions (v1.9.0): entries as those who manage them see them. Success is 200 always. */
import Type from 'typebox';
import { bearer, type Customer } from '../../accounts/callers.ts';
import { bakerOnline, readTexts } from '../../platform/baker.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { email as emailKind } from '../../platform/drf.ts';
import { Failure } from '../../platform/failure.ts';
import { type Answer, empty, ifMatch, ok, type Request, type Route, route } from '../../platform/http.ts';
import { changeReason, checkSchema, pathId, problems } from '../../platform/problem.ts';
import type { AskedChange, Wish } from '../entries/changes.ts';
import {
  type Asked,
  changeEntry,
  createEntry,
  entryTag,
  listEntries,
  type Outcome,
  previewEntry,
  readEntry,
} from '../entries/entries.ts';
import { DRY_RUN, previewOf } from '../entries/preview.ts';
import { unevenKeys } from '../entries/rights.ts';
import type { EntryView } from '../entries/state.ts';
import { permissionKeys } from '../permissions.ts';
import { authorOf, callerOf } from '../requests.ts';
import { booleans } from './company-routes.ts';

const userPermission = {
  title: 'UserPermission',
  type: 'object',
  required: ['shop_ids', 'permissions', 'id', 'user'],
  properties: {
    shop_ids: { type: 'array', items: { type: 'integer' }, description: 'Shops the colleague has access to' },
    permissions: booleans(permissionKeys),
    id: { type: 'integer', description: 'Id of the entry' },
    user: {
      type: 'object',
      required: ['id', 'email'],
      properties: { id: { type: 'integer' }, email: { type: 'string' } },
    },
  },
};

const example = {
  shop_ids: [11, 19],
  permissions: Object.fromEntries(permissionKeys.map((key) => [key, key === 'products'])),
  id: 17,
  user: { id: 1043, email: 'cirak@example.com' },
};

/** What is shown of an entry; one that is not made yet has no ids. */
interface Shown extends Pick<EntryView, 'shop_ids' | 'permissions' | 'email'> {
  readonly id: number | null;
  readonly account: number | null;
}

/** Keys in the documented order. */
const show = ({ shop_ids, permissions, id, account, email }: Shown): object => ({
  shop_ids,
  permissions: Object.fromEntries(permissionKeys.map((key) => [key, permissions.includes(key)])),
  id,
  user: { id: account, email },
});

/** An object; what each place holds is checked where the company is known, so that all complaints come at once. */
const changeSchema = Type.Object({});

const formBooleans: ReadonlyMap<unknown, boolean> = new Map([
  ['true', true],
  ['false', false],
  ['1', true],
  ['0', false],
]);

/** A form has only text: `1`, `0`, `true`, `false` become booleans, digits become numbers; what is neither stays and is refused. */
function fromForm(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { shop_ids, permissions, ...rest } = value as Record<string, unknown>;
  const number = (text: unknown): unknown =>
    typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : text;
  // `shop_ids=` or `shop_ids[]=` is how a form says "none".
  const list = shop_ids === '' ? [] : Array.isArray(shop_ids) ? shop_ids.filter((item) => item !== '') : shop_ids;
  return {
    ...rest,
    ...(shop_ids === undefined ? {} : { shop_ids: Array.isArray(list) ? list.map(number) : list }),
    ...(permissions === undefined
      ? {}
      : {
          permissions:
            typeof permissions === 'object' && permissions !== null && !Array.isArray(permissions)
              ? Object.fromEntries(
                  Object.entries(permissions).map(([key, text]) => [key, formBooleans.get(text) ?? text]),
                )
              : permissions,
        }),
  };
}

/** Body of a PATCH, of either kind; none is an empty change. @throws unprocessable */
function readChange({ body }: Request<object>): AskedChange {
  if (body.kind === 'none') return {};
  const value = body.kind === 'form' ? fromForm(body.value) : body.value;
  checkSchema(changeSchema, value, 'unprocessable');
  return value as AskedChange;
}

const text = Type.String({ minLength: 1, maxLength: 512 });
/** Rights that a client sends along would be given to nobody: better refused than lost. */
const withEmail = Type.Object({ email: text }, { additionalProperties: false });

const family = '/company/companies/{id}/permissions/users';
const common = { dialect: bakerOnline, who: bearer, tag: 'Company permissions' } as const;
const entryAnswer = { 200: { description: 'The entry', schema: userPermission, example } };
/** The answer that shows one entry. Where its shops differ, which the documented shape cannot say, a header does. */
function showOne(entry: EntryView): Answer {
  const uneven = unevenKeys(entry);
  return ok(show(entry), {
    etag: entryTag(entry),
    ...(uneven.length === 0 ? {} : { 'assent-uneven': uneven.join(', ') }),
  });
}

/** An entry that is not made yet: it would hold nothing. */
const nothingYet = (email: string): Shown => ({ shop_ids: [], permissions: [], id: null, account: null, email });

/** What a change would do. @param removal nothing would be left */
const preview = ({ before, after, changes, email }: Outcome, removal = false): object =>
  previewOf({ before: { ...before, email }, after: removal ? null : { ...after, email }, changes }, show);

/** What a request asks of an entry. */
function asked(ctx: Ctx, request: Request<Customer>, wish: Wish): Asked {
  const caller = callerOf(ctx, request.actor);
  return {
    caller,
    author: authorOf(caller, request, changeReason(request)),
    company: pathId(request.params, 'id'),
    entry: pathId(request.params, 'user_permission_id'),
    wish,
    ifMatch: ifMatch(request),
  };
}

export const documentedEntryRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: family,
    operationId: 'listUserPermissions',
    summary: 'List the entries of a company',
    answers: {
      200: { description: 'All entries', schema: { type: 'array', items: userPermission }, example: [example] },
      ...problems(400, 401, 403, 404),
    },
    run: async (ctx, request) =>
      ok((await listEntries(ctx, callerOf(ctx, request.actor), pathId(request.params, 'id'))).map(show)),
  }),
  route({
    ...common,
    method: 'POST',
    path: family,
    throttle: 'invite',
    previews: true,
    operationId: 'createUserPermission',
    summary: 'Give a colleague an entry',
    description:
      'A new entry holds nothing; an existing one is answered unchanged. An unknown address is invited by mail. ' +
      DRY_RUN,
    body: {
      required: true,
      schema: {
        title: 'UserPermissionCreate',
        type: 'object',
        required: ['email'],
        additionalProperties: false,
        properties: { email: { type: 'string', format: 'email' } },
      },
      example: { email: 'cirak@example.com' },
    },
    answers: { ...entryAnswer, ...problems(400, 401, 403, 404, 413, 415, 422, 429) },
    async run(ctx, request) {
      const reading = emailKind.read(readTexts(request, withEmail).email, false);
      if ('problem' in reading)
        throw new Failure('unprocessable', { complaints: [{ path: ['email'], key: reading.problem }] });
      const email = reading.value;
      const caller = callerOf(ctx, request.actor);
      const { entry, invited } = await createEntry(ctx, {
        caller,
        author: authorOf(caller, request, changeReason(request)),
        company: pathId(request.params, 'id'),
        email,
        language: request.language,
        dry: request.dryRun,
      });
      if (request.dryRun)
        return ok(previewOf({ before: entry, after: entry ?? nothingYet(email), changes: [], invited }, show));
      return showOne(entry!);
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: `${family}/{user_permission_id}`,
    operationId: 'readUserPermission',
    summary: 'Read an entry',
    answers: { ...entryAnswer, ...problems(400, 401, 403, 404) },
    async run(ctx, request) {
      const [company, entry] = [pathId(request.params, 'id'), pathId(request.params, 'user_permission_id')];
      return showOne(await readEntry(ctx, callerOf(ctx, request.actor), company, entry));
    },
  }),
  route({
    ...common,
    method: 'PATCH',
    path: `${family}/{user_permission_id}`,
    previews: true,
    operationId: 'updateUserPermission',
    summary: 'Update user permissions',
    description:
      'Permission keys merge, `shop_ids` replaces. Nobody grants or takes, for a shop, what they do not hold there; nobody raises themselves; the last manager stays. `If-Match` guards against the changes of others, `Assent-Change-Reason` goes to the history. ' +
      DRY_RUN,
    body: {
      required: true,
      schema: {
        title: 'UserPermissionUpdate',
        type: 'object',
        additionalProperties: false,
        properties: {
          shop_ids: { type: 'array', items: { type: 'integer' }, description: 'Shops the colleague has access to' },
          permissions: {
            type: 'object',
            additionalProperties: false,
            properties: Object.fromEntries(permissionKeys.map((key) => [key, { type: 'boolean' }])),
          },
        },
      },
      example: { shop_ids: [11, 19], permissions: { products: true, discounts: false } },
    },
    answers: { ...entryAnswer, ...problems(400, 401, 403, 404, 409, 412, 413, 415, 422) },
    async run(ctx, request) {
      const change = asked(ctx, request, { by: 'shape', change: readChange(request) });
      if (request.dryRun) return ok(preview(await previewEntry(ctx, change)));
      const { after, email } = await changeEntry(ctx, change);
      return showOne({ ...after, email });
    },
  }),
  route({
    ...common,
    method: 'DELETE',
    path: `${family}/{user_permission_id}`,
    previews: true,
    operationId: 'deleteUserPermission',
    summary: 'Remove an entry',
    answers: { 200: { description: 'Removed' }, ...problems(400, 401, 403, 404, 409, 412) },
    async run(ctx, request) {
      const removal = asked(ctx, request, { by: 'removal' });
      if (request.dryRun) return ok(preview(await previewEntry(ctx, removal), true));
      await changeEntry(ctx, removal);
      return empty(200);
    },
  }),
];
