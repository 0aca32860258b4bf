/**
 * Signed links: a token says by itself what it opens and until when, under a key that only the service has. No row is
 * written for one, so that every mail to millions can carry its own.
 */
import { timingSafeEqual } from 'node:crypto';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';

/** What a link opens, and how it ends. */
export type SignedLink =
  /** The preference page of an account; sent to the account's e-mail address and nowhere else. */
  | { readonly kind: 'account'; readonly account: number; readonly expiresAt: Date; readonly generation: number }
  /** The preference page of one address; sent there. */
  | { readonly kind: 'address'; readonly point: number; readonly expiresAt: Date; readonly generation: number }
  /** The question whether a yes was meant; sent to the address it is about. */
  | { readonly kind: 'confirm'; readonly point: number; readonly expiresAt: Date }
  /** Withdraws and can do nothing else: therefore it never ends, and nobody can take it back. */
  | {
      readonly kind: 'unsubscribe';
      readonly point: number;
      readonly account: number | null;
      readonly channel: string;
      readonly purpose: string;
    };

export type PreferenceLink = Extract<SignedLink, { kind: 'account' | 'address' }>;
export type UnsubscribeLink = Extract<SignedLink, { kind: 'unsubscribe' }>;

// Written once and for good: tokens of years ago are still read.
const kinds = ['account', 'address', 'confirm', 'unsubscribe'] as const;
const ID_BYTES = 6;
const MAC_BYTES = 16;
/** Every token ends in a letter: some mail programs leave a - or _ at the end of an address out of the link they make. */
const END = 'a';

const id = (value: number): Buffer => {
  const bytes = Buffer.alloc(ID_BYTES);
  bytes.writeUIntBE(value, 0, ID_BYTES);
  return bytes;
};
const word = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const seconds = (time: Date): Buffer => word(Math.floor(time.getTime() / 1000));

function pack(link: SignedLink): Buffer {
  const kind = Buffer.from([kinds.indexOf(link.kind) + 1]);
  switch (link.kind) {
    case 'account':
      return Buffer.concat([kind, id(link.account), seconds(link.expiresAt), word(link.generation)]);
    case 'address':
      return Buffer.concat([kind, id(link.point), seconds(link.expiresAt), word(link.generation)]);
    case 'confirm':
      return Buffer.concat([kind, id(link.point), seconds(link.expiresAt)]);
    case 'unsubscribe':
      // By name and not by number: what a channel's number is may change in the years a mail lies around.
      return Buffer.concat([
        kind,
        id(link.point),
        id(link.account ?? 0),
        Buffer.from(`${link.channel} ${link.purpose}`),
      ]);
  }
}

function unpack(bytes: Buffer): SignedLink {
  const kind = kinds[bytes[0]! - 1]!;
  const first = bytes.readUIntBE(1, ID_BYTES);
  const time = (): Date => new Date(bytes.readUInt32BE(1 + ID_BYTES) * 1000);
  const generation = (): number => bytes.readUInt32BE(1 + ID_BYTES + 4);
  switch (kind) {
    case 'account':
      return { kind, account: first, expiresAt: time(), generation: generation() };
    case 'address':
      return { kind, point: first, expiresAt: time(), generation: generation() };
    case 'confirm':
      return { kind, point: first, expiresAt: time() };
    case 'unsubscribe': {
      const account = bytes.readUIntBE(1 + ID_BYTES, ID_BYTES);
      const [channel, purpose] = bytes.toString('utf8', 1 + 2 * ID_BYTES).split(' ') as [string, string];
      return { kind, point: first, account: account === 0 ? null : account, channel, purpose };
    }
  }
}

const sign = (ctx: Ctx, payload: Buffer): Buffer => ctx.keys.hash('link', 'signed', payload).subarray(0, MAC_BYTES);

/** The token of a link, fit for a path: fewer than 150 of A–Z, a–z, 0–9, - and _. */
export function tokenOf(ctx: Ctx, link: SignedLink): string {
  const payload = pack(link);
  return Buffer.concat([payload, sign(ctx, payload)]).toString('base64url') + END;
}

/** What a token says; undefined unless we wrote it, letter by letter. Whether it is over is the caller's to ask. */
export function readToken(ctx: Ctx, token: string): SignedLink | undefined {
  if (!/^[\w-]{1,200}$/.test(token) || !token.endsWith(END)) return undefined;
  const letters = token.slice(0, -END.length);
  const bytes = Buffer.from(letters, 'base64url');
  // The last letter can carry bits that mean nothing: one link has one spelling.
  if (bytes.toString('base64url') !== letters) return undefined;
  if (bytes.length <= MAC_BYTES + ID_BYTES) return undefined;
  const payload = bytes.subarray(0, -MAC_BYTES);
  return timingSafeEqual(sign(ctx, payload), bytes.subarray(-MAC_BYTES)) ? unpack(payload) : undefined;
}

/** Expiry of a link made now, in whole seconds as tokens carry it. */
const lasting = (ctx: Ctx, age: number): Date => new Date((Math.floor(ctx.clock.now().getTime() / 1000) + age) * 1000);

/** When a confirmation asked for now ends. */
export const confirmLink = (ctx: Ctx, point: number): SignedLink => ({
  kind: 'confirm',
  point,
  expiresAt: lasting(ctx, ctx.settings.get('DOUBLE_OPT_IN_AGE')),
});

/** A link to the preference page of an account; undefined when there is no such account. */
export async function accountLink(ctx: Ctx, account: number): Promise<PreferenceLink | undefined> {
  const row = await ctx.db.one<{ generation: number }>(sql`
    select link_generation as generation from account where id = ${account} and is_active`);
  if (row === undefined) return undefined;
  return {
    kind: 'account',
    account,
    generation: row.generation,
    expiresAt: lasting(ctx, ctx.settings.get('PREFERENCE_LINK_AGE')),
  };
}

/** A link to the preference page of an address; undefined when we do not know it, or do not any more. */
export async function addressLink(ctx: Ctx, point: number): Promise<PreferenceLink | undefined> {
  const row = await ctx.db.one<{ generation: number }>(sql`
    select link_generation as generation from contact_point where id = ${point} and value is not null and erased_at is null`);
  if (row === undefined) return undefined;
  return {
    kind: 'address',
    point,
    generation: row.generation,
    expiresAt: lasting(ctx, ctx.settings.get('PREFERENCE_LINK_AGE')),
  };
}

/** Ends every preference link of an account and of its addresses. @returns false when there is no such account */
export async function revokeLinks(ctx: Ctx, account: number): Promise<boolean> {
  const row = await ctx.db.one(sql`
    with own as (
      update account set link_generation = link_generation + 1 where id = ${account} and is_active
      returning email_point, phone_point
    ), points as (
      update contact_point p set link_generation = link_generation + 1 from own where p.id in (own.email_point, own.phone_point)
    )
    select from own`);
  return row !== undefined;
}
