import assert from "node:assert/strict";
import { toolbelts } from "../../mcp/toolbelt_cache.ts";
import { createAgent, renameAgent } from "../../models/agents.ts";
import { Changes } from "../../models/changes.ts";
import { changeTool } from "../../models/connections.ts";
import { openBridge } from "./world.ts";

Deno.test({
  name: "toolbelts stay the same object until something of them changes",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await using bridge = await openBridge("echo");
    const { db, user, agentId, serverId, workspaceId } = bridge;
    const changes = new Changes(db);
    const known = toolbelts({ db, changes });
    const heard = async (table: string, agent: string, act: () => Promise<unknown>) => {
      const wakeUps = changes.subscribe((change) =>
        change.table === table && change.agent === agent
      );
      await act();
      assert.equal(await wakeUps.next(300_000), true);
      wakeUps.close();
    };
    const first = await known.of(agentId, null);
    assert.equal(await known.of(agentId, null), first);

    await heard("agents", agentId, () => renameAgent(db, user, agentId, "Another name"));
    assert.equal(await known.of(agentId, null), first, "it is read anew, and is as it was");

    const otherId = await createAgent(db, user, workspaceId, "Other");
    const other = await known.of(otherId, null);
    const [tool] = first.tools;
    await heard(
      "connections",
      agentId,
      () => changeTool(db, user, agentId, serverId, tool.name, { name: "renamed" }),
    );
    const renamed = await known.of(agentId, null);
    assert.notEqual(renamed, first);
    assert.ok(renamed.order.tools.some((name) => name.endsWith("__renamed")));
    assert.equal(await known.of(otherId, null), other, "another's change does not concern it");
    await changes.close();
  },
});
