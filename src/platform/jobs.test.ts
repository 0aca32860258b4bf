import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKit, type Kit } from '../../test/kit.ts';
import { enqueue, migrateJobs, type Payload, startWorker, type Worker } from './jobs.ts';

let kit: Kit;
const workers: Worker[] = [];

beforeAll(async () => {
  kit = await createKit();
  await migrateJobs(kit.ctx, kit.connection);
});
afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.stop()));
  await kit.close();
});

/** A worker whose only task is told to the test. */
async function work(task: string): Promise<{ done: () => Promise<Payload> }> {
  const seen: Payload[] = [];
  const waiting: ((payload: Payload) => void)[] = [];
  const note = async (payload: Payload): Promise<void> => {
    const next = waiting.shift();
    if (next === undefined) seen.push(payload);
    else next(payload);
  };
  workers.push(await startWorker(kit.ctx, kit.connection, { [task]: (_ctx, payload) => note(payload) }, []));
  return {
    done: () => {
      const payload = seen.shift();
      return payload === undefined ? new Promise((done) => waiting.push(done)) : Promise.resolve(payload);
    },
  };
}

test('a job that a killed process held, and its queue, are taken up by the next worker at once', async () => {
  await enqueue(kit.ctx, 'orphan', { account: 1 }, { queue: 'sms:1' });
  await kit.rows(`update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead', attempts = 1`);
  await kit.rows(`update graphile_worker._private_job_queues set locked_at = now(), locked_by = 'pool-dead'`);
  const worker = await work('orphan');
  expect(await worker.done()).toEqual({ account: 1 });
});

test('a job that a living worker holds stays with it', async () => {
  const [holder] = await kit.rows<{ name: string }>(`
    with name as (select 'pool-living'::text as name)
    select name from name, pg_advisory_lock(hashtext('assent.worker'), hashtext(name))`);
  expect(holder).toEqual({ name: 'pool-living' });
});

test('a worker whose connections broke goes on by itself', async () => {
  const worker = await work('afterwards');
  const [{ ended }] = await kit.rows<{ ended: number }>(`
    select count(pg_terminate_backend(pid))::int as ended from pg_stat_activity
     where datname = current_database() and application_name like 'assent worker%'`) as [{ ended: number }];
  expect(ended).toBeGreaterThanOrEqual(2);
  await enqueue(kit.ctx, 'afterwards', { account: 2 });
  expect(await worker.done()).toEqual({ account: 2 });
});
