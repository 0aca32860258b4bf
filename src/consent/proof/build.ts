/** Building proofs: everything on record about one person or address, with what proves that nobody edited it since. */
import { sign } from 'node:crypto';
import { addressHash } from '../../accounts/contact-points.ts';
import { type Ctx, transaction } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import type { Evidence } from '../../platform/evidence.ts';
import { fail } from '../../platform/failure.ts';
import { sha256 } from '../../platform/keys.ts';
import type { Language } from '../../platform/language.ts';
import type { Line } from '../ledger/lines.ts';
import { inclusionPaths } from '../ledger/merkle.ts';
import { ledgerHead, type Seal, seal } from '../ledger/seals.ts';
import type { Recipient } from '../recipients.ts';
import {
  describeKey,
  type FullLine,
  OPENING,
  type Proof,
  type ProofLine,
  type ProofNotice,
  receiptOf,
  SCHEMA,
  signedText,
} from './file.ts';
import { proofPage } from './page.ts';

/** Full batches sealed at most before a proof is made: one second's work, whatever an import has left waiting. */
const BATCHES = 4;
/** Lines of seals read in one go: what their trees take is then a few megabytes, whatever the account's age. */
const LEAVES = 20_000;

interface StoredLine extends Line {
  readonly hash: Buffer;
  readonly notice: number | null;
  readonly salt: Buffer | null;
  readonly evidence: Evidence | null;
  readonly position: number | null;
  readonly seal: number | null;
}

interface Address {
  readonly contact_point: number;
  readonly kind: string;
  readonly hash: string | null;
  readonly value: string | null;
  readonly verified_at: Date | null;
}

/** Whom a proof is about. */
interface Subject {
  readonly account: number | null;
  readonly addresses: readonly Address[];
  /** The account whose own lines belong to it, also those about addresses it has left; null: the addresses alone. */
  readonly speaker: number | null;
  /** Whether a line may be shown with who said it and how we know. */
  isTheirs(line: { readonly account: number | null; readonly contact_point: number }): boolean;
}

/** An account with the addresses it holds now. What others said about those is shown without who they are. */
async function subjectOfAccount(ctx: Ctx, account: number): Promise<Subject | undefined> {
  const addresses = await ctx.db.rows<Address>(sql`
    select p.id as contact_point, p.kind, encode(p.address_hash, 'hex') as hash, p.value,
           case when p.id = a.email_point then a.email_verified_at else a.phone_verified_at end as verified_at
      from account a join contact_point p on p.id in (a.email_point, a.phone_point)
     where a.id = ${account} order by p.kind, p.id`);
  if (addresses.length === 0) {
    const line = await ctx.db.one(sql`select 1 from consent_event where account = ${account} limit 1`);
    if (line === undefined) return undefined;
  }
  const proven = new Set(addresses.filter((held) => held.verified_at !== null).map((held) => held.contact_point));
  return {
    account,
    addresses,
    speaker: account,
    // Said by nobody we know, about an address that anybody can type: theirs once they have proven that they hold it.
    isTheirs: (line) => (line.account === null ? proven.has(line.contact_point) : line.account === account),
  };
}

/** An address, with the one account that speaks for it. Where several do, each has a proof of its own. */
async function subjectOfAddress(ctx: Ctx, { kind, value }: Recipient): Promise<Subject | undefined> {
  const address = await ctx.db.one<Address>(sql`
    select id as contact_point, kind, encode(address_hash, 'hex') as hash, value, null::timestamptz as verified_at
      from contact_point where address_hash = ${addressHash(ctx, kind, value)}`);
  if (address === undefined) return undefined;
  const point = address.contact_point;
  const [holders, speakers] = await Promise.all([
    ctx.db.rows<{ id: number; verified_at: Date | null }>(sql`
      select id, case when email_point = ${point} then email_verified_at else phone_verified_at end as verified_at
        from account where email_point = ${point} or phone_point = ${point} limit 2`),
    ctx.db.rows<{ id: number }>(sql`
      select distinct account as id from consent_event where contact_point = ${point} and account is not null limit 2`),
  ]);
  const candidates = holders.length > 0 ? holders : speakers;
  const account = candidates.length === 1 ? candidates[0]!.id : null;
  const verified_at = holders.length === 1 ? holders[0]!.verified_at : null;
  return {
    account,
    addresses: [{ ...address, verified_at }],
    speaker: null,
    isTheirs: (line) => line.account === null || line.account === account,
  };
}

/** Everything that can change, as of one moment. */
interface Picture {
  readonly subject: Subject;
  readonly lines: readonly StoredLine[];
  readonly states: readonly (Omit<Proof['states'][number], 'since' | 'valid_until'> & { since: Date })[];
  readonly notices: readonly (Omit<ProofNotice, 'valid_from'> & { valid_from: Date })[];
}

