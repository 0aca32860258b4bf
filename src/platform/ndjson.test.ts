import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Failure } from './failure.ts';
import { isStream, pour, readLines } from './ndjson.ts';

/** A source that hands out these chunks as they are. */
const chunks = (...pieces: (string | Buffer)[]): Readable =>
  Readable.from(
    pieces.map((piece) => Buffer.from(piece)),
    { objectMode: false },
  );
const batchesOf = async (source: Readable): Promise<string[][]> => {
  const batches: string[][] = [];
  for await (const batch of readLines(source)) batches.push(batch);
  return batches;
};
const linesOf = async (source: Readable): Promise<string[]> => (await batchesOf(source)).flat();
const refusal = async (source: Readable): Promise<unknown[]> => {
  const error = await linesOf(source).catch((failure: unknown) => failure);
  return error instanceof Failure ? [error.code, error.values['detail']] : ['no failure', error];
};
const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

describe('reading', () => {
  test('lines end in LF or CR LF, empty ones are skipped, the last needs no end', async () => {
    expect(await linesOf(chunks('{"a":1}\n{"b":2}\r\n\n\r\n{"c":3}'))).toEqual(['{"a":1}', '{"b":2}', '{"c":3}']);
    expect(await linesOf(chunks('{"a":1}\n'))).toEqual(['{"a":1}']);
    expect(await linesOf(chunks('\n\r\n'))).toEqual([]);
    expect(await linesOf(chunks())).toEqual([]);
  });

  test('a byte order mark counts only at the start, where it is passed over', async () => {
    expect(await linesOf(chunks('\ufeff1\n\ufeff2'))).toEqual(['1', '\ufeff2']);
    expect(await linesOf(chunks('\ufeff'))).toEqual([]);
  });

  test('however a text is cut into chunks, through characters too, the same lines come out', async () => {
    const line = fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.replaceAll(/[\r\n\ufeff]/g, '_'));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(line, fc.constantFrom('\n', '\r\n')), { maxLength: 20 }),
        line,
        fc.array(fc.nat(200), { maxLength: 30 }),
        async (ended, last, cuts) => {
          const bytes = Buffer.from(ended.map(([text, end]) => text + end).join('') + last);
          const places = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
          const pieces = places.slice(1).map((to, index) => bytes.subarray(places[index], to));
          expect(await linesOf(chunks(...pieces.filter(({ length }) => length > 0)))).toEqual(
            [...ended.map(([text]) => text), last].filter((text) => text !== ''),
          );
        },
      ),
    );
  });

  test('a line may have 64 KiB, in bytes, and not one more', async () => {
    const long = 'x'.repeat(65_536);
    expect(await linesOf(chunks(`\ufeff${long}\r\n`, `${long.slice(1)}`, 'y\n'))).toEqual([long, `${long.slice(1)}y`]);
    expect(await refusal(chunks(`1\n\n${long}x\n4`))).toEqual(['malformed', 'Line 3 is longer than 64 KiB.']);
    expect(await refusal(chunks(`${'ğ'.repeat(32_768)}x`))).toEqual(['malformed', 'Line 1 is longer than 64 KiB.']);
    // Nobody waits for the end of a line that is too long already.
    const endless = new PassThrough();
    endless.write(`1\n${long}${long}`);
    expect(await refusal(endless)).toEqual(['malformed', 'Line 2 is longer than 64 KiB.']);
  });

  test('what is no UTF-8 ends the stream, with the number of its line', async () => {
    const wrong = Buffer.from([0x22, 0xc4, 0x22]);
    expect(await refusal(chunks('1\n2\n', Buffer.concat([Buffer.from('3\n'), wrong, Buffer.from('\n5\n')])))).toEqual([
      'malformed',
      'Line 4 is not UTF-8.',
    ]);
    expect(await refusal(chunks(Buffer.concat([Buffer.from('1\n'), wrong])))).toEqual([
      'malformed',
      'Line 2 is not UTF-8.',
    ]);
  });

  test('a batch has 2,000 lines at most', async () => {
    const batches = await batchesOf(chunks('1\n'.repeat(4500)));
    expect(batches.map(({ length }) => length)).toEqual([2000, 2000, 500]);
  });

  test('what came in one turn goes out together, although each line was a chunk', async () => {
    const source = new PassThrough();
    const lines = readLines(source);
    const batch = lines.next();
    for (const line of ['1\n', '2\n', '3']) source.write(line);
    expect(await batch).toEqual({ done: false, value: ['1', '2'] });
    source.end('4\n');
    expect(await lines.next()).toEqual({ done: false, value: ['34'] });
    expect(await lines.next()).toEqual({ done: true, value: undefined });
  });

  test('a consumer that does not come back makes the sender wait', async () => {
    let given = 0;
    const source = new Readable({
      read() {
        given += 1;
        this.push('{"recipient":"ada@example.com"}\n'.repeat(100));
      },
    });
    const lines = readLines(source);
    expect((await lines.next()).value).toHaveLength(2000);
    const turns = async (): Promise<number> => {
      for (let i = 0; i < 50; i += 1) await turn();
      return given;
    };
    const before = await turns();
    expect(before).toBeLessThan(100);
    expect(await turns()).toBe(before);
    expect((await lines.next()).value).toHaveLength(2000);
    expect(await turns()).toBeGreaterThan(before);
    await lines.return();
    source.destroy();
  });

  test('of long lines less than 2,000 are held: a megabyte and a chunk', async () => {
    let given = 0;
    const source = new Readable({
      read() {
        given += 1;
        this.push(`${'x'.repeat(65_535)}\n`);
      },
    });
    const lines = readLines(source);
    expect((await lines.next()).value).toHaveLength(16);
    for (let i = 0; i < 100; i += 1) await turn();
    // Those handed out, those held, and one more in the source itself.
    expect(given).toBe(16 + 16 + 1);
    await lines.return();
    source.destroy();
  });

  test('megabytes of empty lines are read on', async () => {
    const nothing = '\n'.repeat(65_536);
    expect(await linesOf(chunks(...Array<string>(40).fill(nothing), '1'))).toEqual(['1']);
  });

  test('a sender that goes away in the middle is a failure of its own', async () => {
    const source = new PassThrough();
    const lines = readLines(source);
    source.write('1\n2');
    expect((await lines.next()).value).toEqual(['1']);
    const next = lines.next();
    source.destroy();
    await expect(next).rejects.toMatchObject({ code: 'malformed', values: { detail: 'The body ends early.' } });
    expect(await lines.next()).toEqual({ done: true, value: undefined });
    // One that had gone before anybody asked.
    await expect(readLines(source).next()).rejects.toMatchObject({ code: 'malformed' });
  });

  test('a consumer that stops early lets the rest through unread', async () => {
    const source = new PassThrough();
    source.write('1\n'.repeat(5000));
    for await (const batch of readLines(source)) {
      expect([batch.length, source.isPaused()]).toEqual([2000, true]);
      break;
    }
    const ended = new Promise((resolve) => void source.once('end', resolve));
    source.end('x'.repeat(1024 * 1024));
    await ended;
    expect(source.listenerCount('data')).toBe(0);
  });
});

