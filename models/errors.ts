/** What a person's request can fail with. Routes turn these into pages; nothing else is shown. */

/** There is no such thing, or the asker may not see it: the two are told alike on purpose. */
export class NotFound extends Error {
  override name = "NotFound";
}

/** The asker sees the thing but may not do this with it. */
export class Forbidden extends Error {
  override name = "Forbidden";
}

/** It changed since the asker looked. */
export class Conflict extends Error {
  override name = "Conflict";
}

/** Said where a row could not be written since what it hangs on is gone. */
export const REMOVED_MEANWHILE = "What this is about was removed meanwhile: look again";

/** The form does not hold; `fields` has a sentence for each wrong field, by form field name. */
export class Invalid extends Error {
  override name = "Invalid";
  constructor(message: string, readonly fields: Record<string, string> = {}) {
    super(message);
  }
}

/** True for Postgres's "insufficient privilege", which a policy's WITH CHECK raises too. */
export function isDenied(error: unknown): boolean {
  return (error as { code?: string } | null)?.code === "42501";
}
