/** A whole data path for the bridge's tests: real database, real DTMA side, real stdio servers; no Docker. */
import { Hono } from "hono";
import { dataPath, type Route } from "../../dtma/data_path.ts";
import { canonicalHash, type Observation, type ToolDefinition } from "../../dtma/protocol.ts";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { derivedSecrets, newSecretsKeyText } from "../../models/secrets.ts";
import { deployServer } from "../../models/servers.ts";
import { acceptReport, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { mcpRoutes } from "../../routes/mcp.ts";
import { v7 } from "uuid";
import { generateSigningKey } from "../../dtma/protocol.ts";
import { startServer } from "../dtma/stdio_server.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";

/** Opens the world; `fixture` is a script of tests/fixtures/servers, or a path. */
export async function openBridge(fixture: string, options: { slug?: string } = {}) {
  const world = await openWorld(KINDS[0]);
  const { db, user, workspaceId, toolboxId } = world;
  const { appSigningKey } = await derivedSecrets(newSecretsKeyText());
  const process = startServer(fixture);
  const session = await process.open();
  const tools = await session.listTools();

  const { serverId } = await deployServer(db, user, {
    workspaceId,
    toolboxId,
    slug: "everything",
    name: options.slug ?? "demo",
    form: {},
    idempotencyKey: crypto.randomUUID(),
  }, testKey);
  const route = { session, toolHashes: await hashesOf(tools) } as Route;
  const dtma = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    dataPath({
      sessionOf: () => route,
      appPublicKey: () => appSigningKey.publicKey,
      log: () => {},
    }),
  );
  const facts = {
    dtmaVersion: "0",
    protocolVersion: 1,
    address: `http://127.0.0.1:${dtma.addr.port}`,
    engine: { state: "absent" as const, reason: "a test", advice: "none" },
  };
  const { publicKey } = await generateSigningKey();
  await enrolToolbox(db, { token: world.enrolmentToken, publicKey, facts });
  await touchToolbox(db, toolboxId, facts);

  const epoch = v7();
  let sequence = 0;
  const report = (list: Observation["tools"], state: "ready" | "failed" = "ready") =>
    acceptReport(db, toolboxId, {
      epoch,
      sequence: ++sequence,
      observations: [observation(serverId, 1, list, state)],
      events: [],
      removed: [],
    });
  const approveAll = async () =>
    await approveTools(
      db,
      user,
      serverId,
      (await listTools(db, user, serverId)).filter((tool) => tool.state !== "gone"),
    );
  await report(tools);
  await approveAll();
  const agentId = await createAgent(db, user, workspaceId, "Agent");
  await connectServer(db, user, agentId, serverId);
  const { id: tokenId, token } = await createToken(db, user, agentId, {
    name: "t",
    expiresInDays: 1,
  });

  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const calls = new CallRecorder(db, log);
  const changes = new Changes(db);
  const deps = { db, changes, calls, appSigningKey, log, version: "0", baseUrl: null };
  const app = new Hono().route("/", mcpRoutes(deps));
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  const url = `http://127.0.0.1:${http.addr.port}/mcp`;

  return {
    ...world,
    url,
    serverId,
    agentId,
    tokenId,
    token,
    tools,
    route,
    process,
    dtma,
    calls,
    logged,
    report,
    approveAll,
    /** Sends a body to the bridge as an agent's client does. */
    post(body: unknown, headers: Record<string, string> = {}, signal?: AbortSignal) {
      return fetch(url, {
        method: "POST",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          ...headers,
        },
        body: typeof body === "string" || body instanceof Uint8Array
          ? body as BodyInit
          : JSON.stringify(body),
        signal,
      });
    },
    async [Symbol.asyncDispose]() {
      await http.shutdown();
      await process[Symbol.asyncDispose]();
      await dtma.shutdown();
      await calls.flush();
      await changes.close();
      await world.close();
    },
  };
}

export async function hashesOf(tools: ToolDefinition[]): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for (const tool of tools) hashes.set(tool.name, await canonicalHash(tool));
  return hashes;
}

export const META = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientCapabilities": {},
};

/** A request of 2026-07-28 with the headers it needs. */
export function modern(method: string, params: Record<string, unknown> = {}, id: unknown = 1) {
  const name = params.name as string | undefined;
  return {
    body: {
      jsonrpc: "2.0",
      id,
      method,
      params: { ...params, _meta: { ...META, ...params._meta as object } },
    },
    headers: {
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": method,
      ...(name !== undefined ? { "mcp-name": name } : {}),
    } as Record<string, string>,
  };
}
