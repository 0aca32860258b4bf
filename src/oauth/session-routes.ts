/** The own sign-ins, for programs in BakerOnline's dialect; its documents know none, so the shape is ours. */
import { bearer } from '../accounts/callers.ts';
import { endSessions, ownSessions } from '../accounts/sessions.ts';
import { bakerOnline } from '../platform/baker.ts';
import { fail } from '../platform/failure.ts';
import { empty, ok, type Route, route } from '../platform/http.ts';
import { problems } from '../platform/problem.ts';
import { looksLikeId } from './pages/account-pages.ts';

const common = { dialect: bakerOnline, who: bearer, tag: 'Tokens' } as const;

const nullable = (description: string): object => ({ type: ['string', 'null'], description });
const moment = (description: string): object => ({ type: 'string', format: 'date-time', description });
const properties = {
  id: { type: 'string' },
  client_id: nullable('The program that asked for tokens; null for a browser'),
  client_name: nullable('What its operator calls it'),
  device_id: nullable('As the program named it'),
  device_name: nullable('As the program named it'),
  user_agent: nullable('Header of the request that signed in'),
  created_at: moment('When they signed in'),
  renewed_at: moment('When tokens were last renewed'),
  expires_at: moment('When it is over unless it is renewed'),
  current: { type: 'boolean', description: 'The sign-in of this request' },
};

const example = {
  id: '5f1d8d0e-0c8b-4c3a-9d51-2a1f6f0a7c11',
  client_id: 'demo',
  client_name: 'Demo',
  device_id: 'till-1',
  device_name: 'Till 1',
  user_agent: null,
  created_at: '2026-03-02T09:00:00.000Z',
  renewed_at: '2026-03-02T11:00:00.000Z',
  expires_at: '2026-05-31T11:00:00.000Z',
  current: true,
};

export const sessionRoutes: readonly Route[] = [
  route({
    ...common,
    method: 'GET',
    path: '/api/sessions',
    operationId: 'listSessions',
    summary: 'List the own sign-ins and devices',
    description: 'Those that are not over, the most recently renewed first.',
    answers: {
      200: {
        description: 'The sign-ins',
        schema: {
          type: 'array',
          items: { title: 'Session', type: 'object', required: Object.keys(properties), properties },
        },
        example: [example],
      },
      ...problems(400, 401),
    },
    async run(ctx, { actor }) {
      const sessions = await ownSessions(ctx, actor.account.id);
      return ok(sessions.map((session) => ({ ...session, current: session.id === actor.family })));
    },
  }),
  route({
    ...common,
    method: 'DELETE',
    path: '/api/sessions',
    operationId: 'endOtherSessions',
    summary: 'End every other sign-in',
    answers: { 200: { description: 'Ended; the one of this request stays' }, ...problems(400, 401) },
    async run(ctx, { actor }) {
      await endSessions(ctx, actor.account.id, { but: actor.family });
      return empty(200);
    },
  }),
  route({
    ...common,
    method: 'DELETE',
    path: '/api/sessions/{id}',
    operationId: 'endSession',
    summary: 'End one sign-in',
    description: 'The one of this request too: that is signing out.',
    answers: { 200: { description: 'Ended: none of its tokens is good any more' }, ...problems(400, 401, 404) },
    async run(ctx, { actor, params }) {
      const id = params['id']!.toLowerCase();
      if (!looksLikeId(id) || !(await endSessions(ctx, actor.account.id, { only: id }))) fail('not_found');
      return empty(200);
    },
  }),
];
