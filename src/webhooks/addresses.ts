/**
 * Where webhooks may go. Whoever can set an address could otherwise have the service call its own neighbours for them
 * (SSRF), so the address is looked at when the connection is made: a name may lead elsewhere by then (DNS rebinding).
 */
import { lookup as resolve } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { Agent, buildConnector, type Dispatcher } from 'undici';

// IANA's special-purpose registries (RFC 6890): everything that is not globally reachable, and multicast.
const closed = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const)
  closed.addSubnet(network, prefix, 'ipv4');
// Of the global unicast space: protocol assignments with Teredo, documentation, 6to4.
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  closed.addSubnet(network, prefix, 'ipv6');
// All of IPv6 that is handed out for the open internet. Loopback, local and link-local addresses, multicast, and every
// form that carries an IPv4 address (mapped, compatible, NAT64) lie outside.
const unicast = new BlockList();
unicast.addSubnet('2000::', 3, 'ipv6');

/** Whether an IP address is not one of the open internet. Brackets and zones may be there; what is no address is private. */
export function isPrivate(address: string): boolean {
  const bare = address.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
  const version = isIP(bare);
  if (version === 4) return closed.check(bare, 'ipv4');
  return version !== 6 || !unicast.check(bare, 'ipv6') || closed.check(bare, 'ipv6');
}

/** Thrown instead of connecting. */
class PrivateAddressError extends Error {
  readonly code = 'PRIVATE_ADDRESS';
}

/** `dns.lookup` that knows no private addresses: what it answers is what is connected to. */
const publicLookup: LookupFunction = (hostname, options, callback) => {
  resolve(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, '', 0);
    const open = addresses.filter(({ address }) => !isPrivate(address));
    if (open.length === 0) return callback(new PrivateAddressError('the name leads to a private address'), '', 0);
    if (options.all === true) return callback(null, open);
    callback(null, open[0]!.address, open[0]!.family);
  });
};

const connecting = { timeout: 10_000, allowH2: false };
const connect = buildConnector({ ...connecting, lookup: publicLookup } as buildConnector.BuildOptions);

/** Connects to the open internet only. */
const guarded = new Agent({
  connect: (options, callback) => {
    // An address that is written out is never looked up.
    const literal = isIP(options.hostname.replace(/^\[|\]$/g, '')) !== 0;
    if (literal && isPrivate(options.hostname)) callback(new PrivateAddressError('this is a private address'), null);
    else connect(options, callback);
  },
});
const unguarded = new Agent({ connect: connecting });

/**
 * What to send by.
 * @param privateAddresses WEBHOOK_PRIVATE_ADDRESSES; connections of one are never used for the other
 */
export const dispatcherFor = (privateAddresses: boolean): Dispatcher => (privateAddresses ? unguarded : guarded);

/**
 * What stands against an address before anything is sent there; undefined: nothing.
 * @returns the key of a message
 */
export function urlProblem(
  text: string,
  privateAddresses: boolean,
): 'url.https' | 'url.http' | 'url.private' | undefined {
  const url = URL.parse(text);
  const plain = privateAddresses && url?.protocol === 'http:';
  if (url === null || (url.protocol !== 'https:' && !plain) || url.username !== '' || url.password !== '')
    return privateAddresses ? 'url.http' : 'url.https';
  const bare = url.hostname.replace(/^\[|\]$/g, '');
  return !privateAddresses && isIP(bare) !== 0 && isPrivate(bare) ? 'url.private' : undefined;
}
