/** The app over HTTP for tests of its API: people of each role, another tenant, and their tokens. */
import assert from "node:assert/strict";
import { v7 } from "uuid";
import { openApi as openApiDocument } from "../../../routes/api/openapi.ts";
import { createApp } from "../../../app.ts";
import { dataPath, type Route } from "../../../dtma/data_path.ts";
import { generateSigningKey, type Observation } from "../../../dtma/protocol.ts";
import { BodyKeeper } from "../../../models/call_bodies.ts";
import { CallRecorder } from "../../../models/calls.ts";
import { Changes } from "../../../models/changes.ts";
import { createLog } from "../../../models/log.ts";
import type { ModelReach } from "../../../models/model_reach.ts";
import { openOutside } from "../../../models/outside.ts";
import { createPersonalToken, Scope } from "../../../models/personal_tokens.ts";
import { derivedSecrets, newSecretsKeyText } from "../../../models/secrets.ts";
import { deployServer } from "../../../models/servers.ts";
import { acceptReport, enrolToolbox, touchToolbox } from "../../../models/toolboxes.ts";
import { startServer } from "../../dtma/stdio_server.ts";
import { hashesOf } from "../../mcp/world.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "../../models/databases.ts";
import { observation } from "../../models/observation.ts";

export const FACTS = {
  dtmaVersion: "0.1.0",
  protocolVersion: 2,
  knowsApis: true,
  reach: "direct" as const,
  address: "http://127.0.0.1:9",
  engine: {
    state: "ready" as const,
    version: "28.1.0",
    apiVersion: "1.51",
    os: "Linux",
    architecture: "x86_64",
    cpus: 4,
    memoryBytes: 8 * 1024 ** 3,
  },
};

export const ALL_SCOPES = Scope.options;
export const SECRET = "env.GITHUB_PERSONAL_ACCESS_TOKEN";

const { paths } = openApiDocument(new URL("http://localhost"), "0");
const documented = Object.entries(paths).map(([path, operations]) => ({
  path: new RegExp(`^${path.replaceAll(/\{\w+\}/g, "[^/]+")}$`),
  operations,
}));

/** What is answered stands in the document, whichever test asks. */
function assertDocumented(method: string, path: string, status: number) {
  const [name] = path.split("?");
  // The first that fits, as the app looks for them.
  const found = documented.find((each) =>
    each.path.test(name) && each.operations[method.toLowerCase()]
  );
  const operation = found?.operations[method.toLowerCase()];
  if (!operation) return;
  assert.ok(
    String(status) in operation.responses,
    `${operation.operationId} answers ${status}, of which its document knows nothing`,
  );
}

export interface Reply {
  status: number;
  headers: Headers;
  text: string;
  // deno-lint-ignore no-explicit-any
  body: any;
}

