/** A planted fault: every 20th statement that records consent events records them a second time, hash and all. */
import pg from 'pg';
import { type Line, lineHash } from '../../../src/consent/ledger/lines.ts';
import { uuidv7 } from '../../../src/platform/ids.ts';

interface Recording {
  readonly text: string;
  readonly values: [string, string, string[], string];
}

type Query = (this: pg.Client, ...args: unknown[]) => unknown;
const prototype = pg.Client.prototype as unknown as { query: Query };
const query = prototype.query;
let records = 0;
let on = false;
process.on('SIGUSR2', () => {
  on = true;
});

/** The same statement about new lines. */
function again({ text, values: [events, evidence, , states] }: Recording): object {
  const renamed = new Map<string, string>();
  const lines = (JSON.parse(events) as Record<string, string>[]).map((line) => {
    const id = uuidv7(new Date());
    renamed.set(line['id']!, id);
    const known = {
      ...line,
      id,
      occurred_at: new Date(line['occurred_at']!),
      recorded_at: new Date(line['recorded_at']!),
      commitment: Buffer.from(line['commitment']!.slice(2), 'hex'),
    };
    return { ...line, id, hash: `\\x${lineHash(known as unknown as Line).toString('hex')}` };
  });
  const rename = (json: string): string =>
    JSON.stringify((JSON.parse(json) as { event: string }[]).map((row) => ({ ...row, event: renamed.get(row.event) })));
  return { text, values: [JSON.stringify(lines), rename(evidence), [...renamed.values()], rename(states)] };
}

prototype.query = function (...args) {
  const statement = args[0] as Recording | string;
  if (!on || typeof statement === 'string' || !statement.text?.includes('insert into consent_event'))
    return query.apply(this, args);
  records += 1;
  if (records % 20 !== 0) return query.apply(this, args);
  return (query.apply(this, args) as Promise<unknown>).then((result) =>
    (query.call(this, again(statement)) as Promise<unknown>).then(() => result),
  );
};
