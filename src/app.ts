/**
 * The table of contents: everything Assent serves and does is listed here, and the only file that knows all of it.
 */
import type { FastifyInstance } from 'fastify';
import { sweepLinks } from './accounts/links.ts';
import { sendMail } from './accounts/mails.ts';
import { accountRoutes } from './accounts/routes.ts';
import { tellSecondFactor } from './accounts/second-factor-mails.ts';
import { sweepSessions } from './accounts/sessions.ts';
import { accountsRoutes } from './admin/account-routes.ts';
import { keyRoutes } from './admin/key-routes.ts';
import { operatorEventRoutes } from './admin/operator-event-routes.ts';
import { operatorRoutes } from './admin/operator-routes.ts';
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
import { deliverLoyalty } from './loyalty/delivery.ts';
import { loyaltyRoutes } from './loyalty/routes.ts';
import { sweepLoyaltyMessages } from './loyalty/told.ts';
import { clientRoutes } from './oauth/client-routes.ts';
import { sweepCodes } from './oauth/codes.ts';
import { issuerRoutes } from './oauth/issuer/routes.ts';
import { accountPages } from './oauth/pages/account-pages.ts';
import { authorizePages } from './oauth/pages/authorize-pages.ts';
import { forgottenPages } from './oauth/pages/forgotten-pages.ts';
import { secondFactorPages } from './oauth/pages/second-factor-pages.ts';
import { signInPages } from './oauth/pages/sign-in-pages.ts';
import { passwordRoutes } from './oauth/password-routes.ts';
import { sessionRoutes } from './oauth/session-routes.ts';
import { tokenRoutes } from './oauth/token-routes.ts';
import { openapi } from './openapi.ts';
import { sweepBudgets } from './phone/budget.ts';
import { sendCodeBy } from './phone/jobs.ts';
import { smsRoutes } from './phone/report-routes.ts';
import { checkSms } from './phone/reports.ts';
import { sweepSms } from './phone/sms.ts';
import { mayText, sendTextBy } from './phone/texts.ts';
import { sweepPhoneUndos, tellPhoneChange } from './phone/undo.ts';
import { sweepPhoneChanges } from './phone/verification.ts';
import { bakerOnline } from './platform/baker.ts';
import type { Ctx } from './platform/ctx.ts';
import { akinon } from './platform/drf.ts';
import type { Route } from './platform/http.ts';
import { sweepKeys } from './platform/idempotency.ts';
import type { Crew, Task } from './platform/jobs.ts';
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
import { undoPages } from './profile/undo-pages.ts';
import { companyRoutes } from './staff/companies/routes.ts';
import { staffDecisionRoutes } from './staff/decisions/routes.ts';
import { documentedCompanyRoutes } from './staff/documented/company-routes.ts';
import { documentedEntryRoutes } from './staff/documented/entry-routes.ts';
import { sweepRights } from './staff/entries/entries.ts';
import { pairRoutes } from './staff/entries/pair-routes.ts';
import { historyRoutes } from './staff/history/routes.ts';
import { publishHistoryHead } from './staff/history/seals.ts';
import { statusRoutes } from './status.ts';
import { deliverWebhook } from './webhooks/delivery.ts';
import { sweepWebhooks } from './webhooks/messages.ts';
import { webhookRoutes } from './webhooks/routes.ts';

/** What is documented and what is not, in the order of /openapi.json. */
export const apiRoutes: readonly Route[] = [
  ...profileRoutes,
  ...consentRoutes,
  ...proofRoutes,
  ...decisionRoutes,
  ...statementRoutes,
  ...noticeRoutes,
  ...linkRoutes,
  ...accountRoutes,
  ...accountProfileRoutes,
  ...documentedEntryRoutes,
  ...documentedCompanyRoutes,
  ...companyRoutes,
  ...pairRoutes,
  ...historyRoutes,
  ...staffDecisionRoutes,
  ...tokenRoutes,
  ...sessionRoutes,
  ...passwordRoutes,
  ...clientRoutes,
  ...adminRoutes,
  ...accountsRoutes,
  ...operatorRoutes,
  ...operatorEventRoutes,
  ...keyRoutes,
  ...privacyRoutes,
  ...smsRoutes,
  ...loyaltyRoutes,
  ...webhookRoutes,
  ...avatarRoutes,
  ...signInPages,
  ...forgottenPages,
  ...issuerRoutes,
  ...accountPages,
  ...secondFactorPages,
  ...linkPages,
  ...undoPages,
  ...preferencePages,
  ...confirmationPages,
  ...unsubscribePages,
  ...authorizePages,
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
  await sweepCodes(ctx);
  await sweepRights(ctx);
  await sweepLinks(ctx);
  await sweepBaskets(ctx);
  await sweepPhoneChanges(ctx);
  await sweepPhoneUndos(ctx);
  await sweepBudgets(ctx);
  await sweepSms(ctx);
  await sweepLoyaltyMessages(ctx);
  await sweepThrottles(ctx);
  await sweepPictures(ctx);
  await sweepMessages(ctx);
  await sweepWebhooks(ctx);
  await sweepKeys(ctx);
  await expireConsents(ctx);
  await publishHead(ctx);
  await publishHistoryHead(ctx);
};

/**
 * Every job there is.
 * @param publicUrl address under which people reach the service, for links in mails
 * @param reachable whether others reach it there too: SMS providers are then told where their reports may go
 */
export function createTasks(mailer: Mailer, publicUrl: string, reachable = true): Readonly<Record<string, Task>> {
  const reports = reachable ? publicUrl : undefined;
  const post: Post = { mail: mailer, sms: sendTextBy(reports), mayText, publicUrl };
  return {
    send_code: sendCodeBy(reports),
    check_sms: checkSms,
    send_mail: sendMail(mailer, publicUrl),
    tell_second_factor: tellSecondFactor(mailer, publicUrl),
    tell_phone_change: tellPhoneChange({ mail: mailer, sms: sendTextBy(reports), publicUrl }),
    ask_to_confirm: askToConfirmBy(post),
    send_preference_link: sendPreferenceLinkBy(post),
    sweep,
    expire_requests: (ctx) => expireRequests(ctx),
    deliver_webhook: deliverWebhook,
    deliver_loyalty: deliverLoyalty,
  };
}

/**
 * Crews of their own for tasks that wait for somebody outside. Each job mostly waits for an answer, so many hands are cheap;
 * and a code waits neither for mails, which a server may take minutes for, nor for a webhook's receiver that hangs, nor for
 * the loyalty provider. A code that was not taken is due
 * again after two seconds, hence the short rounds.
 */
export const crews = {
  messengers: { tasks: ['send_code', 'check_sms'], concurrency: 4, pollInterval: 2000 },
  writers: {
    tasks: ['ask_to_confirm', 'send_preference_link', 'tell_phone_change'],
    concurrency: 4,
    pollInterval: 2000,
  },
  couriers: { tasks: ['deliver_webhook', 'deliver_loyalty'], concurrency: 12, pollInterval: 5000 },
} as const satisfies Record<string, Crew & { readonly tasks: readonly string[] }>;

export const crontab = [
  { task: 'sweep', match: '*/10 * * * *' },
  { task: 'expire_requests', match: '* * * * *' },
] as const;