export async function openApi(models?: ModelReach) {
  const world = await openWorld(KINDS[0]);
  const { db, owner, user, workspaceId, toolboxId, enrolmentToken, identity } = world;
  const { appSigningKey } = await derivedSecrets(newSecretsKeyText());
  const routes = new Map<string, Route>();
  let held: Promise<void> = Promise.resolve();
  const toolbox = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    dataPath({
      logOf: async () => {
        await held;
        return "started\nan Error\n";
      },
      bomOf: () => Promise.resolve({ bomFormat: "CycloneDX", components: [] }),
      reach: (id) => Promise.resolve(routes.get(id) ?? { unavailable: "It is not here" }),
      appPublicKey: () => appSigningKey.publicKey,
      log: () => {},
    }),
  );
  const facts = { ...FACTS, address: `http://127.0.0.1:${toolbox.addr.port}` };
  const { publicKey } = await generateSigningKey();
  await enrolToolbox(db, { token: enrolmentToken, publicKey, facts });
  await touchToolbox(db, toolboxId, facts);
  // As the real one's long polls do: a toolbox that is silent is taken for unreachable.
  const touching = setInterval(() => touchToolbox(db, toolboxId, facts).catch(() => {}), 15_000);

  const people: Record<string, { userId: string }> = { owner: user };
  for (const role of ["admin", "member", "viewer"]) {
    people[role] = await makeUser(world, `${role}@example.com`);
    await db.asApp`select mooring.put_profile(${people[role].userId}, ${`${role}@e.com`}, ${role})`;
    await addMember(world, workspaceId, people[role].userId, role);
  }
  // Another tenant, of which the owner is a member too: a token is of one workspace alone.
  const other = { workspaceId: v7(), toolboxId: v7(), stranger: await makeUser(world, "x@e.com") };
  await db.asApp`select mooring.put_profile(${other.stranger.userId}, 'x@e.com', 'Xan')`;
  await owner`insert into public.workspaces (id, name) values (${other.workspaceId}, 'Other')`;
  await addMember(world, other.workspaceId, other.stranger.userId, "owner");
  await addMember(world, other.workspaceId, user.userId, "owner");
  await owner`
    insert into public.toolboxes (id, workspace_id, name, public_key, facts, last_seen_at)
    values (${other.toolboxId}, ${other.workspaceId}, 'Other', 'k', ${
    JSON.stringify(FACTS)
  }::text::jsonb, now())`;

  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const calls = new CallRecorder(db, log, new BodyKeeper(db, testKey));
  const changes = new Changes(db);
  let serve = (_request: Request): Response | Promise<Response> => new Response(null);
  const http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => serve(request),
  );
  const baseUrl = new URL(`http://127.0.0.1:${http.addr.port}`);
  const app = await createApp({
    db,
    identity,
    setup: null,
    secretsKey: testKey,
    appSigningKey,
    outside: openOutside(),
    models,
    changes,
    links: null,
    calls,
    log,
    baseUrl,
    version: "0",
    isMigrated: () => Promise.resolve(true),
  });

  serve = (request) => app.fetch(request);

  const tokenOf = async (role: string, scopes: string[] = ALL_SCOPES, within = workspaceId) =>
    (await createPersonalToken(db, role === "stranger" ? other.stranger : people[role], within, {
      name: role,
      scopes,
      expiresInDays: 1,
    })).token;

  /** Sends a request as the API's clients do. */
  async function send(
    token: string | null,
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const response = await fetch(`${baseUrl.origin}/api/v1${path}`, {
      method,
      body: body === undefined
        ? undefined
        : typeof body === "string" || body instanceof Uint8Array
        ? body as BodyInit
        : JSON.stringify(body),
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
    });
    assertDocumented(method, path, response.status);
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: isJson ? JSON.parse(text) : undefined,
    };
  }

  let sequence = 0;
  const epoch = v7();
  const report = (serverId: string, generation: number, tools: Observation["tools"]) =>
    acceptReport(db, toolboxId, {
      epoch,
      sequence: ++sequence,
      observations: [observation(serverId, generation, tools)],
      events: [],
      removed: [],
      denials: [{
        serverId,
        host: "evil.example.com",
        port: 443,
        reason: "It is not allowed",
        count: 1,
        at: new Date().toISOString(),
      }],
    });
  return {
    ...world,
    app,
    baseUrl,
    people,
    other,
    logged,
    calls,
    tokenOf,
    send,
    /** A server of the other tenant. */
    deployElsewhere: async () =>
      (await deployServer(db, other.stranger, {
        workspaceId: other.workspaceId,
        toolboxId: other.toolboxId,
        slug: "github",
        form: { [SECRET]: "ghp_theirs" },
        idempotencyKey: crypto.randomUUID(),
      }, testKey)).serverId,
    /** Runs a fixture as a server's container would, and says to the app that it is up. */
    async run(serverId: string, generation = 1, fixture = "echo") {
      const process = startServer(fixture);
      const session = await process.open();
      const tools = await session.listTools();
      routes.set(serverId, {
        session,
        toolHashes: await hashesOf(tools),
        promptHashes: new Map(),
      });
      await report(serverId, generation, tools);
      return process;
    },
    report,
    /** The toolbox answers for no log until what is returned is called. */
    holdLogs(): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      held = promise;
      return resolve;
    },
    /** A path of the pages, as a person who is signed in gets it. */
    async page(path: string, cookie: string) {
      return await (await fetch(baseUrl.origin + path, { headers: { cookie } })).text();
    },
    async [Symbol.asyncDispose]() {
      clearInterval(touching);
      await http.shutdown();
      await toolbox.shutdown();
      await calls.flush();
      await changes.close();
      await world.close();
    },
  };
}
