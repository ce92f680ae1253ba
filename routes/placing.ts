import type { CatalogEntry } from "../models/catalog_entries.ts";
import { nothingFits, place } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";

/** What the deploy form shows of the toolboxes: of all that are left, or of those with a label. */
export function placing(
  all: Toolbox[],
  { memoryMiB }: Pick<CatalogEntry, "memoryMiB">,
  label?: string,
) {
  const toolboxes = all.filter((box) => !box.revokedAt);
  const wish = { memoryMiB, label };
  const placement = place(toolboxes, wish);
  return {
    toolboxes,
    placement,
    nothingFits: placement.toolboxId ? null : nothingFits(toolboxes, wish),
  };
}
