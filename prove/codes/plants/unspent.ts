/** A planted fault: a code that was redeemed is still good. */
import { plant } from './plant.ts';

plant((text) =>
  text.includes('delete from phone_change')
    ? text.replace(/(delete from phone_change[\s\S]*?\bwhere\b)/, '$1 false and')
    : undefined,
);
