/** Makes Docker what the app desires: one loop a server, adopted or orphaned ones included. */
import type { CallSignal } from "./call_signal.ts";
import { type Docker, EngineAbsentError } from "./docker.ts";
import { BaseImages, type BaseParents } from "./base_images.ts";
import { Images, type ImagesOptions } from "./image.ts";
import { BASES } from "./image_recipes.ts";
import { givenName, Label, loadSpecKey } from "./policy.ts";
import type { Observation, Refusal, ReportedEvent } from "./protocol.ts";
import { Ceiling } from "./ceiling.ts";
import type { Desired, WantedServer } from "./desired.ts";
import type { Log } from "./log.ts";
import { isForgotten } from "./never_started.ts";
import { type EgressOptions, type ManagedEgress, type OnDenied, openEgress } from "./egress.ts";
import { type Route, type ServerImages, ServerLoop, type Toolbox } from "./server_loop.ts";
import { Sandboxes } from "./sandboxes.ts";
import type { openSession } from "./session.ts";
import { Slots } from "./slots.ts";

export interface ReconcilerOptions {
  docker: Docker;
  toolboxId: string;
  /** Where the key of spec hashes, lock files and probe verdicts are kept. */
  dataDir: string;
  openSession: typeof openSession;
  /** Called with every change of a server's observation, whole; log lines alone once a second. */
  report: (observation: Observation) => void;
  event: (event: ReportedEvent) => void;
  /** Called when container, network and unused image of a server are gone. */
  removed: (serverId: string) => void;
  /** Called when a remote server refused its adapter a request. */
  refused?: (refusal: Refusal) => void;
  /** Called with what the egress proxy refused servers. */
  onDenied?: OnDenied;
  /** Where servers' networks lie, and what of the host's own networks they may reach. */
  egress?: Pick<EgressOptions, "pool" | "privateNetworks" | "addresses">;
  log?: Log;
  /** See mooring-dtma.sh. */
  isOnTrial?: () => boolean;
  /** What the host allows at most; without one, the usual. */
  ceiling?: Ceiling;
  /** What gives servers a kernel of their own; without it what the engine has. */
  sandboxes?: Sandboxes;
  /** Where packages come from, and which folders may be built; see {@link ImagesOptions}. */
  indexes?: ImagesOptions["indexes"];
  sourceDirectories?: ImagesOptions["sourceDirectories"];
  /** Makes missing base images, of images in place of the official ones; see {@link BaseImages}. */
  baseParents?: BaseParents | null;
  pingEveryMs?: number;
  listEveryMs?: number;
  /** Where images come from; tests build theirs from fixtures. */
  images?: ServerImages;
}

const ENGINE_RETRY_MS = 2000;

/** The servers of one toolbox. Make it with {@link Reconciler.open}. */
export class Reconciler {
  readonly #toolbox: Toolbox;
  readonly #egress: ManagedEgress;
  readonly #loops = new Map<string, ServerLoop>();
  #closed = false;
  #sweeping: Promise<void> = Promise.resolve();
  #retry: ReturnType<typeof setTimeout> | null = null;
  #collecting: Promise<void> = Promise.resolve();

