/** Who may call: every kind of caller the routes name, and how each proves who they are. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure, fail } from '../platform/failure.ts';
import type { Actor, Incoming, Who } from '../platform/http.ts';
import { sha256 } from '../platform/keys.ts';
import { guardCsrf } from './csrf.ts';
import { type SignedIn, signedIn } from './sessions.ts';

export interface Anyone extends Actor {
  readonly signedIn?: SignedIn;
}

export interface Customer extends Actor, SignedIn {
  readonly caller: string;
}

/** Scopes an API key can hold; `*` holds all. */
export const apiScopes = [
  'settings',
  'outbox',
  'consents',
  'decisions',
  'baskets',
  'privacy',
  'accounts',
  'companies',
  'webhooks',
] as const;
export type ApiScope = (typeof apiScopes)[number];

export interface Operator extends Actor {
  readonly caller: string;
  /** Who it was, as histories show it: `operator:7` or `key:3`. */
  readonly name: string;
}

/** Both names are accepted, whichever is issued: a known client sends both with one value. */
const cookieNames = ['sessionid', 'osessionid'] as const;

/** A cookie that stands for nobody any more is taken back, as Django does. */
function forgetCookies(incoming: Incoming): void {
  const name = cookieNames.find((candidate) => incoming.cookies[candidate] !== undefined);
  if (name !== undefined) {
    incoming.setHeader(
      'set-cookie',
      `${name}=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`,
    );
  }
}

const looksLikeKey = (key: string): boolean => /^\w{16,128}$/.test(key);

/** The account of the session cookie, CSRF guarded; undefined when there is none. */
async function bySession(ctx: Ctx, incoming: Incoming): Promise<SignedIn | undefined> {
  const { cookies } = incoming;
  let sent = false;
  for (const name of cookieNames) {
    const key = cookies[name];
    if (key === undefined || (sent && key === cookies[cookieNames[0]])) continue;
    sent = true;
    const found = looksLikeKey(key) ? await signedIn(ctx, { key, kinds: ['cookie'] }) : undefined;
    if (found !== undefined) {
      guardCsrf(incoming, ctx.settings.get('CSRF_TRUSTED_ORIGINS'));
      return found;
    }
  }
  if (sent) forgetCookies(incoming);
  return undefined;
}

/** The credentials of an Authorization header of this scheme; undefined when it is another or there is none. */
function credentials(incoming: Incoming, scheme: string): string | undefined {
  const header = incoming.headers['authorization'];
  if (header === undefined) return undefined;
  const [given, ...rest] = header.trim().split(/ +/);
  if (given?.toLowerCase() !== scheme) return undefined;
  return rest.length === 1 && looksLikeKey(rest[0]!) ? rest[0]! : '';
}

/** Token first, then session: a request with a Token is not held to CSRF (DRF). */
async function akinonCaller(ctx: Ctx, incoming: Incoming): Promise<SignedIn | undefined> {
  const token = credentials(incoming, 'token');
  if (token === undefined) return bySession(ctx, incoming);
  return (token === '' ? undefined : await signedIn(ctx, { key: token, kinds: ['token'] })) ?? fail('invalid_token');
}

const name = (found: SignedIn): string => `account:${found.account.id}`;

/** Anybody at all; no key is looked at. */
export const anyone: Who<Actor> = { name: 'anyone', security: [{}], admit: async () => ({}) };

/** Guests too; who is signed in is known, and held to CSRF. */
export const guest: Who<Anyone> = {
  name: 'anyone, signed in or not',
  security: [{}, { SessionCookie: [] }, { Token: [] }],
  async admit(ctx, incoming) {
    const found = await akinonCaller(ctx, incoming);
    return found === undefined ? {} : { caller: name(found), signedIn: found };
  },
};

/** A signed-in account, by session cookie or Token. */
export const customer: Who<Customer> = {
  name: 'a signed-in customer',
  security: [{ SessionCookie: [] }, { Token: [] }],
  async admit(ctx, incoming) {
    const found = (await akinonCaller(ctx, incoming)) ?? fail('not_authenticated');
    return { ...found, caller: name(found) };
  },
};

/** An account with an access token of `POST /api/token`. */
export const bearer: Who<Customer> = {
  name: 'an account with an access token',
  security: [{ Bearer: [] }],
  async admit(ctx, incoming) {
    const key = credentials(incoming, 'bearer') ?? fail('not_authenticated');
    const found = key === '' ? undefined : await signedIn(ctx, { key, kinds: ['access'] });
    if (found === undefined) throw new Failure('invalid_token');
    return { ...found, caller: name(found) };
  },
};

/** A program with an API key of this scope, or a signed-in operator. */
export const operator = (scope: ApiScope): Who<Operator> => ({
  name: `an operator, or an API key with the scope ${scope}`,
  security: [{ ApiKey: [scope] }, { SessionCookie: [] }],
  async admit(ctx, incoming) {
    const key = credentials(incoming, 'bearer');
    if (key !== undefined) {
      const found = await ctx.db.one<{ id: number; scopes: string[] }>(sql`
        select id, scopes from api_key where key_hash = ${sha256(key)} and revoked_at is null`);
      if (found === undefined) throw new Failure('invalid_token');
      if (!found.scopes.includes('*') && !found.scopes.includes(scope)) fail('forbidden', { values: { need: scope } });
      return { caller: `key:${found.id}`, name: `key:${found.id}` };
    }
    const found = (await bySession(ctx, incoming)) ?? fail('not_authenticated');
    if (!found.account.is_operator) fail('forbidden', { values: { need: scope } });
    return { caller: name(found), name: `operator:${found.account.id}` };
  },
});
