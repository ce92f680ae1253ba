/** What is said of a server in one word and one sentence, from its layers and its toolbox. */
import { type Layer, LAYERS, type LayerState } from "../dtma/protocol.ts";
import type { Server } from "./servers.ts";

export type Layers = Record<Layer, LayerState>;

export const SERVER_STATUSES = [
  "starting",
  "running",
  "idle",
  "stopped",
  "failed",
  "signed_out",
  "removing",
  "toolbox_unreachable",
] as const;
export type ServerStatus = (typeof SERVER_STATUSES)[number];

/** A toolbox that was silent for longer is taken as unreachable, in seconds: two long polls. */
export const TOOLBOX_SILENT_S = 75;

/** The layers of the present generation: what was seen of an older one says nothing about it. */
export function presentLayers(
  row: {
    layers: Layers | null;
    observedGeneration: number | null;
    generation: number;
    /** When the present generation was made. */
    generationAt: Date;
    toolboxName: string;
  },
): Layers {
  if (row.layers && row.observedGeneration === row.generation) return row.layers;
  const since = row.generationAt.toISOString();
  return Object.fromEntries(LAYERS.map((layer, index) => [layer, {
    state: "waiting",
    since,
    detail: index === 0
      ? `Waits for the toolbox "${row.toolboxName}" to take it up`
      : "Waits for the layer before",
  }])) as Layers;
}

/** The one status of a server, and a sentence for it. */
export function statusOf(
  server: Pick<Server, "running" | "removedAt" | "toolboxName"> & {
    /** What its toolbox's DTMA is too old to know of: that it is untrusted, or speaks HTTP. */
    refused?: "tier" | "transport" | null;
    /** Whose sign-in it is run with, if it is run with one. */
    authorization?:
      | { state: "waiting" | "signed_in" | "signed_out"; trouble: string | null }
      | null;
    /** It is called with an account, and its toolbox's DTMA does not know of that. */
    isHeaderless?: boolean;
  },
  layers: Layers,
  toolboxSilentS: number | null,
  isToolboxRevoked = false,
): { status: ServerStatus; statusDetail: string } {
  if (isToolboxRevoked) {
    return {
      status: server.removedAt ? "removing" : "toolbox_unreachable",
      statusDetail:
        `The toolbox "${server.toolboxName}" was revoked, so what runs there is out of ` +
        "reach. Remove the toolbox to be rid of its servers, and deploy anew on another one",
    };
  }
  if (toolboxSilentS === null || toolboxSilentS > TOOLBOX_SILENT_S) {
    const since = toolboxSilentS === null
      ? "has not been heard of yet"
      : `is silent for ${ago(toolboxSilentS)}`;
    return {
      status: server.removedAt ? "removing" : "toolbox_unreachable",
      statusDetail:
        `The toolbox "${server.toolboxName}" ${since}, so it is not known whether the server runs, ` +
        "and calls do not reach it. Check that its machine and its DTMA run",
    };
  }
  if (server.removedAt) {
    return {
      status: "removing",
      statusDetail: "Its container, network and image are being removed",
    };
  }
  if (!server.running) {
    const stopped = layers.container.state === "stopped";
    return {
      status: "stopped",
      statusDetail: stopped ? "Stopped; start it to use its tools" : "Is being stopped",
    };
  }
  if (server.refused) {
    const [what, lacking] = server.refused === "tier"
      ? ["is untrusted", "sandbox it"]
      : ["speaks HTTP", "reach it"];
    return {
      status: "failed",
      statusDetail:
        `It ${what}, and the DTMA of the toolbox "${server.toolboxName}" is too old to ${lacking}, ` +
        "so it is not run there. Update Mooring on that toolbox",
    };
  }
  if (server.authorization && server.authorization.state !== "signed_in") {
    const { state, trouble } = server.authorization;
    return {
      status: "signed_out",
      statusDetail: state === "waiting"
        ? "Waits for you to sign in: connect an account below"
        : `Sign in again: ${trouble ?? "the account's sign-in has ended"}`,
    };
  }
  if (server.isHeaderless) {
    return {
      status: "failed",
      statusDetail:
        `The DTMA of the toolbox "${server.toolboxName}" is too old to call a server with an ` +
        "account, so it is not run there. Update Mooring on that toolbox",
    };
  }
  const failed = LAYERS.find((layer) => layers[layer].state === "failed");
  if (failed) {
    const { detail, nextStep } = layers[failed];
    return { status: "failed", statusDetail: [detail, nextStep].filter(Boolean).join(". ") };
  }
  if (layers.container.state === "idle") {
    return { status: "idle", statusDetail: layers.container.detail };
  }
  const unfinished = LAYERS.find((layer) => layers[layer].state !== "ready");
  if (unfinished) return { status: "starting", statusDetail: layers[unfinished].detail };
  return { status: "running", statusDetail: layers.tools.detail };
}

/** Whether a server that is to run went down and is started again and again, or was so until it was given up. */
export function isCrashLooping(
  server: Pick<Server, "running" | "restarts"> & { gaveUp: boolean },
  layers: Layers,
): boolean {
  // Without an image nothing was started that could crash.
  const isDown = layers.image.state === "ready" &&
    LAYERS.some((layer) => layers[layer].state === "failed");
  return server.running && isDown && (server.gaveUp || server.restarts > 0);
}

function ago(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} seconds`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes`;
  return `${Math.round(seconds / 3600)} hours`;
}
