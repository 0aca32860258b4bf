/** A planted fault: each message is handed over twice. */
import { plant } from './plant.ts';

plant((text) => (text.includes('insert into console_message') ? text : undefined), 2);
