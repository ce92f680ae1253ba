import assert from "node:assert/strict";
import { v7 } from "uuid";
import { connectServer, createAgent } from "../../models/agents.ts";
import { type ConnectionMap, mapConnections, MapFilter } from "../../models/connection_map.ts";
import { pickTools } from "../../models/connections.ts";
import { deployServer, stopServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const TOOLS = ["read", "write"].map((name) => ({ name, inputSchema: { type: "object" } }));

for (const kind of KINDS) {
  Deno.test({
    name: `connections are mapped with their state, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, owner, workspaceId, toolboxId } = world;
      const cellar = v7();
      await owner`insert into public.toolboxes (id, workspace_id, name)
        values (${cellar}, ${workspaceId}, 'cellar')`;
      await owner`update public.toolboxes set last_seen_at = now()`;
      const deploy = async (name: string, on = toolboxId) => {
        const key = crypto.randomUUID();
        const request = { workspaceId, toolboxId: on, slug: "memory", name, form: {} };
        const made = await deployServer(db, user, { ...request, idempotencyKey: key }, testKey);
        return made.serverId;
      };
      const up = await deploy("Up"), down = await deploy("Down"), fresh = await deploy("Fresh");
      const far = await deploy("Far", cellar);
      for (const [id, servers] of [[toolboxId, [up, down, fresh]], [cellar, [far]]] as const) {
        await acceptReport(db, id, {
          epoch: v7(),
          sequence: 1,
          observations: servers.map((server) => observation(server, 1, TOOLS)),
          events: [],
          removed: [],
        });
      }
      for (const id of [up, down, far]) {
        await approveTools(db, user, id, await listTools(db, user, id));
      }
      const editor = await createAgent(db, user, workspaceId, "Editor");
      const idle = await createAgent(db, user, workspaceId, "Idle");
      for (const id of [up, down, fresh, far]) await connectServer(db, user, editor, id);
      await stopServer(db, user, down);
      await owner`update public.toolboxes set last_seen_at = now() - interval '1 hour'
        where id = ${cellar}`;

      const mapped = (asked: Record<string, unknown> = {}, options = {}) =>
        mapConnections(db, user, workspaceId, MapFilter.parse(asked), options);
      const states = ({ edges }: ConnectionMap) =>
        Object.fromEntries(edges.map(({ connection, state }) => [connection.serverName, state]));

      await t.step("each says what stands in its way", async () => {
        const map = await mapped();
        assert.deepEqual(states(map), {
          Up: "connected",
          Down: "server_down",
          Fresh: "withheld",
          Far: "toolbox_offline",
        });
        const fresh = map.edges.find(({ state }) => state === "withheld")!;
        assert.deepEqual([fresh.given, fresh.withheld], [0, 2]);
        assert.match(fresh.detail, /approved as it is now/);
        assert.deepEqual(map.toolboxes.map(({ name, isOnline }) => [name, isOnline]), [
          ["This machine", true],
          ["cellar", false],
        ]);
        assert.deepEqual(map.agents.map(({ name }) => name), ["Editor", "Idle"]);
      });

      await t.step("it is narrowed down by agent, toolbox and state", async () => {
        assert.deepEqual(states(await mapped({ toolbox: cellar })), { Far: "toolbox_offline" });
        assert.deepEqual(Object.keys(states(await mapped({ state: "trouble" }))).toSorted(), [
          "Down",
          "Far",
          "Fresh",
        ]);
        const alone = await mapped({ agent: idle });
        assert.deepEqual([alone.agents.map(({ id }) => id), alone.edges], [[idle], []]);
        assert.equal((await mapped({ agent: "x", state: "y" })).edges.length, 4);
      });

      await t.step("what is too much is left out, and told", async () => {
        const map = await mapped({}, { limit: 2 });
        assert.deepEqual([map.servers.length, map.edges.length, map.matching], [2, 2, 4]);
        assert.equal(map.toolbelts.get(editor)!.length, 4, "what it costs is not");
      });

      await t.step("an agent that is allowed none of the tools is told so", async () => {
        await pickTools(db, user, editor, up, []);
        const [edge] = (await mapped({ toolbox: toolboxId })).edges
          .filter(({ serverId }) => serverId === up);
        assert.deepEqual([edge.state, edge.withheld], ["withheld", 0]);
        assert.match(edge.detail, /allowed none/);
      });

      await t.step("strangers see nothing of it", async () => {
        const stranger = await makeUser(world, "eve@example.com");
        const map = await mapConnections(db, stranger, workspaceId, MapFilter.parse({}));
        assert.deepEqual([map.agents, map.servers, map.edges, map.all.toolboxes], [[], [], [], []]);
      });

      await world.close();
    },
  });
}
