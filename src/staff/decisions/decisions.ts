/**
 * The second of the two questions: may this colleague do this, in this shop, now? Set-based: a single question and a
 * stream of a million run the same statement and the same rule. Nothing is cached, so a right that was lifted is honoured
 * by no process from the answer of the call that lifted it.
 */
import { batched } from '../../platform/batch.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { type Language, say } from '../../platform/language.ts';
import type { Permission } from '../permissions.ts';

/** Who is asked about, and for what. Ids and keys are checked already: they go into arrays as they are. */
export interface StaffQuestion {
  readonly account: number | null;
  /** Instead of an account: its address, as `foldEmail` folds it. */
  readonly email: string | null;
  /** Where it is named, the shop must be one of its shops. */
  readonly company: number | null;
  readonly shop: number;
  readonly permission: Permission;
}

export interface StaffDecision {
  readonly allowed: boolean;
  /** Which rule decided, for programs. */
  readonly code: StaffReasonCode;
  /** The same in words. */
  readonly reason: string;
  /** The colleague's entry in the company of the shop; null where there is none. */
  readonly entry: number | null;
  /** The line of the history that gave the right; null where there is none. */
  readonly event: string | null;
  /** When the right ends or, of one that ended, when it did; null of one without an end. */
  readonly until: string | null;
}

/** What a decision can be made by; the words are `staff_reason.<code>` in the messages. */
export const staffReasonCodes = [
  'owner',
  'held',
  'second_factor',
  'no_account',
  'account_off',
  'invited',
  'no_company',
  'no_shop',
  'no_entry',
  'other_shop',
  'not_held',
  'ended',
] as const;
type StaffReasonCode = (typeof staffReasonCodes)[number];

/** What the tables say about a question. */
interface Found {
  readonly code: StaffReasonCode;
  readonly entry: number | null;
  readonly event: string | null;
  readonly until: Date | null;
}

const array = (values: readonly (string | number | null)[]): string => `{${values.map((v) => v ?? 'NULL').join()}}`;

/**
 * The rule, and one statement for any number of questions. Who somebody is comes first: an account that is off or was only
 * invited can use no right, not even an owner's.
 *
 * The arrays are behind a `select` each so that the planner does not see how long they are: it plans for a few questions,
 * whoever asks first, and looks into indexes. For a thousand it would read whole tables. An entry and a right are asked
 * for with a limit each, so that they are looked up by their whole key: both indexes have all that is read (migration
 * 0009), and what a random place of a large table costs is most of an answer.
 */
async function findAll(ctx: Ctx, questions: readonly StaffQuestion[]): Promise<Found[]> {
  const now = ctx.clock.now();
  const strict = ctx.settings.get('SECOND_FACTOR_REQUIRED').includes('owners');
  // Written by hand: numbers and our own keys need no escaping, which cost the driver as much as the statement.
  const accounts = array(questions.map(({ account }) => account));
  const companies = array(questions.map(({ company }) => company));
  const shops = array(questions.map(({ shop }) => shop));
  const permissions = array(questions.map(({ permission }) => permission));
  const emails = questions.some(({ email }) => email !== null) ? questions.map(({ email }) => email) : [];
  const rows = await ctx.db.rows<Found & { n: number }>(sql`
    select q.n::int as n,
           case when a.id is null then 'no_account'
                when not a.is_active then 'account_off'
                when a.email_verified_at is null then 'invited'
                when s.id is null and q.company is not null and not exists (select from company x where x.id = q.company)
                  then 'no_company'
                when s.id is null then 'no_shop'
                when c.owner = a.id then case when ${strict} and not a.second_factor then 'second_factor' else 'owner' end
                when e.id is null then 'no_entry'
                when r.event is not null then case when r.until <= ${now} then 'ended' else 'held' end
                when exists (select from entry_right o where o.entry = e.id and o.permission = q.permission
                                and (o.until is null or o.until > ${now}))
                  then 'other_shop'
                else 'not_held' end as code,
           e.id as entry, r.event, r.until
      from unnest((select ${accounts}::bigint[]), (select ${emails}::text[]), (select ${companies}::bigint[]),
                  (select ${shops}::bigint[]), (select ${permissions}::text[]))
             with ordinality as q (account, email, company, shop, permission, n)
      left join account i on i.id = q.account
      left join account m on m.email_key = q.email
      cross join lateral (
        select coalesce(i.id, m.id) as id, coalesce(i.is_active, m.is_active) as is_active,
               coalesce(i.email_verified_at, m.email_verified_at) as email_verified_at,
               coalesce(i.second_factor, m.second_factor) as second_factor) a
      left join shop s on s.id = q.shop and (q.company is null or s.company = q.company)
      left join company c on c.id = s.company
      left join lateral (select id from entry where company = s.company and account = a.id limit 1) e on true
      left join lateral (
        select event, until from entry_right
         where entry = e.id and shop = q.shop and permission = q.permission limit 1) r on true`);
  const found = new Array<Found>(questions.length);
  for (const row of rows) found[row.n - 1] = row;
  return found;
}

