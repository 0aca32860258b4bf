/**
 * Ends requests whose client keeps us waiting. Node's own `requestTimeout` counts the whole request and would cut a bulk
 * call of minutes, so it is off: heads are Node's business (`headersTimeout`), bodies are watched here, a few times in the
 * time they have. Only requests with a body and streamed answers are entered; a GET pays one look at two headers.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';

interface Open {
  readonly response: ServerResponse;
  /** Since when the client owes us something. */
  since: number;
  /** Bytes that have gone either way, as far as the last look. */
  moved: number;
  /** Then silence counts, not length. */
  streamed: boolean;
}

/** How much longer a reader may take nothing than a sender may send nothing: readers have work to do with what they got. */
const READERS = 10;

export class Patience {
  readonly #limit: number;
  readonly #giveUp: (socket: Socket) => void;
  readonly #open = new Map<IncomingMessage, Open>();
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param limit milliseconds: an ordinary body has come by then, a streamed one is never silent for so long, and a
   *   streamed answer is never left untaken for ten times as long
   * @param giveUp answers a client whose request was not answered yet, and ends the connection
   */
  constructor(limit: number, giveUp: (socket: Socket) => void) {
    this.#limit = limit;
    this.#giveUp = giveUp;
  }

  /** At the head of every request. */
  begin(message: IncomingMessage, response: ServerResponse): void {
    const { headers } = message;
    const length = headers['content-length'];
    if ((length === undefined || length === '0') && headers['transfer-encoding'] === undefined) return;
    this.#watch(message, response, false);
  }

  /** From now on this request is a stream, one way or both. */
  stream(message: IncomingMessage, response: ServerResponse): void {
    this.#watch(message, response, true);
  }

  /** The request is answered. What is left of its body has the time of an ordinary one. */
  end(message: IncomingMessage): void {
    const open = this.#open.get(message);
    if (open === undefined) return;
    if (message.complete) {
      this.#open.delete(message);
    } else if (open.streamed) {
      message.resume();
      open.streamed = false;
      open.since = performance.now();
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#open.clear();
  }

  #watch(message: IncomingMessage, response: ServerResponse, streamed: boolean): void {
    // A request that did not come over a connection (tests inject them) keeps nobody waiting.
    if (!(message.socket instanceof Socket)) return;
    this.#open.set(message, { response, since: performance.now(), moved: 0, streamed });
    this.#timer ??= setInterval(() => this.#look(performance.now()), this.#limit / 6).unref();
  }

  #look(now: number): void {
    for (const [message, open] of this.#open) {
      const { socket, complete } = message;
      const { response, streamed } = open;
      if (socket.destroyed || (complete && (!streamed || response.writableFinished))) {
        this.#open.delete(message);
        continue;
      }
      // Reading is stopped while we are busy with what came before.
      const listening = !complete && message.readableFlowing === true;
      if (streamed) {
        const moved = socket.bytesRead + socket.bytesWritten - socket.writableLength;
        if (moved !== open.moved || (!listening && response.writableLength === 0)) {
          open.moved = moved;
          open.since = now;
          continue;
        }
      }
      if (now - open.since < this.#limit * (streamed && !listening ? READERS : 1)) continue;
      this.#open.delete(message);
      if (response.headersSent) socket.destroy();
      else this.#giveUp(socket);
    }
  }
}
