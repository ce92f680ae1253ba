/** The app over the bridge's world: a real database, a real data path, and a real MCP server as a process. */
import { createApp } from "../../app.ts";
import type { Deps } from "../../routes/deps.ts";
import { runPath } from "../../views/trial_run.tsx";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { localIdentity } from "../../models/local_identity.ts";
import { openOutside } from "../../models/outside.ts";
import { testKey } from "../models/databases.ts";
import { openBridge } from "../mcp/world.ts";

const PASSWORD = "a long enough password";

export async function openTrials(
  fixture: string,
  setup: Deps["setup"] = null,
  { models, ...options }: { models?: Deps["models"] } & Parameters<typeof openBridge>[1] = {},
) {
  const bridge = await openBridge(fixture, options);
  const { db, owner, workspaceId, calls, appSigningKey } = bridge;
  // Each replica has its own; the database alone is shared.
  const replica = async (origin: string) => {
    const changes = new Changes(db);
    const identity = localIdentity(db, {
      secret: "a secret for tests, long enough",
      baseUrl: new URL(origin),
    });
    const app = await createApp({
      db,
      identity,
      setup,
      secretsKey: testKey,
      outside: openOutside(),
      models,
      appSigningKey,
      changes,
      links: null,
      calls,
      log: createLog("text", () => {}),
      baseUrl: new URL(origin),
      version: "0",
      isMigrated: () => Promise.resolve(true),
    });
    return { app, changes, identity };
  };
  const started = Promise.withResolvers<string>();
  const serving = Promise.withResolvers<Awaited<ReturnType<typeof replica>>>();
  const http = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => started.resolve(`http://127.0.0.1:${port}`),
  }, async (request) => (await serving.promise).app.fetch(request));
  const origin = await started.promise;
  const first = await replica(origin);
  serving.resolve(first);
  const second = await replica(origin);

  async function person(email: string, role = "member") {
    const cookies = await first.identity.createAccount(email, "Bea", PASSWORD);
    const cookie = cookies.getSetCookie()[0].split(";")[0];
    const { userId } = (await first.identity.userOf(new Headers({ cookie })))!;
    await owner`insert into public.members (workspace_id, user_id, role)
      values (${workspaceId}, ${userId}, ${role})`;
    return { cookie, userId };
  }

  return {
    ...bridge,
    origin,
    app: first.app,
    identity: first.identity,
    person,
    PASSWORD,
    runPath: (tool: string, id: string) => runPath({ serverId: bridge.serverId, tool, id }),
    /** Asks a replica of the app. */
    ask(cookie: string, path: string, form?: Record<string, string> | FormData, at: 1 | 2 = 1) {
      const { app } = at === 1 ? first : second;
      return Promise.resolve(app.request(
        origin + path,
        form === undefined ? { headers: { cookie } } : {
          method: "POST",
          body: form instanceof FormData ? form : new URLSearchParams(form),
          headers: { cookie, origin },
        },
      ));
    },
    async [Symbol.asyncDispose]() {
      http.shutdown();
      await bridge[Symbol.asyncDispose]();
      await first.changes.close();
      await second.changes.close();
    },
  };
}
