/**
 * Browsers that an account has signed in with: their wrong passwords are counted by themselves, so that strangers who fill
 * the count of an address lock nobody out. The cookie that shows one signs nobody in, and nothing of it is stored.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { Ctx } from '../platform/ctx.ts';
import type { Incoming } from '../platform/http.ts';
import { findByEmail } from './accounts.ts';

const COOKIE = 'known_device';
const SECONDS = 180 * 86_400;

/** Accounts of one browser: a family at one screen. The one made longest ago makes room. */
const ACCOUNTS = 3;

// A value is a nonce, the second it was made and the MAC: 54 bytes, and so 72 characters, each of which counts.
const NONCE = 16;
const MADE = 6;
const form = /^[\w-]{72}$/;

/** Whom a browser is known to, and by which password: with a new one it is a stranger's. */
export interface Holder {
  readonly id: number;
  /** The stored hash; null where they sign in by an issuer alone. */
  readonly password: string | null;
}

interface Value {
  readonly text: string;
  /** Nonce and time. */
  readonly head: Buffer;
  readonly mac: Buffer;
  /** Seconds. */
  readonly age: number;
}

const macOf = (ctx: Ctx, { id, password }: Holder, head: Buffer): Buffer =>
  ctx.keys.hash('known_device', String(id), head, password ?? '');

const secondsNow = (ctx: Ctx): number => Math.floor(ctx.clock.now().getTime() / 1000);

/** What a browser sent that is of the right form and not too old; whose it is does not show. */
function valuesIn(ctx: Ctx, { cookies }: Incoming): Value[] {
  const now = secondsNow(ctx);
  return (cookies[COOKIE] ?? '')
    .split('.', ACCOUNTS)
    .filter((text) => form.test(text))
    .map((text) => {
      const bytes = Buffer.from(text, 'base64url');
      const head = bytes.subarray(0, NONCE + MADE);
      return { text, head, mac: bytes.subarray(NONCE + MADE), age: now - head.readUIntBE(NONCE, MADE) };
    })
    .filter(({ age }) => age < SECONDS);
}

const findOf = (ctx: Ctx, values: readonly Value[], holder: Holder): Value | undefined =>
  values.find(({ head, mac }) => timingSafeEqual(mac, macOf(ctx, holder, head)));

/**
 * The name under which tries of this browser for the account of an address are counted.
 * @returns undefined when the browser is not known to that account, or there is no such account
 */
export async function knownDevice(ctx: Ctx, incoming: Incoming, email: string): Promise<string | undefined> {
  const values = valuesIn(ctx, incoming);
  if (values.length === 0) return undefined;
  // Without an account the same work, for nobody: time must not tell which addresses have one.
  const { id, password } = (await findByEmail(ctx, email)) ?? { id: 0, password: null };
  const known = findOf(ctx, values, { id, password });
  return known === undefined ? undefined : `${id} ${known.head.toString('hex', 0, NONCE)}`;
}

/**
 * The `Set-Cookie` line that makes a browser known to whoever has just signed in; none while it is known and the cookie has
 * half its time left. What it holds for other accounts stays.
 */
export function deviceCookie(ctx: Ctx, incoming: Incoming, holder: Holder): string[] {
  // A form on another site comes without our cookies: it would sign somebody in as the attacker and lose what is held here.
  if (incoming.method !== 'GET' && incoming.headers['sec-fetch-site'] === 'cross-site') return [];
  const values = valuesIn(ctx, incoming);
  const known = findOf(ctx, values, holder);
  if (known !== undefined && known.age < SECONDS / 2) return [];
  const head = Buffer.alloc(NONCE + MADE);
  randomBytes(NONCE).copy(head);
  head.writeUIntBE(secondsNow(ctx), NONCE, MADE);
  const made = Buffer.concat([head, macOf(ctx, holder, head)]).toString('base64url');
  const others = values.filter((value) => value !== known).map(({ text }) => text);
  const all = [made, ...others].slice(0, ACCOUNTS).join('.');
  return [`${COOKIE}=${all}; HttpOnly; Max-Age=${SECONDS}; Path=/; SameSite=Lax${incoming.secure ? '; Secure' : ''}`];
}
