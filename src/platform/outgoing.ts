/** Calls to others, made by jobs and by a sign-in at an outside issuer: with an end to waiting, and errors in words of ours. */
import { Agent, request } from 'undici';
import type { HttpAnswer, HttpCall } from '../calls.ts';

/** Bytes of an answer that are read; what comes after them is dropped. */
const ANSWER_LIMIT = 64 * 1024;

// Providers are named by operators, who may well have one in their own network: no address is refused here.
const agent = new Agent({ connect: { timeout: 10_000 }, connections: 32, pipelining: 1 });

const words: Readonly<Record<string, string>> = {
  PRIVATE_ADDRESS: 'private address refused',
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection lost',
  UND_ERR_SOCKET: 'connection lost',
  UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'unknown host',
};

/** A failed call in few words. Short and ours: the text of an error may repeat what the other side sent. */
export function inWords(error: unknown): string {
  if (!(error instanceof Error)) return 'failed';
  if (error.name === 'TimeoutError') return 'no answer in time';
  // Several addresses, each with its own error: the first speaks.
  const cause = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : 'failed';
  return words[code] ?? code.slice(0, 60);
}

/** Errors after which the other side cannot have heard of it. */
const unheard = new Set(['connection refused', 'unknown host', 'no connection in time']);

/** A call without an answer. */
export class CallError extends Error {
  override readonly name = 'CallError';
  /** The other side may have done what was asked. */
  readonly doubtful: boolean;

  constructor(reason: string) {
    super(reason);
    this.doubtful = !unheard.has(reason);
  }
}

/**
 * Makes a call.
 * @param timeout milliseconds for all of it
 * @throws CallError when no whole answer came
 */
export async function call({ method, url, headers, body }: HttpCall, timeout: number): Promise<HttpAnswer> {
  try {
    const answer = await request(url, {
      method,
      headers: { 'user-agent': 'Assent', ...headers },
      ...(body === undefined ? {} : { body }),
      dispatcher: agent,
      signal: AbortSignal.timeout(timeout),
    });
    const pieces: Buffer[] = [];
    let length = 0;
    for await (const piece of answer.body) {
      pieces.push(piece as Buffer);
      length += (piece as Buffer).length;
      if (length >= ANSWER_LIMIT) break;
    }
    return {
      status: answer.statusCode,
      headers: Object.fromEntries(
        Object.entries(answer.headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]),
      ),
      body: Buffer.concat(pieces).subarray(0, ANSWER_LIMIT).toString('utf8'),
    };
  } catch (error) {
    throw new CallError(inWords(error));
  }
}
