import assert from "node:assert/strict";
import { v7 } from "uuid";
import { openDatabase } from "../database.ts";

Deno.test({
  name: "the embedded database takes back the room of rows that are gone",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const dataDirectory = await Deno.makeTempDir({ prefix: "mooring-test-" });
    const { db, tidy, close } = await openDatabase({ databaseUrl: null, dataDirectory }, () => {});
    const [workspace, toolbox] = [v7(), v7()];
    await db.asApp`select mooring.put_local_toolbox(${workspace}, ${toolbox}, null)`;
    const record = () => {
      const calls = Array.from({ length: 1000 }, () => ({
        id: v7(),
        workspace_id: workspace,
        server_slug: "files",
        tool: "read",
        via: "bridge",
        started_at: new Date(Date.now() - 91 * 86_400_000).toISOString(),
        duration_ms: 1,
        outcome: "ok",
        request_bytes: 1,
        response_bytes: 1,
      }));
      return db.asApp`select mooring.record_calls(${db.asApp.json(calls)})`;
    };
    const size = async () => {
      const [{ bytes }] = await db.asApp`select pg_relation_size('public.calls')::int as bytes`;
      return bytes;
    };
    let first = 0;
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 5; i++) await record();
      if (round === 0) first = await size();
      await db.asApp.begin(async (sql) => {
        await sql`set local session authorization postgres`;
        await sql`delete from public.calls`;
      });
      await tidy!();
    }
    assert.ok(first > 0);
    assert.ok(await size() <= first, "what was removed is used again");
    await close();
    await Deno.remove(dataDirectory, { recursive: true });
  },
});

Deno.test("a start that was ended while it made the embedded database is no matter to the next", async () => {
  const dataDirectory = await Deno.makeTempDir({ prefix: "mooring-test-" });
  const module = new URL("../database.ts", import.meta.url).href;
  const options = JSON.stringify({ databaseUrl: null, dataDirectory });
  const start = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-lock", `(await import("${module}")).openDatabase(${options}, () => {})`],
    cwd: new URL("..", import.meta.url),
  }).spawn();
  const made = () =>
    Deno.stat(`${dataDirectory}/postgres/PG_VERSION`).then(() => true, () => false);
  while (!await made()) await new Promise((resolve) => setTimeout(resolve, 1));
  start.kill("SIGKILL");
  await start.status;
  // What is there by then differs by the millisecond; without this file the database never opens.
  await Deno.remove(`${dataDirectory}/postgres/global/pg_control`);

  const { isMigrated, close } = await openDatabase({ databaseUrl: null, dataDirectory }, () => {});
  assert.ok(await isMigrated());
  await close();
  const again = await openDatabase({ databaseUrl: null, dataDirectory }, (line) => {
    assert.equal(line, "Opening the embedded database");
  });
  await again.close();
  await Deno.remove(dataDirectory, { recursive: true });
});
