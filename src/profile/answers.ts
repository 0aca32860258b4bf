/** What the profile's routes say of themselves in /openapi.json: schemas from the catalogue, examples of a whole profile. */
import type { Answers, Route } from '../platform/http.ts';
import { profileFields } from './fields.ts';

/** The seed leaves these three out of its `required` list. */
const optional = new Set(['avatar', 'date_of_birth', 'genders']);
const properties = Object.fromEntries(profileFields.map(({ name, schema }) => [name, schema]));
const required = profileFields.map(({ name }) => name).filter((name) => !optional.has(name));

const example = {
  id: 1042,
  first_name: 'Ada',
  last_name: 'Yılmaz',
  email_allowed: true,
  sms_allowed: false,
  whatsapp_allowed: false,
  call_allowed: null,
  avatar: null,
  email: 'ada@example.com',
  phone: '05321234567',
  date_of_birth: '1990-12-10',
  gender: 'female',
  genders: ['male', 'female'],
  language_code: 'tr',
  attributes: { newsletter_frequency: 'weekly' },
  date_joined: '2024-01-01T00:00:00.000000Z',
};

const danceProperties = {
  code: { type: ['string', 'null'], description: 'Code that was sent to the new number' },
  resend: { type: 'boolean', description: 'Asks for a new code' },
};

const part = { card_number: 'L-7730', tier: 'Gold', points: 1250 };
/** No schema of the part: what a shop has stored under its name is shown where the provider told nothing. */
const withLoyalty = {
  ...properties['attributes'],
  description:
    'While a loyalty provider is configured and has told of the customer, `loyalty` in it is what it told: `card_number`, `tier` and `points`, each null when unknown. A value sent for `loyalty` is then passed over.',
};

/** The profile as an answer. */
export const profileAnswer = (description: string): Answers[number] => ({
  description,
  schema: { title: 'UserProfile', type: 'object', required, properties },
  example,
});

export const profileWithLoyaltyAnswer = (description: string): Answers[number] => ({
  description,
  schema: {
    title: 'UserProfileWithLoyalty',
    type: 'object',
    required: [...required, 'code', 'resend'],
    properties: { ...properties, attributes: withLoyalty, ...danceProperties },
  },
  example: { ...example, attributes: { ...example.attributes, loyalty: part }, code: null, resend: false },
});

/** A body may carry any part of what an answer shows; PUT’s required ones are a setting. */
export const profileBody: NonNullable<Route['body']> = {
  required: true,
  schema: { title: 'UserProfileUpdate', type: 'object', properties, additionalProperties: true },
  example: { first_name: 'Ada', last_name: 'Yılmaz', sms_allowed: true, date_of_birth: '1990-12-10' },
};

export const loyaltyBody: NonNullable<Route['body']> = {
  required: true,
  schema: {
    title: 'UserProfileWithLoyaltyUpdate',
    type: 'object',
    properties: { ...properties, ...danceProperties },
    additionalProperties: true,
  },
  example: { first_name: 'Ada', last_name: 'Yılmaz', phone: '05321234568', code: '123456' },
};

export const explain =
  'A new phone number needs a code: without `code` one is sent and the answer is 202 without a body, nothing saved. Repeat the same body with `code` and everything in it is saved. `resend` sends a new code.';
