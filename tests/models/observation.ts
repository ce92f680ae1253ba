import { v7 } from "uuid";
import type { Observation, Report } from "../../dtma/protocol.ts";
import type { Database } from "../../models/db.ts";
import { acceptReport } from "../../models/toolboxes.ts";

/** What a toolbox reports of a server that is up, with the given tools. */
export function observation(
  serverId: string,
  generation: number,
  tools: Observation["tools"],
  state: "ready" | "failed" = "ready",
): Observation {
  const layer = { state, detail: "", since: new Date().toISOString() };
  return {
    serverId,
    generation,
    layers: { image: layer, container: layer, handshake: layer, tools: layer },
    imageDigest: "sha256:0",
    containerId: "c0",
    serverInfo: { name: "test", version: "1.0.0" },
    restarts: 0,
    servingGeneration: null,
    gaveUp: false,
    health: null,
    instances: [],
    sandbox: null,
    unsandboxed: null,
    volumes: [],
    logTail: [],
    tools,
  };
}

/** Reports of one toolbox, in order, each with what it is given and nothing else. */
export function reports(
  db: Database,
  toolboxId: string,
): (parts: Partial<Report>) => Promise<boolean> {
  const epoch = v7();
  let sequence = 0;
  return (parts) =>
    acceptReport(db, toolboxId, {
      epoch,
      sequence: sequence++,
      observations: [],
      events: [],
      removed: [],
      ...parts,
    });
}
