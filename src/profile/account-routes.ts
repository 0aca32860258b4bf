/** Registration, the signed-in account, and the change of its e-mail address, in the Akinon dialect. */
import { createHash } from 'node:crypto';
import { customer, guest } from '../accounts/callers.ts';
import { hashPassword, passwordComplaints } from '../accounts/passwords.ts';
import { detailSchema, keySchema, password, signedInAnswer } from '../accounts/routes.ts';
import { channels, shownFlags } from '../consent/channels.ts';
import { MAX_BIGINT } from '../consent/routes.ts';
import { akinon, boolean, char, email, type FieldRule, integer, readFields, refusals } from '../platform/drf.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { refuse } from '../platform/failure.ts';
import { ok, type Route, route } from '../platform/http.ts';
import {
  flag,
  flagOrNull,
  object,
  text,
  textOrNull,
  time,
  timeOrNull,
  integer as wholeNumber,
} from '../platform/schema.ts';
import { flagsAmong, namedNotices, phoneAmong } from './changes.ts';
import { confirmEmail, requestEmailChange } from './email-change.ts';
import { register } from './registration.ts';

const rules: readonly FieldRule[] = [
  { name: 'email', kind: email, required: true },
  { name: 'password', kind: password },
  { name: 'password1', kind: password },
  { name: 'password2', kind: password },
  { name: 'first_name', kind: char(50, { blank: true }) },
  { name: 'last_name', kind: char(50, { blank: true }) },
  { name: 'phone', kind: char(60, { blank: true }), nullable: true },
  ...channels.map(({ flag }) => ({ name: flag, kind: boolean, nullable: true })),
  { name: 'basket', kind: integer(1n, MAX_BIGINT), nullable: true },
  { name: 'uid', kind: char(128), nullable: true },
];

const bodySchema = {
  title: 'Registration',
  type: 'object',
  required: ['email'],
  properties: Object.fromEntries(
    rules.map(({ name, kind, nullable }) => [
      name,
      nullable ? { ...kind.schema, type: [kind.schema['type'], 'null'] } : kind.schema,
    ]),
  ),
};

const common = { dialect: akinon, tag: 'Account' } as const;

const currentUser = object(
  {
    pk: wholeNumber,
    first_name: text,
    last_name: text,
    phone: textOrNull,
    email: text,
    email_allowed: flag,
    sms_allowed: flag,
    call_allowed: flagOrNull,
    attributes: { type: 'object', additionalProperties: true },
    hashed_email: text,
    date_joined: time,
    last_login: timeOrNull,
    gender: textOrNull,
    date_of_birth: textOrNull,
    is_email_verified: flag,
    // Known to Akinon's clients, not to Assent.
    segment: { type: 'null' },
    client_type: text,
    selected_address: { type: 'null' },
  },
  'CurrentUser',
);

