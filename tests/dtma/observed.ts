/** A Reconciler whose reports a test can wait for. */
import assert from "node:assert/strict";
import { Ceiling } from "../../dtma/ceiling.ts";
import type { Log } from "../../dtma/log.ts";
import type { Denial, Observation, ReportedEvent, ServerSpec } from "../../dtma/protocol.ts";
import { Reconciler, type ReconcilerOptions } from "../../dtma/reconcile.ts";
import type { ServerImages } from "../../dtma/server_loop.ts";
import { openSession } from "../../dtma/session.ts";
import type { Toolbox } from "./engine.ts";

/** How long what has to come is waited for: a machine that does much else takes its time. */
const LONG_MS = 300_000;

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A DTMA without its wire: what it reports is kept here. */
export class Dtma {
  readonly history: Observation[] = [];
  readonly events: ReportedEvent[] = [];
  readonly removed: string[] = [];
  readonly denials: Denial[] = [];
  private constructor(readonly reconciler: Reconciler) {}

  static async start(
    toolbox: Toolbox,
    images?: ServerImages,
    { ceiling, pingEveryMs, listEveryMs, egress, log }: {
      ceiling?: object;
      pingEveryMs?: number;
      listEveryMs?: number;
      egress?: ReconcilerOptions["egress"];
      log?: Log;
    } = {},
  ): Promise<Dtma> {
    const { docker, id: toolboxId, dataDir } = toolbox;
    const dtma: Dtma = new Dtma(
      await Reconciler.open({
        docker,
        toolboxId,
        dataDir,
        openSession,
        images,
        pingEveryMs,
        listEveryMs,
        egress,
        log,
        ceiling: Ceiling.read(ceiling ? JSON.stringify(ceiling) : null),
        report: (observation) => dtma.history.push(observation),
        event: (event) => dtma.events.push(event),
        onDenied: (denial) => dtma.denials.push(denial),
        removed: (serverId) => dtma.removed.push(serverId),
      }),
    );
    return dtma;
  }

  seen(serverId: string): Observation | undefined {
    return this.history.findLast((each) => each.serverId === serverId);
  }

  /** Waits for a report, from the last one on. A state that soon was another is found as well. */
  async until(
    { serverId, generation }: ServerSpec,
    condition: (observation: Observation) => boolean,
  ): Promise<Observation> {
    let from = Math.max(0, this.history.findLastIndex((each) => each.serverId === serverId));
    let found: Observation | undefined;
    await eventually(() => {
      found = this.history.slice(from).find((each) =>
        each.serverId === serverId && each.generation === generation && condition(each)
      );
      if (!found) from = this.history.length;
      return found !== undefined;
    }).catch(() => assert.fail(JSON.stringify(this.seen(serverId), null, 1)));
    return found!;
  }

  ready(spec: ServerSpec): Promise<Observation> {
    return this.until(spec, ({ layers }) => layers.tools.state === "ready");
  }

  async call(
    serverId: string,
    name: string,
    given: unknown = {},
    instance: string | null = null,
    signal?: AbortSignal,
  ): Promise<string> {
    const reachable = await this.reconciler.reach(serverId, instance);
    if ("unavailable" in reachable) throw new Error(reachable.unavailable);
    const answer = await reachable.session.call({
      jsonrpc: "2.0",
      id: crypto.randomUUID(),
      method: "tools/call",
      params: { name, arguments: given } as Record<string, unknown>,
    }, { signal });
    if (!("result" in answer)) throw new Error(JSON.stringify(answer));
    return (answer.result as { content: { text: string }[] }).content[0].text;
  }
}

/** Waits for something to be so, or fails. */
export async function eventually(condition: () => boolean | Promise<boolean>) {
  const deadline = performance.now() + LONG_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, "It did not happen in time");
    await sleep(20);
  }
}
