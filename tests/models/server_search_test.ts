import assert from "node:assert/strict";
import { v7 } from "uuid";
import { connectServer, createAgent } from "../../models/agents.ts";
import { actOnServers, whatGoesAlong } from "../../models/server_acts.ts";
import { searchServers, ServerFilter } from "../../models/server_search.ts";
import { deployServer, getServer, removeServer, stopServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const TOOL = { name: "read", description: "Reads", inputSchema: { type: "object" } };

for (const kind of KINDS) {
  Deno.test({
    name: `servers are searched and acted on together, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, owner, workspaceId, toolboxId } = world;
      const deploy = async (slug: string, name: string) => {
        const form: Record<string, string> = slug === "github"
          ? { "env.GITHUB_PERSONAL_ACCESS_TOKEN": "ghp" }
          : {};
        const idempotencyKey = crypto.randomUUID();
        const request = { workspaceId, toolboxId, slug, name, form, idempotencyKey };
        return (await deployServer(db, user, request, testKey)).serverId;
      };
      const memory = await deploy("memory", "Memory"), git = await deploy("github", "Issues");
      const notes = await deploy("memory", "Notes 100%_of"), all = [memory, git, notes];
      await owner`update public.toolboxes set last_seen_at = now()`;
      const epoch = v7();
      let sequence = 0;
      const report = (...observations: ReturnType<typeof observation>[]) =>
        acceptReport(db, toolboxId, {
          epoch,
          sequence: ++sequence,
          observations,
          events: [],
          removed: [],
        });
      await report(...all.map((id) => observation(id, 1, [TOOL])));
      for (const id of all) await approveTools(db, user, id, await listTools(db, user, id));

      const found = async (asked: Record<string, unknown>) => {
        const page = await searchServers(db, user, workspaceId, ServerFilter.parse(asked));
        return page.servers.map(({ id }) => id);
      };

      await t.step("each word is looked for in name, slug, package and toolbox", async () => {
        assert.deepEqual(await found({ text: "memory" }), [memory, notes]);
        assert.deepEqual(await found({ text: "server-memory NOTES" }), [notes]);
        assert.deepEqual(await found({ text: "100%_" }), [notes], "signs of a pattern are none");
        assert.deepEqual(await found({ text: "machine issues" }), [git]);
        assert.deepEqual(await found({ text: "nothing of the kind" }), []);
      });

      await t.step("what of a link does not hold is as if it were not there", async () => {
        const asked = {
          status: "x",
          toolbox: "'",
          kind: "0",
          needs: "",
          sort: "; drop",
          page: "-1",
        };
        assert.deepEqual(await found(asked), [git, memory, notes]);
        assert.deepEqual(await found({ page: "999" }), [git, memory, notes], "the last page");
      });

      await t.step("what waits for a person is found by why, with how many there are", async () => {
        assert.deepEqual(await found({ needs: "any" }), []);
        await owner`insert into public.egress_denials
          (server_id, workspace_id, host, port, reason, first_at, last_at)
          values (${git}, ${workspaceId}, 'x.example', 443, 'no', now(), now())`;
        const crashed = observation(notes, 1, [{ ...TOOL, description: "Reads and sends" }]);
        const down = {
          state: "failed" as const,
          detail: "It ended",
          since: new Date().toISOString(),
        };
        await report({
          ...crashed,
          gaveUp: true,
          layers: { ...crashed.layers, container: down },
        });
        assert.deepEqual(await found({ needs: "denials" }), [git]);
        assert.deepEqual(await found({ needs: "definitions" }), [notes]);
        assert.deepEqual(await found({ needs: "crash_loop" }), [notes]);
        const { facets } = await searchServers(
          db,
          user,
          workspaceId,
          ServerFilter.parse({ status: "failed" }),
        );
        assert.deepEqual(facets.needs.map(({ value, count }) => [value, count]), [
          ["any", 1],
          ["definitions", 1],
          ["crash_loop", 1],
        ]);
        assert.deepEqual(
          Object.fromEntries(facets.status.map(({ value, count }) => [value, count])),
          { failed: 1, running: 2 },
          "as many as there would be with another status",
        );
        // One whose image cannot be made failed, and crashed never.
        await report({
          ...crashed,
          gaveUp: true,
          layers: { ...crashed.layers, image: down },
        });
        assert.deepEqual(await found({ needs: "crash_loop" }), []);
      });

      await t.step("they come in the order that is asked for, names among equals", async () => {
        assert.deepEqual(await found({ sort: "-name" }), [notes, memory, git]);
        assert.deepEqual(await found({ sort: "status" }), [notes, git, memory]);
        assert.deepEqual(await found({ sort: "-status" }), [git, memory, notes]);
        assert.deepEqual(await found({ sort: "deployed" }), [notes, git, memory]);
        assert.deepEqual(await found({ status: "running", kind: "npm" }), [git, memory]);
      });

      await t.step("an act says of each server what became of it", async () => {
        await stopServer(db, user, git);
        const gone = v7();
        const acted = await actOnServers(db, user, workspaceId, [memory, git, gone], "stop");
        assert.deepEqual(acted.map(({ serverId, outcome }) => [serverId, outcome]), [
          [git, "needless"],
          [memory, "done"],
          [gone, "failed"],
        ]);
        assert.match(acted[2].reason!, /removed meanwhile/);
        assert.equal((await getServer(db, user, memory)).running, false);
        const events = await owner`select message from public.events
          where server_id = ${git} and message = 'Stopped'`;
        assert.equal(events.length, 1, "what was so already is no event");

        await removeServer(db, user, notes);
        const [restarted] = await actOnServers(db, user, workspaceId, [notes], "restart");
        assert.match(restarted.reason!, /being removed/);
        await assert.rejects(actOnServers(db, user, workspaceId, [], "stop"), /tick at least one/);
        const many = Array.from({ length: 201 }, () => v7());
        await assert.rejects(actOnServers(db, user, workspaceId, many, "stop"), /at most 200/);
      });

      await t.step("a viewer is told no, and a stranger's servers are not in reach", async () => {
        const viewer = await makeUser(world, "vic@example.com");
        await addMember(world, workspaceId, viewer.userId, "viewer");
        const [refused] = await actOnServers(db, viewer, workspaceId, [memory], "start");
        assert.match(refused.reason!, /Only members/);
        const stranger = await makeUser(world, "eve@example.com");
        const [unknown] = await actOnServers(db, stranger, workspaceId, [memory], "start");
        assert.deepEqual([unknown.outcome, unknown.name], ["failed", "A server that is gone"]);
        assert.deepEqual(await whatGoesAlong(db, stranger, workspaceId, [memory]), []);
        assert.equal((await getServer(db, user, memory)).running, false);
      });

      await t.step("what goes with a server is named before it is removed", async () => {
        const agentId = await createAgent(db, user, workspaceId, "Editor");
        await connectServer(db, user, agentId, memory);
        const along = await whatGoesAlong(db, user, workspaceId, [memory, git, notes]);
        assert.deepEqual(
          along.map(({ server, agents }) => [server.id, agents]),
          [[git, []], [memory, ["Editor"]]],
          "one that is being removed is none to ask about",
        );
      });

      await world.close();
    },
  });
}
