/**
 * Settings in the database, their last good version in memory. A change is announced by NOTIFY and, should that be lost
 * (a transaction pooler drops it), found by asking for the version every two seconds.
 */

import type { Logger } from 'pino';
import Compile from 'typebox/compile';
import type { SettingRow } from '../settings/row.ts';
import { type SettingName, type SettingValue, settingNames, settings } from '../settings.ts';
import { type Db, sql } from './db.ts';
import { fail, refuse } from './failure.ts';
import type { Keys } from './keys.ts';
import { patternProblem } from './pattern.ts';
import { decrypt, encrypt } from './secrets.ts';

export interface Settings {
  /** The value in force: what an operator stored, else the default. */
  get<N extends SettingName>(name: N): SettingValue<N>;
  /** Settings whose stored value is not used: this version does not accept it, or a secret in it cannot be decrypted. */
  invalid(): readonly SettingName[];
  /** Reads all settings; a stored value that cannot be used is logged by its name, and its `whenInvalid` or default counts. */
  reload(db: Db): Promise<void>;
  /** Reloads when another process has changed something. */
  refresh(db: Db): Promise<void>;
}

/** One setting as operators see it. */
export interface SettingView {
  name: string;
  value: unknown;
  default: unknown;
  description: string;
  changed_at: string | null;
  changed_by: string | null;
}

interface Stored {
  name: string;
  value: unknown;
  changed_at: Date;
  changed_by: string;
}

const rows: Record<string, SettingRow> = settings;
const validators = new Map(settingNames.map((name) => [name, Compile(rows[name]!.schema)]));

const isSettingName = (name: string): name is SettingName => Object.hasOwn(settings, name);

/** What stands for a secret wherever a setting is shown. Sent back, it keeps the stored one. */
const HIDDEN = '********';

interface Sealed {
  readonly encrypted: string;
}
type Values = Record<string, unknown>;
const isValues = (value: unknown): value is Values => typeof value === 'object' && value !== null;
const isSealed = (value: unknown): value is Sealed => isValues(value) && typeof value['encrypted'] === 'string';

/** A setting's value with something else in place of each secret it has. */
function withSecrets(
  name: SettingName,
  value: unknown,
  change: (secret: unknown, property: string) => unknown,
): unknown {
  const { secrets = [] } = rows[name]!;
  if (!isValues(value) || !secrets.some((property) => property in value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([property, inner]) => [
      property,
      secrets.includes(property) ? change(inner, property) : inner,
    ]),
  );
}

const placeOf = (name: string, property: string): string => `setting ${name} ${property}`;

/** @throws Error when a secret was stored under another SECRET_KEY */
const opened = (keys: Keys, name: SettingName, value: unknown): unknown =>
  withSecrets(name, value, (secret, property) =>
    isSealed(secret)
      ? decrypt(keys.encryption('setting_secret'), Buffer.from(secret.encrypted, 'base64'), placeOf(name, property))
      : secret,
  );

/** The same, for what must go on without it: undefined when a secret cannot be decrypted. */
function openedIfPossible(keys: Keys, name: SettingName, value: unknown): unknown {
  try {
    return opened(keys, name, value);
  } catch {
    return undefined;
  }
}

const hidden = (name: SettingName, value: unknown): unknown => withSecrets(name, value, () => HIDDEN);

/** Host that a connection leads to; undefined: the provider's own. */
const hostOf = (value: Values | undefined): string | undefined => {
  const url = value?.['url'] ?? value?.['issuer'];
  return typeof url === 'string' && URL.canParse(url) ? new URL(url).origin : undefined;
};

/** Says what is wrong with a value for a setting, each complaint with the place inside the value; empty when it is fine. */
function complaintsAbout(name: SettingName, value: unknown): { path: string[]; detail: string }[] {
  const { kinds } = rows[name]!;
  const validator = validators.get(name)!;
  if (!validator.Check(value)) {
    const kind = kinds === undefined || !isValues(value) ? undefined : value[kinds.by];
    const schema = typeof kind === 'string' && Object.hasOwn(kinds!.schemas, kind) ? kinds!.schemas[kind]! : undefined;
    if (kinds !== undefined && schema === undefined)
      return [{ path: [kinds.by], detail: `must be one of ${Object.keys(kinds.schemas).join(', ')}` }];
    return (schema === undefined ? validator : Compile(schema)).Errors(value).map((error) => ({
      path: error.instancePath.split('/').slice(1),
      detail: error.message,
    }));
  }
  const { pattern, entryProblem } = rows[name]!;
  if (entryProblem !== undefined)
    return (value as string[]).flatMap((entry, index) => {
      const detail = entryProblem(entry);
      return detail === undefined ? [] : [{ path: [String(index)], detail }];
    });
  const complaint = pattern && typeof value === 'string' ? patternProblem(value) : undefined;
  return complaint === undefined ? [] : [{ path: [], detail: complaint }];
}

