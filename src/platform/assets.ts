/** Texts that never change while the process lives: compressed once each, answered with an ETag. */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import type { Answer, Incoming } from './http.ts';

type Coding = 'br' | 'gzip' | 'identity';

/** A text ready to be sent. */
export interface Asset {
  /** First letters of its SHA-256, for addresses that change with the content. */
  readonly hash: string;
  /** The text in the best coding the client takes, or 304. `?v=` with the hash makes the answer good for a year. */
  answer(incoming: Incoming): Promise<Answer>;
}

const compress: Record<Exclude<Coding, 'identity'>, (bytes: Buffer) => Promise<Buffer>> = {
  // Of Scalar's 4.3 MB, quality 5 makes 1.1 MB in 0.2 s; 9 needs three times as long to save 4 % of it.
  br: (bytes) => promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }),
  gzip: (bytes) => promisify(gzip)(bytes),
};

/** The coding to answer in (RFC 9110, 12.5.3), ours by preference: what a client weighs lower it still takes. */
function chooseCoding(header: string | undefined): Coding {
  const taken = new Set<string>();
  for (const part of (header ?? '').toLowerCase().split(',')) {
    const [name, ...parameters] = part.split(';').map((piece) => piece.trim());
    if (!parameters.some((parameter) => /^q=0(\.0{0,3})?$/.test(parameter))) taken.add(name!);
  }
  return taken.has('br') ? 'br' : taken.has('gzip') ? 'gzip' : 'identity';
}

/** @param type its Content-Type */
export function asset(type: string, text: string): Asset {
  const bytes = Buffer.from(text);
  const hash = createHash('sha256').update(bytes).digest('base64url').slice(0, 16);
  const codings = new Map<Coding, Promise<Buffer>>([['identity', Promise.resolve(bytes)]]);
  const inCoding = (coding: Coding): Promise<Buffer> => {
    let done = codings.get(coding);
    if (done === undefined) {
      done = compress[coding as Exclude<Coding, 'identity'>](bytes);
      codings.set(coding, done);
    }
    return done;
  };
  return {
    hash,
    async answer({ headers, query }) {
      const coding = chooseCoding(headers['accept-encoding']);
      const etag = coding === 'identity' ? `"${hash}"` : `"${hash}-${coding}"`;
      const common = {
        etag,
        vary: 'Accept-Encoding',
        'cache-control': query['v'] === hash ? 'public, max-age=31536000, immutable' : 'no-cache',
      };
      const known = (headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));
      if (known.includes(etag) || known.includes('*')) return { status: 304, headers: common };
      return {
        status: 200,
        body: await inCoding(coding),
        headers: { ...common, 'content-type': type, ...(coding === 'identity' ? {} : { 'content-encoding': coding }) },
      };
    },
  };
}
