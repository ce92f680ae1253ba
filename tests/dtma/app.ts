/** The whole app over HTTP on an embedded database, with a toolbox that waits for its DTMA. */
import { createApp } from "../../app.ts";
import { dial } from "../../dtma/dial.ts";
import { links as openLinks } from "../../mcp/links.ts";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { addToolbox } from "../../models/fleet.ts";
import { createLog } from "../../models/log.ts";
import { openOutside } from "../../models/outside.ts";
import { derivedSecrets, newSecretsKeyText } from "../../models/secrets.ts";
import { deployServer } from "../../models/servers.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { eventually } from "../e2e/app.ts";
import { callOverBridge } from "./bridge_call.ts";

export async function openApp() {
  const world = await openWorld(KINDS[0]);
  const { db, owner, user, workspaceId, identity } = world;
  const account = await identity.createAccount("owner@e.com", "owner", "a long enough password");
  const cookie = account.getSetCookie()[0].split(";")[0];
  const { userId } = (await identity.userOf(new Headers({ cookie })))!;
  await owner`
    insert into public.members (workspace_id, user_id, role)
    values (${workspaceId}, ${userId}, 'owner')`;
  const log = createLog("text", () => {});
  const calls = new CallRecorder(db, log);
  const changes = new Changes(db);
  const { appSigningKey } = await derivedSecrets(newSecretsKeyText());
  const links = openLinks({ db, changes, appSigningKey, log, dial, replicaAddress: null });
  let serve = (_request: Request): Response | Promise<Response> =>
    new Response(null, { status: 503 });
  const http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => serve(request),
  );
  const url = `http://127.0.0.1:${http.addr.port}`;
  const app = await createApp({
    db,
    identity,
    setup: null,
    secretsKey: testKey,
    outside: openOutside(),
    appSigningKey,
    changes,
    links,
    calls,
    log,
    baseUrl: new URL(url),
    version: "0",
    isMigrated: () => Promise.resolve(true),
  });
  serve = (request) => app.fetch(request);
  const { toolboxId, enrolmentToken } = await addToolbox(db, user, workspaceId, "Shelf");

  return {
    url,
    toolboxId,
    enrolmentToken,
    /** The toolbox's page as text, without its markup. */
    async page() {
      const response = await fetch(`${url}/toolboxes/${toolboxId}`, { headers: { cookie } });
      return (await response.text()).replaceAll(/<[^>]*>/g, " ").replaceAll("&#39;", "'")
        .replaceAll(/\s+/g, " ");
    },
    /** Deploys a server, approves its tools and connects an agent. @returns how to call a tool */
    async deploy(slug: string) {
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug,
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      await eventually(
        "the server lists its tools",
        async () => (await listTools(db, user, serverId)).length > 0,
        300_000,
      );
      await approveTools(db, user, serverId, await listTools(db, user, serverId));
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      await connectServer(db, user, agentId, serverId);
      const { token } = await createToken(db, user, agentId, { name: "t", expiresInDays: 1 });
      return {
        serverId,
        call: (name: string, args: Record<string, unknown>) =>
          callOverBridge(url, token, `${slug}__${name}`, args),
      };
    },
    async [Symbol.asyncDispose]() {
      await links.close();
      await http.shutdown();
      await calls.flush();
      await changes.close();
      await world.close();
    },
  };
}
