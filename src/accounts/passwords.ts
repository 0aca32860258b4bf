/** Passwords: argon2id (RFC 9106), Django's PBKDF2 hashes verified for accounts that were imported. */
import { pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { hash, verify } from '@node-rs/argon2';
import type { Ctx } from '../platform/ctx.ts';
import type { Complaint } from '../platform/failure.ts';

const derive = promisify(pbkdf2);

// The library's default algorithm is argon2id; OWASP's first recommendation: 19 MiB, two passes.
const cost = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

export const hashPassword = (password: string): Promise<string> => hash(password, cost);

// What a sign-in with an unknown address is compared with, so that it takes as long as any other.
let nobody: Promise<string> | undefined;

/**
 * Compares a password with a stored hash; without one it takes the same time and says no.
 * @param stored argon2id or `pbkdf2_sha256$iterations$salt$hash`, null for an account that has none
 * @returns whether it fits, and whether the hash should be renewed
 */
export async function verifyPassword(
  stored: string | null,
  password: string,
): Promise<{ fits: boolean; renew: boolean }> {
  if (stored === null) {
    nobody ??= hashPassword('nobody has this password');
    await verify(await nobody, password);
    return { fits: false, renew: false };
  }
  const django = /^pbkdf2_sha256\$(\d{1,8})\$([^$]{1,200})\$([A-Za-z0-9+/=]{40,100})$/.exec(stored);
  if (django !== null) {
    const expected = Buffer.from(django[3]!, 'base64');
    const actual = await derive(password, django[2]!, Number(django[1]), expected.length, 'sha256');
    const fits = timingSafeEqual(expected, actual);
    return { fits, renew: fits };
  }
  return { fits: await verify(stored, password), renew: false };
}

// The few that every list of leaked passwords starts with; length does the rest (NIST SP 800-63B).
const common = new Set([
  'password',
  'password1',
  '12345678',
  '123456789',
  '1234567890',
  'qwertyuiop',
  'iloveyou1',
  '11111111',
  'sifre1234',
]);

/** What is wrong with a new password; empty when it may be used. */
export function passwordComplaints(ctx: Ctx, field: string, password: string): Complaint[] {
  const min = ctx.settings.get('PASSWORD_MIN_LENGTH');
  const complaints: Complaint[] = [];
  if ([...password].length < min) complaints.push({ path: [field], key: 'password.short', values: { min } });
  if (common.has(password.toLowerCase())) complaints.push({ path: [field], key: 'password.common' });
  if (/^\d+$/.test(password)) complaints.push({ path: [field], key: 'password.numeric' });
  return complaints;
}
