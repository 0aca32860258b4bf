/** `/users/profile/` and `/users/profile-with-loyalty/` of the Akinon Users API. */
import type { Account } from '../accounts/accounts.ts';
import { type Customer, customer } from '../accounts/callers.ts';
import { type PhoneNumber, readPhone } from '../accounts/phone-numbers.ts';
import { READ_COOKIE, readCookie } from '../accounts/read-cookie.ts';
import { consentVersion } from '../consent/channels.ts';
import { hasProvider, toldOf } from '../loyalty/told.ts';
import { pendingNumber, requestCode, submitCode } from '../phone/verification.ts';
import type { Ctx } from '../platform/ctx.ts';
import { akinon, boolean, char, type FieldRule, refusals } from '../platform/drf.ts';
import { refuse } from '../platform/failure.ts';
import { type Answer, empty, ok, type Request, type Route, route } from '../platform/http.ts';
import { throttle } from '../platform/throttle.ts';
import { explain, loyaltyBody, profileAnswer, profileBody, profileWithLoyaltyAnswer } from './answers.ts';
import { LOYALTY_KEY, readChange } from './changes.ts';
import { profileTag, showProfile } from './fields.ts';
import { changeProfile } from './profile.ts';

const AVATAR_BODY = 6 * 1024 * 1024;

/** Headers of an answer that shows the flags: the ETag, and the cookie that says which version of them was read. */
function versionHeaders(account: Account, request: Request<Customer>): Record<string, string> {
  const headers: Record<string, string> = { etag: profileTag(account) };
  const version = consentVersion(account.consents);
  // Only when it changed, so that reading costs clients nothing; a Token's holder keeps no cookies.
  if (request.actor.kind === 'cookie' && (request.cookies[READ_COOKIE] ?? consentVersion(null)) !== version)
    headers['set-cookie'] = readCookie(version, request.secure);
  return headers;
}

const shown = (ctx: Ctx, account: Account, request: Request<Customer>): Answer =>
  ok(showProfile(account, ctx.settings, request.origin), versionHeaders(account, request));

/** With what the provider told of the customer, where there is a provider and it told anything. */
async function shownWithLoyalty(ctx: Ctx, account: Account, request: Request<Customer>): Promise<Answer> {
  const told = hasProvider(ctx) ? await toldOf(ctx, account.id) : undefined;
  const attributes = told === undefined ? account.attributes : { ...account.attributes, [LOYALTY_KEY]: told };
  return ok(
    { ...showProfile({ ...account, attributes }, ctx.settings, request.origin), code: null, resend: false },
    versionHeaders(account, request),
  );
}

/** PUT and PATCH of the plain profile. */
async function update(ctx: Ctx, request: Request<Customer>): Promise<Answer> {
  const { change } = await readChange(ctx, request);
  if (
    change.phone != null &&
    change.phone.e164 !== request.actor.account.phone_e164 &&
    ctx.settings.get('PHONE_CHANGE_REQUIRES_CODE')
  ) {
    refuse({ path: ['phone'], key: 'phone.needs_code' });
  }
  return shown(ctx, await changeProfile(ctx, change), request);
}

/** `code` and `resend` belong to the wire, not to the profile. */
const dance: readonly FieldRule[] = [
  { name: 'code', kind: char(32, { blank: true }), nullable: true },
  { name: 'resend', kind: boolean },
];

/**
 * The number that a body with `code` or `resend` speaks of: the new one it names, else the one that is under way, else the
 * account's own as long as it is not proven. Undefined: there is nothing to prove, the update is an ordinary one.
 */
async function numberToProve(
  ctx: Ctx,
  account: Account,
  named: PhoneNumber | null | undefined,
  namesPhone: boolean,
): Promise<PhoneNumber | undefined> {
  if (named != null && named.e164 !== account.phone_e164) return named;
  const pending = await pendingNumber(ctx, account.id);
  if (!namesPhone && pending !== undefined) {
    // Asked for again, it is judged by the rules of today, as it is when the body names it.
    const read = readPhone(ctx.settings, pending.text);
    return 'problem' in read ? refuse({ path: ['phone'], key: read.problem }) : pending;
  }
  const { phone, phone_e164: e164 } = account;
  if (named === null || phone === null || e164 === null || account.phone_verified_at !== null) return undefined;
  // Another number is under way: a form that sends the present one along does not mean it. One that expired frees it.
  if (pending?.live && pending.e164 !== e164) return undefined;
  const read = readPhone(ctx.settings, phone);
  return { text: phone, e164, country: 'problem' in read ? undefined : read.country };
}

