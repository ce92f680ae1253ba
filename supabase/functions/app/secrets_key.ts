import type { Database } from "../../../models/db.ts";

/** What a key is, for a person who is to make one. */
export const SECRETS_KEY =
  /^[A-Za-z0-9_-]+:[A-Za-z0-9+/=_-]{43,44}(,[A-Za-z0-9_-]+:[A-Za-z0-9+/=_-]{43,44})*$/;

/**
 * The text of the secrets' key: the function's own secret, or else what Supabase Vault keeps as
 * `mooring_secrets_key`. Read as an isolate starts, so a change reaches all of them within an isolate's life.
 *
 * @throws {TypeError} it is in neither place, or has another form; never with what was found
 */
export async function secretsKeyText(db: Database, given: string | null): Promise<string> {
  if (given !== null) return given;
  const text = await keyInVault(db);
  if (text === null) {
    throw new TypeError(
      "SECRETS_KEY is needed, among the function's secrets or as mooring_secrets_key in Supabase Vault",
    );
  }
  if (!SECRETS_KEY.test(text.trim())) {
    throw new TypeError("mooring_secrets_key in Supabase Vault must be id:base64-of-32-bytes");
  }
  return text.trim();
}

async function keyInVault(db: Database): Promise<string | null> {
  try {
    const [{ text }] = await db.asApp<{ text: string | null }[]>`
      select mooring.secrets_key() as text`;
    return text;
  } catch (error) {
    // No such schema, or no such function yet.
    if (!["3F000", "42883"].includes((error as { code?: string }).code ?? "")) throw error;
    throw new TypeError(
      "The database lacks its migrations (supabase db push), or give SECRETS_KEY",
      {
        cause: error,
      },
    );
  }
}
