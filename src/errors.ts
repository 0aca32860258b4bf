/**
 * The catalogue of answerable errors: one row per code. The text of a code is `error.<code>` in `messages/`; what the
 * dialects make of it is in `platform/drf.ts` and `platform/problem.ts`.
 */
export const errors = {
  // The request as such
  invalid: { status: 400 },
  malformed: { status: 400 },
  not_acceptable: { status: 406 },
  not_found: { status: 404 },
  method_not_allowed: { status: 405 },
  unsupported_media_type: { status: 415 },
  too_large: { status: 413 },
  uri_too_long: { status: 414 },
  unknown_version: { status: 400 },
  // Who is asking
  not_authenticated: { status: 401 },
  invalid_token: { status: 401 },
  csrf_failed: { status: 403 },
  forbidden: { status: 403 },
  in_person: { status: 403 },
  not_allowed: { status: 403 },
  not_signed: { status: 401 },
  throttled: { status: 429 },
  // Rules
  precondition_failed: { status: 412 },
  invalid_credentials: { status: 400 },
  invalid_grant: { status: 400 },
  invalid_request: { status: 400 },
  second_factor_needed: { status: 400 },
  second_factor_wrong: { status: 400 },
  second_factor_required: { status: 403 },
  unsupported_grant_type: { status: 400 },
  invalid_client: { status: 401 },
  missing_permission: { status: 403 },
  missing_permission_in_shop: { status: 403 },
  beyond_own_end: { status: 403 },
  own_entry: { status: 403 },
  owner_entry: { status: 403 },
  last_manager: { status: 409 },
  own_account: { status: 409 },
  last_operator: { status: 409 },
  no_password: { status: 409 },
  unprocessable: { status: 422 },
  changed_since: { status: 409 },
  conflict: { status: 409 },
  idempotency_mismatch: { status: 409 },
  still_needed: { status: 409 },
  // Ourselves
  database_away: { status: 503 },
  busy: { status: 503 },
  internal: { status: 500 },
} as const satisfies Record<string, { status: number }>;

export type ErrorCode = keyof typeof errors;
