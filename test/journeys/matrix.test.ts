/**
 * Every operation × every kind of caller. Who a route lets in decides for the most part; what a company adds to that stands
 * in its rows. A route without a row fails the test.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { apiScopes } from '../../src/accounts/callers.ts';
import { atTheMachine } from '../../src/accounts/operator-events.ts';
import { openSession, type SessionKind } from '../../src/accounts/sessions.ts';
import { createApiKey, revokeApiKey, workingKey } from '../../src/admin/keys.ts';
import { apiDocument, apiRoutes } from '../../src/app.ts';
import { docsRoutes } from '../../src/docs/routes.ts';
import { createClient } from '../../src/oauth/clients.ts';
import type { Route } from '../../src/platform/http.ts';
import { createMetrics } from '../../src/platform/metrics.ts';
import { throttleScopes } from '../../src/settings.ts';
import { statusRoutes } from '../../src/status.ts';
import { type Bakery, openBakery } from '../bakery.ts';
import { createKit, type Kit, type Reply } from '../kit.ts';

/** Who calls. Every one has what it sends made anew for every call: nothing a call ends is missed by the next. */
const callers = [
  'nobody',
  'garbage Bearer',
  'garbage Token',
  'garbage cookie',
  // A customer who works nowhere.
  'customer cookie',
  'customer cookie, no CSRF',
  'customer Token',
  'stranger',
  // Keys of one kind where another belongs.
  'access token as cookie',
  'access token as Token',
  'cookie as Bearer',
  'refresh token',
  'expired token',
  // Access tokens of the company.
  'colleague',
  'shop manager',
  'manager',
  'owner',
  'owner cookie',
  'owner of another company',
  'manager switched off',
  'manager unproven',
  // Programs.
  'key without scopes',
  'key with the scope',
  'key with all others',
  'revoked key',
  // Operators.
  'operator cookie',
  'operator cookie, no CSRF',
  'operator access token',
] as const;
type Caller = (typeof callers)[number];

/** `in`: the answer of the row. Else the code of the refusal. */
type Fate =
  | 'in'
  | 'not_authenticated'
  | 'invalid_token'
  | 'csrf_failed'
  | 'forbidden'
  | 'in_person'
  | 'not_found'
  | 'missing_permission'
  | 'missing_permission_in_shop'
  | 'own_entry'
  | 'not_allowed';
type Fates = Readonly<Record<Caller, Fate>>;
/** With several callers in one key, by commas between quotes too many: lists read better. */
type Some = readonly (readonly [Fate, ...Caller[]])[];

const all = (fate: Fate, ...some: Some): Fates =>
  ({
    ...Object.fromEntries(callers.map((caller) => [caller, fate])),
    ...only(...some),
  }) as Fates;
const only = (...some: Some): Partial<Fates> =>
  Object.fromEntries(some.flatMap(([fate, ...names]) => names.map((name) => [name, fate])));

const cookies = ['customer cookie', 'owner cookie', 'operator cookie'] as const;
const bareCookies = ['customer cookie, no CSRF', 'operator cookie, no CSRF'] as const;
const accessTokens = [
  'stranger',
  'colleague',
  'shop manager',
  'manager',
  'owner',
  'owner of another company',
  'manager unproven',
  'operator access token',
] as const;
const badBearers = [
  'garbage Bearer',
  'cookie as Bearer',
  'refresh token',
  'expired token',
  'manager switched off',
  'revoked key',
] as const;
const keys = ['key without scopes', 'key with the scope', 'key with all others'] as const;
const outsiders = ['stranger', 'owner of another company', 'operator access token'] as const;

