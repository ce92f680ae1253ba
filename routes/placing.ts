import { Tier } from "../dtma/protocol.ts";
import type { CatalogEntry } from "../models/catalog_entries.ts";
import { nothingFits, place } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";

/** What the deploy form shows of the toolboxes: of all that are left, or of those with a label. */
export function placing(
  all: Toolbox[],
  { memoryMiB, tier, transport }: Pick<CatalogEntry, "memoryMiB" | "tier" | "transport">,
  { label, tier: asked, registry }: { label?: string; tier?: string; registry?: string } = {},
) {
  const toolboxes = all.filter((box) => !box.revokedAt);
  const wish = { memoryMiB, label, tier: Tier.safeParse(asked).data ?? tier, transport, registry };
  const placement = place(toolboxes, wish);
  return {
    toolboxes,
    placement,
    nothingFits: placement.toolboxId ? null : nothingFits(toolboxes, wish),
  };
}
