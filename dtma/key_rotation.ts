/**
 * Another key for this toolbox, without a moment at which it has none. The new key is written beside the
 * old, the app swaps them in one statement, and then the new one takes the old one's place by a rename.
 * Wherever this is cut off, both keys are there, and the next try asks the app which of them it has.
 */
import { type AppClient, AppError } from "./app_client.ts";
import type { ToolboxKey } from "./control.ts";
import type { DataDirectory } from "./data_directory.ts";
import type { Log } from "./log.ts";
import { prove, RotateResponse, ROTATION } from "./protocol.ts";
import type { SigningKey } from "./signature.ts";

const TIMEOUT_MS = 30_000;
const ANSWER_BYTES = 64 * 1024;

export interface KeyRotationOptions {
  client: AppClient;
  directory: Pick<DataDirectory, "nextKey" | "makeNextKey" | "adoptNextKey">;
  /** What this toolbox signs with; gets the new key in place, for all who sign with it. */
  key: ToolboxKey;
  log: Log;
}

export class KeyRotation {
  readonly #options: KeyRotationOptions;

  constructor(options: KeyRotationOptions) {
    this.#options = options;
  }

  /**
   * Changes the key, as the app asked.
   * @throws {AppError | TypeError | DOMException} the app refuses, or does not answer: both keys stay
   */
  async rotate(signal?: AbortSignal): Promise<void> {
    const next = await this.#options.directory.makeNextKey();
    await this.#swap(next, signal);
  }

  /** Ends a change of key that was cut off; without one it does nothing. @throws {@link rotate} */
  async settle(signal?: AbortSignal): Promise<void> {
    const next = await this.#options.directory.nextKey();
    if (next) await this.#swap(next, signal);
  }

  async #swap(next: SigningKey, signal?: AbortSignal): Promise<void> {
    const { directory, key, log } = this.#options;
    try {
      await this.#ask(next, key.privateKey, signal);
    } catch (error) {
      if (!isUnknownSignature(error)) throw error;
      // The app has the new key already: an answer was lost, or this DTMA ended before it came.
      await this.#ask(next, next.privateKey, signal);
    }
    // From here on the app knows the new key alone. In memory first: what is sent meanwhile is good.
    key.privateKey = next.privateKey;
    await directory.adoptNextKey();
    log("info", "This toolbox has a new key");
  }

  async #ask(next: SigningKey, privateKey: string, signal?: AbortSignal): Promise<void> {
    const { client, key: { keyId } } = this.#options;
    const proof = prove(ROTATION, keyId, next.privateKey);
    const answer = await client.post("/toolbox/rotate", { publicKey: next.publicKey, proof }, {
      key: { keyId, privateKey },
      signal,
      timeoutMs: TIMEOUT_MS,
      limitBytes: ANSWER_BYTES,
    });
    if (RotateResponse.parse(answer).publicKey !== next.publicKey) {
      throw new TypeError("The app answered with another key than the one it was given");
    }
  }
}

/** The app knows the toolbox, by another key. */
export function isUnknownSignature(error: unknown): boolean {
  return error instanceof AppError && error.isFromApp && error.status === 401 &&
    /signature does not match/i.test(error.said);
}
