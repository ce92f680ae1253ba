/** One server on this toolbox: the serial loop that makes it what was last asked for. */
import { type Attachment, type Docker, DockerError, EngineAbsentError } from "./docker.ts";
import { type BuiltImage, type EnsureOptions, ImageError, type Images } from "./image.ts";
import { LogTail } from "./log_tail.ts";
import {
  containerConfig,
  containerName,
  Label,
  networkConfig,
  ownLabels,
  POLICY,
  specHash,
} from "./policy.ts";
import {
  canonicalHash,
  type Layer,
  LAYERS,
  type LayerState,
  type Observation,
  type ReportedEvent,
  type ServerSpec,
  type ToolDefinition,
} from "./protocol.ts";
import { RestartPolicy } from "./restart_policy.ts";
import { HandshakeError, type openSession, type Session } from "./session.ts";
import type { Slots } from "./slots.ts";

/** What the loops of one toolbox share. */
export interface Toolbox {
  docker: Docker;
  toolboxId: string;
  images: Pick<Images, "ensure" | "collect">;
  specKey: CryptoKey;
  openSession: typeof openSession;
  /** Starting at once: a start is bound by the CPU (fifty servers, four at a time, were fastest). */
  starts: Slots;
  /** Images whose server exits when it is probed for the newest revision: not probed again. */
  unprobed: { has(image: string): boolean; add(image: string): Promise<void> };
  report(observation: Observation): void;
  event(event: ReportedEvent): void;
  /** The server is gone whole; called before the loop ends. */
  removed(serverId: string): void;
  /** Removes the images that no server is to run on any more. */
  collectImages(): Promise<void>;
}

/** A session to call through, and the hashes of the tools as they are listed now. */
export interface Reachable {
  session: Session;
  toolHashes: Map<string, string>;
}

const HANDSHAKE_TIMEOUT_MS = 30_000;
const LIST_TIMEOUT_MS = 30_000;

/** A server that is slow to initialize gives its start slot back, so that it holds up nobody. */
const SLOT_MS = 5000;

const STOP_SECONDS = 3;

/** How often an engine that went away is looked for. */
const ENGINE_RETRY_MS = 2000;

/** Observations that are only news of the log or of progress are sent this often at most. */
const REPORT_EVERY_MS = 1000;

/** A running container whose stream was lost (the engine restarted) is attached again so often. */
const REATTACH_LIMIT = 3;

/** The server went down, or will not come up: which layer, why, and what a person can do. */
class Failure extends Error {
  constructor(readonly layer: Layer, readonly reason: string, readonly nextStep: string) {
    super(reason);
  }
}

/** A running container of a newer generation: this desired set is out of date. */
class Outdated extends Error {
  constructor(readonly generation: number) {
    super(`Generation ${generation} runs`);
  }
}

/** The attach stream ended and the container did not: attach again. */
class StreamLost extends Error {}

/** The server exits on the probe for the newest revision: start it again and do not probe. */
class SkipProbe extends Error {}

interface Running {
  containerId: string;
  imageId: string;
  attachment: Attachment;
  adopted: boolean;
  /** The end of what the server wrote to stderr. */
  logged: Promise<void>;
  session: Session | null;
}

export class ServerLoop {
  readonly #toolbox: Toolbox;
  readonly #serverId: string;
  readonly #log = new LogTail(() => this.#reportSoon());
  #wanted: ServerSpec | null;
  /** Aborted when something else is wanted, or DTMA ends. */
  #superseded = new AbortController();
  #closing = false;
  #observation: Observation | null = null;
  #reachable: Reachable | null = null;
  #running: Running | null = null;
  /** When the present container was started or attached to; null before. */
  #startedMs: number | null = null;
  /** The image whose server exited on the probe just now. */
  #exitedOnProbe: string | null = null;
  /** What was last told to be listed: the same list again is no event. */
  #listedTools = "";
  #releaseSlot: () => void = () => {};
  #lastReportMs = 0;
  #reportTimer: ReturnType<typeof setTimeout> | null = null;
  /** Resolves when the loop has ended: the server was removed, or DTMA ends. */
  readonly ended: Promise<void>;

  constructor(toolbox: Toolbox, serverId: string, wanted: ServerSpec | null) {
    this.#toolbox = toolbox;
    this.#serverId = serverId;
    this.#wanted = wanted;
    this.ended = this.#run();
  }

