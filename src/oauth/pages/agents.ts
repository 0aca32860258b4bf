/** What people call the program behind a User-Agent header. A guess for its owner's eyes; nothing rests on it. */

// The first that fits: most name others beside themselves.
const browsers: readonly (readonly [RegExp, string])[] = [
  [/\bEdgA?(?:iOS)?\//, 'Edge'],
  [/\b(?:OPR|Opera)\//, 'Opera'],
  [/\bSamsungBrowser\//, 'Samsung Internet'],
  [/\b(?:Firefox|FxiOS)\//, 'Firefox'],
  [/\b(?:Chrome|Chromium|CriOS|HeadlessChrome)\//, 'Chrome'],
  [/\bVersion\/[\d.]+.*\bSafari\//, 'Safari'],
];

const systems: readonly (readonly [RegExp, string])[] = [
  [/\biPhone\b/, 'iPhone'],
  [/\biPad\b/, 'iPad'],
  [/\bAndroid\b/, 'Android'],
  [/\bWindows\b/, 'Windows'],
  [/\bMac OS X\b/, 'Mac'],
  [/\bCrOS\b/, 'ChromeOS'],
  [/\bLinux\b/, 'Linux'],
];

/** Browser and system, each undefined where the header names none that is known. */
export function agentOf(header: string | null): { browser: string | undefined; system: string | undefined } {
  const find = (among: typeof browsers): string | undefined =>
    among.find(([pattern]) => header !== null && pattern.test(header))?.[1];
  return { browser: find(browsers), system: find(systems) };
}
