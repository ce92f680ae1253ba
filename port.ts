/** A port that is taken, in words. */
import { StartError } from "./data_directory.ts";

/** Listens, and says it in words when something else does already. */
export function orPortInUse<T>(at: { host: string; port: number }, listen: () => T): T {
  try {
    return listen();
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new StartError(
        `Port ${at.port} on ${at.host} is in use. Stop what uses it, or choose another with PORT`,
      );
    }
    throw error;
  }
}