async function readPicture(ctx: Ctx, find: (ctx: Ctx) => Promise<Subject | undefined>): Promise<Picture | undefined> {
  const subject = await find(ctx);
  if (subject === undefined) return undefined;
  const points = subject.addresses.map(({ contact_point }) => contact_point);
  const lines = await ctx.db.rows<StoredLine>(sql`
    with wanted as (
      select id from consent_event where account = ${subject.speaker}
      union select id from consent_event where contact_point = any (${points}::bigint[])
    )
    select e.*, p.kind as address_kind, encode(p.address_hash, 'hex') as address_hash, v.salt, v.evidence,
           encode(n.text_sha256, 'hex') as notice_sha256, l.position, l.seal
      from wanted
      join consent_event e using (id)
      join contact_point p on p.id = e.contact_point
      left join consent_evidence v on v.event = e.id
      left join notice n on n.id = e.notice
      left join ledger_line l on l.event = e.id
     order by l.position nulls last, e.id`);
  const [states, notices] = await Promise.all([
    ctx.db.rows<Picture['states'][number]>(sql`
      select contact_point, channel, purpose, state, since, event
        from consent_state where contact_point = any (${points}::bigint[]) order by contact_point, purpose, channel`),
    ctx.db.rows<Picture['notices'][number]>(sql`
      select id, purpose, channels, language, version, text, encode(text_sha256, 'hex') as text_sha256, withdrawal, valid_from
        from notice
       where id = any (${lines.filter((line) => subject.isTheirs(line)).flatMap((line) => line.notice ?? [])}::bigint[])
       order by id`),
  ]);
  return { subject, lines, states, notices };
}

/** The seals these lines are in, and the path that leads from each line to its seal's root. */
async function readSeals(
  ctx: Ctx,
  lines: readonly StoredLine[],
): Promise<{ seals: Seal[]; paths: Map<number, Buffer[]> }> {
  const wanted = Map.groupBy(
    lines.flatMap(({ position, seal: number }) => (position === null || number === null ? [] : [{ position, number }])),
    ({ number }) => number,
  );
  const seals = await ctx.db.rows<Seal>(sql`
    select * from ledger_seal where number = any (${[...wanted.keys()]}::bigint[]) order by number`);
  const paths = new Map<number, Buffer[]>();
  for (let from = 0; from < seals.length; ) {
    let to = from;
    for (let leaves = 0; to < seals.length && (to === from || leaves + seals[to]!.lines <= LEAVES); to += 1)
      leaves += seals[to]!.lines;
    const some = seals.slice(from, to);
    from = to;
    const leaves = await ctx.db.rows<{ position: number; hash: Buffer }>(sql`
      select l.position, e.hash
        from unnest(${some.map((s) => s.first_position)}::bigint[], ${some.map((s) => s.lines)}::int[]) as s (first, count)
       cross join lateral (
             select position, event from ledger_line where position >= s.first and position < s.first + s.count) l
        join consent_event e on e.id = l.event
       order by l.position`);
    let start = 0;
    for (const { number, first_position, lines: count } of some) {
      const positions = wanted.get(number)!.map(({ position }) => position);
      const hashes = leaves.slice(start, start + count).map(({ hash }) => hash);
      start += count;
      const found = inclusionPaths(
        hashes,
        positions.map((position) => position - first_position),
      );
      for (const [index, position] of positions.entries()) paths.set(position, found[index]!);
    }
  }
  return { seals, paths };
}

const hexOf = (bytes: Buffer): string => bytes.toString('hex');

function lineOf(
  line: StoredLine,
  {
    subject,
    seal: sealed,
    path,
    notices,
    terms,
  }: {
    subject: Subject;
    seal: Seal | undefined;
    path: readonly Buffer[];
    notices: readonly ProofNotice[];
    terms: Pick<Proof, 'controller' | 'consent_validity'>;
  },
): ProofLine {
  const outline = {
    id: line.id,
    contact_point: line.contact_point,
    address_kind: line.address_kind,
    address_hash: line.address_hash,
    channel: line.channel,
    purpose: line.purpose,
    kind: line.kind,
    occurred_at: line.occurred_at.toISOString(),
    recorded_at: line.recorded_at.toISOString(),
    outcome: line.outcome,
  };
  const place = {
    hash: hexOf(line.hash),
    position: line.position,
    seal: line.seal,
    index: sealed === undefined ? null : line.position! - sealed.first_position,
    path: path.map(hexOf),
  };
  if (!subject.isTheirs(line)) return { withheld: true, ...outline, ...place };
  const whole: Omit<FullLine, 'receipt'> = {
    withheld: false,
    ...outline,
    account: line.account,
    source: line.source,
    actor: line.actor,
    idempotency_key: line.idempotency_key,
    commitment: hexOf(line.commitment),
    proven: line.proven,
    notice: line.notice,
    notice_sha256: line.notice_sha256,
    salt: line.salt === null ? null : hexOf(line.salt),
    evidence: line.evidence,
    ...place,
  };
  return { ...whole, receipt: receiptOf(whole, notices, terms) };
}

