/** The demo shop: fixed sign-ins, ids and key, and a few hundred lifelike customers, so that everything can be tried at once. */

import { atTheMachine } from './accounts/operator-events.ts';
import { hashPassword } from './accounts/passwords.ts';
import { readPhone } from './accounts/phone-numbers.ts';
import { createApiKey } from './admin/keys.ts';
import { ConfigError } from './config.ts';
import { stateForBasket } from './consent/baskets.ts';
import { channels } from './consent/channels.ts';
import { sealAll } from './consent/ledger/seals.ts';
import { addNotice } from './consent/notices.ts';
import { createClient } from './oauth/clients.ts';
import { type Ctx, transaction } from './platform/ctx.ts';
import { sql } from './platform/db.ts';
import { changeProfile } from './profile/profile.ts';
import { register } from './profile/registration.ts';
import { createCompany } from './staff/companies/companies.ts';
import { giveEntry } from './staff/entries/pairs.ts';
import { sealWholeHistory } from './staff/history/seals.ts';

const PASSWORD = 'demo-assent-2026';
const API_KEY = 'assent_demo_key_2026';

const firstNames = [
  'Ayşe',
  'Mehmet',
  'Zeynep',
  'Emre',
  'Elif',
  'Can',
  'Defne',
  'Kerem',
  'Selin',
  'Burak',
  'İpek',
  'Deniz',
  'Nil',
  'Ozan',
  'Ece',
  'Lotte',
  'Daan',
  'Camille',
  'Louis',
  'Emma',
];
const lastNames = [
  'Yılmaz',
  'Kaya',
  'Demir',
  'Şahin',
  'Çelik',
  'Yıldız',
  'Öztürk',
  'Aydın',
  'Arslan',
  'Doğan',
  'Koç',
  'Kurt',
  'Janssens',
  'Peeters',
  'Maes',
  'Dubois',
  'Lambert',
];
const companies = ['Bakkerij De Molen', 'Patisserie Lumière', 'Fırın Kardeşler', 'Boulangerie du Parc', 'Brood & Co'];

/** A sequence that looks random and is the same each time (Park–Miller). */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

const ascii = (text: string): string =>
  text
    .normalize('NFD')
    .replaceAll(/[̀-ͯ]/g, '')
    .toLowerCase()
    .replaceAll('ı', 'i')
    .replaceAll('ş', 's')
    .replaceAll(/[^a-z]/g, '');

/**
 * Fills an empty database with the demo shop; on a database that is a demo already it does nothing.
 * @throws ConfigError on any other database: the sign-ins are public
 */
export async function seedDemo(ctx: Ctx, say: (line: string) => void): Promise<void> {
  const installation = await ctx.db.one<{ demo: boolean; used: boolean }>(sql`
    select demo, exists (select from account) or exists (select from company) or exists (select from api_key) as used from installation`);
  if (installation!.demo && installation!.used) return;
  if (installation!.used) {
    throw new ConfigError(
      '--demo is refused: this database is in use, and the demo’s sign-ins are public. Use another DATA_DIR or DATABASE_URL.',
    );
  }
  say('Making the demo shop …');
  const password = await hashPassword(PASSWORD);
  // One transaction: an interrupted start leaves no half of a shop.
  await transaction(ctx, async (tx) => {
    await tx.db.run(sql`update installation set demo = true`);
    await seedNotices(tx);
    await seedPeople(tx, password);
    // Nobody is invited to a demo: every address counts as proven.
    await tx.db.run(sql`update account set email_verified_at = date_joined`);
    await seedCompanies(tx, password);
    await createApiKey(tx, { name: 'Demo', scopes: ['*'], key: API_KEY }, atTheMachine);
    await createClient(tx, { id: 'demo', name: 'Demo back office', password_grant: true }, atTheMachine);
    await tx.db.run(sql`update account set is_operator = true where email = 'operator@example.com'`);
    await seedBaskets(tx);
  });
  await sealAll(ctx);
  await sealWholeHistory(ctx);
}

