/**
 * One container of a server, from its start (or its take-over from a DTMA before) to its end: what
 * it is attached by, the session over it, and whether it is healthy. It is not started again: the
 * server's loop makes another one.
 */
import { type AdapterHost, openAdapter, removeAdapter, send, transportOf } from "./adapter.ts";
import { type Attachment, type ContainerSummary, DockerError, lossy } from "./docker.ts";
import type { Egress } from "./egress.ts";
import { asFailure, exitFailure, Failure, SkipProbe, StreamLost } from "./failure.ts";
import type { BuiltImage } from "./image.ts";
import type { LogTail } from "./log_tail.ts";
import { withNeverStarted } from "./never_started.ts";
import {
  containerConfig,
  containerName,
  givenName,
  Label,
  launchText,
  ownLabels,
  POLICY,
  volumeName,
} from "./policy.ts";
import {
  canonicalHash,
  HEADERS_METHOD,
  type Layer,
  type PromptDefinition,
  promptHash,
  type Sandbox,
  type ServerSpec,
  type ToolDefinition,
  type Transport,
} from "./protocol.ts";
import { sandboxNamed, sandboxTitle } from "./sandbox.ts";
import { HandshakeError, type openSession, type Session } from "./session.ts";
import { writeTreeTar } from "./tar.ts";
import type { TemplateDefinition } from "./tool_definition.ts";
import { aborted, sleep } from "./waiting.ts";

/** What every instance of a toolbox works with. */
export interface Host extends AdapterHost {
  egress: Egress;
  openSession: typeof openSession;
  /** Images whose server exits when it is probed for the newest revision: not probed again. */
  unprobed: { has(image: string): boolean; add(image: string): Promise<void> };
  /** Images whose server exited on the probe just now; the verdict is kept once it works without. */
  exitedOnProbe: Set<string>;
  /** How often a server that is not called is asked for a sign of life. */
  pingEveryMs: number;
  /** How often a server is asked whether it lists what it did. */
  listEveryMs: number;
}

/** A session to call through, and the hashes of what it lists now, by name. */
export interface Reachable {
  session: Session;
  toolHashes: Map<string, string>;
  promptHashes: Map<string, string>;
  /**
   * Of a server behind an adapter, which opens a lost session anew: each resolves when those are of the session
   * of now; none while they are.
   */
  relisted?: { tool?: Promise<void>; prompt?: Promise<void> };
}

/** What an instance tells of itself, as it comes up and later. */
export interface Watcher {
  log: LogTail;
  /** A layer is worked at, or is ready. */
  layer(layer: Layer, state: "working" | "ready", detail: string): void;
  event(layer: Layer, level: "info" | "warning" | "error", message: string): void;
  /** What a person could change about this server, whichever instance says so. */
  advice(message: string): void;
  tools(tools: ToolDefinition[], hashes: Map<string, string>): void;
  /** Null when the server could not list them. */
  prompts(prompts: PromptDefinition[] | null): void;
  templates(templates: TemplateDefinition[] | null): void;
  health(latencyMs: number | null): void;
  /** A remote server refused its adapter a request: {@link Refusal}, as the adapter says it. */
  refused(params: unknown): void;
}

const HANDSHAKE_TIMEOUT_MS = 30_000;
const LIST_TIMEOUT_MS = 30_000;

/** A server that lists its tools is not kept waiting longer for its prompts and templates. */
const EXTRAS_WAIT_MS = 3000;

/** A list that changes all the time is listed so often. */
const RELIST_MS = 1000;

/** A server that cannot be listed again is asked less and less often, up to so many times its turn. */
const LOOKS_LEFT_OUT = 16;

/** That an instance of one's own would help is said so often. */
const ADVISE_EVERY_MS = 10 * 60_000;

/** Two pings in a row without an answer in this time each: the server hangs. */
const PING_TIMEOUT_MS = 10_000;
/** A server that is silent for so many pings' times, while callers gave up, is pinged though it has calls. */
const MUTE_PINGS = 10;

