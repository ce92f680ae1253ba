import assert from "node:assert/strict";
import { deployApi, documentOfServer, importApiDocument } from "../../models/api_servers.ts";
import { Invalid } from "../../models/errors.ts";
import { openOutside } from "../../models/outside.ts";
import { touchToolbox } from "../../models/toolboxes.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";

const read = { get: { responses: { 200: { description: "Done" } } } };

function document(paths: Record<string, object>): string {
  return JSON.stringify({
    openapi: "3.0.0",
    info: { title: "Things", version: "1" },
    servers: [{ url: "https://api.example.com" }],
    paths,
  });
}

for (const kind of KINDS) {
  Deno.test({
    name: `REST APIs, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      await touchToolbox(db, toolboxId, {
        dtmaVersion: "0.1.0",
        protocolVersion: 2,
        knowsApis: true,
        reach: "direct",
        address: "http://127.0.0.1:4000",
        engine: { state: "absent", reason: "none", advice: "install one" },
      });
      const imported = (text: string) =>
        importApiDocument(db, user, workspaceId, { text }, openOutside());

      await t.step("a document whose list would be too large is refused in words", async () => {
        const paths = Array.from({ length: 1900 }, (_, n) => [`/${n}${"x".repeat(4500)}`, read]);
        await assert.rejects(imported(document(Object.fromEntries(paths))), (error) => {
          assert.ok(error instanceof Invalid, String(error));
          assert.match(error.fields.document, /too large/);
          return true;
        });
      });

      await t.step("servers that are made of one document at once have one each", async () => {
        const id = await imported(document({ "/things": read }));
        const made = await Promise.all(
          Array.from({ length: 4 }, (_, n) =>
            deployApi(db, user, id, {
              workspaceId,
              toolboxId,
              name: `Things ${n}`,
              form: {},
              keys: ["GET /things"],
              tellsShape: false,
              idempotencyKey: crypto.randomUUID(),
            }, testKey)),
        );
        const documents = await Promise.all(
          made.map(({ serverId }) => documentOfServer(db, user, serverId)),
        );
        assert.equal(new Set(documents).size, 4, JSON.stringify(documents));
        assert.ok(documents.every((each) => each !== null));
      });

      await t.step("a server is made with its document, or not at all", async () => {
        const id = await imported(document({ "/things": read }));
        await owner`alter table public.api_documents add constraint stays check (used_at is null) not valid`;
        await assert.rejects(deployApi(db, user, id, {
          workspaceId,
          toolboxId,
          name: "Broken off",
          form: {},
          keys: ["GET /things"],
          tellsShape: false,
          idempotencyKey: crypto.randomUUID(),
        }, testKey));
        const [{ made }] = await owner`
          select exists (select from public.servers where name = 'Broken off') as made`;
        assert.equal(made, false);
      });

      await world.close();
    },
  });
}
