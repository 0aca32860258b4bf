/**
 * Ends requests whose client keeps us waiting. Node's own `requestTimeout` counts the whole request and would cut a bulk
 * call of minutes, so it is off: heads are Node's business (`headersTimeout`), bodies are watched here, a few times in the
 * time they have. A GET pays one look at two headers, a body three fields: a connection has one body at a time, so what
 * is awaited of it stands on the connection (a Map by request costs 3 µs a request).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/** The ordinary body that a connection is at. */
interface Seat {
  readonly socket: Socket;
  message: IncomingMessage | undefined;
  response: ServerResponse;
  since: number;
}

interface Stream {
  readonly response: ServerResponse;
  /** Since when the client owes us something. */
  since: number;
  /** Bytes that have gone either way, as far as the last look. */
  moved: number;
}

const SEAT = Symbol('seat');
type Seated = Socket & { [SEAT]?: Seat };

/** How much longer a reader may take nothing than a sender may send nothing: readers have work to do with what they got. */
const READERS = 10;

export class Patience {
  readonly #limit: number;
  readonly #refuse: (socket: Socket) => void;
  readonly #seats = new Set<Seat>();
  readonly #streams = new Map<IncomingMessage, Stream>();
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param limit milliseconds: an ordinary body has come by then, a streamed one is never silent for so long, and a
   *   streamed answer is never left untaken for ten times as long
   * @param refuse answers a client whose request was not answered yet, and ends the connection
   */
  constructor(limit: number, refuse: (socket: Socket) => void) {
    this.#limit = limit;
    this.#refuse = refuse;
  }

  /** At the head of every request. */
  begin(message: IncomingMessage, response: ServerResponse): void {
    const { headers } = message;
    const length = headers['content-length'];
    if ((length === undefined || length === '0') && headers['transfer-encoding'] === undefined) return;
    const seat = (message.socket as Seated)[SEAT];
    if (seat === undefined) {
      this.#seat(message, response);
    } else {
      seat.message = message;
      seat.response = response;
      seat.since = performance.now();
    }
  }

  /** From now on this request is a stream, one way or both. */
  stream(message: IncomingMessage, response: ServerResponse): void {
    if (!(message.socket instanceof Socket)) return;
    const seat = (message.socket as Seated)[SEAT];
    if (seat?.message === message) seat.message = undefined;
    this.#streams.set(message, { response, since: performance.now(), moved: 0 });
    this.#start();
  }

  /** The request is answered. What is left of its body has what an ordinary one has; of a stream, from now on. */
  end(message: IncomingMessage): void {
    const seat = (message.socket as Seated | null)?.[SEAT];
    if (seat?.message === message && message.complete) seat.message = undefined;
    const stream = this.#streams.size === 0 ? undefined : this.#streams.get(message);
    if (stream === undefined) return;
    this.#streams.delete(message);
    if (message.complete) return;
    this.begin(message, stream.response);
    message.resume();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#seats.clear();
    this.#streams.clear();
  }

  #seat(message: IncomingMessage, response: ServerResponse): void {
    const { socket } = message;
    // A request that did not come over a connection (tests inject them) keeps nobody waiting.
    if (!(socket instanceof Socket)) return;
    const seat: Seat = { socket, message, response, since: performance.now() };
    (socket as Seated)[SEAT] = seat;
    this.#seats.add(seat);
    this.#start();
  }

  #start(): void {
    this.#timer ??= setInterval(() => this.#look(performance.now()), this.#limit / 6).unref();
  }

  #look(now: number): void {
    for (const seat of this.#seats) {
      const { socket, message, response } = seat;
      if (socket.destroyed) this.#seats.delete(seat);
      else if (message === undefined || message.complete) seat.message = undefined;
      else if (now - seat.since >= this.#limit) this.#giveUp(socket, response);
    }
    for (const [message, stream] of this.#streams) {
      const { socket, complete } = message;
      const { response } = stream;
      if (socket.destroyed || (complete && response.writableFinished)) {
        this.#streams.delete(message);
        continue;
      }
      // Reading is stopped while we are busy with what came before.
      const listening = !complete && message.readableFlowing === true;
      const moved = socket.bytesRead + socket.bytesWritten - socket.writableLength;
      if (moved !== stream.moved || (!listening && response.writableLength === 0)) {
        stream.moved = moved;
        stream.since = now;
      } else if (now - stream.since >= this.#limit * (listening ? 1 : READERS)) {
        this.#streams.delete(message);
        this.#giveUp(socket, response);
      }
    }
  }

  #giveUp(socket: Socket, response: ServerResponse): void {
    if (response.headersSent) socket.destroy();
    else this.#refuse(socket);
  }
}