/** An engine that answers within this time is not why a server was silent for so many seconds. */
const ENGINE_SOON_MS = 2000;

const STOP_SECONDS = 3;

/** Calls under way get so long to be answered before a container that is replaced ends. */
const DRAIN_MS = 10_000;

export class Instance {
  /** The generation that it serves; a later one that changes nothing takes it over. */
  generation: number;
  /** What calls go through; null until the tools are listed, and after the end. */
  reachable: Reachable | null = null;
  /** When it was last asked for, by the monotonic clock. */
  lastAskedMs = performance.now();
  readonly startedMs = performance.now();
  readonly #host: Host;
  readonly #watcher: Watcher;
  /** To the server's container. */
  readonly #attachment: Attachment;
  /** What MCP goes over: the same, or the adapter's that is beside a server over HTTP. */
  #stdio: Attachment;
  /** The end of what the server wrote beside MCP. */
  readonly #logged: Promise<unknown>;
  #session: Session | null = null;
  /** Came during the handshake. */
  #nextHeaders: Record<string, string> | null = null;
  /** Aborted when it is let go of. */
  readonly #life = new AbortController();

  private constructor(
    host: Host,
    watcher: Watcher,
    attachment: Attachment,
    readonly container: {
      id: string;
      name: string;
      serverId: string;
      imageId: string;
      hash: string;
      key: string | null;
      generation: number;
      memoryMiB: number;
      hasVolumes: boolean;
      sandbox: Sandbox | null;
      transport: Transport;
      isBehindAdapter: boolean;
    },
    readonly adopted: boolean,
  ) {
    this.#host = host;
    this.#watcher = watcher;
    this.#attachment = this.#stdio = attachment;
    this.generation = container.generation;
    // What a server over HTTP prints is no protocol, on either stream.
    const printed = container.transport.type === "stdio" ? [] : [lossy(attachment.stdout)];
    this.#logged = Promise.all(
      [attachment.stderr, ...printed].map((stream) => watcher.log.follow(stream)),
    );
  }

  /** Makes and starts the container of a spec. Whatever it made is removed again when that fails. */
  static async start(
    host: Host,
    watcher: Watcher,
    spec: ServerSpec,
    { image, hash, sandbox, key, signal }: {
      image: BuiltImage;
      hash: string;
      sandbox: Sandbox | null;
      key: string | null;
      signal: AbortSignal;
    },
  ): Promise<Instance> {
    const { docker, toolboxId, egress } = host;
    const name = containerName(spec, key);
    const labels = ownLabels(toolboxId, spec.serverId);
    const { hosts } = spec.network;
    let id: string | null = null;
    let attachment: Attachment | null = null;
    try {
      const route = hosts.length > 0
        ? await egress.open(name, { serverId: spec.serverId, hosts, labels })
        : null;
      if (spec.volumes.length > 0) await makeVolumes(host, spec, image);
      id = await docker.createContainer(
        name,
        containerConfig(spec, { toolboxId, image, specHash: hash, instance: key, route, sandbox }),
      );
      // Attached before it starts: nothing it says is lost.
      attachment = await docker.attachContainer(id);
      signal.throwIfAborted();
      await docker.startContainer(id);
      if (image.hasLauncher) await send(attachment, launchText(spec));
      await send(attachment, headersText(spec));
    } catch (error) {
      attachment?.close();
      if (id) await docker.removeContainer(id).catch(() => {});
      // Not when another container has this name, and with it the network.
      const isTaken = error instanceof DockerError && error.status === 409;
      if (hosts.length > 0 && !isTaken) await egress.close(name).catch(() => {});
      throw error;
    }
    const within = sandbox ? ` in ${sandboxTitle(sandbox)}` : "";
    watcher.event("container", "info", `Started container ${id.slice(0, 12)}${within}`);
    const { serverId, generation, memoryMiB, volumes, transport } = spec;
    return new Instance(host, watcher, attachment, {
      id,
      name,
      serverId,
      imageId: image.id,
      hash,
      key,
      generation,
      memoryMiB,
      hasVolumes: volumes.length > 0,
      sandbox,
      transport,
      isBehindAdapter: isBehindAdapter(spec),
    }, false);
  }

  /** Takes over a container that runs, from a DTMA before or after its stream was lost. */
  static async adopt(
    host: Host,
    watcher: Watcher,
    found: ContainerSummary,
    spec: ServerSpec,
  ): Promise<Instance> {
    const { Id: id, ImageID: imageId, Labels } = found;
    const name = givenName(found);
    const { hosts } = spec.network;
    if (hosts.length > 0) {
      const labels = ownLabels(host.toolboxId, spec.serverId);
      await host.egress.open(name, { serverId: spec.serverId, hosts, labels });
    }
    const attachment = await host.docker.attachContainer(id);
    const transport = transportOf(found);
    // The DTMA before may have died in the middle of a line: end it, so that ours is whole.
    if (transport.type === "stdio") await send(attachment, `\n${headersText(spec)}`);
    // Podman makes one that ended meanwhile ready to be started again: its stream would never end.
    if (!(await host.docker.inspectContainer(id)).State.Running) attachment.close();
    const runtime = Labels[Label.runtime];
    const hasVolumes = (found.Mounts ?? []).some(({ Type }) => Type === "volume");
    return new Instance(host, watcher, attachment, {
      id,
      name,
      serverId: spec.serverId,
      imageId,
      hash: Labels[Label.spec],
      key: Labels[Label.instance] ?? null,
      generation: Number(Labels[Label.generation]),
      memoryMiB: spec.memoryMiB,
      hasVolumes,
      sandbox: runtime === undefined ? null : sandboxNamed(runtime),
      transport,
      isBehindAdapter: isBehindAdapter(spec),
    }, true);
  }

  get serverInfo(): Record<string, unknown> | null {
    return this.#session?.serverInfo ?? null;
  }

  /** Nothing was asked of it since then, by the monotonic clock; now, while it is asked. */
  get lastUsedMs(): number {
    if (!this.#session || this.#session.inFlight + this.#session.listeners > 0) {
      return performance.now();
    }
    return Math.max(this.lastAskedMs, this.#session.lastUsedMs);
  }

  /** Of the adapter of a remote server: what it sends from now on. */
  setHeaders(headers: Record<string, string>): void {
    if (this.#session) this.#session.setHeaders(headers);
    else this.#nextHeaders = headers;
  }

  /** Handshake and tools: afterwards it is {@link reachable}. Throws why it is not. */
  async open(signal: AbortSignal): Promise<void> {
    try {
      const session = this.#session = await this.#handshake(signal);
      if (this.#nextHeaders) session.setHeaders(this.#nextHeaders);
      session.closed.then(() => this.reachable = null);
      this.#watcher.layer("handshake", "ready", describe(session.serverInfo));
      this.#watcher.event("handshake", "info", `Initialized: ${describe(session.serverInfo)}`);
      await this.#serveLists(session, signal);
    } catch (error) {
      if (signal.aborted || error instanceof SkipProbe) throw error;
      throw await this.#exit() ?? error;
    }
  }

  /** Waits for its end and says why: it went down, its stream was lost, or it hangs. */
  async downfall(signal: AbortSignal): Promise<Error> {
    const session = this.#session!;
    const watching = new AbortController();
    const until = AbortSignal.any([signal, watching.signal]);
    let reason: unknown;
    try {
      this.#lookAgain(session, until);
      reason = await Promise.race([session.closed, aborted(signal), this.#hangs(until)]);
    } finally {
      watching.abort();
    }
    signal.throwIfAborted();
    if (reason instanceof Failure) return reason;
    this.reachable = null;
    // The session may have given up on a server that still runs.
    const streamEnded = await Promise.race([
      this.#stdio.closed.then(() => true),
      sleep(100, signal).then(() => false),
    ]);
    // An adapter may have ended by itself, beside a server that runs on.
    const isServers = this.#stdio === this.#attachment;
    const exit = await this.#exit(!streamEnded ? 0 : isServers ? 3000 : 500);
    if (exit) return exit;
    if (streamEnded) {
      const stream = isServers ? "stream from the container" : "adapter beside the server";
      return new StreamLost(`The ${stream} was lost again and again`);
    }
    return new Failure(
      "handshake",
      `The session with the server ended: ${this.#watcher.log.clean(String(reason), 500)}`,
      "Look at the log below; the server may have a fault.",
    );
  }

  /** Lets calls that are under way end, then stops and removes the container and its network. */
  async retire(reason: string, drainMs = DRAIN_MS): Promise<void> {
    const session = this.#session;
    this.reachable = null;
    const deadline = performance.now() + drainMs;
    // Held calls wait for people: nobody can come back to them here.
    const isBusy = () => session !== null && session.inFlight > session.held;
    while (isBusy() && performance.now() < deadline) await sleep(50);
    this.letGo(reason);
    await removeContainer(this.#host, this.container);
  }

  /** Detaches from the container, which goes on running. */
  letGo(reason: string): void {
    this.#life.abort();
    this.reachable = null;
    this.#session?.close(reason);
    this.#attachment.close();
    this.#stdio.close();
  }

  async #handshake(signal: AbortSignal): Promise<Session> {
    const { openSession, unprobed, exitedOnProbe } = this.#host;
    this.#watcher.layer("handshake", "working", "Initializing");
    const { imageId } = this.container;
    const skipProbe = unprobed.has(imageId) || exitedOnProbe.has(imageId);
    const isTakenOver = await this.#openStdio(signal);
    try {
      const session = await openSession(this.#stdio, {
        handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
        skipProbe,
        isTakenOver,
        signal,
        log: (line) => this.#watcher.log.add(line),
        onRefused: (params) => this.#watcher.refused(params),
      });
      // A verdict only now: a server that exits in any case did not exit because of the probe.
      if (skipProbe && !unprobed.has(imageId)) await unprobed.add(imageId);
      return session;
    } catch (error) {
      if (!(error instanceof HandshakeError)) throw error;
      if (error.exitedOnProbe && !skipProbe && await this.#exit()) {
        exitedOnProbe.add(imageId);
        throw new SkipProbe();
      }
      throw new Failure("handshake", error.reason, error.nextStep);
    }
  }

  /** @returns whether an earlier session over it may have left calls behind */
  async #openStdio(signal: AbortSignal): Promise<boolean> {
    const { transport } = this.container;
    if (transport.type === "stdio") return this.adopted;
    const adapter = await openAdapter(this.#host, this.container, transport, signal);
    this.#stdio = adapter.attachment;
    this.#watcher.log.follow(this.#stdio.stderr);
    // Without the server it would wait for ever: its network has nobody else.
    this.#attachment.closed.then(() => this.#stdio.close());
    if (this.#life.signal.aborted) this.#stdio.close();
    if (this.adopted && !adapter.isTakenOver) {
      this.#watcher.event("container", "warning", "Started another adapter beside the server");
    }
    return adapter.isTakenOver;
  }

  /** Lists what there is, and again when the server says that it changed. */
  async #serveLists(session: Session, signal: AbortSignal): Promise<void> {
    const reachable: Reachable = {
      session,
      toolHashes: new Map(),
      promptHashes: new Map(),
      relisted: this.container.isBehindAdapter ? {} : undefined,
    };
    const tools = new Relisted(this.#life.signal, async (until) => {
      const toolHashes = await this.#listTools(session, until);
      // What was told to have changed meanwhile may be in it as it was before.
      if (!tools.isDue) reachable.toolHashes = toolHashes;
    }, (error) => {
      // Tools that are not known must not be called: the loop starts the server anew.
      session.close(asFailure(error).reason);
    });
    const prompts = this.#extra("prompts", async (until) => {
      const listed = await session.listPrompts(until);
      const promptHashes = await hashes(listed, promptHash);
      if (!prompts.isDue) reachable.promptHashes = promptHashes;
      this.#watcher.prompts(listed);
    }, () => this.#watcher.prompts(null));
    const templates = this.#extra("resource templates", async (until) => {
      this.#watcher.templates(await session.listResourceTemplates(until));
    }, () => this.#watcher.templates(null));

    session.onListChanged = (list, isSaid) => {
      // Until it is listed anew no call gets through: it could reach what was changed.
      if (isSaid && list === "tools") reachable.toolHashes = new Map();
      if (isSaid && list === "prompts") reachable.promptHashes = new Map();
      ({ tools, prompts, resources: templates })[list].again();
    };
    session.onReopened = () => {
      reachable.toolHashes = new Map();
      reachable.promptHashes = new Map();
      const { relisted } = reachable;
      if (!relisted) return;
      for (const [what, list] of [["tool", tools], ["prompt", prompts]] as const) {
        const listed = relisted[what] = list.listed().then(() => {
          if (relisted[what] === listed) delete relisted[what];
        });
      }
    };
    session.onUnattributed = this.#advice();
    const extras = Promise.all([prompts.first(signal), templates.first(signal)]);
    extras.catch(() => {});
    await tools.first(signal);
    await Promise.race([extras, sleep(EXTRAS_WAIT_MS, signal)]);
    signal.throwIfAborted();
    this.reachable = reachable;
  }

  /** What a server may list or not, beside its tools: it serves all the same. */
  #extra(
    what: string,
    list: (signal: AbortSignal) => Promise<void>,
    onFailed: () => void,
  ): Relisted {
    return new Relisted(this.#life.signal, async (signal) => {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
      try {
        await list(deadline);
      } catch (error) {
        if (signal.aborted) return;
        onFailed();
        const reason = this.#watcher.log.clean(asFailure(error).reason, 500);
        this.#watcher.event("tools", "warning", `The server did not list its ${what}: ${reason}`);
      }
    }, () => {});
  }

  #advice(): (method: string) => void {
    let advisedMs = -Infinity;
    return (method) => {
      if (performance.now() - advisedMs < ADVISE_EVERY_MS) return;
      advisedMs = performance.now();
      const whose = this.container.key === null ? "agent or session" : "session";
      this.#watcher.advice(
        `The server asked something (${
          method.slice(0, 60)
        }) while several calls were under way, and ` +
          "does not say which of them it is about: nobody was asked, and it was refused. Let each " +
          `${whose} have an instance of its own`,
      );
    };
  }

  /** @returns the hashes by name of the tools that the server lists now, after telling them */
  async #listTools(session: Session, signal: AbortSignal): Promise<Map<string, string>> {
    this.#watcher.layer("tools", "working", "Listing");
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
    const tools = await session.listTools(deadline).catch((error) => {
      signal.throwIfAborted();
      throw new Failure(
        "tools",
        `The server did not list its tools: ${error.message}`,
        "Look at the log below; another version of the server may help.",
      );
    });
    const toolHashes = await hashes(tools, canonicalHash);
    this.#watcher.tools(tools, toolHashes);
    return toolHashes;
  }

  /**
   * Looks whether there is still what was listed. A server need not tell that it changed, and over HTTP many that
   * say they would cannot; for how long it says that its lists are good (2026-07-28, server/utilities/caching)
   * is not counted on, since approvals are held to them.
   */
  async #lookAgain(session: Session, signal: AbortSignal): Promise<void> {
    const { listEveryMs } = this.#host;
    for (let times = 1; !signal.aborted;) {
      await sleep(listEveryMs * times * (0.75 + Math.random() / 2), signal);
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
      try {
        const tools = await hashes(await session.listTools(deadline), canonicalHash);
        // Without them its tools are held to what was approved all the same.
        const prompts = await session.listPrompts(deadline)
          .then((listed) => hashes(listed, promptHash)).catch(() => null);
        const { toolHashes, promptHashes } = this.reachable ?? {};
        if (toolHashes && !areSame(tools, toolHashes)) session.onListChanged?.("tools", true);
        if (prompts && promptHashes && !areSame(prompts, promptHashes)) {
          session.onListChanged?.("prompts", true);
        }
        times = 1;
      } catch {
        // It serves all the same, by what it listed before.
        times = Math.min(2 * times, LOOKS_LEFT_OUT);
      }
    }
  }

  /**
   * Pings now and then while nothing is asked. A server that is busy with a call may well not answer
   * a ping, and is left alone, but where it has long been silent while callers gave up.
   */
  async #hangs(signal: AbortSignal): Promise<Failure | null> {
    const session = this.#session!;
    const { pingEveryMs } = this.#host;
    const isMute = () => session.muteMs > MUTE_PINGS * pingEveryMs;
    const isBusy = () => session.inFlight > 0 && !isMute();
    for (let missed = 0;;) {
      await sleep(missed > 0 ? 0 : pingEveryMs, signal);
      if (signal.aborted) return null;
      // In a row, and it is not gone round and round here without a pause while a call is under way.
      if (isBusy()) {
        missed = 0;
        continue;
      }
      const latencyMs = await session.ping(Math.min(PING_TIMEOUT_MS, 2 * pingEveryMs));
      if (signal.aborted) return null;
      if (isBusy()) continue;
      this.#watcher.health(latencyMs);
      missed = latencyMs === null ? missed + 1 : 0;
      if (missed < 2) continue;
      // Pings travel through the engine: one that stood still made the server mute.
      if (!await this.#engineAnswersSoon()) {
        missed = 0;
        continue;
      }
      if (signal.aborted) return null;
      return new Failure(
        "handshake",
        isMute()
          ? "The server hangs: callers gave up, and it answered nothing since and no ping twice in a row"
          : "The server hangs: it answered no ping twice in a row, with nothing else asked of it",
        "Look at the log below; the server may have a fault, or wait for something.",
      );
    }
  }

  async #engineAnswersSoon(): Promise<boolean> {
    const askedMs = performance.now();
    await this.#host.docker.inspectContainer(this.container.id).catch((error) => {
      if (!(error instanceof DockerError)) throw error;
    });
    return performance.now() - askedMs < ENGINE_SOON_MS;
  }

  /** How the container ended, or null if it runs. Waits a little for an end that is under way. */
  async #exit(waitMs = 500): Promise<Failure | null> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      let state;
      try {
        state = (await this.#host.docker.inspectContainer(this.container.id)).State;
      } catch (error) {
        if (!(error instanceof DockerError && error.status === 404)) throw error;
        return new Failure(
          "container",
          "The container was removed by someone else",
          "Nothing to do: Mooring makes it again.",
        );
      }
      if (!state.Running) {
        // What it said last is often why.
        await Promise.race([this.#logged, sleep(1000)]);
        return exitFailure(state, this.container.memoryMiB);
      }
      if (performance.now() >= deadline) return null;
      await sleep(50);
    }
  }
}

