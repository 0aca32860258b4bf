/** Everything derived from SECRET_KEY, one key per purpose (HKDF, RFC 5869), so that no two uses share one. */
import { createPrivateKey, createPublicKey, hash, hkdfSync, type KeyObject, randomBytes } from 'node:crypto';

export interface Keys {
  /** HMAC-SHA-256 under the purpose's own key. */
  hash(
    purpose:
      | 'contact_point'
      | 'basket_uid'
      | 'code'
      | 'link'
      | 'throttle'
      | 'idempotency'
      | 'recovery_code'
      | 'known_device',
    ...parts: (string | Buffer)[]
  ): Buffer;
  /** Key for `encrypt` and `decrypt` of secrets.ts, 32 bytes. */
  encryption(
    purpose: 'webhook_secret' | 'setting_secret' | 'second_factor' | 'sign_in_step' | 'outside_sign_in',
  ): Buffer;
  /** Signs ledger heads (Ed25519, RFC 8032). */
  readonly sealing: { readonly private: KeyObject; readonly public: KeyObject };
  /** Recognises the key again without revealing it: stored in the database, compared at each start. */
  readonly fingerprint: Buffer;
}

// DER header of a PKCS#8 Ed25519 key; the 32 bytes of the seed follow (RFC 8410).
const ed25519Header = Buffer.from('302e020100300506032b657004220420', 'hex');

/**
 * The key of an HMAC as the two blocks that begin its two hashes (RFC 2104). Two one-shot hashes cost a fifth of an Hmac
 * object, and bulk decisions make one for each address.
 */
function hmacPads(key: Buffer): { inner: Buffer; outer: Buffer } {
  const block = Buffer.alloc(64);
  key.copy(block);
  return { inner: block.map((byte) => byte ^ 0x36) as Buffer, outer: block.map((byte) => byte ^ 0x5c) as Buffer };
}

/** @param secret SECRET_KEY, at least 32 characters */
export function deriveKeys(secret: string): Keys {
  const derive = (purpose: string): Buffer => Buffer.from(hkdfSync('sha256', secret, 'assent', purpose, 32));
  const pads = new Map<string, { inner: Buffer; outer: Buffer }>();
  const cache = new Map<string, Buffer>();
  const keyOf = (purpose: string): Buffer => {
    let key = cache.get(purpose);
    if (key === undefined) {
      key = derive(purpose);
      cache.set(purpose, key);
    }
    return key;
  };
  const seed = createPrivateKey({
    key: Buffer.concat([ed25519Header, derive('sealing')]),
    format: 'der',
    type: 'pkcs8',
  });
  return {
    hash(purpose, ...parts) {
      let key = pads.get(purpose);
      if (key === undefined) {
        key = hmacPads(derive(purpose));
        pads.set(purpose, key);
      }
      const pieces: Buffer[] = [key.inner];
      for (const part of parts) {
        // Length first, so that ('ab','c') and ('a','bc') differ.
        const bytes = typeof part === 'string' ? Buffer.from(part) : part;
        const length = Buffer.allocUnsafe(4);
        length.writeUInt32BE(bytes.length);
        pieces.push(length, bytes);
      }
      return hash('sha256', Buffer.concat([key.outer, hash('sha256', Buffer.concat(pieces), 'buffer')]), 'buffer');
    },
    encryption: (purpose) => keyOf(`encryption of ${purpose}`),
    sealing: { private: seed, public: createPublicKey(seed) },
    fingerprint: derive('fingerprint'),
  };
}

/** A random key in hex, as BakerOnline's tokens are; 160 bits by default. Known clients cut keys by `\w+`. */
export const randomKey = (bytes = 20): string => randomBytes(bytes).toString('hex');

/** SHA-256; enough for keys that are random and long, which is why only they are hashed with it. */
export const sha256 = (...parts: (string | Buffer)[]): Buffer =>
  // One call for the single short text of every request; no object in between.
  hash(
    'sha256',
    parts.length === 1
      ? parts[0]!
      : Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))),
    'buffer',
  );
