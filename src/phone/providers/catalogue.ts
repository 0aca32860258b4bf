/** The catalogue of SMS providers: one row each. */
import { console } from './console.ts';
import type { SmsProvider } from './provider.ts';

export const smsProviders: Readonly<Record<string, SmsProvider>> = { console };