/**
 * PUT and PATCH with loyalty: a new number is saved, together with everything else in the body, only with its code. Without
 * one a code is sent and the answer is 202 without a body.
 */
async function updateWithLoyalty(ctx: Ctx, request: Request<Customer>): Promise<Answer> {
  const { account } = request.actor;
  const { change, rest, namesPhone } = await readChange(ctx, request, dance);
  const resend = rest['resend'] === true;
  const code = typeof rest['code'] === 'string' && rest['code'] !== '' ? rest['code'] : undefined;
  const phone =
    resend || code !== undefined ? await numberToProve(ctx, account, change.phone, namesPhone) : change.phone;
  if (phone == null || (phone.e164 === account.phone_e164 && code === undefined && !resend)) {
    return shownWithLoyalty(ctx, await changeProfile(ctx, change), request);
  }
  await throttle(ctx, 'otp', request.actor.caller);
  if (code === undefined || resend) {
    await requestCode(ctx, { account: account.id, phone, ip: request.ip, resend });
    return empty(202);
  }
  const proof = await submitCode(ctx, account.id, phone.e164, code);
  return shownWithLoyalty(ctx, await changeProfile(ctx, { ...change, phone, proof }), request);
}

const common = { dialect: akinon, who: customer, tag: 'Profile' } as const;
const saving = { ...common, throttle: 'profile-update', bodyLimit: AVATAR_BODY } as const;

export const profileRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/users/profile/',
    operationId: 'getProfile',
    summary: 'Read the profile',
    answers: { 200: profileAnswer('The profile'), ...refusals(401) },
    run: async (ctx, request) => shown(ctx, request.actor.account, request),
  }),
  route({
    ...saving,
    method: 'PUT',
    path: '/users/profile/',
    operationId: 'updateProfile',
    summary: 'Change the profile',
    description:
      'The fields that the setting USER_REQUIRED_FIELDS names must be present; other absent fields keep their values. Read-only and unknown keys are ignored.',
    body: profileBody,
    answers: { 200: profileAnswer('The profile as it is now'), ...refusals(400, 401, 403, 412, 413, 415, 429) },
    run: update,
  }),
  route({
    ...saving,
    method: 'PATCH',
    path: '/users/profile/',
    operationId: 'partialUpdateProfile',
    summary: 'Change parts of the profile',
    description: 'An absent field keeps its value, null clears it, a value sets it.',
    body: profileBody,
    answers: { 200: profileAnswer('The profile as it is now'), ...refusals(400, 401, 403, 412, 413, 415, 429) },
    run: update,
  }),
  route({
    ...common,
    method: 'GET',
    path: '/users/profile-with-loyalty/',
    operationId: 'getProfileWithLoyalty',
    summary: 'Read the profile with its loyalty part',
    answers: { 200: profileWithLoyaltyAnswer('The profile'), ...refusals(401) },
    run: async (ctx, request) => shownWithLoyalty(ctx, request.actor.account, request),
  }),
  route({
    ...saving,
    method: 'PUT',
    path: '/users/profile-with-loyalty/',
    operationId: 'updateProfileWithLoyalty',
    summary: 'Change the profile and prove a new phone number',
    description: `${explain} A loyalty connector, where one is configured, is told of committed changes.`,
    body: loyaltyBody,
    answers: {
      200: profileWithLoyaltyAnswer('The profile as it is now'),
      202: { description: 'A code was sent to the new number; nothing is saved yet' },
      ...refusals(400, 401, 403, 412, 413, 415, 429),
    },
    run: updateWithLoyalty,
  }),
  route({
    ...saving,
    method: 'PATCH',
    path: '/users/profile-with-loyalty/',
    operationId: 'partialUpdateProfileWithLoyalty',
    summary: 'Change parts of the profile and prove a new phone number',
    description: explain,
    body: loyaltyBody,
    answers: {
      200: profileWithLoyaltyAnswer('The profile as it is now'),
      202: { description: 'A code was sent to the new number; nothing is saved yet' },
      ...refusals(400, 401, 403, 412, 413, 415, 429),
    },
    run: updateWithLoyalty,
  }),
];
