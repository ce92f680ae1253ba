/**
 * A remote server that wants an account: a real authorization server, a real MCP server that checks its
 * tokens over TLS, and an app and a DTMA that call it from a container on the real engine.
 */
import assert from "node:assert/strict";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { remoteEntry } from "../../models/remote_servers.ts";
import { deployEntry, getServer } from "../../models/servers.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { testKey } from "../models/databases.ts";
import { linkIn } from "../oauth/app.ts";
import { signInThere, startAuthorizationServer } from "../oauth/authorization_server.ts";
import { makeCertificates } from "../oauth/certificates.ts";
import { startProtectedServer } from "../oauth/protected_server.ts";
import { openAppAndDtma } from "./app_and_dtma.ts";
import { callOverBridge } from "./bridge_call.ts";
import type { Toolbox } from "./engine.ts";
import { eventually } from "./observed.ts";
import { bridgeAddress } from "./package_index.ts";

const FAR = "mcp.example.test";

/** Deploys the server, which nobody signed in at yet. @param form what is chosen at its deployment */
export async function openAccountWorld(toolbox: Toolbox, form: Record<string, string> = {}) {
  await using opened = new AsyncDisposableStack();
  const host = await bridgeAddress(toolbox.docker);
  const certificates = await makeCertificates([FAR, "localhost"]);
  const authorizationServer = opened.use(await startAuthorizationServer({ certificates }));
  const at = { name: FAR, address: host };
  const far = opened.use(startProtectedServer(authorizationServer, certificates, at));
  const both = opened.use(
    await openAppAndDtma(toolbox, {
      host,
      name: FAR,
      outside: { privateHosts: [FAR, "localhost"], ca: certificates.ca },
    }),
  );
  const { app } = both, { db, user } = app;

  // The adapter is to trust the tests' authority, as no real one's entry asks.
  const entry = remoteEntry({ url: far.url });
  const ca = { name: "NODE_EXTRA_CA_CERTS", isSecret: true, isFile: true } as const;
  const { serverId } = await deployEntry(db, user, {
    entry: { ...entry, environment: [{ ...ca, isRequired: true, format: "string" }] },
    form: { "env.NODE_EXTRA_CA_CERTS": certificates.ca, ...form },
    workspaceId: app.workspaceId,
    toolboxId: app.toolboxId,
    awaitsSignIn: true,
    idempotencyKey: crypto.randomUUID(),
  }, testKey);
  const all = opened.move();

  return {
    ...{ both, far, authorizationServer, serverId },
    /** Signs somebody in, from the page of the server or of an agent's connection. */
    async signIn(path = `/servers/${serverId}`, login?: string) {
      const { link } = await linkIn(await app.post(`${path}/account`));
      const callback = link.searchParams.get("redirect_uri")!;
      const back = await signInThere(link.href, certificates.ca, callback, login);
      assert.equal((await app.get(back)).status, 303);
    },
    async approve() {
      await eventually(async () => (await listTools(db, user, serverId)).length === 2);
      await approveTools(db, user, serverId, await listTools(db, user, serverId));
    },
    /** An agent that is connected to the server, and its calls: the whole answer's text. */
    async agent(name: string) {
      const id = await createAgent(db, user, app.workspaceId, name);
      await connectServer(db, user, id, serverId);
      const { token } = await createToken(db, user, id, { name: "t", expiresInDays: 1 });
      const { slug } = await getServer(db, user, serverId);
      const call = (tool = "read") => callOverBridge(both.baseUrl, token, `${slug}__${tool}`);
      return { id, call, path: `/agents/${id}/connections/${serverId}` };
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
