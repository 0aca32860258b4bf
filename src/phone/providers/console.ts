import Type from 'typebox';
import { provider } from './provider.ts';

/** Development and demo: messages are printed and kept for `GET /v1/outbox/sms`; nothing leaves the machine. */
export const console = provider({
  label: 'Console: prints messages, sends nothing',
  schema: Type.Object({ provider: Type.Literal('console') }, { additionalProperties: false }),
  secrets: [],
});
