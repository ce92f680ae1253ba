/** How servers speak, from the form to the toolbox. */
import assert from "node:assert/strict";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { HostFacts, ServerSpec } from "../../dtma/protocol.ts";
import { putBuiltinCatalog } from "../../models/catalog_entries.ts";
import { Invalid } from "../../models/errors.ts";
import { listGenerations } from "../../models/generations.ts";
import { deployServer, getServer, reconfigureServer } from "../../models/servers.ts";
import { desiredOf, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";
import { MADE_ENTRIES } from "./made_entries.ts";

const factsWith = (known: Partial<HostFacts>): HostFacts =>
  HostFacts.parse({
    dtmaVersion: "0",
    protocolVersion: 2,
    address: "http://127.0.0.1:1",
    engine: { state: "absent", reason: "none", advice: "none" },
    ...known,
  });

for (const kind of KINDS) {
  Deno.test({
    name: `how servers speak, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId, enrolmentToken } = world;
      await putBuiltinCatalog(db, [...builtin, ...MADE_ENTRIES]);
      const publicKey = "k".repeat(43);
      const knows = factsWith({ knowsTransports: true });
      await enrolToolbox(db, { token: enrolmentToken, publicKey, facts: knows });
      await touchToolbox(db, toolboxId, knows);
      const deploy = async (slug: string, form: Record<string, string> = {}) =>
        (await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug,
          form,
          idempotencyKey: crypto.randomUUID(),
        }, testKey)).serverId;
      const specOf = async (id: string) => {
        const { servers } = await desiredOf(db, toolboxId, testKey);
        return ServerSpec.parse(servers.find(({ serverId }) => serverId === id));
      };
      const sse = { "option.transport": "sse", "option.port": "8080", "option.path": "/sse" };
      let [byEntry, byPerson] = ["", ""];

      await t.step("a toolbox is told what the entry declares, or else the person", async () => {
        byEntry = await deploy("made-http");
        const { transport, arguments: args, environment } = await specOf(byEntry);
        assert.deepEqual(transport, { type: "streamable-http", port: 3001, path: "/mcp" });
        assert.deepEqual([args, environment], [["streamableHttp"], { PORT: "3001" }]);
        byPerson = await deploy("made-npm", sse);
        assert.deepEqual((await specOf(byPerson)).transport, {
          type: "sse",
          port: 8080,
          path: "/sse",
        });
        assert.deepEqual((await specOf(await deploy("made-npm"))).transport, { type: "stdio" });
      });

      await t.step("what the entry declares is not made the person's own", async () => {
        const { config } = await getServer(db, user, byEntry);
        assert.equal(config.options.transport, null);
        await reconfigureServer(db, user, byEntry, {
          form: {
            "option.transport": "streamable-http",
            "option.port": " 3001 ",
            "option.path": "/mcp",
          },
          baseGeneration: 1,
        }, testKey);
        assert.equal((await getServer(db, user, byEntry)).generation, 1, "nothing was changed");
      });

      await t.step("a change of it is a generation, and is told as one", async () => {
        await reconfigureServer(db, user, byPerson, {
          form: { ...sse, "option.transport": "streamable-http", "option.path": "/mcp" },
          baseGeneration: 1,
        }, testKey);
        const [{ changes }] = await listGenerations(db, user, byPerson);
        assert.deepEqual(changes, [{
          name: "Speaks on",
          before: "HTTP+SSE at port 8080, path /sse",
          after: "Streamable HTTP at port 8080, path /mcp",
        }]);
      });

      await t.step("what does not hold is told by its field", async () => {
        const wrong: [Record<string, string>, string][] = [
          [{ ...sse, "option.port": "" }, "option.port"],
          [{ ...sse, "option.port": "65536" }, "option.port"],
          [{ ...sse, "option.port": "80.5" }, "option.port"],
          [{ ...sse, "option.path": "sse" }, "option.path"],
          [{ ...sse, "option.path": "/sse?key=1" }, "option.path"],
          [{ ...sse, "option.path": `/${"a".repeat(200)}` }, "option.path"],
          [{ ...sse, "option.transport": "tcp" }, "option.transport"],
          [{ ...sse, "option.tier": "untrusted" }, "option.tier"],
        ];
        for (const [form, field] of wrong) {
          await assert.rejects(deploy("made-npm", form), (error) => {
            assert.ok(error instanceof Invalid);
            assert.deepEqual(Object.keys(error.fields), [field], JSON.stringify(form));
            return true;
          });
        }
      });

      await t.step("a DTMA that knows only stdio is not let run it", async () => {
        await touchToolbox(db, toolboxId, factsWith({}));
        assert.equal((await specOf(byEntry)).running, false);
        const { status, statusDetail } = await getServer(db, user, byEntry);
        assert.equal(status, "failed");
        assert.match(statusDetail, /^It speaks HTTP, and the DTMA .* too old to reach it/);
        await assert.rejects(deploy("made-http"), /too old for servers that speak HTTP/);
        await touchToolbox(db, toolboxId, knows);
        assert.equal((await specOf(byEntry)).running, true);
      });
      await world.close();
    },
  });
}
