/** One log line a request, no personal data in it: routes instead of paths, no headers, no bodies. */
import { type DestinationStream, destination, type Logger, pino } from 'pino';

/** Characters that are gathered before they are written. A write per line costs a third of a fast GET, a look at its bytes a tenth. */
const CHUNK = 32_768;

/** Standard output in chunks, without waiting for it; a quiet service still shows its last lines within a second. */
function standardOutput(): DestinationStream & { flush(done?: () => void): void } {
  const out = destination({ dest: 1, sync: false });
  let lines = '';
  const hand = (): void => {
    if (lines !== '') out.write(lines);
    lines = '';
  };
  setInterval(hand, 1000).unref();
  process.on('exit', () => {
    hand();
    try {
      out.flushSync();
    } catch {
      // It was never opened, or whoever read it has gone.
    }
  });
  return {
    write(line) {
      lines += line;
      if (lines.length >= CHUNK) hand();
    },
    flush(done) {
      hand();
      out.flush(done);
    },
  };
}

/**
 * @param level as LOG_LEVEL
 * @param stream where lines go; standard output when absent
 */
export const createLog = (level: string, stream: DestinationStream = standardOutput()): Logger =>
  pino(
    {
      level,
      base: null,
      timestamp: time,
      serializers: { err: (error: unknown) => ({ ...describeError(error) }) },
    },
    stream,
  );

let lastTime = 0;
let lastText = '';

/** The time in ISO 8601; put together once a millisecond, in which a busy service logs twenty lines. */
function time(): string {
  const now = Date.now();
  if (now !== lastTime) {
    lastTime = now;
    lastText = `,"time":"${new Date(now).toISOString()}"`;
  }
  return lastText;
}

/** Type, message and stack. Driver errors carry row values in `detail` and parameters: those stay out. */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  return {
    type: error.constructor.name,
    message: error.message,
    ...('code' in error ? { code: error.code } : {}),
    stack: error.stack,
    ...(error.cause === undefined ? {} : { cause: describeError(error.cause) }),
  };
}
