/** Who and what a call of `/v1` speaks of: an address or an account, a channel, a purpose. */
import Type from 'typebox';
import type { Ctx } from '../platform/ctx.ts';
import { refuse } from '../platform/failure.ts';
import { channels } from './channels.ts';
import { type Recipient, readRecipient } from './recipients.ts';

const kinds = new Map<string, string>(channels.map(({ name, kind }) => [name, kind]));

/** Its fields in a body. */
export const subjectFields = {
  recipient: Type.Optional(
    Type.String({ minLength: 3, maxLength: 320, description: 'Phone number with country code, or e-mail address' }),
  ),
  account: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'Instead of a recipient: the address this account has for the channel',
    }),
  ),
  channel: Type.Enum(channels.map(({ name }) => name)),
  purpose: Type.Optional(
    Type.String({ minLength: 1, maxLength: 40, description: 'One of CONSENT_PURPOSES; `marketing` when absent' }),
  ),
};

export interface Subject {
  readonly about: Recipient | { readonly account: number };
  readonly channel: string;
  readonly purpose: string;
}

/** @throws invalid on `purpose` or `recipient` */
export function readSubject(
  ctx: Ctx,
  body: {
    readonly recipient?: string;
    readonly account?: number;
    readonly channel: string;
    readonly purpose?: string;
  },
): Subject {
  const { recipient, account, channel, purpose = 'marketing' } = body;
  if (!Object.hasOwn(ctx.settings.get('CONSENT_PURPOSES'), purpose))
    refuse({ path: ['purpose'], key: 'statement.purpose' });
  if ((recipient === undefined) === (account === undefined)) refuse({ path: ['recipient'], key: 'recipient.one' });
  if (account !== undefined) return { about: { account }, channel, purpose };
  const about = readRecipient(ctx.settings, recipient!);
  if ('problem' in about) refuse({ path: ['recipient'], key: about.problem });
  if (about.kind !== kinds.get(channel)) refuse({ path: ['recipient'], key: 'recipient.kind', values: { channel } });
  return { about, channel, purpose };
}
