/**
 * The pages of a large workspace: 200 servers with 2,000 tools, 20 agents and 100,000 calls. How long each
 * takes in the app, on the embedded Postgres and on a server, what of it is this process's work (the embedded
 * database's too, and whatever else the machine does, not), and what it weighs. The marketplace with 10,000
 * entries is catalog.ts's.
 */
import process from "node:process";
import { v7 } from "uuid";
import { connectServer, createAgent } from "../../models/agents.ts";
import { deployServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { openPageApp, ORIGIN, signedIn } from "../routes/page_app.ts";
import { quantile } from "./load.ts";

const SERVERS = 200, TOOLS = 10, AGENTS = 20, SERVERS_OF_AGENT = 20, CALLS = 100_000;

/** Measures each page `count` times. */
export async function measurePages(count: number): Promise<void> {
  for (const kind of KINDS) {
    if (kind.ignore) continue;
    const world = await openWorld(kind);
    const { owner, toolboxId } = world;
    const { cookie } = await signedIn(world, "owner");
    const { servers, agents } = await seed(world);
    if (kind.name === "server") await owner`analyze`;

    const { app, close } = await openPageApp(world);
    const paths = {
      "overview": "/",
      "servers": "/servers",
      "servers, filtered": "/servers?needs=any&q=server&sort=-status",
      "a server": `/servers/${servers[0]}`,
      ...Object.fromEntries(
        ["tools", "try", "log", "network", "configuration", "events"]
          .map((tab) => [`a server's ${tab}`, `/servers/${servers[0]}/${tab}`]),
      ),
      "a generation": `/servers/${servers[0]}/generations/1`,
      "removing 50 servers": `/servers/remove?${
        servers.slice(0, 50).map((id) => `server=${id}`).join("&")
      }`,
      "a tool": `/servers/${servers[0]}/tools/tool0`,
      "agents": "/agents",
      "all connections": "/agents/connections",
      "an agent's connections": `/agents/connections?agent=${agents[0]}`,
      "an agent": `/agents/${agents[0]}`,
      "a connection": `/agents/${agents[0]}/connections/${servers[0]}`,
      "calls, the last day": "/calls",
      "calls, all": "/calls?period=all",
      "calls, the last hour": "/calls?period=hour",
      "calls, a week": "/calls?period=week&by=server",
      "calls, a month": "/calls?period=month&by=agent",
      "calls, a word": "/calls?period=all&q=tool3",
      "calls, an error": "/calls?period=all&q=nothing-like-it",
      "calls, failed ones": "/calls?period=all&outcome=failed",
      "calls, one agent's": `/calls?period=all&agent=${agents[0]}`,
      "calls, one server's": `/calls?period=month&server=${servers[0]}`,
      "toolboxes": "/toolboxes",
      "a toolbox": `/toolboxes/${toolboxId}`,
      "marketplace": "/marketplace",
      "workspace": "/workspace",
    };
    console.log(
      `\npages: ${SERVERS} servers, ${
        SERVERS * TOOLS
      } tools, ${AGENTS} agents, ${CALLS} calls on the ${kind.name} database; ms, each ${count} times`,
    );
    console.log(
      `${"".padEnd(22)}${"p50".padStart(9)}${"p95".padStart(9)}${"CPU p50".padStart(9)}${
        "KiB, compressed".padStart(18)
      }`,
    );
    const all: number[] = [];
    for (const [name, path] of Object.entries(paths)) {
      const measured: number[] = [], cpu: number[] = [];
      let bytes = 0;
      for (let n = -1; n < count; n++) {
        const started = performance.now(), used = process.cpuUsage();
        const response = await app.request(ORIGIN + path, {
          headers: { cookie, "accept-encoding": "gzip" },
        });
        bytes = (await response.arrayBuffer()).byteLength;
        if (response.status !== 200) throw new Error(`${path}: ${response.status}`);
        // The first one compiles and plans.
        if (n < 0) continue;
        measured.push(performance.now() - started);
        const { user, system } = process.cpuUsage(used);
        cpu.push((user + system) / 1000);
      }
      all.push(...measured);
      const at = (q: number, of = measured) => quantile(of, q).toFixed(1).padStart(9);
      console.log(
        `${name.padEnd(22)}${at(0.5)}${at(0.95)}${at(0.5, cpu)}${
          (bytes / 1024).toFixed(1).padStart(18)
        }`,
      );
    }
    console.log(
      `all pages: p50 ${quantile(all, 0.5).toFixed(1)}, p95 ${quantile(all, 0.95).toFixed(1)}`,
    );
    await close();
    await world.close();
  }
}

/** The workspace, through the models but for the calls, which would take minutes. */
async function seed(
  { db, user, owner, workspaceId, toolboxId }: Awaited<ReturnType<typeof openWorld>>,
) {
  const servers: string[] = [], agents: string[] = [];
  for (let n = 0; n < SERVERS; n++) {
    const { serverId } = await deployServer(db, user, {
      workspaceId,
      toolboxId,
      slug: "everything",
      name: `Server ${n}`,
      form: {},
      idempotencyKey: crypto.randomUUID(),
    }, testKey);
    servers.push(serverId);
  }
  const tools = Array.from({ length: TOOLS }, (_, n) => ({
    name: `tool${n}`,
    description: "Does one thing of those that servers do, and says of it what they say.",
    inputSchema: { type: "object", properties: { path: { type: "string" } } },
  }));
  await acceptReport(db, toolboxId, {
    epoch: v7(),
    sequence: 1,
    observations: servers.map((id) => observation(id, 1, tools)),
    events: [],
    removed: [],
  });
  for (const id of servers) await approveTools(db, user, id, await listTools(db, user, id));
  for (let n = 0; n < AGENTS; n++) {
    const id = await createAgent(db, user, workspaceId, `Agent ${n}`);
    agents.push(id);
    for (const server of servers.slice(n, n + SERVERS_OF_AGENT)) {
      await connectServer(db, user, id, server);
    }
  }
  // Over a month, most of them late: what was recent is looked at.
  await owner`
    insert into public.calls (id, workspace_id, agent_id, server_id, server_slug, tool, via, started_at,
      duration_ms, outcome, request_bytes, response_bytes)
    select gen_random_uuid(), ${workspaceId}, (${agents}::uuid[])[1 + n % ${AGENTS}],
      (${servers}::uuid[])[1 + n % ${SERVERS}], 'server-' || n % ${SERVERS}, 'tool' || n % ${TOOLS},
      'bridge', now() - (n::float8 / ${CALLS}) ^ 2 * interval '30 days', 5 + n % 400,
      case when n % 50 = 0 then 'tool_error' when n % 97 = 0 then 'error' else 'ok' end, 100, 1000
    from generate_series(1, ${CALLS}) n`;
  await owner`select mooring.recount_calls(${workspaceId})`;
  return { servers, agents };
}
