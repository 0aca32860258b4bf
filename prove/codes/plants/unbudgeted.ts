/** A planted fault: budgets are looked at and not spent. */
import { plant } from './plant.ts';

plant((text) =>
  text.includes('insert into sms_budget') ? text.replace('else b.count + 1 end', 'else b.count end') : undefined,
);
