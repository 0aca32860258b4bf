/** A planted fault: promotions read the flags of a basket without a lock, so that callers do not wait for each other. */
import pg from 'pg';

type Query = (this: pg.Client, ...args: unknown[]) => unknown;
const prototype = pg.Client.prototype as unknown as { query: Query };
const query = prototype.query;
let on = false;
process.on('SIGUSR2', () => {
  on = true;
});

prototype.query = function (...args) {
  const statement = args[0] as { name: string; text: string } | string;
  if (!on || typeof statement === 'string' || !statement.text?.includes('from basket_consent'))
    return query.apply(this, args);
  // Under a name of its own: what is prepared under the old one is the statement with its lock.
  const unlocked = { ...statement, name: `${statement.name} unlocked`, text: statement.text.replace('for update', '') };
  return query.call(this, unlocked, ...args.slice(1));
};
