/** Ids in order of time, and the chance that goes into them and into salts. */
import { randomBytes } from 'node:crypto';

let lastTime = 0;
let sequence = 0;

const POOL = 4096;
let pool = Buffer.alloc(0);
let taken = 0;

/** Sixteen bytes of chance, out of a pool: asking the generator for each cost as much as the hash of a line. */
export function chance(): Buffer {
  if (taken === pool.length) {
    pool = randomBytes(POOL);
    taken = 0;
  }
  taken += 16;
  return pool.subarray(taken - 16, taken);
}

/** A UUID version 7 (RFC 9562, method 1): milliseconds, then a counter that rises within one, then chance. */
export function uuidv7(now: Date): string {
  const time = Math.max(now.getTime(), lastTime);
  sequence = time === lastTime ? sequence + 1 : 0;
  // 4096 in one millisecond: borrow from the next.
  if (sequence > 0xfff) {
    lastTime = time + 1;
    sequence = 0;
  } else {
    lastTime = time;
  }
  const bytes = chance();
  bytes.writeUIntBE(lastTime, 0, 6);
  bytes.writeUInt16BE(0x7000 | sequence, 6);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