/**
 * Makes a server's volumes the user's that it runs as: the engine leaves the root of a new one to
 * root. By way of a container that is never started, in which they are unpacked as directories.
 */
async function makeVolumes(
  { docker, toolboxId }: Host,
  { serverId, volumes }: ServerSpec,
  image: BuiltImage,
): Promise<void> {
  const labels = ownLabels(toolboxId, serverId);
  for (const { name } of volumes) {
    await docker.createVolume(volumeName(serverId, name), { ...labels, [Label.volume]: name });
  }
  const uid = Number(POLICY.user.split(":")[0]);
  const directories = volumes.map(({ name }) => ({
    path: name,
    kind: "directory" as const,
    owner: uid,
  }));
  await withNeverStarted(docker, toolboxId, {
    Image: image.id,
    HostConfig: {
      NetworkMode: "none",
      Mounts: volumes.map(({ name }) => ({
        Type: "volume",
        Source: volumeName(serverId, name),
        Target: `/volumes/${name}`,
        VolumeOptions: { NoCopy: true },
      })),
    },
  }, (container) => docker.unpack(container, "/volumes", writeTreeTar(directories)));
}

/** Stops and removes a container of ours, the adapter beside it, and its network. */
export async function removeContainer(
  { docker, egress }: Pick<Host, "docker" | "egress">,
  { id, name, transport }: { id: string; name: string; transport: Transport },
): Promise<void> {
  if (transport.type !== "stdio") await removeAdapter({ docker }, name);
  // A server may have something to put in order; one that will not end is killed.
  await docker.stopContainer(id, STOP_SECONDS).catch((error) => {
    if (!(error instanceof DockerError)) throw error;
  });
  await docker.removeContainer(id);
  await egress.close(name);
}