async function build(
  ctx: Ctx,
  find: (ctx: Ctx) => Promise<Subject | undefined>,
): Promise<Omit<Proof, 'signature' | 'page'>> {
  // A proof whose lines are all sealed is what people want; the sealer is a second behind at most.
  for (let batch = 0; batch < BATCHES && (await seal(ctx)) > 0; batch += 1);
  const picture = await transaction(ctx, async (tx) => {
    await tx.db.run(sql`set transaction isolation level repeatable read, read only`);
    return readPicture(tx, find);
  });
  if (picture === undefined) fail('not_found');
  const { subject, lines, states } = picture;
  // Seals are never changed, so they can be read after the picture was taken.
  const { seals, paths } = await readSeals(ctx, lines);
  const head = await ledgerHead(ctx);
  const installation = await ctx.db.one<{ id: string }>(sql`select id from installation`);
  const terms = {
    controller: ctx.settings.get('CONSENT_CONTROLLER'),
    consent_validity: ctx.settings.get('CONSENT_VALIDITY'),
  };
  const notices = picture.notices.map((row) => ({ ...row, valid_from: row.valid_from.toISOString() }));
  const byNumber = new Map(seals.map((row) => [row.number, row]));
  const validity = terms.consent_validity;
  return {
    schema: SCHEMA,
    generated_at: ctx.clock.now().toISOString(),
    installation: installation!.id,
    ...terms,
    key: describeKey(ctx.keys.sealing.public),
    subject: {
      account: subject.account,
      addresses: subject.addresses.map((row) => ({ ...row, verified_at: row.verified_at?.toISOString() ?? null })),
    },
    states: states.map(({ event, since, ...row }) => ({
      ...row,
      since: since.toISOString(),
      valid_until:
        row.state === 'granted' && validity !== null ? new Date(since.getTime() + validity * 1000).toISOString() : null,
      event,
    })),
    contents: lines.map((line) => ({ event: line.id, position: line.position })),
    lines: lines.map((line) => {
      const sealed = line.seal === null ? undefined : byNumber.get(line.seal);
      const path = line.position === null ? [] : (paths.get(line.position) ?? []);
      return lineOf(line, { subject, seal: sealed, path, notices, terms });
    }),
    notices,
    seals: seals.map((row) => ({
      number: row.number,
      first_position: row.first_position,
      lines: row.lines,
      root: hexOf(row.root),
      previous: hexOf(row.previous),
      sealed_at: row.sealed_at.toISOString(),
      head: hexOf(row.head),
      signature: row.signature.toString('base64'),
    })),
    head,
  };
}

/** A file as it is handed out. */
export interface ProofFile {
  readonly name: string;
  readonly body: string;
}

/** Signs a proof and writes it down: as JSON, or as a page that people read, with the JSON in it. */
function write(ctx: Ctx, unsigned: Omit<Proof, 'signature'>, page: Language | undefined): ProofFile {
  const { subject, generated_at } = unsigned;
  const whom =
    subject.account === null ? `address-${subject.addresses[0]!.contact_point}` : `account-${subject.account}`;
  const name = `consent-proof-${whom}-${generated_at.slice(0, 10)}`;
  const signed = (document: Omit<Proof, 'signature'>): string =>
    JSON.stringify({
      ...document,
      signature: sign(null, Buffer.from(signedText(document)), ctx.keys.sealing.private).toString('base64'),
    });
  if (page === undefined) return { name: `${name}.json`, body: signed(unsigned) };
  const readable = proofPage(unsigned, page);
  const document = signed({ ...unsigned, page: { sha256: hexOf(sha256(readable)) } });
  const at = readable.indexOf(OPENING) + OPENING.length;
  // No `<` in it: nothing in the document can end the element it stands in.
  return {
    name: `${name}.html`,
    body: readable.slice(0, at) + document.replaceAll('<', '\\u003c') + readable.slice(at),
  };
}

/** The proof of an account: its own lines, and what was said about the addresses it holds. @throws not_found */
export const proveAccount = async (ctx: Ctx, account: number, page?: Language): Promise<ProofFile> =>
  write(ctx, await build(ctx, (tx) => subjectOfAccount(tx, account)), page);

/** The proof of an address, whoever holds it, erased ones too. @throws not_found: nothing was ever said of it */
export const proveAddress = async (ctx: Ctx, recipient: Recipient, page?: Language): Promise<ProofFile> =>
  write(ctx, await build(ctx, (tx) => subjectOfAddress(tx, recipient)), page);
