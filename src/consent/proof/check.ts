/**
 * Checking a proof file: whoever has one can do it anywhere, with this file's functions and nothing else: no database, no
 * network, no trust in who handed it over. What it cannot know is whose key it is: that is compared with the published one.
 */
import { type KeyObject, verify } from 'node:crypto';
import Compile from 'typebox/compile';
import { canonical, commitment } from '../../platform/evidence.ts';
import { sha256 } from '../../platform/keys.ts';
import { lineHash } from '../ledger/lines.ts';
import { rootFromPath } from '../ledger/merkle.ts';
import { headHash } from '../ledger/seals.ts';
import {
  describeKey,
  type FullLine,
  type Proof,
  type ProofLine,
  partPage,
  placeOf,
  proofSchema,
  readKey,
  receiptOf,
  replayLines,
  SCHEMA,
  signedText,
  timeOf,
} from './file.ts';

/** What a file says of itself, and the first thing that does not hold. */
export interface ProofCheck {
  /** In words; absent when everything holds. */
  readonly fault?: string;
  readonly generated_at?: string;
  readonly account?: number | null;
  readonly addresses?: readonly string[];
  readonly lines?: number;
  /** Lines that were too young to be sealed when the file was made: only the file's own signature covers them. */
  readonly unsealed?: number;
  /** Lines of which nothing but the outline is shown, because somebody else said it. */
  readonly withheld?: number;
  /** Lines whose evidence has been erased. */
  readonly erased?: number;
  readonly seals?: number;
  /** SHA-256 of the public key that everything was signed with. */
  readonly key?: string;
}

const validator = Compile(proofSchema);
const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const nameOf = ({ id, position }: Pick<ProofLine, 'id' | 'position'>): string =>
  position === null ? `event ${id}, not yet sealed,` : `line ${position} (event ${id})`;

/**
 * Whether a text says everything once and in the way we write it. JSON.parse takes the last of two members of one name;
 * another reader of the same file may take the first.
 */
function isPlain(text: string, value: unknown): boolean {
  const bare = text.replace(/("(?:[^"\\]|\\.)*")|[ \t\r\n]+/g, (_, token?: string) =>
    token === undefined ? '' : JSON.stringify(JSON.parse(token)),
  );
  return bare === JSON.stringify(value);
}

/** The document of a file: JSON, or the page around it. */
function read(file: string): { proof: Proof; readable: string | undefined } | { fault: string } {
  const text = file.replace(/^\ufeff/, '');
  const page = text.trimStart().startsWith('<') ? partPage(text) : undefined;
  let value: unknown;
  try {
    value = JSON.parse(page?.document ?? text);
    if (!isPlain(page?.document ?? text, value))
      return { fault: 'the file is not as it was written: something stands in it twice' };
  } catch {
    return { fault: 'this is no proof file: it holds no JSON that can be read' };
  }
  if ((value as { schema?: unknown } | null)?.schema !== SCHEMA)
    return { fault: `this is no proof file of a kind that is known here (${SCHEMA})` };
  if (!validator.Check(value)) {
    const [first] = validator.Errors(value);
    return {
      fault: `the file is not whole: ${first?.instancePath || '/'} ${first?.message ?? 'is not as it must be'}`,
    };
  }
  return { proof: value, readable: page?.readable };
}

/** The lines of the file against its list of them. */
function contentsFault({ contents, lines }: Proof): string | undefined {
  const listed = new Map(contents.map((entry) => [entry.event, entry]));
  const there = new Set<string>();
  for (const line of lines) {
    const entry = listed.get(line.id);
    if (entry === undefined) return `${nameOf(line)} was inserted: the contents do not name it`;
    if (there.has(line.id)) return `${nameOf(line)} was inserted: it stands there twice`;
    if (entry.position !== line.position) return `${nameOf(line)} was moved: the contents name line ${entry.position}`;
    there.add(line.id);
  }
  const missing = contents.find(({ event }) => !there.has(event));
  return missing === undefined ? undefined : `${nameOf({ id: missing.event, position: missing.position })} was dropped`;
}

