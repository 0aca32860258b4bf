/** Lines put on piles until all have come: in memory while they are few, else in a file that nobody else can open. */
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomKey } from '../../platform/keys.ts';

/** A pile that has grown this long is written down; all together hold some MiB at most. */
const PILE_LENGTH = 65_536;

export interface Piles {
  /** A promise when the line has to be waited for. */
  add(pile: number, line: string): Promise<void> | undefined;
  /** The lines of a pile, in their order. */
  read(pile: number): Promise<string[]>;
  close(): Promise<void>;
}

/** @param count how many piles there are; lines hold no line ends */
export function openPiles(count: number): Piles {
  const piles = Array.from({ length: count }, () => ({
    lines: [] as string[],
    length: 0,
    parts: [] as [number, number][],
  }));
  let file: FileHandle | undefined;
  let end = 0;

  /** One file for all: it has lost its name at once, so that it is gone with the process however that ends. */
  const openFile = async (): Promise<FileHandle> => {
    const name = join(tmpdir(), `assent-${randomKey(8)}`);
    const handle = await open(name, 'wx+', 0o600);
    await unlink(name);
    return handle;
  };
  const writeDown = async (pile: (typeof piles)[number]): Promise<void> => {
    const bytes = Buffer.from(`${pile.lines.join('\n')}\n`);
    pile.lines = [];
    pile.length = 0;
    file ??= await openFile();
    await file.write(bytes, 0, bytes.length, end);
    pile.parts.push([end, bytes.length]);
    end += bytes.length;
  };

  return {
    add(index, line) {
      const pile = piles[index]!;
      pile.lines.push(line);
      pile.length += line.length;
      return pile.length < PILE_LENGTH ? undefined : writeDown(pile);
    },
    async read(index) {
      const { lines, parts } = piles[index]!;
      const before: string[] = [];
      for (const [at, length] of parts) {
        const bytes = Buffer.alloc(length);
        await file!.read(bytes, 0, length, at);
        before.push(...bytes.toString().split('\n').slice(0, -1));
      }
      return [...before, ...lines];
    },
    async close() {
      await file?.close();
    },
  };
}
