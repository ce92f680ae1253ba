/**
 * One server on this toolbox: the serial loop that makes it what was last asked for. A change starts
 * the next generation's container beside the one that serves, and replaces it only when the next
 * one's tools are listed; one that does not get so far is removed, and the older goes on serving.
 */
import { abortSignalOf, type CallSignal } from "./call_signal.ts";
import type { Ceiling } from "./ceiling.ts";
import { adapterPackage, transportOf } from "./adapter.ts";
import { AgentInstances } from "./agent_instances.ts";
import type { WantedServer } from "./desired.ts";
import { type ContainerSummary, DockerError, EngineAbsentError } from "./docker.ts";
import { asFailure, Failure, SkipProbe, StreamLost } from "./failure.ts";
import { type BuiltImage, type EnsureOptions, ImageError, type Images } from "./image.ts";
import { type Host, Instance, type Reachable, removeContainer, type Watcher } from "./instance.ts";
import { LogFile } from "./log_file.ts";
import {
  containerName,
  givenName,
  instanceSpec,
  Label,
  ownLabels,
  specHash,
  volumeName,
} from "./policy.ts";
import {
  type Layer,
  LAYERS,
  type Observation,
  type Package,
  Refusal,
  type ReportedEvent,
  type Sandbox,
  type ServerSpec,
  type ToolDefinition,
} from "./protocol.ts";
import { Reporting } from "./reporting.ts";
import { RestartPolicy } from "./restart_policy.ts";
import { isolationFor, mayKeep, SandboxError, sandboxNamed, sandboxTitle } from "./sandbox.ts";
import type { Sandboxes } from "./sandboxes.ts";
import type { Slots } from "./slots.ts";
import { aborted, sleep } from "./waiting.ts";

/** What is needed of {@link Images}. */
export type ServerImages = Pick<Images, "ensure" | "collect" | "bomOf">;

/** What the loops of one toolbox share. */
export interface Toolbox extends Host {
  images: ServerImages;
  specKey: CryptoKey;
  ceiling: Ceiling;
  sandboxes: Sandboxes;
  /** Where servers' logs are kept. */
  logDirectory: string;
  /** Starting at once: a start is bound by the CPU (fifty servers, four at a time, were fastest). */
  starts: Slots;
  /** A DTMA on trial removes nothing that it cannot take over: the one before perhaps can. */
  isOnTrial(): boolean;
  report(observation: Observation): void;
  event(event: ReportedEvent): void;
  /** A remote server refused its adapter a request. */
  refused(refusal: Refusal): void;
  /** The server is gone whole; called before the loop ends. */
  removed(serverId: string): void;
  /** Removes the images that no server is to run on any more. */
  collectImages(): Promise<void>;
}

/** Where to call a server, or why it cannot be called. */
export type Route = Reachable | { unavailable: string };

/** A server that is slow to initialize gives its start slot back, so that it holds up nobody. */
const SLOT_MS = 5000;

/** How often an engine that went away is looked for. */
const ENGINE_RETRY_MS = 2000;

/** First wait after a failure of the host's own; doubles. */
const HOST_RETRY_MS = 1000;
const LONGEST_HOST_RETRY_MS = 30_000;

/** A running container whose stream was lost (the engine restarted) is attached again so often. */
const REATTACH_LIMIT = 3;

/** Starts of a new generation beside one that serves, before it is given up. */
const ROLLOUT_ATTEMPTS = 2;

/** A server that hangs is started anew once in this time; again, and a person has to look. */
const HUNG_AGAIN_MS = 10 * 60_000;

/** How long one that waits for an idle server's start is told nothing but to wait. */
const WAKE_TIMEOUT_MS = 120_000;

/** A running container of a newer generation: this desired set is out of date. */
class Outdated extends Error {
  constructor(readonly generation: number) {
    super(`Generation ${generation} runs`);
  }
}

/** Nobody called for as long as the spec says: it sleeps until the next call. */
class Idle extends Error {}

/** What a server's containers are to be. */
interface Making {
  sandbox: Sandbox | null;
  /** Why they are in none although there is one. */
  why: string | null;
  /** What they are known by ({@link specHash}). */
  hash: string;
  /** By key: those of instances with inputs of their own. */
  ownHashes: Map<string, string>;
}

