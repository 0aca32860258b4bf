/** Texts in the reader's language: JSON catalogues in ICU message syntax, chosen by Accept-Language (RFC 9110, 12.5.4). */
import { IntlMessageFormat } from 'intl-messageformat';
import en from '../messages/en.json' with { type: 'json' };
import fr from '../messages/fr.json' with { type: 'json' };
import nl from '../messages/nl.json' with { type: 'json' };
import tr from '../messages/tr.json' with { type: 'json' };
import type { Message } from './failure.ts';

export type Language = 'en' | 'tr' | 'nl' | 'fr';

export const catalogues: Record<Language, Record<string, string>> = { en, tr, nl, fr };

/** The language an account or setting names: `nl` and `nl-BE` alike. One that we do not speak gives English. */
export const languageOf = (code: string): Language =>
  (Object.keys(catalogues) as Language[]).find((language) => code.toLowerCase().startsWith(language)) ?? 'en';

const compiled = new Map<string, IntlMessageFormat>();

/** The text of a message. A key that no catalogue has is a defect, and shows itself as the key. */
export function say(language: Language, { key, values }: Message): string {
  const text = catalogues[language][key] ?? catalogues.en[key] ?? key;
  if (values === undefined || !text.includes('{')) return text;
  const id = `${language} ${key}`;
  let format = compiled.get(id);
  if (format === undefined) {
    // Tags are text here: a message may speak of <b>.
    format = new IntlMessageFormat(text, language, undefined, { ignoreTag: true });
    compiled.set(id, format);
  }
  return String(format.format(values));
}

export type Words = (key: string, values?: Record<string, string | number>) => string;

/** Speaks one language: `words('preferences.title')`. */
export const wordsIn =
  (language: Language): Words =>
  (key, values) =>
    say(language, values === undefined ? { key } : { key, values });

/**
 * The best of `offered` for an Accept-Language header; nonsense, such as the literal `undefined` that a known client
 * sends on its first calls, gives `fallback`.
 */
export function chooseLanguage(header: string | undefined, offered: readonly Language[], fallback: Language): Language {
  if (header === undefined || header.length > 500) return fallback;
  let best = fallback;
  let weight = 0;
  for (const part of header.split(',')) {
    const [range, ...parameters] = part
      .toLowerCase()
      .split(';')
      .map((piece) => piece.trim());
    const q = parameters.find((p) => p.startsWith('q='));
    const value = q === undefined ? 1 : Number(q.slice(2));
    const language = offered.find((candidate) => range === candidate || range?.startsWith(`${candidate}-`));
    if (language !== undefined && value > weight) {
      best = language;
      weight = value;
    }
  }
  return best;
}
