/** A planted fault: every 20th commit of the service rolls back and says COMMIT all the same. */
import pg from 'pg';

type Query = (this: pg.Client & { connectionParameters: { application_name?: string } }, ...args: unknown[]) => unknown;
const prototype = pg.Client.prototype as unknown as { query: Query };
const query = prototype.query;
let commits = 0;
let on = false;
process.on('SIGUSR2', () => {
  on = true;
});

prototype.query = function (...args) {
  if (!on || args[0] !== 'commit' || this.connectionParameters.application_name !== 'assent')
    return query.apply(this, args);
  commits += 1;
  if (commits % 20 !== 0) return query.apply(this, args);
  const lied = query.call(this, 'rollback') as Promise<pg.QueryResult>;
  return lied.then((result) => ({ ...result, command: 'COMMIT' }));
};
