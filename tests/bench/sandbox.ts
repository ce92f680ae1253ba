/**
 * What gVisor costs a server: create to the answered `initialize`, and a call, in gVisor against Docker's
 * own runtime, the same policy and image, in turn. On an engine of the bench's own (tests/dtma/gvisor.ts).
 */
import { containerConfig } from "../../dtma/policy.ts";
import type { Sandbox } from "../../dtma/protocol.ts";
import { openSession } from "../../dtma/session.ts";
import { FixtureImages, fixtureSpec } from "../dtma/engine.ts";
import { absent, type GvisorToolbox, gvisorVersion, withGvisor } from "../dtma/gvisor.ts";
import { quantile } from "./load.ts";

const CALLS = 200;

/** Prints the medians over so many starts each, and their ratio. */
export async function measureSandbox(starts: number): Promise<void> {
  if (absent) return console.log(`skipped: ${absent}`);
  await withGvisor(async (toolbox) => {
    const { runtimeArgs } = toolbox.runtimes.runsc;
    console.log(`${await gvisorVersion()}, ${runtimeArgs!.join(" ")}`);
    const ways = new Map<string, { sandbox: Sandbox | null; startMs: number[]; callMs: number[] }>([
      ["runc", { sandbox: null, startMs: [], callMs: [] }],
      ["gVisor", { sandbox: { runtime: "runsc", kind: "gvisor" }, startMs: [], callMs: [] }],
    ]);
    for (let round = 0; round < starts; round++) {
      for (const { sandbox, startMs, callMs } of ways.values()) {
        const measured = await measure(toolbox, sandbox);
        startMs.push(measured.startMs);
        callMs.push(...measured.callMs);
      }
    }
    const median = (name: string, what: "startMs" | "callMs") =>
      quantile(ways.get(name)![what], 0.5);
    for (
      const [what, title] of [["startMs", "create to initialize"], ["callMs", "a call"]] as const
    ) {
      const [runc, gvisor] = [median("runc", what), median("gVisor", what)];
      console.log(
        `${title.padEnd(34)} runc p50 ${runc.toFixed(2)} ms, gVisor p50 ${gvisor.toFixed(2)} ms: ` +
          `ratio ${(gvisor / runc).toFixed(2)}`,
      );
    }
  });
}

async function measure(toolbox: GvisorToolbox, sandbox: Sandbox | null) {
  const { docker, id: toolboxId } = toolbox;
  const spec = fixtureSpec("echo");
  const image = await new FixtureImages(toolbox).ensure(spec.package);
  const started = performance.now();
  const id = await docker.createContainer(
    `mooring-bench-${crypto.randomUUID()}`,
    containerConfig(spec, {
      toolboxId,
      image,
      specHash: "bench",
      instance: null,
      route: null,
      sandbox,
    }),
  );
  try {
    const stdio = await docker.attachContainer(id);
    await docker.startContainer(id);
    const writer = stdio.stdin.getWriter();
    await writer.write(new TextEncoder().encode("run\n"));
    writer.releaseLock();
    const session = await openSession(stdio, {
      handshakeTimeoutMs: 60_000,
      skipProbe: true,
      log: () => {},
    });
    const startMs = performance.now() - started;
    const callMs: number[] = [];
    for (let call = 0; call < CALLS; call++) {
      const begun = performance.now();
      await session.call({
        jsonrpc: "2.0",
        id: String(call),
        method: "tools/call",
        params: { name: "echo", arguments: { message: "hello" } },
      }, {});
      callMs.push(performance.now() - begun);
    }
    session.close("measured");
    stdio.close();
    return { startMs, callMs };
  } finally {
    await docker.removeContainer(id);
  }
}

if (import.meta.main) await measureSandbox(10);
