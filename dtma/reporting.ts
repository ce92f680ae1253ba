/** What a server's loop tells the app: its layers, events and log, fit to be shown. */
import { isObject } from "./connection.ts";
import { LogTail } from "./log_tail.ts";
import {
  type Layer,
  LAYERS,
  type LayerState,
  type Observation,
  type PromptDefinition,
  type ReportedEvent,
  type ServerSpec,
  type ToolDefinition,
} from "./protocol.ts";
import type { TemplateDefinition } from "./tool_definition.ts";

/** Observations that are only news of the log or of progress are sent this often at most. */
const REPORT_EVERY_MS = 1000;

/** Where the news go. */
export interface Listener {
  report(observation: Observation): void;
  event(event: ReportedEvent): void;
}

export class Reporting {
  readonly log: LogTail;
  observation: Observation | null = null;
  readonly #to: Listener;
  /** What was last told to be listed: the same list again is no event. */
  #listedTools = "";
  #toolCount = 0;
  #tools: ToolDefinition[] | null = null;
  #prompts: PromptDefinition[] | null = null;
  #templates: TemplateDefinition[] | null = null;
  /** By the monotonic clock: the other one may be set back. */
  #lastReportMs = -Infinity;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;

  /** @param onLogLine told each line of the log, fit to be kept */
  constructor(to: Listener, onLogLine?: (line: string) => void) {
    this.#to = to;
    this.log = new LogTail(() => this.soon(), onLogLine);
  }

  /** The layers of a new generation, none of which is up. */
  begin(spec: ServerSpec, servingGeneration: number | null): void {
    for (const { secrets, secretFiles } of [spec, ...Object.values(spec.instanceInputs ?? {})]) {
      this.log.maskValues([...Object.values(secrets), ...Object.values(secretFiles)]);
    }
    this.maskHeaders(spec);
    const since = new Date().toISOString();
    const before = this.observation;
    this.observation = {
      serverId: spec.serverId,
      generation: spec.generation,
      layers: Object.fromEntries(
        LAYERS.map((layer) => [layer, { state: "waiting", detail: "", since }]),
      ) as Observation["layers"],
      imageDigest: null,
      containerId: null,
      serverInfo: null,
      restarts: 0,
      servingGeneration,
      gaveUp: false,
      health: null,
      instances: before?.instances ?? [],
      sandbox: before?.sandbox ?? null,
      unsandboxed: null,
      volumes: spec.volumes.map(({ name }) => ({
        name,
        bytes: before?.volumes.find((each) => each.name === name)?.bytes ?? null,
      })),
      logTail: this.log.lines,
      tools: null,
      prompts: null,
      resourceTemplates: null,
      instructions: null,
      capabilities: null,
    };
  }

  /** What is sent to a remote server is shown no more than a secret; nor is what follows a scheme's name. */
  maskHeaders({ headers, instanceInputs = {} }: ServerSpec): void {
    const values = [headers, ...Object.values(instanceInputs).map(({ headers }) => headers)]
      .flatMap((each) => Object.values(each ?? {}));
    if (values.length === 0) return;
    this.log.maskRenewed([...values, ...values.map((value) => value.replace(/^\S+ /, ""))]);
  }

  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  /** A layer failed: those above it wait. */
  fail(layer: Layer, reason: string, nextStep: string): void {
    if (!this.observation) return;
    const detail = this.log.clean(reason);
    const before = this.observation.layers[layer];
    if (before.state !== "failed" || before.detail !== detail) this.event(layer, "error", reason);
    this.layer(layer, { state: "failed", detail, nextStep: nextStep.slice(0, 1000) });
    this.waitAbove(layer);
  }

  waitAbove(layer: Layer): void {
    const observation = this.observation!;
    observation.tools = observation.prompts = observation.resourceTemplates = null;
    observation.serverInfo = observation.capabilities = observation.instructions = null;
    for (const above of LAYERS.slice(LAYERS.indexOf(layer) + 1)) {
      this.layer(above, { state: "waiting" });
    }
  }

  layer(layer: Layer, to: Omit<LayerState, "since" | "detail"> & { detail?: string }): void {
    if (!this.observation) return;
    const before = this.observation.layers[layer];
    const since = before.state === to.state ? before.since : new Date().toISOString();
    const detail = to.detail === undefined && before.state === to.state ? before.detail : to.detail;
    this.observation.layers[layer] = { ...to, detail: this.log.clean(detail ?? ""), since };
    this.#now();
  }

  /** The server listed its tools; they are its generation's once it is {@link toolsReady}. */
  tools(tools: ToolDefinition[], hashes: Map<string, string>): void {
    this.#tools = tools;
    this.#toolCount = tools.length;
    const listed = JSON.stringify([...hashes]);
    if (listed !== this.#listedTools) {
      this.event("tools", "info", `The server lists ${this.#toolsDetail()}`);
    }
    this.#listedTools = listed;
    // Again, by a server that is up.
    if (this.observation?.tools) this.toolsReady();
  }

  /** As {@link tools}, of which there are none of a server that could not list them. */
  prompts(prompts: PromptDefinition[] | null): void {
    this.#prompts = prompts;
    if (this.observation?.tools) this.toolsReady();
  }

  templates(templates: TemplateDefinition[] | null): void {
    this.#templates = templates;
    if (this.observation?.tools) this.toolsReady();
  }

  /** From the handshake of the instance that serves. */
  handshake(serverInfo: Record<string, unknown> | null): void {
    const { capabilities, instructions } = serverInfo ?? {};
    const observation = this.observation!;
    observation.serverInfo = serverInfo;
    observation.capabilities = isObject(capabilities) ? capabilities : null;
    observation.instructions = typeof instructions === "string" ? instructions : null;
  }

  toolsReady(): void {
    const observation = this.observation!;
    observation.tools = this.#tools;
    observation.prompts = this.#prompts;
    observation.resourceTemplates = this.#templates;
    this.layer("tools", { state: "ready", detail: this.#toolsDetail() });
  }

  health(latencyMs: number | null): void {
    if (!this.observation) return;
    this.observation.health = { latencyMs, at: new Date().toISOString() };
    this.soon();
  }

  event(layer: Layer, level: ReportedEvent["level"], message: string): void {
    if (!this.observation) return;
    const { serverId, generation } = this.observation;
    const at = new Date().toISOString();
    this.#to.event({ serverId, generation, at, layer, level, message: this.log.clean(message) });
  }

  /** Reports within a second, with whatever else is new by then. */
  soon(): void {
    if (this.#timer || this.#closed) return;
    const waitMs = Math.max(0, this.#lastReportMs + REPORT_EVERY_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#now();
    }, waitMs);
  }

  #toolsDetail(): string {
    return this.#toolCount === 1 ? "1 tool" : `${this.#toolCount} tools`;
  }

  #now(): void {
    if (!this.observation || this.#closed) return;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#lastReportMs = performance.now();
    this.observation.logTail = this.log.lines;
    this.#to.report(structuredClone(this.observation));
  }
}