/** A response whose reader takes nothing until it is told to. */
class Slow extends EventEmitter {
  destroyed = false;
  ended = false;
  written: string[] = [];
  writableLength = 0;
  readonly socket = null;
  write(piece: string): boolean {
    this.written.push(piece);
    this.writableLength += piece.length;
    return false;
  }
  end(): void {
    this.ended = true;
  }
  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
  read(): void {
    this.writableLength = 0;
    this.emit('drain');
  }
}

describe('writing', () => {
  const begin = (source: AsyncIterable<string>, { complete = true, method = 'POST' } = {}) => {
    const slow = new Slow();
    const message = { complete, method };
    const heads: number[] = [];
    const fate = pour(source, message as unknown as IncomingMessage, slow as unknown as ServerResponse, {
      head: () => void heads.push(slow.written.length),
      fault: (error) => `fault: ${(error as Error).message}`,
    });
    return { slow, message, heads, fate };
  };
  /** Counts what it was asked for and says when it is let go. */
  const counted = (pieces: number, piece = 'x') => {
    const state = { made: 0, over: false };
    const source = (async function* () {
      try {
        while (state.made < pieces) {
          state.made += 1;
          yield piece;
        }
      } finally {
        state.over = true;
      }
    })();
    return { state, source };
  };

  test('only what can be gone through as it comes is a stream', () => {
    expect([isStream(counted(1).source), isStream({}), isStream(null), isStream('x'), isStream(Buffer.of(1))]).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  test('nothing is made for a reader that has not taken what there is', async () => {
    const { state, source } = counted(3);
    const { slow, fate } = begin(source);
    for (const expected of [1, 2, 3]) {
      for (let i = 0; i < 20; i += 1) await turn();
      expect([state.made, slow.ended]).toEqual([expected, false]);
      slow.read();
    }
    expect([await fate, slow.ended, slow.written]).toEqual(['whole', true, ['x', 'x', 'x']]);
  });

  test('while the request is still coming an answer runs ahead by 32 MiB, no further', async () => {
    const { state, source } = counted(100, 'x'.repeat(1024 * 1024));
    const { slow, message, fate } = begin(source, { complete: false });
    for (let i = 0; i < 20; i += 1) await turn();
    expect(state.made).toBe(32);
    message.complete = true;
    slow.read();
    for (let i = 0; i < 20; i += 1) await turn();
    expect(state.made).toBe(33);
    slow.destroy();
    expect([await fate, state.over]).toEqual(['left', true]);
  });

  test('all answers together run ahead by 64 MiB', async () => {
    const all = [1, 2, 3].map(() => {
      const { state, source } = counted(100, 'x'.repeat(1024 * 1024));
      return { state, ...begin(source, { complete: false }) };
    });
    for (let i = 0; i < 200; i += 1) await turn();
    expect(all.reduce((sum, { slow }) => sum + slow.writableLength, 0) / 1024 ** 2).toBeLessThanOrEqual(64 + 3);
    for (const { slow } of all) slow.destroy();
    expect(await Promise.all(all.map(({ fate }) => fate))).toEqual(['left', 'left', 'left']);
    expect(all.map(({ state }) => state.over)).toEqual([true, true, true]);
  });

  test('what fails before the first piece is thrown, and no head was written', async () => {
    const early = Promise.reject(new Error('early'));
    const { heads, fate, slow } = begin(
      (async function* () {
        yield await early;
      })(),
    );
    await expect(fate).rejects.toThrow('early');
    expect([heads, slow.written, slow.listenerCount('close')]).toEqual([[], [], 0]);
  });

  test('what fails later is a last line, and the answer has no end', async () => {
    const { heads, fate, slow } = begin(
      (async function* () {
        yield 'one';
        throw new Error('late');
      })(),
    );
    await turn();
    slow.read();
    expect([await fate, heads, slow.written]).toEqual(['cut', [0], ['one', 'fault: late']]);
    expect([slow.ended, slow.destroyed]).toEqual([false, true]);
  });

  test('a reader that leaves lets the source go, also one that waits or never began', async () => {
    const left = counted(3);
    const first = begin(left.source);
    await turn();
    first.slow.destroy();
    expect([await first.fate, left.state]).toEqual(['left', { made: 1, over: true }]);

    let released = false;
    const waiting = begin({
      [Symbol.asyncIterator]: () => {
        let answer: (step: IteratorResult<string>) => void = () => {};
        return {
          next: () =>
            new Promise<IteratorResult<string>>((resolve) => {
              answer = resolve;
            }),
          async return() {
            released = true;
            answer({ done: true, value: undefined });
            return { done: true as const, value: undefined };
          },
        };
      },
    });
    await turn();
    waiting.slow.destroy();
    expect([await waiting.fate, released, waiting.heads]).toEqual(['left', true, []]);
  });

  test('HEAD gets the head of it', async () => {
    const { state, source } = counted(3);
    const { fate, heads, slow } = begin(source, { method: 'HEAD' });
    expect([await fate, heads, slow.written, slow.ended, state]).toEqual([
      'whole',
      [0],
      [],
      true,
      { made: 1, over: true },
    ]);
  });

  test('an answer without a piece has a head and an end', async () => {
    const { fate, heads, slow } = begin(counted(0).source);
    expect([await fate, heads, slow.ended]).toEqual(['whole', [0], true]);
  });
});
