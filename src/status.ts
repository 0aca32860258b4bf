/** What runs here and how it is: `/`, `/icon.svg`, `/healthz`, `/readyz`, `/metrics`. */
import { timingSafeEqual } from 'node:crypto';
import { anyone } from './accounts/callers.ts';
import { ledgerHead } from './consent/ledger/seals.ts';
import { loyaltyGauges } from './loyalty/state.ts';
import { asset } from './platform/assets.ts';
import type { Ctx } from './platform/ctx.ts';
import { sql } from './platform/db.ts';
import { fail } from './platform/failure.ts';
import { ok, type Route, route } from './platform/http.ts';
import { sha256 } from './platform/keys.ts';
import type { Gauge, Metrics } from './platform/metrics.ts';
import { html, type Markup, page, pages } from './platform/pages.ts';
import { own } from './platform/problem.ts';

const common = { dialect: own, who: anyone, tag: 'Status', hidden: true, method: 'GET', answers: {} } as const;

const icon = asset(
  'image/svg+xml',
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#8a3b12"/>' +
    '<path d="m8 17 5.5 5.5L24 10.5" fill="none" stroke="#fffdf9" stroke-width="3.5" stroke-linecap="round" stroke-linejoin="round"/></svg>',
);

/** A moment to the minute, for people. */
const minute = (iso: string): string => `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;

const isLocal = (ip: string): boolean => ip === '127.0.0.1' || ip === '::1' || ip === '::ffff:127.0.0.1';

interface Waiting {
  readonly jobs: number;
  readonly messages: readonly { readonly provider: string; readonly status: string; readonly count: number }[] | null;
}

/** What the database knows of messages, jobs and loyalty. */
async function gauges(ctx: Ctx): Promise<Gauge[]> {
  const hourAgo = new Date(ctx.clock.now().getTime() - 3_600_000);
  const [loyalty, waiting] = await Promise.all([
    loyaltyGauges(ctx),
    ctx.db.one<Waiting>(sql`
      select (select count(*) from graphile_worker.jobs where attempts < max_attempts) as jobs, jsonb_agg(m) as messages
        from (select provider, status, count(*) as count from sms_message where created_at > ${hourAgo}
               group by provider, status order by provider, status) m`),
  ]);
  const { jobs, messages } = waiting!;
  return [
    ...loyalty,
    {
      name: 'assent_sms_messages',
      help: 'Messages of the last hour by what became of them.',
      values: (messages ?? []).map(({ provider, status, count }) => ({ labels: { provider, status }, value: count })),
    },
    { name: 'assent_jobs_waiting', help: 'Jobs that are to be done.', values: [{ labels: {}, value: jobs }] },
  ];
}

/** @param access to /metrics: a bearer token, or without one this machine only, unless a proxy makes everybody look like it */
export const statusRoutes = (
  metrics: Metrics,
  { token, proxied }: { readonly token: string | undefined; readonly proxied: boolean },
): readonly Route[] => [
  route({
    ...common,
    dialect: pages,
    path: '/',
    operationId: 'home',
    summary: 'What runs here',
    async run(ctx) {
      const { count, at } = await ledgerHead(ctx);
      const installation = await ctx.db.one<{ demo: boolean }>(sql`select demo from installation`);
      const row = (name: string, value: unknown): Markup => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
      const code = (text: string): Markup => html`<code>${text}</code>`;
      const demo = html`<h2>This is the demo shop</h2>
<p>Its sign-ins are public. The password of all of them is ${code('demo-assent-2026')}.</p>
<dl>${row('Customers', html`${code('ada@example.com')} ${code('bora@example.com')}`)}
${row('Owner of company 15', code('usta@example.com'))}
${row('A colleague there', code('cirak@example.com'))}
${row('Owner of company 16', code('rakip@example.com'))}
${row('Operator', code('operator@example.com'))}
${row('API key', code('assent_demo_key_2026'))}</dl>`;
      // In English, as the reference it leads to.
      return page(
        'en',
        'Assent runs here',
        html`<p>Customer accounts, consent and staff permissions of a shop, each answer with its proof.</p>
<dl>${row('API reference', html`<a href="/docs">Read and try every call</a>`)}
${row('OpenAPI document', html`<a href="/openapi.json">openapi.json</a>`)}
${row('Shop front', html`${code('/users/…')} as Akinon’s Users API`)}
${row('Back office', html`${code('/company/…')} as BakerOnline’s company permissions`)}
${row('Programs', html`${code('/v1/…')} decisions, consent, settings`)}
${row('Consent ledger', html`${count} sealed lines${at === null ? '' : html`, the last <time datetime="${at}">${minute(at)}</time>`}`)}</dl>
${installation?.demo ? demo : ''}`,
      );
    },
  }),
  route({
    ...common,
    dialect: pages,
    path: '/icon.svg',
    operationId: 'icon',
    summary: 'The sign in the tab of a browser',
    run: async (_ctx, request) => icon.answer(request),
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
    async run(ctx, { headers, ip }) {
      const given = headers['authorization'] ?? '';
      const allowed =
        token === undefined
          ? isLocal(ip) && !proxied && headers['x-forwarded-for'] === undefined
          : timingSafeEqual(sha256(given), sha256(`Bearer ${token}`));
      if (!allowed) fail('not_found');
      return {
        status: 200,
        // A database that is away is seen by what is missing; the rest is worth knowing just then.
        body: metrics.render(await gauges(ctx).catch(() => [])),
        headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
      };
    },
  }),
];
