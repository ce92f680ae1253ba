import type { CatalogEntry } from "../models/catalog_entries.ts";
import { nothingFits, place } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";

/** What the deploy form shows of the toolboxes. */
export function placing(all: Toolbox[], entry: CatalogEntry) {
  const toolboxes = all.filter((box) => !box.revokedAt);
  const placement = place(toolboxes, entry);
  return {
    toolboxes,
    placement,
    nothingFits: placement.toolboxId ? null : nothingFits(toolboxes, entry),
  };
}
