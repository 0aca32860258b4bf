/** `assent doctor`: what the service depends on, each with its state and the remedy. */
import { existsSync, statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ConfigError, readConfig } from './config.ts';
import { verifyLedger } from './consent/ledger/audit.ts';
import { ledgerUnsealedSince } from './consent/ledger/seals.ts';
import { openInstallation } from './installation.ts';
import { loyaltyFindings } from './loyalty/state.ts';
import { issuerFinding } from './oauth/issuer/issuer.ts';
import { messagesOf, providerName } from './phone/sms.ts';
import type { Ctx } from './platform/ctx.ts';
import { sql } from './platform/db.ts';
import { isOverdue } from './platform/heads.ts';
import { createLog } from './platform/log.ts';
import { type Guard, ledgerGuard } from './platform/rights.ts';
import { historyUnsealedSince } from './staff/history/seals.ts';
import { verifyHistory } from './staff/history/verify.ts';

export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  /** For what is wrong; for what is not, advice. */
  readonly remedy?: string;
}

/** What stands between the service's own role and the lines of the ledger. */
function guardFinding({ role, superuser, owner, rights, open }: Guard): Omit<Finding, 'name'> {
  if (open.length > 0) {
    const detail = `nothing keeps the owner of the tables from changing ${open.join(', ')}`;
    return { ok: false, detail, remedy: 'Enable the trigger append_only of each again, then run: ledger verify' };
  }
  const own = 'Give DATABASE_URL a role of its own, and DATABASE_OWNER_URL the one that owns the tables.';
  if (superuser)
    return { ok: true, detail: `role ${role} is a superuser: triggers alone guard the ledger`, remedy: own };
  if (rights.length > 0) {
    const remedy = 'Revoke these rights, also from PUBLIC and from the roles it is a member of.';
    return { ok: false, detail: `role ${role} holds ${rights.join(', ')}`, remedy };
  }
  if (owner)
    return { ok: true, detail: `role ${role} owns the ledger and has given up the right to change it`, remedy: own };
  return { ok: true, detail: `role ${role} can add to the ledger and read it, nothing else` };
}

/** Lines are sealed every second; until then they could be cut off unseen. */
async function sealingFinding(ctx: Ctx): Promise<Omit<Finding, 'name'>> {
  const oldest = [await ledgerUnsealedSince(ctx), await historyUnsealedSince(ctx)]
    .filter((since) => isOverdue(ctx, since))
    .sort((one, other) => one.getTime() - other.getTime())[0];
  if (oldest === undefined) return { ok: true, detail: 'no line waits for its seal' };
  return {
    ok: false,
    detail: `lines wait for their seal since ${oldest.toISOString()}`,
    remedy:
      'A running server or worker seals every second. If one runs, its log says what keeps it, or a session in the database holds the lock assent.sealer or assent.history_sealer.',
  };
}

/** Which provider messages go out by, and how the last hour went. @param open others reach this service */
async function smsFinding(ctx: Ctx, open: boolean): Promise<Omit<Finding, 'name'>> {
  const provider = providerName(ctx);
  if (ctx.settings.invalid().includes('SMS_PROVIDER')) {
    return {
      ok: false,
      detail: 'the stored setting SMS_PROVIDER is not valid: nothing is sent',
      remedy: 'Set it again: npm run assent -- settings set SMS_PROVIDER \'{"provider":…}\'',
    };
  }
  if (provider === 'console' && open) {
    return {
      ok: false,
      detail: 'codes are printed to the log while the service listens to others',
      remedy: 'Set a provider (http, twilio or netgsm): npm run assent -- settings set SMS_PROVIDER \'{"provider":…}\'',
    };
  }
  const hour = await messagesOf(ctx, 3600);
  const detail = `provider ${provider}, ${hour.ended} messages in the last hour, ${hour.failed} of them failed`;
  if (hour.ended < 5 || hour.failed * 2 <= hour.ended) {
    if (provider === 'console' || ctx.settings.get('SMS_COUNTRIES') !== null) return { ok: true, detail };
    const where =
      'Codes go to every country: name those of your customers in SMS_COUNTRIES, so that others cost nothing.';
    return { ok: true, detail, remedy: where };
  }
  const remedy =
    'Look the reason up at the provider, correct SMS_PROVIDER, then try: npm run assent -- phone test NUMBER';
  return { ok: false, detail: `${detail}, most often: ${hour.reason ?? 'no reason given'}`, remedy };
}

