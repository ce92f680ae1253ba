/**
 * The whole app as a process of its own, without Docker: on an embedded database with 50 servers of 20
 * tools, of which one agent has all, and 500 agents that have one server each. Behind it is a DTMA's data
 * path (toolbox.ts), which takes calls of any of the servers to the one process of `script`. Prints where
 * it listens and the agents' tokens.
 */
import { v7 } from "uuid";
import { createApp } from "../../app.ts";
import { dial } from "../../dtma/dial.ts";
import { generateSigningKey, type HostFacts } from "../../dtma/protocol.ts";
import { links } from "../../mcp/links.ts";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { openOutside } from "../../models/outside.ts";
import { deployServer } from "../../models/servers.ts";
import { acceptReport, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";

export const SERVERS = 50, TOOLS = 20, AGENTS = 500;
/** The tools of toolbelts_server.mjs whose results are of 1 MiB, by what these are. */
export const LARGE_TOOLS = {
  "lines of ASCII": "large",
  "words in UTF-8": "large_words",
  "JSON as text": "large_json",
  "an image": "large_image",
  "structured": "large_table",
};

/** What the process prints. */
export interface Started {
  url: string;
  toolboxPid: number;
  /** Of the agent that has all servers. */
  token: string;
  /** Of agents that have `bench-0` alone. */
  tokens: string[];
}

if (import.meta.main) await start(Deno.args[0]);

async function start(script: string) {
  const world = await openWorld(KINDS[0]);
  const { db, user, workspaceId, toolboxId } = world;
  const appSigningKey = await generateSigningKey(), toolboxKey = await generateSigningKey();
  const toolbox = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", new URL("./toolbox.ts", import.meta.url).pathname],
      ...[script, JSON.stringify({ app: appSigningKey, toolbox: toolboxKey })],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const printed = toolbox.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const [address] = (await printed.read()).value!.trim().split(" ");
  const facts: HostFacts = {
    dtmaVersion: "0",
    protocolVersion: 1,
    reach: "direct",
    address,
    engine: { state: "absent", reason: "a bench", advice: "none" },
  };
  await enrolToolbox(db, { token: world.enrolmentToken, publicKey: toolboxKey.publicKey, facts });
  await touchToolbox(db, toolboxId, facts);
  setInterval(() => touchToolbox(db, toolboxId, facts), 15_000);

  const own = ["echo", ...Object.values(LARGE_TOOLS)].map((name) => ({
    name,
    description: name,
    inputSchema: { type: "object" },
  }));
  const serverIds: string[] = [];
  for (let at = 0; at < SERVERS; at++) {
    const { serverId } = await deployServer(db, user, {
      workspaceId,
      toolboxId,
      slug: "everything",
      name: `bench-${at}`,
      form: {},
      idempotencyKey: crypto.randomUUID(),
    }, testKey);
    serverIds.push(serverId);
  }
  await acceptReport(db, toolboxId, {
    epoch: v7(),
    sequence: 1,
    observations: serverIds.map((serverId, at) =>
      observation(serverId, 1, [
        ...own,
        ...Array.from({ length: TOOLS - own.length }, (_, n) => madeUp(at, n)),
      ])
    ),
    events: [],
    removed: [],
  });
  for (const serverId of serverIds) {
    await approveTools(db, user, serverId, await listTools(db, user, serverId));
  }
  const agentWith = async (name: string, servers: string[]) => {
    const agentId = await createAgent(db, user, workspaceId, name);
    for (const serverId of servers) await connectServer(db, user, agentId, serverId);
    return (await createToken(db, user, agentId, { name, expiresInDays: 1 })).token;
  };
  const token = await agentWith("all", serverIds);
  const tokens: string[] = [];
  for (let at = 0; at < AGENTS; at++) tokens.push(await agentWith(`agent ${at}`, [serverIds[0]]));

  const log = createLog("text", (line) => console.error(line));
  const changes = new Changes(db);
  const calls = new CallRecorder(db, log);
  const http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => app.fetch(request),
  );
  const baseUrl = new URL(`http://127.0.0.1:${http.addr.port}`);
  const app = await createApp({
    ...{ db, changes, calls, log, appSigningKey, baseUrl },
    identity: world.identity,
    setup: null,
    secretsKey: testKey,
    outside: openOutside(),
    links: links({ db, changes, appSigningKey, log, dial, replicaAddress: null }),
    version: "0",
    isMigrated: () => Promise.resolve(true),
  });
  Deno.addSignalListener("SIGTERM", () => {
    toolbox.kill("SIGKILL");
    Deno.exit(0);
  });
  const started: Started = { url: `${baseUrl.origin}/mcp`, toolboxPid: toolbox.pid, token, tokens };
  console.log(JSON.stringify(started));
}

/** A definition of the size that real servers' have: about 500 bytes. */
function madeUp(server: number, tool: number) {
  return {
    name: `tool_${tool}`,
    description: `Does the ${tool}th of the things that the ${server}th server is for. `.repeat(3),
    inputSchema: {
      type: "object",
      properties: {
        query: { type: "string", description: "What is looked for, in words as people say it" },
        limit: { type: "integer", minimum: 1, maximum: 100, default: 10 },
      },
      required: ["query"],
    },
  };
}
