/** Rights go to people whose address is proven: anybody can register anybody's. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createOperator } from '../../src/operators.ts';
import { createCompany } from '../../src/staff/companies/companies.ts';
import { createKit, type Kit, PASSWORD } from '../kit.ts';

let kit: Kit;

beforeAll(async () => {
  kit = await createKit();
});
afterAll(() => kit.close());

const ENTRIES = (company: number): string => `/company/companies/${company}/permissions/users`;

/** The path of the newest mailed link to an address. */
async function linkTo(email: string): Promise<string> {
  await kit.jobs();
  const mails = (await kit.outbox('mail')).filter(({ recipient }) => recipient === email);
  return /https:\/\/assent\.example(\/links\/[0-9a-f]{64})/.exec(mails.at(-1)!.body)![1]!;
}

const accept = (path: string, password: string): Promise<{ status: number; text: string }> =>
  kit.send('POST', path, { form: `new_password1=${password}&new_password2=${password}` });

test('whoever registered the address of a future owner without proving it loses the account to the mail', async () => {
  const squatter = await kit.signUp({ email: 'boss@example.com', unproven: true });
  const { id } = await createCompany(kit.ctx, {
    name: { en: 'New' },
    owner: 'boss@example.com',
    shops: [],
    language: 'en',
  });
  expect((await squatter.send('GET', '/users/profile/')).status).toBe(401);
  await expect(kit.signIn('boss@example.com')).rejects.toThrow('400');
  const accepted = await accept(await linkTo('boss@example.com'), 'the-real-boss-2026');
  // Whoever was invited is shown the door.
  expect([accepted.status, accepted.text.includes('href="/account/sign-in"')]).toEqual([200, true]);
  const boss = await kit.bearer('boss@example.com', 'the-real-boss-2026');
  expect((await boss('GET', `/company/companies/${id}`)).status).toBe(200);
});

test('a colleague with a proven address keeps password and sign-ins when given an entry, one without is invited', async () => {
  const owner = await kit.signUp();
  const { id } = await createCompany(kit.ctx, { name: { en: 'Ours' }, owner: owner.email, shops: [], language: 'en' });
  const manager = await kit.bearer(owner.email);
  const proven = await kit.signUp();
  const unproven = await kit.signUp({ unproven: true });
  for (const { email, id: account } of [proven, unproven]) {
    const { status, body } = await manager('POST', ENTRIES(id), { body: { email } });
    expect([status, body.user]).toEqual([200, { id: account, email }]);
  }
  expect((await proven.send('GET', '/users/profile/')).status).toBe(200);
  expect((await unproven.send('GET', '/users/profile/')).status).toBe(401);
  await kit.jobs();
  const invited = (await kit.outbox('mail')).map(({ recipient }) => recipient);
  expect(invited).toContain(unproven.email);
  expect(invited).not.toContain(proven.email);
});

test('an operator made of an account whose address is not proven gets a new password, and the old sign-ins end', async () => {
  const squatter = await kit.signUp({ unproven: true });
  const made = await createOperator(kit.ctx, squatter.email);
  expect(made).toMatchObject({ existed: true, password: expect.stringMatching(/^[0-9a-f]{24}$/) });
  expect((await squatter.send('GET', '/v1/settings')).status).toBe(401);
  await expect(kit.signIn(squatter.email)).rejects.toThrow('400');
  expect((await (await kit.signIn(squatter.email, made.password)).send('GET', '/v1/settings')).status).toBe(200);
  const proven = await kit.signUp();
  expect(await createOperator(kit.ctx, proven.email)).toEqual({
    email: proven.email,
    password: undefined,
    existed: true,
  });
  expect((await (await kit.signIn(proven.email, PASSWORD)).send('GET', '/v1/settings')).status).toBe(200);
});
