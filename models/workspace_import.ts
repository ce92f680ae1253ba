/**
 * Brings a workspace's file into a workspace: first as a plan that changes nothing, then by the verbs of
 * each model. What is there already is left as it is, so an import that broke off is simply done again.
 */
import canonicalize from "canonicalize";
import { v7 } from "uuid";
import { type Agent, connectServer, createAgent, listAgents, setAgentOptions } from "./agents.ts";
import { askedInputs, buildCodeOf, findCatalogEntry } from "./catalog_entries.ts";
import { ConnectionOptions } from "./connection_options.ts";
import { listConnectionOptions, putConnectionOptions } from "./connections.ts";
import type { Database, User } from "./db.ts";
import { approveDefinitions, type Definition, listDefinitions } from "./definitions.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "./errors.ts";
import type { SecretsKey } from "./secrets.ts";
import { changesBetween } from "./server_changes.ts";
import { BUILD_CONSENT } from "./server_form.ts";
import {
  deployEntry,
  type Deployment,
  deployServer,
  listServers,
  type Server,
  stopServer,
} from "./servers.ts";
import { listTools } from "./tools.ts";
import {
  type AgentInFile,
  openSealedSecrets,
  readWorkspaceFile,
  type SecretsByServer,
  type ServerInFile,
  type WorkspaceFile,
} from "./workspace_file.ts";

/** One thing of the file, and what becomes of it. */
export interface ImportStep {
  kind: "server" | "agent" | "connection" | "approvals";
  /** A server's slug, an agent's name, or both. */
  name: string;
  /**
   * `create`: it is not there yet; after an import that was carried out, `created`. `same`: it is there
   * as in the file. `collision`: something else is there by its name, which is left as it is. `waiting`:
   * for a server to list its tools; import again then. `blocked`: something is needed first.
   */
  action: "create" | "created" | "same" | "collision" | "waiting" | "blocked" | "failed";
  detail: string;
}

export interface ImportResult {
  steps: ImportStep[];
  /** Secrets that servers of the file had and are not given yet. */
  secretsNeeded: { server: string; name: string; label: string; isRequired: boolean }[];
  /** All of the file is there. */
  isComplete: boolean;
}

export interface ImportRequest {
  workspaceId: string;
  file: Record<string, unknown>;
  /** False: nothing is changed. */
  apply: boolean;
  /** By slug and name, beside the sealed ones; an empty one leaves that secret out. */
  secrets?: SecretsByServer;
  /** Opens the sealed ones. */
  passphrase?: string;
  /** That install scripts and Dockerfiles of the file's entries run while images are built. */
  agreesToBuildCode?: boolean;
}

/**
 * Plans an import, or carries it out.
 *
 * @throws {Invalid} the file does not hold, or its secrets do not open
 */
export async function importWorkspace(
  deps: { db: Database; secretsKey: SecretsKey },
  user: User,
  request: ImportRequest,
): Promise<ImportResult> {
  const { db } = deps;
  const file = readWorkspaceFile(request.file);
  readOptions(file);
  const sealed = request.passphrase === undefined
    ? {}
    : await openSealedSecrets(request.file, request.passphrase);
  const importing = { deps, user, request, secrets: { sealed, given: request.secrets ?? {} } };
  const secretsNeeded: ImportResult["secretsNeeded"] = [];
  const steps: ImportStep[] = [];
  const here = await listServers(db, user, request.workspaceId);
  for (const server of file.servers) {
    const needed = neededSecrets(importing.secrets, server);
    const step = await serverStep(importing, server, needed, here);
    if (step.action === "blocked") secretsNeeded.push(...needed);
    steps.push(step);
  }
  // Read again: what was just made is there now.
  const servers = await listServers(db, user, request.workspaceId);
  const ours = servers.filter(({ slug }) =>
    steps.some(({ name, action }) => name === slug && ["same", "created"].includes(action))
  );
  for (const agent of file.agents) steps.push(...await agentSteps(importing, agent, ours));
  for (const server of file.servers) {
    if (server.approved.length === 0) continue;
    steps.push(
      await approvalStep(importing, server, ours.find(({ slug }) => slug === server.slug)),
    );
  }
  const isComplete = steps.every(({ action }) => action === "same" || action === "created");
  return { steps, secretsNeeded, isComplete };
}

interface Importing {
  deps: { db: Database; secretsKey: SecretsKey };
  user: User;
  request: ImportRequest;
  secrets: { sealed: SecretsByServer; given: SecretsByServer };
}

/** @throws {Invalid} naming the first connection whose options do not hold */
function readOptions(file: WorkspaceFile) {
  for (const { name, connections } of file.agents) {
    for (const { server, options } of connections) {
      if (!ConnectionOptions.safeParse(options).success) {
        const message = `The connection of ${name} to ${server} has options that do not hold`;
        throw new Invalid(message, { file: message });
      }
      if (!file.servers.some(({ slug }) => slug === server)) {
        const message = `${name} is connected to ${server}, which is not in the file`;
        throw new Invalid(message, { file: message });
      }
    }
  }
}

