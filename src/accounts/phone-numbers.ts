/** Phone numbers: what a client writes, and the E.164 form every decision uses. */
import { type CountryCode, type PhoneNumber as Parsed, parsePhoneNumberFromString } from 'libphonenumber-js/max';
import { matchesInTime } from '../platform/pattern.ts';
import type { Settings } from '../platform/settings.ts';

export interface PhoneNumber {
  /** As the client wrote it, trimmed. */
  readonly text: string;
  readonly e164: string;
  /** ISO 3166 region, where the number has one. */
  readonly country: string | undefined;
}

/** A number in any spelling; undefined for what cannot be one. */
export function parsePhone(settings: Settings, text: string): Parsed | undefined {
  const parsed = parsePhoneNumberFromString(text, settings.get('PHONE_DEFAULT_REGION') as CountryCode);
  return parsed === undefined || parsed.ext !== undefined || !parsed.isPossible() ? undefined : parsed;
}

/**
 * Reads a phone number of a profile. Refused is what cannot be a number at all, not what the metadata of the day does not know: new
 * ranges open all the time.
 * @returns the number, or the key of the message that says what is wrong
 */
export function readPhone(settings: Settings, text: string): PhoneNumber | { problem: string } {
  const pattern = settings.get('USER_PHONE_REGEX');
  if (pattern !== null && matchesInTime(pattern, text) !== true) return { problem: 'phone.format' };
  const parsed = parsePhone(settings, text);
  if (parsed === undefined) return { problem: 'phone.impossible' };
  return { text, e164: parsed.number, country: parsed.country };
}
