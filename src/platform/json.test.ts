import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { JsonError, parseJson, stringifyJson, textFault } from './json.ts';

function refusal(text: string): string | undefined {
  try {
    parseJson(text);
    return undefined;
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    throw error;
  }
}

/** What Python 3.11 really said: json.loads with the parse_constant of a strict DRF. */
const REFUSED: [text: string, message: string][] = [
  ['', 'Expecting value: line 1 column 1 (char 0)'],
  ['  ', 'Expecting value: line 1 column 3 (char 2)'],
  ['\n\n ', 'Expecting value: line 3 column 2 (char 3)'],
  ['{', 'Expecting property name enclosed in double quotes: line 1 column 2 (char 1)'],
  ['[', 'Expecting value: line 1 column 2 (char 1)'],
  ['}', 'Expecting value: line 1 column 1 (char 0)'],
  [']', 'Expecting value: line 1 column 1 (char 0)'],
  ['"', 'Unterminated string starting at: line 1 column 1 (char 0)'],
  ['"abc', 'Unterminated string starting at: line 1 column 1 (char 0)'],
  ['"a\n"', 'Invalid control character at: line 1 column 3 (char 2)'],
  ['"a\tb"', 'Invalid control character at: line 1 column 3 (char 2)'],
  ['"\u0000"', 'Invalid control character at: line 1 column 2 (char 1)'],
  ['"\u001f"', 'Invalid control character at: line 1 column 2 (char 1)'],
  ['"a\\', 'Unterminated string starting at: line 1 column 1 (char 0)'],
  ['"a\\"', 'Unterminated string starting at: line 1 column 1 (char 0)'],
  ['"\\x"', 'Invalid \\escape: line 1 column 2 (char 1)'],
  ['"ab\\ "', 'Invalid \\escape: line 1 column 4 (char 3)'],
  ["'a'", 'Expecting value: line 1 column 1 (char 0)'],
  ['"\\u"', 'Invalid \\uXXXX escape: line 1 column 3 (char 2)'],
  ['"\\u12"', 'Invalid \\uXXXX escape: line 1 column 3 (char 2)'],
  ['"\\u12G4"', 'Invalid \\uXXXX escape: line 1 column 3 (char 2)'],
  ['"\\u1234', 'Invalid \\uXXXX escape: line 1 column 3 (char 2)'],
  ['"\\ud83d\\uZZZZ"', 'Invalid \\uXXXX escape: line 1 column 9 (char 8)'],
  ['{"\\u00e"}', 'Invalid \\uXXXX escape: line 1 column 4 (char 3)'],
  ['{a:1}', 'Expecting property name enclosed in double quotes: line 1 column 2 (char 1)'],
  ["{'a':1}", 'Expecting property name enclosed in double quotes: line 1 column 2 (char 1)'],
  ['{1:2}', 'Expecting property name enclosed in double quotes: line 1 column 2 (char 1)'],
  ['{"a"}', "Expecting ':' delimiter: line 1 column 5 (char 4)"],
  ['{"a" 1}', "Expecting ':' delimiter: line 1 column 6 (char 5)"],
  ['{"a":}', 'Expecting value: line 1 column 6 (char 5)'],
  ['{"a":1,}', 'Expecting property name enclosed in double quotes: line 1 column 8 (char 7)'],
  ['{"a":1 "b":2}', "Expecting ',' delimiter: line 1 column 8 (char 7)"],
  ['{"a":1', "Expecting ',' delimiter: line 1 column 7 (char 6)"],
  ['{"a":1,', 'Expecting property name enclosed in double quotes: line 1 column 8 (char 7)'],
  ['{"a":', 'Expecting value: line 1 column 6 (char 5)'],
  ['{"a', 'Unterminated string starting at: line 1 column 2 (char 1)'],
  ['{"a"', "Expecting ':' delimiter: line 1 column 5 (char 4)"],
  ['{,}', 'Expecting property name enclosed in double quotes: line 1 column 2 (char 1)'],
  ['{"a":1,,}', 'Expecting property name enclosed in double quotes: line 1 column 8 (char 7)'],
  ['{"a"::1}', 'Expecting value: line 1 column 6 (char 5)'],
  ['{"a":1]', "Expecting ',' delimiter: line 1 column 7 (char 6)"],
  ['{"a":{"b":}}', 'Expecting value: line 1 column 11 (char 10)'],
  ['[1,]', 'Expecting value: line 1 column 4 (char 3)'],
  ['[,]', 'Expecting value: line 1 column 2 (char 1)'],
  ['[1 2]', "Expecting ',' delimiter: line 1 column 4 (char 3)"],
  ['[1', "Expecting ',' delimiter: line 1 column 3 (char 2)"],
  ['[1,', 'Expecting value: line 1 column 4 (char 3)'],
  ['[1}', "Expecting ',' delimiter: line 1 column 3 (char 2)"],
  ['[1,2', "Expecting ',' delimiter: line 1 column 5 (char 4)"],
  ['[[]', "Expecting ',' delimiter: line 1 column 4 (char 3)"],
  ['[] []', 'Extra data: line 1 column 4 (char 3)'],
  ['{} x', 'Extra data: line 1 column 4 (char 3)'],
  ['1 2', 'Extra data: line 1 column 3 (char 2)'],
  ['01', 'Extra data: line 1 column 2 (char 1)'],
  ['-', 'Expecting value: line 1 column 1 (char 0)'],
  ['-a', 'Expecting value: line 1 column 1 (char 0)'],
  ['+1', 'Expecting value: line 1 column 1 (char 0)'],
  ['.5', 'Expecting value: line 1 column 1 (char 0)'],
  ['1.', 'Extra data: line 1 column 2 (char 1)'],
  ['1.e3', 'Extra data: line 1 column 2 (char 1)'],
  ['1e', 'Extra data: line 1 column 2 (char 1)'],
  ['1e+', 'Extra data: line 1 column 2 (char 1)'],
  ['0x10', 'Extra data: line 1 column 2 (char 1)'],
  ['1_000', 'Extra data: line 1 column 2 (char 1)'],
  ['--1', 'Expecting value: line 1 column 1 (char 0)'],
  ['[1.2.3]', "Expecting ',' delimiter: line 1 column 5 (char 4)"],
  ['tru', 'Expecting value: line 1 column 1 (char 0)'],
  ['nul', 'Expecting value: line 1 column 1 (char 0)'],
  ['fals', 'Expecting value: line 1 column 1 (char 0)'],
  ['True', 'Expecting value: line 1 column 1 (char 0)'],
  ['None', 'Expecting value: line 1 column 1 (char 0)'],
  ['undefined', 'Expecting value: line 1 column 1 (char 0)'],
  ['nullx', 'Extra data: line 1 column 5 (char 4)'],
  ['truefalse', 'Extra data: line 1 column 5 (char 4)'],
  ['NaN', "Out of range float values are not JSON compliant: 'NaN'"],
  ['Infinity', "Out of range float values are not JSON compliant: 'Infinity'"],
  ['-Infinity', "Out of range float values are not JSON compliant: '-Infinity'"],
  ['[1,NaN,x]', "Out of range float values are not JSON compliant: 'NaN'"],
  ['{"a":-Infinity', "Out of range float values are not JSON compliant: '-Infinity'"],
  ['[nan]', 'Expecting value: line 1 column 2 (char 1)'],
  ['-Inf', 'Expecting value: line 1 column 1 (char 0)'],
  ['NaNx', "Out of range float values are not JSON compliant: 'NaN'"],
  ['\ufeff', 'Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)'],
  ['\ufeff{}', 'Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)'],
  ['{}\ufeff', 'Extra data: line 1 column 3 (char 2)'],
  ['\u00a0{}', 'Expecting value: line 1 column 1 (char 0)'],
  ['\u2028{}', 'Expecting value: line 1 column 1 (char 0)'],
  ['{"é":é}', 'Expecting value: line 1 column 6 (char 5)'],
  ['{"😀": 1, "b" 2}', "Expecting ':' delimiter: line 1 column 14 (char 13)"],
  ['"😀" x', 'Extra data: line 1 column 5 (char 4)'],
  ['{\n  "a": 1,\n  "b": oops\n}', 'Expecting value: line 3 column 8 (char 19)'],
  ['{\n  "😀": [1,\n 2\n  3]\n}', "Expecting ',' delimiter: line 4 column 3 (char 18)"],
  ['{"a":1}\n{"b":2}\n', 'Extra data: line 2 column 1 (char 8)'],
  ['[1,\r\n2,\r\n]', 'Expecting value: line 3 column 1 (char 9)'],
  ['// c\n{}', 'Expecting value: line 1 column 1 (char 0)'],
  ['{"a":1 /* c */}', "Expecting ',' delimiter: line 1 column 8 (char 7)"],
  ['<html>', 'Expecting value: line 1 column 1 (char 0)'],
  ['a=1&b=2', 'Expecting value: line 1 column 1 (char 0)'],
  ['"a""b"', 'Extra data: line 1 column 4 (char 3)'],
  ['{"a":"😀\n"}', 'Invalid control character at: line 1 column 8 (char 7)'],
  ['["\\ud800" x]', "Expecting ',' delimiter: line 1 column 11 (char 10)"],
  [
    `[${'9'.repeat(4301)}]`,
    'Exceeds the limit (4300 digits) for integer string conversion: value has 4301 digits; use sys.set_int_max_str_digits() to increase the limit',
  ],
  [
    `-${'1'.repeat(5000)}`,
    'Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit',
  ],
];

