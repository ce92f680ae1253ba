import assert from "node:assert/strict";
import { startLocalToolbox } from "../local_toolbox.ts";
import { connect } from "../models/db.ts";
import { createLog } from "../models/log.ts";
import { eventually } from "./e2e/app.ts";
import { freePort } from "./free_port.ts";

Deno.test({
  name: "the local toolbox outlives a database that is away",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const dataDirectory = await Deno.makeTempDir({ prefix: "mooring-test-" });
    const lines: string[] = [];
    const toolbox = await startLocalToolbox({
      // Nobody answers there, as while a server starts anew.
      db: connect({ url: `postgres://nobody@127.0.0.1:${freePort()}/none` }),
      appUrl: "http://127.0.0.1:1",
      dataDirectory,
      prepareEngine: () => Promise.resolve({ state: "absent", reason: "None", advice: "None" }),
      log: createLog("text", (line) => lines.push(line)),
    });
    const failures = () => lines.filter((line) => /could not be started, and is tried/.test(line));
    await eventually("it is tried again", () => failures().length >= 2);
    assert.match(failures()[0], /ECONNREFUSED/);
    await toolbox.stop();
    await Deno.remove(dataDirectory, { recursive: true });
  },
});
