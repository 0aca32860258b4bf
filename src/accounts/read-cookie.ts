/**
 * The cookie that says which version of their consents a browser has read, so that a form from before a withdrawal does
 * not undo it. It proves nothing and opens nothing: whoever changes it lies to themselves.
 */
export const READ_COOKIE = 'consent_version';

/** @param version as `consentVersion` writes it */
export const readCookie = (version: string, secure: boolean): string =>
  `${READ_COOKIE}=${version}; HttpOnly; Path=/; SameSite=Lax${secure ? '; Secure' : ''}`;

/** A new sign-in knows everything from before it: what an earlier one had read counts no more. */
export const forgetReadCookie = `${READ_COOKIE}=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/; SameSite=Lax`;