function secretOf({ sealed, given }: Importing["secrets"], slug: string, name: string) {
  const own = (all: SecretsByServer) =>
    Object.hasOwn(all, slug) && Object.hasOwn(all[slug], name) ? all[slug][name] : undefined;
  return own(given) ?? own(sealed);
}

/** The secrets that a server had where it comes from, and that are not given. */
function neededSecrets(secrets: Importing["secrets"], server: ServerInFile) {
  return askedInputs(server.entry).flatMap(({ input, field, kind }) => {
    const name = kind === "environment" ? input.name : field;
    const isMissing = input.isSecret && server.secrets.includes(name) &&
      secretOf(secrets, server.slug, name) === undefined;
    if (!isMissing) return [];
    const { label = input.name, isRequired } = input;
    return [{ server: server.slug, name, label, isRequired }];
  });
}

async function serverStep(
  importing: Importing,
  server: ServerInFile,
  needed: { label: string }[],
  here: Server[],
): Promise<ImportStep> {
  const { request } = importing;
  const step = (action: ImportStep["action"], detail: string): ImportStep => (
    { kind: "server", name: server.slug, action, detail }
  );
  const found = here.find(({ slug }) => slug === server.slug);
  if (found?.removedAt) {
    return step(
      "collision",
      "A server of this slug is being removed: import again once it is gone",
    );
  }
  if (found) {
    const wanted = { ...found.config, values: server.values, entry: server.entry };
    const changes = changesBetween(found.config, {
      ...wanted,
      options: { ...server.options, restart: found.config.options.restart },
    });
    const isSame = changes.length === 0 && found.name === server.name &&
      canonicalize(found.config.entry) === canonicalize(server.entry);
    if (isSame) return step("same", "It is there, as in the file");
    const names = changes.map(({ name }) => name).join(", ") || "its name or entry";
    return step(
      "collision",
      `Another server has this slug, and is left as it is. Different: ${names}`,
    );
  }
  if (needed.length > 0) {
    return step("blocked", `Give its secrets: ${needed.map(({ label }) => label).join(", ")}`);
  }
  const code = buildCodeOf(server.entry);
  if (code && !request.agreesToBuildCode) {
    return step(
      "blocked",
      code === "dockerfile"
        ? "Building it runs what its Dockerfile says: agree to that first"
        : "Installing it runs scripts of its packages: agree to that first",
    );
  }
  const { network: { hosts } } = server.entry;
  const reach = [...hosts, ...server.options.hosts].join(", ") || "no host";
  if (!request.apply) return step("create", `It will be deployed, and may reach ${reach}`);
  return await attempted(step, () => deployFrom(importing, server));
}

async function deployFrom(
  { deps: { db, secretsKey }, user, request, secrets }: Importing,
  server: ServerInFile,
): Promise<string> {
  const form: Record<string, string> = {
    ...server.values,
    ...(request.agreesToBuildCode ? { [BUILD_CONSENT]: "true" } : {}),
  };
  for (const { input, field, kind } of askedInputs(server.entry)) {
    if (!input.isSecret) continue;
    const name = kind === "environment" ? input.name : field;
    const value = secretOf(secrets, server.slug, name);
    if (value !== undefined) form[field] = value;
  }
  const deployment: Deployment = {
    workspaceId: request.workspaceId,
    name: server.name,
    serverSlug: server.slug,
    options: server.options,
    form,
    idempotencyKey: v7(),
  };
  const known = await catalogEntry(db, user, server.entry.slug);
  // Of the catalog's own it stays one, so that it is told of updates.
  const { serverId } = known && canonicalize(known) === canonicalize(server.entry)
    ? await deployServer(db, user, { ...deployment, slug: server.entry.slug }, secretsKey)
    : await deployEntry(db, user, { ...deployment, entry: server.entry }, secretsKey);
  if (!server.running) await stopServer(db, user, serverId);
  return server.running ? "Deployed" : "Deployed, and stopped as it was";
}

async function catalogEntry(db: Database, user: User, slug: string) {
  try {
    return (await findCatalogEntry(db, user, slug)).entry;
  } catch (error) {
    if (error instanceof NotFound) return null;
    throw error;
  }
}

