/** The catalogue of loyalty connectors: one row each. */
import type { LoyaltyConnector } from './connector.ts';

export const loyaltyConnectors: Readonly<Record<string, LoyaltyConnector>> = {};
