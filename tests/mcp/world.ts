/**
 * A whole data path for the bridge's tests: real database, real DTMA side, real stdio servers; no
 * Docker. A test file's bridges share one world, since opening a database costs more than all else.
 */
import { Hono } from "hono";
import { v7 } from "uuid";
import { dataPath, type Route } from "../../dtma/data_path.ts";
import {
  canonicalHash,
  generateSigningKey,
  type HostFacts,
  type Observation,
  promptHash,
  type ToolDefinition,
} from "../../dtma/protocol.ts";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { BodyKeeper } from "../../models/call_bodies.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { approveDefinitions, listDefinitions } from "../../models/definitions.ts";
import { createLog } from "../../models/log.ts";
import { derivedSecrets, newSecretsKeyText } from "../../models/secrets.ts";
import { deployServer, removeServer } from "../../models/servers.ts";
import { acceptReport, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { openOutside } from "../../models/outside.ts";
import { ownTools } from "../../routes/api/own_tools.ts";
import type { AppDeps } from "../../routes/deps.ts";
import { mcpRoutes } from "../../routes/mcp.ts";
import { type StartOptions, startServer } from "../dtma/stdio_server.ts";
import { type Kind, KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";

let kind: Kind = KINDS[0];
/** To be called before the first bridge, by who needs a database that other processes can reach. */
export function openOn(other: Kind) {
  kind = other;
}

let opened: ReturnType<typeof openShared> | null = null;
/** For who runs without Deno's tests, which close it by themselves. */
export const closeWorld = async () => await (await opened)?.close();
Deno.test.afterAll(closeWorld);

/** The database with an enrolled toolbox, its data path and `/mcp` before them. */
async function openShared() {
  const world = await openWorld(kind);
  const { db, toolboxId } = world;
  const secretsKeyText = newSecretsKeyText();
  const { appSigningKey } = await derivedSecrets(secretsKeyText);
  const routes = new Map<string, Route>();
  const ended: string[] = [];
  const dtma = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    dataPath({
      logOf: () => Promise.resolve("a line\n"),
      end: (_serverId, instance) => void ended.push(instance),
      reach: (serverId, instance) =>
        Promise.resolve(
          routes.get(`${serverId} ${instance}`) ?? routes.get(serverId) ??
            { unavailable: "It is not here" },
        ),
      appPublicKey: () => appSigningKey.publicKey,
      log: () => {},
    }),
  );
  const factsAt = (address: string): HostFacts => ({
    dtmaVersion: "0",
    protocolVersion: 1,
    knowsApis: true,
    reach: "direct",
    address,
    engine: { state: "absent", reason: "a test", advice: "none" },
  });
  const facts = factsAt(`http://127.0.0.1:${dtma.addr.port}`);
  let present = facts;
  const { publicKey } = await generateSigningKey();
  await enrolToolbox(db, { token: world.enrolmentToken, publicKey, facts });
  await touchToolbox(db, toolboxId, facts);
  // As the real one's long polls do: a toolbox that is silent is taken for unreachable.
  const touching = setInterval(() => touchToolbox(db, toolboxId, present).catch(() => {}), 15_000);

  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const calls = new CallRecorder(db, log, new BodyKeeper(db, testKey));
  const replicas = [1, 2].map(() => {
    const changes = new Changes(db);
    let app = new Hono();
    const http = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => app.fetch(request),
    );
    const baseUrl = new URL(`http://127.0.0.1:${http.addr.port}`);
    const deps = { db, changes, links: null, calls, appSigningKey, log, version: "0", baseUrl };
    // What pages alone need is left out.
    const own = { ...deps, secretsKey: testKey, outside: openOutside() } as unknown as AppDeps;
    app = app.route("/", mcpRoutes({ ...deps, ownTools: ownTools(own) }));
    return { changes, http, baseUrl };
  });

  const epoch = v7();
  let sequence = 0;
  return {
    ...world,
    /** Of the replicas of the app, which share the database alone. */
    baseUrls: replicas.map(({ baseUrl }) => baseUrl),
    routes,
    calls,
    appSigningKey,
    secretsKeyText,
    logged,
    toolboxAddress: facts.address!,
    ended,
    /** Where the toolbox says that its data path is; without an address, where it really is. */
    moveToolbox: (address?: string) =>
      touchToolbox(db, toolboxId, present = address === undefined ? facts : factsAt(address)),
    report: (change: { observations?: Observation[]; removed?: string[] }) =>
      acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations: [],
        events: [],
        removed: [],
        ...change,
      }),
    async close() {
      clearInterval(touching);
      // Streams that are open end with their connections.
      for (const { http } of replicas) http.shutdown();
      await dtma.shutdown();
      await calls.flush();
      for (const { changes } of replicas) await changes.close();
      await world.close();
    },
  };
}

