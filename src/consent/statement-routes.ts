/** What other systems tell us: consents one by one, promotion of baskets, suppressions. */
import Type from 'typebox';
import { type Operator, operator } from '../accounts/callers.ts';
import type { Ctx } from '../platform/ctx.ts';
import { sql } from '../platform/db.ts';
import type { Evidence } from '../platform/evidence.ts';
import { fail, refuse } from '../platform/failure.ts';
import { type Answer, ok, type Request, type Route, route } from '../platform/http.ts';
import { takeKey } from '../platform/idempotency.ts';
import { checkSchema, own, pathId, problems } from '../platform/problem.ts';
import { object, text } from '../platform/schema.ts';
import { isForeignBasket, promoteBasket } from './baskets.ts';
import { channels } from './channels.ts';
import { eventExample, eventFields, readEvent } from './events.ts';
import { namedNotice } from './notices.ts';
import { readRecipient } from './recipients.ts';
import { needsReason, type Source, toldSources } from './sources.ts';
import { type ConsentStatement, type Intent, naturalKey, sayOne } from './statements.ts';
import { readSubject, subjectFields } from './subject.ts';

const kinds = new Map(channels.map(({ name, kind }) => [name as string, kind]));
const EVIDENCE_BYTES = 8192;
const EARLIEST = new Date('2000-01-01T00:00:00Z');
/** Clocks of other systems may run ahead by this much. */
const AHEAD_MILLISECONDS = 300_000;

const evidenceSchema = Type.Record(
  Type.String({ pattern: '^[a-z][a-z0-9_]{0,59}$' }),
  Type.Union([Type.String({ maxLength: 4000 }), Type.Number(), Type.Boolean(), Type.Null()]),
  {
    additionalProperties: false,
    maxProperties: 40,
    description:
      'How you know: `ip`, `user_agent`, `order`, `form`, `document` (where the signed paper or recording lies), `notice` (number of the notice that was shown), `reason` … Kept apart from the line, at most 8 KiB.',
  },
);

const newConsent = Type.Object(
  {
    ...subjectFields,
    granted: Type.Optional(Type.Boolean({ description: 'What the person said' })),
    suppressed: Type.Optional(
      Type.Boolean({
        description:
          'Instead of `granted`: a bounce or complaint stops everything, false lifts that again; `evidence.reason` says why',
      }),
    ),
    source: Type.Enum(toldSources),
    occurred_at: Type.Optional(
      Type.String({ format: 'date-time', description: 'When the person said it; now when absent' }),
    ),
    language: Type.Optional(Type.String({ pattern: '^[a-z]{2}$', description: 'In which the person was asked' })),
    evidence: Type.Optional(evidenceSchema),
  },
  { additionalProperties: false, title: 'NewConsent' },
);

/** A moment of the past as other systems may name it. @throws invalid on `path` for the future and for ages ago */
function readPast(ctx: Ctx, value: string | undefined, path: string[]): Date | undefined {
  if (value === undefined) return undefined;
  const at = new Date(value);
  if (Number.isNaN(at.getTime())) refuse({ path, key: 'statement.time' });
  const now = ctx.clock.now().getTime();
  if (at.getTime() > now + AHEAD_MILLISECONDS) refuse({ path, key: 'statement.future' });
  if (at < EARLIEST) refuse({ path, key: 'statement.ancient' });
  return at.getTime() > now ? new Date(now) : at;
}

/** Where an account is reached on a channel. @throws invalid on `account` */
async function pointOf(ctx: Ctx, account: number, channel: string): Promise<number> {
  const row = await ctx.db.one<{ email_point: number; phone_point: number | null }>(
    sql`select email_point, phone_point from account where id = ${account} and is_active`,
  );
  if (row === undefined) refuse({ path: ['account'], key: 'statement.no_account' });
  const point = kinds.get(channel) === 'email' ? row.email_point : row.phone_point;
  return point ?? refuse({ path: ['account'], key: 'statement.no_address', values: { channel } });
}

type NewConsent = Type.Static<typeof newConsent>;

function intentOf({ granted, suppressed }: NewConsent): Intent {
  if ((granted === undefined) === (suppressed === undefined)) refuse({ path: ['granted'], key: 'statement.one' });
  if (suppressed !== undefined) return suppressed ? 'suppress' : 'restore';
  return granted ? 'grant' : 'refuse';
}

