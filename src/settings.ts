/**
 * The catalogue of settings: what an operator changes while the service runs (Akinon calls them System and Dynamic
 * Configuration). One row gives type, default, description, the command, the API and the documentation.
 */

import Type from 'typebox';
import { loyaltyConnectors } from './loyalty/connectors/catalogue.ts';
import { smsProviders } from './phone/providers/catalogue.ts';
import { oidcIssuer } from './settings/issuer.ts';
import { originProblem } from './settings/origins.ts';
import { choice, row, type SettingRow, seconds } from './settings/row.ts';
import { type Permission, permissionKeys } from './staff/permissions.ts';

/** Profile fields that USER_REQUIRED_FIELDS may name; `profile/fields.ts` is held to this list by a test. */
const requirable = ['first_name', 'last_name', 'phone', 'date_of_birth', 'gender', 'language_code'] as const;

/**
 * Throttle scopes and their default windows. Room is left for clients that repeat a failed call three times. Callers are
 * counted by account, else by client address; `byAddress`: by address also when somebody is signed in.
 */
const scopes = {
  login: { count: 60, duration: 60, byAddress: true },
  register: { count: 60, duration: 60, byAddress: true },
  'user-permissions': { count: 120, duration: 60 },
  'profile-update': { count: 120, duration: 60 },
  otp: { count: 60, duration: 60 },
  token: { count: 60, duration: 60, byAddress: true },
  invite: { count: 60, duration: 3600 },
  preferences: { count: 60, duration: 60 },
} as const satisfies Record<string, { count: number; duration: number; byAddress?: true }>;

export type Scope = keyof typeof scopes;
export const throttleScopes = Object.keys(scopes) as Scope[];
export const countsAddresses = (scope: Scope): boolean => 'byAddress' in scopes[scope];
const windows = Object.fromEntries(
  throttleScopes.map((scope) => [scope, { count: scopes[scope].count, duration: scopes[scope].duration }]),
);

const limit = Type.Object(
  { count: Type.Integer({ minimum: 1 }), duration: Type.Integer({ minimum: 1, maximum: 86_400 }) },
  { additionalProperties: false },
);

const budgetLimit = Type.Union([Type.Integer({ minimum: 1 }), Type.Null()]);

export interface SmsBudget {
  number_hour: number | null;
  account_day: number | null;
  address_hour: number | null;
  country_day: number | null;
  number_day?: number | null;
  installation_day?: number | null;
  newcomers_share?: number;
}

