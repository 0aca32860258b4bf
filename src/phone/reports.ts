/** What becomes of messages after they were taken: told by the provider, or asked of it. */
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import { enqueue, type Task } from '../platform/jobs.ts';
import { CallError, call } from '../platform/outgoing.ts';
import { smsProviders } from './providers/catalogue.ts';
import type { Report } from './providers/provider.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Messages of one question. */
const MOST = 100;

/** PostgreSQL keeps no text with NUL in it. */
export const hasNul = (text: string): boolean => text.includes('\0');

/**
 * Writes reports down. A message only goes forward: delivered stays delivered, and what nobody knows is passed over.
 * @returns how many messages it changed
 */
export async function applyReports(ctx: Ctx, provider: string, told: readonly Report[]): Promise<number> {
  // No message has such an id.
  const reports = told.filter(({ id }) => !hasNul(id));
  return ctx.db.run(sql`
    update sms_message m
       set status = r.state, reason = r.reason,
           ended_at = case r.state when 'sent' then null else ${ctx.clock.now()}::timestamptz end
      from unnest(${reports.map(({ id }) => id)}::text[],
                  ${reports.map(({ id }) => (UUID.test(id) ? id : null))}::uuid[],
                  ${reports.map(({ state }) => state)}::text[],
                  ${reports.map(({ reason }) => reason ?? null)}::text[]) as r (name, id, state, reason)
     where m.provider = ${provider} and (m.provider_id = r.name or m.id = r.id)
       and (m.status = 'sending' or m.status = 'sent' and r.state <> 'sent'
            or m.status = 'failed' and r.state = 'delivered')`);
}

/** One job a minute at most asks for all of them: providers count questions. */
function planCheck(ctx: Ctx, provider: string, seconds: number): Promise<void> {
  const now = ctx.clock.now().getTime() / 1000;
  const minute = Math.ceil((now + seconds) / 60);
  return enqueue(ctx, 'check_sms', { provider }, { key: `check_sms:${provider}:${minute}`, after: minute * 60 - now });
}

/** Has a provider that tells nothing by itself be asked about a message it took. */
export async function expectReports(ctx: Ctx, provider: string): Promise<void> {
  if (smsProviders[provider]?.ask !== undefined) await planCheck(ctx, provider, 30);
}

/**
 * The job that asks about messages of the last day whose end is not known, those first that wait longest for the question;
 * the longer it takes, the less often.
 */
export const checkSms: Task = async (ctx, { provider }) => {
  const setting = ctx.settings.get('SMS_PROVIDER');
  const { ask, told } = smsProviders[String(provider)] ?? {};
  // Another provider by now: its credentials are gone.
  if (setting['provider'] !== provider || ask === undefined || told === undefined) return;
  const now = ctx.clock.now();
  const open = await ctx.db.rows<{ provider_id: string; created_at: Date }>(sql`
    update sms_message set asked_at = ${now}
     where id in (select id from sms_message
                   where provider = ${provider} and status = 'sent' and provider_id is not null
                     and created_at > ${now}::timestamptz - interval '1 day'
                   order by coalesce(asked_at, created_at), id limit ${MOST})
    returning provider_id, created_at`);
  if (open.length === 0) return;
  const ids = open.map(({ provider_id }) => provider_id);
  let reports: readonly Report[] = [];
  try {
    reports = told(await call(ask(setting as never, ids), ctx.settings.get('SMS_TIMEOUT') * 1000));
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    ctx.log.warn({ provider, reason: error.message }, 'no delivery reports came');
  }
  await applyReports(
    ctx,
    String(provider),
    reports.filter(({ id }) => ids.includes(id)),
  );
  const ended = new Set(reports.map(({ id }) => id));
  const left = open.filter(({ provider_id }) => !ended.has(provider_id));
  // There may be more than one question holds: those are next.
  const full = open.length === MOST;
  if (left.length === 0 && !full) return;
  const youngest = Math.max(...left.map(({ created_at }) => created_at.getTime()));
  const age = full ? 0 : (now.getTime() - youngest) / 1000;
  await planCheck(ctx, String(provider), Math.min(3600, Math.max(60, age)));
};
