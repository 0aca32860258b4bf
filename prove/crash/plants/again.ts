/** A planted fault: every 5th promotion takes its basket for one that was never promoted, and its addresses for unknown ones. */
import pg from 'pg';

interface Statement {
  readonly name: string;
  readonly text: string;
}

type Query = (this: pg.Client, ...args: unknown[]) => unknown;
const prototype = pg.Client.prototype as unknown as { query: Query };
const query = prototype.query;
/** Connections that are about to read what is on record. */
const unaware = new WeakSet<pg.Client>();
let promotions = 0;
let on = false;
process.on('SIGUSR2', () => {
  on = true;
});

/** What a promotion reads instead. */
function misread(client: pg.Client, { text }: Statement): string | undefined {
  if (text.includes('from basket_consent') && text.includes('for update')) {
    promotions += 1;
    if (promotions % 5 !== 0) return undefined;
    unaware.add(client);
    return text.replace('consumed_at, event', 'null::timestamptz as consumed_at, event');
  }
  return text.includes('from consent_state') && unaware.delete(client) ? `${text} and false` : undefined;
}

prototype.query = function (...args) {
  const statement = args[0] as Statement | string;
  if (!on || typeof statement === 'string' || statement.text === undefined) return query.apply(this, args);
  const text = misread(this, statement);
  if (text === undefined) return query.apply(this, args);
  // Under a name of its own: the old one is taken by what it should read.
  return query.call(this, { ...statement, name: `${statement.name} misread`, text }, ...args.slice(1));
};
