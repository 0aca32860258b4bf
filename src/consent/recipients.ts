/** Addresses as other systems write them: phone numbers with their country code, e-mail addresses. */
import { foldEmail } from '../accounts/accounts.ts';
import type { PointKind } from '../accounts/contact-points.ts';

export interface Recipient {
  readonly kind: PointKind;
  /** E.164, or the address as `foldEmail` folds it. */
  readonly value: string;
}

const email = /^[^\s@<>"(),;:\\[\]]{1,64}@[^\s@<>"(),;:\\[\]]+\.[^\s@<>"(),;:\\[\]]{2,}$/u;

/**
 * Reads an address. Phone numbers need their country code: a program that leaves it out means a country we cannot know.
 * @returns the address, or the message key of what is wrong with it
 */
export function readRecipient(text: string): Recipient | { readonly problem: string } {
  if (text.includes('@')) {
    return email.test(text) && text.length <= 254
      ? { kind: 'email', value: foldEmail(text) }
      : { problem: 'recipient.email' };
  }
  const digits = text.startsWith('+') ? text.replaceAll(/[\s().-]/g, '') : text;
  return /^\+[1-9]\d{6,14}$/.test(digits) ? { kind: 'phone', value: digits } : { problem: 'recipient.phone' };
}
