/**
 * Talon.One, after its Integration API (https://docs.talon.one/integration-api: updateCustomerProfileV2,
 * getCustomerInventory, deleteCustomerData), its error reference (https://docs.talon.one/docs/dev/get-started/errors) and
 * the schemas of its loyalty notifications (https://docs.talon.one/docs/product/loyalty-programs/loyalty-notifications/overview).
 *
 * A profile is made and changed by the same PUT, under an id of ours that they call stable. The rules are not run: a change
 * of a name earns nobody points. Attributes must have been made in their Campaign Manager; one that was not is refused by
 * name. Parallel changes of one profile are answered 409, which is for later.
 *
 * Their notifications bear no signature. What they can bear is a header of the operator's own choice, so a token in
 * `Authorization` is what tells them from others. Balances come without a time: they count from when they came in.
 */
import Type, { type Static } from 'typebox';
import { type HttpAnswer, jsonOf } from '../../calls.ts';
import { connector, type Incoming, judge, type Malformed, type Taken, type Told, type Verdict } from './connector.ts';
import { baseAddress, printable } from './patterns.ts';
import { mappable, mapped, shownBy } from './shown.ts';
import { isValues, jsonBody, Reading, sameText, taken, type Values } from './told.ts';

const schema = Type.Object(
  {
    connector: Type.Literal('talon_one'),
    url: Type.String({ maxLength: 300, pattern: baseAddress, description: 'Address of the deployment.' }),
    key: Type.String({ minLength: 1, maxLength: 1000, pattern: printable, description: 'Integration API key.' }),
    attributes: Type.Record(
      Type.String({ pattern: '^\\S{1,100}$' }),
      Type.String({ maxLength: 300, pattern: mappable }),
      {
        additionalProperties: false,
        minProperties: 1,
        description:
          'Their attribute to our field: `first_name`, `consents.sms`, `attributes.club`; after `=` a constant.',
      },
    ),
    loyalty_program: Type.Optional(
      Type.Integer({ minimum: 1, description: 'The program whose points and tiers are shown; absent: any.' }),
    ),
    subledger: Type.Optional(Type.String({ maxLength: 100, description: 'Its subledger; absent: the main one.' })),
    incoming_token: Type.Optional(
      Type.String({
        minLength: 16,
        maxLength: 500,
        pattern: printable,
        description: 'What their notifications send as `Authorization: Bearer …`.',
      }),
    ),
  },
  { additionalProperties: false },
);
type Setting = Static<typeof schema>;

const headersOf = ({ key }: Setting): Record<string, string> => ({
  accept: 'application/json',
  authorization: `ApiKey-v1 ${key}`,
});

/** Which attributes were refused; the texts beside them may repeat what we sent. */
function refusedPlaces(answer: HttpAnswer): string {
  const body = jsonOf(answer);
  const errors = isValues(body) && Array.isArray(body['errors']) ? (body['errors'] as unknown[]) : [];
  const places = errors.flatMap((error) => {
    const source = isValues(error) ? error['source'] : undefined;
    const place = isValues(source) ? source['pointer'] : undefined;
    return typeof place === 'string' && /^[\w./-]{1,80}$/.test(place) ? place : [];
  });
  return places.length === 0 ? '' : ` (${[...new Set(places)].slice(0, 5).join(', ')})`;
}

function verdict(answer: HttpAnswer, to: 'put' | 'forget'): Verdict {
  if (answer.status === 400) return { refused: `HTTP 400${refusedPlaces(answer)}` };
  // A PUT makes what is not there: only the address can be wrong.
  if (answer.status === 404 && to === 'put') return { again: 'HTTP 404' };
  return judge(answer, to);
}

const numberOf = (value: unknown): number | undefined =>
  typeof value === 'string' && /^[1-9]\d{0,15}$/.test(value) && Number.isSafeInteger(Number(value))
    ? Number(value)
    : undefined;

/** Whether a notification is of the program that is shown. */
const concerns = ({ loyalty_program: program, subledger = '' }: Setting, values: Values): boolean =>
  (program === undefined || values['LoyaltyProgramID'] === program) && (values['SubledgerID'] ?? '') === subledger;

