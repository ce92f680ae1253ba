import assert from "node:assert/strict";
import { createAgent } from "../../models/agents.ts";
import { createPersonalToken } from "../../models/personal_tokens.ts";
import { deployServer } from "../../models/servers.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

/** The embedded database does one transaction after the other: there the server is gone before it is looked for. */
const [, server] = KINDS;

Deno.test({
  name: "what is removed between a look and the write is told so, and is no failure",
  ignore: server.ignore,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const world = await openWorld(server);
    const { db, owner, workspaceId, toolboxId } = world;
    const logged: string[] = [];
    const { app, close } = await openPageApp(world, { say: (line) => logged.push(line) });
    const { cookie, person } = await signedIn(world, "member");
    const agentId = await createAgent(db, person, workspaceId, "Editor");
    const { token } = await createPersonalToken(db, person, workspaceId, {
      name: "t",
      scopes: ["agents:write"],
      expiresInDays: 1,
    });

    /** Asks for a connection to a server whose removal is under way. */
    async function whileRemoved(ask: (serverId: string) => Response | Promise<Response>) {
      const { serverId } = await deployServer(db, person, {
        workspaceId,
        toolboxId,
        slug: "everything",
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      let answer: Response | Promise<Response>;
      await owner.begin(async (sql) => {
        await sql`delete from public.servers where id = ${serverId}`;
        answer = ask(serverId);
        await new Promise((resolve) => setTimeout(resolve, 400));
      });
      return await answer!;
    }

    const page = await whileRemoved((serverId) =>
      app.request(`${ORIGIN}/agents/${agentId}/connections`, {
        method: "POST",
        headers: { cookie, origin: ORIGIN, "content-type": "application/x-www-form-urlencoded" },
        body: `serverId=${serverId}`,
      })
    );
    assert.equal(page.status, 409);
    assert.match(await page.text(), /removed meanwhile/);

    const reply = await whileRemoved((serverId) =>
      app.request(`${ORIGIN}/api/v1/agents/${agentId}/connections/${serverId}`, {
        method: "PUT",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: "{}",
      })
    );
    assert.equal(reply.status, 409);
    assert.match((await reply.json()).detail, /removed meanwhile/);
    assert.deepEqual(logged.filter((line) => /failed/.test(line)), []);
    await close();
    await world.close();
  },
});
