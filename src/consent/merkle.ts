/** Merkle trees of RFC 9162, 2.1: roots of batches, and the paths that prove a line was in one. */
import { sha256 } from '../platform/keys.ts';

const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

/** Leaves and nodes are told apart, so that no node can pose as a line. */
const leaf = (hash: Buffer): Buffer => sha256(LEAF, hash);
const node = (left: Buffer, right: Buffer): Buffer => sha256(NODE, left, right);

/** The level above: an odd one out rises as it is. */
function above(level: readonly Buffer[]): Buffer[] {
  const next: Buffer[] = [];
  for (let i = 0; i < level.length; i += 2) {
    const right = level[i + 1];
    next.push(right === undefined ? level[i]! : node(level[i]!, right));
  }
  return next;
}

/** The root over the hashes of lines, in order. */
export function merkleRoot(hashes: readonly Buffer[]): Buffer {
  let level = hashes.map(leaf);
  while (level.length > 1) level = above(level);
  return level[0] ?? sha256();
}

/** The hashes that lead from the line at `index` to the root, lowest first (inclusion proof, 2.1.3). */
export function inclusionPath(hashes: readonly Buffer[], index: number): Buffer[] {
  const path: Buffer[] = [];
  let at = index;
  for (let level = hashes.map(leaf); level.length > 1; level = above(level)) {
    const sibling = level[at ^ 1];
    if (sibling !== undefined) path.push(sibling);
    at >>= 1;
  }
  return path;
}

/**
 * The root that a path leads to; undefined when the path has another length than such a tree has.
 * @param index place of the line in its batch, from 0
 * @param size lines in the batch
 */
export function rootFromPath(hash: Buffer, index: number, size: number, path: readonly Buffer[]): Buffer | undefined {
  if (index < 0 || index >= size) return undefined;
  let root = leaf(hash);
  let next = 0;
  for (let at = index, width = size; width > 1; at >>= 1, width = (width + 1) >> 1) {
    // The last of an odd level has no neighbour.
    if ((at ^ 1) >= width) continue;
    const sibling = path[next++];
    if (sibling === undefined) return undefined;
    root = at % 2 === 0 ? node(root, sibling) : node(sibling, root);
  }
  return next === path.length ? root : undefined;
}