  get wanted(): ServerSpec | null {
    return this.#wanted;
  }

  /** The newest wish wins and ends whatever is under way for an older one; null: remove it whole. */
  want(spec: ServerSpec | null): void {
    const before = this.#wanted;
    if (spec && before && spec.generation < before.generation) return;
    if (JSON.stringify(spec) === JSON.stringify(before)) return;
    this.#wanted = spec;
    this.#superseded.abort(new DOMException("Another generation is wanted", "AbortError"));
  }

  /** Lets go of the container, which goes on running, and ends the loop. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#superseded.abort(new DOMException("DTMA is ending", "AbortError"));
    await this.ended;
    if (this.#reportTimer) clearTimeout(this.#reportTimer);
  }

  /** Where to call the server, or why it cannot be called. */
  reach(): Reachable | { unavailable: string } {
    if (this.#reachable) return this.#reachable;
    const layers = this.#observation?.layers;
    const layer = layers && LAYERS.find((each) => layers[each].state !== "ready");
    if (!layer) return { unavailable: "The server is not up" };
    const { state, detail } = layers[layer];
    if (state === "stopped") return { unavailable: "The server is stopped" };
    return { unavailable: `The server's ${layer} is ${state}${detail && `: ${detail}`}` };
  }

  async #run(): Promise<void> {
    while (!this.#closing) {
      const spec = this.#wanted;
      this.#superseded = new AbortController();
      const { signal } = this.#superseded;
      try {
        if (spec === null) {
          if (await this.#remove(signal)) return;
        } else {
          this.#begin(spec);
          if (spec.running) await this.#keepRunning(spec, signal);
          else await this.#stop(spec, signal);
        }
      } catch (error) {
        if (signal.aborted) continue;
        if (error instanceof Outdated) {
          this.#fail(
            "container",
            `Generation ${error.generation} of this server runs here, so an older one was ignored`,
            "Deploy again: the next generation replaces it.",
          );
        } else {
          // Nothing that is known to happen ends here; what does must not end the loop.
          this.#fail("container", String(error), "Deploy again, and report this error.");
        }
        await aborted(signal);
      }
    }
  }