/** Looks at everything; a broken thing is a finding, not an error. */
export async function doctor(env: Record<string, string | undefined>, say: (line: string) => void): Promise<Finding[]> {
  const findings: Finding[] = [];
  const good = (name: string, detail: string): void => void findings.push({ name, ok: true, detail });
  const bad = (name: string, detail: string, remedy: string): void =>
    void findings.push({ name, ok: false, detail, remedy });

  const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
  if (major > 22 || (major === 22 && minor >= 18)) good('node', `Node ${process.versions.node}`);
  else
    bad(
      'node',
      `Node ${process.versions.node} is too old`,
      'Use npm scripts (they bring their own Node), or Node 22.18 or newer.',
    );

  let config: ReturnType<typeof readConfig>;
  try {
    config = readConfig(env);
    good(
      'environment',
      config.DATABASE_URL === undefined ? `embedded database in ${config.DATA_DIR}` : 'PostgreSQL at DATABASE_URL',
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    bad('environment', error.message, 'Correct the variable and try again.');
    return findings;
  }

  if (config.DATABASE_URL === undefined) {
    const folder = existsSync(config.DATA_DIR) ? config.DATA_DIR : dirname(config.DATA_DIR);
    const { bavail, bsize } = await statfs(folder);
    const free = Math.round((bavail * bsize) / 1024 ** 2);
    if (free > 1024) good('disk', `${free} MiB free at ${folder}`);
    else bad('disk', `only ${free} MiB free at ${folder}`, 'Make room: a full disk stops every write.');
    const key = `${config.DATA_DIR}/secret.key`;
    if (config.SECRET_KEY === undefined && existsSync(key) && (statSync(key).mode & 0o077) !== 0) {
      bad('key', `${key} can be read by others`, `chmod 600 ${key}`);
    }
  }

  try {
    const installation = await openInstallation({ config, log: createLog('silent'), say, join: true });
    try {
      const { ctx } = installation;
      const { db } = ctx;
      const about = await db.one<{
        version: string;
        fsync: string;
        commit: string;
        drift: number;
        migrations: number;
      }>(sql`
        select current_setting('server_version') as version, current_setting('fsync') as fsync,
               current_setting('synchronous_commit') as commit, (select count(*) from migration)::int as migrations,
               extract(epoch from clock_timestamp() - ${new Date()}::timestamptz)::float8 as drift`);
      good('database', `PostgreSQL ${about!.version}, ${about!.migrations} migrations`);
      if (about!.fsync === 'on' && about!.commit !== 'off')
        good('durability', `fsync ${about!.fsync}, synchronous_commit ${about!.commit}`);
      else
        bad(
          'durability',
          `fsync ${about!.fsync}, synchronous_commit ${about!.commit}: a crash loses answered writes`,
          'Set both to on in postgresql.conf.',
        );
      if (Math.abs(about!.drift) < 2) good('clock', 'this machine and the database agree');
      else
        bad(
          'clock',
          `this machine and the database are ${about!.drift.toFixed(1)} s apart`,
          'Synchronise both with NTP: consents are ordered by time.',
        );
      const operators = await db.one<{ count: number }>(
        sql`select count(*)::int as count from account where is_operator and is_active`,
      );
      if (operators!.count > 0) good('operators', `${operators!.count}`);
      else bad('operators', 'there is none', 'npm run assent -- operator create you@example.com');
      const jobs = await db.one<{ waiting: number; parked: number }>(sql`
        select count(*) filter (where attempts < max_attempts)::int as waiting,
               count(*) filter (where attempts >= max_attempts)::int as parked from graphile_worker.jobs`);
      if (jobs!.parked === 0) good('jobs', `${jobs!.waiting} waiting`);
      else bad('jobs', `${jobs!.parked} failed for good, ${jobs!.waiting} waiting`, 'See the log for their reasons.');
      const ledger = await verifyLedger(ctx);
      if (ledger.fault === undefined) good('ledger', `${ledger.lines} lines in ${ledger.seals} seals hold`);
      else bad('ledger', ledger.fault, 'Compare with a backup or a head you kept: somebody changed the past.');
      const { faults, lines, seals } = await verifyHistory(ctx);
      if (faults.length === 0)
        good('history', `${lines} lines and ${seals} seals hold, and the rights of colleagues are what they say`);
      else
        bad(
          'history',
          `${faults[0]!.company === null ? '' : `company ${faults[0]!.company}: `}${faults[0]!.what}`,
          'All of it: npm run assent -- staff verify. Compare with a backup: somebody changed rights past the service.',
        );
      findings.push({ name: 'sealing', ...(await sealingFinding(ctx)) });
      findings.push({ name: 'guard', ...guardFinding(await ledgerGuard(db)) });
      const open = config.HOST !== '127.0.0.1' && config.HOST !== 'localhost' && config.HOST !== '::1';
      const unusable = ctx.settings.invalid();
      if (unusable.length > 0)
        bad(
          'settings',
          `not valid as they are stored, or with a secret that cannot be decrypted: ${unusable.join(', ')}`,
          'Set each again, or: npm run assent -- settings reset NAME',
        );
      findings.push({ name: 'sms', ...(await smsFinding(ctx, open)) });
      for (const finding of await loyaltyFindings(ctx)) findings.push({ name: 'loyalty', ...finding });
      const issuer = await issuerFinding(ctx);
      if (issuer !== undefined) findings.push({ name: 'issuer', ...issuer });
      if (config.SMTP_URL !== undefined || !open)
        good('mail', config.SMTP_URL === undefined ? 'mails are printed (no SMTP_URL)' : 'SMTP');
      else bad('mail', 'mails are printed while the service listens to others', 'Set SMTP_URL.');
      if (open && !config.PUBLIC_URL?.startsWith('https:'))
        bad(
          'https',
          'PUBLIC_URL is not an https address',
          'Put a TLS proxy in front, set PUBLIC_URL and TRUSTED_PROXIES.',
        );
      const demo = await db.one<{ demo: boolean }>(sql`select demo from installation`);
      if (demo!.demo && open)
        bad('demo', 'the demo’s sign-ins are public and the service listens to others', 'Use another database.');
    } finally {
      await installation.close();
    }
  } catch (error) {
    bad('database', error instanceof Error ? error.message : String(error), 'The sentence above names what to do.');
  }
  return findings;
}