const phrases = new Map<string, readonly string[]>();
const hole = { permission: '\u0001p\u0001', shop: '\u0001s\u0001', since: '\u0001f\u0001', until: '\u0001u\u0001' };

/** The reason in words. A phrase is translated once and filled in by the million: formatting it each time costs more than all else. */
function inWords(
  language: Language,
  code: StaffReasonCode,
  values: { permission: string; shop: number; since: string | null; until: string | null },
): string {
  const { permission, shop, since, until } = values;
  const key = `${language} ${code} ${since !== null} ${until !== null}`;
  let phrase = phrases.get(key);
  if (phrase === undefined) {
    const holes = { ...hole, since: since === null ? 'none' : hole.since, until: until === null ? 'none' : hole.until };
    phrase = say(language, { key: `staff_reason.${code}`, values: holes }).split('\u0001');
    phrases.set(key, phrase);
  }
  let text = phrase[0]!;
  for (let index = 1; index < phrase.length; index += 2) {
    const name = phrase[index]!;
    text += name === 'p' ? permission : name === 's' ? shop : minute(name === 'f' ? since! : until!);
    text += phrase[index + 1]!;
  }
  return text;
}

const minute = (time: string): string => `${time.slice(0, 10)} ${time.slice(11, 16)} UTC`;

/** When a line of the history was written: its id says so (UUIDv7). Those the migration wrote do not tell; null then. */
function writtenAt(event: string): string | null {
  if (event[14] !== '7') return null;
  return new Date(Number.parseInt(event.slice(0, 8) + event.slice(9, 13), 16)).toISOString();
}

function decide(
  { code, entry, ...right }: Found,
  { permission, shop }: StaffQuestion,
  language: Language,
): StaffDecision {
  const there = code === 'held' || code === 'ended';
  const event = there ? right.event : null;
  const until = there && right.until !== null ? right.until.toISOString() : null;
  const since = code === 'held' ? writtenAt(event!) : null;
  return {
    allowed: code === 'owner' || code === 'held',
    code,
    reason: inWords(language, code, { permission, shop, since, until }),
    entry,
    event,
    until,
  };
}

/** Answers questions, in their order. */
export async function decideStaff(
  ctx: Ctx,
  questions: readonly StaffQuestion[],
  language: Language,
): Promise<StaffDecision[]> {
  const found = await findAll(ctx, questions);
  return questions.map((question, index) => decide(found[index]!, question, language));
}

/** Those that wait at one time are looked up together; a look begins after its question came, so it sees what was lifted before. */
const find = batched<StaffQuestion, Found>({ run: findAll });

/** Answers one question. */
export const decideColleague = async (ctx: Ctx, question: StaffQuestion, language: Language): Promise<StaffDecision> =>
  decide(await find(ctx, question), question, language);