  /** The layers of a new generation, none of which is up. */
  #begin(spec: ServerSpec): void {
    this.#log.maskValues(Object.values(spec.secrets));
    const since = new Date().toISOString();
    this.#observation = {
      serverId: spec.serverId,
      generation: spec.generation,
      layers: Object.fromEntries(
        LAYERS.map((layer) => [layer, { state: "waiting", detail: "", since }]),
      ) as Observation["layers"],
      imageDigest: null,
      containerId: null,
      serverInfo: null,
      restarts: 0,
      logTail: this.#log.lines,
      tools: null,
    };
  }

  /** Removes container, network and image. @returns false when something else was wanted first */
  async #remove(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      try {
        await this.#removeContainers();
        await this.#removeNetworks();
        await this.#toolbox.collectImages();
        if (signal.aborted) return false;
        this.#toolbox.removed(this.#serverId);
        return true;
      } catch (error) {
        // An engine that is away, or says no: there is nothing to do but to try again.
        if (!(error instanceof EngineAbsentError || error instanceof DockerError)) throw error;
        await sleep(ENGINE_RETRY_MS, signal);
      }
    }
    return false;
  }

  async #stop(spec: ServerSpec, signal: AbortSignal): Promise<void> {
    await this.#withEngine("container", signal, async () => {
      const containers = await this.#containers();
      this.#refuseOutdated(containers, spec);
      await this.#removeContainers();
      await this.#removeNetworks();
      if (containers.length > 0) this.#event("container", "info", "Stopped");
    });
    for (const layer of LAYERS) this.#layer(layer, { state: "stopped" });
    await this.#collect();
    await aborted(signal);
  }

  /** Starts the server, and again whenever it goes down, until something else is wanted. */
  async #keepRunning(spec: ServerSpec, signal: AbortSignal): Promise<void> {
    const policy = new RestartPolicy();
    let imageRetryMs = 5000;
    let reattached = 0;
    while (!signal.aborted) {
      this.#startedMs = null;
      try {
        await this.#bringUp(spec, signal);
        imageRetryMs = 5000;
        throw await this.#downfall(signal);
      } catch (error) {
        this.#letGo(signal.aborted ? "The server is being changed" : "The server went down");
        if (signal.aborted) return;
        if (error instanceof EngineAbsentError) {
          const { image } = this.#observation!.layers;
          this.#fail(image.state === "ready" ? "container" : "image", error.reason, error.advice);
          await sleep(ENGINE_RETRY_MS, signal);
          continue;
        }
        if (error instanceof Outdated) throw error;
        if (error instanceof ImageError) {
          this.#fail("image", error.reason, error.nextStep);
          if (!error.retry) return await aborted(signal);
          await sleep(imageRetryMs, signal);
          imageRetryMs = Math.min(2 * imageRetryMs, 300_000);
          continue;
        }
        const upMs = this.#startedMs === null ? 0 : Date.now() - this.#startedMs;
        reattached = upMs < 60_000 ? reattached + 1 : 0;
        if (error instanceof StreamLost && reattached <= REATTACH_LIMIT) continue;
        if (error instanceof SkipProbe) {
          await this.#withEngine("container", signal, () => this.#removeContainers());
          continue;
        }
        await this.#afterFailure(asFailure(error), policy, upMs, signal);
      }
    }
  }

  async #afterFailure(
    { layer, reason, nextStep }: Failure,
    policy: RestartPolicy,
    upMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const delayMs = policy.failed(upMs);
    if (delayMs === null) {
      this.#fail(
        layer,
        `crash_looping: went down ${policy.quickFailures} times in a row, so it is not started ` +
          `again. ${reason}`,
        `${nextStep} Then deploy or start it again.`,
      );
    } else {
      const seconds = Math.max(1, Math.round(delayMs / 1000));
      this.#fail(layer, `${reason}. It is started again in ${seconds} s`, nextStep);
    }
    await this.#withEngine("container", signal, () => this.#removeContainers());
    if (delayMs === null) return await aborted(signal);
    await sleep(delayMs, signal);
    if (this.#observation) this.#observation.restarts++;
  }

  /** Detaches from the container and forgets it: whatever becomes of it is for the caller. */
  #letGo(reason: string): void {
    this.#releaseSlot();
    this.#reachable = null;
    this.#running?.session?.close(reason);
    this.#running?.attachment.close();
    this.#running = null;
    this.#observation!.containerId = null;
  }

  /** Image, container, handshake, tools: each layer in turn, reported as it comes up. */
  async #bringUp(spec: ServerSpec, signal: AbortSignal): Promise<void> {
    const running = this.#running = await this.#container(spec, signal);
    const observation = this.#observation!;
    observation.containerId = running.containerId;
    observation.imageDigest = running.imageId;
    if (running.adopted) this.#layer("image", { state: "ready", detail: "Was there already" });
    this.#layer("container", {
      state: "ready",
      detail: running.adopted ? "Ran already, and was taken over as it was" : "Runs",
    });
    try {
      const session = running.session = await this.#handshake(running, signal);
      observation.serverInfo = session.serverInfo;
      this.#layer("handshake", { state: "ready", detail: describe(session.serverInfo) });
      this.#event("handshake", "info", `Initialized: ${describe(session.serverInfo)}`);
      await this.#serveTools(session, signal);
    } catch (error) {
      if (signal.aborted || error instanceof SkipProbe) throw error;
      throw await this.#exit(running) ?? error;
    }
    this.#releaseSlot();
    await this.#collect();
  }

  /** Takes over the container that is as it should be, or makes it; removes all others. */
  async #container(spec: ServerSpec, signal: AbortSignal): Promise<Running> {
    const { docker, toolboxId, specKey } = this.#toolbox;
    const hash = await specHash(spec, specKey);
    const containers = await this.#containers();
    this.#refuseOutdated(containers, spec);
    const kept = containers.find(({ State, Labels }) =>
      State === "running" && Labels[Label.spec] === hash &&
      Labels[Label.generation] === String(spec.generation)
    );
    for (const { Id } of containers) if (Id !== kept?.Id) await this.#removeContainer(Id);
    if (kept) {
      const running = await this.#attach(kept.Id, kept.ImageID, true);
      // The DTMA before may have died in the middle of a line: end it, so that ours is whole.
      this.#startedMs = Date.now();
      this.#waitAbove("container");
      const writer = running.attachment.stdin.getWriter();
      await writer.write(new Uint8Array([10])).finally(() => writer.releaseLock());
      this.#event("container", "info", "Took over the running container as it was");
      return running;
    }
    const { id: image, command, workingDirectory } = await this.#image(spec, signal);
    await this.#takeSlot(signal);
    this.#layer("container", { state: "working", detail: "Starting" });
    this.#waitAbove("container");
    await this.#removeNetworks();
    const network = networkConfig(spec, toolboxId);
    if (network) await docker.createNetwork(network);
    const containerId = await docker.createContainer(
      containerName(spec.serverId),
      containerConfig(spec, { toolboxId, image, command, workingDirectory, specHash: hash }),
    );
    // Attached before it starts: nothing it says is lost.
    const running = await this.#attach(containerId, image, false);
    try {
      signal.throwIfAborted();
      this.#startedMs = Date.now();
      await docker.startContainer(containerId);
    } catch (error) {
      running.attachment.close();
      throw error;
    }
    this.#event("container", "info", `Started container ${containerId.slice(0, 12)}`);
    return running;
  }

  async #image(spec: ServerSpec, signal: AbortSignal): Promise<BuiltImage> {
    this.#layer("image", { state: "working", detail: "Looking for the image" });
    let built = false;
    const options: EnsureOptions = {
      signal,
      onLine: (line) => {
        if (!built) this.#layer("image", { state: "working", detail: "Building", progress: 0 });
        built = true;
        this.#log.add(line);
      },
      onProgress: (progress) => {
        this.#observation!.layers.image.progress = progress;
        this.#reportSoon();
      },
    };
    const startedMs = Date.now();
    const image = await this.#toolbox.images.ensure(spec.package, options);
    const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
    const detail = built ? `Built in ${seconds} s` : "Was there already";
    this.#layer("image", { state: "ready", detail });
    if (built) this.#event("image", "info", `Image built in ${seconds} s`);
    this.#observation!.imageDigest = image.id;
    return image;
  }

  async #takeSlot(signal: AbortSignal): Promise<void> {
    const release = await this.#toolbox.starts.take(signal);
    const timer = setTimeout(release, SLOT_MS);
    this.#releaseSlot = () => {
      clearTimeout(timer);
      release();
    };
  }

  async #attach(containerId: string, imageId: string, adopted: boolean): Promise<Running> {
    const attachment = await this.#toolbox.docker.attachContainer(containerId);
    const logged = this.#log.follow(attachment.stderr);
    return { containerId, imageId, attachment, adopted, logged, session: null };
  }

  async #handshake(running: Running, signal: AbortSignal): Promise<Session> {
    const { openSession, unprobed } = this.#toolbox;
    this.#layer("handshake", { state: "working", detail: "Initializing" });
    const { imageId } = running;
    const skipProbe = unprobed.has(imageId) || this.#exitedOnProbe === imageId;
    try {
      const session = await openSession(running.attachment, {
        handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
        skipProbe,
        signal,
        log: (line) => this.#log.add(line),
      });
      // A verdict only now: a server that exits in any case did not exit because of the probe.
      if (skipProbe && !unprobed.has(imageId)) await unprobed.add(imageId);
      return session;
    } catch (error) {
      if (!(error instanceof HandshakeError)) throw error;
      if (error.exitedOnProbe && !skipProbe && await this.#exit(running)) {
        this.#exitedOnProbe = imageId;
        throw new SkipProbe();
      }
      throw new Failure("handshake", error.reason, error.nextStep);
    }
  }

  /** Lists the tools, and again when the server says that they changed, once a second at most. */
  async #serveTools(session: Session, signal: AbortSignal): Promise<void> {
    let changed = false, listing = true;
    const relist = async () => {
      if (listing) return;
      listing = true;
      while (changed && !signal.aborted && this.#reachable?.session === session) {
        changed = false;
        this.#reachable.toolHashes = await this.#listTools(session, signal);
        await sleep(1000, signal);
      }
      listing = false;
    };
    session.onToolsChanged = () => {
      changed = true;
      // Until they are listed anew no call gets through: it could reach a tool that was changed.
      if (this.#reachable?.session === session) this.#reachable.toolHashes = new Map();
      // Tools that are not known must not be called: the loop starts the server anew.
      relist().catch((error) => session.close(asFailure(error).reason));
    };
    const toolHashes = await this.#listTools(session, signal);
    this.#reachable = { session, toolHashes };
    listing = false;
    if (changed) session.onToolsChanged();
  }

  /** @returns the hashes by name of the tools that the server lists now, after reporting them */
  async #listTools(session: Session, signal: AbortSignal): Promise<Map<string, string>> {
    this.#layer("tools", { state: "working", detail: "Listing" });
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
    const tools = await session.listTools(deadline).catch((error) => {
      signal.throwIfAborted();
      throw new Failure(
        "tools",
        `The server did not list its tools: ${error.message}`,
        "Look at the log below; another version of the server may help.",
      );
    });
    const toolHashes = await hashes(tools);
    this.#observation!.tools = tools;
    const detail = tools.length === 1 ? "1 tool" : `${tools.length} tools`;
    const listed = JSON.stringify([...toolHashes]);
    if (listed !== this.#listedTools) this.#event("tools", "info", `The server lists ${detail}`);
    this.#listedTools = listed;
    this.#layer("tools", { state: "ready", detail });
    return toolHashes;
  }

  /** Waits for the end of a server that is up; says why it went down. */
  async #downfall(signal: AbortSignal): Promise<Error> {
    const running = this.#running!;
    const reason = await Promise.race([running.session!.closed, aborted(signal)]);
    this.#reachable = null;
    signal.throwIfAborted();
    // The session may have given up on a server that still runs.
    const streamEnded = await Promise.race([
      running.attachment.closed.then(() => true),
      sleep(100, signal).then(() => false),
    ]);
    const exit = await this.#exit(running, streamEnded ? 3000 : 0);
    if (exit) return exit;
    if (streamEnded) {
      return new StreamLost("The stream from the container was lost again and again");
    }
    return new Failure(
      "handshake",
      `The session with the server ended: ${this.#log.clean(String(reason), 500)}`,
      "Look at the log below; the server may have a fault.",
    );
  }

  /** How the container ended, or null if it runs. Waits a little for an end that is under way. */
  async #exit(running: Running, waitMs = 500): Promise<Failure | null> {
    const deadline = Date.now() + waitMs;
    for (;;) {
      let state;
      try {
        state = (await this.#toolbox.docker.inspectContainer(running.containerId)).State;
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
        await Promise.race([running.logged, sleep(1000)]);
        return exitFailure(state);
      }
      if (Date.now() >= deadline) return null;
      await sleep(50);
    }
  }

  #containers() {
    return this.#toolbox.docker.listContainers(this.#ownLabels());
  }

  #refuseOutdated(
    containers: Awaited<ReturnType<Docker["listContainers"]>>,
    spec: ServerSpec,
  ): void {
    const newest = Math.max(0, ...containers.map((each) => Number(each.Labels[Label.generation])));
    if (newest > spec.generation) throw new Outdated(newest);
  }

  async #removeContainers(): Promise<void> {
    for (const { Id } of await this.#containers()) await this.#removeContainer(Id);
  }

  async #removeContainer(id: string): Promise<void> {
    const { docker } = this.#toolbox;
    // A server may have something to put in order; one that will not end is killed.
    await docker.stopContainer(id, STOP_SECONDS).catch((error) => {
      if (!(error instanceof DockerError)) throw error;
    });
    await docker.removeContainer(id);
    if (this.#observation) this.#observation.containerId = null;
  }

  async #removeNetworks(): Promise<void> {
    const { docker } = this.#toolbox;
    for (const { Id } of await docker.listNetworks(this.#ownLabels())) {
      await docker.removeNetwork(Id);
    }
  }

  #ownLabels(): string[] {
    return Object.entries(ownLabels(this.#toolbox.toolboxId, this.#serverId))
      .map(([label, value]) => `${label}=${value}`);
  }

  /** Unused images are a matter of disk space: failing to remove them fails nothing else. */
  async #collect(): Promise<void> {
    await this.#toolbox.collectImages().catch((error) => {
      this.#event("image", "warning", `Unused images were not removed: ${error.message}`);
    });
  }

  /** Does something with the engine, again and again while it is away or refuses. */
  async #withEngine(layer: Layer, signal: AbortSignal, act: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await act();
      } catch (error) {
        if (error instanceof EngineAbsentError) this.#fail(layer, error.reason, error.advice);
        else if (error instanceof DockerError) {
          const { reason, nextStep } = asFailure(error);
          this.#fail(layer, reason, nextStep);
        } else throw error;
        await sleep(ENGINE_RETRY_MS, signal);
        signal.throwIfAborted();
      }
    }
  }

  /** A layer failed: those above it wait. */
  #fail(layer: Layer, reason: string, nextStep: string): void {
    if (!this.#observation) return;
    const detail = this.#log.clean(reason);
    const before = this.#observation.layers[layer];
    if (before.state !== "failed" || before.detail !== detail) this.#event(layer, "error", reason);
    this.#layer(layer, { state: "failed", detail, nextStep: nextStep.slice(0, 1000) });
    this.#waitAbove(layer);
  }

  #waitAbove(layer: Layer): void {
    this.#observation!.tools = null;
    this.#observation!.serverInfo = null;
    for (const above of LAYERS.slice(LAYERS.indexOf(layer) + 1)) {
      this.#layer(above, { state: "waiting" });
    }
  }

  #layer(layer: Layer, to: Omit<LayerState, "since" | "detail"> & { detail?: string }): void {
    if (!this.#observation) return;
    const before = this.#observation.layers[layer];
    const since = before.state === to.state ? before.since : new Date().toISOString();
    const detail = to.detail === undefined && before.state === to.state ? before.detail : to.detail;
    this.#observation.layers[layer] = { ...to, detail: this.#log.clean(detail ?? ""), since };
    this.#reportNow();
  }

  #event(layer: Layer, level: ReportedEvent["level"], message: string): void {
    if (!this.#observation) return;
    const { serverId, generation } = this.#observation;
    const at = new Date().toISOString();
    this.#toolbox.event({
      serverId,
      generation,
      at,
      layer,
      level,
      message: this.#log.clean(message),
    });
  }

  #reportNow(): void {
    if (!this.#observation || this.#closing) return;
    if (this.#reportTimer) clearTimeout(this.#reportTimer);
    this.#reportTimer = null;
    this.#lastReportMs = Date.now();
    this.#observation.logTail = this.#log.lines;
    this.#toolbox.report(structuredClone(this.#observation));
  }

  #reportSoon(): void {
    if (this.#reportTimer || this.#closing) return;
    const waitMs = Math.max(0, this.#lastReportMs + REPORT_EVERY_MS - Date.now());
    this.#reportTimer = setTimeout(() => {
      this.#reportTimer = null;
      this.#reportNow();
    }, waitMs);
  }
}