export class ServerLoop {
  readonly #toolbox: Toolbox;
  readonly #serverId: string;
  readonly #reporting: Reporting;
  readonly #logFile: LogFile;
  #wanted: WantedServer | null;
  /** Of a server to remove: its volumes too. */
  #deletesVolumes: boolean;
  /** Aborted when something else is wanted, or DTMA ends. */
  #superseded = new AbortController();
  #closing = false;
  /** What serves, of whichever generation. */
  #primary: Instance | null = null;
  readonly #agents: AgentInstances;
  /** Set while the server sleeps: the next call resolves it. */
  #wake: PromiseWithResolvers<void> | null = null;
  /** Resolved, and made anew, when the server became reachable or failed. */
  #turned = Promise.withResolvers<void>();
  #hungMs = -Infinity;
  #releaseSlot: () => void = () => {};
  /** Resolves when the loop has ended: the server was removed, or DTMA ends. */
  readonly ended: Promise<void>;

  constructor(
    toolbox: Toolbox,
    serverId: string,
    wanted: WantedServer | null,
    deletesVolumes = false,
  ) {
    this.#toolbox = toolbox;
    this.#serverId = serverId;
    this.#wanted = wanted;
    this.#deletesVolumes = deletesVolumes;
    this.#logFile = new LogFile(toolbox.logDirectory, serverId);
    this.#reporting = new Reporting(toolbox, (line) => this.#logFile.add(line));
    this.#agents = new AgentInstances(
      toolbox,
      this.#reporting,
      (params, key) => this.#refused(params, key),
    );
    this.ended = this.#run();
  }

  get wanted(): WantedServer | null {
    return this.#wanted;
  }

  /** What the images are made from that the server is to run on. */
  get packages(): Package[] {
    if (!this.#wanted) return [];
    const { package: own, transport } = this.#wanted;
    return transport.type === "stdio" ? [own] : [own, adapterPackage(transport)];
  }

  /** The containers that are up, for whoever measures them. */
  get running(): { containerId: string; instance: string | null }[] {
    return [this.#primary, ...this.#agents.all()].flatMap((each) =>
      each ? [{ containerId: each.container.id, instance: each.container.key }] : []
    );
  }

  /** A text that the server made, without its secrets. */
  cleaned(text: string): string {
    return this.#reporting.log.clean(text);
  }

  /** Why the server, which is to run, cannot be called; null when it can, or sleeps. */
  get whyDown(): string | null {
    return this.#primary?.reachable || this.#wake || !this.#wanted?.running ? null : this.#whyNot();
  }

  /** The server's whole log that is kept, oldest line first. */
  log(): Promise<string> {
    return this.#logFile.read();
  }

  /** The sizes of volumes by their names, of which the server's own are its news. */
  volumeSizes(sizes: Map<string, number>): void {
    const { observation } = this.#reporting;
    for (const volume of observation?.volumes ?? []) {
      const bytes = sizes.get(volumeName(this.#serverId, volume.name)) ?? -1;
      if (bytes < 0 || bytes === volume.bytes) continue;
      volume.bytes = bytes;
      this.#reporting.soon();
    }
  }

  /**
   * The newest wish wins and ends whatever is under way for an older one; null: remove it whole.
   * @param deletesVolumes of a server to remove: its volumes too
   */
  want(spec: WantedServer | null, deletesVolumes = false): void {
    const before = this.#wanted;
    if (spec && before && spec.generation < before.generation) return;
    this.#deletesVolumes = deletesVolumes;
    this.#wanted = spec;
    if (JSON.stringify(spec) === JSON.stringify(before)) return;
    if (spec && before && isSameBut(spec, before) && this.#takesHeaders(spec)) return;
    this.#superseded.abort(new DOMException("Another generation is wanted", "AbortError"));
  }

  /**
   * Gives what runs the headers of now. What sleeps gets them when it is woken.
   * @returns false when nothing is up: perhaps for want of them, so it is tried anew
   */
  #takesHeaders(spec: WantedServer): boolean {
    if (!this.#primary?.reachable && !this.#wake) return false;
    this.#reporting.maskHeaders(spec);
    if (spec.headers) this.#primary?.setHeaders(spec.headers);
    this.#agents.setHeaders(spec);
    return true;
  }

  /**
   * An adapter's word on what its remote server refused: the app may renew what it sends.
   * @param key of an agent's or a session's
   */
  #refused(params: unknown, key: string | null = null): void {
    if (this.#wanted?.package.registry !== "remote") return;
    const { account } = instanceSpec(this.#wanted, key);
    const refusal = Refusal.safeParse({ ...params as object, serverId: this.#serverId, account });
    if (refusal.success) this.#toolbox.refused(refusal.data);
  }

  /** A spec as it was begun with, with the headers of now. */
  #current(spec: WantedServer): WantedServer {
    if (this.#wanted && isSameBut(spec, this.#wanted)) return this.#wanted;
    return this.#wanted?.headers ? { ...spec, headers: this.#wanted.headers } : spec;
  }

  /** Lets go of the containers, which go on running, and ends the loop. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#superseded.abort(new DOMException("DTMA is ending", "AbortError"));
    await this.ended;
    this.#reporting.close();
    await this.#logFile.close();
  }

  /**
   * Where to call the server, at once if it is up. Waits for one that sleeps, or for an agent's or
   * session's own instance, to start.
   * @param instance whose instance is asked for: an agent's or a session's id
   * @param starts false: for who listens, and waits until somebody else's call starts it
   */
  reach(
    instance: string | null,
    signal?: CallSignal,
    starts = true,
  ): Route | Promise<Route> {
    const primary = this.#primary;
    if (primary && starts) primary.lastAskedMs = performance.now();
    if (!primary?.reachable && !this.#wake) return { unavailable: this.#whyNot() };
    if (instance !== null && this.#wanted && this.#wanted.instances !== "shared") {
      return this.#agents.reach(instance, signal, starts);
    }
    return primary?.reachable ?? this.#whenWoken(this.#wake!, signal, starts);
  }

  async #whenWoken(
    wake: PromiseWithResolvers<void>,
    signal: CallSignal | undefined,
    starts: boolean,
  ): Promise<Route> {
    if (!starts) {
      await Promise.race([this.#turned.promise, aborted(signal ?? new AbortController().signal)]);
      return this.#primary?.reachable ?? { unavailable: this.#whyNot() };
    }
    wake.resolve();
    const deadline = AbortSignal.timeout(WAKE_TIMEOUT_MS);
    const until = signal ? AbortSignal.any([abortSignalOf(signal), deadline]) : deadline;
    await Promise.race([this.#turned.promise, aborted(until)]);
    return this.#primary?.reachable ?? { unavailable: this.#whyNot() };
  }

  /** Ends an agent's or session's own instance, if there is one. */
  end(instance: string): void {
    this.#agents.end(instance);
  }

  #whyNot(): string {
    const layers = this.#reporting.observation?.layers;
    const layer = layers && LAYERS.find((each) => layers[each].state !== "ready");
    if (!layer) return "The server is not up";
    const { state, detail } = layers[layer];
    if (state === "stopped") return "The server is stopped";
    return `The server's ${layer} is ${state}${detail && `: ${detail}`}`;
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
          this.#reporting.begin(spec, this.#primary?.generation ?? null);
          if (spec.running) await this.#keepRunning(spec, signal);
          else await this.#stop(spec, signal);
        }
      } catch (error) {
        if (signal.aborted) continue;
        if (error instanceof Outdated) {
          this.#reporting.fail(
            "container",
            `Generation ${error.generation} of this server runs here, so an older one was ignored`,
            "Deploy again: the next generation replaces it.",
          );
        } else {
          // Nothing that is known to happen ends here; what does must not end the loop.
          this.#reporting.fail("container", String(error), "Deploy again, and report this error.");
        }
        await aborted(signal);
      }
    }
    this.#letGo("The toolbox's DTMA is restarting");
  }

  /** Removes containers, networks, image and, if asked to, volumes. @returns false when superseded */
  async #remove(signal: AbortSignal): Promise<boolean> {
    this.#letGo("The server is being removed");
    while (!signal.aborted) {
      try {
        await this.#removeContainers();
        await this.#removeNetworks();
        if (this.#deletesVolumes) await this.#removeVolumes();
        await this.#toolbox.collectImages();
        await this.#logFile.remove();
        // Looked at last: what is wanted from here on finds another loop.
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
    this.#letGo("The server is being stopped");
    await this.#withEngine("container", signal, async () => {
      const containers = await this.#containers();
      refuseOutdated(containers, spec);
      await this.#removeContainers();
      await this.#removeNetworks();
      if (containers.length > 0) this.#reporting.event("container", "info", "Stopped");
    });
    for (const layer of LAYERS) this.#reporting.layer(layer, { state: "stopped" });
    await this.#collect();
    await aborted(signal);
  }

  /** Starts the server, and again whenever it goes down, until something else is wanted. */
  async #keepRunning(spec: WantedServer, signal: AbortSignal): Promise<void> {
    const policy = new RestartPolicy();
    let imageRetryMs = 5000, hostRetryMs = HOST_RETRY_MS, reattached = 0, attempts = 0;
    while (!signal.aborted) {
      let primary: Instance | null = null;
      try {
        primary = await this.#bringUp(spec, signal);
        imageRetryMs = 5000;
        hostRetryMs = HOST_RETRY_MS;
        attempts = 0;
        throw await this.#whileUp(primary, spec, signal);
      } catch (error) {
        this.#releaseSlot();
        if (signal.aborted) return;
        if (error instanceof Outdated) throw error;
        if (error instanceof Idle) {
          await this.#sleepUntilCalled(primary!, signal);
          continue;
        }
        if (error instanceof EngineAbsentError) {
          this.#letGo("The Docker Engine went away");
          const { image } = this.#reporting.observation!.layers;
          this.#fail(image.state === "ready" ? "container" : "image", error.reason, error.advice);
          await sleep(ENGINE_RETRY_MS, signal);
          continue;
        }
        if (error instanceof ImageError) {
          this.#fail("image", error.reason, error.nextStep, !error.retry);
          if (!error.retry) return await aborted(signal);
          await sleep(imageRetryMs, signal);
          imageRetryMs = Math.min(2 * imageRetryMs, 300_000);
          continue;
        }
        if (error instanceof SkipProbe) continue;
        const upMs = primary ? performance.now() - primary.startedMs : 0;
        if (primary && this.#primary === primary) {
          reattached = upMs < 60_000 ? reattached + 1 : 0;
          this.#primary = null;
          if (error instanceof StreamLost && reattached <= REATTACH_LIMIT) {
            primary.letGo("The stream from the container was lost");
            continue;
          }
          await this.#withEngine("container", signal, () => primary!.retire("It went down", 0));
        }
        const failure = asFailure(error);
        if (failure.kind === "final") {
          this.#fail(failure.layer, failure.reason, failure.nextStep, true);
          return await aborted(signal);
        }
        if (failure.kind === "host") {
          await this.#afterHostFailed(failure, hostRetryMs, signal);
          hostRetryMs = Math.min(2 * hostRetryMs, LONGEST_HOST_RETRY_MS);
          continue;
        }
        attempts++;
        if (this.#primary) await this.#afterRolloutFailed(failure, attempts, signal);
        else await this.#afterFailure(failure, policy, upMs, signal);
      }
    }
  }

  /** The toolbox's own trouble: neither a crash loop of the server's nor a reason to go back. */
  async #afterHostFailed(
    { layer, reason, nextStep }: Failure,
    delayMs: number,
    signal: AbortSignal,
  ) {
    const serves = this.#primary ? ` Generation ${this.#primary.generation} goes on serving.` : "";
    const seconds = Math.round(delayMs / 1000);
    this.#fail(layer, `${reason}. It is tried again in ${seconds} s.${serves}`, nextStep);
    await sleep(delayMs, signal);
  }

  /** A new generation did not get ready beside the one that serves. */
  async #afterRolloutFailed(failure: Failure, attempts: number, signal: AbortSignal) {
    const { layer, reason, nextStep } = failure;
    const old = this.#primary!;
    const serves = `Generation ${old.generation} goes on serving`;
    if (attempts < ROLLOUT_ATTEMPTS) {
      this.#fail(layer, `${reason}. It is tried once more. ${serves}`, nextStep);
      return await sleep(1000, signal);
    }
    this.#fail(layer, `${reason}. ${serves}`, nextStep, true);
    await old.downfall(signal).catch(() => {});
    if (signal.aborted) return;
    // Nothing serves any more: better the new generation's troubles than nothing.
    this.#primary = null;
    await this.#withEngine("container", signal, () => old.retire("It went down", 0));
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
        true,
      );
      return await aborted(signal);
    }
    const seconds = Math.max(1, Math.round(delayMs / 1000));
    this.#fail(layer, `${reason}. It is started again in ${seconds} s`, nextStep);
    await sleep(delayMs, signal);
    if (this.#reporting.observation) this.#reporting.observation.restarts++;
  }

  /** What serves, if it is as it should be; else image and a new container, ready to be called. */
  async #bringUp(spec: WantedServer, signal: AbortSignal): Promise<Instance> {
    const refused = spec.refusal ?? this.#toolbox.ceiling.refuses(spec);
    if (refused) {
      throw new Failure(
        "container",
        `This toolbox refuses it: ${refused}`,
        spec.refusal
          ? "Mooring itself never asks for this: look at what else writes to its database, or speaks " +
            "for it."
          : "Ask for less, or have whoever runs the toolbox raise the limit in its ceiling file.",
        "final",
      );
    }
    const containers = await this.#containers();
    refuseOutdated(containers, spec);
    const making = await this.#making(spec, containers);
    // One that is refused has no container: what runs of an older generation serves nevertheless.
    const wanted = making instanceof SandboxError ? null : making;
    await this.#survey(spec, wanted, containers, signal);
    if (making instanceof SandboxError) {
      throw new Failure("container", making.reason, making.nextStep, "final");
    }
    const kept = this.#primary;
    if (kept?.container.hash === making.hash && kept.reachable) {
      await this.#keep(kept, spec, making, signal);
      return kept;
    }
    const image = await this.#image(spec, signal);
    const old = this.#primary;
    // Two at once must not write one volume, nor have one name: of one generation, after an update
    // of DTMA that makes containers in another way.
    const cannotBoth = old?.container.hasVolumes || spec.volumes.length > 0 ||
      old?.container.name === containerName(spec);
    if (old && cannotBoth) {
      this.#primary = null;
      await old.retire("The server is being changed");
    }
    const fresh = await this.#start(spec, image, making, signal);
    if (this.#primary) {
      this.#replace(this.#primary, fresh);
    } else this.#primary = fresh;
    this.#agents.serve({ ...making, spec: this.#current(spec), image });
    this.#up(fresh, spec, making);
    await this.#collect();
    return fresh;
  }

  /**
   * What the server's containers are to be. What runs keeps its runtime, so that neither a DTMA that
   * starts nor an engine that gained or lost a sandbox restarts anything: the next container, of
   * another spec or after an end, is made as the host is then.
   */
  async #making(
    spec: ServerSpec,
    containers: ContainerSummary[],
  ): Promise<Making | SandboxError> {
    const { sandboxes, specKey } = this.#toolbox;
    const of = async (sandbox: Sandbox | null, why: string | null): Promise<Making> => {
      const ownHashes = new Map<string, string>();
      for (const key of Object.keys(spec.instanceInputs ?? {})) {
        ownHashes.set(key, await specHash(instanceSpec(spec, key), specKey, sandbox));
      }
      return { sandbox, why, hash: await specHash(spec, specKey, sandbox), ownHashes };
    };
    const wouldBe = async () => isolationFor(spec, await sandboxes.find(), sandboxes.owner);
    for (const { Labels } of sharedRunning(containers)) {
      const runtime = Labels[Label.runtime] ?? null;
      if (!mayKeep(spec, runtime)) continue;
      const making = await of(runtime === null ? null : sandboxNamed(runtime), null);
      if (making.hash !== Labels[Label.spec]) continue;
      if (making.sandbox) return making;
      const now = await wouldBe();
      const why = now.sandbox
        ? `It was started before the toolbox had ${
          sandboxTitle(now.sandbox)
        }: a restart moves it there`
        : now.why;
      return { ...making, why };
    }
    try {
      const isolation = await wouldBe();
      return await of(isolation.sandbox, isolation.sandbox ? null : isolation.why);
    } catch (error) {
      if (error instanceof SandboxError) return error;
      throw error;
    }
  }

  /** What runs already becomes the present generation's, as it is. */
  async #keep(
    kept: Instance,
    spec: ServerSpec,
    making: Making,
    signal: AbortSignal,
  ): Promise<void> {
    const { hosts } = spec.network;
    if (hosts.length > 0) {
      const labels = ownLabels(this.#toolbox.toolboxId, spec.serverId);
      for (const { container } of [kept, ...this.#agents.all()]) {
        await this.#toolbox.egress.open(container.name, { serverId: spec.serverId, hosts, labels });
      }
    }
    kept.generation = spec.generation;
    if (spec.instances !== "shared") {
      const image = await this.#toolbox.images.ensure(spec.package, { signal });
      this.#agents.serve({ ...making, spec: this.#current(spec), image });
    }
    this.#reporting.layer("image", { state: "ready", detail: "Was there already" });
    this.#reporting.layer("container", { state: "ready", detail: "Runs as it did" });
    this.#reporting.layer("handshake", { state: "ready" });
    this.#up(kept, spec, making);
    await this.#collect();
  }

  #up(instance: Instance, spec: ServerSpec, { sandbox, why }: Making): void {
    const observation = this.#reporting.observation!;
    observation.containerId = instance.container.id;
    observation.imageDigest = instance.container.imageId;
    observation.sandbox = sandbox;
    observation.unsandboxed = why?.slice(0, 500) ?? null;
    observation.servingGeneration = spec.generation;
    observation.gaveUp = false;
    // What runs on may have others than those that came with this spec.
    if (this.#wanted) this.#takesHeaders(this.#wanted);
    this.#reporting.handshake(instance.serverInfo);
    this.#reporting.toolsReady();
    this.#releaseSlot();
    this.#turn();
  }

  /** The new one answers from now on; the old one ends when its calls have. */
  #replace(old: Instance, fresh: Instance): void {
    this.#primary = fresh;
    this.#reporting.event(
      "container",
      "info",
      `Generation ${fresh.generation} replaced generation ${old.generation}`,
    );
    old.retire("The server was replaced by its next generation").catch(() => {
      // The engine went away: the next look at what is there removes it.
    });
  }

  /** Looks at what is there: takes over what runs, and removes what should not be. */
  async #survey(
    spec: ServerSpec,
    making: Making | null,
    containers: ContainerSummary[],
    signal: AbortSignal,
  ): Promise<void> {
    const known = new Set(this.running.map(({ containerId }) => containerId));
    const running = containers.filter(({ State, Id }) => State === "running" && !known.has(Id));
    const shared = sharedRunning(running);
    const asItShouldBe = shared.find(({ Labels }) => Labels[Label.spec] === making?.hash);
    // One of an older generation serves until the new one can; not where both would write a volume.
    const found = asItShouldBe ?? (spec.volumes.length === 0 ? shared[0] : undefined);
    const agents = spec.instances === "shared" || !making ? [] : running.filter(({ Labels }) => {
      const key = Labels[Label.instance];
      return key !== undefined && Labels[Label.spec] === (making.ownHashes.get(key) ?? making.hash);
    });
    const kept = new Set([...known, ...agents.map(({ Id }) => Id)]);
    if (found && !this.#primary) kept.add(found.Id);
    const staying = new Set(containers.filter(({ Id }) => kept.has(Id)).map(givenName));
    for (const each of containers) {
      if (kept.has(each.Id)) continue;
      // One that somebody made, or renamed, beside one that stays: the network is that one's.
      if (staying.has(givenName(each))) await this.#toolbox.docker.removeContainer(each.Id);
      else await this.#removeContainer(each);
    }
    if (found && !this.#primary) await this.#adopt(found, spec, found === asItShouldBe, signal);
    for (const each of agents) {
      this.#agents.adopt(each, instanceSpec(this.#current(spec), each.Labels[Label.instance]));
    }
  }

  async #adopt(
    found: ContainerSummary,
    spec: ServerSpec,
    isAsItShouldBe: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const watcher = isAsItShouldBe ? this.#watcher() : this.#silentWatcher();
    const instance = await Instance.adopt(this.#toolbox, watcher, found, this.#current(spec));
    if (isAsItShouldBe) {
      this.#reporting.layer("image", { state: "ready", detail: "Was there already" });
      this.#reporting.layer("container", {
        state: "ready",
        detail: "Ran already, and was taken over as it was",
      });
      this.#reporting.waitAbove("container");
      this.#reporting.event("container", "info", "Took over the running container as it was");
    }
    try {
      await instance.open(signal);
    } catch (error) {
      if (signal.aborted || error instanceof EngineAbsentError || this.#toolbox.isOnTrial()) {
        instance.letGo("The server is being changed");
        throw error;
      }
      await instance.retire("It does not answer", 0);
      if (isAsItShouldBe) throw error;
      return;
    }
    this.#primary = instance;
    const { observation } = this.#reporting;
    if (observation) observation.servingGeneration = instance.generation;
  }

  async #image(spec: ServerSpec, signal: AbortSignal): Promise<BuiltImage> {
    const reporting = this.#reporting;
    reporting.layer("image", { state: "working", detail: "Looking for the image" });
    let built = false;
    const options: EnsureOptions = {
      signal,
      onLine: (line) => {
        if (!built) reporting.layer("image", { state: "working", detail: "Building", progress: 0 });
        built = true;
        reporting.log.add(line);
      },
      onProgress: (progress) => {
        reporting.observation!.layers.image.progress = progress;
        reporting.soon();
      },
    };
    const startedMs = performance.now();
    const image = await this.#toolbox.images.ensure(spec.package, options);
    if (spec.transport.type !== "stdio") {
      await this.#toolbox.images.ensure(adapterPackage(spec.transport), { signal });
    }
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    const detail = built ? `Built in ${seconds} s` : "Was there already";
    reporting.layer("image", { state: "ready", detail });
    const note = image.note ? `. ${image.note}` : "";
    if (built) reporting.event("image", "info", `Image built in ${seconds} s${note}`);
    reporting.observation!.imageDigest = image.id;
    return image;
  }

  /** A new container, up to its tools; whatever is left of one that does not get there is removed. */
  async #start(
    spec: ServerSpec,
    image: BuiltImage,
    { hash, sandbox, why }: Making,
    signal: AbortSignal,
  ): Promise<Instance> {
    await this.#takeSlot(signal);
    this.#reporting.layer("container", { state: "working", detail: "Starting" });
    this.#reporting.waitAbove("container");
    const start = { image, hash, sandbox, key: null, signal };
    const current = this.#current(spec);
    const instance = await Instance.start(this.#toolbox, this.#watcher(), current, start);
    const observation = this.#reporting.observation!;
    observation.containerId = instance.container.id;
    observation.sandbox = sandbox;
    observation.unsandboxed = why?.slice(0, 500) ?? null;
    this.#reporting.layer("container", { state: "ready", detail: "Runs" });
    try {
      await instance.open(signal);
      return instance;
    } catch (error) {
      if (this.#closing || error instanceof EngineAbsentError) {
        // The next DTMA, or the next try, takes it over.
        instance.letGo("The server is being changed");
        throw error;
      }
      if (signal.aborted) await instance.retire("The server is being changed", 0).catch(() => {});
      else {
        await this.#withEngine("container", signal, () => instance.retire("It did not start", 0));
      }
      throw sandbox && error instanceof Failure && !signal.aborted
        ? notAtHome(error, spec, sandbox)
        : error;
    }
  }

  async #takeSlot(signal: AbortSignal): Promise<void> {
    const release = await this.#toolbox.starts.take(signal);
    const timer = setTimeout(release, SLOT_MS);
    this.#releaseSlot = () => {
      clearTimeout(timer);
      release();
    };
  }

  /** Waits until a server that is up goes down, hangs or is idle. */
  async #whileUp(primary: Instance, spec: ServerSpec, signal: AbortSignal): Promise<Error> {
    const watching = new AbortController();
    const until = AbortSignal.any([signal, watching.signal]);
    try {
      const down = primary.downfall(until);
      // Told twice: who loses the race below is not waited for.
      down.catch(() => {});
      const error = await Promise.race([down, this.#untilIdle(primary, spec, until)]);
      if (!(error instanceof Failure) || !error.reason.startsWith("The server hangs")) return error;
      const again = performance.now() - this.#hungMs < HUNG_AGAIN_MS;
      this.#hungMs = performance.now();
      if (!again) return error;
      return new Failure(
        error.layer,
        `${error.reason}. It was started anew before, and hung again`,
        error.nextStep,
        "final",
      );
    } finally {
      watching.abort();
    }
  }

  async #untilIdle(primary: Instance, spec: ServerSpec, signal: AbortSignal): Promise<Idle> {
    const { idleStopS } = spec;
    for (;;) {
      if (idleStopS === null) await aborted(signal);
      else {
        const restMs = primary.lastUsedMs + idleStopS * 1000 - performance.now();
        if (restMs <= 0) return new Idle();
        await sleep(restMs, signal);
      }
      signal.throwIfAborted();
    }
  }

  /** Stops the container of a server that nobody calls; its tools stay listed. */
  async #sleepUntilCalled(primary: Instance, signal: AbortSignal): Promise<void> {
    this.#primary = null;
    const wake = this.#wake = Promise.withResolvers<void>();
    try {
      await this.#withEngine(
        "container",
        signal,
        () => primary.retire("The server went to sleep", 0),
      );
      if (signal.aborted) return;
      const detail = "Sleeps, for nobody called it; starts at the next call";
      this.#reporting.observation!.containerId = null;
      for (const layer of ["container", "handshake"] as const) {
        this.#reporting.layer(layer, { state: "idle", detail });
      }
      this.#reporting.event("container", "info", "Went to sleep: nobody called it");
      await Promise.race([wake.promise, aborted(signal)]);
      if (!signal.aborted) this.#reporting.event("container", "info", "Woken by a call");
    } finally {
      // Those that come while it starts wait for it too.
      if (signal.aborted) this.#wake = null;
      else this.#turned.promise.then(() => this.#wake = null);
    }
  }

  #turn(): void {
    this.#turned.resolve();
    this.#turned = Promise.withResolvers();
  }

  #fail(layer: Layer, reason: string, nextStep: string, gaveUp = false): void {
    const { observation } = this.#reporting;
    if (observation) {
      observation.gaveUp = gaveUp;
      observation.servingGeneration = this.#primary?.generation ?? null;
    }
    this.#reporting.fail(layer, reason, nextStep);
    this.#turn();
  }

  /** What the instance that is to serve tells is the server's news. */
  #watcher(): Watcher {
    const reporting = this.#reporting;
    return {
      log: reporting.log,
      layer: (layer, state, detail) => reporting.layer(layer, { state, detail }),
      event: (layer, level, message) => reporting.event(layer, level, message),
      advice: (message) => reporting.event("handshake", "warning", message),
      tools: (tools: ToolDefinition[], hashes) => reporting.tools(tools, hashes),
      prompts: (prompts) => reporting.prompts(prompts),
      templates: (templates) => reporting.templates(templates),
      health: (latencyMs) => reporting.health(latencyMs),
      refused: (params) => this.#refused(params),
    };
  }

  /** One of an older generation that is to be replaced: its layers are not this generation's. */
  #silentWatcher(): Watcher {
    return {
      ...this.#watcher(),
      layer: () => {},
      tools: () => {},
      prompts: () => {},
      templates: () => {},
    };
  }

  #letGo(reason: string): void {
    this.#primary?.letGo(reason);
    this.#primary = null;
    this.#wake = null;
    this.#agents.letGo(reason);
    const { observation } = this.#reporting;
    if (observation) {
      observation.containerId = null;
      observation.servingGeneration = null;
    }
    this.#turn();
  }

  /** The server's own; adapters are beside them, and one whose server is gone is removed. */
  async #containers(): Promise<ContainerSummary[]> {
    const { docker } = this.#toolbox;
    const all = await docker.listContainers(this.#ownLabels());
    const servers = all.filter(({ Labels }) => Labels[Label.adapter] === undefined);
    const names = new Set<string | undefined>(servers.map(givenName));
    for (const { Id, Labels } of all) {
      const beside = Labels[Label.adapter];
      if (beside !== undefined && !names.has(beside)) await docker.removeContainer(Id);
    }
    return servers;
  }

  async #removeContainers(): Promise<void> {
    for (const each of await this.#containers()) await this.#removeContainer(each);
  }

  async #removeContainer(found: ContainerSummary): Promise<void> {
    await removeContainer(this.#toolbox, {
      id: found.Id,
      name: givenName(found),
      transport: transportOf(found),
    });
  }

  async #removeNetworks(): Promise<void> {
    const { docker, egress } = this.#toolbox;
    for (const { Name } of await docker.listNetworks(this.#ownLabels())) await egress.close(Name);
  }

  async #removeVolumes(): Promise<void> {
    const { docker } = this.#toolbox;
    for (const { Name } of await docker.listVolumes(this.#ownLabels())) {
      await docker.removeVolume(Name);
    }
  }

  #ownLabels(): string[] {
    return Object.entries(ownLabels(this.#toolbox.toolboxId, this.#serverId))
      .map(([label, value]) => `${label}=${value}`);
  }

  /** Unused images are a matter of disk space: failing to remove them fails nothing else. */
  async #collect(): Promise<void> {
    await this.#toolbox.collectImages().catch((error) => {
      const message = `Unused images were not removed: ${error.message}`;
      this.#reporting.event("image", "warning", message);
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
}

/** A server in a sandbox did not come up, which may be the sandbox's doing. */
function notAtHome({ layer, reason, nextStep, kind }: Failure, spec: ServerSpec, sandbox: Sandbox) {
  const away = spec.tier === "untrusted"
    ? "deploy it as a standard server if you trust it so far"
    : "the toolbox's owner can keep standard servers out of it (sandbox.standard in its ceiling file)";
  const title = sandboxTitle(sandbox);
  const advice =
    `${nextStep} It runs in ${title}, in which not every program works: if this one does ` +
    `not, ${away}.`;
  return new Failure(layer, reason, advice, kind);
}

/** Whether two specs say the same but for what their headers are; that there are some is said by both. */
function isSameBut(spec: WantedServer, other: WantedServer): boolean {
  const without = ({ instanceInputs, headers, ...rest }: WantedServer) => {
    const own = Object.entries(instanceInputs ?? {})
      .map(([key, { headers, ...inputs }]) => [key, headers !== undefined, inputs]);
    return JSON.stringify([rest, headers !== undefined, own]);
  };
  return without(spec) === without(other);
}

/** Of all instances those that run for every caller, newest generation first. */
function sharedRunning(containers: ContainerSummary[]): ContainerSummary[] {
  return containers
    .filter(({ State, Labels }) => State === "running" && Labels[Label.instance] === undefined)
    .toSorted((a, b) => generationOf(b) - generationOf(a));
}

function generationOf({ Labels }: ContainerSummary): number {
  return Number(Labels[Label.generation]);
}

function refuseOutdated(containers: ContainerSummary[], spec: ServerSpec): void {
  const newest = Math.max(0, ...containers.map(generationOf));
  if (newest > spec.generation) throw new Outdated(newest);
}
