/** Requests that make something, by the key that their sender gave them: sent again they make nothing more. */
import { v7 } from "uuid";
import type { Database } from "./db.ts";
import { Conflict, Invalid } from "./errors.ts";
import { openSecret, sealSecret, type SecretsKey } from "./secrets.ts";
import { tokenHash } from "./tokens.ts";

/** Whose request it is, its key, and what is asked. */
export interface RepeatableRequest {
  workspaceId: string;
  userId: string;
  /** 1 to 255 characters; the person's own in this workspace. */
  key: string;
  /** All that makes the request what it is. */
  asked: string;
}

/**
 * Makes something once for a key. The answer is kept for a day, sealed, since it may hold a token that
 * is shown once; a request that failed made nothing, and its key serves again.
 *
 * @param make its answer as text
 * @returns the answer, and whether it is one of before
 * @throws {Invalid} the key was used for another request
 * @throws {Conflict} the first request is under way, or was cut off before its answer was kept
 */
export async function onceFor(
  { db, secretsKey }: { db: Database; secretsKey: SecretsKey },
  { workspaceId, userId, key, asked }: RepeatableRequest,
  make: () => Promise<string>,
): Promise<{ answer: string; isRepeated: boolean }> {
  const id = v7(), hash = await tokenHash(asked);
  const begun = await sealSecret(secretsKey, id, JSON.stringify({ hash, answer: null }));
  const [row] = await db.asApp<
    { id: string; key_id: string; iv: Uint8Array; ciphertext: Uint8Array }[]
  >`select * from mooring.begin_repeatable_request(${id}, ${workspaceId}, ${userId}, ${key},
      ${begun.keyId}, ${begun.iv}, ${begun.ciphertext})`;
  if (row.id !== id) {
    const { id: first, key_id: keyId, iv, ciphertext } = row;
    const before = JSON.parse(await openSecret(secretsKey, first, { keyId, iv, ciphertext }));
    if (before.hash !== hash) {
      throw new Invalid("This Idempotency-Key was used for another request: make a new one");
    }
    if (before.answer === null) {
      throw new Conflict(
        "The first request with this Idempotency-Key is under way, or was cut off: wait, then look " +
          "whether what it makes is there before you ask with another key",
      );
    }
    return { answer: before.answer, isRepeated: true };
  }
  let answer: string;
  try {
    answer = await make();
  } catch (error) {
    await db.asApp`select mooring.forget_repeatable_request(${id})`;
    throw error;
  }
  const done = await sealSecret(secretsKey, id, JSON.stringify({ hash, answer }));
  await db.asApp`
    select mooring.end_repeatable_request(${id}, ${done.keyId}, ${done.iv}, ${done.ciphertext})`;
  return { answer, isRepeated: false };
}
