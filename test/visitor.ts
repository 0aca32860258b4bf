/** Somebody who looks at our pages: keeps cookies, and sends forms with what the last page put into them. */
import { TOTP } from 'otpauth';
import { type Kit, PASSWORD, type Reply, type Send } from './kit.ts';

export interface Visitor {
  readonly cookies: Map<string, string>;
  get(path: string, headers?: Record<string, string>): Promise<Reply>;
  /** Sends a form. `token`: another CSRF token than the page's, null for none. */
  post(
    path: string,
    fields?: Record<string, string>,
    more?: { token?: string | null; headers?: Record<string, string> },
  ): Promise<Reply>;
  /** A hidden field of the last page. */
  hidden(name: string): string;
}

/** @param cookies of a client that is signed in already; they are shared with it */
export function visitorOf({ send }: { send: Send }, cookies = new Map<string, string>()): Visitor {
  let page = '';
  const exchange = async (method: string, path: string, form?: string, headers = {}): Promise<Reply> => {
    const cookie = [...cookies].map(([key, value]) => `${key}=${value}`).join('; ');
    const reply = await send(method, path, {
      ...(form === undefined ? {} : { form }),
      headers: { ...(cookie === '' ? {} : { cookie }), ...headers },
    });
    for (const line of [reply.headers['set-cookie'] ?? []].flat() as string[]) {
      const [, key, value] = /^([^=]+)="?([^;"]*)/.exec(line)!;
      if (/max-age=0/i.test(line)) cookies.delete(key!);
      else cookies.set(key!, value!);
    }
    if (reply.text.startsWith('<!doctype')) page = reply.text;
    return reply;
  };
  const hidden = (name: string): string => new RegExp(`name="${name}" value="([^"]*)"`).exec(page)?.[1] ?? '';
  return {
    cookies,
    hidden,
    get: (path, headers) => exchange('GET', path, undefined, headers),
    post(path, fields = {}, { token, headers } = {}) {
      const csrf = token === undefined ? hidden('csrfmiddlewaretoken') : token;
      const all = new URLSearchParams(fields);
      if (csrf !== null) all.set('csrfmiddlewaretoken', csrf);
      return exchange('POST', path, all.toString(), headers);
    },
  };
}

/** The code an app shows for this secret. @param steps from now, of 30 seconds */
export const codeOf = (kit: Kit, secret: string, steps = 0): string =>
  new TOTP({ secret }).generate({ timestamp: kit.ctx.clock.now().getTime() + steps * 30_000 });

/** What a set-up page shows, without its groups. */
export const secretOn = ({ text }: Reply): string =>
  (/<code class="secret">([A-Z2-7 ]+)<\/code>/.exec(text)?.[1] ?? '').replaceAll(' ', '');

/** The recovery codes of a page. */
export const codesOn = ({ text }: Reply): string[] =>
  [...text.matchAll(/<li><code>([\d ]+)<\/code><\/li>/g)].map(([, code]) => code!);

/** Sets a second factor up through the pages; the clock then moves on, so that the next code is a new one. */
export async function enrol(
  kit: Kit,
  visitor: Visitor,
  password = PASSWORD,
): Promise<{ secret: string; codes: string[] }> {
  await visitor.get('/account/second-factor');
  const begun = await visitor.post('/account/second-factor', { password });
  const secret = secretOn(await visitor.get(String(begun.headers['location'])));
  const done = await visitor.post('/account/second-factor/set-up', { otp: codeOf(kit, secret) });
  if (done.status !== 200) throw new Error(`the set-up answered ${done.status}: ${done.text}`);
  kit.advance(60_000);
  return { secret, codes: codesOn(done) };
}
