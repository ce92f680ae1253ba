/**
 * The instances that are one agent's or one session's alone: started by its first call, stopped when
 * it is idle or the session was deleted.
 */
import type { CallSignal } from "./call_signal.ts";
import { type ContainerSummary, DockerError, EngineAbsentError } from "./docker.ts";
import { asFailure } from "./failure.ts";
import type { BuiltImage } from "./image.ts";
import { type Host, Instance, type Reachable, type Watcher } from "./instance.ts";
import { instanceSpec, Label } from "./policy.ts";
import type { AgentInstance, Sandbox, ServerSpec } from "./protocol.ts";
import type { Reporting } from "./reporting.ts";
import { aborted, sleep } from "./waiting.ts";

/** Of one server: each takes memory of its own. */
const INSTANCES_LIMIT = 32;

/** Without another wish such an instance ends after a quarter of an hour without a call. */
const IDLE_S = 900;

/** After a failed start its caller hears the same again for so long, before the next try. */
const RETRY_MS = 5000;

interface Entry {
  /** Of what it is made from. */
  hash: string;
  /** Resolves with the instance once it can be called, or with why it cannot. */
  up: Promise<Instance | { unavailable: string }>;
  instance: Instance | null;
  /** Aborted when it is ended, or let go of. */
  life: AbortController;
  state: AgentInstance;
  failedMs: number;
}

/** What new instances are made from. */
interface Recipe {
  spec: ServerSpec;
  image: BuiltImage;
  hash: string;
  /** By key: of those with inputs of their own. */
  ownHashes: Map<string, string>;
  /** The shared instance's: all of a server's are in the same. */
  sandbox: Sandbox | null;
}

export class AgentInstances {
  readonly #host: Host;
  readonly #reporting: Reporting;
  readonly #onRefused: (params: unknown, key: string) => void;
  readonly #entries = new Map<string, Entry>();
  /** What is being removed: the next of its key has the same name, and waits for it. */
  readonly #ending = new Map<string, Promise<void>>();
  /** Resolved, and made anew, when an instance is made. */
  #arrival = Promise.withResolvers<void>();
  #recipe: Recipe | null = null;
  /** Aborted, and made anew, when the recipe is another one. */
  #served = new AbortController();

  /** @param onRefused told what a remote server refused an adapter */
  constructor(
    host: Host,
    reporting: Reporting,
    onRefused: (params: unknown, key: string) => void,
  ) {
    this.#host = host;
    this.#reporting = reporting;
    this.#onRefused = onRefused;
  }

