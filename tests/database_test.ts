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
