/**
 * JSON as Assent reads and writes it: large integers keep their digits, and what is refused is refused in the words of
 * Python's json module, because clients of the Akinon routes know those.
 */

/** Arrays and objects inside one another at most. */
const MAX_DEPTH = 20;
/** Python 3.11 refuses longer integers too: turning digits into a number takes more than linear time. */
const MAX_DIGITS = 4300;

/** Refused text; the message is Python's, position included. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
}

type Reviver = (this: unknown, key: string, value: unknown, context: { readonly source?: string }) => unknown;

/** Only such a text can have a number that JSON.parse would damage: 16 digits in a row, or an exponent of 3 digits. */
const RISKY_NUMBER = /\d{16}|\d[eE]\+?\d{3}/;
const INTEGER = /^-?\d+$/;

const keepDigits: Reviver = (_key, value, { source }) => {
  if (typeof value !== 'number' || source === undefined || Number.isSafeInteger(value)) return value;
  if (INTEGER.test(source)) {
    refuseLongInteger(source);
    return BigInt(source);
  }
  if (!Number.isFinite(value)) refuseConstant(source);
  return value;
};

/**
 * JSON.parse, but integers beyond ±(2^53-1) come as bigint, and infinite numbers and deep nesting are refused.
 * NUL and halves of surrogate pairs pass: see textFault.
 * @throws JsonError
 */
export function parseJson(text: string): unknown {
  if (isDeep(text)) explain(text);
  try {
    return RISKY_NUMBER.test(text)
      ? JSON.parse(text, keepDigits as Parameters<typeof JSON.parse>[1])
      : JSON.parse(text);
  } catch (error) {
    if (error instanceof JsonError) throw error;
    explain(text);
  }
}

/** JSON.stringify that writes a bigint as an integer. */
export function stringifyJson(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    // Nearly always there is no bigint, so the replacer's price is paid only when there is one.
    return JSON.stringify(value, rawBigints);
  }
}

const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

function rawBigints(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? rawJSON(value.toString()) : value;
}

interface Place {
  readonly value: unknown;
  readonly key: string | number;
  readonly parent: Place | undefined;
}

/**
 * The first text or key, in the order of the value, that contains NUL or half a surrogate pair.
 * The path of a key is that of its own value.
 */
export function textFault(
  value: unknown,
): { path: (string | number)[]; fault: 'null_character' | 'surrogate' } | undefined {
  const waiting: Place[] = [{ value, key: '', parent: undefined }];
  for (let place = waiting.pop(); place !== undefined; place = waiting.pop()) {
    const fault =
      (typeof place.key === 'string' ? faultOf(place.key) : undefined) ??
      (typeof place.value === 'string' ? faultOf(place.value) : undefined);
    if (fault !== undefined) return { path: pathOf(place), fault };
    // Bytes (an uploaded file) are not text, and have a key for each byte.
    if (typeof place.value !== 'object' || place.value === null || ArrayBuffer.isView(place.value)) continue;
    // Backwards, so that the first is taken first.
    if (Array.isArray(place.value)) {
      for (let i = place.value.length - 1; i >= 0; i--) waiting.push({ value: place.value[i], key: i, parent: place });
    } else {
      const entries = Object.entries(place.value);
      for (let i = entries.length - 1; i >= 0; i--) {
        const [key, inner] = entries[i]!;
        waiting.push({ value: inner, key, parent: place });
      }
    }
  }
  return undefined;
}

function faultOf(text: string): 'null_character' | 'surrogate' | undefined {
  if (text.includes('\0')) return 'null_character';
  return text.isWellFormed() ? undefined : 'surrogate';
}

function pathOf(place: Place): (string | number)[] {
  const path: (string | number)[] = [];
  for (let at = place; at.parent !== undefined; at = at.parent) path.push(at.key);
  return path.reverse();
}

/** For well-formed text exact; for other text explain() has the last word and meets the true fault no later. */
function isDeep(text: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x22) quoted = !quoted;
    else if (quoted) {
      if (code === 0x5c) i += 1;
    } else if (code === 0x5b || code === 0x7b) {
      depth += 1;
      if (depth > MAX_DEPTH) return true;
    } else if (code === 0x5d || code === 0x7d) depth -= 1;
  }
  return false;
}

