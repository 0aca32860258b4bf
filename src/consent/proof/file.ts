/** What a proof file holds, and what is worked out of it in the same way by whoever writes one and whoever checks one. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import Type, { type Static } from 'typebox';
import { canonical } from '../../platform/evidence.ts';
import { sha256 } from '../../platform/keys.ts';
import { type EventKind, eventKinds, foldOrder, follow, type Outcome, type Standing } from '../rules.ts';

export const SCHEMA = 'assent proof 1';

const time = Type.String({ format: 'date-time' });
const digest = Type.String({ pattern: '^[0-9a-f]{64}$' });
const id = Type.String({ pattern: '^[0-9a-f-]{36}$' });
const whole = Type.Integer({ minimum: 0 });
const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);
const text = Type.String();
const textOrNull = orNull(text);

const receipt = Type.Object(
  {
    schema_version: text,
    record_id: id,
    pii_principal_id: text,
    pii_processing: Type.Object({
      privacy_notice: orNull(Type.Object({ version: text, sha256: digest })),
      language: textOrNull,
      purpose: text,
      channel: text,
      pii_information: Type.Array(Type.Object({ pii_type: text })),
      pii_controllers: Type.Array(text),
      storage_locations: Type.Array(text),
      retention_period: text,
      jurisdiction: text,
      recipient_third_parties: Type.Array(text),
      withdrawal_method: textOrNull,
    }),
    party_identification: Type.Array(
      Type.Object({ party_id: text, party_name: text, party_address: text, party_contact: text, party_type: text }),
    ),
    event: Type.Object({
      event_time: time,
      validity_duration: textOrNull,
      entity_id: text,
      event_type: text,
      event_state: text,
    }),
  },
  { title: 'ConsentRecord', description: 'The line as a consent record with the fields of ISO/IEC TS 27560' },
);

/** What is shown of every line: what happened to the address. */
const outline = {
  id,
  contact_point: whole,
  address_kind: text,
  address_hash: orNull(digest),
  channel: text,
  purpose: text,
  kind: Type.Enum([...eventKinds]),
  occurred_at: time,
  recorded_at: time,
  outcome: Type.Enum(['applied', 'older', 'stale', 'not_lifted', 'not_theirs'] satisfies Outcome[]),
};
const place = {
  hash: digest,
  position: orNull(whole),
  seal: orNull(whole),
  index: orNull(whole),
  path: Type.Array(digest),
};

const fullLine = Type.Object(
  {
    withheld: Type.Literal(false),
    ...outline,
    account: orNull(whole),
    source: text,
    actor: text,
    idempotency_key: textOrNull,
    commitment: digest,
    proven: orNull(Type.Boolean()),
    notice: orNull(whole),
    notice_sha256: orNull(digest),
    salt: textOrNull,
    evidence: orNull(Type.Record(text, Type.Unknown())),
    ...place,
    receipt,
  },
  { title: 'ProofLine', description: 'A line with everything its hash covers, and its evidence until that is erased' },
);
const withheldLine = Type.Object(
  { withheld: Type.Literal(true), ...outline, ...place },
  {
    title: 'ProofLineOfAnother',
    description: 'What somebody else said about the same address: that it was said, and when',
  },
);

const seal = Type.Object(
  {
    number: whole,
    first_position: whole,
    lines: whole,
    root: digest,
    previous: digest,
    sealed_at: time,
    head: digest,
    signature: text,
  },
  { title: 'ProofSeal' },
);

const notice = Type.Object(
  {
    id: whole,
    purpose: text,
    channels: Type.Array(text),
    language: text,
    version: text,
    text,
    text_sha256: digest,
    withdrawal: text,
    valid_from: time,
  },
  { title: 'ProofNotice' },
);

const state = Type.Object(
  {
    contact_point: whole,
    channel: text,
    purpose: text,
    state: text,
    since: time,
    valid_until: orNull(time),
    event: id,
  },
  { title: 'ProofState' },
);

/** The public key of seals and proofs. */
export const keySchema = Type.Object(
  { algorithm: text, public_key: Type.String({ description: 'SPKI in PEM' }), sha256: digest },
  { title: 'LedgerKey' },
);

/** A proof file. */
export const proofSchema = Type.Object(
  {
    schema: Type.Literal(SCHEMA),
    generated_at: time,
    installation: text,
    controller: Type.Object({
      name: text,
      address: text,
      contact: text,
      jurisdiction: text,
      storage: text,
      retention: text,
      recipients: Type.Array(text),
    }),
    consent_validity: orNull(Type.Integer({ description: 'Seconds for which a consent lasts; null: until withdrawn' })),
    key: keySchema,
    subject: Type.Object({
      account: orNull(whole),
      addresses: Type.Array(
        Type.Object({
          contact_point: whole,
          kind: text,
          hash: orNull(digest),
          value: Type.Union([text, Type.Null()], { description: 'Null once it is erased' }),
          verified_at: orNull(time),
        }),
      ),
    }),
    states: Type.Array(state),
    contents: Type.Array(Type.Object({ event: id, position: orNull(whole) })),
    lines: Type.Array(Type.Union([fullLine, withheldLine])),
    notices: Type.Array(notice),
    seals: Type.Array(seal),
    head: Type.Object({
      count: whole,
      hash: orNull(digest),
      at: orNull(time),
      signature: textOrNull,
    }),
    page: Type.Optional(
      Type.Object({ sha256: digest }, { description: 'Of the readable page around it, where it is one' }),
    ),
    signature: Type.String({ description: 'Ed25519 over everything above, base64' }),
  },
  { title: 'ConsentProof' },
);

