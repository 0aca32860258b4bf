/**
 * Open Loyalty (the cloud product), after its API document, https://apidocs.openloyalty.io, tags Member, Webhook event and
 * the section on HMAC signing, and the guides at https://help.openloyalty.io (`technical-guide/authentication`,
 * `main-features/members/member-list/configuration`, `main-features/webhooks`).
 *
 * A member is addressed by an identifier instead of the id that Open Loyalty gave it: `loyaltyCardNumber`, which their guide
 * names for mapping members between systems. It is unique in a tenant, and so a member that is made twice is refused. A change is PUT;
 * of a member they do not have it answers 404, and only then is one made by POST. They have no idempotency keys, and nobody
 * needs one: a change that comes twice leaves what it left.
 */
import { createHash, createHmac } from 'node:crypto';
import Type, { type Static } from 'typebox';
import { type HttpAnswer, jsonOf } from '../../calls.ts';
import {
  connector,
  type Incoming,
  judge,
  type Malformed,
  type Member,
  type Shown,
  type Taken,
  type Told,
  type Verdict,
} from './connector.ts';
import { baseAddress, printable } from './patterns.ts';
import { isRecent, isValues, jsonBody, Reading, sameText, taken, type Values } from './told.ts';

const schema = Type.Object(
  {
    connector: Type.Literal('open_loyalty'),
    url: Type.String({
      maxLength: 300,
      pattern: baseAddress,
      description: 'Address of the environment, without `/api`.',
    }),
    store_code: Type.String({ pattern: '^[A-Za-z0-9_-]{1,100}$', description: 'Code of the tenant.' }),
    token: Type.String({ minLength: 1, maxLength: 1000, pattern: printable, description: 'API key of an admin.' }),
    card_prefix: Type.Optional(
      Type.String({
        pattern: '^[0-9A-Za-z._-]{0,50}$',
        description: 'What comes before the id of the account in its loyalty card number.',
      }),
    ),
    marketing: Type.Optional(
      Type.Enum(['email', 'sms', 'call', 'whatsapp'], {
        description: 'The channel whose consent is their direct marketing agreement (`agreement2`): email.',
      }),
    ),
    wallet: Type.Optional(
      Type.String({ minLength: 1, maxLength: 100, description: 'Code of the wallet whose units are points: default.' }),
    ),
    incoming_secret: Type.Optional(
      Type.String({
        pattern: '^whsec_[0-9a-f]{64}$',
        description: 'Secret of the webhook subscriptions, made by them.',
      }),
    ),
  },
  { additionalProperties: false },
);
type Setting = Static<typeof schema>;

const cardOf = ({ card_prefix: prefix = '' }: Setting, account: number): string => `${prefix}${account}`;

/** The account of a card number; undefined for one that is not of our making. */
function accountOf({ card_prefix: prefix = '' }: Setting, card: unknown): number | undefined {
  if (typeof card !== 'string' || !card.startsWith(prefix)) return undefined;
  const digits = card.slice(prefix.length);
  return /^[1-9]\d{0,15}$/.test(digits) && Number.isSafeInteger(Number(digits)) ? Number(digits) : undefined;
}

const membersOf = ({ url, store_code: store }: Setting): string => `${url}/api/${store}/member`;
const memberOf = (setting: Setting, account: number): string =>
  `${membersOf(setting)}/loyaltyCardNumber=${cardOf(setting, account)}`;
const headersOf = ({ token }: Setting): Record<string, string> => ({
  accept: 'application/json',
  'x-auth-token': token,
});
const changeHeaders = (setting: Setting): Record<string, string> => ({
  ...headersOf(setting),
  'content-type': 'application/json',
});

const agreementOf = ({ marketing = 'email' }: Setting): 'email' | 'sms' | 'call' | 'whatsapp' => marketing;

/** What both ways of writing a member have. */
const written = (setting: Setting, member: Member): Values => ({
  firstName: member.first_name,
  lastName: member.last_name,
  gender: member.gender ?? 'not_disclosed',
  email: member.email,
  loyaltyCardNumber: cardOf(setting, member.id),
  agreement2: member.consents[agreementOf(setting)],
});

/** PUT has a time for the birth date. Texts that are not known are empty and not left out, so that what was there goes. */
const changed = (setting: Setting, member: Member): string =>
  JSON.stringify({
    customer: {
      ...written(setting, member),
      phone: member.phone ?? '',
      birthDate: member.date_of_birth === null ? '' : `${member.date_of_birth}T00:00:00+00:00`,
    },
  });

const made = (setting: Setting, member: Member): string =>
  JSON.stringify({
    customer: {
      ...written(setting, member),
      ...(member.phone === null ? {} : { phone: member.phone }),
      ...(member.date_of_birth === null ? {} : { birthDate: member.date_of_birth }),
    },
  });

/** Which fields were refused; the messages beside them may repeat what we sent. */
function refusedFields(answer: HttpAnswer): string {
  const body = jsonOf(answer);
  const errors = isValues(body) && Array.isArray(body['errors']) ? (body['errors'] as unknown[]) : [];
  const paths = errors.flatMap((error) =>
    isValues(error) && typeof error['path'] === 'string' && /^[\w.[\]]{1,60}$/.test(error['path']) ? error['path'] : [],
  );
  return paths.length === 0 ? '' : ` (${[...new Set(paths)].slice(0, 5).join(', ')})`;
}