function refuseLongInteger(source: string): void {
  const digits = source.startsWith('-') ? source.length - 1 : source.length;
  if (digits <= MAX_DIGITS) return;
  throw new JsonError(
    `Exceeds the limit (${MAX_DIGITS} digits) for integer string conversion: value has ${digits} digits; ` +
      'use sys.set_int_max_str_digits() to increase the limit',
  );
}

function refuseConstant(token: string): never {
  throw new JsonError(`Out of range float values are not JSON compliant: '${token}'`);
}

const SPACES = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
/** What needs no escape inside a text. */
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const HEX = /[0-9A-Fa-f]{4}/y;
const LITERALS = ['null', 'true', 'false'];
/** Python reads these; strict DRF then refuses them. */
const CONSTANTS = ['NaN', 'Infinity', '-Infinity'];

/** Reads text that was refused once more, in the order in which Python reads, to say what is wrong with it. */
function explain(text: string): never {
  const fault = (what: string, at: number): never => {
    throw new JsonError(`${what}: ${position(text, at)}`);
  };
  /** Where the pattern's match starting at `at` ends; `at` itself when it does not match. */
  const past = (pattern: RegExp, at: number): number => {
    pattern.lastIndex = at;
    return pattern.test(text) ? pattern.lastIndex : at;
  };
  const skip = (at: number): number => past(SPACES, at);

  /** @param start of the opening quote */
  const string = (start: number): number => {
    let at = start + 1;
    for (;;) {
      at = past(PLAIN, at);
      if (at >= text.length) fault('Unterminated string starting at', start);
      if (text[at] === '"') return at + 1;
      if (text[at] !== '\\') fault('Invalid control character at', at);
      const escaped = text[at + 1];
      if (escaped === undefined) fault('Unterminated string starting at', start);
      if (escaped === 'u') {
        // Python wants something after the four digits.
        if (past(HEX, at + 2) === at + 2 || at + 6 >= text.length) fault('Invalid \\uXXXX escape', at + 1);
        at += 6;
      } else if ('"\\/bfnrt'.includes(escaped!)) at += 2;
      else fault('Invalid \\escape', at);
    }
  };

  const scalar = (at: number): number => {
    const literal = LITERALS.find((word) => text.startsWith(word, at));
    if (literal !== undefined) return at + literal.length;
    const constant = CONSTANTS.find((word) => text.startsWith(word, at));
    if (constant !== undefined) refuseConstant(constant);
    const end = past(NUMBER, at);
    if (end === at) fault('Expecting value', at);
    const number = text.slice(at, end);
    if (INTEGER.test(number)) refuseLongInteger(number);
    return end;
  };

  const value = (at: number, depth: number): number => {
    const opening = text[at];
    if (opening === '"') return string(at);
    if (opening !== '[' && opening !== '{') return scalar(at);
    if (depth === MAX_DEPTH) throw new JsonError(`Nesting is deeper than ${MAX_DEPTH} levels`);
    const closing = opening === '[' ? ']' : '}';
    let here = skip(at + 1);
    if (text[here] === closing) return here + 1;
    for (;;) {
      if (opening === '{') {
        if (text[here] !== '"') fault('Expecting property name enclosed in double quotes', here);
        here = skip(string(here));
        if (text[here] !== ':') fault("Expecting ':' delimiter", here);
        here = skip(here + 1);
      }
      here = skip(value(here, depth + 1));
      if (text[here] === closing) return here + 1;
      if (text[here] !== ',') fault("Expecting ',' delimiter", here);
      here = skip(here + 1);
    }
  };

  if (text.startsWith('\ufeff')) fault('Unexpected UTF-8 BOM (decode using utf-8-sig)', 0);
  return fault('Extra data', skip(value(skip(0), 0)));
}

/** As Python counts: code points, not UTF-16 units. */
function position(text: string, at: number): string {
  let char = 0;
  let line = 1;
  let column = 1;
  for (let i = 0; i < at; char++) {
    const code = text.codePointAt(i)!;
    i += code > 0xffff ? 2 : 1;
    if (code === 0x0a) {
      line += 1;
      column = 1;
    } else column += 1;
  }
  return `line ${line} column ${column} (char ${char})`;
}
