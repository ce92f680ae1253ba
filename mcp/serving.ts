/** The answer to a request, whatever revision and transport it came by. */
import {
  abortSignalOf,
  type CallSignal,
  END_METHOD,
  objectMembers,
  objectText,
  TASKS_EXTENSION,
  WAIST_REVISION,
} from "../dtma/protocol.ts";
import { permits, SCOPE } from "../models/authorization_server.ts";
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import { errorFields, type Log } from "../models/log.ts";
import { type EndedSession, type Session, SUBSCRIPTIONS_LIMIT } from "../models/sessions.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import {
  argumentsText,
  type AskResources,
  findPrompt,
  findTool,
  instructionsOf,
  itemText,
  listPage,
  type NamedToolbelt,
  resourcesPage,
  routeUri,
} from "./aggregate.ts";
import { lostWithReplica, type Outlet, type TakeOver } from "./exchange.ts";
import { type Listening, listening, type Wanted } from "./listening.ts";
import { type IncomingRequest, messageText } from "./messages.ts";
import { definitionFor, forRevision } from "./older_revisions.ts";
import { callOwnTool, OWN_SERVER, type OwnTools, type ShowsPage } from "./own_server.ts";
import { requestStates } from "./request_state.ts";
import {
  checkParamHeaders,
  isObject,
  LOG_LEVELS,
  META,
  RpcCode,
  RpcError,
  shown,
  SUPPORTED_REVISIONS,
} from "./revisions.ts";
import { type Answer, callServer, isComplete } from "./router.ts";
import { CALL_TOOL, calledTool, FIND_TOOLS, foundTools } from "./search.ts";
import type { Caller, Sessions } from "./sessions.ts";
import { withShownUris } from "./shown_uris.ts";
import { progressOf, waitForTask, waitIn } from "./task_wait.ts";
import {
  declaresTasks,
  hasTasks,
  LEGACY_TASKS,
  LISTENED_LIMIT,
  maySupportTasks,
  type TaskAsker,
  tasks,
  tasksNotDeclared,
  withTaskSupport,
} from "./tasks.ts";
import { callTool, type ToolCall, type ToolCallDeps, visibleToModels } from "./tool_call.ts";
import { toolLimits } from "./tool_limits.ts";
import { toolbelts } from "./toolbelt_cache.ts";
import {
  type Asking,
  askServer,
  checkInputResponses,
  clientOf,
  targetOf,
  type WaistClient,
} from "./waist.ts";

export interface ServingDeps extends ToolCallDeps {
  db: Database;
  changes: Changes;
  log: Log;
  /** Mooring's own, for agents that may manage it. */
  ownTools?: OwnTools;
}

/** Who asks, and how. */
export interface Client {
  caller: Caller;
  /** The slug of the one server that is asked, or null for all of the agent's. */
  scope: string | null;
  revision: string;
  session: Session | null;
  /** Of the request, where its revision repeats what its body says. */
  headers: Headers;
  /** Whether the caller's token still holds: a stream outlives the moment it was looked at. */
  stillHolds: () => Promise<boolean>;
}