  private constructor(options: ReconcilerOptions, specKey: CryptoKey, unprobed: Unprobed) {
    const { docker, toolboxId, log = () => {} } = options;
    const ceiling = options.ceiling ?? Ceiling.read(null);
    const onDenied: OnDenied = (denial) => {
      const host = this.#loops.get(denial.serverId)?.cleaned(denial.host) ?? denial.host;
      options.onDenied?.({ ...denial, host });
    };
    const baseImages = new BaseImages({
      docker,
      names: BASES,
      parents: options.baseParents ?? {},
      makes: Boolean(options.baseParents),
    });
    const prepareBase = () => baseImages.ensure("node", (line) => log("info", line));
    this.#egress = openEgress({
      docker,
      toolboxId,
      onDenied,
      log,
      prepareBase,
      ...options.egress,
    });
    this.#toolbox = {
      docker: options.docker,
      toolboxId: options.toolboxId,
      images: options.images ?? new Images({ ...options, baseImages }),
      specKey,
      logDirectory: `${options.dataDir}/logs`,
      openSession: options.openSession,
      starts: new Slots(4),
      isOnTrial: options.isOnTrial ?? (() => false),
      unprobed,
      exitedOnProbe: new Set(),
      egress: this.#egress,
      ceiling,
      sandboxes: options.sandboxes ?? new Sandboxes(docker, ceiling.sandbox),
      pingEveryMs: options.pingEveryMs ?? 30_000,
      listEveryMs: options.listEveryMs ?? 5 * 60_000,
      report: options.report,
      event: options.event,
      refused: options.refused ?? (() => {}),
      removed: (serverId) => {
        this.#loops.delete(serverId);
        options.removed(serverId);
      },
      collectImages: () => this.#collectImages(),
    };
  }

  /** Reads (or makes) what is kept in the data directory; does not need the engine. */
  static async open(options: ReconcilerOptions): Promise<Reconciler> {
    await Deno.mkdir(`${options.dataDir}/logs`, { recursive: true });
    const specKey = await loadSpecKey(options.dataDir);
    return new Reconciler(options, specKey, await Unprobed.open(options.dataDir));
  }

  /**
   * Takes the whole desired set. Returns at once: each server's loop works on by itself, and a
   * server of this toolbox that is not listed is removed whole, but for its volumes.
   * @param removing unlisted servers whose removal is waited for, even if nothing of them is here
   */
  apply(
    desired: Desired["servers"],
    removing: NonNullable<Desired["removing"]> = [],
  ): void {
    if (this.#closed) return;
    for (const spec of desired) {
      const loop = this.#loops.get(spec.serverId);
      if (loop) loop.want(spec);
      else this.#start(spec.serverId, spec);
    }
    const listed = new Set(desired.map((spec) => spec.serverId));
    const deletesVolumes = new Map(
      removing.map(({ serverId, deleteVolumes }) => [serverId, deleteVolumes]),
    );
    for (const [serverId, loop] of this.#loops) {
      if (!listed.has(serverId)) loop.want(null, deletesVolumes.get(serverId));
    }
    for (const [serverId, deleteVolumes] of deletesVolumes) {
      const isGone = !listed.has(serverId) && !this.#loops.has(serverId);
      if (isGone) this.#start(serverId, null, deleteVolumes);
    }
    this.#sweeping = this.#sweeping.then(() => this.#sweep());
  }

  /** For the data path: where to call a server, or why it cannot be called; see ServerLoop.reach. */
  reach(
    serverId: string,
    instance: string | null = null,
    signal?: CallSignal,
    starts = true,
  ): Route | Promise<Route> {
    return this.#loops.get(serverId)?.reach(instance, signal, starts) ??
      { unavailable: "This toolbox does not run that server" };
  }

  /** For the data path: ends an agent's or session's own instance of a server, if there is one. */
  end(serverId: string, instance: string): void {
    this.#loops.get(serverId)?.end(instance);
  }

  /** The containers that are up, for whoever measures them. */
  running(): { serverId: string; instance: string | null; containerId: string }[] {
    return [...this.#loops].flatMap(([serverId, loop]) =>
      loop.running.map((each) => ({ serverId, ...each }))
    );
  }

  /** Of these servers one that is to run and cannot be called: its name and why; null: all can. */
  firstDown(serverIds: Iterable<string>): string | null {
    for (const id of serverIds) {
      const loop = this.#loops.get(id);
      if (loop?.whyDown) return `${loop.wanted!.name}: ${loop.whyDown}`;
    }
    return null;
  }

  /** What is kept of a server's log, oldest line first; null of a server that is not here. */
  async log(serverId: string): Promise<string | null> {
    return await this.#loops.get(serverId)?.log() ?? null;
  }

  /** What is in a server's image, as CycloneDX; null of a server that is not here, or has none yet. */
  async bom(serverId: string): Promise<Record<string, unknown> | null> {
    const wanted = this.#loops.get(serverId)?.wanted;
    return wanted ? await this.#toolbox.images.bomOf(wanted.package) : null;
  }

  /** Looks how much the servers' volumes hold, where there are any. */
  async measureVolumes(): Promise<void> {
    const loops = [...this.#loops.values()].filter(({ wanted }) => wanted?.volumes.length);
    if (loops.length === 0) return;
    const sizes = await this.#toolbox.docker.volumeSizes().catch(() => new Map<string, number>());
    for (const loop of loops) loop.volumeSizes(sizes);
  }

  /** Lets go of everything and leaves the containers running, for the next DTMA to take over. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry) clearTimeout(this.#retry);
    await Promise.all([...this.#loops.values()].map((loop) => loop.close()));
    await this.#sweeping;
    await this.#collecting;
    await this.#egress.detach();
  }

  #start(serverId: string, spec: WantedServer | null, deletesVolumes = false): void {
    this.#loops.set(serverId, new ServerLoop(this.#toolbox, serverId, spec, deletesVolumes));
  }

  /** Finds what carries this toolbox's label and is nobody's: removed like any unlisted server. */
  async #sweep(): Promise<void> {
    if (this.#closed) return;
    const { docker, toolboxId } = this.#toolbox;
    const label = [`${Label.toolbox}=${toolboxId}`];
    try {
      const [containers, networks] = await Promise.all([
        docker.listContainers(label),
        docker.listNetworks(label),
      ]);
      for (const { Id, Names } of containers) {
        if (isForgotten(Names[0].slice(1))) await docker.removeContainer(Id);
      }
      for (const { Labels } of [...containers, ...networks]) {
        const serverId = Labels[Label.server];
        if (serverId && !this.#loops.has(serverId) && !this.#closed) this.#start(serverId, null);
      }
      await this.#egress.sweep(containers.map(givenName));
    } catch (error) {
      if (this.#closed) return;
      if (!(error instanceof EngineAbsentError)) console.error("Looking for orphans failed", error);
      if (this.#retry) clearTimeout(this.#retry);
      this.#retry = this.#closed ? null : setTimeout(() => {
        this.#sweeping = this.#sweeping.then(() => this.#sweep());
      }, ENGINE_RETRY_MS);
    }
  }

  /** One at a time; keeps the images of all servers that are listed, stopped ones too. */
  #collectImages(): Promise<void> {
    const collected = this.#collecting.then(() => {
      const wanted = [...this.#loops.values()].flatMap((loop) => loop.packages);
      return this.#toolbox.images.collect(wanted);
    });
    this.#collecting = collected.catch(() => {});
    return collected;
  }
}

/** Ids of images whose server exits on the probe; kept, or a new DTMA would end what it adopts. */
class Unprobed {
  private constructor(readonly path: string, readonly images: Set<string>) {}

  static async open(dataDir: string): Promise<Unprobed> {
    const path = `${dataDir}/unprobed_images.txt`;
    try {
      const text = await Deno.readTextFile(path);
      return new Unprobed(path, new Set(text.split("\n").filter(Boolean)));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      return new Unprobed(path, new Set());
    }
  }

  has(image: string): boolean {
    return this.images.has(image);
  }

  async add(image: string): Promise<void> {
    this.images.add(image);
    // On a full disk it holds for as long as this DTMA runs.
    await Deno.writeTextFile(this.path, image + "\n", { append: true }).catch(() => {});
  }
}