export const settings = {
  USER_REQUIRED_FIELDS: row({
    description: 'Profile fields that PUT must carry and that no change may leave blank.',
    schema: Type.Array(Type.Enum([...requirable]), { uniqueItems: true }),
    fallback: ['first_name', 'last_name'],
  }),
  GENDERS_AS_OBJECTS: row({
    description: 'Show `genders` as [{value,label}] as in the Akinon guides, instead of a list of strings.',
    schema: Type.Boolean(),
    fallback: false,
  }),
  ATTRIBUTES_READ_ONLY_KEYS: row({
    description: 'Keys of the profile’s `attributes` that customers cannot write; a write keeps their stored values.',
    schema: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { uniqueItems: true, maxItems: 100 }),
    fallback: [] as string[],
  }),
  DEFAULT_LANGUAGE: row({
    description: 'Language of texts when the request names none that is known.',
    schema: Type.Enum(['en', 'tr', 'nl', 'fr']),
    fallback: 'en',
  }),
  SESSION_COOKIE_NAME: row({
    description: 'Name of the session cookie that is set; both names are accepted.',
    schema: Type.Enum(['sessionid', 'osessionid']),
    fallback: 'sessionid',
  }),
  SESSION_AGE: seconds('Life of a customer session, in seconds from its last sign-in.', 1_209_600, 60),
  CSRF_TRUSTED_ORIGINS: row({
    description:
      'Origins besides our own host from which browsers may send unsafe requests, e.g. https://shop.example.',
    schema: Type.Array(Type.String({ pattern: '^https?://[^/\\s]+$', maxLength: 300 }), {
      uniqueItems: true,
      maxItems: 200,
    }),
    fallback: [] as string[],
  }),
  ALLOWED_ORIGINS: row({
    description:
      'Origins whose pages may call the API with a token and read its answers (CORS), e.g. https://back-office.example; http only for localhost, 127.0.0.1 and [::1]. Cookies never come along.',
    schema: Type.Array(Type.String({ maxLength: 300 }), { uniqueItems: true, maxItems: 200 }),
    fallback: [] as string[],
    entryProblem: originProblem,
  }),
  THROTTLING_SETTINGS: row({
    description:
      'Requests allowed per scope and caller: {"scope":{"count":N,"duration":seconds}}. A scope not named keeps its default; null lifts its limit.',
    schema: Type.Partial(
      Type.Object(Object.fromEntries(throttleScopes.map((scope) => [scope, Type.Union([limit, Type.Null()])])), {
        additionalProperties: false,
      }),
    ),
    fallback: windows as Partial<Record<Scope, { count: number; duration: number } | null>>,
  }),
  PASSWORD_MIN_LENGTH: row({
    description: 'Shortest password accepted at registration and change, in characters.',
    schema: Type.Integer({ minimum: 8, maximum: 128 }),
    fallback: 8,
  }),
  PASSWORD_RESET_URL: row({
    description:
      'Page of the shop front that resets a password; {uid} and {token} are filled in. Null: a page of our own at PUBLIC_URL.',
    schema: Type.Union([Type.String({ pattern: '^https?://.*\\{token\\}', maxLength: 1000 }), Type.Null()]),
    fallback: null as string | null,
  }),
  PASSWORD_RESET_AGE: seconds('Life of a password reset link, in seconds.', 3600, 300),
  INVITATION_AGE: seconds('Life of an invitation to colleagues and owners, in seconds.', 604_800, 3600),
  EMAIL_CHANGE_AGE: seconds('Life of an e-mail change link, in seconds.', 86_400, 300),
  SECOND_FACTOR_REQUIRED: row({
    description:
      'Who can use their rights only with a second factor: operators, owners of companies. They can still sign in to set one up.',
    schema: Type.Array(Type.Enum(['operators', 'owners']), { uniqueItems: true }),
    fallback: [] as ('operators' | 'owners')[],
  }),
  SIGN_IN_ISSUER: choice(
    'An OpenID Connect issuer whose word is taken for who somebody is: for operators and for staff, by verified e-mail addresses of the named domains.',
    'protocol',
    {
      none: { schema: Type.Object({ protocol: Type.Literal('none') }, { additionalProperties: false }), secrets: [] },
      oidc: { schema: oidcIssuer, secrets: ['client_secret'] },
    },
    'none',
  ),
  STAFF_ROLES: row({
    description:
      'Roles as templates of permissions, by name: what a colleague gets when given one; * stands for all. Changing a role changes nobody’s rights.',
    schema: Type.Record(
      Type.String({ pattern: '^[a-z][a-z0-9_-]{0,49}$' }),
      Type.Array(Type.Enum(['*', ...permissionKeys]), { minItems: 1, uniqueItems: true }),
      { maxProperties: 100, additionalProperties: false },
    ),
    fallback: {
      manager: ['*'],
      shop: ['holidays', 'products', 'shop_info', 'time_settings'],
      marketing: ['newsletters', 'translations', 'discounts'],
    } as Record<string, ('*' | Permission)[]>,
  }),
  USER_PHONE_REGEX: row({
    description:
      'Regular expression that a phone number must match as the client writes it; null: any possible number.',
    schema: Type.Union([Type.String({ maxLength: 500 }), Type.Null()]),
    fallback: null as string | null,
    pattern: true,
  }),
  PHONE_DEFAULT_REGION: row({
    description: 'ISO 3166 region in which a phone number without country code is read.',
    schema: Type.String({ pattern: '^[A-Z]{2}$' }),
    fallback: 'TR',
  }),
  PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE: row({
    description: 'A phone number can be held by one active account only.',
    schema: Type.Boolean(),
    fallback: false,
  }),
  PHONE_CHANGE_REQUIRES_CODE: row({
    description:
      '/users/profile/ refuses a new phone number and points to /users/profile-with-loyalty/, which proves it.',
    schema: Type.Boolean(),
    fallback: false,
  }),
  PHONE_UNDO_AGE: row({
    description:
      'How long the holder of a proven number that was replaced or removed, told by SMS and mail, can take the change back, in seconds; 0: nobody is told and nothing can be taken back.',
    schema: Type.Integer({ minimum: 0, maximum: 7_776_000 }),
    fallback: 604_800,
  }),
  SMS_OTP_EXPIRE_TIME: row({
    description: 'Life of a code, in seconds; 0: it does not expire.',
    schema: Type.Integer({ minimum: 0, maximum: 86_400 }),
    fallback: 180,
  }),
  OTP_MAX_SUBMISSIONS: row({
    description: 'Codes a customer may try before a new one must be asked for.',
    schema: Type.Integer({ minimum: 1, maximum: 20 }),
    fallback: 5,
  }),
  OTP_RESEND_SECONDS: row({
    description: 'Seconds between two codes to one number.',
    schema: Type.Integer({ minimum: 0, maximum: 3600 }),
    fallback: 30,
  }),
  SMS_BUDGET: row({
    description:
      'Codes sent at most: per number and hour, per number and day, per account and day, per client address and hour, per country and day, for the whole installation and day. null lifts one. `newcomers_share` is the part of the last two that accounts younger than a day, or without a proven address, may use up.',
    schema: Type.Object(
      {
        number_hour: budgetLimit,
        account_day: budgetLimit,
        address_hour: budgetLimit,
        country_day: budgetLimit,
        // Later additions: values that were stored before them stay valid.
        number_day: Type.Optional(budgetLimit),
        installation_day: Type.Optional(budgetLimit),
        newcomers_share: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
      },
      { additionalProperties: false },
    ),
    fallback: {
      number_hour: 5,
      number_day: 10,
      account_day: 10,
      address_hour: 20,
      country_day: 1000,
      installation_day: 10_000,
      newcomers_share: 0.5,
    } as SmsBudget,
  }),
  SMS_COUNTRIES: row({
    description:
      'ISO 3166 regions to which codes are sent; null: all. Numbers at a premium or shared cost, company-wide ones, voicemail, pagers, and those of no country (satellites) get none in any case.',
    schema: Type.Union([Type.Array(Type.String({ pattern: '^[A-Z]{2}$' }), { uniqueItems: true }), Type.Null()]),
    fallback: null as string[] | null,
  }),
  CUSTOMER_LOYALTY_CARD_SERVICE: choice(
    'The loyalty provider that follows the profile: connector name and connection.',
    'connector',
    {
      none: { schema: Type.Object({ connector: Type.Literal('none') }, { additionalProperties: false }), secrets: [] },
      ...loyaltyConnectors,
    },
    'none',
  ),
  LOYALTY_TRUTH: row({
    description:
      'Whose names, birth date and gender hold where `loyalty reconcile` finds a difference: `assent` sends ours again, `provider` takes theirs over. Addresses and consents are always ours.',
    schema: Type.Enum(['assent', 'provider']),
    fallback: 'assent',
  }),
  LOYALTY_ATTEMPTS: row({
    description: 'Attempts to deliver one account before it is parked; a provider that is down altogether costs none.',
    schema: Type.Integer({ minimum: 1, maximum: 100 }),
    fallback: 10,
  }),
  LOYALTY_TIMEOUT: row({
    description: 'How long the loyalty provider may take to answer, in seconds.',
    schema: Type.Integer({ minimum: 1, maximum: 60 }),
    fallback: 10,
  }),
  BASKET_CONSENT_TTL: seconds('How long flags ticked at checkout are held for a basket, in seconds.', 2_592_000, 60),
  DOUBLE_OPT_IN: row({
    description: 'Channels on which a yes counts once it is confirmed by a message to the address itself.',
    schema: Type.Array(Type.Enum(['email', 'sms', 'whatsapp', 'call']), { uniqueItems: true }),
    fallback: [] as ('email' | 'sms' | 'whatsapp' | 'call')[],
  }),
  DOUBLE_OPT_IN_AGE: seconds(
    'How long a confirmation can be given, in seconds; then the question expires.',
    604_800,
    300,
  ),
  CONSENT_VALIDITY: row({
    description: 'How long a consent lasts from the moment it was given, in seconds; null: until it is withdrawn.',
    schema: Type.Union([Type.Integer({ minimum: 3600, maximum: 3_153_600_000 }), Type.Null()]),
    fallback: null as number | null,
  }),
  CONSENT_PURPOSES: row({
    description:
      'What consent is asked for, by name: {"name":{"title":{"en":"…"},"channels":["email"]}}. `marketing` is what the profile’s flags speak of and cannot be left out.',
    schema: Type.Record(
      Type.String({ pattern: '^[a-z][a-z0-9_]{0,39}$' }),
      Type.Object(
        {
          title: Type.Record(Type.String({ pattern: '^[a-z]{2}$' }), Type.String({ minLength: 1, maxLength: 200 }), {
            minProperties: 1,
            additionalProperties: false,
          }),
          channels: Type.Array(Type.Enum(['email', 'sms', 'whatsapp', 'call']), { minItems: 1, uniqueItems: true }),
        },
        { additionalProperties: false },
      ),
      { required: ['marketing'], additionalProperties: false, maxProperties: 50 },
    ),
    fallback: {
      marketing: {
        title: {
          en: 'Offers and news',
          tr: 'Kampanyalar ve haberler',
          nl: 'Aanbiedingen en nieuws',
          fr: 'Offres et nouveautés',
        },
        channels: ['email', 'sms', 'whatsapp', 'call'],
      },
    } as Record<string, { title: Record<string, string>; channels: ('email' | 'sms' | 'whatsapp' | 'call')[] }>,
  }),
  CONSENT_CONTROLLER: row({
    description:
      'Who answers for the consents, as proofs and the preference page show it (the party fields of ISO/IEC TS 27560).',
    schema: Type.Object(
      {
        name: Type.String({ minLength: 1, maxLength: 200 }),
        address: Type.String({ maxLength: 500 }),
        contact: Type.String({ maxLength: 320 }),
        jurisdiction: Type.String({ maxLength: 100 }),
        storage: Type.String({ maxLength: 200 }),
        retention: Type.String({ maxLength: 500 }),
        recipients: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 100 }),
      },
      { additionalProperties: false },
    ),
    fallback: {
      name: 'The shop',
      address: '',
      contact: '',
      jurisdiction: '',
      storage: '',
      retention: '',
      recipients: [] as string[],
    },
  }),
  PREFERENCE_LINK_AGE: seconds('Life of a link to the preference page, in seconds.', 7_776_000, 3600),
  WEBHOOK_PRIVATE_ADDRESSES: row({
    description:
      'Webhooks may go to private addresses and by http: for a receiver in the same network. Whoever can set a webhook can then have anything called there.',
    schema: Type.Boolean(),
    fallback: false,
  }),
  WEBHOOK_TIMEOUT: row({
    description: 'How long a receiver of webhooks may take to answer, in seconds.',
    schema: Type.Integer({ minimum: 1, maximum: 60 }),
    fallback: 15,
  }),
  WEBHOOK_MESSAGE_AGE: seconds(
    'How long webhook messages that were delivered or given up are kept, in seconds.',
    2_592_000,
    3600,
  ),
  MAIL_FROM: row({
    description: 'Sender of mails.',
    schema: Type.String({ minLength: 3, maxLength: 320, pattern: '@' }),
    fallback: 'Assent <no-reply@localhost>',
  }),
  SMS_PROVIDER: {
    ...choice(
      'How codes and messages go out: provider and credentials. `console` prints them to the server’s output: for development only.',
      'provider',
      smsProviders,
      'console',
    ),
    // The default would print codes to the log.
    whenInvalid: { provider: 'invalid' },
  },
  SMS_TIMEOUT: row({
    description: 'How long the SMS provider may take to answer, in seconds.',
    schema: Type.Integer({ minimum: 1, maximum: 60 }),
    fallback: 10,
  }),
} satisfies Record<string, SettingRow>;

export type SettingName = keyof typeof settings;
export type SettingValue<N extends SettingName> = (typeof settings)[N]['fallback'];
export const settingNames = Object.keys(settings) as SettingName[];