export interface Serving {
  /** Answers a request. @throws {RpcError} and the signal's reason */
  answer(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer>;
  /** The answer to `initialize`. @throws {RpcError} when there is no such server */
  initialized(caller: Caller, scope: string | null, revision: string): Promise<Answer>;
  /** Waits on for the task of a call whose replica was lost; see {@link TakeOver}. */
  takeOver(client: Client, ...lost: Parameters<TakeOver>): Promise<Answer>;
  /** Ends what servers hold for a session alone. */
  release(session: EndedSession): Promise<void>;
  listening: Listening;
}

/** Makes the answerer of one replica. */
export function serving(deps: ServingDeps, sessions: Sessions): Serving {
  const known = toolbelts(deps);
  const limited = toolLimits();
  const states = requestStates(deps.appSigningKey);
  const listen = listening(deps, known);
  const served = tasks(deps);
  sessions.onForgotten = release;

  return { answer, initialized, takeOver, release, listening: listen };

  async function answer(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer> {
    const capability = CAPABILITY_OF[request.method];
    if (capability) await checkCapability(client, request.method, capability);
    const given = await answerOfWaist(client, request, outlet, signal);
    // A list is made as its client takes it: to take a thousand tools apart again would take longer than
    // all else.
    const fitted = Object.hasOwn(LISTS, request.method)
      ? given
      : forRevision(given, request.method, client.revision);
    if (fitted.kind === "error" && client.revision === WAIST_REVISION) checkStatus(fitted);
    return fitted;
  }

  async function checkCapability(
    { caller, scope, revision }: Client,
    method: string,
    capability: string,
  ): Promise<void> {
    const named = await toolbeltOf(caller, scope);
    if (!(capability in capabilitiesOf(named))) {
      throw notServed(method, revision === WAIST_REVISION);
    }
  }

  /** Not async, as little is that a call goes through: each such function costs it some 0.4 us of CPU. */
  function answerOfWaist(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Answer | Promise<Answer> {
    const { method, params } = request;
    const isModern = client.revision === WAIST_REVISION;
    switch (method) {
      case "ping":
        if (isModern) break;
        return result({});
      case "server/discover":
        if (!isModern) break;
        return discovered(client);
      case "logging/setLevel":
        if (isModern || !client.session) break;
        return setLevel(client.session, params);
      case "resources/subscribe":
      case "resources/unsubscribe":
        if (isModern || !client.session) break;
        return subscribe(client, client.session, method, params, abortSignalOf(signal));
      case "subscriptions/listen":
        if (!isModern) break;
        return subscription(client, request, outlet, abortSignalOf(signal));
      case "tools/list":
      case "prompts/list":
      case "resources/templates/list":
        return listed(client, method, params.cursor);
      case "resources/list":
        return resources(client, request, abortSignalOf(signal));
      case "tools/call":
        return call(client, request, outlet, signal);
      case "prompts/get":
        return prompt(client, request, outlet, signal);
      case "resources/read":
        return read(client, request, outlet, signal);
      case "completion/complete":
        return complete(client, request, outlet, signal);
      case "tasks/get":
      case "tasks/update":
      case "tasks/result":
      case "tasks/cancel":
        return ofTask(client, request, outlet, signal);
    }
    throw notServed(method, isModern);
  }

  function toolbeltOf(
    caller: Caller,
    scope: string | null,
  ): NamedToolbelt | Promise<NamedToolbelt> {
    const named = known.of(caller.agentId, scope);
    if (scope === null) return named;
    const checked = (named: NamedToolbelt) => {
      if (named.servers.length > 0) return named;
      throw new RpcError(
        RpcCode.invalidRequest,
        `This agent is not connected to a server "${scope.slice(0, 64)}"`,
        404,
      );
    };
    return named instanceof Promise ? named.then(checked) : checked(named);
  }

  // ── What the bridge says itself ────────────────────────────────────────────────────────────────

  async function initialized(caller: Caller, scope: string | null, revision: string) {
    const named = await toolbeltOf(caller, scope);
    const extensions = passedExtensions(named);
    const _meta = notPassedOn(named);
    return result({
      protocolVersion: revision,
      capabilities: {
        ...capabilitiesOf(named),
        ...legacyTasksOf(named, revision),
        // Of no revision before 2026-07-28; the extension was made for those, and is looked for here.
        ...(extensions ? { extensions } : {}),
      },
      serverInfo: serverInfo(deps),
      instructions: instructionsOf(named),
      ...(_meta ? { _meta } : {}),
    });
  }

  async function discovered({ caller, scope }: Client): Promise<Answer> {
    const named = await toolbeltOf(caller, scope);
    const tasks = named.servers.some(hasTasks) ? { [TASKS_EXTENSION]: {} } : null;
    const passed = passedExtensions(named);
    const _meta = notPassedOn(named);
    return cacheable({
      supportedVersions: SUPPORTED_REVISIONS,
      capabilities: {
        ...capabilitiesOf(named),
        ...(tasks || passed ? { extensions: { ...passed, ...tasks } } : {}),
      },
      instructions: instructionsOf(named),
      ...(_meta ? { _meta } : {}),
    }, 5000);
  }

  function cacheable(value: Record<string, unknown>, ttlMs: number): Answer {
    return result({
      resultType: "complete",
      ...value,
      ttlMs,
      cacheScope: "private",
      _meta: {
        ...(isObject(value._meta) ? value._meta : {}),
        [META.serverInfo]: serverInfo(deps),
      },
    });
  }

  async function listed(
    { caller, scope, revision }: Client,
    method: keyof typeof LISTS,
    cursor: unknown,
  ): Promise<Answer> {
    const named = await toolbeltOf(caller, scope);
    const pages = pagesOf(named);
    const key = JSON.stringify([method, revision, cursor]);
    const known = pages.get(key);
    if (known) return known;
    const { what, member } = LISTS[method];
    const { items, nextCursor } = listPage(named, what, cursor);
    const texts = items.map((item) => {
      if (what !== "tools") return itemText(item);
      const tool = revision === LEGACY_TASKS ? findTool(named, String(item.name)) : undefined;
      const supporting = tool ? withTaskSupport(item, serverOf(named, tool.serverId)) : item;
      return itemText(definitionFor(supporting, revision));
    });
    const empty = cacheable(nextCursor === undefined ? {} : { nextCursor }, 5000);
    const members = objectMembers(forRevision(empty, method, revision).text);
    const text = objectText(members.set(member, `[${texts.join(",")}]`));
    const page: Answer = { kind: "result", text };
    // One page may be asked for by many cursors that somebody made up.
    if (pages.size >= PAGES_LIMIT) pages.clear();
    pages.set(key, page);
    return page;
  }

  async function setLevel(session: Session, { level }: Record<string, unknown>): Promise<Answer> {
    if (!LOG_LEVELS.includes(level as string)) {
      throw new RpcError(RpcCode.invalidParams, `There is no log level ${shown(level)}`, 200);
    }
    await sessions.change(session, { logLevel: level as string });
    return result({});
  }

  async function subscribe(
    client: Client,
    session: Session,
    method: string,
    { uri }: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<Answer> {
    // No URI has NUL, and no database takes it.
    if (typeof uri !== "string" || uri.includes("\u0000")) {
      throw new RpcError(RpcCode.invalidParams, "params.uri must be a URI", 200);
    }
    if (method === "resources/unsubscribe") {
      await sessions.change(session, { unsubscribe: uri });
      return result({});
    }
    const route = routeUri(await toolbeltOf(client.caller, client.scope), uri);
    if (!route) throw noResource(uri, client);
    if (!canSubscribe(route.server)) {
      throw new RpcError(RpcCode.invalidParams, "Its server does not tell of updates", 200);
    }
    const tooMany = () =>
      new RpcError(
        RpcCode.invalidParams,
        `A session has at most ${SUBSCRIPTIONS_LIMIT} subscriptions`,
        200,
      );
    if (session.subscriptions.length >= SUBSCRIPTIONS_LIMIT) throw tooMany();
    const asker = { caller: client.caller, sessionId: session.id };
    const refusal = await listen.refusal(asker, route, signal);
    if (refusal) return refusal;
    const changed = await sessions.change(session, { subscribe: uri });
    // Others may have been subscribed to meanwhile.
    if (changed && !changed.subscriptions.includes(uri)) throw tooMany();
    return result({});
  }

  /** A stream of changes, which ends when the client goes. */
  async function subscription(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { caller, scope } = client;
    const { idText, params } = request;
    if (!outlet.takesNotifications) {
      throw new RpcError(RpcCode.invalidRequest, "Accept must name text/event-stream", 406);
    }
    const named = await toolbeltOf(caller, scope);
    const { wanted, honoured } = wantedOf(params.notifications, named);
    const followed = await served.known(
      caller.agentId,
      named,
      wantedTasks(params.notifications, declaresTasks({ params })),
    );
    if (followed.size > 0) honoured.taskIds = [...followed.keys()];
    const meta = `{"${META.subscriptionId}":${idText}}`;
    const told = (method: string, members: Map<string, string> = new Map()) => {
      const all = objectMembers(members.get("_meta") ?? "{}").set(META.subscriptionId, idText);
      const params = objectText(new Map(members).set("_meta", objectText(all)));
      outlet.notify(messageText(`notifications/${method}`, params));
    };
    const asker = askerOf(client, request, named, NOWHERE);
    const over = new AbortController();
    const until = AbortSignal.any([signal, over.signal]);
    try {
      await listen.follow({
        caller,
        scope,
        sessionId: null,
        wanted: async () => await client.stillHolds() ? wanted : null,
        // What happens from here on is told.
        onHeard(refused) {
          const uris = wanted.uris.filter((uri) => !refused.includes(uri));
          if (uris.length > 0) honoured.resourceSubscriptions = uris;
          else delete honoured.resourceSubscriptions;
          told(
            "subscriptions/acknowledged",
            new Map([["notifications", JSON.stringify(honoured)]]),
          );
          served.follow(
            asker,
            followed,
            (serverId) => serverNow(client, serverId),
            (task) => told("tasks", task),
            until,
          ).catch((error) => deps.log.error("Tasks are not followed any more", errorFields(error)));
        },
        tell: (method, uri) =>
          told(method, uri === undefined ? undefined : new Map([["uri", JSON.stringify(uri)]])),
        signal,
      });
    } finally {
      over.abort();
    }
    signal.throwIfAborted();
    return { kind: "result", text: `{"resultType":"complete","_meta":${meta}}` };
  }

  // ── What a server says ─────────────────────────────────────────────────────────────────────────

  async function call(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer> {
    const named = await toolbeltOf(client.caller, client.scope);
    const isSearched = named.presents === "search";
    if (isSearched && request.params.name === FIND_TOOLS) {
      return await foundTools(deps.db, named, request.params.arguments);
    }
    const isFound = isSearched && request.params.name === CALL_TOOL;
    if (isFound) request = calledTool(request);
    const { params } = request;
    const tool = typeof params.name === "string" ? findTool(named, params.name) : undefined;
    if (!tool) {
      throw new RpcError(
        RpcCode.invalidParams,
        `Unknown tool: ${shown(params.name)}. List the tools again: it may have been renamed or ` +
          "removed, or a change of its definition waits for approval",
        200,
      );
    }
    checkScope(client.caller, tool);
    if (params.arguments !== undefined && !isObject(params.arguments)) {
      throw new RpcError(RpcCode.invalidParams, "params.arguments must be an object", 200);
    }
    // What is called by call_tool has no headers of its own.
    if (client.revision === WAIST_REVISION && !isFound) {
      checkParamHeaders(tool.definition.inputSchema, params.arguments, client.headers);
    }
    if (tool.serverId === OWN_SERVER) {
      const shows = await showsPage(client, request, tool.name, outlet);
      return await callOwnTool(
        deps,
        client.caller,
        tool,
        params.arguments ?? {},
        shows,
        abortSignalOf(signal),
      );
    }
    const server = serverOf(named, tool.serverId);
    const isModern = client.revision === WAIST_REVISION;
    const isLegacyTask = asksForTask(client, named, params);
    if (isLegacyTask && !maySupportTasks(tool.definition, server)) {
      throw new RpcError(RpcCode.methodNotFound, "The tool does not run as a task", 200);
    }
    const asked = await askedFor(client, request, server, tool.name, outlet);
    // Of 2025-11-25, and to its servers alone; to all others it means nothing.
    if (!isLegacyTask) asked.params.delete("task");
    const given = asked.params.get("arguments");
    const filled = argumentsText(tool, given ?? "{}");
    if (given !== undefined || filled !== "{}") asked.params.set("arguments", filled);
    const done = tool.limits &&
      limited.begin(client.caller.agentId, tool, tool.limits, params.name as string);
    const called = callTool(deps, {
      workspaceId: client.caller.workspaceId,
      via: "bridge",
      server,
      serverNow: () => serverNow(client, tool.serverId),
      tool: {
        name: tool.name,
        hash: tool.hash,
        annotations: tool.definition.annotations,
        execution: tool.definition.execution,
      },
      takesTasks: isLegacyTask || isModern && declaresTasks(request),
      remember: remembering(outlet, tool.serverId),
      ...asked,
    }, { signal, onNotification: outlet.notify, onLetGo: outlet.letGo });
    const answer = await (done ? called.finally(done) : called);
    const fitted = withShownUris(named, server, answer);
    const asker = { agentId: client.caller.agentId, client: asked.client };
    if (!isLegacyTask) return served.created(asker, server, fitted);
    return served.createdOfLegacy(asker, client.session!, server, fitted);
  }

  /** How a client shows its person a page of Mooring's own; null where it cannot. */
  async function showsPage(
    client: Client,
    { paramsText }: IncomingRequest,
    name: string,
    outlet: Outlet,
  ): Promise<ShowsPage | null> {
    const params = objectMembers(paramsText);
    const { capabilities } = clientOf(waistClient(client, outlet, null), params.get("_meta"));
    const declared: unknown = JSON.parse(capabilities ?? "{}");
    const elicitation = isObject(declared) ? declared.elicitation : undefined;
    if (!isObject(elicitation) || !isObject(elicitation.url)) return null;
    if (client.revision !== WAIST_REVISION) {
      return outlet.ask && { ask: outlet.ask, notify: outlet.notify };
    }
    const { agentId } = client.caller;
    const of = { agentId, serverId: OWN_SERVER, method: "tools/call", name };
    const given: unknown = JSON.parse(params.get("requestState") ?? "null");
    const wishId = given === null ? null : await states.open(of, given);
    const responses = JSON.parse(params.get("inputResponses") ?? "null");
    return {
      seal: (wishId) => states.seal(of, wishId),
      back: wishId === null ? null : { wishId, responses },
    };
  }

  async function ofTask(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer> {
    const { method } = request;
    const named = await toolbeltOf(client.caller, client.scope);
    const isModern = client.revision === WAIST_REVISION;
    // What the other of the two revisions has.
    const isServed = isModern
      ? method !== "tasks/result"
      : client.revision === LEGACY_TASKS && method !== "tasks/update";
    if (!isServed || !named.servers.some(hasTasks)) throw notServed(method, isModern);
    const asker = askerOf(client, request, named, outlet);
    if (!isModern) {
      return await served.answerLegacy(
        asker,
        request,
        (serverId) => serverNow(client, serverId),
        signal,
      );
    }
    if (!declaresTasks(request)) throw tasksNotDeclared();
    return await served.answer(asker, request, signal);
  }

  function remembering(
    { remember }: Outlet,
    serverId: string,
  ): ToolCall["remember"] {
    if (!remember) return undefined;
    return (waited) =>
      void remember(JSON.stringify({ serverId, ...waited })).catch((error) =>
        deps.log.error("A wait for a task could not be kept", errorFields(error))
      );
  }

  async function takeOver(
    client: Client,
    kept: string,
    outlet: Outlet,
    signal: AbortSignal,
    isCancelled: () => boolean,
  ): Promise<Answer> {
    const { serverId, task, token } = JSON.parse(kept);
    const named = await known.of(client.caller.agentId, client.scope);
    const server = named.servers.find((server) => server.serverId === serverId);
    if (!server) return lostWithReplica();
    const asking = outlet.ask && { ask: outlet.ask };
    const answer = await waitForTask(deps, waistClient(client, outlet, server), task, asking, {
      signal,
      serverNow: () => serverNow(client, serverId),
      cancels: isCancelled,
      progress: progressOf(token, outlet.notify),
    });
    const shownAnswer = withShownUris(named, server, visibleToModels(answer));
    return forRevision(shownAnswer, "tools/call", client.revision);
  }

  function askerOf(
    client: Client,
    { paramsText }: IncomingRequest,
    named: NamedToolbelt,
    outlet: Outlet,
  ): TaskAsker {
    return {
      agentId: client.caller.agentId,
      named,
      client: clientOf(waistClient(client, outlet, null), objectMembers(paramsText).get("_meta")),
      asking: outlet.ask && { ask: outlet.ask },
      notify: outlet.notify,
    };
  }

  async function serverNow(
    { caller, scope }: Client,
    serverId: string,
  ): Promise<ToolbeltServer | null> {
    const { servers } = await known.of(caller.agentId, scope);
    return servers.find((server) => server.serverId === serverId) ?? null;
  }

  async function prompt(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer> {
    const { name } = request.params;
    const named = await toolbeltOf(client.caller, client.scope);
    const found = typeof name === "string" ? findPrompt(named, name) : undefined;
    if (!found) {
      throw new RpcError(RpcCode.invalidParams, `Unknown prompt: ${shown(name)}`, 200);
    }
    const server = serverOf(named, found.serverId);
    const { client: asker, params, asking } = await askedFor(
      client,
      request,
      server,
      found.name,
      outlet,
    );
    params.set("name", JSON.stringify(found.name));
    const answer = await askServer(
      deps,
      asker,
      { server, method: "prompts/get", params, pin: found.hash, isRepeatable: true },
      asking,
      { signal, onNotification: outlet.notify },
    );
    return withShownUris(named, server, answer);
  }

  async function read(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer> {
    const { uri } = request.params;
    const named = await toolbeltOf(client.caller, client.scope);
    const route = typeof uri === "string" ? routeUri(named, uri) : null;
    if (!route) throw noResource(uri, client);
    const { client: asker, params, asking } = await askedFor(
      client,
      request,
      route.server,
      route.uri,
      outlet,
    );
    params.set("uri", JSON.stringify(route.uri));
    const answer = await askServer(
      deps,
      asker,
      { server: route.server, method: "resources/read", params, isRepeatable: true },
      asking,
      { signal, onNotification: outlet.notify },
    );
    if (answer.kind === "error") return answer;
    const members = objectMembers(answer.text);
    if (!isComplete(members.get("resultType"))) {
      // Of whatever type, the content is this agent's.
      if (members.has("cacheScope")) members.set("cacheScope", `"private"`);
      return { kind: "result", text: objectText(members) };
    }
    // Of a server of an older revision there are no hints.
    const ttlMs: unknown = JSON.parse(members.get("ttlMs") ?? "null");
    if (!Number.isInteger(ttlMs) || ttlMs as number < 0) members.set("ttlMs", "0");
    members.set("cacheScope", `"private"`);
    return withShownUris(named, route.server, { kind: "result", text: objectText(members) });
  }

  async function resources(
    client: Client,
    request: IncomingRequest,
    signal: AbortSignal,
  ): Promise<Answer> {
    const named = await toolbeltOf(client.caller, client.scope);
    const { cursor } = request.params;
    const ask: AskResources = async (server, own, until) => {
      const { client: asker, params } = await askedFor(client, request, server, "", NOWHERE);
      params.delete("cursor");
      if (own !== undefined) params.set("cursor", JSON.stringify(own));
      const call = { server, method: "resources/list", params, isRepeatable: true };
      return await askServer(deps, asker, call, null, { signal: until });
    };
    const { resourcesText, nextCursor, unavailable } = await resourcesPage(
      named,
      cursor,
      ask,
      signal,
    );
    const without = Object.keys(unavailable).length > 0
      ? { _meta: { "dev.mooring/unavailable": unavailable } }
      : {};
    const page = cacheable({ ...without, ...(nextCursor ? { nextCursor } : {}) }, 0);
    const members = objectMembers(page.text).set("resources", resourcesText);
    return { kind: "result", text: objectText(members) };
  }

  async function complete(
    client: Client,
    request: IncomingRequest,
    outlet: Outlet,
    signal: CallSignal,
  ): Promise<Answer> {
    const { ref } = request.params;
    const named = await toolbeltOf(client.caller, client.scope);
    if (!isObject(ref)) {
      throw new RpcError(RpcCode.invalidParams, "params.ref must be an object", 200);
    }
    const refMembers = objectMembers(objectMembers(request.paramsText).get("ref")!);
    let server: ToolbeltServer;
    if (ref.type === "ref/prompt") {
      const found = typeof ref.name === "string" ? findPrompt(named, ref.name) : undefined;
      if (!found) {
        throw new RpcError(RpcCode.invalidParams, `Unknown prompt: ${shown(ref.name)}`, 200);
      }
      server = serverOf(named, found.serverId);
      refMembers.set("name", JSON.stringify(found.name));
    } else {
      const route = typeof ref.uri === "string" ? routeUri(named, ref.uri) : null;
      if (!route) throw noResource(ref.uri, client);
      server = route.server;
      refMembers.set("uri", JSON.stringify(route.uri));
    }
    const { client: asker, params } = await askedFor(client, request, server, "", outlet);
    params.set("ref", objectText(refMembers));
    return await askServer(
      deps,
      asker,
      { server, method: "completion/complete", params, isRepeatable: true },
      null,
      { signal },
    );
  }

  /** What of a request goes to a server, and how the server's questions come back. */
  function askedFor(
    client: Client,
    request: IncomingRequest,
    server: ToolbeltServer,
    name: string,
    outlet: Outlet,
  ): Asked | Promise<Asked> {
    if (client.revision === WAIST_REVISION) {
      return askedByModern(client, request, server, name, outlet);
    }
    const params = objectMembers(request.paramsText);
    // Of the waist alone: from here they would reach a server as if they had been sealed.
    params.delete("requestState");
    params.delete("inputResponses");
    return {
      client: waistClient(client, outlet, server),
      params,
      asking: outlet.ask && { ask: outlet.ask, takesErrors: client.revision === "2025-11-25" },
      waited: null,
    };
  }

  async function askedByModern(
    client: Client,
    { method, params: { inputResponses }, paramsText }: IncomingRequest,
    server: ToolbeltServer,
    name: string,
    outlet: Outlet,
  ): Promise<Asked> {
    const params = objectMembers(paramsText);
    // As some write what is absent.
    if (inputResponses === null) params.delete("inputResponses");
    else if (inputResponses !== undefined) checkInputResponses(inputResponses);
    const of = { agentId: client.caller.agentId, serverId: server.serverId, method, name };
    const given: unknown = JSON.parse(params.get("requestState") ?? "null");
    const responses = params.get("inputResponses");
    const waited = given === null ? null : await waitIn(states, of, given, responses);
    if (given === null) params.delete("requestState");
    else if (!waited) {
      const state = await states.open(of, given);
      if (state === null) params.delete("requestState");
      else params.set("requestState", JSON.stringify(state));
    }
    return { client: waistClient(client, outlet, server), params, asking: { states, of }, waited };
  }

  async function release({ id, agentId, scope }: EndedSession): Promise<void> {
    const meta = {
      [META.protocolVersion]: WAIST_REVISION,
      [META.clientCapabilities]: {},
    };
    const body = JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: END_METHOD,
      params: { _meta: meta },
    });
    try {
      const { servers } = await known.of(agentId, scope);
      const own = servers.filter(({ instances, unavailable }) =>
        instances === "session" && !unavailable
      );
      await Promise.all(own.map(async (server) => {
        const target = targetOf(server, { agentId, sessionId: id });
        const { kind, text } = await callServer(deps, target, body);
        // It ends by itself after a while without a call.
        if (kind === "error") deps.log.warn("A session's instance was not ended", { reason: text });
      }));
    } catch (error) {
      deps.log.error("A session was not released", errorFields(error));
    }
  }
}

/** What of a request goes to a server, and how what the server asks comes back. */
interface Asked {
  client: WaistClient;
  params: Map<string, string>;
  asking: Asking;
  /** The task that a call waits for since an earlier try. */
  waited: ToolCall["waited"];
}

const NOBODY: WaistClient = {
  agentId: null,
  sessionId: null,
  capabilities: "{}",
  clientInfo: null,
  logLevel: null,
};

/** Of a request on the client's behalf that tells and asks the client nothing. */
const NOWHERE: Outlet = {
  notify: () => {},
  takesNotifications: false,
  ask: null,
  remember: null,
};

/** Pages of lists that are kept ready, of one toolbelt. */
const PAGES_LIMIT = 64;
const pages = new WeakMap<NamedToolbelt, Map<string, Answer>>();

function pagesOf(named: NamedToolbelt): Map<string, Answer> {
  let of = pages.get(named);
  if (!of) pages.set(named, of = new Map());
  return of;
}

/** The only answer with status 403. */
export const BEYOND_SCOPE =
  `This tool is not known to only read, and this client was let use those that do: ask for ${SCOPE}`;

const LISTS = {
  "tools/list": { what: "tools", member: "tools" },
  "prompts/list": { what: "prompts", member: "prompts" },
  "resources/templates/list": { what: "templates", member: "resourceTemplates" },
} as const;

function waistClient(
  { caller, session, revision }: Client,
  outlet: Outlet,
  server: ToolbeltServer | null,
): WaistClient {
  if (revision === WAIST_REVISION) {
    return { ...NOBODY, agentId: caller.agentId, capabilities: null };
  }
  const hasLog = outlet.takesNotifications && isObject(server?.capabilities?.logging);
  return {
    agentId: caller.agentId,
    sessionId: session?.id ?? null,
    capabilities: session && outlet.ask ? JSON.stringify(session.capabilities) : "{}",
    clientInfo: session?.clientInfo ?? null,
    logLevel: session && hasLog ? session.logLevel : null,
  };
}

/** What none of the toolbelt's servers has. */
const CAPABILITY_OF: Record<string, string> = Object.assign(Object.create(null), {
  "prompts/list": "prompts",
  "prompts/get": "prompts",
  "resources/list": "resources",
  "resources/templates/list": "resources",
  "resources/read": "resources",
  "resources/subscribe": "resources",
  "resources/unsubscribe": "resources",
  "completion/complete": "completions",
});

function notServed(method: string, isModern: boolean): RpcError {
  return new RpcError(
    RpcCode.methodNotFound,
    `Mooring does not serve the method "${method.slice(0, 100)}" to this agent`,
    isModern ? 404 : 200,
  );
}

/**
 * Holds a call to what a client's person let it do. @throws {RpcError} the one that is answered with 403, to
 * which routes/mcp.ts adds the challenge
 */
function checkScope(
  { limits }: Caller,
  { definition }: { definition: { annotations?: unknown } },
): void {
  if (!limits || permits(limits.scopes, SCOPE)) return;
  const { annotations } = definition;
  if (isObject(annotations) && annotations.readOnlyHint === true) return;
  throw new RpcError(RpcCode.refused, BEYOND_SCOPE, 403, {
    error: "insufficient_scope",
    scope: SCOPE,
  });
}

function serverOf(named: NamedToolbelt, serverId: string): ToolbeltServer {
  return named.servers.find((server) => server.serverId === serverId)!;
}

/** What the servers of a toolbelt can do together. */
function capabilitiesOf({ servers }: NamedToolbelt): Record<string, unknown> {
  const having = (name: string) =>
    servers.map(({ capabilities }) => capabilities?.[name]).filter(isObject);
  const resources = having("resources");
  return {
    tools: { listChanged: true },
    ...(having("prompts").length > 0 ? { prompts: { listChanged: true } } : {}),
    ...(resources.length > 0
      ? {
        resources: { listChanged: true, subscribe: servers.some(canSubscribe) },
      }
      : {}),
    ...(having("completions").length > 0 ? { completions: {} } : {}),
    ...(having("logging").length > 0 ? { logging: {} } : {}),
  };
}

/** Extensions that are nothing but what passes anyway, such as `_meta` of tools, and resources. */
const PASSED_EXTENSIONS = ["io.modelcontextprotocol/ui"];
/** Capabilities that the bridge serves, or says in its own words. */
const SERVED = new Set(["tools", "prompts", "resources", "completions", "logging", "tasks"]);
const NOT_PASSED_LIMIT = 100;

/** Of the one server that is asked. Settings of several are not one's. */
function passedExtensions(
  { isAggregated, servers }: NamedToolbelt,
): Record<string, unknown> | null {
  const extensions = isAggregated ? null : servers[0]?.capabilities?.extensions;
  if (!isObject(extensions)) return null;
  const passed = PASSED_EXTENSIONS.filter((name) => isObject(extensions[name]));
  return passed.length > 0
    ? Object.fromEntries(passed.map((name) => [name, extensions[name]]))
    : null;
}

/**
 * What servers can do that clients are not told they can: methods of their own, which nobody has approved and
 * no policy knows (revisions.ts). By name, for what a server says of itself is not approved either.
 */
function notPassedOn(named: NamedToolbelt): Record<string, unknown> | null {
  const own = named.isAggregated ? [] : PASSED_EXTENSIONS;
  const all = named.servers.flatMap(({ slug, capabilities }) => {
    const { extensions, experimental, ...others } = capabilities ?? {};
    const keys = (value: unknown) => isObject(value) ? Object.keys(value) : [];
    const names = [
      ...keys(extensions).filter((name) => name !== TASKS_EXTENSION && !own.includes(name))
        .map((name) => `extensions/${name}`),
      ...keys(experimental).map((name) => `experimental/${name}`),
      ...keys(others).filter((name) => !SERVED.has(name)),
    ].slice(0, NOT_PASSED_LIMIT).map((name) => name.slice(0, 200).replace(/[^\w./-]/g, "?"));
    return names.length > 0 ? [[slug, names]] : [];
  });
  return all.length > 0 ? { "dev.mooring/notPassedOn": Object.fromEntries(all) } : null;
}

/** What a client of 2025-11-25 is told of tasks. Not `list`: servers do not keep apart whose a task is. */
function legacyTasksOf({ servers }: NamedToolbelt, revision: string): Record<string, unknown> {
  if (revision !== LEGACY_TASKS || !servers.some(hasTasks)) return {};
  return { tasks: { cancel: {}, requests: { tools: { call: {} } } } };
}

/** Whether a call is one of 2025-11-25 that wants to be answered with a task; ignored where none was offered. */
function asksForTask(
  { revision, session }: Client,
  named: NamedToolbelt,
  { task }: Record<string, unknown>,
): boolean {
  return session !== null && isObject(task) && "tasks" in legacyTasksOf(named, revision);
}

/** The tasks that a listener wants to be told of. @throws {RpcError} */
function wantedTasks(filter: unknown, isDeclared: boolean): string[] {
  const taskIds = isObject(filter) ? filter.taskIds : undefined;
  if (taskIds === undefined) return [];
  if (!isDeclared) throw tasksNotDeclared();
  const areIds = Array.isArray(taskIds) && taskIds.every((id) => typeof id === "string");
  if (!areIds || taskIds.length > LISTENED_LIMIT) {
    throw new RpcError(
      RpcCode.invalidParams,
      `taskIds must be an array of at most ${LISTENED_LIMIT} ids of tasks`,
      200,
    );
  }
  return taskIds;
}

/** What a listener wants, and how much of it there is. @throws {RpcError} */
function wantedOf(
  filter: unknown,
  named: NamedToolbelt,
): { wanted: Wanted; honoured: Record<string, unknown> } {
  if (!isObject(filter)) {
    throw new RpcError(RpcCode.invalidParams, "params.notifications must be an object", 200);
  }
  const given = filter.resourceSubscriptions ?? [];
  if (
    !Array.isArray(given) || given.length > SUBSCRIPTIONS_LIMIT ||
    given.some((uri) => typeof uri !== "string")
  ) {
    throw new RpcError(
      RpcCode.invalidParams,
      `resourceSubscriptions must be an array of at most ${SUBSCRIPTIONS_LIMIT} URIs`,
      200,
    );
  }
  const uris = [...new Set(given as string[])].filter((uri) => {
    const route = routeUri(named, uri);
    return route !== null && canSubscribe(route.server);
  });
  const { prompts, resources } = capabilitiesOf(named);
  const wanted = {
    tools: filter.toolsListChanged === true,
    prompts: filter.promptsListChanged === true && prompts !== undefined,
    resources: filter.resourcesListChanged === true && resources !== undefined,
    uris,
  };
  const honoured = {
    ...(wanted.tools ? { toolsListChanged: true } : {}),
    ...(wanted.prompts ? { promptsListChanged: true } : {}),
    ...(wanted.resources ? { resourcesListChanged: true } : {}),
    ...(uris.length > 0 ? { resourceSubscriptions: uris } : {}),
  };
  return { wanted, honoured };
}

function canSubscribe({ capabilities }: ToolbeltServer): boolean {
  return isObject(capabilities?.resources) && capabilities.resources.subscribe === true;
}

function noResource(uri: unknown, { revision }: Client): RpcError {
  const code = revision === WAIST_REVISION ? RpcCode.invalidParams : RpcCode.resourceNotFound;
  return new RpcError(code, `There is no resource ${shown(uri)}`, 200, { uri });
}

/** 2026-07-28 wants this error of a server's with a status of its own (schema, -32021). */
function checkStatus({ text }: Answer): void {
  if (!text.includes(String(RpcCode.missingClientCapability))) return;
  const { code, message, data } = JSON.parse(text);
  if (code === RpcCode.missingClientCapability) throw new RpcError(code, message, 400, data);
}

function serverInfo({ version }: { version: string }) {
  return { name: "mooring", title: "Mooring", version };
}

function result(value: Record<string, unknown>): Answer {
  return { kind: "result", text: JSON.stringify(value) };
}
