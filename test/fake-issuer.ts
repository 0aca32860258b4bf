/** Issuers on real sockets: an honest one (`oidc-provider`, signed in to by its own pages) and one that lies as a test says. */
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import Provider from 'oidc-provider';

export const CLIENT = { client_id: 'assent', client_secret: 'the secret of the tests' };

async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const close = (server: Server): Promise<void> =>
  new Promise((done) => {
    server.close(() => done());
    server.closeAllConnections();
  });

const rsaKey = (kid: string): { kid: string; private: KeyObject; public: KeyObject } => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { kid, private: privateKey, public: publicKey };
};
export type Key = ReturnType<typeof rsaKey>;

// ---- The honest one ----

export interface Person {
  readonly email?: string;
  readonly email_verified?: unknown;
}

export interface RealIssuer {
  readonly issuer: string;
  /** Who can sign in, by the login they type. Their subject is the login. */
  readonly people: Map<string, Person>;
  /** Signs in at its pages as a browser does. @returns where it sends the browser in the end */
  signIn(location: string, login: string): Promise<URL>;
  /** Turns back at its first page. */
  turnBack(location: string): Promise<URL>;
  close(): Promise<void>;
}

export async function realIssuer(redirectUris: readonly string[]): Promise<RealIssuer> {
  const server = createServer();
  const issuer = await listen(server);
  const people = new Map<string, Person>();
  const key = rsaKey('honest');
  const provider = new Provider(issuer, {
    clients: [{ ...CLIENT, redirect_uris: [...redirectUris] }],
    jwks: { keys: [{ ...key.private.export({ format: 'jwk' }), kid: key.kid, use: 'sig' }] },
    cookies: { keys: ['a cookie key of the tests'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    findAccount: (_ctx, login) => ({ accountId: login, claims: () => ({ sub: login, ...people.get(login) }) as never }),
    pkce: { required: () => true },
  });
  const serve = provider.callback();
  server.on('request', (request, response) => void serve(request, response));

  /** A browser at the issuer: follows its redirects until they lead away from it. */
  const visit = async (
    location: string,
    answer: (path: string, page: string) => [string, RequestInit],
  ): Promise<URL> => {
    const cookies = new Map<string, string>();
    let [url, init]: [string, RequestInit] = [location, {}];
    for (;;) {
      const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
      const reply = await fetch(url, { ...init, redirect: 'manual', headers: { ...init.headers, cookie } });
      for (const line of reply.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
        cookies.set(name!, value!);
      }
      const next = reply.headers.get('location');
      const text = await reply.text();
      if (next === null && !reply.ok) throw new Error(`the issuer answers ${reply.status}: ${text.slice(0, 2000)}`);
      if (next !== null && !new URL(next, url).href.startsWith(issuer)) return new URL(next, url);
      [url, init] = next !== null ? [new URL(next, url).href, {}] : answer(url, text);
    }
  };
  return {
    issuer,
    people,
    signIn: (location, login) =>
      visit(location, (url, text) => {
        const prompt = /name="prompt" value="(\w+)"/.exec(text)![1]!;
        const body = new URLSearchParams({ prompt, ...(prompt === 'login' ? { login, password: 'any' } : {}) });
        return [url, { method: 'POST', body }];
      }),
    turnBack: (location) => visit(location, (url) => [`${url}/abort`, {}]),
    close: () => close(server),
  };
}

// ---- The one that lies ----

type Claims = Record<string, unknown>;

/** What it does otherwise than an honest issuer. Absent: as it should be. */
export interface Lie {
  /** Over what its discovery document says. */
  readonly discovery?: Claims;
  /** Claims of the ID token; undefined takes one away. */
  readonly claims?: Claims;
  readonly header?: Claims;
  /** Signs with another key than the one it publishes; a function makes the signature. */
  readonly by?: Key | ((input: string) => string);
  /** The answer of the token endpoint. */
  readonly tokens?: Claims;
  /** What /userinfo says. */
  readonly userinfo?: Claims;
  /** Keys it publishes. */
  readonly keys?: readonly Key[];
  /** Answers one path as it likes. */
  readonly instead?: Readonly<Record<string, (request: IncomingMessage, response: ServerResponse) => void>>;
}

export interface LyingIssuer {
  readonly issuer: string;
  readonly key: Key;
  readonly other: Key;
  lie: Lie;
  /** Paths that were asked for since `asked` was emptied. */
  readonly asked: string[];
  /** What the browser brought to its sign-in page. */
  begin(location: string): void;
  close(): Promise<void>;
}

const part = (value: object | string): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** @param now seconds since 1970, by the clock of the service */
export async function lyingIssuer(now: () => number): Promise<LyingIssuer> {
  const key = rsaKey('one');
  const other = rsaKey('two');
  const asked: string[] = [];
  let begun = new URLSearchParams();

  const idToken = ({ claims, header, by = key }: Lie): string => {
    const signer = typeof by === 'function' ? key : by;
    const body = {
      ...{ iss: issuer, aud: CLIENT.client_id, sub: 'hostile-subject', iat: now(), exp: now() + 300 },
      ...{ nonce: begun.get('nonce'), email: 'usta@shop.example', email_verified: true, ...claims },
    };
    const input = `${part({ alg: 'RS256', kid: signer.kid, typ: 'JWT', ...header })}.${part(body)}`;
    const signature =
      typeof by === 'function' ? by(input) : sign('sha256', Buffer.from(input), by.private).toString('base64url');
    return `${input}.${signature}`;
  };

  const answers: Record<string, (body: string, request: IncomingMessage) => [status: number, body: unknown]> = {
    '/.well-known/openid-configuration': () => [
      200,
      {
        issuer,
        authorization_endpoint: `${issuer}/authorize`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        userinfo_endpoint: `${issuer}/userinfo`,
        id_token_signing_alg_values_supported: ['RS256', 'HS256', 'none'],
        authorization_response_iss_parameter_supported: true,
        ...lying.lie.discovery,
      },
    ],
    '/jwks': () => [
      200,
      {
        keys: (lying.lie.keys ?? [key]).map((each) => ({ ...each.public.export({ format: 'jwk' }), kid: each.kid })),
      },
    ],
    '/token': (body, { headers }) => {
      const sent = new URLSearchParams(body);
      const secret = encodeURIComponent(CLIENT.client_secret).replaceAll('%20', '+');
      // In the one place that it offers, and nowhere else.
      const post = lying.lie.discovery?.['token_endpoint_auth_methods_supported'] !== undefined;
      const basic = `Basic ${Buffer.from(`${CLIENT.client_id}:${secret}`).toString('base64')}`;
      const verifier = createHash('sha256').update(sent.get('code_verifier') ?? '');
      const honest =
        verifier.digest('base64url') === begun.get('code_challenge') &&
        headers.authorization === (post ? undefined : basic) &&
        sent.get('client_secret') === (post ? CLIENT.client_secret : null);
      if (!honest) return [400, { error: 'invalid_grant' }];
      const tokens = { access_token: 'an access token', token_type: 'Bearer', id_token: idToken(lying.lie) };
      return [200, { ...tokens, ...lying.lie.tokens }];
    },
    '/userinfo': () => [
      200,
      { sub: 'hostile-subject', email: 'usta@shop.example', email_verified: true, ...lying.lie.userinfo },
    ],
  };
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (piece: string) => {
      body += piece;
    });
    request.on('end', () => {
      const path = request.url!.split('?', 1)[0]!;
      asked.push(`${request.method} ${path}`);
      const instead = lying.lie.instead?.[path];
      if (instead !== undefined) return instead(request, response);
      const [status, answer] = answers[path]?.(body, request) ?? [404, {}];
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
    });
  });
  const issuer = await listen(server);
  const lying: LyingIssuer = {
    issuer,
    key,
    other,
    lie: {},
    asked,
    begin: (location) => {
      begun = new URL(location).searchParams;
    },
    close: () => close(server),
  };
  return lying;
}
