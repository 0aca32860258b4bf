/** A planted fault: commits are answered before they are on the disk. Only the death of the engine shows it. */
import pg from 'pg';

interface Client {
  connectionParameters: { options?: string };
}

type Connect = (this: Client, ...args: unknown[]) => unknown;
const prototype = pg.Client.prototype as unknown as { connect: Connect };
const connect = prototype.connect;
// Every plant is told by this signal to begin; without a listener it would end the process.
process.on('SIGUSR2', () => {});

prototype.connect = function (...args) {
  const parameters = this.connectionParameters;
  parameters.options = `${parameters.options ?? ''} -c synchronous_commit=off`;
  return connect.apply(this, args);
};