/** A remote server's runs in place of it, and one of a server over HTTP beside it. */
function isBehindAdapter({ package: { registry }, transport }: ServerSpec): boolean {
  return registry === "remote" || transport.type !== "stdio";
}

/** For the adapter of a remote server, before anything else. */
function headersText({ headers }: ServerSpec): string {
  if (!headers) return "";
  return `${JSON.stringify({ jsonrpc: "2.0", method: HEADERS_METHOD, params: { headers } })}\n`;
}

/** By name. One that is listed twice with two definitions has none: it fits no approval. */
async function hashes<T extends { name: string }>(
  definitions: T[],
  hashOf: (definition: T) => Promise<string>,
): Promise<Map<string, string>> {
  const byName = new Map<string, string>();
  const ambiguous = new Set<string>();
  for (const definition of definitions) {
    const { name } = definition;
    const hash = await hashOf(definition);
    if (byName.has(name) && byName.get(name) !== hash) ambiguous.add(name);
    byName.set(name, hash);
  }
  for (const name of ambiguous) byName.delete(name);
  return byName;
}

function areSame(one: Map<string, string>, other: Map<string, string>): boolean {
  return one.size === other.size && [...one].every(([name, hash]) => other.get(name) === hash);
}

/** Something that is listed, and again when it changed, once a second at most. */
class Relisted {
  readonly #life: AbortSignal;
  readonly #list: (signal: AbortSignal) => Promise<void>;
  readonly #onError: (error: unknown) => void;
  #isDue = false;
  #isBusy = false;
  #waiting: (() => void)[] = [];