/** A server of its own process, deployed, with all that it lists reported and approved. */
async function deployed(
  world: Awaited<ReturnType<typeof openShared>>,
  fixture: string,
  slug: string,
  start: StartOptions = {},
) {
  const { db, user, workspaceId, toolboxId } = world;
  const process = startServer(fixture, start);
  const session = await process.open();
  const tools = await session.listTools();
  const prompts = await session.listPrompts();
  const { serverInfo } = session;
  const { capabilities, instructions } = serverInfo as Pick<
    Observation,
    "capabilities" | "instructions"
  >;
  const resourceTemplates = await session.listResourceTemplates();

  const { serverId } = await deployServer(db, user, {
    workspaceId,
    toolboxId,
    slug: "everything",
    name: slug,
    form: {},
    idempotencyKey: crypto.randomUUID(),
  }, testKey);
  const promptHashes = new Map<string, string>();
  for (const prompt of prompts) promptHashes.set(prompt.name, await promptHash(prompt));
  const route = { session, toolHashes: await hashesOf(tools), promptHashes };
  world.routes.set(serverId, route);

  const report = (list: Observation["tools"], state: "ready" | "failed" = "ready") =>
    world.report({
      observations: [{
        ...observation(serverId, 1, list, state),
        ...{ serverInfo, prompts, resourceTemplates, capabilities, instructions },
      }],
    });
  const approveAll = async () => {
    const isThere = ({ state }: { state: string }) => state !== "gone";
    await approveTools(db, user, serverId, (await listTools(db, user, serverId)).filter(isThere));
    const others = (await listDefinitions(db, user, serverId)).filter(isThere);
    for (const kind of new Set(others.map(({ kind }) => kind))) {
      const picks = others.filter((each) => each.kind === kind);
      await approveDefinitions(db, user, serverId, kind, picks);
    }
  };
  await report(tools);
  await approveAll();
  return {
    serverId,
    tools,
    route,
    process,
    report,
    approveAll,
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      // Whole, so that the next server may have its name.
      await removeServer(db, user, serverId);
      await world.report({ removed: [serverId] });
      world.routes.delete(serverId);
    },
  };
}

/**
 * A server of its own process with all that it lists approved, and an agent connected to it.
 *
 * @param fixture a script of tests/fixtures/servers, or a path
 * @param options.slug the server's name, with which its tools' names begin
 */
export async function openBridge(
  fixture: string,
  { slug = "demo", ...start }: { slug?: string } & StartOptions = {},
) {
  const world = await (opened ??= openShared());
  const { db, user, workspaceId, baseUrls, calls, logged } = world;
  const url = new URL("/mcp", baseUrls[0]).href;
  const server = await deployed(world, fixture, slug, start);
  const agentId = await createAgent(db, user, workspaceId, "Agent");
  await connectServer(db, user, agentId, server.serverId);
  const { id: tokenId, token } = await createToken(db, user, agentId, {
    name: "t",
    expiresInDays: 1,
  });
  logged.length = 0;

  return {
    ...server,
    db,
    owner: world.owner,
    databaseUrl: world.url,
    secretsKeyText: world.secretsKeyText,
    user,
    url,
    baseUrls,
    workspaceId,
    agentId,
    tokenId,
    token,
    routes: world.routes,
    calls,
    appSigningKey: world.appSigningKey,
    /** What the app logged since this was opened. */
    logged,
    toolboxAddress: world.toolboxAddress,
    /** Instances that the toolbox was told to end. */
    ended: world.ended,
    moveToolbox: world.moveToolbox,
    /** Another server, to which the agent is connected too. */
    async another(fixture: string, slug: string, start: StartOptions = {}) {
      const other = await deployed(world, fixture, slug, start);
      await connectServer(db, user, agentId, other.serverId);
      return other;
    },
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
      await calls.flush();
      await server[Symbol.asyncDispose]();
    },
  };
}

export type Bridge = Awaited<ReturnType<typeof openBridge>>;

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
  const name = (method.startsWith("tasks/") ? params.taskId : params.name) as string | undefined;
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
