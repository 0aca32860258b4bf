/** Who may call: every kind of caller the routes name, and how each proves who they are. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { Failure, fail } from '../platform/failure.ts';
import type { Actor, Incoming, Who } from '../platform/http.ts';
import { sha256 } from '../platform/keys.ts';
import type { Account } from './accounts.ts';
import { guardCsrf } from './csrf.ts';
import { needsSecondFactor } from './second-factor.ts';
import { type SignedIn, signedIn } from './sessions.ts';

export interface Anyone extends Actor {
  readonly signedIn?: SignedIn;
}

export interface Customer extends Actor, SignedIn {
  readonly caller: string;
  /** As histories show it: `account:7`. */
  readonly name: string;
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
  'manage_accounts',
  'operator_events',
  'companies',
  'webhooks',
  'clients',
  'keys',
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

/** The account of the session cookie; undefined when there is none. */
async function byCookie(ctx: Ctx, incoming: Incoming): Promise<SignedIn | undefined> {
  const { cookies } = incoming;
  let sent = false;
  for (const name of cookieNames) {
    const key = cookies[name];
    if (key === undefined || (sent && key === cookies[cookieNames[0]])) continue;
    sent = true;
    const found = looksLikeKey(key) ? await signedIn(ctx, { key, kinds: ['cookie'] }) : undefined;
    if (found !== undefined) return found;
  }
  if (sent) forgetCookies(incoming);
  return undefined;
}

/** The account of the session cookie, CSRF guarded; undefined when there is none. */
async function bySession(ctx: Ctx, incoming: Incoming): Promise<SignedIn | undefined> {
  const found = await byCookie(ctx, incoming);
  if (found !== undefined) guardCsrf(incoming, ctx.settings.get('CSRF_TRUSTED_ORIGINS'));
  return found;
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
const asCustomer = (found: SignedIn): Customer => ({ ...found, caller: name(found), name: name(found) });

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

/** Whoever looks at our pages. A form of theirs brings its token along: what it does calls `guardForm` first. */
export const visitor: Who<Anyone> = {
  name: 'anyone with a browser, signed in or not',
  security: [{}, { SessionCookie: [] }],
  async admit(ctx, incoming) {
    const found = await byCookie(ctx, incoming);
    return found === undefined ? {} : { caller: name(found), signedIn: found };
  },
};

/** A signed-in account, by session cookie or Token. */
export const customer: Who<Customer> = {
  name: 'a signed-in customer',
  security: [{ SessionCookie: [] }, { Token: [] }],
  async admit(ctx, incoming) {
    const found = (await akinonCaller(ctx, incoming)) ?? fail('not_authenticated');
    return asCustomer(found);
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
    return asCustomer(found);
  },
};

/** An account by what a request to a back office carries: an access token, or the session cookie. */
export const colleague: Who<Customer> = {
  name: 'an account with an access token, or signed in',
  security: [{ Bearer: [] }, { SessionCookie: [] }],
  async admit(ctx, incoming) {
    if (credentials(incoming, 'bearer') !== undefined) return bearer.admit(ctx, incoming);
    const found = (await bySession(ctx, incoming)) ?? fail('not_authenticated');
    return asCustomer(found);
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
    return inPerson(ctx, incoming, () => fail('forbidden', { values: { need: scope } }));
  },
});

/** An operator by their browser. */
async function inPerson(ctx: Ctx, incoming: Incoming, refuse: () => never): Promise<Operator> {
  const found = (await bySession(ctx, incoming)) ?? fail('not_authenticated');
  if (!found.account.is_operator) refuse();
  if (needsSecondFactor(ctx, 'operators', found.account)) fail('second_factor_required');
  return { caller: name(found), name: `operator:${found.account.id}` };
}

/** A signed-in operator and no program of theirs, whatever its scopes: for what a key must not do for itself. */
export const signedInOperator: Who<Operator> = {
  name: 'a signed-in operator, and no API key',
  security: [{ SessionCookie: [] }],
  async admit(ctx, incoming) {
    if (credentials(incoming, 'bearer') !== undefined) fail('in_person');
    return inPerson(ctx, incoming, () => fail('in_person'));
  },
};

/** Whoever looks after companies: an operator or a program of theirs, or an account within the rights it has there. */
export interface Keeper extends Actor {
  readonly caller: string;
  /** Who it was, as histories show it: `operator:7`, `key:3` or `account:7`. */
  readonly name: string;
  /** Null: an operator or a program, who need no rights of their own. */
  readonly account: Account | null;
}

const companyOperator = operator('companies');

/** An account with an access token, else an operator or an API key of the scope `companies`. */
export const companyKeeper: Who<Keeper> = {
  name: 'an account with an access token, an operator, or an API key with the scope companies',
  security: [{ Bearer: [] }, ...companyOperator.security],
  async admit(ctx, incoming) {
    const key = credentials(incoming, 'bearer');
    const found = key === undefined || key === '' ? undefined : await signedIn(ctx, { key, kinds: ['access'] });
    if (found === undefined) return { ...(await companyOperator.admit(ctx, incoming)), account: null };
    return { caller: name(found), name: name(found), account: found.account };
  },
};