/** Reads a body as a statement of the shop. @throws invalid with every place that is wrong */
async function readStatement(ctx: Ctx, body: NewConsent, actor: string): Promise<ConsentStatement> {
  const { account, channel, occurred_at, language, evidence = {} } = body;
  const intent = intentOf(body);
  const source = body.source as Source;
  const subject = readSubject(ctx, body);
  const { purpose } = subject;
  if (Buffer.byteLength(JSON.stringify(evidence)) > EVIDENCE_BYTES)
    refuse({ path: ['evidence'], key: 'statement.evidence', values: { max: '8 KiB' } });
  if ((needsReason(source) || body.suppressed !== undefined) && !evidence['reason'])
    refuse({ path: ['evidence', 'reason'], key: 'field.required' });
  const at = readPast(ctx, occurred_at, ['occurred_at']);
  const { notice: noticeId, ...known } = evidence;
  const path = ['evidence', 'notice'];
  if (noticeId !== undefined && !Number.isSafeInteger(noticeId)) refuse({ path, key: 'notice.none' });
  const notice =
    noticeId === undefined ? undefined : await namedNotice(ctx, noticeId as number, { purpose, channel, path });
  const about =
    'account' in subject.about ? { point: await pointOf(ctx, subject.about.account, channel) } : subject.about;
  const statement = {
    about,
    ...(account === undefined ? {} : { account, heldBy: account }),
    channel,
    purpose,
    intent,
    by: { voice: 'shop' },
    source,
    actor,
    evidence: known as Evidence,
    ...(notice === undefined ? {} : { notice }),
    ...(language === undefined ? {} : { language }),
  } as const;
  if (at === undefined) return statement;
  // By the time as it was told: one that runs ahead of our clock is moved, differently at each call.
  return { ...statement, at, key: naturalKey(ctx, { ...statement, at: new Date(occurred_at!) }) };
}

async function tell(ctx: Ctx, request: Request<Operator>): Promise<Answer> {
  const { body, actor } = request;
  checkSchema(newConsent, body.value ?? {});
  const statement = await readStatement(ctx, body.value as NewConsent, actor.name);
  const key = await takeKey(ctx, actor.name, request, body.value);
  const said = await sayOne(ctx, key === undefined ? statement : { ...statement, key: `key:${key}` });
  // Lifting what is not suppressed, of an address nobody ever spoke of.
  if (said.event === null) fail('not_found');
  const event = await readEvent(ctx, said.event);
  return { status: said.written ? 201 : 200, body: { ...event, state: said.state } };
}

const promotion = Type.Object(
  {
    uid: Type.String({
      minLength: 1,
      maxLength: 128,
      description: 'The guest’s identifier the flags were stated under',
    }),
    occasion: Type.Optional(Type.Enum(['order', 'registration'])),
    order: Type.Optional(
      Type.String({ minLength: 1, maxLength: 100, description: 'Your number of the order, kept as evidence' }),
    ),
    recipient: Type.Optional(
      Type.Object(
        {
          email: Type.Optional(Type.String({ minLength: 3, maxLength: 254 })),
          phone: Type.Optional(Type.String({ minLength: 3, maxLength: 40 })),
        },
        { additionalProperties: false },
      ),
    ),
    account: Type.Optional(
      Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Who was signed in when ordering' }),
    ),
  },
  { additionalProperties: false, title: 'BasketPromotion' },
);

interface Holder {
  readonly id: number;
  readonly email_key: string;
  readonly phone_e164: string | null;
  readonly email_point: number;
  readonly phone_point: number | null;
  readonly email_proven: boolean;
  readonly phone_proven: boolean;
}

