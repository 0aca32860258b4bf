/** Pictures: decoded and written anew, so that nothing of the uploaded file but its pixels is ever served. */
import sharp from 'sharp';
import { anyone } from '../accounts/callers.ts';
import type { UploadedFile } from '../platform/body.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { fail, refuse } from '../platform/failure.ts';
import { type Route, route } from '../platform/http.ts';
import { sha256 } from '../platform/keys.ts';
import { own } from '../platform/problem.ts';

const MOST_BYTES = 5 * 1024 * 1024;
const SIDE = 512;
/** A picture of more than 40 megapixels is no portrait but an attack on memory. */
const MOST_PIXELS = 40_000_000;
const formats = new Set(['jpeg', 'png', 'webp']);
/** What makes a browser or a server take a file for a page or a program. Long enough not to occur in pixels by chance. */
const markup = /<(?:script|!doctype|html[\s>]|svg[\s>]|\?php)/i;

// The cache only helps when one file is read twice, and threads would take cores from the requests.
sharp.cache(false);
sharp.concurrency(1);

/**
 * Stores a picture: JPEG, PNG or WebP of at most 5 MB, made to fit 512 × 512, its metadata (place, camera) stripped.
 * @returns its name: the SHA-256 of what is served
 * @throws invalid on `avatar`
 */
export async function storePicture(ctx: Ctx, file: UploadedFile): Promise<string> {
  if (file.bytes.length > MOST_BYTES) refuse({ path: ['avatar'], key: 'avatar.large', values: { max: '5 MB' } });
  // Its pixels alone would be harmless; nobody who means well sends a page that is a picture too.
  if (markup.test(file.bytes.toString('latin1'))) refuse({ path: ['avatar'], key: 'avatar.unreadable' });
  const picture = await encode(file.bytes).catch(() => undefined);
  if (picture === undefined) refuse({ path: ['avatar'], key: 'avatar.unreadable' });
  const hash = sha256(picture).toString('hex');
  await ctx.db.run(sql`
    insert into avatar (hash, picture, created_at) values (${hash}, ${picture}, ${ctx.clock.now()})
    on conflict (hash) do update set created_at = excluded.created_at`);
  return hash;
}

async function encode(bytes: Buffer): Promise<Buffer | undefined> {
  const image = sharp(bytes, { limitInputPixels: MOST_PIXELS, failOn: 'error', pages: 1 });
  const { format } = await image.metadata();
  if (!formats.has(format)) return undefined;
  return image
    .rotate()
    .resize(SIDE, SIDE, { fit: 'inside', withoutEnlargement: true })
    .webp({ quality: 82 })
    .toBuffer();
}

/** Forgets pictures that no account shows any more. */
export const sweepPictures = (ctx: Ctx): Promise<number> =>
  ctx.db.run(sql`
    delete from avatar where created_at < ${ctx.clock.now()}::timestamptz - interval '1 day'
                         and not exists (select from account where account.avatar = avatar.hash)`);

export const avatarRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/media/avatars/{name}',
    dialect: own,
    who: anyone,
    hidden: true,
    summary: 'A profile picture',
    operationId: 'getAvatar',
    tag: 'Profile',
    answers: {},
    async run(ctx, { params }) {
      const hash = /^([0-9a-f]{64})\.webp$/.exec(params['name']!)?.[1] ?? fail('not_found');
      const found = await ctx.db.one<{ picture: Buffer }>(sql`select picture from avatar where hash = ${hash}`);
      if (found === undefined) fail('not_found');
      return {
        status: 200,
        body: found.picture,
        headers: {
          'content-type': 'image/webp',
          // The name is the content: it never changes.
          'cache-control': 'public, max-age=31536000, immutable',
          'content-security-policy': "default-src 'none'; sandbox",
        },
      };
    },
  }),
];