function exitFailure(state: { ExitCode: number; OOMKilled: boolean; Error: string }): Failure {
  if (state.OOMKilled) {
    const limit = POLICY.memoryBytes / 1024 / 1024;
    return new Failure(
      "container",
      `The server used more than its ${limit} MiB of memory and was killed`,
      "Ask it for less at once, or look for a leaner version of the server.",
    );
  }
  // 128 + signal, as an init reports a child that a signal ended.
  const signals: Record<number, string> = { 134: "ABRT", 137: "KILL", 139: "SEGV", 143: "TERM" };
  const by = signals[state.ExitCode];
  return new Failure(
    "container",
    `The server exited with code ${state.ExitCode}${by ? ` (signal ${by})` : ""}` +
      (state.Error ? `: ${state.Error}` : ""),
    "The last lines of the log below usually say why: a missing setting, a wrong argument.",
  );
}

function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof DockerError) {
    return new Failure(
      "container",
      `The Docker Engine refused: ${error.message}`,
      /no space left on device/i.test(error.message)
        ? "Free space on the toolbox's disk."
        : "Check the Docker Engine on the toolbox.",
    );
  }
  return new Failure(
    "handshake",
    error instanceof Error ? error.message : String(error),
    "Look at the log below.",
  );
}

/** By tool name. A name that is listed twice with two definitions has none: it fits no approval. */
async function hashes(tools: ToolDefinition[]): Promise<Map<string, string>> {
  const byName = new Map<string, string>();
  const ambiguous = new Set<string>();
  for (const tool of tools) {
    const hash = await canonicalHash(tool);
    if (byName.has(tool.name) && byName.get(tool.name) !== hash) ambiguous.add(tool.name);
    byName.set(tool.name, hash);
  }
  for (const name of ambiguous) byName.delete(name);
  return byName;
}

function describe(serverInfo: Record<string, unknown>): string {
  const { name, version, revision } = serverInfo;
  const text = [name, version].filter((part) => typeof part === "string").join(" ");
  return `${text.slice(0, 200) || "unnamed"}, MCP ${revision ?? "revision unknown"}`;
}

/** Resolves when the signal is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}

/** Resolves after a time, or as soon as the signal is aborted. */
function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const stop = () => {
    clearTimeout(timer);
    resolve();
  };
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  return promise.finally(() => signal?.removeEventListener("abort", stop));
}
