/** Registration and passwords in BakerOnline's dialect: for the shop's own programs, which may see passwords. */
import { setTimeout } from 'node:timers/promises';
import { foldEmail } from '../accounts/accounts.ts';
import { anyone } from '../accounts/callers.ts';
import { password, RESET_MILLISECONDS } from '../accounts/routes.ts';
import { requestReset, resetPassword } from '../accounts/sign-in.ts';
import { bakerOnline } from '../platform/baker.ts';
import type { Body } from '../platform/body.ts';
import { char, email, type FieldKind, type FieldRule, integer, readFields } from '../platform/drf.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { Failure, fail } from '../platform/failure.ts';
import { empty, type Incoming, ok, type Route, route } from '../platform/http.ts';
import { problems } from '../platform/problem.ts';
import { throttle } from '../platform/throttle.ts';
import { phoneAmong } from '../profile/changes.ts';
import { changePasswordBy, registerBy } from './registrations.ts';
import { tokensAnswer } from './token-routes.ts';
import { askingClient, type Device } from './tokens.ts';

/** Policies somebody can accept at once. */
const POLICIES = 50;
const revision = integer(1n, BigInt(Number.MAX_SAFE_INTEGER));

/** `[4, 9]`; in a form `policies[]=4&policies[]=9`, or one alone. */
const revisions: FieldKind<number[]> = {
  schema: { type: 'array', items: revision.schema, maxItems: POLICIES },
  read(value, form) {
    const items = Array.isArray(value) ? value : form ? (value === '' ? [] : [value]) : undefined;
    if (items === undefined) return { problem: 'field.type', values: { type: 'array' } };
    if (items.length > POLICIES) return { problem: 'field.max_value', values: { max: POLICIES } };
    const numbers: number[] = [];
    for (const item of items) {
      const read = revision.read(item, form);
      if ('problem' in read) return read;
      numbers.push(Number(read.value));
    }
    return { value: numbers };
  },
};

const required = (name: string, kind: FieldKind<unknown>): FieldRule => ({ name, kind, required: true });
const client = required('client_id', char(100));
const device: readonly FieldRule[] = [
  { name: 'device_name', kind: char(512), nullable: true },
  { name: 'device_id', kind: char(512), nullable: true },
];
const otp: FieldRule = { name: 'otp', kind: char(40, { blank: true }), nullable: true };

const registration: readonly FieldRule[] = [
  client,
  ...device,
  required('username', email),
  required('password', password),
  required('firstname', char(50)),
  required('lastname', char(50)),
  { name: 'telephone', kind: char(60, { blank: true }), nullable: true },
  { name: 'policies', kind: revisions, nullable: true },
  { name: 'tin_nr', kind: char(50, { blank: true }), nullable: true },
];
const forgotten: readonly FieldRule[] = [client, ...device, required('username', email)];
const reset: readonly FieldRule[] = [required('token', char(200)), required('password', password)];
const change: readonly FieldRule[] = [
  required('grant_type', char(40)),
  client,
  ...device,
  required('username', char(254)),
  required('password', password),
  required('new_password', password),
  otp,
];

const bodyOf = (title: string, rules: readonly FieldRule[]): object => ({
  title,
  type: 'object',
  required: rules.filter((rule) => rule.required).map(({ name }) => name),
  properties: Object.fromEntries(
    rules.map(({ name, kind, nullable }) => [
      name,
      nullable ? { ...kind.schema, type: [kind.schema['type'], 'null'] } : kind.schema,
    ]),
  ),
});

/** What our own verbs call a field, in this dialect's word. */
const words: Readonly<Record<string, string>> = { email: 'username', phone: 'telephone' };

/** Does something whose complaints about fields are this dialect's: 422, and its names. */
async function unprocessable<T>(work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'invalid') throw error;
    const complaints = error.complaints.map(({ path: [first, ...rest], ...complaint }) => ({
      ...complaint,
      path: first === undefined ? [] : [words[first] ?? first, ...rest],
    }));
    throw new Failure('unprocessable', { complaints });
  }
}

type Values = Readonly<Record<string, unknown>>;
const read = (body: Body, rules: readonly FieldRule[]): Promise<Values> => unprocessable(() => readFields(body, rules));
/** A text that was given. */
const given = (value: unknown): string | undefined => (value == null || value === '' ? undefined : String(value));
const deviceOf = (values: Values, { headers }: Incoming): Device => ({
  device_id: given(values['device_id']),
  device_name: given(values['device_name']),
  user_agent: headers['user-agent'],
});

