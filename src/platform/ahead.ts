/** Working ahead on a stream: the next batch is under way while the last one's result is written. */

/**
 * Results of `work` over batches, in their order, each as soon as it is there: a sender who waits for every answer gets
 * it, one who does not keeps `depth` batches going.
 * @param depth batches under way at once; two keep the database busy while this process reads and writes
 */
export async function* inOrder<I, O>(
  batches: AsyncIterator<I>,
  work: (batch: I) => Promise<O>,
  depth = 2,
): AsyncGenerator<O, void, void> {
  const running: Promise<O>[] = [];
  let reading: Promise<IteratorResult<I>> | undefined = batches.next();
  try {
    while (reading !== undefined || running.length > 0) {
      const turns: Promise<{ read: IteratorResult<I> } | { made: O }>[] = [];
      if (running.length > 0) turns.push(running[0]!.then((made) => ({ made })));
      if (reading !== undefined && running.length < depth) turns.push(reading.then((read) => ({ read })));
      const turn = await Promise.race(turns);
      if ('made' in turn) {
        void running.shift();
        yield turn.made;
      } else if (turn.read.done === true) {
        reading = undefined;
      } else {
        const under = work(turn.read.value);
        // Heard of in its turn; until then nobody may think it went unnoticed.
        under.catch(() => {});
        running.push(under);
        reading = batches.next();
        reading.catch(() => {});
      }
    }
  } finally {
    await batches.return?.();
  }
}
