/**
 * Double opt-in: a yes that has to be confirmed from the address itself. One message asks for everything that is open
 * there, and its link leads to a page with a yes and a no. Also the message that brings a new preference link.
 */
import type { PointKind } from '../../accounts/contact-points.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import type { Evidence } from '../../platform/evidence.ts';
import { enqueue, type Task } from '../../platform/jobs.ts';
import { type Language, languageOf, type Words, wordsIn } from '../../platform/language.ts';
import type { Mailer } from '../../platform/mail.ts';
import { countHit, returnHit } from '../../platform/throttle.ts';
import { sayAll } from '../statements.ts';
import { channelWords } from '../words.ts';
import { accountLink, addressLink, confirmLink, type SignedLink, tokenOf } from './links.ts';
import { purposeTitle } from './preferences.ts';

/** How messages leave, and where their links lead. */
export interface Post {
  readonly mail: Mailer;
  /** @param about what it is about: the one that is under way is repeated, no second one is begun */
  readonly sms: (ctx: Ctx, message: { to: string; text: string; about: string }) => Promise<void>;
  /** Whether one may go to this number, which is counted when it begins. */
  readonly mayText: (ctx: Ctx, e164: string, cause: Cause, about: string) => Promise<boolean>;
  /** Address under which people reach this service. */
  readonly publicUrl: string;
}

/** Messages one address gets of one kind, however often somebody else causes one. */
const BUDGET = { count: 3, duration: 86_400 };
/** Whoever does not answer, or said no, is not asked for ever: strangers can open a question a day. */
const MONTH = { count: 6, duration: 30 * 86_400 };

/** The account that caused a message and the client address it came from, as far as they are known. */
interface Cause {
  readonly account: number | null;
  readonly ip: string | null;
}

export interface OpenRequest {
  readonly channel: string;
  readonly purpose: string;
  /** The line that asked. */
  readonly request: string;
  readonly kind: PointKind;
  readonly value: string;
  /** Of the account it is about; null where there is none. */
  readonly language: string | null;
  readonly account: number | null;
  readonly ip: string | null;
}

/** What waits for an answer at an address: not what was asked too long ago, and nothing of an address that was erased. */
export const openRequests = (ctx: Ctx, point: number): Promise<OpenRequest[]> =>
  ctx.db.rows(sql`
    select s.channel, s.purpose, s.request, p.kind, p.value, a.language_code as language, e.account, v.evidence ->> 'ip' as ip
      from consent_state s
      join contact_point p on p.id = s.contact_point
      join consent_event e on e.id = s.request
      left join consent_evidence v on v.event = e.id
      left join account a on a.id = e.account
     where s.contact_point = ${point} and p.value is not null and p.erased_at is null
       and not (s.state = 'suppressed' and s.beneath is null)
       and s.latest > ${ctx.clock.now()}::timestamptz - make_interval(secs => ${ctx.settings.get('DOUBLE_OPT_IN_AGE')})
     order by s.purpose, s.channel`);

/** `Offers and news: E-mail, SMS`, a line for each purpose. */
export function askedFor(ctx: Ctx, words: Words, language: Language, requests: readonly OpenRequest[]): string[] {
  return [...Map.groupBy(requests, ({ purpose }) => purpose)].map(
    ([purpose, asked]) =>
      `${purposeTitle(ctx, purpose, language)}: ${asked.map(({ channel }) => words(channelWords[channel]!)).join(', ')}`,
  );
}

/** Sends within the budget of an address; what was not taken, and is tried again by its job, is counted once. */
async function sendWithin(
  ctx: Ctx,
  { mail, mayText, sms }: Post,
  name: string,
  {
    to,
    kind,
    subject,
    text,
    short,
    cause,
  }: { to: string; kind: PointKind; subject: string; text: string; short: string; cause: Cause },
): Promise<void> {
  const caller = `${kind} ${to}`;
  if ((await countHit(ctx, name, caller, BUDGET)).over) return;
  if ((await countHit(ctx, `${name}-month`, caller, MONTH)).over) return;
  try {
    if (kind === 'email') await mail(ctx, { to, subject, text });
    else if (await mayText(ctx, to, cause, name)) await sms(ctx, { to, text: short, about: name });
  } catch (error) {
    await returnHit(ctx, name, caller);
    await returnHit(ctx, `${name}-month`, caller);
    throw error;
  }
}

