import assert from "node:assert/strict";
import { v7 } from "uuid";
import { deployServer } from "../../models/servers.ts";
import { exportWorkspace, openSealedSecrets, WorkspaceFile } from "../../models/workspace_file.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `a workspace as a file, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const workspace = { id: workspaceId, name: "My workspace", role: "owner" as const };

      await t.step("takes along the secrets of servers of whatever name", async () => {
        const names = ["Constructor", "Has own property", "GitHub"];
        for (const name of names) {
          await deployServer(db, user, {
            workspaceId,
            toolboxId,
            slug: "github",
            name,
            form: { "env.GITHUB_PERSONAL_ACCESS_TOKEN": `ghp_of_${name.length}` },
            idempotencyKey: crypto.randomUUID(),
          }, testKey);
        }
        const passphrase = "a passphrase for tests";
        const file = await exportWorkspace(db, user, workspace, {
          passphrase,
          secretsKey: testKey,
        });
        const secrets = await openSealedSecrets({ ...file }, passphrase);
        assert.deepEqual(
          Object.fromEntries(
            Object.entries(secrets).map(([slug, own]) => [slug, Object.values(own)]),
          ),
          {
            "constructor": ["ghp_of_11"],
            "github": ["ghp_of_6"],
            "has-own-property": ["ghp_of_16"],
          },
        );
        assert.equal(Object.hasOwn(Object, "GITHUB_PERSONAL_ACCESS_TOKEN"), false);
      });

      await t.step("holds as many agents as the workspace has", async () => {
        const ids = Array.from({ length: 600 }, () => v7());
        await owner`
          insert into public.agents (id, workspace_id, name)
          select id, ${workspaceId}, 'Agent ' || n
          from unnest(${ids}::uuid[]) with ordinality as given (id, n)`;
        const file = await exportWorkspace(db, user, workspace);
        assert.equal(WorkspaceFile.parse(JSON.parse(JSON.stringify(file))).agents.length, 600);
      });

      await world.close();
    },
  });
}
