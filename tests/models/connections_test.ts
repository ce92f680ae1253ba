import assert from "node:assert/strict";
import { v7 } from "uuid";
import { nameToolbelt } from "../../mcp/aggregate.ts";
import { foundTools } from "../../mcp/search.ts";
import { connectServer, createAgent, setAgentOptions } from "../../models/agents.ts";
import { changeTool, getConnection, listConnections, pickTools } from "../../models/connections.ts";
import { Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { deployServer } from "../../models/servers.ts";
import { indexTools, rankTools } from "../../models/tool_ranking.ts";
import { toolbeltOf } from "../../models/toolbelts.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const tool = (name: string, description = "", properties: Record<string, unknown> = {}) => ({
  name,
  description,
  inputSchema: { type: "object", properties, required: Object.keys(properties) },
});

const TOOLS = [
  tool("read_file", "Reads a text from the disk", {
    path: { type: "string", description: "Where it is" },
    encoding: { type: "string" },
  }),
  tool("createIssue", "Opens a ticket in the tracker", { title: { type: "string" } }),
  tool("search", "Looks for issues", { repository: { type: "string" } }),
];

for (const kind of KINDS) {
  Deno.test({
    name: `connections, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId } = world;
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "everything",
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      const otherId = await createAgent(db, user, workspaceId, "Other");
      await connectServer(db, user, agentId, serverId);
      await connectServer(db, user, otherId, serverId);
      await acceptReport(db, toolboxId, {
        epoch: v7(),
        sequence: 1,
        observations: [observation(serverId, 1, [...TOOLS, tool("unapproved")])],
        events: [],
        removed: [],
      });
      const approved = (await listTools(db, user, serverId)).filter(({ name }) =>
        name !== "unapproved"
      );
      await approveTools(db, user, serverId, approved);
      const given = async (agent = agentId) =>
        [...nameToolbelt(await toolbeltOf(db, agent), null).toolsByName.keys()].sort();
      const set = (options: { deniesByDefault?: boolean; presents?: "tools" | "search" }) =>
        setAgentOptions(db, user, agentId, {
          deniesByDefault: false,
          presents: "tools",
          ...options,
        });
      const all = ["everything__createIssue", "everything__read_file", "everything__search"];

      await t.step("by default an agent gets all that is approved, or nothing", async () => {
        assert.deepEqual(await given(), all);
        await set({ deniesByDefault: true });
        assert.deepEqual(await given(), []);
        assert.deepEqual(await given(otherId), all);
        await pickTools(db, user, agentId, serverId, ["search", "unapproved", "unknown"]);
        assert.deepEqual(await given(), ["everything__search"]);
        await set({});
        assert.deepEqual(await given(), ["everything__search"], "picked stays picked");
        await pickTools(db, user, agentId, serverId, null);
        assert.deepEqual(await given(), all);
      });

      await t.step(
        "a tool is renamed, re-described and its arguments filled, for one agent",
        async () => {
          await changeTool(db, user, agentId, serverId, "read_file", {
            name: "notes",
            description: "Reads notes",
            fixed: { path: "/notes.txt" },
            defaults: { encoding: "utf-8" },
          });
          assert.deepEqual(await given(), [all[0], "everything__notes", all[2]]);
          assert.deepEqual(await given(otherId), all);
          const shown = (await toolbeltOf(db, agentId)).tools.find(({ name }) =>
            name === "read_file"
          )!;
          assert.equal(shown.definition.description, "Reads notes");
          assert.deepEqual(shown.definition.inputSchema, {
            type: "object",
            properties: { encoding: { type: "string", default: "utf-8" } },
            required: [],
          });
          assert.equal(shown.hash, approved.find(({ name }) => name === "read_file")!.hash);
          const [connection] = await listConnections(db, user, agentId);
          const seen = connection.tools.find(({ name }) => name === "read_file")!;
          assert.deepEqual(seen.shown.inputSchema, shown.definition.inputSchema);
          assert.equal(seen.shown.name, "notes");
        },
      );

      await t.step("changeTool refuses names that are taken or do not fit, and NUL", async () => {
        const change = (name: string, change: Parameters<typeof changeTool>[5]) =>
          changeTool(db, user, agentId, serverId, name, change);
        for (const name of ["read_file", "notes", "a b", "", "x".repeat(41), "é"]) {
          await assert.rejects(change("search", { name }), (error) => {
            assert.ok(error instanceof Invalid, name);
            assert.ok(error.fields?.name, name);
            return true;
          });
        }
        await assert.rejects(change("search", { fixed: { a: "\u0000" } }), Invalid);
        await assert.rejects(change("search", { description: "x".repeat(4001) }), Invalid);
        await assert.rejects(
          change("search", { fixed: { a: "x".repeat(300_000) } }),
          /over 256 KiB/,
        );
        await assert.rejects(change("none", { name: "x" }), NotFound);
        for (const number of [0, -1, 1.5, NaN, 1e6]) {
          for (const field of ["perMinute", "atOnce"]) {
            await assert.rejects(change("search", { [field]: number }), (error) => {
              assert.ok(error instanceof Invalid && error.fields?.[field], `${field} ${number}`);
              return true;
            });
          }
        }
        assert.equal((await getConnection(db, user, agentId, serverId)).tools.length, 4);
      });

      await t.step("a tool's limits are in the toolbelt of one agent", async () => {
        const limitsOf = async (agent: string) =>
          (await toolbeltOf(db, agent)).tools.find(({ name }) => name === "search")!.limits;
        await changeTool(db, user, agentId, serverId, "search", {
          perMinute: 100_000,
          atOnce: 512,
        });
        assert.deepEqual(await limitsOf(agentId), { perMinute: 100_000, atOnce: 512 });
        assert.equal(await limitsOf(otherId), null);
        await changeTool(db, user, agentId, serverId, "search", {});
        assert.equal(await limitsOf(agentId), null);
      });

      await t.step("viewers change nothing, strangers find nothing", async () => {
        const viewer = await makeUser(world, "viewer@example.com");
        const stranger = await makeUser(world, "stranger@example.com");
        await addMember(world, workspaceId, viewer.userId, "viewer");
        await assert.rejects(pickTools(db, viewer, agentId, serverId, []), Forbidden);
        await assert.rejects(
          changeTool(db, viewer, agentId, serverId, "search", { name: "x" }),
          Forbidden,
        );
        await assert.rejects(pickTools(db, stranger, agentId, serverId, []), NotFound);
        await assert.rejects(getConnection(db, stranger, agentId, serverId), NotFound);
      });

      await t.step(
        "rankTools finds by name, title, description and arguments, best first",
        async () => {
          const index = await indexTools(
            db,
            TOOLS.map((definition) => ({ name: definition.name, definition })),
          );
          const ranked = async (query: string, limit = 10) =>
            (await rankTools(db, index, query, limit)).map((at) => TOOLS[at].name);
          assert.deepEqual(await ranked("create an issue"), ["createIssue", "search"]);
          assert.deepEqual(await ranked("create an issue", 1), ["createIssue"]);
          assert.deepEqual(await ranked("reading files"), ["read_file"]);
          assert.deepEqual(await ranked("REPOSITORY"), ["search"]);
          assert.deepEqual(await ranked("ticket"), ["createIssue"]);
          for (
            const hostile of ["", "'", "a & | ! <-> :*", "\u0000", "%", "x".repeat(5000), "the"]
          ) {
            assert.deepEqual(await ranked(hostile), [], hostile);
          }
        },
      );

      await t.step(
        "find_tools gives definitions as this agent sees them, and no others",
        async () => {
          await set({ presents: "search" });
          const find = async (args: unknown) => {
            const named = nameToolbelt(await toolbeltOf(db, agentId), null);
            const { kind, text } = await foundTools(db, named, args);
            assert.equal(kind, "result");
            return JSON.parse(text);
          };
          const found = await find({ query: "notes" });
          assert.deepEqual(
            found.structuredContent.tools.map(({ name }: { name: string }) => name),
            [
              "everything__notes",
            ],
          );
          assert.ok(!JSON.stringify(found).includes("/notes.txt"), "a fixed value is not shown");
          await pickTools(db, user, agentId, serverId, ["search"]);
          assert.equal((await find({ query: "notes" })).structuredContent, undefined);
          for (const args of [undefined, null, {}, { query: 7 }, { query: "x", limit: 0 }]) {
            assert.equal((await find(args)).isError, true);
          }
        },
      );

      await world.close();
    },
  });
}
