import { Hono } from "hono";
import type { Deps, Env } from "./deps.ts";

/** For supervisors: `/healthz` says that the process answers, `/readyz` that it can do its work. */
export function healthRoutes({ db, isMigrated }: Deps) {
  return new Hono<Env>()
    .get("/healthz", (c) => c.json({ status: "alive" }))
    .get("/readyz", async (c) => {
      const checks = { database: false, migrations: false, toolbox: false };
      try {
        const [row] = await db.asApp`select mooring.toolbox_seen() as seen`;
        checks.database = true;
        checks.toolbox = row.seen;
        checks.migrations = await isMigrated();
      } catch {
        // What stays false says it.
      }
      // Without a toolbox the pages work, and say what is wrong with it.
      const isReady = checks.database && checks.migrations;
      return c.json({ status: isReady ? "ready" : "not ready", checks }, isReady ? 200 : 503);
    });
}
