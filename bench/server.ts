/**
 * The service under load, in a process of its own: the real routes, plus one that answers fixed JSON through the same
 * Fastify. With `ONE_BY_ONE` every verb runs alone, as it would without the batcher.
 */
import { createHttp } from '../src/app.ts';
import { seal } from '../src/consent/ledger/seals.ts';
import type { Ctx } from '../src/platform/ctx.ts';
import { systemClock } from '../src/platform/ctx.ts';
import { openDatabase } from '../src/platform/db.ts';
import { deriveKeys } from '../src/platform/keys.ts';
import { createLog } from '../src/platform/log.ts';
import { openSettings } from '../src/platform/settings.ts';
import { sealHistory } from '../src/staff/history/seals.ts';

const log = createLog('info');
const database = openDatabase({ connection: process.env['DATABASE_URL']!, max: process.env['ONE_BY_ONE'] ? 32 : 10 });
// What is in a transaction already is never gathered: that is how the batcher is left out without a switch in it.
const db = process.env['ONE_BY_ONE'] ? { ...database, inTransaction: true } : database;
const keys = deriveKeys(process.env['SECRET_KEY']!);
const ctx: Ctx = {
  db,
  clock: systemClock,
  settings: openSettings(log, keys),
  keys,
  log,
};
await ctx.settings.reload(db);
const http = await createHttp(ctx, { trustedProxies: [] });
const fixed = Buffer.from(process.env['FIXED']!);
http.get('/bench/fixed', (_request, reply) => reply.header('content-type', 'application/json').send(fixed));
await http.listen({ host: '127.0.0.1', port: 0 });

let stopped = false;
const sealing = (async () => {
  while (!stopped) {
    await new Promise((done) => setTimeout(done, 500));
    // The sealer of the batched server is the one that counts; the other stands aside.
    if (process.env['ONE_BY_ONE']) continue;
    await seal({ ...ctx, db: database });
    await sealHistory({ ...ctx, db: database });
  }
})();
process.once('SIGTERM', () => {
  stopped = true;
  void Promise.all([http.close(), sealing]).then(async () => {
    await database.close();
    process.exit(0);
  });
});
process.send!({ port: (http.server.address() as { port: number }).port });
