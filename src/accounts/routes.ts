/** Signing in and out and passwords in the Akinon dialect (the shape of django-rest-auth, which its clients know). */
import { setTimeout } from 'node:timers/promises';
import type { Ctx } from '../platform/ctx.ts';
import { akinon, char, email, type FieldKind, readFields, refusals } from '../platform/drf.ts';
import { Failure, refuse } from '../platform/failure.ts';
import { type Answer, type Incoming, ok, type Route, route } from '../platform/http.ts';
import { object, text, textOrNull } from '../platform/schema.ts';
import { throttle } from '../platform/throttle.ts';
import { foldEmail } from './accounts.ts';
import { anyone, customer, guest } from './callers.ts';
import { csrfCookie, csrfPair } from './csrf.ts';
import { deviceCookie, knownDevice } from './known-devices.ts';
import { forgetReadCookie, READ_COOKIE } from './read-cookie.ts';
import { closeFamily } from './sessions.ts';
import {
  changePassword,
  checkCredentials,
  type Opened,
  type Proof,
  requestReset,
  resetPassword,
  signInBy,
  startSession,
} from './sign-in.ts';

/** A password as it is: never trimmed, and bounded, because hashing a megabyte is an attack. */
export const password: FieldKind<string> = {
  schema: { type: 'string', minLength: 1, maxLength: 128, format: 'password' },
  read(value) {
    if (typeof value !== 'string') return { problem: 'field.string' };
    if (value === '') return { problem: 'field.blank' };
    return value.length > 128 ? { problem: 'field.max_length', values: { max: 128 } } : { value };
  },
};

/** A code of the second factor; the longest is a recovery code in groups. */
const otp = char(40, { blank: true });

/** Longer than writing a link takes (3 ms here). */
export const RESET_MILLISECONDS = 50;

export const keySchema = object({ key: text, redirect_url: textOrNull }, 'Key');
export const detailSchema = object({ detail: text }, 'Detail');
const common = { dialect: akinon, tag: 'Sign-in' } as const;

/** The cookies of a new sign-in: for session and CSRF, both new, and the one by which the browser is known from now on. */
export function sessionCookies(ctx: Ctx, incoming: Incoming, { cookie, holder }: Omit<Opened, 'token'>): string[] {
  const age = ctx.settings.get('SESSION_AGE');
  const secure = incoming.secure ? '; Secure' : '';
  const expires = new Date(ctx.clock.now().getTime() + age * 1000).toUTCString();
  return [
    `${ctx.settings.get('SESSION_COOKIE_NAME')}=${cookie}; expires=${expires}; HttpOnly; Max-Age=${age}; Path=/; SameSite=Lax${secure}`,
    csrfCookie(csrfPair(undefined).cookie, incoming.secure),
    ...(incoming.cookies[READ_COOKIE] === undefined ? [] : [forgetReadCookie]),
    ...deviceCookie(ctx, incoming, holder),
  ];
}

/**
 * Counts a sign-in by address as well, so that many clients together guess no faster than one; of a browser known to the
 * account by that browser, because many clients together are no reason to keep it out. Once its own count is full it is
 * a client like any other.
 * @throws throttled
 */
export async function throttleSignIn(ctx: Ctx, email: string, device: string | undefined): Promise<void> {
  if (device !== undefined) {
    try {
      await throttle(ctx, 'login', `device:${device}`);
      return;
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'throttled')) throw error;
    }
  }
  await throttle(ctx, 'login', `email:${foldEmail(email)}`);
}

/**
 * The answer that signs somebody in: the key for the body, and the cookies.
 * @param proof of the password, which may be taken away while it is being looked at
 */
export async function signedInAnswer(ctx: Ctx, incoming: Incoming, proof: Proof, status: number): Promise<Answer> {
  const agent = incoming.headers['user-agent'];
  const opened = await signInBy(ctx, proof, (tx) => startSession(tx, proof.id, agent));
  return {
    status,
    body: { key: opened.token, redirect_url: null },
    headers: { 'set-cookie': sessionCookies(ctx, incoming, opened) },
  };
}

/** Takes both session cookies back. */
export const gone = ['sessionid', 'osessionid'].map(
  (name) => `${name}=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`,
);

