import { afterAll, beforeAll, expect, test, vi } from 'vitest';
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

/** Starts a worker with one task. @returns what resolves with the payload of its first job, which `until` holds up */
async function work(task: string, until: Promise<void> = Promise.resolve()): Promise<Promise<Payload>[]> {
  const { promise, resolve } = Promise.withResolvers<Payload>();
  const run = async (_ctx: unknown, payload: Payload): Promise<void> => {
    resolve(payload);
    await until;
  };
  workers.push(await startWorker(kit.ctx, kit.connection, { [task]: run }, []));
  // In a list, or it would be awaited on the way out.
  return [promise];
}

test('a job that a killed process held, and its queue, are taken up by the next worker at once', async () => {
  await enqueue(kit.ctx, 'orphan', { account: 1 }, { queue: 'sms:1' });
  await kit.rows(`update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead', attempts = 1`);
  await kit.rows(`update graphile_worker._private_job_queues set locked_at = now(), locked_by = 'pool-dead'`);
  const [job] = await work('orphan');
  expect(await job).toEqual({ account: 1 });
});

test('a job that a living worker holds stays with it when another one starts', async () => {
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  const [held] = await work('slow', until);
  await enqueue(kit.ctx, 'slow', { account: 2 });
  expect(await held).toEqual({ account: 2 });
  const holders = (): Promise<object[]> =>
    kit.rows(`
      select j.locked_by, j.attempts from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id
       where t.identifier = 'slow'`);
  const before = await holders();
  // Once the second worker does its first job, it has looked for jobs of the dead.
  const [other] = await work('slow_sibling');
  await enqueue(kit.ctx, 'slow_sibling', { account: 3 });
  expect(await other).toEqual({ account: 3 });
  expect(before).toEqual([{ locked_by: expect.stringMatching(/^pool-/), attempts: 1 }]);
  expect(await holders()).toEqual(before);
  release();
});

test('workers whose connections broke go on by themselves', async () => {
  const [job] = await work('afterwards');
  const sessions = (): Promise<{ pid: number }[]> =>
    kit.rows(`
      select pid from pg_stat_activity where datname = current_database() and application_name = 'assent worker presence'`);
  const before = await sessions();
  expect(before).toHaveLength(workers.length);
  await kit.rows(`
    select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name like 'assent worker%'`);
  await vi.waitFor(
    async () => {
      const after = await sessions();
      expect(after).toHaveLength(before.length);
      for (const { pid } of before) expect(after).not.toContainEqual({ pid });
    },
    { timeout: 20_000 },
  );
  await enqueue(kit.ctx, 'afterwards', { account: 4 });
  expect(await job).toEqual({ account: 4 });
});
