/** What the faults of this proof have in common: statements of the service that say something else than they should. */
import pg from 'pg';

interface Statement {
  readonly name: string;
  readonly text: string;
}

type Query = (this: pg.Client, ...args: unknown[]) => unknown;

/** From SIGUSR2 on: `change` gives what a statement says instead, undefined leaves it; `times` it is sent. */
export function plant(change: (text: string) => string | undefined, times = 1): void {
  const prototype = pg.Client.prototype as unknown as { query: Query };
  const query = prototype.query;
  let on = false;
  process.on('SIGUSR2', () => {
    on = true;
  });
  prototype.query = function (...args) {
    const statement = args[0] as Statement | string;
    if (!on || typeof statement === 'string' || statement.text === undefined) return query.apply(this, args);
    const text = change(statement.text);
    if (text === undefined) return query.apply(this, args);
    for (let sent = 1; sent < times; sent += 1) void query.apply(this, args);
    // Under a name of its own: the old one is taken by what it should say.
    return query.call(this, { ...statement, name: `${statement.name} planted`, text }, ...args.slice(1));
  };
}
