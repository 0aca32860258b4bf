/** Secrets of others at rest (AES-256-GCM): a copy of the database alone opens none. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

// The first byte says how the rest is to be read, for the day on which that changes.
const FORMAT = 1;
const NONCE = 12;
const TAG = 16;

/**
 * Encrypts a text.
 * @param key 32 bytes, `keys.encryption(purpose)`
 * @param place what it belongs to, e.g. `endpoint 7`: moved to another row it cannot be read
 */
export function encrypt(key: Buffer, text: string, place: string): Buffer {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(place));
  const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([Buffer.from([FORMAT]), nonce, body, cipher.getAuthTag()]);
}

/** The text that `encrypt` was given. @throws Error under another key, in another place, or after any change */
export function decrypt(key: Buffer, bytes: Buffer, place: string): string {
  if (bytes[0] !== FORMAT || bytes.length < 1 + NONCE + TAG) throw new Error('this is no secret of ours');
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, 1 + NONCE), { authTagLength: TAG })
    .setAAD(Buffer.from(place))
    .setAuthTag(bytes.subarray(-TAG));
  return Buffer.concat([decipher.update(bytes.subarray(1 + NONCE, -TAG)), decipher.final()]).toString('utf8');
}