/** What people of the demo shop saw when they ticked. */
const notices: Record<string, { text: string; withdrawal: string }> = {
  en: {
    text: 'Yes, Usta Bakery may tell me about offers and news on this channel. I can stop that at any time.',
    withdrawal: 'In the account, on the preference page, or by the link in every mail.',
  },
  tr: {
    text: 'Evet, Usta Fırın bana bu kanaldan kampanya ve haberlerini iletebilir. Bunu istediğim an durdurabilirim.',
    withdrawal: 'Hesapta, tercih sayfasında ya da her e-postadaki bağlantıyla.',
  },
  nl: {
    text: 'Ja, Bakkerij Usta mag mij via dit kanaal over aanbiedingen en nieuws vertellen. Ik kan dat altijd stoppen.',
    withdrawal: 'In het account, op de voorkeurenpagina of via de link in elke mail.',
  },
  fr: {
    text: 'Oui, la boulangerie Usta peut m’informer de ses offres et nouveautés par ce canal. Je peux y mettre fin à tout moment.',
    withdrawal: 'Dans le compte, sur la page de préférences ou par le lien de chaque e-mail.',
  },
};

async function seedNotices(ctx: Ctx): Promise<void> {
  for (const [language, { text, withdrawal }] of Object.entries(notices)) {
    const version = '2026-11';
    const names = channels.map(({ name }) => name);
    await addNotice(ctx, { purpose: 'marketing', channels: names, language, version, text, withdrawal }, 'demo');
  }
}

interface Person {
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  readonly phone?: string;
  readonly flags?: Parameters<typeof register>[1]['flags'];
  readonly gender?: 'male' | 'female';
  readonly born?: string;
}

async function sign(ctx: Ctx, password: string, person: Person): Promise<number> {
  const { email, first_name, last_name, phone, flags = {}, gender, born } = person;
  const number = phone === undefined ? undefined : readPhone(ctx.settings, phone);
  const account = await register(ctx, {
    email,
    password,
    first_name,
    last_name,
    language_code: 'en',
    ...(number === undefined || 'problem' in number ? {} : { phone: number }),
    flags,
    evidence: { ip: '203.0.113.7', user_agent: 'Mozilla/5.0 (demo)', demo: true },
  });
  if (gender !== undefined || born !== undefined) {
    await changeProfile(ctx, {
      account,
      columns: { ...(gender === undefined ? {} : { gender }), ...(born === undefined ? {} : { date_of_birth: born }) },
      flags: {},
      reader: 'everything',
      source: 'demo',
      evidence: {},
    });
  }
  return account;
}

async function seedPeople(ctx: Ctx, password: string): Promise<void> {
  const fixed: Person[] = [
    {
      email: 'ada@example.com',
      first_name: 'Ada',
      last_name: 'Yılmaz',
      phone: '05321234567',
      gender: 'female',
      born: '1990-12-10',
      flags: { email_allowed: true, sms_allowed: true },
    },
    {
      email: 'bora@example.com',
      first_name: 'Bora',
      last_name: 'Kaya',
      phone: '05337654321',
      gender: 'male',
      born: '1985-03-02',
      flags: { email_allowed: true },
    },
    { email: 'usta@example.com', first_name: 'Usta', last_name: 'Demir' },
    { email: 'cirak@example.com', first_name: 'Çırak', last_name: 'Demir' },
    { email: 'rakip@example.com', first_name: 'Rakip', last_name: 'Şahin' },
    { email: 'operator@example.com', first_name: 'Olga', last_name: 'Operator' },
  ];
  for (const person of fixed) await sign(ctx, password, person);
  const pick = sequence(2026);
  for (let n = 0; n < 300; n += 1) {
    const first_name = firstNames[pick(firstNames.length)]!;
    const last_name = lastNames[pick(lastNames.length)]!;
    await sign(ctx, password, {
      email: `${ascii(first_name)}.${ascii(last_name)}${n}@example.com`,
      first_name,
      last_name,
      ...(pick(10) < 8 ? { phone: `0${530 + pick(30)}${String(1_000_000 + pick(9_000_000))}` } : {}),
      ...(pick(3) > 0 ? { gender: pick(2) === 0 ? ('female' as const) : ('male' as const) } : {}),
      ...(pick(2) > 0
        ? {
            born: `${1955 + pick(50)}-${String(1 + pick(12)).padStart(2, '0')}-${String(1 + pick(28)).padStart(2, '0')}`,
          }
        : {}),
      flags: {
        ...(pick(10) < 6 ? { email_allowed: true } : {}),
        ...(pick(10) < 5 ? { sms_allowed: true } : {}),
        ...(pick(10) < 2 ? { whatsapp_allowed: true } : {}),
        ...(pick(10) < 3 ? { call_allowed: pick(2) === 0 } : {}),
      },
    });
  }
  // Some have changed their minds since.
  const regretting = await ctx.db.rows<{ id: number }>(
    sql`select id from account where id % 11 = 3 and email like '%@example.com' order by id`,
  );
  for (const { id } of regretting.slice(1)) {
    await changeProfile(ctx, {
      account: id,
      columns: {},
      flags: { email_allowed: false, sms_allowed: false },
      reader: 'everything',
      source: 'demo',
      evidence: {},
    });
  }
}

