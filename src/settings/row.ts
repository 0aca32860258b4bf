/** What a setting is, and the shapes that several of them have. */
import type { Static, TSchema } from 'typebox';
import Type from 'typebox';

export interface SettingRow<S extends TSchema = TSchema> {
  readonly description: string;
  readonly schema: S;
  readonly fallback: Static<S>;
  /**
   * In force while the stored value is not valid, where the default would be less safe than nothing. No operator can choose
   * it.
   */
  readonly whenInvalid?: Static<S>;
  /** It is a regular expression: must be one, and quick on any phone number. */
  readonly pattern?: true;
  /** Says, in words, what is wrong with an entry of a list, where a schema could not say it as clearly. */
  readonly entryProblem?: (entry: string) => string | undefined;
  /** One of several kinds, each with a schema of its own, told apart by a property. */
  readonly kinds?: { readonly by: string; readonly schemas: Readonly<Record<string, TSchema>> };
  /** Properties that are encrypted at rest and never shown again. */
  readonly secrets?: readonly string[];
}

export const row = <S extends TSchema>(definition: SettingRow<S>): SettingRow<S> => definition;

/** A length of time. */
export const seconds = (
  description: string,
  fallback: number,
  minimum = 1,
): SettingRow<ReturnType<typeof Type.Integer>> =>
  row({ description, schema: Type.Integer({ minimum, maximum: 315_360_000 }), fallback });

/** Somebody outside whom a catalogue knows: what is theirs to set, and what of it is secret. */
interface Outsider {
  readonly schema: TSchema;
  readonly secrets: readonly string[];
}

/** Which of a catalogue is used, and its connection. */
export const choice = (
  description: string,
  by: 'provider' | 'connector' | 'protocol',
  catalogue: Readonly<Record<string, Outsider>>,
  fallback: string,
): SettingRow & { readonly fallback: Readonly<Record<string, unknown>> } => {
  const schemas = Object.fromEntries(Object.entries(catalogue).map(([name, { schema }]) => [name, schema]));
  return {
    description,
    schema: Type.Union(Object.values(schemas)),
    kinds: { by, schemas },
    secrets: [...new Set(Object.values(catalogue).flatMap(({ secrets }) => secrets))],
    fallback: { [by]: fallback },
  };
};
