/** Regular expressions of operators, run with a time limit: one that backtracks without end must not stop the process. */
import { createContext, Script } from 'node:vm';

/** A match takes microseconds; what takes a thousand times that never ends. */
const MILLISECONDS = 50;

const context = createContext({ pattern: '', text: '' });
const script = new Script("new RegExp(pattern, 'u').test(text)");

/** Whether a text matches, or undefined when the answer did not come in time. @throws SyntaxError */
export function matchesInTime(pattern: string, text: string): boolean | undefined {
  Object.assign(context, { pattern, text });
  try {
    return script.runInContext(context, { timeout: MILLISECONDS }) as boolean;
  } catch (error) {
    // Of another realm: no `instanceof`.
    if ((error as { code?: unknown }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return undefined;
    throw error;
  }
}

/** As long as a phone number may be, begun as numbers begin, and wrong at the very end: where a pattern that backtracks takes for ever. */
const probes = ['', '+', '0', '05', '5', '905', '+905'].flatMap((start) =>
  ['1', '0', ' ', '1 ', '12-'].map((fill) => `${start.padEnd(59, fill)}x`),
);

/** What is wrong with a pattern for phone numbers, in words; undefined when it may be used. */
export function patternProblem(pattern: string): string | undefined {
  try {
    // Twice, because a busy machine can be slow once.
    const quick = (probe: string): boolean =>
      matchesInTime(pattern, probe) !== undefined || matchesInTime(pattern, probe) !== undefined;
    return probes.every(quick) ? undefined : 'takes too long on some numbers';
  } catch (error) {
    return `is not a regular expression: ${(error as { message?: string }).message ?? String(error)}`;
  }
}
