/** A planted fault: codes that are tried are not counted. */
import { plant } from './plant.ts';

plant((text) =>
  text.includes('submissions = submissions + 1')
    ? text.replace('submissions = submissions + 1', 'submissions = submissions')
    : undefined,
);
