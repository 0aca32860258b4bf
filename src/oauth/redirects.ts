/** Redirect addresses of clients: which may be registered, and when one that is asked for is one of them. */

/** Characters of one address. */
export const REDIRECT_LENGTH = 500;
/** Addresses of one client. */
export const REDIRECTS = 20;

/** This computer, where http does: what is sent there does not travel (RFC 8252, 7.3 and 8.3). */
const loopback: ReadonlySet<string> = new Set(['127.0.0.1', '[::1]', 'localhost']);

/** What we add to an address: two of one name, and nobody knows which a client reads. */
const ours: ReadonlySet<string> = new Set(['code', 'state', 'error', 'error_description', 'error_uri', 'iss']);

/**
 * Whether an address may be registered: https anywhere, http on this computer, or a scheme of a program's own with a
 * dot in it (RFC 8252, 7.1). No fragment (RFC 6749, 3.1.2), no user name, no host that a browser would read as another.
 */
export function mayRedirectTo(uri: string): boolean {
  // Neither `#` nor anything that a header, a policy or a browser reads in its own way.
  if (uri.length > REDIRECT_LENGTH || !/^[\w\-.~:/?[\]@!$&'()*+,;=%]+$/.test(uri) || !URL.canParse(uri)) return false;
  const { protocol, host, hostname, searchParams } = new URL(uri);
  if ([...searchParams.keys()].some((name) => ours.has(name))) return false;
  const [, scheme = '', authority] = /^([a-z][a-z0-9+.-]*:)(?:\/\/([^/?]*))?/.exec(uri) ?? [];
  if (scheme !== protocol || authority?.includes('@') === true) return false;
  // The names of domains, so that no scheme of the browser itself is one: javascript, data, file.
  if (/^[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+:$/.test(scheme)) return uri.length > scheme.length;
  if (authority === undefined || authority !== host || !/^([a-z0-9.-]+|\[[0-9a-f:]+\])$/.test(hostname)) return false;
  return scheme === 'https:' || (scheme === 'http:' && loopback.has(hostname));
}

/** An address without its port, where the port is the computer's choice: of http to a loopback IP (RFC 8252, 7.3). */
const withoutPort = (uri: string): string =>
  uri.replace(/^(http:\/\/(?:127\.0\.0\.1|\[::1\])):\d{1,5}(?=[/?]|$)/, '$1');

/** Whether an address that is asked for is a registered one: letter by letter (RFC 9700, 2.1). */
export const isRegistered = (registered: readonly string[], uri: string): boolean =>
  registered.includes(uri) || (mayRedirectTo(uri) && registered.map(withoutPort).includes(withoutPort(uri)));

/** A registered address with what its client is told. */
export const withAnswer = (uri: string, answer: Readonly<Record<string, string>>): string =>
  `${uri}${uri.includes('?') ? '&' : '?'}${new URLSearchParams(answer)}`;

/** Where an address leads, for people: its host; `null` for a program on their own device. */
export function leadsTo(uri: string): string | null {
  const { protocol, host, hostname } = new URL(uri);
  return !/^https?:$/.test(protocol) || loopback.has(hostname) ? null : host;
}

/** Whether it leads to a scheme of a program's own: any other program on the device can have taken it too (RFC 8252, 8.6). */
export const isPrivateScheme = (uri: string): boolean => !/^https?:$/.test(new URL(uri).protocol);

/** The address as a source of `form-action`: browsers hold redirects after a form to it too. */
export function sourceOf(uri: string): string {
  const { protocol, origin, hostname } = new URL(uri);
  // A policy can name no IPv6 host.
  return /^https?:$/.test(protocol) && !hostname.startsWith('[') ? origin : protocol;
}
