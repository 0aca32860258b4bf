/** A member's fields by name, and how a value is shown so that two of them can be compared. */
import type { Member, Shown } from './connector.ts';

/** Fields of a member that a map may name; besides these `consents.sms` and the like, and `attributes.NAME`. */
const plainFields = [
  'id',
  'email',
  'first_name',
  'last_name',
  'phone',
  'gender',
  'date_of_birth',
  'language',
  'active',
  'joined_at',
] as const;

/** Pattern of a value of a map from their names to our fields: one of these, or after `=` a constant. */
export const mappable = `^(=[\\s\\S]*|${plainFields.join('|')}|consents\\.(email|sms|call|whatsapp)|attributes\\..+)$`;

/** A map from their names to our fields. */
type FieldMap = Readonly<Record<string, string>>;

/** The value of a field by its dotted name; null where there is none. */
function fieldOf(member: Member, field: string): unknown {
  const dot = field.indexOf('.');
  if (dot < 0) return member[field as (typeof plainFields)[number]];
  const name = field.slice(dot + 1);
  const group: Readonly<Record<string, unknown>> = field.startsWith('consents.') ? member.consents : member.attributes;
  return Object.hasOwn(group, name) ? group[name] : null;
}

/** Objects with their keys in order: the same content is the same text. */
const ordered = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;

/** A value for comparing: texts, booleans and null as they are, anything else as its JSON. */
function asShown(value: unknown): Shown[string] {
  if (value === undefined || value === null) return null;
  if (typeof value === 'string' || typeof value === 'boolean') return value;
  return JSON.stringify(value, ordered);
}

/** A constant is the JSON after the sign, or else the text. */
function constant(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** What a member has for a value of a map. */
export const mapped = (ours: string, member: Member): unknown =>
  ours.startsWith('=') ? constant(ours.slice(1)) : fieldOf(member, ours);

/** Shown under our names; constants under theirs, with the sign that no field of ours has. */
export const shownBy = (fields: FieldMap, value: (theirs: string, ours: string) => unknown): Shown =>
  Object.fromEntries(
    Object.entries(fields).map(([theirs, ours]) => [
      ours.startsWith('=') ? `=${theirs}` : ours,
      asShown(value(theirs, ours)),
    ]),
  );
