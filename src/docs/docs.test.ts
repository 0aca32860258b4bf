import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKit, type Kit } from '../../test/kit.ts';
import { apiDocument } from '../app.ts';
import { stringifyJson } from '../platform/json.ts';

let kit: Kit;
beforeAll(async () => {
  kit = await createKit();
});
afterAll(() => kit.close());

/** As `kit.send` for bytes: a compressed body is no text. */
async function get(url: string, headers: Record<string, string> = {}) {
  const { statusCode: status, headers: answered, rawPayload: bytes } = await kit.http.inject({ url, headers });
  return { status, headers: answered, bytes };
}

/** The addresses of the scripts in the page. */
async function scripts(): Promise<string[]> {
  const { text } = await kit.send('GET', '/docs');
  return [...text.matchAll(/<script src="([^"]+)"/g)].map((match) => match[1]!);
}

test('the OpenAPI document is answered as it was generated, and not again to who has it', async () => {
  const first = await kit.send('GET', '/openapi.json');
  expect(first.status).toBe(200);
  expect(first.headers).toMatchObject({
    'content-type': 'application/json',
    'cache-control': 'no-cache',
    vary: 'Accept-Encoding',
    etag: expect.stringMatching(/^"[\w-]{16}"$/),
  });
  expect(first.body).toEqual(JSON.parse(stringifyJson(apiDocument())));

  const again = await get('/openapi.json', { 'if-none-match': `"other", W/${first.headers['etag']}` });
  expect([again.status, again.bytes.length, again.headers['etag']]).toEqual([304, 0, first.headers['etag']]);
  const other = await get('/openapi.json', { 'if-none-match': '"other"' });
  expect(other.status).toBe(200);
});

test('a document comes in the coding its reader takes, each with an ETag of its own', async () => {
  const plain = await get('/openapi.json');
  const cases = [
    { takes: 'gzip, deflate, br, zstd', coding: 'br', unpack: brotliDecompressSync },
    { takes: 'gzip', coding: 'gzip', unpack: gunzipSync },
    { takes: 'br;q=0, gzip;q=0.5', coding: 'gzip', unpack: gunzipSync },
    { takes: 'BR;q=0.1', coding: 'br', unpack: brotliDecompressSync },
    { takes: 'br;q=0.0, gzip;q=0', coding: undefined, unpack: (bytes: Buffer) => bytes },
    { takes: 'identity', coding: undefined, unpack: (bytes: Buffer) => bytes },
  ];
  const etag = String(plain.headers['etag']).slice(0, -1);
  for (const { takes, coding, unpack } of cases) {
    const { status, headers, bytes } = await get('/openapi.json', { 'accept-encoding': takes });
    expect([takes, status, headers['content-encoding']]).toEqual([takes, 200, coding]);
    expect(headers['etag']).toBe(coding === undefined ? `${etag}"` : `${etag}-${coding}"`);
    expect(headers['content-length']).toBe(String(bytes.length));
    expect(unpack(bytes).equals(plain.bytes)).toBe(true);
    const again = await get('/openapi.json', { 'accept-encoding': takes, 'if-none-match': String(headers['etag']) });
    expect([takes, again.status]).toEqual([takes, 304]);
  }
});

test('the page of the reference is strict about what it may load', async () => {
  const { status, headers, text } = await kit.send('GET', '/docs', { headers: { 'accept-language': 'tr' } });
  expect(status).toBe(200);
  expect(headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'content-language': 'en',
    'content-security-policy':
      "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
  });
  expect(text).not.toMatch(/<script(?! src="\/docs\/)|https?:|\son\w+=/);
  expect(text).toContain('<title>Assent API</title>');
  expect((await kit.send('GET', '/docs/')).text).toBe(text);
});

test('the scripts of the reference are kept for a year under the address of their content, and checked under any other', async () => {
  const addresses = await scripts();
  expect(addresses.map((address) => address.split('?')[0])).toEqual(['/docs/start.js', '/docs/scalar.js']);
  for (const address of addresses) {
    const { status, headers } = await get(address);
    expect([status, headers['content-type'], headers['cache-control']]).toEqual([
      200,
      'text/javascript; charset=utf-8',
      'public, max-age=31536000, immutable',
    ]);
    const [path] = address.split('?');
    for (const elsewhere of [path!, `${path}?v=0123456789abcdef`]) {
      expect((await get(elsewhere)).headers['cache-control']).toBe('no-cache');
    }
  }
  const [, scalar] = addresses;
  const head = await kit.http.inject({ method: 'HEAD', url: scalar!, headers: { 'accept-encoding': 'br' } });
  expect([head.statusCode, head.headers['content-encoding'], head.rawPayload.length]).toEqual([200, 'br', 0]);
  expect(Number(head.headers['content-length'])).toBeLessThan(1_500_000);
});

test('the pages have an icon', async () => {
  const { status, headers, bytes } = await get('/icon.svg');
  expect([status, headers['content-type']]).toEqual([200, 'image/svg+xml']);
  expect(bytes.toString()).toMatch(/^<svg /);
});

test('a page names its one style sheet in its policy', async () => {
  const { text, headers } = await kit.send('GET', '/links/x');
  const style = /<style>([^<]*)<\/style>/.exec(text)![1]!;
  const hash = await crypto.subtle.digest('SHA-256', Buffer.from(style));
  expect(headers['content-security-policy']).toBe(
    `default-src 'none'; style-src 'sha256-${Buffer.from(hash).toString('base64')}'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
  );
});

test('the first page is in English and says so, whatever the reader asked for', async () => {
  const { status, headers, text } = await kit.send('GET', '/', { headers: { 'accept-language': 'nl' } });
  expect([status, headers['content-language']]).toEqual([200, 'en']);
  expect(text).toContain('<html lang="en">');
  expect(text).toContain('0 sealed lines');
  expect(text).not.toContain('demo-assent-2026');
});
