/**
 * NDJSON both ways: a request body read in batches of lines while it comes, an answer written while it is made. Each side
 * waits for the other, so memory stays flat whatever the length.
 *
 * A streaming client should read while it sends. One that sends everything first would stop both sides once the answer
 * fills the buffers between them: we wait for it to read, it waits for us to read. Many simple clients are like that
 * (Python's requests is), therefore an answer may run ahead of its reader as long as the request is still coming: by
 * RUN_AHEAD, all answers of this process together by RUN_AHEAD_ALL. That is room for the answers to some 100,000 lines;
 * beyond, such a client stands still and is cut off by the time limit (`patience.ts`).
 */
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { Failure } from './failure.ts';

export const NDJSON = 'application/x-ndjson';
/** Under these names it comes. */
export const ndjsonTypes: readonly string[] = [NDJSON, 'application/ndjson', 'application/jsonl'];

const KIB = 1024;
const MIB = 1024 * KIB;
/** Longest line in bytes. */
const LINE_LIMIT = 64 * KIB;
/** Most lines of one batch: what one SQL statement takes well. */
const BATCH_LINES = 2000;
/** So many bytes are read ahead of the consumer at most, and a chunk. */
const BATCH_BYTES = MIB;
const RUN_AHEAD = 32 * MIB;
const RUN_AHEAD_ALL = 64 * MIB;

const malformed = (detail: string): Failure => new Failure('malformed', { values: { detail } });

/** The lines of a stream, in batches. */
export interface Lines extends AsyncIterableIterator<string[]> {
  return(): Promise<IteratorResult<string[]>>;
}

/**
 * Reads lines as they come. A batch holds everything that has come since the last one, up to 2,000 lines, so that one
 * batch is being worked on while the next comes in; beyond that the sender is made to wait. Lines end in LF or CR LF, the
 * last one also without; empty ones are skipped, a byte order mark at the start is too. Nothing is read before the
 * first `next`, and one consumer calls it, one call after the other.
 * @throws malformed when a line is no UTF-8 or longer than 64 KiB, or the sender goes away in the middle; lines that came
 *   just before may go unread then
 */
export function readLines(source: Readable): Lines {
  /** Complete lines, those before `taken` handed out. */
  let ready: string[] = [];
  let taken = 0;
  let bytes = 0;
  /** The beginning of a line whose end has not come. */
  let rest: Buffer | undefined;
  let restLength = 0;
  let count = 0;
  let first = true;
  let state: 'new' | 'open' | 'ended' | 'stopped' = 'new';
  let failure: Failure | undefined;
  let waiting: { resolve: (result: IteratorResult<string[]>) => void; reject: (error: Failure) => void } | undefined;
  let woken = false;

  /** Whole lines without their last LF. */
  const split = (block: Buffer): void => {
    if (!isUtf8(block)) {
      // Only a character between two LFs can be cut: the first line that is wrong by itself is the one.
      let at = count + 1;
      for (let from = 0; ; at += 1) {
        const to = block.indexOf(10, from);
        if (to < 0 || !isUtf8(block.subarray(from, to))) break;
        from = to + 1;
      }
      throw malformed(`Line ${at} is not UTF-8.`);
    }
    let text = block.toString();
    if (first && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    first = false;
    for (let line of text.split('\n')) {
      count += 1;
      if (line.charCodeAt(line.length - 1) === 13) line = line.slice(0, -1);
      // A character has three bytes at most for each of its units.
      if (line.length > LINE_LIMIT / 3 && Buffer.byteLength(line) > LINE_LIMIT) tooLong(count);
      if (line !== '') ready.push(line);
    }
  };
  const tooLong = (line: number): never => {
    throw malformed(`Line ${line} is longer than ${LINE_LIMIT / KIB} KiB.`);
  };
  const keep = (piece: Buffer): void => {
    if (piece.length === 0) return;
    // Room for a byte order mark and a CR, which are not counted.
    rest ??= Buffer.allocUnsafe(LINE_LIMIT + 4);
    if (restLength + piece.length > rest.length) tooLong(count + 1);
    restLength += piece.copy(rest, restLength);
  };
  const take = (chunk: Buffer): void => {
    const end = chunk.lastIndexOf(10);
    if (end < 0) {
      keep(chunk);
      return;
    }
    const block = chunk.subarray(0, end);
    split(restLength === 0 ? block : Buffer.concat([rest!.subarray(0, restLength), block]));
    restLength = 0;
    keep(chunk.subarray(end + 1));
  };

  const onData = (chunk: Buffer | string): void => {
    const piece = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    bytes += piece.length;
    attempt(() => take(piece));
    if (ready.length - taken >= BATCH_LINES || bytes >= BATCH_BYTES) source.pause();
    wake();
  };
  const onEnd = (): void => {
    if (state !== 'open') return;
    state = 'ended';
    if (restLength > 0) attempt(() => split(rest!.subarray(0, restLength)));
    wake();
  };
  const onGone = (): void => {
    if (state !== 'open') return;
    failure ??= malformed('The body ends early.');
    wake();
  };
  const attempt = (work: () => void): void => {
    if (failure !== undefined) return;
    try {
      work();
    } catch (error) {
      failure = error as Failure;
    }
  };

  /** What came in one turn of the event loop goes out together, also when the sender made a chunk of each line. */
  const wake = (): void => {
    if (waiting === undefined || woken) return;
    woken = true;
    setImmediate(() => {
      woken = false;
      const consumer = waiting;
      if (consumer === undefined) return;
      if (failure === undefined && state === 'open' && ready.length === taken) {
        onwards();
        return;
      }
      waiting = undefined;
      try {
        consumer.resolve(step());
      } catch (error) {
        consumer.reject(error as Failure);
      }
    });
  };
  /** After a megabyte of nothing but empty lines there is still nothing to hand out. */
  const onwards = (): void => {
    bytes = 0;
    if (source.isPaused()) source.resume();
  };
  const step = (): IteratorResult<string[]> => {
    if (failure !== undefined) {
      stop();
      throw failure;
    }
    if (ready.length === taken) return { done: true, value: undefined };
    const whole = taken === 0 && ready.length <= BATCH_LINES;
    const value = whole ? ready : ready.slice(taken, taken + BATCH_LINES);
    taken += value.length;
    if (taken === ready.length) {
      ready = [];
      taken = 0;
      bytes = 0;
    }
    if (ready.length - taken < BATCH_LINES && source.isPaused()) source.resume();
    return { done: false, value };
  };
  const start = (): void => {
    state = 'open';
    source.on('data', onData).on('end', onEnd).on('error', onGone).on('close', onGone);
    // One that is gone already says nothing any more.
    if (source.destroyed && !source.readableEnded) onGone();
  };
  /** The rest is let through unread: the answer can then reach a client that is still sending. */
  const stop = (): void => {
    if (state === 'stopped') return;
    source.off('data', onData).off('end', onEnd).off('close', onGone);
    source.resume();
    state = 'stopped';
    ready = [];
    taken = 0;
    rest = undefined;
  };

  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      if (state === 'stopped') return { done: true, value: undefined };
      if (state === 'new') start();
      if (failure !== undefined || state === 'ended' || ready.length > taken) return step();
      onwards();
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject };
      });
    },
    async return() {
      stop();
      waiting?.resolve({ done: true, value: undefined });
      waiting = undefined;
      return { done: true, value: undefined };
    },
  };
}

