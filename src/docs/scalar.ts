/** Scalar's browser script, out of the package that serves it. */
import Fastify from 'fastify';

/**
 * The script as text, 4.3 MB. Its package shows it only through a route, so that route is called once, on a server of its
 * own. The package is loaded with it, not at the start: it takes 0.2 s, and most processes never show the reference.
 */
export async function scalar(): Promise<string> {
  const { default: plugin } = await import('@scalar/fastify-api-reference');
  const app = Fastify({ logger: false });
  await app.register(plugin, { routePrefix: '/docs', configuration: { url: '/openapi.json' } });
  const { statusCode, body } = await app.inject('/docs/js/scalar.js');
  await app.close();
  if (statusCode !== 200) throw new Error(`Scalar's package answered ${statusCode} for its script`);
  return body;
}