/** Settings without a database yet: every setting has its default until `reload`. */
export function openSettings(log: Logger, keys: Keys): Settings {
  let values = new Map<string, unknown>();
  let broken: readonly SettingName[] = [];
  let version = -1;
  const read = async (db: Db): Promise<number> =>
    (await db.one<{ version: number }>(sql`select coalesce(max(id), 0)::int as version from setting_change`))!.version;
  const store: Settings = {
    get: (name) => (values.has(name) ? values.get(name) : rows[name]!.fallback) as SettingValue<typeof name>,
    invalid: () => broken,
    async reload(db) {
      // The version first: a change that lands in between is read again rather than missed.
      const next = await read(db);
      const fresh = new Map<string, unknown>();
      const unusable: SettingName[] = [];
      for (const { name, value } of await db.rows<Stored>(sql`select name, value from setting`)) {
        if (!isSettingName(name)) continue;
        const plain = openedIfPossible(keys, name, value);
        // The schema alone: how long a pattern takes is asked once, when it is stored.
        if (validators.get(name)!.Check(plain)) {
          fresh.set(name, plain);
          continue;
        }
        unusable.push(name);
        const { whenInvalid } = rows[name]!;
        if (whenInvalid !== undefined) fresh.set(name, whenInvalid);
        const instead = whenInvalid === undefined ? 'its default is used' : 'nothing is used in its place';
        log.error({ setting: name }, `stored setting is not valid, ${instead}`);
      }
      values = fresh;
      broken = unusable;
      version = next;
    },
    async refresh(db) {
      if ((await read(db)) !== version) await store.reload(db);
    },
  };
  return store;
}

const view = (name: SettingName, stored: Stored | undefined): SettingView => ({
  name,
  value: stored === undefined ? rows[name]!.fallback : hidden(name, stored.value),
  default: rows[name]!.fallback,
  description: rows[name]!.description,
  changed_at: stored === undefined ? null : stored.changed_at.toISOString(),
  changed_by: stored === undefined ? null : stored.changed_by,
});

/** Every setting with its value and where it came from, in the catalogue's order. */
export async function listSettings(db: Db): Promise<SettingView[]> {
  const stored = await db.rows<Stored>(sql`select name, value, changed_at, changed_by from setting`);
  return settingNames.map((name) =>
    view(
      name,
      stored.find((row) => row.name === name),
    ),
  );
}

/** One setting. @throws not_found */
export async function readSetting(db: Db, name: string): Promise<SettingView> {
  if (!isSettingName(name)) fail('not_found');
  return view(
    name,
    await db.one<Stored>(sql`select name, value, changed_at, changed_by from setting where name = ${name}`),
  );
}

/** What a change needs of a Ctx, which has settings itself and so cannot be named here. */
interface Changing {
  readonly db: Db;
  readonly clock: { now(): Date };
  readonly keys: Keys;
}

/**
 * Stores a setting (or removes it, when `value` is undefined, so that the default counts again) with its history. A secret
 * that is sent back as it was shown keeps its stored value, unless it would go to another provider or host.
 * @param changedBy who did it, as the history shows it
 * @throws not_found for an unknown name, invalid with the places that are wrong
 */
export async function changeSetting(
  ctx: Changing,
  name: string,
  value: unknown,
  changedBy: string,
): Promise<SettingView> {
  if (!isSettingName(name)) fail('not_found');
  const key = ctx.keys.encryption('setting_secret');
  await ctx.db.transaction(async (tx) => {
    // One change at a time, so that versions become visible in order.
    await tx.one(sql`select pg_advisory_xact_lock(hashtext('assent.setting'))`);
    let json: string | null = null;
    if (value !== undefined) {
      const stored = await tx.one<{ value: Values }>(sql`select value from setting where name = ${name}`);
      const before = openedIfPossible(ctx.keys, name, stored?.value) as Values | undefined;
      const { kinds } = rows[name]!;
      // Elsewhere it would be told to whoever names the address, who may not know it.
      const stays =
        isValues(value) &&
        kinds !== undefined &&
        before?.[kinds.by] === value[kinds.by] &&
        hostOf(before) === hostOf(value);
      const whole = withSecrets(name, value, (secret, property) => {
        if (secret !== HIDDEN) return secret;
        if (stays && before?.[property] !== undefined) return before[property];
        return refuse({ path: ['value', property], key: 'setting.no_secret' });
      });
      const complaints = complaintsAbout(name, whole);
      if (complaints.length > 0) {
        refuse(
          ...complaints.map(({ path, detail }) => ({
            path: ['value', ...path],
            key: 'invalid.as_told',
            values: { detail },
          })),
        );
      }
      json = JSON.stringify(
        withSecrets(name, whole, (secret, property) => ({
          encrypted: encrypt(key, String(secret), placeOf(name, property)).toString('base64'),
        })),
      );
    }
    await tx.run(sql`
      insert into setting_change (name, value, previous, changed_at, changed_by)
      values (${name}, ${json}::jsonb, (select value from setting where name = ${name}), ${ctx.clock.now()}, ${changedBy})`);
    if (json === null) {
      await tx.run(sql`delete from setting where name = ${name}`);
    } else {
      await tx.run(sql`
        insert into setting (name, value, changed_at, changed_by) values (${name}, ${json}::jsonb, ${ctx.clock.now()}, ${changedBy})
        on conflict (name) do update
           set value = excluded.value, changed_at = excluded.changed_at, changed_by = excluded.changed_by`);
    }
    await tx.one(sql`select pg_notify('assent_setting', ${name})`);
  });
  return readSetting(ctx.db, name);
}

/** What a setting was and who changed it, newest first. @throws not_found */
export async function settingHistory(
  db: Db,
  name: string,
): Promise<{ value: unknown; previous: unknown; changed_at: string; changed_by: string }[]> {
  if (!isSettingName(name)) fail('not_found');
  const changes = await db.rows<{ value: unknown; previous: unknown; changed_at: Date; changed_by: string }>(sql`
    select value, previous, changed_at, changed_by from setting_change where name = ${name} order by id desc limit 200`);
  return changes.map(({ value, previous, changed_at, changed_by }) => ({
    value: hidden(name, value),
    previous: hidden(name, previous),
    changed_at: changed_at.toISOString(),
    changed_by,
  }));
}
