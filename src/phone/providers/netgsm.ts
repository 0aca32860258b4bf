import Type from 'typebox';
import { basic } from '../../calls.ts';
import { baseAddress, codeOf, joined, objectOf, provider, type Report, refused, unreadable } from './provider.ts';

/**
 * Result codes that are not this message's fault: credentials (30), sender's name (40, 41), no credit for codes (60), too
 * many at once (80, 85), their own trouble (100, 101, 5000). Of the others (text 20, number or register 50–52,
 * parameters 70) none would be taken the next time.
 */
const passing = ['30', '40', '41', '60', '80', '85', '100', '101', '5000'];

/** Of `/sms/rest/v2/report`. 13 says that the same text went to the number within the hour: the other one got there. */
const ends: ReadonlyMap<string | undefined, Report['state']> = new Map([
  ['1', 'delivered'],
  ...['2', '3', '4', '11', '12', '14', '15', '16', '17'].map((status) => [status, 'failed'] as const),
]);

/** Turkish numbers have ten digits there, all others their international prefix. */
const numberOf = (e164: string): string => (e164.startsWith('+90') ? e164.slice(3) : `00${e164.slice(1)}`);

const FOLDED: Readonly<Record<string, string>> = {
  ç: 'c',
  Ç: 'C',
  ğ: 'g',
  Ğ: 'G',
  ı: 'i',
  İ: 'I',
  ö: 'o',
  Ö: 'O',
  ş: 's',
  Ş: 'S',
  ü: 'u',
  Ü: 'U',
};
/** The road for codes knows no Turkish letters. */
const plain = (text: string): string =>
  text
    .replaceAll(/[çÇğĞıİöÖşŞüÜ]/g, (letter) => FOLDED[letter]!)
    .normalize('NFD')
    .replaceAll(/[\u0300-\u036f]/g, '');

/** Netgsm's own name of a message: longer than any code. */
const jobOf = (value: unknown): string | undefined =>
  (typeof value === 'number' || typeof value === 'string') && /^[\w-]{1,64}$/.test(String(value))
    ? String(value)
    : undefined;

const call = (
  { usercode, password, url = 'https://api.netgsm.com.tr' }: { usercode: string; password: string; url?: string },
  path: string,
  body: object,
) =>
  ({
    method: 'POST',
    url: joined(url, path),
    headers: {
      authorization: basic(usercode, password),
      'content-type': 'application/json',
      accept: 'application/json',
    },
    body: JSON.stringify(body),
  }) as const;

/**
 * Netgsm's REST API, version 2 (https://www.netgsm.com.tr/dokuman/, and its own client, npm `@netgsm/sms`). It has no
 * idempotency key, and tells of deliveries when it is asked.
 */
export const netgsm = provider({
  label: 'Netgsm',
  schema: Type.Object(
    {
      provider: Type.Literal('netgsm'),
      usercode: Type.String({ pattern: '^[^:\\s]{1,100}$' }),
      password: Type.String({ minLength: 1, maxLength: 200 }),
      /** Sender's name, as it is registered there. */
      msgheader: Type.String({ minLength: 1, maxLength: 11 }),
      /** Codes take the road for codes, which needs a package of its own. */
      otp: Type.Optional(Type.Boolean()),
      url: baseAddress,
    },
    { additionalProperties: false },
  ),
  secrets: ['password'],
  call(setting, { to, text, purpose }) {
    const { msgheader, otp = false } = setting;
    if (otp && purpose === 'code')
      return call(setting, '/sms/rest/v2/otp', { msgheader, msg: plain(text), no: numberOf(to) });
    return call(setting, '/sms/rest/v2/send', {
      msgheader,
      encoding: 'TR',
      // Information, no advertising: codes and questions are not held against the register of consents.
      iysfilter: '0',
      messages: [{ msg: text, no: numberOf(to) }],
    });
  },
  read(_setting, answer) {
    const said = objectOf(answer);
    const code = codeOf(said['code']);
    // Refusals come as 406, and as 200 too.
    if (code === '00') {
      const id = jobOf(said['jobid'] ?? said['jobId']);
      return id === undefined ? unreadable : { taken: true, id };
    }
    if (code !== undefined) return { taken: false, again: passing.includes(code), reason: `code ${code}` };
    return answer.status >= 200 && answer.status < 300 ? unreadable : refused(answer);
  },
  ask: (setting, ids) => call(setting, '/sms/rest/v2/report', { jobids: ids, pagenumber: 0, pagesize: 100 }),
  told(answer) {
    const { jobs } = objectOf(answer);
    return (Array.isArray(jobs) ? (jobs as unknown[]) : []).flatMap((job): Report[] => {
      if (typeof job !== 'object' || job === null) return [];
      const { jobid, status, errorCode } = job as Record<string, unknown>;
      const id = jobOf(jobid);
      const state = ends.get(codeOf(status));
      if (id === undefined || state === undefined) return [];
      const detail = errorCode === undefined || errorCode === 0 ? '' : `, error ${codeOf(errorCode) ?? 'unknown'}`;
      return [{ id, state, ...(state === 'failed' ? { reason: `status ${codeOf(status)}${detail}` } : {}) }];
    });
  },
});