/** An answer that is made while it is sent: each piece goes out in one write, so pieces of many lines are cheap. */
export type Pieces = AsyncIterable<string | Buffer>;

export const isStream = (body: unknown): body is Pieces =>
  typeof body === 'object' && body !== null && Symbol.asyncIterator in body;

/** Answers under way, for what they hold together. */
const pouring = new Set<ServerResponse>();

/** Whether an answer may go on although its reader has not taken what there is: see the head of this file. */
function mayRunAhead(message: IncomingMessage, response: ServerResponse): boolean {
  if (message.complete || response.writableLength >= RUN_AHEAD) return false;
  let all = 0;
  for (const { writableLength } of pouring) all += writableLength;
  return all < RUN_AHEAD_ALL;
}

/**
 * Writes a streamed answer. When the client leaves, or has not read what it got, the source is not asked any more.
 * @param head writes the head; called when the first piece is there, so that what fails before is thrown and can still be
 *   an answer of its own
 * @param fault says as a last line what failed in the middle; the connection then ends without the end of the body, so
 *   that nobody takes a part for the whole
 * @returns `whole`, `cut` after a failure, or `left` when the client did
 */
export async function pour(
  source: Pieces,
  message: IncomingMessage,
  response: ServerResponse,
  { head, fault }: { readonly head: () => void; readonly fault: (error: unknown) => string },
): Promise<'whole' | 'cut' | 'left'> {
  const iterator = source[Symbol.asyncIterator]();
  let left = response.destroyed;
  let begun = false;
  let proceed = (): void => {};
  const leave = (): void => {
    left = true;
    proceed();
    // One that waits for something ends with it; one that waits for us ends here.
    stop().catch(fault);
  };
  const stop = async (): Promise<void> => {
    await iterator.return?.();
  };
  response.once('close', leave);
  response.on('drain', () => proceed());
  pouring.add(response);
  try {
    let step = left ? undefined : await iterator.next();
    if (step !== undefined && !left) {
      begun = true;
      head();
      // HEAD: the answer has no body, whatever is written.
      while (step.done !== true && message.method !== 'HEAD') {
        if (!response.write(step.value) && !left && !mayRunAhead(message, response))
          await new Promise<void>((resolve) => {
            proceed = resolve;
          });
        if (left) break;
        step = await iterator.next();
        if (left) break;
      }
    }
    if (left || step?.done !== true) await stop();
    if (left) return 'left';
    response.off('close', leave).end();
    return 'whole';
  } catch (error) {
    if (!begun && !left) throw error;
    const line = fault(error);
    if (left) return 'left';
    response.off('close', leave).write(line);
    cut(message, response);
    return 'cut';
  } finally {
    response.off('close', leave);
    pouring.delete(response);
  }
}

/** Ends the connection after what was written, with the answer unfinished. */
function cut(message: IncomingMessage, response: ServerResponse): void {
  const { socket } = response;
  if (!(socket instanceof Socket)) response.destroy();
  else if (message.complete) socket.destroySoon();
  else {
    // Closed over unread input, a connection drops what its client has not read yet: the last line among it.
    socket.end();
    message.once('end', () => socket.destroy()).resume();
  }
}
