/**
 * Our own page to sign in, for people whom `/oauth/authorize` or `/account` asks who they are. Two steps where the account
 * has a second factor: what is between them is with the browser, sealed, and nothing of it is stored.
 */
import { visitor } from '../../accounts/callers.ts';
import { knownDevice } from '../../accounts/known-devices.ts';
import { gone, sessionCookies, throttleSignIn } from '../../accounts/routes.ts';
import { isCodeFailure, takeCode } from '../../accounts/second-factor.ts';
import { closeFamily } from '../../accounts/sessions.ts';
import { checkPassword, type Proof, signInBy, startSession } from '../../accounts/sign-in.ts';
import type { Ctx } from '../../platform/ctx.ts';
import { sql } from '../../platform/db.ts';
import { email as emailKind } from '../../platform/drf.ts';
import { Failure, fail } from '../../platform/failure.ts';
import { type Answer, type Incoming, type Request, type Route, route } from '../../platform/http.ts';
import { sha256 } from '../../platform/keys.ts';
import { chosen, html } from '../../platform/pages.ts';
import { decrypt, encrypt } from '../../platform/secrets.ts';
import { issuerButton, type Outsider } from '../issuer/issuer.ts';
import { isLinked } from '../issuer/outside-identity.ts';
import {
  addressIn,
  codeField,
  common,
  passwordField,
  problemBox,
  readForm,
  seeOther,
  textOf,
  type View,
  viewOf,
} from './page-parts.ts';

/** Between the password and the code. */
const STEP_MILLISECONDS = 5 * 60_000;
const STEP = 'sign-in, before the code';
/** Where people are sent who wanted to go nowhere else. */
export const HOME = '/account';

/**
 * Where to go after signing in: a path of ours and nothing else, whatever the link said (open redirects).
 * @returns the path with its query; `/account` for anything that some browser could read as another host
 */
