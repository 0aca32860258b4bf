/** A line by itself. Its hash is an outside format: whoever checks a proof years from now computes the same. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { commitment, type Evidence } from '../../platform/evidence.ts';
import { uuidv7 } from '../../platform/ids.ts';
import { type Line, lineHash } from './lines.ts';

const line: Line = {
  id: '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a',
  address_kind: 'phone',
  address_hash: 'ab12',
  contact_point: 3,
  account: 7,
  channel: 'sms',
  purpose: 'marketing',
  kind: 'grant',
  occurred_at: new Date('2026-11-21T08:00:00.123Z'),
  recorded_at: new Date('2026-11-21T08:00:01Z'),
  source: 'account',
  actor: 'account:7',
  idempotency_key: null,
  commitment: Buffer.from('c0ffee', 'hex'),
  proven: true,
  outcome: 'applied',
  notice_sha256: 'cd34',
};
const sha = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('lineHash', () => {
  test('is the SHA-256 of the array of its fields', () => {
    expect(lineHash(line).toString('hex')).toBe(
      sha(
        '["assent line 2","019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a","phone","ab12",3,7,"sms","marketing","grant","2026-11-21T08:00:00.123Z","2026-11-21T08:00:01.000Z","account","account:7",null,"c0ffee",true,"applied","cd34"]',
      ),
    );
  });

  test('of a line from before it was recorded whether the address was proven covers what was known then', () => {
    expect(lineHash({ ...line, proven: null }).toString('hex')).toBe(
      sha(
        '["assent line 1","019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a","phone","ab12",3,7,"sms","marketing","grant","2026-11-21T08:00:00.123Z","2026-11-21T08:00:01.000Z","account","account:7",null,"c0ffee"]',
      ),
    );
  });

  test.each<Partial<Line>>([
    { id: '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6b' },
    { address_kind: 'email' },
    { address_hash: null },
    { contact_point: 4 },
    { account: null },
    { channel: 'call' },
    { purpose: 'research' },
    { kind: 'withdraw' },
    { occurred_at: new Date('2026-11-21T08:00:00.124Z') },
    { recorded_at: new Date('2026-11-21T08:00:02Z') },
    { source: 'import' },
    { actor: 'system' },
    { idempotency_key: 'key' },
    { commitment: Buffer.from('c0ffed', 'hex') },
    { proven: false },
    { outcome: 'stale' },
    { notice_sha256: null },
  ])('changes with %o', (change) => {
    expect(lineHash({ ...line, ...change }).equals(lineHash(line))).toBe(false);
  });
});

describe('commitment', () => {
  const salt = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  const hex = (evidence: Evidence, salted = salt): string => commitment(salted, evidence).toString('hex');
  const saltedSha = (text: string): string => createHash('sha256').update(salt).update(text).digest('hex');

  test('is the SHA-256 of salt and evidence, its keys sorted at every level', () => {
    expect(hex({ ip: '::1', form: { b: [2, 1], a: null } })).toBe(
      saltedSha('{"form":{"a":null,"b":[2,1]},"ip":"::1"}'),
    );
    expect(hex({ form: { a: null, b: [2, 1] }, ip: '::1' })).toBe(hex({ ip: '::1', form: { b: [2, 1], a: null } }));
    expect(hex({})).toBe(saltedSha('{}'));
  });

  test('lists keep their order, and objects in them are sorted too', () => {
    expect(hex({ list: [{ b: 1, a: 2 }, null, 'x'] })).toBe(saltedSha('{"list":[{"a":2,"b":1},null,"x"]}'));
    expect(hex({ list: [1, 2] })).not.toBe(hex({ list: [2, 1] }));
  });

  test('of the same evidence under another salt is another', () => {
    expect(hex({ ip: '::1' }, Buffer.alloc(16))).not.toBe(hex({ ip: '::1' }));
  });
});

describe('uuidv7', () => {
  // Later than any other call of this file: the counter never goes back.
  const at = (milliseconds: number): Date => new Date(4_000_000_000_000 + milliseconds);
  const time = (id: string): number => Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16);

  test('is a UUID of version 7 that begins with its millisecond', () => {
    const id = uuidv7(at(0));
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7000-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(time(id)).toBe(at(0).getTime());
  });

  test('counts within a millisecond, from nothing in each', () => {
    expect([uuidv7(at(10)), uuidv7(at(10)), uuidv7(at(10)), uuidv7(at(11))].map((id) => id.slice(15, 18))).toEqual([
      '000',
      '001',
      '002',
      '000',
    ]);
  });

  test('rises whatever the clock does: standing still, going back, or more in a millisecond than it counts', () => {
    const ids = Array.from({ length: 10_000 }, () => uuidv7(at(20)));
    ids.push(uuidv7(at(5)), uuidv7(at(21)), uuidv7(at(22)), uuidv7(at(23)), uuidv7(at(30)));
    expect(ids.toSorted()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
    // 4096 to a millisecond, the next ones borrowed from those to come.
    expect([0, 4095, 4096, 8191, 8192].map((index) => time(ids[index]!) - at(20).getTime())).toEqual([0, 0, 1, 1, 2]);
    expect(ids[4095]!.slice(14, 18)).toBe('7fff');
    expect(time(ids.at(-1)!)).toBe(at(30).getTime());
  });

  test('the rest is chance', () => {
    const tails = new Set(Array.from({ length: 200 }, () => uuidv7(at(40)).slice(-7)));
    expect(tails.size).toBe(200);
  });
});
