/** Members as providers are told of them: the newest truth, and a checksum of what of it is told. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { sha256 } from '../platform/keys.ts';
import { loyaltyConnectors } from './connectors/catalogue.ts';
import type { LoyaltyConnector, Member, Shown } from './connectors/connector.ts';

/** The provider that the settings name. */
export interface Provider {
  /** Its connector's name in the catalogue. */
  readonly name: string;
  readonly connector: LoyaltyConnector;
  /** The connector's own part of the setting, secrets included. */
  readonly setting: Readonly<Record<string, unknown>>;
  /** Name and connection without its secrets: what was delivered elsewhere counts for nothing here. */
  readonly id: string;
  /** Where its members are, in words for operators: name, host and connection. Outlives changes of what is told. */
  readonly place: string;
}

/** JSON with its keys in order: one text for one value. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

const short = (value: unknown): string => sha256(canonical(value)).toString('hex', 0, 6);

const hostOf = (url: unknown): string => (typeof url === 'string' && URL.canParse(url) ? new URL(url).host : '-');

/** The provider in force; undefined when there is none. */
export function configured(ctx: Ctx): Provider | undefined {
  const setting = ctx.settings.get('CUSTOMER_LOYALTY_CARD_SERVICE');
  const name = String(setting['connector']);
  if (!Object.hasOwn(loyaltyConnectors, name)) return undefined;
  const connector = loyaltyConnectors[name]!;
  const part = (wanted: (property: string) => boolean): object =>
    Object.fromEntries(Object.entries(setting).filter(([property]) => wanted(property)));
  const id = `${name} ${short(part((property) => !connector.secrets.includes(property)))}`;
  const connection = short(part((property) => connector.connection.includes(property)));
  return { name, connector, setting, id, place: `${name} ${hostOf(setting['url'])} ${connection}` };
}

/** SHA-256 of what is shown: two that are equal show the same. */
export const sumOf = (shown: Shown): Buffer => sha256(canonical(shown));

/** The sum of a member as the provider is to have them. */
export const sumOfMember = ({ connector, setting }: Provider, member: Member): Buffer =>
  sumOf(connector.shows(setting as never, member));

interface Row extends Omit<Member, 'consents' | 'joined_at'> {
  readonly date_joined: Date;
  readonly granted: string[];
}

/**
 * Members as they are now, by the id of their account; accounts that are gone are not among them. A consent is a yes for
 * marketing that holds, as a decision about the account would say; accounts that are switched off have none.
 */
export async function readMembers(ctx: Ctx, ids: readonly number[]): Promise<Map<number, Member>> {
  const validity = ctx.settings.get('CONSENT_VALIDITY');
  const oldest = validity === null ? null : new Date(ctx.clock.now().getTime() - validity * 1000);
  const rows = await ctx.db.rows<Row>(sql`
    select a.id, a.email, a.first_name, a.last_name, a.gender, a.date_of_birth, a.language_code as language,
           case when a.phone_verified_at is not null then a.phone_e164 end as phone, a.is_active as active, a.attributes,
           a.date_joined, array(
             select s.channel from consent_state s
              where s.contact_point = case s.channel when 'email' then a.email_point else a.phone_point end
                and s.contact_point in (a.email_point, a.phone_point) and s.purpose = 'marketing' and s.state = 'granted'
                and a.is_active and (${oldest}::timestamptz is null or s.since > ${oldest})) as granted
      from account a where a.id = any (${ids}::bigint[])`);
  return new Map(
    rows.map(({ date_joined, granted, ...row }) => [
      row.id,
      {
        ...row,
        joined_at: date_joined.toISOString(),
        consents: {
          email: granted.includes('email'),
          sms: granted.includes('sms'),
          call: granted.includes('call'),
          whatsapp: granted.includes('whatsapp'),
        },
      },
    ]),
  );
}

/** Has accounts delivered again, whatever the provider was told before. For repairs: changes are noticed by triggers. */
export async function redeliver(ctx: Ctx, accounts: readonly number[]): Promise<void> {
  const now = ctx.clock.now();
  await ctx.db.run(sql`
    insert into loyalty_member as m (account, status, waiting_since, next_at)
    select account, 'waiting', ${now}, ${now} from unnest(${accounts}::bigint[]) as account group by account order by account
    on conflict (account) do update
       set status = 'waiting', marks = m.marks + 1, waiting_since = coalesce(m.waiting_since, ${now}), next_at = ${now},
           attempts = 0, delivered_sum = null`);
}

/**
 * Notes that the provider was seen to have what it should have, without it having been told. Accounts that wait or are
 * parked keep doing so. Of one that was erased no sum is kept.
 * @param seen the sums of what it has
 */
export async function noteSeen(
  ctx: Ctx,
  { id, place }: Provider,
  seen: readonly { readonly account: number; readonly sum: Buffer }[],
): Promise<void> {
  const now = ctx.clock.now();
  await ctx.db.run(sql`
    insert into loyalty_member as m (account, status, next_at, connector, place, delivered_sum)
    select account, 'settled', ${now}, ${id}, ${place},
           case when exists (select from account a where a.id = s.account) then sum end
      from unnest(${seen.map(({ account }) => account)}::bigint[], ${seen.map(({ sum }) => sum)}::bytea[]) as s (account, sum)
     order by account
    on conflict (account) do update
       set connector = excluded.connector, place = excluded.place, delivered_sum = excluded.delivered_sum
     where m.status = 'settled' and m.claimed_until is null`);
}