  all(): Instance[] {
    return [...this.#entries.values()].flatMap(({ instance }) => instance ?? []);
  }

  /** What instances are made from, from now on; those made from something else end. */
  serve(recipe: Recipe): void {
    this.#recipe = recipe;
    const { spec } = recipe;
    this.#served.abort();
    this.#served = new AbortController();
    for (const [key, entry] of this.#entries) {
      // Also one that is still being started.
      if (entry.hash !== hashOf(recipe, key) || spec.instances === "shared") {
        this.#end(key, "The server was changed");
      } else if (entry.instance) entry.instance.generation = spec.generation;
    }
  }

  /** What the adapters of a remote server send from now on, by a spec that is the same but for that. */
  setHeaders(spec: ServerSpec): void {
    if (!this.#recipe) return;
    const { headers, instanceInputs } = spec;
    this.#recipe = { ...this.#recipe, spec: { ...this.#recipe.spec, headers, instanceInputs } };
    for (const [key, { instance }] of this.#entries) {
      const own = instanceSpec(spec, key).headers;
      if (own) instance?.setHeaders(own);
    }
  }

  /**
   * Where an agent's or session's calls go, at once if its instance is up; starts it if there is none.
   * @param starts false: waits until another call starts it
   */
  reach(
    key: string,
    signal?: CallSignal,
    starts = true,
  ): Reachable | Promise<Reachable | { unavailable: string }> {
    const { instance } = this.#entries.get(key) ?? {};
    if (!instance?.reachable) return this.#whenUp(key, signal, starts);
    if (starts) instance.lastAskedMs = performance.now();
    return instance.reachable;
  }

  async #whenUp(
    key: string,
    signal: CallSignal | undefined,
    starts: boolean,
  ): Promise<Reachable | { unavailable: string }> {
    const never = new Promise<never>(() => {});
    while (!starts && !this.#entries.has(key) && !signal?.aborted) {
      await Promise.race([this.#arrival.promise, signal ? aborted(signal) : never]);
    }
    this.#forgetFailed();
    let entry = this.#entries.get(key);
    if (!entry) {
      if (!starts) return { unavailable: "There is no such instance" };
      if (!this.#recipe) return { unavailable: "The server is not up" };
      if (this.#known().length >= INSTANCES_LIMIT) {
        return { unavailable: `The server has ${INSTANCES_LIMIT} instances, which is the limit` };
      }
      const recipe = this.#recipe;
      entry = this.#add(key, hashOf(recipe, key), (life) => this.#start(key, recipe, life));
    }
    if (entry.instance && starts) entry.instance.lastAskedMs = performance.now();
    const up = await Promise.race([entry.up, ...(signal ? [aborted(signal)] : [])]);
    if (!up) return { unavailable: "The call was given up" };
    if ("unavailable" in up) return up;
    return up.reachable ?? { unavailable: "The instance went down: try again" };
  }

  /** Takes over a container that an earlier DTMA started. */
  adopt(found: ContainerSummary, spec: ServerSpec): void {
    const key = found.Labels[Label.instance];
    if (this.#entries.has(key)) return;
    const adopt = () => Instance.adopt(this.#host, this.#watcher(key), found, spec);
    this.#add(key, found.Labels[Label.spec], adopt);
  }

  /** Ends the instance of one agent or session, if there is one. */
  end(key: string): void {
    if (this.#entries.has(key)) this.#end(key, "Its session was ended");
  }

  /** Detaches from all; the containers go on running. */
  letGo(reason: string): void {
    for (const { instance, life } of this.#entries.values()) {
      life.abort();
      instance?.letGo(reason);
    }
    this.#entries.clear();
    this.#recipe = null;
    this.#arrived();
    this.#tell();
  }

  #add(key: string, hash: string, make: (life: AbortSignal) => Promise<Instance>): Entry {
    const life = new AbortController();
    const since = new Date().toISOString();
    const state: AgentInstance = { instance: key, state: "starting", containerId: null, since };
    const up = Promise.resolve({ unavailable: "" });
    const entry: Entry = {
      hash,
      up,
      instance: null,
      life,
      state,
      failedMs: 0,
    };
    this.#entries.set(key, entry);
    this.#arrived();
    entry.up = this.#bringUp(key, entry, make);
    this.#tell();
    return entry;
  }

  async #bringUp(
    key: string,
    entry: Entry,
    make: (life: AbortSignal) => Promise<Instance>,
  ): Promise<Instance | { unavailable: string }> {
    const { signal } = entry.life;
    try {
      const instance = entry.instance = await make(signal);
      await instance.open(signal);
      entry.state.state = "ready";
      entry.state.containerId = instance.container.id;
      entry.state.since = new Date().toISOString();
      this.#tell();
      this.#keep(key, entry, instance);
      return instance;
    } catch (error) {
      // Who ended it removes what came up nevertheless.
      if (signal.aborted) return { unavailable: "The server is being changed" };
      const { reason } = error instanceof EngineAbsentError ? error : asFailure(error);
      const text = this.#reporting.log.clean(
        `An agent's or session's instance did not start: ${reason}`,
      );
      this.#reporting.event("container", "error", text);
      entry.failedMs = performance.now();
      const failed = entry.instance;
      entry.instance = null;
      this.#tell();
      await failed?.retire("It did not start", 0).catch(ignoreUnremoved);
      return { unavailable: text };
    }
  }

  async #start(
    key: string,
    recipe: Recipe,
    signal: AbortSignal,
  ): Promise<Instance> {
    await this.#ending.get(key);
    signal.throwIfAborted();
    const { image, sandbox } = recipe;
    const start = { image, sandbox, hash: hashOf(recipe, key), key, signal };
    const spec = instanceSpec(recipe.spec, key);
    return await Instance.start(this.#host, this.#watcher(key), spec, start);
  }

  /** Until it goes down or nobody calls it any more. */
  async #keep(key: string, entry: Entry, instance: Instance): Promise<void> {
    const { signal } = entry.life;
    const idle = async () => {
      for (;;) {
        // One that was taken over may be up before it is known how long it may be idle.
        const idleS = this.#recipe?.spec.idleStopS ?? IDLE_S;
        const restMs = instance.lastUsedMs + idleS * 1000 - performance.now();
        if (restMs <= 0) return null;
        await sleep(restMs, AbortSignal.any([signal, this.#served.signal]));
        signal.throwIfAborted();
      }
    };
    try {
      const down = instance.downfall(signal);
      down.catch(() => {});
      const error = await Promise.race([down, idle()]);
      const why = error ? asFailure(error).reason : "nobody called it";
      this.#reporting.event("container", "info", `An agent's or session's instance ended: ${why}`);
    } catch {
      if (signal.aborted) return;
    }
    if (this.#entries.get(key) === entry) this.#end(key, "The instance ended");
  }

  #end(key: string, reason: string): void {
    const entry = this.#entries.get(key)!;
    this.#entries.delete(key);
    entry.life.abort();
    // One that is being started is known only then.
    const ending = entry.up.then(() => entry.instance?.retire(reason)).catch(ignoreUnremoved)
      .finally(() => this.#ending.get(key) === ending && this.#ending.delete(key));
    this.#ending.set(key, ending);
    this.#tell();
  }

  /** Also those of sessions that do not call again: each has a key of its own. */
  #forgetFailed(): void {
    const sinceMs = performance.now() - RETRY_MS;
    for (const [key, { failedMs }] of this.#entries) {
      if (failedMs > 0 && failedMs < sinceMs) this.#entries.delete(key);
    }
  }

  /** What failed is told as an event, and is none until its agent calls again. */
  #known(): Entry[] {
    return [...this.#entries.values()].filter(({ failedMs }) => failedMs === 0);
  }

  #arrived(): void {
    this.#arrival.resolve();
    this.#arrival = Promise.withResolvers();
  }

  #tell(): void {
    const { observation } = this.#reporting;
    if (!observation) return;
    observation.instances = this.#known().map(({ state }) => state);
    this.#reporting.soon();
  }

  /** Tools and layers are the shared instance's to tell. */
  #watcher(key: string): Watcher {
    const { log } = this.#reporting;
    const nothing = () => {};
    return {
      log,
      layer: nothing,
      event: nothing,
      advice: (message) => this.#reporting.event("handshake", "warning", message),
      tools: nothing,
      prompts: nothing,
      templates: nothing,
      health: nothing,
      refused: (params) => this.#onRefused(params, key),
    };
  }
}

function hashOf({ hash, ownHashes }: Recipe, key: string): string {
  return ownHashes.get(key) ?? hash;
}

/**
 * What could not be removed, as the engine was away or DTMA itself is ending, is found by the next
 * look at what is there.
 */
function ignoreUnremoved(error: unknown): void {
  if (error instanceof DockerError || error instanceof EngineAbsentError) return;
  if (error instanceof DOMException && error.name === "AbortError") return;
  throw error;
}
