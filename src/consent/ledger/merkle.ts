/** Merkle trees of RFC 9162, 2.1: roots of batches, and the paths that prove a line was in one. */
import { sha256 } from '../../platform/keys.ts';

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

/** The whole tree, leaves first, root last. */
function levels(hashes: readonly Buffer[]): Buffer[][] {
  const all = [hashes.map(leaf)];
  while (all.at(-1)!.length > 1) all.push(above(all.at(-1)!));
  return all;
}

/** The root over the hashes of lines, in order. */
export const merkleRoot = (hashes: readonly Buffer[]): Buffer => levels(hashes).at(-1)![0] ?? sha256();

/**
 * The hashes that lead from each of these lines to the root, lowest first (inclusion proof, 2.1.3). The tree is made once
 * for all of them: one tree a line would be 5000 trees for an import of one batch.
 * @param indexes places in `hashes`, from 0
 */
export function inclusionPaths(hashes: readonly Buffer[], indexes: readonly number[]): Buffer[][] {
  const tree = levels(hashes);
  return indexes.map((index) => tree.flatMap((level, height) => level[(index >> height) ^ 1] ?? []));
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