describe('parseJson refuses in the words of Python', () => {
  test.each(REFUSED)('%j', (text, message) => {
    expect(refusal(text)).toBe(message);
  });

  test('each of these as well where Python lets it pass', () => {
    const deep = 'Nesting is deeper than 20 levels';
    const outOfRange = 'Out of range float values are not JSON compliant';
    expect(refusal('1e400')).toBe(`${outOfRange}: '1e400'`);
    expect(refusal('{"a":[-1.5E+0999]}')).toBe(`${outOfRange}: '-1.5E+0999'`);
    expect(refusal(`[${'9'.repeat(400)}.5]`)).toBe(`${outOfRange}: '${'9'.repeat(400)}.5'`);
    expect(refusal(`${'['.repeat(21)}${']'.repeat(21)}`)).toBe(deep);
    expect(refusal(`${'{"a":'.repeat(21)}1${'}'.repeat(21)}`)).toBe(deep);
    expect(refusal('['.repeat(200_000))).toBe(deep);
    expect(refusal('['.repeat(200_000) + ']'.repeat(200_000))).toBe(deep);
    expect(refusal('{"a":'.repeat(200_000))).toBe(deep);
  });

  test('what is wrong first is what is said', () => {
    expect(refusal(`[1 ${'['.repeat(30)}`)).toBe("Expecting ',' delimiter: line 1 column 4 (char 3)");
    expect(refusal('[1e400 x]')).toBe("Expecting ',' delimiter: line 1 column 8 (char 7)");
    expect(refusal(`\ufeff${'['.repeat(30)}`)).toMatch(/^Unexpected UTF-8 BOM/);
  });
});