/** What admission alone says, by the name of `who`. */
const admissions: Readonly<Record<string, (unsafe: boolean) => Fates>> = {
  anyone: () => all('in'),
  'anyone, signed in or not': (unsafe) =>
    all(
      'in',
      ['invalid_token', 'garbage Token', 'access token as Token'],
      [unsafe ? 'csrf_failed' : 'in', ...bareCookies],
    ),
  'anyone with a browser, signed in or not': () => all('in'),
  'a signed-in customer': (unsafe) =>
    all(
      'not_authenticated',
      ['in', ...cookies, 'customer Token'],
      ['invalid_token', 'garbage Token', 'access token as Token'],
      [unsafe ? 'csrf_failed' : 'in', ...bareCookies],
    ),
  'an account with an access token': () =>
    all('not_authenticated', ['in', ...accessTokens], ['invalid_token', ...badBearers, ...keys]),
  'an account with an access token, or signed in': (unsafe) =>
    all(
      'not_authenticated',
      ['in', ...accessTokens, ...cookies],
      ['invalid_token', ...badBearers, ...keys],
      [unsafe ? 'csrf_failed' : 'in', ...bareCookies],
    ),
  'an operator': (unsafe) =>
    all(
      'not_authenticated',
      ['in', 'operator cookie', 'key with the scope'],
      ['forbidden', 'customer cookie', 'owner cookie', 'key without scopes', 'key with all others'],
      ['invalid_token', ...badBearers, ...accessTokens],
      [unsafe ? 'csrf_failed' : 'forbidden', 'customer cookie, no CSRF'],
      [unsafe ? 'csrf_failed' : 'in', 'operator cookie, no CSRF'],
    ),
  // A key and any other bearer are told that they are none, whatever they hold.
  'a signed-in operator, and no API key': (unsafe) =>
    all(
      'not_authenticated',
      ['in', 'operator cookie'],
      ['in_person', 'customer cookie', 'owner cookie', ...badBearers, ...accessTokens, ...keys],
      [unsafe ? 'csrf_failed' : 'in_person', 'customer cookie, no CSRF'],
      [unsafe ? 'csrf_failed' : 'in', 'operator cookie, no CSRF'],
    ),
  'an account with an access token, an operator, or an API key with the scope companies': (unsafe) => ({
    ...admissions['an operator']!(unsafe),
    ...only(['in', ...accessTokens]),
  }),
};
const admissionOf = ({ who, method }: Route): Fates => {
  const name = /^an operator, or an API key with the scope \w+$/.test(who.name) ? 'an operator' : who.name;
  const fates = admissions[name];
  if (fates === undefined) throw new Error(`no expectations for ${who.name}`);
  return fates(method !== 'GET');
};

// ---- What a company adds ----

/** For those who manage it. */
const managed = only(['not_found', ...outsiders], ['missing_permission', 'colleague', 'manager unproven']);
/** For its people. */
const seen = only(['not_found', ...outsiders]);
/** Operators alone; its people hear that, others nothing of it. */
const operated = only(
  ['not_found', ...outsiders],
  ['forbidden', 'colleague', 'shop manager', 'manager', 'manager unproven', 'owner'],
);
/** The change of another shop's right: who manages one shop only may not. */
const inOtherShop = { ...managed, ...only(['missing_permission_in_shop', 'shop manager']) };
const accounts = only(['forbidden', ...accessTokens]);
/** Forms of ours check the token of the form, once they know that somebody is signed in. */
const signedInForm = only(['csrf_failed', ...bareCookies]);
/** Others check it whoever sends them: signing somebody in as somebody else is an attack too. */
const withToken: readonly Caller[] = ['garbage cookie', 'access token as cookie', ...cookies];
const form = only(['csrf_failed', ...callers.filter((caller) => !withToken.includes(caller))]);
/** Those who are not signed in with a browser are sent to sign in. */
const byBrowser = (status: string): Row['in'] => ({
  others: '303',
  ...Object.fromEntries([...cookies, ...bareCookies].map((caller) => [caller, status])),
});
const signedInPage = byBrowser('200');
const wrongPassword = byBrowser('400');

interface Row {
  readonly path?: string;
  readonly body?: unknown;
  readonly form?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** What those get who are let in: the status, with the code where it is a problem. */
  readonly in: string | Partial<Record<Caller | 'others', string>>;
  readonly but?: Partial<Fates>;
}

let kit: Kit;
let bakery: Bakery;
let account: number;
let colleagueEntry: number;
let invitedEntry: number;
const DRY = { 'assent-dry-run': '1' };
const NOWHERE = '00000000-0000-4000-8000-000000000000';
const TOKEN = '0'.repeat(64);

