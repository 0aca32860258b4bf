/**
 * The table of contents: everything Assent serves and does is listed here, and the only file that knows all of it.
 */
import type { FastifyInstance } from 'fastify';
import { sweepLinks } from './accounts/links.ts';
import { sendMail } from './accounts/mails.ts';
import { accountRoutes } from './accounts/routes.ts';
import { sweepSessions } from './accounts/sessions.ts';
import { adminRoutes } from './admin/routes.ts';
import { sweepBaskets } from './consent/baskets.ts';
import { decisionRoutes } from './consent/decision-routes.ts';
import { expireConsents, expireRequests } from './consent/expiry.ts';
import { publishHead } from './consent/ledger/seals.ts';
import { noticeRoutes } from './consent/notice-routes.ts';
import { confirmationPages } from './consent/pages/confirmation-pages.ts';
import { askToConfirmBy, type Post, sendPreferenceLinkBy } from './consent/pages/confirmations.ts';
import { linkRoutes } from './consent/pages/link-routes.ts';
import { preferencePages } from './consent/pages/preference-pages.ts';
import { unsubscribePages } from './consent/pages/unsubscribe-pages.ts';
import { proofRoutes } from './consent/proof/routes.ts';
import { consentRoutes } from './consent/routes.ts';
import { statementRoutes } from './consent/statement-routes.ts';
import { docsRoutes } from './docs/routes.ts';
import { openapi } from './openapi.ts';
import { sweepBudgets } from './phone/budget.ts';
import { sendCode } from './phone/jobs.ts';
import { mayText, sendText } from './phone/texts.ts';
import { sweepPhoneChanges } from './phone/verification.ts';
import { bakerOnline } from './platform/baker.ts';
import type { Ctx } from './platform/ctx.ts';
import { akinon } from './platform/drf.ts';
import type { Route } from './platform/http.ts';
import { sweepKeys } from './platform/idempotency.ts';
import type { Task } from './platform/jobs.ts';
import { type Mailer, sweepMessages } from './platform/mail.ts';
import { createMetrics } from './platform/metrics.ts';
import { pages } from './platform/pages.ts';
import { own } from './platform/problem.ts';
import { createServer } from './platform/server.ts';
import { sweepThrottles } from './platform/throttle.ts';
import { privacyRoutes } from './privacy/routes.ts';
import { accountProfileRoutes } from './profile/account-routes.ts';
import { avatarRoutes, sweepPictures } from './profile/avatar.ts';
import { linkPages } from './profile/link-pages.ts';
import { profileRoutes } from './profile/routes.ts';
import { staffRoutes } from './staff/routes.ts';
import { tokenRoutes } from './staff/token-routes.ts';
import { statusRoutes } from './status.ts';
import { deliverWebhook } from './webhooks/delivery.ts';
import { sweepWebhooks } from './webhooks/messages.ts';
import { webhookRoutes } from './webhooks/routes.ts';

/** What is documented and what is not, in the order of /openapi.json. */
const apiRoutes: readonly Route[] = [
  ...profileRoutes,
  ...consentRoutes,
  ...proofRoutes,
  ...decisionRoutes,
  ...statementRoutes,
  ...noticeRoutes,
  ...linkRoutes,
  ...accountRoutes,
  ...accountProfileRoutes,
  ...staffRoutes,
  ...tokenRoutes,
  ...adminRoutes,
  ...privacyRoutes,
  ...webhookRoutes,
  ...avatarRoutes,
  ...linkPages,
  ...preferencePages,
  ...confirmationPages,
  ...unsubscribePages,
];

export interface ServerOptions {
  readonly trustedProxies: readonly string[];
  /** Address under which people reach the service, where it is not the one requests name. */
  readonly publicUrl?: string | undefined;
  /** Bearer token for /metrics; without one it answers this machine only. */
  readonly metricsToken?: string | undefined;
}

/** The HTTP server with all its routes, not yet listening. */
export function createHttp(
  ctx: Ctx,
  { trustedProxies, publicUrl, metricsToken }: ServerOptions,
): Promise<FastifyInstance> {
  const metrics = createMetrics();
  const document = openapi(apiRoutes);
  const routes = [
    ...apiRoutes,
    ...docsRoutes(document),
    ...statusRoutes(metrics, { token: metricsToken, proxied: publicUrl !== undefined || trustedProxies.length > 0 }),
  ];
  return createServer({
    ctx,
    routes,
    dialects: [akinon, bakerOnline, own, pages],
    fallback: own,
    trustedProxies,
    publicUrl,
    observe: metrics.observe,
  });
}

/** The OpenAPI document by itself, for the command and the tests. */
export const apiDocument = (): Record<string, unknown> => openapi(apiRoutes);

/** What forgets what is over, every ten minutes. */
const sweep: Task = async (ctx) => {
  await sweepSessions(ctx);
  await sweepLinks(ctx);
  await sweepBaskets(ctx);
  await sweepPhoneChanges(ctx);
  await sweepBudgets(ctx);
  await sweepThrottles(ctx);
  await sweepPictures(ctx);
  await sweepMessages(ctx);
  await sweepWebhooks(ctx);
  await sweepKeys(ctx);
  await expireConsents(ctx);
  await publishHead(ctx);
};

/** Every job there is. @param publicUrl address under which people reach the service, for links in mails */
export function createTasks(mailer: Mailer, publicUrl: string): Readonly<Record<string, Task>> {
  const post: Post = { mail: mailer, sms: sendText, mayText, publicUrl };
  return {
    send_code: sendCode,
    send_mail: sendMail(mailer, publicUrl),
    ask_to_confirm: askToConfirmBy(post),
    send_preference_link: sendPreferenceLinkBy(post),
    sweep,
    expire_requests: (ctx) => expireRequests(ctx),
    deliver_webhook: deliverWebhook,
  };
}

/** Tasks that wait for strangers: a crew of their own does them, so that no mail and no code waits with them. */
export const strangers: readonly string[] = ['deliver_webhook'];

export const crontab = [
  { task: 'sweep', match: '*/10 * * * *' },
  { task: 'expire_requests', match: '* * * * *' },
] as const;