export const accountProfileRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'POST',
    path: '/users/registration/',
    who: guest,
    throttle: 'register',
    operationId: 'register',
    summary: 'Sign up',
    description:
      'Makes an account and signs it in. `password`, or `password1` and `password2`. With `basket` and `uid`, the flags ticked at checkout become consents.',
    body: {
      required: true,
      schema: bodySchema,
      example: {
        email: 'deniz@example.com',
        password1: 'a-good-password',
        password2: 'a-good-password',
        first_name: 'Deniz',
        last_name: 'Kaya',
        email_allowed: true,
      },
    },
    answers: {
      201: {
        description: 'Signed up and in',
        schema: keySchema,
        example: { key: 'k5…', redirect_url: null },
      },
      ...refusals(400, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const values = readFields(request.body, rules);
      const field = values['password'] === undefined ? 'password1' : 'password';
      const chosen = values[field] as string | undefined;
      if (chosen === undefined) refuse({ path: [field], key: 'field.required' });
      if (field === 'password1' && values['password2'] !== chosen)
        refuse({ path: ['password2'], key: 'password.differ' });
      const complaints = passwordComplaints(ctx, field, chosen);
      if (complaints.length > 0) refuse(...complaints);
      const { basket, uid } = values;
      if ((basket == null) !== (uid == null))
        refuse({ path: [basket == null ? 'basket' : 'uid'], key: 'field.required' });
      const phone = phoneAmong(ctx, values);
      const hash = await hashPassword(chosen);
      const id = await register(ctx, {
        email: values['email'] as string,
        password: hash,
        first_name: (values['first_name'] as string | undefined) ?? '',
        last_name: (values['last_name'] as string | undefined) ?? '',
        language_code: request.language,
        ...(phone === undefined ? {} : { phone }),
        flags: flagsAmong(values),
        notices: await namedNotices(ctx, request),
        ...(basket == null ? {} : { basket: { basket: basket as bigint, uid: uid as string } }),
        evidence: evidenceOf(request),
      });
      // By proof: the address may have been invited, and the password taken from it, since the account was made.
      return signedInAnswer(ctx, request, { id, hash, secondFactor: false }, 201);
    },
  }),
  route({
    ...common,
    method: 'GET',
    path: '/current_user/',
    who: customer,
    operationId: 'getCurrentUser',
    summary: 'Who is signed in',
    answers: {
      200: {
        description: 'The account',
        schema: currentUser,
        example: {
          pk: 1042,
          first_name: 'Ada',
          last_name: 'Yılmaz',
          phone: '05321234567',
          email: 'ada@example.com',
          email_allowed: true,
          sms_allowed: false,
          call_allowed: null,
          attributes: {},
          hashed_email: 'b5fc85503bbd4d2a9bdbd9e2e2a1fb5a25d6fd4a4b1c8c2c1e0c1a4d9d5d4a58',
          date_joined: '2024-01-01T00:00:00.000000Z',
          last_login: '2026-11-21T08:00:00.000000Z',
          gender: 'female',
          date_of_birth: '1990-12-10',
          is_email_verified: false,
          segment: null,
          client_type: 'default',
          selected_address: null,
        },
      },
      ...refusals(401),
    },
    async run(_ctx, { actor: { account } }) {
      const { email_allowed, sms_allowed, call_allowed } = shownFlags(account.consents);
      return ok({
        pk: account.id,
        first_name: account.first_name,
        last_name: account.last_name,
        phone: account.phone,
        email: account.email,
        email_allowed,
        sms_allowed,
        call_allowed,
        attributes: account.attributes,
        hashed_email: createHash('sha256').update(account.email.toLowerCase()).digest('hex'),
        date_joined: account.date_joined.toISOString().replace('Z', '000Z'),
        last_login: account.last_login?.toISOString().replace('Z', '000Z') ?? null,
        gender: account.gender,
        date_of_birth: account.date_of_birth,
        is_email_verified: account.email_verified_at !== null,
        segment: null,
        client_type: 'default',
        selected_address: null,
      });
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/email-change/',
    who: customer,
    throttle: 'profile-update',
    operationId: 'requestEmailChange',
    summary: 'Ask for another e-mail address',
    description:
      'A link is mailed to the new address and a notice to the old one. Nothing changes before the link is used.',
    body: {
      required: true,
      schema: {
        title: 'EmailChange',
        type: 'object',
        required: ['email', 'password'],
        properties: { email: email.schema, password: password.schema },
      },
      example: { email: 'ada.yilmaz@example.com', password: 'demo-assent-2026' },
    },
    answers: {
      200: { description: 'Taken', schema: detailSchema, example: { detail: 'Confirmation e-mail sent.' } },
      ...refusals(400, 401, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const values = readFields(request.body, [
        { name: 'email', kind: email, required: true },
        { name: 'password', kind: password, required: true },
      ]);
      await requestEmailChange(ctx, request.actor.account, values['email'] as string, values['password'] as string);
      return ok({ detail: 'Confirmation e-mail sent.' });
    },
  }),
  route({
    ...common,
    method: 'POST',
    path: '/users/email-change/confirm/',
    who: guest,
    throttle: 'login',
    operationId: 'confirmEmailChange',
    summary: 'Confirm an e-mail address with the token of its mailed link',
    body: {
      required: true,
      schema: {
        title: 'EmailChangeConfirm',
        type: 'object',
        required: ['token'],
        properties: { token: { type: 'string' } },
      },
      example: { token: '5f…' },
    },
    answers: {
      200: {
        description: 'The address counts from now on',
        schema: detailSchema,
        example: { detail: 'E-mail address confirmed.' },
      },
      ...refusals(400, 403, 413, 415, 429),
    },
    async run(ctx, request) {
      const values = readFields(request.body, [{ name: 'token', kind: char(200), required: true }]);
      await confirmEmail(ctx, values['token'] as string, evidenceOf(request));
      return ok({ detail: 'E-mail address confirmed.' });
    },
  }),
];
