/** The embedded Postgres's own thread: WebAssembly that runs a query stops all else on its thread. */
/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
import { PGlite } from "@electric-sql/pglite";
import { pg_trgm } from "@electric-sql/pglite/contrib/pg_trgm";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

/** What {@link import("./embedded.ts").openEmbedded} asks, one after the other. */
export type Request =
  | { open: { dataDirectory: string | null; path: string } }
  | { exec: string }
  | { close: true };

/** PGlite throws its file system's errors as plain objects with Emscripten's numbers. */
export type Answer = { error: null } | { error: { message: string; errno: number | null } };

let pglite: PGlite | null = null;
let server: PGLiteSocketServer | null = null;

async function serve(request: Request): Promise<void> {
  if ("open" in request) {
    const { dataDirectory, path } = request.open;
    pglite = await PGlite.create(dataDirectory ?? "memory://", { extensions: { pg_trgm } });
    endWhenBroken(pglite);
    server = new PGLiteSocketServer({ db: pglite, path, maxConnections: 2 });
    await server.start();
  } else if ("exec" in request) {
    await pglite!.exec(request.exec);
  } else {
    await server?.stop();
    await pglite?.close();
  }
}

/**
 * Ends this thread, aloud, when the database cannot go on: after a PANIC, as when its log finds the disk full,
 * or when its program broke. It would answer nothing any more, and the socket server would have whoever asks
 * wait for ever.
 */
function endWhenBroken(pglite: PGlite): void {
  const execute = pglite.execProtocolRawStream.bind(pglite);
  const end = (why: string) => setTimeout(() => reportError(new Error(why)));
  pglite.execProtocolRawStream = async (message, options) => {
    try {
      await execute(message, {
        ...options,
        onRawData(data) {
          const panic = panicIn(data);
          if (panic !== null) end(panic);
          options.onRawData(data);
        },
      });
    } catch (error) {
      end(String(error));
      throw error;
    }
  };
}

/** The message of an ErrorResponse that says PANIC (protocol 3.0, "Error and Notice Message Fields"). */
function panicIn(data: Uint8Array): string | null {
  if (data[0] !== 0x45) return null;
  const fields = new TextDecoder().decode(data.subarray(5)).split("\0");
  return fields.includes("VPANIC") ? fields.find((each) => each[0] === "M")?.slice(1) ?? "" : null;
}

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  try {
    await serve(data);
    self.postMessage({ error: null } satisfies Answer);
  } catch (error) {
    const { message, errno } = error as { message?: string; errno?: number };
    const said = message ?? JSON.stringify(error);
    self.postMessage({ error: { message: said, errno: errno ?? null } } satisfies Answer);
  }
};