describe('parseJson reads', () => {
  test('integers with all their digits', () => {
    expect(parseJson('[9007199254740991,-9007199254740991]')).toEqual([9007199254740991, -9007199254740991]);
    expect(parseJson('[9007199254740992,-9007199254740993]')).toEqual([9007199254740992n, -9007199254740993n]);
    expect(parseJson('9'.repeat(4300))).toBe(BigInt('9'.repeat(4300)));
    expect(parseJson(`-${'9'.repeat(4300)}`)).toBe(-BigInt('9'.repeat(4300)));
    const double = '12345678901234567890.5';
    expect(parseJson(`[1.0,1e30,1E3,${double}]`)).toEqual([1, 1e30, 1000, Number(double)]);
    expect(parseJson('{"a":"12345678901234567890","b":1e-400}')).toEqual({ a: '12345678901234567890', b: 0 });
  });

  test('20 levels, and brackets in a text are no levels', () => {
    expect(refusal(`${'['.repeat(20)}${']'.repeat(20)}`)).toBeUndefined();
    expect(refusal(`${'{"a":'.repeat(20)}1${'}'.repeat(20)}`)).toBeUndefined();
    expect(parseJson(`["\\"${'[{'.repeat(50)}\\\\"]`)).toEqual([`"${'[{'.repeat(50)}\\`]);
    expect(refusal(`[${'[],{},'.repeat(100)}[]]`)).toBeUndefined();
  });

  test('the last of equal keys, and __proto__ as a plain key', () => {
    expect(parseJson('{"a":1,"b":2,"a":3}')).toEqual({ a: 3, b: 2 });
    for (const number of ['1', '12345678901234567890']) {
      const value = parseJson(`{"__proto__":{"admin":${number}}}`) as Record<string, unknown>;
      expect(Object.keys(value)).toEqual(['__proto__']);
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
      expect(value.admin).toBeUndefined();
    }
  });

  test('NUL and half a surrogate pair, which textFault reports', () => {
    expect(parseJson('["\\u0000","\\ud800"]')).toEqual(['\0', '\ud800']);
  });
});

