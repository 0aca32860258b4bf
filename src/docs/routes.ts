/** `/openapi.json`, and `/docs`: the API reference. */
import { readFile } from 'node:fs/promises';
import { anyone } from '../accounts/callers.ts';
import { type Asset, asset } from '../platform/assets.ts';
import { type Route, route } from '../platform/http.ts';
import { stringifyJson } from '../platform/json.ts';
import { html, pages } from '../platform/pages.ts';
import { own } from '../platform/problem.ts';
import { scalar } from './scalar.ts';

const common = { who: anyone, tag: 'Documentation', hidden: true, method: 'GET', answers: {} } as const;

/**
 * What the page may do: talk to this server, and nothing else. Scalar brings its styles along in its script and sets some
 * in `style` attributes, hence 'unsafe-inline' for styles; scripts need no unsafe word. `data:` and `blob:` are pictures
 * that it draws or got as an answer.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'unsafe-inline'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Makes the asset at its first use, and once. */
function once(make: () => Promise<Asset>): () => Promise<Asset> {
  let made: Promise<Asset> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

const javascript = 'text/javascript; charset=utf-8';
const script = once(async () => asset(javascript, await scalar()));
const start = once(async () => asset(javascript, await readFile(new URL('start.js', import.meta.url), 'utf8')));

/** @param document the OpenAPI document; it is written to text once */
export function docsRoutes(document: object): readonly Route[] {
  const json = once(async () => asset('application/json', stringifyJson(document)));
  return [
    route({
      ...common,
      dialect: own,
      path: '/openapi.json',
      operationId: 'openapi',
      summary: 'The OpenAPI document',
      run: async (_ctx, request) => (await json()).answer(request),
    }),
    route({
      ...common,
      dialect: pages,
      path: '/docs',
      operationId: 'docs',
      summary: 'The API reference',
      async run() {
        const body = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex"><link rel="icon" href="/icon.svg"><title>Assent API</title>
<style>noscript{display:block;max-width:40rem;margin:4rem auto;padding:0 1.5rem;font:1.0625rem/1.6 system-ui,sans-serif}</style>
<script src="/docs/start.js?v=${(await start()).hash}"></script>
<script src="/docs/scalar.js?v=${(await script()).hash}" defer></script></head>
<body><div id="reference"></div>
<noscript><h1>Assent API</h1><p>The reference is drawn by a script, and scripts are off in this browser.
All it shows is in the OpenAPI document: <a href="/openapi.json">/openapi.json</a>.</p></noscript></body></html>`;
        return {
          status: 200,
          body: body.text,
          headers: {
            'content-type': 'text/html; charset=utf-8',
            'content-language': 'en',
            'content-security-policy': POLICY,
          },
        };
      },
    }),
    route({
      ...common,
      dialect: pages,
      path: '/docs/scalar.js',
      operationId: 'docsScript',
      summary: 'The program that draws the API reference',
      run: async (_ctx, request) => (await script()).answer(request),
    }),
    route({
      ...common,
      dialect: pages,
      path: '/docs/start.js',
      operationId: 'docsStart',
      summary: 'What sets that program up',
      run: async (_ctx, request) => (await start()).answer(request),
    }),
  ];
}