/** Every operation, by its id. What would change something is a dry run, changes nothing, or names nothing there is. */
const rows = (): Record<string, Row> => {
  const wire = `/company/companies/${bakery.id}`;
  const users = `${wire}/permissions/users`;
  const company = `/v1/companies/${bakery.id}`;
  const entries = `${company}/entries`;
  const [, other] = bakery.shops as [number, number];
  const grant = [{ shop: other, permission: 'products' }];
  const authorize = '/oauth/authorize?client_id=nobody';
  return {
    // Profile
    getProfile: { in: '200' },
    updateProfile: { body: {}, in: '400' },
    partialUpdateProfile: { body: {}, in: '200' },
    getProfileWithLoyalty: { in: '200' },
    updateProfileWithLoyalty: { body: {}, in: '400' },
    partialUpdateProfileWithLoyalty: { body: {}, in: '200' },
    updateUserPermissions: { body: {}, in: '400' },
    getCurrentUser: { in: '200' },
    requestEmailChange: { body: {}, in: '400' },
    confirmEmailChange: { body: { token: TOKEN }, in: '400' },
    changePassword: { body: {}, in: '400' },
    // Signing in
    getCsrfToken: { in: '200' },
    login: { body: {}, in: '400' },
    logout: { in: '200' },
    requestPasswordReset: { body: {}, in: '400' },
    confirmPasswordReset: { body: {}, in: '400' },
    register: { body: {}, in: '400' },
    // Consent
    listConsentEvents: { in: '200' },
    getLedgerHead: { in: '200' },
    getLedgerKey: { in: '200' },
    proveAccount: { path: `/v1/accounts/${account}/proof`, in: '200' },
    proveAddress: { path: '/v1/consents/proof?recipient=nobody@example.com', in: '404 not_found' },
    decideContact: { body: {}, in: '400 invalid' },
    tellConsent: { body: {}, in: '400 invalid' },
    promoteBasket: { path: '/v1/baskets/1/promote', body: {}, in: '400 invalid' },
    listNotices: { in: '200' },
    addNotice: { body: {}, in: '400 invalid' },
    readNotice: { path: `/v1/notices/${NOWHERE}`, in: '404 not_found' },
    readUnsubscribeHeaders: { path: `/v1/accounts/${account}/unsubscribe-headers`, in: '200' },
    makeUnsubscribeHeaders: { body: {}, in: '400 invalid' },
    createPreferenceLink: { path: '/v1/accounts/999999/preference-link', in: '404 not_found' },
    revokePreferenceLinks: { path: '/v1/accounts/999999/preference-link', in: '404 not_found' },
    // The documented wire
    listUserPermissions: { path: users, in: '200', but: managed },
    createUserPermission: { path: users, body: { email: 'new@example.com' }, headers: DRY, in: '200', but: managed },
    readUserPermission: { path: `${users}/${colleagueEntry}`, in: '200', but: managed },
    updateUserPermission: {
      path: `${users}/${colleagueEntry}`,
      body: { shop_ids: bakery.shops },
      headers: DRY,
      in: '200',
      but: inOtherShop,
    },
    deleteUserPermission: { path: `${users}/${colleagueEntry}`, headers: DRY, in: '200', but: managed },
    listCompanies: { in: '200' },
    readCompany: { path: wire, in: '200', but: seen },
    listShops: { path: `${wire}/shops`, in: '200', but: seen },
    readUser: { in: '200' },
    // Companies
    listAllCompanies: { in: '200' },
    createCompany: { body: {}, in: '400 invalid', but: accounts },
    readCompanyRecord: { path: company, in: '200', but: managed },
    changeCompany: { path: company, body: {}, in: '200', but: operated },
    listCompanyShops: { path: `${company}/shops`, in: '200', but: managed },
    addShop: { path: `${company}/shops`, body: {}, in: '400 invalid', but: operated },
    changeShop: { path: `${company}/shops/${other}`, body: {}, in: '200', but: operated },
    listEntries: { path: entries, in: '200', but: managed },
    giveEntry: { path: entries, body: { email: 'new@example.com', grant }, headers: DRY, in: '200', but: inOtherShop },
    readEntry: { path: `${entries}/${colleagueEntry}`, in: '200', but: managed },
    changeEntry: { path: `${entries}/${colleagueEntry}`, body: { grant }, headers: DRY, in: '200', but: inOtherShop },
    removeEntry: { path: `${entries}/${colleagueEntry}`, headers: DRY, in: '200', but: managed },
    // Within a minute of the last one nothing is mailed.
    resendInvitation: { path: `${entries}/${invitedEntry}/invitation`, in: '204', but: managed },
    listRoles: { in: '200' },
    listStaffHistory: { path: `${company}/history`, in: '200', but: managed },
    getHistoryHead: { in: '200' },
    whoCould: { path: `${company}/access?shop=${other}&permission=products`, in: '200', but: managed },
    decideStaff: { body: { account, shop: other, permission: 'products' }, in: '200' },
    forwardAuth: {
      path: `/v1/decisions/forward-auth?shop=${other}&permission=products`,
      in: '204',
      but: only(
        ['not_allowed', ...outsiders, 'colleague', 'shop manager', 'manager unproven'],
        ['not_allowed', 'customer cookie', 'customer cookie, no CSRF', 'operator cookie', 'operator cookie, no CSRF'],
      ),
    },
    // Tokens
    createToken: { body: {}, in: '422 unprocessable' },
    revokeToken: { body: {}, in: '422 unprocessable' },
    readAuthorizationServer: { in: '200' },
    listSessions: { in: '200' },
    endOtherSessions: { in: '200' },
    endSession: { path: `/api/sessions/${NOWHERE}`, in: '404 not_found' },
    registerWithTokens: { body: {}, in: '422 unprocessable' },
    forgotPassword: { body: {}, in: '422 unprocessable' },
    resetPassword: { body: {}, in: '422 unprocessable' },
    changePasswordWithTokens: { body: {}, in: '422 unprocessable' },
    listClients: { in: '200' },
    createClient: { body: {}, in: '400 invalid' },
    readClient: { path: '/v1/clients/kit', in: '200' },
    changeClient: { path: '/v1/clients/kit', body: {}, in: '200' },
    // The installation
    listSettings: { in: '200' },
    readSetting: { path: '/v1/settings/STAFF_ROLES', in: '200' },
    changeSetting: { path: '/v1/settings/STAFF_ROLES', body: {}, in: '400 invalid' },
    resetSetting: { path: '/v1/settings/NOTHING', in: '404 not_found' },
    listSettingHistory: { path: '/v1/settings/STAFF_ROLES/history', in: '200' },
    listSmsOutbox: { in: '200' },
    listMailOutbox: { in: '200' },
    findAccounts: { in: '200' },
    readAccount: { path: `/v1/accounts/${account}`, in: '200' },
    changeAccount: { path: `/v1/accounts/${account}`, body: { active: true }, in: '200' },
    listAccountSessions: { path: `/v1/accounts/${account}/sessions`, in: '200' },
    endAccountSessions: { path: '/v1/accounts/999999/sessions', in: '404 not_found' },
    listAccountIdentities: { path: `/v1/accounts/${account}/identities`, in: '200' },
    unlinkAccountIdentity: { path: `/v1/accounts/${account}/identities?issuer=https://nobody.example`, in: '204' },
    removeAccountSecondFactor: { path: `/v1/accounts/${account}/second-factor`, in: '204' },
    listAccountHistory: { path: `/v1/accounts/${account}/history`, in: '200' },
    voidAccountPassword: { path: '/v1/accounts/999999/password-reset', in: '404 not_found' },
    listOperators: { in: '200' },
    revokeOperator: { path: '/v1/operators/999999', in: '404 not_found' },
    listOperatorEvents: { in: '200' },
    listApiKeys: { in: '200' },
    createApiKey: { body: {}, in: '400 invalid' },
    revokeApiKey: { path: '/v1/keys/999999', in: '404 not_found' },
    erase: { body: {}, in: '400 invalid' },
    reportSms: { path: '/v1/sms/reports/nobody', body: {}, in: '404 not_found' },
    testSms: { body: {}, in: '400 invalid' },
    takeLoyaltyMessage: { body: {}, in: '404 not_found' },
    listWebhooks: { in: '200' },
    createWebhook: { body: {}, in: '400 invalid' },
    readWebhook: { path: `/v1/webhooks/${NOWHERE}`, in: '404 not_found' },
    changeWebhook: { path: `/v1/webhooks/${NOWHERE}`, body: {}, in: '404 not_found' },
    deleteWebhook: { path: `/v1/webhooks/${NOWHERE}`, in: '404 not_found' },
    rotateWebhookSecret: { path: `/v1/webhooks/${NOWHERE}/secret`, in: '404 not_found' },
    listWebhookMessages: { path: `/v1/webhooks/${NOWHERE}/messages`, in: '404 not_found' },
    readWebhookMessage: { path: `/v1/webhooks/${NOWHERE}/messages/${NOWHERE}`, in: '404 not_found' },
    resendWebhookMessage: { path: `/v1/webhooks/${NOWHERE}/messages/${NOWHERE}/resend`, in: '404 not_found' },
    resendWebhookMessages: { path: `/v1/webhooks/${NOWHERE}/resend`, body: {}, in: '404 not_found' },
    testWebhook: { path: `/v1/webhooks/${NOWHERE}/test`, in: '404 not_found' },
    // Pages
    showSignIn: { in: '200' },
    signIn: { form: {}, in: '400', but: form },
    showSignInCode: { in: '303' },
    enterSignInCode: { form: {}, in: '400', but: form },
    showForgotten: { in: '200' },
    requestResetByForm: { form: {}, in: '400', but: form },
    signInByIssuer: { in: '404' },
    signedInByIssuer: { in: '404' },
    showAccount: { in: signedInPage },
    signOut: { form: {}, in: '303', but: signedInForm },
    endSessionByForm: { form: {}, in: '303', but: signedInForm },
    endOtherSessionsByForm: { form: {}, in: '303', but: signedInForm },
    showSecondFactor: { in: signedInPage },
    beginSecondFactor: { form: {}, in: wrongPassword, but: signedInForm },
    showSecondFactorSecret: { in: '303' },
    confirmSecondFactor: { form: {}, in: '303', but: signedInForm },
    showSecondFactorOff: { in: '303' },
    switchSecondFactorOff: { form: {}, in: wrongPassword, but: signedInForm },
    showRecoveryCodes: { in: '303' },
    makeRecoveryCodes: { form: {}, in: wrongPassword, but: signedInForm },
    authorize: { path: authorize, in: '400' },
    answerAuthorize: { path: authorize, form: {}, in: '400' },
    showLink: { path: `/links/${TOKEN}`, in: '410' },
    useLink: { path: `/links/${TOKEN}`, form: {}, in: '410' },
    showPhoneUndo: { path: `/phone/undo/${TOKEN}`, in: '410' },
    undoPhoneChange: { path: `/phone/undo/${TOKEN}`, form: {}, in: '410' },
    showPreferences: { path: `/preferences/${TOKEN}`, in: '404' },
    savePreferences: { path: `/preferences/${TOKEN}`, form: {}, in: '404' },
    askForPreferenceLink: { path: `/preferences/${TOKEN}/link`, form: {}, in: '404' },
    showConfirmation: { path: `/preferences/confirm/${TOKEN}`, in: '404' },
    answerConfirmation: { path: `/preferences/confirm/${TOKEN}`, form: {}, in: '404' },
    showUnsubscribe: { path: `/unsubscribe/${TOKEN}`, in: '404' },
    unsubscribe: { path: `/unsubscribe/${TOKEN}`, form: {}, in: '404' },
    getAvatar: { path: '/media/avatars/none.webp', in: '404 not_found' },
    // What runs here
    home: { in: '200' },
    icon: { in: '200' },
    healthz: { in: '200' },
    readyz: { in: '200' },
    metrics: { in: '200' },
    openapi: { in: '200' },
    docs: { in: '200' },
    docsScript: { in: '200' },
    docsStart: { in: '200' },
  };
};