export function localPath(next: unknown): string {
  if (typeof next !== 'string' || next.length > 4000) return HOME;
  // Visible ASCII alone: browsers drop tabs and line ends, and take a backslash for a slash.
  if (!/^\/[\x21-\x7e]*$/.test(next) || next.includes('\\')) return HOME;
  const path = next.split(/[?#]/, 1)[0]!;
  return path.includes('//') ? HOME : next;
}

/** What the browser keeps between the two steps. */
interface Step {
  readonly account: number;
  /** SHA-256 of the password's hash, so that a new password ends it; null where an issuer said who it is. */
  readonly proof: string | null;
  /** Whom an issuer said it is: they sign in as long as that is linked to the account. */
  readonly outsider?: Outsider | undefined;
  readonly next: string;
  /** Milliseconds since 1970. */
  readonly until: number;
}

const fingerprint = (hash: string): string => sha256(hash).toString('base64url');

const seal = (ctx: Ctx, step: Step): string =>
  encrypt(ctx.keys.encryption('sign_in_step'), JSON.stringify(step), STEP).toString('base64url');

/** What we sealed; undefined when it is not ours. Whether it is over is the caller's to look at. */
function unseal(ctx: Ctx, sealed: string): Step | undefined {
  try {
    const text = decrypt(ctx.keys.encryption('sign_in_step'), Buffer.from(sealed, 'base64url'), STEP);
    return JSON.parse(text) as Step;
  } catch {
    return undefined;
  }
}

interface Asked {
  readonly next: string;
  readonly email?: string;
  readonly problem?: string;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cookies?: readonly string[];
}

function signInPage(view: View, { next, email = '', problem, cookies, ...more }: Asked, signedInAs?: string): Answer {
  const { words, csrf } = view;
  const query: Record<string, string> = next === HOME ? {} : { next };
  const button = issuerButton(view.ctx);
  const already =
    signedInAs === undefined
      ? ''
      : html`<p>${words('page.sign_in.already', { email: signedInAs })} <a href="${next}">${words('page.sign_in.go_on')}</a></p>`;
  const issuer =
    button === undefined
      ? ''
      : html`<p class="or"><a class="button quiet" href="${button.href}?${new URLSearchParams({ next }).toString()}">${words('page.sign_in.issuer', { name: button.name })}</a></p>`;
  const content = html`${problemBox(problem)}${already}
<form method="post" action="${view.to('/account/sign-in')}">${csrf}<input type="hidden" name="next" value="${next}">
<label for="email">${words('page.sign_in.email')}</label>
<input id="email" name="email" type="email" autocomplete="username" required maxlength="320" value="${email}">
${passwordField(words)}
<button>${words('page.sign_in.button')}</button></form>
<p><a href="${view.to('/account/forgotten', query)}">${words('page.sign_in.forgotten')}</a></p>${issuer}`;
  return view.show(words('page.sign_in.title'), content, {
    next,
    query,
    cookies: cookies ?? [],
    ...more,
  });
}

function codePage(view: View, sealed: string, { next, problem, status, headers }: Omit<Asked, 'email'>): Answer {
  const { words, csrf } = view;
  const content = html`${problemBox(problem)}<p>${words('page.code.text')}</p>
<form method="post" action="${view.to('/account/sign-in/code')}">${csrf}<input type="hidden" name="step" value="${sealed}">
${codeField(words, words('page.code.label'), true)}
<button>${words('page.sign_in.button')}</button></form>
<p><a href="${view.to('/account/sign-in', { next })}">${words('page.code.back')}</a></p>`;
  return view.show(words('page.code.title'), content, {
    next,
    ...(status === undefined ? {} : { status }),
    ...(headers === undefined ? {} : { headers }),
  });
}

/** Pages of the account go on in the language somebody chose; what others do with `lang` is theirs. */
function inTheirLanguage(incoming: Incoming, next: string): string {
  const { pathname, searchParams } = new URL(next, 'http://localhost');
  if (chosen(incoming) === '' || (pathname !== HOME && !pathname.startsWith(`${HOME}/`))) return next;
  searchParams.delete('lang');
  return addressIn(incoming, pathname, Object.fromEntries(searchParams));
}

/** Opens the session and sends them on. A new sign-in never continues an old one: its key is new, the old session ends. */
async function open(
  ctx: Ctx,
  incoming: Incoming,
  proof: Proof,
  { next, outsider }: Pick<Step, 'next' | 'outsider'>,
): Promise<Answer> {
  const { signedIn: before } = await visitor.admit(ctx, incoming);
  const opened = await signInBy(ctx, proof, async (tx) => {
    // Under the account's lock: whoever unlinks an identity ends this sign-in too, or comes first and is seen here.
    if (outsider !== undefined && !(await isLinked(tx, outsider, proof.id))) fail('invalid_credentials');
    return startSession(tx, proof.id, incoming.headers['user-agent']);
  });
  if (before !== undefined) await closeFamily(ctx, before.family);
  return seeOther(inTheirLanguage(incoming, next), sessionCookies(ctx, incoming, opened));
}

/**
 * Signs in whoever has proven who they are, in a browser: sends them to `next` with a new session, or shows the page that
 * asks for the code where the account has a second factor.
 * @param next a path of ours, by `localPath`
 * @param proof of the password; absent where an outside issuer said who it is
 * @param outsider whom that issuer said it is
 * @throws invalid_credentials when the account is switched off, the password was changed or the identity unlinked meanwhile
 */
export async function completeSignIn(
  ctx: Ctx,
  incoming: Incoming,
  { account, next, proof, outsider }: { account: number; next: string; proof?: Proof; outsider?: Outsider },
): Promise<Answer> {
  const row = await ctx.db.one<{ second_factor: boolean; language_code: string }>(sql`
    select second_factor, language_code from account where id = ${account} and is_active`);
  if (row === undefined) fail('invalid_credentials');
  const given = proof ?? { id: account, hash: null, secondFactor: false };
  if (!row.second_factor || given.secondFactor) return open(ctx, incoming, given, { next, outsider });
  const until = ctx.clock.now().getTime() + STEP_MILLISECONDS;
  const step = { account, proof: given.hash === null ? null : fingerprint(given.hash), outsider, next, until };
  return codePage(viewOf(ctx, incoming, row.language_code), seal(ctx, step), { next });
}

async function signIn(ctx: Ctx, request: Request<object>): Promise<Answer> {
  const field = readForm(ctx, request);
  const next = localPath(field('next'));
  const email = field('email').trim();
  try {
    // What is no address is nobody's: it costs no comparison, and tells nothing.
    if ('problem' in emailKind.read(email, true) || field('password').length > 128) fail('invalid_credentials');
    const device = await knownDevice(ctx, request, email);
    await throttleSignIn(ctx, email, device);
    const proof = await checkPassword(ctx, email, field('password'), device);
    return await completeSignIn(ctx, request, { account: proof.id, next, proof });
  } catch (error) {
    if (!(error instanceof Failure) || !['invalid_credentials', 'throttled'].includes(error.code)) throw error;
    const view = viewOf(ctx, request);
    const wrong = error.code === 'invalid_credentials';
    const problem = wrong ? view.words('page.sign_in.wrong') : textOf(view.language, error);
    return signInPage(view, { next, email, problem, status: error.status, headers: error.headers });
  }
}

async function enterCode(ctx: Ctx, request: Request<object>): Promise<Answer> {
  const field = readForm(ctx, request);
  const view = viewOf(ctx, request);
  const step = unseal(ctx, field('step'));
  const again = (): Answer =>
    signInPage(view, { next: localPath(step?.next), problem: view.words('page.code.over'), status: 400 });
  if (step === undefined || step.until <= ctx.clock.now().getTime()) return again();
  const row = await ctx.db.one<{ password: string | null }>(sql`
    select password from account where id = ${step.account} and is_active`);
  if (row === undefined) return again();
  if (step.proof !== null && (row.password === null || fingerprint(row.password) !== step.proof)) return again();
  try {
    await takeCode(ctx, step.account, field('otp'));
    const hash = step.proof === null ? null : row.password;
    return await open(ctx, request, { id: step.account, hash, secondFactor: true }, step);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.code === 'invalid_credentials') return again();
    if (!isCodeFailure(error) && error.code !== 'throttled') throw error;
    const problem = textOf(view.language, error);
    return codePage(view, field('step'), { next: step.next, problem, status: error.status, headers: error.headers });
  }
}

const atSignIn = { ...common, path: '/account/sign-in' } as const;
const atCode = { ...common, path: '/account/sign-in/code' } as const;

export const signInPages: readonly Route[] = [
  route({
    ...atSignIn,
    method: 'GET',
    operationId: 'showSignIn',
    summary: 'The page to sign in',
    async run(ctx, request) {
      const view = viewOf(ctx, request, request.actor.signedIn?.account.language_code);
      const { signedIn } = request.actor;
      // One that stands for nobody is taken back; who admits the visitor cannot, as this page sets a cookie of its own.
      const held = (request.cookies['sessionid'] ?? request.cookies['osessionid']) !== undefined;
      const cookies = signedIn === undefined && held ? gone : [];
      return signInPage(view, { next: localPath(request.query['next']), cookies }, signedIn?.account.email);
    },
  }),
  route({
    ...atSignIn,
    method: 'POST',
    throttle: 'login',
    operationId: 'signIn',
    summary: 'Signs in, or asks for the code of the second factor',
    run: signIn,
  }),
  route({
    ...atCode,
    method: 'GET',
    operationId: 'showSignInCode',
    summary: 'A code page that was loaded again: what it had is gone',
    run: async (ctx, request) => seeOther(viewOf(ctx, request).to('/account/sign-in')),
  }),
  route({
    ...atCode,
    method: 'POST',
    throttle: 'login',
    operationId: 'enterSignInCode',
    summary: 'Signs in with the code of the second factor',
    run: enterCode,
  }),
];
