/** Where a new server goes: pure, so that the form and the deploy say the same. */
import type { Tier, Transport } from "../dtma/protocol.ts";
import type { Toolbox } from "./toolboxes.ts";

/** What is looked at of a toolbox. */
export type Candidate = Pick<
  Toolbox,
  | "id"
  | "name"
  | "facts"
  | "isLocal"
  | "isEnrolled"
  | "isOnline"
  | "drainedAt"
  | "revokedAt"
  | "servers"
  | "promisedMiB"
  | "labels"
>;

/** What a server needs of its toolbox. */
export interface Wish {
  memoryMiB: number;
  /** `key=value` that the toolbox has to have; without it any will do. */
  label?: string;
  /** An untrusted server goes where there is a sandbox; without it a standard one. */
  tier?: Tier;
  /** One over HTTP goes where the DTMA knows of that; without it one on stdio. */
  transport?: Transport;
  /** Where it comes from: a REST API goes where the DTMA knows of these. */
  registry?: string;
}

export interface Placement {
  /** The fitting toolbox with the fewest servers; of several that with the most free memory. */
  toolboxId: string | null;
  /** For each toolbox in the given order why it does not fit, as a sentence; null where it does. */
  fits: {
    toolboxId: string;
    why: string | null;
    /** A person may choose it nevertheless: it is only for now that it does not fit. */
    isChoosable: boolean;
  }[];
}

/** Chooses among toolboxes; the order of equals is that of the list. */
export function place(toolboxes: Candidate[], wish: Wish): Placement {
  const fits = toolboxes.map((box) => ({
    toolboxId: box.id,
    why: whyNot(box, wish),
    isChoosable: whyNever(box) === null,
  }));
  const fitting = toolboxes.filter((_, index) => fits[index].why === null);
  fitting.sort((a, b) => a.servers - b.servers || freeMiB(b) - freeMiB(a));
  return { toolboxId: fitting[0]?.id ?? null, fits };
}

/** What to do when no toolbox fits: the reasons, and a way out. */
export function nothingFits(toolboxes: Candidate[], wish: Wish): string {
  const { label } = wish;
  const present = toolboxes.filter((box) => !box.revokedAt);
  if (present.length === 0) {
    return "There is no toolbox to run it on: add one on the toolboxes page";
  }
  // Of the others nothing is to be mended for this wish.
  const labelled = label ? present.filter((box) => !lacksLabel(box, label)) : present;
  if (labelled.length === 0) {
    return `No toolbox has the label ${label}: give it to one on its page, or choose another label`;
  }
  const reasons = labelled.map((box) => whyNot(box, wish)).join(". ");
  return label
    ? `No toolbox with the label ${label} can take it now. ${reasons}. Mend one of these, or choose ` +
      "another label"
    : `No toolbox can take it now. ${reasons}. Mend one of these, or add a toolbox`;
}

/** That a toolbox lacks a label (`key=value`), as a sentence; null when it has it. */
export function lacksLabel({ name, labels }: Candidate, label: string): string | null {
  const has = Object.entries(labels).some(([key, value]) => `${key}=${value}` === label);
  return has ? null : `${name} does not have the label ${label}`;
}

/** That a toolbox has no sandbox for an untrusted server, as a sentence; null when it has, or is not known. */
export function lacksSandbox(
  { name, facts }: Candidate,
  { tier }: Pick<Wish, "tier">,
): string | null {
  if (tier !== "untrusted" || !facts) return null;
  if (!facts.knowsTiers) {
    return `${name} has a DTMA that is too old to sandbox untrusted servers: update Mooring there`;
  }
  // Without an engine it is not known; that there is none is another reason.
  if (facts.engine.state !== "ready" || facts.engine.sandbox) return null;
  return `${name} has no gVisor or Kata for its Docker Engine, which an untrusted server needs: ` +
    "install one there";
}

/** That a toolbox's DTMA cannot reach a server over HTTP, as a sentence; null when it can, or is not known. */
export function lacksTransport(
  { name, facts }: Candidate,
  { transport }: Pick<Wish, "transport">,
): string | null {
  if (!transport || transport.type === "stdio" || !facts || facts.knowsTransports) return null;
  return `${name} has a DTMA that is too old for servers that speak HTTP: update Mooring there`;
}

/** That a toolbox's DTMA has no adapter for REST APIs, as a sentence; null when it has, or is not known. */
export function lacksApis(
  { name, facts }: Candidate,
  { registry }: Pick<Wish, "registry">,
): string | null {
  if (registry !== "openapi" || !facts || facts.knowsApis) return null;
  return `${name} has a DTMA that is too old for REST APIs: update Mooring there`;
}

/** Why a toolbox takes no new server whoever asks, as a sentence; null when it may. */
export function whyNever(box: Candidate): string | null {
  if (box.revokedAt) return `${box.name} was revoked`;
  if (box.drainedAt) return `${box.name} is drained: undrain it to place servers there`;
  return null;
}

function whyNot(box: Candidate, wish: Wish): string | null {
  const { memoryMiB, label } = wish;
  const never = whyNever(box) ?? (label ? lacksLabel(box, label) : null);
  if (never) return never;
  // This machine's enrols by itself while Mooring starts.
  if (!box.isEnrolled && !box.isLocal) {
    return `${box.name} is not enrolled yet: run its command on its machine`;
  }
  if (!box.isEnrolled || !box.facts) return `${box.name} has not been heard of yet`;
  if (!box.isOnline) return `${box.name} is not heard of: check that its machine and its DTMA run`;
  if (box.facts.engine.state !== "ready") return `${box.name} has no Docker Engine that answers`;
  const lacking = lacksSandbox(box, wish) ?? lacksTransport(box, wish) ?? lacksApis(box, wish);
  if (lacking) return lacking;
  if (freeMiB(box) < memoryMiB) {
    return `${box.name} has ${
      Math.max(0, Math.floor(freeMiB(box)))
    } MiB of memory that no server ` +
      `was promised, and this one needs ${memoryMiB}`;
  }
  return null;
}

function freeMiB({ facts, promisedMiB }: Candidate): number {
  return facts?.engine.state === "ready" ? facts.engine.memoryBytes / 1024 ** 2 - promisedMiB : 0;
}
