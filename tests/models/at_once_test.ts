/** A form that is sent twice at once, as by two clicks, is done once or twice, and fails for nobody. */
import assert from "node:assert/strict";
import { createAgent } from "../../models/agents.ts";
import { getChatModel, setChatModel } from "../../models/chat_models.ts";
import { grantManagement, managementGrant } from "../../models/management_grants.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `forms sent twice at once, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId } = world;
      const often = (send: (n: number) => Promise<unknown>) =>
        Promise.all(Array.from({ length: 6 }, (_, n) => send(n)));

      await t.step("what an agent may manage is what was said last", async () => {
        const agent = await createAgent(db, user, workspaceId, "Helper");
        const both = { scopes: ["read", "servers:write"], asks: ["servers:write"] };
        for (let time = 0; time < 3; time++) {
          await often(() => grantManagement(db, user, agent, both));
        }
        assert.deepEqual((await managementGrant(db, user, agent))?.scopes, both.scopes);
      });

      await t.step("the chat's model is named", async () => {
        const models = { fetch, refusalOf: () => Promise.resolve(null) };
        const deps = { db, secretsKey: testKey, models };
        await often((n) =>
          setChatModel(deps, user, workspaceId, {
            provider: "openai-compatible",
            baseUrl: "https://models.example.com",
            model: `model-${n}`,
            key: "sk-1",
          })
        );
        assert.match((await getChatModel(db, user, workspaceId))!.model, /^model-\d$/);
      });

      await world.close();
    },
  });
}
