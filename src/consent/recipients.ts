/** Addresses as other systems write them: phone numbers and e-mail addresses. */
import { foldEmail } from '../accounts/accounts.ts';
import type { PointKind } from '../accounts/contact-points.ts';
import { parsePhone } from '../accounts/phone-numbers.ts';
import type { Settings } from '../platform/settings.ts';

export interface Recipient {
  readonly kind: PointKind;
  /** E.164, or the address as `foldEmail` folds it. */
  readonly value: string;
}

const email = /^[^\s\p{C}@<>"(),;:\\[\]]{1,64}@[^\s\p{C}@<>"(),;:\\[\]]+\.[^\s\p{C}@<>"(),;:\\[\]]{2,}$/u;
const e164 = /^\+[1-9]\d{6,14}$/;

/**
 * Reads an address. A number as every system should send it is taken as it is, which is what lets a million of them
 * through in seconds; any other spelling is parsed, in PHONE_DEFAULT_REGION where it names no country.
 * @returns the address, or the message key of what is wrong with it
 */
export function readRecipient(settings: Settings, text: string): Recipient | { readonly problem: string } {
  if (text.includes('@')) {
    return email.test(text) && text.length <= 254
      ? { kind: 'email', value: foldEmail(text) }
      : { problem: 'recipient.email' };
  }
  if (e164.test(text)) return { kind: 'phone', value: text };
  const parsed = parsePhone(settings, text);
  return parsed === undefined ? { problem: 'recipient.phone' } : { kind: 'phone', value: parsed.number };
}
