/** The outside issuer that may say who somebody is. */
import Type from 'typebox';

/** An issuer that is trusted (OpenID Connect Core 1.0); its other addresses are read from its discovery document. */
export const oidcIssuer = Type.Object(
  {
    protocol: Type.Literal('oidc'),
    issuer: Type.String({ pattern: '^https?://[^\\s?#]+$', maxLength: 300 }),
    client_id: Type.String({ minLength: 1, maxLength: 300 }),
    client_secret: Type.String({ minLength: 1, maxLength: 1000 }),
    /** What the button says. */
    name: Type.String({ minLength: 1, maxLength: 100 }),
    /** `operators` who exist already, and `staff`: whoever has, or is invited to, rights in a company. */
    for: Type.Array(Type.Enum(['operators', 'staff']), { minItems: 1, uniqueItems: true }),
    /** Addresses of these domains only, not of their subdomains; IDNs as the DNS has them (`xn--…`). */
    domains: Type.Array(Type.String({ pattern: '^[a-z0-9.-]+\\.[a-z][a-z0-9-]*[a-z0-9]$', maxLength: 253 }), {
      minItems: 1,
      maxItems: 100,
      uniqueItems: true,
    }),
    /** Seconds by which its clock may differ from ours. */
    clock_skew: Type.Optional(Type.Integer({ minimum: 0, maximum: 300 })),
  },
  { additionalProperties: false },
);
