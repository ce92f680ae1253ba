/** The data directory of a self-hosted Mooring: one process at a time, and the key that is kept in it. */
import { newSecretsKeyText } from "./models/secrets.ts";

/** Thrown for what a person can mend: its message alone is shown. */
export class StartError extends Error {}

/** Makes the data directory for this user alone, and tries to write in it. */
export async function prepareDirectory(path: string) {
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o700 });
    const probe = `${path}/.write-test`;
    await Deno.writeTextFile(probe, "");
    await Deno.remove(probe);
  } catch (error) {
    throw new StartError(
      `The data directory ${path} cannot be written (${
        (error as Error).message
      }). Give this user write access, or name another with DATA_DIR`,
    );
  }
}

/** Takes the data directory for this process; the lock goes with the process, however it ends. */
export async function lock(path: string): Promise<() => void> {
  const name = `${path}/lock`;
  const file = await Deno.open(name, { create: true, read: true, write: true })
    .catch((error) => cannotBe("opened", name, error));
  if (!await file.tryLock(true)) {
    throw new StartError(
      `Another Mooring already runs on the data directory ${path}. ` +
        "Stop it first, or name another directory with DATA_DIR",
    );
  }
  return () => file.close();
}

/** The secrets' key, made at the first start; without it kept secrets cannot be opened. */
export async function keyFile(path: string): Promise<string> {
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) cannotBe("read", path, error);
  }
  const text = newSecretsKeyText();
  try {
    await Deno.writeTextFile(`${path}.new`, `${text}\n`, { mode: 0o600 });
    await Deno.rename(`${path}.new`, path);
  } catch (error) {
    cannotBe("written", path, error);
  }
  return text;
}

/** Files of another user's are what a start with `sudo` leaves to one without. */
function cannotBe(done: string, path: string, error: unknown): never {
  throw new StartError(
    `${path} cannot be ${done} (${
      (error as Error).message
    }). Give this user the data directory with ` +
      "all that is in it (chown -R), or name another with DATA_DIR",
  );
}