/** A line by itself: its hash, its evidence, the text it names, and the record made of it. */
function lineFault(line: FullLine, proof: Proof, texts: Proof['notices']): string | undefined {
  const name = nameOf(line);
  const { notice_sha256: named, proven, outcome } = line;
  const hash = lineHash({
    ...line,
    occurred_at: timeOf(line.occurred_at),
    recorded_at: timeOf(line.recorded_at),
    commitment: bytes(line.commitment),
  });
  // A line from before these were recorded has them at rest: its hash does not cover them.
  const plain = proven !== null || (outcome === 'applied' && named === null);
  if (hash.toString('hex') !== line.hash || !plain) return `${name} was changed`;
  const { salt, evidence } = line;
  if ((salt === null) !== (evidence === null)) return `the evidence of ${name} was changed`;
  if (salt !== null && evidence !== null) {
    if (commitment(bytes(salt), evidence).toString('hex') !== line.commitment)
      return `the evidence of ${name} was changed`;
    const address = proof.subject.addresses.find(({ hash: known }) => known !== null && known === line.address_hash);
    const known = address?.value ?? null;
    if (known !== null && evidence['address'] !== undefined && evidence['address'] !== known)
      return `${name} is about another address than the file says`;
  }
  const shown = texts.find(({ id }) => id === line.notice);
  if ((line.notice === null) !== (named === null)) return `${name} was changed`;
  if (line.notice !== null && shown === undefined) return `notice ${line.notice}, which ${name} names, was dropped`;
  if (shown !== undefined && shown.text_sha256 !== named) return `${name} names another text than notice ${shown.id}`;
  const { receipt, ...rest } = line;
  if (canonical(receipt) !== canonical(receiptOf(rest, texts, proof))) return `the record of ${name} was changed`;
  return undefined;
}

/** The seals by themselves: each hash, each signature, and the chain where two are neighbours. */
function sealsFault({ seals }: Proof, key: KeyObject): string | undefined {
  for (const [index, seal] of seals.entries()) {
    const name = `seal ${seal.number}`;
    const before = seals[index - 1];
    if (before !== undefined && before.number >= seal.number) return `${name} stands behind seal ${before.number}`;
    const head = headHash({
      ...seal,
      root: bytes(seal.root),
      previous: bytes(seal.previous),
      sealed_at: timeOf(seal.sealed_at),
    });
    if (head.toString('hex') !== seal.head) return `${name} was changed`;
    if (!verify(null, head, key, Buffer.from(seal.signature, 'base64')))
      return `the signature of ${name} does not hold`;
    if (before === undefined) continue;
    const next = before.first_position + before.lines;
    const follows =
      before.number + 1 === seal.number
        ? seal.previous === before.head && seal.first_position === next
        : seal.first_position > next;
    if (!follows) return `${name} does not follow seal ${before.number}`;
  }
  return undefined;
}

/** The way of a line to the root of its seal. */
function pathFault(line: ProofLine, seals: ReadonlyMap<number, Proof['seals'][number]>): string | undefined {
  const name = nameOf(line);
  if (line.seal === null && line.position === null && line.index === null && line.path.length === 0) return undefined;
  if (line.seal === null || line.position === null || line.index === null) return `the place of ${name} was changed`;
  const seal = seals.get(line.seal);
  if (seal === undefined) return `seal ${line.seal}, which ${name} is in, was dropped`;
  if (line.position - seal.first_position !== line.index || line.index < 0 || line.index >= seal.lines)
    return `${name} has no place in seal ${seal.number}`;
  const root = rootFromPath(bytes(line.hash), line.index, seal.lines, line.path.map(bytes));
  return root?.toString('hex') === seal.root
    ? undefined
    : `the path of ${name} does not lead to the root of seal ${seal.number}`;
}

/** The states are those the lines lead to. */
function statesFault(proof: Proof): string | undefined {
  const replayed = replayLines(proof.lines);
  const held = new Set(proof.subject.addresses.map(({ contact_point }) => contact_point));
  const said = [...replayed.keys()].filter((key) => held.has(Number(key.split(' ', 1)[0])));
  const shown = new Map(proof.states.map((state) => [placeOf(state), state]));
  for (const key of new Set([...shown.keys(), ...said])) {
    const [point, channel, purpose] = key.split(' ');
    const [state, standing] = [shown.get(key), replayed.get(key)];
    if (
      state?.state !== standing?.state ||
      state?.event !== standing?.event ||
      state?.since !== standing?.since.toISOString()
    )
      return `${channel} of contact point ${point} for ${purpose} is shown as ${state?.state ?? 'unknown'}, but the lines lead to ${standing?.state ?? 'unknown'}`;
  }
  return undefined;
}

