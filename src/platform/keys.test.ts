import { createHmac, hkdfSync } from 'node:crypto';
import { expect, test } from 'vitest';
import { deriveKeys } from './keys.ts';

const SECRET = 'a secret of thirty-two characters';

test('hashes are HMAC-SHA-256 under the purpose’s own key, each part with its length before it', () => {
  const key = Buffer.from(hkdfSync('sha256', SECRET, 'assent', 'contact_point', 32));
  const told = Buffer.concat([
    Buffer.from([0, 0, 0, 5]),
    Buffer.from('phone'),
    Buffer.from([0, 0, 0, 13]),
    Buffer.from('+905321234567'),
  ]);
  const keys = deriveKeys(SECRET);
  expect(keys.hash('contact_point', 'phone', '+905321234567')).toEqual(createHmac('sha256', key).update(told).digest());
  expect(keys.hash('contact_point', 'phone', Buffer.from('+905321234567'))).toEqual(
    keys.hash('contact_point', 'phone', '+905321234567'),
  );
  expect(keys.hash('contact_point', 'pho', 'ne+905321234567')).not.toEqual(
    keys.hash('contact_point', 'phone', '+905321234567'),
  );
  expect(keys.hash('link', 'phone', '+905321234567')).not.toEqual(keys.hash('contact_point', 'phone', '+905321234567'));
});