function verdict(answer: HttpAnswer, to: 'put' | 'forget'): Verdict {
  const { status } = answer;
  // Whether the member is there was settled by then: it is the tenant or the address that is not.
  if (to === 'put' && (status === 404 || status === 405)) return { again: `HTTP ${status}` };
  if (status === 400) return { refused: `HTTP 400${refusedFields(answer)}` };
  return judge(answer, to);
}

const textOf = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

function shownOf(setting: Setting, body: Values): Shown {
  const { gender } = body;
  return {
    first_name: textOf(body['firstName']),
    last_name: textOf(body['lastName']),
    gender: gender === 'male' || gender === 'female' ? gender : null,
    email: textOf(body['email']),
    phone: textOf(body['phone']),
    date_of_birth: textOf(body['birthDate'])?.slice(0, 10) ?? null,
    [`consents.${agreementOf(setting)}`]: body['agreement2'] === true,
  };
}

/** Signed is a text of lines about the request; port and query are not among them, and the key is the hex itself. */
function isSigned(secret: string, incoming: Incoming): boolean {
  const { headers, body } = incoming;
  const [signature, time, id] = [
    headers['x-webhook-signature'],
    headers['x-webhook-timestamp'],
    headers['x-webhook-request-id'],
  ];
  if (signature === undefined || time === undefined || id === undefined || !isRecent(time, incoming)) return false;
  const { hostname, pathname } = new URL(incoming.url);
  const lines = [
    'POST',
    `${hostname.length}:${hostname}`,
    `${pathname.length}:${pathname}`,
    createHash('sha256').update(body).digest('hex'),
    time,
    id,
  ];
  return sameText(
    signature,
    createHmac('sha256', secret.replace(/^whsec_/, ''))
      .update(lines.join('\n'))
      .digest('hex'),
  );
}

/** What each event says; undefined: nothing that is ours to know. Units of other wallets are no points. */
function toldBy(setting: Setting, event: unknown, data: Values, reading: Reading): Partial<Told> | undefined {
  const { wallet: wanted = 'default' } = setting;
  const inner = (name: string, value: unknown): Values => reading.object(value, ['data', name]);
  if (event === 'CustomerLevelChanged')
    return { tier: reading.text(inner('level', data['level'])['name'], ['data', 'level', 'name']) ?? null };
  if (event === 'AvailablePointsAmountChanged') {
    const { walletType } = inner('wallet', data['wallet']);
    if (isValues(walletType) && walletType['code'] !== wanted) return undefined;
    return { points: reading.points(data['amount'], ['data', 'amount']) ?? null };
  }
  if (event === 'WalletBalanceUpdated') {
    const { walletCode, balance } = inner('wallet', data['wallet']);
    if (walletCode !== wanted) return undefined;
    const { after } = reading.object(balance, ['data', 'wallet', 'balance']);
    const path = ['data', 'wallet', 'balance', 'after'];
    return { points: reading.points(reading.object(after, path)['active'], [...path, 'active']) ?? null };
  }
  return undefined;
}

function take(setting: Setting, incoming: Incoming): Taken | Malformed | undefined | null {
  if (setting.incoming_secret === undefined) return null;
  if (!isSigned(setting.incoming_secret, incoming)) return undefined;
  const reading = new Reading();
  const body = reading.object(jsonBody(incoming), []);
  if (reading.wrong.length > 0) return taken('', [], reading);
  const id = reading.id(body['messageId'], ['messageId']);
  const data = reading.object(body['data'], ['data']);
  if (body['storeCode'] !== setting.store_code) return taken(id, [], reading);
  const told = toldBy(setting, body['eventName'], data, reading);
  if (told === undefined) return taken(id, [], reading);
  const who = body['eventName'] === 'WalletBalanceUpdated' ? 'member' : 'customer';
  const card = reading.text(reading.object(data[who], ['data', who])['loyaltyCardNumber'], [
    'data',
    who,
    'loyaltyCardNumber',
  ]);
  const at = reading.moment(body['createdAt'], ['createdAt'], incoming.at);
  const account = accountOf(setting, card);
  return taken(id, account === undefined ? [] : [{ account, card_number: card!, ...told, at }], reading);
}

export const openLoyalty = connector({
  label: 'Open Loyalty',
  schema,
  secrets: ['token', 'incoming_secret'],
  connection: ['url', 'store_code', 'card_prefix'],
  shows: (setting, member) => ({
    first_name: member.first_name || null,
    last_name: member.last_name || null,
    gender: member.gender,
    email: member.email,
    phone: member.phone,
    date_of_birth: member.date_of_birth,
    [`consents.${agreementOf(setting)}`]: member.consents[agreementOf(setting)],
  }),
  put: (setting, member) => ({
    method: 'PUT',
    url: memberOf(setting, member.id),
    headers: changeHeaders(setting),
    body: changed(setting, member),
  }),
  otherwise: (setting, member, _attempt, { status }) =>
    status === 404
      ? { method: 'POST', url: membersOf(setting), headers: changeHeaders(setting), body: made(setting, member) }
      : null,
  forget: (setting, account) => ({ method: 'DELETE', url: memberOf(setting, account), headers: headersOf(setting) }),
  judge: verdict,
  ask: (setting, account) => ({ method: 'GET', url: memberOf(setting, account), headers: headersOf(setting) }),
  known(setting, answer) {
    if (answer.status === 404) return { shown: null };
    const body = answer.status === 200 ? jsonOf(answer) : undefined;
    return isValues(body) ? { shown: shownOf(setting, body) } : { again: `HTTP ${answer.status}` };
  },
  take,
});
