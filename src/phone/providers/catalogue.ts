/** The catalogue of SMS providers: one row each. */
import { console } from './console.ts';
import { http } from './http.ts';
import { netgsm } from './netgsm.ts';
import type { SmsProvider } from './provider.ts';
import { twilio } from './twilio.ts';

export const smsProviders: Readonly<Record<string, SmsProvider>> = { console, http, twilio, netgsm };
