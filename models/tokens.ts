/** Bearer tokens: 256 random bits behind a prefix that says what they are; only a hash is kept. */

/** A new token, such as `mag_…` for an agent: the prefix lets secret scanners and people know it. */
export function newToken(prefix: string): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const text = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
  return `${prefix}_${text.replace(/=+$/, "")}`;
}

/**
 * The hash a token is looked up by: SHA-256 in hex. A slow password hash would add nothing to 256
 * random bits, and this one is computed on every request.
 */
export async function tokenHash(token: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
