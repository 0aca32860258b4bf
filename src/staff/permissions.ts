/** The catalogue of permissions: one row each, in the documented order. What a key governs is by its name; BakerOnline documents no more. */
export const permissions = [
  { key: 'company_info', governs: 'Name and details of the company' },
  { key: 'holidays', governs: 'Days on which shops are closed' },
  { key: 'newsletters', governs: 'Writing and sending newsletters' },
  { key: 'translations', governs: 'Texts in other languages' },
  { key: 'permissions', governs: 'Colleagues and what they may do', managers: true },
  { key: 'email_settings', governs: 'Texts of mails to customers' },
  { key: 'products', governs: 'Products, categories and options' },
  { key: 'shop_info', governs: 'Details of shops' },
  { key: 'checkout_settings', governs: 'How customers order and pay' },
  { key: 'time_settings', governs: 'Opening and pick-up times' },
  { key: 'discounts', governs: 'Discounts and offers' },
] as const satisfies readonly { key: string; governs: string; managers?: boolean }[];

export type Permission = (typeof permissions)[number]['key'];
export const permissionKeys: readonly Permission[] = permissions.map(({ key }) => key);
export const isPermission = (key: string): key is Permission => (permissionKeys as readonly string[]).includes(key);

/** Holders of this one manage entries. */
export const MANAGING = 'permissions' satisfies Permission;

/** What a colleague sees of their own entry: this key is missing there, in every documented version. */
export const ownKeys: readonly Permission[] = permissionKeys.filter((key) => key !== MANAGING);