async function agentSteps(
  importing: Importing,
  agent: AgentInFile,
  servers: Server[],
): Promise<ImportStep[]> {
  const { deps: { db }, user, request } = importing;
  const { name, deniesByDefault, presents, instructions, asks } = agent;
  const step = (action: ImportStep["action"], detail: string): ImportStep => (
    { kind: "agent", name, action, detail }
  );
  const named = (agents: Agent[]) => agents.find((each) => each.name === name);
  let found = named(await listAgents(db, user, request.workspaceId));
  let own: ImportStep;
  if (found) {
    const isSame = found.deniesByDefault === deniesByDefault && found.presents === presents &&
      found.instructions === instructions && found.asks === asks;
    own = isSame
      ? step("same", "It is there, as in the file")
      : step("collision", "An agent of this name is set otherwise, and is left as it is");
  } else if (!request.apply) {
    own = step("create", "It will be made, without tokens: make new ones for its clients");
  } else {
    own = await attempted(step, async () => {
      const id = await createAgent(db, user, request.workspaceId, name);
      await setAgentOptions(db, user, id, { deniesByDefault, presents, instructions, asks });
      return "Made, without tokens";
    });
    found = named(await listAgents(db, user, request.workspaceId));
  }
  const options = await listConnectionOptions(db, user, request.workspaceId);
  const steps = [own];
  for (const connection of agent.connections) {
    const server = servers.find(({ slug }) => slug === connection.server);
    const known = options.find((each) =>
      each.agentId === found?.id && each.serverId === server?.id
    );
    steps.push(await connectionStep(importing, name, connection, found, server, known?.options));
  }
  return steps;
}

async function connectionStep(
  { deps: { db }, user, request }: Importing,
  agentName: string,
  connection: AgentInFile["connections"][number],
  agent: Agent | undefined,
  server: Server | undefined,
  known: ConnectionOptions | undefined,
): Promise<ImportStep> {
  const wanted = ConnectionOptions.parse(connection.options);
  const step = (action: ImportStep["action"], detail: string): ImportStep => (
    { kind: "connection", name: `${agentName} to ${connection.server}`, action, detail }
  );
  if (known) {
    return canonicalize(known) === canonicalize(wanted)
      ? step("same", "It is there, as in the file")
      : step("collision", "They are connected otherwise, which is left as it is");
  }
  if (!request.apply) return step("create", "They will be connected");
  if (!server) return step("waiting", "The server is not here as in the file");
  if (!agent) return step("waiting", "The agent is not here yet");
  return await attempted(step, async () => {
    await connectServer(db, user, agent.id, server.id);
    await putConnectionOptions(db, user, agent.id, server.id, wanted);
    return "Connected";
  });
}

/** Approves what the server lists exactly as it was approved where the file comes from. */
async function approvalStep(
  { deps: { db }, user, request }: Importing,
  { slug, approved }: ServerInFile,
  server: Server | undefined,
): Promise<ImportStep> {
  const step = (action: ImportStep["action"], detail: string): ImportStep => (
    { kind: "approvals", name: slug, action, detail }
  );
  const total = approved.length;
  if (!server) {
    return step("waiting", `${total} approved where it comes from; it is not here as in the file`);
  }
  const tools = (await listTools(db, user, server.id)).map((tool) => ({ ...tool, kind: "tool" }));
  const listed = [...tools, ...await listDefinitions(db, user, server.id)] as Definition[];
  const now = approved.map((pin) => ({
    pin,
    seen: listed.find(({ kind, name }) => kind === pin.kind && name === pin.name),
  }));
  const isListed = now.filter(({ seen }) => seen && seen.state !== "gone");
  const others = isListed.filter(({ pin, seen }) => seen!.hash !== pin.hash)
    .map(({ pin }) => pin.name);
  const open = isListed.filter(({ pin, seen }) =>
    seen!.hash === pin.hash && seen!.approvedHash !== pin.hash
  );
  const rest = others.length > 0
    ? `; ${others.slice(0, 10).join(", ")} are other definitions here: read and approve those`
    : "";
  if (open.length > 0 && !request.apply) {
    return step("create", `${open.length} of ${total} will be approved${rest}`);
  }
  const approve = async () => {
    for (const kind of new Set(open.map(({ pin }) => pin.kind))) {
      const picks = open.filter(({ pin }) => pin.kind === kind).map(({ pin }) => pin);
      await approveDefinitions(db, user, server.id, kind, picks);
    }
  };
  if (isListed.length < total) {
    if (open.length > 0) await approve();
    return step("waiting", `${total - isListed.length} of ${total} are not listed here yet${rest}`);
  }
  if (others.length > 0) {
    if (open.length > 0) await approve();
    return step("collision", `${total - others.length} of ${total} are approved${rest}`);
  }
  if (open.length === 0) return step("same", `All ${total} are approved`);
  return await attempted(step, async () => {
    await approve();
    return `Approved ${open.length} of ${total}`;
  });
}

/** One step that fails does not take the others with it. */
async function attempted(
  step: (action: ImportStep["action"], detail: string) => ImportStep,
  act: () => Promise<string>,
): Promise<ImportStep> {
  try {
    return step("created", await act());
  } catch (error) {
    if (error instanceof Invalid) {
      return step("failed", [error.message, ...Object.values(error.fields)].join(". "));
    }
    if (error instanceof Conflict || error instanceof Forbidden || error instanceof NotFound) {
      return step("failed", error.message);
    }
    throw error;
  }
}