export const accountRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/csrf_token/',
    who: anyone,
    operationId: 'getCsrfToken',
    summary: 'Get a CSRF token',
    description:
      'Send the token in `X-CSRFToken` and as the `csrftoken` cookie with every unsafe request of a session.',
    answers: {
      200: {
        description: 'The token',
        schema: object({ csrf_token: text }, 'CsrfToken'),
        example: { csrf_token: 'Hn3…' },
      },
    },
    async run(_ctx, request) {
      const { cookie, token } = csrfPair(request.cookies['csrftoken']);
      return ok({ csrf_token: token }, { 'set-cookie': csrfCookie(cookie, request.secure) });
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/login/',
    who: guest,
    throttle: 'login',
    operationId: 'login',
    summary: 'Sign in',
    description:
      'An account with a second factor needs `otp` too: the code of its authenticator app, or a recovery code. Without one, or with a wrong one, the answer to a right password is 400 with the text under `otp`.',
    body: {
      required: true,
      schema: {
        title: 'Login',
        type: 'object',
        required: ['email', 'password'],
        properties: { email: email.schema, password: password.schema, otp: otp.schema },
      },
      example: { email: 'ada@example.com', password: 'demo-assent-2026' },
    },
    answers: {
      200: {
        description: 'Signed in: a session cookie and a key for `Authorization: Token`',
        schema: keySchema,
        example: { key: 'k5…', redirect_url: null },
      },
      ...refusals(400, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const values = readFields(request.body, [
        { name: 'email', kind: email, required: true },
        { name: 'password', kind: password, required: true },
        { name: 'otp', kind: otp, nullable: true },
      ]);
      const address = values['email'] as string;
      const device = await knownDevice(ctx, request, address);
      await throttleSignIn(ctx, address, device);
      const code = (values['otp'] as string | null | undefined) ?? undefined;
      const proof = await checkCredentials(ctx, address, values['password'] as string, { code, device });
      const answer = await signedInAnswer(ctx, request, proof, 200);
      // A new sign-in never continues an old one: its key is new, and the old session of this browser ends.
      if (request.actor.signedIn !== undefined) await closeFamily(ctx, request.actor.signedIn.family);
      return answer;
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/logout/',
    who: guest,
    operationId: 'logout',
    summary: 'Sign out',
    answers: {
      200: { description: 'Signed out', schema: detailSchema, example: { detail: 'Successfully logged out.' } },
      ...refusals(403, 415),
    },
    async run(ctx, request) {
      if (request.actor.signedIn !== undefined) await closeFamily(ctx, request.actor.signedIn.family);
      return ok({ detail: 'Successfully logged out.' }, { 'set-cookie': gone });
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/password/change/',
    who: customer,
    throttle: 'profile-update',
    operationId: 'changePassword',
    summary: 'Change the password',
    description: 'Every other sign-in of the account ends; this one gets a new key.',
    body: {
      required: true,
      schema: object(
        { old_password: password.schema, new_password1: password.schema, new_password2: password.schema },
        'PasswordChange',
      ),
      example: {
        old_password: 'demo-assent-2026',
        new_password1: 'a-much-better-one',
        new_password2: 'a-much-better-one',
      },
    },
    answers: {
      200: { description: 'Changed; a new key', schema: keySchema, example: { key: 'k5…', redirect_url: null } },
      ...refusals(400, 401, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const { next, old } = readPasswords(request.body, true);
      const { account, family } = request.actor;
      const change = { ...(old === undefined ? {} : { old }), next, field: 'new_password2', family };
      const hash = await changePassword(ctx, account.id, change);
      // The sign-in that asked was open still, so has shown the second factor; and without one nobody switches it on.
      return signedInAnswer(ctx, request, { id: account.id, hash, secondFactor: true }, 200);
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/password/reset/',
    who: guest,
    throttle: 'login',
    operationId: 'requestPasswordReset',
    summary: 'Ask for a password reset link by mail',
    description: 'The answer is the same whether or not the address has an account.',
    body: {
      required: true,
      schema: object({ email: email.schema }, 'PasswordReset'),
      example: { email: 'ada@example.com' },
    },
    answers: {
      200: { description: 'Taken', schema: detailSchema, example: { detail: 'Password reset e-mail has been sent.' } },
      ...refusals(400, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const values = readFields(request.body, [{ name: 'email', kind: email, required: true }]);
      const address = values['email'] as string;
      await throttle(ctx, 'login', `reset:${foldEmail(address)}`);
      // The answer takes its time either way: whether a mail is written must not show in it.
      await Promise.all([requestReset(ctx, address), setTimeout(RESET_MILLISECONDS)]);
      return ok({ detail: 'Password reset e-mail has been sent.' });
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/password/reset/confirm/',
    who: guest,
    throttle: 'login',
    operationId: 'confirmPasswordReset',
    summary: 'Set a new password with the token of a mailed link',
    body: {
      required: true,
      schema: {
        title: 'PasswordResetConfirm',
        type: 'object',
        // `uid` is what clients of django-rest-auth send along; the token alone says whose it is.
        required: ['token', 'new_password1', 'new_password2'],
        properties: { uid: text, token: text, new_password1: password.schema, new_password2: password.schema },
      },
      example: { uid: '1042', token: '5f…', new_password1: 'a-much-better-one', new_password2: 'a-much-better-one' },
    },
    answers: {
      200: {
        description: 'Set; every sign-in of the account has ended',
        schema: detailSchema,
        example: { detail: 'Password has been reset with the new password.' },
      },
      ...refusals(400, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const { next, token } = readPasswords(request.body, false);
      const holder = await resetPassword(ctx, token!, next, 'new_password2');
      // Known already, so that strangers who go on guessing do not keep them from signing in with it.
      const cookies = deviceCookie(ctx, request, holder);
      return ok({ detail: 'Password has been reset with the new password.' }, { 'set-cookie': cookies });
    },
  }),
];

/** The two new passwords and what entitles to set them. */
function readPasswords(
  body: Parameters<typeof readFields>[0],
  change: boolean,
): { next: string; old?: string; token?: string } {
  const values = readFields(body, [
    change
      ? { name: 'old_password', kind: password, required: true }
      : { name: 'token', kind: char(200), required: true },
    { name: 'new_password1', kind: password, required: true },
    { name: 'new_password2', kind: password, required: true },
  ]) as { old_password?: string; token?: string; new_password1: string; new_password2: string };
  if (values.new_password1 !== values.new_password2) refuse({ path: ['new_password2'], key: 'password.differ' });
  return {
    next: values.new_password2,
    ...(values.old_password === undefined ? {} : { old: values.old_password }),
    ...(values.token === undefined ? {} : { token: values.token }),
  };
}
