/** What runs here and how it is: `/`, `/healthz`, `/readyz`, `/metrics`. */
import { timingSafeEqual } from 'node:crypto';
import { anyone } from './accounts/callers.ts';
import { ledgerHead } from './consent/seals.ts';
import { sql } from './platform/db.ts';
import { fail } from './platform/failure.ts';
import { ok, type Route, route } from './platform/http.ts';
import { sha256 } from './platform/keys.ts';
import type { Metrics } from './platform/metrics.ts';
import { html, page, pages } from './platform/pages.ts';
import { own } from './platform/problem.ts';

const common = { dialect: own, who: anyone, tag: 'Status', hidden: true, method: 'GET', answers: {} } as const;

const isLocal = (ip: string): boolean => ip === '127.0.0.1' || ip === '::1' || ip === '::ffff:127.0.0.1';

/** @param metricsToken bearer token for /metrics; without one it answers this machine only */
export const statusRoutes = (metrics: Metrics, metricsToken: string | undefined): readonly Route[] => [
  route({
    ...common,
    dialect: pages,
    path: '/',
    operationId: 'home',
    summary: 'What runs here',
    async run(ctx, { origin, language }) {
      const { count, at } = await ledgerHead(ctx);
      const installation = await ctx.db.one<{ demo: boolean }>(sql`select demo from installation`);
      const demo = installation?.demo
        ? html`<h2>This is the demo shop</h2>
<p>Customers <code>ada@example.com</code>, <code>bora@example.com</code>; owner <code>usta@example.com</code>; colleague <code>cirak@example.com</code>;
operator <code>operator@example.com</code>. Password of all: <code>demo-assent-2026</code>. API key: <code>assent_demo_key_2026</code>.</p>`
        : '';
      return page(
        language,
        'Assent runs here',
        html`<p>Customer accounts, consent and staff permissions of a shop, each answer with its proof.</p>
<dl><dt>API reference</dt><dd><a href="/docs">/docs</a></dd>
<dt>OpenAPI document</dt><dd><a href="/openapi.json">/openapi.json</a></dd>
<dt>Shop front</dt><dd><code>${origin}/users/…</code></dd>
<dt>Back office</dt><dd><code>${origin}/company/…</code></dd>
<dt>Own API</dt><dd><code>${origin}/v1/…</code></dd>
<dt>Consent ledger</dt><dd>${count} sealed lines${at === null ? '' : `, the last at ${at}`}</dd></dl>${demo}`,
      );
    },
  }),
  route({
    ...common,
    path: '/healthz',
    operationId: 'healthz',
    summary: 'The process answers',
    run: async () => ok({ status: 'ok' }),
  }),
  route({
    ...common,
    path: '/readyz',
    operationId: 'readyz',
    summary: 'The process and its database answer',
    async run(ctx) {
      await ctx.db.one(sql`select 1`);
      return ok({ status: 'ok', database: 'ok' });
    },
  }),
  route({
    ...common,
    path: '/metrics',
    operationId: 'metrics',
    summary: 'Counters for Prometheus',
    async run(_ctx, { headers, ip }) {
      const given = headers['authorization'] ?? '';
      const allowed =
        metricsToken === undefined
          ? isLocal(ip) && headers['x-forwarded-for'] === undefined
          : timingSafeEqual(sha256(given), sha256(`Bearer ${metricsToken}`));
      if (!allowed) fail('not_found');
      return { status: 200, body: metrics.render(), headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } };
    },
  }),
];
