import { IntlMessageFormat } from 'intl-messageformat';
import { describe, expect, test } from 'vitest';
import { catalogues, chooseLanguage, type Language, say } from './language.ts';

const LANGUAGES = Object.keys(catalogues) as Language[];
const MESSAGES = LANGUAGES.flatMap((language) =>
  Object.entries(catalogues[language]).map(([key, text]): [Language, string, string] => [language, key, text]),
);

type Ast = ReturnType<IntlMessageFormat['getAst']>;

function parse(text: string, language: Language): Ast {
  return new IntlMessageFormat(text, language, undefined, { ignoreTag: true }).getAst();
}

/** Every argument of a message with its element type, those inside of plural branches too. */
function collect(ast: Ast, found = new Set<string>()): Set<string> {
  for (const element of ast) {
    // 0 is literal text, 7 the # of a plural: neither names an argument.
    if (element.type !== 0 && element.type !== 7) found.add(`${element.value} (${element.type})`);
    if ('options' in element) for (const option of Object.values(element.options)) collect(option.value, found);
  }
  return found;
}

function args(text: string, language: Language): string[] {
  return [...collect(parse(text, language))].sort();
}

describe('catalogues', () => {
  test.each(LANGUAGES)('%s has the keys of en, in the same order', (language) => {
    expect(Object.keys(catalogues[language])).toEqual(Object.keys(catalogues.en));
  });

  test.each(MESSAGES)('%s %s parses, with the arguments of en', (language, key, text) => {
    expect(args(text, language)).toEqual(args(catalogues.en[key]!, 'en'));
  });

  test('the arguments are found at all', () => {
    expect(args(catalogues.en['error.see_errors']!, 'en')).toEqual(['count (6)']);
    expect(args('{a} {n, plural, one {{b}} other {# {c}}}', 'en')).toEqual(['a (1)', 'b (1)', 'c (1)', 'n (6)']);
  });

  test.each(MESSAGES)('%s %s is not empty and quotes no brace', (_language, _key, text) => {
    expect(text.trim()).not.toBe('');
    expect(text).toBe(text.trim());
    expect(text).not.toMatch(/'[{}]/);
  });

  test.each(['tr', 'nl', 'fr'] as const)('%s uses no straight apostrophe', (language) => {
    expect(Object.values(catalogues[language]).filter((text) => text.includes("'"))).toEqual([]);
  });
});

describe('chooseLanguage', () => {
  const choose = (header: string | undefined, fallback: Language = 'en') => chooseLanguage(header, LANGUAGES, fallback);

  test.each<[header: string, expected: Language]>([
    ['tr', 'tr'],
    ['TR', 'tr'],
    ['tr-TR', 'tr'],
    ['fr-CA-x-private', 'fr'],
    ['tr-TR,tr;q=0.9,en-US;q=0.8,en;q=0.7', 'tr'],
    ['en;q=0.5, nl;q=0.8, fr;q=0.7', 'nl'],
    ['en;q=0.5,nl; q=0.8', 'nl'],
    ['nl,fr', 'nl'],
    ['fr;q=0.4,nl;q=0.4', 'fr'],
    ['tr;q=0.1,fr', 'fr'],
    ['de-DE,de;q=0.9,fr;q=0.1', 'fr'],
  ])('%s gives %s', (header, expected) => {
    expect(choose(header)).toBe(expected);
  });

  test.each([
    undefined,
    '',
    ',',
    ';;;',
    '*',
    'undefined',
    'null',
    'de',
    'de-AT,ja;q=0.9',
    'trk',
    'tr_TR',
    'en;q=0',
    'en;q=0,fr;q=0',
    'en;q=high',
    'en;q=',
    'en;q=-1',
    '__proto__',
  ])('%s gives the fallback', (header) => {
    expect(choose(header, 'tr')).toBe('tr');
    expect(choose(header, 'nl')).toBe('nl');
  });

  test('what is not offered is not chosen', () => {
    expect(chooseLanguage('nl,tr;q=0.5', ['en', 'tr'], 'en')).toBe('tr');
    expect(chooseLanguage('nl', ['en', 'tr'], 'en')).toBe('en');
    expect(chooseLanguage('nl', [], 'tr')).toBe('tr');
  });

  test('an absurdly long header gives the fallback, and at once', () => {
    expect(choose(`fr,${'x'.repeat(497)}`)).toBe('fr');
    expect(choose(`fr,${'x'.repeat(498)}`)).toBe('en');
    const start = performance.now();
    expect(choose('fr;q=0.5,'.repeat(1_000_000))).toBe('en');
    expect(choose(`fr${'-'.repeat(1_000_000)}`)).toBe('en');
    expect(performance.now() - start).toBeLessThan(1000);
  });
});

describe('say', () => {
  test.each<[Language, number, string]>([
    ['en', 1, 'Request was throttled. Expected available in 1 second.'],
    ['en', 2, 'Request was throttled. Expected available in 2 seconds.'],
    ['tr', 1, 'Üst üste çok fazla istek yapıldı. 1 saniye içinde erişilebilir olması bekleniyor.'],
    ['tr', 2, 'Üst üste çok fazla istek yapıldı. 2 saniye içinde erişilebilir olması bekleniyor.'],
  ])('%s throttled for %i', (language, seconds, expected) => {
    expect(say(language, { key: 'error.throttled', values: { seconds } })).toBe(expected);
  });

  test.each<[Language, number, string]>([
    ['en', 1, 'One place in the request must be put right: see `errors`.'],
    ['en', 2, '2 places in the request must be put right: see `errors`.'],
    ['tr', 1, 'İstekte bir yer düzeltilmeli: `errors` alanına bakın.'],
    ['tr', 2, 'İstekte 2 yer düzeltilmeli: `errors` alanına bakın.'],
    ['nl', 1, 'Eén plaats in het verzoek moet worden verbeterd: zie `errors`.'],
    ['nl', 2, '2 plaatsen in het verzoek moeten worden verbeterd: zie `errors`.'],
    ['fr', 1, 'Un point de la requête doit être corrigé\u00a0: voir `errors`.'],
    ['fr', 2, '2 points de la requête doivent être corrigés\u00a0: voir `errors`.'],
  ])('%s with %i places', (language, count, expected) => {
    expect(say(language, { key: 'error.see_errors', values: { count } })).toBe(expected);
  });

  test.each(['{', '}', '{max}', '{0', '<b>', '<b>bold</b>', '</b>', "'{'", '#', '$&', ''])(
    'the value %j is shown literally',
    (value) => {
      expect(say('en', { key: 'field.choice', values: { value } })).toBe(`"${value}" is not a valid choice.`);
      expect(say('tr', { key: 'field.choice', values: { value } })).toBe(`"${value}" geçerli bir seçim değil.`);
      for (const language of LANGUAGES) {
        expect(say(language, { key: 'error.malformed', values: { detail: value } })).toBe(value);
      }
    },
  );

  test('a text without arguments is itself', () => {
    expect(say('en', { key: 'password.differ' })).toBe("The two password fields didn't match.");
    expect(say('en', { key: 'password.differ', values: {} })).toBe("The two password fields didn't match.");
    expect(say('fr', { key: 'account.email_same' })).toBe('C’est déjà votre adresse.');
  });

  test('an unknown key shows itself', () => {
    expect(say('tr', { key: 'no.such.key' })).toBe('no.such.key');
  });
});