/** A digest of every table but those of sign-ins, keys and counts; nor does it see that a key was made: this file makes them. */
async function everything(): Promise<Record<string, unknown>> {
  const tables = await kit.owner<{ name: string }>(
    `select schemaname || '.' || tablename as name from pg_tables
      where schemaname = 'public' and tablename not in ('session', 'api_key', 'throttle') order by 1`,
  );
  const digests: Record<string, unknown> = {};
  for (const { name } of tables) {
    const [row] = await kit.owner(
      `select count(*)::int, md5(string_agg(t::text, ',' order by t::text)) from ${name} t
        where '${name}' <> 'public.operator_event' or to_jsonb(t) ->> 'kind' <> 'key_made'`,
    );
    digests[name] = row;
  }
  return digests;
}
let before: Record<string, unknown>;

const routes: readonly Route[] = [
  ...apiRoutes,
  ...docsRoutes(apiDocument()),
  ...statusRoutes(createMetrics(), { token: undefined, proxied: false }),
];

// ---- The people ----

const people = new Map<string, number>();
const csrf = { cookie: '', header: '' };
const apiKeys = new Map<string, string>();

async function keyFor(who: Caller, { who: { security } }: Route): Promise<string> {
  const needed = security.flatMap(({ ApiKey = [] }) => ApiKey);
  const scopes =
    {
      'key with the scope': needed.length === 0 ? ['*'] : needed,
      'key with all others': apiScopes.filter((scope) => !needed.includes(scope)),
    }[who as string] ?? [];
  const name = `${who} ${scopes.join()}`;
  const known = apiKeys.get(name) ?? (await createApiKey(kit.ctx, { name, scopes }, atTheMachine)).key;
  apiKeys.set(name, known);
  return known;
}

