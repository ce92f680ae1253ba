/** The embedded Postgres: PGlite behind a socket, so that postgres.js speaks to it as to any other. */
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

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

/**
 * Opens (makes, at first) the embedded database and its socket.
 *
 * PGlite is one session whatever connects to it, and the socket server lets messages of several
 * connections interleave (`portal "" does not exist`, seen with pglite-socket 0.2.17): one
 * connection at a time is let in, which costs nothing where there is one session anyway.
 *
 * @param dataDirectory where the database is kept, or null for one in memory
 * @param socketDirectory an existing directory of mode 0700
 */
export async function openEmbedded(
  dataDirectory: string | null,
  socketDirectory: string,
): Promise<Embedded> {
  const path = `${socketDirectory}/.s.PGSQL.5432`;
  // What a killed predecessor left; that no other start uses it is main's lock to assure.
  await Deno.remove(path).catch(() => {});
  const pglite = await PGlite.create(dataDirectory ?? "memory://");
  const server = new PGLiteSocketServer({ db: pglite, path, maxConnections: 2 });
  await server.start();
  return {
    socketDirectory,
    async becomeApp() {
      await pglite.exec("set session authorization mooring_app");
    },
    async close() {
      await server.stop();
      await pglite.close();
    },
  };
}