/** Balances of a profile, or of a card and all whose it is. */
function balance(setting: Setting, body: Values, reading: Reading, now: Date): Told[] {
  if (!concerns(setting, body)) return [];
  const points = reading.points(body['CurrentPoints'], ['CurrentPoints']) ?? null;
  if (body['NotificationType'] === 'LoyaltyAddedDeductedPointsBalances') {
    const account = numberOf(body['ProfileIntegrationID']);
    return account === undefined ? [] : [{ account, points, at: now }];
  }
  const card = reading.text(body['CardIdentifier'], ['CardIdentifier']) ?? null;
  const profiles = reading.list(body['ProfileIntegrationIDs'], ['ProfileIntegrationIDs']);
  return profiles.flatMap((profile) => {
    const account = numberOf(profile);
    return account === undefined ? [] : [{ account, card_number: card, points, at: now }];
  });
}

function tiers(setting: Setting, body: Values, reading: Reading, now: Date): Told[] {
  return reading.list(body['Data'], ['Data']).flatMap((value, index) => {
    const place = (...rest: string[]): string[] => ['Data', String(index), ...rest];
    const one = reading.object(value, place());
    const account = numberOf(one['CustomerProfileID']);
    if (account === undefined || !concerns(setting, one)) return [];
    return [
      {
        account,
        tier: reading.text(one['CurrentTier'], place('CurrentTier')) ?? null,
        points: reading.points(one['CurrentPoints'], place('CurrentPoints')) ?? null,
        at: reading.moment(one['TimestampOfTierChange'], place('TimestampOfTierChange'), now),
      },
    ];
  });
}

function take(setting: Setting, incoming: Incoming): Taken | Malformed | undefined | null {
  const { incoming_token: token } = setting;
  if (token === undefined) return null;
  if (!sameText(incoming.headers['authorization'] ?? '', `Bearer ${token}`)) return undefined;
  const reading = new Reading();
  const body = reading.object(jsonBody(incoming), []);
  if (reading.wrong.length > 0) return taken('', [], reading);
  const id = reading.id(incoming.headers['x-uuid'], ['X-UUID']);
  const type = body['NotificationType'];
  const told =
    type === 'LoyaltyAddedDeductedPointsBalances' || type === 'LoyaltyCardAddedDeductedPointsBalances'
      ? balance(setting, body, reading, incoming.at)
      : type === 'TierUpgrade' || type === 'TierDowngrade'
        ? tiers(setting, body, reading, incoming.at)
        : [];
  return taken(id, told, reading);
}

export const talonOne = connector({
  label: 'Talon.One',
  schema,
  secrets: ['key', 'incoming_token'],
  connection: ['url'],
  shows: ({ attributes }, member) => shownBy(attributes, (_theirs, ours) => mapped(ours, member)),
  put: (setting, member, { key }) => ({
    method: 'PUT',
    url: `${setting.url}/v2/customer_profiles/${member.id}?runRuleEngine=false`,
    headers: { ...headersOf(setting), 'content-type': 'application/json', 'idempotency-key': key },
    body: JSON.stringify({
      attributes: Object.fromEntries(
        Object.entries(setting.attributes).map(([theirs, ours]) => [theirs, mapped(ours, member)]),
      ),
    }),
  }),
  forget: (setting, account) => ({
    method: 'DELETE',
    url: `${setting.url}/v1/customer_data/${account}`,
    headers: headersOf(setting),
  }),
  judge: verdict,
  ask: (setting, account) => ({
    method: 'GET',
    url: `${setting.url}/v1/customer_profiles/${account}/inventory?profile=true`,
    headers: headersOf(setting),
  }),
  known({ attributes }, answer) {
    if (answer.status === 404) return { shown: null };
    const body = answer.status === 200 ? jsonOf(answer) : undefined;
    const profile = isValues(body) ? body['profile'] : undefined;
    const theirs = isValues(profile) ? profile['attributes'] : undefined;
    if (!isValues(theirs)) return { again: `HTTP ${answer.status}` };
    return { shown: shownBy(attributes, (name) => (Object.hasOwn(theirs, name) ? theirs[name] : null)) };
  },
  take,
});
