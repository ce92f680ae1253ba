/** The layer under a server's own four, its host, and what of them is still known without it. */
import { type HostFacts, type Layer, LAYERS, type LayerState } from "../dtma/protocol.ts";
import { type Layers, TOOLBOX_SILENT_S } from "./server_status.ts";

/**
 * A layer as it is shown: `unknown` when nobody can tell any more, with what it was and, in `since`,
 * when it was last known.
 */
export type ShownLayer = Omit<LayerState, "state"> & { state: LayerState["state"] | "unknown" };

/** What is read of a server's toolbox to say how its host is. */
export interface HostSeen {
  toolboxName: string;
  /** When the server was made, before which nothing was expected of its host. */
  createdAt: Date;
  lastSeenAt: Date | null;
  silentS: number | null;
  toolboxRevokedAt: Date | null;
  facts: HostFacts | null;
}

/** Of the host it is known, too, whether anything is heard of what runs on it. */
export type HostLayer = ShownLayer & { isHeard: boolean };

/** The state of the host that a server is on. */
export function hostLayer(seen: HostSeen): HostLayer {
  const { toolboxName: name, lastSeenAt, silentS, toolboxRevokedAt, facts } = seen;
  const createdAt = seen.createdAt.toISOString();
  if (toolboxRevokedAt) {
    return {
      isHeard: false,
      state: "failed",
      since: toolboxRevokedAt.toISOString(),
      detail: `${name} was revoked: its containers may run on, out of reach`,
      nextStep: "Deploy anew on another toolbox.",
    };
  }
  if (silentS === null || !lastSeenAt) {
    return {
      isHeard: false,
      state: "waiting",
      since: createdAt,
      detail: `${name} was never heard of`,
    };
  }
  if (silentS > TOOLBOX_SILENT_S) {
    return {
      isHeard: false,
      state: "failed",
      since: lastSeenAt.toISOString(),
      detail:
        `${name} is silent: its containers run on, if its machine does, but nothing is known ` +
        "of them",
      nextStep: "Check that its machine and its DTMA run, and that it reaches Mooring.",
    };
  }
  const engine = facts?.engine;
  if (engine?.state === "absent") {
    return {
      isHeard: true,
      state: "failed",
      since: engine.since ?? lastSeenAt.toISOString(),
      detail: `No Docker Engine answers on ${name}. ${engine.reason}`,
      nextStep: engine.advice,
    };
  }
  const version = engine ? ` with ${engine.product ?? "Docker Engine"} ${engine.version}` : "";
  return {
    isHeard: true,
    state: "ready",
    since: lastSeenAt.toISOString(),
    detail: `${name}${version}`,
  };
}

/**
 * The four layers, as far as they are known with the host as it is: what was seen before it went
 * silent says what was, not what is.
 */
export function shownLayers(layers: Layers, host: HostLayer): Record<Layer, ShownLayer> {
  if (host.isHeard || host.state === "waiting") return layers;
  return Object.fromEntries(LAYERS.map((name): [Layer, ShownLayer] => {
    const { state, detail } = layers[name];
    const was = detail ? `${state} (${detail})` : state;
    return [name, { state: "unknown", since: host.since, detail: `Was ${was}` }];
  })) as Record<Layer, ShownLayer>;
}
