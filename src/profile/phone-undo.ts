/** Bringing back a proven number that was replaced or removed, by whoever has its link. */
import { endLinks } from '../accounts/links.ts';
import { closeOthers } from '../accounts/sessions.ts';
import { type PhoneUndo, spendUndo } from '../phone/undo.ts';
import { endPhoneChange } from '../phone/verification.ts';
import { type Ctx, transaction } from '../platform/ctx.ts';
import type { Evidence } from '../platform/evidence.ts';
import { refuse } from '../platform/failure.ts';
import { changeProfile } from './profile.ts';

/**
 * The old number is the account's again, proven as before; the present one is left as with any change (rule 5). Somebody
 * else may be in the account: its sign-ins, its open links and a number that is under way end. All or nothing.
 * @throws invalid on `token` when it was spent meanwhile; on `phone` when another account holds the number and must not
 */
export function undoPhoneChange(root: Ctx, undo: PhoneUndo, evidence: Evidence): Promise<void> {
  const { account, phone, phone_e164, phone_verified_at } = undo;
  return transaction(root, async (ctx) => {
    if (!(await spendUndo(ctx, undo))) refuse({ path: ['token'], key: 'link.invalid' });
    await changeProfile(ctx, {
      account,
      columns: {},
      flags: {},
      phone: { text: phone, e164: phone_e164, country: undefined },
      restored: phone_verified_at,
      reader: 'everything',
      source: 'account',
      evidence,
    });
    await endPhoneChange(ctx, [account]);
    await closeOthers(ctx, account);
    await endLinks(ctx, account);
  });
}
