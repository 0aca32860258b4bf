/** Merkle trees against RFC 9162's own definition, written here a second time: split at the largest power of two. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sha256 } from '../../platform/keys.ts';
import { inclusionPaths, merkleRoot, rootFromPath } from './merkle.ts';

const line = (n: number): Buffer => sha256(`line ${n}`);
const lines = (size: number): Buffer[] => Array.from({ length: size }, (_, n) => line(n));

/** The largest power of two below. */
const split = (size: number): number => {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
};

/** MTH of 2.1.1. */
function hashOf(hashes: readonly Buffer[]): Buffer {
  if (hashes.length === 0) return sha256('');
  if (hashes.length === 1) return sha256(Buffer.from([0]), hashes[0]!);
  const k = split(hashes.length);
  return sha256(Buffer.from([1]), hashOf(hashes.slice(0, k)), hashOf(hashes.slice(k)));
}

/** PATH of 2.1.3.1. */
function pathOf(index: number, hashes: readonly Buffer[]): Buffer[] {
  if (hashes.length === 1) return [];
  const k = split(hashes.length);
  return index < k
    ? [...pathOf(index, hashes.slice(0, k)), hashOf(hashes.slice(k))]
    : [...pathOf(index - k, hashes.slice(k)), hashOf(hashes.slice(0, k))];
}

/** A batch and the place of one of its lines. */
const placed = fc.integer({ min: 1, max: 70 }).chain((size) => fc.tuple(fc.constant(size), fc.nat(size - 1)));

const leads = (hash: Buffer, index: number, size: number, path: readonly Buffer[], root: Buffer): boolean =>
  rootFromPath(hash, index, size, path)?.equals(root) === true;

describe('roots', () => {
  test('the root of nothing is the hash of nothing', () => {
    expect(merkleRoot([]).toString('hex')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  test('every size from 1 to 70 has the root that the definition gives it', () => {
    for (let size = 1; size <= 70; size += 1) expect(merkleRoot(lines(size)), `${size}`).toEqual(hashOf(lines(size)));
  });

  test('a root says which lines in which order: changed, swapped, dropped and doubled lines have another', () => {
    const property = fc.property(placed, ([size, index]) => {
      const hashes = lines(size);
      const root = merkleRoot(hashes);
      expect(merkleRoot(hashes.with(index, line(1000)))).not.toEqual(root);
      expect(merkleRoot(hashes.toSpliced(index, 1))).not.toEqual(root);
      expect(merkleRoot(hashes.toSpliced(index, 0, hashes[index]!))).not.toEqual(root);
      const other = (index + 1) % size;
      if (other !== index)
        expect(merkleRoot(hashes.with(index, hashes[other]!).with(other, hashes[index]!))).not.toEqual(root);
    });
    fc.assert(property);
  });

  test('a node cannot pose as a line: two lines have another root than the one line made of their hashes', () => {
    const [a, b] = [line(0), line(1)];
    const leaf = (hash: Buffer): Buffer => sha256(Buffer.from([0]), hash);
    expect(merkleRoot([Buffer.concat([leaf(a), leaf(b)])])).not.toEqual(merkleRoot([a, b]));
  });
});

describe('paths', () => {
  test('are those of the definition, for all lines of a batch at once', () => {
    for (let size = 1; size <= 40; size += 1) {
      const hashes = lines(size);
      const indexes = hashes.map((_, index) => index);
      expect(inclusionPaths(hashes, indexes), `${size}`).toEqual(indexes.map((index) => pathOf(index, hashes)));
    }
    expect(inclusionPaths(lines(5), [])).toEqual([]);
    expect(inclusionPaths(lines(5), [4, 0, 4])).toEqual([4, 0, 4].map((index) => pathOf(index, lines(5))));
  });

  test('lead to the root', () => {
    const property = fc.property(placed, ([size, index]) => {
      const hashes = lines(size);
      const [path] = inclusionPaths(hashes, [index]);
      expect(rootFromPath(hashes[index]!, index, size, path!)).toEqual(merkleRoot(hashes));
    });
    fc.assert(property);
  });

  test('lead nowhere from another line, another place, or with a hash that was changed, swapped, dropped or added', () => {
    const property = fc.property(placed, fc.nat(69), fc.nat(255), ([size, index], other, bit) => {
      const hashes = lines(size);
      const root = merkleRoot(hashes);
      const [path] = inclusionPaths(hashes, [index]) as [Buffer[]];
      const hash = hashes[index]!;
      expect(leads(line(1000), index, size, path, root)).toBe(false);
      if (other !== index) expect(leads(hash, other, size, path, root)).toBe(false);
      expect(leads(hash, index, size, [...path, root], root)).toBe(false);
      expect(leads(hash, index, size, [root, ...path], root)).toBe(false);
      for (const [at, node] of path.entries()) {
        expect(leads(hash, index, size, path.toSpliced(at, 1), root)).toBe(false);
        const flipped = Buffer.from(node);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        expect(leads(hash, index, size, path.with(at, flipped), root)).toBe(false);
        const next = path[at + 1];
        if (next !== undefined)
          expect(leads(hash, index, size, path.with(at, next).with(at + 1, node), root)).toBe(false);
      }
    });
    fc.assert(property);
  });

  test('another size of the batch is refused wherever the path would have another length', () => {
    const property = fc.property(placed, fc.integer({ min: -1, max: 200 }), ([size, index], said) => {
      const hashes = lines(size);
      const root = merkleRoot(hashes);
      const [path] = inclusionPaths(hashes, [index]) as [Buffer[]];
      // What the path cannot know: a line far from the end has the same neighbours in a batch of some other sizes.
      const same = said > index && JSON.stringify(sides(index, said)) === JSON.stringify(sides(index, size));
      expect(leads(hashes[index]!, index, said, path, root)).toBe(same);
    });
    fc.assert(property);
  });

  test('places outside of the batch lead nowhere', () => {
    const root = merkleRoot([line(0)]);
    expect(rootFromPath(line(0), 0, 1, [])).toEqual(root);
    for (const [index, size] of [
      [-1, 1],
      [1, 1],
      [0, 0],
      [2, 1],
    ] as const)
      expect(rootFromPath(line(0), index, size, [])).toBeUndefined();
  });
});

/** On which side the neighbours stand on the way up; a level where there is none is passed over. */
function sides(index: number, size: number): ('left' | 'right')[] {
  if (size <= 1) return [];
  const k = split(size);
  return index < k ? [...sides(index, k), 'right'] : [...sides(index - k, size - k), 'left'];
}
