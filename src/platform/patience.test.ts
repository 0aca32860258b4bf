import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Patience } from './patience.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  patience.stop();
  vi.useRealTimers();
});

let patience: Patience;
const SECOND = 1000;

/** A request of which each side can be set, watched with a patience of 30 seconds. */
function begin(headers: Record<string, string> = { 'transfer-encoding': 'chunked' }) {
  const gone: string[] = [];
  const socket = new Socket();
  const close = (): void => void Object.defineProperty(socket, 'destroyed', { value: true });
  for (const name of ['bytesRead', 'bytesWritten', 'writableLength'])
    Object.defineProperty(socket, name, { value: 0, writable: true });
  const traffic = socket as unknown as { bytesRead: number; bytesWritten: number; writableLength: number };
  vi.spyOn(socket, 'destroy').mockImplementation(() => {
    gone.push('destroyed');
    close();
    return socket;
  });
  const message = { socket, headers, complete: false, readableFlowing: true, resume: vi.fn() };
  const response = { headersSent: false, writableLength: 0, writableFinished: false };
  const [raw, answer] = [message as unknown as IncomingMessage, response as unknown as ServerResponse];
  patience = new Patience(30 * SECOND, () => {
    gone.push('refused');
    close();
  });
  patience.begin(raw, answer);
  return {
    gone,
    traffic,
    message,
    response,
    again: () => patience.begin(raw, answer),
    stream: () => patience.stream(raw, answer),
    end: () => patience.end(raw),
    /** Lets seconds pass; something may happen in each of them. */
    pass(seconds: number, happens: () => void = () => {}): void {
      for (let i = 0; i < seconds; i += 1) {
        happens();
        vi.advanceTimersByTime(SECOND);
      }
    },
  };
}

const drip =
  (traffic: { bytesRead: number }): (() => void) =>
  () => {
    traffic.bytesRead += 1;
  };

test('a body has thirty seconds, however many bytes of it come', () => {
  const { pass, gone, traffic } = begin();
  pass(29, drip(traffic));
  expect(gone).toEqual([]);
  pass(6, drip(traffic));
  expect(gone).toEqual(['refused']);
  pass(100);
  expect(gone).toEqual(['refused']);
});

test('one that has come, or that there is not, is not watched', () => {
  const come = begin();
  come.message.complete = true;
  come.end();
  come.pass(100);
  expect(come.gone).toEqual([]);
  patience.stop();
  for (const headers of [{}, { 'content-length': '0' }] as Record<string, string>[]) {
    const { pass, gone } = begin(headers);
    expect(vi.getTimerCount()).toBe(0);
    pass(100);
    expect(gone).toEqual([]);
  }
  const sized = begin({ 'content-length': '2' });
  sized.pass(35);
  expect(sized.gone).toEqual(['refused']);
});

test('each body of a connection has its own thirty seconds', () => {
  const { pass, gone, message, again, end } = begin();
  for (let i = 0; i < 10; i += 1) {
    pass(20);
    message.complete = true;
    end();
    pass(20);
    message.complete = false;
    again();
  }
  expect([gone, vi.getTimerCount()]).toEqual([[], 1]);
  pass(36);
  expect(gone).toEqual(['refused']);
});

test('a stream may take for ever as long as something comes, and half a minute of silence', () => {
  const { pass, gone, traffic, stream, response } = begin();
  stream();
  response.headersSent = true;
  for (let i = 0; i < 100; i += 1) {
    traffic.bytesRead += 1;
    pass(24);
  }
  expect(gone).toEqual([]);
  pass(12);
  expect(gone).toEqual(['destroyed']);
});

test('silence while we are at work is ours', () => {
  const { pass, gone, stream, message } = begin();
  stream();
  message.readableFlowing = false;
  pass(1000);
  expect(gone).toEqual([]);
  message.readableFlowing = true;
  pass(36);
  expect(gone).toEqual(['refused']);
});

test('an answer may lie untaken for five minutes, and any bytes taken begin them anew', () => {
  const { pass, gone, traffic, stream, message, response } = begin();
  stream();
  Object.assign(message, { complete: true });
  Object.assign(response, { headersSent: true, writableLength: 1000 });
  Object.assign(traffic, { bytesWritten: 2000, writableLength: 1000 });
  pass(290);
  traffic.writableLength = 900;
  pass(290);
  expect(gone).toEqual([]);
  pass(20);
  expect(gone).toEqual(['destroyed']);
});

test('what is left of a stream after its answer has the time of an ordinary body', () => {
  const { pass, gone, traffic, stream, end, message, response } = begin();
  stream();
  pass(100, drip(traffic));
  Object.assign(response, { headersSent: true, writableFinished: true });
  end();
  expect(message.resume).toHaveBeenCalledOnce();
  pass(36, drip(traffic));
  expect(gone).toEqual(['destroyed']);
});
