/** The embedded database cannot run. The message is a whole sentence with the remedy, printed as it is. */
export class EngineError extends Error {
  override name = 'EngineError';
}
