import type { Observation } from "../../dtma/protocol.ts";

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