/** Asks whoever holds an address about everything that is open there. */
export const askToConfirmBy =
  (post: Post): Task =>
  async (ctx, { point }) => {
    const requests = await openRequests(ctx, Number(point));
    const [first] = requests;
    // Answered, expired or erased meanwhile: nobody is asked.
    if (first === undefined) return;
    const language = languageOf(
      requests.find((request) => request.language !== null)?.language ?? ctx.settings.get('DEFAULT_LANGUAGE'),
    );
    const words = wordsIn(language);
    const url = `${post.publicUrl}/preferences/confirm/${tokenOf(ctx, confirmLink(ctx, Number(point)))}`;
    const shop = ctx.settings.get('CONSENT_CONTROLLER').name;
    const asked = askedFor(ctx, words, language, requests);
    await sendWithin(ctx, post, 'ask-to-confirm', {
      to: first.value,
      kind: first.kind,
      subject: words('mail.confirm_consent.subject', { shop }),
      text: words('mail.confirm_consent.text', { shop, url, asked: asked.map((line) => `– ${line}`).join('\n') }),
      short: words('sms.confirm_consent', { shop, url }),
      cause: { account: first.account, ip: first.ip },
    });
  };

/** What the holder of an address answers to what they were asked. */
export async function answerRequests(
  ctx: Ctx,
  { point, requests, confirmed }: { point: number; requests: readonly OpenRequest[]; confirmed: boolean },
  { evidence, language }: { evidence: Evidence; language: string },
): Promise<void> {
  const results = await sayAll(
    ctx,
    requests.map(({ channel, purpose, request }) => ({
      about: { point },
      channel,
      purpose,
      intent: confirmed ? 'confirm' : 'refuse',
      by: { voice: 'person', proven: true },
      whileEvent: request,
      source: 'confirmation',
      actor: 'address',
      evidence,
      language,
    })),
  );
  for (const result of results) if (result instanceof Error) throw result;
}

/**
 * Has a new preference link sent to where an old one, or a mail with an unsubscribe link, had been sent. Whoever holds the
 * old one learns nothing: not even whether anything is sent.
 */
export async function askForLink(ctx: Ctx, link: Exclude<SignedLink, { kind: 'confirm' }>): Promise<void> {
  const about = link.kind === 'account' ? { account: link.account } : { point: link.point };
  await enqueue(ctx, 'send_preference_link', about, {
    key: `preference_link:${Object.entries(about).flat().join(':')}`,
  });
}

/** Sends a preference link to an account's e-mail address, or to an address by itself. */
export const sendPreferenceLinkBy =
  (post: Post): Task =>
  async (ctx, { account, point }) => {
    const found = await ctx.db.one<{
      account: number | null;
      point: number;
      kind: PointKind;
      value: string;
      language: string | null;
    }>(sql`
      select a.id as account, p.id as point, p.kind, p.value, a.language_code as language
        from contact_point p left join account a on a.email_point = p.id and a.is_active
       where p.value is not null and p.erased_at is null
         and (p.id = ${point ?? null}::bigint or a.id = ${account ?? null}::bigint)`);
    if (found === undefined) return;
    const link = found.account === null ? await addressLink(ctx, found.point) : await accountLink(ctx, found.account);
    if (link === undefined) return;
    const words = wordsIn(languageOf(found.language ?? ctx.settings.get('DEFAULT_LANGUAGE')));
    const shop = ctx.settings.get('CONSENT_CONTROLLER').name;
    const url = `${post.publicUrl}/preferences/${tokenOf(ctx, link)}`;
    await sendWithin(ctx, post, 'preference-link', {
      to: found.value,
      kind: found.kind,
      subject: words('mail.preference_link.subject', { shop }),
      text: words('mail.preference_link.text', { shop, url }),
      short: words('sms.preference_link', { shop, url }),
      cause: { account: found.account, ip: null },
    });
  };