async function seedCompanies(ctx: Ctx, password: string): Promise<void> {
  const names = (text: string): Record<string, string> => ({ en: text, nl: text });
  await createCompany(ctx, {
    name: names('Usta Bakery'),
    owner: 'usta@example.com',
    shops: [names('Moda'), names('Kadıköy'), names('Beşiktaş')],
    language: 'en',
    ids: { company: 15, shops: [11, 18, 19], entry: 16 },
  });
  await createCompany(ctx, {
    name: names('Rakip Bakery'),
    owner: 'rakip@example.com',
    shops: [names('Gent'), names('Brugge')],
    language: 'en',
    ids: { company: 16, shops: [21, 22], entry: 26 },
  });
  const rival = await sign(ctx, password, { email: 'kalfa@example.com', first_name: 'Kalfa', last_name: 'Aydın' });
  await ctx.db.run(sql`update account set email_verified_at = date_joined where id = ${rival}`);
  await seedEntry(ctx, 15, 'cirak@example.com', [11, 19], ['products', 'permissions', 'time_settings'], 17);
  await seedEntry(ctx, 16, 'kalfa@example.com', [21], ['products', 'holidays'], 27);
  // What comes next gets numbers above the fixed ones.
  await ctx.db.run(sql`
    select setval(pg_get_serial_sequence('company', 'id'), 100), setval(pg_get_serial_sequence('shop', 'id'), 100),
           setval(pg_get_serial_sequence('entry', 'id'), 100)`);
  const pick = sequence(15);
  const staff = await ctx.db.rows<{ id: number; email: string }>(
    sql`select id, email from account where id % 7 = 1 order by id limit 40`,
  );
  for (const [index, title] of companies.entries()) {
    const owner = staff[index * 8]!;
    const made = await createCompany(ctx, {
      name: names(title),
      owner: owner.email,
      shops: Array.from({ length: 1 + pick(4) }, (_, n) => names(`Shop ${n + 1}`)),
      language: 'en',
    });
    for (const { email } of staff.slice(index * 8 + 1, index * 8 + 5)) {
      const shops = made.shops.slice(0, 1 + pick(made.shops.length)).map((shop) => shop.id);
      await seedEntry(ctx, made.id, email, shops, ['products', 'holidays', 'discounts'].slice(0, 1 + pick(3)));
    }
  }
}

/** A colleague with each of these rights in each of these shops. @param id that the entry gets */
async function seedEntry(
  ctx: Ctx,
  company: number,
  email: string,
  shops: readonly number[],
  permissions: readonly string[],
  id?: number,
): Promise<void> {
  if (id !== undefined) await ctx.db.run(sql`select setval(pg_get_serial_sequence('entry', 'id'), ${id - 1})`);
  const grant = shops.flatMap((shop) => permissions.map((permission) => ({ shop, permission })));
  const who = { caller: { name: 'demo', account: null }, author: { name: 'demo', evidence: {} } };
  await giveEntry(ctx, { ...who, company, email, language: 'en', wish: { by: 'pairs', edit: { grant }, roles: {} } });
}

async function seedBaskets(ctx: Ctx): Promise<void> {
  const pick = sequence(77);
  for (let n = 0; n < 40; n += 1) {
    await stateForBasket(ctx, {
      basket: BigInt(1000 + n),
      uid: `demo-guest-${n}`,
      flags: { email_allowed: pick(2) === 0, sms_allowed: pick(3) === 0 },
      evidence: { ip: '203.0.113.9', demo: true },
    });
  }
}
