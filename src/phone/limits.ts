/** What the limits on codes count, without a database: spending one and replaying a week follow the same rows. */
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import { type SmsBudget, settings } from '../settings.ts';

const HOUR = 3600;
const DAY = 86_400;

/** Limits as `sms_request` names them, narrow ones first: where several are full, the first one is named. */
export const limitNames = [
  'number_type',
  'country',
  'pair_gap',
  'number_hour',
  'number_day',
  'account_day',
  'address_hour',
  'newcomers_country',
  'newcomers_installation',
  'country_day',
  'installation_day',
] as const;
export type LimitName = (typeof limitNames)[number];

/** SMS_BUDGET with nothing left out, and OTP_RESEND_SECONDS as `pair_gap`. */
export type Limits = Required<SmsBudget> & { readonly pair_gap: number };

/** Whom a message goes to and who asks for it, each as some text that is the same for the same one. */
export interface Asked {
  readonly account: string;
  readonly number: string;
  /** Client address as limits count it (`countedAddress`). */
  readonly address: string;
  readonly country: string;
  /** Messages go to no number like this (`takesMessages`). */
  readonly barred: boolean;
  readonly newcomer: boolean;
}

/** A counter that takes `most` within `seconds` of the first one it took. */
export interface Window {
  readonly limit: LimitName;
  readonly holder: string;
  readonly seconds: number;
  readonly most: number;
}

/** A stored SMS_BUDGET with the defaults of what it does not name. */
export const limitsOf = (budget: SmsBudget, pairGap: number): Limits => ({
  ...(settings.SMS_BUDGET.fallback as Required<SmsBudget>),
  ...budget,
  pair_gap: pairGap,
});

/** What newcomers may take of a limit, in whole messages. The summand: 0.29 × 100 is 28.999… in floating point. */
const shareOf = (share: number, most: number | null): number | null =>
  most === null ? null : Math.floor(share * most + 1e-9);

/** The windows any message counts in, a code or not. */
export function wideWindows(limits: Limits, { country, newcomer }: Pick<Asked, 'country' | 'newcomer'>): Window[] {
  const { country_day, installation_day, newcomers_share: share } = limits;
  return withLimit([
    { limit: 'country_day', holder: country, seconds: DAY, most: country_day },
    { limit: 'installation_day', holder: '', seconds: DAY, most: installation_day },
    ...(newcomer
      ? ([
          { limit: 'newcomers_country', holder: country, seconds: DAY, most: shareOf(share, country_day) },
          { limit: 'newcomers_installation', holder: '', seconds: DAY, most: shareOf(share, installation_day) },
        ] as const)
      : []),
  ]);
}

/** All windows a code counts in. */
export function codeWindows(limits: Limits, asked: Asked): Window[] {
  const { account, number, address } = asked;
  return [
    ...withLimit([
      {
        limit: 'pair_gap',
        holder: `${account} ${number}`,
        seconds: limits.pair_gap,
        most: limits.pair_gap === 0 ? null : 1,
      },
      { limit: 'number_hour', holder: number, seconds: HOUR, most: limits.number_hour },
      { limit: 'number_day', holder: number, seconds: DAY, most: limits.number_day },
      { limit: 'account_day', holder: account, seconds: DAY, most: limits.account_day },
      { limit: 'address_hour', holder: address, seconds: HOUR, most: limits.address_hour },
    ]),
    ...wideWindows(limits, asked),
  ];
}

const withLimit = (windows: readonly (Omit<Window, 'most'> & { most: number | null })[]): Window[] =>
  windows.filter((window): window is Window => window.most !== null);

/** The one that is named of several that are full. */
export const firstNamed = (full: readonly LimitName[]): LimitName | undefined =>
  limitNames.find((name) => full.includes(name));

/** Whether messages go to a country at all. @param countries SMS_COUNTRIES; null: to all */
export const reaches = (countries: readonly string[] | null, country: string): boolean =>
  countries === null || countries.includes(country);

/** Kinds of numbers that earn their holder money, or that nobody reads messages at. */
const barredTypes: readonly (string | undefined)[] = ['PREMIUM_RATE', 'SHARED_COST', 'UAN', 'VOICEMAIL', 'PAGER'];

/**
 * Whether messages go to numbers like this one at all, whatever SMS_COUNTRIES says. Not to satellites and other networks
 * without a place either, where a message costs many times as much. A new range that the metadata does not know yet is
 * no such number, though it may have no country when several share its calling code.
 * @param e164 a number, in E.164
 */
export function takesMessages(e164: string): boolean {
  const parsed = parsePhoneNumberFromString(e164);
  return parsed !== undefined && !parsed.isNonGeographic() && !barredTypes.includes(parsed.getType());
}

/** What a number without a country of its own is counted under; no country is called so. */
export const NO_COUNTRY = 'unknown';