function firstFault(proof: Proof, readable: string | undefined, wanted: string | undefined): string | undefined {
  const key = readKey(proof.key.public_key);
  if (key === undefined) return 'the key in the file is none';
  const { sha256: fingerprint } = describeKey(key);
  if (proof.key.sha256 !== fingerprint)
    return `the key in the file is another than it says: its SHA-256 is ${fingerprint}`;
  if (wanted !== undefined && wanted !== fingerprint) return `the file is signed with another key: ${fingerprint}`;
  const inContents = contentsFault(proof);
  if (inContents !== undefined) return inContents;
  for (const notice of proof.notices) {
    if (sha256(notice.text).toString('hex') !== notice.text_sha256)
      return `the text of notice ${notice.id} was changed`;
  }
  for (const line of proof.lines) {
    const fault = line.withheld ? undefined : lineFault(line, proof, proof.notices);
    if (fault !== undefined) return fault;
  }
  const inSeals = sealsFault(proof, key);
  if (inSeals !== undefined) return inSeals;
  const seals = new Map(proof.seals.map((seal) => [seal.number, seal]));
  for (const line of proof.lines) {
    const fault = pathFault(line, seals);
    if (fault !== undefined) return fault;
  }
  const inStates = statesFault(proof);
  if (inStates !== undefined) return inStates;
  const { hash, signature } = proof.head;
  if (
    (hash !== null || proof.head.count > 0) &&
    !verify(null, bytes(hash ?? ''), key, Buffer.from(signature ?? '', 'base64'))
  )
    return 'the signature of the head does not hold';
  if (readable !== undefined && sha256(readable).toString('hex') !== proof.page?.sha256)
    return 'the page was changed: what it shows is not what was signed';
  const { signature: own, ...unsigned } = proof;
  if (!verify(null, Buffer.from(signedText(unsigned)), key, Buffer.from(own, 'base64')))
    return 'the signature of the file does not hold: something in it was changed';
  return undefined;
}

/**
 * Checks the text of a proof file.
 * @param options `key`: SHA-256 of the key it must be signed with, hex
 * @returns what was checked and the first fault
 */
export function checkProof(file: string, { key }: { key?: string | undefined } = {}): ProofCheck {
  const found = read(file);
  if ('fault' in found) return found;
  const { proof, readable } = found;
  const fault = firstFault(proof, readable, key?.toLowerCase().replaceAll(/[^0-9a-f]/g, ''));
  const { lines } = proof;
  return {
    generated_at: proof.generated_at,
    account: proof.subject.account,
    addresses: proof.subject.addresses.flatMap(({ value, hash }) => value ?? hash ?? []),
    lines: lines.length,
    unsealed: lines.filter(({ position }) => position === null).length,
    withheld: lines.filter(({ withheld }) => withheld).length,
    erased: lines.filter((line) => !line.withheld && line.evidence === null).length,
    seals: proof.seals.length,
    key: proof.key.sha256,
    ...(fault === undefined ? {} : { fault }),
  };
}

const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;

/** The outcome in words, with what is left to the reader: comparing the key. */
export function describeCheck(check: ProofCheck): string {
  if (check.fault !== undefined) return check.fault;
  const { account, addresses = [], lines = 0, seals = 0, unsealed = 0, withheld = 0, erased = 0 } = check;
  const whom = [...(account === null ? [] : [`account ${account}`]), ...addresses].join(', ');
  return [
    `The proof holds: ${plural(lines, 'line', 'lines')} in ${plural(seals, 'seal', 'seals')} about ${whom}, made ${check.generated_at}.`,
    ...(unsealed > 0 ? [`Not yet sealed: ${unsealed}. A proof made a second later has them sealed.`] : []),
    ...(withheld > 0 ? [`Shown in outline, said by somebody else: ${withheld}.`] : []),
    ...(erased > 0 ? [`Evidence erased: ${erased}.`] : []),
    `Signed with the key ${check.key}.`,
    'Compare it with the `sha256` that the installation publishes at /v1/ledger/key, or give it with --key.',
  ].join('\n');
}