/** A fresh sign-in of somebody. */
async function keyOf(person: string, kind: SessionKind, seconds = 3600): Promise<string> {
  const issued = await openSession(kit.ctx, people.get(person)!, { [kind]: { seconds } } as Record<
    SessionKind,
    { seconds: number }
  >);
  return issued[kind];
}

const byCookie = (key: string, guarded = true): Record<string, string> =>
  guarded
    ? { cookie: `sessionid=${key}; csrftoken=${csrf.cookie}`, 'x-csrftoken': csrf.header }
    : { cookie: `sessionid=${key}` };
const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
const token = (key: string): Record<string, string> => ({ authorization: `Token ${key}` });

const garbage = 'a1'.repeat(32);
const ways: Readonly<Record<Caller, (route: Route) => Promise<Record<string, string>> | Record<string, string>>> = {
  nobody: () => ({}),
  'garbage Bearer': () => bearer(garbage),
  'garbage Token': () => token(garbage),
  'garbage cookie': () => byCookie(garbage),
  'customer cookie': async () => byCookie(await keyOf('customer', 'cookie')),
  'customer cookie, no CSRF': async () => byCookie(await keyOf('customer', 'cookie'), false),
  'customer Token': async () => token(await keyOf('customer', 'token')),
  stranger: async () => bearer(await keyOf('customer', 'access')),
  'access token as cookie': async () => byCookie(await keyOf('owner', 'access')),
  'access token as Token': async () => token(await keyOf('owner', 'access')),
  'cookie as Bearer': async () => bearer(await keyOf('owner', 'cookie')),
  'refresh token': async () => bearer(await keyOf('owner', 'refresh')),
  'expired token': async () => bearer(await keyOf('owner', 'access', 0)),
  colleague: async () => bearer(await keyOf('colleague', 'access')),
  'shop manager': async () => bearer(await keyOf('shop manager', 'access')),
  manager: async () => bearer(await keyOf('manager', 'access')),
  owner: async () => bearer(await keyOf('owner', 'access')),
  'owner cookie': async () => byCookie(await keyOf('owner', 'cookie')),
  'owner of another company': async () => bearer(await keyOf('other owner', 'access')),
  'manager switched off': async () => bearer(await keyOf('switched off', 'access')),
  'manager unproven': async () => bearer(await keyOf('unproven', 'access')),
  'key without scopes': async (route) => bearer(await keyFor('key without scopes', route)),
  'key with the scope': async (route) => bearer(await keyFor('key with the scope', route)),
  'key with all others': async (route) => bearer(await keyFor('key with all others', route)),
  'revoked key': async () => bearer(apiKeys.get('revoked')!),
  'operator cookie': async () => byCookie(await keyOf('operator', 'cookie')),
  'operator cookie, no CSRF': async () => byCookie(await keyOf('operator', 'cookie'), false),
  'operator access token': async () => bearer(await keyOf('operator', 'access')),
};

