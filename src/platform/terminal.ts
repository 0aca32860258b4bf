/** What commands of the program are given to speak with. */
import type { Ctx } from './ctx.ts';

export interface Terminal {
  /** Words for people, to stderr. */
  readonly say: (line: string) => void;
  /** Data, to stdout: a text as it is, anything else as JSON. */
  readonly print: (value: unknown) => void;
  /**
   * Runs a command on an opened installation, beside a running server too, and closes it. `publicUrl` is the address under
   * which people reach it, where one is set.
   */
  readonly withCtx: (work: (ctx: Ctx, publicUrl: string | undefined) => Promise<void>) => Promise<void>;
}