async function promote(ctx: Ctx, request: Request<Operator>): Promise<Answer> {
  const { body, params, actor } = request;
  checkSchema(promotion, body.value ?? {});
  const { uid, occasion = 'order', order, recipient = {}, account } = body.value as Type.Static<typeof promotion>;
  const basket = BigInt(pathId(params, 'basket'));
  const holder =
    account === undefined
      ? undefined
      : await ctx.db.one<Holder>(sql`
          select id, email_key, phone_e164, email_point, phone_point, email_verified_at is not null as email_proven,
                 phone_verified_at is not null as phone_proven
            from account where id = ${account} and is_active`);
  if (account !== undefined && holder === undefined) refuse({ path: ['account'], key: 'statement.no_account' });
  // An address that the signed-in account holds is spoken of by its holder, any other by a guest.
  const email = recipient.email === undefined ? undefined : readAddress(ctx, recipient.email, 'email');
  const phone = recipient.phone === undefined ? undefined : readAddress(ctx, recipient.phone, 'phone');
  const ownEmail = holder !== undefined && (email === undefined || email.value === holder.email_key);
  const ownPhone =
    holder !== undefined && holder.phone_point !== null && (phone === undefined || phone.value === holder.phone_e164);
  if (await isForeignBasket(ctx, basket, uid)) refuse({ path: ['uid'], key: 'basket.foreign' });
  await takeKey(ctx, actor.name, request, body.value);
  const emailAt = ownEmail ? { point: holder.email_point } : email;
  const phoneAt = ownPhone ? { point: holder.phone_point! } : phone;
  return ok(
    await promoteBasket(ctx, {
      basket,
      uid,
      addresses: {
        ...(emailAt === undefined ? {} : { email: emailAt }),
        ...(phoneAt === undefined ? {} : { phone: phoneAt }),
      },
      account,
      voice: (kind) =>
        kind === 'email' && ownEmail
          ? { voice: 'person', proven: holder.email_proven }
          : kind === 'phone' && ownPhone
            ? { voice: 'person', proven: holder.phone_proven }
            : { voice: 'guest' },
      occasion,
      order,
      actor: actor.name,
    }),
  );
}

function readAddress(ctx: Ctx, value: string, kind: 'email' | 'phone'): { kind: 'email' | 'phone'; value: string } {
  const read = readRecipient(ctx.settings, value);
  if ('problem' in read) refuse({ path: ['recipient', kind], key: read.problem });
  if (read.kind !== kind)
    refuse({ path: ['recipient', kind], key: kind === 'email' ? 'recipient.email' : 'recipient.phone' });
  return read as { kind: typeof kind; value: string };
}

const saidSchema = object({ ...eventFields, state: text }, 'ToldConsent');
const saidExample = { ...eventExample, state: 'granted' };
const told = { type: 'array', items: object({ channel: text, event: text }) };

export const statementRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/consents',
    dialect: own,
    who: operator('consents'),
    tag: 'Consents',
    operationId: 'tellConsent',
    summary: 'Tell what a person said about an address and channel',
    description:
      'What is so already is no event: the answer is then 200 with the event that decides. An event the rules kept from changing anything says why in `outcome`. With `occurred_at`, or an `Idempotency-Key`, the same call again is the same event.',
    body: {
      required: true,
      schema: newConsent,
      example: {
        recipient: '+905321234567',
        channel: 'sms',
        granted: true,
        source: 'checkout',
        occurred_at: '2026-11-21T08:00:00Z',
        evidence: { ip: '203.0.113.7', notice: 3, order: 'A-1' },
      },
    },
    answers: {
      200: {
        description: 'Told before, or so already: the event that decides',
        schema: saidSchema,
        example: saidExample,
      },
      201: { description: 'The event', schema: saidSchema, example: saidExample },
      ...problems(400, 401, 403, 404, 409, 413, 415),
    },
    run: tell,
  }),
  route({
    method: 'POST',
    path: '/v1/baskets/{basket}/promote',
    dialect: own,
    who: operator('baskets'),
    tag: 'Baskets',
    operationId: 'promoteBasket',
    summary: 'Turn the flags of a basket into consent, once the order is placed',
    description:
      'Once: however often and however parallel it is called, there is one event per channel and every call gets the same answer. A yes for an address that a member holds opens a question to the member instead.',
    body: {
      required: true,
      schema: promotion,
      example: {
        uid: '0b0e4c8e-7d2f-4a6e-9a51-3f2f6a1c9d10',
        occasion: 'order',
        order: 'A-1',
        recipient: { email: 'guest@example.com', phone: '+905321234567' },
      },
    },
    answers: {
      200: {
        description: 'What became of each flag; empty where nothing was ticked',
        schema: object(
          { events: told, pending: told, unchanged: { type: 'array', items: object({ channel: text, reason: text }) } },
          'Promotion',
        ),
        example: {
          events: [{ channel: 'email', event: '019bd1c5-9c1e-7000-8a7b-1f2e3d4c5b6a' }],
          pending: [],
          unchanged: [{ channel: 'sms', reason: 'no_address' }],
        },
      },
      ...problems(400, 401, 403, 404, 409, 413, 415),
    },
    run: promote,
  }),
];