export type Proof = Static<typeof proofSchema>;
export type FullLine = Static<typeof fullLine>;
export type ProofLine = Proof['lines'][number];
export type ProofNotice = Static<typeof notice>;
export type Receipt = Static<typeof receipt>;

/** What the signature of a file covers: its name, then everything but the signature in one order of keys. */
export const signedText = (unsigned: Omit<Proof, 'signature'>): string => `${SCHEMA}\n${canonical(unsigned)}`;

/** A public key as proofs and `GET /v1/ledger/key` show it; its SHA-256 is that of the SPKI in DER. */
export const describeKey = (key: KeyObject): Proof['key'] => ({
  algorithm: 'Ed25519',
  public_key: key.export({ type: 'spki', format: 'pem' }).toString(),
  sha256: sha256(key.export({ type: 'spki', format: 'der' })).toString('hex'),
});

/** The key of a PEM; undefined when it is no Ed25519 key. */
export function readKey(pem: string): KeyObject | undefined {
  try {
    const key = createPublicKey(pem);
    return key.asymmetricKeyType === 'ed25519' ? key : undefined;
  } catch {
    return undefined;
  }
}

const eventStates: Record<EventKind, string> = {
  request: 'requested',
  grant: 'given',
  confirm: 'given',
  refuse: 'refused',
  withdraw: 'withdrawn',
  expire: 'expired',
  suppress: 'suppressed',
  restore: 'restored',
  erase: 'erased',
};

/** A line as a consent record of ISO/IEC TS 27560: the same facts under the names of that document. */
export function receiptOf(
  line: Omit<FullLine, 'receipt'>,
  notices: readonly ProofNotice[],
  { controller, consent_validity: validity }: Pick<Proof, 'controller' | 'consent_validity'>,
): Receipt {
  const shown = notices.find(({ id: number }) => number === line.notice);
  const gives = line.kind === 'grant' || line.kind === 'confirm';
  return {
    schema_version: 'ISO/IEC TS 27560:2023',
    record_id: line.id,
    pii_principal_id: line.account === null ? `address:${line.address_hash}` : `account:${line.account}`,
    pii_processing: {
      privacy_notice: shown === undefined ? null : { version: shown.version, sha256: shown.text_sha256 },
      language: shown?.language ?? null,
      purpose: line.purpose,
      channel: line.channel,
      pii_information: [{ pii_type: line.address_kind === 'email' ? 'e-mail address' : 'phone number' }],
      pii_controllers: ['controller'],
      storage_locations: controller.storage === '' ? [] : [controller.storage],
      retention_period: controller.retention,
      jurisdiction: controller.jurisdiction,
      recipient_third_parties: controller.recipients,
      withdrawal_method: shown?.withdrawal ?? null,
    },
    party_identification: [
      {
        party_id: 'controller',
        party_name: controller.name,
        party_address: controller.address,
        party_contact: controller.contact,
        party_type: 'controller',
      },
    ],
    event: {
      event_time: line.occurred_at,
      validity_duration: gives ? (validity === null ? 'until withdrawn' : `PT${validity}S`) : null,
      entity_id: line.actor,
      event_type: line.kind,
      event_state: line.outcome === 'applied' ? eventStates[line.kind] : 'without effect',
    },
  };
}

/** A time of a file. What is none becomes one that no hash fits, so that the line is named instead of the file thrown away. */
export function timeOf(text: string): Date {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? new Date(0) : time;
}

/** Names a place that consent is about. */
export const placeOf = (of: { contact_point: number; channel: string; purpose: string }): string =>
  `${of.contact_point} ${of.channel} ${of.purpose}`;

/** What the lines lead to, by `placeOf`: rule 1's order, as `ledger rebuild` replays the whole ledger. */
export function replayLines(lines: readonly ProofLine[]): Map<string, Standing> {
  const standings = new Map<string, Standing>();
  const counting = lines
    .filter(({ outcome }) => outcome === 'applied')
    .map((line) => ({ ...line, at: timeOf(line.occurred_at) }))
    .sort((a, b) => a.at.getTime() - b.at.getTime() || foldOrder(a.kind) - foldOrder(b.kind) || (a.id < b.id ? -1 : 1));
  for (const line of counting) {
    const key = placeOf(line);
    const event = { id: line.id, kind: line.kind, occurredAt: line.at, account: null, proven: false };
    standings.set(key, follow(standings.get(key), event));
  }
  return standings;
}

/** Where the document stands in the page. Texts of the page are escaped, so that this stands there once. */
export const OPENING = '<script type="application/json" id="proof">';
export const CLOSING = '</script>';

/** Parts a page into what people read and the document in it; undefined when it holds none. */
export function partPage(page: string): { readonly readable: string; readonly document: string } | undefined {
  const start = page.indexOf(OPENING);
  const end = page.indexOf(CLOSING, start);
  if (start < 0 || end < 0) return undefined;
  const from = start + OPENING.length;
  return { readable: page.slice(0, from) + page.slice(end), document: page.slice(from, end) };
}
