/** Origins as operators write them and browsers send them. */

/** What never leaves the machine needs no TLS: browsers trust these three themselves. */
const loopback: readonly string[] = ['localhost', '127.0.0.1', '[::1]'];

/**
 * What is wrong with an origin that another is compared with letter by letter, in words; undefined when it is one that a
 * browser can send. `null` is none: every sandboxed frame and every local file sends that.
 */
export function originProblem(text: string): string | undefined {
  if (text.includes('*')) return 'must name one origin; wildcards are not known here';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) return 'must be an origin, such as https://shop.example';
  if (url.protocol === 'http:' && !loopback.includes(url.hostname))
    return `must begin with https://; http:// is for ${loopback.join(', ')} alone`;
  return text === url.origin ? undefined : `must be written as browsers send it: ${url.origin}`;
}
