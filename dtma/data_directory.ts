/** What DTMA keeps: its key, who it is to the app, and a lock so that there is one of it. */
import { z } from "zod";
import { generateSigningKey, type SigningKey } from "./signature.ts";
import { writeWhole } from "./whole_file.ts";

const KEY_FILE = "toolbox.key";
/** A key that the app may have already, or not yet: see key_rotation.ts. */
const NEXT_KEY_FILE = "toolbox.key.next";
const STATE_FILE = "state.json";
const LOCK_FILE = "lock";
/** Read by mooring-dtma.sh. */
const STATUS_FILE = "status";

/** An older version, gone back to, reads what a newer one wrote: fields are added, never changed. */
const State = z.object({
  appUrl: z.string(),
  toolboxId: z.uuid(),
  appPublicKey: z.string(),
  /** Of the last start; the next one's must sort after it. */
  epoch: z.string().nullable(),
});

/** Kept once the toolbox is enrolled. */
export type State = z.infer<typeof State>;

/** The directory cannot be used as it is; the message says what to do. */
export class DataDirectoryError extends Error {
  override name = "DataDirectoryError";
}

export class DataDirectory {
  private constructor(readonly path: string, readonly lock: Deno.FsFile) {}

  /**
   * Makes the directory, for this user alone, and takes its lock: the lock goes with the process,
   * however it ends. Waits for a DTMA that is just ending.
   * @throws {DataDirectoryError} when another DTMA has it, or it cannot be written
   */
  static async open(path: string, waitMs = 20_000): Promise<DataDirectory> {
    try {
      await Deno.mkdir(path, { recursive: true, mode: 0o700 });
      const lock = await Deno.open(`${path}/${LOCK_FILE}`, {
        read: true,
        write: true,
        create: true,
        mode: 0o600,
      });
      const deadline = Date.now() + waitMs;
      while (!await lock.tryLock(true)) {
        if (Date.now() >= deadline) {
          lock.close();
          throw new DataDirectoryError(
            `Another DTMA runs on ${path}. Stop it first, or give this one a DTMA_DATA_DIR of its own`,
          );
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return new DataDirectory(path, lock);
    } catch (error) {
      if (error instanceof DataDirectoryError) throw error;
      throw new DataDirectoryError(
        `DTMA_DATA_DIR ${path} cannot be written: ${(error as Error).message}`,
      );
    }
  }

  close(): void {
    this.lock.close();
  }

  /** This toolbox's key, made the first time. */
  async key(): Promise<SigningKey> {
    return await this.#key(KEY_FILE) ?? await this.#makeKey(KEY_FILE);
  }

  /** The key that is to take this one's place; null when none was made. */
  nextKey(): Promise<SigningKey | null> {
    return this.#key(NEXT_KEY_FILE);
  }

  /** Makes the next key, beside the one of now; one that was made before stays. */
  async makeNextKey(): Promise<SigningKey> {
    return await this.nextKey() ?? await this.#makeKey(NEXT_KEY_FILE);
  }

  /** The next key is the one of now: by a rename, so that there is one at each moment. */
  async adoptNextKey(): Promise<void> {
    await Deno.rename(`${this.path}/${NEXT_KEY_FILE}`, `${this.path}/${KEY_FILE}`);
  }

  /** Null before enrolment. */
  async state(): Promise<State | null> {
    const text = await this.#read(STATE_FILE);
    if (text === null) return null;
    try {
      return State.parse(JSON.parse(text));
    } catch {
      throw new DataDirectoryError(
        `${this.path}/${STATE_FILE} is damaged: delete it and enrol this toolbox again`,
      );
    }
  }

  async keepState(state: State): Promise<void> {
    await this.#write(STATE_FILE, JSON.stringify(state, null, 2) + "\n");
  }

  /** The app does not know this toolbox any more: the next start enrols anew, with a new key. */
  async forgetEnrolment(): Promise<void> {
    for (const name of [STATE_FILE, KEY_FILE, NEXT_KEY_FILE]) {
      try {
        await Deno.rename(`${this.path}/${name}`, `${this.path}/${name}.revoked`);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound && name === NEXT_KEY_FILE)) throw error;
      }
    }
  }

  /** One line of how this DTMA fares; what of it a power cut loses is said again. */
  async keepStatus(line: string): Promise<void> {
    await this.#write(STATUS_FILE, `${line}\n`, { sync: false });
  }

  async #key(name: string): Promise<SigningKey | null> {
    const text = await this.#read(name);
    if (text === null) return null;
    const [privateKey, publicKey] = text.trim().split("\n");
    if (!privateKey || !publicKey) {
      throw new DataDirectoryError(
        `${this.path}/${name} is damaged: delete it and enrol this toolbox again`,
      );
    }
    return { privateKey, publicKey };
  }

  async #makeKey(name: string): Promise<SigningKey> {
    const key = await generateSigningKey();
    await this.#write(name, `${key.privateKey}\n${key.publicKey}\n`);
    return key;
  }

  async #read(name: string): Promise<string | null> {
    try {
      return await Deno.readTextFile(`${this.path}/${name}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return null;
      throw error;
    }
  }

  async #write(name: string, text: string, { sync } = { sync: true }): Promise<void> {
    await writeWhole(`${this.path}/${name}`, text, { mode: 0o600, sync });
  }
}
