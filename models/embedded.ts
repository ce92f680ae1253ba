/** The embedded Postgres: PGlite behind a socket, so that postgres.js speaks to it as to any other. */
import type { Answer, Request } from "./embedded_worker.ts";

export interface Embedded {
  /** Where the unix socket is: only this user may enter the directory. */
  socketDirectory: string;
  /**
   * From now on every connection is `mooring_app`, as a given Postgres makes it by a start-up
   * parameter, which PGlite does not read. To be called once, after the migrations.
   */
  becomeApp(): Promise<void>;
  close(): Promise<void>;
}

/** The embedded database cannot be opened. */
export class EmbeddedError extends Error {
  override name = "EmbeddedError";
  constructor(message: string, readonly isDiskFull: boolean) {
    super(message);
  }
}

const EMSCRIPTEN_ENOSPC = 51;

/**
 * Opens (makes, at first) the embedded database and its socket, on a thread of its own.
 *
 * PGlite is one session whatever connects to it, and the socket server lets messages of several
 * connections interleave (`portal "" does not exist`, seen with pglite-socket 0.2.17): one
 * connection at a time is let in, which costs nothing where there is one session anyway.
 *
 * @param dataDirectory where the database is kept, or null for one in memory
 * @param socketDirectory an existing directory of mode 0700
 * @throws {EmbeddedError}
 */
export async function openEmbedded(
  dataDirectory: string | null,
  socketDirectory: string,
): Promise<Embedded> {
  const path = `${socketDirectory}/.s.PGSQL.5432`;
  // What a killed predecessor left; that no other start uses it is main's lock to assure.
  await Deno.remove(path).catch(() => {});
  const worker = new Worker(import.meta.resolve("./embedded_worker.ts"), { type: "module" });
  const ask = asking(worker);
  try {
    await ask({ open: { dataDirectory, path } });
  } catch (error) {
    worker.terminate();
    throw error;
  }
  return {
    socketDirectory,
    becomeApp: () => ask({ exec: "set session authorization mooring_app" }),
    async close() {
      await ask({ close: true });
      worker.terminate();
    },
  };
}

/** Asks the worker, one thing at a time. */
function asking(worker: Worker): (request: Request) => Promise<void> {
  let asked: PromiseWithResolvers<void> | null = null;
  worker.onmessage = ({ data: { error } }: MessageEvent<Answer>) => {
    const { resolve, reject } = asked!;
    asked = null;
    if (error) reject(new EmbeddedError(error.message, error.errno === EMSCRIPTEN_ENOSPC));
    else resolve();
  };
  worker.onerror = (event) => {
    event.preventDefault();
    const broken = new EmbeddedError(
      `The embedded database broke off (${
        event.message.replace(/^Uncaught Error: /, "")
      }). Nothing that was saved is lost: start ` +
        "Mooring again, and free some of its disk first if that is full",
      false,
    );
    // While the app works with it: this ends the process, which could serve nothing any more.
    if (!asked) throw broken;
    asked.reject(broken);
  };
  return (request) => {
    asked = Promise.withResolvers();
    worker.postMessage(request);
    return asked.promise;
  };
}
