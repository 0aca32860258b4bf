/** Scalar's browser script, out of the package that serves it. */
import scalarPlugin from '@scalar/fastify-api-reference';
import Fastify from 'fastify';

/** The script as text. Its package shows it only through a route, so that route is called once, on a server of its own. */
export async function scalar(): Promise<string> {
  const app = Fastify({ logger: false });
  await app.register(scalarPlugin, { routePrefix: '/docs', configuration: { url: '/openapi.json' } });
  const { statusCode, body } = await app.inject('/docs/js/scalar.js');
  await app.close();
  if (statusCode !== 200) throw new Error(`Scalar's package answered ${statusCode} for its script`);
  return body;
}
