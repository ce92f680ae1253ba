import assert from "node:assert/strict";
import { startLocalToolbox } from "../local_toolbox.ts";
import { createLog } from "../models/log.ts";
import { KINDS } from "./models/databases.ts";

Deno.test({
  name: "startLocalToolbox goes on when the database does not answer",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const dataDirectory = await Deno.makeTempDir({ prefix: "mooring-local-" });
    const { db, close } = await KINDS[0].open();
    await close();
    const told = Promise.withResolvers<string>();
    const toolbox = await startLocalToolbox({
      db,
      appUrl: "http://127.0.0.1:9",
      dataDirectory,
      prepareEngine: () => Promise.resolve({ state: "absent", reason: "None", advice: "None" }),
      log: createLog("text", (line) => line.includes("could not be started") && told.resolve(line)),
    });
    assert.match(await told.promise, /local toolbox's DTMA could not be started/);
    await toolbox.stop();
    await Deno.remove(dataDirectory, { recursive: true });
  },
});
