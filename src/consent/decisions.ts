/**
 * The first of the two questions: may we contact this person, on this channel, now? Set-based: a single question and a
 * stream of a million run the same statement and the same rule, and nothing is cached.
 */
import { addressHash } from '../accounts/contact-points.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { type Language, say } from '../platform/language.ts';
import { channels } from './channels.ts';
import type { Recipient } from './recipients.ts';
import type { EventKind, State } from './rules.ts';

/** Who is asked about: an address, or an account whose address of the channel's kind is meant. */
export interface Question {
  readonly about: Recipient | { readonly account: number };
  readonly channel: string;
  readonly purpose: string;
}

export interface Decision {
  readonly allowed: boolean;
  readonly state: State;
  /** Since when it is so; null where nothing was ever said. */
  readonly since: string | null;
  /** Which rule decided, for programs. */
  readonly code: ReasonCode;
  /** The same in words, with everything the rule used. */
  readonly reason: string;
  /** The line of the ledger that decides; null where there is none. */
  readonly event: string | null;
}

interface Found {
  readonly n: number;
  /** What was asked about exists: an account, and an address of this kind; both are true of any address. */
  readonly account_known: boolean;
  readonly address_known: boolean;
  readonly state: State | null;
  /** Milliseconds since 1970. */
  readonly since: number | null;
  readonly event: string | null;
  readonly asked: boolean | null;
  readonly erased: boolean | null;
  readonly kind: EventKind | null;
  readonly source: string | null;
}

/** The rule: granted, and not for longer than a consent lasts. */
export function isAllowed(state: State | null, since: number, validity: number | null, now: number): boolean {
  return state === 'granted' && (validity === null || since + validity * 1000 > now);
}

/** What a decision can be made by; the words are `reason.<code>` in the messages. */
export const reasonCodes = [
  'granted',
  'confirmed',
  'restored',
  'unknown',
  'restored_unknown',
  'no_account',
  'no_address',
  'pending',
  'over',
  'expired',
  'address_left',
  'refused',
  'withdrawn',
  'withdrawn_asked',
  'suppressed',
  'suppressed_asked',
  'erased',
] as const;
type ReasonCode = (typeof reasonCodes)[number];

function codeOf(found: Found, allowed: boolean): ReasonCode {
  const { account_known, address_known, state, asked, erased, kind, source } = found;
  if (!account_known) return 'no_account';
  if (!address_known) return 'no_address';
  switch (state) {
    case null:
    case 'unknown':
      return kind === 'restore' ? 'restored_unknown' : 'unknown';
    case 'granted':
      return allowed ? (kind === 'confirm' ? 'confirmed' : kind === 'restore' ? 'restored' : 'granted') : 'over';
    case 'expired':
      return source === 'system' ? 'expired' : 'address_left';
    case 'suppressed':
      return erased ? 'erased' : asked ? 'suppressed_asked' : 'suppressed';
    case 'withdrawn':
      return asked ? 'withdrawn_asked' : 'withdrawn';
    default:
      return state;
  }
}

const phrases = new Map<string, readonly string[]>();
const HOLE = '\u0001';

/** The reason in words. A phrase is translated once and filled in by the million: formatting it each time costs more than all else. */
function inWords(language: Language, code: ReasonCode, source: string | null, since: string | null): string {
  const key = `${language} ${code} ${source}`;
  let phrase = phrases.get(key);
  if (phrase === undefined) {
    const from = source === null ? '' : say(language, { key: `source.${source}` });
    phrase = say(language, { key: `reason.${code}`, values: { since: HOLE, source: from } }).split(HOLE);
    phrases.set(key, phrase);
  }
  return phrase.join(since === null ? '' : `${since.slice(0, 10)} ${since.slice(11, 16)} UTC`);
}

const kinds = new Map<string, string>(channels.map(({ name, kind }) => [name, kind]));
const HASH_BYTES = 32;
const noHash = Buffer.alloc(HASH_BYTES);

/** Answers questions, in their order. Channels must be ours; a purpose nobody ever spoke of is unknown. */
export async function decideContacts(
  ctx: Ctx,
  questions: readonly Question[],
  language: Language,
): Promise<Decision[]> {
  // One value of bytes instead of an array of texts: escaping each cost as much as the statement.
  const hashes = Buffer.concat(
    questions.map(({ about }) => ('value' in about ? addressHash(ctx, about.kind, about.value) : noHash)),
  );
  const accounts = questions.map(({ about }) => ('account' in about ? about.account : null));
  const rows = await ctx.db.rows<Found>(sql`
    select q.n::int as n, q.account is null or a.id is not null as account_known,
           q.account is null or a.point is not null as address_known, s.state, (extract(epoch from s.since) * 1000)::bigint as since, s.event,
           s.request is not null as asked, s.state = 'suppressed' and s.beneath is null as erased, s.kind, s.source
      from unnest(${accounts}::bigint[], ${questions.map(({ channel }) => channel)}::text[],
                  ${questions.map(({ channel }) => kinds.get(channel)!)}::text[],
                  ${questions.map(({ purpose }) => purpose)}::text[]) with ordinality as q (account, channel, kind, purpose, n)
      left join lateral (
        select id, case q.kind when 'email' then email_point else phone_point end as point
          from account where id = q.account and is_active) a on true
      left join contact_point p
        on q.account is null and p.address_hash = substr(${hashes}::bytea, (q.n::int - 1) * 32 + 1, 32)
      left join consent_state s
        on s.contact_point = coalesce(p.id, a.point) and s.channel = q.channel and s.purpose = q.purpose`);
  const validity = ctx.settings.get('CONSENT_VALIDITY');
  const now = ctx.clock.now().getTime();
  const decisions = new Array<Decision>(questions.length);
  for (const found of rows) {
    const { n, state, since: at, event, source } = found;
    const allowed = isAllowed(state, at ?? 0, validity, now);
    const code = codeOf(found, allowed);
    const over = code === 'over';
    const since = at === null ? null : new Date(over ? at + validity! * 1000 : at).toISOString();
    decisions[n - 1] = {
      allowed,
      state: over ? 'expired' : (state ?? 'unknown'),
      since,
      code,
      reason: inWords(language, code, source, since),
      event,
    };
  }
  return decisions;
}
