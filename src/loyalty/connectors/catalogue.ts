/** The catalogue of loyalty connectors: one row each. */
import type { LoyaltyConnector } from './connector.ts';
import { http } from './http.ts';
import { openLoyalty } from './open-loyalty.ts';
import { talonOne } from './talon-one.ts';

export const loyaltyConnectors: Readonly<Record<string, LoyaltyConnector>> = {
  http,
  open_loyalty: openLoyalty,
  talon_one: talonOne,
};