beforeAll(async () => {
  kit = await createKit();
  await kit.set('THROTTLING_SETTINGS', Object.fromEntries(throttleScopes.map((scope) => [scope, null])));
  await createClient(kit.ctx, { id: 'matrix', name: 'Matrix' }, atTheMachine);
  bakery = await openBakery(kit, 2);
  const [first] = bakery.shops;
  const hire = async (name: string, shops: readonly number[], permissions: readonly string[]): Promise<number> => {
    const { id, email } = await kit.signUp();
    people.set(name, id);
    const entry = await bakery.invite(email);
    await bakery.grant(entry, shops, permissions);
    return entry;
  };
  people.set('customer', (await kit.signUp()).id);
  people.set('owner', bakery.owner.id);
  people.set('other owner', (await openBakery(kit, 1)).owner.id);
  people.set('operator', (await kit.operator()).id);
  colleagueEntry = await hire('colleague', [first!], ['products']);
  await hire('shop manager', [first!], ['products', 'permissions']);
  await hire('manager', bakery.shops, ['products', 'permissions']);
  await hire('switched off', bakery.shops, ['products', 'permissions']);
  await kit.rows('update account set is_active = false where id = $1', people.get('switched off'));
  await hire('unproven', bakery.shops, ['products', 'permissions']);
  await kit.rows('update account set email_verified_at = null where id = $1', people.get('unproven'));
  invitedEntry = await bakery.invite('invited@example.com');
  account = people.get('customer')!;
  apiKeys.set('revoked', (await createApiKey(kit.ctx, { name: 'revoked', scopes: ['*'] }, atTheMachine)).key);
  await revokeApiKey(kit.ctx, (await workingKey(kit.ctx, 'revoked'))!, atTheMachine);
  const pair = await kit.send('GET', '/csrf_token/');
  csrf.header = pair.body.csrf_token;
  csrf.cookie = /csrftoken=(\w+)/.exec(String(pair.headers['set-cookie']))![1]!;
  before = await everything();
});
afterAll(() => kit.close());

