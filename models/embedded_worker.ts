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
    server = new PGLiteSocketServer({ db: pglite, path, maxConnections: 2 });
    await server.start();
  } else if ("exec" in request) {
    await pglite!.exec(request.exec);
  } else {
    await server?.stop();
    await pglite?.close();
  }
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
