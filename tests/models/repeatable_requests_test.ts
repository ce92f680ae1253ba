import assert from "node:assert/strict";
import { Conflict } from "../../models/errors.ts";
import { onceFor } from "../../models/repeatable_requests.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `repeatable requests, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user: { userId }, workspaceId } = world;
      const deps = { db, secretsKey: testKey };
      const once = (key: string, make: () => Promise<string>) =>
        onceFor(deps, { workspaceId, userId, key, asked: "a server" }, make);

      await t.step("what is sent by many at once is made by one", async () => {
        let made = 0;
        const answers = await Promise.allSettled(
          Array.from({ length: 20 }, () =>
            once("many", async () => {
              await new Promise((resolve) => setTimeout(resolve, 50));
              return `server ${++made}`;
            })),
        );
        assert.equal(made, 1);
        for (const answer of answers) {
          if (answer.status === "fulfilled") assert.equal(answer.value.answer, "server 1");
          else assert.ok(answer.reason instanceof Conflict, String(answer.reason));
        }
      });

      await t.step("a key whose request just failed serves whoever comes then", async () => {
        const fail = () => Promise.reject(new RangeError("of its own"));
        await Promise.all(Array.from({ length: 8 }, async () => {
          for (let time = 0; time < 150; time++) {
            const error = await once("failing", fail).catch((error) => error);
            assert.ok(error instanceof RangeError || error instanceof Conflict, String(error));
          }
        }));
        assert.equal((await once("failing", () => Promise.resolve("made"))).answer, "made");
      });

      await world.close();
    },
  });
}
