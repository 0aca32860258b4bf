/** `/openapi.json`, and `/docs`: the API reference. */
import { anyone } from '../accounts/callers.ts';
import { ok, type Route, route } from '../platform/http.ts';
import { own } from '../platform/problem.ts';

const common = { who: anyone, tag: 'Documentation', hidden: true, method: 'GET', answers: {} } as const;

/** @param document the OpenAPI document */
export const docsRoutes = (document: object): readonly Route[] => [
  route({
    ...common,
    dialect: own,
    path: '/openapi.json',
    operationId: 'openapi',
    summary: 'The OpenAPI document',
    run: async () => ok(document),
  }),
];
