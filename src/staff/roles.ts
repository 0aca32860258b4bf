/** Roles: templates of permissions, from the setting STAFF_ROLES. */
import type { Ctx } from '../platform/ctx.ts';
import { type Permission, permissionKeys } from './permissions.ts';

/** Every role with the permissions it stands for now. */
export const rolesOf = (ctx: Ctx): Readonly<Record<string, readonly Permission[]>> =>
  Object.fromEntries(
    Object.entries(ctx.settings.get('STAFF_ROLES')).map(([role, listed]) => [
      role,
      listed.includes('*') ? permissionKeys : (listed as Permission[]),
    ]),
  );
