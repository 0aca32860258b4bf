/**
 * Changing a profile: row, consent and phone in one transaction, written for many. Lock and load everything, decide each
 * change in plain code, write it all, commit once.
 */
import type { Account } from '../accounts/accounts.ts';
import { type ContactPoint, contactPoints, placeholderPoint } from '../accounts/contact-points.ts';
import { channels, type Flags } from '../consent/channels.ts';
import { type Draft, type Evidence, record, type Source } from '../consent/ledger.ts';
import { decideFlag, decideLeaving, type Edge, type State } from '../consent/rules.ts';
import type { PhoneNumber } from '../phone/numbers.ts';
import { spendCodes, unspentCodes } from '../phone/verification.ts';
import { batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { prepared, sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { profileColumns, profileTag } from './fields.ts';

export interface ProfileChange {
  readonly account: number;
  /** New values of plain columns, by name; absent keeps. */
  readonly columns: Readonly<Record<string, unknown>>;
  readonly flags: Flags;
  /** A number sets, null clears, absent keeps. */
  readonly phone?: PhoneNumber | null;
  /** Nonce of the code that proved the new number. */
  readonly proof?: Buffer;
  /** Name of a stored picture, null removes, absent keeps. */
  readonly avatar?: string | null;
  /** ETags of If-Match; the change is refused when the profile has none of them any more. */
  readonly ifMatch?: readonly string[];
  readonly source: Source;
  readonly evidence: Evidence;
}

/** Standings of one point by channel. */
type Standings = Map<string, { state: State; since: Date; event: string }>;

/** Everything a batch has locked and read. Decisions write their outcome back, so that the next one sees it. */
interface Loaded {
  readonly accounts: Map<number, Account>;
  readonly points: Map<number, ContactPoint>;
  readonly standings: Map<number, Standings>;
  /** Points of the new numbers, by E.164. */
  readonly numbers: Map<string, ContactPoint>;
  /** Active accounts that hold a new number; undefined where numbers need not be unique. */
  readonly taken: Map<string, number[]> | undefined;
  /** Active accounts that hold an old phone point. */
  readonly shared: Map<number, number[]>;
  /** Points standing for "my phone", made for accounts without a number. */
  readonly placeholders: Map<number, ContactPoint>;
  readonly proven: Set<number>;
}

interface Decision {
  readonly account: Account;
  readonly drafts: Draft[];
  readonly changed: boolean;
  readonly retired?: number;
  readonly verified?: number;
}

const phoneChannels = channels.filter(({ kind }) => kind === 'phone');
const statesPhone = ({ flags }: ProfileChange): boolean =>
  phoneChannels.some(({ flag }) => typeof flags[flag] === 'boolean');
const touchesConsent = (change: ProfileChange): boolean =>
  change.phone !== undefined || channels.some(({ flag }) => typeof change.flags[flag] === 'boolean');
const newNumber = (account: Account, { phone }: ProfileChange): boolean =>
  phone !== undefined && (phone?.e164 ?? null) !== account.phone_e164;

/** The account's consents as `sms=granted,call=refused`, from the points it now has. */
function consentsOf(account: Account, standings: Map<number, Standings>): Pick<Account, 'consents' | 'last_event'> {
  const pairs: string[] = [];
  let last: string | null = null;
  for (const { name, kind } of channels) {
    const point = kind === 'email' ? account.email_point : account.phone_point;
    const standing = point === null ? undefined : standings.get(point)?.get(name);
    if (standing === undefined) continue;
    pairs.push(`${name}=${standing.state}`);
    if (last === null || standing.event > last) last = standing.event;
  }
  return { consents: pairs.length === 0 ? null : pairs.join(','), last_event: last };
}

/** Keeps who holds what as it will be, so that the next change of the batch finds it so. */
function enter<K>(holders: Map<K, number[]> | undefined, key: K | null, account: number): void {
  if (key !== null) holders?.set(key, [...(holders.get(key) ?? []), account]);
}
function leave<K>(holders: Map<K, number[]> | undefined, key: K | null, account: number): void {
  if (key !== null) holders?.set(key, holders.get(key)?.filter((holder) => holder !== account) ?? []);
}

/** Decides one change. Pure but for `loaded`, into which it writes what it decided. */
function decide(change: ProfileChange, loaded: Loaded, now: Date): Decision | Failure {
  const before = loaded.accounts.get(change.account);
  if (before === undefined) return new Failure('not_authenticated');
  if (change.ifMatch !== undefined && !change.ifMatch.includes('*') && !change.ifMatch.includes(profileTag(before))) {
    return new Failure('precondition_failed');
  }
  if (change.proof !== undefined && !loaded.proven.has(change.account)) {
    return new Failure('invalid', { complaints: [{ path: ['code'], key: 'code.expired' }] });
  }
  const moves = newNumber(before, change);
  const number = change.phone?.e164;
  if (moves && number !== undefined && loaded.taken?.get(number)?.some((holder) => holder !== before.id)) {
    return new Failure('invalid', { complaints: [{ path: ['phone'], key: 'field.unique' }] });
  }

  const account = { ...before, ...change.columns } as { -readonly [K in keyof Account]: Account[K] };
  if (change.avatar !== undefined) account.avatar = change.avatar;
  if (change.phone !== undefined) account.phone = change.phone === null ? null : change.phone.text;
  const oldPoint = before.phone_point;
  if (moves) {
    account.phone_e164 = number ?? null;
    account.phone_point = number === undefined ? null : loaded.numbers.get(number)!.id;
    account.phone_verified_at = null;
    leave(loaded.shared, oldPoint, before.id);
    leave(loaded.taken, before.phone_e164, before.id);
    enter(loaded.shared, account.phone_point, before.id);
    enter(loaded.taken, account.phone_e164, before.id);
  }
  if (change.proof !== undefined) account.phone_verified_at = now;
  if (account.phone_point === null) account.phone_point = loaded.placeholders.get(change.account)?.id ?? null;

  const drafts: Draft[] = [];
  const write = (point: ContactPoint, channel: string, edge: Edge | undefined, more: Evidence = {}): void => {
    if (edge === undefined) return;
    drafts.push({
      point,
      account: before.id,
      channel,
      purpose: 'marketing',
      edge,
      source: change.source,
      actor: `account:${before.id}`,
      evidence: { ...change.evidence, ...more },
    });
  };

  // What the old number allowed ends with it, unless somebody else still holds it. Flags stated before there was any
  // number were about whichever number would come: they move to the first one.
  const carried = new Map<string, { stated: boolean; from: string }>();
  let retired: number | undefined;
  if (moves && oldPoint !== null && oldPoint !== account.phone_point) {
    const old = loaded.points.get(oldPoint)!;
    const placeholder = old.address_hash === null;
    const others = loaded.shared.get(oldPoint)?.some((holder) => holder !== before.id) ?? false;
    if (!others) retired = oldPoint;
    for (const { name } of phoneChannels) {
      const standing = loaded.standings.get(oldPoint)?.get(name);
      if (placeholder && standing !== undefined)
        carried.set(name, { stated: standing.state === 'granted', from: standing.event });
      else if (!others) write(old, name, decideLeaving(standing, now));
    }
  }
  for (const { name, flag, kind, unknown } of channels) {
    const pointId = kind === 'email' ? account.email_point : account.phone_point;
    if (pointId === null) continue;
    const point =
      loaded.points.get(pointId) ??
      (kind === 'phone' && number !== undefined ? loaded.numbers.get(number) : undefined) ??
      loaded.placeholders.get(change.account);
    if (point === undefined) continue;
    const standing = loaded.standings.get(pointId)?.get(name);
    const shown = standing === undefined ? unknown : standing.state === 'granted';
    const stated = change.flags[flag];
    const carry = typeof stated === 'boolean' || standing !== undefined ? undefined : carried.get(name);
    if (carry === undefined) write(point, name, decideFlag(standing, shown, stated, now));
    else write(point, name, decideFlag(undefined, null, carry.stated, now), { carried_from: carry.from });
  }
  const changed = profileRow.some((column) => account[column as keyof Account] !== before[column as keyof Account]);
  return {
    account: changed ? { ...account, version: before.version + 1 } : account,
    drafts,
    changed,
    ...(retired === undefined ? {} : { retired }),
    ...(change.proof === undefined || account.phone_point === null ? {} : { verified: account.phone_point }),
  };
}

/** Columns a change can write. */
const profileRow: readonly string[] = [
  ...profileColumns,
  'phone',
  'phone_e164',
  'phone_point',
  'phone_verified_at',
  'avatar',
];
const saveAccounts = `
  update account a set ${profileRow.map((column) => `${column} = u.${column}`).join(', ')}, version = u.version
    from jsonb_populate_recordset(null::account, $1::jsonb) u
   where a.id = u.id`;

interface StateRow {
  readonly contact_point: number;
  readonly channel: string;
  readonly state: State;
  readonly since: Date;
  readonly event: string;
}

function keep(all: Map<number, Standings>, rows: readonly StateRow[]): void {
  for (const { contact_point, channel, ...standing } of rows) {
    const standings: Standings = all.get(contact_point) ?? new Map();
    all.set(contact_point, standings.set(channel, standing));
  }
}

/** Standings of points, added to what is loaded. */
async function loadStandings(ctx: Ctx, loaded: Loaded, points: number[]): Promise<void> {
  const rows = await ctx.db.rows<StateRow>(sql`
    select contact_point, channel, state, since, event from consent_state
     where contact_point = any (${points}::bigint[]) and purpose = 'marketing'`);
  keep(loaded.standings, rows);
}

/** What changes of numbers need besides: the new points, who holds them, who else holds the old ones. */
async function loadNumbers(ctx: Ctx, loaded: Loaded, changes: readonly ProfileChange[]): Promise<void> {
  const moving = changes.filter((change) => {
    const account = loaded.accounts.get(change.account);
    return account !== undefined && newNumber(account, change);
  });
  const numbers = [...new Set(moving.flatMap(({ phone }) => (phone == null ? [] : [phone.e164])))];
  if (numbers.length > 0) {
    const points = await contactPoints(
      ctx,
      numbers.map((value) => ({ kind: 'phone' as const, value })),
    );
    for (const [index, point] of points.entries()) loaded.numbers.set(numbers[index]!, point);
    await loadStandings(
      ctx,
      loaded,
      points.map(({ id }) => id),
    );
  }
  const old = moving.flatMap(({ account }) => loaded.accounts.get(account)!.phone_point ?? []);
  const { taken, shared } = loaded;
  if (numbers.length > 0 || old.length > 0) {
    const holders = await ctx.db.rows<{ id: number; phone_e164: string | null; phone_point: number }>(sql`
      select id, phone_e164, phone_point from account
       where is_active and (phone_point = any (${old}::bigint[]) or phone_e164 = any (${taken === undefined ? [] : numbers}::text[]))`);
    for (const { id, phone_e164, phone_point } of holders) {
      enter(taken, phone_e164, id);
      enter(shared, phone_point, id);
    }
  }
  for (const change of changes) {
    const account = loaded.accounts.get(change.account);
    if (account === undefined || !statesPhone(change)) continue;
    const none =
      change.phone === undefined
        ? account.phone_point === null
        : change.phone === null && !loaded.placeholders.has(account.id);
    if (none) loaded.placeholders.set(account.id, await placeholderPoint(ctx));
  }
}

async function load(ctx: Ctx, changes: readonly ProfileChange[]): Promise<Loaded> {
  const ids = changes.map(({ account }) => account);
  const consenting = changes.filter(touchesConsent).map(({ account }) => account);
  const proofs = changes.flatMap(({ account, proof }) => (proof === undefined ? [] : [{ account, nonce: proof }]));
  // Sent together, answered in order: locks first, so that what is read after them is what they guard.
  const [accounts, points, states, proven] = await Promise.all([
    ctx.db.rows<Account>(sql`
      select id, email, first_name, last_name, phone, phone_e164, gender, date_of_birth, language_code, attributes, avatar,
             is_operator, date_joined, last_login, email_verified_at, phone_verified_at, email_point, phone_point, version
        from account where id = any (${ids}::bigint[]) and is_active order by id for no key update`),
    consenting.length === 0
      ? []
      : ctx.db.rows<ContactPoint>(sql`
          select p.id, p.kind, encode(p.address_hash, 'hex') as address_hash from contact_point p
           where p.id in (select unnest(array[a.email_point, a.phone_point]) from account a where a.id = any (${consenting}::bigint[]))
           order by p.id for no key update`),
    ctx.db.rows<StateRow>(sql`
      select s.contact_point, s.channel, s.state, s.since, s.event
        from account a join consent_state s on s.contact_point = any (array[a.email_point, a.phone_point]) and s.purpose = 'marketing'
       where a.id = any (${ids}::bigint[])`),
    proofs.length === 0 ? [] : unspentCodes(ctx, proofs),
  ]);
  const loaded: Loaded = {
    accounts: new Map(),
    points: new Map(points.map((point) => [point.id, point])),
    standings: new Map(),
    numbers: new Map(),
    taken: ctx.settings.get('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE') ? new Map() : undefined,
    shared: new Map(),
    placeholders: new Map(),
    proven: new Set(proven.map(({ account }) => account)),
  };
  keep(loaded.standings, states);
  for (const account of accounts)
    loaded.accounts.set(account.id, { ...account, ...consentsOf(account, loaded.standings) });
  if (consenting.length > 0) await loadNumbers(ctx, loaded, changes);
  return loaded;
}

async function changeProfiles(root: Ctx, changes: ProfileChange[]): Promise<(Account | Failure)[]> {
  return transaction(root, async (ctx) => {
    const loaded = await load(ctx, changes);
    // After the locks: what another process wrote while this one waited for them came before.
    const now = ctx.clock.now();
    const decisions = changes.map((change) => {
      const decision = decide(change, loaded, now);
      if (!(decision instanceof Failure)) {
        // The next change of this batch may be of an account that shares the point.
        keep(
          loaded.standings,
          decision.drafts.map(({ point, channel, edge }) => ({
            contact_point: point.id,
            channel,
            state: edge.state,
            since: edge.occurredAt,
            event: '',
          })),
        );
      }
      return decision;
    });
    const made = decisions.filter((decision): decision is Decision => !(decision instanceof Failure));
    const drafts = made.flatMap((decision) => decision.drafts);
    const rows = made.filter(({ changed }) => changed).map(({ account }) => account);
    // One that somebody of this batch has moved to is in use again.
    const retired = made.flatMap(({ retired: point }) =>
      point === undefined || loaded.shared.get(point)?.length ? [] : point,
    );
    // A change that came too late for its If-Match leaves its code good.
    const spent = changes.flatMap(({ account, proof }, index) => {
      const decision = decisions[index]!;
      const late = decision instanceof Failure && decision.code === 'precondition_failed';
      return proof === undefined || late ? [] : [{ account, nonce: proof }];
    });
    const verified = made.flatMap((decision) => decision.verified ?? []);
    const [ids] = await Promise.all([
      record(ctx, drafts),
      spent.length === 0 ? 0 : spendCodes(ctx, spent),
      rows.length === 0 ? 0 : ctx.db.run(prepared(saveAccounts, JSON.stringify(rows))),
      retired.length === 0
        ? 0
        : ctx.db.run(sql`update contact_point set retired_at = ${now} where id = any (${retired}::bigint[])`),
      verified.length === 0
        ? 0
        : ctx.db.run(sql`update contact_point set verified_at = ${now} where id = any (${verified}::bigint[])`),
    ]);
    for (const [index, { point, channel }] of drafts.entries())
      loaded.standings.get(point.id)!.get(channel)!.event = ids[index]!;
    return decisions.map((decision) =>
      decision instanceof Failure
        ? decision
        : { ...decision.account, ...consentsOf(decision.account, loaded.standings) },
    );
  });
}

/**
 * Changes a profile: durable when it returns, with one consent event per flag that really changed.
 * @returns the account as it is now
 * @throws precondition_failed, invalid (code spent, number taken), not_authenticated when the account has gone
 */
export const changeProfile = batched<ProfileChange, Account>({
  key: ({ account }) => account,
  run: changeProfiles,
  inFlight: 2,
});
