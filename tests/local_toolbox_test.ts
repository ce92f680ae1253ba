import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
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
    toolbox.willStop();
    const tries = failures().length;
    // The next one would come after two seconds.
    await delay(2500);
    assert.equal(failures().length, tries);
    await toolbox.stop();
    await Deno.remove(dataDirectory, { recursive: true });
  },
});

Deno.test({
  name: "who stops while the base image is made leaves no process and no file of it",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const dataDirectory = await Deno.makeTempDir({ prefix: "mooring-test-" });
    const [before, socket] = [Deno.env.get("DOCKER_HOST"), `${dataDirectory}/docker.sock`];
    // An engine that takes every question and answers none: the making goes on for as long as it is let.
    using engine = Deno.listen({ transport: "unix", path: socket });
    const asked = engine.accept();
    Deno.env.set("DOCKER_HOST", `unix://${socket}`);
    try {
      const toolbox = await startLocalToolbox({
        db: connect({ url: `postgres://nobody@127.0.0.1:${freePort()}/none` }),
        appUrl: "http://127.0.0.1:1",
        dataDirectory,
        prepareEngine: () => Promise.resolve({ state: "ready", version: "1", apiVersion: "1.41" }),
        log: createLog("text", () => {}),
      });
      using _ = await asked;
      assert.equal((await makersOf(dataDirectory)).length, 1);
      await toolbox.stop();
      assert.deepEqual(await makersOf(dataDirectory), []);
      await assert.rejects(Deno.stat(`${dataDirectory}/base-image`));
    } finally {
      if (before === undefined) Deno.env.delete("DOCKER_HOST");
      else Deno.env.set("DOCKER_HOST", before);
      await Deno.remove(dataDirectory, { recursive: true });
    }
  },
});

/** Processes that make a base image with this directory's engine. */
async function makersOf(dataDirectory: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const read = (file: string) => Deno.readTextFile(`/proc/${name}/${file}`).catch(() => "");
    const isMaker = (await read("cmdline")).includes("images/base.ts");
    if (isMaker && (await read("environ")).includes(dataDirectory)) found.push(name);
  }
  return found;
}
