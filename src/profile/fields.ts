/**
 * The catalogue of profile fields, in the order of the seed. A row says how a field is shown, how it is read, and whether
 * it is a column of its own; serializer, validation, UPDATE and OpenAPI follow from it.
 */
import type { Account } from '../accounts/accounts.ts';
import { type Channel, channels, consentVersion, type Flag, shownFlags } from '../consent/channels.ts';
import { UploadedFile } from '../platform/body.ts';
import { boolean, char, choice, date, dict, type FieldKind, type FieldRule } from '../platform/drf.ts';
import { JsonError, parseJson, textFault } from '../platform/json.ts';
import type { Settings } from '../platform/settings.ts';

/** What showing a profile needs besides the account. */
export interface View {
  readonly settings: Settings;
  /** Scheme and host for the address of the picture. */
  readonly origin: string;
  readonly flags: Record<Flag, boolean | null>;
}

export interface ProfileField {
  readonly name: string;
  /** JSON Schema of the answer, as the seed has it. */
  readonly schema: Record<string, unknown>;
  readonly show: (account: Account, view: View) => unknown;
  /** How a client's value is read; absent: read-only, ignored without error. */
  readonly kind?: FieldKind<unknown>;
  readonly nullable?: boolean;
  /** Where the value goes: a column of its own name, or a rule of `profile.ts`. */
  readonly stored?: 'column' | 'consent' | 'rule';
  /** May be blank text as long as USER_REQUIRED_FIELDS does not name it. */
  readonly blankable?: boolean;
}

const genders = ['male', 'female'] as const;
const ATTRIBUTES_BYTES = 16 * 1024;
const ATTRIBUTES_DEPTH = 5;

/** JSON text of a form; what cannot be read stays text, and is refused as text. */
function parsed(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    if (error instanceof JsonError) return text;
    throw error;
  }
}

/** An object of limited size and depth, without what JSON parsers elsewhere follow or lose. */
const attributes: FieldKind<Record<string, unknown>> = {
  schema: dict.schema,
  read(value, form) {
    const reading = dict.read(form && typeof value === 'string' ? parsed(value) : value, false);
    if ('problem' in reading) return reading;
    // A text of a form was looked at as text; what it says once parsed was not.
    const fault = form ? textFault(reading.value) : undefined;
    if (fault !== undefined) return { problem: `invalid.${fault.fault}` };
    const queue: [unknown, number][] = [[reading.value, 1]];
    for (const [inner, depth] of queue) {
      if (typeof inner === 'bigint' || (typeof inner === 'number' && !Number.isFinite(inner)))
        return { problem: 'attributes.number' };
      if (typeof inner !== 'object' || inner === null) continue;
      if (inner instanceof UploadedFile) return { problem: 'field.dict', values: { type: 'file' } };
      if (depth > ATTRIBUTES_DEPTH) return { problem: 'attributes.depth', values: { max: ATTRIBUTES_DEPTH } };
      if (Object.hasOwn(inner, '__proto__')) return { problem: 'attributes.key', values: { key: '__proto__' } };
      for (const child of Object.values(inner)) queue.push([child, depth + 1]);
    }
    if (Buffer.byteLength(JSON.stringify(reading.value)) > ATTRIBUTES_BYTES)
      return { problem: 'attributes.size', values: { max: '16 KiB' } };
    return reading;
  },
};

/** A picture: an uploaded file, or the address of the stored one, which a client that sends back what it read leaves in place. */
const picture: FieldKind<UploadedFile | string> = {
  schema: { type: 'string', format: 'binary' },
  file: true,
  read(value) {
    if (value instanceof UploadedFile) return value.bytes.length === 0 ? { problem: 'avatar.empty' } : { value };
    return typeof value === 'string' ? { value } : { problem: 'field.file' };
  },
};

/** `tr`, `en-us`, `pt_BR` */
const languageCode: FieldKind<string> = {
  schema: { type: 'string' },
  read(value, form) {
    const reading = char(35).read(value, form);
    if ('problem' in reading || /^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$/.test(reading.value)) return reading;
    return { problem: 'field.choice', values: { value: reading.value } };
  },
};

const flag = ({ flag: name, unknown }: Channel): ProfileField => ({
  name,
  schema: { type: unknown === null ? ['boolean', 'null'] : 'boolean' },
  show: (_account, { flags }) => flags[name as Flag],
  kind: boolean,
  nullable: unknown === null,
  stored: 'consent',
});

const flagOf = (name: Channel['name']): ProfileField => flag(channels.find((channel) => channel.name === name)!);

