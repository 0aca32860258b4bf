/** What the load needs of the demo shop. */
export const OWNER_PASSWORD = 'demo-assent-2026';
export const API_KEY = { authorization: 'Bearer assent_demo_key_2026' };

export const companies = [
  { id: 15, owner: 'usta@example.com', shops: [11, 18, 19] },
  { id: 16, owner: 'rakip@example.com', shops: [21, 22] },
] as const;
