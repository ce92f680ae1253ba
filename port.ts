/** An address that cannot be listened on, in words. */
import { StartError } from "./data_directory.ts";

/** Listens, or says in words why nothing can listen there. */
export function orStartError<T>(at: { host: string; port: number }, listen: () => T): T {
  try {
    return listen();
  } catch (error) {
    const why = whyNot(at, error);
    throw why === null ? error : new StartError(why);
  }
}

function whyNot({ host, port }: { host: string; port: number }, error: unknown): string | null {
  if (error instanceof Deno.errors.AddrInUse) {
    return `Port ${port} on ${host} is in use. Stop what uses it, or choose another with PORT`;
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return `This user may not listen on port ${port}. Choose one above 1023 with PORT`;
  }
  // Of a name that nobody knows Deno has no class of error.
  const isUnknown = /lookup address/.test(String(error));
  return isUnknown || error instanceof Deno.errors.AddrNotAvailable
    ? `${host} is no address of this machine. Choose one that is with HOST, or 0.0.0.0 for all`
    : null;
}