export const avatarUrl = (origin: string, avatar: string | null): string | null =>
  avatar === null ? null : `${origin}/media/avatars/${avatar}.webp`;

export const profileFields: readonly ProfileField[] = [
  { name: 'id', schema: { type: 'integer' }, show: (account) => account.id },
  {
    name: 'first_name',
    schema: { type: 'string', maxLength: 50 },
    show: (account) => account.first_name,
    kind: char(50),
    stored: 'column',
    blankable: true,
  },
  {
    name: 'last_name',
    schema: { type: 'string', maxLength: 50 },
    show: (account) => account.last_name,
    kind: char(50),
    stored: 'column',
    blankable: true,
  },
  flagOf('email'),
  flagOf('sms'),
  flagOf('whatsapp'),
  flagOf('call'),
  {
    name: 'avatar',
    schema: { type: ['string', 'null'], format: 'binary' },
    show: (account, { origin }) => avatarUrl(origin, account.avatar),
    kind: picture,
    nullable: true,
    stored: 'rule',
  },
  { name: 'email', schema: { type: 'string', format: 'email' }, show: (account) => account.email },
  {
    name: 'phone',
    schema: { type: ['string', 'null'] },
    show: (account) => account.phone,
    kind: char(60, { blank: true }),
    nullable: true,
    stored: 'rule',
  },
  {
    name: 'date_of_birth',
    schema: { type: ['string', 'null'], format: 'date' },
    show: (account) => account.date_of_birth,
    kind: date,
    nullable: true,
    stored: 'column',
  },
  {
    name: 'gender',
    // The seed's enum leaves null out although its type has it; null is what "not told" is.
    schema: { type: ['string', 'null'], enum: [...genders, null] },
    show: (account) => account.gender,
    kind: choice(...genders),
    nullable: true,
    stored: 'column',
  },
  {
    name: 'genders',
    schema: { type: 'array', description: 'Values that `gender` takes', items: { type: 'string', enum: [...genders] } },
    show: (_account, { settings }) =>
      settings.get('GENDERS_AS_OBJECTS') ? genders.map((value) => ({ value, label: value })) : genders,
  },
  {
    name: 'language_code',
    schema: { type: 'string' },
    show: (account) => account.language_code,
    kind: languageCode,
    stored: 'column',
  },
  {
    name: 'attributes',
    schema: { type: 'object', additionalProperties: true },
    show: (account) => account.attributes,
    kind: attributes,
    stored: 'column',
  },
  {
    name: 'date_joined',
    schema: { type: 'string', format: 'date-time' },
    // Microseconds, as Akinon writes them.
    show: (account) => account.date_joined.toISOString().replace('Z', '000Z'),
  },
];

/** Every name a profile body may carry; others are ignored, and named in `Assent-Ignored`. */
export const profileNames: ReadonlySet<string> = new Set(profileFields.map(({ name }) => name));

/** Columns that a change writes as they are. */
export const profileColumns: readonly string[] = profileFields
  .filter(({ stored }) => stored === 'column')
  .map(({ name }) => name);

/** The profile as clients see it, keys in the seed's order. */
export function showProfile(account: Account, settings: Settings, origin: string): Record<string, unknown> {
  const view: View = { settings, origin, flags: shownFlags(account.consents) };
  const shown: Record<string, unknown> = {};
  for (const field of profileFields) shown[field.name] = field.show(account, view);
  return shown;
}

const optionalChar = char(50, { blank: true });
let compiled: { required: readonly string[]; rules: FieldRule[] } | undefined;

/** The rules a body is read by, given which fields the shop requires. A required field can be neither null nor blank. */
export function profileRules(settings: Settings): FieldRule[] {
  const required: readonly string[] = settings.get('USER_REQUIRED_FIELDS');
  if (compiled?.required !== required) {
    const rules = profileFields.flatMap(({ name, kind, nullable = false, blankable }): FieldRule[] => {
      if (kind === undefined) return [];
      const must = required.includes(name);
      const read = blankable && !must ? optionalChar : name === 'phone' && must ? char(60) : kind;
      return [{ name, kind: read, nullable: nullable && !must, required: must }];
    });
    compiled = { required, rules };
  }
  return compiled.rules;
}

/** Strong ETag (RFC 9110, 8.8.3): changes with the row and with the line behind each flag. */
export const profileTag = ({ version, consents }: Pick<Account, 'version' | 'consents'>): string =>
  `"${version}${consents === null ? '' : `-${consentVersion(consents)}`}"`;
