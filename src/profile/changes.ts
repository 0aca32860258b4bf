/** From a request to a change: the one place where bodies of profiles become `ProfileChange`s. */
import type { Customer } from '../accounts/callers.ts';
import { type PhoneNumber, readPhone } from '../accounts/phone-numbers.ts';
import { READ_COOKIE } from '../accounts/read-cookie.ts';
import { channels, type Flags } from '../consent/channels.ts';
import type { NoticeRef } from '../consent/ledger/book.ts';
import { readNotice } from '../consent/notices.ts';
import { hasProvider } from '../loyalty/told.ts';
import { type Body, UploadedFile } from '../platform/body.ts';
import type { Ctx } from '../platform/ctx.ts';
import { type FieldRule, readFields } from '../platform/drf.ts';
import { evidenceOf } from '../platform/evidence.ts';
import { type Complaint, Failure, refuse } from '../platform/failure.ts';
import { type Incoming, ifMatch, type Request } from '../platform/http.ts';
import { storePicture } from './avatar.ts';
import type { ProfileChange } from './decide.ts';
import { avatarUrl, profileColumns, profileNames, profileRules } from './fields.ts';

/** The consent flags among read values. */
export const flagsAmong = (values: Readonly<Record<string, unknown>>): Flags =>
  Object.fromEntries(
    channels.filter(({ flag }) => values[flag] !== undefined).map(({ flag }) => [flag, values[flag]]),
  ) as Flags;

/** A phone of a body: null clears, blank text too. @throws invalid on `phone` */
export function phoneAmong(ctx: Ctx, values: Readonly<Record<string, unknown>>): PhoneNumber | null | undefined {
  const text = values['phone'] as string | null | undefined;
  if (text === undefined) return undefined;
  if (text === null || text === '') return null;
  const phone = readPhone(ctx.settings, text);
  if ('problem' in phone) refuse({ path: ['phone'], key: phone.problem });
  return phone;
}

/** Where the loyalty part stands in the attributes. */
export const LOYALTY_KEY = 'loyalty';

/**
 * The notices a client says it showed, in `Assent-Notice: 7, 9`, by channel; undefined without the header.
 * @throws invalid on `Assent-Notice` for one that is none of ours
 */
export async function namedNotices(ctx: Ctx, incoming: Incoming): Promise<Map<string, NoticeRef> | undefined> {
  const header = incoming.headers['assent-notice'];
  if (header === undefined) return undefined;
  const named = new Map<string, NoticeRef>();
  for (const text of header.split(',', 10).map((part) => part.trim())) {
    const notice = /^[1-9]\d{0,14}$/.test(text) ? await readNotice(ctx, Number(text)) : undefined;
    if (notice === undefined || notice.purpose !== 'marketing') refuse({ path: ['Assent-Notice'], key: 'notice.none' });
    for (const channel of notice.channels) named.set(channel, { id: notice.id, sha256: notice.text_sha256 });
  }
  return named;
}

/**
 * Reads a profile body as a change, and names unknown keys in `Assent-Ignored`.
 * @param extra rules of the route besides the profile's own, returned as `rest`
 * @returns `namesPhone` tells a body with the present number, which is no change, from one without any
 * @throws invalid with all complaints at once
 */
export async function readChange(
  ctx: Ctx,
  request: Request<Customer>,
  extra: readonly FieldRule[] = [],
): Promise<{ change: ProfileChange; rest: Record<string, unknown>; namesPhone: boolean }> {
  const { account } = request.actor;
  const found: { phone?: PhoneNumber | null | undefined } = {};
  const rules = [...profileRules(ctx.settings), ...extra];
  const values = readFields(request.body, rules, request.method === 'PATCH', (read) => {
    const complaints: Complaint[] = [];
    const { phone, avatar } = read;
    try {
      // The text that is stored already is no change, whatever the rules for new numbers say by now.
      if (phone !== account.phone) found.phone = phoneAmong(ctx, read);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      complaints.push(...error.complaints);
    }
    // A client that sends back what it read leaves the picture in place.
    if (typeof avatar === 'string' && avatar.replace(/^https?:\/\/[^/]+/, '') !== avatarUrl('', account.avatar)) {
      complaints.push({ path: ['avatar'], key: 'field.file' });
    }
    return complaints;
  });
  nameIgnored(request, request.body, extra);
  const { phone } = found;
  const sent = values['avatar'];
  const avatar = sent instanceof UploadedFile ? await storePicture(ctx, sent) : sent === null ? null : undefined;

  const columns: Record<string, unknown> = {};
  for (const name of profileColumns) if (values[name] !== undefined) columns[name] = values[name];
  if (columns['attributes'] !== undefined)
    columns['attributes'] = keepReadOnly(ctx, columns['attributes'] as object, account.attributes);
  const tags = ifMatch(request);
  const notices = await namedNotices(ctx, request);
  return {
    rest: Object.fromEntries(extra.map(({ name }) => [name, values[name]])),
    namesPhone: values['phone'] !== undefined,
    change: {
      account: account.id,
      columns,
      flags: flagsAmong(values),
      ...(phone === undefined ? {} : { phone }),
      ...(avatar === undefined ? {} : { avatar }),
      ...(tags === undefined ? {} : { ifMatch: tags }),
      reader: { session: request.actor.family, since: request.actor.since, version: request.cookies[READ_COOKIE] },
      ...(notices === undefined ? {} : { notices }),
      source: 'account',
      evidence: evidenceOf(request, { session: request.actor.family }),
    },
  };
}

function nameIgnored(request: Incoming, body: Body, extra: readonly FieldRule[]): void {
  if (typeof body.value !== 'object' || body.value === null) return;
  const ignored = Object.keys(body.value).filter(
    (name) => !profileNames.has(name) && !extra.some((rule) => rule.name === name),
  );
  if (ignored.length === 0) return;
  // A header carries no more than names: what is no token is left out.
  const names = ignored.filter((name) => /^[\w.-]{1,60}$/.test(name)).slice(0, 20);
  request.setHeader('assent-ignored', names.length > 0 ? names.join(', ') : '?');
}

/**
 * The new attributes, with the stored values of those keys that only the shop may write. `loyalty` is shown by us while
 * there is a provider: a client that sends back what it read stores nothing by that.
 */
function keepReadOnly(ctx: Ctx, given: object, stored: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const closed: readonly string[] = ctx.settings.get('ATTRIBUTES_READ_ONLY_KEYS');
  const locked = hasProvider(ctx) ? [...closed, LOYALTY_KEY] : closed;
  return Object.fromEntries([
    ...Object.entries(given).filter(([key]) => !locked.includes(key)),
    ...Object.entries(stored).filter(([key]) => locked.includes(key)),
  ]);
}