describe('textFault', () => {
  test.each([
    ['"\\u0000"', [], 'null_character'],
    ['{"a":[1,{"b":"x\\udc00"}]}', ['a', 1, 'b'], 'surrogate'],
    ['{"a":"\\ud800","b":"\\u0000"}', ['a'], 'surrogate'],
    ['{"a":["ok",["\\u0000"]],"b":"\\ud800"}', ['a', 1, 0], 'null_character'],
    ['{"a":{"k\\u0000":1}}', ['a', 'k\0'], 'null_character'],
    ['{"\\udc00":"\\u0000"}', ['\udc00'], 'surrogate'],
    ['{"__proto__":["\\u0000"]}', ['__proto__', 0], 'null_character'],
  ])('%s', (text, path, fault) => {
    expect(textFault(parseJson(text))).toEqual({ path, fault });
  });

  test('is undefined for good values', () => {
    expect(textFault(parseJson('{"a":["😀",null,true,1,12345678901234567890]}'))).toBeUndefined();
    expect(textFault(undefined)).toBeUndefined();
    expect(textFault({ file: { bytes: Buffer.alloc(1 << 20) } })).toBeUndefined();
  });

  test('takes any depth', () => {
    let value: unknown = '\0';
    for (let i = 0; i < 200_000; i++) value = [value];
    expect(textFault(value)?.path).toHaveLength(200_000);
  });
});

describe('stringifyJson', () => {
  test('writes a bigint as an integer and the rest as JSON.stringify does', () => {
    expect(stringifyJson({ a: [12345678901234567890n, -1n], b: undefined })).toBe('{"a":[12345678901234567890,-1]}');
    expect(stringifyJson({ a: new Date(0), b: NaN, c: 'é\ud800' })).toBe(
      '{"a":"1970-01-01T00:00:00.000Z","b":null,"c":"é\\ud800"}',
    );
  });

  test('still throws on a circle', () => {
    const circle: unknown[] = [1n];
    circle.push(circle);
    expect(() => stringifyJson(circle)).toThrow(TypeError);
  });
});

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);
const { value: anyValue } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 6 },
    fc.constantFrom(null, true, false, '', '__proto__'),
    fc.string({ unit: 'binary' }),
    fc.maxSafeInteger(),
    fc.double({ noInteger: true, noNaN: true, noDefaultInfinity: true }),
    fc.bigInt({ min: MAX_SAFE + 1n, max: 10n ** 400n }),
    fc.bigInt({ min: -(10n ** 400n), max: -MAX_SAFE - 1n }),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(fc.oneof(fc.constant('__proto__'), fc.string({ unit: 'binary' })), tie('value'), {
      maxKeys: 5,
      noNullPrototype: true,
    }),
  ),
}));

describe('properties', () => {
  test('what was written is read again', () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        const text = stringifyJson(value);
        const read = parseJson(text);
        return isDeepStrictEqual(read, value) && stringifyJson(read) === text;
      }),
    );
  });

  test('any value JSON can say survives as text', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' }), (value) => {
        const text = JSON.stringify(value);
        return stringifyJson(parseJson(text)) === text;
      }),
    );
  });

  test('a damaged text is refused exactly when JSON.parse refuses it, with a place', () => {
    const piece = fc.constantFrom(...'{}[],:"\\ \n\t01.-e', '"a"', '\\u00e9', 'true', 'null', '😀', '\u0001', '\ufeff');
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 3 }),
        fc.nat(),
        fc.nat({ max: 3 }),
        fc.array(piece, { maxLength: 4 }),
        (json, n, cut, add) => {
          const at = n % (json.length + 1);
          const text = json.slice(0, at) + add.join('') + json.slice(at + cut);
          let good = true;
          try {
            JSON.parse(text);
          } catch {
            good = false;
          }
          const message = refusal(text);
          if (!good) expect(message).toMatch(/: line \d+ column \d+ \(char \d+\)$/);
          else if (message !== undefined)
            expect(message).toMatch(/^Out of range|^Exceeds the limit|^Nesting is deeper/);
        },
      ),
      { numRuns: 500 },
    );
  });
});