const common = { dialect: bakerOnline, who: anyone, tag: 'Tokens', method: 'POST' } as const;
const onDevice = { client_id: 'demo', device_name: 'Till 1', device_id: 'till-1' };

export const passwordRoutes: readonly Route[] = [
  route({
    ...common,
    path: '/api/register',
    throttle: 'register',
    operationId: 'registerWithTokens',
    summary: 'Make an account and get its tokens',
    description:
      'For clients of the shop’s own: first party, or with the password grant. `policies` are the revisions of the shop’s policies that the person accepted.',
    body: {
      required: true,
      schema: bodyOf('TokenRegistration', registration),
      example: {
        ...onDevice,
        username: 'lotte@example.com',
        password: 'a-good-password',
        firstname: 'Lotte',
        lastname: 'Peeters',
        telephone: '+32 475 00 00 00',
        policies: [4, 9],
      },
    },
    answers: { ...tokensAnswer, ...problems(400, 401, 413, 415, 422, 429) },
    async run(ctx, request) {
      const values = await read(request.body, registration);
      const tin = given(values['tin_nr']);
      return unprocessable(async () => {
        const phone = phoneAmong(ctx, { phone: values['telephone'] });
        const tokens = await registerBy(ctx, values['client_id'] as string, deviceOf(values, request), {
          email: values['username'] as string,
          password: values['password'] as string,
          first_name: values['firstname'] as string,
          last_name: values['lastname'] as string,
          language_code: request.language,
          ...(phone === undefined ? {} : { phone }),
          policies: (values['policies'] as number[] | null | undefined) ?? [],
          tin_nr: tin,
          evidence: evidenceOf(request),
        });
        return ok(tokens);
      });
    },
  }),
  route({
    ...common,
    path: '/api/forgot-password',
    throttle: 'login',
    operationId: 'forgotPassword',
    summary: 'Have a link mailed that resets a password',
    description: 'The answer is the same, and takes as long, whether or not the address has an account.',
    body: {
      required: true,
      schema: bodyOf('ForgotPassword', forgotten),
      example: { ...onDevice, username: 'usta@example.com' },
    },
    answers: { 200: { description: 'Taken' }, ...problems(400, 401, 413, 415, 422, 429) },
    async run(ctx, request) {
      const values = await read(request.body, forgotten);
      const address = values['username'] as string;
      await askingClient(ctx, values['client_id'] as string);
      await throttle(ctx, 'login', `reset:${foldEmail(address)}`);
      await Promise.all([requestReset(ctx, address), setTimeout(RESET_MILLISECONDS)]);
      return empty(200);
    },
  }),
  route({
    ...common,
    path: '/api/reset-password',
    throttle: 'login',
    operationId: 'resetPassword',
    summary: 'Set a new password with the token of a mailed link',
    description: 'Every sign-in of the account ends.',
    body: {
      required: true,
      schema: bodyOf('ResetPassword', reset),
      example: { token: '5f…', password: 'a-much-better-one' },
    },
    answers: { 200: { description: 'Set' }, ...problems(400, 413, 415, 422, 429) },
    async run(ctx, request) {
      const values = await read(request.body, reset);
      await unprocessable(() =>
        resetPassword(ctx, values['token'] as string, values['password'] as string, 'password'),
      );
      return empty(200);
    },
  }),
  route({
    ...common,
    path: '/api/change-password',
    throttle: 'token',
    operationId: 'changePasswordWithTokens',
    summary: 'Change a password and get new tokens',
    description:
      'For clients that have the password grant. Every other sign-in of the account ends. `otp` where the account has a second factor.',
    body: {
      required: true,
      schema: bodyOf('ChangePassword', change),
      example: {
        grant_type: 'password',
        ...onDevice,
        username: 'usta@example.com',
        password: 'demo-assent-2026',
        new_password: 'a-much-better-one',
      },
    },
    answers: { ...tokensAnswer, ...problems(400, 401, 413, 415, 422, 429) },
    async run(ctx, request) {
      const values = await read(request.body, change);
      const grant = values['grant_type'] as string;
      if (grant !== 'password') fail('unsupported_grant_type', { values: { grant } });
      const username = values['username'] as string;
      await throttle(ctx, 'token', `email:${foldEmail(username)}`);
      const asked = {
        client_id: values['client_id'] as string,
        username,
        password: values['password'] as string,
        otp: given(values['otp']),
        ...deviceOf(values, request),
      };
      return ok(await unprocessable(() => changePasswordBy(ctx, asked, values['new_password'] as string)));
    },
  }),
];