  /** @param onError told why it could not be listed again */
  constructor(
    life: AbortSignal,
    list: (signal: AbortSignal) => Promise<void>,
    onError: (error: unknown) => void,
  ) {
    this.#life = life;
    this.#list = list;
    this.#onError = onError;
  }

  /** It changed since it was begun to be listed. */
  get isDue(): boolean {
    return this.#isDue;
  }

  async first(signal: AbortSignal): Promise<void> {
    this.#isBusy = true;
    await this.#list(signal).finally(() => this.#isBusy = false);
    if (this.#isDue) this.again();
  }

  /** Waits until what is under way is listed; for ever if it cannot be. */
  listed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  again(): void {
    this.#isDue = true;
    if (!this.#isBusy) this.#relist().catch(this.#onError);
  }

  async #relist(): Promise<void> {
    this.#isBusy = true;
    try {
      while (this.#isDue && !this.#life.aborted) {
        this.#isDue = false;
        await this.#list(this.#life);
        if (!this.#isDue) { for (const resolve of this.#waiting.splice(0)) resolve(); }
        await sleep(RELIST_MS, this.#life);
      }
    } finally {
      this.#isBusy = false;
    }
  }
}

function describe(serverInfo: Record<string, unknown>): string {
  const { name, version, revision } = serverInfo;
  const text = [name, version].filter((part) => typeof part === "string").join(" ");
  return `${text.slice(0, 200) || "unnamed"}, MCP ${revision ?? "revision unknown"}`;
}
