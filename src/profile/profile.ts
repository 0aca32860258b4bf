/**
 * Changing a profile: row, consent and phone in one transaction, written for many. Lock and load everything, decide each
 * change in plain code, write it all, commit once.
 */
import type { Account } from '../accounts/accounts.ts';
import {
  addressHash,
  type ContactPoint,
  contactPoints,
  makePoints,
  placeholderPoint,
} from '../accounts/contact-points.ts';
import { openBook, readStandings, readStandingsOf, record } from '../consent/ledger/book.ts';
import { noticesInForce } from '../consent/notices.ts';
import { askToConfirm } from '../consent/statements.ts';
import { offerUndo } from '../phone/undo.ts';
import { endPhoneChange, spendCodes, unspentCodes } from '../phone/verification.ts';
import { batched } from '../platform/batch.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import { prepared, sql } from '../platform/db.ts';
import { Failure } from '../platform/failure.ts';
import { announceContactPoint } from '../webhooks/dispatch.ts';
import {
  consentsOf,
  type Decision,
  decide,
  enter,
  type Loaded,
  movesTo,
  needsPlaceholder,
  type ProfileChange,
  profileRow,
  touches,
} from './decide.ts';

const saveAccounts = `
  update account a set ${profileRow.map((column) => `${column} = u.${column}`).join(', ')}, version = u.version
    from jsonb_populate_recordset(null::account, $1::jsonb) u
   where a.id = u.id`;

/** What changes of numbers need besides: the new points, who holds them, who else holds the old ones. */
async function loadNumbers(ctx: Ctx, loaded: Loaded, changes: readonly ProfileChange[]): Promise<void> {
  const moving = changes.filter((change) => {
    const account = loaded.accounts.get(change.account);
    return account !== undefined && movesTo(account, change);
  });
  const numbers = [...new Set(moving.flatMap(({ phone }) => (phone == null ? [] : [phone.e164])))];
  if (numbers.length > 0) {
    const points = await contactPoints(
      ctx,
      numbers.map((value) => ({ kind: 'phone' as const, value })),
      { by: 'person' },
    );
    for (const [index, point] of points.entries()) loaded.numbers.set(numbers[index]!, point);
    loaded.book.enter(
      await readStandings(
        ctx,
        points.map(({ id }) => id),
      ),
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
    if (account !== undefined && needsPlaceholder(account, change)) {
      loaded.placeholders.set(account.id, await placeholderPoint(ctx));
    }
  }
}

async function load(ctx: Ctx, changes: readonly ProfileChange[]): Promise<Loaded> {
  const ids = changes.map(({ account }) => account);
  const touching = (kind: 'email' | 'phone'): number[] =>
    changes.filter((change) => touches(change, kind)).map(({ account }) => account);
  const [emails, phones] = [touching('email'), touching('phone')];
  const proofs = changes.flatMap(({ account, proof }) => (proof === undefined ? [] : [{ account, nonce: proof }]));
  // Sent together, answered in order: locks first, so that what is read after them is what they guard.
  const states = changes.some(({ flags }) => Object.keys(flags).length > 0);
  const numbers = changes.flatMap(({ phone }) =>
    phone == null ? [] : [{ kind: 'phone' as const, value: phone.e164 }],
  );
  const hashes = numbers.map(({ kind, value }) => addressHash(ctx, kind, value));
  const [accounts, , points, standings, proven, notices] = await Promise.all([
    ctx.db.rows<Account>(sql`
      select id, email, first_name, last_name, phone, phone_e164, gender, date_of_birth, language_code, attributes, avatar,
             is_operator, second_factor, date_joined, last_login, email_verified_at, phone_verified_at, email_point, phone_point, version
        from account where id = any (${ids}::bigint[]) and is_active order by id for no key update`),
    makePoints(ctx, numbers),
    emails.length + phones.length === 0
      ? []
      : ctx.db.rows<ContactPoint>(sql`
          select p.id, p.kind, encode(p.address_hash, 'hex') as address_hash, p.value from contact_point p
           where p.id in (select a.email_point from account a where a.id = any (${emails}::bigint[])
                          union all select a.phone_point from account a where a.id = any (${phones}::bigint[])
                          union all select n.id from contact_point n where n.address_hash = any (${hashes}::bytea[]))
           order by p.id for no key update`),
    readStandingsOf(ctx, ids),
    proofs.length === 0 ? [] : unspentCodes(ctx, proofs),
    states ? noticesInForce(ctx) : [],
  ]);
  const loaded: Loaded = {
    accounts: new Map(),
    points: new Map(points.map((point) => [point.id, point])),
    // After the locks: what another process wrote while this one waited for them came before.
    book: openBook(ctx.clock.now(), standings),
    notices,
    defaultLanguage: ctx.settings.get('DEFAULT_LANGUAGE'),
    doubleOptIn: ctx.settings.get('DOUBLE_OPT_IN'),
    numbers: new Map(),
    taken: ctx.settings.get('PHONE_NUMBER_UNIQUE_VALIDATOR_ACTIVE') ? new Map() : undefined,
    shared: new Map(),
    placeholders: new Map(),
    proven: new Set(proven.map(({ account }) => account)),
  };
  for (const account of accounts)
    loaded.accounts.set(account.id, { ...account, consents: consentsOf(account, loaded.book) });
  if (phones.length > 0) await loadNumbers(ctx, loaded, changes);
  return loaded;
}

async function changeProfiles(root: Ctx, changes: ProfileChange[]): Promise<(Account | Failure)[]> {
  return transaction(root, async (ctx) => {
    const loaded = await load(ctx, changes);
    const now = ctx.clock.now();
    const decisions = changes.map((change) => decide(change, loaded, now));
    const made = decisions.filter((decision): decision is Decision => !(decision instanceof Failure));
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
    // A number that is set or removed is a later wish than the one that is still under way.
    const moved = made.filter((decision) => decision.moved).map(({ account }) => account.id);
    await Promise.all([
      record(ctx, loaded.book),
      spent.length === 0 ? 0 : spendCodes(ctx, spent),
      moved.length === 0 ? 0 : endPhoneChange(ctx, moved),
      rows.length === 0 ? 0 : ctx.db.run(prepared(saveAccounts, JSON.stringify(rows))),
      retired.length === 0
        ? 0
        : ctx.db.run(sql`update contact_point set retired_at = ${now} where id = any (${retired}::bigint[])`),
      verified.length === 0
        ? 0
        : ctx.db.run(sql`update contact_point set verified_at = ${now} where id = any (${verified}::bigint[])`),
    ]);
    await announceContactPoint(
      ctx,
      made.flatMap((decision) => decision.announced ?? []),
    );
    await offerUndo(
      ctx,
      made.flatMap((decision) => decision.lost ?? []),
    );
    const asked = made.flatMap((decision) => decision.asked);
    if (asked.length > 0) await askToConfirm(ctx, [...new Set(asked)]);
    return decisions.map((decision) =>
      decision instanceof Failure
        ? decision
        : { ...decision.account, consents: consentsOf(decision.account, loaded.book) },
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
