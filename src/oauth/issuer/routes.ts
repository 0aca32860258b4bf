/** Signing in by an outside issuer: away to it, and back. */
import { anyone } from '../../accounts/callers.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { fail } from '../../platform/failure.ts';
import type { Actor, Answer, Incoming, Request, Route } from '../../platform/http.ts';
import { route } from '../../platform/http.ts';
import { sha256 } from '../../platform/keys.ts';
import { say } from '../../platform/language.ts';
import { html, page, pages } from '../../platform/pages.ts';
import { decrypt, encrypt } from '../../platform/secrets.ts';
import { completeSignIn, localPath } from '../pages/sign-in-pages.ts';
import {
  type Begun,
  beginAt,
  CALLBACK,
  endAt,
  type Issuer,
  IssuerRefusal,
  START,
  type Trouble,
  trustedIssuer,
} from './issuer.ts';
import { accountOf } from './outside-identity.ts';

/** Seconds in which somebody has to come back. */
const AWAY = 600;
const COOKIE = 'assent_issuer';
const PLACE = 'sign-in by an issuer';

/** Characters of a way on that still fit into a cookie, sealed: browsers drop those above 4 KiB. */
const NEXT = 2500;

/** What the cookie holds, sealed. */
interface Kept extends Begun {
  /** At whom: hash of issuer and client. */
  readonly at: string;
  readonly next: string;
  /** Milliseconds since 1970. */
  readonly until: number;
}

const nameOf = ({ issuer, client_id }: Issuer): string => sha256(`${issuer} ${client_id}`).toString('base64url');

/** Where somebody wanted to go. */
function wayOn({ query }: Incoming): string {
  const path = localPath(query['next']);
  return path.length > NEXT ? localPath(undefined) : path;
}

const cookieLine = (request: Incoming, value: string, seconds: number): string =>
  `${COOKIE}=${value}; Max-Age=${seconds}; Path=${START}; HttpOnly; SameSite=Lax${request.secure ? '; Secure' : ''}`;

const keep = (ctx: Ctx, request: Incoming, kept: Kept): string => {
  const sealed = encrypt(ctx.keys.encryption('outside_sign_in'), JSON.stringify(kept), PLACE);
  return cookieLine(request, sealed.toString('base64url'), AWAY);
};

/** What this browser was sent away with. @throws IssuerRefusal: nothing, too long ago, or to another issuer */
function recall(ctx: Ctx, request: Incoming, issuer: Issuer): Kept {
  const sealed = request.cookies[COOKIE];
  if (sealed === undefined || sealed === '') throw new IssuerRefusal('stale', 'no sign-in was begun here');
  let kept: Kept;
  try {
    const key = ctx.keys.encryption('outside_sign_in');
    kept = JSON.parse(decrypt(key, Buffer.from(sealed, 'base64url'), PLACE)) as Kept;
  } catch {
    throw new IssuerRefusal('stale', 'a cookie that is none of ours');
  }
  if (kept.until <= ctx.clock.now().getTime()) throw new IssuerRefusal('stale', 'begun too long ago');
  if (kept.at !== nameOf(issuer)) throw new IssuerRefusal('stale', 'begun with another issuer');
  if (request.query['state'] !== kept.state) throw new IssuerRefusal('stale', 'another state');
  return kept;
}

const texts: Readonly<Record<Trouble, readonly [status: number, key: string]>> = {
  stale: [400, 'page.issuer.stale'],
  denied: [403, 'page.issuer.denied'],
  away: [503, 'page.issuer.away'],
  untrusted: [403, 'page.issuer.untrusted'],
  address: [403, 'page.issuer.address'],
  nobody: [403, 'page.issuer.nobody'],
};

/** What the visitor is told, and the log. @param next where they wanted to go */
function explain(ctx: Ctx, { id, language }: Incoming, error: unknown, name: string, next?: string): Answer {
  if (!(error instanceof IssuerRefusal)) throw error;
  ctx.log.warn({ request: id, reason: error.message }, 'sign-in by the issuer failed');
  const [status, key] = texts[error.trouble];
  const back = next === undefined || next === localPath(undefined) ? '' : `?${new URLSearchParams({ next })}`;
  return page(
    language,
    say(language, { key: 'page.issuer.title' }),
    html`<p class="problem" role="alert">${say(language, { key, values: { name } })}</p>
<p><a href="/account/sign-in${back}">${say(language, { key: 'page.issuer.back' })}</a></p>`,
    status,
  );
}

/** The address the issuer sent the browser back to, with all it added. */
function returnedTo({ origin, query }: Incoming): URL {
  const url = new URL(CALLBACK, origin);
  for (const [name, values] of Object.entries(query))
    for (const value of [values ?? []].flat()) url.searchParams.append(name, value);
  return url;
}

async function start(ctx: Ctx, request: Request<Actor>): Promise<Answer> {
  const issuer = trustedIssuer(ctx) ?? fail('not_found');
  const next = wayOn(request);
  try {
    const { location, begun } = await beginAt(ctx, issuer, new URL(CALLBACK, request.origin).href);
    const until = ctx.clock.now().getTime() + AWAY * 1000;
    const cookie = keep(ctx, request, { ...begun, at: nameOf(issuer), next, until });
    return { status: 302, headers: { location, 'set-cookie': cookie } };
  } catch (error) {
    return explain(ctx, request, error, issuer.name, next);
  }
}

async function finish(ctx: Ctx, request: Request<Actor>): Promise<Answer> {
  const issuer = trustedIssuer(ctx) ?? fail('not_found');
  // Once, however it ends.
  const spent = cookieLine(request, '""', 0);
  request.setHeader('set-cookie', spent);
  let kept: Kept | undefined;
  try {
    kept = recall(ctx, request, issuer);
    const outsider = await endAt(ctx, issuer, returnedTo(request), kept);
    const { id, linked } = await accountOf(ctx, issuer, outsider);
    if (linked) ctx.log.info({ request: request.id, account: id }, 'an identity of the issuer was linked');
    const answer = await completeSignIn(ctx, request, { account: id, next: kept.next, outsider });
    const cookies = [answer.headers?.['set-cookie'] ?? []].flat();
    return { ...answer, headers: { ...answer.headers, 'set-cookie': [spent, ...cookies] } };
  } catch (error) {
    return explain(ctx, request, error, issuer.name, kept?.next);
  }
}

const common = {
  method: 'GET',
  dialect: pages,
  who: anyone,
  throttle: 'login',
  tag: 'Pages',
  hidden: true,
  answers: {},
} as const;

export const issuerRoutes: readonly Route[] = [
  route({ ...common, path: START, operationId: 'signInByIssuer', summary: 'To the outside issuer', run: start }),
  route({
    ...common,
    path: CALLBACK,
    operationId: 'signedInByIssuer',
    summary: 'Back from the outside issuer',
    run: finish,
  }),
];