test('every operation has a row, and every row an operation', () => {
  const ids = routes.map(({ operationId }) => operationId);
  expect(Object.keys(rows()).sort()).toEqual([...ids].sort());
  const documented = Object.values(
    apiDocument()['paths'] as Record<string, Record<string, { operationId: string }>>,
  ).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
  expect(documented.filter((id) => !ids.includes(id))).toEqual([]);
});

/** An answer in the words of the table. */
function fateOf({ status, headers, body, text }: Reply): string {
  const { code, detail } = (typeof body === 'object' ? (body ?? {}) : {}) as { code?: string; detail?: string };
  if (String(headers['content-type']).startsWith('application/problem+json')) return `${status} ${code}`;
  if (status === 401) return detail === 'Invalid token.' ? '401 invalid_token' : '401 not_authenticated';
  if (status === 403 && /CSRF Failed|This form was open for too long/.test(detail ?? text)) return '403 csrf_failed';
  return String(status);
}
const statuses: Readonly<Record<Exclude<Fate, 'in'>, number>> = {
  not_authenticated: 401,
  invalid_token: 401,
  csrf_failed: 403,
  forbidden: 403,
  in_person: 403,
  not_found: 404,
  missing_permission: 403,
  missing_permission_in_shop: 403,
  own_entry: 403,
  not_allowed: 403,
};

test.each(routes.map((route) => [`${route.method} ${route.path}`, route] as const))('%s', async (_name, route) => {
  const { operationId, method, path: pattern } = route;
  const row = rows()[operationId]!;
  const fates = { ...admissionOf(route), ...row.but };
  const [got, expected]: Record<string, string>[] = [{}, {}];
  for (const caller of callers) {
    const fate = fates[caller];
    const inside = typeof row.in === 'string' ? row.in : (row.in[caller] ?? row.in.others!);
    expected![caller] = fate === 'in' ? inside : `${statuses[fate]} ${fate}`;
    const headers = { ...row.headers, ...(await ways[caller](route)) };
    const guarded = 'x-csrftoken' in headers;
    const reply = await kit.send(method, row.path ?? pattern, {
      headers,
      ...(row.body === undefined ? {} : { body: row.body }),
      ...(row.form === undefined
        ? {}
        : {
            form: String(
              new URLSearchParams({ ...row.form, ...(guarded ? { csrfmiddlewaretoken: csrf.header } : {}) }),
            ),
          }),
    });
    got![caller] = fateOf(reply);
  }
  expect(got).toEqual(expected);
});

test('nothing was changed by any of it', async () => {
  expect(await everything()).toEqual(before);
});
